/*
 * The plain definition of batchnorm against results worked out by hand, its bounds, the
 * exact fill, and oneDNN against the definition over the awkward shapes.
 */
#include "ops/batchnorm.h"
#include "reference.h"
#include "suite/descriptor.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "operator_check.h"

static const double EPSILON = DLB_BATCHNORM_EPSILON;

enum { MOST = 16 }; /* elements of a tensor worked out by hand */

static void define(const char *descriptor, enum dlb_pass pass, void *const *tensor,
                   double value[DLB_BATCHNORM_TENSORS][MOST])
{
    struct dlb_problem problem = dlb_check_problem(&dlb_op_batchnorm, descriptor, pass);
    double *values[DLB_BATCHNORM_TENSORS];
    for (int t = 0; t < DLB_BATCHNORM_TENSORS; t++)
        values[t] = value[t];
    dlb_check_define(&dlb_reference_batchnorm, &problem, tensor, values);
}

static void near(double got, double expected)
{
    if (!(fabs(got - expected) <= 1e-14 * fabs(expected)))
        fail_msg("%.17g, expected %.17g", got, expected);
}

static void definition_normalises(void **state)
{
    (void)state;
    float src[] = {1, -5, 3, 7}, gamma[] = {2, -1}, beta[] = {10, 0.5f}, mean[] = {2, 1},
          variance[] = {4, 9};
    void *tensor[] = {src, gamma, beta, mean, variance, NULL};
    double value[DLB_BATCHNORM_TENSORS][MOST];
    define("mb1ic2ih1iw2", DLB_FWD, tensor, value);
    const double *dst = value[DLB_BATCHNORM_DST];
    near(dst[0], 10 - 2 / sqrt(4 + EPSILON));
    near(dst[1], 0.5 + 6 / sqrt(9 + EPSILON));
    near(dst[2], 10 + 2 / sqrt(4 + EPSILON));
    near(dst[3], 0.5 - 6 / sqrt(9 + EPSILON));
    define("mb1ic2ih1iw2relu1", DLB_FWD, tensor, value);
    assert_true(dst[3] == 0);
    near(dst[1], 0.5 + 6 / sqrt(9 + EPSILON));
    tensor[DLB_BATCHNORM_GAMMA] = tensor[DLB_BATCHNORM_BETA] = NULL;
    define("mb1ic2ih1iw2scale0shift0", DLB_FWD, tensor, value);
    near(dst[1], -6 / sqrt(9 + EPSILON));
}

static void definition_makes_statistics(void **state)
{
    (void)state;
    /* Two images of one row of two pixels, one channel. */
    float src[] = {1, 2, 3, 6}, gamma[] = {1}, beta[] = {-0.5f}, mean[] = {10},
          variance[] = {20};
    void *tensor[DLB_BATCHNORM_TENSORS] = {src, gamma, beta, mean, variance};
    double value[DLB_BATCHNORM_TENSORS][MOST];
    define("mb2ic1ih1iw2relu1", DLB_FWD_TRAIN, tensor, value);
    double sigma = sqrt(3.5 + EPSILON);
    assert_true(value[DLB_BATCHNORM_MEAN][0] == 3);
    assert_true(value[DLB_BATCHNORM_VARIANCE][0] == 3.5);
    near(value[DLB_BATCHNORM_RUNNING_MEAN][0], 9.3);
    near(value[DLB_BATCHNORM_RUNNING_VARIANCE][0], 18 + 0.1 * 14 / 3);
    for (int i = 0; i < 4; i++) {
        double y = (src[i] - 3) / sigma - 0.5;
        if (y < 0)
            assert_true(value[DLB_BATCHNORM_DST][i] == 0);
        else
            near(value[DLB_BATCHNORM_DST][i], y);
        assert_true(value[DLB_BATCHNORM_RELU_MASK][i] == (y > 0));
    }
    /* One element: variance 0, also the running one's. */
    define("mb1ic1ih1relu1", DLB_FWD_TRAIN, tensor, value);
    assert_true(value[DLB_BATCHNORM_VARIANCE][0] == 0);
    near(value[DLB_BATCHNORM_RUNNING_VARIANCE][0], 18);
    assert_true(value[DLB_BATCHNORM_DST][0] == 0);
}

static float bound_of(const struct dlb_problem *p, enum dlb_fill_kind fill,
                      void *const *tensor, int t)
{
    float bound;
    struct dlb_bound_call call = {
        .problem = p, .fill = fill, .tensor = tensor, .t = t, .end = 1, .bound = &bound};
    dlb_reference_batchnorm.bound(&call);
    return bound;
}

