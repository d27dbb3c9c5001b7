/*
 * The plain definition of linear against results worked out by hand, its descriptor, and
 * oneDNN against the definition over the awkward shapes.
 */
#include "ops/linear.h"
#include "reference.h"
#include "suite/descriptor.h"

#include <float.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "operator_check.h"

/* Results of one pass over the operands of the caller. */
static void define(const char *descriptor, enum dlb_pass pass, const float *a,
                   const float *b, const float *vector, double *c, double *sums)
{
    struct dlb_problem problem = dlb_check_problem(&dlb_op_linear, descriptor, pass);
    void *tensor[] = {(void *)a, (void *)b, NULL, (void *)vector};
    double *value[] = {NULL, NULL, c, sums};
    dlb_check_define(&dlb_reference_linear, &problem, tensor, value);
}

static void expect(const double *got, const double *expected, int n)
{
    for (int i = 0; i < n; i++)
        if (got[i] != expected[i])
            fail_msg("[%d] is %g, expected %g", i, got[i], expected[i]);
}

/* Two rows of three channels to two. */
static const float src[] = {1, 2, 3, -1, 0, 2}, weights[] = {1, 0, -1, 2, 1, 3},
                   bias[] = {10, -20}, diff_dst[] = {1, -2, 3, 4};

static void definition_multiplies(void **state)
{
    (void)state;
    double dst[4];
    define("mb2ic3oc2", DLB_FWD, src, weights, NULL, dst, NULL);
    expect(dst, (double[]){-2, 13, -3, 4}, 4);
    define("mb2ic3oc2bias1relu1", DLB_FWD, src, weights, bias, dst, NULL);
    expect(dst, (double[]){8, 0, 7, 0}, 4);
}

static void definition_makes_gradients(void **state)
{
    (void)state;
    double diff_src[6], diff_weights[6], diff_bias[2];
    define("mb2ic3oc2", DLB_BWD_DATA, diff_dst, weights, NULL, diff_src, NULL);
    expect(diff_src, (double[]){-3, -2, -7, 11, 4, 9}, 6);
    define("mb2ic3oc2bias1", DLB_BWD_WEIGHTS, diff_dst, src, NULL, diff_weights,
           diff_bias);
    expect(diff_weights, (double[]){-2, 2, 9, -6, -4, 2}, 6);
    expect(diff_bias, (double[]){4, 2}, 2);
}

static void descriptor_is_completed(void **state)
{
    (void)state;
    struct dlb_problem p = dlb_check_problem(&dlb_op_linear, "ic5oc7", DLB_FWD);
    struct dlb_linear_shape s;
    dlb_linear_shape_get(&p, &s);
    assert_true(s.mb == 2 && s.ic == 5 && s.oc == 7 && !s.bias && !s.relu);
    assert_true(dlb_op_linear.flops(&p) == 2 * 2 * 5 * 7);
    assert_true(dlb_op_linear.bytes(&p) == 4 * (2 * 5 + 5 * 7 + 2 * 7));
    static const struct {
        const char *descriptor, *word;
    } wrong[] = {
        {"oc7", "'ic' are missing"},
        {"ic7", "'oc' are missing"},
        {"ic0oc7", "(input channels) is out of range"},
        {"ic16777216oc16777216", "2^40"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct dlb_error error = {""};
        char name[DLB_NAME_MAX];
        assert_int_equal(
            dlb_descriptor_parse(&dlb_op_linear, wrong[i].descriptor, &p, name, &error),
            DLB_INVALID);
        if (!strstr(error.text, wrong[i].word))
            fail_msg("%s", error.text);
    }
}

/* K roundings of the sum of magnitudes, K the depth of the pass; nothing where sums are
 * exact. */
static void bounds_are_those_of_the_sum(void **state)
{
    static const struct {
        enum dlb_pass pass;
        double depth;
    } depths[] = {{DLB_FWD, 101}, {DLB_BWD_DATA, 9}, {DLB_BWD_WEIGHTS, 5}};
    (void)state;
    for (size_t i = 0; i < sizeof depths / sizeof *depths; i++) {
        struct dlb_problem p =
            dlb_check_problem(&dlb_op_linear, "mb5ic100oc9bias1", depths[i].pass);
        float magnitude = 3, bound;
        struct dlb_bound_call call = {.problem = &p,
                                      .fill = DLB_FILL_DENSE,
                                      .t = DLB_LINEAR_C,
                                      .magnitude = &magnitude,
                                      .end = 1,
                                      .bound = &bound};
        double sum = depths[i].depth * FLT_EPSILON / 2 * 3;
        dlb_reference_linear.bound(&call);
        assert_true(bound >= sum && bound < 1.001 * sum);
        call.fill = DLB_FILL_EXACT;
        dlb_reference_linear.bound(&call);
        assert_true(bound == 0);
    }
}

static const char *const cases[] = {"mb1ic1oc1", "mb1ic37oc19bias1relu1", "mb7ic16oc48",
                                    "mb33ic65oc17bias1", "mb5ic300oc7relu1"};
static const enum dlb_pass passes[] = {DLB_FWD, DLB_BWD_DATA, DLB_BWD_WEIGHTS};
enum { CASES = sizeof cases / sizeof *cases, PASSES = 3 };

static void naive_plan_is_the_definition(void **state)
{
    (void)state;
    for (int i = 0; i < CASES * PASSES; i++)
        dlb_check_naive(&dlb_reference_linear, cases[i / PASSES], passes[i % PASSES]);
}

#ifdef DLBENCH_ONEDNN
static void onednn_agrees_with_the_definition(void **state)
{
    (void)state;
    for (int i = 0; i < CASES * PASSES; i++) {
        const enum dlb_pass pass = passes[i % PASSES];
        const char *descriptor = cases[i / PASSES];
        int formulations = pass == DLB_BWD_WEIGHTS && strstr(descriptor, "bias1") ? 1 : 2;
        if (dlb_check_onednn(&dlb_reference_linear, descriptor, pass) != formulations)
            fail_msg("%s %s: not %d formulations", descriptor, dlb_pass_names[pass],
                     formulations);
    }
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(definition_multiplies),
        cmocka_unit_test(definition_makes_gradients),
        cmocka_unit_test(descriptor_is_completed),
        cmocka_unit_test(bounds_are_those_of_the_sum),
        cmocka_unit_test_teardown(naive_plan_is_the_definition, dlb_check_close),
#ifdef DLBENCH_ONEDNN
        cmocka_unit_test_teardown(onednn_agrees_with_the_definition, dlb_check_close),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
