/*
 * attention_internal.h - what the files of attention share.
 */
#ifndef DLB_OPS_ATTENTION_INTERNAL_H
#define DLB_OPS_ATTENTION_INTERNAL_H

#include "ops/attention.h"

/* Search space (attention_space.c). */
enum dlb_attention_algorithm { DLB_ATTENTION_ONLINE, DLB_ATTENTION_ALGORITHMS };
enum dlb_attention_tile { DLB_ATTENTION_TILES = 1 };

extern const char *const dlb_attention_algorithms[DLB_ATTENTION_ALGORITHMS];
extern const struct dlb_tile_def dlb_attention_tiles[DLB_ATTENTION_TILES];

void dlb_attention_enumerate(const struct dlb_problem *problem,
                             const struct dlb_target *target, dlb_candidate_fn *emit,
                             void *context);
const char *dlb_attention_refuse(const struct dlb_problem *problem,
                                 const struct dlb_target *target,
                                 const struct dlb_candidate *candidate);
void dlb_attention_fallback(const struct dlb_problem *problem,
                            const struct dlb_target *target,
                            struct dlb_candidate *candidate);
double dlb_attention_estimate(const struct dlb_problem *problem,
                              const struct dlb_target *target,
                              const struct dlb_rates *rates,
                              const struct dlb_candidate *candidate);

/* Plans (attention_plan.c). */
enum dlb_status dlb_attention_plan(const struct dlb_problem *problem,
                                   const struct dlb_target *target,
                                   const struct dlb_candidate *candidate,
                                   struct dlb_plan **plan, struct dlb_error *error);

#endif
