/*
 * The native side of a contest: the candidate that the command line names, the winner of a
 * search, what the tuning cache knows, or the default.
 */
#include "measure/contest_internal.h"

#include "measure/timer.h"
#include "tune/live.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Without --sweep: what racing a stale entry, or tuning anew after a wrong one, may take. */
static const double ASIDE_SECONDS = 3;
enum { FRAMED_MOST = 32, SEEDS_MAX = 1 + 3 * DLB_SEARCH_BEST };

/* A search, and whom it tells what became of its points. */
struct hunt {
    struct dlb_contest *contest;
    const struct dlb_space *space;
};

static enum dlb_status note_trial(void *context, const struct dlb_fate *fate,
                                  struct dlb_error *error)
{
    const struct hunt *hunt = context;
    const struct dlb_contest *contest = hunt->contest;
    const struct dlb_op *op = contest->item->entry->op;
    const struct dlb_problem *problem = &contest->item->problem;
    char shape[DLB_SHAPE_MAX], tiles[DLB_SHAPE_MAX];
    if (!contest->session->run)
        return DLB_OK;
    dlb_descriptor_format(op, problem, shape);
    dlb_candidate_format(op, &hunt->space->candidate[fate->point], tiles);
    struct dlb_trial trial = {
        .op = op->name,
        .pass = dlb_pass_names[problem->pass],
        .shape = shape,
        .thread_set = contest->station->set.name,
        .candidate = tiles,
        .outcome = fate->outcome,
        .reason = fate->reason,
        .rung = fate->rung,
        .samples = fate->samples,
        .best_ns = fate->best_ns,
        .model_ns = hunt->space->model_ns[fate->point],
    };
    return dlb_run_trial(contest->session->run, &trial, error);
}

/* What the search may take of the contest's time: half of what measuring leaves. */
static double search_seconds(const struct dlb_contest *contest)
{
    double left = (contest->deadline_ns - dlb_clock_ns()) * 1e-9;
    double fixed =
        dlb_session_fixed_seconds(contest->session, contest->item, contest->station);
    return fmax(0.1, fmax(left - fixed, left / 2) / 2);
}

/* --check --sweep: every legal candidate is verified, none is timed. */
static enum dlb_status check_space(struct dlb_contest *contest, struct dlb_error *error)
{
    struct dlb_session *session = contest->session;
    struct dlb_side *side = &contest->side[DLB_IMPL_NATIVE];
    struct dlb_space space;
    enum dlb_status status = dlb_space_make(
        contest->item->entry->op, &contest->item->problem, &contest->station->target,
        &contest->station->rates, &space, error);
    side->tuned_from = "default";
    for (int i = 0; i < space.n && !status && side->outcome != DLB_OUTCOME_MISMATCH &&
                    !dlb_session_stopped(session);
         i++) {
        struct dlb_error why = {0};
        side->candidate = space.candidate[i];
        dlb_plan_release(side->plan);
        side->plan = NULL;
        if (contest->item->entry->op->plan(&contest->item->problem,
                                           &contest->station->target, &side->candidate,
                                           &side->plan, &why))
            continue;
        status = dlb_side_verify(contest, side, error);
        session->candidates_tried++;
    }
    dlb_space_release(&space);
    return status;
}

/* The search of a contest. */
struct quest {
    struct dlb_candidate seed[SEEDS_MAX];
    int seeds;
    bool seeds_only;
    int most; /* 0: by the size of the space */
    double seconds;
    const char *tuned_from; /* what its winner is said to come from */
};

static struct dlb_cache_key key_on(const struct dlb_contest *contest,
                                   const struct dlb_station *station)
{
    return (struct dlb_cache_key){
        .op = contest->item->entry->op,
        .problem = &contest->item->problem,
        .cache_state = dlb_cache_state_names[contest->session->cache_state],
        .thread_set = station->set.name,
        .threads = station->set.threads,
    };
}

/* What the cache knows of this contest, without what has become illegal. */
static bool find_tuned(const struct dlb_contest *contest, struct dlb_tuned *tuned)
{
    struct dlb_cache_key key = key_on(contest, contest->station);
    int n = 0;
    if (!dlb_cache_find(contest->session->cache, &key, tuned))
        return false;
    for (int i = 0; i < tuned->best_n; i++)
        if (!key.op->refuse(key.problem, &contest->station->target, &tuned->best[i])) {
            tuned->best_ns[n] = tuned->best_ns[i];
            tuned->best[n++] = tuned->best[i];
        }
    tuned->best_n = n;
    return n > 0;
}

static void add_seeds(struct quest *quest, const struct dlb_tuned *tuned)
{
    for (int i = 0; i < tuned->best_n && quest->seeds < SEEDS_MAX; i++)
        quest->seed[quest->seeds++] = tuned->best[i];
}

