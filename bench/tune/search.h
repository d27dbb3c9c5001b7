/*
 * search.h - finds the fastest candidate of one problem on one thread set.
 *
 * Rank by the model; verify each on the exact fill before its first timing (with
 * determinism on both fills, and twice); successive halving (eta 4, 1-2-4-8 samples,
 * interleaved, minimum as score); race of the finalists round by round with a paired sign
 * test.  Ties within 1 % go to the point that was enumerated first.  The winner's time here
 * is optimistic by construction (the best of many): verify it whole and measure it anew.
 *
 * Source: K. Jamieson, A. Talwalkar, "Non-stochastic Best Arm Identification and
 * Hyperparameter Optimization", AISTATS 2016 (successive halving).
 */
#ifndef DLB_TUNE_SEARCH_H
#define DLB_TUNE_SEARCH_H

#include "measure/paired.h"
#include "measure/verify.h"
#include "tune/space.h"

enum { DLB_SEARCH_CANDIDATES_MAX = 256 };

/* Told of each candidate's fate; see struct dlb_trial.  A failure ends the search. */
typedef enum dlb_status dlb_search_note_fn(void *context,
                                           const struct dlb_candidate *candidate,
                                           const char *outcome, const char *reason,
                                           int rung, int samples, double best_ns,
                                           double model_ns, struct dlb_error *error);

struct dlb_search {
    const struct dlb_operator *entry;
    const struct dlb_problem *problem;
    const struct dlb_target *target;
    const struct dlb_space *space;
    const struct dlb_expected *expected;
    struct dlb_buffers *buffers;
    struct dlb_pool *pool;
    double seconds;   /* wall time that the search may take */
    bool determinism; /* verify that two runs of each candidate agree */
    double block_ns;  /* least duration of one sample */
    const volatile int
        *stop; /* NULL, or a flag that ends the search with its best so far */
    dlb_search_note_fn *note; /* may be NULL */
    void *context;
};

struct dlb_search_result {
    bool found; /* false when no candidate was right (or none could be tried) */
    struct dlb_candidate winner;
    double best_ns;
    int verified, timed, mismatched, left_out; /* left_out: for want of time */
    struct dlb_check mismatch;                 /* of the first mismatch */
    struct dlb_candidate mismatch_candidate;
};

enum dlb_status dlb_search_run(const struct dlb_search *search,
                               struct dlb_search_result *result, struct dlb_error *error);

#endif
