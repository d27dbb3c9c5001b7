/*
 * rnn_kernels.h - the element-wise ends of a step of LSTM, GRU and RNN: from the products W x
 * + b and U h to gates, cell and state, for some rows of the minibatch and some units.
 *
 * The products come in vectors of lanes units: row by row, block of lanes units by block,
 * in each block one vector for each gate of the product, in the gates' order of ops/rnn.h.
 * Products and states of the plan's own (x, u, state, next, reset, update) have whole
 * vectors behind every row, of which all may be written; canonical tensors (out, cell,
 * gates) are touched at exactly the units given.
 */
#ifndef DLB_OPS_RNN_KERNELS_H
#define DLB_OPS_RNN_KERNELS_H

#include "core/isa.h"

enum { DLB_RNN_OUTS = 2 };

/* Pointers are to the first unit of the first row; _ld is from row to row. */
struct dlb_rnn_cell {
    int64_t rows, units;
    const float *x, *u; /* products */
    int64_t x_ld, u_ld;
    const float *state; /* h; gru only */
    float *next;        /* h' */
    int64_t state_ld;   /* of state, next, reset and update */
    float *reset;       /* plain gru: r o h */
    float *update;      /* plain gru: update gate, from the first phase to the second */
    float *out[DLB_RNN_OUTS]; /* h' once more, in its tensors; NULL: not wanted */
    int64_t out_ld[DLB_RNN_OUTS];
    const float *cell_from; /* lstm: c */
    float *cell;            /* lstm: c', may be cell_from; gru: what U_g h + b_h is, or
                               NULL */
    int64_t cell_ld;
    float *gates; /* after their activation, or NULL; gate_step from gate to gate */
    int64_t gates_ld, gate_step;
};

typedef void dlb_rnn_cell_fn(const struct dlb_rnn_cell *call);

/*
 * One row times several panels side by side, for a minibatch of one: so many streams of
 * weights at once get more out of caches and memory than one.
 *   c[j] = bias[j] + sum over k of a[k] * b[panel j / width][k][j % width],
 * width = DLB_RNN_STREAM_NV vectors, j < DLB_RNN_STREAMS * width; panels b_panel apart.
 * Each element is the chain of fused multiply-adds that it is in core/brgemm.h.
 */
enum { DLB_RNN_STREAMS = 4, DLB_RNN_STREAM_NV = 2 };

struct dlb_rnn_row {
    const float *a, *b, *bias; /* bias: NULL for zero */
    int64_t k, b_panel;
    float *c;
};

typedef void dlb_rnn_row_fn(const struct dlb_rnn_row *call);

struct dlb_rnn_kernels {
    int lanes;
    dlb_rnn_row_fn *row;
    dlb_rnn_cell_fn *lstm;
    dlb_rnn_cell_fn *gru_linear;  /* linear before reset */
    dlb_rnn_cell_fn *gru_reset;   /* plain, first phase: update and reset from products
                                    of two gates in u; x has all three */
    dlb_rnn_cell_fn *tanh, *relu; /* rnn */
    dlb_rnn_cell_fn *gru_state;   /* plain, second phase: u has the candidate alone */
};

/* The kernels of a usable ISA. */
const struct dlb_rnn_kernels *dlb_rnn_kernels(enum dlb_isa isa);

#endif
