/*
 * Backward weights of a depthwise convolution: vectors over channels, some taps at a time.
 *
 *   sums[t][c] += sum over y, x of diff[y][x][c] * src[y][tap t of x][c]
 *
 * Shapes    rows x pixels of an image, TAPS taps of one kh, NV*VLEN channels
 * Units     elements
 * Tiles     SETS pixels at a time, each with sums of its own, so that there are enough
 *           chains to hide the latency of an FMA.  Where taps are pixels apart each vector
 *           of src is loaded once for all taps of the SETS pixels that meet it
 * Work items and barriers   none: one call, one thread
 * Scratch   none
 * Cost      2*TAPS flops a channel and pixel; loads (SETS + SETS*TAPS) / SETS a pixel, or
 *           (SETS + SETS+TAPS-1) / SETS where taps are pixels apart
 * Numerics  SETS chains of FMA over the pixels of all rows, added up at the end
 * Errors    none; sizes are the caller's
 */
#include "ops/conv_weights_depthwise.h"

#include "core/vec.h"

enum { TAPS = DLB_DEPTHWISE_TAPS, NV = DLB_DEPTHWISE_NV, SETS_MAX = 4 };

DLB_INLINE vec load(const float *p, int lanes)
{
    return lanes ? v_load_n(p, lanes) : v_loadu(p);
}

/* One pixel for each set. */
DLB_INLINE void pixels(const struct dlb_depthwise_weights *g, const float *src,
                       const float *diff, vec (*acc)[TAPS][NV], int sets, int taps,
                       int nv, int lanes)
{
    DLB_UNROLL
    for (int p = 0; p < sets; p++)
        DLB_UNROLL
    for (int j = 0; j < nv; j++) {
        vec d = load(diff + p * g->diff_pixel + j * VLEN, lanes);
        DLB_UNROLL
        for (int t = 0; t < taps; t++)
            acc[p][t][j] =
                v_fma(load(src + p * g->src_pixel + t * g->src_tap + j * VLEN, lanes), d,
                      acc[p][t][j]);
    }
}

/* The same where src_tap is src_pixel. */
DLB_INLINE void next_pixels(const struct dlb_depthwise_weights *g, const float *src,
                            const float *diff, vec (*acc)[TAPS][NV], int sets, int taps,
                            int nv)
{
    DLB_UNROLL
    for (int j = 0; j < nv; j++) {
        vec d[SETS_MAX];
        DLB_UNROLL
        for (int p = 0; p < sets; p++)
            d[p] = v_loadu(diff + p * g->diff_pixel + j * VLEN);
        DLB_UNROLL
        for (int column = 0; column < sets + taps - 1; column++) {
            vec value = v_loadu(src + column * g->src_pixel + j * VLEN);
            DLB_UNROLL
            for (int t = 0; t < taps; t++) {
                int p = column - t;
                if (p >= 0 && p < sets)
                    acc[p][t][j] = v_fma(value, d[p], acc[p][t][j]);
            }
        }
    }
}

DLB_INLINE void sum(const struct dlb_depthwise_weights *g, int sets, int taps, int nv,
                    int lanes, bool next)
{
    vec acc[SETS_MAX][TAPS][NV];
    DLB_UNROLL
    for (int p = 0; p < sets; p++)
        DLB_UNROLL
    for (int t = 0; t < taps; t++)
        DLB_UNROLL
    for (int j = 0; j < nv; j++)
        acc[p][t][j] = v_zero();
    for (int64_t y = 0; y < g->rows; y++) {
        const float *src = g->src + y * g->src_line, *diff = g->diff + y * g->diff_line;
        int64_t x = 0;
        for (; x + sets <= g->pixels; x += sets) {
            if (next)
                next_pixels(g, src, diff, acc, sets, taps, nv);
            else
                pixels(g, src, diff, acc, sets, taps, nv, lanes);
            src += sets * g->src_pixel;
            diff += sets * g->diff_pixel;
        }
        for (; x < g->pixels; x++) {
            pixels(g, src, diff, acc, 1, taps, nv, lanes);
            src += g->src_pixel;
            diff += g->diff_pixel;
        }
    }
    DLB_UNROLL
    for (int t = 0; t < taps; t++)
        DLB_UNROLL
    for (int j = 0; j < nv; j++) {
        float *to = g->sums + t * g->sums_tap + j * VLEN;
        vec all = acc[0][t][j];
        DLB_UNROLL
        for (int p = 1; p < sets; p++)
            all = v_add(all, acc[p][t][j]);
        v_store(to, v_add(v_load(to), all));
    }
}

/* The table of instances: (taps, vectors, sets); sets so that sums fit 16 registers. */
#define INSTANCES(T) T(1, 1, 4) T(2, 1, 4) T(3, 1, 3) T(1, 2, 4) T(2, 2, 3) T(3, 2, 2)

#define FUNCTIONS(taps, nv, sets)                                                        \
    static void any_##taps##x##nv(const struct dlb_depthwise_weights *call)              \
    {                                                                                    \
        sum(call, sets, taps, nv, 0, false);                                             \
    }                                                                                    \
    static void next_##taps##x##nv(const struct dlb_depthwise_weights *call)             \
    {                                                                                    \
        sum(call, sets, taps, nv, 0, true);                                              \
    }
INSTANCES(FUNCTIONS)

#define TAIL_FUNCTION(taps)                                                              \
    static void tail_##taps(const struct dlb_depthwise_weights *call)                    \
    {                                                                                    \
        sum(call, 2, taps, 1, call->lanes, false);                                       \
    }
TAIL_FUNCTION(1)
TAIL_FUNCTION(2)
TAIL_FUNCTION(3)

#define ANY_ENTRY(taps, nv, sets)  [taps][nv] = any_##taps##x##nv,
#define NEXT_ENTRY(taps, nv, sets) [taps][nv] = next_##taps##x##nv,

extern const struct dlb_depthwise_weights_kernels DLB_NAME(dlb_depthwise_weights);
const struct dlb_depthwise_weights_kernels DLB_NAME(dlb_depthwise_weights) = {
    .any = {INSTANCES(ANY_ENTRY)},
    .next = {INSTANCES(NEXT_ENTRY)},
    .tail = {NULL, tail_1, tail_2, tail_3},
};
