/*
 * Forward as the formulas of ops/rnn.h stand there; backward as the chain rule gives it,
 * from the last step on the way to the first.
 */
#include "rnn_row.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { UPDATE, RESET, CANDIDATE };             /* gates of gru, */
enum { INPUT, FORGET, LSTM_CANDIDATE, LEAVE }; /* of lstm */

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

/* Of the functions, by their values. */
static double sigmoid_slope(double y)
{
    return y * (1 - y);
}

static double tanh_slope(double y)
{
    return 1 - y * y;
}

bool dlb_rnn_row_make(struct dlb_rnn_row *row, const struct dlb_rnn_shape *s,
                      void *const *tensor)
{
    const int64_t states = s->l * (s->t + 1) * s->dhc, gates = s->gates * s->dhc,
                  wide = dlb_max(s->slc, s->dhc);
    struct {
        double **array;
        int64_t elements;
    } arrays[] = {
        {&row->gate, s->l * s->t * gates},
        {&row->h, states},
        {&row->c, states},
        {&row->src, s->t * s->slc},
        {&row->reset, s->dhc},
        {&row->diff, s->t * wide},
        {&row->diff_h, s->l * s->dhc},
        {&row->diff_c, s->l * s->dhc},
        {&row->da, gates},
        {&row->du, gates},
        {&row->previous, s->dhc},
    };
    int64_t room = 0;
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        room += arrays[i].elements;
    *row = (struct dlb_rnn_row){.s = *s, .tensor = tensor};
    double *at = row->memory = malloc((size_t)room * sizeof *row->memory);
    for (size_t i = 0; at && i < sizeof arrays / sizeof *arrays; i++) {
        *arrays[i].array = at;
        at += arrays[i].elements;
    }
    return row->memory;
}

void dlb_rnn_row_release(struct dlb_rnn_row *row)
{
    free(row->memory);
    *row = (struct dlb_rnn_row){0};
}

/* What one layer of the row's direction has. */
struct layer {
    const struct dlb_rnn_row *row;
    int64_t l, at; /* at: l and direction in one */
    int64_t width; /* of in */
    const double *in;
    const float *weights_layer, *weights_iter, *bias; /* bias: NULL for none */
};

static struct layer layer_make(const struct dlb_rnn_row *row, int64_t l)
{
    const struct dlb_rnn_shape *s = &row->s;
    struct layer layer = {
        .row = row,
        .l = l,
        .at = l * s->directions + row->direction,
        .width = l ? s->dhc : s->slc,
        .in = l ? dlb_rnn_row_h(row, l - 1, 0) : row->src,
    };
    const int64_t go = s->gates * s->dhc;
    layer.weights_layer =
        (const float *)row->tensor[DLB_RNN_WEIGHTS_LAYER] + layer.at * s->slc * go;
    layer.weights_iter =
        (const float *)row->tensor[DLB_RNN_WEIGHTS_ITER] + layer.at * s->dhc * go;
    if (s->bias)
        layer.bias =
            (const float *)row->tensor[DLB_RNN_BIASES] + layer.at * s->bias_rows * s->dhc;
    return layer;
}

/* sum[g,o] += x[i] * weights[i,g,o] for the gates [begin, end). */
static void multiply(const struct dlb_rnn_shape *s, const double *x, int64_t k,
                     const float *weights, int64_t begin, int64_t end, double *sum)
{
    for (int64_t i = 0; i < k; i++)
        for (int64_t go = begin * s->dhc; go < end * s->dhc; go++)
            sum[go] += x[i] * weights[i * s->gates * s->dhc + go];
}

static void lstm_step(const struct layer *layer, const double *before_h,
                      const double *before_c, double *gate, double *h, double *c)
{
    const struct dlb_rnn_shape *s = &layer->row->s;
    const int64_t dhc = s->dhc;
    multiply(s, before_h, dhc, layer->weights_iter, INPUT, LEAVE + 1, gate);
    for (int64_t o = 0; o < dhc; o++, gate++) {
        gate[INPUT * dhc] = sigmoid(gate[INPUT * dhc]);
        gate[FORGET * dhc] = sigmoid(gate[FORGET * dhc]);
        gate[LSTM_CANDIDATE * dhc] = tanh(gate[LSTM_CANDIDATE * dhc]);
        gate[LEAVE * dhc] = sigmoid(gate[LEAVE * dhc]);
        c[o] = gate[FORGET * dhc] * before_c[o] +
               gate[INPUT * dhc] * gate[LSTM_CANDIDATE * dhc];
        h[o] = gate[LEAVE * dhc] * tanh(c[o]);
    }
}

