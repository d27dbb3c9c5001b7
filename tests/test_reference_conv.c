/*
 * The plain definition of conv against results worked out by hand, and oneDNN against the
 * definition over the awkward shapes.
 */
#include "ops/conv.h"
#include "reference.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "pool_fixture.h"

/* A problem from values by key; what is not named is derived. */
struct dim {
    int dim;
    int64_t value;
};
#define PROBLEM(...) make_problem((const struct dim[]){__VA_ARGS__, {-1, 0}})

static struct dlb_problem make_problem(const struct dim *dim)
{
    struct dlb_problem problem = {.pass = DLB_FWD, .dtype = DLB_F32};
    struct dlb_error error = {""};
    for (int i = 0; i < dlb_op_conv.dims_n; i++)
        problem.dim[i] = dlb_op_conv.dims[i].fallback;
    for (; dim->dim >= 0; dim++)
        problem.dim[dim->dim] = dim->value;
    if (dlb_op_conv.complete(&problem, &error))
        fail_msg("%s", error.text);
    return problem;
}

struct operands {
    int tensors;
    struct dlb_tensor tensor[DLB_TENSORS_MAX];
    void *data[DLB_TENSORS_MAX];
};

static struct operands make_operands(const struct dlb_problem *problem)
{
    struct operands o = {0};
    o.tensors = dlb_op_conv.tensors(problem, o.tensor);
    for (int i = 0; i < o.tensors; i++) {
        int64_t n = dlb_tensor_elements(&o.tensor[i]);
        float *data = o.data[i] = dlb_alloc((size_t)n * sizeof(float));
        assert_non_null(data);
        for (int64_t j = 0; j < n; j++)
            data[j] = NAN;
    }
    return o;
}

static void release_operands(struct operands *o)
{
    for (int i = 0; i < o->tensors; i++)
        dlb_free(o->data[i]);
}

static void set(struct operands *o, int tensor, const float *values)
{
    memcpy(o->data[tensor], values,
           (size_t)dlb_tensor_elements(&o->tensor[tensor]) * sizeof(float));
}

static void put(void *context, int t, int64_t element, double value)
{
    assert_int_equal(t, DLB_CONV_DST);
    ((double *)context)[element] = value;
}

static void define(const struct dlb_problem *problem, const struct operands *o,
                   int64_t begin, int64_t end, double *result)
{
    const struct dlb_sink sink = {put, result};
    dlb_reference_conv.define(problem, o->data, begin, end, &sink);
}

static void check_definition(const struct dlb_problem *problem, struct operands *o,
                             const double *expected)
{
    enum { MOST = 16 };
    double result[MOST];
    int64_t n = dlb_tensor_elements(&o->tensor[DLB_CONV_DST]);
    int64_t oc = problem->dim[DLB_CONV_OC], slices = dlb_reference_conv.slices(problem);
    assert_true(n <= MOST);
    assert_int_equal(slices * oc, n);
    define(problem, o, 0, slices, result);
    for (int64_t i = 0; i < n; i++)
        assert_true(result[i] == expected[i]);
    /* Any range gives the same elements, and no others. */
    for (int64_t slice = 0; slice < slices; slice++) {
        for (int64_t i = 0; i < n; i++)
            result[i] = NAN;
        define(problem, o, slice, slice + 1, result);
        for (int64_t i = 0; i < n; i++)
            assert_true(i / oc == slice ? result[i] == expected[i] : isnan(result[i]));
    }
    release_operands(o);
}

static void definition_is_cross_correlation(void **state)
{
    (void)state;
    struct dlb_problem p =
        PROBLEM({DLB_CONV_MB, 1}, {DLB_CONV_IC, 1}, {DLB_CONV_OC, 1}, {DLB_CONV_IH, 2},
                {DLB_CONV_IW, 3}, {DLB_CONV_KH, 2}, {DLB_CONV_KW, 2});
    struct operands o = make_operands(&p);
    set(&o, DLB_CONV_SRC, (float[]){1, 2, 3, 4, 5, 6});
    set(&o, DLB_CONV_WEIGHTS, (float[]){1, 10, 100, -1000});
    check_definition(&p, &o, (double[]){1 + 20 + 400 - 5000, 2 + 30 + 500 - 6000});
}

