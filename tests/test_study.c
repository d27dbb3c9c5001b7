/* How far the tuner is from the best: the sums, and a study of one small problem, whose
 * tunings run in this process. */
#include "measure/study.h"
#include "record/rows.h"
#include "suite/descriptor.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char folder[64];

static int begin(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/dlb_test_study_XXXXXX");
    return !mkdtemp(folder);
}

static int end(void **state)
{
    (void)state;
    char command[300];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

static void sums_are_known(void **state)
{
    (void)state;
    const struct dlb_regret regret[] = {
        {.chosen = 0, .again = 0, .random = 0.1, .rank_correlation = 0.5},
        {.chosen = 0.01, .again = 0.05, .random = 0.2, .rank_correlation = NAN},
        {.chosen = 0.03, .again = 0.02, .random = 0.3, .rank_correlation = 0.7},
    };
    struct dlb_regrets sum;
    dlb_regrets_sum(regret, 3, &sum);
    assert_int_equal(sum.n, 3);
    /* 0 0 0.01 0.02 0.03 0.05 */
    assert_float_equal(sum.median, 0.015, 1e-12);
    assert_float_equal(sum.p90, 0.04, 1e-12);
    assert_float_equal(sum.within, 4.0 / 6, 1e-12);
    assert_float_equal(sum.agreement, 2.0 / 3, 1e-12);
    assert_float_equal(sum.random_median, 0.2, 1e-12);
    assert_float_equal(sum.random_p90, 0.28, 1e-12);
    assert_float_equal(sum.correlation, 0.6, 1e-12);
    dlb_regrets_sum(regret, 0, &sum);
    assert_int_equal(sum.n, 0);
    assert_true(isnan(sum.median) && isnan(sum.agreement));
}

static int tunings;

/* The main job in this process. */
static enum dlb_status tune(void *context, char *const *argv, int *exit_status,
                            struct dlb_error *error)
{
    struct dlb_options options;
    FILE *nowhere = fopen("/dev/null", "w");
    struct dlb_session_io io = {.out = nowhere,
                                .progress = nowhere,
                                .argv = (char **)argv,
                                .operators = context,
                                .operators_n = 1};
    while (argv[io.argc])
        io.argc++;
    tunings++;
    enum dlb_status status = dlb_options_parse(io.argc, (char **)argv, &options, error);
    if (!status)
        status = dlb_session_run(&options, &io, exit_status, error);
    fclose(nowhere);
    return status;
}

static enum dlb_status tune_and_be_stopped(void *context, char *const *argv,
                                           int *exit_status, struct dlb_error *error)
{
    (void)context, (void)argv, (void)error;
    tunings++;
    *exit_status = DLB_EXIT_INCOMPLETE;
    return DLB_OK;
}

struct seen {
    int rows;
    double regret[3], half_width;
    double seconds;
    int64_t legal, chosen_tried, full_tried, random_tried;
    char chosen[DLB_SHAPE_MAX], again[DLB_SHAPE_MAX], best[DLB_SHAPE_MAX];
};

static enum dlb_status see(void *context, struct dlb_cell *cell,
                           const struct dlb_csv_record *record, struct dlb_error *error)
{
    struct seen *seen = context;
    (void)record, (void)error;
    seen->rows++;
    for (int i = 0; i < 3; i++) {
        assert_true(cell[DLB_STUDY_CHOSEN_REGRET + i].set);
        seen->regret[i] = cell[DLB_STUDY_CHOSEN_REGRET + i].number;
    }
    seen->half_width = cell[DLB_STUDY_HALF_WIDTH].number;
    seen->legal = cell[DLB_STUDY_LEGAL].integer;
    seen->full_tried = cell[DLB_STUDY_FULL_TRIED].integer;
    seen->chosen_tried = cell[DLB_STUDY_CHOSEN_TRIED].integer;
    seen->random_tried = cell[DLB_STUDY_RANDOM_TRIED].integer;
    seen->seconds = cell[DLB_STUDY_CHOSEN_SECONDS].number;
    snprintf(seen->chosen, sizeof seen->chosen, "%s", cell[DLB_STUDY_CHOSEN].text);
    snprintf(seen->again, sizeof seen->again, "%s", cell[DLB_STUDY_AGAIN].text);
    snprintf(seen->best, sizeof seen->best, "%s", cell[DLB_STUDY_BEST].text);
    return DLB_OK;
}

static enum dlb_status study(dlb_rerun_fn *rerun, const char *name, int *exit_status,
                             char **screen, struct dlb_error *error)
{
    static const struct dlb_operator *table;
    struct dlb_options options;
    char out[100];
    size_t size;
    snprintf(out, sizeof out, "%s/%s", folder, name);
    char *argv[] = {
        "dlbench",   "tune", "--study",  "--op", "conv",  "--shape", "mb1ic8ih8oc8kh3ph1",
        "--threads", "1",    "--budget", "4",    "--out", out};
    table = dlb_operator_find("conv");
    FILE *to = open_memstream(screen, &size), *nowhere = fopen("/dev/null", "w");
    struct dlb_session_io io = {
        .out = to, .progress = nowhere, .operators = table, .operators_n = 1};
    enum dlb_status status =
        dlb_options_parse((int)(sizeof argv / sizeof *argv), argv, &options, error);
    tunings = 0;
    if (!status)
        status = dlb_study_run(&options, &io, rerun, (void *)table, exit_status, error);
    fclose(to);
    fclose(nowhere);
    return status;
}

static void one_problem_is_studied(void **state)
{
    (void)state;
    struct dlb_error error = {0};
    struct seen seen = {0};
    int exit_status;
    char *screen, path[120];
    if (study(tune, "whole", &exit_status, &screen, &error))
        fail_msg("%s", error.text);
    assert_int_equal(exit_status, DLB_EXIT_OK);
    assert_int_equal(tunings, 2);
    snprintf(path, sizeof path, "%s/whole/study.csv", folder);
    if (dlb_table_read(path, DLB_TABLE_STUDY, true, see, &seen, NULL, &error))
        fail_msg("%s", error.text);
    assert_int_equal(seen.rows, 1);
    assert_true(seen.legal > 1);
    assert_int_equal(seen.full_tried, seen.legal);
    assert_true(seen.chosen_tried > 1 && seen.random_tried > 1);
    assert_true(seen.seconds > 0);
    for (int i = 0; i < 3; i++)
        assert_true(seen.regret[i] >= 0);
    /* What is best has no regret, and nothing else has none but by a tie. */
    assert_int_equal(!strcmp(seen.chosen, seen.best), seen.regret[0] == 0);
    if (!strcmp(seen.chosen, seen.again))
        assert_true(seen.regret[0] == seen.regret[1]);
    assert_non_null(strstr(screen, "1 tuned problems"));
    assert_non_null(strstr(screen, "study.csv"));
    free(screen);
}

static void a_stop_keeps_what_there_is(void **state)
{
    (void)state;
    struct dlb_error error = {0};
    int exit_status;
    char *screen;
    assert_int_equal(study(tune_and_be_stopped, "stopped", &exit_status, &screen, &error),
                     DLB_OK);
    assert_int_equal(exit_status, DLB_EXIT_INCOMPLETE);
    assert_int_equal(tunings, 1);
    free(screen);
}

static void a_folder_with_a_study_is_refused(void **state)
{
    (void)state;
    struct dlb_error error = {0};
    int exit_status;
    char *screen;
    assert_int_equal(study(tune, "whole", &exit_status, &screen, &error), DLB_IO);
    assert_non_null(strstr(error.text, "study.csv"));
    assert_int_equal(exit_status, DLB_EXIT_USAGE);
    free(screen);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_known),
        cmocka_unit_test(one_problem_is_studied),
        cmocka_unit_test(a_stop_keeps_what_there_is),
        cmocka_unit_test(a_folder_with_a_study_is_refused),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
