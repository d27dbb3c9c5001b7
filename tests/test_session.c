/* The whole route, through real kernels and through kernels that are wrong on purpose. */
#include "measure/session.h"
#include "ops/conv.h"
#include "record/manifest.h"
#include "record/rows.h"
#include "wrong_plans.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { WORDS_MAX = 40 };

/* One call of the session, as main would make it. */
struct call {
    char words[1024];
    char *argv[WORDS_MAX];
    int argc;
    int exit_status;
    enum dlb_status status;
    struct dlb_error error;
    char *screen; /* owned */
};

static char folder[256];

static void make_folder(void)
{
    snprintf(folder, sizeof folder, "/tmp/dlbench-session-XXXXXX");
    assert_non_null(mkdtemp(folder));
}

static void remove_folder(void)
{
    char command[300];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    assert_int_equal(system(command), 0);
}

/* words: separated by spaces; a + stands for a space within a word. */
static void call_with(struct call *call, const struct dlb_op *op,
                      const volatile int *stop, const char *words)
{
    struct dlb_operator table = {op, &dlb_reference_conv, "smoke.csv"};
    struct dlb_options options;
    size_t size;
    *call = (struct call){0};
    snprintf(call->words, sizeof call->words, "dlbench %s", words);
    for (char *word = strtok(call->words, " "); word; word = strtok(NULL, " ")) {
        call->argv[call->argc++] = word;
        for (char *at = word; (at = strchr(at, '+')); at++)
            *at = ' ';
    }
    FILE *out = open_memstream(&call->screen, &size), *nowhere = fopen("/dev/null", "w");
    struct dlb_session_io io = {.out = out,
                                .progress = nowhere,
                                .stop = stop,
                                .argc = call->argc,
                                .argv = call->argv,
                                .operators = &table,
                                .operators_n = 1};
    call->exit_status = DLB_EXIT_USAGE;
    call->status = dlb_options_parse(call->argc, call->argv, &options, &call->error);
    if (!call->status)
        call->status = dlb_session_run(&options, &io, &call->exit_status, &call->error);
    fclose(out);
    fclose(nowhere);
}

static void call_session(struct call *call, const char *format, ...)
{
    char words[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(words, sizeof words, format, arguments);
    va_end(arguments);
    call_with(call, &dlb_op_conv, NULL, words);
}

static void release(struct call *call)
{
    free(call->screen);
}

static void read_rows(const char *run, struct dlb_rows *rows)
{
    struct dlb_error error = {0};
    if (dlb_rows_read(run, rows, &error))
        fail_msg("%s", error.text);
}

static void a_right_kernel_makes_a_whole_run(void **state)
{
    (void)state;
    struct call call;
    struct dlb_rows rows;
    char path[300];
    struct stat entry;
    make_folder();
    call_session(&call,
                 "--op conv --shape mb1ic16ih8oc16kh3ph1n\"one\" --shape mb2ic3ih9oc5kh1 "
                 "--sweep --threads 1 --budget 3 --out %s/run",
                 folder);
    if (call.status)
        fail_msg("%s", call.error.text);
    assert_true(call.exit_status == DLB_EXIT_OK || call.exit_status == DLB_EXIT_NOISY);
    snprintf(path, sizeof path, "%s/run", folder);
    read_rows(path, &rows);
    int sides = dlb_onednn_version() ? 2 : 1;
    assert_int_equal(rows.rows_n, 2 * sides);
    for (int i = 0; i < rows.rows_n; i++) {
        const struct dlb_row *row = &rows.row[i];
        const char *status = dlb_row_get_text(row, DLB_COL_STATUS);
        assert_true(!strcmp(status, "ok") || !strcmp(status, "noisy"));
        assert_string_equal(dlb_row_get_text(row, DLB_COL_IMPL),
                            i % sides ? "onednn" : "native");
        assert_int_equal(dlb_row_get_int(row, DLB_COL_THREADS), 1);
        assert_true(dlb_row_get_real(row, DLB_COL_FLOPS) > 0);
    }
    assert_string_equal(dlb_row_get_text(&rows.row[0], DLB_COL_SHAPE_NAME), "one");
    assert_string_equal(dlb_row_get_text(&rows.row[0], DLB_COL_TUNED_FROM), "search");
    static const char *const files[] = {"results.csv", "trials.csv", "samples.csv",
                                        "manifest.json", "topology.xml"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "%s/run/%s", folder, files[i]);
        assert_int_equal(stat(path, &entry), 0);
        assert_true(entry.st_size > 0);
    }
    dlb_rows_release(&rows);
    release(&call);
    remove_folder();
}

