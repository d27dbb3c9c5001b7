/*
 * The element-wise part of a step back in time of LSTM, GRU and RNN.
 *
 * With dh the gradient of h', d_x that of the sum behind gate x:
 *   lstm         dc = carry + dh z (1 - tanh(c')^2);  d_i = dc g i (1 - i),
 *                d_f = dc c f (1 - f), d_g = dc i (1 - g^2), d_z = dh tanh(c') z (1 - z);
 *                carry = dc f
 *   gru_linear   d_u = dh (h - g) u (1 - u), d_g = dh (1 - u) (1 - g^2), d_r = d_g q r
 *                (1 - r), q = U_g h + b_h, of which the gradient is d_g r; carry = dh u
 *   gru_state    d_u, d_g and carry as above
 *   gru_reset    dz of r o h: d_r = dz h r (1 - r); carry += dz r
 *   tanh, relu   d = dh (1 - h'^2); d = dh where h' > 0, else 0
 *   turn         a matrix and, element by element, a second one's product with it
 *
 * Shapes    sums [panel][row][width]; all else [row][unit]
 * Units     elements
 * Tiles     none: a vector of units at a time, then panels, then rows
 * Work items and barriers   none: one call, one thread
 * Scratch   none
 * Cost      lstm one tanh a unit and row, the others none; bound by loads: 9 of lstm
 * Numerics  a handful of roundings each; no lane depends on another
 * Errors    none; sizes are the caller's
 * Source    ops/rnn.h, by the chain rule
 */
#include "ops/rnn_back_kernels.h"

#include "core/vmath_inline.h"

/* Of canonical tensors only the lanes of whole units may be touched; lanes is a constant
 * VLEN wherever a block is full. */
DLB_INLINE vec load(const float *p, int lanes)
{
    return lanes == VLEN ? v_loadu(p) : v_load_n(p, lanes);
}

/* One vector of units of one row; at: in sums. */
struct block {
    const struct dlb_rnn_back_cell *call;
    int64_t row, unit, at;
    int lanes;
};

DLB_INLINE vec load_at(const struct block *b, const float *p, int64_t ld)
{
    return load(p + b->row * ld + b->unit, b->lanes);
}

DLB_INLINE vec load_or_zero(const struct block *b, const float *p, int64_t ld)
{
    return p ? load_at(b, p, ld) : v_zero();
}

DLB_INLINE vec gate(const struct block *b, int number)
{
    const struct dlb_rnn_back_cell *c = b->call;
    return load_at(b, c->gates + number * c->gate_step, c->gates_ld);
}

DLB_INLINE void put_sum(const struct block *b, int slot, vec a)
{
    float *p = b->call->sum[slot] + b->at;
    if (b->lanes == VLEN)
        v_storeu(p, a);
    else
        v_store_n(p, a, b->lanes);
}

DLB_INLINE vec load_z(const struct block *b)
{
    return v_loadu(b->call->z + b->row * b->call->z_ld + b->unit);
}

DLB_INLINE float *carry(const struct block *b)
{
    return b->call->carry + b->row * b->call->carry_ld + b->unit;
}

/* All that reaches h' but carry. */
DLB_INLINE vec diff_state(const struct block *b)
{
    const struct dlb_rnn_back_cell *c = b->call;
    vec dh = load_at(b, c->out, c->out_ld);
    if (c->z)
        dh = v_add(dh, load_z(b));
    if (c->last)
        dh = v_add(dh, load_at(b, c->last, c->last_ld));
    return dh;
}

/* Slopes of the functions, by their values. */
DLB_INLINE vec sigmoid_slope(vec y)
{
    return v_mul(y, v_sub(v_set1(1), y));
}

DLB_INLINE vec tanh_slope(vec y)
{
    return v_sub(v_set1(1), v_mul(y, y));
}

DLB_INLINE void lstm_block(const struct block *b)
{
    const struct dlb_rnn_back_cell *c = b->call;
    vec input = gate(b, 0), forget = gate(b, 1), candidate = gate(b, 2),
        output = gate(b, 3);
    vec squashed = v_tanh(load_at(b, c->cell, c->cell_ld));
    vec dh = diff_state(b);
    vec dc = v_fma(v_mul(dh, output), tanh_slope(squashed), v_loadu(carry(b)));
    vec before = load_or_zero(b, c->cell_from, c->state_ld);
    put_sum(b, 0, v_mul(v_mul(dc, candidate), sigmoid_slope(input)));
    put_sum(b, 1, v_mul(v_mul(dc, before), sigmoid_slope(forget)));
    put_sum(b, 2, v_mul(v_mul(dc, input), tanh_slope(candidate)));
    put_sum(b, 3, v_mul(v_mul(dh, squashed), sigmoid_slope(output)));
    v_storeu(carry(b), v_mul(dc, forget));
}

