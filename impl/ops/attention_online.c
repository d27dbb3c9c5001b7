/*
 * Attention by panels of queries against blocks of keys.
 *
 *   for each block of keys, for each panel of the block of queries that sees any of them:
 *       S = K Q;  S += mask;  P = exp(S - m');  O = exp(m - m') O + V P
 *   dst = O / l
 *
 * Shapes    a panel holds its queries in the lanes (attention_kernels.h); Q is transposed
 *           and scaled when a unit begins, O transposed back when it ends.  K and V are
 *           read in place, or copied by blocks to rows an odd number of cache lines apart:
 *           in place they are hk rows apart, which often maps them to few cache sets
 * Units     elements
 * Tiles     nr queries a panel, qb queries and kb keys a block
 * Mask      blocks beyond what a panel sees are skipped; scores that not all of its
 *           queries see become -inf where they are not seen
 * Work items and barriers   struct dlb_attention_work; no barrier
 * Scratch   kb*nr scores (and as much mask), qb*(d + dv), kb*(d + dv) copied, a thread
 * Cost      2*rows*keys*(d + dv) flops; K and V are read once a block of queries
 * Numerics  the maximum is that of the keys so far; with one block of keys the softmax is
 *           the plain one.  A weight that is 0 for a hidden key would still make NaN of a
 *           value that is not finite: such blocks are added up query by query
 * Errors    dlb_attention_refuse refuses what does not fit
 * Source    Dao et al., "FlashAttention", NeurIPS 2022
 */
#include "ops/attention_kernels.h"

#include "core/dispatch.h"
#include "ops/attention_internal.h"

#include <float.h>
#include <math.h>
#include <string.h>

DLB_ISA_TABLE(struct dlb_attention_kernels, dlb_attention);

const struct dlb_attention_kernels *dlb_attention_kernels(enum dlb_isa isa)
{
    return dlb_attention_by_isa[isa];
}

enum { LINE = DLB_CACHE_LINE / sizeof(float) };

struct panel {
    struct dlb_attention_lanes lanes;
    bool started; /* O holds something */
    float *q, *o, *maximum, *sum, *factor;
};

/* A thread's scratch; panels lie one after the other, panel_elements each. */
struct memory {
    float *s, *mask, *k, *v, *top, *panels;
    int64_t k_ld, v_ld, panel_elements;
};

int64_t dlb_attention_pitch(int64_t n)
{
    return (dlb_div_up(n, LINE) | 1) * LINE;
}

void dlb_attention_lanes_get(const struct dlb_attention_shape *s,
                             const struct dlb_attention_work *w, int64_t panel,
                             struct dlb_attention_lanes *lanes)
{
    lanes->nv = dlb_attention_panel_rows(w, panel, &lanes->begin, &lanes->end);
    lanes->width = lanes->nv * w->lanes;
    lanes->keys_all = dlb_attention_keys(s, lanes->begin / s->group);
    lanes->keys_most = dlb_attention_keys(s, (lanes->end - 1) / s->group);
}

static int64_t width_most(const struct dlb_attention_work *w)
{
    return dlb_div_up(w->vectors, w->panels) * w->lanes;
}

static int64_t memory_make(const struct dlb_attention_plan *p, float *scratch,
                           struct memory *m)
{
    const struct dlb_attention_work *w = &p->work;
    const int64_t width = width_most(w), numbers = dlb_round_up(width, LINE);
    const int64_t s = dlb_round_up(p->kb * width, LINE);
    m->k_ld = dlb_attention_pitch(p->s.d);
    m->v_ld = dlb_attention_pitch(p->s.dv);
    m->panel_elements =
        dlb_round_up((p->s.d + p->s.dv) * width, LINE) + 3 * numbers + LINE;
    const int64_t sizes[] = {
        s,
        p->s.mask == DLB_ATTENTION_BUFFER ? s : 0,
        p->copy ? p->kb * m->k_ld : 0,
        p->copy ? p->kb * m->v_ld : 0,
        numbers,
        dlb_div_up(w->panels, w->blocks) * m->panel_elements,
    };
    float **parts[] = {&m->s, &m->mask, &m->k, &m->v, &m->top, &m->panels};
    int64_t total = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        if (scratch)
            *parts[i] = scratch + total;
        total += sizes[i];
    }
    return total;
}

