/*
 * The problem side of conv: dims, derivation, checks, counts.  The search space stands in
 * conv_space.c, plans in conv_plan.c, kernels in *_kernels.c.
 */
#include "ops/conv.h"

#include "ops/axis.h"
#include "ops/conv_internal.h"

enum { DIM_MAX = 1 << 24, KERNEL_MAX = 1 << 16, UNSET = DLB_DIM_UNSET };

static const struct dlb_dim_def dims[DLB_CONV_DIMS] = {
    [DLB_CONV_G] = {"g", 1, DIM_MAX, 1, "groups"},
    [DLB_CONV_MB] = {"mb", 1, DIM_MAX, 2, "minibatch"},
    [DLB_CONV_IC] = {"ic", 1, DIM_MAX, UNSET, "input channels, of all groups"},
    [DLB_CONV_IH] = {"ih", 1, DIM_MAX, UNSET, "input height"},
    [DLB_CONV_IW] = {"iw", 1, DIM_MAX, UNSET, "input width"},
    [DLB_CONV_OC] = {"oc", 1, DIM_MAX, UNSET, "output channels, of all groups"},
    [DLB_CONV_OH] = {"oh", 1, DIM_MAX, UNSET, "output height; derived"},
    [DLB_CONV_OW] = {"ow", 1, DIM_MAX, UNSET, "output width; derived"},
    [DLB_CONV_KH] = {"kh", 1, KERNEL_MAX, UNSET, "kernel height"},
    [DLB_CONV_KW] = {"kw", 1, KERNEL_MAX, UNSET, "kernel width"},
    [DLB_CONV_SH] = {"sh", 1, KERNEL_MAX, UNSET, "stride down; 1"},
    [DLB_CONV_SW] = {"sw", 1, KERNEL_MAX, UNSET, "stride across; 1"},
    [DLB_CONV_PH] = {"ph", 0, KERNEL_MAX, UNSET, "padding above; from oh, or 0"},
    [DLB_CONV_PW] = {"pw", 0, KERNEL_MAX, UNSET, "padding to the left; from ow, or 0"},
    [DLB_CONV_DH] = {"dh", 0, KERNEL_MAX, UNSET, "dilation down; 0 is dense"},
    [DLB_CONV_DW] = {"dw", 0, KERNEL_MAX, UNSET, "dilation across; 0 is dense"},
    [DLB_CONV_BIAS] = {"bias", 0, 1, 0, "1 adds a bias per output channel"},
    [DLB_CONV_RELU] = {"relu", 0, 1, 0,
                       "1 fuses max(0,x); backward passes take the gradient before it"},
};

static const struct dlb_axis axes[DLB_AXES] = {
    {'h', {DLB_CONV_IH, DLB_CONV_KH, DLB_CONV_OH, DLB_CONV_SH, DLB_CONV_PH, DLB_CONV_DH}},
    {'w', {DLB_CONV_IW, DLB_CONV_KW, DLB_CONV_OW, DLB_CONV_SW, DLB_CONV_PW, DLB_CONV_DW}},
};

static bool unset(int64_t value)
{
    return value == DLB_DIM_UNSET;
}

static void set_if_unset(int64_t *value, int64_t fallback)
{
    if (unset(*value))
        *value = fallback;
}

static enum dlb_status conv_complete(struct dlb_problem *problem, struct dlb_error *error)
{
    int64_t *d = problem->dim;
    enum dlb_status status = dlb_op_check_ranges(&dlb_op_conv, problem, error);
    if (status)
        return status;
    if (unset(d[DLB_CONV_IC]))
        return dlb_fail(error, DLB_INVALID,
                        "The input channels 'ic' are missing; write for example ic64.");
    if (unset(d[DLB_CONV_OC]))
        return dlb_fail(error, DLB_INVALID,
                        "The output channels 'oc' are missing; write for example oc64.");
    for (int i = 0; i < DLB_CONV_DIMS; i++)
        set_if_unset(&d[i], dims[i].fallback);
    if (d[DLB_CONV_IC] % d[DLB_CONV_G] || d[DLB_CONV_OC] % d[DLB_CONV_G])
        return dlb_fail(error, DLB_INVALID,
                        "ic%lld and oc%lld must both be multiples of the groups g%lld.",
                        (long long)d[DLB_CONV_IC], (long long)d[DLB_CONV_OC],
                        (long long)d[DLB_CONV_G]);
    if ((status = dlb_axes_complete(&dlb_op_conv, axes, d, error)))
        return status;
    /* What was derived must be in range as well, or it could not be written. */
    if ((status = dlb_op_check_ranges(&dlb_op_conv, problem, error)))
        return status;
    return dlb_op_check_elements(&dlb_op_conv, problem, error);
}

