/*
 * net.h - a small network, fully connected or convolutional, on our own kernels, for the
 * experiments on learning.
 *
 *   hidden layer   x -> linear -> (batchnorm) -> activation -> (dropout) -> x'
 *   at the end     linear -> softmax cross-entropy
 *
 * With side the input is an image of one channel, hidden layers are convolutions, 3x3 with a
 * padding of 1, the first one with a stride of 2, batchnorm is over channels, and the mean
 * of each channel over the image is what the last layer gets.
 *
 * Residual networks have a shortcut around each two hidden layers after the first (1 and 2,
 * 3 and 4, ...; one that is left over is plain), which is added before the activation of the
 * second: He, Zhang, Ren & Sun, "Deep residual learning for image recognition", 2015.
 * With batchnorm 110 layers learn so at rates of 0.003 and 0.01 without gammas of 0 or a
 * warm-up; at 0.03 not with every seed.
 *
 * It is a list of operators with their tensors, forward and backward, and a list of
 * parameters.  Everything runs on the calling thread alone, so that what is learnt depends
 * on the seed and not on how many threads there are, and several may learn side by side.
 * The optimiser is SGD with momentum; a learning rate is a factor on the gradient of the
 * loss, since the operator's own rate is a constant.
 */
#ifndef DLB_CLAIMS_NET_H
#define DLB_CLAIMS_NET_H

#include "core/op.h"
#include "ops/activation.h"

struct dlb_net_shape {
    int64_t inputs, classes, batch;
    int64_t side;  /* 0: fully connected; else of the image, inputs = side * side */
    int64_t width; /* units, or channels, of a hidden layer */
    int depth;     /* hidden layers, from 0 */
    enum dlb_activation_alg activation;
    bool batchnorm, residual;
    int dropout; /* per cent of each hidden layer's outputs */
    /* Standard deviation of the first weights over the usual one: sqrt(2 / inputs) before
     * a ReLU (He), else sqrt(2 / (inputs + outputs)) (Glorot); of a convolution channels
     * times 9 are meant. */
    double init_scale;
    uint64_t seed;
};

struct dlb_net;

/* target: of one thread.  DLB_NOMEM. */
enum dlb_status dlb_net_make(const struct dlb_net_shape *shape,
                             const struct dlb_target *target, struct dlb_net **net,
                             struct dlb_error *error);
void dlb_net_release(struct dlb_net *net); /* safe on NULL */

/* Takes over all parameters and running statistics of another network of the same shape, but
 * for those of the last layer. */
void dlb_net_copy(struct dlb_net *net, const struct dlb_net *from);

/* From now on only the last layer learns, and nothing goes back beyond it. */
void dlb_net_freeze(struct dlb_net *net);

/* One batch: forward and backward as in training, then a step of the optimiser unless rate
 * is 0.  src nc [batch, inputs], labels [batch] whole numbers.  *loss is that before the
 * step. */
enum dlb_status dlb_net_step(struct dlb_net *net, const float *src, const float *labels,
                             double rate, double *loss, struct dlb_error *error);

/* n rows, a multiple of batch, as in inference: mean loss and the share that is right.
 * logits nc [n, classes] may be NULL. */
enum dlb_status dlb_net_infer(struct dlb_net *net, const float *src, const float *labels,
                              int64_t n, double *loss, double *accuracy, float *logits,
                              struct dlb_error *error);

/* The logits nc [batch, classes] of the last batch, and the outputs of a hidden layer: nc
 * [batch, width], or nhwc. */
const float *dlb_net_logits(const struct dlb_net *net);
const float *dlb_net_hidden(const struct dlb_net *net, int layer);

/* Weights (oi, or oihw) of layer 0 … depth (the last one), and the gradient that the last step had of
 * them, for a rate of 0 as for one. */
int64_t dlb_net_weights(const struct dlb_net *net, int layer, float **weights,
                        const float **gradient);

/* The same of any parameter: weights, bias, with batchnorm gamma and beta, layer by layer.
 * 0 beyond the last one. */
int64_t dlb_net_parameter(const struct dlb_net *net, int number, float **value,
                          const float **gradient);

#endif
