/*
 * Native pooling: every candidate of every usable ISA, on teams of 1 to 3, against the
 * definition; and what fills do not reach: NaN, infinities, windows of one value.
 */
#include "operator_check.h"
#include "ops/pooling.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const char *const problems[] = {
    "mb1ic1ih1kh1",                          /* sizes of 1 */
    "mb2ic7ih5iw9kh3kw2sh2sw3ph1pw1",        /* primes, below the vector */
    "mb1ic17ih8kh3sh2ph1",                   /* above it, asymmetric padding */
    "mb2ic64ih6iw5kh2kw2sh2sw2",             /* input left unused */
    "mb1ic69ih4kh4",                         /* global */
    "mb2ic40ih5kh3ph1",                      /* overlapping windows */
    "mb1ic16ih7iw6oh3ow2kh2kw3sh3sw4ph0pw1", /* strides beyond the kernel */
    "mb1ic9ih20kh17ph8sh5",                  /* more taps than a byte counts */
    "mb2ic16ih3kh5ph2",                      /* kernel larger than the input */
};
enum { PROBLEMS = sizeof problems / sizeof *problems };

/* Every problem as a maximum, and as one kind of average. */
static void candidates_agree(enum dlb_pass pass)
{
    static const char *const kinds[] = {"alg-avg", "alg-avgp"};
    for (int i = 0; i < PROBLEMS; i++) {
        char average[128];
        assert_true(dlb_check_native(&dlb_reference_pooling, problems[i], pass) > 0);
        strcat(strcpy(average, problems[i]), kinds[i % 2]);
        if (pass != DLB_FWD_TRAIN)
            assert_true(dlb_check_native(&dlb_reference_pooling, average, pass) > 0);
    }
}

static void inference_agrees_with_the_definition(void **state)
{
    (void)state;
    candidates_agree(DLB_FWD);
}

static void training_agrees_with_the_definition(void **state)
{
    (void)state;
    candidates_agree(DLB_FWD_TRAIN);
}

static void gradients_agree_with_the_definition(void **state)
{
    (void)state;
    candidates_agree(DLB_BWD);
}

static void bad_tiles_are_refused(void **state)
{
    static const enum dlb_pass passes[] = {DLB_FWD, DLB_FWD_TRAIN, DLB_BWD};
    (void)state;
    for (int i = 0; i < 3; i++)
        dlb_check_refusals(&dlb_op_pooling, "mb2ic64ih30kh3", passes[i]);
}

/* Windows of 2 x 2, one a pixel of dst, with awkward values, each in all positions. */
enum { CHANNELS = 21, WINDOWS = 6, ELEMENTS = 4 * WINDOWS * CHANNELS };
static const float windows[WINDOWS][4] = {
    {1, NAN, 3, 2},
    {NAN, 1, NAN, INFINITY},
    {-INFINITY, -INFINITY, -INFINITY, -INFINITY},
    {INFINITY, 0, -INFINITY, INFINITY},
    {-0.0f, 0, -1, 0},
    {5, 5, 5, 5},
};
static const float maxima[WINDOWS] = {NAN, NAN, -INFINITY, INFINITY, 0, 5};
static const int taps[WINDOWS] = {1, 0, 0, 0, 0, 0};

/* Channel c has each window turned by c. */
static int turned(int tap, int c)
{
    return (tap + c) % 4;
}

/* The first tap of the maximum in a window that is turned. */
static int first_of(int window, int c)
{
    for (int tap = 0; tap < 4; tap++) {
        float x = windows[window][(tap - c % 4 + 4) % 4];
        if (isnan(maxima[window]) ? isnan(x) : x == maxima[window])
            return tap;
    }
    return -1;
}

struct operands {
    float src[ELEMENTS], dst[ELEMENTS], third[ELEMENTS];
    void *tensor[DLB_TENSORS_MAX];
};

static void check_training(void *context, struct dlb_plan *plan, const char *what)
{
    struct operands *o = context;
    dlb_check_run(plan, o->tensor);
    for (int i = 0; i < WINDOWS * CHANNELS; i++) {
        const int window = i / CHANNELS, c = i % CHANNELS;
        const float wanted = maxima[window];
        if (isnan(wanted) ? !isnan(o->dst[i]) : o->dst[i] != wanted)
            fail_msg("%s: dst[%d] is %g", what, i, (double)o->dst[i]);
        if (o->third[i] != (float)first_of(window, c))
            fail_msg("%s: index[%d] is %g, expected %d", what, i, (double)o->third[i],
                     first_of(window, c));
    }
}

static void check_gradient(void *context, struct dlb_plan *plan, const char *what)
{
    struct operands *o = context;
    dlb_check_run(plan, o->tensor);
    for (int window = 0; window < WINDOWS; window++)
        for (int i = 0; i < 4 * CHANNELS; i++) {
            const int c = i % CHANNELS, tap = i / CHANNELS;
            const int at = (tap / 2 * 2 * WINDOWS + window * 2 + tap % 2) * CHANNELS + c;
            const float wanted = first_of(window, c) == tap ? 3 : 0;
            if (o->src[at] != wanted)
                fail_msg("%s: diff_src[%d] is %g, expected %g", what, at,
                         (double)o->src[at], (double)wanted);
        }
}

static void fill_windows(float *src)
{
    for (int window = 0; window < WINDOWS; window++)
        for (int tap = 0; tap < 4; tap++)
            for (int c = 0; c < CHANNELS; c++) {
                int to = turned(tap, c);
                src[(to / 2 * 2 * WINDOWS + window * 2 + to % 2) * CHANNELS + c] =
                    windows[window][tap];
            }
}

static void the_first_maximum_counts_and_nan_is_one(void **state)
{
    static _Alignas(DLB_ALIGN) struct operands o;
    (void)state;
    assert_true(taps[0] == first_of(0, 0) && taps[3] == first_of(3, 0));
    struct dlb_problem p =
        dlb_check_problem(&dlb_op_pooling, "mb1ic21ih2iw12kh2kw2sh2sw2", DLB_FWD_TRAIN);
    fill_windows(o.src);
    memcpy(o.tensor, (void *[]){o.src, o.dst, o.third}, 3 * sizeof(void *));
    dlb_check_each(&dlb_op_pooling, &p, check_training, &o);

    p.pass = DLB_BWD;
    memcpy(o.third, o.src, sizeof o.src);
    for (int i = 0; i < ELEMENTS; i++)
        o.dst[i] = 3;
    dlb_check_each(&dlb_op_pooling, &p, check_gradient, &o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(inference_agrees_with_the_definition, dlb_check_close),
        cmocka_unit_test_teardown(training_agrees_with_the_definition, dlb_check_close),
        cmocka_unit_test_teardown(gradients_agree_with_the_definition, dlb_check_close),
        cmocka_unit_test(bad_tiles_are_refused),
        cmocka_unit_test_teardown(the_first_maximum_counts_and_nan_is_one,
                                  dlb_check_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
