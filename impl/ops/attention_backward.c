/*
 * Attention backward: weights and their gradients are made again block by block.
 *
 *   for each block of queries, for each block of keys that it sees:
 *       S = K Q;  dP = V dO;  P = exp(S - m) / l;  dS = P (dP - e)     (panels of queries)
 *       dQ += K^T dS                                                  (panels of queries)
 *       dV += P dO;  dK += dS Q                                       (tiles of keys)
 *
 * Shapes    panels as in attention_kernels.h: q [d][w], dO [dv][w], dQ [d][w], P and dS
 *           [keys][w].  In the last line the queries are summed over, panel by panel, by
 *           core/brgemm.h: P and dS are its A, read element by element; Q and dO as rows its
 *           B, packed in strips of columns.  K and V are copied by blocks (their rows lie hk
 *           rows apart); dK and dV of a unit are kept as dense rows, and copied out where
 *           the last block of queries has been added
 * Units     elements.  Work unit: a key/value head and a part of its keys, with all queries
 *           of its group; parts have about equal numbers of pairs
 * Tiles     nr queries a panel, qb queries and kb keys a block
 * Work items and barriers   units in equal numbers; where keys are split one barrier before
 *           the parts of dQ are added in their order, else none.  One in bind, and those of
 *           the forward pass
 * Scratch   a thread: 2 kb*qb weights, qb*(3 d + 2 dv), keys of a part*(d + dv); dQ for each
 *           part where keys are split; and dst, maximum and sum of the forward pass
 * Cost      rows*keys*(6 d + 4 dv) flops; K and V are read, dK and dV read and written once
 *           a block of queries
 * Numerics  one chain of FMA per element and block, in the order of queries and of keys.  A
 *           weight that is 0 for a hidden key would still make NaN of what is not finite:
 *           such blocks are worked on pair by pair
 * Errors    dlb_attention_refuse refuses what does not fit
 * Source    Dao, "FlashAttention-2", 2023
 */
#include "ops/attention_backward_kernels.h"

#include "core/brgemm.h"
#include "core/dispatch.h"
#include "ops/attention_backward_internal.h"
#include "ops/attention_kernels.h"

#include <float.h>
#include <math.h>
#include <string.h>

DLB_ISA_TABLE(struct dlb_attention_backward_kernels, dlb_attention_backward);

const struct dlb_attention_backward_kernels *
dlb_attention_backward_kernels(enum dlb_isa isa)
{
    return dlb_attention_backward_by_isa[isa];
}

enum { LINE = DLB_CACHE_LINE / sizeof(float), PANELS_MAX = DLB_ATTENTION_PANELS_MAX };

/* A thread's scratch.  Panels lie one after the other. */
struct memory {
    float *s, *ds, *mask, *k, *v, *top, *ones, *panels, *q_rows, *diff_rows, *dk, *dv;
    int64_t k_ld, v_ld, panel_elements;
};

struct panel {
    struct dlb_attention_lanes lanes;
    bool started; /* dQ holds something */
    int64_t at;   /* of its weights in s and ds */
    float *q, *diff, *dq, *maximum, *weight, *mean;
};

/* A block of queries. */
struct queries {
    int64_t head;
    int64_t begin, rows; /* of the head */
    int panels_n;
    bool exclusive; /* some row sees no key at all */
    bool finite;    /* q and dO, where that matters */
    struct panel panel[PANELS_MAX];
};

/* A block of keys; row: of its gradients in the unit's. */
struct block {
    int64_t first, keys, row;
};

static int64_t panels_of_block(const struct dlb_attention_work *w)
{
    return dlb_div_up(w->panels, w->blocks);
}

/* Keys whose gradients a unit keeps: those of a block where one block of queries sees all. */
static int64_t keys_kept(const struct dlb_attention_backward *p)
{
    int64_t most = 0;
    if (p->work.blocks == 1)
        return p->kb;
    for (int64_t i = 0; i < p->work.parts; i++)
        most = dlb_max(most, p->part_begin[i + 1] - p->part_begin[i]);
    return most;
}

