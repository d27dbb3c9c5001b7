/*
 * A pass over all rows takes some channels of one panel; all panels of a call follow for
 * one part of the channels before the next part, so that this part of the rows stays in L2.
 */
#include "ops/rnn_multiply.h"

enum { PIECES_MOST = 256 }; /* of a row, in one call of a tile */

struct dlb_rnn_gemm dlb_rnn_gemm_make(const struct dlb_target *target,
                                      const struct dlb_candidate *candidate)
{
    const int *tile = candidate->tile;
    const struct dlb_brgemm_kernels *tiles = dlb_brgemm_kernels(target->isa);
    return (struct dlb_rnn_gemm){
        .tiles = tiles,
        .row = dlb_rnn_kernels(target->isa)->row,
        .lanes = tiles->lanes,
        .nv = tile[DLB_RNN_TILE_NR] / tiles->lanes,
        .kc = tile[DLB_RNN_TILE_KC],
        .fetch_panel = tile[DLB_RNN_TILE_PREFETCH] == DLB_RNN_PREFETCH_PANEL,
    };
}

struct chunk {
    int64_t panel, at, k; /* channels at … at+k-1 */
    int nv, columns;
    const float *b;
};

static struct chunk chunk_make(const struct dlb_rnn_gemm *g,
                               const struct dlb_rnn_product *q, int64_t panel, int64_t at)
{
    const int64_t width = g->nv * g->lanes;
    int64_t kc = g->kc;
    if (q->a_offset)
        kc = dlb_min(PIECES_MOST, dlb_div_up(kc, q->a_width)) * q->a_width;
    struct chunk chunk = {
        .panel = panel,
        .at = at,
        .k = dlb_min(kc, q->k - at),
        .columns = (int)dlb_min(width, q->columns - panel * width),
    };
    chunk.nv = (int)dlb_div_up(chunk.columns, g->lanes);
    chunk.b = q->packed + panel * width * q->k + at * chunk.nv * g->lanes;
    return chunk;
}

/* Rows of one set, in tiles whose sizes differ by at most one. */
static void multiply_rows(struct dlb_brgemm *call, dlb_brgemm_fn *const *kernel,
                          int64_t rows, int64_t tiles, const float *fetch_end)
{
    int64_t small = rows / tiles, large = rows % tiles;
    for (int64_t i = 0; i < tiles; i++) {
        int64_t mr = small + (i < large);
        if (call->flags & DLB_BRGEMM_ACCUMULATE && i + 1 < tiles)
            dlb_rnn_fetch_tile(call->c + mr * call->ldc, call->ldc,
                               small + (i + 1 < large), call->n);
        kernel[mr](call);
        call->a += mr * call->lda;
        call->c += mr * call->ldc;
        if (call->fetch) {
            call->fetch += call->batch * call->k * DLB_BRGEMM_FETCH;
            if (call->fetch >= fetch_end)
                call->fetch = NULL;
        }
    }
}

/* One chunk; next is the one after it or NULL, c its columns. */
static void multiply_chunk(const struct dlb_rnn_gemm *g, const struct dlb_rnn_product *q,
                           const struct chunk *chunk, const struct chunk *next, float *c)
{
    static const int64_t zero = 0;
    const int64_t tiles = dlb_div_up(q->rows, q->mr), width = g->nv * g->lanes;
    const float *fetch = g->fetch_panel && next ? next->b : NULL,
                *fetch_end = fetch ? fetch + next->k * next->nv * g->lanes : NULL;
    int64_t b_offset[PIECES_MOST];
    struct dlb_brgemm call = {
        .a_offset = &zero,
        .lda = q->lda,
        .b = chunk->b,
        .b_offset = &zero,
        .fetch = fetch,
        .batch = 1,
        .k = chunk->k,
        .ldc = q->ldc,
        .bias = q->bias ? q->bias + chunk->panel * width : NULL,
        .n = chunk->columns,
        .flags = chunk->at || q->add ? DLB_BRGEMM_ACCUMULATE : 0,
    };
    if (q->a_offset) {
        call.a_offset = q->a_offset + chunk->at / q->a_width;
        call.b_offset = b_offset;
        call.batch = chunk->k / q->a_width;
        call.k = q->a_width;
        for (int64_t i = 0; i < call.batch; i++)
            b_offset[i] = i * q->a_width * chunk->nv * g->lanes;
    }
    for (int64_t set = 0; set < q->sets; set++) {
        call.a = q->a + set * q->a_set + (q->a_offset ? 0 : chunk->at);
        call.c = c + set * q->rows * q->ldc;
        multiply_rows(&call, g->tiles->tile[chunk->nv], q->rows, tiles, fetch_end);
    }
}

/* A row's product with as many of the panels begin … end-1 as come in whole sets of
 * streams; returns the first one that is left. */
static int64_t multiply_row(const struct dlb_rnn_gemm *g, const struct dlb_rnn_product *q,
                            int64_t begin, int64_t end, bool back)
{
    const int64_t width = g->nv * g->lanes, whole = q->columns / width,
                  sets = (dlb_min(end, whole) - begin) / DLB_RNN_STREAMS;
    if (q->rows * q->sets != 1 || g->nv != DLB_RNN_STREAM_NV || q->a_offset || q->add)
        return begin;
    for (int64_t i = 0; i < sets; i++) {
        int64_t panel = begin + (back ? sets - 1 - i : i) * DLB_RNN_STREAMS;
        struct dlb_rnn_row call = {
            .a = q->a,
            .b = q->packed + panel * width * q->k,
            .bias = q->bias ? q->bias + panel * width : NULL,
            .k = q->k,
            .b_panel = width * q->k,
            .c = q->c + (panel - begin) * width,
        };
        g->row(&call);
    }
    return begin + dlb_max(0, sets) * DLB_RNN_STREAMS;
}

void dlb_rnn_multiply(const struct dlb_rnn_gemm *g, const struct dlb_rnn_product *q,
                      int64_t begin, int64_t end, bool back)
{
    const int64_t left = multiply_row(g, q, begin, end, back);
    if (left == end)
        return;
    const int64_t first = back ? end - 1 : left, last = back ? left : end - 1,
                  step = back ? -1 : 1;
    struct chunk chunk = chunk_make(g, q, first, 0);
    for (bool more = true; more;) {
        float *c = q->c + (chunk.panel - begin) * g->nv * g->lanes;
        int64_t panel = chunk.panel + step, at = chunk.at;
        if (chunk.panel == last) {
            at += chunk.k;
            more = at < q->k;
            /* After all chunks the next group's first one. */
            panel = more ? first : panel;
            at = more ? at : 0;
        }
        if (panel < q->panels[0] || panel >= q->panels[1]) {
            multiply_chunk(g, q, &chunk, NULL, c);
            continue;
        }
        struct chunk next = chunk_make(g, q, panel, at);
        multiply_chunk(g, q, &chunk, &next, c);
        chunk = next;
    }
}
