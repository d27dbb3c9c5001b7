/*
 * Forward plans of LSTM, GRU and RNN: what they hold, how weights are packed.  rnn_run.c computes.
 */
#include "ops/rnn_plan.h"
#include "core/dispatch.h"
#include "ops/rnn_back.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

DLB_ISA_TABLE(struct dlb_rnn_kernels, dlb_rnn);

const struct dlb_rnn_kernels *dlb_rnn_kernels(enum dlb_isa isa)
{
    return dlb_rnn_by_isa[isa];
}

enum {
    LINE = DLB_CACHE_LINE / sizeof(float),
    GROUP_BLOCKS = 32, /* blocks x rows that are worth a call of an element-wise kernel */
    GROUP_CUT = 16 << 10 /* elements of Z that should stay near */
};

struct dlb_rnn_part dlb_rnn_part_make(const struct dlb_rnn *p,
                                      const struct dlb_team *team)
{
    const struct dlb_rnn_grid *grid = &p->grid;
    int column = team->rank % grid->columns,
        row = team->rank / grid->columns % grid->rows,
        direction = team->rank / grid->columns / grid->rows;
    struct dlb_rnn_part part = {
        .group = {column, grid->columns, &p->barriers[direction * grid->rows + row]},
        .x = p->memory + p->x + team->rank * p->x_elements,
        .z = p->memory + p->z + team->rank * p->z_elements,
    };
    dlb_share(p->s.directions, direction, grid->directions, &part.directions[0],
              &part.directions[1]);
    dlb_share(p->s.mb, row, grid->rows, &part.rows[0], &part.rows[1]);
    dlb_share(dlb_div_up(p->blocks, p->together), column, grid->columns, &part.blocks[0],
              &part.blocks[1]);
    for (int i = 0; i < 2; i++) {
        part.blocks[i] = dlb_min(p->blocks, part.blocks[i] * p->together);
        part.units[i] = dlb_min(p->s.dhc, part.blocks[i] * p->lanes);
    }
    part.rows_n = part.rows[1] - part.rows[0];
    if (part.rows_n > 0)
        part.groups = dlb_div_up(part.blocks[1] - part.blocks[0], p->group_blocks);
    return part;
}

int64_t dlb_rnn_first_panel(const struct dlb_rnn *p, const struct dlb_rnn_matrix *m,
                            int64_t block)
{
    return dlb_div_up(block * m->gates.n, p->nv);
}

static void pack_panel(const struct dlb_rnn *p, const struct dlb_rnn_matrix *m,
                       int64_t panel, const float *weights, float *out)
{
    const struct dlb_rnn_shape *s = &p->s;
    int64_t first = panel * p->nv, end = dlb_min(m->vectors, first + p->nv);
    for (int64_t k = 0; k < m->k; k++)
        for (int64_t v = first; v < end; v++, out += p->lanes) {
            int64_t unit = v / m->gates.n * p->lanes,
                    gate = m->gates.first + v % m->gates.n,
                    n = dlb_min(p->lanes, s->dhc - unit);
            memcpy(out, weights + (k * s->gates + gate) * s->dhc + unit,
                   (size_t)n * sizeof *out);
            memset(out + n, 0, (size_t)(p->lanes - n) * sizeof *out);
        }
}

/* The row of the bias that starts gate's sum in this product, or -1. */
static int64_t bias_row(const struct dlb_rnn *p, const struct dlb_rnn_matrix *m,
                        int64_t gate)
{
    if (m == &p->matrix[DLB_RNN_PRODUCT_INPUT])
        return gate;
    return p->s.lbr && gate == p->s.gates - 1 ? p->s.gates : -1;
}

static void pack_bias(const struct dlb_rnn *p, const struct dlb_rnn_matrix *m,
                      const float *bias, float *out)
{
    for (int64_t v = 0; v < m->vectors; v++, out += p->lanes) {
        int64_t unit = v / m->gates.n * p->lanes,
                row = bias_row(p, m, m->gates.first + v % m->gates.n),
                n = row < 0 ? 0 : dlb_min(p->lanes, p->s.dhc - unit);
        memset(out, 0, (size_t)p->lanes * sizeof *out);
        if (n)
            memcpy(out, bias + row * p->s.dhc + unit, (size_t)n * sizeof *out);
    }
}

