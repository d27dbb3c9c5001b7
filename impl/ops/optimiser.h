/*
 * optimiser.h - one step of an optimiser over n parameters: two operators, sgd and adam.
 *
 *   sgd   g = grad + DECAY param (with decay, else grad)
 *         v' = MOMENTUM v + g (with momentum, else g)
 *         param' = param - RATE v'
 *   adam  m' = BETA1 m + (1 - BETA1) grad
 *         v' = BETA2 v + (1 - BETA2) grad^2
 *         param' = param - RATE ( (m' / (1 - BETA1^t)) / (sqrt(v' / (1 - BETA2^t)) + EPSILON)
 *                                 + DECAY param (with decay) )
 *
 * The new values stand in tensors of their own, so that a step can be repeated; elements
 * are independent of each other.  Hyper-parameters are constants: their values change no
 * time.
 *
 * Descriptor: n, and for sgd momentum (1 when not named) and decay (0), for adam t, the
 * number of this step counted from 1 (1), and decay (0): n1000000t100decay1.
 *
 * Tensors, all x [n]; absent ones have no elements: sgd param, grad, velocity (with
 * momentum), new_param, new_velocity (likewise); adam param, grad, mean, square, new_param,
 * new_mean, new_square.
 *
 * Source: Polyak, "Some methods of speeding up the convergence of iteration methods", 1964
 * (as PyTorch's SGD has it); Kingma & Ba, "Adam", 2015; Loshchilov & Hutter, "Decoupled
 * weight decay regularization", 2019 (adam's decay).
 */
#ifndef DLB_OPS_OPTIMISER_H
#define DLB_OPS_OPTIMISER_H

#include "core/op.h"

#define DLB_SGD_RATE     0.1
#define DLB_SGD_MOMENTUM 0.9
#define DLB_SGD_DECAY    1e-4
#define DLB_ADAM_RATE    1e-3
#define DLB_ADAM_BETA1   0.9
#define DLB_ADAM_BETA2   0.999
#define DLB_ADAM_EPSILON 1e-8
#define DLB_ADAM_DECAY   1e-2

enum dlb_sgd_dim { DLB_SGD_N, DLB_SGD_USES_MOMENTUM, DLB_SGD_USES_DECAY, DLB_SGD_DIMS };
enum dlb_adam_dim { DLB_ADAM_N, DLB_ADAM_T, DLB_ADAM_USES_DECAY, DLB_ADAM_DIMS };

enum dlb_sgd_tensor {
    DLB_SGD_PARAM,
    DLB_SGD_GRAD,
    DLB_SGD_VELOCITY,
    DLB_SGD_NEW_PARAM,
    DLB_SGD_NEW_VELOCITY,
    DLB_SGD_TENSORS
};
enum dlb_adam_tensor {
    DLB_ADAM_PARAM,
    DLB_ADAM_GRAD,
    DLB_ADAM_MEAN,
    DLB_ADAM_SQUARE,
    DLB_ADAM_NEW_PARAM,
    DLB_ADAM_NEW_MEAN,
    DLB_ADAM_NEW_SQUARE,
    DLB_ADAM_TENSORS
};

extern const struct dlb_op dlb_op_sgd, dlb_op_adam;

#endif
