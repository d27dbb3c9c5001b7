/*
 * space.h - the legal candidates of one problem on one target, and why others were
 * refused.
 *
 * The raw space comes from op->enumerate in a fixed order, so that ties can be broken by
 * position and two runs agree.  Duplicates are dropped.
 */
#ifndef DLB_TUNE_SPACE_H
#define DLB_TUNE_SPACE_H

#include "core/op.h"

enum { DLB_REFUSALS_MAX = 32 };

struct dlb_refusal {
    const char *reason; /* static text of op->refuse */
    int count;
};

struct dlb_space {
    struct dlb_candidate
        *candidate;   /* owned: legal points, in the order of enumeration */
    double *model_ns; /* owned: op->estimate of each */
    int n;
    int raw; /* points enumerated, duplicates included */
    int duplicates;
    struct dlb_refusal refusal[DLB_REFUSALS_MAX];
    int refusals_n;
};

/* rates may be NULL or hold zeros where nothing was measured.  DLB_NOMEM. */
enum dlb_status dlb_space_make(const struct dlb_op *op, const struct dlb_problem *problem,
                               const struct dlb_target *target,
                               const struct dlb_rates *rates, struct dlb_space *space,
                               struct dlb_error *error);
void dlb_space_release(struct dlb_space *space);

bool dlb_candidate_same(const struct dlb_candidate *a, const struct dlb_candidate *b);

/* Position of candidate in the space, or -1. */
int dlb_space_find(const struct dlb_space *space, const struct dlb_candidate *candidate);

/* The point that is most like candidate, which may come from another problem or thread
 * set: of the same algorithm, and the least sum of |log2| of what numeric tiles differ by
 * and of 1 for each named tile that differs; -1 when none has the algorithm. */
int dlb_space_nearest(const struct dlb_space *space, const struct dlb_op *op,
                      const struct dlb_candidate *candidate);

/* Positions of all points by rising model time (ties by position); order has room for n.
 */
void dlb_space_rank(const struct dlb_space *space, int *order);

/*
 * The order of trying, into order (room for n): the default, so that there is always a
 * result; the points nearest to the seeds; the model's best of each algorithm, since the
 * model errs most between algorithms; then all others by the model.  Returns how many
 * come before the model alone decides.
 */
int dlb_space_order(const struct dlb_space *space, const struct dlb_op *op,
                    const struct dlb_candidate *fallback,
                    const struct dlb_candidate *seed, int seeds, int *order);

/* How many of so many points the search is to try: all, while there are no more than 300,
 * else 256. */
int dlb_space_most(int points);

#endif
