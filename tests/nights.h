/*
 * nights.h - nights of a performance test that never were: times of many cases in BASE
 * and NEW, with the noise that real machines have, and nothing, one case or everything
 * slowed down.
 *
 * Of each case, drawn anew every night: the noise within a run (log-normal samples, 1 to
 * 4 %), the luck of a process (0.8 %, in some cases twice that), a second mode (one case
 * in five: up to 40 % of the samples are 6 % slower; one in twenty has whole processes
 * that are 4 % slower), outliers (3 % of the samples, up to several times as long), a
 * drift within a run (1 %), and what moves all cases of a run (1 %) and of a night (2 %).
 */
#ifndef DLB_TESTS_NIGHTS_H
#define DLB_TESTS_NIGHTS_H

#include "judge/gate.h"

enum { NIGHTS_POOLED_MAX = 3 };

struct nights_plan {
    int cases;   /* every other one is a oneDNN row when controls is set */
    int runs;    /* of BASE, and of NEW, a night */
    int samples; /* of a run */
    bool controls;
    int slow_case;   /* index, or -1 */
    double slowdown; /* ln, of that case in NEW */
    double machine;  /* ln, of everything in NEW: a machine that changed between them */
    int resamples;
    double noise; /* 1: as above */
};

/* What was called on one night, by itself and together with the nights before it. */
struct nights_found {
    int regressions;      /* cases called regressions that are not slow_case */
    bool slow_case_found; /* slow_case is called one */
    bool environment;
    bool suspect; /* slow_case is a suspect */
};

struct nights;
struct nights *nights_make(const struct nights_plan *plan, uint64_t seed);

/* Draws the next night and judges the runs of the last pooled nights (1 to 3) together. */
void nights_next(struct nights *nights);
struct nights_found nights_judge(struct nights *nights, int pooled);
void nights_release(struct nights *nights);

#endif
