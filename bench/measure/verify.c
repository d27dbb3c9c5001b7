/*
 * Element by element, without norms: a norm hides single wrong elements.  Where the
 * bounds come from stands at the head of expected.c.
 */
#include "measure/verify.h"

#include "measure/expected.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const double ZEROS_MAX = 0.30;

const char *const dlb_outcome_names[DLB_OUTCOME_COUNT] = {
    [DLB_OUTCOME_OK] = "ok",
    [DLB_OUTCOME_MISMATCH] = "mismatch",
    [DLB_OUTCOME_UNSUPPORTED] = "unsupported",
    [DLB_OUTCOME_SKIPPED] = "skipped",
    [DLB_OUTCOME_MISTRUSTED] = "mistrusted",
    [DLB_OUTCOME_NOISY] = "noisy",
};

static const char *const fill_names[DLB_FILL_KINDS] = {"exact", "dense"};

/* What one thread found in its share. */
struct finding {
    _Alignas(DLB_CACHE_LINE) int64_t wrong; /* elements */
    int64_t index;                          /* of the worst */
    double excess;                          /* of the worst over its bound */
    double max_abs, max_rel, max_bound;
};

struct comparison {
    int64_t elements;
    const float *got, *expected, *bound;
    bool partial;            /* expected values that are NaN are not known */
    struct finding *finding; /* by rank */
};

static void compare_share(void *context, const struct dlb_team *team)
{
    const struct comparison *c = context;
    struct finding f = {.index = -1, .excess = -1};
    int64_t begin, end;
    dlb_share(c->elements, team->rank, team->size, &begin, &end);
    float max_abs = 0, max_rel = 0, max_bound = 0;
    for (int64_t i = begin; i < end; i++) {
        float expected = c->expected[i], bound = c->bound[i];
        if (c->partial && isnan(expected))
            continue;
        float error = fabsf(c->got[i] - expected), size = fabsf(expected);
        max_abs = error > max_abs ? error : max_abs;
        max_bound = bound > max_bound ? bound : max_bound;
        if (error > max_rel * size && size > 0)
            max_rel = error / size;
        if (error <= bound || c->got[i] == expected) /* infinities too */
            continue;
        double excess = isnan(error) ? INFINITY : (double)error - bound;
        f.wrong++;
        if (excess > f.excess) {
            f.excess = excess;
            f.index = i;
        }
    }
    f.max_abs = max_abs;
    f.max_rel = max_rel;
    f.max_bound = max_bound;
    c->finding[team->rank] = f;
}

static void compare_bits_share(void *context, const struct dlb_team *team)
{
    const struct comparison *c = context;
    struct finding f = {.index = -1, .excess = -1};
    int64_t begin, end;
    dlb_share(c->elements, team->rank, team->size, &begin, &end);
    for (int64_t i = begin; i < end; i++)
        if (memcmp(&c->got[i], &c->expected[i], sizeof(float))) {
            if (!f.wrong++) {
                f.index = i;
                f.excess = 0;
            }
        }
    c->finding[team->rank] = f;
}

/* Runs fn over the pool and joins the findings; equals keep the lowest index. */
static enum dlb_status compare(struct dlb_pool *pool, dlb_team_fn *fn,
                               struct comparison *comparison, struct finding *joined,
                               struct dlb_error *error)
{
    int threads = dlb_pool_threads(pool);
    comparison->finding = dlb_alloc((size_t)threads * sizeof *comparison->finding);
    if (!comparison->finding)
        return dlb_fail(error, DLB_NOMEM, "No memory to compare results.");
    dlb_pool_run(pool, fn, comparison);
    *joined = (struct finding){.index = -1, .excess = -1};
    for (int rank = 0; rank < threads; rank++) {
        const struct finding *f = &comparison->finding[rank];
        joined->wrong += f->wrong;
        if (f->excess > joined->excess) {
            joined->excess = f->excess;
            joined->index = f->index;
        }
        joined->max_abs = fmax(joined->max_abs, f->max_abs);
        joined->max_rel = fmax(joined->max_rel, f->max_rel);
        joined->max_bound = fmax(joined->max_bound, f->max_bound);
    }
    dlb_free(comparison->finding);
    return DLB_OK;
}

static const char *number(char text[32], double value)
{
    if (isnan(value))
        snprintf(text, 32, "NaN");
    else
        snprintf(text, 32, "%.9g", value);
    return text;
}

static void mismatch(struct dlb_check *check, const char *fill)
{
    check->outcome = DLB_OUTCOME_MISMATCH;
    check->fill = fill;
}

