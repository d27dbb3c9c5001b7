/*
 * Backward weights of a depthwise convolution: plan and driver around the kernels.
 *
 *   diff_weights[c,kh,kw] = sum over n, y, x of diff_dst[n,y,x,c] * src[tap of (y,x)][c]
 *
 * Shapes    src nhwc and diff_dst nhwc in place; sums as [kh][kw][channels rounded up to a
 *           vector], brought into goihw by fetch
 * Units     elements; a row is one row of diff_dst of one image
 * Tiles     nr channels and up to three taps of one kh in registers; rows a block, which
 *           is gone through for each nr channels and each kh
 * Padding   is neither read nor multiplied: taps run together over the pixels that all of
 *           them have, and alone over those that only they have
 * Work items and barriers   a grid of threads over rows x vectors of channels; where rows
 *           are shared each part of them has sums of its own, added up after a barrier
 * Scratch   none but the sums
 * Cost      2*mb*c*(valid taps) flops; least bytes: src and diff_dst once
 * Numerics  each element is a sum of chains of FMA over parts of a block's pixels, over
 *           blocks, then over the parts of the rows
 * Errors    dlb_conv_weights_depthwise_refuse refuses tiles without a kernel
 */
#include "ops/conv_weights_depthwise.h"

#include "core/dispatch.h"
#include "ops/conv_sums.h"
#include "ops/conv_weights.h"

#include <stdlib.h>
#include <string.h>

DLB_ISA_TABLE(struct dlb_depthwise_weights_kernels, dlb_depthwise_weights);

const struct dlb_depthwise_weights_kernels *
dlb_depthwise_weights_kernels(enum dlb_isa isa)
{
    return dlb_depthwise_weights_by_isa[isa];
}

struct depthwise {
    struct dlb_plan plan;
    struct dlb_conv_shape s;
    const struct dlb_depthwise_weights_kernels *kernels;
    int lanes, nv;
    int64_t rows, rows_block, vectors, sums_ld;
    struct dlb_conv_weights_grid grid;
    struct dlb_conv_sums sums;
    const float *src, *diff;
    float *diff_weights, *diff_bias; /* for fetch */
};

/* Rows begin … end-1 of one image that a kh goes through, with nv vectors of channels. */
struct part {
    int64_t image, begin, end, kh, channel;
    int nv;
    float *sums; /* of the copy */
};

/* Taps kw … kw+taps-1 over pixels x[0] … x[1]-1. */
static void run_taps(const struct depthwise *p, const struct part *part, int64_t kw,
                     int taps, const int64_t *x)
{
    const struct dlb_conv_shape *s = &p->s;
    if (x[0] >= x[1])
        return;
    int64_t ih = part->begin * s->sh - s->ph + part->kh * (s->dh + 1),
            iw = x[0] * s->sw - s->pw + kw * (s->dw + 1);
    struct dlb_depthwise_weights call = {
        .src = p->src + ((part->image * s->ih + ih) * s->iw + iw) * s->ic + part->channel,
        .diff = p->diff + ((part->image * s->oh + part->begin) * s->ow + x[0]) * s->oc +
                part->channel,
        .src_line = s->sh * s->iw * s->ic,
        .src_pixel = s->sw * s->ic,
        .src_tap = (s->dw + 1) * s->ic,
        .diff_line = s->ow * s->oc,
        .diff_pixel = s->oc,
        .rows = part->end - part->begin,
        .pixels = x[1] - x[0],
        .sums = part->sums + (part->kh * s->kw + kw) * p->sums_ld + part->channel,
        .sums_tap = p->sums_ld,
        .lanes = (int)dlb_min(p->lanes, s->oc - part->channel),
    };
    if (call.lanes < p->lanes)
        p->kernels->tail[taps](&call);
    else if (call.src_tap == call.src_pixel)
        p->kernels->next[taps][part->nv](&call);
    else
        p->kernels->any[taps][part->nv](&call);
}

static void valid_pixels(const struct dlb_conv_shape *s, int64_t kw, int64_t *x)
{
    dlb_conv_valid_outputs(kw, s->iw, s->ow, s->sw, s->pw, s->dw, &x[0], &x[1]);
}

