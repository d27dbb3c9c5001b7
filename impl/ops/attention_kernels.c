/*
 * Attention on a panel of queries: the two products and the softmax between them.
 *
 *   S[j][q] = sum over k of K[j][k] Q[k][q];  m'[q] = max(m[q], S[:][q])
 *   P[j][q] = exp(S[j][q] - m'[q]);  O[c][q] = exp(m[q] - m'[q]) O[c][q] +
 *                                              sum over j of V[j][c] P[j][q]
 *
 * Shapes    Q [d][w], S and P [keys][w], O [dv][w] with w = NV*VLEN queries in the lanes;
 *           K and V rows in place or copied
 * Units     elements
 * Tiles     MR rows x NV vectors in registers.  Rows are keys in the first product and
 *           columns of V in the second; either reads its rows one element at a time, so
 *           neither K nor V is transposed or packed for it.  The largest tiles of NV 4
 *           read their last vector of B from memory
 * Work items and barriers   none: one call, one thread
 * Scratch   none of their own
 * Cost      2*MR*NV*VLEN flops a step; a step loads NV vectors and MR elements.  An
 *           exponential is some 16 operations a vector: an eighth of the products' time at
 *           d = dv = 64
 * Numerics  one chain of FMA per element, in the order of k and of j.  Sums of P: in the
 *           order of j, by blocks
 * Errors    none; sizes are the caller's
 * Source    Milakov & Gimelshein, "Online normalizer calculation for softmax", 2018
 */
#include "ops/attention_kernels.h"

#include "core/vec.h"
#include "core/vmath_inline.h"

/* So many rows of K share a pointer: an address reaches p, p + ld and p + 2*ld. */
enum { ROWS_PER_POINTER = 3, NV_MAX = DLB_ATTENTION_NV };
/* Rows are fetched so many ahead: they lie too far apart for the processor to foresee. */
enum { ROWS_AHEAD = 8 };
/* Exponentials that are worked on together: what the registers hold. */
enum { EXP_VECTORS = VREGS / 4 };
enum { POINTERS = (DLB_ATTENTION_MR + ROWS_PER_POINTER - 1) / ROWS_PER_POINTER };

/* acc[i][:] += element(i) * b[:], element(i) = a[i / share][i % share * row].  The loops
 * over steps are not unrolled: GCC 12 then spills, and a step has work for many cycles. */
DLB_INLINE void step(vec (*acc)[NV_MAX], const float *const *a, int share, int64_t row,
                     const float *b, int mr, int nv, int held)
{
    vec bv[NV_MAX];
    DLB_UNROLL
    for (int j = 0; j < held; j++)
        bv[j] = v_hold(v_load(b + j * VLEN));
    DLB_UNROLL
    for (int i = 0; i < mr; i++) {
        vec av = v_set1(a[i / share][i % share * row]);
        DLB_UNROLL
        for (int j = 0; j < nv; j++)
            acc[i][j] = j < held ? v_fma_in_place(av, bv[j], acc[i][j])
                                 : v_fma_memory(av, b + j * VLEN, acc[i][j]);
    }
}

DLB_INLINE void store_tile(float *c, vec (*acc)[NV_MAX], int mr, int nv)
{
    DLB_UNROLL
    for (int i = 0; i < mr; i++)
        DLB_UNROLL
    for (int j = 0; j < nv; j++)
        v_store(c + (i * nv + j) * VLEN, acc[i][j]);
}

/* One tile: the keys from rows on, into c. */
DLB_INLINE void scores(const struct dlb_attention_product *g, const float *rows, float *c,
                       int mr, int nv, int held)
{
    const int pointers = (mr + ROWS_PER_POINTER - 1) / ROWS_PER_POINTER;
    const int64_t ld = g->a_ld;
    vec acc[DLB_ATTENTION_MR][NV_MAX];
    const float *a[POINTERS], *b = g->b;
    DLB_UNROLL
    for (int i = 0; i < mr; i++)
        DLB_UNROLL
    for (int j = 0; j < nv; j++)
        acc[i][j] = v_zero();
    DLB_UNROLL
    for (int p = 0; p < pointers; p++)
        a[p] = rows + p * ROWS_PER_POINTER * ld;
    for (int64_t k = g->depth; k > 0; k--, b += nv * VLEN) {
        step(acc, a, ROWS_PER_POINTER, ld, b, mr, nv, held);
        DLB_UNROLL
        for (int p = 0; p < pointers; p++)
            a[p]++;
    }
    store_tile(c, acc, mr, nv);
    if (!g->maximum)
        return;
    DLB_UNROLL
    for (int j = 0; j < nv; j++) {
        vec top = v_load(g->maximum + j * VLEN);
        DLB_UNROLL
        for (int i = 0; i < mr; i++)
            top = v_max(top, acc[i][j]);
        v_store(g->maximum + j * VLEN, top);
    }
}

