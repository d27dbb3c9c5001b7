#include "judge/gate.h"

#include "judge/significance.h"
#include "measure/stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PRIOR_CASES = 8, SPREAD_CASES = 20, COMMON_CASES = 8, COMMON_CONTROLS = 5 };

static const double level = 0.95, fdr = 0.05;
static const double assumed_variance = 0.01 * 0.01, assumed_df = 3, spread_df = 10;

const char *const dlb_verdict_names[DLB_VERDICTS] = {
    "same",    "faster",   "regression", "suspect",   "unclear",
    "machine", "mismatch", "noisy",      "only BASE", "only NEW"};

struct dlb_timing dlb_timing_make(int run, const double *sample, int samples)
{
    struct dlb_timing timing = {
        .run = run, .sample = sample, .samples = samples, .error = NAN};
    int lo, hi;
    double reached = dlb_median_ranks(samples, level, &lo, &hi);
    timing.median_ns = (sample[(samples - 1) / 2] + sample[samples / 2]) / 2;
    if (reached > 0)
        timing.error = log(sample[hi - 1] / sample[lo - 1]) /
                       (2 * dlb_student_quantile(1 - reached, INFINITY));
    return timing;
}

static double mean_log(const struct dlb_side *side)
{
    double sum = 0;
    for (int i = 0; i < side->runs; i++)
        sum += log(side->timing[i].median_ns);
    return sum / side->runs;
}

/* ln of the ratio of medians. */
static double move_of(const struct dlb_gate_case *item)
{
    return mean_log(&item->fresh) - mean_log(&item->base);
}

/* The variance of d over that of one run. */
static double leverage(const struct dlb_gate_case *item)
{
    return 1.0 / item->base.runs + 1.0 / item->fresh.runs;
}

static const struct dlb_side *side_of(const struct dlb_gate_case *item, int side)
{
    return side ? &item->fresh : &item->base;
}

/* Median over the cases of what a run of a side deviates from the side's mean. */
static double run_effect(const struct dlb_gate_case *cases, int n, int side, int run,
                         double *room)
{
    int found = 0;
    for (int c = 0; c < n; c++) {
        const struct dlb_side *of = side_of(&cases[c], side);
        for (int i = 0; i < of->runs && of->runs > 1; i++)
            if (of->timing[i].run == run)
                room[found++] = log(of->timing[i].median_ns) - mean_log(of);
    }
    return found >= PRIOR_CASES ? dlb_quantile(room, found, 0.5) : 0;
}

/* Of each case: the variance among its runs on one side, and its degrees of freedom. */
struct scatter {
    double *variance, *df;
};

static enum dlb_status measure_scatter(const struct dlb_gate_case *cases, int n,
                                       struct scatter *scatter, struct dlb_error *error)
{
    enum dlb_status status = DLB_OK;
    double *effect = NULL, *room = malloc((size_t)n * sizeof *room);
    int runs = 1;
    for (int c = 0; c < n; c++)
        for (int side = 0; side < 2; side++)
            for (int i = 0; i < side_of(&cases[c], side)->runs; i++)
                runs = (int)dlb_max(runs, side_of(&cases[c], side)->timing[i].run + 1);
    effect = calloc((size_t)runs, sizeof *effect);
    if (!room || !effect) {
        status = dlb_fail(error, DLB_NOMEM, "There is no memory left to compare.");
        goto out;
    }
    memset(scatter->variance, 0, (size_t)n * sizeof *scatter->variance);
    memset(scatter->df, 0, (size_t)n * sizeof *scatter->df);
    for (int side = 0; side < 2; side++) {
        for (int run = 0; run < runs; run++)
            effect[run] = run_effect(cases, n, side, run, room);
        for (int c = 0; c < n; c++) {
            const struct dlb_side *of = side_of(&cases[c], side);
            double mean = 0, squares = 0;
            for (int pass = 0; pass < 2; pass++)
                for (int i = 0; i < of->runs; i++) {
                    double y = log(of->timing[i].median_ns) - effect[of->timing[i].run];
                    if (pass)
                        squares += (y - mean) * (y - mean);
                    else
                        mean += y / of->runs;
                }
            scatter->variance[c] += squares;
            scatter->df[c] += of->runs - 1;
        }
    }
    for (int c = 0; c < n; c++)
        if (scatter->df[c] > 0)
            scatter->variance[c] /= scatter->df[c];
out:
    free(room);
    free(effect);
    return status;
}