/* Some taps of a part: together where they can, each alone before and after. */
static void run_group(const struct depthwise *p, const struct part *part, int64_t kw,
                      int taps)
{
    int64_t common[2] = {0, p->s.ow}, own[2];
    for (int t = 0; t < taps; t++) {
        valid_pixels(&p->s, kw + t, own);
        common[0] = dlb_max(common[0], own[0]);
        common[1] = dlb_min(common[1], own[1]);
    }
    if (common[0] >= common[1])
        common[0] = common[1] = p->s.ow;
    run_taps(p, part, kw, taps, common);
    for (int t = 0; t < taps; t++) {
        valid_pixels(&p->s, kw + t, own);
        run_taps(p, part, kw + t, 1, (int64_t[]){own[0], dlb_min(own[1], common[0])});
        run_taps(p, part, kw + t, 1, (int64_t[]){dlb_max(own[0], common[1]), own[1]});
    }
}

/* All taps of a block of rows for some channels. */
static void run_channels(const struct depthwise *p, const int64_t *block, int64_t channel,
                         int nv, float *sums)
{
    const struct dlb_conv_shape *s = &p->s;
    for (int64_t kh = 0; kh < s->kh; kh++) {
        int64_t valid[2];
        dlb_conv_valid_outputs(kh, s->ih, s->oh, s->sh, s->ph, s->dh, &valid[0],
                               &valid[1]);
        for (int64_t r = block[0], end; r < block[1]; r = end) {
            int64_t image = r / s->oh;
            end = dlb_min(block[1], (image + 1) * s->oh);
            struct part part = {.image = image,
                                .begin = dlb_max(r - image * s->oh, valid[0]),
                                .end = dlb_min(end - image * s->oh, valid[1]),
                                .kh = kh,
                                .channel = channel,
                                .nv = nv,
                                .sums = sums};
            for (int64_t kw = 0; part.begin < part.end && kw < s->kw;
                 kw += DLB_DEPTHWISE_TAPS)
                run_group(p, &part, kw, (int)dlb_min(DLB_DEPTHWISE_TAPS, s->kw - kw));
        }
    }
}

static void depthwise_run(struct dlb_plan *plan, const struct dlb_team *team)
{
    const struct depthwise *p = (const struct depthwise *)plan;
    const struct dlb_conv_shape *s = &p->s;
    int64_t rows[2], vectors[2], strips[2];
    int copy = dlb_conv_weights_share(&p->grid, team->rank, p->rows, p->vectors, 1, rows,
                                      vectors, strips);
    float *sums = dlb_conv_sums_weights(&p->sums, copy);
    int64_t first = vectors[0] * p->lanes, last = vectors[1] * p->lanes;
    for (int64_t tap = 0; strips[0] < strips[1] && tap < s->kh * s->kw; tap++)
        memset(sums + tap * p->sums_ld + first, 0, (size_t)(last - first) * sizeof *sums);
    for (int64_t r = rows[0]; strips[0] < strips[1] && r < rows[1]; r += p->rows_block) {
        int64_t block[2] = {r, dlb_min(rows[1], r + p->rows_block)};
        for (int64_t v = vectors[0]; v < vectors[1];) {
            bool wide = v + p->nv <= vectors[1] && (v + p->nv) * p->lanes <= s->oc;
            run_channels(p, block, v * p->lanes, wide ? p->nv : 1, sums);
            v += wide ? p->nv : 1;
        }
        if (vectors[0] < vectors[1])
            dlb_conv_sums_bias(&p->sums, copy, p->diff + r * s->ow * s->oc,
                               (block[1] - r) * s->ow, first, dlb_min(last, s->oc),
                               r == rows[0]);
    }
    dlb_conv_sums_add(&p->sums, team);
}

static enum dlb_status depthwise_bind(struct dlb_plan *plan, void *const *tensor,
                                      const struct dlb_team *team,
                                      struct dlb_error *error)
{
    struct depthwise *p = (struct depthwise *)plan;
    (void)error;
    if (team->rank == 0) {
        p->src = tensor[DLB_CONV_SRC];
        p->diff = tensor[DLB_CONV_DST];
        p->diff_weights = tensor[DLB_CONV_WEIGHTS];
        p->diff_bias = p->s.bias ? tensor[DLB_CONV_BIASES] : NULL;
    }
    dlb_team_barrier(team);
    return DLB_OK;
}