/* x^ is -1 and 1 but for epsilon, so that gradients along the mean and along x^ vanish. */
static void definition_differentiates(void **state)
{
    (void)state;
    float src[] = {1, 3}, gamma[] = {2}, beta[] = {0}, diff_dst[] = {5, 3};
    void *tensor[] = {src, gamma, beta, diff_dst};
    double value[DLB_BATCHNORM_TENSORS][MOST];
    const double *diff_src = value[DLB_BATCHNORM_DIFF_SRC],
                 *diff_gamma = value[DLB_BATCHNORM_DIFF_GAMMA],
                 *diff_beta = value[DLB_BATCHNORM_DIFF_BETA];
    double sigma = sqrt(1 + EPSILON), along = 1 - 1 / (1 + EPSILON);
    define("mb1ic1ih1iw2", DLB_BWD, tensor, value);
    assert_true(diff_beta[0] == 8);
    near(diff_gamma[0], -2 / sigma);
    assert_true(fabs(diff_src[0] - 2 / sigma * along) < 1e-14);
    assert_true(fabs(diff_src[1] + 2 / sigma * along) < 1e-14);
    /* The first element does not pass the ReLU. */
    define("mb1ic1ih1iw2relu1", DLB_BWD, tensor, value);
    assert_true(diff_beta[0] == 3);
    near(diff_gamma[0], 3 / sigma);
    assert_true(fabs(diff_src[0] - 2 / sigma * (0 - 1.5 + 1.5 / sigma / sigma)) < 1e-14);
    /* Where it hangs by a rounding both are right. */
    struct dlb_problem p =
        dlb_check_problem(&dlb_op_batchnorm, "mb1ic1ih1iw2relu1", DLB_BWD);
    float edge = (float)(2 / sigma), expected = 0, bound;
    void *given[DLB_BATCHNORM_BACKWARD_TENSORS] = {src, gamma, &edge, diff_dst};
    for (int t = DLB_BATCHNORM_DIFF_SRC; t < DLB_BATCHNORM_BACKWARD_TENSORS; t++)
        given[t] = &expected;
    for (int t = DLB_BATCHNORM_DIFF_SRC; t < DLB_BATCHNORM_BACKWARD_TENSORS; t++) {
        bound = bound_of(&p, DLB_FILL_EXACT, given, t);
        assert_true(t == DLB_BATCHNORM_DIFF_SRC ? bound > 5 : bound >= 4.99f);
        given[DLB_BATCHNORM_BETA] = gamma;
        bound = bound_of(&p, DLB_FILL_EXACT, given, t);
        assert_true(t == DLB_BATCHNORM_DIFF_BETA ? bound == 0 : bound < 2e-5f);
        given[DLB_BATCHNORM_BETA] = &edge;
    }
}

static void definition_keeps_nan_and_infinity(void **state)
{
    (void)state;
    float src[] = {NAN, INFINITY, -INFINITY, FLT_TRUE_MIN}, mean[] = {0},
          variance[] = {1};
    void *tensor[DLB_BATCHNORM_TENSORS] = {src, NULL, NULL, mean, variance};
    double value[DLB_BATCHNORM_TENSORS][MOST];
    const double *dst = value[DLB_BATCHNORM_DST];
    define("mb1ic1ih2scale0shift0relu1", DLB_FWD, tensor, value);
    assert_true(isnan(dst[0]) && dst[1] == INFINITY && dst[2] == 0 && dst[3] > 0);
    define("mb1ic1ih2scale0shift0relu1", DLB_FWD_TRAIN, tensor, value);
    for (int i = 0; i < 4; i++) {
        assert_true(isnan(dst[i]));
        assert_true(value[DLB_BATCHNORM_RELU_MASK][i] == 0);
    }
}

static void descriptor_is_completed(void **state)
{
    (void)state;
    struct dlb_problem p =
        dlb_check_problem(&dlb_op_batchnorm, "ic3ih5layout-blocked", DLB_FWD_TRAIN);
    char text[DLB_SHAPE_MAX];
    assert_int_equal(p.dim[DLB_BATCHNORM_IW], 5);
    assert_int_equal(p.dim[DLB_BATCHNORM_MB], 2);
    assert_int_equal(p.dim[DLB_BATCHNORM_SCALE], 1);
    assert_int_equal(p.dim[DLB_BATCHNORM_SHIFT], 1);
    assert_int_equal(p.dim[DLB_BATCHNORM_LAYOUT], DLB_BATCHNORM_BLOCKED);
    dlb_descriptor_format(&dlb_op_batchnorm, &p, text);
    assert_string_equal(text, "ic3ih5layout-blocked");
    /* 6 flops an element in training; src and dst, and eight vectors of channels: gamma,
     * beta, both running before and after, mean and variance. */
    assert_true(dlb_op_batchnorm.flops(&p) == 6 * 2 * 3 * 25);
    assert_true(dlb_op_batchnorm.bytes(&p) == 4 * (2 * 2 * 3 * 25 + 8 * 3));
    p.pass = DLB_FWD;
    assert_true(dlb_op_batchnorm.flops(&p) == 2 * 2 * 3 * 25);
    assert_true(dlb_op_batchnorm.bytes(&p) == 4 * (2 * 2 * 3 * 25 + 4 * 3));
}