static void definition_pads_and_strides(void **state)
{
    (void)state;
    struct dlb_problem p =
        PROBLEM({DLB_CONV_MB, 1}, {DLB_CONV_IC, 1}, {DLB_CONV_OC, 1}, {DLB_CONV_IH, 1},
                {DLB_CONV_IW, 4}, {DLB_CONV_KH, 1}, {DLB_CONV_KW, 3}, {DLB_CONV_SW, 2},
                {DLB_CONV_PW, 1}, {DLB_CONV_PH, 0}, {DLB_CONV_OW, 3});
    struct operands o = make_operands(&p);
    set(&o, DLB_CONV_SRC, (float[]){1, 2, 3, 4});
    set(&o, DLB_CONV_WEIGHTS, (float[]){1, 10, 100});
    check_definition(&p, &o, (double[]){10 + 200, 2 + 30 + 400, 4});
}

static void definition_dilates(void **state)
{
    (void)state;
    struct dlb_problem p =
        PROBLEM({DLB_CONV_MB, 1}, {DLB_CONV_IC, 1}, {DLB_CONV_OC, 1}, {DLB_CONV_IH, 1},
                {DLB_CONV_IW, 5}, {DLB_CONV_KH, 1}, {DLB_CONV_KW, 2}, {DLB_CONV_DW, 2});
    struct operands o = make_operands(&p);
    set(&o, DLB_CONV_SRC, (float[]){1, 2, 3, 4, 5});
    set(&o, DLB_CONV_WEIGHTS, (float[]){1, 10});
    check_definition(&p, &o, (double[]){41, 52});
}

static void definition_keeps_groups_apart(void **state)
{
    (void)state;
    struct dlb_problem p = PROBLEM({DLB_CONV_G, 2}, {DLB_CONV_MB, 1}, {DLB_CONV_IC, 4},
                                   {DLB_CONV_OC, 4}, {DLB_CONV_IH, 1}, {DLB_CONV_KH, 1},
                                   {DLB_CONV_BIAS, 1}, {DLB_CONV_RELU, 1});
    struct operands o = make_operands(&p);
    set(&o, DLB_CONV_SRC, (float[]){1, 2, 3, 4});
    set(&o, DLB_CONV_WEIGHTS, (float[]){1, 10, 2, 20, 1, 10, -2, -20});
    set(&o, DLB_CONV_BIASES, (float[]){.5f, -50, .25f, 1});
    check_definition(&p, &o, (double[]){21.5, 0, 43.25, 0});
}

static void definition_keeps_nan_and_infinity(void **state)
{
    (void)state;
    struct dlb_problem p =
        PROBLEM({DLB_CONV_MB, 1}, {DLB_CONV_IC, 1}, {DLB_CONV_OC, 1}, {DLB_CONV_IH, 1},
                {DLB_CONV_IW, 4}, {DLB_CONV_KH, 1}, {DLB_CONV_KW, 1}, {DLB_CONV_RELU, 1});
    struct operands o = make_operands(&p);
    double result[4];
    set(&o, DLB_CONV_SRC, (float[]){NAN, INFINITY, -INFINITY, FLT_TRUE_MIN});
    set(&o, DLB_CONV_WEIGHTS, (float[]){1});
    define(&p, &o, 0, 4, result);
    assert_true(isnan(result[0]));
    assert_true(result[1] == INFINITY);
    assert_true(result[2] == 0);
    assert_true(result[3] == FLT_TRUE_MIN);
    release_operands(&o);
}

static enum dlb_status execute(struct dlb_pool *pool, struct dlb_plan *plan,
                               void *const *data, struct dlb_error *error)
{
    enum dlb_status status = dlb_pool_bind_plan(pool, plan, data, error);
    if (status)
        return status;
    dlb_pool_run_plan(pool, plan);
    return dlb_pool_fetch_plan(pool, plan, error);
}

