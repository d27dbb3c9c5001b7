#include "judge/confirm.h"

#include "exit.h"
#include "options.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ANCHORS = 4, ARGUMENTS = 32 + 2 * DLB_SHAPES_MAX, NAMES_MAX = 10000 };

/* A case to run again, as its newest row of NEW was run. */
struct again {
    const struct dlb_case_key *key;
    const struct dlb_case_row *row; /* of our own implementation, else of the case */
    char impls[32];
    bool done; /* it is in a group already */
};

struct work {
    struct dlb_comparison *comparison;
    const struct dlb_confirm *confirm;
    struct again *again;
    int n, suspects;
    char **folder;
    int folders;
};

static enum dlb_status no_memory(struct dlb_error *error)
{
    return dlb_fail(error, DLB_NOMEM, "There is no memory left to run cases again.");
}

static bool is_suspect(const struct dlb_compared *compared)
{
    return compared->verdict == DLB_VERDICT_REGRESSION ||
           compared->verdict == DLB_VERDICT_SUSPECT;
}

static const struct dlb_case_row *newest_row(const struct dlb_cases *cases, int item)
{
    const struct dlb_case_row *newest = NULL;
    for (int i = item < 0 ? -1 : cases->item[item].row; i >= 0; i = cases->row[i].next)
        if (cases->run[cases->row[i].run].side == DLB_NEW)
            newest = &cases->row[i];
    return newest;
}

/* What runs with a case: every implementation that did in NEW. */
static struct again again_of(const struct dlb_cases *cases, int item)
{
    static const char *const impls[] = {"native", "onednn", "naive"};
    struct dlb_case_key key = cases->item[item].key;
    struct again again = {.key = &cases->item[item].key, .row = newest_row(cases, item)};
    for (size_t i = 0; i < sizeof impls / sizeof *impls; i++) {
        size_t used = strlen(again.impls);
        key.impl = impls[i];
        const struct dlb_case_row *row = newest_row(cases, dlb_cases_find(cases, &key));
        if (!row)
            continue;
        if (i == 0)
            again.row = row;
        snprintf(again.impls + used, sizeof again.impls - used, "%s%s", used ? "," : "",
                 impls[i]);
    }
    return again;
}

/* The candidate to ask for: none where it is what the program takes by itself. */
static const char *candidate_of(const struct again *again)
{
    return strcmp(again->row->tuned_from, "default") ? again->row->candidate : "";
}

/* Instruction sets are ours only in rows of ours. */
static const char *isa_of(const struct again *again)
{
    return strncmp(again->impls, "native", 6) ? "" : again->row->isa;
}

/* One command line can name both. */
static bool same_group(const struct again *a, const struct again *b)
{
    return !strcmp(a->key->op, b->key->op) && !strcmp(a->key->pass, b->key->pass) &&
           !strcmp(a->key->accuracy, b->key->accuracy) &&
           !strcmp(a->key->cache_state, b->key->cache_state) &&
           !strcmp(a->key->thread_set, b->key->thread_set) &&
           !strcmp(a->impls, b->impls) && !strcmp(isa_of(a), isa_of(b)) &&
           !strcmp(candidate_of(a), candidate_of(b));
}

static bool is_listed(const struct work *work, const struct again *again)
{
    for (int i = 0; i < work->n; i++)
        if (same_group(&work->again[i], again) &&
            !strcmp(work->again[i].key->shape, again->key->shape))
            return true;
    return false;
}

static void list(struct work *work, const struct again *again)
{
    if (again->row && !is_listed(work, again))
        work->again[work->n++] = *again;
}

