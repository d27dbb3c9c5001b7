/*
 * activation, dropout and add by oneDNN: eltwise, binary, and a reorder where a copy is all
 * there is to do.
 *
 * Sigmoid and tanh have eltwise take dst backward (…_use_dst_for_bwd), as the problem gives
 * it; so has the ReLU behind an addition.  oneDNN makes no random numbers, so that of dropout
 * it has the copy alone.
 */
#include "ops/activation.h"
#include "ops/add.h"
#include "ops/dropout.h"

#include "onednn.h"
#include "reference_internal.h"

#include <omp.h>

/* One primitive; of what does not apply the argument is 0. */
struct primitive {
    enum { COPY, ELTWISE, ELTWISE_BACKWARD, ADD, ADD_RELU } kind;
    dnnl_alg_kind_t algorithm; /* of eltwise */
    float alpha;
    struct {
        int argument, tensor;
    } operand[3]; /* the last one that there is is the result */
};

static dnnl_status_t make_pd(const struct primitive *primitive,
                             const struct dlb_onednn_md *md,
                             dnnl_primitive_attr_t attributes,
                             struct dlb_onednn_recipe *recipe)
{
    dnnl_primitive_desc_t *pd = &recipe->step[0].pd;
    dnnl_post_ops_t post_ops = NULL;
    dnnl_status_t code = dnnl_success;
    switch (primitive->kind) {
    case COPY:
        return dlb_onednn_copy_pd(pd, md, attributes, recipe->engine);
    case ELTWISE:
    case ELTWISE_BACKWARD:
        return dlb_onednn_eltwise_pd(pd, primitive->kind == ELTWISE_BACKWARD,
                                     primitive->algorithm, primitive->alpha, md,
                                     attributes, recipe->engine);
    case ADD_RELU:
        code = dnnl_post_ops_create(&post_ops);
        if (!code)
            code = dlb_onednn_append_relu(post_ops);
        if (!code)
            code = dnnl_primitive_attr_set_post_ops(attributes, post_ops);
        if (post_ops)
            dnnl_post_ops_destroy(post_ops);
        break;
    default:
        break;
    }
    return code ? code
                : dlb_onednn_binary_pd(pd, dnnl_binary_add, md, md, attributes,
                                       recipe->engine);
}

static dnnl_status_t make_operands(const struct primitive *primitive, dnnl_dim_t n,
                                   struct dlb_onednn_recipe *recipe)
{
    struct dlb_onednn_step *step = &recipe->step[0];
    const dnnl_dims_t dims = {n};
    dnnl_status_t code = dnnl_success;
    for (int i = 0; i < 3 && primitive->operand[i].argument && !code; i++) {
        struct dlb_onednn_operand *operand = &recipe->operand[recipe->operands_n];
        step->use[step->uses_n].argument = primitive->operand[i].argument;
        step->use[step->uses_n++].operand = recipe->operands_n++;
        operand->tensor = primitive->operand[i].tensor;
        operand->output = i == 2 || !primitive->operand[i + 1].argument;
        operand->letters = i ? NULL : "x";
        code = dlb_onednn_md_make(&operand->canonical, 1, dims, dnnl_x);
    }
    return code;
}

static enum dlb_status make(const struct primitive *primitive,
                            const struct dlb_problem *problem, int threads,
                            int formulation, struct dlb_plan **plan,
                            struct dlb_error *error)
{
    if (formulation > 0)
        return dlb_fail(error, DLB_UNSUPPORTED, "oneDNN has one formulation of this.");
    struct dlb_onednn_recipe recipe = {
        .problem = problem, .threads = threads, .steps_n = 1};
    dnnl_primitive_attr_t attributes = NULL;
    enum dlb_status status = DLB_OK;

    omp_set_num_threads(threads);
    dnnl_status_t code = dnnl_engine_create(&recipe.engine, dnnl_cpu, 0);
    if (!code)
        code = make_operands(primitive, problem->dim[0], &recipe);
    if (!code)
        code = dlb_onednn_attributes_make(&attributes);
    if (!code)
        code = make_pd(primitive, &recipe.operand[0].canonical, attributes, &recipe);
    if (code)
        status = dlb_onednn_fail(error, code, "make a primitive of elements");
    else
        status = dlb_onednn_plan_make(&recipe, plan, error);
    if (attributes)
        dnnl_primitive_attr_destroy(attributes);
    dlb_onednn_recipe_release(&recipe);
    return status;
}

