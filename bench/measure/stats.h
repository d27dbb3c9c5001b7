/*
 * stats.h - statistics of samples; pure functions, no clock, no memory kept.
 *
 * Samples are finite numbers in any order.  Where a figure cannot be had (too few
 * samples, or no memory for the sorted copy) it is NaN, never a made-up number.
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
    int outliers_mild, outliers_severe; /* beyond 1.5 and 3 IQR of the quartiles; the mild
                                           include the severe; counted, never dropped */
};

/* level: wanted confidence, 0.95.  n = 0 gives NaN throughout; stddev needs n >= 2.  With
 * too few samples for level, ci_level is 0 and the interval is the range. */
void dlb_summarise(const double *sample, int n, double level,
                   struct dlb_summary *summary);

/* Median of the paired ratios b/a with its sign-test interval (order statistics of the
 * log ratios, binomial(n, 1/2)).  NaN throughout when n = 0 or a value is not positive.
 */
struct dlb_ratio {
    int n;
    double median, ci_lo, ci_hi, ci_level;
};
void dlb_paired_ratio(const double *a, const double *b, int n, double level,
                      struct dlb_ratio *ratio);

/* Ranks (1-based lo, hi) of the order statistics whose interval covers the median with at
 * least level; returns the level reached, 0 when n is too small (then lo = 1, hi = n). */
double dlb_median_ranks(int n, double level, int *lo, int *hi);

/* Two-sided p value of the sign test: wins of n (ties left out by the caller); 1 for n =
 * 0.
 */
double dlb_sign_test(int wins, int n);

/*
 * "Different" needs the interval to have its level, to exclude 1, and an effect above
 * max(2 %, noise floor); the floor is a |ln ratio|, as dlb_noise_floor gives it.  The
 * ratio is one of times, time(b)/time(a): DLB_FASTER says that b takes less time than a.
 * Whatever is NaN makes it DLB_SAME.
 */
enum dlb_difference { DLB_SAME, DLB_FASTER, DLB_SLOWER };
enum dlb_difference dlb_judge_ratio(const struct dlb_ratio *ratio, double noise_floor);

/* exp(sum w ln x / sum w); NaN when there is nothing, a value is not positive, a weight
 * is negative or all are 0.  weight may be NULL: all equal. */
double dlb_weighted_geomean(const double *value, const double *weight, int n);

/* Spearman's rank correlation, ties at their mean rank; NaN for fewer than two pairs or
 * where either does not vary. */
double dlb_rank_correlation(const double *a, const double *b, int n);

/* Linear interpolation between order statistics (type 7), 0 <= p <= 1; sorts a copy. */
double dlb_quantile(const double *sample, int n, double p);

#endif
