/*
 * attention_backward_kernels.h - what the backward pass does on panels beside the products
 * of attention_kernels.h and core/brgemm.h.
 */
#ifndef DLB_OPS_ATTENTION_BACKWARD_KERNELS_H
#define DLB_OPS_ATTENTION_BACKWARD_KERNELS_H

#include "ops/attention_kernels.h"

/*
 * Of a panel and a block of keys, [keys][width] each: scores become weights, and their
 * gradients those of the scores.
 *
 *   s = weight * exp(s - maximum);  ds = s * (ds - mean)
 *
 * maximum, weight and mean: one number a query.  s - maximum is at most 88.
 */
struct dlb_attention_weights {
    float *s, *ds;
    int64_t keys;
    const float *maximum, *weight, *mean;
};
typedef void dlb_attention_weights_fn(const struct dlb_attention_weights *call);

struct dlb_attention_backward_kernels {
    int lanes;
    dlb_attention_weights_fn *weights[DLB_ATTENTION_NV + 1]; /* [nv]; index 0 is unused */

    /* panel[r][c] = scale * base[row[r] + c] for r < rows, c < n; 0 for n <= c < width.
     * panel is aligned to a vector, width a multiple of the vector's length. */
    void (*pack)(const struct dlb_attention_rows *call, int64_t rows, float scale);

    /* product[r] = sum over c of a[row[r] + c] b[row[r] + c], r < rows, c < n */
    void (*dots)(const float *a, const float *b, const int64_t *row, int64_t rows,
                 int64_t n, float *product);
};

/* The kernels of a usable ISA. */
const struct dlb_attention_backward_kernels *
dlb_attention_backward_kernels(enum dlb_isa isa);

#endif
