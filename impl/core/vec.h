/*
 * vec.h - one vector of floats, for sources that are compiled once per instruction set
 * (*_kernels.c).  The only place with #if per ISA.
 *
 * VLEN floats a vector, VREGS registers. v_loadu/v_storeu need no alignment; v_load,
 * v_store and v_stream need VLEN*4 bytes.  The _n forms touch only the first n lanes
 * (0 <= n <= VLEN) of memory; loaded lanes beyond are 0.
 *
 * DLB_NAME(x) is x with the ISA's suffix: what a kernel source exports is named so;
 * everything else in it must be static, so that no wide copy of a shared helper can be
 * run on an older processor.
 */
#ifndef DLB_CORE_VEC_H
#define DLB_CORE_VEC_H

#include <stddef.h>
#include <stdint.h>

#define DLB_PASTE_(a, b) a##_##b
#define DLB_PASTE(a, b)  DLB_PASTE_(a, b)
#define DLB_NAME(x)      DLB_PASTE(x, DLB_TARGET_ISA)

#define DLB_INLINE static inline __attribute__((always_inline))
#define DLB_UNROLL _Pragma("GCC unroll 64")

/*
 * For tables of instances that would spill elsewhere: V_IF_32REGS(x) is x where VREGS is
 * 32, V_IF_FMA(x) where there is a fused multiply-add, V_IF_FMA_MEMORY(x) where it reads
 * a factor from memory (v_fma_memory); elsewhere they are nothing.
 */
#if defined(DLB_TARGET_AVX512) || defined(DLB_TARGET_NEON)
#define V_IF_32REGS(x) x
#else
#define V_IF_32REGS(x)
#endif
#if defined(DLB_TARGET_AVX512) || defined(DLB_TARGET_AVX2) || defined(DLB_TARGET_NEON)
#define V_IF_FMA(x) x
enum { V_FMA = 1 };
#else
#define V_IF_FMA(x)
enum { V_FMA = 0 };
#endif
#if defined(DLB_TARGET_AVX512) || defined(DLB_TARGET_AVX2)
#define V_IF_FMA_MEMORY(x) x
enum { V_FMA_MEMORY = 1 };
#else
#define V_IF_FMA_MEMORY(x)
enum { V_FMA_MEMORY = 0 };
#endif

/*
 * Whole numbers in floats: V_WHOLE + x rounds x, |x| < 2^22, to the nearest whole n (ties
 * to even) and holds n in its low bits; minus V_WHOLE it is n.  V_POW2 + n, the
 * same with the bias of an exponent, is what v_pow2 makes 2^n of.
 */
#define V_WHOLE 0x1.8p23f
#define V_POW2  (V_WHOLE + 127)

#if defined(DLB_TARGET_AVX512)

