/*
 * Backward weights as sums of outer products over pixels.
 *
 *   diff_weights[o,i,kh,kw] = sum over n, y, x of diff_dst[n,y,x,o] * src[tap (kh,kw) of (y,x)][i]
 *   diff_bias[o]            = sum over n, y, x of diff_dst[n,y,x,o]
 *
 * Shapes    src nhwc and diff_dst nhwc, in place or packed for each kw; the sums as one
 *           panel for each nr output channels of a group, [kw][strip of mr ic][kh][mr][nr],
 *           brought into goihw by fetch
 * Units     elements; a row is one row of diff_dst of one image
 * Tiles     mr input channels x nr output channels in registers; rows a block; kc input
 *           channels of it at a time; what is packed; split over threads; streaming stores where a sum is written once
 * Packing   for one kw at a time, pixels whose tap lies outside the input left out: src as
 *           [strip of mr ic][row][x][mr], rows that are the stride apart side by side;
 *           diff_dst as [panel][row][x][nr].  Rows without gaps between them, packed or in
 *           place, are one run of the reduction; else each is a batch entry of its own
 * Padding   is neither read nor multiplied
 * Work items and barriers   a grid of threads over rows x panels, or rows x strips; where
 *           rows are shared each part of them has sums of its own, added up after a barrier
 * Scratch   a thread: packed block of src and diff_dst, and the list of its runs
 * Cost      2*mb*oc*icg*(valid taps) flops; a block reads and writes all sums once
 * Numerics  each element is a sum over blocks of chains of FMA over the pixels of a block;
 *           then over the parts of the rows, so that it depends on the threads if and only
 *           if they share rows
 * Errors    dlb_conv_weights_space refuses what does not fit
 */
#include "ops/conv_weights.h"
#include "ops/conv_sums.h"

#include <stdlib.h>
#include <string.h>

/* Input channels of a register tile. */
struct strip {
    int64_t first;
    int mr;
};

struct panel {
    int64_t sums;    /* offset in a copy */
    int64_t channel; /* first output channel */
    int group, nv, n;
};

/* Where the reduction of one kh goes through a block: k pixels from each pair of offsets. */
struct runs {
    int64_t n;
    int64_t *a, *b, *k;
};

/* What one thread has for itself. */
struct area {
    float *a, *b;
    int64_t *list;     /* owned */
    struct runs *runs; /* owned, by kh */
};

struct weights {
    struct dlb_plan plan;
    struct dlb_conv_shape s;
    const struct dlb_outer_kernels *kernels;
    int mr, width; /* of a strip and of a panel, at most */
    bool pack_src, pack_diff, stream;
    int64_t rows, rows_block;
    struct dlb_conv_weights_grid grid;
    int64_t strips_n, strips_block;
    struct strip *strips; /* of any group */
    int64_t panels_group, panels_n;
    struct panel *panels;
    struct dlb_conv_sums sums;
    int64_t scratch_elements; /* of one thread */
    float *scratch;
    struct area *areas; /* by thread */
    const float *src, *diff;
    float *diff_weights, *diff_bias; /* for fetch */
};

/* Rows of one image in a block.  Packed rows of src stand by remainder of the stride:
 * input row c of the piece is row base + c % sh * pitch + c / sh. */
struct piece {
    int64_t begin, end;
    int64_t base, pitch;
};

static struct piece first_piece(const struct weights *p, const int64_t *block)
{
    const struct dlb_conv_shape *s = &p->s;
    struct piece piece = {.begin = block[0]};
    piece.end = dlb_min(block[1], (piece.begin / s->oh + 1) * s->oh);
    piece.pitch = dlb_conv_weights_pitch(s, piece.end - piece.begin);
    return piece;
}

static struct piece next_piece(const struct weights *p, const int64_t *block,
                               struct piece piece)
{
    struct piece next = first_piece(p, (int64_t[]){piece.end, block[1]});
    next.base = piece.base + p->s.sh * piece.pitch;
    return next;
}

