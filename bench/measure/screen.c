/*
 * What people read: the machine, a line a problem, the suite's means, what is slower than
 * oneDNN, and where the run lies.
 */
#include "measure/session_internal.h"

#include "measure/timer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SLOWER_SHOWN = 8 };

static bool is_status(const struct dlb_row *row, enum dlb_outcome outcome)
{
    return !strcmp(dlb_row_get_text(row, DLB_COL_STATUS), dlb_outcome_names[outcome]);
}

static bool timed(const struct dlb_row *row)
{
    return row && !isnan(dlb_row_get_real(row, DLB_COL_TIME_MEDIAN_NS));
}

static struct dlb_ratio speedup_of(const struct dlb_row *row)
{
    return (struct dlb_ratio){
        .n = (int)dlb_row_get_int(row, DLB_COL_SAMPLES_N),
        .median = dlb_row_get_real(row, DLB_COL_SPEEDUP_VS_ONEDNN),
        .ci_lo = dlb_row_get_real(row, DLB_COL_SPEEDUP_CI_LO),
        .ci_hi = dlb_row_get_real(row, DLB_COL_SPEEDUP_CI_HI),
        .ci_level = dlb_row_get_real(row, DLB_COL_CI_LEVEL),
    };
}

/* The implementation that leads the report: the first that was asked for. */
static enum dlb_impl leading(const struct dlb_session *session)
{
    int impl = 0;
    while (!session->impl[impl])
        impl++;
    return impl;
}

void dlb_screen_head(const struct dlb_session *session)
{
    FILE *out = session->io.out;
    const char *version = dlb_onednn_version();
    if (session->options->quiet)
        return;
    dlb_topology_summary(session->topology, out);
    fprintf(out, "kernels %s · ", dlb_isa_name(session->isa));
    if (version)
        fprintf(out, "oneDNN %s", version);
    else
        fprintf(out, "no oneDNN in this build: verified by the plain definition, slowly");
    for (int i = 0; i < session->stations && !session->options->check; i++) {
        const struct dlb_station *station = &session->station[i];
        fprintf(out, " · %s: %.0f GFLOP/s, %.0f GB/s", station->set.name,
                station->rates.peak_gflops, station->rates.memory_gbs);
    }
    fprintf(out, "\n%d problems × %d thread set%s\n\n", session->suite.cases_n,
            session->stations, session->stations == 1 ? "" : "s");
    fflush(out);
}

static void print_ratio(const struct dlb_session *session, const struct dlb_row *row,
                        FILE *line)
{
    FILE *out = session->io.out;
    struct dlb_ratio ratio = speedup_of(row);
    if (isnan(ratio.median))
        return;
    double floor = dlb_row_get_real(row, DLB_COL_NOISE_FLOOR);
    enum dlb_difference judged = dlb_judge_ratio(&ratio, isnan(floor) ? 0 : floor);
    enum dlb_colour colour = judged == DLB_SLOWER   ? DLB_COLOUR_GOOD
                             : judged == DLB_FASTER ? DLB_COLOUR_BAD
                                                    : DLB_COLOUR_RESET;
    fprintf(line, "  %s%5.2f×%s oneDNN [%.2f, %.2f]", dlb_colour(out, colour),
            ratio.median, dlb_colour(out, DLB_COLOUR_RESET), ratio.ci_lo, ratio.ci_hi);
}

static void print_timed(const struct dlb_session *session, const struct dlb_row *row,
                        FILE *line)
{
    FILE *out = session->io.out;
    const char *tiles = dlb_row_get_text(row, DLB_COL_TILES);
    double roof = 100 * dlb_row_get_real(row, DLB_COL_ROOF_FRAC);
    double contaminated = dlb_row_get_real(row, DLB_COL_CONTAMINATED_FRAC);
    fprintf(line, " %-7s %8.1f GFLOP/s %3.0f%% of %s roof",
            dlb_row_get_text(row, DLB_COL_THREAD_SET),
            dlb_row_get_real(row, DLB_COL_GFLOPS), roof,
            dlb_row_get_text(row, DLB_COL_ROOF_BOUND));
    print_ratio(session, row, line);
    if (is_status(row, DLB_OUTCOME_OK))
        fprintf(line, " %s%s%s", dlb_colour(out, DLB_COLOUR_GOOD), dlb_tick(),
                dlb_colour(out, DLB_COLOUR_RESET));
    else
        fprintf(line, " %s", dlb_row_get_text(row, DLB_COL_STATUS));
    fprintf(line, "  %s", *tiles ? tiles : dlb_row_get_text(row, DLB_COL_ALGORITHM));
    if (contaminated > 0.1)
        fprintf(line, "  (%.0f%% of rounds disturbed)", 100 * contaminated);
}

