/*
 * run.h - a run's folder: results.csv, trials.csv, samples.csv, manifest.json,
 * topology.xml.
 *
 * Every record is appended and flushed whole, so that a killed run loses at most the row
 * in flight.  A failed write (full disk) is DLB_IO with path and reason; what was written
 * stays.
 */
#ifndef DLB_RECORD_RUN_H
#define DLB_RECORD_RUN_H

#include "record/columns.h"

struct dlb_run;

enum { DLB_TIME_TEXT = 24 };

/* Now, as ISO 8601 in UTC. */
void dlb_run_time(char text[DLB_TIME_TEXT]);

/* Creates the folder and those above it; an existing one is fine.  DLB_IO names the path
 * and the reason. */
enum dlb_status dlb_folders_make(const char *path, struct dlb_error *error);

/* Creates folder <parent>/<utc>-<host>-<what>/, with a number behind when it exists (or
 * exactly path when parent is NULL; it must not hold a run yet), and the folders above.
 * Release with dlb_run_close. */
enum dlb_status dlb_run_create(const char *parent, const char *path, const char *what,
                               struct dlb_run **run, struct dlb_error *error);

/* The same without the tables, for what keeps others: only the folder and its manifest. */
enum dlb_status dlb_run_create_bare(const char *parent, const char *path,
                                    const char *what, struct dlb_run **run,
                                    struct dlb_error *error);

/*
 * Opens a run to go on with: drops the torn last record of each file and the samples
 * whose row was never written, creates files that are missing, and reads the finished
 * rows.  A run that another process is writing, or that was written with other columns,
 * is DLB_INVALID and left as it is.
 */
enum dlb_status dlb_run_resume(const char *path, struct dlb_run **run,
                               struct dlb_error *error);

/* The same for a run without the tables: only the folder and its manifest are looked at. */
enum dlb_status dlb_run_resume_bare(const char *path, struct dlb_run **run,
                                    struct dlb_error *error);

const char *dlb_run_path(const struct dlb_run *run);
const char *dlb_run_id(const struct dlb_run *run);
const char *dlb_run_started(const struct dlb_run *run); /* ISO 8601, UTC */

/* The comparison key of a row, hashed: op, pass, dtype, accuracy (in algorithm class),
 * shape, impl, thread_set, threads, cache_state.  Sets case_id in the row. */
void dlb_run_key(struct dlb_row *row);

/* The row with this case_id that was read on resume or appended since (the latest, when
 * there are several), or NULL: --resume re-measures nothing.  Owned by the run. */
const struct dlb_row *dlb_run_find(const struct dlb_run *run, const char *case_id);

/* Appends to results.csv; sets schema_version, run_id, row_seq, timestamp_utc, case_id.
 * Every row there is final.  After DLB_IO the file is as it was before. */
enum dlb_status dlb_run_append(struct dlb_run *run, struct dlb_row *row,
                               struct dlb_error *error);

/* A raw sample of the row appended last or to be appended next (row_seq): all samples of
 * a row in one call. */
struct dlb_sample {
    double ns;
    bool contaminated;
};
enum dlb_status dlb_run_samples(struct dlb_run *run, int64_t row_seq,
                                const struct dlb_sample *sample, int samples,
                                struct dlb_error *error);
int64_t dlb_run_next_seq(const struct dlb_run *run);

/* One candidate that was timed or refused while tuning. */
struct dlb_trial {
    const char *op, *pass, *shape, *thread_set, *candidate;
    const char *outcome; /* timed, refused, mismatch, pruned */
    const char *reason;
    int rung, samples;
    double best_ns, model_ns;
};
enum dlb_status dlb_run_trial(struct dlb_run *run, const struct dlb_trial *trial,
                              struct dlb_error *error);

/* Writes manifest.json anew (atomically): facts of environment.h, ceilings, noise floor,
 * options, state running | finished | interrupted.  See manifest.h. */
struct dlb_manifest;
enum dlb_status dlb_run_manifest(struct dlb_run *run, const struct dlb_manifest *manifest,
                                 struct dlb_error *error);

void dlb_run_close(struct dlb_run *run);

#endif
