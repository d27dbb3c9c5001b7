#include "core/brgemm.h"

#include "core/dispatch.h"

#include <math.h>

DLB_ISA_TABLE(struct dlb_brgemm_kernels, dlb_brgemm);

const struct dlb_brgemm_kernels *dlb_brgemm_kernels(enum dlb_isa isa)
{
    return dlb_brgemm_by_isa[isa];
}

double dlb_brgemm_step_cycles(int mr, int nv)
{
    double fma = mr * nv / 2.0, loads = (mr + nv) / 2.0;
    return fmax(fmax(fma, loads), 4) + 0.04 * loads;
}
