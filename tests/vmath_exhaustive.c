/* vmath_exhaustive [STEP]: all floats, or each STEP-th by its bits, through each function
 * of vmath.h on each usable ISA.  Prints the worst errors and where they are; 1 when one is
 * above its bound.  All take a quarter of an hour, so it is no test of the suite. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "vmath_errors.h"

enum { CHUNK = 1 << 12 };

static void scan(const struct dlb_vmath_case *c, int64_t step,
                 struct dlb_vmath_worst *worst)
{
    int64_t count = (INT64_C(1) << 32) / step;
#pragma omp parallel
    {
        static _Thread_local float x[CHUNK], y[CHUNK];
        static _Thread_local double exact[CHUNK];
        struct dlb_vmath_worst mine[DLB_ISA_COUNT] = {0};
#pragma omp for schedule(dynamic)
        for (int64_t start = 0; start < count; start += CHUNK) {
            for (int64_t i = 0; i < CHUNK; i++) {
                x[i] = dlb_vmath_float((uint32_t)((start + i) * step));
                exact[i] = c->exact((double)x[i]);
            }
            for (int isa = 0; isa < DLB_ISA_COUNT; isa++) {
                if (!dlb_isa_usable(isa))
                    continue;
                dlb_vmath_kernel(c, isa)(x, y, CHUNK);
                dlb_vmath_compare(c, x, y, exact, CHUNK, &mine[isa]);
            }
        }
#pragma omp critical
        for (int isa = 0; isa < DLB_ISA_COUNT; isa++)
            if (mine[isa].ulp > worst[isa].ulp)
                worst[isa] = mine[isa];
    }
}

int main(int argc, char **argv)
{
    int64_t step = argc > 1 ? strtoimax(argv[1], NULL, 10) : 1;
    bool wrong = step < 1;
    for (int i = 0; !wrong && i < DLB_VMATH_CASES; i++) {
        const struct dlb_vmath_case *c = &dlb_vmath_cases[i];
        struct dlb_vmath_worst worst[DLB_ISA_COUNT] = {0};
        scan(c, step, worst);
        for (int isa = 0; isa < DLB_ISA_COUNT; isa++) {
            if (!dlb_isa_usable(isa))
                continue;
            printf("%-18s %-6s %.4f ulp at %a: %a, exactly %a\n", c->name,
                   dlb_isa_name(isa), worst[isa].ulp, (double)worst[isa].x,
                   (double)worst[isa].got, worst[isa].exact);
            wrong |= worst[isa].ulp > c->ulp;
        }
        fflush(stdout);
    }
    return wrong;
}