/* The part of a row that a kw goes through, and where its tap meets src at x[0]. */
struct column {
    int64_t kw, x[2], in;
};

static struct column column_make(const struct dlb_conv_shape *s, int64_t kw)
{
    struct column column = {.kw = kw};
    dlb_conv_valid_outputs(kw, s->iw, s->ow, s->sw, s->pw, s->dw, &column.x[0],
                           &column.x[1]);
    column.x[1] = dlb_max(column.x[0], column.x[1]);
    column.in = column.x[0] * s->sw - s->pw + kw * (s->dw + 1);
    return column;
}

static int64_t src_at(const struct dlb_conv_shape *s, int64_t image, int64_t ih,
                      int64_t iw)
{
    return ((image * s->ih + ih) * s->iw + iw) * s->ic;
}

/* Whether row c of the input under a piece belongs to one of its taps. */
static bool row_is_used(const struct dlb_conv_shape *s, const struct piece *piece,
                        int64_t c)
{
    for (int64_t kh = 0; kh < s->kh; kh++) {
        int64_t at = c - kh * (s->dh + 1);
        if (at >= 0 && at % s->sh == 0 && at / s->sh < piece->end - piece->begin)
            return true;
    }
    return false;
}

static int64_t rows_of_src(const struct weights *p, const int64_t *block)
{
    struct piece piece = first_piece(p, block);
    while (piece.end < block[1])
        piece = next_piece(p, block, piece);
    return piece.base + p->s.sh * piece.pitch;
}

/* Input rows c … c+rows-1 under a piece, which lie in order in both places. */
static void pack_rows(const struct weights *p, const struct piece *piece,
                      const struct column *column, int64_t channel, int64_t c,
                      int64_t rows, const int64_t *strips, int64_t strip_elements,
                      float *to)
{
    const struct dlb_conv_shape *s = &p->s;
    int64_t wide = column->x[1] - column->x[0];
    int64_t image = piece->begin / s->oh, ih = piece->begin % s->oh * s->sh - s->ph + c;
    int64_t row = piece->base + c % s->sh * piece->pitch + c / s->sh;
    const float *from = p->src + src_at(s, image, ih, column->in) + channel;
    to += row * wide * p->mr;
    for (int64_t t = strips[0], same; t < strips[1]; t = same) {
        for (same = t; same < strips[1] && p->strips[same].mr == p->strips[t].mr;)
            same++;
        p->kernels->pack(from + p->strips[t].first, s->sw * s->ic, rows * wide,
                         p->strips[t].mr, same - t, to + (t - strips[0]) * strip_elements,
                         p->mr, strip_elements);
    }
}

static void pack_src(const struct weights *p, const int64_t *block,
                     const struct column *column, int64_t group, const int64_t *strips,
                     float *to)
{
    const struct dlb_conv_shape *s = &p->s;
    int64_t wide = column->x[1] - column->x[0];
    int64_t strip_elements = rows_of_src(p, block) * wide * p->mr;
    bool dense = s->sh == 1 && wide * s->sw == s->iw;
    struct piece piece = first_piece(p, block);
    for (; piece.begin < block[1]; piece = next_piece(p, block, piece)) {
        int64_t above = s->ph - piece.begin % s->oh * s->sh;
        int64_t end = dlb_min(s->sh * piece.pitch, s->ih + above);
        for (int64_t c = dlb_max(0, above); c < end;) {
            int64_t rows = dense ? end - c : 1;
            if (row_is_used(s, &piece, c))
                pack_rows(p, &piece, column, group * s->icg, c, rows, strips,
                          strip_elements, to);
            c += rows;
        }
    }
}

