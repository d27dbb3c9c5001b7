/*
 * stats.h - statistics of samples; pure functions, no clock, no memory kept.
 */
#ifndef DLB_MEASURE_STATS_H
#define DLB_MEASURE_STATS_H

#include "core/base.h"

struct dlb_summary {
    int n;
    double min, median, mean, stddev, mad, max; /* stddev with n-1; mad unscaled */
    double ci_lo, ci_hi,
        ci_level;         /* of the median, by order statistics; level really reached */
    double p90, p95, p99; /* NaN unless n >= 10/(1-p) */
    int outliers_mild, outliers_severe; /* Tukey 1.5 and 3 IQR; counted, never dropped */
};

/* level: wanted confidence, 0.95.  n = 0 gives NaN throughout. */
void dlb_summarise(const double *sample, int n, double level,
                   struct dlb_summary *summary);

/* Median of the paired ratios b/a with its sign-test interval (order statistics of the
 * log ratios, binomial(n, 1/2)). */
struct dlb_ratio {
    int n;
    double median, ci_lo, ci_hi, ci_level;
};
void dlb_paired_ratio(const double *a, const double *b, int n, double level,
                      struct dlb_ratio *ratio);

/* Ranks (1-based lo, hi) of the order statistics whose interval covers the median with at
 * least level; returns the level reached, 0 when n is too small (then lo = 1, hi = n). */
double dlb_median_ranks(int n, double level, int *lo, int *hi);

/* Two-sided p value of the sign test: wins of n. */
double dlb_sign_test(int wins, int n);

/* "Different" needs the interval to exclude 1 and an effect above max(2 %, noise floor).
 */
enum dlb_difference { DLB_SAME, DLB_FASTER, DLB_SLOWER };
enum dlb_difference dlb_judge_ratio(const struct dlb_ratio *ratio, double noise_floor);

/* exp(sum w ln x / sum w); NaN when there is nothing or a value is not positive. */
double dlb_weighted_geomean(const double *value, const double *weight, int n);

/* Linear interpolation between order statistics (type 7); sorts a copy. */
double dlb_quantile(const double *sample, int n, double p);

#endif
