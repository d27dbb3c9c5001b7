/* The search on landscapes whose best point is known. */
#include "landscape.h"
#include "measure/stats.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { LANDSCAPES = 60, POINTS = 300, MANY = 600, CUT = 256 };

/* What the search said of its points. */
struct fates {
    int refused, mismatch, pruned, timed, finalist;
    int last_rung, most_samples;
    char why[DLB_REASON_MAX]; /* of the last one pruned */
};

static enum dlb_status note(void *context, const struct dlb_fate *fate,
                            struct dlb_error *error)
{
    struct fates *fates = context;
    (void)error;
    if (!strcmp(fate->outcome, "refused"))
        fates->refused++;
    else if (!strcmp(fate->outcome, "mismatch"))
        fates->mismatch++;
    else if (!strcmp(fate->outcome, "pruned"))
        fates->pruned++, snprintf(fates->why, sizeof fates->why, "%s", fate->reason);
    else if (!strcmp(fate->outcome, "finalist"))
        fates->finalist++;
    else if (!strcmp(fate->outcome, "timed"))
        fates->timed += fate->rung == 0;
    else
        fail_msg("outcome '%s'", fate->outcome);
    if (!strcmp(fate->outcome, "timed") || !strcmp(fate->outcome, "finalist")) {
        assert_true(fate->samples >= 1 && fate->best_ns > 0);
        fates->last_rung = (int)dlb_max(fates->last_rung, fate->rung);
        fates->most_samples = (int)dlb_max(fates->most_samples, fate->samples);
    } else {
        assert_true(fate->samples == 0 && isnan(fate->best_ns));
        assert_true(*fate->reason);
    }
    return DLB_OK;
}

/* One search: search->order, points, timings and note are filled here. */
static void run(struct landscape *l, struct dlb_search search, struct fates *fates,
                struct dlb_search_result *result)
{
    struct dlb_timings timings = landscape_timings(l);
    struct fates ignored;
    int *order = calloc((size_t)l->n, sizeof *order);
    assert_non_null(order);
    landscape_order(l, order);
    fates = fates ? fates : &ignored;
    *fates = (struct fates){0};
    search.timings = &timings;
    search.order = order;
    search.points = l->n;
    search.most = search.most ? search.most : (int)dlb_min(l->n, CUT);
    search.always = search.always ? search.always : 4;
    search.note = note;
    search.context = fates;
    assert_int_equal(dlb_search_run(&search, result, NULL), DLB_OK);
    free(order);
}

/* Draws points at random, in passes without repetition, for as long: the fastest sample
 * wins.  What anyone would do without a search. */
static int random_search(struct landscape *l, double seconds)
{
    struct dlb_timings timings = landscape_timings(l);
    int *deck = calloc((size_t)l->n, sizeof *deck), best = 0, left = 0;
    double best_ns = INFINITY, end = l->clock_ns + seconds * 1e9;
    uint64_t random = 1;
    assert_non_null(deck);
    for (int i = 0; i < l->n; i++)
        deck[i] = i;
    while (l->clock_ns < end) {
        enum dlb_admission admission;
        char reason[DLB_REASON_MAX];
        double ns = INFINITY;
        left = left ? left : l->n;
        int at = (int)(dlb_hash(3, ++random) % (uint64_t)left--), point = deck[at];
        deck[at] = deck[left];
        deck[left] = point;
        if (!l->verified_once[point])
            timings.verify(l, point, &admission, reason, NULL);
        timings.time(l, point, &ns, NULL);
        if (ns < best_ns) {
            best_ns = ns;
            best = point;
        }
    }
    free(deck);
    return best;
}

static double quantile(const double *sample, double p)
{
    return dlb_quantile(sample, LANDSCAPES, p);
}

