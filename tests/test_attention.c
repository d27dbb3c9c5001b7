/*
 * The problem side of attention: descriptors, derived dims, what is refused and how,
 * counts, operands, the fill of masks.
 */
#include "ops/attention.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "suite/descriptor.h"

static const struct dlb_op *const op = &dlb_op_attention;

static enum dlb_status parse(const char *text, struct dlb_problem *problem,
                             struct dlb_error *error)
{
    char name[DLB_NAME_MAX];
    *problem = (struct dlb_problem){.pass = DLB_FWD};
    return dlb_descriptor_parse(op, text, problem, name, error);
}

static struct dlb_problem problem_of(const char *text)
{
    struct dlb_problem problem;
    struct dlb_error error = {""};
    if (parse(text, &problem, &error))
        fail_msg("%s: %s", text, error.text);
    return problem;
}

static void dims_follow_from_others(void **state)
{
    (void)state;
    struct dlb_attention_shape s;
    struct dlb_problem problem = problem_of("hq12sq384d64");
    dlb_attention_shape_get(&problem, &s);
    assert_true(s.mb == 2 && s.hq == 12 && s.hk == 12 && s.group == 1);
    assert_true(s.sq == 384 && s.sk == 384 && s.d == 64 && s.dv == 64);
    assert_true(s.mask == DLB_ATTENTION_NONE && s.scale == .125f && !s.train);
    problem = problem_of("mb1hq28hk4sq1sk385d128dv96mask-causal-end");
    problem.pass = DLB_FWD_TRAIN;
    dlb_attention_shape_get(&problem, &s);
    assert_true(s.mb == 1 && s.hq == 28 && s.hk == 4 && s.group == 7);
    assert_true(s.sq == 1 && s.sk == 385 && s.d == 128 && s.dv == 96);
    assert_true(s.mask == DLB_ATTENTION_CAUSAL_END && s.train);
}

static void descriptors_are_shortest(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"mb2hq12hk12sq512sk512d64dv64mask-none", "hq12sq512d64"},
        {"mask-causal d128 sq384 hk8 hq32 mb1", "mb1hq32hk8sq384d128mask-causal"},
        {"mb1hq4hk1sq7sk9d5dv6mask-buffer", "mb1hq4hk1sq7sk9d5dv6mask-buffer"},
        {"mb1hq1hk1sq1sk2d1dv1mask-causal-end", "mb1hq1sq1sk2d1mask-causal-end"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[DLB_SHAPE_MAX], spaceless[DLB_SHAPE_MAX];
        size_t n = 0;
        for (const char *c = cases[i][0]; *c; c++)
            spaceless[n++] = *c == ' ' ? '_' : *c;
        spaceless[n] = 0;
        struct dlb_problem problem = problem_of(spaceless);
        dlb_descriptor_format(op, &problem, text);
        assert_string_equal(text, cases[i][1]);
        struct dlb_problem again = problem_of(text);
        assert_memory_equal(again.dim, problem.dim, sizeof problem.dim);
    }
}

static void wrong_dims_are_refused_by_name(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"mb1sq4d8", "'hq' (heads of the queries) is missing; write for example hq12"},
        {"mb1hq2d8", "'sq'"},
        {"mb1hq2sq4", "'d' (width of a query's and a key's head)"},
        {"mb1hq12hk5sq4d8", "hk5 does not divide hq12"},
        {"mb1hq4hk8sq4d8", "hk8 does not divide hq4"},
        {"mb1hq4sq0d8", "sq0"},
        {"mb1hq4sq4d100000", "accepted: 1 to 65536"},
        {"mb16777216hq16777216sq16777216d65536", "2^40"},
        {"mb1hq4sq4d8mask-diagonal", "mask"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dlb_problem problem;
        struct dlb_error error = {""};
        assert_int_equal(parse(cases[i][0], &problem, &error), DLB_INVALID);
        if (!strstr(error.text, cases[i][1]))
            fail_msg("%s: \"%s\" does not say \"%s\"", cases[i][0], error.text,
                     cases[i][1]);
    }
}

