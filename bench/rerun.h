/*
 * rerun.h - this program once more, as a process of its own.
 */
#ifndef DLB_BENCH_RERUN_H
#define DLB_BENCH_RERUN_H

#include "core/base.h"

/* Runs the program with the words of argv (its name first, NULL last), without what it
 * prints on standard output, and waits for it.  *exit_status receives how it ended.
 * DLB_FAULT when it could not be started or was killed. */
typedef enum dlb_status dlb_rerun_fn(void *context, char *const *argv, int *exit_status,
                                     struct dlb_error *error);

/* The program that is running; context is not used. */
enum dlb_status dlb_rerun_self(void *context, char *const *argv, int *exit_status,
                               struct dlb_error *error);

#endif
