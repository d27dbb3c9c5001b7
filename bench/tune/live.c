#include "tune/live.h"

#include "machine/environment.h"
#include "measure/timer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double LONG_NS = 20e6; /* outweighs what lay in the caches before */
static const double MEMORY_SHARE = 0.25;
enum { REPS_MAX = 1 << 24 };

struct held {
    struct dlb_plan *plan; /* NULL when it is not held */
    double ns;             /* of an execution, as last timed; 0 before */
    uint64_t used;         /* when: a count of timings */
};

struct dlb_live {
    struct dlb_live_setup setup;
    struct held *held; /* of each point */
    double bytes, most_bytes;
    uint64_t timings;
    struct dlb_check wrong; /* of the first one */
    int wrong_point;        /* -1: none */
};

enum dlb_status dlb_live_make(const struct dlb_live_setup *setup, struct dlb_live **live,
                              struct dlb_error *error)
{
    struct dlb_live *l = calloc(1, sizeof *l);
    *live = NULL;
    if (l)
        l->held = calloc((size_t)dlb_max(1, setup->space->n), sizeof *l->held);
    if (!l || !l->held) {
        free(l);
        return dlb_fail(error, DLB_NOMEM, "No memory is left for the search.");
    }
    l->setup = *setup;
    l->most_bytes = MEMORY_SHARE * (double)dlb_memory_available();
    l->wrong_point = -1;
    *live = l;
    return DLB_OK;
}

static void let_go(struct dlb_live *live, int point)
{
    struct held *held = &live->held[point];
    if (!held->plan)
        return;
    live->bytes -= (double)held->plan->workspace_bytes;
    dlb_plan_release(held->plan);
    held->plan = NULL;
}

void dlb_live_release(struct dlb_live *live)
{
    if (!live)
        return;
    for (int i = 0; i < live->setup.space->n; i++)
        let_go(live, i);
    free(live->held);
    free(live);
}

/* Plans the point, and lets those go that have not been timed for the longest. */
static enum dlb_status take_hold(struct dlb_live *live, int point,
                                 struct dlb_error *error)
{
    const struct dlb_live_setup *setup = &live->setup;
    struct held *held = &live->held[point];
    enum dlb_status status =
        setup->entry->op->plan(setup->problem, setup->target,
                               &setup->space->candidate[point], &held->plan, error);
    if (status) {
        held->plan = NULL;
        return status;
    }
    held->used = ++live->timings;
    live->bytes += (double)held->plan->workspace_bytes;
    while (live->bytes > live->most_bytes) {
        int oldest = point;
        for (int i = 0; i < setup->space->n; i++)
            if (live->held[i].plan && live->held[i].used < live->held[oldest].used)
                oldest = i;
        if (oldest == point)
            break;
        let_go(live, oldest);
    }
    return DLB_OK;
}

static double clock_ns(void *context)
{
    (void)context;
    return dlb_clock_ns();
}

static enum dlb_status verify(void *context, int point, enum dlb_admission *admission,
                              char reason[DLB_REASON_MAX], struct dlb_error *error)
{
    struct dlb_live *live = context;
    const struct dlb_live_setup *setup = &live->setup;
    struct dlb_check check = {0};
    struct dlb_error why = {0};
    enum dlb_status status = take_hold(live, point, &why);
    if (status == DLB_UNSUPPORTED || status == DLB_NOMEM) {
        *admission = DLB_REFUSED;
        snprintf(reason, DLB_REASON_MAX, "%.255s", why.text);
        return DLB_OK;
    }
    if (status)
        return dlb_fail(error, status, "%s", why.text);
    struct dlb_plan *plan = live->held[point].plan;
    status = setup->determinism ? dlb_verify(setup->expected, setup->buffers, plan,
                                             setup->pool, true, &check, error)
                                : dlb_verify_quick(setup->expected, setup->buffers, plan,
                                                   setup->pool, &check, error);
    if (status)
        return status;
    *admission = check.outcome == DLB_OUTCOME_MISMATCH ? DLB_WRONG : DLB_ADMITTED;
    snprintf(reason, DLB_REASON_MAX, "%s", check.reason);
    if (*admission == DLB_WRONG && live->wrong_point < 0) {
        live->wrong_point = point;
        live->wrong = check;
    }
    return DLB_OK;
}

