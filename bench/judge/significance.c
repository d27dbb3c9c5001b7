#include "judge/significance.h"

#include "measure/stats.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { EXACT_MAX = 20 };

/* A value and the side that it is from. */
struct ranked {
    double value;
    bool first;
};

static int by_value(const void *left, const void *right)
{
    double a = ((const struct ranked *)left)->value;
    double b = ((const struct ranked *)right)->value;
    return (a > b) - (a < b);
}

/* Twice the probability of a U of at most u: the coefficients of the Gaussian binomial
 * count the arrangements, all equally likely. */
static double exact_tail(int na, int nb, double u)
{
    double ways[EXACT_MAX * EXACT_MAX + 1] = {1}, all = 0, few = 0;
    int most = na * nb;
    for (int i = 1; i <= na; i++) {
        for (int j = most; j >= nb + i; j--)
            ways[j] -= ways[j - nb - i];
        for (int j = i; j <= most; j++)
            ways[j] += ways[j - i];
    }
    for (int j = 0; j <= most; j++) {
        all += ways[j];
        few += j <= u ? ways[j] : 0;
    }
    return fmin(1, 2 * few / all);
}

double dlb_mann_whitney(const double *a, int na, const double *b, int nb)
{
    double ranks = 0, ties = 0, p = NAN;
    int n = na + nb;
    struct ranked *all = na > 0 && nb > 0 ? malloc((size_t)n * sizeof *all) : NULL;
    if (!all)
        return NAN;
    for (int i = 0; i < n; i++)
        all[i] = i < na ? (struct ranked){a[i], true} : (struct ranked){b[i - na], false};
    qsort(all, (size_t)n, sizeof *all, by_value);
    for (int i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && all[end].value == all[i].value;)
            end++;
        double size = end - i;
        ties += size * (size * size - 1);
        for (int j = i; j < end; j++)
            ranks += all[j].first ? (i + 1 + end) / 2.0 : 0;
    }
    double pairs = (double)na * nb;
    double u = ranks - na * (na + 1.0) / 2;
    u = fmin(u, pairs - u);
    if (ties == 0 && na <= EXACT_MAX && nb <= EXACT_MAX) {
        p = exact_tail(na, nb, u);
    } else {
        double spread = sqrt(pairs / 12 * (n + 1 - ties / ((double)n * (n - 1))));
        double z = fmax(0, pairs / 2 - u - 0.5) / spread;
        p = spread > 0 ? erfc(z / M_SQRT2) : 1;
    }
    free(all);
    return p;
}

struct test {
    double p;
    int index;
};

static int by_p(const void *left, const void *right)
{
    const struct test *a = left, *b = right;
    if (a->p != b->p)
        return a->p < b->p ? -1 : 1;
    return a->index - b->index;
}

enum dlb_status dlb_false_discovery(const double *p, int n, double *q,
                                    struct dlb_error *error)
{
    int tests = 0;
    double least = 1;
    struct test *test = malloc((size_t)dlb_max(1, n) * sizeof *test);
    if (!test)
        return dlb_fail(error, DLB_NOMEM, "There is no memory left for %d tests.", n);
    for (int i = 0; i < n; i++)
        if (!isnan(p[i]))
            test[tests++] = (struct test){p[i], i};
    qsort(test, (size_t)tests, sizeof *test, by_p);
    if (q != p && n > 0)
        memcpy(q, p, (size_t)n * sizeof *q);
    for (int rank = tests; rank > 0; rank--) {
        least = fmin(least, test[rank - 1].p * tests / rank);
        q[test[rank - 1].index] = least;
    }
    free(test);
    return DLB_OK;
}

/* The continued fraction of the incomplete beta function (Abramowitz and Stegun 26.5.8),
 * by the modified method of Lentz; converges fast for x < (a + 1)/(a + b + 2). */
static double beta_fraction(double a, double b, double x)
{
    const double tiny = 1e-300;
    double c = 1, d = 1 - (a + b) * x / (a + 1), value;
    d = 1 / (fabs(d) < tiny ? tiny : d);
    value = d;
    for (int m = 1; m < 10000; m++) {
        double before = value;
        double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        for (int half = 0; half < 2; half++) {
            double term = half ? odd : even;
            d = 1 + term * d;
            c = 1 + term / c;
            d = 1 / (fabs(d) < tiny ? tiny : d);
            c = fabs(c) < tiny ? tiny : c;
            value *= d * c;
        }
        if (fabs(value - before) <= 1e-15 * fabs(value))
            break;
    }
    return value;
}

