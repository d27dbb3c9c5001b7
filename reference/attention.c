/*
 * The plain definition of attention (formula in ops/attention.h): scores, softmax with
 * the row's maximum subtracted, weighted sum, all in double.
 *
 * A key that a causal mask hides is not looked at.  A key that a mask buffer hides by
 * -inf has the weight 0, which does not hide a NaN or an infinity in its value, unless
 * the query sees no key at all.
 */
#include "ops/attention.h"
#include "reference_internal.h"

#include <math.h>
#include <stdlib.h>

struct operands {
    struct dlb_attention_shape s;
    const float *q, *k, *v, *mask; /* mask NULL when there is none */
};

/* One query of one head: n, h and i are those of slice number (n hq + h) sq + i. */
struct row {
    int64_t n, h, i, keys;
};

static struct operands operands_get(const struct dlb_problem *problem,
                                    void *const *tensor)
{
    struct operands o = {.q = tensor[DLB_ATTENTION_Q],
                         .k = tensor[DLB_ATTENTION_K],
                         .v = tensor[DLB_ATTENTION_V]};
    dlb_attention_shape_get(problem, &o.s);
    if (o.s.mask == DLB_ATTENTION_BUFFER)
        o.mask = tensor[DLB_ATTENTION_MASK_BUFFER];
    return o;
}

static struct row row_of(const struct dlb_attention_shape *s, int64_t slice)
{
    struct row row = {slice / s->sq / s->hq, slice / s->sq % s->hq, slice % s->sq, 0};
    row.keys = dlb_attention_keys(s, row.i);
    return row;
}

static int64_t attention_slices(const struct dlb_problem *problem)
{
    struct dlb_attention_shape s;
    dlb_attention_shape_get(problem, &s);
    return s.mb * s.hq * s.sq;
}

/* The scores of a row; returns the largest, NaN when there is one. */
static double define_scores(const struct operands *o, const struct row *row,
                            double *score)
{
    const struct dlb_attention_shape *s = &o->s;
    const float *q = o->q + ((row->n * s->sq + row->i) * s->hq + row->h) * s->d;
    double most = -INFINITY;
    for (int64_t j = 0; j < row->keys; j++) {
        const float *k = o->k + ((row->n * s->sk + j) * s->hk + row->h / s->group) * s->d;
        double sum = 0;
        for (int64_t c = 0; c < s->d; c++)
            sum += (double)q[c] * k[c];
        score[j] = sum / sqrt((double)s->d);
        if (o->mask)
            score[j] += o->mask[(row->n * s->sq + row->i) * s->sk + j];
        if (!(score[j] <= most))
            most = score[j];
        if (isnan(most))
            break;
    }
    return most;
}

static void put_logsum(const struct operands *o, const struct row *row, double value,
                       const struct dlb_sink *sink)
{
    if (o->s.train)
        sink->put(sink->context, DLB_ATTENTION_LOGSUM,
                  (row->n * o->s.hq + row->h) * o->s.sq + row->i, value);
}

/* The same value for the whole row. */
static void put_row(const struct operands *o, const struct row *row, double value,
                    const struct dlb_sink *sink)
{
    int64_t first = ((row->n * o->s.sq + row->i) * o->s.hq + row->h) * o->s.dv;
    for (int64_t c = 0; c < o->s.dv; c++)
        sink->put(sink->context, DLB_ATTENTION_DST, first + c, value);
}

static void define_row(const struct operands *o, const struct row *row, double *score,
                       double *sum, const struct dlb_sink *sink)
{
    const struct dlb_attention_shape *s = &o->s;
    double most = define_scores(o, row, score), total = 0;
    if (isnan(most) || most == -INFINITY) {
        put_row(o, row, isnan(most) ? most : 0, sink);
        put_logsum(o, row, most, sink);
        return;
    }
    for (int64_t c = 0; c < s->dv; c++)
        sum[c] = 0;
    for (int64_t j = 0; j < row->keys; j++) {
        const float *v =
            o->v + ((row->n * s->sk + j) * s->hk + row->h / s->group) * s->dv;
        double weight = exp(score[j] - most);
        total += weight;
        for (int64_t c = 0; c < s->dv; c++)
            sum[c] += weight * v[c];
    }
    int64_t first = ((row->n * s->sq + row->i) * s->hq + row->h) * s->dv;
    for (int64_t c = 0; c < s->dv; c++)
        sink->put(sink->context, DLB_ATTENTION_DST, first + c, sum[c] / total);
    put_logsum(o, row, most + log(total), sink);
}

