/*
 * Batch normalisation: plan and driver around the kernels of rows of channels.
 *
 *   dst = act( (src - mean) * gamma / sqrt(variance + epsilon) + beta ), per channel;
 *   fwd_train makes mean and variance first
 *
 * Shapes    nhwc: src and dst in place.  blocked: [image][channels / V][pixel][V] with V
 *           the vector's length and channels padded by 0, packed in bind, unpacked in
 *           fetch.  Images of one pixel make both the same: [image][channels]
 * Units     elements; a row is one pixel; counts are of elements of one channel
 * Tiles     rows a tile; channels a block.  Training works block by block: statistics of
 *           all tiles, then normalisation in the opposite order, since what was read last
 *           is still in the caches; a narrow block fits a nearer one.  Tiles hold whole
 *           pairs of rows of an image, which makes the exact fill exact
 * Work items and barriers   a grid of threads over tiles x cache lines of channels.
 *           Training on more than one thread a column of the grid: one barrier a block,
 *           after which each thread joins the parts of its column in the order of ranks;
 *           so results depend on the number of threads, never on their timing
 * Scratch   7 vectors of channels a thread; the mask of ReLU, one bit an element
 * Cost      inference 2 flops an element and src, dst once; training 6, and src once more,
 *           from wherever it lies by then
 * Numerics  statistics of tiles by the kernels, joined by Chan's formula
 * Errors    dlb_batchnorm_refuse refuses tiles that do not fit; no other
 */
#include "core/dispatch.h"
#include "ops/batchnorm_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

DLB_ISA_TABLE(struct dlb_batchnorm_kernels, dlb_batchnorm);

const struct dlb_batchnorm_kernels *dlb_batchnorm_kernels(enum dlb_isa isa)
{
    return dlb_isa_usable(isa) ? dlb_batchnorm_by_isa[isa] : NULL;
}

enum { SCRATCH_VECTORS = 7 };

struct native {
    struct dlb_plan plan;
    struct dlb_batchnorm_shape s;
    const struct dlb_batchnorm_kernels *kernels;
    dlb_batchnorm_normalise_fn *normalise;
    struct dlb_batchnorm_weights weights;
    struct dlb_batchnorm_grid grid;
    struct dlb_batchnorm_planes planes;
    int lanes;
    bool packed, keeps_mask; /* packed: the blocked layout */
    int64_t rows, tiles;     /* of a tile; of a plane */
    int64_t block, blocks;   /* channels; blocks of the largest share of a thread */
    int64_t width;           /* channels with the blocked layout's padding */
    int64_t padded;          /* channels in whole cache lines */
    /* Channel c of row r of a plane stands at plane*plane_stride + c/unit*unit_stride +
     * c%unit + r*ld; unit channels at a time are given to a kernel. */
    int64_t plane_stride, unit, unit_stride, ld;
    int64_t mask_plane, mask_vector, mask_ld; /* bytes, likewise */
    float *vectors;                           /* gamma, beta, mean, variance */
    float *scratch;                           /* SCRATCH_VECTORS a thread */
    float *own_src, *own_dst;                 /* of the blocked layout */
    uint8_t *mask;
    const float *src;
    float *dst;
    int tensors;
    void *tensor[DLB_BATCHNORM_TENSORS];
};

/* Vectors that all threads share. */
enum shared { GAMMA, BETA, MEAN, VARIANCE, SHARED };

static float *shared(const struct native *p, enum shared which)
{
    return p->vectors + which * p->padded;
}

/* One thread's part of the work, and its vectors by channel. */
struct member {
    const struct native *p;
    int64_t tiles[2], channels[2]; /* begin, end; tiles of all planes */
    struct dlb_batchnorm_moments tile, part, all;
    const float *mean; /* for normalisation */
    float *factor;
};

static struct member member_get(const struct native *p, int rank)
{
    struct member m = {.p = p};
    int64_t lines[2];
    float *scratch = p->scratch + rank * SCRATCH_VECTORS * p->padded;
    dlb_share(p->planes.planes * p->tiles, rank / p->grid.columns, p->grid.rows,
              &m.tiles[0], &m.tiles[1]);
    dlb_share(p->padded / DLB_BATCHNORM_LINE, rank % p->grid.columns, p->grid.columns,
              &lines[0], &lines[1]);
    for (int i = 0; i < 2; i++)
        m.channels[i] = dlb_min(lines[i] * DLB_BATCHNORM_LINE, p->width);
    struct dlb_batchnorm_moments *moments[] = {&m.tile, &m.part, &m.all};
    for (int i = 0; i < 3; i++, scratch += 2 * p->padded)
        *moments[i] = (struct dlb_batchnorm_moments){scratch, scratch + p->padded};
    m.factor = scratch;
    m.mean = !p->s.train ? shared(p, MEAN) : p->grid.rows == 1 ? m.part.mean : m.all.mean;
    return m;
}

