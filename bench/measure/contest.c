/*
 * One problem on one thread set: verification, the paired measurement, rows.  Where the
 * native candidate comes from is the business of contest_native.c.
 */
#include "measure/contest_internal.h"

#include "measure/timer.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static void repro_line(const struct dlb_contest *contest, const struct dlb_side *side,
                       char *line, size_t room)
{
    const struct dlb_op *op = contest->item->entry->op;
    const struct dlb_problem *problem = &contest->item->problem;
    char shape[DLB_SHAPE_MAX], tiles[DLB_SHAPE_MAX], candidate[DLB_SHAPE_MAX + 16] = "";
    dlb_descriptor_format(op, problem, shape);
    if (side->impl == DLB_IMPL_NATIVE) {
        dlb_candidate_format(op, &side->candidate, tiles);
        snprintf(candidate, sizeof candidate, " --candidate %s", tiles);
    }
    snprintf(line, room,
             "./dlbench --op %s --pass %s --shape %s --impl %s%s --threads %s --isa %s "
             "--accuracy %s --seed %lld --check",
             op->name, dlb_pass_names[problem->pass], shape, dlb_impl_names[side->impl],
             candidate, contest->station->set.name, dlb_isa_name(contest->session->isa),
             dlb_accuracy_names[problem->accuracy],
             (long long)contest->session->options->seed);
}

void dlb_side_condemn(struct dlb_contest *contest, struct dlb_side *side)
{
    struct dlb_session *session = contest->session;
    char line[1024];
    repro_line(contest, side, line, sizeof line);
    side->outcome = DLB_OUTCOME_MISMATCH;
    snprintf(side->reason, sizeof side->reason, "%.240s; reproduce with: %.760s",
             side->check.reason, line);
    if (!session->mismatches++)
        snprintf(session->repro, sizeof session->repro, "%s", line);
}

void dlb_side_dismiss(struct dlb_side *side, enum dlb_outcome outcome, const char *reason)
{
    dlb_plan_release(side->plan);
    side->plan = NULL;
    side->outcome = outcome;
    snprintf(side->reason, sizeof side->reason, "%s", reason);
}

enum dlb_status dlb_side_verify(struct dlb_contest *contest, struct dlb_side *side,
                                struct dlb_error *error)
{
    /* What is going to be timed runs twice at once, natively; the rest on demand. */
    bool determinism =
        contest->session->options->check_determinism || side->impl == DLB_IMPL_NATIVE;
    enum dlb_status status = dlb_verify(contest->expected, contest->buffers, side->plan,
                                        contest->pool, determinism, &side->check, error);
    if (status)
        return status;
    side->checked = true;
    side->outcome = side->check.outcome;
    snprintf(side->reason, sizeof side->reason, "%s", side->check.reason);
    if (side->outcome == DLB_OUTCOME_MISMATCH)
        dlb_side_condemn(contest, side);
    return DLB_OK;
}

/* An even share of the time that is left, by the work that is left. */
static double share_out(const struct dlb_session *session, const struct dlb_case *item,
                        const struct dlb_station *station)
{
    double now = dlb_clock_ns();
    double mine = dlb_session_fixed_seconds(session, item, station);
    double work_left = fmax(session->work_total - session->work_done, mine);
    return now + fmax(0, session->deadline_ns - now) * mine / work_left;
}

/* The fastest of oneDNN's formulations. */
static enum dlb_status prepare_onednn(struct dlb_contest *contest,
                                      struct dlb_error *error)
{
    struct dlb_side *best = &contest->side[DLB_IMPL_ONEDNN];
    const struct dlb_reference *reference = contest->item->entry->reference;
    double best_ns = INFINITY;
    enum dlb_status status = DLB_OK;
    for (int formulation = 0; !status; formulation++) {
        struct dlb_side trial = {.impl = DLB_IMPL_ONEDNN};
        struct dlb_error why = {0};
        enum dlb_status made = reference->onednn(
            &contest->item->problem, contest->session->isa, contest->station->set.threads,
            formulation, &trial.plan, &why);
        if (made == DLB_UNSUPPORTED) {
            if (formulation == 0)
                dlb_side_dismiss(best, DLB_OUTCOME_UNSUPPORTED, why.text);
            return DLB_OK;
        }
        if (made)
            return dlb_fail(error, made, "%s", why.text);
        status = dlb_side_verify(contest, &trial, error);
        double ns = INFINITY;
        bool right = !status && trial.outcome != DLB_OUTCOME_MISMATCH;
        if (right && !contest->session->options->check)
            ns = dlb_trial_ns(contest->pool, trial.plan, 5, 4e5);
        if (formulation == 0 || (right && ns < best_ns)) {
            dlb_plan_release(best->plan);
            *best = trial;
            best_ns = ns;
        } else {
            dlb_plan_release(trial.plan);
        }
    }
    return status;
}

