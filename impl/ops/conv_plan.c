#include "ops/conv_internal.h"

enum dlb_status dlb_conv_plan(const struct dlb_problem *problem,
                              const struct dlb_target *target,
                              const struct dlb_candidate *candidate,
                              struct dlb_plan **plan, struct dlb_error *error)
{
    (void)problem, (void)target, (void)candidate, (void)plan;
    return dlb_fail(error, DLB_UNSUPPORTED, "The native convolution is not here yet.");
}
