/*
 * The search space of attention's backward pass: what can be tried, what is legal, what it
 * should cost.
 */
#include "ops/attention_backward.h"
#include "ops/attention_kernels.h"

#include "core/brgemm.h"

#include <math.h>

static const double BALANCE_LEAST = 0.8;

void dlb_attention_strips_get(enum dlb_isa isa, int64_t columns,
                              struct dlb_attention_strips *strips)
{
    const struct dlb_brgemm_kernels *brgemm = dlb_brgemm_kernels(isa);
    double least = INFINITY;
    strips->vectors = dlb_div_up(columns, brgemm->lanes);
    for (int nv = 1; nv <= DLB_BRGEMM_NV; nv++) {
        int64_t n = dlb_div_up(strips->vectors, nv);
        int widest = (int)dlb_div_up(strips->vectors, n);
        double cycles = (double)n *
                        dlb_brgemm_step_cycles(brgemm->mr_max[widest], widest) /
                        brgemm->mr_max[widest];
        if (cycles < least) {
            least = cycles;
            strips->n = n;
        }
    }
}

/* Queries that see key j. */
static int64_t queries_of_key(const struct dlb_attention_shape *s, int64_t j)
{
    if (s->mask != DLB_ATTENTION_CAUSAL && s->mask != DLB_ATTENTION_CAUSAL_END)
        return s->sq;
    int64_t shift = s->mask == DLB_ATTENTION_CAUSAL_END ? s->sk - s->sq : 0;
    return dlb_max(0, s->sq - dlb_max(0, j - shift));
}

void dlb_attention_split_keys(const struct dlb_attention_shape *s, int64_t parts,
                              int64_t *begin)
{
    double all = 0, sum = 0;
    int64_t j = 0;
    for (int64_t i = 0; i < s->sk; i++)
        all += (double)queries_of_key(s, i);
    for (int64_t part = 0; part < parts; part++) {
        begin[part] = j;
        while (j < s->sk && sum < all * (double)(part + 1) / (double)parts)
            sum += (double)queries_of_key(s, j++);
    }
    begin[parts] = s->sk;
}

struct visit {
    const struct dlb_attention_shape *s;
    const struct dlb_target *target;
    dlb_candidate_fn *emit;
    void *context;
    bool stopped;
};

static void emit_splits(struct visit *v, struct dlb_candidate *c)
{
    int threads = v->target->threads;
    for (int parts = 1;; parts = parts * 2 < threads ? parts * 2 : threads) {
        c->tile[DLB_ATTENTION_TILE_SPLIT] = parts;
        if (!v->stopped)
            v->stopped = !v->emit(v->context, c);
        if (parts >= threads)
            return;
    }
}

static void emit_keys(struct visit *v, struct dlb_candidate *c)
{
    static const int keys[] = {8, 16, 32, 64, 128, 256};
    int64_t last = 0;
    /* Panels have something to do for each block. */
    for (size_t i = c->algorithm == DLB_ATTENTION_DECODE ? 0 : 2;
         i < sizeof keys / sizeof *keys; i++) {
        int64_t kb = dlb_min(keys[i], v->s->sk);
        if (kb == last)
            return;
        last = kb;
        c->tile[DLB_ATTENTION_TILE_KB] = (int)kb;
        for (int stream = DLB_ATTENTION_STREAM_OFF; stream <= DLB_ATTENTION_STREAM_ON;
             stream++) {
            if (c->algorithm == DLB_ATTENTION_DECODE)
                c->tile[DLB_ATTENTION_TILE_STREAM] = stream;
            else if (stream == DLB_ATTENTION_STREAM_ON)
                continue;
            emit_splits(v, c);
        }
    }
}

void dlb_attention_backward_enumerate(const struct dlb_attention_shape *s,
                                      const struct dlb_target *target,
                                      dlb_candidate_fn *emit, void *context)
{
    static const int panels[] = {1, 4, 8, 16};
    struct visit v = {s, target, emit, context, false};
    const int lanes = dlb_isa_lanes(target->isa);
    const int64_t vectors = dlb_div_up(s->sq * s->group, lanes);
    for (int nv = 1; nv <= dlb_min(DLB_ATTENTION_NV, vectors); nv++) {
        struct dlb_candidate c = {.algorithm = DLB_ATTENTION_RECOMPUTE};
        int64_t all = dlb_div_up(vectors, nv), last = 0;
        c.tile[DLB_ATTENTION_TILE_NR] = nv * lanes;
        for (size_t i = 0; i < sizeof panels / sizeof *panels; i++) {
            int64_t block = dlb_min(panels[i], all);
            if (block == last)
                break;
            last = block;
            c.tile[DLB_ATTENTION_TILE_QB] = (int)block * nv * lanes;
            emit_keys(&v, &c);
        }
    }
    struct dlb_candidate c = {.algorithm = DLB_ATTENTION_DECODE};
    emit_keys(&v, &c);
}

