/*
 * The plain definitions of activation, dropout and add (formulas in their headers): a slice
 * is an element.
 *
 * ReLU keeps NaN: it replaces what is less than 0 and nothing else.  Derivatives look for
 * what is > 0, which NaN is not.
 *
 * Bounds.  u = 2^-24, y the exact result.
 *   activation  relu and its derivative 0, of both fills; leaky u |y|: one product.
 *               sigmoid and tanh 8 u |y|, and 2^-125, where results become subnormal.
 *               Derivatives: y (1 - y) d 4 u |y'|: three roundings; (1 - y^2) d also
 *               u y^2 |d|, for those who square first and lose what cancels
 *   dropout     2 u |y|: the scale and the product; 0 where 1 / (1 - p) is a float.  The
 *               mask, and so the zeros, exactly
 *   add         0 of whole numbers; dense u |y|; the derivative 0
 */
#include "ops/activation.h"
#include "ops/add.h"
#include "ops/dropout.h"

#include "reference_internal.h"

#include <float.h>
#include <math.h>

static const double UNIT_ROUNDOFF = FLT_EPSILON / 2;

/* The first dim of all of them. */
static int64_t elements(const struct dlb_problem *problem)
{
    return problem->dim[0];
}

static double at(void *const *tensor, int t, int64_t i)
{
    return ((const float *)tensor[t])[i];
}

static double relu(double x)
{
    return x < 0 ? 0 : x;
}

static double activation_of(enum dlb_activation_alg alg, double x)
{
    switch (alg) {
    case DLB_ACTIVATION_RELU:
        return relu(x);
    case DLB_ACTIVATION_LEAKY:
        return x < 0 ? DLB_ACTIVATION_SLOPE * x : x;
    case DLB_ACTIVATION_SIGMOID:
        return 1 / (1 + exp(-x));
    default:
        return tanh(x);
    }
}

/* From what the backward pass is given: x, or of the smooth functions y. */
static double derivative_of(enum dlb_activation_alg alg, double given)
{
    switch (alg) {
    case DLB_ACTIVATION_RELU:
        return given > 0;
    case DLB_ACTIVATION_LEAKY:
        return given > 0 ? 1 : DLB_ACTIVATION_SLOPE;
    case DLB_ACTIVATION_SIGMOID:
        return given * (1 - given);
    default:
        return 1 - given * given;
    }
}

static enum dlb_activation_alg alg_of(const struct dlb_problem *problem)
{
    return (enum dlb_activation_alg)problem->dim[DLB_ACTIVATION_ALG];
}

static void activation_define(const struct dlb_problem *problem, void *const *tensor,
                              int64_t begin, int64_t end, const struct dlb_sink *sink)
{
    enum dlb_activation_alg alg = alg_of(problem);
    for (int64_t i = begin; i < end; i++) {
        double given = at(tensor, DLB_ACTIVATION_IN, i);
        if (problem->pass == DLB_FWD)
            sink->put(sink->context, DLB_ACTIVATION_DST, i, activation_of(alg, given));
        else if (alg == DLB_ACTIVATION_RELU && !(given > 0))
            sink->put(sink->context, DLB_ACTIVATION_DIFF_SRC, i, 0);
        else
            sink->put(sink->context, DLB_ACTIVATION_DIFF_SRC, i,
                      derivative_of(alg, given) * at(tensor, DLB_ACTIVATION_DIFF_DST, i));
    }
}

static void activation_bound(const struct dlb_bound_call *call)
{
    enum dlb_activation_alg alg = alg_of(call->problem);
    bool back = call->problem->pass == DLB_BWD;
    for (int64_t i = call->begin; i < call->end; i++) {
        double given = at(call->tensor, DLB_ACTIVATION_IN, i),
               y = fabs(at(call->tensor, call->t, i)), u = UNIT_ROUNDOFF, bound = 0;
        if (alg == DLB_ACTIVATION_LEAKY)
            bound = given > 0 ? 0 : u * y;
        else if (alg != DLB_ACTIVATION_RELU)
            bound = (back ? 4 : 8) * u * y + 2 * (double)FLT_MIN;
        if (alg == DLB_ACTIVATION_TANH && back)
            bound +=
                u * given * given * fabs(at(call->tensor, DLB_ACTIVATION_DIFF_DST, i));
        call->bound[i - call->begin] = (float)bound;
    }
}

