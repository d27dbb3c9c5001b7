/*
 * csv.h - RFC 4180 through libcsv, which is seen only in csv.c.
 */
#ifndef DLB_RECORD_CSV_H
#define DLB_RECORD_CSV_H

#include "core/base.h"

#include <stdio.h>

/* One record as read.  cells are valid during the callback only. */
struct dlb_csv_record {
    int64_t line; /* of the file, from 1, where the record starts */
    int cells_n;
    const char *const *cells;
    bool torn; /* last record of a file that does not end in a newline */
};

/* Returns DLB_OK to go on; anything else stops the reading and is returned. */
typedef enum dlb_status dlb_csv_fn(void *context, const struct dlb_csv_record *record,
                                   struct dlb_error *error);

/*
 * Reads file record by record in bounded memory.  Lines whose first character is # are
 * skipped when comments is true; blank lines always.  Broken quoting, a NUL byte, or a
 * cell beyond 1 MiB is DLB_INVALID with file and line; a file that cannot be read is
 * DLB_IO.
 */
enum dlb_status dlb_csv_read(const char *file, bool comments, dlb_csv_fn *fn,
                             void *context, struct dlb_error *error);

/* Writes one record, quoting where needed, and flushes it whole.  A text that a
 * spreadsheet would run as a formula (= + - @ tab CR first, and not a number) is preceded
 * by '. */
enum dlb_status dlb_csv_write(FILE *file, const char *const *cells, int cells_n,
                              struct dlb_error *error);

#endif