/* An output size goes before the padding, as people write kh3ph1. */
static bool conv_dim_needed(const struct dlb_problem *problem, int dim)
{
    static const int single[] = {
        DLB_CONV_G,  DLB_CONV_MB, DLB_CONV_SH, DLB_CONV_SW, DLB_CONV_DH,   DLB_CONV_DW,
        DLB_CONV_OH, DLB_CONV_OW, DLB_CONV_PH, DLB_CONV_PW, DLB_CONV_BIAS, DLB_CONV_RELU,
    };
    return dlb_axes_dim_needed(&dlb_op_conv, axes, single, sizeof single / sizeof *single,
                               problem, dim);
}

void dlb_conv_shape_get(const struct dlb_problem *problem, struct dlb_conv_shape *shape)
{
    const int64_t *d = problem->dim;
    *shape = (struct dlb_conv_shape){
        .g = d[DLB_CONV_G],
        .mb = d[DLB_CONV_MB],
        .ic = d[DLB_CONV_IC],
        .ih = d[DLB_CONV_IH],
        .iw = d[DLB_CONV_IW],
        .oc = d[DLB_CONV_OC],
        .oh = d[DLB_CONV_OH],
        .ow = d[DLB_CONV_OW],
        .kh = d[DLB_CONV_KH],
        .kw = d[DLB_CONV_KW],
        .sh = d[DLB_CONV_SH],
        .sw = d[DLB_CONV_SW],
        .ph = d[DLB_CONV_PH],
        .pw = d[DLB_CONV_PW],
        .dh = d[DLB_CONV_DH],
        .dw = d[DLB_CONV_DW],
        .icg = d[DLB_CONV_IC] / d[DLB_CONV_G],
        .ocg = d[DLB_CONV_OC] / d[DLB_CONV_G],
        .bias = d[DLB_CONV_BIAS],
        .relu = d[DLB_CONV_RELU],
    };
}

void dlb_conv_valid_taps(int64_t out, int64_t in_size, int64_t kernel, int64_t stride,
                         int64_t pad, int64_t dilation, int64_t *begin, int64_t *end)
{
    int64_t step = dilation + 1, first = out * stride - pad;
    *begin = first >= 0 ? 0 : dlb_div_up(-first, step);
    *end = first >= in_size ? 0 : dlb_min(kernel, dlb_div_up(in_size - first, step));
}

void dlb_conv_valid_outputs(int64_t tap, int64_t in_size, int64_t out_size,
                            int64_t stride, int64_t pad, int64_t dilation, int64_t *begin,
                            int64_t *end)
{
    int64_t first = tap * (dilation + 1) - pad, room = in_size - first;
    *begin = first >= 0 ? 0 : dlb_div_up(-first, stride);
    *end = room <= 0 ? 0 : dlb_min(out_size, dlb_div_up(room, stride));
}

static int64_t taps_inside(int64_t out_size, int64_t in_size, int64_t kernel,
                           int64_t stride, int64_t pad, int64_t dilation)
{
    int64_t taps = 0;
    for (int64_t out = 0; out < out_size; out++) {
        int64_t begin, end;
        dlb_conv_valid_taps(out, in_size, kernel, stride, pad, dilation, &begin, &end);
        taps += dlb_max(0, end - begin);
    }
    return taps;
}

static double conv_flops(const struct dlb_problem *problem)
{
    struct dlb_conv_shape s;
    dlb_conv_shape_get(problem, &s);
    double taps = (double)taps_inside(s.oh, s.ih, s.kh, s.sh, s.ph, s.dh) *
                  (double)taps_inside(s.ow, s.iw, s.kw, s.sw, s.pw, s.dw);
    return 2.0 * (double)s.mb * (double)s.oc * (double)s.icg * taps;
}

static int conv_tensors(const struct dlb_problem *problem, struct dlb_tensor *tensor)
{
    struct dlb_conv_shape s;
    dlb_conv_shape_get(problem, &s);
    bool data = problem->pass == DLB_BWD_DATA, weights = problem->pass == DLB_BWD_WEIGHTS;
    tensor[DLB_CONV_SRC] = (struct dlb_tensor){
        data ? "diff_src" : "src", "nhwc", data ? DLB_OUTPUT : DLB_INPUT,
        DLB_FILL_ACTIVATION,       4,      {s.mb, s.ih, s.iw, s.ic}};
    tensor[DLB_CONV_WEIGHTS] = (struct dlb_tensor){weights ? "diff_weights" : "weights",
                                                   "goihw",
                                                   weights ? DLB_OUTPUT : DLB_PARAMETER,
                                                   DLB_FILL_WEIGHT,
                                                   5,
                                                   {s.g, s.ocg, s.icg, s.kh, s.kw}};
    /* One factor of each product has to be filled sparsely. */
    tensor[DLB_CONV_DST] =
        (struct dlb_tensor){data || weights ? "diff_dst" : "dst",
                            "nhwc",
                            data || weights ? DLB_INPUT : DLB_OUTPUT,
                            weights ? DLB_FILL_WEIGHT : DLB_FILL_ACTIVATION,
                            4,
                            {s.mb, s.oh, s.ow, s.oc}};
    if (!s.bias || data)
        return DLB_CONV_DST + 1;
    tensor[DLB_CONV_BIASES] = (struct dlb_tensor){weights ? "diff_bias" : "bias",
                                                  "x",
                                                  weights ? DLB_OUTPUT : DLB_PARAMETER,
                                                  DLB_FILL_BIAS,
                                                  1,
                                                  {s.oc}};
    return DLB_CONV_BIASES + 1;
}

