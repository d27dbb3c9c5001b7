/*
 * comparison.h - BASE and NEW on one machine, from files to verdicts: what gate.h judges,
 * and the cases that need no statistics, because one side has no time of them.
 */
#ifndef DLB_JUDGE_COMPARISON_H
#define DLB_JUDGE_COMPARISON_H

#include "judge/cases.h"
#include "judge/gate.h"

/* What NEW is judged by. */
struct dlb_comparison_rules {
    double threshold;              /* 0.05 */
    uint64_t seed;                 /* of the bootstrap */
    const struct dlb_noise *noise; /* known already; NULL: learnt from these runs */
};

/* A case that either side has a time of. */
struct dlb_compared {
    int item; /* index into cases.item */
    int gate; /* index into gate, or -1: it has no time on one side */
    enum dlb_verdict verdict;
    const char *reason; /* why, where the verdict does not say it; NULL or a text */
    double rerun_ratio; /* time(NEW again)/time(BASE) of a confirmation; NaN without */
};

struct dlb_comparison {
    struct dlb_cases cases;
    struct dlb_compared *compared; /* what is most urgent first */
    int n;
    struct dlb_gate_case *gate;
    struct dlb_timing *timing;
    int gates;
    struct dlb_gate_found found;
    int count[DLB_VERDICTS]; /* of compared, but of same, unclear and machine only those
                                that are no controls */
    int moved_controls;
    bool incomplete; /* a run of NEW is torn or unfinished, or lost cases */
};

/* Reads the runs of both sides, so that machines can be told apart before judging.
 * DLB_INVALID: see cases.h; also when a side is from several machines, or has another
 * data type, accuracy class or cache state than the other. */
enum dlb_status dlb_comparison_read(struct dlb_comparison *comparison,
                                    const char *const *base, int bases,
                                    const char *const *fresh, int freshes,
                                    struct dlb_error *error);

/* The machine key of a side, or NULL when no manifest says it. */
const char *dlb_comparison_machine(const struct dlb_comparison *comparison, int side);

/* DLB_INVALID when the sides have no case in common. */
enum dlb_status dlb_comparison_judge(struct dlb_comparison *comparison,
                                     const struct dlb_comparison_rules *rules,
                                     struct dlb_error *error);

/* Counts the verdicts and sorts the cases anew, after some were changed. */
void dlb_comparison_count(struct dlb_comparison *comparison);

/* An enum dlb_exit: what the verdicts say. */
int dlb_comparison_exit(const struct dlb_comparison *comparison);

/* Median time of a case on a side over its runs, and samples or runs behind it. */
double dlb_comparison_median(const struct dlb_comparison *comparison,
                             const struct dlb_compared *compared, int side);

/* Safe on a zeroed one. */
void dlb_comparison_release(struct dlb_comparison *comparison);

#endif
