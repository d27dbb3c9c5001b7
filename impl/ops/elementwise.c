/*
 * Operators element by element: dims, search space and plan.
 *
 * Shapes    n elements, every operand in place
 * Tiles     stores through the caches or past them
 * Work items and barriers   each thread has a contiguous share of whole blocks of 64
 *           elements; no barrier
 * Scratch   dropout: the mask, one bit an element.  Its backward pass has bind make the mask,
 *           by the forward function, whose other result nobody reads
 * Errors    dlb_elementwise_refuse refuses tiles that make no sense; no other
 */
#include "ops/elementwise.h"

#include "core/dispatch.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

DLB_ISA_TABLE(struct dlb_elementwise_kernels, dlb_elementwise);

enum { STREAM, TILES };
enum { CACHED = 1, STREAMED };
enum { BLOCK = DLB_ELEMENTWISE_BLOCK, WORD_BYTES = 8 };

_Static_assert((int)TILES == (int)DLB_ELEMENTWISE_TILES, "the tiles of the header");

const char *const dlb_elementwise_algorithms[] = {"elementwise"};

static const char *const streams[] = {"cached", "stream", NULL};

const struct dlb_tile_def dlb_elementwise_tiles[] = {
    [STREAM] = {"stream", streams, "stores through or past the caches"},
};

enum dlb_status dlb_elementwise_complete(const struct dlb_op *op,
                                         struct dlb_problem *problem,
                                         struct dlb_error *error)
{
    int64_t *d = problem->dim;
    if (d[DLB_ELEMENTWISE_N] == DLB_DIM_UNSET)
        return dlb_fail(error, DLB_INVALID,
                        "The %s 'n' is missing; write for example n4096.",
                        op->dims[DLB_ELEMENTWISE_N].meaning);
    for (int i = 0; i < op->dims_n; i++)
        if (d[i] == DLB_DIM_UNSET)
            d[i] = op->dims[i].fallback;
    return dlb_op_check_ranges(op, problem, error);
}

bool dlb_elementwise_dim_needed(const struct dlb_op *op,
                                const struct dlb_problem *problem, int dim)
{
    return problem->dim[dim] != op->dims[dim].fallback;
}

struct dlb_tensor dlb_elementwise_tensor(const struct dlb_problem *problem,
                                         const char *name, enum dlb_role role)
{
    return (struct dlb_tensor){.name = name,
                               .layout = "x",
                               .role = role,
                               .fill = DLB_FILL_ACTIVATION,
                               .rank = 1,
                               .dim = {problem->dim[DLB_ELEMENTWISE_N]}};
}

int64_t dlb_elementwise_reduction(const struct dlb_problem *problem)
{
    (void)problem;
    return 1;
}

void dlb_elementwise_enumerate(const struct dlb_problem *problem,
                               const struct dlb_target *target, dlb_candidate_fn *emit,
                               void *context)
{
    (void)problem, (void)target;
    for (int stream = CACHED; stream <= STREAMED; stream++) {
        const struct dlb_candidate candidate = {.tile = {[STREAM] = stream}};
        if (!emit(context, &candidate))
            return;
    }
}

/* Of one operand. */
static double bytes_of(const struct dlb_problem *problem)
{
    return sizeof(float) * (double)problem->dim[DLB_ELEMENTWISE_N];
}

const char *dlb_elementwise_refuse(const struct dlb_problem *problem,
                                   const struct dlb_target *target,
                                   const struct dlb_candidate *candidate)
{
    int stream = candidate->tile[STREAM];
    if (candidate->algorithm != 0)
        return "no such algorithm";
    if (stream != CACHED && stream != STREAMED)
        return "no such kind of store";
    if (stream == STREAMED &&
        (target->isa == DLB_ISA_SCALAR || target->isa == DLB_ISA_NEON))
        return "no streaming stores on this instruction set";
    if (stream == STREAMED &&
        bytes_of(problem) <= (double)target->l2_bytes * target->threads)
        return "output fits the caches: no need to stream";
    return NULL;
}

/* Of one operand read and one written; which of them there are more changes no order. */
double dlb_elementwise_estimate(const struct dlb_problem *problem,
                                const struct dlb_target *target,
                                const struct dlb_rates *rates,
                                const struct dlb_candidate *candidate)
{
    bool stream = candidate->tile[STREAM] == STREAMED;
    double bytes = bytes_of(problem), resident = stream ? bytes : 2 * bytes;
    return dlb_op_transfer_ns(target, rates, bytes, resident) +
           (stream ? dlb_op_transfer_ns(target, rates, bytes, INFINITY)
                   : dlb_op_transfer_ns(target, rates, 2 * bytes, resident));
}

void dlb_elementwise_fallback(const struct dlb_problem *problem,
                              const struct dlb_target *target,
                              struct dlb_candidate *candidate)
{
    static const struct dlb_rates unmeasured;
    struct dlb_candidate streamed = {.tile = {[STREAM] = STREAMED}};
    *candidate = (struct dlb_candidate){.tile = {[STREAM] = CACHED}};
    if (!dlb_elementwise_refuse(problem, target, &streamed) &&
        dlb_elementwise_estimate(problem, target, &unmeasured, &streamed) <
            dlb_elementwise_estimate(problem, target, &unmeasured, candidate))
        *candidate = streamed;
}

struct native {
    struct dlb_plan plan;
    struct dlb_elementwise e;
    dlb_elementwise_fn *function, *setup;
    void (*stream_fence)(void);
    uint64_t *mask; /* NULL where there is none */
    int tensors;
    void *tensor[DLB_TENSORS_MAX];
};

