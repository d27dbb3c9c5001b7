#include "claims/net.h"

#include "judge/significance.h"
#include "ops.h"
#include "ops/batchnorm.h"
#include "ops/dropout.h"
#include "ops/optimiser.h"
#include "suite/descriptor.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SHAPE_MAX = 96, LAST_PARAMETERS = 2, LAST_LINKS = 2 };

/* An operator with its tensors. */
struct link {
    const struct dlb_op *op;
    struct dlb_problem problem;
    struct dlb_plan *plan;
    void *tensor[DLB_TENSORS_MAX];
    bool dropout;
};

struct links {
    struct link *link; /* owned */
    int n;
};

struct parameter {
    float *value, *gradient, *velocity, *next, *next_velocity;
    int64_t n;
};

/* What becomes of running statistics after a batch. */
struct running {
    float *old, *fresh;
};

struct dlb_net {
    struct dlb_net_shape shape;
    struct dlb_target target;
    void **memory; /* owned, each */
    int memories;
    struct links train, infer, backward, update;
    struct parameter *parameter; /* owned: weights, bias of a layer, gamma, beta */
    int parameters;
    struct running *running; /* owned */
    int runnings;
    float *src, *labels, *loss, *diff_loss, *logits;
    float **hidden; /* owned: of each layer */
    int *weights;   /* owned: parameter of each layer */
    uint64_t steps;
    bool frozen;
    bool nomem;
};

struct named {
    const char *name;
    float *data;
};

static float *take(struct dlb_net *net, int64_t n)
{
    void **grown =
        realloc(net->memory, (size_t)(net->memories + 1) * sizeof *net->memory);
    float *data = grown ? dlb_alloc((size_t)n * sizeof(float)) : NULL;
    if (grown)
        net->memory = grown;
    net->nomem |= !data;
    if (!data)
        return NULL;
    memset(data, 0, (size_t)n * sizeof(float));
    net->memory[net->memories++] = data;
    return data;
}

static enum dlb_status plan_link(const struct dlb_net *net, struct link *link,
                                 struct dlb_error *error)
{
    struct dlb_candidate candidate;
    dlb_plan_release(link->plan);
    link->plan = NULL;
    link->op->fallback(&link->problem, &net->target, &candidate);
    return link->op->plan(&link->problem, &net->target, &candidate, &link->plan, error);
}

/* Appends an operator; named ends in a NULL name.  What it writes and nobody reads goes
 * into memory of its own. */
static enum dlb_status add(struct dlb_net *net, struct links *links, const char *op,
                           enum dlb_pass pass, const char *shape,
                           const struct named *named, struct dlb_error *error)
{
    struct dlb_tensor tensor[DLB_TENSORS_MAX];
    char name[DLB_NAME_MAX];
    struct link *grown =
        realloc(links->link, (size_t)(links->n + 1) * sizeof *links->link);
    if (!grown)
        return dlb_fail(error, DLB_NOMEM, "No memory is left for a network.");
    links->link = grown;
    struct link *link = &links->link[links->n++];
    *link = (struct link){.op = dlb_operator_find(op)->op, .problem = {.pass = pass}};
    link->dropout = link->op == &dlb_op_dropout && pass != DLB_FWD;
    enum dlb_status status =
        dlb_descriptor_parse(link->op, shape, &link->problem, name, error);
    if (status)
        return status;
    int tensors = link->op->tensors(&link->problem, tensor);
    for (int t = 0; t < tensors; t++) {
        int64_t n = dlb_tensor_elements(&tensor[t]);
        for (const struct named *known = named; known->name; known++)
            if (!strcmp(known->name, tensor[t].name))
                link->tensor[t] = known->data;
        if (!link->tensor[t])
            link->tensor[t] = take(net, dlb_max(1, n));
    }
    if (net->nomem)
        return dlb_fail(error, DLB_NOMEM, "No memory is left for a network.");
    return plan_link(net, link, error);
}

static double normal(struct dlb_random *random)
{
    double a = dlb_random_uniform(random), b = dlb_random_uniform(random);
    return sqrt(-2 * log(a)) * cos(2 * 3.14159265358979323846 * b);
}

