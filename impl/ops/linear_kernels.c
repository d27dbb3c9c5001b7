/*
 * What linear needs beside the batch-reduce GEMM: products of few rows, packing, sums of
 * columns.
 *
 *   streams    c[i][j] = act( init + sum over k of a[i][k] * b[k][j] ), several panels of b
 *   transpose  out[c][r] = in[r][c];  copy, stream  out[r][c] = in[r][c]
 *   sums       out[c] = sum over r of in[r][c]
 *
 * Shapes    streams: 1 to 4 rows, all columns of the panels; all else any
 * Units     elements
 * Tiles     streams: (rows, panels, vectors) so that accumulators and one broadcast fit 16
 *           registers; B is the memory operand of the FMA.  transpose: VLEN x VLEN in
 *           registers.  sums: GROUP rows of one vector
 * Work items and barriers   none: one call, one thread
 * Scratch   none
 * Cost      streams is bound by the read bandwidth of what holds the panels, the others by
 *           loads and stores
 * Numerics  streams: one chain of FMA per element in the order of k; sums: of additions in
 *           the order of r
 * Errors    none; sizes are the caller's
 */
#include "ops/linear_internal.h"

#include "core/vec.h"

enum { GROUP = 8 };

DLB_INLINE int lanes_at(int64_t c, int64_t columns)
{
    return columns - c < VLEN ? (int)(columns - c) : VLEN;
}

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

DLB_INLINE void streams(const struct dlb_linear_streams *g, int rows, int panels, int nv)
{
    vec acc[DLB_LINEAR_STREAM_ROWS][8];
    const float *b[8], *a = g->a;
    const int64_t lda = g->lda;
    const int vectors = panels * nv;
    DLB_UNROLL
    for (int i = 0; i < rows; i++)
        DLB_UNROLL
    for (int j = 0; j < vectors; j++)
        acc[i][j] = g->accumulate ? v_loadu(g->c + i * g->ldc + j * VLEN)
                    : g->bias     ? v_loadu(g->bias + j * VLEN)
                                  : v_zero();
    DLB_UNROLL
    for (int s = 0; s < panels; s++)
        b[s] = g->b + s * g->b_panel;
    for (int64_t k = 0; k < g->k; k++, a++)
        DLB_UNROLL
    for (int i = 0; i < rows; i++) {
        vec x = v_hold(v_set1(a[i * lda]));
        DLB_UNROLL
        for (int j = 0; j < vectors; j++)
            acc[i][j] = v_fma_memory(x, b[j / nv] + (k * nv + j % nv) * VLEN, acc[i][j]);
    }
    DLB_UNROLL
    for (int i = 0; i < rows; i++)
        DLB_UNROLL
    for (int j = 0; j < vectors; j++)
        v_storeu(g->c + i * g->ldc + j * VLEN,
                 g->relu ? v_max(v_zero(), acc[i][j]) : acc[i][j]);
}

/* (rows, panels, vectors of a panel) */
#define STREAMS(T) T(1, 4, 2) T(2, 3, 2) T(3, 4, 1) T(4, 3, 1)

#define STREAMS_FUNCTION(rows, panels, nv)                                               \
    static void streams_##rows(const struct dlb_linear_streams *call)                    \
    {                                                                                    \
        streams(call, rows, panels, nv);                                                 \
    }
STREAMS(STREAMS_FUNCTION)

/* A square, of which rows and columns are there. */
DLB_INLINE void transpose_square(const float *in, int64_t in_ld, int rows, int columns,
                                 float *out, int64_t out_ld)
{
    vec square[VLEN];
    DLB_UNROLL
    for (int i = 0; i < VLEN; i++)
        square[i] = i < rows ? load(in + i * in_ld, columns) : v_zero();
    v_transpose(square);
    DLB_UNROLL
    for (int i = 0; i < VLEN; i++)
        if (i < columns)
            store(out + i * out_ld, square[i], rows);
}

static void transpose(const float *in, int64_t in_ld, int64_t rows, int64_t columns,
                      float *out, int64_t out_ld)
{
    for (int64_t r = 0; r < rows; r += VLEN)
        for (int64_t c = 0; c < columns; c += VLEN) {
            const float *from = in + r * in_ld + c;
            float *to = out + c * out_ld + r;
            if (rows - r >= VLEN && columns - c >= VLEN)
                transpose_square(from, in_ld, VLEN, VLEN, to, out_ld);
            else
                transpose_square(from, in_ld, lanes_at(r, rows), lanes_at(c, columns), to,
                                 out_ld);
        }
}

static void copy(const float *in, int64_t in_ld, int64_t rows, int64_t columns,
                 float *out, int64_t out_ld)
{
    for (int64_t r = 0; r < rows; r++, in += in_ld, out += out_ld) {
        int64_t c = 0;
        for (; c + VLEN <= columns; c += VLEN)
            v_storeu(out + c, v_loadu(in + c));
        if (c < columns)
            store(out + c, load(in + c, (int)(columns - c)), (int)(columns - c));
    }
}

static void stream(const float *in, int64_t in_ld, int64_t rows, int64_t columns,
                   float *out, int64_t out_ld)
{
    for (int64_t r = 0; r < rows; r++, in += in_ld, out += out_ld)
        for (int64_t c = 0; c < columns; c += VLEN)
            v_stream(out + c, v_load(in + c));
}

DLB_INLINE void add_rows(const float *in, int64_t ld, int n, int lanes, bool first,
                         float *out)
{
    vec sum = first ? v_zero() : load(out, lanes);
    for (int i = 0; i < n; i++)
        sum = v_add(sum, load(in + i * ld, lanes));
    store(out, sum, lanes);
}

static void sums(const float *in, int64_t ld, int64_t rows, int64_t columns, float *out)
{
    for (int64_t r = 0; r < rows; r += GROUP) {
        const float *row = in + r * ld;
        int n = rows - r < GROUP ? (int)(rows - r) : GROUP;
        int64_t c = 0;
        for (; n == GROUP && c + VLEN <= columns; c += VLEN)
            add_rows(row + c, ld, GROUP, VLEN, !r, out + c);
        for (; c < columns; c += VLEN)
            add_rows(row + c, ld, n, lanes_at(c, columns), !r, out + c);
    }
}

#define STREAMS_ENTRY(rows, panels, nv) [rows] = {panels, nv, streams_##rows},

extern const struct dlb_linear_kernels DLB_NAME(dlb_linear);
const struct dlb_linear_kernels DLB_NAME(dlb_linear) = {
    .lanes = VLEN,
    .streams = {STREAMS(STREAMS_ENTRY)},
    .transpose = transpose,
    .copy = copy,
    .stream = stream,
    .sums = sums,
};
