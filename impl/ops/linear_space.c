/*
 * The search space of linear: what can be tried, what is legal, what it should cost.
 */
#include "core/brgemm.h"
#include "ops/linear_internal.h"

#include <math.h>

const char *const dlb_linear_algorithms[DLB_LINEAR_ALGORITHMS] = {
    [DLB_LINEAR_GEMM] = "gemm",
    [DLB_LINEAR_STREAMS] = "streams",
};

static const char *const places[] = {"in-place", "packed", NULL};
static const char *const splits[] = {"rows", "columns", "2d", NULL};
static const char *const streams[] = {"cached", "stream", "staged", NULL};
static const char *const prefetches[] = {"none", "panel", NULL};

const struct dlb_tile_def dlb_linear_tiles[DLB_LINEAR_TILES] = {
    [DLB_LINEAR_TILE_MR] = {"mr", NULL, "rows in a register tile, at most"},
    [DLB_LINEAR_TILE_NR] = {"nr", NULL, "columns in a register tile"},
    [DLB_LINEAR_TILE_KC] = {"kc", NULL, "depth of one pass over the result"},
    [DLB_LINEAR_TILE_ROWS] = {"rows", NULL, "rows in a block, at most"},
    [DLB_LINEAR_TILE_COLUMNS] = {"columns", NULL, "columns in a block"},
    [DLB_LINEAR_TILE_A] = {"a", places, "rows read where they are, or packed"},
    [DLB_LINEAR_TILE_SPLIT] = {"split", splits, "what the threads share"},
    [DLB_LINEAR_TILE_STREAM] = {"stream", streams, "stores through or past the caches"},
    [DLB_LINEAR_TILE_PREFETCH] = {"prefetch", prefetches, "panels fetched ahead of use"},
};

/* Register tiles of less are not tried where better ones are. */
static const double EFFICIENCY_LEAST = 0.85;
/* Few rows, for streams: tiles of up to so many. */
enum { STREAM_TILES = 2 };

struct space {
    struct dlb_linear_product p;
    const struct dlb_target *target;
    const struct dlb_brgemm_kernels *kernels;
};

static struct space space_of(const struct dlb_problem *problem,
                             const struct dlb_target *target)
{
    struct space s = {.target = target, .kernels = dlb_brgemm_kernels(target->isa)};
    dlb_linear_product_get(problem, &s.p);
    return s;
}

static int64_t panels_of(const struct space *s, const struct dlb_candidate *c)
{
    return dlb_div_up(s->p.n, c->tile[DLB_LINEAR_TILE_NR]);
}

static struct dlb_grid grid_of(const struct space *s, const struct dlb_candidate *c)
{
    return dlb_grid_make(c->tile[DLB_LINEAR_TILE_SPLIT], s->target->threads, s->p.m,
                         panels_of(s, c));
}

/* Cycles of one step of k of all rows in nv vectors, in tiles of at most mr. */
static double rows_cycles(int64_t rows, int mr, int nv)
{
    int64_t tiles = dlb_div_up(rows, mr), small = rows / tiles, large = rows % tiles;
    return (double)large * dlb_brgemm_step_cycles((int)small + 1, nv) +
           (double)(tiles - large) * dlb_brgemm_step_cycles((int)small, nv);
}

/* Rows x vectors a cycle. */
static double efficiency(const struct space *s, int mr, int nv)
{
    return (double)(s->p.m * nv) / rows_cycles(s->p.m, mr, nv);
}

static double best_efficiency(const struct space *s)
{
    double best = 0;
    for (int nv = 1; nv <= dlb_min(DLB_BRGEMM_NV, dlb_div_up(s->p.n, s->kernels->lanes));
         nv++)
        best =
            fmax(best, efficiency(s, (int)dlb_min(s->kernels->mr_max[nv], s->p.m), nv));
    return best;
}

struct visit {
    const struct space *s;
    dlb_candidate_fn *emit;
    void *context;
    bool stopped;
};

