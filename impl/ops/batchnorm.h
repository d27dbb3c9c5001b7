/*
 * batchnorm.h - batch normalisation over the channels of images, forward and backward.
 *
 *   dst[n,h,w,c] = act( gamma[c] (src[n,h,w,c] - mu[c]) / sqrt(var[c] + 1e-5) + beta[c] )
 *
 * act is max(0,.) with relu, else nothing; gamma is 1 without scale, beta 0 without shift.
 *
 *   fwd        mu and var are given (the running statistics of training)
 *   fwd_train  mu and var (of the M = N H W elements, divided by M) are those of src and
 *              are returned; running' = 0.9 running + 0.1 new, where new is mu, and
 *              var M/(M-1) (var itself for M = 1)
 *   bwd        the derivatives of fwd_train: with x^ = (src - mu) / sigma, sigma =
 *              sqrt(var + 1e-5), and dz = diff_dst where the argument of act is > 0 or
 *              there is no act, else 0,
 *                diff_beta[c] = sum of dz, diff_gamma[c] = sum of dz x^,
 *                diff_src = gamma/sigma (dz - diff_beta/M - x^ diff_gamma/M)
 *              mu and var are those of a forward pass before, outside the timed part, and so
 *              is a mask where an implementation keeps one
 *
 * Descriptor: mb ic ih iw scale shift relu layout, for example mb16ic64ih56relu1; iw is ih
 * when not named, scale and shift 1, relu 0.  layout-any: each implementation may take the
 * memory layout that is best for it; layout-nhwc and layout-blocked (nChw8c, nChw16c: the
 * vector's length) fix it, for both sides.
 *
 * Tensors, canonical: src, dst nhwc; the others x [C]: gamma, beta (without elements where
 * absent); fwd: mean, variance given; fwd_train: running_mean, running_variance given, mean,
 * variance, new_running_mean, new_running_variance returned.  Kept by fwd_train with relu:
 * mask nhwc, 1 where the argument of act is > 0, else 0.  bwd: src, gamma, beta, diff_dst
 * given; diff_src, diff_gamma, diff_beta returned.
 *
 * Source: Ioffe & Szegedy, "Batch normalization", 2015; Chan, Golub & LeVeque, "Updating
 * formulae and a pairwise algorithm for computing sample variances", 1979; PyTorch's
 * BatchNorm2d for the running statistics.
 */
#ifndef DLB_OPS_BATCHNORM_H
#define DLB_OPS_BATCHNORM_H

#include "core/op.h"

enum dlb_batchnorm_dim {
    DLB_BATCHNORM_MB,
    DLB_BATCHNORM_IC,
    DLB_BATCHNORM_IH,
    DLB_BATCHNORM_IW,
    DLB_BATCHNORM_SCALE,
    DLB_BATCHNORM_SHIFT,
    DLB_BATCHNORM_RELU,
    DLB_BATCHNORM_LAYOUT, /* enum dlb_batchnorm_layout */
    DLB_BATCHNORM_DIMS
};

enum dlb_batchnorm_layout {
    DLB_BATCHNORM_ANY,
    DLB_BATCHNORM_NHWC,
    DLB_BATCHNORM_BLOCKED,
    DLB_BATCHNORM_LAYOUTS
};

enum dlb_batchnorm_tensor {
    DLB_BATCHNORM_SRC,
    DLB_BATCHNORM_GAMMA,
    DLB_BATCHNORM_BETA,
    DLB_BATCHNORM_IN_MEAN,     /* fwd: mean; fwd_train: running_mean */
    DLB_BATCHNORM_IN_VARIANCE, /* fwd: variance; fwd_train: running_variance */
    DLB_BATCHNORM_DST,
    DLB_BATCHNORM_MEAN, /* from here on fwd_train only */
    DLB_BATCHNORM_VARIANCE,
    DLB_BATCHNORM_RUNNING_MEAN,
    DLB_BATCHNORM_RUNNING_VARIANCE,
    DLB_BATCHNORM_RELU_MASK, /* kept, with relu */
    DLB_BATCHNORM_TENSORS
};

/* Of bwd; src, gamma and beta stand where they do in the forward passes. */
enum dlb_batchnorm_backward_tensor {
    DLB_BATCHNORM_DIFF_DST = DLB_BATCHNORM_BETA + 1,
    DLB_BATCHNORM_DIFF_SRC,
    DLB_BATCHNORM_DIFF_GAMMA,
    DLB_BATCHNORM_DIFF_BETA,
    DLB_BATCHNORM_BACKWARD_TENSORS
};

extern const struct dlb_op dlb_op_batchnorm;

#define DLB_BATCHNORM_EPSILON  1e-5
#define DLB_BATCHNORM_MOMENTUM 0.1

struct dlb_batchnorm_shape {
    int64_t mb, ic, ih, iw;
    int64_t pixels; /* of one image */
    enum dlb_batchnorm_layout layout;
    bool scale, shift, relu;
    bool train; /* fwd_train and bwd: the statistics are those of src */
    bool backward;
};
void dlb_batchnorm_shape_get(const struct dlb_problem *problem,
                             struct dlb_batchnorm_shape *shape);

#endif