/* The quickest cases that are not suspected, and share a command line with one that is. */
static void list_anchors(struct work *work)
{
    const struct dlb_comparison *comparison = work->comparison;
    int suspects = work->n;
    for (int anchor = 0; anchor < ANCHORS; anchor++) {
        struct again best = {0};
        for (int i = 0; i < comparison->n; i++) {
            const struct dlb_compared *compared = &comparison->compared[i];
            if (compared->verdict != DLB_VERDICT_SAME)
                continue;
            struct again again = again_of(&comparison->cases, compared->item);
            bool fits = again.row && dlb_case_row_timed(again.row) &&
                        (!best.row || again.row->median_ns < best.row->median_ns);
            bool together = false;
            for (int s = 0; s < suspects && fits; s++)
                together |= same_group(&work->again[s], &again);
            if (together && !is_listed(work, &again))
                best = again;
        }
        list(work, &best);
    }
}

/* <folder of NEW>-confirm-<number>, not there yet; NULL without memory. */
static char *fresh_folder(const struct work *work, struct dlb_error *error)
{
    const struct dlb_cases *cases = &work->comparison->cases;
    const char *results = NULL;
    char *path = NULL, *real;
    for (int i = 0; i < cases->files && !results; i++)
        if (cases->file[i].side == DLB_NEW)
            results = cases->file[i].results;
    const char *slash = strrchr(results, '/');
    size_t length = slash ? (size_t)(slash - results) : 0;
    while (length && results[length - 1] == '/')
        length--;
    char *folder = strndup(length ? results : ".", length ? length : 1);
    real = folder && !strcmp(folder, ".") ? realpath(folder, NULL) : NULL;
    for (int n = 1; folder && n < NAMES_MAX; n++) {
        if (asprintf(&path, "%s-confirm-%d", real ? real : folder, n) < 0)
            path = NULL;
        if (!path || access(path, F_OK))
            break;
        free(path);
        path = NULL;
    }
    free(folder);
    free(real);
    if (!path)
        no_memory(error);
    return path;
}

/* Runs the group of again[first]; marks it done. */
static enum dlb_status run_group(struct work *work, int first, struct dlb_error *error)
{
    const struct again *leader = &work->again[first];
    const struct dlb_confirm *confirm = work->confirm;
    const char *argv[ARGUMENTS];
    char seed[24];
    int n = 0, shapes = 0, exit_status = DLB_EXIT_OK;
    char *folder = fresh_folder(work, error);
    if (!folder)
        return DLB_NOMEM;
    char **grown = realloc(work->folder, (size_t)(work->folders + 1) * sizeof *grown);
    if (!grown) {
        free(folder);
        return no_memory(error);
    }
    work->folder = grown;
    snprintf(seed, sizeof seed, "%d", work->folders + 1);
    const struct {
        const char *option, *value;
    } fixed[] = {{"--op", leader->key->op},
                 {"--pass", leader->key->pass},
                 {"--threads", leader->key->thread_set},
                 {"--impl", leader->impls},
                 {"--accuracy", leader->key->accuracy},
                 {"--cache-state", leader->key->cache_state},
                 {"--isa", isa_of(leader)},
                 {"--candidate", candidate_of(leader)},
                 {"--seed", seed},
                 {"--out", folder}};
    argv[n++] = "./dlbench";
    argv[n++] = "--quiet";
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) {
        if (!*fixed[i].value)
            continue;
        argv[n++] = fixed[i].option;
        argv[n++] = fixed[i].value;
    }
    for (int i = first; i < work->n && shapes < DLB_SHAPES_MAX; i++) {
        if (work->again[i].done || !same_group(leader, &work->again[i]))
            continue;
        argv[n++] = "--shape";
        argv[n++] = work->again[i].key->shape;
        work->again[i].done = true;
        shapes++;
    }
    argv[n] = NULL;
    enum dlb_status status =
        confirm->rerun(confirm->context, (char *const *)argv, &exit_status, error);
    if (!status && exit_status != DLB_EXIT_OK && exit_status != DLB_EXIT_NOISY &&
        exit_status != DLB_EXIT_MISMATCH)
        status = exit_status == DLB_EXIT_INCOMPLETE && confirm->stop && *confirm->stop
                     ? DLB_INTERRUPTED
                     : dlb_fail(error, DLB_FAULT,
                                "A re-run into %s ended with exit status %d; the "
                                "suspects are not confirmed.",
                                folder, exit_status);
    if (status)
        free(folder);
    else
        work->folder[work->folders++] = folder;
    return status;
}

