/*
 * The element-wise ends of a step of LSTM, GRU and RNN, and the product of a single row.
 *
 *   lstm         c' = f o c + i o g,  h' = z o tanh(c')
 *   gru_linear   g = tanh(x_g + r o u_g),  h' = u o h + (1 - u) o g
 *   gru_reset    update = s(x_u + u_u),  reset = s(x_r + u_r) o h
 *   gru_state    g = tanh(x_g + u_g),  h' = u o h + (1 - u) o g
 *   tanh, relu   h' = tanh(x + u), max(0, x + u)
 *   row          c = bias + a B, one row and several panels
 *
 * Shapes    products [row][block of VLEN units][gate][VLEN]; all else [row][unit]
 * Units     elements; a block is VLEN units, the last one may have fewer
 * Tiles     none: a vector of units at a time, blocks of a row, then rows.  row: 8 vectors
 *           of columns, from 4 panels of 2, which keeps 8 chains and 4 streams going
 * Work items and barriers   none: one call, one thread
 * Scratch   none
 * Cost      lstm 3 sigmoids and 2 tanh, gru 2 and 1, a unit and row, operands in L1 or L2;
 *           row is bound by the read bandwidth of what holds the weights
 * Numerics  x + u is one rounding; c' = fma(f, c, i * g), h' = fma(u, h - g, g); errors
 *           of v_sigmoid and v_tanh as core/vmath_inline.h says.  row: one chain of FMA
 *           per element in the order of k.  No lane depends on another
 * Errors    none; sizes are the caller's
 * Source    ops/rnn.h
 */
#include "ops/rnn_kernels.h"

#include "core/vmath_inline.h"

/* Canonical tensors, of which only the lanes of whole units may be touched; lanes is a
 * constant VLEN wherever a block is full. */
DLB_INLINE vec load(const float *p, int lanes)
{
    return lanes == VLEN ? v_loadu(p) : v_load_n(p, lanes);
}

DLB_INLINE void store(float *p, vec a, int lanes)
{
    if (lanes == VLEN)
        v_storeu(p, a);
    else
        v_store_n(p, a, lanes);
}

/* One block of one row: unit is its first unit. */
struct block {
    const struct dlb_rnn_cell *call;
    const float *x, *u;
    int64_t row, unit;
    int lanes;
};

DLB_INLINE void keep_gate(const struct block *b, int gate, vec a)
{
    const struct dlb_rnn_cell *c = b->call;
    if (c->gates)
        store(c->gates + b->row * c->gates_ld + gate * c->gate_step + b->unit, a,
              b->lanes);
}

DLB_INLINE void put_state(const struct block *b, vec h)
{
    const struct dlb_rnn_cell *c = b->call;
    v_store(c->next + b->row * c->state_ld + b->unit, h);
    DLB_UNROLL
    for (int i = 0; i < DLB_RNN_OUTS; i++)
        if (c->out[i])
            store(c->out[i] + b->row * c->out_ld[i] + b->unit, h, b->lanes);
}

/* The sum of the two products of a gate, each with its own place in its block. */
DLB_INLINE vec sum(const struct block *b, int x_gate, int u_gate)
{
    return v_add(v_load(b->x + x_gate * VLEN), v_load(b->u + u_gate * VLEN));
}

/* u o h + (1 - u) o g */
DLB_INLINE vec blend(vec u, vec h, vec g)
{
    return v_fma(u, v_sub(h, g), g);
}

DLB_INLINE void lstm_block(const struct block *b)
{
    const struct dlb_rnn_cell *c = b->call;
    int64_t at = b->row * c->cell_ld + b->unit;
    vec input = v_sigmoid(sum(b, 0, 0)), forget = v_sigmoid(sum(b, 1, 1));
    vec candidate = v_tanh(sum(b, 2, 2)), output = v_sigmoid(sum(b, 3, 3));
    vec cell = v_fma(forget, load(c->cell_from + at, b->lanes), v_mul(input, candidate));
    store(c->cell + at, cell, b->lanes);
    put_state(b, v_mul(output, v_tanh(cell)));
    keep_gate(b, 0, input);
    keep_gate(b, 1, forget);
    keep_gate(b, 2, candidate);
    keep_gate(b, 3, output);
}

