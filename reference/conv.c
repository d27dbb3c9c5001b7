/*
 * The plain definition of conv and of its backward passes (formulas in ops/conv.h).
 *
 * Taps outside the input are skipped, so a NaN or infinite weight reaches only outputs
 * whose window covers an input element under it.  ReLU keeps NaN: it replaces what is
 * less than 0 and nothing else.  The backward passes sum over the same pairs of an input
 * element and a tap, and leave the same ones out.
 * Numerics: products of floats are exact in double; the sum of K of them is off by at
 * most K * 2^-53 * sum |a||b|, far below one float rounding for any K that fits memory.
 *
 * Bounds.  u = 2^-24 is the rounding error of one float operation, K the length of the
 * reduction (with the bias), M = sum |a||b| + |bias| (diff_bias: sum |diff_dst|), gamma_K = K u / (1 - K u).
 *   exact fill   0: every partial sum is a whole number below 2^24
 *   dense fill   a sum of K products in float, in any order, with or without FMA, errs by
 *                at most gamma_K M; ReLU does not enlarge that
 *   winograd     both fills: transforms mix the elements of a tile, so an error is
 *                relative to the largest M around: the dense bound plus WINOGRAD_GROWTH u
 *                times the largest M of the tensor (measured: up to 8 for 2x2 and 4x4
 *                tiles of 3x3 kernels)
 */
#include "ops/conv_internal.h"
#include "reference_internal.h"

#include <float.h>
#include <math.h>

static const double UNIT_ROUNDOFF = FLT_EPSILON / 2;
static const double WINOGRAD_GROWTH = 16;

/* The tensors by position, of which a pass reads all but what it writes; bias NULL when
 * there is none. */
struct operands {
    struct dlb_conv_shape s;
    const float *src, *weights, *dst, *bias;
};

/* Where pixel (n, y, x) of an image of so many rows, columns and channels begins. */
static int64_t pixel_at(int64_t n, int64_t y, int64_t x, int64_t rows, int64_t columns,
                        int64_t channels)
{
    return ((n * rows + y) * columns + x) * channels;
}

/* The output that tap k joins with input in; false when there is none. */
static bool output_of(int64_t in, int64_t k, int64_t out_size, int64_t stride,
                      int64_t pad, int64_t dilation, int64_t *out)
{
    int64_t at = in + pad - k * (dilation + 1);
    *out = at / stride;
    return at >= 0 && at % stride == 0 && *out < out_size;
}

static double dst_element(const struct operands *o, int64_t n, int64_t oh, int64_t ow,
                          int64_t oc)
{
    const struct dlb_conv_shape *s = &o->s;
    int64_t group = oc / s->ocg, taps = s->kh * s->kw;
    const float *weights = o->weights + oc * s->icg * taps;
    double sum = o->bias ? o->bias[oc] : 0;
    for (int64_t kh = 0; kh < s->kh; kh++) {
        int64_t ih = oh * s->sh - s->ph + kh * (s->dh + 1);
        if (ih < 0 || ih >= s->ih)
            continue;
        for (int64_t kw = 0; kw < s->kw; kw++) {
            int64_t iw = ow * s->sw - s->pw + kw * (s->dw + 1);
            if (iw < 0 || iw >= s->iw)
                continue;
            const float *src =
                o->src + pixel_at(n, ih, iw, s->ih, s->iw, s->ic) + group * s->icg;
            const float *tap = weights + kh * s->kw + kw;
            for (int64_t i = 0; i < s->icg; i++)
                sum += (double)src[i] * tap[i * taps];
        }
    }
    return s->relu && sum < 0 ? 0 : sum;
}

static double diff_src_element(const struct operands *o, int64_t n, int64_t ih,
                               int64_t iw, int64_t ic)
{
    const struct dlb_conv_shape *s = &o->s;
    int64_t group = ic / s->icg, taps = s->kh * s->kw, oh, ow;
    double sum = 0;
    for (int64_t kh = 0; kh < s->kh; kh++)
        for (int64_t kw = 0; kw < s->kw; kw++) {
            if (!output_of(ih, kh, s->oh, s->sh, s->ph, s->dh, &oh) ||
                !output_of(iw, kw, s->ow, s->sw, s->pw, s->dw, &ow))
                continue;
            const float *dst = o->dst + pixel_at(n, oh, ow, s->oh, s->ow, s->oc);
            for (int64_t oc = group * s->ocg; oc < (group + 1) * s->ocg; oc++)
                sum += (double)dst[oc] *
                       o->weights[(oc * s->icg + ic % s->icg) * taps + kh * s->kw + kw];
        }
    return sum;
}

static double diff_weight_element(const struct operands *o, int64_t oc, int64_t i,
                                  int64_t kh, int64_t kw)
{
    const struct dlb_conv_shape *s = &o->s;
    int64_t ic = oc / s->ocg * s->icg + i;
    double sum = 0;
    for (int64_t n = 0; n < s->mb; n++)
        for (int64_t oh = 0; oh < s->oh; oh++) {
            int64_t ih = oh * s->sh - s->ph + kh * (s->dh + 1);
            if (ih < 0 || ih >= s->ih)
                continue;
            for (int64_t ow = 0; ow < s->ow; ow++) {
                int64_t iw = ow * s->sw - s->pw + kw * (s->dw + 1);
                if (iw < 0 || iw >= s->iw)
                    continue;
                sum += (double)o->src[pixel_at(n, ih, iw, s->ih, s->iw, s->ic) + ic] *
                       o->dst[pixel_at(n, oh, ow, s->oh, s->ow, s->oc) + oc];
            }
        }
    return sum;
}

