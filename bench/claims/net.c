#include "claims/net.h"

#include "claims/layer.h"
#include "ops/dropout.h"
#include "ops/optimiser.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LAST_PARAMETERS = 2, LAST_LINKS = 2 };

struct dlb_net {
    struct dlb_net_shape shape;
    struct dlb_graph graph;  /* parameters: weights, bias of a layer, gamma, beta */
    struct dlb_layer *layer; /* owned: depth + 1 */
    float *src, *labels, *loss, *diff_loss, *logits;
    uint64_t masks; /* made so far */
    bool frozen;
};

/* The mean of each channel over the image, between the last convolution and the linear
 * layer. */
static enum dlb_status add_pooling(struct dlb_net *net, struct dlb_links *back, float *in,
                                   float **out, struct dlb_error *error)
{
    const struct dlb_net_shape *s = &net->shape;
    const int64_t side = dlb_layer_side(&net->layer[s->depth - 1]);
    char shape[DLB_GRAPH_SHAPE_MAX];
    snprintf(shape, sizeof shape, "mb%lldic%lldih%lldoh1kh%lldalg-avg",
             (long long)s->batch, (long long)s->width, (long long)side, (long long)side);
    *out = dlb_graph_take(&net->graph, s->batch * s->width * (back ? side * side : 1));
    const struct dlb_named named[] = {
        {back ? "diff_dst" : "src", in}, {back ? "diff_src" : "dst", *out}, {NULL, NULL}};
    return back
               ? dlb_graph_add(&net->graph, back, "pooling", DLB_BWD, shape, named, error)
               : dlb_graph_add_both(&net->graph, "pooling", shape, named, error);
}

static enum dlb_status add_loss(struct dlb_net *net, float **gradient,
                                struct dlb_error *error)
{
    const struct dlb_net_shape *s = &net->shape;
    char shape[DLB_GRAPH_SHAPE_MAX];
    *gradient = dlb_graph_take(&net->graph, s->batch * s->classes);
    snprintf(shape, sizeof shape, "mb%lldic%lld", (long long)s->batch,
             (long long)s->classes);
    const struct dlb_named named[] = {
        {"logits", net->logits},       {"labels", net->labels},    {"loss", net->loss},
        {"diff_loss", net->diff_loss}, {"diff_logits", *gradient}, {NULL, NULL}};
    enum dlb_status status =
        dlb_graph_add_both(&net->graph, "softmax_xent", shape, named, error);
    return status ? status
                  : dlb_graph_add(&net->graph, &net->graph.backward, "softmax_xent",
                                  DLB_BWD, shape, named, error);
}

/* A block is the layers 1 and 2, 3 and 4, and so on. */
static bool ends_block(const struct dlb_net_shape *s, int layer)
{
    return s->residual && layer > 0 && layer < s->depth && layer % 2 == 0;
}

static enum dlb_status add_layers(struct dlb_net *net, struct dlb_error *error)
{
    const struct dlb_net_shape *s = &net->shape;
    struct dlb_random random = {.seed = dlb_hash(s->seed, 1)};
    enum dlb_status status = DLB_OK;
    float *x = net->src;
    int64_t channels = s->side ? 1 : s->inputs, side = s->side;
    for (int l = 0; l <= s->depth && !status; l++) {
        struct dlb_layer *layer = &net->layer[l];
        const bool hidden = l < s->depth;
        if (!hidden && s->side)
            status = add_pooling(net, NULL, x, &x, error);
        *layer = (struct dlb_layer){.inputs = channels,
                                    .outputs = hidden ? s->width : s->classes,
                                    .side = hidden ? side : 0,
                                    .stride = l ? 1 : 2,
                                    .hidden = hidden,
                                    .in = x,
                                    .shortcut = ends_block(s, l) ? layer[-1].in : NULL};
        if (!status)
            status = dlb_layer_forward(&net->graph, s, layer, &random, error);
        x = layer->out;
        channels = layer->outputs;
        side = s->side ? dlb_layer_side(layer) : 0;
    }
    net->logits = x;
    return status;
}

static enum dlb_status build(struct dlb_net *net, struct dlb_error *error)
{
    const struct dlb_net_shape *s = &net->shape;
    float *gradient = NULL;
    net->src = dlb_graph_take(&net->graph, s->batch * s->inputs);
    net->labels = dlb_graph_take(&net->graph, s->batch);
    net->loss = dlb_graph_take(&net->graph, 1);
    net->diff_loss = dlb_graph_take(&net->graph, 1);
    enum dlb_status status = add_layers(net, error);
    if (!status)
        status = add_loss(net, &gradient, error);
    for (int l = s->depth; l >= 0 && !status; l--) {
        float *beside = ends_block(s, l + 1) ? net->layer[l + 1].diff_total : NULL;
        status = dlb_layer_backward(&net->graph, s, &net->layer[l], gradient, beside,
                                    l ? &gradient : NULL, error);
        if (!status && l == s->depth && s->side)
            status = add_pooling(net, &net->graph.backward, gradient, &gradient, error);
    }
    return status;
}

enum dlb_status dlb_net_make(const struct dlb_net_shape *shape,
                             const struct dlb_target *target, struct dlb_net **out,
                             struct dlb_error *error)
{
    struct dlb_net *net = calloc(1, sizeof *net);
    *out = net;
    if (net) {
        net->shape = *shape;
        net->graph.target = *target;
        net->layer = calloc((size_t)shape->depth + 1, sizeof *net->layer);
    }
    enum dlb_status status =
        net && net->layer
            ? build(net, error)
            : dlb_fail(error, DLB_NOMEM, "No memory is left for a network.");
    if (status) {
        dlb_net_release(net);
        *out = NULL;
    }
    return status;
}

