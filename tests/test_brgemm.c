/* Every register tile of every usable ISA against a plain loop, with integers so small
 * that all sums are exact: equality, whatever the order. */
#include "core/brgemm.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { LDA = 37, LDC = 80, BATCH = 3, K_MAX = 11, GUARD = 16, LANES_MAX = 16 };
enum {
    A_SIZE = BATCH * 64 + DLB_BRGEMM_MR * LDA + K_MAX,
    B_SIZE = BATCH * K_MAX * DLB_BRGEMM_NV * LANES_MAX,
    C_SIZE = 2 * GUARD + DLB_BRGEMM_MR * LDC
};
static const float GUARD_VALUE = 12345;

static float small_integer(int i)
{
    return (float)((i * 7919 + 13) % 15 - 7);
}

struct operands {
    float *a, *b, *c, *expected, *bias;
    int64_t a_offset[BATCH], b_offset[BATCH];
};

static void fill(struct operands *o)
{
    o->a = dlb_alloc(A_SIZE * sizeof(float));
    o->b = dlb_alloc(B_SIZE * sizeof(float));
    o->c = dlb_alloc(C_SIZE * sizeof(float));
    o->expected = dlb_alloc(C_SIZE * sizeof(float));
    o->bias = dlb_alloc(DLB_BRGEMM_NV * LANES_MAX * sizeof(float));
    for (int i = 0; i < A_SIZE; i++)
        o->a[i] = small_integer(i);
    for (int i = 0; i < B_SIZE; i++)
        o->b[i] = small_integer(i * 3 + 1);
    for (int i = 0; i < DLB_BRGEMM_NV * LANES_MAX; i++)
        o->bias[i] = small_integer(i + 5);
}

static void release(struct operands *o)
{
    dlb_free(o->a);
    dlb_free(o->b);
    dlb_free(o->c);
    dlb_free(o->expected);
    dlb_free(o->bias);
}

static void plain(const struct dlb_brgemm *g, int mr, int columns, float *c)
{
    for (int i = 0; i < mr; i++)
        for (int j = 0; j < g->n; j++) {
            float sum = g->flags & DLB_BRGEMM_ACCUMULATE ? c[i * g->ldc + j]
                        : g->bias                        ? g->bias[j]
                                                         : 0;
            for (int64_t b = 0; b < g->batch; b++)
                for (int64_t k = 0; k < g->k; k++)
                    sum += g->a[g->a_start + g->a_offset[b] + i * g->lda + k] *
                           g->b[g->b_offset[b] + k * columns + j];
            c[i * g->ldc + j] = g->flags & DLB_BRGEMM_RELU && sum < 0 ? 0 : sum;
        }
}

static void check_call(const struct dlb_brgemm_kernels *kernels, struct operands *o,
                       int nv, int mr, int n, int64_t batch, int64_t k, int shift,
                       unsigned flags, bool bias)
{
    int columns = nv * kernels->lanes;
    for (int64_t b = 0; b < BATCH; b++) {
        o->a_offset[b] = 64 * (BATCH - 1 - b) + 5;
        o->b_offset[b] = b * k * columns;
    }
    for (int i = 0; i < C_SIZE; i++)
        o->c[i] = o->expected[i] = GUARD_VALUE;
    struct dlb_brgemm g = {
        .a = o->a,
        .a_start = -5,
        .a_offset = o->a_offset,
        .lda = LDA,
        .b = o->b,
        .b_offset = o->b_offset,
        .b_ahead = n & 4 ? 2 * columns : 0,
        .fetch = n & 4 || shift ? NULL : o->b,
        .batch = batch,
        .k = k,
        .c = o->c + GUARD + shift,
        .ldc = LDC,
        .bias = bias ? o->bias : NULL,
        .n = n,
        .flags = flags,
    };
    plain(&g, mr, columns, o->expected + GUARD + shift);
    kernels->tile[nv][mr](&g);
    kernels->stream_fence();
    if (memcmp(o->c, o->expected, C_SIZE * sizeof(float)))
        fail_msg("mr %d nv %d n %d batch %d k %d shift %d flags %u bias %d differs", mr,
                 nv, n, (int)batch, (int)k, shift, flags, bias);
}

