/*
 * Convolution as loops around the batch-reduce GEMM: direct, direct-row, gemm-1x1,
 * im2col.
 *
 *   dst[r,x,o] = act( bias[o] + sum over kh, kw, i of src[tap of (r,x)][i] * w[o,i,kh,kw] )
 *
 * Backward data is the same over its phases (conv_phases.c), with diff_dst for src,
 * diff_src for dst and the weights transposed and in reverse.
 *
 * Shapes    src nhwc and dst nhwc in place; weights packed in bind as one panel for each
 *           nr output channels of a group: [ic/kc][kh][kw][kc][nr], the last panel of a
 *           group as many vectors wide as it needs
 * Units     elements; a row is one output row of one image (gemm-1x1: a strip of pixels)
 * Tiles     mr pixels of a row x nr channels in registers; kc channels a pass over the
 *           taps; rows a block; order of panels and pixels inside a block; split over
 *           threads; streaming stores; weights prefetched
 * Padding   is neither read nor multiplied.  kh taps outside the input are left out of
 *           the batch.  direct: the kw taps that share one range of valid pixels are one
 *           call with that many rows, into the same tile of dst.  direct-row, im2col:
 *           pixels that share one range of valid kw taps are tiles of their own
 * Work items and barriers   a grid of threads over rows x panels, phase by phase within a
 *           block of rows; no barrier in run, one in bind
 * Scratch   im2col: rows * ow * (kh*kw*icg + a line) a thread; others none
 * Cost      2*mb*oc*icg*(valid taps) flops; least bytes: each operand once.  A block reads
 *           its rows once from beyond L2, and the weights of the thread's panels
 * Numerics  one chain of FMA per element in the order ic block, kw range, kh, kw, ic; the
 *           order does not depend on the threads
 * Errors    dlb_conv_refuse refuses what does not fit
 * Source    Georganas et al., "Anatomy of High-Performance Deep Learning Convolutions on
 *           SIMD Architectures", SC 2018
 */
#include "ops/conv_nest.h"

#include <stdlib.h>
#include <string.h>

/* A row of tiles as the kernels see it. */
struct row {
    int64_t a_start, c; /* of x = 0 */
    int64_t kh_begin, kh_end;
};

/* Some 300 cycles: what a line takes from beyond L2. */
enum { STEPS_AHEAD = 24 };

struct conv_gemm {
    struct dlb_plan plan;
    struct dlb_problem problem;
    enum dlb_isa isa;
    const struct dlb_brgemm_kernels *kernels;
    int order, stream;
    int steps_ahead;  /* by which weights are prefetched */
    bool fetch_panel; /* the next panel is fetched while one is worked on */
    int64_t rows_block;
    int64_t nests_n;
    struct dlb_conv_nest *nests; /* by phase */
    int64_t packed_elements;
    int64_t scratch_elements; /* of one thread */
    float *packed, *scratch;
    const float *src, *bias;
    float *dst;
};

static void share(const struct dlb_conv_nest *nest, const struct dlb_team *team,
                  int64_t *rows, int64_t *panels)
{
    const struct dlb_conv_grid *grid = &nest->grid;
    dlb_share(nest->rows, team->rank / grid->columns, grid->rows, &rows[0], &rows[1]);
    dlb_share(nest->panels_n, team->rank % grid->columns, grid->columns, &panels[0],
              &panels[1]);
}

static void pack_panel(const struct conv_gemm *p, const struct dlb_conv_nest *nest,
                       const struct dlb_conv_panel *panel, const float *weights)
{
    const struct dlb_conv_phase *phase = &nest->phase;
    const struct dlb_conv_shape *s = &phase->s;
    int64_t width = panel->nv * nest->lanes;
    float *out = p->packed + panel->b;
    const float *from = weights + (phase->w + panel->group * phase->w_group +
                                   panel->channel % s->ocg * phase->w_out);
    for (int64_t i0 = 0; i0 < s->icg; i0 += nest->kc)
        for (int64_t kh = 0; kh < s->kh; kh++)
            for (int64_t kw = 0; kw < s->kw; kw++)
                for (int64_t i = i0; i < dlb_min(s->icg, i0 + nest->kc);
                     i++, out += width) {
                    const float *w =
                        from + (kh * phase->w_kh + kw * phase->w_kw + i * phase->w_in);
                    for (int64_t o = 0; o < width; o++)
                        out[o] = o < panel->n ? w[o * phase->w_out] : 0;
                }
}

