/*
 * Batch normalisation: threads, tiles and blocks around the kernels of rows of channels.
 *
 *   dst = act( (src - mean) * gamma / sqrt(variance + epsilon) + beta ), per channel;
 *   fwd_train makes mean and variance first; bwd makes diff_beta and diff_gamma, then
 *   diff_src (formulas in batchnorm.h)
 *
 * Shapes    as batchnorm_plan.c lays them out
 * Units     elements; a row is one pixel; counts are of elements of one channel
 * Tiles     rows a tile; channels a block.  Training works block by block: statistics, or
 *           sums, of all tiles, then normalisation, or diff_src, in the opposite order,
 *           since what was read last is still in the caches; a narrow block fits a nearer
 *           one.  Tiles hold whole pairs of rows of an image, which makes the exact fill
 *           exact
 * Work items and barriers   a grid of threads over tiles x cache lines of channels.
 *           Training on more than one thread a column of the grid: one barrier a block,
 *           after which each thread joins the parts of its column in the order of ranks;
 *           so results depend on the number of threads, never on their timing
 * Scratch   9 vectors of channels a thread; the mask of ReLU, one bit an element
 * Cost      inference 2 flops an element and src, dst once; training 6, and src once more,
 *           from wherever it lies by then; backward 9, src and diff_dst twice, diff_src
 *           once
 * Numerics  statistics of tiles by the kernels, joined by Chan's formula; backward: sums of
 *           tiles by the kernels, added tile by tile, then thread by thread, so that with
 *           T tiles a thread a sum errs by no more than (135 + T + threads) u of the sum of
 *           magnitudes, in the blocked layout (263 + T + threads) u, u = 2^-24
 * Errors    none
 */
#include "ops/batchnorm_plan.h"

/* Rows of all planes before a tile. */
static int64_t rows_before(const struct dlb_batchnorm *p, int64_t tile)
{
    return tile / p->tiles * p->planes.rows + tile % p->tiles * p->rows;
}

struct dlb_batchnorm_member dlb_batchnorm_member_get(const struct dlb_batchnorm *p,
                                                     int rank)
{
    struct dlb_batchnorm_member m = {.p = p};
    int64_t lines[2];
    float *scratch = p->scratch + rank * DLB_BATCHNORM_SCRATCH * p->padded;
    dlb_share(p->planes.planes * p->tiles, rank / p->grid.columns, p->grid.rows,
              &m.tiles[0], &m.tiles[1]);
    dlb_share(p->padded / DLB_BATCHNORM_LINE, rank % p->grid.columns, p->grid.columns,
              &lines[0], &lines[1]);
    for (int i = 0; i < 2; i++) {
        m.rows[i] = rows_before(p, m.tiles[i]);
        m.channels[i] = dlb_min(lines[i] * DLB_BATCHNORM_LINE, p->width);
    }
    struct dlb_batchnorm_pair *pairs[] = {&m.tile, &m.part, &m.all};
    for (int i = 0; i < 3; i++, scratch += 2 * p->padded)
        *pairs[i] = (struct dlb_batchnorm_pair){scratch, scratch + p->padded};
    m.factor = scratch;
    m.slope = scratch + p->padded;
    m.offset = scratch + 2 * p->padded;
    m.mean = !p->s.train         ? dlb_batchnorm_shared(p, DLB_BATCHNORM_SHARED_MEAN)
             : p->grid.rows == 1 ? m.part.first
                                 : m.all.first;
    return m;
}

static struct dlb_batchnorm_pair from_channel(struct dlb_batchnorm_pair pair, int64_t c)
{
    return (struct dlb_batchnorm_pair){pair.first + c, pair.second + c};
}

/* Of the member's channels over all rows, once they are joined. */
static struct dlb_batchnorm_pair whole(const struct dlb_batchnorm_member *m, int64_t c)
{
    return from_channel(m->p->grid.rows > 1 ? m->all : m->part, c);
}