static void pack_diff(const struct weights *p, const int64_t *block,
                      const struct column *column, const int64_t *panels, float *to)
{
    const struct dlb_conv_shape *s = &p->s;
    int64_t wide = column->x[1] - column->x[0], height = block[1] - block[0];
    int64_t rows = wide == s->ow ? height : 1;
    const struct panel *last = &p->panels[panels[1] - 1];
    int64_t full = panels[1] - panels[0] - (last->n < p->width);
    int64_t channel = p->panels[panels[0]].channel, panel = height * wide * p->width;
    for (int64_t r = block[0]; r < block[1]; r += rows, to += rows * wide * p->width) {
        const float *from = p->diff + (r * s->ow + column->x[0]) * s->oc;
        p->kernels->pack(from + channel, s->oc, rows * wide, p->width, full, to, p->width,
                         panel);
        if (last->n < p->width)
            p->kernels->pack(from + last->channel, s->oc, rows * wide, last->n, 1,
                             to + full * panel, p->width, panel);
    }
}

static int64_t lda(const struct weights *p)
{
    return p->pack_src ? p->mr : p->s.sw * p->s.ic;
}

static int64_t ldb(const struct weights *p)
{
    return p->pack_diff ? p->width : p->s.oc;
}

/* Appends a row, or makes the last run longer where the row follows it in both. */
static void add_row(const struct weights *p, struct runs *runs, int64_t a, int64_t b,
                    int64_t k)
{
    int64_t last = runs->n - 1;
    if (last >= 0 && a == runs->a[last] + runs->k[last] * lda(p) &&
        b == runs->b[last] + runs->k[last] * ldb(p)) {
        runs->k[last] += k;
        return;
    }
    runs->a[runs->n] = a;
    runs->b[runs->n] = b;
    runs->k[runs->n++] = k;
}

static void make_runs(const struct weights *p, const int64_t *block,
                      const struct column *column, int64_t kh, struct runs *runs)
{
    const struct dlb_conv_shape *s = &p->s;
    int64_t wide = column->x[1] - column->x[0], tap = kh * (s->dh + 1);
    struct piece piece = first_piece(p, block);
    runs->n = 0;
    for (; wide > 0 && piece.begin < block[1]; piece = next_piece(p, block, piece))
        for (int64_t r = piece.begin; r < piece.end; r++) {
            int64_t ih = r % s->oh * s->sh - s->ph + tap;
            if (ih < 0 || ih >= s->ih)
                continue;
            int64_t row =
                piece.base + tap % s->sh * piece.pitch + tap / s->sh + r - piece.begin;
            add_row(p, runs,
                    p->pack_src ? row * wide * p->mr
                                : src_at(s, r / s->oh, ih, column->in),
                    p->pack_diff ? (r - block[0]) * wide * p->width
                                 : (r * s->ow + column->x[0]) * s->oc,
                    wide);
        }
}

/* All kh of one tile.  Runs of one length are one call. */
static void run_tile(const struct weights *p, const struct area *area,
                     struct dlb_outer *call, const struct panel *panel,
                     const struct strip *strip, float *c, bool first)
{
    dlb_outer_fn *kernel = p->kernels->tile[panel->nv][strip->mr];
    int64_t step = (int64_t)strip->mr * panel->nv * p->kernels->lanes;
    call->c = c;
    for (int64_t kh = 0; kh < p->s.kh; kh++, call->c += step) {
        const struct runs *runs = &area->runs[kh];
        unsigned flags = !first ? DLB_OUTER_ACCUMULATE : p->stream ? DLB_OUTER_STREAM : 0;
        int64_t i = 0;
        do {
            int64_t same = i;
            while (same < runs->n && runs->k[same] == runs->k[i])
                same++;
            call->a_offset = runs->a + i;
            call->b_offset = runs->b + i;
            call->batch = same - i;
            call->k = runs->n ? runs->k[i] : 0;
            call->flags = flags;
            if (call->batch || first)
                kernel(call);
            flags = DLB_OUTER_ACCUMULATE;
            i = same;
        } while (i < runs->n);
    }
}

