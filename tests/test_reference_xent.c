/*
 * The plain definition of softmax cross-entropy against results worked out by hand, its bound
 * against slips, and oneDNN against the definition.
 */
#include "ops/xent.h"
#include "reference.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "operator_check.h"

static const struct dlb_reference *const reference = &dlb_reference_xent;

/* Two rows of three classes: logits 0, ln 2, ln 5 and 1, 1, 1. */
static void define(const char *loss, enum dlb_pass pass, float label, float diff,
                   double *first, double *second)
{
    char descriptor[32] = "mb2ic3loss-";
    strcat(descriptor, loss);
    struct dlb_problem problem =
        dlb_check_problem(&dlb_op_softmax_xent, descriptor, pass);
    float logits[6] = {0, logf(2), logf(5), 1, 1, 1}, labels[2] = {2, label};
    void *tensor[DLB_XENT_TENSORS] = {logits, labels, &diff};
    double *value[DLB_XENT_TENSORS] = {NULL, NULL, first, second};
    dlb_check_define(reference, &problem, tensor, value);
}

static void near(double got, double expected)
{
    if (!(fabs(got - expected) <= 1e-7) && !(isnan(expected) && isnan(got)))
        fail_msg("%.12g, expected %.12g", got, expected);
}

static void loss_is_what_is_missing_to_certainty(void **state)
{
    (void)state;
    double loss, logsum[2];
    define("mean", DLB_FWD_TRAIN, 0, 0, &loss, logsum);
    near(loss, (log(8. / 5) + log(3)) / 2);
    near(logsum[0], log(8));
    near(logsum[1], log(3) + 1);
    define("sum", DLB_FWD_TRAIN, 0, 0, &loss, logsum);
    near(loss, log(8. / 5) + log(3));
    define("sum", DLB_FWD_TRAIN, 3, 0, &loss, logsum);
    near(loss, NAN);
}

static void gradient_is_probability_less_the_label(void **state)
{
    (void)state;
    static const double sum[6] = {2. / 8, 4. / 8, -6. / 8, -4. / 3, 2. / 3, 2. / 3};
    double gradient[6];
    define("sum", DLB_BWD, 0, 2, NULL, gradient);
    for (int i = 0; i < 6; i++)
        near(gradient[i], sum[i]);
    define("mean", DLB_BWD, 0, 2, NULL, gradient);
    for (int i = 0; i < 6; i++)
        near(gradient[i], sum[i] / 2);
    define("sum", DLB_BWD, -1, 2, NULL, gradient);
    for (int i = 0; i < 6; i++)
        near(gradient[i], i < 3 ? sum[i] : NAN);
}

static const char *const awkward[] = {"mb1ic1", "mb2ic3loss-sum", "mb5ic37", "mb3ic1000",
                                      "mb65ic9"};
enum { AWKWARD = sizeof awkward / sizeof *awkward };

static void naive_plan_is_the_definition(void **state)
{
    (void)state;
    for (int i = 0; i < AWKWARD; i++)
        for (int pass = DLB_FWD_TRAIN; pass <= DLB_BWD; pass += DLB_BWD - DLB_FWD_TRAIN)
            dlb_check_naive(reference, awkward[i], (enum dlb_pass)pass);
}

#ifdef DLBENCH_ONEDNN

static void onednn_agrees_with_the_definition(void **state)
{
    (void)state;
    for (int i = 0; i < AWKWARD; i++) {
        assert_int_equal(dlb_check_onednn(reference, awkward[i], DLB_FWD), 1);
        assert_int_equal(dlb_check_onednn(reference, awkward[i], DLB_FWD_TRAIN), 1);
        assert_int_equal(dlb_check_onednn(reference, awkward[i], DLB_BWD), 1);
    }
}

static void onednn_knows_what_is_no_class(void **state)
{
    (void)state;
    for (int pass = DLB_FWD; pass <= DLB_BWD; pass += DLB_BWD - DLB_FWD) {
        struct dlb_problem problem =
            dlb_check_problem(&dlb_op_softmax_xent, "mb2ic3", (enum dlb_pass)pass);
        float logits[6] = {1, 2, 3, 4, 5, 6}, labels[2] = {2, 3}, diff = 1, got[6] = {0};
        void *tensor[DLB_XENT_TENSORS] = {logits, labels, &diff, got};
        struct dlb_plan *plan = NULL;
        assert_int_equal(reference->onednn(&problem, dlb_isa_best(), 1, 0, &plan, NULL),
                         DLB_OK);
        dlb_check_run(plan, tensor);
        dlb_plan_release(plan);
        if (pass == DLB_FWD)
            assert_true(isnan(diff));
        for (int i = 0; i < 6 && pass == DLB_BWD; i++)
            assert_true(isnan(got[i]) == (i > 2));
    }
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loss_is_what_is_missing_to_certainty),
        cmocka_unit_test(gradient_is_probability_less_the_label),
        cmocka_unit_test_teardown(naive_plan_is_the_definition, dlb_check_close),
#ifdef DLBENCH_ONEDNN
        cmocka_unit_test_teardown(onednn_agrees_with_the_definition, dlb_check_close),
        cmocka_unit_test_teardown(onednn_knows_what_is_no_class, dlb_check_close),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