/* The share of one thread of one product's weights. */
static void pack(const struct dlb_rnn *p, const struct dlb_rnn_part *part,
                 const struct dlb_rnn_matrix *m, int rank, const float *weights,
                 const float *bias)
{
    const struct dlb_rnn_shape *s = &p->s;
    int64_t panels[2] = {dlb_rnn_first_panel(p, m, part->blocks[0]),
                         dlb_rnn_first_panel(p, m, part->blocks[1])},
            begin, end;
    int row = rank / p->grid.columns % p->grid.rows;
    dlb_share(panels[1] - panels[0], row, p->grid.rows, &begin, &end);
    for (int64_t l = 0; l < s->l; l++)
        for (int64_t d = part->directions[0]; d < part->directions[1]; d++) {
            int64_t at = l * s->directions + d;
            float *packed = p->memory + m->packed + at * m->elements;
            for (int64_t i = panels[0] + begin; i < panels[0] + end; i++)
                pack_panel(p, m, i, weights + at * m->k * s->gates * s->dhc,
                           packed + i * p->nv * p->lanes * m->k);
            if (m->biased && part->group.rank == 0 && row == 0)
                pack_bias(p, m, bias + at * s->bias_rows * s->dhc,
                          p->memory + m->bias + at * m->vectors * p->lanes);
        }
}

static enum dlb_status rnn_bind(struct dlb_plan *plan, void *const *tensor,
                                const struct dlb_team *team, struct dlb_error *error)
{
    struct dlb_rnn *p = (struct dlb_rnn *)plan;
    struct dlb_rnn_part part = dlb_rnn_part_make(p, team);
    (void)error;
    if (team->rank == 0)
        memcpy(p->tensor, tensor, sizeof p->tensor);
    for (int i = 0; i < DLB_RNN_PRODUCTS; i++)
        if (p->matrix[i].gates.n)
            pack(p, &part, &p->matrix[i], team->rank,
                 tensor[i == DLB_RNN_PRODUCT_INPUT ? DLB_RNN_WEIGHTS_LAYER
                                                   : DLB_RNN_WEIGHTS_ITER],
                 tensor[DLB_RNN_BIASES]);
    int64_t begin, end;
    dlb_share(p->x - p->state, team->rank, team->size, &begin, &end);
    memset(p->memory + p->state + begin, 0, (size_t)(end - begin) * sizeof(float));
    memset(part.x, 0, (size_t)p->x_elements * sizeof(float));
    memset(part.z, 0, (size_t)p->z_elements * sizeof(float));
    dlb_team_barrier(team);
    return DLB_OK;
}

static enum dlb_status rnn_fetch(struct dlb_plan *plan, const struct dlb_team *team,
                                 struct dlb_error *error)
{
    (void)plan, (void)team, (void)error;
    return DLB_OK;
}

static void rnn_release(struct dlb_plan *plan)
{
    struct dlb_rnn *p = (struct dlb_rnn *)plan;
    dlb_free(p->memory);
    dlb_free(p->barriers);
    free(p);
}

static const struct dlb_plan_class rnn_class = {
    .impl = "native",
    .spmd = true,
    .bind = rnn_bind,
    .run = dlb_rnn_run,
    .fetch = rnn_fetch,
    .release = rnn_release,
};

static void choose_cells(struct dlb_rnn *p)
{
    const struct dlb_rnn_kernels *k = p->kernels;
    p->cell[DLB_RNN_PRODUCT_STATE] = p->s.lstm    ? k->lstm
                                     : p->s.lbr   ? k->gru_linear
                                     : p->s.plain ? k->gru_reset
                                     : p->s.relu  ? k->relu
                                                  : k->tanh;
    p->cell[DLB_RNN_PRODUCT_RESET] = k->gru_state;
}

/* Room for so many elements, from a cache line on; returns its offset. */
static int64_t reserve(struct dlb_rnn *p, int64_t elements)
{
    int64_t at = p->elements;
    p->elements += dlb_round_up(elements, LINE);
    return at;
}

static void reserve_matrices(struct dlb_rnn *p)
{
    const struct dlb_rnn_shape *s = &p->s;
    int64_t n = s->l * s->directions;
    for (int i = 0; i < DLB_RNN_PRODUCTS; i++) {
        struct dlb_rnn_matrix *m = &p->matrix[i];
        m->gates = dlb_rnn_product_gates(s, i);
        m->k = i == DLB_RNN_PRODUCT_INPUT ? s->slc : s->dhc;
        m->vectors = p->blocks * m->gates.n;
        m->elements = dlb_round_up(m->vectors * p->lanes * m->k, LINE);
        m->packed = reserve(p, n * m->elements);
        m->biased = s->bias && (i == DLB_RNN_PRODUCT_INPUT ||
                                (s->lbr && i == DLB_RNN_PRODUCT_STATE));
        m->bias = reserve(p, m->biased ? n * m->vectors * p->lanes : 0);
    }
}