/* One tile: the columns of V from column on, into c. */
DLB_INLINE void values(const struct dlb_attention_product *g, const float *column,
                       float *c, int mr, int nv, int held)
{
    const int64_t ld = g->a_ld;
    vec acc[DLB_ATTENTION_MR][NV_MAX];
    const float *b = g->b;
    if (g->factor) {
        DLB_UNROLL
        for (int j = 0; j < nv; j++) {
            vec factor = v_load(g->factor + j * VLEN);
            DLB_UNROLL
            for (int i = 0; i < mr; i++)
                acc[i][j] = v_mul(v_load(c + (i * nv + j) * VLEN), factor);
        }
    } else {
        DLB_UNROLL
        for (int i = 0; i < mr; i++)
            DLB_UNROLL
        for (int j = 0; j < nv; j++)
            acc[i][j] = v_zero();
    }
    for (int64_t k = g->depth; k > 0; k--, column += ld, b += nv * VLEN)
        step(acc, &column, mr, 1, b, mr, nv, held);
    store_tile(c, acc, mr, nv);
}

/* s = exp(s - top) of some keys, added to sum. */
DLB_INLINE void exp_keys(float *s, const vec *top, vec *sum, int keys, int nv)
{
    vec p[V_EXP_MANY];
    DLB_UNROLL
    for (int i = 0; i < keys * nv; i++)
        p[i] = v_sub(v_load(s + i * VLEN), top[i % nv]);
    v_exp_fast_many(p, keys * nv);
    DLB_UNROLL
    for (int i = 0; i < keys * nv; i++) {
        v_store(s + i * VLEN, p[i]);
        sum[i % nv] = v_add(sum[i % nv], p[i]);
    }
}

DLB_INLINE void softmax(const struct dlb_attention_softmax *g, int nv, int together)
{
    vec top[NV_MAX], sum[NV_MAX];
    DLB_UNROLL
    for (int j = 0; j < nv; j++) {
        vec old = v_load(g->maximum + j * VLEN);
        top[j] = v_max(old, v_load(g->top + j * VLEN));
        v_store(g->maximum + j * VLEN, top[j]);
        v_store(g->factor + j * VLEN, v_exp_fast(v_sub(old, top[j])));
        sum[j] = v_zero();
    }
    float *s = g->s;
    int64_t keys = g->keys;
    for (; keys >= together; keys -= together, s += together * nv * VLEN)
        exp_keys(s, top, sum, together, nv);
    for (; keys > 0; keys--, s += nv * VLEN)
        exp_keys(s, top, sum, 1, nv);
    DLB_UNROLL
    for (int j = 0; j < nv; j++) {
        float *total = g->sum + j * VLEN;
        v_store(total, v_fma(v_load(total), v_load(g->factor + j * VLEN), sum[j]));
    }
}

DLB_INLINE void mask_scores(float *s, const float *mask, int64_t keys, float *top, int nv)
{
    vec most[NV_MAX];
    DLB_UNROLL
    for (int j = 0; j < nv; j++)
        most[j] = v_load(top + j * VLEN);
    for (int64_t i = 0; i < keys; i++, s += nv * VLEN) {
        DLB_UNROLL
        for (int j = 0; j < nv; j++) {
            vec score = v_load(s + j * VLEN);
            if (mask) {
                score = v_add(score, v_load(mask + (i * nv + j) * VLEN));
                v_store(s + j * VLEN, score);
            }
            most[j] = v_max(most[j], score);
        }
    }
    DLB_UNROLL
    for (int j = 0; j < nv; j++)
        v_store(top + j * VLEN, most[j]);
}

