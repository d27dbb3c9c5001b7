/*
 * batchnorm_plan.h - what the files of batchnorm's plans share: batchnorm_plan.c makes and
 * packs, batchnorm_run.c computes.
 */
#ifndef DLB_OPS_BATCHNORM_PLAN_H
#define DLB_OPS_BATCHNORM_PLAN_H

#include "ops/batchnorm_internal.h"

/* Vectors by channel that all threads share; the first four are what bind is given, the
 * last two the statistics of a forward pass before a backward one. */
enum dlb_batchnorm_shared {
    DLB_BATCHNORM_SHARED_GAMMA,
    DLB_BATCHNORM_SHARED_BETA,
    DLB_BATCHNORM_SHARED_MEAN,
    DLB_BATCHNORM_SHARED_VARIANCE,
    DLB_BATCHNORM_SHARED_OWN_MEAN,
    DLB_BATCHNORM_SHARED_OWN_VARIANCE,
    DLB_BATCHNORM_SHARED
};

/* Vectors by channel of one thread's own. */
enum { DLB_BATCHNORM_SCRATCH = 9 };

/* A plan. */
struct dlb_batchnorm {
    struct dlb_plan plan;
    struct dlb_batchnorm_shape s;
    const struct dlb_batchnorm_kernels *kernels;
    const struct dlb_batchnorm_backward_kernels *backward;
    dlb_batchnorm_normalise_fn *normalise;
    dlb_batchnorm_differentiate_fn *differentiate;
    struct dlb_batchnorm_weights weights;
    struct dlb_batchnorm_grid grid;
    struct dlb_batchnorm_planes planes;
    int lanes;
    bool packed, keeps_mask; /* packed: the blocked layout */
    int64_t rows, tiles;     /* of a tile; of a plane */
    int64_t block, blocks;   /* channels; blocks of the largest share of a thread */
    int64_t width;           /* channels with the blocked layout's padding */
    int64_t padded;          /* channels in whole cache lines */
    /* Channel c of row r of a plane stands at plane*plane_stride + c/unit*unit_stride +
     * c%unit + r*ld; unit channels at a time are given to a kernel. */
    int64_t plane_stride, unit, unit_stride, ld;
    int64_t mask_plane, mask_vector, mask_ld; /* bytes, likewise */
    float *vectors;                           /* [DLB_BATCHNORM_SHARED][padded] */
    float *scratch;                      /* [thread][DLB_BATCHNORM_SCRATCH][padded] */
    float *own_src, *own_diff, *own_dst; /* of the blocked layout */
    uint8_t *mask;
    const float *src, *diff; /* diff: diff_dst, backward only */
    float *dst;              /* backward: diff_src */
    int tensors;
    void *tensor[DLB_TENSORS_MAX];
};

static inline float *dlb_batchnorm_shared(const struct dlb_batchnorm *p,
                                          enum dlb_batchnorm_shared which)
{
    return p->vectors + which * p->padded;
}

/* One thread's part of the work, and its vectors by channel. */
struct dlb_batchnorm_member {
    const struct dlb_batchnorm *p;
    int64_t tiles[2], channels[2]; /* begin, end; tiles of all planes */
    int64_t rows[2];               /* those of the tiles */
    struct dlb_batchnorm_pair tile, part, all;
    const float *mean;     /* for normalisation */
    float *factor;         /* gamma / sigma */
    float *slope, *offset; /* backward, as in struct dlb_batchnorm_diff */
};
struct dlb_batchnorm_member dlb_batchnorm_member_get(const struct dlb_batchnorm *p,
                                                     int rank);

/* A tile's rows of some channels, no more than one unit. */
struct dlb_batchnorm_piece {
    int64_t rows, channel, channels;
    int64_t position; /* of the first row among those of all planes */
    int64_t element;  /* where the first element stands, */
    int64_t mask;     /* and the byte with its bit */
};

/* Calls fn with all pieces of the member's tiles with channels begin … end-1, as memory
 * lies: plane, unit, tile; or exactly backward. */
typedef void dlb_batchnorm_piece_fn(const struct dlb_batchnorm_member *m,
                                    const struct dlb_batchnorm_piece *piece);
void dlb_batchnorm_visit(const struct dlb_batchnorm_member *m, int64_t begin, int64_t end,
                         bool backward, dlb_batchnorm_piece_fn *fn);

/* The forward pass of fwd_train, or what of it a backward pass needs: the statistics. */
void dlb_batchnorm_train(const struct dlb_batchnorm *p, const struct dlb_team *team);

/* plan.h's run, of a struct dlb_batchnorm. */
void dlb_batchnorm_run(struct dlb_plan *plan, const struct dlb_team *team);

#endif