static int64_t online_scratch(const struct dlb_attention_plan *p)
{
    struct memory m = {0};
    return memory_make(p, NULL, &m);
}

void dlb_attention_row_offsets(const struct dlb_attention_shape *s, int64_t head,
                               const struct dlb_attention_lanes *lanes, int64_t n,
                               int64_t *offset)
{
    for (int lane = 0; lane < lanes->width; lane++)
        offset[lane] =
            n * dlb_attention_row(s, head, dlb_min(lanes->begin + lane, lanes->end - 1));
}

static void panel_start(const struct dlb_attention_plan *p, int64_t head, int64_t number,
                        float *memory, struct panel *panel)
{
    const struct dlb_attention_shape *s = &p->s;
    *panel = (struct panel){0};
    dlb_attention_lanes_get(s, &p->work, number, &panel->lanes);
    const int64_t width = panel->lanes.width, numbers = dlb_round_up(width, LINE);
    panel->maximum = memory;
    panel->sum = panel->maximum + numbers;
    panel->factor = panel->sum + numbers;
    panel->q = panel->factor + numbers;
    panel->o = panel->q + s->d * width;
    for (int lane = 0; lane < width; lane++) {
        panel->maximum[lane] = -FLT_MAX;
        panel->sum[lane] = 0;
    }
    int64_t offset[DLB_ATTENTION_WIDTH_MAX];
    dlb_attention_row_offsets(s, head, &panel->lanes, s->d, offset);
    struct dlb_attention_rows rows = {(float *)p->q, offset, s->d, panel->q, width};
    dlb_attention_by_isa[p->isa]->gather(&rows, s->scale);
}

/* A query that sees no key: zeros, whatever the values that it does not see were. */
static void clear(struct panel *panel, int64_t lane, int64_t dv)
{
    panel->factor[lane] = 0;
    for (int64_t c = 0; c < dv; c++)
        panel->o[c * panel->lanes.width + lane] = 0;
}

static void panel_finish(const struct dlb_attention_plan *p,
                         const struct dlb_attention_unit *unit, struct panel *panel)
{
    const int64_t dv = p->s.dv, begin = panel->lanes.begin, end = panel->lanes.end;
    const int width = panel->lanes.width;
    int64_t offset[DLB_ATTENTION_WIDTH_MAX];
    struct dlb_attention_rows rows = {NULL, offset, dv, panel->o, width};
    if (!panel->started)
        memset(panel->o, 0, (size_t)(dv * width) * sizeof(float));
    if (p->partial) {
        rows.base = dlb_attention_partial(p, unit->head, unit->part, 0);
        for (int lane = 0; lane < width; lane++) {
            int64_t row = dlb_min(begin + lane, end - 1);
            float *partial = dlb_attention_partial(p, unit->head, unit->part, row);
            offset[lane] = partial - rows.base;
            if (begin + lane < end) {
                partial[dv] = panel->maximum[lane];
                partial[dv + 1] = panel->sum[lane];
            }
            panel->factor[lane] = 1;
        }
    } else {
        rows.base = p->dst;
        dlb_attention_row_offsets(&p->s, unit->head, &panel->lanes, dv, offset);
        for (int64_t lane = 0; lane < width; lane++) {
            panel->factor[lane] = 1 / panel->sum[lane];
            if (panel->sum[lane] == 0)
                clear(panel, lane, dv);
        }
        for (int64_t row = begin; row < end; row++)
            dlb_attention_keep(p, unit->head, row, panel->maximum[row - begin],
                               panel->sum[row - begin]);
    }
    dlb_attention_by_isa[p->isa]->scatter(&rows, panel->factor, end - begin);
}

