/*
 * table_file.h - a table of a run as a file that records are appended to.
 *
 * Records go out in one piece, without a buffer between: what append has returned for is
 * with the kernel, and no kill of this process can take it back.
 */
#ifndef DLB_RECORD_TABLE_FILE_H
#define DLB_RECORD_TABLE_FILE_H

#include "record/columns.h"

/* A zeroed one is closed. */
struct dlb_table_file {
    enum dlb_table_id id;
    char *path; /* owned; NULL when closed */
    int fd;
    int64_t end; /* bytes of whole records: a failed write is cut back to here */
};

/* Opens the table's file in folder, or creates it; exclusive: it must not exist.  Release
 * with dlb_table_file_close, also after a failure.  DLB_IO names path and reason. */
enum dlb_status dlb_table_file_open(struct dlb_table_file *file, const char *folder,
                                    enum dlb_table_id id, bool exclusive,
                                    struct dlb_error *error);

/*
 * Opens path, or creates it with its header, for a process among several that append to
 * it: the others wait until it is closed, on file systems that have locks.  The torn last
 * record of a killed writer is cut off.  DLB_INVALID where the file is another table.
 */
enum dlb_status dlb_table_file_share(struct dlb_table_file *file, const char *path,
                                     enum dlb_table_id id, struct dlb_error *error);

/* Cuts the file to its first bytes; at 0 the header is written. */
enum dlb_status dlb_table_file_cut(struct dlb_table_file *file, int64_t bytes,
                                   struct dlb_error *error);

/* Appends records, each as many cells as the table has columns, in one piece.  After
 * DLB_IO the file is as it was before. */
enum dlb_status dlb_table_file_append(struct dlb_table_file *file,
                                      const struct dlb_cell *cell, int records,
                                      struct dlb_error *error);

/* True when the file holds only the beginning of its header, or nothing. */
bool dlb_table_file_lacks_header(const struct dlb_table_file *file);

void dlb_table_file_close(struct dlb_table_file *file);

#endif
