/*
 * The problem side of add; kernels and plan are those of elementwise.h.
 *
 * flops  1 an element, 2 with relu; backward 1
 * bytes  each operand once
 */
#include "ops/add.h"

#include "ops/elementwise.h"

static const struct dlb_dim_def dims[DLB_ADD_DIMS] = {
    [DLB_ADD_N] = {"n", 1, INT64_C(1) << 40, DLB_DIM_UNSET, "number of elements", NULL},
    [DLB_ADD_RELU] = {"relu", 0, 1, 0, "1 fuses max(0,x)", NULL},
};

static enum dlb_status add_complete(struct dlb_problem *problem, struct dlb_error *error)
{
    return dlb_elementwise_complete(&dlb_op_add, problem, error);
}

static bool add_dim_needed(const struct dlb_problem *problem, int dim)
{
    return dlb_elementwise_dim_needed(&dlb_op_add, problem, dim);
}

static double add_flops(const struct dlb_problem *problem)
{
    bool two = problem->dim[DLB_ADD_RELU] && problem->pass == DLB_FWD;
    return (two ? 2.0 : 1.0) * (double)problem->dim[DLB_ADD_N];
}

static double add_bytes(const struct dlb_problem *problem)
{
    return dlb_op_tensor_bytes(&dlb_op_add, problem);
}

static int add_tensors(const struct dlb_problem *problem, struct dlb_tensor *tensor)
{
    static const char *const names[][DLB_ADD_TENSORS] = {
        {"src0", "src1", "dst"}, {"diff_dst", "diff_src0", "dst"}};
    bool back = problem->pass == DLB_BWD;
    int result = back ? DLB_ADD_DIFF_SRC : DLB_ADD_DST;
    for (int t = 0; t < DLB_ADD_TENSORS; t++)
        tensor[t] = dlb_elementwise_tensor(problem, names[back][t],
                                           t == result ? DLB_OUTPUT : DLB_INPUT);
    return back && !problem->dim[DLB_ADD_RELU] ? DLB_ADD_BACKWARD_DST : DLB_ADD_TENSORS;
}

static enum dlb_status add_plan(const struct dlb_problem *problem,
                                const struct dlb_target *target,
                                const struct dlb_candidate *candidate,
                                struct dlb_plan **plan, struct dlb_error *error)
{
    bool relu = problem->dim[DLB_ADD_RELU], back = problem->pass == DLB_BWD;
    struct dlb_elementwise elementwise = {
        .function = relu ? DLB_ELEMENTWISE_ADD_RELU : DLB_ELEMENTWISE_ADD,
        .n = problem->dim[DLB_ADD_N],
        .in = {DLB_ADD_SRC0, DLB_ADD_SRC1},
        .out = DLB_ADD_DST,
        .kept = -1,
    };
    if (back)
        elementwise.out = DLB_ADD_DIFF_SRC;
    if (back && relu) {
        elementwise.function = DLB_ELEMENTWISE_RELU_DIFF;
        elementwise.in[0] = DLB_ADD_BACKWARD_DST;
        elementwise.in[1] = DLB_ADD_DIFF_DST;
    } else if (back) {
        elementwise.function = DLB_ELEMENTWISE_COPY;
        elementwise.in[0] = DLB_ADD_DIFF_DST;
        elementwise.in[1] = -1;
    }
    return dlb_elementwise_plan(&dlb_op_add, &elementwise, problem, target, candidate,
                                plan, error);
}

const struct dlb_op dlb_op_add = {
    .name = "add",
    .summary = "addition of a residual connection, fused ReLU",
    .dims = dims,
    .dims_n = DLB_ADD_DIMS,
    .algorithms = dlb_elementwise_algorithms,
    .algorithms_n = DLB_ELEMENTWISE_ALGORITHMS,
    .tiles = dlb_elementwise_tiles,
    .tiles_n = DLB_ELEMENTWISE_TILES,
    .passes = 1u << DLB_FWD | 1u << DLB_BWD,
    .complete = add_complete,
    .dim_needed = add_dim_needed,
    .flops = add_flops,
    .bytes = add_bytes,
    .tensors = add_tensors,
    .reduction = dlb_elementwise_reduction,
    .enumerate = dlb_elementwise_enumerate,
    .refuse = dlb_elementwise_refuse,
    .fallback = dlb_elementwise_fallback,
    .estimate = dlb_elementwise_estimate,
    .plan = add_plan,
};
