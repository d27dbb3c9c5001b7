/*
 * Depthwise convolution: each channel with its own kernel, vectors over channels.
 *
 *   dst[p][c] = act( bias[c] + sum over kh, kw of
 *                    src[start + p*pixel + kh*line + kw*column + c] * w[kh][kw][c] )
 *
 * Shapes    pixels of one row x NV*VLEN channels
 * Units     elements
 * Tiles     MR pixels x NV vectors of accumulators.  3x3: all nine weights are held in
 *           registers along the row, and each input vector is loaded once for all pixels
 *           of the tile that use it.  Any other kernel: a weight is loaded for MR pixels.
 * Work items and barriers   none: one call, one thread
 * Scratch   none
 * Cost      2*taps flops a channel and pixel; loads (S*(MR-1)+3)*3 a tile of 3x3
 * Numerics  one chain of FMA per element in the order kh, kw, from the bias or zero
 * Errors    none; sizes are the caller's
 * Source    Zhang et al., "High Performance Depthwise and Pointwise Convolutions on
 *           Mobile Devices", AAAI 2020
 */
#include "ops/conv_depthwise.h"

#include "core/vec.h"

enum { MR_MAX = 14, NV_MAX = 2 };

DLB_INLINE vec load(const float *p, const struct dlb_depthwise *g, bool tail)
{
    return tail ? v_load_n(p, g->lanes) : v_loadu(p);
}

DLB_INLINE void start(const struct dlb_depthwise *g, vec (*acc)[NV_MAX], int mr, int nv,
                      bool tail)
{
    DLB_UNROLL
    for (int j = 0; j < nv; j++) {
        vec init = g->bias ? load(g->bias + j * VLEN, g, tail) : v_zero();
        DLB_UNROLL
        for (int i = 0; i < mr; i++)
            acc[i][j] = init;
    }
}

DLB_INLINE void finish(const struct dlb_depthwise *g, int64_t p, vec (*acc)[NV_MAX],
                       int mr, int nv, bool tail)
{
    float *dst = g->dst + p * g->dst_ld;
    bool stream = g->stream && ((uintptr_t)dst & (VLEN * sizeof *dst - 1)) == 0 &&
                  g->dst_ld % VLEN == 0;
    if (g->relu) {
        DLB_UNROLL
        for (int i = 0; i < mr; i++)
            DLB_UNROLL
        for (int j = 0; j < nv; j++)
            acc[i][j] = v_max(v_zero(), acc[i][j]);
    }
    DLB_UNROLL
    for (int i = 0; i < mr; i++, dst += g->dst_ld)
        DLB_UNROLL
    for (int j = 0; j < nv; j++) {
        if (tail)
            v_store_n(dst, acc[i][j], g->lanes);
        else if (stream)
            v_stream(dst + j * VLEN, acc[i][j]);
        else
            v_storeu(dst + j * VLEN, acc[i][j]);
    }
}

DLB_INLINE bool inside(const struct dlb_depthwise *g, int64_t x)
{
    return (uint64_t)x < (uint64_t)g->x_size;
}

DLB_INLINE void any(const struct dlb_depthwise *g, int mr, int nv, bool tail)
{
    for (int64_t next = 0; next < g->pixels; next += mr) {
        int64_t p = next + mr > g->pixels ? g->pixels - mr : next;
        vec acc[MR_MAX][NV_MAX];
        start(g, acc, mr, nv, tail);
        for (int64_t kh = g->kh_begin; kh < g->kh_end; kh++)
            for (int64_t kw = 0; kw < g->kernel_w; kw++) {
                const float *src =
                    g->src + (g->start + p * g->pixel + kh * g->line + kw * g->column);
                const float *w = g->weights + (kh * g->kernel_w + kw) * g->weights_ld;
                int64_t x = g->x_first + p * g->x_step + kw * g->x_tap;
                vec weight[NV_MAX];
                DLB_UNROLL
                for (int j = 0; j < nv; j++)
                    weight[j] = v_load(w + j * VLEN);
                if (inside(g, x) && inside(g, x + (mr - 1) * g->x_step)) {
                    DLB_UNROLL
                    for (int i = 0; i < mr; i++, src += g->pixel)
                        DLB_UNROLL
                    for (int j = 0; j < nv; j++)
                        acc[i][j] =
                            v_fma(load(src + j * VLEN, g, tail), weight[j], acc[i][j]);
                    continue;
                }
                DLB_UNROLL
                for (int i = 0; i < mr; i++) {
                    if (!inside(g, x + i * g->x_step))
                        continue;
                    DLB_UNROLL
                    for (int j = 0; j < nv; j++)
                        acc[i][j] = v_fma(load(src + i * g->pixel + j * VLEN, g, tail),
                                          weight[j], acc[i][j]);
                }
            }
        finish(g, p, acc, mr, nv, tail);
    }
}

