#include "judge/machines.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double much_lost = 1.5;

static enum dlb_status no_memory(struct dlb_error *error)
{
    return dlb_fail(error, DLB_NOMEM, "There is no memory left to compare.");
}

static int compare_problems(const struct dlb_case_key *a, const struct dlb_case_key *b)
{
    const char *const parts[][2] = {{a->op, b->op},
                                    {a->pass, b->pass},
                                    {a->shape, b->shape},
                                    {a->dtype, b->dtype},
                                    {a->accuracy, b->accuracy},
                                    {a->cache_state, b->cache_state}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        int order = strcmp(parts[i][0], parts[i][1]);
        if (order)
            return order;
    }
    return 0;
}

static int by_problem(const void *left, const void *right, void *context)
{
    const struct dlb_cases *cases = context;
    int a = *(const int *)left, b = *(const int *)right;
    int order = compare_problems(&cases->item[a].key, &cases->item[b].key);
    return order ? order : a - b;
}

static int by_time(const void *left, const void *right)
{
    double a = (*(const struct dlb_case_row *const *)left)->median_ns;
    double b = (*(const struct dlb_case_row *const *)right)->median_ns;
    return (a > b) - (a < b);
}

/* The row with the median time of a case on a side, or NULL. */
static const struct dlb_case_row *typical_row(const struct dlb_cases *cases, int item,
                                              int side)
{
    const struct dlb_case_row *row[DLB_CASE_RUNS_MAX];
    int n = 0;
    for (int i = cases->item[item].row; i >= 0; i = cases->row[i].next)
        if (cases->run[cases->row[i].run].side == side &&
            dlb_case_row_timed(&cases->row[i]))
            row[n++] = &cases->row[i];
    qsort(row, (size_t)n, sizeof *row, by_time);
    return n ? row[(n - 1) / 2] : NULL;
}

/* The fastest of the cases item[0..n) of one problem that impl was timed in. */
static const struct dlb_case_row *best_row(const struct dlb_cases *cases, const int *item,
                                           int n, const char *impl, int side, int threads)
{
    const struct dlb_case_row *best = NULL;
    for (int i = 0; i < n; i++) {
        const struct dlb_case_key *key = &cases->item[item[i]].key;
        if (strcmp(key->impl, impl) || (threads && key->threads != threads))
            continue;
        const struct dlb_case_row *row = typical_row(cases, item[i], side);
        if (row && (!best || row->median_ns < best->median_ns))
            best = row;
    }
    return best;
}

static const char *bound_of(const struct dlb_case_row *best,
                            const struct dlb_case_row *one)
{
    if (one && one != best && one->roof_frac > much_lost * best->roof_frac)
        return "synchronisation";
    return best->roof_bound;
}

static struct dlb_machine_view view_of(const struct dlb_cases *cases, const int *item,
                                       int n, const char *impl, int side)
{
    struct dlb_machine_view view = {.vs_onednn = NAN, .bound = ""};
    view.best = best_row(cases, item, n, impl, side, 0);
    if (!view.best)
        return view;
    view.one = best_row(cases, item, n, impl, side, 1);
    view.key = &cases->item[view.best->item].key;
    view.bound = bound_of(view.best, view.one);
    const struct dlb_case_row *onednn =
        strcmp(impl, "onednn")
            ? best_row(cases, item, n, "onednn", side, view.key->threads)
            : NULL;
    view.vs_onednn = view.best->speedup;
    if (isnan(view.vs_onednn) && onednn)
        view.vs_onednn = onednn->median_ns / view.best->median_ns;
    return view;
}

/* The implementation that both machines have, ours first. */
static const char *leading_impl(const struct dlb_cases *cases, const int *item, int n)
{
    static const char *const impls[] = {"native", "onednn", "naive"};
    const char *any = NULL;
    for (size_t i = 0; i < sizeof impls / sizeof *impls; i++) {
        bool base = best_row(cases, item, n, impls[i], DLB_BASE, 0);
        bool fresh = best_row(cases, item, n, impls[i], DLB_NEW, 0);
        if (base && fresh)
            return impls[i];
        any = !any && (base || fresh) ? impls[i] : any;
    }
    return any;
}

static struct dlb_machines_problem problem_of(const struct dlb_cases *cases,
                                              const int *item, int n, const char *impl)
{
    struct dlb_machines_problem problem = {.times = NAN, .roofs = NAN, .used = NAN};
    for (int side = 0; side < DLB_SIDES; side++)
        problem.side[side] = view_of(cases, item, n, impl, side);
    const struct dlb_case_row *base = problem.side[DLB_BASE].best;
    const struct dlb_case_row *fresh = problem.side[DLB_NEW].best;
    problem.key = base ? problem.side[DLB_BASE].key : problem.side[DLB_NEW].key;
    if (base && fresh) {
        problem.times = base->median_ns / fresh->median_ns;
        problem.roofs = fresh->roof_gflops / base->roof_gflops;
        problem.used = fresh->roof_frac / base->roof_frac;
    }
    return problem;
}

static bool is_shared(const struct dlb_machines_problem *problem)
{
    return problem->side[DLB_BASE].best && problem->side[DLB_NEW].best;
}

