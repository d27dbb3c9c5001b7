#include "wrong_plans.h"

#include "ops/conv.h"
#include "reference.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RUNS_OF_TIMING = 5 };

struct wrong_plan {
    struct dlb_plan plan;
    struct dlb_plan *right;
    void (*spoil)(struct wrong_plan *wrong,
                  int team_size); /* after each run, by rank 0 */
    bool drop_tap;
    int tensors;
    struct dlb_tensor dst, weights;
    float *out;     /* the caller's dst */
    float *before;  /* what it held before the run */
    float *thinned; /* weights without their last tap */
    int runs;
};

static enum dlb_status wrong_bind(struct dlb_plan *plan, void *const *tensor,
                                  const struct dlb_team *team, struct dlb_error *error)
{
    struct wrong_plan *wrong = (struct wrong_plan *)plan;
    void *operands[DLB_TENSORS_MAX];
    memcpy(operands, tensor, sizeof(void *) * (size_t)wrong->tensors);
    if (team->rank == 0) {
        int64_t taps = wrong->weights.dim[3] * wrong->weights.dim[4];
        int64_t n = dlb_tensor_elements(&wrong->weights);
        memcpy(wrong->thinned, tensor[DLB_CONV_WEIGHTS], (size_t)n * sizeof(float));
        for (int64_t i = taps - 1; i < n; i += taps)
            wrong->thinned[i] = 0;
        wrong->out = tensor[DLB_CONV_DST];
    }
    dlb_team_barrier(team);
    if (wrong->drop_tap)
        operands[DLB_CONV_WEIGHTS] = wrong->thinned;
    return wrong->right->class->bind(wrong->right, operands, team, error);
}

static void wrong_run(struct dlb_plan *plan, const struct dlb_team *team)
{
    struct wrong_plan *wrong = (struct wrong_plan *)plan;
    size_t bytes = (size_t)dlb_tensor_elements(&wrong->dst) * sizeof(float);
    if (team->rank == 0)
        memcpy(wrong->before, wrong->out, bytes);
    dlb_team_barrier(team);
    wrong->right->class->run(wrong->right, team);
    dlb_team_barrier(team);
    if (team->rank == 0) {
        wrong->runs++;
        if (wrong->spoil)
            wrong->spoil(wrong, team->size);
    }
}

static enum dlb_status wrong_fetch(struct dlb_plan *plan, const struct dlb_team *team,
                                   struct dlb_error *error)
{
    struct wrong_plan *wrong = (struct wrong_plan *)plan;
    return wrong->right->class->fetch(wrong->right, team, error);
}

static void wrong_release(struct dlb_plan *plan)
{
    struct wrong_plan *wrong = (struct wrong_plan *)plan;
    dlb_plan_release(wrong->right);
    free(wrong->before);
    free(wrong->thinned);
    free(wrong);
}

static const struct dlb_plan_class wrong_class = {
    .impl = "native",
    .spmd = true,
    .bind = wrong_bind,
    .run = wrong_run,
    .fetch = wrong_fetch,
    .release = wrong_release,
};

static enum dlb_status make(const struct dlb_problem *problem,
                            const struct dlb_target *target,
                            void (*spoil)(struct wrong_plan *, int), bool drop_tap,
                            struct dlb_plan **plan, struct dlb_error *error)
{
    struct dlb_tensor tensor[DLB_TENSORS_MAX];
    struct wrong_plan *wrong = calloc(1, sizeof *wrong);
    if (!wrong)
        return dlb_fail(error, DLB_NOMEM, "No memory for a wrong plan.");
    wrong->tensors = dlb_op_conv.tensors(problem, tensor);
    wrong->plan.class = &wrong_class;
    wrong->plan.threads = target->threads;
    snprintf(wrong->plan.algorithm, sizeof wrong->plan.algorithm, "wrong");
    wrong->spoil = spoil;
    wrong->drop_tap = drop_tap;
    wrong->dst = tensor[DLB_CONV_DST];
    wrong->weights = tensor[DLB_CONV_WEIGHTS];
    wrong->before = malloc((size_t)dlb_tensor_elements(&wrong->dst) * sizeof(float));
    wrong->thinned = malloc((size_t)dlb_tensor_elements(&wrong->weights) * sizeof(float));
    enum dlb_status status =
        wrong->before && wrong->thinned
            ? dlb_reference_conv.naive(problem, target->threads, &wrong->right, error)
            : dlb_fail(error, DLB_NOMEM, "No memory for a wrong plan.");
    if (status)
        wrong_release(&wrong->plan);
    else
        *plan = &wrong->plan;
    return status;
}

static int64_t elements(const struct wrong_plan *wrong)
{
    return dlb_tensor_elements(&wrong->dst);
}

/* The last column of each line is taken from the one before it. */
static void spoil_edge(struct wrong_plan *wrong, int team_size)
{
    (void)team_size;
    int64_t width = wrong->dst.dim[2], channels = wrong->dst.dim[3];
    for (int64_t i = (width - 1) * channels; width > 1 && i < elements(wrong);
         i += width * channels)
        memcpy(wrong->out + i, wrong->out + i - channels,
               (size_t)channels * sizeof(float));
}

