/*
 * Linear layers: plan and driver around the batch-reduce GEMM.
 *
 *   C[i][j] = act( bias[j] + sum over l of A[i][l] B[l][j] ), as linear_internal.h says
 *
 * Shapes    B packed as panels of nr columns: [k/kc][panel][kc][nr], the last panel as many
 *           vectors wide as it needs; where B is a parameter in bind, else in run.  A in
 *           place, or copied block by block (bwd_weights: transposed); C in place
 * Units     elements
 * Tiles     blocks of columns, of kc depth, of rows, in this order from the outermost; in a
 *           block panels, then register tiles of at most mr rows, of equal height.  With
 *           one tile a block of rows it stays in L1 while the panels pass by; with more
 *           the panel does.  streams: no blocks; tiles of rows, then groups of panels
 * Work items and barriers   a grid of threads over rows x panels; bwd_weights: one barrier
 *           after all have packed B
 * Scratch   a thread: A packed, rows * (kc + two lines); a block of C where results are
 *           staged, to leave it row by row: as memory likes them, past the caches
 * Cost      2 m n k flops; least bytes: each operand once.  B is read once for each block
 *           of rows, C is read and written again for each kc
 * Numerics  one chain of FMA per element in the order of l, whatever the tiles and threads
 * Errors    dlb_linear_refuse refuses what does not fit
 * Source    Goto & van de Geijn, "Anatomy of high-performance matrix multiplication", 2008
 */
#include "core/brgemm.h"
#include "core/dispatch.h"
#include "ops/linear_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

DLB_ISA_TABLE(struct dlb_linear_kernels, dlb_linear);

const struct dlb_linear_kernels *dlb_linear_kernels(enum dlb_isa isa)
{
    return dlb_linear_by_isa[isa];
}

enum { LINE = DLB_CACHE_LINE / sizeof(float), PANELS_AHEAD = 4 };

struct native {
    struct dlb_plan plan;
    struct dlb_linear_product p;
    const struct dlb_brgemm_kernels *tiles;
    const struct dlb_linear_kernels *kernels;
    enum dlb_linear_algorithm algorithm;
    int mr, nr, nv, last_nv; /* vectors of a panel, and of the last one */
    bool packs_a, fetch, fetch_c;
    unsigned stream;
    int64_t kc, depths;           /* depths: how many kc */
    int64_t rows, columns, pitch; /* of a block: most rows, panels; packed A's rows */
    int64_t panels, width;        /* of B: all panels, and their columns */
    struct dlb_grid grid;
    int64_t stage_ld, stage; /* elements of a row, and of a thread's; 0: not staged */
    float *packed, *scratch; /* scratch: a_elements and stage a thread */
    const float *a, *b;
    float *c, *vector;
};

/* A thread's rows, panels, and its own scratch. */
struct share {
    int64_t rows[2], panels[2];
    float *a, *stage; /* NULL where there is none */
};

static int64_t a_elements(const struct native *p)
{
    return p->packs_a ? p->rows * p->pitch : 0;
}

static struct share share_get(const struct native *p, int rank)
{
    struct share s;
    dlb_grid_share(&p->grid, rank, p->p.m, p->panels, s.rows, s.panels);
    float *scratch = p->scratch + rank * (a_elements(p) + p->stage);
    s.a = p->packs_a ? scratch : NULL;
    s.stage = p->stage ? scratch + a_elements(p) : NULL;
    return s;
}

static int64_t depth_at(const struct native *p, int64_t depth)
{
    return dlb_min(p->kc, p->p.k - depth * p->kc);
}

static int columns_of(const struct native *p, int64_t panel)
{
    return (int)dlb_min(p->nr, p->p.n - panel * p->nr);
}

/* Without a division: short panels are many. */
static int vectors_of(const struct native *p, int64_t panel)
{
    return panel < p->panels - 1 ? p->nv : p->last_nv;
}

static float *panel_at(const struct native *p, int64_t depth, int64_t panel)
{
    return p->packed + depth * p->kc * p->width + panel * p->nr * depth_at(p, depth);
}

/* The panels of a grid's column are packed by all its threads. */
static void pack_b(const struct native *p, int rank)
{
    struct share s = share_get(p, rank);
    int64_t begin, end;
    dlb_share(s.panels[1] - s.panels[0], rank / p->grid.columns, p->grid.rows, &begin,
              &end);
    for (int64_t depth = 0; depth < p->depths; depth++)
        for (int64_t panel = s.panels[0] + begin; panel < s.panels[0] + end; panel++) {
            const int n = columns_of(p, panel),
                      width = vectors_of(p, panel) * p->tiles->lanes;
            const int64_t k = depth_at(p, depth), first = depth * p->kc;
            float *to = panel_at(p, depth, panel);
            if (p->p.transposed)
                p->kernels->transpose(p->b + panel * p->nr * p->p.k + first, p->p.k, n, k,
                                      to, width);
            else
                p->kernels->copy(p->b + first * p->p.n + panel * p->nr, p->p.n, k, n, to,
                                 width);
        }
}

