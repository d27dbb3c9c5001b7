/*
 * pooling_internal.h - what the files of pooling share.
 */
#ifndef DLB_OPS_POOLING_INTERNAL_H
#define DLB_OPS_POOLING_INTERNAL_H

#include "core/grid.h"
#include "ops/pooling.h"

/* Search space (pooling_space.c). */
enum dlb_pooling_algorithm {
    DLB_POOLING_REGISTERS, /* channels in registers while the window passes by */
    DLB_POOLING_SWEEP,     /* average: a tap or some after another, all channels each */
    DLB_POOLING_ALGORITHMS
};
enum dlb_pooling_tile {
    DLB_POOLING_TILE_CHANNELS, /* channels in a block */
    DLB_POOLING_TILE_SPLIT,    /* enum dlb_grid_split */
    DLB_POOLING_TILE_STREAM,   /* enum dlb_pooling_stream */
    DLB_POOLING_TILES
};
/* Values of the enumerated tiles; 0 is "does not apply". */
enum dlb_pooling_stream { DLB_POOLING_STREAM_OFF = 1, DLB_POOLING_STREAM_ON };

extern const char *const dlb_pooling_algorithms[DLB_POOLING_ALGORITHMS];
extern const struct dlb_tile_def dlb_pooling_tiles[DLB_POOLING_TILES];

/* Rows of images that a pass writes: of dst, or of diff_src. */
int64_t dlb_pooling_rows(const struct dlb_problem *problem);

void dlb_pooling_enumerate(const struct dlb_problem *problem,
                           const struct dlb_target *target, dlb_candidate_fn *emit,
                           void *context);
const char *dlb_pooling_refuse(const struct dlb_problem *problem,
                               const struct dlb_target *target,
                               const struct dlb_candidate *candidate);
void dlb_pooling_fallback(const struct dlb_problem *problem,
                          const struct dlb_target *target,
                          struct dlb_candidate *candidate);
double dlb_pooling_estimate(const struct dlb_problem *problem,
                            const struct dlb_target *target,
                            const struct dlb_rates *rates,
                            const struct dlb_candidate *candidate);

/* Plans (pooling_plan.c). */
enum dlb_status dlb_pooling_plan(const struct dlb_problem *problem,
                                 const struct dlb_target *target,
                                 const struct dlb_candidate *candidate,
                                 struct dlb_plan **plan, struct dlb_error *error);

/*
 * Kernels (pooling_kernels.c): one row of dst, or of diff_src, some channels of it.
 *
 * index has a whole number of vectors for each pixel of dst, of which all may be written:
 * bytes where kernels have at most 256 taps, else floats.
 */
struct dlb_pooling_row {
    const struct dlb_pooling_shape *s;
    int64_t y;        /* of the row, in its image */
    int64_t channels; /* from the first one of the pointers on */
    /* Of the row's image, pixel 0; dst and diff_src of the row itself. */
    const float *src; /* backward: diff_dst */
    float *dst;       /* backward: diff_src */
    void *index;      /* forward: of the row; backward: of the image; NULL: not wanted */
    int64_t index_ld; /* elements from pixel to pixel */
    const float *scale; /* average: 1 / count of each pixel of dst in an image */
};
typedef void dlb_pooling_fn(const struct dlb_pooling_row *row);

enum { DLB_POOLING_BYTE_TAPS = 256 };

/* Of one kind of passes: [streamed], index as bytes or floats where there is one. */
struct dlb_pooling_kernels {
    int lanes;
    dlb_pooling_fn *max[2], *max_bytes[2], *max_floats[2], *average[2], *sweep[2];
    dlb_pooling_fn *back_bytes[2], *back_floats[2], *back_average[2];
    void (*stream_fence)(void);
};

/* The kernels of a usable ISA. */
const struct dlb_pooling_kernels *dlb_pooling_kernels(enum dlb_isa isa);

#endif