static int64_t memory_make(const struct dlb_attention_backward *p, float *scratch,
                           struct memory *m)
{
    const struct dlb_attention_shape *s = &p->s;
    const struct dlb_attention_work *w = &p->work;
    const int64_t width = dlb_div_up(w->vectors, w->panels) * w->lanes;
    const int64_t numbers = dlb_round_up(width, LINE), panels = panels_of_block(w);
    const int64_t weights = dlb_round_up(p->kb * width * panels, LINE);
    const int64_t keys = dlb_round_up(keys_kept(p), p->kb);
    m->k_ld = dlb_attention_pitch(dlb_round_up(s->d, w->lanes));
    m->v_ld = dlb_attention_pitch(dlb_round_up(s->dv, w->lanes));
    m->panel_elements =
        dlb_round_up((2 * s->d + s->dv) * width, LINE) + 3 * numbers + LINE;
    const struct {
        float **to;
        int64_t elements;
    } sizes[] = {
        {&m->s, weights},
        {&m->ds, weights},
        {&m->mask,
         s->mask == DLB_ATTENTION_BUFFER ? dlb_round_up(p->kb * width, LINE) : 0},
        {&m->k, p->kb * m->k_ld},
        {&m->v, p->kb * m->v_ld},
        {&m->top, numbers},
        {&m->ones, numbers},
        {&m->panels, panels * m->panel_elements},
        {&m->q_rows, panels * width * m->k_ld},
        {&m->diff_rows, panels * width * m->v_ld},
        {&m->dk, keys * m->k_ld},
        {&m->dv, keys * m->v_ld},
    };
    int64_t total = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        if (scratch)
            *sizes[i].to = scratch + total;
        total += sizes[i].elements;
    }
    return total;
}

/* Rows of q or dO of a panel as strips of columns: [strip][row of the block][width]. */
static void pack_rows(const struct dlb_attention_backward *p,
                      const struct queries *queries, const struct panel *panel,
                      const float *base, int64_t n, float scale,
                      const struct dlb_attention_strips *strips, float *to)
{
    int64_t offset[DLB_ATTENTION_WIDTH_MAX], begin, end;
    const struct dlb_attention_lanes *lanes = &panel->lanes;
    dlb_attention_row_offsets(&p->s, queries->head, lanes, n, offset);
    for (int64_t i = 0; i < strips->n; i++) {
        dlb_share(strips->vectors, (int)i, (int)strips->n, &begin, &end);
        begin *= p->work.lanes;
        end *= p->work.lanes;
        struct dlb_attention_rows rows = {
            .base = (float *)base + begin,
            .row = offset,
            .n = n - begin,
            .panel = to + begin * queries->rows +
                     (lanes->begin - queries->begin) * (end - begin),
            .width = end - begin,
        };
        p->kernels->pack(&rows, lanes->end - lanes->begin, scale);
    }
}

/* What the forward pass kept of a panel's rows, and e.  True when one sees no key.  row:
 * offsets of the lanes' rows of dst. */
static bool panel_statistics(const struct dlb_attention_backward *p, int64_t head,
                             const int64_t *row, struct panel *panel)
{
    const struct dlb_attention_lanes *lanes = &panel->lanes;
    bool exclusive = false;
    for (int64_t lane = 0; lane < lanes->width; lane++) {
        const int64_t number = dlb_min(lanes->begin + lane, lanes->end - 1);
        const float *kept = p->statistics + (head * p->work.rows + number) * 2;
        const bool blind = kept[1] == 0;
        panel->maximum[lane] = blind ? FLT_MAX : kept[0];
        panel->weight[lane] = blind ? 0 : 1 / kept[1];
        exclusive = exclusive || blind;
    }
    p->kernels->dots(p->dst, p->diff_dst, row, lanes->width, p->s.dv, panel->mean);
    return exclusive;
}

