/* vmath_errors.h - how wrong the functions of core/vmath.h are, in ulp of exact results. */
#ifndef TESTS_VMATH_ERRORS_H
#define TESTS_VMATH_ERRORS_H

#include "core/vmath.h"

enum { DLB_VMATH_CASES = 5 };

struct dlb_vmath_case {
    const char *name;
    double (*exact)(double);
    size_t kernel; /* its place in struct dlb_vmath_kernels */
    double ulp;    /* the most that is allowed from low to high */
    float low, high;
    /* Below `zero` the result is 0, give or take 1e-4 in x. */
    float zero;
};

/* The first four in the order of struct dlb_vmath_kernels. */
extern const struct dlb_vmath_case dlb_vmath_cases[DLB_VMATH_CASES];

struct dlb_vmath_worst {
    double ulp; /* infinite for a NaN too many or too few */
    float x, got;
    double exact;
};

dlb_vmath_fn *dlb_vmath_kernel(const struct dlb_vmath_case *c, enum dlb_isa isa);

float dlb_vmath_float(uint32_t bits);
uint32_t dlb_vmath_bits(float x);

/* Raises *worst by what is worse among got[i], which stands for exact[i] = f(x[i]). */
void dlb_vmath_compare(const struct dlb_vmath_case *c, const float *x, const float *got,
                       const double *exact, int64_t n, struct dlb_vmath_worst *worst);

#endif
