#include "judge/significance.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void assert_near(double value, double expected, double tolerance)
{
    if (!(fabs(value - expected) <= tolerance))
        fail_msg("%.17g is not within %g of %.17g", value, tolerance, expected);
}

/* Hollander and Wolfe, example 4.1: permeability of the chorioamnion; the one-sided exact
 * p value is 0.1272. */
static void mann_whitney_is_exact_for_few(void **state)
{
    (void)state;
    const double at_term[] = {0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46};
    const double early[] = {1.15, 0.88, 0.90, 0.74, 1.21};
    assert_near(dlb_mann_whitney(at_term, 10, early, 5), 2 * 0.1272, 1e-4);
    assert_near(dlb_mann_whitney(early, 5, at_term, 10), 2 * 0.1272, 1e-4);

    /* By hand: 1 of 20 orders at each end. */
    const double low[] = {1, 2, 3}, high[] = {4, 5, 6}, between[] = {2.5, 5, 6};
    assert_near(dlb_mann_whitney(low, 3, high, 3), 2.0 / 20, 1e-12);
    /* U = 1: 2 of 20. */
    assert_near(dlb_mann_whitney(low, 3, between, 3), 4.0 / 20, 1e-12);
    assert_near(dlb_mann_whitney(low, 1, high, 1), 1, 0);
}

/* Counts every order of na and nb values. */
static double enumerate(int na, int nb, double u)
{
    int n = na + nb;
    double few = 0, all = 0;
    for (unsigned set = 0; set < 1u << n; set++) {
        double pairs = 0;
        if (__builtin_popcount(set) != na)
            continue;
        for (int i = 0; i < n; i++)
            for (int j = 0; j < i; j++)
                pairs += (set >> i & 1) && !(set >> j & 1);
        all++;
        few += pairs <= u;
    }
    return fmin(1, 2 * few / all);
}

static void mann_whitney_agrees_with_all_orders(void **state)
{
    (void)state;
    static const double a[] = {3, 9, 12, 13, 20, 1.5}, b[] = {1, 2, 4, 8, 10, 11, 30};
    for (int na = 1; na <= 6; na++)
        for (int nb = 1; nb <= 7; nb++) {
            double u = 0;
            for (int i = 0; i < na; i++)
                for (int j = 0; j < nb; j++)
                    u += a[i] > b[j];
            u = fmin(u, na * nb - u);
            assert_near(dlb_mann_whitney(a, na, b, nb), enumerate(na, nb, u), 1e-12);
        }
}

/* R, wilcox.test(Ozone ~ Month, data = airquality, subset = Month %in% c(5, 8)):
 * W = 127.5, p-value = 0.0001208, with ties and the continuity correction. */
static void mann_whitney_corrects_for_ties(void **state)
{
    (void)state;
    const double may[] = {41, 36, 12, 18, 28, 23, 19, 8, 7,  16, 11, 14,  18,
                          14, 34, 6,  30, 11, 1,  11, 4, 32, 23, 45, 115, 37};
    const double august[] = {39, 9,  16, 78, 35, 66, 122, 89,  110, 44, 28,  65, 22,
                             59, 23, 31, 44, 21, 9,  45,  168, 73,  76, 118, 84, 85};
    assert_near(dlb_mann_whitney(may, 26, august, 26), 0.0001208, 5e-8);

    /* By hand: a = {1, 2, 2}, b = {2, 3, 3}; U = 1, mean 4.5, variance 9/12 (7 - 30/30) = 4.5. */
    const double a[] = {1, 2, 2}, b[] = {2, 3, 3}, same[] = {5, 5, 5, 5};
    assert_near(dlb_mann_whitney(a, 3, b, 3), erfc(3 / sqrt(4.5) / M_SQRT2), 1e-12);
    assert_near(dlb_mann_whitney(same, 4, same, 4), 1, 0);
}

static void mann_whitney_needs_both_sides(void **state)
{
    (void)state;
    const double one[] = {1};
    assert_true(isnan(dlb_mann_whitney(one, 1, NULL, 0)));
    assert_true(isnan(dlb_mann_whitney(NULL, 0, one, 1)));
}

