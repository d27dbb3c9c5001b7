/*
 * buffers.h - the canonical tensors of one problem, between guard zones.
 */
#ifndef DLB_MEASURE_BUFFERS_H
#define DLB_MEASURE_BUFFERS_H

#include "core/op.h"
#include "machine/pool.h"

struct dlb_buffers {
    const struct dlb_op *op;
    struct dlb_problem problem;
    int tensors;
    struct dlb_tensor tensor[DLB_TENSORS_MAX];
    void *data[DLB_TENSORS_MAX]; /* what plans get */
    void *base[DLB_TENSORS_MAX]; /* owned, with the guard zones */
    bool filled;                 /* then kind and seed say with what */
    enum dlb_fill_kind kind;
    uint64_t seed;
};

enum { DLB_GUARD_BYTES = 4096 }; /* on either side of each tensor */

/* Allocates and sets the guards; DLB_NOMEM names the bytes needed.  First touch by the
 * pool's threads (pool may be NULL: by the caller). */
enum dlb_status dlb_buffers_make(const struct dlb_op *op,
                                 const struct dlb_problem *problem, struct dlb_pool *pool,
                                 struct dlb_buffers *buffers, struct dlb_error *error);
void dlb_buffers_release(struct dlb_buffers *buffers);

/* Bytes that dlb_buffers_make would take, to judge before allocating. */
double dlb_buffers_bytes(const struct dlb_op *op, const struct dlb_problem *problem);

/*
 * Fills inputs and parameters, seeded per element index, so the same for any thread
 * count; sets the guards anew; outputs become NaN, so that what is not written is seen.
 *
 * Dense: uniform in [-1,1), or in the tensor's own range.
 * Exact, of operators that have a reduction; the others get the dense fill: whole numbers, so that every partial sum is exact in f32 in any order: up to 32
 * in magnitude, and weights non-zero with density min(1, 2^24/(32*32)/reduction).  Sums
 * lean to the positive by about two standard deviations for any reduction (activations
 * from -8 to 32, the sign of weights in favour of plus by 1.6/sqrt(reduction)): behind a
 * ReLU the expected output then is not half zeros, as it is with the dense fill.
 *
 * An operator's own fill (op->fill) goes first.
 */
void dlb_buffers_fill(struct dlb_buffers *buffers, enum dlb_fill_kind kind, uint64_t seed,
                      struct dlb_pool *pool);

/* Outputs and guards only, as dlb_buffers_fill leaves them; inputs stay. */
void dlb_buffers_clear(struct dlb_buffers *buffers, struct dlb_pool *pool);

/* False when a byte of a guard zone changed; *tensor and *offset say where: of the
 * changed bytes on that side the one farthest from the data (bytes before the start are
 * negative, past the end they count from 0). */
bool dlb_buffers_guarded(const struct dlb_buffers *buffers, int *tensor, int64_t *offset);

#endif
