/*
 * The plain definition of a step of sgd and of adam (formulas in ops/optimiser.h).  oneDNN
 * has no optimisers: the definition is the referee of every run.
 *
 * Bounds.  u = 2^-24; constants are rounded once each.
 *   sgd   V = MOMENTUM |v| + |grad| + DECAY |param|.  new_velocity: two products and two
 *         sums, 6 u V.  new_param: RATE times that, one product and one sum more, and the
 *         rounding of the result: 10 u RATE V + 2 u |param|
 *   adam  M = BETA1 |m| + (1 - BETA1) |grad|, D the divisor, S = RATE M / (1 - BETA1^t) / D.
 *         new_mean: 4 u M; new_square, a sum of positive terms: 5 u of it, so D errs by 8 u
 *         of itself.  new_param: 18 u S + 4 u RATE DECAY |param| + 2 u |param|
 */
#include "ops/optimiser.h"

#include "reference_internal.h"

#include <float.h>
#include <math.h>

static const double UNIT_ROUNDOFF = FLT_EPSILON / 2;

/* A slice is an element; n stands first in both. */
static int64_t slices(const struct dlb_problem *problem)
{
    return problem->dim[0];
}

static double at(void *const *tensor, int t, int64_t i)
{
    return ((const float *)tensor[t])[i];
}

static double velocity(const struct dlb_problem *problem, void *const *tensor, int64_t i)
{
    double v = at(tensor, DLB_SGD_GRAD, i);
    if (problem->dim[DLB_SGD_USES_DECAY])
        v += DLB_SGD_DECAY * at(tensor, DLB_SGD_PARAM, i);
    if (problem->dim[DLB_SGD_USES_MOMENTUM])
        v += DLB_SGD_MOMENTUM * at(tensor, DLB_SGD_VELOCITY, i);
    return v;
}

static void sgd_define(const struct dlb_problem *problem, void *const *tensor,
                       int64_t begin, int64_t end, const struct dlb_sink *sink)
{
    for (int64_t i = begin; i < end; i++) {
        double v = velocity(problem, tensor, i);
        sink->put(sink->context, DLB_SGD_NEW_PARAM, i,
                  at(tensor, DLB_SGD_PARAM, i) - DLB_SGD_RATE * v);
        if (problem->dim[DLB_SGD_USES_MOMENTUM])
            sink->put(sink->context, DLB_SGD_NEW_VELOCITY, i, v);
    }
}

static void sgd_bound(const struct dlb_bound_call *call)
{
    const double u = UNIT_ROUNDOFF;
    for (int64_t i = call->begin; i < call->end; i++) {
        double param = fabs(at(call->tensor, DLB_SGD_PARAM, i)),
               v = fabs(at(call->tensor, DLB_SGD_GRAD, i));
        if (call->problem->dim[DLB_SGD_USES_DECAY])
            v += DLB_SGD_DECAY * param;
        if (call->problem->dim[DLB_SGD_USES_MOMENTUM])
            v += DLB_SGD_MOMENTUM * fabs(at(call->tensor, DLB_SGD_VELOCITY, i));
        call->bound[i - call->begin] =
            (float)(call->t == DLB_SGD_NEW_VELOCITY
                        ? 6 * u * v
                        : 10 * u * DLB_SGD_RATE * v + 2 * u * param);
    }
}

struct moments {
    double mean, square, divisor;
};

/* Of the step; or of the magnitudes of its terms. */
static struct moments moments_of(const struct dlb_problem *problem, void *const *tensor,
                                 int64_t i, bool absolute)
{
    const double t = (double)problem->dim[DLB_ADAM_T];
    double grad = at(tensor, DLB_ADAM_GRAD, i), mean = at(tensor, DLB_ADAM_MEAN, i);
    struct moments m;
    if (absolute) {
        grad = fabs(grad);
        mean = fabs(mean);
    }
    m.mean = DLB_ADAM_BETA1 * mean + (1 - DLB_ADAM_BETA1) * grad;
    m.square = DLB_ADAM_BETA2 * at(tensor, DLB_ADAM_SQUARE, i) +
               (1 - DLB_ADAM_BETA2) * grad * grad;
    m.divisor = (1 - pow(DLB_ADAM_BETA1, t)) *
                (sqrt(m.square / (1 - pow(DLB_ADAM_BETA2, t))) + DLB_ADAM_EPSILON);
    return m;
}

static double decay_of(const struct dlb_problem *problem)
{
    return problem->dim[DLB_ADAM_USES_DECAY] ? DLB_ADAM_DECAY : 0;
}

static void adam_define(const struct dlb_problem *problem, void *const *tensor,
                        int64_t begin, int64_t end, const struct dlb_sink *sink)
{
    for (int64_t i = begin; i < end; i++) {
        const struct moments m = moments_of(problem, tensor, i, false);
        double param = at(tensor, DLB_ADAM_PARAM, i), step = m.mean / m.divisor;
        if (problem->dim[DLB_ADAM_USES_DECAY])
            step += DLB_ADAM_DECAY * param;
        sink->put(sink->context, DLB_ADAM_NEW_PARAM, i, param - DLB_ADAM_RATE * step);
        sink->put(sink->context, DLB_ADAM_NEW_MEAN, i, m.mean);
        sink->put(sink->context, DLB_ADAM_NEW_SQUARE, i, m.square);
    }
}

static void adam_bound(const struct dlb_bound_call *call)
{
    const double u = UNIT_ROUNDOFF;
    for (int64_t i = call->begin; i < call->end; i++) {
        const struct moments m = moments_of(call->problem, call->tensor, i, true);
        double param = fabs(at(call->tensor, DLB_ADAM_PARAM, i)), bound;
        if (call->t == DLB_ADAM_NEW_MEAN)
            bound = 4 * u * m.mean;
        else if (call->t == DLB_ADAM_NEW_SQUARE)
            bound = 5 * u * m.square;
        else
            bound = 18 * u * DLB_ADAM_RATE * m.mean / m.divisor +
                    (4 * DLB_ADAM_RATE * decay_of(call->problem) + 2) * u * param;
        call->bound[i - call->begin] = (float)bound;
    }
}

static enum dlb_status sgd_naive(const struct dlb_problem *problem, int threads,
                                 struct dlb_plan **plan, struct dlb_error *error)
{
    return dlb_naive_make(&dlb_reference_sgd, problem, threads, plan, error);
}

static enum dlb_status adam_naive(const struct dlb_problem *problem, int threads,
                                  struct dlb_plan **plan, struct dlb_error *error)
{
    return dlb_naive_make(&dlb_reference_adam, problem, threads, plan, error);
}

static enum dlb_status no_onednn(const struct dlb_problem *problem, enum dlb_isa isa,
                                 int threads, int formulation, struct dlb_plan **plan,
                                 struct dlb_error *error)
{
    (void)problem, (void)isa, (void)threads, (void)formulation, (void)plan;
    return dlb_fail(error, DLB_UNSUPPORTED,
                    "oneDNN has no optimisers; accepted: --impl native, naive.");
}

const struct dlb_reference dlb_reference_sgd = {
    .op = &dlb_op_sgd,
    .slices = slices,
    .define = sgd_define,
    .bound = sgd_bound,
    .naive = sgd_naive,
    .onednn = no_onednn,
};

const struct dlb_reference dlb_reference_adam = {
    .op = &dlb_op_adam,
    .slices = slices,
    .define = adam_define,
    .bound = adam_bound,
    .naive = adam_naive,
    .onednn = no_onednn,
};