#include <immintrin.h>
enum { VLEN = 16, VREGS = 32 };
typedef __m512 vec;
DLB_INLINE vec v_zero(void)
{
    return _mm512_setzero_ps();
}
DLB_INLINE vec v_set1(float x)
{
    return _mm512_set1_ps(x);
}
DLB_INLINE vec v_load(const float *p)
{
    return _mm512_load_ps(p);
}
DLB_INLINE vec v_loadu(const float *p)
{
    return _mm512_loadu_ps(p);
}
DLB_INLINE void v_store(float *p, vec a)
{
    _mm512_store_ps(p, a);
}
DLB_INLINE void v_storeu(float *p, vec a)
{
    _mm512_storeu_ps(p, a);
}
DLB_INLINE void v_stream(float *p, vec a)
{
    _mm512_stream_ps(p, a);
}
DLB_INLINE vec v_fma(vec a, vec b, vec c)
{
    return _mm512_fmadd_ps(a, b, c);
}
DLB_INLINE vec v_add(vec a, vec b)
{
    return _mm512_add_ps(a, b);
}
DLB_INLINE vec v_sub(vec a, vec b)
{
    return _mm512_sub_ps(a, b);
}
DLB_INLINE vec v_mul(vec a, vec b)
{
    return _mm512_mul_ps(a, b);
}
/* The second operand where either is NaN: v_max(limit, x) keeps a NaN x. */
DLB_INLINE vec v_max(vec a, vec b)
{
    return _mm512_max_ps(a, b);
}
DLB_INLINE vec v_min(vec a, vec b)
{
    return _mm512_min_ps(a, b);
}
/* Correctly rounded, as v_sqrt is. */
DLB_INLINE vec v_div(vec a, vec b)
{
    return _mm512_div_ps(a, b);
}
DLB_INLINE vec v_sqrt(vec a)
{
    return _mm512_sqrt_ps(a);
}
DLB_INLINE vec v_abs(vec a)
{
    return _mm512_abs_ps(a);
}
/* a, which must not be negative, with the sign of b. */
DLB_INLINE vec v_copysign(vec a, vec b)
{
    return _mm512_or_ps(a, _mm512_and_ps(b, _mm512_set1_ps(-0.0f)));
}
/* 2^n from t = V_POW2 + n: 0 for n = -127, +inf for n = 128; -127 <= n <= 128. */
DLB_INLINE vec v_pow2(vec t)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(t), 23));
}
/* a * 2^n with one rounding, subnormal results too; n is whole, |n| <= 252. */
DLB_INLINE vec v_ldexp(vec a, vec n)
{
    return _mm512_scalef_ps(a, n);
}
DLB_INLINE __mmask16 v_mask_(int n)
{
    return (__mmask16)((1u << n) - 1);
}
DLB_INLINE vec v_load_n(const float *p, int n)
{
    return _mm512_maskz_loadu_ps(v_mask_(n), p);
}
DLB_INLINE void v_store_n(float *p, vec a, int n)
{
    _mm512_mask_storeu_ps(p, v_mask_(n), a);
}
DLB_INLINE float v_sum(vec a)
{
    return _mm512_reduce_add_ps(a);
}
/* Lane i of what comes back is the sum of a[i]; VLEN vectors, which are not kept. */
DLB_INLINE vec v_sums(vec *a)
{
    DLB_UNROLL
    for (int i = 0; i < 8; i++)
        a[i] = _mm512_add_ps(_mm512_unpacklo_ps(a[2 * i], a[2 * i + 1]),
                             _mm512_unpackhi_ps(a[2 * i], a[2 * i + 1]));
    DLB_UNROLL
    for (int i = 0; i < 4; i++) {
        __m512d x = _mm512_castps_pd(a[2 * i]), y = _mm512_castps_pd(a[2 * i + 1]);
        a[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(x, y)),
                             _mm512_castpd_ps(_mm512_unpackhi_pd(x, y)));
    }
    DLB_UNROLL
    for (int i = 0; i < 2; i++)
        a[i] = _mm512_add_ps(_mm512_shuffle_f32x4(a[2 * i], a[2 * i + 1], 0x44),
                             _mm512_shuffle_f32x4(a[2 * i], a[2 * i + 1], 0xee));
    return _mm512_add_ps(_mm512_shuffle_f32x4(a[0], a[1], 0x88),
                         _mm512_shuffle_f32x4(a[0], a[1], 0xdd));
}
/* The low, or the high, halves of a and b, lane by lane in turn. */
DLB_INLINE vec v_zip_low(vec a, vec b)
{
    const __m512i order =
        _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    return _mm512_permutex2var_ps(a, order, b);
}
DLB_INLINE vec v_zip_high(vec a, vec b)
{
    const __m512i order =
        _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    return _mm512_permutex2var_ps(a, order, b);
}
/* The largest lane; unspecified where one is NaN. */
DLB_INLINE float v_max_lanes(vec a)
{
    return _mm512_reduce_max_ps(a);
}
/* x where a > b, or a == b, else y; y where one is NaN. */
DLB_INLINE vec v_if_greater(vec a, vec b, vec x, vec y)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_GT_OQ), y, x);
}
DLB_INLINE vec v_if_equal(vec a, vec b, vec x, vec y)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ), y, x);
}
DLB_INLINE int v_has_nan(vec a)
{
    return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q) != 0;
}
/* VLEN bytes, as and from whole floats of 0 to 255. */
DLB_INLINE vec v_load_bytes(const uint8_t *p)
{
    return _mm512_cvtepi32_ps(
        _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)));
}
DLB_INLINE void v_store_bytes(uint8_t *p, vec a)
{
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a)));
}
/* Bit i is set where lane i is > 0; NaN is not. */
DLB_INLINE unsigned v_positive(vec a)
{
    return _mm512_cmp_ps_mask(a, _mm512_setzero_ps(), _CMP_GT_OQ);
}
/* The lanes whose bit is set (bit i: lane i), 0 in the others. */
DLB_INLINE vec v_keep(vec a, unsigned bits)
{
    return _mm512_maskz_mov_ps((__mmask16)bits, a);
}
/* a in the lanes where x is > 0, b in the others, and where x is NaN. */
DLB_INLINE vec v_if_positive(vec x, vec a, vec b)
{
    return _mm512_mask_mov_ps(b, _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GT_OQ),
                              a);
}
/* a in the lanes where x is > 0, 0 in the others, and where x is NaN. */
DLB_INLINE vec v_keep_positive(vec x, vec a)
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GT_OQ), a);
}
DLB_INLINE void v_stream_fence(void)
{
    _mm_sfence();
}