void dlb_batchnorm_visit(const struct dlb_batchnorm_member *m, int64_t begin, int64_t end,
                         bool backward, dlb_batchnorm_piece_fn *fn)
{
    const struct dlb_batchnorm *p = m->p;
    int64_t first = m->tiles[0] / p->tiles, last = dlb_div_up(m->tiles[1], p->tiles);
    int64_t units = dlb_div_up(end - begin, p->unit);
    /* Several units begin at whole ones; divisions take as long as some rows. */
    int64_t element = begin / p->unit * p->unit_stride + begin % p->unit,
            mask = begin / p->lanes * p->mask_vector,
            mask_unit = p->unit / p->lanes * p->mask_vector;
    for (int64_t i = 0; i < last - first; i++) {
        int64_t plane = backward ? last - 1 - i : first + i;
        int64_t tile_0 = dlb_max(0, m->tiles[0] - plane * p->tiles),
                tile_1 = dlb_min(p->tiles, m->tiles[1] - plane * p->tiles);
        for (int64_t k = 0; k < units; k++) {
            int64_t u = backward ? units - 1 - k : k;
            struct dlb_batchnorm_piece piece = {.channel = begin + u * p->unit};
            piece.channels = dlb_min(p->unit, end - piece.channel);
            for (int64_t t = tile_0; t < tile_1; t++) {
                int64_t row = (backward ? tile_0 + tile_1 - 1 - t : t) * p->rows;
                piece.rows = dlb_min(p->rows, p->planes.rows - row);
                piece.position = plane * p->planes.rows + row;
                piece.element =
                    plane * p->plane_stride + element + u * p->unit_stride + row * p->ld;
                piece.mask =
                    plane * p->mask_plane + mask + u * mask_unit + row * p->mask_ld;
                fn(m, &piece);
            }
        }
    }
}

static void add_moments(const struct dlb_batchnorm_member *m,
                        const struct dlb_batchnorm_piece *piece)
{
    const struct dlb_batchnorm *p = m->p;
    p->kernels->moments(p->src + piece->element, p->ld, piece->rows, piece->channels,
                        &p->weights, m->tile);
    p->kernels->merge(piece->channels, piece->position - m->rows[0],
                      from_channel(m->part, piece->channel), piece->rows, m->tile);
}

static void normalise(const struct dlb_batchnorm_member *m,
                      const struct dlb_batchnorm_piece *piece)
{
    const struct dlb_batchnorm *p = m->p;
    int64_t element = piece->element, c = piece->channel;
    struct dlb_batchnorm_normalise call = {
        .src = p->src + element,
        .dst = p->dst + element,
        .mask = p->keeps_mask ? p->mask + piece->mask : NULL,
        .ld = p->ld,
        .mask_ld = p->mask_ld,
        .rows = piece->rows,
        .channels = piece->channels,
        .mean = m->mean + c,
        .factor = m->factor + c,
        .beta = dlb_batchnorm_shared(p, DLB_BATCHNORM_SHARED_BETA) + c,
    };
    p->normalise(&call);
}

/* Of my channels begin … end-1 over all rows, from the parts of my column of the grid. */
static void join_parts(const struct dlb_batchnorm_member *m, int rank, int64_t begin,
                       int64_t end, dlb_batchnorm_merge_fn *merge)
{
    const struct dlb_batchnorm *p = m->p;
    int64_t count = 0;
    for (int other = rank % p->grid.columns; other < p->plan.threads;
         other += p->grid.columns) {
        struct dlb_batchnorm_member from = dlb_batchnorm_member_get(p, other);
        int64_t rows = from.rows[1] - from.rows[0];
        if (!rows)
            continue;
        merge(end - begin, count, from_channel(m->all, begin), rows,
              from_channel(from.part, begin));
        count += rows;
    }
}

/* Returns what is asked for, of training and before a backward pass; by one thread a
 * column of the grid. */
