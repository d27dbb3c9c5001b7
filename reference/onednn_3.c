/*
 * The parts of onednn.h that speak the C API of oneDNN 3.x.
 */
#include "onednn.h"

#include <string.h>

dnnl_status_t dlb_onednn_md_make(struct dlb_onednn_md *md, int rank,
                                 const dnnl_dims_t dims, dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_create_with_tag(&md->desc, rank, dims, dnnl_f32, tag);
}

dnnl_status_t dlb_onednn_md_strided(struct dlb_onednn_md *md, int rank,
                                    const dnnl_dims_t dims, const dnnl_dims_t strides)
{
    return dnnl_memory_desc_create_with_strides(&md->desc, rank, dims, dnnl_f32, strides);
}

dnnl_status_t dlb_onednn_md_of(struct dlb_onednn_md *md, const_dnnl_primitive_desc_t pd,
                               dnnl_query_t what, int index)
{
    const_dnnl_memory_desc_t desc = dnnl_primitive_desc_query_md(pd, what, index);
    return desc ? dnnl_memory_desc_clone(&md->desc, desc) : dnnl_invalid_arguments;
}

void dlb_onednn_md_release(struct dlb_onednn_md *md)
{
    if (md->desc)
        dnnl_memory_desc_destroy(md->desc);
    md->desc = NULL;
}

size_t dlb_onednn_md_bytes(const struct dlb_onednn_md *md)
{
    return md->desc ? dnnl_memory_desc_get_size(md->desc) : 0;
}

bool dlb_onednn_md_equal(const struct dlb_onednn_md *a, const struct dlb_onednn_md *b)
{
    return dnnl_memory_desc_equal(a->desc, b->desc);
}

static bool query_dims(const struct dlb_onednn_md *md, dnnl_query_t what, int n,
                       dnnl_dims_t dims)
{
    const dnnl_dims_t *found = NULL;
    if (n == 0)
        return true;
    if (dnnl_memory_desc_query(md->desc, what, &found) || !found)
        return false;
    memcpy(dims, *found, (size_t)n * sizeof **found);
    return true;
}

bool dlb_onednn_md_blocking(const struct dlb_onednn_md *md,
                            struct dlb_onednn_blocking *blocking)
{
    dnnl_format_kind_t kind = dnnl_format_kind_undef;
    dnnl_memory_desc_query(md->desc, dnnl_query_format_kind, &kind);
    if (kind != dnnl_blocked)
        return false;
    dnnl_memory_desc_query(md->desc, dnnl_query_ndims_s32, &blocking->rank);
    dnnl_memory_desc_query(md->desc, dnnl_query_inner_nblks_s32, &blocking->blocks);
    return query_dims(md, dnnl_query_strides, blocking->rank, blocking->strides) &&
           query_dims(md, dnnl_query_inner_blks, blocking->blocks,
                      blocking->block_size) &&
           query_dims(md, dnnl_query_inner_idxs, blocking->blocks, blocking->block_dim);
}

dnnl_status_t dlb_onednn_memory_make(dnnl_memory_t *memory,
                                     const struct dlb_onednn_md *md, dnnl_engine_t engine)
{
    return dnnl_memory_create(memory, md->desc, engine, DNNL_MEMORY_NONE);
}

dnnl_status_t dlb_onednn_reorder_make(dnnl_primitive_t *reorder,
                                      const struct dlb_onednn_md *from,
                                      const struct dlb_onednn_md *to,
                                      dnnl_engine_t engine)
{
    dnnl_primitive_desc_t pd;
    dnnl_status_t code = dnnl_reorder_primitive_desc_create(&pd, from->desc, engine,
                                                            to->desc, engine, NULL);
    if (code)
        return code;
    code = dnnl_primitive_create(reorder, pd);
    dnnl_primitive_desc_destroy(pd);
    return code;
}

dnnl_status_t dlb_onednn_append_relu(dnnl_post_ops_t post_ops)
{
    return dnnl_post_ops_append_eltwise(post_ops, dnnl_eltwise_relu, 0, 0);
}

dnnl_status_t dlb_onednn_append_add(dnnl_post_ops_t post_ops,
                                    const struct dlb_onednn_md *addend)
{
    return dnnl_post_ops_append_binary(post_ops, dnnl_binary_add, addend->desc);
}

static const_dnnl_memory_desc_t desc_of(const struct dlb_onednn_md *md)
{
    return md ? md->desc : NULL;
}

