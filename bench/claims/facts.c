/* The experiments that settle a fact by a few runs of an operator. */
#include "claims/facts.h"

#include "ops/rnn.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SEEDS = 5, WORD_MAX = 64 };

enum dlb_status dlb_fact_run(const struct dlb_lab *lab, const char *name,
                             enum dlb_pass pass, const char *shape, float *const *given,
                             int givens, struct dlb_error *error)
{
    const struct dlb_op *op = dlb_operator_find(name)->op;
    const struct dlb_team team = {.size = 1};
    struct dlb_problem problem = {.pass = pass};
    struct dlb_target target = lab->session->station[lab->session->narrowest].target;
    struct dlb_tensor tensor[DLB_TENSORS_MAX];
    struct dlb_candidate candidate;
    struct dlb_plan *plan = NULL;
    void *data[DLB_TENSORS_MAX] = {NULL};
    char ignored[DLB_NAME_MAX];
    target.threads = 1;
    enum dlb_status status = dlb_descriptor_parse(op, shape, &problem, ignored, error);
    int tensors = status ? 0 : op->tensors(&problem, tensor);
    for (int t = 0; t < tensors && !status; t++) {
        size_t bytes = sizeof(float) * (size_t)dlb_tensor_elements(&tensor[t]);
        data[t] = t < givens && given[t] ? given[t] : dlb_alloc(bytes + 1);
        if (!data[t])
            status = dlb_fail(error, DLB_NOMEM, "No memory is left for %s.", name);
    }
    if (!status) {
        op->fallback(&problem, &target, &candidate);
        status = op->plan(&problem, &target, &candidate, &plan, error);
    }
    if (!status)
        status = plan->class->bind(plan, data, &team, error);
    if (!status) {
        plan->class->run(plan, &team);
        status = plan->class->fetch(plan, &team, error);
    }
    dlb_plan_release(plan);
    for (int t = 0; t < tensors; t++)
        if (t >= givens || !given[t])
            dlb_free(data[t]);
    return status;
}

double dlb_fact_uniform(uint64_t seed, uint64_t i)
{
    return (double)(dlb_hash(seed, i) >> 11) * 0x1p-53;
}

enum dlb_status dlb_fact_observe(struct dlb_lab *lab, const char *condition,
                                 const char *arm, const char *metric, int64_t seed,
                                 double value, struct dlb_error *error)
{
    struct dlb_observed row = {.condition = (char *)condition,
                               .impl = (char *)"",
                               .arm = (char *)arm,
                               .metric = (char *)metric,
                               .replicate = seed,
                               .x = NAN,
                               .value = value};
    return dlb_lab_observe(lab, &row, 1, error);
}

/* order: what attention makes of its inputs in another order. */

enum { TOKENS = 24, WIDTH = 32, ELEMENTS = TOKENS * WIDTH };

/* Largest difference of the outputs, brought into the same order. */
static enum dlb_status permute(const struct dlb_lab *lab, uint64_t seed, bool positions,
                               double *largest, struct dlb_error *error)
{
    _Alignas(DLB_ALIGN) float token[2][ELEMENTS], out[2][ELEMENTS];
    int place[TOKENS];
    enum dlb_status status = DLB_OK;
    for (int i = 0; i < TOKENS; i++) {
        int j = (int)(dlb_fact_uniform(dlb_hash(seed, 1), (uint64_t)i) * (i + 1));
        place[i] = place[j];
        place[j] = i;
    }
    for (int order = 0; order < 2 && !status; order++) {
        for (int i = 0; i < ELEMENTS; i++) {
            int at = i / WIDTH, from = order ? place[at] : at;
            token[order][i] =
                (float)(2 * dlb_fact_uniform(seed, (uint64_t)(from * WIDTH + i % WIDTH)) -
                        1);
            if (positions)
                token[order][i] += (float)sin(
                    at / pow(100, 2.0 * (i % WIDTH / 2) / WIDTH) + i % 2 * 1.57);
        }
        float *given[] = {token[order], token[order], token[order], NULL, out[order]};
        status =
            dlb_fact_run(lab, "attention", DLB_FWD, "mb1hq2sq24d16", given, 5, error);
    }
    *largest = 0;
    for (int i = 0; i < ELEMENTS; i++)
        *largest = fmax(*largest,
                        fabs(out[1][i] - out[0][place[i / WIDTH] * WIDTH + i % WIDTH]));
    return status;
}