#elif defined(DLB_TARGET_AVX2)

#include <immintrin.h>
enum { VLEN = 8, VREGS = 16 };
typedef __m256 vec;
DLB_INLINE vec v_zero(void)
{
    return _mm256_setzero_ps();
}
DLB_INLINE vec v_set1(float x)
{
    return _mm256_set1_ps(x);
}
DLB_INLINE vec v_load(const float *p)
{
    return _mm256_load_ps(p);
}
DLB_INLINE vec v_loadu(const float *p)
{
    return _mm256_loadu_ps(p);
}
DLB_INLINE void v_store(float *p, vec a)
{
    _mm256_store_ps(p, a);
}
DLB_INLINE void v_storeu(float *p, vec a)
{
    _mm256_storeu_ps(p, a);
}
DLB_INLINE void v_stream(float *p, vec a)
{
    _mm256_stream_ps(p, a);
}
DLB_INLINE vec v_fma(vec a, vec b, vec c)
{
    return _mm256_fmadd_ps(a, b, c);
}
DLB_INLINE vec v_add(vec a, vec b)
{
    return _mm256_add_ps(a, b);
}
DLB_INLINE vec v_sub(vec a, vec b)
{
    return _mm256_sub_ps(a, b);
}
DLB_INLINE vec v_mul(vec a, vec b)
{
    return _mm256_mul_ps(a, b);
}
DLB_INLINE vec v_max(vec a, vec b)
{
    return _mm256_max_ps(a, b);
}
DLB_INLINE vec v_min(vec a, vec b)
{
    return _mm256_min_ps(a, b);
}
DLB_INLINE vec v_div(vec a, vec b)
{
    return _mm256_div_ps(a, b);
}
DLB_INLINE vec v_sqrt(vec a)
{
    return _mm256_sqrt_ps(a);
}
DLB_INLINE vec v_abs(vec a)
{
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a);
}
DLB_INLINE vec v_copysign(vec a, vec b)
{
    return _mm256_or_ps(a, _mm256_and_ps(b, _mm256_set1_ps(-0.0f)));
}
DLB_INLINE vec v_pow2(vec t)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(t), 23));
}
DLB_INLINE vec v_ldexp(vec a, vec n)
{
    /* 2^n in two factors; the first product is exact. */
    __m256i whole = _mm256_castps_si256(_mm256_add_ps(n, _mm256_set1_ps(V_POW2 + 127)));
    __m256i half = _mm256_srli_epi32(whole, 1);
    __m256i rest = _mm256_sub_epi32(whole, half);
    a = _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32(half, 23)));
    return _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32(rest, 23)));
}
DLB_INLINE __m256i v_mask_(int n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
DLB_INLINE vec v_load_n(const float *p, int n)
{
    return _mm256_maskload_ps(p, v_mask_(n));
}
DLB_INLINE void v_store_n(float *p, vec a, int n)
{
    _mm256_maskstore_ps(p, v_mask_(n), a);
}
DLB_INLINE float v_sum(vec a)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_shuffle_ps(s, s, 1)));
}
/* Lane j of row[i] and lane i of row[j] change places; VLEN rows. */
DLB_INLINE void v_transpose(vec *row)
{
    __m256 pair[8], four[8];
    DLB_UNROLL
    for (int i = 0; i < 8; i += 2) {
        pair[i] = _mm256_unpacklo_ps(row[i], row[i + 1]);
        pair[i + 1] = _mm256_unpackhi_ps(row[i], row[i + 1]);
    }
    DLB_UNROLL
    for (int i = 0; i < 4; i++) {
        __m256d a = _mm256_castps_pd(pair[i / 2 * 4 + i % 2]),
                b = _mm256_castps_pd(pair[i / 2 * 4 + i % 2 + 2]);
        four[i / 2 * 4 + i % 2 * 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, b));
        four[i / 2 * 4 + i % 2 * 2 + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, b));
    }
    DLB_UNROLL
    for (int i = 0; i < 4; i++) {
        row[i] = _mm256_permute2f128_ps(four[i], four[i + 4], 0x20);
        row[i + 4] = _mm256_permute2f128_ps(four[i], four[i + 4], 0x31);
    }
}
DLB_INLINE float v_max_lanes(vec a)
{
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_shuffle_ps(m, m, 1)));
}
DLB_INLINE vec v_if_greater(vec a, vec b, vec x, vec y)
{
    return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_GT_OQ));
}
DLB_INLINE vec v_if_equal(vec a, vec b, vec x, vec y)
{
    return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_EQ_OQ));
}
DLB_INLINE int v_has_nan(vec a)
{
    return _mm256_movemask_ps(_mm256_cmp_ps(a, a, _CMP_UNORD_Q)) != 0;
}
DLB_INLINE vec v_load_bytes(const uint8_t *p)
{
    return _mm256_cvtepi32_ps(
        _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p)));
}
DLB_INLINE void v_store_bytes(uint8_t *p, vec a)
{
    __m256i whole = _mm256_cvtps_epi32(a);
    __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(whole),
                                    _mm256_extracti128_si256(whole, 1));
    _mm_storel_epi64((__m128i *)(void *)p, _mm_packus_epi16(words, words));
}
DLB_INLINE unsigned v_positive(vec a)
{
    return (unsigned)_mm256_movemask_ps(
        _mm256_cmp_ps(a, _mm256_setzero_ps(), _CMP_GT_OQ));
}
DLB_INLINE vec v_keep(vec a, unsigned bits)
{
    const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    __m256i own = _mm256_and_si256(_mm256_set1_epi32((int)bits), bit);
    return _mm256_and_ps(a, _mm256_castsi256_ps(_mm256_cmpeq_epi32(own, bit)));
}
DLB_INLINE vec v_if_positive(vec x, vec a, vec b)
{
    return _mm256_blendv_ps(b, a, _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_GT_OQ));
}
DLB_INLINE vec v_keep_positive(vec x, vec a)
{
    return _mm256_and_ps(_mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_GT_OQ), a);
}
DLB_INLINE void v_stream_fence(void)
{
    _mm_sfence();
}

