/*
 * Plans of attention: units of work over the threads, and the merge of parts.
 *
 *   m = max of m[p];  l = sum of exp(m[p] - m) l[p];
 *   dst = sum of exp(m[p] - m) o[p] / l;  logsum = m + ln l
 *
 * Shapes    all tensors in place, in their canonical layouts
 * Units     elements; work units are those of struct dlb_attention_work
 * Work items and barriers   a run of units a thread; one barrier before the merge, where
 *           keys are split, else none.  One in bind
 * Scratch   by algorithm; dv + 2 elements a row and part where keys are split
 * Numerics  the merge goes in the order of the parts, so results depend on the candidate
 *           and not on the threads
 * Errors    dlb_attention_refuse refuses what does not fit
 */
#include "ops/attention_backward.h"
#include "ops/attention_internal.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct dlb_attention_runner *const runners[DLB_ATTENTION_ALGORITHMS] = {
    [DLB_ATTENTION_ONLINE] = &dlb_attention_online,
    [DLB_ATTENTION_DECODE] = &dlb_attention_decode,
};

enum { LINE = DLB_CACHE_LINE / sizeof(float), MAXIMUM_AND_SUM = 2 };

int64_t dlb_attention_row(const struct dlb_attention_shape *s, int64_t head, int64_t row)
{
    return (head / s->hk * s->sq + row / s->group) * s->hq + head % s->hk * s->group +
           row % s->group;
}

float *dlb_attention_partial(const struct dlb_attention_plan *p, int64_t head,
                             int64_t part, int64_t row)
{
    const struct dlb_attention_work *w = &p->work;
    return p->partial +
           ((head * w->parts + part) * w->rows + row) * (p->s.dv + MAXIMUM_AND_SUM);
}

void dlb_attention_keep(const struct dlb_attention_plan *p, int64_t head, int64_t row,
                        float maximum, float sum)
{
    const struct dlb_attention_shape *s = &p->s;
    if (p->statistics) {
        float *to = p->statistics + (head * p->work.rows + row) * MAXIMUM_AND_SUM;
        to[0] = maximum;
        to[1] = sum;
    }
    if (s->train)
        p->logsum[(head * s->group + row % s->group) * s->sq + row / s->group] =
            maximum + logf(sum);
}

void dlb_attention_divide(float *o, int64_t n, float sum)
{
    const float inverse = 1 / sum;
    for (int64_t c = 0; c < n; c++)
        o[c] = sum == 0 ? 0 : o[c] * inverse;
}

static enum dlb_status attention_bind(struct dlb_plan *plan, void *const *tensor,
                                      const struct dlb_team *team,
                                      struct dlb_error *error)
{
    struct dlb_attention_plan *p = (struct dlb_attention_plan *)plan;
    (void)error;
    if (team->rank == 0) {
        p->q = tensor[DLB_ATTENTION_Q];
        p->k = tensor[DLB_ATTENTION_K];
        p->v = tensor[DLB_ATTENTION_V];
        p->mask =
            p->s.mask == DLB_ATTENTION_BUFFER ? tensor[DLB_ATTENTION_MASK_BUFFER] : NULL;
        p->dst = tensor[DLB_ATTENTION_DST];
        p->logsum = p->s.train ? tensor[DLB_ATTENTION_LOGSUM] : NULL;
    }
    memset(p->scratch + team->rank * p->scratch_elements, 0,
           (size_t)p->scratch_elements * sizeof(float));
    dlb_team_barrier(team);
    return DLB_OK;
}

static void merge_row(const struct dlb_attention_plan *p, int64_t head, int64_t row)
{
    const int64_t dv = p->s.dv, parts = p->work.parts;
    float *dst = p->dst + dlb_attention_row(&p->s, head, row) * dv;
    float top = -FLT_MAX, sum = 0;
    for (int64_t part = 0; part < parts; part++)
        top = fmaxf(top, dlb_attention_partial(p, head, part, row)[dv]);
    for (int64_t c = 0; c < dv; c++)
        dst[c] = 0;
    for (int64_t part = 0; part < parts; part++) {
        const float *from = dlb_attention_partial(p, head, part, row);
        const float weight = expf(from[dv] - top);
        sum += weight * from[dv + 1];
        for (int64_t c = 0; c < dv; c++)
            dst[c] += weight * from[c];
    }
    dlb_attention_divide(dst, dv, sum);
    dlb_attention_keep(p, head, row, top, sum);
}

