/*
 * immintrin.h - stands before the compiler's header of this name where kernels for AVX-512
 * are built with other instructions (DLBENCH_EMULATE_AVX512, see tests/README.md).
 *
 * SIMDe writes the intrinsics with what there is; what it lacks, of those that core/vec.h
 * uses, is here.
 */
#ifndef TESTS_AVX512_IMMINTRIN_H
#define TESTS_AVX512_IMMINTRIN_H

#include_next <immintrin.h>

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

#include <math.h>
#include <stdint.h>

/* vec.h's, which is for registers: unrolled, this would compile for minutes. */
#undef DLB_UNROLL
#define DLB_UNROLL

#define EMULATED static inline __attribute__((always_inline))

/* Where the instruction would fault. */
EMULATED void *emulated_aligned(const void *p)
{
    if ((uintptr_t)p % 64)
        __builtin_trap();
    return (void *)(uintptr_t)p;
}

EMULATED __m512 emulated_load(__mmask16 mask, const float *p)
{
    float lanes[16] = {0};
    for (int i = 0; i < 16; i++)
        if (mask >> i & 1)
            lanes[i] = p[i];
    return _mm512_loadu_ps(lanes);
}

EMULATED void emulated_store(float *p, __mmask16 mask, __m512 a)
{
    float lanes[16];
    _mm512_storeu_ps(lanes, a);
    for (int i = 0; i < 16; i++)
        if (mask >> i & 1)
            p[i] = lanes[i];
}

EMULATED float emulated_sum(__m512 a)
{
    float lanes[16];
    _mm512_storeu_ps(lanes, a);
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++)
            lanes[i] += lanes[i + half];
    return lanes[0];
}

EMULATED float emulated_max(__m512 a)
{
    float lanes[16];
    _mm512_storeu_ps(lanes, a);
    for (int i = 1; i < 16; i++)
        lanes[0] = lanes[i] > lanes[0] ? lanes[i] : lanes[0];
    return lanes[0];
}

/* SIMDe's takes powers beyond the subnormal numbers for 0. */
EMULATED __m512 emulated_scalef(__m512 a, __m512 n)
{
    float lanes[16], powers[16];
    _mm512_storeu_ps(lanes, a);
    _mm512_storeu_ps(powers, n);
    for (int i = 0; i < 16; i++)
        lanes[i] =
            isnan(powers[i]) ? powers[i] : ldexpf(lanes[i], (int)floorf(powers[i]));
    return _mm512_loadu_ps(lanes);
}

EMULATED __m512 emulated_load_bytes(__m128i bytes)
{
    uint8_t from[16];
    float lanes[16];
    _mm_storeu_si128((__m128i *)(void *)from, bytes);
    for (int i = 0; i < 16; i++)
        lanes[i] = from[i];
    return _mm512_loadu_ps(lanes);
}

EMULATED __m128i emulated_bytes(__m512 a)
{
    uint8_t to[16];
    float lanes[16];
    _mm512_storeu_ps(lanes, a);
    for (int i = 0; i < 16; i++)
        to[i] = (uint8_t)lanes[i];
    return _mm_loadu_si128((const __m128i *)(const void *)to);
}

#undef _mm512_load_ps
#undef _mm512_store_ps
#undef _mm512_scalef_ps
#define _mm512_load_ps(p)                 _mm512_loadu_ps(emulated_aligned(p))
#define _mm512_store_ps(p, a)             _mm512_storeu_ps(emulated_aligned(p), a)
#define _mm512_stream_ps(p, a)            _mm512_storeu_ps(emulated_aligned(p), a)
#define _mm512_maskz_loadu_ps(mask, p)    emulated_load(mask, p)
#define _mm512_mask_storeu_ps(p, mask, a) emulated_store(p, mask, a)
#define _mm512_reduce_add_ps(a)           emulated_sum(a)
#define _mm512_reduce_max_ps(a)           emulated_max(a)
#define _mm512_scalef_ps(a, n)            emulated_scalef(a, n)
/* Bytes to floats in two steps, and back: the other step does it all. */
#undef _mm512_cvtepu8_epi32
#undef _mm512_cvtepi32_ps
#undef _mm512_cvtps_epi32
#undef _mm512_cvtepi32_epi8
#define _mm512_cvtepu8_epi32(bytes) bytes
#define _mm512_cvtepi32_ps(bytes)   emulated_load_bytes(bytes)
#define _mm512_cvtps_epi32(a)       a
#define _mm512_cvtepi32_epi8(a)     emulated_bytes(a)

#endif
