/*
 * Stands in for the oneDNN adapter in a build with -DDLBENCH_ONEDNN=OFF.
 */
#include "reference_internal.h"

static enum dlb_status missing(struct dlb_error *error)
{
    return dlb_fail(error, DLB_UNSUPPORTED,
                    "This build is without oneDNN; configure with -DDLBENCH_ONEDNN=ON to "
                    "have it.");
}

const char *dlb_onednn_version(void)
{
    return NULL;
}

const char *dlb_onednn_runtime(void)
{
    return NULL;
}

enum dlb_status dlb_onednn_cap_isa(enum dlb_isa isa, struct dlb_error *error)
{
    (void)isa;
    return missing(error);
}

#define DLB_NONE(op)                                                                     \
    enum dlb_status dlb_##op##_onednn(const struct dlb_problem *problem,                 \
                                      enum dlb_isa isa, int threads, int formulation,    \
                                      struct dlb_plan **plan, struct dlb_error *error)   \
    {                                                                                    \
        (void)problem, (void)isa, (void)threads, (void)formulation, (void)plan;          \
        return missing(error);                                                           \
    }

DLB_NONE(conv)
DLB_NONE(lstm)
DLB_NONE(gru)
DLB_NONE(rnn)
DLB_NONE(attention)
DLB_NONE(batchnorm)
DLB_NONE(linear)
DLB_NONE(pooling)
DLB_NONE(xent)
DLB_NONE(activation)
DLB_NONE(add)
DLB_NONE(dropout)
