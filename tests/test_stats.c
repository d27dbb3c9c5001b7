#include "measure/stats.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void assert_near(double value, double expected, double tolerance)
{
    if (!(fabs(value - expected) <= tolerance)) {
        fail_msg("%.17g is not within %g of %.17g", value, tolerance, expected);
    }
}

/* Known values */

/* Ranks from the exact binomial sums in rational arithmetic. */
static void test_ranks_known(void **state)
{
    (void)state;
    static const struct {
        int n, lo, hi;
        double level;
    } known[] = {{6, 1, 6, 0.9688},    {7, 1, 7, 0.9844},    {8, 1, 8, 0.9922},
                 {9, 2, 8, 0.9609},    {10, 2, 9, 0.9785},   {11, 2, 10, 0.9883},
                 {12, 3, 10, 0.9614},  {13, 3, 11, 0.9775},  {14, 3, 12, 0.9871},
                 {15, 4, 12, 0.9648},  {16, 4, 13, 0.9787},  {17, 5, 13, 0.9510},
                 {18, 5, 14, 0.9691},  {19, 5, 15, 0.9808},  {20, 6, 15, 0.9586},
                 {21, 6, 16, 0.9734},  {22, 6, 17, 0.9831},  {23, 7, 17, 0.9653},
                 {24, 7, 18, 0.9773},  {25, 8, 18, 0.9567},  {26, 8, 19, 0.9710},
                 {27, 8, 20, 0.9808},  {28, 9, 20, 0.9643},  {29, 9, 21, 0.9759},
                 {30, 10, 21, 0.9572}, {100, 40, 61, 0.9648}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        int lo, hi;
        double level = dlb_median_ranks(known[i].n, 0.95, &lo, &hi);
        assert_int_equal(lo, known[i].lo);
        assert_int_equal(hi, known[i].hi);
        assert_near(level, known[i].level, 6e-5);
    }
}

static void test_ranks_too_few(void **state)
{
    (void)state;
    for (int n = 1; n <= 5; n++) {
        int lo, hi;
        assert_near(dlb_median_ranks(n, 0.95, &lo, &hi), 0, 0);
        assert_int_equal(lo, 1);
        assert_int_equal(hi, n);
    }
    int lo, hi;
    assert_near(dlb_median_ranks(0, 0.95, &lo, &hi), 0, 0);
    assert_near(dlb_median_ranks(2, 0.5, &lo, &hi), 0.5, 0);
}

/* For large n the ranks are n/2 -+ 0.98 sqrt(n), and the level is as good as the wish. */
static void test_ranks_large(void **state)
{
    (void)state;
    for (int n = 101; n <= 1000000; n = n * 3 + 1) {
        int lo, hi;
        double level = dlb_median_ranks(n, 0.95, &lo, &hi);
        assert_int_equal(lo + hi, n + 1);
        assert_true(level >= 0.95 && level < 0.95 + 0.25 / sqrt(n));
        assert_near(lo, n / 2.0 - 0.98 * sqrt(n), 1.5);
    }
    int lo, hi;
    assert_near(dlb_median_ranks(1000000, 0.95, &lo, &hi), 0.95, 3e-4);
}

static void test_ranks_grow_with_level(void **state)
{
    (void)state;
    for (int n = 8; n < 600; n += 7) {
        int lo90, lo99, hi90, hi99;
        assert_true(dlb_median_ranks(n, 0.90, &lo90, &hi90) >= 0.90);
        assert_true(dlb_median_ranks(n, 0.99, &lo99, &hi99) >= 0.99);
        assert_true(lo99 <= lo90 && hi99 >= hi90);
    }
}

static void test_sign_test(void **state)
{
    (void)state;
    assert_near(dlb_sign_test(0, 0), 1, 0);
    assert_near(dlb_sign_test(1, 1), 1, 0);
    assert_near(dlb_sign_test(5, 10), 1, 0);
    assert_near(dlb_sign_test(10, 10), 2.0 / 1024, 1e-15);
    assert_near(dlb_sign_test(1, 10), 22.0 / 1024, 1e-15);
    assert_near(dlb_sign_test(9, 10), 22.0 / 1024, 1e-15);
    assert_near(dlb_sign_test(8, 10), 112.0 / 1024, 1e-15);
    assert_near(dlb_sign_test(500980, 1000000), 0.0501, 2e-4);
    assert_near(dlb_sign_test(0, 1000000), 0, 0);
    assert_near(dlb_sign_test(500000, 1000001), 1, 1e-6);
}

