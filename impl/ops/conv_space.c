/*
 * The search space of the passes that write an image, forward and backward data: what can
 * be tried, what is legal, what it should cost.  A candidate is judged by the phase with
 * the most taps.
 */
#include "core/brgemm.h"
#include "ops/conv_depthwise.h"
#include "ops/conv_internal.h"

#include <math.h>

const char *const dlb_conv_algorithms[DLB_CONV_ALGORITHMS] = {
    [DLB_CONV_DIRECT] = "direct",       [DLB_CONV_DIRECT_ROW] = "direct-row",
    [DLB_CONV_GEMM_1X1] = "gemm-1x1",   [DLB_CONV_IM2COL] = "im2col",
    [DLB_CONV_DEPTHWISE] = "depthwise",
};

static const char *const orders[] = {"oc-outer", "pixels-outer", NULL};
static const char *const splits[] = {"rows", "oc", "2d", "ic", NULL};
static const char *const prefetches[] = {"none", "ahead", "panel", NULL};
static const char *const packs[] = {"none", "src", "diff", "both", NULL};
static const char *const streams[] = {"cached", "stream", NULL};

const struct dlb_tile_def dlb_conv_tiles[DLB_CONV_TILES] = {
    [DLB_CONV_TILE_MR] = {"mr", NULL,
                          "output pixels (bwd_weights: input channels) in a register "
                          "tile, at most"},
    [DLB_CONV_TILE_NR] = {"nr", NULL, "output channels in a register tile"},
    [DLB_CONV_TILE_KC] =
        {"kc", NULL,
         "input channels in one pass over the taps (bwd_weights: packed at a time)"},
    [DLB_CONV_TILE_ROWS] = {"rows", NULL,
                            "output rows (gemm-1x1: strips of mr pixels) in a block"},
    [DLB_CONV_TILE_ORDER] = {"order", orders,
                             "outer loop in a block: output channels or pixels"},
    [DLB_CONV_TILE_SPLIT] = {"split", splits, "what the threads share"},
    [DLB_CONV_TILE_STREAM] = {"stream", streams, "stores through or past the caches"},
    [DLB_CONV_TILE_PREFETCH] = {"prefetch", prefetches, "weights fetched ahead of use"},
    [DLB_CONV_TILE_PACK] = {"pack", packs,
                            "bwd_weights: what is copied, block by block, to be read in "
                            "order"},
};

static const double BALANCE_LEAST = 0.8;

/* Whether the pixels of all images are the rows of one dense matrix. */
static bool is_gemm(const struct dlb_conv_phase *phase)
{
    const struct dlb_conv_shape *s = &phase->s;
    return s->kh == 1 && s->kw == 1 && s->sh == 1 && s->sw == 1 && s->ph == 0 &&
           s->pw == 0 && s->ih == s->oh && s->iw == s->ow &&
           dlb_conv_phase_is_dense(phase);
}

int64_t dlb_conv_rows(const struct dlb_conv_shape *s,
                      const struct dlb_candidate *candidate)
{
    if (candidate->algorithm != DLB_CONV_GEMM_1X1)
        return s->mb * s->oh;
    return dlb_div_up(s->mb * s->oh * s->ow, candidate->tile[DLB_CONV_TILE_MR]);
}

struct dlb_conv_grid dlb_conv_grid_make(int split, int threads, int64_t rows,
                                        int64_t panels)
{
    struct dlb_conv_grid best = {0};
    for (int columns = 1; columns <= threads; columns++) {
        if (threads % columns)
            continue;
        bool fits = split == DLB_CONV_SPLIT_ROWS ? columns == 1
                    : split == DLB_CONV_SPLIT_OC ? columns == threads
                                                 : columns > 1 && columns < threads;
        if (!fits)
            continue;
        struct dlb_conv_grid grid = {threads / columns, columns, 0};
        grid.balance =
            dlb_share_balance(rows, grid.rows) * dlb_share_balance(panels, grid.columns);
        if (grid.balance > best.balance)
            best = grid;
    }
    return best;
}

static int64_t channels_split(const struct dlb_conv_shape *s,
                              const struct dlb_target *target,
                              const struct dlb_candidate *c)
{
    if (c->algorithm == DLB_CONV_DEPTHWISE)
        return dlb_div_up(s->oc, dlb_isa_lanes(target->isa));
    return s->g * dlb_div_up(s->ocg, c->tile[DLB_CONV_TILE_NR]);
}

