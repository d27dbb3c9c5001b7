#include "judge/gate.h"
#include "judge/significance.h"
#include "nights.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* --- single verdicts, on times without samples, so that every number can be checked */

enum { CASES = 40, RUNS = 6 };

static struct dlb_timing timing[CASES][2][RUNS];
static struct dlb_gate_case item[CASES];
static struct dlb_gate_found found;

/* Cases whose runs scatter by noise, in a pattern that turns from case to case; each second
 * one has the sides of the first swapped, so that there is no common move. */
static void make(int cases, int base_runs, int new_runs, double noise)
{
    static const double pattern[RUNS] = {1, -1, 0.5, -0.5, 1.5, -1.5};
    for (int c = 0; c < cases; c++) {
        for (int run = 0; run < RUNS; run++)
            for (int side = 0; side < 2; side++)
                timing[c][side][run] = (struct dlb_timing){
                    .run = run,
                    .error = 0.001,
                    .median_ns =
                        1e5 * exp(noise *
                                  pattern[(run + c / 2 + 3 * (side ^ (c & 1)) + c / 10) %
                                          RUNS])};
        item[c] = (struct dlb_gate_case){.id = (uint64_t)c,
                                         .base = {timing[c][0], base_runs},
                                         .fresh = {timing[c][1], new_runs},
                                         .partner = -1};
    }
}

static void slow_down(int c, double percent)
{
    for (int run = 0; run < RUNS; run++)
        timing[c][1][run].median_ns *= 1 + percent / 100;
}

static void judge_with(int cases, double threshold, const struct dlb_noise *noise)
{
    struct dlb_gate_rules rules = {.threshold = threshold, .noise = noise};
    assert_int_equal(dlb_gate_judge(item, cases, &rules, &found, NULL), DLB_OK);
}

static void judge(int cases)
{
    judge_with(cases, 0.05, NULL);
}

static void nothing_is_called_where_nothing_changed(void **state)
{
    (void)state;
    make(CASES, 3, 3, 0.005);
    judge(CASES);
    assert_int_equal(found.count[DLB_VERDICT_SAME], CASES);
    assert_int_equal(found.noise.source, DLB_NOISE_REPEATS);
    assert_true(found.noise.variance > 1e-6 && found.noise.variance < 1e-4);
    assert_false(found.environment);
}

static void a_slow_case_is_called_and_no_other(void **state)
{
    (void)state;
    make(CASES, 3, 3, 0.004);
    slow_down(7, 9);
    slow_down(9, -12);
    judge(CASES);
    assert_int_equal(item[7].verdict, DLB_VERDICT_REGRESSION);
    assert_int_equal(item[9].verdict, DLB_VERDICT_FASTER);
    assert_int_equal(found.count[DLB_VERDICT_SAME], CASES - 2);
    assert_true(item[7].lo > 1.05 && item[7].ratio < item[7].hi && item[7].hi < 1.15);
    assert_true(item[7].q < 0.001 && isnan(item[7].p_samples));
}

/* Significant, but smaller than the threshold: known for sure, and no regression. */
static void what_is_slower_by_less_is_the_same(void **state)
{
    (void)state;
    make(CASES, 3, 3, 0.001);
    slow_down(7, 3);
    judge(CASES);
    assert_true(item[7].q < 0.001);
    assert_int_equal(item[7].verdict, DLB_VERDICT_SAME);
    judge_with(CASES, 0.02, NULL);
    assert_int_equal(item[7].verdict, DLB_VERDICT_REGRESSION);
}

static void the_noise_floor_is_a_threshold_too(void **state)
{
    (void)state;
    make(CASES, 3, 3, 0.001);
    slow_down(7, 8);
    item[7].noise_floor = 0.1;
    judge(CASES);
    assert_int_equal(item[7].verdict, DLB_VERDICT_SAME);
}

/* Just below the threshold: with few runs a suspect, with five a regression, as the
 * interval reaches the threshold. */
static void what_reaches_the_threshold_needs_runs_to_be_called(void **state)
{
    (void)state;
    for (int runs = 1; runs <= RUNS; runs++) {
        make(CASES, runs, runs, 0.004);
        double d = 0;
        for (int run = 0; run < runs; run++)
            d += log(timing[7][1][run].median_ns / timing[7][0][run].median_ns) / runs;
        for (int run = 0; run < runs; run++)
            timing[7][1][run].median_ns *= exp(log(1.048) - d);
        judge(CASES);
        assert_true(item[7].hi > 1.05 && fabs(item[7].ratio - 1.048) < 1e-9);
        assert_int_equal(item[7].verdict, runs < DLB_RUNS_TO_BE_SURE
                                              ? DLB_VERDICT_SUSPECT
                                              : DLB_VERDICT_REGRESSION);
    }
}

