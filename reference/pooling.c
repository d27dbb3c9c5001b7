/*
 * The plain definition of pooling (formulas in ops/pooling.h).
 *
 * Bounds.  u = 2^-24, K taps of a window, M the sum of magnitudes, divided by the count.
 *   max      0: a maximum is one of the elements, and an index is an index.  bwd: the sum
 *            of at most W gradients, W windows over a pixel: gamma_W M; exact fill 0
 *   average  the sum of K terms and its division, or product with a rounded reciprocal:
 *            gamma_(K+2) M; exact fill: the sum is exact where it stays below 2^24, so
 *            gamma_3 of the result.  bwd: gamma_(W+2) M
 */
#include "ops/pooling.h"

#include "reference_internal.h"

#include <float.h>
#include <math.h>

static const double UNIT_ROUNDOFF = FLT_EPSILON / 2;

/* The taps of one window that lie inside the input. */
struct window {
    int64_t h[2], w[2];
    int64_t count; /* by which an average divides */
};

static struct window window_get(const struct dlb_pooling_shape *s, int64_t oh, int64_t ow)
{
    struct window v;
    dlb_pooling_taps(oh, s->ih, s->kh, s->sh, s->ph, &v.h[0], &v.h[1]);
    dlb_pooling_taps(ow, s->iw, s->kw, s->sw, s->pw, &v.w[0], &v.w[1]);
    v.count = s->kind == DLB_POOLING_AVG ? (v.h[1] - v.h[0]) * (v.w[1] - v.w[0])
                                         : s->kh * s->kw;
    return v;
}

/* A slice is an image with one channel. */
static int64_t pooling_slices(const struct dlb_problem *problem)
{
    return problem->dim[DLB_POOLING_MB] * problem->dim[DLB_POOLING_IC];
}

static int64_t source(const struct dlb_pooling_shape *s, int64_t n, int64_t oh,
                      int64_t ow, int64_t kh, int64_t kw, int64_t c)
{
    return ((n * s->ih + oh * s->sh - s->ph + kh) * s->iw + ow * s->sw - s->pw + kw) *
               s->ic +
           c;
}

/* The tap of the maximum. */
static int64_t find_max(const struct dlb_pooling_shape *s, const float *src,
                        const struct window *v, int64_t n, int64_t oh, int64_t ow,
                        int64_t c)
{
    int64_t tap = v->h[0] * s->kw + v->w[0];
    float most = src[source(s, n, oh, ow, v->h[0], v->w[0], c)];
    for (int64_t kh = v->h[0]; kh < v->h[1]; kh++)
        for (int64_t kw = v->w[0]; kw < v->w[1]; kw++) {
            float x = src[source(s, n, oh, ow, kh, kw, c)];
            if (x > most || (isnan(x) && !isnan(most))) {
                most = x;
                tap = kh * s->kw + kw;
            }
        }
    return tap;
}

static double mean(const struct dlb_pooling_shape *s, const float *src,
                   const struct window *v, int64_t n, int64_t oh, int64_t ow, int64_t c)
{
    double sum = 0;
    for (int64_t kh = v->h[0]; kh < v->h[1]; kh++)
        for (int64_t kw = v->w[0]; kw < v->w[1]; kw++)
            sum += src[source(s, n, oh, ow, kh, kw, c)];
    return sum / (double)v->count;
}

static void define_forward(const struct dlb_pooling_shape *s, void *const *tensor,
                           bool keep, int64_t n, int64_t c, const struct dlb_sink *sink)
{
    const float *src = tensor[DLB_POOLING_SRC];
    for (int64_t oh = 0; oh < s->oh; oh++)
        for (int64_t ow = 0; ow < s->ow; ow++) {
            const struct window v = window_get(s, oh, ow);
            int64_t at = ((n * s->oh + oh) * s->ow + ow) * s->ic + c;
            if (s->kind != DLB_POOLING_MAX) {
                sink->put(sink->context, DLB_POOLING_DST, at,
                          mean(s, src, &v, n, oh, ow, c));
                continue;
            }
            int64_t tap = find_max(s, src, &v, n, oh, ow, c);
            sink->put(sink->context, DLB_POOLING_DST, at,
                      src[source(s, n, oh, ow, tap / s->kw, tap % s->kw, c)]);
            if (keep)
                sink->put(sink->context, DLB_POOLING_INDEX, at, (double)tap);
        }
}

