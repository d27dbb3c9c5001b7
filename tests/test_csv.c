#include "record/csv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { SEEN_MAX = 64 };

struct seen {
    int records;
    int64_t line[SEEN_MAX], begin[SEEN_MAX], end[SEEN_MAX];
    int cells[SEEN_MAX];
    bool torn[SEEN_MAX];
    char *text[SEEN_MAX]; /* cells with | between */
    enum dlb_status stop;
};

static enum dlb_status see(void *context, const struct dlb_csv_record *record,
                           struct dlb_error *error)
{
    struct seen *seen = context;
    int n = seen->records++;
    assert_true(n < SEEN_MAX);
    seen->line[n] = record->line;
    seen->begin[n] = record->begin;
    seen->end[n] = record->end;
    seen->cells[n] = record->cells_n;
    seen->torn[n] = record->torn;
    size_t length = 1;
    for (int i = 0; i < record->cells_n; i++)
        length += strlen(record->cells[i]) + 1;
    seen->text[n] = calloc(length, 1);
    for (int i = 0; i < record->cells_n; i++) {
        strcat(seen->text[n], i ? "|" : "");
        strcat(seen->text[n], record->cells[i]);
    }
    return seen->stop ? dlb_fail(error, seen->stop, "stopped") : DLB_OK;
}

static void forget(struct seen *seen)
{
    for (int i = 0; i < seen->records; i++)
        free(seen->text[i]);
    *seen = (struct seen){0};
}

static char path[] = "/tmp/dlb_test_csv_XXXXXX";