/* Against a count of the pairs one by one. */
static void flops_count_what_masks_let_through(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "mb2hq3sq5sk7d4dv3",
        "mb2hq3sq5sk7d4mask-causal",
        "mb2hq3sq7sk5d4mask-causal",
        "mb2hq4hk2sq5sk7d4mask-causal-end",
        "mb1hq3sq7sk5d4mask-causal-end",
        "mb1hq3sq7sk5d4mask-buffer",
        "mb1hq1sq1sk9d2mask-causal-end",
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dlb_problem problem = problem_of(cases[i]);
        struct dlb_attention_shape s;
        int64_t pairs = 0;
        dlb_attention_shape_get(&problem, &s);
        for (int64_t q = 0; q < s.sq; q++) {
            int64_t keys = 0;
            for (int64_t k = 0; k < s.sk; k++)
                keys += s.mask == DLB_ATTENTION_CAUSAL       ? k <= q
                        : s.mask == DLB_ATTENTION_CAUSAL_END ? k - s.sk <= q - s.sq
                                                             : 1;
            assert_int_equal(dlb_attention_keys(&s, q), keys);
            pairs += keys;
        }
        assert_true(op->flops(&problem) ==
                    2. * (double)((s.d + s.dv) * s.mb * s.hq * pairs));
    }
}

static void operands_that_are_absent_have_no_elements(void **state)
{
    (void)state;
    static const int64_t elements[2][2][DLB_ATTENTION_TENSORS] = {
        {{2 * 5 * 4 * 8, 2 * 7 * 2 * 8, 2 * 7 * 2 * 3, 0, 2 * 5 * 4 * 3, 0},
         {2 * 5 * 4 * 8, 2 * 7 * 2 * 8, 2 * 7 * 2 * 3, 0, 2 * 5 * 4 * 3, 2 * 4 * 5}},
        {{2 * 5 * 4 * 8, 2 * 7 * 2 * 8, 2 * 7 * 2 * 3, 2 * 5 * 7, 2 * 5 * 4 * 3, 0},
         {2 * 5 * 4 * 8, 2 * 7 * 2 * 8, 2 * 7 * 2 * 3, 2 * 5 * 7, 2 * 5 * 4 * 3,
          2 * 4 * 5}},
    };
    for (int masked = 0; masked < 2; masked++)
        for (int train = 0; train < 2; train++) {
            struct dlb_problem problem =
                problem_of(masked ? "hq4hk2sq5sk7d8dv3mask-buffer" : "hq4hk2sq5sk7d8dv3");
            struct dlb_tensor tensor[DLB_TENSORS_MAX];
            double bytes = 0;
            problem.pass = train ? DLB_FWD_TRAIN : DLB_FWD;
            assert_int_equal(op->tensors(&problem, tensor), DLB_ATTENTION_TENSORS);
            for (int t = 0; t < DLB_ATTENTION_TENSORS; t++) {
                assert_int_equal(dlb_tensor_elements(&tensor[t]),
                                 elements[masked][train][t]);
                bytes += 4. * (double)elements[masked][train][t];
            }
            assert_true(op->bytes(&problem) == bytes);
            assert_true(tensor[DLB_ATTENTION_LOGSUM].role == DLB_KEPT);
        }
}

/* Some keys are hidden in both ways, no query loses all, and the parts of a fill made
 * by several threads are the whole. */
static void mask_fill_leaves_a_key_to_each_query(void **state)
{
    (void)state;
    enum { N = 2 * 9 * 14 };
    struct dlb_problem problem = problem_of("hq2sq9sk14d3mask-buffer");
    float mask[N], again[N];
    assert_false(op->fill(&problem, DLB_ATTENTION_Q, DLB_FILL_DENSE, 1, 0, N, mask));
    assert_true(
        op->fill(&problem, DLB_ATTENTION_MASK_BUFFER, DLB_FILL_DENSE, 1, 0, N, mask));
    int infinite = 0, large = 0;
    for (int row = 0; row < N / 14; row++) {
        int seen = 0;
        for (int j = 0; j < 14; j++) {
            float value = mask[row * 14 + j];
            infinite += value == -INFINITY;
            large += value == -1e4f;
            seen += value >= -1 && value < 1;
        }
        assert_true(seen > 0);
    }
    assert_true(infinite > 5 && large > 5 && infinite + large < N / 4);
    for (int64_t begin = 0; begin < N; begin += 50)
        op->fill(&problem, DLB_ATTENTION_MASK_BUFFER, DLB_FILL_EXACT, 1, begin,
                 dlb_min(N, begin + 50), again);
    assert_memory_equal(mask, again, sizeof mask);
    problem = problem_of("hq2sq60sk1d3mask-buffer");
    op->fill(&problem, DLB_ATTENTION_MASK_BUFFER, DLB_FILL_DENSE, 1, 0, 120, mask);
    for (int i = 0; i < 120; i++)
        assert_true(mask[i] >= -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dims_follow_from_others),
        cmocka_unit_test(descriptors_are_shortest),
        cmocka_unit_test(wrong_dims_are_refused_by_name),
        cmocka_unit_test(flops_count_what_masks_let_through),
        cmocka_unit_test(operands_that_are_absent_have_no_elements),
        cmocka_unit_test(mask_fill_leaves_a_key_to_each_query),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
