#include "judge/cases.h"
#include "runs_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

static struct dlb_cases cases;
static struct dlb_error error;

static int release(void **state)
{
    (void)state;
    dlb_cases_release(&cases);
    return 0;
}

/* A run with native and oneDNN of two shapes. */
static void make_run(const char *folder, const char *run_id, double ns, int samples)
{
    struct runs_writer *run = runs_open(folder, run_id, "machine", "abc", "finished");
    runs_write(run, (struct runs_row){.shape = "mb1ic8", .ns = ns, .samples = samples});
    runs_write(
        run, (struct runs_row){
                 .shape = "mb1ic8", .impl = "onednn", .ns = 2 * ns, .samples = samples});
    runs_write(run, (struct runs_row){.shape = "mb1ic16",
                                      .ns = 3 * ns,
                                      .threads = 2,
                                      .thread_set = "cores",
                                      .samples = samples});
    runs_close(run);
}

static void add(const char *path, int side)
{
    if (dlb_cases_add(&cases, path, side, &error))
        fail_msg("%s was refused: %s", path, error.text);
}

/* Refused with a whole sentence that names file and holds all words (| between). */
static void refuse(const char *path, const char *words)
{
    char copy[256], *rest = copy, *word;
    struct dlb_cases fresh = {0};
    error.text[0] = '\0';
    enum dlb_status status = dlb_cases_add(&fresh, path, DLB_NEW, &error);
    if (!status)
        status = dlb_cases_samples(&fresh, &error);
    dlb_cases_release(&fresh);
    if (!status)
        fail_msg("%s was not refused (%s)", path, words);
    assert_int_equal(error.text[strlen(error.text) - 1], '.');
    strcpy(copy, words);
    while ((word = strsep(&rest, "|")))
        if (!strstr(error.text, word))
            fail_msg("no '%s' in: %s", word, error.text);
}

static const struct dlb_case *find(const char *shape, const char *impl, int threads,
                                   const char *set)
{
    const struct dlb_case_key key = {.op = "conv",
                                     .pass = "fwd",
                                     .dtype = "f32",
                                     .accuracy = "exact",
                                     .shape = shape,
                                     .impl = impl,
                                     .thread_set = set,
                                     .cache_state = "hot",
                                     .threads = threads};
    int found = dlb_cases_find(&cases, &key);
    return found < 0 ? NULL : &cases.item[found];
}

static void rows_are_joined_by_case(void **state)
{
    (void)state;
    make_run("a", "run-a", 1e5, 0);
    make_run("b", "run-b", 2e5, 0);
    add("a", DLB_BASE);
    add("b/results.csv", DLB_NEW);
    assert_int_equal(cases.items, 3);
    assert_int_equal(cases.rows, 6);
    assert_int_equal(cases.runs, 2);
    assert_int_equal(dlb_cases_runs(&cases, DLB_NEW), 1);
    assert_non_null(cases.file[1].manifest);
    const struct dlb_case *item = find("mb1ic16", "native", 2, "cores");
    assert_non_null(item);
    assert_true(item->has[DLB_BASE] && item->has[DLB_NEW]);
    const struct dlb_case_row *base = &cases.row[item->row];
    const struct dlb_case_row *fresh = &cases.row[base->next];
    assert_int_equal(fresh->next, -1);
    assert_true(fabs(fresh->median_ns / base->median_ns - 2) < 0.05);
    assert_true(dlb_case_row_timed(base));
    assert_string_equal(base->roof_bound, "compute");
    assert_true(base->roof_frac == 0.25 && isnan(base->speedup));
    assert_null(find("mb1ic16", "native", 2, "2"));
    assert_null(find("mb1ic16", "native", 1, "cores"));
    char name[DLB_CASE_NAME];
    dlb_case_name(&item->key, name);
    assert_string_equal(name, "conv fwd mb1ic16 native, threads 2 (cores)");
}

