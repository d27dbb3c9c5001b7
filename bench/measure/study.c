#include "measure/study.h"

#include "measure/session_internal.h"
#include "measure/timer.h"
#include "record/table_file.h"
#include "tune/live.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double DEFAULT_SECONDS = 1500, TUNING_SECONDS_MOST = 10,
                    MEASURING_SECONDS = 4, LIKE = 0.02;
enum { FULL_MOST = 5, PICKED_MOST = 3 + FULL_MOST, PATH_MAX_BYTES = 4096 };

void dlb_regrets_sum(const struct dlb_regret *regret, int n, struct dlb_regrets *sum)
{
    *sum = (struct dlb_regrets){n, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN};
    double *room = n > 0 ? malloc(5 * (size_t)n * sizeof *room) : NULL;
    if (!room)
        return;
    double *random = room + 2 * n, *correlation = room + 3 * n, *seconds = room + 4 * n;
    int within = 0, alike = 0, correlations = 0;
    for (int i = 0; i < n; i++) {
        room[2 * i] = regret[i].chosen;
        room[2 * i + 1] = regret[i].again;
        random[i] = regret[i].random;
        seconds[i] = regret[i].chosen_seconds;
        if (!isnan(regret[i].rank_correlation))
            correlation[correlations++] = regret[i].rank_correlation;
        within += (regret[i].chosen <= LIKE) + (regret[i].again <= LIKE);
        alike += fabs(log1p(regret[i].chosen) - log1p(regret[i].again)) <= log1p(LIKE);
    }
    sum->median = dlb_quantile(room, 2 * n, 0.5);
    sum->p90 = dlb_quantile(room, 2 * n, 0.9);
    sum->within = within / (2.0 * n);
    sum->agreement = (double)alike / n;
    sum->random_median = dlb_quantile(random, n, 0.5);
    sum->random_p90 = dlb_quantile(random, n, 0.9);
    sum->correlation = dlb_quantile(correlation, correlations, 0.5);
    sum->seconds = dlb_quantile(seconds, n, 0.5);
    free(room);
}

struct study {
    struct dlb_session session;
    dlb_rerun_fn *rerun;
    void *context;
    const char *folder; /* the run's */
    struct dlb_table_file table;
    struct dlb_regret *regret; /* owned */
    int n, all, tunings;
};

/* One problem on one thread set. */
struct trial {
    struct study *study;
    const struct dlb_case *item;
    struct dlb_station *station;
    const struct dlb_expected *expected;
    struct dlb_buffers *buffers;
    struct dlb_pool *pool;
    struct dlb_space space;
    struct dlb_candidate chosen, again, random, best;
    struct dlb_tuned tuned; /* of the first tuning */
    struct dlb_search_result full, drawn;
    double *timed_ns; /* owned; of each point of the space in the full search, or NaN */
    struct dlb_regret regret;
    double chosen_ns;
};

/* Seconds that the problem in hand may take. */
static double share_of(const struct study *study)
{
    return fmax(1, (study->session.deadline_ns - dlb_clock_ns()) * 1e-9 /
                       (study->all - study->n));
}

