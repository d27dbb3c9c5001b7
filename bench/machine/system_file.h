/*
 * system_file.h - reading the small text files of /proc and /sys.
 *
 * root is put before path: "" for this machine, or a folder that holds copies (tests).
 * A file that is missing or unreadable is a normal answer, never an error: containers and
 * virtual machines hide many of them.
 */
#ifndef DLB_MACHINE_SYSTEM_FILE_H
#define DLB_MACHINE_SYSTEM_FILE_H

#include "core/base.h"

/* Whole text, ended with 0; NULL when it cannot be read.  Owner: caller, free(). */
char *dlb_file_text(const char *root, const char *path);

/* First line without the white space around it; false, and line "", when there is none.
 * A longer line is cut to size - 1 bytes. */
bool dlb_file_line(const char *root, const char *path, char *line, size_t size);

/* The number at the beginning of the file; false, and *number untouched, when none. */
bool dlb_file_number(const char *root, const char *path, double *number);

/*
 * Value of "key<blanks>:<blanks>value" or "key<blanks>value" lines, as in cpuinfo,
 * meminfo and memory.stat: the first line whose key matches wholly.  false, and value "",
 * when text (may be NULL) has none.
 */
bool dlb_text_value(const char *text, const char *key, char *value, size_t size);

#endif
