/*
 * Native activation, dropout and add: every candidate against the definition over the
 * awkward sizes; dropout's mask by its statistics; and NaN, infinity and zeros of either
 * sign.
 */
#include "ops/activation.h"
#include "ops/add.h"
#include "ops/dropout.h"
#include "reference.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "operator_check.h"

static const struct dlb_reference *const references[] = {
    &dlb_reference_activation, &dlb_reference_dropout, &dlb_reference_add};

static const struct {
    const struct dlb_reference *reference;
    const char *kind;
} kinds[] = {
    {&dlb_reference_activation, "alg-relu"},
    {&dlb_reference_activation, "alg-leaky"},
    {&dlb_reference_activation, "alg-sigmoid"},
    {&dlb_reference_activation, "alg-tanh"},
    {&dlb_reference_dropout, "p50"},
    {&dlb_reference_dropout, "p7seed12"},
    {&dlb_reference_dropout, "p0"},
    {&dlb_reference_add, "relu0"},
    {&dlb_reference_add, "relu1"},
};

/* Below and above vectors, four of them, blocks of 64, and the small caches of the check. */
static const int64_t sizes[] = {1, 7, 65, 997, 8192 + 3};

static void candidates_agree(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            for (int pass = 0; pass < DLB_PASS_COUNT; pass++) {
                char shape[64];
                snprintf(shape, sizeof shape, "n%d%s", (int)sizes[i], kinds[k].kind);
                if (kinds[k].reference->op->passes & 1u << pass)
                    assert_true(dlb_check_native(kinds[k].reference, shape, pass) > 0);
            }
}

static void bad_tiles_are_refused(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++)
        dlb_check_refusals(references[i]->op, "n1000000", DLB_FWD);
}

enum { N = 1 << 16, AWKWARD = 6 };

/* One call of the fastest way, on its own. */
static void run(const struct dlb_op *op, const char *shape, enum dlb_pass pass,
                int threads, void *const *tensor)
{
    struct dlb_problem problem = dlb_check_problem(op, shape, pass);
    struct dlb_target target = {dlb_isa_best(), threads, 32768, 1 << 20, 1 << 20};
    struct dlb_candidate candidate;
    struct dlb_plan *plan = NULL;
    op->fallback(&problem, &target, &candidate);
    assert_int_equal(op->plan(&problem, &target, &candidate, &plan, NULL), DLB_OK);
    dlb_check_run(plan, tensor);
    dlb_plan_release(plan);
}

struct mask {
    float *in, *out, *kept;
};

static struct mask mask_make(const char *shape, int threads)
{
    struct mask m;
    size_t bytes = N * sizeof(float);
    m.in = dlb_alloc(bytes);
    m.out = dlb_alloc(bytes);
    m.kept = dlb_alloc(bytes);
    assert_true(m.in && m.out && m.kept);
    for (int i = 0; i < N; i++)
        m.in[i] = 1;
    run(&dlb_op_dropout, shape, DLB_FWD_TRAIN, threads, (void *[]){m.in, m.out, m.kept});
    return m;
}

static void mask_release(struct mask *m)
{
    dlb_free(m->in);
    dlb_free(m->out);
    dlb_free(m->kept);
}

/* Whether count of n tries with probability p is within 5 standard deviations. */
static void is_binomial(double count, double n, double p, const char *what)
{
    if (!(fabs(count - n * p) <= 5 * sqrt(n * p * (1 - p))))
        fail_msg("%s: %g of %g, expected %g", what, count, n, n * p);
}

/* Elements of a whose neighbour of b, so far to the right, is kept as well. */
static double both(const struct mask *a, const struct mask *b, int distance)
{
    double count = 0;
    for (int i = 0; i < N - distance; i++)
        count += a->kept[i] * b->kept[i + distance];
    return count;
}

static void masks_are_random(void **state)
{
    (void)state;
    static const int percents[] = {1, 20, 50, 99};
    static const int distances[] = {1, 2, 3, 4, 8, 63, 64, 65, 4096};
    for (int i = 0; i < 4; i++) {
        char shape[64];
        double p = 1 - percents[i] / 100.0;
        snprintf(shape, sizeof shape, "n%dp%dseed1", N, percents[i]);
        struct mask a = mask_make(shape, 1);
        snprintf(shape, sizeof shape, "n%dp%dseed2", N, percents[i]);
        struct mask b = mask_make(shape, 1);
        double kept = 0, even = 0;
        for (int k = 0; k < N; k++) {
            kept += a.kept[k];
            even += k % 2 ? 0 : a.kept[k];
            assert_true(a.out[k] == (a.kept[k] > 0 ? (float)(1 / p) : 0));
        }
        is_binomial(kept, N, p, "kept");
        is_binomial(even, N / 2, p, "kept at even places");
        for (size_t k = 0; k < sizeof distances / sizeof *distances; k++) {
            int distance = distances[k];
            is_binomial(both(&a, &a, distance), N - distance, p * p, "neighbours");
            is_binomial(both(&a, &b, distance), N - distance, p * p, "seeds, apart");
        }
        is_binomial(both(&a, &b, 0), N, p * p, "seeds");
        mask_release(&a);
        mask_release(&b);
    }
}