/* The noise of a run by how far the moves scatter around their median: as wide as half of
 * them, or as nine tenths of them, say of a normal distribution. */
static void noise_of_spread(const struct dlb_gate_case *cases, int n, double *room,
                            struct dlb_noise *noise)
{
    const double half = 0.67449, nine_tenths = 1.64485;
    for (int c = 0; c < n; c++)
        room[c] = move_of(&cases[c]);
    double middle = dlb_quantile(room, n, 0.5);
    for (int c = 0; c < n; c++)
        room[c] = fabs(room[c] - middle) / sqrt(leverage(&cases[c]));
    double spread =
        fmax(dlb_quantile(room, n, 0.5) / half, dlb_quantile(room, n, 0.9) / nine_tenths);
    *noise = (struct dlb_noise){spread * spread, spread_df, DLB_NOISE_SPREAD};
}

static enum dlb_status learn_noise(const struct dlb_gate_case *cases, int n,
                                   const struct scatter *scatter, struct dlb_noise *noise,
                                   struct dlb_error *error)
{
    double *room = calloc(2 * (size_t)n, sizeof *room), *df = room + n, degrees = 0;
    int repeated = 0;
    if (!room)
        return dlb_fail(error, DLB_NOMEM, "There is no memory left to compare.");
    for (int c = 0; c < n; c++) {
        if (!(scatter->df[c] > 0))
            continue;
        room[repeated] = scatter->variance[c];
        df[repeated++] = scatter->df[c];
        degrees += scatter->df[c];
    }
    *noise = (struct dlb_noise){assumed_variance, assumed_df, DLB_NOISE_ASSUMED};
    if (repeated >= PRIOR_CASES) {
        dlb_variance_prior(room, df, repeated, &noise->variance, &noise->df);
        noise->df = fmin(noise->df, degrees);
        noise->source = DLB_NOISE_REPEATS;
    } else if (n >= SPREAD_CASES) {
        noise_of_spread(cases, n, room, noise);
    }
    free(room);
    return DLB_OK;
}

/* The case's own share of the noise. */
static struct dlb_noise noise_of_case(const struct dlb_noise *noise, double variance,
                                      double df)
{
    struct dlb_noise own = *noise;
    if (df > 0 && !isinf(noise->df)) {
        own.variance = (noise->df * noise->variance + df * variance) / (noise->df + df);
        own.df = noise->df + df;
    }
    return own;
}

/* Mean square of the errors within runs, as far as they are known. */
static double variance_within(const struct dlb_gate_case *item)
{
    double sum = 0;
    int known = 0;
    for (int side = 0; side < 2; side++)
        for (int i = 0; i < side_of(item, side)->runs; i++) {
            double error = side_of(item, side)->timing[i].error;
            if (isnan(error))
                continue;
            sum += error * error;
            known++;
        }
    return known ? sum / known : 0;
}

/* All samples of a side, times factor; owned by the caller.  NULL when a run has none. */
static double *pool_samples(const struct dlb_side *side, double factor, int *n)
{
    int at = 0;
    *n = 0;
    for (int i = 0; i < side->runs; i++) {
        if (!side->timing[i].sample)
            return NULL;
        *n += side->timing[i].samples;
    }
    double *pool = malloc((size_t)dlb_max(1, *n) * sizeof *pool);
    for (int i = 0; i < side->runs && pool; i++)
        for (int s = 0; s < side->timing[i].samples; s++)
            pool[at++] = side->timing[i].sample[s] * factor;
    return pool;
}

static double test_samples(const struct dlb_gate_case *item, double common)
{
    int base_n, fresh_n;
    double *base = pool_samples(&item->base, 1, &base_n);
    double *fresh = pool_samples(&item->fresh, exp(-common), &fresh_n);
    double p = base && fresh ? dlb_mann_whitney(base, base_n, fresh, fresh_n) : NAN;
    free(base);
    free(fresh);
    return p;
}

