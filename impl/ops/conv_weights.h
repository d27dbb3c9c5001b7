/*
 * conv_weights.h - what plans and space of backward weights share.
 */
#ifndef DLB_OPS_CONV_WEIGHTS_H
#define DLB_OPS_CONV_WEIGHTS_H

#include "ops/conv_internal.h"

/* Threads as a grid over rows of diff_dst, panels of output channels and strips of input
 * channels; balance is mean over largest share, at most 1.  Each part of the rows has its
 * own copy of the sums. */
struct dlb_conv_weights_grid {
    int rows, panels, strips;
    double balance;
};

/* rows is 0 where threads do not form such a grid. */
struct dlb_conv_weights_grid dlb_conv_weights_grid_make(int split, int threads,
                                                        int64_t rows, int64_t panels,
                                                        int64_t strips);

/* The shares [begin, end) of a thread; returns the part of the rows that it belongs to. */
int dlb_conv_weights_share(const struct dlb_conv_weights_grid *grid, int rank,
                           int64_t rows_n, int64_t panels_n, int64_t strips_n,
                           int64_t *rows, int64_t *panels, int64_t *strips);

/* Strips of mr that make kc input channels. */
static inline int64_t dlb_conv_weights_strips(const int *tile)
{
    return dlb_div_up(tile[DLB_CONV_TILE_KC], tile[DLB_CONV_TILE_MR]);
}

/* Elements that one thread packs of a block of rows at a time: of src, and of diff_dst. */
void dlb_conv_weights_packed(const struct dlb_conv_shape *shape,
                             const struct dlb_target *target,
                             const struct dlb_candidate *candidate, int64_t *src,
                             int64_t *diff);

/* Rows of src under so many rows of diff_dst, over the stride: see conv_weights.c. */
static inline int64_t dlb_conv_weights_pitch(const struct dlb_conv_shape *s, int64_t rows)
{
    return dlb_div_up((rows - 1) * s->sh + (s->kh - 1) * (s->dh + 1) + 1, s->sh);
}

/* Depthwise parts of the space: NULL or the reason against the tiles; cycles of all
 * threads together. */
const char *dlb_conv_weights_depthwise_refuse(const struct dlb_conv_shape *shape,
                                              const struct dlb_target *target,
                                              const struct dlb_candidate *candidate);
double dlb_conv_weights_depthwise_cycles(const struct dlb_conv_shape *shape,
                                         const struct dlb_target *target,
                                         const struct dlb_candidate *candidate);

#endif