/* Two awkward axes at a time would square the number of cases; each line is one idea. */
static const struct {
    const char *name;
    int64_t g, mb, ic, ih, iw, oc, kh, kw, s, p, d, oh, ow, bias, relu;
} cases[] = {
    {"1x1 of ones", 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0},
    {"1x1", 1, 2, 16, 7, 5, 32, 1, 1, 1, 0, 0, 0, 0, 0, 0},
    {"1x1 with bias and relu", 1, 2, 16, 7, 5, 32, 1, 1, 1, 0, 0, 0, 0, 1, 1},
    {"1x1 stride 2, remainder", 1, 1, 32, 8, 7, 16, 1, 1, 2, 0, 0, 0, 0, 0, 0},
    {"primes", 1, 3, 7, 11, 13, 5, 3, 5, 1, 1, 0, 0, 0, 1, 0},
    {"channels below 16", 1, 1, 15, 9, 9, 15, 3, 3, 1, 1, 0, 0, 0, 1, 1},
    {"channels above 16", 1, 1, 17, 9, 9, 17, 3, 3, 1, 1, 0, 0, 0, 1, 1},
    {"first layer", 1, 1, 3, 23, 23, 16, 7, 7, 2, 3, 0, 0, 0, 1, 1},
    {"stride 3, remainder", 1, 1, 8, 14, 13, 8, 3, 3, 3, 1, 0, 0, 0, 0, 0},
    {"stride beyond the kernel", 1, 1, 8, 14, 13, 8, 2, 2, 5, 0, 0, 0, 0, 0, 1},
    {"dilation", 1, 2, 16, 15, 14, 16, 3, 3, 1, 2, 1, 0, 0, 0, 0},
    {"dilation and stride", 1, 1, 16, 17, 19, 16, 3, 3, 2, 2, 2, 0, 0, 1, 0},
    {"groups", 4, 2, 32, 7, 7, 16, 3, 3, 1, 1, 0, 0, 0, 1, 1},
    {"groups of odd width", 3, 1, 15, 7, 7, 21, 3, 3, 1, 1, 0, 0, 0, 1, 0},
    {"depthwise", 16, 2, 16, 9, 9, 16, 3, 3, 1, 1, 0, 0, 0, 1, 1},
    {"depthwise, 17 channels, stride 2", 17, 1, 17, 9, 8, 17, 3, 3, 2, 1, 0, 0, 0, 0, 0},
    {"depthwise with multiplier", 5, 1, 5, 9, 9, 10, 3, 3, 1, 1, 0, 0, 0, 0, 1},
    {"more padding at the end", 1, 1, 16, 8, 8, 16, 3, 3, 2, 0, 0, 4, 4, 1, 0},
    {"padding at the end only", 1, 2, 7, 6, 6, 9, 3, 3, 1, 0, 0, 6, 5, 0, 0},
    {"less padding at the end", 1, 1, 16, 8, 8, 16, 5, 5, 1, 3, 0, 7, 8, 0, 0},
    {"input left unused", 1, 1, 16, 9, 8, 16, 3, 3, 2, 1, 0, 4, 4, 0, 0},
    {"kernel larger than the input", 1, 1, 16, 2, 3, 16, 5, 5, 1, 2, 0, 0, 0, 1, 1},
    {"flat image", 1, 1, 12, 1, 40, 12, 1, 9, 1, 0, 0, 0, 0, 0, 0},
};
enum { CASES = sizeof cases / sizeof *cases };

static struct dlb_problem case_problem(int i)
{
    return PROBLEM({DLB_CONV_G, cases[i].g}, {DLB_CONV_MB, cases[i].mb},
                   {DLB_CONV_IC, cases[i].ic}, {DLB_CONV_IH, cases[i].ih},
                   {DLB_CONV_IW, cases[i].iw}, {DLB_CONV_OC, cases[i].oc},
                   {DLB_CONV_KH, cases[i].kh}, {DLB_CONV_KW, cases[i].kw},
                   {DLB_CONV_SH, cases[i].s}, {DLB_CONV_SW, cases[i].s},
                   {DLB_CONV_PH, cases[i].kh == 1 ? 0 : cases[i].p},
                   {DLB_CONV_PW, cases[i].kw == 1 ? 0 : cases[i].p},
                   {DLB_CONV_DH, cases[i].d}, {DLB_CONV_DW, cases[i].d},
                   {DLB_CONV_BIAS, cases[i].bias}, {DLB_CONV_RELU, cases[i].relu},
                   {DLB_CONV_OH, cases[i].oh ? cases[i].oh : DLB_DIM_UNSET},
                   {DLB_CONV_OW, cases[i].ow ? cases[i].ow : DLB_DIM_UNSET});
}

