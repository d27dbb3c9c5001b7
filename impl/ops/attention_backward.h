/*
 * attention_backward.h - the backward pass of attention: its search space, how its work is
 * cut, its plans.
 *
 * Algorithms "recompute", with the tiles nr, qb, kb and keysplit of enum
 * dlb_attention_tile, and "decode" for few queries, with kb and keysplit.  Work
 * falls into units as in attention_internal.h, except that a unit has all blocks of queries
 * and that the parts of the keys have about equal numbers of pairs.
 */
#ifndef DLB_OPS_ATTENTION_BACKWARD_H
#define DLB_OPS_ATTENTION_BACKWARD_H

#include "ops/attention_internal.h"

/* Columns of a row of q, k or v: n strips that share the vectors, dlb_share. */
struct dlb_attention_strips {
    int64_t vectors, n;
};
void dlb_attention_strips_get(enum dlb_isa isa, int64_t columns,
                              struct dlb_attention_strips *strips);

/* Fills begin[parts + 1]; parts may be empty. */
void dlb_attention_split_keys(const struct dlb_attention_shape *shape, int64_t parts,
                              int64_t *begin);

void dlb_attention_backward_enumerate(const struct dlb_attention_shape *shape,
                                      const struct dlb_target *target,
                                      dlb_candidate_fn *emit, void *context);
const char *dlb_attention_backward_refuse(const struct dlb_attention_shape *shape,
                                          const struct dlb_target *target,
                                          const struct dlb_candidate *candidate);
double dlb_attention_backward_estimate(const struct dlb_attention_shape *shape,
                                       const struct dlb_target *target,
                                       const struct dlb_rates *rates,
                                       const struct dlb_candidate *candidate);

/* Of a legal candidate. */
enum dlb_status dlb_attention_backward_plan(const struct dlb_problem *problem,
                                            const struct dlb_target *target,
                                            const struct dlb_candidate *candidate,
                                            struct dlb_plan **plan,
                                            struct dlb_error *error);

#endif