dnnl_status_t dlb_onednn_conv_pd(dnnl_primitive_desc_t *pd,
                                 const struct dlb_onednn_conv *conv,
                                 const_dnnl_primitive_attr_t attributes,
                                 dnnl_engine_t engine)
{
    if (conv->pass == dnnl_backward_data)
        return dnnl_convolution_backward_data_primitive_desc_create(
            pd, engine, conv->algorithm, conv->src->desc, conv->weights->desc,
            conv->dst->desc, conv->strides, conv->dilations, conv->padding_begin,
            conv->padding_end, conv->hint, attributes);
    if (conv->pass == dnnl_backward_weights)
        return dnnl_convolution_backward_weights_primitive_desc_create(
            pd, engine, conv->algorithm, conv->src->desc, conv->weights->desc,
            desc_of(conv->bias), conv->dst->desc, conv->strides, conv->dilations,
            conv->padding_begin, conv->padding_end, conv->hint, attributes);
    return dnnl_convolution_forward_primitive_desc_create(
        pd, engine, conv->pass, conv->algorithm, conv->src->desc, conv->weights->desc,
        desc_of(conv->bias), conv->dst->desc, conv->strides, conv->dilations,
        conv->padding_begin, conv->padding_end, attributes);
}

/* The attribute goes into the product itself; an eltwise post-op would walk over the
 * result once more. */
dnnl_status_t dlb_onednn_attributes_scale(dnnl_primitive_attr_t attributes, float scale,
                                          int *argument)
{
    (void)scale;
    *argument = DNNL_ARG_ATTR_SCALES | DNNL_ARG_SRC;
    return dnnl_primitive_attr_set_scales_mask(attributes, DNNL_ARG_SRC, 0);
}

dnnl_status_t dlb_onednn_matmul_bias_pd(dnnl_primitive_desc_t *pd,
                                        const struct dlb_onednn_md *src,
                                        const struct dlb_onednn_md *weights,
                                        const struct dlb_onednn_md *bias,
                                        const struct dlb_onednn_md *dst,
                                        const_dnnl_primitive_attr_t attributes,
                                        dnnl_engine_t engine)
{
    return dnnl_matmul_primitive_desc_create(pd, engine, src->desc, weights->desc,
                                             desc_of(bias), dst->desc, attributes);
}

dnnl_status_t dlb_onednn_inner_product_pd(dnnl_primitive_desc_t *pd,
                                          const struct dlb_onednn_inner_product *ip,
                                          const_dnnl_primitive_attr_t attributes,
                                          dnnl_engine_t engine)
{
    const bool forward = ip->pass == DLB_FWD;
    dnnl_primitive_desc_t hint = NULL;
    dnnl_status_t code = dnnl_inner_product_forward_primitive_desc_create(
        forward ? pd : &hint, engine,
        forward ? dnnl_forward_inference : dnnl_forward_training, ip->src->desc,
        ip->weights->desc, desc_of(ip->bias), ip->dst->desc, attributes);
    if (code || forward)
        return code;
    if (ip->pass == DLB_BWD_DATA)
        code = dnnl_inner_product_backward_data_primitive_desc_create(
            pd, engine, ip->src->desc, ip->weights->desc, ip->dst->desc, hint,
            attributes);
    else
        code = dnnl_inner_product_backward_weights_primitive_desc_create(
            pd, engine, ip->src->desc, ip->weights->desc, desc_of(ip->bias),
            ip->dst->desc, hint, attributes);
    dnnl_primitive_desc_destroy(hint);
    return code;
}

dnnl_status_t dlb_onednn_pooling_pd(dnnl_primitive_desc_t *pd,
                                    const struct dlb_onednn_pooling *pooling,
                                    const_dnnl_primitive_attr_t attributes,
                                    dnnl_engine_t engine)
{
    static const dnnl_dims_t dense = {0, 0};
    const bool back = pooling->pass == DLB_BWD;
    dnnl_primitive_desc_t hint = NULL;
    dnnl_status_t code = dnnl_pooling_forward_primitive_desc_create(
        back ? &hint : pd, engine,
        pooling->pass == DLB_FWD ? dnnl_forward_inference : dnnl_forward_training,
        pooling->algorithm, pooling->src->desc, pooling->dst->desc, pooling->strides,
        pooling->kernel, dense, pooling->padding_begin, pooling->padding_end, attributes);
    if (code || !back)
        return code;
    code = dnnl_pooling_backward_primitive_desc_create(
        pd, engine, pooling->algorithm, pooling->src->desc, pooling->dst->desc,
        pooling->strides, pooling->kernel, dense, pooling->padding_begin,
        pooling->padding_end, hint, attributes);
    dnnl_primitive_desc_destroy(hint);
    return code;
}

