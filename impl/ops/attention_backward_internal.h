/*
 * attention_backward_internal.h - what the plans of attention's backward pass and its
 * algorithms share.
 */
#ifndef DLB_OPS_ATTENTION_BACKWARD_INTERNAL_H
#define DLB_OPS_ATTENTION_BACKWARD_INTERNAL_H

#include "core/brgemm.h"
#include "ops/attention_backward.h"
#include "ops/attention_backward_kernels.h"

struct dlb_attention_backward;

/* An algorithm: elements of scratch that a thread needs, what it is to hold from bind on
 * (it is zeroed before), and one unit of work: all queries of a head, a part of its keys. */
struct dlb_attention_backward_runner {
    int64_t (*scratch)(const struct dlb_attention_backward *plan);
    void (*start)(const struct dlb_attention_backward *plan, float *scratch);
    void (*run)(const struct dlb_attention_backward *plan, int64_t head, int64_t part,
                float *scratch);
};
extern const struct dlb_attention_backward_runner dlb_attention_recompute,
    dlb_attention_backward_decode;

struct dlb_attention_backward {
    struct dlb_plan plan;
    const struct dlb_attention_backward_runner *runner;
    enum dlb_isa isa;
    struct dlb_attention_shape s;
    struct dlb_attention_work work;
    const struct dlb_attention_kernels *panels;
    const struct dlb_attention_backward_kernels *kernels;
    const struct dlb_brgemm_kernels *brgemm;
    int64_t kb;
    bool stream;         /* gradients of keys and values go past the caches */
    int64_t *part_begin; /* keys: part p is [part_begin[p], part_begin[p + 1]) */
    struct dlb_attention_strips k_strips, v_strips;
    struct dlb_plan *forward;
    float *dst;        /* of the forward pass */
    float *statistics; /* the same: [head][row] of maximum and sum of exponentials */
    const float *q, *k, *v, *mask, *diff_dst;
    float *diff_q, *diff_k, *diff_v;
    int64_t scratch_elements; /* of one thread, whole cache lines */
    float *scratch;
    float *partial; /* [head][part][row][d], scaled; NULL with one part */
};

/* Where the gradient of a row of q goes: d elements. */
float *dlb_attention_backward_target(const struct dlb_attention_backward *plan,
                                     int64_t head, int64_t part, int64_t row);

#endif
