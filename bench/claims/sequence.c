#include "claims/sequence.h"

#include "claims/graph.h"
#include "judge/significance.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { POSITIONS = 32, LAST_PARAMETERS = 2 };

const char *const dlb_reader_names[] = {"rnn", "gru", "lstm", "attention"};
static const int gates[] = {1, 3, 4};

struct dlb_sequence {
    struct dlb_sequence_shape shape;
    struct dlb_graph graph;
    int64_t features; /* inputs, and positions */
    float *src, *asked, *labels, *loss, *diff_loss, *logits;
};

static bool recurrent(const struct dlb_sequence *s)
{
    return s->shape.reader != DLB_READ_ATTENTION;
}

static enum dlb_status add_weights(struct dlb_sequence *s, int64_t n,
                                   struct dlb_random *random, float **value,
                                   float **gradient, struct dlb_error *error)
{
    const float bound = 1 / sqrtf((float)s->shape.width);
    struct dlb_parameter *parameter;
    enum dlb_status status = dlb_graph_parameter(&s->graph, n, 0, &parameter, error);
    if (status)
        return status;
    for (int64_t i = 0; i < n; i++)
        parameter->value[i] = bound * (float)(2 * dlb_random_uniform(random) - 1);
    *value = parameter->value;
    *gradient = parameter->gradient;
    return DLB_OK;
}

static enum dlb_status add_biases(struct dlb_sequence *s, int64_t n, float **value,
                                  float **gradient, struct dlb_error *error)
{
    struct dlb_parameter *parameter;
    enum dlb_status status = dlb_graph_parameter(&s->graph, n, 0, &parameter, error);
    if (status)
        return status;
    *value = parameter->value;
    *gradient = parameter->gradient;
    return DLB_OK;
}

/* A linear layer over rows, of features or of hidden units. */
struct linear {
    char shape[DLB_GRAPH_SHAPE_MAX];
    float *in, *weights, *bias, *out, *diff_weights, *diff_bias;
};

static enum dlb_status add_linear(struct dlb_sequence *s, int64_t rows, int64_t inputs,
                                  int64_t outputs, float *in, struct dlb_random *random,
                                  struct linear *linear, struct dlb_error *error)
{
    linear->in = in;
    linear->out = dlb_graph_take(&s->graph, rows * outputs);
    enum dlb_status status = add_weights(s, inputs * outputs, random, &linear->weights,
                                         &linear->diff_weights, error);
    if (!status)
        status = add_biases(s, outputs, &linear->bias, &linear->diff_bias, error);
    if (status)
        return status;
    snprintf(linear->shape, sizeof linear->shape, "mb%lldic%lldoc%lldbias1",
             (long long)rows, (long long)inputs, (long long)outputs);
    return dlb_graph_add(&s->graph, &s->graph.train, "linear", DLB_FWD, linear->shape,
                         (const struct dlb_named[]){{"src", in},
                                                    {"weights", linear->weights},
                                                    {"bias", linear->bias},
                                                    {"dst", linear->out},
                                                    {NULL, NULL}},
                         error);
}

/* diff_src NULL: nobody wants it. */
static enum dlb_status add_linear_back(struct dlb_sequence *s,
                                       const struct linear *linear, float *diff_dst,
                                       float *diff_src, struct dlb_error *error)
{
    const struct dlb_named named[] = {{"src", linear->in},
                                      {"weights", linear->weights},
                                      {"diff_dst", diff_dst},
                                      {"diff_src", diff_src},
                                      {"diff_weights", linear->diff_weights},
                                      {"diff_bias", linear->diff_bias},
                                      {NULL, NULL}};
    struct dlb_links *back = &s->graph.backward;
    enum dlb_status status = dlb_graph_add(&s->graph, back, "linear", DLB_BWD_WEIGHTS,
                                           linear->shape, named, error);
    return status || !diff_src ? status
                               : dlb_graph_add(&s->graph, back, "linear", DLB_BWD_DATA,
                                               linear->shape, named, error);
}

/* The linear layer that answers, and the loss; *in and *diff_in are what the reader leaves
 * of the last steps and the gradient of that. */
static enum dlb_status add_answers(struct dlb_sequence *s, float *in, float *diff_in,
                                   struct dlb_random *random, struct dlb_error *error)
{
    const struct dlb_sequence_shape *shape = &s->shape;
    const int64_t rows = shape->batch * shape->answers;
    float *diff_logits = dlb_graph_take(&s->graph, rows * shape->classes);
    struct linear last;
    char text[DLB_GRAPH_SHAPE_MAX];
    enum dlb_status status =
        add_linear(s, rows, shape->width, shape->classes, in, random, &last, error);
    if (status)
        return status;
    s->logits = last.out;
    snprintf(text, sizeof text, "mb%lldic%lld", (long long)rows,
             (long long)shape->classes);
    const struct dlb_named named[] = {
        {"logits", s->logits},       {"labels", s->labels},        {"loss", s->loss},
        {"diff_loss", s->diff_loss}, {"diff_logits", diff_logits}, {NULL, NULL}};
    status = dlb_graph_add(&s->graph, &s->graph.train, "softmax_xent", DLB_FWD, text,
                           named, error);
    if (!status)
        status = dlb_graph_add(&s->graph, &s->graph.backward, "softmax_xent", DLB_BWD,
                               text, named, error);
    return status ? status : add_linear_back(s, &last, diff_logits, diff_in, error);
}

