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
 * Padding   is neither read nor multiplied: pixels that share one range of valid kw are a
 *           call; kh outside the input are left out
 * Work items and barriers   a grid of threads over rows x vectors of channels; no barrier
 *           in run, one in bind
 * Scratch   none
 * Cost      2*mb*c*(valid taps) flops; least bytes: src and dst once
 * Numerics  one chain of FMA per element in the order kh, kw
 * Errors    dlb_conv_depthwise_refuse refuses tiles without a kernel
 */
#include "ops/conv_depthwise.h"

#include "ops/conv_internal.h"

#include <math.h>
#include <stdlib.h>

extern const struct dlb_depthwise_kernels dlb_depthwise_scalar, dlb_depthwise_sse2,
    dlb_depthwise_avx2, dlb_depthwise_avx512, dlb_depthwise_neon;

const struct dlb_depthwise_kernels *dlb_depthwise_kernels(enum dlb_isa isa)
{
    static const struct dlb_depthwise_kernels *const kernels[DLB_ISA_COUNT] = {
        [DLB_ISA_SCALAR] = &dlb_depthwise_scalar,
#ifdef DLB_BUILD_SSE2
        [DLB_ISA_SSE2] = &dlb_depthwise_sse2,
#endif
#ifdef DLB_BUILD_AVX2
        [DLB_ISA_AVX2] = &dlb_depthwise_avx2,
#endif
#ifdef DLB_BUILD_AVX512
        [DLB_ISA_AVX512] = &dlb_depthwise_avx512,
#endif
#ifdef DLB_BUILD_NEON
        [DLB_ISA_NEON] = &dlb_depthwise_neon,
#endif
    };
    return kernels[isa];
}

const struct dlb_depthwise_tile *dlb_depthwise_find(enum dlb_isa isa, int mr, int nv)
{
    const struct dlb_depthwise_kernels *kernels = dlb_depthwise_kernels(isa);
    for (int i = 0; i < kernels->tiles_n; i++)
        if (kernels->tiles[i].mr == mr && kernels->tiles[i].nv == nv)
            return &kernels->tiles[i];
    return NULL;
}

/* Neighbouring pixels with the same valid kw. */
struct span {
    int64_t x, pixels, kw_begin, kw_end;
};

struct depthwise {
    struct dlb_plan plan;
    struct dlb_conv_shape s;
    const struct dlb_depthwise_kernels *kernels;
    /* By vectors (1 or nv) and whether mr pixels are there. */
    const struct dlb_depthwise_tile *wide, *narrow, *wide_pixel, *narrow_pixel;
    int lanes;
    bool stream;
    int64_t rows_block, vectors, weights_ld;
    struct dlb_conv_grid grid;
    struct span *spans;
    int spans_n;
    float *packed;
    const float *src, *bias;
    float *dst;
};

static void make_spans(struct depthwise *p)
{
    const struct dlb_conv_shape *s = &p->s;
    for (int64_t x = 0; x < s->ow; x++) {
        int64_t begin, end;
        dlb_conv_valid_taps(x, s->iw, s->kw, s->sw, s->pw, s->dw, &begin, &end);
        end = dlb_max(begin, end);
        struct span *last = p->spans_n ? &p->spans[p->spans_n - 1] : NULL;
        if (last && last->kw_begin == begin && last->kw_end == end)
            last->pixels++;
        else
            p->spans[p->spans_n++] = (struct span){x, 1, begin, end};
    }
}

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
        .pixel = s->sw * s->ic,
        .line = (s->dh + 1) * s->iw * s->ic,
        .column = (s->dw + 1) * s->ic,
        .weights = p->packed + channel,
        .weights_ld = p->weights_ld,
        .kernel_w = s->kw,
        .kh_begin = kh_begin,
        .kh_end = kh_end,
        .bias = p->bias ? p->bias + channel : NULL,
        .dst_ld = s->oc,
        .lanes = (int)dlb_min(p->lanes, s->oc - channel),
        .relu = s->relu,
        .stream = p->stream,
    };
    bool three = s->kh == 3 && s->kw == 3;
    int64_t start = ((image * s->ih + y * s->sh - s->ph) * s->iw - s->pw) * s->ic;
    for (int i = 0; i < p->spans_n; i++) {
        const struct span *span = &p->spans[i];
        const struct dlb_depthwise_tile *tile = wide ? p->wide : p->narrow;
        if (span->pixels < tile->mr)
            tile = wide ? p->wide_pixel : p->narrow_pixel;
        bool whole = three && span->kw_begin == 0 && span->kw_end == 3;
        call.start = start + span->x * call.pixel + channel;
        call.kw_begin = span->kw_begin;
        call.kw_end = span->kw_end;
        call.dst = p->dst + (row * s->ow + span->x) * s->oc + channel;
        call.pixels = span->pixels;
        if (call.lanes < p->lanes)
            tile->any_tail(&call);
        else if (whole && call.pixel == call.column)
            tile->k3s1(&call);
        else if (whole && call.pixel == 2 * call.column)
            tile->k3s2(&call);
        else
            tile->any(&call);
    }
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
    free(p->spans);
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
    p->wide_pixel = dlb_depthwise_find(target->isa, 1, nv);
    p->narrow_pixel = dlb_depthwise_find(target->isa, 1, 1);
    p->stream = tile[DLB_CONV_TILE_STREAM] == DLB_CONV_STREAM_ON;
    p->rows_block = tile[DLB_CONV_TILE_ROWS];
    p->vectors = dlb_div_up(p->s.oc, p->lanes);
    p->weights_ld = p->vectors * p->lanes;
    p->grid = dlb_conv_grid_make(tile[DLB_CONV_TILE_SPLIT], target->threads,
                                 p->s.mb * p->s.oh, p->vectors);
    size_t bytes = sizeof(float) * (size_t)(p->s.kh * p->s.kw * p->weights_ld);
    p->packed = dlb_alloc(bytes);
    p->spans = calloc((size_t)p->s.ow, sizeof *p->spans);
    if (!p->packed || !p->spans) {
        depthwise_release(&p->plan);
        return dlb_fail(error, DLB_NOMEM,
                        "No memory for %zu bytes of packed depthwise weights.", bytes);
    }
    make_spans(p);
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
    if (tile[DLB_CONV_TILE_KC] || tile[DLB_CONV_TILE_ORDER])
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
    double loads = held ? ((mr - 1) * (double)s->sw + 3) * 3 * nv : taps * (mr + 1) * nv;
    double fma = taps * mr * nv;
    /* A chain of taps steps is at least as long as its latency. */
    double cycles = fmax(fmax(fma / 2, loads / 2), 4 * taps) + mr * nv + 10;
    double tiles = ceil((double)s->ow / mr) * (double)(s->mb * s->oh) *
                   ceil((double)s->oc / lanes) / nv;
    return tiles * cycles;
}
