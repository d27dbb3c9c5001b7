#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/ceiling.h"
#include "machine/ceilings.h"
#include "machine_fixture.h"

#include <math.h>
#include <string.h>

static void kernels_compute_what_they_say(void **state)
{
    (void)state;
    enum { N = 4 * DLB_CEILING_BLOCK };
    float *from = dlb_alloc(N * sizeof *from), *to = dlb_alloc(N * sizeof *to);
    for (int isa = 0; isa < DLB_ISA_COUNT; isa++) {
        const struct dlb_ceiling_kernels *kernels = dlb_ceiling_kernels(isa);
        assert_int_equal(kernels != NULL, dlb_isa_usable(isa));
        if (!kernels)
            continue;
        float sum = 0;
        for (int i = 0; i < N; i++) {
            from[i] = (float)(i % 7);
            sum += from[i];
            to[i] = -1;
        }
        assert_true(kernels->read(from, N) == sum);
        assert_true(kernels->read(from, 0) == 0);
        kernels->copy(to, from, N);
        assert_memory_equal(to, from, N * sizeof *to);
        /* Chains begin at 1, 2, 3, … in every lane: how many there are must agree with
         * the flops, and each step must halve them. */
        int lanes = dlb_isa_lanes(isa), chains = kernels->flops_per_step / 2 / lanes;
        float begin = (float)(lanes * chains * (chains + 1) / 2);
        assert_true(kernels->fma(0, -0.5f) == begin);
        assert_true(kernels->fma(3, -0.5f) == begin / 8);
        assert_true(kernels->fma(10000, DLB_CEILING_GROWTH) == begin);
    }
    dlb_free(from);
    dlb_free(to);
}

static void rates_are_positive_for_each_isa_and_team(void **state)
{
    (void)state;
    static const char *const list[] = {"1", "2"};
    struct dlb_topology *t = machine_load(NULL);
    static struct dlb_thread_set set[DLB_THREAD_SETS_MAX];
    for (int i = 0; i < 2; i++) {
        int n;
        struct dlb_pool *pool = NULL;
        assert_int_equal(dlb_thread_sets_parse(t, list[i], true, set, &n, NULL), DLB_OK);
        assert_int_equal(dlb_pool_open(t, &set[0], &pool, NULL), DLB_OK);
        for (int isa = 0; isa < DLB_ISA_COUNT; isa++) {
            struct dlb_rates rates = {.peak_gflops = -1};
            struct dlb_error error = {""};
            enum dlb_status status =
                dlb_ceilings_measure(pool, t, isa, 0.05, &rates, &error);
            if (!dlb_isa_usable(isa)) {
                assert_int_equal(status, DLB_UNSUPPORTED);
                assert_true(rates.peak_gflops == -1);
                assert_non_null(strstr(error.text, dlb_isa_name(isa)));
                assert_true(dlb_probe_gflops(pool, isa, 1e5) == 0);
                continue;
            }
            assert_int_equal(status, DLB_OK);
            assert_true(rates.peak_gflops > 0 && isfinite(rates.peak_gflops));
            assert_true(rates.memory_gbs > 0 && isfinite(rates.memory_gbs));
            assert_true(rates.copy_gbs > 0 && isfinite(rates.copy_gbs));
            assert_true(rates.barrier_ns > 0 && isfinite(rates.barrier_ns));
            assert_int_equal(rates.l1_gbs > 0, t->cache[1].bytes > 0);
            assert_int_equal(rates.l2_gbs > 0, t->cache[2].bytes > 0);
            assert_int_equal(rates.l3_gbs > 0, t->cache[3].bytes > 0);
            assert_true(dlb_probe_gflops(pool, isa, 1e5) > 0);
            assert_true(dlb_probe_gflops(pool, isa, 0) > 0);
        }
        dlb_pool_close(pool);
    }
    dlb_topology_release(t);
}

static void the_roof_knows_the_level_that_holds_the_bytes(void **state)
{
    (void)state;
    struct dlb_topology *t = machine_load(
        "pack:2 l3:1(size=32MB) l2:4(size=1MB) l1d:1(size=32kB) core:1 pu:2");
    double l1 = (double)t->cache[1].bytes, l2 = (double)t->cache[2].bytes,
           l3 = (double)t->cache[3].bytes;
    assert_true(l1 > 0 && l2 > l1 && l3 > l2);
    const struct dlb_rates rates = {.peak_gflops = 1000,
                                    .l1_gbs = 400,
                                    .l2_gbs = 200,
                                    .l3_gbs = 100,
                                    .memory_gbs = 50};
    const struct {
        int threads;
        double intensity, bytes, roof;
        const char *level;
    } expected[] = {
        {1, 1, l1, 400, "L1"},
        {1, 1, l1 + 1, 200, "L2"},
        {2, 1, 2 * l1, 400, "L1"},
        {1, 1, l2 + 1, 100, "L3"},
        {4, 1, 4 * l2, 200, "L2"},
        {1, 1, l3, 100, "L3"},
        {4, 1, l3 + 1, 50, "memory"},
        {5, 1, 2 * l3, 100, "L3"},
        {8, 1, 2 * l3 + 1, 50, "memory"},
        {64, 1, 2 * l3 + 1, 50, "memory"},
        {1, 1e6, l3 * 99, 1000, "compute"},
        {1, 20, l3 * 99, 1000, "compute"},
        {1, 1, 0, 1000, "compute"},
    };
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        const char *level = NULL;
        double bytes = expected[i].bytes;
        double roof =
            dlb_roof_gflops(&rates, t, expected[i].threads,
                            bytes > 0 ? expected[i].intensity * bytes : 1, bytes, &level);
        assert_true(fabs(roof - expected[i].roof) < 1e-6);
        assert_string_equal(level, expected[i].level);
    }
    dlb_topology_release(t);
}

static void the_roof_passes_over_what_is_not_measured(void **state)
{
    (void)state;
    struct dlb_topology *t = machine_load("core:2");
    const char *level = NULL;
    const struct dlb_rates no_caches = {.peak_gflops = 100, .memory_gbs = 10};
    assert_true(dlb_roof_gflops(&no_caches, t, 1, 64, 64, &level) == 10);
    assert_string_equal(level, "memory");
    const struct dlb_rates nothing = {0}, memory = {.memory_gbs = 10};
    assert_true(dlb_roof_gflops(&nothing, t, 1, 64, 64, &level) == 0);
    assert_string_equal(level, "compute");
    assert_true(dlb_roof_gflops(&memory, t, 1, 64, 64, &level) == 10);
    assert_string_equal(level, "memory");
    dlb_topology_release(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kernels_compute_what_they_say),
        cmocka_unit_test(rates_are_positive_for_each_isa_and_team),
        cmocka_unit_test(the_roof_knows_the_level_that_holds_the_bytes),
        cmocka_unit_test(the_roof_passes_over_what_is_not_measured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
