/*
 * Native batchnorm: every candidate against the definition over the awkward shapes, and
 * what fills do not reach: variance 0, cancellation, NaN and infinity.
 */
#include "ops/batchnorm.h"
#include "reference.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "operator_check.h"

static const char *const cases[] = {
    "mb1ic1ih1",                        /* sizes of 1 */
    "mb1ic16ih1relu1",                  /* one element a channel */
    "mb7ic17ih1relu1",                  /* planes of one pixel, pairs over images */
    "mb12ic5ih1",                       /* and an even number of them */
    "mb2ic3ih5iw7relu1",                /* primes */
    "mb3ic7ih3scale0relu1",             /* below the vector */
    "mb2ic8ih4shift0",                  /* the vector itself */
    "mb2ic9ih4iw3scale0shift0relu1",    /* above it */
    "mb1ic15ih6relu1",                  /* below AVX-512's */
    "mb2ic17ih8iw9relu1",               /* above it */
    "mb2ic33ih7iw11relu1",              /* lines of channels, not whole; odd planes */
    "mb1ic64ih13iw5",                   /* blocks of channels */
    "mb2ic48ih6iw5relu1layout-nhwc",    /* either layout alone */
    "mb2ic40ih5iw5relu1layout-blocked", /* padded channels */
    "mb1ic16ih40iw30relu1",             /* many tiles */
};

static void candidates_agree(enum dlb_pass pass)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_true(dlb_check_native(&dlb_reference_batchnorm, cases[i], pass) > 0);
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

static void backward_agrees_with_the_definition(void **state)
{
    (void)state;
    candidates_agree(DLB_BWD);
}

static void bad_tiles_are_refused(void **state)
{
    (void)state;
    dlb_check_refusals(&dlb_op_batchnorm, "mb2ic64ih30", DLB_BWD);
    dlb_check_refusals(&dlb_op_batchnorm, "mb2ic64ih30", DLB_FWD_TRAIN);
    dlb_check_refusals(&dlb_op_batchnorm, "mb2ic64ih30", DLB_FWD);
}

/* Operands of one problem, outputs first as NaN. */
struct operands {
    struct dlb_problem problem;
    int tensors;
    struct dlb_tensor tensor[DLB_TENSORS_MAX];
    void *data[DLB_TENSORS_MAX];
    double *value[DLB_TENSORS_MAX]; /* by the definition */
};

static int64_t elements_of(const struct operands *o, int t)
{
    return dlb_tensor_elements(&o->tensor[t]);
}

static struct operands operands_make(const char *descriptor, enum dlb_pass pass)
{
    struct operands o = {.problem =
                             dlb_check_problem(&dlb_op_batchnorm, descriptor, pass)};
    o.tensors = dlb_op_batchnorm.tensors(&o.problem, o.tensor);
    for (int t = 0; t < o.tensors; t++) {
        int64_t n = elements_of(&o, t);
        float *data = o.data[t] = dlb_alloc((size_t)n * sizeof *data);
        o.value[t] = malloc((size_t)(n + 1) * sizeof **o.value);
        assert_true(data && o.value[t]);
        for (int64_t i = 0; i < n; i++)
            data[i] = dlb_role_written(o.tensor[t].role)
                          ? NAN
                          : (float)(dlb_hash((uint64_t)t, (uint64_t)i) >> 40) * 0x1p-24f;
    }
    return o;
}

static void operands_release(struct operands *o)
{
    for (int t = 0; t < o->tensors; t++) {
        dlb_free(o->data[t]);
        free(o->value[t]);
    }
}

static void check_each(struct operands *o,
                       void (*fn)(void *context, struct dlb_plan *plan, const char *what))
{
    dlb_check_define(&dlb_reference_batchnorm, &o->problem, o->data, o->value);
    dlb_check_each(&dlb_op_batchnorm, &o->problem, fn, o);
    operands_release(o);
}

