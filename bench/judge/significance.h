/*
 * significance.h - is a difference of two sets of times more than chance?  Pure functions:
 * no clock, no files, and random numbers from a seed only.
 */
#ifndef DLB_JUDGE_SIGNIFICANCE_H
#define DLB_JUDGE_SIGNIFICANCE_H

#include "core/base.h"

/*
 * Two-sided p value of the Mann-Whitney U test of a (na) against b (nb), finite numbers in
 * any order.  Exact without ties and with at most 20 on each side; else by the normal
 * approximation with the correction for ties and for continuity (Hollander and Wolfe,
 * Nonparametric Statistical Methods, chapter 4).  1 when all are equal; NaN when a side is
 * empty or without memory.
 */
double dlb_mann_whitney(const double *a, int na, const double *b, int nb);

/*
 * q[i]: the least false-discovery rate at which test i (of n) with p value p[i] is still
 * called (Benjamini and Hochberg 1995, adjusted p values).  NaN stays NaN and is no test.
 * p and q may be the same.  DLB_NOMEM leaves q as it was.
 */
enum dlb_status dlb_false_discovery(const double *p, int n, double *q,
                                    struct dlb_error *error);

/* Probability that |T| of Student's t with df > 0 degrees (INFINITY: the normal) is at
 * least |t|; and the t with that probability, 0 < p < 1. */
double dlb_student_tail(double t, double df);
double dlb_student_quantile(double p, double df);

/*
 * What variances of a common kind teach about one of them: variance[i] was estimated with
 * df[i] > 0 degrees of freedom, and the true ones scatter around a common value as an
 * inverse chi square does.  *scale is that value, *prior_df how many degrees it is worth
 * beside a variance of its own (INFINITY: all are equal).  Moments of the logarithms, so
 * that a few huge ones weigh little (Smyth 2004, section 6.2).  n >= 2.
 */
void dlb_variance_prior(const double *variance, const double *df, int n, double *scale,
                        double *prior_df);

/* Random numbers from a seed. */
struct dlb_random {
    uint64_t seed, drawn;
};
double dlb_random_uniform(struct dlb_random *random); /* above 0, below 1 */
double dlb_random_student(struct dlb_random *random, double df);

/*
 * The median of a resample of n sorted values, drawn in one step: the middle one of n
 * uniform positions is a Beta((n+1)/2, (n+1)/2).  n >= 1.
 */
double dlb_resampled_median(struct dlb_random *random, const double *sorted, int n);

#endif
