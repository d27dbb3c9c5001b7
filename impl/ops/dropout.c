/*
 * The problem side of dropout; kernels and plan are those of elementwise.h.
 *
 * flops  1 an element, the scaling; the numbers behind the mask are whole. The copy of fwd is
 *        counted likewise
 * bytes  each operand once, but not the mask
 */
#include "ops/dropout.h"

#include "ops/elementwise.h"

#include <math.h>

static const struct dlb_dim_def dims[DLB_DROPOUT_DIMS] = {
    [DLB_DROPOUT_N] = {"n", 1, INT64_C(1) << 40, DLB_DIM_UNSET, "number of elements",
                       NULL},
    [DLB_DROPOUT_P] = {"p", 0, 99, 50, "per cent that are dropped", NULL},
    [DLB_DROPOUT_SEED] = {"seed", 0, INT32_MAX, 0, "seed of the mask", NULL},
};

static enum dlb_status dropout_complete(struct dlb_problem *problem,
                                        struct dlb_error *error)
{
    return dlb_elementwise_complete(&dlb_op_dropout, problem, error);
}

static bool dropout_dim_needed(const struct dlb_problem *problem, int dim)
{
    return dlb_elementwise_dim_needed(&dlb_op_dropout, problem, dim);
}

static double dropout_flops(const struct dlb_problem *problem)
{
    return (double)problem->dim[DLB_DROPOUT_N];
}

static double dropout_bytes(const struct dlb_problem *problem)
{
    return 2 * sizeof(float) * (double)problem->dim[DLB_DROPOUT_N];
}

static int dropout_tensors(const struct dlb_problem *problem, struct dlb_tensor *tensor)
{
    bool back = problem->pass == DLB_BWD;
    tensor[DLB_DROPOUT_SRC] =
        dlb_elementwise_tensor(problem, back ? "diff_dst" : "src", DLB_INPUT);
    tensor[DLB_DROPOUT_DST] =
        dlb_elementwise_tensor(problem, back ? "diff_src" : "dst", DLB_OUTPUT);
    tensor[DLB_DROPOUT_MASK] = dlb_elementwise_tensor(problem, "mask", DLB_KEPT);
    return problem->pass == DLB_FWD_TRAIN ? DLB_DROPOUT_MASK + 1 : DLB_DROPOUT_MASK;
}

static enum dlb_status dropout_plan(const struct dlb_problem *problem,
                                    const struct dlb_target *target,
                                    const struct dlb_candidate *candidate,
                                    struct dlb_plan **plan, struct dlb_error *error)
{
    bool back = problem->pass == DLB_BWD, train = problem->pass == DLB_FWD_TRAIN;
    double p = (double)problem->dim[DLB_DROPOUT_P] / 100;
    const struct dlb_elementwise elementwise = {
        .function = back    ? DLB_ELEMENTWISE_DROPOUT_DIFF
                    : train ? DLB_ELEMENTWISE_DROPOUT
                            : DLB_ELEMENTWISE_COPY,
        .setup = back ? DLB_ELEMENTWISE_DROPOUT : DLB_ELEMENTWISE_COPY,
        .n = problem->dim[DLB_DROPOUT_N],
        .in = {DLB_DROPOUT_SRC, -1},
        .out = DLB_DROPOUT_DST,
        .kept = train ? DLB_DROPOUT_MASK : -1,
        .constant = (float)(1 / (1 - p)),
        .key = dlb_hash(~UINT64_C(0), (uint64_t)problem->dim[DLB_DROPOUT_SEED]),
        .threshold = (uint32_t)lrint(ldexp(p, DLB_DROPOUT_BITS)),
    };
    return dlb_elementwise_plan(&dlb_op_dropout, &elementwise, problem, target, candidate,
                                plan, error);
}

const struct dlb_op dlb_op_dropout = {
    .name = "dropout",
    .summary = "inverted dropout: a random mask, and the scaling",
    .dims = dims,
    .dims_n = DLB_DROPOUT_DIMS,
    .algorithms = dlb_elementwise_algorithms,
    .algorithms_n = DLB_ELEMENTWISE_ALGORITHMS,
    .tiles = dlb_elementwise_tiles,
    .tiles_n = DLB_ELEMENTWISE_TILES,
    .passes = 1u << DLB_FWD | 1u << DLB_FWD_TRAIN | 1u << DLB_BWD,
    .complete = dropout_complete,
    .dim_needed = dropout_dim_needed,
    .flops = dropout_flops,
    .bytes = dropout_bytes,
    .tensors = dropout_tensors,
    .reduction = dlb_elementwise_reduction,
    .enumerate = dlb_elementwise_enumerate,
    .refuse = dlb_elementwise_refuse,
    .fallback = dlb_elementwise_fallback,
    .estimate = dlb_elementwise_estimate,
    .plan = dropout_plan,
};
