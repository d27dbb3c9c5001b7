/*
 * Depthwise convolution: plan and driver around the row kernels.
 *
 *   dst[n,y,x,c] = act( bias[c] + sum over kh, kw of src[taps of (n,y,x)][c] * w[c,kh,kw]
 * )
 *
 * Shapes    src nhwc and dst nhwc in place; weights packed in bind as [kh][kw][channels
 *           rounded up to a vector]
 * Units     elements; a row is one output row of one image
 * Tiles     mr pixels x nr channels in registers; rows a block: a block runs through its
 *           rows for one group of nr channels before it takes the next
 * Padding   is neither read nor multiplied: taps outside the input are left out
 * Work items and barriers   a grid of threads over rows x vectors of channels; no barrier
 *           in run, one in bind
 * Scratch   none
 * Cost      2*mb*c*(valid taps) flops; least bytes: src and dst once
 * Numerics  one chain of FMA per element in the order kh, kw
 * Errors    dlb_conv_depthwise_refuse refuses tiles without a kernel
 */
#include "ops/conv_depthwise.h"

#include "core/dispatch.h"
#include "ops/conv_internal.h"

#include <math.h>
#include <stdlib.h>

DLB_ISA_TABLE(struct dlb_depthwise_kernels, dlb_depthwise);

const struct dlb_depthwise_kernels *dlb_depthwise_kernels(enum dlb_isa isa)
{
    return dlb_depthwise_by_isa[isa];
}

const struct dlb_depthwise_tile *dlb_depthwise_find(enum dlb_isa isa, int mr, int nv)
{
    const struct dlb_depthwise_kernels *kernels = dlb_depthwise_kernels(isa);
    for (int i = 0; i < kernels->tiles_n; i++)
        if (kernels->tiles[i].mr == mr && kernels->tiles[i].nv == nv)
            return &kernels->tiles[i];
    return NULL;
}

struct depthwise {
    struct dlb_plan plan;
    struct dlb_conv_shape s;
    const struct dlb_depthwise_kernels *kernels;
    /* nv vectors, and one for what is left over. */
    const struct dlb_depthwise_tile *wide, *narrow;
    int lanes;
    bool stream;
    int64_t rows_block, vectors, weights_ld;
    struct dlb_conv_grid grid;
    float *packed;
    const float *src, *bias;
    float *dst;
};

static void share(const struct depthwise *p, const struct dlb_team *team, int64_t *rows,
                  int64_t *vectors)
{
    dlb_share(p->s.mb * p->s.oh, team->rank / p->grid.columns, p->grid.rows, &rows[0],
              &rows[1]);
    dlb_share(p->vectors, team->rank % p->grid.columns, p->grid.columns, &vectors[0],
              &vectors[1]);
}

static enum dlb_status depthwise_bind(struct dlb_plan *plan, void *const *tensor,
                                      const struct dlb_team *team,
                                      struct dlb_error *error)
{
    struct depthwise *p = (struct depthwise *)plan;
    const struct dlb_conv_shape *s = &p->s;
    const float *weights = tensor[DLB_CONV_WEIGHTS];
    (void)error;
    if (team->rank == 0) {
        p->src = tensor[DLB_CONV_SRC];
        p->dst = tensor[DLB_CONV_DST];
        p->bias = s->bias ? tensor[DLB_CONV_BIASES] : NULL;
    }
    int64_t taps = s->kh * s->kw, begin, end;
    dlb_share(p->vectors, team->rank, team->size, &begin, &end);
    for (int64_t tap = 0; tap < taps; tap++)
        for (int64_t c = begin * p->lanes; c < end * p->lanes; c++)
            p->packed[tap * p->weights_ld + c] = c < s->oc ? weights[c * taps + tap] : 0;
    dlb_team_barrier(team);
    return DLB_OK;
}

static void run_row(const struct depthwise *p, int64_t row, int64_t channel, bool wide)
{
    const struct dlb_conv_shape *s = &p->s;
    int64_t image = row / s->oh, y = row % s->oh, kh_begin, kh_end;
    dlb_conv_valid_taps(y, s->ih, s->kh, s->sh, s->ph, s->dh, &kh_begin, &kh_end);
    struct dlb_depthwise call = {
        .src = p->src,
        .start = ((image * s->ih + y * s->sh - s->ph) * s->iw - s->pw) * s->ic + channel,
        .x_first = -s->pw,
        .x_step = s->sw,
        .x_tap = s->dw + 1,
        .x_size = s->iw,
        .pixel = s->sw * s->ic,
        .line = (s->dh + 1) * s->iw * s->ic,
        .column = (s->dw + 1) * s->ic,
        .weights = p->packed + channel,
        .weights_ld = p->weights_ld,
        .kernel_w = s->kw,
        .kh_begin = kh_begin,
        .kh_end = kh_end,
        .bias = p->bias ? p->bias + channel : NULL,
        .dst = p->dst + row * s->ow * s->oc + channel,
        .dst_ld = s->oc,
        .pixels = s->ow,
        .lanes = (int)dlb_min(p->lanes, s->oc - channel),
        .relu = s->relu,
        .stream = p->stream,
    };
    const struct dlb_depthwise_tile *tile = wide ? p->wide : p->narrow;
    bool three = s->kh == 3 && s->kw == 3 && s->dw == 0;
    if (call.lanes < p->lanes)
        tile->any_tail(&call);
    else if (three && s->sw == 1)
        tile->k3s1(&call);
    else if (three && s->sw == 2)
        tile->k3s2(&call);
    else
        tile->any(&call);
}

