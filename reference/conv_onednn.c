/*
 * conv by oneDNN: forward inference and the two backward passes.
 *
 * Formulations: layouts of its own choice ("any"); backward also activations in nhwc,
 * since what it chooses there (blocks of channels) is not always the faster.  Class
 * winograd has one more, the last: Winograd, asked for by name since the automatic choice
 * does not take it even where it is faster.  The others are the direct algorithm, inside
 * which implementations by GEMM are oneDNN's own fallback.
 */
#include "onednn.h"
#include "ops/conv_internal.h"
#include "reference_internal.h"

#include <omp.h>

enum { SRC, WEIGHTS, DST, BIAS, OPERANDS };

/* Layouts asked for, by operand. */
struct wishes {
    struct dlb_onednn_md md[OPERANDS];
};

enum formulation { ANY, NHWC, WINOGRAD };

static const struct {
    dnnl_alg_kind_t algorithm;
    dnnl_format_tag_t activations;
    const char *doing;
} formulations[] = {
    [ANY] = {dnnl_convolution_direct, dnnl_format_tag_any, "make a direct convolution"},
    [NHWC] = {dnnl_convolution_direct, dnnl_nhwc, "make a direct convolution in nhwc"},
    [WINOGRAD] = {dnnl_convolution_winograd, dnnl_format_tag_any,
                  "make a Winograd convolution"},
};

/* oneDNN's name of a pass, what its operands are called then, and how many formulations
 * there are but for Winograd. */
static const struct pass {
    dnnl_prop_kind_t kind;
    int output;
    int argument[OPERANDS];
    int formulations;
} passes[DLB_PASS_COUNT] = {
    [DLB_FWD] = {dnnl_forward_inference,
                 DST,
                 {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, DNNL_ARG_BIAS},
                 1},
    [DLB_BWD_DATA] = {dnnl_backward_data,
                      SRC,
                      {DNNL_ARG_DIFF_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DIFF_DST},
                      2},
    [DLB_BWD_WEIGHTS] = {dnnl_backward_weights,
                         WEIGHTS,
                         {DNNL_ARG_SRC, DNNL_ARG_DIFF_WEIGHTS, DNNL_ARG_DIFF_DST,
                          DNNL_ARG_DIFF_BIAS},
                         2},
};

static dnnl_status_t make_descriptors(const struct dlb_conv_shape *s, bool bias,
                                      dnnl_format_tag_t activations,
                                      struct dlb_onednn_operand *operands,
                                      struct wishes *wishes)
{
    bool groups = s->g > 1;
    const struct {
        int rank;
        dnnl_format_tag_t tag;
        dnnl_dims_t dims;
    } tensors[OPERANDS] = {
        [SRC] = {4, dnnl_nhwc, {s->mb, s->ic, s->ih, s->iw}},
        [WEIGHTS] = {groups ? 5 : 4, groups ? dnnl_goihw : dnnl_oihw, {0}},
        [DST] = {4, dnnl_nhwc, {s->mb, s->oc, s->oh, s->ow}},
        [BIAS] = {1, dnnl_x, {s->oc}},
    };
    const dnnl_dims_t grouped = {s->g, s->ocg, s->icg, s->kh, s->kw};
    const dnnl_dims_t plain = {s->oc, s->ic, s->kh, s->kw};
    for (int i = 0; i < (bias ? OPERANDS : BIAS); i++) {
        const dnnl_dim_t *dims = i != WEIGHTS ? tensors[i].dims
                                 : groups     ? grouped
                                              : plain;
        dnnl_format_tag_t wish = i == BIAS      ? dnnl_x
                                 : i == WEIGHTS ? dnnl_format_tag_any
                                                : activations;
        dnnl_status_t code = dlb_onednn_md_make(&operands[i].canonical, tensors[i].rank,
                                                dims, tensors[i].tag);
        if (!code)
            code = dlb_onednn_md_make(&wishes->md[i], tensors[i].rank, dims, wish);
        if (code)
            return code;
    }
    return dnnl_success;
}

static dnnl_status_t make_attributes(bool relu, dnnl_primitive_attr_t *attributes)
{
    dnnl_status_t code = dlb_onednn_attributes_make(attributes);
    if (code || !relu)
        return code;
    dnnl_post_ops_t post_ops;
    code = dnnl_post_ops_create(&post_ops);
    if (code)
        return code;
    code = dlb_onednn_append_relu(post_ops);
    if (!code)
        code = dnnl_primitive_attr_set_post_ops(*attributes, post_ops);
    dnnl_post_ops_destroy(post_ops);
    return code;
}