static void fill_at_random(struct operands *o, unsigned seed, bool whole)
{
    for (int i = 0; i < o->tensors; i++) {
        float *data = o->data[i];
        int64_t n = dlb_tensor_elements(&o->tensor[i]);
        for (int64_t j = 0; o->tensor[i].role != DLB_OUTPUT && j < n; j++) {
            seed = seed * 1664525u + 1013904223u;
            data[j] =
                whole ? (float)(int)(seed >> 28) - 7 : (float)(seed >> 8) * 0x1p-23f - 1;
        }
    }
}

/* sum |a||b| + |bias|: the definition on absolute values.  ReLU then changes nothing. */
static void make_absolute(const struct dlb_problem *problem, struct operands *o,
                          double *magnitude)
{
    for (int i = 0; i < o->tensors; i++)
        for (int64_t j = 0; i != DLB_CONV_DST && j < dlb_tensor_elements(&o->tensor[i]);
             j++)
            ((float *)o->data[i])[j] = fabsf(((float *)o->data[i])[j]);
    define(problem, o, 0, dlb_reference_conv.slices(problem), magnitude);
}

/* Whole numbers must come out equal; others within the bound of a float sum. */
static void check_plan(struct dlb_pool *pool, struct dlb_plan *plan,
                       const struct dlb_problem *problem, struct operands *o,
                       const char *name)
{
    struct dlb_error error = {""};
    int64_t n = dlb_tensor_elements(&o->tensor[DLB_CONV_DST]);
    const float *dst = o->data[DLB_CONV_DST];
    double *expected = malloc((size_t)n * sizeof *expected);
    double *magnitude = malloc((size_t)n * sizeof *magnitude);
    double k = (double)dlb_op_conv.reduction(problem) + 1;
    double gamma = k * 0x1p-24 / (1 - k * 0x1p-24);
    for (int whole = 0; whole < 2; whole++) {
        fill_at_random(o, 17u + (unsigned)whole, whole);
        if (execute(pool, plan, o->data, &error))
            fail_msg("%s: %s", name, error.text);
        define(problem, o, 0, dlb_reference_conv.slices(problem), expected);
        make_absolute(problem, o, magnitude);
        for (int64_t i = 0; i < n; i++)
            if (!(fabs(dst[i] - expected[i]) <= (whole ? 0 : gamma * magnitude[i])))
                fail_msg("%s by %s: dst[%lld] is %.9g, expected %.9g", name,
                         plan->algorithm, (long long)i, (double)dst[i], expected[i]);
    }
    free(expected);
    free(magnitude);
}

static void naive_plan_is_the_definition(void **state)
{
    (void)state;
    static const char *const sets[] = {"1", "2", "3"};
    for (int threads = 1; threads <= 3; threads++) {
        struct dlb_pool *pool = pool_open(sets[threads - 1]);
        for (int i = 0; i < CASES; i++) {
            struct dlb_problem problem = case_problem(i);
            struct operands o = make_operands(&problem);
            struct dlb_plan *plan = NULL;
            assert_int_equal(dlb_reference_conv.naive(&problem, threads, &plan, NULL),
                             DLB_OK);
            assert_true(plan->class->spmd);
            assert_string_equal(plan->class->impl, "naive");
            assert_string_equal(plan->layout, "nhwc/goihw/nhwc");
            check_plan(pool, plan, &problem, &o, cases[i].name);
            dlb_plan_release(plan);
            release_operands(&o);
        }
    }
}

#ifdef DLBENCH_ONEDNN

static void onednn_agrees_with_the_definition(void **state)
{
    (void)state;
    static const char *const sets[] = {"1", "2", "3"};
    for (int threads = 1; threads <= 2; threads++) {
        struct dlb_pool *pool = pool_open(sets[threads - 1]);
        for (int i = 0; i < CASES; i++) {
            struct dlb_problem problem = case_problem(i);
            struct operands o = make_operands(&problem);
            struct dlb_plan *plan = NULL;
            struct dlb_error error = {""};
            if (dlb_reference_conv.onednn(&problem, dlb_isa_best(), threads, 0, &plan,
                                          &error))
                fail_msg("%s: %s", cases[i].name, error.text);
            assert_false(plan->class->spmd);
            assert_int_equal(plan->threads, threads);
            assert_string_equal(plan->version, dlb_onednn_version());
            assert_true(plan->algorithm[0] && plan->layout[0]);
            check_plan(pool, plan, &problem, &o, cases[i].name);
            dlb_plan_release(plan);
            release_operands(&o);
        }
    }
}