static enum dlb_status bring_back(struct dlb_live *live, int point,
                                  struct dlb_error *error)
{
    const struct dlb_live_setup *setup = &live->setup;
    enum dlb_status status = take_hold(live, point, error);
    if (!status)
        status = dlb_pool_bind_plan(setup->pool, live->held[point].plan,
                                    setup->buffers->data, error);
    if (!status)
        dlb_pool_run_plan(setup->pool, live->held[point].plan);
    return status;
}

/* Time of so many executions, and of each one in the faster half of them: an interruption
 * meets one half. */
static double time_block(const struct dlb_live *live, struct dlb_plan *plan, int reps,
                         double *each)
{
    double block = 0;
    int half[2] = {reps - reps / 2, reps / 2};
    *each = INFINITY;
    for (int k = 0; k < 2 && half[k]; k++) {
        double start = dlb_clock_ns();
        for (int i = 0; i < half[k]; i++)
            dlb_pool_run_plan(live->setup.pool, plan);
        double time = dlb_clock_ns() - start;
        block += time;
        *each = fmin(*each, time / half[k]);
    }
    return block;
}

static enum dlb_status time_point(void *context, int point, double *ns,
                                  struct dlb_error *error)
{
    struct dlb_live *live = context;
    const struct dlb_live_setup *setup = &live->setup;
    struct held *held = &live->held[point];
    enum dlb_status status = held->plan ? DLB_OK : bring_back(live, point, error);
    if (status)
        return status;
    double each = held->ns, block = 0, reps = 1;
    if (each < LONG_NS) {
        double start = dlb_clock_ns();
        dlb_pool_run_plan(setup->pool, held->plan);
        each = each > 0 ? each : dlb_clock_ns() - start;
    }
    /* As many executions as fill a block, and more when they turn out to be faster. */
    do {
        if (each < setup->block_ns)
            reps =
                fmin(fmax(reps, ceil(1.1 * setup->block_ns / fmax(each, 0.1))), REPS_MAX);
        block = time_block(live, held->plan, (int)reps++, &each);
    } while (block < 0.7 * setup->block_ns && reps < REPS_MAX);
    held->ns = *ns = each;
    held->used = ++live->timings;
    return DLB_OK;
}

static void rest(void *context, int point)
{
    let_go(context, point);
}

struct dlb_timings dlb_live_timings(struct dlb_live *live)
{
    return (struct dlb_timings){live, clock_ns, verify, time_point, rest};
}

const struct dlb_check *dlb_live_first_wrong(const struct dlb_live *live, int *point)
{
    *point = live->wrong_point;
    return live->wrong_point < 0 ? NULL : &live->wrong;
}

double dlb_live_block_ns(double seconds, int candidates)
{
    double even = seconds * 1e9 / (4.0 * (double)dlb_max(1, candidates));
    return fmin(1e6, fmax(4e5, even));
}

enum dlb_status dlb_live_search(const struct dlb_live_search *search,
                                struct dlb_search_result *result,
                                struct dlb_live_wrong *wrong, struct dlb_error *error)
{
    const struct dlb_space *space = search->setup.space;
    const struct dlb_op *op = search->setup.entry->op;
    struct dlb_live_setup setup = search->setup;
    struct dlb_candidate fallback;
    struct dlb_live *live = NULL;
    int point, *order = malloc((size_t)dlb_max(1, space->n) * sizeof *order);
    *result = (struct dlb_search_result){0};
    if (!order)
        return dlb_fail(error, DLB_NOMEM, "No memory is left for the search.");
    op->fallback(setup.problem, setup.target, &fallback);
    int always =
        dlb_space_order(space, op, &fallback, search->seed, search->seeds, order);
    int most = search->seeds_only ? always
               : search->most     ? (int)dlb_max(always, search->most)
                                  : dlb_space_most(space->n);
    if (!(setup.block_ns > 0))
        setup.block_ns = dlb_live_block_ns(search->seconds, (int)dlb_min(most, space->n));
    enum dlb_status status = dlb_live_make(&setup, &live, error);
    if (status)
        goto out;
    struct dlb_timings timings = dlb_live_timings(live);
    struct dlb_search abstract = {.timings = &timings,
                                  .order = order,
                                  .points = space->n,
                                  .most = most,
                                  .always = always,
                                  .seconds = search->seconds,
                                  .stop = search->stop,
                                  .note = search->note,
                                  .context = search->context};
    status = dlb_search_run(&abstract, result, error);
    const struct dlb_check *check = dlb_live_first_wrong(live, &point);
    if (check && wrong)
        *wrong = (struct dlb_live_wrong){space->candidate[point], *check};
out:
    dlb_live_release(live);
    free(order);
    return status;
}
