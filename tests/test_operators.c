/*
 * What holds for every row of the operator table: its default suite can be read, shapes
 * survive being written and read, bounds are finite and tight enough to see a slip, and a
 * slip in any element of any output, kept ones too, is seen.
 */
#include "operator_check.h"

#include "measure/verify.h"
#include "suite/suite.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pool_fixture.h"

/* A small problem with all that an operator has, by the operator's name. */
static const struct {
    const char *op, *shape;
} small[] = {
    {"conv", "g2mb2ic6ih7oc10kh3ph1bias1relu1"},
    {"lstm", "l2t3mb2dhc7dir-concatinit1"},
    {"gru", "l2t3mb2dhc7dir-suminit1lbr1"},
    {"rnn", "l2t3mb2dhc7dir-concatinit1act-relu"},
    {"attention", "mb2hq4hk2sq5sk7d8dv6mask-causal"},
    {"batchnorm", "mb2ic5ih3relu1"},
    {"softmax_xent", "mb3ic7"},
    {"linear", "mb5ic7oc11bias1"},
    {"pooling", "mb2ic5ih7kh3sh2ph1"},
    {"sgd", "n37decay1"},
    {"adam", "n37t3decay1"},
};

static const char *shape_of(const struct dlb_operator *entry)
{
    for (size_t i = 0; i < sizeof small / sizeof *small; i++)
        if (!strcmp(small[i].op, entry->op->name))
            return small[i].shape;
    fail_msg("%s has no problem here", entry->op->name);
    return NULL;
}

/* A plan around the naive one that moves one element of one output. */
struct slip_plan {
    struct dlb_plan plan;
    struct dlb_plan *naive;
    void *const *tensor;
    int t;
    int64_t element;
    double by;
};

static enum dlb_status slip_bind(struct dlb_plan *plan, void *const *tensor,
                                 const struct dlb_team *team, struct dlb_error *error)
{
    struct slip_plan *self = (struct slip_plan *)plan;
    self->tensor = tensor;
    return self->naive->class->bind(self->naive, tensor, team, error);
}

static void slip_run(struct dlb_plan *plan, const struct dlb_team *team)
{
    struct slip_plan *self = (struct slip_plan *)plan;
    self->naive->class->run(self->naive, team);
    float *data = self->tensor[self->t];
    data[self->element] += (float)self->by;
}

static enum dlb_status slip_fetch(struct dlb_plan *plan, const struct dlb_team *team,
                                  struct dlb_error *error)
{
    (void)plan, (void)team, (void)error;
    return DLB_OK;
}

static void slip_release(struct dlb_plan *plan)
{
    (void)plan;
}

static const struct dlb_plan_class slip_class = {"native", true,       slip_bind,
                                                 slip_run, slip_fetch, slip_release};

struct bench {
    const struct dlb_operator *entry;
    struct dlb_problem problem;
    struct dlb_pool *pool;
    struct dlb_expected *expected;
    struct dlb_buffers buffers;
    struct dlb_plan *naive;
};

static struct dlb_check run_slip(struct bench *bench, int t, int64_t element, double by)
{
    struct slip_plan slip = {.plan = *bench->naive,
                             .naive = bench->naive,
                             .t = t,
                             .element = element,
                             .by = by};
    struct dlb_check check;
    struct dlb_error error = {""};
    slip.plan.class = &slip_class;
    if (dlb_verify(bench->expected, &bench->buffers, &slip.plan, bench->pool, false,
                   &check, &error))
        fail_msg("%s", error.text);
    return check;
}

