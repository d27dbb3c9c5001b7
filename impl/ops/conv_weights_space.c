/*
 * The search space of backward weights: what can be tried, what is legal, what it should
 * cost.
 */
#include "core/outer.h"
#include "ops/conv_weights.h"

#include <math.h>

static const double BALANCE_LEAST = 0.8;

struct dlb_conv_weights_grid dlb_conv_weights_grid_make(int split, int threads,
                                                        int64_t rows, int64_t panels,
                                                        int64_t strips)
{
    struct dlb_conv_weights_grid best = {0};
    for (int parts = 1; parts <= threads; parts++) {
        if (threads % parts)
            continue;
        int others = threads / parts;
        bool fits = split == DLB_CONV_SPLIT_ROWS ? parts == threads
                    : split == DLB_CONV_SPLIT_2D ? parts > 1 && others > 1
                                                 : parts == 1;
        bool ic = split == DLB_CONV_SPLIT_IC;
        struct dlb_conv_weights_grid grid = {parts, ic ? 1 : others, ic ? others : 1, 0};
        if (!fits || parts > rows)
            continue;
        grid.balance = dlb_share_balance(rows, grid.rows) *
                       dlb_share_balance(panels, grid.panels) *
                       dlb_share_balance(strips, grid.strips);
        if (grid.balance > best.balance)
            best = grid;
    }
    return best;
}

int dlb_conv_weights_share(const struct dlb_conv_weights_grid *grid, int rank,
                           int64_t rows_n, int64_t panels_n, int64_t strips_n,
                           int64_t *rows, int64_t *panels, int64_t *strips)
{
    int part = rank / (grid->panels * grid->strips);
    dlb_share(rows_n, part, grid->rows, &rows[0], &rows[1]);
    dlb_share(panels_n, rank / grid->strips % grid->panels, grid->panels, &panels[0],
              &panels[1]);
    dlb_share(strips_n, rank % grid->strips, grid->strips, &strips[0], &strips[1]);
    return part;
}

/* What the threads share: panels, strips (depthwise: vectors of channels, one), and how. */
struct work {
    int64_t rows, panels_group, panels, strips;
    struct dlb_conv_weights_grid grid;
};

static struct work work_make(const struct dlb_conv_shape *s,
                             const struct dlb_target *target,
                             const struct dlb_candidate *c)
{
    const int *tile = c->tile;
    bool depthwise = c->algorithm == DLB_CONV_DEPTHWISE;
    struct work work = {
        .rows = s->mb * s->oh,
        .panels_group = dlb_div_up(s->ocg, tile[DLB_CONV_TILE_NR]),
        .strips = depthwise ? 1 : dlb_div_up(s->icg, tile[DLB_CONV_TILE_MR]),
    };
    work.panels = depthwise ? dlb_div_up(s->oc, dlb_isa_lanes(target->isa))
                            : s->g * work.panels_group;
    work.grid = dlb_conv_weights_grid_make(tile[DLB_CONV_TILE_SPLIT], target->threads,
                                           work.rows, work.panels, work.strips);
    return work;
}

static double best_balance(const struct dlb_target *target, const struct work *work)
{
    double best = 0;
    for (int split = DLB_CONV_SPLIT_ROWS; split <= DLB_CONV_SPLIT_IC; split++)
        best = fmax(best, dlb_conv_weights_grid_make(split, target->threads, work->rows,
                                                     work->panels, work->strips)
                              .balance);
    return best;
}

static bool packs_src(const struct dlb_candidate *c)
{
    int pack = c->tile[DLB_CONV_TILE_PACK];
    return pack == DLB_CONV_PACK_SRC || pack == DLB_CONV_PACK_BOTH;
}

static bool packs_diff(const struct dlb_candidate *c)
{
    int pack = c->tile[DLB_CONV_TILE_PACK];
    return pack == DLB_CONV_PACK_DIFF || pack == DLB_CONV_PACK_BOTH;
}