/* This program tunes the problem, with a cache of its own that says what it found. */
static enum dlb_status tune_apart(struct trial *trial, struct dlb_tuned *tuned,
                                  struct dlb_error *error)
{
    struct study *study = trial->study;
    const struct dlb_session *session = &study->session;
    const struct dlb_op *op = trial->item->entry->op;
    char shape[DLB_SHAPE_MAX], run[PATH_MAX_BYTES + 32], cache[PATH_MAX_BYTES + 64],
        budget[32];
    int exit_status;
    dlb_descriptor_format(op, &trial->item->problem, shape);
    snprintf(run, sizeof run, "%s/tuning-%d", study->folder, ++study->tunings);
    snprintf(cache, sizeof cache, "%s/tuning.csv", run);
    snprintf(budget, sizeof budget, "%g", fmin(TUNING_SECONDS_MOST, share_of(study) / 4));
    const char *const argv[] = {"dlbench",
                                "--sweep",
                                "--quiet",
                                "--impl",
                                "native",
                                "--op",
                                op->name,
                                "--pass",
                                dlb_pass_names[trial->item->problem.pass],
                                "--accuracy",
                                dlb_accuracy_names[trial->item->problem.accuracy],
                                "--shape",
                                shape,
                                "--threads",
                                trial->station->set.name,
                                "--isa",
                                dlb_isa_name(session->isa),
                                "--budget",
                                budget,
                                "--cache",
                                cache,
                                "--out",
                                run,
                                NULL};
    enum dlb_status status =
        study->rerun(study->context, (char *const *)argv, &exit_status, error);
    if (status)
        return status;
    if (exit_status == DLB_EXIT_INCOMPLETE)
        return DLB_INTERRUPTED;
    struct dlb_cache_identity identity;
    struct dlb_cache *known = NULL;
    struct dlb_cache_key key = {.op = op,
                                .problem = &trial->item->problem,
                                .cache_state =
                                    dlb_cache_state_names[session->cache_state],
                                .thread_set = trial->station->set.name,
                                .threads = trial->station->set.threads};
    dlb_cache_identify(session->topology, session->isa, &identity);
    status = dlb_cache_open(cache, &identity, &known, error);
    if (!status && !dlb_cache_find(known, &key, tuned))
        status = dlb_fail(error, DLB_FAULT,
                          "The tuning of %s left no winner (exit status %d); see %s.",
                          shape, exit_status, run);
    dlb_cache_close(known);
    return status;
}

static enum dlb_status keep_time(void *context, const struct dlb_fate *fate,
                                 struct dlb_error *error)
{
    struct trial *trial = context;
    (void)error;
    if (!isnan(fate->best_ns))
        trial->timed_ns[fate->point] = fate->best_ns;
    return DLB_OK;
}

/* points: how many of order are tried, however long it takes where all is set. */
static enum dlb_status search_here(struct trial *trial, const int *order, int points,
                                   bool all, double seconds,
                                   struct dlb_search_result *result,
                                   struct dlb_error *error)
{
    struct dlb_session *session = &trial->study->session;
    struct dlb_live *live = NULL;
    struct dlb_live_setup setup = {
        .entry = trial->item->entry,
        .problem = &trial->item->problem,
        .target = &trial->station->target,
        .space = &trial->space,
        .expected = trial->expected,
        .buffers = trial->buffers,
        .pool = trial->pool,
        .block_ns = dlb_live_block_ns(seconds, points),
    };
    enum dlb_status status = dlb_live_make(&setup, &live, error);
    if (status)
        return status;
    struct dlb_timings timings = dlb_live_timings(live);
    struct dlb_search search = {.timings = &timings,
                                .order = order,
                                .points = points,
                                .most = points,
                                .always = all ? points : 1,
                                .seconds = seconds,
                                .stop = session->io.stop,
                                .note = all ? keep_time : NULL,
                                .context = trial};
    status = dlb_search_run(&search, result, error);
    dlb_live_release(live);
    if (!status && dlb_session_stopped(session))
        return DLB_INTERRUPTED;
    if (!status && !result->found)
        return dlb_fail(error, DLB_FAULT, "No candidate of %s could be timed.",
                        trial->item->name);
    return status;
}

static enum dlb_status search_random(struct trial *trial, struct dlb_error *error)
{
    const struct dlb_space *space = &trial->space;
    uint64_t seed = dlb_hash((uint64_t)trial->study->session.options->seed,
                             (uint64_t)trial->study->tunings);
    int *order = malloc((size_t)space->n * sizeof *order);
    if (!order)
        return dlb_fail(error, DLB_NOMEM, "No memory is left for the search.");
    for (int i = 0; i < space->n; i++) {
        int j = (int)(dlb_hash(seed, (uint64_t)i) % (uint64_t)(i + 1));
        order[i] = order[j];
        order[j] = i;
    }
    enum dlb_status status = search_here(trial, order, dlb_space_most(space->n), false,
                                         trial->tuned.seconds, &trial->drawn, error);
    if (!status)
        trial->random = space->candidate[trial->drawn.best[0]];
    free(order);
    return status;
}

