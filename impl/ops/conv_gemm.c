/*
 * Convolution as loops around the batch-reduce GEMM: direct, direct-row, gemm-1x1,
 * im2col.
 *
 *   dst[r,x,o] = act( bias[o] + sum over kh, kw, i of src[tap of (r,x)][i] * w[o,i,kh,kw] )
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
 * Work items and barriers   a grid of threads over rows x panels; no barrier in run, one
 *           in bind
 * Scratch   im2col: rows * ow * (kh*kw*icg + a line) a thread; others none
 * Cost      2*mb*oc*icg*(valid taps) flops; least bytes: each operand once.  A block reads
 *           its rows once from beyond L2, and the weights of the thread's panels
 * Numerics  one chain of FMA per element in the order ic block, kw range, kh, kw, ic; the
 *           order does not depend on the threads
 * Errors    dlb_conv_refuse refuses what does not fit
 * Source    Georganas et al., "Anatomy of High-Performance Deep Learning Convolutions on
 *           SIMD Architectures", SC 2018
 */
#include "core/brgemm.h"
#include "ops/conv_internal.h"

#include <stdlib.h>
#include <string.h>

/* Pixels first … first+rows-1 of a tile, with the taps that all of them have. */
struct segment {
    int first, rows;
    int64_t k;  /* of one batch entry */
    int list;   /* its batch entries, those of one kh side by side */
    int taps;   /* batch entries a kh */
    bool merge; /* entries of all kh follow each other in A and B: one long entry */
};

/* A register tile of a row.  When whole is set the last segment covers all its pixels. */
struct tile {
    int64_t x;
    int mr;
    int segment_begin, segment_end;
    bool whole;
};

struct panel {
    int64_t b;       /* offset in packed */
    int64_t channel; /* first output channel */
    int group, nv, n;
};

/* A row of tiles as the kernels see it. */
struct row {
    int64_t a_start, pixel; /* of x = 0 */
    int64_t kh_begin, kh_end;
};

enum { LINE = DLB_CACHE_LINE / sizeof(float) };
/* Some 300 cycles: what a line takes from beyond L2. */
enum { STEPS_AHEAD = 24 };
enum { NARROW_PANEL = 1, SHORT_KC = 2, VARIANTS = 4 };

struct conv_gemm {
    struct dlb_plan plan;
    const struct dlb_brgemm_kernels *kernels;
    struct dlb_conv_shape s;
    int algorithm, order, stream;
    int steps_ahead;  /* by which weights are prefetched */
    bool fetch_panel; /* the next panel is fetched while one is worked on */
    struct dlb_conv_grid grid;
    int64_t rows, rows_block; /* rows of all images; in a block */
    int64_t kc, kc_blocks;
    int64_t panels_group; /* panels of a group */
    int64_t panels_n;
    struct panel *panels;
    struct tile *tiles;
    int tiles_n;
    struct segment *segments;
    int segments_n;
    /* Batch entries; B's offsets depend on the width of the panel and the depth of the ic
     * block. */
    int64_t *a_offset, *b_offset[VARIANTS];
    int entries_n;
    int64_t a_x;   /* distance of two neighbouring output pixels in A */
    int64_t pitch; /* im2col: of a pixel in scratch */
    int64_t packed_elements;
    int64_t scratch_elements; /* of one thread */
    float *packed, *scratch;
    const float *src, *bias;
    float *dst;
};

static bool by_class(const struct conv_gemm *p)
{
    return p->algorithm == DLB_CONV_DIRECT_ROW || p->algorithm == DLB_CONV_IM2COL;
}

static void valid_kw(const struct dlb_conv_shape *s, int64_t x, int64_t *begin,
                     int64_t *end)
{
    dlb_conv_valid_taps(x, s->iw, s->kw, s->sw, s->pw, s->dw, begin, end);
    if (*end <= *begin)
        *begin = *end = 0;
}

/* Appends a segment and its batch entries: taps kw_begin … kw_end-1, run of them in one
 * entry (run 1 or all). */