static void emit_ways(struct visit *v, struct dlb_candidate *c)
{
    int *tile = c->tile;
    const int last = v->s->target->threads == 1 ? DLB_GRID_ROWS : DLB_GRID_2D;
    for (int a = DLB_LINEAR_A_IN_PLACE; a <= DLB_LINEAR_A_PACKED; a++)
        for (int split = DLB_GRID_ROWS; split <= last; split++)
            for (int stream = DLB_LINEAR_STREAM_OFF; stream <= DLB_LINEAR_STREAM_STAGED;
                 stream++)
                for (int prefetch = DLB_LINEAR_PREFETCH_NONE;
                     prefetch <= DLB_LINEAR_PREFETCH_PANEL; prefetch++) {
                    tile[DLB_LINEAR_TILE_A] = a;
                    tile[DLB_LINEAR_TILE_SPLIT] = split;
                    tile[DLB_LINEAR_TILE_STREAM] = stream;
                    tile[DLB_LINEAR_TILE_PREFETCH] = prefetch;
                    if (!v->stopped)
                        v->stopped = !v->emit(v->context, c);
                }
}

/* Rows, or columns, of depth kc that take half of L2; whole tiles of one. */
static int64_t within_l2(const struct visit *v, int64_t kc, int64_t one, int64_t all)
{
    int64_t most = (int64_t)v->s->target->l2_bytes / 2 / (kc * (int64_t)sizeof(float));
    return dlb_min(dlb_max(most / one, 1) * one, all);
}

/* Columns of mr rows of results that take most of L1; whole panels. */
static int64_t within_l1(const struct visit *v, int64_t mr, int64_t nr, int64_t all)
{
    int64_t most =
        (int64_t)v->s->target->l1d_bytes * 3 / 4 / (mr * (int64_t)sizeof(float));
    return dlb_min(dlb_max(most / nr, 1) * nr, all);
}

static void emit_blocks(struct visit *v, struct dlb_candidate *c)
{
    const struct dlb_linear_product *p = &v->s->p;
    int *tile = c->tile;
    const int64_t kc = tile[DLB_LINEAR_TILE_KC], mr = tile[DLB_LINEAR_TILE_MR],
                  nr = tile[DLB_LINEAR_TILE_NR];
    /* The panel stays near while rows pass by, or the rows while panels do. */
    const int64_t blocks[][2] = {{within_l2(v, kc, mr, p->m), p->n},
                                 {p->m, p->n},
                                 {mr, within_l2(v, kc, nr, p->n)},
                                 {mr, within_l1(v, mr, nr, p->n)},
                                 {dlb_min(4 * mr, p->m), within_l1(v, mr, nr, p->n)},
                                 {mr, p->n}};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        bool seen = false;
        for (size_t before = 0; before < i; before++)
            seen = seen || (blocks[before][0] == blocks[i][0] &&
                            blocks[before][1] == blocks[i][1]);
        if (seen)
            continue;
        tile[DLB_LINEAR_TILE_ROWS] = (int)blocks[i][0];
        tile[DLB_LINEAR_TILE_COLUMNS] = (int)blocks[i][1];
        emit_ways(v, c);
    }
}

static void emit_gemm(struct visit *v)
{
    static const int64_t parts[] = {512, 256, 128};
    const struct space *s = v->s;
    struct dlb_candidate c = {.algorithm = DLB_LINEAR_GEMM};
    for (int nv = 1; nv <= DLB_BRGEMM_NV; nv++) {
        c.tile[DLB_LINEAR_TILE_MR] = (int)dlb_min(s->kernels->mr_max[nv], s->p.m);
        c.tile[DLB_LINEAR_TILE_NR] = nv * s->kernels->lanes;
        c.tile[DLB_LINEAR_TILE_KC] = (int)s->p.k;
        emit_blocks(v, &c);
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
            /* Equal parts, none much smaller than the others. */
            int64_t kc =
                dlb_round_up(dlb_div_up(s->p.k, dlb_div_up(s->p.k, parts[i])), 4);
            if (3 * parts[i] / 2 >= s->p.k)
                continue;
            c.tile[DLB_LINEAR_TILE_KC] = (int)kc;
            emit_blocks(v, &c);
        }
    }
}

static void emit_streams(struct visit *v)
{
    const struct space *s = v->s;
    const struct dlb_linear_kernels *kernels = dlb_linear_kernels(s->target->isa);
    struct dlb_candidate c = {.algorithm = DLB_LINEAR_STREAMS};
    for (int mr = 1; mr <= dlb_min(DLB_LINEAR_STREAM_ROWS, s->p.m); mr++) {
        c.tile[DLB_LINEAR_TILE_MR] = mr;
        c.tile[DLB_LINEAR_TILE_NR] = kernels->streams[mr].nv * kernels->lanes;
        c.tile[DLB_LINEAR_TILE_KC] = (int)s->p.k;
        c.tile[DLB_LINEAR_TILE_ROWS] = (int)s->p.m;
        c.tile[DLB_LINEAR_TILE_COLUMNS] = (int)s->p.n;
        emit_ways(v, &c);
    }
}

