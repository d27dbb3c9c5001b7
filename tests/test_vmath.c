/* exp, tanh and sigmoid of every usable ISA against the mathematical library in double:
 * every exponent with two thousand mantissas, the neighbourhoods of what bounds and
 * reductions turn on, special values, tails.  vmath_exhaustive takes all floats. */
#include "core/vmath.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vmath_errors.h"

enum { STEP = 4099, AROUND = 64, LONGEST = 50, BLOCK = 4096 };

struct block {
    int64_t n;
    float x[BLOCK], y[BLOCK];
    double exact[BLOCK];
};

static void check_block(const struct dlb_vmath_case *c, struct block *b)
{
    for (int64_t i = 0; i < b->n; i++)
        b->exact[i] = c->exact((double)b->x[i]);
    for (int isa = 0; isa < DLB_ISA_COUNT; isa++) {
        if (!dlb_isa_usable(isa))
            continue;
        struct dlb_vmath_worst worst = {0};
        dlb_vmath_kernel(c, isa)(b->x, b->y, b->n);
        dlb_vmath_compare(c, b->x, b->y, b->exact, b->n, &worst);
        if (worst.ulp > c->ulp)
            fail_msg("%s of %a on %s is %a, exactly %a: %.2f ulp", c->name,
                     (double)worst.x, dlb_isa_name(isa), (double)worst.got, worst.exact,
                     worst.ulp);
    }
    b->n = 0;
}

static void check(const struct dlb_vmath_case *c, struct block *b, float x)
{
    b->x[b->n++] = x;
    if (b->n == BLOCK)
        check_block(c, b);
}

static void check_around(const struct dlb_vmath_case *c, struct block *b, double x)
{
    uint32_t bits = dlb_vmath_bits((float)x);
    for (int i = -AROUND; i <= AROUND; i++)
        check(c, b, dlb_vmath_float(bits + (uint32_t)i));
}

static void test_errors_are_within_their_bounds(void **state)
{
    (void)state;
    static const double turns[] = {0,      0x1p-126, 1,      9.01,   10,       16.64,
                                   40,     86.98997, 87.3,   87.34,  88,       88.37627,
                                   88.5,   88.72284, 89,     103.28, 103.9721, 104,
                                   0x1p21, 0x1p22,   0x1p23, 0x1p31, FLT_MAX,  INFINITY};
    static struct block b;
    for (int i = 0; i < DLB_VMATH_CASES; i++) {
        const struct dlb_vmath_case *c = &dlb_vmath_cases[i];
        for (uint64_t bits = 0; bits < UINT64_C(1) << 32; bits += STEP)
            check(c, &b, dlb_vmath_float((uint32_t)bits));
        for (size_t k = 0; k < sizeof turns / sizeof *turns; k++) {
            check_around(c, &b, turns[k]);
            check_around(c, &b, -turns[k]);
        }
        /* Where the reduction goes from one multiple of ln 2, or of its half, to the next. */
        for (int half = -301; half <= 260; half++)
            check_around(c, &b, half * 0.34657359027997264);
        check_block(c, &b);
    }
}

static void test_special_values(void **state)
{
    (void)state;
    static const struct {
        float x, exp, exp_fast, tanh, sigmoid;
    } rows[] = {
        {0, 1, 1, 0, 0.5F},
        {-0.0F, 1, 1, -0.0F, 0.5F},
        {INFINITY, INFINITY, NAN, 1, 1},
        {-INFINITY, 0, 0, -1, 0},
        {100, INFINITY, NAN, 1, 1},
        {-104, 0, 0, -1, 0},
        {0x1p-149F, 1, 1, 0x1p-149F, 0.5F},
        {-0x1p-130F, 1, 1, -0x1p-130F, 0.5F},
    };
    for (int isa = 0; isa < DLB_ISA_COUNT; isa++)
        for (size_t r = 0; dlb_isa_usable(isa) && r < sizeof rows / sizeof *rows; r++) {
            const float expected[] = {rows[r].exp, rows[r].exp_fast, rows[r].tanh,
                                      rows[r].sigmoid};
            for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
                float y;
                dlb_vmath_kernel(&dlb_vmath_cases[i], isa)(&rows[r].x, &y, 1);
                /* NaN stands for what is not defined. */
                if (!isnan(expected[i]) &&
                    dlb_vmath_bits(y) != dlb_vmath_bits(expected[i]))
                    fail_msg("%s of %a on %s is %a, not %a", dlb_vmath_cases[i].name,
                             (double)rows[r].x, dlb_isa_name(isa), (double)y,
                             (double)expected[i]);
            }
        }
}

/* Neither place nor length of an array nor its neighbours change a value, and nothing beyond it
 * is written. */
static void test_lengths(void **state)
{
    (void)state;
    enum { GUARD = 20 };
    static const float guard = 12345;
    for (int isa = 0; isa < DLB_ISA_COUNT; isa++)
        for (int i = 0; dlb_isa_usable(isa) && i < DLB_VMATH_CASES; i++) {
            dlb_vmath_fn *kernel = dlb_vmath_kernel(&dlb_vmath_cases[i], isa);
            for (int n = 0; n <= LONGEST; n++) {
                float x[LONGEST + 1], y[2 * GUARD + LONGEST], once;
                for (int k = 0; k < n; k++)
                    x[k] = k % 7 == 3 ? NAN : (float)(k * 29 % 31 - 15) * 0.37F;
                for (int k = 0; k < 2 * GUARD + LONGEST; k++)
                    y[k] = guard;
                kernel(x, y + GUARD, n);
                for (int k = 0; k < GUARD; k++)
                    assert_true(y[k] == guard && y[GUARD + n + k] == guard);
                for (int k = 0; k < n; k++) {
                    kernel(x + k, &once, 1);
                    assert_memory_equal(&once, y + GUARD + k, sizeof once);
                }
                kernel(x, x, n);
                assert_memory_equal(x, y + GUARD, (size_t)n * sizeof *x);
            }
        }
}

static void test_unusable_isa_has_no_kernels(void **state)
{
    (void)state;
    for (int isa = 0; isa < DLB_ISA_COUNT; isa++)
        assert_true(dlb_isa_usable(isa) == (dlb_vmath_kernels(isa) != NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_errors_are_within_their_bounds),
        cmocka_unit_test(test_special_values),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_unusable_isa_has_no_kernels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
