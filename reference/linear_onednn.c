/*
 * linear by oneDNN.
 *
 * Formulations: 0 is the inner product, every layout "any"; 1 is a matmul of the same
 * matrices, its weights "any" where they are a parameter.  bwd_weights with bias is no
 * single matmul: one formulation.
 */
#include "onednn.h"
#include "ops/linear.h"
#include "reference_internal.h"

#include <omp.h>

/* By position in tensor arrays. */
enum { OPERANDS = DLB_LINEAR_VECTOR + 1 };

/* Which argument a tensor is to the inner product, and to a matmul. */
static const int arguments[][2][OPERANDS] = {
    [DLB_FWD] = {{DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, DNNL_ARG_BIAS},
                 {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, DNNL_ARG_BIAS}},
    [DLB_BWD_DATA] = {{DNNL_ARG_DIFF_DST, DNNL_ARG_WEIGHTS, DNNL_ARG_DIFF_SRC},
                      {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST}},
    [DLB_BWD_WEIGHTS] = {{DNNL_ARG_DIFF_DST, DNNL_ARG_SRC, DNNL_ARG_DIFF_WEIGHTS,
                          DNNL_ARG_DIFF_BIAS},
                         {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST}},
};

struct maker {
    const struct dlb_linear_shape s;
    enum dlb_pass pass;
    bool matmul;
    struct dlb_onednn_recipe *recipe;
    struct dlb_onednn_md wish[OPERANDS]; /* layouts asked for */
    dnnl_primitive_attr_t attributes;
};

/* Logical rows x columns of a matrix, or a vector; canonical and wished-for layout. */
struct operand {
    int rank;
    dnnl_dims_t dims;
    dnnl_format_tag_t canonical, wish;
};

static dnnl_status_t make_operands(struct maker *m, int operands)
{
    const dnnl_format_tag_t any = dnnl_format_tag_any;
    const int64_t mb = m->s.mb, ic = m->s.ic, oc = m->s.oc;
    const struct operand products[][OPERANDS] = {
        [DLB_FWD] = {{2, {mb, ic}, dnnl_ab, any},
                     {2, {oc, ic}, dnnl_ab, any},
                     {2, {mb, oc}, dnnl_ab, any},
                     {1, {oc}, dnnl_x, dnnl_x}},
        [DLB_BWD_DATA] = {{2, {mb, oc}, dnnl_ab, any},
                          {2, {oc, ic}, dnnl_ab, any},
                          {2, {mb, ic}, dnnl_ab, any}},
        [DLB_BWD_WEIGHTS] = {{2, {mb, oc}, dnnl_ab, any},
                             {2, {mb, ic}, dnnl_ab, any},
                             {2, {oc, ic}, dnnl_ab, any},
                             {1, {oc}, dnnl_x, dnnl_x}},
    };
    const struct operand matmuls[][OPERANDS] = {
        [DLB_FWD] = {{2, {mb, ic}, dnnl_ab, dnnl_ab},
                     {2, {ic, oc}, dnnl_ba, any},
                     {2, {mb, oc}, dnnl_ab, dnnl_ab},
                     {2, {1, oc}, dnnl_ab, dnnl_ab}},
        [DLB_BWD_DATA] = {{2, {mb, oc}, dnnl_ab, dnnl_ab},
                          {2, {oc, ic}, dnnl_ab, any},
                          {2, {mb, ic}, dnnl_ab, dnnl_ab}},
        [DLB_BWD_WEIGHTS] = {{2, {oc, mb}, dnnl_ba, dnnl_ba},
                             {2, {mb, ic}, dnnl_ab, dnnl_ab},
                             {2, {oc, ic}, dnnl_ab, dnnl_ab}},
    };
    const struct operand *operand = m->matmul ? matmuls[m->pass] : products[m->pass];
    dnnl_status_t code = dnnl_success;
    for (int i = 0; i < operands && !code; i++, operand++) {
        struct dlb_onednn_operand *made = &m->recipe->operand[i];
        made->tensor = i;
        made->output =
            i == DLB_LINEAR_C || (i == DLB_LINEAR_VECTOR && m->pass == DLB_BWD_WEIGHTS);
        made->letters = i == DLB_LINEAR_VECTOR ? NULL : "ab";
        code = dlb_onednn_md_make(&made->canonical, operand->rank, operand->dims,
                                  operand->canonical);
        if (!code)
            code = dlb_onednn_md_make(&m->wish[i], operand->rank, operand->dims,
                                      operand->wish);
    }
    return code;
}

