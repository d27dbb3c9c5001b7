/*
 * cases.h - the rows of several runs, joined by case.
 *
 * A case is a comparison key: operator, pass, data type, accuracy class, shape,
 * implementation, thread set, threads and cache state; the texts are compared, not a hash
 * of them.  Files are read as streams, and of each row only what comparing needs is kept
 * (some 300 bytes), of samples.csv only the clean samples of cases that both sides have.
 *
 * Columns that this version does not know are passed over; an accuracy column that an
 * older file lacks means exact.  A torn last record is passed over, and its run is
 * incomplete.  A time of 0 or less, a case that a run holds twice, a sample that does and
 * everything that rows.h refuses is DLB_INVALID with file and line.
 */
#ifndef DLB_JUDGE_CASES_H
#define DLB_JUDGE_CASES_H

#include "record/json.h"

enum { DLB_BASE, DLB_NEW, DLB_SIDES };
enum {
    DLB_CASE_RUNS_MAX = 256,
    DLB_CASE_ROWS_MAX = 2500000,    /* of all files */
    DLB_CASE_SAMPLES_MAX = 25000000 /* kept: 200 MB */
};

/* Texts are shared: equal ones have the same address within one struct dlb_cases. */
struct dlb_case_key {
    const char *op, *pass, *dtype, *accuracy, *shape, *impl, *thread_set, *cache_state;
    int threads;
};

/* A row of a run; numbers that it does not have are NaN, texts "". */
struct dlb_case_row {
    int item, run; /* indices of its case and of its run */
    int next;      /* index of the next row of the same case, or -1 */
    int samples_n, samples_room;
    int64_t row_seq, multiplicity;
    const char *status, *reason, *shape_name, *impl_version, *isa, *candidate,
        *tuned_from, *roof_bound;
    double median_ns, ci_lo_ns, ci_hi_ns, ci_level, noise_floor, gflops, gbs, intensity,
        roof_gflops, roof_frac, speedup;
    double *sample;     /* clean ones, ascending, owned; NULL when there are none */
    int64_t sample_idx; /* of the sample read last */
};

struct dlb_case {
    struct dlb_case_key key;
    uint64_t id;   /* as dlb_case_id gives it */
    int row, last; /* indices of its first row and of its last one */
    bool has[DLB_SIDES];
};

/* A run of a file: rows of one run_id. */
enum dlb_run_state { DLB_RUN_WHOLE, DLB_RUN_TORN, DLB_RUN_UNFINISHED };
struct dlb_case_run {
    enum dlb_run_state state;
    int side, file;
    const char *id;
};

/* What was named on the command line. */
struct dlb_case_file {
    char *name;                              /* as it was typed */
    char *results, *samples, *manifest_path; /* the latter two NULL when not there */
    struct dlb_json_file *manifest;          /* NULL when not there */
    int side;
    int first_row, rows; /* within dlb_cases.row */
    int runs;
};

struct dlb_cases {
    struct dlb_case_row *row;
    struct dlb_case *item;
    struct dlb_case_run run[DLB_CASE_RUNS_MAX];
    struct dlb_case_file *file;
    int rows, rows_room, items, items_room, runs, files;
    int64_t samples;
    bool without_samples;    /* there were too many: none was kept */
    struct dlb_texts *texts; /* owned */
    int *index;              /* hash table of items */
    int index_room;
};

/* Adds the runs of path (a run folder or a results.csv, with what lies beside it) to a
 * side; *cases may be zeroed at first.  Release with dlb_cases_release, also after a
 * failure. */
enum dlb_status dlb_cases_add(struct dlb_cases *cases, const char *path, int side,
                              struct dlb_error *error);

/* After the last dlb_cases_add: reads the samples of the cases that both sides have. */
enum dlb_status dlb_cases_samples(struct dlb_cases *cases, struct dlb_error *error);

void dlb_cases_release(struct dlb_cases *cases);

/* The case with this key, whose texts need not be shared, or -1. */
int dlb_cases_find(const struct dlb_cases *cases, const struct dlb_case_key *key);

/* True when the row has a time that counts: its status is ok. */
bool dlb_case_row_timed(const struct dlb_case_row *row);

/* The same on every call and in every run. */
uint64_t dlb_case_id(const struct dlb_case_key *key);

/* "conv fwd f32 mb1ic64 native, 2 threads (cores), hot", without what is usual: f32, hot,
 * exact. */
enum { DLB_CASE_NAME = 512 };
void dlb_case_name(const struct dlb_case_key *key, char name[DLB_CASE_NAME]);

/* Runs of a side. */
int dlb_cases_runs(const struct dlb_cases *cases, int side);

#endif
