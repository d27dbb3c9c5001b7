/*
 * machines.h - two machines side by side, problem by problem: each with the thread set it
 * is fastest on.  No verdicts, and no single score.
 *
 * The time of a problem is shown as the product that explains it:
 *
 *     time(BASE)/time(NEW) = roof(NEW)/roof(BASE) * used(NEW)/used(BASE)
 *
 * roof is what the machine could do at most for this problem, measured in the same run,
 * used is how much of that was reached.
 */
#ifndef DLB_JUDGE_MACHINES_H
#define DLB_JUDGE_MACHINES_H

#include "judge/cases.h"

/* A problem on one machine.  Of several runs, the one with the median time. */
struct dlb_machine_view {
    const struct dlb_case_row *best; /* NULL: no time of it here */
    const struct dlb_case_row *one;  /* on one thread, or NULL */
    const struct dlb_case_key *key;  /* of best */
    double vs_onednn; /* time of oneDNN over that of best, paired where it was, or NaN */
    /* What holds it back: the level that makes its roof, or "synchronisation" when more
     * than a third of what one thread reaches of its roof is lost among the threads. */
    const char *bound;
};

struct dlb_machines_problem {
    const struct dlb_case_key *key; /* its impl is the one that is shown: native where
                                       there is one, else onednn, else naive */
    struct dlb_machine_view side[DLB_SIDES];
    double times, roofs, used; /* as above; NaN where a part is not known */
};

/* Time on one thread over time on threads: geometric mean over the problems of an operator
 * and pass that have both. */
struct dlb_machines_scaling {
    const char *op, *pass;
    int threads;
    double speedup[DLB_SIDES]; /* NaN without */
    int problems[DLB_SIDES];
};

struct dlb_machines {
    const struct dlb_cases *cases;
    struct dlb_machines_problem *problem; /* in the order of the files; those that only
                                             one side has come last */
    int problems, shared;
    struct dlb_machines_scaling *scaling;
    int scalings;
    bool mismatch; /* a row of either side computed something wrong */
};

/* cases must outlive it.  DLB_INVALID when the sides share no problem. */
enum dlb_status dlb_machines_make(const struct dlb_cases *cases,
                                  struct dlb_machines *machines, struct dlb_error *error);
void dlb_machines_release(struct dlb_machines *machines);

#endif
