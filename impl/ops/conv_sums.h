/*
 * conv_sums.h - the sums of backward weights: gradients in a layout of the plan's own, one
 * copy for each part of the rows that threads work on, added up at the end of run.
 */
#ifndef DLB_OPS_CONV_SUMS_H
#define DLB_OPS_CONV_SUMS_H

#include "core/outer.h"
#include "core/team.h"
#include "ops/conv_internal.h"

struct dlb_conv_sums {
    const struct dlb_outer_kernels *kernels;
    int copies;
    int64_t elements; /* of the weights in one copy */
    int64_t channels; /* of the bias; 0 without */
    float *weights, *bias;
};

/* False when there is no memory: the sums then are still to be released. */
bool dlb_conv_sums_make(struct dlb_conv_sums *sums, enum dlb_isa isa, int copies,
                        int64_t elements, int64_t channels);
void dlb_conv_sums_release(struct dlb_conv_sums *sums);
size_t dlb_conv_sums_bytes(const struct dlb_conv_sums *sums);

/* A copy's weights. */
static inline float *dlb_conv_sums_weights(const struct dlb_conv_sums *sums, int copy)
{
    return sums->weights + copy * sums->elements;
}

/* Adds so many pixels of diff_dst, of which diff is the first, to channels begin … end-1
 * of a copy's bias; the first time sets them.  A no-op without bias. */
void dlb_conv_sums_bias(const struct dlb_conv_sums *sums, int copy, const float *diff,
                        int64_t pixels, int64_t begin, int64_t end, bool first);

/* The whole team: adds the other copies to the first, in their order. */
void dlb_conv_sums_add(const struct dlb_conv_sums *sums, const struct dlb_team *team);

/* Brings the team member's share of the bias into the canonical tensor. */
void dlb_conv_sums_fetch_bias(const struct dlb_conv_sums *sums,
                              const struct dlb_team *team, float *bias);

#endif