static void gather(const struct dlb_attention_rows *g, float scale)
{
    const vec by = v_set1(scale);
    for (int64_t lane = 0; lane < g->width; lane += VLEN)
        for (int64_t k = 0; k < g->n; k += VLEN) {
            vec tile[VLEN];
            int n = (int)(g->n - k < VLEN ? g->n - k : VLEN);
            float *panel = g->panel + k * g->width + lane;
            if (lane + VLEN < g->width)
                DLB_UNROLL
            for (int i = 0; i < VLEN; i++)
                v_prefetch(g->base + g->row[lane + VLEN + i] + k);
            DLB_UNROLL
            for (int i = 0; i < VLEN; i++) {
                const float *row = g->base + g->row[lane + i] + k;
                tile[i] = v_mul(n == VLEN ? v_loadu(row) : v_load_n(row, n), by);
            }
            v_transpose(tile);
            DLB_UNROLL
            for (int i = 0; i < VLEN; i++)
                if (i < n)
                    v_store(panel + i * g->width, tile[i]);
        }
}

static void scatter(const struct dlb_attention_rows *g, const float *factor,
                    int64_t lanes)
{
    for (int64_t lane = 0; lane < lanes; lane += VLEN) {
        const vec by = v_load(factor + lane);
        for (int64_t k = 0; k < g->n; k += VLEN) {
            vec tile[VLEN];
            int n = (int)(g->n - k < VLEN ? g->n - k : VLEN);
            const float *panel = g->panel + k * g->width + lane;
            DLB_UNROLL
            for (int i = 0; i < VLEN; i++)
                tile[i] = i < n ? v_mul(v_load(panel + i * g->width), by) : v_zero();
            v_transpose(tile);
            DLB_UNROLL
            for (int i = 0; i < VLEN; i++) {
                float *row = g->base + g->row[lane + i] + k;
                if (lane + i >= lanes)
                    continue;
                if (n == VLEN)
                    v_storeu(row, tile[i]);
                else
                    v_store_n(row, tile[i], n);
            }
        }
    }
}

static void copy(float *to, int64_t to_ld, const float *from, int64_t from_ld,
                 int64_t rows, int64_t n)
{
    for (int64_t i = 0; i < rows; i++, to += to_ld, from += from_ld) {
        int64_t k = 0;
        for (; k + VLEN <= n; k += VLEN) {
            v_prefetch(from + ROWS_AHEAD * from_ld + k);
            v_storeu(to + k, v_loadu(from + k));
        }
        if (k < n)
            v_store_n(to + k, v_load_n(from + k, (int)(n - k)), (int)(n - k));
    }
}

static bool all_finite(const float *from, int64_t ld, int64_t rows, int64_t n)
{
    vec sum[2] = {v_zero(), v_zero()};
    for (int64_t i = 0; i < rows; i++, from += ld) {
        int64_t k = 0;
        for (; k + VLEN <= n; k += VLEN)
            sum[0] = v_fma(v_loadu(from + k), v_zero(), sum[0]);
        if (k < n)
            sum[1] = v_fma(v_load_n(from + k, (int)(n - k)), v_zero(), sum[1]);
    }
    return v_sum(v_add(sum[0], sum[1])) == 0;
}

/* clang-format off */
/* The table of instances: (rows, vectors); what fits the registers as in brgemm. */
#define TILES_ALL(T)                                                                     \
    T(1, 1) T(2, 1) T(3, 1) T(4, 1) T(5, 1) T(6, 1) T(7, 1) T(8, 1)                      \
    T(9, 1) T(10, 1) T(11, 1) T(12, 1)                                                   \
    T(1, 2) T(2, 2) T(3, 2) T(4, 2) T(5, 2) T(6, 2)                                      \
    T(1, 3) T(2, 3) T(3, 3)                                                              \
    T(1, 4) T(2, 4)
#define TILES_FMA(T)                                                                     \
    T(4, 3)                                                                              \
    T(3, 4)