dnnl_status_t dlb_onednn_softmax_pd(dnnl_primitive_desc_t *pd, dnnl_alg_kind_t algorithm,
                                    const struct dlb_onednn_md *data,
                                    const_dnnl_primitive_attr_t attributes,
                                    dnnl_engine_t engine)
{
    int rank = 0;
    dnnl_status_t code = dnnl_memory_desc_query(data->desc, dnnl_query_ndims_s32, &rank);
    return code ? code
                : dnnl_softmax_forward_primitive_desc_create(
                      pd, engine, dnnl_forward_inference, algorithm, data->desc,
                      data->desc, rank - 1, attributes);
}

dnnl_status_t dlb_onednn_softmax_backward_pd(dnnl_primitive_desc_t *pd,
                                             const struct dlb_onednn_md *dst,
                                             const_dnnl_primitive_attr_t attributes,
                                             dnnl_engine_t engine)
{
    dnnl_primitive_desc_t forward;
    int rank = 0;
    dnnl_status_t code =
        dlb_onednn_softmax_pd(&forward, dnnl_softmax_accurate, dst, attributes, engine);
    if (code)
        return code;
    code = dnnl_memory_desc_query(dst->desc, dnnl_query_ndims_s32, &rank);
    if (!code)
        code = dnnl_softmax_backward_primitive_desc_create(
            pd, engine, dnnl_softmax_accurate, dst->desc, dst->desc, dst->desc, rank - 1,
            forward, attributes);
    dnnl_primitive_desc_destroy(forward);
    return code;
}

dnnl_status_t dlb_onednn_eltwise_pd(dnnl_primitive_desc_t *pd, bool backward,
                                    dnnl_alg_kind_t algorithm, float alpha,
                                    const struct dlb_onednn_md *data,
                                    const_dnnl_primitive_attr_t attributes,
                                    dnnl_engine_t engine)
{
    dnnl_primitive_desc_t hint = NULL;
    dnnl_status_t code = dnnl_eltwise_forward_primitive_desc_create(
        backward ? &hint : pd, engine,
        backward ? dnnl_forward_training : dnnl_forward_inference, algorithm, data->desc,
        data->desc, alpha, 0, attributes);
    if (code || !backward)
        return code;
    code = dnnl_eltwise_backward_primitive_desc_create(pd, engine, algorithm, data->desc,
                                                       data->desc, data->desc, alpha, 0,
                                                       hint, attributes);
    dnnl_primitive_desc_destroy(hint);
    return code;
}

dnnl_status_t dlb_onednn_copy_pd(dnnl_primitive_desc_t *pd,
                                 const struct dlb_onednn_md *data,
                                 const_dnnl_primitive_attr_t attributes,
                                 dnnl_engine_t engine)
{
    return dnnl_reorder_primitive_desc_create(pd, data->desc, engine, data->desc, engine,
                                              attributes);
}

dnnl_status_t dlb_onednn_binary_pd(dnnl_primitive_desc_t *pd, dnnl_alg_kind_t algorithm,
                                   const struct dlb_onednn_md *src0,
                                   const struct dlb_onednn_md *src1,
                                   const_dnnl_primitive_attr_t attributes,
                                   dnnl_engine_t engine)
{
    return dnnl_binary_primitive_desc_create(pd, engine, algorithm, src0->desc,
                                             src1->desc, src0->desc, attributes);
}

/* From 3.3 on. */
#if DNNL_VERSION_MAJOR > 3 || DNNL_VERSION_MINOR >= 3
const bool dlb_onednn_rnn_overwrites = true;
enum { RNN_FLAGS = dnnl_rnn_flags_diff_weights_overwrite };
#else
const bool dlb_onednn_rnn_overwrites = false;
enum { RNN_FLAGS = dnnl_rnn_flags_undef };
#endif

static dnnl_status_t rnn_forward(dnnl_primitive_desc_t *pd,
                                 const struct dlb_onednn_rnn *rnn,
                                 const_dnnl_primitive_attr_t attributes,
                                 dnnl_engine_t engine)
{
    const struct dlb_onednn_rnn_operands *o = &rnn->value;
    switch (rnn->cell) {
    case dnnl_vanilla_lstm:
        return dnnl_lstm_forward_primitive_desc_create(
            pd, engine, rnn->pass, rnn->direction, desc_of(o->src), desc_of(o->src_iter),
            desc_of(o->src_iter_c), desc_of(o->weights_layer), desc_of(o->weights_iter),
            NULL, NULL, desc_of(o->bias), desc_of(o->dst), desc_of(o->dst_iter),
            desc_of(o->dst_iter_c), dnnl_rnn_flags_undef, attributes);
    case dnnl_vanilla_rnn:
        return dnnl_vanilla_rnn_forward_primitive_desc_create(
            pd, engine, rnn->pass, rnn->activation, rnn->direction, desc_of(o->src),
            desc_of(o->src_iter), desc_of(o->weights_layer), desc_of(o->weights_iter),
            desc_of(o->bias), desc_of(o->dst), desc_of(o->dst_iter), dnnl_rnn_flags_undef,
            0, 0, attributes);
    default:
        return (rnn->cell == dnnl_lbr_gru ? dnnl_lbr_gru_forward_primitive_desc_create
                                          : dnnl_gru_forward_primitive_desc_create)(
            pd, engine, rnn->pass, rnn->direction, desc_of(o->src), desc_of(o->src_iter),
            desc_of(o->weights_layer), desc_of(o->weights_iter), desc_of(o->bias),
            desc_of(o->dst), desc_of(o->dst_iter), dnnl_rnn_flags_undef, attributes);
    }
}