void dlb_conv_weights_packed(const struct dlb_conv_shape *s,
                             const struct dlb_target *target,
                             const struct dlb_candidate *c, int64_t *src, int64_t *diff)
{
    struct work work = work_make(s, target, c);
    int64_t rows = c->tile[DLB_CONV_TILE_ROWS];
    int64_t strips = dlb_min(dlb_conv_weights_strips(c->tile),
                             dlb_div_up(work.strips, dlb_max(1, work.grid.strips)));
    int64_t panels =
        dlb_min(work.panels_group, dlb_div_up(work.panels, dlb_max(1, work.grid.panels)));
    /* A block of rows that begins in the last one of an image meets the most images. */
    int64_t images = dlb_min(s->mb, rows > 1 ? (rows - 2) / s->oh + 2 : 1);
    int64_t rows_src = s->sh * (rows + images * (dlb_conv_weights_pitch(s, 1) - 1));
    *src = packs_src(c) ? rows_src * s->ow * c->tile[DLB_CONV_TILE_MR] * strips : 0;
    *diff = packs_diff(c) ? rows * s->ow * c->tile[DLB_CONV_TILE_NR] * panels : 0;
    *src = dlb_round_up(*src, DLB_BRGEMM_FETCH);
    *diff = dlb_round_up(*diff, DLB_BRGEMM_FETCH);
}

static double packed_bytes(const struct dlb_conv_shape *s,
                           const struct dlb_target *target, const struct dlb_candidate *c)
{
    int64_t src, diff;
    dlb_conv_weights_packed(s, target, c, &src, &diff);
    return sizeof(float) * (double)(src + diff);
}

static double sums_bytes(const struct dlb_conv_shape *s)
{
    return sizeof(float) * (double)(s->oc * s->icg) * (double)(s->kh * s->kw);
}

struct visit {
    const struct dlb_conv_shape *s;
    const struct dlb_target *target;
    dlb_candidate_fn *emit;
    void *context;
    bool stopped;
};

static void emit_splits(struct visit *v, struct dlb_candidate *c)
{
    int *tile = c->tile;
    int last = v->target->threads == 1 ? DLB_CONV_SPLIT_ROWS : DLB_CONV_SPLIT_IC;
    for (int split = DLB_CONV_SPLIT_ROWS; split <= last; split++)
        for (int stream = DLB_CONV_STREAM_OFF; stream <= DLB_CONV_STREAM_ON; stream++) {
            tile[DLB_CONV_TILE_SPLIT] = split;
            tile[DLB_CONV_TILE_STREAM] = stream;
            if (!v->stopped)
                v->stopped = !v->emit(v->context, c);
        }
}

/* Nothing packed, then each kind; src also in parts that take a third of L2. */
static void emit_packs(struct visit *v, struct dlb_candidate *c)
{
    const struct dlb_conv_shape *s = v->s;
    int *tile = c->tile;
    double part = (double)v->target->l2_bytes / 3 /
                  (sizeof(float) * (double)s->ow * tile[DLB_CONV_TILE_ROWS]);
    int64_t strips = dlb_max(1, (int64_t)part / tile[DLB_CONV_TILE_MR]);
    int64_t kc[2] = {s->icg, strips * tile[DLB_CONV_TILE_MR]};
    for (int pack = DLB_CONV_PACK_NONE; pack <= DLB_CONV_PACK_BOTH; pack++)
        for (int i = 0; i < 2; i++) {
            tile[DLB_CONV_TILE_PACK] = pack;
            tile[DLB_CONV_TILE_KC] = (int)kc[i];
            if (i == 0 || (packs_src(c) && kc[1] < s->icg))
                emit_splits(v, c);
        }
}

/* Blocks whose panel of diff_dst takes half of L1, that take half of L2 and twice it, an
 * image, and all rows. */
static void emit_rows(struct visit *v, struct dlb_candidate *c)
{
    const struct dlb_conv_shape *s = v->s;
    int64_t all = dlb_min(s->mb * s->oh, INT32_MAX);
    double pixel = sizeof(float) * (double)(s->icg + s->ocg),
           l2 = (double)v->target->l2_bytes / (pixel * (double)s->ow);
    const double rows[] = {
        (double)v->target->l1d_bytes / 2 /
            (sizeof(float) * (double)s->ow * c->tile[DLB_CONV_TILE_NR]),
        l2 / 2,
        l2 * 2,
        (double)s->oh,
        (double)all,
    };
    enum { ROWS = sizeof rows / sizeof *rows };
    int64_t tried[ROWS];
    for (int i = 0; i < ROWS; i++) {
        bool again = false;
        tried[i] = dlb_max(1, (int64_t)fmin(rows[i], (double)all));
        for (int k = 0; k < i; k++)
            again |= tried[k] == tried[i];
        c->tile[DLB_CONV_TILE_ROWS] = (int)tried[i];
        if (!again)
            emit_packs(v, c);
    }
}

