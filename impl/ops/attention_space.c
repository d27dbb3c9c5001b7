/*
 * The search space of attention: what can be tried, what is legal, what it should cost;
 * and how the work falls into units.  That of the backward pass stands in
 * attention_backward_space.c.
 */
#include "ops/attention_backward.h"
#include "ops/attention_internal.h"
#include "ops/attention_kernels.h"

#include <math.h>

const char *const dlb_attention_algorithms[DLB_ATTENTION_ALGORITHMS] = {
    [DLB_ATTENTION_ONLINE] = "online",
    [DLB_ATTENTION_DECODE] = "decode",
    [DLB_ATTENTION_RECOMPUTE] = "recompute",
};

static const char *const packs[] = {"in-place", "copy", NULL};
static const char *const streams[] = {"cached", "stream", NULL};

const struct dlb_tile_def dlb_attention_tiles[DLB_ATTENTION_TILES] = {
    [DLB_ATTENTION_TILE_NR] = {"nr", NULL, "queries in a register tile"},
    [DLB_ATTENTION_TILE_QB] = {"qb", NULL, "queries in a block"},
    [DLB_ATTENTION_TILE_KB] = {"kb", NULL, "keys in a block"},
    [DLB_ATTENTION_TILE_PACK] = {"pack", packs, "keys and values in place or copied"},
    [DLB_ATTENTION_TILE_SPLIT] = {"keysplit", NULL, "parts of the keys side by side"},
    [DLB_ATTENTION_TILE_STREAM] = {"stream", streams,
                                   "gradients of few queries past the caches"},
};

/* Most rows that are worked on one by one, and most whose keys may be split. */
enum { DECODE_ROWS = 16, SPLIT_ROWS = 64 };
static const double BALANCE_LEAST = 0.8;

void dlb_attention_work_get(const struct dlb_attention_shape *s,
                            const struct dlb_target *target,
                            const struct dlb_candidate *c,
                            struct dlb_attention_work *work)
{
    const int *tile = c->tile;
    work->lanes = dlb_isa_lanes(target->isa);
    work->heads = s->mb * s->hk;
    work->rows = s->sq * s->group;
    work->vectors = dlb_div_up(work->rows, work->lanes);
    work->panels = work->blocks = 1;
    work->parts = tile[DLB_ATTENTION_TILE_SPLIT];
    if (c->algorithm == DLB_ATTENTION_DECODE)
        return;
    int64_t nr = tile[DLB_ATTENTION_TILE_NR];
    work->panels = dlb_div_up(work->vectors, nr / work->lanes);
    work->blocks = dlb_div_up(work->panels, tile[DLB_ATTENTION_TILE_QB] / nr);
}

int dlb_attention_panel_rows(const struct dlb_attention_work *w, int64_t panel,
                             int64_t *begin, int64_t *end)
{
    int64_t first, last;
    dlb_share(w->vectors, (int)panel, (int)w->panels, &first, &last);
    *begin = first * w->lanes;
    *end = dlb_min(w->rows, last * w->lanes);
    return (int)(last - first);
}

/* Unit number of a head. */
static void place(const struct dlb_attention_shape *s, const struct dlb_attention_work *w,
                  int64_t number, struct dlb_attention_unit *unit)
{
    int64_t turn = number / w->parts;
    unit->part = number % w->parts;
    unit->block = turn % 2 ? w->blocks - 1 - turn / 2 : turn / 2;
    dlb_share(w->panels, (int)unit->block, (int)w->blocks, &unit->panel_begin,
              &unit->panel_end);
    dlb_share(s->sk, (int)unit->part, (int)w->parts, &unit->key_begin, &unit->key_end);
}

void dlb_attention_unit_get(const struct dlb_attention_shape *s,
                            const struct dlb_attention_work *w, int64_t number,
                            struct dlb_attention_unit *unit)
{
    unit->head = number / (w->blocks * w->parts);
    place(s, w, number % (w->blocks * w->parts), unit);
}

/* Pairs of lanes and keys; a panel has some work whatever its keys. */
static double unit_cost(const struct dlb_attention_shape *s,
                        const struct dlb_attention_work *w,
                        const struct dlb_attention_unit *unit)
{
    static const double PANEL_KEYS = 8;
    double cost = 0;
    for (int64_t i = unit->panel_begin; i < unit->panel_end; i++) {
        int64_t begin, end;
        int nv = dlb_attention_panel_rows(w, i, &begin, &end);
        int64_t seen =
            dlb_min(unit->key_end, dlb_attention_keys(s, (end - 1) / s->group));
        cost += nv * ((double)dlb_max(0, seen - unit->key_begin) + PANEL_KEYS);
    }
    return cost;
}

