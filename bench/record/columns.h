/*
 * columns.h - the columns of results.csv, trials.csv and samples.csv: one table that
 * writes and reads rows, that "dlbench list columns" prints, and README's table is made
 * from.
 *
 * Columns are only ever appended; names are lower case with unit suffixes; an empty cell
 * means "not measured".
 */
#ifndef DLB_RECORD_COLUMNS_H
#define DLB_RECORD_COLUMNS_H

#include "core/base.h"

#include <stdio.h>

enum dlb_cell_type { DLB_CELL_TEXT, DLB_CELL_INT, DLB_CELL_REAL };

/* The X-macro table (columns.def.h) holds X(ID, name, type, meaning) per column, in file
 * order: DLB_COL_SCHEMA_VERSION, DLB_COL_RUN_ID, DLB_COL_CASE_ID, … as the enumeration
 * below. */
#define DLB_COLUMN_ENUM(id, name, type, meaning) DLB_COL_##id,
enum dlb_column {
#define X DLB_COLUMN_ENUM
#include "record/columns.def.h"
#undef X
    DLB_COLUMNS
};

struct dlb_column_def {
    const char *name;
    enum dlb_cell_type type;
    const char *meaning;
};
extern const struct dlb_column_def dlb_columns[DLB_COLUMNS];

enum { DLB_SCHEMA_VERSION = 1 };

/* One row; a zeroed one is empty.  Texts are owned by the row. */
struct dlb_cell {
    bool set;
    double number;
    int64_t integer;
    char *text;
};
struct dlb_row {
    struct dlb_cell cell[DLB_COLUMNS];
};

/* The setter must match the column's type (asserted).  NaN and infinity leave it empty.
 */
void dlb_row_text(struct dlb_row *row, enum dlb_column column, const char *text);
void dlb_row_int(struct dlb_row *row, enum dlb_column column, int64_t value);
void dlb_row_real(struct dlb_row *row, enum dlb_column column, double value);
void dlb_row_release(struct dlb_row *row);

/* Getters: "" / 0 / NaN when empty. */
const char *dlb_row_get_text(const struct dlb_row *row, enum dlb_column column);
int64_t dlb_row_get_int(const struct dlb_row *row, enum dlb_column column);
double dlb_row_get_real(const struct dlb_row *row, enum dlb_column column);

/* "dlbench list columns"; markdown: as README's table. */
void dlb_columns_print(FILE *out, bool markdown);

#endif
