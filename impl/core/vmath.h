/*
 * vmath.h - exp, tanh and the logistic sigmoid of a vector of floats, for sources that
 * are compiled once per instruction set (*_kernels.c), and the same over arrays behind
 * the dispatch, for tests and for benchmarks.
 *
 * Errors are stated in ulp of the exact result, over all 2^32 inputs.
 */
#ifndef DLB_CORE_VMATH_H
#define DLB_CORE_VMATH_H

#include "core/isa.h"

/* y[i] = f(x[i]), i < n; x and y may be the same array, else they must not overlap. */
typedef void dlb_vmath_fn(const float *x, float *y, int64_t n);

struct dlb_vmath_kernels {
    dlb_vmath_fn *exp, *exp_fast, *tanh, *sigmoid;
};

/* The kernels of a usable ISA. */
const struct dlb_vmath_kernels *dlb_vmath_kernels(enum dlb_isa isa);

#endif
