/*
 * batchnorm by oneDNN.
 *
 * Formulations: nhwc, and channels in blocks of the length of oneDNN's vectors (nChw16c on
 * AVX-512, else nChw8c); one alone where the problem names the layout.  Which is faster
 * differs by problem, so with layout-any both are offered, nhwc first.
 *
 * What oneDNN does not do is done after it, inside the timed part: the running
 * statistics, a few operations a channel.
 */
#include "ops/batchnorm.h"

#include "onednn.h"
#include "reference_internal.h"

#include <omp.h>

enum {
    SRC,
    DST,
    MEAN,
    VARIANCE,
    SCALE,
    SHIFT,
    WORKSPACE,
    DIFF_DST,
    DIFF_SRC,
    DIFF_SCALE,
    DIFF_SHIFT,
    OPERANDS
};

/* The steps; a backward pass has both, the first of them in bind. */
enum { FORWARD, BACKWARD, STEPS };

/* The dims of the layouts, in the order in which they are tried. */
static const enum dlb_batchnorm_layout orders[DLB_BATCHNORM_LAYOUTS][2] = {
    [DLB_BATCHNORM_ANY] = {DLB_BATCHNORM_NHWC, DLB_BATCHNORM_BLOCKED},
    [DLB_BATCHNORM_NHWC] = {DLB_BATCHNORM_NHWC},
    [DLB_BATCHNORM_BLOCKED] = {DLB_BATCHNORM_BLOCKED},
};

static dnnl_format_tag_t tag_of(enum dlb_batchnorm_layout layout)
{
    if (layout == DLB_BATCHNORM_NHWC)
        return dnnl_nhwc;
    return dnnl_get_effective_cpu_isa() >= dnnl_cpu_isa_avx512_core ? dnnl_nChw16c
                                                                    : dnnl_nChw8c;
}

static unsigned flags_of(const struct dlb_batchnorm_shape *s)
{
    return (s->train ? 0 : dnnl_use_global_stats) | (s->scale ? dnnl_use_scale : 0) |
           (s->shift ? dnnl_use_shift : 0) | (s->relu ? dnnl_fuse_norm_relu : 0);
}

static void update_running(const struct dlb_problem *problem, void *const *tensor,
                           void *const *operand)
{
    struct dlb_batchnorm_shape s;
    (void)operand;
    dlb_batchnorm_shape_get(problem, &s);
    const float now = (float)DLB_BATCHNORM_MOMENTUM,
                before = (float)(1 - DLB_BATCHNORM_MOMENTUM);
    double count = (double)(s.mb * s.pixels);
    float unbiased = count > 1 ? (float)(count / (count - 1)) : 1;
    const float *mean = tensor[DLB_BATCHNORM_MEAN],
                *variance = tensor[DLB_BATCHNORM_VARIANCE],
                *running_mean = tensor[DLB_BATCHNORM_IN_MEAN],
                *running_variance = tensor[DLB_BATCHNORM_IN_VARIANCE];
    float *new_mean = tensor[DLB_BATCHNORM_RUNNING_MEAN],
          *new_variance = tensor[DLB_BATCHNORM_RUNNING_VARIANCE];
    for (int64_t c = 0; c < s.ic; c++) {
        new_mean[c] = before * running_mean[c] + now * mean[c];
        new_variance[c] = before * running_variance[c] + now * (variance[c] * unbiased);
    }
}

struct used {
    bool present;
    int tensor;
    bool image, output;
    int argument[STEPS]; /* 0: not in this step */
};

/* The statistics: given, returned, or what the forward step leaves to the backward one. */
static struct used statistic(const struct dlb_batchnorm_shape *s, int given, int returned,
                             int argument)
{
    bool returns = s->train && !s->backward;
    return (struct used){.present = true,
                         .tensor = returns     ? returned
                                   : !s->train ? given
                                               : DLB_ONEDNN_OWN,
                         .output = returns,
                         .argument = {argument, argument}};
}

