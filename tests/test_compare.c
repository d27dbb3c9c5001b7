#include "exit.h"
#include "judge/compare.h"
#include "machine/environment.h"
#include "record/csv.h"
#include "runs_fixture.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { SHAPES = 12 };

static struct dlb_options options;
static struct dlb_error error;
static char *report;
static int exit_status, reruns;
static char here[256]; /* the key of this machine */

static int begin(void **state)
{
    struct dlb_topology *topology = NULL;
    if (dlb_topology_load(NULL, &topology, NULL))
        return 1;
    dlb_machine_key(topology, here);
    dlb_topology_release(topology);
    return runs_begin(state);
}

static int forget(void **state)
{
    (void)state;
    free(report);
    report = NULL;
    return 0;
}

static int rerun_exit; /* status that re-runs end with */
static volatile int stop;
static double slow_factor = 1; /* of mb1ic3 in re-runs */
static const char *rerun_status = "ok";

static const char *argument(char *const *argv, const char *option)
{
    for (int i = 0; argv[i]; i++)
        if (!strcmp(argv[i], option))
            return argv[i + 1];
    return NULL;
}

/* Instead of this program: writes what it would have measured. */
static enum dlb_status rerun(void *context, char *const *argv, int *status,
                             struct dlb_error *why)
{
    char run_id[32];
    (void)why;
    *status = *(int *)context;
    snprintf(run_id, sizeof run_id, "again-%d", ++reruns);
    struct runs_writer *run =
        runs_open(argument(argv, "--out"), run_id, here, "c2", "finished");
    bool onednn = strstr(argument(argv, "--impl"), "onednn") != NULL;
    for (int i = 0; argv[i]; i++) {
        if (strcmp(argv[i], "--shape"))
            continue;
        bool slow = !strcmp(argv[i + 1], "mb1ic3");
        double ns = 1e6 * (slow ? slow_factor : 1) * (1 + 0.002 * (reruns % 3 - 1));
        runs_write(run, (struct runs_row){.shape = argv[i + 1],
                                          .ns = ns,
                                          .status = slow ? rerun_status : NULL,
                                          .samples = 20});
        if (onednn)
            runs_write(run, (struct runs_row){.shape = argv[i + 1],
                                              .impl = "onednn",
                                              .ns = 1e6 * (1 + 0.001 * (reruns % 3)),
                                              .samples = 20});
    }
    runs_close(run);
    return DLB_OK;
}

static enum dlb_status run(const char *format, const char *const *base, int bases,
                           const char *const *words, int words_n)
{
    size_t size;
    forget(NULL);
    struct dlb_compare_io io = {.out = open_memstream(&report, &size),
                                .stop = &stop,
                                .rerun = rerun,
                                .context = &rerun_exit};
    options.command = DLB_COMMAND_COMPARE;
    options.format = format;
    options.bases_n = bases;
    options.words_n = words_n;
    for (int i = 0; i < bases; i++)
        options.bases[i] = base[i];
    for (int i = 0; i < words_n; i++)
        options.words[i] = words[i];
    error.text[0] = '\0';
    enum dlb_status status = dlb_compare_run(&options, &io, &exit_status, &error);
    fclose(io.out);
    return status;
}

/* Words that stand in text (| between). */
static void holds(const char *text, const char *words)
{
    char copy[512], *rest = copy, *word;
    strcpy(copy, words);
    while ((word = strsep(&rest, "|")))
        if (!strstr(text, word))
            fail_msg("no '%s' in:\n%s", word, text);
}

static void compare(const char *base, const char *fresh, int expected, const char *words)
{
    const char *const both[] = {base, fresh};
    if (run(NULL, NULL, 0, both, 2))
        fail_msg("compare %s %s was refused: %s", base, fresh, error.text);
    holds(report, words);
    assert_int_equal(exit_status, expected);
}

