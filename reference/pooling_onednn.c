/*
 * pooling by oneDNN.
 *
 * Formulations: nhwc, and channels in blocks of the length of oneDNN's vectors (nChw16c on
 * AVX-512, else nChw8c); which is faster differs by problem.  The workspace of a backward
 * pass is made in bind by a forward pass in training.
 */
#include "onednn.h"
#include "ops/pooling.h"
#include "reference_internal.h"

#include <omp.h>

enum { SRC, DST, DIFF_SRC, DIFF_DST, WORKSPACE, OPERANDS };
enum { FORMULATIONS = 2 };

static const dnnl_alg_kind_t algorithms[DLB_POOLING_KINDS] = {
    [DLB_POOLING_MAX] = dnnl_pooling_max,
    [DLB_POOLING_AVG] = dnnl_pooling_avg_exclude_padding,
    [DLB_POOLING_AVG_PADDED] = dnnl_pooling_avg_include_padding,
};

struct maker {
    struct dlb_pooling_shape s;
    enum dlb_pass pass;
    struct dlb_onednn_recipe recipe;
    struct dlb_onednn_md src, dst; /* layouts */
    dnnl_primitive_attr_t attributes;
};

static dnnl_format_tag_t tag_of(int formulation)
{
    if (formulation == 0)
        return dnnl_nhwc;
    return dnnl_get_effective_cpu_isa() >= dnnl_cpu_isa_avx512_core ? dnnl_nChw16c
                                                                    : dnnl_nChw8c;
}

static dnnl_status_t make_operands(struct maker *m, int formulation)
{
    const struct dlb_pooling_shape *s = &m->s;
    const dnnl_dims_t in = {s->mb, s->ic, s->ih, s->iw},
                      out = {s->mb, s->ic, s->oh, s->ow};
    const bool back = m->pass == DLB_BWD;
    const struct {
        int tensor;
        bool output, small;
    } operands[OPERANDS] = {
        [SRC] = {back ? DLB_POOLING_BWD_SRC : DLB_POOLING_SRC, false, false},
        [DST] = {back ? DLB_ONEDNN_OWN : DLB_POOLING_DST, !back, true},
        [DIFF_SRC] = {DLB_POOLING_DIFF_SRC, true, false},
        [DIFF_DST] = {DLB_POOLING_DIFF_DST, false, true},
        [WORKSPACE] = {DLB_ONEDNN_OWN, false, true},
    };
    dnnl_status_t code = dlb_onednn_md_make(&m->src, 4, in, tag_of(formulation));
    if (!code)
        code = dlb_onednn_md_make(&m->dst, 4, out, tag_of(formulation));
    m->recipe.operands_n = OPERANDS;
    for (int i = 0; i < OPERANDS && !code; i++) {
        struct dlb_onednn_operand *operand = &m->recipe.operand[i];
        operand->tensor = operands[i].tensor;
        operand->output = operands[i].output;
        if (operand->tensor == DLB_ONEDNN_OWN)
            continue;
        operand->letters = i == (back ? DIFF_SRC : SRC) ? "nchw" : NULL;
        code = dlb_onednn_md_make(&operand->canonical, 4, operands[i].small ? out : in,
                                  dnnl_nhwc);
    }
    return code;
}

static dnnl_status_t add_step(struct maker *m, enum dlb_pass pass)
{
    const struct dlb_pooling_shape *s = &m->s;
    const bool back = pass == DLB_BWD;
    struct dlb_onednn_step *step = &m->recipe.step[m->recipe.steps_n++];
    const struct dlb_onednn_pooling pooling = {
        .pass = pass,
        .algorithm = algorithms[s->kind],
        .src = &m->src,
        .dst = &m->dst,
        .strides = {s->sh, s->sw},
        .kernel = {s->kh, s->kw},
        .padding_begin = {s->ph, s->pw},
        .padding_end = {(s->oh - 1) * s->sh + s->kh - s->ih - s->ph,
                        (s->ow - 1) * s->sw + s->kw - s->iw - s->pw},
    };
    step->uses_n = s->kind == DLB_POOLING_MAX && pass != DLB_FWD ? 3 : 2;
    step->use[0].argument = back ? DNNL_ARG_DIFF_SRC : DNNL_ARG_SRC;
    step->use[0].operand = back ? DIFF_SRC : SRC;
    step->use[1].argument = back ? DNNL_ARG_DIFF_DST : DNNL_ARG_DST;
    step->use[1].operand = back ? DIFF_DST : DST;
    step->use[2].argument = DNNL_ARG_WORKSPACE;
    step->use[2].operand = WORKSPACE;
    return dlb_onednn_pooling_pd(&step->pd, &pooling, m->attributes, m->recipe.engine);
}

enum dlb_status dlb_pooling_onednn(const struct dlb_problem *problem, enum dlb_isa isa,
                                   int threads, int formulation, struct dlb_plan **plan,
                                   struct dlb_error *error)
{
    (void)isa;
    if (formulation >= FORMULATIONS)
        return dlb_fail(error, DLB_UNSUPPORTED, "oneDNN has %d formulations of pooling.",
                        FORMULATIONS);
    struct maker m = {.pass = problem->pass,
                      .recipe = {.problem = problem, .threads = threads}};
    enum dlb_status status = DLB_OK;
    dlb_pooling_shape_get(problem, &m.s);
    /* An average needs nothing of the forward pass. */
    m.recipe.setup_n = m.pass == DLB_BWD && m.s.kind == DLB_POOLING_MAX;

    omp_set_num_threads(threads);
    dnnl_status_t code = dnnl_engine_create(&m.recipe.engine, dnnl_cpu, 0);
    if (!code)
        code = make_operands(&m, formulation);
    if (!code)
        code = dlb_onednn_attributes_make(&m.attributes);
    if (!code && m.recipe.setup_n)
        code = add_step(&m, DLB_FWD_TRAIN);
    if (!code)
        code = add_step(&m, m.pass);
    if (code)
        status = dlb_onednn_fail(error, code, "make a pooling");
    else
        status = dlb_onednn_plan_make(&m.recipe, plan, error);
    dlb_onednn_md_release(&m.src);
    dlb_onednn_md_release(&m.dst);
    if (m.attributes)
        dnnl_primitive_attr_destroy(m.attributes);
    dlb_onednn_recipe_release(&m.recipe);
    return status;
}
