#include "measure/session_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const dlb_impl_names[DLB_IMPLS] = {"native", "onednn", "naive"};

/* The columns that make the comparison key. */
static void fill_key(const struct dlb_session *session, const struct dlb_case *item,
                     const struct dlb_station *station, enum dlb_impl impl,
                     struct dlb_row *row)
{
    char shape[DLB_SHAPE_MAX];
    const struct dlb_problem *problem = &item->problem;
    dlb_descriptor_format(item->entry->op, problem, shape);
    dlb_row_text(row, DLB_COL_OP, item->entry->op->name);
    dlb_row_text(row, DLB_COL_PASS, dlb_pass_names[problem->pass]);
    dlb_row_text(row, DLB_COL_DTYPE, dlb_dtype_names[problem->dtype]);
    dlb_row_text(row, DLB_COL_ACCURACY, dlb_accuracy_names[problem->accuracy]);
    dlb_row_text(row, DLB_COL_SHAPE, shape);
    dlb_row_text(row, DLB_COL_IMPL, dlb_impl_names[impl]);
    dlb_row_int(row, DLB_COL_THREADS, station->set.threads);
    dlb_row_text(row, DLB_COL_THREAD_SET, station->set.name);
    dlb_row_text(row, DLB_COL_CACHE_STATE, dlb_cache_state_names[session->cache_state]);
    dlb_run_key(row);
}

const struct dlb_row *dlb_session_find(const struct dlb_session *session,
                                       const struct dlb_case *item,
                                       const struct dlb_station *station,
                                       enum dlb_impl impl)
{
    struct dlb_row key = {0};
    const struct dlb_row *found = NULL;
    fill_key(session, item, station, impl, &key);
    const char *case_id = dlb_row_get_text(&key, DLB_COL_CASE_ID);
    for (int i = 0; i < session->rows && !found; i++)
        if (!strcmp(dlb_row_get_text(&session->row[i], DLB_COL_CASE_ID), case_id))
            found = &session->row[i];
    if (!found && session->run)
        found = dlb_run_find(session->run, case_id);
    dlb_row_release(&key);
    return found;
}

int dlb_session_count(const struct dlb_session *session, int count[DLB_OUTCOME_COUNT])
{
    int rows = 0;
    memset(count, 0, DLB_OUTCOME_COUNT * sizeof *count);
    for (int i = 0; i < session->suite.cases_n; i++)
        for (int at = 0; at < session->stations * DLB_IMPLS; at++) {
            const struct dlb_row *row = dlb_session_find(
                session, &session->suite.cases[i], &session->station[at / DLB_IMPLS],
                (enum dlb_impl)(at % DLB_IMPLS));
            if (!row || !session->impl[at % DLB_IMPLS])
                continue;
            rows++;
            for (int outcome = 0; outcome < DLB_OUTCOME_COUNT; outcome++)
                count[outcome] += !strcmp(dlb_row_get_text(row, DLB_COL_STATUS),
                                          dlb_outcome_names[outcome]);
        }
    return rows;
}

struct dlb_ratio *dlb_session_twin(const struct dlb_session *session,
                                   const struct dlb_case *item,
                                   const struct dlb_station *station)
{
    return &session->twin[(item - session->suite.cases) * session->stations +
                          (station - session->station)];
}

static void fill_implementation(const struct dlb_case *item,
                                const struct dlb_entry *entry, struct dlb_row *row)
{
    const struct dlb_plan *plan = entry->plan;
    if (plan) {
        dlb_row_text(row, DLB_COL_LAYOUT, plan->layout);
        dlb_row_text(row, DLB_COL_IMPL_VERSION, plan->version);
        dlb_row_text(row, DLB_COL_ISA, plan->isa);
        dlb_row_text(row, DLB_COL_ALGORITHM, plan->algorithm);
        dlb_row_int(row, DLB_COL_WORKSPACE_BYTES, (int64_t)plan->workspace_bytes);
    }
    if (entry->candidate) {
        char tiles[DLB_SHAPE_MAX];
        dlb_candidate_format(item->entry->op, entry->candidate, tiles);
        dlb_row_text(row, DLB_COL_TILES, tiles);
        dlb_row_text(row, DLB_COL_TUNED_FROM, entry->tuned_from);
        dlb_row_real(row, DLB_COL_DEFAULT_MEDIAN_NS, entry->default_median_ns);
    }
}

