/*
 * The plain definitions of conv's backward passes against results worked out by hand, and
 * oneDNN and the naive plan against them over the awkward shapes.
 */
#include "operator_check.h"

#include "ops/conv.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MOST = 96 };

/* All tensors of a small problem, and what the definition makes of them. */
struct operands {
    struct dlb_problem problem;
    int tensors;
    struct dlb_tensor tensor[DLB_TENSORS_MAX];
    float data[DLB_TENSORS_MAX][MOST];
    double value[DLB_TENSORS_MAX][MOST];
};

static void open_operands(struct operands *o, const char *descriptor, enum dlb_pass pass)
{
    o->problem = dlb_check_problem(&dlb_op_conv, descriptor, pass);
    o->tensors = dlb_op_conv.tensors(&o->problem, o->tensor);
    for (int t = 0; t < o->tensors; t++) {
        assert_true(dlb_tensor_elements(&o->tensor[t]) <= MOST);
        for (int i = 0; i < MOST; i++) {
            o->data[t][i] = dlb_role_written(o->tensor[t].role) ? NAN : 1;
            o->value[t][i] = NAN;
        }
    }
}

static void set(struct operands *o, int t, const float *values)
{
    memcpy(o->data[t], values,
           (size_t)dlb_tensor_elements(&o->tensor[t]) * sizeof *values);
}

static void define(struct operands *o)
{
    void *data[DLB_TENSORS_MAX];
    double *value[DLB_TENSORS_MAX];
    for (int t = 0; t < o->tensors; t++) {
        data[t] = o->data[t];
        value[t] = o->value[t];
    }
    dlb_check_define(&dlb_reference_conv, &o->problem, data, value);
}

static void expect(const struct operands *o, int t, const double *values)
{
    for (int64_t i = 0; i < dlb_tensor_elements(&o->tensor[t]); i++)
        if (o->value[t][i] != values[i])
            fail_msg("%s[%d] is %g, expected %g", o->tensor[t].name, (int)i,
                     o->value[t][i], values[i]);
}

static void tensors_are_named_by_pass(void **state)
{
    (void)state;
    static const struct {
        enum dlb_pass pass;
        const char *name[4];
        int tensors, written;
    } passes[] = {
        {DLB_FWD, {"src", "weights", "dst", "bias"}, 4, 1},
        {DLB_BWD_DATA, {"diff_src", "weights", "diff_dst"}, 3, 1},
        {DLB_BWD_WEIGHTS, {"src", "diff_weights", "diff_dst", "diff_bias"}, 4, 2},
    };
    for (int i = 0; i < 3; i++) {
        struct operands o;
        int written = 0;
        open_operands(&o, "mb1ic1ih2oc1kh1bias1", passes[i].pass);
        assert_int_equal(o.tensors, passes[i].tensors);
        for (int t = 0; t < o.tensors; t++) {
            assert_string_equal(o.tensor[t].name, passes[i].name[t]);
            written += dlb_role_written(o.tensor[t].role);
        }
        assert_int_equal(written, passes[i].written);
    }
}

/* Each output hands its diff to the inputs under it, by the weight that joined them. */
static void data_is_scattered(void **state)
{
    (void)state;
    struct operands o;
    open_operands(&o, "mb1ic1oc1ih1iw4kh1kw3pw1sw2ow2", DLB_BWD_DATA);
    set(&o, DLB_CONV_WEIGHTS, (float[]){1, 10, 100});
    set(&o, DLB_CONV_DST, (float[]){2, 3});
    define(&o);
    expect(&o, DLB_CONV_SRC, (double[]){20, 203, 30, 300});
    /* A stride beyond the kernel leaves inputs without any. */
    open_operands(&o, "mb1ic1oc2ih1iw4kh1kw1sw3", DLB_BWD_DATA);
    set(&o, DLB_CONV_WEIGHTS, (float[]){1, 10});
    set(&o, DLB_CONV_DST, (float[]){2, 3, 4, 5});
    define(&o);
    expect(&o, DLB_CONV_SRC, (double[]){32, 0, 0, 54});
}

