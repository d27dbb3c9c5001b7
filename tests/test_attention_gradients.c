/*
 * Attention backward: its definition against results worked out by hand, its bound against a
 * plain implementation in float with and without errors made on purpose, and the memory that
 * native plans take.  That the definition is the derivative of the forward pass's shows in
 * test_gradients.c.
 */
#include "ops/attention.h"

#include "operator_check.h"

#include "measure/expected.h"
#include "ops.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "pool_fixture.h"

static const struct dlb_reference *const reference = &dlb_reference_attention;

/* The gradients of inputs in the order of the tensors; mask may be NULL. */
static void define(const char *descriptor, const float *q, const float *k, const float *v,
                   const float *mask, const float *diff, double *dq, double *dk,
                   double *dv)
{
    struct dlb_problem problem =
        dlb_check_problem(&dlb_op_attention, descriptor, DLB_BWD);
    void *tensor[] = {(void *)q, (void *)k, (void *)v, (void *)mask, (void *)diff};
    double *value[] = {NULL, NULL, NULL, NULL, NULL, dq, dk, dv};
    dlb_check_define(reference, &problem, tensor, value);
}

static void near(const double *got, const double *expected, int n)
{
    for (int i = 0; i < n; i++)
        if (!(fabs(got[i] - expected[i]) <= 1e-14))
            fail_msg("[%d] is %.17g, expected %.17g", i, got[i], expected[i]);
}

static void two_keys_pull_against_each_other(void **state)
{
    (void)state;
    const float q[] = {2}, k[] = {1, -1}, v[] = {5, 1}, diff[] = {3};
    const double p = 1 / (1 + exp(-4)), ds = p * (1 - p) * 3 * (5 - 1);
    double dq[1], dk[2], dv[2];
    define("mb1hq1sq1sk2d1", q, k, v, NULL, diff, dq, dk, dv);
    near(dq, (double[]){2 * ds}, 1);
    near(dk, (double[]){2 * ds, -2 * ds}, 2);
    near(dv, (double[]){3 * p, 3 * (1 - p)}, 2);
}

/* The last query sees nothing hidden, the first nothing at all, and a key that no query sees
 * gets zeros. */
static void what_is_not_seen_gets_nothing(void **state)
{
    (void)state;
    const float q[] = {1, 1, 1}, k[] = {0, 0, 7}, v[] = {4, 2, NAN}, diff[] = {NAN, 1, 1};
    double dq[3], dk[3], dv[3];
    define("mb1hq1sq3sk2d1mask-causal-end", q, k, v, NULL, diff, dq, dk, dv);
    near(dq, (double[]){0, 0, 0}, 3);
    near(dk, (double[]){.5, -.5}, 2);
    near(dv, (double[]){1.5, .5}, 2);
    define("mb1hq1sq2sk3d1mask-causal", q, k, v, NULL, diff + 1, dq, dk, dv);
    near(dk, (double[]){.5, -.5, 0}, 3);
    near(dv, (double[]){1.5, .5, 0}, 3);
    const float mask[] = {-INFINITY, -INFINITY, -1e4f, -1e4f};
    define("mb1hq1sq2sk2d1mask-buffer", q, k, v, mask, diff, dq, dk, dv);
    near(dq, (double[]){0, 0}, 2);
    near(dv, (double[]){.5, .5}, 2);
}

static void heads_of_a_group_add_up(void **state)
{
    (void)state;
    const float q[] = {1, 2, 3}, k[] = {1, -1}, v[] = {5, 1}, diff[] = {3, 1, -2};
    double dq[3], dk[2], dv[2], sum_k[2] = {0}, sum_v[2] = {0};
    for (int h = 0; h < 3; h++) {
        double one_q[1];
        define("mb1hq1sq1sk2d1", q + h, k, v, NULL, diff + h, one_q, dk, dv);
        for (int j = 0; j < 2; j++) {
            sum_k[j] += dk[j];
            sum_v[j] += dv[j];
        }
    }
    define("mb1hq3hk1sq1sk2d1", q, k, v, NULL, diff, dq, dk, dv);
    near(dk, sum_k, 2);
    near(dv, sum_v, 2);
}

/* The backward pass in float as a beginner would write it, and errors to make on purpose. */
enum mistake {
    NONE,
    KEY_DROPPED,
    NO_SCALE, /* of diff_k */
    NO_MEAN,  /* e is left out */
    GROUP_LOST,
    ROW_LOST,
    ROUGH_EXP /* every other weight is 2e-5 too large */
};

