/*
 * Batch normalisation backward: sums, and diff_src, of rows of channels.
 *
 *   sum[c] = sum over r of dz[r][c];  product[c] = sum over r of dz[r][c] (src[r][c] - mean[c])
 *   to[r][c] = factor[c] dz[r][c] + slope[c] (src[r][c] - mean[c]) + offset[c]
 *   dz = diff_dst, or with relu diff_dst where (src - mean) factor + beta > 0 and else 0: what
 *   is > 0 here was so in the forward pass, which computes it in the same way
 *
 * Shapes    rows x channels, rows ld apart.  nhwc: a row is a pixel; blocked layouts: a
 *           row is one vector, and rows follow each other
 * Units     elements; counts are of elements of one channel
 * Tiles     sums: STEP rows of one vector in registers (at the end 4, 2, 1).  differentiate:
 *           8 rows of one vector, 4 narrow rows, or 1 wide one at a time, so that what is
 *           the same for a channel is loaded once for them
 * Work items and barriers   none: one call, one thread
 * Scratch   none
 * Cost      sums 4 flops an element, differentiate 5; bytes: src and diff_dst once; src,
 *           diff_dst and to once
 * Numerics  a sum over r rows errs by no more than (r / 8 + 6) u of the sum of magnitudes, u
 *           = 2^-24; src - mean is rounded before it is multiplied, the products are not
 *           where there is an FMA.  Whole numbers whose sums stay below 2^24 have no error
 * Errors    none; sizes are the caller's
 */
#include "ops/batchnorm_internal.h"

#include "core/vec.h"

enum {
    STEP = DLB_BATCHNORM_STEP,
    ROWS = 4,
    NARROW = 128 /* floats between rows that are worked on ROWS at a time */
};

DLB_INLINE int lanes_at(int64_t c, int64_t channels)
{
    return channels - c < VLEN ? (int)(channels - c) : VLEN;
}

/* What is the same for a vector of channels; slope and offset for differentiate only. */
struct constants {
    vec mean, factor, beta, slope, offset;
};

DLB_INLINE struct constants constants_at(const struct dlb_batchnorm_diff *d, int64_t c,
                                         bool relu, bool slopes)
{
    return (struct constants){
        .mean = v_loadu(d->mean + c),
        .factor = relu || slopes ? v_loadu(d->factor + c) : v_zero(),
        .beta = relu ? v_loadu(d->beta + c) : v_zero(),
        .slope = slopes ? v_loadu(d->slope + c) : v_zero(),
        .offset = slopes ? v_loadu(d->offset + c) : v_zero(),
    };
}

/* dz of the vector of channels c in row i. */
DLB_INLINE vec load_dz(const struct dlb_batchnorm_diff *d, int64_t i, int64_t c,
                       int lanes, vec distance, struct constants k, bool relu)
{
    vec dz = v_load_lanes(d->diff + i * d->ld + c, lanes);
    return relu ? v_keep_positive(v_fma(distance, k.factor, k.beta), dz) : dz;
}

/* Sums of one vector over n rows. */
DLB_INLINE void step_sums(const struct dlb_batchnorm_diff *d, int64_t c, int n, int lanes,
                          bool relu, struct constants k, vec *sum, vec *product)
{
    vec sums[2] = {v_zero(), v_zero()}, products[2] = {v_zero(), v_zero()};
    DLB_UNROLL
    for (int i = 0; i < n; i++) {
        vec distance = v_sub(v_load_lanes(d->src + i * d->ld + c, lanes), k.mean);
        vec dz = load_dz(d, i, c, lanes, distance, k, relu);
        sums[i & 1] = v_add(sums[i & 1], dz);
        products[i & 1] = v_fma(distance, dz, products[i & 1]);
    }
    *sum = v_add(sums[0], sums[1]);
    *product = v_add(products[0], products[1]);
}

DLB_INLINE void next_rows(struct dlb_batchnorm_diff *d, int n)
{
    d->src += n * d->ld;
    d->diff += n * d->ld;
    d->rows -= n;
}