static struct dlb_batchnorm_moments from_channel(struct dlb_batchnorm_moments moments,
                                                 int64_t c)
{
    return (struct dlb_batchnorm_moments){moments.mean + c, moments.m2 + c};
}

/* Rows of all planes before a tile. */
static int64_t rows_before(const struct native *p, int64_t tile)
{
    return tile / p->tiles * p->planes.rows + tile % p->tiles * p->rows;
}

/* A tile's rows of some channels, no more than one unit. */
struct piece {
    int64_t plane, row, rows, channel, channels;
    int64_t position; /* of row among those of all planes */
};

static int64_t element_of(const struct native *p, const struct piece *piece)
{
    return piece->plane * p->plane_stride + piece->channel / p->unit * p->unit_stride +
           piece->channel % p->unit + piece->row * p->ld;
}

static uint8_t *mask_of(const struct native *p, const struct piece *piece)
{
    return p->mask + piece->plane * p->mask_plane +
           piece->channel / p->lanes * p->mask_vector + piece->row * p->mask_ld;
}

typedef void piece_fn(const struct member *m, const struct piece *piece);

/* All pieces of the member's tiles with channels begin … end-1, as memory lies: plane,
 * unit, tile; or exactly backward. */
static void visit(const struct member *m, int64_t begin, int64_t end, bool backward,
                  piece_fn *fn)
{
    const struct native *p = m->p;
    int64_t first = m->tiles[0] / p->tiles, last = dlb_div_up(m->tiles[1], p->tiles);
    int64_t units = dlb_div_up(end - begin, p->unit);
    for (int64_t i = 0; i < last - first; i++) {
        struct piece piece = {.plane = backward ? last - 1 - i : first + i};
        int64_t tile_0 = dlb_max(0, m->tiles[0] - piece.plane * p->tiles),
                tile_1 = dlb_min(p->tiles, m->tiles[1] - piece.plane * p->tiles);
        for (int64_t u = 0; u < units; u++) {
            piece.channel = begin + (backward ? units - 1 - u : u) * p->unit;
            piece.channels = dlb_min(p->unit, end - piece.channel);
            for (int64_t t = tile_0; t < tile_1; t++) {
                int64_t tile = backward ? tile_0 + tile_1 - 1 - t : t;
                piece.row = tile * p->rows;
                piece.rows = dlb_min(p->rows, p->planes.rows - piece.row);
                piece.position = piece.plane * p->planes.rows + piece.row;
                fn(m, &piece);
            }
        }
    }
}

/* Canonical element of the piece's first row and channel; rows are ic apart. */
static int64_t canonical_of(const struct native *p, const struct piece *piece)
{
    return piece->position * p->s.ic + piece->channel;
}

static void pack(const struct member *m, const struct piece *piece)
{
    const struct native *p = m->p;
    const float *from = (const float *)p->tensor[DLB_BATCHNORM_SRC];
    int64_t channels = dlb_min(piece->channels, p->s.ic - piece->channel);
    float *to = p->own_src + element_of(p, piece);
    float *dst = p->own_dst + element_of(p, piece);
    from += canonical_of(p, piece);
    size_t bytes = sizeof *to * (size_t)piece->channels;
    for (int64_t r = 0; r < piece->rows;
         r++, to += p->ld, dst += p->ld, from += p->s.ic) {
        memset(to + channels, 0, sizeof *to * (size_t)(piece->channels - channels));
        memcpy(to, from, sizeof *to * (size_t)channels);
        memset(dst, 0, bytes);
    }
}

static void unpack(const struct member *m, const struct piece *piece)
{
    const struct native *p = m->p;
    int64_t channels = dlb_min(piece->channels, p->s.ic - piece->channel);
    const float *from = p->own_dst + element_of(p, piece);
    float *to = (float *)p->tensor[DLB_BATCHNORM_DST] + canonical_of(p, piece);
    for (int64_t r = 0; r < piece->rows; r++, to += p->s.ic, from += p->ld)
        memcpy(to, from, (size_t)channels * sizeof *to);
}

static void clear_mask(const struct member *m, const struct piece *piece)
{
    const struct native *p = m->p;
    int64_t vectors = dlb_div_up(piece->channels, p->lanes);
    for (int64_t r = 0; r < piece->rows; r++)
        memset(mask_of(p, piece) + r * p->mask_ld, 0,
               (size_t)(vectors * p->kernels->mask_bytes));
}

