/*
 * The problem side of conv: dims, derivation, checks, counts.  The search space stands in
 * conv_space.c, plans in conv_plan.c, kernels in *_kernels.c.
 */
#include "ops/conv.h"

#include "ops/conv_internal.h"

static const struct dlb_dim_def dims[DLB_CONV_DIMS] = {
    [DLB_CONV_G] = {"g", 1, 1 << 24, 1, "groups"},
    [DLB_CONV_MB] = {"mb", 1, 1 << 24, 2, "minibatch"},
    [DLB_CONV_IC] = {"ic", 1, 1 << 24, DLB_DIM_UNSET, "input channels, of all groups"},
    [DLB_CONV_IH] = {"ih", 1, 1 << 24, DLB_DIM_UNSET, "input height; from oh, or iw"},
    [DLB_CONV_IW] = {"iw", 1, 1 << 24, DLB_DIM_UNSET, "input width; ih when not named"},
    [DLB_CONV_OC] = {"oc", 1, 1 << 24, DLB_DIM_UNSET, "output channels, of all groups"},
    [DLB_CONV_OH] = {"oh", 1, 1 << 24, DLB_DIM_UNSET, "output height; derived"},
    [DLB_CONV_OW] = {"ow", 1, 1 << 24, DLB_DIM_UNSET, "output width; derived"},
    [DLB_CONV_KH] = {"kh", 1, 1 << 16, DLB_DIM_UNSET, "kernel height"},
    [DLB_CONV_KW] = {"kw", 1, 1 << 16, DLB_DIM_UNSET, "kernel width; kh when not named"},
    [DLB_CONV_SH] = {"sh", 1, 1 << 16, DLB_DIM_UNSET, "stride down; 1"},
    [DLB_CONV_SW] = {"sw", 1, 1 << 16, DLB_DIM_UNSET, "stride across; sh"},
    [DLB_CONV_PH] = {"ph", 0, 1 << 16, DLB_DIM_UNSET, "padding above; 0 or derived"},
    [DLB_CONV_PW] = {"pw", 0, 1 << 16, DLB_DIM_UNSET, "padding to the left; ph"},
    [DLB_CONV_DH] = {"dh", 0, 1 << 16, DLB_DIM_UNSET, "dilation down, 0 is dense"},
    [DLB_CONV_DW] = {"dw", 0, 1 << 16, DLB_DIM_UNSET, "dilation across; dh"},
    [DLB_CONV_BIAS] = {"bias", 0, 1, 0, "1 adds a bias per output channel"},
    [DLB_CONV_RELU] = {"relu", 0, 1, 0, "1 fuses max(0,x)"},
};