static void panel_start(const struct dlb_attention_backward *p, struct queries *queries,
                        int64_t number, const struct memory *m)
{
    const struct dlb_attention_shape *s = &p->s;
    const int i = queries->panels_n++;
    struct panel *panel = &queries->panel[i];
    *panel = (struct panel){0};
    dlb_attention_lanes_get(s, &p->work, number, &panel->lanes);
    const int64_t width = panel->lanes.width, numbers = dlb_round_up(width, LINE);
    if (i > 0)
        panel->at = queries->panel[i - 1].at + p->kb * queries->panel[i - 1].lanes.width;
    panel->maximum = m->panels + i * m->panel_elements;
    panel->weight = panel->maximum + numbers;
    panel->mean = panel->weight + numbers;
    panel->q = panel->mean + numbers;
    panel->diff = panel->q + s->d * width;
    panel->dq = panel->diff + s->dv * width;
    int64_t offset[DLB_ATTENTION_WIDTH_MAX];
    dlb_attention_row_offsets(s, queries->head, &panel->lanes, s->d, offset);
    p->panels->gather(
        &(struct dlb_attention_rows){(float *)p->q, offset, s->d, panel->q, width},
        s->scale);
    dlb_attention_row_offsets(s, queries->head, &panel->lanes, s->dv, offset);
    p->panels->gather(&(struct dlb_attention_rows){(float *)p->diff_dst, offset, s->dv,
                                                   panel->diff, width},
                      1);
    queries->exclusive |= panel_statistics(p, queries->head, offset, panel);
    queries->finite =
        queries->finite && (s->mask == DLB_ATTENTION_NONE ||
                            (p->panels->finite(panel->q, width, s->d, width) &&
                             p->panels->finite(panel->diff, width, s->dv, width)));
}

static void queries_start(const struct dlb_attention_backward *p, int64_t head,
                          int64_t number, const struct memory *m, struct queries *queries)
{
    int64_t begin, end;
    dlb_share(p->work.panels, (int)number, (int)p->work.blocks, &begin, &end);
    *queries = (struct queries){.head = head, .finite = true};
    for (int64_t i = begin; i < end; i++)
        panel_start(p, queries, i, m);
    const struct panel *first = &queries->panel[0],
                       *last = &queries->panel[queries->panels_n - 1];
    queries->begin = first->lanes.begin;
    queries->rows = last->lanes.end - first->lanes.begin;
    for (int i = 0; i < queries->panels_n; i++) {
        const struct panel *panel = &queries->panel[i];
        pack_rows(p, queries, panel, p->q, p->s.d, p->s.scale, &p->k_strips, m->q_rows);
        pack_rows(p, queries, panel, p->diff_dst, p->s.dv, 1, &p->v_strips, m->diff_rows);
    }
}

static void queries_finish(const struct dlb_attention_backward *p, int64_t part,
                           struct queries *queries)
{
    const int64_t d = p->s.d;
    for (int i = 0; i < queries->panels_n; i++) {
        struct panel *panel = &queries->panel[i];
        const struct dlb_attention_lanes *lanes = &panel->lanes;
        int64_t offset[DLB_ATTENTION_WIDTH_MAX];
        struct dlb_attention_rows rows = {
            dlb_attention_backward_target(p, queries->head, part, lanes->begin), offset,
            d, panel->dq, lanes->width};
        if (!panel->started)
            memset(panel->dq, 0, (size_t)(d * lanes->width) * sizeof(float));
        for (int64_t lane = 0; lane < lanes->width; lane++) {
            int64_t row = dlb_min(lanes->begin + lane, lanes->end - 1);
            offset[lane] =
                dlb_attention_backward_target(p, queries->head, part, row) - rows.base;
            panel->mean[lane] = p->s.scale;
        }
        p->panels->scatter(&rows, panel->mean, lanes->end - lanes->begin);
    }
}