static void wrong_dims_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *descriptor, *word;
    } wrong[] = {
        {"ih5", "'ic' is missing"},
        {"ic5", "'ih' is missing"},
        {"mb16777216ic16777216ih1", "2^40"},
        {"ic3ih5layout-chwn", "layout"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct dlb_problem problem = {.pass = DLB_FWD};
        struct dlb_error error = {""};
        char name[DLB_NAME_MAX];
        assert_int_equal(dlb_descriptor_parse(&dlb_op_batchnorm, wrong[i].descriptor,
                                              &problem, name, &error),
                         DLB_INVALID);
        if (!strstr(error.text, wrong[i].word))
            fail_msg("%s", error.text);
    }
    struct dlb_problem problem = {.pass = DLB_FWD, .dim = {1, 1, 1, 1, 2, 0, 0, 0}};
    assert_int_equal(dlb_op_batchnorm.complete(&problem, NULL), DLB_INVALID);
}

/* Sums of values and of squared distances of every channel in float, from either end and
 * over every other element, give one result, and mean times count is the sum. */
static void exact_fill_is_exact(void **state)
{
    (void)state;
    static const char *const descriptors[] = {"mb3ic5ih7", "mb5ic3ih1",   "mb2ic4ih6iw5",
                                              "mb1ic2ih1", "mb16ic3ih64", "mb1ic1ih3000"};
    for (size_t i = 0; i < sizeof descriptors / sizeof *descriptors; i++) {
        struct dlb_problem p =
            dlb_check_problem(&dlb_op_batchnorm, descriptors[i], DLB_FWD_TRAIN);
        struct dlb_batchnorm_shape s;
        dlb_batchnorm_shape_get(&p, &s);
        int64_t count = s.mb * s.pixels, elements = count * s.ic, spread = 0;
        float *src = malloc((size_t)elements * sizeof *src);
        /* In two parts, as two threads fill. */
        for (int part = 0; part < 2; part++)
            assert_true(dlb_op_batchnorm.fill(&p, DLB_BATCHNORM_SRC, DLB_FILL_EXACT, 7,
                                              part ? elements / 3 : 0,
                                              part ? elements : elements / 3, src));
        for (int64_t c = 0; c < s.ic; c++) {
            float up = 0, down = 0, squares_up = 0, squares_down = 0;
            double sum = 0;
            for (int64_t k = 0; k < count; k++)
                sum += src[k * s.ic + c];
            float mean = (float)(sum / (double)count);
            assert_true(mean * (double)count == sum && mean == rintf(mean));
            for (int64_t k = 0; k < count; k++) {
                float a = src[k * s.ic + c], b = src[(count - 1 - k) * s.ic + c];
                up += a;
                down += b;
                squares_up += (a - mean) * (a - mean);
                squares_down += (b - mean) * (b - mean);
                spread += a != mean;
            }
            assert_true(up == sum && down == sum && squares_up == squares_down);
            assert_true(squares_up <= 0x1p24f);
        }
        assert_true(count == 1 || spread > elements / 8);
        free(src);
    }
}

static void bounds_are_tight(void **state)
{
    (void)state;
    struct dlb_problem p =
        dlb_check_problem(&dlb_op_batchnorm, "mb1ic1ih1iw3relu1", DLB_FWD_TRAIN);
    float src[] = {5, 3, 4}, gamma = 2, beta = 1, zero = 0, dst = 3, mean = 4,
          variance = 2 / 3.f, mask = 1;
    void *tensor[] = {src,   &gamma,    &beta, &zero, &zero, &dst,
                      &mean, &variance, &zero, &zero, &mask};
    float y = 1 + 2 / sqrtf(2 / 3.f);
    assert_true(bound_of(&p, DLB_FILL_EXACT, tensor, DLB_BATCHNORM_MEAN) == 0);
    /* 2/3 is no float; 1/4 of what 4 elements give would be. */
    assert_true(bound_of(&p, DLB_FILL_EXACT, tensor, DLB_BATCHNORM_VARIANCE) <=
                0x1p-24f * variance);
    assert_true(bound_of(&p, DLB_FILL_EXACT, tensor, DLB_BATCHNORM_VARIANCE) > 0);
    float exact = bound_of(&p, DLB_FILL_EXACT, tensor, DLB_BATCHNORM_DST);
    assert_true(exact > 0 && exact <= 7.5e-7f * y);
    assert_true(bound_of(&p, DLB_FILL_DENSE, tensor, DLB_BATCHNORM_DST) < 4e-6f * y);
    assert_true(bound_of(&p, DLB_FILL_EXACT, tensor, DLB_BATCHNORM_RELU_MASK) == 0);
    variance = 2;
    assert_true(bound_of(&p, DLB_FILL_EXACT, tensor, DLB_BATCHNORM_VARIANCE) == 0);
    /* At 0 the mask may be either. */
    src[0] = 4;
    beta = 0;
    assert_true(bound_of(&p, DLB_FILL_EXACT, tensor, DLB_BATCHNORM_RELU_MASK) == 1);
    /* A result near 0 next to a large beta: relative to what cancels. */
    src[0] = 5;
    beta = -2 / sqrtf(2 + 1e-5f);
    assert_true(bound_of(&p, DLB_FILL_EXACT, tensor, DLB_BATCHNORM_DST) <= 1e-6f);
}

