#include "tune/search.h"

#include "measure/timer.h"

#include <math.h>
#include <stdlib.h>

enum {
    ETA = 4,
    FINALISTS = 6,
    RACE_ROUNDS_MIN = 5,
    RACE_ROUNDS_MAX = 15,
    ALWAYS_TRIED = 6 /* however short the time: the default and the model's best few */
};

static const double tie = 0.01, race_p = 0.05;
static const double first_rung_share =
    0.7; /* of the time; the rest is for the finalists */

/* One candidate that is still in. */
struct runner {
    int position; /* in the space */
    struct dlb_plan *plan;
    double best_ns;
    int samples;
    double round_ns[RACE_ROUNDS_MAX];
};

struct state {
    const struct dlb_search *search;
    struct dlb_search_result *result;
    struct runner *runner;
    int runners;
    int raced; /* rounds that all who are left have run */
    double deadline_ns;
};

static bool stopped(const struct dlb_search *search)
{
    return search->stop && *search->stop;
}

static enum dlb_status note(const struct state *state, int position, const char *outcome,
                            const char *reason, int rung, int samples, double best_ns,
                            struct dlb_error *error)
{
    const struct dlb_search *search = state->search;
    if (!search->note)
        return DLB_OK;
    return search->note(search->context, &search->space->candidate[position], outcome,
                        reason, rung, samples, best_ns, search->space->model_ns[position],
                        error);
}

static void sample(const struct state *state, struct runner *runner, int samples)
{
    double ns =
        dlb_trial_ns(state->search->pool, runner->plan, samples, state->search->block_ns);
    if (!runner->samples || ns < runner->best_ns)
        runner->best_ns = ns;
    runner->samples += samples;
}

static enum dlb_status make_plan(const struct dlb_search *search, int position,
                                 struct dlb_plan **plan, struct dlb_error *error)
{
    return search->entry->op->plan(search->problem, search->target,
                                   &search->space->candidate[position], plan, error);
}

/* Verifies one candidate and takes its first sample.  The plan is released: many plans at
 * once would hold as many copies of the packed weights. */
static enum dlb_status first_try(struct state *state, int position,
                                 struct dlb_error *error)
{
    const struct dlb_search *search = state->search;
    struct dlb_search_result *result = state->result;
    struct dlb_plan *plan = NULL;
    struct dlb_check check = {0};
    struct dlb_error why = {0};
    enum dlb_status status = make_plan(search, position, &plan, &why);
    if (status == DLB_UNSUPPORTED || status == DLB_NOMEM)
        return note(state, position, "refused", why.text, 0, 0, NAN, error);
    if (status)
        return dlb_fail(error, status, "%s", why.text);
    status = search->determinism ? dlb_verify(search->expected, search->buffers, plan,
                                              search->pool, true, &check, error)
                                 : dlb_verify_quick(search->expected, search->buffers,
                                                    plan, search->pool, &check, error);
    if (status)
        goto out;
    result->verified++;
    if (check.outcome == DLB_OUTCOME_MISMATCH) {
        if (!result->mismatched++) {
            result->mismatch = check;
            result->mismatch_candidate = search->space->candidate[position];
        }
        status = note(state, position, "mismatch", check.reason, 0, 0, NAN, error);
        goto out;
    }
    struct runner *runner = &state->runner[state->runners++];
    *runner = (struct runner){.position = position, .plan = plan};
    sample(state, runner, 1);
    runner->plan = NULL;
    result->timed++;
    status = note(state, position, "timed", "", 0, 1, runner->best_ns, error);
out:
    dlb_plan_release(plan);
    return status;
}

static int by_time(const void *a, const void *b)
{
    const struct runner *x = a, *y = b;
    if (x->best_ns != y->best_ns)
        return x->best_ns < y->best_ns ? -1 : 1;
    return (x->position > y->position) - (x->position < y->position);
}