static void depthwise_run(struct dlb_plan *plan, const struct dlb_team *team)
{
    const struct depthwise *p = (const struct depthwise *)plan;
    int64_t rows[2], vectors[2];
    share(p, team, rows, vectors);
    for (int64_t r = rows[0]; r < rows[1]; r += p->rows_block) {
        int64_t end = dlb_min(rows[1], r + p->rows_block);
        for (int64_t v = vectors[0]; v < vectors[1];) {
            bool whole = (v + p->wide->nv) * p->lanes <= p->s.oc;
            bool wide = whole && v + p->wide->nv <= vectors[1];
            for (int64_t row = r; row < end; row++)
                run_row(p, row, v * p->lanes, wide);
            v += wide ? p->wide->nv : 1;
        }
    }
    if (p->stream)
        p->kernels->stream_fence();
}

static enum dlb_status depthwise_fetch(struct dlb_plan *plan, const struct dlb_team *team,
                                       struct dlb_error *error)
{
    (void)plan, (void)team, (void)error;
    return DLB_OK;
}

static void depthwise_release(struct dlb_plan *plan)
{
    struct depthwise *p = (struct depthwise *)plan;
    dlb_free(p->packed);
    free(p);
}

static const struct dlb_plan_class depthwise_class = {
    .impl = "native",
    .spmd = true,
    .bind = depthwise_bind,
    .run = depthwise_run,
    .fetch = depthwise_fetch,
    .release = depthwise_release,
};

enum dlb_status dlb_conv_depthwise_make(const struct dlb_problem *problem,
                                        const struct dlb_target *target,
                                        const struct dlb_candidate *candidate,
                                        struct dlb_plan **plan, struct dlb_error *error)
{
    const int *tile = candidate->tile;
    struct depthwise *p = calloc(1, sizeof *p);
    if (!p)
        return dlb_fail(error, DLB_NOMEM, "No memory for a plan of %zu bytes.",
                        sizeof *p);
    p->plan.class = &depthwise_class;
    dlb_conv_shape_get(problem, &p->s);
    int mr = tile[DLB_CONV_TILE_MR];
    p->kernels = dlb_depthwise_kernels(target->isa);
    p->lanes = dlb_isa_lanes(target->isa);
    int nv = tile[DLB_CONV_TILE_NR] / p->lanes;
    p->wide = dlb_depthwise_find(target->isa, mr, nv);
    p->narrow = dlb_depthwise_find(target->isa, mr, 1);
    p->stream = tile[DLB_CONV_TILE_STREAM] == DLB_CONV_STREAM_ON;
    p->rows_block = tile[DLB_CONV_TILE_ROWS];
    p->vectors = dlb_div_up(p->s.oc, p->lanes);
    p->weights_ld = p->vectors * p->lanes;
    p->grid = dlb_conv_grid_make(tile[DLB_CONV_TILE_SPLIT], target->threads,
                                 p->s.mb * p->s.oh, p->vectors);
    size_t bytes = sizeof(float) * (size_t)(p->s.kh * p->s.kw * p->weights_ld);
    p->packed = dlb_alloc(bytes);
    if (!p->packed) {
        depthwise_release(&p->plan);
        return dlb_fail(error, DLB_NOMEM,
                        "No memory for %zu bytes of packed depthwise weights.", bytes);
    }
    p->plan.workspace_bytes = bytes;
    *plan = &p->plan;
    return DLB_OK;
}

const char *dlb_conv_depthwise_refuse(const struct dlb_conv_shape *s,
                                      const struct dlb_target *target,
                                      const struct dlb_candidate *candidate)
{
    const int *tile = candidate->tile;
    int lanes = dlb_isa_lanes(target->isa), mr = tile[DLB_CONV_TILE_MR];
    if (tile[DLB_CONV_TILE_NR] % lanes)
        return "nr is not whole vectors";
    int nv = tile[DLB_CONV_TILE_NR] / lanes;
    if (!dlb_depthwise_find(target->isa, mr, nv))
        return "no such depthwise register tile";
    if (mr > s->ow || (nv > 1 && nv * lanes > s->oc))
        return "register tile exceeds the output";
    if (tile[DLB_CONV_TILE_ROWS] > s->mb * s->oh)
        return "block has more rows than there are";
    if (tile[DLB_CONV_TILE_KC] || tile[DLB_CONV_TILE_ORDER] ||
        tile[DLB_CONV_TILE_PREFETCH])
        return "tile does not apply to depthwise";
    return NULL;
}

double dlb_conv_depthwise_cycles(const struct dlb_conv_shape *s,
                                 const struct dlb_target *target,
                                 const struct dlb_candidate *candidate)
{
    const int *tile = candidate->tile;
    double lanes = dlb_isa_lanes(target->isa), mr = tile[DLB_CONV_TILE_MR];
    double nv = tile[DLB_CONV_TILE_NR] / lanes, taps = (double)(s->kh * s->kw);
    bool held = taps == 9 && s->sw <= 2 && s->dw == 0;
    /* One line at a time is dearer than two neighbours. */
    double miss = nv > 1 ? 0.5 : 1;
    double loads = held ? ((mr - 1) * (double)s->sw + 3) * 3 * nv : taps * (mr + 1) * nv;
    double fma = taps * mr * nv;
    /* A chain of taps steps is at least as long as its latency. */
    double cycles =
        fmax(fmax(fma / 2, loads / 2), 4 * taps) + mr * nv + 10 + miss * loads;
    double tiles = ceil((double)s->ow / mr) * (double)(s->mb * s->oh) *
                   ceil((double)s->oc / lanes) / nv;
    return tiles * cycles;
}