static void add_segment(struct conv_gemm *p, int first, int rows, int64_t kw_begin,
                        int64_t kw_end)
{
    const struct dlb_conv_shape *s = &p->s;
    bool runs = by_class(p), gathered = p->algorithm == DLB_CONV_IM2COL;
    struct segment *segment = &p->segments[p->segments_n++];
    int64_t taps = kw_end - kw_begin;
    *segment = (struct segment){
        .first = first,
        .rows = rows,
        .k = runs ? taps * s->icg : 0,
        .list = p->entries_n,
        .taps = runs ? taps > 0 : (int)taps,
        .merge = gathered && taps == s->kw,
    };
    int64_t depth = p->kc, short_depth = s->icg - (p->kc_blocks - 1) * p->kc;
    int64_t width = p->panels[0].nv * p->kernels->lanes,
            narrow = p->panels[p->panels_group - 1].nv * p->kernels->lanes;
    for (int64_t kh = 0; kh < s->kh; kh++)
        for (int64_t kw = kw_begin; kw < kw_end; kw += runs ? taps : 1) {
            int64_t tap = kh * s->kw + kw;
            int entry = p->entries_n++;
            p->a_offset[entry] =
                gathered ? tap * s->icg
                         : kh * (s->dh + 1) * s->iw * s->ic + kw * (s->dw + 1) * s->ic;
            p->b_offset[0][entry] = tap * depth * width;
            p->b_offset[NARROW_PANEL][entry] = tap * depth * narrow;
            p->b_offset[SHORT_KC][entry] = tap * short_depth * width;
            p->b_offset[SHORT_KC | NARROW_PANEL][entry] = tap * short_depth * narrow;
        }
}

/* Segments of a tile by the valid pixels of each kw; the one with all pixels comes last.
 */
static void add_segments_by_tap(struct conv_gemm *p, struct tile *tile)
{
    const struct dlb_conv_shape *s = &p->s;
    for (int whole = 0; whole < 2; whole++)
        for (int64_t kw = 0; kw < s->kw;) {
            int range[2][2];
            int64_t next = kw;
            for (int which = 0; next < s->kw; next++, which = 1) {
                range[which][0] = tile->mr, range[which][1] = 0;
                for (int i = 0; i < tile->mr; i++) {
                    int64_t begin, end;
                    valid_kw(s, tile->x + i, &begin, &end);
                    if (next < begin || next >= end)
                        continue;
                    range[which][0] = (int)dlb_min(range[which][0], i);
                    range[which][1] = i + 1;
                }
                if (which && memcmp(range[0], range[1], sizeof range[0]))
                    break;
            }
            int rows = range[0][1] - range[0][0];
            if (rows > 0 && (rows == tile->mr) == whole) {
                add_segment(p, range[0][0], rows, kw, next);
                tile->whole = whole;
            }
            kw = next;
        }
}

static void add_tiles(struct conv_gemm *p, int64_t x_begin, int64_t x_end, int mr)
{
    int64_t pixels = x_end - x_begin, count = dlb_div_up(pixels, mr);
    for (int64_t i = 0; i < count; i++) {
        int64_t begin, end;
        dlb_share(pixels, (int)i, (int)count, &begin, &end);
        struct tile *tile = &p->tiles[p->tiles_n++];
        *tile = (struct tile){.x = x_begin + begin,
                              .mr = (int)(end - begin),
                              .segment_begin = p->segments_n};
        if (by_class(p)) {
            int64_t kw_begin, kw_end;
            valid_kw(&p->s, tile->x, &kw_begin, &kw_end);
            add_segment(p, 0, tile->mr, kw_begin, kw_end);
            tile->whole = true;
        } else {
            add_segments_by_tap(p, tile);
        }
        tile->segment_end = p->segments_n;
    }
}