/* What both kinds of GRU begin with; returns d_g. */
DLB_INLINE vec gru_begin(const struct block *b)
{
    const struct dlb_rnn_back_cell *c = b->call;
    vec update = gate(b, 0), candidate = gate(b, 2);
    vec dh = v_add(diff_state(b), v_loadu(carry(b)));
    vec h = load_or_zero(b, c->state, c->state_ld);
    vec diff = v_mul(v_mul(dh, v_sub(v_set1(1), update)), tanh_slope(candidate));
    put_sum(b, 0, v_mul(v_mul(dh, v_sub(h, candidate)), sigmoid_slope(update)));
    put_sum(b, 2, diff);
    v_storeu(carry(b), v_mul(dh, update));
    return diff;
}

DLB_INLINE void gru_linear_block(const struct block *b)
{
    const struct dlb_rnn_back_cell *c = b->call;
    vec reset = gate(b, 1), linear = load_at(b, c->cell, c->cell_ld);
    vec diff = gru_begin(b);
    put_sum(b, 1, v_mul(v_mul(diff, linear), sigmoid_slope(reset)));
    put_sum(b, 3, v_mul(diff, reset));
}

DLB_INLINE void gru_state_block(const struct block *b)
{
    gru_begin(b);
}

DLB_INLINE void gru_reset_block(const struct block *b)
{
    const struct dlb_rnn_back_cell *c = b->call;
    vec reset = gate(b, 1), diff = load_z(b);
    vec h = load_or_zero(b, c->state, c->state_ld);
    put_sum(b, 1, v_mul(v_mul(diff, h), sigmoid_slope(reset)));
    v_storeu(carry(b), v_fma(diff, reset, v_loadu(carry(b))));
}

DLB_INLINE void tanh_block(const struct block *b)
{
    const struct dlb_rnn_back_cell *c = b->call;
    put_sum(b, 0, v_mul(diff_state(b), tanh_slope(load_at(b, c->state, c->state_ld))));
}

/* The slope is 0 at 0 and 1 above, from the smallest of numbers on; and 1 of NaN. */
DLB_INLINE void relu_block(const struct block *b)
{
    const struct dlb_rnn_back_cell *c = b->call;
    vec h = load_at(b, c->state, c->state_ld);
    vec huge = v_mul(v_mul(h, v_set1(0x1p126f)), v_set1(0x1p30f));
    put_sum(b, 0, v_mul(diff_state(b), v_min(huge, v_set1(1))));
}

static void turn(const struct dlb_rnn_turn *t)
{
    const int64_t rows = t->rows / VLEN * VLEN, columns = t->columns / VLEN * VLEN;
    for (int64_t j = 0; j < columns; j += VLEN)
        for (int64_t i = 0; i < rows; i += VLEN) {
            vec a[VLEN];
            DLB_UNROLL
            for (int k = 0; k < VLEN; k++) {
                a[k] = v_loadu(t->from + (i + k) * t->from_ld + j);
                if (t->times)
                    a[k] = v_mul(a[k], v_loadu(t->times + (i + k) * t->times_ld + j));
            }
            v_transpose(a);
            DLB_UNROLL
            for (int k = 0; k < VLEN; k++)
                v_storeu(t->to + (j + k) * t->to_ld + i, a[k]);
        }
    for (int64_t j = 0; j < t->columns; j++)
        for (int64_t i = j < columns ? rows : 0; i < t->rows; i++) {
            float a = t->from[i * t->from_ld + j];
            t->to[j * t->to_ld + i] = t->times ? a * t->times[i * t->times_ld + j] : a;
        }
}

/* clang-format off */
#define KERNELS(K) K(lstm) K(gru_linear) K(gru_state) K(gru_reset) K(tanh) K(relu)
/* clang-format on */

#define KERNEL_FUNCTION(name)                                                            \
    static void name##_rows(const struct dlb_rnn_back_cell *c)                           \
    {                                                                                    \
        for (int64_t row = 0; row < c->rows; row++) {                                    \
            struct block b = {c, row, 0, row * c->width, VLEN};                          \
            for (int64_t panel = 0; b.unit < c->units; panel++) {                        \
                b.at = panel * c->panel_step + row * c->width;                           \
                const int64_t left = c->units - b.unit;                                  \
                const int64_t end = b.unit + (left < c->width ? left : c->width);        \
                for (; b.unit + VLEN <= end; b.unit += VLEN, b.at += VLEN)               \
                    name##_block(&b);                                                    \
                b.lanes = (int)(end - b.unit);                                           \
                if (b.lanes)                                                             \
                    name##_block(&b);                                                    \
                b.unit = end;                                                            \
                b.lanes = VLEN;                                                          \
            }                                                                            \
        }                                                                                \
    }
KERNELS(KERNEL_FUNCTION)

#define KERNEL_ENTRY(name) .name = name##_rows,

extern const struct dlb_rnn_back_kernels DLB_NAME(dlb_rnn_back);
const struct dlb_rnn_back_kernels DLB_NAME(dlb_rnn_back) = {
    .lanes = VLEN, .turn = turn, KERNELS(KERNEL_ENTRY)};
