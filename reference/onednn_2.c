/*
 * The parts of onednn.h that speak the C API of oneDNN 2.x.
 */
#include "onednn.h"

#include <string.h>

dnnl_status_t dlb_onednn_md_make(struct dlb_onednn_md *md, int rank,
                                 const dnnl_dims_t dims, dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_init_by_tag(&md->desc, rank, dims, dnnl_f32, tag);
}

dnnl_status_t dlb_onednn_md_strided(struct dlb_onednn_md *md, int rank,
                                    const dnnl_dims_t dims, const dnnl_dims_t strides)
{
    return dnnl_memory_desc_init_by_strides(&md->desc, rank, dims, dnnl_f32, strides);
}

dnnl_status_t dlb_onednn_md_of(struct dlb_onednn_md *md, const_dnnl_primitive_desc_t pd,
                               dnnl_query_t what, int index)
{
    const dnnl_memory_desc_t *desc = dnnl_primitive_desc_query_md(pd, what, index);
    if (!desc)
        return dnnl_invalid_arguments;
    md->desc = *desc;
    return dnnl_success;
}

void dlb_onednn_md_release(struct dlb_onednn_md *md)
{
    memset(md, 0, sizeof *md);
}

size_t dlb_onednn_md_bytes(const struct dlb_onednn_md *md)
{
    return dnnl_memory_desc_get_size(&md->desc);
}

bool dlb_onednn_md_equal(const struct dlb_onednn_md *a, const struct dlb_onednn_md *b)
{
    return dnnl_memory_desc_equal(&a->desc, &b->desc);
}

bool dlb_onednn_md_blocking(const struct dlb_onednn_md *md,
                            struct dlb_onednn_blocking *blocking)
{
    if (md->desc.format_kind != dnnl_blocked)
        return false;
    const dnnl_blocking_desc_t *desc = &md->desc.format_desc.blocking;
    blocking->rank = md->desc.ndims;
    blocking->blocks = desc->inner_nblks;
    memcpy(blocking->strides, desc->strides, sizeof desc->strides);
    memcpy(blocking->block_size, desc->inner_blks, sizeof desc->inner_blks);
    memcpy(blocking->block_dim, desc->inner_idxs, sizeof desc->inner_idxs);
    return true;
}

dnnl_status_t dlb_onednn_memory_make(dnnl_memory_t *memory,
                                     const struct dlb_onednn_md *md, dnnl_engine_t engine)
{
    return dnnl_memory_create(memory, &md->desc, engine, DNNL_MEMORY_NONE);
}

dnnl_status_t dlb_onednn_reorder_make(dnnl_primitive_t *reorder,
                                      const struct dlb_onednn_md *from,
                                      const struct dlb_onednn_md *to,
                                      dnnl_engine_t engine)
{
    dnnl_primitive_desc_t pd;
    dnnl_status_t code = dnnl_reorder_primitive_desc_create(&pd, &from->desc, engine,
                                                            &to->desc, engine, NULL);
    if (code)
        return code;
    code = dnnl_primitive_create(reorder, pd);
    dnnl_primitive_desc_destroy(pd);
    return code;
}

dnnl_status_t dlb_onednn_append_relu(dnnl_post_ops_t post_ops)
{
    return dnnl_post_ops_append_eltwise(post_ops, 1, dnnl_eltwise_relu, 0, 0);
}

dnnl_status_t dlb_onednn_append_add(dnnl_post_ops_t post_ops,
                                    const struct dlb_onednn_md *addend)
{
    return dnnl_post_ops_append_binary(post_ops, dnnl_binary_add, &addend->desc);
}

static const dnnl_memory_desc_t *desc_of(const struct dlb_onednn_md *md)
{
    return md ? &md->desc : NULL;
}

dnnl_status_t dlb_onednn_conv_pd(dnnl_primitive_desc_t *pd,
                                 const struct dlb_onednn_conv *conv,
                                 const_dnnl_primitive_attr_t attributes,
                                 dnnl_engine_t engine)
{
    dnnl_convolution_desc_t desc;
    dnnl_status_t code;
    if (conv->pass == dnnl_backward_data)
        code = dnnl_dilated_convolution_backward_data_desc_init(
            &desc, conv->algorithm, &conv->src->desc, &conv->weights->desc,
            &conv->dst->desc, conv->strides, conv->dilations, conv->padding_begin,
            conv->padding_end);
    else if (conv->pass == dnnl_backward_weights)
        code = dnnl_dilated_convolution_backward_weights_desc_init(
            &desc, conv->algorithm, &conv->src->desc, &conv->weights->desc,
            desc_of(conv->bias), &conv->dst->desc, conv->strides, conv->dilations,
            conv->padding_begin, conv->padding_end);
    else
        code = dnnl_dilated_convolution_forward_desc_init(
            &desc, conv->pass, conv->algorithm, &conv->src->desc, &conv->weights->desc,
            desc_of(conv->bias), &conv->dst->desc, conv->strides, conv->dilations,
            conv->padding_begin, conv->padding_end);
    return code ? code
                : dnnl_primitive_desc_create(pd, &desc, attributes, engine, conv->hint);
}