static void give_statistics(const struct dlb_batchnorm *p, int64_t begin,
                            struct dlb_batchnorm_finish *call)
{
    if (p->s.backward) {
        call->out_mean = dlb_batchnorm_shared(p, DLB_BATCHNORM_SHARED_OWN_MEAN) + begin;
        call->out_variance =
            dlb_batchnorm_shared(p, DLB_BATCHNORM_SHARED_OWN_VARIANCE) + begin;
        return;
    }
    call->out_mean = (float *)p->tensor[DLB_BATCHNORM_MEAN] + begin;
    call->out_variance = (float *)p->tensor[DLB_BATCHNORM_VARIANCE] + begin;
    call->out_running_mean = (float *)p->tensor[DLB_BATCHNORM_RUNNING_MEAN] + begin;
    call->out_running_variance =
        (float *)p->tensor[DLB_BATCHNORM_RUNNING_VARIANCE] + begin;
}

static void finish(const struct dlb_batchnorm_member *m, bool first_row, int64_t begin,
                   int64_t end)
{
    const struct dlb_batchnorm *p = m->p;
    struct dlb_batchnorm_pair all = whole(m, begin);
    struct dlb_batchnorm_finish call = {
        .channels = dlb_min(end, p->s.ic) - begin,
        .count = p->planes.planes * p->planes.rows,
        .m2 = all.second,
        .mean = all.first,
        .gamma = dlb_batchnorm_shared(p, DLB_BATCHNORM_SHARED_GAMMA) + begin,
        .factor = m->factor + begin,
        .running_mean = dlb_batchnorm_shared(p, DLB_BATCHNORM_SHARED_MEAN) + begin,
        .running_variance =
            dlb_batchnorm_shared(p, DLB_BATCHNORM_SHARED_VARIANCE) + begin,
    };
    if (first_row)
        give_statistics(p, begin, &call);
    p->kernels->finish(&call);
}

/* Of the member's block b; empty past its last one, so that every thread meets every
 * barrier. */
static void block_of(const struct dlb_batchnorm_member *m, int64_t b, int64_t *begin,
                     int64_t *end)
{
    *begin = dlb_min(m->channels[0] + b * m->p->block, m->channels[1]);
    *end = dlb_min(*begin + m->p->block, m->channels[1]);
}

void dlb_batchnorm_train(const struct dlb_batchnorm *p, const struct dlb_team *team)
{
    struct dlb_batchnorm_member m = dlb_batchnorm_member_get(p, team->rank);
    for (int64_t b = 0; b < p->blocks; b++) {
        int64_t begin, end;
        block_of(&m, b, &begin, &end);
        dlb_batchnorm_visit(&m, begin, end, false, add_moments);
        if (p->grid.rows > 1) {
            dlb_team_barrier(team);
            join_parts(&m, team->rank, begin, end, p->kernels->merge);
        }
        finish(&m, team->rank < p->grid.columns, begin, end);
        if (!p->s.backward)
            dlb_batchnorm_visit(&m, begin, end, true, normalise);
    }
}

/* Of the member's channels, from a variance that is known. */
static void make_factors(const struct dlb_batchnorm_member *m,
                         enum dlb_batchnorm_shared variance)
{
    const struct dlb_batchnorm *p = m->p;
    int64_t begin = m->channels[0], end = m->channels[1];
    p->kernels->factors(end - begin, dlb_batchnorm_shared(p, variance) + begin,
                        dlb_batchnorm_shared(p, DLB_BATCHNORM_SHARED_GAMMA) + begin,
                        m->factor + begin);
}

static void infer(const struct dlb_batchnorm *p, const struct dlb_team *team)
{
    struct dlb_batchnorm_member m = dlb_batchnorm_member_get(p, team->rank);
    make_factors(&m, DLB_BATCHNORM_SHARED_VARIANCE);
    dlb_batchnorm_visit(&m, m.channels[0], m.channels[1], false, normalise);
}

