/*
 * Attention of few queries: bound by reading K and V, so nothing is packed.
 *
 *   s[r][j] = q[r] . k[j];  p = exp(s - m);  o[r] = factor[r] o[r] + sum of p[r][j] v[j];
 *   backward: dk[j] = sum of ds[r][j] q[r]
 *
 * Shapes    q [R][d], K [keys][d], V [keys][dv] as rows, s [R][keys], o [R][dv]
 * Units     elements
 * Tiles     scores: R queries x CHAINS/R keys, vectors along d; values: R queries x
 *           CHAINS/R vectors of columns; outer: the same with q in the registers; 8 at most.  R is 1, 2 or 4
 * Work items and barriers   none: one call, one thread
 * Scratch   none
 * Cost      2*R*keys*(d + dv) flops; d + dv elements are read a key
 * Numerics  scores: one chain of FMA a lane, then the lanes in pairs; values: one chain
 *           of FMA in the order of the keys
 * Errors    none; sizes are the caller's
 * Source    none
 */
#include "ops/attention_decode_kernels.h"

#include "core/vec.h"
#include "core/vmath_inline.h"

#include <math.h>

/* Independent sums: as many as fill the registers beside their factors, and enough to hide
 * the latency of FMA on two pipes. */
enum {
    CHAINS = VREGS / 2,
    KEYS_MAX = 8,
    ROWS_MAX = DLB_ATTENTION_DECODE_MAX,
    SUMS = KEYS_MAX * ROWS_MAX + VLEN,
    AHEAD = 6 /* keys: their rows are fetched so many before their turn */
};

/* How many keys, or vectors of values, are worked on at a time. */
#define AT_ONCE(rows) (CHAINS / (rows) < KEYS_MAX ? CHAINS / (rows) : KEYS_MAX)

/* Key j + t and query r: lane r * keys + t of sums that are VLEN in a vector.  What the
 * keys behind these are read from is fetched: rows of few lines, far apart, are no stream
 * that a processor would see. */
DLB_INLINE void dots(const struct dlb_attention_decode *g, int64_t j, int rows, int keys)
{
    vec acc[SUMS];
    float sum[SUMS];
    const float *k = g->b + j * g->b_ld;
    DLB_UNROLL
    for (int i = 0; i < rows * keys + VLEN; i++)
        acc[i] = v_zero();
    int64_t c = 0;
    for (; c + VLEN <= g->n; c += VLEN) {
        vec q[ROWS_MAX];
        DLB_UNROLL
        for (int r = 0; r < rows; r++)
            q[r] = v_loadu(g->q + r * g->q_ld + c);
        DLB_UNROLL
        for (int t = 0; t < keys; t++) {
            vec key = v_loadu(k + t * g->b_ld + c);
            v_prefetch(k + (t + keys) * g->b_ld + c);
            DLB_UNROLL
            for (int r = 0; r < rows; r++)
                acc[r * keys + t] = v_fma(key, q[r], acc[r * keys + t]);
        }
    }
    int left = (int)(g->n - c);
    if (left)
        DLB_UNROLL
    for (int t = 0; t < keys; t++) {
        vec key = v_load_n(k + t * g->b_ld + c, left);
        DLB_UNROLL
        for (int r = 0; r < rows; r++)
            acc[r * keys + t] =
                v_fma(key, v_load_n(g->q + r * g->q_ld + c, left), acc[r * keys + t]);
    }
    DLB_UNROLL
    for (int i = 0; i < rows * keys; i += VLEN)
        v_storeu(sum + i, v_sums(acc + i));
    DLB_UNROLL
    for (int r = 0; r < rows; r++)
        DLB_UNROLL
    for (int t = 0; t < keys; t++)
        g->s[r * g->s_ld + j + t] = sum[r * keys + t];
}

DLB_INLINE void scores(const struct dlb_attention_decode *g, int rows)
{
    const int keys = AT_ONCE(rows);
    int64_t j = 0;
    for (; j + keys <= g->keys; j += keys)
        dots(g, j, rows, keys);
    for (; j < g->keys; j++)
        dots(g, j, rows, 1);
}

/* Columns c … c + vectors*VLEN-1; of a tail only the first n of one vector. */
DLB_INLINE void weigh(const struct dlb_attention_decode *g, int64_t c, int rows,
                      int vectors, int n)
{
    vec acc[ROWS_MAX][KEYS_MAX];
    DLB_UNROLL
    for (int r = 0; r < rows; r++)
        DLB_UNROLL
    for (int i = 0; i < vectors; i++) {
        const float *o = g->o + r * g->o_ld + c + i * VLEN;
        acc[r][i] = v_mul(n ? v_load_n(o, n) : v_loadu(o), v_set1(g->factor[r]));
    }
    const float *row = g->b + c;
    for (int64_t j = 0; j < g->keys; j++, row += g->b_ld) {
        vec p[ROWS_MAX];
        DLB_UNROLL
        for (int r = 0; r < rows; r++)
            p[r] = v_set1(g->s[r * g->s_ld + j]);
        DLB_UNROLL
        for (int i = 0; i < vectors; i++) {
            vec value = n ? v_load_n(row, n) : v_loadu(row + i * VLEN);
            v_prefetch(row + AHEAD * g->b_ld + i * VLEN);
            DLB_UNROLL
            for (int r = 0; r < rows; r++)
                acc[r][i] = v_fma(p[r], value, acc[r][i]);
        }
    }
    DLB_UNROLL
    for (int r = 0; r < rows; r++)
        DLB_UNROLL
    for (int i = 0; i < vectors; i++) {
        float *o = g->o + r * g->o_ld + c + i * VLEN;
        if (n)
            v_store_n(o, acc[r][i], n);
        else
            v_storeu(o, acc[r][i]);
    }
}

