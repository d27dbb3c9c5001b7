/*
 * Batch normalisation: statistics and normalisation of rows of channels.
 *
 *   mean[c] = sum over r of src[r][c] / n;  m2[c] = sum over r of (src[r][c] - mean[c])^2
 *   dst[r][c] = act( (src[r][c] - mean[c]) * factor[c] + beta[c] )
 *
 * Shapes    rows x channels, rows ld apart.  nhwc: a row is a pixel; blocked layouts: a
 *           row is one vector, and rows follow each other
 * Units     elements; counts are of elements of one channel
 * Tiles     moments: STEP rows in registers (at the end 4, 2, 1: pairs stay whole), where
 *           their mean is made and their distances from it are summed; steps are joined by
 *           Chan's formula, so that src is read once.  normalise: 8 rows of one vector, 4
 *           narrow rows, or 1 wide one at a time, so that what is the same for a channel
 *           is loaded once for them
 * Work items and barriers   none: one call, one thread
 * Scratch   none
 * Cost      moments 4 flops an element, normalise 3; bytes: src once, src and dst once
 * Numerics  the mean of a step is a sum over a tree, divided by a power of two: exactly;
 *           m2 of a step is the two-pass sum.  Nothing is the difference of large sums.
 *           src - mean is rounded before it is scaled: no cancellation beyond that of the
 *           formula.  ReLU keeps NaN.  An infinite element makes m2 NaN, as it should be,
 *           and may make the mean NaN, too: steps are joined by differences
 * Errors    none; sizes are the caller's
 * Source    Chan, Golub & LeVeque, "Updating formulae and a pairwise algorithm for
 *           computing sample variances", 1979
 */
#include "ops/batchnorm_internal.h"

#include "core/vec.h"

enum {
    STEP = DLB_BATCHNORM_STEP,
    ROWS = 4,
    NARROW = 128, /* floats between rows that are normalised ROWS at a time */
    MASK_BYTES = VLEN > 8 ? VLEN / 8 : 1
};

_Static_assert((STEP & (STEP - 1)) == 0, "division by a step is exact");

/* The lowest bits first. */
DLB_INLINE void store_mask(uint8_t *p, unsigned bits)
{
    DLB_UNROLL
    for (int i = 0; i < MASK_BYTES; i++)
        p[i] = (uint8_t)(bits >> 8 * i);
}

DLB_INLINE int lanes_at(int64_t c, int64_t channels)
{
    return channels - c < VLEN ? (int)(channels - c) : VLEN;
}

/* Mean and m2 of one vector of n rows, a power of two up to STEP. */
DLB_INLINE void step_moments(const float *src, int64_t ld, int n, int lanes, vec *mean,
                             vec *m2)
{
    vec x[STEP], sum[STEP];
    DLB_UNROLL
    for (int i = 0; i < STEP; i++)
        sum[i] = x[i] = i < n ? v_load_lanes(src + i * ld, lanes) : v_zero();
    DLB_UNROLL
    for (int half = n / 2; half > 0; half /= 2)
        DLB_UNROLL
    for (int i = 0; i < half; i++)
        sum[i] = v_add(sum[i], sum[i + half]);
    *mean = v_mul(sum[0], v_set1(1.0f / (float)n));
    vec square[2] = {v_zero(), v_zero()};
    DLB_UNROLL
    for (int i = 0; i < n; i++) {
        vec distance = v_sub(x[i], *mean);
        square[i & 1] = v_fma(distance, distance, square[i & 1]);
    }
    *m2 = v_add(square[0], square[1]);
}

/* What n elements are of n and those before. */
DLB_INLINE float part_of(int64_t n, int64_t before)
{
    return (float)n / (float)(before + n);
}

DLB_INLINE void join(vec *mean, vec *m2, vec other_mean, vec other_m2, float mean_weight,
                     float square_weight)
{
    vec delta = v_sub(other_mean, *mean);
    *mean = v_fma(delta, v_set1(mean_weight), *mean);
    *m2 = v_fma(v_mul(delta, delta), v_set1(square_weight), v_add(*m2, other_m2));
}

/* One vector of channels: the moments stay in registers. */
DLB_INLINE void moments_column(const float *src, int64_t ld, int64_t rows, int lanes,
                               const struct dlb_batchnorm_weights *weights,
                               struct dlb_batchnorm_pair to)
{
    vec mean = v_zero(), m2 = v_zero(), other_mean, other_m2;
    int64_t k = 0, done;
    if (rows >= STEP) {
        step_moments(src, ld, STEP, lanes, &mean, &m2);
        for (k = 1; k < rows / STEP; k++) {
            step_moments(src + k * STEP * ld, ld, STEP, lanes, &other_mean, &other_m2);
            join(&mean, &m2, other_mean, other_m2, weights->mean[k], weights->square[k]);
        }
    }
    done = k * STEP;
    DLB_UNROLL
    for (int n = STEP / 2; n > 0; n /= 2)
        if (rows & n) {
            float part = part_of(n, done);
            step_moments(src + done * ld, ld, n, lanes, &other_mean, &other_m2);
            if (done)
                join(&mean, &m2, other_mean, other_m2, part, part * (float)done);
            else
                mean = other_mean, m2 = other_m2;
            done += n;
        }
    v_storeu(to.first, mean);
    v_storeu(to.second, m2);
}

