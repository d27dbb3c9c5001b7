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
 *
 * Backward.  B = sum of dz, G = sum of dz x^ (diff_beta, diff_gamma), |B| and |G| the sums
 * of magnitudes; r = dvar / (2 sigma^2) + 4 u is what 1 / sigma may err.  Where the mask
 * may be either (an unclear element) all of diff_dst there may be in a sum or not.
 *   diff_beta   g |B| + unclear; exact fill: no more than unclear, since sums of whole
 *               numbers below 2^24 have no error.
 *   diff_gamma  (g + 2 u) |G| + dmu B / sigma + r G + unclear; exact fill: dmu is 0, but
 *               terms that are divided by sigma before they are added are whole no more.
 *   diff_src    gamma / sigma times: what B and G err over M; (dmu / sigma + r x^) G / M,
 *               by which x^ errs; (r + 8 u) (|dz| + |B| / M + |x^ G| / M), by which the
 *               factor and the roundings of three terms err; diff_dst itself if unclear.
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

static struct channel channel_parameters(const struct dlb_batchnorm_shape *s,
                                         void *const *tensor, int64_t c)
{
    return (struct channel){
        .gamma = s->scale ? ((const float *)tensor[DLB_BATCHNORM_GAMMA])[c] : 1,
        .beta = s->shift ? ((const float *)tensor[DLB_BATCHNORM_BETA])[c] : 0,
    };
}