static dnnl_status_t make_attributes(struct maker *m)
{
    dnnl_status_t code = dlb_onednn_attributes_make(&m->attributes);
    if (code || !m->s.relu || m->pass != DLB_FWD)
        return code;
    dnnl_post_ops_t post_ops;
    code = dnnl_post_ops_create(&post_ops);
    if (code)
        return code;
    code = dlb_onednn_append_relu(post_ops);
    if (!code)
        code = dnnl_primitive_attr_set_post_ops(m->attributes, post_ops);
    dnnl_post_ops_destroy(post_ops);
    return code;
}

static dnnl_status_t make_step(struct maker *m, int operands)
{
    struct dlb_onednn_step *step = &m->recipe->step[0];
    const struct dlb_onednn_md *md = m->wish, *bias = operands == OPERANDS
                                                          ? &md[DLB_LINEAR_VECTOR]
                                                          : NULL;
    for (int i = 0; i < operands; i++) {
        step->use[i].argument = arguments[m->pass][m->matmul][i];
        step->use[i].operand = i;
    }
    step->uses_n = operands;
    if (m->matmul)
        return dlb_onednn_matmul_bias_pd(&step->pd, &md[DLB_LINEAR_A], &md[DLB_LINEAR_B],
                                         bias, &md[DLB_LINEAR_C], m->attributes,
                                         m->recipe->engine);
    struct dlb_onednn_inner_product ip = {m->pass, &md[DLB_LINEAR_A], &md[DLB_LINEAR_B],
                                          bias, &md[DLB_LINEAR_C]};
    if (m->pass == DLB_BWD_DATA) {
        ip.src = &md[DLB_LINEAR_C];
        ip.dst = &md[DLB_LINEAR_A];
    } else if (m->pass == DLB_BWD_WEIGHTS) {
        ip.src = &md[DLB_LINEAR_B];
        ip.weights = &md[DLB_LINEAR_C];
        ip.dst = &md[DLB_LINEAR_A];
    }
    return dlb_onednn_inner_product_pd(&step->pd, &ip, m->attributes, m->recipe->engine);
}

enum dlb_status dlb_linear_onednn(const struct dlb_problem *problem, enum dlb_isa isa,
                                  int threads, int formulation, struct dlb_plan **plan,
                                  struct dlb_error *error)
{
    (void)isa;
    struct dlb_linear_shape s;
    dlb_linear_shape_get(problem, &s);
    const bool vector = s.bias && problem->pass != DLB_BWD_DATA;
    const int operands = vector ? OPERANDS : DLB_LINEAR_VECTOR,
              formulations = vector && problem->pass == DLB_BWD_WEIGHTS ? 1 : 2;
    if (formulation >= formulations)
        return dlb_fail(error, DLB_UNSUPPORTED,
                        "oneDNN has %d formulation%s of this pass of linear.",
                        formulations, formulations == 1 ? "" : "s");
    struct dlb_onednn_recipe recipe = {
        .problem = problem, .threads = threads, .operands_n = operands, .steps_n = 1};
    struct maker m = {
        .s = s, .pass = problem->pass, .matmul = formulation == 1, .recipe = &recipe};
    enum dlb_status status = DLB_OK;

    omp_set_num_threads(threads);
    dnnl_status_t code = dnnl_engine_create(&recipe.engine, dnnl_cpu, 0);
    if (!code)
        code = make_operands(&m, operands);
    if (!code)
        code = make_attributes(&m);
    if (!code)
        code = make_step(&m, operands);
    if (code)
        status = dlb_onednn_fail(error, code, "make an inner product");
    else
        status = dlb_onednn_plan_make(&recipe, plan, error);
    for (int i = 0; i < OPERANDS; i++)
        dlb_onednn_md_release(&m.wish[i]);
    if (m.attributes)
        dnnl_primitive_attr_destroy(m.attributes);
    dlb_onednn_recipe_release(&recipe);
    return status;
}
