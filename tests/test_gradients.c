/*
 * Every backward pass's definition is the derivative of its forward pass's; and the
 * check itself, on an operator whose backward pass can be made wrong.
 */
#include "gradient_check.h"

#include "ops.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* Small problems that between them have all that an operator's backward passes have. */
static const struct {
    const char *op, *shape;
} shapes[] = {
    {"conv", "mb2ic3ih5iw6oc4kh3kw2sh2sw1ph1pw1bias1"},
    {"conv", "g2mb1ic4ih6iw7oc6kh2kw3sh3sw2ph1pw2dh1dw1bias1"},
    {"conv", "g5mb2ic5ih4oc5kh3ph1"},
    {"attention", "mb2hq2sq3sk4d5dv3"},
    {"attention", "mb1hq4hk2sq4sk3d2mask-causal"},
    {"attention", "mb1hq2hk1sq4sk3d2mask-causal-end"},
    {"attention", "mb2hq2sq3sk4d2mask-buffer"},
    {"softmax_xent", "mb3ic7"},
    {"softmax_xent", "mb2ic4loss-sum"},
    {"batchnorm", "mb2ic3ih3iw2"},
    {"batchnorm", "mb2ic3ih3iw2relu1"},
    {"batchnorm", "mb5ic2ih1scale0shift0relu1"},
    {"batchnorm", "mb3ic2ih2scale0"},
    {"batchnorm", "mb3ic2ih2shift0relu1"},
    {"linear", "mb3ic5oc7bias1"},
    {"lstm", "l2t3mb2dhc5init1"},
    {"lstm", "t2mb3slc3dhc4bias0dir-r2l"},
    {"lstm", "l2t2mb2dhc3dir-concatinit1"},
    {"lstm", "t3mb1slc2dhc3dir-sum"},
    {"gru", "l2t3mb2dhc5init1"},
    {"gru", "t2mb3slc3dhc4bias0dir-r2l"},
    {"gru", "t3mb2slc2dhc3dir-suminit1"},
    {"gru", "l2t3mb2dhc5init1lbr1"},
    {"gru", "t2mb3slc3dhc4bias0dir-r2llbr1"},
    {"gru", "l2t2mb2dhc3dir-concatinit1lbr1"},
    {"rnn", "l2t3mb2dhc5init1"},
    {"rnn", "t3mb2slc2dhc3dir-suminit1"},
    {"rnn", "t2mb2slc3dhc4bias0dir-r2linit1act-relu"},
    {"rnn", "l2t2mb1dhc5dir-concatact-relu"},
    {"pooling", "mb2ic3ih5iw6kh3kw2sh2sw1ph1pw1"},
    {"pooling", "mb1ic2ih6kh3sh2ph1alg-avg"},
    {"pooling", "mb1ic3ih4iw5kh2kw3ph1pw2alg-avgp"},
};

static bool has_backward(const struct dlb_op *op)
{
    return op->passes & (1u << DLB_BWD_DATA | 1u << DLB_BWD_WEIGHTS | 1u << DLB_BWD);
}

static void gradients_are_derivatives(void **state)
{
    (void)state;
    for (int i = 0; i < dlb_operators_n; i++) {
        const struct dlb_reference *reference = dlb_operators[i].reference;
        int checked = 0;
        for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++)
            for (int pass = DLB_BWD_DATA; pass <= DLB_BWD; pass++) {
                char text[256];
                if (strcmp(shapes[k].op, reference->op->name) ||
                    !(reference->op->passes & 1u << pass))
                    continue;
                if (!dlb_gradient_check(reference, shapes[k].shape, (enum dlb_pass)pass,
                                        text, sizeof text))
                    fail_msg("%s: %s", shapes[k].shape, text);
                checked++;
            }
        if (!checked && has_backward(reference->op))
            fail_msg("%s has a backward pass and no problem here", reference->op->name);
    }
}

/* y = x^2 w + max(x, 0), with n elements each. */
enum { X, W, Y, DIFF_X = Y, DIFF_Y, TOY_TENSORS };

static const struct dlb_dim_def toy_dims[] = {{"n", 1, 100, 7, "elements", NULL}};
static double toy_error; /* what is added to diff_x */

static enum dlb_status toy_complete(struct dlb_problem *problem, struct dlb_error *error)
{
    (void)error;
    if (problem->dim[0] == DLB_DIM_UNSET)
        problem->dim[0] = toy_dims[0].fallback;
    return DLB_OK;
}

static int toy_tensors(const struct dlb_problem *problem, struct dlb_tensor *tensor)
{
    bool forward = problem->pass == DLB_FWD;
    const char *names[] = {"x", "w", forward ? "y" : "diff_x", "diff_y"};
    for (int t = 0; t < TOY_TENSORS; t++)
        tensor[t] = (struct dlb_tensor){.name = names[t],
                                        .layout = "x",
                                        .role = t == Y ? DLB_OUTPUT : DLB_INPUT,
                                        .rank = 1,
                                        .dim = {problem->dim[0]}};
    return forward ? Y + 1 : TOY_TENSORS;
}

static int64_t toy_slices(const struct dlb_problem *problem)
{
    return problem->dim[0];
}

static void toy_define(const struct dlb_problem *problem, void *const *tensor,
                       int64_t begin, int64_t end, const struct dlb_sink *sink)
{
    const float *x = tensor[X], *w = tensor[W];
    for (int64_t i = begin; i < end; i++) {
        double square = (double)x[i] * x[i];
        if (problem->pass == DLB_FWD)
            sink->put(sink->context, Y, i, square * w[i] + (x[i] > 0 ? x[i] : 0));
        else
            sink->put(sink->context, DIFF_X, i,
                      ((const float *)tensor[DIFF_Y])[i] *
                              (2.0 * x[i] * w[i] + (x[i] > 0)) +
                          (i == 5 ? toy_error : 0));
    }
}

static void a_wrong_gradient_is_seen(void **state)
{
    const struct dlb_op op = {.name = "toy",
                              .dims = toy_dims,
                              .dims_n = 1,
                              .passes = 1u << DLB_FWD | 1u << DLB_BWD,
                              .complete = toy_complete,
                              .tensors = toy_tensors};
    const struct dlb_reference toy = {
        .op = &op, .slices = toy_slices, .define = toy_define};
    char text[256] = "";
    (void)state;
    toy_error = 0;
    if (!dlb_gradient_check(&toy, "n7", DLB_BWD, text, sizeof text))
        fail_msg("%s", text);
    toy_error = 1e-4;
    assert_false(dlb_gradient_check(&toy, "n7", DLB_BWD, text, sizeof text));
    assert_non_null(strstr(text, "toy bwd: diff_x[5] is "));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_are_derivatives),
        cmocka_unit_test(a_wrong_gradient_is_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
