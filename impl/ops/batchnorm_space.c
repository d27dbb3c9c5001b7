/*
 * The search space of batchnorm: what can be tried, what is legal, what it should cost.
 */
#include "ops/batchnorm_internal.h"

#include <math.h>

const char *const dlb_batchnorm_algorithms[DLB_BATCHNORM_ALGORITHMS] = {
    [DLB_BATCHNORM_BY_NHWC] = "nhwc",
    [DLB_BATCHNORM_BY_BLOCKS] = "blocked",
};

static const char *const splits[] = {"rows", "channels", "both", NULL};
static const char *const streams[] = {"cached", "stream", NULL};

const struct dlb_tile_def dlb_batchnorm_tiles[DLB_BATCHNORM_TILES] = {
    [DLB_BATCHNORM_TILE_ROWS] = {"rows", NULL, "pixels in a tile"},
    [DLB_BATCHNORM_TILE_CHANNELS] = {"ic", NULL,
                                     "channels between statistics and normalisation"},
    [DLB_BATCHNORM_TILE_SPLIT] = {"split", splits, "what the threads share"},
    [DLB_BATCHNORM_TILE_STREAM] = {"stream", streams,
                                   "stores through or past the caches"},
};

static const double BALANCE_LEAST = 0.8;

struct dlb_batchnorm_planes dlb_batchnorm_planes_get(const struct dlb_batchnorm_shape *s,
                                                     int algorithm)
{
    bool joined =
        s->pixels == 1 || (algorithm == DLB_BATCHNORM_BY_NHWC && s->pixels % 2 == 0);
    return joined ? (struct dlb_batchnorm_planes){1, s->mb * s->pixels}
                  : (struct dlb_batchnorm_planes){s->mb, s->pixels};
}

static double share_balance(int64_t n, int64_t workers)
{
    return (double)n / (double)(dlb_div_up(n, workers) * workers);
}

struct dlb_batchnorm_grid dlb_batchnorm_grid_make(int split, int threads, int64_t tiles,
                                                  int64_t lines)
{
    struct dlb_batchnorm_grid best = {0};
    for (int columns = 1; columns <= threads; columns++) {
        bool fits = split == DLB_BATCHNORM_SPLIT_ROWS ? columns == 1
                    : split == DLB_BATCHNORM_SPLIT_CHANNELS
                        ? columns == threads
                        : columns > 1 && columns < threads;
        if (!fits || threads % columns)
            continue;
        struct dlb_batchnorm_grid grid = {threads / columns, columns, 0};
        grid.balance =
            share_balance(tiles, grid.rows) * share_balance(lines, grid.columns);
        if (grid.balance > best.balance)
            best = grid;
    }
    return best;
}

static int64_t tiles_of(const struct dlb_batchnorm_shape *s,
                        const struct dlb_candidate *c)
{
    struct dlb_batchnorm_planes planes = dlb_batchnorm_planes_get(s, c->algorithm);
    return planes.planes *
           dlb_div_up(planes.rows, dlb_max(1, c->tile[DLB_BATCHNORM_TILE_ROWS]));
}

static int64_t lines_of(const struct dlb_batchnorm_shape *s)
{
    return dlb_div_up(s->ic, DLB_BATCHNORM_LINE);
}

/* Channels that can be worked on by themselves: a cache line of them, or a vector that
 * stands by itself. */
static int least_block(const struct dlb_target *target, int algorithm)
{
    int lanes = dlb_isa_lanes(target->isa);
    return algorithm == DLB_BATCHNORM_BY_BLOCKS && lanes > 1 ? lanes : DLB_BATCHNORM_LINE;
}

static bool emit_ways(struct dlb_candidate *c, int last_split, dlb_candidate_fn *emit,
                      void *context)
{
    for (int split = DLB_BATCHNORM_SPLIT_ROWS; split <= last_split; split++)
        for (int stream = DLB_BATCHNORM_STREAM_OFF; stream <= DLB_BATCHNORM_STREAM_ON;
             stream++) {
            c->tile[DLB_BATCHNORM_TILE_SPLIT] = split;
            c->tile[DLB_BATCHNORM_TILE_STREAM] = stream;
            if (!emit(context, c))
                return false;
        }
    return true;
}

