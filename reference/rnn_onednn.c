/*
 * LSTM, GRU and RNN by oneDNN: forward inference and training, and backward; source and
 * destination "any".
 *
 * Formulation 0 leaves the layout of the weights to oneDNN, which then packs them, for
 * some implementations in a form that only it knows; 1, forward only, gives them as they
 * are, ldigo, which spares implementations that multiply by single rows a form made for
 * many.  oneDNN has no LSTM or GRU without bias, so that a bias of zeros stands in for
 * none.
 * What training keeps is in oneDNN's workspace, opaque: the plan does not fetch it.
 *
 * Backward: the forward training pass runs in bind and leaves workspace, dst and states.
 * oneDNN adds the gradients of weights and biases to what is there (unless it can be told
 * to write them, from 3.3 on), so that run sets them to zero first, by all threads and
 * within the timed part, as whoever wants a gradient must.  The native side writes them.
 */
#include "onednn.h"
#include "ops/rnn.h"
#include "reference_internal.h"

#include <omp.h>
#include <stdio.h>
#include <string.h>

enum { OPERANDS = DLB_RNN_DST_ITER_C + 1 };

/* Operands of the forward pass and their gradients. */
static const struct {
    int argument, diff_argument;
    dnnl_format_tag_t tag;
    const char *letters;
} kinds[OPERANDS] = {
    [DLB_RNN_SRC] = {DNNL_ARG_SRC_LAYER, DNNL_ARG_DIFF_SRC_LAYER, dnnl_tnc, "tnc"},
    [DLB_RNN_WEIGHTS_LAYER] = {DNNL_ARG_WEIGHTS_LAYER, DNNL_ARG_DIFF_WEIGHTS_LAYER,
                               dnnl_ldigo, "ldigo"},
    [DLB_RNN_WEIGHTS_ITER] = {DNNL_ARG_WEIGHTS_ITER, DNNL_ARG_DIFF_WEIGHTS_ITER,
                              dnnl_ldigo, "ldigo"},
    [DLB_RNN_BIASES] = {DNNL_ARG_BIAS, DNNL_ARG_DIFF_BIAS, dnnl_ldgo, NULL},
    [DLB_RNN_SRC_ITER] = {DNNL_ARG_SRC_ITER, DNNL_ARG_DIFF_SRC_ITER, dnnl_ldnc, NULL},
    [DLB_RNN_SRC_ITER_C] = {DNNL_ARG_SRC_ITER_C, DNNL_ARG_DIFF_SRC_ITER_C, dnnl_ldnc,
                            NULL},
    [DLB_RNN_DST] = {DNNL_ARG_DST_LAYER, DNNL_ARG_DIFF_DST_LAYER, dnnl_tnc, "tnc"},
    [DLB_RNN_DST_ITER] = {DNNL_ARG_DST_ITER, DNNL_ARG_DIFF_DST_ITER, dnnl_ldnc, NULL},
    [DLB_RNN_DST_ITER_C] = {DNNL_ARG_DST_ITER_C, DNNL_ARG_DIFF_DST_ITER_C, dnnl_ldnc,
                            NULL},
};

/* An adapter at work. */
struct making {
    const struct dlb_rnn_shape *s;
    struct dlb_tensor tensor[DLB_TENSORS_MAX];
    int formulation;
    struct dlb_onednn_recipe recipe;
    /* By tensor of the forward pass: its operand there, and layouts; none where absent. */
    int operand[OPERANDS];
    struct dlb_onednn_md forward[OPERANDS], backward[OPERANDS], diff[OPERANDS];
};

static bool is_weights(int i)
{
    return i == DLB_RNN_WEIGHTS_LAYER || i == DLB_RNN_WEIGHTS_ITER;
}

/* Zeros stand in for a bias that is not there; and for initial states where these are gone
 * back to: without them oneDNN 2.6 takes for the state before the first step the one after
 * it in the gradient of weights_iter. */