static void print_untimed(const struct dlb_session *session, const struct dlb_row *row,
                          FILE *line)
{
    FILE *out = session->io.out;
    bool ok = is_status(row, DLB_OUTCOME_OK);
    fprintf(line, " %-7s %s: %s%s%s %s", dlb_row_get_text(row, DLB_COL_THREAD_SET),
            dlb_row_get_text(row, DLB_COL_IMPL),
            dlb_colour(out, ok ? DLB_COLOUR_GOOD : DLB_COLOUR_BAD),
            ok ? dlb_tick() : dlb_row_get_text(row, DLB_COL_STATUS),
            dlb_colour(out, DLB_COLOUR_RESET),
            ok ? dlb_row_get_text(row, DLB_COL_VERIFY)
               : dlb_row_get_text(row, DLB_COL_STATUS_REASON));
}

/* The thread set on which the leading implementation was fastest; NULL when none was
 * timed. */
static const struct dlb_row *fastest(const struct dlb_session *session,
                                     const struct dlb_case *item)
{
    const struct dlb_row *best = NULL;
    for (int s = 0; s < session->stations; s++) {
        const struct dlb_row *row =
            dlb_session_find(session, item, &session->station[s], leading(session));
        if (timed(row) && (!best || dlb_row_get_real(row, DLB_COL_TIME_MEDIAN_NS) <
                                        dlb_row_get_real(best, DLB_COL_TIME_MEDIAN_NS)))
            best = row;
    }
    return best;
}

/* One line above the progress bar, as print made it. */
static void print_line(const struct dlb_session *session, const struct dlb_case *item,
                       const struct dlb_row *row,
                       void (*print)(const struct dlb_session *, const struct dlb_row *,
                                     FILE *))
{
    char shape[DLB_SHAPE_MAX], *text = NULL;
    size_t length;
    FILE *line = open_memstream(&text, &length);
    if (!line)
        return;
    dlb_descriptor_format(item->operator->op, &item->problem, shape);
    fprintf(line, "%-20s %-36s", item->name, shape);
    print(session, row, line);
    fclose(line);
    dlb_progress_line(session->progress, session->io.out, "%s", text);
    free(text);
}

/* --aa: what the same kernel makes of itself. */
static void print_twins(const struct dlb_session *session, const struct dlb_case *item)
{
    for (int s = 0; s < session->stations; s++) {
        const struct dlb_ratio *ratio =
            dlb_session_twin(session, item, &session->station[s]);
        if (ratio->n)
            dlb_progress_line(session->progress, session->io.out,
                              "%-20s A/A on %-8s %.4f [%.4f, %.4f] of %d rounds: %s",
                              item->name, session->station[s].set.name, ratio->median,
                              ratio->ci_lo, ratio->ci_hi, ratio->n,
                              dlb_judge_ratio(ratio, 0) == DLB_SAME
                                  ? "no difference"
                                  : "a difference where there is none");
    }
}

void dlb_screen_case(const struct dlb_session *session, const struct dlb_case *item)
{
    const struct dlb_row *best = fastest(session, item);
    if (session->options->quiet)
        return;
    if (best)
        print_line(session, item, best, print_timed);
    for (int s = 0; s < session->stations; s++) {
        for (int impl = 0; impl < DLB_IMPLS; impl++) {
            const struct dlb_row *row =
                dlb_session_find(session, item, &session->station[s], impl);
            if (row && !timed(row))
                print_line(session, item, row, print_untimed);
        }
    }
    if (session->twin)
        print_twins(session, item);
    fflush(session->io.out);
}

/* Everything that the summary says of one thread set. */
struct total {
    double *ratio, *weight, *tuned, *tuned_weight;
    int ratios, tunings, faster, slower, same;
    double native_ns, onednn_ns;
    bool whole; /* every problem was timed on both sides */
};