/* The regularised incomplete beta function I_x(a, b); y is 1 - x. */
static double incomplete_beta(double a, double b, double x, double y)
{
    int sign;
    if (x <= 0 || y <= 0)
        return x > 0;
    double front = exp(lgamma_r(a + b, &sign) - lgamma_r(a, &sign) - lgamma_r(b, &sign) +
                       a * log(x) + b * log(y));
    if (x < (a + 1) / (a + b + 2))
        return front * beta_fraction(a, b, x) / a;
    return 1 - front * beta_fraction(b, a, y) / b;
}

double dlb_student_tail(double t, double df)
{
    assert(df > 0);
    if (isinf(df) || df > 1e7)
        return erfc(fabs(t) / M_SQRT2);
    return incomplete_beta(df / 2, 0.5, df / (df + t * t), t * t / (df + t * t));
}

double dlb_student_quantile(double p, double df)
{
    assert(p > 0 && p < 1);
    double low = 0, high = 1;
    while (dlb_student_tail(high, df) > p && high < 1e300)
        high *= 2;
    for (int i = 0; i < 100 && high - low > 1e-12 * high; i++) {
        double middle = low + (high - low) / 2;
        if (dlb_student_tail(middle, df) > p)
            low = middle;
        else
            high = middle;
    }
    return high;
}

/* Digamma, and its first two derivatives, of x > 0: up to where the asymptotic series is
 * exact enough (Abramowitz and Stegun 6.3.18, 6.4.12, 6.4.13). */
static void polygamma(double x, double value[3])
{
    value[0] = value[1] = value[2] = 0;
    for (; x < 10; x++) {
        value[0] -= 1 / x;
        value[1] += 1 / (x * x);
        value[2] -= 2 / (x * x * x);
    }
    double r = 1 / x, s = r * r;
    value[0] += log(x) - r / 2 - s * (1.0 / 12 - s * (1.0 / 120 - s / 252));
    value[1] += r + s / 2 + r * s * (1.0 / 6 - s * (1.0 / 30 - s / 42));
    value[2] -= s + r * s + s * s * (0.5 - s * (1.0 / 6 - s / 6));
}

static double trigamma_inverse(double y)
{
    double x = 0.5 + 1 / y, at[3];
    for (int i = 0; i < 60; i++) {
        polygamma(x, at);
        double step = at[1] * (1 - at[1] / y) / at[2];
        x += step;
        if (-step < 1e-10 * x)
            break;
    }
    return x;
}

void dlb_variance_prior(const double *variance, const double *df, int n, double *scale,
                        double *prior_df)
{
    assert(n >= 2);
    /* Equal times are those that the clock could not tell apart. */
    double least = fmax(1e-14, 1e-5 * dlb_quantile(variance, n, 0.5));
    double mean = 0, squares = 0, expected = 0, at[3];
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < n; i++) {
            polygamma(df[i] / 2, at);
            double e = log(fmax(variance[i], least)) - at[0] + log(df[i] / 2);
            if (pass) {
                squares += (e - mean) * (e - mean) / (n - 1);
                expected += at[1] / n;
            } else {
                mean += e / n;
            }
        }
    if (squares <= expected) {
        *prior_df = INFINITY;
        *scale = exp(mean);
        return;
    }
    double half = trigamma_inverse(squares - expected);
    polygamma(half, at);
    *prior_df = 2 * half;
    *scale = exp(mean + at[0] - log(half));
}

double dlb_random_uniform(struct dlb_random *random)
{
    return ((double)(dlb_hash(random->seed, random->drawn++) >> 11) + 0.5) * 0x1p-53;
}

/* Bailey's polar method (1994); df INFINITY is its limit, the method of Box and Muller. */
double dlb_random_student(struct dlb_random *random, double df)
{
    double u, v, w;
    do {
        u = 2 * dlb_random_uniform(random) - 1;
        v = 2 * dlb_random_uniform(random) - 1;
        w = u * u + v * v;
    } while (w > 1 || w == 0);
    double radius = isinf(df) ? -2 * log(w) : df * (pow(w, -2 / df) - 1);
    return u * sqrt(radius / w);
}

double dlb_resampled_median(struct dlb_random *random, const double *sorted, int n)
{
    /* Beta(a, a) from Student's t with 2a degrees. */
    double t = dlb_random_student(random, n + 1);
    double position = (1 + t / sqrt(n + 1 + t * t)) / 2;
    return sorted[dlb_min(n - 1, (int64_t)(position * n))];
}
