#include "ops/axis.h"

#include <stdio.h>

static bool unset(int64_t value)
{
    return value == DLB_DIM_UNSET;
}

static void set_if_unset(int64_t *value, int64_t fallback)
{
    if (unset(*value))
        *value = fallback;
}

static bool has(const struct dlb_axis *axis, int part)
{
    return axis->dim[part] != DLB_AXIS_NONE;
}

/* The first part of the axis that was named, or DLB_AXIS_PARTS. */
static int first_named(const int64_t *d, const struct dlb_axis *axis)
{
    int part = 0;
    while (part < DLB_AXIS_PARTS && (!has(axis, part) || unset(d[axis->dim[part]])))
        part++;
    return part;
}

static void copy_axes(int64_t *d, const struct dlb_axis *axes)
{
    const struct dlb_axis *h = &axes[0], *w = &axes[1];
    bool no_width = first_named(d, w) == DLB_AXIS_PARTS;
    if (no_width)
        for (int part = 0; part < DLB_AXIS_PARTS && has(h, part); part++)
            d[w->dim[part]] = d[h->dim[part]];
    else if (first_named(d, h) == DLB_AXIS_PARTS)
        d[h->dim[DLB_AXIS_IN]] = d[h->dim[DLB_AXIS_KERNEL]] = 1;
}

static enum dlb_status check_named(const struct dlb_dim_def *dims, const int64_t *d,
                                   const struct dlb_axis *axis, struct dlb_error *error)
{
    for (int part = DLB_AXIS_IN; part <= DLB_AXIS_KERNEL; part++) {
        const char *key = dims[axis->dim[part]].key;
        const int example = part == DLB_AXIS_IN ? 56 : 3;
        if (!unset(d[axis->dim[part]]))
            continue;
        int named = first_named(d, axis);
        if (named == DLB_AXIS_PARTS)
            return dlb_fail(error, DLB_INVALID,
                            "The %s '%s' is missing; write for example %s%d.",
                            dims[axis->dim[part]].meaning, key, key, example);
        return dlb_fail(error, DLB_INVALID,
                        "The %s '%s' is missing though %s is named; write for example "
                        "%s%d%s.",
                        dims[axis->dim[part]].meaning, key, dims[axis->dim[named]].key,
                        key, example,
                        axis->letter == 'w' ? ", or leave out the whole width axis for a "
                                              "square problem"
                                            : "");
    }
    return DLB_OK;
}

static enum dlb_status refuse_out(const struct dlb_axis *axis, const int64_t *d,
                                  int64_t least, int64_t most, struct dlb_error *error)
{
    const char l = axis->letter;
    char dilation[32] = "";
    if (has(axis, DLB_AXIS_DILATION))
        snprintf(dilation, sizeof dilation, ", d%c%lld", l,
                 (long long)d[axis->dim[DLB_AXIS_DILATION]]);
    return dlb_fail(error, DLB_INVALID,
                    "o%c%lld does not fit i%c%lld, k%c%lld, s%c%lld, p%c%lld%s; "
                    "accepted: o%c%lld to o%c%lld, or none to derive it.",
                    l, (long long)d[axis->dim[DLB_AXIS_OUT]], l,
                    (long long)d[axis->dim[DLB_AXIS_IN]], l,
                    (long long)d[axis->dim[DLB_AXIS_KERNEL]], l,
                    (long long)d[axis->dim[DLB_AXIS_STRIDE]], l,
                    (long long)d[axis->dim[DLB_AXIS_PAD]], dilation, l, (long long)least,
                    l, (long long)most);
}

