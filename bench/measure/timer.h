/*
 * timer.h - google benchmark behind C: only timer_gbench.cc sees the library.
 *
 * A measurement is a google benchmark whose iterations are rounds: each iteration calls
 * back once, and reports the time that the callback returns (manual time).  So our own
 * pool runs inside one benchmark, and the library drives the rounds.  It prints nothing,
 * writes nothing, and neither the command line nor the environment reaches it.
 */
#ifndef DLB_MEASURE_TIMER_H
#define DLB_MEASURE_TIMER_H

#include "core/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Nanoseconds of one round; a negative value ends the measurement early, and says that no
 * round took place in this call. */
typedef double dlb_round_fn(void *context);

/* Runs up to rounds rounds under the name (free text); *done receives how many ran.
 * DLB_FAULT or DLB_NOMEM when the library fails.  Not from two threads at once. */
enum dlb_status dlb_timer_run(const char *name, int64_t rounds, dlb_round_fn *round,
                              void *context, int64_t *done, struct dlb_error *error);

/* Version of the google benchmark library as built against ("1.7.1"). */
const char *dlb_timer_version(void);

/* Monotonic clock in nanoseconds, and the smallest step between two readings of it that
 * was seen in a few hundred attempts. */
double dlb_clock_ns(void);
double dlb_clock_resolution_ns(void);

#ifdef __cplusplus
}
#endif

#endif