static void test_quantile(void **state)
{
    (void)state;
    const double one[] = {7}, four[] = {4, 1, 3, 2}, five[] = {50, 10, 40, 20, 30};
    assert_near(dlb_quantile(one, 1, 0), 7, 0);
    assert_near(dlb_quantile(one, 1, 1), 7, 0);
    assert_near(dlb_quantile(four, 4, 0.25), 1.75, 1e-15);
    assert_near(dlb_quantile(four, 4, 0.5), 2.5, 1e-15);
    assert_near(dlb_quantile(four, 4, 0.75), 3.25, 1e-15);
    assert_near(dlb_quantile(five, 5, 0.1), 14, 1e-13);
    assert_near(dlb_quantile(five, 5, 0), 10, 0);
    assert_near(dlb_quantile(five, 5, 1), 50, 0);
    assert_near(four[0], 4, 0); /* the sample itself stays as it was */
    assert_true(isnan(dlb_quantile(NULL, 0, 0.5)));
}

static void test_summary_known(void **state)
{
    (void)state;
    const double sample[] = {2, 4, 4, 4, 5, 5, 7, 9};
    struct dlb_summary s;
    dlb_summarise(sample, 8, 0.95, &s);
    assert_int_equal(s.n, 8);
    assert_near(s.min, 2, 0);
    assert_near(s.median, 4.5, 0);
    assert_near(s.mean, 5, 1e-15);
    assert_near(s.stddev, sqrt(32.0 / 7), 1e-14);
    assert_near(s.mad, 0.5, 0);
    assert_near(s.max, 9, 0);
    assert_near(s.ci_lo, 2, 0);
    assert_near(s.ci_hi, 9, 0);
    assert_near(s.ci_level, 1 - 2.0 / 256, 1e-15);
    assert_true(isnan(s.p90) && isnan(s.p95) && isnan(s.p99));
    assert_int_equal(s.outliers_mild, 1); /* quartiles 4 and 5.5: 9 > 7.75 */
    assert_int_equal(s.outliers_severe, 0);
}

static void test_summary_few(void **state)
{
    (void)state;
    const double sample[] = {3, 1};
    struct dlb_summary s;
    dlb_summarise(NULL, 0, 0.95, &s);
    assert_int_equal(s.n, 0);
    assert_true(isnan(s.min) && isnan(s.median) && isnan(s.mean) && isnan(s.stddev));
    assert_true(isnan(s.mad) && isnan(s.max) && isnan(s.ci_lo) && isnan(s.ci_hi));
    assert_true(isnan(s.ci_level));
    assert_int_equal(s.outliers_mild + s.outliers_severe, 0);

    dlb_summarise(sample, 1, 0.95, &s);
    assert_near(s.median, 3, 0);
    assert_near(s.mad, 0, 0);
    assert_true(isnan(s.stddev));
    assert_near(s.ci_level, 0, 0);

    dlb_summarise(sample, 2, 0.95, &s);
    assert_near(s.median, 2, 0);
    assert_near(s.stddev, sqrt(2), 1e-15);
    assert_near(s.ci_lo, 1, 0);
    assert_near(s.ci_hi, 3, 0);
    assert_near(s.ci_level, 0, 0);
}

static void test_summary_ties(void **state)
{
    (void)state;
    double sample[50];
    struct dlb_summary s;
    for (int i = 0; i < 50; i++) {
        sample[i] = 4;
    }
    dlb_summarise(sample, 50, 0.95, &s);
    assert_near(s.median, 4, 0);
    assert_near(s.stddev, 0, 0);
    assert_near(s.ci_hi - s.ci_lo, 0, 0);
    assert_int_equal(s.outliers_mild, 0);
    sample[7] = 5; /* with no spread at all, any other value lies beyond */
    dlb_summarise(sample, 50, 0.95, &s);
    assert_int_equal(s.outliers_mild, 1);
    assert_int_equal(s.outliers_severe, 1);
}