static void gru_step(const struct layer *layer, const double *before, double *update,
                     double *h, double *product)
{
    const struct dlb_rnn_shape *s = &layer->row->s;
    const int64_t dhc = s->dhc;
    double *reset = &update[RESET * dhc], *candidate = &update[CANDIDATE * dhc];
    multiply(s, before, dhc, layer->weights_iter, UPDATE, RESET + 1, update);
    for (int64_t o = 0; o < dhc; o++) {
        update[o] = sigmoid(update[o]);
        reset[o] = sigmoid(reset[o]);
    }
    if (s->lbr) {
        const float *weights = layer->weights_iter + CANDIDATE * dhc;
        for (int64_t o = 0; o < dhc; o++)
            product[o] = layer->bias ? layer->bias[s->gates * dhc + o] : 0;
        for (int64_t i = 0; i < dhc; i++)
            for (int64_t o = 0; o < dhc; o++)
                product[o] += before[i] * weights[i * s->gates * dhc + o];
        for (int64_t o = 0; o < dhc; o++)
            candidate[o] += reset[o] * product[o];
    } else {
        for (int64_t o = 0; o < dhc; o++)
            layer->row->reset[o] = reset[o] * before[o];
        multiply(s, layer->row->reset, dhc, layer->weights_iter, CANDIDATE, CANDIDATE + 1,
                 update);
    }
    for (int64_t o = 0; o < dhc; o++) {
        candidate[o] = tanh(candidate[o]);
        h[o] = update[o] * before[o] + (1 - update[o]) * candidate[o];
    }
}

static void vanilla_step(const struct layer *layer, const double *before, double *sum,
                         double *h)
{
    const struct dlb_rnn_shape *s = &layer->row->s;
    multiply(s, before, s->dhc, layer->weights_iter, 0, 1, sum);
    for (int64_t o = 0; o < s->dhc; o++) {
        if (!s->relu)
            sum[o] = tanh(sum[o]);
        else if (sum[o] < 0)
            sum[o] = 0;
        h[o] = sum[o];
    }
}

static void load_state(const struct layer *layer, int t, double *state)
{
    const struct dlb_rnn_shape *s = &layer->row->s;
    const float *given = layer->row->tensor[t];
    const int64_t at = (layer->at * s->mb + layer->row->n) * s->dhc;
    for (int64_t o = 0; o < s->dhc; o++)
        state[o] = s->init ? given[at + o] : 0;
}

static void layer_forward(const struct layer *layer)
{
    const struct dlb_rnn_row *row = layer->row;
    const struct dlb_rnn_shape *s = &row->s;
    const int64_t l = layer->l, go = s->gates * s->dhc;
    load_state(layer, DLB_RNN_SRC_ITER, dlb_rnn_row_h(row, l, DLB_RNN_BEFORE));
    if (s->lstm)
        load_state(layer, DLB_RNN_SRC_ITER_C, dlb_rnn_row_c(row, l, DLB_RNN_BEFORE));
    for (int64_t step = 0; step < s->t; step++) {
        int64_t t = dlb_rnn_row_time(row, step), before = dlb_rnn_row_time(row, step - 1);
        double *gate = dlb_rnn_row_gate(row, l, t), *h = dlb_rnn_row_h(row, l, t),
               *c = dlb_rnn_row_c(row, l, t);
        const double *before_h = dlb_rnn_row_h(row, l, before);
        for (int64_t i = 0; i < go; i++)
            gate[i] = layer->bias ? layer->bias[i] : 0;
        multiply(s, layer->in + t * layer->width, layer->width, layer->weights_layer, 0,
                 s->gates, gate);
        if (s->lstm)
            lstm_step(layer, before_h, dlb_rnn_row_c(row, l, before), gate, h, c);
        else if (s->gates > 1)
            gru_step(layer, before_h, gate, h, c);
        else
            vanilla_step(layer, before_h, gate, h);
    }
}

void dlb_rnn_row_forward(struct dlb_rnn_row *row, int64_t n, int64_t direction)
{
    const struct dlb_rnn_shape *s = &row->s;
    const float *src = row->tensor[DLB_RNN_SRC];
    row->n = n;
    row->direction = direction;
    for (int64_t t = 0; t < s->t; t++)
        for (int64_t i = 0; i < s->slc; i++)
            row->src[t * s->slc + i] = src[(t * s->mb + n) * s->slc + i];
    for (int64_t l = 0; l < s->l; l++) {
        struct layer layer = layer_make(row, l);
        layer_forward(&layer);
    }
}