static void keep(struct state *state, int n)
{
    qsort(state->runner, (size_t)state->runners, sizeof *state->runner, by_time);
    while (state->runners > n) {
        struct runner *last = &state->runner[--state->runners];
        dlb_plan_release(last->plan);
        last->plan = NULL;
    }
}

/* Moves order[from] up to order[to]; what lay between moves down. */
static void promote(int *order, int from, int to)
{
    int position = order[from];
    for (; from > to; from--)
        order[from] = order[from - 1];
    order[to] = position;
}

/*
 * The order of trying: the default, so that there is always a result; then the model's
 * best of each algorithm, since the model errs most between algorithms; then the model's
 * order.
 */
static void trying_order(const struct dlb_search *search, int *order)
{
    const struct dlb_space *space = search->space;
    const struct dlb_op *op = search->entry->op;
    struct dlb_candidate fallback;
    int first = 0;
    dlb_space_rank(space, order);
    op->fallback(search->problem, search->target, &fallback);
    int position = dlb_space_find(space, &fallback);
    for (int i = 0; i < space->n && position >= 0; i++)
        if (order[i] == position)
            promote(order, i, first++);
    for (int algorithm = 0; algorithm < op->algorithms_n; algorithm++)
        for (int i = first; i < space->n; i++)
            if (space->candidate[order[i]].algorithm == algorithm) {
                promote(order, i, first++);
                break;
            }
}

static enum dlb_status first_rung(struct state *state, struct dlb_error *error)
{
    const struct dlb_search *search = state->search;
    int n = search->space->n;
    double start = dlb_clock_ns();
    double limit = start + first_rung_share * search->seconds * 1e9;
    enum dlb_status status = DLB_OK;
    int *order = malloc((size_t)n * sizeof *order);
    if (!order)
        return dlb_fail(error, DLB_NOMEM, "No memory is left for the search.");
    trying_order(search, order);
    for (int i = 0; i < n && !status; i++) {
        bool late = i >= DLB_SEARCH_CANDIDATES_MAX ||
                    (i >= ALWAYS_TRIED && dlb_clock_ns() > limit);
        if (late || (i > 0 && stopped(search))) {
            state->result->left_out++;
            status = note(state, order[i], "pruned",
                          late ? "ranked low by the model, and the time was used up"
                               : "interrupted",
                          0, 0, NAN, error);
        } else {
            status = first_try(state, order[i], error);
        }
    }
    free(order);
    return status;
}

/* Plans the survivors again and leaves them bound to the filled buffers. */
static enum dlb_status revive(struct state *state, struct dlb_error *error)
{
    const struct dlb_search *search = state->search;
    for (int i = 0; i < state->runners; i++) {
        struct runner *runner = &state->runner[i];
        if (runner->plan)
            continue;
        enum dlb_status status =
            make_plan(search, runner->position, &runner->plan, error);
        if (!status)
            status = dlb_pool_bind_plan(search->pool, runner->plan, search->buffers->data,
                                        error);
        if (status)
            return status;
        dlb_pool_run_plan(search->pool, runner->plan);
    }
    return DLB_OK;
}

static enum dlb_status halve(struct state *state, struct dlb_error *error)
{
    int samples = 1;
    for (int rung = 1; state->runners > FINALISTS; rung++) {
        keep(state, (int)dlb_max(FINALISTS, state->runners / ETA));
        enum dlb_status status = revive(state, error);
        if (status)
            return status;
        samples *= 2;
        for (int s = 0; s < samples && !stopped(state->search); s++)
            for (int i = 0; i < state->runners; i++)
                sample(state, &state->runner[i], 1);
        for (int i = 0; i < state->runners && !status; i++)
            status = note(state, state->runner[i].position, "timed", "", rung,
                          state->runner[i].samples, state->runner[i].best_ns, error);
        if (status)
            return status;
    }
    return DLB_OK;
}

/* True when runner lost to best in so many rounds, by more than the tie, that chance does
 * not explain it. */