/* The unit of a head before which the cost comes nearest to sought; *cost: what it is. */
static int64_t nearest(const struct dlb_attention_shape *s,
                       const struct dlb_attention_work *w, double sought, double *cost)
{
    const int64_t units = w->blocks * w->parts;
    double sum = 0;
    int64_t i = 0;
    for (; i < units; i++) {
        struct dlb_attention_unit unit;
        place(s, w, i, &unit);
        double next = sum + unit_cost(s, w, &unit);
        if (next - sought > sought - sum)
            break;
        sum = next;
    }
    *cost = sum;
    return i;
}

double dlb_attention_share(const struct dlb_attention_shape *s,
                           const struct dlb_attention_work *w, int threads,
                           int64_t *first)
{
    double head = 0, most = 0, last = 0;
    nearest(s, w, INFINITY, &head);
    const double all = head * (double)w->heads;
    for (int t = 0; t <= threads; t++) {
        double sought = all * t / threads, within = 0;
        int64_t whole = dlb_min(w->heads, (int64_t)(sought / head));
        int64_t unit =
            t == threads ? 0 : nearest(s, w, sought - (double)whole * head, &within);
        if (t == threads)
            whole = w->heads;
        double at = (double)whole * head + within;
        most = fmax(most, at - last);
        last = at;
        if (first)
            first[t] = whole * w->blocks * w->parts + unit;
    }
    return all / (most * threads);
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
    static const int keys[] = {64, 128, 256, 512};
    int64_t last = 0;
    for (int i = 0; i < 4; i++) {
        int64_t kb = dlb_min(keys[i], v->s->sk);
        if (kb == last)
            return;
        last = kb;
        c->tile[DLB_ATTENTION_TILE_KB] = (int)kb;
        if (c->algorithm == DLB_ATTENTION_DECODE) {
            emit_splits(v, c);
            continue;
        }
        for (int pack = DLB_ATTENTION_PACK_NONE; pack <= DLB_ATTENTION_PACK_COPY;
             pack++) {
            c->tile[DLB_ATTENTION_TILE_PACK] = pack;
            emit_splits(v, c);
        }
    }
}