#elif defined(DLB_TARGET_SSE2)

#include <emmintrin.h>
enum { VLEN = 4, VREGS = 16 };
typedef __m128 vec;
DLB_INLINE vec v_zero(void)
{
    return _mm_setzero_ps();
}
DLB_INLINE vec v_set1(float x)
{
    return _mm_set1_ps(x);
}
DLB_INLINE vec v_load(const float *p)
{
    return _mm_load_ps(p);
}
DLB_INLINE vec v_loadu(const float *p)
{
    return _mm_loadu_ps(p);
}
DLB_INLINE void v_store(float *p, vec a)
{
    _mm_store_ps(p, a);
}
DLB_INLINE void v_storeu(float *p, vec a)
{
    _mm_storeu_ps(p, a);
}
DLB_INLINE void v_stream(float *p, vec a)
{
    _mm_stream_ps(p, a);
}
DLB_INLINE vec v_fma(vec a, vec b, vec c)
{
    return _mm_add_ps(_mm_mul_ps(a, b), c);
}
DLB_INLINE vec v_add(vec a, vec b)
{
    return _mm_add_ps(a, b);
}
DLB_INLINE vec v_sub(vec a, vec b)
{
    return _mm_sub_ps(a, b);
}
DLB_INLINE vec v_mul(vec a, vec b)
{
    return _mm_mul_ps(a, b);
}
DLB_INLINE vec v_max(vec a, vec b)
{
    return _mm_max_ps(a, b);
}
DLB_INLINE vec v_min(vec a, vec b)
{
    return _mm_min_ps(a, b);
}
DLB_INLINE vec v_div(vec a, vec b)
{
    return _mm_div_ps(a, b);
}
DLB_INLINE vec v_sqrt(vec a)
{
    return _mm_sqrt_ps(a);
}
DLB_INLINE vec v_abs(vec a)
{
    return _mm_andnot_ps(_mm_set1_ps(-0.0f), a);
}
DLB_INLINE vec v_copysign(vec a, vec b)
{
    return _mm_or_ps(a, _mm_and_ps(b, _mm_set1_ps(-0.0f)));
}
DLB_INLINE vec v_pow2(vec t)
{
    return _mm_castsi128_ps(_mm_slli_epi32(_mm_castps_si128(t), 23));
}
DLB_INLINE vec v_ldexp(vec a, vec n)
{
    /* 2^n in two factors; the first product is exact. */
    __m128i whole = _mm_castps_si128(_mm_add_ps(n, _mm_set1_ps(V_POW2 + 127)));
    __m128i half = _mm_srli_epi32(whole, 1);
    __m128i rest = _mm_sub_epi32(whole, half);
    a = _mm_mul_ps(a, _mm_castsi128_ps(_mm_slli_epi32(half, 23)));
    return _mm_mul_ps(a, _mm_castsi128_ps(_mm_slli_epi32(rest, 23)));
}
DLB_INLINE vec v_load_n(const float *p, int n)
{
    float t[4] = {0};
    for (int i = 0; i < n; i++)
        t[i] = p[i];
    return _mm_loadu_ps(t);
}
DLB_INLINE void v_store_n(float *p, vec a, int n)
{
    float t[4];
    _mm_storeu_ps(t, a);
    for (int i = 0; i < n; i++)
        p[i] = t[i];
}
DLB_INLINE float v_sum(vec a)
{
    a = _mm_add_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_add_ss(a, _mm_shuffle_ps(a, a, 1)));
}
DLB_INLINE vec v_zip_low(vec a, vec b)
{
    return _mm_unpacklo_ps(a, b);
}
DLB_INLINE vec v_zip_high(vec a, vec b)
{
    return _mm_unpackhi_ps(a, b);
}
DLB_INLINE float v_max_lanes(vec a)
{
    a = _mm_max_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_max_ss(a, _mm_shuffle_ps(a, a, 1)));
}
DLB_INLINE vec v_choose_(vec mask, vec x, vec y)
{
    return _mm_or_ps(_mm_and_ps(mask, x), _mm_andnot_ps(mask, y));
}
DLB_INLINE vec v_if_greater(vec a, vec b, vec x, vec y)
{
    return v_choose_(_mm_cmpgt_ps(a, b), x, y);
}
DLB_INLINE vec v_if_equal(vec a, vec b, vec x, vec y)
{
    return v_choose_(_mm_cmpeq_ps(a, b), x, y);
}
DLB_INLINE int v_has_nan(vec a)
{
    return _mm_movemask_ps(_mm_cmpunord_ps(a, a)) != 0;
}
DLB_INLINE vec v_load_bytes(const uint8_t *p)
{
    int32_t four;
    __builtin_memcpy(&four, p, sizeof four);
    __m128i zero = _mm_setzero_si128(),
            words = _mm_unpacklo_epi8(_mm_cvtsi32_si128(four), zero);
    return _mm_cvtepi32_ps(_mm_unpacklo_epi16(words, zero));
}
DLB_INLINE void v_store_bytes(uint8_t *p, vec a)
{
    __m128i whole = _mm_cvtps_epi32(a), words = _mm_packs_epi32(whole, whole);
    int32_t four = _mm_cvtsi128_si32(_mm_packus_epi16(words, words));
    __builtin_memcpy(p, &four, sizeof four);
}
DLB_INLINE unsigned v_positive(vec a)
{
    return (unsigned)_mm_movemask_ps(_mm_cmpgt_ps(a, _mm_setzero_ps()));
}
DLB_INLINE vec v_keep(vec a, unsigned bits)
{
    const __m128i bit = _mm_setr_epi32(1, 2, 4, 8);
    __m128i own = _mm_and_si128(_mm_set1_epi32((int)bits), bit);
    return _mm_and_ps(a, _mm_castsi128_ps(_mm_cmpeq_epi32(own, bit)));
}
DLB_INLINE vec v_if_positive(vec x, vec a, vec b)
{
    __m128 positive = _mm_cmpgt_ps(x, _mm_setzero_ps());
    return _mm_or_ps(_mm_and_ps(positive, a), _mm_andnot_ps(positive, b));
}
DLB_INLINE vec v_keep_positive(vec x, vec a)
{
    return _mm_and_ps(_mm_cmpgt_ps(x, _mm_setzero_ps()), a);
}
DLB_INLINE void v_stream_fence(void)
{
    _mm_sfence();
}

