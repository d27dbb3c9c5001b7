/* Memory of the kernels: aligned, as large as asked for, on whole huge pages where large. */
#include "core/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { KIB = 1 << 10, HUGE = 2 << 20, LARGE = 4 << 20 };

static const size_t sizes[] = {
    0,        1,         63,           64,       65,
    4095,     64 * KIB,  64 * KIB - 1, HUGE - 1, HUGE,
    HUGE + 1, LARGE - 1, LARGE,        3 * HUGE, 5 * HUGE - 128 * KIB};
enum { SIZES = sizeof sizes / sizeof *sizes };

static void all_of_it_can_be_written_and_keeps_what_was(void **state)
{
    unsigned char *memory[SIZES];
    (void)state;
    for (int i = 0; i < SIZES; i++) {
        memory[i] = dlb_alloc(sizes[i]);
        assert_non_null(memory[i]);
        assert_int_equal((uintptr_t)memory[i] % DLB_ALIGN, 0);
        if (sizes[i] >= LARGE)
            assert_int_equal((uintptr_t)memory[i] % HUGE, 0);
        memset(memory[i], i + 1, sizes[i]);
    }
    for (int i = 0; i < SIZES; i++) {
        for (size_t at = 0; at < sizes[i]; at++)
            if (memory[i][at] != i + 1)
                fail_msg("byte %zu of %zu is another's", at, sizes[i]);
        dlb_free(memory[i]);
    }
    dlb_free(NULL);
}

static void what_cannot_be_had_is_null(void **state)
{
    (void)state;
    assert_null(dlb_alloc(SIZE_MAX));
    assert_null(dlb_alloc(SIZE_MAX - DLB_ALIGN + 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_of_it_can_be_written_and_keeps_what_was),
        cmocka_unit_test(what_cannot_be_had_is_null),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
