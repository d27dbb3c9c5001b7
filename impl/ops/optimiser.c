/*
 * Optimisers: dims, counts, search space and plan of sgd and adam; formulas in
 * ops/optimiser.h, kernels in optimiser_kernels.c.
 *
 * Work items and barriers   each thread takes its share of the elements, in whole cache
 *                           lines; no barrier
 * Scratch   none
 * flops     sgd 4 an element, 2 less without momentum, 2 more with decay; adam 13, 2 more
 *           with decay, a root and a quotient counted as 1
 * bytes     each operand once
 */
#include "ops/optimiser.h"

#include "core/dispatch.h"
#include "ops/optimiser_kernels.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

DLB_ISA_TABLE(struct dlb_optimiser_kernels, dlb_optimiser);

const struct dlb_optimiser_kernels *dlb_optimiser_kernels(enum dlb_isa isa)
{
    return dlb_isa_usable(isa) ? dlb_optimiser_by_isa[isa] : NULL;
}

enum { LINE = DLB_CACHE_LINE / sizeof(float) };

static const struct dlb_dim_def sgd_dims[DLB_SGD_DIMS] = {
    [DLB_SGD_N] = {"n", 1, INT64_C(1) << 40, DLB_DIM_UNSET, "parameters", NULL},
    [DLB_SGD_USES_MOMENTUM] = {"momentum", 0, 1, 1, "1 keeps a velocity", NULL},
    [DLB_SGD_USES_DECAY] = {"decay", 0, 1, 0, "1 adds weight decay to the gradient",
                            NULL},
};
static const struct dlb_dim_def adam_dims[DLB_ADAM_DIMS] = {
    [DLB_ADAM_N] = {"n", 1, INT64_C(1) << 40, DLB_DIM_UNSET, "parameters", NULL},
    [DLB_ADAM_T] = {"t", 1, 1 << 24, 1, "number of the step, from 1", NULL},
    [DLB_ADAM_USES_DECAY] = {"decay", 0, 1, 0, "1 decays weights apart from the gradient",
                             NULL},
};

static const char *const algorithms[] = {"vectors"};
enum { TILE_STREAM, TILES };
enum { STREAM_OFF = 1, STREAM_ON };
static const char *const streams[] = {"cached", "stream", NULL};
static const struct dlb_tile_def tiles[TILES] = {
    [TILE_STREAM] = {"stream", streams, "stores through or past the caches"},
};

static enum dlb_status complete(const struct dlb_op *op, struct dlb_problem *problem,
                                struct dlb_error *error)
{
    enum dlb_status status = dlb_op_check_ranges(op, problem, error);
    if (status)
        return status;
    for (int i = 0; i < op->dims_n; i++)
        if (problem->dim[i] == DLB_DIM_UNSET)
            problem->dim[i] = op->dims[i].fallback;
    if (problem->dim[0] == DLB_DIM_UNSET)
        return dlb_fail(error, DLB_INVALID,
                        "The number of parameters 'n' is missing; write for example "
                        "n1000000.");
    return dlb_op_check_elements(op, problem, error);
}

static enum dlb_status sgd_complete(struct dlb_problem *problem, struct dlb_error *error)
{
    return complete(&dlb_op_sgd, problem, error);
}

static enum dlb_status adam_complete(struct dlb_problem *problem, struct dlb_error *error)
{
    return complete(&dlb_op_adam, problem, error);
}

static bool sgd_dim_needed(const struct dlb_problem *problem, int dim)
{
    return problem->dim[dim] != sgd_dims[dim].fallback;
}

static bool adam_dim_needed(const struct dlb_problem *problem, int dim)
{
    return problem->dim[dim] != adam_dims[dim].fallback;
}

static double sgd_flops(const struct dlb_problem *problem)
{
    const int64_t *d = problem->dim;
    return (double)d[DLB_SGD_N] *
           (double)(2 + 2 * d[DLB_SGD_USES_MOMENTUM] + 2 * d[DLB_SGD_USES_DECAY]);
}

static double adam_flops(const struct dlb_problem *problem)
{
    const int64_t *d = problem->dim;
    return (double)d[DLB_ADAM_N] * (double)(13 + 2 * d[DLB_ADAM_USES_DECAY]);
}

