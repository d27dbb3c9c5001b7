/*
 * LSTM and GRU by oneDNN: forward inference and training; source and destination "any".
 *
 * Formulation 0 leaves the layout of the weights to oneDNN, which then packs them, for
 * some implementations in a form that only it knows; 1 gives them as they are, ldigo,
 * which spares implementations that multiply by single rows a form made for many.
 * oneDNN has no LSTM or GRU without bias, so that a bias of zeros stands in for none.
 * What training keeps is in oneDNN's workspace, opaque: the plan does not fetch it.
 */
#include "onednn.h"
#include "ops/rnn.h"
#include "reference_internal.h"

#include <omp.h>

enum { FORMULATIONS = 2, OPERANDS = DLB_RNN_DST_ITER_C + 1 };

static const struct {
    int argument;
    dnnl_format_tag_t tag;
    const char *letters;
} kinds[OPERANDS] = {
    [DLB_RNN_SRC] = {DNNL_ARG_SRC_LAYER, dnnl_tnc, "tnc"},
    [DLB_RNN_WEIGHTS_LAYER] = {DNNL_ARG_WEIGHTS_LAYER, dnnl_ldigo, "ldigo"},
    [DLB_RNN_WEIGHTS_ITER] = {DNNL_ARG_WEIGHTS_ITER, dnnl_ldigo, "ldigo"},
    [DLB_RNN_BIASES] = {DNNL_ARG_BIAS, dnnl_ldgo, NULL},
    [DLB_RNN_SRC_ITER] = {DNNL_ARG_SRC_ITER, dnnl_ldnc, NULL},
    [DLB_RNN_SRC_ITER_C] = {DNNL_ARG_SRC_ITER_C, dnnl_ldnc, NULL},
    [DLB_RNN_DST] = {DNNL_ARG_DST_LAYER, dnnl_tnc, "tnc"},
    [DLB_RNN_DST_ITER] = {DNNL_ARG_DST_ITER, dnnl_ldnc, NULL},
    [DLB_RNN_DST_ITER_C] = {DNNL_ARG_DST_ITER_C, dnnl_ldnc, NULL},
};

/* The layout asked for; states and bias have but one. */
static dnnl_format_tag_t wish(int tensor, int formulation)
{
    switch (tensor) {
    case DLB_RNN_SRC:
    case DLB_RNN_DST:
        return dnnl_format_tag_any;
    case DLB_RNN_WEIGHTS_LAYER:
    case DLB_RNN_WEIGHTS_ITER:
        return formulation == 0 ? dnnl_format_tag_any : dnnl_ldigo;
    default:
        return kinds[tensor].tag;
    }
}

/* The operands that the problem has, and by tensor the layouts asked for. */
struct operands {
    int n;
    struct dlb_onednn_operand operand[OPERANDS];
    struct dlb_onednn_md wish[OPERANDS];
    const struct dlb_onednn_md *given[OPERANDS]; /* into wish; NULL: none */
};

static dnnl_status_t make_operands(struct operands *o, const struct dlb_rnn_shape *s,
                                   const struct dlb_tensor *tensor, int formulation)
{
    dnnl_status_t code = dnnl_success;
    for (int i = 0; i < OPERANDS && !code; i++) {
        dnnl_dims_t dims = {0};
        bool zeros = i == DLB_RNN_BIASES && !s->bias;
        if (!zeros && !dlb_tensor_elements(&tensor[i]))
            continue;
        for (int axis = 0; axis < tensor[i].rank; axis++)
            dims[axis] = tensor[i].dim[axis];
        if (zeros)
            dims[2] = s->lbr ? s->gates + 1 : s->gates;
        struct dlb_onednn_operand *operand = &o->operand[o->n++];
        *operand = (struct dlb_onednn_operand){.argument = kinds[i].argument,
                                               .tensor = zeros ? DLB_ONEDNN_ZEROS : i,
                                               .output = tensor[i].role == DLB_OUTPUT,
                                               .letters = kinds[i].letters};
        code =
            dlb_onednn_md_make(&operand->canonical, tensor[i].rank, dims, kinds[i].tag);
        if (!code)
            code = dlb_onednn_md_make(&o->wish[i], tensor[i].rank, dims,
                                      wish(i, formulation));
        o->given[i] = &o->wish[i];
    }
    return code;
}

