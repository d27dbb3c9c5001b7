#include "measure/session_internal.h"

#include "measure/timer.h"
#include "record/export.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double default_sweep_budget = 260, naive_gflops = 0.3;

bool dlb_session_stopped(const struct dlb_session *session)
{
    return session->io.stop && *session->io.stop;
}

size_t dlb_session_evict_bytes(const struct dlb_session *session)
{
    const struct dlb_topology *topology = session->topology;
    if (session->cache_state == DLB_CACHE_HOT)
        return 0;
    size_t private_bytes = topology->cache[2].bytes * (size_t)topology->cores;
    size_t shared_bytes = topology->cache[3].bytes * (size_t)dlb_max(1, topology->l3s);
    return 2 * (private_bytes + shared_bytes);
}

double dlb_session_fixed_seconds(const struct dlb_session *session,
                                 const struct dlb_case *item,
                                 const struct dlb_station *station)
{
    const struct dlb_op *op = item->entry->op;
    double peak = station->rates.peak_gflops > 0 ? station->rates.peak_gflops : 50;
    double flops = op->flops(&item->problem), bytes = op->bytes(&item->problem);
    double once = fmax(flops / (0.6 * peak), bytes / 5) * 1e-9;
    double checks = 8 * once + 6 * bytes * 1e-9;
    if (session->impl[DLB_IMPL_NAIVE] || !dlb_onednn_version())
        checks += 3 * flops / (naive_gflops * station->set.threads) * 1e-9;
    if (session->options->check)
        return checks;
    int arms = session->impl[DLB_IMPL_NATIVE] + session->impl[DLB_IMPL_ONEDNN] +
               session->impl[DLB_IMPL_NAIVE] +
               (session->options->sweep && session->impl[DLB_IMPL_NATIVE]);
    return checks + arms * (0.05 + fmax(0.4, 24 * once));
}

/* What the ceilings, or the noise floor, of one thread set may take of the budget. */
static double gauging_seconds(const struct dlb_session *session)
{
    double budget = session->options->budget_seconds;
    return budget > 0 ? budget / (10 * session->stations) : INFINITY;
}

enum dlb_status dlb_session_gauge(struct dlb_session *session,
                                  struct dlb_station *station, struct dlb_error *error)
{
    struct dlb_pool *pool = NULL;
    char what[DLB_NAME_MAX + 64];
    enum dlb_status status =
        dlb_pool_open(session->topology, &station->set, &pool, error);
    if (status)
        return status;
    snprintf(what, sizeof what, "ceilings of thread set %s", station->set.name);
    dlb_progress_update(session->progress, 0, what);
    double seconds = fmin(1, gauging_seconds(session));
    status = dlb_ceilings_measure(pool, session->topology, session->isa, seconds,
                                  &station->rates, error);
    station->best_probe = dlb_probe_gflops(pool, session->isa, 3e6);
    dlb_pool_close(pool);
    return status;
}

/* Noise floor of one thread set, from an A/A pair of the first problem. */
static enum dlb_status measure_noise(struct dlb_session *session,
                                     struct dlb_station *station,
                                     struct dlb_buffers *buffers,
                                     const struct dlb_case *item, struct dlb_error *error)
{
    const struct dlb_op *op = item->entry->op;
    struct dlb_candidate candidate;
    struct dlb_plan *plan = NULL;
    struct dlb_pool *pool = NULL;
    struct dlb_ratio ratio;
    op->fallback(&item->problem, &station->target, &candidate);
    enum dlb_status status =
        dlb_pool_open(session->topology, &station->set, &pool, error);
    if (status)
        return status;
    struct dlb_error why = {0};
    if (op->plan(&item->problem, &station->target, &candidate, &plan, &why))
        goto out;
    struct dlb_gauge gauge = {
        .pool = pool,
        .isa = session->isa,
        .best_probe = station->best_probe,
        .min_seconds = fmin(0.3, 0.3 * gauging_seconds(session)),
        .max_seconds = fmin(1, gauging_seconds(session)),
        .min_samples = 21,
        .ci_width = 0.01,
        .seed = (uint64_t)session->options->seed,
    };
    dlb_buffers_fill(buffers, DLB_FILL_DENSE, 1, pool);
    status = dlb_pool_bind_plan(pool, plan, buffers->data, error);
    if (!status)
        status = dlb_noise_floor(&gauge, plan, &station->noise_floor, &ratio, error);
    station->best_probe = fmax(station->best_probe, gauge.best_probe);
out:
    dlb_plan_release(plan);
    dlb_pool_close(pool);
    return status;
}

