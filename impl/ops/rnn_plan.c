/*
 * LSTM and GRU, forward: plan and driver around the register tiles and the element-wise
 * kernels.
 *
 *   X = W x + b for some steps at once; then step by step Z = U h, gates from X + Z
 *
 * Shapes    weights packed in bind: a column is a gate of a unit, in the order
 *           [block of units][gate][lanes], cut into panels [k][nv*lanes]; X and Z have
 *           the same columns.  src, dst and what training keeps are canonical in place;
 *           h also stands in a buffer of two steps with padded rows, from which the next
 *           step reads
 * Units     elements; a block is one vector of units
 * Tiles     mr rows x nr columns in registers; kc channels a pass over the rows; merge
 *           steps in one W x; panels are walked to and fro, from step to step, so that
 *           the last ones are met again while the caches have them
 * Work items and barriers   a grid of threads over directions x rows x units.  Threads of
 *           the same direction and rows meet after each step, plain gru also within;
 *           with one column of units nobody waits.  sum with directions apart: two more
 * Scratch   per thread X (merge * rows * columns) and Z (rows * a group of columns, in L1)
 * Cost      2*l*d*t*mb*gates*dhc*(slc+dhc) flops; least bytes: each operand once, but
 *           what exceeds the caches of U is read again each step
 * Numerics  each of X and Z is one chain of FMA per element in the order of k, X begins
 *           with the bias (Z of linear-before-reset with its own); one rounded addition
 *           joins them.  The result does not depend on tiles and threads
 * Errors    dlb_rnn_refuse refuses what this cannot do
 * Source    ops/rnn.h; gates side by side in the packed weights: Appleyard et al.,
 *           "Optimizing performance of recurrent neural networks on GPUs", 2016
 */
#include "core/brgemm.h"
#include "core/dispatch.h"
#include "ops/rnn_internal.h"
#include "ops/rnn_kernels.h"

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

/* One product's weights and bias, of all layers and directions. */
struct matrix {
    struct dlb_rnn_gate_range gates;
    int64_t k, vectors; /* vectors of columns */
    int64_t packed;     /* offset into memory; elements of one layer and direction */
    int64_t elements;
    int64_t bias; /* the same of the bias, which has a vector's lanes a vector */
    bool biased;
};

struct rnn {
    struct dlb_plan plan;
    struct dlb_rnn_shape s;
    const struct dlb_brgemm_kernels *gemm;
    const struct dlb_rnn_kernels *kernels;
    int lanes, mr, nv;
    int64_t kc, merge, block_rows;
    bool fetch_panel;
    struct dlb_rnn_grid grid;
    int64_t blocks, together, group_blocks;
    struct matrix matrix[DLB_RNN_PRODUCTS];
    /* Offsets into memory.  Rows of own states are state_ld apart. */
    float *memory;
    int64_t elements, state_ld;
    int64_t state;  /* [d][2][n][state_ld] */
    int64_t reset;  /* plain gru: r o h, and from d*n*state_ld on the update gate */
    int64_t update; /* [d][n][state_ld], both */
    int64_t lower;  /* [d][2][t][n][state_ld]: what a layer hands to the next one */
    int64_t joined; /* [t][n][dhc]: sum's second direction */
    int64_t x_elements, z_elements;
    int64_t x, z;                 /* [thread] */
    struct dlb_barrier *barriers; /* [directions][rows] of the grid */
    void *tensor[DLB_RNN_TENSORS];
};

/* What one thread does of each layer. */
struct part {
    int64_t directions[2], rows[2], blocks[2], units[2];
    int64_t rows_n, groups; /* groups of blocks; 0 when there is nothing to do */
    struct dlb_team group;  /* threads of the same directions and rows */
    float *x, *z;
};

