/*
 * LSTM, GRU and RNN, backward through time: the driver around the register tiles and the
 * element-wise kernels.
 *
 *   step by step from the last: Z = S U^T, S being the sums' gradients of the step behind;
 *   from Z and what comes in those of this step.  For a chunk of steps at once: gradients
 *   of x = S W^T, of W = X^T S, of U = H^T S (H the states before), of b = 1^T S
 *
 * Shapes    S in panels, see ops/rnn_back.h; W^T and U^T packed in bind, panels of nv*lanes
 *           inputs over k = [gate][unit]; X^T and H^T turned for each chunk.  Everything
 *           that comes in or goes out is canonical and used in place; what the forward
 *           pass keeps is made in bind
 * Units     elements; a panel is nv vectors of units of one gate
 * Tiles     mr rows x nr columns in registers; kc channels a pass over the rows in S U^T;
 *           merge steps in a chunk; panels are walked to and fro
 * Work items and barriers   steps: a grid of threads over rows x units; threads of the same
 *           rows meet after each step, plain gru also within.  After a chunk all meet, then
 *           share the columns of x, the rows of W and U, and the panels of b
 * Scratch   per thread Z of a group of panels; shared S of one or two chunks, X^T and H^T
 * Cost      4*l*d*t*mb*gates*dhc*(slc+dhc) flops; gradients of weights are read and written
 *           once a chunk
 * Numerics  each sum is a chain of FMA per element, over [gate][unit], or over the rows of
 *           a chunk in the sequence's order, the last chunk first.  The result depends on
 *           no other tile than merge, and not on threads
 * Errors    dlb_rnn_refuse refuses what this cannot do
 * Source    ops/rnn.h; Werbos, "Backpropagation through time: what it does and how to do
 *           it", 1990
 */
#include "ops/rnn_back.h"

#include <string.h>

/* One layer and direction on its way back, of one thread. */
struct walk {
    const struct dlb_rnn_back *p;
    const struct dlb_rnn_back_part *part;
    int64_t l, d, at; /* at: l*D + d */
    bool reverse;
    const float *out; /* the gradient of what the layer makes, [t*n][out_ld] */
    int64_t out_ld;
    struct dlb_rnn_product product[DLB_RNN_PRODUCTS];
};

/* Steps begin … end-1 by their number on the way, and their sums. */
struct chunk {
    int64_t begin, end;
    int64_t first; /* the least position in the sequence */
    float *sums;
};

static int64_t time_of(const struct walk *w, int64_t number)
{
    return w->reverse ? w->p->s.t - 1 - number : number;
}

/* A row of tensor t, [l,d,n,dhc]. */
static float *iter_row(const struct walk *w, int t, int64_t row)
{
    const struct dlb_rnn_shape *s = &w->p->s;
    return (float *)w->p->tensor[t] + (w->at * s->mb + row) * s->dhc;
}

/* A row of what the forward pass kept at offset, [l,d,t,n][ld]. */
static const float *kept_row(const struct walk *w, int64_t offset, int64_t ld, int64_t t,
                             int64_t row)
{
    const struct dlb_rnn_shape *s = &w->p->s;
    return w->p->memory + offset + ((w->at * s->t + t) * s->mb + row) * ld;
}

/* The same of states or cells before a step; NULL for zeros. */
static const float *before_row(const struct walk *w, int64_t offset, int tensor,
                               int64_t number, int64_t row)
{
    const struct dlb_rnn_shape *s = &w->p->s;
    if (number > 0)
        return kept_row(w, offset, s->dhc, time_of(w, number - 1), row);
    return s->init ? iter_row(w, tensor, row) : NULL;
}