/* To the sums of channel c, unless these are the first. */
DLB_INLINE void add_sums(struct dlb_batchnorm_pair to, int64_t c, bool first, vec sum,
                         vec product)
{
    if (!first) {
        sum = v_add(v_loadu(to.first + c), sum);
        product = v_add(v_loadu(to.second + c), product);
    }
    v_storeu(to.first + c, sum);
    v_storeu(to.second + c, product);
}

/* One vector of channels: the sums stay in registers. */
DLB_INLINE void sums_column(struct dlb_batchnorm_diff d, int lanes, bool relu, bool first,
                            struct dlb_batchnorm_pair to)
{
    struct constants k = constants_at(&d, 0, relu, false);
    vec sum = v_zero(), product = v_zero(), other, other_product;
    for (; d.rows >= STEP; next_rows(&d, STEP)) {
        step_sums(&d, 0, STEP, lanes, relu, k, &other, &other_product);
        sum = v_add(sum, other);
        product = v_add(product, other_product);
    }
    DLB_UNROLL
    for (int n = STEP / 2; n > 0; n /= 2)
        if (d.rows & n) {
            step_sums(&d, 0, n, lanes, relu, k, &other, &other_product);
            sum = v_add(sum, other);
            product = v_add(product, other_product);
            next_rows(&d, n);
        }
    add_sums(to, 0, first, sum, product);
}

/* Whole rows, step by step: memory is read as it lies. */
DLB_INLINE void sums_step(const struct dlb_batchnorm_diff *d, int n, bool relu,
                          bool first, struct dlb_batchnorm_pair to)
{
    for (int64_t c = 0; c < d->channels; c += VLEN) {
        struct constants k = constants_at(d, c, relu, false);
        vec sum, product;
        if (c + VLEN <= d->channels)
            step_sums(d, c, n, VLEN, relu, k, &sum, &product);
        else
            step_sums(d, c, n, (int)(d->channels - c), relu, k, &sum, &product);
        add_sums(to, c, first, sum, product);
    }
}

static void merge(int64_t channels, int64_t count, struct dlb_batchnorm_pair to,
                  int64_t other_count, struct dlb_batchnorm_pair other)
{
    (void)other_count;
    for (int64_t c = 0; c < channels; c += VLEN)
        add_sums(to, c, !count, v_loadu(other.first + c), v_loadu(other.second + c));
}

DLB_INLINE void sums(struct dlb_batchnorm_diff d, bool relu, bool first,
                     struct dlb_batchnorm_pair tile, struct dlb_batchnorm_pair to)
{
    if (d.channels == VLEN) {
        sums_column(d, VLEN, relu, first, to);
        return;
    }
    if (d.channels < VLEN) {
        sums_column(d, (int)d.channels, relu, first, to);
        return;
    }
    int64_t rows = d.rows;
    for (; d.rows >= STEP; next_rows(&d, STEP))
        sums_step(&d, STEP, relu, d.rows == rows, tile);
    DLB_UNROLL
    for (int n = STEP / 2; n > 0; n /= 2)
        if (d.rows & n) {
            sums_step(&d, n, relu, d.rows == rows, tile);
            next_rows(&d, n);
        }
    merge(d.channels, !first, to, 0, tile);
}

static void finish(const struct dlb_batchnorm_finish_backward *f)
{
    const vec one = v_set1(1), count = v_set1((float)f->count),
              epsilon = v_set1((float)DLB_BATCHNORM_EPSILON);
    for (int64_t c = 0; c < f->channels; c += VLEN) {
        int lanes = lanes_at(c, f->channels);
        vec inverse = v_div(one, v_sqrt(v_add(v_loadu(f->variance + c), epsilon)));
        vec beta = v_loadu(f->sum + c);
        vec gamma = v_mul(v_loadu(f->product + c), inverse);
        vec part = v_div(v_sub(v_zero(), v_loadu(f->factor + c)), count);
        v_storeu(f->slope + c, v_mul(v_mul(part, gamma), inverse));
        v_storeu(f->offset + c, v_mul(part, beta));
        if (f->out_gamma)
            v_store_lanes(f->out_gamma + c, gamma, lanes);
        if (f->out_beta)
            v_store_lanes(f->out_beta + c, beta, lanes);
    }
}