static void samples_are_kept_of_shared_cases_only(void **state)
{
    (void)state;
    make_run("a", "run-a", 1e5, 30);
    struct runs_writer *run = runs_open("b", "run-b", NULL, "", "");
    runs_write(
        run, (struct runs_row){
                 .shape = "mb1ic16", .threads = 2, .thread_set = "cores", .samples = 40});
    runs_close(run);
    add("a", DLB_BASE);
    add("b", DLB_NEW);
    assert_int_equal(dlb_cases_samples(&cases, &error), DLB_OK);
    assert_int_equal(cases.samples, 70); /* without those that are contaminated */
    assert_null(cases.row[0].sample);
    assert_int_equal(cases.row[2].samples_n, 30);
    assert_int_equal(cases.row[3].samples_n, 40);
    for (int i = 1; i < 40; i++)
        assert_true(cases.row[3].sample[i - 1] <= cases.row[3].sample[i]);
    assert_true(cases.row[3].median_ns ==
                (cases.row[3].sample[19] + cases.row[3].sample[20]) / 2);
}

/* A file with two runs: repeats; and samples of both, told apart by their run_id. */
static void one_file_may_hold_several_runs(void **state)
{
    (void)state;
    static const char head[] =
        "schema_version,run_id,case_id,row_seq,status,op,pass,dtype,"
        "shape,impl,thread_set,threads,cache_state,time_median_ns\n";
    mkdir("m", 0777);
    runs_put("m/results.csv", "w", head);
    runs_put("m/results.csv", "a",
             "1,r1,x,1,ok,conv,fwd,f32,s,native,1,1,hot,100\n"
             "1,r2,x,1,ok,conv,fwd,f32,s,native,1,1,hot,110\n");
    runs_put("m/samples.csv", "w",
             "run_id,row_seq,sample_idx,ns\n"
             "r2,1,1,111\nr1,1,1,100\nr1,1,2,101\nr3,1,1,5\n");
    add("m", DLB_NEW);
    mkdir("n", 0777);
    runs_put("n/results.csv", "w", head);
    runs_put("n/results.csv", "a", "1,r1,x,1,ok,conv,fwd,f32,s,native,1,1,hot,100\n");
    add("n", DLB_BASE);
    assert_int_equal(dlb_cases_samples(&cases, &error), DLB_OK);
    assert_int_equal(cases.items, 1);
    assert_int_equal(dlb_cases_runs(&cases, DLB_NEW), 2);
    assert_int_equal(cases.row[0].samples_n, 2);
    assert_int_equal(cases.row[1].samples_n, 1);
    assert_int_equal(cases.row[2].samples_n, 0);
    /* Without accuracy column, as versions had it that knew of no other: exact. */
    assert_string_equal(cases.item[0].key.accuracy, "exact");
    runs_put("m/samples.csv", "w", "row_seq,sample_idx,ns\n1,1,111\n");
    refuse("m", "m/samples.csv, line 2|run_id|2 runs");
}

static void unknown_columns_are_passed_over(void **state)
{
    (void)state;
    mkdir("u", 0777);
    runs_put("u/results.csv", "w",
             "schema_version,run_id,case_id,humidity,row_seq,status,op,pass,dtype,shape,"
             "impl,thread_set,threads,cache_state,time_median_ns,flops\n"
             "7,r1,x,damp,1,ok,conv,fwd,f32,s,native,1,1,hot,100,not looked at\n");
    add("u", DLB_BASE);
    assert_int_equal(cases.rows, 1);
    assert_true(cases.row[0].median_ns == 100 && isnan(cases.row[0].gflops));
}

