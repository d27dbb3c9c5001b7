/*
 * rnn_row.h - the plain definition of LSTM, GRU and RNN (formulas in ops/rnn.h) for one row
 * of the minibatch: through the layers of one direction and back, step by step, everything
 * in double.
 */
#ifndef DLB_REFERENCE_RNN_ROW_H
#define DLB_REFERENCE_RNN_ROW_H

#include "ops/rnn.h"

/* Indexed by the position in the sequence (t), as dst is, in either direction. */
struct dlb_rnn_row {
    struct dlb_rnn_shape s;
    void *const *tensor;
    int64_t n;         /* the row */
    int64_t direction; /* 0 or 1 */
    double *memory;
    /* Of all layers; h and c have the states before the first step in front. */
    double *gate;     /* [L][T][G][dhc]: after their activation */
    double *h;        /* [L][1 + T][dhc] */
    double *c;        /* [L][1 + T][dhc]: lstm's cells; U_g h + b_h of gru with lbr */
    double *src;      /* [T][slc] */
    double *reset;    /* [dhc]: r o h */
    double *diff;     /* [T][max(slc, dhc)]: the gradient of what a layer makes, then of
                         what it reads */
    double *diff_h;   /* [L][dhc]: of the states before the first step */
    double *diff_c;   /* the same, of lstm's cells */
    double *da, *du;  /* [G][dhc]: of the gates' sums, as W and as U see them */
    double *previous; /* [dhc]: diff_h on its way to the step before */
};

/* Gradients of what all rows share, added up; in the layouts of the tensors. */
struct dlb_rnn_sums {
    double *weights_layer, *weights_iter, *bias;
};

/* False when there is no memory. */
bool dlb_rnn_row_make(struct dlb_rnn_row *row, const struct dlb_rnn_shape *shape,
                      void *const *tensor);
void dlb_rnn_row_release(struct dlb_rnn_row *row);

/* Row n of a direction: fills src, gate, h and c. */
void dlb_rnn_row_forward(struct dlb_rnn_row *row, int64_t n, int64_t direction);

/* After forward: leaves diff (of src), diff_h and diff_c, and adds to sums, unless NULL. */
void dlb_rnn_row_backward(struct dlb_rnn_row *row, const struct dlb_rnn_sums *sums);

/* The state h after step t of layer l, and before the first one. */
static inline double *dlb_rnn_row_h(const struct dlb_rnn_row *row, int64_t l, int64_t t)
{
    return row->h + (l * (row->s.t + 1) + 1 + t) * row->s.dhc;
}
static inline double *dlb_rnn_row_c(const struct dlb_rnn_row *row, int64_t l, int64_t t)
{
    return row->c + (l * (row->s.t + 1) + 1 + t) * row->s.dhc;
}
enum { DLB_RNN_BEFORE = -1 }; /* as t */

static inline double *dlb_rnn_row_gate(const struct dlb_rnn_row *row, int64_t l,
                                       int64_t t)
{
    return row->gate + (l * row->s.t + t) * row->s.gates * row->s.dhc;
}
/* The t of a step, by its number on the way. */
static inline int64_t dlb_rnn_row_time(const struct dlb_rnn_row *row, int64_t step)
{
    bool backwards = row->s.direction == DLB_RNN_R2L || row->direction == 1;
    return step < 0 ? DLB_RNN_BEFORE : backwards ? row->s.t - 1 - step : step;
}

#endif
