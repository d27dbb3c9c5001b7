/*
 * export.h - a finished run in the formats of other tools: --export KIND=FILE.
 *
 *     gbench   google-benchmark's JSON: one entry per sample that counts, so that its
 *              compare.py can test repetitions against each other
 *     action   github-action-benchmark's customSmallerIsBetter: one entry per row
 *
 * Only rows whose status is ok are exported: a chart must not show the time of a kernel
 * that was wrong or could not be measured.
 */
#ifndef DLB_RECORD_EXPORT_H
#define DLB_RECORD_EXPORT_H

#include "core/base.h"

/* Checks spec (KIND=FILE) before the run is made.  DLB_INVALID names the kinds. */
enum dlb_status dlb_export_check(const char *spec, struct dlb_error *error);

/* Writes FILE from the run in folder.  DLB_INVALID when the run has nothing to export or
 * its files are damaged; DLB_IO names the file that cannot be read or written. */
enum dlb_status dlb_export_write(const char *spec, const char *folder,
                                 struct dlb_error *error);

#endif
