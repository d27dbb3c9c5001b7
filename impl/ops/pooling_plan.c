/*
 * Pooling: plan and driver around the kernels of rows.
 *
 *   dst = maximum or average over windows of src; diff_src = the gradient of that, gathered
 *
 * Shapes    nhwc, in place; index of the maxima [pixel of dst][channels in whole vectors],
 *           in bytes where a kernel has at most 256 taps, else floats
 * Units     elements; a row is one row of pixels of one image, of what the pass writes
 * Tiles     channels a block; split over threads; streaming stores
 * Work items and barriers   a grid of threads over rows x blocks of channels; no barrier in
 *           run.  bwd of a maximum: bind makes the index by a forward pass
 * Scratch   maximum: the index, and in bwd a row of dst a thread; average: 1 / count of each
 *           pixel of an image
 * Cost      one or two operations a tap and channel; src and dst once
 * Numerics  no element depends on the tiles or threads
 * Errors    dlb_pooling_refuse refuses tiles that do not fit; no other
 */
#include "core/dispatch.h"
#include "ops/pooling_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

DLB_ISA_TABLE(struct dlb_pooling_kernels, dlb_pooling);

const struct dlb_pooling_kernels *dlb_pooling_kernels(enum dlb_isa isa)
{
    return dlb_isa_usable(isa) ? dlb_pooling_by_isa[isa] : NULL;
}

struct native {
    struct dlb_plan plan;
    struct dlb_pooling_shape s;
    const struct dlb_pooling_kernels *kernels;
    enum dlb_pass pass;
    dlb_pooling_fn *run, *make_index;
    bool keeps_index, bytes;
    int64_t rows, blocks, channels; /* blocks of channels */
    struct dlb_grid grid;
    int64_t index_ld;
    void *index;
    float *scale;              /* average: of each pixel of dst in an image */
    float *scratch;            /* a row of dst a thread */
    const float *src, *before; /* backward: diff_dst, src */
    float *dst, *kept;
};

static void *index_at(const struct native *p, int64_t pixel, int64_t channel)
{
    if (!p->index)
        return NULL;
    const int64_t at = pixel * p->index_ld + channel;
    return p->bytes ? (void *)((uint8_t *)p->index + at)
                    : (void *)((float *)p->index + at);
}

/* The index of rows of dst shared among all. */
static void make_index(const struct native *p, const struct dlb_team *team)
{
    const struct dlb_pooling_shape *s = &p->s;
    int64_t begin, end;
    dlb_share(s->mb * s->oh, team->rank, team->size, &begin, &end);
    for (int64_t row = begin; row < end; row++) {
        const struct dlb_pooling_row call = {
            .s = s,
            .y = row % s->oh,
            .channels = s->ic,
            .src = p->before + row / s->oh * s->ih * s->iw * s->ic,
            .dst = p->scratch + team->rank * s->ow * s->ic,
            .index = index_at(p, row * s->ow, 0),
            .index_ld = p->index_ld,
        };
        p->make_index(&call);
    }
}

static void make_scales(const struct native *p)
{
    const struct dlb_pooling_shape *s = &p->s;
    for (int64_t i = 0; i < s->oh * s->ow; i++) {
        int64_t h[2], w[2];
        dlb_pooling_taps(i / s->ow, s->ih, s->kh, s->sh, s->ph, &h[0], &h[1]);
        dlb_pooling_taps(i % s->ow, s->iw, s->kw, s->sw, s->pw, &w[0], &w[1]);
        int64_t count =
            s->kind == DLB_POOLING_AVG ? (h[1] - h[0]) * (w[1] - w[0]) : s->kh * s->kw;
        p->scale[i] = 1.0f / (float)count;
    }
}

static enum dlb_status native_bind(struct dlb_plan *plan, void *const *tensor,
                                   const struct dlb_team *team, struct dlb_error *error)
{
    struct native *p = (struct native *)plan;
    const bool back = p->pass == DLB_BWD;
    (void)error;
    if (team->rank == 0) {
        p->src = tensor[back ? DLB_POOLING_DIFF_DST : DLB_POOLING_SRC];
        p->dst = tensor[back ? DLB_POOLING_DIFF_SRC : DLB_POOLING_DST];
        p->before = p->make_index ? tensor[DLB_POOLING_BWD_SRC] : NULL;
        p->kept = p->keeps_index ? tensor[DLB_POOLING_INDEX] : NULL;
        if (p->scale)
            make_scales(p);
    }
    dlb_team_barrier(team);
    if (p->make_index)
        make_index(p, team);
    dlb_team_barrier(team);
    return DLB_OK;
}

static void native_run(struct dlb_plan *plan, const struct dlb_team *team)
{
    const struct native *p = (const struct native *)plan;
    const struct dlb_pooling_shape *s = &p->s;
    const bool back = p->pass == DLB_BWD;
    const int64_t height = back ? s->ih : s->oh, width = back ? s->iw : s->ow,
                  image = back ? s->oh * s->ow : s->ih * s->iw;
    int64_t rows[2], blocks[2];
    dlb_grid_share(&p->grid, team->rank, p->rows, p->blocks, rows, blocks);
    for (int64_t row = rows[0]; row < rows[1]; row++)
        for (int64_t block = blocks[0]; block < blocks[1]; block++) {
            const int64_t c = block * p->channels, n = row / height;
            const struct dlb_pooling_row call = {
                .s = s,
                .y = row % height,
                .channels = dlb_min(p->channels, s->ic - c),
                .src = p->src + n * image * s->ic + c,
                .dst = p->dst + row * width * s->ic + c,
                .index = index_at(p, back ? n * image : row * width, c),
                .index_ld = p->index_ld,
                .scale = p->scale,
            };
            p->run(&call);
        }
    p->kernels->stream_fence();
}