static enum dlb_status conv_gemm_bind(struct dlb_plan *plan, void *const *tensor,
                                      const struct dlb_team *team,
                                      struct dlb_error *error)
{
    struct conv_gemm *p = (struct conv_gemm *)plan;
    bool forward = p->problem.pass == DLB_FWD;
    (void)error;
    if (team->rank == 0) {
        p->src = tensor[forward ? DLB_CONV_SRC : DLB_CONV_DST];
        p->dst = tensor[forward ? DLB_CONV_DST : DLB_CONV_SRC];
        p->bias =
            forward && p->problem.dim[DLB_CONV_BIAS] ? tensor[DLB_CONV_BIASES] : NULL;
    }
    for (int64_t n = 0; n < p->nests_n; n++) {
        const struct dlb_conv_nest *nest = &p->nests[n];
        int64_t rows[2], panels[2], begin, end;
        share(nest, team, rows, panels);
        dlb_share(panels[1] - panels[0], team->rank / nest->grid.columns, nest->grid.rows,
                  &begin, &end);
        for (int64_t i = begin; i < end; i++)
            pack_panel(p, nest, &nest->panels[panels[0] + i], tensor[DLB_CONV_WEIGHTS]);
    }
    if (p->scratch_elements)
        memset(p->scratch + team->rank * p->scratch_elements, 0,
               (size_t)p->scratch_elements * sizeof(float));
    dlb_team_barrier(team);
    return DLB_OK;
}

/* The reduction of one row of pixels, side by side; taps outside the input are left out.
 */
static void gather_row(const struct conv_gemm *p, const struct dlb_conv_nest *nest,
                       const struct row *row, int64_t group, float *scratch)
{
    const struct dlb_conv_shape *s = &nest->phase.s;
    for (int t = 0; t < nest->strips_n; t++) {
        const struct dlb_conv_strip *strip = &nest->strips[t];
        int64_t kw_begin, kw_end;
        dlb_conv_nest_taps(s, strip->x, &kw_begin, &kw_end);
        for (int64_t x = strip->x; x < strip->x + strip->mr; x++)
            for (int64_t kh = row->kh_begin; kh < row->kh_end; kh++)
                for (int64_t kw = kw_begin; kw < kw_end; kw++)
                    memcpy(scratch + x * nest->pitch + (kh * s->kw + kw) * s->icg,
                           p->src + (row->a_start + group * s->icg +
                                     kh * (s->dh + 1) * s->iw * s->ic +
                                     (x * s->sw + kw * (s->dw + 1)) * s->ic),
                           (size_t)s->icg * sizeof(float));
    }
}

static struct row row_make(const struct dlb_conv_nest *nest, int64_t index, int *mr)
{
    const struct dlb_conv_phase *phase = &nest->phase;
    const struct dlb_conv_shape *s = &phase->s;
    if (nest->algorithm == DLB_CONV_GEMM_1X1) {
        int64_t begin, end;
        dlb_share(s->mb * s->oh * s->ow, (int)index, (int)nest->rows, &begin, &end);
        *mr = (int)(end - begin);
        return (struct row){begin * s->ic, begin * s->oc, 0, 1};
    }
    int64_t image = index / s->oh, y = index % s->oh;
    struct row row = {
        .a_start = ((image * s->ih + y * s->sh - s->ph) * s->iw - s->pw) * s->ic,
        .c = phase->dst + image * phase->dst_image + y * phase->dst_row,
    };
    dlb_conv_valid_taps(y, s->ih, s->kh, s->sh, s->ph, s->dh, &row.kh_begin, &row.kh_end);
    if (row.kh_end <= row.kh_begin)
        row.kh_begin = row.kh_end = 0;
    return row;
}

