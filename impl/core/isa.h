/*
 * isa.h - instruction sets that kernels are built for, and what this processor can run.
 *
 * Each kernel source is compiled once per ISA; the enumerators of one architecture rise
 * with capability.  DLB_ISA_SCALAR exists everywhere (built with auto-vectorisation off).
 */
#ifndef DLB_CORE_ISA_H
#define DLB_CORE_ISA_H

#include "core/base.h"

enum dlb_isa {
    DLB_ISA_SCALAR = 0,
    DLB_ISA_SSE2,   /* x86-64 baseline */
    DLB_ISA_AVX2,   /* with FMA */
    DLB_ISA_AVX512, /* F, BW, DQ, VL */
    DLB_ISA_NEON,   /* AArch64 baseline */
    DLB_ISA_COUNT
};

/* Lower-case name: scalar, sse2, avx2, avx512, neon. */
const char *dlb_isa_name(enum dlb_isa isa);

/* Floats in a vector register (1, 4, 8, 16, 4) and number of registers (16, 16, 16, 32,
 * 32). */
int dlb_isa_lanes(enum dlb_isa isa);
int dlb_isa_registers(enum dlb_isa isa);

/* True when kernels for isa are in this build and processor and OS can run them. */
bool dlb_isa_usable(enum dlb_isa isa);

/* The most capable usable ISA. */
enum dlb_isa dlb_isa_best(void);

/*
 * Parses an ISA name given by option or by the environment's DLBENCH_ISA.  DLB_INVALID
 * with the list of names for an unknown one, DLB_UNSUPPORTED for one that cannot run
 * here.
 */
enum dlb_status dlb_isa_parse(const char *name, enum dlb_isa *isa,
                              struct dlb_error *error);

#endif
