/*
 * The search space of LSTM, GRU and RNN, forward and backward: what can be tried, what is legal, what it should
 * cost.
 */
#include "core/brgemm.h"
#include "ops/rnn_internal.h"
#include "ops/rnn_kernels.h"

#include <math.h>

const char *const dlb_rnn_algorithms[DLB_RNN_ALGORITHMS] = {
    [DLB_RNN_PACKED] = "packed",
};

static const char *const splits[] = {"batch",      "units",      "2d",
                                     "dirs-batch", "dirs-units", NULL};
static const char *const prefetches[] = {"none", "panel", NULL};

const struct dlb_tile_def dlb_rnn_tiles[DLB_RNN_TILES] = {
    [DLB_RNN_TILE_MR] = {"mr", NULL, "rows of the minibatch in a register tile, at most"},
    [DLB_RNN_TILE_NR] = {"nr", NULL, "columns (gates of units) in a register tile"},
    [DLB_RNN_TILE_KC] = {"kc", NULL, "channels in one pass over the rows"},
    [DLB_RNN_TILE_MERGE] = {"merge", NULL, "steps whose input product is one"},
    [DLB_RNN_TILE_SPLIT] = {"split", splits, "what the threads share"},
    [DLB_RNN_TILE_PREFETCH] = {"prefetch", prefetches, "weights fetched ahead of use"},
};

static const double BALANCE_LEAST = 0.8, EFFICIENCY_LEAST = 0.9;
enum { KC = 256, SOME_ROWS = 512, MERGED_BYTES_MOST = 256 << 20 };

struct dlb_rnn_gate_range dlb_rnn_product_gates(const struct dlb_rnn_shape *s,
                                                enum dlb_rnn_product_kind product)
{
    const int gates = (int)s->gates, candidate = gates - 1;
    const struct dlb_rnn_gate_range ranges[DLB_RNN_PRODUCTS] = {
        [DLB_RNN_PRODUCT_INPUT] = {0, gates},
        [DLB_RNN_PRODUCT_STATE] = {0, s->plain ? candidate : gates},
        [DLB_RNN_PRODUCT_RESET] = {candidate, s->plain},
    };
    return ranges[product];
}

int64_t dlb_rnn_blocks(const struct dlb_rnn_shape *s, int lanes)
{
    return dlb_div_up(s->dhc, lanes);
}

int64_t dlb_rnn_blocks_together(const struct dlb_rnn_shape *s, int nv)
{
    if (s->back)
        return nv;
    for (int64_t blocks = 1;; blocks++) {
        bool whole = true;
        for (int i = 0; i < DLB_RNN_PRODUCTS; i++)
            whole = whole && blocks * dlb_rnn_product_gates(s, i).n % nv == 0;
        if (whole)
            return blocks;
    }
}

int64_t dlb_rnn_block_rows(const struct dlb_rnn_shape *s, const struct dlb_target *target,
                           int nv)
{
    int64_t mr = dlb_brgemm_kernels(target->isa)->mr_max[nv],
            rows = (int64_t)target->l2_bytes / 2 / (s->slc * (int64_t)sizeof(float));
    return dlb_max(1, rows / mr) * mr;
}

struct dlb_rnn_grid dlb_rnn_grid_make(const struct dlb_rnn_shape *s, int split,
                                      int threads, int lanes, int nv)
{
    const bool apart = split == DLB_RNN_SPLIT_DIRECTIONS_BATCH ||
                       split == DLB_RNN_SPLIT_DIRECTIONS_UNITS;
    const int directions = apart ? 2 : 1;
    const int64_t units =
        dlb_div_up(dlb_rnn_blocks(s, lanes), dlb_rnn_blocks_together(s, nv));
    struct dlb_rnn_grid best = {0};
    if (directions > s->directions || threads % directions || (apart && s->back))
        return best;
    const int team = threads / directions;
    for (int columns = 1; columns <= team; columns++) {
        bool fits = split == DLB_RNN_SPLIT_BATCH              ? columns == 1
                    : split == DLB_RNN_SPLIT_DIRECTIONS_BATCH ? columns == 1
                    : split == DLB_RNN_SPLIT_2D ? columns > 1 && columns < team
                                                : columns == team && team > 1;
        if (!fits || team % columns)
            continue;
        struct dlb_rnn_grid grid = {directions, team / columns, columns, 0};
        grid.balance =
            dlb_share_balance(s->mb, grid.rows) * dlb_share_balance(units, grid.columns);
        if (grid.balance > best.balance)
            best = grid;
    }
    return best;
}

