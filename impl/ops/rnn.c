/*
 * The problem side of LSTM, GRU and the vanilla RNN: dims, derivation, checks, counts,
 * fills.  The search space stands in rnn_space.c, plans in rnn_plan.c, rnn_back_plan.c,
 * kernels in *_kernels.c.
 *
 * Work is counted as the multiply-adds of the products W x and U h, 2 each, of every step:
 * the first one too, where without initial states U h is nothing.  Activations and
 * element-wise products are left out, as is usual for these operators.  The backward pass
 * has two products for each of these: one for the gradient of either factor.
 */
#include "ops/rnn.h"

#include "ops/rnn_internal.h"

#include <math.h>

enum { DIM_MAX = 1 << 24, LAYERS_MAX = 1 << 10, UNSET = DLB_DIM_UNSET };

static const char *const direction_names[DLB_RNN_DIRECTIONS] = {
    [DLB_RNN_L2R] = "l2r",
    [DLB_RNN_R2L] = "r2l",
    [DLB_RNN_CONCAT] = "concat",
    [DLB_RNN_SUM] = "sum",
};

static const char *const activation_names[DLB_RNN_ACTIVATIONS] = {
    [DLB_RNN_TANH] = "tanh",
    [DLB_RNN_RELU] = "relu",
};

/* clang-format off */
#define COMMON_DIMS                                                                      \
    [DLB_RNN_L] = {"l", 1, LAYERS_MAX, 1, "layers", NULL},                               \
    [DLB_RNN_T] = {"t", 1, DIM_MAX, 1, "time steps", NULL},                              \
    [DLB_RNN_MB] = {"mb", 1, DIM_MAX, 2, "minibatch", NULL},                             \
    [DLB_RNN_SLC] = {"slc", 1, DIM_MAX, UNSET, "channels of the input; dhc", NULL},      \
    [DLB_RNN_SIC] = {"sic", 1, DIM_MAX, UNSET, "channels of the state; dhc", NULL},      \
    [DLB_RNN_DHC] = {"dhc", 1, DIM_MAX, UNSET, "hidden channels; sic", NULL},            \
    [DLB_RNN_DLC] = {"dlc", 1, 2 * DIM_MAX, UNSET, "channels of the output; derived",    \
                     NULL},                                                              \
    [DLB_RNN_DIR] = {"dir", 0, DLB_RNN_DIRECTIONS - 1, DLB_RNN_L2R,                      \
                     "direction; two are joined by concat or sum", direction_names},     \
    [DLB_RNN_BIAS] = {"bias", 0, 1, 1, "0 leaves out the bias", NULL},                   \
    [DLB_RNN_INIT] = {"init", 0, 1, 0, "1 starts from given states, 0 from zeros", NULL}
/* clang-format on */

static const struct dlb_dim_def lstm_dims[DLB_LSTM_DIMS] = {COMMON_DIMS};
static const struct dlb_dim_def gru_dims[DLB_GRU_DIMS] = {
    COMMON_DIMS,
    [DLB_GRU_LBR] = {"lbr", 0, 1, 0, "1 is linear before reset", NULL},
};
static const struct dlb_dim_def rnn_dims[DLB_VANILLA_DIMS] = {
    COMMON_DIMS,
    [DLB_VANILLA_ACT] = {"act", 0, DLB_RNN_ACTIVATIONS - 1, DLB_RNN_TANH,
                         "activation, of the sum", activation_names},
};

static bool unset(int64_t value)
{
    return value == DLB_DIM_UNSET;
}

