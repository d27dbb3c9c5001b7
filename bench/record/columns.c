#include "record/columns.h"

#include "record/csv.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define X(id, name, type, meaning) {name, DLB_CELL_##type, meaning},
const struct dlb_column_def dlb_columns[DLB_COLUMNS] = {
#include "record/columns.def.h"
};
static const struct dlb_column_def trial_columns[] = {DLB_TRIAL_COLUMNS};
static const struct dlb_column_def sample_columns[] = {DLB_SAMPLE_COLUMNS};
static const struct dlb_column_def tuning_columns[] = {DLB_TUNING_COLUMNS};
static const struct dlb_column_def study_columns[] = {DLB_STUDY_COLUMNS};
static const struct dlb_column_def observation_columns[] = {DLB_OBSERVATION_COLUMNS};
static const struct dlb_column_def claim_columns[] = {DLB_CLAIM_COLUMNS};
#undef X

const struct dlb_table dlb_tables[DLB_TABLES] = {
    [DLB_TABLE_RESULTS] = {"results.csv",
                           "one row per problem, thread set and implementation",
                           dlb_columns, DLB_COLUMNS},
    [DLB_TABLE_TRIALS] = {"trials.csv",
                          "every candidate that was timed or refused while tuning",
                          trial_columns, DLB_TRIAL_COLUMNS_N},
    [DLB_TABLE_SAMPLES] = {"samples.csv", "all raw samples of the rows", sample_columns,
                           DLB_SAMPLE_COLUMNS_N},
    [DLB_TABLE_TUNING] =
        {"tuning.csv", "the tuning cache: the best candidates of problems tuned before",
         tuning_columns, DLB_TUNING_COLUMNS_N},
    [DLB_TABLE_STUDY] = {"study.csv",
                         "how far the winners of the search are from the best",
                         study_columns, DLB_STUDY_COLUMNS_N},
    [DLB_TABLE_OBSERVATIONS] = {"observations.csv",
                                "what the experiments behind the claims saw",
                                observation_columns, DLB_OBSERVATION_COLUMNS_N},
    [DLB_TABLE_CLAIMS] = {"claims.csv", "verdicts on the claims", claim_columns,
                          DLB_CLAIM_COLUMNS_N},
};

static const char *const type_names[] = {
    [DLB_CELL_TEXT] = "text", [DLB_CELL_INT] = "int", [DLB_CELL_REAL] = "real"};

const char *dlb_cell_format(enum dlb_cell_type type, const struct dlb_cell *cell,
                            char number[DLB_NUMBER_TEXT])
{
    if (!cell->set)
        return "";
    if (type == DLB_CELL_TEXT)
        return cell->text;
    if (type == DLB_CELL_INT)
        snprintf(number, DLB_NUMBER_TEXT, "%" PRId64, cell->integer);
    else
        snprintf(number, DLB_NUMBER_TEXT, "%.10g", cell->number);
    return number;
}

enum dlb_status dlb_cell_parse(const char *file, int64_t line,
                               const struct dlb_column_def *column, const char *text,
                               struct dlb_cell *cell, struct dlb_error *error)
{
    *cell = (struct dlb_cell){0};
    if (!*text)
        return DLB_OK;
    const char *expected = NULL;
    errno = 0;
    switch (column->type) {
    case DLB_CELL_TEXT:
        cell->text = strdup(text);
        if (!cell->text)
            return dlb_fail(error, DLB_NOMEM, "There is no memory left to read %s.",
                            file);
        break;
    case DLB_CELL_INT: {
        char *end;
        cell->integer = strtoll(text, &end, 10);
        if (!dlb_csv_is_number(text) || *end || errno)
            expected = "a whole number";
        break;
    }
    case DLB_CELL_REAL:
        cell->number = strtod(text, NULL);
        if (!dlb_csv_is_number(text) || !isfinite(cell->number))
            expected = "a finite decimal number";
        break;
    }
    if (expected)
        return dlb_fail(error, DLB_INVALID,
                        "%s, line %" PRId64 ": column \"%s\" holds \"%.60s\", but %s or "
                        "nothing is expected there.",
                        file, line, column->name, text, expected);
    cell->set = true;
    return DLB_OK;
}

static struct dlb_cell *cell_of(struct dlb_row *row, enum dlb_column column,
                                enum dlb_cell_type type)
{
    assert(column >= 0 && column < DLB_COLUMNS && dlb_columns[column].type == type);
    (void)type; /* without asserts */
    struct dlb_cell *cell = &row->cell[column];
    free(cell->text);
    *cell = (struct dlb_cell){0};
    return cell;
}