/* Channels of the deepest product of a step. */
static int64_t depth(const struct dlb_rnn_shape *s)
{
    return s->back ? s->gates * s->dhc : dlb_max(s->slc, s->dhc);
}

/* Vectors of columns of the narrowest product. */
static int64_t vectors(const struct dlb_rnn_shape *s, int lanes)
{
    if (s->back)
        return dlb_rnn_blocks(s, lanes);
    int64_t least = dlb_rnn_product_gates(s, DLB_RNN_PRODUCT_STATE).n;
    int64_t reset = dlb_rnn_product_gates(s, DLB_RNN_PRODUCT_RESET).n;
    return dlb_rnn_blocks(s, lanes) * (reset ? reset : least);
}

/* Rows of one thread, at least 1. */
static int64_t rows_own(const struct dlb_rnn_shape *s, const struct dlb_rnn_grid *grid)
{
    return dlb_div_up(s->mb, grid->rows);
}

/* Cycles of one step of k of all rows in nv vectors, in tiles of at most mr. */
static double rows_cycles(int64_t rows, int mr, int nv)
{
    if (rows == 1 && nv == DLB_RNN_STREAM_NV)
        return dlb_brgemm_step_cycles(1, DLB_RNN_STREAMS * nv) / DLB_RNN_STREAMS;
    int64_t tiles = dlb_div_up(rows, mr), small = rows / tiles, large = rows % tiles;
    return (double)large * dlb_brgemm_step_cycles((int)small + 1, nv) +
           (double)(tiles - large) * dlb_brgemm_step_cycles((int)small, nv);
}

/* Most rows in a register tile when tiles are balanced, with some tiles more than need
 * be. */
static int balanced(const struct dlb_brgemm_kernels *kernels, int64_t rows, int nv,
                    int more)
{
    return (int)dlb_div_up(rows, dlb_div_up(rows, kernels->mr_max[nv]) + more);
}

/* Rows x vectors a cycle. */
static double efficiency(int64_t rows, int mr, int nv)
{
    return (double)(rows * nv) / rows_cycles(rows, mr, nv);
}

static double best_efficiency(const struct dlb_rnn_shape *s,
                              const struct dlb_brgemm_kernels *kernels, int64_t rows)
{
    double best = 0;
    for (int nv = 1; nv <= dlb_min(DLB_BRGEMM_NV, vectors(s, kernels->lanes)); nv++)
        if (rows > 1 || nv != DLB_RNN_STREAM_NV)
            best = fmax(best, efficiency(rows, balanced(kernels, rows, nv, 0), nv));
    return best;
}

struct visit {
    const struct dlb_rnn_shape *s;
    const struct dlb_target *target;
    dlb_candidate_fn *emit;
    void *context;
    bool stopped;
};

static void emit_walks(struct visit *v, struct dlb_candidate *c)
{
    /* All steps, some, one; a part of less than half of the whole is worth it.  Backward
     * some make so many rows that it pays to have read the gradients of weights. */
    const int64_t t = v->s->t, some = dlb_div_up(SOME_ROWS, v->s->mb),
                  merges[] = {t,
                              v->s->back ? dlb_min(t, some)
                              : t < 64   ? 8
                                         : 32,
                              v->s->back ? dlb_div_up(dlb_min(t, some), 4) : 1};
    const int64_t depths[] = {depth(v->s), KC};
    for (int m = 0; m < 3; m++)
        for (int k = 0; k < 2; k++)
            for (int prefetch = DLB_RNN_PREFETCH_NONE; prefetch <= DLB_RNN_PREFETCH_PANEL;
                 prefetch++) {
                if ((m > 0 && 2 * merges[m] > t) || (k > 0 && 3 * KC / 2 >= depths[0]))
                    continue;
                c->tile[DLB_RNN_TILE_KC] = (int)depths[k];
                c->tile[DLB_RNN_TILE_MERGE] = (int)merges[m];
                c->tile[DLB_RNN_TILE_PREFETCH] = prefetch;
                if (!v->stopped)
                    v->stopped = !v->emit(v->context, c);
            }
}

