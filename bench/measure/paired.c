#include "measure/paired.h"

#include "machine/ceilings.h"
#include "measure/timer.h"

#include <assert.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>

const char *const dlb_cache_state_names[DLB_CACHE_STATES] = {"hot", "cold"};

static const double LEVEL = 0.95;
static const double PROBE_CLEAN = 0.9;                      /* of the pace */
static const double PACE_QUANTILE = 0.75, PACE_LEAST = 0.7; /* of the best probe */
static const double BLOCK_NS = 1e6, BLOCK_TICKS = 1000, LONG_BLOCK_NS = 50e6;
static const double WARM_LEAST_NS = 30e6, WARM_MOST_NS = 500e6, WARM_AGREE = 0.03;
static const double PROBE_LEAST_NS = 0.3e6, PROBE_MOST_NS = 3e6, PROBE_SHARE = 0.05;
enum { WARM_LEAST_RUNS = 3, REPS_MAX = 1 << 24, PATIENCE = 2, OVERTIME = 4 };

struct round {
    double probe; /* the worse one beside it */
    double ns[DLB_ARMS_MAX];
};

struct session {
    struct dlb_gauge *gauge;
    struct dlb_gauge_hooks hooks;
    struct dlb_plan *const *arm;
    int arms;
    char *evict;

    int warmup[DLB_ARMS_MAX], reps[DLB_ARMS_MAX];
    bool lead_in; /* an untimed execution before each block */
    int passes;   /* blocks of an arm in a round */
    int required; /* clean samples */
    double probe_ns, started_ns, last_probe;
    uint64_t random;

    struct round *round;
    double *seen; /* this measurement's probes so far, in rising order */
    int probes;
    double *column; /* scratch: clean samples of an arm, and of arm 0 behind them */
    int rounds, capacity, clean, look_at;
    enum dlb_status status;
};

/* This machine */

static double real_clock(void *context)
{
    (void)context;
    return dlb_clock_ns();
}

static double real_probe(void *context, double nanoseconds)
{
    const struct session *s = context;
    return dlb_probe_gflops(s->gauge->pool, s->gauge->isa, nanoseconds);
}

static void real_run(void *context, struct dlb_plan *plan)
{
    const struct session *s = context;
    dlb_pool_run_plan(s->gauge->pool, plan);
}

static void sweep(void *context, const struct dlb_team *team)
{
    const struct session *s = context;
    volatile char *line = s->evict;
    int64_t begin, end;
    dlb_share((int64_t)(s->gauge->evict_bytes / DLB_CACHE_LINE), team->rank, team->size,
              &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        line[i * DLB_CACHE_LINE] = (char)i;
    }
}

static void real_evict(void *context)
{
    struct session *s = context;
    dlb_pool_run(s->gauge->pool, sweep, s);
}

/* Blocks */

static double now(const struct session *s)
{
    return s->hooks.clock_ns(s->hooks.context);
}

static bool stopped(const struct session *s)
{
    return s->gauge->stop && *s->gauge->stop;
}

static double time_block(struct session *s, int arm, int reps)
{
    if (s->gauge->cache_state == DLB_CACHE_COLD) {
        assert(reps == 1);
        s->hooks.evict(s->hooks.context);
    }
    if (s->lead_in) {
        s->hooks.run(s->hooks.context, s->arm[arm]);
    }
    double start = now(s);
    for (int i = 0; i < reps; i++) {
        s->hooks.run(s->hooks.context, s->arm[arm]);
    }
    return now(s) - start;
}

/* Executions of each_ns that fill a block, with a tenth to spare. */
static int reps_for(double block_ns, double each_ns)
{
    double reps = ceil(1.1 * block_ns / fmax(each_ns, 0.1));
    return (int)fmin(fmax(reps, 1), REPS_MAX);
}