static void refuse(const char *base, const char *fresh, const char *words)
{
    const char *const both[] = {base, fresh};
    if (!run(NULL, NULL, 0, both, 2))
        fail_msg("compare %s %s was not refused", base, fresh);
    assert_int_equal(exit_status, DLB_EXIT_USAGE);
    assert_string_equal(report, "");
    assert_int_equal(error.text[strlen(error.text) - 1], '.');
    holds(error.text, words);
}

/* A run of all shapes, with oneDNN beside ours; factor[shape], or 1 throughout. */
struct plan {
    double factor[SHAPES]; /* of ours; 0 is 1 */
    double machine;        /* of everything; 0 is 1 */
    const char *status[SHAPES];
    const char *state, *dtype, *accuracy, *cache_state, *machine_key, *commit;
    int left_out; /* so many shapes at the end */
    bool without_manifest;
};

static void make(const char *folder, const struct plan *plan)
{
    static int number;
    char run_id[64], shape[32];
    snprintf(run_id, sizeof run_id, "%s-%d", folder, ++number);
    struct runs_writer *out = runs_open(
        folder, run_id,
        plan->without_manifest ? NULL : (plan->machine_key ? plan->machine_key : here),
        plan->commit ? plan->commit : "c1", plan->state ? plan->state : "finished");
    for (int i = 0; i < SHAPES - plan->left_out; i++)
        for (int onednn = 0; onednn < 2; onednn++) {
            double luck = 1 + 0.002 * ((number * 7 + i * 3 + onednn) % 5 - 2);
            double factor = onednn || plan->factor[i] == 0 ? 1 : plan->factor[i];
            snprintf(shape, sizeof shape, "mb1ic%d", i);
            runs_write(
                out,
                (struct runs_row){
                    .shape = shape,
                    .impl = onednn ? "onednn" : "native",
                    .status = onednn ? NULL : plan->status[i],
                    .reason = !onednn && plan->status[i] ? "because of it" : "",
                    .dtype = plan->dtype,
                    .accuracy = plan->accuracy,
                    .cache_state = plan->cache_state,
                    .ns = 1e6 * luck * factor * (plan->machine == 0 ? 1 : plan->machine),
                    .samples = 30});
        }
    runs_close(out);
}

static const struct plan plain;

static void nothing_changed(void **state)
{
    (void)state;
    make("a", &plain);
    make("b", &plain);
    compare("a", "b", DLB_EXIT_OK,
            "BASE  a (c1)|NEW   b (c1)|12 cases: 12 same|12 oneDNN rows as controls|No "
            "regression of 5% or more|Median move");
    assert_null(strstr(report, "REGRESSION"));
}

static void a_regression_is_named_first(void **state)
{
    (void)state;
    make("a", &plain);
    make("b", &(struct plan){.factor[3] = 1.2, .factor[5] = 0.7, .commit = "c2"});
    compare("a", "b", DLB_EXIT_REGRESSION,
            "build.commit: c1 -> c2|conv fwd mb1ic3 native|1.2|regression|faster|"
            "REGRESSION: 1 case is slower by 5% or more");
    assert_true(strstr(report, "build.commit") < strstr(report, "mb1ic3"));
    assert_true(strstr(report, "mb1ic3 native") < strstr(report, "mb1ic5 native"));
    /* What changes by itself is no difference, and --out neither. */
    assert_null(strstr(report, "available"));
    assert_null(strstr(report, "options"));
    options.threshold_percent = 30;
    compare("a", "b", DLB_EXIT_OK, "No regression of 30%");
    options.threshold_percent = 0;
}

