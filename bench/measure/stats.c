#include "measure/stats.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int compare(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

/* Owned by the caller; NULL for n <= 0 or without memory. */
static double *sorted_copy(const double *sample, int n)
{
    double *copy = n > 0 ? malloc((size_t)n * sizeof *copy) : NULL;
    if (copy) {
        memcpy(copy, sample, (size_t)n * sizeof *copy);
        qsort(copy, (size_t)n, sizeof *copy, compare);
    }
    return copy;
}

static double sorted_quantile(const double *sorted, int n, double p)
{
    double position = (n - 1) * p;
    int below = (int)position;
    double part = position - below;
    if (part == 0 || below + 1 >= n) {
        return sorted[below];
    }
    return sorted[below] + part * (sorted[below + 1] - sorted[below]);
}

double dlb_quantile(const double *sample, int n, double p)
{
    assert(p >= 0 && p <= 1);
    double *sorted = sorted_copy(sample, n);
    double quantile = sorted ? sorted_quantile(sorted, n, p) : NAN;
    free(sorted);
    return quantile;
}

/*
 * The lower tail of binomial(n, 1/2), walked upwards.  It starts where what lies below is
 * under 1e-80: at 0 for small n, where every term is exact, and ten square roots of n
 * below the middle for large n, where 2^-n would underflow.
 */
struct tail {
    int n, k;
    double term, sum; /* P(X = k), P(X <= k) */
};

static struct tail tail_start(int n)
{
    struct tail tail = {.n = n};
    double first = n / 2.0 - 10 * sqrt(n);
    if (first < 1) {
        tail.term = ldexp(1, -n);
    } else {
        int sign;
        tail.k = (int)first;
        tail.term = exp(lgamma_r(n + 1.0, &sign) - lgamma_r(tail.k + 1.0, &sign) -
                        lgamma_r((double)n - tail.k + 1, &sign) - n * M_LN2);
    }
    tail.sum = tail.term;
    return tail;
}

static void tail_step(struct tail *tail)
{
    tail->term *= (double)(tail->n - tail->k) / (tail->k + 1);
    tail->k++;
    tail->sum += tail->term;
}

double dlb_median_ranks(int n, double level, int *lo, int *hi)
{
    /* [x(k+1), x(n-k)] misses the median with probability 2 P(X <= k). */
    double reached = 0;
    *lo = 1;
    *hi = n;
    if (n < 1) {
        return 0;
    }
    struct tail tail = tail_start(n);
    while (1 - 2 * tail.sum >= level && 2 * tail.k + 1 < n) {
        reached = 1 - 2 * tail.sum;
        *lo = tail.k + 1;
        *hi = n - tail.k;
        tail_step(&tail);
    }
    return reached;
}

double dlb_sign_test(int wins, int n)
{
    assert(wins >= 0 && wins <= n);
    int fewer = wins < n - wins ? wins : n - wins;
    if (2 * fewer == n) {
        return 1;
    }
    struct tail tail = tail_start(n);
    if (fewer < tail.k) {
        return 0;
    }
    while (tail.k < fewer) {
        tail_step(&tail);
    }
    return fmin(1, 2 * tail.sum);
}

/* Median and interval of sorted samples, n >= 1. */
static void median_interval(const double *sorted, int n, double level, double *median,
                            double *lo, double *hi, double *reached)
{
    int lo_rank, hi_rank;
    *reached = dlb_median_ranks(n, level, &lo_rank, &hi_rank);
    *median = sorted_quantile(sorted, n, 0.5);
    *lo = sorted[lo_rank - 1];
    *hi = sorted[hi_rank - 1];
}

static int count_beyond(const double *sorted, int n, double reach)
{
    double q1 = sorted_quantile(sorted, n, 0.25), q3 = sorted_quantile(sorted, n, 0.75);
    double lo = q1 - reach * (q3 - q1), hi = q3 + reach * (q3 - q1);
    int count = 0;
    for (int i = 0; i < n; i++) {
        count += sorted[i] < lo || sorted[i] > hi;
    }
    return count;
}

