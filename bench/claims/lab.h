/*
 * lab.h - what an experiment works with: the machine, and the record of what it saw.
 *
 * An experiment observes in units: all paired rounds of one condition, or all that it has.
 * A unit goes to observations.csv in one piece, so that a killed run holds whole units
 * only, and a resumed one measures none of them twice.  Nothing but observations leads to a
 * verdict (claims.h).
 */
#ifndef DLB_CLAIMS_LAB_H
#define DLB_CLAIMS_LAB_H

#include "claims/claims.h"
#include "claims/idx.h"
#include "measure/session_internal.h"
#include "record/table_file.h"

struct dlb_experiment;

struct dlb_lab {
    struct dlb_session *session; /* its stations are measured, its run is open */
    bool quick;                  /* less of everything */
    struct dlb_idx *idx;         /* owned: images from files; NULL: they are made */
    const struct dlb_experiment *experiment; /* in hand */
    struct dlb_table_file table;
    struct dlb_observations observations;
    int written;                 /* so many of them are in the table */
    struct dlb_station *station; /* whose pool is open */
    struct dlb_pool *pool;
    double done, all; /* seconds of the experiments, as estimated */
};

/*
 * An experiment: a row of the table in experiments.c.  Several claims may be judged from
 * one: configs/claims.csv names it in its column experiment.
 */
struct dlb_experiment {
    const char *name;
    double seconds, quick_seconds; /* on two cores */
    bool whole;                    /* one unit; else each condition is one */
    enum dlb_status (*run)(struct dlb_lab *lab, struct dlb_error *error);
};
extern const struct dlb_experiment dlb_experiments[];
extern const int dlb_experiments_n;

/* Adds rows to the unit in hand; their experiment is filled in. */
enum dlb_status dlb_lab_observe(struct dlb_lab *lab, struct dlb_observed *row, int rows,
                                struct dlb_error *error);

/* Ends the unit in hand: its rows go to the table.  Or they are forgotten. */
enum dlb_status dlb_lab_write(struct dlb_lab *lab, struct dlb_error *error);
void dlb_lab_forget(struct dlb_lab *lab);

/* True when the experiment in hand has been observed on this condition; condition NULL: on
 * any. */
bool dlb_lab_knows(const struct dlb_lab *lab, const char *condition, const char *impl,
                   int threads);

/* Share of the experiment in hand that is done, and what comes now. */
void dlb_lab_progress(struct dlb_lab *lab, double share, const char *what);

/* Binds the threads of a station; closes the one before.  Steps do not outlive it. */
enum dlb_status dlb_lab_open(struct dlb_lab *lab, struct dlb_station *station,
                             struct dlb_error *error);
void dlb_lab_close(struct dlb_lab *lab);

/* One pass of one problem on the open threads, verified and bound. */
struct dlb_step {
    struct dlb_buffers buffers;
    struct dlb_plan *plan;
};

/*
 * native: the winner of a short search; oneDNN: its fastest formulation.  DLB_UNSUPPORTED
 * where oneDNN cannot do it.  Release with dlb_step_release, also after a failure.
 */
enum dlb_status dlb_step_make(struct dlb_lab *lab, const char *op, const char *shape,
                              enum dlb_pass pass, enum dlb_impl impl,
                              struct dlb_step *step, struct dlb_error *error);
void dlb_step_release(struct dlb_step *step); /* safe on a zeroed one */

enum { DLB_ARM_STEPS = 3 };
struct dlb_arm {
    const char *name;
    double x;                                   /* NaN: none */
    const struct dlb_step *step[DLB_ARM_STEPS]; /* one after another; NULL ends them */
};

/* Times the arms in pairs and observes their clean rounds as time_ns. */
enum dlb_status dlb_lab_race(struct dlb_lab *lab, const char *condition,
                             enum dlb_impl impl, const struct dlb_arm *arm, int arms,
                             struct dlb_error *error);

#endif