/* The numbers that the mask is made of, as dropout.h has them. */
static bool is_kept(const struct dlb_problem *problem, int64_t i)
{
    uint64_t seed = (uint64_t)problem->dim[DLB_DROPOUT_SEED];
    uint64_t hash = dlb_hash(dlb_hash(~UINT64_C(0), seed), (uint64_t)i / 2);
    uint32_t half = (uint32_t)(i % 2 ? hash >> 32 : hash);
    double steps = 1 << DLB_DROPOUT_BITS;
    double threshold = rint((double)problem->dim[DLB_DROPOUT_P] / 100 * steps);
    return half >> (32 - DLB_DROPOUT_BITS) >= threshold;
}

static double scale_of(const struct dlb_problem *problem)
{
    return 100 / (100 - (double)problem->dim[DLB_DROPOUT_P]);
}

static void dropout_define(const struct dlb_problem *problem, void *const *tensor,
                           int64_t begin, int64_t end, const struct dlb_sink *sink)
{
    for (int64_t i = begin; i < end; i++) {
        double x = at(tensor, DLB_DROPOUT_SRC, i);
        if (problem->pass != DLB_FWD)
            x = is_kept(problem, i) ? scale_of(problem) * x : 0;
        sink->put(sink->context, DLB_DROPOUT_DST, i, x);
        if (problem->pass == DLB_FWD_TRAIN)
            sink->put(sink->context, DLB_DROPOUT_MASK, i, is_kept(problem, i));
    }
}

static void dropout_bound(const struct dlb_bound_call *call)
{
    double scale = scale_of(call->problem);
    bool exact = call->t == DLB_DROPOUT_MASK || call->problem->pass == DLB_FWD ||
                 (scale == (float)scale && log2(scale) == rint(log2(scale)));
    for (int64_t i = call->begin; i < call->end; i++)
        call->bound[i - call->begin] =
            exact ? 0 : (float)(2 * UNIT_ROUNDOFF * fabs(at(call->tensor, call->t, i)));
}

static void add_define(const struct dlb_problem *problem, void *const *tensor,
                       int64_t begin, int64_t end, const struct dlb_sink *sink)
{
    bool has_relu = problem->dim[DLB_ADD_RELU];
    for (int64_t i = begin; i < end; i++) {
        if (problem->pass == DLB_FWD) {
            double sum = at(tensor, DLB_ADD_SRC0, i) + at(tensor, DLB_ADD_SRC1, i);
            sink->put(sink->context, DLB_ADD_DST, i, has_relu ? relu(sum) : sum);
            continue;
        }
        bool passes = !has_relu || at(tensor, DLB_ADD_BACKWARD_DST, i) > 0;
        sink->put(sink->context, DLB_ADD_DIFF_SRC, i,
                  passes ? at(tensor, DLB_ADD_DIFF_DST, i) : 0);
    }
}

static void add_bound(const struct dlb_bound_call *call)
{
    bool exact = call->fill == DLB_FILL_EXACT || call->problem->pass == DLB_BWD;
    for (int64_t i = call->begin; i < call->end; i++)
        call->bound[i - call->begin] =
            exact ? 0 : (float)(UNIT_ROUNDOFF * fabs(at(call->tensor, call->t, i)));
}

static enum dlb_status activation_naive(const struct dlb_problem *problem, int threads,
                                        struct dlb_plan **plan, struct dlb_error *error)
{
    return dlb_naive_make(&dlb_reference_activation, problem, threads, plan, error);
}

static enum dlb_status dropout_naive(const struct dlb_problem *problem, int threads,
                                     struct dlb_plan **plan, struct dlb_error *error)
{
    return dlb_naive_make(&dlb_reference_dropout, problem, threads, plan, error);
}

static enum dlb_status add_naive(const struct dlb_problem *problem, int threads,
                                 struct dlb_plan **plan, struct dlb_error *error)
{
    return dlb_naive_make(&dlb_reference_add, problem, threads, plan, error);
}

const struct dlb_reference dlb_reference_activation = {
    .op = &dlb_op_activation,
    .slices = elements,
    .define = activation_define,
    .bound = activation_bound,
    .naive = activation_naive,
    .onednn = dlb_activation_onednn,
};

const struct dlb_reference dlb_reference_dropout = {
    .op = &dlb_op_dropout,
    .slices = elements,
    .define = dropout_define,
    .bound = dropout_bound,
    .zeros_belong = true,
    .naive = dropout_naive,
    .onednn = dlb_dropout_onednn,
};

const struct dlb_reference dlb_reference_add = {
    .op = &dlb_op_add,
    .slices = elements,
    .define = add_define,
    .bound = add_bound,
    .naive = add_naive,
    .onednn = dlb_add_onednn,
};