enum dlb_status dlb_facts_order(struct dlb_lab *lab, struct dlb_error *error)
{
    enum dlb_status status = DLB_OK;
    for (int positions = 0; positions < 2; positions++)
        for (int seed = 1; seed <= SEEDS && !status; seed++) {
            double largest;
            status = permute(lab, (uint64_t)seed, positions, &largest, error);
            if (!status)
                status = dlb_fact_observe(lab, "", positions ? "positions" : "permuted",
                                          "permuted_error", seed, largest, error);
        }
    return status;
}

/* dropout: what its outputs are in the mean. */

enum dlb_status dlb_facts_dropout(struct dlb_lab *lab, struct dlb_error *error)
{
    enum { N = 1 << 20 };
    static const int dropped[] = {10, 50, 90};
    float *src = dlb_alloc(N * sizeof *src), *dst = dlb_alloc(N * sizeof *dst);
    enum dlb_status status = DLB_OK;
    if (!src || !dst)
        status = dlb_fail(error, DLB_NOMEM, "No memory is left for dropout.");
    for (int p = 0; p < 3 && !status; p++)
        for (int seed = 1; seed <= SEEDS && !status; seed++) {
            char shape[WORD_MAX], condition[WORD_MAX];
            double given = 0, sum = 0;
            for (int i = 0; i < N; i++)
                given += src[i] = (float)dlb_fact_uniform((uint64_t)seed, (uint64_t)i);
            snprintf(shape, sizeof shape, "n%dp%dseed%d", N, dropped[p], seed);
            snprintf(condition, sizeof condition, "dropped=%d%%", dropped[p]);
            status = dlb_fact_run(lab, "dropout", DLB_FWD_TRAIN, shape,
                                  (float *const[]){src, dst}, 2, error);
            for (int i = 0; i < N; i++)
                sum += dst[i];
            if (!status)
                status =
                    dlb_fact_observe(lab, condition, "training", "mean_over_inference",
                                     seed, sum / given, error);
        }
    dlb_free(src);
    dlb_free(dst);
    return status;
}

/* gru-params: weights of one layer, biases aside, as the operators lay them out. */

enum dlb_status dlb_facts_parameters(struct dlb_lab *lab, struct dlb_error *error)
{
    static const int hidden[] = {128, 512, 1536};
    static const char *const ops[] = {"gru", "lstm"};
    enum dlb_status status = DLB_OK;
    for (size_t h = 0; h < sizeof hidden / sizeof *hidden; h++)
        for (int i = 0; i < 2 && !status; i++) {
            const struct dlb_op *op = dlb_operator_find(ops[i])->op;
            struct dlb_problem problem = {.pass = DLB_FWD};
            struct dlb_tensor tensor[DLB_TENSORS_MAX];
            char condition[WORD_MAX], shape[WORD_MAX], ignored[DLB_NAME_MAX];
            double weights = 0;
            snprintf(condition, sizeof condition, "hidden=%d", hidden[h]);
            snprintf(shape, sizeof shape, "mb1dhc%d", hidden[h]);
            status = dlb_descriptor_parse(op, shape, &problem, ignored, error);
            int tensors = status ? 0 : op->tensors(&problem, tensor);
            for (int t = 0; t < tensors; t++)
                if (!strncmp(tensor[t].name, "weights", 7))
                    weights += (double)dlb_tensor_elements(&tensor[t]);
            if (!status)
                status = dlb_fact_observe(lab, condition, ops[i], "parameters", 1,
                                          weights, error);
        }
    return status;
}

/* time: what is left of a gradient on its way from the last state to the first. */

enum { HIDDEN = 32, ROWS = 8, STATES = HIDDEN * ROWS };

/* What is smaller may have lost bits to float's range: it is not observed. */
static const double SEEN = 1e-30;

/* Fills n elements with uniform numbers of this deviation. */
static void spread(float *value, int64_t n, double deviation, uint64_t seed)
{
    for (int64_t i = 0; i < n; i++)
        value[i] =
            (float)(deviation * sqrt(12) * (dlb_fact_uniform(seed, (uint64_t)i) - 0.5));
}

double dlb_fact_norm(const float *value, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)value[i] * value[i];
    return sqrt(sum);
}

/* log10 of the gradient's norm at the first state over that at the last, NaN where it is too
 * small to be seen; weights are uniform within 1 / sqrt(hidden), inputs of deviation 1.
 * forget: bias of that gate. */