static struct channel channel_get(const struct dlb_batchnorm_shape *s,
                                  void *const *tensor, int mean, int variance, int64_t c)
{
    struct channel channel = channel_parameters(s, tensor, c);
    channel.mean = ((const float *)tensor[mean])[c];
    channel.variance = ((const float *)tensor[variance])[c];
    return channel;
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

/* gamma (x - mu) / sigma + beta. */
static double argument_of(const struct channel *channel, double x)
{
    double sigma = sqrt(channel->variance + DLB_BATCHNORM_EPSILON);
    return channel->gamma * (x - channel->mean) / sigma + channel->beta;
}

static struct channel backward_channel(const struct dlb_batchnorm_shape *s,
                                       void *const *tensor, int64_t c)
{
    struct channel channel = channel_parameters(s, tensor, c);
    define_statistics(s, (const float *)tensor[DLB_BATCHNORM_SRC] + c, &channel);
    return channel;
}

static double dz_of(const struct dlb_batchnorm_shape *s, const struct channel *channel,
                    double x, double diff)
{
    return s->relu && !(argument_of(channel, x) > 0) ? 0 : diff;
}

static void define_backward(const struct dlb_batchnorm_shape *s, void *const *tensor,
                            int64_t c, const struct dlb_sink *sink)
{
    int64_t count = s->mb * s->pixels;
    const float *src = (const float *)tensor[DLB_BATCHNORM_SRC] + c,
                *diff_dst = (const float *)tensor[DLB_BATCHNORM_DIFF_DST] + c;
    struct channel channel = backward_channel(s, tensor, c);
    double sigma = sqrt(channel.variance + DLB_BATCHNORM_EPSILON);
    double beta = 0, gamma = 0;
    for (int64_t i = 0; i < count; i++) {
        double dz = dz_of(s, &channel, src[i * s->ic], diff_dst[i * s->ic]);
        beta += dz;
        gamma += dz * (src[i * s->ic] - channel.mean);
    }
    gamma /= sigma;
    for (int64_t i = 0; i < count; i++) {
        double dz = dz_of(s, &channel, src[i * s->ic], diff_dst[i * s->ic]);
        double normalised = (src[i * s->ic] - channel.mean) / sigma;
        sink->put(sink->context, DLB_BATCHNORM_DIFF_SRC, i * s->ic + c,
                  channel.gamma / sigma *
                      (dz - (beta + normalised * gamma) / (double)count));
    }
    if (s->scale)
        sink->put(sink->context, DLB_BATCHNORM_DIFF_GAMMA, c, gamma);
    if (s->shift)
        sink->put(sink->context, DLB_BATCHNORM_DIFF_BETA, c, beta);
}

static void batchnorm_define(const struct dlb_problem *problem, void *const *tensor,
                             int64_t begin, int64_t end, const struct dlb_sink *sink)
{
    struct dlb_batchnorm_shape s;
    dlb_batchnorm_shape_get(problem, &s);
    int64_t count = s.mb * s.pixels;
    for (int64_t c = begin; s.backward && c < end; c++)
        define_backward(&s, tensor, c, sink);
    if (s.backward)
        return;
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
        for (int64_t i = 0; i < count; i++) {
            double y = argument_of(&channel, src[i * s.ic]);
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

/* How far sigma^2 may be below: where dvar is no small part of it the factor may be as
 * large as with the least variance. */
static double least_square(const struct channel *channel, struct slack slack)
{
    return fmax(channel->variance + DLB_BATCHNORM_EPSILON - slack.variance,
                DLB_BATCHNORM_EPSILON);
}

static double dst_bound(const struct channel *channel, struct slack slack, double x)
{
    double u = UNIT_ROUNDOFF, y = argument_of(channel, x), z = y - channel->beta;
    double least = least_square(channel, slack);
    double statistics =
        slack.mean + fabs(x - channel->mean) * slack.variance / (2 * least);
    return 10 * u * fabs(z) + 2 * u * fabs(y) +
           fabs(channel->gamma) * statistics / sqrt(least);
}

/* Backward, a sum over the elements of a channel. */
struct sum {
    double value, magnitude;
    double unclear; /* magnitude of what may be in it or not */
    double error;
};

/* Backward, of one channel. */
struct backward {
    const struct dlb_batchnorm_shape *s;
    struct channel channel;
    struct slack slack;
    double sigma, least, r;
    struct sum beta, gamma;
};

static bool is_unclear(const struct backward *b, double x)
{
    return b->s->relu &&
           fabs(argument_of(&b->channel, x)) <= dst_bound(&b->channel, b->slack, x);
}

static void add_up(struct sum *sum, double dz, double diff, bool unclear)
{
    sum->value += dz;
    sum->magnitude += fabs(dz);
    sum->unclear += unclear ? fabs(diff) : 0;
}

static struct backward backward_get(const struct dlb_bound_call *call,
                                    const struct dlb_batchnorm_shape *s, int64_t c)
{
    const float *src = call->tensor[DLB_BATCHNORM_SRC],
                *diff_dst = call->tensor[DLB_BATCHNORM_DIFF_DST];
    int64_t count = s->mb * s->pixels;
    struct backward b = {.s = s, .channel = backward_channel(s, call->tensor, c)};
    double g = fmin((double)count, CONFIDENCE * sqrt((double)count)) * UNIT_ROUNDOFF;
    b.slack = slack_of(call, count, &b.channel);
    b.sigma = sqrt(b.channel.variance + DLB_BATCHNORM_EPSILON);
    b.least = least_square(&b.channel, b.slack);
    b.r = b.slack.variance / (2 * b.least) + 4 * UNIT_ROUNDOFF;
    for (int64_t i = c; i < count * s->ic; i += s->ic) {
        double normalised = (src[i] - b.channel.mean) / b.sigma, diff = diff_dst[i];
        double dz = dz_of(s, &b.channel, src[i], diff);
        bool unclear = is_unclear(&b, src[i]);
        add_up(&b.beta, dz, diff, unclear);
        add_up(&b.gamma, dz * normalised, diff * normalised, unclear);
    }
    b.beta.error =
        (call->fill == DLB_FILL_EXACT ? 0 : g * b.beta.magnitude) + b.beta.unclear;
    b.gamma.error = (g + 2 * UNIT_ROUNDOFF) * b.gamma.magnitude +
                    b.slack.mean * fabs(b.beta.value) / b.sigma +
                    b.r * fabs(b.gamma.value) + b.gamma.unclear;
    return b;
}

static double diff_src_bound(const struct backward *b, double x, double diff)
{
    double m = (double)(b->s->mb * b->s->pixels);
    double normalised = fabs(x - b->channel.mean) / b->sigma;
    double beta = fabs(b->beta.value), gamma = fabs(b->gamma.value);
    double terms =
        fabs(dz_of(b->s, &b->channel, x, diff)) + (beta + normalised * gamma) / m;
    double error = (b->beta.error + normalised * b->gamma.error) / m +
                   (b->slack.mean / b->sigma + b->r * normalised) * gamma / m +
                   (b->r + 8 * UNIT_ROUNDOFF) * terms +
                   (is_unclear(b, x) ? fabs(diff) : 0);
    return fabs(b->channel.gamma) / sqrt(b->least) * error;
}

static void bound_channel(const struct dlb_bound_call *call,
                          const struct dlb_batchnorm_shape *s, int64_t c)
{
    const float *src = call->tensor[DLB_BATCHNORM_SRC],
                *diff_dst = call->tensor[DLB_BATCHNORM_DIFF_DST];
    struct backward b = backward_get(call, s, c);
    if (call->t != DLB_BATCHNORM_DIFF_SRC) {
        const struct sum *sum = call->t == DLB_BATCHNORM_DIFF_BETA ? &b.beta : &b.gamma;
        call->bound[c - call->begin] = (float)sum->error;
        return;
    }
    int64_t first = call->begin + (c - call->begin % s->ic + s->ic) % s->ic;
    for (int64_t i = first; i < call->end; i += s->ic)
        call->bound[i - call->begin] = (float)diff_src_bound(&b, src[i], diff_dst[i]);
}

/* Channel by channel, since a sum over all of a channel stands behind every element. */
static void bound_backward(const struct dlb_bound_call *call,
                           const struct dlb_batchnorm_shape *s)
{
    bool image = call->t == DLB_BATCHNORM_DIFF_SRC;
    int64_t begin = image ? 0 : call->begin, end = image ? s->ic : call->end;
    for (int64_t c = begin; c < end; c++)
        bound_channel(call, s, c);
}

static void batchnorm_bound(const struct dlb_bound_call *call)
{
    struct dlb_batchnorm_shape s;
    dlb_batchnorm_shape_get(call->problem, &s);
    if (s.backward) {
        bound_backward(call, &s);
        return;
    }
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
        double dst = dst_bound(&channel, slack, src[i]);
        *bound = (float)(call->t == DLB_BATCHNORM_DST
                             ? dst
                             : fabs(argument_of(&channel, src[i])) <= dst);
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
