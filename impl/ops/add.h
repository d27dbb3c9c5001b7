/*
 * add.h - the addition of a residual connection, element by element.
 *
 *   dst = act(src0 + src1);  bwd: diff = diff_dst where dst > 0 or there is no act, else 0
 *
 * act is max(0,.) with relu, else nothing.
 *
 * Descriptor: n relu, for example n1048576relu1; relu is 0 when not named.
 *
 * Tensors, [n]: fwd: src0, src1 given, dst returned.  bwd: with relu dst, and diff_dst given;
 * diff_src0 returned.  diff_src1 is the same tensor, so it is written once; without relu
 * both are diff_dst, which is copied, as where the gradient must be a tensor of its own.
 */
#ifndef DLB_OPS_ADD_H
#define DLB_OPS_ADD_H

#include "core/op.h"

enum dlb_add_dim { DLB_ADD_N, DLB_ADD_RELU, DLB_ADD_DIMS };

enum dlb_add_tensor { DLB_ADD_SRC0, DLB_ADD_SRC1, DLB_ADD_DST };

enum dlb_add_backward_tensor {
    DLB_ADD_DIFF_DST,
    DLB_ADD_DIFF_SRC,
    DLB_ADD_BACKWARD_DST, /* with relu only */
    DLB_ADD_TENSORS
};

extern const struct dlb_op dlb_op_add;

#endif