/* Regret in per cent, with time for all there is to try. */
static void the_best_is_found_through_every_noise(void **state)
{
    (void)state;
    static const double allowed[LANDSCAPE_NOISES][3] = {
        /* median, p90, worst; 3 % is the point next to the best */
        [LANDSCAPE_STILL] = {0, 0, 0},        [LANDSCAPE_ONE_SIDED] = {0, 3.2, 4},
        [LANDSCAPE_DRIFTING] = {0, 0.1, 3.1}, [LANDSCAPE_OUTLIERS] = {0, 3.1, 3.5},
        [LANDSCAPE_BIMODAL] = {0, 0.1, 3.5},
    };
    for (int noise = 0; noise < LANDSCAPE_NOISES; noise++) {
        double regret[LANDSCAPES];
        int discarded = 0;
        for (int i = 0; i < LANDSCAPES; i++) {
            struct landscape l;
            struct dlb_search_result result;
            landscape_make(&l, POINTS, (uint64_t)i, noise);
            run(&l, (struct dlb_search){.seconds = 10, .most = POINTS}, NULL, &result);
            assert_true(result.found);
            assert_int_equal(result.timed, POINTS);
            regret[i] = 100 * landscape_regret(&l, result.best[0]);
            discarded += result.discarded;
            landscape_release(&l);
        }
        const double p[3] = {quantile(regret, 0.5), quantile(regret, 0.9),
                             quantile(regret, 1)};
        for (int k = 0; k < 3; k++)
            if (p[k] > allowed[noise][k])
                fail_msg("%s: regret %.2f %% in the middle, %.2f %% p90, %.2f %% at most",
                         landscape_noise_names[noise], p[0], p[1], p[2]);
        if (noise == LANDSCAPE_STILL)
            assert_int_equal(discarded, 0);
        if (noise == LANDSCAPE_BIMODAL)
            assert_true(discarded > LANDSCAPES);
    }
}

/* A third of the time that all points would take. */
static void with_little_time_it_beats_chance(void **state)
{
    (void)state;
    for (int noise = 0; noise < LANDSCAPE_NOISES; noise++) {
        double regret[LANDSCAPES], chance[LANDSCAPES];
        for (int i = 0; i < LANDSCAPES; i++) {
            struct landscape l;
            struct dlb_search_result result;
            landscape_make(&l, MANY, (uint64_t)i, noise);
            run(&l, (struct dlb_search){.seconds = 1.2}, NULL, &result);
            regret[i] = landscape_regret(&l, result.best[0]);
            assert_true(result.left_out > 0);
            assert_true(result.seconds < 1.1 * 1.2);
            landscape_release(&l);
            landscape_make(&l, MANY, (uint64_t)i, noise);
            chance[i] = landscape_regret(&l, random_search(&l, result.seconds));
            landscape_release(&l);
        }
        if (quantile(regret, 0.9) > 0.04 ||
            quantile(regret, 0.5) > quantile(chance, 0.5) ||
            quantile(regret, 0.9) > quantile(chance, 0.9))
            fail_msg("%s: regret %.2f %% in the middle and %.2f %% p90, by chance %.2f "
                     "and %.2f %%",
                     landscape_noise_names[noise], 100 * quantile(regret, 0.5),
                     100 * quantile(regret, 0.9), 100 * quantile(chance, 0.5),
                     100 * quantile(chance, 0.9));
    }
}

static void two_searches_agree(void **state)
{
    (void)state;
    /* An outlier of the first rung takes the best out of one search in twenty. */
    static const double allowed[LANDSCAPE_NOISES] = {
        [LANDSCAPE_STILL] = 0,       [LANDSCAPE_ONE_SIDED] = 0.2,
        [LANDSCAPE_DRIFTING] = 0.02, [LANDSCAPE_OUTLIERS] = 0.1,
        [LANDSCAPE_BIMODAL] = 0.02,
    };
    for (int noise = 0; noise < LANDSCAPE_NOISES; noise++) {
        int apart = 0;
        for (int i = 0; i < LANDSCAPES; i++) {
            struct dlb_search_result result[2];
            double time[2];
            for (int k = 0; k < 2; k++) {
                struct landscape l;
                landscape_make(&l, POINTS, (uint64_t)i, noise);
                l.random += (uint64_t)k << 20;
                run(&l, (struct dlb_search){.seconds = 10, .most = POINTS}, NULL,
                    &result[k]);
                time[k] = l.true_ns[result[k].best[0]];
                landscape_release(&l);
            }
            apart += fabs(time[0] / time[1] - 1) > 0.02;
        }
        if (apart > allowed[noise] * LANDSCAPES)
            fail_msg("%s: %d of %d pairs differ by more than 2 %%",
                     landscape_noise_names[noise], apart, LANDSCAPES);
    }
}

