/*
 * Softmax cross-entropy: problem, search space and plans; kernels in xent_kernels.c.
 *
 * Work items and barriers   rows, contiguous for a thread; forward one barrier before the
 *           losses of the rows are added in their order, so that the loss does not depend on
 *           the threads
 * Scratch   the loss of each row; backward its maximum and sum, or with kept all weights
 */
#include "ops/xent.h"

#include "core/dispatch.h"
#include "ops/xent_kernels.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

DLB_ISA_TABLE(struct dlb_xent_kernels, dlb_xent);

const struct dlb_xent_kernels *dlb_xent_kernels(enum dlb_isa isa)
{
    return dlb_xent_by_isa[isa];
}

enum { ROWS_MAX = 1 << 30, CLASSES_MAX = 1 << 24, UNSET = DLB_DIM_UNSET };

static const char *const losses[DLB_XENT_LOSSES] = {
    [DLB_XENT_MEAN] = "mean",
    [DLB_XENT_SUM] = "sum",
};

static const struct dlb_dim_def dims[DLB_XENT_DIMS] = {
    [DLB_XENT_MB] = {"mb", 1, ROWS_MAX, 2, "rows", NULL},
    [DLB_XENT_IC] = {"ic", 1, CLASSES_MAX, UNSET, "classes", NULL},
    [DLB_XENT_LOSS] = {"loss", 0, DLB_XENT_LOSSES - 1, DLB_XENT_MEAN,
                       "what becomes of the rows' losses", losses},
};

/* Backward: logits are weighed again, or weights were kept by the forward pass. */
enum algorithm { ROWS, KEPT, ALGORITHMS };
static const char *const algorithms[ALGORITHMS] = {[ROWS] = "rows", [KEPT] = "kept"};

enum tile { TILE_BLOCK, TILE_STORE, TILES };
enum store { STORE_CACHED = 1, STORE_STREAMED };
static const char *const stores[] = {"cached", "streamed", NULL};

static const struct dlb_tile_def tiles[TILES] = {
    [TILE_BLOCK] = {"block", NULL, "classes between maximum and sum"},
    [TILE_STORE] = {"store", stores, "gradients into or past the caches"},
};

void dlb_xent_shape_get(const struct dlb_problem *problem, struct dlb_xent_shape *shape)
{
    const int64_t *d = problem->dim;
    *shape = (struct dlb_xent_shape){
        .mb = d[DLB_XENT_MB],
        .ic = d[DLB_XENT_IC],
        .weight = d[DLB_XENT_LOSS] == DLB_XENT_MEAN ? 1 / (float)d[DLB_XENT_MB] : 1,
        .train = problem->pass == DLB_FWD_TRAIN,
        .backward = problem->pass == DLB_BWD,
    };
}

static enum dlb_status xent_complete(struct dlb_problem *problem, struct dlb_error *error)
{
    int64_t *d = problem->dim;
    enum dlb_status status = dlb_op_check_ranges(&dlb_op_softmax_xent, problem, error);
    if (status)
        return status;
    if (d[DLB_XENT_IC] == UNSET)
        return dlb_fail(error, DLB_INVALID,
                        "The dim 'ic' (classes) is missing; write for example ic1000.");
    for (int i = 0; i < DLB_XENT_DIMS; i++)
        if (d[i] == UNSET)
            d[i] = dims[i].fallback;
    return dlb_op_check_elements(&dlb_op_softmax_xent, problem, error);
}

static bool xent_dim_needed(const struct dlb_problem *problem, int dim)
{
    return problem->dim[dim] != dims[dim].fallback;
}

static double xent_flops(const struct dlb_problem *problem)
{
    double elements =
        (double)problem->dim[DLB_XENT_MB] * (double)problem->dim[DLB_XENT_IC];
    return (problem->pass == DLB_BWD ? 3 : 4) * elements;
}

static double xent_bytes(const struct dlb_problem *problem)
{
    return dlb_op_tensor_bytes(&dlb_op_softmax_xent, problem);
}

