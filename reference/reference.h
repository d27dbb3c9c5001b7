/*
 * reference.h - what native kernels are held against, operator by operator.
 *
 * The plain definition (naive): obvious loops, double accumulators, no cleverness.  It is
 * the last word in the tests and the referee of builds without oneDNN, and the only one
 * about NaN behind a ReLU: max(0,x) keeps NaN here, oneDNN's turns it into 0.
 * The oneDNN adapter: opponent in timing, referee in a normal run.  oneDNN is given its
 * best: layout "any", weights and activations reordered in bind, outside the timed part.
 */
#ifndef DLB_REFERENCE_H
#define DLB_REFERENCE_H

#include "core/op.h"

struct dlb_reference {
    const struct dlb_op *op;

    /*
     * The definition in double.  tensor[] as in plan.h; inputs and parameters are read.
     * result holds one double for each element of the output tensor number output.
     * magnitude, unless NULL, receives sum |a||b| (+ |bias|) of each element, from which
     * the bound of the rounding error is made.  begin/end: the range of output elements
     * to compute, so that threads can share the work and samples can be drawn.
     */
    void (*define)(const struct dlb_problem *problem, void *const *tensor, int output,
                   int64_t begin, int64_t end, double *result, double *magnitude);

    /* A plan of class "naive": runs define() over a share per thread (spmd), stores
     * floats. */
    enum dlb_status (*naive)(const struct dlb_problem *problem, int threads,
                             struct dlb_plan **plan, struct dlb_error *error);

    /*
     * A plan of class "onednn" for exactly this many threads (frozen at creation), the
     * fastest of oneDNN's formulations where there are several that cannot be told apart
     * beforehand: formulation counts from 0; DLB_UNSUPPORTED past the last one, and when
     * oneDNN is not in the build or cannot do the problem.  oneDNN picks its own
     * instruction set within dlb_onednn_cap_isa; isa, that of the native side, does not
     * restrict it further.  Leaves OpenMP's thread count at threads.
     */
    enum dlb_status (*onednn)(const struct dlb_problem *problem, enum dlb_isa isa,
                              int threads, int formulation, struct dlb_plan **plan,
                              struct dlb_error *error);
};

extern const struct dlb_reference dlb_reference_conv;

/* Version of the oneDNN library that is loaded, "2.6.3"; NULL when it is not in the
 * build. */
const char *dlb_onednn_version(void);

/* Threading runtime that oneDNN was built for ("OMP", "SEQ", "TBB", …); NULL without
 * oneDNN. */
const char *dlb_onednn_runtime(void);

/*
 * Caps oneDNN's own instruction sets at isa, for the whole process.  Must come before its
 * first primitive, else DLB_UNSUPPORTED.  oneDNN goes no lower than SSE4.1, so that is
 * what scalar and sse2 mean here; it cannot be capped on AArch64 (DLB_UNSUPPORTED).
 */
enum dlb_status dlb_onednn_cap_isa(enum dlb_isa isa, struct dlb_error *error);

#endif
