/*
 * paired.h - the final measurement: arms side by side, interleaved, with a probe gate.
 *
 * A round runs the arms as A B B A (or B A A B, by a seeded coin); a sample of an arm in
 * the round is the mean of its two executions blocks, each of inner_reps runs so that it
 * lasts >= 1 ms and 1000 clock ticks.  An FMA probe stands before and after each round; a
 * round whose probe falls below 90 % of the best of the session is kept as contaminated,
 * left out of the statistics and repeated, up to a cap.
 */
#ifndef DLB_MEASURE_PAIRED_H
#define DLB_MEASURE_PAIRED_H

#include "core/isa.h"
#include "machine/pool.h"
#include "measure/stats.h"
#include "record/run.h"

enum { DLB_ARMS_MAX = 4 };

enum dlb_cache_state {
    DLB_CACHE_HOT,
    DLB_CACHE_COLD_WEIGHTS,
    DLB_CACHE_COLD,
    DLB_CACHE_STATES
};
extern const char *const dlb_cache_state_names[DLB_CACHE_STATES];

/* What every measurement of a session shares. */
struct dlb_gauge {
    struct dlb_pool *pool;
    enum dlb_isa isa;
    double best_probe; /* GFLOP/s, updated; per thread set */
    enum dlb_cache_state cache_state;
    size_t evict_bytes; /* for cold: how much to sweep; 0 for hot */
    double min_seconds; /* of timed work per arm: 0.3 */
    double max_seconds; /* cap per arm */
    int min_samples;    /* 21 */
    double ci_width;    /* wanted half width of the median's interval: 0.01 */
    uint64_t seed;
    const volatile int *stop; /* not NULL: a set flag ends after the round in flight */
};

struct dlb_measured {
    struct dlb_sample
        *sample; /* owned: every sample in order, contaminated ones flagged */
    int samples;
    int clean; /* those that count */
    int warmup, inner_reps;
    double contaminated_frac;
    bool capped; /* the interval did not get narrow enough in time */
    bool noisy;  /* fewer than min_samples clean ones could be had */
    struct dlb_summary summary;
};

/*
 * Measures arms (1 … DLB_ARMS_MAX) together.  ratio[i] is time(arm i)/time(arm 0) paired
 * by round; ratio may be NULL.  Release each measured with dlb_measured_release.
 */
enum dlb_status dlb_measure(struct dlb_gauge *gauge, struct dlb_plan *const *arm,
                            int arms, struct dlb_measured *measured,
                            struct dlb_ratio *ratio, struct dlb_error *error);
void dlb_measured_release(struct dlb_measured *measured);

/* Noise floor: an A/A measurement of plan against itself; the largest of |ln ratio| and
 * the half width of its interval. */
enum dlb_status dlb_noise_floor(struct dlb_gauge *gauge, struct dlb_plan *plan,
                                double *floor, struct dlb_ratio *ratio,
                                struct dlb_error *error);

/* One timing of one plan while tuning: the minimum over samples blocks of >= block_ns. */
double dlb_trial_ns(struct dlb_pool *pool, struct dlb_plan *plan, int samples,
                    double block_ns);

#endif
