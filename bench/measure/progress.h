/*
 * progress.h - what a person sees while it takes long: a bar with the time left, colours.
 *
 * On a terminal one line at the bottom is drawn over and over, and is gone before any
 * other line is printed; elsewhere a plain line appears every ten seconds at most; with
 * quiet nothing does.  All output goes to the streams that the caller gives.
 */
#ifndef DLB_MEASURE_PROGRESS_H
#define DLB_MEASURE_PROGRESS_H

#include "core/base.h"

#include <stdio.h>

struct dlb_progress;

/* expected_seconds: of the whole work, or 0 when unknown; it counts for less and less as
 * the work shows its own pace.  NULL without memory, which every function takes for
 * quiet. Release with dlb_progress_release. */
struct dlb_progress *dlb_progress_make(FILE *out, bool quiet, double expected_seconds);

/* The same with its surroundings given rather than looked up. */
struct dlb_progress_surroundings {
    bool quiet, terminal;
    int columns; /* of the terminal; 0: asked for at each drawing */
    double expected_seconds;
    double (*clock_ns)(void *context); /* NULL: the real one */
    void *context;
};
struct dlb_progress *dlb_progress_make_in(FILE *out,
                                          const struct dlb_progress_surroundings *where);

/* done: share of the work, 0 … 1; what: what is being done now, cut to the width.  May be
 * called as often as one likes: it draws ten times a second at most. */
void dlb_progress_update(struct dlb_progress *progress, double done, const char *what);

/* Prints a line (printf form, without the newline) to the stream, which may be another
 * than the bar's, above the bar.  Printed even when quiet: that is only about the bar. */
void dlb_progress_line(struct dlb_progress *progress, FILE *to, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Erases the bar.  Safe on NULL. */
void dlb_progress_release(struct dlb_progress *progress);

enum dlb_colour {
    DLB_COLOUR_RESET,
    DLB_COLOUR_GOOD,
    DLB_COLOUR_BAD,
    DLB_COLOUR_WARN,
    DLB_COLOUR_DIM,
    DLB_COLOUR_BOLD,
    DLB_COLOURS
};

/* The escape sequence, or "" where out is no terminal, TERM is dumb or not set, or
 * NO_COLOR is set and not empty. */
const char *dlb_colour(FILE *out, enum dlb_colour colour);

/* A tick in a UTF-8 locale of the environment, else "ok". */
const char *dlb_tick(void);

#endif
