/*
 * Batch normalisation: memory and layouts of a plan; batchnorm_run.c computes.
 *
 * Shapes    nhwc: src, dst and their diffs in place.  blocked: [image][channels / V][pixel]
 *           [V] with V the vector's length and channels padded by 0, packed in bind,
 *           unpacked in fetch.  Images of one pixel make both the same: [image][channels]
 * Scratch   the operands of the blocked layout; vectors by channel; the mask
 * Backward  bind makes the statistics; where the ReLU let pass is worked out again from
 *           them, which takes less time than to read a mask
 * Errors    dlb_batchnorm_refuse refuses tiles that do not fit; no other
 */
#include "ops/batchnorm_plan.h"
#include "core/dispatch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

DLB_ISA_TABLE(struct dlb_batchnorm_kernels, dlb_batchnorm);
DLB_ISA_TABLE(struct dlb_batchnorm_backward_kernels, dlb_batchnorm_backward);

const struct dlb_batchnorm_kernels *dlb_batchnorm_kernels(enum dlb_isa isa)
{
    return dlb_isa_usable(isa) ? dlb_batchnorm_by_isa[isa] : NULL;
}

/* Canonical element of the piece's first row and channel; rows are ic apart. */
static int64_t canonical_of(const struct dlb_batchnorm *p,
                            const struct dlb_batchnorm_piece *piece)
{
    return piece->position * p->s.ic + piece->channel;
}

static void pack_tensor(const struct dlb_batchnorm *p,
                        const struct dlb_batchnorm_piece *piece, int t, float *to)
{
    const float *from = (const float *)p->tensor[t] + canonical_of(p, piece);
    int64_t channels = dlb_min(piece->channels, p->s.ic - piece->channel);
    to += piece->element;
    for (int64_t r = 0; r < piece->rows; r++, to += p->ld, from += p->s.ic) {
        memset(to + channels, 0, sizeof *to * (size_t)(piece->channels - channels));
        memcpy(to, from, sizeof *to * (size_t)channels);
    }
}

static void pack(const struct dlb_batchnorm_member *m,
                 const struct dlb_batchnorm_piece *piece)
{
    const struct dlb_batchnorm *p = m->p;
    float *dst = p->own_dst + piece->element;
    pack_tensor(p, piece, DLB_BATCHNORM_SRC, p->own_src);
    if (p->s.backward)
        pack_tensor(p, piece, DLB_BATCHNORM_DIFF_DST, p->own_diff);
    for (int64_t r = 0; r < piece->rows; r++, dst += p->ld)
        memset(dst, 0, sizeof *dst * (size_t)piece->channels);
}

/* The image that is returned. */
static int result_of(const struct dlb_batchnorm *p)
{
    return p->s.backward ? DLB_BATCHNORM_DIFF_SRC : DLB_BATCHNORM_DST;
}

static void unpack(const struct dlb_batchnorm_member *m,
                   const struct dlb_batchnorm_piece *piece)
{
    const struct dlb_batchnorm *p = m->p;
    int64_t channels = dlb_min(piece->channels, p->s.ic - piece->channel);
    const float *from = p->own_dst + piece->element;
    float *to = (float *)p->tensor[result_of(p)] + canonical_of(p, piece);
    for (int64_t r = 0; r < piece->rows; r++, to += p->s.ic, from += p->ld)
        memcpy(to, from, (size_t)channels * sizeof *to);
}

static void clear_mask(const struct dlb_batchnorm_member *m,
                       const struct dlb_batchnorm_piece *piece)
{
    const struct dlb_batchnorm *p = m->p;
    int64_t vectors = dlb_div_up(piece->channels, p->lanes);
    for (int64_t r = 0; r < piece->rows; r++)
        memset(p->mask + piece->mask + r * p->mask_ld, 0,
               (size_t)(vectors * p->kernels->mask_bytes));
}

static void unpack_mask(const struct dlb_batchnorm_member *m,
                        const struct dlb_batchnorm_piece *piece)
{
    const struct dlb_batchnorm *p = m->p;
    int64_t channels = dlb_min(piece->channels, p->s.ic - piece->channel);
    const uint8_t *from = p->mask + piece->mask;
    float *to = (float *)p->tensor[DLB_BATCHNORM_RELU_MASK] + canonical_of(p, piece);
    for (int64_t r = 0; r < piece->rows; r++, to += p->s.ic, from += p->mask_ld)
        for (int64_t c = 0; c < channels; c++) {
            int64_t lane = c % p->lanes;
            const uint8_t *bits = from + c / p->lanes * p->kernels->mask_bytes;
            to[c] = bits[lane / 8] >> lane % 8 & 1;
        }
}

static void take_vector(const struct dlb_batchnorm *p, enum dlb_batchnorm_shared which,
                        int t, bool present, float absent)
{
    float *vector = dlb_batchnorm_shared(p, which);
    const float *given = p->tensor[t];
    for (int64_t c = 0; c < p->padded; c++)
        vector[c] = c >= p->s.ic ? 0 : present ? given[c] : absent;
}