void dlb_row_text(struct dlb_row *row, enum dlb_column column, const char *text)
{
    /* text may be the cell's own. */
    char *copy = text && *text ? strdup(text) : NULL;
    if (text && *text && !copy)
        row->nomem = true;
    struct dlb_cell *cell = cell_of(row, column, DLB_CELL_TEXT);
    cell->text = copy;
    cell->set = copy;
}

void dlb_row_int(struct dlb_row *row, enum dlb_column column, int64_t value)
{
    struct dlb_cell *cell = cell_of(row, column, DLB_CELL_INT);
    cell->integer = value;
    cell->set = true;
}

void dlb_row_real(struct dlb_row *row, enum dlb_column column, double value)
{
    struct dlb_cell *cell = cell_of(row, column, DLB_CELL_REAL);
    cell->number = value;
    cell->set = isfinite(value);
}

void dlb_row_release(struct dlb_row *row)
{
    for (int i = 0; i < DLB_COLUMNS; i++)
        free(row->cell[i].text);
    *row = (struct dlb_row){0};
}

enum dlb_status dlb_row_copy(struct dlb_row *to, const struct dlb_row *from,
                             struct dlb_error *error)
{
    for (int i = 0; i < DLB_COLUMNS; i++)
        if (dlb_columns[i].type == DLB_CELL_TEXT)
            dlb_row_text(to, i, from->cell[i].text);
        else
            to->cell[i] = from->cell[i];
    if (!to->nomem)
        return DLB_OK;
    dlb_row_release(to);
    return dlb_fail(error, DLB_NOMEM, "There is no memory left for a row.");
}

static const struct dlb_cell *cell_at(const struct dlb_row *row, enum dlb_column column,
                                      enum dlb_cell_type type)
{
    assert(column >= 0 && column < DLB_COLUMNS && dlb_columns[column].type == type);
    (void)type; /* without asserts */
    return &row->cell[column];
}

const char *dlb_row_get_text(const struct dlb_row *row, enum dlb_column column)
{
    const struct dlb_cell *cell = cell_at(row, column, DLB_CELL_TEXT);
    return cell->set ? cell->text : "";
}

int64_t dlb_row_get_int(const struct dlb_row *row, enum dlb_column column)
{
    const struct dlb_cell *cell = cell_at(row, column, DLB_CELL_INT);
    return cell->set ? cell->integer : 0;
}

double dlb_row_get_real(const struct dlb_row *row, enum dlb_column column)
{
    const struct dlb_cell *cell = cell_at(row, column, DLB_CELL_REAL);
    return cell->set ? cell->number : NAN;
}

void dlb_row_name(const struct dlb_row *row, char name[DLB_ROW_NAME_MAX])
{
    static const enum dlb_column parts[] = {
        DLB_COL_OP,    DLB_COL_PASS, DLB_COL_DTYPE,      DLB_COL_ACCURACY,
        DLB_COL_SHAPE, DLB_COL_IMPL, DLB_COL_THREAD_SET, DLB_COL_CACHE_STATE};
    size_t used = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts && used < DLB_ROW_NAME_MAX; i++) {
        const char *part = dlb_row_get_text(row, parts[i]);
        if (*part)
            used += (size_t)snprintf(name + used, DLB_ROW_NAME_MAX - used, "%s%s",
                                     used ? "/" : "", part);
    }
    if (used < DLB_ROW_NAME_MAX)
        snprintf(name + used, DLB_ROW_NAME_MAX - used, "/threads:%d",
                 (int)dlb_row_get_int(row, DLB_COL_THREADS));
}

static void print_table(FILE *out, const struct dlb_table *table, bool markdown)
{
    int width = 0;
    for (int i = 0; i < table->columns_n; i++)
        width = (int)dlb_max(width, (int64_t)strlen(table->columns[i].name));
    if (markdown)
        fprintf(out, "**%s**: %s\n\n| column | type | meaning |\n|---|---|---|\n",
                table->file, table->summary);
    else
        fprintf(out, "%s: %s\n", table->file, table->summary);
    for (int i = 0; i < table->columns_n; i++) {
        const struct dlb_column_def *column = &table->columns[i];
        if (markdown)
            fprintf(out, "| %s | %s | %s |\n", column->name, type_names[column->type],
                    column->meaning);
        else
            fprintf(out, "  %-*s  %-4s  %s\n", width, column->name,
                    type_names[column->type], column->meaning);
    }
}

void dlb_columns_print(FILE *out, bool markdown)
{
    for (int i = 0; i < (markdown ? DLB_RUN_TABLES : DLB_TABLES); i++) {
        if (i)
            fputc('\n', out);
        print_table(out, &dlb_tables[i], markdown);
    }
}