/* Of index and seed alone: any number of threads, forward and backward. */
static void masks_do_not_depend_on_threads_or_pass(void **state)
{
    (void)state;
    struct mask a = mask_make("n65536p30seed5", 1), b = mask_make("n65536p30seed5", 3);
    assert_memory_equal(a.kept, b.kept, N * sizeof(float));
    run(&dlb_op_dropout, "n65536p30seed5", DLB_BWD, 2, (void *[]){a.in, b.out});
    assert_memory_equal(a.out, b.out, N * sizeof(float));
    /* What is kept is kept however many elements there are. */
    run(&dlb_op_dropout, "n1001p30seed5", DLB_FWD_TRAIN, 2,
        (void *[]){a.in, b.out, b.kept});
    assert_memory_equal(a.kept, b.kept, 1001 * sizeof(float));
    mask_release(&a);
    mask_release(&b);
}

struct awkward {
    struct dlb_problem problem;
    const struct dlb_reference *reference;
    float *tensor[3];
    double value[3][AWKWARD];
};

static void check_awkward(void *context, struct dlb_plan *plan, const char *what)
{
    struct awkward *a = context;
    struct dlb_tensor tensor[DLB_TENSORS_MAX];
    int tensors = a->reference->op->tensors(&a->problem, tensor);
    dlb_check_run(plan, (void **)a->tensor);
    for (int t = 0; t < tensors; t++)
        for (int i = 0; i < AWKWARD && dlb_role_written(tensor[t].role); i++) {
            double got = a->tensor[t][i], wanted = a->value[t][i];
            bool same = isnan(wanted) ? isnan(got)
                                      : got == wanted || fabs(got - wanted) <=
                                                             1e-6 * fabs(wanted) + 1e-37;
            if (!same)
                fail_msg("%s: %s[%d] is %g, expected %g", what, tensor[t].name, i, got,
                         wanted);
        }
}

/* Functions of which the derivative is given the result. */
static bool is_result(const struct awkward *a, int t)
{
    return a->reference == &dlb_reference_activation && a->problem.pass == DLB_BWD &&
           t == DLB_ACTIVATION_IN &&
           a->problem.dim[DLB_ACTIVATION_ALG] >= DLB_ACTIVATION_SIGMOID;
}

/* Either operand NaN, infinite, huge, subnormal or 0, on every instruction set. */
static void nan_and_infinity_propagate(void **state)
{
    (void)state;
    static const float values[AWKWARD] = {NAN, INFINITY, -INFINITY, 1e38f, 1e-41f, -0.0f};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (int shift = 0; shift < AWKWARD; shift++)
            for (int pass = 0; pass < DLB_PASS_COUNT; pass++) {
                struct awkward a = {.reference = kinds[k].reference};
                char shape[64];
                if (!(a.reference->op->passes & 1u << pass))
                    continue;
                snprintf(shape, sizeof shape, "n%d%s", AWKWARD, kinds[k].kind);
                a.problem = dlb_check_problem(a.reference->op, shape, pass);
                for (int t = 0; t < 3; t++) {
                    a.tensor[t] = dlb_alloc(AWKWARD * sizeof(float));
                    for (int i = 0; i < AWKWARD; i++) {
                        float value = values[(i + t * shift) % AWKWARD];
                        if (is_result(&a, t) && fabsf(value) > 1)
                            value = copysignf(1, value);
                        a.tensor[t][i] = value;
                    }
                }
                dlb_check_define(a.reference, &a.problem, (void **)a.tensor,
                                 (double *[]){a.value[0], a.value[1], a.value[2]});
                dlb_check_each(a.reference->op, &a.problem, check_awkward, &a);
                for (int t = 0; t < 3; t++)
                    dlb_free(a.tensor[t]);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(candidates_agree, dlb_check_close),
        cmocka_unit_test(bad_tiles_are_refused),
        cmocka_unit_test_teardown(masks_are_random, dlb_check_close),
        cmocka_unit_test_teardown(masks_do_not_depend_on_threads_or_pass,
                                  dlb_check_close),
        cmocka_unit_test_teardown(nan_and_infinity_propagate, dlb_check_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