static enum dlb_status build_recurrent(struct dlb_sequence *s, struct dlb_random *random,
                                       struct dlb_error *error)
{
    const struct dlb_sequence_shape *shape = &s->shape;
    const char *op = dlb_reader_names[shape->reader];
    const int64_t width = shape->width, all = gates[shape->reader] * width,
                  before = (shape->steps - shape->answers) * shape->batch * width,
                  states = shape->steps * shape->batch * width;
    float *layer, *iter, *bias, *diff_layer, *diff_iter, *diff_bias;
    char text[DLB_GRAPH_SHAPE_MAX];
    enum dlb_status status =
        add_weights(s, shape->inputs * all, random, &layer, &diff_layer, error);
    if (!status)
        status = add_weights(s, width * all, random, &iter, &diff_iter, error);
    if (!status)
        status = add_biases(s, all, &bias, &diff_bias, error);
    float *dst = dlb_graph_take(&s->graph, states),
          *diff_dst = dlb_graph_take(&s->graph, states);
    if (status || !dst || !diff_dst)
        return status ? status
                      : dlb_fail(error, DLB_NOMEM, "No memory is left for a network.");
    for (int64_t i = width; i < 2 * width && shape->reader == DLB_READ_LSTM; i++)
        bias[i] = 1; /* the second gate forgets */
    snprintf(text, sizeof text, "t%lldmb%lldslc%llddhc%lldbias1", (long long)shape->steps,
             (long long)shape->batch, (long long)shape->inputs, (long long)width);
    const struct dlb_named named[] = {{"src", s->src},
                                      {"weights_layer", layer},
                                      {"weights_iter", iter},
                                      {"bias", bias},
                                      {"dst", dst},
                                      {"diff_dst", diff_dst},
                                      {"diff_weights_layer", diff_layer},
                                      {"diff_weights_iter", diff_iter},
                                      {"diff_bias", diff_bias},
                                      {NULL, NULL}};
    status = dlb_graph_add(&s->graph, &s->graph.train, op, DLB_FWD, text, named, error);
    if (!status)
        status = add_answers(s, dst + before, diff_dst + before, random, error);
    return status ? status
                  : dlb_graph_add(&s->graph, &s->graph.backward, op, DLB_BWD, text, named,
                                  error);
}

static enum dlb_status build_attention(struct dlb_sequence *s, struct dlb_random *random,
                                       struct dlb_error *error)
{
    enum { Q, K, V, PROJECTIONS };
    const struct dlb_sequence_shape *shape = &s->shape;
    const int64_t rows[] = {shape->batch * shape->answers, shape->batch * shape->steps,
                            shape->batch * shape->steps};
    float *const in[] = {s->asked, s->src, s->src};
    const int64_t answers = rows[Q] * shape->width;
    struct linear linear[PROJECTIONS];
    float *diff[PROJECTIONS], *dst, *diff_dst;
    char text[DLB_GRAPH_SHAPE_MAX];
    enum dlb_status status = DLB_OK;
    for (int i = 0; i < PROJECTIONS && !status; i++) {
        diff[i] = dlb_graph_take(&s->graph, rows[i] * shape->width);
        status = add_linear(s, rows[i], s->features, shape->width, in[i], random,
                            &linear[i], error);
    }
    if (status)
        return status;
    dst = dlb_graph_take(&s->graph, answers);
    diff_dst = dlb_graph_take(&s->graph, answers);
    snprintf(text, sizeof text, "mb%lldhq1sq%lldsk%lldd%lld", (long long)shape->batch,
             (long long)shape->answers, (long long)shape->steps, (long long)shape->width);
    const struct dlb_named named[] = {
        {"q", linear[Q].out}, {"k", linear[K].out},   {"v", linear[V].out},
        {"dst", dst},         {"diff_q", diff[Q]},    {"diff_k", diff[K]},
        {"diff_v", diff[V]},  {"diff_dst", diff_dst}, {NULL, NULL}};
    status = dlb_graph_add(&s->graph, &s->graph.train, "attention", DLB_FWD, text, named,
                           error);
    if (!status)
        status = add_answers(s, dst, diff_dst, random, error);
    if (!status)
        status = dlb_graph_add(&s->graph, &s->graph.backward, "attention", DLB_BWD, text,
                               named, error);
    for (int i = 0; i < PROJECTIONS && !status; i++)
        status = add_linear_back(s, &linear[i], diff[i], NULL, error);
    return status;
}