static void fill_timing(const struct dlb_entry *entry, struct dlb_row *row)
{
    const struct dlb_measured *measured = entry->measured;
    const struct dlb_summary *summary = &measured->summary;
    const struct {
        enum dlb_column column;
        double value;
    } reals[] = {
        {DLB_COL_TIME_MIN_NS, summary->min},
        {DLB_COL_TIME_MEDIAN_NS, summary->median},
        {DLB_COL_TIME_MEAN_NS, summary->mean},
        {DLB_COL_TIME_STDDEV_NS, summary->stddev},
        {DLB_COL_TIME_MAD_NS, summary->mad},
        {DLB_COL_TIME_CI_LO_NS, summary->ci_lo},
        {DLB_COL_TIME_CI_HI_NS, summary->ci_hi},
        {DLB_COL_CI_LEVEL, summary->ci_level},
        {DLB_COL_TIME_P90_NS, summary->p90},
        {DLB_COL_TIME_P95_NS, summary->p95},
        {DLB_COL_TIME_P99_NS, summary->p99},
        {DLB_COL_TIME_MAX_NS, summary->max},
        {DLB_COL_SETUP_TIME_NS, entry->setup_ns},
        {DLB_COL_CONTAMINATED_FRAC, measured->contaminated_frac},
        {DLB_COL_PROBE_GFLOPS, measured->probe_gflops},
    };
    const struct {
        enum dlb_column column;
        int64_t value;
    } integers[] = {
        {DLB_COL_WARMUP_N, measured->warmup},
        {DLB_COL_INNER_REPS, measured->inner_reps},
        {DLB_COL_SAMPLES_N, summary->n},
        {DLB_COL_OUTLIERS_MILD, summary->outliers_mild},
        {DLB_COL_OUTLIERS_SEVERE, summary->outliers_severe},
    };
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++)
        dlb_row_real(row, reals[i].column, reals[i].value);
    for (size_t i = 0; i < sizeof integers / sizeof *integers; i++)
        dlb_row_int(row, integers[i].column, integers[i].value);
}

/* Time on one thread over threads times this time, from this session's own row. */
static double parallel_efficiency(const struct dlb_session *session,
                                  const struct dlb_case *item,
                                  const struct dlb_station *station, enum dlb_impl impl,
                                  double median_ns)
{
    for (int i = 0; i < session->stations; i++) {
        if (session->station[i].set.threads != 1)
            continue;
        if (&session->station[i] == station)
            return 1;
        const struct dlb_row *one =
            dlb_session_find(session, item, &session->station[i], impl);
        if (one)
            return dlb_row_get_real(one, DLB_COL_TIME_MEDIAN_NS) /
                   (station->set.threads * median_ns);
    }
    return NAN;
}

static void fill_derived(const struct dlb_session *session, const struct dlb_case *item,
                         const struct dlb_station *station, const struct dlb_entry *entry,
                         struct dlb_row *row)
{
    const struct dlb_op *op = item->entry->op;
    double flops = op->flops(&item->problem), bytes = op->bytes(&item->problem);
    double median_ns = entry->measured->summary.median;
    const char *bound = "";
    double roof = dlb_roof_gflops(&station->rates, session->topology,
                                  station->set.threads, flops, bytes, &bound);
    dlb_row_real(row, DLB_COL_FLOPS, flops);
    dlb_row_real(row, DLB_COL_BYTES_MIN, bytes);
    dlb_row_real(row, DLB_COL_GFLOPS, flops / median_ns);
    dlb_row_real(row, DLB_COL_GBS, bytes / median_ns);
    dlb_row_real(row, DLB_COL_INTENSITY, flops / bytes);
    dlb_row_real(row, DLB_COL_ROOF_GFLOPS, roof);
    dlb_row_text(row, DLB_COL_ROOF_BOUND, bound);
    dlb_row_real(row, DLB_COL_ROOF_FRAC, flops / median_ns / roof);
    dlb_row_real(row, DLB_COL_PARALLEL_EFFICIENCY,
                 parallel_efficiency(session, item, station, entry->impl, median_ns));
    if (entry->speedup) {
        dlb_row_real(row, DLB_COL_SPEEDUP_VS_ONEDNN, entry->speedup->median);
        dlb_row_real(row, DLB_COL_SPEEDUP_CI_LO, entry->speedup->ci_lo);
        dlb_row_real(row, DLB_COL_SPEEDUP_CI_HI, entry->speedup->ci_hi);
    }
    dlb_row_real(row, DLB_COL_NOISE_FLOOR, station->noise_floor);
}

