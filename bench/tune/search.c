#include "tune/search.h"

#include "measure/stats.h"

#include <math.h>
#include <stdlib.h>

enum {
    ETA = 4,
    CHUNK = 16, /* points of the first rung between two readings of the canary */
    FINALISTS = 8,
    RACE_ROUNDS_MIN = 5,
    RACE_ROUNDS_MAX = 25,
    TIE_ROUNDS = 10, /* before a tie is believed */
    REPEATS = 2,     /* of a disturbed round */
    READINGS = 5     /* of the canary whose middle is the pace */
};

static const double TIE = 0.01, RACE_P = 0.05, DRIFT = 0.03;
static const double FIRST_RUNG_SHARE = 0.6,
                    RUNG_SHARE = 0.5; /* of the time; that is left */
static const double PATIENCE = 0.25;  /* of the time, without a gain */

/* A point that is still in. */
struct runner {
    int point;
    int samples;
    double best_ns; /* fastest sample */
    double score;   /* the same in the first pace */
    double cost_ns; /* of taking a sample */
    double round_ns[RACE_ROUNDS_MAX];
    int raced; /* rounds of the race */
    bool out;  /* dropped from the race */
};

struct state {
    const struct dlb_search *search;
    const struct dlb_timings *timings;
    struct dlb_search_result *result;
    struct runner *runner;
    int runners;
    int most;   /* points to try */
    double *ns; /* of the round in flight, by runner */
    double start_ns, deadline_ns;
    double best_score, gained_ns; /* and when it last got better by a tie or more */

    int canary; /* point; -1 before there is one */
    double reading[READINGS];
    int readings;
    double first_pace, scale; /* what turns a time of now into one of the first pace */
    bool disturbed;           /* the last reading is off the pace */
};

static double now(const struct state *s)
{
    return s->timings->clock_ns(s->timings->context);
}

static bool stopped(const struct state *s)
{
    return s->search->stop && *s->search->stop;
}

static bool over(const struct state *s)
{
    return stopped(s) || now(s) >= s->deadline_ns;
}

static enum dlb_status note(const struct state *s, const struct dlb_fate *fate,
                            struct dlb_error *error)
{
    const struct dlb_search *search = s->search;
    return search->note ? search->note(search->context, fate, error) : DLB_OK;
}

static enum dlb_status note_unsampled(const struct state *s, int point,
                                      const char *outcome, const char *reason,
                                      struct dlb_error *error)
{
    struct dlb_fate fate = {point, outcome, reason, 0, 0, NAN};
    return note(s, &fate, error);
}

static enum dlb_status note_runners(const struct state *s, int first, int rung,
                                    struct dlb_error *error)
{
    enum dlb_status status = DLB_OK;
    for (int i = first; i < s->runners && !status; i++) {
        const struct runner *runner = &s->runner[i];
        struct dlb_fate fate = {
            runner->point,  rung < 0 ? "finalist" : "timed", "", rung, runner->samples,
            runner->best_ns};
        status = note(s, &fate, error);
    }
    return status;
}

static void rest(const struct state *s, int point)
{
    if (point != s->canary)
        s->timings->rest(s->timings->context, point);
}

static enum dlb_status sample(struct state *s, int point, double *ns,
                              struct dlb_error *error)
{
    s->result->samples++;
    return s->timings->time(s->timings->context, point, ns, error);
}

static enum dlb_status time_runner(struct state *s, int i, struct dlb_error *error)
{
    double start = now(s);
    enum dlb_status status = sample(s, s->runner[i].point, &s->ns[i], error);
    s->runner[i].cost_ns = now(s) - start;
    return status;
}

static enum dlb_status read_canary(struct state *s, struct dlb_error *error)
{
    double first, second;
    enum dlb_status status = sample(s, s->canary, &first, error);
    if (!status)
        status = sample(s, s->canary, &second, error);
    if (status)
        return status;
    double reading = fmin(first, second);
    s->reading[s->readings++ % READINGS] = reading;
    double pace = dlb_quantile(s->reading, (int)dlb_min(s->readings, READINGS), 0.5);
    if (s->readings == 1)
        s->first_pace = pace;
    s->scale = s->first_pace / pace;
    s->disturbed = fabs(reading / pace - 1) > DRIFT;
    return DLB_OK;
}

