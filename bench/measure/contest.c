/*
 * One problem on one thread set: candidates, search, verification, the paired
 * measurement, rows.
 */
#include "measure/session_internal.h"

#include "measure/timer.h"
#include "tune/live.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One side of the measurement. */
struct side {
    enum dlb_impl impl;
    struct dlb_plan *plan;
    struct dlb_candidate candidate; /* native only */
    const char *tuned_from;         /* native only */
    struct dlb_check check;
    bool checked;
    enum dlb_outcome outcome;
    char reason[1024];
    double setup_ns;
};

struct contest {
    struct dlb_session *session;
    const struct dlb_case *item;
    struct dlb_station *station;
    const struct dlb_expected *expected;
    struct dlb_buffers *buffers;
    struct dlb_pool *pool;
    double deadline_ns; /* INFINITY without a budget */
    bool wanted[DLB_IMPLS];
    struct side side[DLB_IMPLS]; /* by implementation */
    struct side untuned;         /* the default candidate beside a tuned winner */
    bool default_won;            /* the search found nothing better than it */
    struct side twin;            /* --aa: the native side once more; shares its plan */
};

static void repro_line(const struct contest *contest, const struct side *side, char *line,
                       size_t room)
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

static void condemn(struct contest *contest, struct side *side)
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

static void dismiss(struct side *side, enum dlb_outcome outcome, const char *reason)
{
    dlb_plan_release(side->plan);
    side->plan = NULL;
    side->outcome = outcome;
    snprintf(side->reason, sizeof side->reason, "%s", reason);
}

static enum dlb_status verify_side(struct contest *contest, struct side *side,
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
        condemn(contest, side);
    return DLB_OK;
}

/* A search, and whom it tells what became of its points. */
struct hunt {
    struct contest *contest;
    const struct dlb_space *space;
};

static enum dlb_status note_trial(void *context, const struct dlb_fate *fate,
                                  struct dlb_error *error)
{
    const struct hunt *hunt = context;
    const struct contest *contest = hunt->contest;
    const struct dlb_op *op = contest->item->entry->op;
    const struct dlb_problem *problem = &contest->item->problem;
    char shape[DLB_SHAPE_MAX], tiles[DLB_SHAPE_MAX];
    if (!contest->session->run)
        return DLB_OK;
    dlb_descriptor_format(op, problem, shape);
    dlb_candidate_format(op, &hunt->space->candidate[fate->point], tiles);
    struct dlb_trial trial = {
        .op = op->name,
        .pass = dlb_pass_names[problem->pass],
        .shape = shape,
        .thread_set = contest->station->set.name,
        .candidate = tiles,
        .outcome = fate->outcome,
        .reason = fate->reason,
        .rung = fate->rung,
        .samples = fate->samples,
        .best_ns = fate->best_ns,
        .model_ns = hunt->space->model_ns[fate->point],
    };
    return dlb_run_trial(contest->session->run, &trial, error);
}