static struct walk walk_make(const struct dlb_rnn_back *p,
                             const struct dlb_rnn_back_part *part, int64_t l, int64_t d)
{
    const struct dlb_rnn_shape *s = &p->s;
    struct walk w = {
        .p = p,
        .part = part,
        .l = l,
        .d = d,
        .at = l * s->directions + d,
        .reverse = s->direction == DLB_RNN_R2L || d == 1,
        .out = p->memory + p->between,
        .out_ld = s->dhc,
    };
    if (l + 1 == s->l) {
        w.out = (const float *)p->tensor[DLB_RNN_DIFF_DST] +
                (s->direction == DLB_RNN_CONCAT ? d * s->dhc : 0);
        w.out_ld = s->dlc;
    }
    for (int i = 0; i < DLB_RNN_PRODUCTS; i++) {
        const struct dlb_rnn_back_matrix *m = &p->matrix[i];
        w.product[i] = (struct dlb_rnn_product){
            .packed = p->memory + m->packed + w.at * m->elements,
            .k = m->k,
            .columns = m->columns,
            .panels = {part->panels[0], part->panels[1]},
            .lda = p->width,
            .a_width = p->width,
            .a_offset = m->a_offset,
            .sets = 1,
            .rows = part->rows_n,
            .mr = p->mr,
            .c = part->z,
            .ldc = p->z_ld,
        };
    }
    return w;
}

/* The chunk that ends with step number end-1; chunks take turns in memory. */
static struct chunk chunk_make(const struct walk *w, int64_t end, int64_t turn)
{
    const struct dlb_rnn_back *p = w->p;
    struct chunk chunk = {.begin = dlb_max(0, end - p->merge), .end = end};
    chunk.first = time_of(w, w->reverse ? end - 1 : chunk.begin);
    chunk.sums = p->memory + p->sums;
    if (p->merge < p->s.t)
        chunk.sums += turn % 2 * p->sums_elements;
    return chunk;
}

/* The first of the thread's rows of a step, in the panels of slot 0. */
static float *step_sums(const struct walk *w, const struct chunk *chunk, int64_t number)
{
    int64_t row = (time_of(w, number) - chunk->first) * w->p->s.mb + w->part->rows[0];
    return chunk->sums + row * w->p->width;
}

/* Panels of the thread's group number i. */
struct group {
    int64_t begin, end;
};

static struct group group_make(const struct walk *w, int64_t i)
{
    int64_t begin = w->part->panels[0] + i * w->p->group_panels;
    return (struct group){begin, dlb_min(w->part->panels[1], begin + w->p->group_panels)};
}

/* Makes the rows of sums that a product reads its factor; a single one in one piece, which
 * streams of weights want. */
static void choose_rows(const struct walk *w, struct dlb_rnn_product *q,
                        const struct dlb_rnn_back_matrix *m, const float *sums)
{
    const int64_t width = w->p->width;
    q->a = sums;
    q->a_offset = m->a_offset;
    if (q->rows != 1)
        return;
    for (int64_t i = 0; i < m->k / width; i++)
        memcpy(w->part->row + i * width, sums + m->a_offset[i],
               (size_t)width * sizeof(float));
    q->a = w->part->row;
    q->a_offset = NULL;
}

/* Moves what is there to a group's first unit. */
static void move_to_group(const struct walk *w, const struct group *g,
                          struct dlb_rnn_back_cell *call)
{
    const struct dlb_rnn_back *p = w->p;
    const int64_t unit = g->begin * p->width;
    const float **read[] = {&call->out,   &call->last, &call->gates,
                            &call->state, &call->cell, &call->cell_from};
    for (size_t i = 0; i < sizeof read / sizeof *read; i++)
        if (*read[i])
            *read[i] += unit;
    call->carry += unit;
    call->units = dlb_min(p->s.dhc, g->end * p->width) - unit;
    for (int64_t slot = 0; slot < p->slots; slot++)
        call->sum[slot] += g->begin * p->panel_step;
}

