/*
 * The plain definition of LSTM, GRU and RNN, made of its rows (rnn_row.h): everything
 * between the inputs and the outputs in double.
 *
 * Kept tensors are indexed by the position in the sequence, as dst is, in either
 * direction.  NaN and infinities spread through the formulas as IEEE has it: a NaN in src
 * reaches its own row from that step on, and no other row.
 *
 * Slices: rows of the minibatch.  Backward slice 0 is the gradients of weights and biases,
 * to which all rows contribute, and slice 1 + n is row n's share of all else.
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
 * Backward, of the gradients of src and of initial states:
 *
 *   ( the same + G sqrt(dhc) / 8 ) e max(1, |expected|)
 *
 * since gates err as above, and with them the slopes that a gradient is multiplied by; and
 * a gradient is a sum of G dhc terms, of which a partial one has a variance of at most
 * k / (6 dhc): gradients of a state have one of about 1/2, those of gates' sums less.  Of
 * weights and biases, sums over M = T mb rows:
 *
 *   ( that sqrt(M) + 3/4 M ) e max(1, |expected| / sqrt(M))
 *
 * for the errors of the terms, of either sign, and for adding M of them one by one, partial
 * sums having a variance of at most k / 2.  With relu states and gradients may double from
 * layer to layer: the bound does, too.
 * Measured, for T up to 150, dhc up to 1024, mb up to 64: native kernels, which add one by
 * one, and oneDNN stay within 0.5 of the bound.
 *
 * Memory: some vectors for one row, and the sums of slice 0; when they cannot be had
 * nothing is put.
 */
#include "reference_internal.h"
#include "rnn_row.h"

#include <math.h>
#include <stdlib.h>

static void put(const struct dlb_sink *sink, int t, int64_t element, int64_t n,
                const double *value)
{
    for (int64_t i = 0; i < n; i++)
        sink->put(sink->context, t, element + i, value[i]);
}

/* Element of a row's first value in [l,d,n,o] and, per step, in [l,d,t,n,o]. */
static int64_t iter_element(const struct dlb_rnn_row *row, int64_t l)
{
    const struct dlb_rnn_shape *s = &row->s;
    return ((l * s->directions + row->direction) * s->mb + row->n) * s->dhc;
}

static int64_t step_element(const struct dlb_rnn_row *row, int64_t l, int64_t t)
{
    const struct dlb_rnn_shape *s = &row->s;
    return (((l * s->directions + row->direction) * s->t + t) * s->mb + row->n) * s->dhc;
}

static void put_layer(const struct dlb_rnn_row *row, int64_t l,
                      const struct dlb_sink *sink)
{
    const struct dlb_rnn_shape *s = &row->s;
    const int64_t last = dlb_rnn_row_time(row, s->t - 1), dhc = s->dhc;
    for (int64_t t = 0; s->train && t < s->t; t++) {
        int64_t at = step_element(row, l, t);
        if (s->gates > 1)
            put(sink, DLB_RNN_GATES, at * s->gates, s->gates * dhc,
                dlb_rnn_row_gate(row, l, t));
        put(sink, DLB_RNN_STATES, at, dhc, dlb_rnn_row_h(row, l, t));
        if (s->lstm || s->lbr)
            put(sink, DLB_RNN_CELLS, at, dhc, dlb_rnn_row_c(row, l, t));
    }
    put(sink, DLB_RNN_DST_ITER, iter_element(row, l), dhc, dlb_rnn_row_h(row, l, last));
    if (s->lstm)
        put(sink, DLB_RNN_DST_ITER_C, iter_element(row, l), dhc,
            dlb_rnn_row_c(row, l, last));
}

/* joined: [max(T dlc, T slc)], the two directions' share of the row's output. */
static void forward(struct dlb_rnn_row *row, int64_t n, double *joined,
                    const struct dlb_sink *sink)
{
    const struct dlb_rnn_shape *s = &row->s;
    const bool concat = s->direction == DLB_RNN_CONCAT;
    for (int64_t d = 0; d < s->directions; d++) {
        dlb_rnn_row_forward(row, n, d);
        for (int64_t l = 0; l < s->l; l++)
            put_layer(row, l, sink);
        for (int64_t t = 0; t < s->t; t++) {
            const double *h = dlb_rnn_row_h(row, s->l - 1, t);
            double *dst = joined + t * s->dlc + (concat ? d * s->dhc : 0);
            for (int64_t o = 0; o < s->dhc; o++)
                dst[o] = d && !concat ? dst[o] + h[o] : h[o];
        }
    }
    for (int64_t t = 0; t < s->t; t++)
        put(sink, DLB_RNN_DST, (t * s->mb + n) * s->dlc, s->dlc, joined + t * s->dlc);
}

/* sink NULL: for the sums only. */
static void backward(struct dlb_rnn_row *row, int64_t n, double *joined,
                     const struct dlb_rnn_sums *sums, const struct dlb_sink *sink)
{
    const struct dlb_rnn_shape *s = &row->s;
    const int64_t wide = dlb_max(s->slc, s->dhc);
    for (int64_t d = 0; d < s->directions; d++) {
        dlb_rnn_row_forward(row, n, d);
        dlb_rnn_row_backward(row, sums);
        for (int64_t t = 0; t < s->t; t++)
            for (int64_t i = 0; i < s->slc; i++) {
                double *diff = &joined[t * s->slc + i];
                *diff = (d ? *diff : 0) + row->diff[t * wide + i];
            }
        for (int64_t l = 0; sink && s->init && l < s->l; l++) {
            put(sink, DLB_RNN_DIFF_SRC_ITER, iter_element(row, l), s->dhc,
                row->diff_h + l * s->dhc);
            if (s->lstm)
                put(sink, DLB_RNN_DIFF_SRC_ITER_C, iter_element(row, l), s->dhc,
                    row->diff_c + l * s->dhc);
        }
    }
    for (int64_t t = 0; sink && t < s->t; t++)
        put(sink, DLB_RNN_DIFF_SRC, (t * s->mb + n) * s->slc, s->slc,
            joined + t * s->slc);
}

