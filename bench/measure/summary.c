/*
 * What people read at the end of a session: the means of each operator and pass, what is
 * slower than oneDNN, the outcomes, and where the run lies.
 */
#include "measure/session_internal.h"

#include "measure/timer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SLOWER_SHOWN = 8, HELD_SHOWN = 5 };

/* Everything that the summary says of a group of problems on one thread set. */
struct total {
    double *ratio, *weight, *tuned, *tuned_weight;
    int ratios, tunings, faster, slower, same, noisy;
    double native_ns, onednn_ns;
    bool whole; /* every problem counts */
};

/* Operators and passes are not comparable with each other: each has its own mean. */
static bool same_group(const struct dlb_case *a, const struct dlb_case *b)
{
    return a->entry == b->entry && a->problem.pass == b->problem.pass;
}

static void add_up(const struct dlb_session *session, const struct dlb_station *station,
                   const struct dlb_case *leader, struct total *total)
{
    total->whole = true;
    for (int i = 0; i < session->suite.cases_n; i++) {
        const struct dlb_case *item = &session->suite.cases[i];
        if (!same_group(item, leader))
            continue;
        const struct dlb_row *native =
            dlb_session_find(session, item, station, DLB_IMPL_NATIVE);
        const struct dlb_row *onednn =
            dlb_session_find(session, item, station, DLB_IMPL_ONEDNN);
        /* A time without an interval is shown, but no mean is made of it. */
        if (!dlb_row_timed(native) || !dlb_row_timed(onednn) ||
            !(dlb_row_speedup(native).ci_level > 0)) {
            total->whole = false;
            continue;
        }
        double count = (double)item->count;
        double median_ns = dlb_row_get_real(native, DLB_COL_TIME_MEDIAN_NS);
        double untuned_ns = dlb_row_get_real(native, DLB_COL_DEFAULT_MEDIAN_NS);
        struct dlb_ratio ratio = dlb_row_speedup(native);
        enum dlb_difference judged = dlb_row_judge(native);
        total->faster += judged == DLB_SLOWER;
        total->slower += judged == DLB_FASTER;
        total->same += judged == DLB_SAME;
        total->noisy += dlb_row_is(native, DLB_OUTCOME_NOISY);
        total->native_ns += count * median_ns;
        total->onednn_ns += count * dlb_row_get_real(onednn, DLB_COL_TIME_MEDIAN_NS);
        total->ratio[total->ratios] = ratio.median;
        total->weight[total->ratios++] = count;
        if (!isnan(untuned_ns)) {
            total->tuned[total->tunings] = untuned_ns / median_ns;
            total->tuned_weight[total->tunings++] = count;
        }
    }
}

static void print_total(const struct dlb_session *session,
                        const struct dlb_station *station, const struct dlb_case *leader)
{
    FILE *out = session->io.out;
    char group[DLB_GROUP_MAX], head[DLB_GROUP_MAX + 40];
    dlb_screen_group(session, leader, group);
    snprintf(head, sizeof head, "%-8s %s%s", station->set.name, group, *group ? " " : "");
    size_t n = (size_t)session->suite.cases_n;
    double *room = calloc(4 * n, sizeof *room);
    if (!room)
        return;
    struct total total = {.ratio = room,
                          .weight = room + n,
                          .tuned = room + 2 * n,
                          .tuned_weight = room + 3 * n};
    add_up(session, station, leader, &total);
    if (total.ratios) {
        fprintf(
            out,
            "%s%.3f× oneDNN (geometric mean of %d problem%s weighted by layer count): "
            "%d faster, %d same, %d slower",
            head, dlb_weighted_geomean(total.ratio, total.weight, total.ratios),
            total.ratios, total.ratios == 1 ? "" : "s", total.faster, total.same,
            total.slower);
        if (total.noisy)
            fprintf(out, ", %d of them noisy", total.noisy);
        if (total.whole && total.ratios > 1)
            fprintf(out, "; all layers %.4g ms against %.4g ms", total.native_ns * 1e-6,
                    total.onednn_ns * 1e-6);
        if (!isnan(station->noise_floor))
            fprintf(out, "; noise floor %.1f%%", 100 * station->noise_floor);
        fprintf(out, "\n");
    }
    if (total.tunings && session->options->sweep)
        fprintf(out, "%stuned %.2f× over the default tiles\n", head,
                dlb_weighted_geomean(total.tuned, total.tuned_weight, total.tunings));
    free(room);
}