static enum dlb_status search_full(struct trial *trial, double seconds,
                                   struct dlb_error *error)
{
    const struct dlb_space *space = &trial->space;
    int *order = malloc((size_t)space->n * sizeof *order);
    trial->timed_ns = malloc((size_t)space->n * sizeof *trial->timed_ns);
    if (!order || !trial->timed_ns) {
        free(order);
        return dlb_fail(error, DLB_NOMEM, "No memory is left for the search.");
    }
    for (int i = 0; i < space->n; i++) {
        order[i] = i;
        trial->timed_ns[i] = NAN;
    }
    enum dlb_status status =
        search_here(trial, order, space->n, true, seconds, &trial->full, error);
    free(order);
    if (status)
        return status;
    double *model = malloc(2 * (size_t)space->n * sizeof *model);
    if (!model)
        return dlb_fail(error, DLB_NOMEM, "No memory is left for the search.");
    double *timed = model + space->n;
    int n = 0;
    for (int i = 0; i < space->n; i++)
        if (!isnan(trial->timed_ns[i])) {
            model[n] = space->model_ns[i];
            timed[n++] = trial->timed_ns[i];
        }
    trial->regret.rank_correlation = dlb_rank_correlation(model, timed, n);
    free(model);
    return DLB_OK;
}

/* Adds a candidate once; returns where it is. */
static int pick(struct dlb_candidate *picked, int *n, const struct dlb_candidate *one)
{
    for (int i = 0; i < *n; i++)
        if (dlb_candidate_same(&picked[i], one))
            return i;
    assert(*n < PICKED_MOST);
    picked[*n] = *one;
    return (*n)++;
}

/* The best of the full search: its winners, then those with the least times. */
static void pick_full(struct trial *trial, struct dlb_candidate *picked, int *n)
{
    const struct dlb_space *space = &trial->space;
    for (int i = 0; i < trial->full.best_n; i++)
        pick(picked, n, &space->candidate[trial->full.best[i]]);
    for (int more = trial->full.best_n; more < FULL_MOST; more++) {
        int least = -1;
        for (int i = 0; i < space->n; i++)
            if (!isnan(trial->timed_ns[i]) &&
                (least < 0 || trial->timed_ns[i] < trial->timed_ns[least]))
                least = i;
        if (least < 0)
            return;
        pick(picked, n, &space->candidate[least]);
        trial->timed_ns[least] = NAN;
    }
}

/* Plans and verifies the arms. */
static enum dlb_status make_arms(struct trial *trial, const struct dlb_candidate *picked,
                                 int n, struct dlb_plan **arm, struct dlb_error *error)
{
    const struct dlb_op *op = trial->item->entry->op;
    enum dlb_status status = DLB_OK;
    for (int i = 0; i < n && !status; i++) {
        struct dlb_check check = {0};
        status = op->plan(&trial->item->problem, &trial->station->target, &picked[i],
                          &arm[i], error);
        if (!status)
            status = dlb_verify(trial->expected, trial->buffers, arm[i], trial->pool,
                                true, &check, error);
        if (!status && check.outcome == DLB_OUTCOME_MISMATCH)
            status = dlb_fail(error, DLB_FAULT,
                              "A winner of the search computes something wrong: %s.",
                              check.reason);
    }
    return status;
}

static enum dlb_status time_together(struct trial *trial, struct dlb_error *error)
{
    struct study *study = trial->study;
    struct dlb_candidate picked[PICKED_MOST];
    struct dlb_plan *arm[DLB_ARMS_MAX] = {0};
    struct dlb_measured measured[DLB_ARMS_MAX] = {0};
    struct dlb_ratio ratio[DLB_ARMS_MAX] = {0};
    int n = 0, best = 0;
    static_assert((int)PICKED_MOST <= (int)DLB_ARMS_MAX, "each is an arm");
    int chosen = pick(picked, &n, &trial->chosen);
    int again = pick(picked, &n, &trial->again);
    int random = pick(picked, &n, &trial->random);
    pick_full(trial, picked, &n);
    enum dlb_status status = make_arms(trial, picked, n, arm, error);
    struct dlb_gauge gauge = {
        .pool = trial->pool,
        .isa = study->session.isa,
        .best_probe = trial->station->best_probe,
        .min_seconds = 0.3,
        .max_seconds = MEASURING_SECONDS / n,
        .min_samples = 21,
        .ci_width = 0.005,
        .seed = (uint64_t)study->session.options->seed,
        .stop = study->session.io.stop,
    };
    if (!status)
        status = dlb_measure(&gauge, arm, n, measured, ratio, error);
    if (!status) {
        for (int i = 1; i < n; i++)
            if (ratio[i].median < ratio[best].median)
                best = i;
        trial->best = picked[best];
        trial->chosen_ns = measured[chosen].summary.median;
        double least = ratio[best].median;
        trial->regret.chosen = ratio[chosen].median / least - 1;
        trial->regret.again = ratio[again].median / least - 1;
        trial->regret.random = ratio[random].median / least - 1;
        /* Arm 0 is chosen: the ratio of best to it is a paired one. */
        trial->regret.half_width = (ratio[best].ci_hi - ratio[best].ci_lo) / 2 / least;
    }
    for (int i = 0; i < n; i++) {
        dlb_measured_release(&measured[i]);
        dlb_plan_release(arm[i]);
    }
    return status;
}