#elif defined(DLB_TARGET_NEON)

#include <arm_neon.h>
enum { VLEN = 4, VREGS = 32 };
typedef float32x4_t vec;
DLB_INLINE vec v_zero(void)
{
    return vdupq_n_f32(0);
}
DLB_INLINE vec v_set1(float x)
{
    return vdupq_n_f32(x);
}
DLB_INLINE vec v_load(const float *p)
{
    return vld1q_f32(p);
}
DLB_INLINE vec v_loadu(const float *p)
{
    return vld1q_f32(p);
}
DLB_INLINE void v_store(float *p, vec a)
{
    vst1q_f32(p, a);
}
DLB_INLINE void v_storeu(float *p, vec a)
{
    vst1q_f32(p, a);
}
DLB_INLINE void v_stream(float *p, vec a)
{
    vst1q_f32(p, a);
}
DLB_INLINE vec v_fma(vec a, vec b, vec c)
{
    return vfmaq_f32(c, a, b);
}
DLB_INLINE vec v_add(vec a, vec b)
{
    return vaddq_f32(a, b);
}
DLB_INLINE vec v_sub(vec a, vec b)
{
    return vsubq_f32(a, b);
}
DLB_INLINE vec v_mul(vec a, vec b)
{
    return vmulq_f32(a, b);
}
/* As on x86: the second operand where either is NaN. */
DLB_INLINE vec v_max(vec a, vec b)
{
    return vbslq_f32(vcgtq_f32(a, b), a, b);
}
DLB_INLINE vec v_min(vec a, vec b)
{
    return vbslq_f32(vcltq_f32(a, b), a, b);
}
DLB_INLINE vec v_div(vec a, vec b)
{
    return vdivq_f32(a, b);
}
DLB_INLINE vec v_sqrt(vec a)
{
    return vsqrtq_f32(a);
}
DLB_INLINE vec v_abs(vec a)
{
    return vabsq_f32(a);
}
DLB_INLINE vec v_copysign(vec a, vec b)
{
    return vbslq_f32(vdupq_n_u32(0x80000000), b, a);
}
DLB_INLINE vec v_pow2(vec t)
{
    return vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_f32(t), 23));
}
DLB_INLINE vec v_ldexp(vec a, vec n)
{
    uint32x4_t whole = vreinterpretq_u32_f32(vaddq_f32(n, vdupq_n_f32(V_POW2 + 127)));
    uint32x4_t half = vshrq_n_u32(whole, 1);
    uint32x4_t rest = vsubq_u32(whole, half);
    a = vmulq_f32(a, vreinterpretq_f32_u32(vshlq_n_u32(half, 23)));
    return vmulq_f32(a, vreinterpretq_f32_u32(vshlq_n_u32(rest, 23)));
}
DLB_INLINE vec v_load_n(const float *p, int n)
{
    float t[4] = {0};
    for (int i = 0; i < n; i++)
        t[i] = p[i];
    return vld1q_f32(t);
}
DLB_INLINE void v_store_n(float *p, vec a, int n)
{
    float t[4];
    vst1q_f32(t, a);
    for (int i = 0; i < n; i++)
        p[i] = t[i];
}
DLB_INLINE float v_sum(vec a)
{
    return vaddvq_f32(a);
}
DLB_INLINE vec v_zip_low(vec a, vec b)
{
    return vzip1q_f32(a, b);
}
DLB_INLINE vec v_zip_high(vec a, vec b)
{
    return vzip2q_f32(a, b);
}
DLB_INLINE float v_max_lanes(vec a)
{
    return vmaxvq_f32(a);
}
DLB_INLINE vec v_if_greater(vec a, vec b, vec x, vec y)
{
    return vbslq_f32(vcgtq_f32(a, b), x, y);
}
DLB_INLINE vec v_if_equal(vec a, vec b, vec x, vec y)
{
    return vbslq_f32(vceqq_f32(a, b), x, y);
}
DLB_INLINE int v_has_nan(vec a)
{
    return vminvq_u32(vceqq_f32(a, a)) == 0;
}
DLB_INLINE vec v_load_bytes(const uint8_t *p)
{
    uint32_t four;
    __builtin_memcpy(&four, p, sizeof four);
    uint16x8_t words = vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(four)));
    return vcvtq_f32_u32(vmovl_u16(vget_low_u16(words)));
}
DLB_INLINE void v_store_bytes(uint8_t *p, vec a)
{
    uint16x4_t words = vmovn_u32(vcvtq_u32_f32(a));
    uint8x8_t bytes = vmovn_u16(vcombine_u16(words, words));
    uint32_t four = vget_lane_u32(vreinterpret_u32_u8(bytes), 0);
    __builtin_memcpy(p, &four, sizeof four);
}
DLB_INLINE unsigned v_positive(vec a)
{
    const uint32x4_t bit = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(vcgtzq_f32(a), bit));
}
DLB_INLINE vec v_keep(vec a, unsigned bits)
{
    const uint32x4_t bit = {1, 2, 4, 8};
    return vreinterpretq_f32_u32(
        vandq_u32(vreinterpretq_u32_f32(a), vtstq_u32(vdupq_n_u32(bits), bit)));
}
DLB_INLINE vec v_if_positive(vec x, vec a, vec b)
{
    return vbslq_f32(vcgtzq_f32(x), a, b);
}
DLB_INLINE vec v_keep_positive(vec x, vec a)
{
    return vreinterpretq_f32_u32(vandq_u32(vcgtzq_f32(x), vreinterpretq_u32_f32(a)));
}
DLB_INLINE void v_stream_fence(void) {}