static void test_percentiles_need_samples(void **state)
{
    (void)state;
    static double sample[1000];
    struct dlb_summary s;
    for (int i = 0; i < 1000; i++) {
        sample[i] = i;
    }
    dlb_summarise(sample, 99, 0.95, &s);
    assert_true(isnan(s.p90));
    dlb_summarise(sample, 100, 0.95, &s);
    assert_near(s.p90, 89.1, 1e-10);
    assert_true(isnan(s.p95));
    dlb_summarise(sample, 200, 0.95, &s);
    assert_near(s.p95, 189.05, 1e-10);
    dlb_summarise(sample, 999, 0.95, &s);
    assert_true(isnan(s.p99));
    dlb_summarise(sample, 1000, 0.95, &s);
    assert_near(s.p99, 989.01, 1e-10);
}

static void test_ratio_known(void **state)
{
    (void)state;
    double a[21], b[21];
    struct dlb_ratio r, inverse;
    for (int i = 0; i < 21; i++) {
        a[i] = 100 * pow(3, i % 5); /* the pairs matter, not the spread within an arm */
        b[i] = a[i] * (1.10 + 0.001 * (i - 10));
    }
    dlb_paired_ratio(a, b, 21, 0.95, &r);
    assert_int_equal(r.n, 21);
    assert_near(r.median, 1.10, 1e-12);
    assert_near(r.ci_lo, 1.095, 1e-12);
    assert_near(r.ci_hi, 1.105, 1e-12);
    assert_near(r.ci_level, 0.9734, 6e-5);
    dlb_paired_ratio(b, a, 21, 0.95, &inverse);
    assert_near(inverse.median * r.median, 1, 1e-12);
    assert_near(inverse.ci_lo * r.ci_hi, 1, 1e-12);

    a[3] = 0;
    dlb_paired_ratio(a, b, 21, 0.95, &r);
    assert_true(isnan(r.median) && isnan(r.ci_lo) && isnan(r.ci_level));
    dlb_paired_ratio(a, b, 0, 0.95, &r);
    assert_true(isnan(r.median) && r.n == 0);
    dlb_paired_ratio(a, b, 1, 0.95, &r);
    assert_near(r.median, 1.09, 1e-12);
    assert_near(r.ci_level, 0, 0);
}

static void test_judge(void **state)
{
    (void)state;
    static const struct {
        struct dlb_ratio ratio;
        double floor;
        enum dlb_difference verdict;
    } known[] = {
        {{21, 0.95, 0.94, 0.96, 0.97}, 0, DLB_FASTER},
        {{21, 1.05, 1.04, 1.06, 0.97}, 0, DLB_SLOWER},
        {{21, 1.05, 0.99, 1.06, 0.97}, 0, DLB_SAME},
        {{21, 1.015, 1.01, 1.02, 0.97}, 0, DLB_SAME},
        {{21, 0.985, 0.98, 0.99, 0.97}, 0, DLB_SAME},
        {{21, 1.05, 1.04, 1.06, 0.97}, 0.06, DLB_SAME},
        {{21, 1.05, 1.04, 1.06, 0.97}, 0.04, DLB_SLOWER},
        {{21, 0.5, 0.4, 0.6, 0.97}, 0.7, DLB_SAME},
        {{5, 2.0, 1.9, 2.1, 0}, 0, DLB_SAME},
        {{21, 2.0, 1.9, 2.1, 0.97}, NAN, DLB_SAME},
        {{0, NAN, NAN, NAN, NAN}, 0, DLB_SAME},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        assert_int_equal(dlb_judge_ratio(&known[i].ratio, known[i].floor),
                         known[i].verdict);
    }
}

static void test_geomean(void **state)
{
    (void)state;
    const double value[] = {2, 8, 4}, weight[] = {1, 1, 2}, none[] = {0, 0, 0};
    const double skewed[] = {3, 0, 0}, negative[] = {1, 2, -1}, bad[] = {1, 0, 2};
    assert_near(dlb_weighted_geomean(value, weight, 3), 4, 1e-14);
    assert_near(dlb_weighted_geomean(value, NULL, 3), 4, 1e-14);
    assert_near(dlb_weighted_geomean(value, skewed, 3), 2, 1e-14);
    assert_true(isnan(dlb_weighted_geomean(value, none, 3)));
    assert_true(isnan(dlb_weighted_geomean(value, negative, 3)));
    assert_true(isnan(dlb_weighted_geomean(bad, weight, 3)));
    assert_true(isnan(dlb_weighted_geomean(value, weight, 0)));
}