static bool has_samples(const struct dlb_gate_case *item)
{
    for (int side = 0; side < 2; side++)
        for (int i = 0; i < side_of(item, side)->runs; i++)
            if (!side_of(item, side)->timing[i].sample)
                return false;
    return true;
}

static double resampled_mean(struct dlb_random *random, const struct dlb_side *side)
{
    double sum = 0;
    for (int i = 0; i < side->runs; i++)
        sum += log(dlb_resampled_median(random, side->timing[i].sample,
                                        side->timing[i].samples));
    return sum / side->runs;
}

/* between: standard deviation of d by the noise between runs alone. */
static void bootstrap(struct dlb_gate_case *item, const struct dlb_gate_rules *rules,
                      double between, double df, double *room)
{
    struct dlb_random random = {.seed = dlb_hash(rules->seed, item->id)};
    for (int i = 0; i < rules->resamples; i++)
        room[i] = resampled_mean(&random, &item->fresh) -
                  resampled_mean(&random, &item->base) +
                  between * dlb_random_student(&random, df);
    item->lo = exp(dlb_quantile(room, rules->resamples, (1 - level) / 2));
    item->hi = exp(dlb_quantile(room, rules->resamples, (1 + level) / 2));
}

/* Quantiles of t as often as they are asked for the same degrees of freedom. */
struct quantile {
    double df, t;
};

static double quantile_of(struct quantile *last, double df)
{
    if (last->df != df)
        *last = (struct quantile){df, dlb_student_quantile(1 - level, df)};
    return last->t;
}

static double *move_array(const struct dlb_gate_case *cases, int n, bool control,
                          int *found)
{
    double *move = malloc((size_t)n * sizeof *move);
    *found = 0;
    for (int c = 0; c < n && move; c++)
        if (cases[c].control == control)
            move[(*found)++] = move_of(&cases[c]);
    return move;
}

/* What the machine did to everything. */
static enum dlb_status find_common(const struct dlb_gate_case *cases, int n,
                                   double threshold, struct dlb_gate_found *found,
                                   struct dlb_error *error)
{
    enum dlb_status status = DLB_OK;
    int others, alike = 0;
    double *other = move_array(cases, n, false, &others);
    double *control = move_array(cases, n, true, &found->controls);
    if (!other || !control) {
        status = dlb_fail(error, DLB_NOMEM, "There is no memory left to compare.");
        goto out;
    }
    found->others = dlb_quantile(other, others, 0.5);
    found->control = dlb_quantile(control, found->controls, 0.5);
    if (n < COMMON_CASES)
        goto out;
    double shared = found->others;
    if (found->controls >= COMMON_CONTROLS || !others) {
        shared = found->control;
        if (others >= COMMON_CONTROLS)
            shared = found->others * shared <= 0          ? 0
                     : fabs(found->others) < fabs(shared) ? found->others
                                                          : shared;
    }
    for (int c = 0; c < n; c++) {
        double part = move_of(&cases[c]) / shared;
        alike += part >= 0.5 && part <= 2;
    }
    double much = fmax(log1p(threshold) / 2, log1p(0.01));
    if (fabs(shared) <= much)
        found->common = shared;
    else if (alike >= 0.6 * n)
        found->environment = true, found->common = shared;
out:
    free(other);
    free(control);
    return status;
}

/* Numbers of one case; the verdict needs those of all. */
static void weigh(struct dlb_gate_case *item, const struct dlb_gate_rules *rules,
                  const struct dlb_noise *noise, double common, struct quantile *last,
                  double *room)
{
    double move = move_of(item), within = variance_within(item);
    double spread = sqrt(fmax(noise->variance, within) * leverage(item));
    double between = sqrt(fmax(noise->variance - within, 0) * leverage(item));
    item->ratio = exp(move);
    item->p_runs = dlb_student_tail((move - common) / spread, noise->df);
    item->p_samples = test_samples(item, common);
    item->q = fmax(item->p_runs, item->p_samples); /* the one that is a number */
    if (rules->resamples && has_samples(item)) {
        bootstrap(item, rules, between, noise->df, room);
    } else {
        double reach = spread * quantile_of(last, noise->df);
        item->lo = exp(move - reach);
        item->hi = exp(move + reach);
    }
}