/* Operands that the problem has, and how the steps use them. */
static dnnl_status_t make_operands(const struct dlb_batchnorm_shape *s,
                                   struct dlb_onednn_recipe *recipe)
{
    bool back = s->backward;
    const struct used operands[OPERANDS] = {
        [SRC] = {true, DLB_BATCHNORM_SRC, true, false, {DNNL_ARG_SRC, DNNL_ARG_SRC}},
        [DST] = {true,
                 back ? DLB_ONEDNN_OWN : DLB_BATCHNORM_DST,
                 true,
                 !back,
                 {DNNL_ARG_DST}},
        [MEAN] = statistic(s, DLB_BATCHNORM_IN_MEAN, DLB_BATCHNORM_MEAN, DNNL_ARG_MEAN),
        [VARIANCE] = statistic(s, DLB_BATCHNORM_IN_VARIANCE, DLB_BATCHNORM_VARIANCE,
                               DNNL_ARG_VARIANCE),
        [SCALE] = {s->scale,
                   DLB_BATCHNORM_GAMMA,
                   false,
                   false,
                   {DNNL_ARG_SCALE, DNNL_ARG_SCALE}},
        [SHIFT] = {s->shift,
                   DLB_BATCHNORM_BETA,
                   false,
                   false,
                   {DNNL_ARG_SHIFT,
                    dlb_onednn_batchnorm_wants_shift ? DNNL_ARG_SHIFT : 0}},
        [WORKSPACE] = {s->train && s->relu,
                       DLB_ONEDNN_OWN,
                       false,
                       false,
                       {DNNL_ARG_WORKSPACE, DNNL_ARG_WORKSPACE}},
        [DIFF_DST] = {back, DLB_BATCHNORM_DIFF_DST, true, false, {0, DNNL_ARG_DIFF_DST}},
        [DIFF_SRC] = {back, DLB_BATCHNORM_DIFF_SRC, true, true, {0, DNNL_ARG_DIFF_SRC}},
        [DIFF_SCALE] = {back && s->scale,
                        DLB_BATCHNORM_DIFF_GAMMA,
                        false,
                        true,
                        {0, DNNL_ARG_DIFF_SCALE}},
        [DIFF_SHIFT] = {back && s->shift,
                        DLB_BATCHNORM_DIFF_BETA,
                        false,
                        true,
                        {0, DNNL_ARG_DIFF_SHIFT}},
    };
    const dnnl_dims_t image = {s->mb, s->ic, s->ih, s->iw}, vector = {s->ic};
    for (int i = 0; i < OPERANDS; i++) {
        if (!operands[i].present)
            continue;
        struct dlb_onednn_operand *operand = &recipe->operand[recipe->operands_n];
        for (int k = 0; k < recipe->steps_n; k++) {
            struct dlb_onednn_step *step = &recipe->step[k];
            if (!operands[i].argument[k])
                continue;
            step->use[step->uses_n].argument = operands[i].argument[k];
            step->use[step->uses_n++].operand = recipe->operands_n;
        }
        recipe->operands_n++;
        operand->tensor = operands[i].tensor;
        operand->output = operands[i].output;
        if (operands[i].tensor == DLB_ONEDNN_OWN)
            continue;
        operand->letters = i == SRC ? "nchw" : NULL;
        dnnl_status_t code = dlb_onednn_md_make(
            &operand->canonical, operands[i].image ? 4 : 1,
            operands[i].image ? image : vector, operands[i].image ? dnnl_nhwc : dnnl_x);
        if (code)
            return code;
    }
    return dnnl_success;
}

static dnnl_status_t make_steps(const struct dlb_batchnorm_shape *s,
                                const struct dlb_onednn_md *image,
                                const_dnnl_primitive_attr_t attributes,
                                struct dlb_onednn_recipe *recipe)
{
    const float epsilon = (float)DLB_BATCHNORM_EPSILON;
    dnnl_primitive_desc_t *forward = &recipe->step[FORWARD].pd;
    dnnl_status_t code = dlb_onednn_batchnorm_pd(
        forward, s->train ? dnnl_forward_training : dnnl_forward_inference, flags_of(s),
        epsilon, image, NULL, attributes, recipe->engine);
    if (code || !s->backward)
        return code;
    return dlb_onednn_batchnorm_pd(
        &recipe->step[BACKWARD].pd,
        s->scale || s->shift ? dnnl_backward : dnnl_backward_data, flags_of(s), epsilon,
        image, *forward, attributes, recipe->engine);
}

enum dlb_status dlb_batchnorm_onednn(const struct dlb_problem *problem, enum dlb_isa isa,
                                     int threads, int formulation, struct dlb_plan **plan,
                                     struct dlb_error *error)
{
    (void)isa;
    struct dlb_batchnorm_shape s;
    dlb_batchnorm_shape_get(problem, &s);
    int formulations = s.layout == DLB_BATCHNORM_ANY ? 2 : 1;
    if (formulation >= formulations)
        return dlb_fail(error, DLB_UNSUPPORTED,
                        "oneDNN has %d formulation%s of batchnorm in this layout.",
                        formulations, formulations == 1 ? "" : "s");
    struct dlb_onednn_recipe recipe = {
        .problem = problem,
        .threads = threads,
        .steps_n = s.backward ? STEPS : 1,
        .setup_n = s.backward ? 1 : 0,
        .tensors_n = s.train && !s.backward ? DLB_BATCHNORM_RELU_MASK : 0,
        .finish = s.train && !s.backward ? update_running : NULL,
    };
    struct dlb_onednn_md image = {0};
    const dnnl_dims_t dims = {s.mb, s.ic, s.ih, s.iw};
    dnnl_primitive_attr_t attributes = NULL;
    enum dlb_status status = DLB_OK;

    omp_set_num_threads(threads);
    dnnl_status_t code = dnnl_engine_create(&recipe.engine, dnnl_cpu, 0);
    if (!code)
        code = make_operands(&s, &recipe);
    if (!code)
        code = dlb_onednn_md_make(&image, 4, dims, tag_of(orders[s.layout][formulation]));
    if (!code)
        code = dlb_onednn_attributes_make(&attributes);
    if (!code)
        code = make_steps(&s, &image, attributes, &recipe);
    if (code)
        status = dlb_onednn_fail(error, code, "make a batch normalisation");
    else
        status = dlb_onednn_plan_make(&recipe, plan, error);
    dlb_onednn_md_release(&image);
    if (attributes)
        dnnl_primitive_attr_destroy(attributes);
    dlb_onednn_recipe_release(&recipe);
    return status;
}
