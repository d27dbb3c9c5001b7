/* Native softmax cross-entropy: awkward problems through the checks of every operator, then
 * what fills do not reach. */
#include "ops/xent.h"

#include "operator_check.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* One class or row; fewer classes than lanes, remainders, several blocks. */
static const char *const problems[] = {
    "mb1ic1",          "mb1ic3loss-sum", "mb5ic7",    "mb3ic16",
    "mb7ic65loss-sum", "mb4ic1000",      "mb3ic4099",
};

static void test_all_candidates_equal_the_definition(void **state)
{
    (void)state;
    int candidates = 0;
    for (size_t i = 0; i < sizeof problems / sizeof *problems; i++)
        for (int pass = DLB_FWD; pass <= DLB_BWD; pass++)
            if (dlb_op_softmax_xent.passes & 1u << pass)
                candidates += dlb_check_native(&dlb_reference_xent, problems[i],
                                               (enum dlb_pass)pass);
    print_message("%d candidates\n", candidates);
}

static void test_illegal_candidates_are_refused(void **state)
{
    (void)state;
    dlb_check_refusals(&dlb_op_softmax_xent, "mb2ic1000", DLB_FWD);
    dlb_check_refusals(&dlb_op_softmax_xent, "mb2ic1000", DLB_BWD);
}

/* Operands of a problem, with the definition's results. */
struct case_of {
    struct dlb_problem problem;
    struct dlb_tensor tensor[DLB_TENSORS_MAX];
    void *pointer[DLB_XENT_TENSORS];
    double *value[DLB_XENT_TENSORS];
};

static void case_make(struct case_of *c, const char *descriptor, enum dlb_pass pass)
{
    c->problem = dlb_check_problem(&dlb_op_softmax_xent, descriptor, pass);
    dlb_op_softmax_xent.tensors(&c->problem, c->tensor);
    for (int t = 0; t < DLB_XENT_TENSORS; t++) {
        int64_t n = dlb_tensor_elements(&c->tensor[t]);
        c->pointer[t] = dlb_alloc((size_t)n * sizeof(float) + 1);
        c->value[t] = calloc((size_t)n + 1, sizeof(double));
        for (int64_t i = 0; i < n; i++)
            ((float *)c->pointer[t])[i] =
                t == DLB_XENT_LABELS ? (float)i : sinf((float)(i * 7 + t));
    }
}

static void case_release(struct case_of *c)
{
    for (int t = 0; t < DLB_XENT_TENSORS; t++) {
        dlb_free(c->pointer[t]);
        free(c->value[t]);
    }
}

static void compare(void *context, struct dlb_plan *plan, const char *what)
{
    const struct case_of *c = context;
    dlb_check_run(plan, c->pointer);
    for (int t = 0; t < DLB_XENT_TENSORS; t++)
        for (int64_t i = 0; dlb_role_written(c->tensor[t].role) &&
                            i < dlb_tensor_elements(&c->tensor[t]);
             i++) {
            double got = ((float *)c->pointer[t])[i], expected = c->value[t][i];
            bool same = isnan(expected) ? isnan(got)
                        : isinf(expected)
                            ? got == expected
                            : fabs(got - expected) <= 2e-6 * fmax(1, fabs(expected));
            if (!same)
                fail_msg("%s: %s[%d] is %g, not %g", what, c->tensor[t].name, (int)i, got,
                         expected);
        }
}

static void check(struct case_of *c)
{
    dlb_check_define(&dlb_reference_xent, &c->problem, c->pointer, c->value);
    dlb_check_each(&dlb_op_softmax_xent, &c->problem, compare, c);
}

/* Row 1 of three gets what is in the table, at its label (class 1) and elsewhere. */
static void test_special_values_give_what_the_definition_gives(void **state)
{
    (void)state;
    static const struct {
        float label, all, one; /* all: 0 leaves the row; one: of class 1 */
    } rows[] = {
        {1, 0, NAN},
        {5, 0, NAN},
        {1, 0, INFINITY},
        {5, 0, INFINITY},
        {1, 0, -INFINITY},
        {5, 0, -INFINITY},
        {1, -INFINITY, -INFINITY},
        {1, -INFINITY, 3},
        {5, -INFINITY, 3},
        {1, 3e38f, 3e38f},
        {1, 0, 3e38f},
        {1, -3e38f, 100},
        {70, 0, 0},
        {-1, 0, 0},
        {1.5f, 0, 0},
        {NAN, 0, 0},
        {INFINITY, 0, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int pass = DLB_FWD_TRAIN; pass <= DLB_BWD; pass += DLB_BWD - DLB_FWD_TRAIN) {
            struct case_of c;
            case_make(&c, "mb3ic70", (enum dlb_pass)pass);
            float *row = (float *)c.pointer[DLB_XENT_LOGITS] + 70;
            ((float *)c.pointer[DLB_XENT_LABELS])[1] = rows[i].label;
            for (int k = 0; rows[i].all != 0 && k < 70; k++)
                row[k] = rows[i].all;
            row[1] = rows[i].one;
            check(&c);
            case_release(&c);
        }
}

/* The first maxima of a row are far below the later ones, and the other way round. */
static void test_blocks_of_any_size_join(void **state)
{
    (void)state;
    for (int sign = -1; sign <= 1; sign += 2) {
        struct case_of c;
        case_make(&c, "mb2ic3000", DLB_FWD_TRAIN);
        float *logits = c.pointer[DLB_XENT_LOGITS];
        for (int k = 0; k < 6000; k++)
            logits[k] = (float)sign * 0.25f * (float)(k % 3000);
        check(&c);
        case_release(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_all_candidates_equal_the_definition,
                                  dlb_check_close),
        cmocka_unit_test_teardown(test_illegal_candidates_are_refused, dlb_check_close),
        cmocka_unit_test_teardown(test_special_values_give_what_the_definition_gives,
                                  dlb_check_close),
        cmocka_unit_test_teardown(test_blocks_of_any_size_join, dlb_check_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