/* A parameter with what the optimiser keeps of it, and its step. */
static enum dlb_status add_parameter(struct dlb_net *net, int64_t n, float first,
                                     struct parameter **parameter,
                                     struct dlb_error *error)
{
    char shape[SHAPE_MAX];
    struct parameter *grown =
        realloc(net->parameter, (size_t)(net->parameters + 1) * sizeof *net->parameter);
    if (!grown)
        return dlb_fail(error, DLB_NOMEM, "No memory is left for a network.");
    net->parameter = grown;
    struct parameter *p = *parameter = &net->parameter[net->parameters++];
    *p = (struct parameter){take(net, n), take(net, n), take(net, n),
                            take(net, n), take(net, n), n};
    if (net->nomem)
        return dlb_fail(error, DLB_NOMEM, "No memory is left for a network.");
    for (int64_t i = 0; i < n; i++)
        p->value[i] = first;
    snprintf(shape, sizeof shape, "n%lld", (long long)n);
    return add(net, &net->update, "sgd", DLB_FWD, shape,
               (const struct named[]){{"param", p->value},
                                      {"grad", p->gradient},
                                      {"velocity", p->velocity},
                                      {"new_param", p->next},
                                      {"new_velocity", p->next_velocity},
                                      {NULL, NULL}},
               error);
}

/* What a layer has to remember for its way back. */
struct layer {
    int64_t inputs, outputs;
    float *in, *sum, *normal, *active, *out;
    int weights, bias, gamma, beta; /* parameters */
    bool hidden, residual;
};

