/*
 * compare.h - "dlbench compare": a gate for NEW against BASE on one machine
 * (comparison.h, confirm.h), or two machines side by side (machines.h).
 */
#ifndef DLB_JUDGE_COMPARE_H
#define DLB_JUDGE_COMPARE_H

#include "options.h"
#include "rerun.h"

#include <stdio.h>

struct dlb_compare_io {
    FILE *out;                /* the report */
    FILE *notes;              /* what is going on, while suspects are run again */
    const volatile int *stop; /* raised by Ctrl-C; may be NULL */
    dlb_rerun_fn *rerun;
    void *context; /* of rerun */
};

/* *exit_status receives an enum dlb_exit; with a failure status it is the one to exit
 * with and error holds the sentence. */
enum dlb_status dlb_compare_run(const struct dlb_options *options,
                                const struct dlb_compare_io *io, int *exit_status,
                                struct dlb_error *error);

#endif