static void emit_tiles(struct visit *v)
{
    const struct dlb_outer_kernels *kernels = dlb_outer_kernels(v->target->isa);
    struct dlb_candidate c = {.algorithm = DLB_CONV_DIRECT};
    for (int nv = 1; nv <= DLB_BRGEMM_NV; nv++) {
        int64_t strips = dlb_div_up(v->s->icg, kernels->mr_max[nv]);
        c.tile[DLB_CONV_TILE_MR] = (int)dlb_div_up(v->s->icg, strips);
        c.tile[DLB_CONV_TILE_NR] = nv * kernels->lanes;
        emit_rows(v, &c);
    }
}

static void emit_depthwise(struct visit *v)
{
    const int64_t rows[] = {1, 4, v->s->oh};
    struct dlb_candidate c = {.algorithm = DLB_CONV_DEPTHWISE};
    c.tile[DLB_CONV_TILE_MR] = 1;
    for (int nv = 1; nv <= 2; nv++)
        for (int i = 0; i < 3; i++) {
            c.tile[DLB_CONV_TILE_NR] = nv * dlb_isa_lanes(v->target->isa);
            c.tile[DLB_CONV_TILE_ROWS] = (int)rows[i];
            if (i == 0 || rows[i] > rows[i - 1])
                emit_splits(v, &c);
        }
}

static void weights_enumerate(const struct dlb_problem *problem,
                              const struct dlb_target *target, dlb_candidate_fn *emit,
                              void *context)
{
    struct dlb_conv_shape s;
    dlb_conv_shape_get(problem, &s);
    struct visit v = {&s, target, emit, context, false};
    emit_tiles(&v);
    emit_depthwise(&v);
}

static const char *refuse_tile(const struct dlb_conv_shape *s,
                               const struct dlb_target *target,
                               const struct dlb_candidate *c)
{
    const struct dlb_outer_kernels *kernels = dlb_outer_kernels(target->isa);
    const int *tile = c->tile;
    int mr = tile[DLB_CONV_TILE_MR], nr = tile[DLB_CONV_TILE_NR];
    int nv = nr / kernels->lanes;
    if (nr % kernels->lanes || nv > DLB_BRGEMM_NV)
        return "nr is not 1 to 4 vectors";
    if (mr > kernels->mr_max[nv])
        return "register tile exceeds the registers";
    if (nv > dlb_div_up(s->ocg, kernels->lanes) || mr > s->icg)
        return "register tile exceeds the channels of a group";
    if (nv == 1 && s->ocg > kernels->lanes)
        return "one vector of channels where two would be used";
    if (tile[DLB_CONV_TILE_PACK] < DLB_CONV_PACK_NONE ||
        tile[DLB_CONV_TILE_PACK] > DLB_CONV_PACK_BOTH)
        return "no such kind of packing";
    if (!packs_diff(c) && s->ocg % kernels->lanes)
        return "channels of a group are not whole vectors: diff_dst must be packed";
    int kc = tile[DLB_CONV_TILE_KC];
    if (kc < 1 || kc > s->icg || (kc < s->icg && (!packs_src(c) || kc % mr)))
        return "kc is not a part of the input channels to be packed";
    if (tile[DLB_CONV_TILE_ROWS] > 1 &&
        packed_bytes(s, target, c) > 4 * (double)target->l2_bytes)
        return "packed block exceeds the second-level cache";
    return NULL;
}

static const char *refuse_stream(const struct dlb_conv_shape *s,
                                 const struct dlb_target *target,
                                 const struct dlb_candidate *c, const struct work *work)
{
    if (c->tile[DLB_CONV_TILE_STREAM] == DLB_CONV_STREAM_OFF)
        return NULL;
    if (c->tile[DLB_CONV_TILE_STREAM] != DLB_CONV_STREAM_ON)
        return "no such kind of store";
    if (target->isa == DLB_ISA_SCALAR || target->isa == DLB_ISA_NEON)
        return "no streaming stores on this instruction set";
    if (c->algorithm == DLB_CONV_DEPTHWISE || work->grid.rows > 1 ||
        c->tile[DLB_CONV_TILE_ROWS] < work->rows)
        return "sums that are read again are not streamed";
    if (sums_bytes(s) <= (double)target->l2_bytes * target->threads)
        return "output fits the caches: no need to stream";
    return NULL;
}