/* One kw of a block: panels of one group, and strips that are packed together. */
static void run_strips(const struct weights *p, const struct area *area,
                       const int64_t *block, const struct column *column,
                       const int64_t *panels, const int64_t *strips, float *sums,
                       bool first)
{
    const struct dlb_conv_shape *s = &p->s;
    int64_t wide = column->x[1] - column->x[0], group = p->panels[panels[0]].group;
    int64_t strip_elements = p->pack_src ? rows_of_src(p, block) * wide * p->mr : 0;
    struct dlb_outer call = {.a = p->pack_src ? area->a : p->src,
                             .b = p->pack_diff ? area->b : p->diff,
                             .lda = lda(p),
                             .ldb = ldb(p)};
    if (p->pack_src)
        pack_src(p, block, column, group, strips, area->a);
    for (int64_t i = panels[0]; i < panels[1]; i++) {
        const struct panel *panel = &p->panels[i];
        int64_t width = panel->nv * p->kernels->lanes;
        call.b_start = p->pack_diff
                           ? (i - panels[0]) * (block[1] - block[0]) * wide * p->width
                           : panel->channel;
        for (int64_t t = strips[0]; t < strips[1]; t++) {
            const struct strip *strip = &p->strips[t];
            call.a_start = p->pack_src ? (t - strips[0]) * strip_elements
                                       : group * s->icg + strip->first;
            run_tile(p, area, &call, panel, strip,
                     sums + panel->sums +
                         (column->kw * s->icg + strip->first) * s->kh * width,
                     first);
        }
    }
}

static void run_block(const struct weights *p, const struct area *area,
                      const int64_t *block, const int64_t *panels, const int64_t *strips,
                      float *sums, bool first)
{
    const struct dlb_conv_shape *s = &p->s;
    for (int64_t i = panels[0]; i < panels[1];) {
        int64_t group = p->panels[i].group;
        int64_t some[2] = {i, dlb_min(panels[1], (group + 1) * p->panels_group)};
        int64_t packed[2] = {0, 0};
        for (int64_t kw = 0; kw < s->kw; kw++) {
            struct column column = column_make(s, kw);
            if (p->pack_diff && memcmp(packed, column.x, sizeof packed)) {
                pack_diff(p, block, &column, some, area->b);
                memcpy(packed, column.x, sizeof packed);
            }
            for (int64_t kh = 0; kh < s->kh; kh++)
                make_runs(p, block, &column, kh, &area->runs[kh]);
            for (int64_t t = strips[0]; t < strips[1]; t += p->strips_block)
                run_strips(p, area, block, &column, some,
                           (int64_t[]){t, dlb_min(strips[1], t + p->strips_block)}, sums,
                           first);
        }
        i = some[1];
    }
}

static void weights_run(struct dlb_plan *plan, const struct dlb_team *team)
{
    const struct weights *p = (const struct weights *)plan;
    const struct dlb_conv_shape *s = &p->s;
    int64_t rows[2], panels[2], strips[2];
    int copy = dlb_conv_weights_share(&p->grid, team->rank, p->rows, p->panels_n,
                                      p->strips_n, rows, panels, strips);
    float *sums = dlb_conv_sums_weights(&p->sums, copy);
    bool work = panels[0] < panels[1] && strips[0] < strips[1];
    for (int64_t r = rows[0]; work && r < rows[1]; r += p->rows_block) {
        int64_t block[2] = {r, dlb_min(rows[1], r + p->rows_block)};
        bool first = r == rows[0];
        run_block(p, &p->areas[team->rank], block, panels, strips, sums, first);
        if (strips[0] == 0)
            dlb_conv_sums_bias(
                &p->sums, copy, p->diff + r * s->ow * s->oc, (block[1] - r) * s->ow,
                p->panels[panels[0]].channel,
                p->panels[panels[1] - 1].channel + p->panels[panels[1] - 1].n, first);
    }
    if (p->stream)
        p->kernels->stream_fence();
    dlb_conv_sums_add(&p->sums, team);
}

