/*
 * elementwise.h - what operators share that make each element of their result from the
 * elements at the same place in one or two operands: activation, dropout, add.
 *
 * Each of them has a file of its own with its dims, tensors and fills, and names a function
 * below; the dims, the search space and the plan are here.  The first dim of every such
 * operator is n, the number of elements.
 */
#ifndef DLB_OPS_ELEMENTWISE_H
#define DLB_OPS_ELEMENTWISE_H

#include "core/op.h"

enum { DLB_ELEMENTWISE_N }; /* the first dim */

/* y from x and, of those with two operands, d; c is the call's constant. */
enum dlb_elementwise_function {
    DLB_ELEMENTWISE_COPY,         /* x */
    DLB_ELEMENTWISE_RELU,         /* max(0, x) */
    DLB_ELEMENTWISE_LEAKY,        /* x > 0 ? x : c x, 0 < c < 1 */
    DLB_ELEMENTWISE_SIGMOID,      /* 1 / (1 + e^-x) */
    DLB_ELEMENTWISE_TANH,         /* tanh x */
    DLB_ELEMENTWISE_RELU_DIFF,    /* x > 0 ? d : 0 */
    DLB_ELEMENTWISE_LEAKY_DIFF,   /* x > 0 ? d : c d */
    DLB_ELEMENTWISE_SIGMOID_DIFF, /* d x (1 - x), x being the sigmoid */
    DLB_ELEMENTWISE_TANH_DIFF,    /* d (1 - x^2), x being the tanh */
    DLB_ELEMENTWISE_ADD,          /* x + d */
    DLB_ELEMENTWISE_ADD_RELU,     /* max(0, x + d) */
    DLB_ELEMENTWISE_DROPOUT,      /* kept ? c x : 0, and makes the mask */
    DLB_ELEMENTWISE_DROPOUT_DIFF, /* kept ? c x : 0, with the mask */
    DLB_ELEMENTWISE_FUNCTIONS
};

/* How a problem is computed.  Numbers are positions of tensors, -1 for none. */
struct dlb_elementwise {
    enum dlb_elementwise_function function;
    enum dlb_elementwise_function setup; /* what makes the mask in bind; COPY: nothing */
    int64_t n;
    int in[2], out;
    int kept; /* the tensor that fetch unpacks the mask to */
    float constant;
    /* Of dropout: element i is kept where bits 9 to 31 of the low (i even) or high (i odd)
     * half of dlb_hash(key, i / 2) are not below threshold. */
    uint64_t key;
    uint32_t threshold;
};

/* Members of struct dlb_op. */
extern const char *const dlb_elementwise_algorithms[];
extern const struct dlb_tile_def dlb_elementwise_tiles[];
enum { DLB_ELEMENTWISE_ALGORITHMS = 1, DLB_ELEMENTWISE_TILES = 1 };
void dlb_elementwise_enumerate(const struct dlb_problem *problem,
                               const struct dlb_target *target, dlb_candidate_fn *emit,
                               void *context);
const char *dlb_elementwise_refuse(const struct dlb_problem *problem,
                                   const struct dlb_target *target,
                                   const struct dlb_candidate *candidate);
void dlb_elementwise_fallback(const struct dlb_problem *problem,
                              const struct dlb_target *target,
                              struct dlb_candidate *candidate);
double dlb_elementwise_estimate(const struct dlb_problem *problem,
                                const struct dlb_target *target,
                                const struct dlb_rates *rates,
                                const struct dlb_candidate *candidate);
int64_t dlb_elementwise_reduction(const struct dlb_problem *problem); /* 1 */

/* For complete(): dims that are not set take their fallback, n must be there, all must be
 * in range. */
enum dlb_status dlb_elementwise_complete(const struct dlb_op *op,
                                         struct dlb_problem *problem,
                                         struct dlb_error *error);

/* For dim_needed(): every dim that is not its fallback. */
bool dlb_elementwise_dim_needed(const struct dlb_op *op,
                                const struct dlb_problem *problem, int dim);

/* For tensors(): one of n elements. */
struct dlb_tensor dlb_elementwise_tensor(const struct dlb_problem *problem,
                                         const char *name, enum dlb_role role);

/* For plan(). */
enum dlb_status dlb_elementwise_plan(const struct dlb_op *op,
                                     const struct dlb_elementwise *elementwise,
                                     const struct dlb_problem *problem,
                                     const struct dlb_target *target,
                                     const struct dlb_candidate *candidate,
                                     struct dlb_plan **plan, struct dlb_error *error);

/* Kernels (elementwise_kernels.c): elements [begin, begin + n) of all operands; begin is a
 * multiple of DLB_ELEMENTWISE_BLOCK. */
enum { DLB_ELEMENTWISE_BLOCK = 64 };
struct dlb_elementwise_call {
    const float *x, *d;
    float *y;
    uint64_t *mask; /* bit i % 64 of word i / 64 */
    int64_t begin, n;
    float constant;
    uint64_t key;
    uint32_t threshold;
};
typedef void dlb_elementwise_fn(const struct dlb_elementwise_call *call);
struct dlb_elementwise_kernels {
    dlb_elementwise_fn *function[DLB_ELEMENTWISE_FUNCTIONS][2]; /* [][stream] */
    void (*stream_fence)(void);
};

#endif