void dlb_attention_enumerate(const struct dlb_problem *problem,
                             const struct dlb_target *target, dlb_candidate_fn *emit,
                             void *context)
{
    static const int panels[] = {1, 2, 4, 8, 16, DLB_ATTENTION_PANELS_MAX};
    struct dlb_attention_shape s;
    dlb_attention_shape_get(problem, &s);
    if (s.backward) {
        dlb_attention_backward_enumerate(&s, target, emit, context);
        return;
    }
    struct visit v = {&s, target, emit, context, false};
    const int lanes = dlb_isa_lanes(target->isa);
    const int64_t vectors = dlb_div_up(s.sq * s.group, lanes);
    for (int nv = 1; nv <= dlb_min(DLB_ATTENTION_NV, vectors); nv++) {
        struct dlb_candidate c = {.algorithm = DLB_ATTENTION_ONLINE};
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
                      const struct dlb_target *target, const struct dlb_candidate *c)
{
    struct dlb_attention_work work;
    dlb_attention_work_get(s, target, c, &work);
    return dlb_attention_share(s, &work, target->threads, NULL);
}

static const char *refuse_split(const struct dlb_attention_shape *s,
                                const struct dlb_target *target,
                                const struct dlb_candidate *c)
{
    int parts = c->tile[DLB_ATTENTION_TILE_SPLIT];
    if (parts < 1 || parts > target->threads)
        return "keysplit is not 1 to the number of threads";
    struct dlb_candidate finest = *c;
    finest.tile[DLB_ATTENTION_TILE_SPLIT] = 1;
    if (c->algorithm == DLB_ATTENTION_ONLINE)
        finest.tile[DLB_ATTENTION_TILE_QB] = c->tile[DLB_ATTENTION_TILE_NR];
    if (parts > 1) {
        if (parts > s->sk)
            return "more parts than keys";
        if (s->sq * s->group > SPLIT_ROWS)
            return "queries are many: no need to split the keys";
        if (balance(s, target, &finest) > 0.99)
            return "heads and queries keep all threads busy: no need to split the keys";
    }
    if (parts == 1 && s->sq * s->group <= SPLIT_ROWS)
        finest.tile[DLB_ATTENTION_TILE_SPLIT] = (int)dlb_min(target->threads, s->sk);
    double here = balance(s, target, c);
    if (here < BALANCE_LEAST && here < balance(s, target, &finest))
        return "threads are unbalanced";
    return NULL;
}

static const char *refuse_online(const struct dlb_attention_shape *s,
                                 const struct dlb_target *target,
                                 const struct dlb_candidate *c)
{
    const int *tile = c->tile;
    const int lanes = dlb_isa_lanes(target->isa);
    const int64_t vectors = dlb_div_up(s->sq * s->group, lanes);
    const int64_t nr = tile[DLB_ATTENTION_TILE_NR], qb = tile[DLB_ATTENTION_TILE_QB];
    const int pack = tile[DLB_ATTENTION_TILE_PACK];
    if (nr < 1 || nr % lanes || nr / lanes > DLB_ATTENTION_NV)
        return "nr is not 1 to 4 vectors";
    if (nr / lanes > vectors)
        return "nr exceeds the queries";
    if (nr == lanes && vectors > 1)
        return "one vector of queries where two would be used";
    if (qb < nr || qb % nr || qb / nr > DLB_ATTENTION_PANELS_MAX ||
        qb / nr > dlb_div_up(vectors, nr / lanes))
        return "qb is not a number of panels that there are";
    if (qb > nr &&
        sizeof(float) * (double)((s->d + s->dv) * qb) > 0.75 * (double)target->l2_bytes)
        return "panels of a block exceed the second-level cache";
    if (pack != DLB_ATTENTION_PACK_NONE && pack != DLB_ATTENTION_PACK_COPY)
        return "no such packing";
    if (pack == DLB_ATTENTION_PACK_COPY && s->hk == 1)
        return "rows of keys and values are side by side already";
    return NULL;
}

const char *dlb_attention_refuse_decode(const struct dlb_attention_shape *s,
                                        const struct dlb_candidate *c)
{
    if (s->sq * s->group > DECODE_ROWS)
        return "queries are too many to be worked on one by one";
    if (c->tile[DLB_ATTENTION_TILE_NR] || c->tile[DLB_ATTENTION_TILE_QB] ||
        c->tile[DLB_ATTENTION_TILE_PACK])
        return "decode has neither panels nor packing";
    return NULL;
}

const char *dlb_attention_refuse(const struct dlb_problem *problem,
                                 const struct dlb_target *target,
                                 const struct dlb_candidate *c)
{
    struct dlb_attention_shape s;
    dlb_attention_shape_get(problem, &s);
    const char *reason = NULL;
    if (s.backward)
        return dlb_attention_backward_refuse(&s, target, c);
    if (c->algorithm == DLB_ATTENTION_ONLINE)
        reason = refuse_online(&s, target, c);
    else if (c->algorithm == DLB_ATTENTION_DECODE)
        reason = dlb_attention_refuse_decode(&s, c);
    else
        reason = "no such algorithm";
    if (!reason && c->tile[DLB_ATTENTION_TILE_STREAM])
        reason = "only gradients of keys and values can go past the caches";
    if (reason)
        return reason;
    if (c->tile[DLB_ATTENTION_TILE_KB] < 1 || c->tile[DLB_ATTENTION_TILE_KB] > s.sk)
        return "kb is not a part of the keys";
    return refuse_split(&s, target, c);
}

/* Cycles of one step in a register tile: two FMA a cycle, and four cycles from one FMA to
 * the next of its chain.  Loads hinder a little when they are more than the FMA's cycles;
 * where the registers do not hold all vectors of B one is loaded with each FMA. */
static double step_cycles(double mr, int nv, int registers)
{
    double fma = mr * nv / 2, loads = mr + nv;
    if (ceil(mr) * nv + nv >= registers)
        loads += mr - 1;
    return fmax(fmax(fma, loads / 2), 4) + 0.15 * fmax(0, loads - fma);
}

/* Cycles of rows x depth in tiles of nv vectors, with what a tile costs beside its steps. */
static double product_cycles(double rows, double depth, int mr, int nv, int registers)
{
    static const double TILE_CYCLES = 16;
    double tiles = ceil(rows / mr);
    return tiles * (depth * step_cycles(rows / tiles, nv, registers) + TILE_CYCLES) +
           rows * nv;
}

static double online_cycles(const struct dlb_attention_shape *s,
                            const struct dlb_target *target,
                            const struct dlb_candidate *c,
                            const struct dlb_attention_work *w)
{
    static const double EXP_CYCLES = 6, MASK_CYCLES = 6, TRANSPOSE_CYCLES = 4,
                        CALL_CYCLES = 60, COPY_CYCLES = 8, FAR_CYCLES = 0.3;
    const struct dlb_attention_kernels *kernels = dlb_attention_kernels(target->isa);
    const double kb = c->tile[DLB_ATTENTION_TILE_KB], row = (double)(s->d + s->dv);
    const int registers = dlb_isa_registers(target->isa);
    const bool copied = c->tile[DLB_ATTENTION_TILE_PACK] == DLB_ATTENTION_PACK_COPY;
    double cycles = 0;
    for (int64_t block = 0; block < w->blocks; block++) {
        int64_t panels[2], seen = 0;
        dlb_share(w->panels, (int)block, (int)w->blocks, &panels[0], &panels[1]);
        for (int64_t i = panels[0]; i < panels[1]; i++) {
            int64_t begin, end;
            int nv = dlb_attention_panel_rows(w, i, &begin, &end);
            seen = dlb_attention_keys(s, (end - 1) / s->group);
            cycles += row * nv * TRANSPOSE_CYCLES;
            if (seen == 0)
                continue;
            double blocks = ceil((double)seen / kb), keys = (double)seen / blocks;
            int mr = kernels->mr_max[nv];
            double each = product_cycles(keys, (double)s->d, mr, nv, registers) +
                          product_cycles((double)s->dv, keys, mr, nv, registers) +
                          keys * nv * EXP_CYCLES + CALL_CYCLES;
            if (s->mask == DLB_ATTENTION_BUFFER)
                each += keys * nv * MASK_CYCLES;
            /* Each tile of columns runs through the scores and a line of each value. */
            double visits = keys * ceil((double)s->dv / mr) * FAR_CYCLES;
            double scores = sizeof(float) * keys * nv * w->lanes,
                   l1 = (double)target->l1d_bytes;
            if (scores > 0.8 * l1)
                each += visits * nv;
            if (scores + keys * DLB_CACHE_LINE > 0.9 * l1)
                each += visits;
            cycles += blocks * each;
        }
        /* In place, rows share few sets of the cache. */
        double lines = (double)seen * row / 16;
        cycles += copied ? lines * COPY_CYCLES
                         : lines * FAR_CYCLES * (double)(panels[1] - panels[0]);
    }
    return cycles * (double)w->heads;
}

static double nanoseconds(double bytes, double gbs)
{
    return gbs > 0 ? bytes / gbs : 0;
}

double dlb_attention_estimate(const struct dlb_problem *problem,
                              const struct dlb_target *target,
                              const struct dlb_rates *rates,
                              const struct dlb_candidate *c)
{
    static const double DOT_CYCLES = 3;
    struct dlb_attention_shape s;
    dlb_attention_shape_get(problem, &s);
    if (s.backward)
        return dlb_attention_backward_estimate(&s, target, rates, c);
    struct dlb_attention_work w;
    dlb_attention_work_get(&s, target, c, &w);
    const double cycle_flops = 4.0 * w.lanes;
    const double peak =
        rates->peak_gflops > 0 ? rates->peak_gflops : 3.0 * cycle_flops * target->threads;
    const double keys = sizeof(float) * (double)(w.heads * s.sk) * (double)(s.d + s.dv);
    double cycles;
    if (c->algorithm == DLB_ATTENTION_DECODE) {
        double pairs = (double)(w.heads * w.rows) * (double)s.sk;
        cycles = pairs * ((double)(s.d + s.dv) / w.lanes + DOT_CYCLES) +
                 (double)(w.heads * w.parts) *
                     (double)dlb_div_up(s.sk, c->tile[DLB_ATTENTION_TILE_KB]) * 50;
    } else {
        cycles = online_cycles(&s, target, c, &w);
    }
    const bool beyond = keys > (double)target->l3_bytes * target->threads;
    const double gbs = beyond ? rates->memory_gbs : rates->l3_gbs;
    const double compute = cycles * cycle_flops / peak;
    const double reads = nanoseconds(keys * (double)w.blocks,
                                     gbs > 0 ? gbs : peak * (beyond ? 0.1 : 0.15));
    const double most = fmax(compute, reads);
    return (most + 0.3 * (compute + reads - most)) /
               dlb_attention_share(&s, &w, target->threads, NULL) +
           rates->barrier_ns * (w.parts > 1 ? 2 : 1);
}

void dlb_attention_fallback(const struct dlb_problem *problem,
                            const struct dlb_target *target,
                            struct dlb_candidate *candidate)
{
    dlb_op_fallback(&dlb_op_attention, problem, target, candidate);
}
