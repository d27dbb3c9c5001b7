/*
 * Sums of outer products on a register tile of MR rows and NV vectors.
 *
 *   C[i][j] = init[i][j] + ( sum over b, k of A_b[k][i] * B_b[k][j] )
 *
 * Shapes    A_b: [k][MR], lda apart; B_b: [k][NV*VLEN], ldb apart; C: [MR][NV*VLEN]
 * Units     elements
 * Tiles     as brgemm's (core/tiles.h)
 * Work items and barriers   none: one call, one thread
 * Scratch   none
 * Cost      2*MR*NV*VLEN*k flops a batch entry; a step of k loads NV vectors and MR
 *           elements.  C is fetched while the reduction runs and added after it, so that
 *           its latency is hidden
 * Numerics  one chain of FMA per element in the order of b, then k, from 0; init last
 * Errors    none; sizes are the caller's
 */
#include "core/outer.h"

#include "core/tiles.h"
#include "core/vec.h"

enum { K_STEP = 4, SUM_NV = 4 };

DLB_INLINE void step(vec (*acc)[DLB_BRGEMM_NV], const float *a, const float *b, int mr,
                     int nv, int held)
{
    vec bv[DLB_BRGEMM_NV];
    DLB_UNROLL
    for (int j = 0; j < held; j++)
        bv[j] = v_hold(v_loadu(b + j * VLEN));
    DLB_UNROLL
    for (int i = 0; i < mr; i++) {
        vec av = v_set1(a[i]);
        DLB_UNROLL
        for (int j = 0; j < nv; j++)
            acc[i][j] = j < held ? v_fma_in_place(av, bv[j], acc[i][j])
                                 : v_fma_memory(av, b + j * VLEN, acc[i][j]);
    }
}

/* p + by as one addition.  Left to itself GCC 12 keeps the offset of each element of each
 * step, and most of them on the stack. */
DLB_INLINE const float *moved(const float *p, int64_t by)
{
    p += by;
    __asm__("" : "+r"(p));
    return p;
}

DLB_INLINE void tile(const struct dlb_outer *g, int mr, int nv, int held)
{
    vec acc[DLB_BRGEMM_MR][DLB_BRGEMM_NV];
    const int64_t lda = g->lda, ldb = g->ldb;
    float *c = g->c;
    DLB_UNROLL
    for (int i = 0; i < mr; i++)
        DLB_UNROLL
    for (int j = 0; j < nv; j++)
        acc[i][j] = v_zero();
    DLB_UNROLL
    for (int i = 0; i < mr * nv * VLEN; i += DLB_BRGEMM_FETCH)
        v_prefetch(c + i);
    for (int64_t batch = 0; batch < g->batch; batch++) {
        const float *a = g->a + (g->a_start + g->a_offset[batch]);
        const float *b = g->b + (g->b_start + g->b_offset[batch]);
        int64_t k = g->k;
        for (; k >= K_STEP; k -= K_STEP) {
            DLB_UNROLL
            for (int u = 0; u < K_STEP; u++) {
                step(acc, a, b, mr, nv, held);
                a = moved(a, lda);
                b = moved(b, ldb);
            }
        }
        for (; k > 0; k--) {
            step(acc, a, b, mr, nv, held);
            a = moved(a, lda);
            b = moved(b, ldb);
        }
    }
    if (g->flags & DLB_OUTER_ACCUMULATE) {
        DLB_UNROLL
        for (int i = 0; i < mr; i++)
            DLB_UNROLL
        for (int j = 0; j < nv; j++)
            v_store(c + (i * nv + j) * VLEN,
                    v_add(v_load(c + (i * nv + j) * VLEN), acc[i][j]));
    } else if (g->flags & DLB_OUTER_STREAM) {
        DLB_UNROLL
        for (int i = 0; i < mr; i++)
            DLB_UNROLL
        for (int j = 0; j < nv; j++)
            v_stream(c + (i * nv + j) * VLEN, acc[i][j]);
    } else {
        DLB_UNROLL
        for (int i = 0; i < mr; i++)
            DLB_UNROLL
        for (int j = 0; j < nv; j++)
            v_store(c + (i * nv + j) * VLEN, acc[i][j]);
    }
}

/* Rows of which whole vectors may be read, and written in order: what lies past a row is
 * there, and what is written past it is written again. */
static int64_t whole_rows(int64_t ld, int64_t rows, int64_t width, int64_t to_ld)
{
    int64_t whole = (width + VLEN - 1) / VLEN * VLEN;
    int64_t readable = (rows - 1) * ld + width - whole;
    int64_t writable = rows * to_ld - whole;
    if (readable < 0 || writable < 0)
        return 0;
    int64_t read = readable / ld + 1, written = writable / to_ld + 1;
    int64_t both = read < written ? read : written;
    return both < rows ? both : rows;
}