/*
 * Where to begin: what was found for this problem before, what won for the problem that is
 * most like it, and, between the fewest threads and the most, the best of those two: blocks
 * are tuned there, and in between it is the few best that are raced.
 */
static void plan_search(const struct dlb_contest *contest, const struct dlb_tuned *known,
                        struct quest *quest)
{
    const struct dlb_session *session = contest->session;
    const struct dlb_station *narrow = &session->station[session->narrowest],
                             *wide = &session->station[session->widest];
    struct dlb_cache_key key = key_on(contest, contest->station);
    add_seeds(quest, known);
    if (dlb_cache_nearest(session->cache, &key, &quest->seed[quest->seeds]))
        quest->seeds++;
    if (contest->station == narrow || contest->station == wide)
        return;
    struct dlb_cache_key narrow_key = key_on(contest, narrow),
                         wide_key = key_on(contest, wide);
    struct dlb_tuned few, all;
    if (!dlb_cache_find(session->cache, &narrow_key, &few) ||
        !dlb_cache_find(session->cache, &wide_key, &all))
        return;
    add_seeds(quest, &few);
    add_seeds(quest, &all);
    quest->most = FRAMED_MOST;
}

/* A cache that cannot be written is said once, and done without. */
static void excuse(struct dlb_session *session, enum dlb_status status,
                   const struct dlb_error *error)
{
    if (!status || session->cache_excused)
        return;
    session->cache_excused = true;
    dlb_progress_line(session->progress, session->io.out,
                      "tuning cache: what is tuned is not kept: %s", error->text);
}

static void store(struct dlb_contest *contest, const struct dlb_space *space,
                  const struct dlb_search_result *result)
{
    struct dlb_session *session = contest->session;
    struct dlb_cache_key key = key_on(contest, contest->station);
    struct dlb_tuned tuned = {.best_n = result->best_n,
                              .tried = result->timed,
                              .legal = space->n,
                              .seconds = result->seconds};
    struct dlb_tuned known;
    struct dlb_error why = {0};
    /* The best of a search that was cut short may be worse than what was known. */
    if (result->end == DLB_SEARCH_INTERRUPTED && find_tuned(contest, &known))
        return;
    for (int i = 0; i < result->best_n; i++) {
        tuned.best[i] = space->candidate[result->best[i]];
        tuned.best_ns[i] = result->best_ns[i];
    }
    excuse(session, dlb_cache_store(session->cache, &key, &tuned, &why), &why);
}

/* Searches for the native candidate; side->plan stays NULL. */
static enum dlb_status search(struct dlb_contest *contest, const struct quest *quest,
                              struct dlb_error *error)
{
    struct dlb_session *session = contest->session;
    struct dlb_side *side = &contest->side[DLB_IMPL_NATIVE];
    const struct dlb_operator *entry = contest->item->entry;
    struct dlb_search_result result;
    struct dlb_live_wrong first;
    struct dlb_space space = {0};
    enum dlb_status status =
        dlb_space_make(entry->op, &contest->item->problem, &contest->station->target,
                       &contest->station->rates, &space, error);
    if (status || !space.n)
        goto out;
    struct hunt hunt = {contest, &space};
    struct dlb_live_search live = {
        .setup = {.entry = entry,
                  .problem = &contest->item->problem,
                  .target = &contest->station->target,
                  .space = &space,
                  .expected = contest->expected,
                  .buffers = contest->buffers,
                  .pool = contest->pool,
                  .determinism = session->options->check_determinism},
        .seed = quest->seed,
        .seeds = quest->seeds,
        .seeds_only = quest->seeds_only,
        .most = quest->most,
        .seconds = quest->seconds,
        .stop = session->io.stop,
        .note = note_trial,
        .context = &hunt,
    };
    status = dlb_live_search(&live, &result, &first, error);
    if (status)
        goto out;
    session->candidates_tried += result.timed;
    if (result.mismatched) {
        struct dlb_side wrong = {
            .impl = DLB_IMPL_NATIVE, .candidate = first.candidate, .check = first.check};
        dlb_side_condemn(contest, &wrong);
        session->mismatches += result.mismatched - 1;
        if (!result.found) {
            wrong.checked = true;
            wrong.tuned_from = quest->tuned_from;
            *side = wrong;
        }
    }
    if (result.found) {
        side->candidate = space.candidate[result.best[0]];
        side->tuned_from = quest->tuned_from;
        store(contest, &space, &result);
    }
out:
    dlb_space_release(&space);
    return status;
}

