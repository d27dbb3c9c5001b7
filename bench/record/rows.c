#include "record/rows.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* What a row must have to be compared with another one; the same for each table. */
static const int results_required[] = {
    DLB_COL_SCHEMA_VERSION, DLB_COL_RUN_ID,        DLB_COL_CASE_ID,
    DLB_COL_ROW_SEQ,        DLB_COL_STATUS,        DLB_COL_OP,
    DLB_COL_PASS,           DLB_COL_DTYPE,         DLB_COL_SHAPE,
    DLB_COL_IMPL,           DLB_COL_THREAD_SET,    DLB_COL_THREADS,
    DLB_COL_CACHE_STATE,    DLB_COL_TIME_MEDIAN_NS};
static const int trials_required[] = {DLB_TRIAL_RUN_ID, DLB_TRIAL_OP, DLB_TRIAL_SHAPE,
                                      DLB_TRIAL_CANDIDATE, DLB_TRIAL_OUTCOME};
static const int samples_required[] = {DLB_SAMPLE_ROW_SEQ, DLB_SAMPLE_SAMPLE_IDX,
                                       DLB_SAMPLE_NS};
static const int tuning_required[] = {
    DLB_TUNING_SCHEMA_VERSION, DLB_TUNING_OUTCOME,    DLB_TUNING_OP,
    DLB_TUNING_SHAPE,          DLB_TUNING_THREAD_SET, DLB_TUNING_HARDWARE,
    DLB_TUNING_CODE,           DLB_TUNING_CANDIDATE};
static const int observations_required[] = {
    DLB_OBSERVATION_EXPERIMENT, DLB_OBSERVATION_CONDITION, DLB_OBSERVATION_ARM,
    DLB_OBSERVATION_METRIC,     DLB_OBSERVATION_REPLICATE, DLB_OBSERVATION_VALUE};
static const struct {
    const int *column;
    int columns_n;
} required[DLB_TABLES] = {
    [DLB_TABLE_RESULTS] = {results_required,
                           sizeof results_required / sizeof *results_required},
    [DLB_TABLE_TRIALS] = {trials_required,
                          sizeof trials_required / sizeof *trials_required},
    [DLB_TABLE_SAMPLES] = {samples_required,
                           sizeof samples_required / sizeof *samples_required},
    [DLB_TABLE_TUNING] = {tuning_required,
                          sizeof tuning_required / sizeof *tuning_required},
    [DLB_TABLE_OBSERVATIONS] = {observations_required, sizeof observations_required /
                                                           sizeof *observations_required},
};

struct table_reader {
    const char *file;
    enum dlb_table_id id;
    const struct dlb_table *table;
    bool exact;
    const int *wanted; /* NULL: every column */
    int wanted_n;
    dlb_table_fn *fn;
    void *context;
    int *
        column; /* of each cell of a record, -1 when passed over; NULL before the header */
    int columns_n;
    struct dlb_cell cell[DLB_COLUMNS];
};
_Static_assert((int)DLB_TRIAL_COLUMNS_N <= (int)DLB_COLUMNS &&
                   (int)DLB_SAMPLE_COLUMNS_N <= (int)DLB_COLUMNS &&
                   (int)DLB_TUNING_COLUMNS_N <= (int)DLB_COLUMNS &&
                   (int)DLB_STUDY_COLUMNS_N <= (int)DLB_COLUMNS &&
                   (int)DLB_OBSERVATION_COLUMNS_N <= (int)DLB_COLUMNS,
               "cell[] holds a record of any table");

static int find_column(const struct dlb_table *table, const char *name)
{
    for (int i = 0; i < table->columns_n; i++)
        if (!strcmp(table->columns[i].name, name))
            return i;
    return -1;
}

