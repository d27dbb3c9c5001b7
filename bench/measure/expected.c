/*
 * Expected values and bounds of one problem.
 *
 * u = 2^-24 is the rounding error of one f32 operation, K the length of the reduction
 * (with the bias), M = sum |a||b| (+ |bias|) of an element, gamma_K = K u / (1 - K u).
 * A sum of K products in f32, in any order, with or without FMA, errs by at most gamma_K
 * M; ReLU does not enlarge that.
 *
 *   exact fill   bound 0: every partial sum is a whole number below 2^24
 *   dense fill   the referee oneDNN errs like the candidate, so the bound is 2 gamma_K M;
 *                M comes from the same referee on absolute values, is itself off by
 *                gamma_K, and is enlarged by that: 2 gamma_K / (1 - gamma_K) M.
 *                The plain definition errs by its one rounding to f32: gamma_{K+1} M.
 *   class winograd, both fills: transforms mix the elements of a tile, so an error is
 *                relative to the largest M around: the bound above plus WINOGRAD_GROWTH u
 *                times the largest M of the tensor (measured: up to 8 for 2x2 and 4x4
 *                tiles of 3x3 kernels).  The referee stays a direct one.
 *
 * The referee oneDNN is itself held against the definition on a sample of elements of
 * each fill and of the magnitudes.
 */
#include "measure/expected.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 512, SAMPLES = 64 };

static const double UNIT_ROUNDOFF = FLT_EPSILON / 2;
static const double WINOGRAD_GROWTH = 32;

static double gamma_of(double k)
{
    /* Sums so long that the formula ends do not fit any memory. */
    double ku = fmin(k * UNIT_ROUNDOFF, 0.5);
    return ku / (1 - ku);
}

void dlb_expected_place(const struct dlb_tensor *tensor, int64_t index, char *text,
                        size_t bytes)
{
    int64_t at[DLB_RANK_MAX] = {0};
    for (int i = tensor->rank; i-- > 0; index /= tensor->dim[i])
        at[i] = index % tensor->dim[i];
    size_t length = (size_t)snprintf(text, bytes, "%s", tensor->name);
    for (int i = 0; i < tensor->rank && length < bytes; i++)
        length += (size_t)snprintf(text + length, bytes - length, "%c%lld", i ? ',' : '[',
                                   (long long)at[i]);
    if (length < bytes)
        snprintf(text + length, bytes - length, "]");
}

/* What the threads need to share one step over the elements of tensor t. */
struct work {
    const struct dlb_expected *expected;
    const struct dlb_buffers *buffers;
    int t;
    float *value, *bound; /* of tensor t */
    double scale, floor;  /* bound = scale * magnitude + floor */
};

static void my_share(const struct work *work, const struct dlb_team *team, int64_t *begin,
                     int64_t *end)
{
    dlb_share(dlb_tensor_elements(&work->expected->tensor[work->t]), team->rank,
              team->size, begin, end);
}

static void copy_share(void *context, const struct dlb_team *team)
{
    const struct work *work = context;
    int64_t begin, end;
    my_share(work, team, &begin, &end);
    memcpy(work->value + begin, (float *)work->buffers->data[work->t] + begin,
           (size_t)(end - begin) * sizeof(float));
}

static void absolute_share(void *context, const struct dlb_team *team)
{
    const struct work *work = context;
    int64_t begin, end;
    float *data = work->buffers->data[work->t];
    my_share(work, team, &begin, &end);
    for (int64_t i = begin; i < end; i++)
        data[i] = fabsf(data[i]);
}

static void bound_share(void *context, const struct dlb_team *team)
{
    const struct work *work = context;
    int64_t begin, end;
    my_share(work, team, &begin, &end);
    for (int64_t i = begin; i < end; i++)
        work->bound[i] = (float)(work->scale * work->bound[i] + work->floor);
}

static void define_share(void *context, const struct dlb_team *team)
{
    const struct work *work = context;
    const struct dlb_expected *expected = work->expected;
    double result[CHUNK], magnitude[CHUNK];
    int64_t begin, end;
    my_share(work, team, &begin, &end);
    for (int64_t from = begin; from < end; from += CHUNK) {
        int64_t n = dlb_min(CHUNK, end - from);
        expected->reference->define(&expected->problem, work->buffers->data, work->t,
                                    from, from + n, result,
                                    work->bound ? magnitude : NULL);
        for (int64_t i = 0; i < n; i++) {
            work->value[from + i] = (float)result[i];
            if (work->bound)
                work->bound[from + i] = (float)magnitude[i];
        }
    }
}