static enum dlb_status weights_bind(struct dlb_plan *plan, void *const *tensor,
                                    const struct dlb_team *team, struct dlb_error *error)
{
    struct weights *p = (struct weights *)plan;
    (void)error;
    if (team->rank == 0) {
        p->src = tensor[DLB_CONV_SRC];
        p->diff = tensor[DLB_CONV_DST];
        p->diff_weights = tensor[DLB_CONV_WEIGHTS];
        p->diff_bias = p->s.bias ? tensor[DLB_CONV_BIASES] : NULL;
    }
    if (p->scratch_elements)
        memset(p->areas[team->rank].a, 0, (size_t)p->scratch_elements * sizeof(float));
    dlb_team_barrier(team);
    return DLB_OK;
}

/* A panel's sums into the canonical tensor. */
static void unpack_panel(const struct weights *p, const struct panel *panel, float *to)
{
    const struct dlb_conv_shape *s = &p->s;
    const float *c = dlb_conv_sums_weights(&p->sums, 0) + panel->sums;
    int64_t width = panel->nv * p->kernels->lanes, taps = s->kh * s->kw;
    for (int64_t kw = 0; kw < s->kw; kw++)
        for (int64_t t = 0; t < p->strips_n; t++)
            for (int64_t kh = 0; kh < s->kh; kh++)
                for (int i = 0; i < p->strips[t].mr; i++, c += width)
                    for (int64_t o = 0; o < panel->n; o++)
                        to[((panel->channel + o) * s->icg + p->strips[t].first + i) *
                               taps +
                           kh * s->kw + kw] = c[o];
}

static enum dlb_status weights_fetch(struct dlb_plan *plan, const struct dlb_team *team,
                                     struct dlb_error *error)
{
    const struct weights *p = (const struct weights *)plan;
    int64_t begin, end;
    (void)error;
    dlb_share(p->panels_n, team->rank, team->size, &begin, &end);
    for (int64_t i = begin; i < end; i++)
        unpack_panel(p, &p->panels[i], p->diff_weights);
    dlb_conv_sums_fetch_bias(&p->sums, team, p->diff_bias);
    return DLB_OK;
}

static void weights_release(struct dlb_plan *plan)
{
    struct weights *p = (struct weights *)plan;
    for (int i = 0; p->areas && i < plan->threads; i++) {
        free(p->areas[i].list);
        free(p->areas[i].runs);
    }
    free(p->areas);
    free(p->strips);
    free(p->panels);
    dlb_conv_sums_release(&p->sums);
    dlb_free(p->scratch);
    free(p);
}

static const struct dlb_plan_class weights_class = {
    .impl = "native",
    .spmd = true,
    .bind = weights_bind,
    .run = weights_run,
    .fetch = weights_fetch,
    .release = weights_release,
};

/* Lays panels out in a copy of the sums; returns its elements. */
static int64_t make_panels(struct weights *p)
{
    const struct dlb_conv_shape *s = &p->s;
    int64_t at = 0;
    for (int64_t i = 0; i < p->panels_n; i++) {
        int64_t first = i % p->panels_group * p->width;
        struct panel *panel = &p->panels[i];
        panel->group = (int)(i / p->panels_group);
        panel->channel = panel->group * s->ocg + first;
        panel->n = (int)dlb_min(p->width, s->ocg - first);
        panel->nv = (int)dlb_div_up(panel->n, p->kernels->lanes);
        panel->sums = at;
        at += s->kh * s->kw * s->icg * panel->nv * p->kernels->lanes;
    }
    return at;
}

static bool make_area(struct weights *p, int rank, int64_t src_elements)
{
    struct area *area = &p->areas[rank];
    int64_t kh = p->s.kh;
    area->list = calloc((size_t)(3 * kh * p->rows_block), sizeof *area->list);
    area->runs = calloc((size_t)kh, sizeof *area->runs);
    if (p->scratch) {
        area->a = p->scratch + rank * p->scratch_elements;
        area->b = area->a + src_elements;
    }
    for (int64_t i = 0; area->list && area->runs && i < kh; i++) {
        struct runs *runs = &area->runs[i];
        runs->a = area->list + 3 * i * p->rows_block;
        runs->b = runs->a + p->rows_block;
        runs->k = runs->b + p->rows_block;
    }
    return area->list && area->runs;
}

