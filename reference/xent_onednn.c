/*
 * softmax_xent by oneDNN: forward its logsoftmax, of which the labels' elements are added;
 * backward its softmax, made and kept in bind, times the incoming gradient, of which the
 * labels' elements are diminished.  What is done at the labels is a number a row, in plain C,
 * inside the timed part.
 */
#include "onednn.h"
#include "ops/xent.h"
#include "reference_internal.h"

#include <math.h>
#include <omp.h>

enum { LOGITS, WEIGHTS, SCALE, DIFF_LOGITS, OPERANDS };

static float scale_of(const struct dlb_xent_shape *s, void *const *tensor)
{
    return *(const float *)tensor[DLB_XENT_DIFF_LOSS] * s->weight;
}

static void fill_scale(const struct dlb_problem *problem, void *const *tensor,
                       int64_t elements, float *data)
{
    struct dlb_xent_shape s;
    (void)elements;
    dlb_xent_shape_get(problem, &s);
    *data = scale_of(&s, tensor);
}

static void add_losses(const struct dlb_problem *problem, void *const *tensor,
                       void *const *operand)
{
    struct dlb_xent_shape s;
    dlb_xent_shape_get(problem, &s);
    const float *logarithms = operand[WEIGHTS], *labels = tensor[DLB_XENT_LABELS];
    double loss = 0;
    for (int64_t n = 0; n < s.mb; n++) {
        int64_t class = dlb_xent_class(&s, labels[n]);
        loss -= class < 0 ? NAN : logarithms[n * s.ic + class];
    }
    *(float *)tensor[DLB_XENT_LOSS_VALUE] = (float)(loss * s.weight);
}

static void subtract_labels(const struct dlb_problem *problem, void *const *tensor,
                            void *const *operand)
{
    struct dlb_xent_shape s;
    (void)operand;
    dlb_xent_shape_get(problem, &s);
    float *gradient = tensor[DLB_XENT_DIFF_LOGITS];
    const float *labels = tensor[DLB_XENT_LABELS], scale = scale_of(&s, tensor);
    for (int64_t n = 0; n < s.mb; n++, gradient += s.ic) {
        int64_t class = dlb_xent_class(&s, labels[n]);
        if (class >= 0)
            gradient[class] -= scale;
        for (int64_t c = 0; class < 0 && c < s.ic; c++)
            gradient[c] = NAN;
    }
}

static void add_use(struct dlb_onednn_step *step, int argument, int operand)
{
    step->use[step->uses_n].argument = argument;
    step->use[step->uses_n++].operand = operand;
}

static dnnl_status_t add_steps(const struct dlb_xent_shape *s,
                               struct dlb_onednn_recipe *recipe,
                               const struct dlb_onednn_md *rows,
                               const struct dlb_onednn_md *one,
                               const_dnnl_primitive_attr_t attributes)
{
    struct dlb_onednn_step *softmax = &recipe->step[recipe->steps_n++];
    dnnl_status_t code = dlb_onednn_softmax_pd(
        &softmax->pd, s->backward ? dnnl_softmax_accurate : dnnl_softmax_log, rows,
        attributes, recipe->engine);
    add_use(softmax, DNNL_ARG_SRC, LOGITS);
    add_use(softmax, DNNL_ARG_DST, WEIGHTS);
    if (code || !s->backward)
        return code;
    recipe->setup_n = recipe->steps_n;
    struct dlb_onednn_step *product = &recipe->step[recipe->steps_n++];
    add_use(product, DNNL_ARG_SRC_0, WEIGHTS);
    add_use(product, DNNL_ARG_SRC_1, SCALE);
    add_use(product, DNNL_ARG_DST, DIFF_LOGITS);
    return dlb_onednn_binary_pd(&product->pd, dnnl_binary_mul, rows, one, attributes,
                                recipe->engine);
}

enum dlb_status dlb_xent_onednn(const struct dlb_problem *problem, enum dlb_isa isa,
                                int threads, int formulation, struct dlb_plan **plan,
                                struct dlb_error *error)
{
    (void)isa;
    struct dlb_xent_shape s;
    dlb_xent_shape_get(problem, &s);
    if (formulation > 0)
        return dlb_fail(error, DLB_UNSUPPORTED,
                        "oneDNN has 1 formulation of softmax cross-entropy.");
    struct dlb_onednn_recipe recipe = {
        .problem = problem,
        .threads = threads,
        .operands_n = OPERANDS,
        .operand = {[LOGITS] = {.tensor = DLB_XENT_LOGITS, .letters = "nc"},
                    [WEIGHTS] = {.tensor = DLB_ONEDNN_OWN},
                    [SCALE] = {.tensor = DLB_ONEDNN_OWN, .fill = fill_scale},
                    [DIFF_LOGITS] = {.tensor = DLB_XENT_DIFF_LOGITS, .output = true}},
        .tensors_n = DLB_XENT_TENSORS,
        .finish = s.backward ? subtract_labels : add_losses,
    };
    const dnnl_dims_t dims = {s.mb, s.ic}, single = {1, 1};
    struct dlb_onednn_md rows = {0}, one = {0};
    dnnl_primitive_attr_t attributes = NULL;
    enum dlb_status status = DLB_OK;

    omp_set_num_threads(threads);
    dnnl_status_t code = dnnl_engine_create(&recipe.engine, dnnl_cpu, 0);
    if (!code)
        code = dlb_onednn_md_make(&rows, 2, dims, dnnl_ab);
    if (!code)
        code = dlb_onednn_md_make(&one, 2, single, dnnl_ab);
    if (!code)
        code = dlb_onednn_md_make(&recipe.operand[LOGITS].canonical, 2, dims, dnnl_ab);
    if (!code)
        code =
            dlb_onednn_md_make(&recipe.operand[DIFF_LOGITS].canonical, 2, dims, dnnl_ab);
    if (!code)
        code = dlb_onednn_attributes_make(&attributes);
    if (!code)
        code = add_steps(&s, &recipe, &rows, &one, attributes);
    if (code)
        status = dlb_onednn_fail(error, code, "make a softmax cross-entropy");
    else
        status = dlb_onednn_plan_make(&recipe, plan, error);
    dlb_onednn_md_release(&rows);
    dlb_onednn_md_release(&one);
    if (attributes)
        dnnl_primitive_attr_destroy(attributes);
    dlb_onednn_recipe_release(&recipe);
    return status;
}