static void attention_run(struct dlb_plan *plan, const struct dlb_team *team)
{
    const struct dlb_attention_plan *p = (const struct dlb_attention_plan *)plan;
    const struct dlb_attention_work *w = &p->work;
    float *scratch = p->scratch + team->rank * p->scratch_elements;
    for (int64_t i = p->first[team->rank]; i < p->first[team->rank + 1]; i++) {
        struct dlb_attention_unit unit;
        dlb_attention_unit_get(&p->s, w, i, &unit);
        runners[p->algorithm]->run(p, &unit, scratch);
    }
    if (w->parts == 1)
        return;
    dlb_team_barrier(team);
    int64_t begin, end;
    dlb_share(w->heads * w->rows, team->rank, team->size, &begin, &end);
    for (int64_t i = begin; i < end; i++)
        merge_row(p, i / w->rows, i % w->rows);
}

static enum dlb_status attention_fetch(struct dlb_plan *plan, const struct dlb_team *team,
                                       struct dlb_error *error)
{
    (void)plan, (void)team, (void)error;
    return DLB_OK;
}

static void attention_release(struct dlb_plan *plan)
{
    struct dlb_attention_plan *p = (struct dlb_attention_plan *)plan;
    free(p->first);
    dlb_free(p->scratch);
    dlb_free(p->partial);
    free(p);
}

static const struct dlb_plan_class attention_class = {
    .impl = "native",
    .spmd = true,
    .bind = attention_bind,
    .run = attention_run,
    .fetch = attention_fetch,
    .release = attention_release,
};

static bool allocate(struct dlb_attention_plan *p, int threads)
{
    const struct dlb_attention_work *w = &p->work;
    p->first = calloc((size_t)threads + 1, sizeof *p->first);
    /* A line between the threads keeps what the processor prefetches their own. */
    p->scratch_elements = dlb_round_up(runners[p->algorithm]->scratch(p), LINE) + LINE;
    size_t bytes = (size_t)(threads * p->scratch_elements) * sizeof(float);
    p->scratch = dlb_alloc(bytes);
    if (w->parts > 1) {
        size_t more = (size_t)(w->heads * w->parts * w->rows) *
                      (size_t)(p->s.dv + MAXIMUM_AND_SUM) * sizeof(float);
        p->partial = dlb_alloc(more);
        bytes += more;
    }
    p->plan.workspace_bytes = bytes;
    return p->first && p->scratch && (p->partial || w->parts == 1);
}

enum dlb_status dlb_attention_plan(const struct dlb_problem *problem,
                                   const struct dlb_target *target,
                                   const struct dlb_candidate *candidate,
                                   struct dlb_plan **plan, struct dlb_error *error)
{
    const char *reason = dlb_attention_refuse(problem, target, candidate);
    if (reason)
        return dlb_fail(error, DLB_UNSUPPORTED,
                        "This way of computing attention is not legal here (%s); take a "
                        "candidate that the search space offers.",
                        reason);
    if (problem->pass == DLB_BWD)
        return dlb_attention_backward_plan(problem, target, candidate, plan, error);
    struct dlb_attention_plan *p = calloc(1, sizeof *p);
    if (!p)
        return dlb_fail(error, DLB_NOMEM, "No memory for a plan of %zu bytes.",
                        sizeof *p);
    p->plan.class = &attention_class;
    dlb_attention_shape_get(problem, &p->s);
    dlb_attention_work_get(&p->s, target, candidate, &p->work);
    p->isa = target->isa;
    p->algorithm = candidate->algorithm;
    p->kb = candidate->tile[DLB_ATTENTION_TILE_KB];
    p->copy = candidate->tile[DLB_ATTENTION_TILE_PACK] == DLB_ATTENTION_PACK_COPY;
    if (!allocate(p, target->threads)) {
        attention_release(&p->plan);
        return dlb_fail(error, DLB_NOMEM,
                        "No memory for the scratch of attention; try fewer threads or a "
                        "smaller problem.");
    }
    dlb_attention_share(&p->s, &p->work, target->threads, p->first);
    p->plan.threads = target->threads;
    p->plan.fetches_kept = true;
    snprintf(p->plan.version, sizeof p->plan.version, "%s", DLBENCH_VERSION);
    snprintf(p->plan.algorithm, sizeof p->plan.algorithm, "%s",
             dlb_attention_algorithms[candidate->algorithm]);
    snprintf(p->plan.layout, sizeof p->plan.layout, "nshd");
    snprintf(p->plan.isa, sizeof p->plan.isa, "%s", dlb_isa_name(target->isa));
    *plan = &p->plan;
    return DLB_OK;
}