static double diff_bias_element(const struct operands *o, int64_t oc)
{
    const struct dlb_conv_shape *s = &o->s;
    double sum = 0;
    for (int64_t pixel = 0; pixel < s->mb * s->oh * s->ow; pixel++)
        sum += o->dst[pixel * s->oc + oc];
    return sum;
}

/* A slice is a pixel of the image that is written, or the kernel between one input and one
 * output channel; the bias goes with one of its channel's kernels. */
static int64_t conv_slices(const struct dlb_problem *problem)
{
    struct dlb_conv_shape s;
    dlb_conv_shape_get(problem, &s);
    if (problem->pass == DLB_BWD_WEIGHTS)
        return s.oc * s.icg;
    return problem->pass == DLB_BWD_DATA ? s.mb * s.ih * s.iw : s.mb * s.oh * s.ow;
}

static void define_dst(const struct operands *o, int64_t pixel,
                       const struct dlb_sink *sink)
{
    const struct dlb_conv_shape *s = &o->s;
    int64_t row = pixel / s->ow;
    for (int64_t oc = 0; oc < s->oc; oc++)
        sink->put(sink->context, DLB_CONV_DST, pixel * s->oc + oc,
                  dst_element(o, row / s->oh, row % s->oh, pixel % s->ow, oc));
}

static void define_diff_src(const struct operands *o, int64_t pixel,
                            const struct dlb_sink *sink)
{
    const struct dlb_conv_shape *s = &o->s;
    int64_t row = pixel / s->iw;
    for (int64_t ic = 0; ic < s->ic; ic++)
        sink->put(sink->context, DLB_CONV_SRC, pixel * s->ic + ic,
                  diff_src_element(o, row / s->ih, row % s->ih, pixel % s->iw, ic));
}

static void define_diff_weights(const struct operands *o, int64_t slice,
                                const struct dlb_sink *sink)
{
    const struct dlb_conv_shape *s = &o->s;
    int64_t oc = slice / s->icg, i = slice % s->icg, taps = s->kh * s->kw;
    for (int64_t tap = 0; tap < taps; tap++)
        sink->put(sink->context, DLB_CONV_WEIGHTS, slice * taps + tap,
                  diff_weight_element(o, oc, i, tap / s->kw, tap % s->kw));
    if (s->bias && i == oc % s->icg)
        sink->put(sink->context, DLB_CONV_BIASES, oc, diff_bias_element(o, oc));
}

static void conv_define(const struct dlb_problem *problem, void *const *tensor,
                        int64_t begin, int64_t end, const struct dlb_sink *sink)
{
    struct operands o = {.src = tensor[DLB_CONV_SRC],
                         .weights = tensor[DLB_CONV_WEIGHTS],
                         .dst = tensor[DLB_CONV_DST]};
    dlb_conv_shape_get(problem, &o.s);
    bool forward = problem->pass == DLB_FWD;
    o.bias = o.s.bias && forward ? tensor[DLB_CONV_BIASES] : NULL;
    for (int64_t slice = begin; slice < end; slice++)
        (forward                         ? define_dst
         : problem->pass == DLB_BWD_DATA ? define_diff_src
                                         : define_diff_weights)(&o, slice, sink);
}

/* Magnitudes are sum |a||b| + |bias| = M, made in float and so off by gamma_K M at most. */
static void conv_bound(const struct dlb_bound_call *call)
{
    const struct dlb_problem *problem = call->problem;
    double k = (double)dlb_op_conv.reduction(problem);
    /* Sums so long that the formula ends do not fit any memory. */
    double ku = fmin(k * UNIT_ROUNDOFF, 0.5), gamma = ku / (1 - ku), floor = 0;
    if (problem->accuracy == DLB_WINOGRAD) {
        struct dlb_tensor tensor[DLB_TENSORS_MAX];
        float largest = 0;
        dlb_op_conv.tensors(problem, tensor);
        for (int64_t i = 0; i < dlb_tensor_elements(&tensor[call->t]); i++)
            largest = fmaxf(largest, call->magnitude[i]);
        floor = WINOGRAD_GROWTH * UNIT_ROUNDOFF * largest;
    }
    bool exact = call->fill == DLB_FILL_EXACT && problem->accuracy == DLB_EXACT;
    for (int64_t i = call->begin; i < call->end; i++)
        call->bound[i - call->begin] =
            exact ? 0 : (float)(gamma / (1 - gamma) * call->magnitude[i] + floor);
}

static enum dlb_status conv_naive(const struct dlb_problem *problem, int threads,
                                  struct dlb_plan **plan, struct dlb_error *error)
{
    return dlb_naive_make(&dlb_reference_conv, problem, threads, plan, error);
}

const struct dlb_reference dlb_reference_conv = {
    .op = &dlb_op_conv,
    .slices = conv_slices,
    .define = conv_define,
    .bound = conv_bound,
    .magnitude_inputs = 1u << DLB_CONV_SRC | 1u << DLB_CONV_WEIGHTS | 1u << DLB_CONV_DST |
                        1u << DLB_CONV_BIASES,
    .naive = conv_naive,
    .onednn = dlb_conv_onednn,
};