struct operand {
    const char *name;
    enum dlb_role role;
    bool present;
    float low, high;
};

static int tensors(const struct operand *operands, int n, int64_t elements,
                   struct dlb_tensor *tensor)
{
    for (int t = 0; t < n; t++)
        tensor[t] = (struct dlb_tensor){.name = operands[t].name,
                                        .layout = "x",
                                        .role = operands[t].role,
                                        .rank = 1,
                                        .dim = {operands[t].present ? elements : 0},
                                        .low = operands[t].low,
                                        .high = operands[t].high};
    return n;
}

static int sgd_tensors(const struct dlb_problem *problem, struct dlb_tensor *tensor)
{
    const bool momentum = problem->dim[DLB_SGD_USES_MOMENTUM];
    const struct operand operands[DLB_SGD_TENSORS] = {
        [DLB_SGD_PARAM] = {"param", DLB_PARAMETER, true, 0, 0},
        [DLB_SGD_GRAD] = {"grad", DLB_INPUT, true, 0, 0},
        [DLB_SGD_VELOCITY] = {"velocity", DLB_INPUT, momentum, 0, 0},
        [DLB_SGD_NEW_PARAM] = {"new_param", DLB_OUTPUT, true, 0, 0},
        [DLB_SGD_NEW_VELOCITY] = {"new_velocity", DLB_OUTPUT, momentum, 0, 0},
    };
    return tensors(operands, DLB_SGD_TENSORS, problem->dim[DLB_SGD_N], tensor);
}

static int adam_tensors(const struct dlb_problem *problem, struct dlb_tensor *tensor)
{
    static const struct operand operands[DLB_ADAM_TENSORS] = {
        [DLB_ADAM_PARAM] = {"param", DLB_PARAMETER, true, 0, 0},
        [DLB_ADAM_GRAD] = {"grad", DLB_INPUT, true, 0, 0},
        [DLB_ADAM_MEAN] = {"mean", DLB_INPUT, true, 0, 0},
        [DLB_ADAM_SQUARE] = {"square", DLB_INPUT, true, 0, 1},
        [DLB_ADAM_NEW_PARAM] = {"new_param", DLB_OUTPUT, true, 0, 0},
        [DLB_ADAM_NEW_MEAN] = {"new_mean", DLB_OUTPUT, true, 0, 0},
        [DLB_ADAM_NEW_SQUARE] = {"new_square", DLB_OUTPUT, true, 0, 0},
    };
    return tensors(operands, DLB_ADAM_TENSORS, problem->dim[DLB_ADAM_N], tensor);
}

static double sgd_bytes(const struct dlb_problem *problem)
{
    return dlb_op_tensor_bytes(&dlb_op_sgd, problem);
}

static double adam_bytes(const struct dlb_problem *problem)
{
    return dlb_op_tensor_bytes(&dlb_op_adam, problem);
}

static void enumerate(const struct dlb_problem *problem, const struct dlb_target *target,
                      dlb_candidate_fn *emit, void *context)
{
    (void)problem, (void)target;
    for (int stream = STREAM_OFF; stream <= STREAM_ON; stream++) {
        const struct dlb_candidate c = {.tile = {[TILE_STREAM] = stream}};
        if (!emit(context, &c))
            return;
    }
}

static const char *refuse(const struct dlb_problem *problem,
                          const struct dlb_target *target, const struct dlb_candidate *c)
{
    const int stream = c->tile[TILE_STREAM];
    if (c->algorithm != 0)
        return "no such algorithm";
    if (stream == STREAM_OFF)
        return NULL;
    if (stream != STREAM_ON)
        return "no such kind of store";
    if (target->isa == DLB_ISA_SCALAR || target->isa == DLB_ISA_NEON)
        return "no streaming stores on this instruction set";
    /* n stands first in both. */
    if (sizeof(float) * (double)problem->dim[0] <
        (double)target->l2_bytes * target->threads)
        return "output fits the caches: no need to stream";
    return NULL;
}

