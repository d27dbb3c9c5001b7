/*
 * xent.h - softmax cross-entropy over rows of logits, forward and backward.
 *
 *   loss = w sum over n of ( log sum over c of exp(logits[n,c]) - logits[n,labels[n]] )
 *   diff_logits[n,c] = diff_loss w ( softmax(logits[n,:])[c] - (c = labels[n]) )
 *
 * w = 1/N with loss-mean, 1 with loss-sum.
 *
 * Descriptor: mb ic loss, for example mb256ic1000; ic counts the classes; loss-mean when not
 * named.
 *
 * Tensors: logits nc [N,C]; labels n [N]: whole numbers 0 … C-1, as floats, which hold them
 * exactly (C is at most 2^24); loss x [1].  Kept by fwd_train: logsum n [N], the logarithm of
 * the sum of exp of a row.  bwd: logits, labels and diff_loss x [1]; diff_logits nc is the
 * output.  The maximum and the sum of each row, which it needs of the forward pass, a plan
 * makes in bind.
 *
 * The maximum of a row is subtracted before exp, so nothing overflows.  A NaN or +inf in a row,
 * a row of -inf alone and a label that is no class make the loss and the row's gradient NaN; a
 * -inf at the label makes the loss infinite.
 *
 * flops: 4 an element forward (maximum, difference, exponential, sum), 3 backward.
 *
 * Source: Milakov & Gimelshein, "Online normalizer calculation for softmax", 2018.
 */
#ifndef DLB_OPS_XENT_H
#define DLB_OPS_XENT_H

#include "core/op.h"

enum dlb_xent_dim {
    DLB_XENT_MB,
    DLB_XENT_IC,
    DLB_XENT_LOSS, /* enum dlb_xent_loss */
    DLB_XENT_DIMS
};

enum dlb_xent_loss { DLB_XENT_MEAN, DLB_XENT_SUM, DLB_XENT_LOSSES };

enum dlb_xent_tensor {
    DLB_XENT_LOGITS,
    DLB_XENT_LABELS,
    DLB_XENT_LOSS_VALUE,
    DLB_XENT_LOGSUM,
    DLB_XENT_TENSORS,
    /* of bwd, behind the labels */
    DLB_XENT_DIFF_LOSS = DLB_XENT_LOSS_VALUE,
    DLB_XENT_DIFF_LOGITS
};

extern const struct dlb_op dlb_op_softmax_xent;

struct dlb_xent_shape {
    int64_t mb, ic;
    float weight; /* w */
    bool train, backward;
};
void dlb_xent_shape_get(const struct dlb_problem *problem, struct dlb_xent_shape *shape);

/* The class of a label; -1 for what is none. */
static inline int64_t dlb_xent_class(const struct dlb_xent_shape *shape, float label)
{
    if (!(label >= 0 && label < (float)shape->ic))
        return -1;
    int64_t class = (int64_t)label;
    return (float)class == label ? class : -1;
}

#endif
