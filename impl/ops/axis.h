/*
 * axis.h - the spatial axes of images under a sliding window: the dims of conv and of
 * pooling, derived and checked alike.
 *
 * Per axis, with the letters h and w: i input, k kernel, o output, s stride, p padding in
 * front, d dilation (0 is dense).  The kernel reaches over (k - 1)(d + 1) + 1 positions;
 * padding behind follows from o, may differ from p, and may be negative, down to 1 - s:
 * input left unused.
 */
#ifndef DLB_OPS_AXIS_H
#define DLB_OPS_AXIS_H

#include "core/op.h"

/* First the two that an axis cannot do without. */
enum dlb_axis_part {
    DLB_AXIS_IN,
    DLB_AXIS_KERNEL,
    DLB_AXIS_OUT,
    DLB_AXIS_STRIDE,
    DLB_AXIS_PAD,
    DLB_AXIS_DILATION,
    DLB_AXIS_PARTS
};

enum { DLB_AXES = 2, DLB_AXIS_NONE = -1 /* the operator has no such dim */ };

struct dlb_axis {
    char letter; /* h or w */
    int dim[DLB_AXIS_PARTS];
};

/*
 * For complete(): derives what is not set of both axes, height first, and checks the
 * whole; other dims are not touched.  The width axis is a copy of the height axis when no
 * part of it is named; a problem that names nothing but the width axis is one-dimensional.
 */
enum dlb_status dlb_axes_complete(const struct dlb_op *op, const struct dlb_axis *axes,
                                  int64_t *dim, struct dlb_error *error);

/*
 * For dim_needed(): what may be left out depends on what else is left out, so all are
 * tried in one fixed order: the whole width axis of a square problem, the whole height
 * axis of a one-dimensional one, then the dims of single (n).
 */
bool dlb_axes_dim_needed(const struct dlb_op *op, const struct dlb_axis *axes,
                         const int *single, int n, const struct dlb_problem *problem,
                         int dim);

#endif
