/*
 * conv_depthwise.h - pixels of one output row of a depthwise convolution, some vectors of
 * channels wide.
 */
#ifndef DLB_OPS_CONV_DEPTHWISE_H
#define DLB_OPS_CONV_DEPTHWISE_H

#include "core/isa.h"

/*
 * One call.  Element (pixel p, tap kh, kw) of the input stands at
 * src + start + p*pixel + kh*line + kw*column; start may be negative, what is read of it
 * by valid taps is not.  Channels beyond the call's are not touched.
 */
struct dlb_depthwise {
    const float *src;
    int64_t start, pixel, line, column;
    const float *weights; /* [kh][kw][weights_ld], aligned to a vector */
    int64_t weights_ld;
    int64_t kernel_w;
    int64_t kh_begin, kh_end, kw_begin, kw_end; /* valid taps */
    const float *bias;                          /* or NULL */
    float *dst;
    int64_t dst_ld;
    int64_t pixels;
    int lanes; /* valid channels, for the masked kernels */
    bool relu, stream;
};

typedef void dlb_depthwise_fn(const struct dlb_depthwise *call);

/* Registers hold mr pixels x nv vectors.  Every kernel takes any number of pixels from mr
 * on: the last tile overlaps the one before. */
struct dlb_depthwise_tile {
    int mr, nv;
    dlb_depthwise_fn *any;  /* any taps */
    dlb_depthwise_fn *k3s1; /* 3x3, neighbouring pixels a column apart; all kw valid */
    dlb_depthwise_fn *k3s2; /* 3x3, two columns apart; all kw valid */
    dlb_depthwise_fn *any_tail; /* any taps, lanes channels; nv 1, else NULL */
};

struct dlb_depthwise_kernels {
    const struct dlb_depthwise_tile *tiles;
    int tiles_n;
    void (*stream_fence)(void);
};

/* The kernels of a usable ISA. */
const struct dlb_depthwise_kernels *dlb_depthwise_kernels(enum dlb_isa isa);

/* The tile of mr and nv, or NULL. */
const struct dlb_depthwise_tile *dlb_depthwise_find(enum dlb_isa isa, int mr, int nv);

#endif
