/*
 * session_internal.h - what the files of the session share: session_prepare.c judges the
 * command line, session.c opens, runs and closes, dry_run.c prints a plan, contest.c
 * takes one problem on one thread set from candidates to rows, session_rows.c fills rows,
 * screen.c and summary.c print.
 */
#ifndef DLB_MEASURE_SESSION_INTERNAL_H
#define DLB_MEASURE_SESSION_INTERNAL_H

#include "machine/ceilings.h"
#include "machine/environment.h"
#include "measure/paired.h"
#include "measure/progress.h"
#include "measure/session.h"
#include "measure/verify.h"
#include "record/manifest.h"
#include "record/run.h"
#include "suite/suite.h"
#include "tune/cache.h"
#include "tune/space.h"

enum dlb_impl { DLB_IMPL_NATIVE, DLB_IMPL_ONEDNN, DLB_IMPL_NAIVE, DLB_IMPLS };
extern const char *const dlb_impl_names[DLB_IMPLS];

/* A thread set and what was measured of it in this session. */
struct dlb_station {
    struct dlb_thread_set set;
    struct dlb_target target;
    struct dlb_rates rates;
    double best_probe;  /* GFLOP/s of the FMA probe */
    double noise_floor; /* NaN when not measured */
};

struct dlb_session {
    const struct dlb_options *options;
    struct dlb_session_io io;
    enum dlb_isa isa;
    enum dlb_cache_state cache_state;
    bool impl[DLB_IMPLS];
    struct dlb_topology *topology;
    struct dlb_station *station;
    int stations;
    int widest; /* station with the most threads: verification's expected values */
    int narrowest;
    struct dlb_suite suite;
    struct dlb_run *run;     /* NULL with --check */
    struct dlb_cache *cache; /* in memory alone where there is no file */
    bool cache_excused;      /* it was said that it cannot be written */
    struct dlb_progress *progress;
    struct dlb_row *row; /* the rows of this session; resumed ones are in run */
    int rows;
    double start_ns, deadline_ns; /* deadline INFINITY without a budget */
    double work_done, work_total; /* for the progress bar and for sharing the budget */
    int mismatches, candidates_tried;
    char repro[1024];                           /* of the first mismatch */
    const struct dlb_manifest_command *resumed; /* NULL for a new run */
    struct dlb_ratio *twin; /* --aa: native beside itself, [case][station]; else NULL */
};

/* Takes over the options that the run of --resume was started with, into recalled; what is
 * only about this call stays.  command is the caller's to release, after the session. */
enum dlb_status dlb_session_recall(struct dlb_session *session,
                                   struct dlb_options *recalled,
                                   struct dlb_manifest_command *command,
                                   struct dlb_error *error);
/* A run that goes on must go on where it was begun. */
enum dlb_status dlb_session_check_machine(const struct dlb_session *session,
                                          struct dlb_error *error);
/* The part of it that looks at the machine: instruction set, topology, thread sets. */
enum dlb_status dlb_session_prepare_machine(struct dlb_session *session,
                                            struct dlb_error *error);

/* Fills the session from its options; nothing is measured or written.  A failure is bad
 * input. */
enum dlb_status dlb_session_prepare(struct dlb_session *session, struct dlb_error *error);

/* What prepare and the run filled; safe on a session of which only that was set which the
 * caller brings. */
void dlb_session_release(struct dlb_session *session);

/* Ceilings of one thread set: its rates. */
enum dlb_status dlb_session_gauge(struct dlb_session *session,
                                  struct dlb_station *station, struct dlb_error *error);

/* Writes the manifest of session->run, where there is one: running, finished or
 * interrupted. */
enum dlb_status dlb_session_manifest(struct dlb_session *session, const char *state,
                                     struct dlb_error *error);

/* False when the problem needs more memory than there is; reason says how much. */
bool dlb_session_holds(const struct dlb_case *item, char *reason, size_t room);

/* Buffers and expected values of a problem, made by the widest thread set; the caller
 * releases both, also after a failure. */
enum dlb_status dlb_session_ready(const struct dlb_session *session,
                                  const struct dlb_case *item,
                                  struct dlb_buffers *buffers,
                                  struct dlb_expected **expected,
                                  struct dlb_error *error);

/* True once Ctrl-C was pressed. */
bool dlb_session_stopped(const struct dlb_session *session);