DLB_INLINE void moments_vector(const float *src, int64_t ld, int n, int lanes, bool first,
                               float mean_weight, float square_weight, float *to_mean,
                               float *to_m2)
{
    vec mean, m2;
    step_moments(src, ld, n, lanes, &mean, &m2);
    if (!first) {
        vec all_mean = v_loadu(to_mean), all_m2 = v_loadu(to_m2);
        join(&all_mean, &all_m2, mean, m2, mean_weight, square_weight);
        mean = all_mean;
        m2 = all_m2;
    }
    v_storeu(to_mean, mean);
    v_storeu(to_m2, m2);
}

/* Whole rows, step by step: memory is read as it lies. */
DLB_INLINE void moments_step(const float *src, int64_t ld, int n, int64_t channels,
                             bool first, float mean_weight, float square_weight,
                             struct dlb_batchnorm_pair to)
{
    int64_t c = 0;
    for (; c + VLEN <= channels; c += VLEN)
        moments_vector(src + c, ld, n, VLEN, first, mean_weight, square_weight,
                       to.first + c, to.second + c);
    if (c < channels)
        moments_vector(src + c, ld, n, (int)(channels - c), first, mean_weight,
                       square_weight, to.first + c, to.second + c);
}

static void moments(const float *src, int64_t ld, int64_t rows, int64_t channels,
                    const struct dlb_batchnorm_weights *weights,
                    struct dlb_batchnorm_pair to)
{
    if (channels == VLEN) {
        moments_column(src, ld, rows, VLEN, weights, to);
        return;
    }
    if (channels < VLEN) {
        moments_column(src, ld, rows, (int)channels, weights, to);
        return;
    }
    int64_t done = 0;
    for (; done + STEP <= rows; done += STEP)
        moments_step(src + done * ld, ld, STEP, channels, !done,
                     weights->mean[done / STEP], weights->square[done / STEP], to);
    DLB_UNROLL
    for (int n = STEP / 2; n > 0; n /= 2)
        if (rows & n) {
            float part = part_of(n, done);
            moments_step(src + done * ld, ld, n, channels, !done, part,
                         part * (float)done, to);
            done += n;
        }
}

static void merge(int64_t channels, int64_t count, struct dlb_batchnorm_pair to,
                  int64_t other_count, struct dlb_batchnorm_pair other)
{
    float part = part_of(other_count, count), square_weight = part * (float)count;
    for (int64_t c = 0; c < channels; c += VLEN) {
        vec mean = v_loadu(other.first + c), m2 = v_loadu(other.second + c);
        if (count) {
            vec all_mean = v_loadu(to.first + c), all_m2 = v_loadu(to.second + c);
            join(&all_mean, &all_m2, mean, m2, part, square_weight);
            mean = all_mean;
            m2 = all_m2;
        }
        v_storeu(to.first + c, mean);
        v_storeu(to.second + c, m2);
    }
}

DLB_INLINE vec factor_of(vec variance, vec gamma)
{
    return v_div(gamma, v_sqrt(v_add(variance, v_set1((float)DLB_BATCHNORM_EPSILON))));
}

static void factors(int64_t channels, const float *variance, const float *gamma,
                    float *factor)
{
    for (int64_t c = 0; c < channels; c += VLEN)
        v_storeu(factor + c, factor_of(v_loadu(variance + c), v_loadu(gamma + c)));
}

DLB_INLINE vec moved(const float *running, vec now, int lanes)
{
    return v_fma(
        now, v_set1((float)DLB_BATCHNORM_MOMENTUM),
        v_mul(v_load_lanes(running, lanes), v_set1((float)(1 - DLB_BATCHNORM_MOMENTUM))));
}

static void finish(const struct dlb_batchnorm_finish *f)
{
    vec count = v_set1((float)f->count), others = v_set1((float)(f->count - 1));
    for (int64_t c = 0; c < f->channels; c += VLEN) {
        int lanes = lanes_at(c, f->channels);
        vec m2 = v_loadu(f->m2 + c), mean = v_loadu(f->mean + c);
        vec variance = v_div(m2, count);
        v_storeu(f->factor + c, factor_of(variance, v_loadu(f->gamma + c)));
        if (f->out_mean) {
            v_store_lanes(f->out_mean + c, mean, lanes);
            v_store_lanes(f->out_variance + c, variance, lanes);
        }
        if (!f->out_running_mean)
            continue;
        vec unbiased = f->count > 1 ? v_div(m2, others) : variance;
        v_store_lanes(f->out_running_mean + c, moved(f->running_mean + c, mean, lanes),
                      lanes);
        v_store_lanes(f->out_running_variance + c,
                      moved(f->running_variance + c, unbiased, lanes), lanes);
    }
}