void dlb_net_release(struct dlb_net *net)
{
    if (!net)
        return;
    dlb_graph_release(&net->graph);
    free(net->layer);
    free(net);
}

/* Each step has masks of its own: layer by layer, the same on the way back. */
static enum dlb_status new_masks(struct dlb_net *net, struct dlb_links *links,
                                 bool reversed, struct dlb_error *error)
{
    int layer = reversed ? net->shape.depth - 1 : 0;
    enum dlb_status status = DLB_OK;
    for (int i = 0; i < links->n && !status; i++) {
        struct dlb_link *link = &links->link[i];
        if (link->op != &dlb_op_dropout || link->problem.pass == DLB_FWD)
            continue;
        uint64_t mask = dlb_hash(dlb_hash(net->shape.seed, net->masks), (uint64_t)layer);
        link->problem.dim[DLB_DROPOUT_SEED] = (int64_t)(mask >> 40);
        layer += reversed ? -1 : 1;
        status = dlb_graph_plan(&net->graph, link, error);
    }
    return status;
}

static void give(struct dlb_net *net, const float *src, const float *labels)
{
    const struct dlb_net_shape *s = &net->shape;
    memcpy(net->src, src, (size_t)(s->batch * s->inputs) * sizeof *src);
    memcpy(net->labels, labels, (size_t)s->batch * sizeof *labels);
}

static void set_running(struct dlb_layer *layer, float *const from[DLB_RUNNINGS])
{
    for (int i = 0; i < DLB_RUNNINGS && layer->running[i]; i++)
        memcpy(layer->running[i], from[i], (size_t)layer->outputs * sizeof(float));
}

void dlb_net_copy(struct dlb_net *net, const struct dlb_net *from)
{
    for (int i = 0; i < net->graph.parameters - LAST_PARAMETERS; i++)
        memcpy(net->graph.parameter[i].value, from->graph.parameter[i].value,
               (size_t)net->graph.parameter[i].n * sizeof(float));
    for (int l = 0; l < net->shape.depth; l++)
        set_running(&net->layer[l], from->layer[l].running);
}

void dlb_net_freeze(struct dlb_net *net)
{
    net->frozen = true;
}

enum dlb_status dlb_net_step(struct dlb_net *net, const float *src, const float *labels,
                             double rate, double *loss, struct dlb_error *error)
{
    give(net, src, labels);
    *net->diff_loss = rate > 0 ? (float)(rate / DLB_SGD_RATE) : 1;
    net->masks++;
    enum dlb_status status = DLB_OK;
    if (net->shape.dropout)
        status = new_masks(net, &net->graph.train, false, error);
    if (!status && net->shape.dropout)
        status = new_masks(net, &net->graph.backward, true, error);
    if (!status)
        status = dlb_links_run(&net->graph.train, 0, net->graph.train.n, error);
    *loss = *net->loss;
    /* Backward begins with the loss and the last layer's weights; its two parameters are
     * the last ones. */
    const int first = net->frozen ? net->graph.parameters - LAST_PARAMETERS : 0;
    if (!status)
        status = dlb_links_run(&net->graph.backward, 0,
                               net->frozen ? LAST_LINKS : net->graph.backward.n, error);
    if (status || !(rate > 0))
        return status;
    for (int l = 0; l < net->shape.depth && !net->frozen; l++)
        set_running(&net->layer[l], net->layer[l].new_running);
    return dlb_graph_update(&net->graph, first, rate, error);
}

enum dlb_status dlb_net_infer(struct dlb_net *net, const float *src, const float *labels,
                              int64_t n, double *loss, double *accuracy, float *logits,
                              struct dlb_error *error)
{
    const struct dlb_net_shape *s = &net->shape;
    enum dlb_status status = DLB_OK;
    int64_t right = 0;
    *loss = 0;
    for (int64_t row = 0; row < n && !status; row += s->batch) {
        give(net, src + row * s->inputs, labels + row);
        status = dlb_links_run(&net->graph.infer, 0, net->graph.infer.n, error);
        *loss += *net->loss * (double)s->batch / (double)n;
        right += dlb_rows_right(net->logits, labels + row, s->batch, s->classes);
        if (logits)
            memcpy(logits + row * s->classes, net->logits,
                   (size_t)(s->batch * s->classes) * sizeof *logits);
    }
    *accuracy = (double)right / (double)n;
    return status;
}

const float *dlb_net_logits(const struct dlb_net *net)
{
    return net->logits;
}

const float *dlb_net_hidden(const struct dlb_net *net, int layer)
{
    return net->layer[layer].out;
}

int64_t dlb_net_weights(const struct dlb_net *net, int layer, float **weights,
                        const float **gradient)
{
    return dlb_net_parameter(net, net->layer[layer].weights, weights, gradient);
}

int64_t dlb_net_parameter(const struct dlb_net *net, int number, float **value,
                          const float **gradient)
{
    if (number >= net->graph.parameters)
        return 0;
    const struct dlb_parameter *p = &net->graph.parameter[number];
    *value = p->value;
    *gradient = p->gradient;
    return p->n;
}
