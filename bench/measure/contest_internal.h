/*
 * contest_internal.h - what the files of a contest share: contest.c verifies, measures and
 * writes the rows of one problem on one thread set, contest_native.c finds the native
 * candidate.
 */
#ifndef DLB_MEASURE_CONTEST_INTERNAL_H
#define DLB_MEASURE_CONTEST_INTERNAL_H

#include "measure/session_internal.h"

/* One side of the measurement. */
struct dlb_side {
    enum dlb_impl impl;
    struct dlb_plan *plan;
    struct dlb_candidate candidate; /* native only */
    const char *tuned_from;         /* native only */
    struct dlb_check check;
    bool checked;
    enum dlb_outcome outcome;
    char reason[1024];
    double setup_ns;
};

struct dlb_contest {
    struct dlb_session *session;
    const struct dlb_case *item;
    struct dlb_station *station;
    const struct dlb_expected *expected;
    struct dlb_buffers *buffers;
    struct dlb_pool *pool;
    double deadline_ns; /* INFINITY without a budget */
    bool wanted[DLB_IMPLS];
    struct dlb_side side[DLB_IMPLS]; /* by implementation */
    struct dlb_side untuned;         /* the default candidate beside a tuned winner */
    bool default_won;                /* the search found nothing better than it */
    struct dlb_side twin; /* --aa: the native side once more; shares its plan */
};

/* The side's check says that it is wrong: its outcome, with the line that reproduces it. */
void dlb_side_condemn(struct dlb_contest *contest, struct dlb_side *side);

/* The side is not timed, for a reason that is no mistake. */
void dlb_side_dismiss(struct dlb_side *side, enum dlb_outcome outcome,
                      const char *reason);

/* Verifies the side's plan: its check and outcome. */
enum dlb_status dlb_side_verify(struct dlb_contest *contest, struct dlb_side *side,
                                struct dlb_error *error);

/* The native side (and, where it was tuned, the default beside it), planned and verified:
 * the candidate of the command line, the winner of a search, what the tuning cache knows,
 * or the default. */
enum dlb_status dlb_contest_native(struct dlb_contest *contest, struct dlb_error *error);

#endif
