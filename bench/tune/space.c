#include "tune/space.h"

#include <stdlib.h>
#include <string.h>

struct build {
    const struct dlb_op *op;
    const struct dlb_problem *problem;
    const struct dlb_target *target;
    struct dlb_rates rates;
    struct dlb_space *space;
    int room;
    bool out_of_memory;
};

static void count_refusal(struct dlb_space *space, const char *reason)
{
    for (int i = 0; i < space->refusals_n; i++) {
        if (!strcmp(space->refusal[i].reason, reason)) {
            space->refusal[i].count++;
            return;
        }
    }
    if (space->refusals_n < DLB_REFUSALS_MAX)
        space->refusal[space->refusals_n++] = (struct dlb_refusal){reason, 1};
}

static bool grow(struct build *build)
{
    struct dlb_space *space = build->space;
    if (space->n < build->room)
        return true;
    int room = build->room ? 2 * build->room : 128;
    struct dlb_candidate *candidate =
        realloc(space->candidate, (size_t)room * sizeof *candidate);
    if (candidate)
        space->candidate = candidate;
    double *model_ns = realloc(space->model_ns, (size_t)room * sizeof *model_ns);
    if (model_ns)
        space->model_ns = model_ns;
    if (!candidate || !model_ns)
        return false;
    build->room = room;
    return true;
}

static bool take(void *context, const struct dlb_candidate *candidate)
{
    struct build *build = context;
    struct dlb_space *space = build->space;
    space->raw++;
    const char *reason = build->op->refuse(build->problem, build->target, candidate);
    if (reason) {
        count_refusal(space, reason);
        return true;
    }
    if (dlb_space_find(space, candidate) >= 0) {
        space->duplicates++;
        return true;
    }
    if (!grow(build)) {
        build->out_of_memory = true;
        return false;
    }
    space->candidate[space->n] = *candidate;
    space->model_ns[space->n] =
        build->op->estimate(build->problem, build->target, &build->rates, candidate);
    space->n++;
    return true;
}

enum dlb_status dlb_space_make(const struct dlb_op *op, const struct dlb_problem *problem,
                               const struct dlb_target *target,
                               const struct dlb_rates *rates, struct dlb_space *space,
                               struct dlb_error *error)
{
    *space = (struct dlb_space){0};
    struct build build = {.op = op, .problem = problem, .target = target, .space = space};
    if (rates)
        build.rates = *rates;
    op->enumerate(problem, target, take, &build);
    if (build.out_of_memory) {
        dlb_space_release(space);
        return dlb_fail(error, DLB_NOMEM, "No memory is left for the search space.");
    }
    return DLB_OK;
}

void dlb_space_release(struct dlb_space *space)
{
    free(space->candidate);
    free(space->model_ns);
    *space = (struct dlb_space){0};
}

static bool same(const struct dlb_candidate *a, const struct dlb_candidate *b)
{
    return a->algorithm == b->algorithm && !memcmp(a->tile, b->tile, sizeof a->tile);
}

int dlb_space_find(const struct dlb_space *space, const struct dlb_candidate *candidate)
{
    for (int i = 0; i < space->n; i++)
        if (same(&space->candidate[i], candidate))
            return i;
    return -1;
}

void dlb_space_rank(const struct dlb_space *space, int *order)
{
    /* Insertion keeps ties in the order of enumeration; spaces hold a few hundred points.
     */
    for (int i = 0; i < space->n; i++) {
        int at = i;
        for (; at > 0 && space->model_ns[order[at - 1]] > space->model_ns[i]; at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
}
