#include "night_folders.h"
#include "record/series.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cmocka.h>

static struct dlb_series_set set;
static struct dlb_error error;

static void read_runs(const char *first, const char *second)
{
    const char *path[] = {first, second};
    error.text[0] = '\0';
    if (dlb_series_read(path, 1 + (second != NULL), &set, &error))
        fail_msg("%s", error.text);
}

static void is_refused(const char *path, enum dlb_status status, const char *why)
{
    error.text[0] = '\0';
    assert_int_equal(dlb_series_read(&path, 1, &set, &error), status);
    if (!strstr(error.text, why) || error.text[strlen(error.text) - 1] != '.')
        fail_msg("no '%s' in: %s", why, error.text);
    dlb_series_release(&set);
}

/* A night with the cases a (native) and b (onednn). */
static void write_night(const char *folder, const char *id, const char *started,
                        const char *machine, double a, double b)
{
    struct night_folder night = {folder, id, started, machine, "c0ffee", false};
    FILE *results = night_folder_begin(&night);
    night_folder_row(results, &night, "a", a < 0 ? "noisy" : "ok", "native", a);
    night_folder_row(results, &night, "b", "ok", "onednn", b);
    fclose(results);
}

static void runs_are_in_the_order_of_time(void **state)
{
    (void)state;
    mkdir("order", 0777);
    write_night("order/1", "third", night_folder_day(3), "m", 13, 23);
    write_night("order/2", "first", night_folder_day(1), "m", 11, 21);
    write_night("order/3", "second", night_folder_day(2), "m", 12, 22);
    mkdir("order/no-run", 0777);
    read_runs("order", NULL);
    assert_int_equal(set.runs_n, 3);
    assert_string_equal(set.run[0].id, "first");
    assert_string_equal(set.run[1].id, "second");
    assert_string_equal(set.run[2].id, "third");
    assert_string_equal(set.run[1].commit, "c0ffee");
    assert_false(set.run[1].dirty);
    assert_string_equal(set.run[0].path, "order/2/results.csv");
    for (int i = 0; i < 3; i++) {
        assert_int_equal(set.run[i].night, i);
        assert_int_equal(set.run[i].rows_n, 2);
    }
    assert_int_equal(set.machines_n, 1);
    assert_int_equal(set.machine[0].runs_n, 3);
    assert_int_equal(set.series_n, 2);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(set.series[0].point[i].run, i);
        assert_true(set.series[0].point[i].median_ns == 11 + i);
        assert_true(set.series[1].point[i].median_ns == 21 + i);
    }
    assert_string_equal(set.series[0].text[DLB_SERIES_CASE_ID], "a");
    assert_string_equal(set.series[0].text[DLB_SERIES_IMPL], "native");
    assert_string_equal(set.series[1].text[DLB_SERIES_IMPL], "onednn");
    assert_string_equal(set.series[1].text[DLB_SERIES_THREADS], "2");
    assert_string_equal(set.series[1].text[DLB_SERIES_SHAPE_NAME], "");
    assert_string_equal(set.series[1].name,
                        "conv/fwd/f32/exact/b/onednn/cores/hot/threads:2");
    dlb_series_release(&set);
}

static void a_run_counts_once(void **state)
{
    (void)state;
    read_runs("order", "order/2/results.csv");
    assert_int_equal(set.runs_n, 3);
    assert_int_equal(set.repeated_n, 1);
    assert_int_equal(set.machine[0].runs_n, 3);
    assert_int_equal(set.series[0].points_n, 3);
    dlb_series_release(&set);
}

static void machines_are_kept_apart(void **state)
{
    (void)state;
    mkdir("two", 0777);
    write_night("two/1", "laptop-1", night_folder_day(2), "laptop", 5, 6);
    write_night("two/2", "server-1", night_folder_day(1), "server", 1, 2);
    write_night("two/3", "laptop-2", night_folder_day(4), "laptop", 7, 8);
    write_night("two/4", "server-2", night_folder_day(3), "server", 3, 4);
    write_night("two/5", "nameless", night_folder_day(5), NULL, 9, 10);
    read_runs("two", NULL);
    assert_int_equal(set.machines_n, 3);
    assert_string_equal(set.machine[0].key, "server");
    assert_string_equal(set.machine[1].key, "laptop");
    assert_string_equal(set.machine[2].key, "");
    assert_int_equal(set.machine[0].runs_n, 2);
    assert_int_equal(set.machine[1].runs_n, 2);
    assert_string_equal(set.run[4].id, "nameless"); /* from its rows */
    assert_string_equal(set.run[4].started, night_folder_day(5));
    assert_string_equal(set.run[4].commit, "");
    assert_int_equal(set.series_n, 6);
    for (int i = 0; i < 6; i++) {
        const struct dlb_series *series = &set.series[i];
        for (int j = 0; j < series->points_n; j++) {
            assert_int_equal(set.run[series->point[j].run].machine, series->machine);
            assert_int_equal(set.run[series->point[j].run].night, j);
        }
    }
    dlb_series_release(&set);
}

