/*
 * conv_internal.h - what the files of conv share.
 */
#ifndef DLB_OPS_CONV_INTERNAL_H
#define DLB_OPS_CONV_INTERNAL_H

#include "ops/conv.h"

/* The dims by name; all derived values that kernels and plans use are worked out once. */
struct dlb_conv_shape {
    int64_t g, mb, ic, ih, iw, oc, oh, ow, kh, kw, sh, sw, ph, pw, dh, dw;
    int64_t icg, ocg; /* channels of one group */
    bool bias, relu;
};
void dlb_conv_shape_get(const struct dlb_problem *problem, struct dlb_conv_shape *shape);

/* Taps k of 0 … kernel-1 that lie inside the input for output position out:
 * [*begin, *end), empty when begin >= end. */
void dlb_conv_valid_taps(int64_t out, int64_t in_size, int64_t kernel, int64_t stride,
                         int64_t pad, int64_t dilation, int64_t *begin, int64_t *end);

/* Search space (conv_space.c). */
enum { DLB_CONV_ALGORITHMS = 1, DLB_CONV_TILES = 1 };
extern const char *const dlb_conv_algorithms[DLB_CONV_ALGORITHMS];
extern const struct dlb_tile_def dlb_conv_tiles[DLB_CONV_TILES];
void dlb_conv_enumerate(const struct dlb_problem *problem,
                        const struct dlb_target *target, dlb_candidate_fn *emit,
                        void *context);
const char *dlb_conv_refuse(const struct dlb_problem *problem,
                            const struct dlb_target *target,
                            const struct dlb_candidate *candidate);
void dlb_conv_fallback(const struct dlb_problem *problem, const struct dlb_target *target,
                       struct dlb_candidate *candidate);
double dlb_conv_estimate(const struct dlb_problem *problem,
                         const struct dlb_target *target, const struct dlb_rates *rates,
                         const struct dlb_candidate *candidate);

/* Plans (conv_plan.c). */
enum dlb_status dlb_conv_plan(const struct dlb_problem *problem,
                              const struct dlb_target *target,
                              const struct dlb_candidate *candidate,
                              struct dlb_plan **plan, struct dlb_error *error);

#endif