/* On equal distributions p is uniform, or (with ties, and corrected) on the safe side. */
static void mann_whitney_holds_its_level(void **state)
{
    (void)state;
    struct dlb_random random = {.seed = 5};
    int below[2] = {0, 0}, trials = 4000;
    for (int trial = 0; trial < trials; trial++)
        for (int tied = 0; tied < 2; tied++) {
            double a[12], b[30];
            for (int i = 0; i < 42; i++) {
                double x = dlb_random_uniform(&random);
                *(i < 12 ? &a[i] : &b[i - 12]) = tied ? floor(8 * x) : x;
            }
            below[tied] += dlb_mann_whitney(a, 12, b, 30) <= 0.05;
        }
    for (int tied = 0; tied < 2; tied++)
        assert_near(below[tied] / (double)trials, 0.046, 0.014);
}

/* Benjamini and Hochberg 1995, section 4: at 5 % the first four of fifteen. */
static void false_discovery_as_published(void **state)
{
    (void)state;
    const double p[] = {0.0298, 0.0001, 0.7590, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278,
                        0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 1.0000};
    double q[15];
    int called = 0;
    assert_int_equal(dlb_false_discovery(p, 15, q, NULL), DLB_OK);
    for (int i = 0; i < 15; i++)
        called += q[i] <= 0.05;
    assert_int_equal(called, 4);
    assert_near(q[1], 0.0001 * 15, 1e-12);
    assert_near(q[5], 0.0095 * 15 / 4, 1e-12);
    assert_near(q[6], 0.0201 * 15 / 5, 1e-12);
    assert_near(q[7], 0.0298 * 15 / 7, 1e-12); /* the next one is smaller than its own */
    assert_near(q[14], 1, 0);
}

static void false_discovery_passes_over_nan(void **state)
{
    (void)state;
    double p[] = {NAN, 0.01, NAN, 0.04};
    assert_int_equal(dlb_false_discovery(p, 4, p, NULL), DLB_OK);
    assert_true(isnan(p[0]) && isnan(p[2]));
    assert_near(p[1], 0.02, 1e-12);
    assert_near(p[3], 0.04, 1e-12);
    assert_int_equal(dlb_false_discovery(NULL, 0, NULL, NULL), DLB_OK);
}

/* From the tables that every book has. */
static void student_as_in_tables(void **state)
{
    (void)state;
    static const struct {
        double df, p, t;
    } known[] = {{1, 0.05, 12.7062},        {2, 0.05, 4.30265},
                 {4, 0.01, 4.60409},        {10, 0.05, 2.22814},
                 {30, 0.001, 3.64596},      {120, 0.05, 1.97993},
                 {INFINITY, 0.05, 1.95996}, {INFINITY, 0.01, 2.57583}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        assert_near(dlb_student_tail(known[i].t, known[i].df), known[i].p, 2e-6);
        assert_near(dlb_student_tail(-known[i].t, known[i].df), known[i].p, 2e-6);
        assert_near(dlb_student_quantile(known[i].p, known[i].df), known[i].t, 1e-4);
    }
    /* One degree is Cauchy's distribution, two have a formula. */
    for (double t = 0; t < 40; t += 0.7) {
        assert_near(dlb_student_tail(t, 1), 1 - 2 * atan(t) / M_PI, 1e-12);
        assert_near(dlb_student_tail(t, 2), 1 - t / sqrt(2 + t * t), 1e-12);
    }
    assert_near(dlb_student_tail(0, 3.7), 1, 1e-12);
    assert_near(dlb_student_tail(30, 1e6), dlb_student_tail(30, INFINITY), 1e-150);
}

static double chi_square(struct dlb_random *random, int df)
{
    double sum = 0;
    for (int i = 0; i < df; i++) {
        double x = dlb_random_student(random, INFINITY);
        sum += x * x;
    }
    return sum;
}

/* Variances that scatter as an inverse chi square of 8 degrees around 3, each estimated
 * with 4. */