static enum dlb_status check_exact(const struct table_reader *reader,
                                   const struct dlb_csv_record *record,
                                   struct dlb_error *error)
{
    const struct dlb_table *table = reader->table;
    for (int i = 0; i < record->cells_n; i++)
        if (i >= table->columns_n || strcmp(record->cells[i], table->columns[i].name))
            return dlb_fail(error, DLB_INVALID,
                            "%s has \"%.60s\" as column %d, where this version writes "
                            "%s%s%s; only a file with the same columns can be continued.",
                            reader->file, record->cells[i], i + 1,
                            i < table->columns_n ? "\"" : "",
                            i < table->columns_n ? table->columns[i].name : "none",
                            i < table->columns_n ? "\"" : "");
    if (record->cells_n < table->columns_n)
        return dlb_fail(error, DLB_INVALID,
                        "%s lacks the column \"%s\", which this version writes; only a "
                        "file with the same columns can be continued.",
                        reader->file, table->columns[record->cells_n].name);
    return DLB_OK;
}

static enum dlb_status check_required(const struct table_reader *reader,
                                      struct dlb_error *error)
{
    char missing[512] = "";
    int missing_n = 0;
    for (int i = 0; i < required[reader->id].columns_n; i++) {
        int column = required[reader->id].column[i];
        bool found = false;
        for (int j = 0; j < reader->columns_n; j++)
            found |= reader->column[j] == column;
        if (found)
            continue;
        size_t used = strlen(missing);
        snprintf(missing + used, sizeof missing - used, "%s%s", missing_n++ ? ", " : "",
                 reader->table->columns[column].name);
    }
    if (!missing_n)
        return DLB_OK;
    return dlb_fail(error, DLB_INVALID,
                    "%s lacks the column%s %s, without which it cannot be used as a %s.",
                    reader->file, missing_n > 1 ? "s" : "", missing, reader->table->file);
}

static enum dlb_status read_header(struct table_reader *reader,
                                   const struct dlb_csv_record *record,
                                   struct dlb_error *error)
{
    reader->columns_n = record->cells_n;
    reader->column = malloc((size_t)record->cells_n * sizeof *reader->column);
    if (!reader->column)
        return dlb_fail(error, DLB_NOMEM, "There is no memory left to read %s.",
                        reader->file);
    for (int i = 0; i < record->cells_n; i++) {
        reader->column[i] = find_column(reader->table, record->cells[i]);
        for (int j = 0; j < i; j++)
            if (reader->column[j] >= 0 && reader->column[j] == reader->column[i])
                return dlb_fail(error, DLB_INVALID,
                                "%s, line %" PRId64
                                ": the header names the column \"%s\" twice.",
                                reader->file, record->line, record->cells[i]);
    }
    enum dlb_status status = check_required(reader, error);
    if (!status && reader->exact)
        status = check_exact(reader, record, error);
    for (int i = 0; i < reader->columns_n && reader->wanted; i++) {
        bool wanted = false;
        for (int j = 0; j < reader->wanted_n; j++)
            wanted |= reader->column[i] == reader->wanted[j];
        reader->column[i] = wanted ? reader->column[i] : -1;
    }
    return status;
}

static void release_cells(struct table_reader *reader)
{
    for (int i = 0; i < reader->table->columns_n; i++) {
        free(reader->cell[i].text);
        reader->cell[i] = (struct dlb_cell){0};
    }
}

static enum dlb_status on_record(void *context, const struct dlb_csv_record *record,
                                 struct dlb_error *error)
{
    struct table_reader *reader = context;
    enum dlb_status status = DLB_OK;
    if (!reader->column)
        return read_header(reader, record, error);
    if (record->cells_n != reader->columns_n)
        return dlb_fail(error, DLB_INVALID,
                        "%s, line %" PRId64
                        ": the record has %d cells, but the header names %d columns.",
                        reader->file, record->line, record->cells_n, reader->columns_n);
    for (int i = 0; i < record->cells_n && !status; i++) {
        int column = reader->column[i];
        if (column >= 0)
            status = dlb_cell_parse(
                reader->file, record->line, &reader->table->columns[column],
                dlb_csv_plain(record->cells[i]), &reader->cell[column], error);
    }
    if (!status)
        status = reader->fn(reader->context, reader->cell, record, error);
    release_cells(reader);
    return status;
}

