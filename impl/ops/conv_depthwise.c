/*
 * Depthwise convolution: plan and driver around the row kernels.
 *
 *   dst[n,y,x,c] = act( bias[c] + sum over kh, kw of src[taps of (n,y,x)][c] * w[c,kh,kw]
 * )
 *
 * Backward data is the same over its phases (conv_phases.c), with diff_dst for src,
 * diff_src for dst and the weights in reverse.
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

struct part {
    struct dlb_conv_phase phase;
    /* nv vectors, and one for what is left over. */
    const struct dlb_depthwise_tile *wide, *narrow;
    int64_t packed; /* where its weights begin */
    struct dlb_conv_grid grid;
};

struct depthwise {
    struct dlb_plan plan;
    struct dlb_problem problem;
    enum dlb_isa isa;
    const struct dlb_depthwise_kernels *kernels;
    int lanes;
    bool stream;
    int64_t channels, rows_block, vectors, weights_ld;
    int64_t parts_n;
    struct part *parts; /* by phase */
    float *packed;
    const float *src, *bias;
    float *dst;
};

static void share(const struct depthwise *p, const struct part *part,
                  const struct dlb_team *team, int64_t *rows, int64_t *vectors)
{
    const struct dlb_conv_shape *s = &part->phase.s;
    const struct dlb_conv_grid *grid = &part->grid;
    dlb_share(s->mb * s->oh, team->rank / grid->columns, grid->rows, &rows[0], &rows[1]);
    dlb_share(p->vectors, team->rank % grid->columns, grid->columns, &vectors[0],
              &vectors[1]);
}

static void pack(const struct depthwise *p, const struct part *part, const float *weights,
                 int64_t begin, int64_t end)
{
    const struct dlb_conv_phase *phase = &part->phase;
    float *out = p->packed + part->packed;
    for (int64_t kh = 0; kh < phase->s.kh; kh++)
        for (int64_t kw = 0; kw < phase->s.kw; kw++, out += p->weights_ld)
            for (int64_t c = begin; c < end; c++)
                out[c] = c < p->channels ? weights[phase->w + c * phase->w_group +
                                                   kh * phase->w_kh + kw * phase->w_kw]
                                         : 0;
}

static enum dlb_status depthwise_bind(struct dlb_plan *plan, void *const *tensor,
                                      const struct dlb_team *team,
                                      struct dlb_error *error)
{
    struct depthwise *p = (struct depthwise *)plan;
    bool forward = p->problem.pass == DLB_FWD;
    (void)error;
    if (team->rank == 0) {
        p->src = tensor[forward ? DLB_CONV_SRC : DLB_CONV_DST];
        p->dst = tensor[forward ? DLB_CONV_DST : DLB_CONV_SRC];
        p->bias =
            forward && p->problem.dim[DLB_CONV_BIAS] ? tensor[DLB_CONV_BIASES] : NULL;
    }
    int64_t begin, end;
    dlb_share(p->vectors, team->rank, team->size, &begin, &end);
    for (int64_t i = 0; i < p->parts_n; i++)
        pack(p, &p->parts[i], tensor[DLB_CONV_WEIGHTS], begin * p->lanes, end * p->lanes);
    dlb_team_barrier(team);
    return DLB_OK;
}

static void run_row(const struct depthwise *p, const struct part *part, int64_t row,
                    int64_t channel, bool wide)
{
    const struct dlb_conv_phase *phase = &part->phase;
    const struct dlb_conv_shape *s = &phase->s;
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
        .weights = p->packed + part->packed + channel,
        .weights_ld = p->weights_ld,
        .kernel_w = s->kw,
        .kh_begin = kh_begin,
        .kh_end = kh_end,
        .bias = p->bias ? p->bias + channel : NULL,
        .dst =
            p->dst + phase->dst + image * phase->dst_image + y * phase->dst_row + channel,
        .dst_ld = phase->dst_pixel,
        .pixels = s->ow,
        .lanes = (int)dlb_min(p->lanes, s->oc - channel),
        .relu = s->relu,
        .stream = p->stream,
    };
    const struct dlb_depthwise_tile *tile = wide ? part->wide : part->narrow;
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

