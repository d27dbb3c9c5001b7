/*
 * attention.h - scaled dot-product attention, forward and backward.
 *
 * fwd, fwd_train:
 *   dst[n,i,h,:] = sum over j of p[i,j] v[n,j,h/R,:],
 *   p[i,:] = softmax( q[n,i,h,:] . k[n,j,h/R,:] / sqrt(D) + mask[n,i,j] )
 *
 * over keys j < sk, for queries i < sq and query heads h < hq; R = hq/hk query heads share
 * a key/value head (R = 1: multi-head, hk = 1: multi-query, between: grouped-query).
 *
 * Masks: none; causal: query i sees keys j <= i (the diagonal starts at the top left);
 * causal-end: j <= i + sk - sq (the diagonal ends at the bottom right, as in decoding with
 * a cache of keys); buffer: a tensor that is added to the scaled scores, one for all heads.
 * A query that sees no key (causal-end with sk < sq; a buffer of -inf) gives zeros.
 *
 * bwd: the gradients of q, k and v (not of mask), with the softmax made again from q and k:
 *
 *   diff_v[j] = sum over i of p[i,j] diff_dst[i]
 *   ds[i,j]   = p[i,j] (diff_dst[i] . v[j] - e[i]),  e[i] = diff_dst[i] . dst[i]
 *   diff_q[i] = sum over j of ds[i,j] k[j] / sqrt(D)
 *   diff_k[j] = sum over i of ds[i,j] q[i] / sqrt(D)
 *
 * for each n and h; the sums over i are over all heads of a group too.  A query that sees no
 * key gets zeros and adds nothing.
 *
 * Descriptor: mb hq hk sq sk d dv mask, for example mb8hq12hk12sq512sk512d64; hk is hq,
 * sk is sq and dv is d when not named; mask-none, mask-causal, mask-causal-end or
 * mask-buffer.
 *
 * Tensors: q nshd [N,sq,hq,d], k nshd [N,sk,hk,d], v nshd [N,sk,hk,dv], dst nshd
 * [N,sq,hq,dv] (as linear layers leave and take them), mask nij [N,sq,sk], only with
 * mask-buffer, else without elements.  Kept by fwd_train: logsum nhs [N,hq,sq], the natural
 * logarithm of the sum of exp of the masked scores (-inf where no key is seen).  bwd: q, k, v
 * and mask as before, diff_dst; diff_q, diff_k, diff_v are the outputs.  What it needs of the
 * forward pass, dst and two numbers a query, a plan makes in bind.
 *
 * flops count the pairs that a mask lets through: 2 (d + dv) for each, backward 6 d + 4 dv:
 * the gradients' four products, and the scores once more.
 *
 * Source: Vaswani et al., "Attention is all you need", 2017; Milakov & Gimelshein, "Online
 * normalizer calculation for softmax", 2018; Dao et al., "FlashAttention", 2022; Dao,
 * "FlashAttention-2", 2023.
 */
#ifndef DLB_OPS_ATTENTION_H
#define DLB_OPS_ATTENTION_H

#include "core/op.h"

enum dlb_attention_dim {
    DLB_ATTENTION_MB,
    DLB_ATTENTION_HQ,
    DLB_ATTENTION_HK,
    DLB_ATTENTION_SQ,
    DLB_ATTENTION_SK,
    DLB_ATTENTION_D,
    DLB_ATTENTION_DV,
    DLB_ATTENTION_MASK, /* enum dlb_attention_mask */
    DLB_ATTENTION_DIMS
};

enum dlb_attention_mask {
    DLB_ATTENTION_NONE,
    DLB_ATTENTION_CAUSAL,
    DLB_ATTENTION_CAUSAL_END,
    DLB_ATTENTION_BUFFER,
    DLB_ATTENTION_MASKS
};

enum dlb_attention_tensor {
    DLB_ATTENTION_Q,
    DLB_ATTENTION_K,
    DLB_ATTENTION_V,
    DLB_ATTENTION_MASK_BUFFER,
    DLB_ATTENTION_DST,
    DLB_ATTENTION_LOGSUM,
    DLB_ATTENTION_TENSORS,
    /* of bwd, behind the mask buffer */
    DLB_ATTENTION_DIFF_DST = DLB_ATTENTION_DST,
    DLB_ATTENTION_DIFF_Q,
    DLB_ATTENTION_DIFF_K,
    DLB_ATTENTION_DIFF_V,
    DLB_ATTENTION_BACKWARD_TENSORS
};

extern const struct dlb_op dlb_op_attention;

struct dlb_attention_shape {
    int64_t mb, hq, hk, sq, sk, d, dv;
    int64_t group; /* R = hq / hk */
    enum dlb_attention_mask mask;
    float scale; /* 1 / sqrt(d) */
    bool train, backward;
};
void dlb_attention_shape_get(const struct dlb_problem *problem,
                             struct dlb_attention_shape *shape);

/* Keys that query i sees: the first so many, of a causal mask; sk else. */
int64_t dlb_attention_keys(const struct dlb_attention_shape *shape, int64_t i);

#endif
