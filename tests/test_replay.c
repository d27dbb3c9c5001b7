/* The search on recorded trials. */
#include "record/run.h"
#include "tune/replay.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { TIMED = 60, BEST = 37, WRONG = 20, REFUSED = 21, PRUNED = 22 };

static char folder[64];

static double true_ns(int candidate)
{
    return candidate == WRONG  ? 1e4
           : candidate == BEST ? 1e5
                               : 1.2e5 + 1e3 * (double)(candidate * 7 % TIMED);
}

/* The candidate's n-th record: samples 1, 3 and 9, slower at first. */
static double recorded_ns(int candidate, int record)
{
    return true_ns(candidate) * (1 + 0.02 * (2 - record));
}

static void record(struct dlb_run *run, const char *thread_set, int candidate,
                   const char *outcome, int samples, double best_ns)
{
    char text[32];
    snprintf(text, sizeof text, "direct/mr%d", candidate);
    struct dlb_trial trial = {.op = "conv",
                              .pass = "fwd",
                              .shape = "mb1ic8ih8oc8kh1",
                              .thread_set = thread_set,
                              .candidate = text,
                              .outcome = outcome,
                              .reason = "",
                              .rung = 0,
                              .samples = samples,
                              .best_ns = best_ns,
                              .model_ns = 1e5 + candidate};
    assert_int_equal(dlb_run_trial(run, &trial, NULL), DLB_OK);
}

static int make_recording(void **state)
{
    (void)state;
    static const char *const sets[] = {"1", "2"};
    struct dlb_run *run;
    struct dlb_error error = {""};
    snprintf(folder, sizeof folder, "/tmp/dlbench-replay-XXXXXX");
    assert_non_null(mkdtemp(folder));
    if (dlb_run_create(NULL, folder, "replay", &run, &error))
        fail_msg("%s", error.text);
    for (int s = 0; s < 2; s++)
        for (int round = 0; round < 3; round++)
            for (int i = 0; i < TIMED; i++) {
                if (i == WRONG || i == REFUSED || i == PRUNED) {
                    if (!round)
                        record(run, sets[s], i,
                               i == WRONG     ? "mismatch"
                               : i == REFUSED ? "refused"
                                              : "pruned",
                               0, NAN);
                } else if (s || !round) {
                    static const int samples[] = {1, 3, 9};
                    record(run, sets[s], i, "timed", samples[round],
                           s ? recorded_ns(i, round) : true_ns(i));
                }
            }
    dlb_run_close(run);
    return 0;
}

static int remove_recording(void **state)
{
    (void)state;
    char command[96];
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

static void candidates_are_read_with_all_their_times(void **state)
{
    (void)state;
    struct dlb_recording *recording;
    struct dlb_error error = {""};
    char file[96];
    int n;
    snprintf(file, sizeof file, "%s/trials.csv", folder);
    if (dlb_replay_read(file, &recording, &n, &error))
        fail_msg("%s", error.text);
    assert_int_equal(n, 2);
    assert_string_equal(recording[0].thread_set, "1");
    assert_string_equal(recording[1].thread_set, "2");
    assert_string_equal(recording[1].op, "conv");
    assert_string_equal(recording[1].shape, "mb1ic8ih8oc8kh1");
    for (int r = 0; r < 2; r++) {
        assert_int_equal(recording[r].points, TIMED - 1);
        assert_int_equal(recording[r].untimed, 1);
    }
    const struct dlb_recorded_point *point = &recording[1].point[5];
    assert_string_equal(point->candidate, "direct/mr5");
    assert_true(point->model_ns == 1e5 + 5);
    assert_int_equal(point->records, 3);
    assert_true(fabs(dlb_replay_best_ns(point) / true_ns(5) - 1) < 1e-9);
    struct dlb_timings timings = dlb_replay_timings(&recording[1]);
    for (int sample = 1; sample <= 20; sample++) {
        double ns, expected = recorded_ns(5, sample <= 1 ? 0 : sample <= 3 ? 1 : 2);
        assert_int_equal(timings.time(timings.context, 5, &ns, NULL), DLB_OK);
        assert_true(fabs(ns / expected - 1) < 1e-9);
    }
    dlb_replay_release(recording, n);
}

static void the_search_finds_the_best_recorded_and_does_so_again(void **state)
{
    (void)state;
    struct dlb_recording *recording;
    struct dlb_search_result result[2];
    int n;
    assert_int_equal(dlb_replay_read(folder, &recording, &n, NULL), DLB_OK);
    for (int r = 0; r < n; r++) {
        for (int k = 0; k < 2; k++)
            assert_int_equal(dlb_replay_search(&recording[r], INFINITY, &result[k], NULL),
                             DLB_OK);
        assert_true(result[0].found);
        assert_string_equal(recording[r].point[result[0].best[0]].candidate,
                            "direct/mr37");
        assert_int_equal(result[0].mismatched, 1);
        assert_int_equal(result[0].refused, 1);
        assert_int_equal(result[0].timed, TIMED - 3);
        assert_int_equal(result[0].samples, result[1].samples);
        assert_int_equal(result[0].best[0], result[1].best[0]);
        assert_true(result[0].seconds > 0 && result[0].seconds == result[1].seconds);
        /* A budget by the made-up clock: the model's first few, and BEST is not one. */
        assert_int_equal(dlb_replay_search(&recording[r], 0.02, &result[0], NULL),
                         DLB_OK);
        assert_in_range(result[0].timed, 4, TIMED / 2);
        assert_true(result[0].left_out > 0);
    }
    dlb_replay_release(recording, n);
}

static char *replay(const char *path, bool quiet, struct dlb_error *error)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    enum dlb_status status = dlb_replay_run(path, 0, quiet, out, error);
    fclose(out);
    if (!status)
        return text;
    assert_int_equal(size, 0);
    free(text);
    return NULL;
}