static void what_is_not_ok_leaves_a_gap(void **state)
{
    (void)state;
    mkdir("gaps", 0777);
    write_night("gaps/1", "one", night_folder_day(1), "m", 1, 10);
    write_night("gaps/2", "two", night_folder_day(2), "m", -1, 20); /* a is noisy */
    struct night_folder night = {"gaps/3", "three", night_folder_day(3),
                                 "m",      "d00d",  true};
    FILE *results = night_folder_begin(&night);
    night_folder_row(results, &night, "a", "ok", "native", 3);
    night_folder_row(results, &night, "b", "ok", "onednn", 0);
    night_folder_row(results, &night, "a", "ok", "native",
                     4); /* the last of a case counts */
    night_folder_row(results, &night, "new", "ok", "native", 5);
    fputs("1,three,torn", results); /* a killed run */
    fclose(results);
    read_runs("gaps", NULL);
    assert_int_equal(set.series_n, 3);
    assert_int_equal(set.series[0].points_n, 2);
    assert_int_equal(set.series[0].point[1].run, 2);
    assert_true(set.series[0].point[1].median_ns == 4);
    assert_int_equal(set.series[1].points_n, 2);
    assert_string_equal(set.series[2].text[DLB_SERIES_CASE_ID], "new");
    assert_int_equal(set.series[2].points_n, 1);
    assert_int_equal(set.run[2].rows_n, 2);
    assert_true(set.run[2].dirty);
    dlb_series_release(&set);
}

static void write_file(const char *path, const char *text)
{
    FILE *stream = fopen(path, "wb");
    assert_non_null(stream);
    fputs(text, stream);
    fclose(stream);
}

static void damage_is_named(void **state)
{
    (void)state;
    mkdir("empty", 0777);
    is_refused("nowhere", DLB_IO, "nowhere cannot be read");
    is_refused("empty", DLB_INVALID, "empty holds no run: there is no results.csv");
    write_night("bad-json", "x", night_folder_day(1), "m", 1, 2);
    write_file("bad-json/manifest.json", "{\n\"run_id\": ,\n}\n");
    is_refused("bad-json", DLB_INVALID, "bad-json/manifest.json, line 2");
    write_night("bad-csv", "x", night_folder_day(1), "m", 1, 2);
    write_file("bad-csv/results.csv", "a,b\n1,2\n");
    is_refused("bad-csv", DLB_INVALID, "bad-csv/results.csv lacks the columns");
    is_refused("bad-csv/manifest.json", DLB_INVALID, "bad-csv/manifest.json");
    struct night_folder night = {"no-row", "x", night_folder_day(1), NULL, "", false};
    fclose(night_folder_begin(&night));
    is_refused("no-row", DLB_INVALID, "no-row/results.csv does not say which run it is");
    night.folder = "no-case";
    FILE *results = night_folder_begin(&night);
    night_folder_row(results, &night, "", "ok", "native", 1);
    fclose(results);
    is_refused("no-case", DLB_INVALID, "no-case/results.csv, line 2: the row has no");
}

static long kib_used(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
}

/* 300 nights of 200 cases: what is kept is a point each, not the rows. */
static void hundreds_of_runs_need_little_memory(void **state)
{
    (void)state;
    mkdir("many", 0777);
    for (int i = 0; i < 300; i++) {
        char folder[64], id[64];
        snprintf(folder, sizeof folder, "many/%d", i);
        snprintf(id, sizeof id, "night-%d", i);
        struct night_folder night = {folder, id, night_folder_day(i), "m", "c", false};
        FILE *results = night_folder_begin(&night);
        for (int j = 0; j < 200; j++) {
            char name[64];
            snprintf(name, sizeof name, "case-%d", j);
            night_folder_row(results, &night, name, "ok", "native", 1000 * i + j + 1);
        }
        fclose(results);
    }
    long before = kib_used();
    read_runs("many", NULL);
    long used = kib_used() - before;
    assert_int_equal(set.runs_n, 300);
    assert_int_equal(set.series_n, 200);
    for (int j = 0; j < 200; j++) {
        assert_int_equal(set.series[j].points_n, 300);
        assert_true(set.series[j].point[299].median_ns == 299000 + j + 1);
    }
#if !defined __SANITIZE_ADDRESS__ && !defined __SANITIZE_THREAD__
    assert_in_range(used, 0, 8 << 10); /* the 60,000 rows would be 150 MiB */
#else
    (void)used;
#endif
    dlb_series_release(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_are_in_the_order_of_time),
        cmocka_unit_test(a_run_counts_once),
        cmocka_unit_test(machines_are_kept_apart),
        cmocka_unit_test(what_is_not_ok_leaves_a_gap),
        cmocka_unit_test(damage_is_named),
        cmocka_unit_test(hundreds_of_runs_need_little_memory),
    };
    return cmocka_run_group_tests(tests, night_folders_enter, night_folders_leave);
}
