/*
 * Pooling of one row of pixels: maximum, with or without its index, average, and their
 * gradients.
 *
 *   max      dst[x][c] = max over taps t of src[x, t][c], index[x][c] = t of the first one
 *   average  dst[x][c] = (sum over t of src[x, t][c]) * (1 / count)
 *   back     diff_src[x][c] = sum over windows o of diff_dst[o][c], where index[o][c] is the
 *            tap at which x stands in o; average: times 1 / count of o
 *
 * Shapes    rows of pixels of channels, pixels ic apart; index: whole vectors a pixel
 * Units     elements; index: bytes or floats
 * Tiles     WIDTH vectors of channels in registers while the taps pass by; what is left
 *           vector by vector.  sweep: SWEPT taps at once, all channels, into dst
 * Work items and barriers   none: one call, one thread
 * Scratch   none
 * Cost      a load and one or two operations a tap; memory: src once and its rows again
 *           from the caches, dst once.  Gradients are gathered, so that diff_src is
 *           written once, in order, and never read
 * Numerics  maximum: NaN is found by the sum of what was compared, which an infinity of
 *           either sign makes NaN too, and is settled element by element then.  Sums in
 *           the order of taps, or of windows; then one product with the rounded reciprocal
 * Errors    none; sizes are the caller's
 */
#include "ops/pooling_internal.h"

#include "core/vec.h"

enum { WIDTH = 4, SWEPT = 4 };

enum index_kind { NO_INDEX, BYTES, FLOATS };

DLB_INLINE vec load(const float *p, int lanes)
{
    return lanes == VLEN ? v_loadu(p) : v_load_n(p, lanes);
}

DLB_INLINE void store(float *p, vec a, int lanes, bool stream)
{
    if (lanes != VLEN)
        v_store_n(p, a, lanes);
    else if (stream)
        v_stream(p, a);
    else
        v_storeu(p, a);
}

DLB_INLINE vec load_index(const void *index, int64_t at, enum index_kind kind)
{
    return kind == BYTES ? v_load_bytes((const uint8_t *)index + at)
                         : v_loadu((const float *)index + at);
}

DLB_INLINE void store_index(void *index, int64_t at, vec taps, enum index_kind kind)
{
    if (kind == BYTES)
        v_store_bytes((uint8_t *)index + at, taps);
    if (kind == FLOATS)
        v_storeu((float *)index + at, taps);
}

/* The taps of one pixel of dst that lie inside the input. */
struct window {
    const float *src; /* of the first one */
    int64_t row_ld, ld;
    int64_t kh, kw; /* how many */
    int64_t tap, kernel_kw;
};

static void max_slowly(const struct window *w, int64_t c, int lanes, float *dst,
                       void *index, int64_t at, enum index_kind kind)
{
    for (int64_t i = c; i < c + lanes; i++) {
        float most = w->src[i];
        int64_t tap = w->tap;
        for (int64_t h = 0; h < w->kh; h++)
            for (int64_t k = 0; k < w->kw; k++) {
                float x = w->src[h * w->row_ld + k * w->ld + i];
                if (!(x > most) && (x == x || most != most))
                    continue;
                most = x;
                tap = w->tap + h * w->kernel_kw + k;
            }
        dst[i] = most;
        if (kind == BYTES)
            ((uint8_t *)index)[at + i] = (uint8_t)tap;
        if (kind == FLOATS)
            ((float *)index)[at + i] = (float)tap;
    }
}

/* Some vectors of channels of one pixel. */
DLB_INLINE void max_vectors(const struct window *w, int64_t c, int vectors, int lanes,
                            float *dst, void *index, int64_t at, enum index_kind kind,
                            bool stream)
{
    vec most[WIDTH], tap[WIDTH], sum[WIDTH], all = v_zero();
    DLB_UNROLL
    for (int v = 0; v < vectors; v++) {
        most[v] = load(w->src + c + v * VLEN, lanes);
        tap[v] = v_set1((float)w->tap);
        sum[v] = v_zero();
    }
    for (int64_t h = 0; h < w->kh; h++) {
        const float *src = w->src + h * w->row_ld + c;
        for (int64_t k = 0; k < w->kw; k++, src += w->ld) {
            vec now = v_set1((float)(w->tap + h * w->kernel_kw + k));
            DLB_UNROLL
            for (int v = 0; v < vectors; v++) {
                vec x = load(src + v * VLEN, lanes);
                sum[v] = v_add(sum[v], x);
                if (kind != NO_INDEX)
                    tap[v] = v_if_greater(x, most[v], now, tap[v]);
                most[v] = v_max(x, most[v]);
            }
        }
    }
    DLB_UNROLL
    for (int v = 0; v < vectors; v++)
        all = v_add(all, sum[v]);
    if (v_has_nan(all)) {
        max_slowly(w, c, (vectors - 1) * VLEN + lanes, dst, index, at, kind);
        return;
    }
    DLB_UNROLL
    for (int v = 0; v < vectors; v++) {
        store(dst + c + v * VLEN, most[v], lanes, stream);
        store_index(index, at + c + v * VLEN, tap[v], kind);
    }
}

