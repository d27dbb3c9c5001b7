/*
 * confirm.h - the suspects measured again, with the program that is running.
 *
 * Each round is a process of its own for each group of cases that one command line can
 * name; a case is run as its row of NEW was: shape, pass, thread set, accuracy class,
 * cache state, instruction set, and the candidate where it was searched for.  oneDNN runs
 * beside it where it did in NEW.  Some cases that are not suspected run along, and show
 * what the machine has done since.
 *
 * The rounds alone are then judged against BASE as NEW was (see gate.h), with the noise
 * that all cases of NEW have shown, and the false-discovery rate over what was run again.
 * What is a regression there is one; what is none did not hold.
 */
#ifndef DLB_JUDGE_CONFIRM_H
#define DLB_JUDGE_CONFIRM_H

#include "judge/comparison.h"
#include "rerun.h"

#include <stdio.h>

struct dlb_confirm {
    int rounds;
    const char *const *base; /* files of BASE, as for dlb_comparison_read */
    int bases;
    struct dlb_comparison_rules rules;
    dlb_rerun_fn *rerun;
    void *context;
    const volatile int *stop; /* may be NULL */
    FILE *notes;              /* what is going on; NULL for nothing */
};

/*
 * Changes the verdicts of the regressions and suspects of a comparison.  Nothing happens
 * when there are none.  The runs lie beside the first folder of NEW, as
 * <folder>-confirm-<number>, and can be given to compare themselves.  DLB_INTERRUPTED when
 * the stop flag was raised, DLB_FAULT when a re-run could not be done.
 */
enum dlb_status dlb_confirm_run(struct dlb_comparison *comparison,
                                const struct dlb_confirm *confirm,
                                struct dlb_error *error);

#endif
