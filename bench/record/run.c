#include "record/run.h"

#include "record/manifest.h"
#include "record/rows.h"
#include "record/table_file.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { ID_MAX = 160, HOST_MAX = 40, WHAT_MAX = 48, SAME_NAME_MAX = 1000 };

struct dlb_run {
    char *path;
    char id[ID_MAX];
    char started[DLB_TIME_TEXT];
    struct dlb_table_file file[DLB_RUN_TABLES];
    int64_t next_seq;
    struct dlb_rows resumed;
    struct dlb_row **appended;
    int appended_n, appended_capacity;
    void *index; /* search tree of rows by case_id */
};

static enum dlb_status no_memory(struct dlb_error *error)
{
    return dlb_fail(error, DLB_NOMEM, "There is no memory left to record the run.");
}

static enum dlb_status system_failed(struct dlb_error *error, const char *path,
                                     const char *what)
{
    return dlb_fail(error, DLB_IO, "%s cannot be %s: %s.", path, what, strerror(errno));
}

void dlb_run_time(char text[DLB_TIME_TEXT])
{
    time_t now = time(NULL);
    struct tm utc;
    gmtime_r(&now, &utc);
    strftime(text, DLB_TIME_TEXT, "%Y-%m-%dT%H:%M:%SZ", &utc);
}

/* Keeps what is safe in a file name on any system. */
static void sanitise(char *text)
{
    for (; *text; text++)
        if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-",
                    *text))
            *text = '-';
}

static void make_id(const char *what, char id[ID_MAX])
{
    char utc[DLB_TIME_TEXT], host[256] = "";
    time_t now = time(NULL);
    struct tm broken;
    gmtime_r(&now, &broken);
    strftime(utc, sizeof utc, "%Y%m%dT%H%M%SZ", &broken);
    if (gethostname(host, sizeof host - 1) || !*host)
        strcpy(host, "host");
    snprintf(id, ID_MAX, "%s-%.*s-%.*s", utc, HOST_MAX, host, WHAT_MAX, what);
    sanitise(id);
}

enum dlb_status dlb_folders_make(const char *path, struct dlb_error *error)
{
    enum dlb_status status = DLB_OK;
    char *part = strdup(path);
    if (!part)
        return no_memory(error);
    for (char *at = part + 1; !status && *part; at++) {
        char end = *at;
        if (end && end != '/')
            continue;
        *at = '\0';
        if (mkdir(part, 0777)) {
            int reason = errno;
            struct stat info;
            if (stat(part, &info) || !S_ISDIR(info.st_mode)) {
                errno = reason == EEXIST ? ENOTDIR : reason;
                status = system_failed(error, part, "made a folder");
            }
        }
        *at = end;
        if (!end)
            break;
    }
    free(part);
    return status;
}

/* Makes <parent>/<id>, with -2, -3, … behind when there is one already. */
static enum dlb_status make_run_folder(struct dlb_run *run, const char *parent,
                                       struct dlb_error *error)
{
    enum dlb_status status = dlb_folders_make(parent, error);
    if (status)
        return status;
    size_t length = strlen(run->id);
    for (int n = 1; n < SAME_NAME_MAX; n++) {
        if (n > 1)
            snprintf(run->id + length, sizeof run->id - length, "-%d", n);
        if (asprintf(&run->path, "%s/%s", parent, run->id) < 0) {
            run->path = NULL;
            return no_memory(error);
        }
        if (!mkdir(run->path, 0777))
            return DLB_OK;
        if (errno != EEXIST)
            break;
        free(run->path);
        run->path = NULL;
    }
    return system_failed(error, run->path ? run->path : parent, "given a run folder");
}

