#include "night_folders.h"
#include "record/otava.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static struct dlb_error error;

static void holds(const char *path, const char *expected)
{
    char text[4096];
    FILE *stream = fopen(path, "rb");
    if (!stream)
        fail_msg("there is no %s", path);
    size_t length = fread(text, 1, sizeof text - 1, stream);
    text[length] = '\0';
    fclose(stream);
    assert_string_equal(text, expected);
}

/* Two machines; on the first a is always there, b and c are missing once, in the same
 * night, and d once, in another. */
static void write_runs(void)
{
    mkdir("runs", 0777);
    for (int i = 0; i < 4; i++) {
        char folder[32], id[32];
        snprintf(folder, sizeof folder, "runs/%d", i);
        snprintf(id, sizeof id, "id%d", i);
        struct night_folder night = {folder, id,   night_folder_day(i), i < 3 ? "m" : "n",
                                     "c0",   false};
        FILE *results = night_folder_begin(&night);
        night_folder_row(results, &night, "a", "ok", "native", 10 + i + 0.25);
        if (i != 1) {
            night_folder_row(results, &night, "b", "ok", "native", 20 + i);
            night_folder_row(results, &night, "\"c\"\"\\\"", "ok", "native", 30 + i);
        }
        if (i == 1 || i == 2)
            night_folder_row(results, &night, "d", "ok", "native", 40 + i);
        fclose(results);
    }
}

#define NAME(shape) "conv/fwd/f32/exact/" shape "/native/cores/hot/threads:2"
#define QUOTED      NAME("c\\\"\\\\")
#define METRIC(name)                                                                     \
    "      \"" name "\":\n        column: \"" name "\"\n        direction: -1\n"
#define TEST(number, machine, file)                                                      \
    "  \"dlbench-" number "\": # " machine "\n    type: csv\n    file: \"" file          \
    "\"\n    time_column: time\n    attributes: [run_id, commit]\n    metrics:\n"

static void cases_with_the_same_runs_share_a_file(void **state)
{
    (void)state;
    const char *path = "runs";
    write_runs();
    assert_int_equal(dlb_otava_write("out.csv", &path, 1, &error), DLB_OK);
    holds("out.csv", "time,run_id,commit," NAME("a") "," NAME("b") ",\"" NAME(
                         "c\"\"\\") "\"\n"
                                    "2026-01-04T02:00:00Z,id3,c0,13.25,23,33\n");
    holds("out-2.csv", "time,run_id,commit," NAME("b") ",\"" NAME(
                           "c\"\"\\") "\"\n"
                                      "2026-01-01T02:00:00Z,id0,c0,20,30\n"
                                      "2026-01-03T02:00:00Z,id2,c0,22,32\n");
    holds("out-3.csv",
          "time,run_id,commit," NAME("a") "\n"
                                          "2026-01-01T02:00:00Z,id0,c0,10.25\n"
                                          "2026-01-02T02:00:00Z,id1,c0,11.25\n"
                                          "2026-01-03T02:00:00Z,id2,c0,12.25\n");
    holds("out-4.csv",
          "time,run_id,commit," NAME("d") "\n"
                                          "2026-01-02T02:00:00Z,id1,c0,41\n"
                                          "2026-01-03T02:00:00Z,id2,c0,42\n");
    assert_int_equal(access("out-5.csv", F_OK), -1);
    holds("out.yaml",
          "# Medians in nanoseconds, for: otava analyze --config-file out.yaml --since "
          "2000-01-01 dlbench\ntests:\n" TEST("1", "n", "out.csv") METRIC(NAME("a"))
              METRIC(NAME("b")) METRIC(QUOTED) TEST("2", "m", "out-2.csv")
                  METRIC(NAME("b")) METRIC(QUOTED) TEST("3", "m", "out-3.csv")
                      METRIC(NAME("a")) TEST("4", "m", "out-4.csv")
                          METRIC(NAME("d")) "test_groups:\n  dlbench:\n    - "
                                            "\"dlbench-1\"\n    - \"dlbench-2\"\n"
                                            "    - \"dlbench-3\"\n    - \"dlbench-4\"\n");
}

static void a_name_without_ending_gets_one(void **state)
{
    (void)state;
    const char *path = "runs/0";
    assert_int_equal(dlb_otava_write("plain", &path, 1, &error), DLB_OK);
    assert_int_equal(access("plain.csv", F_OK) || access("plain.yaml", F_OK), 0);
}

static void failures_are_named(void **state)
{
    (void)state;
    const char *path = "nowhere";
    assert_int_equal(dlb_otava_write("out.csv", &path, 1, &error), DLB_IO);
    assert_non_null(strstr(error.text, "nowhere"));
    path = "runs";
    assert_int_equal(dlb_otava_write("no/out.csv", &path, 1, &error), DLB_IO);
    assert_non_null(strstr(error.text, "no/out.csv cannot be written"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cases_with_the_same_runs_share_a_file),
        cmocka_unit_test(a_name_without_ending_gets_one),
        cmocka_unit_test(failures_are_named),
    };
    return cmocka_run_group_tests(tests, night_folders_enter, night_folders_leave);
}