/* Sets warmup and reps of the arm; returns the time to expect of a block. */
static double warm_up(struct session *s, int arm)
{
    bool cold = s->gauge->cache_state == DLB_CACHE_COLD;
    double block_ns = cold ? 0 : fmax(BLOCK_NS, BLOCK_TICKS * s->hooks.tick_ns);
    double start = now(s), least = INFINITY, last = INFINITY;
    bool settled = false;
    int reps = 1;
    while (!settled && !stopped(s) && now(s) - start < WARM_MOST_NS) {
        double block = time_block(s, arm, reps), each = block / reps;
        bool agree = fabs(each - last) <= WARM_AGREE * each;
        s->warmup[arm] += reps;
        least = fmin(least, each);
        last = each;
        settled = agree && block >= block_ns && s->warmup[arm] >= WARM_LEAST_RUNS &&
                  now(s) - start >= WARM_LEAST_NS;
        if (block < block_ns) {
            reps = reps_for(block_ns, each);
        }
    }
    s->reps[arm] = reps_for(block_ns, least);
    return least * s->reps[arm];
}

/* Rounds */

static int random_below(struct session *s, int bound)
{
    uint64_t z = s->random += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (int)((z ^ z >> 31) % (uint64_t)bound);
}

static void shuffle(struct session *s, int *order)
{
    for (int i = 0; i < s->arms; i++) {
        int j = random_below(s, i + 1);
        order[i] = order[j];
        order[j] = i;
    }
}

static double take_probe(struct session *s)
{
    double probe = s->hooks.probe_gflops(s->hooks.context, s->probe_ns);
    s->gauge->best_probe = fmax(s->gauge->best_probe, probe);
    int at = s->probes++;
    for (; at > 0 && s->seen[at - 1] > probe; at--) {
        s->seen[at] = s->seen[at - 1];
    }
    s->seen[at] = probe;
    return probe;
}

static double pace(const struct session *s)
{
    double usual = s->seen[(int)(PACE_QUANTILE * (s->probes - 1))];
    return fmax(usual, PACE_LEAST * s->gauge->best_probe);
}

static bool is_clean(const struct session *s, int round)
{
    return s->round[round].probe >= PROBE_CLEAN * pace(s);
}

static int clean_column(const struct session *s, int arm, double *column)
{
    int n = 0;
    for (int i = 0; i < s->rounds; i++) {
        if (is_clean(s, i)) {
            column[n++] = s->round[i].ns[arm];
        }
    }
    return n;
}

static bool is_narrow(const struct session *s, const struct dlb_summary *summary)
{
    double half = (summary->ci_hi - summary->ci_lo) / 2;
    return summary->ci_level > 0 && half <= s->gauge->ci_width * summary->median;
}

/* Enough clean samples, enough timed work and narrow intervals, for each arm. */
static bool is_enough(struct session *s)
{
    if (s->clean < s->required || s->clean < s->look_at) {
        return false;
    }
    /* Sorting thousands of samples after each round would cool the arms down. */
    s->look_at = s->clean + 1 + s->clean / 16;
    for (int arm = 0; arm < s->arms; arm++) {
        struct dlb_summary summary;
        int n = clean_column(s, arm, s->column);
        dlb_summarise(s->column, n, LEVEL, &summary);
        double timed_ns = summary.mean * n * s->reps[arm] * s->passes;
        if (timed_ns < s->gauge->min_seconds * 1e9 || !is_narrow(s, &summary)) {
            return false;
        }
    }
    return true;
}

static bool is_over(struct session *s)
{
    double budget_ns = s->gauge->max_seconds * 1e9 * s->arms;
    s->clean = 0;
    for (int i = 0; i < s->rounds; i++) {
        s->clean += is_clean(s, i);
    }
    if (s->clean < s->required && s->required <= DLB_SAMPLES_LEAST) {
        budget_ns *= OVERTIME;
    }
    int contaminated = s->rounds - s->clean;
    return stopped(s) || is_enough(s) || now(s) - s->started_ns >= budget_ns ||
           contaminated >= PATIENCE * (int)dlb_max(s->required, s->clean);
}

static bool make_room(struct session *s)
{
    if (s->rounds < s->capacity) {
        return true;
    }
    int capacity = s->capacity ? 2 * s->capacity : 64;
    struct round *round = realloc(s->round, (size_t)capacity * sizeof *round);
    if (round) {
        s->round = round;
    }
    double *column = realloc(s->column, 2 * (size_t)capacity * sizeof *column);
    if (column) {
        s->column = column;
    }
    double *seen = realloc(s->seen, ((size_t)capacity + 1) * sizeof *seen);
    if (seen) {
        s->seen = seen;
    }
    if (!round || !column || !seen) {
        s->status = DLB_NOMEM;
        return false;
    }
    s->capacity = capacity;
    return true;
}