/* exclusive: none of the files may exist. */
static enum dlb_status open_tables(struct dlb_run *run, bool exclusive,
                                   struct dlb_error *error)
{
    enum dlb_status status = DLB_OK;
    for (int i = 0; i < DLB_RUN_TABLES && !status; i++)
        status = dlb_table_file_open(&run->file[i], run->path, i, exclusive, error);
    /* File systems without locks are no reason to refuse. */
    if (!status && flock(run->file[DLB_TABLE_RESULTS].fd, LOCK_EX | LOCK_NB) &&
        errno == EWOULDBLOCK)
        status = dlb_fail(error, DLB_INVALID,
                          "%s is being written by another process; wait until it has "
                          "ended, or start a new run.",
                          run->path);
    return status;
}

static struct dlb_run *run_make(void)
{
    struct dlb_run *run = calloc(1, sizeof *run);
    if (!run)
        return NULL;
    run->next_seq = 1;
    dlb_run_time(run->started);
    return run;
}

static bool holds_run(const char *path)
{
    struct stat info;
    bool found = false;
    for (int i = 0; i < DLB_RUN_TABLES && !found; i++) {
        char *file;
        if (asprintf(&file, "%s/%s", path, dlb_tables[i].file) < 0)
            return false;
        found = !lstat(file, &info);
        free(file);
    }
    return found;
}

static enum dlb_status create(const char *parent, const char *path, const char *what,
                              bool tables, struct dlb_run **out, struct dlb_error *error)
{
    enum dlb_status status;
    assert(parent || path);
    struct dlb_run *run = run_make();
    if (!run)
        return no_memory(error);
    make_id(what, run->id);
    if (parent) {
        status = make_run_folder(run, parent, error);
    } else if (holds_run(path)) {
        status = dlb_fail(error, DLB_INVALID,
                          "%s holds a run already; resume that one, or name a folder "
                          "without a run.",
                          path);
    } else {
        run->path = strdup(path);
        status = run->path ? dlb_folders_make(path, error) : no_memory(error);
    }
    if (!status && tables)
        status = open_tables(run, true, error);
    for (int i = 0; i < DLB_RUN_TABLES && tables && !status; i++)
        status = dlb_table_file_cut(&run->file[i], 0, error);
    if (status)
        dlb_run_close(run);
    else
        *out = run;
    return status;
}

enum dlb_status dlb_run_create(const char *parent, const char *path, const char *what,
                               struct dlb_run **run, struct dlb_error *error)
{
    return create(parent, path, what, true, run, error);
}

enum dlb_status dlb_run_create_bare(const char *parent, const char *path,
                                    const char *what, struct dlb_run **run,
                                    struct dlb_error *error)
{
    return create(parent, path, what, false, run, error);
}

static int compare_rows(const void *a, const void *b)
{
    return strcmp(dlb_row_get_text(a, DLB_COL_CASE_ID),
                  dlb_row_get_text(b, DLB_COL_CASE_ID));
}

static enum dlb_status add_to_index(struct dlb_run *run, const struct dlb_row *row,
                                    struct dlb_error *error)
{
    const struct dlb_row **node = tsearch(row, &run->index, compare_rows);
    if (!node)
        return no_memory(error);
    *node = row;
    return DLB_OK;
}

static void keep_row(void *row)
{
    (void)row;
}

/* What reading a table on resume finds; the rows come through dlb_rows_read. */
struct survey {
    const struct dlb_run *run;
    int64_t orphans; /* where the samples without row begin, or -1 */
};

static enum dlb_status survey_nothing(void *context, struct dlb_cell *cell,
                                      const struct dlb_csv_record *record,
                                      struct dlb_error *error)
{
    (void)context, (void)cell, (void)record, (void)error;
    return DLB_OK;
}

static enum dlb_status survey_sample(void *context, struct dlb_cell *cell,
                                     const struct dlb_csv_record *record,
                                     struct dlb_error *error)
{
    struct survey *survey = context;
    (void)error;
    if (survey->orphans < 0 && cell[DLB_SAMPLE_ROW_SEQ].integer >= survey->run->next_seq)
        survey->orphans = record->begin;
    return DLB_OK;
}