/* The text between the backquote-free marker and the end: the line that reproduces. */
static void find_repro(const struct dlb_row *row, char *words, size_t room)
{
    static const char marker[] = "reproduce with: ./dlbench ";
    const char *at = strstr(dlb_row_get_text(row, DLB_COL_STATUS_REASON), marker);
    assert_non_null(at);
    snprintf(words, room, "%s", at + sizeof marker - 1);
}

static void every_wrong_kernel_is_caught_and_can_be_reproduced(void **state)
{
    (void)state;
    for (int i = 0; i < dlb_wrong_plans_n; i++) {
        struct dlb_op op = dlb_op_conv;
        struct call call, again;
        struct dlb_rows rows;
        char words[1024], path[300];
        bool several = dlb_wrong_plans[i].when == DLB_WRONG_SEVERAL;
        op.plan = dlb_wrong_plans[i].plan;
        make_folder();
        snprintf(words, sizeof words,
                 "--op conv --shape mb1ic4ih6oc8kh3ph1bias1 --threads %s --oversubscribe "
                 "--budget 1 "
                 "--out %s/run",
                 several ? "2" : "1", folder);
        call_with(&call, &op, NULL, words);
        if (call.status)
            fail_msg("%s: %s", dlb_wrong_plans[i].name, call.error.text);
        if (call.exit_status != DLB_EXIT_MISMATCH)
            fail_msg("%s was not caught: exit status %d\n%s", dlb_wrong_plans[i].name,
                     call.exit_status, call.screen);
        snprintf(path, sizeof path, "%s/run", folder);
        read_rows(path, &rows);
        const struct dlb_row *row = &rows.row[0];
        assert_string_equal(dlb_row_get_text(row, DLB_COL_IMPL), "native");
        assert_string_equal(dlb_row_get_text(row, DLB_COL_STATUS), "mismatch");
        assert_false(row->cell[DLB_COL_TIME_MEDIAN_NS].set);
        assert_non_null(strstr(dlb_row_get_text(row, DLB_COL_STATUS_REASON),
                               dlb_wrong_plans[i].reason));
        find_repro(row, words, sizeof words);
        if (dlb_wrong_plans[i].when != DLB_WRONG_AFTER_TIMING) {
            strcat(words, " --oversubscribe");
            call_with(&again, &op, NULL, words);
            if (again.exit_status != DLB_EXIT_MISMATCH)
                fail_msg("%s was not reproduced by: %s\n%s", dlb_wrong_plans[i].name,
                         words, again.error.text);
            release(&again);
        }
        dlb_rows_release(&rows);
        release(&call);
        remove_folder();
    }
}

static void a_sweep_over_wrong_candidates_has_no_winner(void **state)
{
    (void)state;
    struct dlb_op op = dlb_op_conv;
    struct call call;
    struct dlb_rows rows;
    char words[512], path[300];
    op.plan = dlb_wrong_plans[0].plan;
    make_folder();
    snprintf(words, sizeof words,
             "--op conv --shape mb1ic4ih6oc8kh3ph1 --threads 1 --sweep --budget 2 --out "
             "%s/run",
             folder);
    call_with(&call, &op, NULL, words);
    assert_int_equal(call.status, DLB_OK);
    assert_int_equal(call.exit_status, DLB_EXIT_MISMATCH);
    snprintf(path, sizeof path, "%s/run", folder);
    read_rows(path, &rows);
    assert_string_equal(dlb_row_get_text(&rows.row[0], DLB_COL_STATUS), "mismatch");
    dlb_rows_release(&rows);
    release(&call);
    remove_folder();
}

static void checking_writes_nothing_and_times_nothing(void **state)
{
    (void)state;
    struct call call;
    call_session(&call,
                 "--op conv --shape mb1ic4ih6oc8kh3ph1 --threads 1 --sweep --check");
    assert_int_equal(call.status, DLB_OK);
    assert_int_equal(call.exit_status, DLB_EXIT_OK);
    assert_null(strstr(call.screen, "Run folder"));
    assert_non_null(strstr(call.screen, "candidates verified"));
    release(&call);
}

