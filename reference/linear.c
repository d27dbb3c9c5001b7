/*
 * The plain definition of linear (formulas in ops/linear.h).
 *
 * ReLU keeps NaN: it replaces what is less than 0 and nothing else.
 * Numerics: products of floats are exact in double; the sum of K of them is off by at
 * most K * 2^-53 * sum |a||b|, far below one float rounding for any K that fits memory.
 *
 * Bounds.  u = 2^-24 is the rounding error of one float operation, K the length of the
 * reduction (with the bias), M = sum |a||b| + |bias|, gamma_K = K u / (1 - K u).
 *   exact fill   0: every partial sum is a whole number below 2^24
 *   dense fill   a sum of K products in float, in any order, with or without FMA, errs by
 *                at most gamma_K M; ReLU does not enlarge that
 */
#include "ops/linear_internal.h"
#include "reference_internal.h"

#include <float.h>
#include <math.h>

static const double UNIT_ROUNDOFF = FLT_EPSILON / 2;

/* A slice is an output channel, and in bwd_data an input channel. */
static int64_t linear_slices(const struct dlb_problem *problem)
{
    struct dlb_linear_product p;
    dlb_linear_product_get(problem, &p);
    return p.gradient ? p.m : p.n;
}

struct operands {
    struct dlb_linear_product p;
    const float *a, *b, *bias;
};

static double define_element(const struct operands *o, int64_t m, int64_t n)
{
    const struct dlb_linear_product *p = &o->p;
    const int64_t a_row = p->gradient ? 1 : p->k, a_k = p->gradient ? p->m : 1,
                  b_column = p->transposed ? p->k : 1, b_k = p->transposed ? 1 : p->n;
    double sum = o->bias ? o->bias[n] : 0;
    for (int64_t k = 0; k < p->k; k++)
        sum += (double)o->a[m * a_row + k * a_k] * o->b[n * b_column + k * b_k];
    return p->relu && sum < 0 ? 0 : sum;
}

static void define_gradient(const struct operands *o, int64_t m,
                            const struct dlb_sink *sink)
{
    const struct dlb_linear_product *p = &o->p;
    double sum = 0;
    for (int64_t n = 0; n < p->n; n++)
        sink->put(sink->context, DLB_LINEAR_C, m * p->n + n, define_element(o, m, n));
    for (int64_t k = 0; k < p->k; k++)
        sum += o->a[m + k * p->m];
    if (p->vector)
        sink->put(sink->context, DLB_LINEAR_VECTOR, m, sum);
}

static void linear_define(const struct dlb_problem *problem, void *const *tensor,
                          int64_t begin, int64_t end, const struct dlb_sink *sink)
{
    struct operands o = {.a = tensor[DLB_LINEAR_A], .b = tensor[DLB_LINEAR_B]};
    dlb_linear_product_get(problem, &o.p);
    if (o.p.vector && !o.p.gradient)
        o.bias = tensor[DLB_LINEAR_VECTOR];
    for (int64_t slice = begin; slice < end; slice++) {
        if (o.p.gradient)
            define_gradient(&o, slice, sink);
        for (int64_t m = 0; !o.p.gradient && m < o.p.m; m++)
            sink->put(sink->context, DLB_LINEAR_C, m * o.p.n + slice,
                      define_element(&o, m, slice));
    }
}

/* Magnitudes are M, made in float and so off by gamma_K M at most. */
static void linear_bound(const struct dlb_bound_call *call)
{
    double k = (double)dlb_op_linear.reduction(call->problem);
    /* Sums so long that the formula ends do not fit any memory. */
    double ku = fmin(k * UNIT_ROUNDOFF, 0.5), gamma = ku / (1 - ku);
    for (int64_t i = call->begin; i < call->end; i++)
        call->bound[i - call->begin] =
            call->fill == DLB_FILL_EXACT
                ? 0
                : (float)(gamma / (1 - gamma) * call->magnitude[i]);
}

static enum dlb_status linear_naive(const struct dlb_problem *problem, int threads,
                                    struct dlb_plan **plan, struct dlb_error *error)
{
    return dlb_naive_make(&dlb_reference_linear, problem, threads, plan, error);
}

const struct dlb_reference dlb_reference_linear = {
    .op = &dlb_op_linear,
    .slices = linear_slices,
    .define = linear_define,
    .bound = linear_bound,
    .magnitude_inputs = 1u << DLB_LINEAR_A | 1u << DLB_LINEAR_B | 1u << DLB_LINEAR_VECTOR,
    .naive = linear_naive,
    .onednn = dlb_linear_onednn,
};