static enum dlb_status complete(const struct dlb_op *op, struct dlb_problem *problem,
                                struct dlb_error *error)
{
    int64_t *d = problem->dim;
    enum dlb_status status = dlb_op_check_ranges(op, problem, error);
    if (status)
        return status;
    for (int i = 0; i < op->dims_n; i++)
        if (unset(d[i]))
            d[i] = op->dims[i].fallback;
    if (unset(d[DLB_RNN_DHC]))
        d[DLB_RNN_DHC] = d[DLB_RNN_SIC];
    if (unset(d[DLB_RNN_DHC]))
        return dlb_fail(error, DLB_INVALID,
                        "The hidden channels 'dhc' are missing; write for example "
                        "dhc512.");
    int64_t dhc = d[DLB_RNN_DHC];
    int64_t dlc = d[DLB_RNN_DIR] == DLB_RNN_CONCAT ? 2 * dhc : dhc;
    if (unset(d[DLB_RNN_SIC]))
        d[DLB_RNN_SIC] = dhc;
    if (unset(d[DLB_RNN_SLC]))
        d[DLB_RNN_SLC] = dhc;
    if (unset(d[DLB_RNN_DLC]))
        d[DLB_RNN_DLC] = dlc;
    if (d[DLB_RNN_SIC] != dhc)
        return dlb_fail(error, DLB_INVALID,
                        "sic%lld differs from dhc%lld, but there is no projection; "
                        "accepted: sic%lld, or none to derive it.",
                        (long long)d[DLB_RNN_SIC], (long long)dhc, (long long)dhc);
    if (d[DLB_RNN_DLC] != dlc)
        return dlb_fail(error, DLB_INVALID,
                        "dlc%lld does not fit dhc%lld with dir-%s; accepted: dlc%lld, or "
                        "none to derive it.",
                        (long long)d[DLB_RNN_DLC], (long long)dhc,
                        direction_names[d[DLB_RNN_DIR]], (long long)dlc);
    if (d[DLB_RNN_L] > 1 && d[DLB_RNN_SLC] != dhc)
        return dlb_fail(
            error, DLB_INVALID,
            "slc%lld differs from dhc%lld, which l%lld layers cannot have, as "
            "each feeds the next; accepted: slc%lld, or l1.",
            (long long)d[DLB_RNN_SLC], (long long)dhc, (long long)d[DLB_RNN_L],
            (long long)dhc);
    return dlb_op_check_elements(op, problem, error);
}

/* What is derived from dhc is written only where it differs; dhc always. */
static bool dim_needed(const struct dlb_op *op, const struct dlb_problem *problem,
                       int dim)
{
    switch (dim) {
    case DLB_RNN_SIC:
    case DLB_RNN_DLC:
        return false;
    case DLB_RNN_SLC:
        return problem->dim[DLB_RNN_SLC] != problem->dim[DLB_RNN_DHC];
    default:
        return problem->dim[dim] != op->dims[dim].fallback;
    }
}

static struct dlb_rnn_shape shape_of(const struct dlb_op *op,
                                     const struct dlb_problem *problem)
{
    const int64_t *d = problem->dim;
    const bool lstm = op == &dlb_op_lstm, gru = op == &dlb_op_gru;
    struct dlb_rnn_shape s = {
        .lstm = lstm,
        .lbr = gru && d[DLB_GRU_LBR],
        .plain = gru && !d[DLB_GRU_LBR],
        .relu = !lstm && !gru && d[DLB_VANILLA_ACT] == DLB_RNN_RELU,
        .l = d[DLB_RNN_L],
        .t = d[DLB_RNN_T],
        .mb = d[DLB_RNN_MB],
        .slc = d[DLB_RNN_SLC],
        .dhc = d[DLB_RNN_DHC],
        .dlc = d[DLB_RNN_DLC],
        .directions =
            d[DLB_RNN_DIR] == DLB_RNN_CONCAT || d[DLB_RNN_DIR] == DLB_RNN_SUM ? 2 : 1,
        .gates = lstm  ? 4
                 : gru ? 3
                       : 1,
        .direction = (enum dlb_rnn_direction)d[DLB_RNN_DIR],
        .bias = d[DLB_RNN_BIAS],
        .init = d[DLB_RNN_INIT],
        .train = problem->pass == DLB_FWD_TRAIN,
        .back = problem->pass == DLB_BWD,
    };
    s.bias_rows = !s.bias ? 0 : s.lbr ? 4 : s.gates;
    return s;
}

static double flops(const struct dlb_rnn_shape *s)
{
    return (s->back ? 4.0 : 2.0) * (double)(s->l * s->directions) *
           (double)(s->t * s->mb) * (double)(s->gates * s->dhc) *
           (double)(s->slc + s->dhc);
}

/* Outputs and their gradients have the same dims. */
static void forward_outputs(const struct dlb_rnn_shape *s, struct dlb_tensor *tensor)
{
    const int64_t l = s->l, d = s->directions, n = s->mb, c = s->dhc;
    const struct dlb_tensor outputs[] = {
        {.name = "dst", .layout = "tnc", .rank = 3, .dim = {s->t, n, s->dlc}},
        {.name = "dst_iter", .layout = "ldnc", .rank = 4, .dim = {l, d, n, c}},
        {.name = "dst_iter_c",
         .layout = "ldnc",
         .rank = 4,
         .dim = {s->lstm ? l : 0, d, n, c}},
    };
    for (int i = 0; i < 3; i++) {
        tensor[DLB_RNN_DST + i] = outputs[i];
        tensor[DLB_RNN_DST + i].role = DLB_OUTPUT;
    }
}

