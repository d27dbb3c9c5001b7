#include "claims/layer.h"

#include <math.h>
#include <stdio.h>

enum { KERNEL = 3, PAD = KERNEL / 2 };

static double normal(struct dlb_random *random)
{
    double a = dlb_random_uniform(random), b = dlb_random_uniform(random);
    return sqrt(-2 * log(a)) * cos(2 * 3.14159265358979323846 * b);
}

int64_t dlb_layer_side(const struct dlb_layer *layer)
{
    return layer->side ? (layer->side + 2 * PAD - KERNEL) / layer->stride + 1 : 1;
}

static int64_t elements(const struct dlb_net_shape *s, const struct dlb_layer *layer)
{
    const int64_t side = dlb_layer_side(layer);
    return s->batch * side * side * layer->outputs;
}

static int64_t taps(const struct dlb_layer *layer)
{
    return layer->side ? KERNEL * KERNEL : 1;
}

/* The operator that multiplies by the weights, and its shape. */
static const char *map_shape(const struct dlb_net_shape *s, const struct dlb_layer *layer,
                             char shape[DLB_GRAPH_SHAPE_MAX])
{
    int n = snprintf(shape, DLB_GRAPH_SHAPE_MAX, "mb%lldic%lldoc%lldbias1",
                     (long long)s->batch, (long long)layer->inputs,
                     (long long)layer->outputs);
    if (!layer->side)
        return "linear";
    snprintf(shape + n, DLB_GRAPH_SHAPE_MAX - (size_t)n, "ih%lldkh%dsh%lldph%d",
             (long long)layer->side, KERNEL, (long long)layer->stride, PAD);
    return "conv";
}

static void batchnorm_shape(const struct dlb_net_shape *s, const struct dlb_layer *layer,
                            char shape[DLB_GRAPH_SHAPE_MAX])
{
    snprintf(shape, DLB_GRAPH_SHAPE_MAX, "mb%lldic%lldih%lldlayout-nhwc",
             (long long)s->batch, (long long)layer->outputs,
             (long long)dlb_layer_side(layer));
}

static void activation_shape(const struct dlb_net_shape *s, const struct dlb_layer *layer,
                             char shape[DLB_GRAPH_SHAPE_MAX])
{
    static const char *const names[] = {"relu", "leaky", "sigmoid", "tanh"};
    snprintf(shape, DLB_GRAPH_SHAPE_MAX, "n%lldalg-%s", (long long)elements(s, layer),
             names[s->activation]);
}

static void dropout_shape(const struct dlb_net_shape *s, const struct dlb_layer *layer,
                          char shape[DLB_GRAPH_SHAPE_MAX])
{
    snprintf(shape, DLB_GRAPH_SHAPE_MAX, "n%lldp%d", (long long)elements(s, layer),
             s->dropout);
}

static double deviation(const struct dlb_net_shape *s, const struct dlb_layer *layer)
{
    const bool relu =
        s->activation == DLB_ACTIVATION_RELU || s->activation == DLB_ACTIVATION_LEAKY;
    const int64_t fans = layer->inputs + (relu && layer->hidden ? 0 : layer->outputs);
    return s->init_scale * sqrt(2.0 / (double)(fans * taps(layer)));
}

static enum dlb_status add_map(struct dlb_graph *graph, const struct dlb_net_shape *s,
                               struct dlb_layer *layer, struct dlb_random *random,
                               struct dlb_error *error)
{
    struct dlb_parameter *weights, *bias;
    char shape[DLB_GRAPH_SHAPE_MAX];
    const char *op = map_shape(s, layer, shape);
    layer->weights = graph->parameters;
    enum dlb_status status = dlb_graph_parameter(
        graph, layer->inputs * layer->outputs * taps(layer), 0, &weights, error);
    for (int64_t i = 0; !status && i < weights->n; i++)
        weights->value[i] = (float)(deviation(s, layer) * normal(random));
    float *values = status ? NULL : weights->value;
    layer->bias = graph->parameters;
    if (!status)
        status = dlb_graph_parameter(graph, layer->outputs, 0, &bias, error);
    if (status)
        return status;
    layer->sum = dlb_graph_take(graph, elements(s, layer));
    return dlb_graph_add_both(graph, op, shape,
                              (const struct dlb_named[]){{"src", layer->in},
                                                         {"weights", values},
                                                         {"bias", bias->value},
                                                         {"dst", layer->sum},
                                                         {NULL, NULL}},
                              error);
}