static void print_totals(const struct dlb_session *session)
{
    const struct dlb_case *cases = session->suite.cases;
    for (int i = 0; i < session->suite.cases_n; i++) {
        int first = 0;
        while (!same_group(&cases[first], &cases[i]))
            first++;
        for (int s = 0; s < session->stations && first == i; s++)
            print_total(session, &session->station[s], &cases[i]);
    }
}

/* A native row, and the time that it loses in all its layers. */
struct loss {
    const struct dlb_row *row;
    const struct dlb_case *item;
    double lost_ns;
};

static int by_loss(const void *a, const void *b)
{
    double x = ((const struct loss *)a)->lost_ns, y = ((const struct loss *)b)->lost_ns;
    return (x < y) - (x > y);
}

/* What an execution loses, above 0 where it does. */
typedef double lost_fn(const struct dlb_row *row);

static double lost_to_onednn(const struct dlb_row *row)
{
    struct dlb_ratio ratio = dlb_row_speedup(row);
    if (isnan(ratio.median) || dlb_row_judge(row) != DLB_FASTER)
        return 0;
    return dlb_row_get_real(row, DLB_COL_TIME_MEDIAN_NS) * (1 - ratio.median);
}

static double lost_to_roof(const struct dlb_row *row)
{
    return dlb_row_get_real(row, DLB_COL_TIME_MEDIAN_NS) *
           (1 - dlb_row_get_real(row, DLB_COL_ROOF_FRAC));
}

/* The native rows that lose, the worst first; owned by the caller. */
static struct loss *collect(const struct dlb_session *session, lost_fn *lost, int *n)
{
    struct loss *loss =
        calloc((size_t)(session->suite.cases_n * session->stations + 1), sizeof *loss);
    *n = 0;
    for (int i = 0; loss && i < session->suite.cases_n; i++) {
        for (int s = 0; s < session->stations; s++) {
            const struct dlb_case *item = &session->suite.cases[i];
            const struct dlb_row *row =
                dlb_session_find(session, item, &session->station[s], DLB_IMPL_NATIVE);
            double each = dlb_row_timed(row) ? lost(row) : 0;
            if (each > 0)
                loss[(*n)++] = (struct loss){row, item, (double)item->count * each};
        }
    }
    if (loss)
        qsort(loss, (size_t)*n, sizeof *loss, by_loss);
    return loss;
}

static void print_loss(const struct dlb_session *session, const struct loss *loss)
{
    fprintf(session->io.out, "  ");
    dlb_screen_problem(session, loss->item, session->io.out);
    fprintf(session->io.out, "%6s  ", dlb_row_get_text(loss->row, DLB_COL_THREAD_SET));
}

static void print_losses(const struct dlb_session *session)
{
    FILE *out = session->io.out;
    int losses;
    struct loss *loss = collect(session, lost_to_onednn, &losses);
    if (losses)
        fprintf(out, "Slower than oneDNN, by time lost:\n");
    for (int i = 0; i < losses && i < SLOWER_SHOWN; i++) {
        struct dlb_ratio ratio = dlb_row_speedup(loss[i].row);
        print_loss(session, &loss[i]);
        fprintf(out, "%.2f× [%.2f, %.2f], loses %.3f ms%s\n", ratio.median, ratio.ci_lo,
                ratio.ci_hi, loss[i].lost_ns * 1e-6,
                loss[i].item->count > 1 ? " in all its layers" : "");
    }
    if (losses > SLOWER_SHOWN)
        fprintf(out, "  and %d more in results.csv\n", losses - SLOWER_SHOWN);
    free(loss);
}

/* Where the time goes: at the roof, to working with several threads instead of one, and what
 * remains. */
