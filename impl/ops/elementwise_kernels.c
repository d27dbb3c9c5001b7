/*
 * Functions of elements: y[i] = f(x[i], d[i]), as listed in elementwise.h.
 *
 * Shapes    n elements from begin on, each operand dense
 * Units     elements
 * Tiles     4 vectors at a time; dropout: blocks of 64 elements, a word of the mask
 * Work items and barriers   none: one call, one thread
 * Scratch   none
 * Cost      bytes: each operand once, the mask one bit an element
 * Numerics  sigmoid and tanh as vmath_inline.h states; of the others ReLU, copy and the sum
 *           are exact or rounded once; leaky once; the derivatives by y (1 - y) and 1 - y^2
 *           have three roundings, tanh's without an FMA (1 - y) (1 + y).  NaN in x or d
 *           gives NaN but for the derivatives of ReLUs, where NaN is not > 0
 * Errors    none
 * Source    of dropout: Srivastava et al., "Dropout: a simple way to prevent neural networks
 *           from overfitting", 2014; its numbers are base.h's dlb_hash of a counter
 */
#include "ops/elementwise.h"

#include "core/vmath_inline.h"

#include <string.h>

enum { MANY = 4, BLOCK = DLB_ELEMENTWISE_BLOCK };

/* Of one vector; c is the constant. */
typedef vec vector_fn(vec x, vec d, vec c);

DLB_INLINE vec copy(vec x, vec d, vec c)
{
    (void)d, (void)c;
    return x;
}

DLB_INLINE vec relu(vec x, vec d, vec c)
{
    (void)d, (void)c;
    return v_max(v_zero(), x);
}

DLB_INLINE vec leaky(vec x, vec d, vec c)
{
    (void)d;
    return v_max(v_mul(c, x), x);
}

DLB_INLINE vec sigmoid(vec x, vec d, vec c)
{
    (void)d, (void)c;
    return v_sigmoid(x);
}

DLB_INLINE vec hyperbolic(vec x, vec d, vec c)
{
    (void)d, (void)c;
    return v_tanh(x);
}

DLB_INLINE vec relu_diff(vec x, vec d, vec c)
{
    (void)c;
    return v_keep_positive(x, d);
}

DLB_INLINE vec leaky_diff(vec x, vec d, vec c)
{
    return v_if_positive(x, d, v_mul(c, d));
}

DLB_INLINE vec sigmoid_diff(vec x, vec d, vec c)
{
    (void)c;
    return v_mul(v_mul(d, x), v_sub(v_set1(1), x));
}

DLB_INLINE vec tanh_diff(vec x, vec d, vec c)
{
    (void)c;
    vec one = v_set1(1);
    return v_mul(d, V_FMA ? v_fma(v_sub(v_zero(), x), x, one)
                          : v_mul(v_sub(one, x), v_add(one, x)));
}

DLB_INLINE vec add(vec x, vec d, vec c)
{
    (void)c;
    return v_add(x, d);
}

DLB_INLINE vec add_relu(vec x, vec d, vec c)
{
    (void)c;
    return v_max(v_zero(), v_add(x, d));
}

DLB_INLINE void put(float *p, vec y, bool stream)
{
    if (stream)
        v_stream(p, y);
    else
        v_storeu(p, y);
}

DLB_INLINE void apply(const struct dlb_elementwise_call *call, vector_fn f, int operands,
                      bool stream)
{
    const float *x = call->x, *d = operands > 1 ? call->d : call->x;
    float *y = call->y;
    vec c = v_set1(call->constant), out[MANY];
    int64_t i = 0, n = call->n;
    for (; i + MANY * VLEN <= n; i += MANY * VLEN) {
        DLB_UNROLL
        for (int k = 0; k < MANY; k++)
            out[k] = f(v_loadu(x + i + k * VLEN),
                       operands > 1 ? v_loadu(d + i + k * VLEN) : v_zero(), c);
        DLB_UNROLL
        for (int k = 0; k < MANY; k++)
            put(y + i + k * VLEN, out[k], stream);
    }
    for (; i + VLEN <= n; i += VLEN)
        put(y + i, f(v_loadu(x + i), operands > 1 ? v_loadu(d + i) : v_zero(), c),
            stream);
    if (i < n) {
        int rest = (int)(n - i);
        vec last =
            f(v_load_n(x + i, rest), operands > 1 ? v_load_n(d + i, rest) : v_zero(), c);
        v_store_n(y + i, last, rest);
    }
}

/* 1 + k 2^-23 with k of 23 random bits for each element of the block from begin on.  Both
 * halves of a hash at once; elements lie in memory as halves do, lowest first. */