static void fill_weather(const struct dlb_entry *entry, struct dlb_row *row)
{
    const struct dlb_weather *before = entry->before, *after = entry->after;
    double ticks = after->total_ticks - before->total_ticks;
    dlb_row_int(row, DLB_COL_CTX_SWITCHES_INVOL,
                after->ctx_switches_invol - before->ctx_switches_invol);
    if (before->migrations >= 0 && after->migrations >= 0)
        dlb_row_int(row, DLB_COL_MIGRATIONS, after->migrations - before->migrations);
    dlb_row_real(row, DLB_COL_LOAD1, before->load1);
    dlb_row_real(row, DLB_COL_STEAL_FRAC,
                 ticks > 0 ? (after->steal_ticks - before->steal_ticks) / ticks : NAN);
}

static void fill_check(const struct dlb_entry *entry, struct dlb_row *row)
{
    const struct dlb_check *check = entry->check;
    bool passed = check->outcome != DLB_OUTCOME_MISMATCH;
    char text[64];
    snprintf(text, sizeof text, "%s%s",
             !check->fill                  ? ""
             : strcmp(check->fill, "both") ? check->fill
                                           : "exact and dense fill",
             passed && entry->measured ? ", before and after timing" : "");
    dlb_row_text(row, DLB_COL_REFERENCE, check->reference);
    dlb_row_real(row, DLB_COL_MAX_ABS_ERR, check->max_abs_err);
    dlb_row_real(row, DLB_COL_MAX_REL_ERR, check->max_rel_err);
    dlb_row_real(row, DLB_COL_BOUND, check->bound);
    dlb_row_text(row, DLB_COL_VERIFY, text);
}

void dlb_row_fill(const struct dlb_session *session, const struct dlb_case *item,
                  const struct dlb_station *station, const struct dlb_entry *entry,
                  struct dlb_row *row)
{
    fill_key(session, item, station, entry->impl, row);
    dlb_row_text(row, DLB_COL_STATUS, dlb_outcome_names[entry->outcome]);
    dlb_row_text(row, DLB_COL_STATUS_REASON, entry->reason);
    dlb_row_text(row, DLB_COL_SUITE, session->suite.name);
    dlb_row_text(row, DLB_COL_SHAPE_NAME, item->name);
    dlb_row_int(row, DLB_COL_MULTIPLICITY, item->count);
    dlb_row_text(row, DLB_COL_CPUSET, station->set.cpuset);
    fill_implementation(item, entry, row);
    if (entry->check)
        fill_check(entry, row);
    if (entry->measured) {
        fill_timing(entry, row);
        fill_derived(session, item, station, entry, row);
        fill_weather(entry, row);
    }
}

enum dlb_status dlb_session_record(struct dlb_session *session, struct dlb_row *row,
                                   const struct dlb_measured *measured,
                                   struct dlb_error *error)
{
    struct dlb_row *grown =
        realloc(session->row, (size_t)(session->rows + 1) * sizeof *session->row);
    if (!grown)
        return dlb_fail(error, DLB_NOMEM, "No memory is left for another row.");
    session->row = grown;
    enum dlb_status status = DLB_OK;
    if (session->run && measured)
        status = dlb_run_samples(session->run, dlb_run_next_seq(session->run),
                                 measured->sample, measured->samples, error);
    if (session->run && !status)
        status = dlb_run_append(session->run, row, error);
    session->row[session->rows++] = *row;
    *row = (struct dlb_row){0};
    return status;
}