static enum dlb_status complete_axis(const struct dlb_dim_def *dims,
                                     const struct dlb_axis *axis, int64_t *d,
                                     struct dlb_error *error)
{
    enum dlb_status status = check_named(dims, d, axis, error);
    if (status)
        return status;
    int64_t *out = &d[axis->dim[DLB_AXIS_OUT]], *pad = &d[axis->dim[DLB_AXIS_PAD]];
    int64_t dilation = 0;
    set_if_unset(&d[axis->dim[DLB_AXIS_STRIDE]], 1);
    if (has(axis, DLB_AXIS_DILATION)) {
        set_if_unset(&d[axis->dim[DLB_AXIS_DILATION]], 0);
        dilation = d[axis->dim[DLB_AXIS_DILATION]];
    }
    int64_t in = d[axis->dim[DLB_AXIS_IN]], kernel = d[axis->dim[DLB_AXIS_KERNEL]],
            stride = d[axis->dim[DLB_AXIS_STRIDE]];
    int64_t reach = (kernel - 1) * (dilation + 1) + 1;
    char l = axis->letter;
    if (unset(*out)) {
        set_if_unset(pad, 0);
        int64_t room = in + 2 * *pad - reach;
        if (room < 0)
            return dlb_fail(
                error, DLB_INVALID,
                "The kernel reaches over %lld positions, but i%c%lld with p%c%lld "
                "offers %lld; make k%c%s smaller, or i%c or p%c larger.",
                (long long)reach, l, (long long)in, l, (long long)*pad,
                (long long)(in + 2 * *pad), l,
                !has(axis, DLB_AXIS_DILATION) ? ""
                : l == 'h'                    ? " or dh"
                                              : " or dw",
                l, l);
        *out = room / stride + 1;
    }
    if (unset(*pad))
        *pad = dlb_max(0, ((*out - 1) * stride - in + reach) / 2);
    if (*pad >= reach)
        return dlb_fail(
            error, DLB_INVALID,
            "The padding p%c%lld is not smaller than the kernel's reach of %lld; "
            "accepted: 0 to %lld.",
            l, (long long)*pad, (long long)reach, (long long)reach - 1);
    /* Less than 1 - stride would leave room for one more output. */
    int64_t end_pad = (*out - 1) * stride + reach - in - *pad;
    if (end_pad < reach && end_pad > -stride)
        return DLB_OK;
    int64_t least = dlb_max(1, dlb_div_up(in + *pad - reach - stride + 1, stride) + 1);
    return refuse_out(axis, d, least, (in + *pad - 1) / stride + 1, error);
}

enum dlb_status dlb_axes_complete(const struct dlb_op *op, const struct dlb_axis *axes,
                                  int64_t *dim, struct dlb_error *error)
{
    enum dlb_status status = DLB_OK;
    copy_axes(dim, axes);
    for (int i = 0; i < DLB_AXES && !status; i++)
        status = complete_axis(op->dims, &axes[i], dim, error);
    return status;
}

/* True, and *written without these dims, when the text without them means the same. */
static bool drop(const struct dlb_op *op, const struct dlb_problem *problem,
                 struct dlb_problem *written, const int *dim, int dims_n)
{
    struct dlb_problem trial = *written;
    for (int i = 0; i < dims_n; i++)
        if (dim[i] != DLB_AXIS_NONE)
            trial.dim[dim[i]] = op->dims[dim[i]].fallback;
    struct dlb_problem completed = trial;
    if (op->complete(&completed, NULL))
        return false;
    for (int i = 0; i < op->dims_n; i++)
        if (completed.dim[i] != problem->dim[i])
            return false;
    *written = trial;
    return true;
}

bool dlb_axes_dim_needed(const struct dlb_op *op, const struct dlb_axis *axes,
                         const int *single, int n, const struct dlb_problem *problem,
                         int dim)
{
    struct dlb_problem written = *problem;
    if (!drop(op, problem, &written, axes[1].dim, DLB_AXIS_PARTS))
        drop(op, problem, &written, axes[0].dim, DLB_AXIS_PARTS);
    for (int i = 0; i < n; i++)
        drop(op, problem, &written, &single[i], 1);
    return written.dim[dim] != op->dims[dim].fallback;
}