DLB_INLINE void random_floats(uint64_t key, int64_t begin, float *to)
{
    const uint64_t digits = 0x007fffff007fffff, one = 0x3f8000003f800000;
    uint64_t bits[BLOCK / 2];
    uint64_t first = key + (uint64_t)(begin / 2) * DLB_HASH_STEP;
    for (int j = 0; j < BLOCK / 2; j++)
        bits[j] = (dlb_hash(first, (uint64_t)j) >> 9 & digits) | one;
    memcpy(to, bits, sizeof bits);
}

/* Elements from i on of the call's last block, by the bits of word. */
DLB_INLINE void drop_rest(const struct dlb_elementwise_call *call, int64_t i,
                          uint64_t word)
{
    vec c = v_set1(call->constant);
    int n = (int)(call->n - i);
    for (int k = 0; k < n; k += VLEN) {
        int rest = n - k < VLEN ? n - k : VLEN;
        vec y = v_mul(c, v_load_n(call->x + i + k, rest));
        v_store_n(call->y + i + k, v_keep(y, (unsigned)(word >> k)), rest);
    }
}

DLB_INLINE void dropout(const struct dlb_elementwise_call *call, bool stream)
{
    /* A step below the threshold: differences are > 0 from there on. */
    const vec c = v_set1(call->constant),
              limit = v_set1(call->threshold ? 1 + (float)(call->threshold - 1) * 0x1p-23f
                                             : 0);
    for (int64_t i = 0; i < call->n; i += BLOCK) {
        const float *x = call->x + i;
        float *y = call->y + i, random[BLOCK];
        bool whole = call->n - i >= BLOCK;
        uint64_t word = 0;
        random_floats(call->key, call->begin + i, random);
        DLB_UNROLL
        for (int k = 0; k < BLOCK; k += VLEN) {
            vec above = v_sub(v_loadu(random + k), limit);
            word |= (uint64_t)v_positive(above) << k;
            if (whole)
                put(y + k, v_keep_positive(above, v_mul(c, v_loadu(x + k))), stream);
        }
        call->mask[i / BLOCK] = word;
        if (!whole)
            drop_rest(call, i, word);
    }
}

DLB_INLINE void dropout_diff(const struct dlb_elementwise_call *call, bool stream)
{
    const vec c = v_set1(call->constant);
    int64_t i = 0;
    for (; i + BLOCK <= call->n; i += BLOCK) {
        uint64_t word = call->mask[i / BLOCK];
        DLB_UNROLL
        for (int k = 0; k < BLOCK; k += VLEN)
            put(call->y + i + k,
                v_keep(v_mul(c, v_loadu(call->x + i + k)), (unsigned)(word >> k)),
                stream);
    }
    if (i < call->n)
        drop_rest(call, i, call->mask[i / BLOCK]);
}

/* The table of instances: (function, its enumerator, operands). */
#define FUNCTIONS(T)                                                                     \
    T(copy, COPY, 1)                                                                     \
    T(relu, RELU, 1)                                                                     \
    T(leaky, LEAKY, 1)                                                                   \
    T(sigmoid, SIGMOID, 1)                                                               \
    T(hyperbolic, TANH, 1)                                                               \
    T(relu_diff, RELU_DIFF, 2)                                                           \
    T(leaky_diff, LEAKY_DIFF, 2)                                                         \
    T(sigmoid_diff, SIGMOID_DIFF, 2)                                                     \
    T(tanh_diff, TANH_DIFF, 2)                                                           \
    T(add, ADD, 2)                                                                       \
    T(add_relu, ADD_RELU, 2)

#define INSTANCE(name, id, operands)                                                     \
    static void name##_cached(const struct dlb_elementwise_call *call)                   \
    {                                                                                    \
        apply(call, name, operands, false);                                              \
    }                                                                                    \
    static void name##_streamed(const struct dlb_elementwise_call *call)                 \
    {                                                                                    \
        apply(call, name, operands, true);                                               \
    }
FUNCTIONS(INSTANCE)

#define DROPOUTS(T) T(dropout, DROPOUT, 1) T(dropout_diff, DROPOUT_DIFF, 1)
#define DROPOUT_INSTANCE(name, id, operands)                                             \
    static void name##_cached(const struct dlb_elementwise_call *call)                   \
    {                                                                                    \
        name(call, false);                                                               \
    }                                                                                    \
    static void name##_streamed(const struct dlb_elementwise_call *call)                 \
    {                                                                                    \
        name(call, true);                                                                \
    }
DROPOUTS(DROPOUT_INSTANCE)

#define ENTRY(name, id, operands)                                                        \
    [DLB_ELEMENTWISE_##id] = {name##_cached, name##_streamed},

extern const struct dlb_elementwise_kernels DLB_NAME(dlb_elementwise);
const struct dlb_elementwise_kernels DLB_NAME(dlb_elementwise) = {
    .function = {FUNCTIONS(ENTRY) DROPOUTS(ENTRY)},
    .stream_fence = v_stream_fence,
};
