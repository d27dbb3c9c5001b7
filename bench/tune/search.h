/*
 * search.h - finds the fastest of some points whose times are noisy and take time to have.
 *
 * A point is a number from 0; what it stands for, and where its times come from, is the
 * business of struct dlb_timings: the machine (live.h), recorded trials (replay.h) or a
 * landscape made up by a test drive the same search.
 *
 * First rung: points are verified and timed once, in the given order, sixteen at a time.
 * Then successive halving (eta 4; 2, 4, 8, 16 samples; interleaved, the minimum as score)
 * down to eight finalists, and a race: rounds in which each runs once, where the paired
 * sign test drops who is more than 1 % slower than the leader (p < 0.05).  The first right
 * point of the order is the canary: it is timed after every round and comes into the race.
 * A round whose canary is more than 3 % off the middle of its last readings is discarded
 * and taken again, twice at most: a longer change is the machine's new pace, and scores are
 * told in the first pace.  (Where every other round was discarded, it is noise, and they
 * are taken as they come.)  What cannot be told apart within 1 % goes to the lowest point,
 * so that two searches agree.
 *
 * It ends with one survivor, with a tie, after the last round, or when the time is used
 * up: points are then left out from the end of the order, and fewer finalists race.  No
 * more points are tried either when half of them were and a quarter of the time went by
 * without a gain of 1 %.
 *
 * The winner's time is optimistic by construction (the best of many): measure it anew.
 *
 * Source: K. Jamieson, A. Talwalkar, "Non-stochastic Best Arm Identification and
 * Hyperparameter Optimization", AISTATS 2016 (successive halving); O. Maron, A. Moore,
 * "Hoeffding Races", NIPS 1993 (racing).
 */
#ifndef DLB_TUNE_SEARCH_H
#define DLB_TUNE_SEARCH_H

#include "core/base.h"

enum { DLB_REASON_MAX = 256, DLB_SEARCH_BEST = 3 };

enum dlb_admission {
    DLB_ADMITTED,
    DLB_REFUSED, /* it cannot be made */
    DLB_WRONG    /* it computes something wrong, and must not be timed */
};

/* Where times come from; each function gets context first.  A status other than DLB_OK
 * ends the search and is returned. */
struct dlb_timings {
    void *context;
    double (*clock_ns)(void *context); /* what the budget is counted in */
    /* Once for each point, before its first timing. *admission and, where it is not
     * DLB_ADMITTED, the reason. */
    enum dlb_status (*verify)(void *context, int point, enum dlb_admission *admission,
                              char reason[DLB_REASON_MAX], struct dlb_error *error);
    /* One sample: nanoseconds of an execution. */
    enum dlb_status (*time)(void *context, int point, double *ns,
                            struct dlb_error *error);
    /* The point will not be timed for a while: what is held for it may go. */
    void (*rest)(void *context, int point);
};

/* What became of a point.  outcome: timed, refused, mismatch or pruned, and finalist (rung
 * -1) at the end of the race. */
struct dlb_fate {
    int point;
    const char *outcome, *reason;
    int rung, samples;
    double best_ns; /* fastest sample; NaN without one */
};
typedef enum dlb_status dlb_fate_fn(void *context, const struct dlb_fate *fate,
                                    struct dlb_error *error);

struct dlb_search {
    const struct dlb_timings *timings;
    const int *order; /* the points in the order of trying; the first is the default */
    int points;       /* of order */
    int most;         /* how many to try at most; the others are noted as pruned */
    int always;       /* how many to try however short the time is: 1 at least */
    double seconds;   /* by the clock of timings */
    const volatile int
        *stop;         /* NULL, or a flag that ends the search with its best so far */
    dlb_fate_fn *note; /* may be NULL */
    void *context;     /* of note */
};

enum dlb_search_end {
    DLB_SEARCH_SURVIVOR, /* one is left */
    DLB_SEARCH_TIE,      /* those that are left cannot be told apart */
    DLB_SEARCH_BUDGET,
    DLB_SEARCH_INTERRUPTED
};

struct dlb_search_result {
    bool found; /* false when no point was right (or none could be tried) */
    int best[DLB_SEARCH_BEST]; /* points: the winner, then those who came next */
    int best_n;
    double best_ns[DLB_SEARCH_BEST]; /* typical time of each */
    enum dlb_search_end end;
    int verified, timed, refused, mismatched;
    int left_out;          /* of those to be tried, for want of time */
    int rounds, discarded; /* rounds taken, and those taken in vain */
    int samples;           /* of all points together, the canary's readings included */
    double seconds;        /* taken */
};

enum dlb_status dlb_search_run(const struct dlb_search *search,
                               struct dlb_search_result *result, struct dlb_error *error);

#endif
