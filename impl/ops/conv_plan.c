#include "ops/conv_internal.h"

#include <stdio.h>

static dlb_conv_maker *const makers[DLB_CONV_ALGORITHMS] = {
    [DLB_CONV_DIRECT] = dlb_conv_gemm_make,
    [DLB_CONV_DIRECT_ROW] = dlb_conv_gemm_make,
    [DLB_CONV_GEMM_1X1] = dlb_conv_gemm_make,
    [DLB_CONV_IM2COL] = dlb_conv_gemm_make,
    [DLB_CONV_DEPTHWISE] = dlb_conv_depthwise_make,
};

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
    struct dlb_plan *made = NULL;
    enum dlb_status status =
        makers[candidate->algorithm](problem, target, candidate, &made, error);
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
