/*
 * rnn_multiply.h - the products of the recurrent operators, rows by packed weights: a
 * driver around the register tiles, for the forward and the backward pass.
 */
#ifndef DLB_OPS_RNN_MULTIPLY_H
#define DLB_OPS_RNN_MULTIPLY_H

#include "core/brgemm.h"
#include "ops/rnn_internal.h"
#include "ops/rnn_kernels.h"

/* What all products of a plan have in common. */
struct dlb_rnn_gemm {
    const struct dlb_brgemm_kernels *tiles;
    dlb_rnn_row_fn *row;
    int lanes, nv;    /* a panel is nv vectors of columns wide */
    int64_t kc;       /* channels in one pass over the rows */
    bool fetch_panel; /* the next panel into L2, while one is worked on */
};
struct dlb_rnn_gemm dlb_rnn_gemm_make(const struct dlb_target *target,
                                      const struct dlb_candidate *candidate);

/*
 *   c[set*rows + i][column] = start[column] + sum over k of
 *                             a[set*a_set + i*lda + place(k)] * packed[k][column], i < rows
 *
 * place(k) is k, or with a_offset a_offset[k / a_width] + k % a_width, whole pieces of
 * a_width making up k.  start is bias, or 0 where that is NULL, or with add what c holds.
 * Packed weights are [panel][k][vectors * lanes], all panels nv vectors wide but the last,
 * which has as many as its columns need, with zeros behind these.  Of c exactly the
 * matrix's columns are written.
 */
struct dlb_rnn_product {
    const float *packed, *bias;
    int64_t k, columns; /* of the whole matrix */
    int64_t panels[2];  /* the thread's, beyond which nothing is fetched */
    const float *a;
    int64_t lda, a_width;
    const int64_t *a_offset;
    int64_t sets, a_set, rows;
    int64_t mr; /* most rows in a register tile */
    float *c;   /* column 0 is that of the first panel of the call */
    int64_t ldc;
    bool add;
};

/* Panels begin … end-1, from the last one if back. */
void dlb_rnn_multiply(const struct dlb_rnn_gemm *gemm,
                      const struct dlb_rnn_product *product, int64_t begin, int64_t end,
                      bool back);

/* Brings a tile of c, that will be added to, near: else its first use waits for it. */
static inline void dlb_rnn_fetch_tile(const float *c, int64_t ldc, int64_t rows,
                                      int64_t columns)
{
    enum { LINE = DLB_CACHE_LINE / sizeof(float) };
    for (int64_t i = 0; i < rows; i++, c += ldc)
        for (int64_t j = 0; j < columns; j += LINE)
            __builtin_prefetch(c + j, 1);
}

#endif
