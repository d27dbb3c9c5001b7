#include "claims/net.h"

#include "claims/graph.h"
#include "judge/significance.h"
#include "ops/batchnorm.h"
#include "ops/dropout.h"
#include "ops/optimiser.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LAST_PARAMETERS = 2, LAST_LINKS = 2 };

/* What becomes of running statistics after a batch. */
struct running {
    float *old, *fresh;
};

struct dlb_net {
    struct dlb_net_shape shape;
    struct dlb_graph graph;  /* parameters: weights, bias of a layer, gamma, beta */
    struct running *running; /* owned */
    int runnings;
    float *src, *labels, *loss, *diff_loss, *logits;
    float **hidden; /* owned: of each layer */
    int *weights;   /* owned: parameter of each layer */
    uint64_t masks; /* made so far */
    bool frozen;
};

static double normal(struct dlb_random *random)
{
    double a = dlb_random_uniform(random), b = dlb_random_uniform(random);
    return sqrt(-2 * log(a)) * cos(2 * 3.14159265358979323846 * b);
}

/* What a layer has to remember for its way back. */
struct layer {
    int64_t inputs, outputs;
    float *in, *sum, *normal, *active, *out;
    int weights, bias, gamma, beta; /* parameters */
    bool hidden, residual;
};

static enum dlb_status add_linear(struct dlb_net *net, struct layer *layer,
                                  struct dlb_random *random, struct dlb_error *error)
{
    const struct dlb_net_shape *s = &net->shape;
    const bool relu =
        s->activation == DLB_ACTIVATION_RELU || s->activation == DLB_ACTIVATION_LEAKY;
    const double deviation =
        s->init_scale *
        sqrt(2.0 /
             (double)(layer->inputs + (relu && layer->hidden ? 0 : layer->outputs)));
    struct dlb_parameter *weights, *bias;
    char shape[DLB_GRAPH_SHAPE_MAX];
    layer->weights = net->graph.parameters;
    enum dlb_status status = dlb_graph_parameter(
        &net->graph, layer->inputs * layer->outputs, 0, &weights, error);
    for (int64_t i = 0; !status && i < weights->n; i++)
        weights->value[i] = (float)(deviation * normal(random));
    float *values = status ? NULL : weights->value;
    layer->bias = net->graph.parameters;
    if (!status)
        status = dlb_graph_parameter(&net->graph, layer->outputs, 0, &bias, error);
    if (status)
        return status;
    layer->sum = dlb_graph_take(&net->graph, s->batch * layer->outputs);
    snprintf(shape, sizeof shape, "mb%lldic%lldoc%lldbias1", (long long)s->batch,
             (long long)layer->inputs, (long long)layer->outputs);
    return dlb_graph_add_both(&net->graph, "linear", shape,
                              (const struct dlb_named[]){{"src", layer->in},
                                                         {"weights", values},
                                                         {"bias", bias->value},
                                                         {"dst", layer->sum},
                                                         {NULL, NULL}},
                              error);
}

static enum dlb_status add_batchnorm(struct dlb_net *net, struct layer *layer,
                                     struct dlb_error *error)
{
    const int64_t batch = net->shape.batch, width = layer->outputs;
    struct dlb_parameter *gamma, *beta;
    char shape[DLB_GRAPH_SHAPE_MAX];
    struct running *grown =
        realloc(net->running, (size_t)(net->runnings + 2) * sizeof *net->running);
    if (!grown)
        return dlb_fail(error, DLB_NOMEM, "No memory is left for a network.");
    net->running = grown;
    struct running *mean = &net->running[net->runnings++],
                   *variance = &net->running[net->runnings++];
    *mean = (struct running){dlb_graph_take(&net->graph, width),
                             dlb_graph_take(&net->graph, width)};
    *variance = (struct running){dlb_graph_take(&net->graph, width),
                                 dlb_graph_take(&net->graph, width)};
    layer->normal = dlb_graph_take(&net->graph, batch * width);
    layer->gamma = net->graph.parameters;
    enum dlb_status status = dlb_graph_parameter(&net->graph, width, 1, &gamma, error);
    float *gains = status ? NULL : gamma->value;
    layer->beta = net->graph.parameters;
    if (!status)
        status = dlb_graph_parameter(&net->graph, width, 0, &beta, error);
    if (status)
        return status;
    for (int64_t i = 0; i < width; i++)
        variance->old[i] = 1;
    snprintf(shape, sizeof shape, "mb%lldic%lldih1layout-nhwc", (long long)batch,
             (long long)width);
    status = dlb_graph_add(
        &net->graph, &net->graph.train, "batchnorm", DLB_FWD_TRAIN, shape,
        (const struct dlb_named[]){{"src", layer->sum},
                                   {"gamma", gains},
                                   {"beta", beta->value},
                                   {"running_mean", mean->old},
                                   {"running_variance", variance->old},
                                   {"dst", layer->normal},
                                   {"new_running_mean", mean->fresh},
                                   {"new_running_variance", variance->fresh},
                                   {NULL, NULL}},
        error);
    return status ? status
                  : dlb_graph_add(&net->graph, &net->graph.infer, "batchnorm", DLB_FWD,
                                  shape,
                                  (const struct dlb_named[]){{"src", layer->sum},
                                                             {"gamma", gains},
                                                             {"beta", beta->value},
                                                             {"mean", mean->old},
                                                             {"variance", variance->old},
                                                             {"dst", layer->normal},
                                                             {NULL, NULL}},
                                  error);
}

