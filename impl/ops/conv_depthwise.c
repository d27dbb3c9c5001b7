#include "ops/conv_internal.h"

enum dlb_status dlb_conv_depthwise_make(const struct dlb_problem *problem,
                                        const struct dlb_target *target,
                                        const struct dlb_candidate *candidate,
                                        struct dlb_plan **plan, struct dlb_error *error)
{
    (void)problem, (void)target, (void)candidate, (void)plan;
    return dlb_fail(error, DLB_UNSUPPORTED, "No depthwise kernel in this build.");
}
const char *dlb_conv_depthwise_refuse(const struct dlb_conv_shape *shape,
                                      const struct dlb_target *target,
                                      const struct dlb_candidate *candidate)
{
    (void)shape, (void)target, (void)candidate;
    return "no depthwise kernel in this build";
}
double dlb_conv_depthwise_cycles(const struct dlb_conv_shape *shape,
                                 const struct dlb_target *target,
                                 const struct dlb_candidate *candidate)
{
    (void)shape, (void)target, (void)candidate;
    return 1;
}
