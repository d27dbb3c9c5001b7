#include "core/outer.h"

#include "core/dispatch.h"

DLB_ISA_TABLE(struct dlb_outer_kernels, dlb_outer);

const struct dlb_outer_kernels *dlb_outer_kernels(enum dlb_isa isa)
{
    return dlb_outer_by_isa[isa];
}
