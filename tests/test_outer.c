/* Every register tile of every usable ISA against a plain loop, with integers so small
 * that all sums are exact; and the copies and column sums beside them. */
#include "core/outer.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { LDA = 31, LDB = 67, BATCH = 3, K_MAX = 11, LANES_MAX = 16, GUARD = 16 };
enum {
    COLUMNS_MAX = DLB_BRGEMM_NV * LANES_MAX,
    A_SIZE = BATCH * (K_MAX * LDA + 7),
    B_SIZE = BATCH * (K_MAX * LDB + 7),
    C_SIZE = DLB_BRGEMM_MR * COLUMNS_MAX + 2 * GUARD
};
static const float GUARD_VALUE = 12345;

static float small_integer(int64_t i)
{
    return (float)((i * 7919 + 13) % 15 - 7);
}

static _Alignas(DLB_ALIGN) float a[A_SIZE], b[B_SIZE], c[C_SIZE], expected[C_SIZE];

static void check_call(const struct dlb_outer_kernels *kernels, int mr, int nv,
                       int64_t batch, int64_t k, unsigned flags)
{
    int columns = nv * kernels->lanes;
    int64_t a_offset[BATCH], b_offset[BATCH];
    for (int64_t i = 0; i < BATCH; i++) {
        a_offset[i] = (BATCH - 1 - i) * (K_MAX * LDA + 7) + 5;
        b_offset[i] = i * (K_MAX * LDB + 7) + 3;
    }
    for (int64_t i = 0; i < C_SIZE; i++)
        c[i] = expected[i] = GUARD_VALUE;
    struct dlb_outer g = {.a = a,
                          .b = b,
                          .a_start = -5,
                          .b_start = -3,
                          .a_offset = a_offset,
                          .b_offset = b_offset,
                          .lda = LDA,
                          .ldb = LDB,
                          .batch = batch,
                          .k = k,
                          .c = c + GUARD,
                          .flags = flags};
    for (int i = 0; i < mr; i++)
        for (int j = 0; j < columns; j++) {
            float *to = &expected[GUARD + i * columns + j];
            float sum = flags & DLB_OUTER_ACCUMULATE ? *to : 0;
            for (int64_t n = 0; n < batch; n++)
                for (int64_t p = 0; p < k; p++)
                    sum += a[a_offset[n] - 5 + p * LDA + i] *
                           b[b_offset[n] - 3 + p * LDB + j];
            *to = sum;
        }
    kernels->tile[nv][mr](&g);
    kernels->stream_fence();
    if (memcmp(c, expected, sizeof c))
        fail_msg("mr %d nv %d batch %d k %d flags %u differs", mr, nv, (int)batch, (int)k,
                 flags);
}

static void every_tile_of_every_isa(void **state)
{
    (void)state;
    static const int64_t ks[] = {1, 3, 4, 11};
    for (int64_t i = 0; i < A_SIZE; i++)
        a[i] = small_integer(i);
    for (int64_t i = 0; i < B_SIZE; i++)
        b[i] = small_integer(3 * i + 1);
    for (int isa = 0; isa < DLB_ISA_COUNT; isa++) {
        if (!dlb_isa_usable(isa))
            continue;
        const struct dlb_outer_kernels *kernels = dlb_outer_kernels(isa);
        assert_int_equal(kernels->lanes, dlb_isa_lanes(isa));
        for (int nv = 1; nv <= DLB_BRGEMM_NV; nv++)
            for (int mr = 1; mr <= DLB_BRGEMM_MR; mr++) {
                assert_int_equal(mr <= kernels->mr_max[nv], !!kernels->tile[nv][mr]);
                if (mr > kernels->mr_max[nv])
                    continue;
                for (unsigned flags = 0; flags < 4; flags++) {
                    for (int i = 0; i < 4; i++)
                        check_call(kernels, mr, nv, 1 + i % BATCH, ks[i], flags);
                    check_call(kernels, mr, nv, 0, 5, flags);
                }
            }
    }
}

/* Up to its last element; and not one past any matrix. */
static void check_pack(const struct dlb_outer_kernels *kernels, int64_t rows,
                       int64_t width, int64_t strips, int64_t ld, int64_t to_ld)
{
    int64_t from_size = (rows - 1) * ld + strips * width, to_strip = rows * to_ld + 3;
    float *from = b + B_SIZE - from_size;
    for (int64_t i = 0; i < strips * to_strip + GUARD; i++)
        c[i] = GUARD_VALUE;
    kernels->pack(from, ld, rows, width, strips, c, to_ld, to_strip);
    for (int64_t strip = 0; strip < strips; strip++) {
        for (int64_t row = 0; row < rows; row++)
            for (int64_t j = 0; j < width; j++)
                if (c[strip * to_strip + row * to_ld + j] !=
                    from[row * ld + strip * width + j])
                    fail_msg("rows %d width %d strips %d ld %d to_ld %d: strip %d, row "
                             "%d, column %d is wrong",
                             (int)rows, (int)width, (int)strips, (int)ld, (int)to_ld,
                             (int)strip, (int)row, (int)j);
        for (int64_t i = rows * to_ld; i < to_strip; i++)
            if (c[strip * to_strip + i] != GUARD_VALUE)
                fail_msg("rows %d width %d strips %d: strip %d is too long", (int)rows,
                         (int)width, (int)strips, (int)strip);
    }
}

static void copies_are_whole(void **state)
{
    (void)state;
    for (int64_t i = 0; i < B_SIZE; i++)
        b[i] = (float)i;
    for (int isa = 0; isa < DLB_ISA_COUNT; isa++) {
        if (!dlb_isa_usable(isa))
            continue;
        const struct dlb_outer_kernels *kernels = dlb_outer_kernels(isa);
        for (int64_t width = 1; width <= 4 * kernels->lanes + 1; width++)
            for (int64_t rows = 1; rows <= 9; rows += 4) {
                check_pack(kernels, rows, width, 1, width, width);
                check_pack(kernels, rows, width, 1, width + 3, width + 5);
                if (width <= 6)
                    check_pack(kernels, rows, width, 19, 19 * width + 1, width);
            }
    }
}

static void columns_are_summed(void **state)
{
    (void)state;
    for (int64_t i = 0; i < B_SIZE; i++)
        b[i] = small_integer(i);
    for (int isa = 0; isa < DLB_ISA_COUNT; isa++) {
        if (!dlb_isa_usable(isa))
            continue;
        const struct dlb_outer_kernels *kernels = dlb_outer_kernels(isa);
        for (int64_t n = 1; n <= 4 * kernels->lanes + 3; n += 2)
            for (int accumulate = 0; accumulate < 2; accumulate++) {
                for (int64_t j = 0; j < n + GUARD; j++) {
                    c[j] = GUARD_VALUE;
                    float sum = accumulate ? GUARD_VALUE : 0;
                    for (int64_t row = 0; row < 5; row++)
                        sum += b[row * (n + 2) + j];
                    expected[j] = j < n ? sum : GUARD_VALUE;
                }
                kernels->sum_rows(b, n + 2, 5, n, c, accumulate);
                assert_memory_equal(c, expected, (size_t)(n + GUARD) * sizeof *c);
            }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_tile_of_every_isa),
        cmocka_unit_test(copies_are_whole),
        cmocka_unit_test(columns_are_summed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
