/* Native attention: awkward problems through the checks of every operator, then what
 * fills do not reach. */
#include "ops/attention.h"

#include "operator_check.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static const char *const problems[] = {
    /* all sizes 1; primes; a head of the queries wider than the vectors */
    "mb1hq1sq1d1",
    "mb2hq3sq7sk13d5",
    "mb1hq2sq33sk5d33dv1",
    /* usual heads, and values of another width */
    "mb1hq2sq40d64",
    "mb1hq1sq19sk70d80dv96",
    "mb1hq1sq3sk67d128dv64",
    /* causal: the diagonal at either end, short and long keys, rows without any key */
    "mb1hq2sq67d16mask-causal",
    "mb1hq1sq70sk20d8mask-causal",
    "mb2hq1sq21sk75d8mask-causal",
    "mb1hq1sq70sk20d8mask-causal-end",
    "mb1hq2sq21sk75d8mask-causal-end",
    "mb1hq1sq5sk2d3mask-causal-end",
    /* mask buffer */
    "mb2hq2sq37sk29d16dv8mask-buffer",
    "mb1hq4hk2sq3sk66d8mask-buffer",
    /* grouped-query and multi-query, with masks */
    "mb1hq6hk2sq11sk23d12",
    "mb1hq8hk1sq9sk17d16dv8mask-causal",
    "mb1hq6hk2sq13sk9d8mask-causal-end",
    /* decoding */
    "mb1hq4hk4sq1sk211d64mask-causal-end",
    "mb2hq7hk1sq1sk129d128dv33",
    "mb1hq2sq4sk150d40mask-causal-end",
    "mb1hq1sq1sk300d16mask-buffer",
};

static void test_all_candidates_equal_the_definition(void **state)
{
    (void)state;
    int candidates = 0;
    for (size_t i = 0; i < sizeof problems / sizeof *problems; i++) {
        /* Training does all that the forward pass does, and one thing more. */
        candidates +=
            dlb_check_native(&dlb_reference_attention, problems[i], DLB_FWD_TRAIN);
        if (i % 5 == 0)
            candidates +=
                dlb_check_native(&dlb_reference_attention, problems[i], DLB_FWD);
        if (i % 4 != 3) /* few are enough of what is alike */
            candidates +=
                dlb_check_native(&dlb_reference_attention, problems[i], DLB_BWD);
    }
    print_message("%d candidates\n", candidates);
}

static void test_illegal_candidates_are_refused(void **state)
{
    (void)state;
    dlb_check_refusals(&dlb_op_attention, "mb1hq2sq40d64", DLB_FWD);
    dlb_check_refusals(&dlb_op_attention, "mb1hq2sq1sk40d64", DLB_FWD);
}

struct case_of {
    struct dlb_problem problem;
    int tensors;
    struct dlb_tensor tensor[DLB_TENSORS_MAX];
    void *pointer[DLB_TENSORS_MAX];
    double *value[DLB_TENSORS_MAX];
};

static float *data(const struct case_of *c, int t)
{
    return c->pointer[t];
}

/* Inputs are small waves; the caller changes what matters. */
static void case_make(struct case_of *c, const char *descriptor, int pass)
{
    c->problem = dlb_check_problem(&dlb_op_attention, descriptor, (enum dlb_pass)pass);
    c->tensors = dlb_op_attention.tensors(&c->problem, c->tensor);
    for (int t = 0; t < c->tensors; t++) {
        int64_t n = dlb_tensor_elements(&c->tensor[t]);
        c->pointer[t] = dlb_alloc((size_t)n * sizeof(float) + 1);
        c->value[t] = calloc((size_t)n + 1, sizeof(double));
        for (int64_t i = 0; i < n; i++)
            data(c, t)[i] = sinf((float)(i * 7 + t));
    }
}

static void case_release(struct case_of *c)
{
    for (int t = 0; t < c->tensors; t++) {
        dlb_free(c->pointer[t]);
        free(c->value[t]);
    }
}

/* Within tolerance of the definition, NaN and infinities where it has them. */
static void compare(void *context, struct dlb_plan *plan, const char *what)
{
    const struct case_of *c = context;
    dlb_check_run(plan, c->pointer);
    for (int t = 0; t < c->tensors; t++)
        for (int64_t i = 0; dlb_role_written(c->tensor[t].role) &&
                            i < dlb_tensor_elements(&c->tensor[t]);
             i++) {
            double got = data(c, t)[i], expected = c->value[t][i];
            bool same = isnan(expected) ? isnan(got)
                        : isinf(expected)
                            ? got == expected
                            : fabs(got - expected) <= 1e-5 * fmax(1, fabs(expected));
            if (!same)
                fail_msg("%s: %s[%d] is %g, not %g", what, c->tensor[t].name, (int)i, got,
                         expected);
        }
}