#define TILES_32REGS(T)                                                                  \
    T(13, 1) T(14, 1) T(15, 1) T(16, 1) T(17, 1) T(18, 1) T(19, 1) T(20, 1)              \
    T(21, 1) T(22, 1) T(23, 1) T(24, 1) T(25, 1) T(26, 1) T(27, 1) T(28, 1)              \
    T(7, 2) T(8, 2) T(9, 2) T(10, 2) T(11, 2) T(12, 2) T(13, 2) T(14, 2)                 \
    T(5, 3) T(6, 3) T(7, 3) T(8, 3) T(9, 3)                                              \
    T(4, 4) T(5, 4) T(6, 4)
#define TILES_32REGS_FMA(T) T(7, 4)
#define TILES(T)                                                                         \
    TILES_ALL(T)                                                                         \
    V_IF_FMA(TILES_FMA(T))                                                               \
    V_IF_32REGS(TILES_32REGS(T) V_IF_FMA_MEMORY(TILES_32REGS_FMA(T)))
#define WIDTHS(T) T(1) T(2) T(3) T(4)
/* clang-format on */

/* Tiles are functions of their own: inside the loop over them GCC 12 spills. */
#define TILE_FUNCTIONS(mr, nv)                                                           \
    static __attribute__((noinline)) void score_##mr##x##nv(                             \
        const struct dlb_attention_product *call, const float *rows, float *c)           \
    {                                                                                    \
        scores(call, rows, c, mr, nv, (mr) * (nv) + (nv) < VREGS ? (nv) : (nv)-1);       \
    }                                                                                    \
    static void scores_##mr##x##nv(const struct dlb_attention_product *call)             \
    {                                                                                    \
        for (int64_t t = 0; t < call->tiles; t++)                                        \
            score_##mr##x##nv(call, call->a + t * (mr)*call->a_ld,                       \
                              call->c + t * (mr) * (nv)*VLEN);                           \
    }                                                                                    \
    static __attribute__((noinline)) void value_##mr##x##nv(                             \
        const struct dlb_attention_product *call, const float *column, float *c)         \
    {                                                                                    \
        values(call, column, c, mr, nv, (mr) * (nv) + (nv) < VREGS ? (nv) : (nv)-1);     \
    }                                                                                    \
    static void values_##mr##x##nv(const struct dlb_attention_product *call)             \
    {                                                                                    \
        for (int64_t t = 0; t < call->tiles; t++)                                        \
            value_##mr##x##nv(call, call->a + t * (mr), call->c + t * (mr) * (nv)*VLEN); \
    }
TILES(TILE_FUNCTIONS)

#define WIDTH_FUNCTIONS(nv)                                                              \
    static void softmax_##nv(const struct dlb_attention_softmax *call)                   \
    {                                                                                    \
        softmax(call, nv, EXP_VECTORS < (nv) ? 1 : EXP_VECTORS / (nv));                  \
    }                                                                                    \
    static void mask_##nv(float *s, const float *mask, int64_t keys, float *top)         \
    {                                                                                    \
        mask_scores(s, mask, keys, top, nv);                                             \
    }
WIDTHS(WIDTH_FUNCTIONS)

#define SCORES_ENTRY(mr, nv) [nv][mr] = scores_##mr##x##nv,
#define VALUES_ENTRY(mr, nv) [nv][mr] = values_##mr##x##nv,
#define SOFTMAX_ENTRY(nv)    [nv] = softmax_##nv,
#define MASK_ENTRY(nv)       [nv] = mask_##nv,

extern const struct dlb_attention_kernels DLB_NAME(dlb_attention);
const struct dlb_attention_kernels DLB_NAME(dlb_attention) = {
    .lanes = VLEN,
    .mr_max = {0, VREGS == 32 ? 28 : 12, VREGS == 32 ? 14 : 6,
               VREGS == 32 ? 9 : 3 + V_FMA, VREGS == 32 ? 6 + V_FMA_MEMORY : 2 + V_FMA},
    .scores = {TILES(SCORES_ENTRY)},
    .values = {TILES(VALUES_ENTRY)},
    .softmax = {WIDTHS(SOFTMAX_ENTRY)},
    .mask = {WIDTHS(MASK_ENTRY)},
    .gather = gather,
    .scatter = scatter,
    .copy = copy,
    .finite = all_finite,
};