static void an_interrupted_run_is_completed_by_resume(void **state)
{
    (void)state;
    struct call call;
    struct dlb_rows rows;
    char words[512], path[300];
    volatile int stop = 1;
    make_folder();
    snprintf(words, sizeof words,
             "--op conv --shape mb1ic8ih8oc8kh1 --shape mb1ic4ih6oc8kh3 --threads 1 "
             "--budget 1 "
             "--out %s/run",
             folder);
    call_with(&call, &dlb_op_conv, &stop, words);
    assert_int_equal(call.status, DLB_OK);
    assert_int_equal(call.exit_status, DLB_EXIT_INCOMPLETE);
    assert_non_null(strstr(call.screen, "--resume"));
    release(&call);
    snprintf(path, sizeof path, "%s/run", folder);
    for (int round = 0; round < 2; round++) {
        /* The second time there is nothing left to do. */
        call_session(&call, "--resume %s/run", folder);
        if (call.status)
            fail_msg("%s", call.error.text);
        assert_int_not_equal(call.exit_status, DLB_EXIT_INCOMPLETE);
        release(&call);
        read_rows(path, &rows);
        assert_int_equal(rows.rows_n, dlb_onednn_version() ? 4 : 2);
        dlb_rows_release(&rows);
    }
    remove_folder();
}

static void a_run_of_another_machine_is_not_resumed(void **state)
{
    (void)state;
    struct call call;
    char command[600];
    make_folder();
    call_session(&call,
                 "--op conv --shape mb1ic8ih8oc8kh1 --threads 1 --budget 1 --out %s/run",
                 folder);
    assert_int_equal(call.status, DLB_OK);
    release(&call);
    snprintf(command, sizeof command,
             "sed -i 's/\"machine_key\":.*/\"machine_key\": \"another\",/' %s/run/%s",
             folder, DLB_MANIFEST_FILE);
    assert_int_equal(system(command), 0);
    call_session(&call, "--resume %s/run", folder);
    assert_int_equal(call.status, DLB_INVALID);
    assert_non_null(strstr(call.error.text, "another machine"));
    release(&call);
    remove_folder();
}

static void a_problem_beyond_memory_is_skipped(void **state)
{
    (void)state;
    struct call call;
    struct dlb_rows rows;
    char path[300];
    make_folder();
    call_session(&call,
                 "--op conv --shape mb200000ic64ih128oc64kh1 --threads 1 --out %s/run",
                 folder);
    if (call.status)
        fail_msg("%s", call.error.text);
    snprintf(path, sizeof path, "%s/run", folder);
    read_rows(path, &rows);
    assert_true(rows.rows_n > 0);
    assert_string_equal(dlb_row_get_text(&rows.row[0], DLB_COL_STATUS), "skipped");
    assert_non_null(strstr(dlb_row_get_text(&rows.row[0], DLB_COL_STATUS_REASON), "GiB"));
    dlb_rows_release(&rows);
    release(&call);
    remove_folder();
}

static void another_machine_can_only_be_planned_for(void **state)
{
    (void)state;
    struct call call;
    make_folder();
    call_session(&call, "--op conv --sweep --topology pack:2+core:4+pu:2 --dry-run");
    if (call.status)
        fail_msg("%s", call.error.text);
    assert_int_equal(call.exit_status, DLB_EXIT_OK);
    assert_non_null(strstr(call.screen, "8"));
    release(&call);
    call_session(&call, "--op conv --topology pack:2+core:4+pu:2");
    assert_int_equal(call.status, DLB_INVALID);
    assert_int_equal(call.exit_status, DLB_EXIT_USAGE);
    release(&call);
    remove_folder();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_right_kernel_makes_a_whole_run),
        cmocka_unit_test(every_wrong_kernel_is_caught_and_can_be_reproduced),
        cmocka_unit_test(a_sweep_over_wrong_candidates_has_no_winner),
        cmocka_unit_test(checking_writes_nothing_and_times_nothing),
        cmocka_unit_test(an_interrupted_run_is_completed_by_resume),
        cmocka_unit_test(a_run_of_another_machine_is_not_resumed),
        cmocka_unit_test(a_problem_beyond_memory_is_skipped),
        cmocka_unit_test(another_machine_can_only_be_planned_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
