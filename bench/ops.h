/*
 * ops.h - the operator table: the one place that knows which operators exist.
 */
#ifndef DLB_BENCH_OPS_H
#define DLB_BENCH_OPS_H

#include "reference.h"

struct dlb_operator {
    const struct dlb_op *op;
    const struct dlb_reference *reference;
    const char *suite; /* default suite: a file name in configs/ */
};

extern const struct dlb_operator dlb_operators[];
extern const int dlb_operators_n;

/* NULL when there is none of that name. */
const struct dlb_operator *dlb_operator_find(const char *name);

#endif
