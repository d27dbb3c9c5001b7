/*
 * The plain definition of attention (formulas in ops/attention.h): scores, softmax with
 * the row's maximum subtracted, weighted sum, all in double; backward the gradients of one
 * row after the other.
 *
 * A key that a causal mask hides is not looked at.  A key that a mask buffer hides by
 * -inf has the weight 0, which does not hide a NaN or an infinity in its value, unless
 * the query sees no key at all.  Backward likewise: what a query does not see gets nothing
 * of it, and a hidden key's weight of 0 times infinity is NaN.
 */
#include "ops/attention.h"
#include "reference_internal.h"

#include <math.h>
#include <stdlib.h>

struct operands {
    struct dlb_attention_shape s;
    const float *q, *k, *v, *mask; /* mask NULL when there is none */
    const float *diff_dst;         /* backward */
};

/* One query of one head: n, h and i are those of number (n hq + h) sq + i, a slice of the
 * forward pass. */
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
    if (o.s.backward)
        o.diff_dst = tensor[DLB_ATTENTION_DIFF_DST];
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
    return s.backward ? s.mb * s.hk : s.mb * s.hq * s.sq;
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

static const float *value_of(const struct operands *o, const struct row *row, int64_t j)
{
    return o->v + ((row->n * o->s.sk + j) * o->s.hk + row->h / o->s.group) * o->s.dv;
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
        const float *v = value_of(o, row, j);
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

/* What a key/value head's gradients are made in: of one row, and of all keys. */
struct gradients {
    double *p, *dst, *dq, *dk, *dv;
};

/* Scores become the row's weights, and dst what they give. */
static void define_weights(const struct operands *o, const struct row *row, double most,
                           const struct gradients *g)
{
    double total = 0;
    for (int64_t j = 0; j < row->keys; j++) {
        g->p[j] = isnan(most) ? most : exp(g->p[j] - most);
        total += g->p[j];
    }
    for (int64_t c = 0; c < o->s.dv; c++)
        g->dst[c] = 0;
    for (int64_t j = 0; j < row->keys; j++) {
        g->p[j] /= total;
        for (int64_t c = 0; c < o->s.dv; c++)
            g->dst[c] += g->p[j] * value_of(o, row, j)[c];
    }
}

/* The row's gradient, and what it adds to those of its keys and values. */
static void define_row_gradient(const struct operands *o, const struct row *row,
                                double most, const struct gradients *g)
{
    const struct dlb_attention_shape *s = &o->s;
    int64_t query = (row->n * s->sq + row->i) * s->hq + row->h;
    const float *q = o->q + query * s->d, *diff = o->diff_dst + query * s->dv;
    double e = 0;
    define_weights(o, row, most, g);
    for (int64_t c = 0; c < s->dv; c++)
        e += diff[c] * g->dst[c];
    for (int64_t j = 0; j < row->keys; j++) {
        const float *k = o->k + ((row->n * s->sk + j) * s->hk + row->h / s->group) * s->d;
        const float *v = value_of(o, row, j);
        double dp = 0;
        for (int64_t c = 0; c < s->dv; c++)
            dp += (double)diff[c] * v[c];
        double ds = g->p[j] * (dp - e) / sqrt((double)s->d);
        for (int64_t c = 0; c < s->d; c++) {
            g->dq[c] += ds * k[c];
            g->dk[j * s->d + c] += ds * q[c];
        }
        for (int64_t c = 0; c < s->dv; c++)
            g->dv[j * s->dv + c] += g->p[j] * diff[c];
    }
}

/* The query heads of a group and the head that they share. */
static void define_head(const struct operands *o, int64_t head, double *memory,
                        const struct dlb_sink *sink)
{
    const struct dlb_attention_shape *s = &o->s;
    const int64_t n = head / s->hk, shared = head % s->hk;
    struct gradients g = {.p = memory, .dk = memory + s->sk};
    g.dv = g.dk + s->d * s->sk;
    g.dq = g.dv + s->dv * s->sk;
    g.dst = g.dq + s->d;
    for (int64_t e = 0; e < (s->d + s->dv) * s->sk; e++)
        g.dk[e] = 0; /* dv lies behind it */
    for (int64_t f = 0; f < s->group * s->sq; f++) {
        struct row row = row_of(s, head * s->group * s->sq + f);
        for (int64_t c = 0; c < s->d; c++)
            g.dq[c] = 0;
        double most = define_scores(o, &row, g.p);
        if (most != -INFINITY)
            define_row_gradient(o, &row, most, &g);
        for (int64_t c = 0; c < s->d; c++)
            sink->put(sink->context, DLB_ATTENTION_DIFF_Q,
                      ((n * s->sq + row.i) * s->hq + row.h) * s->d + c, g.dq[c]);
    }
    for (int64_t j = 0; j < s->sk; j++) {
        int64_t key = (n * s->sk + j) * s->hk + shared;
        for (int64_t c = 0; c < s->d; c++)
            sink->put(sink->context, DLB_ATTENTION_DIFF_K, key * s->d + c,
                      g.dk[j * s->d + c]);
        for (int64_t c = 0; c < s->dv; c++)
            sink->put(sink->context, DLB_ATTENTION_DIFF_V, key * s->dv + c,
                      g.dv[j * s->dv + c]);
    }
}

static size_t memory_elements(const struct dlb_attention_shape *s)
{
    if (s->backward)
        return (size_t)((1 + s->d + s->dv) * s->sk + s->d + s->dv);
    return (size_t)(s->sk + s->dv);
}

static void attention_define(const struct dlb_problem *problem, void *const *tensor,
                             int64_t begin, int64_t end, const struct dlb_sink *sink)
{
    struct operands o = operands_get(problem, tensor);
    double *memory = malloc(memory_elements(&o.s) * sizeof *memory);
    for (int64_t slice = begin; slice < end; slice++) {
        struct row row = row_of(&o.s, slice);
        if (!memory) /* nothing agrees with NaN */
            sink->put(sink->context,
                      o.s.backward ? DLB_ATTENTION_DIFF_V : DLB_ATTENTION_DST, 0, NAN);
        else if (o.s.backward)
            define_head(&o, slice, memory, sink);
        else
            define_row(&o, &row, memory, memory + o.s.sk, sink);
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

/*
 * Backward, in the same terms.  The weights p err as above; dp_ij = diff_dst_i . v_j is a sum
 * of dv products with a spread of |diff_dst_i| / sqrt(3), v being uniform in [-1, 1), and e_i
 * errs about as much.  So ds_ij errs by
 *
 *   p_ij G_i (REST + SCORE sqrt(d) + DP sqrt(dv)) eps,  G_i = |diff_dst_i|
 *
 * and a sum of such terms, each times an element below 2 of k or q, by their absolute sum.
 * Many terms are averaged as above: some n/6 of n weights share the whole, where all queries
 * see all keys.  The sum's own rounding: its partial sums walk to about G sqrt(6/n), which
 * makes the rounding of n of them independent of n: SUM.
 *
 *   diff_q   the weights of a row add up to 1
 *   diff_v   M_j = sum over i of p_ij |diff_dst_i|, which are its magnitudes
 *   diff_k   sum over i of p_ij G_i: of the magnitudes of diff_v, since |x| is about
 *            sqrt(4 / (3 dv)) times the sum of the |x_c| of uniform x
 */
static const double GRADIENT_DP = 0.75, GRADIENT_SUM = 1.5, K_OR_Q_MOST = 2;

static double averaged(double terms)
{
    static const double MANY = 64;
    return sqrt(fmin(1, MANY / fmax(1, terms)));
}

/* Of a row's ds, over p and G. */
static double score_error(const struct dlb_attention_shape *s)
{
    static const double REST = 6, SCORE = 1.75;
    return REST + SCORE * sqrt((double)s->d);
}

static double query_bound(const struct dlb_bound_call *call,
                          const struct dlb_attention_shape *s, int64_t query)
{
    const float *diff =
        (const float *)call->tensor[DLB_ATTENTION_DIFF_DST] + query * s->dv;
    double squares = 0, keys = (double)dlb_attention_keys(s, query / s->hq % s->sq);
    for (int64_t c = 0; c < s->dv; c++)
        squares += (double)diff[c] * diff[c];
    return sqrt(squares) * s->scale *
           (K_OR_Q_MOST * averaged(keys) *
                (score_error(s) + GRADIENT_DP * sqrt((double)s->dv)) +
            GRADIENT_SUM);
}

/* Rows that share a key evenly enough to be averaged. */
static double rows_of_key(const struct dlb_attention_shape *s)
{
    bool causal = s->mask == DLB_ATTENTION_CAUSAL || s->mask == DLB_ATTENTION_CAUSAL_END;
    return causal ? 1 : (double)(s->sq * s->group);
}

static double key_bound(const struct dlb_bound_call *call,
                        const struct dlb_attention_shape *s, int64_t key)
{
    const float *magnitude = call->magnitudes[DLB_ATTENTION_DIFF_V] + key * s->dv;
    double sum = 0;
    for (int64_t c = 0; c < s->dv; c++)
        sum += magnitude[c];
    return sum * sqrt(4 / (3 * (double)s->dv)) * s->scale *
           (K_OR_Q_MOST * averaged(rows_of_key(s)) *
                (score_error(s) + GRADIENT_DP * sqrt((double)s->dv)) +
            GRADIENT_SUM);
}

static void gradient_bound(const struct dlb_bound_call *call,
                           const struct dlb_attention_shape *s)
{
    static const double EPS = 0x1p-23;
    const int64_t width = call->t == DLB_ATTENTION_DIFF_V ? s->dv : s->d;
    const float *value = call->tensor[call->t];
    double row = 0, values = averaged(rows_of_key(s)) * score_error(s) + GRADIENT_SUM;
    for (int64_t e = call->begin; e < call->end; e++) {
        bool fresh = e == call->begin || e % width == 0;
        if (fresh && call->t == DLB_ATTENTION_DIFF_Q)
            row = query_bound(call, s, e / width);
        else if (fresh && call->t == DLB_ATTENTION_DIFF_K)
            row = key_bound(call, s, e / width);
        else if (call->t == DLB_ATTENTION_DIFF_V)
            row = values * call->magnitude[e];
        call->bound[e - call->begin] = (float)(EPS * (row + fabs((double)value[e])));
    }
}

static void attention_bound(const struct dlb_bound_call *call)
{
    struct dlb_attention_shape s;
    dlb_attention_shape_get(call->problem, &s);
    const float *value = call->tensor[call->t];
    if (s.backward) {
        gradient_bound(call, &s);
        return;
    }
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
    .magnitude_inputs = 1u << DLB_ATTENTION_V | 1u << DLB_ATTENTION_DIFF_DST,
    .magnitude_outputs = 1u << DLB_ATTENTION_DST | 1u << DLB_ATTENTION_DIFF_V,
    .naive = attention_naive,
    .onednn = dlb_attention_onednn,
};