static dnnl_status_t rnn_backward(dnnl_primitive_desc_t *pd,
                                  const struct dlb_onednn_rnn *rnn,
                                  const_dnnl_primitive_attr_t attributes,
                                  dnnl_engine_t engine)
{
    const struct dlb_onednn_rnn_operands *o = &rnn->value, *d = &rnn->diff;
    switch (rnn->cell) {
    case dnnl_vanilla_lstm:
        return dnnl_lstm_backward_primitive_desc_create(
            pd, engine, rnn->pass, rnn->direction, desc_of(o->src), desc_of(o->src_iter),
            desc_of(o->src_iter_c), desc_of(o->weights_layer), desc_of(o->weights_iter),
            NULL, NULL, desc_of(o->bias), desc_of(o->dst), desc_of(o->dst_iter),
            desc_of(o->dst_iter_c), desc_of(d->src), desc_of(d->src_iter),
            desc_of(d->src_iter_c), desc_of(d->weights_layer), desc_of(d->weights_iter),
            NULL, NULL, desc_of(d->bias), desc_of(d->dst), desc_of(d->dst_iter),
            desc_of(d->dst_iter_c), RNN_FLAGS, rnn->hint, attributes);
    case dnnl_vanilla_rnn:
        return dnnl_vanilla_rnn_backward_primitive_desc_create(
            pd, engine, rnn->pass, rnn->activation, rnn->direction, desc_of(o->src),
            desc_of(o->src_iter), desc_of(o->weights_layer), desc_of(o->weights_iter),
            desc_of(o->bias), desc_of(o->dst), desc_of(o->dst_iter), desc_of(d->src),
            desc_of(d->src_iter), desc_of(d->weights_layer), desc_of(d->weights_iter),
            desc_of(d->bias), desc_of(d->dst), desc_of(d->dst_iter), RNN_FLAGS, 0, 0,
            rnn->hint, attributes);
    default:
        return (rnn->cell == dnnl_lbr_gru ? dnnl_lbr_gru_backward_primitive_desc_create
                                          : dnnl_gru_backward_primitive_desc_create)(
            pd, engine, rnn->pass, rnn->direction, desc_of(o->src), desc_of(o->src_iter),
            desc_of(o->weights_layer), desc_of(o->weights_iter), desc_of(o->bias),
            desc_of(o->dst), desc_of(o->dst_iter), desc_of(d->src), desc_of(d->src_iter),
            desc_of(d->weights_layer), desc_of(d->weights_iter), desc_of(d->bias),
            desc_of(d->dst), desc_of(d->dst_iter), RNN_FLAGS, rnn->hint, attributes);
    }
}

dnnl_status_t dlb_onednn_rnn_pd(dnnl_primitive_desc_t *pd,
                                const struct dlb_onednn_rnn *rnn,
                                const_dnnl_primitive_attr_t attributes,
                                dnnl_engine_t engine)
{
    return (rnn->pass == dnnl_backward ? rnn_backward : rnn_forward)(pd, rnn, attributes,
                                                                     engine);
}

const bool dlb_onednn_batchnorm_wants_shift = false;

dnnl_status_t dlb_onednn_batchnorm_pd(dnnl_primitive_desc_t *pd, dnnl_prop_kind_t pass,
                                      unsigned flags, float epsilon,
                                      const struct dlb_onednn_md *data,
                                      const_dnnl_primitive_desc_t forward,
                                      const_dnnl_primitive_attr_t attributes,
                                      dnnl_engine_t engine)
{
    if (forward)
        return dnnl_batch_normalization_backward_primitive_desc_create(
            pd, engine, pass, data->desc, data->desc, data->desc, epsilon, flags, forward,
            attributes);
    return dnnl_batch_normalization_forward_primitive_desc_create(
        pd, engine, pass, data->desc, data->desc, epsilon, flags, attributes);
}