static int xent_tensors(const struct dlb_problem *problem, struct dlb_tensor *tensor)
{
    static const float SPREAD = 4, LEAST = 0.5f, MOST = 1.5f;
    struct dlb_xent_shape s;
    dlb_xent_shape_get(problem, &s);
    const enum dlb_fill fill = DLB_FILL_ACTIVATION;
    tensor[DLB_XENT_LOGITS] = (struct dlb_tensor){
        "logits", "nc", DLB_INPUT, fill, 2, {s.mb, s.ic}, -SPREAD, SPREAD};
    tensor[DLB_XENT_LABELS] =
        (struct dlb_tensor){"labels", "n", DLB_INPUT, DLB_FILL_BIAS, 1, {s.mb}, 0, 0};
    if (s.backward) {
        tensor[DLB_XENT_DIFF_LOSS] = (struct dlb_tensor){
            "diff_loss", "x", DLB_INPUT, DLB_FILL_BIAS, 1, {1}, LEAST, MOST};
        tensor[DLB_XENT_DIFF_LOGITS] = (struct dlb_tensor){
            "diff_logits", "nc", DLB_OUTPUT, fill, 2, {s.mb, s.ic}, 0, 0};
    } else {
        tensor[DLB_XENT_LOSS_VALUE] =
            (struct dlb_tensor){"loss", "x", DLB_OUTPUT, DLB_FILL_BIAS, 1, {1}, 0, 0};
        tensor[DLB_XENT_LOGSUM] = (struct dlb_tensor){
            "logsum", "n", DLB_KEPT, DLB_FILL_BIAS, 1, {s.train ? s.mb : 0}, 0, 0};
    }
    return DLB_XENT_TENSORS;
}

/* Labels that are classes. */
static bool xent_fill(const struct dlb_problem *problem, int t, enum dlb_fill_kind kind,
                      uint64_t seed, int64_t begin, int64_t end, float *data)
{
    (void)kind;
    if (t != DLB_XENT_LABELS)
        return false;
    for (int64_t i = begin; i < end; i++)
        data[i] =
            (float)(dlb_hash(seed, (uint64_t)i) % (uint64_t)problem->dim[DLB_XENT_IC]);
    return true;
}

static void xent_enumerate(const struct dlb_problem *problem,
                           const struct dlb_target *target, dlb_candidate_fn *emit,
                           void *context)
{
    static const int blocks[] = {512, 2048, 8192, CLASSES_MAX};
    struct dlb_candidate c = {0};
    int64_t classes = problem->dim[DLB_XENT_IC], last = 0;
    (void)target;
    if (problem->pass == DLB_BWD) {
        for (int i = 0; i < ALGORITHMS * STORE_STREAMED; i++) {
            c.algorithm = i / STORE_STREAMED;
            c.tile[TILE_STORE] = STORE_CACHED + i % STORE_STREAMED;
            if (!emit(context, &c))
                return;
        }
        return;
    }
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        int64_t block = dlb_min(blocks[i], classes);
        c.tile[TILE_BLOCK] = (int)block;
        if (block == last || !emit(context, &c))
            return;
        last = block;
    }
}

static const char *xent_refuse(const struct dlb_problem *problem,
                               const struct dlb_target *target,
                               const struct dlb_candidate *c)
{
    const int block = c->tile[TILE_BLOCK], store = c->tile[TILE_STORE];
    (void)target;
    if (c->algorithm != ROWS && c->algorithm != KEPT)
        return "no such algorithm";
    if (problem->pass == DLB_BWD) {
        if (block)
            return "the backward pass has no blocks";
        if (store != STORE_CACHED && store != STORE_STREAMED)
            return "no such store";
        return NULL;
    }
    if (block < 1 || block > problem->dim[DLB_XENT_IC])
        return "block is not a part of the classes";
    if (c->algorithm == KEPT)
        return "the forward pass has nothing that was kept";
    return store ? "the forward pass stores no gradients" : NULL;
}

static void xent_fallback(const struct dlb_problem *problem,
                          const struct dlb_target *target,
                          struct dlb_candidate *candidate)
{
    dlb_op_fallback(&dlb_op_softmax_xent, problem, target, candidate);
}

static double xent_estimate(const struct dlb_problem *problem,
                            const struct dlb_target *target,
                            const struct dlb_rates *rates, const struct dlb_candidate *c)
{
    static const double EXP_CYCLES = 6, MAX_CYCLES = 1, SCALE_CYCLES = 1,
                        BLOCK_CYCLES = 60, GHZ = 3, FAR_GBS = 10, NEAR_GBS = 40;
    struct dlb_xent_shape s;
    dlb_xent_shape_get(problem, &s);
    const double row = (double)s.ic, elements = (double)s.mb * row;
    const double threads = (double)dlb_min(target->threads, s.mb);
    const double bytes = sizeof(float) * elements * (s.backward ? 2 : 1);
    const bool beyond = bytes > (double)target->l3_bytes * target->threads;
    double vectors = elements / dlb_isa_lanes(target->isa);
    double cycles = vectors * (c->algorithm == KEPT ? SCALE_CYCLES : EXP_CYCLES);
    double gbs = beyond ? rates->memory_gbs : rates->l3_gbs;
    if (gbs <= 0)
        gbs = (beyond ? FAR_GBS : NEAR_GBS) * threads;
    double traffic = bytes;
    if (s.backward) {
        /* A cached store reads its line first; a streamed one leaves the caches. */
        if (beyond == (c->tile[TILE_STORE] == STORE_CACHED))
            traffic *= 1.5;
    } else {
        const double block = c->tile[TILE_BLOCK];
        cycles += vectors * MAX_CYCLES + (double)s.mb * ceil(row / block) * BLOCK_CYCLES;
        if (sizeof(float) * block > (double)target->l1d_bytes / 2)
            cycles += vectors * MAX_CYCLES;
    }
    return fmax(cycles / GHZ / threads, traffic / gbs) + rates->barrier_ns + 1;
}

