/* Native LSTM, GRU and RNN: every legal candidate of every usable ISA, on teams of 1 to 3,
 * against the plain definition. */
#include "operator_check.h"
#include "ops/rnn.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Sizes around the vectors of all instruction sets, remainders everywhere; all directions
 * with and without what is optional. */
static const char *const problems[] = {
    "t1mb1slc1dhc1",
    "t2mb1slc3dhc2",
    "t3mb2slc5dhc7",
    "t2mb17slc9dhc15",
    "t5mb3slc4dhc16init1",
    "t4mb5slc13dhc17dir-r2l",
    "t1mb2slc11dhc33bias0init1",
    "l2t3mb3dhc9init1",
    "l3t2mb2dhc8bias0",
    "t3mb3slc6dhc5dir-concat",
    "l2t4mb2dhc19dir-concatinit1",
    "t3mb4slc7dhc11dir-sum",
    "l3t2mb3dhc10dir-sumbias0init1",
    "t9mb1slc31dhc24dir-r2linit1",
};

/* Training keeps gates, states and cells besides. */
static const char *const train_problems[] = {
    "t1mb1slc3dhc2",
    "t2mb5slc4dhc17init1",
    "l2t3mb3dhc9dir-r2l",
    "l2t2mb2dhc11dir-concatinit1",
    "l3t2mb3dhc10dir-sumbias0",
};

/* Deep enough to be cut, steps in several chunks, several panels and groups. */
static const char *const large_problems[] = {
    "t2mb9slc400dhc70",
    "t17mb1slc20dhc410dir-r2l",
};

/* Backward: chunks of steps, groups of panels, rows that are shared out. */
static const char *const back_problems[] = {
    "t1mb1slc1dhc1",
    "t2mb1slc3dhc2init1",
    "t3mb2slc5dhc7",
    "t2mb17slc9dhc15bias0",
    "t4mb5slc13dhc17dir-r2linit1",
    "l3t2mb2dhc8",
    "l2t3mb2dhc19dir-concatinit1",
    "t3mb3slc6dhc5dir-sum",
    "t40mb60slc3dhc5dir-r2linit1",
    "t3mb1slc33dhc70",
};

static int check_list(const struct dlb_reference *reference, const char *suffix,
                      const char *const *list, size_t n, enum dlb_pass pass)
{
    int run = 0;
    for (size_t i = 0; i < n; i++) {
        char descriptor[128];
        snprintf(descriptor, sizeof descriptor, "%s%s", list[i], suffix);
        run += dlb_check_native(reference, descriptor, pass);
    }
    return run;
}

#define CHECK(reference, suffix, list, pass)                                             \
    check_list(reference, suffix, list, sizeof list / sizeof *list, pass)

static void check_operator(const struct dlb_reference *reference, const char *suffix)
{
    /* What the vanilla RNN has of its own stands in fewer problems. */
    bool all = reference != &dlb_reference_rnn;
    int run = CHECK(reference, suffix, train_problems, DLB_FWD_TRAIN) +
              CHECK(reference, suffix, back_problems, DLB_BWD);
    if (all)
        run += CHECK(reference, suffix, problems, DLB_FWD) +
               CHECK(reference, suffix, large_problems, DLB_FWD);
    print_message("%d candidates\n", run);
}

static void lstm_equals_the_definition(void **state)
{
    (void)state;
    check_operator(&dlb_reference_lstm, "");
}

static void plain_gru_equals_the_definition(void **state)
{
    (void)state;
    check_operator(&dlb_reference_gru, "");
}

static void linear_gru_equals_the_definition(void **state)
{
    (void)state;
    check_operator(&dlb_reference_gru, "lbr1");
}

static void vanilla_rnn_equals_the_definition(void **state)
{
    (void)state;
    check_operator(&dlb_reference_rnn, "act-tanh");
}

/* The same but for the function: no need for every problem. */
static void rectified_rnn_equals_the_definition(void **state)
{
    static const char *const few[] = {"l2t4mb2dhc19dir-concatinit1", "t3mb5slc7dhc12"};
    (void)state;
    CHECK(&dlb_reference_rnn, "act-relu", few, DLB_FWD);
    CHECK(&dlb_reference_rnn, "act-relu", few, DLB_FWD_TRAIN);
    CHECK(&dlb_reference_rnn, "act-relu", few, DLB_BWD);
}

/* Operands of the caller's making and what the definition gives for them. */
struct operands {
    const struct dlb_op *op;
    void *tensor[DLB_TENSORS_MAX];
    double *expected[DLB_TENSORS_MAX];
    struct dlb_tensor tensors[DLB_TENSORS_MAX];
    int n;
};

