#include "core/brgemm.h"

#include "core/dispatch.h"

DLB_ISA_TABLE(struct dlb_brgemm_kernels, dlb_brgemm);

const struct dlb_brgemm_kernels *dlb_brgemm_kernels(enum dlb_isa isa)
{
    return dlb_brgemm_by_isa[isa];
}
