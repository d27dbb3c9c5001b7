/*
 * vmath_inline.h - exp, tanh and the logistic sigmoid of one vector, to be inlined into
 * kernels (*_kernels.c, after core/vec.h).  Pure functions of each lane; no branch, no table.
 *
 * Worst error in ulp of the exact result, measured over all 2^32 inputs
 * (tests/vmath_exhaustive.c):
 *
 *                with FMA   without
 *   v_exp            0.90      1.17
 *   v_exp_fast       5.32      2.27   of |x| <= 20: 2.66 and 2.27
 *   v_tanh           1.97      2.02
 *   v_sigmoid        2.49      2.49
 *
 * NaN gives NaN everywhere.
 *
 * Source    reduction by a whole multiple of ln 2 in two constants: Cody and Waite, "Software
 *           Manual for the Elementary Functions", 1980.  The polynomials are minimax fits in
 *           relative error (iteratively reweighted least squares at 40 digits), their
 *           coefficients rounded one after the other, lowest power first, the rest being
 *           fitted again each time.
 */
#ifndef DLB_CORE_VMATH_INLINE_H
#define DLB_CORE_VMATH_INLINE_H

#include "core/vec.h"

/* ln 2 in two parts; a whole number of 9 bits times the first are exact. */
#define V_LN2_HIGH 0x1.62e4p-1f
#define V_LN2_LOW  0x1.7f7d1cp-20f
#define V_LOG2_E   0x1.715476p+0f

/* exp(sign * r) for |r| <= ln 2 / 2; sign is 1 or -1.  2^-28. */
DLB_INLINE vec v_exp_reduced_(vec r, float sign)
{
    vec p = v_set1(0x1.6a4f28p-10f);
    p = v_fma(p, r, v_set1(0x1.12398p-7f * sign));
    p = v_fma(p, r, v_set1(0x1.5558aep-5f));
    p = v_fma(p, r, v_set1(0x1.555492p-3f * sign));
    p = v_fma(p, r, v_set1(0x1.fffffcp-2f));
    p = v_fma(p, r, v_set1(sign));
    return v_fma(p, r, v_set1(1));
}

/* e^x, of all x; gradual underflow, +inf above, 0 for -inf. */
DLB_INLINE vec v_exp(vec x)
{
    x = v_min(v_set1(89), v_max(v_set1(-104), x));
    vec n = v_sub(v_fma(x, v_set1(V_LOG2_E), v_set1(V_WHOLE)), v_set1(V_WHOLE));
    vec r = v_fma(n, v_set1(-V_LN2_HIGH), x);
    r = v_fma(n, v_set1(-V_LN2_LOW), r);
    return v_ldexp(v_exp_reduced_(r, 1), n);
}

enum { V_EXP_MANY = 8 };

/*
 * e^x of x <= 88 for n vectors at once (1 … V_EXP_MANY), in place, for the weights of a
 * softmax: 0 for x < -86.99, where e^x comes near the subnormal numbers, -inf included; no
 * subnormal occurs.  1 for x = 0.  Step by step for all of them, since a processor looks
 * ahead over few chains of this length.
 */
DLB_INLINE void v_exp_fast_many(vec *x, int n)
{
    static const float power[] = {0x1.573a22p-4f, 0x1.555a7ep-2f, 0x1.fffdc6p-1f,
                                  0x1.fffff6p+0f, 2};
    vec t[V_EXP_MANY], r[V_EXP_MANY];
    DLB_UNROLL
    for (int i = 0; i < n; i++)
        x[i] = v_max(v_set1(-87.3f), x[i]);
    /* The power is 2^(n - 1), the polynomial's double makes up for it: n = -126 gives 0. */
    DLB_UNROLL
    for (int i = 0; i < n; i++)
        t[i] = v_fma(x[i], v_set1(V_LOG2_E), v_set1(V_POW2 - 1));
    DLB_UNROLL
    for (int i = 0; i < n; i++)
        r[i] = v_sub(t[i], v_set1(V_POW2 - 1));
    /* In one constant ln 2 is wrong by 2^-29 of n: an FMA has no other error. */
    DLB_UNROLL
    for (int i = 0; i < n; i++)
        r[i] = V_FMA ? v_fma(r[i], v_set1(-(V_LN2_HIGH + V_LN2_LOW)), x[i])
                     : v_fma(r[i], v_set1(-V_LN2_LOW),
                             v_fma(r[i], v_set1(-V_LN2_HIGH), x[i]));
    DLB_UNROLL
    for (int i = 0; i < n; i++)
        x[i] = v_set1(0x1.0fa0dep-6f);
    DLB_UNROLL
    for (int k = 0; k < 5; k++)
        DLB_UNROLL
    for (int i = 0; i < n; i++)
        x[i] = v_fma(x[i], r[i], v_set1(power[k]));
    DLB_UNROLL
    for (int i = 0; i < n; i++)
        x[i] = v_mul(x[i], v_pow2(t[i]));
}

DLB_INLINE vec v_exp_fast(vec x)
{
    v_exp_fast_many(&x, 1);
    return x;
}

/* tanh x; x itself where that is nearest, so -0 stays, and ±1 for ±inf. */
DLB_INLINE vec v_tanh(vec x)
{
    /* e^(-2|x|) = 2^n * e^(-2w) with |w| <= ln 2 / 4; beyond 10 tanh is 1. */
    vec a = v_min(v_set1(10), v_abs(x));
    vec t = v_fma(a, v_set1(-2 * V_LOG2_E), v_set1(V_POW2 + 1));
    vec n = v_sub(t, v_set1(V_POW2 + 1));
    vec w = v_fma(n, v_set1(V_LN2_HIGH / 2), a);
    w = v_fma(n, v_set1(V_LN2_LOW / 2), w);
    /* (1 - e^(-2w)) / 2 = w + w^2 * p, 2^-26 */
    vec p = v_set1(-0x1.6b976ap-5f);
    p = v_fma(p, w, v_set1(0x1.12253ap-3f));
    p = v_fma(p, w, v_set1(-0x1.5556f6p-2f));
    p = v_fma(p, w, v_set1(0x1.5554b4p-1f));
    p = v_fma(p, w, v_set1(-0x1.fffffep-1f));
    p = v_fma(v_mul(w, w), p, w);
    /* (1 - e) / (1 + e), both from p: 2 less the one for the other would double its
     * rounding.  Where they are not exact, 1 - e loses no digit, since n is not above 0. */
    vec twice = v_pow2(t);
    vec less = v_fma(twice, p, v_fma(twice, v_set1(-0.5f), v_set1(1)));
    vec more = v_sub(v_fma(twice, v_set1(0.5f), v_set1(1)), v_mul(twice, p));
    return v_copysign(v_div(less, more), x);
}

/* 1 / (1 + e^-x); 0 for x < -88.37, where it would become subnormal soon. */
DLB_INLINE vec v_sigmoid(vec x)
{
    /* e^-x = 2^n * e^-w; -88.5 makes n 128 and so the power infinite. */
    x = v_min(v_set1(40), v_max(v_set1(-88.5f), x));
    vec t = v_fma(x, v_set1(-V_LOG2_E), v_set1(V_POW2));
    vec n = v_sub(t, v_set1(V_POW2));
    vec w = v_fma(n, v_set1(V_LN2_HIGH), x);
    w = v_fma(n, v_set1(V_LN2_LOW), w);
    vec more = v_fma(v_exp_reduced_(w, -1), v_pow2(t), v_set1(1));
    return v_div(v_set1(1), more);
}

#endif