void dlb_linear_enumerate(const struct dlb_problem *problem,
                          const struct dlb_target *target, dlb_candidate_fn *emit,
                          void *context)
{
    const struct space s = space_of(problem, target);
    struct visit v = {&s, emit, context, false};
    emit_gemm(&v);
    emit_streams(&v);
}

static const char *refuse_streams(const struct space *s, const struct dlb_candidate *c)
{
    const struct dlb_linear_kernels *kernels = dlb_linear_kernels(s->target->isa);
    const int *tile = c->tile;
    const int mr = tile[DLB_LINEAR_TILE_MR];
    if (s->p.gradient)
        return "rows of a gradient are packed";
    if (mr < 1 || mr > DLB_LINEAR_STREAM_ROWS || mr > s->p.m)
        return "streams have 1 to 4 rows";
    if (s->p.m > STREAM_TILES * mr || s->p.m % mr)
        return "streams are for few rows, in whole tiles";
    if (tile[DLB_LINEAR_TILE_NR] != kernels->streams[mr].nv * kernels->lanes)
        return "streams have panels of their own";
    if (s->p.n < kernels->streams[mr].streams * tile[DLB_LINEAR_TILE_NR])
        return "too few panels for streams";
    if (tile[DLB_LINEAR_TILE_KC] != s->p.k || tile[DLB_LINEAR_TILE_ROWS] != s->p.m ||
        tile[DLB_LINEAR_TILE_COLUMNS] != s->p.n ||
        tile[DLB_LINEAR_TILE_A] != DLB_LINEAR_A_IN_PLACE ||
        tile[DLB_LINEAR_TILE_SPLIT] !=
            (s->target->threads == 1 ? DLB_GRID_ROWS : DLB_GRID_COLUMNS) ||
        tile[DLB_LINEAR_TILE_STREAM] != DLB_LINEAR_STREAM_OFF ||
        tile[DLB_LINEAR_TILE_PREFETCH] != DLB_LINEAR_PREFETCH_NONE)
        return "streams have no blocks";
    return NULL;
}

static const char *refuse_register_tile(const struct space *s,
                                        const struct dlb_candidate *c)
{
    const int mr = c->tile[DLB_LINEAR_TILE_MR], nr = c->tile[DLB_LINEAR_TILE_NR],
              lanes = s->kernels->lanes, nv = nr / lanes;
    if (nr < 1 || nr % lanes || nv > DLB_BRGEMM_NV)
        return "nr is not 1 to 4 vectors";
    if (mr < 1 || mr > s->kernels->mr_max[nv])
        return "register tile exceeds the registers";
    if (mr > s->p.m)
        return "register tile has more rows than there are";
    if (nv > dlb_div_up(s->p.n, lanes))
        return "register tile has more columns than there are";
    if (efficiency(s, mr, nv) < EFFICIENCY_LEAST * best_efficiency(s))
        return "register tile leaves multiply-adds idle";
    return NULL;
}

/* Of B, which one thread runs through. */
static double share_bytes(const struct space *s, const struct dlb_candidate *c)
{
    return sizeof(float) * (double)s->p.n * (double)s->p.k /
           (double)dlb_max(1, grid_of(s, c).columns);
}

static const char *refuse_blocks(const struct space *s, const struct dlb_candidate *c)
{
    const int *tile = c->tile;
    const int64_t kc = tile[DLB_LINEAR_TILE_KC], rows = tile[DLB_LINEAR_TILE_ROWS],
                  columns = tile[DLB_LINEAR_TILE_COLUMNS];
    if (kc < 1 || kc > s->p.k)
        return "kc is not a part of the depth";
    if (rows < tile[DLB_LINEAR_TILE_MR] || rows > s->p.m)
        return "block has fewer rows than a tile, or more than there are";
    if (columns < tile[DLB_LINEAR_TILE_NR] && columns < s->p.n)
        return "block is narrower than a panel";
    if (columns > s->p.n || (columns < s->p.n && columns % tile[DLB_LINEAR_TILE_NR]))
        return "block is not whole panels";
    const int a = tile[DLB_LINEAR_TILE_A];
    if (a != DLB_LINEAR_A_IN_PLACE && a != DLB_LINEAR_A_PACKED)
        return "rows are in no such place";
    if (a == DLB_LINEAR_A_IN_PLACE && s->p.gradient)
        return "rows of a gradient are packed";
    /* A tile that is packed, used for few panels, is packed too often. */
    if (a == DLB_LINEAR_A_PACKED && !s->p.gradient && panels_of(s, c) < 4)
        return "too few panels to pack rows for";
    if (a == DLB_LINEAR_A_PACKED &&
        sizeof(float) * (double)rows * (double)kc > 2 * (double)s->target->l2_bytes)
        return "packed rows exceed the second-level cache";
    return NULL;
}

