/*
 * The plain definition of LSTM and GRU (formulas in ops/rnn.h): one row of the minibatch
 * at a time, step by step, everything between the inputs and the outputs in double.
 *
 * Kept tensors are indexed by the position in the sequence, as dst is, in either
 * direction.  NaN and infinities spread through the formulas as IEEE has it: a NaN in src
 * reaches its own row from that step on, and no other row.
 *
 * How far float may be off, with e = 2^-23, G gates and K = slc + dhc:
 *
 *   max( 4 ceil(log2((2G + 1) T)), K / (3 sqrt(dhc)) ) e max(1, |expected|)
 *
 * The first part is what benchdnn allows for a chain of 2G + 1 operations a step, over T
 * steps.  The second is what a sum of K terms may err.  With the dense fill x and h have a
 * variance of at most 1/3 and weights one of 1/(3 dhc), so that the partial sum of a gate
 * has one of k / (9 dhc) after k terms.  Added one by one, each with a rounding of
 * variance (e/2)^2 / 3 relative to the sum so far, they err with a standard deviation of
 * K / (15 sqrt(dhc)) e: the bound is 5 of these.  The worst case, K e/2 sum |x||w|, is
 * hundreds of times as much and would let wrong weights pass.
 * Errors do not grow over steps and layers, as a state depends on the last one with a
 * slope below 1: f or u, about 1/2, and through the gates a matrix of norm 0.6 behind
 * slopes of at most 1/4, or of 1 and then the factor i or 1-u.  With dir-sum two of them
 * meet in dst.
 * Measured: adding one by one in float stays within 0.7 of the bound for K from 2 to 8192,
 * T from 1 to 150, dhc from 1 to 4096; oneDNN, which adds by blocks, within 0.5, and
 * within 0.15 where slc is dhc.
 *
 * Memory: some vectors for one row; when they cannot be had nothing is put.
 */
#include "ops/rnn.h"
#include "reference_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { UPDATE, RESET, CANDIDATE };             /* gates of gru, */
enum { INPUT, FORGET, LSTM_CANDIDATE, LEAVE }; /* and of lstm */

/* One row of the minibatch. */
struct row {
    struct dlb_rnn_shape s;
    void *const *tensor;
    const struct dlb_sink *sink;
    int64_t n;
    double *in;    /* [T][slc]: what the layer reads; from the second on [T][dhc] */
    double *out;   /* [T][dhc]: what it makes */
    double *dst;   /* [T][dlc] */
    double *h, *c; /* [dhc]: the states; c also U_g h + b_h of gru with lbr */
    double *gate;  /* [G][dhc] */
    double *reset; /* [dhc]: r o h */
};

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

/* sum[g,o] += x[i] * weights[i,g,o] for the gates [begin, end). */
static void multiply(const struct dlb_rnn_shape *s, const double *x, int64_t k,
                     const float *weights, int64_t begin, int64_t end, double *sum)
{
    for (int64_t i = 0; i < k; i++)
        for (int64_t go = begin * s->dhc; go < end * s->dhc; go++)
            sum[go] += x[i] * weights[i * s->gates * s->dhc + go];
}

static void lstm_step(struct row *row, const float *weights)
{
    const int64_t dhc = row->s.dhc;
    multiply(&row->s, row->h, dhc, weights, INPUT, LEAVE + 1, row->gate);
    for (int64_t o = 0; o < dhc; o++) {
        double *gate = &row->gate[o];
        gate[INPUT * dhc] = sigmoid(gate[INPUT * dhc]);
        gate[FORGET * dhc] = sigmoid(gate[FORGET * dhc]);
        gate[LSTM_CANDIDATE * dhc] = tanh(gate[LSTM_CANDIDATE * dhc]);
        gate[LEAVE * dhc] = sigmoid(gate[LEAVE * dhc]);
        row->c[o] = gate[FORGET * dhc] * row->c[o] +
                    gate[INPUT * dhc] * gate[LSTM_CANDIDATE * dhc];
        row->h[o] = gate[LEAVE * dhc] * tanh(row->c[o]);
    }
}