void dlb_batchnorm_enumerate(const struct dlb_problem *problem,
                             const struct dlb_target *target, dlb_candidate_fn *emit,
                             void *context)
{
    static const int rows[] = {128, DLB_BATCHNORM_ROWS_MAX};
    struct dlb_batchnorm_shape s;
    dlb_batchnorm_shape_get(problem, &s);
    int last_split =
        target->threads == 1 ? DLB_BATCHNORM_SPLIT_ROWS : DLB_BATCHNORM_SPLIT_BOTH;
    struct dlb_candidate c = {0};
    int *tile = c.tile;
    for (c.algorithm = 0; c.algorithm < DLB_BATCHNORM_ALGORITHMS; c.algorithm++) {
        int64_t plane = dlb_batchnorm_planes_get(&s, c.algorithm).rows, before = 0;
        for (size_t r = 0; r < sizeof rows / sizeof *rows && before < plane; r++) {
            before = tile[DLB_BATCHNORM_TILE_ROWS] = (int)dlb_min(rows[r], plane);
            tile[DLB_BATCHNORM_TILE_CHANNELS] = 0;
            for (int64_t channels = least_block(target, c.algorithm);
                 tile[DLB_BATCHNORM_TILE_CHANNELS] < s.ic; channels *= 4) {
                tile[DLB_BATCHNORM_TILE_CHANNELS] = (int)dlb_min(channels, s.ic);
                if (!emit_ways(&c, last_split, emit, context))
                    return;
            }
        }
    }
}

static const char *refuse_tiles(const struct dlb_batchnorm_shape *s,
                                const struct dlb_target *target,
                                const struct dlb_candidate *c)
{
    int64_t rows = c->tile[DLB_BATCHNORM_TILE_ROWS],
            channels = c->tile[DLB_BATCHNORM_TILE_CHANNELS];
    int64_t plane = dlb_batchnorm_planes_get(s, c->algorithm).rows;
    if (rows < 1 || rows > plane || rows > DLB_BATCHNORM_ROWS_MAX)
        return "tile has more pixels than there are, or than 1024";
    if (rows < plane && rows % DLB_BATCHNORM_STEP)
        return "tile is not whole steps of 8 pixels";
    if (channels < 1 || channels > s->ic)
        return "block has more channels than there are";
    if (channels < s->ic && channels % least_block(target, c->algorithm))
        return "block is not whole vectors or cache lines of channels";
    if (channels < s->ic && !s->train)
        return "channels are not blocked without statistics";
    return NULL;
}

static const char *refuse_threads(const struct dlb_batchnorm_shape *s,
                                  const struct dlb_target *target,
                                  const struct dlb_candidate *c)
{
    int split = c->tile[DLB_BATCHNORM_TILE_SPLIT];
    int64_t tiles = tiles_of(s, c), lines = lines_of(s);
    if (target->threads == 1 && split != DLB_BATCHNORM_SPLIT_ROWS)
        return "one thread has nothing to split";
    struct dlb_batchnorm_grid grid =
        dlb_batchnorm_grid_make(split, target->threads, tiles, lines);
    if (!grid.rows)
        return "threads do not form a grid";
    /* A block narrower than a thread's share is legal, but a wider one is the same. */
    double best = 0;
    for (int other = DLB_BATCHNORM_SPLIT_ROWS; other <= DLB_BATCHNORM_SPLIT_BOTH; other++)
        best = fmax(
            best, dlb_batchnorm_grid_make(other, target->threads, tiles, lines).balance);
    if (grid.balance < BALANCE_LEAST && grid.balance < best)
        return "threads are unbalanced";
    int64_t share = dlb_div_up(lines, grid.columns) * DLB_BATCHNORM_LINE,
            channels = c->tile[DLB_BATCHNORM_TILE_CHANNELS];
    if (channels < s->ic && channels >= share)
        return "same as with one block of all channels";
    return NULL;
}

static double image_bytes(const struct dlb_batchnorm_shape *s)
{
    return sizeof(float) * (double)(s->mb * s->pixels) * (double)s->ic;
}

