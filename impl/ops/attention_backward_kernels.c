/*
 * Attention backward beside its products: weights, and the gradients of their scores.
 *
 *   p = weight * exp(s - maximum);  ds = p * (dp - mean)
 *
 * Shapes    s, ds [keys][w], w = NV*VLEN queries in the lanes; packed rows [rows][width]
 * Units     elements
 * Tiles     as many vectors at once as the registers hold
 * Work items and barriers   none: one call, one thread
 * Scratch   none
 * Cost      some 20 operations a vector: a sixteenth of the five products' time at d = dv =
 *           64
 * Numerics  the maximum and the sum of the forward pass stay apart: their logarithm would
 *           lose the sum where a mask makes scores large
 * Errors    none; sizes are the caller's
 * Source    Dao, "FlashAttention-2", 2023
 */
#include "ops/attention_backward_kernels.h"

#include "core/vec.h"
#include "core/vmath_inline.h"

/* Exponentials that are worked on together: what the registers hold. */
enum { EXP_VECTORS = VREGS / 4 };
/* Rows are fetched so many ahead. */
enum { ROWS_AHEAD = 4 };

DLB_INLINE void weigh_keys(float *s, float *ds, const struct dlb_attention_weights *g,
                           int keys, int nv)
{
    vec p[V_EXP_MANY];
    DLB_UNROLL
    for (int i = 0; i < keys * nv; i++)
        p[i] = v_sub(v_load(s + i * VLEN), v_load(g->maximum + i % nv * VLEN));
    v_exp_fast_many(p, keys * nv);
    DLB_UNROLL
    for (int i = 0; i < keys * nv; i++) {
        p[i] = v_mul(p[i], v_load(g->weight + i % nv * VLEN));
        v_store(s + i * VLEN, p[i]);
        vec gradient = v_sub(v_load(ds + i * VLEN), v_load(g->mean + i % nv * VLEN));
        v_store(ds + i * VLEN, v_mul(p[i], gradient));
    }
}

DLB_INLINE void weigh(const struct dlb_attention_weights *g, int nv, int together)
{
    float *s = g->s, *ds = g->ds;
    int64_t keys = g->keys;
    for (; keys >= together; keys -= together) {
        weigh_keys(s, ds, g, together, nv);
        s += together * nv * VLEN;
        ds += together * nv * VLEN;
    }
    for (; keys > 0; keys--, s += nv * VLEN, ds += nv * VLEN)
        weigh_keys(s, ds, g, 1, nv);
}

static void pack(const struct dlb_attention_rows *g, int64_t rows, float scale)
{
    const vec by = v_set1(scale);
    float *to = g->panel;
    for (int64_t r = 0; r < rows; r++, to += g->width) {
        const float *from = g->base + g->row[r];
        for (int64_t c = 0; c < g->width; c += VLEN) {
            int64_t left = g->n - c;
            vec x = left >= VLEN ? v_loadu(from + c)
                                 : v_load_n(from + c, left > 0 ? (int)left : 0);
            v_store(to + c, v_mul(x, by));
        }
    }
}

static void dots(const float *a, const float *b, const int64_t *row, int64_t rows,
                 int64_t n, float *product)
{
    for (int64_t r = 0; r < rows; r++) {
        const float *x = a + row[r], *y = b + row[r];
        const int64_t ahead =
            row[r + ROWS_AHEAD < rows ? r + ROWS_AHEAD : rows - 1] - row[r];
        vec sum = v_zero();
        int64_t c = 0;
        for (; c + VLEN <= n; c += VLEN) {
            v_prefetch(x + ahead + c);
            v_prefetch(y + ahead + c);
            sum = v_fma(v_loadu(x + c), v_loadu(y + c), sum);
        }
        if (c < n)
            sum =
                v_fma(v_load_n(x + c, (int)(n - c)), v_load_n(y + c, (int)(n - c)), sum);
        product[r] = v_sum(sum);
    }
}

/* clang-format off */
#define WIDTHS(T) T(1) T(2) T(3) T(4)
/* clang-format on */

#define WIDTH_FUNCTION(nv)                                                               \
    static void weights_##nv(const struct dlb_attention_weights *call)                   \
    {                                                                                    \
        weigh(call, nv, EXP_VECTORS < (nv) ? 1 : EXP_VECTORS / (nv));                    \
    }
WIDTHS(WIDTH_FUNCTION)

#define WIDTH_ENTRY(nv) [nv] = weights_##nv,

extern const struct dlb_attention_backward_kernels DLB_NAME(dlb_attention_backward);
const struct dlb_attention_backward_kernels DLB_NAME(dlb_attention_backward) = {
    .lanes = VLEN,
    .weights = {WIDTHS(WIDTH_ENTRY)},
    .pack = pack,
    .dots = dots,
};