void dlb_rnn_enumerate(const struct dlb_rnn_shape *s, const struct dlb_target *target,
                       dlb_candidate_fn *emit, void *context)
{
    const struct dlb_brgemm_kernels *kernels = dlb_brgemm_kernels(target->isa);
    struct visit v = {s, target, emit, context, false};
    struct dlb_candidate c = {.algorithm = DLB_RNN_PACKED};
    for (int split = DLB_RNN_SPLIT_BATCH; split <= DLB_RNN_SPLITS; split++)
        for (int nv = 1; nv <= DLB_BRGEMM_NV; nv++) {
            struct dlb_rnn_grid grid =
                dlb_rnn_grid_make(s, split, target->threads, kernels->lanes, nv);
            int last = 0;
            for (int more = 0; more < 2 && grid.directions; more++) {
                int mr = balanced(kernels, rows_own(s, &grid), nv, more);
                if (mr == last)
                    continue;
                last = mr;
                c.tile[DLB_RNN_TILE_MR] = mr;
                c.tile[DLB_RNN_TILE_NR] = nv * kernels->lanes;
                c.tile[DLB_RNN_TILE_SPLIT] = split;
                emit_walks(&v, &c);
            }
        }
}

/* Packed weights of one layer and direction that one thread runs through, in bytes. */
static double weights_share(const struct dlb_rnn_shape *s,
                            const struct dlb_rnn_grid *grid, int64_t channels)
{
    return sizeof(float) * (double)(s->gates * s->dhc) * (double)channels / grid->columns;
}

/* W x of the merged steps; backward the sums' gradients. */
static double merged_bytes(const struct dlb_rnn_shape *s, int64_t merge)
{
    return sizeof(float) * (double)(merge * s->mb) * (double)(s->gates * s->dhc);
}

static const char *refuse_register_tile(const struct dlb_rnn_shape *s,
                                        const struct dlb_target *target,
                                        const struct dlb_candidate *c,
                                        const struct dlb_rnn_grid *grid)
{
    const struct dlb_brgemm_kernels *kernels = dlb_brgemm_kernels(target->isa);
    const int mr = c->tile[DLB_RNN_TILE_MR],
              nv = c->tile[DLB_RNN_TILE_NR] / kernels->lanes;
    const int64_t rows = rows_own(s, grid);
    if (mr < 1 || mr > kernels->mr_max[nv])
        return "register tile exceeds the registers";
    if (mr > rows)
        return "register tile has more rows than the minibatch";
    if (nv > 1 && nv > vectors(s, kernels->lanes))
        return "register tile has more columns than a product";
    if (efficiency(rows, mr, nv) < EFFICIENCY_LEAST * best_efficiency(s, kernels, rows))
        return "register tile leaves multiply-adds idle";
    return NULL;
}

static const char *refuse_threads(const struct dlb_rnn_shape *s,
                                  const struct dlb_target *target,
                                  const struct dlb_rnn_grid *grid, int nv)
{
    if (!grid->directions)
        return "threads do not form a grid of this kind";
    double best = 0;
    for (int split = DLB_RNN_SPLIT_BATCH; split <= DLB_RNN_SPLITS; split++)
        best = fmax(best, dlb_rnn_grid_make(s, split, target->threads,
                                            dlb_isa_lanes(target->isa), nv)
                              .balance);
    if (grid->balance < BALANCE_LEAST && grid->balance < best)
        return "threads are unbalanced";
    return NULL;
}

static const char *refuse_prefetch(const struct dlb_rnn_shape *s,
                                   const struct dlb_target *target,
                                   const struct dlb_candidate *c,
                                   const struct dlb_rnn_grid *grid)
{
    int prefetch = c->tile[DLB_RNN_TILE_PREFETCH];
    if (prefetch == DLB_RNN_PREFETCH_NONE)
        return NULL;
    if (prefetch != DLB_RNN_PREFETCH_PANEL)
        return "no such kind of prefetch";
    if (weights_share(s, grid, depth(s)) < 0.5 * (double)target->l2_bytes)
        return "weights stay in the caches: no need to prefetch";
    return NULL;
}

