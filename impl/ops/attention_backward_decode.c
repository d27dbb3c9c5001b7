/*
 * Attention backward of few queries: K and V are read once, in place, and the gradients of
 * their rows written once.
 *
 *   for each block of keys:
 *       S = Q K^T;  dP = dO V^T;  P = exp(S - m) / l;  dS = P (dP - e)
 *       dV = P^T dO;  dK = dS^T Q;  dQ += dS K
 *
 * Shapes    rows of queries [F][d], scaled; dO [F][dv]; P and dS [F][kb]; dQ [F][d]
 * Units     elements.  Work unit: a key/value head and a part of its keys
 * Tiles     kb keys a block: its weights while K, V and their gradients are at hand
 * Scratch   F * (2 d + dv + 2 kb + 4) a thread, rows on cache lines
 * Cost      F*keys*(6 d + 4 dv) flops; least bytes: K and V read, dK and dV written, once
 * Numerics  one chain of FMA per element and block.  Rows that see other keys share no
 *           call, so that nothing reaches a row, or comes from one, that does not see it
 * Errors    dlb_attention_refuse refuses many queries
 */
#include "ops/attention_backward_internal.h"
#include "ops/attention_decode_kernels.h"

#include <string.h>

enum { LINE = DLB_CACHE_LINE / sizeof(float) };

/* Rows of scratch, each on its own cache lines. */
struct rows {
    float *q, *diff, *dq, *s, *ds, *maximum, *weight, *mean, *one;
    int64_t d_ld, dv_ld, s_ld;
};

static int64_t rows_make(const struct dlb_attention_backward *p, float *scratch,
                         struct rows *rows)
{
    const int64_t f = p->work.rows, numbers = dlb_round_up(f, LINE);
    rows->d_ld = dlb_round_up(p->s.d, LINE);
    rows->dv_ld = dlb_round_up(p->s.dv, LINE);
    rows->s_ld = dlb_round_up(p->kb, LINE);
    const struct {
        float **to;
        int64_t elements;
    } sizes[] = {
        {&rows->q, f * rows->d_ld},  {&rows->diff, f * rows->dv_ld},
        {&rows->dq, f * rows->d_ld}, {&rows->s, f * rows->s_ld},
        {&rows->ds, f * rows->s_ld}, {&rows->maximum, numbers},
        {&rows->weight, numbers},    {&rows->mean, numbers},
        {&rows->one, numbers},
    };
    int64_t total = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        if (scratch)
            *sizes[i].to = scratch + total;
        total += sizes[i].elements;
    }
    return total;
}

static int64_t decode_scratch(const struct dlb_attention_backward *p)
{
    struct rows rows = {0};
    return rows_make(p, NULL, &rows);
}

static void decode_start(const struct dlb_attention_backward *p, float *scratch)
{
    struct rows rows = {0};
    rows_make(p, scratch, &rows);
    for (int64_t f = 0; f < p->work.rows; f++)
        rows.one[f] = 1;
}

/* Keys that row f sees; none where the forward pass found none. */
static int64_t keys_of(const struct dlb_attention_backward *p, const struct rows *rows,
                       int64_t f)
{
    return rows->weight[f] == 0 ? 0 : dlb_attention_keys(&p->s, f / p->s.group);
}

/* Queries from f on that one call can take: they see the same keys. */
static int64_t rows_together(const struct dlb_attention_backward *p,
                             const struct rows *rows, int64_t f)
{
    const int64_t keys = keys_of(p, rows, f);
    int64_t last = f + 1, n = DLB_ATTENTION_DECODE_MAX;
    while (last < p->work.rows && keys_of(p, rows, last) == keys)
        last++;
    while (n > last - f)
        n /= 2;
    return n;
}

static void load_rows(const struct dlb_attention_backward *p, int64_t head,
                      const struct rows *rows)
{
    const struct dlb_attention_shape *s = &p->s;
    for (int64_t f = 0; f < p->work.rows; f++) {
        const int64_t row = dlb_attention_row(s, head, f);
        const float *q = p->q + row * s->d, *diff = p->diff_dst + row * s->dv,
                    *dst = p->dst + row * s->dv,
                    *kept = p->statistics + (head * p->work.rows + f) * 2;
        float mean = 0;
        for (int64_t c = 0; c < s->d; c++)
            rows->q[f * rows->d_ld + c] = q[c] * s->scale;
        for (int64_t c = 0; c < s->dv; c++) {
            rows->diff[f * rows->dv_ld + c] = diff[c];
            mean += diff[c] * dst[c];
        }
        memset(rows->dq + f * rows->d_ld, 0, (size_t)s->d * sizeof(float));
        rows->maximum[f] = kept[0];
        rows->weight[f] = kept[1] == 0 ? 0 : 1 / kept[1];
        rows->mean[f] = mean;
    }
}