static enum dlb_status write_trial(struct trial *trial, struct dlb_error *error)
{
    const struct dlb_op *op = trial->item->entry->op;
    const struct dlb_regret *regret = &trial->regret;
    struct dlb_cell cell[DLB_STUDY_COLUMNS_N] = {0};
    char time[DLB_TIME_TEXT], shape[DLB_SHAPE_MAX], tiles[4][DLB_SHAPE_MAX];
    const struct dlb_candidate *const candidate[] = {&trial->chosen, &trial->again,
                                                     &trial->random, &trial->best};
    dlb_run_time(time);
    dlb_descriptor_format(op, &trial->item->problem, shape);
    for (int i = 0; i < 4; i++)
        dlb_candidate_format(op, candidate[i], tiles[i]);
    const struct {
        enum dlb_study_column column;
        const char *text;
    } texts[] = {
        {DLB_STUDY_TIMESTAMP_UTC, time},
        {DLB_STUDY_OP, op->name},
        {DLB_STUDY_PASS, dlb_pass_names[trial->item->problem.pass]},
        {DLB_STUDY_SHAPE_NAME, trial->item->name},
        {DLB_STUDY_SHAPE, shape},
        {DLB_STUDY_THREAD_SET, trial->station->set.name},
        {DLB_STUDY_CHOSEN, tiles[0]},
        {DLB_STUDY_AGAIN, tiles[1]},
        {DLB_STUDY_RANDOM, tiles[2]},
        {DLB_STUDY_BEST, tiles[3]},
    };
    const struct {
        enum dlb_study_column column;
        int64_t integer;
    } integers[] = {
        {DLB_STUDY_SCHEMA_VERSION, DLB_SCHEMA_VERSION},
        {DLB_STUDY_THREADS, trial->station->set.threads},
        {DLB_STUDY_LEGAL, trial->space.n},
        {DLB_STUDY_CHOSEN_TRIED, trial->tuned.tried},
        {DLB_STUDY_FULL_TRIED, trial->full.timed},
        {DLB_STUDY_RANDOM_TRIED, trial->drawn.timed},
    };
    const struct {
        enum dlb_study_column column;
        double number;
    } reals[] = {
        {DLB_STUDY_CHOSEN_SECONDS, regret->chosen_seconds},
        {DLB_STUDY_FULL_SECONDS, trial->full.seconds},
        {DLB_STUDY_CHOSEN_NS, trial->chosen_ns},
        {DLB_STUDY_CHOSEN_REGRET, regret->chosen},
        {DLB_STUDY_AGAIN_REGRET, regret->again},
        {DLB_STUDY_RANDOM_REGRET, regret->random},
        {DLB_STUDY_HALF_WIDTH, regret->half_width},
        {DLB_STUDY_RANK_CORRELATION, regret->rank_correlation},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        cell[texts[i].column] =
            (struct dlb_cell){.set = *texts[i].text, .text = (char *)texts[i].text};
    for (size_t i = 0; i < sizeof integers / sizeof *integers; i++)
        cell[integers[i].column] =
            (struct dlb_cell){.set = true, .integer = integers[i].integer};
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++)
        cell[reals[i].column] = (struct dlb_cell){.set = isfinite(reals[i].number),
                                                  .number = reals[i].number};
    return dlb_table_file_append(&trial->study->table, cell, 1, error);
}

