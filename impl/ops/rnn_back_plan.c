/*
 * Backward plans of LSTM, GRU and RNN: what they hold, how weights are packed, the forward
 * pass that they need.  rnn_back_run.c computes.
 */
#include "core/dispatch.h"
#include "ops/rnn_back.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

DLB_ISA_TABLE(struct dlb_rnn_back_kernels, dlb_rnn_back);

const struct dlb_rnn_back_kernels *dlb_rnn_back_kernels(enum dlb_isa isa)
{
    return dlb_rnn_back_by_isa[isa];
}

enum {
    LINE = DLB_CACHE_LINE / sizeof(float),
    GROUP = 16 << 10, /* elements of z that should stay near */
    INPUT_KC = 256    /* channels of W^T in one pass over the rows */
};

struct dlb_rnn_back_part dlb_rnn_back_part_make(const struct dlb_rnn_back *p,
                                                const struct dlb_team *team)
{
    int column = team->rank % p->grid.columns, row = team->rank / p->grid.columns;
    struct dlb_rnn_back_part part = {
        .team = team,
        .group = {column, p->grid.columns, &p->barriers[row]},
        .z = p->memory + p->z + team->rank * p->z_elements,
        .row = p->memory + p->row + team->rank * p->slots * p->panels * p->width,
    };
    dlb_share(p->s.mb, row, p->grid.rows, &part.rows[0], &part.rows[1]);
    dlb_share(p->panels, column, p->grid.columns, &part.panels[0], &part.panels[1]);
    part.rows_n = part.rows[1] - part.rows[0];
    if (part.rows_n > 0)
        part.groups = dlb_div_up(part.panels[1] - part.panels[0], p->group_panels);
    return part;
}

/* One panel of W^T or U^T: columns are the inputs i of weights [i][gate][unit]. */
static void pack_panel(const struct dlb_rnn_back *p, const struct dlb_rnn_back_matrix *m,
                       int64_t panel, const float *weights, float *packed)
{
    const struct dlb_rnn_shape *s = &p->s;
    const int64_t first = panel * p->width, n = dlb_min(p->width, m->columns - first),
                  width = dlb_round_up(n, p->lanes), units = p->panels * p->width;
    float *out = packed + first * m->k;
    memset(out, 0, (size_t)(m->k * width) * sizeof *out);
    for (int gate = 0; gate < m->gates.n; gate++) {
        const struct dlb_rnn_turn turn = {
            .rows = n,
            .columns = s->dhc,
            .from = weights + (first * s->gates + m->gates.first + gate) * s->dhc,
            .from_ld = s->gates * s->dhc,
            .to = out + gate * units * width,
            .to_ld = width,
        };
        p->kernels->turn(&turn);
    }
}

static void pack(const struct dlb_rnn_back *p, const struct dlb_team *team,
                 const struct dlb_rnn_back_matrix *m, const float *weights)
{
    int64_t begin, end;
    dlb_share(dlb_div_up(m->columns, p->width), team->rank, team->size, &begin, &end);
    for (int64_t at = 0; at < p->s.l * p->s.directions; at++)
        for (int64_t panel = begin; panel < end; panel++)
            pack_panel(p, m, panel, weights + at * m->columns * p->s.gates * p->s.dhc,
                       p->memory + m->packed + at * m->elements);
}

/* Room for what a forward pass writes and nobody reads: dst and the final states. */
static enum dlb_status forward_make(struct dlb_rnn_back *p)
{
    struct dlb_rnn_shape s = p->s;
    struct dlb_candidate candidate;
    s.train = true;
    s.back = false;
    dlb_rnn_fallback(&s, &p->target, &candidate);
    int64_t states = s.l * s.directions * s.mb * s.dhc;
    p->unused = dlb_alloc((size_t)(s.t * s.mb * s.dlc + 2 * states) * sizeof *p->unused);
    return p->unused ? dlb_rnn_plan(&s, &p->target, &candidate, &p->forward, NULL)
                     : DLB_NOMEM;
}

static void forward_release(struct dlb_rnn_back *p)
{
    dlb_plan_release(p->forward);
    dlb_free(p->unused);
    p->forward = NULL;
    p->unused = NULL;
}

