/*
 * The plain definitions of activation, dropout and add against results worked out by hand,
 * their bounds, and oneDNN against them.
 */
#include "ops/activation.h"
#include "ops/add.h"
#include "ops/dropout.h"
#include "reference.h"
#include "suite/descriptor.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "operator_check.h"

enum { MOST = 4, TENSORS = 3 };

static void define(const struct dlb_reference *reference, const char *descriptor,
                   enum dlb_pass pass, void *const *tensor, double value[TENSORS][MOST])
{
    struct dlb_problem problem = dlb_check_problem(reference->op, descriptor, pass);
    dlb_check_define(reference, &problem, tensor,
                     (double *[]){value[0], value[1], value[2]});
}

static void near(double got, double expected)
{
    if (!(fabs(got - expected) <= 1e-14 * fabs(expected)))
        fail_msg("%.17g, expected %.17g", got, expected);
}

static void activations_are_defined(void **state)
{
    (void)state;
    float x[MOST] = {-2, 0, 0.5f, NAN}, y[MOST] = {0.25f, 0.5f, -0.5f, 1},
          d[MOST] = {3, 3, 3, 3};
    void *forward[] = {x, NULL}, *from_src[] = {x, d, NULL}, *from_dst[] = {y, d, NULL};
    double value[TENSORS][MOST];
    const double *dst = value[DLB_ACTIVATION_DST], *diff = value[DLB_ACTIVATION_DIFF_SRC];
    const double slope = DLB_ACTIVATION_SLOPE;
    const struct dlb_reference *activation = &dlb_reference_activation;
    define(activation, "n4", DLB_FWD, forward, value);
    assert_true(dst[0] == 0 && dst[1] == 0 && dst[2] == 0.5 && isnan(dst[3]));
    define(activation, "n4alg-leaky", DLB_FWD, forward, value);
    assert_true(dst[0] == -2 * slope && dst[1] == 0 && dst[2] == 0.5 && isnan(dst[3]));
    define(activation, "n4alg-sigmoid", DLB_FWD, forward, value);
    near(dst[0], 0.11920292202211755);
    assert_true(dst[1] == 0.5 && isnan(dst[3]));
    define(activation, "n4alg-tanh", DLB_FWD, forward, value);
    near(dst[2], 0.46211715726000975);
    define(activation, "n4", DLB_BWD, from_src, value);
    assert_true(diff[0] == 0 && diff[1] == 0 && diff[2] == 3 && diff[3] == 0);
    define(activation, "n4alg-leaky", DLB_BWD, from_src, value);
    assert_true(diff[0] == 3 * slope && diff[1] == 3 * slope && diff[2] == 3);
    define(activation, "n4alg-sigmoid", DLB_BWD, from_dst, value);
    assert_true(diff[0] == 3 * 0.1875 && diff[1] == 0.75 && diff[3] == 0);
    define(activation, "n4alg-tanh", DLB_BWD, from_dst, value);
    assert_true(diff[1] == 2.25 && diff[2] == 2.25 && diff[3] == 0);
}

static void additions_are_defined(void **state)
{
    (void)state;
    float a[MOST] = {1, -2, 3, NAN}, b[MOST] = {2, 1, -3, 1}, d[MOST] = {5, 6, 7, 8};
    double value[TENSORS][MOST];
    const double *dst = value[DLB_ADD_DST], *diff = value[DLB_ADD_DIFF_SRC];
    define(&dlb_reference_add, "n4", DLB_FWD, (void *[]){a, b, NULL}, value);
    assert_true(dst[0] == 3 && dst[1] == -1 && dst[2] == 0 && isnan(dst[3]));
    define(&dlb_reference_add, "n4relu1", DLB_FWD, (void *[]){a, b, NULL}, value);
    assert_true(dst[0] == 3 && dst[1] == 0 && dst[2] == 0 && isnan(dst[3]));
    define(&dlb_reference_add, "n4", DLB_BWD, (void *[]){d, NULL}, value);
    assert_true(diff[0] == 5 && diff[1] == 6 && diff[2] == 7 && diff[3] == 8);
    define(&dlb_reference_add, "n4relu1", DLB_BWD, (void *[]){d, NULL, a}, value);
    assert_true(diff[0] == 5 && diff[1] == 0 && diff[2] == 7 && diff[3] == 0);
}

/* The mask is base.h's hash, bit by bit. */
static void dropout_is_defined(void **state)
{
    (void)state;
    float x[MOST] = {1, 2, 3, 4};
    double value[TENSORS][MOST], back[TENSORS][MOST];
    void *tensor[] = {x, NULL, NULL};
    int kept = 0;
    for (int seed = 0; seed < 20; seed++) {
        char shape[] = "n4p25seed00";
        shape[9] = (char)('0' + seed / 10);
        shape[10] = (char)('0' + seed % 10);
        define(&dlb_reference_dropout, shape, DLB_FWD_TRAIN, tensor, value);
        define(&dlb_reference_dropout, shape, DLB_BWD, tensor, back);
        for (int i = 0; i < MOST; i++) {
            uint64_t hash = dlb_hash(dlb_hash(~UINT64_C(0), (uint64_t)seed), i / 2);
            /* A quarter: the two highest bits of the half are 0. */
            bool keeps = hash >> (i % 2 ? 62 : 30) & 3;
            assert_true(value[DLB_DROPOUT_MASK][i] == keeps);
            near(value[DLB_DROPOUT_DST][i], keeps ? x[i] * 4.0 / 3 : 0);
            assert_true(back[DLB_DROPOUT_DST][i] == value[DLB_DROPOUT_DST][i]);
            kept += keeps;
        }
    }
    assert_in_range(kept, 45, 75);
    define(&dlb_reference_dropout, "n4p25", DLB_FWD, tensor, value);
    for (int i = 0; i < MOST; i++)
        assert_true(value[DLB_DROPOUT_DST][i] == x[i]);
}

