/*
 * Batch-reduce GEMM on a register tile of MR rows and NV vectors.
 *
 *   C[i][j] = act( init[i][j] + sum over b, k of A_b[i][k] * B_b[k][j] )
 *
 * Shapes    A_b: MR rows, lda apart; B_b: [k][NV*VLEN] packed; C: MR x n, ldc apart
 * Units     elements; n counts columns
 * Tiles     NV 1 … 4; MR 1 … the most for which accumulators, the NV vectors of B and one
 *           broadcast fit the registers.  The largest of NV 4 keeps three vectors of B in
 *           registers and reads the fourth as the memory operand of the FMA, so that one
 *           more row of accumulators fits.
 * Work items and barriers   none: one call, one thread
 * Scratch   none
 * Cost      2*MR*NV*VLEN*k flops a batch entry; a step of k loads NV vectors and MR
 *           elements (largest of NV 4: 3 + 2*MR loads), which stays below the two loads
 *           a cycle for which the processors have ports beside two FMA
 * Numerics  one chain of FMA per element in the order of b, then k; init first
 * Errors    none; sizes are the caller's
 * Source    batch-reduce GEMM: Georganas et al., "Harnessing Deep Learning via a Single
 *           Building Block", IPDPS 2020
 */
#include "core/brgemm.h"

#include "core/tiles.h"
#include "core/vec.h"

/* K_STEP steps of k share one update of the pointers; ROWS_PER_POINTER rows of A share
 * one, since an address reaches p, p + lda and p + 2*lda. */
enum { K_STEP = 4, ROWS_PER_POINTER = 3 };

DLB_INLINE void load_tile(const struct dlb_brgemm *g, vec (*acc)[DLB_BRGEMM_NV], int mr,
                          int nv)
{
    bool full = g->n == nv * VLEN;
    if (g->flags & DLB_BRGEMM_ACCUMULATE) {
        const float *c = g->c;
        DLB_UNROLL
        for (int i = 0; i < mr; i++, c += g->ldc)
            DLB_UNROLL
        for (int j = 0; j < nv; j++)
            acc[i][j] =
                full || (j + 1) * VLEN <= g->n
                    ? v_loadu(c + j * VLEN)
                    : v_load_n(c + j * VLEN, g->n - j * VLEN > 0 ? g->n - j * VLEN : 0);
        return;
    }
    DLB_UNROLL
    for (int j = 0; j < nv; j++) {
        int lanes = g->n - j * VLEN;
        vec init = !g->bias || lanes <= 0 ? v_zero()
                   : lanes >= VLEN        ? v_loadu(g->bias + j * VLEN)
                                          : v_load_n(g->bias + j * VLEN, lanes);
        DLB_UNROLL
        for (int i = 0; i < mr; i++)
            acc[i][j] = init;
    }
}

DLB_INLINE void store_tile(const struct dlb_brgemm *g, vec (*acc)[DLB_BRGEMM_NV], int mr,
                           int nv)
{
    float *c = g->c;
    if (g->flags & DLB_BRGEMM_RELU) {
        DLB_UNROLL
        for (int i = 0; i < mr; i++)
            DLB_UNROLL
        for (int j = 0; j < nv; j++)
            acc[i][j] = v_max(v_zero(), acc[i][j]);
    }
    if (g->n < nv * VLEN) {
        DLB_UNROLL
        for (int i = 0; i < mr; i++, c += g->ldc)
            DLB_UNROLL
        for (int j = 0; j < nv; j++) {
            int lanes = g->n - j * VLEN;
            if (lanes > 0)
                v_store_n(c + j * VLEN, acc[i][j], lanes < VLEN ? lanes : VLEN);
        }
        return;
    }
    bool aligned =
        (((uintptr_t)c | (uintptr_t)g->ldc * sizeof *c) & (VLEN * sizeof *c - 1)) == 0;
    if (aligned && (g->flags & DLB_BRGEMM_STREAM)) {
        DLB_UNROLL
        for (int i = 0; i < mr; i++, c += g->ldc)
            DLB_UNROLL
        for (int j = 0; j < nv; j++)
            v_stream(c + j * VLEN, acc[i][j]);
        return;
    }
    DLB_UNROLL
    for (int i = 0; i < mr; i++, c += g->ldc)
        DLB_UNROLL
    for (int j = 0; j < nv; j++)
        v_storeu(c + j * VLEN, acc[i][j]);
}

/* One step of k; u is its number since the pointers were last moved.  held vectors of B
 * live in registers. */