static enum dlb_status through_time(const struct dlb_lab *lab, const char *op, int steps,
                                    float forget, uint64_t seed, double *left,
                                    struct dlb_error *error)
{
    enum { WEIGHTS = HIDDEN * 4 * HIDDEN };
    const int64_t inputs = (int64_t)steps * STATES;
    const int64_t size[] = {
        [DLB_RNN_SRC] = inputs,
        [DLB_RNN_WEIGHTS_LAYER] = WEIGHTS,
        [DLB_RNN_WEIGHTS_ITER] = WEIGHTS,
        [DLB_RNN_BIASES] = 4 * HIDDEN,
        [DLB_RNN_SRC_ITER] = STATES,
        [DLB_RNN_SRC_ITER_C] = STATES,
        [DLB_RNN_DIFF_DST] = inputs,
        [DLB_RNN_DIFF_DST_ITER] = STATES,
        [DLB_RNN_DIFF_DST_ITER_C] = STATES,
        [DLB_RNN_DIFF_SRC_ITER] = STATES,
    };
    float *given[DLB_RNN_BWD_TENSORS] = {NULL};
    char shape[WORD_MAX];
    enum dlb_status status = DLB_OK;
    for (size_t t = 0; t < sizeof size / sizeof *size && !status; t++) {
        if (!size[t])
            continue;
        given[t] = dlb_alloc((size_t)size[t] * sizeof(float));
        if (!given[t])
            status = dlb_fail(error, DLB_NOMEM, "No memory is left for %s.", op);
        else
            memset(given[t], 0, (size_t)size[t] * sizeof(float));
    }
    if (!status) {
        const double deviation = 1 / sqrt(3.0 * HIDDEN);
        spread(given[DLB_RNN_SRC], inputs, 1, dlb_hash(seed, 1));
        spread(given[DLB_RNN_WEIGHTS_LAYER], WEIGHTS, deviation, dlb_hash(seed, 2));
        spread(given[DLB_RNN_WEIGHTS_ITER], WEIGHTS, deviation, dlb_hash(seed, 3));
        spread(given[DLB_RNN_DIFF_DST_ITER], STATES, 1, dlb_hash(seed, 4));
        for (int i = 0; i < HIDDEN; i++) /* the second gate of lstm */
            given[DLB_RNN_BIASES][HIDDEN + i] = forget;
        snprintf(shape, sizeof shape, "t%dmb%dslc%ddhc%dbias1init1", steps, ROWS, HIDDEN,
                 HIDDEN);
        status = dlb_fact_run(lab, op, DLB_BWD, shape, given, DLB_RNN_BWD_TENSORS, error);
    }
    if (!status) {
        double first = dlb_fact_norm(given[DLB_RNN_DIFF_SRC_ITER], STATES);
        *left = first > SEEN
                    ? log10(first / dlb_fact_norm(given[DLB_RNN_DIFF_DST_ITER], STATES))
                    : NAN;
    }
    for (int t = 0; t < DLB_RNN_BWD_TENSORS; t++)
        dlb_free(given[t]);
    return status;
}

enum dlb_status dlb_facts_time(struct dlb_lab *lab, struct dlb_error *error)
{
    static const int steps[] = {10, 20, 50, 100, 200, 500};
    static const struct {
        const char *arm, *op;
        float forget;
    } arms[] = {{"rnn", "rnn", 0},
                {"gru", "gru", 0},
                {"lstm", "lstm", 0},
                {"lstm-forget", "lstm", 1}};
    enum dlb_status status = DLB_OK;
    for (size_t a = 0; a < sizeof arms / sizeof *arms; a++)
        for (size_t t = 0; t < sizeof steps / sizeof *steps; t++)
            for (int seed = 1; seed <= SEEDS && !status; seed++) {
                struct dlb_observed row = {.condition = (char *)"hidden=32",
                                           .impl = (char *)"",
                                           .arm = (char *)arms[a].arm,
                                           .metric = (char *)"log10_gradient",
                                           .replicate = seed,
                                           .x = steps[t]};
                status = through_time(lab, arms[a].op, steps[t], arms[a].forget,
                                      (uint64_t)seed, &row.value, error);
                if (!status && !isnan(row.value))
                    status = dlb_lab_observe(lab, &row, 1, error);
            }
    return status;
}