static void the_same_times_make_the_same_search(void **state)
{
    (void)state;
    struct dlb_search_result result[2];
    struct fates fates[2];
    double clock[2];
    for (int k = 0; k < 2; k++) {
        struct landscape l;
        landscape_make(&l, POINTS, 5, LANDSCAPE_ONE_SIDED);
        run(&l, (struct dlb_search){.seconds = 1}, &fates[k], &result[k]);
        clock[k] = l.clock_ns;
        landscape_release(&l);
    }
    assert_int_equal(result[0].best[0], result[1].best[0]);
    assert_int_equal(result[0].samples, result[1].samples);
    assert_true(clock[0] == clock[1]);
    assert_memory_equal(&fates[0], &fates[1], sizeof fates[0]);
}

static void what_cannot_be_told_apart_goes_to_the_lowest_point(void **state)
{
    (void)state;
    struct landscape l;
    struct dlb_search_result result;
    landscape_make(&l, 40, 1, LANDSCAPE_STILL);
    for (int i = 0; i < l.n; i++) {
        l.true_ns[i] = i == 7 || i == 12 || i == 30 ? 1e5 : 2e5;
        l.model_ns[i] = l.n - i; /* the model goes for the last ones */
    }
    run(&l, (struct dlb_search){.seconds = 10}, NULL, &result);
    assert_int_equal(result.best[0], 7);
    assert_int_equal(result.best_n, DLB_SEARCH_BEST);
    assert_true(result.best[1] == 12 || result.best[1] == 30);
    assert_true(result.best[2] == 12 || result.best[2] == 30);
    assert_int_equal(result.end, DLB_SEARCH_TIE);
    /* Within 1 %, but slower in every round: that is no tie. */
    for (int i = 0; i < l.n; i++)
        l.verified_once[i] = false;
    l.true_ns[7] *= 1.008;
    run(&l, (struct dlb_search){.seconds = 10}, NULL, &result);
    assert_int_equal(result.best[0], 12);
    landscape_release(&l);
}

static void every_point_has_one_fate(void **state)
{
    (void)state;
    struct landscape l;
    struct dlb_search_result result;
    struct fates fates;
    landscape_make(&l, MANY, 3, LANDSCAPE_ONE_SIDED);
    l.wrong = l.best; /* the fastest, but wrong: it must not be timed */
    l.impossible = 0; /* the default cannot be made: another one is the canary */
    l.model_ns[l.wrong] = 1;
    run(&l, (struct dlb_search){.seconds = 10}, &fates, &result);
    assert_true(result.found);
    assert_true(result.best[0] != l.wrong && result.best[0] != l.impossible);
    assert_int_equal(fates.refused, 1);
    assert_int_equal(fates.mismatch, 1);
    assert_int_equal(fates.timed, CUT - 2);
    assert_int_equal(fates.pruned, MANY - CUT);
    assert_string_equal(fates.why, "ranked low by the model");
    assert_in_range(fates.finalist, 2, 8);
    assert_true(fates.last_rung >= 1 && fates.most_samples > 5);
    assert_int_equal(result.timed, CUT - 2);
    assert_int_equal(result.mismatched, 1);
    assert_int_equal(result.refused, 1);
    assert_int_equal(result.verified, l.verified - 1);
    assert_int_equal(result.samples, l.timed);
    landscape_release(&l);
}

static void nothing_right_is_no_winner(void **state)
{
    (void)state;
    struct landscape l;
    struct dlb_search_result result;
    landscape_make(&l, 2, 3, LANDSCAPE_STILL);
    l.wrong = 0;
    l.impossible = 1;
    run(&l, (struct dlb_search){.seconds = 10}, NULL, &result);
    assert_false(result.found);
    assert_int_equal(result.best_n, 0);
    assert_int_equal(l.timed, 0);
    landscape_release(&l);
}

static void without_time_the_first_few_are_tried(void **state)
{
    (void)state;
    struct landscape l;
    struct dlb_search_result result;
    struct fates fates;
    landscape_make(&l, POINTS, 4, LANDSCAPE_STILL);
    run(&l, (struct dlb_search){.seconds = 1e-9, .always = 6}, &fates, &result);
    assert_true(result.found);
    assert_int_equal(result.timed, 6);
    assert_int_equal(result.left_out, CUT - 6);
    assert_int_equal(fates.pruned, POINTS - 6);
    assert_int_equal(result.end, DLB_SEARCH_BUDGET);
    landscape_release(&l);
}