/* 0 when a plan made under the cap is right and uses no wider instruction set. */
static int plan_under_cap(void)
{
    struct dlb_problem problem = case_problem(1);
    struct operands o = make_operands(&problem);
    struct dlb_plan *plan = NULL;
    if (dlb_onednn_cap_isa(DLB_ISA_AVX2, NULL) ||
        dlb_reference_conv.onednn(&problem, DLB_ISA_AVX2, 1, 0, &plan, NULL))
        return 1;
    check_plan(pool_open("1"), plan, &problem, &o, "under a cap");
    int wider = strstr(plan->algorithm, "avx512") || strstr(plan->isa, "avx512");
    dlb_plan_release(plan);
    release_operands(&o);
    return wider ? 2 : 0;
}

/* In a process of its own, since the cap holds for a whole process; runs first, since a
 * team of threads does not survive the fork. */
static void onednn_can_be_capped(void **state)
{
    (void)state;
    int result = 0;
    if (!dlb_isa_usable(DLB_ISA_AVX2))
        skip();
    pid_t child = fork();
    if (child == 0)
        _exit(plan_under_cap());
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_int_equal(result, 0);
}

/* Once it has made primitives it is too late. */
static void onednn_refuses_a_late_cap(void **state)
{
    (void)state;
    struct dlb_problem problem = case_problem(1);
    struct dlb_plan *plan = NULL;
    struct dlb_error error = {""};
    assert_int_equal(
        dlb_reference_conv.onednn(&problem, dlb_isa_best(), 1, 0, &plan, NULL), DLB_OK);
    dlb_plan_release(plan);
    assert_int_equal(dlb_onednn_cap_isa(DLB_ISA_SCALAR, &error), DLB_UNSUPPORTED);
    assert_non_null(strstr(error.text, "first primitive"));
    assert_int_equal(dlb_onednn_cap_isa(DLB_ISA_NEON, &error), DLB_UNSUPPORTED);
}

static void onednn_refuses_what_it_cannot_do(void **state)
{
    (void)state;
    struct dlb_plan *plan = NULL;
    struct dlb_error error = {""};
    struct dlb_problem p = case_problem(1);
    assert_int_equal(dlb_reference_conv.onednn(&p, dlb_isa_best(), 1, 1, &plan, &error),
                     DLB_UNSUPPORTED);
    assert_non_null(strstr(error.text, "1 formulation "));
    p.pass = DLB_FWD_TRAIN;
    assert_int_equal(dlb_reference_conv.onednn(&p, dlb_isa_best(), 1, 0, &plan, &error),
                     DLB_UNSUPPORTED);
    p.pass = DLB_BWD_DATA;
    assert_int_equal(dlb_reference_conv.onednn(&p, dlb_isa_best(), 1, 2, &plan, &error),
                     DLB_UNSUPPORTED);
    assert_non_null(strstr(error.text, "2 formulations of conv, pass 'bwd_data'"));
    p.pass = DLB_FWD;
    /* Input left unused by more than a stride, which no descriptor can say. */
    p = PROBLEM({DLB_CONV_IC, 4}, {DLB_CONV_OC, 4}, {DLB_CONV_IH, 9}, {DLB_CONV_KH, 3});
    p.dim[DLB_CONV_OH] = 3;
    error.text[0] = 0;
    assert_int_equal(dlb_reference_conv.onednn(&p, dlb_isa_best(), 1, 0, &plan, &error),
                     DLB_UNSUPPORTED);
    assert_non_null(strstr(error.text, "oneDNN"));
    assert_null(plan);
}