static enum dlb_status depthwise_fetch(struct dlb_plan *plan, const struct dlb_team *team,
                                       struct dlb_error *error)
{
    const struct depthwise *p = (const struct depthwise *)plan;
    const float *sums = dlb_conv_sums_weights(&p->sums, 0);
    int64_t taps = p->s.kh * p->s.kw, begin, end;
    (void)error;
    dlb_share(p->s.oc, team->rank, team->size, &begin, &end);
    for (int64_t c = begin; c < end; c++)
        for (int64_t tap = 0; tap < taps; tap++)
            p->diff_weights[c * taps + tap] = sums[tap * p->sums_ld + c];
    dlb_conv_sums_fetch_bias(&p->sums, team, p->diff_bias);
    return DLB_OK;
}

static void depthwise_release(struct dlb_plan *plan)
{
    struct depthwise *p = (struct depthwise *)plan;
    dlb_conv_sums_release(&p->sums);
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

enum dlb_status dlb_conv_weights_depthwise(const struct dlb_problem *problem,
                                           const struct dlb_target *target,
                                           const struct dlb_candidate *candidate,
                                           struct dlb_plan **plan,
                                           struct dlb_error *error)
{
    const int *tile = candidate->tile;
    struct depthwise *p = calloc(1, sizeof *p);
    if (!p)
        return dlb_fail(error, DLB_NOMEM, "No memory for a plan of %zu bytes.",
                        sizeof *p);
    p->plan.class = &depthwise_class;
    dlb_conv_shape_get(problem, &p->s);
    const struct dlb_conv_shape *s = &p->s;
    p->kernels = dlb_depthwise_weights_kernels(target->isa);
    p->lanes = dlb_isa_lanes(target->isa);
    p->nv = tile[DLB_CONV_TILE_NR] / p->lanes;
    p->rows = s->mb * s->oh;
    p->rows_block = tile[DLB_CONV_TILE_ROWS];
    p->vectors = dlb_div_up(s->oc, p->lanes);
    p->sums_ld = p->vectors * p->lanes;
    p->grid = dlb_conv_weights_grid_make(tile[DLB_CONV_TILE_SPLIT], target->threads,
                                         p->rows, p->vectors, 1);
    if (!dlb_conv_sums_make(&p->sums, target->isa, p->grid.rows,
                            s->kh * s->kw * p->sums_ld, s->bias ? s->oc : 0)) {
        depthwise_release(&p->plan);
        return dlb_fail(error, DLB_NOMEM, "No memory for the sums of depthwise conv.");
    }
    p->plan.workspace_bytes = dlb_conv_sums_bytes(&p->sums);
    *plan = &p->plan;
    return DLB_OK;
}

const char *dlb_conv_weights_depthwise_refuse(const struct dlb_conv_shape *s,
                                              const struct dlb_target *target,
                                              const struct dlb_candidate *c)
{
    const int *tile = c->tile;
    int lanes = dlb_isa_lanes(target->isa), nv = tile[DLB_CONV_TILE_NR] / lanes;
    if (tile[DLB_CONV_TILE_NR] % lanes || nv > DLB_DEPTHWISE_NV)
        return "nr is not one or two vectors";
    if (nv > 1 && nv * lanes > s->oc)
        return "register tile exceeds the channels";
    if (tile[DLB_CONV_TILE_MR] != 1 || tile[DLB_CONV_TILE_PACK] || tile[DLB_CONV_TILE_KC])
        return "tile does not apply to depthwise";
    if (tile[DLB_CONV_TILE_SPLIT] == DLB_CONV_SPLIT_IC)
        return "a group's one channel is not split";
    return NULL;
}

double dlb_conv_weights_depthwise_cycles(const struct dlb_conv_shape *s,
                                         const struct dlb_target *target,
                                         const struct dlb_candidate *c)
{
    double lanes = dlb_isa_lanes(target->isa), nv = c->tile[DLB_CONV_TILE_NR] / lanes;
    double taps = (double)(s->kh * s->kw), groups = (double)dlb_div_up(s->kw, 3);
    double rows = (double)(s->mb * s->oh),
           vectors = (double)dlb_div_up(s->oc, (int64_t)lanes);
    double pixel = 0.6 * taps + 0.5 * (double)s->kh * groups;
    double call = (20 + 6 * nv) * (double)s->kh * groups * 3 / nv;
    /* One vector at a time reads half lines. */
    double miss = nv > 1 ? 1 : 1.3;
    return vectors * rows *
           (miss * pixel * (double)s->ow + call / c->tile[DLB_CONV_TILE_ROWS]);
}
