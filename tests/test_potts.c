#include "judge/potts.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MOST = 400, SEGMENT = DLB_POTTS_SEGMENT_MIN };

static const double step_min = 0.0295588; /* ln 1.03 */
static uint64_t key, drawn;

static double uniform(void)
{
    return ((double)(dlb_hash(key, drawn++) >> 11) + 0.5) / 9007199254740992.0;
}

static double normal(void)
{
    double radius = sqrt(-2 * log(uniform()));
    return radius * cos(2 * 3.14159265358979 * uniform());
}

/* What one cut into pieces costs, by the definition. */
static double cost_of(const double *value, int n, const int *begin, int pieces_n,
                      double gamma)
{
    double cost = gamma * (pieces_n - 1);
    for (int i = 0; i < pieces_n; i++) {
        int end = i + 1 < pieces_n ? begin[i + 1] : n;
        double best = INFINITY;
        for (int m = begin[i]; m < end; m++) { /* one of the values is a median */
            double sum = 0;
            for (int j = begin[i]; j < end; j++)
                sum += fabs(value[j] - value[m]);
            best = fmin(best, sum);
        }
        cost += best;
    }
    return cost;
}

/* The smallest cost of all cuts of value[0..n) whose first pieces are given. */
static double cheapest(const double *value, int n, int *begin, int pieces_n, double gamma)
{
    double best = cost_of(value, n, begin, pieces_n, gamma);
    for (int at = begin[pieces_n - 1] + SEGMENT; at + SEGMENT <= n; at++) {
        begin[pieces_n] = at;
        best = fmin(best, cheapest(value, n, begin, pieces_n + 1, gamma));
    }
    return best;
}

static void no_other_fit_is_better(void **state)
{
    (void)state;
    key = 1;
    int cut = 0;
    for (int turn = 0; turn < 60; turn++) {
        double value[27], gamma = 8 * uniform() * uniform();
        int begin[8] = {0}, fitted[8], pieces_n;
        int n = 12 + (int)(16 * uniform());
        for (int i = 0; i < n; i++) /* ties on purpose */
            value[i] = turn % 2 ? normal() : floor(4 * uniform());
        assert_int_equal(dlb_potts_fit(value, n, gamma, fitted, &pieces_n, NULL), DLB_OK);
        double found = cost_of(value, n, fitted, pieces_n, gamma);
        double best = cheapest(value, n, begin, 1, gamma);
        if (fabs(found - best) > 1e-9)
            fail_msg("turn %d: %.17g where %.17g is possible", turn, found, best);
        cut += pieces_n > 1;
    }
    assert_in_range(cut, 10, 55); /* both kinds were there */
}

static void pieces_have_their_least_length(void **state)
{
    (void)state;
    double value[40];
    int begin[40 / SEGMENT + 1], pieces_n;
    for (int i = 0; i < 40; i++)
        value[i] = i % 5 < 2; /* to follow this, pieces of 2 and 3 would be needed */
    assert_int_equal(dlb_potts_fit(value, 40, 0, begin, &pieces_n, NULL), DLB_OK);
    assert_int_equal(begin[0], 0);
    for (int i = 1; i < pieces_n; i++)
        assert_true(begin[i] - begin[i - 1] >= SEGMENT);
    assert_true(40 - begin[pieces_n - 1] >= SEGMENT);
    for (int n = 0; n < 2 * SEGMENT; n++) {
        assert_int_equal(dlb_potts_fit(value, n, 0, begin, &pieces_n, NULL), DLB_OK);
        assert_int_equal(pieces_n, n > 0);
    }
}