/* Its fused ReLU may turn NaN into 0, so with ReLU only the definition can judge NaN. */
static void onednn_keeps_nan_without_relu(void **state)
{
    (void)state;
    struct dlb_problem p = PROBLEM({DLB_CONV_MB, 1}, {DLB_CONV_IC, 16}, {DLB_CONV_OC, 16},
                                   {DLB_CONV_IH, 5}, {DLB_CONV_KH, 3}, {DLB_CONV_PH, 1});
    struct operands o = make_operands(&p);
    struct dlb_plan *plan = NULL;
    int64_t n = dlb_tensor_elements(&o.tensor[DLB_CONV_DST]);
    double *expected = malloc((size_t)n * sizeof *expected);
    assert_int_equal(dlb_reference_conv.onednn(&p, dlb_isa_best(), 1, 0, &plan, NULL),
                     DLB_OK);
    fill_at_random(&o, 3, false);
    ((float *)o.data[DLB_CONV_SRC])[16 * 6 + 3] = NAN;
    assert_int_equal(execute(pool_open("1"), plan, o.data, NULL), DLB_OK);
    define(&p, &o, 0, dlb_reference_conv.slices(&p), expected);
    int nans = 0;
    for (int64_t i = 0; i < n; i++) {
        nans += isnan(expected[i]);
        assert_int_equal(isnan(((float *)o.data[DLB_CONV_DST])[i]), isnan(expected[i]));
    }
    assert_int_equal(nans, 9 * 16);
    dlb_plan_release(plan);
    free(expected);
    release_operands(&o);
}

static void onednn_winograd_is_asked_for_by_name(void **state)
{
    (void)state;
    struct dlb_problem p = PROBLEM({DLB_CONV_MB, 1}, {DLB_CONV_IC, 64}, {DLB_CONV_OC, 64},
                                   {DLB_CONV_IH, 28}, {DLB_CONV_KH, 3}, {DLB_CONV_PH, 1});
    p.accuracy = DLB_WINOGRAD;
    struct dlb_plan *plan = NULL;
    struct dlb_error error = {""};
    enum dlb_status status =
        dlb_reference_conv.onednn(&p, dlb_isa_best(), 1, 1, &plan, &error);
    /* Version 3 has none, nor has version 2 below AVX-512. */
    if (status == DLB_OK)
        assert_non_null(strstr(plan->algorithm, "wino"));
    else
        assert_int_equal(status, DLB_UNSUPPORTED);
    dlb_plan_release(plan);
    assert_int_equal(dlb_reference_conv.onednn(&p, dlb_isa_best(), 1, 2, &plan, NULL),
                     DLB_UNSUPPORTED);
}

static void onednn_tells_its_version(void **state)
{
    (void)state;
    int major = 0, minor = -1, patch = -1;
    assert_int_equal(sscanf(dlb_onednn_version(), "%d.%d.%d", &major, &minor, &patch), 3);
    assert_true(major >= 2 && minor >= 0 && patch >= 0);
    assert_string_equal(dlb_onednn_runtime(), "OMP");
}

#else

static void build_without_onednn_says_so(void **state)
{
    (void)state;
    struct dlb_plan *plan = NULL;
    struct dlb_error error = {""};
    struct dlb_problem p = case_problem(1);
    assert_null(dlb_onednn_version());
    assert_null(dlb_onednn_runtime());
    assert_int_equal(dlb_reference_conv.onednn(&p, DLB_ISA_SCALAR, 1, 0, &plan, &error),
                     DLB_UNSUPPORTED);
    assert_non_null(strstr(error.text, "without oneDNN"));
    assert_int_equal(dlb_onednn_cap_isa(DLB_ISA_SCALAR, NULL), DLB_UNSUPPORTED);
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
#ifdef DLBENCH_ONEDNN
        cmocka_unit_test(onednn_can_be_capped),
#endif
        cmocka_unit_test(definition_is_cross_correlation),
        cmocka_unit_test(definition_pads_and_strides),
        cmocka_unit_test(definition_dilates),
        cmocka_unit_test(definition_keeps_groups_apart),
        cmocka_unit_test(definition_keeps_nan_and_infinity),
        cmocka_unit_test_teardown(naive_plan_is_the_definition, pool_close),
#ifdef DLBENCH_ONEDNN
        cmocka_unit_test_teardown(onednn_agrees_with_the_definition, pool_close),
        cmocka_unit_test(onednn_refuses_a_late_cap),
        cmocka_unit_test(onednn_refuses_what_it_cannot_do),
        cmocka_unit_test_teardown(onednn_keeps_nan_without_relu, pool_close),
        cmocka_unit_test(onednn_winograd_is_asked_for_by_name),
        cmocka_unit_test(onednn_tells_its_version),
#else
        cmocka_unit_test(build_without_onednn_says_so),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
