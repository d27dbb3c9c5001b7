/* Native convolution: every legal candidate of every usable ISA, on teams of 1 to 3,
 * against the plain definition. */
#include "operator_check.h"
#include "ops/conv.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const char *const problems[] = {
    /* 1x1, and all sizes 1 */
    "mb1ic1ih1oc1kh1",
    "mb3ic17ih5iw7oc33kh1kw1bias1relu1",
    "mb1ic70ih7oc64kh1relu1",
    "mb2ic16ih9oc80kh1sh2bias1",
    /* every other row only, or the last column left unused: not one matrix */
    "mb2ic5ih6iw6oc19kh1kw1sh2sw1",
    "mb2ic5ih6iw6oc19kh1kw1sw2",
    /* 3x3, channels about the vector lengths */
    "mb1ic64ih7oc64kh3ph1",
    "mb3ic3ih8iw13oc15kh3kw3ph1pw1bias1relu1",
    "mb1ic65ih5iw29oc17kh3kw3ph1pw1bias1",
    "mb1ic8ih11oc49kh3sh2ph1relu1",
    /* first layer */
    "mb2ic3ih23iw29oc33kh7kw7sh2sw2ph3pw3bias1relu1",
    /* dilation, stride remainders, uneven axes */
    "mb1ic5ih13iw11oc7kh3kw2sh2sw3ph2pw1dh1dw2bias1",
    "mb1ic4ih6iw17oc9kh1kw5pw4dw1relu1",
    /* asymmetric padding, and input left unused */
    "mb1ic6ih7iw7oc21oh8ow6kh3kw3ph1pw0",
    "mb1ic6ih9iw9oc5oh5ow4kh3kw3sh2sw2ph0pw1bias1",
    /* kernel larger than the input; outputs without any valid tap; narrow output */
    "mb1ic3ih2oc18kh5ph2bias1relu1",
    "mb1ic2ih1oc3kh3ph2dh1bias1",
    "mb2ic7ih9iw3oc11kh3kw3ph1",
    /* groups */
    "g2mb2ic6ih5oc10kh3ph1bias1relu1",
    "g3mb1ic51ih4iw6oc99kh3kw3ph1pw1",
    "g4mb1ic16ih6oc16kh1bias1",
    /* depthwise, and with a channel multiplier */
    "mb1ic1ih6oc1kh3ph1",
    "g19mb2ic19ih7iw9oc19kh3kw3ph1pw1bias1relu1",
    "g64mb1ic64ih14oc64kh3ph1relu1",
    "g37mb1ic37ih9iw11oc37kh3kw3sh2sw2ph1pw1bias1",
    "g80mb1ic80ih8iw8oc80kh5kw5sh2sw1ph2pw2",
    "g20mb1ic20ih7iw7oc20oh8ow6kh3kw3ph1pw0dh1dw1bias1",
    "g7mb1ic7ih2oc7kh7ph3bias1relu1",
    "g33mb1ic33ih5iw4oc33kh1kw1",
    "g6mb1ic6ih6iw5oc12kh3kw3ph1pw1",
};

