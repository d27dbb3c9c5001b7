/*
 * Loops for the machine's ceilings; see ceiling.h.
 *
 * Registers: CHAINS accumulators, the factor and, where multiply and add are not fused,
 * one product.  Eight chains are the least that hide a latency of 4 on two pipes; more
 * registers allow more chains, for pipes that are deeper or more.
 */
#include "core/ceiling.h"

#include "core/vec.h"

enum { CHAINS = VREGS == 32 ? 24 : 12, SUMS = 8 };

_Static_assert(DLB_CEILING_BLOCK % (SUMS * VLEN) == 0, "a block is whole rounds of sums");

static float fma_chains(int64_t steps, float growth)
{
    vec acc[CHAINS];
    const vec x = v_set1(growth);
    /* Different starts, or the compiler would see one chain. */
    DLB_UNROLL
    for (int i = 0; i < CHAINS; i++)
        acc[i] = v_set1((float)(i + 1));
    /* The accumulator is factor and addend: an ISA whose fused instruction overwrites
     * either of them needs no move. */
    for (int64_t step = 0; step < steps; step++) {
        DLB_UNROLL
        for (int i = 0; i < CHAINS; i++)
            acc[i] = v_fma(acc[i], x, acc[i]);
    }
    vec sum = v_zero();
    DLB_UNROLL
    for (int i = 0; i < CHAINS; i++)
        sum = v_add(sum, acc[i]);
    return v_sum(sum);
}

static float read_floats(const float *from, int64_t n)
{
    vec acc[SUMS];
    DLB_UNROLL
    for (int i = 0; i < SUMS; i++)
        acc[i] = v_zero();
    for (const float *end = from + n; from < end; from += SUMS * VLEN) {
        DLB_UNROLL
        for (int i = 0; i < SUMS; i++)
            acc[i] = v_add(acc[i], v_load(from + i * VLEN));
    }
    vec sum = v_zero();
    DLB_UNROLL
    for (int i = 0; i < SUMS; i++)
        sum = v_add(sum, acc[i]);
    return v_sum(sum);
}

static void copy_floats(float *to, const float *from, int64_t n)
{
    for (int64_t i = 0; i < n; i += SUMS * VLEN) {
        DLB_UNROLL
        for (int k = 0; k < SUMS; k++)
            v_stream(to + i + k * VLEN, v_load(from + i + k * VLEN));
    }
    v_stream_fence();
}

extern const struct dlb_ceiling_kernels DLB_NAME(dlb_ceiling_kernels);
const struct dlb_ceiling_kernels DLB_NAME(dlb_ceiling_kernels) = {
    .fma = fma_chains,
    .flops_per_step = 2 * CHAINS * VLEN,
    .read = read_floats,
    .copy = copy_floats,
};