static int64_t block_depth(const struct dlb_conv_nest *nest, int64_t block)
{
    return dlb_min(nest->kc, nest->phase.s.icg - block * nest->kc);
}

/* The weights of a panel in one block of input channels. */
static const float *panel_weights(const struct conv_gemm *p,
                                  const struct dlb_conv_nest *nest,
                                  const struct dlb_conv_panel *panel, int64_t block)
{
    return p->packed + panel->b +
           block * nest->kc * nest->phase.s.kh * nest->phase.s.kw * panel->nv *
               nest->lanes;
}

/* A kernel's call, with what is fetched on the side. */
struct caller {
    const struct conv_gemm *p;
    const struct dlb_conv_nest *nest;
    struct dlb_brgemm call;
    const float *fetch_end;
};

static void invoke(struct caller *caller, dlb_brgemm_fn *kernel)
{
    struct dlb_brgemm *call = &caller->call;
    kernel(call);
    if (!call->fetch)
        return;
    call->fetch += call->batch * call->k * DLB_BRGEMM_FETCH;
    if (call->fetch >= caller->fetch_end)
        call->fetch = NULL;
}

/* The panel that the nest comes to after panels[0] <= at < panels[1]. */
static void fetch_next(struct caller *caller, const int64_t *panels, int64_t at,
                       int64_t block)
{
    const struct dlb_conv_nest *nest = caller->nest;
    if (++at == panels[1]) {
        at = panels[0];
        block = (block + 1) % nest->kc_blocks;
    }
    const struct dlb_conv_panel *panel = &nest->panels[at];
    caller->call.fetch = panel_weights(caller->p, nest, panel, block);
    caller->fetch_end = caller->call.fetch + block_depth(nest, block) * nest->phase.s.kh *
                                                 nest->phase.s.kw * panel->nv *
                                                 nest->lanes;
}

/* One register tile: row, strip of the row, panel, block of input channels.  mr differs
 * from strip->mr in gemm-1x1 only. */
static void run_strip(struct caller *caller, const struct row *row,
                      const struct dlb_conv_strip *strip, int mr,
                      const struct dlb_conv_panel *panel, int64_t block)
{
    const struct conv_gemm *p = caller->p;
    const struct dlb_conv_nest *nest = caller->nest;
    const struct dlb_conv_shape *s = &nest->phase.s;
    struct dlb_brgemm *call = &caller->call;
    dlb_brgemm_fn *const *kernel = p->kernels->tile[panel->nv];
    int64_t depth = block_depth(nest, block);
    int variant = (panel->nv != nest->panels[0].nv ? DLB_CONV_NARROW_PANEL : 0) |
                  (depth != nest->kc ? DLB_CONV_SHORT_KC : 0);
    int64_t a_start = row->a_start + block * nest->kc + strip->x * nest->a_x;
    if (nest->algorithm != DLB_CONV_IM2COL)
        a_start += panel->group * s->icg;
    float *c = p->dst + row->c + strip->x * call->ldc + panel->channel;
    unsigned last = block == nest->kc_blocks - 1
                        ? (s->relu ? DLB_BRGEMM_RELU : 0) |
                              (p->stream == DLB_CONV_STREAM_ON ? DLB_BRGEMM_STREAM : 0)
                        : 0;
    unsigned first = block > 0 ? DLB_BRGEMM_ACCUMULATE : 0;
    int segments = strip->segment_end - strip->segment_begin;
    call->b = panel_weights(p, nest, panel, block);
    call->bias = p->bias ? p->bias + panel->channel : NULL;
    call->n = panel->n;
    call->b_ahead = p->steps_ahead * panel->nv * nest->lanes;
    if (!first && (segments > 1 || !strip->whole)) {
        call->c = c;
        call->batch = 0;
        call->flags = 0;
        invoke(caller, kernel[mr]);
        first = DLB_BRGEMM_ACCUMULATE;
    }
    for (int i = strip->segment_begin; i < strip->segment_end; i++) {
        const struct dlb_conv_segment *segment = &nest->segments[i];
        int64_t khs = row->kh_end - row->kh_begin;
        bool finish = strip->whole && i + 1 == strip->segment_end;
        int entry = segment->list + (int)row->kh_begin * segment->taps;
        call->a_start = a_start + segment->first * nest->a_x;
        call->a_offset = nest->a_offset + entry;
        call->b_offset = nest->b_offset[variant] + entry;
        call->batch = khs * segment->taps;
        call->k = segment->k ? segment->k : depth;
        if (segment->merge && khs > 0) {
            call->batch = 1;
            call->k *= khs;
        }
        call->c = c + segment->first * call->ldc;
        call->flags = first | (finish ? last : 0);
        invoke(caller, kernel[finish ? mr : segment->rows]);
    }
    if (!strip->whole && last) {
        call->c = c;
        call->batch = 0;
        call->flags = DLB_BRGEMM_ACCUMULATE | last;
        invoke(caller, kernel[mr]);
    }
}