/* n rows of the vector of channels c, all loads before all stores; g is at the first of
 * these rows. */
DLB_INLINE void normalise_rows(struct dlb_batchnorm_normalise g, int64_t c, int n,
                               int lanes, vec mean, vec factor, vec beta,
                               enum dlb_batchnorm_act act, bool stream)
{
    vec x[STEP];
    DLB_UNROLL
    for (int i = 0; i < n; i++)
        x[i] = v_load_lanes(g.src + i * g.ld + c, lanes);
    DLB_UNROLL
    for (int i = 0; i < n; i++) {
        x[i] = v_fma(v_sub(x[i], mean), factor, beta);
        if (act != DLB_BATCHNORM_LINEAR)
            x[i] = v_max(v_zero(), x[i]);
    }
    DLB_UNROLL
    for (int i = 0; i < n; i++)
        if (stream)
            v_stream(g.dst + i * g.ld + c, x[i]);
        else
            v_store_lanes(g.dst + i * g.ld + c, x[i], lanes);
    DLB_UNROLL
    for (int i = 0; act == DLB_BATCHNORM_RELU_AND_MASK && i < n; i++)
        store_mask(g.mask + i * g.mask_ld + c / VLEN * MASK_BYTES, v_positive(x[i]));
}

/* n rows of all channels; vectors are unrolled. */
DLB_INLINE void normalise_group(struct dlb_batchnorm_normalise g, int n, int vectors,
                                enum dlb_batchnorm_act act, bool stream)
{
    int64_t c = 0;
    for (; c + vectors * VLEN <= g.channels; c += vectors * VLEN)
        DLB_UNROLL
    for (int v = 0; v < vectors; v++) {
        int64_t at = c + v * VLEN;
        normalise_rows(g, at, n, VLEN, v_loadu(g.mean + at), v_loadu(g.factor + at),
                       v_loadu(g.beta + at), act, stream);
    }
    for (; c < g.channels; c += VLEN) {
        vec mean = v_loadu(g.mean + c), factor = v_loadu(g.factor + c),
            beta = v_loadu(g.beta + c);
        int lanes = lanes_at(c, g.channels);
        if (lanes == VLEN)
            normalise_rows(g, c, n, VLEN, mean, factor, beta, act, stream);
        else
            normalise_rows(g, c, n, lanes, mean, factor, beta, act, false);
    }
}

DLB_INLINE void next_rows(struct dlb_batchnorm_normalise *g, int n)
{
    g->src += n * g->ld;
    g->dst += n * g->ld;
    if (g->mask)
        g->mask += n * g->mask_ld;
    g->rows -= n;
}

/* Narrow rows in groups; wide ones singly, so that memory is read and written as it
 * lies: several streams a page apart are slow, past the caches above all.  g is a copy,
 * which no store can reach. */
DLB_INLINE void normalise(struct dlb_batchnorm_normalise g, enum dlb_batchnorm_act act,
                          bool stream)
{
    if (g.channels == VLEN) {
        vec mean = v_loadu(g.mean), factor = v_loadu(g.factor), beta = v_loadu(g.beta);
        for (; g.rows >= STEP; next_rows(&g, STEP))
            normalise_rows(g, 0, STEP, VLEN, mean, factor, beta, act, stream);
    } else if (g.ld <= NARROW) {
        for (; g.rows >= ROWS; next_rows(&g, ROWS))
            normalise_group(g, ROWS, 1, act, stream);
    }
    for (; g.rows; next_rows(&g, 1))
        normalise_group(g, 1, 4, act, stream);
}

/* The table of instances: (name, what happens to an element). */
#define ACTS(T)                                                                          \
    T(linear, DLB_BATCHNORM_LINEAR)                                                      \
    T(relu, DLB_BATCHNORM_RELU_ONLY)                                                     \
    T(masked, DLB_BATCHNORM_RELU_AND_MASK)

#define ACT_FUNCTIONS(name, act)                                                         \
    static void name##_cached(const struct dlb_batchnorm_normalise *call)                \
    {                                                                                    \
        normalise(*call, act, false);                                                    \
    }                                                                                    \
    static void name##_streamed(const struct dlb_batchnorm_normalise *call)              \
    {                                                                                    \
        normalise(*call, act, true);                                                     \
    }
ACTS(ACT_FUNCTIONS)

#define ACT_ENTRY(name, act) [act] = {name##_cached, name##_streamed},

extern const struct dlb_batchnorm_kernels DLB_NAME(dlb_batchnorm);
const struct dlb_batchnorm_kernels DLB_NAME(dlb_batchnorm) = {
    .mask_bytes = MASK_BYTES,
    .moments = moments,
    .merge = merge,
    .finish = finish,
    .factors = factors,
    .normalise = {ACTS(ACT_ENTRY)},
    .stream_fence = v_stream_fence,
};