static void inputs(const struct dlb_rnn_shape *s, struct dlb_tensor *tensor)
{
    const float most = (float)(1 / sqrt((double)s->dhc));
    const int64_t l = s->l, d = s->directions, n = s->mb, c = s->dhc;
    const int64_t given = s->init ? l : 0, given_c = s->lstm ? given : 0;
    const struct dlb_tensor all[] = {
        {.name = "src", .layout = "tnc", .rank = 3, .dim = {s->t, n, s->slc}},
        {.name = "weights_layer",
         .layout = "ldigo",
         .rank = 5,
         .dim = {l, d, s->slc, s->gates, c}},
        {.name = "weights_iter",
         .layout = "ldigo",
         .rank = 5,
         .dim = {l, d, c, s->gates, c}},
        {.name = "bias", .layout = "ldgo", .rank = 4, .dim = {l, d, s->bias_rows, c}},
        {.name = "src_iter", .layout = "ldnc", .rank = 4, .dim = {given, d, n, c}},
        {.name = "src_iter_c", .layout = "ldnc", .rank = 4, .dim = {given_c, d, n, c}},
    };
    for (int i = 0; i < DLB_RNN_DST; i++) {
        bool parameter = i >= DLB_RNN_WEIGHTS_LAYER && i <= DLB_RNN_BIASES;
        tensor[i] = all[i];
        tensor[i].role = parameter ? DLB_PARAMETER : DLB_INPUT;
        if (!parameter)
            continue;
        tensor[i].fill = i == DLB_RNN_BIASES ? DLB_FILL_BIAS : DLB_FILL_WEIGHT;
        tensor[i].low = -most;
        tensor[i].high = most;
    }
}

static int forward_tensors(const struct dlb_rnn_shape *s, struct dlb_tensor *tensor)
{
    const int64_t d = s->directions, n = s->mb, c = s->dhc, kept = s->train ? s->l : 0;
    const struct dlb_tensor all[] = {
        {.name = "gates",
         .layout = "ldtngo",
         .rank = 6,
         .dim = {s->gates > 1 ? kept : 0, d, s->t, n, s->gates, c}},
        {.name = "states", .layout = "ldtnc", .rank = 5, .dim = {kept, d, s->t, n, c}},
        {.name = "cells",
         .layout = "ldtnc",
         .rank = 5,
         .dim = {s->lstm || s->lbr ? kept : 0, d, s->t, n, c}},
    };
    inputs(s, tensor);
    forward_outputs(s, tensor);
    for (int i = 0; i < 3; i++) {
        tensor[DLB_RNN_GATES + i] = all[i];
        tensor[DLB_RNN_GATES + i].role = DLB_KEPT;
    }
    return DLB_RNN_TENSORS;
}

static int backward_tensors(const struct dlb_rnn_shape *s, struct dlb_tensor *tensor)
{
    static const char *const names[DLB_RNN_BWD_TENSORS] = {
        [DLB_RNN_DIFF_DST] = "diff_dst",
        [DLB_RNN_DIFF_DST_ITER] = "diff_dst_iter",
        [DLB_RNN_DIFF_DST_ITER_C] = "diff_dst_iter_c",
        [DLB_RNN_DIFF_SRC] = "diff_src",
        [DLB_RNN_DIFF_WEIGHTS_LAYER] = "diff_weights_layer",
        [DLB_RNN_DIFF_WEIGHTS_ITER] = "diff_weights_iter",
        [DLB_RNN_DIFF_BIASES] = "diff_bias",
        [DLB_RNN_DIFF_SRC_ITER] = "diff_src_iter",
        [DLB_RNN_DIFF_SRC_ITER_C] = "diff_src_iter_c",
    };
    inputs(s, tensor);
    forward_outputs(s, tensor);
    for (int i = DLB_RNN_DIFF_DST; i < DLB_RNN_BWD_TENSORS; i++) {
        bool incoming = i < DLB_RNN_DIFF_INPUTS;
        if (!incoming)
            tensor[i] = tensor[i - DLB_RNN_DIFF_INPUTS];
        tensor[i].name = names[i];
        tensor[i].role = incoming ? DLB_INPUT : DLB_OUTPUT;
    }
    return DLB_RNN_BWD_TENSORS;
}