static bool guards_hold(const struct dlb_buffers *buffers, enum dlb_fill_kind kind,
                        struct dlb_check *check)
{
    int t;
    int64_t offset;
    if (dlb_buffers_guarded(buffers, &t, &offset))
        return true;
    mismatch(check, fill_names[kind]);
    snprintf(check->reason, sizeof check->reason, "write %s of %s by %lld bytes",
             offset < 0 ? "before the start" : "past the end", buffers->tensor[t].name,
             (long long)(offset < 0 ? -offset : offset + 1));
    return false;
}

/* Whether fetch has brought tensor t. */
static bool is_fetched(const struct dlb_expected *expected, const struct dlb_plan *plan,
                       int t)
{
    enum dlb_role role = expected->tensor[t].role;
    return role == DLB_OUTPUT || (role == DLB_KEPT && plan->fetches_kept);
}

/* Guards first: what lies beside an output says more than what is wrong in it. */
static enum dlb_status judge(const struct dlb_expected *expected, enum dlb_fill_kind kind,
                             const struct dlb_buffers *buffers,
                             const struct dlb_plan *plan, struct dlb_pool *pool,
                             struct dlb_check *check, struct dlb_error *error)
{
    if (!guards_hold(buffers, kind, check))
        return DLB_OK;
    const struct dlb_expected_fill *fill = &expected->fill[kind];
    for (int t = 0; t < expected->tensors; t++) {
        const struct dlb_tensor *tensor = &expected->tensor[t];
        struct comparison comparison = {.elements = dlb_tensor_elements(tensor),
                                        .got = buffers->data[t],
                                        .expected = fill->value[t],
                                        .bound = fill->bound[t],
                                        .partial = tensor->role == DLB_KEPT};
        struct finding found;
        if (!is_fetched(expected, plan, t))
            continue;
        enum dlb_status status = compare(pool, compare_share, &comparison, &found, error);
        if (status)
            return status;
        /* A mask that may be either where it hangs by a rounding is off by a whole 1. */
        if (kind == DLB_FILL_DENSE && tensor->role == DLB_OUTPUT) {
            check->max_abs_err = fmax(check->max_abs_err, found.max_abs);
            check->max_rel_err = fmax(check->max_rel_err, found.max_rel);
            check->bound = fmax(check->bound, found.max_bound);
        }
        if (!found.wrong)
            continue;
        char place[96], got[32], wanted[32];
        dlb_expected_place(tensor, found.index, place, sizeof place);
        mismatch(check, fill_names[kind]);
        snprintf(check->reason, sizeof check->reason,
                 "%s is %s, expected %s, bound %.3g (%lld of %lld elements are wrong)",
                 place, number(got, comparison.got[found.index]),
                 number(wanted, comparison.expected[found.index]),
                 (double)comparison.bound[found.index], (long long)found.wrong,
                 (long long)comparison.elements);
        return DLB_OK;
    }
    return DLB_OK;
}

static enum dlb_status run_and_judge(const struct dlb_expected *expected,
                                     enum dlb_fill_kind kind, struct dlb_buffers *buffers,
                                     struct dlb_plan *plan, struct dlb_pool *pool,
                                     struct dlb_check *check, struct dlb_error *error)
{
    dlb_pool_run_plan(pool, plan);
    enum dlb_status status = dlb_pool_fetch_plan(pool, plan, error);
    return status ? status : judge(expected, kind, buffers, plan, pool, check, error);
}

struct copy {
    float *to;
    const float *from;
    int64_t elements;
};

static void copy_share(void *context, const struct dlb_team *team)
{
    const struct copy *copy = context;
    int64_t begin, end;
    dlb_share(copy->elements, team->rank, team->size, &begin, &end);
    memcpy(copy->to + begin, copy->from + begin, (size_t)(end - begin) * sizeof(float));
}

/*
 * Runs once more on the dense fill, where the order of a sum shows, and without clearing
 * the output in between, as in timing.
 */