static enum dlb_status prepare_naive(struct dlb_contest *contest, struct dlb_error *error)
{
    struct dlb_side *side = &contest->side[DLB_IMPL_NAIVE];
    enum dlb_status status = contest->item->entry->reference->naive(
        &contest->item->problem, contest->station->set.threads, &side->plan, error);
    return status ? status : dlb_side_verify(contest, side, error);
}

static bool can_be_timed(const struct dlb_side *side)
{
    return side->plan && side->outcome != DLB_OUTCOME_MISMATCH;
}

static enum dlb_status time_setup(struct dlb_contest *contest, struct dlb_side *side,
                                  struct dlb_error *error)
{
    double start = dlb_clock_ns();
    enum dlb_status status =
        dlb_pool_bind_plan(contest->pool, side->plan, contest->buffers->data, error);
    side->setup_ns = dlb_clock_ns() - start;
    return status;
}

static enum dlb_status check_again(struct dlb_contest *contest, struct dlb_side *side,
                                   struct dlb_error *error)
{
    struct dlb_check check = {0};
    /* The arms write to the same outputs: what lies there is the last one's. */
    dlb_pool_run_plan(contest->pool, side->plan);
    enum dlb_status status = dlb_verify_again(contest->expected, contest->buffers,
                                              side->plan, contest->pool, &check, error);
    if (!status && check.outcome == DLB_OUTCOME_MISMATCH) {
        side->check = check;
        dlb_side_condemn(contest, side);
    }
    return status;
}

static enum dlb_status write_row(struct dlb_contest *contest, const struct dlb_side *side,
                                 const struct dlb_measured *measured,
                                 const struct dlb_ratio *speedup,
                                 double default_median_ns,
                                 const struct dlb_weather *before,
                                 const struct dlb_weather *after, struct dlb_error *error)
{
    struct dlb_row row = {0};
    bool right = side->outcome != DLB_OUTCOME_MISMATCH;
    struct dlb_entry entry = {
        .impl = side->impl,
        .plan = side->plan,
        .candidate = side->tuned_from ? &side->candidate : NULL,
        .tuned_from = side->tuned_from,
        .check = side->checked ? &side->check : NULL,
        .outcome = side->outcome,
        .reason = side->reason,
        .measured = right ? measured : NULL,
        .speedup = right ? speedup : NULL,
        .default_median_ns = default_median_ns,
        .setup_ns = side->setup_ns,
        .before = before,
        .after = after,
    };
    if (entry.measured && measured->noisy && entry.outcome == DLB_OUTCOME_OK) {
        entry.outcome = DLB_OUTCOME_NOISY;
        entry.reason =
            measured->contaminated_frac > DLB_MUCH_DISTURBED
                ? "too few clean samples could be had: the machine was disturbed"
                : "too few samples could be had in the time; give more with --budget";
    }
    dlb_row_fill(contest->session, contest->item, contest->station, &entry, &row);
    enum dlb_status status =
        dlb_session_record(contest->session, &row, entry.measured, error);
    dlb_row_release(&row);
    return status;
}

/* Time that is not used here is shared out again among the contests to come. */
static double seconds_per_arm(const struct dlb_contest *contest, int arms)
{
    double left = (contest->deadline_ns - dlb_clock_ns()) * 1e-9;
    return fmin(5, fmax(0.05, left / dlb_max(1, arms)));
}

