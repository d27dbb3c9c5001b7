/* gradients: each backward pass against differences of its forward pass. */
#include "claims/facts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SEEDS = 5, TENSORS_MAX = 2 * DLB_TENSORS_MAX, PASSES = 2, WORD = 64 };

/* Tensors by name, of all passes of a problem. */
struct book {
    struct entry {
        char name[WORD];
        float *data; /* owned */
        int64_t n;
    } entry[TENSORS_MAX];
    int n;
};

static struct entry *find(struct book *book, const char *name)
{
    for (int i = 0; i < book->n; i++)
        if (!strcmp(book->entry[i].name, name))
            return &book->entry[i];
    return NULL;
}

static void release(struct book *book)
{
    for (int i = 0; i < book->n; i++)
        dlb_free(book->entry[i].data);
}

/* The tensor's entry; a new one is filled at random if the operator reads it. */
static struct entry *take(struct book *book, const struct dlb_tensor *tensor,
                          uint64_t seed)
{
    struct entry *entry = find(book, tensor->name);
    if (entry || book->n == TENSORS_MAX)
        return entry;
    entry = &book->entry[book->n];
    entry->n = dlb_tensor_elements(tensor);
    entry->data = dlb_alloc((size_t)entry->n * sizeof(float));
    if (!entry->data)
        return NULL;
    const bool own = tensor->low != 0 || tensor->high != 0;
    const double low = own ? tensor->low : -1, high = own ? tensor->high : 1;
    snprintf(entry->name, sizeof entry->name, "%s", tensor->name);
    for (int64_t i = 0; i < entry->n; i++)
        entry->data[i] =
            dlb_role_written(tensor->role)
                ? 0
                : (float)(low + (high - low) * dlb_fact_uniform(
                                                   dlb_hash(seed, (uint64_t)book->n), i));
    book->n++;
    return entry;
}

static enum dlb_status run_pass(const struct dlb_lab *lab, const char *name,
                                enum dlb_pass pass, const char *shape, uint64_t seed,
                                struct book *book, struct dlb_error *error)
{
    const struct dlb_op *op = dlb_operator_find(name)->op;
    struct dlb_problem problem = {.pass = pass};
    struct dlb_tensor tensor[DLB_TENSORS_MAX];
    float *given[DLB_TENSORS_MAX];
    char ignored[DLB_NAME_MAX];
    enum dlb_status status = dlb_descriptor_parse(op, shape, &problem, ignored, error);
    int tensors = status ? 0 : op->tensors(&problem, tensor);
    for (int t = 0; t < tensors; t++) {
        const struct entry *entry = take(book, &tensor[t], seed);
        if (!entry)
            return dlb_fail(error, DLB_NOMEM, "No memory is left for %s.", name);
        given[t] = entry->data;
    }
    return status ? status : dlb_fact_run(lab, name, pass, shape, given, tensors, error);
}

/* The sum of all outputs, each element times its gradient diff_…: a number whose gradient
 * the backward pass computes. */
static double value_of(struct book *book)
{
    double sum = 0;
    for (int i = 0; i < book->n; i++) {
        char name[WORD + 8];
        snprintf(name, sizeof name, "diff_%s", book->entry[i].name);
        const struct entry *weight = find(book, name);
        if (strncmp(book->entry[i].name, "dst", 3) || !weight)
            continue;
        for (int64_t k = 0; k < weight->n; k++)
            sum += (double)book->entry[i].data[k] * weight->data[k];
    }
    return sum;
}

struct gradient_case {
    const char *op, *shape;
    enum dlb_pass forward, backward[PASSES];
};

/* Three thousandths of the input's norm along its gradient and against it: the difference of the
 * values over the way is the gradient's norm, but for this part. */