enum dlb_status dlb_activation_onednn(const struct dlb_problem *problem, enum dlb_isa isa,
                                      int threads, int formulation,
                                      struct dlb_plan **plan, struct dlb_error *error)
{
    static const struct {
        dnnl_alg_kind_t forward, backward;
        float alpha;
    } algorithms[DLB_ACTIVATION_ALGS] = {
        [DLB_ACTIVATION_RELU] = {dnnl_eltwise_relu, dnnl_eltwise_relu, 0},
        [DLB_ACTIVATION_LEAKY] = {dnnl_eltwise_relu, dnnl_eltwise_relu,
                                  DLB_ACTIVATION_SLOPE},
        [DLB_ACTIVATION_SIGMOID] = {dnnl_eltwise_logistic,
                                    dnnl_eltwise_logistic_use_dst_for_bwd, 0},
        [DLB_ACTIVATION_TANH] = {dnnl_eltwise_tanh, dnnl_eltwise_tanh_use_dst_for_bwd, 0},
    };
    int64_t alg = problem->dim[DLB_ACTIVATION_ALG];
    bool from_dst = alg >= DLB_ACTIVATION_SIGMOID;
    struct primitive primitive = {
        .kind = ELTWISE,
        .algorithm = algorithms[alg].forward,
        .alpha = algorithms[alg].alpha,
        .operand = {{DNNL_ARG_SRC, DLB_ACTIVATION_IN},
                    {DNNL_ARG_DST, DLB_ACTIVATION_DST}},
    };
    if (problem->pass == DLB_BWD)
        primitive = (struct primitive){
            .kind = ELTWISE_BACKWARD,
            .algorithm = algorithms[alg].backward,
            .alpha = algorithms[alg].alpha,
            .operand = {{from_dst ? DNNL_ARG_DST : DNNL_ARG_SRC, DLB_ACTIVATION_IN},
                        {DNNL_ARG_DIFF_DST, DLB_ACTIVATION_DIFF_DST},
                        {DNNL_ARG_DIFF_SRC, DLB_ACTIVATION_DIFF_SRC}},
        };
    (void)isa;
    return make(&primitive, problem, threads, formulation, plan, error);
}

enum dlb_status dlb_dropout_onednn(const struct dlb_problem *problem, enum dlb_isa isa,
                                   int threads, int formulation, struct dlb_plan **plan,
                                   struct dlb_error *error)
{
    static const struct primitive copy = {
        .kind = COPY,
        .operand = {{DNNL_ARG_FROM, DLB_DROPOUT_SRC}, {DNNL_ARG_TO, DLB_DROPOUT_DST}},
    };
    (void)isa;
    if (problem->pass != DLB_FWD)
        return dlb_fail(error, DLB_UNSUPPORTED, "oneDNN makes no random masks.");
    return make(&copy, problem, threads, formulation, plan, error);
}

enum dlb_status dlb_add_onednn(const struct dlb_problem *problem, enum dlb_isa isa,
                               int threads, int formulation, struct dlb_plan **plan,
                               struct dlb_error *error)
{
    static const struct primitive primitives[2][2] = {
        /* [backward][relu] */
        {{.kind = ADD,
          .operand = {{DNNL_ARG_SRC_0, DLB_ADD_SRC0},
                      {DNNL_ARG_SRC_1, DLB_ADD_SRC1},
                      {DNNL_ARG_DST, DLB_ADD_DST}}},
         {.kind = ADD_RELU,
          .operand = {{DNNL_ARG_SRC_0, DLB_ADD_SRC0},
                      {DNNL_ARG_SRC_1, DLB_ADD_SRC1},
                      {DNNL_ARG_DST, DLB_ADD_DST}}}},
        {{.kind = COPY,
          .operand = {{DNNL_ARG_FROM, DLB_ADD_DIFF_DST},
                      {DNNL_ARG_TO, DLB_ADD_DIFF_SRC}}},
         {.kind = ELTWISE_BACKWARD,
          .algorithm = dnnl_eltwise_relu_use_dst_for_bwd,
          .operand = {{DNNL_ARG_DST, DLB_ADD_BACKWARD_DST},
                      {DNNL_ARG_DIFF_DST, DLB_ADD_DIFF_DST},
                      {DNNL_ARG_DIFF_SRC, DLB_ADD_DIFF_SRC}}}},
    };
    (void)isa;
    return make(&primitives[problem->pass == DLB_BWD][problem->dim[DLB_ADD_RELU]],
                problem, threads, formulation, plan, error);
}