DLB_INLINE void average_vectors(const struct window *w, int64_t c, int vectors, int lanes,
                                float *dst, float scale, bool stream)
{
    vec sum[WIDTH];
    DLB_UNROLL
    for (int v = 0; v < vectors; v++)
        sum[v] = v_zero();
    for (int64_t h = 0; h < w->kh; h++) {
        const float *src = w->src + h * w->row_ld + c;
        for (int64_t k = 0; k < w->kw; k++, src += w->ld)
            DLB_UNROLL
        for (int v = 0; v < vectors; v++)
            sum[v] = v_add(sum[v], load(src + v * VLEN, lanes));
    }
    DLB_UNROLL
    for (int v = 0; v < vectors; v++)
        store(dst + c + v * VLEN, v_mul(sum[v], v_set1(scale)), lanes, stream);
}

static struct window window_at(const struct dlb_pooling_row *r, const int64_t *h,
                               int64_t x)
{
    const struct dlb_pooling_shape *s = r->s;
    int64_t w[2];
    dlb_pooling_taps(x, s->iw, s->kw, s->sw, s->pw, &w[0], &w[1]);
    return (struct window){
        .src = r->src +
               ((r->y * s->sh - s->ph + h[0]) * s->iw + x * s->sw - s->pw + w[0]) * s->ic,
        .row_ld = s->iw * s->ic,
        .ld = s->ic,
        .kh = h[1] - h[0],
        .kw = w[1] - w[0],
        .tap = h[0] * s->kw + w[0],
        .kernel_kw = s->kw,
    };
}

static void rows_at(const struct dlb_pooling_row *r, int64_t *h)
{
    const struct dlb_pooling_shape *s = r->s;
    dlb_pooling_taps(r->y, s->ih, s->kh, s->sh, s->ph, &h[0], &h[1]);
}

DLB_INLINE void max(const struct dlb_pooling_row *r, enum index_kind kind, bool stream)
{
    const struct dlb_pooling_shape *s = r->s;
    int64_t h[2];
    rows_at(r, h);
    for (int64_t x = 0; x < s->ow; x++) {
        const struct window w = window_at(r, h, x);
        float *dst = r->dst + x * s->ic;
        const int64_t at = x * r->index_ld;
        int64_t c = 0;
        for (; c + WIDTH * VLEN <= r->channels; c += WIDTH * VLEN)
            max_vectors(&w, c, WIDTH, VLEN, dst, r->index, at, kind, stream);
        for (; c + VLEN <= r->channels; c += VLEN)
            max_vectors(&w, c, 1, VLEN, dst, r->index, at, kind, stream);
        if (c < r->channels)
            max_vectors(&w, c, 1, (int)(r->channels - c), dst, r->index, at, kind, false);
    }
}

DLB_INLINE void average(const struct dlb_pooling_row *r, bool stream)
{
    const struct dlb_pooling_shape *s = r->s;
    int64_t h[2];
    rows_at(r, h);
    for (int64_t x = 0; x < s->ow; x++) {
        const struct window w = window_at(r, h, x);
        const float scale = r->scale[r->y * s->ow + x];
        float *dst = r->dst + x * s->ic;
        int64_t c = 0;
        for (; c + WIDTH * VLEN <= r->channels; c += WIDTH * VLEN)
            average_vectors(&w, c, WIDTH, VLEN, dst, scale, stream);
        for (; c + VLEN <= r->channels; c += VLEN)
            average_vectors(&w, c, 1, VLEN, dst, scale, stream);
        if (c < r->channels)
            average_vectors(&w, c, 1, (int)(r->channels - c), dst, scale, false);
    }
}

/* Adds n taps to dst, or begins it with them. */
DLB_INLINE void sweep_taps(const float *src, int64_t ld, int n, int64_t channels,
                           bool first, bool last, float scale, float *dst, bool stream)
{
    for (int64_t c = 0; c < channels; c += VLEN) {
        const int lanes = channels - c < VLEN ? (int)(channels - c) : VLEN;
        vec sum = load(src + c, lanes);
        DLB_UNROLL
        for (int k = 1; k < n; k++)
            sum = v_add(sum, load(src + k * ld + c, lanes));
        if (!first)
            sum = v_add(load(dst + c, lanes), sum);
        if (last)
            store(dst + c, v_mul(sum, v_set1(scale)), lanes, stream);
        else
            store(dst + c, sum, lanes, false);
    }
}

