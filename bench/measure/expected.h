/*
 * expected.h - what verify.c compares against, as expected.c has made it.
 */
#ifndef DLB_MEASURE_EXPECTED_H
#define DLB_MEASURE_EXPECTED_H

#include "measure/verify.h"

/* Of one fill, by tensor; NULL for what is no output.  Of role DLB_KEPT a value may be
 * NaN: not known. */
struct dlb_expected_fill {
    float *value[DLB_TENSORS_MAX];
    float *bound[DLB_TENSORS_MAX];
};

struct dlb_expected {
    const struct dlb_op *op;
    const struct dlb_reference *reference;
    struct dlb_problem problem;
    const char *referee; /* onednn or naive */
    uint64_t seed;
    int tensors;
    struct dlb_tensor tensor[DLB_TENSORS_MAX];
    struct dlb_expected_fill fill[DLB_FILL_KINDS];
    double zeros; /* share of zeros in the fill that has fewest, among what is reached */
};

/* Whether the problem has this fill: every one has the dense, some have no exact one. */
bool dlb_expected_has(const struct dlb_expected *expected, enum dlb_fill_kind kind);

/* Writes where element index of tensor is: name[i,j,k,l]. */
void dlb_expected_place(const struct dlb_tensor *tensor, int64_t index, char *text,
                        size_t bytes);

#endif