static enum dlb_status walk(const struct dlb_lab *lab, const struct gradient_case *one,
                            uint64_t seed, struct book *book, struct entry *input,
                            const struct entry *gradient, double *error_of,
                            struct dlb_error *error)
{
    static const double STEP = 0.003;
    const double length = dlb_fact_norm(gradient->data, gradient->n),
                 way = STEP * dlb_fact_norm(input->data, input->n);
    float *was = malloc((size_t)input->n * sizeof *was);
    double value[2] = {0};
    enum dlb_status status =
        was ? DLB_OK : dlb_fail(error, DLB_NOMEM, "No memory is left for gradients.");
    if (was)
        memcpy(was, input->data, (size_t)input->n * sizeof *was);
    for (int side = 0; side < 2 && !status; side++) {
        for (int64_t i = 0; i < input->n; i++)
            input->data[i] =
                (float)(was[i] + (side ? -way : way) * gradient->data[i] / length);
        status = run_pass(lab, one->op, one->forward, one->shape, seed, book, error);
        value[side] = value_of(book);
    }
    if (was)
        memcpy(input->data, was, (size_t)input->n * sizeof *was);
    free(was);
    *error_of = fabs((value[0] - value[1]) / (2 * way) - length) / length;
    return status;
}

/* The largest error over the inputs; NaN where no gradient was checked. */
static enum dlb_status check(const struct dlb_lab *lab, const struct gradient_case *one,
                             uint64_t seed, double *largest, struct dlb_error *error)
{
    struct book book = {.n = 0};
    *largest = NAN;
    enum dlb_status status =
        run_pass(lab, one->op, one->forward, one->shape, seed, &book, error);
    const int forward = book.n;
    for (int p = 0; p < PASSES && one->backward[p] != DLB_PASS_COUNT && !status; p++)
        status = run_pass(lab, one->op, one->backward[p], one->shape, seed, &book, error);
    for (int i = 0; i < forward && !status; i++) {
        char name[WORD + 8];
        double own;
        snprintf(name, sizeof name, "diff_%s", book.entry[i].name);
        const struct entry *gradient = find(&book, name);
        if (!strncmp(book.entry[i].name, "dst", 3) || !gradient ||
            !(dlb_fact_norm(gradient->data, gradient->n) > 0))
            continue;
        status = walk(lab, one, seed, &book, &book.entry[i], gradient, &own, error);
        *largest = fmax(*largest, own);
    }
    release(&book);
    return status;
}

enum dlb_status dlb_facts_gradients(struct dlb_lab *lab, struct dlb_error *error)
{
    static const struct gradient_case cases[] = {
        {"conv", "mb2ic8ih9oc16kh3ph1bias1", DLB_FWD, {DLB_BWD_DATA, DLB_BWD_WEIGHTS}},
        {"linear", "mb8ic24oc16bias1", DLB_FWD, {DLB_BWD_DATA, DLB_BWD_WEIGHTS}},
        {"lstm", "t5mb4slc8dhc16bias1init1", DLB_FWD, {DLB_BWD, DLB_PASS_COUNT}},
        {"gru", "t5mb4slc8dhc16bias1init1", DLB_FWD, {DLB_BWD, DLB_PASS_COUNT}},
        {"rnn", "t5mb4slc8dhc16bias1init1", DLB_FWD, {DLB_BWD, DLB_PASS_COUNT}},
        {"attention", "mb2hq2sq8sk12d16", DLB_FWD, {DLB_BWD, DLB_PASS_COUNT}},
        {"batchnorm", "mb4ic16ih5", DLB_FWD_TRAIN, {DLB_BWD, DLB_PASS_COUNT}},
        {"activation", "n1000alg-tanh", DLB_FWD, {DLB_BWD, DLB_PASS_COUNT}},
    };
    enum dlb_status status = DLB_OK;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        for (int seed = 1; seed <= SEEDS && !status; seed++) {
            char condition[WORD];
            double largest;
            status = check(lab, &cases[c], (uint64_t)seed, &largest, error);
            snprintf(condition, sizeof condition, "op=%s", cases[c].op);
            if (!status && !isnan(largest))
                status = dlb_fact_observe(lab, condition, "backward", "gradient_error",
                                          seed, largest, error);
        }
    return status;
}