/* Holds a sample of what the referee has left in buffers against the definition. */
static enum dlb_status spot_check(const struct dlb_expected *expected,
                                  const struct dlb_buffers *buffers, int t, bool exact,
                                  const struct dlb_plan *plan, struct dlb_error *error)
{
    int64_t n = dlb_tensor_elements(&expected->tensor[t]);
    int64_t samples = dlb_min(SAMPLES, n);
    double gamma = gamma_of((double)expected->reduction + 1);
    for (int64_t s = 0; s < samples; s++) {
        /* One from each of equal parts, wandering so that no channel is favoured. */
        int64_t begin, end;
        dlb_share(n, (int)s, (int)samples, &begin, &end);
        uint64_t wander = (uint64_t)(s + 1) * 0x9e3779b97f4a7c15u >> 33;
        int64_t i = begin + (int64_t)wander % (end - begin);
        double result, magnitude, got = ((float *)buffers->data[t])[i];
        expected->reference->define(&expected->problem, buffers->data, t, i, i + 1,
                                    &result, &magnitude);
        double bound = exact ? 0 : gamma * magnitude;
        if (fabs(got - result) <= bound)
            continue;
        char place[128];
        dlb_expected_place(&expected->tensor[t], i, place, sizeof place);
        return dlb_fail(error, DLB_FAULT,
                        "The referee, %s %s (%s), is itself wrong: %s is %.9g where the "
                        "plain definition gives %.9g with bound %.3g; nothing can be "
                        "verified against it.",
                        plan->class->impl, plan->version, plan->algorithm, place, got,
                        result, bound);
    }
    return DLB_OK;
}

/* Runs the referee on what is in buffers; the checked outputs go to result[]. */
static enum dlb_status run_referee(const struct dlb_expected *expected,
                                   struct dlb_buffers *buffers, struct dlb_plan *plan,
                                   struct dlb_pool *pool, bool exact,
                                   float *const *result, struct dlb_error *error)
{
    enum dlb_status status = dlb_pool_bind_plan(pool, plan, buffers->data, error);
    if (status)
        return status;
    dlb_pool_run_plan(pool, plan);
    status = dlb_pool_fetch_plan(pool, plan, error);
    for (int t = 0; !status && t < expected->tensors; t++) {
        struct work work = {expected, buffers, t, result[t], NULL, 0, 0};
        if (expected->tensor[t].role != DLB_OUTPUT)
            continue;
        status = spot_check(expected, buffers, t, exact, plan, error);
        dlb_pool_run(pool, copy_share, &work);
    }
    return status;
}

static void make_inputs_absolute(const struct dlb_expected *expected,
                                 struct dlb_buffers *buffers, struct dlb_pool *pool)
{
    for (int t = 0; t < expected->tensors; t++) {
        struct work work = {expected, buffers, t, NULL, NULL, 0, 0};
        if (expected->tensor[t].role != DLB_OUTPUT)
            dlb_pool_run(pool, absolute_share, &work);
    }
}

static enum dlb_status allocate(const struct dlb_expected *expected, float **array,
                                struct dlb_error *error)
{
    for (int t = 0; t < expected->tensors; t++) {
        size_t bytes = (size_t)dlb_tensor_elements(&expected->tensor[t]) * sizeof(float);
        if (expected->tensor[t].role != DLB_OUTPUT)
            continue;
        array[t] = dlb_alloc(bytes);
        if (!array[t])
            return dlb_fail(error, DLB_NOMEM,
                            "The expected values of %s need %zu bytes of memory, which "
                            "could not be had; take a smaller problem.",
                            expected->tensor[t].name, bytes);
    }
    return DLB_OK;
}

/* From magnitudes to bounds, see the head of this file. */
static void scale_bounds(const struct dlb_expected *expected,
                         const struct dlb_expected_fill *fill, bool exact, bool defined,
                         struct dlb_pool *pool)
{
    double gamma = gamma_of((double)expected->reduction);
    for (int t = 0; t < expected->tensors; t++) {
        struct work work = {expected, NULL, t, NULL, fill->bound[t], 0, 0};
        if (!work.bound)
            continue;
        if (defined)
            work.scale = gamma_of((double)expected->reduction + 1);
        else
            work.scale = exact ? gamma : 2 * gamma / (1 - gamma);
        if (expected->problem.accuracy == DLB_WINOGRAD) {
            float largest = 0;
            for (int64_t i = 0; i < dlb_tensor_elements(&expected->tensor[t]); i++)
                largest = fmaxf(largest, work.bound[i]);
            work.floor = WINOGRAD_GROWTH * UNIT_ROUNDOFF * largest;
        }
        dlb_pool_run(pool, bound_share, &work);
    }
}

