/*
 * The plain definition of pooling against results worked out by hand, its descriptor, and
 * oneDNN against the definition over the awkward shapes.
 */
#include "ops/pooling.h"
#include "reference.h"
#include "suite/descriptor.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "operator_check.h"

/* One row of five pixels, windows of three, stride 2, padded by one: 0-1, 1-3, 3-4. */
#define ROW "mb1ic1ih1iw5kh1kw3sh1sw2pw1"
static const float src[] = {1, 4, 4, 2, 6};

static void define(const char *descriptor, enum dlb_pass pass, const float *first,
                   const float *second, const float *third, double *const *value)
{
    struct dlb_problem problem = dlb_check_problem(&dlb_op_pooling, descriptor, pass);
    void *tensor[] = {(void *)first, (void *)second, (void *)third};
    dlb_check_define(&dlb_reference_pooling, &problem, tensor, value);
}

static void expect(const double *got, const double *expected, int n)
{
    for (int i = 0; i < n; i++)
        if (!(fabs(got[i] - expected[i]) < 1e-12))
            fail_msg("[%d] is %g, expected %g", i, got[i], expected[i]);
}

static void definition_takes_maxima_and_averages(void **state)
{
    (void)state;
    double dst[3], index[3];
    define(ROW, DLB_FWD_TRAIN, src, NULL, NULL, (double *[]){NULL, dst, index});
    expect(dst, (double[]){4, 4, 6}, 3);
    /* Taps count from the padding; of equal ones the first. */
    expect(index, (double[]){2, 0, 1}, 3);
    define(ROW "alg-avg", DLB_FWD, src, NULL, NULL, (double *[]){NULL, dst});
    expect(dst, (double[]){2.5, 10 / 3., 4}, 3);
    define(ROW "alg-avgp", DLB_FWD, src, NULL, NULL, (double *[]){NULL, dst});
    expect(dst, (double[]){5 / 3., 10 / 3., 8 / 3.}, 3);
}

static void definition_hands_gradients_back(void **state)
{
    (void)state;
    static const float diff[] = {1, 10, 100};
    double to[5];
    define(ROW, DLB_BWD, NULL, diff, src, (double *[]){to});
    expect(to, (double[]){0, 11, 0, 0, 100}, 5);
    define(ROW "alg-avg", DLB_BWD, NULL, diff, NULL, (double *[]){to});
    expect(to, (double[]){.5, .5 + 10 / 3., 10 / 3., 10 / 3. + 50, 50}, 5);
    define(ROW "alg-avgp", DLB_BWD, NULL, diff, NULL, (double *[]){to});
    expect(to, (double[]){1 / 3., 11 / 3., 10 / 3., 110 / 3., 100 / 3.}, 5);
}

static void nan_is_the_largest(void **state)
{
    (void)state;
    static const float with_nan[] = {1, 9, NAN, INFINITY, NAN};
    double dst[3], index[3];
    define(ROW, DLB_FWD_TRAIN, with_nan, NULL, NULL, (double *[]){NULL, dst, index});
    assert_true(dst[0] == 9 && isnan(dst[1]) && isnan(dst[2]));
    expect(index, (double[]){2, 1, 1}, 3);
}

static void descriptor_is_completed(void **state)
{
    (void)state;
    struct dlb_problem p =
        dlb_check_problem(&dlb_op_pooling, "mb3ic5ih7kh3sh2ph1", DLB_BWD);
    struct dlb_pooling_shape s;
    dlb_pooling_shape_get(&p, &s);
    assert_true(s.mb == 3 && s.iw == 7 && s.kw == 3 && s.oh == 4 && s.ow == 4 &&
                s.pw == 1 && s.kind == DLB_POOLING_MAX);
    /* Of four windows two lack a tap. */
    assert_true(dlb_op_pooling.flops(&p) == 3 * 5 * 10 * 10);
    assert_true(dlb_op_pooling.bytes(&p) == 4 * 3 * 5 * (49 + 16));
    static const struct {
        const char *descriptor, *word;
    } wrong[] = {
        {"ih7kh3", "'ic' are missing"},
        {"ic7kh3", "'ih' is missing"},
        {"ic7ih9", "'kh' is missing"},
        {"ic7ih9kh3ph3", "padding ph3 is not smaller"},
        {"ic7ih2kh3", "kernel reaches over 3"},
        {"ic7ih9oh2kh3", "o"},
        {"ic7ih9kh3alg-min", "alg"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct dlb_error error = {""};
        char name[DLB_NAME_MAX];
        assert_int_equal(
            dlb_descriptor_parse(&dlb_op_pooling, wrong[i].descriptor, &p, name, &error),
            DLB_INVALID);
        if (!strstr(error.text, wrong[i].word))
            fail_msg("%s", error.text);
    }
}

static const char *const cases[] = {
    "mb1ic1ih1kh1",
    "mb2ic7ih5iw9kh3kw2sh2sw3ph1pw1",
    "mb2ic64ih8kh3sh2ph1",
    "mb1ic17ih4kh4",
    "mb2ic40ih5kh3ph1alg-avg",
    "mb1ic9ih20kh17ph8sh5",
    "mb1ic16ih9kh3sh2ph1alg-avgp",
    "mb2ic16ih7iw6kh2kw3sh2sw1pw1alg-avg",
};
static const enum dlb_pass passes[] = {DLB_FWD, DLB_FWD_TRAIN, DLB_BWD};
enum { CASES = sizeof cases / sizeof *cases, PASSES = 3 };

static void naive_plan_is_the_definition(void **state)
{
    (void)state;
    for (int i = 0; i < CASES * PASSES; i++)
        dlb_check_naive(&dlb_reference_pooling, cases[i / PASSES], passes[i % PASSES]);
}

#ifdef DLBENCH_ONEDNN
static void onednn_agrees_with_the_definition(void **state)
{
    (void)state;
    for (int i = 0; i < CASES * PASSES; i++)
        if (dlb_check_onednn(&dlb_reference_pooling, cases[i / PASSES],
                             passes[i % PASSES]) != 2)
            fail_msg("%s: not 2 formulations", cases[i / PASSES]);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(definition_takes_maxima_and_averages),
        cmocka_unit_test(definition_hands_gradients_back),
        cmocka_unit_test(nan_is_the_largest),
        cmocka_unit_test(descriptor_is_completed),
        cmocka_unit_test_teardown(naive_plan_is_the_definition, dlb_check_close),
#ifdef DLBENCH_ONEDNN
        cmocka_unit_test_teardown(onednn_agrees_with_the_definition, dlb_check_close),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