/* Executions of a second: the budget holds no halving, and few finalists. */
static void long_executions_keep_to_the_budget(void **state)
{
    (void)state;
    for (double seconds = 20; seconds <= 320; seconds *= 4) {
        struct landscape l;
        struct dlb_search_result result;
        landscape_make(&l, 40, 6, LANDSCAPE_ONE_SIDED);
        for (int i = 0; i < l.n; i++)
            l.true_ns[i] *= 2e3;
        run(&l, (struct dlb_search){.seconds = seconds, .always = 3}, NULL, &result);
        assert_true(result.found);
        assert_true(result.seconds < 1.1 * seconds);
        landscape_release(&l);
    }
}

static void without_a_gain_no_more_are_tried(void **state)
{
    (void)state;
    struct landscape l;
    struct dlb_search_result result;
    struct fates fates;
    landscape_make(&l, CUT, 7, LANDSCAPE_STILL);
    for (int i = 0; i < l.n; i++)
        l.true_ns[i] = l.model_ns[i] = 1e5 * (i ? i : l.n);
    /* A quarter of the time without a gain is the end of it, after half of the points. */
    run(&l, (struct dlb_search){.seconds = 12}, &fates, &result);
    assert_int_equal(result.best[0], 1);
    assert_true(result.left_out > 0 && result.timed >= CUT / 2);
    assert_non_null(strstr(fates.why, "no gain"));
    landscape_release(&l);
}

static int stop_after;
static volatile int stop;

static enum dlb_status note_and_stop(void *context, const struct dlb_fate *fate,
                                     struct dlb_error *error)
{
    (void)context, (void)fate, (void)error;
    if (!stop_after--)
        stop = 1;
    return DLB_OK;
}

static void a_raised_flag_ends_it_with_the_best_so_far(void **state)
{
    (void)state;
    for (int when = 0; when < POINTS + 80; when += 60) {
        struct landscape l;
        struct dlb_search_result result;
        int order[POINTS];
        landscape_make(&l, POINTS, 8, LANDSCAPE_STILL);
        landscape_order(&l, order);
        struct dlb_timings timings = landscape_timings(&l);
        struct dlb_search search = {.timings = &timings,
                                    .order = order,
                                    .points = POINTS,
                                    .most = POINTS,
                                    .always = POINTS,
                                    .seconds = 10,
                                    .stop = &stop,
                                    .note = note_and_stop};
        stop = when == 0; /* raised before it begins: one point is tried all the same */
        stop_after = when;
        assert_int_equal(dlb_search_run(&search, &result, NULL), DLB_OK);
        assert_int_equal(result.end, DLB_SEARCH_INTERRUPTED);
        assert_true(result.found);
        double least = INFINITY;
        for (int i = 0; i < POINTS; i++)
            if (l.verified_once[i])
                least = fmin(least, l.true_ns[i]);
        assert_true(l.true_ns[result.best[0]] <= 1.01 * least); /* a tie */
        assert_true(l.verified < POINTS || when >= POINTS);
        landscape_release(&l);
    }
}

static enum dlb_status fail_to_time(void *context, int point, double *ns,
                                    struct dlb_error *error)
{
    (void)context, (void)point, (void)ns;
    return dlb_fail(error, DLB_FAULT, "The clock stands still.");
}

static void a_failure_ends_it(void **state)
{
    (void)state;
    struct landscape l;
    struct dlb_search_result result;
    struct dlb_error error;
    int order[] = {0, 1};
    landscape_make(&l, 2, 9, LANDSCAPE_STILL);
    struct dlb_timings timings = landscape_timings(&l);
    struct dlb_search search = {
        .timings = &timings, .order = order, .points = 2, .most = 2, .always = 1};
    timings.time = fail_to_time;
    assert_int_equal(dlb_search_run(&search, &result, &error), DLB_FAULT);
    assert_string_equal(error.text, "The clock stands still.");
    assert_false(result.found);
    landscape_release(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_best_is_found_through_every_noise),
        cmocka_unit_test(with_little_time_it_beats_chance),
        cmocka_unit_test(two_searches_agree),
        cmocka_unit_test(the_same_times_make_the_same_search),
        cmocka_unit_test(what_cannot_be_told_apart_goes_to_the_lowest_point),
        cmocka_unit_test(every_point_has_one_fate),
        cmocka_unit_test(nothing_right_is_no_winner),
        cmocka_unit_test(without_time_the_first_few_are_tried),
        cmocka_unit_test(long_executions_keep_to_the_budget),
        cmocka_unit_test(without_a_gain_no_more_are_tried),
        cmocka_unit_test(a_raised_flag_ends_it_with_the_best_so_far),
        cmocka_unit_test(a_failure_ends_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
