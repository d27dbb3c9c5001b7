/*
 * replay.h - the search on recorded trials: nothing is timed, the same file gives the same
 * search on any machine.
 *
 * A trials.csv holds, for each candidate that was timed, its fastest time after so many
 * samples, once or several times.  A replayed candidate's k-th sample is the fastest time
 * that was recorded for k samples or more, or the last one.  Candidates that were never
 * timed cannot be replayed; those that were refused or wrong are so again.
 *
 * The clock is made up too: a sample takes an execution before it, and then a millisecond
 * or one execution; a verification three executions.
 */
#ifndef DLB_TUNE_REPLAY_H
#define DLB_TUNE_REPLAY_H

#include "tune/search.h"

#include <stdio.h>

/* The fastest of the first samples. */
struct dlb_recorded_time {
    int samples;
    double best_ns;
};

/* One candidate of a recording. */
struct dlb_recorded_point {
    char *candidate; /* owned */
    enum dlb_admission admission;
    double model_ns;
    struct dlb_recorded_time *record; /* owned; in the order of the file */
    int records;
    int taken; /* samples taken of it in the replay */
};

/* What was recorded of one problem on one thread set. */
struct dlb_recording {
    char *op, *pass, *shape, *thread_set; /* owned */
    struct dlb_recorded_point *point;     /* owned; in the order of the file */
    int points;
    int untimed;     /* candidates that were left out, for want of a time */
    double clock_ns; /* of the replay */
};

/* Reads a trials.csv, or the run folder that holds it: *recording is an owned array of
 * *recordings.  DLB_INVALID names the file and the line, or says that it holds no timed
 * candidate. */
enum dlb_status dlb_replay_read(const char *path, struct dlb_recording **recording,
                                int *recordings, struct dlb_error *error);
void dlb_replay_release(struct dlb_recording *recording, int recordings);

/* The recording as the source of a search's times, from its beginning. */
struct dlb_timings dlb_replay_timings(struct dlb_recording *recording);

/* Searches the recording, the first candidate of the file as the default, the others by the
 * model.  seconds: by the made-up clock; INFINITY for all. */
enum dlb_status dlb_replay_search(struct dlb_recording *recording, double seconds,
                                  struct dlb_search_result *result,
                                  struct dlb_error *error);

/* Fastest time recorded of a point; NaN without one. */
double dlb_replay_best_ns(const struct dlb_recorded_point *point);

/* "dlbench tune --replay": a line for each recording (unless quiet), and how far the
 * chosen ones are from the best recorded.  seconds: of each search; 0 for all. */
enum dlb_status dlb_replay_run(const char *path, double seconds, bool quiet, FILE *out,
                               struct dlb_error *error);

#endif
