/*
 * The problem side of pooling: dims, checks, counts.  The search space stands in
 * pooling_space.c, plans in pooling_plan.c, kernels in pooling_kernels.c.
 *
 * flops  one for each tap inside the input and each channel: a comparison, or an addition
 * bytes  each operand once; not what is kept for the backward pass
 */
#include "ops/pooling.h"

#include "ops/axis.h"
#include "ops/pooling_internal.h"

enum { DIM_MAX = 1 << 24, KERNEL_MAX = 1 << 12, UNSET = DLB_DIM_UNSET };

static const char *const kinds[DLB_POOLING_KINDS] = {
    [DLB_POOLING_MAX] = "max",
    [DLB_POOLING_AVG] = "avg",
    [DLB_POOLING_AVG_PADDED] = "avgp",
};

static const struct dlb_dim_def dims[DLB_POOLING_DIMS] = {
    [DLB_POOLING_MB] = {"mb", 1, DIM_MAX, 2, "minibatch", NULL},
    [DLB_POOLING_IC] = {"ic", 1, DIM_MAX, UNSET, "channels", NULL},
    [DLB_POOLING_IH] = {"ih", 1, DIM_MAX, UNSET, "input height", NULL},
    [DLB_POOLING_IW] = {"iw", 1, DIM_MAX, UNSET, "input width", NULL},
    [DLB_POOLING_OH] = {"oh", 1, DIM_MAX, UNSET, "output height; derived", NULL},
    [DLB_POOLING_OW] = {"ow", 1, DIM_MAX, UNSET, "output width; derived", NULL},
    [DLB_POOLING_KH] = {"kh", 1, KERNEL_MAX, UNSET, "kernel height", NULL},
    [DLB_POOLING_KW] = {"kw", 1, KERNEL_MAX, UNSET, "kernel width", NULL},
    [DLB_POOLING_SH] = {"sh", 1, KERNEL_MAX, UNSET, "stride down; 1", NULL},
    [DLB_POOLING_SW] = {"sw", 1, KERNEL_MAX, UNSET, "stride across; 1", NULL},
    [DLB_POOLING_PH] = {"ph", 0, KERNEL_MAX, UNSET, "padding above; from oh, or 0", NULL},
    [DLB_POOLING_PW] = {"pw", 0, KERNEL_MAX, UNSET, "padding to the left; from ow, or 0",
                        NULL},
    [DLB_POOLING_ALG] = {"alg", 0, DLB_POOLING_KINDS - 1, DLB_POOLING_MAX,
                         "maximum, or average without or with padding", kinds},
};

static const struct dlb_axis axes[DLB_AXES] = {
    {'h',
     {DLB_POOLING_IH, DLB_POOLING_KH, DLB_POOLING_OH, DLB_POOLING_SH, DLB_POOLING_PH,
      DLB_AXIS_NONE}},
    {'w',
     {DLB_POOLING_IW, DLB_POOLING_KW, DLB_POOLING_OW, DLB_POOLING_SW, DLB_POOLING_PW,
      DLB_AXIS_NONE}},
};

void dlb_pooling_shape_get(const struct dlb_problem *problem,
                           struct dlb_pooling_shape *shape)
{
    const int64_t *d = problem->dim;
    *shape = (struct dlb_pooling_shape){
        .mb = d[DLB_POOLING_MB],
        .ic = d[DLB_POOLING_IC],
        .ih = d[DLB_POOLING_IH],
        .iw = d[DLB_POOLING_IW],
        .oh = d[DLB_POOLING_OH],
        .ow = d[DLB_POOLING_OW],
        .kh = d[DLB_POOLING_KH],
        .kw = d[DLB_POOLING_KW],
        .sh = d[DLB_POOLING_SH],
        .sw = d[DLB_POOLING_SW],
        .ph = d[DLB_POOLING_PH],
        .pw = d[DLB_POOLING_PW],
        .kind = (enum dlb_pooling_kind)d[DLB_POOLING_ALG],
    };
}

static enum dlb_status pooling_complete(struct dlb_problem *problem,
                                        struct dlb_error *error)
{
    static const int plain[] = {DLB_POOLING_MB, DLB_POOLING_IC, DLB_POOLING_ALG};
    int64_t *d = problem->dim;
    enum dlb_status status = dlb_op_check_ranges(&dlb_op_pooling, problem, error);
    if (status)
        return status;
    if (d[DLB_POOLING_IC] == UNSET)
        return dlb_fail(error, DLB_INVALID,
                        "The channels 'ic' are missing; write for example ic64.");
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (d[plain[i]] == UNSET)
            d[plain[i]] = dims[plain[i]].fallback;
    if ((status = dlb_axes_complete(&dlb_op_pooling, axes, d, error)))
        return status;
    /* What was derived must be in range as well, or it could not be written. */
    if ((status = dlb_op_check_ranges(&dlb_op_pooling, problem, error)))
        return status;
    return dlb_op_check_elements(&dlb_op_pooling, problem, error);
}

static bool pooling_dim_needed(const struct dlb_problem *problem, int dim)
{
    static const int single[] = {
        DLB_POOLING_MB, DLB_POOLING_SH, DLB_POOLING_SW, DLB_POOLING_OH,
        DLB_POOLING_OW, DLB_POOLING_PH, DLB_POOLING_PW, DLB_POOLING_ALG,
    };
    return dlb_axes_dim_needed(&dlb_op_pooling, axes, single,
                               sizeof single / sizeof *single, problem, dim);
}