/* The tiles of a row, the same for every row but for the valid kh. */
static void make_tiles(struct conv_gemm *p, int mr)
{
    const struct dlb_conv_shape *s = &p->s;
    if (p->algorithm == DLB_CONV_GEMM_1X1) {
        p->tiles[p->tiles_n++] = (struct tile){.mr = mr, .segment_end = 1, .whole = true};
        add_segment(p, 0, mr, 0, 1);
        return;
    }
    if (!by_class(p)) {
        add_tiles(p, 0, s->ow, mr);
        return;
    }
    for (int64_t x = 0; x < s->ow;) {
        int64_t begin, end, next = x + 1;
        valid_kw(s, x, &begin, &end);
        for (; next < s->ow; next++) {
            int64_t next_begin, next_end;
            valid_kw(s, next, &next_begin, &next_end);
            if (next_begin != begin || next_end != end)
                break;
        }
        add_tiles(p, x, next, mr);
        x = next;
    }
}

static void make_panels(struct conv_gemm *p, int nv)
{
    const struct dlb_conv_shape *s = &p->s;
    int64_t lanes = p->kernels->lanes, b = 0;
    for (int64_t i = 0; i < p->panels_n; i++) {
        int64_t first = i % p->panels_group * nv * lanes;
        struct panel *panel = &p->panels[i];
        panel->group = (int)(i / p->panels_group);
        panel->channel = panel->group * s->ocg + first;
        panel->n = (int)dlb_min(nv * lanes, s->ocg - first);
        panel->nv = (int)dlb_div_up(panel->n, lanes);
        panel->b = b;
        b += s->kh * s->kw * s->icg * panel->nv * lanes;
    }
    p->packed_elements = b;
}

static void share(const struct conv_gemm *p, const struct dlb_team *team, int64_t *rows,
                  int64_t *panels)
{
    dlb_share(p->rows, team->rank / p->grid.columns, p->grid.rows, &rows[0], &rows[1]);
    dlb_share(p->panels_n, team->rank % p->grid.columns, p->grid.columns, &panels[0],
              &panels[1]);
}

static void pack_panel(const struct conv_gemm *p, const struct panel *panel,
                       const float *weights)
{
    const struct dlb_conv_shape *s = &p->s;
    int64_t taps = s->kh * s->kw, width = panel->nv * p->kernels->lanes;
    float *out = p->packed + panel->b;
    const float *from = weights + panel->channel * s->icg * taps;
    for (int64_t i0 = 0; i0 < s->icg; i0 += p->kc)
        for (int64_t tap = 0; tap < taps; tap++)
            for (int64_t i = i0; i < dlb_min(s->icg, i0 + p->kc); i++, out += width)
                for (int64_t o = 0; o < width; o++)
                    out[o] = o < panel->n ? from[(o * s->icg + i) * taps + tap] : 0;
}

static enum dlb_status conv_gemm_bind(struct dlb_plan *plan, void *const *tensor,
                                      const struct dlb_team *team,
                                      struct dlb_error *error)
{
    struct conv_gemm *p = (struct conv_gemm *)plan;
    (void)error;
    if (team->rank == 0) {
        p->src = tensor[DLB_CONV_SRC];
        p->dst = tensor[DLB_CONV_DST];
        p->bias = p->s.bias ? tensor[DLB_CONV_BIASES] : NULL;
    }
    int64_t rows[2], panels[2], begin, end;
    share(p, team, rows, panels);
    dlb_share(panels[1] - panels[0], team->rank / p->grid.columns, p->grid.rows, &begin,
              &end);
    for (int64_t i = begin; i < end; i++)
        pack_panel(p, &p->panels[panels[0] + i], tensor[DLB_CONV_WEIGHTS]);
    if (p->scratch_elements)
        memset(p->scratch + team->rank * p->scratch_elements, 0,
               (size_t)p->scratch_elements * sizeof(float));
    dlb_team_barrier(team);
    return DLB_OK;
}

/* The reduction of one row of pixels, side by side; taps outside the input are left out.
 */
