/*
 * onednn.h - one face for the C API of oneDNN 2.x and 3.x, so that the adapter of each
 * operator is written once.
 *
 * onednn_2.c or onednn_3.c implements what differs between the two (the build picks one
 * by the headers' major version), onednn.c the facts about the loaded library, and
 * onednn_plan.c a plan around any sequence of primitives.  Nothing outside reference/ sees this.
 */
#ifndef DLB_REFERENCE_ONEDNN_H
#define DLB_REFERENCE_ONEDNN_H

#include "core/plan.h"
#include "core/problem.h"

#include <dnnl.h>

/* The status for a failure of oneDNN, with a sentence that says what could not be done;
 * doing continues "oneDNN could not …". */
enum dlb_status dlb_onednn_fail(struct dlb_error *error, dnnl_status_t code,
                                const char *doing);

/* A memory descriptor: a value in 2.x, an object in 3.x.  Owned; zeroed = none. */
struct dlb_onednn_md {
    dnnl_memory_desc_t desc;
};
dnnl_status_t dlb_onednn_md_make(struct dlb_onednn_md *md, int rank,
                                 const dnnl_dims_t dims, dnnl_format_tag_t tag);
/* A layout by strides, in elements. */
dnnl_status_t dlb_onednn_md_strided(struct dlb_onednn_md *md, int rank,
                                    const dnnl_dims_t dims, const dnnl_dims_t strides);
/* Copy of the descriptor that pd wants for query what (dnnl_query_exec_arg_md with an
 * argument as index, dnnl_query_scratchpad_md with 0). */
dnnl_status_t dlb_onednn_md_of(struct dlb_onednn_md *md, const_dnnl_primitive_desc_t pd,
                               dnnl_query_t what, int index);
void dlb_onednn_md_release(struct dlb_onednn_md *md);
size_t dlb_onednn_md_bytes(const struct dlb_onednn_md *md); /* 0 of none */
bool dlb_onednn_md_equal(const struct dlb_onednn_md *a, const struct dlb_onednn_md *b);

/* The blocking of a layout; false for an opaque one (Winograd, packed). */
struct dlb_onednn_blocking {
    int rank, blocks;
    dnnl_dims_t strides, block_size, block_dim;
};
bool dlb_onednn_md_blocking(const struct dlb_onednn_md *md,
                            struct dlb_onednn_blocking *blocking);

dnnl_status_t dlb_onednn_memory_make(dnnl_memory_t *memory,
                                     const struct dlb_onednn_md *md,
                                     dnnl_engine_t engine);
dnnl_status_t dlb_onednn_reorder_make(dnnl_primitive_t *reorder,
                                      const struct dlb_onednn_md *from,
                                      const struct dlb_onednn_md *to,
                                      dnnl_engine_t engine);
dnnl_status_t dlb_onednn_append_relu(dnnl_post_ops_t post_ops);
/* As the first of the post-ops the addend is passed as DLB_ONEDNN_ADDEND. */
dnnl_status_t dlb_onednn_append_add(dnnl_post_ops_t post_ops,
                                    const struct dlb_onednn_md *addend);
enum { DLB_ONEDNN_ADDEND = DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1 };

/*
 * A convolution of one pass: dnnl_forward_inference, dnnl_forward_training,
 * dnnl_backward_data or dnnl_backward_weights.  Backward src, weights, bias and dst stand
 * for their diffs where the pass has them so, and hint is a descriptor of the forward
 * pass.  bias may be NULL, and is left out of backward data.  Layouts: those of the
 * descriptors, or "any".
 */
struct dlb_onednn_conv {
    dnnl_prop_kind_t pass;
    dnnl_alg_kind_t algorithm;
    const struct dlb_onednn_md *src, *weights, *bias, *dst;
    dnnl_dims_t strides, dilations, padding_begin, padding_end;
    const_dnnl_primitive_desc_t hint;
};
dnnl_status_t dlb_onednn_conv_pd(dnnl_primitive_desc_t *pd,
                                 const struct dlb_onednn_conv *conv,
                                 const_dnnl_primitive_attr_t attributes,
                                 dnnl_engine_t engine);

/* Attributes that every primitive here has: the user's scratchpad, float32 throughout.
 * The caller destroys them. */
dnnl_status_t dlb_onednn_attributes_make(dnnl_primitive_attr_t *attributes);

/*
 * Has a matmul multiply its result by scale.  *argument becomes that under which the scale
 * must be passed once more, as a memory of one element, or 0 where it need not (2.x).
 */
dnnl_status_t dlb_onednn_attributes_scale(dnnl_primitive_attr_t attributes, float scale,
                                          int *argument);
/* Layouts: those of the descriptors, or "any". */
dnnl_status_t
dlb_onednn_matmul_pd(dnnl_primitive_desc_t *pd, const struct dlb_onednn_md *src,
                     const struct dlb_onednn_md *weights, const struct dlb_onednn_md *dst,
                     const_dnnl_primitive_attr_t attributes, dnnl_engine_t engine);