static void check_constant(void *context, struct dlb_plan *plan, const char *what)
{
    struct operands *o = context;
    const float *dst = o->data[DLB_BATCHNORM_DST], *beta = o->data[DLB_BATCHNORM_BETA],
                *src = o->data[DLB_BATCHNORM_SRC], *mean = o->data[DLB_BATCHNORM_MEAN],
                *variance = o->data[DLB_BATCHNORM_VARIANCE];
    int64_t channels = elements_of(o, DLB_BATCHNORM_BETA);
    dlb_check_run(plan, o->data);
    for (int64_t i = 0; i < elements_of(o, DLB_BATCHNORM_DST); i++)
        if (dst[i] != beta[i % channels])
            fail_msg("%s: dst[%d] is %.9g, not beta", what, (int)i, (double)dst[i]);
    for (int64_t c = 0; c < channels; c++)
        if (variance[c] != 0 || mean[c] != src[c])
            fail_msg("%s: variance %.9g", what, (double)variance[c]);
}

/* A constant that has no short sum: the variance is 0 all the same. */
static void variance_0_gives_beta(void **state)
{
    (void)state;
    struct operands o = operands_make("mb3ic19ih8iw5", DLB_FWD_TRAIN);
    float *src = o.data[DLB_BATCHNORM_SRC];
    for (int64_t i = 0; i < elements_of(&o, DLB_BATCHNORM_SRC); i++)
        src[i] = (float)(1 << i % 19);
    check_each(&o, check_constant);
}

/* u (|mean| / deviation) of cancellation is in src itself; ten times that is not. */
static void check_cancellation(void *context, struct dlb_plan *plan, const char *what)
{
    struct operands *o = context;
    dlb_check_run(plan, o->data);
    for (int t = DLB_BATCHNORM_DST; t <= DLB_BATCHNORM_VARIANCE; t++) {
        const float *got = o->data[t];
        for (int64_t i = 0; i < elements_of(o, t); i++) {
            double expected = o->value[t][i];
            double bound = t == DLB_BATCHNORM_DST    ? 0.02
                           : t == DLB_BATCHNORM_MEAN ? 4e-7 * expected
                                                     : 1e-3 * expected;
            if (!(fabs(got[i] - expected) <= bound))
                fail_msg("%s: %s[%d] is %.9g, expected %.9g", what, o->tensor[t].name,
                         (int)i, (double)got[i], expected);
        }
    }
}

static void small_variance_survives_a_large_mean(void **state)
{
    (void)state;
    struct operands o = operands_make("mb2ic24ih17iw16", DLB_FWD_TRAIN);
    float *src = o.data[DLB_BATCHNORM_SRC];
    for (int64_t i = 0; i < elements_of(&o, DLB_BATCHNORM_SRC); i++)
        src[i] = 10000 + src[i];
    check_each(&o, check_cancellation);
}

static int first_written(const struct operands *o)
{
    int t = 0;
    while (!dlb_role_written(o->tensor[t].role))
        t++;
    return t;
}

static void check_nan(void *context, struct dlb_plan *plan, const char *what)
{
    struct operands *o = context;
    dlb_check_run(plan, o->data);
    for (int t = first_written(o); t < o->tensors; t++) {
        const float *got = o->data[t];
        for (int64_t i = 0; i < elements_of(o, t); i++) {
            double expected = o->value[t][i];
            /* Parts are joined by differences, so an infinite mean may become NaN. */
            bool same = isnan(expected)   ? isnan(got[i])
                        : isinf(expected) ? got[i] == expected ||
                                                (t > DLB_BATCHNORM_DST && isnan(got[i]))
                                          : fabs(got[i] - expected) < 1e-4;
            if (!same)
                fail_msg("%s: %s[%d] is %g, expected %g", what, o->tensor[t].name, (int)i,
                         (double)got[i], expected);
        }
    }
}

/* In training NaN and infinity fill their channel with NaN, and no other channel. */
static void nan_and_infinity_propagate(void **state)
{
    (void)state;
    static const enum dlb_pass passes[] = {DLB_FWD, DLB_FWD_TRAIN, DLB_BWD};
    for (int i = 0; i < 3; i++)
        for (int position = 0; position < 40; position += 13) {
            struct operands o = operands_make("mb1ic20ih8iw5relu1", passes[i]);
            float *src = o.data[DLB_BATCHNORM_SRC];
            src[position * 20 + 3] = NAN;
            src[position * 20 + 7] = INFINITY;
            src[position * 20 + 19] = -INFINITY;
            check_each(&o, check_nan);
        }
}

