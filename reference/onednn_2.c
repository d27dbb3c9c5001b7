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

dnnl_status_t dlb_onednn_conv_pd(dnnl_primitive_desc_t *pd,
                                 const struct dlb_onednn_conv *conv,
                                 const_dnnl_primitive_attr_t attributes,
                                 dnnl_engine_t engine)
{
    dnnl_convolution_desc_t desc;
    dnnl_status_t code = dnnl_dilated_convolution_forward_desc_init(
        &desc, dnnl_forward_inference, conv->algorithm, &conv->src->desc,
        &conv->weights->desc, conv->bias ? &conv->bias->desc : NULL, &conv->dst->desc,
        conv->strides, conv->dilations, conv->padding_begin, conv->padding_end);
    return code ? code : dnnl_primitive_desc_create(pd, &desc, attributes, engine, NULL);
}

dnnl_status_t dlb_onednn_attributes_scale(dnnl_primitive_attr_t attributes, float scale,
                                          int *argument)
{
    *argument = 0;
    return dnnl_primitive_attr_set_output_scales(attributes, 1, 0, &scale);
}

dnnl_status_t
dlb_onednn_matmul_pd(dnnl_primitive_desc_t *pd, const struct dlb_onednn_md *src,
                     const struct dlb_onednn_md *weights, const struct dlb_onednn_md *dst,
                     const_dnnl_primitive_attr_t attributes, dnnl_engine_t engine)
{
    dnnl_matmul_desc_t desc;
    dnnl_status_t code =
        dnnl_matmul_desc_init(&desc, &src->desc, &weights->desc, NULL, &dst->desc);
    return code ? code : dnnl_primitive_desc_create(pd, &desc, attributes, engine, NULL);
}

dnnl_status_t dlb_onednn_softmax_pd(dnnl_primitive_desc_t *pd,
                                    const struct dlb_onednn_md *data,
                                    const_dnnl_primitive_attr_t attributes,
                                    dnnl_engine_t engine)
{
    dnnl_softmax_v2_desc_t desc;
    dnnl_status_t code = dnnl_softmax_v2_forward_desc_init(
        &desc, dnnl_forward_inference, dnnl_softmax_accurate, &data->desc, &data->desc,
        data->desc.ndims - 1);
    return code ? code : dnnl_primitive_desc_create(pd, &desc, attributes, engine, NULL);
}

dnnl_status_t dlb_onednn_add_pd(dnnl_primitive_desc_t *pd,
                                const struct dlb_onednn_md *sum,
                                const struct dlb_onednn_md *addend,
                                const_dnnl_primitive_attr_t attributes,
                                dnnl_engine_t engine)
{
    dnnl_binary_desc_t desc;
    dnnl_status_t code = dnnl_binary_desc_init(&desc, dnnl_binary_add, &sum->desc,
                                               &addend->desc, &sum->desc);
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

static const dnnl_memory_desc_t *desc_of(const struct dlb_onednn_md *md)
{
    return md ? &md->desc : NULL;
}

dnnl_status_t dlb_onednn_rnn_pd(dnnl_primitive_desc_t *pd,
                                const struct dlb_onednn_rnn *rnn,
                                const_dnnl_primitive_attr_t attributes,
                                dnnl_engine_t engine)
{
    dnnl_rnn_desc_t desc;
    dnnl_status_t code;
    if (rnn->cell == dnnl_vanilla_lstm)
        code = dnnl_lstm_forward_desc_init(
            &desc, rnn->pass, rnn->direction, desc_of(rnn->src), desc_of(rnn->src_iter),
            desc_of(rnn->src_iter_c), desc_of(rnn->weights_layer),
            desc_of(rnn->weights_iter), desc_of(rnn->bias), desc_of(rnn->dst),
            desc_of(rnn->dst_iter), desc_of(rnn->dst_iter_c), dnnl_rnn_flags_undef);
    else
        code = (rnn->cell == dnnl_lbr_gru ? dnnl_lbr_gru_forward_desc_init
                                          : dnnl_gru_forward_desc_init)(
            &desc, rnn->pass, rnn->direction, desc_of(rnn->src), desc_of(rnn->src_iter),
            desc_of(rnn->weights_layer), desc_of(rnn->weights_iter), desc_of(rnn->bias),
            desc_of(rnn->dst), desc_of(rnn->dst_iter), dnnl_rnn_flags_undef);
    return code ? code : dnnl_primitive_desc_create(pd, &desc, attributes, engine, NULL);
}

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