static enum dlb_status both_ways(struct dlb_net *net, const char *op, const char *shape,
                                 const struct named *named, struct dlb_error *error)
{
    enum dlb_status status = add(net, &net->train, op, DLB_FWD, shape, named, error);
    return status ? status : add(net, &net->infer, op, DLB_FWD, shape, named, error);
}

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
    struct parameter *weights, *bias;
    char shape[SHAPE_MAX];
    layer->weights = net->parameters;
    enum dlb_status status =
        add_parameter(net, layer->inputs * layer->outputs, 0, &weights, error);
    for (int64_t i = 0; !status && i < weights->n; i++)
        weights->value[i] = (float)(deviation * normal(random));
    float *values = status ? NULL : weights->value;
    layer->bias = net->parameters;
    if (!status)
        status = add_parameter(net, layer->outputs, 0, &bias, error);
    if (status)
        return status;
    layer->sum = take(net, s->batch * layer->outputs);
    snprintf(shape, sizeof shape, "mb%lldic%lldoc%lldbias1", (long long)s->batch,
             (long long)layer->inputs, (long long)layer->outputs);
    return both_ways(net, "linear", shape,
                     (const struct named[]){{"src", layer->in},
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
    struct parameter *gamma, *beta;
    char shape[SHAPE_MAX];
    struct running *grown =
        realloc(net->running, (size_t)(net->runnings + 2) * sizeof *net->running);
    if (!grown)
        return dlb_fail(error, DLB_NOMEM, "No memory is left for a network.");
    net->running = grown;
    struct running *mean = &net->running[net->runnings++],
                   *variance = &net->running[net->runnings++];
    *mean = (struct running){take(net, width), take(net, width)};
    *variance = (struct running){take(net, width), take(net, width)};
    layer->normal = take(net, batch * width);
    layer->gamma = net->parameters;
    enum dlb_status status = add_parameter(net, width, 1, &gamma, error);
    float *gains = status ? NULL : gamma->value;
    layer->beta = net->parameters;
    if (!status)
        status = add_parameter(net, width, 0, &beta, error);
    if (status)
        return status;
    for (int64_t i = 0; i < width; i++)
        variance->old[i] = 1;
    snprintf(shape, sizeof shape, "mb%lldic%lldih1layout-nhwc", (long long)batch,
             (long long)width);
    status = add(net, &net->train, "batchnorm", DLB_FWD_TRAIN, shape,
                 (const struct named[]){{"src", layer->sum},
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
                  : add(net, &net->infer, "batchnorm", DLB_FWD, shape,
                        (const struct named[]){{"src", layer->sum},
                                               {"gamma", gains},
                                               {"beta", beta->value},
                                               {"mean", mean->old},
                                               {"variance", variance->old},
                                               {"dst", layer->normal},
                                               {NULL, NULL}},
                        error);
}

static void activation_shape(const struct dlb_net *net, char shape[SHAPE_MAX])
{
    static const char *const names[] = {"relu", "leaky", "sigmoid", "tanh"};
    snprintf(shape, SHAPE_MAX, "n%lldalg-%s",
             (long long)(net->shape.batch * net->shape.width),
             names[net->shape.activation]);
}

static enum dlb_status add_hidden(struct dlb_net *net, struct layer *layer,
                                  struct dlb_error *error)
{
    const struct dlb_net_shape *s = &net->shape;
    const int64_t n = s->batch * layer->outputs;
    char shape[SHAPE_MAX];
    enum dlb_status status = DLB_OK;
    layer->normal = layer->sum;
    if (s->batchnorm)
        status = add_batchnorm(net, layer, error);
    layer->active = take(net, n);
    activation_shape(net, shape);
    if (!status)
        status =
            both_ways(net, "activation", shape,
                      (const struct named[]){
                          {"src", layer->normal}, {"dst", layer->active}, {NULL, NULL}},
                      error);
    layer->out = layer->active;
    if (s->dropout) {
        const struct named named[] = {
            {"src", layer->active}, {"dst", layer->out = take(net, n)}, {NULL, NULL}};
        snprintf(shape, sizeof shape, "n%lldp%d", (long long)n, s->dropout);
        if (!status)
            status = add(net, &net->train, "dropout", DLB_FWD_TRAIN, shape, named, error);
        if (!status)
            status = add(net, &net->infer, "dropout", DLB_FWD, shape, named, error);
    }
    if (layer->residual) {
        float *sum = take(net, n);
        snprintf(shape, sizeof shape, "n%lld", (long long)n);
        if (!status)
            status = both_ways(net, "add", shape,
                               (const struct named[]){{"src0", layer->out},
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
    struct links *back = &net->backward;
    float *g = gradient, *next;
    char shape[SHAPE_MAX];
    enum dlb_status status = DLB_OK;
    if (layer->hidden && s->dropout) {
        snprintf(shape, sizeof shape, "n%lldp%d", (long long)n, s->dropout);
        next = take(net, n);
        status =
            add(net, back, "dropout", DLB_BWD, shape,
                (const struct named[]){{"diff_dst", g}, {"diff_src", next}, {NULL, NULL}},
                error);
        g = next;
    }
    if (layer->hidden && !status) {
        activation_shape(net, shape);
        next = take(net, n);
        status = add(net, back, "activation", DLB_BWD, shape,
                     (const struct named[]){{"src", layer->normal},
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
        next = take(net, n);
        status = add(
            net, back, "batchnorm", DLB_BWD, shape,
            (const struct named[]){{"src", layer->sum},
                                   {"gamma", net->parameter[layer->gamma].value},
                                   {"beta", net->parameter[layer->beta].value},
                                   {"diff_dst", g},
                                   {"diff_src", next},
                                   {"diff_gamma", net->parameter[layer->gamma].gradient},
                                   {"diff_beta", net->parameter[layer->beta].gradient},
                                   {NULL, NULL}},
            error);
        g = next;
    }
    snprintf(shape, sizeof shape, "mb%lldic%lldoc%lldbias1", (long long)s->batch,
             (long long)layer->inputs, (long long)layer->outputs);
    next = take(net, s->batch * layer->inputs);
    const struct named named[] = {
        {"src", layer->in},
        {"weights", net->parameter[layer->weights].value},
        {"diff_dst", g},
        {"diff_src", next},
        {"diff_weights", net->parameter[layer->weights].gradient},
        {"diff_bias", net->parameter[layer->bias].gradient},
        {NULL, NULL}};
    if (!status)
        status = add(net, back, "linear", DLB_BWD_WEIGHTS, shape, named, error);
    if (!status && wanted)
        status = add(net, back, "linear", DLB_BWD_DATA, shape, named, error);
    if (!status && layer->residual) {
        float *sum = take(net, n);
        snprintf(shape, sizeof shape, "n%lld", (long long)n);
        status = add(net, back, "add", DLB_FWD, shape,
                     (const struct named[]){
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
    char shape[SHAPE_MAX];
    *gradient = take(net, s->batch * s->classes);
    snprintf(shape, sizeof shape, "mb%lldic%lld", (long long)s->batch,
             (long long)s->classes);
    const struct named named[] = {
        {"logits", net->logits},       {"labels", net->labels},    {"loss", net->loss},
        {"diff_loss", net->diff_loss}, {"diff_logits", *gradient}, {NULL, NULL}};
    enum dlb_status status = both_ways(net, "softmax_xent", shape, named, error);
    return status
               ? status
               : add(net, &net->backward, "softmax_xent", DLB_BWD, shape, named, error);
}

static enum dlb_status build(struct dlb_net *net, struct layer *layer,
                             struct dlb_error *error)
{
    const struct dlb_net_shape *s = &net->shape;
    struct dlb_random random = {.seed = dlb_hash(s->seed, 1)};
    float *gradient = NULL;
    enum dlb_status status = DLB_OK;
    net->src = take(net, s->batch * s->inputs);
    net->labels = take(net, s->batch);
    net->loss = take(net, 1);
    net->diff_loss = take(net, 1);
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
        net->target = *target;
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

static void release_links(struct links *links)
{
    for (int i = 0; i < links->n; i++)
        dlb_plan_release(links->link[i].plan);
    free(links->link);
}

void dlb_net_release(struct dlb_net *net)
{
    if (!net)
        return;
    release_links(&net->train);
    release_links(&net->infer);
    release_links(&net->backward);
    release_links(&net->update);
    for (int i = 0; i < net->memories; i++)
        dlb_free(net->memory[i]);
    free(net->memory);
    free(net->parameter);
    free(net->running);
    free(net->hidden);
    free(net->weights);
    free(net);
}

/* Each step has masks of its own: layer by layer, the same on the way back. */
static enum dlb_status new_masks(struct dlb_net *net, struct links *links, bool reversed,
                                 struct dlb_error *error)
{
    int layer = reversed ? net->shape.depth - 1 : 0;
    enum dlb_status status = DLB_OK;
    for (int i = 0; i < links->n && !status; i++) {
        struct link *link = &links->link[i];
        if (!link->dropout)
            continue;
        uint64_t mask = dlb_hash(dlb_hash(net->shape.seed, net->steps), (uint64_t)layer);
        link->problem.dim[DLB_DROPOUT_SEED] = (int64_t)(mask >> 40);
        layer += reversed ? -1 : 1;
        status = plan_link(net, link, error);
    }
    return status;
}

/* The links first … last-1. */
static enum dlb_status run_some(struct links *links, int first, int last,
                                struct dlb_error *error)
{
    const struct dlb_team team = {.size = 1};
    enum dlb_status status = DLB_OK;
    for (int i = first; i < last && !status; i++) {
        struct dlb_plan *plan = links->link[i].plan;
        status = plan->class->bind(plan, links->link[i].tensor, &team, error);
        if (status)
            break;
        plan->class->run(plan, &team);
        status = plan->class->fetch(plan, &team, error);
    }
    return status;
}

static enum dlb_status run(struct links *links, struct dlb_error *error)
{
    return run_some(links, 0, links->n, error);
}

static void give(struct dlb_net *net, const float *src, const float *labels)
{
    const struct dlb_net_shape *s = &net->shape;
    memcpy(net->src, src, (size_t)(s->batch * s->inputs) * sizeof *src);
    memcpy(net->labels, labels, (size_t)s->batch * sizeof *labels);
}

void dlb_net_copy(struct dlb_net *net, const struct dlb_net *from)
{
    for (int i = 0; i < net->parameters - LAST_PARAMETERS; i++)
        memcpy(net->parameter[i].value, from->parameter[i].value,
               (size_t)net->parameter[i].n * sizeof(float));
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
    net->steps++;
    enum dlb_status status = DLB_OK;
    if (net->shape.dropout)
        status = new_masks(net, &net->train, false, error);
    if (!status && net->shape.dropout)
        status = new_masks(net, &net->backward, true, error);
    if (!status)
        status = run(&net->train, error);
    *loss = *net->loss;
    /* Backward begins with the loss and the last layer's weights; its two parameters are
     * the last ones. */
    const int first = net->frozen ? net->parameters - LAST_PARAMETERS : 0;
    if (!status)
        status = run_some(&net->backward, 0, net->frozen ? LAST_LINKS : net->backward.n,
                          error);
    if (status || !(rate > 0))
        return status;
    for (int i = 0; i < net->runnings && !net->frozen; i++)
        memcpy(net->running[i].old, net->running[i].fresh,
               (size_t)net->shape.width * sizeof(float));
    status = run_some(&net->update, first, net->update.n, error);
    for (int i = first; i < net->parameters; i++) {
        struct parameter *p = &net->parameter[i];
        memcpy(p->value, p->next, (size_t)p->n * sizeof(float));
        memcpy(p->velocity, p->next_velocity, (size_t)p->n * sizeof(float));
    }
    return status;
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
        status = run(&net->infer, error);
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
    const struct parameter *p = &net->parameter[net->weights[layer]];
    *weights = p->value;
    *gradient = p->gradient;
    return p->n;
}