static enum dlb_status run_round(struct work *work, struct dlb_error *error)
{
    enum dlb_status status = DLB_OK;
    for (int i = 0; i < work->n; i++)
        work->again[i].done = false;
    for (int i = 0; i < work->n && !status; i++) {
        if (work->again[i].done)
            continue;
        status = work->confirm->stop && *work->confirm->stop ? DLB_INTERRUPTED
                                                             : run_group(work, i, error);
    }
    return status;
}

/* What the rounds say of a suspect. */
static void settle(struct dlb_compared *suspect, const struct dlb_comparison *rounds,
                   const struct dlb_case_key *key)
{
    int item = dlb_cases_find(&rounds->cases, key);
    const struct dlb_compared *found = NULL;
    for (int i = 0; i < rounds->n && !found; i++)
        if (rounds->compared[i].item == item)
            found = &rounds->compared[i];
    suspect->verdict = DLB_VERDICT_SUSPECT;
    if (!found || found->verdict == DLB_VERDICT_NOISY ||
        found->verdict == DLB_VERDICT_LOST) {
        suspect->reason = "could not be timed again without disturbance";
        return;
    }
    if (found->gate >= 0)
        suspect->rerun_ratio = rounds->gate[found->gate].ratio;
    if (rounds->found.environment) {
        suspect->reason = "the machine has changed since NEW was measured";
        return;
    }
    suspect->verdict = found->verdict;
    suspect->reason =
        found->verdict == DLB_VERDICT_REGRESSION ? "holds in the re-runs"
        : found->verdict == DLB_VERDICT_SAME || found->verdict == DLB_VERDICT_FASTER
            ? "does not hold in the re-runs"
            : NULL;
}

static enum dlb_status judge_rounds(struct work *work, struct dlb_error *error)
{
    struct dlb_comparison *comparison = work->comparison, rounds;
    struct dlb_comparison_rules rules = work->confirm->rules;
    rules.noise = &comparison->found.noise;
    enum dlb_status status =
        dlb_comparison_read(&rounds, work->confirm->base, work->confirm->bases,
                            (const char *const *)work->folder, work->folders, error);
    if (!status)
        status = dlb_comparison_judge(&rounds, &rules, error);
    for (int i = 0; i < comparison->n && !status; i++) {
        struct dlb_compared *compared = &comparison->compared[i];
        if (is_suspect(compared))
            settle(compared, &rounds, &comparison->cases.item[compared->item].key);
    }
    dlb_comparison_release(&rounds);
    return status;
}

enum dlb_status dlb_confirm_run(struct dlb_comparison *comparison,
                                const struct dlb_confirm *confirm,
                                struct dlb_error *error)
{
    struct work work = {.comparison = comparison, .confirm = confirm};
    enum dlb_status status = DLB_OK;
    for (int i = 0; i < comparison->n; i++)
        work.suspects += is_suspect(&comparison->compared[i]);
    if (!work.suspects)
        return DLB_OK;
    work.again = calloc((size_t)work.suspects + ANCHORS, sizeof *work.again);
    if (!work.again)
        return no_memory(error);
    for (int i = 0; i < comparison->n; i++) {
        struct again again;
        if (!is_suspect(&comparison->compared[i]))
            continue;
        again = again_of(&comparison->cases, comparison->compared[i].item);
        list(&work, &again);
    }
    list_anchors(&work);
    for (int round = 0; round < confirm->rounds && !status; round++) {
        if (confirm->notes)
            fprintf(confirm->notes, "running %d case%s again, round %d of %d\n", work.n,
                    work.n == 1 ? "" : "s", round + 1, confirm->rounds);
        status = run_round(&work, error);
    }
    if (!status)
        status = judge_rounds(&work, error);
    if (!status)
        dlb_comparison_count(comparison);
    for (int i = 0; i < work.folders; i++)
        free(work.folder[i]);
    free(work.folder);
    free(work.again);
    return status;
}