static int make_file(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 || close(fd);
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

static void put(const char *data, size_t length)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

static enum dlb_status read_text(const char *text, bool comments, struct seen *seen,
                                 struct dlb_error *error)
{
    put(text, strlen(text));
    *error = (struct dlb_error){0};
    return dlb_csv_read(path, comments, see, seen, error);
}

static void reads_records(void **state)
{
    (void)state;
    struct seen seen = {0};
    struct dlb_error error;
    assert_int_equal(read_text("\xEF\xBB\xBF"
                               "a,b\r\n\n  \t\r\n# no\n1,\" x, \"\"y\"\"\r\nz\"\n"
                               " s , t\n,\n\"\"\nä,last",
                               true, &seen, &error),
                     DLB_OK);
    assert_int_equal(seen.records, 6);
    const char *text[] = {"a|b", "1| x, \"y\"\r\nz", " s | t", "|", "", "ä|last"};
    const int64_t line[] = {1, 5, 7, 8, 9, 10};
    for (int i = 0; i < 6; i++) {
        assert_string_equal(seen.text[i], text[i]);
        assert_int_equal(seen.line[i], line[i]);
        assert_int_equal(seen.torn[i], i == 5);
    }
    assert_int_equal(seen.begin[0], 3);
    assert_int_equal(seen.end[0], 8);
    assert_int_equal(seen.cells[3], 2);
    assert_int_equal(seen.end[4], seen.begin[5]);
    forget(&seen);

    /* Without comments # is text; an empty file has no records. */
    assert_int_equal(read_text("#a\n", false, &seen, &error), DLB_OK);
    assert_string_equal(seen.text[0], "#a");
    forget(&seen);
    assert_int_equal(read_text("", true, &seen, &error), DLB_OK);
    assert_int_equal(read_text("\n\r\n\n", true, &seen, &error), DLB_OK);
    assert_int_equal(seen.records, 0);
}

static void stops_when_told(void **state)
{
    (void)state;
    struct seen seen = {.stop = DLB_INTERRUPTED};
    struct dlb_error error;
    assert_int_equal(read_text("a\nb\n", false, &seen, &error), DLB_INTERRUPTED);
    assert_int_equal(seen.records, 1);
    assert_string_equal(error.text, "stopped");
    forget(&seen);
}

static void refuses_damage(void **state)
{
    (void)state;
    static const struct {
        const char *text, *where, *what;
    } damage[] = {
        {"a\nb\nc\"d\n", ", line 3:", "quote"},
        {"a\n\"b\"c\n", ", line 2:", "quote"},
        {"a\n\"b\nc\nd\n", ", line 2:", "never closed"},
        {"a\n\"b\nc\nd", ", line 2:", "never closed"},
        {"a\nb\rc\n", ", line 2:", "carriage return"},
        {"a\nb\rc", ", line 2:", "carriage return"},
    };
    for (size_t i = 0; i < sizeof damage / sizeof *damage; i++) {
        struct seen seen = {0};
        struct dlb_error error;
        assert_int_equal(read_text(damage[i].text, false, &seen, &error), DLB_INVALID);
        assert_non_null(strstr(error.text, path));
        assert_non_null(strstr(error.text, damage[i].where));
        assert_non_null(strstr(error.text, damage[i].what));
        forget(&seen);
    }
    struct seen seen = {0};
    struct dlb_error error;
    put("a\nb\0c\n", 6);
    assert_int_equal(dlb_csv_read(path, false, see, &seen, &error), DLB_INVALID);
    assert_non_null(strstr(error.text, ", line 2:"));
    assert_non_null(strstr(error.text, "NUL"));
    forget(&seen);
    assert_int_equal(dlb_csv_read("/tmp", false, see, &seen, &error), DLB_IO);
    assert_int_equal(dlb_csv_read("/nowhere/x.csv", false, see, &seen, &error), DLB_IO);
    assert_non_null(strstr(error.text, "/nowhere/x.csv"));
}

static void bounds_cells_and_records(void **state)
{
    (void)state;
    struct seen seen = {0};
    struct dlb_error error;
    size_t length = 6 << 20;
    char *text = malloc(length);
    memset(text, 'x', length);
    text[0] = '"';
    text[length - 1] = '\n';
    put(text, length);
    assert_int_equal(dlb_csv_read(path, false, see, &seen, &error), DLB_INVALID);
    assert_non_null(strstr(error.text, "1 MiB"));

    /* Exactly the most, and one more. */
    memset(text, 'x', length);
    text[DLB_CSV_CELL_MAX] = '\n';
    put(text, DLB_CSV_CELL_MAX + 1);
    assert_int_equal(dlb_csv_read(path, false, see, &seen, &error), DLB_OK);
    assert_int_equal(strlen(seen.text[0]), DLB_CSV_CELL_MAX);
    forget(&seen);
    text[DLB_CSV_CELL_MAX] = 'x';
    text[DLB_CSV_CELL_MAX + 1] = '\n';
    put(text, DLB_CSV_CELL_MAX + 2);
    assert_int_equal(dlb_csv_read(path, false, see, &seen, &error), DLB_INVALID);

    memset(text, ',', length);
    put(text, length);
    assert_int_equal(dlb_csv_read(path, false, see, &seen, &error), DLB_INVALID);
    assert_non_null(strstr(error.text, "4 MiB"));
    assert_int_equal(seen.records, 0);
    free(text);
}

/* A record whose CRLF, quote and cells fall on each side of the pieces that are read. */
static void crosses_pieces(void **state)
{
    (void)state;
    enum { PIECE = 64 << 10 };
    const char *tail = "e,\"q\"\"\r\nr\"\r\nnext\n";
    for (int shift = 0; shift < 20; shift++) {
        struct seen seen = {0};
        struct dlb_error error;
        char *text = calloc(PIECE + 64, 1);
        memset(text, 'x', (size_t)(PIECE - shift));
        strcat(text, tail);
        put(text, strlen(text));
        assert_int_equal(dlb_csv_read(path, false, see, &seen, &error), DLB_OK);
        assert_int_equal(seen.records, 2);
        assert_string_equal(seen.text[0] + PIECE - shift, "e|q\"\r\nr");
        assert_string_equal(seen.text[1], "next");
        assert_int_equal(seen.line[1], 3);
        assert_int_equal(seen.end[1], strlen(text));
        forget(&seen);
        free(text);
    }
}

static void finds_the_whole_records(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t whole;
    } file[] = {
        {"", 0},
        {"a,b", 0},
        {"a,b\n", 4},
        {"a,b\n1,", 4},
        {"a,b\n1,2\r", 4},
        {"a,b\n1,\"x\ny", 4},
        {"a,b\n1,\"x\n", 4},
        {"a,b\n1,\"x\"", 4},
        {"a,b\n1,\"x\ny\"\n2,", 12},
        {"a,b\n1,2\n\n", 8},
    };
    struct dlb_error error;
    for (size_t i = 0; i < sizeof file / sizeof *file; i++) {
        int64_t whole = -1;
        put(file[i].text, strlen(file[i].text));
        assert_int_equal(dlb_csv_whole(path, &whole, &error), DLB_OK);
        assert_int_equal(whole, file[i].whole);
    }
    int64_t whole;
    put("a\nb\n\0\0\0\0", 8);
    assert_int_equal(dlb_csv_whole(path, &whole, &error), DLB_OK);
    assert_int_equal(whole, 4);

    /* An open quote before many lines is damage: nothing of it may be dropped. */
    put("a\n\"b\n1\n2\n3\n4\n5\n6\n7\n8\n9\n", 24);
    assert_int_equal(dlb_csv_whole(path, &whole, &error), DLB_INVALID);
    assert_non_null(strstr(error.text, ", line 2:"));
}