static void show_trial(const struct trial *trial)
{
    const struct dlb_session *session = &trial->study->session;
    const struct dlb_regret *regret = &trial->regret;
    char shape[DLB_SHAPE_MAX];
    dlb_descriptor_format(trial->item->entry->op, &trial->item->problem, shape);
    dlb_progress_line(session->progress, session->io.out,
                      "%-9s %-40.40s %-5s %5d legal  chosen +%.1f%%, again +%.1f%%, "
                      "random +%.1f%% (±%.1f%%)  tuned in %.1f s",
                      trial->item->entry->op->name, shape, trial->station->set.name,
                      trial->space.n, 100 * regret->chosen, 100 * regret->again,
                      100 * regret->random, 100 * regret->half_width,
                      regret->chosen_seconds);
}

static void show_step(const struct trial *trial, const char *what)
{
    struct study *study = trial->study;
    char text[DLB_NAME_MAX + 64];
    snprintf(text, sizeof text, "%s, thread set %s: %s", trial->item->name,
             trial->station->set.name, what);
    dlb_progress_update(study->session.progress, (double)study->n / study->all, text);
}

/* The tunings first, while this process does not hold the threads. */
static enum dlb_status run_trial(struct trial *trial, struct dlb_error *error)
{
    struct study *study = trial->study;
    struct dlb_session *session = &study->session;
    struct dlb_tuned again;
    double end_ns = dlb_clock_ns() + share_of(study) * 1e9;
    show_step(trial, "tuned twice");
    enum dlb_status status = tune_apart(trial, &trial->tuned, error);
    if (!status)
        status = tune_apart(trial, &again, error);
    if (!status)
        status = dlb_space_make(trial->item->entry->op, &trial->item->problem,
                                &trial->station->target, &trial->station->rates,
                                &trial->space, error);
    if (!status)
        status =
            dlb_pool_open(session->topology, &trial->station->set, &trial->pool, error);
    if (status)
        goto out;
    trial->chosen = trial->tuned.best[0];
    trial->again = again.best[0];
    trial->regret.chosen_seconds = trial->tuned.seconds;
    show_step(trial, "the whole space");
    double left = (end_ns - dlb_clock_ns()) * 1e-9;
    status = search_full(trial, fmax(1, left - MEASURING_SECONDS - trial->tuned.seconds),
                         error);
    if (!status)
        status = search_random(trial, error);
    show_step(trial, "winners together");
    if (!status)
        status = time_together(trial, error);
    if (!status)
        status = write_trial(trial, error);
    if (!status) {
        study->regret[study->n++] = trial->regret;
        show_trial(trial);
    }
out:
    dlb_pool_close(trial->pool);
    dlb_space_release(&trial->space);
    free(trial->timed_ns);
    return status;
}

static enum dlb_status run_case(struct study *study, const struct dlb_case *item,
                                struct dlb_error *error)
{
    struct dlb_session *session = &study->session;
    struct dlb_buffers buffers = {0};
    struct dlb_expected *expected = NULL;
    char reason[160];
    if (!dlb_session_holds(item, reason, sizeof reason)) {
        dlb_progress_line(session->progress, session->io.out, "%s is left out: it %s",
                          item->name, reason);
        study->all -= session->stations;
        return DLB_OK;
    }
    enum dlb_status status = dlb_session_ready(session, item, &buffers, &expected, error);
    for (int s = 0; s < session->stations && !status; s++) {
        struct trial trial = {.study = study,
                              .item = item,
                              .station = &session->station[s],
                              .expected = expected,
                              .buffers = &buffers};
        status =
            dlb_session_stopped(session) ? DLB_INTERRUPTED : run_trial(&trial, error);
    }
    dlb_expected_release(expected);
    dlb_buffers_release(&buffers);
    return status;
}

