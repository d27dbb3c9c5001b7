/*
 * linear_internal.h - what the files of linear share.
 */
#ifndef DLB_OPS_LINEAR_INTERNAL_H
#define DLB_OPS_LINEAR_INTERNAL_H

#include "core/grid.h"
#include "ops/linear.h"

/*
 * A pass as the product C = A B of m x k and k x n, operands by enum dlb_linear_tensor.
 * C is [m][n].  fwd and bwd_data: A is [m][k], B a parameter: [n][k] where transposed, else
 * [k][n].  bwd_weights (gradient): A is [k][m], B is [k][n].
 */
struct dlb_linear_product {
    int64_t m, n, k;
    bool transposed, gradient;
    bool vector; /* bias is added; gradient: the sums of A's columns are wanted */
    bool relu;
};
void dlb_linear_product_get(const struct dlb_problem *problem,
                            struct dlb_linear_product *product);

/* Search space (linear_space.c). */
enum dlb_linear_algorithm {
    DLB_LINEAR_GEMM,    /* register tiles over one panel of B at a time */
    DLB_LINEAR_STREAMS, /* few rows: several panels of B side by side */
    DLB_LINEAR_ALGORITHMS
};
enum dlb_linear_tile {
    DLB_LINEAR_TILE_MR,       /* most rows in a register tile */
    DLB_LINEAR_TILE_NR,       /* columns in a register tile: a panel */
    DLB_LINEAR_TILE_KC,       /* depth of one pass over C */
    DLB_LINEAR_TILE_ROWS,     /* most rows in a block */
    DLB_LINEAR_TILE_COLUMNS,  /* columns in a block */
    DLB_LINEAR_TILE_A,        /* enum dlb_linear_a */
    DLB_LINEAR_TILE_SPLIT,    /* enum dlb_grid_split */
    DLB_LINEAR_TILE_STREAM,   /* enum dlb_linear_stream */
    DLB_LINEAR_TILE_PREFETCH, /* enum dlb_linear_prefetch */
    DLB_LINEAR_TILES
};
/* Values of the enumerated tiles; 0 is "does not apply". */
enum dlb_linear_a { DLB_LINEAR_A_IN_PLACE = 1, DLB_LINEAR_A_PACKED };
enum dlb_linear_stream {
    DLB_LINEAR_STREAM_OFF = 1,
    DLB_LINEAR_STREAM_ON,
    DLB_LINEAR_STREAM_STAGED /* a block is made in scratch, and leaves it row by row */
};
enum dlb_linear_prefetch {
    DLB_LINEAR_PREFETCH_NONE = 1,
    DLB_LINEAR_PREFETCH_PANEL /* the next panel, into L2, while this one is worked on */
};

extern const char *const dlb_linear_algorithms[DLB_LINEAR_ALGORITHMS];
extern const struct dlb_tile_def dlb_linear_tiles[DLB_LINEAR_TILES];

void dlb_linear_enumerate(const struct dlb_problem *problem,
                          const struct dlb_target *target, dlb_candidate_fn *emit,
                          void *context);
const char *dlb_linear_refuse(const struct dlb_problem *problem,
                              const struct dlb_target *target,
                              const struct dlb_candidate *candidate);
void dlb_linear_fallback(const struct dlb_problem *problem,
                         const struct dlb_target *target,
                         struct dlb_candidate *candidate);
double dlb_linear_estimate(const struct dlb_problem *problem,
                           const struct dlb_target *target, const struct dlb_rates *rates,
                           const struct dlb_candidate *candidate);

/* Plans (linear_plan.c). */
enum dlb_status dlb_linear_plan(const struct dlb_problem *problem,
                                const struct dlb_target *target,
                                const struct dlb_candidate *candidate,
                                struct dlb_plan **plan, struct dlb_error *error);

/*
 * Kernels (linear_kernels.c).
 */

/* Few rows times several panels side by side: so many streams of B at once get more out
 * of caches and memory than one.
 *   c[i][s*nr + j] = init + sum over k of a[i][k] * b[s][k][j]
 * rows by rows, panels s b_panel apart, of nr = nv vectors each; init is bias, 0 without,
 * or C with accumulate.  Each element is the chain of fused multiply-adds that it is in
 * core/brgemm.h. */
struct dlb_linear_streams {
    const float *a, *b, *bias;
    int64_t lda, ldc, k, b_panel;
    float *c;
    bool accumulate, relu;
};
typedef void dlb_linear_streams_fn(const struct dlb_linear_streams *call);

enum { DLB_LINEAR_STREAM_ROWS = 4 };

/* Up to this depth a register tile is over before memory has taken or brought its result:
 * how results are written is most of the time. */
enum { DLB_LINEAR_SHORT_DEPTH = 128 };

/* Elements of scratch in which a candidate makes a block of C, and their rows' distance. */
static inline int64_t dlb_linear_stage_ld(const struct dlb_candidate *c)
{
    return dlb_round_up(c->tile[DLB_LINEAR_TILE_COLUMNS], 16) + 16;
}

struct dlb_linear_kernels {
    int lanes;
    /* By rows, 1 to DLB_LINEAR_STREAM_ROWS; index 0 is unused. */
    struct {
        int streams, nv;
        dlb_linear_streams_fn *run;
    } streams[DLB_LINEAR_STREAM_ROWS + 1];
    /* out[c*out_ld + r] = in[r*in_ld + c]; writes exactly these. */
    void (*transpose)(const float *in, int64_t in_ld, int64_t rows, int64_t columns,
                      float *out, int64_t out_ld);
    /* out[r*out_ld + c] = in[r*in_ld + c] */
    void (*copy)(const float *in, int64_t in_ld, int64_t rows, int64_t columns,
                 float *out, int64_t out_ld);
    /* The same with stores past the caches: columns whole vectors, all aligned to one. */
    void (*stream)(const float *in, int64_t in_ld, int64_t rows, int64_t columns,
                   float *out, int64_t out_ld);
    /* out[c] = sum over r of in[r*ld + c], in the order of r */
    void (*sums)(const float *in, int64_t ld, int64_t rows, int64_t columns, float *out);
};

/* The kernels of a usable ISA. */
const struct dlb_linear_kernels *dlb_linear_kernels(enum dlb_isa isa);

#endif