static void attention_define(const struct dlb_problem *problem, void *const *tensor,
                             int64_t begin, int64_t end, const struct dlb_sink *sink)
{
    struct operands o = operands_get(problem, tensor);
    double *memory = malloc((size_t)(o.s.sk + o.s.dv) * sizeof *memory);
    for (int64_t slice = begin; slice < end; slice++) {
        struct row row = row_of(&o.s, slice);
        if (memory)
            define_row(&o, &row, memory, memory + o.s.sk, sink);
        else /* nothing agrees with NaN */
            put_row(&o, &row, NAN, sink);
    }
    free(memory);
}

/*
 * A score that is off by e makes its weight exp(e) times too large.  What is common to
 * all keys of a row cancels; with M = sum p|v| over its K keys
 *
 *   |error of dst| <= |sum p_j (e_j - e) v_j| + the weighted sum's own error
 *                     + |dst| times the relative error of the sum of the weights.
 *
 * The worst case of sums of n terms, n u, is far beyond what happens: rounding errors are
 * nearly independent, and such sums err by about sqrt(n) u (Higham & Mary, "A new approach
 * to probabilistic rounding error analysis", 2019).  One sigma of what the dense fill
 * gives, in eps = 2u:
 *
 *   e         the partial sums of a score of d products walk at random up to the spread
 *             of scores, 4/3: u 4/3 sqrt(d/6) = 0.27 eps sqrt(d); e_j - e_k: 0.39.  Over
 *             many keys the e_j average out: some K/6 keys share the weight, so that from
 *             K = 64 on the tail shrinks as sqrt(64/K)
 *   sums      of K weights and K products: 0.17 eps sqrt(K) of their value each
 *   the rest  scale, mask, difference to the maximum, exp of up to 4 ulp, division:
 *             6 eps together, at most
 *
 * The first two count 4.5 times.  Measured for loops in float that sum one term after
 * another, the largest of up to 1e6 elements for each d of 1 to 256 by K of 1 to 4096, as
 * parts of this bound: 0.3 to 0.7, values of one sign up to 0.94; logsum 0.1 to 0.8; oneDNN
 * up to 0.5.  In eps M: 2.6 to 4 (d 1), 11 (d 64), 25 (d 256).
 */
static double row_bound(const struct dlb_attention_shape *s, int64_t i, double magnitude,
                        double size)
{
    static const double EPS = 0x1p-23, REST = 6, SCORE = 1.75, SUM = 0.75, MANY = 64;
    double keys = (double)dlb_attention_keys(s, i);
    double score = SCORE * sqrt((double)s->d * fmin(1, MANY / keys));
    return EPS * ((REST + score) * magnitude + SUM * sqrt(keys) * size);
}

static void attention_bound(const struct dlb_bound_call *call)
{
    struct dlb_attention_shape s;
    dlb_attention_shape_get(call->problem, &s);
    const float *value = call->tensor[call->t];
    for (int64_t e = call->begin; e < call->end; e++) {
        double size = fabs((double)value[e]), bound;
        if (call->t == DLB_ATTENTION_DST)
            bound = row_bound(&s, e / s.dv / s.hq % s.sq, call->magnitude[e], size);
        else /* minus infinity, where no key is seen, is exact */
            bound = isinf(size) ? 0 : row_bound(&s, e % s.sq, 1, 1) + 0x1p-23 * size;
        call->bound[e - call->begin] = (float)bound;
    }
}

static enum dlb_status attention_naive(const struct dlb_problem *problem, int threads,
                                       struct dlb_plan **plan, struct dlb_error *error)
{
    return dlb_naive_make(&dlb_reference_attention, problem, threads, plan, error);
}

const struct dlb_reference dlb_reference_attention = {
    .op = &dlb_op_attention,
    .slices = attention_slices,
    .define = attention_define,
    .bound = attention_bound,
    .magnitude_inputs = 1u << DLB_ATTENTION_V,
    .naive = attention_naive,
    .onednn = dlb_attention_onednn,
};