static bool beaten(const struct runner *runner, const struct runner *best, int rounds)
{
    int lost = 0;
    for (int r = 0; r < rounds; r++)
        lost += runner->round_ns[r] > best->round_ns[r] * (1 + tie);
    return 2 * lost > rounds && dlb_sign_test(lost, rounds) < race_p;
}

static struct runner *leader(struct state *state)
{
    struct runner *best = &state->runner[0];
    for (int i = 1; i < state->runners; i++)
        if (state->runner[i].best_ns < best->best_ns)
            best = &state->runner[i];
    return best;
}

/* The middle of the race, since a minimum can be luck with where the caches put things. */
static double typical_ns(const struct state *state, const struct runner *runner)
{
    return state->raced ? dlb_quantile(runner->round_ns, state->raced, 0.5)
                        : runner->best_ns;
}

static enum dlb_status race(struct state *state, struct dlb_error *error)
{
    keep(state, FINALISTS);
    enum dlb_status status = revive(state, error);
    if (status)
        return status;
    for (int round = 0; round < RACE_ROUNDS_MAX && state->runners > 1; round++) {
        if (stopped(state->search) ||
            (round >= RACE_ROUNDS_MIN && dlb_clock_ns() > state->deadline_ns))
            break;
        for (int k = 0; k < state->runners; k++) {
            /* Alternate directions, so that a drift within the round favours nobody. */
            int i = round % 2 ? state->runners - 1 - k : k;
            struct runner *runner = &state->runner[i];
            double ns = dlb_trial_ns(state->search->pool, runner->plan, 1,
                                     state->search->block_ns);
            runner->round_ns[round] = ns;
            runner->best_ns = fmin(runner->best_ns, ns);
            runner->samples++;
        }
        state->raced = round + 1;
        if (round + 1 < RACE_ROUNDS_MIN)
            continue;
        int best_position = leader(state)->position;
        for (int i = state->runners - 1; i >= 0; i--) {
            struct runner *best = leader(state);
            if (state->runner[i].position == best_position ||
                !beaten(&state->runner[i], best, round + 1))
                continue;
            dlb_plan_release(state->runner[i].plan);
            state->runner[i] = state->runner[--state->runners];
        }
    }
    for (int i = 0; i < state->runners && !status; i++)
        status = note(state, state->runner[i].position, "finalist", "", -1,
                      state->runner[i].samples, state->runner[i].best_ns, error);
    return status;
}

enum dlb_status dlb_search_run(const struct dlb_search *search,
                               struct dlb_search_result *result, struct dlb_error *error)
{
    *result = (struct dlb_search_result){0};
    struct state state = {
        .search = search,
        .result = result,
        .deadline_ns = dlb_clock_ns() + search->seconds * 1e9,
        .runner = calloc((size_t)dlb_max(1, search->space->n), sizeof *state.runner),
    };
    enum dlb_status status;
    if (!state.runner)
        return dlb_fail(error, DLB_NOMEM, "No memory is left for the search.");
    status = first_rung(&state, error);
    if (status || !state.runners)
        goto out;
    status = halve(&state, error);
    if (!status)
        status = race(&state, error);
    if (status)
        goto out;
    double best_ns = INFINITY;
    for (int i = 0; i < state.runners; i++)
        best_ns = fmin(best_ns, typical_ns(&state, &state.runner[i]));
    struct runner *winner = NULL;
    for (int i = 0; i < state.runners; i++) {
        struct runner *runner = &state.runner[i];
        if (typical_ns(&state, runner) <= best_ns * (1 + tie) &&
            (!winner || runner->position < winner->position))
            winner = runner;
    }
    result->found = true;
    result->winner = search->space->candidate[winner->position];
    result->best_ns = winner->best_ns;
out:
    for (int i = 0; i < state.runners; i++)
        dlb_plan_release(state.runner[i].plan);
    free(state.runner);
    return status;
}
