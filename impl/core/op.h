/*
 * op.h - an operator as one descriptor, from which options, help, CSV, suites, the search
 * space, tests and docs are made.
 *
 * Adding an operator = one file in impl/ops (this struct), one in reference/ (its plain
 * definition and its oneDNN adapter), one suite in configs/ and one row in bench/ops.c.
 */
#ifndef DLB_CORE_OP_H
#define DLB_CORE_OP_H

#include "core/isa.h"
#include "core/plan.h"
#include "core/problem.h"

enum {
    DLB_TILES_MAX = 12,
    DLB_TILE_VALUES_MAX = 24,
    DLB_ALGORITHMS_MAX = 12,
    DLB_TENSORS_MAX = 16,
    DLB_RANK_MAX = 6,
    DLB_DIM_UNSET = INT32_MIN /* a dim that the descriptor did not name */
};

/*
 * One dim of the descriptor grammar: key followed by a whole number, "ic64".  When names
 * is not NULL the dim is an enumeration of max + 1 words: value v is written as
 * key-names[v], "dir-sum".
 */
struct dlb_dim_def {
    const char *key;
    int64_t min, max; /* what is accepted */
    int64_t fallback; /* value when not named, or DLB_DIM_UNSET: complete() derives it */
    const char *meaning; /* one line of help */
    const char *const *names;
};

/*
 * One tunable.  A candidate holds one integer per tile; 0 means "does not apply to this
 * algorithm".  When names (ends in NULL) is not NULL the tile is an enumeration: value v
 * (from 1) is written as key-names[v-1]; otherwise as key followed by the number.
 */
struct dlb_tile_def {
    const char *key;
    const char *const *names;
    const char *meaning;
};

/* A candidate: how a problem may be computed.  Threads are the thread set's business. */
struct dlb_candidate {
    int algorithm; /* index into op->algorithms */
    int tile[DLB_TILES_MAX];
};

/* The hardware that a candidate is judged and planned for. */
struct dlb_target {
    enum dlb_isa isa;
    int threads;
    size_t l1d_bytes, l2_bytes; /* of one core */
    size_t l3_bytes;            /* share of one thread of the team */
};

/* DLB_KEPT: an output that a training pass keeps for the backward pass, each
 * implementation in its own form; fetch brings it into the canonical one where
 * plan->fetches_kept says so. */
enum dlb_role { DLB_INPUT, DLB_PARAMETER, DLB_OUTPUT, DLB_KEPT };

/* True for what a plan writes. */
static inline bool dlb_role_written(enum dlb_role role)
{
    return role == DLB_OUTPUT || role == DLB_KEPT;
}

/* How an input is filled with whole numbers; see bench/measure/buffers.h. */
enum dlb_fill { DLB_FILL_ACTIVATION, DLB_FILL_WEIGHT, DLB_FILL_BIAS };

/* The two fills of verification; see bench/measure/verify.h. */
enum dlb_fill_kind { DLB_FILL_EXACT, DLB_FILL_DENSE, DLB_FILL_KINDS };

/*
 * One operand in its canonical layout: dense, row-major in the order of dim[].  This is
 * the layout in which the plain definition, native and oneDNN results are compared.  An
 * operand that a problem goes without may keep its position, with a dim of 0.
 */
struct dlb_tensor {
    const char *name;   /* src, weights, bias, dst, … */
    const char *layout; /* nhwc, goihw, x: the canonical order in the field's letters */
    enum dlb_role role;
    enum dlb_fill fill;
    int rank;
    int64_t dim[DLB_RANK_MAX];
    float low, high; /* of the dense fill, uniform in [low, high); both 0: [-1, 1) */
};

int64_t dlb_tensor_elements(const struct dlb_tensor *tensor);

/* Measured rates of one thread set, for the model and for roofs (0 = not measured). */
struct dlb_rates {
    double peak_gflops;                        /* all threads of the set together */
    double l1_gbs, l2_gbs, l3_gbs, memory_gbs; /* read bandwidth, all threads */
    double copy_gbs;   /* memory copy with streaming stores, read + written */
    double barrier_ns; /* one team barrier */
};

/* Receives each point of the raw space; returns false to stop the enumeration. */
typedef bool dlb_candidate_fn(void *context, const struct dlb_candidate *candidate);

