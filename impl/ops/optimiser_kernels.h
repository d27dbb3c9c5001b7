/*
 * optimiser_kernels.h - some elements of a step of sgd or adam.
 */
#ifndef DLB_OPS_OPTIMISER_KERNELS_H
#define DLB_OPS_OPTIMISER_KERNELS_H

#include "core/isa.h"
#include "ops/optimiser.h"

/* Pointers by position in the operator's tensor array, to the first element. */
struct dlb_optimiser_call {
    int64_t n;
    const float *in[DLB_ADAM_NEW_PARAM];
    float *out[DLB_ADAM_TENSORS - DLB_ADAM_NEW_PARAM];
    /* adam: the rate over 1 - BETA1^t, and the root of 1 / (1 - BETA2^t). */
    float rate, root;
};
typedef void dlb_optimiser_fn(const struct dlb_optimiser_call *call);

struct dlb_optimiser_kernels {
    dlb_optimiser_fn *sgd[2][2][2]; /* [momentum][decay][streamed] */
    dlb_optimiser_fn *adam[2][2];   /* [decay][streamed] */
    void (*stream_fence)(void);
};

/* The kernels of a usable ISA. */
const struct dlb_optimiser_kernels *dlb_optimiser_kernels(enum dlb_isa isa);

#endif