/* All rows of C, in tiles whose heights differ by at most one; a_step: from one row to the
 * next in A. */
static void product(const struct dlb_attention_kernels *kernels,
                    dlb_attention_product_fn *const *tile, int64_t a_step, int nv,
                    int64_t rows, struct dlb_attention_product *call)
{
    const int64_t tiles = dlb_div_up(rows, kernels->mr_max[nv]);
    const int64_t low = rows / tiles, high = rows % tiles;
    call->tiles = high;
    if (high)
        tile[low + 1](call);
    call->a += high * (low + 1) * a_step;
    call->c += high * (low + 1) * nv * kernels->lanes;
    call->tiles = tiles - high;
    tile[low](call);
}

void dlb_attention_scores(const struct dlb_attention_kernels *kernels, int nv,
                          int64_t rows, struct dlb_attention_product *call)
{
    product(kernels, kernels->scores[nv], call->a_ld, nv, rows, call);
}

void dlb_attention_values(const struct dlb_attention_kernels *kernels, int nv,
                          int64_t rows, struct dlb_attention_product *call)
{
    product(kernels, kernels->values[nv], 1, nv, rows, call);
}

void dlb_attention_hide(const struct dlb_attention_shape *s,
                        const struct dlb_attention_lanes *lanes, int64_t first,
                        int64_t keys, float value, float *scores)
{
    int64_t row = lanes->begin;
    for (int64_t j = dlb_max(0, lanes->keys_all - first); j < keys; j++) {
        while (row < lanes->end && dlb_attention_keys(s, row / s->group) <= first + j)
            row++;
        for (int64_t lane = 0; lane < row - lanes->begin; lane++)
            scores[j * lanes->width + lane] = value;
    }
}

void dlb_attention_add_mask(const struct dlb_attention_kernels *kernels,
                            const struct dlb_attention_shape *s,
                            const struct dlb_attention_lanes *lanes, const float *mask,
                            int64_t keys, float *panel, float *scores, float *top)
{
    int64_t offset[DLB_ATTENTION_WIDTH_MAX];
    struct dlb_attention_rows rows = {(float *)mask, offset, keys, panel, lanes->width};
    for (int lane = 0; lane < lanes->width; lane++)
        offset[lane] = dlb_min(lanes->begin + lane, lanes->end - 1) / s->group * s->sk;
    kernels->gather(&rows, 1);
    kernels->mask[lanes->nv](scores, panel, keys, top);
}

/* Values that are not finite, of keys that only some queries see. */
static void add_seen(const struct dlb_attention_plan *p, const struct panel *panel,
                     const float *s, const float *v, int64_t v_ld, int64_t first,
                     int64_t begin, int64_t end)
{
    const struct dlb_attention_lanes *lanes = &panel->lanes;
    for (int64_t j = begin; j < end; j++)
        for (int64_t row = lanes->begin; row < lanes->end; row++) {
            if (dlb_attention_keys(&p->s, row / p->s.group) <= first + j)
                continue;
            int64_t lane = row - lanes->begin;
            for (int64_t c = 0; c < p->s.dv; c++)
                panel->o[c * lanes->width + lane] +=
                    s[j * lanes->width + lane] * v[j * v_ld + c];
        }
}

/* A block of keys as the kernels see it. */
struct block {
    int64_t first, keys;
    const float *k, *v;
    int64_t k_ld, v_ld;
};