static void activation_shape(const struct dlb_net *net, char shape[DLB_GRAPH_SHAPE_MAX])
{
    static const char *const names[] = {"relu", "leaky", "sigmoid", "tanh"};
    snprintf(shape, DLB_GRAPH_SHAPE_MAX, "n%lldalg-%s",
             (long long)(net->shape.batch * net->shape.width),
             names[net->shape.activation]);
}

static enum dlb_status add_hidden(struct dlb_net *net, struct layer *layer,
                                  struct dlb_error *error)
{
    const struct dlb_net_shape *s = &net->shape;
    const int64_t n = s->batch * layer->outputs;
    char shape[DLB_GRAPH_SHAPE_MAX];
    enum dlb_status status = DLB_OK;
    layer->normal = layer->sum;
    if (s->batchnorm)
        status = add_batchnorm(net, layer, error);
    layer->active = dlb_graph_take(&net->graph, n);
    activation_shape(net, shape);
    if (!status)
        status = dlb_graph_add_both(&net->graph, "activation", shape,
                                    (const struct dlb_named[]){{"src", layer->normal},
                                                               {"dst", layer->active},
                                                               {NULL, NULL}},
                                    error);
    layer->out = layer->active;
    if (s->dropout) {
        const struct dlb_named named[] = {
            {"src", layer->active},
            {"dst", layer->out = dlb_graph_take(&net->graph, n)},
            {NULL, NULL}};
        snprintf(shape, sizeof shape, "n%lldp%d", (long long)n, s->dropout);
        if (!status)
            status = dlb_graph_add(&net->graph, &net->graph.train, "dropout",
                                   DLB_FWD_TRAIN, shape, named, error);
        if (!status)
            status = dlb_graph_add(&net->graph, &net->graph.infer, "dropout", DLB_FWD,
                                   shape, named, error);
    }
    if (layer->residual) {
        float *sum = dlb_graph_take(&net->graph, n);
        snprintf(shape, sizeof shape, "n%lld", (long long)n);
        if (!status)
            status = dlb_graph_add_both(&net->graph, "add", shape,
                                        (const struct dlb_named[]){{"src0", layer->out},
                                                                   {"src1", layer->in},
                                                                   {"dst", sum},
                                                                   {NULL, NULL}},
                                        error);
        layer->out = sum;
    }
    return status;
}

/* From the gradient of a layer's outputs to that of its inputs, NULL where nobody wants
 * it. */