/* Backward: each kind once, and what the phases of a stride and packing meet. */
static const char *const problems_backward[] = {
    "mb1ic1ih1oc1kh1",
    "mb3ic17ih5iw7oc33kh1kw1bias1relu1",
    "mb2ic16ih3oc80kh1bias1",
    /* strides that leave remainders of rows and columns without a tap, or some with fewer */
    "mb2ic5ih6iw6oc19kh1kw1sh2sw1",
    "mb2ic24ih5iw7oc16kh1kw1sh3sw2",
    "mb1ic9ih11oc17kh3sh2ph1bias1",
    "mb2ic3ih9iw11oc33kh7kw5sh2sw3ph3pw2bias1",
    "mb1ic7ih2iw9oc8kh1kw2sh5sw4",
    /* 3x3, channels about the vector lengths */
    "mb3ic3ih6iw7oc15kh3kw3ph1pw1bias1",
    "mb1ic13ih4iw14oc32kh3kw3ph1pw1",
    /* dilation with stride, common factors or none; uneven axes */
    "mb1ic5ih13iw11oc7kh3kw2sh2sw3ph2pw1dh1dw2bias1",
    "mb2ic4ih9iw10oc8kh3kw3sh2sw4ph1pw2dh2dw1",
    /* asymmetric padding, input left unused, kernels beyond the input, taps and pixels that
     * meet nothing */
    "mb1ic6ih7iw7oc21oh8ow6kh3kw3ph1pw0",
    "mb1ic6ih9iw9oc5oh5ow4kh3kw3sh2sw2ph0pw1bias1",
    "mb1ic3ih2oc18kh5ph2bias1",
    "mb1ic2ih1oc3kh2ph2dh3bias1",
    /* groups, depthwise, and with a channel multiplier */
    "g2mb2ic6ih5oc10kh3ph1bias1relu1",
    "g3mb1ic51ih4iw6oc99kh3kw3sh2sw2ph1pw1",
    "g1mb1ic1ih6oc1kh3ph1",
    "g19mb2ic19ih7iw9oc19kh3kw3ph1pw1bias1",
    "g37mb1ic37ih9iw11oc37kh3kw3sh2sw2ph1pw1bias1",
    "g32mb1ic32ih8iw8oc32kh5kw5sh2sw1ph2pw2",
    "g20mb1ic20ih7iw7oc20oh8ow6kh3kw3ph1pw0dh1dw1bias1",
    "g7mb1ic7ih2oc7kh7ph3bias1",
    "g6mb1ic6ih6iw5oc12kh3kw3ph1pw1",
};

static void every_candidate_equals_the_definition(void **state)
{
    (void)state;
    int run = 0;
    for (size_t i = 0; i < sizeof problems / sizeof *problems; i++)
        run += dlb_check_native(&dlb_reference_conv, problems[i], DLB_FWD);
    print_message("%d candidates\n", run);
}

static void every_backward_candidate_equals_the_definition(void **state)
{
    (void)state;
    for (int pass = DLB_BWD_DATA; pass <= DLB_BWD_WEIGHTS; pass++) {
        int run = 0;
        for (size_t i = 0; i < sizeof problems_backward / sizeof *problems_backward; i++)
            run += dlb_check_native(&dlb_reference_conv, problems_backward[i],
                                    (enum dlb_pass)pass);
        print_message("%s: %d candidates\n", dlb_pass_names[pass], run);
    }
}

enum { IMAGE = 6, CHANNELS_MAX = 21 };

struct operands {
    const struct dlb_problem *problem;
    float *dst;
    void *tensor[DLB_TENSORS_MAX];
};

static void check_nan(void *context, struct dlb_plan *plan, const char *what)
{
    const struct operands *o = context;
    int64_t oc = o->problem->dim[DLB_CONV_OC];
    dlb_check_run(plan, o->tensor);
    for (int64_t i = 0; i < IMAGE * IMAGE * oc; i++) {
        int64_t x = i / oc % IMAGE, y = i / oc / IMAGE;
        bool touched = x <= 1 && y <= 1;
        if (touched != isnan(o->dst[i]))
            fail_msg("%s: dst[%d] is %g", what, (int)i, (double)o->dst[i]);
    }
}

/* A NaN at one corner reaches the four outputs that read it, through ReLU, and no other.
 * An infinite weight of a tap meets no padding: inf * 0 would make a NaN. */