static void weights_are_correlated(void **state)
{
    (void)state;
    struct operands o;
    open_operands(&o, "mb2ic1oc1ih1iw3kh1kw3pw1bias1", DLB_BWD_WEIGHTS);
    set(&o, DLB_CONV_SRC, (float[]){1, 2, 3, 4, 5, 6});
    set(&o, DLB_CONV_DST, (float[]){1, 10, 100, 1000, 10000, 100000});
    define(&o);
    expect(&o, DLB_CONV_WEIGHTS, (double[]){540210, 654321, 65032});
    expect(&o, DLB_CONV_BIASES, (double[]){111111});
}

static void groups_are_apart(void **state)
{
    (void)state;
    struct operands o;
    open_operands(&o, "g2mb1ic4oc2ih1kh1", DLB_BWD_DATA);
    set(&o, DLB_CONV_WEIGHTS, (float[]){1, 2, 3, 4});
    set(&o, DLB_CONV_DST, (float[]){10, 100});
    define(&o);
    expect(&o, DLB_CONV_SRC, (double[]){10, 20, 300, 400});
    open_operands(&o, "g2mb1ic4oc2ih1kh1", DLB_BWD_WEIGHTS);
    set(&o, DLB_CONV_SRC, (float[]){1, 2, 3, 4});
    set(&o, DLB_CONV_DST, (float[]){10, 100});
    define(&o);
    expect(&o, DLB_CONV_WEIGHTS, (double[]){10, 20, 300, 400});
}

/* diff_dst is the gradient before the ReLU: whether there is one makes no difference. */
static void relu_is_not_in_it(void **state)
{
    (void)state;
    for (int pass = DLB_BWD_DATA; pass <= DLB_BWD_WEIGHTS; pass++) {
        static struct operands with, without;
        int written = pass == DLB_BWD_DATA ? DLB_CONV_SRC : DLB_CONV_WEIGHTS;
        open_operands(&with, "mb1ic1oc1ih4kh2relu1", (enum dlb_pass)pass);
        open_operands(&without, "mb1ic1oc1ih4kh2", (enum dlb_pass)pass);
        for (int i = 0; i < 9; i++)
            with.data[DLB_CONV_DST][i] = without.data[DLB_CONV_DST][i] = (float)(4 - i);
        define(&with);
        define(&without);
        expect(&with, written, without.value[written]);
    }
}

/* A tap outside the input takes no part: infinity times padding would be NaN. */
static void nan_and_infinity_reach_what_they_meet(void **state)
{
    (void)state;
    struct operands o;
    open_operands(&o, "mb1ic1oc1ih1iw3kh1kw3pw1", DLB_BWD_DATA);
    set(&o, DLB_CONV_WEIGHTS, (float[]){INFINITY, 1, 1});
    set(&o, DLB_CONV_DST, (float[]){1, 1, 1});
    define(&o);
    expect(&o, DLB_CONV_SRC, (double[]){INFINITY, INFINITY, 2});
    open_operands(&o, "mb1ic1oc1ih1iw3kh1kw3pw1", DLB_BWD_WEIGHTS);
    set(&o, DLB_CONV_SRC, (float[]){1, 2, 3});
    set(&o, DLB_CONV_DST, (float[]){NAN, 1, 1});
    define(&o);
    assert_true(o.value[DLB_CONV_WEIGHTS][0] == 1 + 2);
    assert_true(isnan(o.value[DLB_CONV_WEIGHTS][1]));
    assert_true(isnan(o.value[DLB_CONV_WEIGHTS][2]));
}

