/*
 * history.h - when did a case become slower or faster, over many nights.
 *
 * A night is a run; each case's series of ln(median time) on one machine is searched for
 * changes of its level (potts.h) of at least 3 %.  A change lies between two nights of the
 * case: it is reported with both of them, and the commits that they were built from.
 *
 * What many cases do in one night no change of one kernel did: a change is machine-wide
 * when more than half of the series that reach over that night, and at least three,
 * changed in the same direction within a night of it.
 *
 * A series of fewer than DLB_POTTS_VALUES_MIN nights is short: nothing is said about it
 * but how many nights are missing.
 */
#ifndef DLB_JUDGE_HISTORY_H
#define DLB_JUDGE_HISTORY_H

#include "judge/potts.h"
#include "record/series.h"

#include <stdio.h>

struct dlb_history_change {
    int series;
    int run, run_before;             /* first of the new level, last of the old one */
    int nights_before, nights_after; /* of the two levels */
    double before_ns, after_ns;      /* their medians */
    double ratio;                    /* after / before: above 1 is slower */
    bool machine_wide;
};

/* Changes are sorted by machine, night, and then the largest first. */
struct dlb_history {
    struct dlb_series_set set;
    double *noise; /* of each series: a night's deviation as a fraction; NaN if unknown */
    struct dlb_history_change *change;
    int changes_n;
};

/* Reads the runs (paths as for dlb_series_read, errors too) and searches them.  Release
 * with dlb_history_release, also after a failure. */
enum dlb_status dlb_history_make(const char *const *path, int paths_n,
                                 struct dlb_history *history, struct dlb_error *error);
void dlb_history_release(struct dlb_history *history);

/*
 * The report.  format: text (a screen of 100 columns or more), md (a table for a job's
 * page), csv (a record a change) or json (also every series and its noise); asserted.
 * DLB_NOMEM; whether out could be written is for its owner to see.
 */
enum dlb_status dlb_history_print(const struct dlb_history *history, const char *format,
                                  FILE *out, struct dlb_error *error);

#endif