/* With a bias of one row, or NULL. */
dnnl_status_t dlb_onednn_matmul_bias_pd(dnnl_primitive_desc_t *pd,
                                        const struct dlb_onednn_md *src,
                                        const struct dlb_onednn_md *weights,
                                        const struct dlb_onednn_md *bias,
                                        const struct dlb_onednn_md *dst,
                                        const_dnnl_primitive_attr_t attributes,
                                        dnnl_engine_t engine);

/* Inner product: pass DLB_FWD, DLB_BWD_DATA (without bias) or DLB_BWD_WEIGHTS, of whose
 * results the descriptors are then; bias may be NULL.  Layouts: those of the descriptors,
 * or "any". */
struct dlb_onednn_inner_product {
    enum dlb_pass pass;
    const struct dlb_onednn_md *src, *weights, *bias, *dst;
};
dnnl_status_t dlb_onednn_inner_product_pd(dnnl_primitive_desc_t *pd,
                                          const struct dlb_onednn_inner_product *ip,
                                          const_dnnl_primitive_attr_t attributes,
                                          dnnl_engine_t engine);

/* Pooling of images: of the forward pass (inference, or training), or backward, whose
 * gradients have the layouts then. */
struct dlb_onednn_pooling {
    enum dlb_pass pass; /* DLB_FWD, DLB_FWD_TRAIN or DLB_BWD */
    dnnl_alg_kind_t algorithm;
    const struct dlb_onednn_md *src, *dst;
    dnnl_dims_t strides, kernel, padding_begin, padding_end;
};
dnnl_status_t dlb_onednn_pooling_pd(dnnl_primitive_desc_t *pd,
                                    const struct dlb_onednn_pooling *pooling,
                                    const_dnnl_primitive_attr_t attributes,
                                    dnnl_engine_t engine);

/* Over the last dim: softmax, or its logarithm (dnnl_softmax_log); src and dst in the layout
 * of data, and one memory if you like. */
dnnl_status_t dlb_onednn_softmax_pd(dnnl_primitive_desc_t *pd, dnnl_alg_kind_t algorithm,
                                    const struct dlb_onednn_md *data,
                                    const_dnnl_primitive_attr_t attributes,
                                    dnnl_engine_t engine);
/* Backward of the softmax dst; its gradient and that of its operand in the layout of dst, and
 * one memory if you like. */
dnnl_status_t dlb_onednn_softmax_backward_pd(dnnl_primitive_desc_t *pd,
                                             const struct dlb_onednn_md *dst,
                                             const_dnnl_primitive_attr_t attributes,
                                             dnnl_engine_t engine);
/* dst = src0 algorithm src1, dnnl_binary_add for example; dst in the layout of src0, and its
 * memory if you like.  Dims of 1 in src1 are repeated. */
dnnl_status_t dlb_onednn_binary_pd(dnnl_primitive_desc_t *pd, dnnl_alg_kind_t algorithm,
                                   const struct dlb_onednn_md *src0,
                                   const struct dlb_onednn_md *src1,
                                   const_dnnl_primitive_attr_t attributes,
                                   dnnl_engine_t engine);

/* Of elements in the layout of data: forward inference, or the backward pass of it. */
dnnl_status_t dlb_onednn_eltwise_pd(dnnl_primitive_desc_t *pd, bool backward,
                                    dnnl_alg_kind_t algorithm, float alpha,
                                    const struct dlb_onednn_md *data,
                                    const_dnnl_primitive_attr_t attributes,
                                    dnnl_engine_t engine);
/* A reorder to the same layout. */
dnnl_status_t dlb_onednn_copy_pd(dnnl_primitive_desc_t *pd,
                                 const struct dlb_onednn_md *data,
                                 const_dnnl_primitive_attr_t attributes,
                                 dnnl_engine_t engine);

/*
 * LSTM, GRU and RNN, cell being dnnl_vanilla_lstm, dnnl_vanilla_gru, dnnl_lbr_gru or
 * dnnl_vanilla_rnn (which alone has an activation, dnnl_eltwise_…).  src_iter and
 * src_iter_c may be NULL: zeros.  The states of cells are LSTM's only.
 * Backward: diff is the same operands' gradients, hint the forward pass that is gone back.
 */
struct dlb_onednn_rnn_operands {
    const struct dlb_onednn_md *src, *src_iter, *src_iter_c, *weights_layer,
        *weights_iter, *bias, *dst, *dst_iter, *dst_iter_c;
};
struct dlb_onednn_rnn {
    dnnl_alg_kind_t cell, activation;
    dnnl_prop_kind_t pass;
    dnnl_rnn_direction_t direction;
    struct dlb_onednn_rnn_operands value, diff;
    const_dnnl_primitive_desc_t hint;
};
/* Whether a backward pass writes the gradients of weights and biases; else it adds to what
 * is there. */
