/*
 * The problem side of activation; kernels and plan are those of elementwise.h.
 *
 * flops  1 an element, whatever the function: it is the time of a function that is looked
 *        for, not its additions; backward 2, the derivative and the product
 * bytes  each operand once
 */
#include "ops/activation.h"

#include "ops/elementwise.h"

static const char *const algs[DLB_ACTIVATION_ALGS] = {
    [DLB_ACTIVATION_RELU] = "relu",
    [DLB_ACTIVATION_LEAKY] = "leaky",
    [DLB_ACTIVATION_SIGMOID] = "sigmoid",
    [DLB_ACTIVATION_TANH] = "tanh",
};

static const struct dlb_dim_def dims[DLB_ACTIVATION_DIMS] = {
    [DLB_ACTIVATION_N] = {"n", 1, INT64_C(1) << 40, DLB_DIM_UNSET, "number of elements",
                          NULL},
    [DLB_ACTIVATION_ALG] = {"alg", 0, DLB_ACTIVATION_ALGS - 1, DLB_ACTIVATION_RELU,
                            "the function", algs},
};

static enum dlb_status activation_complete(struct dlb_problem *problem,
                                           struct dlb_error *error)
{
    return dlb_elementwise_complete(&dlb_op_activation, problem, error);
}

static bool activation_dim_needed(const struct dlb_problem *problem, int dim)
{
    return dlb_elementwise_dim_needed(&dlb_op_activation, problem, dim);
}

static double activation_flops(const struct dlb_problem *problem)
{
    return (problem->pass == DLB_BWD ? 2.0 : 1.0) *
           (double)problem->dim[DLB_ACTIVATION_N];
}

static double activation_bytes(const struct dlb_problem *problem)
{
    return dlb_op_tensor_bytes(&dlb_op_activation, problem);
}

static bool is_smooth(const struct dlb_problem *problem)
{
    return problem->dim[DLB_ACTIVATION_ALG] >= DLB_ACTIVATION_SIGMOID;
}

static int activation_tensors(const struct dlb_problem *problem,
                              struct dlb_tensor *tensor)
{
    bool back = problem->pass == DLB_BWD, smooth = is_smooth(problem);
    struct dlb_tensor *in = &tensor[DLB_ACTIVATION_IN];
    *in = dlb_elementwise_tensor(problem, back && smooth ? "dst" : "src", DLB_INPUT);
    if (smooth) {
        in->high = back ? 1 : 8;
        in->low = !back                                                     ? -8
                  : problem->dim[DLB_ACTIVATION_ALG] == DLB_ACTIVATION_TANH ? -1
                                                                            : 0;
    }
    if (!back) {
        tensor[DLB_ACTIVATION_DST] = dlb_elementwise_tensor(problem, "dst", DLB_OUTPUT);
        return DLB_ACTIVATION_DST + 1;
    }
    tensor[DLB_ACTIVATION_DIFF_DST] =
        dlb_elementwise_tensor(problem, "diff_dst", DLB_INPUT);
    tensor[DLB_ACTIVATION_DIFF_SRC] =
        dlb_elementwise_tensor(problem, "diff_src", DLB_OUTPUT);
    return DLB_ACTIVATION_DIFF_SRC + 1;
}

/* Of sigmoid and tanh no whole numbers are exact: both fills are their range. */
static bool activation_fill(const struct dlb_problem *problem, int t,
                            enum dlb_fill_kind kind, uint64_t seed, int64_t begin,
                            int64_t end, float *data)
{
    struct dlb_tensor tensor[DLB_TENSORS_MAX];
    if (kind == DLB_FILL_DENSE || t != DLB_ACTIVATION_IN || !is_smooth(problem))
        return false;
    activation_tensors(problem, tensor);
    float step = (tensor[t].high - tensor[t].low) * 0x1p-24f;
    for (int64_t i = begin; i < end; i++)
        data[i] = (float)(dlb_hash(seed, (uint64_t)i) >> 40) * step + tensor[t].low;
    return true;
}

static enum dlb_status activation_plan(const struct dlb_problem *problem,
                                       const struct dlb_target *target,
                                       const struct dlb_candidate *candidate,
                                       struct dlb_plan **plan, struct dlb_error *error)
{
    static const enum dlb_elementwise_function functions[DLB_ACTIVATION_ALGS][2] = {
        [DLB_ACTIVATION_RELU] = {DLB_ELEMENTWISE_RELU, DLB_ELEMENTWISE_RELU_DIFF},
        [DLB_ACTIVATION_LEAKY] = {DLB_ELEMENTWISE_LEAKY, DLB_ELEMENTWISE_LEAKY_DIFF},
        [DLB_ACTIVATION_SIGMOID] = {DLB_ELEMENTWISE_SIGMOID,
                                    DLB_ELEMENTWISE_SIGMOID_DIFF},
        [DLB_ACTIVATION_TANH] = {DLB_ELEMENTWISE_TANH, DLB_ELEMENTWISE_TANH_DIFF},
    };
    bool back = problem->pass == DLB_BWD;
    const struct dlb_elementwise elementwise = {
        .function = functions[problem->dim[DLB_ACTIVATION_ALG]][back],
        .n = problem->dim[DLB_ACTIVATION_N],
        .in = {DLB_ACTIVATION_IN, back ? DLB_ACTIVATION_DIFF_DST : -1},
        .out = back ? DLB_ACTIVATION_DIFF_SRC : DLB_ACTIVATION_DST,
        .kept = -1,
        .constant = DLB_ACTIVATION_SLOPE,
    };
    return dlb_elementwise_plan(&dlb_op_activation, &elementwise, problem, target,
                                candidate, plan, error);
}

const struct dlb_op dlb_op_activation = {
    .name = "activation",
    .summary = "ReLU, leaky ReLU, sigmoid and tanh, element by element",
    .dims = dims,
    .dims_n = DLB_ACTIVATION_DIMS,
    .algorithms = dlb_elementwise_algorithms,
    .algorithms_n = DLB_ELEMENTWISE_ALGORITHMS,
    .tiles = dlb_elementwise_tiles,
    .tiles_n = DLB_ELEMENTWISE_TILES,
    .passes = 1u << DLB_FWD | 1u << DLB_BWD,
    .complete = activation_complete,
    .dim_needed = activation_dim_needed,
    .flops = activation_flops,
    .bytes = activation_bytes,
    .tensors = activation_tensors,
    .reduction = dlb_elementwise_reduction,
    .fill = activation_fill,
    .enumerate = dlb_elementwise_enumerate,
    .refuse = dlb_elementwise_refuse,
    .fallback = dlb_elementwise_fallback,
    .estimate = dlb_elementwise_estimate,
    .plan = activation_plan,
};