/* P, dS and what a panel's queries get of a block. */
static void run_panel(const struct dlb_attention_backward *p, const struct memory *m,
                      const struct block *block, int64_t image, struct panel *panel)
{
    const struct dlb_attention_shape *s = &p->s;
    const struct dlb_attention_lanes *lanes = &panel->lanes;
    const int64_t keys = dlb_min(block->keys, lanes->keys_most - block->first);
    const int64_t width = lanes->width, rest = (block->keys - keys) * width;
    float *weights = m->s + panel->at, *gradients = m->ds + panel->at;
    struct dlb_attention_product scores = {
        .a = m->k, .a_ld = m->k_ld, .b = panel->q, .depth = s->d, .c = weights};
    struct dlb_attention_product changes = {
        .a = m->v, .a_ld = m->v_ld, .b = panel->diff, .depth = s->dv, .c = gradients};
    dlb_attention_scores(p->panels, lanes->nv, keys, &scores);
    dlb_attention_scores(p->panels, lanes->nv, keys, &changes);
    if (p->mask)
        dlb_attention_add_mask(p->panels, s, lanes,
                               p->mask + image * s->sq * s->sk + block->first, keys,
                               m->mask, weights, m->top);
    p->kernels->weights[lanes->nv](&(struct dlb_attention_weights){
        weights, gradients, keys, panel->maximum, panel->weight, panel->mean});
    if (lanes->keys_all < block->first + keys) {
        dlb_attention_hide(s, lanes, block->first, keys, 0, weights);
        dlb_attention_hide(s, lanes, block->first, keys, 0, gradients);
    }
    memset(weights + keys * width, 0, (size_t)rest * sizeof(float));
    memset(gradients + keys * width, 0, (size_t)rest * sizeof(float));
    struct dlb_attention_product sum = {.a = m->k,
                                        .a_ld = m->k_ld,
                                        .b = gradients,
                                        .depth = keys,
                                        .c = panel->dq,
                                        .factor = panel->started ? m->ones : NULL};
    dlb_attention_values(p->panels, lanes->nv, s->d, &sum);
    panel->started = true;
}

/* One tile of keys and one strip of columns: += the sum over the panels from first on, = it
 * when fresh.  Panels of one width go together; of the last one only its rows count. */
static void sum_tile(const struct queries *queries, int first, struct dlb_brgemm *call,
                     dlb_brgemm_fn *tile, int64_t key, int64_t strip_width)
{
    int64_t a_offset[PANELS_MAX], b_offset[PANELS_MAX];
    for (int i = first; i < queries->panels_n;) {
        const struct dlb_attention_lanes *lanes = &queries->panel[i].lanes;
        int64_t batch = 0, rows = dlb_min(lanes->width, lanes->end - lanes->begin);
        for (; i < queries->panels_n; i++, batch++) {
            const struct dlb_attention_lanes *next = &queries->panel[i].lanes;
            if (next->width != lanes->width ||
                dlb_min(next->width, next->end - next->begin) != rows)
                break;
            a_offset[batch] = queries->panel[i].at + key * next->width;
            b_offset[batch] = (next->begin - queries->begin) * strip_width;
        }
        call->a_offset = a_offset;
        call->b_offset = b_offset;
        call->lda = lanes->width;
        call->batch = batch;
        call->k = rows;
        tile(call);
        call->flags = DLB_BRGEMM_ACCUMULATE;
    }
}

/* The gradients of a block's keys (weights: dS, rows: q) or values (P, dO). */
static void sum_queries(const struct dlb_attention_backward *p,
                        const struct queries *queries, const struct block *block,
                        bool fresh, const float *weights, const float *rows,
                        const struct dlb_attention_strips *strips, float *gradient,
                        int64_t ld)
{
    for (int64_t i = 0; i < strips->n; i++) {
        int64_t left, right;
        dlb_share(strips->vectors, (int)i, (int)strips->n, &left, &right);
        const int nv = (int)(right - left);
        left *= p->work.lanes;
        const int64_t tiles = dlb_div_up(block->keys, p->brgemm->mr_max[nv]);
        int first = 0;
        for (int64_t t = 0; t < tiles; t++) {
            int64_t begin, end;
            dlb_share(block->keys, (int)t, (int)tiles, &begin, &end);
            while (first < queries->panels_n &&
                   queries->panel[first].lanes.keys_most <= block->first + begin)
                first++;
            float *c = gradient + begin * ld + left;
            struct dlb_brgemm call = {
                .a = weights,
                .b = rows + left * queries->rows,
                .c = c,
                .ldc = ld,
                .n = nv * p->work.lanes,
                .flags = fresh ? 0 : DLB_BRGEMM_ACCUMULATE,
            };
            for (int64_t j = begin; first == queries->panels_n && fresh && j < end; j++)
                memset(gradient + j * ld + left, 0, (size_t)call.n * sizeof(float));
            sum_tile(queries, first, &call, p->brgemm->tile[nv][end - begin], begin,
                     call.n);
        }
    }
}

