/*
 * conv_nest.h - the tables of one convolution around the batch-reduce GEMM: which strips a
 * row is made of, which taps each of them has, which panels of packed weights there are.
 */
#ifndef DLB_OPS_CONV_NEST_H
#define DLB_OPS_CONV_NEST_H

#include "core/brgemm.h"
#include "ops/conv_internal.h"

/* Pixels first … first+rows-1 of a strip, with the taps that all of them have. */
struct dlb_conv_segment {
    int first, rows;
    int64_t k;  /* of one batch entry; 0: the depth of the block of input channels */
    int list;   /* its batch entries, those of one kh side by side */
    int taps;   /* batch entries a kh */
    bool merge; /* entries of all kh follow each other in A and B: one long entry */
};

/* The pixels of a register tile.  When whole is set the last segment covers all its pixels. */
struct dlb_conv_strip {
    int64_t x;
    int mr;
    int segment_begin, segment_end;
    bool whole;
};

struct dlb_conv_panel {
    int64_t b;       /* offset in packed */
    int64_t channel; /* first output channel */
    int group, nv, n;
};

enum { DLB_CONV_NARROW_PANEL = 1, DLB_CONV_SHORT_KC = 2, DLB_CONV_VARIANTS = 4 };

struct dlb_conv_nest {
    struct dlb_conv_phase phase;
    int algorithm;
    int lanes;
    struct dlb_conv_grid grid;
    int64_t rows; /* of all images */
    int64_t kc, kc_blocks;
    int64_t panels_group; /* panels of a group */
    int64_t panels_n;
    struct dlb_conv_panel *panels;
    struct dlb_conv_strip *strips;
    int strips_n;
    struct dlb_conv_segment *segments;
    int segments_n;
    /* Batch entries; B's offsets depend on the width of the panel and the depth of the ic
     * block. */
    int64_t *a_offset, *b_offset[DLB_CONV_VARIANTS];
    int entries_n;
    int64_t a_x;   /* distance of two neighbouring output pixels in A */
    int64_t pitch; /* im2col: of a pixel in scratch */
};

/*
 * The tables of phase for a legal candidate.  Its packed weights begin at element
 * *packed, which is moved past them.  False when there is no memory: the nest then is
 * still to be released.
 */
bool dlb_conv_nest_make(struct dlb_conv_nest *nest, const struct dlb_conv_phase *phase,
                        const struct dlb_target *target,
                        const struct dlb_candidate *candidate, int64_t *packed);
void dlb_conv_nest_release(struct dlb_conv_nest *nest);

/* The taps of a row that lie inside the input at column x: begin and end 0 for none. */
void dlb_conv_nest_taps(const struct dlb_conv_shape *s, int64_t x, int64_t *begin,
                        int64_t *end);

#endif