static double balance(const struct dlb_attention_shape *s,
                      const struct dlb_target *target, int64_t parts)
{
    return dlb_share_balance(s->mb * s->hk * parts, target->threads);
}

static const char *refuse_panels(const struct dlb_attention_shape *s,
                                 const struct dlb_target *target,
                                 const struct dlb_candidate *c)
{
    const int lanes = dlb_isa_lanes(target->isa);
    const int64_t vectors = dlb_div_up(s->sq * s->group, lanes);
    const int64_t nr = c->tile[DLB_ATTENTION_TILE_NR],
                  qb = c->tile[DLB_ATTENTION_TILE_QB],
                  kb = c->tile[DLB_ATTENTION_TILE_KB];
    const double block =
        (double)((3 * s->d + 2 * s->dv + 2 * kb) * qb + 2 * kb * (s->d + s->dv));
    if (nr < 1 || nr % lanes || nr / lanes > DLB_ATTENTION_NV)
        return "nr is not 1 to 4 vectors";
    if (nr / lanes > vectors)
        return "nr exceeds the queries";
    if (nr == lanes && vectors > 1)
        return "one vector of queries where two would be used";
    if (qb < nr || qb % nr || qb / nr > DLB_ATTENTION_PANELS_MAX ||
        qb / nr > dlb_div_up(vectors, nr / lanes))
        return "qb is not a number of panels that there are";
    if (qb > nr && sizeof(float) * block > (double)target->l2_bytes)
        return "a block exceeds the second-level cache";
    if (c->tile[DLB_ATTENTION_TILE_STREAM])
        return "gradients of many queries are kept until they are whole";
    return NULL;
}

static const char *refuse_decode(const struct dlb_attention_shape *s,
                                 const struct dlb_target *target,
                                 const struct dlb_candidate *c)
{
    const int stream = c->tile[DLB_ATTENTION_TILE_STREAM];
    const int lanes = dlb_isa_lanes(target->isa);
    if (stream != DLB_ATTENTION_STREAM_OFF && stream != DLB_ATTENTION_STREAM_ON)
        return "no such way to write";
    if (stream == DLB_ATTENTION_STREAM_ON && (s->d % lanes || s->dv % lanes))
        return "rows that are no whole vectors cannot go past the caches";
    return dlb_attention_refuse_decode(s, c);
}

const char *dlb_attention_backward_refuse(const struct dlb_attention_shape *s,
                                          const struct dlb_target *target,
                                          const struct dlb_candidate *c)
{
    const int *tile = c->tile;
    const int parts = tile[DLB_ATTENTION_TILE_SPLIT];
    const int64_t kb = tile[DLB_ATTENTION_TILE_KB];
    const char *reason = NULL;
    if (kb < 1 || kb > s->sk)
        return "kb is not a part of the keys";
    if (c->algorithm == DLB_ATTENTION_RECOMPUTE)
        reason = refuse_panels(s, target, c);
    else if (c->algorithm == DLB_ATTENTION_DECODE)
        reason = refuse_decode(s, target, c);
    else
        reason = "the backward pass knows recompute and decode only";
    if (reason)
        return reason;
    if (tile[DLB_ATTENTION_TILE_PACK])
        return "keys and values are copied in any case";
    if (parts < 1 || parts > target->threads)
        return "keysplit is not 1 to the number of threads";
    if (parts > s->sk)
        return "more parts than keys";
    if (parts > 1 && balance(s, target, 1) > 0.99)
        return "heads keep all threads busy: no need to split the keys";
    if (balance(s, target, parts) < BALANCE_LEAST &&
        balance(s, target, parts) < balance(s, target, dlb_min(target->threads, s->sk)))
        return "threads are unbalanced";
    return NULL;
}