/* A product with the sums given, or none, and what follows for all groups. */
static void phase(struct walk *w, enum dlb_rnn_product_kind product, const float *sums,
                  dlb_rnn_back_fn *cell, const struct dlb_rnn_back_cell *whole, bool back)
{
    const struct dlb_rnn_back *p = w->p;
    struct dlb_rnn_product *q = &w->product[product];
    if (sums && w->part->groups)
        choose_rows(w, q, &p->matrix[product], sums);
    for (int64_t i = 0; i < w->part->groups; i++) {
        struct group g = group_make(w, back ? w->part->groups - 1 - i : i);
        struct dlb_rnn_back_cell call = *whole;
        move_to_group(w, &g, &call);
        call.z = sums ? w->part->z : NULL;
        if (sums)
            dlb_rnn_multiply(&p->gemm, q, g.begin, g.end, back);
        cell(&call);
    }
}

/* Step number; behind: the sums of the one after it, or NULL. */
static void step(struct walk *w, const struct chunk *chunk, int64_t number,
                 const float *behind)
{
    const struct dlb_rnn_back *p = w->p;
    const struct dlb_rnn_shape *s = &p->s;
    const struct dlb_rnn_back_kernels *k = p->kernels;
    const int64_t row = w->part->rows[0], t = time_of(w, number);
    const bool back = number % 2;
    float *sums = step_sums(w, chunk, number);
    struct dlb_rnn_back_cell call = {
        .rows = w->part->rows_n,
        .out = w->out + (t * s->mb + row) * w->out_ld,
        .out_ld = w->out_ld,
        .z_ld = p->z_ld,
        .last = behind ? NULL : iter_row(w, DLB_RNN_DIFF_DST_ITER, row),
        .last_ld = s->dhc,
        .carry = p->memory + p->carry + row * p->state_ld,
        .carry_ld = p->state_ld,
        .gates = s->gates > 1 ? kept_row(w, p->gates, s->gates * s->dhc, t, row) : NULL,
        .gates_ld = s->gates * s->dhc,
        .gate_step = s->dhc,
        .state_ld = s->dhc,
        .cell_ld = s->dhc,
        .width = p->width,
        .panel_step = p->panel_step,
    };
    for (int64_t slot = 0; slot < p->slots; slot++)
        call.sum[slot] = sums + slot * p->panels * p->panel_step;
    if (s->lstm)
        call.cell_from = before_row(w, p->cells, DLB_RNN_SRC_ITER_C, number, row);
    else if (s->gates > 1)
        call.state = before_row(w, p->states, DLB_RNN_SRC_ITER, number, row);
    else
        call.state = kept_row(w, p->states, s->dhc, t, row);
    if (s->lstm || s->lbr)
        call.cell = kept_row(w, p->cells, s->dhc, t, row);
    phase(w, DLB_RNN_PRODUCT_STATE, behind,
          s->lstm    ? k->lstm
          : s->lbr   ? k->gru_linear
          : s->plain ? k->gru_state
          : s->relu  ? k->relu
                     : k->tanh,
          &call, back);
    if (s->plain) {
        dlb_team_barrier(&w->part->group);
        phase(w, DLB_RNN_PRODUCT_RESET, sums, k->gru_reset, &call, back);
    }
    dlb_team_barrier(&w->part->group);
}

/* What is carried into the last step, for the thread's rows and units. */
static void start(const struct walk *w)
{
    const struct dlb_rnn_back *p = w->p;
    const int64_t unit = w->part->panels[0] * p->width,
                  end = dlb_min(p->s.dhc, w->part->panels[1] * p->width);
    if (end <= unit)
        return;
    const size_t bytes = (size_t)(end - unit) * sizeof(float);
    for (int64_t row = w->part->rows[0]; row < w->part->rows[1]; row++) {
        float *carry = p->memory + p->carry + row * p->state_ld + unit;
        if (p->s.lstm)
            memcpy(carry, iter_row(w, DLB_RNN_DIFF_DST_ITER_C, row) + unit, bytes);
        else
            memset(carry, 0, bytes);
    }
}