static const char *refuse_stores(const struct space *s, const struct dlb_candidate *c)
{
    const int stream = c->tile[DLB_LINEAR_TILE_STREAM],
              prefetch = c->tile[DLB_LINEAR_TILE_PREFETCH];
    if (stream == DLB_LINEAR_STREAM_ON || stream == DLB_LINEAR_STREAM_STAGED) {
        if (s->target->isa == DLB_ISA_SCALAR || s->target->isa == DLB_ISA_NEON)
            return "no streaming stores on this instruction set";
        if (s->p.n % s->kernels->lanes)
            return "streaming stores need whole vectors";
        if (c->tile[DLB_LINEAR_TILE_KC] < s->p.k)
            return "what is added to is not streamed";
        if (sizeof(float) * (double)s->p.m * (double)s->p.n <=
            (double)s->target->l2_bytes * s->target->threads)
            return "result fits the caches: no need to stream";
    } else if (stream != DLB_LINEAR_STREAM_OFF) {
        return "no such kind of store";
    }
    if (stream == DLB_LINEAR_STREAM_STAGED) {
        if (s->p.k > DLB_LINEAR_SHORT_DEPTH)
            return "the depth hides how results are stored";
        if (sizeof(float) * (double)c->tile[DLB_LINEAR_TILE_ROWS] *
                (double)dlb_linear_stage_ld(c) >
            0.5 * (double)s->target->l2_bytes)
            return "staged results exceed the second-level cache";
    }
    if (prefetch == DLB_LINEAR_PREFETCH_NONE)
        return NULL;
    if (prefetch != DLB_LINEAR_PREFETCH_PANEL)
        return "no such kind of prefetch";
    if (share_bytes(s, c) < 0.5 * (double)s->target->l2_bytes)
        return "panels stay in the caches: no need to prefetch";
    return NULL;
}