#elif defined(DLB_TARGET_SCALAR)

enum { VLEN = 1, VREGS = 16 };
typedef float vec;
DLB_INLINE vec v_zero(void)
{
    return 0;
}
DLB_INLINE vec v_set1(float x)
{
    return x;
}
DLB_INLINE vec v_load(const float *p)
{
    return *p;
}
DLB_INLINE vec v_loadu(const float *p)
{
    return *p;
}
DLB_INLINE void v_store(float *p, vec a)
{
    *p = a;
}
DLB_INLINE void v_storeu(float *p, vec a)
{
    *p = a;
}
DLB_INLINE void v_stream(float *p, vec a)
{
    *p = a;
}
DLB_INLINE vec v_fma(vec a, vec b, vec c)
{
    return a * b + c;
}
DLB_INLINE vec v_add(vec a, vec b)
{
    return a + b;
}
DLB_INLINE vec v_sub(vec a, vec b)
{
    return a - b;
}
DLB_INLINE vec v_mul(vec a, vec b)
{
    return a * b;
}
DLB_INLINE vec v_max(vec a, vec b)
{
    return a > b ? a : b;
}
DLB_INLINE vec v_min(vec a, vec b)
{
    return a < b ? a : b;
}
DLB_INLINE vec v_div(vec a, vec b)
{
    return a / b;
}
DLB_INLINE vec v_sqrt(vec a)
{
    return __builtin_sqrtf(a);
}
DLB_INLINE vec v_abs(vec a)
{
    return __builtin_fabsf(a);
}
DLB_INLINE vec v_copysign(vec a, vec b)
{
    return __builtin_copysignf(a, b);
}
DLB_INLINE uint32_t v_bits_(vec a)
{
    uint32_t bits;
    __builtin_memcpy(&bits, &a, sizeof bits);
    return bits;
}
DLB_INLINE vec v_pow2_(uint32_t t)
{
    float power;
    t <<= 23;
    __builtin_memcpy(&power, &t, sizeof power);
    return power;
}
DLB_INLINE vec v_pow2(vec t)
{
    return v_pow2_(v_bits_(t));
}
DLB_INLINE vec v_ldexp(vec a, vec n)
{
    uint32_t whole = v_bits_(n + (V_POW2 + 127));
    return a * v_pow2_(whole >> 1) * v_pow2_(whole - (whole >> 1));
}
DLB_INLINE vec v_load_n(const float *p, int n)
{
    return n ? *p : 0;
}
DLB_INLINE void v_store_n(float *p, vec a, int n)
{
    if (n)
        *p = a;
}
DLB_INLINE float v_sum(vec a)
{
    return a;
}
DLB_INLINE vec v_zip_low(vec a, vec b)
{
    (void)b;
    return a;
}
DLB_INLINE vec v_zip_high(vec a, vec b)
{
    (void)a;
    return b;
}
DLB_INLINE float v_max_lanes(vec a)
{
    return a;
}
DLB_INLINE vec v_if_greater(vec a, vec b, vec x, vec y)
{
    return a > b ? x : y;
}
DLB_INLINE vec v_if_equal(vec a, vec b, vec x, vec y)
{
    return a == b ? x : y;
}
DLB_INLINE int v_has_nan(vec a)
{
    return a != a;
}
DLB_INLINE vec v_load_bytes(const uint8_t *p)
{
    return *p;
}
DLB_INLINE void v_store_bytes(uint8_t *p, vec a)
{
    *p = (uint8_t)a;
}
DLB_INLINE unsigned v_positive(vec a)
{
    return a > 0;
}
DLB_INLINE vec v_keep(vec a, unsigned bits)
{
    return bits & 1 ? a : 0;
}
DLB_INLINE vec v_if_positive(vec x, vec a, vec b)
{
    return x > 0 ? a : b;
}
DLB_INLINE vec v_keep_positive(vec x, vec a)
{
    return x > 0 ? a : 0;
}
DLB_INLINE void v_stream_fence(void) {}