dnnl_status_t dlb_onednn_attributes_scale(dnnl_primitive_attr_t attributes, float scale,
                                          int *argument)
{
    *argument = 0;
    return dnnl_primitive_attr_set_output_scales(attributes, 1, 0, &scale);
}

dnnl_status_t dlb_onednn_matmul_bias_pd(dnnl_primitive_desc_t *pd,
                                        const struct dlb_onednn_md *src,
                                        const struct dlb_onednn_md *weights,
                                        const struct dlb_onednn_md *bias,
                                        const struct dlb_onednn_md *dst,
                                        const_dnnl_primitive_attr_t attributes,
                                        dnnl_engine_t engine)
{
    dnnl_matmul_desc_t desc;
    dnnl_status_t code = dnnl_matmul_desc_init(&desc, &src->desc, &weights->desc,
                                               desc_of(bias), &dst->desc);
    return code ? code : dnnl_primitive_desc_create(pd, &desc, attributes, engine, NULL);
}

dnnl_status_t dlb_onednn_inner_product_pd(dnnl_primitive_desc_t *pd,
                                          const struct dlb_onednn_inner_product *ip,
                                          const_dnnl_primitive_attr_t attributes,
                                          dnnl_engine_t engine)
{
    const bool forward = ip->pass == DLB_FWD;
    dnnl_inner_product_desc_t desc;
    dnnl_primitive_desc_t hint = NULL;
    dnnl_status_t code = dnnl_inner_product_forward_desc_init(
        &desc, forward ? dnnl_forward_inference : dnnl_forward_training, &ip->src->desc,
        &ip->weights->desc, desc_of(ip->bias), &ip->dst->desc);
    if (!code)
        code = dnnl_primitive_desc_create(forward ? pd : &hint, &desc, attributes, engine,
                                          NULL);
    if (code || forward)
        return code;
    if (ip->pass == DLB_BWD_DATA)
        code = dnnl_inner_product_backward_data_desc_init(
            &desc, &ip->src->desc, &ip->weights->desc, &ip->dst->desc);
    else
        code = dnnl_inner_product_backward_weights_desc_init(
            &desc, &ip->src->desc, &ip->weights->desc, desc_of(ip->bias), &ip->dst->desc);
    if (!code)
        code = dnnl_primitive_desc_create(pd, &desc, attributes, engine, hint);
    dnnl_primitive_desc_destroy(hint);
    return code;
}

dnnl_status_t dlb_onednn_pooling_pd(dnnl_primitive_desc_t *pd,
                                    const struct dlb_onednn_pooling *pooling,
                                    const_dnnl_primitive_attr_t attributes,
                                    dnnl_engine_t engine)
{
    const bool back = pooling->pass == DLB_BWD;
    dnnl_pooling_desc_t desc;
    dnnl_primitive_desc_t hint = NULL;
    dnnl_status_t code = dnnl_pooling_forward_desc_init(
        &desc, pooling->pass == DLB_FWD ? dnnl_forward_inference : dnnl_forward_training,
        pooling->algorithm, &pooling->src->desc, &pooling->dst->desc, pooling->strides,
        pooling->kernel, pooling->padding_begin, pooling->padding_end);
    if (!code)
        code = dnnl_primitive_desc_create(back ? &hint : pd, &desc, attributes, engine,
                                          NULL);
    if (code || !back)
        return code;
    code = dnnl_pooling_backward_desc_init(
        &desc, pooling->algorithm, &pooling->src->desc, &pooling->dst->desc,
        pooling->strides, pooling->kernel, pooling->padding_begin, pooling->padding_end);
    if (!code)
        code = dnnl_primitive_desc_create(pd, &desc, attributes, engine, hint);
    dnnl_primitive_desc_destroy(hint);
    return code;
}