/* What the search may take of the contest's time: half of what measuring leaves. */
static double search_seconds(const struct contest *contest)
{
    double left = (contest->deadline_ns - dlb_clock_ns()) * 1e-9;
    double fixed =
        dlb_session_fixed_seconds(contest->session, contest->item, contest->station);
    return fmax(0.1, fmax(left - fixed, left / 2) / 2);
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

/* --check --sweep: every legal candidate is verified, none is timed. */
static enum dlb_status check_space(struct contest *contest, const struct dlb_space *space,
                                   struct dlb_error *error)
{
    struct dlb_session *session = contest->session;
    struct side *side = &contest->side[DLB_IMPL_NATIVE];
    enum dlb_status status = DLB_OK;
    for (int i = 0; i < space->n && !status && !dlb_session_stopped(session); i++) {
        struct dlb_error why = {0};
        side->candidate = space->candidate[i];
        dlb_plan_release(side->plan);
        side->plan = NULL;
        if (contest->item->entry->op->plan(&contest->item->problem,
                                           &contest->station->target, &side->candidate,
                                           &side->plan, &why))
            continue;
        status = verify_side(contest, side, error);
        session->candidates_tried++;
        if (side->outcome == DLB_OUTCOME_MISMATCH)
            return status;
    }
    return status;
}

/* Searches the space; *result, and the check of the first mismatch with its candidate. */
static enum dlb_status search_space(struct contest *contest,
                                    const struct dlb_space *space,
                                    struct dlb_search_result *result, struct side *wrong,
                                    struct dlb_error *error)
{
    const struct dlb_operator *entry = contest->item->entry;
    struct hunt hunt = {contest, space};
    struct dlb_search search = {
        .points = space->n,
        .most = dlb_space_most(space->n),
        .seconds = search_seconds(contest),
        .stop = contest->session->io.stop,
        .note = note_trial,
        .context = &hunt,
    };
    struct dlb_live_setup setup = {
        .entry = entry,
        .problem = &contest->item->problem,
        .target = &contest->station->target,
        .space = space,
        .expected = contest->expected,
        .buffers = contest->buffers,
        .pool = contest->pool,
        .block_ns = dlb_live_block_ns(search.seconds, search.most),
        .determinism = contest->session->options->check_determinism,
    };
    struct dlb_candidate fallback;
    struct dlb_live *live = NULL;
    int *order = malloc((size_t)space->n * sizeof *order), point;
    if (!order)
        return dlb_fail(error, DLB_NOMEM, "No memory is left for the search.");
    enum dlb_status status = dlb_live_make(&setup, &live, error);
    if (status)
        goto out;
    entry->op->fallback(setup.problem, setup.target, &fallback);
    search.always = dlb_space_order(space, entry->op, &fallback, NULL, 0, order);
    search.order = order;
    struct dlb_timings timings = dlb_live_timings(live);
    search.timings = &timings;
    status = dlb_search_run(&search, result, error);
    const struct dlb_check *mismatch = dlb_live_mismatch(live, &point);
    if (mismatch) {
        wrong->check = *mismatch;
        wrong->candidate = space->candidate[point];
    }
out:
    dlb_live_release(live);
    free(order);
    return status;
}

/* Chooses the native candidate; side->plan stays NULL unless it is to be verified next.
 */
static enum dlb_status choose(struct contest *contest, const struct dlb_space *space,
                              struct dlb_error *error)
{
    struct dlb_session *session = contest->session;
    const struct dlb_op *op = contest->item->entry->op;
    struct side *side = &contest->side[DLB_IMPL_NATIVE];
    struct side wrong = {.impl = DLB_IMPL_NATIVE};
    struct dlb_search_result result;
    op->fallback(&contest->item->problem, &contest->station->target, &side->candidate);
    side->tuned_from = "default";
    if (!session->options->sweep || !space->n)
        return DLB_OK;
    enum dlb_status status = search_space(contest, space, &result, &wrong, error);
    if (status)
        return status;
    session->candidates_tried += result.timed;
    if (result.mismatched) {
        condemn(contest, &wrong);
        session->mismatches += result.mismatched - 1;
        if (!result.found) {
            wrong.checked = true;
            wrong.tuned_from = "search";
            *side = wrong;
        }
    }
    if (result.found) {
        side->candidate = space->candidate[result.best[0]];
        side->tuned_from = "search";
    }
    return DLB_OK;
}

/* Plans side->candidate and verifies it; a plan that cannot be made is an outcome. */
static enum dlb_status ready_native(struct contest *contest, struct side *side,
                                    struct dlb_error *error)
{
    struct dlb_error why = {0};
    enum dlb_status status =
        contest->item->entry->op->plan(&contest->item->problem, &contest->station->target,
                                       &side->candidate, &side->plan, &why);
    if (status == DLB_UNSUPPORTED) {
        dismiss(side, DLB_OUTCOME_UNSUPPORTED, why.text);
        return DLB_OK;
    }
    if (status == DLB_NOMEM) {
        dismiss(side, DLB_OUTCOME_SKIPPED, why.text);
        return DLB_OK;
    }
    if (status)
        return dlb_fail(error, status, "%s", why.text);
    return verify_side(contest, side, error);
}

static enum dlb_status prepare_native(struct contest *contest, struct dlb_error *error)
{
    struct dlb_session *session = contest->session;
    const struct dlb_options *options = session->options;
    const struct dlb_op *op = contest->item->entry->op;
    struct side *side = &contest->side[DLB_IMPL_NATIVE];
    struct dlb_space space = {0};
    enum dlb_status status = DLB_OK;
    if (options->candidate) {
        status = dlb_candidate_parse(op, options->candidate, &side->candidate, error);
        side->tuned_from = "option";
        if (status)
            return status;
        const char *refused = op->refuse(&contest->item->problem,
                                         &contest->station->target, &side->candidate);
        if (refused) {
            dismiss(side, DLB_OUTCOME_UNSUPPORTED, refused);
            return DLB_OK;
        }
        return ready_native(contest, side, error);
    }
    if (options->sweep)
        status = dlb_space_make(op, &contest->item->problem, &contest->station->target,
                                &contest->station->rates, &space, error);
    if (!status && options->check && options->sweep) {
        side->tuned_from = "default";
        status = check_space(contest, &space, error);
    } else if (!status) {
        status = choose(contest, &space, error);
        if (!status && side->outcome != DLB_OUTCOME_MISMATCH)
            status = ready_native(contest, side, error);
    }
    dlb_space_release(&space);
    if (!status && options->aa && side->outcome == DLB_OUTCOME_OK) {
        /* The same plan, since another one lies elsewhere in memory: a real difference.
         */
        contest->twin = *side;
        contest->twin.tuned_from = "twin";
        return DLB_OK;
    }
    if (status || side->outcome != DLB_OUTCOME_OK || options->check || !options->sweep)
        return status;
    struct side *untuned = &contest->untuned;
    op->fallback(&contest->item->problem, &contest->station->target, &untuned->candidate);
    contest->default_won = dlb_candidate_same(&untuned->candidate, &side->candidate);
    if (contest->default_won)
        return DLB_OK;
    untuned->tuned_from = "default";
    return ready_native(contest, untuned, error);
}

/* The fastest of oneDNN's formulations. */
static enum dlb_status prepare_onednn(struct contest *contest, struct dlb_error *error)
{
    struct side *best = &contest->side[DLB_IMPL_ONEDNN];
    const struct dlb_reference *reference = contest->item->entry->reference;
    double best_ns = INFINITY;
    enum dlb_status status = DLB_OK;
    for (int formulation = 0; !status; formulation++) {
        struct side trial = {.impl = DLB_IMPL_ONEDNN};
        struct dlb_error why = {0};
        enum dlb_status made = reference->onednn(
            &contest->item->problem, contest->session->isa, contest->station->set.threads,
            formulation, &trial.plan, &why);
        if (made == DLB_UNSUPPORTED) {
            if (formulation == 0)
                dismiss(best, DLB_OUTCOME_UNSUPPORTED, why.text);
            return DLB_OK;
        }
        if (made)
            return dlb_fail(error, made, "%s", why.text);
        status = verify_side(contest, &trial, error);
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

static enum dlb_status prepare_naive(struct contest *contest, struct dlb_error *error)
{
    struct side *side = &contest->side[DLB_IMPL_NAIVE];
    enum dlb_status status = contest->item->entry->reference->naive(
        &contest->item->problem, contest->station->set.threads, &side->plan, error);
    return status ? status : verify_side(contest, side, error);
}

static bool can_be_timed(const struct side *side)
{
    return side->plan && side->outcome != DLB_OUTCOME_MISMATCH;
}

static enum dlb_status time_setup(struct contest *contest, struct side *side,
                                  struct dlb_error *error)
{
    double start = dlb_clock_ns();
    enum dlb_status status =
        dlb_pool_bind_plan(contest->pool, side->plan, contest->buffers->data, error);
    side->setup_ns = dlb_clock_ns() - start;
    return status;
}

static enum dlb_status check_again(struct contest *contest, struct side *side,
                                   struct dlb_error *error)
{
    struct dlb_check check = {0};
    /* The arms write to the same outputs: what lies there is the last one's. */
    dlb_pool_run_plan(contest->pool, side->plan);
    enum dlb_status status = dlb_verify_again(contest->expected, contest->buffers,
                                              side->plan, contest->pool, &check, error);
    if (!status && check.outcome == DLB_OUTCOME_MISMATCH) {
        side->check = check;
        condemn(contest, side);
    }
    return status;
}

static enum dlb_status write_row(struct contest *contest, const struct side *side,
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
static double seconds_per_arm(const struct contest *contest, int arms)
{
    double left = (contest->deadline_ns - dlb_clock_ns()) * 1e-9;
    return fmin(5, fmax(0.05, left / dlb_max(1, arms)));
}

/* Times all right sides together and writes the rows of the wanted implementations. */
static enum dlb_status measure(struct contest *contest, struct dlb_error *error)
{
    struct dlb_session *session = contest->session;
    struct side *sides[] = {&contest->side[DLB_IMPL_NATIVE], &contest->untuned,
                            &contest->twin, &contest->side[DLB_IMPL_ONEDNN],
                            &contest->side[DLB_IMPL_NAIVE]};
    struct side *arm[DLB_ARMS_MAX];
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
        const struct side *side = &contest->side[impl];
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
    struct contest contest = {.session = session,
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
        status = prepare_native(&contest, error);
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