static double best_balance(const struct dlb_target *target, int64_t rows, int64_t panels)
{
    double best = 0;
    for (int split = DLB_CONV_SPLIT_ROWS; split <= DLB_CONV_SPLIT_2D; split++)
        best =
            fmax(best, dlb_conv_grid_make(split, target->threads, rows, panels).balance);
    return best;
}

/* Elements of A behind a block of rows. */
static double slab(const struct dlb_conv_shape *s, const struct dlb_candidate *c,
                   int64_t rows)
{
    if (c->algorithm == DLB_CONV_GEMM_1X1)
        return (double)(rows * c->tile[DLB_CONV_TILE_MR] * s->icg);
    if (c->algorithm == DLB_CONV_IM2COL)
        return (double)(rows * s->ow) * (double)(s->kh * s->kw * s->icg + 16);
    int64_t lines = dlb_min((rows - 1) * s->sh + (s->kh - 1) * (s->dh + 1) + 1,
                            dlb_div_up(rows, s->oh) * s->ih);
    return (double)lines * (double)(s->iw * s->icg);
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
    int last = v->target->threads == 1 ? DLB_CONV_SPLIT_ROWS : DLB_CONV_SPLIT_2D;
    bool depthwise = c->algorithm == DLB_CONV_DEPTHWISE;
    int first_prefetch = depthwise ? 0 : DLB_CONV_PREFETCH_NONE,
        last_prefetch = depthwise ? 0 : DLB_CONV_PREFETCH_PANEL;
    for (int split = DLB_CONV_SPLIT_ROWS; split <= last; split++)
        for (int stream = DLB_CONV_STREAM_OFF; stream <= DLB_CONV_STREAM_ON; stream++)
            for (int prefetch = first_prefetch; prefetch <= last_prefetch; prefetch++) {
                tile[DLB_CONV_TILE_SPLIT] = split;
                tile[DLB_CONV_TILE_STREAM] = stream;
                tile[DLB_CONV_TILE_PREFETCH] = prefetch;
                if (!v->stopped)
                    v->stopped = !v->emit(v->context, c);
            }
}