enum dlb_status dlb_sequence_make(const struct dlb_sequence_shape *shape,
                                  const struct dlb_target *target,
                                  struct dlb_sequence **sequence, struct dlb_error *error)
{
    struct dlb_sequence *s = *sequence = calloc(1, sizeof *s);
    struct dlb_random random = {.seed = dlb_hash(shape->seed, 1)};
    if (!s)
        return dlb_fail(error, DLB_NOMEM, "No memory is left for a network.");
    s->shape = *shape;
    s->graph = (struct dlb_graph){.target = *target, .optimiser = DLB_ADAM};
    s->features = shape->inputs + (recurrent(s) || shape->unplaced ? 0 : POSITIONS);
    s->src = dlb_graph_take(&s->graph, shape->batch * shape->steps * s->features);
    s->asked = dlb_graph_take(&s->graph, shape->batch * shape->answers * s->features);
    s->labels = dlb_graph_take(&s->graph, shape->batch * shape->answers);
    s->loss = dlb_graph_take(&s->graph, 1);
    s->diff_loss = dlb_graph_take(&s->graph, 1);
    enum dlb_status status =
        s->graph.nomem ? dlb_fail(error, DLB_NOMEM, "No memory is left for a network.")
        : recurrent(s) ? build_recurrent(s, &random, error)
                       : build_attention(s, &random, error);
    if (!status) {
        *s->diff_loss = 1;
        return DLB_OK;
    }
    dlb_sequence_release(s);
    *sequence = NULL;
    return status;
}

void dlb_sequence_release(struct dlb_sequence *sequence)
{
    if (!sequence)
        return;
    dlb_graph_release(&sequence->graph);
    free(sequence);
}

int64_t dlb_sequence_parameters(const struct dlb_sequence *sequence)
{
    int64_t n = 0;
    for (int i = 0; i < sequence->graph.parameters - LAST_PARAMETERS; i++)
        n += sequence->graph.parameter[i].n;
    return n;
}

int64_t dlb_sequence_weights(const struct dlb_sequence *sequence, int parameter,
                             float **value, const float **gradient)
{
    *value = NULL;
    if (parameter >= sequence->graph.parameters)
        return 0;
    const struct dlb_parameter *p = &sequence->graph.parameter[parameter];
    *value = p->value;
    *gradient = p->gradient;
    return p->n;
}

/* A step's input with its position behind it. */
static void place(const struct dlb_sequence *s, const float *in, int64_t step, float *out)
{
    memcpy(out, in, (size_t)s->shape.inputs * sizeof *out);
    for (int i = 0; i < POSITIONS && !s->shape.unplaced; i += 2) {
        double angle = (double)step * pow(10000, -(double)i / POSITIONS);
        out[s->shape.inputs + i] = (float)sin(angle);
        out[s->shape.inputs + i + 1] = (float)cos(angle);
    }
}

/* Recurrence takes the batch of a step together, attention the steps of a sequence. */
static void give(struct dlb_sequence *s, const float *src, const float *labels)
{
    const struct dlb_sequence_shape *shape = &s->shape;
    const int64_t N = shape->batch, T = shape->steps, A = shape->answers;
    for (int64_t n = 0; n < N; n++)
        for (int64_t t = 0; t < T; t++) {
            const float *in = src + (n * T + t) * shape->inputs;
            if (recurrent(s)) {
                memcpy(s->src + (t * N + n) * shape->inputs, in,
                       (size_t)shape->inputs * sizeof *in);
                continue;
            }
            place(s, in, t, s->src + (n * T + t) * s->features);
            if (t >= T - A)
                place(s, in, t, s->asked + (n * A + t - (T - A)) * s->features);
        }
    for (int64_t n = 0; n < N; n++)
        for (int64_t a = 0; a < A; a++)
            s->labels[recurrent(s) ? a * N + n : n * A + a] = labels[n * A + a];
}

enum dlb_status dlb_sequence_step(struct dlb_sequence *s, const float *src,
                                  const float *labels, double rate, double *loss,
                                  double *accuracy, struct dlb_error *error)
{
    give(s, src, labels);
    enum dlb_status status = dlb_links_run(&s->graph.train, 0, s->graph.train.n, error);
    *loss = *s->loss;
    const int64_t rows = s->shape.batch * s->shape.answers;
    *accuracy = (double)dlb_rows_right(s->logits, s->labels, rows, s->shape.classes) /
                (double)rows;
    if (!status)
        status = dlb_links_run(&s->graph.backward, 0, s->graph.backward.n, error);
    return status || !(rate > 0) ? status : dlb_graph_update(&s->graph, 0, rate, error);
}
