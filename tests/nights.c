#include "nights.h"

#include "judge/significance.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

struct nights {
    struct nights_plan plan;
    struct dlb_random random;
    int night;                 /* how many were drawn */
    double *sample;            /* [pooled][side][run][case][sample] */
    struct dlb_timing *timing; /* [case][side][pooled * run] */
    struct dlb_gate_case *item;
};

static double normal(struct nights *nights)
{
    return dlb_random_student(&nights->random, INFINITY);
}

static bool happens(struct nights *nights, double probability)
{
    return dlb_random_uniform(&nights->random) < probability;
}

static int ascending(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static double *samples_at(const struct nights *nights, int night, int side, int run,
                          int c)
{
    const struct nights_plan *plan = &nights->plan;
    int slot = night % NIGHTS_POOLED_MAX;
    return nights->sample +
           (((size_t)(slot * 2 + side) * plan->runs + run) * plan->cases + c) *
               plan->samples;
}

struct nights *nights_make(const struct nights_plan *plan, uint64_t seed)
{
    struct nights *nights = calloc(1, sizeof *nights);
    size_t runs = (size_t)plan->runs * NIGHTS_POOLED_MAX * 2 * plan->cases;
    assert(nights);
    nights->plan = *plan;
    nights->random.seed = dlb_hash(seed, 1);
    nights->sample = malloc(runs * plan->samples * sizeof *nights->sample);
    nights->timing = malloc(runs * sizeof *nights->timing);
    nights->item = malloc((size_t)plan->cases * sizeof *nights->item);
    assert(nights->sample && nights->timing && nights->item);
    return nights;
}

/* What a case is like, tonight. */
struct nature {
    double level, within, process, mode_share, slow_process;
};

static void draw_run(struct nights *nights, const struct nature *nature, double shift,
                     double *sample)
{
    int n = nights->plan.samples;
    double noise = nights->plan.noise;
    double own = shift + noise * nature->process * normal(nights);
    double drift = noise * 0.01 * normal(nights);
    own += noise * (happens(nights, nature->slow_process) ? 0.04 : 0);
    for (int i = 0; i < n; i++) {
        double x =
            own + noise * nature->within * normal(nights) + drift * ((double)i / n - 0.5);
        x += happens(nights, nature->mode_share) ? 0.06 * noise : 0;
        x += happens(nights, 0.03) ? -log(dlb_random_uniform(&nights->random)) : 0;
        sample[i] = nature->level * exp(x);
    }
    qsort(sample, (size_t)n, sizeof *sample, ascending);
}

void nights_next(struct nights *nights)
{
    const struct nights_plan *plan = &nights->plan;
    double tonight = plan->noise * 0.02 * normal(nights);
    double run_shift[2][64];
    assert(plan->runs <= 64);
    for (int side = 0; side < 2; side++)
        for (int run = 0; run < plan->runs; run++)
            run_shift[side][run] = tonight + plan->noise * 0.01 * normal(nights);
    for (int c = 0; c < plan->cases; c++) {
        struct nature nature = {
            .level = 1e5,
            .within = 0.01 * exp(log(4) * dlb_random_uniform(&nights->random)),
            .process = happens(nights, 0.1) ? 0.016 : 0.008,
            .mode_share =
                happens(nights, 0.2) ? 0.4 * dlb_random_uniform(&nights->random) : 0,
            .slow_process = happens(nights, 0.05) ? 0.2 : 0,
        };
        for (int side = 0; side < 2; side++)
            for (int run = 0; run < plan->runs; run++)
                draw_run(nights, &nature,
                         run_shift[side][run] + (side ? plan->machine : 0) +
                             (side && c == plan->slow_case ? plan->slowdown : 0),
                         samples_at(nights, nights->night, side, run, c));
    }
    nights->night++;
}

struct nights_found nights_judge(struct nights *nights, int pooled)
{
    const struct nights_plan *plan = &nights->plan;
    int runs = pooled * plan->runs;
    struct dlb_gate_found gate;
    struct nights_found found = {0};
    assert(pooled >= 1 && pooled <= NIGHTS_POOLED_MAX && pooled <= nights->night);
    for (int c = 0; c < plan->cases; c++) {
        struct dlb_timing *timing = nights->timing + (size_t)c * 2 * runs;
        for (int side = 0; side < 2; side++)
            for (int run = 0; run < runs; run++)
                timing[side * runs + run] = dlb_timing_make(
                    run,
                    samples_at(nights, nights->night - 1 - run / plan->runs, side,
                               run % plan->runs, c),
                    plan->samples);
        nights->item[c] = (struct dlb_gate_case){
            .id = (uint64_t)c,
            .base = {timing, runs},
            .fresh = {timing + runs, runs},
            .noise_floor = 0.01,
            .control = plan->controls && c % 2,
            .partner = plan->controls && c % 2 == 0 && c + 1 < plan->cases ? c + 1 : -1};
    }
    struct dlb_gate_rules rules = {
        .threshold = 0.05, .resamples = plan->resamples, .seed = nights->night};
    enum dlb_status status =
        dlb_gate_judge(nights->item, plan->cases, &rules, &gate, NULL);
    assert(!status);
    (void)status;
    found.environment = gate.environment;
    for (int c = 0; c < plan->cases; c++) {
        bool called = nights->item[c].verdict == DLB_VERDICT_REGRESSION;
        if (c == plan->slow_case) {
            found.slow_case_found = called;
            found.suspect = nights->item[c].verdict == DLB_VERDICT_SUSPECT;
        } else {
            found.regressions += called;
        }
    }
    return found;
}

void nights_release(struct nights *nights)
{
    if (!nights)
        return;
    free(nights->sample);
    free(nights->timing);
    free(nights->item);
    free(nights);
}
