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
#include <string.h>

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

/* By tensor the layouts asked for. */
struct wishes {
    struct dlb_onednn_md wish[OPERANDS];
    const struct dlb_onednn_md *given[OPERANDS]; /* into wish; NULL: none */
};

static void fill_zeros(const struct dlb_problem *problem, void *const *tensor,
                       int64_t elements, float *data)
{
    (void)problem, (void)tensor;
    memset(data, 0, (size_t)elements * sizeof *data);
}

/* Returns the operand, for more to be said of it. */
static struct dlb_onednn_operand *add_operand(struct dlb_onednn_recipe *recipe,
                                              int argument, int tensor)
{
    struct dlb_onednn_step *step = &recipe->step[0];
    struct dlb_onednn_operand *operand = &recipe->operand[recipe->operands_n];
    step->use[step->uses_n].argument = argument;
    step->use[step->uses_n++].operand = recipe->operands_n++;
    operand->tensor = tensor;
    return operand;
}

/* The operands that the problem has. */
static dnnl_status_t make_operands(struct dlb_onednn_recipe *recipe, struct wishes *o,
                                   const struct dlb_rnn_shape *s,
                                   const struct dlb_tensor *tensor, int formulation)
{
    dnnl_status_t code = dnnl_success;
    if (s->train)
        add_operand(recipe, DNNL_ARG_WORKSPACE, DLB_ONEDNN_OWN);
    for (int i = 0; i < OPERANDS && !code; i++) {
        dnnl_dims_t dims = {0};
        bool zeros = i == DLB_RNN_BIASES && !s->bias;
        if (!zeros && !dlb_tensor_elements(&tensor[i]))
            continue;
        for (int axis = 0; axis < tensor[i].rank; axis++)
            dims[axis] = tensor[i].dim[axis];
        if (zeros)
            dims[2] = s->lbr ? s->gates + 1 : s->gates;
        struct dlb_onednn_operand *operand =
            add_operand(recipe, kinds[i].argument, zeros ? DLB_ONEDNN_OWN : i);
        operand->output = tensor[i].role == DLB_OUTPUT;
        operand->letters = kinds[i].letters;
        if (zeros)
            operand->fill = fill_zeros;
        else
            code = dlb_onednn_md_make(&operand->canonical, tensor[i].rank, dims,
                                      kinds[i].tag);
        if (!code)
            code = dlb_onednn_md_make(&o->wish[i], tensor[i].rank, dims,
                                      wish(i, formulation));
        o->given[i] = &o->wish[i];
    }
    return code;
}

static enum dlb_status make(const struct dlb_problem *problem,
                            const struct dlb_rnn_shape *s,
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
    struct dlb_onednn_recipe recipe = {
        .problem = problem, .threads = threads, .steps_n = 1};
    struct wishes o = {0};
    dnnl_primitive_attr_t attributes = NULL;
    enum dlb_status status = DLB_OK;

    omp_set_num_threads(threads);
    dnnl_status_t code = dnnl_engine_create(&recipe.engine, dnnl_cpu, 0);
    if (!code)
        code = make_operands(&recipe, &o, s, tensor, formulation);
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
        code = dlb_onednn_rnn_pd(&recipe.step[0].pd, &rnn, attributes, recipe.engine);
    }
    if (code) {
        status = dlb_onednn_fail(error, code, s->lstm ? "make an LSTM" : "make a GRU");
        goto out;
    }
    status = dlb_onednn_plan_make(&recipe, plan, error);
out:
    for (int i = 0; i < OPERANDS; i++)
        dlb_onednn_md_release(&o.wish[i]);
    if (attributes)
        dnnl_primitive_attr_destroy(attributes);
    dlb_onednn_recipe_release(&recipe);
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
    return make(problem, &s, tensor, threads, formulation, plan, error);
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
    return make(problem, &s, tensor, threads, formulation, plan, error);
}
