/*
 * rnn_back.h - what the files of the recurrent operators' backward plans share:
 * rnn_back_plan.c makes, packs and runs the forward pass in bind, rnn_back_run.c computes.
 *
 * Sums: the gradients of what stands behind the gates, for a chunk of steps,
 * [slot][panel][row][width]: row t*n + i of the chunk, width = nv vectors of units.  A
 * slot is a gate as W sees it; linear before reset has another one, the candidate as U
 * sees it.  So a panel is at once a packed factor, of the rows, for the gradients of
 * weights, and pieces of rows for the products with U^T and W^T.  Units that are not there
 * are zeros.  Two chunks take turns, since the first step of the next one needs the last
 * one of the chunk before.
 */
#ifndef DLB_OPS_RNN_BACK_H
#define DLB_OPS_RNN_BACK_H

#include "ops/rnn_back_kernels.h"
#include "ops/rnn_multiply.h"

/* One product's weights, turned round, of all layers and directions, packed as
 * rnn_multiply.h wants: k counts [gate][unit], units filled up to whole panels. */
struct dlb_rnn_back_matrix {
    struct dlb_rnn_gate_range gates; /* none where there is no such product */
    int64_t k, columns;
    int64_t packed;    /* offset into memory */
    int64_t elements;  /* of one layer and direction */
    int64_t *a_offset; /* where the pieces of a row of sums are */
};

/* A plan.  Nothing of it changes while it runs but the memory behind the offsets. */
struct dlb_rnn_back {
    struct dlb_plan plan;
    struct dlb_rnn_shape s;
    struct dlb_target target;
    struct dlb_rnn_gemm gemm, input_gemm; /* of U^T and, in its own blocks, of W^T */
    const struct dlb_rnn_back_kernels *kernels;
    int lanes, nv, mr;
    int64_t width;
    int64_t merge; /* steps of a chunk */
    struct dlb_rnn_grid grid;
    int64_t slots, panels; /* of sums; panels of one slot */
    int64_t group_panels;  /* panels whose product stays near until it is used */
    int64_t block_rows;    /* of sums, in one pass over W^T */
    int64_t block_inputs; /* rows of a turned matrix whose share of a chunk stays in L2 */
    struct dlb_rnn_back_matrix matrix[DLB_RNN_PRODUCTS];
    /* Offsets into memory. */
    float *memory;
    int64_t elements;
    int64_t gates, states, cells; /* what the forward pass keeps, as ops/rnn.h has it */
    int64_t sums, sums_elements, panel_step;
    int64_t carry, state_ld;      /* [n][state_ld] */
    int64_t between;              /* [t][n][dhc]: the gradient of what a layer hands on */
    int64_t turned, turned_ld;    /* [slc + dhc (plain gru: 2 dhc)][turned_ld] */
    int64_t ones;                 /* as many as a chunk has rows */
    int64_t z, z_elements, z_ld;  /* [thread] */
    int64_t row;                  /* [thread][k]: a single row in one piece */
    int64_t *offsets;             /* behind matrix[].a_offset */
    struct dlb_barrier *barriers; /* [rows] of the grid */
    void *tensor[DLB_RNN_BWD_TENSORS];
    struct dlb_plan *forward; /* only while binding, with what it writes to no end */
    float *unused;
    enum dlb_status status;
};

/* What one thread does of each step. */
struct dlb_rnn_back_part {
    const struct dlb_team *team;
    int64_t rows[2], panels[2];
    int64_t rows_n, groups; /* groups of panels; 0 when there is nothing to do */
    struct dlb_team group;  /* threads of the same rows */
    float *z, *row;
};
struct dlb_rnn_back_part dlb_rnn_back_part_make(const struct dlb_rnn_back *p,
                                                const struct dlb_team *team);

/* The slot of a gate in the product with W^T or those with U^T. */
static inline int64_t dlb_rnn_back_slot(const struct dlb_rnn_shape *s,
                                        enum dlb_rnn_product_kind product, int64_t gate)
{
    bool linear = s->lbr && gate == s->gates - 1 && product != DLB_RNN_PRODUCT_INPUT;
    return linear ? s->gates : gate;
}

/* plan.h's run, of a struct dlb_rnn_back. */
void dlb_rnn_back_run(struct dlb_plan *plan, const struct dlb_team *team);

enum dlb_status dlb_rnn_back_plan(const struct dlb_rnn_shape *shape,
                                  const struct dlb_target *target,
                                  const struct dlb_candidate *candidate,
                                  struct dlb_plan **plan, struct dlb_error *error);

#endif
