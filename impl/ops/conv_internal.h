/*
 * conv_internal.h - what the files of conv share.
 */
#ifndef DLB_OPS_CONV_INTERNAL_H
#define DLB_OPS_CONV_INTERNAL_H

#include "ops/conv.h"

/* The dims by name; all derived values that kernels and plans use are worked out once. */
struct dlb_conv_shape {
    int64_t g, mb, ic, ih, iw, oc, oh, ow, kh, kw, sh, sw, ph, pw, dh, dw;
    int64_t icg, ocg; /* channels of one group */
    bool bias, relu;
};
void dlb_conv_shape_get(const struct dlb_problem *problem, struct dlb_conv_shape *shape);

/* Taps k of 0 … kernel-1 that lie inside the input for output position out:
 * [*begin, *end), empty when begin >= end. */
void dlb_conv_valid_taps(int64_t out, int64_t in_size, int64_t kernel, int64_t stride,
                         int64_t pad, int64_t dilation, int64_t *begin, int64_t *end);

/* Outputs whose tap lies inside the input: [*begin, *end), empty when begin >= end. */
void dlb_conv_valid_outputs(int64_t tap, int64_t in_size, int64_t out_size,
                            int64_t stride, int64_t pad, int64_t dilation, int64_t *begin,
                            int64_t *end);

/*
 * Phases (conv_phases.c): a pass that writes an image, as convolutions from one image into
 * another.  s is that convolution as if it were forward: ic, ih, iw are what is read, oc,
 * oh, ow what is written; ph and pw may be negative.  Pixel (n, y, x) is written from
 * element dst + n*dst_image + y*dst_row + x*dst_pixel on, and the weight between input
 * channel i and output channel o of group g at tap (kh, kw) is element w + g*w_group +
 * o*w_out + i*w_in + kh*w_kh + kw*w_kw of the canonical weights.
 */
struct dlb_conv_phase {
    struct dlb_conv_shape s;
    int64_t dst, dst_image, dst_row, dst_pixel;
    int64_t w, w_group, w_out, w_in, w_kh, w_kw;
};
/* How many there are at most, and number index of them: false when it has no tap. */
int64_t dlb_conv_phases(const struct dlb_problem *problem);
bool dlb_conv_phase_get(const struct dlb_problem *problem, int64_t index,
                        struct dlb_conv_phase *phase);
/* Whether its pixels follow each other in memory without gaps. */
bool dlb_conv_phase_is_dense(const struct dlb_conv_phase *phase);
/* Writes the team member's share of the pixels of diff_src that belong to no phase. */
void dlb_conv_zero_unmet(const struct dlb_problem *problem, enum dlb_isa isa,
                         const struct dlb_team *team, bool stream, float *dst);

/* Search space (conv_space.c). */
enum dlb_conv_algorithm {
    DLB_CONV_DIRECT,     /* taps are batch entries; taps of one pixel range in one call */
    DLB_CONV_DIRECT_ROW, /* kw*ic is one run of a source row */
    DLB_CONV_GEMM_1X1,   /* pixels of all images are the rows of one matrix */
    DLB_CONV_IM2COL,     /* the reduction of a block of rows gathered into scratch */
    DLB_CONV_DEPTHWISE,  /* one input and one output channel a group */
    DLB_CONV_ALGORITHMS
};
enum dlb_conv_tile {
    DLB_CONV_TILE_MR,       /* most output pixels in a register tile; backward weights:
                               input channels */
    DLB_CONV_TILE_NR,       /* output channels in a register tile */
    DLB_CONV_TILE_KC,       /* input channels in one pass over the taps */
    DLB_CONV_TILE_ROWS,     /* output rows (gemm-1x1: strips of mr pixels) in a block */
    DLB_CONV_TILE_ORDER,    /* enum dlb_conv_order */
    DLB_CONV_TILE_SPLIT,    /* enum dlb_conv_split */
    DLB_CONV_TILE_STREAM,   /* enum dlb_conv_stream */
    DLB_CONV_TILE_PREFETCH, /* enum dlb_conv_prefetch */
    DLB_CONV_TILE_PACK,     /* enum dlb_conv_pack; backward weights only */
    DLB_CONV_TILES
};
/* Values of the enumerated tiles; 0 is "does not apply". */
enum dlb_conv_order { DLB_CONV_ORDER_OC = 1, DLB_CONV_ORDER_PIXELS };
enum dlb_conv_split {
    DLB_CONV_SPLIT_ROWS = 1,
    DLB_CONV_SPLIT_OC,
    DLB_CONV_SPLIT_2D,
    DLB_CONV_SPLIT_IC /* backward weights only */
};
enum dlb_conv_prefetch {
    DLB_CONV_PREFETCH_NONE = 1,
    DLB_CONV_PREFETCH_AHEAD, /* some steps ahead of their use, into L1 */
    DLB_CONV_PREFETCH_PANEL  /* the next panel, into L2, while this one is worked on */
};
enum dlb_conv_pack {
    DLB_CONV_PACK_NONE = 1,
    DLB_CONV_PACK_SRC,
    DLB_CONV_PACK_DIFF,
    DLB_CONV_PACK_BOTH
};
enum dlb_conv_stream { DLB_CONV_STREAM_OFF = 1, DLB_CONV_STREAM_ON };