/* A pair of query and key by itself, where others must not be touched. */
static void add_pair(const struct dlb_attention_backward *p, const struct memory *m,
                     struct panel *panel, int64_t lane, int64_t j, float mask, float *dk,
                     float *dv)
{
    const struct dlb_attention_shape *s = &p->s;
    const int64_t w = panel->lanes.width;
    const float *k = m->k + j * m->k_ld, *v = m->v + j * m->v_ld;
    float score = 0, change = 0;
    for (int64_t c = 0; c < s->d; c++)
        score += k[c] * panel->q[c * w + lane];
    for (int64_t c = 0; c < s->dv; c++)
        change += v[c] * panel->diff[c * w + lane];
    const float weight = expf(score + mask - panel->maximum[lane]) * panel->weight[lane];
    const float gradient = weight * (change - panel->mean[lane]);
    for (int64_t c = 0; c < s->d; c++) {
        panel->dq[c * w + lane] += k[c] * gradient;
        dk[c] += panel->q[c * w + lane] * gradient;
    }
    for (int64_t c = 0; c < s->dv; c++)
        dv[c] += panel->diff[c * w + lane] * weight;
}

/* What is not finite reaches no one who does not see it. */
static void run_pairs(const struct dlb_attention_backward *p, const struct memory *m,
                      const struct block *block, int64_t image, bool fresh,
                      struct queries *queries, float *dk, float *dv)
{
    const struct dlb_attention_shape *s = &p->s;
    if (fresh) {
        memset(dk, 0, (size_t)(block->keys * m->k_ld) * sizeof(float));
        memset(dv, 0, (size_t)(block->keys * m->v_ld) * sizeof(float));
    }
    for (int i = 0; i < queries->panels_n; i++) {
        struct panel *panel = &queries->panel[i];
        const struct dlb_attention_lanes *lanes = &panel->lanes;
        if (!panel->started)
            memset(panel->dq, 0, (size_t)(s->d * lanes->width) * sizeof(float));
        panel->started = true;
        for (int64_t row = lanes->begin; row < lanes->end; row++) {
            const int64_t query = row / s->group, lane = row - lanes->begin;
            const int64_t seen = dlb_attention_keys(s, query) - block->first;
            const float *mask =
                p->mask ? p->mask + (image * s->sq + query) * s->sk + block->first : NULL;
            const bool blind = panel->weight[lane] == 0;
            for (int64_t j = 0; !blind && j < dlb_min(seen, block->keys); j++)
                add_pair(p, m, panel, lane, j, mask ? mask[j] : 0, dk + j * m->k_ld,
                         dv + j * m->v_ld);
        }
    }
}

