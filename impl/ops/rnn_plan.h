/*
 * rnn_plan.h - what the files of the forward plans share: rnn_plan.c makes and packs,
 * rnn_run.c computes.
 */
#ifndef DLB_OPS_RNN_PLAN_H
#define DLB_OPS_RNN_PLAN_H

#include "ops/rnn_internal.h"
#include "ops/rnn_multiply.h"

/*
 * One product's weights and bias, of all layers and directions: [l][d][panel][k][nv][lanes]
 * and [l][d][vector][lanes].  A column is a gate of a unit, in the order [block of lanes
 * units][gate][lanes], with zeros for units that are not there.
 */
struct dlb_rnn_matrix {
    struct dlb_rnn_gate_range gates;
    int64_t k, vectors; /* vectors of columns */
    int64_t packed;     /* offset into memory */
    int64_t elements;   /* of one layer and direction */
    int64_t bias;       /* offset into memory; only where biased */
    bool biased;
};

/* A plan.  Nothing of it changes while it runs but the memory behind the offsets. */
struct dlb_rnn {
    struct dlb_plan plan;
    struct dlb_rnn_shape s;
    struct dlb_rnn_gemm gemm;
    const struct dlb_rnn_kernels *kernels;
    dlb_rnn_cell_fn *cell[DLB_RNN_PRODUCTS]; /* behind each product; W x has none */
    int lanes, mr, nv;
    int64_t merge, block_rows;
    struct dlb_rnn_grid grid;
    int64_t blocks, together, group_blocks;
    struct dlb_rnn_matrix matrix[DLB_RNN_PRODUCTS];
    /* Offsets into memory.  Rows of own states are state_ld apart. */
    float *memory;
    int64_t elements, state_ld;
    int64_t state;  /* [d][2][n][state_ld] */
    int64_t reset;  /* [d][n][state_ld], plain gru: r o h */
    int64_t update; /* the same: the update gate, from the first phase to the second */
    int64_t lower;  /* [d][2][t][n][state_ld]: what a layer hands to the next one */
    int64_t joined; /* [t][n][dhc]: sum's second direction */
    int64_t x_elements, z_elements;
    int64_t x, z;                 /* [thread] */
    struct dlb_barrier *barriers; /* [directions][rows] of the grid */
    void *tensor[DLB_RNN_TENSORS];
};

/* What one thread does of each layer. */
struct dlb_rnn_part {
    int64_t directions[2], rows[2], blocks[2], units[2];
    int64_t rows_n, groups; /* groups of blocks; 0 when there is nothing to do */
    struct dlb_team group;  /* threads of the same directions and rows */
    float *x, *z;
};

struct dlb_rnn_part dlb_rnn_part_make(const struct dlb_rnn *p,
                                      const struct dlb_team *team);

/* The first panel that begins with the block or after it. */
int64_t dlb_rnn_first_panel(const struct dlb_rnn *p, const struct dlb_rnn_matrix *m,
                            int64_t block);

/* plan.h's run, of a struct dlb_rnn. */
void dlb_rnn_run(struct dlb_plan *plan, const struct dlb_team *team);

#endif