/* bias: of this layer and direction; NULL for none. */
static void gru_step(struct row *row, const float *weights, const float *bias)
{
    const struct dlb_rnn_shape *s = &row->s;
    const int64_t dhc = s->dhc;
    double *update = row->gate, *reset = &row->gate[RESET * dhc],
           *candidate = &row->gate[CANDIDATE * dhc];
    multiply(s, row->h, dhc, weights, UPDATE, RESET + 1, row->gate);
    for (int64_t o = 0; o < dhc; o++) {
        update[o] = sigmoid(update[o]);
        reset[o] = sigmoid(reset[o]);
    }
    if (s->lbr) {
        const float *products = weights + CANDIDATE * dhc;
        for (int64_t o = 0; o < dhc; o++)
            row->c[o] = bias ? bias[s->gates * dhc + o] : 0;
        for (int64_t i = 0; i < dhc; i++)
            for (int64_t o = 0; o < dhc; o++)
                row->c[o] += row->h[i] * products[i * s->gates * dhc + o];
        for (int64_t o = 0; o < dhc; o++)
            candidate[o] += reset[o] * row->c[o];
    } else {
        for (int64_t o = 0; o < dhc; o++)
            row->reset[o] = reset[o] * row->h[o];
        multiply(s, row->reset, dhc, weights, CANDIDATE, CANDIDATE + 1, row->gate);
    }
    for (int64_t o = 0; o < dhc; o++) {
        candidate[o] = tanh(candidate[o]);
        row->h[o] = update[o] * row->h[o] + (1 - update[o]) * candidate[o];
    }
}

static void put(const struct row *row, int t, int64_t element, int64_t n,
                const double *value)
{
    for (int64_t i = 0; i < n; i++)
        row->sink->put(row->sink->context, t, element + i, value[i]);
}

/* ld counts layers and directions, t steps: each in [l,d,t,n] holds n values. */
static void keep(const struct row *row, int64_t ld, int64_t t)
{
    const struct dlb_rnn_shape *s = &row->s;
    const int64_t at = (ld * s->t + t) * s->mb + row->n;
    put(row, DLB_RNN_GATES, at * s->gates * s->dhc, s->gates * s->dhc, row->gate);
    put(row, DLB_RNN_STATES, at * s->dhc, s->dhc, row->h);
    if (s->lstm || s->lbr)
        put(row, DLB_RNN_CELLS, at * s->dhc, s->dhc, row->c);
}

static void load_state(const struct row *row, int t, int64_t at, double *state)
{
    const float *given = row->tensor[t];
    for (int64_t o = 0; o < row->s.dhc; o++)
        state[o] = row->s.init ? given[at + o] : 0;
}

static void define_layer(struct row *row, int64_t layer, int64_t direction)
{
    const struct dlb_rnn_shape *s = &row->s;
    const int64_t ld = layer * s->directions + direction, dhc = s->dhc,
                  go = s->gates * dhc;
    const int64_t at = (ld * s->mb + row->n) * dhc;
    const int64_t width = layer ? dhc : s->slc;
    const bool backwards = s->direction == DLB_RNN_R2L || direction == 1;
    const float *weights =
        (const float *)row->tensor[DLB_RNN_WEIGHTS_LAYER] + ld * s->slc * go;
    const float *weights_iter =
        (const float *)row->tensor[DLB_RNN_WEIGHTS_ITER] + ld * dhc * go;
    const float *bias =
        s->bias ? (const float *)row->tensor[DLB_RNN_BIASES] + ld * s->bias_rows * dhc
                : NULL;

    load_state(row, DLB_RNN_SRC_ITER, at, row->h);
    if (s->lstm)
        load_state(row, DLB_RNN_SRC_ITER_C, at, row->c);
    for (int64_t step = 0; step < s->t; step++) {
        int64_t t = backwards ? s->t - 1 - step : step;
        for (int64_t i = 0; i < go; i++)
            row->gate[i] = bias ? bias[i] : 0;
        multiply(s, row->in + t * width, width, weights, 0, s->gates, row->gate);
        if (s->lstm)
            lstm_step(row, weights_iter);
        else
            gru_step(row, weights_iter, bias);
        memcpy(row->out + t * dhc, row->h, (size_t)dhc * sizeof *row->h);
        if (s->train)
            keep(row, ld, t);
    }
    put(row, DLB_RNN_DST_ITER, at, dhc, row->h);
    if (s->lstm)
        put(row, DLB_RNN_DST_ITER_C, at, dhc, row->c);
}