static bool allocate(struct weights *p, const struct dlb_target *target,
                     const struct dlb_candidate *candidate)
{
    int64_t src, diff;
    dlb_conv_weights_packed(&p->s, target, candidate, &src, &diff);
    p->scratch_elements = src + diff;
    p->strips = calloc((size_t)p->strips_n, sizeof *p->strips);
    p->panels = calloc((size_t)p->panels_n, sizeof *p->panels);
    p->areas = calloc((size_t)target->threads, sizeof *p->areas);
    if (!p->strips || !p->panels || !p->areas)
        return false;
    for (int64_t t = 0; t < p->strips_n; t++) {
        int64_t end;
        dlb_share(p->s.icg, (int)t, (int)p->strips_n, &p->strips[t].first, &end);
        p->strips[t].mr = (int)(end - p->strips[t].first);
    }
    if (!dlb_conv_sums_make(&p->sums, target->isa, p->grid.rows, make_panels(p),
                            p->s.bias ? p->s.oc : 0))
        return false;
    if (p->scratch_elements)
        p->scratch =
            dlb_alloc((size_t)(target->threads * p->scratch_elements) * sizeof(float));
    if (p->scratch_elements && !p->scratch)
        return false;
    for (int i = 0; i < target->threads; i++)
        if (!make_area(p, i, src))
            return false;
    return true;
}

enum dlb_status dlb_conv_weights_make(const struct dlb_problem *problem,
                                      const struct dlb_target *target,
                                      const struct dlb_candidate *candidate,
                                      struct dlb_plan **plan, struct dlb_error *error)
{
    const int *tile = candidate->tile;
    struct weights *p = calloc(1, sizeof *p);
    if (!p)
        return dlb_fail(error, DLB_NOMEM, "No memory for a plan of %zu bytes.",
                        sizeof *p);
    p->plan.class = &weights_class;
    p->plan.threads = target->threads;
    dlb_conv_shape_get(problem, &p->s);
    const struct dlb_conv_shape *s = &p->s;
    int pack = tile[DLB_CONV_TILE_PACK];
    p->kernels = dlb_outer_kernels(target->isa);
    p->mr = tile[DLB_CONV_TILE_MR];
    p->width = tile[DLB_CONV_TILE_NR];
    p->pack_src = pack == DLB_CONV_PACK_SRC || pack == DLB_CONV_PACK_BOTH;
    p->pack_diff = pack == DLB_CONV_PACK_DIFF || pack == DLB_CONV_PACK_BOTH;
    p->stream = tile[DLB_CONV_TILE_STREAM] == DLB_CONV_STREAM_ON;
    p->rows = s->mb * s->oh;
    p->rows_block = tile[DLB_CONV_TILE_ROWS];
    p->strips_n = dlb_div_up(s->icg, p->mr);
    p->strips_block = dlb_conv_weights_strips(tile);
    p->panels_group = dlb_div_up(s->ocg, p->width);
    p->panels_n = s->g * p->panels_group;
    p->grid = dlb_conv_weights_grid_make(tile[DLB_CONV_TILE_SPLIT], target->threads,
                                         p->rows, p->panels_n, p->strips_n);
    if (!allocate(p, target, candidate)) {
        weights_release(&p->plan);
        return dlb_fail(error, DLB_NOMEM,
                        "No memory for the sums and packed blocks of conv; try fewer "
                        "threads or a smaller problem.");
    }
    p->plan.workspace_bytes =
        dlb_conv_sums_bytes(&p->sums) +
        (size_t)target->threads * ((size_t)p->scratch_elements * sizeof(float) +
                                   (size_t)(3 * s->kh * p->rows_block) * sizeof(int64_t));
    *plan = &p->plan;
    return DLB_OK;
}
