/*
 * The functions of vmath_inline.h over arrays; see vmath.h.
 */
#include "core/vmath.h"

#include "core/vmath_inline.h"

DLB_INLINE void apply(vec (*f)(vec), const float *x, float *y, int64_t n)
{
    int64_t i = 0;
    for (; i + VLEN <= n; i += VLEN)
        v_storeu(y + i, f(v_loadu(x + i)));
    if (i < n)
        v_store_n(y + i, f(v_load_n(x + i, (int)(n - i))), (int)(n - i));
}

static void apply_exp(const float *x, float *y, int64_t n)
{
    apply(v_exp, x, y, n);
}

static void apply_exp_fast(const float *x, float *y, int64_t n)
{
    apply(v_exp_fast, x, y, n);
}

static void apply_tanh(const float *x, float *y, int64_t n)
{
    apply(v_tanh, x, y, n);
}

static void apply_sigmoid(const float *x, float *y, int64_t n)
{
    apply(v_sigmoid, x, y, n);
}

extern const struct dlb_vmath_kernels DLB_NAME(dlb_vmath_kernels);
const struct dlb_vmath_kernels DLB_NAME(dlb_vmath_kernels) = {
    .exp = apply_exp,
    .exp_fast = apply_exp_fast,
    .tanh = apply_tanh,
    .sigmoid = apply_sigmoid,
};