static double run_round(void *context)
{
    struct session *s = context;
    if (is_over(s) || !make_room(s)) {
        return -1;
    }
    struct round round = {0};
    int order[DLB_ARMS_MAX] = {0};
    double total = 0;
    shuffle(s, order);
    for (int i = 0; i < s->passes * s->arms; i++) {
        int arm = order[i < s->arms ? i : 2 * s->arms - 1 - i];
        double block = time_block(s, arm, s->reps[arm]);
        round.ns[arm] += block / s->reps[arm] / s->passes;
        total += block;
    }
    double probe = take_probe(s);
    round.probe = fmin(s->last_probe, probe);
    s->last_probe = probe;
    s->round[s->rounds++] = round;
    return total;
}

/* Measurement */

static enum dlb_status session_open(struct session *s, struct dlb_error *error)
{
    const struct dlb_gauge *gauge = s->gauge;
    if (gauge->hooks) {
        s->hooks = *gauge->hooks;
        return DLB_OK;
    }
    s->hooks = (struct dlb_gauge_hooks){.context = s,
                                        .clock_ns = real_clock,
                                        .probe_gflops = real_probe,
                                        .run = real_run,
                                        .evict = real_evict,
                                        .tick_ns = dlb_clock_resolution_ns()};
    if (gauge->cache_state == DLB_CACHE_COLD) {
        assert(gauge->evict_bytes > 0);
        s->evict = dlb_alloc(gauge->evict_bytes);
        if (!s->evict) {
            return dlb_fail(error, DLB_NOMEM,
                            "Evicting the caches needs a buffer of %zu bytes, and there "
                            "is not that much memory.",
                            gauge->evict_bytes);
        }
    }
    return DLB_OK;
}

static void session_close(struct session *s)
{
    free(s->round);
    free(s->column);
    free(s->seen);
    dlb_free(s->evict);
}

static void prepare_rounds(struct session *s)
{
    double all_ns = 0, longest_ns = 0;
    for (int arm = 0; arm < s->arms && !stopped(s); arm++) {
        double block_ns = warm_up(s, arm);
        all_ns += block_ns;
        longest_ns = fmax(longest_ns, block_ns);
    }
    bool is_long = longest_ns > LONG_BLOCK_NS;
    s->lead_in = !is_long && s->gauge->cache_state == DLB_CACHE_HOT;
    s->passes = is_long ? 1 : 2;
    double round_ns = all_ns * s->passes;
    double affordable = s->gauge->max_seconds * 1e9 * s->arms / fmax(round_ns, 1);
    s->required = s->gauge->min_samples;
    if (affordable < 2.0 * s->required) {
        s->required = (int)dlb_min(DLB_SAMPLES_LEAST, s->required);
    }
    s->probe_ns = fmin(fmax(PROBE_SHARE * round_ns, PROBE_LEAST_NS), PROBE_MOST_NS);
    s->started_ns = now(s);
    if (!stopped(s) && make_room(s)) {
        s->last_probe = take_probe(s);
    }
}

/* What the probe shows beside the clean rounds, in the middle. */
static double usual_probe(const struct session *s)
{
    int n = 0;
    for (int i = 0; i < s->rounds; i++) {
        if (is_clean(s, i)) {
            s->column[n++] = s->round[i].probe;
        }
    }
    return dlb_quantile(s->column, n, 0.5);
}

