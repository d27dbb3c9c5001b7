/*
 * LSTM, GRU and RNN, forward: the driver around the register tiles and the element-wise
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
#include "ops/rnn_plan.h"

#include <string.h>

/* Where a layer reads or leaves states: element [t*n + row][unit]. */
struct place {
    float *base; /* NULL: nowhere */
    int64_t ld;
};

/* One layer and direction on its way through time, of one thread. */
struct walk {
    const struct dlb_rnn *p;
    const struct dlb_rnn_part *part;
    int64_t at; /* l*D + d */
    bool reverse;
    struct place input, out[DLB_RNN_OUTS];
    struct dlb_rnn_product product[DLB_RNN_PRODUCTS];
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
static struct place between(const struct dlb_rnn *p, int64_t l, int64_t d)
{
    const struct dlb_rnn_shape *s = &p->s;
    if (s->train)
        return (struct place){(float *)p->tensor[DLB_RNN_STATES] +
                                  (l * s->directions + d) * s->t * s->mb * s->dhc,
                              s->dhc};
    return (struct place){
        p->memory + p->lower + (d * 2 + l % 2) * s->t * s->mb * p->state_ld, p->state_ld};
}

static struct walk walk_make(const struct dlb_rnn *p, const struct dlb_rnn_part *part,
                             int64_t l, int64_t d)
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
        const struct dlb_rnn_matrix *m = &p->matrix[i];
        w.product[i] = (struct dlb_rnn_product){
            .k = m->k,
            .columns = m->vectors * p->lanes,
            .mr = i == DLB_RNN_PRODUCT_INPUT ? p->gemm.tiles->mr_max[p->nv] : p->mr,
            .packed = p->memory + m->packed + w.at * m->elements,
            .bias = m->biased ? p->memory + m->bias + w.at * m->vectors * p->lanes : NULL,
            .panels = {dlb_rnn_first_panel(p, m, part->blocks[0]),
                       dlb_rnn_first_panel(p, m, part->blocks[1])},
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
    const struct dlb_rnn *p = w->p;
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
    const struct dlb_rnn *p = w->p;
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

static int64_t group_columns(const struct dlb_rnn *p, const struct group *g,
                             int64_t gates)
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
static void multiply_group(const struct walk *w, enum dlb_rnn_product_kind product,
                           const struct group *g, bool back)
{
    const struct dlb_rnn_matrix *m = &w->p->matrix[product];
    dlb_rnn_multiply(&w->p->gemm, &w->product[product],
                     dlb_rnn_first_panel(w->p, m, g->begin),
                     dlb_rnn_first_panel(w->p, m, g->end), back);
}

/* X of the times begin … end-1 and some groups. */
static void multiply_input(struct walk *w, int64_t begin, int64_t end,
                           const int64_t *groups, bool back)
{
    const struct dlb_rnn *p = w->p;
    const struct dlb_rnn_part *part = w->part;
    struct dlb_rnn_product *q = &w->product[DLB_RNN_PRODUCT_INPUT];
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
            multiply_group(w, DLB_RNN_PRODUCT_INPUT, &g, back);
        }
    }
}

/* One phase of a step for one group: its product, then its gates. */
static void step_group(struct walk *w, enum dlb_rnn_product_kind product,
                       const struct group *g, bool back, int64_t x_row,
                       const struct dlb_rnn_cell *whole)
{
    const struct dlb_rnn *p = w->p;
    struct dlb_rnn_product *q = &w->product[product];
    int64_t unit = g->begin * p->lanes;
    q->ldc = group_columns(p, g, p->matrix[product].gates.n);
    multiply_group(w, product, g, back);
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
    p->cell[product](&call);
}

/* Step number, at time t; x_row: the first of its rows of X. */
static void step(struct walk *w, int64_t number, int64_t t, int64_t x_row)
{
    const struct dlb_rnn *p = w->p;
    const struct dlb_rnn_shape *s = &p->s;
    const struct dlb_rnn_part *part = w->part;
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
    if (s->train && s->gates > 1)
        call.gates = kept(w, DLB_RNN_GATES, call.gates_ld).base + at * call.gates_ld;
    bool back = number % 2;
    for (int product = DLB_RNN_PRODUCT_STATE; product < DLB_RNN_PRODUCTS; product++) {
        struct dlb_rnn_product *q = &w->product[product];
        if (!p->matrix[product].gates.n)
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
    const struct dlb_rnn *p = w->p;
    const struct dlb_rnn_part *part = w->part;
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
static void join(const struct dlb_rnn *p, const int64_t *rows, const int64_t *units)
{
    const struct dlb_rnn_shape *s = &p->s;
    float *dst = p->tensor[DLB_RNN_DST];
    const float *second = s->train ? between(p, s->l - 1, 1).base : p->memory + p->joined;
    for (int64_t row = rows[0]; row < rows[1]; row++)
        for (int64_t i = row * s->dhc + units[0]; i < row * s->dhc + units[1]; i++)
            dst[i] += second[i];
}

void dlb_rnn_run(struct dlb_plan *plan, const struct dlb_team *team)
{
    const struct dlb_rnn *p = (const struct dlb_rnn *)plan;
    const struct dlb_rnn_shape *s = &p->s;
    const struct dlb_rnn_part part = dlb_rnn_part_make(p, team);
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