static const char *weights_refuse(const struct dlb_problem *problem,
                                  const struct dlb_target *target,
                                  const struct dlb_candidate *c)
{
    struct dlb_conv_shape s;
    dlb_conv_shape_get(problem, &s);
    const int *tile = c->tile;
    bool depthwise = s.icg == 1 && s.ocg == 1;
    if (c->algorithm != DLB_CONV_DIRECT && c->algorithm != DLB_CONV_DEPTHWISE)
        return "no algorithm of backward weights";
    if (depthwise != (c->algorithm == DLB_CONV_DEPTHWISE))
        return depthwise ? "groups of one channel are for depthwise"
                         : "groups have more than one channel";
    if (tile[DLB_CONV_TILE_MR] < 1 || tile[DLB_CONV_TILE_NR] < 1 ||
        tile[DLB_CONV_TILE_ROWS] < 1)
        return "a tile is missing";
    if (tile[DLB_CONV_TILE_ORDER] || tile[DLB_CONV_TILE_PREFETCH])
        return "tile does not apply to backward weights";
    if (tile[DLB_CONV_TILE_SPLIT] < DLB_CONV_SPLIT_ROWS ||
        tile[DLB_CONV_TILE_SPLIT] > DLB_CONV_SPLIT_IC)
        return "no such split";
    if (tile[DLB_CONV_TILE_ROWS] > s.mb * s.oh)
        return "block has more rows than there are";
    if (target->threads == 1 && tile[DLB_CONV_TILE_SPLIT] != DLB_CONV_SPLIT_ROWS)
        return "one thread has nothing to split";
    const char *reason = depthwise ? dlb_conv_weights_depthwise_refuse(&s, target, c)
                                   : refuse_tile(&s, target, c);
    if (reason)
        return reason;
    struct work work = work_make(&s, target, c);
    if (!work.grid.rows)
        return "threads do not form a grid";
    if (work.grid.balance < BALANCE_LEAST &&
        work.grid.balance < best_balance(target, &work))
        return "threads are unbalanced";
    return refuse_stream(&s, target, c, &work);
}

/* Pairs of an output position and a tap that lie inside the input, on one axis; and how
 * many distinct ranges of outputs the taps have. */
static double pairs_of(int64_t in, int64_t out, int64_t kernel, int64_t stride,
                       int64_t pad, int64_t dilation, int *ranges)
{
    int64_t pairs = 0, begin, end, last[2] = {0, 0};
    *ranges = 0;
    for (int64_t k = 0; k < kernel; k++) {
        dlb_conv_valid_outputs(k, in, out, stride, pad, dilation, &begin, &end);
        pairs += dlb_max(0, end - begin);
        *ranges += begin < end && (begin != last[0] || end != last[1]);
        last[0] = begin, last[1] = end;
    }
    return (double)pairs;
}