static void run_block(const struct dlb_attention_backward *p, const struct memory *m,
                      const struct block *block, bool fresh, struct queries *queries)
{
    const struct dlb_attention_shape *s = &p->s;
    const int64_t image = queries->head / s->hk,
                  row = (image * s->sk + block->first) * s->hk + queries->head % s->hk;
    float *dk = m->dk + block->row * m->k_ld, *dv = m->dv + block->row * m->v_ld;
    p->panels->copy(m->k, m->k_ld, p->k + row * s->d, s->hk * s->d, block->keys, s->d);
    p->panels->copy(m->v, m->v_ld, p->v + row * s->dv, s->hk * s->dv, block->keys, s->dv);
    const bool hidden = queries->exclusive ||
                        queries->panel[0].lanes.keys_all < block->first + block->keys;
    if (hidden &&
        !(queries->finite && p->panels->finite(m->k, m->k_ld, block->keys, s->d) &&
          p->panels->finite(m->v, m->v_ld, block->keys, s->dv))) {
        run_pairs(p, m, block, image, fresh, queries, dk, dv);
        return;
    }
    for (int i = 0; i < queries->panels_n; i++)
        if (queries->panel[i].lanes.keys_most > block->first)
            run_panel(p, m, block, image, &queries->panel[i]);
    sum_queries(p, queries, block, fresh, m->s, m->diff_rows, &p->v_strips, dv, m->v_ld);
    sum_queries(p, queries, block, fresh, m->ds, m->q_rows, &p->k_strips, dk, m->k_ld);
}

/* Of a unit's keys [begin, end), what stands in its rows from row on. */
static void write_keys(const struct dlb_attention_backward *p, const struct memory *m,
                       int64_t head, int64_t begin, int64_t end, int64_t row)
{
    const struct dlb_attention_shape *s = &p->s;
    const int64_t at = (head / s->hk * s->sk + begin) * s->hk + head % s->hk;
    p->panels->copy(p->diff_k + at * s->d, s->hk * s->d, m->dk + row * m->k_ld, m->k_ld,
                    end - begin, s->d);
    p->panels->copy(p->diff_v + at * s->dv, s->hk * s->dv, m->dv + row * m->v_ld, m->v_ld,
                    end - begin, s->dv);
}

/* Keys that no query sees. */
static void write_unseen(const struct dlb_attention_backward *p, const struct memory *m,
                         int64_t head, int64_t begin, int64_t end)
{
    memset(m->dk, 0, (size_t)(p->kb * m->k_ld) * sizeof(float));
    memset(m->dv, 0, (size_t)(p->kb * m->v_ld) * sizeof(float));
    for (int64_t j = begin; j < end; j += p->kb)
        write_keys(p, m, head, j, dlb_min(end, j + p->kb), 0);
}

static void run_unit(const struct dlb_attention_backward *p, int64_t head, int64_t part,
                     float *scratch)
{
    struct memory m = {0};
    memory_make(p, scratch, &m);
    const int64_t first = p->part_begin[part], end = p->part_begin[part + 1];
    const int64_t last = p->work.blocks - 1;
    int64_t done = 0; /* blocks of keys that hold something */
    for (int64_t b = 0; b <= last; b++) {
        struct queries queries;
        queries_start(p, head, b, &m, &queries);
        const int64_t seen = queries.panel[queries.panels_n - 1].lanes.keys_most;
        const int64_t blocks = dlb_div_up(dlb_max(0, dlb_min(end, seen) - first), p->kb);
        for (int64_t i = 0; i < blocks; i++) {
            struct block block = {.first = first + i * p->kb,
                                  .row = last ? i * p->kb : 0};
            block.keys = dlb_min(p->kb, end - block.first);
            run_block(p, &m, &block, i >= done, &queries);
            if (b == last)
                write_keys(p, &m, head, block.first, block.first + block.keys, block.row);
        }
        done = blocks;
        queries_finish(p, part, &queries);
    }
    if (first + done * p->kb < end)
        write_unseen(p, &m, head, first + done * p->kb, end);
}

static int64_t recompute_scratch(const struct dlb_attention_backward *p)
{
    struct memory m = {0};
    return memory_make(p, NULL, &m);
}

static void recompute_start(const struct dlb_attention_backward *p, float *scratch)
{
    struct memory m = {0};
    memory_make(p, scratch, &m);
    for (float *one = m.ones; one < m.panels; one++)
        *one = 1;
}

const struct dlb_attention_backward_runner dlb_attention_recompute = {
    recompute_scratch, recompute_start, run_unit};