enum dlb_status dlb_session_manifest(struct dlb_session *session, const char *state,
                                     struct dlb_error *error)
{
    struct dlb_fact *facts = NULL;
    int facts_n = 0;
    char key[256];
    if (!session->run)
        return DLB_OK;
    struct dlb_manifest_ceiling *ceiling =
        calloc((size_t)session->stations, sizeof *ceiling);
    if (!ceiling)
        return dlb_fail(error, DLB_NOMEM, "No memory is left for the manifest.");
    enum dlb_status status =
        dlb_facts_collect(session->topology, &facts, &facts_n, error);
    if (status)
        goto out;
    double floor = NAN;
    for (int i = 0; i < session->stations; i++) {
        const struct dlb_station *station = &session->station[i];
        snprintf(ceiling[i].thread_set, sizeof ceiling[i].thread_set, "%s",
                 station->set.name);
        snprintf(ceiling[i].isa, sizeof ceiling[i].isa, "%s", dlb_isa_name(session->isa));
        ceiling[i].threads = station->set.threads;
        ceiling[i].rates = station->rates;
        floor = fmax(floor, station->noise_floor);
    }
    dlb_machine_key(session->topology, key);
    struct dlb_manifest manifest = {
        .state = state,
        .argc = session->io.argc,
        .argv = session->io.argv,
        .facts = facts,
        .facts_n = facts_n,
        .machine_key = key,
        .ceilings = ceiling,
        .ceilings_n = session->stations,
        .noise_floor = floor,
        .seed = session->options->seed,
    };
    status = dlb_run_manifest(session->run, &manifest, error);
out:
    dlb_facts_release(facts, facts_n);
    free(ceiling);
    return status;
}

static enum dlb_status open_run(struct dlb_session *session, struct dlb_error *error)
{
    const struct dlb_options *options = session->options;
    char what[DLB_NAME_MAX + 16], path[4096];
    enum dlb_status status;
    if (options->check)
        return DLB_OK;
    if (options->resume)
        return dlb_run_resume(options->resume, &session->run, error);
    snprintf(what, sizeof what, "%s", session->suite.name);
    if (options->out)
        status = dlb_run_create(NULL, options->out, what, &session->run, error);
    else
        status = dlb_run_create(DLBENCH_SOURCE_DIR "/results", NULL, what, &session->run,
                                error);
    if (status)
        return status;
    snprintf(path, sizeof path, "%s/topology.xml", dlb_run_path(session->run));
    return dlb_topology_export(session->topology, path, error);
}

/* Rows "skipped" for a problem that cannot be held. */
static enum dlb_status skip_case(struct dlb_session *session, const struct dlb_case *item,
                                 const char *reason, struct dlb_error *error)
{
    enum dlb_status status = DLB_OK;
    for (int s = 0; s < session->stations; s++) {
        for (int impl = 0; impl < DLB_IMPLS && !status; impl++) {
            if (!session->impl[impl] ||
                dlb_session_find(session, item, &session->station[s], impl))
                continue;
            struct dlb_row row = {0};
            struct dlb_entry entry = {.impl = impl,
                                      .outcome = DLB_OUTCOME_SKIPPED,
                                      .reason = reason,
                                      .default_median_ns = NAN};
            dlb_row_fill(session, item, &session->station[s], &entry, &row);
            status = dlb_session_record(session, &row, NULL, error);
            dlb_row_release(&row);
        }
    }
    return status;
}