/* Ends a round of the runners from first on, whose times stand in ns: again while it was
 * disturbed, then the times count. */
static enum dlb_status settle(struct state *s, int first, struct dlb_error *error)
{
    enum dlb_status status = read_canary(s, error);
    s->result->rounds++;
    for (int repeat = 0; repeat < REPEATS && s->disturbed && !over(s) && !status &&
                         s->result->discarded <= s->result->rounds;
         repeat++) {
        s->result->discarded++;
        for (int i = first; i < s->runners && !status; i++)
            status = time_runner(s, i, error);
        if (!status)
            status = read_canary(s, error);
    }
    for (int i = first; i < s->runners && !status; i++) {
        struct runner *runner = &s->runner[i];
        double score = s->ns[i] * s->scale;
        runner->best_ns = runner->samples ? fmin(runner->best_ns, s->ns[i]) : s->ns[i];
        runner->score = runner->samples ? fmin(runner->score, score) : score;
        runner->samples++;
        if (runner->score < s->best_score * (1 - TIE))
            s->gained_ns = now(s);
        s->best_score = fmin(s->best_score, runner->score);
    }
    return status;
}

/* Each runner once; directions alternate, so that a drift within a round favours nobody. */
static enum dlb_status take_round(struct state *s, int number, struct dlb_error *error)
{
    enum dlb_status status = DLB_OK;
    for (int k = 0; k < s->runners && !status; k++)
        status = time_runner(s, number % 2 ? s->runners - 1 - k : k, error);
    return status ? status : settle(s, 0, error);
}

/* Verifies a point and times it once. */
static enum dlb_status try_point(struct state *s, int point, struct dlb_error *error)
{
    const struct dlb_timings *timings = s->timings;
    enum dlb_admission admission = DLB_ADMITTED;
    char reason[DLB_REASON_MAX] = "";
    enum dlb_status status =
        timings->verify(timings->context, point, &admission, reason, error);
    if (status)
        return status;
    if (admission == DLB_REFUSED) {
        s->result->refused++;
        return note_unsampled(s, point, "refused", reason, error);
    }
    s->result->verified++;
    if (admission == DLB_WRONG) {
        s->result->mismatched++;
        rest(s, point);
        return note_unsampled(s, point, "mismatch", reason, error);
    }
    s->runner[s->runners++] = (struct runner){.point = point};
    s->result->timed++;
    if (s->canary < 0) {
        s->canary = point;
        status = read_canary(s, error);
    }
    return status ? status : time_runner(s, s->runners - 1, error);
}

/* Why no more points are to be tried; NULL while they are. */
static const char *enough(const struct state *s, int tried)
{
    double time = now(s), whole = s->deadline_ns - s->start_ns;
    if (!s->runners)
        return NULL;
    if (stopped(s))
        return "interrupted";
    if (tried < s->search->always)
        return NULL;
    if (time > s->start_ns + FIRST_RUNG_SHARE * whole)
        return "ranked low by the model, and the time was used up";
    return tried >= s->most / 2 && time - s->gained_ns > PATIENCE * whole
               ? "ranked low by the model, and those before it brought no gain for long"
               : NULL;
}

static enum dlb_status first_rung(struct state *s, struct dlb_error *error)
{
    const struct dlb_search *search = s->search;
    int most = s->most, i = 0;
    enum dlb_status status = DLB_OK;
    while (i < most && !enough(s, i) && !status) {
        int first = s->runners;
        for (; i < most && s->runners < first + CHUNK && !enough(s, i) && !status; i++)
            status = try_point(s, search->order[i], error);
        if (!status && s->runners > first)
            status = settle(s, first, error);
        for (int k = first; k < s->runners; k++)
            rest(s, s->runner[k].point);
        if (!status)
            status = note_runners(s, first, 0, error);
    }
    const char *why = enough(s, i);
    s->result->left_out = most - i;
    for (; i < search->points && !status; i++)
        status = note_unsampled(s, search->order[i], "pruned",
                                i < most && why ? why : "ranked low by the model", error);
    return status;
}