/* Teams of more threads than pools of tests have, on threads of its own. */
enum { TEAM = 6 };
struct player {
    struct dlb_team team;
    struct dlb_plan *plan;
    struct operands *operands;
};

static void *play(void *context)
{
    const struct player *player = context;
    struct dlb_plan *plan = player->plan;
    plan->class->bind(plan, player->operands->data, &player->team, NULL);
    plan->class->run(plan, &player->team);
    dlb_team_barrier(&player->team);
    plan->class->fetch(plan, &player->team, NULL);
    return NULL;
}

static void run_on_threads(struct operands *o, struct dlb_plan *plan)
{
    struct dlb_barrier barrier;
    struct player player[TEAM];
    pthread_t thread[TEAM];
    dlb_barrier_init(&barrier);
    for (int rank = 0; rank < plan->threads; rank++) {
        player[rank] = (struct player){{rank, plan->threads, &barrier}, plan, o};
        assert_int_equal(pthread_create(&thread[rank], NULL, play, &player[rank]), 0);
    }
    for (int rank = 0; rank < plan->threads; rank++)
        assert_int_equal(pthread_join(thread[rank], NULL), 0);
}

struct grids {
    struct operands *operands;
    struct dlb_target target;
    int run;
};

static bool check_grid(void *context, const struct dlb_candidate *candidate)
{
    struct grids *grids = context;
    struct operands *o = grids->operands;
    struct dlb_plan *plan = NULL;
    struct dlb_error error = {""};
    if (dlb_op_batchnorm.refuse(&o->problem, &grids->target, candidate))
        return true;
    if (dlb_op_batchnorm.plan(&o->problem, &grids->target, candidate, &plan, &error))
        fail_msg("%s", error.text);
    run_on_threads(o, plan);
    dlb_plan_release(plan);
    for (int t = first_written(o); t < o->tensors; t++) {
        float *got = o->data[t];
        for (int64_t i = 0; i < elements_of(o, t); i++) {
            if (!(fabs(got[i] - o->value[t][i]) < 1e-5 * fmax(8, fabs(o->value[t][i]))))
                fail_msg("%s[%d] is %.9g, expected %.9g with split %d, ic %d",
                         o->tensor[t].name, (int)i, (double)got[i], o->value[t][i],
                         candidate->tile[2], candidate->tile[1]);
            got[i] = NAN;
        }
    }
    grids->run++;
    return true;
}

/* Columns of the grid have different numbers of blocks, and meet the same barriers. */
static void grids_of_threads_agree(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        int threads = 4 + i / 2 * 2;
        struct operands o =
            operands_make("mb4ic75ih17iw9relu1", i % 2 ? DLB_BWD : DLB_FWD_TRAIN);
        struct grids grids = {&o, {dlb_isa_best(), threads, 2048, 8192, 8192}, 0};
        dlb_check_define(&dlb_reference_batchnorm, &o.problem, o.data, o.value);
        dlb_op_batchnorm.enumerate(&o.problem, &grids.target, check_grid, &grids);
        assert_true(grids.run > 0);
        operands_release(&o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(inference_agrees_with_the_definition, dlb_check_close),
        cmocka_unit_test_teardown(training_agrees_with_the_definition, dlb_check_close),
        cmocka_unit_test_teardown(backward_agrees_with_the_definition, dlb_check_close),
        cmocka_unit_test(bad_tiles_are_refused),
        cmocka_unit_test(grids_of_threads_agree),
        cmocka_unit_test_teardown(variance_0_gives_beta, dlb_check_close),
        cmocka_unit_test_teardown(small_variance_survives_a_large_mean, dlb_check_close),
        cmocka_unit_test_teardown(nan_and_infinity_propagate, dlb_check_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