/* Pixels p … p+mr-1 of a 3x3 kernel; at an edge some columns are outside the input. */
DLB_INLINE void three_tile(const struct dlb_depthwise *g, int64_t p,
                           vec (*weight)[NV_MAX], int mr, int nv, int stride, bool edge)
{
    vec acc[MR_MAX][NV_MAX];
    int64_t x = g->x_first + p * stride;
    start(g, acc, mr, nv, false);
    DLB_UNROLL
    for (int kh = 0; kh < 3; kh++) {
        if (kh < g->kh_begin || kh >= g->kh_end)
            continue;
        const float *src = g->src + (g->start + p * g->pixel + kh * g->line);
        DLB_UNROLL
        for (int column = 0; column < (mr - 1) * stride + 3; column++) {
            if (edge && !inside(g, x + column))
                continue;
            DLB_UNROLL
            for (int j = 0; j < nv; j++) {
                vec value = v_loadu(src + column * g->column + j * VLEN);
                DLB_UNROLL
                for (int kw = 2; kw >= 0; kw--) {
                    int i = column - kw;
                    if (i >= 0 && i % stride == 0 && i / stride < mr)
                        acc[i / stride][j] =
                            v_fma(value, weight[kh * 3 + kw][j], acc[i / stride][j]);
                }
            }
        }
    }
    finish(g, p, acc, mr, nv, false);
}

DLB_INLINE void three(const struct dlb_depthwise *g, int mr, int nv, int stride)
{
    vec weight[9][NV_MAX];
    DLB_UNROLL
    for (int tap = 0; tap < 9; tap++)
        DLB_UNROLL
    for (int j = 0; j < nv; j++)
        weight[tap][j] = v_load(g->weights + tap * g->weights_ld + j * VLEN);
    for (int64_t next = 0; next < g->pixels; next += mr) {
        int64_t p = next + mr > g->pixels ? g->pixels - mr : next;
        int64_t x = g->x_first + p * stride;
        if (inside(g, x) && inside(g, x + (mr - 1) * stride + 2))
            three_tile(g, p, weight, mr, nv, stride, false);
        else
            three_tile(g, p, weight, mr, nv, stride, true);
    }
}

/* The table of instances: (pixels, vectors). */
#define TILES(T)                                                                         \
    T(1, 1)                                                                              \
    T(4, 1)                                                                              \
    T(6, 1)                                                                              \
    V_IF_32REGS(T(7, 1) T(8, 1) T(14, 1) T(1, 2) T(4, 2) T(6, 2) T(7, 2))

#define TILE_FUNCTIONS(mr, nv)                                                           \
    static void any_##mr##x##nv(const struct dlb_depthwise *call)                        \
    {                                                                                    \
        any(call, mr, nv, false);                                                        \
    }                                                                                    \
    static void k3s1_##mr##x##nv(const struct dlb_depthwise *call)                       \
    {                                                                                    \
        three(call, mr, nv, 1);                                                          \
    }                                                                                    \
    static void k3s2_##mr##x##nv(const struct dlb_depthwise *call)                       \
    {                                                                                    \
        three(call, mr, nv, 2);                                                          \
    }                                                                                    \
    static void tail_##mr##x##nv(const struct dlb_depthwise *call)                       \
    {                                                                                    \
        any(call, mr, 1, true);                                                          \
    }
TILES(TILE_FUNCTIONS)

#define TILE_ENTRY(mr, nv)                                                               \
    {mr, nv, any_##mr##x##nv, k3s1_##mr##x##nv, k3s2_##mr##x##nv, tail_##mr##x##nv},
static const struct dlb_depthwise_tile tiles[] = {TILES(TILE_ENTRY)};

extern const struct dlb_depthwise_kernels DLB_NAME(dlb_depthwise);
const struct dlb_depthwise_kernels DLB_NAME(dlb_depthwise) = {
    .tiles = tiles,
    .tiles_n = sizeof tiles / sizeof *tiles,
    .stream_fence = v_stream_fence,
};