/* Gradients of the initial states, from the sums of the first step. */
static void finish(struct walk *w, const float *sums)
{
    const struct dlb_rnn_back *p = w->p;
    const struct dlb_rnn_shape *s = &p->s;
    struct dlb_rnn_product *q = &w->product[DLB_RNN_PRODUCT_STATE];
    if (w->part->groups)
        choose_rows(w, q, &p->matrix[DLB_RNN_PRODUCT_STATE], sums);
    for (int64_t i = 0; i < w->part->groups; i++) {
        struct group g = group_make(w, i);
        const int64_t unit = g.begin * p->width,
                      n = dlb_min(s->dhc, g.end * p->width) - unit;
        dlb_rnn_multiply(&p->gemm, q, g.begin, g.end, false);
        for (int64_t r = 0; r < w->part->rows_n; r++) {
            const int64_t row = w->part->rows[0] + r;
            const float *carry = p->memory + p->carry + row * p->state_ld + unit,
                        *z = w->part->z + r * p->z_ld;
            float *h = iter_row(w, DLB_RNN_DIFF_SRC_ITER, row) + unit;
            for (int64_t u = 0; u < n; u++)
                h[u] = z[u] + (s->gates == 3 ? carry[u] : 0);
            if (s->lstm)
                memcpy(iter_row(w, DLB_RNN_DIFF_SRC_ITER_C, row) + unit, carry,
                       (size_t)n * sizeof *carry);
        }
    }
}

/* The thread's share of n rows in whole tiles. */
static void tiles_share(const struct walk *w, int64_t n, int64_t *begin, int64_t *end)
{
    const int64_t mr = w->p->gemm.tiles->mr_max[w->p->nv];
    dlb_share(dlb_div_up(n, mr), w->part->team->rank, w->part->team->size, begin, end);
    *begin = dlb_min(n, *begin * mr);
    *end = dlb_min(n, *end * mr);
}

/* Panel number i of a chunk's sums, of the gates of a product one after the other. */
static const float *panel_of(const struct walk *w, const struct chunk *chunk,
                             enum dlb_rnn_product_kind product, int64_t i)
{
    return chunk->sums + w->p->matrix[product].a_offset[i];
}

/* Rows begin … end-1 of the turned matrix at turned, which is the factor of some gates,
 * times the chunk's sums: the gradient of their weights, [row][gate][unit] at diff. */
static void multiply_turned(const struct walk *w, const struct chunk *chunk,
                            const float *turned, int64_t begin, int64_t end,
                            enum dlb_rnn_product_kind product, float *diff)
{
    static const int64_t zero = 0;
    const struct dlb_rnn_back *p = w->p;
    const struct dlb_rnn_shape *s = &p->s;
    const struct dlb_rnn_gate_range gates = p->matrix[product].gates;
    const int64_t mr = p->gemm.tiles->mr_max[p->nv];
    for (int64_t first = begin; first < end; first += p->block_inputs) {
        const int64_t n = dlb_min(p->block_inputs, end - first),
                      tiles = dlb_div_up(n, mr), small = n / tiles, large = n % tiles;
        for (int64_t i = 0; i < gates.n * p->panels; i++) {
            const int64_t gate = gates.first + i / p->panels, panel = i % p->panels,
                          unit = panel * p->width,
                          units = dlb_min(p->width, s->dhc - unit);
            struct dlb_brgemm call = {
                .a = turned + first * p->turned_ld,
                .a_offset = &zero,
                .lda = p->turned_ld,
                .b = panel_of(w, chunk, product, i),
                .b_offset = &zero,
                .batch = 1,
                .k = (chunk->end - chunk->begin) * s->mb,
                .c = diff + (first * s->gates + gate) * s->dhc + unit,
                .ldc = s->gates * s->dhc,
                .n = (int)units,
                .flags = chunk->end < s->t ? DLB_BRGEMM_ACCUMULATE : 0,
            };
            for (int64_t tile = 0; tile < tiles; tile++) {
                int64_t rows = small + (tile < large);
                if (tile + 1 < tiles)
                    dlb_rnn_fetch_tile(call.c + rows * call.ldc, call.ldc,
                                       small + (tile + 1 < large), units);
                /* The next panel, if there is one, while this one is well used. */
                call.fetch = tile == 1 && i + 1 < gates.n * p->panels
                                 ? panel_of(w, chunk, product, i + 1)
                                 : NULL;
                p->gemm.tiles->tile[p->nv][rows](&call);
                call.a += rows * call.lda;
                call.c += rows * call.ldc;
            }
        }
    }
}