static enum dlb_status add_batchnorm(struct dlb_graph *graph,
                                     const struct dlb_net_shape *s,
                                     struct dlb_layer *layer, struct dlb_error *error)
{
    const int64_t width = layer->outputs;
    struct dlb_parameter *gamma, *beta;
    char shape[DLB_GRAPH_SHAPE_MAX];
    for (int i = 0; i < DLB_RUNNINGS; i++) {
        layer->running[i] = dlb_graph_take(graph, width);
        layer->new_running[i] = dlb_graph_take(graph, width);
    }
    layer->normal = dlb_graph_take(graph, elements(s, layer));
    layer->gamma = graph->parameters;
    enum dlb_status status = dlb_graph_parameter(graph, width, 1, &gamma, error);
    float *gains = status ? NULL : gamma->value;
    layer->beta = graph->parameters;
    if (!status)
        status = dlb_graph_parameter(graph, width, 0, &beta, error);
    if (status)
        return status;
    float *mean = layer->running[DLB_RUNNING_MEAN],
          *variance = layer->running[DLB_RUNNING_VARIANCE];
    for (int64_t i = 0; i < width; i++)
        variance[i] = 1;
    const struct dlb_named named[] = {
        {"src", layer->sum},
        {"gamma", gains},
        {"beta", beta->value},
        {"running_mean", mean},
        {"running_variance", variance},
        {"dst", layer->normal},
        {"new_running_mean", layer->new_running[DLB_RUNNING_MEAN]},
        {"new_running_variance", layer->new_running[DLB_RUNNING_VARIANCE]},
        {NULL, NULL}};
    batchnorm_shape(s, layer, shape);
    status = dlb_graph_add(graph, &graph->train, "batchnorm", DLB_FWD_TRAIN, shape, named,
                           error);
    return status ? status
                  : dlb_graph_add(graph, &graph->infer, "batchnorm", DLB_FWD, shape,
                                  (const struct dlb_named[]){{"src", layer->sum},
                                                             {"gamma", gains},
                                                             {"beta", beta->value},
                                                             {"mean", mean},
                                                             {"variance", variance},
                                                             {"dst", layer->normal},
                                                             {NULL, NULL}},
                                  error);
}

static enum dlb_status add_shortcut(struct dlb_graph *graph,
                                    const struct dlb_net_shape *s,
                                    struct dlb_layer *layer, struct dlb_error *error)
{
    char shape[DLB_GRAPH_SHAPE_MAX];
    snprintf(shape, sizeof shape, "n%lld", (long long)elements(s, layer));
    layer->total = dlb_graph_take(graph, elements(s, layer));
    return dlb_graph_add_both(graph, "add", shape,
                              (const struct dlb_named[]){{"src0", layer->normal},
                                                         {"src1", layer->shortcut},
                                                         {"dst", layer->total},
                                                         {NULL, NULL}},
                              error);
}

static enum dlb_status add_dropout(struct dlb_graph *graph, const struct dlb_net_shape *s,
                                   struct dlb_layer *layer, struct dlb_error *error)
{
    char shape[DLB_GRAPH_SHAPE_MAX];
    layer->out = dlb_graph_take(graph, elements(s, layer));
    const struct dlb_named named[] = {
        {"src", layer->active}, {"dst", layer->out}, {NULL, NULL}};
    dropout_shape(s, layer, shape);
    enum dlb_status status = dlb_graph_add(graph, &graph->train, "dropout", DLB_FWD_TRAIN,
                                           shape, named, error);
    return status ? status
                  : dlb_graph_add(graph, &graph->infer, "dropout", DLB_FWD, shape, named,
                                  error);
}

enum dlb_status dlb_layer_forward(struct dlb_graph *graph, const struct dlb_net_shape *s,
                                  struct dlb_layer *layer, struct dlb_random *random,
                                  struct dlb_error *error)
{
    char shape[DLB_GRAPH_SHAPE_MAX];
    enum dlb_status status = add_map(graph, s, layer, random, error);
    layer->normal = layer->out = layer->sum;
    if (!layer->hidden || status)
        return status;
    if (s->batchnorm)
        status = add_batchnorm(graph, s, layer, error);
    layer->total = layer->normal;
    if (layer->shortcut && !status)
        status = add_shortcut(graph, s, layer, error);
    layer->active = layer->out = dlb_graph_take(graph, elements(s, layer));
    activation_shape(s, layer, shape);
    if (!status)
        status = dlb_graph_add_both(graph, "activation", shape,
                                    (const struct dlb_named[]){{"src", layer->total},
                                                               {"dst", layer->active},
                                                               {NULL, NULL}},
                                    error);
    return s->dropout && !status ? add_dropout(graph, s, layer, error) : status;
}