static void exit_statuses_are_as_listed(void **state)
{
    (void)state;
    make("a", &plain);
    make("wrong", &(struct plan){.status[2] = "mismatch", .factor[3] = 1.5});
    compare("a", "wrong", DLB_EXIT_MISMATCH,
            "mismatch: because of it|WRONG RESULTS in 1 case");
    make("less", &(struct plan){.left_out = 2});
    compare("a", "less", DLB_EXIT_INCOMPLETE, "only BASE|Incomplete");
    compare("less", "a", DLB_EXIT_OK, "only NEW");
    make("cut", &(struct plan){.state = "interrupted"});
    compare("a", "cut", DLB_EXIT_INCOMPLETE, "cut was not finished");
    compare("cut", "a", DLB_EXIT_OK, "cut was not finished");
    make("torn", &plain);
    runs_put("torn/results.csv", "a", "1,torn,");
    compare("a", "torn", DLB_EXIT_INCOMPLETE, "torn ends in a torn record");
    make("skipped", &(struct plan){.status[1] = "skipped"});
    compare("a", "skipped", DLB_EXIT_INCOMPLETE, "only BASE: because of it");
    struct plan noisy = {0};
    for (int i = 0; i < SHAPES; i++)
        noisy.status[i] = i < 8 ? "noisy" : NULL;
    make("noisy", &noisy);
    compare("a", "noisy", DLB_EXIT_NOISY, "8 noisy|Inconclusive");
    make("slow", &(struct plan){.machine = 1.08});
    compare("a", "slow", DLB_EXIT_ENVIRONMENT, "Environment changed|8.");
    assert_null(strstr(report, "regression\n"));
    /* A regression weighs more than what is missing. */
    make("both", &(struct plan){.left_out = 1, .factor[3] = 1.3});
    compare("a", "both", DLB_EXIT_REGRESSION, "only BASE|REGRESSION");
}

/* Three of BASE, three of NEW: their scatter is the noise. */
static void repeats_are_pooled(void **state)
{
    (void)state;
    static const char *const base[] = {"a1", "a2", "a3"};
    static const char *const fresh[] = {"b1", "b2", "b3"};
    for (int i = 0; i < 3; i++) {
        make(base[i], &plain);
        make(fresh[i], &(struct plan){.factor[3] = 1.1});
    }
    assert_int_equal(run(NULL, base, 3, fresh, 3), DLB_OK);
    assert_int_equal(exit_status, DLB_EXIT_REGRESSION);
    holds(report, "a1 (c1), a2 (c1), a3 (c1): 3 runs|b3 (c1): 3 runs|(repeats)");
    assert_int_equal(run("csv", base, 3, fresh, 3), DLB_OK);
    holds(report, "regression|mb1ic3,native,1,1,hot,3,3,90,90,");
    const char *const words[] = {"a1", "b1", "b2", "b3"};
    assert_int_equal(run("csv", NULL, 0, words, 4), DLB_OK);
    holds(report, "mb1ic3,native,1,1,hot,1,3,30,90,");
}

static void results_alone_are_enough(void **state)
{
    (void)state;
    make("a", &plain);
    make("b", &(struct plan){.factor[3] = 1.3, .without_manifest = true});
    unlink("b/samples.csv");
    compare("a", "b/results.csv", DLB_EXIT_REGRESSION, "b/results.csv has no manifest");
    rename("b/results.csv", "b/nightly.csv");
    compare("a", "b/nightly.csv", DLB_EXIT_REGRESSION, "mb1ic3");
}

static void what_must_not_be_mixed_is_refused(void **state)
{
    (void)state;
    make("a", &plain);
    make("cold", &(struct plan){.cache_state = "cold"});
    refuse("a", "cold", "cold|cache state cold|BASE with hot");
    make("wino", &(struct plan){.accuracy = "winograd"});
    refuse("a", "wino", "wino|accuracy class winograd|exact");
    make("bf16", &(struct plan){.dtype = "bf16"});
    refuse("a", "bf16", "bf16|data type bf16|f32");
    /* Also between machines. */
    make("far", &(struct plan){.cache_state = "cold", .machine_key = "server"});
    refuse("a", "far", "cache state");
    make("here", &plain);
    make("there", &(struct plan){.machine_key = "server"});
    const char *const words[] = {"a", "here", "there"};
    assert_int_equal(run(NULL, NULL, 0, words, 3), DLB_INVALID);
    holds(error.text, "here and there are from different machines");
    struct runs_writer *other = runs_open("other", "other", here, "c1", "finished");
    runs_write(other, (struct runs_row){.shape = "mb1ic99"});
    runs_close(other);
    refuse("a", "other", "no case in common|mb1ic99");
    refuse("a", "nowhere", "nowhere");
    const char *const one[] = {"a"};
    assert_int_equal(run(NULL, NULL, 0, one, 1), DLB_INVALID);
    holds(error.text, "a BASE and at least one NEW");
    assert_int_equal(run(NULL, one, 1, NULL, 0), DLB_INVALID);
    holds(error.text, "at least one NEW");
}

