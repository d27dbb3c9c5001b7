/*
 * Expected values and bounds of one problem.
 *
 * reference->bound says how far one correct implementation in float may be from the exact
 * result (the head of each definition has the formulas).  The referee oneDNN errs like the
 * candidate, so what is compared with it may differ by twice that; the plain definition
 * errs by its one rounding to float, u |value| with u = 2^-24.
 *
 * The referee oneDNN is itself held against the definition on a sample of slices of each
 * fill, its magnitudes within MAGNITUDE_TOLERANCE: they do no more than scale a bound.
 * What a training pass keeps oneDNN does not show; those elements come from the
 * definition of the sampled slices, and the others are NaN: unknown.
 */
#include "measure/expected.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLES = 64 };

static const double UNIT_ROUNDOFF = FLT_EPSILON / 2;
static const double MAGNITUDE_TOLERANCE = 1e-2;
static const double SAMPLES_FLOPS = 5e7; /* well below a second */

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

bool dlb_expected_has(const struct dlb_expected *expected, enum dlb_fill_kind kind)
{
    return kind == DLB_FILL_DENSE || expected->op->reduction;
}

/* What the threads need to share one step over the elements of tensor t. */
struct work {
    const struct dlb_expected *expected;
    const struct dlb_buffers *buffers;
    enum dlb_fill_kind kind;
    int t;
    float *const *value;     /* by tensor */
    float *const *magnitude; /* by tensor; NULL where there is none */
    float *bound;            /* of tensor t */
    bool defined;            /* the referee is the definition */
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
    memcpy(work->value[work->t] + begin, (float *)work->buffers->data[work->t] + begin,
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
    const struct dlb_expected *expected = work->expected;
    void *tensor[DLB_TENSORS_MAX];
    for (int t = 0; t < expected->tensors; t++)
        tensor[t] = work->value[t] ? work->value[t] : work->buffers->data[t];
    struct dlb_bound_call call = {.problem = &expected->problem,
                                  .fill = work->kind,
                                  .tensor = tensor,
                                  .t = work->t,
                                  .magnitude = work->magnitude[work->t],
                                  .magnitudes = work->magnitude};
    my_share(work, team, &call.begin, &call.end);
    call.bound = work->bound + call.begin;
    expected->reference->bound(&call);
    const float *value = work->value[work->t];
    for (int64_t i = call.begin; i < call.end; i++) {
        float one = work->bound[i];
        float own = work->defined ? (float)UNIT_ROUNDOFF * fabsf(value[i]) : one;
        /* Exact values are floats. */
        work->bound[i] = one > 0 ? one + own : one;
    }
}

static void put_value(void *context, int t, int64_t element, double value)
{
    ((float *const *)context)[t][element] = (float)value;
}

static void define_share(void *context, const struct dlb_team *team)
{
    const struct work *work = context;
    const struct dlb_reference *reference = work->expected->reference;
    const struct dlb_sink sink = {put_value, (void *)work->value};
    int64_t begin, end;
    dlb_share(reference->slices(&work->expected->problem), team->rank, team->size, &begin,
              &end);
    reference->define(&work->expected->problem, work->buffers->data, begin, end, &sink);
}

/* Elements of outputs as the definition has them. */
struct sample {
    struct spot {
        int t;
        int64_t element;
        double value;
    } * spot;
    int64_t n, room;
    bool failed; /* no memory */
    const struct dlb_expected *expected;
    float *const *value; /* by tensor: takes what is kept; NULL to leave it */
};

static void put_spot(void *context, int t, int64_t element, double value)
{
    struct sample *sample = context;
    if (sample->expected->tensor[t].role == DLB_KEPT) {
        if (sample->value)
            sample->value[t][element] = (float)value;
        return;
    }
    if (sample->n == sample->room && !sample->failed) {
        int64_t room = dlb_max(1024, 2 * sample->room);
        struct spot *spot = realloc(sample->spot, (size_t)room * sizeof *spot);
        sample->failed = !spot;
        if (spot) {
            sample->spot = spot;
            sample->room = room;
        }
    }
    if (!sample->failed)
        sample->spot[sample->n++] = (struct spot){t, element, value};
}

/* Slices from each of equal parts, wandering so that no channel is favoured. */
static enum dlb_status draw_sample(struct sample *sample,
                                   const struct dlb_buffers *buffers,
                                   struct dlb_error *error)
{
    const struct dlb_reference *reference = sample->expected->reference;
    const struct dlb_problem *problem = &sample->expected->problem;
    const struct dlb_sink sink = {put_spot, sample};
    int64_t slices = reference->slices(problem);
    double each = sample->expected->op->flops(problem) / (double)slices;
    double wanted = fmax(1, fmin(SAMPLES, SAMPLES_FLOPS / each));
    int64_t samples = dlb_min((int64_t)wanted, slices);
    for (int64_t s = 0; s < samples; s++) {
        int64_t begin, end;
        dlb_share(slices, (int)s, (int)samples, &begin, &end);
        uint64_t wander = (uint64_t)(s + 1) * 0x9e3779b97f4a7c15u >> 33;
        int64_t slice = begin + (int64_t)wander % (end - begin);
        reference->define(problem, buffers->data, slice, slice + 1, &sink);
    }
    return sample->failed
               ? dlb_fail(error, DLB_NOMEM, "No memory for a sample of expected values.")
               : DLB_OK;
}

static bool has_magnitude(const struct dlb_expected *expected, int t)
{
    unsigned outputs = expected->reference->magnitude_outputs;
    return !outputs || outputs & 1u << t;
}

/* Holds what the referee gave against the sample.  bound NULL: magnitudes. */
static enum dlb_status check_sample(const struct sample *sample, float *const *got,
                                    float *const *bound, const struct dlb_plan *plan,
                                    struct dlb_error *error)
{
    for (int64_t i = 0; i < sample->n; i++) {
        const struct spot *spot = &sample->spot[i];
        double value = got[spot->t][spot->element];
        double allowed =
            bound ? bound[spot->t][spot->element] / 2 : MAGNITUDE_TOLERANCE * spot->value;
        if (fabs(value - spot->value) <= allowed ||
            (!bound && !has_magnitude(sample->expected, spot->t)))
            continue;
        char place[128];
        dlb_expected_place(&sample->expected->tensor[spot->t], spot->element, place,
                           sizeof place);
        return dlb_fail(error, DLB_FAULT,
                        "The referee, %s %s (%s), is itself wrong: %s is %.9g where the "
                        "plain definition gives %.9g with bound %.3g; nothing can be "
                        "verified against it.",
                        plan->class->impl, plan->version, plan->algorithm, place, value,
                        spot->value, allowed);
    }
    return DLB_OK;
}

/* Runs the referee, or the definition where plan is NULL, on what is in buffers; the
 * outputs go to value[]. */
static enum dlb_status run_referee(const struct dlb_expected *expected,
                                   struct dlb_buffers *buffers, struct dlb_plan *plan,
                                   struct dlb_pool *pool, float *const *value,
                                   struct dlb_error *error)
{
    struct work work = {.expected = expected, .buffers = buffers, .value = value};
    if (!plan) {
        dlb_pool_run(pool, define_share, &work);
        return DLB_OK;
    }
    enum dlb_status status = dlb_pool_bind_plan(pool, plan, buffers->data, error);
    if (status)
        return status;
    dlb_pool_run_plan(pool, plan);
    status = dlb_pool_fetch_plan(pool, plan, error);
    /* What is kept and not fetched is copied too: NaN. */
    for (work.t = 0; !status && work.t < expected->tensors; work.t++)
        if (dlb_role_written(expected->tensor[work.t].role))
            dlb_pool_run(pool, copy_share, &work);
    return status;
}

static void release_all(float **array)
{
    for (int t = 0; t < DLB_TENSORS_MAX; t++) {
        dlb_free(array[t]);
        array[t] = NULL;
    }
}

static enum dlb_status allocate(const struct dlb_expected *expected, float **array,
                                struct dlb_error *error)
{
    for (int t = 0; t < expected->tensors; t++) {
        size_t bytes = (size_t)dlb_tensor_elements(&expected->tensor[t]) * sizeof(float);
        if (!dlb_role_written(expected->tensor[t].role))
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

/* The outputs with absolute values of some inputs, which stay in buffers. */
static enum dlb_status make_magnitudes(const struct dlb_expected *expected,
                                       struct dlb_buffers *buffers, struct dlb_plan *plan,
                                       struct dlb_pool *pool, float **magnitude,
                                       struct dlb_error *error)
{
    struct work work = {.expected = expected, .buffers = buffers};
    struct sample sample = {.expected = expected};
    enum dlb_status status = allocate(expected, magnitude, error);
    if (status)
        return status;
    for (work.t = 0; work.t < expected->tensors; work.t++)
        if (expected->reference->magnitude_inputs & 1u << work.t &&
            !dlb_role_written(expected->tensor[work.t].role))
            dlb_pool_run(pool, absolute_share, &work);
    status = run_referee(expected, buffers, plan, pool, magnitude, error);
    if (!status && plan)
        status = draw_sample(&sample, buffers, error);
    if (!status && plan)
        status = check_sample(&sample, magnitude, NULL, plan, error);
    free(sample.spot);
    return status;
}

static void make_bounds(const struct dlb_expected *expected, enum dlb_fill_kind kind,
                        const struct dlb_buffers *buffers, bool defined,
                        float *const *magnitude, struct dlb_pool *pool)
{
    const struct dlb_expected_fill *fill = &expected->fill[kind];
    for (int t = 0; t < expected->tensors; t++) {
        struct work work = {.expected = expected,
                            .buffers = buffers,
                            .kind = kind,
                            .t = t,
                            .value = fill->value,
                            .magnitude = magnitude,
                            .bound = fill->bound[t],
                            .defined = defined};
        if (work.bound)
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
        const struct dlb_op *op = expected->op;
        int64_t unreached = op->unreached ? op->unreached(&expected->problem, t) : 0;
        int64_t n = dlb_tensor_elements(&expected->tensor[t]);
        for (int64_t i = 0; i < n; i++)
            zeros += fill->value[t][i] == 0;
        zeros -= unreached;
        elements += n - unreached;
    }
    return elements ? (double)zeros / (double)elements : 1;
}

/* plan NULL: the plain definition is the referee. */
static enum dlb_status make_fill(struct dlb_expected *expected, enum dlb_fill_kind kind,
                                 struct dlb_buffers *buffers, struct dlb_plan *plan,
                                 struct dlb_pool *pool, struct dlb_error *error)
{
    struct dlb_expected_fill *fill = &expected->fill[kind];
    float *magnitude[DLB_TENSORS_MAX] = {NULL};
    struct sample sample = {.expected = expected, .value = fill->value};
    bool scaled = expected->reference->magnitude_inputs &&
                  (kind != DLB_FILL_EXACT || expected->problem.accuracy != DLB_EXACT);
    enum dlb_status status = allocate(expected, fill->value, error);
    if (!status)
        status = allocate(expected, fill->bound, error);
    if (status)
        goto out;
    if (scaled) {
        dlb_buffers_fill(buffers, kind, expected->seed, pool);
        status = make_magnitudes(expected, buffers, plan, pool, magnitude, error);
        if (status)
            goto out;
    }
    dlb_buffers_fill(buffers, kind, expected->seed, pool);
    status = run_referee(expected, buffers, plan, pool, fill->value, error);
    if (!status && plan)
        status = draw_sample(&sample, buffers, error);
    if (status)
        goto out;
    make_bounds(expected, kind, buffers, !plan, magnitude, pool);
    if (plan)
        status = check_sample(&sample, fill->value, fill->bound, plan, error);
    expected->zeros = expected->reference->zeros_belong
                          ? 0
                          : fmin(expected->zeros, zeros_of(expected, fill));
out:
    release_all(magnitude);
    free(sample.spot);
    return status;
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
        if (dlb_expected_has(expected, kind))
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
    for (int kind = 0; kind < DLB_FILL_KINDS; kind++) {
        release_all(expected->fill[kind].value);
        release_all(expected->fill[kind].bound);
    }
    free(expected);
}