/* Each line is one idea, as for the forward pass. */
static const char *const cases[] = {
    "mb1ic1ih1oc1kh1",
    "mb2ic16ih7iw5oc32kh1kw1bias1",
    "mb1ic32ih8iw7oc16kh1kw1sh2sw2",
    "mb3ic7ih11iw13oc5kh3kw5ph1pw1bias1",
    "mb1ic15ih9oc17kh3ph1bias1relu1",
    "mb1ic3ih23oc16kh7sh2ph3bias1",
    "mb1ic8ih14iw13oc8kh3kw3sh3sw3ph1pw1",
    "mb1ic8ih14iw13oc8kh2kw2sh5sw5",
    "mb1ic16ih17iw19oc16kh3kw3sh2sw2ph2pw2dh2dw2bias1",
    "g4mb2ic32ih7oc16kh3ph1bias1",
    "g3mb1ic15ih7oc21kh3ph1bias1",
    "g16mb2ic16ih9oc16kh3ph1bias1",
    "g17mb1ic17ih9iw8oc17kh3kw3sh2sw2ph1pw1",
    "g5mb1ic5ih9oc10kh3ph1",
    "mb1ic16ih8oc16oh4kh3sh2ph0bias1",
    "mb1ic16ih9iw8oc16oh4ow4kh3kw3sh2sw2ph1pw1",
    "mb1ic16ih2iw3oc16kh5kw5ph2pw2bias1",
};
enum { CASES = sizeof cases / sizeof *cases };

static void naive_plan_is_the_definition(void **state)
{
    (void)state;
    for (int pass = DLB_BWD_DATA; pass <= DLB_BWD_WEIGHTS; pass++)
        for (int i = 0; i < CASES; i += 3)
            dlb_check_naive(&dlb_reference_conv, cases[i], (enum dlb_pass)pass);
}

static void onednn_agrees_with_the_definition(void **state)
{
    (void)state;
    for (int pass = DLB_BWD_DATA; pass <= DLB_BWD_WEIGHTS; pass++)
        for (int i = 0; i < CASES; i++) {
            int formulations =
                dlb_check_onednn(&dlb_reference_conv, cases[i], (enum dlb_pass)pass);
            if (dlb_onednn_version() && formulations != 2)
                fail_msg("%s %s: %d formulations of oneDNN", dlb_pass_names[pass],
                         cases[i], formulations);
        }
}

/* With nothing but ones, what is 0 is what nothing reaches. */
static void what_is_unreached_is_zero(void **state)
{
    (void)state;
    static const char *const some[] = {
        "mb2ic2ih5iw4oc2kh1kw1sh2sw3",
        "mb1ic2ih7iw2oc2kh2kw1sh3sw1dh1dw0",
        "mb1ic1ih2oc2kh5ph2",
        "mb1ic2ih1oc3kh2ph2dh3",
        "mb1ic1ih5oc2kh3ph1dh2",
        "mb2ic1ih3iw4oc2kh3kw3ph2pw2oh3ow5",
        "g2mb1ic2ih4oc4kh1kw3sh1sw2pw1iw6ow3",
    };
    static const enum dlb_pass passes[] = {DLB_FWD, DLB_BWD_DATA, DLB_BWD_WEIGHTS};
    for (size_t i = 0; i < sizeof some / sizeof *some; i++)
        for (int pass = 0; pass < 3; pass++) {
            static struct operands o;
            open_operands(&o, some[i], passes[pass]);
            define(&o);
            for (int t = 0; t < o.tensors; t++) {
                int zeros = 0;
                if (!dlb_role_written(o.tensor[t].role))
                    continue;
                for (int64_t k = 0; k < dlb_tensor_elements(&o.tensor[t]); k++)
                    zeros += o.value[t][k] == 0;
                if (zeros != dlb_op_conv.unreached(&o.problem, t))
                    fail_msg("%s: %d elements of %s are 0, %d unreached", some[i], zeros,
                             o.tensor[t].name, (int)dlb_op_conv.unreached(&o.problem, t));
            }
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_are_named_by_pass),
        cmocka_unit_test(data_is_scattered),
        cmocka_unit_test(weights_are_correlated),
        cmocka_unit_test(groups_are_apart),
        cmocka_unit_test(relu_is_not_in_it),
        cmocka_unit_test(nan_and_infinity_reach_what_they_meet),
        cmocka_unit_test(what_is_unreached_is_zero),
        cmocka_unit_test_teardown(naive_plan_is_the_definition, dlb_check_close),
        cmocka_unit_test_teardown(onednn_agrees_with_the_definition, dlb_check_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
