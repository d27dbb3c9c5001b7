/*
 * Tables of one convolution: strips, segments, batch entries, panels.  How a row is cut so
 * that padding is neither read nor multiplied stands at the head of conv_gemm.c.
 */
#include "ops/conv_nest.h"

#include <stdlib.h>
#include <string.h>

enum { LINE = DLB_CACHE_LINE / sizeof(float) };

static bool by_class(const struct dlb_conv_nest *nest)
{
    return nest->algorithm == DLB_CONV_DIRECT_ROW || nest->algorithm == DLB_CONV_IM2COL;
}

void dlb_conv_nest_taps(const struct dlb_conv_shape *s, int64_t x, int64_t *begin,
                        int64_t *end)
{
    dlb_conv_valid_taps(x, s->iw, s->kw, s->sw, s->pw, s->dw, begin, end);
    if (*end <= *begin)
        *begin = *end = 0;
}

/* Appends a segment and its batch entries: taps kw_begin … kw_end-1, run of them in one
 * entry (run 1 or all). */
static void add_segment(struct dlb_conv_nest *nest, int first, int rows, int64_t kw_begin,
                        int64_t kw_end)
{
    const struct dlb_conv_shape *s = &nest->phase.s;
    bool runs = by_class(nest), gathered = nest->algorithm == DLB_CONV_IM2COL;
    struct dlb_conv_segment *segment = &nest->segments[nest->segments_n++];
    int64_t taps = kw_end - kw_begin;
    *segment = (struct dlb_conv_segment){
        .first = first,
        .rows = rows,
        .k = runs ? taps * s->icg : 0,
        .list = nest->entries_n,
        .taps = runs ? taps > 0 : (int)taps,
        .merge = gathered && taps == s->kw,
    };
    int64_t depth = nest->kc, short_depth = s->icg - (nest->kc_blocks - 1) * nest->kc;
    int64_t width = nest->panels[0].nv * nest->lanes,
            narrow = nest->panels[nest->panels_group - 1].nv * nest->lanes;
    for (int64_t kh = 0; kh < s->kh; kh++)
        for (int64_t kw = kw_begin; kw < kw_end; kw += runs ? taps : 1) {
            int64_t tap = kh * s->kw + kw;
            int entry = nest->entries_n++;
            nest->a_offset[entry] =
                gathered ? tap * s->icg
                         : kh * (s->dh + 1) * s->iw * s->ic + kw * (s->dw + 1) * s->ic;
            nest->b_offset[0][entry] = tap * depth * width;
            nest->b_offset[DLB_CONV_NARROW_PANEL][entry] = tap * depth * narrow;
            nest->b_offset[DLB_CONV_SHORT_KC][entry] = tap * short_depth * width;
            nest->b_offset[DLB_CONV_SHORT_KC | DLB_CONV_NARROW_PANEL][entry] =
                tap * short_depth * narrow;
        }
}

/* Segments of a strip by the valid pixels of each kw; the one with all pixels comes last.
 */
static void add_segments_by_tap(struct dlb_conv_nest *nest, struct dlb_conv_strip *strip)
{
    const struct dlb_conv_shape *s = &nest->phase.s;
    for (int whole = 0; whole < 2; whole++)
        for (int64_t kw = 0; kw < s->kw;) {
            int range[2][2];
            int64_t next = kw;
            for (int which = 0; next < s->kw; next++, which = 1) {
                range[which][0] = strip->mr, range[which][1] = 0;
                for (int i = 0; i < strip->mr; i++) {
                    int64_t begin, end;
                    dlb_conv_nest_taps(s, strip->x + i, &begin, &end);
                    if (next < begin || next >= end)
                        continue;
                    range[which][0] = (int)dlb_min(range[which][0], i);
                    range[which][1] = i + 1;
                }
                if (which && memcmp(range[0], range[1], sizeof range[0]))
                    break;
            }
            int rows = range[0][1] - range[0][0];
            if (rows > 0 && (rows == strip->mr) == whole) {
                add_segment(nest, range[0][0], rows, kw, next);
                strip->whole = whole;
            }
            kw = next;
        }
}

static void add_strips(struct dlb_conv_nest *nest, int64_t x_begin, int64_t x_end, int mr)
{
    int64_t pixels = x_end - x_begin, count = dlb_div_up(pixels, mr);
    for (int64_t i = 0; i < count; i++) {
        int64_t begin, end;
        dlb_share(pixels, (int)i, (int)count, &begin, &end);
        struct dlb_conv_strip *strip = &nest->strips[nest->strips_n++];
        *strip = (struct dlb_conv_strip){.x = x_begin + begin,
                                         .mr = (int)(end - begin),
                                         .segment_begin = nest->segments_n};
        if (by_class(nest)) {
            int64_t kw_begin, kw_end;
            dlb_conv_nest_taps(&nest->phase.s, strip->x, &kw_begin, &kw_end);
            add_segment(nest, 0, strip->mr, kw_begin, kw_end);
            strip->whole = true;
        } else {
            add_segments_by_tap(nest, strip);
        }
        strip->segment_end = nest->segments_n;
    }
}

