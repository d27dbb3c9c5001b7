/* Stands in until there are kernels: the space is empty and no plan can be made. */
#include "ops/attention_internal.h"

const char *const dlb_attention_algorithms[DLB_ATTENTION_ALGORITHMS] = {
    [DLB_ATTENTION_ONLINE] = "online",
};
const struct dlb_tile_def dlb_attention_tiles[DLB_ATTENTION_TILES] = {
    {"mr", NULL, "queries in a register tile"},
};

static const char reason[] = "there are no kernels yet";

void dlb_attention_enumerate(const struct dlb_problem *problem,
                             const struct dlb_target *target, dlb_candidate_fn *emit,
                             void *context)
{
    (void)problem, (void)target, (void)emit, (void)context;
}

const char *dlb_attention_refuse(const struct dlb_problem *problem,
                                 const struct dlb_target *target,
                                 const struct dlb_candidate *candidate)
{
    (void)problem, (void)target, (void)candidate;
    return reason;
}

void dlb_attention_fallback(const struct dlb_problem *problem,
                            const struct dlb_target *target,
                            struct dlb_candidate *candidate)
{
    (void)problem, (void)target;
    *candidate = (struct dlb_candidate){0};
}

double dlb_attention_estimate(const struct dlb_problem *problem,
                              const struct dlb_target *target,
                              const struct dlb_rates *rates,
                              const struct dlb_candidate *candidate)
{
    (void)problem, (void)target, (void)rates, (void)candidate;
    return 0;
}

enum dlb_status dlb_attention_plan(const struct dlb_problem *problem,
                                   const struct dlb_target *target,
                                   const struct dlb_candidate *candidate,
                                   struct dlb_plan **plan, struct dlb_error *error)
{
    (void)problem, (void)target, (void)candidate, (void)plan;
    return dlb_fail(error, DLB_UNSUPPORTED, "Attention has no native plan (%s).", reason);
}
