/*
 * activation.h - activation functions, element by element.
 *
 *   dst = f(src);  bwd: diff_src = f'(src) diff_dst
 *
 *   alg-relu     max(0, x)
 *   alg-leaky    x where x > 0, else x / 100
 *   alg-sigmoid  1 / (1 + e^-x)
 *   alg-tanh     tanh x
 *
 * The derivative at a kink is that from the left: 0, and 1 / 100; NaN is not > 0.
 *
 * Descriptor: n alg, for example n1048576alg-tanh; alg is relu when not named.
 *
 * Tensors, [n]: fwd: src given, dst returned.  bwd: src of relu and leaky, but dst of
 * sigmoid and tanh, whose derivatives are y (1 - y) and 1 - y^2 of their result y: so
 * frameworks keep no src, and compute no exponential backward; diff_dst given, diff_src
 * returned.
 */
#ifndef DLB_OPS_ACTIVATION_H
#define DLB_OPS_ACTIVATION_H

#include "core/op.h"

enum dlb_activation_dim { DLB_ACTIVATION_N, DLB_ACTIVATION_ALG, DLB_ACTIVATION_DIMS };

enum dlb_activation_alg {
    DLB_ACTIVATION_RELU,
    DLB_ACTIVATION_LEAKY,
    DLB_ACTIVATION_SIGMOID,
    DLB_ACTIVATION_TANH,
    DLB_ACTIVATION_ALGS
};

enum dlb_activation_tensor {
    DLB_ACTIVATION_IN, /* src; bwd of sigmoid and tanh: dst */
    DLB_ACTIVATION_DST,
    DLB_ACTIVATION_DIFF_DST = DLB_ACTIVATION_DST,
    DLB_ACTIVATION_DIFF_SRC
};

#define DLB_ACTIVATION_SLOPE 0.01f /* of leaky, where x < 0 */

extern const struct dlb_op dlb_op_activation;

#endif