static int64_t taps_inside(int64_t windows, int64_t size, int64_t kernel, int64_t stride,
                           int64_t pad)
{
    int64_t taps = 0;
    for (int64_t out = 0; out < windows; out++) {
        int64_t begin, end;
        dlb_pooling_taps(out, size, kernel, stride, pad, &begin, &end);
        taps += end - begin;
    }
    return taps;
}

/* Positions of an axis that some window covers. */
static int64_t covered(int64_t size, int64_t windows, int64_t kernel, int64_t stride,
                       int64_t pad)
{
    int64_t n = 0;
    for (int64_t in = 0; in < size; in++) {
        int64_t begin, end;
        dlb_pooling_windows(in, windows, kernel, stride, pad, &begin, &end);
        n += begin < end;
    }
    return n;
}

static double pooling_flops(const struct dlb_problem *problem)
{
    struct dlb_pooling_shape s;
    dlb_pooling_shape_get(problem, &s);
    return (double)(s.mb * s.ic) * (double)taps_inside(s.oh, s.ih, s.kh, s.sh, s.ph) *
           (double)taps_inside(s.ow, s.iw, s.kw, s.sw, s.pw);
}

static int pooling_tensors(const struct dlb_problem *problem, struct dlb_tensor *tensor)
{
    struct dlb_pooling_shape s;
    dlb_pooling_shape_get(problem, &s);
    const bool back = problem->pass == DLB_BWD, max = s.kind == DLB_POOLING_MAX;
    const struct dlb_tensor in = {"src",
                                  "nhwc",
                                  back ? DLB_OUTPUT : DLB_INPUT,
                                  DLB_FILL_ACTIVATION,
                                  4,
                                  {s.mb, s.ih, s.iw, s.ic}},
                            out = {"dst",
                                   "nhwc",
                                   back ? DLB_INPUT : DLB_OUTPUT,
                                   DLB_FILL_ACTIVATION,
                                   4,
                                   {s.mb, s.oh, s.ow, s.ic}};
    tensor[DLB_POOLING_SRC] = in;
    tensor[DLB_POOLING_DST] = out;
    if (back) {
        tensor[DLB_POOLING_DIFF_SRC].name = "diff_src";
        tensor[DLB_POOLING_DIFF_DST].name = "diff_dst";
        tensor[DLB_POOLING_BWD_SRC] = in;
        tensor[DLB_POOLING_BWD_SRC].role = DLB_INPUT;
        return max ? DLB_POOLING_BWD_SRC + 1 : DLB_POOLING_BWD_SRC;
    }
    tensor[DLB_POOLING_INDEX] = out;
    tensor[DLB_POOLING_INDEX].name = "index";
    tensor[DLB_POOLING_INDEX].role = DLB_KEPT;
    return max && problem->pass == DLB_FWD_TRAIN ? DLB_POOLING_INDEX + 1
                                                 : DLB_POOLING_INDEX;
}

static double pooling_bytes(const struct dlb_problem *problem)
{
    struct dlb_tensor tensor[DLB_TENSORS_MAX];
    pooling_tensors(problem, tensor);
    return sizeof(float) * (double)(dlb_tensor_elements(&tensor[DLB_POOLING_SRC]) +
                                    dlb_tensor_elements(&tensor[DLB_POOLING_DST]));
}

static int64_t pooling_reduction(const struct dlb_problem *problem)
{
    return problem->dim[DLB_POOLING_KH] * problem->dim[DLB_POOLING_KW];
}

/* A maximum hands its gradient to one pixel; as many windows as lie above a pixel may
 * choose the same. */
static int64_t pooling_unreached(const struct dlb_problem *problem, int t)
{
    struct dlb_pooling_shape s;
    dlb_pooling_shape_get(problem, &s);
    if (problem->pass != DLB_BWD || t != DLB_POOLING_DIFF_SRC)
        return 0;
    int64_t pixels = s.mb * s.ih * s.iw * s.ic, windows = s.mb * s.oh * s.ow * s.ic;
    if (s.kind == DLB_POOLING_MAX)
        return pixels - dlb_min(pixels, dlb_div_up(windows, dlb_div_up(s.kh, s.sh) *
                                                                dlb_div_up(s.kw, s.sw)));
    /* Of an average all but those between the windows, or behind the last. */
    return pixels - s.mb * s.ic * covered(s.ih, s.oh, s.kh, s.sh, s.ph) *
                        covered(s.iw, s.ow, s.kw, s.sw, s.pw);
}

const struct dlb_op dlb_op_pooling = {
    .name = "pooling",
    .summary = "maximum or average over windows: any kernel, stride, padding",
    .dims = dims,
    .dims_n = DLB_POOLING_DIMS,
    .algorithms = dlb_pooling_algorithms,
    .algorithms_n = DLB_POOLING_ALGORITHMS,
    .tiles = dlb_pooling_tiles,
    .tiles_n = DLB_POOLING_TILES,
    .passes = 1u << DLB_FWD | 1u << DLB_FWD_TRAIN | 1u << DLB_BWD,
    .complete = pooling_complete,
    .dim_needed = pooling_dim_needed,
    .flops = pooling_flops,
    .bytes = pooling_bytes,
    .tensors = pooling_tensors,
    .reduction = pooling_reduction,
    .unreached = pooling_unreached,
    .enumerate = dlb_pooling_enumerate,
    .refuse = dlb_pooling_refuse,
    .fallback = dlb_pooling_fallback,
    .estimate = dlb_pooling_estimate,
    .plan = dlb_pooling_plan,
};