static const char *const cases[] = {
    "mb1ic1ih1",
    "mb1ic8ih1relu1",
    "mb5ic17ih1relu1",
    "mb2ic7ih3iw5",
    "mb3ic8ih5iw7relu1",
    "mb2ic9ih4scale0relu1",
    "mb2ic15ih4shift0",
    "mb2ic16ih4iw3scale0shift0",
    "mb1ic17ih9relu1",
    "mb2ic33ih6",
    "mb2ic64ih7layout-nhwc",
    "mb2ic64ih7relu1layout-blocked",
    "mb4ic32ih28iw29relu1",
};
enum { CASES = sizeof cases / sizeof *cases };

static void naive_plan_is_the_definition(void **state)
{
    (void)state;
    for (int i = 0; i < CASES; i++) {
        dlb_check_naive(&dlb_reference_batchnorm, cases[i], DLB_FWD);
        dlb_check_naive(&dlb_reference_batchnorm, cases[i], DLB_FWD_TRAIN);
        dlb_check_naive(&dlb_reference_batchnorm, cases[i], DLB_BWD);
    }
}

#ifdef DLBENCH_ONEDNN
static void onednn_agrees_with_the_definition(void **state)
{
    (void)state;
    for (int i = 0; i < CASES; i++) {
        int formulations = strstr(cases[i], "layout") ? 1 : 2;
        for (int pass = DLB_FWD; pass <= DLB_BWD; pass++)
            if (dlb_op_batchnorm.passes & 1u << pass &&
                dlb_check_onednn(&dlb_reference_batchnorm, cases[i], pass) !=
                    formulations)
                fail_msg("%s: not %d formulations", cases[i], formulations);
    }
}

static void onednn_takes_the_layout_that_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *descriptor;
        int formulation;
        const char *layout;
    } layouts[] = {
        {"ic32ih4layout-nhwc", 0, "nhwc"},
        {"ic32ih4layout-blocked", 0, "nChw"},
        {"ic32ih4", 0, "nhwc"},
        {"ic32ih4", 1, "nChw"},
    };
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
        struct dlb_problem p =
            dlb_check_problem(&dlb_op_batchnorm, layouts[i].descriptor, DLB_FWD_TRAIN);
        struct dlb_plan *plan = NULL;
        assert_int_equal(dlb_reference_batchnorm.onednn(
                             &p, dlb_isa_best(), 1, layouts[i].formulation, &plan, NULL),
                         DLB_OK);
        assert_memory_equal(plan->layout, layouts[i].layout, 4);
        assert_false(plan->fetches_kept);
        dlb_plan_release(plan);
    }
    struct dlb_problem p = dlb_check_problem(&dlb_op_batchnorm, "ic32ih4", DLB_FWD);
    struct dlb_plan *plan = NULL;
    assert_int_equal(
        dlb_reference_batchnorm.onednn(&p, dlb_isa_best(), 1, 2, &plan, NULL),
        DLB_UNSUPPORTED);
    assert_null(plan);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(definition_normalises),
        cmocka_unit_test(definition_makes_statistics),
        cmocka_unit_test(definition_differentiates),
        cmocka_unit_test(definition_keeps_nan_and_infinity),
        cmocka_unit_test(descriptor_is_completed),
        cmocka_unit_test(wrong_dims_are_refused),
        cmocka_unit_test(exact_fill_is_exact),
        cmocka_unit_test(bounds_are_tight),
        cmocka_unit_test_teardown(naive_plan_is_the_definition, dlb_check_close),
#ifdef DLBENCH_ONEDNN
        cmocka_unit_test_teardown(onednn_agrees_with_the_definition, dlb_check_close),
        cmocka_unit_test(onednn_takes_the_layout_that_is_named),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