/* Of rnn with relu, see ops/rnn.h: inputs are whole numbers over 2^(FINE + SMALL), below
 * 1/2, weights 1 and -1 over 2^bits.  A sum over inputs then has about the mean 3/2 and at
 * most the variance 1 in units of its input.  Some states add those of units in front of
 * them, three times in four as they are: nothing runs in a circle, through which states
 * would grow from step to step. */
static bool fill(const struct dlb_rnn_shape *s, int t, uint64_t key, int64_t begin,
                 int64_t end, float *data)
{
    enum { MANTISSA = 20, FINE = 6, SMALL = 2 };
    if (!s->relu || t > DLB_RNN_SRC_ITER)
        return false;
    int64_t most = dlb_max(0, (MANTISSA - FINE) / s->l - 1), bits = 0;
    while (bits < most && (int64_t)1 << 2 * bits < s->slc)
        bits++;
    const double scale = (double)((int64_t)1 << bits), terms = (double)s->slc;
    const double dense = fmin(1, scale * scale / terms),
                 plus = fmin(1, 0.5 + 0.75 * scale / (dense * terms));
    for (int64_t i = begin; i < end; i++) {
        uint64_t hash = dlb_hash(key, (uint64_t)i);
        double first = (double)(hash >> 40) * 0x1p-24,
               second = (double)(hash & 0xffffff) * 0x1p-24;
        if (t == DLB_RNN_WEIGHTS_LAYER)
            data[i] = (float)(first < dense ? (second < plus ? 1 : -1) / scale : 0);
        else if (t == DLB_RNN_WEIGHTS_ITER) {
            bool linked = i / s->dhc % s->dhc < i % s->dhc && first * (double)s->dhc < 1;
            data[i] = !linked ? 0.0F : second < 0.75 ? 1.0F : -1.0F;
        } else
            data[i] = (float)(hash >> (63 - FINE)) / (1 << (FINE + SMALL));
    }
    return true;
}

/*
 * The functions of one operator's table, from those that all three share: they differ in
 * the table by which shape_of() tells the operators apart.
 */
/* A single step from states that are zero: what is multiplied by one of them has no
 * gradient, nor has the gate that only weighs one. */
static int64_t unreached(const struct dlb_rnn_shape *s, int t)
{
    const int64_t cells = s->l * s->directions;
    const bool gate = s->lstm || s->plain || (s->lbr && !s->bias);
    if (!s->back || s->init || s->t > 1)
        return 0;
    if (t == DLB_RNN_DIFF_WEIGHTS_ITER)
        return cells * s->dhc * s->gates * s->dhc;
    if (t == DLB_RNN_DIFF_WEIGHTS_LAYER && gate)
        return cells * s->slc * s->dhc;
    return t == DLB_RNN_DIFF_BIASES && s->bias && gate ? cells * s->dhc : 0;
}

