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

/* Receives one element of output tensor number t. */
struct dlb_sink {
    void (*put)(void *context, int t, int64_t element, double value);
    void *context;
};

/* What bounds are made from: the canonical tensors, outputs included. */
struct dlb_bound_call {
    const struct dlb_problem *problem;
    enum dlb_fill_kind fill;
    void *const *tensor;      /* inputs, and outputs as expected */
    int t;                    /* the output */
    const float *magnitude;   /* of t by define() or the referee, with the inputs that
                               magnitude_inputs names made absolute; NULL for none */
    float *const *magnitudes; /* of all outputs, by tensor; those of magnitude_outputs */
    int64_t begin, end;
    float *bound; /* bound[0] belongs to element begin */
};

struct dlb_reference {
    const struct dlb_op *op;

    /* Parts of the outputs that can be worked out independently of each other: pixels of
     * conv, rows of the minibatch of an RNN, queries of attention, channels of batchnorm.
     */
    int64_t (*slices)(const struct dlb_problem *problem);

    /* The definition in double: puts every element of every output (of role DLB_KEPT too)
     * that belongs to the slices [begin, end).  tensor[] as in plan.h; inputs and
     * parameters are read. */
    void (*define)(const struct dlb_problem *problem, void *const *tensor, int64_t begin,
                   int64_t end, const struct dlb_sink *sink);

    /*
     * How far a correct implementation in float may be from the exact result: absolute,
     * for each element, of one implementation (the caller adds what the referee errs).
     * magnitude_inputs: bit (1u << t) for each input of which magnitudes take the absolute
     * value (all of conv: the outputs then are sum |a||b|); 0: bound does without.
     * magnitude_outputs: bit for each output of which bound reads magnitudes, 0: all.  The
     * others may be differences in which little remains, which no referee has to meet.
     */
    void (*bound)(const struct dlb_bound_call *call);
    unsigned magnitude_inputs, magnitude_outputs;

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
extern const struct dlb_reference dlb_reference_lstm;
extern const struct dlb_reference dlb_reference_gru;
extern const struct dlb_reference dlb_reference_rnn;
extern const struct dlb_reference dlb_reference_attention;
extern const struct dlb_reference dlb_reference_batchnorm;
extern const struct dlb_reference dlb_reference_linear;
extern const struct dlb_reference dlb_reference_pooling;
extern const struct dlb_reference dlb_reference_xent;
extern const struct dlb_reference dlb_reference_sgd;
extern const struct dlb_reference dlb_reference_adam;

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