#else
#error "a *_kernels.c source is built with DLB_TARGET_<ISA>; see impl/CMakeLists.txt"
#endif

/* Kernels for AVX-512 may be built with what stands in for its intrinsics, to be tested:
 * then it has no registers for inline assembly. */
#if defined(DLB_TARGET_AVX2) || (defined(DLB_TARGET_AVX512) && defined(__AVX512F__))
#define V_AVX_ASSEMBLY
#endif

/* a, kept in a register: a compiler may not load it again for each use instead. */
DLB_INLINE vec v_hold(vec a)
{
#if defined(V_AVX_ASSEMBLY)
    __asm__("" : "+v"(a));
#elif defined(DLB_TARGET_SSE2)
    __asm__("" : "+x"(a));
#elif defined(DLB_TARGET_NEON)
    __asm__("" : "+w"(a));
#endif
    return a;
}

/* v_fma in the register of c.  Left to itself GCC 12 puts some sums into the register of
 * a factor and then spills where a tile fills the register file. */
DLB_INLINE vec v_fma_in_place(vec a, vec b, vec c)
{
#if defined(V_AVX_ASSEMBLY)
    __asm__("vfmadd231ps %2, %1, %0" : "+v"(c) : "v"(a), "v"(b));
    return c;
#elif defined(DLB_TARGET_NEON)
    __asm__("fmla %0.4s, %1.4s, %2.4s" : "+w"(c) : "w"(a), "w"(b));
    return c;
#elif defined(DLB_TARGET_SSE2)
    vec product;
    __asm__("movaps %3, %1\n\tmulps %2, %1\n\taddps %1, %0"
            : "+x"(c), "=&x"(product)
            : "x"(a), "x"(b));
    return c;
#else
    return v_fma(a, b, c);
#endif
}

