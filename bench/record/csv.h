/*
 * csv.h - RFC 4180 through libcsv, which is seen only in csv.c.
 */
#ifndef DLB_RECORD_CSV_H
#define DLB_RECORD_CSV_H

#include "core/base.h"

#include <stdio.h>

enum { DLB_CSV_CELL_MAX = 1 << 20, DLB_CSV_RECORD_MAX = 4 << 20 };

/* One record as read.  cells are valid during the callback only. */
struct dlb_csv_record {
    int64_t line; /* of the file, from 1, where the record starts */
    int cells_n;
    const char *const *cells;
    bool torn;          /* last record of a file that does not end in a newline */
    int64_t begin, end; /* its bytes in the file, newline included */
};

/* Returns DLB_OK to go on; anything else stops the reading and is returned. */
typedef enum dlb_status dlb_csv_fn(void *context, const struct dlb_csv_record *record,
                                   struct dlb_error *error);

/*
 * Reads file record by record in bounded memory.  Lines end in LF or CRLF; a UTF-8 byte
 * order mark is skipped; spaces belong to their cell.  Lines whose first character is #
 * are skipped when comments is true; lines that are empty or blank always.  Broken
 * quoting, a CR outside quotes without LF, a NUL byte, a cell beyond DLB_CSV_CELL_MAX or
 * a record beyond DLB_CSV_RECORD_MAX bytes is DLB_INVALID with file and line; a file that
 * cannot be read is DLB_IO.
 */
enum dlb_status dlb_csv_read(const char *file, bool comments, dlb_csv_fn *fn,
                             void *context, struct dlb_error *error);

/* The same for its whole records: *bytes at the start of file, which is where the torn end
 * begins that a killed writer left. */
enum dlb_status dlb_csv_read_whole(const char *file, dlb_csv_fn *fn, void *context,
                                   int64_t *bytes, struct dlb_error *error);

/* How many bytes at the start of file are whole records.  Damage elsewhere is DLB_INVALID,
 * as in dlb_csv_read. */
enum dlb_status dlb_csv_whole(const char *file, int64_t *bytes, struct dlb_error *error);

/* Records as text, to be written in one piece.  A zeroed one is empty. */
struct dlb_csv_buffer {
    char *data; /* not terminated */
    size_t length, capacity;
};

/*
 * Appends one record that ends in LF, quoted where needed.  A text that a spreadsheet
 * would run as a formula (= + - @ tab CR first, and not a number) is preceded by ', and
 * so is one that looks as if that had been done already, so that dlb_csv_plain gives back
 * every text.
 */
enum dlb_status dlb_csv_append(struct dlb_csv_buffer *buffer, const char *const *cells,
                               int cells_n, struct dlb_error *error);
void dlb_csv_buffer_release(struct dlb_csv_buffer *buffer);

/* The text that dlb_csv_append had been given for this cell: cell or cell + 1. */
const char *dlb_csv_plain(const char *cell);

/* A decimal number: sign, digits with a point, exponent; not inf, nan or hexadecimal. */
bool dlb_csv_is_number(const char *text);

/* Writes one record and flushes it whole.  DLB_IO names path (as the user knows it: file
 * has no name) and the reason. */
enum dlb_status dlb_csv_write(FILE *file, const char *path, const char *const *cells,
                              int cells_n, struct dlb_error *error);

#endif