static void add_up(const struct dlb_session *session, const struct dlb_station *station,
                   struct total *total)
{
    total->whole = true;
    for (int i = 0; i < session->suite.cases_n; i++) {
        const struct dlb_case *item = &session->suite.cases[i];
        const struct dlb_row *native =
            dlb_session_find(session, item, station, DLB_IMPL_NATIVE);
        const struct dlb_row *onednn =
            dlb_session_find(session, item, station, DLB_IMPL_ONEDNN);
        if (!timed(native) || !timed(onednn)) {
            total->whole = false;
            continue;
        }
        double count = (double)item->count, floor = station->noise_floor;
        double median_ns = dlb_row_get_real(native, DLB_COL_TIME_MEDIAN_NS);
        double untuned_ns = dlb_row_get_real(native, DLB_COL_DEFAULT_MEDIAN_NS);
        struct dlb_ratio ratio = speedup_of(native);
        enum dlb_difference judged = dlb_judge_ratio(&ratio, isnan(floor) ? 0 : floor);
        total->faster += judged == DLB_SLOWER;
        total->slower += judged == DLB_FASTER;
        total->same += judged == DLB_SAME;
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
                        const struct dlb_station *station)
{
    FILE *out = session->io.out;
    size_t n = (size_t)session->suite.cases_n;
    double *room = calloc(4 * n, sizeof *room);
    if (!room)
        return;
    struct total total = {.ratio = room,
                          .weight = room + n,
                          .tuned = room + 2 * n,
                          .tuned_weight = room + 3 * n};
    add_up(session, station, &total);
    if (total.ratios) {
        fprintf(
            out,
            "%-8s %.3f× oneDNN (geometric mean of %d problems weighted by layer count): "
            "%d faster, %d same, %d slower",
            station->set.name,
            dlb_weighted_geomean(total.ratio, total.weight, total.ratios), total.ratios,
            total.faster, total.same, total.slower);
        if (total.whole)
            fprintf(out, "; all layers %.2f ms against %.2f ms", total.native_ns * 1e-6,
                    total.onednn_ns * 1e-6);
        if (!isnan(station->noise_floor))
            fprintf(out, "; noise floor %.1f%%", 100 * station->noise_floor);
        fprintf(out, "\n");
    }
    if (total.tunings && session->options->sweep)
        fprintf(out, "%-8s tuned %.2f× over the default tiles\n", station->set.name,
                dlb_weighted_geomean(total.tuned, total.tuned_weight, total.tunings));
    free(room);
}

/* Native rows slower than oneDNN, by the time that they lose. */
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

static void print_losses(const struct dlb_session *session)
{
    FILE *out = session->io.out;
    int losses = 0;
    struct loss *loss =
        calloc((size_t)(session->suite.cases_n * session->stations + 1), sizeof *loss);
    if (!loss)
        return;
    for (int i = 0; i < session->suite.cases_n; i++) {
        for (int s = 0; s < session->stations; s++) {
            const struct dlb_case *item = &session->suite.cases[i];
            const struct dlb_row *row =
                dlb_session_find(session, item, &session->station[s], DLB_IMPL_NATIVE);
            if (!timed(row))
                continue;
            struct dlb_ratio ratio = speedup_of(row);
            double floor = session->station[s].noise_floor;
            if (isnan(ratio.median) ||
                dlb_judge_ratio(&ratio, isnan(floor) ? 0 : floor) != DLB_FASTER)
                continue;
            double median_ns = dlb_row_get_real(row, DLB_COL_TIME_MEDIAN_NS);
            loss[losses++] = (struct loss){
                row, item, (double)item->count * median_ns * (1 - ratio.median)};
        }
    }
    qsort(loss, (size_t)losses, sizeof *loss, by_loss);
    if (losses)
        fprintf(out, "Slower than oneDNN, by time lost:\n");
    for (int i = 0; i < losses && i < SLOWER_SHOWN; i++) {
        struct dlb_ratio ratio = speedup_of(loss[i].row);
        fprintf(out, "  %-20s %-36s %-7s %.2f× [%.2f, %.2f], loses %.3f ms\n",
                loss[i].item->name, dlb_row_get_text(loss[i].row, DLB_COL_SHAPE),
                dlb_row_get_text(loss[i].row, DLB_COL_THREAD_SET), ratio.median,
                ratio.ci_lo, ratio.ci_hi, loss[i].lost_ns * 1e-6);
    }
    if (losses > SLOWER_SHOWN)
        fprintf(out, "  and %d more in results.csv\n", losses - SLOWER_SHOWN);
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
    fprintf(session->io.out, "A/A: %d of %d pairs differ\n", different, pairs);
}

static void print_outcomes(const struct dlb_session *session)
{
    FILE *out = session->io.out;
    int count[DLB_OUTCOME_COUNT] = {0};
    for (int i = 0; i < session->rows; i++)
        for (int outcome = 0; outcome < DLB_OUTCOME_COUNT; outcome++)
            count[outcome] += is_status(&session->row[i], outcome);
    fprintf(out, "%d rows in %.0f s:", session->rows,
            (dlb_clock_ns() - session->start_ns) * 1e-9);
    for (int outcome = 0; outcome < DLB_OUTCOME_COUNT; outcome++)
        if (count[outcome])
            fprintf(out, " %d %s", count[outcome], dlb_outcome_names[outcome]);
    if (session->candidates_tried)
        fprintf(out, "; %d candidates verified%s", session->candidates_tried,
                session->options->check ? "" : " and timed");
    fprintf(out, "\n");
}

void dlb_screen_summary(const struct dlb_session *session, bool interrupted)
{
    FILE *out = session->io.out;
    fprintf(out, "\n");
    if (!session->options->check) {
        for (int s = 0; s < session->stations; s++)
            print_total(session, &session->station[s]);
        print_losses(session);
    }
    if (session->twin)
        print_twin_total(session);
    print_outcomes(session);
    if (session->mismatches)
        fprintf(out, "%sWRONG RESULTS: %d%s; the first can be reproduced with\n  %s\n",
                dlb_colour(out, DLB_COLOUR_BAD), session->mismatches,
                dlb_colour(out, DLB_COLOUR_RESET), session->repro);
    if (!session->run)
        return;
    const char *path = dlb_run_path(session->run);
    if (interrupted)
        fprintf(out,
                "Interrupted; the finished rows are in %s\nNext: ./dlbench --resume %s\n",
                path, path);
    else
        fprintf(out,
                "Run folder: %s\nNext: ./dlbench list columns, to read %s/results.csv\n",
                path, path);
}
