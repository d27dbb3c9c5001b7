#include "core/ceiling.h"

#define DECLARE(isa) extern const struct dlb_ceiling_kernels dlb_ceiling_kernels_##isa;
DECLARE(scalar)
#ifdef DLB_BUILD_SSE2
DECLARE(sse2)
DECLARE(avx2)
DECLARE(avx512)
#endif
#ifdef DLB_BUILD_NEON
DECLARE(neon)
#endif

static const struct dlb_ceiling_kernels *const table[DLB_ISA_COUNT] = {
    [DLB_ISA_SCALAR] = &dlb_ceiling_kernels_scalar,
#ifdef DLB_BUILD_SSE2
    [DLB_ISA_SSE2] = &dlb_ceiling_kernels_sse2,
    [DLB_ISA_AVX2] = &dlb_ceiling_kernels_avx2,
    [DLB_ISA_AVX512] = &dlb_ceiling_kernels_avx512,
#endif
#ifdef DLB_BUILD_NEON
    [DLB_ISA_NEON] = &dlb_ceiling_kernels_neon,
#endif
};

const struct dlb_ceiling_kernels *dlb_ceiling_kernels(enum dlb_isa isa)
{
    return dlb_isa_usable(isa) ? table[isa] : NULL;
}