static void unpack_mask(const struct member *m, const struct piece *piece)
{
    const struct native *p = m->p;
    int64_t channels = dlb_min(piece->channels, p->s.ic - piece->channel);
    const uint8_t *from = mask_of(p, piece);
    float *to = (float *)p->tensor[DLB_BATCHNORM_RELU_MASK] + canonical_of(p, piece);
    for (int64_t r = 0; r < piece->rows; r++, to += p->s.ic, from += p->mask_ld)
        for (int64_t c = 0; c < channels; c++) {
            int64_t lane = c % p->lanes;
            const uint8_t *bits = from + c / p->lanes * p->kernels->mask_bytes;
            to[c] = bits[lane / 8] >> lane % 8 & 1;
        }
}

static void take_vector(const struct native *p, enum shared which, int t, bool present,
                        float absent)
{
    float *vector = shared(p, which);
    const float *given = p->tensor[t];
    for (int64_t c = 0; c < p->padded; c++)
        vector[c] = c >= p->s.ic ? 0 : present ? given[c] : absent;
}

static enum dlb_status native_bind(struct dlb_plan *plan, void *const *tensor,
                                   const struct dlb_team *team, struct dlb_error *error)
{
    struct native *p = (struct native *)plan;
    (void)error;
    if (team->rank == 0) {
        memcpy(p->tensor, tensor, (size_t)p->tensors * sizeof *tensor);
        p->src = p->packed ? p->own_src : tensor[DLB_BATCHNORM_SRC];
        p->dst = p->packed ? p->own_dst : tensor[DLB_BATCHNORM_DST];
        take_vector(p, GAMMA, DLB_BATCHNORM_GAMMA, p->s.scale, 1);
        take_vector(p, BETA, DLB_BATCHNORM_BETA, p->s.shift, 0);
        take_vector(p, MEAN, DLB_BATCHNORM_IN_MEAN, true, 0);
        take_vector(p, VARIANCE, DLB_BATCHNORM_IN_VARIANCE, true, 0);
    }
    memset(p->scratch + team->rank * SCRATCH_VECTORS * p->padded, 0,
           sizeof(float) * (size_t)(SCRATCH_VECTORS * p->padded));
    dlb_team_barrier(team);
    struct member m = member_get(p, team->rank);
    if (p->packed)
        visit(&m, m.channels[0], m.channels[1], false, pack);
    if (p->keeps_mask)
        visit(&m, m.channels[0], m.channels[1], false, clear_mask);
    dlb_team_barrier(team);
    return DLB_OK;
}

static void add_moments(const struct member *m, const struct piece *piece)
{
    const struct native *p = m->p;
    p->kernels->moments(p->src + element_of(p, piece), p->ld, piece->rows,
                        piece->channels, &p->weights, m->tile);
    p->kernels->merge(piece->channels, piece->position - rows_before(p, m->tiles[0]),
                      from_channel(m->part, piece->channel), piece->rows, m->tile);
}

static void normalise(const struct member *m, const struct piece *piece)
{
    const struct native *p = m->p;
    int64_t element = element_of(p, piece), c = piece->channel;
    struct dlb_batchnorm_normalise call = {
        .src = p->src + element,
        .dst = p->dst + element,
        .mask = p->keeps_mask ? mask_of(p, piece) : NULL,
        .ld = p->ld,
        .mask_ld = p->mask_ld,
        .rows = piece->rows,
        .channels = piece->channels,
        .mean = m->mean + c,
        .factor = m->factor + c,
        .beta = shared(p, BETA) + c,
    };
    p->normalise(&call);
}

/* The moments of my channels begin … end-1 over all rows, from those of my column of the
 * grid. */
static void join_parts(const struct member *m, int rank, int64_t begin, int64_t end)
{
    const struct native *p = m->p;
    int64_t count = 0;
    for (int other = rank % p->grid.columns; other < p->plan.threads;
         other += p->grid.columns) {
        struct member from = member_get(p, other);
        int64_t rows = rows_before(p, from.tiles[1]) - rows_before(p, from.tiles[0]);
        if (!rows)
            continue;
        p->kernels->merge(end - begin, count, from_channel(m->all, begin), rows,
                          from_channel(from.part, begin));
        count += rows;
    }
}

