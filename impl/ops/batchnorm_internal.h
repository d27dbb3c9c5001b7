/*
 * batchnorm_internal.h - what the files of batchnorm share.
 */
#ifndef DLB_OPS_BATCHNORM_INTERNAL_H
#define DLB_OPS_BATCHNORM_INTERNAL_H

#include "ops/batchnorm.h"

/*
 * The element whose value the exact fill mirrors at a channel's mean stands next to it:
 * pixels 2i and 2i+1 of an image, images 2i and 2i+1 where an image is one pixel.  Rows
 * are the pixels that a tile may run through without splitting such a pair: those of one
 * image, or of all images where no pair would straddle two.
 */
struct dlb_batchnorm_planes {
    int64_t planes, rows; /* of one plane */
};
struct dlb_batchnorm_planes
dlb_batchnorm_planes_get(const struct dlb_batchnorm_shape *shape, int algorithm);

/* Search space (batchnorm_space.c). */
enum dlb_batchnorm_algorithm {
    DLB_BATCHNORM_BY_NHWC,
    DLB_BATCHNORM_BY_BLOCKS, /* channels in blocks of one vector: nChw8c, … */
    DLB_BATCHNORM_ALGORITHMS
};
enum dlb_batchnorm_tile {
    DLB_BATCHNORM_TILE_ROWS,     /* pixels of one plane in a tile */
    DLB_BATCHNORM_TILE_CHANNELS, /* channels whose statistics are finished together */
    DLB_BATCHNORM_TILE_SPLIT,    /* enum dlb_batchnorm_split */
    DLB_BATCHNORM_TILE_STREAM,   /* enum dlb_batchnorm_stream */
    DLB_BATCHNORM_TILES
};
/* Values of the enumerated tiles; 0 is "does not apply". */
enum dlb_batchnorm_split {
    DLB_BATCHNORM_SPLIT_ROWS = 1,
    DLB_BATCHNORM_SPLIT_CHANNELS,
    DLB_BATCHNORM_SPLIT_BOTH
};
enum dlb_batchnorm_stream { DLB_BATCHNORM_STREAM_OFF = 1, DLB_BATCHNORM_STREAM_ON };

enum {
    /* Threads and blocks get whole cache lines of channels. */
    DLB_BATCHNORM_LINE = DLB_CACHE_LINE / sizeof(float),
    DLB_BATCHNORM_STEP = 8, /* rows whose statistics are made in registers */
    DLB_BATCHNORM_ROWS_MAX = 1024
};

extern const char *const dlb_batchnorm_algorithms[DLB_BATCHNORM_ALGORITHMS];
extern const struct dlb_tile_def dlb_batchnorm_tiles[DLB_BATCHNORM_TILES];

/*
 * Threads as a grid: each gets a share of the tiles of rows and a share of the lines of
 * channels.  balance is mean over largest share, at most 1; rows is 0 where the threads
 * form no such grid.
 */
struct dlb_batchnorm_grid {
    int rows, columns;
    double balance;
};
struct dlb_batchnorm_grid dlb_batchnorm_grid_make(int split, int threads, int64_t tiles,
                                                  int64_t lines);

void dlb_batchnorm_enumerate(const struct dlb_problem *problem,
                             const struct dlb_target *target, dlb_candidate_fn *emit,
                             void *context);
const char *dlb_batchnorm_refuse(const struct dlb_problem *problem,
                                 const struct dlb_target *target,
                                 const struct dlb_candidate *candidate);
void dlb_batchnorm_fallback(const struct dlb_problem *problem,
                            const struct dlb_target *target,
                            struct dlb_candidate *candidate);
double dlb_batchnorm_estimate(const struct dlb_problem *problem,
                              const struct dlb_target *target,
                              const struct dlb_rates *rates,
                              const struct dlb_candidate *candidate);

/* Plans (batchnorm_plan.c). */
enum dlb_status dlb_batchnorm_plan(const struct dlb_problem *problem,
                                   const struct dlb_target *target,
                                   const struct dlb_candidate *candidate,
                                   struct dlb_plan **plan, struct dlb_error *error);

/*
 * Kernels (batchnorm_kernels.c).  Arrays per channel that are not the caller's canonical
 * tensors are padded to whole cache lines of channels, and aligned so.
 */

/* Two vectors by channel: mean and sum of squared distances from it (m2); backward, the
 * sums of dz and of dz (src - mean). */
struct dlb_batchnorm_pair {
    float *first, *second;
};