DLB_INLINE void step(vec (*acc)[DLB_BRGEMM_NV], const float *const *a, const float *b,
                     int64_t lda, int u, int64_t ahead, const float *fetch, int mr,
                     int nv, int held)
{
    vec bv[DLB_BRGEMM_NV];
    b += u * nv * VLEN;
    if (ahead) {
        DLB_UNROLL
        for (int j = 0; j < nv; j++)
            v_prefetch(b + ahead + j * VLEN);
    }
    if (fetch)
        v_prefetch_l2(fetch + u * DLB_BRGEMM_FETCH);
    DLB_UNROLL
    for (int j = 0; j < held; j++)
        bv[j] = v_hold(v_load(b + j * VLEN));
    DLB_UNROLL
    for (int i = 0; i < mr; i++) {
        vec av = v_set1(a[i / ROWS_PER_POINTER][i % ROWS_PER_POINTER * lda + u]);
        DLB_UNROLL
        for (int j = 0; j < nv; j++)
            acc[i][j] = j < held ? v_fma_in_place(av, bv[j], acc[i][j])
                                 : v_fma_memory(av, b + j * VLEN, acc[i][j]);
    }
}

/* All whole groups of K_STEP steps; returns the steps that are left.  fetch: NULL, or
 * where the pointer to what is fetched stands. */
DLB_INLINE int64_t steps(vec (*acc)[DLB_BRGEMM_NV], const float **a, const float **b,
                         int64_t lda, int64_t k, int64_t ahead, const float **fetch,
                         int mr, int nv, int held)
{
    const int pointers = (mr + ROWS_PER_POINTER - 1) / ROWS_PER_POINTER;
    for (; k >= K_STEP; k -= K_STEP) {
        DLB_UNROLL
        for (int u = 0; u < K_STEP; u++)
            step(acc, a, *b, lda, u, ahead, fetch ? *fetch : NULL, mr, nv, held);
        DLB_UNROLL
        for (int p = 0; p < pointers; p++)
            a[p] += K_STEP;
        *b += K_STEP * nv * VLEN;
        if (fetch)
            *fetch += K_STEP * DLB_BRGEMM_FETCH;
    }
    return k;
}

DLB_INLINE void tile(const struct dlb_brgemm *g, int mr, int nv, int held)
{
    enum { POINTERS = (DLB_BRGEMM_MR + ROWS_PER_POINTER - 1) / ROWS_PER_POINTER };
    vec acc[DLB_BRGEMM_MR][DLB_BRGEMM_NV];
    const int pointers = (mr + ROWS_PER_POINTER - 1) / ROWS_PER_POINTER;
    const int64_t lda = g->lda;
    const float *fetch = g->fetch;
    load_tile(g, acc, mr, nv);
    for (int64_t batch = 0; batch < g->batch; batch++) {
        const float *a[POINTERS], *b = g->b + g->b_offset[batch];
        DLB_UNROLL
        for (int p = 0; p < pointers; p++)
            a[p] = g->a + (g->a_start + g->a_offset[batch] + p * ROWS_PER_POINTER * lda);
        int64_t k = g->k;
        if (g->b_ahead)
            k = steps(acc, a, &b, lda, k, g->b_ahead, NULL, mr, nv, held);
        else if (fetch)
            k = steps(acc, a, &b, lda, k, 0, &fetch, mr, nv, held);
        else
            k = steps(acc, a, &b, lda, k, 0, NULL, mr, nv, held);
        for (; k > 0; k--) {
            step(acc, a, b, lda, 0, 0, NULL, mr, nv, held);
            DLB_UNROLL
            for (int p = 0; p < pointers; p++)
                a[p]++;
            b += nv * VLEN;
        }
    }
    store_tile(g, acc, mr, nv);
}

#define TILE_FUNCTION(mr, nv)                                                            \
    static void tile_##mr##x##nv(const struct dlb_brgemm *call)                          \
    {                                                                                    \
        tile(call, mr, nv, TILE_HELD(mr, nv));                                           \
    }
TILES(TILE_FUNCTION)

#define TILE_ENTRY(mr, nv) [nv][mr] = tile_##mr##x##nv,

extern const struct dlb_brgemm_kernels DLB_NAME(dlb_brgemm);
const struct dlb_brgemm_kernels DLB_NAME(dlb_brgemm) = {
    .lanes = VLEN,
    .mr_max = TILE_MR_MAX,
    .tile = {TILES(TILE_ENTRY)},
    .stream_fence = v_stream_fence,
};