/* Positions of one axis that some product reaches: of the input, of the output, and taps
 * of the kernel. */
static int64_t reached_inputs(int64_t in_size, int64_t out_size, int64_t kernel,
                              int64_t stride, int64_t pad, int64_t dilation)
{
    int64_t reached = 0;
    for (int64_t in = 0; in < in_size; in++)
        for (int64_t k = 0; k < kernel; k++) {
            int64_t at = in + pad - k * (dilation + 1);
            if (at < 0)
                break;
            if (at % stride == 0 && at / stride < out_size) {
                reached++;
                break;
            }
        }
    return reached;
}

static int64_t reached_outputs(int64_t out_size, int64_t in_size, int64_t kernel,
                               int64_t stride, int64_t pad, int64_t dilation)
{
    int64_t reached = 0;
    for (int64_t out = 0; out < out_size; out++) {
        int64_t begin, end;
        dlb_conv_valid_taps(out, in_size, kernel, stride, pad, dilation, &begin, &end);
        reached += begin < end;
    }
    return reached;
}

static int64_t reached_taps(int64_t out_size, int64_t in_size, int64_t kernel,
                            int64_t stride, int64_t pad, int64_t dilation)
{
    int64_t reached = 0;
    for (int64_t k = 0; k < kernel; k++) {
        int64_t begin, end;
        dlb_conv_valid_outputs(k, in_size, out_size, stride, pad, dilation, &begin, &end);
        reached += begin < end;
    }
    return reached;
}

static int64_t conv_unreached(const struct dlb_problem *problem, int t)
{
    struct dlb_conv_shape s;
    dlb_conv_shape_get(problem, &s);
    switch (t) {
    case DLB_CONV_SRC:
        return s.mb * s.ic *
               (s.ih * s.iw - reached_inputs(s.ih, s.oh, s.kh, s.sh, s.ph, s.dh) *
                                  reached_inputs(s.iw, s.ow, s.kw, s.sw, s.pw, s.dw));
    case DLB_CONV_WEIGHTS:
        return s.oc * s.icg *
               (s.kh * s.kw - reached_taps(s.oh, s.ih, s.kh, s.sh, s.ph, s.dh) *
                                  reached_taps(s.ow, s.iw, s.kw, s.sw, s.pw, s.dw));
    case DLB_CONV_DST:
        return s.bias ? 0
                      : s.mb * s.oc *
                            (s.oh * s.ow -
                             reached_outputs(s.oh, s.ih, s.kh, s.sh, s.ph, s.dh) *
                                 reached_outputs(s.ow, s.iw, s.kw, s.sw, s.pw, s.dw));
    default:
        return 0;
    }
}

static double conv_bytes(const struct dlb_problem *problem)
{
    return dlb_op_tensor_bytes(&dlb_op_conv, problem);
}

static int64_t conv_reduction(const struct dlb_problem *problem)
{
    struct dlb_conv_shape s;
    dlb_conv_shape_get(problem, &s);
    if (problem->pass == DLB_BWD_WEIGHTS)
        return s.mb * s.oh * s.ow;
    return problem->pass == DLB_BWD_DATA ? s.ocg * s.kh * s.kw
                                         : s.icg * s.kh * s.kw + s.bias;
}

const struct dlb_op dlb_op_conv = {
    .name = "conv",
    .summary = "2-D convolution: stride, dilation, padding, groups, bias, fused ReLU",
    .dims = dims,
    .dims_n = DLB_CONV_DIMS,
    .algorithms = dlb_conv_algorithms,
    .algorithms_n = DLB_CONV_ALGORITHMS,
    .tiles = dlb_conv_tiles,
    .tiles_n = DLB_CONV_TILES,
    .passes = 1u << DLB_FWD | 1u << DLB_BWD_DATA | 1u << DLB_BWD_WEIGHTS,
    .complete = conv_complete,
    .dim_needed = conv_dim_needed,
    .flops = conv_flops,
    .bytes = conv_bytes,
    .tensors = conv_tensors,
    .reduction = conv_reduction,
    .unreached = conv_unreached,
    .enumerate = dlb_conv_enumerate,
    .refuse = dlb_conv_refuse,
    .fallback = dlb_conv_fallback,
    .estimate = dlb_conv_estimate,
    .plan = dlb_conv_plan,
};