/* n rows of the vector of channels c, all loads before all stores. */
DLB_INLINE void differentiate_rows(const struct dlb_batchnorm_diff *d, int64_t c, int n,
                                   int lanes, struct constants k, bool relu, bool stream)
{
    vec y[STEP];
    DLB_UNROLL
    for (int i = 0; i < n; i++) {
        vec distance = v_sub(v_load_lanes(d->src + i * d->ld + c, lanes), k.mean);
        y[i] = v_fma(load_dz(d, i, c, lanes, distance, k, relu), k.factor,
                     v_fma(distance, k.slope, k.offset));
    }
    DLB_UNROLL
    for (int i = 0; i < n; i++)
        if (stream)
            v_stream(d->to + i * d->ld + c, y[i]);
        else
            v_store_lanes(d->to + i * d->ld + c, y[i], lanes);
}

/* n rows of all channels; vectors are unrolled. */
DLB_INLINE void differentiate_group(const struct dlb_batchnorm_diff *d, int n,
                                    int vectors, bool relu, bool stream)
{
    int64_t c = 0;
    for (; c + vectors * VLEN <= d->channels; c += vectors * VLEN)
        DLB_UNROLL
    for (int v = 0; v < vectors; v++)
        differentiate_rows(d, c + v * VLEN, n, VLEN,
                           constants_at(d, c + v * VLEN, relu, true), relu, stream);
    for (; c < d->channels; c += VLEN) {
        int lanes = lanes_at(c, d->channels);
        if (lanes == VLEN)
            differentiate_rows(d, c, n, VLEN, constants_at(d, c, relu, true), relu,
                               stream);
        else
            differentiate_rows(d, c, n, lanes, constants_at(d, c, relu, true), relu,
                               false);
    }
}

/* d is a copy, which no store can reach. */
DLB_INLINE void differentiate(struct dlb_batchnorm_diff d, bool relu, bool stream)
{
    if (d.channels == VLEN) {
        struct constants k = constants_at(&d, 0, relu, true);
        for (; d.rows >= STEP; next_rows(&d, STEP), d.to += STEP * d.ld)
            differentiate_rows(&d, 0, STEP, VLEN, k, relu, stream);
    } else if (d.ld <= NARROW) {
        for (; d.rows >= ROWS; next_rows(&d, ROWS), d.to += ROWS * d.ld)
            differentiate_group(&d, ROWS, 1, relu, stream);
    }
    for (; d.rows; next_rows(&d, 1), d.to += d.ld)
        differentiate_group(&d, 1, 4, relu, stream);
}

static void sums_plain(const struct dlb_batchnorm_diff *call, bool first,
                       struct dlb_batchnorm_pair tile, struct dlb_batchnorm_pair to)
{
    sums(*call, false, first, tile, to);
}

static void sums_relu(const struct dlb_batchnorm_diff *call, bool first,
                      struct dlb_batchnorm_pair tile, struct dlb_batchnorm_pair to)
{
    sums(*call, true, first, tile, to);
}

/* The table of instances: (name, relu, stream). */
#define DIFFERENTIATES(T)                                                                \
    T(plain_cached, false, false)                                                        \
    T(plain_streamed, false, true)                                                       \
    T(relu_cached, true, false)                                                          \
    T(relu_streamed, true, true)

#define DIFFERENTIATE_FUNCTION(name, relu, stream)                                       \
    static void name(const struct dlb_batchnorm_diff *call)                              \
    {                                                                                    \
        differentiate(*call, relu, stream);                                              \
    }
DIFFERENTIATES(DIFFERENTIATE_FUNCTION)

#define DIFFERENTIATE_ENTRY(name, relu, stream) [relu][stream] = name,

extern const struct dlb_batchnorm_backward_kernels DLB_NAME(dlb_batchnorm_backward);
const struct dlb_batchnorm_backward_kernels DLB_NAME(dlb_batchnorm_backward) = {
    .sums = {sums_plain, sums_relu},
    .merge = merge,
    .finish = finish,
    .differentiate = {DIFFERENTIATES(DIFFERENTIATE_ENTRY)},
};