/* Expected wall seconds of one problem on one thread set, without the search. */
double dlb_session_fixed_seconds(const struct dlb_session *session,
                                 const struct dlb_case *item,
                                 const struct dlb_station *station);

/* The same for all problems and thread sets. */
double dlb_session_work_seconds(const struct dlb_session *session);

/* Wall seconds of the whole job, the search included: the budget, where there is one. */
double dlb_session_seconds(const struct dlb_session *session);

/* Bytes to sweep so that nothing of a problem stays cached; 0 when the caches stay hot.
 */
size_t dlb_session_evict_bytes(const struct dlb_session *session);

/* One problem on one thread set.  expected and buffers belong to the problem.  Appends
 * the rows; DLB_INTERRUPTED when the stop flag cut it short before there was a row. */
enum dlb_status dlb_contest_run(struct dlb_session *session, const struct dlb_case *item,
                                struct dlb_station *station,
                                const struct dlb_expected *expected,
                                struct dlb_buffers *buffers, struct dlb_error *error);

/* --aa: where the ratio of a case on a station is kept. */
struct dlb_ratio *dlb_session_twin(const struct dlb_session *session,
                                   const struct dlb_case *item,
                                   const struct dlb_station *station);

/* What a row is made of, beyond the session, the case and the station. */
struct dlb_entry {
    enum dlb_impl impl;
    const struct dlb_plan *plan;           /* NULL when there is none */
    const struct dlb_candidate *candidate; /* native only, else NULL */
    const char *tuned_from;                /* native only, else NULL */
    const struct dlb_check *check;         /* NULL when it was not checked */
    enum dlb_outcome outcome;
    const char *reason;
    const struct dlb_measured *measured; /* NULL when it was not timed */
    const struct dlb_ratio *speedup;     /* NULL when there is none */
    double default_median_ns;            /* NaN when not measured */
    double setup_ns;
    const struct dlb_weather *before, *after; /* NULL when not timed */
};

/* Fills everything but what dlb_run_append sets. */
void dlb_row_fill(const struct dlb_session *session, const struct dlb_case *item,
                  const struct dlb_station *station, const struct dlb_entry *entry,
                  struct dlb_row *row);

/* Appends the samples and the row, keeps a copy in session->row. */
enum dlb_status dlb_session_record(struct dlb_session *session, struct dlb_row *row,
                                   const struct dlb_measured *measured,
                                   struct dlb_error *error);

/* The finished row of this key, or NULL. */
const struct dlb_row *dlb_session_find(const struct dlb_session *session,
                                       const struct dlb_case *item,
                                       const struct dlb_station *station,
                                       enum dlb_impl impl);

/* Counts the suite's rows by outcome, resumed ones too; returns how many there are. */
int dlb_session_count(const struct dlb_session *session, int count[DLB_OUTCOME_COUNT]);

/* Cases of which a row is missing. */
int dlb_session_left(const struct dlb_session *session);

/* Rows as they are told of.  The difference is judged by the noise floor that the row was
 * measured under. */
bool dlb_row_is(const struct dlb_row *row, enum dlb_outcome outcome);
bool dlb_row_timed(const struct dlb_row *row); /* false for NULL */
struct dlb_ratio dlb_row_speedup(const struct dlb_row *row);
enum dlb_difference dlb_row_judge(const struct dlb_row *row);

#define DLB_MUCH_DISTURBED 0.1 /* share of rounds that is worth a word */

/* The screen. */
void dlb_screen_head(const struct dlb_session *session);                 /* the machine */
void dlb_screen_plan(const struct dlb_session *session, double seconds); /* ceilings */
void dlb_screen_case(const struct dlb_session *session, const struct dlb_case *item);
/* What tells the problem from others of the session: operator, pass, or nothing. */
enum { DLB_GROUP_MAX = 40 };
void dlb_screen_group(const struct dlb_session *session, const struct dlb_case *item,
                      char group[DLB_GROUP_MAX]);
/* Group, name and shape of a problem, in columns that hold the whole suite. */
void dlb_screen_problem(const struct dlb_session *session, const struct dlb_case *item,
                        FILE *line);
void dlb_screen_summary(const struct dlb_session *session, bool incomplete);

/* Prints what would be done; --dry-run. */
enum dlb_status dlb_session_dry_run(struct dlb_session *session, struct dlb_error *error);

#endif