static void define_row(struct row *row)
{
    const struct dlb_rnn_shape *s = &row->s;
    const float *src = row->tensor[DLB_RNN_SRC];
    memset(row->dst, 0, (size_t)(s->t * s->dlc) * sizeof *row->dst);
    for (int64_t d = 0; d < s->directions; d++) {
        for (int64_t t = 0; t < s->t; t++)
            for (int64_t i = 0; i < s->slc; i++)
                row->in[t * s->slc + i] = src[(t * s->mb + row->n) * s->slc + i];
        for (int64_t l = 0; l < s->l; l++) {
            define_layer(row, l, d);
            double *made = row->out;
            row->out = row->in;
            row->in = made;
        }
        double *dst = row->dst + (s->direction == DLB_RNN_CONCAT ? d * s->dhc : 0);
        for (int64_t t = 0; t < s->t; t++)
            for (int64_t o = 0; o < s->dhc; o++)
                dst[t * s->dlc + o] += row->in[t * s->dhc + o];
    }
    for (int64_t t = 0; t < s->t; t++)
        put(row, DLB_RNN_DST, (t * s->mb + row->n) * s->dlc, s->dlc,
            row->dst + t * s->dlc);
}

static void define(const struct dlb_rnn_shape *shape, void *const *tensor, int64_t begin,
                   int64_t end, const struct dlb_sink *sink)
{
    struct row row = {.s = *shape, .tensor = tensor, .sink = sink};
    const int64_t sequence = shape->t * dlb_max(shape->slc, shape->dhc);
    const int64_t room =
        2 * sequence + shape->t * shape->dlc + (shape->gates + 3) * shape->dhc;
    double *memory = malloc((size_t)room * sizeof *memory);
    if (!memory)
        return;
    row.dst = memory + 2 * sequence;
    row.h = row.dst + shape->t * shape->dlc;
    row.c = row.h + shape->dhc;
    row.reset = row.c + shape->dhc;
    row.gate = row.reset + shape->dhc;
    for (row.n = begin; row.n < end; row.n++) {
        row.in = memory;
        row.out = memory + sequence;
        define_row(&row);
    }
    free(memory);
}

static void lstm_define(const struct dlb_problem *problem, void *const *tensor,
                        int64_t begin, int64_t end, const struct dlb_sink *sink)
{
    struct dlb_rnn_shape s;
    dlb_lstm_shape_get(problem, &s);
    define(&s, tensor, begin, end, sink);
}

static void gru_define(const struct dlb_problem *problem, void *const *tensor,
                       int64_t begin, int64_t end, const struct dlb_sink *sink)
{
    struct dlb_rnn_shape s;
    dlb_gru_shape_get(problem, &s);
    define(&s, tensor, begin, end, sink);
}

static int64_t rows(const struct dlb_problem *problem)
{
    return problem->dim[DLB_RNN_MB];
}

/* Absolute, for outputs of magnitude 1; see the head. */
static double bound_of(const struct dlb_rnn_shape *s, int t)
{
    const double steps = 4 * ceil(log2((double)((2 * s->gates + 1) * s->t)));
    const double sums = (double)(s->slc + s->dhc) / (3 * sqrt((double)s->dhc));
    const double joined = t == DLB_RNN_DST && s->direction == DLB_RNN_SUM ? 2 : 1;
    return joined * fmax(steps, sums) * 0x1p-23;
}

static void bound(const struct dlb_rnn_shape *s, const struct dlb_bound_call *call)
{
    const double most = bound_of(s, call->t);
    const float *expected = call->tensor[call->t];
    for (int64_t i = call->begin; i < call->end; i++)
        call->bound[i - call->begin] = (float)(most * fmax(1, fabs((double)expected[i])));
}

static void lstm_bound(const struct dlb_bound_call *call)
{
    struct dlb_rnn_shape s;
    dlb_lstm_shape_get(call->problem, &s);
    bound(&s, call);
}

static void gru_bound(const struct dlb_bound_call *call)
{
    struct dlb_rnn_shape s;
    dlb_gru_shape_get(call->problem, &s);
    bound(&s, call);
}

static enum dlb_status lstm_naive(const struct dlb_problem *problem, int threads,
                                  struct dlb_plan **plan, struct dlb_error *error)
{
    return dlb_naive_make(&dlb_reference_lstm, problem, threads, plan, error);
}

static enum dlb_status gru_naive(const struct dlb_problem *problem, int threads,
                                 struct dlb_plan **plan, struct dlb_error *error)
{
    return dlb_naive_make(&dlb_reference_gru, problem, threads, plan, error);
}

const struct dlb_reference dlb_reference_lstm = {
    .op = &dlb_op_lstm,
    .slices = rows,
    .define = lstm_define,
    .bound = lstm_bound,
    .naive = lstm_naive,
    .onednn = dlb_lstm_onednn,
};
const struct dlb_reference dlb_reference_gru = {
    .op = &dlb_op_gru,
    .slices = rows,
    .define = gru_define,
    .bound = gru_bound,
    .naive = gru_naive,
    .onednn = dlb_gru_onednn,
};