static struct part part_make(const struct rnn *p, const struct dlb_team *team)
{
    const struct dlb_rnn_grid *grid = &p->grid;
    int column = team->rank % grid->columns,
        row = team->rank / grid->columns % grid->rows,
        direction = team->rank / grid->columns / grid->rows;
    struct part part = {
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

static int64_t first_panel(const struct rnn *p, const struct matrix *m, int64_t block)
{
    return dlb_div_up(block * m->gates.n, p->nv);
}

static void pack_panel(const struct rnn *p, const struct matrix *m, int64_t panel,
                       const float *weights, float *out)
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
static int64_t bias_row(const struct rnn *p, const struct matrix *m, int64_t gate)
{
    if (m == &p->matrix[DLB_RNN_PRODUCT_INPUT])
        return gate;
    return p->s.lbr && gate == p->s.gates - 1 ? p->s.gates : -1;
}

static void pack_bias(const struct rnn *p, const struct matrix *m, const float *bias,
                      float *out)
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
static void pack(const struct rnn *p, const struct part *part, const struct matrix *m,
                 int rank, const float *weights, const float *bias)
{
    const struct dlb_rnn_shape *s = &p->s;
    int64_t panels[2] = {first_panel(p, m, part->blocks[0]),
                         first_panel(p, m, part->blocks[1])},
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
    struct rnn *p = (struct rnn *)plan;
    struct part part = part_make(p, team);
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

/*
 * c[set*rows + i][column] = sum over k of a[set*a_set + i*lda + k] * weights[k][column],
 * i < rows, over the panels that the call names; column 0 is that of the first one.
 */
struct product {
    const struct matrix *m;
    const float *packed, *bias;
    int64_t panels[2]; /* the thread's, beyond which nothing is fetched */
    const float *a;
    int64_t lda, sets, a_set, rows, mr;
    float *c;
    int64_t ldc;
};

/* A pass over the rows: some channels of one panel. */
struct chunk {
    int64_t panel, at, k; /* channels at … at+k-1 */
    int nv;
    const float *b;
};

static struct chunk chunk_make(const struct rnn *p, const struct product *q,
                               int64_t panel, int64_t at)
{
    struct chunk chunk = {
        .panel = panel,
        .at = at,
        .k = dlb_min(p->kc, q->m->k - at),
        .nv = (int)dlb_min(p->nv, q->m->vectors - panel * p->nv),
    };
    chunk.b = q->packed + (panel * p->nv * q->m->k + at * chunk.nv) * p->lanes;
    return chunk;
}

/* Rows of one set, in tiles whose sizes differ by at most one. */
static void multiply_rows(struct dlb_brgemm *call, dlb_brgemm_fn *const *kernel,
                          int64_t rows, int64_t tiles, const float *fetch_end)
{
    int64_t small = rows / tiles, large = rows % tiles;
    for (int64_t i = 0; i < tiles; i++) {
        int64_t mr = small + (i < large);
        kernel[mr](call);
        call->a += mr * call->lda;
        call->c += mr * call->ldc;
        if (call->fetch) {
            call->fetch += call->k * DLB_BRGEMM_FETCH;
            if (call->fetch >= fetch_end)
                call->fetch = NULL;
        }
    }
}

/* One chunk; next is the one after it or NULL, c its columns. */
static void multiply_chunk(const struct rnn *p, const struct product *q,
                           const struct chunk *chunk, const struct chunk *next, float *c)
{
    static const int64_t zero = 0;
    const int64_t tiles = dlb_div_up(q->rows, q->mr);
    const float *fetch = p->fetch_panel && next ? next->b : NULL,
                *fetch_end = fetch ? fetch + next->k * next->nv * p->lanes : NULL;
    struct dlb_brgemm call = {
        .a_offset = &zero,
        .lda = q->lda,
        .b = chunk->b,
        .b_offset = &zero,
        .fetch = fetch,
        .batch = 1,
        .k = chunk->k,
        .ldc = q->ldc,
        .bias = q->bias ? q->bias + chunk->panel * p->nv * p->lanes : NULL,
        .n = chunk->nv * p->lanes,
        .flags = chunk->at ? DLB_BRGEMM_ACCUMULATE : 0,
    };
    for (int64_t set = 0; set < q->sets; set++) {
        call.a = q->a + set * q->a_set + chunk->at;
        call.c = c + set * q->rows * q->ldc;
        multiply_rows(&call, p->gemm->tile[chunk->nv], q->rows, tiles, fetch_end);
    }
}

/* Panels begin … end-1, from the last one if back; all of them for one part of the
 * channels after the other, so that this part of the rows stays in L2. */
static void multiply(const struct rnn *p, const struct product *q, int64_t begin,
                     int64_t end, bool back)
{
    const int64_t first = back ? end - 1 : begin, last = back ? begin : end - 1,
                  step = back ? -1 : 1;
    struct chunk chunk = chunk_make(p, q, first, 0);
    for (bool more = true; more;) {
        float *c = q->c + (chunk.panel - begin) * p->nv * p->lanes;
        int64_t panel = chunk.panel + step, at = chunk.at;
        if (chunk.panel == last) {
            at += chunk.k;
            more = at < q->m->k;
            /* After all chunks the next group's first one. */
            panel = more ? first : panel;
            at = more ? at : 0;
        }
        if (panel < q->panels[0] || panel >= q->panels[1]) {
            multiply_chunk(p, q, &chunk, NULL, c);
            continue;
        }
        struct chunk next = chunk_make(p, q, panel, at);
        multiply_chunk(p, q, &chunk, &next, c);
        chunk = next;
    }
}

/* Where a layer reads or leaves states: element [t*n + row][unit]. */
struct place {
    float *base; /* NULL: nowhere */
    int64_t ld;
};

/* One layer and direction on its way through time, of one thread. */
struct walk {
    const struct rnn *p;
    const struct part *part;
    int64_t at; /* l*D + d */
    bool reverse;
    struct place input, out[DLB_RNN_OUTS];
    struct product product[DLB_RNN_PRODUCTS];
    float *state[2], *update, *reset;
};

/* A row of tensor t, [l,d,n,dhc] */
static float *iter_row(const struct walk *w, int t, int64_t row)
{
    const struct dlb_rnn_shape *s = &w->p->s;
    return (float *)w->p->tensor[t] + (w->at * s->mb + row) * s->dhc;
}

/* What tensor t, [l,d,t,n,...] with ld elements a row, has of this walk. */
static struct place kept(const struct walk *w, int t, int64_t ld)
{
    const struct dlb_rnn_shape *s = &w->p->s;
    return (struct place){(float *)w->p->tensor[t] + w->at * s->t * s->mb * ld, ld};
}

/* Where layer l of direction d leaves its states for the next one. */
static struct place between(const struct rnn *p, int64_t l, int64_t d)
{
    const struct dlb_rnn_shape *s = &p->s;
    if (s->train)
        return (struct place){(float *)p->tensor[DLB_RNN_STATES] +
                                  (l * s->directions + d) * s->t * s->mb * s->dhc,
                              s->dhc};
    return (struct place){
        p->memory + p->lower + (d * 2 + l % 2) * s->t * s->mb * p->state_ld, p->state_ld};
}

static struct walk walk_make(const struct rnn *p, const struct part *part, int64_t l,
                             int64_t d)
{
    const struct dlb_rnn_shape *s = &p->s;
    struct walk w = {
        .p = p,
        .part = part,
        .at = l * s->directions + d,
        .reverse = s->direction == DLB_RNN_R2L || d == 1,
        .input = {p->tensor[DLB_RNN_SRC], s->slc},
    };
    if (l > 0)
        w.input = between(p, l - 1, d);
    if (s->train || l + 1 < s->l)
        w.out[0] = between(p, l, d);
    if (l + 1 == s->l) {
        bool second = s->direction == DLB_RNN_SUM && d == 1;
        if (!second)
            w.out[1] =
                (struct place){(float *)p->tensor[DLB_RNN_DST] + d * s->dhc, s->dlc};
        else if (!s->train)
            w.out[1] = (struct place){p->memory + p->joined, s->dhc};
    }
    for (int i = 0; i < DLB_RNN_PRODUCTS; i++) {
        const struct matrix *m = &p->matrix[i];
        w.product[i] = (struct product){
            .m = m,
            .mr = i == DLB_RNN_PRODUCT_INPUT ? p->gemm->mr_max[p->nv] : p->mr,
            .packed = p->memory + m->packed + w.at * m->elements,
            .bias = m->biased ? p->memory + m->bias + w.at * m->vectors * p->lanes : NULL,
            .panels = {first_panel(p, m, part->blocks[0]),
                       first_panel(p, m, part->blocks[1])},
        };
    }
    int64_t rows = s->mb * p->state_ld;
    for (int i = 0; i < 2; i++)
        w.state[i] = p->memory + p->state + (d * 2 + i) * rows;
    w.reset = p->memory + p->reset + d * rows;
    w.update = p->memory + p->update + d * rows;
    return w;
}

/* The thread's rows and units of the states before the first step. */
static void start(const struct walk *w)
{
    const struct rnn *p = w->p;
    const struct dlb_rnn_shape *s = &p->s;
    const int64_t *units = w->part->units;
    size_t bytes = (size_t)(units[1] - units[0]) * sizeof(float);
    for (int64_t row = w->part->rows[0]; row < w->part->rows[1]; row++) {
        float *to[] = {w->state[0] + row * p->state_ld,
                       s->lstm ? iter_row(w, DLB_RNN_DST_ITER_C, row) : NULL};
        for (int i = 0; i < 1 + s->lstm; i++)
            if (s->init)
                memcpy(to[i] + units[0],
                       iter_row(w, i ? DLB_RNN_SRC_ITER_C : DLB_RNN_SRC_ITER, row) +
                           units[0],
                       bytes);
            else
                memset(to[i] + units[0], 0, bytes);
    }
}

/* The same after the last step. */
static void finish(const struct walk *w)
{
    const struct rnn *p = w->p;
    const struct dlb_rnn_shape *s = &p->s;
    const int64_t *units = w->part->units;
    size_t bytes = (size_t)(units[1] - units[0]) * sizeof(float);
    int64_t last = w->reverse ? 0 : (s->t - 1) * s->mb;
    for (int64_t row = w->part->rows[0]; row < w->part->rows[1]; row++) {
        memcpy(iter_row(w, DLB_RNN_DST_ITER, row) + units[0],
               w->state[s->t % 2] + row * p->state_ld + units[0], bytes);
        if (s->lstm && s->train)
            memcpy(iter_row(w, DLB_RNN_DST_ITER_C, row) + units[0],
                   kept(w, DLB_RNN_CELLS, s->dhc).base + (last + row) * s->dhc + units[0],
                   bytes);
    }
}

/* Blocks of the thread's group number i. */
struct group {
    int64_t begin, end;
};

static struct group group_make(const struct walk *w, int64_t i)
{
    int64_t begin = w->part->blocks[0] + i * w->p->group_blocks;
    return (struct group){begin, dlb_min(w->part->blocks[1], begin + w->p->group_blocks)};
}

static int64_t group_columns(const struct rnn *p, const struct group *g, int64_t gates)
{
    return (g->end - g->begin) * gates * p->lanes;
}

/* The group's X: the merged steps' rows, densely. */
static float *group_x(const struct walk *w, const struct group *g)
{
    const struct group before = {w->part->blocks[0], g->begin};
    return w->part->x +
           group_columns(w->p, &before, w->p->s.gates) * w->p->merge * w->part->rows_n;
}

/* The product's panels of a group. */
static void multiply_group(const struct walk *w, const struct product *q,
                           const struct group *g, bool back)
{
    multiply(w->p, q, first_panel(w->p, q->m, g->begin), first_panel(w->p, q->m, g->end),
             back);
}

/* X of the times begin … end-1 and some groups. */
static void multiply_input(struct walk *w, int64_t begin, int64_t end,
                           const int64_t *groups, bool back)
{
    const struct rnn *p = w->p;
    const struct part *part = w->part;
    struct product *q = &w->product[DLB_RNN_PRODUCT_INPUT];
    /* All rows of all steps are one matrix unless the batch is split. */
    const bool dense = part->rows_n == p->s.mb;
    const int64_t own = dense ? 1 : part->rows_n,
                  n = (end - begin) * (part->rows_n / own),
                  block = dlb_max(1, p->block_rows / own);
    q->lda = w->input.ld;
    q->a_set = dense ? w->input.ld : p->s.mb * w->input.ld;
    for (int64_t i = 0; i < n; i += block, back = !back) {
        int64_t sets = dlb_min(block, n - i);
        q->a = w->input.base + (begin * p->s.mb + part->rows[0]) * w->input.ld +
               i * q->a_set;
        q->sets = dense ? 1 : sets;
        q->rows = dense ? sets : own;
        for (int64_t k = groups[0]; k < groups[1]; k++) {
            struct group g = group_make(w, back ? groups[0] + groups[1] - 1 - k : k);
            q->ldc = group_columns(p, &g, p->s.gates);
            q->c = group_x(w, &g) + i * own * q->ldc;
            multiply_group(w, q, &g, back);
        }
    }
}

/* One phase of a step for one group: its product, then its gates. */
static void step_group(struct walk *w, enum dlb_rnn_product product,
                       const struct group *g, bool back, int64_t x_row,
                       const struct dlb_rnn_cell *whole)
{
    const struct rnn *p = w->p;
    struct product *q = &w->product[product];
    int64_t unit = g->begin * p->lanes;
    q->ldc = group_columns(p, g, q->m->gates.n);
    multiply_group(w, q, g, back);
    struct dlb_rnn_cell call = *whole;
    call.units = dlb_min(p->s.dhc, g->end * p->lanes) - unit;
    call.x_ld = group_columns(p, g, p->s.gates);
    call.x = group_x(w, g) + x_row * call.x_ld;
    call.u_ld = q->ldc;
    call.state += unit;
    call.next += unit;
    call.reset += unit;
    call.update += unit;
    for (int i = 0; i < DLB_RNN_OUTS; i++)
        if (call.out[i])
            call.out[i] += unit;
    if (call.cell)
        call.cell += unit;
    if (call.cell_from)
        call.cell_from += unit;
    if (call.gates)
        call.gates += unit;
    dlb_rnn_cell_fn *const cell = p->s.lstm  ? p->kernels->lstm
                                  : p->s.lbr ? p->kernels->gru_linear
                                  : product == DLB_RNN_PRODUCT_STATE
                                      ? p->kernels->gru_reset
                                      : p->kernels->gru_state;
    cell(&call);
}

/* Step number, at time t; x_row: the first of its rows of X. */
static void step(struct walk *w, int64_t number, int64_t t, int64_t x_row)
{
    const struct rnn *p = w->p;
    const struct dlb_rnn_shape *s = &p->s;
    const struct part *part = w->part;
    int64_t row = part->rows[0], own = row * p->state_ld, at = t * s->mb + row,
            before = (w->reverse ? t + 1 : t - 1) * s->mb + row;
    struct dlb_rnn_cell call = {
        .rows = part->rows_n,
        .u = part->z,
        .state = w->state[number % 2] + own,
        .next = w->state[(number + 1) % 2] + own,
        .state_ld = p->state_ld,
        .reset = w->reset + own,
        .update = w->update + own,
        .cell_ld = s->dhc,
        .gates_ld = s->gates * s->dhc,
        .gate_step = s->dhc,
    };
    for (int i = 0; i < DLB_RNN_OUTS; i++) {
        call.out_ld[i] = w->out[i].ld;
        call.out[i] = w->out[i].base ? w->out[i].base + at * w->out[i].ld : NULL;
    }
    if (s->lstm)
        call.cell_from = call.cell = iter_row(w, DLB_RNN_DST_ITER_C, row);
    if (s->train && (s->lstm || s->lbr)) {
        float *cells = kept(w, DLB_RNN_CELLS, s->dhc).base;
        call.cell = cells + at * s->dhc;
        if (s->lstm && number > 0)
            call.cell_from = cells + before * s->dhc;
    }
    if (s->train)
        call.gates = kept(w, DLB_RNN_GATES, call.gates_ld).base + at * call.gates_ld;
    bool back = number % 2;
    for (int product = DLB_RNN_PRODUCT_STATE; product < DLB_RNN_PRODUCTS; product++) {
        struct product *q = &w->product[product];
        if (!q->m->gates.n)
            break;
        q->a = product == DLB_RNN_PRODUCT_RESET ? call.reset : call.state;
        q->lda = p->state_ld;
        q->sets = 1;
        q->rows = part->rows_n;
        q->c = part->z;
        for (int64_t i = 0; i < part->groups; i++) {
            int64_t k = back ? part->groups - 1 - i : i;
            struct group g = group_make(w, k);
            /* A step's X by itself is made just before it is used. */
            if (p->merge == 1 && product == DLB_RNN_PRODUCT_STATE)
                multiply_input(w, t, t + 1, (int64_t[]){k, k + 1}, back);
            step_group(w, product, &g, back, x_row, &call);
        }
        dlb_team_barrier(&part->group);
    }
}

static void walk(struct walk *w)
{
    const struct rnn *p = w->p;
    const struct part *part = w->part;
    const int64_t t = p->s.t;
    start(w);
    dlb_team_barrier(&part->group);
    for (int64_t first = 0; first < t; first += p->merge) {
        int64_t end = dlb_min(t, first + p->merge), begin = w->reverse ? t - end : first;
        if (p->merge > 1 && part->groups)
            multiply_input(w, begin, begin + end - first, (int64_t[]){0, part->groups},
                           false);
        for (int64_t number = first; number < end; number++) {
            int64_t time = w->reverse ? t - 1 - number : number;
            step(w, number, time, (time - begin) * part->rows_n);
        }
    }
    finish(w);
}

/* dst += the second direction, for [begin, end) of its rows t*n and the given units. */
static void join(const struct rnn *p, const int64_t *rows, const int64_t *units)
{
    const struct dlb_rnn_shape *s = &p->s;
    float *dst = p->tensor[DLB_RNN_DST];
    const float *second = s->train ? between(p, s->l - 1, 1).base : p->memory + p->joined;
    for (int64_t row = rows[0]; row < rows[1]; row++)
        for (int64_t i = row * s->dhc + units[0]; i < row * s->dhc + units[1]; i++)
            dst[i] += second[i];
}

static void rnn_run(struct dlb_plan *plan, const struct dlb_team *team)
{
    const struct rnn *p = (const struct rnn *)plan;
    const struct dlb_rnn_shape *s = &p->s;
    const struct part part = part_make(p, team);
    for (int64_t l = 0; l < s->l; l++)
        for (int64_t d = part.directions[0]; d < part.directions[1]; d++) {
            struct walk w = walk_make(p, &part, l, d);
            walk(&w);
        }
    if (s->direction != DLB_RNN_SUM)
        return;
    if (p->grid.directions == 1) {
        for (int64_t t = 0; t < s->t; t++)
            join(p, (int64_t[]){t * s->mb + part.rows[0], t * s->mb + part.rows[1]},
                 part.units);
        return;
    }
    int64_t rows[2];
    dlb_share(s->t * s->mb, team->rank, team->size, &rows[0], &rows[1]);
    dlb_team_barrier(team);
    join(p, rows, (int64_t[]){0, s->dhc});
    dlb_team_barrier(team);
}

static enum dlb_status rnn_fetch(struct dlb_plan *plan, const struct dlb_team *team,
                                 struct dlb_error *error)
{
    (void)plan, (void)team, (void)error;
    return DLB_OK;
}

static void rnn_release(struct dlb_plan *plan)
{
    struct rnn *p = (struct rnn *)plan;
    dlb_free(p->memory);
    dlb_free(p->barriers);
    free(p);
}

static const struct dlb_plan_class rnn_class = {
    .impl = "native",
    .spmd = true,
    .bind = rnn_bind,
    .run = rnn_run,
    .fetch = rnn_fetch,
    .release = rnn_release,
};

/* Room for so many elements, from a cache line on; returns its offset. */
static int64_t reserve(struct rnn *p, int64_t elements)
{
    int64_t at = p->elements;
    p->elements += dlb_round_up(elements, LINE);
    return at;
}

static void reserve_matrices(struct rnn *p)
{
    const struct dlb_rnn_shape *s = &p->s;
    int64_t n = s->l * s->directions;
    for (int i = 0; i < DLB_RNN_PRODUCTS; i++) {
        struct matrix *m = &p->matrix[i];
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

static void reserve_states(struct rnn *p, int threads)
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
    int64_t group = p->kc < s->dhc ? GROUP_CUT / (s->gates * p->lanes) : GROUP_BLOCKS;
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
    struct rnn *p = calloc(1, sizeof *p);
    if (!p)
        return dlb_fail(error, DLB_NOMEM, "No memory for a plan of %zu bytes.",
                        sizeof *p);
    p->plan.class = &rnn_class;
    p->plan.threads = target->threads;
    p->plan.fetches_kept = shape->train;
    p->s = *shape;
    p->gemm = dlb_brgemm_kernels(target->isa);
    p->kernels = dlb_rnn_kernels(target->isa);
    p->lanes = p->gemm->lanes;
    p->mr = tile[DLB_RNN_TILE_MR];
    p->nv = tile[DLB_RNN_TILE_NR] / p->lanes;
    p->kc = tile[DLB_RNN_TILE_KC];
    p->merge = tile[DLB_RNN_TILE_MERGE];
    p->block_rows = dlb_rnn_block_rows(shape, target, p->nv);
    p->fetch_panel = tile[DLB_RNN_TILE_PREFETCH] == DLB_RNN_PREFETCH_PANEL;
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