/* Times all right sides together and writes the rows of the wanted implementations. */
static enum dlb_status measure(struct dlb_contest *contest, struct dlb_error *error)
{
    struct dlb_session *session = contest->session;
    struct dlb_side *sides[] = {&contest->side[DLB_IMPL_NATIVE], &contest->untuned,
                                &contest->twin, &contest->side[DLB_IMPL_ONEDNN],
                                &contest->side[DLB_IMPL_NAIVE]};
    struct dlb_side *arm[DLB_ARMS_MAX];
    struct dlb_plan *plan[DLB_ARMS_MAX];
    struct dlb_measured measured[DLB_ARMS_MAX] = {0};
    struct dlb_ratio ratio[DLB_ARMS_MAX] = {0};
    struct dlb_weather before, after;
    int arms = 0;
    enum dlb_status status = DLB_OK;
    /* A side that was wrong leaves the fill that showed it. */
    dlb_buffers_fill(contest->buffers, DLB_FILL_DENSE, (uint64_t)session->options->seed,
                     contest->pool);
    for (size_t i = 0; i < sizeof sides / sizeof *sides && !status; i++) {
        if (!can_be_timed(sides[i]))
            continue;
        status = time_setup(contest, sides[i], error);
        plan[arms] = sides[i]->plan;
        arm[arms++] = sides[i];
    }
    double seconds = seconds_per_arm(contest, arms);
    struct dlb_gauge gauge = {
        .pool = contest->pool,
        .isa = session->isa,
        .best_probe = contest->station->best_probe,
        .cache_state = session->cache_state,
        .evict_bytes = dlb_session_evict_bytes(session),
        .min_seconds = fmin(0.3, seconds / 2),
        .max_seconds = seconds,
        .min_samples = 21,
        .ci_width = 0.01,
        .seed = (uint64_t)session->options->seed,
    };
    dlb_weather_read(&before);
    if (!status && arms)
        status = dlb_measure(&gauge, plan, arms, measured, ratio, error);
    dlb_weather_read(&after);
    contest->station->best_probe = fmax(contest->station->best_probe, gauge.best_probe);
    for (int i = 0; i < arms && !status; i++)
        status = check_again(contest, arm[i], error);

    const struct dlb_ratio *speedup = NULL;
    double default_median_ns = NAN;
    for (int i = 0; i < arms; i++) {
        if (arm[i]->impl == DLB_IMPL_ONEDNN && arm[0]->impl == DLB_IMPL_NATIVE)
            speedup = &ratio[i];
        if (arm[i]->tuned_from && !strcmp(arm[i]->tuned_from, "default"))
            default_median_ns = measured[i].summary.median;
        if (arm[i] == &contest->twin)
            *dlb_session_twin(session, contest->item, contest->station) = ratio[i];
    }
    /* The default candidate has won, and so is its own yardstick. */
    if (arms && contest->default_won && arm[0] == &contest->side[DLB_IMPL_NATIVE])
        default_median_ns = measured[0].summary.median;
    for (int impl = 0; impl < DLB_IMPLS && !status; impl++) {
        if (!contest->wanted[impl])
            continue;
        const struct dlb_side *side = &contest->side[impl];
        bool native = impl == DLB_IMPL_NATIVE;
        int at = 0;
        while (at < arms && arm[at] != side)
            at++;
        status = write_row(contest, side, at < arms ? &measured[at] : NULL,
                           native ? speedup : NULL, native ? default_median_ns : NAN,
                           &before, &after, error);
    }
    for (int i = 0; i < arms; i++)
        dlb_measured_release(&measured[i]);
    return status;
}

enum dlb_status dlb_contest_run(struct dlb_session *session, const struct dlb_case *item,
                                struct dlb_station *station,
                                const struct dlb_expected *expected,
                                struct dlb_buffers *buffers, struct dlb_error *error)
{
    struct dlb_contest contest = {.session = session,
                                  .item = item,
                                  .station = station,
                                  .expected = expected,
                                  .buffers = buffers,
                                  .deadline_ns = share_out(session, item, station)};
    bool any = false;
    for (int impl = 0; impl < DLB_IMPLS; impl++) {
        contest.side[impl].impl = impl;
        contest.wanted[impl] =
            session->impl[impl] && !dlb_session_find(session, item, station, impl);
        any |= contest.wanted[impl];
    }
    if (!any)
        return DLB_OK;
    enum dlb_status status =
        dlb_pool_open(session->topology, &station->set, &contest.pool, error);
    if (status)
        return status;
    /* A resumed pair is measured whole again, since its ratio needs both sides. */
    if (session->impl[DLB_IMPL_NATIVE])
        status = dlb_contest_native(&contest, error);
    if (!status && dlb_session_stopped(session))
        status = DLB_INTERRUPTED;
    if (!status && session->impl[DLB_IMPL_ONEDNN])
        status = prepare_onednn(&contest, error);
    if (!status && session->impl[DLB_IMPL_NAIVE])
        status = prepare_naive(&contest, error);
    if (!status && session->options->check) {
        for (int impl = 0; impl < DLB_IMPLS && !status; impl++)
            if (contest.wanted[impl])
                status = write_row(&contest, &contest.side[impl], NULL, NULL, NAN, NULL,
                                   NULL, error);
    } else if (!status) {
        status = measure(&contest, error);
    }
    for (int impl = 0; impl < DLB_IMPLS; impl++)
        dlb_plan_release(contest.side[impl].plan);
    dlb_plan_release(contest.untuned.plan);
    dlb_pool_close(contest.pool);
    return status;
}