static enum dlb_status native_bind(struct dlb_plan *plan, void *const *tensor,
                                   const struct dlb_team *team, struct dlb_error *error)
{
    struct dlb_batchnorm *p = (struct dlb_batchnorm *)plan;
    (void)error;
    if (team->rank == 0) {
        memcpy(p->tensor, tensor, (size_t)p->tensors * sizeof *tensor);
        p->src = p->packed ? p->own_src : tensor[DLB_BATCHNORM_SRC];
        p->dst = p->packed ? p->own_dst : tensor[result_of(p)];
        if (p->s.backward)
            p->diff = p->packed ? p->own_diff : tensor[DLB_BATCHNORM_DIFF_DST];
        take_vector(p, DLB_BATCHNORM_SHARED_GAMMA, DLB_BATCHNORM_GAMMA, p->s.scale, 1);
        take_vector(p, DLB_BATCHNORM_SHARED_BETA, DLB_BATCHNORM_BETA, p->s.shift, 0);
        if (!p->s.backward) {
            take_vector(p, DLB_BATCHNORM_SHARED_MEAN, DLB_BATCHNORM_IN_MEAN, true, 0);
            take_vector(p, DLB_BATCHNORM_SHARED_VARIANCE, DLB_BATCHNORM_IN_VARIANCE, true,
                        0);
        }
    }
    memset(p->scratch + team->rank * DLB_BATCHNORM_SCRATCH * p->padded, 0,
           sizeof(float) * (size_t)(DLB_BATCHNORM_SCRATCH * p->padded));
    dlb_team_barrier(team);
    struct dlb_batchnorm_member m = dlb_batchnorm_member_get(p, team->rank);
    if (p->packed)
        dlb_batchnorm_visit(&m, m.channels[0], m.channels[1], false, pack);
    if (p->keeps_mask)
        dlb_batchnorm_visit(&m, m.channels[0], m.channels[1], false, clear_mask);
    dlb_team_barrier(team);
    if (p->s.backward) {
        dlb_batchnorm_train(p, team);
        dlb_team_barrier(team);
    }
    return DLB_OK;
}

static enum dlb_status native_fetch(struct dlb_plan *plan, const struct dlb_team *team,
                                    struct dlb_error *error)
{
    const struct dlb_batchnorm *p = (struct dlb_batchnorm *)plan;
    struct dlb_batchnorm_member m = dlb_batchnorm_member_get(p, team->rank);
    (void)error;
    if (p->packed)
        dlb_batchnorm_visit(&m, m.channels[0], m.channels[1], false, unpack);
    if (p->keeps_mask)
        dlb_batchnorm_visit(&m, m.channels[0], m.channels[1], false, unpack_mask);
    return DLB_OK;
}

static void native_release(struct dlb_plan *plan)
{
    struct dlb_batchnorm *p = (struct dlb_batchnorm *)plan;
    dlb_free(p->vectors);
    dlb_free(p->scratch);
    dlb_free(p->own_src);
    dlb_free(p->own_diff);
    dlb_free(p->own_dst);
    dlb_free(p->mask);
    free(p);
}

static const struct dlb_plan_class native_class = {
    .impl = "native",
    .spmd = true,
    .bind = native_bind,
    .run = dlb_batchnorm_run,
    .fetch = native_fetch,
    .release = native_release,
};

/* Where elements and mask bits stand. */
static void lay_out(struct dlb_batchnorm *p)
{
    int64_t vectors = dlb_div_up(p->s.ic, p->lanes), bits = p->kernels->mask_bytes;
    bool by_vector = p->packed && p->s.pixels > 1;
    p->padded = dlb_round_up(p->s.ic, DLB_BATCHNORM_LINE);
    p->width = p->packed ? vectors * p->lanes : p->s.ic;
    p->ld = by_vector ? p->lanes : p->width;
    p->unit = by_vector ? p->lanes : p->padded;
    p->unit_stride = p->planes.rows * p->ld;
    p->plane_stride = p->planes.rows * p->width;
    p->mask_ld = by_vector ? bits : vectors * bits;
    p->mask_vector = by_vector ? p->planes.rows * bits : bits;
    p->mask_plane = p->planes.rows * vectors * bits;
}

static void make_weights(struct dlb_batchnorm_weights *weights)
{
    for (int k = 0; k < DLB_BATCHNORM_ROWS_MAX / DLB_BATCHNORM_STEP; k++) {
        weights->mean[k] = (float)(1.0 / (k + 1));
        weights->square[k] = (float)((double)DLB_BATCHNORM_STEP * k / (k + 1));
    }
}

/* Allocates unless bytes is 0, and counts. */
static bool take(struct dlb_batchnorm *p, int64_t bytes, void **memory)
{
    if (!bytes)
        return true;
    p->plan.workspace_bytes += (size_t)bytes;
    *memory = dlb_alloc((size_t)bytes);
    return *memory;
}