/* a * p[0 … VLEN) + c.  Where an FMA can read memory it does: a compiler would
 * rather load once and spill another register. */
DLB_INLINE vec v_fma_memory(vec a, const float *p, vec c)
{
#if defined(V_AVX_ASSEMBLY)
    __asm__("vfmadd231ps %2, %1, %0" : "+v"(c) : "v"(a), "m"(*(const float(*)[VLEN])p));
    return c;
#else
    return v_fma(a, v_loadu(p), c);
#endif
}

#if !defined(DLB_TARGET_AVX2)
/* One of the log2(VLEN) passes of v_transpose: the perfect shuffle of all lanes. */
DLB_INLINE void v_shuffle_(vec *row)
{
    vec out[VLEN];
    DLB_UNROLL
    for (int i = 0; i < VLEN / 2; i++) {
        out[2 * i] = v_zip_low(row[i], row[i + VLEN / 2]);
        out[2 * i + 1] = v_zip_high(row[i], row[i + VLEN / 2]);
    }
    DLB_UNROLL
    for (int i = 0; i < VLEN; i++)
        row[i] = out[i];
}

/* Lane j of row[i] and lane i of row[j] change places; VLEN rows. */
DLB_INLINE void v_transpose(vec *row)
{
    if (VLEN > 1)
        v_shuffle_(row);
    if (VLEN > 2)
        v_shuffle_(row);
    if (VLEN > 4)
        v_shuffle_(row);
    if (VLEN > 8)
        v_shuffle_(row);
}
#endif

#if !defined(DLB_TARGET_AVX512)
/* Lane i of what comes back is the sum of a[i]; VLEN vectors, which are not kept. */
DLB_INLINE vec v_sums(vec *a)
{
    v_transpose(a);
    DLB_UNROLL
    for (int half = VLEN / 2; half > 0; half /= 2)
        DLB_UNROLL
    for (int i = 0; i < half; i++)
        a[i] = v_add(a[i], a[i + half]);
    return a[0];
}
#endif

/* The _n forms for n that may be known to be VLEN: then they are the plain ones. */
DLB_INLINE vec v_load_lanes(const float *p, int n)
{
    return n == VLEN ? v_loadu(p) : v_load_n(p, n);
}
DLB_INLINE void v_store_lanes(float *p, vec a, int n)
{
    if (n == VLEN)
        v_storeu(p, a);
    else
        v_store_n(p, a, n);
}

DLB_INLINE void v_prefetch(const void *p)
{
    __builtin_prefetch(p, 0, 3);
}

/* Into L2, past L1. */
DLB_INLINE void v_prefetch_l2(const void *p)
{
    __builtin_prefetch(p, 0, 2);
}

#endif