static void check(struct case_of *c)
{
    dlb_check_define(&dlb_reference_attention, &c->problem, c->pointer, c->value);
    dlb_check_each(&dlb_op_attention, &c->problem, compare, c);
}

/* The forward pass that keeps what it can, and the backward pass. */
static const int passes[] = {DLB_FWD_TRAIN, DLB_BWD};
enum { PASSES = sizeof passes / sizeof *passes };

static const char *const small[] = {
    "mb1hq2sq37sk70d4",
    "mb1hq2sq37sk70d4mask-causal",
    "mb1hq2sq1sk70d4",
    "mb1hq2sq3sk70d4mask-causal-end",
};
enum { SMALL = sizeof small / sizeof *small };

/* Scores near 90 have exponentials beyond the range of float, and the maximum comes late.
 */
static void test_large_scores_do_not_overflow(void **state)
{
    (void)state;
    for (int i = 0; i < PASSES * SMALL; i++) {
        struct case_of c;
        case_make(&c, small[i / PASSES], passes[i % PASSES]);
        int64_t keys = c.problem.dim[DLB_ATTENTION_SK];
        for (int64_t k = 0; k < dlb_tensor_elements(&c.tensor[DLB_ATTENTION_Q]); k++)
            data(&c, DLB_ATTENTION_Q)[k] = 2;
        for (int64_t k = 0; k < dlb_tensor_elements(&c.tensor[DLB_ATTENTION_K]); k++)
            data(&c, DLB_ATTENTION_K)[k] = 20 + 3 * (float)(k / 8) / (float)keys;
        check(&c);
        for (int64_t k = 0; k < dlb_tensor_elements(&c.tensor[DLB_ATTENTION_K]); k++)
            data(&c, DLB_ATTENTION_K)[k] = -data(&c, DLB_ATTENTION_K)[k];
        check(&c);
        case_release(&c);
    }
}

static void test_not_a_number_and_infinities_pass(void **state)
{
    (void)state;
    static const struct {
        int tensor;
        float value;
    } changes[] = {
        {DLB_ATTENTION_Q, NAN},        {DLB_ATTENTION_K, NAN},
        {DLB_ATTENTION_V, NAN},        {DLB_ATTENTION_V, INFINITY},
        {DLB_ATTENTION_K, INFINITY},   {DLB_ATTENTION_K, -INFINITY},
        {DLB_ATTENTION_DIFF_DST, NAN}, {DLB_ATTENTION_DIFF_DST, INFINITY},
    };
    for (int i = 0; i < PASSES * SMALL; i++)
        for (size_t k = 0; k < sizeof changes / sizeof *changes; k++) {
            struct case_of c;
            if (changes[k].tensor == DLB_ATTENTION_DIFF_DST &&
                passes[i % PASSES] != DLB_BWD)
                continue;
            case_make(&c, small[i / PASSES], passes[i % PASSES]);
            int64_t n = dlb_tensor_elements(&c.tensor[changes[k].tensor]);
            data(&c, changes[k].tensor)[n / 2] = changes[k].value;
            check(&c);
            data(&c, changes[k].tensor)[n - 1] = changes[k].value;
            check(&c);
            case_release(&c);
        }
}

/* A row whose mask hides all keys gives zeros, even of values that are no numbers; masks
 * as networks write them, the least float among them. */
static void test_masks_of_infinities(void **state)
{
    (void)state;
    static const char *const with_mask[] = {"mb1hq2sq37sk70d4mask-buffer",
                                            "mb1hq2sq2sk70d4mask-buffer"};
    for (int i = 0; i < PASSES * 2; i++) {
        struct case_of c;
        case_make(&c, with_mask[i / PASSES], passes[i % PASSES]);
        int64_t keys = c.problem.dim[DLB_ATTENTION_SK];
        float *mask = data(&c, DLB_ATTENTION_MASK_BUFFER);
        for (int64_t j = 0; j < keys; j++)
            mask[j] = -INFINITY;
        for (int64_t j = keys; j < 2 * keys; j++)
            mask[j] = j % 3 ? -INFINITY : j < 2 * keys - 9 ? -3e38f : 0;
        check(&c);
        for (int64_t j = keys; j < 2 * keys; j++)
            mask[j] = -3.4028234e38f;
        check(&c);
        for (int64_t j = 0; j < dlb_tensor_elements(&c.tensor[DLB_ATTENTION_V]); j++)
            data(&c, DLB_ATTENTION_V)[j] = NAN;
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
        cmocka_unit_test_teardown(test_large_scores_do_not_overflow, dlb_check_close),
        cmocka_unit_test_teardown(test_not_a_number_and_infinities_pass, dlb_check_close),
        cmocka_unit_test_teardown(test_masks_of_infinities, dlb_check_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
