/*
 * gate.h - the rules by which NEW is judged against BASE on one machine.  Pure: the same
 * times and rules give the same verdicts.
 *
 * What is compared is d, the mean over the runs of NEW of ln(median time) less that of
 * BASE: each run counts once, however many samples it has.
 *
 * A process keeps the luck it was started with (where its pages lie, who its neighbours
 * are) for all of its samples, so that samples alone make any two runs "significantly"
 * different.  The noise of d is therefore estimated between runs, and samples can only add
 * to it:
 *   - from repeats: the variance of ln(median) among a case's runs on one side, after what
 *     moved a whole run is taken out, moderated by what all cases show (Smyth 2004);
 *   - without repeats, from 20 cases on: how far the cases scatter around their common
 *     move, counted as 10 degrees of freedom;
 *   - else 1 % is assumed, as 3 degrees of freedom.
 *
 * Significant is a case whose p value passes a false-discovery rate of 5 % over all cases;
 * the p value is the larger one of the Mann-Whitney U test on all samples and of Student's
 * t test of d against that noise.  The interval of the ratio is a bootstrap in two stages:
 * medians are resampled within runs, and the noise between runs is drawn from its t
 * distribution, since two or three runs are too few to be resampled themselves.
 *
 * A move that all cases share is the machine's: `common` below.  Where there are oneDNN
 * rows of the same version on both sides, whose code no change of ours can have touched,
 * it is what they and the other rows share (the smaller one, if both have the same sign).
 * Cases are judged by what they moved beyond it.
 *
 * A regression is significant, and slower by more than bound = max(threshold, noise floor).
 * A slowdown of just the threshold lands below it every other night, however often it is
 * measured.  So from three runs of NEW on a significant slowdown also counts when its
 * interval reaches bound and it is nearer to bound than to nothing: it cannot be told from
 * bound.  With fewer runs it is a suspect, as is one that is significant on its own only.
 */
#ifndef DLB_JUDGE_GATE_H
#define DLB_JUDGE_GATE_H

#include "core/base.h"

enum { DLB_RUNS_TO_BE_SURE = 5 };

/* One run's times of one case. */
struct dlb_timing {
    int run; /* of its side, from 0 */
    double median_ns;
    double error;         /* standard error of ln(median); NaN when not known */
    const double *sample; /* ascending, ns; NULL when there are none */
    int samples;
};

/* The median, and from its interval of n samples its error; sample is kept, not owned. */
struct dlb_timing dlb_timing_make(int run, const double *sample, int samples);

struct dlb_side {
    const struct dlb_timing *timing; /* each of another run */
    int runs;                        /* at least 1 */
};

enum dlb_verdict {
    DLB_VERDICT_SAME,
    DLB_VERDICT_FASTER,
    DLB_VERDICT_REGRESSION,
    DLB_VERDICT_SUSPECT, /* slower as it seems, but not for sure, or perhaps by less */
    DLB_VERDICT_UNCLEAR, /* too noisy: slower by bound is not ruled out */
    DLB_VERDICT_MACHINE, /* moved, but so did what no change of ours can have touched */

    /* What needs no statistics: see comparison.h. */
    DLB_VERDICT_MISMATCH, /* NEW computed something wrong */
    DLB_VERDICT_NOISY,    /* no clean time on one side */
    DLB_VERDICT_LOST,     /* timed in BASE, not in NEW */
    DLB_VERDICT_ADDED,    /* timed in NEW only */
    DLB_VERDICTS
};

struct dlb_gate_case {
    uint64_t id; /* of the case: its random numbers do not depend on other cases */
    struct dlb_side base, fresh;
    double noise_floor; /* of a ln ratio, as dlb_noise_floor gives it; 0 when not known */
    bool control;       /* a oneDNN row whose code is the same on both sides */
    int partner;        /* index of the control of the same problem, or -1 */

    /* What was found. */
    double ratio, lo, hi; /* time(NEW)/time(BASE), not corrected by common; lo and hi at
                             95 % */
    double p_samples;     /* Mann-Whitney; NaN without samples on both sides */
    double p_runs;        /* Student's t */
    double q;             /* NaN for controls */
    enum dlb_verdict verdict;
};

enum dlb_noise_source { DLB_NOISE_REPEATS, DLB_NOISE_SPREAD, DLB_NOISE_ASSUMED };

/* The variance of ln(median) between runs, and how many degrees of freedom it is worth. */
struct dlb_noise {
    double variance, df;
    enum dlb_noise_source source;
};

struct dlb_gate_rules {
    double threshold;              /* 0.05 */
    int resamples;                 /* of the bootstrap; 0: intervals by formula */
    uint64_t seed;                 /* of the bootstrap */
    const struct dlb_noise *noise; /* known from other cases; NULL: from these */
};

struct dlb_gate_found {
    struct dlb_noise noise;
    double common;          /* ln of the move that the cases share */
    double others, control; /* median ln ratio of each kind; NaN without them */
    int controls;
    bool environment; /* most cases moved alike: no verdict about any of them counts */
    int count[DLB_VERDICTS]; /* of the cases that are no controls */
};

/* Judges cases (n >= 1).  environment: the common move is more than half the threshold
 * (and 1 %), and six in ten cases moved by half to twice as much. */
enum dlb_status dlb_gate_judge(struct dlb_gate_case *cases, int n,
                               const struct dlb_gate_rules *rules,
                               struct dlb_gate_found *found, struct dlb_error *error);

extern const char *const dlb_verdict_names[DLB_VERDICTS];

#endif
