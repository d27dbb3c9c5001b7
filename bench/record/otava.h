/*
 * otava.h - many runs as Apache Otava (change detection for benchmark series) reads them: a
 * wide CSV, a row a run and a column a case, and the YAML that describes it.
 *
 * Otava accepts no empty cell, and no number may be made up.  So cases that have the same
 * runs share a file, and each such set of runs has its own: FILE.csv, FILE-2.csv, ...; the
 * one with most cases comes first.  Machines never share a file.  In the YAML each file is
 * a test (dlbench-1, dlbench-2, ...), and the group dlbench has them all.
 */
#ifndef DLB_RECORD_OTAVA_H
#define DLB_RECORD_OTAVA_H

#include "core/base.h"

/* Writes file (a name that ends in .csv, else the endings are put behind it) and the YAML,
 * which has the ending .yaml instead.  Errors as dlb_series_read and dlb_save have them;
 * DLB_INVALID when no row of the runs is ok and has a time. */
enum dlb_status dlb_otava_write(const char *file, const char *const *path, int paths_n,
                                struct dlb_error *error);

#endif
