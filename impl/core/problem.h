/*
 * problem.h - what is computed: operator dims, pass, data type and accuracy class.
 *
 * dim[] is indexed by the operator's own enumeration (struct dlb_conv's DLB_CONV_… in
 * ops/conv.h).  A problem that left the descriptor parser (bench/suite/descriptor.h) or
 * op->complete() is complete and consistent; kernels rely on it.
 */
#ifndef DLB_CORE_PROBLEM_H
#define DLB_CORE_PROBLEM_H

#include "core/base.h"

enum { DLB_DIMS_MAX = 24 };

enum dlb_pass {
    DLB_FWD,
    DLB_FWD_TRAIN,
    DLB_BWD_DATA,
    DLB_BWD_WEIGHTS,
    DLB_BWD,
    DLB_PASS_COUNT
};
enum dlb_dtype { DLB_F32, DLB_DTYPE_COUNT };
enum dlb_accuracy {
    DLB_EXACT,    /* direct and GEMM algorithms only */
    DLB_WINOGRAD, /* reduced-accuracy algorithms admitted, on both sides */
    DLB_ACCURACY_COUNT
};

/* Lower-case names as on the command line and in CSV, indexed by the enums above. */
extern const char *const dlb_pass_names[DLB_PASS_COUNT];
extern const char *const dlb_dtype_names[DLB_DTYPE_COUNT];
extern const char *const dlb_accuracy_names[DLB_ACCURACY_COUNT];

struct dlb_problem {
    enum dlb_pass pass;
    enum dlb_dtype dtype;
    enum dlb_accuracy accuracy;
    int64_t dim[DLB_DIMS_MAX];
};

#endif