static const char *refuse_stream(const struct dlb_batchnorm_shape *s,
                                 const struct dlb_target *target,
                                 const struct dlb_candidate *c)
{
    int stream = c->tile[DLB_BATCHNORM_TILE_STREAM];
    if (stream == DLB_BATCHNORM_STREAM_OFF)
        return NULL;
    if (stream != DLB_BATCHNORM_STREAM_ON)
        return "no such kind of store";
    if (target->isa == DLB_ISA_SCALAR || target->isa == DLB_ISA_NEON)
        return "no streaming stores on this instruction set";
    if (c->algorithm == DLB_BATCHNORM_BY_NHWC && s->ic % dlb_isa_lanes(target->isa))
        return "streaming stores need whole vectors";
    if (image_bytes(s) <= (double)target->l2_bytes * target->threads)
        return "output fits the caches: no need to stream";
    return NULL;
}

const char *dlb_batchnorm_refuse(const struct dlb_problem *problem,
                                 const struct dlb_target *target,
                                 const struct dlb_candidate *c)
{
    struct dlb_batchnorm_shape s;
    dlb_batchnorm_shape_get(problem, &s);
    if (c->algorithm < 0 || c->algorithm >= DLB_BATCHNORM_ALGORITHMS)
        return "no such algorithm";
    if (s.layout == (c->algorithm == DLB_BATCHNORM_BY_NHWC ? DLB_BATCHNORM_BLOCKED
                                                           : DLB_BATCHNORM_NHWC))
        return "layout is another";
    const char *reason = refuse_tiles(&s, target, c);
    if (!reason)
        reason = refuse_threads(&s, target, c);
    return reason ? reason : refuse_stream(&s, target, c);
}

double dlb_batchnorm_estimate(const struct dlb_problem *problem,
                              const struct dlb_target *target,
                              const struct dlb_rates *rates,
                              const struct dlb_candidate *c)
{
    struct dlb_batchnorm_shape s;
    dlb_batchnorm_shape_get(problem, &s);
    const int *tile = c->tile;
    int64_t tiles = tiles_of(&s, c);
    struct dlb_batchnorm_grid grid = dlb_batchnorm_grid_make(
        tile[DLB_BATCHNORM_TILE_SPLIT], target->threads, tiles, lines_of(&s));
    double image = image_bytes(&s), blocks = 1, read = s.backward ? 2 : 1;
    bool stream = tile[DLB_BATCHNORM_TILE_STREAM] == DLB_BATCHNORM_STREAM_ON;
    bool nhwc = c->algorithm == DLB_BATCHNORM_BY_NHWC;
    /* What lies between two uses of the same line of src: in the repeated runs that are
     * timed src and dst, within a run the pixels of one block of channels. */
    double used = stream ? read : read + 1;
    double resident = used * image;
    double time = dlb_op_transfer_ns(target, rates, read * image, resident) +
                  dlb_op_transfer_ns(target, rates, (stream ? 1 : 2) * image,
                                     stream ? INFINITY : resident);
    if (s.train) {
        blocks = ceil((double)s.ic / tile[DLB_BATCHNORM_TILE_CHANNELS]);
        double block = image / blocks * (blocks > grid.columns ? grid.columns : 1);
        time += dlb_op_transfer_ns(target, rates, read * image, used * block);
    }
    /* Runs of channels break the stream of memory: at 64 a thread it takes twice as long
     * or more. */
    double run = fmin(tile[DLB_BATCHNORM_TILE_CHANNELS],
                      ceil((double)s.ic / (double)grid.columns));
    if (nhwc && run < (double)s.ic)
        time *= 1 + 64 / run;
    double calls = (double)tiles * blocks * (nhwc ? 1 : (double)lines_of(&s) / blocks);
    double overhead = 20 * calls * (s.train ? 2 : 1) / target->threads;
    double barriers = s.train && grid.rows > 1 ? blocks : 0;
    return time / fmax(grid.balance, 1e-3) + overhead +
           barriers * (rates->barrier_ns + 300);
}

void dlb_batchnorm_fallback(const struct dlb_problem *problem,
                            const struct dlb_target *target,
                            struct dlb_candidate *candidate)
{
    dlb_op_fallback(&dlb_op_batchnorm, problem, target, candidate);
}
