/*
 * attention_decode_kernels.h - few queries against many keys: products along the rows of
 * K and V as they stand, each element of which is read once for some queries at a time.
 */
#ifndef DLB_OPS_ATTENTION_DECODE_KERNELS_H
#define DLB_OPS_ATTENTION_DECODE_KERNELS_H

#include "core/isa.h"

/* Queries of one call: 1, 2 or 4; index of tables. */
enum { DLB_ATTENTION_DECODE_MAX = 4 };

/*
 *   scores: s[r][j] = sum over k of q[r][k] k[j][k]
 *   values: o[r][c] = factor[r] o[r][c] + sum over j of s[r][j] v[j][c]
 *   outer:  to[j][c] = (add: to[j][c]) + sum over r of s[r][j] q[r][c]
 *
 * for queries r, keys j; rows are *_ld apart.  The rows of q, k, v and to are n elements
 * long (of k and v nothing else is read, of to nothing else is written), b is k or v.
 */
struct dlb_attention_decode {
    const float *q;
    int64_t q_ld;
    const float *b;
    int64_t b_ld;
    int64_t keys, n;
    float *s;
    int64_t s_ld;
    float *o;
    int64_t o_ld;
    const float *factor;
    float *to;
    int64_t to_ld;
    bool add;
    bool stream; /* to goes past the caches; whole vectors, aligned; not with add */
};
typedef void dlb_attention_decode_fn(const struct dlb_attention_decode *call);

struct dlb_attention_decode_kernels {
    int lanes;
    dlb_attention_decode_fn *scores[DLB_ATTENTION_DECODE_MAX + 1];
    dlb_attention_decode_fn *values[DLB_ATTENTION_DECODE_MAX + 1];
    dlb_attention_decode_fn *outer[DLB_ATTENTION_DECODE_MAX + 1];
    void (*stream_fence)(void); /* after the last call that streamed */
    /* s[j] = exp(s[j] - maximum) with maximum raised to the largest; sum follows; returns
     * the factor exp(old - new maximum).  s is aligned to a vector, and may be written up
     * to whole vectors.  maximum starts as -FLT_MAX. */
    float (*softmax)(float *s, int64_t keys, float *maximum, float *sum);
    /* s[j] = weight exp(s[j] - maximum), ds[j] = s[j] (ds[j] - mean); both aligned to a
     * vector, and written up to whole vectors. */
    void (*weights)(float *s, float *ds, int64_t keys, float maximum, float weight,
                    float mean);
};

/* The kernels of a usable ISA. */
const struct dlb_attention_decode_kernels *dlb_attention_decode_kernels(enum dlb_isa isa);

#endif
