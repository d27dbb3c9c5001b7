#include "judge/cases.h"

#include "judge/texts.h"
#include "record/manifest.h"
#include "record/rows.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FIRST_ROOM = 1024 };

static enum dlb_status no_memory(struct dlb_error *error)
{
    return dlb_fail(error, DLB_NOMEM, "There is no memory left to compare.");
}

uint64_t dlb_case_id(const struct dlb_case_key *key)
{
    const char *const part[] = {key->op,    key->pass, key->dtype,      key->accuracy,
                                key->shape, key->impl, key->thread_set, key->cache_state};
    uint64_t hash = dlb_text_hash_begin;
    for (size_t i = 0; i < sizeof part / sizeof *part; i++)
        hash = dlb_text_hash(dlb_text_hash(hash, part[i]), "|");
    return dlb_hash(hash, (uint64_t)key->threads);
}

static bool same_key(const struct dlb_case_key *a, const struct dlb_case_key *b)
{
    return !strcmp(a->shape, b->shape) && a->threads == b->threads &&
           !strcmp(a->impl, b->impl) && !strcmp(a->thread_set, b->thread_set) &&
           !strcmp(a->op, b->op) && !strcmp(a->pass, b->pass) &&
           !strcmp(a->dtype, b->dtype) && !strcmp(a->accuracy, b->accuracy) &&
           !strcmp(a->cache_state, b->cache_state);
}

/* Where the case is in the index, or belongs. */
static int *item_slot(const struct dlb_cases *cases, const struct dlb_case_key *key,
                      uint64_t id)
{
    size_t mask = (size_t)cases->index_room - 1, at = (size_t)id & mask;
    for (;; at = (at + 1) & mask) {
        int found = cases->index[at];
        if (found < 0 ||
            (cases->item[found].id == id && same_key(&cases->item[found].key, key)))
            return &cases->index[at];
    }
}

static bool grow_index(struct dlb_cases *cases)
{
    struct dlb_cases grown = *cases;
    grown.index_room = cases->index_room ? 2 * cases->index_room : FIRST_ROOM;
    grown.index = malloc((size_t)grown.index_room * sizeof *grown.index);
    if (!grown.index)
        return false;
    memset(grown.index, -1, (size_t)grown.index_room * sizeof *grown.index);
    for (int i = 0; i < cases->items; i++)
        *item_slot(&grown, &cases->item[i].key, cases->item[i].id) = i;
    free(cases->index);
    cases->index = grown.index;
    cases->index_room = grown.index_room;
    return true;
}

int dlb_cases_find(const struct dlb_cases *cases, const struct dlb_case_key *key)
{
    return cases->items ? *item_slot(cases, key, dlb_case_id(key)) : -1;
}

/* An array with room for one more; NULL, and nothing changed, without memory. */
static void *grow_array(void *array, int n, int *room, size_t size)
{
    if (n < *room)
        return array;
    int more = *room ? *room + *room / 2 : FIRST_ROOM;
    void *grown = realloc(array, (size_t)more * size);
    if (grown)
        *room = more;
    return grown;
}

/* The case of key, made when it is new; -1 without memory. */
static int item_of(struct dlb_cases *cases, const struct dlb_case_key *key)
{
    uint64_t id = dlb_case_id(key);
    if (2 * cases->items >= cases->index_room && !grow_index(cases))
        return -1;
    int *slot = item_slot(cases, key, id);
    if (*slot >= 0)
        return *slot;
    struct dlb_case *item =
        grow_array(cases->item, cases->items, &cases->items_room, sizeof *item);
    if (!item)
        return -1;
    cases->item = item;
    cases->item[cases->items] =
        (struct dlb_case){.key = *key, .id = id, .row = -1, .last = -1};
    return *slot = cases->items++;
}

enum { TEXTS = 17 };

/* One file being read. */
struct reading {
    struct dlb_cases *cases;
    int file;
    int run;                 /* of the last row */
    const char *last[TEXTS]; /* the texts of the last row, most of which come again */
};

