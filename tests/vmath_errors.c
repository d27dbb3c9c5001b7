#include "vmath_errors.h"

#include <math.h>
#include <string.h>

static const float SLACK = 1e-4F;

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

const struct dlb_vmath_case dlb_vmath_cases[DLB_VMATH_CASES] = {
    {"exp", exp, offsetof(struct dlb_vmath_kernels, exp), 1.2, -INFINITY, INFINITY,
     -INFINITY},
    {"exp_fast", exp, offsetof(struct dlb_vmath_kernels, exp_fast), 5.4, -INFINITY, 88,
     -86.98997F},
    {"tanh", tanh, offsetof(struct dlb_vmath_kernels, tanh), 2.02, -INFINITY, INFINITY,
     -INFINITY},
    {"sigmoid", sigmoid, offsetof(struct dlb_vmath_kernels, sigmoid), 2.5, -INFINITY,
     INFINITY, -88.37627F},
    {"exp_fast within 20", exp, offsetof(struct dlb_vmath_kernels, exp_fast), 2.7, -20,
     20, -INFINITY},
};

dlb_vmath_fn *dlb_vmath_kernel(const struct dlb_vmath_case *c, enum dlb_isa isa)
{
    dlb_vmath_fn *kernel;
    memcpy(&kernel, (const char *)dlb_vmath_kernels(isa) + c->kernel, sizeof kernel);
    return kernel;
}

float dlb_vmath_float(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

uint32_t dlb_vmath_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* 1 / the distance of floats at |exact|. */
static double inverse_ulp(double exact)
{
    uint64_t bits;
    memcpy(&bits, &exact, sizeof bits);
    int64_t exponent = (int64_t)(bits >> 52 & 0x7ff) - 1023;
    bits = (uint64_t)(1023 + 23 - (exponent < -126 ? -126 : exponent)) << 52;
    memcpy(&exact, &bits, sizeof exact);
    return exact;
}

static double error_of(const struct dlb_vmath_case *c, float x, float got, double exact)
{
    if (x < c->low || x > c->high)
        return 0;
    if (isnan(x) || isnan(got))
        return isnan(x) && isnan(got) ? 0 : INFINITY;
    if (x < c->zero - SLACK)
        return got == 0 ? 0 : INFINITY;
    if (x < c->zero + SLACK && got == 0)
        return 0;
    if ((float)exact == got)
        return isinf(got) ? 0 : fabs(got - exact) * inverse_ulp(exact);
    return fabs(got - exact) * inverse_ulp(fmin(fabs(exact), 0x1p127));
}

void dlb_vmath_compare(const struct dlb_vmath_case *c, const float *x, const float *got,
                       const double *exact, int64_t n, struct dlb_vmath_worst *worst)
{
    for (int64_t i = 0; i < n; i++) {
        double error = error_of(c, x[i], got[i], exact[i]);
        /* A zero keeps its sign in the only function that has one at 0. */
        if (x[i] == 0 && exact[i] == 0 && signbit(x[i]) != signbit(got[i]))
            error = INFINITY;
        if (error > worst->ulp)
            *worst = (struct dlb_vmath_worst){error, x[i], got[i], exact[i]};
    }
}
