/*
 * Stands in for the native plans of LSTM and GRU until they are written.
 */
#include "ops/rnn_internal.h"

const char *const dlb_rnn_algorithms[DLB_RNN_ALGORITHMS] = {"none"};
const struct dlb_tile_def dlb_rnn_tiles[DLB_RNN_TILES] = {{"mr", NULL, "none"}};

void dlb_rnn_enumerate(const struct dlb_rnn_shape *shape, const struct dlb_target *target,
                       dlb_candidate_fn *emit, void *context)
{
    (void)shape, (void)target, (void)emit, (void)context;
}

const char *dlb_rnn_refuse(const struct dlb_rnn_shape *shape,
                           const struct dlb_target *target,
                           const struct dlb_candidate *candidate)
{
    (void)shape, (void)target, (void)candidate;
    return "not written yet";
}

void dlb_rnn_fallback(const struct dlb_rnn_shape *shape, const struct dlb_target *target,
                      struct dlb_candidate *candidate)
{
    (void)shape, (void)target;
    *candidate = (struct dlb_candidate){0};
}

double dlb_rnn_estimate(const struct dlb_rnn_shape *shape,
                        const struct dlb_target *target, const struct dlb_rates *rates,
                        const struct dlb_candidate *candidate)
{
    (void)shape, (void)target, (void)rates, (void)candidate;
    return 0;
}

enum dlb_status dlb_rnn_plan(const struct dlb_rnn_shape *shape,
                             const struct dlb_target *target,
                             const struct dlb_candidate *candidate,
                             struct dlb_plan **plan, struct dlb_error *error)
{
    (void)shape, (void)target, (void)candidate, (void)plan;
    return dlb_fail(error, DLB_UNSUPPORTED, "LSTM and GRU have no native plan yet.");
}
