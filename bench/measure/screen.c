/*
 * What people read while a session runs: the machine, the plan, a line a problem.  What
 * they read at its end stands in summary.c.
 */
#include "measure/session_internal.h"

#include "measure/timer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool dlb_row_is(const struct dlb_row *row, enum dlb_outcome outcome)
{
    return !strcmp(dlb_row_get_text(row, DLB_COL_STATUS), dlb_outcome_names[outcome]);
}

bool dlb_row_timed(const struct dlb_row *row)
{
    return row && !isnan(dlb_row_get_real(row, DLB_COL_TIME_MEDIAN_NS));
}

struct dlb_ratio dlb_row_speedup(const struct dlb_row *row)
{
    return (struct dlb_ratio){
        .n = (int)dlb_row_get_int(row, DLB_COL_SAMPLES_N),
        .median = dlb_row_get_real(row, DLB_COL_SPEEDUP_VS_ONEDNN),
        .ci_lo = dlb_row_get_real(row, DLB_COL_SPEEDUP_CI_LO),
        .ci_hi = dlb_row_get_real(row, DLB_COL_SPEEDUP_CI_HI),
        .ci_level = dlb_row_get_real(row, DLB_COL_CI_LEVEL),
    };
}

enum dlb_difference dlb_row_judge(const struct dlb_row *row)
{
    struct dlb_ratio ratio = dlb_row_speedup(row);
    double floor = dlb_row_get_real(row, DLB_COL_NOISE_FLOOR);
    return dlb_judge_ratio(&ratio, isnan(floor) ? 0 : floor);
}

/* The implementation that leads the report: the first that was asked for. */
static enum dlb_impl leading(const struct dlb_session *session)
{
    int impl = 0;
    while (!session->impl[impl])
        impl++;
    return impl;
}

/* What the tuning cache has to say for this session; nothing when it is new. */
static void print_cache(const struct dlb_session *session)
{
    char ignored[512];
    int entries = dlb_cache_entries(session->cache);
    bool some = dlb_cache_ignored(session->cache, ignored, sizeof ignored);
    if (!entries && !some)
        return;
    fprintf(session->io.out, "tuning cache %s: %d problem%s tuned here%s%s\n",
            dlb_cache_path(session->cache), entries, entries == 1 ? "" : "s",
            some ? "; " : "", some ? ignored : "");
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
    fprintf(out, " · %d problem%s × %d thread set%s\n", session->suite.cases_n,
            session->suite.cases_n == 1 ? "" : "s", session->stations,
            session->stations == 1 ? "" : "s");
    print_cache(session);
    fflush(out);
}

void dlb_screen_plan(const struct dlb_session *session, double seconds)
{
    FILE *out = session->io.out;
    int whole = (int)ceil(seconds), left = dlb_session_left(session);
    if (session->options->quiet)
        return;
    for (int i = 0; i < session->stations && left && !session->options->check; i++) {
        const struct dlb_station *station = &session->station[i];
        fprintf(out, "%s%s: %.0f GFLOP/s, %.0f GB/s", i ? " · " : "ceilings by threads ",
                station->set.name, station->rates.peak_gflops, station->rates.memory_gbs);
    }
    fprintf(out, "%s", left && !session->options->check ? "\n" : "");
    if (session->options->resume)
        fprintf(out, "going on with %s: %d of %d problems are left\n",
                session->options->resume, left, session->suite.cases_n);
    else
        fprintf(out, "%s %d:%02d min\n",
                session->options->sweep && !session->options->check ? "at most" : "about",
                whole / 60, whole % 60);
    fprintf(out, "\n");
    fflush(out);
}

static void print_ratio(const struct dlb_session *session, const struct dlb_row *row,
                        FILE *line)
{
    FILE *out = session->io.out;
    struct dlb_ratio ratio = dlb_row_speedup(row);
    if (isnan(ratio.median))
        return;
    enum dlb_difference judged = dlb_row_judge(row);
    enum dlb_colour colour = judged == DLB_SLOWER   ? DLB_COLOUR_GOOD
                             : judged == DLB_FASTER ? DLB_COLOUR_BAD
                                                    : DLB_COLOUR_RESET;
    fprintf(line, "  %s%5.2f×%s oneDNN", dlb_colour(out, colour), ratio.median,
            dlb_colour(out, DLB_COLOUR_RESET));
    if (ratio.ci_level > 0)
        fprintf(line, " [%.2f, %.2f]", ratio.ci_lo, ratio.ci_hi);
}

