/*
 * session.h - the main job: the whole route from the command line to a run folder.
 *
 *   suite -> problem -> space -> candidates -> verify -> search -> measure beside oneDNN
 * -> row
 *
 * One way, problem by problem and thread set by thread set.  Rows are appended as they
 * are finished; a raised stop flag ends the job after the row in flight.
 */
#ifndef DLB_MEASURE_SESSION_H
#define DLB_MEASURE_SESSION_H

#include "exit.h"
#include "ops.h"
#include "options.h"

#include <stdio.h>

struct dlb_session_io {
    FILE *out;                /* the report */
    FILE *progress;           /* the progress bar */
    const volatile int *stop; /* raised by Ctrl-C; may be NULL */
    int argc;                 /* kept in the manifest, for --resume */
    char **argv;
    const struct dlb_operator *operators; /* the table; a test may pass its own */
    int operators_n;
};

/*
 * Runs the job (verify, tune with --sweep, time, report), or with --dry-run prints its
 * plan. *exit_status receives an enum dlb_exit; with a failure status it is the one to
 * exit with and error holds the sentence.
 */
enum dlb_status dlb_session_run(const struct dlb_options *options,
                                const struct dlb_session_io *io, int *exit_status,
                                struct dlb_error *error);

/* "dlbench list tiles --shape ...": the search space of each problem on each thread set,
 * what of it is tried, and what was refused, counted by reason.  Nothing is timed. */
enum dlb_status dlb_session_tiles(const struct dlb_options *options,
                                  const struct dlb_session_io *io,
                                  struct dlb_error *error);

#endif
