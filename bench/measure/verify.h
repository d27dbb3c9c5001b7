/*
 * verify.h - is a plan right?  Nothing is timed that did not pass here.
 */
#ifndef DLB_MEASURE_VERIFY_H
#define DLB_MEASURE_VERIFY_H

#include "measure/buffers.h"
#include "ops.h"

enum dlb_outcome {
    DLB_OUTCOME_OK,
    DLB_OUTCOME_MISMATCH,
    DLB_OUTCOME_UNSUPPORTED,
    DLB_OUTCOME_SKIPPED,
    DLB_OUTCOME_MISTRUSTED, /* the check proved too little: > 30 % zeros expected */
    DLB_OUTCOME_NOISY,      /* right, but no clean timing could be had */
    DLB_OUTCOME_COUNT
};
extern const char *const dlb_outcome_names[DLB_OUTCOME_COUNT];

/* What a check found. */
struct dlb_check {
    enum dlb_outcome outcome;
    char reason[256]; /* "dst[0,3,0,17] is 12, expected 14, bound 0", "write past the end
                         of dst by 4 bytes" */
    const char *reference;           /* onednn or naive */
    const char *fill;                /* exact or dense: where it failed, or both */
    double max_abs_err, max_rel_err; /* of the dense fill, against the referee */
    double bound; /* largest bound applied to an element of the dense fill */
};

/*
 * What the outputs of one problem ought to be, computed once per problem and reused for
 * every candidate: the oneDNN result for exact and dense fill at full size, and the bound
 * of each element; how the bounds are made stands at the head of expected.c.  Operators
 * that no whole numbers can be exact for have the dense fill alone.  The referee is the
 * plain definition when naive is set, in a build without oneDNN, and where oneDNN cannot
 * do the problem.  oneDNN's results are themselves held against the definition on a
 * sample of elements: DLB_FAULT when they are wrong.  pool must not be NULL; entry is
 * used until release.
 */
struct dlb_expected;
enum dlb_status dlb_expected_make(const struct dlb_operator *entry,
                                  const struct dlb_problem *problem,
                                  struct dlb_pool *pool, bool naive, uint64_t seed,
                                  struct dlb_expected **expected,
                                  struct dlb_error *error);
void dlb_expected_release(struct dlb_expected *expected);

/*
 * Binds plan to fresh buffers of each fill, runs it, fetches, checks guards and compares
 * every element.  determinism: runs once more on the dense fill, without clearing the
 * output, compares again and compares the bits of both runs.  buffers are the problem's;
 * their inputs are overwritten and left with the dense fill, bound to plan, ready to be
 * timed (on a mismatch: with the fill that showed it).  A mismatch, also one that names
 * a guard, is an outcome; a status other than DLB_OK means that nothing was found out.
 *
 * mistrusted: more than 30 % of the expected elements are zero in both fills, not counting
 * those that are zero by definition (op->unreached).  (Behind a ReLU the dense fill has
 * half zeros by nature; the exact fill leans to the positive.)
 * Never of an operator whose zeros belong to its results (reference.h).
 */
enum dlb_status dlb_verify(const struct dlb_expected *expected,
                           struct dlb_buffers *buffers, struct dlb_plan *plan,
                           struct dlb_pool *pool, bool determinism,
                           struct dlb_check *check, struct dlb_error *error);

/*
 * The part of dlb_verify that needs no second fill, for many candidates one after the
 * other: the exact fill, on which the smallest slip shows, or the dense one of operators
 * that have no other.  buffers that hold this fill
 * already keep it, and are left with it, bound to plan.  What is going to be reported must
 * still pass dlb_verify.
 */
enum dlb_status dlb_verify_quick(const struct dlb_expected *expected,
                                 struct dlb_buffers *buffers, struct dlb_plan *plan,
                                 struct dlb_pool *pool, struct dlb_check *check,
                                 struct dlb_error *error);

/* After timing: compares what run left behind (dense fill) and the guards once more. */
enum dlb_status dlb_verify_again(const struct dlb_expected *expected,
                                 struct dlb_buffers *buffers, struct dlb_plan *plan,
                                 struct dlb_pool *pool, struct dlb_check *check,
                                 struct dlb_error *error);

#endif