/* Columns begin … end-1 of the states before some steps of a chunk, one after the other in
 * the sequence from that of number on, times the reset gate if so wanted, turned. */
static void turn_states(const struct walk *w, const struct chunk *chunk, int64_t number,
                        int64_t steps, const int64_t *columns, bool reset, float *turned)
{
    const struct dlb_rnn_back *p = w->p;
    const struct dlb_rnn_shape *s = &p->s;
    const int64_t t = time_of(w, number), ld = s->gates * s->dhc;
    const float *from = before_row(w, p->states, DLB_RNN_SRC_ITER, number, 0);
    float *to = turned + columns[0] * p->turned_ld + (t - chunk->first) * s->mb;
    for (int64_t i = columns[0]; !from && i < columns[1]; i++, to += p->turned_ld)
        memset(to, 0, (size_t)(steps * s->mb) * sizeof *to);
    if (!from)
        return;
    const struct dlb_rnn_turn turn = {
        .rows = steps * s->mb,
        .columns = columns[1] - columns[0],
        .from = from + columns[0],
        .from_ld = s->dhc,
        .times = reset ? kept_row(w, p->gates, ld, t, 0) + s->dhc + columns[0] : NULL,
        .times_ld = ld,
        .to = to,
        .to_ld = p->turned_ld,
    };
    p->kernels->turn(&turn);
}

static void weights_layer(const struct walk *w, const struct chunk *chunk)
{
    const struct dlb_rnn_back *p = w->p;
    const struct dlb_rnn_shape *s = &p->s;
    float *turned = p->memory + p->turned;
    int64_t begin, end;
    tiles_share(w, s->slc, &begin, &end);
    if (begin == end)
        return;
    const float *from =
        w->l ? p->memory + p->states + (w->at - s->directions) * s->t * s->mb * s->dhc
             : p->tensor[DLB_RNN_SRC];
    const struct dlb_rnn_turn turn = {
        .rows = (chunk->end - chunk->begin) * s->mb,
        .columns = end - begin,
        .from = from + chunk->first * s->mb * s->slc + begin,
        .from_ld = s->slc,
        .to = turned + begin * p->turned_ld,
        .to_ld = p->turned_ld,
    };
    p->kernels->turn(&turn);
    multiply_turned(w, chunk, turned, begin, end, DLB_RNN_PRODUCT_INPUT,
                    (float *)p->tensor[DLB_RNN_DIFF_WEIGHTS_LAYER] +
                        w->at * s->slc * s->gates * s->dhc);
}

static void weights_iter(const struct walk *w, const struct chunk *chunk)
{
    const struct dlb_rnn_back *p = w->p;
    const struct dlb_rnn_shape *s = &p->s;
    float *diff = (float *)p->tensor[DLB_RNN_DIFF_WEIGHTS_ITER] +
                  w->at * s->dhc * s->gates * s->dhc;
    const int64_t linked = dlb_max(1, chunk->begin), steps = chunk->end - linked;
    int64_t columns[2];
    tiles_share(w, s->dhc, &columns[0], &columns[1]);
    for (int i = DLB_RNN_PRODUCT_STATE; i < DLB_RNN_PRODUCTS; i++) {
        const bool reset = i == DLB_RNN_PRODUCT_RESET;
        float *turned =
            p->memory + p->turned + (s->slc + (reset ? s->dhc : 0)) * p->turned_ld;
        if (!p->matrix[i].gates.n || columns[0] == columns[1])
            continue;
        if (steps)
            turn_states(w, chunk, w->reverse ? chunk->end - 1 : linked, steps, columns,
                        reset, turned);
        if (!chunk->begin)
            turn_states(w, chunk, 0, 1, columns, reset, turned);
        multiply_turned(w, chunk, turned, columns[0], columns[1], i, diff);
    }
}