dnnl_status_t dlb_onednn_softmax_pd(dnnl_primitive_desc_t *pd, dnnl_alg_kind_t algorithm,
                                    const struct dlb_onednn_md *data,
                                    const_dnnl_primitive_attr_t attributes,
                                    dnnl_engine_t engine)
{
    dnnl_softmax_v2_desc_t desc;
    dnnl_status_t code =
        dnnl_softmax_v2_forward_desc_init(&desc, dnnl_forward_inference, algorithm,
                                          &data->desc, &data->desc, data->desc.ndims - 1);
    return code ? code : dnnl_primitive_desc_create(pd, &desc, attributes, engine, NULL);
}

dnnl_status_t dlb_onednn_softmax_backward_pd(dnnl_primitive_desc_t *pd,
                                             const struct dlb_onednn_md *dst,
                                             const_dnnl_primitive_attr_t attributes,
                                             dnnl_engine_t engine)
{
    dnnl_primitive_desc_t forward;
    dnnl_status_t code =
        dlb_onednn_softmax_pd(&forward, dnnl_softmax_accurate, dst, attributes, engine);
    if (code)
        return code;
    dnnl_softmax_v2_desc_t desc;
    code =
        dnnl_softmax_v2_backward_desc_init(&desc, dnnl_softmax_accurate, &dst->desc,
                                           &dst->desc, &dst->desc, dst->desc.ndims - 1);
    if (!code)
        code = dnnl_primitive_desc_create(pd, &desc, attributes, engine, forward);
    dnnl_primitive_desc_destroy(forward);
    return code;
}

dnnl_status_t dlb_onednn_binary_pd(dnnl_primitive_desc_t *pd, dnnl_alg_kind_t algorithm,
                                   const struct dlb_onednn_md *src0,
                                   const struct dlb_onednn_md *src1,
                                   const_dnnl_primitive_attr_t attributes,
                                   dnnl_engine_t engine)
{
    dnnl_binary_desc_t desc;
    dnnl_status_t code =
        dnnl_binary_desc_init(&desc, algorithm, &src0->desc, &src1->desc, &src0->desc);
    return code ? code : dnnl_primitive_desc_create(pd, &desc, attributes, engine, NULL);
}

dnnl_status_t dlb_onednn_eltwise_pd(dnnl_primitive_desc_t *pd, bool backward,
                                    dnnl_alg_kind_t algorithm, float alpha,
                                    const struct dlb_onednn_md *data,
                                    const_dnnl_primitive_attr_t attributes,
                                    dnnl_engine_t engine)
{
    dnnl_eltwise_desc_t desc;
    dnnl_primitive_desc_t hint = NULL;
    dnnl_status_t code = dnnl_eltwise_forward_desc_init(
        &desc, backward ? dnnl_forward_training : dnnl_forward_inference, algorithm,
        &data->desc, alpha, 0);
    if (!code)
        code = dnnl_primitive_desc_create(backward ? &hint : pd, &desc, attributes,
                                          engine, NULL);
    if (code || !backward)
        return code;
    code = dnnl_eltwise_backward_desc_init(&desc, algorithm, &data->desc, &data->desc,
                                           alpha, 0);
    if (!code)
        code = dnnl_primitive_desc_create(pd, &desc, attributes, engine, hint);
    dnnl_primitive_desc_destroy(hint);
    return code;
}

dnnl_status_t dlb_onednn_copy_pd(dnnl_primitive_desc_t *pd,
                                 const struct dlb_onednn_md *data,
                                 const_dnnl_primitive_attr_t attributes,
                                 dnnl_engine_t engine)
{
    return dnnl_reorder_primitive_desc_create(pd, &data->desc, engine, &data->desc,
                                              engine, attributes);
}

const bool dlb_onednn_rnn_overwrites = false;

static dnnl_status_t rnn_forward(dnnl_rnn_desc_t *desc, const struct dlb_onednn_rnn *rnn)
{
    const struct dlb_onednn_rnn_operands *o = &rnn->value;
    switch (rnn->cell) {
    case dnnl_vanilla_lstm:
        return dnnl_lstm_forward_desc_init(
            desc, rnn->pass, rnn->direction, desc_of(o->src), desc_of(o->src_iter),
            desc_of(o->src_iter_c), desc_of(o->weights_layer), desc_of(o->weights_iter),
            desc_of(o->bias), desc_of(o->dst), desc_of(o->dst_iter),
            desc_of(o->dst_iter_c), dnnl_rnn_flags_undef);
    case dnnl_vanilla_rnn:
        return dnnl_vanilla_rnn_forward_desc_init(
            desc, rnn->pass, rnn->activation, rnn->direction, desc_of(o->src),
            desc_of(o->src_iter), desc_of(o->weights_layer), desc_of(o->weights_iter),
            desc_of(o->bias), desc_of(o->dst), desc_of(o->dst_iter), dnnl_rnn_flags_undef,
            0, 0);
    default:
        return (rnn->cell == dnnl_lbr_gru ? dnnl_lbr_gru_forward_desc_init
                                          : dnnl_gru_forward_desc_init)(
            desc, rnn->pass, rnn->direction, desc_of(o->src), desc_of(o->src_iter),
            desc_of(o->weights_layer), desc_of(o->weights_iter), desc_of(o->bias),
            desc_of(o->dst), desc_of(o->dst_iter), dnnl_rnn_flags_undef);
    }
}