static void changes_are_described(void **state)
{
    (void)state;
    double value[40], noise;
    struct dlb_potts_change change[40 / SEGMENT + 1];
    int n;
    for (int i = 0; i < 40; i++)
        value[i] = (i % 2 ? 0.001 : -0.001) + (i < 10 ? 0 : i < 25 ? 0.1 : 0.04);
    value[3] = 5; /* one bad night */
    assert_int_equal(dlb_potts_changes(value, 40, step_min, change, &n, &noise, NULL),
                     DLB_OK);
    assert_int_equal(n, 2);
    assert_int_equal(change[0].at, 10);
    assert_int_equal(change[0].before_n, 10);
    assert_int_equal(change[0].after_n, 15);
    assert_true(fabs(change[0].before - 0.001) < 0.0011);
    assert_true(fabs(change[0].after - 0.1) < 0.0011);
    assert_int_equal(change[1].at, 25);
    assert_int_equal(change[1].before_n, 15);
    assert_int_equal(change[1].after_n, 15);
    assert_true(change[1].before == change[0].after);
    assert_true(fabs(change[1].after - 0.04) < 0.0011);
    assert_true(noise > 0.0005 && noise < 0.003);
}

static void small_steps_are_merged(void **state)
{
    (void)state;
    double value[48];
    struct dlb_potts_change change[48 / SEGMENT + 1];
    int n;
    for (int i = 0; i < 48; i++) /* 2 % up and 4 % up, sharp as can be */
        value[i] = i < 16 ? 0 : i < 32 ? 0.02 : 0.06;
    assert_int_equal(dlb_potts_changes(value, 48, step_min, change, &n, NULL, NULL),
                     DLB_OK);
    assert_int_equal(n, 1);
    assert_int_equal(change[0].at, 32);
    assert_int_equal(change[0].before_n, 32);
    assert_true(change[0].before == 0.01);
    assert_int_equal(dlb_potts_changes(value, 48, 0.01, change, &n, NULL, NULL), DLB_OK);
    assert_int_equal(n, 2);
    for (int i = 0; i < 48; i++) /* a staircase of steps that are each too small */
        value[i] = i / 16 * 0.02;
    assert_int_equal(dlb_potts_changes(value, 48, step_min, change, &n, NULL, NULL),
                     DLB_OK);
    assert_int_equal(n, 1);
}

static void short_series_have_no_change(void **state)
{
    (void)state;
    double value[12] = {0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1}, noise;
    struct dlb_potts_change change[3];
    int n;
    for (int length = 0; length < 12; length++) {
        assert_int_equal(
            dlb_potts_changes(value, length, step_min, change, &n, &noise, NULL), DLB_OK);
        assert_int_equal(n, 0);
        assert_int_equal(isnan(noise), length < 3);
    }
    assert_int_equal(dlb_potts_changes(value, 12, step_min, change, &n, &noise, NULL),
                     DLB_OK);
    assert_int_equal(n, 1);
    assert_int_equal(change[0].at, 6);
}

enum kind { LOG_NORMAL, OUTLIERS, DRIFT };

/* n nights with 2 % noise, and from at on slower by step. */
static void simulate(enum kind kind, double *value, int n, int at, double step)
{
    for (int i = 0; i < n; i++) {
        value[i] = 0.02 * normal() + (i >= at ? step : 0);
        if (kind == OUTLIERS && uniform() < 0.05)
            value[i] += 0.1 + 0.3 * uniform();
        if (kind == DRIFT)
            value[i] += 0.02 * i / n;
    }
}

/* Of 400 series, or 100 long ones: the share with any change, with one within a night of
 * at, and with others. */
static void count(enum kind kind, int n, int at, double step, double *any, double *near,
                  double *more)
{
    int turns = n > 120 ? 100 : 400;
    *any = *near = *more = 0;
    for (int turn = 0; turn < turns; turn++) {
        double value[MOST];
        struct dlb_potts_change change[MOST / SEGMENT + 1];
        int found, placed = 0;
        simulate(kind, value, n, at, step);
        assert_int_equal(
            dlb_potts_changes(value, n, step_min, change, &found, NULL, NULL), DLB_OK);
        for (int i = 0; i < found; i++)
            placed |= abs(change[i].at - at) <= 1;
        *any += (found > 0) / (double)turns;
        *near += placed / (double)turns;
        *more += (found > 1) / (double)turns;
    }
}