static bool is_finished(const struct dlb_session *session, const struct dlb_case *item)
{
    for (int s = 0; s < session->stations; s++)
        for (int impl = 0; impl < DLB_IMPLS; impl++)
            if (session->impl[impl] &&
                !dlb_session_find(session, item, &session->station[s], impl))
                return false;
    return true;
}

int dlb_session_left(const struct dlb_session *session)
{
    int left = 0;
    for (int i = 0; i < session->suite.cases_n; i++)
        left += !is_finished(session, &session->suite.cases[i]);
    return left;
}

/* A finished run that is resumed: it is shown again, and stays as it is. */
static bool only_shown(const struct dlb_session *session)
{
    return session->resumed && session->resumed->finished && !dlb_session_left(session);
}

static void show_progress(struct dlb_session *session, const struct dlb_case *item,
                          const struct dlb_station *station)
{
    char what[DLB_SHAPE_MAX + DLB_NAME_MAX + 64], shape[DLB_SHAPE_MAX];
    dlb_descriptor_format(item->entry->op, &item->problem, shape);
    snprintf(what, sizeof what, "%s, thread set %s", *item->name ? item->name : shape,
             station->set.name);
    dlb_progress_update(session->progress, session->work_done / session->work_total,
                        what);
}

/* The fewest threads, then the most, then the others: what is tuned there guides them. */
static int nth_station(const struct dlb_session *session, int nth)
{
    int ends[2] = {session->narrowest, session->widest};
    int n = ends[0] == ends[1] ? 1 : 2;
    if (nth < n)
        return ends[nth];
    for (int i = 0; i < session->stations; i++)
        if (i != ends[0] && i != ends[1] && n++ == nth)
            return i;
    return nth;
}

bool dlb_session_holds(const struct dlb_case *item, char *reason, size_t room)
{
    /* Inputs and outputs, both fills, expected values, bounds, and the reordered copies.
     */
    double need = 6 * dlb_buffers_bytes(item->entry->op, &item->problem);
    double have = (double)dlb_memory_available();
    snprintf(reason, room, "needs about %.1f GiB of memory, %.1f GiB are free",
             need / (1 << 30), have / (1 << 30));
    return need <= have;
}

enum dlb_status dlb_session_ready(const struct dlb_session *session,
                                  const struct dlb_case *item,
                                  struct dlb_buffers *buffers,
                                  struct dlb_expected **expected, struct dlb_error *error)
{
    struct dlb_pool *pool = NULL;
    uint64_t seed = (uint64_t)session->options->seed;
    enum dlb_status status = dlb_pool_open(
        session->topology, &session->station[session->widest].set, &pool, error);
    if (!status)
        status = dlb_buffers_make(item->entry->op, &item->problem, pool, buffers, error);
    if (!status)
        status = dlb_expected_make(item->entry, &item->problem, pool, false, seed,
                                   expected, error);
    /* oneDNN is wrong here: it is then judged itself, by the plain definition. */
    if (status == DLB_FAULT)
        status = dlb_expected_make(item->entry, &item->problem, pool, true, seed,
                                   expected, error);
    dlb_pool_close(pool);
    return status;
}

