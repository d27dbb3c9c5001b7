/*
 * LSTM and GRU by oneDNN: not written yet.
 */
#include "reference_internal.h"

static enum dlb_status missing(struct dlb_error *error)
{
    return dlb_fail(error, DLB_UNSUPPORTED, "LSTM and GRU have no oneDNN plan yet.");
}

enum dlb_status dlb_lstm_onednn(const struct dlb_problem *problem, enum dlb_isa isa,
                                int threads, int formulation, struct dlb_plan **plan,
                                struct dlb_error *error)
{
    (void)problem, (void)isa, (void)threads, (void)formulation, (void)plan;
    return missing(error);
}

enum dlb_status dlb_gru_onednn(const struct dlb_problem *problem, enum dlb_isa isa,
                               int threads, int formulation, struct dlb_plan **plan,
                               struct dlb_error *error)
{
    (void)problem, (void)isa, (void)threads, (void)formulation, (void)plan;
    return missing(error);
}
