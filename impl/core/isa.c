#include "core/isa.h"

#include <string.h>

struct isa_facts {
    const char *name;
    int lanes, registers;
};

static const struct isa_facts facts[DLB_ISA_COUNT] = {
    [DLB_ISA_SCALAR] = {"scalar", 1, 16}, [DLB_ISA_SSE2] = {"sse2", 4, 16},
    [DLB_ISA_AVX2] = {"avx2", 8, 16},     [DLB_ISA_AVX512] = {"avx512", 16, 32},
    [DLB_ISA_NEON] = {"neon", 4, 32},
};

const char *dlb_isa_name(enum dlb_isa isa)
{
    return facts[isa].name;
}
int dlb_isa_lanes(enum dlb_isa isa)
{
    return facts[isa].lanes;
}
int dlb_isa_registers(enum dlb_isa isa)
{
    return facts[isa].registers;
}

bool dlb_isa_usable(enum dlb_isa isa)
{
#ifdef DLB_ONLY_USABLE_ISA
    /* A build whose tests are to run these kernels only; see DLBENCH_EMULATE_AVX512. */
    return isa == DLB_ONLY_USABLE_ISA;
#endif
    switch (isa) {
    case DLB_ISA_SCALAR:
        return true;
#ifdef DLB_BUILD_SSE2
    /* __builtin_cpu_supports asks the OS for the wide registers' state as well. */
    case DLB_ISA_SSE2:
        return true;
    case DLB_ISA_AVX2:
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case DLB_ISA_AVX512:
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#endif
#ifdef DLB_BUILD_NEON
    case DLB_ISA_NEON:
        return true;
#endif
    default:
        return false;
    }
}

enum dlb_isa dlb_isa_best(void)
{
    enum dlb_isa best = DLB_ISA_SCALAR;
    for (int isa = 0; isa < DLB_ISA_COUNT; isa++)
        if (dlb_isa_usable(isa))
            best = isa;
    return best;
}

enum dlb_status dlb_isa_parse(const char *name, enum dlb_isa *isa,
                              struct dlb_error *error)
{
    char usable[128] = "";
    for (int i = 0; i < DLB_ISA_COUNT; i++) {
        if (!dlb_isa_usable(i))
            continue;
        if (usable[0])
            strcat(usable, ", ");
        strcat(usable, facts[i].name);
    }
    for (int i = 0; i < DLB_ISA_COUNT; i++) {
        if (strcmp(name, facts[i].name))
            continue;
        if (!dlb_isa_usable(i))
            return dlb_fail(
                error, DLB_UNSUPPORTED,
                "Instruction set '%s' cannot run here; this processor and build"
                " offer: %s.",
                name, usable);
        *isa = i;
        return DLB_OK;
    }
    return dlb_fail(error, DLB_INVALID,
                    "Unknown instruction set '%s'; accepted here: %s.", name, usable);
}