static enum dlb_status run_of(struct reading *reading, const char *id, int64_t line,
                              struct dlb_error *error)
{
    struct dlb_cases *cases = reading->cases;
    struct dlb_case_file *file = &cases->file[reading->file];
    if (reading->run >= 0 && cases->run[reading->run].id == id)
        return DLB_OK;
    for (int i = 0; i < cases->runs; i++) {
        const struct dlb_case_run *run = &cases->run[i];
        if (run->id == id && run->file == reading->file) {
            reading->run = i;
            return DLB_OK;
        }
        if (run->id == id && run->side == file->side)
            return dlb_fail(error, DLB_INVALID,
                            "%s holds the same run as %s (%s); a repeat must be a run of "
                            "its own.",
                            file->name, cases->file[run->file].name, id);
    }
    if (cases->runs == DLB_CASE_RUNS_MAX)
        return dlb_fail(error, DLB_INVALID,
                        "%s, line %" PRId64
                        ": this is run number %d, but at most %d can be compared.",
                        file->results, line, cases->runs + 1, DLB_CASE_RUNS_MAX);
    cases->run[cases->runs] =
        (struct dlb_case_run){.side = file->side, .file = reading->file, .id = id};
    reading->run = cases->runs++;
    file->runs++;
    return DLB_OK;
}

static const enum dlb_column wanted[] = {DLB_COL_RUN_ID,
                                         DLB_COL_ROW_SEQ,
                                         DLB_COL_STATUS,
                                         DLB_COL_STATUS_REASON,
                                         DLB_COL_OP,
                                         DLB_COL_PASS,
                                         DLB_COL_DTYPE,
                                         DLB_COL_SHAPE_NAME,
                                         DLB_COL_MULTIPLICITY,
                                         DLB_COL_SHAPE,
                                         DLB_COL_ACCURACY,
                                         DLB_COL_IMPL,
                                         DLB_COL_IMPL_VERSION,
                                         DLB_COL_ISA,
                                         DLB_COL_TILES,
                                         DLB_COL_TUNED_FROM,
                                         DLB_COL_THREADS,
                                         DLB_COL_THREAD_SET,
                                         DLB_COL_CACHE_STATE,
                                         DLB_COL_TIME_MEDIAN_NS,
                                         DLB_COL_TIME_CI_LO_NS,
                                         DLB_COL_TIME_CI_HI_NS,
                                         DLB_COL_CI_LEVEL,
                                         DLB_COL_GFLOPS,
                                         DLB_COL_GBS,
                                         DLB_COL_INTENSITY,
                                         DLB_COL_ROOF_GFLOPS,
                                         DLB_COL_ROOF_BOUND,
                                         DLB_COL_ROOF_FRAC,
                                         DLB_COL_SPEEDUP_VS_ONEDNN,
                                         DLB_COL_NOISE_FLOOR};
enum { WANTED = sizeof wanted / sizeof *wanted };

/* Fills the texts, each from its column; false without memory. */
static bool take_texts(struct reading *reading, const struct dlb_cell *cell,
                       struct dlb_case_key *key, struct dlb_case_row *row,
                       const char **run_id)
{
    const struct {
        enum dlb_column column;
        const char **text, *otherwise;
    } take[TEXTS] = {
        {DLB_COL_OP, &key->op, ""},
        {DLB_COL_PASS, &key->pass, ""},
        {DLB_COL_DTYPE, &key->dtype, ""},
        {DLB_COL_ACCURACY, &key->accuracy, "exact"},
        {DLB_COL_SHAPE, &key->shape, ""},
        {DLB_COL_IMPL, &key->impl, ""},
        {DLB_COL_THREAD_SET, &key->thread_set, ""},
        {DLB_COL_CACHE_STATE, &key->cache_state, ""},
        {DLB_COL_STATUS, &row->status, ""},
        {DLB_COL_STATUS_REASON, &row->reason, ""},
        {DLB_COL_SHAPE_NAME, &row->shape_name, ""},
        {DLB_COL_IMPL_VERSION, &row->impl_version, ""},
        {DLB_COL_ISA, &row->isa, ""},
        {DLB_COL_TILES, &row->candidate, ""},
        {DLB_COL_TUNED_FROM, &row->tuned_from, ""},
        {DLB_COL_ROOF_BOUND, &row->roof_bound, ""},
        {DLB_COL_RUN_ID, run_id, ""},
    };
    for (int i = 0; i < TEXTS; i++) {
        const struct dlb_cell *from = &cell[take[i].column];
        const char *text = from->set ? from->text : take[i].otherwise;
        if (!reading->last[i] || strcmp(reading->last[i], text))
            reading->last[i] = dlb_texts_share(reading->cases->texts, text);
        *take[i].text = reading->last[i];
        if (!*take[i].text)
            return false;
    }
    return true;
}

