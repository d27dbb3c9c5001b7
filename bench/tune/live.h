/*
 * live.h - this machine as the source of the search's times: points are the positions of
 * a problem's legal space, verified and timed on the pool's threads.
 *
 * Plans are kept while they are timed again and again; those that were timed longest ago
 * make room when all together take more than a quarter of the free memory.
 */
#ifndef DLB_TUNE_LIVE_H
#define DLB_TUNE_LIVE_H

#include "measure/verify.h"
#include "tune/search.h"
#include "tune/space.h"

/* All belong to the caller and outlive the live source. */
struct dlb_live_setup {
    const struct dlb_operator *entry;
    const struct dlb_problem *problem;
    const struct dlb_target *target;
    const struct dlb_space *space;
    const struct dlb_expected *expected;
    struct dlb_buffers *buffers;
    struct dlb_pool *pool;
    double block_ns;  /* least duration of a sample; 0 for dlb_live_search to choose */
    bool determinism; /* verify on both fills, and that two runs agree */
};

struct dlb_live;
enum dlb_status dlb_live_make(const struct dlb_live_setup *setup, struct dlb_live **live,
                              struct dlb_error *error);
void dlb_live_release(struct dlb_live *live);

/* What to give to the search. */
struct dlb_timings dlb_live_timings(struct dlb_live *live);

/* The first point that was wrong, with what the check found; NULL when none was. */
const struct dlb_check *dlb_live_first_wrong(const struct dlb_live *live, int *point);

/* How long a sample may be so that so many candidates get two each in the time, between
 * 0.4 and 1 ms: a longer one is steadier. */
double dlb_live_block_ns(double seconds, int candidates);

/* A whole search on this machine: the default first, then what is like the seeds, then the
 * order of the space. */
struct dlb_live_search {
    struct dlb_live_setup setup;
    const struct dlb_candidate *seed; /* may come from other problems and thread sets */
    int seeds;
    bool seeds_only; /* none but them, the default and the best of each algorithm */
    int most;        /* how many to try at most; 0: by the size of the space */
    double seconds;
    const volatile int *stop;
    dlb_fate_fn *note;
    void *context;
};

struct dlb_live_wrong {
    struct dlb_candidate candidate;
    struct dlb_check check;
};

/* Points of *result are positions in the space.  wrong: the first mismatch, where
 * result->mismatched says that there was one. */
enum dlb_status dlb_live_search(const struct dlb_live_search *search,
                                struct dlb_search_result *result,
                                struct dlb_live_wrong *wrong, struct dlb_error *error);

#endif