/* What reaches one pixel; or the sum of its magnitudes. */
static double define_gradient(const struct dlb_pooling_shape *s, void *const *tensor,
                              int64_t pixel, int64_t c, bool absolute)
{
    const float *diff = tensor[DLB_POOLING_DIFF_DST];
    const int64_t iw = pixel % s->iw, ih = pixel / s->iw % s->ih,
                  n = pixel / s->iw / s->ih;
    int64_t h[2], w[2];
    double sum = 0;
    dlb_pooling_windows(ih, s->oh, s->kh, s->sh, s->ph, &h[0], &h[1]);
    dlb_pooling_windows(iw, s->ow, s->kw, s->sw, s->pw, &w[0], &w[1]);
    for (int64_t oh = h[0]; oh < h[1]; oh++)
        for (int64_t ow = w[0]; ow < w[1]; ow++) {
            const struct window v = window_get(s, oh, ow);
            const int64_t tap =
                (ih - oh * s->sh + s->ph) * s->kw + iw - ow * s->sw + s->pw;
            double one = diff[((n * s->oh + oh) * s->ow + ow) * s->ic + c];
            one = absolute ? fabs(one) : one;
            if (s->kind != DLB_POOLING_MAX)
                sum += one / (double)v.count;
            else if (find_max(s, tensor[DLB_POOLING_BWD_SRC], &v, n, oh, ow, c) == tap)
                sum += one;
        }
    return sum;
}

static void pooling_define(const struct dlb_problem *problem, void *const *tensor,
                           int64_t begin, int64_t end, const struct dlb_sink *sink)
{
    struct dlb_pooling_shape s;
    dlb_pooling_shape_get(problem, &s);
    for (int64_t slice = begin; slice < end; slice++) {
        int64_t n = slice / s.ic, c = slice % s.ic;
        if (problem->pass != DLB_BWD) {
            define_forward(&s, tensor,
                           problem->pass == DLB_FWD_TRAIN && s.kind == DLB_POOLING_MAX, n,
                           c, sink);
            continue;
        }
        for (int64_t i = 0; i < s.ih * s.iw; i++) {
            int64_t pixel = n * s.ih * s.iw + i;
            sink->put(sink->context, DLB_POOLING_DIFF_SRC, pixel * s.ic + c,
                      define_gradient(&s, tensor, pixel, c, false));
        }
    }
}

static double gamma_of(double k)
{
    double ku = fmin(k * UNIT_ROUNDOFF, 0.5);
    return ku / (1 - ku);
}

static void pooling_bound(const struct dlb_bound_call *call)
{
    struct dlb_pooling_shape s;
    dlb_pooling_shape_get(call->problem, &s);
    const bool back = call->problem->pass == DLB_BWD, max = s.kind == DLB_POOLING_MAX,
               exact = call->fill == DLB_FILL_EXACT;
    const double taps = (double)(s.kh * s.kw),
                 windows = (double)(dlb_div_up(s.kh, s.sh) * dlb_div_up(s.kw, s.sw));
    double gamma = gamma_of((back ? windows : taps) + 2);
    if (max)
        gamma = back && !exact ? gamma_of(windows) : 0;
    else if (exact && !back && taps < 0x1p18)
        gamma = gamma_of(3);
    for (int64_t i = call->begin; i < call->end; i++) {
        double magnitude = 0;
        if (call->magnitude)
            magnitude = call->magnitude[i];
        else if (gamma > 0)
            magnitude = back ? define_gradient(&s, call->tensor, i / s.ic, i % s.ic, true)
                             : fabs(((const float *)call->tensor[call->t])[i]);
        /* Magnitudes made in float are off by as much themselves. */
        call->bound[i - call->begin] = (float)(gamma / (1 - gamma) * magnitude);
    }
}

static enum dlb_status pooling_naive(const struct dlb_problem *problem, int threads,
                                     struct dlb_plan **plan, struct dlb_error *error)
{
    return dlb_naive_make(&dlb_reference_pooling, problem, threads, plan, error);
}

const struct dlb_reference dlb_reference_pooling = {
    .op = &dlb_op_pooling,
    .slices = pooling_slices,
    .define = pooling_define,
    .bound = pooling_bound,
    .magnitude_inputs = 1u << DLB_POOLING_SRC | 1u << DLB_POOLING_DST,
    .naive = pooling_naive,
    .onednn = dlb_pooling_onednn,
};
