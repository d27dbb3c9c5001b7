/*
 * lab.h - what an experiment works with: the machine, how much it may do, and the record
 * of what it saw.
 *
 * An experiment is cut into units.  A unit is the least that is worth keeping: all paired
 * rounds of one condition (speed), or one seed of one condition with all its arms
 * (learning).  Its observations are kept in memory and go to observations.csv in one
 * piece when it ends, so that a killed run holds whole units only, and --resume skips
 * those.  Nothing but observations leads to a verdict: see claims.h.
 */
#ifndef DLB_CLAIMS_LAB_H
#define DLB_CLAIMS_LAB_H

#include "core/isa.h"
#include "machine/pool.h"
#include "measure/paired.h"

struct dlb_lab;
struct dlb_unit;

/* What every experiment may read. */
struct dlb_lab_terms {
    bool quick;       /* the whole catalogue within 3 minutes instead of 20 */
    int seeds;        /* a condition of a learning claim: 5 or more; with quick 3 */
    const char *data; /* folder of IDX files, or NULL: generated images */
    enum dlb_isa isa;
    int stations; /* thread sets, ascending; the first has one thread, the last all */
    const volatile int *stop;
};
const struct dlb_lab_terms *dlb_lab_terms(const struct dlb_lab *lab);

/* One row of observations.csv, less what the unit says of all its rows. */
struct dlb_observation {
    const char *arm;    /* what was tried: relu, sigmoid, plain, batchnorm */
    const char *metric; /* time_ns, loss, accuracy, steps_to_target, log10_gradient */
    int64_t replicate;  /* number of the round; for learning the unit's seed */
    int64_t step;       /* training step, or 0 */
    double x;           /* what slopes and exponents are fitted over, or NaN */
    double value;       /* finite; INFINITY for "never reached" */
};

/*
 * Begins the unit of this name in the experiment.  condition is what `where` is told in:
 * words key=value in a fixed order ("op=lstm batch=1"), without what the arms differ in.
 * impl is native, onednn or empty; threads 0 where they do not matter; replicate the
 * seed, or 0.  NULL when the unit is already on record, or the run is to stop: go on with
 * the next.  Units may be begun, filled and ended by several threads at once, each by one.
 */
struct dlb_unit *dlb_unit_begin(struct dlb_lab *lab, const char *condition,
                                const char *impl, int threads, int64_t replicate);
void dlb_unit_observe(struct dlb_unit *unit, const struct dlb_observation *observation);

/* Writes the unit's observations and releases it.  Nothing is written where the run was
 * told to stop in the midst of it, or complete is false: it will be done anew. */
enum dlb_status dlb_unit_end(struct dlb_lab *lab, struct dlb_unit *unit, bool complete,
                             struct dlb_error *error);

/*
 * Speed.  Opens the pool of a station (closing the one before); the gauge measures on it
 * as the main job does.  Owned by the lab.
 */
enum dlb_status dlb_lab_station(struct dlb_lab *lab, int station,
                                struct dlb_gauge **gauge, struct dlb_target *target,
                                struct dlb_error *error);

/*
 * Learning.  Runs job(context, i, target) for i = 0 … jobs-1, each wholly on one thread
 * (a team of one; target is for one thread), as many side by side as there are cores, so
 * that what is learnt does not depend on how many there are.  Jobs are handed out in
 * order; the first failure ends the handing out and is what is returned.
 */
typedef enum dlb_status dlb_job_fn(void *context, int job,
                                   const struct dlb_target *target,
                                   struct dlb_error *error);
enum dlb_status dlb_lab_spread(struct dlb_lab *lab, int jobs, dlb_job_fn *job,
                               void *context, struct dlb_error *error);

/* Share of this experiment that is done, 0 … 1, for progress and time left. */
void dlb_lab_progress(struct dlb_lab *lab, double share);

/*
 * An experiment: a row of the table in experiments.c.  Several claims may be judged from
 * one (configs/claims.csv names it in its column experiment).
 */
struct dlb_experiment {
    const char *name;
    double seconds, quick_seconds; /* on two cores; what the estimate is made of */
    enum dlb_status (*run)(struct dlb_lab *lab, struct dlb_error *error);
};
extern const struct dlb_experiment dlb_experiments[];
extern const int dlb_experiments_n;

#endif
