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
    double max_abs_err, max_rel_err; /* of the dense fill */
    double bound; /* largest bound applied to an element of the dense fill */
};

/*
 * What the outputs of one problem ought to be, computed once per problem and reused for
 * every candidate: the oneDNN result for exact and dense fill at full size (naive in a
 * build without it or where it cannot do the problem), and, for dense, the bound of each
 * element gamma_K * sum |a||b| from a conv of absolute values (the same referee), gamma_K
 * = K*eps/(1-K*eps).
 */
struct dlb_expected;
enum dlb_status dlb_expected_make(const struct dlb_operator *operator,
                                  const struct dlb_problem * problem,
                                  struct dlb_pool *pool, bool naive, uint64_t seed,
                                  struct dlb_expected **expected,
                                  struct dlb_error *error);
void dlb_expected_release(struct dlb_expected *expected);

/*
 * Binds plan to fresh buffers of each fill, runs it (twice on the exact fill when
 * determinism is set, comparing the bits), fetches, compares every element, checks
 * guards.  buffers are the problem's; their inputs are overwritten and left with the
 * dense fill, bound to plan, ready to be timed.
 */
enum dlb_status dlb_verify(const struct dlb_expected *expected,
                           struct dlb_buffers *buffers, struct dlb_plan *plan,
                           struct dlb_pool *pool, bool determinism,
                           struct dlb_check *check, struct dlb_error *error);

/* After timing: compares what run left behind (dense fill) and the guards once more. */
enum dlb_status dlb_verify_again(const struct dlb_expected *expected,
                                 struct dlb_buffers *buffers, struct dlb_plan *plan,
                                 struct dlb_pool *pool, struct dlb_check *check,
                                 struct dlb_error *error);

#endif