static void take_numbers(const struct dlb_cell *cell, struct dlb_case_row *row)
{
    const struct {
        enum dlb_column column;
        double *number;
    } take[] = {
        {DLB_COL_TIME_MEDIAN_NS, &row->median_ns},
        {DLB_COL_TIME_CI_LO_NS, &row->ci_lo_ns},
        {DLB_COL_TIME_CI_HI_NS, &row->ci_hi_ns},
        {DLB_COL_CI_LEVEL, &row->ci_level},
        {DLB_COL_GFLOPS, &row->gflops},
        {DLB_COL_GBS, &row->gbs},
        {DLB_COL_INTENSITY, &row->intensity},
        {DLB_COL_ROOF_GFLOPS, &row->roof_gflops},
        {DLB_COL_ROOF_FRAC, &row->roof_frac},
        {DLB_COL_SPEEDUP_VS_ONEDNN, &row->speedup},
        {DLB_COL_NOISE_FLOOR, &row->noise_floor},
    };
    for (size_t i = 0; i < sizeof take / sizeof *take; i++)
        *take[i].number = cell[take[i].column].set ? cell[take[i].column].number : NAN;
    row->row_seq = cell[DLB_COL_ROW_SEQ].integer;
    row->multiplicity = cell[DLB_COL_MULTIPLICITY].set
                            ? dlb_max(1, cell[DLB_COL_MULTIPLICITY].integer)
                            : 1;
}

/* Appends the row to its case. */
static enum dlb_status link_row(struct reading *reading, const struct dlb_case_key *key,
                                const struct dlb_case_row *row, int64_t line,
                                struct dlb_error *error)
{
    struct dlb_cases *cases = reading->cases;
    struct dlb_case_file *file = &cases->file[reading->file];
    struct dlb_case_row *grown =
        grow_array(cases->row, cases->rows, &cases->rows_room, sizeof *grown);
    if (!grown)
        return no_memory(error);
    cases->row = grown;
    int at = item_of(cases, key), number = cases->rows;
    if (at < 0)
        return no_memory(error);
    struct dlb_case *item = &cases->item[at];
    /* Rows of a run lie together, so that its row of this case would be the last. */
    for (int i = item->row; i >= 0; i = cases->row[i].next)
        if (cases->row[i].run == reading->run) {
            char name[DLB_CASE_NAME];
            dlb_case_name(key, name);
            return dlb_fail(error, DLB_INVALID,
                            "%s, line %" PRId64
                            ": the case %s is there a second time, after row_seq %" PRId64
                            "; a run holds each case once.",
                            file->results, line, name, cases->row[i].row_seq);
        }
    cases->row[number] = *row;
    cases->row[number].item = at;
    cases->row[number].run = reading->run;
    cases->row[number].next = -1;
    if (item->row < 0)
        item->row = number;
    else
        cases->row[item->last].next = number;
    item->last = number;
    item->has[file->side] = true;
    cases->rows++;
    file->rows++;
    return DLB_OK;
}