/* What no pass writes, and kernels read: the columns of the last panel beyond n, and
 * scratch. */
static void clear(const struct native *p, int rank)
{
    struct share s = share_get(p, rank);
    if (s.a)
        memset(s.a, 0, sizeof(float) * (size_t)a_elements(p));
    if (s.stage)
        memset(s.stage, 0, sizeof(float) * (size_t)p->stage);
    if (rank != p->plan.threads - 1 || p->width == p->p.n)
        return;
    for (int64_t depth = 0; depth < p->depths; depth++)
        memset(panel_at(p, depth, p->panels - 1), 0,
               sizeof(float) * (size_t)(depth_at(p, depth) * p->tiles->lanes *
                                        vectors_of(p, p->panels - 1)));
}

static enum dlb_status native_bind(struct dlb_plan *plan, void *const *tensor,
                                   const struct dlb_team *team, struct dlb_error *error)
{
    struct native *p = (struct native *)plan;
    (void)error;
    if (team->rank == 0) {
        p->a = tensor[DLB_LINEAR_A];
        p->b = tensor[DLB_LINEAR_B];
        p->c = tensor[DLB_LINEAR_C];
        p->vector = p->p.vector ? tensor[DLB_LINEAR_VECTOR] : NULL;
    }
    dlb_team_barrier(team);
    clear(p, team->rank);
    dlb_team_barrier(team);
    pack_b(p, team->rank);
    dlb_team_barrier(team);
    return DLB_OK;
}

/* A's rows begin … end-1 in one depth: where they are, or packed. */
static const float *rows_of_a(const struct native *p, float *scratch, int64_t depth,
                              int64_t begin, int64_t end, int64_t *lda)
{
    const int64_t k = depth_at(p, depth), first = depth * p->kc;
    *lda = scratch ? p->pitch : p->p.k;
    if (!scratch)
        return p->a + begin * p->p.k + first;
    if (p->p.gradient)
        p->kernels->transpose(p->a + first * p->p.m + begin, p->p.m, k, end - begin,
                              scratch, p->pitch);
    else
        p->kernels->copy(p->a + begin * p->p.k + first, p->p.k, end - begin, k, scratch,
                         p->pitch);
    return scratch;
}

/* A kernel's call, with what is fetched on the side. */
struct caller {
    struct dlb_brgemm call;
    const float *fetch_end;
};

/* The panel that comes after this one, in this depth or the next. */
static void fetch_next(const struct native *p, struct caller *caller, int64_t depth,
                       int64_t panel, const int64_t *panels)
{
    if (++panel == panels[1]) {
        panel = panels[0];
        depth = (depth + 1) % p->depths;
    }
    caller->call.fetch = panel_at(p, depth, panel);
    caller->fetch_end =
        caller->call.fetch + depth_at(p, depth) * vectors_of(p, panel) * p->tiles->lanes;
}

static void invoke(struct caller *caller, dlb_brgemm_fn *kernel)
{
    struct dlb_brgemm *call = &caller->call;
    kernel(call);
    if (!call->fetch)
        return;
    call->fetch += call->k * DLB_BRGEMM_FETCH;
    if (call->fetch >= caller->fetch_end)
        call->fetch = NULL;
}

/* Results of a few panels on, where they are written and left: a short depth is over before
 * they would come from memory. */
static void fetch_c(const struct native *p, const float *c, int64_t rows)
{
    for (int64_t i = 0; i < rows; i++, c += p->p.n)
        for (int64_t j = 0; j < p->nr; j += LINE)
            __builtin_prefetch(c + PANELS_AHEAD * p->nr + j, 1);
}