static void share_of(const struct native *p, const struct dlb_team *team, int64_t *begin,
                     int64_t *end)
{
    dlb_share(dlb_div_up(p->e.n, BLOCK), team->rank, team->size, begin, end);
    *begin = dlb_min(*begin * BLOCK, p->e.n);
    *end = dlb_min(*end * BLOCK, p->e.n);
}

static const float *operand_of(const struct native *p, int i, int64_t begin)
{
    return p->e.in[i] < 0 ? NULL : (const float *)p->tensor[p->e.in[i]] + begin;
}

static void call_on_share(const struct native *p, const struct dlb_team *team,
                          dlb_elementwise_fn *function)
{
    int64_t begin, end;
    share_of(p, team, &begin, &end);
    const struct dlb_elementwise_call call = {
        .x = operand_of(p, 0, begin),
        .d = operand_of(p, 1, begin),
        .y = (float *)p->tensor[p->e.out] + begin,
        .mask = p->mask ? p->mask + begin / BLOCK : NULL,
        .begin = begin,
        .n = end - begin,
        .constant = p->e.constant,
        .key = p->e.key,
        .threshold = p->e.threshold,
    };
    function(&call);
}

static enum dlb_status native_bind(struct dlb_plan *plan, void *const *tensor,
                                   const struct dlb_team *team, struct dlb_error *error)
{
    struct native *p = (struct native *)plan;
    (void)error;
    if (team->rank == 0)
        memcpy(p->tensor, tensor, (size_t)p->tensors * sizeof *tensor);
    dlb_team_barrier(team);
    if (p->setup)
        call_on_share(p, team, p->setup);
    dlb_team_barrier(team);
    return DLB_OK;
}

static void native_run(struct dlb_plan *plan, const struct dlb_team *team)
{
    const struct native *p = (struct native *)plan;
    call_on_share(p, team, p->function);
    p->stream_fence();
}

static enum dlb_status native_fetch(struct dlb_plan *plan, const struct dlb_team *team,
                                    struct dlb_error *error)
{
    const struct native *p = (struct native *)plan;
    int64_t begin, end;
    (void)error;
    if (p->e.kept < 0)
        return DLB_OK;
    share_of(p, team, &begin, &end);
    float *kept = p->tensor[p->e.kept];
    for (int64_t i = begin; i < end; i++)
        kept[i] = (float)(p->mask[i / BLOCK] >> i % BLOCK & 1);
    return DLB_OK;
}

static void native_release(struct dlb_plan *plan)
{
    struct native *p = (struct native *)plan;
    dlb_free(p->mask);
    free(p);
}

static const struct dlb_plan_class native_class = {
    .impl = "native",
    .spmd = true,
    .bind = native_bind,
    .run = native_run,
    .fetch = native_fetch,
    .release = native_release,
};

static void name_plan(struct dlb_plan *plan, const struct dlb_target *target)
{
    snprintf(plan->version, sizeof plan->version, "%s", DLBENCH_VERSION);
    snprintf(plan->algorithm, sizeof plan->algorithm, "%s",
             dlb_elementwise_algorithms[0]);
    snprintf(plan->layout, sizeof plan->layout, "x");
    snprintf(plan->isa, sizeof plan->isa, "%s", dlb_isa_name(target->isa));
}

enum dlb_status dlb_elementwise_plan(const struct dlb_op *op,
                                     const struct dlb_elementwise *elementwise,
                                     const struct dlb_problem *problem,
                                     const struct dlb_target *target,
                                     const struct dlb_candidate *candidate,
                                     struct dlb_plan **plan, struct dlb_error *error)
{
    const char *reason = dlb_elementwise_refuse(problem, target, candidate);
    if (reason)
        return dlb_fail(
            error, DLB_UNSUPPORTED,
            "This way of computing %s is not legal here (%s); take a candidate "
            "that the search space offers.",
            op->name, reason);
    const struct dlb_elementwise_kernels *kernels = dlb_elementwise_by_isa[target->isa];
    struct dlb_tensor tensor[DLB_TENSORS_MAX];
    struct native *p = calloc(1, sizeof *p);
    if (!p)
        return dlb_fail(error, DLB_NOMEM, "No memory for a plan of %zu bytes.",
                        sizeof *p);
    bool stream = candidate->tile[STREAM] == STREAMED;
    p->plan.class = &native_class;
    p->plan.threads = target->threads;
    p->e = *elementwise;
    p->tensors = op->tensors(problem, tensor);
    p->plan.fetches_kept = p->e.kept >= 0;
    p->function = kernels->function[p->e.function][stream];
    if (p->e.setup != DLB_ELEMENTWISE_COPY)
        p->setup = kernels->function[p->e.setup][stream];
    p->stream_fence = kernels->stream_fence;
    name_plan(&p->plan, target);
    if (p->e.setup != DLB_ELEMENTWISE_COPY || p->e.kept >= 0) {
        p->plan.workspace_bytes = (size_t)(dlb_div_up(p->e.n, BLOCK) * WORD_BYTES);
        p->mask = dlb_alloc(p->plan.workspace_bytes);
        if (!p->mask) {
            enum dlb_status status =
                dlb_fail(error, DLB_NOMEM, "No memory for a mask of %zu bytes.",
                         p->plan.workspace_bytes);
            native_release(&p->plan);
            return status;
        }
    }
    *plan = &p->plan;
    return DLB_OK;
}
