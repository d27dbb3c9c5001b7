/*
 * Attention of few queries: K and V are read once, in place, for all queries of a head.
 *
 * Shapes    rows of queries [F][d], scaled; scores [F][kb]; sums [F][dv]
 * Units     elements
 * Tiles     kb keys a block: its scores, softmax and weighted values while V is at hand
 * Work items and barriers   struct dlb_attention_work: a head's keys, or a part of them
 * Scratch   F * (d + kb + dv + 3) a thread, rows on cache lines
 * Cost      2*F*keys*(d + dv) flops; least bytes: K and V once
 * Numerics  rows whose masks differ share no call, so a key is never multiplied for a row
 *           that does not see it
 * Errors    dlb_attention_refuse refuses many queries
 */
#include "ops/attention_decode_kernels.h"

#include "core/dispatch.h"
#include "ops/attention_internal.h"

#include <float.h>
#include <string.h>

DLB_ISA_TABLE(struct dlb_attention_decode_kernels, dlb_attention_decode);

const struct dlb_attention_decode_kernels *dlb_attention_decode_kernels(enum dlb_isa isa)
{
    return dlb_attention_decode_by_isa[isa];
}

enum { LINE = DLB_CACHE_LINE / sizeof(float) };

/* Rows of scratch, each on its own cache lines. */
struct rows {
    float *q, *s, *o, *maximum, *sum, *factor;
    int64_t q_ld, s_ld, o_ld;
};

static int64_t rows_make(const struct dlb_attention_plan *p, float *scratch,
                         struct rows *rows)
{
    const int64_t f = p->work.rows, line_rows = dlb_round_up(f, LINE);
    rows->q_ld = dlb_round_up(p->s.d, LINE);
    rows->s_ld = dlb_round_up(p->kb, LINE);
    rows->o_ld = dlb_round_up(p->s.dv, LINE);
    float *at = scratch;
    if (scratch) {
        rows->q = at;
        rows->s = rows->q + f * rows->q_ld;
        rows->o = rows->s + f * rows->s_ld;
        rows->maximum = rows->o + f * rows->o_ld;
        rows->sum = rows->maximum + line_rows;
        rows->factor = rows->sum + line_rows;
    }
    return f * (rows->q_ld + rows->s_ld + rows->o_ld) + 3 * line_rows;
}

static int64_t decode_scratch(const struct dlb_attention_plan *p)
{
    struct rows rows = {0};
    return rows_make(p, NULL, &rows);
}

/* Queries from f on that one call can take: they see the same keys. */
static int64_t rows_together(const struct dlb_attention_plan *p, int64_t f)
{
    const struct dlb_attention_shape *s = &p->s;
    int64_t keys = dlb_attention_keys(s, f / s->group), last = f + 1;
    while (last < p->work.rows && dlb_attention_keys(s, last / s->group) == keys)
        last++;
    int64_t n = DLB_ATTENTION_DECODE_MAX;
    while (n > last - f)
        n /= 2;
    return n;
}

static void add_mask(const struct dlb_attention_plan *p, int64_t image, int64_t f,
                     int64_t key, int64_t keys, float *s)
{
    const float *mask = p->mask + (image * p->s.sq + f / p->s.group) * p->s.sk + key;
    for (int64_t j = 0; j < keys; j++)
        s[j] += mask[j];
}

/* Keys first … first+keys-1, as far as they are seen. */
static void run_block(const struct dlb_attention_plan *p,
                      const struct dlb_attention_unit *unit, const struct rows *rows,
                      int64_t first, int64_t keys)
{
    const struct dlb_attention_shape *s = &p->s;
    const struct dlb_attention_decode_kernels *kernels =
        dlb_attention_decode_by_isa[p->isa];
    const int64_t image = unit->head / s->hk;
    const int64_t key = (image * s->sk + first) * s->hk + unit->head % s->hk;
    struct dlb_attention_decode call = {
        .q_ld = rows->q_ld, .s_ld = rows->s_ld, .o_ld = rows->o_ld};
    for (int pass = 0; pass < 2; pass++) {
        call.b = pass ? p->v + key * s->dv : p->k + key * s->d;
        call.n = pass ? s->dv : s->d;
        call.b_ld = s->hk * call.n;
        for (int64_t f = 0, n; f < p->work.rows; f += n) {
            n = rows_together(p, f);
            int64_t seen = dlb_attention_keys(s, f / s->group) - first;
            call.keys = dlb_min(keys, dlb_max(0, seen));
            call.q = rows->q + f * rows->q_ld;
            call.s = rows->s + f * rows->s_ld;
            call.o = rows->o + f * rows->o_ld;
            call.factor = rows->factor + f;
            if (pass) {
                kernels->values[n](&call);
                continue;
            }
            kernels->scores[n](&call);
            for (int64_t r = f; r < f + n; r++) {
                float *scores = rows->s + r * rows->s_ld;
                if (p->mask)
                    add_mask(p, image, r, first, call.keys, scores);
                rows->factor[r] =
                    kernels->softmax(scores, call.keys, &rows->maximum[r], &rows->sum[r]);
            }
        }
    }
}

static void start(const struct dlb_attention_plan *p, int64_t head,
                  const struct rows *rows)
{
    const int64_t d = p->s.d;
    for (int64_t f = 0; f < p->work.rows; f++) {
        const float *q = p->q + dlb_attention_row(&p->s, head, f) * d;
        for (int64_t k = 0; k < d; k++)
            rows->q[f * rows->q_ld + k] = q[k] * p->s.scale;
        memset(rows->o + f * rows->o_ld, 0, (size_t)p->s.dv * sizeof(float));
        rows->maximum[f] = -FLT_MAX;
        rows->sum[f] = 0;
    }
}

static void finish(const struct dlb_attention_plan *p,
                   const struct dlb_attention_unit *unit, const struct rows *rows)
{
    const int64_t dv = p->s.dv;
    for (int64_t f = 0; f < p->work.rows; f++) {
        const float *o = rows->o + f * rows->o_ld;
        if (p->partial) {
            float *partial = dlb_attention_partial(p, unit->head, unit->part, f);
            memcpy(partial, o, (size_t)dv * sizeof(float));
            partial[dv] = rows->maximum[f];
            partial[dv + 1] = rows->sum[f];
            continue;
        }
        float *dst = p->dst + dlb_attention_row(&p->s, unit->head, f) * dv;
        for (int64_t c = 0; c < dv; c++)
            dst[c] = o[c];
        dlb_attention_divide(dst, dv, rows->sum[f]);
        dlb_attention_keep(p, unit->head, f, rows->maximum[f], rows->sum[f]);
    }
}

static void decode_run(const struct dlb_attention_plan *p,
                       const struct dlb_attention_unit *unit, float *scratch)
{
    struct rows rows = {0};
    rows_make(p, scratch, &rows);
    start(p, unit->head, &rows);
    int64_t seen = dlb_attention_keys(&p->s, p->s.sq - 1);
    int64_t end = dlb_min(unit->key_end, seen);
    for (int64_t j = unit->key_begin; j < end; j += p->kb)
        run_block(p, unit, &rows, j, dlb_min(p->kb, end - j));
    finish(p, unit, &rows);
}

const struct dlb_attention_runner dlb_attention_decode = {decode_scratch, decode_run};