static struct dlb_batchnorm_diff diff_of(const struct dlb_batchnorm_member *m,
                                         const struct dlb_batchnorm_piece *piece)
{
    const struct dlb_batchnorm *p = m->p;
    int64_t element = piece->element, c = piece->channel;
    return (struct dlb_batchnorm_diff){
        .src = p->src + element,
        .diff = p->diff + element,
        .ld = p->ld,
        .rows = piece->rows,
        .channels = piece->channels,
        .mean = dlb_batchnorm_shared(p, DLB_BATCHNORM_SHARED_OWN_MEAN) + c,
        .factor = m->factor + c,
        .beta = dlb_batchnorm_shared(p, DLB_BATCHNORM_SHARED_BETA) + c,
    };
}

static void add_sums(const struct dlb_batchnorm_member *m,
                     const struct dlb_batchnorm_piece *piece)
{
    const struct dlb_batchnorm *p = m->p;
    struct dlb_batchnorm_diff call = diff_of(m, piece);
    bool first = piece->position == m->rows[0];
    p->backward->sums[p->s.relu](&call, first, m->tile,
                                 from_channel(m->part, piece->channel));
}

static void differentiate(const struct dlb_batchnorm_member *m,
                          const struct dlb_batchnorm_piece *piece)
{
    const struct dlb_batchnorm *p = m->p;
    struct dlb_batchnorm_diff call = diff_of(m, piece);
    call.to = p->dst + piece->element;
    call.slope = m->slope + piece->channel;
    call.offset = m->offset + piece->channel;
    p->differentiate(&call);
}

static void finish_backward(const struct dlb_batchnorm_member *m, bool first_row,
                            int64_t begin, int64_t end)
{
    const struct dlb_batchnorm *p = m->p;
    struct dlb_batchnorm_pair all = whole(m, begin);
    struct dlb_batchnorm_finish_backward call = {
        .channels = dlb_min(end, p->s.ic) - begin,
        .count = p->planes.planes * p->planes.rows,
        .sum = all.first,
        .product = all.second,
        .variance = dlb_batchnorm_shared(p, DLB_BATCHNORM_SHARED_OWN_VARIANCE) + begin,
        .factor = m->factor + begin,
        .slope = m->slope + begin,
        .offset = m->offset + begin,
    };
    if (first_row && p->s.scale)
        call.out_gamma = (float *)p->tensor[DLB_BATCHNORM_DIFF_GAMMA] + begin;
    if (first_row && p->s.shift)
        call.out_beta = (float *)p->tensor[DLB_BATCHNORM_DIFF_BETA] + begin;
    p->backward->finish(&call);
}

static void run_backward(const struct dlb_batchnorm *p, const struct dlb_team *team)
{
    struct dlb_batchnorm_member m = dlb_batchnorm_member_get(p, team->rank);
    make_factors(&m, DLB_BATCHNORM_SHARED_OWN_VARIANCE);
    for (int64_t b = 0; b < p->blocks; b++) {
        int64_t begin, end;
        block_of(&m, b, &begin, &end);
        dlb_batchnorm_visit(&m, begin, end, false, add_sums);
        if (p->grid.rows > 1) {
            dlb_team_barrier(team);
            join_parts(&m, team->rank, begin, end, p->backward->merge);
        }
        finish_backward(&m, team->rank < p->grid.columns, begin, end);
        dlb_batchnorm_visit(&m, begin, end, true, differentiate);
    }
}

void dlb_batchnorm_run(struct dlb_plan *plan, const struct dlb_team *team)
{
    const struct dlb_batchnorm *p = (struct dlb_batchnorm *)plan;
    if (p->s.backward)
        run_backward(p, team);
    else if (p->s.train)
        dlb_batchnorm_train(p, team);
    else
        infer(p, team);
    p->kernels->stream_fence();
}