static enum dlb_status check_repeats(const struct dlb_expected *expected,
                                     struct dlb_buffers *buffers, struct dlb_plan *plan,
                                     struct dlb_pool *pool, struct dlb_check *check,
                                     struct dlb_error *error)
{
    float *first[DLB_TENSORS_MAX] = {NULL};
    enum dlb_status status = DLB_OK;
    for (int t = 0; t < expected->tensors; t++) {
        struct copy copy = {NULL, buffers->data[t],
                            dlb_tensor_elements(&expected->tensor[t])};
        if (!is_fetched(expected, plan, t))
            continue;
        first[t] = copy.to = dlb_alloc((size_t)copy.elements * sizeof(float));
        if (!copy.to) {
            status = dlb_fail(error, DLB_NOMEM, "No memory to compare two runs.");
            goto out;
        }
        dlb_pool_run(pool, copy_share, &copy);
    }
    status = run_and_judge(expected, DLB_FILL_DENSE, buffers, plan, pool, check, error);
    for (int t = 0; !status && check->outcome == DLB_OUTCOME_OK && t < expected->tensors;
         t++) {
        const struct dlb_tensor *tensor = &expected->tensor[t];
        struct comparison comparison = {.elements = dlb_tensor_elements(tensor),
                                        .got = buffers->data[t],
                                        .expected = first[t]};
        struct finding found;
        if (!first[t])
            continue;
        status = compare(pool, compare_bits_share, &comparison, &found, error);
        if (status || !found.wrong)
            continue;
        char place[96], now[32], before[32];
        dlb_expected_place(tensor, found.index, place, sizeof place);
        mismatch(check, fill_names[DLB_FILL_DENSE]);
        snprintf(
            check->reason, sizeof check->reason,
            "%s is %s in one run and %s in the next: not deterministic (%lld of %lld "
            "elements differ)",
            place, number(before, first[t][found.index]),
            number(now, comparison.got[found.index]), (long long)found.wrong,
            (long long)comparison.elements);
    }
out:
    for (int t = 0; t < expected->tensors; t++)
        dlb_free(first[t]);
    return status;
}

static void check_begin(const struct dlb_expected *expected, const char *fill,
                        struct dlb_check *check)
{
    *check = (struct dlb_check){
        .outcome = DLB_OUTCOME_OK, .reference = expected->referee, .fill = fill};
}

enum dlb_status dlb_verify(const struct dlb_expected *expected,
                           struct dlb_buffers *buffers, struct dlb_plan *plan,
                           struct dlb_pool *pool, bool determinism,
                           struct dlb_check *check, struct dlb_error *error)
{
    bool exact = dlb_expected_has(expected, DLB_FILL_EXACT);
    check_begin(expected, exact ? "both" : fill_names[DLB_FILL_DENSE], check);
    for (int kind = 0; kind < DLB_FILL_KINDS; kind++) {
        if (!dlb_expected_has(expected, kind))
            continue;
        dlb_buffers_fill(buffers, kind, expected->seed, pool);
        enum dlb_status status = dlb_pool_bind_plan(pool, plan, buffers->data, error);
        if (!status)
            status = run_and_judge(expected, kind, buffers, plan, pool, check, error);
        if (status || check->outcome != DLB_OUTCOME_OK)
            return status;
    }
    if (determinism) {
        enum dlb_status status =
            check_repeats(expected, buffers, plan, pool, check, error);
        if (status || check->outcome != DLB_OUTCOME_OK)
            return status;
    }
    if (expected->zeros > ZEROS_MAX) {
        check->outcome = DLB_OUTCOME_MISTRUSTED;
        snprintf(check->reason, sizeof check->reason,
                 "%.0f %% of the expected elements are zero, of which at most %.0f %% "
                 "are trusted",
                 100 * expected->zeros, 100 * ZEROS_MAX);
    }
    return DLB_OK;
}

enum dlb_status dlb_verify_quick(const struct dlb_expected *expected,
                                 struct dlb_buffers *buffers, struct dlb_plan *plan,
                                 struct dlb_pool *pool, struct dlb_check *check,
                                 struct dlb_error *error)
{
    enum dlb_fill_kind kind =
        dlb_expected_has(expected, DLB_FILL_EXACT) ? DLB_FILL_EXACT : DLB_FILL_DENSE;
    check_begin(expected, fill_names[kind], check);
    if (buffers->filled && buffers->kind == kind && buffers->seed == expected->seed)
        dlb_buffers_clear(buffers, pool);
    else
        dlb_buffers_fill(buffers, kind, expected->seed, pool);
    enum dlb_status status = dlb_pool_bind_plan(pool, plan, buffers->data, error);
    return status ? status
                  : run_and_judge(expected, kind, buffers, plan, pool, check, error);
}

enum dlb_status dlb_verify_again(const struct dlb_expected *expected,
                                 struct dlb_buffers *buffers, struct dlb_plan *plan,
                                 struct dlb_pool *pool, struct dlb_check *check,
                                 struct dlb_error *error)
{
    check_begin(expected, fill_names[DLB_FILL_DENSE], check);
    enum dlb_status status = dlb_pool_fetch_plan(pool, plan, error);
    return status ? status
                  : judge(expected, DLB_FILL_DENSE, buffers, plan, pool, check, error);
}
