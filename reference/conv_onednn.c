/*
 * conv by oneDNN: forward inference, every layout "any".
 *
 * Class exact: formulation 0 is the direct algorithm (GEMM-based implementations are
 * oneDNN's own fallback inside it).  Class winograd: 0 is direct, 1 is Winograd, asked
 * for by name since the automatic choice does not take it even where it is faster.
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

static dnnl_status_t make_descriptors(const struct dlb_conv_shape *s,
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
    for (int i = 0; i < (s->bias ? OPERANDS : BIAS); i++) {
        const dnnl_dim_t *dims = i != WEIGHTS ? tensors[i].dims
                                 : groups     ? grouped
                                              : plain;
        dnnl_format_tag_t wish = i == BIAS ? dnnl_x : dnnl_format_tag_any;
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

enum dlb_status dlb_conv_onednn(const struct dlb_problem *problem, enum dlb_isa isa,
                                int threads, int formulation, struct dlb_plan **plan,
                                struct dlb_error *error)
{
    (void)isa;
    static const dnnl_alg_kind_t algorithms[] = {dnnl_convolution_direct,
                                                 dnnl_convolution_winograd};
    int formulations = problem->accuracy == DLB_WINOGRAD ? 2 : 1;
    if (formulation >= formulations)
        return dlb_fail(error, DLB_UNSUPPORTED,
                        "oneDNN has %d formulation%s of conv in accuracy class '%s'.",
                        formulations, formulations == 1 ? "" : "s",
                        dlb_accuracy_names[problem->accuracy]);
    if (problem->pass != DLB_FWD)
        return dlb_fail(error, DLB_UNSUPPORTED,
                        "conv with oneDNN knows pass 'fwd' only, not '%s'.",
                        dlb_pass_names[problem->pass]);

    struct dlb_conv_shape s;
    dlb_conv_shape_get(problem, &s);
    struct dlb_onednn_recipe recipe = {
        .problem = problem,
        .threads = threads,
        .operands_n = s.bias ? OPERANDS : BIAS,
        .operand =
            {
                [SRC] = {.tensor = DLB_CONV_SRC, .letters = "nchw"},
                [WEIGHTS] = {.tensor = DLB_CONV_WEIGHTS,
                             .letters = s.g > 1 ? "goihw" : "oihw"},
                [DST] = {.tensor = DLB_CONV_DST, .output = true, .letters = "nchw"},
                [BIAS] = {.tensor = DLB_CONV_BIASES},
            },
        .steps_n = 1,
        .step[0] = {.uses_n = s.bias ? OPERANDS : BIAS,
                    .use = {{DNNL_ARG_SRC, SRC},
                            {DNNL_ARG_WEIGHTS, WEIGHTS},
                            {DNNL_ARG_DST, DST},
                            {DNNL_ARG_BIAS, BIAS}}},
    };
    struct wishes wishes = {0};
    struct dlb_onednn_conv conv = {
        .algorithm = algorithms[formulation],
        .src = &wishes.md[SRC],
        .weights = &wishes.md[WEIGHTS],
        .bias = s.bias ? &wishes.md[BIAS] : NULL,
        .dst = &wishes.md[DST],
        .strides = {s.sh, s.sw},
        .dilations = {s.dh, s.dw},
        .padding_begin = {s.ph, s.pw},
        .padding_end = {padding_end(s.ih, s.oh, s.kh, s.sh, s.ph, s.dh),
                        padding_end(s.iw, s.ow, s.kw, s.sw, s.pw, s.dw)},
    };
    dnnl_primitive_attr_t attributes = NULL;
    enum dlb_status status = DLB_OK;

    omp_set_num_threads(threads);
    dnnl_status_t code = dnnl_engine_create(&recipe.engine, dnnl_cpu, 0);
    if (!code)
        code = make_descriptors(&s, recipe.operand, &wishes);
    if (!code)
        code = make_attributes(s.relu, &attributes);
    if (!code)
        code = dlb_onednn_conv_pd(&recipe.step[0].pd, &conv, attributes, recipe.engine);
    if (code) {
        status = dlb_onednn_fail(error, code,
                                 formulation ? "make a Winograd convolution"
                                             : "make a direct convolution");
        goto out;
    }
    status = dlb_onednn_plan_make(&recipe, plan, error);
out:
    for (int i = 0; i < OPERANDS; i++)
        dlb_onednn_md_release(&wishes.md[i]);
    if (attributes)
        dnnl_primitive_attr_destroy(attributes);
    dlb_onednn_recipe_release(&recipe);
    return status;
}
