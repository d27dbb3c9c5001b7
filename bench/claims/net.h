/*
 * net.h - a small network of fully connected layers, on our own kernels, for the
 * experiments on learning.
 *
 *   hidden layer   x -> linear -> (batchnorm) -> activation -> (dropout) -> (+ x) -> x'
 *   at the end     linear -> softmax cross-entropy
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
    int64_t inputs, width, classes, batch;
    int depth; /* hidden layers, from 0 */
    enum dlb_activation_alg activation;
    bool batchnorm, residual; /* residual: around each hidden layer but the first */
    int dropout;              /* per cent of each hidden layer's outputs */
    /* Standard deviation of the first weights over the usual one: sqrt(2 / inputs) before
     * a ReLU (He), else sqrt(2 / (inputs + outputs)) (Glorot). */
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

/* The logits nc [batch, classes] of the last batch, and the outputs nc [batch, width] of a
 * hidden layer. */
const float *dlb_net_logits(const struct dlb_net *net);
const float *dlb_net_hidden(const struct dlb_net *net, int layer);

/* Weights of layer 0 … depth (the last one), and the gradient that the last step had of
 * them, for a rate of 0 as for one. */
int64_t dlb_net_weights(const struct dlb_net *net, int layer, float **weights,
                        const float **gradient);

#endif
