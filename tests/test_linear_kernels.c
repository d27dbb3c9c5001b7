/* Native linear layers: every legal candidate of every usable ISA, on teams of 1 to 3,
 * against the plain definition; and what fills do not reach. */
#include "operator_check.h"
#include "ops/linear.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const char *const problems[] = {
    "mb1ic1oc1",             /* all sizes 1 */
    "mb1ic37oc67bias1relu1", /* one row: panels side by side, and what is left */
    "mb2ic19oc50bias1",      /* few rows, and two tiles of them */
    "mb3ic17oc131relu1",
    "mb8ic5oc100bias1relu1",
    "mb13ic15oc7bias1", /* primes, below the vector */
    "mb29ic33oc33bias1relu1",
};
enum { LAST = sizeof problems / sizeof *problems - 1 };

static const enum dlb_pass passes[] = {DLB_FWD, DLB_BWD_DATA, DLB_BWD_WEIGHTS};

static void every_candidate_equals_the_definition(void **state)
{
    int run = 0;
    (void)state;
    for (size_t i = 0; i < sizeof problems / sizeof *problems; i++)
        for (int p = 0; p < 3; p++)
            run += dlb_check_native(&dlb_reference_linear, problems[i], passes[p]);
    print_message("%d candidates\n", run);
}

/* A depth in parts, and streamed results. */
static void deep_and_wide_problems_agree(void **state)
{
    (void)state;
    assert_true(dlb_check_native(&dlb_reference_linear, "mb3ic800oc7", DLB_FWD) > 0);
    assert_true(
        dlb_check_native(&dlb_reference_linear, "mb2ic64oc64bias1", DLB_BWD_WEIGHTS) > 0);
}

enum { ROWS = 3, IN = 9, OUT = 70 };

struct operands {
    float *c;
    void *tensor[DLB_TENSORS_MAX];
};

static void check_nan(void *context, struct dlb_plan *plan, const char *what)
{
    const struct operands *o = context;
    dlb_check_run(plan, o->tensor);
    for (int i = 0; i < ROWS * OUT; i++) {
        bool row = i / OUT == 1, column = i % OUT == 69;
        if (row != isnan(o->c[i]) || (column && !row && o->c[i] != INFINITY) ||
            (!row && !column && o->c[i] != 0))
            fail_msg("%s: dst[%d] is %g", what, i, (double)o->c[i]);
    }
}

/* NaN fills its row, through ReLU; infinity its column; neither anything else. */
static void nan_and_infinity_stay_where_they_belong(void **state)
{
    static _Alignas(DLB_ALIGN) float src[ROWS * IN], weights[OUT * IN], dst[ROWS * OUT];
    struct dlb_problem problem =
        dlb_check_problem(&dlb_op_linear, "mb3ic9oc70relu1", DLB_FWD);
    struct operands o = {dst, {src, weights, dst}};
    (void)state;
    for (int i = 0; i < ROWS * IN; i++)
        src[i] = 1;
    for (int i = 0; i < OUT * IN; i++)
        weights[i] = -1;
    src[IN + 4] = NAN;
    weights[69 * IN + 2] = INFINITY;
    dlb_check_each(&dlb_op_linear, &problem, check_nan, &o);
}

static void illegal_candidates_are_refused(void **state)
{
    (void)state;
    for (int p = 0; p < 3; p++)
        dlb_check_refusals(&dlb_op_linear, problems[LAST], passes[p]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(every_candidate_equals_the_definition, dlb_check_close),
        cmocka_unit_test_teardown(deep_and_wide_problems_agree, dlb_check_close),
        cmocka_unit_test_teardown(nan_and_infinity_stay_where_they_belong,
                                  dlb_check_close),
        cmocka_unit_test(illegal_candidates_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
