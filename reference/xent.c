/*
 * The plain definition of softmax cross-entropy (formulas in ops/xent.h), all in double.
 *
 * Bounds.  eps = 2^-23.  A sum of C exponentials of up to 4 ulp errs by about sqrt(C) u of its
 * value (Higham & Mary, "A new approach to probabilistic rounding error analysis", 2019; one
 * sigma is 0.17 eps sqrt(C), 4.5 times that is SUM sqrt(C)), and so by
 *
 *   s = REST + SUM sqrt(C)
 *
 * eps does its logarithm.  REST: exp, the difference to the maximum, sums of logits below
 * 4, and the logarithm, with which oneDNN errs by up to 12 eps near 1.
 *   logsum       s eps, and its own rounding
 *   loss         the same for each row; the rows' losses are added
 *   diff_logits  p is off by a part of s + ln C / 2 + 4 (where it is made as exp(x - logsum)),
 *                p - 1 by its rounding: eps of diff_loss w
 */
#include "ops/xent.h"

#include "reference_internal.h"

#include <math.h>

static const double EPS = 0x1p-23;

/* The loss is one number of all rows. */
static int64_t xent_slices(const struct dlb_problem *problem)
{
    return problem->pass == DLB_BWD ? problem->dim[DLB_XENT_MB] : 1;
}

/* The sum of exp(x - most) over most of a row: NaN where there is one, +inf, or nothing but
 * -inf. */
static double define_sum(const float *x, int64_t n, double *most)
{
    double sum = 0;
    *most = -INFINITY;
    for (int64_t c = 0; c < n; c++)
        *most = x[c] > *most ? x[c] : *most;
    for (int64_t c = 0; c < n; c++)
        sum += exp(x[c] - *most);
    return sum;
}

static void define_loss(const struct dlb_xent_shape *s, void *const *tensor,
                        const struct dlb_sink *sink)
{
    const float *logits = tensor[DLB_XENT_LOGITS], *labels = tensor[DLB_XENT_LABELS];
    double loss = 0, most;
    for (int64_t n = 0; n < s->mb; n++, logits += s->ic) {
        int64_t class = dlb_xent_class(s, labels[n]);
        double logarithm = log(define_sum(logits, s->ic, &most));
        loss += class < 0 ? NAN : most - logits[class] + logarithm;
        if (s->train)
            sink->put(sink->context, DLB_XENT_LOGSUM, n, most + logarithm);
    }
    sink->put(sink->context, DLB_XENT_LOSS_VALUE, 0, loss * s->weight);
}

static void define_gradient(const struct dlb_xent_shape *s, void *const *tensor,
                            int64_t n, const struct dlb_sink *sink)
{
    const float *logits = (const float *)tensor[DLB_XENT_LOGITS] + n * s->ic;
    const int64_t class = dlb_xent_class(s, ((const float *)tensor[DLB_XENT_LABELS])[n]);
    const double scale = *(const float *)tensor[DLB_XENT_DIFF_LOSS] * (double)s->weight;
    double most, sum = define_sum(logits, s->ic, &most);
    for (int64_t c = 0; c < s->ic; c++) {
        double p = class < 0 ? NAN : exp(logits[c] - most) / sum;
        sink->put(sink->context, DLB_XENT_DIFF_LOGITS, n * s->ic + c,
                  scale * (p - (c == class)));
    }
}

static void xent_define(const struct dlb_problem *problem, void *const *tensor,
                        int64_t begin, int64_t end, const struct dlb_sink *sink)
{
    struct dlb_xent_shape s;
    dlb_xent_shape_get(problem, &s);
    for (int64_t slice = begin; slice < end; slice++) {
        if (s.backward)
            define_gradient(&s, tensor, slice, sink);
        else
            define_loss(&s, tensor, sink);
    }
}

static void xent_bound(const struct dlb_bound_call *call)
{
    static const double REST = 16, SUM = 0.75;
    struct dlb_xent_shape s;
    dlb_xent_shape_get(call->problem, &s);
    const float *value = call->tensor[call->t], *labels = call->tensor[DLB_XENT_LABELS];
    const double row = REST + SUM * sqrt((double)s.ic);
    double scale = 0;
    if (s.backward)
        scale = fabs(*(const float *)call->tensor[DLB_XENT_DIFF_LOSS] * (double)s.weight);
    for (int64_t e = call->begin; e < call->end; e++) {
        double size = fabs((double)value[e]), bound;
        if (s.backward) {
            bool hit = e % s.ic == dlb_xent_class(&s, labels[e / s.ic]);
            double p = hit ? scale - size : size;
            bound = (row + log((double)s.ic) / 2 + 4) * p + size + (hit ? scale : 0);
        } else {
            bool loss = call->t == DLB_XENT_LOSS_VALUE;
            bound = row * (loss ? (double)s.mb * s.weight : 1) + 2 * size;
        }
        call->bound[e - call->begin] = (float)(EPS * bound);
    }
}

static enum dlb_status xent_naive(const struct dlb_problem *problem, int threads,
                                  struct dlb_plan **plan, struct dlb_error *error)
{
    return dlb_naive_make(&dlb_reference_xent, problem, threads, plan, error);
}

const struct dlb_reference dlb_reference_xent = {
    .op = &dlb_op_softmax_xent,
    .slices = xent_slices,
    .define = xent_define,
    .bound = xent_bound,
    .naive = xent_naive,
    .onednn = dlb_xent_onednn,
};