/* The forward training pass, which leaves gates, states and cells. */
static enum dlb_status run_forward(struct dlb_rnn_back *p, void *const *tensor,
                                   const struct dlb_team *team, struct dlb_error *error)
{
    const struct dlb_rnn_shape *s = &p->s;
    if (team->rank == 0)
        p->status = forward_make(p);
    dlb_team_barrier(team);
    if (p->status)
        return dlb_fail(error, p->status,
                        "No memory for the forward pass that goes before this backward "
                        "pass; try fewer steps or a smaller problem.");
    float *dst_iter = p->unused + s->t * s->mb * s->dlc;
    void *forward[DLB_RNN_TENSORS] = {
        [DLB_RNN_DST] = p->unused,
        [DLB_RNN_DST_ITER] = dst_iter,
        [DLB_RNN_DST_ITER_C] = dst_iter + s->l * s->directions * s->mb * s->dhc,
        [DLB_RNN_GATES] = p->memory + p->gates,
        [DLB_RNN_STATES] = p->memory + p->states,
        [DLB_RNN_CELLS] = p->memory + p->cells,
    };
    for (int i = 0; i < DLB_RNN_DST; i++)
        forward[i] = tensor[i];
    enum dlb_status status = p->forward->class->bind(p->forward, forward, team, error);
    if (!status)
        p->forward->class->run(p->forward, team);
    dlb_team_barrier(team);
    if (team->rank == 0)
        forward_release(p);
    return status;
}

static enum dlb_status back_bind(struct dlb_plan *plan, void *const *tensor,
                                 const struct dlb_team *team, struct dlb_error *error)
{
    struct dlb_rnn_back *p = (struct dlb_rnn_back *)plan;
    int64_t begin, end;
    enum dlb_status status = run_forward(p, tensor, team, error);
    if (status)
        return status;
    if (team->rank == 0) {
        memcpy(p->tensor, tensor, sizeof p->tensor);
        for (int64_t i = 0; i < p->merge * p->s.mb; i++)
            p->memory[p->ones + i] = 1;
    }
    for (int i = 0; i < DLB_RNN_PRODUCTS; i++)
        if (p->matrix[i].gates.n)
            pack(p, team, &p->matrix[i],
                 tensor[i == DLB_RNN_PRODUCT_INPUT ? DLB_RNN_WEIGHTS_LAYER
                                                   : DLB_RNN_WEIGHTS_ITER]);
    /* Sums to the last element: what is never written must be zero. */
    dlb_share(p->elements - p->sums, team->rank, team->size, &begin, &end);
    memset(p->memory + p->sums + begin, 0, (size_t)(end - begin) * sizeof(float));
    dlb_team_barrier(team);
    return DLB_OK;
}

static enum dlb_status back_fetch(struct dlb_plan *plan, const struct dlb_team *team,
                                  struct dlb_error *error)
{
    (void)plan, (void)team, (void)error;
    return DLB_OK;
}

static void back_release(struct dlb_plan *plan)
{
    struct dlb_rnn_back *p = (struct dlb_rnn_back *)plan;
    forward_release(p);
    dlb_free(p->memory);
    dlb_free(p->barriers);
    free(p->offsets);
    free(p);
}

static const struct dlb_plan_class back_class = {
    .impl = "native",
    .spmd = true,
    .bind = back_bind,
    .run = dlb_rnn_back_run,
    .fetch = back_fetch,
    .release = back_release,
};

/* Room for so many elements, from a cache line on; returns its offset. */
static int64_t reserve(struct dlb_rnn_back *p, int64_t elements)
{
    int64_t at = p->elements;
    p->elements += dlb_round_up(elements, LINE);
    return at;
}

/* An odd number of cache lines, so that rows so far apart do not meet in the same sets. */
static int64_t odd_lines(int64_t elements)
{
    return (dlb_div_up(elements, LINE) | 1) * LINE;
}

static void reserve_matrices(struct dlb_rnn_back *p)
{
    const struct dlb_rnn_shape *s = &p->s;
    for (int i = 0; i < DLB_RNN_PRODUCTS; i++) {
        struct dlb_rnn_back_matrix *m = &p->matrix[i];
        m->gates = dlb_rnn_product_gates(s, i);
        m->k = m->gates.n * p->panels * p->width;
        m->columns = i == DLB_RNN_PRODUCT_INPUT ? s->slc : s->dhc;
        m->elements = dlb_round_up(m->k * dlb_round_up(m->columns, p->lanes), LINE);
        m->packed = reserve(p, s->l * s->directions * m->elements);
    }
}