/* Simulated machines */

struct generator {
    uint64_t state;
};

static double uniform(struct generator *generator) /* in (0, 1) */
{
    uint64_t z = generator->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return ((double)((z ^ z >> 31) >> 11) + 0.5) * 0x1p-53;
}

static double normal(struct generator *generator)
{
    double radius = sqrt(-2 * log(uniform(generator)));
    return radius * cos(2 * M_PI * uniform(generator));
}

/* How a simulated machine disturbs what runs on it. */
struct machine {
    const char *name;
    double sigma;         /* of the log-normal noise of a sample */
    double outlier_share; /* one-sided: these samples take longer, exponentially */
    double outlier_mean;
    double drift;          /* relative, over one session */
    double episode_starts; /* chance per round that half speed begins */
    double episode_ends;   /* and that it is over */
};

static const struct machine machines[] = {
    {"quiet", 0.002, 0, 0, 0, 0, 0},
    {"usual", 0.01, 0.05, 0.3, 0, 0, 0},
    {"loud", 0.02, 0.15, 0.5, 0, 0, 0},
    {"drifting", 0.01, 0.05, 0.3, 0.30, 0, 0},
    {"half-speed episodes", 0.01, 0.05, 0.3, 0, 0.05, 0.20},
};
enum { MACHINES = sizeof machines / sizeof *machines, SIMULATIONS = 3000, ROUNDS = 21 };

static double disturbed(const struct machine *machine, struct generator *generator)
{
    double factor = exp(machine->sigma * normal(generator));
    if (uniform(generator) < machine->outlier_share) {
        factor *= 1 - machine->outlier_mean * log(uniform(generator));
    }
    return factor;
}

/* A session of A B B A rounds: each arm's sample is the mean of its two blocks. */
static void simulate(const struct machine *machine, double difference, double *a,
                     double *b, int rounds, struct generator *generator)
{
    bool slow = false;
    for (int i = 0; i < rounds; i++) {
        bool b_first = uniform(generator) < 0.5;
        double block[4];
        slow = uniform(generator) <
               (slow ? 1 - machine->episode_ends : machine->episode_starts);
        for (int j = 0; j < 4; j++) {
            double at = (4 * i + j) / (4.0 * rounds);
            block[j] = 1000 * (1 + machine->drift * at) * (slow ? 2 : 1) *
                       disturbed(machine, generator);
        }
        double outer = (block[0] + block[3]) / 2, inner = (block[1] + block[2]) / 2;
        a[i] = b_first ? inner : outer;
        b[i] = (b_first ? outer : inner) * difference;
    }
}

static void test_rank_correlation(void **state)
{
    (void)state;
    const double up[] = {1, 10, 100, 1000, 10000}, down[] = {5, 4, 3, 2, 1};
    const double swapped[] = {2, 1, 3, 4, 5}, tied[] = {1, 2, 2, 3, 4};
    const double flat[] = {7, 7, 7, 7, 7};
    assert_float_equal(dlb_rank_correlation(up, up, 5), 1, 1e-12);
    assert_float_equal(dlb_rank_correlation(up, down, 5), -1, 1e-12);
    /* 1 - 6 * 2 / (5 * 24) */
    assert_float_equal(dlb_rank_correlation(up, swapped, 5), 0.9, 1e-12);
    /* Ranks 1, 2.5, 2.5, 4, 5: covariance 9.5 over sqrt(10 * 9.5). */
    assert_float_equal(dlb_rank_correlation(up, tied, 5), sqrt(0.95), 1e-12);
    assert_true(isnan(dlb_rank_correlation(up, flat, 5)));
    assert_true(isnan(dlb_rank_correlation(up, up, 1)));
}

