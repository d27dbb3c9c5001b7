/*
 * night_folders.h - runs written by hand for tests that read many of them: just the
 * columns that a results.csv must have, and a manifest.
 */
#ifndef DLB_TESTS_NIGHT_FOLDERS_H
#define DLB_TESTS_NIGHT_FOLDERS_H

#include <stdbool.h>
#include <stdio.h>

struct night_folder {
    const char *folder, *id, *started;
    const char *machine; /* NULL: no manifest */
    const char *commit;
    bool dirty;
};

/* Makes a folder for the tests of a program and goes there; night_folders_leave removes it
 * with all that is in it.  Both return 0, as cmocka's fixtures do. */
int night_folders_enter(void **state);
int night_folders_leave(void **state);

/* Makes the folder of a night and begins its results.csv; close it with fclose. */
FILE *night_folder_begin(const struct night_folder *night);

/* A row: case_id and shape are name.  ns below 0: no time. */
void night_folder_row(FILE *results, const struct night_folder *night, const char *name,
                      const char *status, const char *impl, double ns);

/* The day that comes so many days after 2026-01-01, as 2026-01-01T02:00:00Z. */
const char *night_folder_day(int days);

#endif