/* Checks a table without changing it.  *whole: what of it is to be kept. */
static enum dlb_status survey_table(const struct dlb_run *run, enum dlb_table_id id,
                                    int64_t *whole, struct dlb_error *error)
{
    struct survey survey = {.run = run, .orphans = -1};
    struct dlb_table_end end = {0};
    enum dlb_status status = DLB_OK;
    if (!dlb_table_file_lacks_header(&run->file[id]))
        status = dlb_table_read(run->file[id].path, id, true,
                                id == DLB_TABLE_SAMPLES ? survey_sample : survey_nothing,
                                &survey, &end, error);
    *whole = survey.orphans >= 0 ? survey.orphans : end.whole;
    return status;
}

static enum dlb_status read_finished(struct dlb_run *run, struct dlb_error *error)
{
    enum dlb_status status = dlb_rows_read(run->path, &run->resumed, error);
    for (int i = 0; i < run->resumed.rows_n && !status; i++) {
        const struct dlb_row *row = &run->resumed.row[i];
        int64_t version = dlb_row_get_int(row, DLB_COL_SCHEMA_VERSION);
        if (version != DLB_SCHEMA_VERSION)
            return dlb_fail(error, DLB_INVALID,
                            "%s has rows of schema_version %" PRId64
                            ", but this version writes %d; resume the run with the "
                            "version that began it, or start a new one.",
                            run->file[DLB_TABLE_RESULTS].path, version,
                            (int)DLB_SCHEMA_VERSION);
        run->next_seq = dlb_max(run->next_seq, dlb_row_get_int(row, DLB_COL_ROW_SEQ) + 1);
        status = add_to_index(run, row, error);
    }
    return status;
}

static enum dlb_status survey_run(struct dlb_run *run, int64_t whole[DLB_RUN_TABLES],
                                  struct dlb_error *error)
{
    enum dlb_status status =
        survey_table(run, DLB_TABLE_RESULTS, &whole[DLB_TABLE_RESULTS], error);
    if (!status && whole[DLB_TABLE_RESULTS])
        status = read_finished(run, error);
    for (int i = DLB_TABLE_RESULTS + 1; i < DLB_RUN_TABLES && !status; i++)
        status = survey_table(run, i, &whole[i], error);
    return status;
}

/* From the rows, else from the manifest, else from the name of the folder. */
static enum dlb_status find_id(struct dlb_run *run, struct dlb_error *error)
{
    char *real = realpath(run->path, NULL);
    if (!real)
        return system_failed(error, run->path, "opened");
    snprintf(run->id, sizeof run->id, "%.*s", (int)sizeof run->id - 1,
             strrchr(real, '/') + 1);
    free(real);
    dlb_manifest_recall(run->path, run->id, sizeof run->id, run->started,
                        sizeof run->started);
    if (run->resumed.rows_n)
        snprintf(run->id, sizeof run->id, "%s",
                 dlb_row_get_text(&run->resumed.row[0], DLB_COL_RUN_ID));
    return DLB_OK;
}

enum dlb_status dlb_run_resume_bare(const char *path, struct dlb_run **out,
                                    struct dlb_error *error)
{
    struct dlb_run *run = run_make();
    if (!run)
        return no_memory(error);
    run->path = strdup(path);
    enum dlb_status status = run->path ? find_id(run, error) : no_memory(error);
    if (status)
        dlb_run_close(run);
    else
        *out = run;
    return status;
}