struct xent_plan {
    struct dlb_plan plan;
    struct dlb_xent_shape s;
    const struct dlb_xent_kernels *kernels;
    int64_t block; /* classes */
    bool stream;
    const float *logits, *labels, *diff_loss;
    float *loss, *logsum, *diff_logits;
    /* [row]: its loss; backward the row's maximum, then its sum */
    float *row;
    float *weights; /* those of softmax, as logits; NULL unless kept */
};

/* Without a candidate's choice: a quarter of a usual first-level cache. */
enum { BIND_BLOCK = 2048 };

/* What the forward pass leaves of a row.  A sum of 0 is that of -inf alone. */
static void keep_row(const struct xent_plan *p, int64_t n)
{
    const int64_t at = n * p->s.ic;
    float *maximum = &p->row[2 * n], *sum = maximum + 1;
    p->kernels->statistics(p->logits + at, p->s.ic, BIND_BLOCK, maximum, sum);
    if (p->weights)
        p->kernels->weigh(p->logits + at, p->s.ic, *maximum, *sum == 0 ? NAN : 1 / *sum,
                          p->weights + at, false);
}

static enum dlb_status xent_bind(struct dlb_plan *plan, void *const *tensor,
                                 const struct dlb_team *team, struct dlb_error *error)
{
    struct xent_plan *p = (struct xent_plan *)plan;
    (void)error;
    if (team->rank == 0) {
        p->logits = tensor[DLB_XENT_LOGITS];
        p->labels = tensor[DLB_XENT_LABELS];
        p->diff_loss = p->s.backward ? tensor[DLB_XENT_DIFF_LOSS] : NULL;
        p->diff_logits = p->s.backward ? tensor[DLB_XENT_DIFF_LOGITS] : NULL;
        p->loss = p->s.backward ? NULL : tensor[DLB_XENT_LOSS_VALUE];
        p->logsum = p->s.train ? tensor[DLB_XENT_LOGSUM] : NULL;
    }
    dlb_team_barrier(team);
    int64_t begin, end;
    dlb_share(p->s.mb, team->rank, team->size, &begin, &end);
    for (int64_t n = begin; n < end; n++) {
        if (p->s.backward)
            keep_row(p, n);
        else
            p->row[n] = 0;
    }
    return DLB_OK;
}

static void run_forward(const struct xent_plan *p, int64_t n)
{
    const float *logits = p->logits + n * p->s.ic;
    const int64_t class = dlb_xent_class(&p->s, p->labels[n]);
    float maximum, sum;
    p->kernels->statistics(logits, p->s.ic, p->block, &maximum, &sum);
    const float logarithm = logf(sum);
    p->row[n] = class < 0 ? NAN : maximum - logits[class] + logarithm;
    if (p->logsum)
        p->logsum[n] = sum == 0 ? NAN : maximum + logarithm;
}

static void weigh_row(const struct xent_plan *p, int64_t n, float scale)
{
    const float maximum = p->row[2 * n], sum = p->row[2 * n + 1];
    p->kernels->weigh(p->logits + n * p->s.ic, p->s.ic, maximum,
                      sum == 0 ? NAN : scale / sum, p->diff_logits + n * p->s.ic,
                      p->stream);
}

/* Less 1 at the label. */
static void finish_row(const struct xent_plan *p, int64_t n, float scale)
{
    float *gradient = p->diff_logits + n * p->s.ic;
    const int64_t class = dlb_xent_class(&p->s, p->labels[n]);
    if (class >= 0)
        gradient[class] -= scale;
    for (int64_t c = 0; class < 0 && c < p->s.ic; c++)
        gradient[c] = NAN;
}

/* Short rows together, as many as stay in the first-level cache. */
static void run_backward(const struct xent_plan *p, int64_t begin, int64_t end)
{
    const int64_t together = p->weights ? dlb_max(1, BIND_BLOCK / p->s.ic) : 1;
    const float scale = *p->diff_loss * p->s.weight;
    for (int64_t n = begin; n < end; n += together) {
        const int64_t next = dlb_min(end, n + together), at = n * p->s.ic;
        if (p->weights)
            p->kernels->scale(p->weights + at, (next - n) * p->s.ic, scale,
                              p->diff_logits + at, p->stream);
        else
            weigh_row(p, n, scale);
        for (int64_t i = n; i < next; i++)
            finish_row(p, i, scale);
    }
}

