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

enum { SRC, DST, MEAN, VARIANCE, SCALE, SHIFT, WORKSPACE, OPERANDS };

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

static void update_running(const struct dlb_problem *problem, void *const *tensor)
{
    struct dlb_batchnorm_shape s;
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

/* Operands that the problem has, and how the step uses them. */
static dnnl_status_t make_operands(const struct dlb_batchnorm_shape *s,
                                   struct dlb_onednn_recipe *recipe)
{
    const struct {
        bool present;
        int argument, tensor;
        bool image, output;
    } operands[OPERANDS] = {
        [SRC] = {true, DNNL_ARG_SRC, DLB_BATCHNORM_SRC, true, false},
        [DST] = {true, DNNL_ARG_DST, DLB_BATCHNORM_DST, true, true},
        [MEAN] = {true, DNNL_ARG_MEAN,
                  s->train ? DLB_BATCHNORM_MEAN : DLB_BATCHNORM_IN_MEAN, false, s->train},
        [VARIANCE] = {true, DNNL_ARG_VARIANCE,
                      s->train ? DLB_BATCHNORM_VARIANCE : DLB_BATCHNORM_IN_VARIANCE,
                      false, s->train},
        [SCALE] = {s->scale, DNNL_ARG_SCALE, DLB_BATCHNORM_GAMMA, false, false},
        [SHIFT] = {s->shift, DNNL_ARG_SHIFT, DLB_BATCHNORM_BETA, false, false},
        [WORKSPACE] = {s->train && s->relu, DNNL_ARG_WORKSPACE, DLB_ONEDNN_OWN, false,
                       false},
    };
    const dnnl_dims_t image = {s->mb, s->ic, s->ih, s->iw}, vector = {s->ic};
    struct dlb_onednn_step *step = &recipe->step[0];
    for (int i = 0; i < OPERANDS; i++) {
        if (!operands[i].present)
            continue;
        struct dlb_onednn_operand *operand = &recipe->operand[recipe->operands_n];
        step->use[step->uses_n].argument = operands[i].argument;
        step->use[step->uses_n++].operand = recipe->operands_n++;
        operand->tensor = operands[i].tensor;
        operand->output = operands[i].output;
        if (operands[i].tensor == DLB_ONEDNN_OWN)
            continue;
        operand->letters = operands[i].tensor == DLB_BATCHNORM_SRC ? "nchw" : NULL;
        dnnl_status_t code = dlb_onednn_md_make(
            &operand->canonical, operands[i].image ? 4 : 1,
            operands[i].image ? image : vector, operands[i].image ? dnnl_nhwc : dnnl_x);
        if (code)
            return code;
    }
    return dnnl_success;
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
        .steps_n = 1,
        .tensors_n = s.train ? DLB_BATCHNORM_RELU_MASK : 0,
        .finish = s.train ? update_running : NULL,
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
        code = dlb_onednn_batchnorm_pd(
            &recipe.step[0].pd, s.train ? dnnl_forward_training : dnnl_forward_inference,
            flags_of(&s), (float)DLB_BATCHNORM_EPSILON, &image, attributes,
            recipe.engine);
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
