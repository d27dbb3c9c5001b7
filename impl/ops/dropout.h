/*
 * dropout.h - inverted dropout, element by element.
 *
 *   fwd_train  dst = mask src / (1 - p)
 *   bwd        diff_src = mask diff_dst / (1 - p), with the mask that fwd_train kept, outside
 *              the timed part
 *   fwd        dst = src: what dropout is at inference.  A network leaves it out, or has it
 *              in place, for nothing; the copy is what it costs where neither is done
 *
 * The mask is a function of the element's index i and the seed alone, whatever the threads:
 * 0, dropped, where k < T and else 1, with the random number k of 23 bits and T the whole
 * number nearest to p 2^23.  k is bits 9 to 31 of one half of h = dlb_hash(dlb_hash(~0, seed),
 * i / 2), of the low half where i is even, else of the high one (base.h).
 *
 * Descriptor: n p seed, for example n1048576p50seed7; p is in per cent, 50 when not named,
 * seed 0.
 *
 * Tensors, [n]: src given, dst returned, and kept by fwd_train: mask, 0 or 1; bwd: diff_dst
 * given, diff_src returned.
 *
 * Source: Srivastava, Hinton, Krizhevsky, Sutskever & Salakhutdinov, "Dropout: a simple way
 * to prevent neural networks from overfitting", 2014; scaled in training rather than at
 * inference, as frameworks do.
 */
#ifndef DLB_OPS_DROPOUT_H
#define DLB_OPS_DROPOUT_H

#include "core/op.h"

enum dlb_dropout_dim { DLB_DROPOUT_N, DLB_DROPOUT_P, DLB_DROPOUT_SEED, DLB_DROPOUT_DIMS };

enum dlb_dropout_tensor {
    DLB_DROPOUT_SRC, /* bwd: diff_dst */
    DLB_DROPOUT_DST, /* bwd: diff_src */
    DLB_DROPOUT_MASK
};

enum { DLB_DROPOUT_BITS = 23 }; /* of a random number */

extern const struct dlb_op dlb_op_dropout;

#endif
