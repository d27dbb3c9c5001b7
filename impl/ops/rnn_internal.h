/*
 * rnn_internal.h - what the files of LSTM, GRU and RNN share.  One implementation serves
 * all three; the shape tells which is meant.  rnn.c wraps these functions for the
 * operators' tables.
 */
#ifndef DLB_OPS_RNN_INTERNAL_H
#define DLB_OPS_RNN_INTERNAL_H

#include "ops/rnn.h"

enum dlb_rnn_algorithm {
    DLB_RNN_PACKED, /* weights packed so that the gates of a unit stand together */
    DLB_RNN_ALGORITHMS
};
enum dlb_rnn_tile {
    DLB_RNN_TILE_MR,       /* most rows in a register tile */
    DLB_RNN_TILE_NR,       /* columns, gates of units, in a register tile */
    DLB_RNN_TILE_KC,       /* channels in one pass over the rows */
    DLB_RNN_TILE_MERGE,    /* steps whose W x is one product */
    DLB_RNN_TILE_SPLIT,    /* enum dlb_rnn_split */
    DLB_RNN_TILE_PREFETCH, /* enum dlb_rnn_prefetch */
    DLB_RNN_TILES
};
/* Values of the enumerated tiles; 0 is "does not apply". */
enum dlb_rnn_split {
    DLB_RNN_SPLIT_BATCH = 1, /* no barriers */
    DLB_RNN_SPLIT_UNITS,     /* a barrier a step, plain gru two */
    DLB_RNN_SPLIT_2D,
    DLB_RNN_SPLIT_DIRECTIONS_BATCH, /* a half of the threads each direction */
    DLB_RNN_SPLIT_DIRECTIONS_UNITS,
    DLB_RNN_SPLITS = DLB_RNN_SPLIT_DIRECTIONS_UNITS
};
enum dlb_rnn_prefetch {
    DLB_RNN_PREFETCH_NONE = 1,
    DLB_RNN_PREFETCH_PANEL /* the next panel, into L2, while this one is worked on */
};

extern const char *const dlb_rnn_algorithms[DLB_RNN_ALGORITHMS];
extern const struct dlb_tile_def dlb_rnn_tiles[DLB_RNN_TILES];

/* The products of a step, in the order in which they are computed. */
enum dlb_rnn_product_kind {
    DLB_RNN_PRODUCT_INPUT, /* W x, all gates */
    DLB_RNN_PRODUCT_STATE, /* U h; plain gru: without the candidate */
    DLB_RNN_PRODUCT_RESET, /* plain gru: U_g (r o h) */
    DLB_RNN_PRODUCTS
};
/* Gates of a product: the first one and how many, 0 where there is no such product. */
struct dlb_rnn_gate_range {
    int first, n;
};
struct dlb_rnn_gate_range dlb_rnn_product_gates(const struct dlb_rnn_shape *shape,
                                                enum dlb_rnn_product_kind product);

/* Blocks of lanes units, the last may be partly empty; and how many blocks make whole
 * panels of nv vectors in all products: threads share no panel. */
int64_t dlb_rnn_blocks(const struct dlb_rnn_shape *shape, int lanes);
int64_t dlb_rnn_blocks_together(const struct dlb_rnn_shape *shape, int nv);

/* Rows of W x's matrix in one pass over its weights: their input takes half of L2. */
int64_t dlb_rnn_block_rows(const struct dlb_rnn_shape *shape,
                           const struct dlb_target *target, int nv);

/*
 * Threads as a grid: each gets a share of the directions, of the rows of the minibatch
 * and of the units (in blocks together).  balance is mean over largest share, at most 1;
 * threads that do not form a grid of this kind have directions 0.
 */
struct dlb_rnn_grid {
    int directions, rows, columns;
    double balance;
};
struct dlb_rnn_grid dlb_rnn_grid_make(const struct dlb_rnn_shape *shape, int split,
                                      int threads, int lanes, int nv);

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