static enum dlb_status run_case(struct dlb_session *session, const struct dlb_case *item,
                                struct dlb_error *error)
{
    struct dlb_buffers buffers = {0};
    struct dlb_expected *expected = NULL;
    char reason[160];
    if (!dlb_session_holds(item, reason, sizeof reason))
        return skip_case(session, item, reason, error);
    show_progress(session, item, &session->station[0]);
    enum dlb_status status = dlb_session_ready(session, item, &buffers, &expected, error);
    for (int s = 0; s < session->stations && !status; s++) {
        struct dlb_station *station = &session->station[nth_station(session, s)];
        if (dlb_session_stopped(session)) {
            status = DLB_INTERRUPTED;
            break;
        }
        show_progress(session, item, station);
        if (isnan(station->noise_floor) && !session->options->check)
            status = measure_noise(session, station, &buffers, item, error);
        if (!status)
            status = dlb_contest_run(session, item, station, expected, &buffers, error);
        session->work_done += dlb_session_fixed_seconds(session, item, station);
    }
    dlb_expected_release(expected);
    dlb_buffers_release(&buffers);
    return status;
}

double dlb_session_work_seconds(const struct dlb_session *session)
{
    double work = 0;
    for (int i = 0; i < session->suite.cases_n; i++)
        for (int s = 0; s < session->stations; s++)
            work += dlb_session_fixed_seconds(session, &session->suite.cases[i],
                                              &session->station[s]);
    return work;
}

/* The run's folder first: what cannot be written is found before the long part. */
static enum dlb_status start(struct dlb_session *session, struct dlb_error *error)
{
    const struct dlb_options *options = session->options;
    enum dlb_status status = open_run(session, error);
    if (!status && !only_shown(session))
        status = dlb_session_manifest(session, "running", error);
    if (status)
        return status;
    dlb_screen_head(session);
    if (only_shown(session))
        return DLB_OK;
    session->progress =
        dlb_progress_make(session->io.progress, options->quiet, options->budget_seconds);
    for (int s = 0; s < session->stations && !status && !options->check; s++)
        status = dlb_session_stopped(session)
                     ? DLB_INTERRUPTED
                     : dlb_session_gauge(session, &session->station[s], error);
    dlb_progress_release(session->progress);
    session->progress = NULL;
    return status ? status : dlb_session_manifest(session, "running", error);
}

double dlb_session_seconds(const struct dlb_session *session)
{
    const struct dlb_options *options = session->options;
    double work = dlb_session_work_seconds(session);
    if (options->check || (!options->sweep && !(options->budget_seconds > 0)))
        return work;
    return options->budget_seconds > 0 ? options->budget_seconds
                                       : fmax(default_sweep_budget, 2 * work);
}

static enum dlb_status run_all(struct dlb_session *session, struct dlb_error *error)
{
    const struct dlb_options *options = session->options;
    enum dlb_status status = start(session, error);
    if (status)
        return status;
    double expected = dlb_session_seconds(session);
    if (!options->check && (options->sweep || options->budget_seconds > 0))
        session->deadline_ns = session->start_ns + expected * 1e9;
    session->work_total = dlb_session_work_seconds(session);
    dlb_screen_plan(session, expected);
    session->progress = dlb_progress_make(session->io.progress, options->quiet, expected);
    for (int i = 0; i < session->suite.cases_n && !status; i++) {
        const struct dlb_case *item = &session->suite.cases[i];
        if (dlb_session_stopped(session)) {
            status = DLB_INTERRUPTED;
        } else if (is_finished(session, item)) {
            for (int s = 0; s < session->stations; s++)
                session->work_done +=
                    dlb_session_fixed_seconds(session, item, &session->station[s]);
        } else {
            status = run_case(session, item, error);
        }
        if (!status || status == DLB_INTERRUPTED)
            dlb_screen_case(session, item);
    }
    return status;
}

static int exit_status_of(const struct dlb_session *session, enum dlb_status status)
{
    int count[DLB_OUTCOME_COUNT];
    int rows = dlb_session_count(session, count);
    if (status == DLB_INTERRUPTED)
        return DLB_EXIT_INCOMPLETE;
    if (status)
        return rows ? DLB_EXIT_INCOMPLETE : DLB_EXIT_USAGE;
    if (session->mismatches || count[DLB_OUTCOME_MISMATCH])
        return DLB_EXIT_MISMATCH;
    return count[DLB_OUTCOME_NOISY] > count[DLB_OUTCOME_OK] ? DLB_EXIT_NOISY
                                                            : DLB_EXIT_OK;
}

