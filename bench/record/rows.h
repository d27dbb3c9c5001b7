/*
 * rows.h - strict reading of a run's tables, by the names in their headers.
 *
 * Columns that this version does not know are passed over, and those that a file of an
 * older version lacks are left unset.  A torn last record, which a killed run leaves, is
 * passed over too.  Everything else that is not as written by run.h is DLB_INVALID with
 * file, line and column.
 */
#ifndef DLB_RECORD_ROWS_H
#define DLB_RECORD_ROWS_H

#include "record/columns.h"
#include "record/csv.h"

struct dlb_rows {
    struct dlb_row *row;
    int rows_n;
    bool torn; /* a torn last record was passed over */
};

/* path: a results.csv, or the folder that holds it.  *rows is overwritten; release it
 * with dlb_rows_release, also after a failure. */
enum dlb_status dlb_rows_read(const char *path, struct dlb_rows *rows,
                              struct dlb_error *error);
void dlb_rows_release(struct dlb_rows *rows);

/* Any table of a run, record by record.  cell: in the order of the table; texts belong to
 * the reader, unless the function takes one and leaves NULL in its place. */
typedef enum dlb_status dlb_table_fn(void *context, struct dlb_cell *cell,
                                     const struct dlb_csv_record *record,
                                     struct dlb_error *error);

struct dlb_table_end {
    int64_t whole; /* bytes of header and whole records */
    int64_t size;  /* bytes of the file: more, when it ends in a torn record */
};

/* exact: the header must hold just the columns of the table in their order, as appending
 * needs it.  end may be NULL. */
enum dlb_status dlb_table_read(const char *file, enum dlb_table_id table, bool exact,
                               dlb_table_fn *fn, void *context, struct dlb_table_end *end,
                               struct dlb_error *error);

/* The same in less time: of each record only the wanted columns (wanted_n) are looked at;
 * the others are left unset. */
enum dlb_status dlb_table_scan(const char *file, enum dlb_table_id table,
                               const int *wanted, int wanted_n, dlb_table_fn *fn,
                               void *context, struct dlb_table_end *end,
                               struct dlb_error *error);

#endif
