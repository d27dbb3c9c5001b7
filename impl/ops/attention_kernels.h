/*
 * attention_kernels.h - attention on a panel: nv vectors of queries, side by side in the
 * lanes, against a block of keys.
 *
 * Everything of a panel is stored with its width = nv * lanes queries innermost, aligned
 * to a vector: q [d][width], scores s [keys][width], o [dv][width], and one number a
 * query (maximum, sum, factor) [width].  So the softmax of all queries goes on lane by
 * lane, keys and values are read element by element from where they stand, and the scores
 * are at once the packed operand of the second product.
 */
#ifndef DLB_OPS_ATTENTION_KERNELS_H
#define DLB_OPS_ATTENTION_KERNELS_H

#include "core/isa.h"

enum { DLB_ATTENTION_MR = 28, DLB_ATTENTION_NV = 4 };

/*
 * tiles tiles of mr rows of C, one below the other; each has depth steps.
 *
 *   scores:  c[i][:] = sum over k of a[i*a_ld + k] b[k][:], i a key; each column's maximum
 *            is raised to the largest c (NULL: not asked for)
 *   values:  c[i][:] = factor * c[i][:] + sum over k of a[k*a_ld + i] b[k][:], i a column
 *            of the values; factor NULL: C is taken for zero, whatever it holds
 */
struct dlb_attention_product {
    const float *a;
    int64_t a_ld;
    const float *b;
    int64_t depth;
    float *c;
    float *maximum;
    const float *factor;
    int64_t tiles;
};
typedef void dlb_attention_product_fn(const struct dlb_attention_product *call);

/*
 * One block of keys taken into the softmax: s becomes exp(s - maximum) with maximum raised
 * to top, the block's; sum and factor follow: factor = exp(old - new maximum), sum = sum *
 * factor + the block's.  A maximum starts as -FLT_MAX, so that scores of -inf give zeros.
 */
struct dlb_attention_softmax {
    float *s;
    int64_t keys;
    const float *top;
    float *maximum, *sum, *factor;
};
typedef void dlb_attention_softmax_fn(const struct dlb_attention_softmax *call);

/* s += mask, [keys][width] each (mask NULL: nothing to add); top is raised to the largest
 * s of each column. */
typedef void dlb_attention_mask_fn(float *s, const float *mask, int64_t keys, float *top);

/* Rows of n elements in canonical layout, one for each lane, from and to a panel.  row:
 * offsets from base, one for each of width lanes. */
struct dlb_attention_rows {
    float *base;
    const int64_t *row;
    int64_t n;
    float *panel; /* [n][width] */
    int64_t width;
};

struct dlb_attention_kernels {
    int lanes;
    int mr_max[DLB_ATTENTION_NV + 1];
    /* [nv][mr], NULL past mr_max; index 0 is unused. */
    dlb_attention_product_fn *scores[DLB_ATTENTION_NV + 1][DLB_ATTENTION_MR + 1];
    dlb_attention_product_fn *values[DLB_ATTENTION_NV + 1][DLB_ATTENTION_MR + 1];
    dlb_attention_softmax_fn *softmax[DLB_ATTENTION_NV + 1];
    dlb_attention_mask_fn *mask[DLB_ATTENTION_NV + 1];

    /* panel[k][lane] = scale * base[row[lane] + k]; base is read only. */
    void (*gather)(const struct dlb_attention_rows *call, float scale);
    /* base[row[lane] + k] = factor[lane] * panel[k][lane], for the first lanes. */
    void (*scatter)(const struct dlb_attention_rows *call, const float *factor,
                    int64_t lanes);
    /* Rows of n elements, to_ld and from_ld apart. */
    void (*copy)(float *to, int64_t to_ld, const float *from, int64_t from_ld,
                 int64_t rows, int64_t n);
    /* Whether rows of n elements hold neither an infinity nor a NaN. */
    bool (*finite)(const float *from, int64_t ld, int64_t rows, int64_t n);
};

/* The kernels of a usable ISA. */
const struct dlb_attention_kernels *dlb_attention_kernels(enum dlb_isa isa);

#endif