static int by_score(const void *a, const void *b)
{
    const struct runner *x = a, *y = b;
    if (x->score != y->score)
        return x->score < y->score ? -1 : 1;
    return (x->point > y->point) - (x->point < y->point);
}

/* Keeps the best n, and the canary as the last of them. */
static void keep(struct state *s, int n)
{
    qsort(s->runner, (size_t)s->runners, sizeof *s->runner, by_score);
    for (int i = n; i < s->runners; i++)
        if (s->runner[i].point == s->canary) {
            struct runner swap = s->runner[n - 1];
            s->runner[n - 1] = s->runner[i];
            s->runner[i] = swap;
        }
    while (s->runners > n)
        rest(s, s->runner[--s->runners].point);
}

/* How many of the best, at most n, can be timed rounds times within the share of the time
 * that is left; the canary's two readings a round count too. */
static int affordable(struct state *s, int n, int rounds, double share)
{
    double left = share * (s->deadline_ns - now(s)), cost = 0;
    int i = 0;
    qsort(s->runner, (size_t)s->runners, sizeof *s->runner, by_score);
    for (int c = 0; c < s->runners; c++)
        if (s->runner[c].point == s->canary)
            cost = 2 * rounds * s->runner[c].cost_ns;
    for (; i < n && i < s->runners; i++) {
        cost += rounds * s->runner[i].cost_ns;
        if (cost > left)
            break;
    }
    return i;
}

static enum dlb_status halve(struct state *s, struct dlb_error *error)
{
    enum dlb_status status = DLB_OK;
    int samples = 2;
    for (int rung = 1; s->runners > FINALISTS && !status; rung++, samples *= 2) {
        int n = (int)dlb_max(FINALISTS, s->runners / ETA);
        keep(s, (int)dlb_max(FINALISTS, affordable(s, n, samples, RUNG_SHARE)));
        if (s->runners == FINALISTS)
            return DLB_OK; /* the race takes their samples */
        for (int k = 0; k < samples && !over(s) && !status; k++)
            status = take_round(s, k, error);
        if (!status)
            status = note_runners(s, 0, rung, error);
    }
    return status;
}

/* The middle of the race, since a minimum can be luck with where the caches put things. */
static double typical_ns(const struct runner *runner)
{
    return runner->raced ? dlb_quantile(runner->round_ns, runner->raced, 0.5)
                         : runner->score;
}

static struct runner *leader(const struct state *s)
{
    struct runner *best = NULL;
    for (int i = 0; i < s->runners; i++)
        if (!s->runner[i].out && (!best || typical_ns(&s->runner[i]) < typical_ns(best)))
            best = &s->runner[i];
    return best;
}

/* True when runner lost to best, by more than margin, in so many rounds that chance does
 * not explain it. */
static bool beaten(const struct runner *runner, const struct runner *best, double margin)
{
    int rounds = (int)dlb_min(runner->raced, best->raced), lost = 0;
    for (int r = 0; r < rounds; r++)
        lost += runner->round_ns[r] > best->round_ns[r] * (1 + margin);
    return 2 * lost > rounds && dlb_sign_test(lost, rounds) < RACE_P;
}

/* True when runner is as good as best, as far as the race can tell. */
static bool ties(const struct runner *runner, const struct runner *best)
{
    return typical_ns(runner) <= typical_ns(best) * (1 + TIE) && !beaten(runner, best, 0);
}

static int count_in(const struct state *s, bool tied)
{
    const struct runner *best = leader(s);
    int n = 0;
    for (int i = 0; i < s->runners; i++)
        n += !s->runner[i].out && (!tied || ties(&s->runner[i], best));
    return n;
}

/* One more round of those who are in, who stand at the front. */
static enum dlb_status race_round(struct state *s, int round, struct dlb_error *error)
{
    int all = s->runners, in = 0;
    for (int i = 0; i < all; i++)
        if (!s->runner[i].out) {
            struct runner swap = s->runner[in];
            s->runner[in++] = s->runner[i];
            s->runner[i] = swap;
        }
    s->runners = in;
    enum dlb_status status = take_round(s, round, error);
    s->runners = all;
    for (int i = 0; i < in && !status; i++)
        s->runner[i].round_ns[s->runner[i].raced++] = s->ns[i] * s->scale;
    return status;
}