static enum dlb_status native_fetch(struct dlb_plan *plan, const struct dlb_team *team,
                                    struct dlb_error *error)
{
    const struct native *p = (const struct native *)plan;
    const struct dlb_pooling_shape *s = &p->s;
    int64_t begin, end;
    (void)error;
    dlb_share(s->mb * s->oh * s->ow, team->rank, team->size, &begin, &end);
    for (int64_t pixel = begin; p->keeps_index && pixel < end; pixel++) {
        const void *from = index_at(p, pixel, 0);
        for (int64_t c = 0; c < s->ic; c++)
            p->kept[pixel * s->ic + c] =
                p->bytes ? ((const uint8_t *)from)[c] : ((const float *)from)[c];
    }
    return DLB_OK;
}

static void native_release(struct dlb_plan *plan)
{
    struct native *p = (struct native *)plan;
    dlb_free(p->index);
    dlb_free(p->scale);
    dlb_free(p->scratch);
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

static void choose_kernels(struct native *p, bool sweep, bool stream)
{
    const struct dlb_pooling_kernels *k = p->kernels;
    const bool max = p->s.kind == DLB_POOLING_MAX;
    p->bytes = p->s.kh * p->s.kw <= DLB_POOLING_BYTE_TAPS;
    if (p->pass == DLB_BWD) {
        p->run = (!max       ? k->back_average
                  : p->bytes ? k->back_bytes
                             : k->back_floats)[stream];
        p->make_index = !max ? NULL : (p->bytes ? k->max_bytes : k->max_floats)[false];
        return;
    }
    p->keeps_index = max && p->pass == DLB_FWD_TRAIN;
    p->plan.fetches_kept = p->keeps_index;
    p->run = (sweep             ? k->sweep
              : !max            ? k->average
              : !p->keeps_index ? k->max
              : p->bytes        ? k->max_bytes
                                : k->max_floats)[stream];
}

static bool allocate(struct native *p)
{
    const struct dlb_pooling_shape *s = &p->s;
    const size_t element = p->bytes ? 1 : sizeof(float);
    size_t index = 0, scratch = 0, scale = 0;
    if (p->keeps_index || p->make_index)
        index = element * (size_t)(s->mb * s->oh * s->ow * p->index_ld);
    if (p->make_index)
        scratch = sizeof(float) * (size_t)(p->plan.threads * s->ow * s->ic);
    if (s->kind != DLB_POOLING_MAX)
        scale = sizeof(float) * (size_t)(s->oh * s->ow);
    p->plan.workspace_bytes = index + scratch + scale;
    p->index = index ? dlb_alloc(index) : NULL;
    p->scratch = scratch ? dlb_alloc(scratch) : NULL;
    p->scale = scale ? dlb_alloc(scale) : NULL;
    return (p->index || !index) && (p->scratch || !scratch) && (p->scale || !scale);
}

enum dlb_status dlb_pooling_plan(const struct dlb_problem *problem,
                                 const struct dlb_target *target,
                                 const struct dlb_candidate *candidate,
                                 struct dlb_plan **plan, struct dlb_error *error)
{
    const int *tile = candidate->tile;
    const char *reason = dlb_pooling_refuse(problem, target, candidate);
    if (reason)
        return dlb_fail(error, DLB_UNSUPPORTED,
                        "This way of computing the pooling is not legal here (%s); take "
                        "a candidate that the search space offers.",
                        reason);
    struct native *p = calloc(1, sizeof *p);
    if (!p)
        return dlb_fail(error, DLB_NOMEM, "No memory for a plan of %zu bytes.",
                        sizeof *p);
    p->plan.class = &native_class;
    p->plan.threads = target->threads;
    p->pass = problem->pass;
    dlb_pooling_shape_get(problem, &p->s);
    p->kernels = dlb_pooling_kernels(target->isa);
    p->channels = tile[DLB_POOLING_TILE_CHANNELS];
    p->blocks = dlb_div_up(p->s.ic, p->channels);
    p->rows = dlb_pooling_rows(problem);
    p->index_ld = dlb_round_up(p->s.ic, p->kernels->lanes);
    p->grid =
        dlb_grid_make(tile[DLB_POOLING_TILE_SPLIT], target->threads, p->rows, p->blocks);
    choose_kernels(p, candidate->algorithm == DLB_POOLING_SWEEP,
                   tile[DLB_POOLING_TILE_STREAM] == DLB_POOLING_STREAM_ON);
    if (!allocate(p)) {
        enum dlb_status status = dlb_fail(
            error, DLB_NOMEM, "No memory for %zu bytes of work space of pooling.",
            p->plan.workspace_bytes);
        native_release(&p->plan);
        return status;
    }
    snprintf(p->plan.version, sizeof p->plan.version, "%s", DLBENCH_VERSION);
    snprintf(p->plan.algorithm, sizeof p->plan.algorithm, "%s",
             dlb_pooling_algorithms[candidate->algorithm]);
    snprintf(p->plan.layout, sizeof p->plan.layout, "nhwc");
    snprintf(p->plan.isa, sizeof p->plan.isa, "%s", dlb_isa_name(target->isa));
    *plan = &p->plan;
    return DLB_OK;
}