static void the_report_says_what_was_chosen(void **state)
{
    (void)state;
    char *text = replay(folder, false, NULL);
    assert_non_null(text);
    assert_non_null(strstr(text, "conv fwd mb1ic8ih8oc8kh1 on 2: direct/mr37, 100000 ns, "
                                 "0.00% above the best recorded (100000 ns); 57 of 59 "
                                 "tried"));
    assert_non_null(strstr(text, "2 searches replayed: above the best recorded by 0.00% "
                                 "in the median"));
    free(text);
    text = replay(folder, true, NULL);
    assert_non_null(text);
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
    free(text);
}

/* The run that is kept as a sample: its own searches had to find what it holds. */
static void the_kept_run_is_replayed(void **state)
{
    (void)state;
    struct dlb_recording *recording;
    struct dlb_error error = {""};
    int n;
    if (dlb_replay_read(DLBENCH_SOURCE_DIR "/results/sample", &recording, &n, &error))
        fail_msg("%s", error.text);
    assert_true(n > 0);
    for (int r = 0; r < n; r++) {
        struct dlb_search_result result;
        double best = INFINITY;
        assert_int_equal(dlb_replay_search(&recording[r], INFINITY, &result, NULL),
                         DLB_OK);
        assert_true(result.found);
        for (int i = 0; i < recording[r].points; i++)
            best = fmin(best, dlb_replay_best_ns(&recording[r].point[i]));
        double chosen = dlb_replay_best_ns(&recording[r].point[result.best[0]]);
        if (chosen > 1.02 * best)
            fail_msg("%s: %.2f %% above the best recorded", recording[r].shape,
                     100 * (chosen / best - 1));
    }
    dlb_replay_release(recording, n);
}

static void what_cannot_be_replayed_is_refused(void **state)
{
    (void)state;
    struct dlb_error error = {""};
    char path[96], line[512];
    assert_null(replay("/nowhere/trials.csv", false, &error));
    assert_non_null(strstr(error.text, "/nowhere/trials.csv"));
    snprintf(path, sizeof path, "%s/results.csv", folder);
    assert_null(replay(path, false, &error));
    assert_non_null(strstr(error.text, "candidate"));
    /* A header and nothing timed. */
    snprintf(path, sizeof path, "%s/trials.csv", folder);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_non_null(fgets(line, sizeof line, file));
    fclose(file);
    snprintf(path, sizeof path, "%s/empty.csv", folder);
    file = fopen(path, "w");
    assert_non_null(file);
    fputs(line, file);
    fclose(file);
    assert_null(replay(path, false, &error));
    assert_non_null(strstr(error.text, "empty.csv holds no candidate that was timed"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(candidates_are_read_with_all_their_times),
        cmocka_unit_test(the_search_finds_the_best_recorded_and_does_so_again),
        cmocka_unit_test(the_report_says_what_was_chosen),
        cmocka_unit_test(the_kept_run_is_replayed),
        cmocka_unit_test(what_cannot_be_replayed_is_refused),
    };
    return cmocka_run_group_tests(tests, make_recording, remove_recording);
}