struct dlb_op {
    const char *name;    /* conv */
    const char *summary; /* one line */
    const struct dlb_dim_def *dims;
    int dims_n;
    const char *const *algorithms;
    int algorithms_n;
    const struct dlb_tile_def *tiles;
    int tiles_n;
    unsigned passes; /* bit (1u << pass) for each pass that exists */

    /* Derives every dim that is DLB_DIM_UNSET and checks the whole; the sentence of
     * DLB_INVALID names the dim and what would be accepted. */
    enum dlb_status (*complete)(struct dlb_problem *problem, struct dlb_error *error);

    /* For the canonical descriptor: true when dim must be written, that is, when parsing
     * the descriptor without it would not give the same problem. */
    bool (*dim_needed)(const struct dlb_problem *problem, int dim);

    double (*flops)(
        const struct dlb_problem *problem); /* multiply and add are 2; padding excluded */
    double (*bytes)(
        const struct dlb_problem *problem); /* least traffic: each operand once */

    /* Fills tensor[] (DLB_TENSORS_MAX) and returns how many.  Index = position in the
     * tensor pointer arrays of plans. */
    int (*tensors)(const struct dlb_problem *problem, struct dlb_tensor *tensor);

    /* Length of the reduction behind each output element, for the density of exact
     * fills.  NULL: no fill of whole numbers is exact in this operator, and the dense one
     * does for both. */
    int64_t (*reduction)(const struct dlb_problem *problem);

    /* NULL: none; or the elements of output tensor number t that no input reaches, so that
     * they are 0 by definition and prove nothing by it. */
    int64_t (*unreached)(const struct dlb_problem *problem, int t);

    /* NULL, or the operator's own fill: elements [begin, end) of tensor number t, made
     * from dlb_hash(seed, position).  Returns false for the generic fill. */
    bool (*fill)(const struct dlb_problem *problem, int t, enum dlb_fill_kind kind,
                 uint64_t seed, int64_t begin, int64_t end, float *data);

    /* Raw search space for this problem on this target, in a fixed order. */
    void (*enumerate)(const struct dlb_problem *problem, const struct dlb_target *target,
                      dlb_candidate_fn *emit, void *context);

    /* NULL when the candidate is legal, else the reason in a few words ("register tile
     * needs 34 registers").  The words are static: refusals are counted by reason. */
    const char *(*refuse)(const struct dlb_problem *problem,
                          const struct dlb_target *target,
                          const struct dlb_candidate *candidate);

    /* The candidate that is used without tuning: always legal. */
    void (*fallback)(const struct dlb_problem *problem, const struct dlb_target *target,
                     struct dlb_candidate *candidate);

    /* Predicted nanoseconds from measured rates: only the order matters. */
    double (*estimate)(const struct dlb_problem *problem, const struct dlb_target *target,
                       const struct dlb_rates *rates,
                       const struct dlb_candidate *candidate);

    /* Native plan.  DLB_UNSUPPORTED when refuse() would refuse; DLB_NOMEM. */
    enum dlb_status (*plan)(const struct dlb_problem *problem,
                            const struct dlb_target *target,
                            const struct dlb_candidate *candidate, struct dlb_plan **plan,
                            struct dlb_error *error);
};

/* For complete(): DLB_INVALID when a dim that is set lies outside what its definition
 * accepts, or when a tensor would hold more than 2^40 elements. */
enum dlb_status dlb_op_check_ranges(const struct dlb_op *op,
                                    const struct dlb_problem *problem,
                                    struct dlb_error *error);
enum dlb_status dlb_op_check_elements(const struct dlb_op *op,
                                      const struct dlb_problem *problem,
                                      struct dlb_error *error);

/* For bytes(): all elements of all tensors. */
double dlb_op_tensor_bytes(const struct dlb_op *op, const struct dlb_problem *problem);

/* For estimate(): nanoseconds for so many bytes, of all threads together, out of the
 * smallest level of the caches that holds footprint. */
double dlb_op_transfer_ns(const struct dlb_target *target, const struct dlb_rates *rates,
                          double bytes, double footprint);

/* The legal candidate of the least estimate without measured rates: op->fallback of an
 * operator whose model is all it knows. */
void dlb_op_fallback(const struct dlb_op *op, const struct dlb_problem *problem,
                     const struct dlb_target *target, struct dlb_candidate *candidate);

#endif