static enum dlb_status take_row(void *context, struct dlb_cell *cell,
                                const struct dlb_csv_record *record,
                                struct dlb_error *error)
{
    struct reading *reading = context;
    struct dlb_cases *cases = reading->cases;
    const char *file = cases->file[reading->file].results, *run_id;
    struct dlb_case_row row = {0};
    struct dlb_case_key key;
    int64_t threads = cell[DLB_COL_THREADS].integer;
    if (cases->rows == DLB_CASE_ROWS_MAX)
        return dlb_fail(error, DLB_INVALID,
                        "%s, line %" PRId64
                        ": there are more than %d rows, the most that can be compared at "
                        "once; compare parts of the files.",
                        file, record->line, DLB_CASE_ROWS_MAX);
    if (threads < 0 || threads > INT32_MAX)
        return dlb_fail(error, DLB_INVALID,
                        "%s, line %" PRId64 ": %" PRId64
                        " threads; a count from 1 on is expected.",
                        file, record->line, threads);
    key.threads = (int)threads;
    if (!take_texts(reading, cell, &key, &row, &run_id))
        return no_memory(error);
    take_numbers(cell, &row);
    if (row.median_ns <= 0 || row.ci_lo_ns <= 0)
        return dlb_fail(
            error, DLB_INVALID,
            "%s, line %" PRId64 ": a time is %g ns; times above 0 are expected.", file,
            record->line, row.median_ns <= 0 ? row.median_ns : row.ci_lo_ns);
    enum dlb_status status = run_of(reading, run_id, record->line, error);
    return status ? status : link_row(reading, &key, &row, record->line, error);
}

/* Path of what lies beside a results.csv, or NULL when nothing does. */
static char *path_beside(const char *results, const char *name)
{
    const char *slash = strrchr(results, '/');
    char *path;
    if (asprintf(&path, "%.*s%s", slash ? (int)(slash - results + 1) : 0, results, name) <
        0)
        return NULL;
    if (access(path, F_OK)) {
        free(path);
        return NULL;
    }
    return path;
}

static enum dlb_status name_files(struct dlb_case_file *file, struct dlb_error *error)
{
    const char *table = dlb_tables[DLB_TABLE_RESULTS].file;
    struct stat info;
    bool folder = !stat(file->name, &info) && S_ISDIR(info.st_mode);
    if (asprintf(&file->results, "%s%s%s", file->name, folder ? "/" : "",
                 folder ? table : "") < 0) {
        file->results = NULL;
        return no_memory(error);
    }
    const char *slash = strrchr(file->results, '/');
    if (strcmp(slash ? slash + 1 : file->results, table))
        return DLB_OK; /* what lies beside a file of another name may not be its own */
    file->samples = path_beside(file->results, dlb_tables[DLB_TABLE_SAMPLES].file);
    file->manifest_path = path_beside(file->results, DLB_MANIFEST_FILE);
    if (file->manifest_path)
        return dlb_json_open(file->manifest_path, &file->manifest, error);
    return DLB_OK;
}

enum dlb_status dlb_cases_add(struct dlb_cases *cases, const char *path, int side,
                              struct dlb_error *error)
{
    int columns[WANTED];
    struct dlb_table_end end = {0};
    if (!cases->texts)
        cases->texts = dlb_texts_make();
    struct dlb_case_file *grown =
        realloc(cases->file, (size_t)(cases->files + 1) * sizeof *grown);
    if (grown)
        cases->file = grown;
    if (!grown || !cases->texts)
        return no_memory(error);
    struct dlb_case_file *file = &cases->file[cases->files++];
    *file = (struct dlb_case_file){
        .name = strdup(path), .side = side, .first_row = cases->rows};
    struct reading reading = {.cases = cases, .file = cases->files - 1, .run = -1};
    for (int i = 0; i < WANTED; i++)
        columns[i] = wanted[i];
    enum dlb_status status = file->name ? name_files(file, error) : no_memory(error);
    if (!status)
        status = dlb_table_scan(file->results, DLB_TABLE_RESULTS, columns, WANTED,
                                take_row, &reading, &end, error);
    if (status)
        return status;
    if (!file->rows)
        return dlb_fail(error, DLB_INVALID,
                        "%s holds no row; a run with results is expected.",
                        file->results);
    const char *state = file->manifest ? dlb_json_find_text(file->manifest, "state") : 0;
    if (end.whole < end.size)
        cases->run[reading.run].state = DLB_RUN_TORN;
    else if (state && strcmp(state, "finished"))
        cases->run[reading.run].state = DLB_RUN_UNFINISHED;
    return DLB_OK;
}