static double zeros_of(const struct dlb_expected *expected,
                       const struct dlb_expected_fill *fill)
{
    int64_t zeros = 0, elements = 0;
    for (int t = 0; t < expected->tensors; t++) {
        if (expected->tensor[t].role != DLB_OUTPUT)
            continue;
        int64_t n = dlb_tensor_elements(&expected->tensor[t]);
        for (int64_t i = 0; i < n; i++)
            zeros += fill->value[t][i] == 0;
        elements += n;
    }
    return (double)zeros / (double)elements;
}

/* plan NULL: the plain definition is the referee. */
static enum dlb_status make_fill(struct dlb_expected *expected, enum dlb_fill_kind kind,
                                 struct dlb_buffers *buffers, struct dlb_plan *plan,
                                 struct dlb_pool *pool, struct dlb_error *error)
{
    struct dlb_expected_fill *fill = &expected->fill[kind];
    bool exact = kind == DLB_FILL_EXACT;
    bool bounded = !exact || expected->problem.accuracy != DLB_EXACT;
    enum dlb_status status = allocate(expected, fill->value, error);
    if (!status && bounded)
        status = allocate(expected, fill->bound, error);
    if (status)
        return status;
    dlb_buffers_fill(buffers, kind, expected->reduction, expected->seed, pool);
    if (plan) {
        status = run_referee(expected, buffers, plan, pool, exact, fill->value, error);
        if (!status && bounded) {
            make_inputs_absolute(expected, buffers, pool);
            status =
                run_referee(expected, buffers, plan, pool, exact, fill->bound, error);
        }
        if (status)
            return status;
    }
    for (int t = 0; !plan && t < expected->tensors; t++) {
        struct work work = {expected, buffers, t, fill->value[t], fill->bound[t], 0, 0};
        if (expected->tensor[t].role == DLB_OUTPUT)
            dlb_pool_run(pool, define_share, &work);
    }
    scale_bounds(expected, fill, exact, !plan, pool);
    expected->zeros = fmin(expected->zeros, zeros_of(expected, fill));
    return DLB_OK;
}

enum dlb_status dlb_expected_make(const struct dlb_operator *entry,
                                  const struct dlb_problem *problem,
                                  struct dlb_pool *pool, bool naive, uint64_t seed,
                                  struct dlb_expected **made, struct dlb_error *error)
{
    struct dlb_buffers buffers = {0};
    struct dlb_plan *plan = NULL;
    struct dlb_error refusal;
    enum dlb_status status = DLB_OK;
    struct dlb_expected *expected = calloc(1, sizeof *expected);
    if (!expected)
        return dlb_fail(error, DLB_NOMEM, "No memory for expected values.");
    expected->op = entry->op;
    expected->reference = entry->reference;
    expected->problem = *problem;
    expected->seed = seed;
    expected->reduction = entry->op->reduction(problem);
    expected->tensors = entry->op->tensors(problem, expected->tensor);
    expected->zeros = 1;
    if (!naive)
        status = entry->reference->onednn(problem, dlb_isa_best(), dlb_pool_threads(pool),
                                          0, &plan, &refusal);
    if (status && status != DLB_UNSUPPORTED) {
        dlb_fail(error, status, "%s", refusal.text);
        goto out;
    }
    expected->referee = plan ? "onednn" : "naive";
    status = dlb_buffers_make(entry->op, problem, pool, &buffers, error);
    for (int kind = 0; !status && kind < DLB_FILL_KINDS; kind++)
        status = make_fill(expected, kind, &buffers, plan, pool, error);
out:
    dlb_buffers_release(&buffers);
    dlb_plan_release(plan);
    if (status)
        dlb_expected_release(expected);
    else
        *made = expected;
    return status;
}

void dlb_expected_release(struct dlb_expected *expected)
{
    if (!expected)
        return;
    for (int kind = 0; kind < DLB_FILL_KINDS; kind++)
        for (int t = 0; t < DLB_TENSORS_MAX; t++) {
            dlb_free(expected->fill[kind].value[t]);
            dlb_free(expected->fill[kind].bound[t]);
        }
    free(expected);
}
