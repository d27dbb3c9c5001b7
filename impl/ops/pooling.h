/*
 * pooling.h - maximum or average over windows of images.
 *
 *   fwd, fwd_train  dst[n,oh,ow,c] = max, or sum / count, over kh, kw of
 *                   src[n, oh*SH - PH + kh, ow*SW - PW + kw, c]
 *   bwd             max: diff_src[n,ih,iw,c] = sum of diff_dst[n,oh,ow,c] over those
 *                   windows whose maximum stands at ih, iw
 *                   average: the same sum of diff_dst / count over all its windows
 *
 * over taps inside the input; count is the number of these (alg-avg), or KH*KW (alg-avgp).
 * Of equal maxima the first in the order of kh, then kw counts.  A NaN is larger than any
 * number, and the first one counts.  Bottom and right padding follow from OH and OW, as in
 * conv (ops/axis.h).
 *
 * Descriptor: benchdnn's (mb ic ih iw oh ow kh kw sh sw ph pw), plus alg (alg-max when not
 * named).
 *
 * Tensors, all nhwc: fwd and fwd_train src, dst; kept by fwd_train of alg-max: index, the
 * tap kh*KW + kw of each maximum.  bwd: diff_src, diff_dst, and for alg-max src.
 */
#ifndef DLB_OPS_POOLING_H
#define DLB_OPS_POOLING_H

#include "core/op.h"

enum dlb_pooling_dim {
    DLB_POOLING_MB,
    DLB_POOLING_IC,
    DLB_POOLING_IH,
    DLB_POOLING_IW,
    DLB_POOLING_OH,
    DLB_POOLING_OW,
    DLB_POOLING_KH,
    DLB_POOLING_KW,
    DLB_POOLING_SH,
    DLB_POOLING_SW,
    DLB_POOLING_PH,
    DLB_POOLING_PW,
    DLB_POOLING_ALG, /* enum dlb_pooling_kind */
    DLB_POOLING_DIMS
};

enum dlb_pooling_kind {
    DLB_POOLING_MAX,
    DLB_POOLING_AVG,
    DLB_POOLING_AVG_PADDED,
    DLB_POOLING_KINDS
};

/* Positions in tensor arrays: forward, then backward. */
enum dlb_pooling_tensor {
    DLB_POOLING_SRC,
    DLB_POOLING_DST,
    DLB_POOLING_INDEX, /* fwd_train of alg-max */
    DLB_POOLING_DIFF_SRC = 0,
    DLB_POOLING_DIFF_DST,
    DLB_POOLING_BWD_SRC /* alg-max */
};

extern const struct dlb_op dlb_op_pooling;

struct dlb_pooling_shape {
    int64_t mb, ic, ih, iw, oh, ow, kh, kw, sh, sw, ph, pw;
    enum dlb_pooling_kind kind;
};
void dlb_pooling_shape_get(const struct dlb_problem *problem,
                           struct dlb_pooling_shape *shape);

/* Along one axis: taps [*begin, *end) of window out that lie inside the input, and windows
 * [*begin, *end) that cover input position in. */
static inline void dlb_pooling_taps(int64_t out, int64_t size, int64_t kernel,
                                    int64_t stride, int64_t pad, int64_t *begin,
                                    int64_t *end)
{
    int64_t first = out * stride - pad;
    *begin = dlb_max(0, -first);
    *end = dlb_min(kernel, size - first);
}
static inline void dlb_pooling_windows(int64_t in, int64_t windows, int64_t kernel,
                                       int64_t stride, int64_t pad, int64_t *begin,
                                       int64_t *end)
{
    int64_t last = in + pad;
    *begin = last < kernel ? 0 : (last - kernel) / stride + 1;
    *end = dlb_min(windows, last / stride + 1);
}

#endif
