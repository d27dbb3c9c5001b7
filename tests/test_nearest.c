#include "nearest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const char *const words[] = {"conv", "lstm", "gru", "attention", "batchnorm"};
enum { WORDS = sizeof words / sizeof *words };

static void test_near_misses(void **state)
{
    (void)state;
    assert_string_equal(dlb_nearest("cnov", words, WORDS), "conv");
    assert_string_equal(dlb_nearest("con", words, WORDS), "conv");
    assert_string_equal(dlb_nearest("CONV", words, WORDS), "conv");
    assert_string_equal(dlb_nearest("atention", words, WORDS), "attention");
    assert_string_equal(dlb_nearest("bacthnrom", words, WORDS), "batchnorm");
    assert_string_equal(dlb_nearest("gur", words, WORDS), "gru");
}

static void test_nothing_near(void **state)
{
    char longest[1000];
    (void)state;
    memset(longest, 'x', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    assert_null(dlb_nearest("", words, WORDS));
    assert_null(dlb_nearest("x", words, WORDS));
    assert_null(dlb_nearest("pooling", words, WORDS));
    assert_null(dlb_nearest(longest, words, WORDS));
    assert_null(dlb_nearest("conv", words, 0));
}

static void test_hint(void **state)
{
    char hint[DLB_HINT_MAX];
    (void)state;
    assert_string_equal(dlb_nearest_hint("cnov", words, WORDS, hint),
                        " (did you mean 'conv'?)");
    assert_string_equal(dlb_nearest_hint("pooling", words, WORDS, hint), "");
}

static void test_join_never_overflows(void **state)
{
    char text[64];
    (void)state;
    assert_string_equal(dlb_words_join(words, WORDS, text, sizeof text),
                        "conv, lstm, gru, attention, batchnorm");
    for (int size = 8; size < 50; size++) {
        memset(text, '#', sizeof text);
        dlb_words_join(words, WORDS, text, size);
        assert_true(strlen(text) < (size_t)size);
        assert_int_equal(text[size], '#');
    }
    assert_string_equal(dlb_words_join(words, WORDS, text, 20), "conv, lstm, …");
    assert_string_equal(dlb_words_join(words, 0, text, 20), "");
}

static void test_quote(void **state)
{
    char text[12];
    (void)state;
    assert_string_equal(dlb_quote("a\nb\033c'd", text, sizeof text), "a?b?c?d");
    assert_string_equal(dlb_quote("0123456789abcdef", text, sizeof text), "01234567…");
    /* Cut before the two-byte letter that would be torn. */
    assert_string_equal(dlb_quote("0123456\xc3\xa9xyz", text, sizeof text), "0123456…");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_near_misses), cmocka_unit_test(test_nothing_near),
        cmocka_unit_test(test_hint),        cmocka_unit_test(test_join_never_overflows),
        cmocka_unit_test(test_quote),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
