/*
 * The plain definition of conv (formula in ops/conv.h).
 *
 * Taps outside the input are skipped, so a NaN or infinite weight reaches only outputs
 * whose window covers an input element under it.  ReLU keeps NaN: it replaces what is
 * less than 0 and nothing else.
 * Numerics: products of floats are exact in double; the sum of K of them is off by at
 * most K * 2^-53 * sum |a||b|, far below one float rounding for any K that fits memory.
 *
 * Bounds.  u = 2^-24 is the rounding error of one float operation, K the length of the
 * reduction (with the bias), M = sum |a||b| + |bias|, gamma_K = K u / (1 - K u).
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

struct operands {
    struct dlb_conv_shape s;
    const float *src, *weights, *bias; /* bias NULL when there is none */
};

static double define_element(const struct operands *o, int64_t n, int64_t oh, int64_t ow,
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
                o->src + ((n * s->ih + ih) * s->iw + iw) * s->ic + group * s->icg;
            const float *tap = weights + kh * s->kw + kw;
            for (int64_t i = 0; i < s->icg; i++)
                sum += (double)src[i] * tap[i * taps];
        }
    }
    return s->relu && sum < 0 ? 0 : sum;
}

/* A slice is an output pixel. */
static int64_t conv_slices(const struct dlb_problem *problem)
{
    struct dlb_conv_shape s;
    dlb_conv_shape_get(problem, &s);
    return s.mb * s.oh * s.ow;
}

static void conv_define(const struct dlb_problem *problem, void *const *tensor,
                        int64_t begin, int64_t end, const struct dlb_sink *sink)
{
    struct operands o = {.src = tensor[DLB_CONV_SRC],
                         .weights = tensor[DLB_CONV_WEIGHTS]};
    dlb_conv_shape_get(problem, &o.s);
    o.bias = o.s.bias ? tensor[DLB_CONV_BIASES] : NULL;
    for (int64_t pixel = begin; pixel < end; pixel++) {
        int64_t ow = pixel % o.s.ow, row = pixel / o.s.ow;
        for (int64_t oc = 0; oc < o.s.oc; oc++)
            sink->put(sink->context, DLB_CONV_DST, pixel * o.s.oc + oc,
                      define_element(&o, row / o.s.oh, row % o.s.oh, ow, oc));
    }
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
    .magnitude_inputs =
        1u << DLB_CONV_SRC | 1u << DLB_CONV_WEIGHTS | 1u << DLB_CONV_BIASES,
    .naive = conv_naive,
    .onednn = dlb_conv_onednn,
};
