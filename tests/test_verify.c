/*
 * Verify must let right plans pass and see every plan that is wrong on purpose.
 */
#include "measure/verify.h"

#include "ops/conv.h"
#include "wrong_plans.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pool_fixture.h"

static const struct dlb_operator conv = {&dlb_op_conv, &dlb_reference_conv, ""};

struct shape {
    int64_t g, mb, ic, ih, oc, kh, s, p, bias, relu;
};

static struct dlb_problem make_problem(struct shape s)
{
    struct dlb_problem problem = {.pass = DLB_FWD};
    struct dlb_error error = {""};
    int64_t *d = problem.dim;
    for (int i = 0; i < dlb_op_conv.dims_n; i++)
        d[i] = dlb_op_conv.dims[i].fallback;
    d[DLB_CONV_G] = s.g;
    d[DLB_CONV_MB] = s.mb;
    d[DLB_CONV_IC] = s.ic;
    d[DLB_CONV_IH] = s.ih;
    d[DLB_CONV_OC] = s.oc;
    d[DLB_CONV_KH] = s.kh;
    d[DLB_CONV_SH] = s.s;
    d[DLB_CONV_PH] = s.p;
    d[DLB_CONV_BIAS] = s.bias;
    d[DLB_CONV_RELU] = s.relu;
    if (dlb_op_conv.complete(&problem, &error))
        fail_msg("%s", error.text);
    return problem;
}