/* A block of rows, some panels, one depth. */
static void run_block(const struct native *p, struct caller *caller,
                      const struct share *s, const float *a, const int64_t *rows,
                      const int64_t *panels, int64_t depth)
{
    const int64_t height = rows[1] - rows[0];
    const int64_t tiles = dlb_div_up(height, p->mr), low = height / tiles,
                  higher = height % tiles; /* so many tiles have one row more */
    const bool last = depth == p->depths - 1, adds = p->vector && !p->p.gradient;
    struct dlb_brgemm *call = &caller->call;
    float *result = p->c + rows[0] * p->p.n + panels[0] * p->nr,
          *to = s->stage ? s->stage : result;
    call->ldc = s->stage ? p->stage_ld : p->p.n;
    call->k = depth_at(p, depth);
    call->flags = (depth ? DLB_BRGEMM_ACCUMULATE : 0) |
                  (last ? p->stream | (p->p.relu ? DLB_BRGEMM_RELU : 0) : 0);
    for (int64_t panel = panels[0]; panel < panels[1]; panel++) {
        dlb_brgemm_fn *const *kernel = p->tiles->tile[vectors_of(p, panel)];
        call->b = panel_at(p, depth, panel);
        call->n = columns_of(p, panel);
        call->bias = adds ? p->vector + panel * p->nr : NULL;
        if (p->fetch)
            fetch_next(p, caller, depth, panel, panels);
        int64_t row = 0;
        for (int64_t t = 0; t < tiles; t++) {
            const int64_t own = low + (t < higher);
            call->a = a + row * call->lda;
            call->c = to + row * call->ldc + (panel - panels[0]) * p->nr;
            if (p->fetch_c)
                fetch_c(p, call->c, own);
            invoke(caller, kernel[own]);
            row += own;
        }
    }
    if (s->stage)
        p->kernels->stream(s->stage, p->stage_ld, height,
                           dlb_min(p->p.n, panels[1] * p->nr) - panels[0] * p->nr, result,
                           p->p.n);
}

static void run_gemm(const struct native *p, const struct share *s)
{
    static const int64_t zero[1] = {0};
    const int64_t height = s->rows[1] - s->rows[0];
    const int blocks = (int)dlb_div_up(height, p->rows);
    struct caller caller = {
        .call = {.a_offset = zero, .b_offset = zero, .batch = 1, .ldc = p->p.n}};
    for (int64_t j = s->panels[0]; j < s->panels[1]; j += p->columns) {
        const int64_t panels[2] = {j, dlb_min(s->panels[1], j + p->columns)};
        for (int64_t depth = 0; depth < p->depths; depth++)
            for (int i = 0; i < blocks; i++) {
                int64_t rows[2];
                dlb_share(height, i, blocks, &rows[0], &rows[1]);
                rows[0] += s->rows[0];
                rows[1] += s->rows[0];
                const float *a =
                    rows_of_a(p, s->a, depth, rows[0], rows[1], &caller.call.lda);
                run_block(p, &caller, s, a, rows, panels, depth);
            }
    }
    if (p->stream || p->stage)
        p->tiles->stream_fence();
}

/* Panels that are whole in groups, what is left one by one. */
static void run_streams(const struct native *p, const struct share *s)
{
    static const int64_t zero[1] = {0};
    const int64_t together = p->kernels->streams[p->mr].streams;
    const int64_t height = s->rows[1] - s->rows[0];
    const int tiles = (int)dlb_div_up(height, p->mr);
    for (int64_t panel = s->panels[0]; panel < s->panels[1];) {
        const bool group =
            panel + together <= s->panels[1] && (panel + together) * p->nr <= p->p.n;
        const float *bias = p->vector ? p->vector + panel * p->nr : NULL;
        for (int t = 0; t < tiles; t++) {
            int64_t begin, end;
            dlb_share(height, t, tiles, &begin, &end);
            const float *a = p->a + (s->rows[0] + begin) * p->p.k;
            float *c = p->c + (s->rows[0] + begin) * p->p.n + panel * p->nr;
            const float *b = panel_at(p, 0, panel);
            const struct dlb_linear_streams call = {.a = a,
                                                    .b = b,
                                                    .bias = bias,
                                                    .lda = p->p.k,
                                                    .ldc = p->p.n,
                                                    .k = p->p.k,
                                                    .b_panel = p->p.k * p->nr,
                                                    .c = c,
                                                    .relu = p->p.relu};
            const struct dlb_brgemm one = {.a = a,
                                           .a_offset = zero,
                                           .lda = p->p.k,
                                           .b = b,
                                           .b_offset = zero,
                                           .batch = 1,
                                           .k = p->p.k,
                                           .c = c,
                                           .ldc = p->p.n,
                                           .bias = bias,
                                           .n = columns_of(p, panel),
                                           .flags = p->p.relu ? DLB_BRGEMM_RELU : 0};
            if (group && end - begin == p->mr)
                p->kernels->streams[p->mr].run(&call);
            else
                p->tiles->tile[vectors_of(p, panel)][end - begin](&one);
        }
        panel += group ? together : 1;
    }
}

static void native_run(struct dlb_plan *plan, const struct dlb_team *team)
{
    const struct native *p = (const struct native *)plan;
    const struct share s = share_get(p, team->rank);
    if (p->p.gradient) {
        int64_t begin, end;
        pack_b(p, team->rank);
        dlb_share(dlb_div_up(p->p.m, LINE), team->rank, team->size, &begin, &end);
        end = dlb_min(end * LINE, p->p.m);
        begin *= LINE;
        if (p->vector && begin < end)
            p->kernels->sums(p->a + begin, p->p.m, p->p.k, end - begin,
                             p->vector + begin);
        dlb_team_barrier(team);
    }
    if (p->algorithm == DLB_LINEAR_STREAMS)
        run_streams(p, &s);
    else
        run_gemm(p, &s);
}

