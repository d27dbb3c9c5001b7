/*
 * The problem side of linear: dims, checks, counts.  The search space stands in
 * linear_space.c, plans in linear_plan.c, kernels in linear_kernels.c.
 */
#include "ops/linear.h"

#include "ops/linear_internal.h"

enum { DIM_MAX = 1 << 24, UNSET = DLB_DIM_UNSET };

static const struct dlb_dim_def dims[DLB_LINEAR_DIMS] = {
    [DLB_LINEAR_MB] = {"mb", 1, DIM_MAX, 2, "minibatch: rows", NULL},
    [DLB_LINEAR_IC] = {"ic", 1, DIM_MAX, UNSET, "input channels", NULL},
    [DLB_LINEAR_OC] = {"oc", 1, DIM_MAX, UNSET, "output channels", NULL},
    [DLB_LINEAR_BIAS] = {"bias", 0, 1, 0, "1 adds a bias per output channel", NULL},
    [DLB_LINEAR_RELU] = {"relu", 0, 1, 0, "1 fuses max(0,x) into the forward pass", NULL},
};

void dlb_linear_shape_get(const struct dlb_problem *problem,
                          struct dlb_linear_shape *shape)
{
    const int64_t *d = problem->dim;
    *shape = (struct dlb_linear_shape){
        .mb = d[DLB_LINEAR_MB],
        .ic = d[DLB_LINEAR_IC],
        .oc = d[DLB_LINEAR_OC],
        .bias = d[DLB_LINEAR_BIAS],
        .relu = d[DLB_LINEAR_RELU],
    };
}

void dlb_linear_product_get(const struct dlb_problem *problem,
                            struct dlb_linear_product *product)
{
    struct dlb_linear_shape s;
    dlb_linear_shape_get(problem, &s);
    switch (problem->pass) {
    case DLB_BWD_DATA:
        *product = (struct dlb_linear_product){.m = s.mb, .n = s.ic, .k = s.oc};
        break;
    case DLB_BWD_WEIGHTS:
        *product = (struct dlb_linear_product){
            .m = s.oc, .n = s.ic, .k = s.mb, .gradient = true};
        break;
    default:
        *product = (struct dlb_linear_product){
            .m = s.mb, .n = s.oc, .k = s.ic, .transposed = true, .relu = s.relu};
    }
    product->vector = s.bias && problem->pass != DLB_BWD_DATA;
}

static enum dlb_status linear_complete(struct dlb_problem *problem,
                                       struct dlb_error *error)
{
    int64_t *d = problem->dim;
    enum dlb_status status = dlb_op_check_ranges(&dlb_op_linear, problem, error);
    if (status)
        return status;
    for (int i = 0; i < DLB_LINEAR_DIMS; i++) {
        if (d[i] == UNSET)
            d[i] = dims[i].fallback;
        if (d[i] == UNSET)
            return dlb_fail(error, DLB_INVALID,
                            "The %s '%s' are missing; write for example %s768.",
                            dims[i].meaning, dims[i].key, dims[i].key);
    }
    return dlb_op_check_elements(&dlb_op_linear, problem, error);
}

static bool linear_dim_needed(const struct dlb_problem *problem, int dim)
{
    return problem->dim[dim] != dims[dim].fallback;
}

static double linear_flops(const struct dlb_problem *problem)
{
    struct dlb_linear_shape s;
    dlb_linear_shape_get(problem, &s);
    return 2.0 * (double)s.mb * (double)s.ic * (double)s.oc;
}

static int linear_tensors(const struct dlb_problem *problem, struct dlb_tensor *tensor)
{
    struct dlb_linear_shape s;
    dlb_linear_shape_get(problem, &s);
    const bool data = problem->pass == DLB_BWD_DATA,
               gradient = problem->pass == DLB_BWD_WEIGHTS;
    const struct dlb_tensor src = {"src", "nc",        DLB_INPUT, DLB_FILL_ACTIVATION,
                                   2,     {s.mb, s.ic}},
                            dst = {"dst", "nc",        DLB_OUTPUT, DLB_FILL_ACTIVATION,
                                   2,     {s.mb, s.oc}},
                            weights = {"weights",       "oi", DLB_PARAMETER,
                                       DLB_FILL_WEIGHT, 2,    {s.oc, s.ic}},
                            bias = {"bias", "x", DLB_PARAMETER, DLB_FILL_BIAS, 1, {s.oc}};
    tensor[DLB_LINEAR_A] = data || gradient ? dst : src;
    tensor[DLB_LINEAR_B] = gradient ? src : weights;
    tensor[DLB_LINEAR_C] = data ? src : gradient ? weights : dst;
    tensor[DLB_LINEAR_VECTOR] = bias;
    if (data || gradient) {
        tensor[DLB_LINEAR_A].name = "diff_dst";
        tensor[DLB_LINEAR_A].role = DLB_INPUT;
        tensor[DLB_LINEAR_C].name = data ? "diff_src" : "diff_weights";
        tensor[DLB_LINEAR_C].role = DLB_OUTPUT;
        tensor[DLB_LINEAR_VECTOR].name = "diff_bias";
        tensor[DLB_LINEAR_VECTOR].role = DLB_OUTPUT;
    }
    /* One factor of the exact fill is sparse in each pass. */
    if (gradient)
        tensor[DLB_LINEAR_A].fill = DLB_FILL_WEIGHT;
    return s.bias && !data ? DLB_LINEAR_VECTOR + 1 : DLB_LINEAR_VECTOR;
}

static double linear_bytes(const struct dlb_problem *problem)
{
    return dlb_op_tensor_bytes(&dlb_op_linear, problem);
}

static int64_t linear_reduction(const struct dlb_problem *problem)
{
    struct dlb_linear_product product;
    dlb_linear_product_get(problem, &product);
    return product.k + (product.vector && !product.gradient);
}

const struct dlb_op dlb_op_linear = {
    .name = "linear",
    .summary = "fully connected layer (inner product): bias, fused ReLU; its gradients",
    .dims = dims,
    .dims_n = DLB_LINEAR_DIMS,
    .algorithms = dlb_linear_algorithms,
    .algorithms_n = DLB_LINEAR_ALGORITHMS,
    .tiles = dlb_linear_tiles,
    .tiles_n = DLB_LINEAR_TILES,
    .passes = 1u << DLB_FWD | 1u << DLB_BWD_DATA | 1u << DLB_BWD_WEIGHTS,
    .complete = linear_complete,
    .dim_needed = linear_dim_needed,
    .flops = linear_flops,
    .bytes = linear_bytes,
    .tensors = linear_tensors,
    .reduction = linear_reduction,
    .enumerate = dlb_linear_enumerate,
    .refuse = dlb_linear_refuse,
    .fallback = dlb_linear_fallback,
    .estimate = dlb_linear_estimate,
    .plan = dlb_linear_plan,
};