/* Rows [begin, end), and the sums over all rows where all says so. */
static void backward_all(struct dlb_rnn_row *row, double *joined, bool all, int64_t begin,
                         int64_t end, const struct dlb_sink *sink)
{
    const struct dlb_rnn_shape *s = &row->s;
    const int64_t layers = s->l * s->directions, go = s->gates * s->dhc;
    const int64_t elements[] = {layers * s->slc * go, layers * s->dhc * go,
                                layers * s->bias_rows * s->dhc};
    struct dlb_rnn_sums sums = {0};
    double **sum[] = {&sums.weights_layer, &sums.weights_iter, &sums.bias};
    bool room = true;
    for (int i = 0; all && i < 3; i++) {
        *sum[i] = calloc((size_t)elements[i] + 1, sizeof **sum[i]);
        room = room && *sum[i];
    }
    for (int64_t n = all ? 0 : begin; room && n < (all ? s->mb : end); n++)
        backward(row, n, joined, all ? &sums : NULL, n >= begin && n < end ? sink : NULL);
    for (int i = 0; all && i < 3; i++) {
        if (room)
            put(sink, DLB_RNN_DIFF_WEIGHTS_LAYER + i, 0, elements[i], *sum[i]);
        free(*sum[i]);
    }
}

static void define(const struct dlb_rnn_shape *s, void *const *tensor, int64_t begin,
                   int64_t end, const struct dlb_sink *sink)
{
    struct dlb_rnn_row row = {0};
    double *joined = malloc((size_t)(s->t * dlb_max(s->slc, s->dlc)) * sizeof *joined);
    if (joined && dlb_rnn_row_make(&row, s, tensor)) {
        if (s->back)
            backward_all(&row, joined, begin == 0, dlb_max(0, begin - 1), end - 1, sink);
        for (int64_t n = begin; !s->back && n < end; n++)
            forward(&row, n, joined, sink);
    }
    dlb_rnn_row_release(&row);
    free(joined);
}

static int64_t slices(const struct dlb_problem *problem)
{
    return problem->dim[DLB_RNN_MB] + (problem->pass == DLB_BWD);
}

/* In e, for outputs of magnitude 1; see the head. */
static double forward_bound(const struct dlb_rnn_shape *s)
{
    const double steps = 4 * ceil(log2((double)((2 * s->gates + 1) * s->t)));
    const double sums = (double)(s->slc + s->dhc) / (3 * sqrt((double)s->dhc));
    return fmax(steps, sums);
}

/* The same of gradients, but for those of weights and biases. */
static double backward_bound(const struct dlb_rnn_shape *s)
{
    return forward_bound(s) + (double)s->gates * sqrt((double)s->dhc) / 8;
}

static void bound(const struct dlb_rnn_shape *s, const struct dlb_bound_call *call)
{
    const bool sum = s->direction == DLB_RNN_SUM && call->t == DLB_RNN_DST;
    const bool both = s->back && s->directions == 2 && call->t == DLB_RNN_DIFF_SRC;
    const bool of_weights = s->back && call->t >= DLB_RNN_DIFF_WEIGHTS_LAYER &&
                            call->t <= DLB_RNN_DIFF_BIASES;
    const double terms = of_weights ? (double)(s->t * s->mb) : 1, scale = sqrt(terms);
    double most =
        (s->back ? backward_bound(s) : forward_bound(s)) * (sum || both ? 2 : 1);
    if (of_weights)
        most = most * scale + 0.75 * terms;
    if (s->back && s->relu)
        most *= pow(2, (double)s->l - 1);
    const float *expected = call->tensor[call->t];
    for (int64_t i = call->begin; i < call->end; i++)
        call->bound[i - call->begin] =
            (float)(most * 0x1p-23 * fmax(1, fabs((double)expected[i]) / scale));
}

/*
 * The functions of one operator's table.
 */
#define OPERATOR_FUNCTIONS(name)                                                         \
    static void name##_define(const struct dlb_problem *problem, void *const *tensor,    \
                              int64_t begin, int64_t end, const struct dlb_sink *sink)   \
    {                                                                                    \
        struct dlb_rnn_shape s;                                                          \
        dlb_##name##_shape_get(problem, &s);                                             \
        define(&s, tensor, begin, end, sink);                                            \
    }                                                                                    \
    static void name##_bound(const struct dlb_bound_call *call)                          \
    {                                                                                    \
        struct dlb_rnn_shape s;                                                          \
        dlb_##name##_shape_get(call->problem, &s);                                       \
        bound(&s, call);                                                                 \
    }                                                                                    \
    static enum dlb_status name##_naive(const struct dlb_problem *problem, int threads,  \
                                        struct dlb_plan **plan, struct dlb_error *error) \
    {                                                                                    \
        return dlb_naive_make(&dlb_reference_##name, problem, threads, plan, error);     \
    }                                                                                    \
    const struct dlb_reference dlb_reference_##name = {                                  \
        .op = &dlb_op_##name,                                                            \
        .slices = slices,                                                                \
        .define = name##_define,                                                         \
        .bound = name##_bound,                                                           \
        .naive = name##_naive,                                                           \
        .onednn = dlb_##name##_onednn,                                                   \
    };

OPERATOR_FUNCTIONS(lstm)
OPERATOR_FUNCTIONS(gru)
OPERATOR_FUNCTIONS(rnn)
