#include "ops/conv_internal.h"

const char *const dlb_conv_algorithms[DLB_CONV_ALGORITHMS] = {"direct"};
const struct dlb_tile_def dlb_conv_tiles[DLB_CONV_TILES] = {
    {"mr", NULL, "rows of the register tile"}};

void dlb_conv_enumerate(const struct dlb_problem *problem,
                        const struct dlb_target *target, dlb_candidate_fn *emit,
                        void *context)
{
    struct dlb_candidate candidate = {0};
    (void)problem, (void)target;
    emit(context, &candidate);
}
const char *dlb_conv_refuse(const struct dlb_problem *problem,
                            const struct dlb_target *target,
                            const struct dlb_candidate *candidate)
{
    (void)problem, (void)target, (void)candidate;
    return NULL;
}
void dlb_conv_fallback(const struct dlb_problem *problem, const struct dlb_target *target,
                       struct dlb_candidate *candidate)
{
    (void)problem, (void)target;
    *candidate = (struct dlb_candidate){0};
}
double dlb_conv_estimate(const struct dlb_problem *problem,
                         const struct dlb_target *target, const struct dlb_rates *rates,
                         const struct dlb_candidate *candidate)
{
    (void)problem, (void)target, (void)rates, (void)candidate;
    return 1;
}