/* Number block of the thread's blocks of rows in one phase; false past its last. */
static bool run_block(const struct depthwise *p, const struct part *part,
                      const struct dlb_team *team, int64_t block)
{
    int64_t rows[2], vectors[2];
    share(p, part, team, rows, vectors);
    rows[0] += block * p->rows_block;
    rows[1] = dlb_min(rows[1], rows[0] + p->rows_block);
    for (int64_t v = vectors[0]; v < vectors[1];) {
        bool whole = (v + part->wide->nv) * p->lanes <= p->channels;
        bool wide = whole && v + part->wide->nv <= vectors[1];
        for (int64_t row = rows[0]; row < rows[1]; row++)
            run_row(p, part, row, v * p->lanes, wide);
        v += wide ? part->wide->nv : 1;
    }
    return rows[0] < rows[1];
}

static void depthwise_run(struct dlb_plan *plan, const struct dlb_team *team)
{
    const struct depthwise *p = (const struct depthwise *)plan;
    bool more = true;
    if (p->problem.pass == DLB_BWD_DATA)
        dlb_conv_zero_unmet(&p->problem, p->isa, team, p->stream, p->dst);
    for (int64_t block = 0; more; block++) {
        more = false;
        for (int64_t i = 0; i < p->parts_n; i++)
            more |= run_block(p, &p->parts[i], team, block);
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
    free(p->parts);
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

/* A phase may be narrower than the one that the candidate was judged by. */
static const struct dlb_depthwise_tile *find(const struct depthwise *p, int64_t width,
                                             int mr, int nv)
{
    return dlb_depthwise_find(p->isa, mr <= width ? mr : 1, nv);
}

enum dlb_status dlb_conv_depthwise_make(const struct dlb_problem *problem,
                                        const struct dlb_target *target,
                                        const struct dlb_candidate *candidate,
                                        struct dlb_plan **plan, struct dlb_error *error)
{
    const int *tile = candidate->tile;
    int64_t phases = dlb_conv_phases(problem), taps = 0;
    struct depthwise *p = calloc(1, sizeof *p);
    if (!p)
        return dlb_fail(error, DLB_NOMEM, "No memory for a plan of %zu bytes.",
                        sizeof *p);
    p->plan.class = &depthwise_class;
    p->problem = *problem;
    p->isa = target->isa;
    p->kernels = dlb_depthwise_kernels(target->isa);
    p->lanes = dlb_isa_lanes(target->isa);
    p->stream = tile[DLB_CONV_TILE_STREAM] == DLB_CONV_STREAM_ON;
    p->channels = problem->dim[DLB_CONV_IC];
    p->rows_block = tile[DLB_CONV_TILE_ROWS];
    p->vectors = dlb_div_up(p->channels, p->lanes);
    p->weights_ld = p->vectors * p->lanes;
    p->parts = calloc((size_t)phases, sizeof *p->parts);
    for (int64_t i = 0; p->parts && i < phases; i++) {
        struct part *part = &p->parts[p->parts_n];
        if (!dlb_conv_phase_get(problem, i, &part->phase))
            continue;
        const struct dlb_conv_shape *s = &part->phase.s;
        int mr = tile[DLB_CONV_TILE_MR], nv = tile[DLB_CONV_TILE_NR] / p->lanes;
        part->wide = find(p, s->ow, mr, nv);
        part->narrow = find(p, s->ow, mr, 1);
        part->packed = taps * p->weights_ld;
        part->grid = dlb_conv_grid_make(tile[DLB_CONV_TILE_SPLIT], target->threads,
                                        s->mb * s->oh, p->vectors);
        taps += s->kh * s->kw;
        p->parts_n++;
    }
    size_t bytes = sizeof(float) * (size_t)(taps * p->weights_ld);
    p->packed = dlb_alloc(bytes);
    if (!p->parts || !p->packed) {
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
