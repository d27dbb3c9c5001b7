/*
 * The plain definition of batchnorm (formula in ops/batchnorm.h).
 *
 * Statistics by two passes: the mean, then the squares of the distances from it.  ReLU
 * keeps NaN: it replaces what is less than 0 and nothing else; NaN is not > 0, so its
 * mask is 0.
 *
 * Bounds.  u = 2^-24, M elements a channel, z = gamma (x - mu) / sigma, sigma =
 * sqrt(var + epsilon).
 *   dst     A correct implementation rounds x - mu once, the factor gamma / sigma four
 *           times (epsilon, sum, root, quotient: 2.5 u at most), the product and the sum
 *           once: 10 u |z| + 2 u |y|, where y = z + beta is what ReLU is applied to.
 *           10 u is 6e-7.
 *           What the statistics err (training) comes on top: |gamma| dmu / sigma +
 *           |z| dvar / (2 sigma^2).
 *   mean    Exact fill: 0, since pairs of pixels lie symmetrically around a whole number.
 *           Dense: a sum of M terms in any order errs by M u sum |x| at most; rounding
 *           errors of random terms cancel, so that 8 sqrt(M) u sum |x| is exceeded with a
 *           probability below 1e-8 (Higham & Mary, "A new approach to probabilistic
 *           rounding error analysis", 2019).  With the mean of |x| <= |mu| + sqrt(var):
 *           dmu = (g + 2 u) (|mu| + sqrt(var)), g = min(M, 8 sqrt(M)) u.
 *   var     Exact fill: the quotient of whole numbers, and so 0 where it is a float, else
 *           its rounding.  Dense: dvar = (g + 6 u) var + dmu^2 + 2 dmu sqrt(var): the
 *           squares are sums of positive terms around a mean that is off by dmu; the last
 *           term where they are made in parts that are joined over their means.
 *   running the same, scaled by the momentum, and 4 u of both terms.
 *   mask    1 where y lies within its bound of 0, else 0.
 */
#include "ops/batchnorm.h"

#include "reference_internal.h"

#include <float.h>
#include <math.h>

static const double UNIT_ROUNDOFF = FLT_EPSILON / 2;
static const double CONFIDENCE = 8; /* of the probabilistic bound */

/* Of one channel. */
struct channel {
    double gamma, beta, mean, variance;
};

static struct channel channel_get(const struct dlb_batchnorm_shape *s,
                                  void *const *tensor, int mean, int variance, int64_t c)
{
    return (struct channel){
        .gamma = s->scale ? ((const float *)tensor[DLB_BATCHNORM_GAMMA])[c] : 1,
        .beta = s->shift ? ((const float *)tensor[DLB_BATCHNORM_BETA])[c] : 0,
        .mean = ((const float *)tensor[mean])[c],
        .variance = ((const float *)tensor[variance])[c],
    };
}

static int64_t batchnorm_slices(const struct dlb_problem *problem)
{
    return problem->dim[DLB_BATCHNORM_IC];
}

static void define_statistics(const struct dlb_batchnorm_shape *s, const float *src,
                              struct channel *channel)
{
    int64_t count = s->mb * s->pixels;
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < count; i++)
        sum += src[i * s->ic];
    channel->mean = sum / (double)count;
    for (int64_t i = 0; i < count; i++) {
        double distance = src[i * s->ic] - channel->mean;
        squares += distance * distance;
    }
    channel->variance = squares / (double)count;
}

static double moved(double running, double now)
{
    return (1 - DLB_BATCHNORM_MOMENTUM) * running + DLB_BATCHNORM_MOMENTUM * now;
}

/* Variance with divisor M-1 over that with M. */
static double unbiased(int64_t count)
{
    return count > 1 ? (double)count / (double)(count - 1) : 1;
}

static void batchnorm_define(const struct dlb_problem *problem, void *const *tensor,
                             int64_t begin, int64_t end, const struct dlb_sink *sink)
{
    struct dlb_batchnorm_shape s;
    dlb_batchnorm_shape_get(problem, &s);
    int64_t count = s.mb * s.pixels;
    for (int64_t c = begin; c < end; c++) {
        const float *src = (const float *)tensor[DLB_BATCHNORM_SRC] + c;
        struct channel channel =
            channel_get(&s, tensor, DLB_BATCHNORM_IN_MEAN, DLB_BATCHNORM_IN_VARIANCE, c);
        if (s.train) {
            struct channel now = channel;
            define_statistics(&s, src, &now);
            sink->put(sink->context, DLB_BATCHNORM_MEAN, c, now.mean);
            sink->put(sink->context, DLB_BATCHNORM_VARIANCE, c, now.variance);
            sink->put(sink->context, DLB_BATCHNORM_RUNNING_MEAN, c,
                      moved(channel.mean, now.mean));
            sink->put(sink->context, DLB_BATCHNORM_RUNNING_VARIANCE, c,
                      moved(channel.variance, now.variance * unbiased(count)));
            channel = now;
        }
        double sigma = sqrt(channel.variance + DLB_BATCHNORM_EPSILON);
        for (int64_t i = 0; i < count; i++) {
            double y =
                channel.gamma * (src[i * s.ic] - channel.mean) / sigma + channel.beta;
            sink->put(sink->context, DLB_BATCHNORM_DST, i * s.ic + c,
                      s.relu && y < 0 ? 0 : y);
            if (s.train && s.relu)
                sink->put(sink->context, DLB_BATCHNORM_RELU_MASK, i * s.ic + c, y > 0);
        }
    }
}