/* P and dS of rows f … f+n-1. */
static void weigh(const struct dlb_attention_backward *p, const struct rows *rows,
                  int64_t head, int64_t first, int64_t f, int64_t n, int64_t keys,
                  const float *k, const float *v)
{
    const struct dlb_attention_shape *s = &p->s;
    const struct dlb_attention_decode_kernels *kernels =
        dlb_attention_decode_kernels(p->isa);
    kernels->scores[n](&(struct dlb_attention_decode){.q = rows->q + f * rows->d_ld,
                                                      .q_ld = rows->d_ld,
                                                      .b = k,
                                                      .b_ld = s->hk * s->d,
                                                      .keys = keys,
                                                      .n = s->d,
                                                      .s = rows->s + f * rows->s_ld,
                                                      .s_ld = rows->s_ld});
    kernels->scores[n](&(struct dlb_attention_decode){.q = rows->diff + f * rows->dv_ld,
                                                      .q_ld = rows->dv_ld,
                                                      .b = v,
                                                      .b_ld = s->hk * s->dv,
                                                      .keys = keys,
                                                      .n = s->dv,
                                                      .s = rows->ds + f * rows->s_ld,
                                                      .s_ld = rows->s_ld});
    for (int64_t r = f; r < f + n; r++) {
        float *scores = rows->s + r * rows->s_ld;
        const float *mask =
            p->mask ? p->mask + (head / s->hk * s->sq + r / s->group) * s->sk + first
                    : NULL;
        for (int64_t j = 0; mask && j < keys; j++)
            scores[j] += mask[j];
        kernels->weights(scores, rows->ds + r * rows->s_ld, keys, rows->maximum[r],
                         rows->weight[r], rows->mean[r]);
    }
}

/* Gradients of keys (weights: dS, from: q) or values (P, dO) from the rows f … f+n-1. */
static void spread(const struct dlb_attention_backward *p, int64_t n,
                   const float *weights, int64_t s_ld, const float *from, int64_t from_ld,
                   int64_t keys, int64_t columns, bool add, float *to)
{
    dlb_attention_decode_kernels(p->isa)->outer[n](
        &(struct dlb_attention_decode){.q = from,
                                       .q_ld = from_ld,
                                       .s = (float *)weights,
                                       .s_ld = s_ld,
                                       .keys = keys,
                                       .n = columns,
                                       .to = to,
                                       .to_ld = p->s.hk * columns,
                                       .add = add,
                                       .stream = p->stream && !add});
}

static void clear(const struct dlb_attention_backward *p, float *to, int64_t keys,
                  int64_t columns)
{
    for (int64_t j = 0; j < keys; j++)
        memset(to + j * p->s.hk * columns, 0, (size_t)columns * sizeof(float));
}

static void run_block(const struct dlb_attention_backward *p, const struct rows *rows,
                      int64_t head, int64_t first, int64_t keys)
{
    const struct dlb_attention_shape *s = &p->s;
    const int64_t row = (head / s->hk * s->sk + first) * s->hk + head % s->hk;
    const float *k = p->k + row * s->d, *v = p->v + row * s->dv;
    float *dk = p->diff_k + row * s->d, *dv = p->diff_v + row * s->dv;
    int64_t written = 0; /* keys whose gradients hold something */
    for (int64_t f = 0, n; f < p->work.rows; f += n) {
        n = rows_together(p, rows, f);
        const int64_t seen = dlb_min(keys, dlb_max(0, keys_of(p, rows, f) - first));
        if (!seen)
            continue;
        weigh(p, rows, head, first, f, n, seen, k, v);
        const float *weights = rows->s + f * rows->s_ld, *ds = rows->ds + f * rows->s_ld,
                    *q = rows->q + f * rows->d_ld, *diff = rows->diff + f * rows->dv_ld;
        /* Later rows see no fewer keys: those behind what is written are new. */
        const int64_t old = dlb_min(written, seen), more = seen - old;
        if (old) {
            spread(p, n, weights, rows->s_ld, diff, rows->dv_ld, old, s->dv, true, dv);
            spread(p, n, ds, rows->s_ld, q, rows->d_ld, old, s->d, true, dk);
        }
        if (more) {
            spread(p, n, weights + old, rows->s_ld, diff, rows->dv_ld, more, s->dv, false,
                   dv + old * s->hk * s->dv);
            spread(p, n, ds + old, rows->s_ld, q, rows->d_ld, more, s->d, false,
                   dk + old * s->hk * s->d);
        }
        written = dlb_max(written, seen);
        dlb_attention_decode_kernels(p->isa)->values[n](
            &(struct dlb_attention_decode){.b = k,
                                           .b_ld = s->hk * s->d,
                                           .keys = seen,
                                           .n = s->d,
                                           .s = (float *)ds,
                                           .s_ld = rows->s_ld,
                                           .o = rows->dq + f * rows->d_ld,
                                           .o_ld = rows->d_ld,
                                           .factor = rows->one + f});
    }
    clear(p, dk + written * s->hk * s->d, keys - written, s->d);
    clear(p, dv + written * s->hk * s->dv, keys - written, s->dv);
}

static void decode_run(const struct dlb_attention_backward *p, int64_t head, int64_t part,
                       float *scratch)
{
    const int64_t d = p->s.d, end = p->part_begin[part + 1];
    struct rows rows = {0};
    rows_make(p, scratch, &rows);
    load_rows(p, head, &rows);
    for (int64_t j = p->part_begin[part]; j < end; j += p->kb)
        run_block(p, &rows, head, j, dlb_min(p->kb, end - j));
    for (int64_t f = 0; f < p->work.rows; f++) {
        float *to = dlb_attention_backward_target(p, head, part, f);
        for (int64_t c = 0; c < d; c++)
            to[c] = rows.dq[f * rows.d_ld + c] * p->s.scale;
    }
    if (p->stream)
        dlb_attention_decode_kernels(p->isa)->stream_fence();
}

const struct dlb_attention_backward_runner dlb_attention_backward_decode = {
    decode_scratch, decode_start, decode_run};
