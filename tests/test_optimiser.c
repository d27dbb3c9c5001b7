/*
 * sgd and adam: the definition against steps worked out by hand, native candidates against
 * the definition, and what fills do not reach.
 */
#include "operator_check.h"
#include "ops/optimiser.h"
#include "suite/descriptor.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void near(double got, double expected)
{
    if (!(fabs(got - expected) <= 1e-9 * fabs(expected)))
        fail_msg("%.12g, expected %.12g", got, expected);
}

static void definition_of_sgd(void **state)
{
    static float param[] = {2}, grad[] = {3}, velocity[] = {10};
    void *tensor[] = {param, grad, velocity};
    double p, v;
    double *value[] = {NULL, NULL, NULL, &p, &v};
    struct dlb_problem problem = dlb_check_problem(&dlb_op_sgd, "n1momentum0", DLB_FWD);
    (void)state;
    dlb_check_define(&dlb_reference_sgd, &problem, tensor, value);
    near(p, 2 - 0.1 * 3);
    problem = dlb_check_problem(&dlb_op_sgd, "n1", DLB_FWD);
    dlb_check_define(&dlb_reference_sgd, &problem, tensor, value);
    near(v, 12);
    near(p, 2 - 0.1 * 12);
    problem = dlb_check_problem(&dlb_op_sgd, "n1decay1", DLB_FWD);
    dlb_check_define(&dlb_reference_sgd, &problem, tensor, value);
    near(v, 12 + 1e-4 * 2);
    near(p, 2 - 0.1 * (12 + 1e-4 * 2));
}

static void definition_of_adam(void **state)
{
    static float param[] = {2}, grad[] = {3}, mean[] = {0}, square[] = {0};
    void *tensor[] = {param, grad, mean, square};
    double p, m, v;
    double *value[] = {NULL, NULL, NULL, NULL, &p, &m, &v};
    struct dlb_problem problem = dlb_check_problem(&dlb_op_adam, "n1", DLB_FWD);
    (void)state;
    /* The first step is the rate, whatever the gradient: so are the corrections made. */
    dlb_check_define(&dlb_reference_adam, &problem, tensor, value);
    near(m, 0.3);
    near(v, 0.009);
    near(p, 2 - 1e-3 * 3 / (3 + 1e-8));
    problem = dlb_check_problem(&dlb_op_adam, "n1t2decay1", DLB_FWD);
    mean[0] = 1;
    square[0] = 4;
    dlb_check_define(&dlb_reference_adam, &problem, tensor, value);
    near(m, 1.2);
    near(v, 4.005);
    near(p, 2 - 1e-3 * (1.2 / 0.19 / (sqrt(4.005 / 0.001999) + 1e-8) + 0.02));
}

static void descriptors_are_completed(void **state)
{
    struct dlb_problem p = dlb_check_problem(&dlb_op_sgd, "n10", DLB_FWD);
    struct dlb_error error = {""};
    char name[DLB_NAME_MAX];
    (void)state;
    assert_true(dlb_op_sgd.bytes(&p) == 4 * 50 && dlb_op_sgd.flops(&p) == 40);
    p = dlb_check_problem(&dlb_op_sgd, "n10momentum0", DLB_FWD);
    assert_true(dlb_op_sgd.bytes(&p) == 4 * 30);
    p = dlb_check_problem(&dlb_op_adam, "n10", DLB_FWD);
    assert_true(dlb_op_adam.bytes(&p) == 4 * 70 && p.dim[DLB_ADAM_T] == 1);
    assert_int_equal(dlb_descriptor_parse(&dlb_op_adam, "t3", &p, name, &error),
                     DLB_INVALID);
    assert_non_null(strstr(error.text, "'n' is missing"));
    assert_int_equal(dlb_descriptor_parse(&dlb_op_adam, "n3t0", &p, name, &error),
                     DLB_INVALID);
}