DLB_INLINE void pack_whole(const float *from, int64_t ld, int64_t rows, int64_t width,
                           int64_t strips, float *to, int64_t to_ld, int64_t to_strip,
                           int nv)
{
    for (int64_t row = 0; row < rows; row++, from += ld, to += to_ld) {
        const float *f = from;
        float *t = to;
        for (int64_t strip = 0; strip < strips; strip++, f += width, t += to_strip)
            DLB_UNROLL
        for (int j = 0; j < nv; j++)
            v_storeu(t + j * VLEN, v_loadu(f + j * VLEN));
    }
}

static void pack_exact(const float *from, int64_t width, float *to)
{
    int64_t j = 0;
    for (; j + VLEN <= width; j += VLEN)
        v_storeu(to + j, v_loadu(from + j));
    for (; j < width; j++)
        to[j] = from[j];
}

/* So many strips that a row of them is a few lines, and as many streams are written. */
enum { PACK_STRIPS = 16 };

static void pack_some(const float *from, int64_t ld, int64_t rows, int64_t width,
                      int64_t strips, float *to, int64_t to_ld, int64_t to_strip)
{
    int64_t safe = whole_rows(ld, rows, width, to_ld);
    if (width <= VLEN)
        pack_whole(from, ld, safe, width, strips, to, to_ld, to_strip, 1);
    else if (width <= 2 * VLEN)
        pack_whole(from, ld, safe, width, strips, to, to_ld, to_strip, 2);
    else if (width <= 3 * VLEN)
        pack_whole(from, ld, safe, width, strips, to, to_ld, to_strip, 3);
    else if (width <= 4 * VLEN)
        pack_whole(from, ld, safe, width, strips, to, to_ld, to_strip, 4);
    else
        safe = 0;
    for (int64_t row = safe; row < rows; row++)
        for (int64_t strip = 0; strip < strips; strip++)
            pack_exact(from + row * ld + strip * width, width,
                       to + row * to_ld + strip * to_strip);
}

static void pack(const float *from, int64_t ld, int64_t rows, int64_t width,
                 int64_t strips, float *to, int64_t to_ld, int64_t to_strip)
{
    for (int64_t strip = 0; strip < strips; strip += PACK_STRIPS) {
        int64_t left = strips - strip;
        pack_some(from + strip * width, ld, rows, width,
                  left < PACK_STRIPS ? left : PACK_STRIPS, to + strip * to_strip, to_ld,
                  to_strip);
    }
}

DLB_INLINE void sum_columns(const float *from, int64_t ld, int64_t rows, int nv, int n,
                            float *to, bool accumulate)
{
    vec acc[SUM_NV];
    DLB_UNROLL
    for (int j = 0; j < nv; j++)
        acc[j] = v_zero();
    for (int64_t row = 0; row < rows; row++, from += ld)
        DLB_UNROLL
    for (int j = 0; j < nv; j++)
        acc[j] = v_add(acc[j], n ? v_load_n(from, n) : v_loadu(from + j * VLEN));
    DLB_UNROLL
    for (int j = 0; j < nv; j++) {
        if (accumulate)
            acc[j] = v_add(acc[j], n ? v_load_n(to, n) : v_loadu(to + j * VLEN));
        if (n)
            v_store_n(to, acc[j], n);
        else
            v_storeu(to + j * VLEN, acc[j]);
    }
}

static void sum_rows(const float *from, int64_t ld, int64_t rows, int64_t n, float *to,
                     bool accumulate)
{
    int64_t j = 0;
    for (; j + SUM_NV * VLEN <= n; j += SUM_NV * VLEN)
        sum_columns(from + j, ld, rows, SUM_NV, 0, to + j, accumulate);
    for (; j + VLEN <= n; j += VLEN)
        sum_columns(from + j, ld, rows, 1, 0, to + j, accumulate);
    if (j < n)
        sum_columns(from + j, ld, rows, 1, (int)(n - j), to + j, accumulate);
}

#define TILE_FUNCTION(mr, nv)                                                            \
    static void tile_##mr##x##nv(const struct dlb_outer *call)                           \
    {                                                                                    \
        tile(call, mr, nv, TILE_HELD(mr, nv));                                           \
    }
TILES(TILE_FUNCTION)

#define TILE_ENTRY(mr, nv) [nv][mr] = tile_##mr##x##nv,

extern const struct dlb_outer_kernels DLB_NAME(dlb_outer);
const struct dlb_outer_kernels DLB_NAME(dlb_outer) = {
    .lanes = VLEN,
    .mr_max = TILE_MR_MAX,
    .tile = {TILES(TILE_ENTRY)},
    .pack = pack,
    .sum_rows = sum_rows,
    .stream_fence = v_stream_fence,
};