static void nan_passes_and_padding_is_not_multiplied(void **state)
{
    (void)state;
    static const char *const problems_of_nan[] = {
        "mb1ic17ih6oc21kh3ph1bias1relu1",
        "g21mb1ic21ih6oc21kh3ph1relu1",
    };
    static _Alignas(DLB_ALIGN) float src[IMAGE * IMAGE * CHANNELS_MAX],
        weights[CHANNELS_MAX * CHANNELS_MAX * 9], dst[IMAGE * IMAGE * CHANNELS_MAX],
        bias[CHANNELS_MAX];
    for (int i = 0; i < 2; i++) {
        struct dlb_problem problem =
            dlb_check_problem(&dlb_op_conv, problems_of_nan[i], DLB_FWD);
        struct operands o = {&problem, dst, {src, weights, dst, bias}};
        for (size_t k = 0; k < sizeof src / sizeof *src; k++)
            src[k] = 1;
        for (size_t k = 0; k < sizeof weights / sizeof *weights; k++)
            weights[k] = k % 9 == 0 ? INFINITY : 1;
        for (int64_t k = 0; k < problem.dim[DLB_CONV_IC]; k++)
            src[k] = NAN;
        dlb_check_each(&dlb_op_conv, &problem, check_nan, &o);
    }
}

static void check_nan_backward(void *context, struct dlb_plan *plan, const char *what)
{
    const struct operands *o = context;
    bool data = o->problem->pass == DLB_BWD_DATA;
    int64_t channels = data ? o->problem->dim[DLB_CONV_IC] : 1;
    int64_t columns = data ? IMAGE : 3, n = data ? IMAGE * IMAGE * channels : 9;
    dlb_check_run(plan, o->tensor);
    for (int64_t i = 0; i < n; i++) {
        int64_t x = i / channels % columns, y = i / channels / columns;
        bool touched = data ? x <= 1 && y <= 1 : x >= 1 && y >= 1;
        if (touched != isnan(o->dst[i]))
            fail_msg("%s: element %d is %g", what, (int)i, (double)o->dst[i]);
    }
}

/* A NaN at one corner of diff_dst reaches the four inputs, or the four taps of the first
 * kernel, that it meets, and no other: neither is multiplied by padding, nor is an infinite
 * weight. */
static void nan_passes_backward(void **state)
{
    (void)state;
    static const char *const shapes[] = {"mb1ic17ih6oc21kh3ph1",
                                         "g21mb1ic21ih6oc21kh3ph1"};
    static _Alignas(DLB_ALIGN) float diff_dst[IMAGE * IMAGE * CHANNELS_MAX],
        other[CHANNELS_MAX * CHANNELS_MAX * 9], result[CHANNELS_MAX * CHANNELS_MAX * 36];
    for (int i = 0; i < 4; i++) {
        bool data = i < 2;
        struct dlb_problem problem = dlb_check_problem(
            &dlb_op_conv, shapes[i % 2], data ? DLB_BWD_DATA : DLB_BWD_WEIGHTS);
        struct operands o = {
            &problem, result, {data ? result : other, data ? other : result, diff_dst}};
        for (size_t k = 0; k < sizeof diff_dst / sizeof *diff_dst; k++)
            diff_dst[k] = 1;
        for (size_t k = 0; k < sizeof other / sizeof *other; k++)
            other[k] = data && k % 9 == 8 ? INFINITY : 1;
        for (int64_t k = 0; k < problem.dim[DLB_CONV_OC]; k++)
            diff_dst[k] = NAN;
        dlb_check_each(&dlb_op_conv, &problem, check_nan_backward, &o);
    }
}

static void illegal_candidates_are_refused(void **state)
{
    (void)state;
    dlb_check_refusals(&dlb_op_conv, problems[5], DLB_FWD);
    dlb_check_refusals(&dlb_op_conv, problems_backward[5], DLB_BWD_DATA);
    dlb_check_refusals(&dlb_op_conv, problems_backward[5], DLB_BWD_WEIGHTS);
    dlb_check_refusals(&dlb_op_conv, problems_backward[19], DLB_BWD_WEIGHTS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(every_candidate_equals_the_definition, dlb_check_close),
        cmocka_unit_test_teardown(every_backward_candidate_equals_the_definition,
                                  dlb_check_close),
        cmocka_unit_test_teardown(nan_passes_and_padding_is_not_multiplied,
                                  dlb_check_close),
        cmocka_unit_test_teardown(nan_passes_backward, dlb_check_close),
        cmocka_unit_test(illegal_candidates_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