static const struct {
    const struct dlb_reference *reference;
    const char *descriptor;
} problems[] = {
    {&dlb_reference_sgd, "n1"},
    {&dlb_reference_sgd, "n7momentum0"},
    {&dlb_reference_sgd, "n1000momentum0decay1"},
    {&dlb_reference_sgd, "n8191decay1"},
    {&dlb_reference_adam, "n1"},
    {&dlb_reference_adam, "n17t1000decay1"},
    {&dlb_reference_adam, "n8191t3"},
};

static void candidates_agree_with_the_definition(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof problems / sizeof *problems; i++) {
        struct dlb_plan *plan = NULL;
        struct dlb_problem problem =
            dlb_check_problem(problems[i].reference->op, problems[i].descriptor, DLB_FWD);
        assert_true(
            dlb_check_native(problems[i].reference, problems[i].descriptor, DLB_FWD) > 0);
        dlb_check_naive(problems[i].reference, problems[i].descriptor, DLB_FWD);
        assert_int_equal(
            problems[i].reference->onednn(&problem, dlb_isa_best(), 1, 0, &plan, NULL),
            DLB_UNSUPPORTED);
    }
}

static void bad_tiles_are_refused(void **state)
{
    (void)state;
    dlb_check_refusals(&dlb_op_sgd, "n100", DLB_FWD);
    dlb_check_refusals(&dlb_op_adam, "n100", DLB_FWD);
}

enum { N = 37, ODD = 4 };

struct operands {
    float data[DLB_ADAM_TENSORS][N];
    void *tensor[DLB_ADAM_TENSORS];
    double wanted[DLB_ADAM_TENSORS][N];
    double *value[DLB_ADAM_TENSORS];
    int inputs, tensors;
};

static void check_odd(void *context, struct dlb_plan *plan, const char *what)
{
    struct operands *o = context;
    dlb_check_run(plan, o->tensor);
    for (int t = o->inputs; t < o->tensors; t++)
        for (int i = 0; i < N; i++) {
            double got = o->data[t][i], wanted = o->wanted[t][i];
            if (isnan(wanted) ? !isnan(got)
                              : got != wanted && !(fabs(got - wanted) < 1e-6))
                fail_msg("%s: output %d [%d] is %g, expected %g", what, t, i, got,
                         wanted);
        }
}

/* A gradient of nothing with no moments does not move a parameter; NaN and infinities
 * stay in their element. */
static void odd_values_stay_where_they_are(void **state)
{
    static _Alignas(DLB_ALIGN) struct operands o;
    (void)state;
    for (int adam = 0; adam < 2; adam++) {
        const struct dlb_reference *reference =
            adam ? &dlb_reference_adam : &dlb_reference_sgd;
        const struct dlb_problem problem =
            dlb_check_problem(reference->op, "n37", DLB_FWD);
        o.inputs = adam ? DLB_ADAM_NEW_PARAM : DLB_SGD_NEW_PARAM;
        o.tensors = adam ? DLB_ADAM_TENSORS : DLB_SGD_TENSORS;
        for (int t = 0; t < o.tensors; t++) {
            o.tensor[t] = o.data[t];
            o.value[t] = o.wanted[t];
            for (int i = 0; i < N; i++)
                o.data[t][i] = t == 0 ? (float)i : 0;
        }
        const float odd[ODD] = {NAN, INFINITY, -INFINITY, -1};
        for (int i = 0; i < ODD; i++)
            o.data[DLB_SGD_GRAD][7 * i + 1] = odd[i];
        o.data[DLB_SGD_PARAM][36] = NAN;
        dlb_check_define(reference, &problem, o.tensor, o.value);
        dlb_check_each(reference->op, &problem, check_odd, &o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(definition_of_sgd),
        cmocka_unit_test(definition_of_adam),
        cmocka_unit_test(descriptors_are_completed),
        cmocka_unit_test_teardown(candidates_agree_with_the_definition, dlb_check_close),
        cmocka_unit_test(bad_tiles_are_refused),
        cmocka_unit_test_teardown(odd_values_stay_where_they_are, dlb_check_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