enum dlb_status dlb_run_resume(const char *path, struct dlb_run **out,
                               struct dlb_error *error)
{
    enum dlb_status status;
    int64_t whole[DLB_RUN_TABLES];
    struct stat info;
    if (stat(path, &info))
        return system_failed(error, path, "resumed");
    if (!S_ISDIR(info.st_mode) || !holds_run(path))
        return dlb_fail(error, DLB_INVALID,
                        "%s cannot be resumed: a run is a folder that holds %s.", path,
                        dlb_tables[DLB_TABLE_RESULTS].file);
    struct dlb_run *run = run_make();
    if (!run)
        return no_memory(error);
    run->path = strdup(path);
    status = run->path ? open_tables(run, false, error) : no_memory(error);
    if (!status)
        status = survey_run(run, whole, error);
    if (!status)
        status = find_id(run, error);
    for (int i = 0; i < DLB_RUN_TABLES && !status; i++)
        status = dlb_table_file_cut(&run->file[i], whole[i], error);
    if (status)
        dlb_run_close(run);
    else
        *out = run;
    return status;
}

const char *dlb_run_path(const struct dlb_run *run)
{
    return run->path;
}

const char *dlb_run_id(const struct dlb_run *run)
{
    return run->id;
}

const char *dlb_run_started(const struct dlb_run *run)
{
    return run->started;
}

int64_t dlb_run_next_seq(const struct dlb_run *run)
{
    return run->next_seq;
}

void dlb_run_key(struct dlb_row *row)
{
    static const enum dlb_column parts[] = {
        DLB_COL_OP,         DLB_COL_PASS,    DLB_COL_DTYPE,
        DLB_COL_ACCURACY,   DLB_COL_SHAPE,   DLB_COL_IMPL,
        DLB_COL_THREAD_SET, DLB_COL_THREADS, DLB_COL_CACHE_STATE};
    uint64_t hash = 0xcbf29ce484222325; /* FNV-1a */
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        char number[DLB_NUMBER_TEXT];
        const char *text =
            dlb_cell_format(dlb_columns[parts[i]].type, &row->cell[parts[i]], number);
        for (const char *at = i ? "|" : ""; *at; at++)
            hash = (hash ^ (unsigned char)*at) * 0x100000001b3;
        for (; *text; text++)
            hash = (hash ^ (unsigned char)*text) * 0x100000001b3;
    }
    char id[17];
    snprintf(id, sizeof id, "%016" PRIx64, hash);
    dlb_row_text(row, DLB_COL_CASE_ID, id);
}

const struct dlb_row *dlb_run_find(const struct dlb_run *run, const char *case_id)
{
    struct dlb_row key = {0};
    key.cell[DLB_COL_CASE_ID] = (struct dlb_cell){.set = true, .text = (char *)case_id};
    const struct dlb_row **node = tfind(&key, &run->index, compare_rows);
    return node ? *node : NULL;
}

/* Copies row to where dlb_run_find finds it. */
static enum dlb_status remember_row(struct dlb_run *run, const struct dlb_row *row,
                                    struct dlb_error *error)
{
    if (run->appended_n == run->appended_capacity) {
        int capacity = run->appended_capacity ? 2 * run->appended_capacity : 64;
        struct dlb_row **grown = realloc(run->appended, (size_t)capacity * sizeof *grown);
        if (!grown)
            return no_memory(error);
        run->appended = grown;
        run->appended_capacity = capacity;
    }
    struct dlb_row *copy = calloc(1, sizeof *copy);
    if (!copy)
        return no_memory(error);
    enum dlb_status status = dlb_row_copy(copy, row, error);
    if (!status)
        status = add_to_index(run, copy, error);
    if (status) {
        dlb_row_release(copy);
        free(copy);
        return status;
    }
    run->appended[run->appended_n++] = copy;
    return DLB_OK;
}

enum dlb_status dlb_run_append(struct dlb_run *run, struct dlb_row *row,
                               struct dlb_error *error)
{
    char now[DLB_TIME_TEXT];
    dlb_run_time(now);
    dlb_row_int(row, DLB_COL_SCHEMA_VERSION, DLB_SCHEMA_VERSION);
    dlb_row_text(row, DLB_COL_RUN_ID, run->id);
    dlb_row_int(row, DLB_COL_ROW_SEQ, run->next_seq);
    dlb_row_text(row, DLB_COL_TIMESTAMP_UTC, now);
    dlb_run_key(row);
    if (row->nomem)
        return no_memory(error);
    enum dlb_status status =
        dlb_table_file_append(&run->file[DLB_TABLE_RESULTS], row->cell, 1, error);
    if (status)
        return status;
    run->next_seq++;
    return remember_row(run, row, error);
}