/* --- formats */

static const char *header[64];
static int columns, records;

static enum dlb_status check_record(void *context, const struct dlb_csv_record *record,
                                    struct dlb_error *why)
{
    (void)context, (void)why;
    if (!records++) {
        columns = record->cells_n;
        for (int i = 0; i < columns && i < 64; i++)
            header[i] = strdup(record->cells[i]);
    }
    assert_int_equal(record->cells_n, columns);
    return DLB_OK;
}

static void read_csv_report(void)
{
    columns = records = 0;
    runs_put("report.csv", "w", report);
    assert_int_equal(dlb_csv_read("report.csv", false, check_record, NULL, &error),
                     DLB_OK);
}

static void free_header(void)
{
    for (int i = 0; i < columns; i++)
        free((char *)header[i]);
}

static const cJSON *member(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!item)
        fail_msg("no %s", key);
    return item;
}

static void csv_and_json_have_every_case(void **state)
{
    (void)state;
    make("a", &plain);
    make("b", &(struct plan){.factor[3] = 1.2, .left_out = 1});
    const char *const both[] = {"a", "b"};
    assert_int_equal(run("csv", NULL, 0, both, 2), DLB_OK);
    assert_int_equal(exit_status, DLB_EXIT_REGRESSION);
    read_csv_report();
    assert_int_equal(records, 1 + 2 * SHAPES);
    assert_string_equal(header[0], "op");
    assert_string_equal(header[columns - 2], "verdict");
    assert_int_equal(run("json", NULL, 0, both, 2), DLB_OK);
    cJSON *root = cJSON_ParseWithOpts(report, NULL, true);
    assert_non_null(root);
    const cJSON *summary = member(root, "summary"), *cases = member(root, "cases");
    assert_true(member(summary, "exit_status")->valueint == DLB_EXIT_REGRESSION);
    assert_true(member(member(summary, "counts"), "regression")->valueint == 1);
    assert_int_equal(cJSON_GetArraySize(cases), 2 * SHAPES);
    const cJSON *first = cJSON_GetArrayItem(cases, 0);
    assert_string_equal(member(first, "verdict")->valuestring, "regression");
    assert_true(fabs(member(first, "ratio")->valuedouble - 1.2) < 0.02);
    assert_true(member(first, "ratio_ci_lo")->valuedouble <
                member(first, "ratio_ci_hi")->valuedouble);
    assert_true(member(first, "p_samples")->valuedouble < 1e-6);
    /* Columns and members have the same names. */
    for (int i = 0; i < columns; i++)
        member(first, header[i]);
    free_header();
    cJSON_Delete(root);
}

static void markdown_is_a_table(void **state)
{
    (void)state;
    make("a", &plain);
    make("b", &(struct plan){.factor[3] = 1.2, .status[4] = "mismatch"});
    const char *const both[] = {"a", "b"};
    assert_int_equal(run("md", NULL, 0, both, 2), DLB_OK);
    holds(report, "### WRONG RESULTS|- **BASE** a|| case | BASE | NEW ||---|--:|");
    int pipes = -1;
    for (const char *line = strstr(report, "\n| ") + 1; *line == '|';
         line = strchr(line, '\n') + 1) {
        int n = 0;
        for (const char *at = line; *at != '\n'; at++)
            n += *at == '|' && at[-1] != '\\';
        assert_true(pipes < 0 || n == pipes);
        pipes = n;
    }
    assert_int_equal(pipes, 9);
}