static void run_losses(const struct xent_plan *p, const struct dlb_team *team,
                       int64_t begin, int64_t end)
{
    for (int64_t n = begin; n < end; n++)
        run_forward(p, n);
    dlb_team_barrier(team);
    if (team->rank > 0)
        return;
    double loss = 0;
    for (int64_t n = 0; n < p->s.mb; n++)
        loss += p->row[n];
    *p->loss = (float)(loss * p->s.weight);
}

static void xent_run(struct dlb_plan *plan, const struct dlb_team *team)
{
    const struct xent_plan *p = (const struct xent_plan *)plan;
    int64_t begin, end;
    dlb_share(p->s.mb, team->rank, team->size, &begin, &end);
    if (p->s.backward)
        run_backward(p, begin, end);
    else
        run_losses(p, team, begin, end);
    if (p->stream)
        p->kernels->stream_fence();
}

static enum dlb_status xent_fetch(struct dlb_plan *plan, const struct dlb_team *team,
                                  struct dlb_error *error)
{
    (void)plan, (void)team, (void)error;
    return DLB_OK;
}

static void xent_release(struct dlb_plan *plan)
{
    struct xent_plan *p = (struct xent_plan *)plan;
    dlb_free(p->row);
    dlb_free(p->weights);
    free(p);
}

static const struct dlb_plan_class xent_class = {
    .impl = "native",
    .spmd = true,
    .bind = xent_bind,
    .run = xent_run,
    .fetch = xent_fetch,
    .release = xent_release,
};

static enum dlb_status xent_plan_make(const struct dlb_problem *problem,
                                      const struct dlb_target *target,
                                      const struct dlb_candidate *candidate,
                                      struct dlb_plan **plan, struct dlb_error *error)
{
    const char *reason = xent_refuse(problem, target, candidate);
    if (reason)
        return dlb_fail(
            error, DLB_UNSUPPORTED,
            "This way of computing softmax_xent is not legal here (%s); take a "
            "candidate that the search space offers.",
            reason);
    struct xent_plan *p = calloc(1, sizeof *p);
    if (!p)
        return dlb_fail(error, DLB_NOMEM, "No memory for a plan of %zu bytes.",
                        sizeof *p);
    p->plan.class = &xent_class;
    dlb_xent_shape_get(problem, &p->s);
    p->kernels = dlb_xent_kernels(target->isa);
    p->block = candidate->tile[TILE_BLOCK];
    p->stream = candidate->tile[TILE_STORE] == STORE_STREAMED;
    const size_t row = (size_t)p->s.mb * (p->s.backward ? 2 : 1) * sizeof *p->row;
    const size_t weights = candidate->algorithm == KEPT
                               ? (size_t)(p->s.mb * p->s.ic) * sizeof *p->weights
                               : 0;
    p->row = dlb_alloc(row);
    p->weights = weights ? dlb_alloc(weights) : NULL;
    p->plan.workspace_bytes = row + weights;
    if (!p->row || (weights && !p->weights)) {
        xent_release(&p->plan);
        return dlb_fail(
            error, DLB_NOMEM,
            "No memory for what is kept of %lld rows; take a smaller problem.",
            (long long)p->s.mb);
    }
    p->plan.threads = target->threads;
    p->plan.fetches_kept = true;
    snprintf(p->plan.version, sizeof p->plan.version, "%s", DLBENCH_VERSION);
    snprintf(p->plan.algorithm, sizeof p->plan.algorithm, "%s",
             algorithms[candidate->algorithm]);
    snprintf(p->plan.layout, sizeof p->plan.layout, "nc");
    snprintf(p->plan.isa, sizeof p->plan.isa, "%s", dlb_isa_name(target->isa));
    *plan = &p->plan;
    return DLB_OK;
}

const struct dlb_op dlb_op_softmax_xent = {
    .name = "softmax_xent",
    .summary = "softmax cross-entropy: the loss of rows of logits and their labels",
    .dims = dims,
    .dims_n = DLB_XENT_DIMS,
    .algorithms = algorithms,
    .algorithms_n = ALGORITHMS,
    .tiles = tiles,
    .tiles_n = TILES,
    .passes = 1u << DLB_FWD | 1u << DLB_FWD_TRAIN | 1u << DLB_BWD,
    .complete = xent_complete,
    .dim_needed = xent_dim_needed,
    .flops = xent_flops,
    .bytes = xent_bytes,
    .tensors = xent_tensors,
    .fill = xent_fill,
    .enumerate = xent_enumerate,
    .refuse = xent_refuse,
    .fallback = xent_fallback,
    .estimate = xent_estimate,
    .plan = xent_plan_make,
};
