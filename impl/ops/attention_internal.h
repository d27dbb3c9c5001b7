/*
 * attention_internal.h - what the files of attention share.
 *
 * The queries of all heads of a group that share a key/value head are the rows of one
 * problem: row f = i * group + r is query i of the group's head r, so that rows see ever
 * more keys under a causal mask.
 */
#ifndef DLB_OPS_ATTENTION_INTERNAL_H
#define DLB_OPS_ATTENTION_INTERNAL_H

#include "ops/attention.h"

/* Search space (attention_space.c). */
enum dlb_attention_algorithm {
    DLB_ATTENTION_ONLINE,    /* panels of queries against blocks of keys */
    DLB_ATTENTION_DECODE,    /* few queries, one by one along the rows of K and V */
    DLB_ATTENTION_RECOMPUTE, /* backward (attention_backward.h) */
    DLB_ATTENTION_ALGORITHMS
};
enum dlb_attention_tile {
    DLB_ATTENTION_TILE_NR,     /* queries in a panel, the width of a register tile */
    DLB_ATTENTION_TILE_QB,     /* queries in a block */
    DLB_ATTENTION_TILE_KB,     /* keys in a block, at most */
    DLB_ATTENTION_TILE_PACK,   /* enum dlb_attention_pack */
    DLB_ATTENTION_TILE_SPLIT,  /* parts of the keys that are worked on side by side */
    DLB_ATTENTION_TILE_STREAM, /* enum dlb_attention_stream; decode, backward */
    DLB_ATTENTION_TILES
};
/* Most panels in a block of queries. */
enum { DLB_ATTENTION_PANELS_MAX = 32 };
enum dlb_attention_pack { DLB_ATTENTION_PACK_NONE = 1, DLB_ATTENTION_PACK_COPY };
enum dlb_attention_stream { DLB_ATTENTION_STREAM_OFF = 1, DLB_ATTENTION_STREAM_ON };

extern const char *const dlb_attention_algorithms[DLB_ATTENTION_ALGORITHMS];
extern const struct dlb_tile_def dlb_attention_tiles[DLB_ATTENTION_TILES];

/*
 * The work as units: for each key/value head of each sequence its blocks of queries, for
 * each of them the parts of the keys.  Rows are cut into panels, panels into blocks.
 * Blocks are numbered from both ends inwards, so that long and short ones of a causal mask
 * follow each other; each thread gets a run of units of about equal cost.
 */
struct dlb_attention_work {
    int lanes;
    int64_t heads;           /* mb * hk */
    int64_t rows;            /* of a head: sq * group */
    int64_t vectors, panels; /* of a head; decode: one panel */
    int64_t blocks;          /* of a head */
    int64_t parts;           /* of the keys */
};
struct dlb_attention_unit {
    int64_t head, block, part;
    int64_t panel_begin, panel_end;
    int64_t key_begin, key_end; /* of the part, mask aside */
};
void dlb_attention_work_get(const struct dlb_attention_shape *shape,
                            const struct dlb_target *target,
                            const struct dlb_candidate *candidate,
                            struct dlb_attention_work *work);
void dlb_attention_unit_get(const struct dlb_attention_shape *shape,
                            const struct dlb_attention_work *work, int64_t number,
                            struct dlb_attention_unit *unit);

/* Rows of a panel of a head: [*begin, *end), on (returned) vectors. */
int dlb_attention_panel_rows(const struct dlb_attention_work *work, int64_t panel,
                             int64_t *begin, int64_t *end);

/* Fills first[threads + 1]: thread t works on the units [first[t], first[t+1]).  Returns
 * mean over largest share of the cost, at most 1. */
double dlb_attention_share(const struct dlb_attention_shape *shape,
                           const struct dlb_attention_work *work, int threads,
                           int64_t *first);

void dlb_attention_enumerate(const struct dlb_problem *problem,
                             const struct dlb_target *target, dlb_candidate_fn *emit,
                             void *context);
const char *dlb_attention_refuse(const struct dlb_problem *problem,
                                 const struct dlb_target *target,
                                 const struct dlb_candidate *candidate);