static bool is_zeros(const struct making *m, int i)
{
    const struct dlb_rnn_shape *s = m->s;
    return (i == DLB_RNN_BIASES && !s->bias) ||
           (s->back && !s->init &&
            (i == DLB_RNN_SRC_ITER || (i == DLB_RNN_SRC_ITER_C && s->lstm)));
}

static bool is_there(const struct making *m, int i)
{
    return is_zeros(m, i) || dlb_tensor_elements(&m->tensor[i]);
}

static dnnl_status_t make_md(const struct making *m, int i, dnnl_format_tag_t tag,
                             struct dlb_onednn_md *md)
{
    dnnl_dims_t dims = {0};
    for (int axis = 0; axis < m->tensor[i].rank; axis++)
        dims[axis] = m->tensor[i].dim[axis];
    if (is_zeros(m, i) && i == DLB_RNN_BIASES)
        dims[2] = m->s->lbr ? m->s->gates + 1 : m->s->gates;
    else if (is_zeros(m, i))
        dims[0] = m->s->l;
    return dlb_onednn_md_make(md, m->tensor[i].rank, dims, tag);
}

/* The layout asked for, tag being the plain one; states and bias have but one. */
static dnnl_format_tag_t wish(const struct making *m, int i, dnnl_format_tag_t tag)
{
    if (i == DLB_RNN_SRC || i == DLB_RNN_DST)
        return dnnl_format_tag_any;
    return is_weights(i) && m->formulation == 0 ? dnnl_format_tag_any : tag;
}

static void fill_zeros(const struct dlb_problem *problem, void *const *tensor,
                       int64_t elements, float *data)
{
    (void)problem, (void)tensor;
    memset(data, 0, (size_t)elements * sizeof *data);
}

static void use(struct making *m, int step, int argument, int operand)
{
    struct dlb_onednn_step *to = &m->recipe.step[step];
    to->use[to->uses_n].argument = argument;
    to->use[to->uses_n++].operand = operand;
}

/* Number of a new operand, backed by tensor or DLB_ONEDNN_OWN; i says how it is laid
 * out. */
static int add(struct making *m, int i, int tensor, dnnl_status_t *code)
{
    struct dlb_onednn_operand *operand = &m->recipe.operand[m->recipe.operands_n];
    operand->tensor = tensor;
    if (tensor != DLB_ONEDNN_OWN)
        *code = make_md(m, i, kinds[i].tag, &operand->canonical);
    return m->recipe.operands_n++;
}

static const struct dlb_onednn_md *given(const struct making *m,
                                         const struct dlb_onednn_md *md, int i)
{
    return is_there(m, i) ? &md[i] : NULL;
}

static struct dlb_onednn_rnn_operands operands(const struct making *m,
                                               const struct dlb_onednn_md *md)
{
    return (struct dlb_onednn_rnn_operands){
        .src = given(m, md, DLB_RNN_SRC),
        .src_iter = given(m, md, DLB_RNN_SRC_ITER),
        .src_iter_c = given(m, md, DLB_RNN_SRC_ITER_C),
        .weights_layer = given(m, md, DLB_RNN_WEIGHTS_LAYER),
        .weights_iter = given(m, md, DLB_RNN_WEIGHTS_ITER),
        .bias = given(m, md, DLB_RNN_BIASES),
        .dst = given(m, md, DLB_RNN_DST),
        .dst_iter = given(m, md, DLB_RNN_DST_ITER),
        .dst_iter_c = given(m, md, DLB_RNN_DST_ITER_C),
    };
}