/* Memory is read as it lies: many channels are pages apart from tap to tap. */
DLB_INLINE void sweep(const struct dlb_pooling_row *r, bool stream)
{
    const struct dlb_pooling_shape *s = r->s;
    int64_t h[2];
    rows_at(r, h);
    for (int64_t x = 0; x < s->ow; x++) {
        const struct window w = window_at(r, h, x);
        const float scale = r->scale[r->y * s->ow + x];
        float *dst = r->dst + x * s->ic;
        for (int64_t y = 0; y < w.kh; y++)
            for (int64_t k = 0; k < w.kw; k += SWEPT) {
                const float *src = w.src + y * w.row_ld + k * w.ld;
                const bool first = y == 0 && k == 0,
                           last = y == w.kh - 1 && k + SWEPT >= w.kw;
                const int64_t taps = w.kw - k;
                if (taps >= SWEPT)
                    sweep_taps(src, w.ld, SWEPT, r->channels, first, last, scale, dst,
                               stream);
                else if (taps == 3)
                    sweep_taps(src, w.ld, 3, r->channels, first, last, scale, dst,
                               stream);
                else if (taps == 2)
                    sweep_taps(src, w.ld, 2, r->channels, first, last, scale, dst,
                               stream);
                else
                    sweep_taps(src, w.ld, 1, r->channels, first, last, scale, dst,
                               stream);
            }
    }
}

/* The windows over one pixel of diff_src. */
struct cover {
    const struct dlb_pooling_row *row;
    int64_t h[2], w[2]; /* of the windows */
    int64_t x;
};

/* kind NO_INDEX: average. */
DLB_INLINE void back_vectors(const struct cover *v, int64_t c, int vectors, int lanes,
                             enum index_kind kind, bool stream)
{
    const struct dlb_pooling_row *r = v->row;
    const struct dlb_pooling_shape *s = r->s;
    vec sum[WIDTH];
    DLB_UNROLL
    for (int i = 0; i < vectors; i++)
        sum[i] = v_zero();
    for (int64_t oh = v->h[0]; oh < v->h[1]; oh++)
        for (int64_t ow = v->w[0]; ow < v->w[1]; ow++) {
            const int64_t pixel = oh * s->ow + ow,
                          tap = (r->y - oh * s->sh + s->ph) * s->kw + v->x - ow * s->sw +
                                s->pw;
            const float *diff = r->src + pixel * s->ic + c;
            const vec factor = v_set1(kind == NO_INDEX ? r->scale[pixel] : (float)tap);
            DLB_UNROLL
            for (int i = 0; i < vectors; i++) {
                vec d = load(diff + i * VLEN, lanes);
                if (kind == NO_INDEX)
                    d = v_mul(d, factor);
                else
                    d = v_if_equal(
                        load_index(r->index, pixel * r->index_ld + c + i * VLEN, kind),
                        factor, d, v_zero());
                sum[i] = v_add(sum[i], d);
            }
        }
    DLB_UNROLL
    for (int i = 0; i < vectors; i++)
        store(r->dst + v->x * s->ic + c + i * VLEN, sum[i], lanes, stream);
}

DLB_INLINE void back(const struct dlb_pooling_row *r, enum index_kind kind, bool stream)
{
    const struct dlb_pooling_shape *s = r->s;
    struct cover v = {.row = r};
    dlb_pooling_windows(r->y, s->oh, s->kh, s->sh, s->ph, &v.h[0], &v.h[1]);
    for (; v.x < s->iw; v.x++) {
        int64_t c = 0;
        dlb_pooling_windows(v.x, s->ow, s->kw, s->sw, s->pw, &v.w[0], &v.w[1]);
        for (; c + WIDTH * VLEN <= r->channels; c += WIDTH * VLEN)
            back_vectors(&v, c, WIDTH, VLEN, kind, stream);
        for (; c + VLEN <= r->channels; c += VLEN)
            back_vectors(&v, c, 1, VLEN, kind, stream);
        if (c < r->channels)
            back_vectors(&v, c, 1, (int)(r->channels - c), kind, false);
    }
}

/* (entry, function, what index it has) */
#define KERNELS(K)                                                                       \
    K(max, max, NO_INDEX)                                                                \
    K(max_bytes, max, BYTES)                                                             \
    K(max_floats, max, FLOATS)                                                           \
    K(back_bytes, back, BYTES)                                                           \
    K(back_floats, back, FLOATS)                                                         \
    K(back_average, back, NO_INDEX)

#define KERNEL_FUNCTION(name, function, kind)                                            \
    static void name##_cached(const struct dlb_pooling_row *row)                         \
    {                                                                                    \
        function(row, kind, false);                                                      \
    }                                                                                    \
    static void name##_streamed(const struct dlb_pooling_row *row)                       \
    {                                                                                    \
        function(row, kind, true);                                                       \
    }
KERNELS(KERNEL_FUNCTION)

static void average_cached(const struct dlb_pooling_row *row)
{
    average(row, false);
}
static void average_streamed(const struct dlb_pooling_row *row)
{
    average(row, true);
}

static void sweep_cached(const struct dlb_pooling_row *row)
{
    sweep(row, false);
}
static void sweep_streamed(const struct dlb_pooling_row *row)
{
    sweep(row, true);
}

#define KERNEL_ENTRY(name, function, kind) .name = {name##_cached, name##_streamed},

extern const struct dlb_pooling_kernels DLB_NAME(dlb_pooling);
const struct dlb_pooling_kernels DLB_NAME(dlb_pooling) = {
    .lanes = VLEN,
    KERNELS(KERNEL_ENTRY).average = {average_cached, average_streamed},
    .sweep = {sweep_cached, sweep_streamed},
    .stream_fence = v_stream_fence,
};
