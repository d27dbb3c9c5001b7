#include "core/brgemm.h"

extern const struct dlb_brgemm_kernels dlb_brgemm_scalar, dlb_brgemm_sse2,
    dlb_brgemm_avx2, dlb_brgemm_avx512, dlb_brgemm_neon;

const struct dlb_brgemm_kernels *dlb_brgemm_kernels(enum dlb_isa isa)
{
    static const struct dlb_brgemm_kernels *const kernels[DLB_ISA_COUNT] = {
        [DLB_ISA_SCALAR] = &dlb_brgemm_scalar,
#ifdef DLB_BUILD_SSE2
        [DLB_ISA_SSE2] = &dlb_brgemm_sse2,
#endif
#ifdef DLB_BUILD_AVX2
        [DLB_ISA_AVX2] = &dlb_brgemm_avx2,
#endif
#ifdef DLB_BUILD_AVX512
        [DLB_ISA_AVX512] = &dlb_brgemm_avx512,
#endif
#ifdef DLB_BUILD_NEON
        [DLB_ISA_NEON] = &dlb_brgemm_neon,
#endif
    };
    return kernels[isa];
}