static void gather_row(const struct conv_gemm *p, const struct row *row, int64_t group,
                       float *scratch)
{
    const struct dlb_conv_shape *s = &p->s;
    for (int t = 0; t < p->tiles_n; t++) {
        const struct tile *tile = &p->tiles[t];
        int64_t kw_begin, kw_end;
        valid_kw(s, tile->x, &kw_begin, &kw_end);
        for (int64_t x = tile->x; x < tile->x + tile->mr; x++)
            for (int64_t kh = row->kh_begin; kh < row->kh_end; kh++)
                for (int64_t kw = kw_begin; kw < kw_end; kw++)
                    memcpy(scratch + x * p->pitch + (kh * s->kw + kw) * s->icg,
                           p->src + (row->a_start + group * s->icg +
                                     kh * (s->dh + 1) * s->iw * s->ic +
                                     (x * s->sw + kw * (s->dw + 1)) * s->ic),
                           (size_t)s->icg * sizeof(float));
    }
}

static struct row row_make(const struct conv_gemm *p, int64_t index, int *mr)
{
    const struct dlb_conv_shape *s = &p->s;
    if (p->algorithm == DLB_CONV_GEMM_1X1) {
        int64_t begin, end;
        dlb_share(s->mb * s->oh * s->ow, (int)index, (int)p->rows, &begin, &end);
        *mr = (int)(end - begin);
        return (struct row){begin * s->ic, begin, 0, 1};
    }
    int64_t image = index / s->oh, y = index % s->oh;
    struct row row = {
        .a_start = ((image * s->ih + y * s->sh - s->ph) * s->iw - s->pw) * s->ic,
        .pixel = index * s->ow,
    };
    dlb_conv_valid_taps(y, s->ih, s->kh, s->sh, s->ph, s->dh, &row.kh_begin, &row.kh_end);
    row.kh_end = dlb_max(row.kh_begin, row.kh_end);
    return row;
}

static int64_t block_depth(const struct conv_gemm *p, int64_t block)
{
    return dlb_min(p->kc, p->s.icg - block * p->kc);
}

/* The weights of a panel in one block of input channels. */
static const float *panel_weights(const struct conv_gemm *p, const struct panel *panel,
                                  int64_t block)
{
    return p->packed + panel->b +
           block * p->kc * p->s.kh * p->s.kw * panel->nv * p->kernels->lanes;
}