/* 12 % for sure of a case, and its interval far beyond, but nearer to nothing than to a
 * threshold of 30 %. */
static void what_is_nearer_to_nothing_is_no_suspect(void **state)
{
    (void)state;
    make(CASES, 6, 6, 0.1);
    slow_down(7, 12);
    judge_with(CASES, 0.3, NULL);
    assert_true(item[7].verdict != DLB_VERDICT_REGRESSION &&
                item[7].verdict != DLB_VERDICT_SUSPECT);
}

static void too_much_noise_is_unclear(void **state)
{
    (void)state;
    make(CASES, 2, 2, 0.08);
    judge(CASES);
    assert_true(found.count[DLB_VERDICT_UNCLEAR] > CASES / 2);
    assert_int_equal(found.count[DLB_VERDICT_REGRESSION], 0);
}

/* One noisy case among quiet ones keeps its own noise. */
static void a_noisy_case_is_judged_by_its_own_noise(void **state)
{
    (void)state;
    make(CASES, 4, 4, 0.002);
    for (int run = 0; run < 4; run++) {
        timing[3][0][run].median_ns *= 1 + 0.2 * (run % 2);
        timing[3][1][run].median_ns *= 1.08 + 0.2 * (run % 2);
    }
    slow_down(7, 8);
    judge(CASES);
    assert_int_equal(item[7].verdict, DLB_VERDICT_REGRESSION);
    assert_true(item[3].verdict != DLB_VERDICT_REGRESSION);
    assert_true(item[3].hi - item[3].lo > 3 * (item[7].hi - item[7].lo));
}

static void single_runs_are_judged_by_how_the_cases_scatter(void **state)
{
    (void)state;
    make(CASES, 1, 1, 0.004);
    slow_down(7, 20);
    judge(CASES);
    assert_int_equal(found.noise.source, DLB_NOISE_SPREAD);
    assert_int_equal(item[7].verdict, DLB_VERDICT_REGRESSION);
    assert_int_equal(found.count[DLB_VERDICT_REGRESSION], 1);
}

/* By hand: 1 % of noise, 1 + 1 runs: standard error 1.414 %; 3 degrees, 97.5 %: t =
 * 3.18245. */
static void a_single_case_gets_an_assumed_noise(void **state)
{
    (void)state;
    make(1, 1, 1, 0);
    slow_down(0, 10);
    judge(1);
    double t = log(1.1) / (0.01 * M_SQRT2);
    assert_int_equal(found.noise.source, DLB_NOISE_ASSUMED);
    assert_true(fabs(item[0].p_runs - dlb_student_tail(t, 3)) < 1e-9);
    assert_true(fabs(log(item[0].hi / 1.1) - 3.18245 * 0.01 * M_SQRT2) < 1e-6);
    assert_int_equal(item[0].verdict, DLB_VERDICT_REGRESSION);
    slow_down(0, -4.6); /* 4.9 % are left, and not for sure */
    judge(1);
    assert_int_equal(item[0].verdict, DLB_VERDICT_SUSPECT);
    slow_down(0, -5);
    judge(1);
    assert_int_equal(item[0].verdict, DLB_VERDICT_SAME);
}

static void known_noise_is_taken(void **state)
{
    (void)state;
    const struct dlb_noise noise = {0.03 * 0.03, 20, DLB_NOISE_REPEATS};
    make(1, 1, 1, 0);
    slow_down(0, 8);
    judge_with(1, 0.05, &noise);
    assert_int_equal(item[0].verdict, DLB_VERDICT_UNCLEAR);
    assert_true(found.noise.df == 20);
}

static void a_machine_that_changed_is_called_so(void **state)
{
    (void)state;
    make(CASES, 3, 3, 0.004);
    for (int c = 0; c < CASES; c++)
        slow_down(c, 8);
    judge(CASES);
    assert_true(found.environment);
    assert_true(fabs(expm1(found.common) - 0.08) < 0.01);
}

/* Half of the cases are oneDNN's: they say whether it was the machine. */
static void controls_tell_the_machine_from_the_code(void **state)
{
    (void)state;
    for (int with_controls = 0; with_controls < 2; with_controls++) {
        make(CASES, 3, 3, 0.004);
        for (int c = 0; c < CASES; c++) {
            item[c].control = c % 2;
            item[c].partner = c % 2 ? -1 : c + 1;
            slow_down(c, c % 2 == 0 || with_controls ? 8 : 0);
        }
        judge(CASES);
        assert_int_equal(found.environment, with_controls);
        assert_int_equal(found.controls, CASES / 2);
        assert_int_equal(found.count[DLB_VERDICT_REGRESSION],
                         with_controls ? 0 : CASES / 2);
        assert_true(isnan(item[1].q) && item[1].p_runs <= 1);
    }
}