/* The algorithm and its tiles; a tile that is named is left out at its first name. */
static void print_candidate(const struct dlb_op *op, const struct dlb_row *row,
                            FILE *line)
{
    char text[DLB_SHAPE_MAX];
    struct dlb_candidate candidate;
    struct dlb_error ignored;
    const char *tiles = dlb_row_get_text(row, DLB_COL_TILES);
    size_t length = 0;
    snprintf(text, sizeof text, "%s", dlb_row_get_text(row, DLB_COL_ALGORITHM));
    if (*tiles && !dlb_candidate_parse(op, tiles, &candidate, &ignored)) {
        snprintf(text, sizeof text, "%s", op->algorithms[candidate.algorithm]);
        for (int i = 0; i < op->tiles_n; i++) {
            const struct dlb_tile_def *tile = &op->tiles[i];
            int value = candidate.tile[i];
            length = strlen(text);
            if (value && !tile->names)
                snprintf(text + length, sizeof text - length, " %s%d", tile->key, value);
            else if (value > 1)
                snprintf(text + length, sizeof text - length, " %s-%s", tile->key,
                         tile->names[value - 1]);
        }
    }
    fprintf(line, "  %-42s", text);
}

/* What tuning gained is worth a word from here on. */
static const double TUNED_SHOWN = 1.01;

static void print_timed(const struct dlb_session *session, const struct dlb_case *item,
                        const struct dlb_row *row, FILE *line)
{
    FILE *out = session->io.out;
    double contaminated = dlb_row_get_real(row, DLB_COL_CONTAMINATED_FRAC);
    fprintf(line, "%6s", dlb_row_get_text(row, DLB_COL_THREAD_SET));
    print_candidate(item->entry->op, row, line);
    bool moves = dlb_row_get_real(row, DLB_COL_INTENSITY) < 1;
    fprintf(line, "%8.1f %-7s %3.0f%% of %-7s",
            dlb_row_get_real(row, moves ? DLB_COL_GBS : DLB_COL_GFLOPS),
            moves ? "GB/s" : "GFLOP/s", 100 * dlb_row_get_real(row, DLB_COL_ROOF_FRAC),
            dlb_row_get_text(row, DLB_COL_ROOF_BOUND));
    print_ratio(session, row, line);
    if (dlb_row_is(row, DLB_OUTCOME_OK))
        fprintf(line, " %s%s%s", dlb_colour(out, DLB_COLOUR_GOOD), dlb_tick(),
                dlb_colour(out, DLB_COLOUR_RESET));
    else
        fprintf(line, " %s%s%s", dlb_colour(out, DLB_COLOUR_WARN),
                dlb_row_get_text(row, DLB_COL_STATUS), dlb_colour(out, DLB_COLOUR_RESET));
    double tuned = dlb_row_get_real(row, DLB_COL_DEFAULT_MEDIAN_NS) /
                   dlb_row_get_real(row, DLB_COL_TIME_MEDIAN_NS);
    if (tuned >= TUNED_SHOWN)
        fprintf(line, " tuned %.2f× over default", tuned);
    if (contaminated > DLB_MUCH_DISTURBED)
        fprintf(line, " (%.0f%% disturbed)", 100 * contaminated);
}

/* Rows of a problem that have the same to say, on one line. */
struct untimed {
    char sets[256], impls[64];
    const struct dlb_row *row;
};

static void add_word(char *list, size_t room, const char *word)
{
    char padded[300], wanted[80];
    snprintf(padded, sizeof padded, "%s,", list);
    snprintf(wanted, sizeof wanted, "%s,", word);
    size_t length = strlen(list);
    for (const char *at = padded; (at = strstr(at, wanted)); at++)
        if (at == padded || at[-1] == ',')
            return;
    snprintf(list + length, room - length, "%s%s", length ? "," : "", word);
}

static void print_untimed(const struct dlb_session *session,
                          const struct untimed *untimed, FILE *line)
{
    FILE *out = session->io.out;
    const struct dlb_row *row = untimed->row;
    bool ok = dlb_row_is(row, DLB_OUTCOME_OK), noisy = dlb_row_is(row, DLB_OUTCOME_NOISY);
    fprintf(line, "%6s  %s: %s%s%s %s", untimed->sets, untimed->impls,
            dlb_colour(out, ok      ? DLB_COLOUR_GOOD
                            : noisy ? DLB_COLOUR_WARN
                                    : DLB_COLOUR_BAD),
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
        if (dlb_row_timed(row) &&
            (!best || dlb_row_get_real(row, DLB_COL_TIME_MEDIAN_NS) <
                          dlb_row_get_real(best, DLB_COL_TIME_MEDIAN_NS)))
            best = row;
    }
    return best;
}