static enum dlb_status read_table(struct table_reader *reader, struct dlb_table_end *end,
                                  struct dlb_error *error)
{
    const char *file = reader->file;
    struct dlb_table_end found = {0};
    struct stat info;
    if (stat(file, &info))
        return dlb_fail(error, DLB_IO, "%s cannot be read: %s.", file, strerror(errno));
    if (!S_ISREG(info.st_mode))
        return dlb_fail(error, DLB_IO, "%s cannot be read: it is not a regular file.",
                        file);
    found.size = info.st_size;
    enum dlb_status status =
        dlb_csv_read_whole(file, on_record, reader, &found.whole, error);
    if (!status && !reader->column)
        status =
            dlb_fail(error, DLB_INVALID,
                     "%s has no header; its first line must name the columns of a %s.",
                     file, reader->table->file);
    free(reader->column);
    if (!status && end)
        *end = found;
    return status;
}

enum dlb_status dlb_table_read(const char *file, enum dlb_table_id table, bool exact,
                               dlb_table_fn *fn, void *context, struct dlb_table_end *end,
                               struct dlb_error *error)
{
    struct table_reader reader = {.file = file,
                                  .id = table,
                                  .table = &dlb_tables[table],
                                  .exact = exact,
                                  .fn = fn,
                                  .context = context};
    return read_table(&reader, end, error);
}

enum dlb_status dlb_table_scan(const char *file, enum dlb_table_id table,
                               const int *wanted, int wanted_n, dlb_table_fn *fn,
                               void *context, struct dlb_table_end *end,
                               struct dlb_error *error)
{
    struct table_reader reader = {.file = file,
                                  .id = table,
                                  .table = &dlb_tables[table],
                                  .wanted = wanted,
                                  .wanted_n = wanted_n,
                                  .fn = fn,
                                  .context = context};
    return read_table(&reader, end, error);
}

struct row_list {
    struct dlb_rows *rows;
    int capacity;
};

static enum dlb_status add_row(void *context, struct dlb_cell *cell,
                               const struct dlb_csv_record *record,
                               struct dlb_error *error)
{
    struct row_list *list = context;
    struct dlb_rows *rows = list->rows;
    (void)record;
    if (rows->rows_n == list->capacity) {
        int capacity = list->capacity ? 2 * list->capacity : 64;
        struct dlb_row *grown = realloc(rows->row, (size_t)capacity * sizeof *grown);
        if (!grown)
            return dlb_fail(error, DLB_NOMEM, "There is no memory left for %d rows.",
                            capacity);
        rows->row = grown;
        list->capacity = capacity;
    }
    struct dlb_row *row = &rows->row[rows->rows_n++];
    *row = (struct dlb_row){0};
    memcpy(row->cell, cell, sizeof row->cell);
    for (int i = 0; i < DLB_COLUMNS; i++)
        cell[i].text = NULL;
    return DLB_OK;
}

enum dlb_status dlb_rows_read(const char *path, struct dlb_rows *rows,
                              struct dlb_error *error)
{
    struct row_list list = {.rows = rows};
    struct dlb_table_end end = {0};
    struct stat info;
    char *file;
    *rows = (struct dlb_rows){0};
    bool folder = !stat(path, &info) && S_ISDIR(info.st_mode);
    if (asprintf(&file, "%s%s%s", path, folder ? "/" : "",
                 folder ? dlb_tables[DLB_TABLE_RESULTS].file : "") < 0)
        return dlb_fail(error, DLB_NOMEM, "There is no memory left to read %s.", path);
    enum dlb_status status =
        dlb_table_read(file, DLB_TABLE_RESULTS, false, add_row, &list, &end, error);
    rows->torn = end.whole < end.size;
    free(file);
    return status;
}

void dlb_rows_release(struct dlb_rows *rows)
{
    for (int i = 0; i < rows->rows_n; i++)
        dlb_row_release(&rows->row[i]);
    free(rows->row);
    *rows = (struct dlb_rows){0};
}