static void a_torn_end_makes_a_run_incomplete(void **state)
{
    (void)state;
    make_run("t", "run-t", 1e5, 3);
    runs_put("t/results.csv", "a", "1,run-t,x,4,ok,,con");
    runs_put("t/samples.csv", "a", "run-t,3,4,10");
    add("t", DLB_BASE);
    assert_int_equal(cases.rows, 3);
    assert_int_equal(cases.run[0].state, DLB_RUN_TORN);
    make_run("u", "run-u", 1e5, 3);
    add("u", DLB_NEW);
    assert_int_equal(dlb_cases_samples(&cases, &error), DLB_OK);
    assert_int_equal(cases.row[2].samples_n, 3);
    struct runs_writer *run = runs_open("v", "run-v", "machine", "abc", "interrupted");
    runs_write(run, (struct runs_row){0});
    runs_close(run);
    add("v", DLB_NEW);
    assert_int_equal(cases.run[2].state, DLB_RUN_UNFINISHED);
}

static void damage_is_named(void **state)
{
    (void)state;
    static const char head[] =
        "schema_version,run_id,case_id,row_seq,status,op,pass,dtype,"
        "shape,impl,thread_set,threads,cache_state,time_median_ns\n";
    static const struct {
        const char *rows, *words;
    } damaged[] = {
        {"1,r,x,1,ok,conv,fwd,f32,s,native,1,1,hot,fast\n", "line 2|time_median_ns|fast"},
        {"1,r,x,1,ok,conv,fwd,f32,s,native,1,1,hot,nan\n", "line 2|time_median_ns|nan"},
        {"1,r,x,1,ok,conv,fwd,f32,s,native,1,1,hot,0\n", "line 2|0 ns|above 0"},
        {"1,r,x,1,ok,conv,fwd,f32,s,native,1,1,hot,-5\n", "line 2|-5 ns"},
        {"1,r,x,1,ok,conv,fwd,f32,s,native,1,two,hot,5\n", "line 2|threads|two"},
        {"1,r,x,1,ok,conv,fwd,f32,s,native,1,-1,hot,5\n", "line 2|-1 threads"},
        {"1,r,x,1,ok,conv,fwd,f32,s,native,1,1,hot\n", "line 2|13 cells|14 columns"},
        {"1,r,x,1,ok,conv,fwd,f32,s,native,1,1,hot,100\n"
         "1,r,x,2,ok,conv,fwd,f32,s,native,1,1,hot,100\n",
         "line 3|conv fwd s native|second time|row_seq 1"},
        {"", "no row"},
    };
    mkdir("d", 0777);
    for (size_t i = 0; i < sizeof damaged / sizeof *damaged; i++) {
        char words[256];
        runs_put("d/results.csv", "w", head);
        runs_put("d/results.csv", "a", damaged[i].rows);
        snprintf(words, sizeof words, "d/results.csv|%s", damaged[i].words);
        refuse("d", words);
    }
    runs_put("d/results.csv", "w", "schema_version,run_id,row_seq,op\n1,r,1,conv\n");
    refuse("d", "lacks the columns case_id, status, pass");
    runs_put("d/results.csv", "w", "");
    refuse("d", "d/results.csv has no header");
    runs_put("d/results.csv", "w", "{\"rows\": [1, 2]}\n");
    refuse("d", "d/results.csv");
    runs_put("d/results.csv", "w", "a,b\n1,\"2\n3,4\n5\n6\n7\n8\n9\n10\n11\n12\n13\n");
    refuse("d", "d/results.csv|");
    FILE *binary = fopen("d/results.csv", "w");
    fwrite("\x7f"
           "ELF\0\0\0\n",
           1, 8, binary);
    fclose(binary);
    refuse("d", "d/results.csv, line 1|NUL byte");
    refuse("nowhere", "nowhere|No such file");
    mkdir("empty", 0777);
    refuse("empty", "empty/results.csv|No such file");
    refuse("/dev/zero", "/dev/zero|not a regular file");
    make_run("j", "run-j", 1e5, 2);
    runs_put("j/manifest.json", "w", "{\"state\": \n");
    refuse("j", "j/manifest.json, line|JSON");
}