/* Padding past the end of an axis; negative where input is left unused. */
static int64_t padding_end(int64_t in, int64_t out, int64_t kernel, int64_t stride,
                           int64_t pad, int64_t dilation)
{
    return (out - 1) * stride + (kernel - 1) * (dilation + 1) + 1 - in - pad;
}

/* The forward pass that a backward one is described with. */
static dnnl_status_t make_hint(const struct dlb_onednn_conv *conv,
                               const_dnnl_primitive_attr_t attributes,
                               dnnl_engine_t engine, dnnl_primitive_desc_t *hint)
{
    struct dlb_onednn_conv forward = *conv;
    forward.pass = dnnl_forward_training;
    return dlb_onednn_conv_pd(hint, &forward, attributes, engine);
}

enum dlb_status dlb_conv_onednn(const struct dlb_problem *problem, enum dlb_isa isa,
                                int threads, int formulation, struct dlb_plan **plan,
                                struct dlb_error *error)
{
    (void)isa;
    const struct pass *pass = &passes[problem->pass];
    bool forward = problem->pass == DLB_FWD, winograd = problem->accuracy == DLB_WINOGRAD;
    int offered = pass->formulations + winograd;
    if (formulation >= offered)
        return dlb_fail(error, DLB_UNSUPPORTED,
                        "oneDNN has %d formulation%s of conv, pass '%s', in accuracy "
                        "class '%s'.",
                        offered, offered == 1 ? "" : "s", dlb_pass_names[problem->pass],
                        dlb_accuracy_names[problem->accuracy]);
    if (formulation == pass->formulations)
        formulation = WINOGRAD;

    struct dlb_conv_shape s;
    dlb_conv_shape_get(problem, &s);
    bool bias = s.bias && pass->argument[BIAS];
    struct dlb_onednn_recipe recipe = {
        .problem = problem,
        .threads = threads,
        .operands_n = bias ? OPERANDS : BIAS,
        .operand =
            {
                [SRC] = {.tensor = DLB_CONV_SRC, .letters = "nchw"},
                [WEIGHTS] = {.tensor = DLB_CONV_WEIGHTS,
                             .letters = s.g > 1 ? "goihw" : "oihw"},
                [DST] = {.tensor = DLB_CONV_DST, .letters = "nchw"},
                [BIAS] = {.tensor = DLB_CONV_BIASES},
            },
        .steps_n = 1,
        .step[0].uses_n = bias ? OPERANDS : BIAS,
    };
    for (int i = 0; i < recipe.operands_n; i++) {
        recipe.step[0].use[i].argument = pass->argument[i];
        recipe.step[0].use[i].operand = i;
        recipe.operand[i].output =
            i == pass->output || (i == BIAS && problem->pass == DLB_BWD_WEIGHTS);
    }
    struct wishes wishes = {0};
    struct dlb_onednn_conv conv = {
        .pass = pass->kind,
        .algorithm = formulations[formulation].algorithm,
        .src = &wishes.md[SRC],
        .weights = &wishes.md[WEIGHTS],
        .bias = bias ? &wishes.md[BIAS] : NULL,
        .dst = &wishes.md[DST],
        .strides = {s.sh, s.sw},
        .dilations = {s.dh, s.dw},
        .padding_begin = {s.ph, s.pw},
        .padding_end = {padding_end(s.ih, s.oh, s.kh, s.sh, s.ph, s.dh),
                        padding_end(s.iw, s.ow, s.kw, s.sw, s.pw, s.dw)},
    };
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_primitive_desc_t hint = NULL;
    enum dlb_status status = DLB_OK;

    omp_set_num_threads(threads);
    dnnl_status_t code = dnnl_engine_create(&recipe.engine, dnnl_cpu, 0);
    if (!code)
        code = make_descriptors(&s, bias, formulations[formulation].activations,
                                recipe.operand, &wishes);
    if (!code)
        code = make_attributes(s.relu && forward, &attributes);
    if (!code && !forward) {
        code = make_hint(&conv, attributes, recipe.engine, &hint);
        conv.hint = hint;
    }
    if (!code)
        code = dlb_onednn_conv_pd(&recipe.step[0].pd, &conv, attributes, recipe.engine);
    if (code) {
        status = dlb_onednn_fail(error, code, formulations[formulation].doing);
        goto out;
    }
    status = dlb_onednn_plan_make(&recipe, plan, error);
out:
    for (int i = 0; i < OPERANDS; i++)
        dlb_onednn_md_release(&wishes.md[i]);
    if (hint)
        dnnl_primitive_desc_destroy(hint);
    if (attributes)
        dnnl_primitive_attr_destroy(attributes);
    dlb_onednn_recipe_release(&recipe);
    return status;
}