/* diff[i] = sum of d[g,o] * weights[i,g,o] over the gates [begin, end), or added to it. */
static void multiply_back(const struct dlb_rnn_shape *s, const double *d, int64_t k,
                          const float *weights, int64_t begin, int64_t end, bool add,
                          double *diff)
{
    for (int64_t i = 0; i < k; i++) {
        double sum = add ? diff[i] : 0;
        for (int64_t go = begin * s->dhc; go < end * s->dhc; go++)
            sum += d[go] * weights[i * s->gates * s->dhc + go];
        diff[i] = sum;
    }
}

/* sum[i,g,o] += x[i] * d[g,o] for the gates [begin, end). */
static void add_products(const struct dlb_rnn_shape *s, const double *x, int64_t k,
                         const double *d, int64_t begin, int64_t end, double *sum)
{
    for (int64_t i = 0; i < k; i++)
        for (int64_t go = begin * s->dhc; go < end * s->dhc; go++)
            sum[i * s->gates * s->dhc + go] += x[i] * d[go];
}

/* From diff_h and diff_c of a step's states to da, du and what the states before get
 * beside the products: previous, and diff_c in place. */
static void lstm_step_back(const struct layer *layer, int64_t t, int64_t before)
{
    const struct dlb_rnn_row *row = layer->row;
    const int64_t dhc = row->s.dhc;
    const double *gate = dlb_rnn_row_gate(row, layer->l, t),
                 *c = dlb_rnn_row_c(row, layer->l, t),
                 *before_c = dlb_rnn_row_c(row, layer->l, before);
    double *diff_h = row->diff_h + layer->l * dhc, *diff_c = row->diff_c + layer->l * dhc;
    for (int64_t o = 0; o < dhc; o++) {
        const double input = gate[INPUT * dhc + o], forget = gate[FORGET * dhc + o],
                     candidate = gate[LSTM_CANDIDATE * dhc + o],
                     leave = gate[LEAVE * dhc + o], squashed = tanh(c[o]);
        double *da = row->da + o;
        diff_c[o] += diff_h[o] * leave * tanh_slope(squashed);
        da[INPUT * dhc] = diff_c[o] * candidate * sigmoid_slope(input);
        da[FORGET * dhc] = diff_c[o] * before_c[o] * sigmoid_slope(forget);
        da[LSTM_CANDIDATE * dhc] = diff_c[o] * input * tanh_slope(candidate);
        da[LEAVE * dhc] = diff_h[o] * squashed * sigmoid_slope(leave);
        diff_c[o] *= forget;
        row->previous[o] = 0;
    }
    memcpy(row->du, row->da, (size_t)(row->s.gates * dhc) * sizeof *row->du);
}

static void gru_step_back(const struct layer *layer, int64_t t, int64_t before)
{
    const struct dlb_rnn_row *row = layer->row;
    const struct dlb_rnn_shape *s = &row->s;
    const int64_t dhc = s->dhc;
    const double *update = dlb_rnn_row_gate(row, layer->l, t),
                 *reset = update + RESET * dhc, *candidate = update + CANDIDATE * dhc,
                 *product = dlb_rnn_row_c(row, layer->l, t),
                 *before_h = dlb_rnn_row_h(row, layer->l, before);
    const double *diff_h = row->diff_h + layer->l * dhc;
    double *da = row->da;
    for (int64_t o = 0; o < dhc; o++) {
        da[UPDATE * dhc + o] =
            diff_h[o] * (before_h[o] - candidate[o]) * sigmoid_slope(update[o]);
        da[CANDIDATE * dhc + o] = diff_h[o] * (1 - update[o]) * tanh_slope(candidate[o]);
        row->previous[o] = diff_h[o] * update[o];
    }
    /* Of r o h, for which reset has room. */
    if (!s->lbr)
        multiply_back(s, da, dhc, layer->weights_iter, CANDIDATE, CANDIDATE + 1, false,
                      row->reset);
    for (int64_t o = 0; o < dhc; o++) {
        double of_reset =
            s->lbr ? da[CANDIDATE * dhc + o] * product[o] : row->reset[o] * before_h[o];
        da[RESET * dhc + o] = of_reset * sigmoid_slope(reset[o]);
        if (!s->lbr)
            row->previous[o] += row->reset[o] * reset[o];
    }
    memcpy(row->du, da, (size_t)(s->gates * dhc) * sizeof *row->du);
    for (int64_t o = 0; s->lbr && o < dhc; o++)
        row->du[CANDIDATE * dhc + o] *= reset[o];
}

