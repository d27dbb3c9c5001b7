/*
 * conv_weights_depthwise.h - the sums of some neighbouring taps of a depthwise
 * convolution's backward weights over a part of an image, some vectors of channels wide.
 */
#ifndef DLB_OPS_CONV_WEIGHTS_DEPTHWISE_H
#define DLB_OPS_CONV_WEIGHTS_DEPTHWISE_H

#include "core/isa.h"

/*
 * One call adds, for each tap t and each channel c,
 *
 *   sums[t*sums_tap + c] += sum over y < rows, x < pixels of
 *       diff[y*diff_line + x*diff_pixel + c] *
 *       src[y*src_line + x*src_pixel + t*src_tap + c]
 *
 * Channels beyond the call's are not touched.  sums is aligned to a vector, and has whole
 * vectors.
 */
struct dlb_depthwise_weights {
    const float *src, *diff;
    int64_t src_line, src_pixel, src_tap, diff_line, diff_pixel;
    int64_t rows, pixels;
    float *sums;
    int64_t sums_tap;
    int lanes; /* valid channels, for the masked kernels */
};

typedef void dlb_depthwise_weights_fn(const struct dlb_depthwise_weights *call);

enum { DLB_DEPTHWISE_TAPS = 3, DLB_DEPTHWISE_NV = 2 };

struct dlb_depthwise_weights_kernels {
    /* By taps and vectors of channels, from 1; next: where src_tap is src_pixel. */
    dlb_depthwise_weights_fn *any[DLB_DEPTHWISE_TAPS + 1][DLB_DEPTHWISE_NV + 1];
    dlb_depthwise_weights_fn *next[DLB_DEPTHWISE_TAPS + 1][DLB_DEPTHWISE_NV + 1];
    /* By taps: the first lanes of one vector of channels. */
    dlb_depthwise_weights_fn *tail[DLB_DEPTHWISE_TAPS + 1];
};

/* The kernels of a usable ISA. */
const struct dlb_depthwise_weights_kernels *
dlb_depthwise_weights_kernels(enum dlb_isa isa);

#endif
