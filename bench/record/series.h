/*
 * series.h - the time of each case over many runs: what change points are looked for in.
 *
 * Runs are read one after the other, and of each row only its case and its median are
 * kept, so that hundreds of runs fit into little memory.  Rows that are not ok, or have no
 * time, leave a gap; of several rows of one case in a run the last counts.  Runs of
 * different machine keys are kept apart: a case has a series on each machine.
 */
#ifndef DLB_RECORD_SERIES_H
#define DLB_RECORD_SERIES_H

#include "record/columns.h"

/* What tells cases apart, and what they are called by; of a series' texts. */
enum dlb_series_text {
    DLB_SERIES_CASE_ID,
    DLB_SERIES_OP,
    DLB_SERIES_PASS,
    DLB_SERIES_DTYPE,
    DLB_SERIES_ACCURACY,
    DLB_SERIES_SHAPE,
    DLB_SERIES_IMPL,
    DLB_SERIES_THREAD_SET,
    DLB_SERIES_THREADS,
    DLB_SERIES_CACHE_STATE,
    DLB_SERIES_SHAPE_NAME,
    DLB_SERIES_TEXTS
};
extern const enum dlb_column dlb_series_columns[DLB_SERIES_TEXTS];

struct dlb_series_run {
    char *path;    /* of its results.csv */
    char *id;      /* run_id */
    char *started; /* ISO 8601, UTC */
    char *commit;  /* "" when not known */
    bool dirty;    /* built from sources that differ from the commit */
    int machine;
    int night;  /* number among the runs of its machine, from 0 */
    int rows_n; /* that count */
};

struct dlb_series_point {
    int run;
    double median_ns;
};

struct dlb_series {
    int machine;
    char *text[DLB_SERIES_TEXTS];   /* "" when empty */
    char *name;                     /* as dlb_row_name has it */
    struct dlb_series_point *point; /* by time */
    int points_n, capacity;
};

struct dlb_series_machine {
    char *key;  /* of the manifest; "" for runs without one */
    int runs_n; /* nights */
};

/* Runs are sorted by their beginning, machines by their first run; series are in the order
 * in which the runs have them. */
struct dlb_series_set {
    struct dlb_series_run *run;
    int runs_n;
    int repeated_n; /* runs that were named more than once, and counted once */
    struct dlb_series_machine *machine;
    int machines_n;
    struct dlb_series *series;
    int series_n;
};

/*
 * Reads what the paths name: run folders, files as results.csv (with the manifest.json
 * beside them, if there is one), and folders that hold run folders.  DLB_INVALID, naming
 * the path, for a folder without a run, a run without an id, and whatever is damaged;
 * DLB_IO for what cannot be read.  Release with dlb_series_release, also after a failure.
 */
enum dlb_status dlb_series_read(const char *const *path, int paths_n,
                                struct dlb_series_set *set, struct dlb_error *error);
void dlb_series_release(struct dlb_series_set *set);

#endif
