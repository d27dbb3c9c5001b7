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

enum {
    LINE = DLB_CACHE_LINE / sizeof(float),
    LANES_MAX = 16,
    WIDTH_MAX = DLB_ATTENTION_NV * LANES_MAX
};

struct panel {
    int64_t begin, end;          /* rows of the head */
    int64_t keys_all, keys_most; /* seen by every row; by the last */
    int nv, width;
    bool started; /* O holds something */
    float *q, *o, *maximum, *sum, *factor;
};

/* A thread's scratch; panels lie one after the other, panel_elements each. */
struct memory {
    float *s, *mask, *k, *v, *top, *panels;
    int64_t k_ld, v_ld, panel_elements;
};

/* Rows an odd number of lines apart meet all sets of a cache. */
static int64_t pitch(int64_t n)
{
    return (dlb_div_up(n, LINE) | 1) * LINE;
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
    m->k_ld = pitch(p->s.d);
    m->v_ld = pitch(p->s.dv);
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

/* Offsets of the rows of a panel, pitch elements a row of q and dst, one for each lane;
 * lanes beyond the panel's rows repeat its last one. */
static void row_offsets(const struct dlb_attention_plan *p, int64_t head,
                        const struct panel *panel, int64_t n, int64_t *offset)
{
    for (int lane = 0; lane < panel->width; lane++)
        offset[lane] = n * dlb_attention_row(
                               &p->s, head, dlb_min(panel->begin + lane, panel->end - 1));
}

static void panel_start(const struct dlb_attention_plan *p, int64_t head, int64_t number,
                        float *memory, struct panel *panel)
{
    const struct dlb_attention_shape *s = &p->s;
    *panel = (struct panel){0};
    panel->nv = dlb_attention_panel_rows(&p->work, number, &panel->begin, &panel->end);
    panel->width = panel->nv * p->work.lanes;
    panel->keys_all = dlb_attention_keys(s, panel->begin / s->group);
    panel->keys_most = dlb_attention_keys(s, (panel->end - 1) / s->group);
    const int64_t numbers = dlb_round_up(panel->width, LINE);
    panel->maximum = memory;
    panel->sum = panel->maximum + numbers;
    panel->factor = panel->sum + numbers;
    panel->q = panel->factor + numbers;
    panel->o = panel->q + s->d * panel->width;
    for (int lane = 0; lane < panel->width; lane++) {
        panel->maximum[lane] = -FLT_MAX;
        panel->sum[lane] = 0;
    }
    int64_t offset[WIDTH_MAX];
    row_offsets(p, head, panel, s->d, offset);
    struct dlb_attention_rows rows = {(float *)p->q, offset, s->d, panel->q,
                                      panel->width};
    dlb_attention_by_isa[p->isa]->gather(&rows, s->scale);
}

/* A query that sees no key: zeros, whatever the values that it does not see were. */
static void clear(struct panel *panel, int64_t lane, int64_t dv)
{
    panel->factor[lane] = 0;
    for (int64_t c = 0; c < dv; c++)
        panel->o[c * panel->width + lane] = 0;
}

static void panel_finish(const struct dlb_attention_plan *p,
                         const struct dlb_attention_unit *unit, struct panel *panel)
{
    const int64_t dv = p->s.dv;
    int64_t offset[WIDTH_MAX];
    struct dlb_attention_rows rows = {NULL, offset, dv, panel->o, panel->width};
    if (!panel->started)
        memset(panel->o, 0, (size_t)(dv * panel->width) * sizeof(float));
    if (p->partial) {
        rows.base = dlb_attention_partial(p, unit->head, unit->part, 0);
        for (int lane = 0; lane < panel->width; lane++) {
            int64_t row = dlb_min(panel->begin + lane, panel->end - 1);
            float *partial = dlb_attention_partial(p, unit->head, unit->part, row);
            offset[lane] = partial - rows.base;
            if (panel->begin + lane < panel->end) {
                partial[dv] = panel->maximum[lane];
                partial[dv + 1] = panel->sum[lane];
            }
            panel->factor[lane] = 1;
        }
    } else {
        rows.base = p->dst;
        row_offsets(p, unit->head, panel, dv, offset);
        for (int64_t lane = 0; lane < panel->width; lane++) {
            panel->factor[lane] = 1 / panel->sum[lane];
            if (panel->sum[lane] == 0)
                clear(panel, lane, dv);
        }
        for (int64_t row = panel->begin; row < panel->end; row++)
            dlb_attention_logsum(p, unit->head, row, panel->maximum[row - panel->begin],
                                 panel->sum[row - panel->begin]);
    }
    dlb_attention_by_isa[p->isa]->scatter(&rows, panel->factor,
                                          panel->end - panel->begin);
}

/* All rows of C, in tiles whose heights differ by at most one. */
static void product(const struct dlb_attention_kernels *kernels, bool second, int nv,
                    int64_t rows, struct dlb_attention_product *call)
{
    dlb_attention_product_fn *const *tile =
        second ? kernels->values[nv] : kernels->scores[nv];
    const int64_t tiles = dlb_div_up(rows, kernels->mr_max[nv]);
    const int64_t low = rows / tiles, high = rows % tiles;
    call->tiles = high;
    if (high)
        tile[low + 1](call);
    call->a += high * (low + 1) * (second ? 1 : call->a_ld);
    call->c += high * (low + 1) * nv * kernels->lanes;
    call->tiles = tiles - high;
    tile[low](call);
}

/* -inf where a query does not see a key: scores of the keys first … first+keys-1. */
static void hide(const struct dlb_attention_plan *p, const struct panel *panel,
                 int64_t first, int64_t keys, float *s)
{
    int64_t row = panel->begin;
    for (int64_t j = dlb_max(0, panel->keys_all - first); j < keys; j++) {
        while (row < panel->end &&
               dlb_attention_keys(&p->s, row / p->s.group) <= first + j)
            row++;
        for (int64_t lane = 0; lane < row - panel->begin; lane++)
            s[j * panel->width + lane] = -INFINITY;
    }
}

/* Values that are not finite, of keys that only some queries see. */
static void add_seen(const struct dlb_attention_plan *p, const struct panel *panel,
                     const float *s, const float *v, int64_t v_ld, int64_t first,
                     int64_t begin, int64_t end)
{
    for (int64_t j = begin; j < end; j++)
        for (int64_t row = panel->begin; row < panel->end; row++) {
            if (dlb_attention_keys(&p->s, row / p->s.group) <= first + j)
                continue;
            int64_t lane = row - panel->begin;
            for (int64_t c = 0; c < p->s.dv; c++)
                panel->o[c * panel->width + lane] +=
                    s[j * panel->width + lane] * v[j * v_ld + c];
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
    const int nv = panel->nv;
    const int64_t keys = dlb_min(block->keys, panel->keys_most - block->first);
    if (keys <= 0)
        return;
    const bool edge = panel->keys_all < block->first + keys;
    for (int lane = 0; lane < panel->width; lane++)
        m->top[lane] = -FLT_MAX;
    struct dlb_attention_product first = {.a = block->k,
                                          .a_ld = block->k_ld,
                                          .b = panel->q,
                                          .depth = shape->d,
                                          .c = m->s,
                                          .maximum = edge || p->mask ? NULL : m->top};
    product(kernels, false, nv, keys, &first);
    if (edge)
        hide(p, panel, block->first, keys, m->s);
    if (p->mask) {
        int64_t offset[WIDTH_MAX];
        for (int lane = 0; lane < panel->width; lane++)
            offset[lane] =
                dlb_min(panel->begin + lane, panel->end - 1) / shape->group * shape->sk;
        const float *mask = p->mask + image * shape->sq * shape->sk + block->first;
        struct dlb_attention_rows rows = {(float *)mask, offset, keys, m->mask,
                                          panel->width};
        kernels->gather(&rows, 1);
    }
    if (edge || p->mask)
        kernels->mask[nv](m->s, p->mask ? m->mask : NULL, keys, m->top);
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
    const int64_t common = dlb_max(0, panel->keys_all - block->first);
    const bool apart = edge && !kernels->finite(block->v + common * block->v_ld,
                                                block->v_ld, keys - common, shape->dv);
    if (apart)
        second.depth = common;
    product(kernels, true, nv, shape->dv, &second);
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
    const int64_t end = dlb_min(unit->key_end, panels[panels_n - 1].keys_most);
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