/* Rows of a block, all strips, some panels. */
static void run_rows(struct caller *caller, const int64_t *rows, const int64_t *panels,
                     int64_t block, bool gathered)
{
    const struct dlb_conv_nest *nest = caller->nest;
    for (int64_t r = rows[0]; r < rows[1]; r++) {
        int mr = 0;
        struct row row = row_make(nest, r, &mr);
        if (gathered)
            row.a_start = (r - rows[0]) * nest->phase.s.ow * nest->pitch;
        for (int t = 0; t < nest->strips_n; t++)
            for (int64_t i = panels[0]; i < panels[1]; i++)
                run_strip(caller, &row, &nest->strips[t], mr ? mr : nest->strips[t].mr,
                          &nest->panels[i], block);
    }
}

/* Rows begin … end-1 and panels of one group, in the order of the nest. */
static void run_group(const struct conv_gemm *p, const struct dlb_conv_nest *nest,
                      const int64_t *rows, const int64_t *panels, const float *scratch)
{
    struct caller caller = {.p = p,
                            .nest = nest,
                            .call = {.a = scratch ? scratch : p->src,
                                     .lda = nest->a_x,
                                     .ldc = nest->phase.dst_pixel}};
    for (int64_t block = 0; block < nest->kc_blocks; block++) {
        if (p->order != DLB_CONV_ORDER_OC) {
            run_rows(&caller, rows, panels, block, scratch);
            continue;
        }
        for (int64_t i = panels[0]; i < panels[1]; i++) {
            if (p->fetch_panel)
                fetch_next(&caller, panels, i, block);
            run_rows(&caller, rows, (int64_t[]){i, i + 1}, block, scratch);
        }
    }
}

/* Number block of the thread's blocks of rows in one phase; false past its last. */
static bool run_block(const struct conv_gemm *p, const struct dlb_conv_nest *nest,
                      const struct dlb_team *team, int64_t block, float *scratch)
{
    int64_t rows[2], panels[2];
    share(nest, team, rows, panels);
    rows[0] += block * p->rows_block;
    rows[1] = dlb_min(rows[1], rows[0] + p->rows_block);
    for (int64_t i = panels[0]; rows[0] < rows[1] && i < panels[1];) {
        int64_t group = nest->panels[i].group;
        int64_t some[2] = {i, dlb_min(panels[1], (group + 1) * nest->panels_group)};
        for (int64_t r = rows[0]; scratch && r < rows[1]; r++) {
            struct row row = row_make(nest, r, NULL);
            gather_row(p, nest, &row, group,
                       scratch + (r - rows[0]) * nest->phase.s.ow * nest->pitch);
        }
        run_group(p, nest, rows, some, scratch);
        i = some[1];
    }
    return rows[0] < rows[1];
}