const char *dlb_rnn_refuse(const struct dlb_rnn_shape *s, const struct dlb_target *target,
                           const struct dlb_candidate *c)
{
    const int *tile = c->tile;
    const int lanes = dlb_isa_lanes(target->isa), nv = tile[DLB_RNN_TILE_NR] / lanes;
    if (c->algorithm != DLB_RNN_PACKED)
        return "no such algorithm";
    if (nv < 1 || nv > DLB_BRGEMM_NV || tile[DLB_RNN_TILE_NR] % lanes)
        return "nr is not 1 to 4 vectors";
    if (tile[DLB_RNN_TILE_KC] < 1 || tile[DLB_RNN_TILE_KC] > depth(s))
        return "kc is not a part of the channels";
    if (tile[DLB_RNN_TILE_MERGE] < 1 || tile[DLB_RNN_TILE_MERGE] > s->t)
        return "merge is not a part of the steps";
    if (tile[DLB_RNN_TILE_MERGE] > 1 &&
        merged_bytes(s, tile[DLB_RNN_TILE_MERGE]) > MERGED_BYTES_MOST)
        return "products of the merged steps take too much memory";
    const struct dlb_rnn_grid grid =
        dlb_rnn_grid_make(s, tile[DLB_RNN_TILE_SPLIT], target->threads, lanes, nv);
    const char *reason = refuse_threads(s, target, &grid, nv);
    if (!reason)
        reason = refuse_register_tile(s, target, c, &grid);
    return reason ? reason : refuse_prefetch(s, target, c, &grid);
}

/* Bandwidth in bytes a nanosecond, of one thread. */
struct bandwidth {
    double l2, l3, memory;
};

static struct bandwidth bandwidth_of(const struct dlb_target *target,
                                     const struct dlb_rates *rates)
{
    const double threads = target->threads;
    return (struct bandwidth){
        rates->l2_gbs > 0 ? rates->l2_gbs / threads : 80,
        rates->l3_gbs > 0 ? rates->l3_gbs / threads : 40,
        rates->memory_gbs > 0 ? rates->memory_gbs / threads : 15,
    };
}

/* Nanoseconds. */
static double cycle_of(const struct dlb_target *target, const struct dlb_rates *rates)
{
    const double flops = 4.0 * dlb_isa_lanes(target->isa) * target->threads;
    return rates->peak_gflops > 0 ? flops / rates->peak_gflops : 1.0 / 3;
}

/* Nanoseconds to run once through bytes that are read in turn, to and fro, while others
 * read what makes up all: what a level holds is met there again.  *far: the part of it
 * that is spent on the memory. */
static double read_again(const struct dlb_target *target, const struct bandwidth *b,
                         double bytes, double all, double *far)
{
    double in_l2 = fmin(1, 0.6 * (double)target->l2_bytes / bytes),
           in_l3 = fmin(1, 0.7 * (double)target->l3_bytes * target->threads / all);
    *far = bytes * (1 - in_l2) * (1 - in_l3) / b->memory;
    return bytes * (in_l2 / b->l2 + (1 - in_l2) * in_l3 / b->l3) + *far;
}

/* How well arithmetic and transport, of which far is from the memory, hide behind each
 * other. */
static double overlap(double compute, double transport, double far, bool fetch)
{
    return fmax(compute, transport) + (fetch ? 0.1 : 0.2) * (transport - far) +
           (fetch ? 0.25 : 0.6) * fmin(far, compute);
}

