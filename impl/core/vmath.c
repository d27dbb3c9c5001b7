#include "core/vmath.h"

#include "core/dispatch.h"

DLB_ISA_TABLE(struct dlb_vmath_kernels, dlb_vmath_kernels);

const struct dlb_vmath_kernels *dlb_vmath_kernels(enum dlb_isa isa)
{
    return dlb_isa_usable(isa) ? dlb_vmath_kernels_by_isa[isa] : NULL;
}