/* Plans side->candidate and verifies it; a plan that cannot be made is an outcome. */
static enum dlb_status ready_native(struct dlb_contest *contest, struct dlb_side *side,
                                    struct dlb_error *error)
{
    struct dlb_error why = {0};
    enum dlb_status status =
        contest->item->entry->op->plan(&contest->item->problem, &contest->station->target,
                                       &side->candidate, &side->plan, &why);
    if (status == DLB_UNSUPPORTED) {
        dlb_side_dismiss(side, DLB_OUTCOME_UNSUPPORTED, why.text);
        return DLB_OK;
    }
    if (status == DLB_NOMEM) {
        dlb_side_dismiss(side, DLB_OUTCOME_SKIPPED, why.text);
        return DLB_OK;
    }
    if (status)
        return dlb_fail(error, status, "%s", why.text);
    return dlb_side_verify(contest, side, error);
}

/* A winner that no longer verifies: the entry is taken back, and the problem tuned anew. */
static enum dlb_status tune_anew(struct dlb_contest *contest, struct dlb_error *error)
{
    struct dlb_side *side = &contest->side[DLB_IMPL_NATIVE];
    struct dlb_cache_key key = key_on(contest, contest->station);
    struct quest quest = {.seconds = fmin(ASIDE_SECONDS, search_seconds(contest)),
                          .tuned_from = "search"};
    struct dlb_error why = {0};
    excuse(contest->session, dlb_cache_drop(contest->session->cache, &key, &why), &why);
    dlb_plan_release(side->plan);
    *side = (struct dlb_side){.impl = DLB_IMPL_NATIVE, .tuned_from = "default"};
    key.op->fallback(key.problem, &contest->station->target, &side->candidate);
    enum dlb_status status = search(contest, &quest, error);
    if (!status && side->outcome != DLB_OUTCOME_MISMATCH)
        status = ready_native(contest, side, error);
    return status;
}

/* The tuned candidate, or the default where nothing is known and nothing is searched. */
static enum dlb_status choose(struct dlb_contest *contest, struct dlb_error *error)
{
    const struct dlb_session *session = contest->session;
    struct dlb_side *side = &contest->side[DLB_IMPL_NATIVE];
    const struct dlb_op *op = contest->item->entry->op;
    struct dlb_tuned known;
    struct quest quest = {.seconds = search_seconds(contest), .tuned_from = "search"};
    enum dlb_status status = DLB_OK;
    op->fallback(&contest->item->problem, &contest->station->target, &side->candidate);
    side->tuned_from = "default";
    bool tuned = find_tuned(contest, &known);
    if (session->options->sweep) {
        plan_search(contest, &known, &quest);
        status = search(contest, &quest, error);
    } else if (tuned && known.stale) {
        add_seeds(&quest, &known);
        quest.seeds_only = true;
        quest.seconds = fmin(ASIDE_SECONDS, quest.seconds);
        quest.tuned_from = "cache";
        status = search(contest, &quest, error);
    } else if (tuned) {
        side->candidate = known.best[0];
        side->tuned_from = "cache";
    }
    if (status || side->outcome == DLB_OUTCOME_MISMATCH)
        return status;
    status = ready_native(contest, side, error);
    if (!status && side->outcome == DLB_OUTCOME_MISMATCH &&
        !strcmp(side->tuned_from, "cache"))
        status = tune_anew(contest, error);
    return status;
}

/* The candidate that the command line names. */
static enum dlb_status take_named(struct dlb_contest *contest, struct dlb_error *error)
{
    struct dlb_side *side = &contest->side[DLB_IMPL_NATIVE];
    const struct dlb_op *op = contest->item->entry->op;
    enum dlb_status status = dlb_candidate_parse(op, contest->session->options->candidate,
                                                 &side->candidate, error);
    side->tuned_from = "option";
    if (status)
        return status;
    const char *refused =
        op->refuse(&contest->item->problem, &contest->station->target, &side->candidate);
    if (!refused)
        return ready_native(contest, side, error);
    dlb_side_dismiss(side, DLB_OUTCOME_UNSUPPORTED, refused);
    return DLB_OK;
}

enum dlb_status dlb_contest_native(struct dlb_contest *contest, struct dlb_error *error)
{
    const struct dlb_options *options = contest->session->options;
    const struct dlb_op *op = contest->item->entry->op;
    struct dlb_side *side = &contest->side[DLB_IMPL_NATIVE], *untuned = &contest->untuned;
    enum dlb_status status = options->candidate ? take_named(contest, error)
                             : options->check && options->sweep
                                 ? check_space(contest, error)
                                 : choose(contest, error);
    if (!status && options->aa && side->outcome == DLB_OUTCOME_OK) {
        /* The same plan, since another one lies elsewhere in memory: a real difference.
         */
        contest->twin = *side;
        contest->twin.tuned_from = "twin";
        return DLB_OK;
    }
    if (status || side->outcome != DLB_OUTCOME_OK || options->check || !options->sweep)
        return status;
    op->fallback(&contest->item->problem, &contest->station->target, &untuned->candidate);
    contest->default_won = dlb_candidate_same(&untuned->candidate, &side->candidate);
    if (contest->default_won)
        return DLB_OK;
    untuned->tuned_from = "default";
    return ready_native(contest, untuned, error);
}
