/*
 * The problem side of LSTM and GRU: dims, derivation, checks, counts.  The search space
 * stands in rnn_space.c, plans in rnn_plan.c, kernels in *_kernels.c.
 *
 * Work is counted as the multiply-adds of the products W x and U h, 2 each, of every step:
 * the first one too, where without initial states U h is nothing.  Activations and
 * element-wise products are left out, as is usual for these operators.
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

/* LSTM goes without the last one. */
static const struct dlb_dim_def dims[DLB_GRU_DIMS] = {
    [DLB_RNN_L] = {"l", 1, LAYERS_MAX, 1, "layers", NULL},
    [DLB_RNN_T] = {"t", 1, DIM_MAX, 1, "time steps", NULL},
    [DLB_RNN_MB] = {"mb", 1, DIM_MAX, 2, "minibatch", NULL},
    [DLB_RNN_SLC] = {"slc", 1, DIM_MAX, UNSET, "channels of the input; dhc", NULL},
    [DLB_RNN_SIC] = {"sic", 1, DIM_MAX, UNSET, "channels of the state; dhc", NULL},
    [DLB_RNN_DHC] = {"dhc", 1, DIM_MAX, UNSET, "hidden channels; sic", NULL},
    [DLB_RNN_DLC] = {"dlc", 1, 2 * DIM_MAX, UNSET, "channels of the output; derived",
                     NULL},
    [DLB_RNN_DIR] = {"dir", 0, DLB_RNN_DIRECTIONS - 1, DLB_RNN_L2R,
                     "direction; two are joined by concat or sum", direction_names},
    [DLB_RNN_BIAS] = {"bias", 0, 1, 1, "0 leaves out the bias", NULL},
    [DLB_RNN_INIT] = {"init", 0, 1, 0, "1 starts from given states, 0 from zeros", NULL},
    [DLB_GRU_LBR] = {"lbr", 0, 1, 0, "1 is linear before reset", NULL},
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
            d[i] = dims[i].fallback;
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
static bool rnn_dim_needed(const struct dlb_problem *problem, int dim)
{
    switch (dim) {
    case DLB_RNN_SIC:
    case DLB_RNN_DLC:
        return false;
    case DLB_RNN_SLC:
        return problem->dim[DLB_RNN_SLC] != problem->dim[DLB_RNN_DHC];
    default:
        return problem->dim[dim] != dims[dim].fallback;
    }
}

static struct dlb_rnn_shape shape_of(const struct dlb_problem *problem, bool lstm)
{
    const int64_t *d = problem->dim;
    struct dlb_rnn_shape s = {
        .lstm = lstm,
        .lbr = !lstm && d[DLB_GRU_LBR],
        .l = d[DLB_RNN_L],
        .t = d[DLB_RNN_T],
        .mb = d[DLB_RNN_MB],
        .slc = d[DLB_RNN_SLC],
        .dhc = d[DLB_RNN_DHC],
        .dlc = d[DLB_RNN_DLC],
        .directions =
            d[DLB_RNN_DIR] == DLB_RNN_CONCAT || d[DLB_RNN_DIR] == DLB_RNN_SUM ? 2 : 1,
        .gates = lstm ? 4 : 3,
        .direction = (enum dlb_rnn_direction)d[DLB_RNN_DIR],
        .bias = d[DLB_RNN_BIAS],
        .init = d[DLB_RNN_INIT],
        .train = problem->pass == DLB_FWD_TRAIN,
    };
    s.bias_rows = !s.bias ? 0 : s.lbr ? 4 : s.gates;
    return s;
}

void dlb_lstm_shape_get(const struct dlb_problem *problem, struct dlb_rnn_shape *shape)
{
    *shape = shape_of(problem, true);
}

void dlb_gru_shape_get(const struct dlb_problem *problem, struct dlb_rnn_shape *shape)
{
    *shape = shape_of(problem, false);
}

static double flops(const struct dlb_rnn_shape *s)
{
    return 2.0 * (double)(s->l * s->directions) * (double)(s->t * s->mb) *
           (double)(s->gates * s->dhc) * (double)(s->slc + s->dhc);
}

static int tensors(const struct dlb_rnn_shape *s, struct dlb_tensor *tensor)
{
    const float most = (float)(1 / sqrt((double)s->dhc));
    const int64_t l = s->l, d = s->directions, n = s->mb, c = s->dhc;
    const int64_t given = s->init ? l : 0, given_c = s->lstm ? given : 0;
    const int64_t kept = s->train ? l : 0, kept_cells = s->lstm || s->lbr ? kept : 0;
    const struct dlb_tensor all[DLB_RNN_TENSORS] = {
        [DLB_RNN_SRC] =
            {"src", "tnc", DLB_INPUT, DLB_FILL_ACTIVATION, 3, {s->t, n, s->slc}, 0, 0},
        [DLB_RNN_WEIGHTS_LAYER] = {"weights_layer",
                                   "ldigo",
                                   DLB_PARAMETER,
                                   DLB_FILL_WEIGHT,
                                   5,
                                   {l, d, s->slc, s->gates, c},
                                   -most,
                                   most},
        [DLB_RNN_WEIGHTS_ITER] = {"weights_iter",
                                  "ldigo",
                                  DLB_PARAMETER,
                                  DLB_FILL_WEIGHT,
                                  5,
                                  {l, d, c, s->gates, c},
                                  -most,
                                  most},
        [DLB_RNN_BIASES] = {"bias",
                            "ldgo",
                            DLB_PARAMETER,
                            DLB_FILL_BIAS,
                            4,
                            {l, d, s->bias_rows, c},
                            -most,
                            most},
        [DLB_RNN_SRC_ITER] = {"src_iter",
                              "ldnc",
                              DLB_INPUT,
                              DLB_FILL_ACTIVATION,
                              4,
                              {given, d, n, c},
                              0,
                              0},
        [DLB_RNN_SRC_ITER_C] = {"src_iter_c",
                                "ldnc",
                                DLB_INPUT,
                                DLB_FILL_ACTIVATION,
                                4,
                                {given_c, d, n, c},
                                0,
                                0},
        [DLB_RNN_DST] =
            {"dst", "tnc", DLB_OUTPUT, DLB_FILL_ACTIVATION, 3, {s->t, n, s->dlc}, 0, 0},
        [DLB_RNN_DST_ITER] =
            {"dst_iter", "ldnc", DLB_OUTPUT, DLB_FILL_ACTIVATION, 4, {l, d, n, c}, 0, 0},
        [DLB_RNN_DST_ITER_C] = {"dst_iter_c",
                                "ldnc",
                                DLB_OUTPUT,
                                DLB_FILL_ACTIVATION,
                                4,
                                {s->lstm ? l : 0, d, n, c},
                                0,
                                0},
        [DLB_RNN_GATES] = {"gates",
                           "ldtngo",
                           DLB_KEPT,
                           DLB_FILL_ACTIVATION,
                           6,
                           {kept, d, s->t, n, s->gates, c},
                           0,
                           0},
        [DLB_RNN_STATES] = {"states",
                            "ldtnc",
                            DLB_KEPT,
                            DLB_FILL_ACTIVATION,
                            5,
                            {kept, d, s->t, n, c},
                            0,
                            0},
        [DLB_RNN_CELLS] = {"cells",
                           "ldtnc",
                           DLB_KEPT,
                           DLB_FILL_ACTIVATION,
                           5,
                           {kept_cells, d, s->t, n, c},
                           0,
                           0},
    };
    for (int i = 0; i < DLB_RNN_TENSORS; i++)
        tensor[i] = all[i];
    return DLB_RNN_TENSORS;
}

static enum dlb_status lstm_complete(struct dlb_problem *problem, struct dlb_error *error)
{
    return complete(&dlb_op_lstm, problem, error);
}

static double lstm_flops(const struct dlb_problem *problem)
{
    struct dlb_rnn_shape s = shape_of(problem, true);
    return flops(&s);
}

static double lstm_bytes(const struct dlb_problem *problem)
{
    return dlb_op_tensor_bytes(&dlb_op_lstm, problem);
}

static int lstm_tensors(const struct dlb_problem *problem, struct dlb_tensor *tensor)
{
    struct dlb_rnn_shape s = shape_of(problem, true);
    return tensors(&s, tensor);
}

static void lstm_enumerate(const struct dlb_problem *problem,
                           const struct dlb_target *target, dlb_candidate_fn *emit,
                           void *context)
{
    struct dlb_rnn_shape s = shape_of(problem, true);
    dlb_rnn_enumerate(&s, target, emit, context);
}

static const char *lstm_refuse(const struct dlb_problem *problem,
                               const struct dlb_target *target,
                               const struct dlb_candidate *candidate)
{
    struct dlb_rnn_shape s = shape_of(problem, true);
    return dlb_rnn_refuse(&s, target, candidate);
}

static void lstm_fallback(const struct dlb_problem *problem,
                          const struct dlb_target *target,
                          struct dlb_candidate *candidate)
{
    struct dlb_rnn_shape s = shape_of(problem, true);
    dlb_rnn_fallback(&s, target, candidate);
}

static double lstm_estimate(const struct dlb_problem *problem,
                            const struct dlb_target *target,
                            const struct dlb_rates *rates,
                            const struct dlb_candidate *candidate)
{
    struct dlb_rnn_shape s = shape_of(problem, true);
    return dlb_rnn_estimate(&s, target, rates, candidate);
}

static enum dlb_status lstm_plan(const struct dlb_problem *problem,
                                 const struct dlb_target *target,
                                 const struct dlb_candidate *candidate,
                                 struct dlb_plan **plan, struct dlb_error *error)
{
    struct dlb_rnn_shape s = shape_of(problem, true);
    return dlb_rnn_plan(&s, target, candidate, plan, error);
}

const struct dlb_op dlb_op_lstm = {
    .name = "lstm",
    .summary = "LSTM: layers, both directions, bias, initial states",
    .dims = dims,
    .dims_n = DLB_LSTM_DIMS,
    .algorithms = dlb_rnn_algorithms,
    .algorithms_n = DLB_RNN_ALGORITHMS,
    .tiles = dlb_rnn_tiles,
    .tiles_n = DLB_RNN_TILES,
    .passes = 1u << DLB_FWD | 1u << DLB_FWD_TRAIN,
    .complete = lstm_complete,
    .dim_needed = rnn_dim_needed,
    .flops = lstm_flops,
    .bytes = lstm_bytes,
    .tensors = lstm_tensors,
    .enumerate = lstm_enumerate,
    .refuse = lstm_refuse,
    .fallback = lstm_fallback,
    .estimate = lstm_estimate,
    .plan = lstm_plan,
};

static enum dlb_status gru_complete(struct dlb_problem *problem, struct dlb_error *error)
{
    return complete(&dlb_op_gru, problem, error);
}

static double gru_flops(const struct dlb_problem *problem)
{
    struct dlb_rnn_shape s = shape_of(problem, false);
    return flops(&s);
}

static double gru_bytes(const struct dlb_problem *problem)
{
    return dlb_op_tensor_bytes(&dlb_op_gru, problem);
}

static int gru_tensors(const struct dlb_problem *problem, struct dlb_tensor *tensor)
{
    struct dlb_rnn_shape s = shape_of(problem, false);
    return tensors(&s, tensor);
}

static void gru_enumerate(const struct dlb_problem *problem,
                          const struct dlb_target *target, dlb_candidate_fn *emit,
                          void *context)
{
    struct dlb_rnn_shape s = shape_of(problem, false);
    dlb_rnn_enumerate(&s, target, emit, context);
}

static const char *gru_refuse(const struct dlb_problem *problem,
                              const struct dlb_target *target,
                              const struct dlb_candidate *candidate)
{
    struct dlb_rnn_shape s = shape_of(problem, false);
    return dlb_rnn_refuse(&s, target, candidate);
}

static void gru_fallback(const struct dlb_problem *problem,
                         const struct dlb_target *target, struct dlb_candidate *candidate)
{
    struct dlb_rnn_shape s = shape_of(problem, false);
    dlb_rnn_fallback(&s, target, candidate);
}

static double gru_estimate(const struct dlb_problem *problem,
                           const struct dlb_target *target, const struct dlb_rates *rates,
                           const struct dlb_candidate *candidate)
{
    struct dlb_rnn_shape s = shape_of(problem, false);
    return dlb_rnn_estimate(&s, target, rates, candidate);
}

static enum dlb_status gru_plan(const struct dlb_problem *problem,
                                const struct dlb_target *target,
                                const struct dlb_candidate *candidate,
                                struct dlb_plan **plan, struct dlb_error *error)
{
    struct dlb_rnn_shape s = shape_of(problem, false);
    return dlb_rnn_plan(&s, target, candidate, plan, error);
}

const struct dlb_op dlb_op_gru = {
    .name = "gru",
    .summary = "GRU, plain or linear before reset: layers, both directions, bias, states",
    .dims = dims,
    .dims_n = DLB_GRU_DIMS,
    .algorithms = dlb_rnn_algorithms,
    .algorithms_n = DLB_RNN_ALGORITHMS,
    .tiles = dlb_rnn_tiles,
    .tiles_n = DLB_RNN_TILES,
    .passes = 1u << DLB_FWD | 1u << DLB_FWD_TRAIN,
    .complete = gru_complete,
    .dim_needed = rnn_dim_needed,
    .flops = gru_flops,
    .bytes = gru_bytes,
    .tensors = gru_tensors,
    .enumerate = gru_enumerate,
    .refuse = gru_refuse,
    .fallback = gru_fallback,
    .estimate = gru_estimate,
    .plan = gru_plan,
};
