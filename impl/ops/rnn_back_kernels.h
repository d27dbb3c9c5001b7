/*
 * rnn_back_kernels.h - the element-wise part of a step back in time of LSTM, GRU and RNN:
 * from the gradient of a state to those of the gates' sums, for some rows of the minibatch
 * and some units; and matrices turned round.
 *
 * Gradients of sums go to panels: each has width units of one gate, row by row.  Of the
 * last panel the units that are there are written, and no others.  The plan's own rows (z,
 * carry) have whole vectors behind every row, of which all may be read and written;
 * canonical tensors are touched at exactly the units given.
 */
#ifndef DLB_OPS_RNN_BACK_KERNELS_H
#define DLB_OPS_RNN_BACK_KERNELS_H

#include "core/isa.h"

enum { DLB_RNN_SLOTS = 4 }; /* kinds of sums, see rnn_back.h */

/* Pointers are to the first unit, which begins a panel, of the first row; _ld is from row
 * to row. */
struct dlb_rnn_back_cell {
    int64_t rows, units;
    /* The gradient of h' is the sum of those that are not NULL. */
    const float *out; /* of the layer's output */
    int64_t out_ld;
    const float *z; /* through the step behind: U^T times its sums; gru_reset: of r o h */
    int64_t z_ld;
    const float *last; /* of the final state */
    int64_t last_ld;
    float *carry; /* lstm: the gradient of c', becomes that of c; gru: what bypasses the
                     step behind, becomes what bypasses this one */
    int64_t carry_ld;
    const float *gates; /* after their activation; gate_step from gate to gate */
    int64_t gates_ld, gate_step;
    const float *state;            /* rnn: h'; gru: h, NULL for zeros */
    const float *cell, *cell_from; /* lstm: c' and c, the latter NULL for zeros; gru with
                                      lbr: cell is U_g h + b_h */
    int64_t state_ld, cell_ld;     /* of cell_from: state_ld */
    float *sum[DLB_RNN_SLOTS];
    int64_t width, panel_step; /* units of a panel; from panel to panel */
};

typedef void dlb_rnn_back_fn(const struct dlb_rnn_back_cell *call);

/* to[j*to_ld + i] = from[i*from_ld + j] (times times[i*times_ld + j] unless NULL), i < rows,
 * j < columns. */
struct dlb_rnn_turn {
    int64_t rows, columns;
    const float *from, *times;
    int64_t from_ld, times_ld;
    float *to;
    int64_t to_ld;
};

typedef void dlb_rnn_turn_fn(const struct dlb_rnn_turn *call);

struct dlb_rnn_back_kernels {
    int lanes;
    dlb_rnn_turn_fn *turn;
    dlb_rnn_back_fn *lstm;
    dlb_rnn_back_fn *gru_linear;
    dlb_rnn_back_fn *gru_state; /* plain, first phase: update and candidate */
    dlb_rnn_back_fn *gru_reset; /* second phase: reset, from z, the gradient of r o h */
    dlb_rnn_back_fn *tanh, *relu;
};

/* The kernels of a usable ISA. */
const struct dlb_rnn_back_kernels *dlb_rnn_back_kernels(enum dlb_isa isa);

#endif