static void test_coverage_of_median(void **state)
{
    (void)state;
    static double population[400001];
    static const int sizes[] = {7, 21, 60};
    for (int m = 0; m < 3; m++) { /* those whose samples are alike over the session */
        struct generator generator = {17 + (uint64_t)m};
        for (int i = 0; i < 400001; i++) {
            population[i] = disturbed(&machines[m], &generator);
        }
        double truth = dlb_quantile(population, 400001, 0.5);
        for (int s = 0; s < 3; s++) {
            int covered = 0;
            for (int i = 0; i < SIMULATIONS; i++) {
                double sample[60];
                struct dlb_summary summary;
                for (int j = 0; j < sizes[s]; j++) {
                    sample[j] = disturbed(&machines[m], &generator);
                }
                dlb_summarise(sample, sizes[s], 0.95, &summary);
                covered += summary.ci_lo <= truth && truth <= summary.ci_hi;
            }
            if (covered < 0.93 * SIMULATIONS) {
                fail_msg("%s, n = %d: covered %d of %d", machines[m].name, sizes[s],
                         covered, SIMULATIONS);
            }
        }
    }
}

static int count_verdicts(const struct machine *machine, double difference,
                          enum dlb_difference verdict)
{
    struct generator generator = {4711};
    int count = 0;
    for (int i = 0; i < SIMULATIONS; i++) {
        double a[ROUNDS], b[ROUNDS];
        struct dlb_ratio ratio;
        simulate(machine, difference, a, b, ROUNDS, &generator);
        dlb_paired_ratio(a, b, ROUNDS, 0.95, &ratio);
        count += dlb_judge_ratio(&ratio, 0) == verdict;
    }
    return count;
}

static void test_same_is_judged_same(void **state)
{
    (void)state;
    for (int m = 0; m < MACHINES; m++) {
        int same = count_verdicts(&machines[m], 1, DLB_SAME);
        if (same < 0.97 * SIMULATIONS) {
            fail_msg("%s: %d of %d judged the same", machines[m].name, same, SIMULATIONS);
        }
    }
}

static void test_five_percent_is_found(void **state)
{
    (void)state;
    for (int m = 0; m < MACHINES; m++) {
        if (machines[m].outlier_share > 0.1) {
            continue; /* beyond 1 to 2 % of noise */
        }
        int slower = count_verdicts(&machines[m], 1.05, DLB_SLOWER);
        int faster = count_verdicts(&machines[m], 1 / 1.05, DLB_FASTER);
        if (slower < 0.9 * SIMULATIONS || faster < 0.9 * SIMULATIONS) {
            fail_msg("%s: %d slower, %d faster of %d", machines[m].name, slower, faster,
                     SIMULATIONS);
        }
    }
    const struct machine two_percent = {.name = "2 %", .sigma = 0.02};
    assert_true(count_verdicts(&two_percent, 1.05, DLB_SLOWER) >= 0.9 * SIMULATIONS);
}

/* Why rounds are paired: the medians of two arms timed one after the other on a drifting
 * machine differ although the arms are the same. */
static void test_unpaired_would_be_wrong(void **state)
{
    (void)state;
    const struct machine *drifting = &machines[3];
    struct generator generator = {3};
    double a[2 * ROUNDS], b[2 * ROUNDS];
    struct dlb_ratio ratio;
    simulate(drifting, 1, a, b, 2 * ROUNDS, &generator);
    dlb_paired_ratio(a, a + ROUNDS, ROUNDS, 0.95, &ratio);
    assert_int_equal(dlb_judge_ratio(&ratio, 0), DLB_SLOWER);
    dlb_paired_ratio(a, b, 2 * ROUNDS, 0.95, &ratio);
    assert_int_equal(dlb_judge_ratio(&ratio, 0), DLB_SAME);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranks_known),
        cmocka_unit_test(test_ranks_too_few),
        cmocka_unit_test(test_ranks_large),
        cmocka_unit_test(test_ranks_grow_with_level),
        cmocka_unit_test(test_sign_test),
        cmocka_unit_test(test_quantile),
        cmocka_unit_test(test_summary_known),
        cmocka_unit_test(test_summary_few),
        cmocka_unit_test(test_summary_ties),
        cmocka_unit_test(test_percentiles_need_samples),
        cmocka_unit_test(test_ratio_known),
        cmocka_unit_test(test_judge),
        cmocka_unit_test(test_geomean),
        cmocka_unit_test(test_rank_correlation),
        cmocka_unit_test(test_coverage_of_median),
        cmocka_unit_test(test_same_is_judged_same),
        cmocka_unit_test(test_five_percent_is_found),
        cmocka_unit_test(test_unpaired_would_be_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