DLB_INLINE void gru_linear_block(const struct block *b)
{
    const struct dlb_rnn_cell *c = b->call;
    vec update = v_sigmoid(sum(b, 0, 0)), reset = v_sigmoid(sum(b, 1, 1));
    vec linear = v_load(b->u + 2 * VLEN);
    vec candidate = v_tanh(v_fma(reset, linear, v_load(b->x + 2 * VLEN)));
    vec h = v_load(c->state + b->row * c->state_ld + b->unit);
    put_state(b, blend(update, h, candidate));
    if (c->cell)
        store(c->cell + b->row * c->cell_ld + b->unit, linear, b->lanes);
    keep_gate(b, 0, update);
    keep_gate(b, 1, reset);
    keep_gate(b, 2, candidate);
}

DLB_INLINE void gru_reset_block(const struct block *b)
{
    const struct dlb_rnn_cell *c = b->call;
    int64_t at = b->row * c->state_ld + b->unit;
    vec update = v_sigmoid(sum(b, 0, 0)), reset = v_sigmoid(sum(b, 1, 1));
    v_store(c->update + at, update);
    v_store(c->reset + at, v_mul(reset, v_load(c->state + at)));
    keep_gate(b, 0, update);
    keep_gate(b, 1, reset);
}

DLB_INLINE void gru_state_block(const struct block *b)
{
    const struct dlb_rnn_cell *c = b->call;
    int64_t at = b->row * c->state_ld + b->unit;
    vec candidate = v_tanh(sum(b, 2, 0));
    put_state(b, blend(v_load(c->update + at), v_load(c->state + at), candidate));
    keep_gate(b, 2, candidate);
}

DLB_INLINE void tanh_block(const struct block *b)
{
    put_state(b, v_tanh(sum(b, 0, 0)));
}

/* NaN stays NaN. */
DLB_INLINE void relu_block(const struct block *b)
{
    put_state(b, v_max(v_zero(), sum(b, 0, 0)));
}

static void row(const struct dlb_rnn_row *call)
{
    enum { NV = DLB_RNN_STREAM_NV };
    vec acc[DLB_RNN_STREAMS * NV];
    DLB_UNROLL
    for (int i = 0; i < DLB_RNN_STREAMS * NV; i++)
        acc[i] = call->bias ? v_loadu(call->bias + i * VLEN) : v_zero();
    const float *b[DLB_RNN_STREAMS];
    DLB_UNROLL
    for (int s = 0; s < DLB_RNN_STREAMS; s++)
        b[s] = call->b + s * call->b_panel;
    for (int64_t k = 0; k < call->k; k++) {
        vec a = v_hold(v_set1(call->a[k]));
        DLB_UNROLL
        for (int i = 0; i < DLB_RNN_STREAMS * NV; i++)
            acc[i] = v_fma(a, v_load(b[i / NV] + (k * NV + i % NV) * VLEN), acc[i]);
    }
    DLB_UNROLL
    for (int i = 0; i < DLB_RNN_STREAMS * NV; i++)
        v_storeu(call->c + i * VLEN, acc[i]);
}

/* clang-format off */
/* (kernel, gates in x, gates in u) */
#define KERNELS(K)                                                                       \
    K(lstm, 4, 4) K(gru_linear, 3, 3) K(gru_reset, 3, 2) K(gru_state, 3, 1)              \
    K(tanh, 1, 1) K(relu, 1, 1)
/* clang-format on */

#define KERNEL_FUNCTION(name, x_gates, u_gates)                                          \
    static void name##_rows(const struct dlb_rnn_cell *c)                                \
    {                                                                                    \
        const int64_t whole = c->units / VLEN * VLEN;                                    \
        for (int64_t row = 0; row < c->rows; row++) {                                    \
            struct block b = {c,   c->x + row * c->x_ld, c->u + row * c->u_ld, row, 0,   \
                              VLEN};                                                     \
            for (; b.unit < whole; b.unit += VLEN) {                                     \
                name##_block(&b);                                                        \
                b.x += (x_gates)*VLEN;                                                   \
                b.u += (u_gates)*VLEN;                                                   \
            }                                                                            \
            b.lanes = (int)(c->units - whole);                                           \
            if (b.lanes)                                                                 \
                name##_block(&b);                                                        \
        }                                                                                \
    }
KERNELS(KERNEL_FUNCTION)

#define KERNEL_ENTRY(name, x_gates, u_gates) .name = name##_rows,

extern const struct dlb_rnn_kernels DLB_NAME(dlb_rnn);
const struct dlb_rnn_kernels DLB_NAME(dlb_rnn) = {
    .lanes = VLEN, .row = row, KERNELS(KERNEL_ENTRY)};