/* A small move of all is taken off: 3 % of the machine's 7 %. */
static void small_common_moves_are_taken_off(void **state)
{
    (void)state;
    make(CASES, 3, 3, 0.002);
    for (int c = 0; c < CASES; c++)
        slow_down(c, c == 7 ? 5.2 : c == 9 ? 9 : 2);
    judge(CASES);
    assert_false(found.environment);
    assert_true(fabs(found.common - log(1.02)) < 0.002);
    assert_true(item[7].verdict != DLB_VERDICT_REGRESSION);
    assert_int_equal(item[9].verdict, DLB_VERDICT_REGRESSION);
}

/* A change that makes most cases faster, each by another amount, is no machine's. */
static void unlike_moves_are_no_environment(void **state)
{
    (void)state;
    make(CASES, 3, 3, 0.002);
    for (int c = 0; c < CASES; c++)
        slow_down(c, c % 4 == 0 ? 0 : c % 4 == 1 ? -10 : c % 4 == 2 ? -40 : -70);
    slow_down(8, 8);
    judge(CASES);
    assert_false(found.environment);
    assert_true(found.common == 0);
    assert_int_equal(item[8].verdict, DLB_VERDICT_REGRESSION);
    assert_int_equal(item[4].verdict, DLB_VERDICT_SAME);
}

static void what_onednn_did_too_was_the_machine(void **state)
{
    (void)state;
    make(CASES, 3, 3, 0.002);
    item[6].partner = 7;
    item[7].control = true;
    slow_down(6, 12);
    slow_down(7, 11);
    item[8].partner = 9;
    item[9].control = true;
    slow_down(8, 12);
    slow_down(9, 2);
    slow_down(11, 30);
    item[11].control = true;
    judge(CASES);
    assert_int_equal(item[6].verdict, DLB_VERDICT_MACHINE);
    assert_int_equal(item[7].verdict, DLB_VERDICT_MACHINE);
    assert_int_equal(item[8].verdict, DLB_VERDICT_REGRESSION);
    assert_int_equal(item[11].verdict, DLB_VERDICT_MACHINE);
    assert_int_equal(found.count[DLB_VERDICT_MACHINE], 1);
}

/* --- with samples */