static void finish(const struct member *m, bool first_row, int64_t begin, int64_t end)
{
    const struct native *p = m->p;
    struct dlb_batchnorm_moments all =
        from_channel(p->grid.rows > 1 ? m->all : m->part, begin);
    struct dlb_batchnorm_finish call = {
        .channels = dlb_min(end, p->s.ic) - begin,
        .count = p->planes.planes * p->planes.rows,
        .m2 = all.m2,
        .mean = all.mean,
        .gamma = shared(p, GAMMA) + begin,
        .factor = m->factor + begin,
        .running_mean = shared(p, MEAN) + begin,
        .running_variance = shared(p, VARIANCE) + begin,
    };
    if (first_row) {
        call.out_mean = (float *)p->tensor[DLB_BATCHNORM_MEAN] + begin;
        call.out_variance = (float *)p->tensor[DLB_BATCHNORM_VARIANCE] + begin;
        call.out_running_mean = (float *)p->tensor[DLB_BATCHNORM_RUNNING_MEAN] + begin;
        call.out_running_variance =
            (float *)p->tensor[DLB_BATCHNORM_RUNNING_VARIANCE] + begin;
    }
    p->kernels->finish(&call);
}

static void native_run(struct dlb_plan *plan, const struct dlb_team *team)
{
    struct native *p = (struct native *)plan;
    struct member m = member_get(p, team->rank);
    if (!p->s.train) {
        int64_t begin = m.channels[0], end = m.channels[1];
        p->kernels->factors(end - begin, shared(p, VARIANCE) + begin,
                            shared(p, GAMMA) + begin, m.factor + begin);
        visit(&m, begin, end, false, normalise);
    }
    /* Every thread meets every barrier, with an empty block if need be. */
    for (int64_t b = 0; p->s.train && b < p->blocks; b++) {
        int64_t begin = dlb_min(m.channels[0] + b * p->block, m.channels[1]);
        int64_t end = dlb_min(begin + p->block, m.channels[1]);
        visit(&m, begin, end, false, add_moments);
        if (p->grid.rows > 1) {
            dlb_team_barrier(team);
            join_parts(&m, team->rank, begin, end);
        }
        finish(&m, team->rank < p->grid.columns, begin, end);
        visit(&m, begin, end, true, normalise);
    }
    p->kernels->stream_fence();
}

static enum dlb_status native_fetch(struct dlb_plan *plan, const struct dlb_team *team,
                                    struct dlb_error *error)
{
    const struct native *p = (struct native *)plan;
    struct member m = member_get(p, team->rank);
    (void)error;
    if (p->packed)
        visit(&m, m.channels[0], m.channels[1], false, unpack);
    if (p->keeps_mask)
        visit(&m, m.channels[0], m.channels[1], false, unpack_mask);
    return DLB_OK;
}

static void native_release(struct dlb_plan *plan)
{
    struct native *p = (struct native *)plan;
    dlb_free(p->vectors);
    dlb_free(p->scratch);
    dlb_free(p->own_src);
    dlb_free(p->own_dst);
    dlb_free(p->mask);
    free(p);
}

static const struct dlb_plan_class native_class = {
    .impl = "native",
    .spmd = true,
    .bind = native_bind,
    .run = native_run,
    .fetch = native_fetch,
    .release = native_release,
};

/* Where elements and mask bits stand. */
static void lay_out(struct native *p)
{
    int64_t vectors = dlb_div_up(p->s.ic, p->lanes), bits = p->kernels->mask_bytes;
    bool by_vector = p->packed && p->s.pixels > 1;
    p->padded = dlb_round_up(p->s.ic, DLB_BATCHNORM_LINE);
    p->width = p->packed ? vectors * p->lanes : p->s.ic;
    p->ld = by_vector ? p->lanes : p->width;
    p->unit = by_vector ? p->lanes : p->padded;
    p->unit_stride = p->planes.rows * p->ld;
    p->plane_stride = p->planes.rows * p->width;
    p->mask_ld = by_vector ? bits : vectors * bits;
    p->mask_vector = by_vector ? p->planes.rows * bits : bits;
    p->mask_plane = p->planes.rows * vectors * bits;
}

static void make_weights(struct dlb_batchnorm_weights *weights)
{
    for (int k = 0; k < DLB_BATCHNORM_ROWS_MAX / DLB_BATCHNORM_STEP; k++) {
        weights->mean[k] = (float)(1.0 / (k + 1));
        weights->square[k] = (float)((double)DLB_BATCHNORM_STEP * k / (k + 1));
    }
}

/* Allocates unless bytes is 0, and counts. */
static bool take(struct native *p, int64_t bytes, void **memory)
{
    if (!bytes)
        return true;
    p->plan.workspace_bytes += (size_t)bytes;
    *memory = dlb_alloc((size_t)bytes);
    return *memory;
}

