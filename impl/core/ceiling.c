#include "core/ceiling.h"

#include "core/dispatch.h"

DLB_ISA_TABLE(struct dlb_ceiling_kernels, dlb_ceiling_kernels);

const struct dlb_ceiling_kernels *dlb_ceiling_kernels(enum dlb_isa isa)
{
    return dlb_isa_usable(isa) ? dlb_ceiling_kernels_by_isa[isa] : NULL;
}