/* From the gradient of a hidden layer's outputs to that of its sum. */
static enum dlb_status add_hidden_backward(struct dlb_graph *graph,
                                           const struct dlb_net_shape *s,
                                           struct dlb_layer *layer, float *g,
                                           float **diff_sum, struct dlb_error *error)
{
    struct dlb_links *back = &graph->backward;
    const int64_t n = elements(s, layer);
    float *next;
    char shape[DLB_GRAPH_SHAPE_MAX];
    enum dlb_status status = DLB_OK;
    if (s->dropout) {
        dropout_shape(s, layer, shape);
        next = dlb_graph_take(graph, n);
        status = dlb_graph_add(
            graph, back, "dropout", DLB_BWD, shape,
            (const struct dlb_named[]){{"diff_dst", g}, {"diff_src", next}, {NULL, NULL}},
            error);
        g = next;
    }
    activation_shape(s, layer, shape);
    layer->diff_total = *diff_sum = dlb_graph_take(graph, n);
    if (!status)
        status = dlb_graph_add(graph, back, "activation", DLB_BWD, shape,
                               (const struct dlb_named[]){{"src", layer->total},
                                                          {"dst", layer->active},
                                                          {"diff_dst", g},
                                                          {"diff_src", layer->diff_total},
                                                          {NULL, NULL}},
                               error);
    if (!s->batchnorm || status)
        return status;
    const struct dlb_parameter *gamma = &graph->parameter[layer->gamma],
                               *beta = &graph->parameter[layer->beta];
    batchnorm_shape(s, layer, shape);
    *diff_sum = dlb_graph_take(graph, n);
    return dlb_graph_add(graph, back, "batchnorm", DLB_BWD, shape,
                         (const struct dlb_named[]){{"src", layer->sum},
                                                    {"gamma", gamma->value},
                                                    {"beta", beta->value},
                                                    {"diff_dst", layer->diff_total},
                                                    {"diff_src", *diff_sum},
                                                    {"diff_gamma", gamma->gradient},
                                                    {"diff_beta", beta->gradient},
                                                    {NULL, NULL}},
                         error);
}

enum dlb_status dlb_layer_backward(struct dlb_graph *graph, const struct dlb_net_shape *s,
                                   struct dlb_layer *layer, float *diff_out,
                                   float *beside, float **diff_in,
                                   struct dlb_error *error)
{
    struct dlb_links *back = &graph->backward;
    const int64_t n = s->batch * dlb_max(1, layer->side * layer->side) * layer->inputs;
    float *g = diff_out, *next = dlb_graph_take(graph, n);
    char shape[DLB_GRAPH_SHAPE_MAX];
    enum dlb_status status = DLB_OK;
    if (layer->hidden)
        status = add_hidden_backward(graph, s, layer, diff_out, &g, error);
    const char *op = map_shape(s, layer, shape);
    const struct dlb_parameter *weights = &graph->parameter[layer->weights];
    const struct dlb_named named[] = {
        {"src", layer->in},
        {"weights", weights->value},
        {"diff_dst", g},
        {"diff_src", next},
        {"diff_weights", weights->gradient},
        {"diff_bias", graph->parameter[layer->bias].gradient},
        {NULL, NULL}};
    if (!status)
        status = dlb_graph_add(graph, back, op, DLB_BWD_WEIGHTS, shape, named, error);
    if (!diff_in || status)
        return status;
    *diff_in = next;
    status = dlb_graph_add(graph, back, op, DLB_BWD_DATA, shape, named, error);
    if (!beside || status)
        return status;
    *diff_in = dlb_graph_take(graph, n);
    snprintf(shape, sizeof shape, "n%lld", (long long)n);
    return dlb_graph_add(
        graph, back, "add", DLB_FWD, shape,
        (const struct dlb_named[]){
            {"src0", next}, {"src1", beside}, {"dst", *diff_in}, {NULL, NULL}},
        error);
}
