#include "tune/space.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ALL_TAKEN = 300, CUT = 256 };

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

bool dlb_candidate_same(const struct dlb_candidate *a, const struct dlb_candidate *b)
{
    return a->algorithm == b->algorithm && !memcmp(a->tile, b->tile, sizeof a->tile);
}

int dlb_space_find(const struct dlb_space *space, const struct dlb_candidate *candidate)
{
    for (int i = 0; i < space->n; i++)
        if (dlb_candidate_same(&space->candidate[i], candidate))
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

static double unlike(const struct dlb_tile_def *tile, int a, int b)
{
    if (a == b)
        return 0;
    if (tile->names)
        return 1;
    return fabs(log2((double)dlb_max(1, a)) - log2((double)dlb_max(1, b)));
}

int dlb_space_nearest(const struct dlb_space *space, const struct dlb_op *op,
                      const struct dlb_candidate *candidate)
{
    double least = INFINITY;
    int nearest = -1;
    for (int i = 0; i < space->n; i++) {
        const struct dlb_candidate *point = &space->candidate[i];
        double distance = 0;
        if (point->algorithm != candidate->algorithm)
            continue;
        for (int t = 0; t < op->tiles_n; t++)
            distance += unlike(&op->tiles[t], point->tile[t], candidate->tile[t]);
        if (distance < least) {
            least = distance;
            nearest = i;
        }
    }
    return nearest;
}

/* Moves position up to order[to], where it lies behind; what lay between moves down. */
static int promote(int *order, int position, int to)
{
    int from = 0;
    while (order[from] != position)
        from++;
    if (from < to)
        return to;
    for (; from > to; from--)
        order[from] = order[from - 1];
    order[to] = position;
    return to + 1;
}

int dlb_space_order(const struct dlb_space *space, const struct dlb_op *op,
                    const struct dlb_candidate *fallback,
                    const struct dlb_candidate *seed, int seeds, int *order)
{
    int first = 0;
    dlb_space_rank(space, order);
    for (int i = -1; i < seeds; i++) {
        int position = i < 0 ? dlb_space_find(space, fallback)
                             : dlb_space_nearest(space, op, &seed[i]);
        if (position >= 0)
            first = promote(order, position, first);
    }
    for (int algorithm = 0; algorithm < op->algorithms_n; algorithm++)
        for (int i = first; i < space->n; i++)
            if (space->candidate[order[i]].algorithm == algorithm) {
                first = promote(order, order[i], first);
                break;
            }
    return first;
}

int dlb_space_most(int points)
{
    return points <= ALL_TAKEN ? points : CUT;
}