/* Joins what another other_count elements gave to what count (may be 0) did. */
typedef void dlb_batchnorm_merge_fn(int64_t channels, int64_t count,
                                    struct dlb_batchnorm_pair to, int64_t other_count,
                                    struct dlb_batchnorm_pair other);

/* Weights by which the statistics of one more step join those of k steps:
 * mean += delta * mean[k], m2 += delta^2 * square[k]. */
struct dlb_batchnorm_weights {
    float mean[DLB_BATCHNORM_ROWS_MAX / DLB_BATCHNORM_STEP];
    float square[DLB_BATCHNORM_ROWS_MAX / DLB_BATCHNORM_STEP];
};

/* What happens to a normalised element. */
enum dlb_batchnorm_act {
    DLB_BATCHNORM_LINEAR,
    DLB_BATCHNORM_RELU_ONLY,
    DLB_BATCHNORM_RELU_AND_MASK,
    DLB_BATCHNORM_ACTS
};

/* Rows of channels: channel c of row r stands at p + r*ld + c. */
struct dlb_batchnorm_normalise {
    const float *src;
    float *dst;
    uint8_t *mask; /* bit i of a vector's mask_bytes: lane i is > 0 */
    int64_t ld, mask_ld, rows, channels; /* mask_ld in bytes */
    const float *mean, *factor, *beta;   /* of the first channel on */
};
typedef void dlb_batchnorm_normalise_fn(const struct dlb_batchnorm_normalise *call);

/* From merged statistics of count elements a channel to what normalise needs and what is
 * returned. */
struct dlb_batchnorm_finish {
    int64_t channels, count;
    const float *m2, *mean, *gamma;
    float *factor; /* gamma / sqrt(variance + epsilon) */
    /* Of the first channel on; what is NULL, of each pair, is not returned. */
    const float *running_mean, *running_variance;
    float *out_mean, *out_variance, *out_running_mean, *out_running_variance;
};

struct dlb_batchnorm_kernels {
    int mask_bytes; /* of one vector */
    /* Moments of 1 to DLB_BATCHNORM_ROWS_MAX rows. */
    void (*moments)(const float *src, int64_t ld, int64_t rows, int64_t channels,
                    const struct dlb_batchnorm_weights *weights,
                    struct dlb_batchnorm_pair to);
    dlb_batchnorm_merge_fn *merge;
    void (*finish)(const struct dlb_batchnorm_finish *call);
    /* factor = gamma / sqrt(variance + epsilon); variance is padded. */
    void (*factors)(int64_t channels, const float *variance, const float *gamma,
                    float *factor);
    dlb_batchnorm_normalise_fn *normalise[DLB_BATCHNORM_ACTS][2]; /* [act][stream] */
    void (*stream_fence)(void);
};

/* Backward (batchnorm_backward_kernels.c): rows of channels as for normalise. */
struct dlb_batchnorm_diff {
    const float *src, *diff;
    int64_t ld, rows, channels;
    const float *mean, *factor, *beta; /* of the first channel on, as for normalise */
    /* For differentiate: to = factor dz + slope (src - mean) + offset. */
    float *to;
    const float *slope, *offset;
};
/* Sums of 1 to DLB_BATCHNORM_ROWS_MAX rows, added to those that to holds unless these are
 * the first; tile is room for as many channels. */
typedef void dlb_batchnorm_sums_fn(const struct dlb_batchnorm_diff *call, bool first,
                                   struct dlb_batchnorm_pair tile,
                                   struct dlb_batchnorm_pair to);
typedef void dlb_batchnorm_differentiate_fn(const struct dlb_batchnorm_diff *call);

/* From the sums over all count elements a channel to what differentiate needs, and what is
 * returned unless NULL. */
struct dlb_batchnorm_finish_backward {
    int64_t channels, count;
    const float *sum, *product, *variance, *factor;
    float *slope, *offset;
    float *out_gamma, *out_beta;
};

struct dlb_batchnorm_backward_kernels {
    dlb_batchnorm_sums_fn *sums[2]; /* [relu] */
    dlb_batchnorm_merge_fn *merge;
    void (*finish)(const struct dlb_batchnorm_finish_backward *call);
    dlb_batchnorm_differentiate_fn *differentiate[2][2]; /* [relu][stream] */
};

/* The kernels of a usable ISA. */
const struct dlb_batchnorm_kernels *dlb_batchnorm_kernels(enum dlb_isa isa);

#endif
