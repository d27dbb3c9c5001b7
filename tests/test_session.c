/* The whole route, through real kernels and through kernels that are wrong on purpose. */
#include "machine/environment.h"
#include "measure/session.h"
#include "ops/conv.h"
#include "record/manifest.h"
#include "record/rows.h"
#include "record/run.h"
#include "suite/descriptor.h"
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
static void call_operator(struct call *call, const struct dlb_operator *table,
                          const volatile int *stop, const char *words)
{
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
                                .operators = table,
                                .operators_n = 1};
    call->exit_status = DLB_EXIT_USAGE;
    call->status = dlb_options_parse(call->argc, call->argv, &options, &call->error);
    if (!call->status)
        call->status = dlb_session_run(&options, &io, &call->exit_status, &call->error);
    fclose(out);
    fclose(nowhere);
}

static void call_with(struct call *call, const struct dlb_op *op,
                      const volatile int *stop, const char *words)
{
    struct dlb_operator table = {op, &dlb_reference_conv, "smoke.csv"};
    call_operator(call, &table, stop, words);
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
    /* The one that loses more comes first. */
    double lost[2];
    for (int i = 0; i < 2; i++)
        lost[i] = dlb_row_get_real(&rows.row[i * sides], DLB_COL_TIME_MEDIAN_NS) *
                  (1 - dlb_row_get_real(&rows.row[i * sides], DLB_COL_ROOF_FRAC));
    const char *held = strstr(call.screen, "What holds it back");
    assert_non_null(held);
    const char *one = strstr(held, "mb1ic16ih8"), *other = strstr(held, "ic3ih9");
    assert_true(one && other && (one < other) == (lost[0] > lost[1]));
    assert_null(strstr(held, "threads that wait"));
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

static void bad_input_is_refused_before_anything_is_written(void **state)
{
    (void)state;
    static const struct {
        const char *words, *says;
    } bad[] = {
        {"--op convv", "'convv' (did you mean 'conv'?); accepted: conv."},
        {"--op conv --pass fwd_train", "accepted: fwd, bwd_data, bwd_weights, all."},
        {"--op conv --shape mb1ic8ih8oc8kh1 --candidate direct/mr999/nr7", "refused for"},
        {"--op conv --shape mb1ic8ih8oc8kh1 --candidate direkt", "unknown algorithm"},
        {"--op conv --shape mb1ic8ih8oc8kh1 --export gbench=/nowhere/x", "/nowhere/x"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct call call;
        char words[512], path[300];
        make_folder();
        snprintf(path, sizeof path, "%s/run", folder);
        snprintf(words, sizeof words, "%s --threads 1 --out %s", bad[i].words, path);
        call_with(&call, &dlb_op_conv, NULL, words);
        assert_int_equal(call.status, DLB_INVALID);
        assert_int_equal(call.exit_status, DLB_EXIT_USAGE);
        if (!strstr(call.error.text, bad[i].says))
            fail_msg("'%s' is missing in: %s", bad[i].says, call.error.text);
        assert_string_equal(call.screen, "");
        assert_int_not_equal(access(path, F_OK), 0);
        release(&call);
        remove_folder();
    }
}

static void an_unwritable_place_is_found_before_the_ceilings(void **state)
{
    (void)state;
    struct call call;
    call_session(&call, "--op conv --shape mb1ic8ih8oc8kh1 --out /dev/null/run");
    assert_int_equal(call.exit_status, DLB_EXIT_USAGE);
    assert_non_null(strstr(call.error.text, "/dev/null"));
    assert_string_equal(call.screen, "");
    release(&call);
}

static void all_passes_are_those_of_the_operator(void **state)
{
    (void)state;
    struct call call;
    call_session(&call,
                 "--op conv --pass all --shape mb1ic4ih6oc8kh1 --threads 1 --check");
    assert_int_equal(call.exit_status, DLB_EXIT_OK);
    assert_non_null(strstr(call.screen, "3 problems "));
    release(&call);
    call_session(&call,
                 "--op conv --pass bwd --shape mb1ic4ih6oc8kh1 --threads 1 --check");
    assert_int_equal(call.exit_status, DLB_EXIT_OK);
    assert_non_null(strstr(call.screen, "2 problems "));
    release(&call);
}

/* A finished run of one problem with these rows, as another session would leave it. */
static void make_finished_run(const char *path, const char *status, double speedup)
{
    static char *argv[] = {"dlbench",         "--op",      "conv", "--shape",
                           "mb1ic4ih6oc8kh1", "--threads", "1"};
    struct dlb_error error = {0};
    struct dlb_run *run;
    struct dlb_topology *topology;
    char key[256];
    assert_int_equal(dlb_run_create(NULL, path, "shape", &run, &error), DLB_OK);
    for (int native = 1; native >= 0; native--) {
        struct dlb_row row = {0};
        dlb_row_text(&row, DLB_COL_STATUS, status);
        dlb_row_text(&row, DLB_COL_OP, "conv");
        dlb_row_text(&row, DLB_COL_PASS, "fwd");
        dlb_row_text(&row, DLB_COL_DTYPE, "f32");
        dlb_row_text(&row, DLB_COL_ACCURACY, "exact");
        dlb_row_text(&row, DLB_COL_SHAPE, "mb1ic4ih6oc8kh1");
        dlb_row_text(&row, DLB_COL_IMPL, native ? "native" : "onednn");
        dlb_row_text(&row, DLB_COL_THREAD_SET, "1");
        dlb_row_int(&row, DLB_COL_THREADS, 1);
        dlb_row_text(&row, DLB_COL_CACHE_STATE, "hot");
        dlb_row_real(&row, DLB_COL_TIME_MEDIAN_NS, native ? 1e6 : 1e6 * speedup);
        dlb_row_real(&row, DLB_COL_CI_LEVEL, 0.95);
        if (native) {
            dlb_row_real(&row, DLB_COL_SPEEDUP_VS_ONEDNN, speedup);
            dlb_row_real(&row, DLB_COL_SPEEDUP_CI_LO, speedup * 0.99);
            dlb_row_real(&row, DLB_COL_SPEEDUP_CI_HI, speedup * 1.01);
            dlb_row_real(&row, DLB_COL_NOISE_FLOOR, 0.1);
        }
        assert_int_equal(dlb_run_append(run, &row, &error), DLB_OK);
        dlb_row_release(&row);
    }
    assert_int_equal(dlb_topology_load(NULL, &topology, &error), DLB_OK);
    dlb_machine_key(topology, key);
    struct dlb_manifest manifest = {.state = "finished",
                                    .argc = sizeof argv / sizeof *argv,
                                    .argv = argv,
                                    .machine_key = key};
    assert_int_equal(dlb_run_manifest(run, &manifest, &error), DLB_OK);
    dlb_topology_release(topology);
    dlb_run_close(run);
}

static void a_finished_run_is_shown_again_and_left_as_it_is(void **state)
{
    (void)state;
    static const struct {
        const char *status;
        double speedup;
        const char *shown;
        int exit_status;
    } run[] = {
        {"ok", 2.0, "1 faster, 0 same, 0 slower", DLB_EXIT_OK},
        {"ok", 0.5, "0 faster, 0 same, 1 slower", DLB_EXIT_OK},
        {"ok", 1.05, "0 faster, 1 same, 0 slower", DLB_EXIT_OK}, /* within the floor */
        {"noisy", 2.0, "1 of them noisy", DLB_EXIT_NOISY},
        {"mismatch", 2.0, "2 mismatch", DLB_EXIT_MISMATCH},
    };
    if (!dlb_onednn_version())
        skip();
    for (size_t i = 0; i < sizeof run / sizeof *run; i++) {
        struct call call;
        char path[300], command[800];
        make_folder();
        snprintf(path, sizeof path, "%s/run", folder);
        make_finished_run(path, run[i].status, run[i].speedup);
        snprintf(command, sizeof command, "cp -r %s %s/copy", path, folder);
        assert_int_equal(system(command), 0);
        call_session(&call, "--resume %s", path);
        if (call.status)
            fail_msg("%s", call.error.text);
        if (!strstr(call.screen, run[i].shown))
            fail_msg("'%s' is missing in:\n%s", run[i].shown, call.screen);
        assert_int_equal(call.exit_status, run[i].exit_status);
        snprintf(command, sizeof command, "diff -r %s %s/copy", path, folder);
        assert_int_equal(system(command), 0);
        release(&call);
        remove_folder();
    }
}

static void what_has_the_same_to_say_is_said_once(void **state)
{
    (void)state;
    struct call call;
    call_session(&call, "--op conv --shape mb1ic4ih6oc8kh1 --threads 1 --check");
    const char *first = strstr(call.screen, "exact and dense");
    assert_non_null(first);
    assert_null(strstr(first + 1, "exact and dense"));
    release(&call);
}

/* oneDNN as it would be if it were wrong everywhere. */
static struct {
    const struct dlb_plan_class *right;
    struct dlb_plan_class wrong;
    float *out;
    int64_t n;
} broken;

static enum dlb_status broken_bind(struct dlb_plan *plan, void *const *tensor,
                                   const struct dlb_team *team, struct dlb_error *error)
{
    broken.out = tensor[DLB_CONV_DST];
    return broken.right->bind(plan, tensor, team, error);
}

static enum dlb_status broken_fetch(struct dlb_plan *plan, const struct dlb_team *team,
                                    struct dlb_error *error)
{
    enum dlb_status status = broken.right->fetch(plan, team, error);
    for (int64_t i = 0; i < broken.n; i++)
        broken.out[i] += 100;
    return status;
}

static enum dlb_status broken_onednn(const struct dlb_problem *problem, enum dlb_isa isa,
                                     int threads, int formulation, struct dlb_plan **plan,
                                     struct dlb_error *error)
{
    struct dlb_tensor tensor[DLB_TENSORS_MAX];
    enum dlb_status status =
        dlb_reference_conv.onednn(problem, isa, threads, formulation, plan, error);
    if (status)
        return status;
    dlb_op_conv.tensors(problem, tensor);
    broken.n = dlb_tensor_elements(&tensor[DLB_CONV_DST]);
    broken.right = (*plan)->class;
    broken.wrong = *broken.right;
    broken.wrong.bind = broken_bind;
    broken.wrong.fetch = broken_fetch;
    (*plan)->class = &broken.wrong;
    return DLB_OK;
}

static void a_wrong_onednn_is_judged_by_the_definition(void **state)
{
    (void)state;
    struct dlb_reference reference = dlb_reference_conv;
    struct dlb_operator table = {&dlb_op_conv, &reference, "smoke.csv"};
    struct call call;
    struct dlb_rows rows;
    char words[512], path[300];
    if (!dlb_onednn_version())
        skip();
    reference.onednn = broken_onednn;
    make_folder();
    snprintf(path, sizeof path, "%s/run", folder);
    snprintf(words, sizeof words,
             "--op conv --shape mb1ic4ih6oc8kh3ph1 --threads 1 --budget 1 --out %s",
             path);
    call_operator(&call, &table, NULL, words);
    if (call.status)
        fail_msg("%s", call.error.text);
    assert_int_equal(call.exit_status, DLB_EXIT_MISMATCH);
    read_rows(path, &rows);
    assert_int_equal(rows.rows_n, 2);
    if (!strcmp(dlb_row_get_text(&rows.row[0], DLB_COL_STATUS), "mismatch"))
        fail_msg("%s", dlb_row_get_text(&rows.row[0], DLB_COL_STATUS_REASON));
    assert_string_equal(dlb_row_get_text(&rows.row[0], DLB_COL_REFERENCE), "naive");
    assert_string_equal(dlb_row_get_text(&rows.row[1], DLB_COL_STATUS), "mismatch");
    dlb_rows_release(&rows);
    release(&call);
    remove_folder();
}

/* Cells of the native row of a run. */
static void read_native(const char *run, char tuned_from[16], char tiles[256],
                        char status[16])
{
    struct dlb_rows rows;
    char path[300];
    snprintf(path, sizeof path, "%s/%s", folder, run);
    read_rows(path, &rows);
    assert_true(rows.rows_n > 0);
    const struct dlb_row *row = &rows.row[0];
    snprintf(tuned_from, 16, "%s", dlb_row_get_text(row, DLB_COL_TUNED_FROM));
    snprintf(tiles, 256, "%s", dlb_row_get_text(row, DLB_COL_TILES));
    snprintf(status, 16, "%s", dlb_row_get_text(row, DLB_COL_STATUS));
    dlb_rows_release(&rows);
}

#define CACHED                                                                           \
    "--op conv --shape mb1ic8ih8oc8kh3ph1 --threads 1 --budget 1 --impl native "

static void tuned_tiles_are_used_again(void **state)
{
    (void)state;
    struct call call;
    char from[16], tiles[256], status[16], tuned[256], words[700], command[700];
    make_folder();
    call_session(&call, CACHED "--sweep --cache %s/tuning.csv --out %s/sweep", folder,
                 folder);
    assert_int_equal(call.status, DLB_OK);
    assert_null(strstr(call.screen, "tuning cache"));
    release(&call);
    read_native("sweep", from, tuned, status);
    assert_string_equal(from, "search");
    static const struct {
        const char *option, *from;
    } use[] = {{"", "cache"}, {"--no-cache", "default"}};
    for (int i = 0; i < 2; i++) {
        if (i)
            snprintf(words, sizeof words, CACHED "--no-cache --out %s/use%d", folder, i);
        else
            snprintf(words, sizeof words, CACHED "--cache %s/tuning.csv --out %s/use%d",
                     folder, folder, i);
        call_with(&call, &dlb_op_conv, NULL, words);
        assert_int_equal(call.status, DLB_OK);
        assert_int_equal(!strstr(call.screen, "1 problem tuned here"), i);
        release(&call);
        snprintf(words, sizeof words, "use%d", i);
        read_native(words, from, tiles, status);
        assert_string_equal(from, use[i].from);
        if (!i)
            assert_string_equal(tiles, tuned);
    }
    /* Another machine's are not. */
    snprintf(command, sizeof command, "sed 's/ cores / socks /' %s/tuning.csv >%s/other",
             folder, folder);
    assert_int_equal(system(command), 0);
    call_session(&call, CACHED "--cache %s/other --out %s/other-run", folder, folder);
    assert_int_equal(call.status, DLB_OK);
    assert_non_null(strstr(call.screen, "ignored: 1 of another machine"));
    release(&call);
    read_native("other-run", from, tiles, status);
    assert_string_equal(from, "default");
    remove_folder();
}

/* What is wrong with one candidate only. */
static char poisoned_tiles[DLB_SHAPE_MAX];

static enum dlb_status plan_poisoned(const struct dlb_problem *problem,
                                     const struct dlb_target *target,
                                     const struct dlb_candidate *candidate,
                                     struct dlb_plan **plan, struct dlb_error *error)
{
    char tiles[DLB_SHAPE_MAX];
    dlb_candidate_format(&dlb_op_conv, candidate, tiles);
    return strcmp(tiles, poisoned_tiles)
               ? dlb_op_conv.plan(problem, target, candidate, plan, error)
               : dlb_wrong_plans[0].plan(problem, target, candidate, plan, error);
}

static void a_winner_that_is_wrong_now_is_dropped_and_tuned_anew(void **state)
{
    (void)state;
    struct call call;
    struct dlb_op op = dlb_op_conv;
    char from[16], tiles[256], status[16], words[700];
    make_folder();
    call_session(&call, CACHED "--sweep --cache %s/tuning.csv --out %s/sweep", folder,
                 folder);
    assert_int_equal(call.status, DLB_OK);
    release(&call);
    read_native("sweep", from, poisoned_tiles, status);
    op.plan = plan_poisoned;
    snprintf(words, sizeof words, CACHED "--cache %s/tuning.csv --out %s/poisoned",
             folder, folder);
    call_with(&call, &op, NULL, words);
    assert_int_equal(call.status, DLB_OK);
    assert_int_equal(call.exit_status, DLB_EXIT_MISMATCH);
    release(&call);
    read_native("poisoned", from, tiles, status);
    assert_string_equal(from, "search");
    assert_string_not_equal(tiles, poisoned_tiles);
    assert_string_not_equal(status, "mismatch");
    /* The new winner is known, and the wrong one is not tried again. */
    snprintf(words, sizeof words, CACHED "--cache %s/tuning.csv --out %s/after", folder,
             folder);
    call_with(&call, &op, NULL, words);
    assert_int_not_equal(call.exit_status, DLB_EXIT_MISMATCH);
    release(&call);
    read_native("after", from, tiles, status);
    assert_string_equal(from, "cache");
    assert_string_not_equal(tiles, poisoned_tiles);
    remove_folder();
}

static void a_stale_entry_is_raced_again(void **state)
{
    (void)state;
    struct call call;
    char from[16], tiles[256], status[16], command[700];
    make_folder();
    call_session(&call, CACHED "--sweep --cache %s/tuning.csv --out %s/sweep", folder,
                 folder);
    release(&call);
    snprintf(command, sizeof command,
             "sed -i 's/,Linux [^,]*,/,Linux 0.1,/' %s/tuning.csv", folder);
    assert_int_equal(system(command), 0);
    for (int again = 0; again < 2; again++) {
        call_session(&call, CACHED "--cache %s/tuning.csv --out %s/run%d", folder, folder,
                     again);
        assert_int_equal(call.status, DLB_OK);
        assert_int_equal(!!strstr(call.screen, "candidates verified and timed"), !again);
        release(&call);
        snprintf(command, sizeof command, "run%d", again);
        read_native(command, from, tiles, status);
        assert_string_equal(from, "cache");
    }
    remove_folder();
}

static void a_cache_file_must_be_one(void **state)
{
    (void)state;
    struct call call;
    make_folder();
    call_session(&call, CACHED "--cache %s/configs/smoke.csv --out %s/run",
                 DLBENCH_SOURCE_DIR, folder);
    assert_int_equal(call.status, DLB_INVALID);
    assert_int_equal(call.exit_status, DLB_EXIT_USAGE);
    assert_non_null(strstr(call.error.text, "smoke.csv"));
    release(&call);
    remove_folder();
}

static void the_space_of_a_problem_adds_up(void **state)
{
    (void)state;
    static const char *const asked[] = {
        "list tiles --op conv --shape mb1ic64ih14oc64kh3ph1 --threads 1",
        "list tiles --op conv --shape mb1ic64ih14oc64kh3ph1 --threads 8 --topology "
        "pack:2+core:4+pu:1"};
    struct dlb_operator table = {&dlb_op_conv, &dlb_reference_conv, "smoke.csv"};
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        struct call call = {0};
        struct dlb_options options;
        size_t size;
        int legal, raw, sum = 0, shown = 0;
        snprintf(call.words, sizeof call.words, "dlbench %s", asked[i]);
        for (char *word = strtok(call.words, " "); word; word = strtok(NULL, " ")) {
            call.argv[call.argc++] = word;
            for (char *at = word; (at = strchr(at, '+')); at++)
                *at = ' ';
        }
        FILE *out = open_memstream(&call.screen, &size);
        struct dlb_session_io io = {.out = out, .operators = &table, .operators_n = 1};
        call.status = dlb_options_parse(call.argc, call.argv, &options, &call.error) ||
                      dlb_session_tiles(&options, &io, &call.error);
        fclose(out);
        if (call.status)
            fail_msg("%s", call.error.text);
        const char *counts = strstr(call.screen, ": ");
        assert_non_null(counts);
        assert_int_equal(sscanf(counts, ": %d of %d points", &legal, &raw), 2);
        assert_true(legal > 0 && legal < raw);
        const char *order = strstr(call.screen, "  tried in this order");
        assert_non_null(order);
        assert_non_null(strstr(order, "(the default)"));
        for (const char *line = call.screen; line; line = strchr(line, '\n')) {
            int number;
            line += *line == '\n';
            if (sscanf(line, "  %d", &number) != 1)
                continue;
            sum += line < order ? number : 0;
            shown += line > order;
        }
        assert_int_equal(legal + sum, raw);
        assert_int_equal(shown, legal < 12 ? legal : 12);
        release(&call);
    }
}

/* The user's own tuning cache is neither read nor written by the tests. */
static char home[] = "/tmp/dlbench-home-XXXXXX";

static int leave_home(void **state)
{
    (void)state;
    return !mkdtemp(home) || setenv("XDG_CACHE_HOME", home, 1);
}

static int remove_home(void **state)
{
    (void)state;
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", home);
    return system(command);
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
        cmocka_unit_test(bad_input_is_refused_before_anything_is_written),
        cmocka_unit_test(an_unwritable_place_is_found_before_the_ceilings),
        cmocka_unit_test(all_passes_are_those_of_the_operator),
        cmocka_unit_test(a_finished_run_is_shown_again_and_left_as_it_is),
        cmocka_unit_test(what_has_the_same_to_say_is_said_once),
        cmocka_unit_test(a_wrong_onednn_is_judged_by_the_definition),
        cmocka_unit_test(tuned_tiles_are_used_again),
        cmocka_unit_test(a_winner_that_is_wrong_now_is_dropped_and_tuned_anew),
        cmocka_unit_test(a_stale_entry_is_raced_again),
        cmocka_unit_test(a_cache_file_must_be_one),
        cmocka_unit_test(the_space_of_a_problem_adds_up),
    };
    return cmocka_run_group_tests(tests, leave_home, remove_home);
}