static void reserve_states(struct dlb_rnn *p, int threads)
{
    const struct dlb_rnn_shape *s = &p->s;
    p->state_ld = dlb_round_up(s->dhc, LINE) + LINE;
    int64_t rows = s->directions * s->mb * p->state_ld,
            rows_own = dlb_div_up(s->mb, p->grid.rows),
            blocks_own = p->together *
                         dlb_div_up(dlb_div_up(p->blocks, p->together), p->grid.columns);
    bool plain = p->matrix[DLB_RNN_PRODUCT_RESET].gates.n > 0;
    p->state = reserve(p, 2 * rows);
    p->reset = reserve(p, plain ? rows : 0);
    p->update = reserve(p, plain ? rows : 0);
    p->lower = reserve(p, s->l > 1 && !s->train ? 2 * s->t * rows : 0);
    p->joined =
        reserve(p, s->direction == DLB_RNN_SUM && !s->train ? s->t * s->mb * s->dhc : 0);
    p->x_elements =
        dlb_round_up(p->merge * rows_own * blocks_own * s->gates * p->lanes, LINE);
    /* Enough for a call; and where channels are cut as much as fits, since each part of
     * the rows is read once a group. */
    int64_t group =
        p->gemm.kc < s->dhc ? GROUP_CUT / (s->gates * p->lanes) : GROUP_BLOCKS;
    p->group_blocks = p->together * dlb_max(1, group / (rows_own * p->together));
    p->z_elements = dlb_round_up(rows_own * p->group_blocks * s->gates * p->lanes, LINE);
    p->x = reserve(p, threads * p->x_elements);
    p->z = reserve(p, threads * p->z_elements);
}

enum dlb_status dlb_rnn_plan(const struct dlb_rnn_shape *shape,
                             const struct dlb_target *target,
                             const struct dlb_candidate *candidate,
                             struct dlb_plan **plan, struct dlb_error *error)
{
    const int *tile = candidate->tile;
    const char *reason = dlb_rnn_refuse(shape, target, candidate);
    if (reason)
        return dlb_fail(error, DLB_UNSUPPORTED,
                        "This way of computing the recurrent layers is not legal here "
                        "(%s); take a candidate that the search space offers.",
                        reason);
    if (shape->back)
        return dlb_rnn_back_plan(shape, target, candidate, plan, error);
    struct dlb_rnn *p = calloc(1, sizeof *p);
    if (!p)
        return dlb_fail(error, DLB_NOMEM, "No memory for a plan of %zu bytes.",
                        sizeof *p);
    p->plan.class = &rnn_class;
    p->plan.threads = target->threads;
    p->plan.fetches_kept = shape->train;
    p->s = *shape;
    p->kernels = dlb_rnn_kernels(target->isa);
    choose_cells(p);
    p->gemm = dlb_rnn_gemm_make(target, candidate);
    p->lanes = p->gemm.lanes;
    p->nv = p->gemm.nv;
    p->mr = tile[DLB_RNN_TILE_MR];
    p->merge = tile[DLB_RNN_TILE_MERGE];
    p->block_rows = dlb_rnn_block_rows(shape, target, p->nv);
    p->grid = dlb_rnn_grid_make(shape, tile[DLB_RNN_TILE_SPLIT], target->threads,
                                p->lanes, p->nv);
    p->blocks = dlb_rnn_blocks(shape, p->lanes);
    p->together = dlb_rnn_blocks_together(shape, p->nv);
    reserve_matrices(p);
    reserve_states(p, target->threads);
    int groups = p->grid.directions * p->grid.rows;
    p->memory = dlb_alloc((size_t)p->elements * sizeof(float));
    p->barriers = dlb_alloc((size_t)groups * sizeof *p->barriers);
    if (!p->memory || !p->barriers) {
        rnn_release(&p->plan);
        return dlb_fail(error, DLB_NOMEM,
                        "No memory for %lld bytes of packed weights and scratch; try "
                        "fewer steps or a smaller problem.",
                        (long long)p->elements * (long long)sizeof(float));
    }
    for (int i = 0; i < groups; i++)
        dlb_barrier_init(&p->barriers[i]);
    p->plan.workspace_bytes = (size_t)p->elements * sizeof(float);
    snprintf(p->plan.version, sizeof p->plan.version, "%s", DLBENCH_VERSION);
    snprintf(p->plan.algorithm, sizeof p->plan.algorithm, "%s",
             dlb_rnn_algorithms[candidate->algorithm]);
    snprintf(p->plan.layout, sizeof p->plan.layout, "tnc");
    snprintf(p->plan.isa, sizeof p->plan.isa, "%s", dlb_isa_name(target->isa));
    *plan = &p->plan;
    return DLB_OK;
}