/* What of it is decode's alone. */
const char *dlb_attention_refuse_decode(const struct dlb_attention_shape *shape,
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

/* A plan of either algorithm; what the runners of units (below) read of it. */
struct dlb_attention_plan {
    struct dlb_plan plan;
    struct dlb_attention_shape s;
    struct dlb_attention_work work;
    enum dlb_isa isa;
    int algorithm;
    int64_t kb;     /* keys in a block, at most */
    bool copy;      /* K and V are copied by blocks */
    int64_t *first; /* units of the threads */
    const float *q, *k, *v, *mask;
    float *dst, *logsum;
    /* [head][row]: maximum and sum of exponentials, for a backward pass; NULL: not kept. */
    float *statistics;
    int64_t scratch_elements; /* of one thread, whole cache lines */
    float *scratch;
    /* [head][part][row] of dv sums, maximum and sum of exponentials each, before they are
     * merged; NULL with one part. */
    float *partial;
};

/* A row's result, not yet divided by its sum, is handed on: dst and what is kept of it, or its
 * partial.  dlb_attention_row is its place in units of rows of q and dst. */
int64_t dlb_attention_row(const struct dlb_attention_shape *shape, int64_t head,
                          int64_t row);
float *dlb_attention_partial(const struct dlb_attention_plan *plan, int64_t head,
                             int64_t part, int64_t row);
void dlb_attention_keep(const struct dlb_attention_plan *plan, int64_t head, int64_t row,
                        float maximum, float sum);

/* The sums of a row become its result; zeros where no key is seen, whatever they are. */
void dlb_attention_divide(float *o, int64_t n, float sum);

/* The algorithms: elements of scratch that a thread needs, and one unit of work. */
struct dlb_attention_runner {
    int64_t (*scratch)(const struct dlb_attention_plan *plan);
    void (*run)(const struct dlb_attention_plan *plan,
                const struct dlb_attention_unit *unit, float *scratch);
};
extern const struct dlb_attention_runner dlb_attention_online, dlb_attention_decode;

/* Panels (attention_online.c), of both directions: rows of a head, side by side in the
 * lanes of nv vectors. */
struct dlb_attention_kernels;
struct dlb_attention_product;
enum { DLB_ATTENTION_WIDTH_MAX = 4 * 16 };
struct dlb_attention_lanes {
    int64_t begin, end;          /* rows of the head */
    int64_t keys_all, keys_most; /* seen by every row; by the last */
    int nv, width;
};
void dlb_attention_lanes_get(const struct dlb_attention_shape *shape,
                             const struct dlb_attention_work *work, int64_t panel,
                             struct dlb_attention_lanes *lanes);

/* Offsets of the rows, n elements each, of q and dst: one for each lane; lanes beyond the
 * rows repeat the last one. */
void dlb_attention_row_offsets(const struct dlb_attention_shape *shape, int64_t head,
                               const struct dlb_attention_lanes *lanes, int64_t n,
                               int64_t *offset);

/* Elements from one row of n to the next so that rows meet all sets of a cache: an odd
 * number of lines. */
int64_t dlb_attention_pitch(int64_t n);

/* All rows of C of either product, in tiles whose heights differ by at most one. */
void dlb_attention_scores(const struct dlb_attention_kernels *kernels, int nv,
                          int64_t rows, struct dlb_attention_product *call);
void dlb_attention_values(const struct dlb_attention_kernels *kernels, int nv,
                          int64_t rows, struct dlb_attention_product *call);

/* scores[j][lane] = value where the causal mask hides key first + j of a block of keys. */
void dlb_attention_hide(const struct dlb_attention_shape *shape,
                        const struct dlb_attention_lanes *lanes, int64_t first,
                        int64_t keys, float value, float *scores);

/* Adds the mask buffer, mask pointing at the first query's first key of the block, through
 * panel ([keys][width]) to scores, and raises top[lane] to their maximum. */
void dlb_attention_add_mask(const struct dlb_attention_kernels *kernels,
                            const struct dlb_attention_shape *shape,
                            const struct dlb_attention_lanes *lanes, const float *mask,
                            int64_t keys, float *panel, float *scores, float *top);

#endif