struct float_plan {
    struct dlb_plan plan;
    struct dlb_attention_shape s;
    enum mistake mistake;
    void *const *tensor;
};

static float *operand(const struct float_plan *f, int t)
{
    return f->tensor[t];
}

static void float_row(const struct float_plan *f, int64_t n, int64_t h, int64_t i)
{
    const struct dlb_attention_shape *s = &f->s;
    const int64_t at = (n * s->sq + i) * s->hq + h, shared = h / s->group;
    const float *q = operand(f, DLB_ATTENTION_Q) + at * s->d;
    const float *diff = operand(f, DLB_ATTENTION_DIFF_DST) + at * s->dv;
    float *dq = operand(f, DLB_ATTENTION_DIFF_Q) + at * s->d;
    int64_t keys = dlb_attention_keys(s, i);
    keys -= f->mistake == KEY_DROPPED && keys > 1;
    float p[512], dp[512], most = -INFINITY, total = 0, mean = 0;
    for (int64_t j = 0; j < keys; j++) {
        const int64_t key = (n * s->sk + j) * s->hk + shared;
        p[j] = dp[j] = 0;
        for (int64_t c = 0; c < s->d; c++)
            p[j] += q[c] * operand(f, DLB_ATTENTION_K)[key * s->d + c];
        for (int64_t c = 0; c < s->dv; c++)
            dp[j] += diff[c] * operand(f, DLB_ATTENTION_V)[key * s->dv + c];
        p[j] *= s->scale;
        if (s->mask == DLB_ATTENTION_BUFFER)
            p[j] += operand(f, DLB_ATTENTION_MASK_BUFFER)[(n * s->sq + i) * s->sk + j];
        most = fmaxf(most, p[j]);
    }
    for (int64_t j = 0; j < keys; j++) {
        p[j] = expf(p[j] - most);
        if (f->mistake == ROUGH_EXP && j % 2)
            p[j] *= 1 + 2e-5f;
        total += p[j];
    }
    for (int64_t j = 0; j < keys; j++) {
        p[j] /= total;
        mean += p[j] * dp[j];
    }
    for (int64_t c = 0; c < s->d; c++)
        dq[c] = 0;
    bool lost = (f->mistake == GROUP_LOST && h % s->group) ||
                (f->mistake == ROW_LOST && i == s->sq - 1);
    for (int64_t j = 0; j < keys; j++) {
        const int64_t key = (n * s->sk + j) * s->hk + shared;
        const float ds = p[j] * (dp[j] - (f->mistake == NO_MEAN ? 0 : mean)) * s->scale;
        for (int64_t c = 0; c < s->d; c++) {
            dq[c] += ds * operand(f, DLB_ATTENTION_K)[key * s->d + c];
            operand(f, DLB_ATTENTION_DIFF_K)[key * s->d + c] +=
                lost ? 0 : ds * q[c] / (f->mistake == NO_SCALE ? s->scale : 1);
        }
        for (int64_t c = 0; c < s->dv && !lost; c++)
            operand(f, DLB_ATTENTION_DIFF_V)[key * s->dv + c] += p[j] * diff[c];
    }
}

static enum dlb_status float_bind(struct dlb_plan *plan, void *const *tensor,
                                  const struct dlb_team *team, struct dlb_error *error)
{
    (void)team, (void)error;
    ((struct float_plan *)plan)->tensor = tensor;
    return DLB_OK;
}

static void float_run(struct dlb_plan *plan, const struct dlb_team *team)
{
    const struct float_plan *f = (const struct float_plan *)plan;
    const struct dlb_attention_shape *s = &f->s;
    const int64_t keys = s->mb * s->sk * s->hk;
    (void)team;
    for (int64_t e = 0; e < keys * s->d; e++)
        operand(f, DLB_ATTENTION_DIFF_K)[e] = 0;
    for (int64_t e = 0; e < keys * s->dv; e++)
        operand(f, DLB_ATTENTION_DIFF_V)[e] = 0;
    for (int64_t r = 0; r < s->mb * s->hq * s->sq; r++)
        float_row(f, r / s->sq / s->hq, r / s->sq % s->hq, r % s->sq);
}

static enum dlb_status float_fetch(struct dlb_plan *plan, const struct dlb_team *team,
                                   struct dlb_error *error)
{
    (void)plan, (void)team, (void)error;
    return DLB_OK;
}

static void float_release(struct dlb_plan *plan)
{
    (void)plan;
}