static void flat_series_stay_flat(void **state)
{
    (void)state;
    static const int lengths[] = {14, 30, 60, 120};
    for (int kind = LOG_NORMAL; kind <= DRIFT; kind++)
        for (int i = 0; i < 4; i++) {
            double any, near, more;
            key = (uint64_t)(10 * kind + i);
            count(kind, lengths[i], MOST, 0, &any, &near, &more);
            if (any > 0.05)
                fail_msg("kind %d, %d nights: %g of them change", kind, lengths[i], any);
        }
}

/* Least squares that knew the levels would place a step of 5 % within a night in 93 of 100
 * series. */
static void steps_are_found_where_they_are(void **state)
{
    (void)state;
    static const struct {
        enum kind kind;
        int n, at;
        double step;
        double any, near; /* at least */
    } cases[] = {
        {LOG_NORMAL, 60, 30, 0.0488, 0.98, 0.88},
        {LOG_NORMAL, 60, 12, 0.0488, 0.96, 0.87},
        {LOG_NORMAL, 60, 53, 0.0488, 0.82, 0.77},
        {LOG_NORMAL, 60, 30, -0.0513, 0.98, 0.88},
        {LOG_NORMAL, 60, 30, 0.0953, 1.00, 0.98},
        {OUTLIERS, 60, 30, 0.0488, 0.97, 0.84},
        {DRIFT, 60, 30, 0.0488, 0.98, 0.88},
        {LOG_NORMAL, 365, 200, 0.0488, 1.00, 0.88},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double any, near, more;
        key = 100 + i;
        count(cases[i].kind, cases[i].n, cases[i].at, cases[i].step, &any, &near, &more);
        if (any < cases[i].any - 1e-9 || near < cases[i].near || more > 0.05)
            fail_msg("case %zu: %g found, %g placed within a night, %g with more", i, any,
                     near, more);
    }
}

/* A bad machine's noise outlasts a night: neighbours correlate. */
static void lasting_noise_is_no_change(void **state)
{
    (void)state;
    int any = 0;
    key = 1000;
    for (int turn = 0; turn < 400; turn++) {
        double value[120], now = 0;
        struct dlb_potts_change change[120 / SEGMENT + 1];
        int n;
        for (int i = 0; i < 120; i++)
            value[i] = now = 0.5 * now + 0.02 * sqrt(0.75) * normal();
        assert_int_equal(dlb_potts_changes(value, 120, step_min, change, &n, NULL, NULL),
                         DLB_OK);
        any += n > 0;
    }
    assert_in_range(any, 0, 400 / 20);
}

static void the_same_series_gives_the_same(void **state)
{
    (void)state;
    double value[200];
    struct dlb_potts_change once[200 / SEGMENT + 1], again[200 / SEGMENT + 1];
    int n, m;
    key = 77;
    simulate(OUTLIERS, value, 200, 90, 0.06);
    assert_int_equal(dlb_potts_changes(value, 200, step_min, once, &n, NULL, NULL),
                     DLB_OK);
    assert_int_equal(dlb_potts_changes(value, 200, step_min, again, &m, NULL, NULL),
                     DLB_OK);
    assert_int_equal(n, m);
    assert_true(n >= 1);
    for (int i = 0; i < n; i++)
        assert_true(once[i].at == again[i].at && once[i].after == again[i].after);
    for (int i = 0; i < 200; i++)
        value[i] = 1; /* no noise at all */
    assert_int_equal(dlb_potts_changes(value, 200, step_min, once, &n, NULL, NULL),
                     DLB_OK);
    assert_int_equal(n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_other_fit_is_better),
        cmocka_unit_test(pieces_have_their_least_length),
        cmocka_unit_test(changes_are_described),
        cmocka_unit_test(small_steps_are_merged),
        cmocka_unit_test(short_series_have_no_change),
        cmocka_unit_test(flat_series_stay_flat),
        cmocka_unit_test(steps_are_found_where_they_are),
        cmocka_unit_test(lasting_noise_is_no_change),
        cmocka_unit_test(the_same_series_gives_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