DLB_INLINE void values(const struct dlb_attention_decode *g, int rows)
{
    const int vectors = AT_ONCE(rows);
    int64_t c = 0;
    for (; c + vectors * VLEN <= g->n; c += vectors * VLEN)
        weigh(g, c, rows, vectors, 0);
    for (; c + VLEN <= g->n; c += VLEN)
        weigh(g, c, rows, 1, 0);
    if (c < g->n)
        weigh(g, c, rows, 1, (int)(g->n - c));
}

enum write { SET, ADD, STREAM };

/* Columns c … c + vectors*VLEN-1 of all keys; of a tail only the first n of one vector. */
DLB_INLINE void spread(const struct dlb_attention_decode *g, int64_t c, int rows,
                       int vectors, int n, enum write write)
{
    vec q[ROWS_MAX][KEYS_MAX];
    DLB_UNROLL
    for (int r = 0; r < rows; r++)
        DLB_UNROLL
    for (int i = 0; i < vectors; i++) {
        const float *from = g->q + r * g->q_ld + c + i * VLEN;
        q[r][i] = n ? v_load_n(from, n) : v_loadu(from);
    }
    float *to = g->to + c;
    for (int64_t j = 0; j < g->keys; j++, to += g->to_ld) {
        DLB_UNROLL
        for (int i = 0; i < vectors; i++) {
            vec sum = v_zero();
            if (write == ADD)
                sum = n ? v_load_n(to, n) : v_loadu(to + i * VLEN);
            if (write == SET)
                __builtin_prefetch(to + AHEAD * g->to_ld + i * VLEN, 1);
            DLB_UNROLL
            for (int r = 0; r < rows; r++)
                sum = v_fma(v_set1(g->s[r * g->s_ld + j]), q[r][i], sum);
            if (n)
                v_store_n(to, sum, n);
            else if (write == STREAM)
                v_stream(to + i * VLEN, sum);
            else
                v_storeu(to + i * VLEN, sum);
        }
    }
}

DLB_INLINE void outer(const struct dlb_attention_decode *g, int rows, enum write write)
{
    const int vectors = AT_ONCE(rows);
    int64_t c = 0;
    for (; c + vectors * VLEN <= g->n; c += vectors * VLEN)
        spread(g, c, rows, vectors, 0, write);
    for (; c + VLEN <= g->n; c += VLEN)
        spread(g, c, rows, 1, 0, write);
    if (c < g->n)
        spread(g, c, rows, 1, (int)(g->n - c), write);
}

static void stream_fence(void)
{
    v_stream_fence();
}

static void weights(float *s, float *ds, int64_t keys, float maximum, float weight,
                    float mean)
{
    const vec top = v_set1(maximum), factor = v_set1(weight), off = v_set1(mean);
    for (int64_t j = 0; j < keys; j += VLEN) {
        vec p = v_mul(factor, v_exp_fast(v_sub(v_load(s + j), top)));
        v_store(s + j, p);
        v_store(ds + j, v_mul(p, v_sub(v_load(ds + j), off)));
    }
}

static float softmax(float *s, int64_t keys, float *maximum, float *sum)
{
    float lanes[VLEN];
    const float old = *maximum;
    vec top = v_set1(old), total = v_zero();
    for (; keys % VLEN; keys++)
        s[keys] = -INFINITY;
    for (int64_t j = 0; j < keys; j += VLEN)
        top = v_max(top, v_load(s + j));
    *maximum = v_max_lanes(top);
    top = v_set1(*maximum);
    for (int64_t j = 0; j < keys; j += VLEN) {
        vec p = v_exp_fast(v_sub(v_load(s + j), top));
        v_store(s + j, p);
        total = v_add(total, p);
    }
    v_storeu(lanes, v_exp_fast(v_set1(old - *maximum)));
    *sum = *sum * lanes[0] + v_sum(total);
    return lanes[0];
}

/* clang-format off */
#define ROWS(T) T(1) T(2) T(4)
/* clang-format on */

#define ROWS_FUNCTIONS(rows)                                                             \
    static void scores_##rows(const struct dlb_attention_decode *call)                   \
    {                                                                                    \
        scores(call, rows);                                                              \
    }                                                                                    \
    static void values_##rows(const struct dlb_attention_decode *call)                   \
    {                                                                                    \
        values(call, rows);                                                              \
    }                                                                                    \
    static void outer_##rows(const struct dlb_attention_decode *call)                    \
    {                                                                                    \
        if (call->add)                                                                   \
            outer(call, rows, ADD);                                                      \
        else if (call->stream)                                                           \
            outer(call, rows, STREAM);                                                   \
        else                                                                             \
            outer(call, rows, SET);                                                      \
    }
ROWS(ROWS_FUNCTIONS)

#define SCORES_ENTRY(rows) [rows] = scores_##rows,
#define VALUES_ENTRY(rows) [rows] = values_##rows,
#define OUTER_ENTRY(rows)  [rows] = outer_##rows,

extern const struct dlb_attention_decode_kernels DLB_NAME(dlb_attention_decode);
const struct dlb_attention_decode_kernels DLB_NAME(dlb_attention_decode) = {
    .lanes = VLEN,
    .scores = {ROWS(SCORES_ENTRY)},
    .values = {ROWS(VALUES_ENTRY)},
    .outer = {ROWS(OUTER_ENTRY)},
    .stream_fence = stream_fence,
    .softmax = softmax,
    .weights = weights,
};