/* slow: the move in the direction that is judged; far: the interval's far end. */
static enum dlb_verdict judge_way(const struct dlb_gate_case *item, double q, double slow,
                                  double far, double bound, bool faster)
{
    double p = fmax(item->p_runs, item->p_samples);
    bool reaches = far >= bound && slow >= bound / 2;
    bool sure = item->fresh.runs >= DLB_RUNS_TO_BE_SURE;
    if (q <= fdr && (slow > bound || (reaches && sure)))
        return faster ? DLB_VERDICT_FASTER : DLB_VERDICT_REGRESSION;
    if (!faster && p <= fdr && reaches)
        return DLB_VERDICT_SUSPECT;
    if (!faster && far >= bound)
        return DLB_VERDICT_UNCLEAR;
    return DLB_VERDICT_SAME;
}

static enum dlb_verdict judge_case(const struct dlb_gate_case *cases, int c,
                                   double threshold, double common)
{
    const struct dlb_gate_case *item = &cases[c];
    double bound = fmax(log1p(threshold), item->noise_floor);
    double move = log(item->ratio) - common;
    double q = item->control ? fmax(item->p_runs, item->p_samples) : item->q;
    enum dlb_verdict verdict =
        judge_way(item, q, move, log(item->hi) - common, bound, false);
    if (verdict == DLB_VERDICT_SAME)
        verdict = judge_way(item, q, -move, common - log(item->lo), bound, true);
    if (verdict == DLB_VERDICT_SAME || verdict == DLB_VERDICT_UNCLEAR)
        return verdict;
    double beside =
        item->partner < 0 ? 0 : (log(cases[item->partner].ratio) - common) / move;
    return item->control || beside >= 0.5 ? DLB_VERDICT_MACHINE : verdict;
}

static enum dlb_status weigh_all(struct dlb_gate_case *cases, int n,
                                 const struct dlb_gate_rules *rules,
                                 struct dlb_gate_found *found, struct dlb_error *error)
{
    struct scatter scatter = {malloc((size_t)n * sizeof(double)),
                              malloc((size_t)n * sizeof(double))};
    double *room = malloc((size_t)dlb_max(1, rules->resamples) * sizeof *room);
    struct quantile last = {NAN, NAN};
    enum dlb_status status =
        scatter.variance && scatter.df && room
            ? measure_scatter(cases, n, &scatter, error)
            : dlb_fail(error, DLB_NOMEM, "There is no memory left to compare.");
    if (!status && rules->noise)
        found->noise = *rules->noise;
    else if (!status)
        status = learn_noise(cases, n, &scatter, &found->noise, error);
    for (int c = 0; c < n && !status; c++) {
        struct dlb_noise own =
            noise_of_case(&found->noise, scatter.variance[c], scatter.df[c]);
        weigh(&cases[c], rules, &own, found->common, &last, room);
    }
    free(scatter.variance);
    free(scatter.df);
    free(room);
    return status;
}

static enum dlb_status correct_q(struct dlb_gate_case *cases, int n,
                                 struct dlb_error *error)
{
    double *q = malloc((size_t)n * sizeof *q);
    if (!q)
        return dlb_fail(error, DLB_NOMEM, "There is no memory left to compare.");
    for (int c = 0; c < n; c++)
        q[c] = cases[c].control ? NAN : cases[c].q;
    enum dlb_status status = dlb_false_discovery(q, n, q, error);
    for (int c = 0; c < n && !status; c++)
        cases[c].q = q[c];
    free(q);
    return status;
}

enum dlb_status dlb_gate_judge(struct dlb_gate_case *cases, int n,
                               const struct dlb_gate_rules *rules,
                               struct dlb_gate_found *found, struct dlb_error *error)
{
    *found = (struct dlb_gate_found){0};
    enum dlb_status status = find_common(cases, n, rules->threshold, found, error);
    if (!status)
        status = weigh_all(cases, n, rules, found, error);
    if (!status)
        status = correct_q(cases, n, error);
    for (int c = 0; c < n && !status; c++) {
        cases[c].verdict = judge_case(cases, c, rules->threshold, found->common);
        if (!cases[c].control)
            found->count[cases[c].verdict]++;
    }
    return status;
}