static void run_panel(const struct dlb_attention_plan *p, int64_t image,
                      const struct block *block, const struct memory *m,
                      struct panel *panel)
{
    const struct dlb_attention_shape *shape = &p->s;
    const struct dlb_attention_kernels *kernels = dlb_attention_by_isa[p->isa];
    const struct dlb_attention_lanes *lanes = &panel->lanes;
    const int nv = lanes->nv;
    const int64_t keys = dlb_min(block->keys, lanes->keys_most - block->first);
    if (keys <= 0)
        return;
    const bool edge = lanes->keys_all < block->first + keys;
    for (int lane = 0; lane < lanes->width; lane++)
        m->top[lane] = -FLT_MAX;
    struct dlb_attention_product first = {.a = block->k,
                                          .a_ld = block->k_ld,
                                          .b = panel->q,
                                          .depth = shape->d,
                                          .c = m->s,
                                          .maximum = edge || p->mask ? NULL : m->top};
    dlb_attention_scores(kernels, nv, keys, &first);
    if (edge) {
        dlb_attention_hide(shape, lanes, block->first, keys, -INFINITY, m->s);
        kernels->mask[nv](m->s, NULL, keys, m->top);
    }
    if (p->mask)
        dlb_attention_add_mask(kernels, shape, lanes,
                               p->mask + image * shape->sq * shape->sk + block->first,
                               keys, m->mask, m->s, m->top);
    kernels->softmax[nv](&(struct dlb_attention_softmax){
        m->s, keys, m->top, panel->maximum, panel->sum, panel->factor});
    struct dlb_attention_product second = {
        .a = block->v,
        .a_ld = block->v_ld,
        .b = m->s,
        .depth = keys,
        .c = panel->o,
        .factor = panel->started ? panel->factor : NULL,
    };
    const int64_t common = dlb_max(0, lanes->keys_all - block->first);
    const bool apart = edge && !kernels->finite(block->v + common * block->v_ld,
                                                block->v_ld, keys - common, shape->dv);
    if (apart)
        second.depth = common;
    dlb_attention_values(kernels, nv, shape->dv, &second);
    if (apart)
        add_seen(p, panel, m->s, block->v, block->v_ld, block->first, common, keys);
    panel->started = true;
}

static void online_run(const struct dlb_attention_plan *p,
                       const struct dlb_attention_unit *unit, float *scratch)
{
    const struct dlb_attention_shape *s = &p->s;
    const struct dlb_attention_kernels *kernels = dlb_attention_by_isa[p->isa];
    struct panel panels[DLB_ATTENTION_PANELS_MAX];
    struct memory m = {0};
    const int panels_n = (int)(unit->panel_end - unit->panel_begin);
    memory_make(p, scratch, &m);
    for (int i = 0; i < panels_n; i++)
        panel_start(p, unit->head, unit->panel_begin + i, m.panels + i * m.panel_elements,
                    &panels[i]);
    const int64_t image = unit->head / s->hk;
    const int64_t end = dlb_min(unit->key_end, panels[panels_n - 1].lanes.keys_most);
    const int64_t all = dlb_max(0, end - unit->key_begin);
    const int64_t blocks = dlb_div_up(all, p->kb);
    for (int64_t i = 0; i < blocks; i++) {
        int64_t begin, next;
        dlb_share(all, (int)i, (int)blocks, &begin, &next);
        struct block block = {.first = unit->key_begin + begin, .keys = next - begin};
        const int64_t row = (image * s->sk + block.first) * s->hk + unit->head % s->hk;
        block.k = p->k + row * s->d;
        block.v = p->v + row * s->dv;
        block.k_ld = s->hk * s->d;
        block.v_ld = s->hk * s->dv;
        if (p->copy) {
            kernels->copy(m.k, m.k_ld, block.k, block.k_ld, block.keys, s->d);
            kernels->copy(m.v, m.v_ld, block.v, block.v_ld, block.keys, s->dv);
            block.k = m.k, block.k_ld = m.k_ld;
            block.v = m.v, block.v_ld = m.v_ld;
        }
        for (int q = 0; q < panels_n; q++)
            run_panel(p, image, &block, &m, &panels[q]);
    }
    for (int i = 0; i < panels_n; i++)
        panel_finish(p, unit, &panels[i]);
}

const struct dlb_attention_runner dlb_attention_online = {online_scratch, online_run};
