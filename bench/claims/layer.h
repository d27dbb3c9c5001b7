/*
 * layer.h - the layers that a network (net.h) is made of: each appends its operators to the
 * network's graph, forward and backward.
 *
 *   hidden   in -> linear or convolution -> (batchnorm) -> (+ shortcut) -> activation
 *               -> (dropout) -> out
 *   last     in -> linear -> sum
 *
 * Tensors are nc, of a convolution nhwc.
 *
 * Source of the initialisation: Glorot & Bengio, "Understanding the difficulty of training
 * deep feedforward neural networks", 2010; He, Zhang, Ren & Sun, "Delving deep into
 * rectifiers", 2015.
 */
#ifndef DLB_CLAIMS_LAYER_H
#define DLB_CLAIMS_LAYER_H

#include "claims/graph.h"
#include "claims/net.h"
#include "judge/significance.h"

enum dlb_running { DLB_RUNNING_MEAN, DLB_RUNNING_VARIANCE, DLB_RUNNINGS };

/* Tensors are the graph's.  The caller sets the first part. */
struct dlb_layer {
    int64_t inputs, outputs; /* channels, or units */
    int64_t side, stride;    /* of a convolution: of the images that come in; else 0 */
    bool hidden;
    float *in;
    float *shortcut; /* added before the activation, of as many elements; or NULL */

    float *sum, *normal, *total, *active, *out;
    float *diff_total;                /* NULL before the way back was made */
    int weights, bias, gamma, beta;   /* parameters of the graph */
    float *running[DLB_RUNNINGS];     /* of batchnorm, [outputs]; else NULL */
    float *new_running[DLB_RUNNINGS]; /* after the last batch of training */
};

/* Side of the images that come out; 1 of a fully connected layer. */
int64_t dlb_layer_side(const struct dlb_layer *layer);

/* Appends the layer to the lists train and infer, and its parameters. */
enum dlb_status dlb_layer_forward(struct dlb_graph *graph,
                                  const struct dlb_net_shape *shape,
                                  struct dlb_layer *layer, struct dlb_random *random,
                                  struct dlb_error *error);

/* Appends its way back, from diff_out; the gradient of its parameters comes first where it
 * is not hidden.  diff_in: NULL, or receives the gradient of in, to which beside is added
 * unless it is NULL: what comes back by a shortcut from in. */
enum dlb_status dlb_layer_backward(struct dlb_graph *graph,
                                   const struct dlb_net_shape *shape,
                                   struct dlb_layer *layer, float *diff_out,
                                   float *beside, float **diff_in,
                                   struct dlb_error *error);

#endif
