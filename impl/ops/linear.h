/*
 * linear.h - a fully connected layer (inner product, dense).
 *
 *   fwd          dst[m,n] = act( sum over k of src[m,k] * weights[n,k] + bias[n] ),
 *                m < MB, n < OC, k < IC; act is max(0,.) with relu, else nothing
 *   bwd_data     diff_src[m,k] = sum over n of diff_dst[m,n] * weights[n,k]
 *   bwd_weights  diff_weights[n,k] = sum over m of diff_dst[m,n] * src[m,k],
 *                diff_bias[n] = sum over m of diff_dst[m,n]
 *
 * relu belongs to the forward pass alone: diff_dst is the gradient of its argument.
 *
 * Descriptor: benchdnn's inner product without spatial dims (mb ic oc), plus bias and relu
 * (0 or 1, both 0 when not named): mb512ic768oc3072bias1.
 *
 * Tensors, dense, row-major; src, dst and their gradients nc, weights oi, bias x.  Without
 * bias there is no tensor of it.
 */
#ifndef DLB_OPS_LINEAR_H
#define DLB_OPS_LINEAR_H

#include "core/op.h"

enum dlb_linear_dim {
    DLB_LINEAR_MB,
    DLB_LINEAR_IC,
    DLB_LINEAR_OC,
    DLB_LINEAR_BIAS,
    DLB_LINEAR_RELU,
    DLB_LINEAR_DIMS
};

/*
 * Positions in tensor arrays.  Each pass is a product of two matrices A B = C, with a
 * vector: fwd src, weights, dst, bias; bwd_data diff_dst, weights, diff_src; bwd_weights
 * diff_dst, src, diff_weights, diff_bias.
 */
enum dlb_linear_tensor { DLB_LINEAR_A, DLB_LINEAR_B, DLB_LINEAR_C, DLB_LINEAR_VECTOR };

extern const struct dlb_op dlb_op_linear;

struct dlb_linear_shape {
    int64_t mb, ic, oc;
    bool bias, relu;
};
void dlb_linear_shape_get(const struct dlb_problem *problem,
                          struct dlb_linear_shape *shape);

#endif
