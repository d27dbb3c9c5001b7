/*
 * paired.h - the final measurement: arms side by side, interleaved, with a probe gate.
 *
 * A round runs the arms in random order and then in the mirrored order (A B B A or
 * B A A B), so that a drift meets all arms alike.  An arm's sample of the round is the
 * mean time of an execution over its two blocks; a block is inner_reps executions, enough
 * to last 1 ms and 1000 clock ticks.  Nothing but executions lies between the two clock
 * readings of a block.
 *
 * An FMA probe stands between rounds.  The pace is the upper quartile of this
 * measurement's own probes, and at least 70 % of the best one of the thread set's
 * session: kernels that load as well as multiply pull the clock down (by 20 % on one
 * server processor), which is no disturbance, while episodes of half speed are.  A round
 * with a probe beside it below 90 % of the pace is contaminated: kept and flagged, left
 * out of the statistics, and repeated, until there are twice as many contaminated rounds
 * as clean ones.  Flags are judged anew with each probe, so that a measurement which
 * began slow does not pass for a clean one.
 *
 * Long executions (a block of more than 50 ms) run once per round, in random order and
 * without mirror.  Where max_seconds does not hold twice min_samples rounds, seven clean
 * ones suffice, and may take up to four times max_seconds; their number is in clean.
 */
#ifndef DLB_MEASURE_PAIRED_H
#define DLB_MEASURE_PAIRED_H

#include "core/isa.h"
#include "machine/pool.h"
#include "measure/stats.h"
#include "record/run.h"

enum { DLB_ARMS_MAX = 8, DLB_SAMPLES_LEAST = 7 };

/*
 * What an execution finds in the caches: what the same arm's execution before it left
 * (hot: a block follows an untimed execution, except where it is long and so outweighs
 * that), or nothing of the problem (cold: evicted before each execution, outside the
 * timed part; inner_reps is then 1).
 */
enum dlb_cache_state { DLB_CACHE_HOT, DLB_CACHE_COLD, DLB_CACHE_STATES };
extern const char *const dlb_cache_state_names[DLB_CACHE_STATES];

/* The machine as the measurement sees it; each function gets context first.  Replaced as
 * a whole to measure on a simulated machine. */
struct dlb_gauge_hooks {
    void *context;
    double (*clock_ns)(void *context);
    double (*probe_gflops)(void *context, double nanoseconds);
    void (*run)(void *context, struct dlb_plan *plan);
    void (*evict)(void *context);
    double tick_ns; /* of the clock */
};

/* What every measurement of a session shares. */
struct dlb_gauge {
    struct dlb_pool *pool;
    enum dlb_isa isa;
    double best_probe; /* GFLOP/s, updated; per thread set; 0 at first */
    enum dlb_cache_state cache_state;
    size_t evict_bytes; /* for cold: how much the pool sweeps, at least twice all caches
                           that the thread set reaches; 0 for hot */
    double min_seconds; /* of timed work per arm: 0.3 */
    double max_seconds; /* cap per arm, everything after the warm-up included */
    int min_samples;    /* 21 */
    double ci_width;    /* wanted half width of the median's interval: 0.01 */
    uint64_t seed;
    const volatile int *stop; /* not NULL: a set flag ends after the round in flight */
    const struct dlb_gauge_hooks *hooks; /* NULL: this machine */
};

struct dlb_measured {
    struct dlb_sample
        *sample; /* owned: every sample in order, contaminated ones flagged */
    int samples;
    int clean; /* those that count */
    int warmup, inner_reps;
    double contaminated_frac;
    double probe_gflops; /* median FMA probe beside the clean rounds: the peak at the
                            clock that the arms leave; NaN without clean rounds */
    bool capped;         /* the interval did not get narrow enough in time */
    bool noisy;          /* fewer clean samples than needed (see above) could be had */
    struct dlb_summary summary;
};

/*
 * Measures arms (1 … DLB_ARMS_MAX) together.  ratio[i] is time(arm i)/time(arm 0) paired
 * by round; ratio may be NULL.
 *
 * Each arm is warmed up for 30 ms and 3 executions at least, then until two blocks agree
 * within 3 %, half a second at most (an execution in flight is finished). DLB_INTERRUPTED
 * when the stop flag was set before there were enough clean samples; what was measured so
 * far is in measured even then.  DLB_NOMEM or DLB_FAULT leave measured zeroed.  Release
 * each measured with dlb_measured_release.
 */
enum dlb_status dlb_measure(struct dlb_gauge *gauge, struct dlb_plan *const *arm,
                            int arms, struct dlb_measured *measured,
                            struct dlb_ratio *ratio, struct dlb_error *error);
void dlb_measured_release(struct dlb_measured *measured);

/* Noise floor: an A/A measurement of plan against itself; the largest of |ln ratio| and
 * the half width of its interval, also in logarithms.  NaN when no clean round was had.
 * ratio may be NULL. */
enum dlb_status dlb_noise_floor(struct dlb_gauge *gauge, struct dlb_plan *plan,
                                double *floor, struct dlb_ratio *ratio,
                                struct dlb_error *error);

/* One timing of one plan while tuning: the minimum over samples blocks of about block_ns
 * or more, in nanoseconds per execution.  Runs it once before, untimed. */
double dlb_trial_ns(struct dlb_pool *pool, struct dlb_plan *plan, int samples,
                    double block_ns);

#endif