/* Nanoseconds of all layers and directions, backward. */
static double back_estimate(const struct dlb_rnn_shape *s,
                            const struct dlb_target *target,
                            const struct dlb_rates *rates, const struct dlb_candidate *c)
{
    static const double CALL_CYCLES = 70, CELL_CYCLES = 40, BARRIER_NS = 500;
    const struct dlb_brgemm_kernels *kernels = dlb_brgemm_kernels(target->isa);
    const int *tile = c->tile;
    const bool fetch = tile[DLB_RNN_TILE_PREFETCH] == DLB_RNN_PREFETCH_PANEL;
    const int lanes = kernels->lanes, nv = tile[DLB_RNN_TILE_NR] / lanes,
              mr_max = kernels->mr_max[nv];
    const struct dlb_rnn_grid grid =
        dlb_rnn_grid_make(s, tile[DLB_RNN_TILE_SPLIT], target->threads, lanes, nv);
    const double threads = target->threads, cycle = cycle_of(target, rates);
    const struct bandwidth b = bandwidth_of(target, rates);
    const int64_t rows = rows_own(s, &grid), width = nv * lanes,
                  panels = dlb_div_up(s->dhc, width),
                  own = dlb_div_up(panels, grid.columns), k = s->gates * panels * width;
    double far;

    /* S U^T and the element-wise part, a step. */
    const double bytes = sizeof(float) * (double)(k * width) * (double)own,
                 tiles = (double)dlb_div_up(rows, tile[DLB_RNN_TILE_MR]),
                 calls =
                     (double)own * tiles * (double)dlb_div_up(k, tile[DLB_RNN_TILE_KC]);
    const double step_cycles =
        (double)own * (double)k * rows_cycles(rows, tile[DLB_RNN_TILE_MR], nv) +
        calls * CALL_CYCLES + (double)(rows * own * nv * s->gates) * CELL_CYCLES;
    double read = read_again(target, &b, bytes, bytes * grid.columns, &far);
    if ((double)(dlb_min(k, tile[DLB_RNN_TILE_KC]) * width) * sizeof(float) >
        0.6 * (double)target->l1d_bytes)
        read += (tiles - 1) * bytes / b.l2 * 0.2;
    if (rows == 1 && nv != DLB_RNN_STREAM_NV)
        read *= 1.3;
    if (fetch && tiles == 1)
        read += 0.3 * (read - far);
    const double barriers = grid.columns > 1 ? 1 + s->plain : 0;
    const double step =
        overlap(step_cycles * cycle, read, far, fetch) +
        barriers * (rates->barrier_ns > 0 ? rates->barrier_ns : BARRIER_NS);

    /* S W^T, X^T S and H^T S; the gradients of weights are read again each chunk. */
    const double chunks = (double)dlb_div_up(s->t, tile[DLB_RNN_TILE_MERGE]),
                 all_rows = (double)(s->t * s->mb), inputs = (double)(s->slc + s->dhc);
    const double tile_cycles = rows_cycles(mr_max, mr_max, nv) / mr_max;
    const double products =
        ((double)dlb_div_up(s->slc, width) * (double)k * all_rows +
         inputs * (double)(s->gates * panels) * all_rows) *
            tile_cycles +
        chunks * inputs / mr_max * (double)(s->gates * panels) * CALL_CYCLES;
    const double gradients = inputs * (double)(s->gates * s->dhc) * sizeof(float);
    const double moved = (2 * chunks - 1) * gradients / threads / b.memory;
    return ((products * cycle / threads + 0.7 * moved) + (double)s->t * step) *
           (double)(s->l * s->directions);
}

