#include "measure/timer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct counter {
    int64_t calls, end_at;
};

static double count_round(void *context)
{
    struct counter *counter = context;
    return ++counter->calls == counter->end_at ? -1 : 1000;
}

static void test_runs_what_is_wanted(void **state)
{
    (void)state;
    static const int64_t wanted[] = {1, 2, 21, 1000, 100000};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        struct counter counter = {0};
        int64_t done = -1;
        assert_int_equal(
            dlb_timer_run("rounds", wanted[i], count_round, &counter, &done, NULL),
            DLB_OK);
        assert_int_equal(counter.calls, wanted[i]);
        assert_int_equal(done, wanted[i]);
    }
}

static void test_no_rounds(void **state)
{
    (void)state;
    struct counter counter = {0};
    int64_t done = -1;
    assert_int_equal(dlb_timer_run("none", 0, count_round, &counter, &done, NULL),
                     DLB_OK);
    assert_int_equal(dlb_timer_run("none", -5, count_round, &counter, &done, NULL),
                     DLB_OK);
    assert_int_equal(counter.calls, 0);
    assert_int_equal(done, 0);
}

static void test_ends_early(void **state)
{
    (void)state;
    static const int64_t ends[] = {1, 2, 50};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        struct counter counter = {.end_at = ends[i]};
        int64_t done = -1;
        assert_int_equal(dlb_timer_run("early", 50, count_round, &counter, &done, NULL),
                         DLB_OK);
        assert_int_equal(counter.calls, ends[i]);
        assert_int_equal(done, ends[i] - 1);
    }
}

/* Names are free text: they select nothing. */
static void test_awkward_names(void **state)
{
    (void)state;
    static const char *const names[] = {"", "-all", "a/b:c mb1ic3ih224 (x|y)[", "100%s"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct counter counter = {0};
        int64_t done = -1;
        assert_int_equal(dlb_timer_run(names[i], 3, count_round, &counter, &done, NULL),
                         DLB_OK);
        assert_int_equal(done, 3);
    }
}

static void test_prints_nothing(void **state)
{
    (void)state;
    FILE *capture = tmpfile();
    int out = dup(STDOUT_FILENO), err = dup(STDERR_FILENO);
    struct counter counter = {.end_at = 7};
    int64_t done = 0;
    assert_non_null(capture);
    fflush(NULL);
    dup2(fileno(capture), STDOUT_FILENO);
    dup2(fileno(capture), STDERR_FILENO);
    for (int i = 0; i < 3; i++) {
        counter.calls = 0;
        dlb_timer_run("silent", 10, count_round, &counter, &done, NULL);
    }
    fflush(NULL);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    close(out);
    close(err);
    assert_int_equal(lseek(fileno(capture), 0, SEEK_END), 0);
    assert_int_equal(done, 6);
    fclose(capture);
}

static void test_version(void **state)
{
    (void)state;
    int major, minor;
    assert_int_equal(sscanf(dlb_timer_version(), "%d.%d", &major, &minor), 2);
}

static void test_clock(void **state)
{
    (void)state;
    double before = dlb_clock_ns(), after = before;
    for (int i = 0; i < 1000; i++) {
        after = dlb_clock_ns();
        assert_true(after >= before);
    }
    assert_true(before > 0);
    assert_true(dlb_clock_resolution_ns() > 0);
}

/* What the user's environment tells google benchmark must not reach our measurement.  The
 * library reads it when the program is loaded: so the program starts itself again, and a
 * status of its own shows that it came to its end, as the library may exit with 0. */
enum { CAME_TO_ITS_END = 17 };

static int run_again(char *program)
{
    static const char *const environment[][2] = {
        {"BENCHMARK_FILTER", "nothing"},      {"BENCHMARK_LIST_TESTS", "true"},
        {"BENCHMARK_REPETITIONS", "3"},       {"BENCHMARK_OUT", "/nonexistent/out.json"},
        {"BENCHMARK_FORMAT", "nonsense"},     {"BENCHMARK_OUT_FORMAT", "nonsense"},
        {"BENCHMARK_TIME_UNIT", "fortnight"}, {"BENCHMARK_MIN_TIME", "7"},
        {"BENCHMARK_DRY_RUN", "true"},        {"DLB_TEST_TIMER_AGAIN", "1"}};
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        for (size_t i = 0; i < sizeof environment / sizeof *environment; i++) {
            setenv(environment[i][0], environment[i][1], 1);
        }
        execl("/proc/self/exe", program, (char *)NULL);
        _exit(1);
    }
    bool ended = child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
                 WEXITSTATUS(status) == CAME_TO_ITS_END;
    if (!ended) {
        fprintf(stderr,
                "the tests fail when the environment sets the library's options\n");
    }
    return !ended;
}

int main(int argc, char **argv)
{
    (void)argc;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_runs_what_is_wanted),
        cmocka_unit_test(test_no_rounds),
        cmocka_unit_test(test_ends_early),
        cmocka_unit_test(test_awkward_names),
        cmocka_unit_test(test_prints_nothing),
        cmocka_unit_test(test_version),
        cmocka_unit_test(test_clock),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (failed) {
        return 1;
    }
    return getenv("DLB_TEST_TIMER_AGAIN") ? CAME_TO_ITS_END : run_again(argv[0]);
}