static dnnl_status_t rnn_backward(dnnl_rnn_desc_t *desc, const struct dlb_onednn_rnn *rnn)
{
    const struct dlb_onednn_rnn_operands *o = &rnn->value, *d = &rnn->diff;
    switch (rnn->cell) {
    case dnnl_vanilla_lstm:
        return dnnl_lstm_backward_desc_init(
            desc, rnn->pass, rnn->direction, desc_of(o->src), desc_of(o->src_iter),
            desc_of(o->src_iter_c), desc_of(o->weights_layer), desc_of(o->weights_iter),
            desc_of(o->bias), desc_of(o->dst), desc_of(o->dst_iter),
            desc_of(o->dst_iter_c), desc_of(d->src), desc_of(d->src_iter),
            desc_of(d->src_iter_c), desc_of(d->weights_layer), desc_of(d->weights_iter),
            desc_of(d->bias), desc_of(d->dst), desc_of(d->dst_iter),
            desc_of(d->dst_iter_c), dnnl_rnn_flags_undef);
    case dnnl_vanilla_rnn:
        return dnnl_vanilla_rnn_backward_desc_init(
            desc, rnn->pass, rnn->activation, rnn->direction, desc_of(o->src),
            desc_of(o->src_iter), desc_of(o->weights_layer), desc_of(o->weights_iter),
            desc_of(o->bias), desc_of(o->dst), desc_of(o->dst_iter), desc_of(d->src),
            desc_of(d->src_iter), desc_of(d->weights_layer), desc_of(d->weights_iter),
            desc_of(d->bias), desc_of(d->dst), desc_of(d->dst_iter), dnnl_rnn_flags_undef,
            0, 0);
    default:
        return (rnn->cell == dnnl_lbr_gru ? dnnl_lbr_gru_backward_desc_init
                                          : dnnl_gru_backward_desc_init)(
            desc, rnn->pass, rnn->direction, desc_of(o->src), desc_of(o->src_iter),
            desc_of(o->weights_layer), desc_of(o->weights_iter), desc_of(o->bias),
            desc_of(o->dst), desc_of(o->dst_iter), desc_of(d->src), desc_of(d->src_iter),
            desc_of(d->weights_layer), desc_of(d->weights_iter), desc_of(d->bias),
            desc_of(d->dst), desc_of(d->dst_iter), dnnl_rnn_flags_undef);
    }
}

dnnl_status_t dlb_onednn_rnn_pd(dnnl_primitive_desc_t *pd,
                                const struct dlb_onednn_rnn *rnn,
                                const_dnnl_primitive_attr_t attributes,
                                dnnl_engine_t engine)
{
    dnnl_rnn_desc_t desc;
    dnnl_status_t code =
        rnn->pass == dnnl_backward ? rnn_backward(&desc, rnn) : rnn_forward(&desc, rnn);
    return code ? code
                : dnnl_primitive_desc_create(pd, &desc, attributes, engine, rnn->hint);
}

const bool dlb_onednn_batchnorm_wants_shift = true;

dnnl_status_t dlb_onednn_batchnorm_pd(dnnl_primitive_desc_t *pd, dnnl_prop_kind_t pass,
                                      unsigned flags, float epsilon,
                                      const struct dlb_onednn_md *data,
                                      const_dnnl_primitive_desc_t forward,
                                      const_dnnl_primitive_attr_t attributes,
                                      dnnl_engine_t engine)
{
    dnnl_batch_normalization_desc_t desc;
    dnnl_status_t code =
        forward ? dnnl_batch_normalization_backward_desc_init(&desc, pass, &data->desc,
                                                              &data->desc, epsilon, flags)
                : dnnl_batch_normalization_forward_desc_init(&desc, pass, &data->desc,
                                                             epsilon, flags);
    return code ? code
                : dnnl_primitive_desc_create(pd, &desc, attributes, engine, forward);
}