static void damaged_samples_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *rows, *words;
    } damaged[] = {
        {"run-s,1,1,slow,0\n", "line 2|ns|slow"},
        {"run-s,1,1,NaN,0\n", "line 2|ns|NaN"},
        {"run-s,1,1,0,0\n", "line 2|0 ns|above 0"},
        {"run-s,1,1,5,0\nrun-s,1,1,6,0\n", "line 3|sample 1 of row 1|second time"},
        {"run-s,1,1,5\n", "line 2|4 cells"},
    };
    make_run("s", "run-s", 1e5, 2);
    for (size_t i = 0; i < sizeof damaged / sizeof *damaged; i++) {
        char words[256];
        runs_put("s/samples.csv", "w", "run_id,row_seq,sample_idx,ns,contaminated\n");
        runs_put("s/samples.csv", "a", damaged[i].rows);
        snprintf(words, sizeof words, "s/samples.csv, %s", damaged[i].words);
        refuse("s", words);
    }
}

static void a_repeat_is_a_run_of_its_own(void **state)
{
    (void)state;
    make_run("a", "run-a", 1e5, 0);
    make_run("copy", "run-a", 1e5, 0);
    add("a", DLB_NEW);
    assert_int_equal(dlb_cases_add(&cases, "copy", DLB_NEW, &error), DLB_INVALID);
    assert_non_null(strstr(error.text, "copy holds the same run as a (run-a)"));
}

static void the_same_run_may_be_on_both_sides(void **state)
{
    (void)state;
    make_run("a", "run-a", 1e5, 0);
    add("a", DLB_BASE);
    add("a", DLB_NEW);
    assert_int_equal(cases.runs, 2);
}

/* A million rows: all the names are different, so that nothing is saved by sharing. */
static void write_many(const char *folder, const char *run_id, int rows)
{
    char path[64];
    mkdir(folder, 0777);
    snprintf(path, sizeof path, "%s/results.csv", folder);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs("schema_version,run_id,case_id,row_seq,status,op,pass,dtype,shape,impl,thread_"
          "set,"
          "threads,cache_state,time_median_ns,time_ci_lo_ns,time_ci_hi_ns,ci_level\n",
          file);
    for (int i = 0; i < rows; i++)
        fprintf(file,
                "1,%s,0123456789abcdef,%d,ok,conv,fwd,f32,mb%dic64ih56oc64kh3ph1,native,"
                "cores,2,hot,%d,99000,200000,0.95\n",
                run_id, i + 1, i + 1, 100000 + i % 1000);
    assert_int_equal(fclose(file), 0);
}

static void a_million_rows_fit(void **state)
{
    (void)state;
    int rows = SANITIZED ? 50000 : 500000;
    write_many("big", "run-1", rows);
    write_many("bigger", "run-2", rows);
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        bool fine = !dlb_cases_add(&cases, "big", DLB_BASE, &error) &&
                    !dlb_cases_add(&cases, "bigger", DLB_NEW, &error) &&
                    !dlb_cases_samples(&cases, &error) && cases.items == rows &&
                    cases.rows == 2 * rows;
        _exit(!fine);
    }
    int how;
    struct rusage usage;
    assert_int_equal(wait4(child, &how, 0, &usage), child);
    assert_true(WIFEXITED(how) && !WEXITSTATUS(how));
    if (!SANITIZED)
        assert_in_range(usage.ru_maxrss, 1, 700 << 10);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_teardown(fn, release)
    const struct CMUnitTest tests[] = {
        TEST(rows_are_joined_by_case),
        TEST(samples_are_kept_of_shared_cases_only),
        TEST(one_file_may_hold_several_runs),
        TEST(unknown_columns_are_passed_over),
        TEST(a_torn_end_makes_a_run_incomplete),
        TEST(damage_is_named),
        TEST(damaged_samples_are_named),
        TEST(a_repeat_is_a_run_of_its_own),
        TEST(the_same_run_may_be_on_both_sides),
        TEST(a_million_rows_fit),
    };
#undef TEST
    return cmocka_run_group_tests(tests, runs_begin, runs_end);
}
