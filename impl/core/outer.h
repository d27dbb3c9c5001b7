/*
 * outer.h - sums of outer products on one register tile: a GEMM whose two factors are both
 * read along the reduction, as gradients of weights are.
 *
 *   C[i][j] = init[i][j] + ( sum over b, k of A_b[k][i] * B_b[k][j] )
 *             i < mr, j < nv*lanes, b < batch, k < k
 *
 * A_b starts at a + a_start + a_offset[b] and has its k lda apart, mr elements each; B_b
 * starts at b + b_start + b_offset[b] and has its k ldb apart, nv*lanes elements each:
 * any stride and alignment will do.  C is packed, [mr][nv*lanes], aligned to a vector.
 *
 * The sum is one chain of fused multiply-adds in the order of b, then k (multiply and add
 * rounded separately on ISAs without FMA), and is added to init at the end.
 */
#ifndef DLB_CORE_OUTER_H
#define DLB_CORE_OUTER_H

#include "core/brgemm.h"

enum {
    DLB_OUTER_ACCUMULATE = 1, /* init is C as it stands; else 0 */
    DLB_OUTER_STREAM = 2      /* store past the caches */
};

struct dlb_outer {
    const float *a, *b;
    int64_t a_start, b_start; /* may be negative, as long as sums with offsets are not */
    const int64_t *a_offset, *b_offset;
    int64_t lda, ldb;
    int64_t batch, k;
    float *c;
    unsigned flags;
};

typedef void dlb_outer_fn(const struct dlb_outer *call);

struct dlb_outer_kernels {
    int lanes;
    int mr_max[DLB_BRGEMM_NV + 1]; /* as brgemm's */
    dlb_outer_fn *tile[DLB_BRGEMM_NV + 1][DLB_BRGEMM_MR + 1];

    /*
     * Copies rows of strips * width elements, ld apart, into one matrix for each strip of
     * width columns, to_strip apart, with rows to_ld apart.  Of a matrix it may write all
     * of rows * to_ld elements; what stands past width is nothing to rely on.
     */
    void (*pack)(const float *from, int64_t ld, int64_t rows, int64_t width,
                 int64_t strips, float *to, int64_t to_ld, int64_t to_strip);

    /* to[j] = (accumulate ? to[j] : 0) + the sum of column j of rows of n elements, ld
     * apart. */
    void (*sum_rows)(const float *from, int64_t ld, int64_t rows, int64_t n, float *to,
                     bool accumulate);

    /* Makes a thread's streamed stores visible to the others. */
    void (*stream_fence)(void);
};

/* The kernels of a usable ISA. */
const struct dlb_outer_kernels *dlb_outer_kernels(enum dlb_isa isa);

#endif