const char *dlb_linear_refuse(const struct dlb_problem *problem,
                              const struct dlb_target *target,
                              const struct dlb_candidate *c)
{
    const struct space s = space_of(problem, target);
    if (c->algorithm == DLB_LINEAR_STREAMS)
        return refuse_streams(&s, c);
    if (c->algorithm != DLB_LINEAR_GEMM)
        return "no such algorithm";
    const char *reason = refuse_register_tile(&s, c);
    if (!reason)
        reason = refuse_blocks(&s, c);
    if (!reason)
        reason = dlb_grid_refuse(c->tile[DLB_LINEAR_TILE_SPLIT], target->threads, s.p.m,
                                 panels_of(&s, c));
    return reason ? reason : refuse_stores(&s, c);
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

/* Nanoseconds to read bytes of one thread once, of which in repeated runs all threads
 * together keep what fits. */
static double read_once(const struct dlb_target *target, const struct bandwidth *b,
                        double bytes, double all)
{
    if (bytes < 0.6 * (double)target->l2_bytes)
        return bytes / b->l2;
    return bytes /
           (all < 0.7 * (double)target->l3_bytes * target->threads ? b->l3 : b->memory);
}

double dlb_linear_estimate(const struct dlb_problem *problem,
                           const struct dlb_target *target, const struct dlb_rates *rates,
                           const struct dlb_candidate *c)
{
    static const double CALL_CYCLES = 40;
    const struct space s = space_of(problem, target);
    const int *tile = c->tile;
    const int lanes = s.kernels->lanes, mr = tile[DLB_LINEAR_TILE_MR],
              nr = tile[DLB_LINEAR_TILE_NR], nv = nr / lanes;
    const bool few = c->algorithm == DLB_LINEAR_STREAMS,
               packed = tile[DLB_LINEAR_TILE_A] == DLB_LINEAR_A_PACKED,
               fetch = tile[DLB_LINEAR_TILE_PREFETCH] == DLB_LINEAR_PREFETCH_PANEL,
               staged = tile[DLB_LINEAR_TILE_STREAM] == DLB_LINEAR_STREAM_STAGED,
               stream = tile[DLB_LINEAR_TILE_STREAM] != DLB_LINEAR_STREAM_OFF;
    const struct dlb_grid grid = grid_of(&s, c);
    const double cycle_flops = 4.0 * lanes;
    const double cycle = rates->peak_gflops > 0
                             ? cycle_flops * target->threads / rates->peak_gflops
                             : 1.0 / 3;
    const struct bandwidth b = bandwidth_of(target, rates);
    const int64_t own = dlb_div_up(s.p.m, grid.rows), kc = tile[DLB_LINEAR_TILE_KC],
                  rows = dlb_min(tile[DLB_LINEAR_TILE_ROWS], own);
    const double panels = (double)dlb_div_up(panels_of(&s, c), grid.columns),
                 depths = (double)dlb_div_up(s.p.k, kc), k = (double)s.p.k,
                 tiles = (double)dlb_div_up(own, mr),
                 blocks = (double)dlb_div_up(own, rows);

    double cycles = panels * (rows_cycles(own, mr, nv) * k +
                              tiles * depths * (CALL_CYCLES + 2.0 * mr * nv));
    if (few)
        cycles *= 0.7;

    /* B: from where it lies for the first block of rows of each block of columns, from
     * what the block of columns fits for the others; from L2 for every tile of a panel
     * that does not stay in L1. */
    const double a_all = sizeof(float) * (double)s.p.m * k,
                 b_own = sizeof(float) * k * panels * nr,
                 b_all = sizeof(float) * k * (double)s.p.n,
                 c_own = sizeof(float) * (double)own * panels * nr,
                 c_all = sizeof(float) * (double)s.p.m * (double)s.p.n,
                 b_block = sizeof(float) * (double)kc *
                           fmin(tile[DLB_LINEAR_TILE_COLUMNS], panels * nr),
                 all = a_all + b_all + c_all;
    double far = read_once(target, &b, b_own, all);
    double near = (blocks - 1) * read_once(target, &b, b_block, all) / b_block * b_own;
    if (sizeof(float) * (double)(kc * nr) > 0.6 * (double)target->l1d_bytes)
        near += 0.2 * (tiles - blocks) * b_own / b.l2;
    if (few)
        far *= 0.8;

    /* A: for every panel from L2 where a block of rows does not stay in L1. */
    const double a_own = sizeof(float) * (double)own * k,
                 a_block = sizeof(float) * (double)rows * (double)kc,
                 column_blocks = (double)dlb_div_up((int64_t)panels * nr,
                                                    tile[DLB_LINEAR_TILE_COLUMNS]);
    if (a_block > 0.4 * (double)target->l1d_bytes)
        near += 0.2 * panels * a_own /
                (a_block > 0.7 * (double)target->l2_bytes ? b.l3 : b.l2);
    double pack = packed ? 2 * column_blocks * a_own / b.l3 : 0;
    if (s.p.gradient)
        pack += 2 * b_all / target->threads / b.l3;
    /* Rows that are a power of two apart meet in few sets of the caches. */
    if (!packed && s.p.k % 512 == 0 && own > 4)
        cycles *= 1.08;

    /* Of a short depth the results are most: tiles that write to many rows, or streams of
     * several rows at once, keep memory from its pace. */
    double scatter = 1;
    if (s.p.k <= DLB_LINEAR_SHORT_DEPTH && c_all > (double)target->l2_bytes)
        scatter = staged ? 0.8 : stream ? 1.5 : rows > 4 * mr ? 2 : 1;
    const double c_time = scatter * read_once(target, &b, c_own * (stream ? 1 : 2), all) *
                              (stream ? 0.8 : 1) +
                          (depths - 1) * 2 * c_own / (c_own > 1e6 ? b.l3 : b.l2);
    const double compute = cycles * cycle, transport = far + near + c_time;
    return fmax(compute, transport) + (fetch ? 0.15 : 0.3) * fmin(compute, transport) +
           pack + (s.p.gradient ? rates->barrier_ns : 0) + 100;
}

void dlb_linear_fallback(const struct dlb_problem *problem,
                         const struct dlb_target *target, struct dlb_candidate *candidate)
{
    dlb_op_fallback(&dlb_op_linear, problem, target, candidate);
}