static void operands_make(struct operands *o, const struct dlb_problem *problem)
{
    o->n = o->op->tensors(problem, o->tensors);
    uint32_t random = 1;
    for (int t = 0; t < o->n; t++) {
        int64_t n = dlb_tensor_elements(&o->tensors[t]);
        float *data = dlb_alloc((size_t)n * sizeof *data);
        o->expected[t] = calloc((size_t)n + 1, sizeof(double));
        assert_true(data && o->expected[t]);
        for (int64_t i = 0; i < n; i++) {
            random = random * 1664525 + 1013904223;
            data[i] = (float)(random >> 8) / (1 << 24) - 0.5f;
        }
        o->tensor[t] = data;
    }
}

static void operands_release(struct operands *o)
{
    for (int t = 0; t < o->n; t++) {
        dlb_free(o->tensor[t]);
        free(o->expected[t]);
    }
}

static void check_classes(void *context, struct dlb_plan *plan, const char *what)
{
    struct operands *o = context;
    dlb_check_run(plan, o->tensor);
    for (int t = 0; t < o->n; t++) {
        if (!dlb_role_written(o->tensors[t].role))
            continue;
        const float *got = o->tensor[t];
        for (int64_t i = 0; i < dlb_tensor_elements(&o->tensors[t]); i++) {
            double expected = o->expected[t][i], value = (double)got[i];
            bool same = isfinite(expected) ? fabs(value - expected) < 1e-5
                        : isnan(expected)  ? isnan(value)
                                           : value == expected;
            if (!same)
                fail_msg("%s: %s[%d] is %g, the definition says %g", what,
                         o->tensors[t].name, (int)i, value, expected);
        }
    }
}

/* NaN and infinities of one row and step go where the definition takes them: not to other
 * rows, not back in time, and an infinite sum saturates its gate. */
static void check_special_values(const struct dlb_reference *reference,
                                 const char *descriptor, enum dlb_pass pass)
{
    enum { SLC = 3, DHC = 11, MB = 4 };
    struct dlb_problem problem = dlb_check_problem(reference->op, descriptor, pass);
    struct operands o = {.op = reference->op};
    operands_make(&o, &problem);
    float *src = o.tensor[DLB_RNN_SRC], *state = o.tensor[DLB_RNN_SRC_ITER],
          *cell = o.tensor[DLB_RNN_SRC_ITER_C], *diff = o.tensor[DLB_RNN_DIFF_DST];
    src[(1 * MB + 1) * SLC + 2] = NAN;
    src[(0 * MB + 2) * SLC + 1] = INFINITY;
    src[(2 * MB + 2) * SLC] = -INFINITY;
    state[3 * DHC + DHC - 1] = NAN;
    if (reference == &dlb_reference_lstm)
        cell[0] = INFINITY;
    if (pass == DLB_BWD) {
        diff[(1 * MB + 0) * DHC + DHC - 1] = NAN;
        diff[(2 * MB + 3) * DHC] = INFINITY;
    }
    dlb_check_define(reference, &problem, o.tensor, o.expected);
    dlb_check_each(reference->op, &problem, check_classes, &o);
    operands_release(&o);
}

static void special_values_go_where_the_definition_takes_them(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        enum dlb_pass pass = i ? DLB_BWD : DLB_FWD_TRAIN;
        check_special_values(&dlb_reference_lstm, "t3mb4slc3dhc11init1", pass);
        check_special_values(&dlb_reference_gru, "t3mb4slc3dhc11init1lbr0", pass);
        check_special_values(&dlb_reference_gru, "t3mb4slc3dhc11init1lbr1", pass);
        check_special_values(&dlb_reference_rnn, "t3mb4slc3dhc11init1", pass);
        check_special_values(&dlb_reference_rnn, "t3mb4slc3dhc11init1act-relu", pass);
    }
}

static void illegal_candidates_are_refused(void **state)
{
    (void)state;
    dlb_check_refusals(&dlb_op_lstm, "t3mb2slc5dhc40", DLB_FWD);
    dlb_check_refusals(&dlb_op_gru, "t3mb2slc5dhc40", DLB_FWD);
    dlb_check_refusals(&dlb_op_gru, "t3mb2slc5dhc40", DLB_BWD);
    dlb_check_refusals(&dlb_op_rnn, "t3mb2slc5dhc40", DLB_BWD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(lstm_equals_the_definition, dlb_check_close),
        cmocka_unit_test_teardown(plain_gru_equals_the_definition, dlb_check_close),
        cmocka_unit_test_teardown(linear_gru_equals_the_definition, dlb_check_close),
        cmocka_unit_test_teardown(vanilla_rnn_equals_the_definition, dlb_check_close),
        cmocka_unit_test_teardown(rectified_rnn_equals_the_definition, dlb_check_close),
        cmocka_unit_test_teardown(special_values_go_where_the_definition_takes_them,
                                  dlb_check_close),
        cmocka_unit_test(illegal_candidates_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