/* Nanoseconds of all layers and directions. */
double dlb_rnn_estimate(const struct dlb_rnn_shape *s, const struct dlb_target *target,
                        const struct dlb_rates *rates, const struct dlb_candidate *c)
{
    static const double CALL_CYCLES = 70, GATES_CYCLES = 28, BARRIER_NS = 500;
    if (s->back)
        return back_estimate(s, target, rates, c);
    const struct dlb_brgemm_kernels *kernels = dlb_brgemm_kernels(target->isa);
    const int *tile = c->tile;
    const bool fetch = tile[DLB_RNN_TILE_PREFETCH] == DLB_RNN_PREFETCH_PANEL;
    const int lanes = kernels->lanes, nv = tile[DLB_RNN_TILE_NR] / lanes;
    const struct dlb_rnn_grid grid =
        dlb_rnn_grid_make(s, tile[DLB_RNN_TILE_SPLIT], target->threads, lanes, nv);
    const double threads = target->threads, cycle = cycle_of(target, rates);
    const struct bandwidth b = bandwidth_of(target, rates);
    const int64_t rows = rows_own(s, &grid), together = dlb_rnn_blocks_together(s, nv),
                  blocks = dlb_div_up(dlb_rnn_blocks(s, lanes), together),
                  own = dlb_div_up(blocks, grid.columns) * together;
    const double panels = (double)(own * s->gates) / nv, columns = grid.columns;
    double far;

    /* W x: the rows of merged steps are one matrix unless the batch is split. */
    const int64_t merge = tile[DLB_RNN_TILE_MERGE],
                  block = dlb_rnn_block_rows(s, target, nv),
                  matrix_rows = grid.rows == 1 ? merge * rows : rows;
    const double chunks = (double)dlb_div_up(s->t, merge),
                 passes = chunks * (double)dlb_div_up(merge * rows, block);
    const double input_cycles = panels * (double)s->slc * (double)(s->t * rows) *
                                rows_cycles(matrix_rows, kernels->mr_max[nv], nv) /
                                (double)matrix_rows;
    const double input_bytes = weights_share(s, &grid, s->slc),
                 x_bytes = merge > 1 ? merged_bytes(s, s->t) / threads : 0;
    const double input_read =
        passes * read_again(target, &b, input_bytes, input_bytes * columns, &far) +
        x_bytes / b.l3;
    const double input = overlap(input_cycles * cycle, input_read, passes * far, fetch);

    /* U h and the gates, a step.  A panel that does not stay in L1 comes from L2 for
     * every tile. */
    const int64_t kc = dlb_min(tile[DLB_RNN_TILE_KC], s->dhc);
    const double state_bytes = weights_share(s, &grid, s->dhc),
                 tiles = (double)dlb_div_up(rows, tile[DLB_RNN_TILE_MR]),
                 calls = panels * tiles * (double)dlb_div_up(s->dhc, kc),
                 panel_bytes = (double)(kc * nv * lanes) * sizeof(float);
    const double state_cycles =
        panels * (double)s->dhc * rows_cycles(rows, tile[DLB_RNN_TILE_MR], nv) +
        calls * CALL_CYCLES + (double)(rows * own * s->gates) * GATES_CYCLES;
    double state_read = read_again(target, &b, state_bytes,
                                   state_bytes * columns * grid.directions, &far);
    if (panel_bytes > 0.6 * (double)target->l1d_bytes)
        state_read += (tiles - 1) * state_bytes / b.l2 * 0.2;
    /* A row reads several streams of weights only in tiles of this width. */
    if (rows == 1 && nv != DLB_RNN_STREAM_NV)
        state_read *= 1.3;
    /* One tile fetches as much as it reads: in vain when it comes from the caches. */
    if (fetch && tiles == 1)
        state_read += 0.3 * (state_read - far);
    const double barriers =
        grid.columns > 1 ? 1 + (dlb_rnn_product_gates(s, DLB_RNN_PRODUCT_RESET).n > 0)
                         : 0;
    const double state =
        overlap(state_cycles * cycle, state_read, far, fetch) +
        barriers * (rates->barrier_ns > 0 ? rates->barrier_ns : BARRIER_NS);
    return (input + (double)s->t * state) * (double)s->l *
           (double)dlb_div_up(s->directions, grid.directions);
}

struct choice {
    const struct dlb_rnn_shape *s;
    const struct dlb_target *target;
    struct dlb_candidate *best;
    double least;
};

static bool choose(void *context, const struct dlb_candidate *candidate)
{
    static const struct dlb_rates unmeasured;
    struct choice *choice = context;
    if (dlb_rnn_refuse(choice->s, choice->target, candidate))
        return true;
    double estimate = dlb_rnn_estimate(choice->s, choice->target, &unmeasured, candidate);
    if (estimate < choice->least) {
        choice->least = estimate;
        *choice->best = *candidate;
    }
    return true;
}

void dlb_rnn_fallback(const struct dlb_rnn_shape *s, const struct dlb_target *target,
                      struct dlb_candidate *candidate)
{
    struct choice choice = {s, target, candidate, INFINITY};
    dlb_rnn_enumerate(s, target, choose, &choice);
}