/* A kernel's call, with what is fetched on the side. */
struct caller {
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
static void fetch_next(const struct conv_gemm *p, const int64_t *panels, int64_t at,
                       int64_t block, struct caller *caller)
{
    if (++at == panels[1]) {
        at = panels[0];
        block = (block + 1) % p->kc_blocks;
    }
    const struct panel *panel = &p->panels[at];
    caller->call.fetch = panel_weights(p, panel, block);
    caller->fetch_end = caller->call.fetch + block_depth(p, block) * p->s.kh * p->s.kw *
                                                 panel->nv * p->kernels->lanes;
}

/* One register tile: row, tile of the row, panel, block of input channels.  mr differs
 * from tile->mr in gemm-1x1 only. */
static void run_tile(const struct conv_gemm *p, struct caller *caller,
                     const struct row *row, const struct tile *tile, int mr,
                     const struct panel *panel, int64_t block)
{
    const struct dlb_conv_shape *s = &p->s;
    struct dlb_brgemm *call = &caller->call;
    dlb_brgemm_fn *const *kernel = p->kernels->tile[panel->nv];
    int64_t depth = block_depth(p, block);
    int variant = (panel->nv != p->panels[0].nv ? NARROW_PANEL : 0) |
                  (depth != p->kc ? SHORT_KC : 0);
    int64_t a_start = row->a_start + block * p->kc + tile->x * p->a_x;
    if (p->algorithm != DLB_CONV_IM2COL)
        a_start += panel->group * s->icg;
    float *c = p->dst + (row->pixel + tile->x) * s->oc + panel->channel;
    unsigned last = block == p->kc_blocks - 1
                        ? (s->relu ? DLB_BRGEMM_RELU : 0) |
                              (p->stream == DLB_CONV_STREAM_ON ? DLB_BRGEMM_STREAM : 0)
                        : 0;
    unsigned first = block > 0 ? DLB_BRGEMM_ACCUMULATE : 0;
    int segments = tile->segment_end - tile->segment_begin;
    call->b = panel_weights(p, panel, block);
    call->bias = p->bias ? p->bias + panel->channel : NULL;
    call->n = panel->n;
    call->b_ahead = p->steps_ahead * panel->nv * p->kernels->lanes;
    if (!first && (segments > 1 || !tile->whole)) {
        call->c = c;
        call->batch = 0;
        call->flags = 0;
        invoke(caller, kernel[mr]);
        first = DLB_BRGEMM_ACCUMULATE;
    }
    for (int i = tile->segment_begin; i < tile->segment_end; i++) {
        const struct segment *segment = &p->segments[i];
        int64_t khs = row->kh_end - row->kh_begin;
        bool finish = tile->whole && i + 1 == tile->segment_end;
        int entry = segment->list + (int)row->kh_begin * segment->taps;
        call->a_start = a_start + segment->first * p->a_x;
        call->a_offset = p->a_offset + entry;
        call->b_offset = p->b_offset[variant] + entry;
        call->batch = khs * segment->taps;
        call->k = segment->k ? segment->k : depth;
        if (segment->merge && khs > 0) {
            call->batch = 1;
            call->k *= khs;
        }
        call->c = c + segment->first * s->oc;
        call->flags = first | (finish ? last : 0);
        invoke(caller, kernel[finish ? mr : segment->rows]);
    }
    if (!tile->whole && last) {
        call->c = c;
        call->batch = 0;
        call->flags = DLB_BRGEMM_ACCUMULATE | last;
        invoke(caller, kernel[mr]);
    }
}

/* Rows of a block, all tiles, some panels. */
static void run_rows(const struct conv_gemm *p, const int64_t *rows,
                     const int64_t *panels, int64_t block, bool gathered,
                     struct caller *caller)
{
    for (int64_t r = rows[0]; r < rows[1]; r++) {
        int mr = 0;
        struct row row = row_make(p, r, &mr);
        if (gathered)
            row.a_start = (r - rows[0]) * p->s.ow * p->pitch;
        for (int t = 0; t < p->tiles_n; t++)
            for (int64_t i = panels[0]; i < panels[1]; i++)
                run_tile(p, caller, &row, &p->tiles[t], mr ? mr : p->tiles[t].mr,
                         &p->panels[i], block);
    }
}

/* Rows begin … end-1 and panels of one group, in the order of the nest. */
static void run_block(const struct conv_gemm *p, const int64_t *rows,
                      const int64_t *panels, const float *scratch)
{
    struct caller caller = {
        .call = {.a = scratch ? scratch : p->src, .lda = p->a_x, .ldc = p->s.oc}};
    for (int64_t block = 0; block < p->kc_blocks; block++) {
        if (p->order != DLB_CONV_ORDER_OC) {
            run_rows(p, rows, panels, block, scratch, &caller);
            continue;
        }
        for (int64_t i = panels[0]; i < panels[1]; i++) {
            if (p->fetch_panel)
                fetch_next(p, panels, i, block, &caller);
            run_rows(p, rows, (int64_t[]){i, i + 1}, block, scratch, &caller);
        }
    }
}

static void conv_gemm_run(struct dlb_plan *plan, const struct dlb_team *team)
{
    const struct conv_gemm *p = (const struct conv_gemm *)plan;
    float *scratch =
        p->scratch_elements ? p->scratch + team->rank * p->scratch_elements : NULL;
    int64_t rows[2], panels[2];
    share(p, team, rows, panels);
    for (int64_t r = rows[0]; r < rows[1]; r += p->rows_block) {
        int64_t block[2] = {r, dlb_min(rows[1], r + p->rows_block)};
        for (int64_t i = panels[0]; i < panels[1];) {
            int64_t group = p->panels[i].group;
            int64_t some[2] = {i, dlb_min(panels[1], (group + 1) * p->panels_group)};
            for (int64_t q = block[0]; scratch && q < block[1]; q++) {
                struct row row = row_make(p, q, NULL);
                gather_row(p, &row, group, scratch + (q - block[0]) * p->s.ow * p->pitch);
            }
            run_block(p, block, some, scratch);
            i = some[1];
        }
    }
    if (p->stream == DLB_CONV_STREAM_ON)
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
    dlb_free(p->packed);
    dlb_free(p->scratch);
    free(p->panels);
    free(p->tiles);
    free(p->segments);
    free(p->a_offset);
    for (int i = 0; i < VARIANTS; i++)
        free(p->b_offset[i]);
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

/* Everything whose size follows from the problem and the candidate. */
static bool allocate(struct conv_gemm *p, int nv, int threads)
{
    const struct dlb_conv_shape *s = &p->s;
    /* A tile has at least one pixel, and at most one segment a kw. */
    int64_t tiles = p->algorithm == DLB_CONV_GEMM_1X1 ? 1 : s->ow;
    int64_t segments = tiles * (by_class(p) ? 1 : s->kw);
    int64_t entries = tiles * s->kh * (by_class(p) ? 1 : s->kw);
    p->panels = calloc((size_t)p->panels_n, sizeof *p->panels);
    p->tiles = calloc((size_t)tiles, sizeof *p->tiles);
    p->segments = calloc((size_t)segments, sizeof *p->segments);
    p->a_offset = calloc((size_t)entries, sizeof *p->a_offset);
    bool all = p->panels && p->tiles && p->segments && p->a_offset;
    for (int i = 0; i < VARIANTS; i++) {
        p->b_offset[i] = calloc((size_t)entries, sizeof *p->b_offset[i]);
        all = all && p->b_offset[i];
    }
    if (!all)
        return false;
    make_panels(p, nv);
    p->packed = dlb_alloc((size_t)p->packed_elements * sizeof(float));
    if (p->algorithm == DLB_CONV_IM2COL) {
        p->pitch = dlb_round_up(s->kh * s->kw * s->icg, LINE) + LINE;
        p->scratch_elements = p->rows_block * s->ow * p->pitch;
        p->scratch = dlb_alloc((size_t)(threads * p->scratch_elements) * sizeof(float));
    }
    return p->packed && (p->scratch || !p->scratch_elements);
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
    dlb_conv_shape_get(problem, &p->s);
    const struct dlb_conv_shape *s = &p->s;
    p->kernels = dlb_brgemm_kernels(target->isa);
    p->algorithm = candidate->algorithm;
    p->order = tile[DLB_CONV_TILE_ORDER];
    p->stream = tile[DLB_CONV_TILE_STREAM];
    p->steps_ahead =
        tile[DLB_CONV_TILE_PREFETCH] == DLB_CONV_PREFETCH_AHEAD ? STEPS_AHEAD : 0;
    p->fetch_panel = tile[DLB_CONV_TILE_PREFETCH] == DLB_CONV_PREFETCH_PANEL;
    p->kc = tile[DLB_CONV_TILE_KC] ? tile[DLB_CONV_TILE_KC] : s->icg;
    p->kc_blocks = dlb_div_up(s->icg, p->kc);
    p->rows = dlb_conv_rows(s, candidate);
    p->rows_block = tile[DLB_CONV_TILE_ROWS];
    p->panels_group = dlb_div_up(s->ocg, tile[DLB_CONV_TILE_NR]);
    p->panels_n = s->g * p->panels_group;
    p->grid = dlb_conv_grid_make(tile[DLB_CONV_TILE_SPLIT], target->threads, p->rows,
                                 p->panels_n);
    if (!allocate(p, tile[DLB_CONV_TILE_NR] / p->kernels->lanes, target->threads)) {
        conv_gemm_release(&p->plan);
        return dlb_fail(error, DLB_NOMEM,
                        "No memory for the packed weights and scratch of conv; try fewer "
                        "threads or a smaller problem.");
    }
    p->a_x = p->algorithm == DLB_CONV_IM2COL ? p->pitch : s->sw * s->ic;
    make_tiles(p, tile[DLB_CONV_TILE_MR]);
    p->plan.workspace_bytes =
        sizeof(float) *
        (size_t)(p->packed_elements + target->threads * p->scratch_elements);
    *plan = &p->plan;
    return DLB_OK;
}