/* Closes the run; a failure here must not hide the one that came before. */
static enum dlb_status close_run(struct dlb_session *session, enum dlb_status status,
                                 struct dlb_error *error)
{
    bool whole = status == DLB_OK;
    struct dlb_error ignored;
    dlb_progress_release(session->progress);
    if (session->run || session->options->check)
        dlb_screen_summary(session, !whole);
    if (!session->run)
        return status;
    enum dlb_status closing = DLB_OK;
    if (!only_shown(session))
        closing =
            dlb_session_manifest(session, whole ? "finished" : "interrupted", &ignored);
    if (whole && closing)
        *error = ignored;
    const char *folder = dlb_run_path(session->run);
    if (whole && !closing && session->options->export_to)
        closing = dlb_export_write(session->options->export_to, &folder, 1, error);
    return status ? status : closing;
}

static enum dlb_status run(struct dlb_session *session, int *exit_status,
                           struct dlb_error *error)
{
    enum dlb_status status = dlb_session_prepare(session, error);
    *exit_status = DLB_EXIT_USAGE;
    if (status)
        return status;
    if (session->options->dry_run) {
        status = dlb_session_dry_run(session, error);
        if (!status)
            *exit_status = DLB_EXIT_OK;
        return status;
    }
    status = dlb_pool_check_runtime(error);
    if (!status)
        status = run_all(session, error);
    status = close_run(session, status, error);
    *exit_status = exit_status_of(session, status);
    return status == DLB_INTERRUPTED ? DLB_OK : status;
}

enum dlb_status dlb_session_recall(struct dlb_session *session,
                                   struct dlb_options *recalled,
                                   struct dlb_manifest_command *command,
                                   struct dlb_error *error)
{
    const struct dlb_options *now = session->options;
    enum dlb_status status = dlb_manifest_command_read(now->resume, command, error);
    if (!status)
        status = dlb_options_parse(command->argc, command->argv, recalled, error);
    if (status)
        return status;
    if (recalled->command != now->command)
        return dlb_fail(error, DLB_INVALID,
                        "--resume %s: that run was begun by '%s'; resume it by the same "
                        "command.",
                        now->resume, command->argc > 1 ? command->argv[1] : "dlbench");
    recalled->resume = now->resume;
    recalled->quiet = now->quiet;
    if (now->budget_seconds > 0)
        recalled->budget_seconds = now->budget_seconds;
    if (now->export_to)
        recalled->export_to = now->export_to;
    session->resumed = command;
    session->options = recalled;
    session->io.argc = command->argc;
    session->io.argv = command->argv;
    return DLB_OK;
}

void dlb_session_release(struct dlb_session *session)
{
    for (int i = 0; i < session->rows; i++)
        dlb_row_release(&session->row[i]);
    free(session->row);
    free(session->twin);
    dlb_cache_close(session->cache);
    dlb_run_close(session->run);
    dlb_suite_release(&session->suite);
    free(session->station);
    dlb_topology_release(session->topology);
}

enum dlb_status dlb_session_run(const struct dlb_options *options,
                                const struct dlb_session_io *io, int *exit_status,
                                struct dlb_error *error)
{
    struct dlb_options recalled;
    struct dlb_manifest_command command = {0};
    struct dlb_session session = {.options = options,
                                  .io = *io,
                                  .start_ns = dlb_clock_ns(),
                                  .deadline_ns = INFINITY};
    enum dlb_status status = DLB_OK;
    *exit_status = DLB_EXIT_USAGE;
    if (options->resume)
        status = dlb_session_recall(&session, &recalled, &command, error);
    if (!status)
        status = run(&session, exit_status, error);
    dlb_session_release(&session);
    dlb_manifest_command_release(&command);
    return status;
}