/* One spatial axis: indexes of its dims and the letter for messages. */
struct axis {
    char letter;
    int in, out, kernel, stride, pad, dilation;
};
static const struct axis axes[2] = {
    {'h', DLB_CONV_IH, DLB_CONV_OH, DLB_CONV_KH, DLB_CONV_SH, DLB_CONV_PH, DLB_CONV_DH},
    {'w', DLB_CONV_IW, DLB_CONV_OW, DLB_CONV_KW, DLB_CONV_SW, DLB_CONV_PW, DLB_CONV_DW},
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

/* What benchdnn does: a missing width axis copies the height axis as it was written; a
 * missing height axis makes the problem one-dimensional. */
static void complete_axes(int64_t *d)
{
    const struct axis *h = &axes[0], *w = &axes[1];
    bool no_h = unset(d[h->in]) && unset(d[h->out]) && unset(d[h->kernel]);
    bool no_w = unset(d[w->in]) && unset(d[w->out]) && unset(d[w->kernel]);
    if (no_h && !no_w) {
        d[h->in] = d[h->out] = d[h->kernel] = d[h->stride] = 1;
        d[h->pad] = d[h->dilation] = 0;
        return;
    }
    if (no_w) {
        d[w->in] = d[h->in];
        d[w->out] = d[h->out];
    }
    set_if_unset(&d[w->in], d[h->in]);
    set_if_unset(&d[w->kernel], d[h->kernel]);
    set_if_unset(&d[w->stride], d[h->stride]);
    set_if_unset(&d[w->dilation], d[h->dilation]);
    /* An output given for one axis alone leaves the other's padding to be worked out. */
    if (unset(d[w->out]) == unset(d[h->out]) || unset(d[w->out]))
        set_if_unset(&d[w->pad], d[h->pad]);
}

static enum dlb_status complete_axis(int64_t *d, const struct axis *a,
                                     struct dlb_error *error)
{
    set_if_unset(&d[a->stride], 1);
    set_if_unset(&d[a->dilation], 0);
    if (unset(d[a->kernel]))
        return dlb_fail(error, DLB_INVALID,
                        "The kernel size 'k%c' is missing; write for example k%c3.",
                        a->letter, a->letter);
    int64_t reach = (d[a->kernel] - 1) * (d[a->dilation] + 1) + 1;
    if (unset(d[a->in])) {
        if (unset(d[a->out]))
            return dlb_fail(error, DLB_INVALID,
                            "The input size 'i%c' is missing; write for example i%c56.",
                            a->letter, a->letter);
        set_if_unset(&d[a->pad], 0);
        d[a->in] = dlb_max(1, (d[a->out] - 1) * d[a->stride] + reach - 2 * d[a->pad]);
    }
    if (unset(d[a->out])) {
        set_if_unset(&d[a->pad], 0);
        int64_t room = d[a->in] + 2 * d[a->pad] - reach;
        if (room < 0)
            return dlb_fail(
                error, DLB_INVALID,
                "The kernel reaches over %lld positions, but i%c%lld with p%c%lld "
                "offers %lld; make k%c or d%c smaller, or p%c larger.",
                (long long)reach, a->letter, (long long)d[a->in], a->letter,
                (long long)d[a->pad], (long long)(d[a->in] + 2 * d[a->pad]), a->letter,
                a->letter, a->letter);
        d[a->out] = room / d[a->stride] + 1;
    }
    if (unset(d[a->pad]))
        d[a->pad] = dlb_max(0, ((d[a->out] - 1) * d[a->stride] - d[a->in] + reach) / 2);
    if (d[a->pad] >= reach)
        return dlb_fail(
            error, DLB_INVALID,
            "The padding p%c%lld is not smaller than the kernel's reach of %lld; "
            "accepted: 0 to %lld.",
            a->letter, (long long)d[a->pad], (long long)reach, (long long)reach - 1);
    int64_t end_pad = (d[a->out] - 1) * d[a->stride] + reach - d[a->in] - d[a->pad];
    if (end_pad >= reach)
        return dlb_fail(
            error, DLB_INVALID,
            "o%c%lld reaches past the padded input by a whole kernel; i%c%lld with "
            "p%c%lld allows o%c up to %lld.",
            a->letter, (long long)d[a->out], a->letter, (long long)d[a->in], a->letter,
            (long long)d[a->pad], a->letter,
            (long long)((d[a->in] + d[a->pad] - 1) / d[a->stride] + 1));
    return DLB_OK;
}

static enum dlb_status conv_complete(struct dlb_problem *problem, struct dlb_error *error)
{
    int64_t *d = problem->dim;
    if (unset(d[DLB_CONV_IC]))
        return dlb_fail(error, DLB_INVALID,
                        "The input channels 'ic' are missing; write for example ic64.");
    if (unset(d[DLB_CONV_OC]))
        return dlb_fail(error, DLB_INVALID,
                        "The output channels 'oc' are missing; write for example oc64.");
    if (d[DLB_CONV_IC] % d[DLB_CONV_G] || d[DLB_CONV_OC] % d[DLB_CONV_G])
        return dlb_fail(error, DLB_INVALID,
                        "ic%lld and oc%lld must both be multiples of the groups g%lld.",
                        (long long)d[DLB_CONV_IC], (long long)d[DLB_CONV_OC],
                        (long long)d[DLB_CONV_G]);
    complete_axes(d);
    for (int i = 0; i < 2; i++) {
        enum dlb_status status = complete_axis(d, &axes[i], error);
        if (status)
            return status;
    }
    return DLB_OK;
}

static bool same_dims(const struct dlb_problem *a, const struct dlb_problem *b)
{
    for (int i = 0; i < DLB_CONV_DIMS; i++)
        if (a->dim[i] != b->dim[i])
            return false;
    return true;
}

/*
 * A dim is left out when the text without it still means the same.  Derived dims are
 * asked one after the other in the order of the table, each with what is still written,
 * so the answer for one dim must know the answers before it: worked out anew, there are
 * few.
 */
static bool conv_dim_needed(const struct dlb_problem *problem, int dim)
{
    static const int droppable[] = {
        DLB_CONV_G,    DLB_CONV_DW, DLB_CONV_DH, DLB_CONV_PW, DLB_CONV_SW,
        DLB_CONV_SH,   DLB_CONV_KW, DLB_CONV_OW, DLB_CONV_IW, DLB_CONV_BIAS,
        DLB_CONV_RELU, DLB_CONV_PH, DLB_CONV_OH,
    };
    struct dlb_problem written = *problem;
    for (size_t i = 0; i < sizeof droppable / sizeof *droppable; i++) {
        int candidate = droppable[i];
        struct dlb_problem trial = written;
        trial.dim[candidate] = dims[candidate].fallback;
        struct dlb_problem completed = trial;
        bool droppable_here =
            conv_complete(&completed, NULL) == DLB_OK && same_dims(&completed, problem);
        /* Sizes and padding stay readable: oh is kept only where it is not derived. */
        if (droppable_here)
            written = trial;
        if (candidate == dim)
            return !droppable_here;
    }
    return true;
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
    tensor[DLB_CONV_SRC] = (struct dlb_tensor){
        "src", "nhwc", DLB_INPUT, DLB_FILL_ACTIVATION, 4, {s.mb, s.ih, s.iw, s.ic}};
    tensor[DLB_CONV_WEIGHTS] =
        (struct dlb_tensor){"weights",       "goihw", DLB_PARAMETER,
                            DLB_FILL_WEIGHT, 5,       {s.g, s.ocg, s.icg, s.kh, s.kw}};
    tensor[DLB_CONV_DST] = (struct dlb_tensor){
        "dst", "nhwc", DLB_OUTPUT, DLB_FILL_ACTIVATION, 4, {s.mb, s.oh, s.ow, s.oc}};
    if (!s.bias)
        return DLB_CONV_DST + 1;
    tensor[DLB_CONV_BIASES] =
        (struct dlb_tensor){"bias", "x", DLB_PARAMETER, DLB_FILL_BIAS, 1, {s.oc}};
    return DLB_CONV_BIASES + 1;
}

static double conv_bytes(const struct dlb_problem *problem)
{
    struct dlb_tensor tensor[DLB_TENSORS_MAX];
    int tensors = conv_tensors(problem, tensor);
    double bytes = 0;
    for (int i = 0; i < tensors; i++)
        bytes += sizeof(float) * (double)dlb_tensor_elements(&tensor[i]);
    return bytes;
}

static int64_t conv_reduction(const struct dlb_problem *problem)
{
    struct dlb_conv_shape s;
    dlb_conv_shape_get(problem, &s);
    return s.icg * s.kh * s.kw + s.bias;
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
    .passes = 1u << DLB_FWD,
    .complete = conv_complete,
    .dim_needed = conv_dim_needed,
    .flops = conv_flops,
    .bytes = conv_bytes,
    .tensors = conv_tensors,
    .reduction = conv_reduction,
    .enumerate = dlb_conv_enumerate,
    .refuse = dlb_conv_refuse,
    .fallback = dlb_conv_fallback,
    .estimate = dlb_conv_estimate,
    .plan = dlb_conv_plan,
};