static enum dlb_status collect(const struct session *s, int arm,
                               struct dlb_measured *measured, struct dlb_ratio *ratio)
{
    struct dlb_measured m = {.samples = s->rounds,
                             .clean = s->clean,
                             .warmup = s->warmup[arm],
                             .inner_reps = s->reps[arm],
                             .noisy = s->clean < s->required};
    double *own = s->column, *first = own ? own + s->rounds : NULL;
    m.sample = malloc(dlb_max(s->rounds, 1) * sizeof *m.sample);
    if (!m.sample) {
        return DLB_NOMEM;
    }
    for (int i = 0; i < s->rounds; i++) {
        m.sample[i] = (struct dlb_sample){s->round[i].ns[arm], !is_clean(s, i)};
    }
    if (s->rounds > 0) {
        m.contaminated_frac = (double)(s->rounds - s->clean) / s->rounds;
    }
    m.probe_gflops = s->rounds > 0 ? usual_probe(s) : NAN;
    clean_column(s, arm, own);
    dlb_summarise(own, s->clean, LEVEL, &m.summary);
    m.capped = !is_narrow(s, &m.summary);
    if (ratio) {
        clean_column(s, 0, first);
        dlb_paired_ratio(first, own, s->clean, LEVEL, ratio);
    }
    *measured = m;
    return DLB_OK;
}

enum dlb_status dlb_measure(struct dlb_gauge *gauge, struct dlb_plan *const *arm,
                            int arms, struct dlb_measured *measured,
                            struct dlb_ratio *ratio, struct dlb_error *error)
{
    assert(arms >= 1 && arms <= DLB_ARMS_MAX && gauge->min_samples > 0);
    struct session s = {.gauge = gauge, .arm = arm, .arms = arms, .random = gauge->seed};
    int64_t done;
    for (int i = 0; i < arms; i++) {
        measured[i] = (struct dlb_measured){0};
    }
    enum dlb_status status = session_open(&s, error);
    if (status) {
        goto out;
    }
    prepare_rounds(&s);
    status = dlb_timer_run(arm[0]->class->impl, INT_MAX, run_round, &s, &done, error);
    if (status) {
        goto out;
    }
    for (int i = 0; i < arms && s.status == DLB_OK; i++) {
        s.status = collect(&s, i, &measured[i], ratio ? &ratio[i] : NULL);
    }
    if (s.status) {
        status = dlb_fail(error, s.status, "Memory for the samples of %d rounds ran out.",
                          s.rounds);
    } else if (stopped(&s) && s.clean < s.required) {
        status = dlb_fail(error, DLB_INTERRUPTED,
                          "The measurement was interrupted after %d of %d samples.",
                          s.clean, s.required);
    }
out:
    if (status && status != DLB_INTERRUPTED) {
        for (int i = 0; i < arms; i++) {
            dlb_measured_release(&measured[i]);
        }
    }
    session_close(&s);
    return status;
}

void dlb_measured_release(struct dlb_measured *measured)
{
    free(measured->sample);
    *measured = (struct dlb_measured){0};
}

enum dlb_status dlb_noise_floor(struct dlb_gauge *gauge, struct dlb_plan *plan,
                                double *floor, struct dlb_ratio *ratio,
                                struct dlb_error *error)
{
    struct dlb_plan *const arm[2] = {plan, plan};
    struct dlb_measured measured[2];
    struct dlb_ratio both[2] = {0};
    enum dlb_status status = dlb_measure(gauge, arm, 2, measured, both, error);
    if (status == DLB_OK) {
        const struct dlb_ratio *r = &both[1];
        /* NaN, and not the larger of NaN and a number. */
        *floor =
            r->n > 0 ? fmax(fabs(log(r->median)), log(r->ci_hi / r->ci_lo) / 2) : NAN;
        if (ratio) {
            *ratio = *r;
        }
    }
    dlb_measured_release(&measured[0]);
    dlb_measured_release(&measured[1]);
    return status;
}

double dlb_trial_ns(struct dlb_pool *pool, struct dlb_plan *plan, int samples,
                    double block_ns)
{
    double least = INFINITY;
    int reps = 1, taken = 0;
    dlb_pool_run_plan(pool, plan);
    while (taken < samples) {
        double start = dlb_clock_ns();
        for (int i = 0; i < reps; i++) {
            dlb_pool_run_plan(pool, plan);
        }
        double block = dlb_clock_ns() - start;
        if (block < 0.9 * block_ns && reps < REPS_MAX) {
            reps = (int)dlb_max(reps + 1, reps_for(block_ns, block / reps));
            continue;
        }
        least = fmin(least, block / reps);
        taken++;
    }
    return least;
}
