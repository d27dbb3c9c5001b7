/*
 * xent_kernels.h - one row of logits.
 */
#ifndef DLB_OPS_XENT_KERNELS_H
#define DLB_OPS_XENT_KERNELS_H

#include "core/isa.h"

struct dlb_xent_kernels {
    /* The maximum of x[0 … n) and the sum of exp(x - maximum), block elements at a time;
     * n > 0.  The sum is NaN where x has a NaN or +inf, and 0 of -inf alone. */
    void (*statistics)(const float *x, int64_t n, int64_t block, float *maximum,
                       float *sum);

    /* to = factor * exp(x - maximum); stream: past the caches, where to is aligned. */
    void (*weigh)(const float *x, int64_t n, float maximum, float factor, float *to,
                  bool stream);

    /* to = factor * p[0 … n), stored as by weigh */
    void (*scale)(const float *p, int64_t n, float factor, float *to, bool stream);

    /* Makes a thread's streamed stores visible to the others; call it once after them. */
    void (*stream_fence)(void);
};

/* The kernels of a usable ISA. */
const struct dlb_xent_kernels *dlb_xent_kernels(enum dlb_isa isa);

#endif