static struct dlb_onednn_rnn description(const struct making *m, dnnl_prop_kind_t pass)
{
    static const dnnl_rnn_direction_t directions[DLB_RNN_DIRECTIONS] = {
        [DLB_RNN_L2R] = dnnl_unidirectional_left2right,
        [DLB_RNN_R2L] = dnnl_unidirectional_right2left,
        [DLB_RNN_CONCAT] = dnnl_bidirectional_concat,
        [DLB_RNN_SUM] = dnnl_bidirectional_sum,
    };
    const struct dlb_rnn_shape *s = m->s;
    return (struct dlb_onednn_rnn){
        .cell = s->lstm    ? dnnl_vanilla_lstm
                : s->lbr   ? dnnl_lbr_gru
                : s->plain ? dnnl_vanilla_gru
                           : dnnl_vanilla_rnn,
        .activation = s->relu ? dnnl_eltwise_relu : dnnl_eltwise_tanh,
        .pass = pass,
        .direction = directions[s->direction],
    };
}

/* Step 0.  A backward pass keeps the results of it to itself. */
static dnnl_status_t add_forward(struct making *m, const_dnnl_primitive_attr_t attributes)
{
    const struct dlb_rnn_shape *s = m->s;
    dnnl_status_t code = dnnl_success;
    for (int i = 0; i < OPERANDS && !code; i++) {
        if (!is_there(m, i))
            continue;
        bool own = is_zeros(m, i) || (s->back && i >= DLB_RNN_DST);
        m->operand[i] = add(m, i, own ? DLB_ONEDNN_OWN : i, &code);
        struct dlb_onednn_operand *operand = &m->recipe.operand[m->operand[i]];
        operand->output = !own && i >= DLB_RNN_DST;
        operand->letters = s->back ? NULL : kinds[i].letters;
        operand->fill = is_zeros(m, i) ? fill_zeros : NULL;
        use(m, 0, kinds[i].argument, m->operand[i]);
        if (!code)
            code = make_md(m, i, wish(m, i, kinds[i].tag), &m->forward[i]);
    }
    struct dlb_onednn_rnn rnn = description(
        m, s->train || s->back ? dnnl_forward_training : dnnl_forward_inference);
    rnn.value = operands(m, m->forward);
    m->recipe.steps_n = 1;
    return code ? code
                : dlb_onednn_rnn_pd(&m->recipe.step[0].pd, &rnn, attributes,
                                    m->recipe.engine);
}

/* What the forward pass read and made, as it did, but for the weights; and gradients. */
static dnnl_status_t add_back_operand(struct making *m, int i)
{
    const_dnnl_primitive_desc_t forward = m->recipe.step[0].pd;
    dnnl_status_t code = dnnl_success;
    int value = m->operand[i];
    if (is_weights(i)) {
        value = add(m, i, i, &code);
        m->recipe.operand[value].letters = kinds[i].letters;
        if (!code)
            code = make_md(m, i, dnnl_format_tag_any, &m->backward[i]);
    } else
        code = dlb_onednn_md_of(&m->backward[i], forward, dnnl_query_exec_arg_md,
                                kinds[i].argument);
    use(m, 1, kinds[i].argument, value);
    if (code)
        return code;
    const bool written = i < DLB_RNN_DST, own = is_zeros(m, i);
    int diff = add(m, i,
                   own       ? DLB_ONEDNN_OWN
                   : written ? DLB_RNN_DIFF_INPUTS + i
                             : i,
                   &code);
    struct dlb_onednn_operand *operand = &m->recipe.operand[diff];
    operand->output = written && !own;
    operand->zeroed =
        (is_weights(i) || i == DLB_RNN_BIASES) && !dlb_onednn_rnn_overwrites;
    use(m, 1, kinds[i].diff_argument, diff);
    return code ? code : make_md(m, i, wish(m, i, kinds[i].tag), &m->diff[i]);
}