static const struct shape shapes[] = {
    {1, 1, 5, 7, 6, 3, 1, 1, 1, 0},
    {1, 2, 16, 6, 16, 3, 2, 1, 1, 1},
    {8, 1, 8, 9, 8, 3, 1, 1, 0, 1},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

/* What a session holds while it goes through the candidates of a problem. */
struct bench {
    struct dlb_problem problem;
    struct dlb_pool *pool;
    struct dlb_expected *expected;
    struct dlb_buffers buffers;
};

static struct bench bench_open(struct dlb_problem problem, const char *threads,
                               bool naive)
{
    struct bench bench = {.problem = problem, .pool = pool_open(threads)};
    struct dlb_error error = {""};
    if (dlb_expected_make(&conv, &problem, bench.pool, naive, 42, &bench.expected,
                          &error) ||
        dlb_buffers_make(&dlb_op_conv, &problem, bench.pool, &bench.buffers, &error))
        fail_msg("%s", error.text);
    return bench;
}

static void bench_close(struct bench *bench)
{
    dlb_buffers_release(&bench->buffers);
    dlb_expected_release(bench->expected);
    pool_close(NULL);
}

/* Verifies, times as a session does (without a clock), verifies again. */
static struct dlb_check examine(struct bench *bench, const struct dlb_wrong_plan *subject,
                                bool determinism)
{
    struct dlb_target target = {.isa = DLB_ISA_SCALAR,
                                .threads = dlb_pool_threads(bench->pool)};
    struct dlb_candidate candidate = {0};
    struct dlb_plan *plan = NULL;
    struct dlb_check check;
    struct dlb_error error = {""};
    if (subject->plan(&bench->problem, &target, &candidate, &plan, &error) ||
        dlb_verify(bench->expected, &bench->buffers, plan, bench->pool, determinism,
                   &check, &error))
        fail_msg("%s", error.text);
    if (check.outcome == DLB_OUTCOME_OK) {
        for (int i = 0; i < 10; i++)
            dlb_pool_run_plan(bench->pool, plan);
        if (dlb_verify_again(bench->expected, &bench->buffers, plan, bench->pool, &check,
                             &error))
            fail_msg("%s", error.text);
    }
    dlb_plan_release(plan);
    return check;
}

static void every_wrong_plan_is_seen(void **state)
{
    (void)state;
    for (int i = 0; i < 2 * SHAPES; i++) {
        struct bench bench = bench_open(make_problem(shapes[i / 2]), "2", i % 2);
        for (int p = 0; p < dlb_wrong_plans_n; p++) {
            const struct dlb_wrong_plan *wrong = &dlb_wrong_plans[p];
            struct dlb_check check = examine(&bench, wrong, true);
            if (check.outcome != DLB_OUTCOME_MISMATCH)
                fail_msg("The plan '%s' passed shape %d.", wrong->name, i / 2);
            if (!strstr(check.reason, wrong->reason))
                fail_msg("The plan '%s' is refused with: %s", wrong->name, check.reason);
            assert_string_equal(check.fill,
                                wrong->when == DLB_WRONG_AT_ONCE ? "exact" : check.fill);
            /* What it did to the buffers must not stick to the next candidate. */
            check = examine(&bench, &dlb_right_plan, true);
            if (check.outcome != DLB_OUTCOME_OK)
                fail_msg("After '%s' the right plan is refused with: %s", wrong->name,
                         check.reason);
        }
        bench_close(&bench);
    }
}

static struct dlb_check examine_exact(struct bench *bench,
                                      const struct dlb_wrong_plan *subject)
{
    struct dlb_target target = {.isa = DLB_ISA_SCALAR,
                                .threads = dlb_pool_threads(bench->pool)};
    struct dlb_candidate candidate = {0};
    struct dlb_plan *plan = NULL;
    struct dlb_check check;
    struct dlb_error error = {""};
    if (subject->plan(&bench->problem, &target, &candidate, &plan, &error) ||
        dlb_verify_quick(bench->expected, &bench->buffers, plan, bench->pool, &check,
                         &error))
        fail_msg("%s", error.text);
    dlb_plan_release(plan);
    return check;
}

/* One after the other on the same inputs, as a search does. */
static void the_exact_fill_alone_sees_what_is_wrong_at_once(void **state)
{
    (void)state;
    struct bench bench = bench_open(make_problem(shapes[0]), "2", false);
    for (int p = 0; p < dlb_wrong_plans_n; p++) {
        if (dlb_wrong_plans[p].when != DLB_WRONG_AT_ONCE)
            continue;
        struct dlb_check check = examine_exact(&bench, &dlb_wrong_plans[p]);
        if (check.outcome != DLB_OUTCOME_MISMATCH)
            fail_msg("The plan '%s' passed.", dlb_wrong_plans[p].name);
        check = examine_exact(&bench, &dlb_right_plan);
        assert_int_equal(check.outcome, DLB_OUTCOME_OK);
    }
    bench_close(&bench);
}

static void repetition_is_seen_without_the_option_too(void **state)
{
    (void)state;
    struct bench bench = bench_open(make_problem(shapes[0]), "1", false);
    for (int p = 0; p < dlb_wrong_plans_n; p++) {
        const struct dlb_wrong_plan *wrong = &dlb_wrong_plans[p];
        struct dlb_check check = examine(&bench, wrong, false);
        /* One thread cannot show what only a team does wrong. */
        assert_int_equal(check.outcome, wrong->when == DLB_WRONG_SEVERAL
                                            ? DLB_OUTCOME_OK
                                            : DLB_OUTCOME_MISMATCH);
    }
    bench_close(&bench);
}

static void a_right_plan_passes(void **state)
{
    (void)state;
    static const char *const threads[] = {"1", "2"};
    for (int i = 0; i < 4 * SHAPES; i++) {
        struct bench bench =
            bench_open(make_problem(shapes[i / 4]), threads[i % 2], i / 2 % 2);
        struct dlb_check check = examine(&bench, &dlb_right_plan, i % 2);
        if (check.outcome != DLB_OUTCOME_OK)
            fail_msg("shape %d: %s", i / 4, check.reason);
        assert_string_equal(check.reason, "");
        assert_true(check.bound > 0 && check.max_abs_err <= check.bound);
#ifdef DLBENCH_ONEDNN
        assert_string_equal(check.reference, i / 2 % 2 ? "naive" : "onednn");
#else
        assert_string_equal(check.reference, "naive");
#endif
        bench_close(&bench);
    }
}

static void the_worst_element_is_named(void **state)
{
    (void)state;
    struct bench bench = bench_open(make_problem(shapes[0]), "2", true);
    struct dlb_check check;
    struct dlb_plan *plan = NULL;
    assert_int_equal(dlb_reference_conv.naive(&bench.problem, 2, &plan, NULL), DLB_OK);
    assert_int_equal(
        dlb_verify(bench.expected, &bench.buffers, plan, bench.pool, false, &check, NULL),
        DLB_OK);
    assert_int_equal(check.outcome, DLB_OUTCOME_OK);
    assert_string_equal(check.fill, "both");
    float *dst = bench.buffers.data[DLB_CONV_DST];
    dst[0] += 1;
    dst[(2 * 7 + 3) * 6 + 5] += 4;
    dst[6 * 7 * 7 - 1] -= 2;
    assert_int_equal(
        dlb_verify_again(bench.expected, &bench.buffers, plan, bench.pool, &check, NULL),
        DLB_OK);
    assert_int_equal(check.outcome, DLB_OUTCOME_MISMATCH);
    assert_non_null(strstr(check.reason, "dst[0,2,3,5] is "));
    assert_non_null(strstr(check.reason, "(3 of 294 "));
    assert_string_equal(check.fill, "dense");
    assert_true(fabs(check.max_abs_err - 4) < 1e-4);
    dst[1] = INFINITY;
    dst[2] = -NAN;
    dlb_verify_again(bench.expected, &bench.buffers, plan, bench.pool, &check, NULL);
    assert_non_null(strstr(check.reason, "dst[0,0,0,1] is inf, "));
    dlb_plan_release(plan);
    bench_close(&bench);
}

/* Guards are looked at after timing too. */
static void a_late_overrun_is_seen(void **state)
{
    (void)state;
    struct bench bench = bench_open(make_problem(shapes[1]), "1", true);
    struct dlb_check check;
    struct dlb_plan *plan = NULL;
    assert_int_equal(dlb_reference_conv.naive(&bench.problem, 1, &plan, NULL), DLB_OK);
    dlb_verify(bench.expected, &bench.buffers, plan, bench.pool, false, &check, NULL);
    assert_int_equal(check.outcome, DLB_OUTCOME_OK);
    ((float *)bench.buffers.data[DLB_CONV_SRC])[-2] = 0;
    dlb_verify_again(bench.expected, &bench.buffers, plan, bench.pool, &check, NULL);
    assert_int_equal(check.outcome, DLB_OUTCOME_MISMATCH);
    assert_string_equal(check.reason, "write before the start of src by 8 bytes");
    dlb_plan_release(plan);
    bench_close(&bench);
}

/* A definition that gives 0 nearly everywhere: the comparison then shows next to nothing.
 */
static void define_zeros(const struct dlb_problem *problem, void *const *tensor,
                         int64_t begin, int64_t end, const struct dlb_sink *sink)
{
    (void)tensor;
    int64_t oc = problem->dim[DLB_CONV_OC];
    for (int64_t i = begin * oc; i < end * oc; i++)
        sink->put(sink->context, DLB_CONV_DST, i, i % 5 == 0);
}

struct zeros_plan {
    struct dlb_plan plan;
    float *dst;
    int64_t elements;
};

static enum dlb_status zeros_bind(struct dlb_plan *plan, void *const *tensor,
                                  const struct dlb_team *team, struct dlb_error *error)
{
    (void)team, (void)error;
    ((struct zeros_plan *)plan)->dst = tensor[DLB_CONV_DST];
    return DLB_OK;
}

static void zeros_run(struct dlb_plan *plan, const struct dlb_team *team)
{
    struct zeros_plan *self = (struct zeros_plan *)plan;
    (void)team;
    for (int64_t i = 0; i < self->elements; i++)
        self->dst[i] = i % 5 == 0;
}

static enum dlb_status zeros_fetch(struct dlb_plan *plan, const struct dlb_team *team,
                                   struct dlb_error *error)
{
    (void)plan, (void)team, (void)error;
    return DLB_OK;
}

static void zeros_release(struct dlb_plan *plan)
{
    free(plan);
}

static const struct dlb_plan_class zeros_class = {"native",  false,       zeros_bind,
                                                  zeros_run, zeros_fetch, zeros_release};

static enum dlb_status naive_zeros(const struct dlb_problem *problem, int threads,
                                   struct dlb_plan **plan, struct dlb_error *error)
{
    (void)error;
    struct dlb_tensor tensor[DLB_TENSORS_MAX];
    struct zeros_plan *self = calloc(1, sizeof *self);
    assert_non_null(self);
    dlb_op_conv.tensors(problem, tensor);
    self->plan.class = &zeros_class;
    self->plan.threads = threads;
    self->elements = dlb_tensor_elements(&tensor[DLB_CONV_DST]);
    *plan = &self->plan;
    return DLB_OK;
}

static void mostly_zeros_are_mistrusted(void **state)
{
    (void)state;
    struct dlb_reference zeros = dlb_reference_conv;
    zeros.define = define_zeros;
    zeros.naive = naive_zeros;
    const struct dlb_operator wrong = {&dlb_op_conv, &zeros, ""};
    struct dlb_problem problem = make_problem(shapes[0]);
    struct dlb_pool *pool = pool_open("1");
    struct dlb_expected *expected = NULL;
    struct dlb_buffers buffers;
    struct dlb_plan *plan = NULL;
    struct dlb_check check;
    struct dlb_error error = {""};
    if (dlb_expected_make(&wrong, &problem, pool, true, 1, &expected, &error) ||
        dlb_buffers_make(&dlb_op_conv, &problem, pool, &buffers, &error) ||
        zeros.naive(&problem, 1, &plan, &error) ||
        dlb_verify(expected, &buffers, plan, pool, true, &check, &error))
        fail_msg("%s", error.text);
    assert_int_equal(check.outcome, DLB_OUTCOME_MISTRUSTED);
    assert_non_null(strstr(check.reason, "80 % of"));
    dlb_plan_release(plan);
    dlb_buffers_release(&buffers);
    dlb_expected_release(expected);
    pool_close(NULL);
}

/* ReLU halves the dense output, but the exact one leans to the positive. */
static void relu_is_not_mistrusted(void **state)
{
    (void)state;
    static const struct shape relus[] = {
        {1, 1, 1, 8, 4, 1, 1, 0, 0, 1},    {1, 1, 3, 23, 16, 7, 2, 3, 1, 1},
        {1, 1, 64, 7, 64, 1, 1, 0, 0, 1},  {1, 1, 16, 2, 16, 5, 1, 2, 0, 1},
        {32, 1, 32, 9, 32, 3, 1, 1, 1, 1}, {1, 1, 512, 4, 32, 3, 1, 1, 0, 1},
    };
    for (size_t i = 0; i < sizeof relus / sizeof *relus; i++) {
        struct bench bench = bench_open(make_problem(relus[i]), "1", false);
        struct dlb_check check = examine(&bench, &dlb_right_plan, false);
        if (check.outcome != DLB_OUTCOME_OK)
            fail_msg("shape %zu: %s", i, check.reason);
        bench_close(&bench);
    }
}

#ifdef DLBENCH_ONEDNN

static void put_otherwise(void *context, int t, int64_t element, double value)
{
    const struct dlb_sink *sink = context;
    sink->put(sink->context, t, element, value + 1);
}

static void define_otherwise(const struct dlb_problem *problem, void *const *tensor,
                             int64_t begin, int64_t end, const struct dlb_sink *sink)
{
    const struct dlb_sink other = {put_otherwise, (void *)sink};
    dlb_reference_conv.define(problem, tensor, begin, end, &other);
}

/* Definition and oneDNN disagree: neither may then judge candidates. */
static void a_wrong_referee_is_seen(void **state)
{
    (void)state;
    struct dlb_reference reference = dlb_reference_conv;
    reference.define = define_otherwise;
    const struct dlb_operator wrong = {&dlb_op_conv, &reference, ""};
    struct dlb_problem problem = make_problem(shapes[0]);
    struct dlb_pool *pool = pool_open("1");
    struct dlb_expected *expected = NULL;
    struct dlb_error error = {""};
    assert_int_equal(
        dlb_expected_make(&wrong, &problem, pool, false, 1, &expected, &error),
        DLB_FAULT);
    assert_non_null(strstr(error.text, "is itself wrong: dst["));
    assert_null(expected);
    pool_close(NULL);
}

static void onednn_passes_in_both_accuracy_classes(void **state)
{
    (void)state;
    static const struct shape wide = {1, 1, 64, 28, 64, 3, 1, 1, 1, 1};
    for (int accuracy = 0; accuracy < DLB_ACCURACY_COUNT; accuracy++)
        for (int formulation = 0;; formulation++) {
            struct dlb_problem problem = make_problem(wide);
            problem.accuracy = accuracy;
            struct bench bench = bench_open(problem, "2", false);
            struct dlb_plan *plan = NULL;
            struct dlb_check check;
            struct dlb_error error = {""};
            enum dlb_status status = dlb_reference_conv.onednn(
                &problem, dlb_isa_best(), 2, formulation, &plan, &error);
            if (!status && dlb_verify(bench.expected, &bench.buffers, plan, bench.pool,
                                      true, &check, &error))
                fail_msg("%s", error.text);
            if (!status && check.outcome != DLB_OUTCOME_OK)
                fail_msg("%s: %s", plan->algorithm, check.reason);
            dlb_plan_release(plan);
            bench_close(&bench);
            if (status) {
                assert_int_equal(status, DLB_UNSUPPORTED);
                break;
            }
        }
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_right_plan_passes, pool_close),
        cmocka_unit_test_teardown(every_wrong_plan_is_seen, pool_close),
        cmocka_unit_test_teardown(the_exact_fill_alone_sees_what_is_wrong_at_once,
                                  pool_close),
        cmocka_unit_test_teardown(repetition_is_seen_without_the_option_too, pool_close),
        cmocka_unit_test_teardown(the_worst_element_is_named, pool_close),
        cmocka_unit_test_teardown(a_late_overrun_is_seen, pool_close),
        cmocka_unit_test_teardown(mostly_zeros_are_mistrusted, pool_close),
        cmocka_unit_test_teardown(relu_is_not_mistrusted, pool_close),
#ifdef DLBENCH_ONEDNN
        cmocka_unit_test_teardown(a_wrong_referee_is_seen, pool_close),
        cmocka_unit_test_teardown(onednn_passes_in_both_accuracy_classes, pool_close),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
