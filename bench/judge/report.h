/*
 * report.h - what the reports of compare share: how they are called for, and how times,
 * ratios and tables are written.
 */
#ifndef DLB_JUDGE_REPORT_H
#define DLB_JUDGE_REPORT_H

#include "judge/comparison.h"
#include "judge/differences.h"
#include "judge/machines.h"
#include "record/csv.h"

#include <stdio.h>

enum dlb_format {
    DLB_FORMAT_TEXT,
    DLB_FORMAT_MARKDOWN,
    DLB_FORMAT_CSV,
    DLB_FORMAT_JSON,
    DLB_FORMATS
};
extern const char *const dlb_format_names[DLB_FORMATS];

/* A finished comparison on one machine, and how it was asked for. */
struct dlb_gate_report {
    const struct dlb_comparison *comparison;
    const struct dlb_differences *differences;
    double threshold;
    int confirmed; /* rounds in which suspects were run again; 0 for none */
    int exit_status;
};

/* The errors of out are the caller's. */
enum dlb_status dlb_gate_print(const struct dlb_gate_report *report,
                               enum dlb_format format, FILE *out,
                               struct dlb_error *error);

/* Two machines side by side. */
struct dlb_machines_report {
    const struct dlb_machines *machines;
    const struct dlb_differences *differences;
};
enum dlb_status dlb_machines_print(const struct dlb_machines_report *report,
                                   enum dlb_format format, FILE *out,
                                   struct dlb_error *error);

/* --- shared by both */

enum { DLB_CELL_TEXT_MAX = 48 };

/* "1.234 ms", "12.3 us"; "-" for NaN. */
const char *dlb_report_time(double ns, char text[DLB_CELL_TEXT_MAX]);

/* "1.052", or "-" for NaN; decimals after the point. */
const char *dlb_report_number(double value, int decimals, char text[DLB_CELL_TEXT_MAX]);

/* BASE and NEW by name, run and commit; then what differs between the manifests. */
void dlb_report_sides(const struct dlb_cases *cases,
                      const struct dlb_differences *differences, bool markdown,
                      FILE *out);
void dlb_report_sides_json(const struct dlb_cases *cases,
                           const struct dlb_differences *differences,
                           struct dlb_json *json);

/*
 * A table that is printed once it is whole, so that its columns are as wide as what they
 * hold: as text, or as Markdown.  A zeroed one is empty.
 */
enum { DLB_REPORT_COLUMNS = 12 };
struct dlb_report_table {
    char *(*row)[DLB_REPORT_COLUMNS]; /* owned; the first is the head */
    int rows, columns;
    bool nomem;
};
/* cells[columns]; a head that begins with "<" is of a column that stands left. */
void dlb_report_row(struct dlb_report_table *table, const char *const *cells,
                    int columns);
void dlb_report_table_print(const struct dlb_report_table *table, bool markdown,
                            FILE *out);
void dlb_report_table_release(struct dlb_report_table *table);

/* The key of a case, as the first columns of CSV and the first members of JSON. */
enum { DLB_REPORT_KEYS = 9 };
extern const char *const dlb_report_key_names[DLB_REPORT_KEYS];
void dlb_report_key(const struct dlb_case_key *key, const char *text[DLB_REPORT_KEYS],
                    char threads[16]);

#endif
