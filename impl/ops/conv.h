/*
 * conv.h - 2-D convolution (cross-correlation, as deep learning uses the word).
 *
 *   dst[n,oh,ow,g*OCG+o] = act( bias[g*OCG+o] + sum over i,kh,kw of
 *       src[n, oh*SH - PH + kh*(DH+1), ow*SW - PW + kw*(DW+1), g*ICG+i] *
 * weights[g,o,i,kh,kw] )
 *
 * with src read as zero outside the input, OCG = OC/G, ICG = IC/G, act = max(0,.) when
 * RELU. Dilation counts as in oneDNN: 0 is a dense kernel.  Bottom and right padding
 * follow from OH and OW; they may differ from PH and PW, and may be negative, down to
 * 1 - stride: input left unused.
 *
 * Backward passes, of the same formula: diff_src and diff_weights, diff_bias are the
 * derivatives of sum diff_dst . dst by src and by weights, bias.
 *
 *   bwd_data     diff_src[n,ih,iw,i]    = sum over o, kh, kw of diff_dst . weights
 *   bwd_weights  diff_weights[o,i,kh,kw] = sum over n, oh, ow of diff_dst . src
 *                diff_bias[o]           = sum over n, oh, ow of diff_dst
 *
 * RELU is none of their business: diff_dst is the gradient before it, as oneDNN takes it
 * too.  A training step runs the activation's own backward pass in between, once for
 * both.
 *
 * Descriptor: benchdnn's (g mb ic ih iw oc oh ow kh kw sh sw ph pw dh dw), plus bias and
 * relu (0 or 1, both 0 when not named).  A width axis of which no key is named copies the
 * height axis; else its own defaults hold: sw1, dw0, pw from ow or 0.
 *
 * Tensors: src nhwc, weights goihw, bias x, dst nhwc, and so their diffs.  A problem
 * without bias has no bias tensor, and bwd_data has none at all.
 */
#ifndef DLB_OPS_CONV_H
#define DLB_OPS_CONV_H

#include "core/op.h"

enum dlb_conv_dim {
    DLB_CONV_G,
    DLB_CONV_MB,
    DLB_CONV_IC,
    DLB_CONV_IH,
    DLB_CONV_IW,
    DLB_CONV_OC,
    DLB_CONV_OH,
    DLB_CONV_OW,
    DLB_CONV_KH,
    DLB_CONV_KW,
    DLB_CONV_SH,
    DLB_CONV_SW,
    DLB_CONV_PH,
    DLB_CONV_PW,
    DLB_CONV_DH,
    DLB_CONV_DW,
    DLB_CONV_BIAS,
    DLB_CONV_RELU,
    DLB_CONV_DIMS
};

/* Positions in tensor arrays, of an operand or of its diff (bwd_data: diff_src is written
 * and diff_dst read; bwd_weights: diff_weights and diff_bias are written and diff_dst
 * read); DLB_CONV_BIASES exists only with bias. */
enum dlb_conv_tensor { DLB_CONV_SRC, DLB_CONV_WEIGHTS, DLB_CONV_DST, DLB_CONV_BIASES };

extern const struct dlb_op dlb_op_conv;

#endif