static bool take_all(struct dlb_batchnorm *p)
{
    int64_t floats = sizeof(float);
    int64_t image = p->packed ? p->s.mb * p->s.pixels * p->width * floats : 0;
    void *memory[6] = {NULL};
    const int64_t bytes[6] = {
        DLB_BATCHNORM_SHARED * p->padded * floats,
        p->plan.threads * DLB_BATCHNORM_SCRATCH * p->padded * floats,
        image,
        p->s.backward ? image : 0,
        image,
        p->keeps_mask ? p->planes.planes * p->mask_plane : 0,
    };
    bool taken = true;
    for (int i = 0; i < 6 && taken; i++)
        taken = take(p, bytes[i], &memory[i]);
    p->vectors = memory[0];
    p->scratch = memory[1];
    p->own_src = memory[2];
    p->own_diff = memory[3];
    p->own_dst = memory[4];
    p->mask = memory[5];
    return taken;
}

static void name_plan(struct dlb_plan *plan, const struct dlb_target *target,
                      const struct dlb_candidate *candidate, int lanes)
{
    bool blocked = candidate->algorithm == DLB_BATCHNORM_BY_BLOCKS;
    snprintf(plan->version, sizeof plan->version, "%s", DLBENCH_VERSION);
    snprintf(plan->algorithm, sizeof plan->algorithm, "%s",
             dlb_batchnorm_algorithms[candidate->algorithm]);
    if (blocked && lanes > 1)
        snprintf(plan->layout, sizeof plan->layout, "nChw%dc", lanes);
    else
        snprintf(plan->layout, sizeof plan->layout, "%s", blocked ? "nchw" : "nhwc");
    snprintf(plan->isa, sizeof plan->isa, "%s", dlb_isa_name(target->isa));
}

enum dlb_status dlb_batchnorm_plan(const struct dlb_problem *problem,
                                   const struct dlb_target *target,
                                   const struct dlb_candidate *candidate,
                                   struct dlb_plan **plan, struct dlb_error *error)
{
    const int *tile = candidate->tile;
    const char *reason = dlb_batchnorm_refuse(problem, target, candidate);
    if (reason)
        return dlb_fail(error, DLB_UNSUPPORTED,
                        "This way of computing the normalisation is not legal here (%s); "
                        "take a candidate that the search space offers.",
                        reason);
    struct dlb_batchnorm *p = calloc(1, sizeof *p);
    if (!p)
        return dlb_fail(error, DLB_NOMEM, "No memory for a plan of %zu bytes.",
                        sizeof *p);
    p->plan.class = &native_class;
    p->plan.threads = target->threads;
    dlb_batchnorm_shape_get(problem, &p->s);
    struct dlb_tensor tensor[DLB_TENSORS_MAX];
    p->tensors = dlb_op_batchnorm.tensors(problem, tensor);
    p->kernels = dlb_batchnorm_kernels(target->isa);
    p->lanes = dlb_isa_lanes(target->isa);
    p->packed = candidate->algorithm == DLB_BATCHNORM_BY_BLOCKS;
    p->backward = dlb_batchnorm_backward_by_isa[target->isa];
    p->plan.fetches_kept = p->keeps_mask = p->s.train && p->s.relu && !p->s.backward;
    p->planes = dlb_batchnorm_planes_get(&p->s, candidate->algorithm);
    p->rows = tile[DLB_BATCHNORM_TILE_ROWS];
    p->tiles = dlb_div_up(p->planes.rows, p->rows);
    lay_out(p);
    p->grid = dlb_batchnorm_grid_make(tile[DLB_BATCHNORM_TILE_SPLIT], target->threads,
                                      p->planes.planes * p->tiles,
                                      p->padded / DLB_BATCHNORM_LINE);
    p->block = tile[DLB_BATCHNORM_TILE_CHANNELS];
    if (p->block == p->s.ic)
        p->block = p->padded;
    p->blocks = dlb_div_up(dlb_div_up(p->padded / DLB_BATCHNORM_LINE, p->grid.columns) *
                               DLB_BATCHNORM_LINE,
                           p->block);
    enum dlb_batchnorm_act act = p->keeps_mask ? DLB_BATCHNORM_RELU_AND_MASK
                                 : p->s.relu   ? DLB_BATCHNORM_RELU_ONLY
                                               : DLB_BATCHNORM_LINEAR;
    bool stream = tile[DLB_BATCHNORM_TILE_STREAM] == DLB_BATCHNORM_STREAM_ON;
    p->normalise = p->kernels->normalise[act][stream];
    p->differentiate = p->backward->differentiate[p->s.relu][stream];
    make_weights(&p->weights);
    name_plan(&p->plan, target, candidate, p->lanes);
    if (!take_all(p)) {
        enum dlb_status status = dlb_fail(
            error, DLB_NOMEM, "No memory for %zu bytes of work space of a normalisation.",
            p->plan.workspace_bytes);
        native_release(&p->plan);
        return status;
    }
    *plan = &p->plan;
    return DLB_OK;
}
