/*
 * rnn_internal.h - what the files of LSTM and GRU share.  One implementation serves both
 * operators; the shape tells which is meant.  rnn.c wraps these functions for the two
 * operator tables.
 */
#ifndef DLB_OPS_RNN_INTERNAL_H
#define DLB_OPS_RNN_INTERNAL_H

#include "ops/rnn.h"

enum dlb_rnn_algorithm { DLB_RNN_ALGORITHMS = 1 };
enum dlb_rnn_tile { DLB_RNN_TILES = 1 };

extern const char *const dlb_rnn_algorithms[DLB_RNN_ALGORITHMS];
extern const struct dlb_tile_def dlb_rnn_tiles[DLB_RNN_TILES];

/* Search space and plans: contracts as of the members of the same names in core/op.h. */
void dlb_rnn_enumerate(const struct dlb_rnn_shape *shape, const struct dlb_target *target,
                       dlb_candidate_fn *emit, void *context);
const char *dlb_rnn_refuse(const struct dlb_rnn_shape *shape,
                           const struct dlb_target *target,
                           const struct dlb_candidate *candidate);
void dlb_rnn_fallback(const struct dlb_rnn_shape *shape, const struct dlb_target *target,
                      struct dlb_candidate *candidate);
double dlb_rnn_estimate(const struct dlb_rnn_shape *shape,
                        const struct dlb_target *target, const struct dlb_rates *rates,
                        const struct dlb_candidate *candidate);
enum dlb_status dlb_rnn_plan(const struct dlb_rnn_shape *shape,
                             const struct dlb_target *target,
                             const struct dlb_candidate *candidate,
                             struct dlb_plan **plan, struct dlb_error *error);

#endif