static const struct dlb_plan_class float_class = {"native",  true,        float_bind,
                                                  float_run, float_fetch, float_release};

static struct dlb_check run_float(const char *descriptor, enum mistake mistake,
                                  uint64_t seed)
{
    const struct dlb_operator entry = {&dlb_op_attention, reference, ""};
    struct dlb_problem problem =
        dlb_check_problem(&dlb_op_attention, descriptor, DLB_BWD);
    struct float_plan f = {.plan = {.class = &float_class, .threads = 1},
                           .mistake = mistake};
    struct dlb_pool *pool = pool_open("1");
    struct dlb_expected *expected;
    struct dlb_buffers buffers;
    struct dlb_check check;
    struct dlb_error error = {""};
    dlb_attention_shape_get(&problem, &f.s);
    if (dlb_expected_make(&entry, &problem, pool, true, seed, &expected, &error) ||
        dlb_buffers_make(&dlb_op_attention, &problem, pool, &buffers, &error) ||
        dlb_verify(expected, &buffers, &f.plan, pool, false, &check, &error))
        fail_msg("%s: %s", descriptor, error.text);
    dlb_buffers_release(&buffers);
    dlb_expected_release(expected);
    return check;
}

static void bound_admits_plain_floats(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "mb1hq2sq40d1",
        "mb1hq2sq40sk2d3",
        "mb1hq2sq2sk40d3",
        "mb1hq2hk1sq30sk50d64",
        "mb1hq2sq40sk3d256",
        "mb1hq1sq8sk500d80dv16",
        "mb1hq1sq500sk8d16dv80",
        "mb1hq2sq50d128mask-causal",
        "mb2hq2sq20sk30d16mask-buffer",
        "mb1hq2sq20sk9d16mask-causal-end",
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (uint64_t seed = 1; seed < 4; seed++) {
            struct dlb_check check = run_float(cases[i], NONE, seed);
            if (check.outcome == DLB_OUTCOME_MISMATCH)
                fail_msg("%s: %s", cases[i], check.reason);
        }
}

static void bound_finds_mistakes(void **state)
{
    (void)state;
    static const struct {
        enum mistake mistake;
        const char *name, *descriptor;
    } cases[] = {
        {KEY_DROPPED, "a key dropped", "mb1hq2sq5sk300d64"},
        {NO_SCALE, "no scale", "mb1hq1sq3d2"},
        {NO_MEAN, "no mean", "mb1hq2sq20sk300d64"},
        {GROUP_LOST, "a group's heads left out", "mb1hq4hk2sq30d16"},
        {ROW_LOST, "a row left out", "mb1hq2sq400d64"},
        {ROUGH_EXP, "a rough exp", "mb1hq2sq20sk2d1"},
        {ROUGH_EXP, "a rough exp", "mb1hq2sq20sk2d64"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dlb_check check = run_float(cases[i].descriptor, cases[i].mistake, 5);
        if (check.outcome != DLB_OUTCOME_MISMATCH)
            fail_msg("%s: %s is within the bound", cases[i].descriptor, cases[i].name);
    }
}

/* Four times the sequence takes no more than about four times the memory. */
static void memory_is_linear_in_the_sequence(void **state)
{
    (void)state;
    double bytes[2];
    for (int i = 0; i < 2; i++) {
        struct dlb_problem problem = dlb_check_problem(
            &dlb_op_attention, i ? "mb1hq2sq8192d64" : "mb1hq2sq2048d64", DLB_BWD);
        struct dlb_target target = {dlb_isa_best(), 2, 32 << 10, 1 << 19, 1 << 24};
        struct dlb_candidate candidate;
        struct dlb_plan *plan = NULL;
        dlb_op_attention.fallback(&problem, &target, &candidate);
        assert_int_equal(
            dlb_op_attention.plan(&problem, &target, &candidate, &plan, NULL), DLB_OK);
        bytes[i] = (double)plan->workspace_bytes;
        dlb_plan_release(plan);
    }
    assert_true(bytes[1] <= 4 * bytes[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_keys_pull_against_each_other),
        cmocka_unit_test(what_is_not_seen_gets_nothing),
        cmocka_unit_test(heads_of_a_group_add_up),
        cmocka_unit_test_teardown(bound_admits_plain_floats, pool_close),
        cmocka_unit_test_teardown(bound_finds_mistakes, pool_close),
        cmocka_unit_test(memory_is_linear_in_the_sequence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