/* Adds to what it finds, but starts well where it finds nothing. */
static void spoil_stale(struct wrong_plan *wrong, int team_size)
{
    (void)team_size;
    for (int64_t i = 0; i < elements(wrong); i++)
        if (!isnan(wrong->before[i]))
            wrong->out[i] += wrong->before[i];
}

static void spoil_past_end(struct wrong_plan *wrong, int team_size)
{
    (void)team_size;
    memcpy(wrong->out + elements(wrong), wrong->out, sizeof(float));
}

static void spoil_before_start(struct wrong_plan *wrong, int team_size)
{
    (void)team_size;
    memcpy(wrong->out - 1, wrong->out, sizeof(float));
}

static void spoil_by_threads(struct wrong_plan *wrong, int team_size)
{
    if (team_size > 1)
        wrong->out[elements(wrong) / 2] += 1;
}

/* As if a sum were taken in another order each time: right, but never the same. */
static void spoil_order(struct wrong_plan *wrong, int team_size)
{
    int64_t i = elements(wrong) / 2;
    while (i < elements(wrong) - 1 && wrong->out[i] == rintf(wrong->out[i]))
        i++;
    if (team_size > 1 && wrong->runs % 2 && wrong->out[i] != rintf(wrong->out[i]))
        wrong->out[i] = nextafterf(wrong->out[i], 0);
}

static void spoil_late(struct wrong_plan *wrong, int team_size)
{
    (void)team_size;
    if (wrong->runs > RUNS_OF_TIMING)
        wrong->out[0] += 1;
}

static void spoil_unwritten(struct wrong_plan *wrong, int team_size)
{
    (void)team_size;
    wrong->out[elements(wrong) - 1] = wrong->before[elements(wrong) - 1];
}

static void spoil_nan(struct wrong_plan *wrong, int team_size)
{
    (void)team_size;
    wrong->out[elements(wrong) / 3] = NAN;
}

/* In the first element that is not 0. */
static void spoil_slightly(struct wrong_plan *wrong, int team_size)
{
    (void)team_size;
    int64_t i = elements(wrong) / 3;
    while (i < elements(wrong) - 1 && wrong->out[i] == 0)
        i++;
    wrong->out[i] *= 1.001f;
}

#define PLAN(name, spoil, drop_tap)                                                      \
    static enum dlb_status name(const struct dlb_problem *problem,                       \
                                const struct dlb_target *target,                         \
                                const struct dlb_candidate *candidate,                   \
                                struct dlb_plan **plan, struct dlb_error *error)         \
    {                                                                                    \
        (void)candidate;                                                                 \
        return make(problem, target, spoil, drop_tap, plan, error);                      \
    }

PLAN(plan_right, NULL, false)
PLAN(plan_tap, NULL, true)
PLAN(plan_edge, spoil_edge, false)
PLAN(plan_stale, spoil_stale, false)
PLAN(plan_past_end, spoil_past_end, false)
PLAN(plan_before_start, spoil_before_start, false)
PLAN(plan_by_threads, spoil_by_threads, false)
PLAN(plan_order, spoil_order, false)
PLAN(plan_late, spoil_late, false)
PLAN(plan_unwritten, spoil_unwritten, false)
PLAN(plan_nan, spoil_nan, false)
PLAN(plan_slightly, spoil_slightly, false)

const struct dlb_wrong_plan dlb_right_plan = {"right", DLB_WRONG_AT_ONCE, "", plan_right};

const struct dlb_wrong_plan dlb_wrong_plans[] = {
    {"missing tap", DLB_WRONG_AT_ONCE, "dst[", plan_tap},
    {"off by one at an edge", DLB_WRONG_AT_ONCE, "dst[", plan_edge},
    {"stale accumulator", DLB_WRONG_REPEATED, "dst[", plan_stale},
    {"write past the end", DLB_WRONG_AT_ONCE, "past the end of dst by 4 bytes",
     plan_past_end},
    {"write before the start", DLB_WRONG_AT_ONCE, "before the start of dst by 4 bytes",
     plan_before_start},
    {"depends on the thread count", DLB_WRONG_SEVERAL, "dst[", plan_by_threads},
    {"depends on the order of threads", DLB_WRONG_SEVERAL, "not deterministic",
     plan_order},
    {"goes wrong after some runs", DLB_WRONG_AFTER_TIMING, "dst[0,0,0,0]", plan_late},
    {"one element unwritten", DLB_WRONG_AT_ONCE, "is NaN", plan_unwritten},
    {"one element NaN", DLB_WRONG_AT_ONCE, "is NaN", plan_nan},
    {"one element wrong by a thousandth", DLB_WRONG_AT_ONCE, "(1 of", plan_slightly},
};
const int dlb_wrong_plans_n = sizeof dlb_wrong_plans / sizeof *dlb_wrong_plans;