/* A slip of a thousandth of the largest value of the tensor, and nothing at all. */
static void check_slips(struct bench *bench, bool naive)
{
    struct dlb_check check = run_slip(bench, bench->buffers.tensors - 1, 0, 0);
    const char *name = bench->entry->op->name;
    if (check.outcome != DLB_OUTCOME_OK)
        fail_msg("%s %s: %s", name, dlb_pass_names[bench->problem.pass], check.reason);
    /* 0: a maximum is one of its elements. */
    assert_true(isfinite(check.bound) && check.bound >= 0);
    for (int t = 0; t < bench->buffers.tensors; t++) {
        const struct dlb_tensor *tensor = &bench->buffers.tensor[t];
        int64_t n = dlb_tensor_elements(tensor);
        float largest = 0;
        /* oneDNN does not show what is kept: it is checked on samples. */
        if (!n || !dlb_role_written(tensor->role) || (tensor->role == DLB_KEPT && !naive))
            continue;
        run_slip(bench, t, 0, 0);
        for (int64_t i = 0; i < n; i++)
            largest = fmaxf(largest, fabsf(((float *)bench->buffers.data[t])[i]));
        for (int64_t i = 0; i < n; i += dlb_max(1, n / 7)) {
            check = run_slip(bench, t, i, 1e-3 * largest);
            if (check.outcome != DLB_OUTCOME_MISMATCH)
                fail_msg("%s %s: a slip of %g in %s[%lld] passes", name,
                         dlb_pass_names[bench->problem.pass], 1e-3 * (double)largest,
                         tensor->name, (long long)i);
            if (!strstr(check.reason, tensor->name))
                fail_msg("%s is not named in: %s", tensor->name, check.reason);
        }
    }
}

static void every_slip_is_seen(void **state)
{
    (void)state;
    for (int i = 0; i < 2 * dlb_operators_n * DLB_PASS_COUNT; i++) {
        bool naive = i % 2;
        int pass = i / 2 % DLB_PASS_COUNT;
        struct bench bench = {.entry = &dlb_operators[i / 2 / DLB_PASS_COUNT]};
        struct dlb_error error = {""};
        if (!(bench.entry->op->passes & 1u << pass))
            continue;
        bench.problem = dlb_check_problem(bench.entry->op, shape_of(bench.entry),
                                          (enum dlb_pass)pass);
        bench.pool = pool_open("1");
        if (dlb_expected_make(bench.entry, &bench.problem, bench.pool, naive, 7,
                              &bench.expected, &error) ||
            dlb_buffers_make(bench.entry->op, &bench.problem, bench.pool, &bench.buffers,
                             &error) ||
            bench.entry->reference->naive(&bench.problem, 1, &bench.naive, &error))
            fail_msg("%s", error.text);
        check_slips(&bench, naive);
        dlb_plan_release(bench.naive);
        dlb_buffers_release(&bench.buffers);
        dlb_expected_release(bench.expected);
    }
}

/* Also of the default suite: what is written is what was read. */
static void shapes_survive_being_written(void **state)
{
    (void)state;
    for (int i = 0; i < dlb_operators_n; i++) {
        const struct dlb_operator *entry = &dlb_operators[i];
        struct dlb_suite suite = {0};
        struct dlb_error error = {""};
        char text[DLB_SHAPE_MAX];
        if (dlb_suite_read_default(entry, &suite, &error) ||
            dlb_suite_add(entry, shape_of(entry), &suite, &error))
            fail_msg("%s", error.text);
        assert_true(suite.cases_n > 1);
        for (int c = 0; c < suite.cases_n; c++) {
            const struct dlb_problem *problem = &suite.cases[c].problem;
            dlb_descriptor_format(entry->op, problem, text);
            struct dlb_problem again =
                dlb_check_problem(entry->op, text, (enum dlb_pass)problem->pass);
            assert_memory_equal(again.dim, problem->dim, sizeof again.dim);
            assert_true(entry->op->flops(problem) > 0 && entry->op->bytes(problem) > 0);
            assert_true(entry->reference->slices(problem) > 0);
        }
        dlb_suite_release(&suite);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(every_slip_is_seen, pool_close),
        cmocka_unit_test(shapes_survive_being_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