static void drop_beaten(struct state *s)
{
    const struct runner *best = leader(s);
    for (int i = 0; i < s->runners; i++)
        if (!s->runner[i].out && &s->runner[i] != best &&
            beaten(&s->runner[i], best, TIE)) {
            s->runner[i].out = true;
            rest(s, s->runner[i].point);
        }
}

static enum dlb_status race(struct state *s, struct dlb_error *error)
{
    enum dlb_status status = DLB_OK;
    int n = affordable(s, FINALISTS, RACE_ROUNDS_MIN, 1);
    s->result->end = DLB_SEARCH_BUDGET;
    if (n < 2 && s->runners > 1)
        return DLB_OK;
    keep(s, (int)dlb_min(n > 1 ? n : 1, s->runners));
    for (int round = 0; round < RACE_ROUNDS_MAX && !status; round++) {
        if (stopped(s)) {
            s->result->end = DLB_SEARCH_INTERRUPTED;
            break;
        }
        if (count_in(s, false) == 1) {
            s->result->end = DLB_SEARCH_SURVIVOR;
            break;
        }
        if (round >= TIE_ROUNDS && count_in(s, false) == count_in(s, true)) {
            s->result->end = DLB_SEARCH_TIE;
            break;
        }
        if (round >= RACE_ROUNDS_MIN && over(s))
            break;
        status = race_round(s, round, error);
        if (!status && round + 1 >= RACE_ROUNDS_MIN)
            drop_beaten(s);
        if (round + 1 == RACE_ROUNDS_MAX)
            s->result->end = DLB_SEARCH_TIE;
    }
    return status ? status : note_runners(s, 0, -1, error);
}

/* The winner, and the best of the others behind it. */
static void choose(struct state *s)
{
    struct dlb_search_result *result = s->result;
    const struct runner *best = leader(s), *winner = best;
    for (int i = 0; i < s->runners; i++) {
        const struct runner *runner = &s->runner[i];
        if (!runner->out && runner->point < winner->point && ties(runner, best))
            winner = runner;
    }
    result->found = true;
    while (result->best_n < DLB_SEARCH_BEST && result->best_n < s->runners) {
        const struct runner *next = NULL;
        for (int i = 0; i < s->runners; i++) {
            bool taken = false;
            for (int k = 0; k < result->best_n; k++)
                taken |= result->best[k] == s->runner[i].point;
            if (!taken && (!next || typical_ns(&s->runner[i]) < typical_ns(next)))
                next = &s->runner[i];
        }
        if (!result->best_n)
            next = winner;
        result->best_ns[result->best_n] = typical_ns(next);
        result->best[result->best_n++] = next->point;
    }
}

enum dlb_status dlb_search_run(const struct dlb_search *search,
                               struct dlb_search_result *result, struct dlb_error *error)
{
    *result = (struct dlb_search_result){.end = DLB_SEARCH_BUDGET};
    int most = (int)dlb_min(search->points, search->most);
    size_t room = (size_t)dlb_max(1, most);
    struct state s = {
        .most = most,
        .search = search,
        .timings = search->timings,
        .result = result,
        .runner = calloc(room, sizeof *s.runner),
        .ns = calloc(room, sizeof *s.ns),
        .best_score = INFINITY,
        .canary = -1,
        .scale = 1,
    };
    enum dlb_status status = DLB_OK;
    if (!s.runner || !s.ns) {
        status = dlb_fail(error, DLB_NOMEM, "No memory is left for the search.");
        goto out;
    }
    s.start_ns = s.gained_ns = now(&s);
    s.deadline_ns = s.start_ns + search->seconds * 1e9;
    status = first_rung(&s, error);
    if (status || !s.runners)
        goto out;
    if (!stopped(&s))
        status = halve(&s, error);
    if (!status && !stopped(&s))
        status = race(&s, error);
    if (status)
        goto out;
    if (stopped(&s))
        result->end = DLB_SEARCH_INTERRUPTED;
    choose(&s);
out:
    if (s.runner)
        for (int i = 0; i < s.runners; i++)
            s.timings->rest(s.timings->context, s.runner[i].point);
    result->seconds = (now(&s) - s.start_ns) * 1e-9;
    free(s.runner);
    free(s.ns);
    return status;
}