static enum dlb_status add_backward(struct dlb_net *net, const struct layer *layer,
                                    float *gradient, bool wanted, float **result,
                                    struct dlb_error *error)
{
    const struct dlb_net_shape *s = &net->shape;
    const int64_t n = s->batch * layer->outputs;
    struct dlb_links *back = &net->graph.backward;
    float *g = gradient, *next;
    char shape[DLB_GRAPH_SHAPE_MAX];
    enum dlb_status status = DLB_OK;
    if (layer->hidden && s->dropout) {
        snprintf(shape, sizeof shape, "n%lldp%d", (long long)n, s->dropout);
        next = dlb_graph_take(&net->graph, n);
        status = dlb_graph_add(
            &net->graph, back, "dropout", DLB_BWD, shape,
            (const struct dlb_named[]){{"diff_dst", g}, {"diff_src", next}, {NULL, NULL}},
            error);
        g = next;
    }
    if (layer->hidden && !status) {
        activation_shape(net, shape);
        next = dlb_graph_take(&net->graph, n);
        status = dlb_graph_add(&net->graph, back, "activation", DLB_BWD, shape,
                               (const struct dlb_named[]){{"src", layer->normal},
                                                          {"dst", layer->active},
                                                          {"diff_dst", g},
                                                          {"diff_src", next},
                                                          {NULL, NULL}},
                               error);
        g = next;
    }
    if (layer->hidden && s->batchnorm && !status) {
        snprintf(shape, sizeof shape, "mb%lldic%lldih1layout-nhwc", (long long)s->batch,
                 (long long)layer->outputs);
        next = dlb_graph_take(&net->graph, n);
        status =
            dlb_graph_add(&net->graph, back, "batchnorm", DLB_BWD, shape,
                          (const struct dlb_named[]){
                              {"src", layer->sum},
                              {"gamma", net->graph.parameter[layer->gamma].value},
                              {"beta", net->graph.parameter[layer->beta].value},
                              {"diff_dst", g},
                              {"diff_src", next},
                              {"diff_gamma", net->graph.parameter[layer->gamma].gradient},
                              {"diff_beta", net->graph.parameter[layer->beta].gradient},
                              {NULL, NULL}},
                          error);
        g = next;
    }
    snprintf(shape, sizeof shape, "mb%lldic%lldoc%lldbias1", (long long)s->batch,
             (long long)layer->inputs, (long long)layer->outputs);
    next = dlb_graph_take(&net->graph, s->batch * layer->inputs);
    const struct dlb_named named[] = {
        {"src", layer->in},
        {"weights", net->graph.parameter[layer->weights].value},
        {"diff_dst", g},
        {"diff_src", next},
        {"diff_weights", net->graph.parameter[layer->weights].gradient},
        {"diff_bias", net->graph.parameter[layer->bias].gradient},
        {NULL, NULL}};
    if (!status)
        status = dlb_graph_add(&net->graph, back, "linear", DLB_BWD_WEIGHTS, shape, named,
                               error);
    if (!status && wanted)
        status =
            dlb_graph_add(&net->graph, back, "linear", DLB_BWD_DATA, shape, named, error);
    if (!status && layer->residual) {
        float *sum = dlb_graph_take(&net->graph, n);
        snprintf(shape, sizeof shape, "n%lld", (long long)n);
        status = dlb_graph_add(
            &net->graph, back, "add", DLB_FWD, shape,
            (const struct dlb_named[]){
                {"src0", next}, {"src1", gradient}, {"dst", sum}, {NULL, NULL}},
            error);
        next = sum;
    }
    *result = next;
    return status;
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

static enum dlb_status build(struct dlb_net *net, struct layer *layer,
                             struct dlb_error *error)
{
    const struct dlb_net_shape *s = &net->shape;
    struct dlb_random random = {.seed = dlb_hash(s->seed, 1)};
    float *gradient = NULL;
    enum dlb_status status = DLB_OK;
    net->src = dlb_graph_take(&net->graph, s->batch * s->inputs);
    net->labels = dlb_graph_take(&net->graph, s->batch);
    net->loss = dlb_graph_take(&net->graph, 1);
    net->diff_loss = dlb_graph_take(&net->graph, 1);
    float *x = net->src;
    for (int l = 0; l <= s->depth && !status; l++) {
        layer[l] = (struct layer){.inputs = l ? s->width : s->inputs,
                                  .outputs = l < s->depth ? s->width : s->classes,
                                  .in = x,
                                  .hidden = l < s->depth,
                                  .residual = s->residual && l > 0 && l < s->depth};
        status = add_linear(net, &layer[l], &random, error);
        if (!status && layer[l].hidden)
            status = add_hidden(net, &layer[l], error);
        net->weights[l] = layer[l].weights;
        net->hidden[l] = x = layer[l].out;
    }
    if (status)
        return status;
    net->logits = layer[s->depth].sum;
    status = add_loss(net, &gradient, error);
    for (int l = s->depth; l >= 0 && !status; l--)
        status = add_backward(net, &layer[l], gradient, l > 0, &gradient, error);
    return status;
}

enum dlb_status dlb_net_make(const struct dlb_net_shape *shape,
                             const struct dlb_target *target, struct dlb_net **out,
                             struct dlb_error *error)
{
    struct dlb_net *net = calloc(1, sizeof *net);
    struct layer *layer = calloc((size_t)shape->depth + 1, sizeof *layer);
    *out = net;
    if (net) {
        net->shape = *shape;
        net->graph.target = *target;
        net->hidden = calloc((size_t)shape->depth + 1, sizeof *net->hidden);
        net->weights = calloc((size_t)shape->depth + 1, sizeof *net->weights);
    }
    enum dlb_status status =
        net && layer && net->hidden && net->weights
            ? build(net, layer, error)
            : dlb_fail(error, DLB_NOMEM, "No memory is left for a network.");
    free(layer);
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
    free(net->running);
    free(net->hidden);
    free(net->weights);
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

void dlb_net_copy(struct dlb_net *net, const struct dlb_net *from)
{
    for (int i = 0; i < net->graph.parameters - LAST_PARAMETERS; i++)
        memcpy(net->graph.parameter[i].value, from->graph.parameter[i].value,
               (size_t)net->graph.parameter[i].n * sizeof(float));
    for (int i = 0; i < net->runnings; i++)
        memcpy(net->running[i].old, from->running[i].old,
               (size_t)net->shape.width * sizeof(float));
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
    for (int i = 0; i < net->runnings && !net->frozen; i++)
        memcpy(net->running[i].old, net->running[i].fresh,
               (size_t)net->shape.width * sizeof(float));
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
        for (int64_t i = 0; i < s->batch; i++) {
            const float *own = net->logits + i * s->classes;
            int64_t best = 0;
            for (int64_t c = 1; c < s->classes; c++)
                if (own[c] > own[best])
                    best = c;
            right += (float)best == labels[row + i];
        }
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
    return net->hidden[layer];
}

int64_t dlb_net_weights(const struct dlb_net *net, int layer, float **weights,
                        const float **gradient)
{
    const struct dlb_parameter *p = &net->graph.parameter[net->weights[layer]];
    *weights = p->value;
    *gradient = p->gradient;
    return p->n;
}