static const char *const awkward[] = {
    "plain",    "a,b",    "say \"x\"", "two\nlines", "cr\rlf\r\n", " spaces ",
    "=1+1",     "+x",     "-cmd",      "@sum",       "\ttab",      "\rcr",
    "'=quoted", "''-x",   "'plain",    "#first",     "größe 畳み", "",
    "-5",       "+1.5e3", "=\"a\"",    "-",          "=a,\n\"b\""};

static void gives_back_what_was_written(void **state)
{
    (void)state;
    enum { N = sizeof awkward / sizeof *awkward };
    struct dlb_error error;
    struct seen seen = {0};
    FILE *file = fopen(path, "wb");
    for (int i = 0; i < N; i++)
        assert_int_equal(dlb_csv_write(file, path, &awkward[i], 1, &error), DLB_OK);
    assert_int_equal(dlb_csv_write(file, path, awkward, N, &error), DLB_OK);
    fclose(file);
    assert_int_equal(dlb_csv_read(path, true, see, &seen, &error), DLB_OK);
    assert_int_equal(seen.records, N + 1);
    assert_int_equal(seen.cells[N], N);
    for (int i = 0; i < N; i++) {
        assert_string_equal(dlb_csv_plain(seen.text[i]), awkward[i]);
        /* Nothing that starts a formula is left but numbers. */
        assert_true(!seen.text[i][0] || !strchr("=+-@\t\r", seen.text[i][0]) ||
                    dlb_csv_is_number(seen.text[i]));
    }
    forget(&seen);
}

static void quotes_only_where_needed(void **state)
{
    (void)state;
    struct dlb_csv_buffer buffer = {0};
    const char *cells[] = {"a b", "c,d", "=x", "", "-5"};
    assert_int_equal(dlb_csv_append(&buffer, cells, 5, NULL), DLB_OK);
    const char *expected = "a b,\"c,d\",'=x,,-5\n";
    assert_int_equal(buffer.length, strlen(expected));
    assert_memory_equal(buffer.data, expected, buffer.length);
    dlb_csv_buffer_release(&buffer);
    dlb_csv_buffer_release(&buffer);
}

static void knows_numbers(void **state)
{
    (void)state;
    const char *yes[] = {"0", "-1", "+1.", ".5", "1e9", "-2.5E-3", "00"};
    const char *no[] = {"",    "-",    ".",  "1e", "1e+", "0x10",
                        "inf", "-nan", "1 ", " 1", "1,0"};
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++)
        assert_true(dlb_csv_is_number(yes[i]));
    for (size_t i = 0; i < sizeof no / sizeof *no; i++)
        assert_false(dlb_csv_is_number(no[i]));
}

static void reports_a_full_disk(void **state)
{
    (void)state;
    FILE *file = fopen("/dev/full", "wb");
    if (!file)
        skip();
    struct dlb_error error;
    const char *cell = "x";
    assert_int_equal(dlb_csv_write(file, "out.csv", &cell, 1, &error), DLB_IO);
    assert_non_null(strstr(error.text, "out.csv"));
    assert_non_null(strstr(error.text, "No space left"));
    fclose(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_records),
        cmocka_unit_test(stops_when_told),
        cmocka_unit_test(refuses_damage),
        cmocka_unit_test(bounds_cells_and_records),
        cmocka_unit_test(crosses_pieces),
        cmocka_unit_test(finds_the_whole_records),
        cmocka_unit_test(gives_back_what_was_written),
        cmocka_unit_test(quotes_only_where_needed),
        cmocka_unit_test(knows_numbers),
        cmocka_unit_test(reports_a_full_disk),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