/* The strips of a row, the same for every row but for the valid kh. */
static void make_strips(struct dlb_conv_nest *nest, int mr)
{
    const struct dlb_conv_shape *s = &nest->phase.s;
    if (nest->algorithm == DLB_CONV_GEMM_1X1) {
        nest->strips[nest->strips_n++] =
            (struct dlb_conv_strip){.mr = mr, .segment_end = 1, .whole = true};
        add_segment(nest, 0, mr, 0, 1);
        return;
    }
    if (!by_class(nest)) {
        add_strips(nest, 0, s->ow, mr);
        return;
    }
    for (int64_t x = 0; x < s->ow;) {
        int64_t begin, end, next = x + 1;
        dlb_conv_nest_taps(s, x, &begin, &end);
        for (; next < s->ow; next++) {
            int64_t next_begin, next_end;
            dlb_conv_nest_taps(s, next, &next_begin, &next_end);
            if (next_begin != begin || next_end != end)
                break;
        }
        add_strips(nest, x, next, mr);
        x = next;
    }
}

/* Lays the panels out in packed weights, from element b on; returns where they end. */
static int64_t make_panels(struct dlb_conv_nest *nest, int nv, int64_t b)
{
    const struct dlb_conv_shape *s = &nest->phase.s;
    for (int64_t i = 0; i < nest->panels_n; i++) {
        int64_t first = i % nest->panels_group * nv * nest->lanes;
        struct dlb_conv_panel *panel = &nest->panels[i];
        panel->group = (int)(i / nest->panels_group);
        panel->channel = panel->group * s->ocg + first;
        panel->n = (int)dlb_min(nv * nest->lanes, s->ocg - first);
        panel->nv = (int)dlb_div_up(panel->n, nest->lanes);
        panel->b = b;
        b += s->kh * s->kw * s->icg * panel->nv * nest->lanes;
    }
    return b;
}

/* Everything whose size follows from the phase and the candidate. */
static bool allocate(struct dlb_conv_nest *nest)
{
    const struct dlb_conv_shape *s = &nest->phase.s;
    /* A strip has at least one pixel, and at most one segment a kw. */
    int64_t strips = nest->algorithm == DLB_CONV_GEMM_1X1 ? 1 : s->ow;
    int64_t segments = strips * (by_class(nest) ? 1 : s->kw);
    int64_t entries = strips * s->kh * (by_class(nest) ? 1 : s->kw);
    nest->panels = calloc((size_t)nest->panels_n, sizeof *nest->panels);
    nest->strips = calloc((size_t)strips, sizeof *nest->strips);
    nest->segments = calloc((size_t)segments, sizeof *nest->segments);
    nest->a_offset = calloc((size_t)entries, sizeof *nest->a_offset);
    bool all = nest->panels && nest->strips && nest->segments && nest->a_offset;
    for (int i = 0; i < DLB_CONV_VARIANTS; i++) {
        nest->b_offset[i] = calloc((size_t)entries, sizeof *nest->b_offset[i]);
        all = all && nest->b_offset[i];
    }
    return all;
}

bool dlb_conv_nest_make(struct dlb_conv_nest *nest, const struct dlb_conv_phase *phase,
                        const struct dlb_target *target,
                        const struct dlb_candidate *candidate, int64_t *packed)
{
    const int *tile = candidate->tile;
    const struct dlb_conv_shape *s = &phase->s;
    *nest = (struct dlb_conv_nest){
        .phase = *phase,
        .algorithm = candidate->algorithm,
        .lanes = dlb_isa_lanes(target->isa),
        .rows = dlb_conv_rows(s, candidate),
        .kc = tile[DLB_CONV_TILE_KC] ? tile[DLB_CONV_TILE_KC] : s->icg,
        .panels_group = dlb_div_up(s->ocg, tile[DLB_CONV_TILE_NR]),
        .pitch = dlb_round_up(s->kh * s->kw * s->icg, LINE) + LINE,
    };
    nest->kc_blocks = dlb_div_up(s->icg, nest->kc);
    nest->panels_n = s->g * nest->panels_group;
    nest->grid = dlb_conv_grid_make(tile[DLB_CONV_TILE_SPLIT], target->threads,
                                    nest->rows, nest->panels_n);
    nest->a_x = nest->algorithm == DLB_CONV_IM2COL ? nest->pitch : s->sw * s->ic;
    if (!allocate(nest))
        return false;
    *packed = make_panels(nest, tile[DLB_CONV_TILE_NR] / nest->lanes, *packed);
    make_strips(nest, tile[DLB_CONV_TILE_MR]);
    return true;
}

void dlb_conv_nest_release(struct dlb_conv_nest *nest)
{
    free(nest->panels);
    free(nest->strips);
    free(nest->segments);
    free(nest->a_offset);
    for (int i = 0; i < DLB_CONV_VARIANTS; i++)
        free(nest->b_offset[i]);
}