static int ascending(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static void timings_are_made_of_samples(void **state)
{
    (void)state;
    double sample[100];
    for (int i = 0; i < 100; i++)
        sample[i] = i + 1;
    struct dlb_timing made = dlb_timing_make(2, sample, 100);
    assert_int_equal(made.run, 2);
    assert_true(made.median_ns == 50.5);
    /* Ranks 40 and 61 hold the median at 96.48 %: z = 2.1062. */
    assert_true(fabs(made.error - log(61 / 40.0) / (2 * 2.1062)) < 1e-4);
    assert_true(isnan(dlb_timing_make(0, sample, 5).error));
    assert_true(dlb_timing_make(0, sample, 1).median_ns == 1);
}

/* The interval by resampling is what the formula gives, where the formula holds; and the
 * verdict depends on no other case's random numbers. */
static void bootstrap_agrees_with_the_formula(void **state)
{
    (void)state;
    enum { SAMPLES = 200 };
    static double sample[2][SAMPLES];
    struct dlb_random random = {.seed = 4};
    const struct dlb_noise noise = {0.01 * 0.01, INFINITY, DLB_NOISE_REPEATS};
    struct dlb_gate_rules rules = {.threshold = 0.05, .noise = &noise};
    struct dlb_timing one[2];
    double width[2];
    for (int side = 0; side < 2; side++) {
        for (int i = 0; i < SAMPLES; i++)
            sample[side][i] =
                exp(0.12 * dlb_random_student(&random, INFINITY) + 0.2 * side);
        qsort(sample[side], SAMPLES, sizeof(double), ascending);
        one[side] = dlb_timing_make(0, sample[side], SAMPLES);
    }
    struct dlb_gate_case pair[2];
    for (int resampled = 0; resampled < 2; resampled++) {
        rules.resamples = resampled ? 4000 : 0;
        for (int i = 0; i < 2; i++)
            pair[i] = (struct dlb_gate_case){
                .id = 5, .base = {&one[0], 1}, .fresh = {&one[1], 1}, .partner = -1};
        assert_int_equal(dlb_gate_judge(pair, 2, &rules, &found, NULL), DLB_OK);
        width[resampled] = log(pair[0].hi / pair[0].lo);
        assert_true(pair[0].lo < pair[0].ratio && pair[0].ratio < pair[0].hi);
        assert_true(pair[0].lo == pair[1].lo && pair[0].hi == pair[1].hi);
        assert_true(pair[0].p_samples < 1e-10);
    }
    assert_true(fabs(width[1] / width[0] - 1) < 0.12);
}

/* Samples alone make two runs different; the noise between runs does not. */
static void samples_alone_do_not_decide(void **state)
{
    (void)state;
    enum { SAMPLES = 60 };
    static double sample[2][SAMPLES];
    struct dlb_timing one[2];
    for (int side = 0; side < 2; side++) {
        for (int i = 0; i < SAMPLES; i++)
            sample[side][i] = 1000 + i * 0.01 + 20 * side;
        one[side] = dlb_timing_make(0, sample[side], SAMPLES);
    }
    item[0] = (struct dlb_gate_case){
        .base = {&one[0], 1}, .fresh = {&one[1], 1}, .partner = -1};
    judge_with(1, 0.1, NULL);
    assert_true(item[0].p_samples < 1e-15);
    assert_true(item[0].p_runs > 0.1 && item[0].q == item[0].p_runs);
    assert_int_equal(item[0].verdict, DLB_VERDICT_SAME);
}

/* --- nights (see gate_nights.c for a thousand of each kind) */

static struct nights_plan usual(void)
{
    return (struct nights_plan){.cases = 200,
                                .runs = 3,
                                .samples = 30,
                                .slow_case = -1,
                                .resamples = 60,
                                .noise = 1};
}

/* 5 % at most: of 60 nights 3 are to be expected then, and 8 or more happen once in a
 * hundred times. */
static void nights_without_a_change_raise_no_alarm(void **state)
{
    (void)state;
    struct nights_plan plan = usual();
    enum { NIGHTS = 60 };
    int alarms = 0, alarms_pooled = 0;
    struct nights *nights = nights_make(&plan, 21);
    for (int night = 0; night < NIGHTS; night++) {
        nights_next(nights);
        alarms += nights_judge(nights, 1).regressions > 0;
        if (night % 3 == 2)
            alarms_pooled += nights_judge(nights, 3).regressions > 0;
    }
    nights_release(nights);
    assert_in_range(alarms, 0, 7);
    assert_in_range(alarms_pooled, 0, 4);
}

/* 90 % at least: of 30 then 27, and less than 22 once in a hundred times. */
static void a_slowdown_of_the_threshold_is_found_in_three_nights(void **state)
{
    (void)state;
    struct nights_plan plan = usual();
    enum { TRIALS = 30 };
    int in_time = 0, at_once = 0;
    plan.slow_case = 100;
    plan.slowdown = log(1.05);
    for (int trial = 0; trial < TRIALS; trial++) {
        struct nights *nights = nights_make(&plan, 100 + (uint64_t)trial);
        bool yet = false;
        for (int night = 1; night <= 3 && !yet; night++) {
            nights_next(nights);
            yet = nights_judge(nights, night).slow_case_found;
            at_once += yet && night == 1;
        }
        in_time += yet;
        nights_release(nights);
    }
    assert_in_range(in_time, 22, TRIALS);
    assert_in_range(at_once, 5, TRIALS);
}

static void a_slow_machine_is_no_regression(void **state)
{
    (void)state;
    enum { NIGHTS = 8 };
    for (int controls = 0; controls < 2; controls++) {
        struct nights_plan plan = usual();
        plan.machine = log(1.08);
        plan.controls = controls;
        struct nights *nights = nights_make(&plan, 5);
        for (int night = 0; night < NIGHTS; night++) {
            nights_next(nights);
            assert_true(nights_judge(nights, 1).environment);
        }
        nights_release(nights);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_called_where_nothing_changed),
        cmocka_unit_test(a_slow_case_is_called_and_no_other),
        cmocka_unit_test(what_is_slower_by_less_is_the_same),
        cmocka_unit_test(the_noise_floor_is_a_threshold_too),
        cmocka_unit_test(what_reaches_the_threshold_needs_runs_to_be_called),
        cmocka_unit_test(what_is_nearer_to_nothing_is_no_suspect),
        cmocka_unit_test(too_much_noise_is_unclear),
        cmocka_unit_test(a_noisy_case_is_judged_by_its_own_noise),
        cmocka_unit_test(single_runs_are_judged_by_how_the_cases_scatter),
        cmocka_unit_test(a_single_case_gets_an_assumed_noise),
        cmocka_unit_test(known_noise_is_taken),
        cmocka_unit_test(a_machine_that_changed_is_called_so),
        cmocka_unit_test(controls_tell_the_machine_from_the_code),
        cmocka_unit_test(small_common_moves_are_taken_off),
        cmocka_unit_test(unlike_moves_are_no_environment),
        cmocka_unit_test(what_onednn_did_too_was_the_machine),
        cmocka_unit_test(timings_are_made_of_samples),
        cmocka_unit_test(bootstrap_agrees_with_the_formula),
        cmocka_unit_test(samples_alone_do_not_decide),
        cmocka_unit_test(nights_without_a_change_raise_no_alarm),
        cmocka_unit_test(a_slowdown_of_the_threshold_is_found_in_three_nights),
        cmocka_unit_test(a_slow_machine_is_no_regression),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