static void prior_finds_scale_and_degrees(void **state)
{
    (void)state;
    enum { N = 4000 };
    struct dlb_random random = {.seed = 11};
    double *variance = malloc(N * sizeof *variance), *df = malloc(N * sizeof *df);
    double scale, prior;
    assert_true(variance && df);
    for (int i = 0; i < N; i++) {
        double own = 3 * 8 / chi_square(&random, 8);
        df[i] = 4;
        variance[i] = own * chi_square(&random, 4) / 4;
    }
    dlb_variance_prior(variance, df, N, &scale, &prior);
    assert_near(scale, 3, 0.25);
    assert_near(prior, 8, 2);
    for (int i = 0; i < N; i++)
        variance[i] = 3 * chi_square(&random, 4) / 4;
    dlb_variance_prior(variance, df, N, &scale, &prior);
    assert_near(scale, 3, 0.15);
    assert_true(prior > 60);
    /* A few that are huge are not what the others are like. */
    for (int i = 0; i < N / 50; i++)
        variance[i] *= 1000;
    dlb_variance_prior(variance, df, N, &scale, &prior);
    assert_true(scale < 3.5 && prior > 2);
    free(variance);
    free(df);
}

/* Equal variances with 2 degrees: ln x - digamma(1), where digamma(1) = -0.5772. */
static void prior_of_equals(void **state)
{
    (void)state;
    const double variance[] = {5, 5, 5}, df[] = {2, 2, 2}, zero[] = {0, 0};
    double scale, prior;
    dlb_variance_prior(variance, df, 3, &scale, &prior);
    assert_true(isinf(prior));
    assert_near(scale, 5 * exp(0.57721566490153286), 1e-8);
    dlb_variance_prior(zero, df, 2, &scale, &prior);
    assert_true(scale > 0 && scale < 1e-12);
}

static void random_numbers_are_what_they_claim(void **state)
{
    (void)state;
    static const double degrees[] = {1, 3, 10, INFINITY};
    enum { N = 20000 };
    struct dlb_random random = {.seed = 3}, again = {.seed = 3};
    double sum = 0;
    for (int i = 0; i < N; i++) {
        double x = dlb_random_uniform(&random);
        assert_true(x > 0 && x < 1);
        assert_true(x == dlb_random_uniform(&again));
        sum += x / N;
    }
    assert_near(sum, 0.5, 0.01);
    for (size_t d = 0; d < sizeof degrees / sizeof *degrees; d++)
        for (double p = 0.01; p < 1; p += 0.2) {
            double t = dlb_student_quantile(p, degrees[d]);
            int beyond = 0, above = 0;
            for (int i = 0; i < N; i++) {
                double x = dlb_random_student(&random, degrees[d]);
                beyond += fabs(x) >= t;
                above += x > 0;
            }
            assert_near(beyond / (double)N, p, 4 * sqrt(p * (1 - p) / N));
            assert_near(above / (double)N, 0.5, 0.015);
        }
}

/* All 3125 resamples of five values, by their medians. */
static void resampled_median_is_one_of_a_resample(void **state)
{
    (void)state;
    const double sorted[] = {0, 1, 2, 3, 4};
    enum { N = 50000 };
    double expected[5] = {0}, found[5] = {0};
    for (int code = 0; code < 3125; code++) {
        int count[5] = {0}, below = 0;
        for (int i = 0, rest = code; i < 5; i++, rest /= 5)
            count[rest % 5]++;
        for (int value = 0; value < 5; value++) {
            expected[value] += below < 3 && below + count[value] >= 3 ? 1 / 3125.0 : 0;
            below += count[value];
        }
    }
    struct dlb_random random = {.seed = 9};
    for (int i = 0; i < N; i++)
        found[(int)dlb_resampled_median(&random, sorted, 5)] += 1.0 / N;
    for (int value = 0; value < 5; value++)
        assert_near(found[value], expected[value], 0.01);
    assert_near(dlb_resampled_median(&random, sorted + 3, 1), 3, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mann_whitney_is_exact_for_few),
        cmocka_unit_test(mann_whitney_agrees_with_all_orders),
        cmocka_unit_test(mann_whitney_corrects_for_ties),
        cmocka_unit_test(mann_whitney_needs_both_sides),
        cmocka_unit_test(mann_whitney_holds_its_level),
        cmocka_unit_test(false_discovery_as_published),
        cmocka_unit_test(false_discovery_passes_over_nan),
        cmocka_unit_test(student_as_in_tables),
        cmocka_unit_test(prior_finds_scale_and_degrees),
        cmocka_unit_test(prior_of_equals),
        cmocka_unit_test(random_numbers_are_what_they_claim),
        cmocka_unit_test(resampled_median_is_one_of_a_resample),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