static void conv_gemm_run(struct dlb_plan *plan, const struct dlb_team *team)
{
    const struct conv_gemm *p = (const struct conv_gemm *)plan;
    float *scratch =
        p->scratch_elements ? p->scratch + team->rank * p->scratch_elements : NULL;
    bool stream = p->stream == DLB_CONV_STREAM_ON, more = true;
    if (p->problem.pass == DLB_BWD_DATA)
        dlb_conv_zero_unmet(&p->problem, p->isa, team, stream, p->dst);
    for (int64_t block = 0; more; block++) {
        more = false;
        for (int64_t n = 0; n < p->nests_n; n++)
            more |= run_block(p, &p->nests[n], team, block, scratch);
    }
    if (stream)
        p->kernels->stream_fence();
}

static enum dlb_status conv_gemm_fetch(struct dlb_plan *plan, const struct dlb_team *team,
                                       struct dlb_error *error)
{
    (void)plan, (void)team, (void)error;
    return DLB_OK;
}

static void conv_gemm_release(struct dlb_plan *plan)
{
    struct conv_gemm *p = (struct conv_gemm *)plan;
    for (int64_t n = 0; n < p->nests_n; n++)
        dlb_conv_nest_release(&p->nests[n]);
    free(p->nests);
    dlb_free(p->packed);
    dlb_free(p->scratch);
    free(p);
}

static const struct dlb_plan_class conv_gemm_class = {
    .impl = "native",
    .spmd = true,
    .bind = conv_gemm_bind,
    .run = conv_gemm_run,
    .fetch = conv_gemm_fetch,
    .release = conv_gemm_release,
};

/* The nests, and what all of them share. */
static bool allocate(struct conv_gemm *p, const struct dlb_target *target,
                     const struct dlb_candidate *candidate)
{
    int64_t phases = dlb_conv_phases(&p->problem);
    p->nests = calloc((size_t)phases, sizeof *p->nests);
    for (int64_t i = 0; p->nests && i < phases; i++) {
        struct dlb_conv_phase phase;
        if (!dlb_conv_phase_get(&p->problem, i, &phase))
            continue;
        struct dlb_conv_nest *nest = &p->nests[p->nests_n++];
        if (!dlb_conv_nest_make(nest, &phase, target, candidate, &p->packed_elements))
            return false;
        if (nest->algorithm == DLB_CONV_IM2COL)
            p->scratch_elements =
                dlb_max(p->scratch_elements, p->rows_block * phase.s.ow * nest->pitch);
    }
    p->packed = dlb_alloc((size_t)p->packed_elements * sizeof(float));
    if (p->scratch_elements)
        p->scratch =
            dlb_alloc((size_t)(target->threads * p->scratch_elements) * sizeof(float));
    return p->nests && p->packed && (p->scratch || !p->scratch_elements);
}

enum dlb_status dlb_conv_gemm_make(const struct dlb_problem *problem,
                                   const struct dlb_target *target,
                                   const struct dlb_candidate *candidate,
                                   struct dlb_plan **plan, struct dlb_error *error)
{
    const int *tile = candidate->tile;
    struct conv_gemm *p = calloc(1, sizeof *p);
    if (!p)
        return dlb_fail(error, DLB_NOMEM, "No memory for a plan of %zu bytes.",
                        sizeof *p);
    p->plan.class = &conv_gemm_class;
    p->problem = *problem;
    p->isa = target->isa;
    p->kernels = dlb_brgemm_kernels(target->isa);
    p->order = tile[DLB_CONV_TILE_ORDER];
    p->stream = tile[DLB_CONV_TILE_STREAM];
    p->steps_ahead =
        tile[DLB_CONV_TILE_PREFETCH] == DLB_CONV_PREFETCH_AHEAD ? STEPS_AHEAD : 0;
    p->fetch_panel = tile[DLB_CONV_TILE_PREFETCH] == DLB_CONV_PREFETCH_PANEL;
    p->rows_block = tile[DLB_CONV_TILE_ROWS];
    if (!allocate(p, target, candidate)) {
        conv_gemm_release(&p->plan);
        return dlb_fail(error, DLB_NOMEM,
                        "No memory for the packed weights and scratch of conv; try fewer "
                        "threads or a smaller problem.");
    }
    p->plan.workspace_bytes =
        sizeof(float) *
        (size_t)(p->packed_elements + target->threads * p->scratch_elements);
    *plan = &p->plan;
    return DLB_OK;
}
