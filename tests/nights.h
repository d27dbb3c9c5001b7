/*
 * nights.h - runs written by hand for tests that read many of them: just the columns that a
 * results.csv must have, and a manifest.
 */
#ifndef DLB_TESTS_NIGHTS_H
#define DLB_TESTS_NIGHTS_H

#include <stdbool.h>
#include <stdio.h>

struct night {
    const char *folder, *id, *started;
    const char *machine; /* NULL: no manifest */
    const char *commit;
    bool dirty;
};

/* Makes a folder for the tests of a program and goes there; nights_leave removes it with
 * all that is in it.  Both return 0, as cmocka's fixtures do. */
int nights_enter(void **state);
int nights_leave(void **state);

/* Makes the folder of a night and begins its results.csv; close it with fclose. */
FILE *nights_begin(const struct night *night);

/* A row: case_id and shape are name.  ns below 0: no time. */
void nights_row(FILE *results, const struct night *night, const char *name,
                const char *status, const char *impl, double ns);

/* The day that comes so many days after 2026-01-01, as 2026-01-01T02:00:00Z. */
const char *nights_day(int days);

#endif
