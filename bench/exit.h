/*
 * exit.h - exit statuses, the same for every command.
 */
#ifndef DLB_BENCH_EXIT_H
#define DLB_BENCH_EXIT_H

enum dlb_exit {
    DLB_EXIT_OK = 0,
    DLB_EXIT_REGRESSION = 1,
    DLB_EXIT_USAGE = 2,       /* bad input, or the machine refuses what was asked */
    DLB_EXIT_MISMATCH = 3,    /* a result was wrong */
    DLB_EXIT_NOISY = 4,       /* too noisy to conclude */
    DLB_EXIT_ENVIRONMENT = 5, /* the machine changed, not the code */
    DLB_EXIT_INCOMPLETE = 6   /* interrupted, or a write failed; finished rows are kept */
};

#endif