/* In the caches a streamed store costs the next step a reading from memory. */
static double estimate(const struct dlb_op *op, const struct dlb_problem *problem,
                       const struct dlb_target *target, const struct dlb_rates *rates,
                       const struct dlb_candidate *c)
{
    const double bytes = op->bytes(problem);
    const bool stream = c->tile[TILE_STREAM] == STREAM_ON,
               near = bytes < 0.75 * (double)target->l3_bytes * target->threads;
    const double gbs = near ? (rates->l3_gbs > 0 ? rates->l3_gbs : 40)
                            : (rates->memory_gbs > 0 ? rates->memory_gbs : 20);
    return bytes / gbs * (near == stream ? 1.3 : 1) + 100;
}

static double sgd_estimate(const struct dlb_problem *problem,
                           const struct dlb_target *target, const struct dlb_rates *rates,
                           const struct dlb_candidate *c)
{
    return estimate(&dlb_op_sgd, problem, target, rates, c);
}

static double adam_estimate(const struct dlb_problem *problem,
                            const struct dlb_target *target,
                            const struct dlb_rates *rates, const struct dlb_candidate *c)
{
    return estimate(&dlb_op_adam, problem, target, rates, c);
}

static void sgd_fallback(const struct dlb_problem *problem,
                         const struct dlb_target *target, struct dlb_candidate *candidate)
{
    dlb_op_fallback(&dlb_op_sgd, problem, target, candidate);
}

static void adam_fallback(const struct dlb_problem *problem,
                          const struct dlb_target *target,
                          struct dlb_candidate *candidate)
{
    dlb_op_fallback(&dlb_op_adam, problem, target, candidate);
}

struct native {
    struct dlb_plan plan;
    dlb_optimiser_fn *run;
    void (*fence)(void);
    int inputs, tensors;
    struct dlb_optimiser_call all; /* of all elements */
};

static enum dlb_status native_bind(struct dlb_plan *plan, void *const *tensor,
                                   const struct dlb_team *team, struct dlb_error *error)
{
    struct native *p = (struct native *)plan;
    (void)error;
    for (int t = 0; t < p->tensors && team->rank == 0; t++) {
        if (t < p->inputs)
            p->all.in[t] = tensor[t];
        else
            p->all.out[t - p->inputs] = tensor[t];
    }
    dlb_team_barrier(team);
    return DLB_OK;
}

static void native_run(struct dlb_plan *plan, const struct dlb_team *team)
{
    const struct native *p = (const struct native *)plan;
    struct dlb_optimiser_call call = p->all;
    int64_t begin, end;
    dlb_share(dlb_div_up(p->all.n, LINE), team->rank, team->size, &begin, &end);
    begin *= LINE;
    call.n = dlb_min(end * LINE, p->all.n) - begin;
    if (call.n <= 0)
        return;
    for (int t = 0; t < p->tensors; t++) {
        if (t < p->inputs)
            call.in[t] += begin;
        else
            call.out[t - p->inputs] += begin;
    }
    p->run(&call);
    p->fence();
}

static enum dlb_status native_fetch(struct dlb_plan *plan, const struct dlb_team *team,
                                    struct dlb_error *error)
{
    (void)plan, (void)team, (void)error;
    return DLB_OK;
}

static void native_release(struct dlb_plan *plan)
{
    free(plan);
}

static const struct dlb_plan_class native_class = {
    .impl = "native",
    .spmd = true,
    .bind = native_bind,
    .run = native_run,
    .fetch = native_fetch,
    .release = native_release,
};

static enum dlb_status plan_make(const struct native *wanted,
                                 const struct dlb_target *target, struct dlb_plan **plan,
                                 struct dlb_error *error)
{
    struct native *p = malloc(sizeof *p);
    if (!p)
        return dlb_fail(error, DLB_NOMEM, "No memory for a plan of %zu bytes.",
                        sizeof *p);
    *p = *wanted;
    p->plan.class = &native_class;
    p->plan.threads = target->threads;
    snprintf(p->plan.version, sizeof p->plan.version, "%s", DLBENCH_VERSION);
    snprintf(p->plan.algorithm, sizeof p->plan.algorithm, "%s", algorithms[0]);
    snprintf(p->plan.layout, sizeof p->plan.layout, "x");
    snprintf(p->plan.isa, sizeof p->plan.isa, "%s", dlb_isa_name(target->isa));
    *plan = &p->plan;
    return DLB_OK;
}