static bool take_all(struct native *p)
{
    int64_t floats = sizeof(float), image = p->s.mb * p->s.pixels * p->width;
    int64_t mask = p->planes.planes * p->mask_plane;
    void *memory[5] = {NULL};
    const int64_t bytes[5] = {
        SHARED * p->padded * floats,
        p->plan.threads * SCRATCH_VECTORS * p->padded * floats,
        p->packed ? image * floats : 0,
        p->packed ? image * floats : 0,
        p->keeps_mask ? mask : 0,
    };
    bool taken = true;
    for (int i = 0; i < 5 && taken; i++)
        taken = take(p, bytes[i], &memory[i]);
    p->vectors = memory[0];
    p->scratch = memory[1];
    p->own_src = memory[2];
    p->own_dst = memory[3];
    p->mask = memory[4];
    return taken;
}

static void name_plan(struct dlb_plan *plan, const struct dlb_target *target,
                      const struct dlb_candidate *candidate, int lanes)
{
    bool blocked = candidate->algorithm == DLB_BATCHNORM_BY_BLOCKS;
    snprintf(plan->version, sizeof plan->version, "%s", DLBENCH_VERSION);
    snprintf(plan->algorithm, sizeof plan->algorithm, "%s",
             dlb_batchnorm_algorithms[candidate->algorithm]);
    if (blocked && lanes > 1)
        snprintf(plan->layout, sizeof plan->layout, "nChw%dc", lanes);
    else
        snprintf(plan->layout, sizeof plan->layout, "%s", blocked ? "nchw" : "nhwc");
    snprintf(plan->isa, sizeof plan->isa, "%s", dlb_isa_name(target->isa));
}

enum dlb_status dlb_batchnorm_plan(const struct dlb_problem *problem,
                                   const struct dlb_target *target,
                                   const struct dlb_candidate *candidate,
                                   struct dlb_plan **plan, struct dlb_error *error)
{
    const int *tile = candidate->tile;
    const char *reason = dlb_batchnorm_refuse(problem, target, candidate);
    if (reason)
        return dlb_fail(error, DLB_UNSUPPORTED,
                        "This way of computing the normalisation is not legal here (%s); "
                        "take a candidate that the search space offers.",
                        reason);
    struct native *p = calloc(1, sizeof *p);
    if (!p)
        return dlb_fail(error, DLB_NOMEM, "No memory for a plan of %zu bytes.",
                        sizeof *p);
    p->plan.class = &native_class;
    p->plan.threads = target->threads;
    dlb_batchnorm_shape_get(problem, &p->s);
    struct dlb_tensor tensor[DLB_TENSORS_MAX];
    p->tensors = dlb_op_batchnorm.tensors(problem, tensor);
    p->kernels = dlb_batchnorm_kernels(target->isa);
    p->lanes = dlb_isa_lanes(target->isa);
    p->packed = candidate->algorithm == DLB_BATCHNORM_BY_BLOCKS;
    p->plan.fetches_kept = p->keeps_mask = p->s.train && p->s.relu;
    p->planes = dlb_batchnorm_planes_get(&p->s, candidate->algorithm);
    p->rows = tile[DLB_BATCHNORM_TILE_ROWS];
    p->tiles = dlb_div_up(p->planes.rows, p->rows);
    lay_out(p);
    p->grid = dlb_batchnorm_grid_make(tile[DLB_BATCHNORM_TILE_SPLIT], target->threads,
                                      p->planes.planes * p->tiles,
                                      p->padded / DLB_BATCHNORM_LINE);
    p->block = tile[DLB_BATCHNORM_TILE_CHANNELS];
    if (p->block == p->s.ic)
        p->block = p->padded;
    p->blocks = dlb_div_up(dlb_div_up(p->padded / DLB_BATCHNORM_LINE, p->grid.columns) *
                               DLB_BATCHNORM_LINE,
                           p->block);
    enum dlb_batchnorm_act act = p->keeps_mask ? DLB_BATCHNORM_RELU_AND_MASK
                                 : p->s.relu   ? DLB_BATCHNORM_RELU_ONLY
                                               : DLB_BATCHNORM_LINEAR;
    bool stream = tile[DLB_BATCHNORM_TILE_STREAM] == DLB_BATCHNORM_STREAM_ON;
    p->normalise = p->kernels->normalise[act][stream];
    make_weights(&p->weights);
    name_plan(&p->plan, target, candidate, p->lanes);
    if (!take_all(p)) {
        enum dlb_status status = dlb_fail(
            error, DLB_NOMEM, "No memory for %zu bytes of work space of a normalisation.",
            p->plan.workspace_bytes);
        native_release(&p->plan);
        return status;
    }
    *plan = &p->plan;
    return DLB_OK;
}
