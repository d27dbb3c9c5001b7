/*
 * ceiling.h - the loops that show what a core can do at most, per instruction set.
 *
 * fma   independent chains acc = acc*growth + acc, enough of them to hide the latency of
 * every pipe, all in registers.  Without a fused instruction a multiply and an add. read
 * sums floats with independent accumulators: as many loads as the core can issue. copy
 * loads and streaming stores.
 *
 * read and copy take buffers aligned to DLB_ALIGN and n floats, n a multiple of
 * DLB_CEILING_BLOCK.
 */
#ifndef DLB_CORE_CEILING_H
#define DLB_CORE_CEILING_H

#include "core/isa.h"

enum { DLB_CEILING_BLOCK = 256 };
/* Too small to change an accumulator, however many steps. */
#define DLB_CEILING_GROWTH 0x1p-30f

struct dlb_ceiling_kernels {
    /* The sum over all lanes of chains that begin at 1, 2, 3, …: growth must keep it
     * from overflow and denormals, see DLB_CEILING_GROWTH. */
    float (*fma)(int64_t steps, float growth);
    int flops_per_step;
    float (*read)(const float *from, int64_t n);
    void (*copy)(float *to, const float *from, int64_t n);
};

/* NULL when isa cannot run here. */
const struct dlb_ceiling_kernels *dlb_ceiling_kernels(enum dlb_isa isa);

#endif