static enum dlb_status native_fetch(struct dlb_plan *plan, const struct dlb_team *team,
                                    struct dlb_error *error)
{
    (void)plan, (void)team, (void)error;
    return DLB_OK;
}

static void native_release(struct dlb_plan *plan)
{
    struct native *p = (struct native *)plan;
    dlb_free(p->packed);
    dlb_free(p->scratch);
    free(p);
}

static const struct dlb_plan_class native_class = {
    .impl = "native",
    .spmd = true,
    .bind = native_bind,
    .run = native_run,
    .fetch = native_fetch,
    .release = native_release,
};

enum dlb_status dlb_linear_plan(const struct dlb_problem *problem,
                                const struct dlb_target *target,
                                const struct dlb_candidate *candidate,
                                struct dlb_plan **plan, struct dlb_error *error)
{
    const int *tile = candidate->tile;
    const char *reason = dlb_linear_refuse(problem, target, candidate);
    if (reason)
        return dlb_fail(error, DLB_UNSUPPORTED,
                        "This way of computing the linear layer is not legal here (%s); "
                        "take a candidate that the search space offers.",
                        reason);
    struct native *p = calloc(1, sizeof *p);
    if (!p)
        return dlb_fail(error, DLB_NOMEM, "No memory for a plan of %zu bytes.",
                        sizeof *p);
    p->plan.class = &native_class;
    p->plan.threads = target->threads;
    dlb_linear_product_get(problem, &p->p);
    p->tiles = dlb_brgemm_kernels(target->isa);
    p->kernels = dlb_linear_kernels(target->isa);
    p->algorithm = (enum dlb_linear_algorithm)candidate->algorithm;
    p->mr = tile[DLB_LINEAR_TILE_MR];
    p->nr = tile[DLB_LINEAR_TILE_NR];
    p->packs_a = tile[DLB_LINEAR_TILE_A] == DLB_LINEAR_A_PACKED;
    p->fetch = tile[DLB_LINEAR_TILE_PREFETCH] == DLB_LINEAR_PREFETCH_PANEL;
    p->stream =
        tile[DLB_LINEAR_TILE_STREAM] == DLB_LINEAR_STREAM_ON ? DLB_BRGEMM_STREAM : 0;
    p->kc = tile[DLB_LINEAR_TILE_KC];
    p->depths = dlb_div_up(p->p.k, p->kc);
    p->rows = tile[DLB_LINEAR_TILE_ROWS];
    p->panels = dlb_div_up(p->p.n, p->nr);
    p->nv = p->nr / p->tiles->lanes;
    p->last_nv = (int)dlb_div_up(columns_of(p, p->panels - 1), p->tiles->lanes);
    p->columns = dlb_div_up(tile[DLB_LINEAR_TILE_COLUMNS], p->nr);
    p->width = dlb_round_up(p->p.n, p->tiles->lanes);
    p->pitch = dlb_round_up(p->kc, LINE) + LINE;
    p->grid =
        dlb_grid_make(tile[DLB_LINEAR_TILE_SPLIT], target->threads, p->p.m, p->panels);
    p->stage_ld = dlb_linear_stage_ld(candidate);
    if (tile[DLB_LINEAR_TILE_STREAM] == DLB_LINEAR_STREAM_STAGED)
        p->stage = p->rows * p->stage_ld;
    p->fetch_c = !p->stream && !p->stage && p->kc <= DLB_LINEAR_SHORT_DEPTH;
    const size_t packed = sizeof(float) * (size_t)(p->p.k * p->width),
                 scratch = sizeof(float) *
                           (size_t)(target->threads * (a_elements(p) + p->stage));
    p->packed = dlb_alloc(packed);
    p->scratch = scratch ? dlb_alloc(scratch) : NULL;
    p->plan.workspace_bytes = packed + scratch;
    if (!p->packed || (scratch && !p->scratch)) {
        enum dlb_status status =
            dlb_fail(error, DLB_NOMEM,
                     "No memory for %zu bytes of packed operands of a linear layer.",
                     p->plan.workspace_bytes);
        native_release(&p->plan);
        return status;
    }
    snprintf(p->plan.version, sizeof p->plan.version, "%s", DLBENCH_VERSION);
    snprintf(p->plan.algorithm, sizeof p->plan.algorithm, "%s",
             dlb_linear_algorithms[candidate->algorithm]);
    snprintf(p->plan.layout, sizeof p->plan.layout, "nc");
    snprintf(p->plan.isa, sizeof p->plan.isa, "%s", dlb_isa_name(target->isa));
    *plan = &p->plan;
    return DLB_OK;
}