extern const bool dlb_onednn_rnn_overwrites;
dnnl_status_t dlb_onednn_rnn_pd(dnnl_primitive_desc_t *pd,
                                const struct dlb_onednn_rnn *rnn,
                                const_dnnl_primitive_attr_t attributes,
                                dnnl_engine_t engine);

/* Whether a backward batch normalisation with shift wants the shift itself, too: it is
 * refused without in 2.x, with it in 3.x. */
extern const bool dlb_onednn_batchnorm_wants_shift;
/* All images in the layout of data, flags of dnnl_normalization_flags_t.  forward: NULL, or
 * for a backward pass the descriptor of its forward pass. */
dnnl_status_t dlb_onednn_batchnorm_pd(dnnl_primitive_desc_t *pd, dnnl_prop_kind_t pass,
                                      unsigned flags, float epsilon,
                                      const struct dlb_onednn_md *data,
                                      const_dnnl_primitive_desc_t forward,
                                      const_dnnl_primitive_attr_t attributes,
                                      dnnl_engine_t engine);

/*
 * Name of a layout in the field's letters: letters are those of the logical dims in
 * order ("nchw"), the result is for example nhwc, nChw16c or OIhw16i16o; "opaque" for a
 * layout that only oneDNN knows.
 */
void dlb_onednn_md_name(const struct dlb_onednn_md *md, const char *letters, char *name,
                        size_t bytes);

/* Makes the elements of an operand in bind, from the canonical tensors. */
typedef void dlb_onednn_fill_fn(const struct dlb_problem *problem, void *const *tensor,
                                int64_t elements, float *data);

/*
 * One operand of a plan: memory that its steps share.  Each use of it is a view in the
 * layout that the primitive wants; all uses are of the same elements in the same order.
 *
 * Backed by a canonical tensor: read or written in place where own (or, when that is
 * none, the first use) has the canonical layout; else memory of the plan's own in that
 * layout, reordered from the tensor in bind or into it in fetch.  Without a tensor
 * (DLB_ONEDNN_OWN): what one step leaves to another, a workspace, or, with fill, what bind
 * makes of the tensors.
 */
struct dlb_onednn_operand {
    int tensor; /* position in the tensor array of plans, or DLB_ONEDNN_OWN */
    bool output;
    bool zeroed; /* by run, before its steps: for primitives that add to their output */
    const char *letters; /* of the logical dims, for plan->layout; NULL leaves it out */
    struct dlb_onednn_md canonical; /* none without a tensor */
    struct dlb_onednn_md own; /* none: that of the first use; needed where the primitive
                                 does not tell, as for scales */
    dlb_onednn_fill_fn *fill;
};

enum { DLB_ONEDNN_OWN = -1, DLB_ONEDNN_OPERANDS_MAX = 32, DLB_ONEDNN_STEPS_MAX = 12 };

/* One primitive of a plan, which must want a user's scratchpad, and the operand behind
 * each of its arguments (DNNL_ARG_…). */
struct dlb_onednn_step {
    dnnl_primitive_desc_t pd;
    int uses_n;
    struct {
        int argument, operand;
    } use[DLB_ONEDNN_OPERANDS_MAX];
};

/*
 * A plan as its primitives in the order of their execution; operands that none of them
 * uses are left out.  The first setup_n are executed in bind, outside the timed part: the
 * forward pass that leaves its workspace, states or statistics to a backward pass.
 */
struct dlb_onednn_recipe {
    dnnl_engine_t engine; /* on which the primitives were described */
    const struct dlb_problem *problem;
    int threads; /* those that the primitives were described for */
    int operands_n, steps_n, setup_n;
    struct dlb_onednn_operand operand[DLB_ONEDNN_OPERANDS_MAX];
    struct dlb_onednn_step step[DLB_ONEDNN_STEPS_MAX];
    int tensors_n; /* of the problem, for what follows and for operands that are zeroed */
    /* NULL, or what run does to the tensors after the last step.  operand: by number, the
     * memory of those that have one of their own. */
    void (*finish)(const struct dlb_problem *problem, void *const *tensor,
                   void *const *operand);
};

/*
 * A plan of class "onednn".  May take the engine over, and sets it to NULL in the recipe
 * then; all else there remains the caller's, who releases the recipe in any case.
 * plan->algorithm joins the implementations of the steps by '+'.
 */
enum dlb_status dlb_onednn_plan_make(struct dlb_onednn_recipe *recipe,
                                     struct dlb_plan **plan, struct dlb_error *error);

/* Releases the primitive descriptors, the layouts and, when it is still there, the engine
 * of a recipe; safe on a zeroed one. */
void dlb_onednn_recipe_release(struct dlb_onednn_recipe *recipe);

#endif