static void bias(const struct walk *w, const struct chunk *chunk)
{
    static const int64_t zero = 0;
    const struct dlb_rnn_back *p = w->p;
    const struct dlb_rnn_shape *s = &p->s;
    int64_t begin, end;
    dlb_share(s->bias_rows * p->panels, w->part->team->rank, w->part->team->size, &begin,
              &end);
    /* Slots are in the order of the rows of the bias. */
    for (int64_t i = begin; i < end; i++) {
        const int64_t unit = i % p->panels * p->width;
        const struct dlb_brgemm call = {
            .a = p->memory + p->ones,
            .a_offset = &zero,
            .b = chunk->sums + i * p->panel_step,
            .b_offset = &zero,
            .batch = 1,
            .k = (chunk->end - chunk->begin) * s->mb,
            .c = (float *)p->tensor[DLB_RNN_DIFF_BIASES] +
                 (w->at * s->bias_rows + i / p->panels) * s->dhc + unit,
            .n = (int)dlb_min(p->width, s->dhc - unit),
            .flags = chunk->end < s->t ? DLB_BRGEMM_ACCUMULATE : 0,
        };
        p->gemm.tiles->tile[p->nv][1](&call);
    }
}

/* The gradient of what the layer reads; both directions read the same input. */
static void input(const struct walk *w, const struct chunk *chunk)
{
    const struct dlb_rnn_back *p = w->p;
    const struct dlb_rnn_shape *s = &p->s;
    const struct dlb_rnn_back_matrix *m = &p->matrix[DLB_RNN_PRODUCT_INPUT];
    struct dlb_rnn_product q = w->product[DLB_RNN_PRODUCT_INPUT];
    const int64_t rows = (chunk->end - chunk->begin) * s->mb, ld = w->l ? s->dhc : s->slc;
    float *to = w->l ? p->memory + p->between : p->tensor[DLB_RNN_DIFF_SRC];
    bool back = false;
    dlb_share(dlb_div_up(m->columns, p->width), w->part->team->rank, w->part->team->size,
              &q.panels[0], &q.panels[1]);
    if (q.panels[0] == q.panels[1])
        return;
    q.mr = p->gemm.tiles->mr_max[p->nv];
    q.ldc = ld;
    q.add = w->l == 0 && w->d == 1;
    for (int64_t row = 0; row < rows; row += p->block_rows, back = !back) {
        q.rows = dlb_min(p->block_rows, rows - row);
        q.c = to + (chunk->first * s->mb + row) * ld + q.panels[0] * p->width;
        choose_rows(w, &q, m, chunk->sums + row * p->width);
        dlb_rnn_multiply(&p->input_gemm, &q, q.panels[0], q.panels[1], back);
    }
}

static void walk(struct walk *w)
{
    const struct dlb_rnn_back *p = w->p;
    const float *behind = NULL;
    int64_t turn = 0;
    start(w);
    for (int64_t end = p->s.t; end > 0; turn++) {
        const struct chunk chunk = chunk_make(w, end, turn);
        for (int64_t number = end; number-- > chunk.begin;) {
            step(w, &chunk, number, behind);
            behind = step_sums(w, &chunk, number);
        }
        dlb_team_barrier(w->part->team);
        input(w, &chunk);
        weights_layer(w, &chunk);
        weights_iter(w, &chunk);
        bias(w, &chunk);
        end = chunk.begin;
    }
    if (p->s.init)
        finish(w, behind);
    dlb_team_barrier(w->part->team);
}

void dlb_rnn_back_run(struct dlb_plan *plan, const struct dlb_team *team)
{
    const struct dlb_rnn_back *p = (const struct dlb_rnn_back *)plan;
    const struct dlb_rnn_back_part part = dlb_rnn_back_part_make(p, team);
    for (int64_t d = 0; d < p->s.directions; d++)
        for (int64_t l = p->s.l; l-- > 0;) {
            struct walk w = walk_make(p, &part, l, d);
            walk(&w);
        }
}