void dlb_screen_group(const struct dlb_session *session, const struct dlb_case *item,
                      char group[DLB_GROUP_MAX])
{
    bool operators = false, passes = false;
    const char *pass = dlb_pass_names[item->problem.pass];
    for (int i = 0; i < session->suite.cases_n; i++) {
        const struct dlb_case *other = &session->suite.cases[i];
        operators = operators || other->entry != item->entry;
        passes = passes || other->problem.pass != item->problem.pass;
    }
    snprintf(group, DLB_GROUP_MAX, "%s%s%s", operators ? item->entry->op->name : "",
             operators && passes ? " " : "", passes ? pass : "");
}

void dlb_screen_problem(const struct dlb_session *session, const struct dlb_case *item,
                        FILE *line)
{
    char shape[DLB_SHAPE_MAX], group[DLB_GROUP_MAX];
    int group_width = 0, name_width = 0, shape_width = 0;
    for (int i = 0; i < session->suite.cases_n; i++) {
        const struct dlb_case *other = &session->suite.cases[i];
        dlb_descriptor_format(other->entry->op, &other->problem, shape);
        dlb_screen_group(session, other, group);
        group_width = dlb_max(group_width, (int)strlen(group));
        name_width = dlb_max(name_width, (int)strlen(other->name));
        shape_width = dlb_max(shape_width, (int)strlen(shape));
    }
    dlb_descriptor_format(item->entry->op, &item->problem, shape);
    dlb_screen_group(session, item, group);
    fprintf(line, "%-*s%s%-*s%s%-*s ", group_width, group, group_width ? " " : "",
            name_width, item->name, name_width ? " " : "", (int)dlb_min(shape_width, 40),
            shape);
}

/* One line above the progress bar: of the row, or of untimed when row is NULL. */
static void print_line(const struct dlb_session *session, const struct dlb_case *item,
                       const struct dlb_row *row, const struct untimed *untimed)
{
    char *text = NULL;
    size_t length;
    FILE *line = open_memstream(&text, &length);
    if (!line)
        return;
    dlb_screen_problem(session, item, line);
    if (row)
        print_timed(session, item, row, line);
    else
        print_untimed(session, untimed, line);
    fclose(line);
    dlb_progress_line(session->progress, session->io.out, "%s", text);
    free(text);
}

static bool says_the_same(const struct dlb_row *a, const struct dlb_row *b)
{
    static const enum dlb_column said[] = {DLB_COL_STATUS, DLB_COL_STATUS_REASON,
                                           DLB_COL_VERIFY};
    for (size_t i = 0; i < sizeof said / sizeof *said; i++)
        if (strcmp(dlb_row_get_text(a, said[i]), dlb_row_get_text(b, said[i])))
            return false;
    return true;
}

static void print_all_untimed(const struct dlb_session *session,
                              const struct dlb_case *item)
{
    int places = session->stations * DLB_IMPLS;
    struct untimed group[DLB_THREAD_SETS_MAX * DLB_IMPLS] = {0};
    int groups = 0;
    for (int at = 0; at < places; at++) {
        const struct dlb_station *station = &session->station[at / DLB_IMPLS];
        enum dlb_impl impl = (enum dlb_impl)(at % DLB_IMPLS);
        const struct dlb_row *row = dlb_session_find(session, item, station, impl);
        int g = 0;
        if (!row || dlb_row_timed(row))
            continue;
        while (g < groups && !says_the_same(group[g].row, row))
            g++;
        groups = dlb_max(groups, g + 1);
        group[g].row = row;
        add_word(group[g].sets, sizeof group[g].sets, station->set.name);
        add_word(group[g].impls, sizeof group[g].impls, dlb_impl_names[impl]);
    }
    for (int g = 0; g < groups; g++)
        print_line(session, item, NULL, &group[g]);
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
        print_line(session, item, best, NULL);
    print_all_untimed(session, item);
    if (session->twin)
        print_twins(session, item);
    fflush(session->io.out);
}