static void check_tile(const struct dlb_brgemm_kernels *kernels, struct operands *o,
                       int nv, int mr)
{
    int columns = nv * kernels->lanes;
    /* Every path: whole and partial groups of k, all flags, tails, with and without
     * prefetch. */
    static const int64_t ks[] = {1, 3, 4, 11};
    for (size_t i = 0; i < sizeof ks / sizeof *ks; i++)
        for (unsigned flags = 0; flags < 8; flags++)
            for (int shift = 0; shift < 2; shift++)
                check_call(kernels, o, nv, mr, columns, 1 + (int)i % BATCH, ks[i], shift,
                           flags, shift);
    for (int n = 1; n < columns; n++)
        for (unsigned flags = 0; flags < 4; flags++)
            check_call(kernels, o, nv, mr, n, 2, 9, n & 1, flags, n & 2);
    check_call(kernels, o, nv, mr, columns, 0, 5, 0, 0, true);
}

static void test_every_tile_of_every_isa(void **state)
{
    (void)state;
    struct operands o;
    fill(&o);
    for (int isa = 0; isa < DLB_ISA_COUNT; isa++) {
        if (!dlb_isa_usable(isa))
            continue;
        const struct dlb_brgemm_kernels *kernels = dlb_brgemm_kernels(isa);
        assert_non_null(kernels);
        assert_int_equal(kernels->lanes, dlb_isa_lanes(isa));
        for (int nv = 1; nv <= DLB_BRGEMM_NV; nv++) {
            assert_in_range(kernels->mr_max[nv], 1, DLB_BRGEMM_MR);
            for (int mr = 1; mr <= DLB_BRGEMM_MR; mr++) {
                if (mr > kernels->mr_max[nv]) {
                    assert_null(kernels->tile[nv][mr]);
                    continue;
                }
                assert_non_null(kernels->tile[nv][mr]);
                check_tile(kernels, &o, nv, mr);
            }
        }
    }
    release(&o);
}

static void test_nan_and_infinity_pass_and_tails_do_not_leak(void **state)
{
    (void)state;
    struct operands o;
    fill(&o);
    for (int isa = 0; isa < DLB_ISA_COUNT; isa++) {
        if (!dlb_isa_usable(isa))
            continue;
        const struct dlb_brgemm_kernels *kernels = dlb_brgemm_kernels(isa);
        const int columns = 2 * kernels->lanes, n = columns - 1;
        const int64_t zero[1] = {0};
        for (int i = 0; i < 2 * columns; i++)
            o.b[i] = i % columns == n ? NAN : 1;
        o.a[0] = NAN, o.a[1] = 1;
        o.a[LDA] = INFINITY, o.a[LDA + 1] = 1;
        o.a[2 * LDA] = 1, o.a[2 * LDA + 1] = -3;
        struct dlb_brgemm g = {.a = o.a,
                               .a_offset = zero,
                               .lda = LDA,
                               .b = o.b,
                               .b_offset = zero,
                               .batch = 1,
                               .k = 2,
                               .c = o.c,
                               .ldc = LDC,
                               .n = n,
                               .flags = DLB_BRGEMM_RELU};
        o.c[n] = GUARD_VALUE;
        kernels->tile[2][3](&g);
        for (int j = 0; j < n; j++) {
            assert_true(isnan(o.c[j]));
            assert_true(isinf(o.c[LDC + j]));
            assert_true(o.c[2 * LDC + j] == 0);
        }
        assert_true(o.c[n] == GUARD_VALUE);
    }
    release(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_tile_of_every_isa),
        cmocka_unit_test(test_nan_and_infinity_pass_and_tails_do_not_leak),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