/* Most rows whose A takes no more than bytes, at least one. */
static int64_t rows_within(const struct visit *v, const struct dlb_candidate *c,
                           int64_t all, double bytes)
{
    int64_t low = 1, high = all;
    while (low < high) {
        int64_t middle = (low + high + 1) / 2;
        if (slab(v->s, c, middle) * sizeof(float) <= bytes)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

static void emit_nests(struct visit *v, struct dlb_candidate *c)
{
    static const int depths[] = {256, 64};
    int *tile = c->tile;
    int64_t all = dlb_min(dlb_conv_rows(v->s, c), INT32_MAX);
    tile[DLB_CONV_TILE_KC] = (int)v->s->icg;
    tile[DLB_CONV_TILE_ROWS] = 1;
    tile[DLB_CONV_TILE_ORDER] = DLB_CONV_ORDER_PIXELS;
    emit_splits(v, c);
    tile[DLB_CONV_TILE_ORDER] = DLB_CONV_ORDER_OC;
    int64_t rows[3] = {rows_within(v, c, all, (double)v->target->l1d_bytes / 2),
                       rows_within(v, c, all, (double)v->target->l2_bytes / 2), all};
    for (int i = 0; i < 3; i++) {
        if (i > 0 && rows[i] == rows[i - 1])
            continue;
        tile[DLB_CONV_TILE_ROWS] = (int)rows[i];
        tile[DLB_CONV_TILE_KC] = (int)v->s->icg;
        emit_splits(v, c);
        bool in_parts =
            c->algorithm == DLB_CONV_DIRECT || c->algorithm == DLB_CONV_GEMM_1X1;
        for (int d = 0; d < 2 && in_parts && i > 0; d++) {
            tile[DLB_CONV_TILE_KC] = depths[d];
            if (depths[d] < v->s->icg)
                emit_splits(v, c);
        }
    }
}

static void emit_tiles(struct visit *v, struct dlb_candidate *c)
{
    const struct dlb_conv_shape *s = v->s;
    const struct dlb_brgemm_kernels *kernels = dlb_brgemm_kernels(v->target->isa);
    int64_t width = c->algorithm == DLB_CONV_GEMM_1X1 ? s->mb * s->oh * s->ow : s->ow;
    for (int nv = 1; nv <= DLB_BRGEMM_NV; nv++) {
        int64_t last = 0;
        for (int less = 0; less < 2; less++) {
            int64_t tiles = dlb_div_up(width, kernels->mr_max[nv]) + less;
            if (c->algorithm == DLB_CONV_GEMM_1X1)
                tiles = dlb_div_up(width, dlb_max(1, kernels->mr_max[nv] - less));
            int64_t mr = dlb_div_up(width, tiles);
            if (mr == last)
                continue;
            last = mr;
            c->tile[DLB_CONV_TILE_MR] = (int)mr;
            c->tile[DLB_CONV_TILE_NR] = nv * kernels->lanes;
            emit_nests(v, c);
        }
    }
}

static void emit_depthwise(struct visit *v, struct dlb_candidate *c)
{
    const struct dlb_depthwise_kernels *kernels = dlb_depthwise_kernels(v->target->isa);
    const int64_t rows[] = {1, 4, v->s->oh};
    for (int i = 0; i < kernels->tiles_n; i++)
        for (int r = 0; r < 3; r++) {
            if (r > 0 && rows[r] <= rows[r - 1])
                continue;
            c->tile[DLB_CONV_TILE_MR] = kernels->tiles[i].mr;
            c->tile[DLB_CONV_TILE_NR] =
                kernels->tiles[i].nv * dlb_isa_lanes(v->target->isa);
            c->tile[DLB_CONV_TILE_ROWS] = (int)rows[r];
            emit_splits(v, c);
        }
}

/* The phase with the most taps. */
static struct dlb_conv_phase main_phase(const struct dlb_problem *problem)
{
    struct dlb_conv_phase phase, most;
    dlb_conv_phase_get(problem, 0, &most);
    for (int64_t i = 1; i < dlb_conv_phases(problem); i++)
        if (dlb_conv_phase_get(problem, i, &phase) &&
            phase.s.kh * phase.s.kw > most.s.kh * most.s.kw)
            most = phase;
    return most;
}

static void image_enumerate(const struct dlb_problem *problem,
                            const struct dlb_target *target, dlb_candidate_fn *emit,
                            void *context)
{
    struct dlb_conv_phase phase = main_phase(problem);
    struct visit v = {&phase.s, target, emit, context, false};
    for (int algorithm = 0; algorithm < DLB_CONV_ALGORITHMS; algorithm++) {
        struct dlb_candidate c = {.algorithm = algorithm};
        if (algorithm == DLB_CONV_DEPTHWISE)
            emit_depthwise(&v, &c);
        else
            emit_tiles(&v, &c);
    }
}

static const char *refuse_algorithm(const struct dlb_conv_phase *phase, int algorithm)
{
    const struct dlb_conv_shape *s = &phase->s;
    bool gemm = is_gemm(phase), depthwise = s->icg == 1 && s->ocg == 1;
    switch (algorithm) {
    case DLB_CONV_DIRECT:
        return gemm ? "same nest as gemm-1x1" : NULL;
    case DLB_CONV_DIRECT_ROW:
        return s->kw <= 1              ? "same nest as direct"
               : s->g > 1 || s->dw > 0 ? "kw*ic is not one run of the source row"
                                       : NULL;
    case DLB_CONV_GEMM_1X1:
        return gemm ? NULL : "not a 1x1 kernel of stride 1 without padding";
    case DLB_CONV_IM2COL:
        return depthwise ? "reduction of one channel is not worth gathering" : NULL;
    case DLB_CONV_DEPTHWISE:
        return depthwise ? NULL : "groups have more than one channel";
    default:
        return "no such algorithm";
    }
}

static const char *refuse_threads(const struct dlb_conv_shape *s,
                                  const struct dlb_target *target,
                                  const struct dlb_candidate *c)
{
    int split = c->tile[DLB_CONV_TILE_SPLIT];
    int64_t rows = dlb_conv_rows(s, c), panels = channels_split(s, target, c);
    if (target->threads == 1 && split != DLB_CONV_SPLIT_ROWS)
        return "one thread has nothing to split";
    if (split > DLB_CONV_SPLIT_2D)
        return "input channels are split in backward weights only";
    struct dlb_conv_grid grid = dlb_conv_grid_make(split, target->threads, rows, panels);
    if (!grid.rows)
        return "threads do not form a grid";
    if (grid.balance < BALANCE_LEAST && grid.balance < best_balance(target, rows, panels))
        return "threads are unbalanced";
    return NULL;
}

static const char *refuse_stream(const struct dlb_conv_shape *s,
                                 const struct dlb_target *target)
{
    if (target->isa == DLB_ISA_SCALAR || target->isa == DLB_ISA_NEON)
        return "no streaming stores on this instruction set";
    int64_t run = s->ocg == 1 ? s->oc : s->ocg;
    if (run % dlb_isa_lanes(target->isa))
        return "streaming stores need whole vectors";
    double bytes = sizeof(float) * (double)(s->mb * s->oh * s->ow) * (double)s->oc;
    if (bytes <= (double)target->l2_bytes * target->threads)
        return "output fits the caches: no need to stream";
    return NULL;
}

/* Packed weights that one thread runs through, in bytes. */
static double weights_share(const struct dlb_conv_shape *s,
                            const struct dlb_target *target,
                            const struct dlb_candidate *c)
{
    struct dlb_conv_grid grid =
        dlb_conv_grid_make(c->tile[DLB_CONV_TILE_SPLIT], target->threads,
                           dlb_conv_rows(s, c), channels_split(s, target, c));
    return sizeof(float) * (double)(s->oc * s->icg) * (double)(s->kh * s->kw) /
           (double)dlb_max(1, grid.columns);
}

static const char *refuse_prefetch(const struct dlb_conv_shape *s,
                                   const struct dlb_target *target,
                                   const struct dlb_candidate *c)
{
    int prefetch = c->tile[DLB_CONV_TILE_PREFETCH];
    if (prefetch == DLB_CONV_PREFETCH_NONE)
        return NULL;
    if (prefetch != DLB_CONV_PREFETCH_AHEAD && prefetch != DLB_CONV_PREFETCH_PANEL)
        return "no such kind of prefetch";
    if (prefetch == DLB_CONV_PREFETCH_PANEL &&
        c->tile[DLB_CONV_TILE_ORDER] != DLB_CONV_ORDER_OC)
        return "the next panel is fetched where panels are the outer loop";
    if (weights_share(s, target, c) < 0.5 * (double)target->l2_bytes)
        return "weights stay in the caches: no need to prefetch";
    return NULL;
}

static const char *refuse_register_tile(const struct dlb_conv_shape *s,
                                        const struct dlb_target *target,
                                        const struct dlb_candidate *c)
{
    const struct dlb_brgemm_kernels *kernels = dlb_brgemm_kernels(target->isa);
    int mr = c->tile[DLB_CONV_TILE_MR], nr = c->tile[DLB_CONV_TILE_NR];
    int nv = nr / kernels->lanes;
    if (nr < 1 || nr % kernels->lanes || nv > DLB_BRGEMM_NV)
        return "nr is not 1 to 4 vectors";
    if (mr < 1 || mr > kernels->mr_max[nv])
        return "register tile exceeds the registers";
    if (nv > dlb_div_up(s->ocg, kernels->lanes))
        return "nr exceeds the channels of a group";
    if (nv == 1 && s->ocg > kernels->lanes)
        return "one vector of channels where two would be used";
    return NULL;
}

static const char *image_refuse(const struct dlb_problem *problem,
                                const struct dlb_target *target,
                                const struct dlb_candidate *c)
{
    struct dlb_conv_phase phase = main_phase(problem);
    const struct dlb_conv_shape s = phase.s;
    const int *tile = c->tile;
    const char *reason = refuse_algorithm(&phase, c->algorithm);
    if (reason)
        return reason;
    if (tile[DLB_CONV_TILE_STREAM] == DLB_CONV_STREAM_ON) {
        reason = refuse_stream(&s, target);
        if (reason)
            return reason;
    } else if (tile[DLB_CONV_TILE_STREAM] != DLB_CONV_STREAM_OFF) {
        return "no such kind of store";
    }
    if (tile[DLB_CONV_TILE_MR] < 1 || tile[DLB_CONV_TILE_NR] < 1 ||
        tile[DLB_CONV_TILE_ROWS] < 1)
        return "a tile is missing";
    if (tile[DLB_CONV_TILE_PACK])
        return "only backward weights packs its operands";
    if (c->algorithm == DLB_CONV_DEPTHWISE) {
        reason = dlb_conv_depthwise_refuse(&s, target, c);
        return reason ? reason : refuse_threads(&s, target, c);
    }
    reason = refuse_register_tile(&s, target, c);
    if (reason)
        return reason;
    int64_t kc = tile[DLB_CONV_TILE_KC];
    bool in_parts = c->algorithm == DLB_CONV_DIRECT || c->algorithm == DLB_CONV_GEMM_1X1;
    if (kc < 1 || kc > s.icg || (kc < s.icg && !in_parts))
        return "kc is not a part of the input channels";
    if (tile[DLB_CONV_TILE_ROWS] > dlb_conv_rows(&s, c))
        return "block has more rows than there are";
    double bytes = sizeof(float) * slab(&s, c, tile[DLB_CONV_TILE_ROWS]);
    if (tile[DLB_CONV_TILE_ORDER] == DLB_CONV_ORDER_PIXELS) {
        if (kc < s.icg || tile[DLB_CONV_TILE_ROWS] != 1)
            return "same nest as with one row a block";
    } else if (tile[DLB_CONV_TILE_ORDER] != DLB_CONV_ORDER_OC) {
        return "no such order";
    } else if (c->algorithm == DLB_CONV_IM2COL && tile[DLB_CONV_TILE_ROWS] > 1 &&
               bytes > 0.75 * (double)target->l2_bytes) {
        return "gathered block exceeds the second-level cache";
    }
    reason = refuse_threads(&s, target, c);
    return reason ? reason : refuse_prefetch(&s, target, c);
}

struct cost {
    double cycles; /* of all threads together, in the register tiles */
    double calls;
};

/* One row of dst and one panel of nv vectors. */
static struct cost row_cost(const struct dlb_conv_shape *s, const struct dlb_candidate *c,
                            int nv, double depth)
{
    static const double CALL_CYCLES = 40, ENTRY_CYCLES = 10;
    struct cost cost = {0};
    int mr = c->tile[DLB_CONV_TILE_MR];
    double khs = (double)dlb_min(s->kh, dlb_div_up(s->ih, s->dh + 1));
    bool by_class =
        c->algorithm == DLB_CONV_DIRECT_ROW || c->algorithm == DLB_CONV_IM2COL;
    if (c->algorithm == DLB_CONV_GEMM_1X1) {
        cost.cycles = dlb_brgemm_step_cycles(mr, nv) * depth + CALL_CYCLES + mr * nv;
        cost.calls = 1;
        return cost;
    }
    for (int64_t x = 0; x < s->ow;) {
        int64_t begin, end, next_begin, next_end;
        dlb_conv_valid_taps(x, s->iw, s->kw, s->sw, s->pw, s->dw, &begin, &end);
        int64_t next = x + 1;
        for (; next < s->ow && next - x < mr; next++) {
            dlb_conv_valid_taps(next, s->iw, s->kw, s->sw, s->pw, s->dw, &next_begin,
                                &next_end);
            if (by_class && (next_begin != begin || next_end != end))
                break;
        }
        int width = (int)(next - x);
        double taps = (double)dlb_max(0, end - begin), ranges = 1;
        if (!by_class) {
            /* Taps at the edges are calls of their own. */
            dlb_conv_valid_taps(next - 1, s->iw, s->kw, s->sw, s->pw, s->dw, &next_begin,
                                &next_end);
            ranges += (begin > 0) + (next_end < s->kw);
            taps = (double)s->kw;
        }
        double entries = by_class ? khs : taps * khs;
        cost.cycles += dlb_brgemm_step_cycles(width, nv) * depth * taps * khs +
                       ENTRY_CYCLES * entries + ranges * (CALL_CYCLES + width * nv);
        cost.calls += ranges;
        x = next;
    }
    return cost;
}

static double nanoseconds(double bytes, double gbs)
{
    return gbs > 0 ? bytes / gbs : 0;
}

static double phase_ns(const struct dlb_conv_shape s, const struct dlb_target *target,
                       const struct dlb_rates *rates, const struct dlb_candidate *c)
{
    const int *tile = c->tile;
    int lanes = dlb_isa_lanes(target->isa), nv = tile[DLB_CONV_TILE_NR] / lanes;
    int64_t rows = dlb_conv_rows(&s, c), panels = channels_split(&s, target, c);
    struct dlb_conv_grid grid =
        dlb_conv_grid_make(tile[DLB_CONV_TILE_SPLIT], target->threads, rows, panels);
    double cycle_flops = 4.0 * lanes;
    double peak =
        rates->peak_gflops > 0 ? rates->peak_gflops : 3.0 * cycle_flops * target->threads;
    double src = sizeof(float) * (double)(s.mb * s.ih * s.iw) * (double)s.ic,
           dst = sizeof(float) * (double)(s.mb * s.oh * s.ow) * (double)s.oc,
           weights = sizeof(float) * (double)(s.oc * s.icg) * (double)(s.kh * s.kw);
    bool stream = tile[DLB_CONV_TILE_STREAM] == DLB_CONV_STREAM_ON;
    double l2 = 0, l3 = 0, compute;
    if (c->algorithm == DLB_CONV_DEPTHWISE) {
        compute = dlb_conv_depthwise_cycles(&s, target, c);
        l2 = src * (double)s.kh + 2 * dst;
    } else {
        double depth = (double)tile[DLB_CONV_TILE_KC];
        double blocks = (double)dlb_div_up(s.icg, tile[DLB_CONV_TILE_KC]);
        struct cost full = row_cost(&s, c, nv, depth);
        int64_t group = dlb_div_up(s.ocg, tile[DLB_CONV_TILE_NR]);
        int tail = (int)dlb_div_up(s.ocg - (group - 1) * nv * lanes, lanes);
        struct cost narrow = row_cost(&s, c, tail, depth);
        double wide = (double)(s.g * (group - 1)), work = (double)rows * blocks;
        compute = work * (wide * full.cycles + (double)s.g * narrow.cycles);
        double calls = work * (double)panels * full.calls;
        double panel = sizeof(float) * depth * (double)(s.kh * s.kw) * nv * lanes;
        double block_rows = (double)tile[DLB_CONV_TILE_ROWS];
        double a = sizeof(float) * slab(&s, c, tile[DLB_CONV_TILE_ROWS]);
        bool oc_outer = tile[DLB_CONV_TILE_ORDER] == DLB_CONV_ORDER_OC;
        double share = weights_share(&s, target, c);
        /* Untouched weights cost their latency when nothing fetches them ahead. */
        if (share >= 0.5 * (double)target->l2_bytes &&
            tile[DLB_CONV_TILE_PREFETCH] == DLB_CONV_PREFETCH_NONE)
            compute *= 1.05;
        bool panel_near = oc_outer && panel < 0.6 * (double)target->l1d_bytes;
        /* B comes from L2 for every tile unless a panel stays in L1. */
        l2 += panel_near ? (double)rows / block_rows * weights : calls * panel;
        l2 += src * (oc_outer && a > 0.5 * (double)target->l1d_bytes ? (double)panels
                                                                     : grid.columns);
        l2 += 2 * dst * blocks;
        if (share > 0.6 * (double)target->l2_bytes)
            l3 += weights * (oc_outer ? dlb_max(grid.rows, rows / (int64_t)block_rows)
                                      : calls / (double)panels);
        if (oc_outer && a > 0.6 * (double)target->l2_bytes)
            l3 += src * (double)panels;
        if (c->algorithm == DLB_CONV_IM2COL)
            compute +=
                (double)(s.mb * s.oh * s.ow) * (double)(s.kh * s.kw * s.ic) / lanes * 2;
    }
    double all = src + dst * (stream ? 1 : 2) + weights;
    bool beyond = all > (double)target->l3_bytes * target->threads;
    double time[4] = {
        compute * cycle_flops / peak,
        nanoseconds(l2, rates->l2_gbs > 0 ? rates->l2_gbs : peak * 0.6),
        nanoseconds(l3 + all, rates->l3_gbs > 0 ? rates->l3_gbs : peak * 0.15),
        beyond ? nanoseconds(all, rates->memory_gbs > 0 ? rates->memory_gbs : peak * 0.1)
               : 0,
    };
    double most = 0, sum = 0;
    for (int i = 0; i < 4; i++) {
        most = fmax(most, time[i]);
        sum += time[i];
    }
    /* Caches and arithmetic overlap well, not wholly. */
    return (most + 0.15 * (sum - most)) / fmax(grid.balance, 1e-3) + rates->barrier_ns;
}

static double image_estimate(const struct dlb_problem *problem,
                             const struct dlb_target *target,
                             const struct dlb_rates *rates, const struct dlb_candidate *c)
{
    struct dlb_conv_phase phase;
    double sum = 0;
    for (int64_t i = 0; i < dlb_conv_phases(problem); i++)
        if (dlb_conv_phase_get(problem, i, &phase))
            sum += phase_ns(phase.s, target, rates, c);
    return fmax(sum, 1);
}

const struct dlb_conv_space dlb_conv_image_space = {
    .enumerate = image_enumerate,
    .refuse = image_refuse,
    .estimate = image_estimate,
};
