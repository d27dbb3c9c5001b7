/*
 * dispatch.h - the table that picks a kernel source's instance for an ISA.
 *
 *   DLB_ISA_TABLE(struct dlb_x_kernels, dlb_x);
 *
 * declares dlb_x_scalar, dlb_x_sse2, … (what x_kernels.c exports as DLB_NAME(dlb_x)) and
 * defines static const struct dlb_x_kernels *const dlb_x_by_isa[DLB_ISA_COUNT], with NULL for
 * what is not in this build.
 */
#ifndef DLB_CORE_DISPATCH_H
#define DLB_CORE_DISPATCH_H

#include "core/isa.h"

#ifdef DLB_BUILD_SSE2
#define DLB_SSE2_ENTRY(name) &name##_sse2
#else
#define DLB_SSE2_ENTRY(name) NULL
#endif
#ifdef DLB_BUILD_AVX2
#define DLB_AVX2_ENTRY(name) &name##_avx2
#else
#define DLB_AVX2_ENTRY(name) NULL
#endif
#ifdef DLB_BUILD_AVX512
#define DLB_AVX512_ENTRY(name) &name##_avx512
#else
#define DLB_AVX512_ENTRY(name) NULL
#endif
#ifdef DLB_BUILD_NEON
#define DLB_NEON_ENTRY(name) &name##_neon
#else
#define DLB_NEON_ENTRY(name) NULL
#endif

#define DLB_ISA_TABLE(type, name)                                                        \
    extern const type name##_scalar, name##_sse2, name##_avx2, name##_avx512,            \
        name##_neon;                                                                     \
    static const type *const name##_by_isa[DLB_ISA_COUNT] =                              \
        {                                                                                \
            [DLB_ISA_SCALAR] = &name##_scalar,                                           \
            [DLB_ISA_SSE2] = DLB_SSE2_ENTRY(name),                                       \
            [DLB_ISA_AVX2] = DLB_AVX2_ENTRY(name),                                       \
            [DLB_ISA_AVX512] = DLB_AVX512_ENTRY(name),                                   \
            [DLB_ISA_NEON] = DLB_NEON_ENTRY(name),                                       \
    }

#endif