void dlb_summarise(const double *sample, int n, double level, struct dlb_summary *summary)
{
    struct dlb_summary s = {.n = n > 0 ? n : 0,
                            .min = NAN,
                            .median = NAN,
                            .mean = NAN,
                            .stddev = NAN,
                            .mad = NAN,
                            .max = NAN,
                            .ci_lo = NAN,
                            .ci_hi = NAN,
                            .ci_level = NAN,
                            .p90 = NAN,
                            .p95 = NAN,
                            .p99 = NAN};
    struct {
        double p, *value;
        int needs; /* 10/(1-p), which floating point does not hit */
    } const percentile[] = {
        {0.90, &s.p90, 100}, {0.95, &s.p95, 200}, {0.99, &s.p99, 1000}};
    double *sorted = sorted_copy(sample, n), sum = 0, squares = 0;
    if (!sorted) {
        goto out;
    }
    median_interval(sorted, n, level, &s.median, &s.ci_lo, &s.ci_hi, &s.ci_level);
    s.min = sorted[0];
    s.max = sorted[n - 1];
    for (size_t i = 0; i < sizeof percentile / sizeof *percentile; i++) {
        if (n >= percentile[i].needs) {
            *percentile[i].value = sorted_quantile(sorted, n, percentile[i].p);
        }
    }
    s.outliers_mild = count_beyond(sorted, n, 1.5);
    s.outliers_severe = count_beyond(sorted, n, 3);
    for (int i = 0; i < n; i++) {
        sum += sorted[i];
    }
    s.mean = sum / n;
    for (int i = 0; i < n; i++) {
        squares += (sorted[i] - s.mean) * (sorted[i] - s.mean);
    }
    s.stddev = n > 1 ? sqrt(squares / (n - 1)) : NAN;
    for (int i = 0; i < n; i++) {
        sorted[i] = fabs(sorted[i] - s.median);
    }
    qsort(sorted, (size_t)n, sizeof *sorted, compare);
    s.mad = sorted_quantile(sorted, n, 0.5);
out:
    free(sorted);
    *summary = s;
}

void dlb_paired_ratio(const double *a, const double *b, int n, double level,
                      struct dlb_ratio *ratio)
{
    struct dlb_ratio r = {n > 0 ? n : 0, NAN, NAN, NAN, NAN};
    double *log_ratio = n > 0 ? malloc((size_t)n * sizeof *log_ratio) : NULL;
    if (!log_ratio) {
        goto out;
    }
    for (int i = 0; i < n; i++) {
        if (!(a[i] > 0 && b[i] > 0)) {
            goto out;
        }
        log_ratio[i] = log(b[i] / a[i]);
    }
    qsort(log_ratio, (size_t)n, sizeof *log_ratio, compare);
    median_interval(log_ratio, n, level, &r.median, &r.ci_lo, &r.ci_hi, &r.ci_level);
    r.median = exp(r.median);
    r.ci_lo = exp(r.ci_lo);
    r.ci_hi = exp(r.ci_hi);
out:
    free(log_ratio);
    *ratio = r;
}

enum dlb_difference dlb_judge_ratio(const struct dlb_ratio *ratio, double noise_floor)
{
    double least = noise_floor < log(1.02) ? log(1.02) : noise_floor;
    double effect = log(ratio->median);
    if (!(ratio->ci_level > 0) || !(fabs(effect) > least)) {
        return DLB_SAME;
    }
    if (ratio->ci_hi < 1) {
        return DLB_FASTER;
    }
    return ratio->ci_lo > 1 ? DLB_SLOWER : DLB_SAME;
}

double dlb_weighted_geomean(const double *value, const double *weight, int n)
{
    double weights = 0, logs = 0;
    for (int i = 0; i < n; i++) {
        double w = weight ? weight[i] : 1;
        if (!(value[i] > 0) || !(w >= 0)) {
            return NAN;
        }
        weights += w;
        logs += w * log(value[i]);
    }
    return weights > 0 ? exp(logs / weights) : NAN;
}

/* Ranks of value, from 1; sorted is room for n. */
static void rank(const double *value, double *sorted, double *ranks, int n)
{
    memcpy(sorted, value, (size_t)n * sizeof *sorted);
    qsort(sorted, (size_t)n, sizeof *sorted, compare);
    for (int i = 0; i < n; i++) {
        const double *found =
            bsearch(&value[i], sorted, (size_t)n, sizeof *sorted, compare);
        int low = (int)(found - sorted), high = low;
        while (low > 0 && sorted[low - 1] == value[i])
            low--;
        while (high + 1 < n && sorted[high + 1] == value[i])
            high++;
        ranks[i] = 1 + (low + high) / 2.0;
    }
}

double dlb_rank_correlation(const double *a, const double *b, int n)
{
    double xx = 0, yy = 0, xy = 0, result = NAN;
    double *room = n > 1 ? malloc(3 * (size_t)n * sizeof *room) : NULL;
    if (!room)
        return NAN;
    double *x = room + n, *y = room + 2 * n;
    rank(a, room, x, n);
    rank(b, room, y, n);
    for (int i = 0; i < n; i++) {
        double dx = x[i] - (n + 1) / 2.0, dy = y[i] - (n + 1) / 2.0;
        xx += dx * dx;
        yy += dy * dy;
        xy += dx * dy;
    }
    if (xx > 0 && yy > 0)
        result = xy / sqrt(xx * yy);
    free(room);
    return result;
}
