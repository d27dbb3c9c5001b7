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

/* Of a problem with bias. */
static int64_t bias_rows(const struct dlb_rnn_shape *s)
{
    return s->lbr ? s->gates + 1 : s->gates;
}

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

/* Layouts asked for; NULL in given for operands that the problem goes without. */
struct wishes {
    struct dlb_onednn_md md[OPERANDS];
    const struct dlb_onednn_md *given[OPERANDS];
};

/* What differs between the two operators. */
struct cell {
    const char *name, *doing;
    dnnl_alg_kind_t kind;
    void (*no_bias)(const struct dlb_problem *problem, void *const *tensor, float *data);
};

static void fill_zeros(float *data, const struct dlb_rnn_shape *s)
{
    memset(data, 0,
           (size_t)(s->l * s->directions * bias_rows(s) * s->dhc) * sizeof *data);
}

static void add_use(struct dlb_onednn_recipe *recipe, int argument, int operand)
{
    struct dlb_onednn_step *step = &recipe->step[0];
    step->use[step->uses_n].argument = argument;
    step->use[step->uses_n++].operand = operand;
}

/* Operands stand in the recipe at the positions of their tensors. */
static dnnl_status_t make_operand(struct dlb_onednn_recipe *recipe, struct wishes *wishes,
                                  const struct dlb_rnn_shape *s, const struct cell *cell,
                                  const struct dlb_tensor *tensor, int i, int formulation)
{
    const bool zeros = i == DLB_RNN_BIASES && !s->bias;
    struct dlb_onednn_operand *operand = &recipe->operand[i];
    dnnl_dims_t dims = {0};
    if (!zeros && !dlb_tensor_elements(tensor))
        return dnnl_success;
    for (int axis = 0; axis < tensor->rank; axis++)
        dims[axis] = tensor->dim[axis];
    operand->tensor = i;
    operand->output = tensor->role == DLB_OUTPUT;
    operand->letters = kinds[i].letters;
    if (zeros) {
        dims[2] = bias_rows(s);
        operand->tensor = DLB_ONEDNN_OWN;
        operand->fill = cell->no_bias;
    }
    wishes->given[i] = &wishes->md[i];
    add_use(recipe, kinds[i].argument, i);
    dnnl_status_t code =
        dlb_onednn_md_make(&wishes->md[i], tensor->rank, dims, wish(i, formulation));
    if (!code && !zeros)
        code = dlb_onednn_md_make(&operand->canonical, tensor->rank, dims, kinds[i].tag);
    return code;
}

static enum dlb_status make(const struct dlb_problem *problem,
                            const struct dlb_rnn_shape *s, const struct cell *cell,
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
                        FORMULATIONS, cell->name);
    struct dlb_onednn_recipe recipe = {
        .problem = problem, .threads = threads, .operands_n = OPERANDS, .steps_n = 1};
    struct wishes wishes = {0};
    const struct dlb_onednn_md *const *given = wishes.given;
    dnnl_primitive_attr_t attributes = NULL;
    enum dlb_status status;

    omp_set_num_threads(threads);
    dnnl_status_t code = dnnl_engine_create(&recipe.engine, dnnl_cpu, 0);
    for (int i = 0; i < OPERANDS && !code; i++)
        code = make_operand(&recipe, &wishes, s, cell, &tensor[i], i, formulation);
    if (!code)
        code = dlb_onednn_attributes_make(&attributes);
    if (!code) {
        struct dlb_onednn_rnn rnn = {
            .cell = cell->kind,
            .pass = s->train ? dnnl_forward_training : dnnl_forward_inference,
            .direction = directions[s->direction],
            .src = given[DLB_RNN_SRC],
            .src_iter = given[DLB_RNN_SRC_ITER],
            .src_iter_c = given[DLB_RNN_SRC_ITER_C],
            .weights_layer = given[DLB_RNN_WEIGHTS_LAYER],
            .weights_iter = given[DLB_RNN_WEIGHTS_ITER],
            .bias = given[DLB_RNN_BIASES],
            .dst = given[DLB_RNN_DST],
            .dst_iter = given[DLB_RNN_DST_ITER],
            .dst_iter_c = given[DLB_RNN_DST_ITER_C],
        };
        code = dlb_onednn_rnn_pd(&recipe.step[0].pd, &rnn, attributes, recipe.engine);
    }
    if (s->train) {
        recipe.operand[recipe.operands_n].tensor = DLB_ONEDNN_OWN;
        add_use(&recipe, DNNL_ARG_WORKSPACE, recipe.operands_n++);
    }
    status = code ? dlb_onednn_fail(error, code, cell->doing)
                  : dlb_onednn_plan_make(&recipe, plan, error);
    for (int i = 0; i < OPERANDS; i++)
        dlb_onednn_md_release(&wishes.md[i]);
    if (attributes)
        dnnl_primitive_attr_destroy(attributes);
    dlb_onednn_recipe_release(&recipe);
    return status;
}

static void lstm_no_bias(const struct dlb_problem *problem, void *const *tensor,
                         float *data)
{
    struct dlb_rnn_shape s;
    (void)tensor;
    dlb_lstm_shape_get(problem, &s);
    fill_zeros(data, &s);
}

static void gru_no_bias(const struct dlb_problem *problem, void *const *tensor,
                        float *data)
{
    struct dlb_rnn_shape s;
    (void)tensor;
    dlb_gru_shape_get(problem, &s);
    fill_zeros(data, &s);
}

enum dlb_status dlb_lstm_onednn(const struct dlb_problem *problem, enum dlb_isa isa,
                                int threads, int formulation, struct dlb_plan **plan,
                                struct dlb_error *error)
{
    static const struct cell cell = {"lstm", "make an LSTM", dnnl_vanilla_lstm,
                                     lstm_no_bias};
    struct dlb_rnn_shape s;
    struct dlb_tensor tensor[DLB_TENSORS_MAX];
    (void)isa;
    dlb_lstm_shape_get(problem, &s);
    dlb_op_lstm.tensors(problem, tensor);
    return make(problem, &s, &cell, tensor, threads, formulation, plan, error);
}

enum dlb_status dlb_gru_onednn(const struct dlb_problem *problem, enum dlb_isa isa,
                               int threads, int formulation, struct dlb_plan **plan,
                               struct dlb_error *error)
{
    static const struct cell cells[] = {
        {"gru", "make a GRU", dnnl_vanilla_gru, gru_no_bias},
        {"gru", "make a GRU that is linear before reset", dnnl_lbr_gru, gru_no_bias},
    };
    struct dlb_rnn_shape s;
    struct dlb_tensor tensor[DLB_TENSORS_MAX];
    (void)isa;
    dlb_gru_shape_get(problem, &s);
    dlb_op_gru.tensors(problem, tensor);
    return make(problem, &s, &cells[s.lbr], tensor, threads, formulation, plan, error);
}