/* Rows of one file by run_id and row_seq, to join samples with. */
struct joining {
    struct dlb_cases *cases;
    const struct dlb_case_file *file;
    struct dlb_case_row **row; /* ascending */
    struct dlb_case_row *last; /* the one that was joined last, or NULL */
};

static int compare_places(const struct dlb_cases *cases, const struct dlb_case_row *row,
                          const char *run_id, int64_t row_seq)
{
    int runs = run_id ? strcmp(cases->run[row->run].id, run_id) : 0;
    return runs ? runs : (row->row_seq > row_seq) - (row->row_seq < row_seq);
}

static int by_place(const void *left, const void *right, void *cases)
{
    const struct dlb_case_row *a = *(struct dlb_case_row *const *)left;
    const struct dlb_case_row *b = *(struct dlb_case_row *const *)right;
    return compare_places(cases, a, ((struct dlb_cases *)cases)->run[b->run].id,
                          b->row_seq);
}

/* The row of a sample, or NULL. */
static struct dlb_case_row *row_of(struct joining *joining, const char *run_id,
                                   int64_t row_seq)
{
    if (joining->last && !compare_places(joining->cases, joining->last, run_id, row_seq))
        return joining->last;
    int low = 0, high = joining->file->rows;
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (compare_places(joining->cases, joining->row[middle], run_id, row_seq) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == joining->file->rows ||
        compare_places(joining->cases, joining->row[low], run_id, row_seq))
        return NULL;
    return joining->last = joining->row[low];
}

static bool is_compared(const struct dlb_cases *cases, const struct dlb_case_row *row)
{
    const struct dlb_case *item = &cases->item[row->item];
    return item->has[DLB_BASE] && item->has[DLB_NEW] && dlb_case_row_timed(row);
}

static enum dlb_status take_sample(void *context, struct dlb_cell *cell,
                                   const struct dlb_csv_record *record,
                                   struct dlb_error *error)
{
    struct joining *joining = context;
    struct dlb_cases *cases = joining->cases;
    const char *run_id =
        cell[DLB_SAMPLE_RUN_ID].set ? cell[DLB_SAMPLE_RUN_ID].text : NULL;
    int64_t row_seq = cell[DLB_SAMPLE_ROW_SEQ].integer;
    int64_t idx = cell[DLB_SAMPLE_SAMPLE_IDX].integer;
    double ns = cell[DLB_SAMPLE_NS].number;
    if (!run_id && joining->file->runs > 1)
        return dlb_fail(error, DLB_INVALID,
                        "%s, line %" PRId64
                        ": the sample has no run_id, but %s holds %d runs.",
                        joining->file->samples, record->line, joining->file->results,
                        joining->file->runs);
    struct dlb_case_row *row = row_of(joining, run_id, row_seq);
    if (!row || !cell[DLB_SAMPLE_NS].set)
        return DLB_OK;
    if (idx <= row->sample_idx)
        return dlb_fail(error, DLB_INVALID,
                        "%s, line %" PRId64 ": sample %" PRId64 " of row %" PRId64
                        " is there a second time, or out of order.",
                        joining->file->samples, record->line, idx, row_seq);
    row->sample_idx = idx;
    if (ns <= 0)
        return dlb_fail(error, DLB_INVALID,
                        "%s, line %" PRId64
                        ": a sample is %g ns; times above 0 are expected.",
                        joining->file->samples, record->line, ns);
    if (cell[DLB_SAMPLE_CONTAMINATED].integer || !is_compared(cases, row))
        return DLB_OK;
    if (++cases->samples > DLB_CASE_SAMPLES_MAX) {
        cases->without_samples = true;
        return DLB_INTERRUPTED;
    }
    if (row->samples_n == row->samples_room) {
        int room = row->samples_room ? 2 * row->samples_room : 32;
        double *grown = realloc(row->sample, (size_t)room * sizeof *grown);
        if (!grown)
            return no_memory(error);
        row->sample = grown;
        row->samples_room = room;
    }
    row->sample[row->samples_n++] = ns;
    return DLB_OK;
}

