/*
 * rnn.h - LSTM, GRU and the vanilla RNN: three operators with the same dims and the same
 * route.
 *
 * For each layer l, direction d and step t, with x the layer's input at that step, h and c
 * the states of the step before, s the logistic sigmoid, o the element-wise product:
 *
 *   lstm   i = s(W_i x + U_i h + b_i)         f = s(W_f x + U_f h + b_f)
 *          g = tanh(W_g x + U_g h + b_g)      z = s(W_z x + U_z h + b_z)
 *          c' = f o c + i o g                 h' = z o tanh(c')
 *          gates in this order: input, forget, candidate, output
 *   gru    u = s(W_u x + U_u h + b_u)         r = s(W_r x + U_r h + b_r)
 *          plain:  g = tanh(W_g x + U_g (r o h) + b_g)
 *          linear before reset:  g = tanh(W_g x + r o (U_g h + b_h) + b_g)
 *          h' = u o h + (1 - u) o g
 *          gates in this order: update, reset, candidate; b_h is a fourth row of bias
 *   rnn    h' = a(W x + U h + b), a being tanh or max(0, .); one gate
 *
 * Direction r2l walks from the last step to the first.  With two directions each has its
 * own weights and walks through all layers by itself; the last layer's states are joined,
 * side by side (concat) or added (sum), as oneDNN does it.  (PyTorch joins after every
 * layer.)  dst[t] is the state after the input of step t, in either direction.
 *
 * Descriptor: benchdnn's (l t mb slc sic dhc), plus dir, bias, init and, for gru, lbr, for
 * rnn, act.
 * slc is the width of x, dhc of h; sic, when named, must be equal to dhc (no projection).
 * dlc = dhc, or 2 dhc with dir-concat, when named.  From two layers on slc must be dhc.
 *
 * Tensors, dense, row-major, with D directions and G gates; absent ones have no elements:
 *   src tnc [T,N,slc] · weights_layer ldigo [L,D,slc,G,dhc] · weights_iter ldigo
 *   [L,D,dhc,G,dhc] · bias ldgo [L,D,G (lbr: 4),dhc] · src_iter, src_iter_c ldnc
 *   [L,D,N,dhc], init only, zero without · dst tnc [T,N,dlc] · dst_iter, dst_iter_c ldnc
 *   Kept by fwd_train for the backward pass: gates ldtngo [L,D,T,N,G,dhc] after their
 *   activation (absent for rnn, whose gate is its state), states ldtnc [L,D,T,N,dhc]
 *   (h'), cells ldtnc (lstm: c'; gru with lbr: U_g h + b_h; else absent).  src_iter_c and
 *   dst_iter_c are lstm's alone.
 *
 * Pass bwd, backward through time: from the forward pass's inputs and diff_dst,
 * diff_dst_iter, diff_dst_iter_c to the gradient of every input that is there: diff_src,
 * diff_weights_layer, diff_weights_iter, diff_bias, diff_src_iter, diff_src_iter_c, each
 * laid out as what it is the gradient of.  Gradients are written, not added to what is
 * there.  Max(0, .) has the slope 0 at 0.  With da the gradient of a gate's sum:
 *   diff_x = sum of W^T da, diff_h = sum of U^T da + what bypasses the gates,
 *   diff_W = sum over t, n of da x, diff_U = da h, diff_b = da; with lbr, r o da of the
 *   candidate takes the place of da behind U_g and b_h
 *
 * Fills: rnn with relu is filled so that all sums of its forward pass are exact in float,
 * whatever their order (up to some ten layers): else the sign of a sum could hang by a
 * rounding, and with it a whole gradient.  They lean to the positive: few zeros.
 *
 * Source: Hochreiter & Schmidhuber, "Long short-term memory", 1997; Cho et al., "Learning
 * phrase representations using RNN encoder-decoder", 2014 (reset before the product);
 * oneDNN's documentation of the RNN primitive for layouts and orders.
 */