/* Of all threads together. */
static double direct_cycles(const struct dlb_conv_shape *s,
                            const struct dlb_target *target,
                            const struct dlb_candidate *c, const struct work *work)
{
    static const double CALL_CYCLES = 30, RUN_CYCLES = 12, PACK_CYCLES = 1.5;
    /* Steps whose line comes from L2, since the rows of a strip meet in few sets of L1. */
    static const double FAR_CYCLES = 1.5, NEAR_CYCLES = 0.2;
    const int *tile = c->tile;
    int lanes = dlb_isa_lanes(target->isa), mr = tile[DLB_CONV_TILE_MR],
        nv = tile[DLB_CONV_TILE_NR] / lanes, ranges;
    double rows =
        (double)s->mb * pairs_of(s->ih, s->oh, s->kh, s->sh, s->ph, s->dh, &ranges);
    double wide = pairs_of(s->iw, s->ow, s->kw, s->sw, s->pw, s->dw, &ranges);
    double tiles = (double)work->panels * (double)work->strips;
    double step = dlb_brgemm_step_cycles(mr, nv);
    bool merged = (packs_src(c) || (s->kw == 1 && s->sw == 1)) &&
                  (packs_diff(c) || (s->kw == 1 && s->sw == 1));
    if (!packs_src(c))
        step += s->sw * s->ic >= 256 ? FAR_CYCLES : NEAR_CYCLES;
    if (!packs_diff(c))
        step += s->oc >= 256 ? FAR_CYCLES : NEAR_CYCLES;
    double blocks =
        ceil((double)work->rows / work->grid.rows / tile[DLB_CONV_TILE_ROWS]) *
        work->grid.rows;
    double cycles = rows * wide * tiles * step;
    cycles += blocks * (double)(s->kh * s->kw) * tiles * (CALL_CYCLES + 2.0 * mr * nv);
    if (!merged)
        cycles += rows * (double)s->kw * tiles * RUN_CYCLES;
    double pixels = (double)(work->rows * s->ow);
    if (packs_src(c))
        cycles += PACK_CYCLES * pixels * (double)(s->kw * s->g * work->strips) *
                  ceil((double)mr / lanes) * work->grid.panels;
    if (packs_diff(c))
        cycles +=
            PACK_CYCLES * pixels * ranges * (double)work->panels * nv * work->grid.strips;
    return cycles;
}

static double nanoseconds(double bytes, double gbs)
{
    return gbs > 0 ? bytes / gbs : 0;
}

static double weights_estimate(const struct dlb_problem *problem,
                               const struct dlb_target *target,
                               const struct dlb_rates *rates,
                               const struct dlb_candidate *c)
{
    struct dlb_conv_shape s;
    dlb_conv_shape_get(problem, &s);
    struct work work = work_make(&s, target, c);
    const int *tile = c->tile;
    int lanes = dlb_isa_lanes(target->isa);
    double cycle_flops = 4.0 * lanes, peak = rates->peak_gflops > 0
                                                 ? rates->peak_gflops
                                                 : 3.0 * cycle_flops * target->threads;
    double src = sizeof(float) * (double)(s.mb * s.ih * s.iw) * (double)s.ic,
           diff = sizeof(float) * (double)(s.mb * s.oh * s.ow) * (double)s.oc,
           sums = sums_bytes(&s);
    double blocks = ceil((double)work.rows / work.grid.rows / tile[DLB_CONV_TILE_ROWS]);
    double compute = c->algorithm == DLB_CONV_DEPTHWISE
                         ? dlb_conv_weights_depthwise_cycles(&s, target, c)
                         : direct_cycles(&s, target, c, &work);
    double block = (src + diff) / (double)work.rows * tile[DLB_CONV_TILE_ROWS];
    if (tile[DLB_CONV_TILE_KC])
        block -= src / (double)work.rows * tile[DLB_CONV_TILE_ROWS] *
                 (1 - (double)tile[DLB_CONV_TILE_KC] / (double)s.icg);
    bool near = block <= (double)target->l2_bytes;
    bool stream = tile[DLB_CONV_TILE_STREAM] == DLB_CONV_STREAM_ON;
    /* The sums once a block and once more for each copy; the operands, a block that L2
     * does not hold for each panel. */
    double l3 =
        sums * work.grid.rows * (stream ? 1 : 2 * blocks + (work.grid.rows > 1 ? 2 : 0)) +
        src * work.grid.panels * (near ? 1 : (double)work.panels_group) +
        diff * work.grid.strips;
    double all = src + diff + sums;
    bool beyond = all > (double)target->l3_bytes * target->threads;
    double time[3] = {
        compute * cycle_flops / peak,
        nanoseconds(l3, rates->l3_gbs > 0 ? rates->l3_gbs : peak * 0.15),
        beyond ? nanoseconds(all, rates->memory_gbs > 0 ? rates->memory_gbs : peak * 0.1)
               : 0,
    };
    double most = 0, sum = 0;
    for (int i = 0; i < 3; i++) {
        most = fmax(most, time[i]);
        sum += time[i];
    }
    return (most + 0.3 * (sum - most)) / fmax(work.grid.balance, 1e-3) +
           rates->barrier_ns * (work.grid.rows > 1 ? 2 : 1);
}

const struct dlb_conv_space dlb_conv_weights_space = {
    .enumerate = weights_enumerate,
    .refuse = weights_refuse,
    .estimate = weights_estimate,
};
