/*
 * brgemm.h - strided batch-reduce GEMM on one register tile: the block that operators
 * are loops around.
 *
 *   C[i][j] = act( init[i][j] + sum over b, k of A_b[i][k] * B_b[k][j] )
 *             i < mr, j < n, b < batch, k < k
 *
 * A_b starts at a + a_start + a_offset[b] and has rows lda elements apart; its elements
 * are read one by one (broadcast), so any stride and alignment will do.  B_b starts at b
 * + b_offset[b] and is a packed panel [k][nv*lanes], aligned to a vector; columns from n
 * on must be there but may hold anything.  C has rows ldc elements apart; exactly mr * n
 * elements are written.
 *
 * Each element is one chain of fused multiply-adds in the order of b, then k (multiply
 * and add rounded separately on ISAs without FMA), so it does not depend on mr or nv.
 */
#ifndef DLB_CORE_BRGEMM_H
#define DLB_CORE_BRGEMM_H

#include "core/isa.h"

enum { DLB_BRGEMM_FETCH = DLB_CACHE_LINE / sizeof(float) }; /* elements a step */

enum {
    DLB_BRGEMM_ACCUMULATE = 1, /* init is C as it stands */
    DLB_BRGEMM_RELU = 2,       /* act is max(0,x), NaN stays NaN; else nothing */
    DLB_BRGEMM_STREAM = 4      /* store past the caches where C is aligned for it */
};

struct dlb_brgemm {
    const float *a;
    int64_t a_start; /* may be negative, as long as its sums with a_offset are not */
    const int64_t *a_offset;
    int64_t lda;
    const float *b;
    const int64_t *b_offset;
    int64_t b_ahead;    /* B is prefetched so many elements ahead; 0: not at all */
    const float *fetch; /* NULL, or what is needed later (then b_ahead is 0): each step of
                           k brings one cache line of it into L2, from here on */
    int64_t batch, k;
    float *c;
    int64_t ldc;
    const float *bias; /* init without ACCUMULATE: n values, or NULL for zero */
    int n;             /* 1 … nv*lanes */
    unsigned flags;
};

typedef void dlb_brgemm_fn(const struct dlb_brgemm *call);

enum { DLB_BRGEMM_MR = 28, DLB_BRGEMM_NV = 4 };

/* tile[nv][mr] for nv = 1 … DLB_BRGEMM_NV vectors and mr = 1 … mr_max[nv] rows; index 0
 * is unused, entries past mr_max are NULL.  mr_max falls with nv. */
struct dlb_brgemm_kernels {
    int lanes;
    int mr_max[DLB_BRGEMM_NV + 1];
    dlb_brgemm_fn *tile[DLB_BRGEMM_NV + 1][DLB_BRGEMM_MR + 1];
    /* Makes a thread's streamed stores visible to the others; call it once after them. */
    void (*stream_fence)(void);
};

/* The kernels of a usable ISA. */
const struct dlb_brgemm_kernels *dlb_brgemm_kernels(enum dlb_isa isa);

/* For models of cost: cycles of one step of k in a register tile whose operands are in
 * L1, with two FMA and two loads a cycle and four cycles from one FMA of a chain to the
 * next. */
double dlb_brgemm_step_cycles(int mr, int nv);

#endif
