/*
 * export.h - finished runs in the formats of other tools: --export KIND=FILE after a run,
 * and "dlbench export KIND=FILE RUN..." for runs that are there.
 *
 *     gbench         google-benchmark's JSON: one entry per sample that counts, so that its
 *                    compare.py can test repetitions against each other
 *     gbench-median  the same with one entry per row, for what plots every entry
 *     action         github-action-benchmark's customSmallerIsBetter: one entry per row
 *     bmf            Bencher Metric Format: the measure latency of each row, with its
 *                    interval
 *     otava          Apache Otava's CSV and YAML, of many runs: otava.h
 *
 * Only rows whose status is ok are exported: a chart must not show the time of a kernel
 * that was wrong or could not be measured.  Of several rows of one case the last counts.
 */
#ifndef DLB_RECORD_EXPORT_H
#define DLB_RECORD_EXPORT_H

#include "core/base.h"

/* Checks spec (KIND=FILE) before the run is made.  DLB_INVALID names the kinds. */
enum dlb_status dlb_export_check(const char *spec, struct dlb_error *error);

/* Writes FILE from runs (folders, or files as results.csv): one of them, or for otava any
 * number.  DLB_INVALID when there is nothing to export, too many runs, or a damaged file;
 * DLB_IO names the file that cannot be read or written. */
enum dlb_status dlb_export_write(const char *spec, const char *const *run, int runs_n,
                                 struct dlb_error *error);

#endif