static void reserve_rest(struct dlb_rnn_back *p)
{
    const struct dlb_rnn_shape *s = &p->s;
    const int64_t rows = p->merge * s->mb, layers = s->l * s->directions,
                  kept = layers * s->t * s->mb * s->dhc;
    const int threads = p->target.threads;
    p->gates = reserve(p, s->gates > 1 ? s->gates * kept : 0);
    p->states = reserve(p, kept);
    p->cells = reserve(p, s->lstm || s->lbr ? kept : 0);
    p->ones = reserve(p, rows);
    p->panel_step = odd_lines(rows * p->width);
    p->sums_elements = p->slots * p->panels * p->panel_step;
    p->sums = reserve(p, (p->merge < s->t ? 2 : 1) * p->sums_elements);
    p->state_ld = odd_lines(s->dhc);
    p->carry = reserve(p, s->mb * p->state_ld);
    p->between = reserve(p, s->l > 1 ? s->t * s->mb * s->dhc : 0);
    p->turned_ld = odd_lines(rows);
    p->turned = reserve(p, (s->slc + (s->plain ? 2 : 1) * s->dhc) * p->turned_ld);
    p->z_ld = p->group_panels * p->width;
    p->z_elements = dlb_round_up(dlb_div_up(s->mb, p->grid.rows) * p->z_ld, LINE);
    p->z = reserve(p, threads * p->z_elements);
    p->row = reserve(p, threads * p->slots * p->panels * p->width);
}

static bool make_offsets(struct dlb_rnn_back *p)
{
    int64_t n = 0;
    for (int i = 0; i < DLB_RNN_PRODUCTS; i++)
        n += p->matrix[i].gates.n * p->panels;
    int64_t *at = p->offsets = malloc((size_t)n * sizeof *at);
    for (int i = 0; at && i < DLB_RNN_PRODUCTS; i++) {
        struct dlb_rnn_back_matrix *m = &p->matrix[i];
        m->a_offset = at;
        for (int gate = 0; gate < m->gates.n; gate++)
            for (int64_t panel = 0; panel < p->panels; panel++) {
                int64_t slot = dlb_rnn_back_slot(&p->s, i, m->gates.first + gate);
                *at++ = (slot * p->panels + panel) * p->panel_step;
            }
    }
    return at;
}

static void choose_blocks(struct dlb_rnn_back *p)
{
    const struct dlb_rnn_shape *s = &p->s;
    const int64_t half = (int64_t)p->target.l2_bytes / 2 / (int64_t)sizeof(float),
                  rows_own = dlb_div_up(s->mb, p->grid.rows),
                  mr = p->gemm.tiles->mr_max[p->nv];
    const int64_t kc = dlb_min(INPUT_KC, s->gates * p->panels * p->width);
    p->input_gemm = p->gemm;
    p->input_gemm.kc = kc;
    p->input_gemm.fetch_panel = true;
    p->block_rows = dlb_max(1, half / kc / mr) * mr;
    p->block_inputs = dlb_max(1, half / (p->merge * s->mb) / mr) * mr;
    p->group_panels = dlb_min(p->panels, dlb_max(1, GROUP / (rows_own * p->width)));
}

enum dlb_status dlb_rnn_back_plan(const struct dlb_rnn_shape *shape,
                                  const struct dlb_target *target,
                                  const struct dlb_candidate *candidate,
                                  struct dlb_plan **plan, struct dlb_error *error)
{
    const int *tile = candidate->tile;
    struct dlb_rnn_back *p = calloc(1, sizeof *p);
    if (!p)
        return dlb_fail(error, DLB_NOMEM, "No memory for a plan of %zu bytes.",
                        sizeof *p);
    p->plan.class = &back_class;
    p->plan.threads = target->threads;
    p->s = *shape;
    p->target = *target;
    p->gemm = dlb_rnn_gemm_make(target, candidate);
    p->kernels = dlb_rnn_back_kernels(target->isa);
    p->lanes = p->gemm.lanes;
    p->nv = p->gemm.nv;
    p->mr = tile[DLB_RNN_TILE_MR];
    p->width = p->nv * p->lanes;
    p->merge = tile[DLB_RNN_TILE_MERGE];
    p->grid = dlb_rnn_grid_make(shape, tile[DLB_RNN_TILE_SPLIT], target->threads,
                                p->lanes, p->nv);
    p->slots = shape->gates + shape->lbr;
    p->panels = dlb_div_up(shape->dhc, p->width);
    choose_blocks(p);
    reserve_matrices(p);
    reserve_rest(p);
    p->memory = dlb_alloc((size_t)p->elements * sizeof(float));
    p->barriers = dlb_alloc((size_t)p->grid.rows * sizeof *p->barriers);
    if (!make_offsets(p) || !p->memory || !p->barriers) {
        back_release(&p->plan);
        return dlb_fail(error, DLB_NOMEM,
                        "No memory for %lld bytes of packed weights and scratch; try "
                        "fewer steps or a smaller problem.",
                        (long long)p->elements * (long long)sizeof(float));
    }
    for (int i = 0; i < p->grid.rows; i++)
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