#ifndef DLB_OPS_RNN_H
#define DLB_OPS_RNN_H

#include "core/op.h"

enum dlb_rnn_dim {
    DLB_RNN_L,
    DLB_RNN_T,
    DLB_RNN_MB,
    DLB_RNN_SLC,
    DLB_RNN_SIC,
    DLB_RNN_DHC,
    DLB_RNN_DLC,
    DLB_RNN_DIR, /* enum dlb_rnn_direction */
    DLB_RNN_BIAS,
    DLB_RNN_INIT,
    DLB_LSTM_DIMS,
    DLB_GRU_LBR = DLB_LSTM_DIMS,
    DLB_GRU_DIMS,
    DLB_VANILLA_ACT = DLB_LSTM_DIMS, /* enum dlb_rnn_activation */
    DLB_VANILLA_DIMS
};

/* Values of dir, by the names l2r, r2l, concat and sum. */
enum dlb_rnn_direction {
    DLB_RNN_L2R,
    DLB_RNN_R2L,
    DLB_RNN_CONCAT,
    DLB_RNN_SUM,
    DLB_RNN_DIRECTIONS
};

/* Values of act, by the names tanh and relu. */
enum dlb_rnn_activation { DLB_RNN_TANH, DLB_RNN_RELU, DLB_RNN_ACTIVATIONS };

/* Positions in tensor arrays, the same for all operators and problems. */
enum dlb_rnn_tensor {
    DLB_RNN_SRC,
    DLB_RNN_WEIGHTS_LAYER,
    DLB_RNN_WEIGHTS_ITER,
    DLB_RNN_BIASES,
    DLB_RNN_SRC_ITER,
    DLB_RNN_SRC_ITER_C,
    DLB_RNN_DST,
    DLB_RNN_DST_ITER,
    DLB_RNN_DST_ITER_C,
    DLB_RNN_GATES,
    DLB_RNN_STATES,
    DLB_RNN_CELLS,
    DLB_RNN_TENSORS,
    /* Pass bwd: in place of the outputs their gradients, then those of the inputs, in the
     * same order: DLB_RNN_DIFF_INPUTS + an input's position. */
    DLB_RNN_DIFF_DST = DLB_RNN_DST,
    DLB_RNN_DIFF_DST_ITER,
    DLB_RNN_DIFF_DST_ITER_C,
    DLB_RNN_DIFF_INPUTS,
    DLB_RNN_DIFF_SRC = DLB_RNN_DIFF_INPUTS,
    DLB_RNN_DIFF_WEIGHTS_LAYER,
    DLB_RNN_DIFF_WEIGHTS_ITER,
    DLB_RNN_DIFF_BIASES,
    DLB_RNN_DIFF_SRC_ITER,
    DLB_RNN_DIFF_SRC_ITER_C,
    DLB_RNN_BWD_TENSORS
};

extern const struct dlb_op dlb_op_lstm, dlb_op_gru, dlb_op_rnn;

/* The dims by name; derived values are worked out once. */
struct dlb_rnn_shape {
    bool lstm, lbr;
    bool plain; /* gru whose reset comes before the product */
    bool relu;  /* rnn, with max(0, .) */
    int64_t l, t, mb, slc, dhc, dlc;
    int64_t directions; /* D */
    int64_t gates;      /* G: 4, 3 or 1 */
    int64_t bias_rows;  /* G, or 4 for gru with lbr; 0 without bias */
    enum dlb_rnn_direction direction;
    bool bias, init;
    bool train, back; /* passes fwd_train and bwd */
};
void dlb_lstm_shape_get(const struct dlb_problem *problem, struct dlb_rnn_shape *shape);
void dlb_gru_shape_get(const struct dlb_problem *problem, struct dlb_rnn_shape *shape);
void dlb_rnn_shape_get(const struct dlb_problem *problem, struct dlb_rnn_shape *shape);

#endif