static void show_sum(const struct study *study)
{
    struct dlb_regrets sum;
    FILE *out = study->session.io.out;
    dlb_regrets_sum(study->regret, study->n, &sum);
    if (study->n)
        fprintf(out,
                "\n%d tuned problems, two tunings each: regret median %.2f%%, 90th "
                "percentile %.2f%%, at most 2%% in %.0f%%\n"
                "two tunings within 2%% of each other: %.0f%%\n"
                "random search for as long: median %.2f%%, 90th percentile %.2f%%\n"
                "a search took %.1f s, rank correlation of the model %.2f (medians)\n",
                sum.n, 100 * sum.median, 100 * sum.p90, 100 * sum.within,
                100 * sum.agreement, 100 * sum.random_median, 100 * sum.random_p90,
                sum.seconds, sum.correlation);
    fprintf(out, "Study: %s/%s\n", study->folder, dlb_tables[DLB_TABLE_STUDY].file);
}

static enum dlb_status open_run(struct study *study, struct dlb_error *error)
{
    struct dlb_session *session = &study->session;
    const char *out = session->options->out;
    enum dlb_status status = dlb_run_create_bare(
        out ? NULL : DLBENCH_SOURCE_DIR "/results", out, "study", &session->run, error);
    if (!status) {
        study->folder = dlb_run_path(session->run);
        status = dlb_table_file_open(&study->table, study->folder, DLB_TABLE_STUDY, true,
                                     error);
    }
    if (!status)
        status = dlb_table_file_cut(&study->table, 0, error);
    return status ? status : dlb_session_manifest(session, "running", error);
}

static enum dlb_status run(struct study *study, struct dlb_error *error)
{
    struct dlb_session *session = &study->session;
    enum dlb_status status = dlb_pool_check_runtime(error);
    if (!status)
        status = open_run(study, error);
    if (status)
        return status;
    dlb_screen_head(session);
    double seconds = session->options->budget_seconds > 0
                         ? session->options->budget_seconds
                         : DEFAULT_SECONDS;
    session->deadline_ns = session->start_ns + seconds * 1e9;
    fprintf(session->io.out, "%d problems × %d thread sets, about %.0f minutes\n\n",
            session->suite.cases_n, session->stations, ceil(seconds / 60));
    session->progress =
        dlb_progress_make(session->io.progress, session->options->quiet, seconds);
    for (int s = 0; s < session->stations && !status; s++)
        status = dlb_session_gauge(session, &session->station[s], error);
    for (int i = 0; i < session->suite.cases_n && !status; i++)
        status = run_case(study, &session->suite.cases[i], error);
    dlb_progress_release(session->progress);
    session->progress = NULL;
    show_sum(study);
    struct dlb_error ignored;
    enum dlb_status closing = dlb_session_manifest(
        session, status ? "interrupted" : "finished", status ? &ignored : error);
    return status ? status : closing;
}

enum dlb_status dlb_study_run(const struct dlb_options *options,
                              const struct dlb_session_io *io, dlb_rerun_fn *rerun,
                              void *context, int *exit_status, struct dlb_error *error)
{
    struct dlb_options asked = *options;
    asked.sweep = asked.no_cache = true;
    asked.impl = "native";
    asked.threads = options->threads ? options->threads : "cores";
    if (!options->op && !options->suite)
        asked.suite = DLBENCH_SOURCE_DIR "/configs/study.csv";
    struct study study = {.session = {.options = &asked,
                                      .io = *io,
                                      .start_ns = dlb_clock_ns(),
                                      .deadline_ns = INFINITY},
                          .rerun = rerun,
                          .context = context};
    *exit_status = DLB_EXIT_USAGE;
    enum dlb_status status = dlb_session_prepare(&study.session, error);
    if (!status) {
        study.all = study.session.suite.cases_n * study.session.stations;
        study.regret = calloc((size_t)study.all, sizeof *study.regret);
        if (!study.regret)
            status = dlb_fail(error, DLB_NOMEM, "No memory is left for the study.");
    }
    if (!status)
        status = run(&study, error);
    if (!status)
        *exit_status = DLB_EXIT_OK;
    else if (study.n || status == DLB_INTERRUPTED)
        *exit_status = DLB_EXIT_INCOMPLETE;
    dlb_table_file_close(&study.table);
    free(study.regret);
    dlb_session_release(&study.session);
    return status == DLB_INTERRUPTED ? DLB_OK : status;
}
