/*
 * The search space of pooling: what can be tried, what is legal, what it should cost.
 */
#include "ops/pooling_internal.h"

#include <math.h>

const char *const dlb_pooling_algorithms[DLB_POOLING_ALGORITHMS] = {
    [DLB_POOLING_REGISTERS] = "registers",
    [DLB_POOLING_SWEEP] = "sweep",
};

static const char *const splits[] = {"rows", "channels", "2d", NULL};
static const char *const streams[] = {"cached", "stream", NULL};

const struct dlb_tile_def dlb_pooling_tiles[DLB_POOLING_TILES] = {
    [DLB_POOLING_TILE_CHANNELS] = {"ic", NULL, "channels in a block"},
    [DLB_POOLING_TILE_SPLIT] = {"split", splits, "what the threads share"},
    [DLB_POOLING_TILE_STREAM] = {"stream", streams, "stores through or past the caches"},
};

enum { LINE = DLB_CACHE_LINE / sizeof(float) };

int64_t dlb_pooling_rows(const struct dlb_problem *problem)
{
    return problem->dim[DLB_POOLING_MB] *
           problem->dim[problem->pass == DLB_BWD ? DLB_POOLING_IH : DLB_POOLING_OH];
}

static int64_t blocks_of(const struct dlb_pooling_shape *s, const struct dlb_candidate *c)
{
    return dlb_div_up(s->ic, c->tile[DLB_POOLING_TILE_CHANNELS]);
}

void dlb_pooling_enumerate(const struct dlb_problem *problem,
                           const struct dlb_target *target, dlb_candidate_fn *emit,
                           void *context)
{
    struct dlb_pooling_shape s;
    dlb_pooling_shape_get(problem, &s);
    const int last = target->threads == 1 ? DLB_GRID_ROWS : DLB_GRID_2D;
    const int64_t blocks[] = {s.ic, 16 * LINE, 4 * LINE, LINE};
    struct dlb_candidate c = {0};
    for (; c.algorithm < DLB_POOLING_ALGORITHMS; c.algorithm++)
        for (size_t b = 0; b < sizeof blocks / sizeof *blocks; b++)
            for (int split = DLB_GRID_ROWS; split <= last; split++)
                for (int stream = DLB_POOLING_STREAM_OFF; stream <= DLB_POOLING_STREAM_ON;
                     stream++) {
                    if (b > 0 && blocks[b] >= s.ic)
                        continue;
                    c.tile[DLB_POOLING_TILE_CHANNELS] = (int)blocks[b];
                    c.tile[DLB_POOLING_TILE_SPLIT] = split;
                    c.tile[DLB_POOLING_TILE_STREAM] = stream;
                    if (!emit(context, &c))
                        return;
                }
}

/* Of what is written, and of all operands. */
static double written_bytes(const struct dlb_pooling_shape *s, bool back)
{
    return sizeof(float) * (double)(s->mb * s->ic) *
           (double)(back ? s->ih * s->iw : s->oh * s->ow);
}

static const char *refuse_stream(const struct dlb_problem *problem,
                                 const struct dlb_pooling_shape *s,
                                 const struct dlb_target *target,
                                 const struct dlb_candidate *c)
{
    const int stream = c->tile[DLB_POOLING_TILE_STREAM];
    if (stream == DLB_POOLING_STREAM_OFF)
        return NULL;
    if (stream != DLB_POOLING_STREAM_ON)
        return "no such kind of store";
    if (target->isa == DLB_ISA_SCALAR || target->isa == DLB_ISA_NEON)
        return "no streaming stores on this instruction set";
    if (s->ic % dlb_isa_lanes(target->isa))
        return "streaming stores need whole vectors";
    if (written_bytes(s, problem->pass == DLB_BWD) <=
        (double)target->l2_bytes * target->threads)
        return "output fits the caches: no need to stream";
    return NULL;
}

const char *dlb_pooling_refuse(const struct dlb_problem *problem,
                               const struct dlb_target *target,
                               const struct dlb_candidate *c)
{
    struct dlb_pooling_shape s;
    dlb_pooling_shape_get(problem, &s);
    const int64_t channels = c->tile[DLB_POOLING_TILE_CHANNELS];
    if (c->algorithm == DLB_POOLING_SWEEP) {
        if (s.kind == DLB_POOLING_MAX || problem->pass == DLB_BWD)
            return "sweeps are for averages";
    } else if (c->algorithm != DLB_POOLING_REGISTERS) {
        return "no such algorithm";
    }
    if (channels < 1 || channels > s.ic)
        return "block has more channels than there are";
    if (channels < s.ic && channels % LINE)
        return "block is not whole cache lines of channels";
    const char *reason = dlb_grid_refuse(c->tile[DLB_POOLING_TILE_SPLIT], target->threads,
                                         dlb_pooling_rows(problem), blocks_of(&s, c));
    return reason ? reason : refuse_stream(problem, &s, target, c);
}

double dlb_pooling_estimate(const struct dlb_problem *problem,
                            const struct dlb_target *target,
                            const struct dlb_rates *rates, const struct dlb_candidate *c)
{
    static const double PIXEL_NS = 4;
    struct dlb_pooling_shape s;
    dlb_pooling_shape_get(problem, &s);
    const bool back = problem->pass == DLB_BWD,
               stream = c->tile[DLB_POOLING_TILE_STREAM] == DLB_POOLING_STREAM_ON;
    const struct dlb_grid grid =
        dlb_grid_make(c->tile[DLB_POOLING_TILE_SPLIT], target->threads,
                      dlb_pooling_rows(problem), blocks_of(&s, c));
    const double bytes = dlb_op_pooling.bytes(problem), written = written_bytes(&s, back),
                 threads = target->threads;
    const struct {
        double size, gbs, fallback;
    } levels[] = {
        {0.5 * (double)target->l2_bytes * threads, rates->l2_gbs, 80},
        {0.75 * (double)target->l3_bytes * threads, rates->l3_gbs, 40},
        {INFINITY, rates->memory_gbs, 20},
    };
    int level = 0;
    while (bytes > levels[level].size)
        level++;
    const double gbs = levels[level].gbs > 0 ? levels[level].gbs : levels[level].fallback;
    double transfer = (bytes + (stream ? 0 : written)) / gbs;
    /* Past the caches what is written must be read again from memory next time. */
    if (stream && level < 2)
        transfer *= 1.5;
    /* Runs of channels break the stream of memory. */
    const double run = fmin(c->tile[DLB_POOLING_TILE_CHANNELS],
                            ceil((double)s.ic / (double)grid.columns));
    if (run < (double)s.ic)
        transfer *= 1 + 32 / run;
    const double calls = (double)dlb_pooling_rows(problem) *
                         (double)(back ? s.iw : s.ow) * (double)blocks_of(&s, c);
    /* Taps of many channels are pages apart; of few, sweeps are short. */
    if (c->algorithm == DLB_POOLING_SWEEP)
        transfer *= s.ic >= 512 && s.kh * s.kw > 9 ? 0.8 : 1.2;
    const double compute =
        (dlb_op_pooling.flops(problem) / dlb_isa_lanes(target->isa) * 0.3 +
         calls * PIXEL_NS) /
        threads;
    return (fmax(transfer, compute) + 0.3 * fmin(transfer, compute)) /
           fmax(grid.balance, 1e-3);
}

void dlb_pooling_fallback(const struct dlb_problem *problem,
                          const struct dlb_target *target,
                          struct dlb_candidate *candidate)
{
    dlb_op_fallback(&dlb_op_pooling, problem, target, candidate);
}
