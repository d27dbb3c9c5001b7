/*
 * study.h - "dlbench tune --study": how far the winners of the search are from the best.
 *
 * For each problem and thread set:
 *   chosen, again   two tunings, each by this program in a process of its own, as a user
 *                   would run it, with nothing known beforehand
 *   full            in this process the whole legal space: every candidate is verified and
 *                   timed, then halved and raced (tune/search.h) without a limit on how
 *                   many
 *   random          the same search as a tuning, over candidates drawn at random, for as
 *                   long as the first tuning's search took
 * Then chosen, again, random's winner and the FULL_MOST best of the full search are timed
 * together, in pairs, on fresh samples; the fastest of them is called best.  So no time
 * that somebody was picked by counts (the winner's curse), and
 *
 *   regret = time / time of best - 1,  0 for best itself.
 *
 * What the machine's noise adds is in half_width, of the paired interval.
 */
#ifndef DLB_MEASURE_STUDY_H
#define DLB_MEASURE_STUDY_H

#include "measure/session.h"
#include "rerun.h"

/* One problem on one thread set; columns of the same names in study.csv. */
struct dlb_regret {
    double chosen, again, random, half_width, rank_correlation, chosen_seconds;
};

/* Over many. */
struct dlb_regrets {
    int n;
    double median, p90, within; /* chosen's and again's; share of at most 2 % */
    double agreement;           /* share where chosen and again differ by at most 2 % */
    double random_median, random_p90;
    double correlation; /* median */
    double seconds;     /* median, of a tuning's search */
};

/* NaN where there are none, or without memory. */
void dlb_regrets_sum(const struct dlb_regret *regret, int n, struct dlb_regrets *sum);

/*
 * Runs the study: options names the problems as for the main job (without any: those of
 * configs/study.csv), the thread sets (default: cores), the budget for the
 * whole (default 25 minutes) and the folder, in which study.csv grows row by row and each
 * tuning leaves its run.  A raised stop flag ends it after the step in flight.
 * *exit_status and failures as of dlb_session_run; rerun runs this program.
 */
enum dlb_status dlb_study_run(const struct dlb_options *options,
                              const struct dlb_session_io *io, dlb_rerun_fn *rerun,
                              void *context, int *exit_status, struct dlb_error *error);

#endif