static enum dlb_status refusal(const char *reason, struct dlb_error *error)
{
    return dlb_fail(error, DLB_UNSUPPORTED,
                    "This way of computing the step is not legal here (%s); take a "
                    "candidate that the search space offers.",
                    reason);
}

static enum dlb_status sgd_plan(const struct dlb_problem *problem,
                                const struct dlb_target *target,
                                const struct dlb_candidate *candidate,
                                struct dlb_plan **plan, struct dlb_error *error)
{
    const char *reason = refuse(problem, target, candidate);
    if (reason)
        return refusal(reason, error);
    const struct dlb_optimiser_kernels *k = dlb_optimiser_kernels(target->isa);
    const int64_t *d = problem->dim;
    const struct native wanted = {
        .run = k->sgd[d[DLB_SGD_USES_MOMENTUM]][d[DLB_SGD_USES_DECAY]]
                     [candidate->tile[TILE_STREAM] == STREAM_ON],
        .fence = k->stream_fence,
        .inputs = DLB_SGD_NEW_PARAM,
        .tensors = DLB_SGD_TENSORS,
        .all = {.n = d[DLB_SGD_N]},
    };
    return plan_make(&wanted, target, plan, error);
}

static enum dlb_status adam_plan(const struct dlb_problem *problem,
                                 const struct dlb_target *target,
                                 const struct dlb_candidate *candidate,
                                 struct dlb_plan **plan, struct dlb_error *error)
{
    const char *reason = refuse(problem, target, candidate);
    if (reason)
        return refusal(reason, error);
    const struct dlb_optimiser_kernels *k = dlb_optimiser_kernels(target->isa);
    const int64_t *d = problem->dim;
    const double t = (double)d[DLB_ADAM_T];
    const struct native wanted = {
        .run = k->adam[d[DLB_ADAM_USES_DECAY]][candidate->tile[TILE_STREAM] == STREAM_ON],
        .fence = k->stream_fence,
        .inputs = DLB_ADAM_NEW_PARAM,
        .tensors = DLB_ADAM_TENSORS,
        .all = {.n = d[DLB_ADAM_N],
                .rate = (float)(DLB_ADAM_RATE / (1 - pow(DLB_ADAM_BETA1, t))),
                .root = (float)(1 / sqrt(1 - pow(DLB_ADAM_BETA2, t)))},
    };
    return plan_make(&wanted, target, plan, error);
}

const struct dlb_op dlb_op_sgd = {
    .name = "sgd",
    .summary = "a step of stochastic gradient descent: momentum, weight decay",
    .dims = sgd_dims,
    .dims_n = DLB_SGD_DIMS,
    .algorithms = algorithms,
    .algorithms_n = 1,
    .tiles = tiles,
    .tiles_n = TILES,
    .passes = 1u << DLB_FWD,
    .complete = sgd_complete,
    .dim_needed = sgd_dim_needed,
    .flops = sgd_flops,
    .bytes = sgd_bytes,
    .tensors = sgd_tensors,
    .enumerate = enumerate,
    .refuse = refuse,
    .fallback = sgd_fallback,
    .estimate = sgd_estimate,
    .plan = sgd_plan,
};

const struct dlb_op dlb_op_adam = {
    .name = "adam",
    .summary = "a step of Adam, bias-corrected: decoupled weight decay",
    .dims = adam_dims,
    .dims_n = DLB_ADAM_DIMS,
    .algorithms = algorithms,
    .algorithms_n = 1,
    .tiles = tiles,
    .tiles_n = TILES,
    .passes = 1u << DLB_FWD,
    .complete = adam_complete,
    .dim_needed = adam_dim_needed,
    .flops = adam_flops,
    .bytes = adam_bytes,
    .tensors = adam_tensors,
    .enumerate = enumerate,
    .refuse = refuse,
    .fallback = adam_fallback,
    .estimate = adam_estimate,
    .plan = adam_plan,
};
