/*
 * The plain definition of conv (formula in ops/conv.h).
 *
 * Taps outside the input are skipped, so a NaN or infinite weight reaches only outputs
 * whose window covers an input element under it.  ReLU keeps NaN: it replaces what is
 * less than 0 and nothing else.
 * Numerics: products of floats are exact in double; the sum of K of them is off by at
 * most K * 2^-53 * sum |a||b|, far below one float rounding for any K that fits memory.
 */
#include "ops/conv_internal.h"
#include "reference_internal.h"

#include <assert.h>
#include <math.h>

struct operands {
    struct dlb_conv_shape s;
    const float *src, *weights, *bias; /* bias NULL when there is none */
};

static double define_element(const struct operands *o, int64_t n, int64_t oh, int64_t ow,
                             int64_t oc, double *magnitude)
{
    const struct dlb_conv_shape *s = &o->s;
    int64_t group = oc / s->ocg, taps = s->kh * s->kw;
    const float *weights = o->weights + oc * s->icg * taps;
    double sum = o->bias ? o->bias[oc] : 0, size = fabs(sum);
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
            for (int64_t i = 0; i < s->icg; i++) {
                double product = (double)src[i] * tap[i * taps];
                sum += product;
                size += fabs(product);
            }
        }
    }
    *magnitude = size;
    return s->relu && sum < 0 ? 0 : sum;
}

static void conv_define(const struct dlb_problem *problem, void *const *tensor,
                        int output, int64_t begin, int64_t end, double *result,
                        double *magnitude)
{
    assert(output == DLB_CONV_DST);
    (void)output;
    struct operands o = {.src = tensor[DLB_CONV_SRC],
                         .weights = tensor[DLB_CONV_WEIGHTS]};
    dlb_conv_shape_get(problem, &o.s);
    o.bias = o.s.bias ? tensor[DLB_CONV_BIASES] : NULL;
    for (int64_t i = begin; i < end; i++) {
        int64_t oc = i % o.s.oc, pixel = i / o.s.oc;
        int64_t ow = pixel % o.s.ow, row = pixel / o.s.ow;
        double size;
        result[i - begin] = define_element(&o, row / o.s.oh, row % o.s.oh, ow, oc, &size);
        if (magnitude)
            magnitude[i - begin] = size;
    }
}

static enum dlb_status conv_naive(const struct dlb_problem *problem, int threads,
                                  struct dlb_plan **plan, struct dlb_error *error)
{
    return dlb_naive_make(&dlb_reference_conv, problem, threads, plan, error);
}

const struct dlb_reference dlb_reference_conv = {
    .op = &dlb_op_conv,
    .define = conv_define,
    .naive = conv_naive,
    .onednn = dlb_conv_onednn,
};
