/*
 * Plans of attention's backward pass: units of work over the threads, the forward pass that
 * they begin with in bind, and the sum of the parts of dQ.
 *
 * Shapes    all tensors in place, in their canonical layouts
 * Work items and barriers   units in equal numbers; where keys are split one barrier before
 *           the parts of dQ are added in their order, else none.  One in bind, and those of
 *           the forward pass
 * Scratch   by algorithm; dQ for each part where keys are split; and dst, maximum and sum
 *           of the forward pass
 * Errors    dlb_attention_refuse refuses what does not fit
 */
#include "ops/attention_backward_internal.h"
#include "ops/attention_kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct dlb_attention_backward_runner
    *const runners[DLB_ATTENTION_ALGORITHMS] = {
        [DLB_ATTENTION_DECODE] = &dlb_attention_backward_decode,
        [DLB_ATTENTION_RECOMPUTE] = &dlb_attention_recompute,
};

enum { LINE = DLB_CACHE_LINE / sizeof(float) };

float *dlb_attention_backward_target(const struct dlb_attention_backward *p, int64_t head,
                                     int64_t part, int64_t row)
{
    const struct dlb_attention_work *w = &p->work;
    int64_t place = p->partial ? (head * w->parts + part) * w->rows + row
                               : dlb_attention_row(&p->s, head, row);
    return (p->partial ? p->partial : p->diff_q) + place * p->s.d;
}

static void merge_row(const struct dlb_attention_backward *p, int64_t head, int64_t row)
{
    const struct dlb_attention_work *w = &p->work;
    const int64_t d = p->s.d;
    float *to = p->diff_q + dlb_attention_row(&p->s, head, row) * d;
    for (int64_t c = 0; c < d; c++)
        to[c] = 0;
    for (int64_t part = 0; part < w->parts; part++) {
        const float *from = dlb_attention_backward_target(p, head, part, row);
        for (int64_t c = 0; c < d; c++)
            to[c] += from[c];
    }
}

static void backward_run(struct dlb_plan *plan, const struct dlb_team *team)
{
    const struct dlb_attention_backward *p = (const struct dlb_attention_backward *)plan;
    const struct dlb_attention_work *w = &p->work;
    int64_t begin, end;
    dlb_share(w->heads * w->parts, team->rank, team->size, &begin, &end);
    for (int64_t i = begin; i < end; i++)
        p->runner->run(p, i / w->parts, i % w->parts,
                       p->scratch + team->rank * p->scratch_elements);
    if (w->parts == 1)
        return;
    dlb_team_barrier(team);
    dlb_share(w->heads * w->rows, team->rank, team->size, &begin, &end);
    for (int64_t i = begin; i < end; i++)
        merge_row(p, i / w->rows, i % w->rows);
}

/* The forward pass, whose dst and statistics stay here. */
static enum dlb_status run_forward(const struct dlb_attention_backward *p,
                                   void *const *tensor, const struct dlb_team *team,
                                   struct dlb_error *error)
{
    void *forward[DLB_ATTENTION_TENSORS] = {NULL};
    memcpy(forward, tensor, DLB_ATTENTION_DST * sizeof *forward);
    forward[DLB_ATTENTION_DST] = p->dst;
    enum dlb_status status = p->forward->class->bind(p->forward, forward, team, error);
    if (status)
        return status;
    p->forward->class->run(p->forward, team);
    dlb_team_barrier(team);
    return DLB_OK;
}

static enum dlb_status backward_bind(struct dlb_plan *plan, void *const *tensor,
                                     const struct dlb_team *team, struct dlb_error *error)
{
    struct dlb_attention_backward *p = (struct dlb_attention_backward *)plan;
    if (team->rank == 0) {
        p->q = tensor[DLB_ATTENTION_Q];
        p->k = tensor[DLB_ATTENTION_K];
        p->v = tensor[DLB_ATTENTION_V];
        p->mask =
            p->s.mask == DLB_ATTENTION_BUFFER ? tensor[DLB_ATTENTION_MASK_BUFFER] : NULL;
        p->diff_dst = tensor[DLB_ATTENTION_DIFF_DST];
        p->diff_q = tensor[DLB_ATTENTION_DIFF_Q];
        p->diff_k = tensor[DLB_ATTENTION_DIFF_K];
        p->diff_v = tensor[DLB_ATTENTION_DIFF_V];
    }
    float *scratch = p->scratch + team->rank * p->scratch_elements;
    memset(scratch, 0, (size_t)p->scratch_elements * sizeof(float));
    p->runner->start(p, scratch);
    return run_forward(p, tensor, team, error);
}

static enum dlb_status backward_fetch(struct dlb_plan *plan, const struct dlb_team *team,
                                      struct dlb_error *error)
{
    (void)plan, (void)team, (void)error;
    return DLB_OK;
}