static dnnl_status_t add_backward(struct making *m,
                                  const_dnnl_primitive_attr_t attributes)
{
    dnnl_status_t code = dnnl_success;
    for (int i = 0; i < OPERANDS && !code; i++)
        if (is_there(m, i))
            code = add_back_operand(m, i);
    struct dlb_onednn_rnn rnn = description(m, dnnl_backward);
    rnn.value = operands(m, m->backward);
    rnn.diff = operands(m, m->diff);
    rnn.hint = m->recipe.step[0].pd;
    m->recipe.steps_n = 2;
    m->recipe.setup_n = 1;
    m->recipe.tensors_n = DLB_RNN_BWD_TENSORS;
    return code ? code
                : dlb_onednn_rnn_pd(&m->recipe.step[1].pd, &rnn, attributes,
                                    m->recipe.engine);
}

static void add_workspace(struct making *m)
{
    dnnl_status_t code;
    int workspace = add(m, 0, DLB_ONEDNN_OWN, &code);
    for (int step = 0; step < m->recipe.steps_n; step++)
        use(m, step, DNNL_ARG_WORKSPACE, workspace);
}

static enum dlb_status make(const struct dlb_op *op, const struct dlb_problem *problem,
                            const struct dlb_rnn_shape *s, int threads, int formulation,
                            struct dlb_plan **plan, struct dlb_error *error)
{
    const int formulations = s->back ? 1 : 2;
    if (formulation >= formulations)
        return dlb_fail(error, DLB_UNSUPPORTED, "oneDNN has %d formulations of %s here.",
                        formulations, op->name);
    struct making m = {.s = s,
                       .formulation = formulation,
                       .recipe = {.problem = problem, .threads = threads}};
    dnnl_primitive_attr_t attributes = NULL;
    enum dlb_status status = DLB_OK;

    op->tensors(problem, m.tensor);
    omp_set_num_threads(threads);
    dnnl_status_t code = dnnl_engine_create(&m.recipe.engine, dnnl_cpu, 0);
    if (!code)
        code = dlb_onednn_attributes_make(&attributes);
    if (!code)
        code = add_forward(&m, attributes);
    if (!code && s->back)
        code = add_backward(&m, attributes);
    if (code) {
        char doing[64];
        snprintf(doing, sizeof doing, "make a plan of %s", op->name);
        status = dlb_onednn_fail(error, code, doing);
        goto out;
    }
    if (s->train || s->back)
        add_workspace(&m);
    status = dlb_onednn_plan_make(&m.recipe, plan, error);
out:
    for (int i = 0; i < OPERANDS; i++) {
        dlb_onednn_md_release(&m.forward[i]);
        dlb_onednn_md_release(&m.backward[i]);
        dlb_onednn_md_release(&m.diff[i]);
    }
    if (attributes)
        dnnl_primitive_attr_destroy(attributes);
    dlb_onednn_recipe_release(&m.recipe);
    return status;
}

enum dlb_status dlb_lstm_onednn(const struct dlb_problem *problem, enum dlb_isa isa,
                                int threads, int formulation, struct dlb_plan **plan,
                                struct dlb_error *error)
{
    struct dlb_rnn_shape s;
    (void)isa;
    dlb_lstm_shape_get(problem, &s);
    return make(&dlb_op_lstm, problem, &s, threads, formulation, plan, error);
}

enum dlb_status dlb_gru_onednn(const struct dlb_problem *problem, enum dlb_isa isa,
                               int threads, int formulation, struct dlb_plan **plan,
                               struct dlb_error *error)
{
    struct dlb_rnn_shape s;
    (void)isa;
    dlb_gru_shape_get(problem, &s);
    return make(&dlb_op_gru, problem, &s, threads, formulation, plan, error);
}

enum dlb_status dlb_rnn_onednn(const struct dlb_problem *problem, enum dlb_isa isa,
                               int threads, int formulation, struct dlb_plan **plan,
                               struct dlb_error *error)
{
    struct dlb_rnn_shape s;
    (void)isa;
    dlb_rnn_shape_get(problem, &s);
    return make(&dlb_op_rnn, problem, &s, threads, formulation, plan, error);
}