static void vanilla_step_back(const struct layer *layer, int64_t t)
{
    const struct dlb_rnn_row *row = layer->row;
    const double *h = dlb_rnn_row_h(row, layer->l, t),
                 *diff_h = row->diff_h + layer->l * row->s.dhc;
    for (int64_t o = 0; o < row->s.dhc; o++) {
        double slope = row->s.relu ? !(h[o] <= 0) : tanh_slope(h[o]);
        row->da[o] = row->du[o] = diff_h[o] * slope;
        row->previous[o] = 0;
    }
}

static void add_to_sums(const struct layer *layer, int64_t t, int64_t before,
                        const struct dlb_rnn_sums *sums)
{
    const struct dlb_rnn_row *row = layer->row;
    const struct dlb_rnn_shape *s = &row->s;
    const int64_t dhc = s->dhc, go = s->gates * dhc,
                  linear = s->gates - s->plain; /* gates that multiply h itself */
    const double *before_h = dlb_rnn_row_h(row, layer->l, before);
    double *of_iter = sums->weights_iter + layer->at * dhc * go,
           *of_bias = sums->bias + layer->at * s->bias_rows * dhc;
    add_products(s, layer->in + t * layer->width, layer->width, row->da, 0, s->gates,
                 sums->weights_layer + layer->at * s->slc * go);
    add_products(s, before_h, dhc, row->du, 0, linear, of_iter);
    if (s->plain) {
        const double *reset = dlb_rnn_row_gate(row, layer->l, t) + RESET * dhc;
        for (int64_t o = 0; o < dhc; o++)
            row->reset[o] = reset[o] * before_h[o];
        add_products(s, row->reset, dhc, row->du, linear, s->gates, of_iter);
    }
    for (int64_t i = 0; s->bias && i < go; i++)
        of_bias[i] += row->da[i];
    for (int64_t o = 0; s->bias && s->lbr && o < dhc; o++)
        of_bias[go + o] += row->du[CANDIDATE * dhc + o];
}

static void layer_backward(const struct layer *layer, const struct dlb_rnn_sums *sums)
{
    const struct dlb_rnn_row *row = layer->row;
    const struct dlb_rnn_shape *s = &row->s;
    const int64_t dhc = s->dhc, wide = dlb_max(s->slc, dhc),
                  at = (layer->at * s->mb + row->n) * dhc;
    const float *last_h = (const float *)row->tensor[DLB_RNN_DIFF_DST_ITER] + at,
                *last_c = (const float *)row->tensor[DLB_RNN_DIFF_DST_ITER_C] + at;
    double *diff_h = row->diff_h + layer->l * dhc, *diff_c = row->diff_c + layer->l * dhc;
    for (int64_t o = 0; o < dhc; o++) {
        diff_h[o] = last_h[o];
        diff_c[o] = s->lstm ? last_c[o] : 0;
    }
    for (int64_t step = s->t - 1; step >= 0; step--) {
        int64_t t = dlb_rnn_row_time(row, step), before = dlb_rnn_row_time(row, step - 1);
        double *diff = row->diff + t * wide;
        for (int64_t o = 0; o < dhc; o++)
            diff_h[o] += diff[o];
        if (s->lstm)
            lstm_step_back(layer, t, before);
        else if (s->gates > 1)
            gru_step_back(layer, t, before);
        else
            vanilla_step_back(layer, t);
        if (sums)
            add_to_sums(layer, t, before, sums);
        multiply_back(s, row->da, layer->width, layer->weights_layer, 0, s->gates, false,
                      diff);
        multiply_back(s, row->du, dhc, layer->weights_iter, 0, s->gates - s->plain, true,
                      row->previous);
        memcpy(diff_h, row->previous, (size_t)dhc * sizeof *diff_h);
    }
}

void dlb_rnn_row_backward(struct dlb_rnn_row *row, const struct dlb_rnn_sums *sums)
{
    const struct dlb_rnn_shape *s = &row->s;
    const int64_t wide = dlb_max(s->slc, s->dhc),
                  first = s->direction == DLB_RNN_CONCAT ? row->direction * s->dhc : 0;
    const float *diff = row->tensor[DLB_RNN_DIFF_DST];
    for (int64_t t = 0; t < s->t; t++)
        for (int64_t o = 0; o < s->dhc; o++)
            row->diff[t * wide + o] = diff[(t * s->mb + row->n) * s->dlc + first + o];
    for (int64_t l = s->l; l-- > 0;) {
        struct layer layer = layer_make(row, l);
        layer_backward(&layer, sums);
    }
}