static float bound_of(const struct dlb_reference *reference, const char *descriptor,
                      enum dlb_pass pass, void *const *tensor, int t)
{
    struct dlb_problem problem = dlb_check_problem(reference->op, descriptor, pass);
    float bound;
    struct dlb_bound_call call = {.problem = &problem,
                                  .fill = DLB_FILL_DENSE,
                                  .tensor = tensor,
                                  .t = t,
                                  .end = 1,
                                  .bound = &bound};
    reference->bound(&call);
    return bound;
}

static void bounds_are_tight(void **state)
{
    (void)state;
    float x = 0.5f, y = 0.25f, d = 1;
    void *two[] = {&x, &y}, *three[] = {&x, &d, &y};
    const struct dlb_reference *activation = &dlb_reference_activation;
    assert_true(bound_of(activation, "n1", DLB_FWD, two, 1) == 0);
    assert_true(bound_of(activation, "n1alg-leaky", DLB_FWD, two, 1) == 0);
    assert_true(bound_of(activation, "n1alg-tanh", DLB_FWD, two, 1) <= 0x1p-23f);
    assert_true(bound_of(activation, "n1alg-sigmoid", DLB_BWD, three, 2) <= 0x1p-24f);
    assert_true(bound_of(&dlb_reference_dropout, "n1p75", DLB_BWD, two, 1) == 0);
    assert_true(bound_of(&dlb_reference_dropout, "n1p20", DLB_BWD, two, 1) <= 0x1p-25f);
    assert_true(bound_of(&dlb_reference_add, "n1", DLB_FWD, three, 2) <= 0x1p-26f);
}

static void wrong_dims_are_refused(void **state)
{
    (void)state;
    static const struct {
        const struct dlb_op *op;
        const char *descriptor, *word;
    } wrong[] = {
        {&dlb_op_activation, "alg-tanh", "'n' is missing"},
        {&dlb_op_activation, "n5alg-gelu", "sigmoid"},
        {&dlb_op_dropout, "n5p100", "0 to 99"},
        {&dlb_op_add, "n5relu2", "relu2"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct dlb_problem problem = {.pass = DLB_FWD};
        struct dlb_error error = {""};
        char name[DLB_NAME_MAX];
        assert_int_equal(dlb_descriptor_parse(wrong[i].op, wrong[i].descriptor, &problem,
                                              name, &error),
                         DLB_INVALID);
        if (!strstr(error.text, wrong[i].word))
            fail_msg("%s", error.text);
    }
}

static const struct {
    const struct dlb_reference *reference;
    const char *descriptor;
    unsigned onednn; /* the passes that oneDNN has */
} cases[] = {
    {&dlb_reference_activation, "n1003alg-relu", 1u << DLB_FWD | 1u << DLB_BWD},
    {&dlb_reference_activation, "n1003alg-leaky", 1u << DLB_FWD | 1u << DLB_BWD},
    {&dlb_reference_activation, "n100003alg-sigmoid", 1u << DLB_FWD | 1u << DLB_BWD},
    {&dlb_reference_activation, "n100003alg-tanh", 1u << DLB_FWD | 1u << DLB_BWD},
    {&dlb_reference_dropout, "n1003p10", 1u << DLB_FWD},
    {&dlb_reference_add, "n1003", 1u << DLB_FWD | 1u << DLB_BWD},
    {&dlb_reference_add, "n1003relu1", 1u << DLB_FWD | 1u << DLB_BWD},
};

static void plans_are_the_definition(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int pass = 0; pass < DLB_PASS_COUNT; pass++) {
            const struct dlb_reference *reference = cases[i].reference;
            if (!(reference->op->passes & 1u << pass))
                continue;
            dlb_check_naive(reference, cases[i].descriptor, pass);
#ifdef DLBENCH_ONEDNN
            int formulations = cases[i].onednn >> pass & 1;
            if (dlb_check_onednn(reference, cases[i].descriptor, pass) != formulations)
                fail_msg("%s %s: not %d formulations", cases[i].descriptor,
                         dlb_pass_names[pass], formulations);
#endif
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(activations_are_defined),
        cmocka_unit_test(additions_are_defined),
        cmocka_unit_test(dropout_is_defined),
        cmocka_unit_test(bounds_are_tight),
        cmocka_unit_test(wrong_dims_are_refused),
        cmocka_unit_test_teardown(plans_are_the_definition, dlb_check_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