static void print_held(const struct dlb_session *session)
{
    FILE *out = session->io.out;
    int losses;
    struct loss *loss = collect(session, lost_to_roof, &losses);
    if (losses)
        fprintf(out, "What holds it back, by time lost against the roof:\n");
    for (int i = 0; i < losses && i < HELD_SHOWN; i++) {
        const struct dlb_row *row = loss[i].row;
        double roof = dlb_row_get_real(row, DLB_COL_ROOF_FRAC);
        double efficiency = dlb_row_get_real(row, DLB_COL_PARALLEL_EFFICIENCY);
        double threads = isnan(efficiency) ? 0 : fmin(1 - roof, fmax(0, 1 - efficiency));
        print_loss(session, &loss[i]);
        fprintf(out, "%2.0f%% of its time is %s, ", 100 * roof,
                dlb_row_get_text(row, DLB_COL_ROOF_BOUND));
        if (dlb_row_get_int(row, DLB_COL_THREADS) > 1 && !isnan(efficiency))
            fprintf(out, "%.0f%% threads that wait or share, ", 100 * threads);
        fprintf(out, "%.0f%% remains; loses %.3f ms\n", 100 * (1 - roof - threads),
                loss[i].lost_ns * 1e-6);
    }
    free(loss);
}

static void print_twin_total(const struct dlb_session *session)
{
    int pairs = 0, different = 0;
    for (int i = 0; i < session->suite.cases_n * session->stations; i++) {
        if (!session->twin[i].n)
            continue;
        pairs++;
        different += dlb_judge_ratio(&session->twin[i], 0) != DLB_SAME;
    }
    if (pairs)
        fprintf(session->io.out, "A/A: %d of %d pairs differ\n", different, pairs);
    else
        fprintf(session->io.out, "A/A: no pair could be timed without disturbance\n");
}

static void print_outcomes(const struct dlb_session *session)
{
    FILE *out = session->io.out;
    int count[DLB_OUTCOME_COUNT];
    int rows = dlb_session_count(session, count);
    fprintf(out, "%d row%s in %.0f s:", rows, rows == 1 ? "" : "s",
            (dlb_clock_ns() - session->start_ns) * 1e-9);
    for (int outcome = 0; outcome < DLB_OUTCOME_COUNT; outcome++)
        if (count[outcome])
            fprintf(out, " %d %s", count[outcome], dlb_outcome_names[outcome]);
    if (session->candidates_tried)
        fprintf(out, "; %d candidates verified%s", session->candidates_tried,
                session->options->check ? "" : " and timed");
    fprintf(out, "\n");
}

/* How much of this session's measuring was disturbed, when that matters. */
static void print_disturbed(const struct dlb_session *session)
{
    double sum = 0;
    int n = 0;
    for (int i = 0; i < session->rows; i++) {
        double share = dlb_row_get_real(&session->row[i], DLB_COL_CONTAMINATED_FRAC);
        if (isnan(share))
            continue;
        sum += share;
        n++;
    }
    if (n && sum / n > DLB_MUCH_DISTURBED)
        fprintf(session->io.out,
                "%.0f%% of the rounds were disturbed by other work on this machine; "
                "./dlbench doctor says more\n",
                100 * sum / n);
}

void dlb_screen_summary(const struct dlb_session *session, bool incomplete)
{
    FILE *out = session->io.out;
    if (!session->options->quiet)
        fprintf(out, "\n");
    if (!session->options->check) {
        print_totals(session);
        print_losses(session);
        print_held(session);
    }
    if (session->twin)
        print_twin_total(session);
    print_outcomes(session);
    print_disturbed(session);
    if (session->mismatches)
        fprintf(out, "%sWRONG RESULTS: %d%s; the first can be reproduced with\n  %s\n",
                dlb_colour(out, DLB_COLOUR_BAD), session->mismatches,
                dlb_colour(out, DLB_COLOUR_RESET), session->repro);
    if (!session->run)
        return;
    const char *path = dlb_run_path(session->run);
    if (incomplete)
        fprintf(out,
                "Incomplete; the finished rows are in %s\nNext: ./dlbench --resume %s\n",
                path, path);
    else
        fprintf(out,
                "Run folder: %s\nNext: ./dlbench list columns, to read %s/results.csv\n",
                path, path);
}