/* Cycles of a block of rows x keys seen, in panels of nv vectors. */
static double block_cycles(const struct dlb_attention_shape *s,
                           const struct dlb_target *target, double rows, double keys,
                           int nv)
{
    static const double WEIGHT_CYCLES = 9, MASK_CYCLES = 6, CALL_CYCLES = 100,
                        TILE_CYCLES = 16;
    const struct dlb_attention_kernels *kernels = dlb_attention_kernels(target->isa);
    const struct dlb_brgemm_kernels *brgemm = dlb_brgemm_kernels(target->isa);
    const int lanes = dlb_isa_lanes(target->isa), mr = kernels->mr_max[nv];
    const double panels = ceil(rows / (nv * lanes)),
                 step = dlb_brgemm_step_cycles(mr, nv);
    const double d = (double)s->d, dv = (double)s->dv;
    double cycles = panels * CALL_CYCLES;
    cycles += panels * ceil(keys / mr) * ((d + dv) * step + 2 * (TILE_CYCLES + mr * nv));
    cycles += panels * ceil(d / mr) * (keys * step + TILE_CYCLES + 2 * mr * nv);
    cycles += panels * nv * keys *
              (WEIGHT_CYCLES + (s->mask == DLB_ATTENTION_BUFFER ? MASK_CYCLES : 0));
    for (int i = 0; i < 2; i++) {
        struct dlb_attention_strips strips;
        dlb_attention_strips_get(target->isa, i ? s->d : s->dv, &strips);
        int width = (int)dlb_div_up(strips.vectors, strips.n);
        int tile = brgemm->mr_max[width];
        cycles += (double)strips.n * ceil(keys / tile) *
                  (rows * dlb_brgemm_step_cycles(tile, width) + panels * 4 + TILE_CYCLES +
                   2 * tile * width);
    }
    return cycles;
}

static double head_cycles(const struct dlb_attention_shape *s,
                          const struct dlb_target *target,
                          const struct dlb_attention_work *w, double kb)
{
    static const double TRANSPOSE_CYCLES = 6, COPY_CYCLES = 1.5;
    const double row = (double)(s->d + s->dv);
    double cycles = 0;
    for (int64_t block = 0; block < w->blocks; block++) {
        int64_t panels[2], begin, end, last;
        dlb_share(w->panels, (int)block, (int)w->blocks, &panels[0], &panels[1]);
        int nv = dlb_attention_panel_rows(w, panels[0], &begin, &end);
        dlb_attention_panel_rows(w, panels[1] - 1, &last, &end);
        double rows = (double)(end - begin);
        /* What the block sees: its middle row's keys, and whole blocks at the edge. */
        double seen = (double)dlb_attention_keys(s, (begin + end) / 2 / s->group);
        cycles += row * rows / w->lanes * 2 * TRANSPOSE_CYCLES;
        if (seen == 0)
            continue;
        double blocks = ceil(seen / kb);
        cycles += blocks * block_cycles(s, target, rows, seen / blocks, nv) +
                  seen * row / w->lanes * 2 * COPY_CYCLES;
    }
    return cycles;
}

/* Few queries: the rows of K, V and their gradients pass once. */
static double decode_ns(const struct dlb_attention_shape *s,
                        const struct dlb_target *target, const struct dlb_rates *rates,
                        const struct dlb_attention_work *w, bool stream, double peak)
{
    static const double PAIR_CYCLES = 4;
    const double row = (double)(s->d + s->dv);
    const double pairs = (double)(w->heads * w->rows) * (double)s->sk;
    const double cycles =
        pairs * ((1.5 * (double)s->d + (double)s->dv) / w->lanes + PAIR_CYCLES);
    /* What is written is read before, unless it goes past the caches: then to memory. */
    const double once = sizeof(float) * (double)(w->heads * s->sk) * row;
    const double transfer = stream
                                ? dlb_op_transfer_ns(target, rates, once, once) +
                                      dlb_op_transfer_ns(target, rates, once, INFINITY)
                                : dlb_op_transfer_ns(target, rates, 3 * once, 2 * once);
    return fmax(cycles * 4.0 * w->lanes / peak, transfer) / balance(s, target, w->parts) +
           rates->barrier_ns * (w->parts > 1 ? 2 : 1);
}

double dlb_attention_backward_estimate(const struct dlb_attention_shape *s,
                                       const struct dlb_target *target,
                                       const struct dlb_rates *rates,
                                       const struct dlb_candidate *c)
{
    struct dlb_attention_work w;
    dlb_attention_work_get(s, target, c, &w);
    const double cycle_flops = 4.0 * w.lanes;
    const double peak =
        rates->peak_gflops > 0 ? rates->peak_gflops : 3.0 * cycle_flops * target->threads;
    if (c->algorithm == DLB_ATTENTION_DECODE)
        return decode_ns(s, target, rates, &w,
                         c->tile[DLB_ATTENTION_TILE_STREAM] == DLB_ATTENTION_STREAM_ON,
                         peak);
    const double merge =
        w.parts > 1 ? (double)(w.rows * s->d * (w.parts + 1)) / w.lanes : 0;
    const double cycles =
        (double)w.heads *
        (head_cycles(s, target, &w, c->tile[DLB_ATTENTION_TILE_KB]) + merge);
    return cycles * cycle_flops / peak / balance(s, target, w.parts) +
           rates->barrier_ns * (w.parts > 1 ? 2 : 1);
}
