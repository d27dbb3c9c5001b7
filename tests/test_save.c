#include "night_folders.h"
#include "record/save.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static struct dlb_error error;

static void holds(const char *path, const char *expected)
{
    char text[64];
    FILE *stream = fopen(path, "rb");
    assert_non_null(stream);
    size_t length = fread(text, 1, sizeof text - 1, stream);
    text[length] = '\0';
    fclose(stream);
    assert_string_equal(text, expected);
}

static void a_file_is_replaced(void **state)
{
    (void)state;
    assert_int_equal(dlb_save("a", "first", 5, &error), DLB_OK);
    FILE *reader = fopen("a", "rb");
    assert_int_equal(dlb_save("a", "second one", 6, &error), DLB_OK);
    holds("a", "second");
    assert_int_equal(fgetc(reader), 'f'); /* who had it open sees the old one whole */
    fclose(reader);
}

static void a_link_stays_one(void **state)
{
    (void)state;
    struct stat info;
    assert_int_equal(symlink("a", "link"), 0);
    assert_int_equal(dlb_save("link", "third", 5, &error), DLB_OK);
    holds("a", "third");
    assert_int_equal(lstat("link", &info), 0);
    assert_true(S_ISLNK(info.st_mode));
}

static void failures_name_the_file_and_leave_it(void **state)
{
    (void)state;
    assert_int_equal(dlb_save("no/file", "x", 1, &error), DLB_IO);
    assert_string_equal(error.text,
                        "no/file cannot be written: No such file or directory.");
    assert_int_equal(dlb_save("/dev/full", "x", 1, &error), DLB_IO);
    assert_string_equal(error.text,
                        "/dev/full cannot be written: No space left on device.");
    assert_int_equal(dlb_save("/dev/null", "x", 1, &error), DLB_OK);
    holds("a", "third");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_replaced),
        cmocka_unit_test(a_link_stays_one),
        cmocka_unit_test(failures_name_the_file_and_leave_it),
    };
    return cmocka_run_group_tests(tests, night_folders_enter, night_folders_leave);
}