extern const char *const dlb_conv_algorithms[DLB_CONV_ALGORITHMS];
extern const struct dlb_tile_def dlb_conv_tiles[DLB_CONV_TILES];

/* Rows that the candidate works through: output rows of all images; for gemm-1x1 strips
 * of mr pixels. */
int64_t dlb_conv_rows(const struct dlb_conv_shape *shape,
                      const struct dlb_candidate *candidate);

/*
 * Threads as a grid: each gets a share of the rows and a share of the panels of output
 * channels.  balance is mean over largest share, at most 1.
 */
struct dlb_conv_grid {
    int rows, columns;
    double balance;
};
struct dlb_conv_grid dlb_conv_grid_make(int split, int threads, int64_t rows,
                                        int64_t panels);

/*
 * The space of a pass as in op.h: conv_space.c for those that write an image,
 * conv_weights_space.c for backward weights; conv_plan.c picks.
 */
struct dlb_conv_space {
    void (*enumerate)(const struct dlb_problem *problem, const struct dlb_target *target,
                      dlb_candidate_fn *emit, void *context);
    const char *(*refuse)(const struct dlb_problem *problem,
                          const struct dlb_target *target,
                          const struct dlb_candidate *candidate);
    double (*estimate)(const struct dlb_problem *problem, const struct dlb_target *target,
                       const struct dlb_rates *rates,
                       const struct dlb_candidate *candidate);
};
extern const struct dlb_conv_space dlb_conv_image_space, dlb_conv_weights_space;

/* dlb_op_conv's functions (conv_plan.c). */
void dlb_conv_enumerate(const struct dlb_problem *problem,
                        const struct dlb_target *target, dlb_candidate_fn *emit,
                        void *context);
const char *dlb_conv_refuse(const struct dlb_problem *problem,
                            const struct dlb_target *target,
                            const struct dlb_candidate *candidate);
void dlb_conv_fallback(const struct dlb_problem *problem, const struct dlb_target *target,
                       struct dlb_candidate *candidate);
double dlb_conv_estimate(const struct dlb_problem *problem,
                         const struct dlb_target *target, const struct dlb_rates *rates,
                         const struct dlb_candidate *candidate);
enum dlb_status dlb_conv_plan(const struct dlb_problem *problem,
                              const struct dlb_target *target,
                              const struct dlb_candidate *candidate,
                              struct dlb_plan **plan, struct dlb_error *error);

/*
 * Makers of the algorithms' plans.  They set class and workspace_bytes of the plan; the
 * candidate is legal.  DLB_NOMEM, or DLB_OK and *plan, which the caller owns.
 */
typedef enum dlb_status dlb_conv_maker(const struct dlb_problem *problem,
                                       const struct dlb_target *target,
                                       const struct dlb_candidate *candidate,
                                       struct dlb_plan **plan, struct dlb_error *error);
dlb_conv_maker dlb_conv_gemm_make;         /* conv_gemm.c: all but depthwise */
dlb_conv_maker dlb_conv_depthwise_make;    /* conv_depthwise.c */
dlb_conv_maker dlb_conv_weights_make;      /* conv_weights.c: backward weights but for */
dlb_conv_maker dlb_conv_weights_depthwise; /* conv_weights_depthwise.c */

/* Depthwise parts of the space: NULL or the reason against the register tile; cycles of
 * all threads together. */
const char *dlb_conv_depthwise_refuse(const struct dlb_conv_shape *shape,
                                      const struct dlb_target *target,
                                      const struct dlb_candidate *candidate);
double dlb_conv_depthwise_cycles(const struct dlb_conv_shape *shape,
                                 const struct dlb_target *target,
                                 const struct dlb_candidate *candidate);

#endif