/* --- re-runs */

static void confirm(const char *base, const char *fresh, int expected, const char *words)
{
    reruns = 0;
    options.confirm = 5;
    compare(base, fresh, expected, words);
    options.confirm = 0;
}

static void what_holds_in_re_runs_is_confirmed(void **state)
{
    (void)state;
    make("a", &plain);
    make("b", &(struct plan){.factor[3] = 1.2});
    slow_factor = 1.19;
    confirm("a", "b", DLB_EXIT_REGRESSION,
            "regression: holds in the re-runs (1.19|confirmed by re-runs");
    assert_int_equal(reruns, 5);
    assert_int_equal(access("b-confirm-5/results.csv", F_OK), 0);
    assert_int_not_equal(access("b-confirm-6", F_OK), 0);
    /* Again: the folders of before stay. */
    slow_factor = 1;
    confirm("a", "b", DLB_EXIT_OK, "same: does not hold in the re-runs (1.00|No regress");
    assert_int_equal(access("b-confirm-10/results.csv", F_OK), 0);
}

static void nothing_is_re_run_without_suspects(void **state)
{
    (void)state;
    make("a", &plain);
    make("b", &plain);
    confirm("a", "b", DLB_EXIT_OK, "No regression");
    assert_int_equal(reruns, 0);
    make("slow", &(struct plan){.machine = 1.08});
    confirm("a", "slow", DLB_EXIT_ENVIRONMENT, "Environment");
    assert_int_equal(reruns, 0);
}

static void re_runs_may_be_wrong_or_fail(void **state)
{
    (void)state;
    make("a", &plain);
    make("w", &(struct plan){.factor[3] = 1.2});
    rerun_status = "mismatch";
    confirm("a", "w", DLB_EXIT_MISMATCH, "WRONG RESULTS");
    rerun_status = "noisy";
    confirm("a", "w", DLB_EXIT_NOISY, "suspect: could not be timed again");
    rerun_status = "ok";
    const char *const both[] = {"a", "w"};
    options.confirm = 2;
    rerun_exit = DLB_EXIT_USAGE;
    assert_int_equal(run(NULL, NULL, 0, both, 2), DLB_FAULT);
    assert_int_equal(exit_status, DLB_EXIT_INCOMPLETE);
    holds(error.text, "w-confirm-|exit status 2|not confirmed.");
    rerun_exit = DLB_EXIT_OK;
    stop = 1;
    assert_int_equal(run(NULL, NULL, 0, both, 2), DLB_INTERRUPTED);
    assert_int_equal(exit_status, DLB_EXIT_INCOMPLETE);
    stop = 0;
    /* Measured elsewhere: it cannot be run again here. */
    make("c", &(struct plan){.machine_key = "server"});
    make("d", &(struct plan){.machine_key = "server", .factor[3] = 1.2});
    options.confirm = 1;
    refuse("c", "d", "--confirm|server|leave it out");
    refuse("a", "d", "--confirm|two machines");
    options.confirm = 0;
}

/* --- two machines */

static void make_machine(const char *folder, const char *key, double speed, int threads,
                         double roof)
{
    struct runs_writer *out = runs_open(folder, folder, key, "c1", "finished");
    for (int t = 1; t <= threads; t *= 2)
        for (int onednn = 0; onednn < 2; onednn++) {
            /* mb1ic8 scales; mb1ic16 loses most of it beyond one thread. */
            runs_write(out, (struct runs_row){.shape = "mb1ic8",
                                              .impl = onednn ? "onednn" : NULL,
                                              .threads = t,
                                              .spread = 1e-9,
                                              .ns = 1e6 / speed / t * (1 + onednn),
                                              .gflops = 0.8 * roof * t,
                                              .roof_gflops = roof * t});
            runs_write(out, (struct runs_row){.shape = "mb1ic16",
                                              .impl = onednn ? "onednn" : NULL,
                                              .threads = t,
                                              .spread = 1e-9,
                                              .ns = 1e6 / speed / sqrt(sqrt(t)),
                                              .gflops = 0.5 * roof * sqrt(sqrt(t)),
                                              .roof_gflops = roof * t,
                                              .bound = "L2",
                                              .speedup = onednn ? 0 : 1.25});
        }
    runs_write(out, (struct runs_row){.shape = *folder == 'l' ? "mb1ic32" : "mb1ic64"});
    runs_close(out);
}

