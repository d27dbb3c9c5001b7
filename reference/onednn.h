/*
 * onednn.h - one face for the C API of oneDNN 2.x and 3.x, so that the adapter of each
 * operator is written once.
 *
 * onednn_2.c or onednn_3.c implements what differs between the two (the build picks one
 * by the headers' major version), onednn.c the facts about the loaded library, and
 * onednn_plan.c a plan around any primitive.  Nothing outside reference/ sees this.
 */
#ifndef DLB_REFERENCE_ONEDNN_H
#define DLB_REFERENCE_ONEDNN_H

#include "core/plan.h"

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
/* Copy of the descriptor that pd wants for query what (dnnl_query_exec_arg_md with an
 * argument as index, dnnl_query_scratchpad_md with 0). */
dnnl_status_t dlb_onednn_md_of(struct dlb_onednn_md *md, const_dnnl_primitive_desc_t pd,
                               dnnl_query_t what, int index);
void dlb_onednn_md_release(struct dlb_onednn_md *md);
size_t dlb_onednn_md_bytes(const struct dlb_onednn_md *md);
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

/* Forward inference; bias may be NULL.  Layouts: those of the descriptors, or "any". */
struct dlb_onednn_conv {
    dnnl_alg_kind_t algorithm;
    const struct dlb_onednn_md *src, *weights, *bias, *dst;
    dnnl_dims_t strides, dilations, padding_begin, padding_end;
};
dnnl_status_t dlb_onednn_conv_pd(dnnl_primitive_desc_t *pd,
                                 const struct dlb_onednn_conv *conv,
                                 const_dnnl_primitive_attr_t attributes,
                                 dnnl_engine_t engine);

/* Attributes that every primitive here has: the user's scratchpad, float32 throughout.
 * The caller destroys them. */
dnnl_status_t dlb_onednn_attributes_make(dnnl_primitive_attr_t *attributes);

/*
 * Forward LSTM and GRU, cell being dnnl_vanilla_lstm, dnnl_vanilla_gru or dnnl_lbr_gru.
 * src_iter, src_iter_c and bias may be NULL: zeros.  The states of cells are LSTM's only.
 */
struct dlb_onednn_rnn {
    dnnl_alg_kind_t cell;
    dnnl_prop_kind_t pass;
    dnnl_rnn_direction_t direction;
    const struct dlb_onednn_md *src, *src_iter, *src_iter_c, *weights_layer,
        *weights_iter, *bias, *dst, *dst_iter, *dst_iter_c;
};
dnnl_status_t dlb_onednn_rnn_pd(dnnl_primitive_desc_t *pd,
                                const struct dlb_onednn_rnn *rnn,
                                const_dnnl_primitive_attr_t attributes,
                                dnnl_engine_t engine);

/*
 * Name of a layout in the field's letters: letters are those of the logical dims in
 * order ("nchw"), the result is for example nhwc, nChw16c or OIhw16i16o; "opaque" for a
 * layout that only oneDNN knows.
 */
void dlb_onednn_md_name(const struct dlb_onednn_md *md, const char *letters, char *name,
                        size_t bytes);

/* One operand of a primitive and the canonical tensor that it is filled from or brought
 * back into. */
struct dlb_onednn_operand {
    int argument; /* DNNL_ARG_… */
    int tensor;   /* position in the tensor array of plans, or DLB_ONEDNN_ZEROS */
    bool output;
    const char *letters; /* of the logical dims, for plan->layout; NULL leaves it out */
    struct dlb_onednn_md canonical;
};
/* DLB_ONEDNN_ZEROS: an input that the problem goes without but the primitive does not. */
enum { DLB_ONEDNN_OPERANDS_MAX = 16, DLB_ONEDNN_ZEROS = -1 };

/*
 * A plan of class "onednn" that executes the primitive of pd.  engine, on which pd
 * was created, is taken over, on failure too; pd and the operands' descriptors remain the
 * caller's.  pd must want a user's scratchpad; that and a workspace, where pd has one, are
 * the plan's.  threads: those that pd was created for.
 */
enum dlb_status dlb_onednn_plan_make(dnnl_engine_t engine, const_dnnl_primitive_desc_t pd,
                                     const struct dlb_onednn_operand *operands,
                                     int operands_n, int threads, struct dlb_plan **plan,
                                     struct dlb_error *error);

#endif