/* How far the statistics of a channel may be off. */
struct slack {
    double mean, variance;
};

static struct slack slack_of(const struct dlb_bound_call *call, int64_t count,
                             const struct channel *channel)
{
    double m = (double)count, u = UNIT_ROUNDOFF, deviation = sqrt(channel->variance);
    if (call->fill == DLB_FILL_EXACT) {
        double squares = channel->variance * m;
        return (struct slack){0, squares == rint(squares) ? 0 : u * channel->variance};
    }
    double g = fmin(m, CONFIDENCE * sqrt(m)) * u;
    double mean = (g + 2 * u) * (fabs(channel->mean) + deviation);
    return (struct slack){mean, (g + 6 * u) * channel->variance + mean * mean +
                                    2 * mean * deviation};
}

static double statistic_bound(const struct dlb_bound_call *call, int64_t count, int64_t c,
                              const struct channel *channel, struct slack slack)
{
    const float *running_mean = call->tensor[DLB_BATCHNORM_IN_MEAN],
                *running_variance = call->tensor[DLB_BATCHNORM_IN_VARIANCE];
    double rounding = 4 * UNIT_ROUNDOFF, factor = unbiased(count);
    switch (call->t) {
    case DLB_BATCHNORM_MEAN:
        return slack.mean;
    case DLB_BATCHNORM_VARIANCE:
        return slack.variance;
    case DLB_BATCHNORM_RUNNING_MEAN:
        return DLB_BATCHNORM_MOMENTUM * slack.mean +
               rounding * moved(fabs(running_mean[c]), fabs(channel->mean));
    default:
        return DLB_BATCHNORM_MOMENTUM * factor * slack.variance +
               rounding * moved(running_variance[c], factor * channel->variance);
    }
}

static void batchnorm_bound(const struct dlb_bound_call *call)
{
    struct dlb_batchnorm_shape s;
    dlb_batchnorm_shape_get(call->problem, &s);
    int mean = s.train ? DLB_BATCHNORM_MEAN : DLB_BATCHNORM_IN_MEAN,
        variance = s.train ? DLB_BATCHNORM_VARIANCE : DLB_BATCHNORM_IN_VARIANCE;
    const float *src = call->tensor[DLB_BATCHNORM_SRC];
    int64_t count = s.mb * s.pixels;
    bool image = call->t == DLB_BATCHNORM_DST || call->t == DLB_BATCHNORM_RELU_MASK;
    for (int64_t i = call->begin; i < call->end; i++) {
        int64_t c = i % s.ic;
        struct channel channel = channel_get(&s, call->tensor, mean, variance, c);
        struct slack slack = {0, 0};
        if (s.train)
            slack = slack_of(call, count, &channel);
        float *bound = &call->bound[i - call->begin];
        if (!image) {
            *bound = (float)statistic_bound(call, count, c, &channel, slack);
            continue;
        }
        double square = channel.variance + DLB_BATCHNORM_EPSILON;
        double sigma = sqrt(square), u = UNIT_ROUNDOFF;
        double z = channel.gamma * (src[i] - channel.mean) / sigma, y = z + channel.beta;
        /* Where dvar is no small part of sigma^2 the factor may be as large as with the
         * least variance. */
        double least = fmax(square - slack.variance, DLB_BATCHNORM_EPSILON);
        double statistics =
            slack.mean + fabs(src[i] - channel.mean) * slack.variance / (2 * least);
        double dst = 10 * u * fabs(z) + 2 * u * fabs(y) +
                     fabs(channel.gamma) * statistics / sqrt(least);
        *bound = (float)(call->t == DLB_BATCHNORM_DST ? dst : fabs(y) <= dst);
    }
}

static enum dlb_status batchnorm_naive(const struct dlb_problem *problem, int threads,
                                       struct dlb_plan **plan, struct dlb_error *error)
{
    return dlb_naive_make(&dlb_reference_batchnorm, problem, threads, plan, error);
}

const struct dlb_reference dlb_reference_batchnorm = {
    .op = &dlb_op_batchnorm,
    .slices = batchnorm_slices,
    .define = batchnorm_define,
    .bound = batchnorm_bound,
    .naive = batchnorm_naive,
    .onednn = dlb_batchnorm_onednn,
};