static int by_sharing(const void *left, const void *right)
{
    const struct dlb_machines_problem *a = left, *b = right;
    if (is_shared(a) != is_shared(b))
        return is_shared(a) ? -1 : 1;
    /* Keys lie in one array, in the order of the files. */
    return (a->key > b->key) - (a->key < b->key);
}

static struct dlb_machines_scaling *scaling_of(struct dlb_machines *machines,
                                               const struct dlb_case_key *key)
{
    for (int i = 0; i < machines->scalings; i++) {
        struct dlb_machines_scaling *scaling = &machines->scaling[i];
        if (scaling->op == key->op && scaling->pass == key->pass &&
            scaling->threads == key->threads)
            return scaling;
    }
    struct dlb_machines_scaling *grown =
        realloc(machines->scaling, (size_t)(machines->scalings + 1) * sizeof *grown);
    if (!grown)
        return NULL;
    machines->scaling = grown;
    grown[machines->scalings] = (struct dlb_machines_scaling){
        .op = key->op, .pass = key->pass, .threads = key->threads};
    return &grown[machines->scalings++];
}

/* Adds what the threads of a problem bring on each side; false without memory. */
static bool add_scaling(struct dlb_machines *machines, const int *item, int n,
                        const char *impl)
{
    const struct dlb_cases *cases = machines->cases;
    for (int i = 0; i < n; i++) {
        const struct dlb_case_key *key = &cases->item[item[i]].key;
        bool seen = strcmp(key->impl, impl) != 0 || key->threads == 1;
        for (int j = 0; j < i; j++)
            seen |= cases->item[item[j]].key.threads == key->threads &&
                    !strcmp(cases->item[item[j]].key.impl, impl);
        for (int side = 0; side < DLB_SIDES && !seen; side++) {
            const struct dlb_case_row *one = best_row(cases, item, n, impl, side, 1);
            const struct dlb_case_row *row =
                best_row(cases, item, n, impl, side, key->threads);
            if (!one || !row)
                continue;
            struct dlb_machines_scaling *scaling = scaling_of(machines, key);
            if (!scaling)
                return false;
            scaling->speedup[side] += log(one->median_ns / row->median_ns);
            scaling->problems[side]++;
        }
    }
    return true;
}

static int by_threads(const void *left, const void *right)
{
    const struct dlb_machines_scaling *a = left, *b = right;
    int op = strcmp(a->op, b->op), pass = strcmp(a->pass, b->pass);
    return op ? op : pass ? pass : a->threads - b->threads;
}

static void finish_scaling(struct dlb_machines *machines)
{
    for (int i = 0; i < machines->scalings; i++)
        for (int side = 0; side < DLB_SIDES; side++) {
            struct dlb_machines_scaling *scaling = &machines->scaling[i];
            scaling->speedup[side] =
                scaling->problems[side]
                    ? exp(scaling->speedup[side] / scaling->problems[side])
                    : NAN;
        }
    if (machines->scalings)
        qsort(machines->scaling, (size_t)machines->scalings, sizeof *machines->scaling,
              by_threads);
}

enum dlb_status dlb_machines_make(const struct dlb_cases *cases,
                                  struct dlb_machines *machines, struct dlb_error *error)
{
    enum dlb_status status = DLB_OK;
    size_t items = (size_t)dlb_max(1, cases->items);
    int *item = malloc(items * sizeof *item);
    *machines = (struct dlb_machines){.cases = cases};
    machines->problem = malloc(items * sizeof *machines->problem);
    if (!item || !machines->problem) {
        status = no_memory(error);
        goto out;
    }
    for (int i = 0; i < cases->items; i++)
        item[i] = i;
    for (int i = 0; i < cases->rows; i++)
        machines->mismatch |= !strcmp(cases->row[i].status, "mismatch");
    qsort_r(item, (size_t)cases->items, sizeof *item, by_problem, (void *)cases);
    for (int begin = 0, end; begin < cases->items && !status; begin = end) {
        for (end = begin + 1; end < cases->items; end++)
            if (compare_problems(&cases->item[item[begin]].key,
                                 &cases->item[item[end]].key))
                break;
        const char *impl = leading_impl(cases, item + begin, end - begin);
        if (!impl)
            continue;
        machines->problem[machines->problems] =
            problem_of(cases, item + begin, end - begin, impl);
        machines->shared += is_shared(&machines->problem[machines->problems++]);
        if (!add_scaling(machines, item + begin, end - begin, impl))
            status = no_memory(error);
    }
    if (!status && !machines->shared)
        status = dlb_fail(error, DLB_INVALID,
                          "BASE and NEW have no problem in common that both have a time "
                          "of; run both machines with the same suite.");
    if (machines->problems)
        qsort(machines->problem, (size_t)machines->problems, sizeof *machines->problem,
              by_sharing);
    finish_scaling(machines);
out:
    free(item);
    return status;
}

void dlb_machines_release(struct dlb_machines *machines)
{
    free(machines->problem);
    free(machines->scaling);
    *machines = (struct dlb_machines){0};
}