static void backward_release(struct dlb_plan *plan)
{
    struct dlb_attention_backward *p = (struct dlb_attention_backward *)plan;
    dlb_plan_release(p->forward);
    free(p->part_begin);
    dlb_free(p->dst);
    dlb_free(p->statistics);
    dlb_free(p->scratch);
    dlb_free(p->partial);
    free(p);
}

static const struct dlb_plan_class backward_class = {
    .impl = "native",
    .spmd = true,
    .bind = backward_bind,
    .run = backward_run,
    .fetch = backward_fetch,
    .release = backward_release,
};

static float *take(struct dlb_attention_backward *p, int64_t elements)
{
    size_t bytes = (size_t)elements * sizeof(float);
    p->plan.workspace_bytes += bytes;
    return dlb_alloc(bytes);
}

static bool allocate(struct dlb_attention_backward *p, int threads)
{
    const struct dlb_attention_work *w = &p->work;
    const struct dlb_attention_shape *s = &p->s;
    p->part_begin = calloc((size_t)w->parts + 1, sizeof *p->part_begin);
    if (!p->part_begin)
        return false;
    dlb_attention_split_keys(s, w->parts, p->part_begin);
    /* A line between the threads keeps what the processor prefetches their own. */
    p->scratch_elements = dlb_round_up(p->runner->scratch(p), LINE) + LINE;
    p->scratch = take(p, threads * p->scratch_elements);
    p->dst = take(p, w->heads * w->rows * s->dv);
    p->statistics = take(p, w->heads * w->rows * 2);
    if (w->parts > 1)
        p->partial = take(p, w->heads * w->parts * w->rows * s->d);
    return p->scratch && p->dst && p->statistics && (p->partial || w->parts == 1);
}

/* The forward pass that is taken without tuning. */
static enum dlb_status make_forward(struct dlb_attention_backward *p,
                                    const struct dlb_problem *problem,
                                    const struct dlb_target *target,
                                    struct dlb_error *error)
{
    struct dlb_problem forward = *problem;
    struct dlb_candidate candidate;
    forward.pass = DLB_FWD;
    dlb_attention_fallback(&forward, target, &candidate);
    enum dlb_status status =
        dlb_attention_plan(&forward, target, &candidate, &p->forward, error);
    if (status)
        return status;
    ((struct dlb_attention_plan *)p->forward)->statistics = p->statistics;
    p->plan.workspace_bytes += p->forward->workspace_bytes;
    return DLB_OK;
}

enum dlb_status dlb_attention_backward_plan(const struct dlb_problem *problem,
                                            const struct dlb_target *target,
                                            const struct dlb_candidate *candidate,
                                            struct dlb_plan **plan,
                                            struct dlb_error *error)
{
    struct dlb_attention_backward *p = calloc(1, sizeof *p);
    if (!p)
        return dlb_fail(error, DLB_NOMEM, "No memory for a plan of %zu bytes.",
                        sizeof *p);
    p->plan.class = &backward_class;
    dlb_attention_shape_get(problem, &p->s);
    dlb_attention_work_get(&p->s, target, candidate, &p->work);
    p->runner = runners[candidate->algorithm];
    p->isa = target->isa;
    p->panels = dlb_attention_kernels(target->isa);
    p->kernels = dlb_attention_backward_kernels(target->isa);
    p->brgemm = dlb_brgemm_kernels(target->isa);
    p->kb = candidate->tile[DLB_ATTENTION_TILE_KB];
    p->stream = candidate->tile[DLB_ATTENTION_TILE_STREAM] == DLB_ATTENTION_STREAM_ON;
    dlb_attention_strips_get(target->isa, p->s.d, &p->k_strips);
    dlb_attention_strips_get(target->isa, p->s.dv, &p->v_strips);
    enum dlb_status status = DLB_OK;
    if (!allocate(p, target->threads))
        status = dlb_fail(error, DLB_NOMEM,
                          "No memory for the scratch of attention; try fewer threads or "
                          "a smaller problem.");
    else
        status = make_forward(p, problem, target, error);
    if (status) {
        backward_release(&p->plan);
        return status;
    }
    p->plan.threads = target->threads;
    snprintf(p->plan.version, sizeof p->plan.version, "%s", DLBENCH_VERSION);
    snprintf(p->plan.algorithm, sizeof p->plan.algorithm, "%s",
             dlb_attention_algorithms[candidate->algorithm]);
    snprintf(p->plan.layout, sizeof p->plan.layout, "nshd");
    snprintf(p->plan.isa, sizeof p->plan.isa, "%s", dlb_isa_name(target->isa));
    *plan = &p->plan;
    return DLB_OK;
}
