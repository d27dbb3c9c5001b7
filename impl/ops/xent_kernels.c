/*
 * Softmax cross-entropy, row by row.
 *
 *   m = max of x;  s = sum of exp(x - m);  to = factor * exp(x - m)
 *
 * Shapes    x, to: n elements
 * Units     elements
 * Tiles     as many vectors at once as the registers hold; block elements are read twice,
 *           for their maximum and their sum, and the sum so far is scaled to a new maximum
 * Work items and barriers   none: one call, one thread
 * Scratch   none
 * Cost      some 16 operations a vector; 4 bytes read an element, backward 4 written
 * Numerics  a sum per lane and vector of a group, joined at the end of a block
 * Errors    none; sizes are the caller's
 * Source    Milakov & Gimelshein, "Online normalizer calculation for softmax", 2018
 */
#include "ops/xent_kernels.h"

#include "core/vec.h"
#include "core/vmath_inline.h"

#include <float.h>

/* Vectors that are worked on together. */
enum { MANY = VREGS / 4, GROUP = MANY * VLEN };

static float exp_one(float x)
{
    float lanes[VLEN];
    v_storeu(lanes, v_exp_fast(v_set1(x)));
    return lanes[0];
}

/* Of maximum too. */
static float maximum_of(const float *x, int64_t n, float maximum)
{
    vec top[MANY];
    int64_t i = 0;
    DLB_UNROLL
    for (int k = 0; k < MANY; k++)
        top[k] = v_set1(maximum);
    for (; i + GROUP <= n; i += GROUP)
        DLB_UNROLL
    for (int k = 0; k < MANY; k++)
        top[k] = v_max(v_loadu(x + i + k * VLEN), top[k]);
    for (; i + VLEN <= n; i += VLEN)
        top[0] = v_max(v_loadu(x + i), top[0]);
    DLB_UNROLL
    for (int k = 1; k < MANY; k++)
        top[0] = v_max(top[k], top[0]);
    maximum = v_max_lanes(top[0]);
    for (; i < n; i++)
        maximum = x[i] > maximum ? x[i] : maximum;
    return maximum;
}

static float sum_of(const float *x, int64_t n, float maximum)
{
    const vec top = v_set1(maximum);
    vec sum[MANY], e[V_EXP_MANY];
    int64_t i = 0;
    DLB_UNROLL
    for (int k = 0; k < MANY; k++)
        sum[k] = v_zero();
    for (; i + GROUP <= n; i += GROUP) {
        DLB_UNROLL
        for (int k = 0; k < MANY; k++)
            e[k] = v_sub(v_loadu(x + i + k * VLEN), top);
        v_exp_fast_many(e, MANY);
        DLB_UNROLL
        for (int k = 0; k < MANY; k++)
            sum[k] = v_add(sum[k], e[k]);
    }
    for (; i + VLEN <= n; i += VLEN)
        sum[0] = v_add(sum[0], v_exp_fast(v_sub(v_loadu(x + i), top)));
    DLB_UNROLL
    for (int k = 1; k < MANY; k++)
        sum[0] = v_add(sum[0], sum[k]);
    float total = v_sum(sum[0]);
    if (i < n) {
        float rest[VLEN];
        v_storeu(rest, v_exp_fast(v_sub(v_load_n(x + i, (int)(n - i)), top)));
        for (int k = 0; k < n - i; k++)
            total += rest[k];
    }
    return total;
}

static void statistics(const float *x, int64_t n, int64_t block, float *maximum,
                       float *sum)
{
    float top = -FLT_MAX, total = 0;
    for (int64_t i = 0; i < n; i += block) {
        const int64_t length = n - i < block ? n - i : block;
        const float now = maximum_of(x + i, length, top);
        total = total * exp_one(top - now) + sum_of(x + i, length, now);
        top = now;
    }
    *maximum = top;
    *sum = total;
}

/* to = factor * exp(x - top), or factor * x without exp, of MANY vectors and of fewer lanes. */
DLB_INLINE void weigh_many(const float *x, vec top, vec factor, float *to, bool with_exp,
                           bool stream)
{
    vec e[V_EXP_MANY];
    DLB_UNROLL
    for (int k = 0; k < MANY; k++)
        e[k] = with_exp ? v_sub(v_loadu(x + k * VLEN), top) : v_loadu(x + k * VLEN);
    if (with_exp)
        v_exp_fast_many(e, MANY);
    DLB_UNROLL
    for (int k = 0; k < MANY; k++) {
        if (stream)
            v_stream(to + k * VLEN, v_mul(factor, e[k]));
        else
            v_storeu(to + k * VLEN, v_mul(factor, e[k]));
    }
}

DLB_INLINE void weigh_some(const float *x, int n, vec top, vec factor, float *to,
                           bool with_exp)
{
    vec e = v_load_n(x, n);
    v_store_n(to, v_mul(factor, with_exp ? v_exp_fast(v_sub(e, top)) : e), n);
}

DLB_INLINE void weigh_row(const float *x, int64_t n, vec top, vec factor, float *to,
                          bool with_exp, bool stream)
{
    int64_t i = 0;
    if (stream) {
        const int off = (int)((uintptr_t)to / sizeof *to % VLEN);
        const int64_t head = off ? VLEN - off : 0;
        i = head < n ? head : n;
        weigh_some(x, (int)i, top, factor, to, with_exp);
    }
    for (; i + GROUP <= n; i += GROUP)
        weigh_many(x + i, top, factor, to + i, with_exp, stream);
    for (; i < n; i += VLEN)
        weigh_some(x + i, (int)(n - i < VLEN ? n - i : VLEN), top, factor, to + i,
                   with_exp);
}

static void weigh(const float *x, int64_t n, float maximum, float factor, float *to,
                  bool stream)
{
    if (stream)
        weigh_row(x, n, v_set1(maximum), v_set1(factor), to, true, true);
    else
        weigh_row(x, n, v_set1(maximum), v_set1(factor), to, true, false);
}

static void scale(const float *p, int64_t n, float factor, float *to, bool stream)
{
    if (stream)
        weigh_row(p, n, v_zero(), v_set1(factor), to, false, true);
    else
        weigh_row(p, n, v_zero(), v_set1(factor), to, false, false);
}

extern const struct dlb_xent_kernels DLB_NAME(dlb_xent);
const struct dlb_xent_kernels DLB_NAME(dlb_xent) = {
    .statistics = statistics,
    .weigh = weigh,
    .scale = scale,
    .stream_fence = v_stream_fence,
};
