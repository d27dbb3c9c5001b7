#include "ops/conv_internal.h"

#include <stdio.h>

/* What differs by pass: its space, and the plans of algorithms by GEMM and depthwise. */
static const struct pass {
    const struct dlb_conv_space *space;
    dlb_conv_maker *gemm, *depthwise;
} passes[DLB_PASS_COUNT] = {
    [DLB_FWD] = {&dlb_conv_image_space, dlb_conv_gemm_make, dlb_conv_depthwise_make},
    [DLB_BWD_DATA] = {&dlb_conv_image_space, dlb_conv_gemm_make, dlb_conv_depthwise_make},
    [DLB_BWD_WEIGHTS] = {&dlb_conv_weights_space, dlb_conv_weights_make,
                         dlb_conv_weights_depthwise},
};

void dlb_conv_enumerate(const struct dlb_problem *problem,
                        const struct dlb_target *target, dlb_candidate_fn *emit,
                        void *context)
{
    passes[problem->pass].space->enumerate(problem, target, emit, context);
}

const char *dlb_conv_refuse(const struct dlb_problem *problem,
                            const struct dlb_target *target,
                            const struct dlb_candidate *candidate)
{
    return passes[problem->pass].space->refuse(problem, target, candidate);
}

void dlb_conv_fallback(const struct dlb_problem *problem, const struct dlb_target *target,
                       struct dlb_candidate *candidate)
{
    dlb_op_fallback(&dlb_op_conv, problem, target, candidate);
}

double dlb_conv_estimate(const struct dlb_problem *problem,
                         const struct dlb_target *target, const struct dlb_rates *rates,
                         const struct dlb_candidate *candidate)
{
    return passes[problem->pass].space->estimate(problem, target, rates, candidate);
}

enum dlb_status dlb_conv_plan(const struct dlb_problem *problem,
                              const struct dlb_target *target,
                              const struct dlb_candidate *candidate,
                              struct dlb_plan **plan, struct dlb_error *error)
{
    const char *reason = dlb_conv_refuse(problem, target, candidate);
    if (reason)
        return dlb_fail(error, DLB_UNSUPPORTED,
                        "This way of computing the convolution is not legal here (%s); "
                        "take a candidate that the search space offers.",
                        reason);
    const struct pass *pass = &passes[problem->pass];
    struct dlb_plan *made = NULL;
    enum dlb_status status = (candidate->algorithm == DLB_CONV_DEPTHWISE
                                  ? pass->depthwise
                                  : pass->gemm)(problem, target, candidate, &made, error);
    if (status)
        return status;
    made->threads = target->threads;
    snprintf(made->version, sizeof made->version, "%s", DLBENCH_VERSION);
    snprintf(made->algorithm, sizeof made->algorithm, "%s",
             dlb_conv_algorithms[candidate->algorithm]);
    snprintf(made->layout, sizeof made->layout, "nhwc");
    snprintf(made->isa, sizeof made->isa, "%s", dlb_isa_name(target->isa));
    *plan = made;
    return DLB_OK;
}