static void two_machines_stand_side_by_side(void **state)
{
    (void)state;
    make_machine("laptop", "small one", 1, 2, 50);
    make_machine("server", "big one", 2, 8, 100);
    compare(
        "laptop", "server", DLB_EXIT_OK,
        "small one; on 2 threads at most 100 GFLOP/s, memory 15 GB/s|big one|"
        "machine_key: small one -> big one|raw times|share of its own roof|"
        "native against oneDNN|speed over one thread|Only in BASE:\n  conv fwd mb1ic32|"
        "Only in NEW:\n  conv fwd mb1ic64");
    assert_true(strstr(report, "machine_key") < strstr(report, "raw times"));
    /* 8 times as fast where it scales: 8 times the roof. */
    holds(report, "500 us|62.5 us|8.00x|80%|8.00x = 8.00x the roof, 1.00x of it used|"
                  "synchronisation|1.25x|2.00x");
    /* The threads of the server lose more. */
    holds(report, "= 8.00x the roof, 0.35x of it used: 11% instead of 30%");
}

static void machines_in_csv_and_json(void **state)
{
    (void)state;
    make_machine("laptop", "small one", 1, 2, 50);
    make_machine("server", "big one", 2, 8, 100);
    const char *const both[] = {"laptop", "server"};
    assert_int_equal(run("csv", NULL, 0, both, 2), DLB_OK);
    read_csv_report();
    assert_int_equal(records, 1 + 4);
    holds(report, "base_threads|new_roof_frac|times_faster|used_ratio");
    free_header();
    assert_int_equal(run("json", NULL, 0, both, 2), DLB_OK);
    cJSON *root = cJSON_ParseWithOpts(report, NULL, true);
    assert_non_null(root);
    const cJSON *problems = member(root, "problems"), *scaling = member(root, "scaling");
    assert_int_equal(cJSON_GetArraySize(problems), 4);
    const cJSON *first = cJSON_GetArrayItem(problems, 0);
    assert_string_equal(member(first, "shape")->valuestring, "mb1ic8");
    assert_true(fabs(member(first, "times_faster")->valuedouble - 8) < 0.2);
    assert_string_equal(member(member(first, "new"), "bound")->valuestring, "compute");
    assert_int_equal(cJSON_GetArraySize(scaling), 3);
    assert_true(cJSON_IsNull(
        member(cJSON_GetArrayItem(scaling, 2), "base_speedup"))); /* 8 threads */
    const cJSON *alone = cJSON_GetArrayItem(problems, 3);
    assert_true(cJSON_IsNull(member(alone, "base")));
    cJSON_Delete(root);
    assert_int_equal(run("md", NULL, 0, both, 2), DLB_OK);
    holds(report, "### Two machines|| raw times | BASE | threads ||---|--:|");
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_teardown(fn, forget)
    const struct CMUnitTest tests[] = {
        TEST(nothing_changed),
        TEST(a_regression_is_named_first),
        TEST(exit_statuses_are_as_listed),
        TEST(repeats_are_pooled),
        TEST(results_alone_are_enough),
        TEST(what_must_not_be_mixed_is_refused),
        TEST(csv_and_json_have_every_case),
        TEST(markdown_is_a_table),
        TEST(what_holds_in_re_runs_is_confirmed),
        TEST(nothing_is_re_run_without_suspects),
        TEST(re_runs_may_be_wrong_or_fail),
        TEST(two_machines_stand_side_by_side),
        TEST(machines_in_csv_and_json),
    };
#undef TEST
    return cmocka_run_group_tests(tests, begin, runs_end);
}
