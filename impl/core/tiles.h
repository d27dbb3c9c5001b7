/*
 * tiles.h - for *_kernels.c: the register tiles of MR rows and NV vectors that a GEMM is
 * instantiated for.
 *
 * MR is 1 … the most for which accumulators, the NV vectors of B and one broadcast of A
 * fit the registers.  The largest of NV 4 keeps three vectors of B in registers and reads
 * the fourth as the memory operand of the FMA, so that one more row of accumulators fits.
 */
#ifndef DLB_CORE_TILES_H
#define DLB_CORE_TILES_H

#include "core/vec.h"

/* clang-format off */
/* The table of instances: (rows, vectors).  What fits 16 registers with one to spare for
 * the product where there is no FMA; then what more registers and FMA let in. */
#define TILES_ALL(T)                                                                     \
    T(1, 1) T(2, 1) T(3, 1) T(4, 1) T(5, 1) T(6, 1) T(7, 1) T(8, 1)                      \
    T(9, 1) T(10, 1) T(11, 1) T(12, 1)                                                   \
    T(1, 2) T(2, 2) T(3, 2) T(4, 2) T(5, 2) T(6, 2)                                      \
    T(1, 3) T(2, 3) T(3, 3)                                                              \
    T(1, 4) T(2, 4)
#define TILES_FMA(T)                                                                     \
    T(4, 3)                                                                              \
    T(3, 4)
#define TILES_32REGS(T)                                                                  \
    T(13, 1) T(14, 1) T(15, 1) T(16, 1) T(17, 1) T(18, 1) T(19, 1) T(20, 1)              \
    T(21, 1) T(22, 1) T(23, 1) T(24, 1) T(25, 1) T(26, 1) T(27, 1) T(28, 1)              \
    T(7, 2) T(8, 2) T(9, 2) T(10, 2) T(11, 2) T(12, 2) T(13, 2) T(14, 2)                 \
    T(5, 3) T(6, 3) T(7, 3) T(8, 3) T(9, 3)                                              \
    T(4, 4) T(5, 4) T(6, 4)
#define TILES_32REGS_FMA(T) T(7, 4)
#define TILES(T)                                                                         \
    TILES_ALL(T)                                                                         \
    V_IF_FMA(TILES_FMA(T))                                                               \
    V_IF_32REGS(TILES_32REGS(T) V_IF_FMA_MEMORY(TILES_32REGS_FMA(T)))
/* clang-format on */

/* Vectors of B that a tile holds in registers. */
#define TILE_HELD(mr, nv) ((mr) * (nv) + (nv) < VREGS ? (nv) : (nv)-1)

/* The largest MR by NV, as initialiser. */
#define TILE_MR_MAX                                                                      \
    {                                                                                    \
        0, VREGS == 32 ? 28 : 12, VREGS == 32 ? 14 : 6, VREGS == 32 ? 9 : 3 + V_FMA,     \
            VREGS == 32 ? 6 + V_FMA_MEMORY : 2 + V_FMA                                   \
    }

#endif