static void release_operands(struct operands *o)
{
    for (int i = 0; i < OPERANDS; i++) {
        dlb_onednn_md_release(&o->operand[i].canonical);
        dlb_onednn_md_release(&o->wish[i]);
    }
}

static enum dlb_status make(const struct dlb_rnn_shape *s,
                            const struct dlb_tensor *tensor, int threads, int formulation,
                            struct dlb_plan **plan, struct dlb_error *error)
{
    static const dnnl_rnn_direction_t directions[DLB_RNN_DIRECTIONS] = {
        [DLB_RNN_L2R] = dnnl_unidirectional_left2right,
        [DLB_RNN_R2L] = dnnl_unidirectional_right2left,
        [DLB_RNN_CONCAT] = dnnl_bidirectional_concat,
        [DLB_RNN_SUM] = dnnl_bidirectional_sum,
    };
    if (formulation >= FORMULATIONS)
        return dlb_fail(error, DLB_UNSUPPORTED, "oneDNN has %d formulations of %s.",
                        FORMULATIONS, s->lstm ? "lstm" : "gru");
    struct operands o = {0};
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_primitive_desc_t pd = NULL;
    dnnl_engine_t engine = NULL;
    enum dlb_status status = DLB_OK;

    omp_set_num_threads(threads);
    dnnl_status_t code = dnnl_engine_create(&engine, dnnl_cpu, 0);
    if (!code)
        code = make_operands(&o, s, tensor, formulation);
    if (!code)
        code = dlb_onednn_attributes_make(&attributes);
    if (!code) {
        struct dlb_onednn_rnn rnn = {
            .cell = s->lstm  ? dnnl_vanilla_lstm
                    : s->lbr ? dnnl_lbr_gru
                             : dnnl_vanilla_gru,
            .pass = s->train ? dnnl_forward_training : dnnl_forward_inference,
            .direction = directions[s->direction],
            .src = o.given[DLB_RNN_SRC],
            .src_iter = o.given[DLB_RNN_SRC_ITER],
            .src_iter_c = o.given[DLB_RNN_SRC_ITER_C],
            .weights_layer = o.given[DLB_RNN_WEIGHTS_LAYER],
            .weights_iter = o.given[DLB_RNN_WEIGHTS_ITER],
            .bias = o.given[DLB_RNN_BIASES],
            .dst = o.given[DLB_RNN_DST],
            .dst_iter = o.given[DLB_RNN_DST_ITER],
            .dst_iter_c = o.given[DLB_RNN_DST_ITER_C],
        };
        code = dlb_onednn_rnn_pd(&pd, &rnn, attributes, engine);
    }
    if (code) {
        status = dlb_onednn_fail(error, code, s->lstm ? "make an LSTM" : "make a GRU");
        goto out;
    }
    status = dlb_onednn_plan_make(engine, pd, o.operand, o.n, threads, plan, error);
    engine = NULL;
out:
    release_operands(&o);
    if (pd)
        dnnl_primitive_desc_destroy(pd);
    if (attributes)
        dnnl_primitive_attr_destroy(attributes);
    if (engine)
        dnnl_engine_destroy(engine);
    return status;
}

enum dlb_status dlb_lstm_onednn(const struct dlb_problem *problem, enum dlb_isa isa,
                                int threads, int formulation, struct dlb_plan **plan,
                                struct dlb_error *error)
{
    struct dlb_rnn_shape s;
    struct dlb_tensor tensor[DLB_TENSORS_MAX];
    (void)isa;
    dlb_lstm_shape_get(problem, &s);
    dlb_op_lstm.tensors(problem, tensor);
    return make(&s, tensor, threads, formulation, plan, error);
}

enum dlb_status dlb_gru_onednn(const struct dlb_problem *problem, enum dlb_isa isa,
                               int threads, int formulation, struct dlb_plan **plan,
                               struct dlb_error *error)
{
    struct dlb_rnn_shape s;
    struct dlb_tensor tensor[DLB_TENSORS_MAX];
    (void)isa;
    dlb_gru_shape_get(problem, &s);
    dlb_op_gru.tensors(problem, tensor);
    return make(&s, tensor, threads, formulation, plan, error);
}