static int ascending(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static void drop_samples(struct dlb_cases *cases)
{
    for (int i = 0; i < cases->rows; i++) {
        free(cases->row[i].sample);
        cases->row[i].sample = NULL;
        cases->row[i].samples_n = cases->row[i].samples_room = 0;
    }
}

static enum dlb_status join_file(struct dlb_cases *cases,
                                 const struct dlb_case_file *file,
                                 struct dlb_error *error)
{
    static const int columns[] = {DLB_SAMPLE_RUN_ID, DLB_SAMPLE_ROW_SEQ,
                                  DLB_SAMPLE_SAMPLE_IDX, DLB_SAMPLE_NS,
                                  DLB_SAMPLE_CONTAMINATED};
    struct joining joining = {.cases = cases, .file = file};
    joining.row = malloc((size_t)file->rows * sizeof *joining.row);
    if (!joining.row)
        return no_memory(error);
    for (int i = 0; i < file->rows; i++)
        joining.row[i] = &cases->row[file->first_row + i];
    qsort_r(joining.row, (size_t)file->rows, sizeof *joining.row, by_place, cases);
    enum dlb_status status = dlb_table_scan(file->samples, DLB_TABLE_SAMPLES, columns,
                                            sizeof columns / sizeof *columns, take_sample,
                                            &joining, NULL, error);
    free(joining.row);
    return status;
}

enum dlb_status dlb_cases_samples(struct dlb_cases *cases, struct dlb_error *error)
{
    enum dlb_status status = DLB_OK;
    for (int i = 0; i < cases->files && !status; i++)
        if (cases->file[i].samples)
            status = join_file(cases, &cases->file[i], error);
    if (cases->without_samples) {
        drop_samples(cases);
        status = DLB_OK;
    }
    for (int i = 0; i < cases->rows && !status; i++)
        if (cases->row[i].sample)
            qsort(cases->row[i].sample, (size_t)cases->row[i].samples_n, sizeof(double),
                  ascending);
    return status;
}

void dlb_cases_release(struct dlb_cases *cases)
{
    drop_samples(cases);
    for (int i = 0; i < cases->files; i++) {
        struct dlb_case_file *file = &cases->file[i];
        dlb_json_close(file->manifest);
        free(file->name);
        free(file->results);
        free(file->samples);
        free(file->manifest_path);
    }
    free(cases->row);
    free(cases->item);
    free(cases->file);
    free(cases->index);
    dlb_texts_release(cases->texts);
    *cases = (struct dlb_cases){0};
}

bool dlb_case_row_timed(const struct dlb_case_row *row)
{
    return !strcmp(row->status, "ok") && row->median_ns > 0;
}

static void append(char *name, const char *format, const char *text)
{
    size_t used = strlen(name);
    snprintf(name + used, DLB_CASE_NAME - used, format, text);
}

void dlb_case_name(const struct dlb_case_key *key, char name[DLB_CASE_NAME])
{
    char threads[32];
    snprintf(name, DLB_CASE_NAME, "%s %s", key->op, key->pass);
    if (strcmp(key->dtype, "f32"))
        append(name, " %s", key->dtype);
    append(name, " %.300s", key->shape);
    append(name, " %s", key->impl);
    snprintf(threads, sizeof threads, "%d", key->threads);
    append(name, ", threads %s", threads);
    if (strcmp(key->thread_set, threads))
        append(name, " (%s)", key->thread_set);
    if (strcmp(key->accuracy, "exact"))
        append(name, ", %s", key->accuracy);
    if (strcmp(key->cache_state, "hot"))
        append(name, ", %s", key->cache_state);
}

int dlb_cases_runs(const struct dlb_cases *cases, int side)
{
    int runs = 0;
    for (int i = 0; i < cases->runs; i++)
        runs += cases->run[i].side == side;
    return runs;
}
