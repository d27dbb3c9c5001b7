/*
 * timer.h - google benchmark behind C: only timer_gbench.cc sees the library.
 *
 * A measurement is a google benchmark whose iterations are rounds: each iteration calls
 * back once, and reports the time that the callback returns (manual time).  So our own
 * pool runs inside one benchmark, and the library drives repetitions, bookkeeping and its
 * JSON form.
 */
#ifndef DLB_MEASURE_TIMER_H
#define DLB_MEASURE_TIMER_H

#include "core/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Nanoseconds of one round; a negative value ends the measurement early. */
typedef double dlb_round_fn(void *context);

/* Runs up to rounds rounds under the name; *done receives how many ran. */
enum dlb_status dlb_timer_run(const char *name, int64_t rounds, dlb_round_fn *round,
                              void *context, int64_t *done, struct dlb_error *error);

/* Version of the google benchmark library as built against ("1.7.1"). */
const char *dlb_timer_version(void);

/* Monotonic clock in nanoseconds, and its smallest step that was seen. */
double dlb_clock_ns(void);
double dlb_clock_resolution_ns(void);

#ifdef __cplusplus
}
#endif

#endif