#define OPERATOR_FUNCTIONS(name)                                                         \
    void dlb_##name##_shape_get(const struct dlb_problem *problem,                       \
                                struct dlb_rnn_shape *shape)                             \
    {                                                                                    \
        *shape = shape_of(&dlb_op_##name, problem);                                      \
    }                                                                                    \
    static enum dlb_status name##_complete(struct dlb_problem *problem,                  \
                                           struct dlb_error *error)                      \
    {                                                                                    \
        return complete(&dlb_op_##name, problem, error);                                 \
    }                                                                                    \
    static bool name##_dim_needed(const struct dlb_problem *problem, int dim)            \
    {                                                                                    \
        return dim_needed(&dlb_op_##name, problem, dim);                                 \
    }                                                                                    \
    static double name##_flops(const struct dlb_problem *problem)                        \
    {                                                                                    \
        struct dlb_rnn_shape s = shape_of(&dlb_op_##name, problem);                      \
        return flops(&s);                                                                \
    }                                                                                    \
    static double name##_bytes(const struct dlb_problem *problem)                        \
    {                                                                                    \
        return dlb_op_tensor_bytes(&dlb_op_##name, problem);                             \
    }                                                                                    \
    static int name##_tensors(const struct dlb_problem *problem,                         \
                              struct dlb_tensor *tensor)                                 \
    {                                                                                    \
        struct dlb_rnn_shape s = shape_of(&dlb_op_##name, problem);                      \
        return s.back ? backward_tensors(&s, tensor) : forward_tensors(&s, tensor);      \
    }                                                                                    \
    static bool name##_fill(const struct dlb_problem *problem, int t,                    \
                            enum dlb_fill_kind kind, uint64_t seed, int64_t begin,       \
                            int64_t end, float *data)                                    \
    {                                                                                    \
        struct dlb_rnn_shape s = shape_of(&dlb_op_##name, problem);                      \
        (void)kind;                                                                      \
        return fill(&s, t, seed, begin, end, data);                                      \
    }                                                                                    \
    static int64_t name##_unreached(const struct dlb_problem *problem, int t)            \
    {                                                                                    \
        struct dlb_rnn_shape s = shape_of(&dlb_op_##name, problem);                      \
        return unreached(&s, t);                                                         \
    }                                                                                    \
    static void name##_enumerate(const struct dlb_problem *problem,                      \
                                 const struct dlb_target *target,                        \
                                 dlb_candidate_fn *emit, void *context)                  \
    {                                                                                    \
        struct dlb_rnn_shape s = shape_of(&dlb_op_##name, problem);                      \
        dlb_rnn_enumerate(&s, target, emit, context);                                    \
    }                                                                                    \
    static const char *name##_refuse(const struct dlb_problem *problem,                  \
                                     const struct dlb_target *target,                    \
                                     const struct dlb_candidate *candidate)              \
    {                                                                                    \
        struct dlb_rnn_shape s = shape_of(&dlb_op_##name, problem);                      \
        return dlb_rnn_refuse(&s, target, candidate);                                    \
    }                                                                                    \
    static void name##_fallback(const struct dlb_problem *problem,                       \
                                const struct dlb_target *target,                         \
                                struct dlb_candidate *candidate)                         \
    {                                                                                    \
        struct dlb_rnn_shape s = shape_of(&dlb_op_##name, problem);                      \
        dlb_rnn_fallback(&s, target, candidate);                                         \
    }                                                                                    \
    static double name##_estimate(                                                       \
        const struct dlb_problem *problem, const struct dlb_target *target,              \
        const struct dlb_rates *rates, const struct dlb_candidate *candidate)            \
    {                                                                                    \
        struct dlb_rnn_shape s = shape_of(&dlb_op_##name, problem);                      \
        return dlb_rnn_estimate(&s, target, rates, candidate);                           \
    }                                                                                    \
    static enum dlb_status name##_plan(const struct dlb_problem *problem,                \
                                       const struct dlb_target *target,                  \
                                       const struct dlb_candidate *candidate,            \
                                       struct dlb_plan **plan, struct dlb_error *error)  \
    {                                                                                    \
        struct dlb_rnn_shape s = shape_of(&dlb_op_##name, problem);                      \
        return dlb_rnn_plan(&s, target, candidate, plan, error);                         \
    }

/* clang-format off */
#define OPERATOR_TABLE(name)                                                             \
    .dims = name##_dims,                                                                 \
    .dims_n = sizeof name##_dims / sizeof *name##_dims,                                  \
    .algorithms = dlb_rnn_algorithms,                                                    \
    .algorithms_n = DLB_RNN_ALGORITHMS,                                                  \
    .tiles = dlb_rnn_tiles,                                                              \
    .tiles_n = DLB_RNN_TILES,                                                            \
    .passes = 1u << DLB_FWD | 1u << DLB_FWD_TRAIN | 1u << DLB_BWD,                       \
    .complete = name##_complete,                                                         \
    .dim_needed = name##_dim_needed,                                                     \
    .flops = name##_flops,                                                               \
    .bytes = name##_bytes,                                                               \
    .tensors = name##_tensors,                                                           \
    .fill = name##_fill,                                                                 \
    .unreached = name##_unreached,                                                       \
    .enumerate = name##_enumerate,                                                       \
    .refuse = name##_refuse,                                                             \
    .fallback = name##_fallback,                                                         \
    .estimate = name##_estimate,                                                         \
    .plan = name##_plan
/* clang-format on */

OPERATOR_FUNCTIONS(lstm)
const struct dlb_op dlb_op_lstm = {
    .name = "lstm",
    .summary = "LSTM: layers, both directions, bias, initial states",
    OPERATOR_TABLE(lstm),
};

OPERATOR_FUNCTIONS(gru)
const struct dlb_op dlb_op_gru = {
    .name = "gru",
    .summary = "GRU, plain or linear before reset: layers, both directions, bias, states",
    OPERATOR_TABLE(gru),
};

OPERATOR_FUNCTIONS(rnn)
const struct dlb_op dlb_op_rnn = {
    .name = "rnn",
    .summary = "vanilla RNN, tanh or relu: layers, both directions, bias, initial states",
    OPERATOR_TABLE(rnn),
};