static struct dlb_cell text_cell(const char *text)
{
    return (struct dlb_cell){.set = text && *text, .text = (char *)text};
}

static struct dlb_cell int_cell(int64_t value)
{
    return (struct dlb_cell){.set = true, .integer = value};
}

static struct dlb_cell real_cell(double value)
{
    return (struct dlb_cell){.set = isfinite(value), .number = value};
}

enum dlb_status dlb_run_samples(struct dlb_run *run, int64_t row_seq,
                                const struct dlb_sample *sample, int samples,
                                struct dlb_error *error)
{
    struct dlb_cell *cells =
        calloc((size_t)dlb_max(1, samples) * DLB_SAMPLE_COLUMNS_N, sizeof *cells);
    if (!cells)
        return no_memory(error);
    for (int i = 0; i < samples; i++) {
        struct dlb_cell *cell = cells + (size_t)i * DLB_SAMPLE_COLUMNS_N;
        cell[DLB_SAMPLE_RUN_ID] = text_cell(run->id);
        cell[DLB_SAMPLE_ROW_SEQ] = int_cell(row_seq);
        cell[DLB_SAMPLE_SAMPLE_IDX] = int_cell(i + 1);
        cell[DLB_SAMPLE_NS] = real_cell(sample[i].ns);
        cell[DLB_SAMPLE_CONTAMINATED] = int_cell(sample[i].contaminated);
    }
    enum dlb_status status =
        dlb_table_file_append(&run->file[DLB_TABLE_SAMPLES], cells, samples, error);
    free(cells);
    return status;
}

enum dlb_status dlb_run_trial(struct dlb_run *run, const struct dlb_trial *trial,
                              struct dlb_error *error)
{
    char now[DLB_TIME_TEXT];
    dlb_run_time(now);
    struct dlb_cell cell[DLB_TRIAL_COLUMNS_N] = {
        [DLB_TRIAL_SCHEMA_VERSION] = int_cell(DLB_SCHEMA_VERSION),
        [DLB_TRIAL_RUN_ID] = text_cell(run->id),
        [DLB_TRIAL_TIMESTAMP_UTC] = text_cell(now),
        [DLB_TRIAL_OP] = text_cell(trial->op),
        [DLB_TRIAL_PASS] = text_cell(trial->pass),
        [DLB_TRIAL_SHAPE] = text_cell(trial->shape),
        [DLB_TRIAL_THREAD_SET] = text_cell(trial->thread_set),
        [DLB_TRIAL_CANDIDATE] = text_cell(trial->candidate),
        [DLB_TRIAL_OUTCOME] = text_cell(trial->outcome),
        [DLB_TRIAL_REASON] = text_cell(trial->reason),
        [DLB_TRIAL_RUNG] = int_cell(trial->rung),
        [DLB_TRIAL_SAMPLES] = int_cell(trial->samples),
        [DLB_TRIAL_BEST_NS] = real_cell(trial->best_ns),
        [DLB_TRIAL_MODEL_NS] = real_cell(trial->model_ns)};
    return dlb_table_file_append(&run->file[DLB_TABLE_TRIALS], cell, 1, error);
}

void dlb_run_close(struct dlb_run *run)
{
    if (!run)
        return;
    for (int i = 0; i < DLB_RUN_TABLES; i++)
        dlb_table_file_close(&run->file[i]);
    tdestroy(run->index, keep_row);
    dlb_rows_release(&run->resumed);
    for (int i = 0; i < run->appended_n; i++) {
        dlb_row_release(run->appended[i]);
        free(run->appended[i]);
    }
    free(run->appended);
    free(run->path);
    free(run);
}
