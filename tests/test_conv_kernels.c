/* Native convolution: every legal candidate of every usable ISA, on teams of 1 to 3,
 * against the plain definition. */
#include "ops/conv.h"

#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { GUARD = 64, TEAM_MAX = 3 };
static const float GUARD_VALUE = 54321;

/* oh, ow -1: derived. */
struct shape {
    int g, mb, ic, ih, iw, oc, oh, ow, kh, kw, sh, sw, ph, pw, dh, dw, bias, relu;
};

static const struct shape shapes[] = {
    /* 1x1, and all sizes 1 */
    {1, 1, 1, 1, 1, 1, -1, -1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0},
    {1, 3, 17, 5, 7, 33, -1, -1, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1},
    {1, 1, 70, 7, 7, 64, -1, -1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 1},
    {1, 2, 16, 9, 9, 80, -1, -1, 1, 1, 2, 2, 0, 0, 0, 0, 1, 0},
    /* every other row only, or the last column left unused: not one matrix */
    {1, 2, 5, 6, 6, 19, -1, -1, 1, 1, 2, 1, 0, 0, 0, 0, 0, 0},
    {1, 2, 5, 6, 6, 19, -1, -1, 1, 1, 1, 2, 0, 0, 0, 0, 0, 0},
    /* 3x3, channels about the vector lengths */
    {1, 1, 64, 7, 7, 64, -1, -1, 3, 3, 1, 1, 1, 1, 0, 0, 0, 0},
    {1, 3, 3, 8, 13, 15, -1, -1, 3, 3, 1, 1, 1, 1, 0, 0, 1, 1},
    {1, 1, 65, 5, 29, 17, -1, -1, 3, 3, 1, 1, 1, 1, 0, 0, 1, 0},
    {1, 1, 8, 11, 11, 49, -1, -1, 3, 3, 2, 2, 1, 1, 0, 0, 0, 1},
    /* first layer */
    {1, 2, 3, 23, 29, 33, -1, -1, 7, 7, 2, 2, 3, 3, 0, 0, 1, 1},
    /* dilation, stride remainders, uneven axes */
    {1, 1, 5, 13, 11, 7, -1, -1, 3, 2, 2, 3, 2, 1, 1, 2, 1, 0},
    {1, 1, 4, 6, 17, 9, -1, -1, 1, 5, 1, 1, 0, 4, 0, 1, 0, 1},
    /* asymmetric padding, and input left unused */
    {1, 1, 6, 7, 7, 21, 8, 6, 3, 3, 1, 1, 1, 0, 0, 0, 0, 0},
    {1, 1, 6, 9, 9, 5, 5, 4, 3, 3, 2, 2, 0, 1, 0, 0, 1, 0},
    /* kernel larger than the input; outputs without any valid tap; narrow output */
    {1, 1, 3, 2, 2, 18, -1, -1, 5, 5, 1, 1, 2, 2, 0, 0, 1, 1},
    {1, 1, 2, 1, 1, 3, -1, -1, 3, 3, 1, 1, 2, 2, 1, 1, 1, 0},
    {1, 2, 7, 9, 3, 11, -1, -1, 3, 3, 1, 1, 1, 0, 0, 0, 0, 0},
    /* groups */
    {2, 2, 6, 5, 5, 10, -1, -1, 3, 3, 1, 1, 1, 1, 0, 0, 1, 1},
    {3, 1, 51, 4, 6, 99, -1, -1, 3, 3, 1, 1, 1, 1, 0, 0, 0, 0},
    {4, 1, 16, 6, 6, 16, -1, -1, 1, 1, 1, 1, 0, 0, 0, 0, 1, 0},
    /* depthwise, and with a channel multiplier */
    {1, 1, 1, 6, 6, 1, -1, -1, 3, 3, 1, 1, 1, 1, 0, 0, 0, 0},
    {19, 2, 19, 7, 9, 19, -1, -1, 3, 3, 1, 1, 1, 1, 0, 0, 1, 1},
    {64, 1, 64, 14, 14, 64, -1, -1, 3, 3, 1, 1, 1, 1, 0, 0, 0, 1},
    {37, 1, 37, 9, 11, 37, -1, -1, 3, 3, 2, 2, 1, 1, 0, 0, 1, 0},
    {80, 1, 80, 8, 8, 80, -1, -1, 5, 5, 2, 1, 2, 2, 0, 0, 0, 0},
    {20, 1, 20, 7, 7, 20, 8, 6, 3, 3, 1, 1, 1, 0, 1, 1, 1, 0},
    {7, 1, 7, 2, 2, 7, -1, -1, 7, 7, 1, 1, 3, 3, 0, 0, 1, 1},
    {33, 1, 33, 5, 4, 33, -1, -1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0},
    {6, 1, 6, 6, 5, 12, -1, -1, 3, 3, 1, 1, 1, 1, 0, 0, 0, 0},
};

struct fixture {
    struct dlb_problem problem;
    struct dlb_tensor tensor[DLB_TENSORS_MAX];
    int tensors_n;
    float *memory[DLB_TENSORS_MAX]; /* with guards */
    void *pointer[DLB_TENSORS_MAX];
    size_t size[DLB_TENSORS_MAX];
    float *expected; /* dst of the exact fill */
    float *first;    /* dst of one thread, dense fill */
    struct dlb_target target;
    int candidates;
};

static void fixture_make(struct fixture *f, const struct shape *s)
{
    const int given[DLB_CONV_DIMS] = {s->g,  s->mb, s->ic, s->ih, s->iw,   s->oc,
                                      s->oh, s->ow, s->kh, s->kw, s->sh,   s->sw,
                                      s->ph, s->pw, s->dh, s->dw, s->bias, s->relu};
    *f = (struct fixture){0};
    for (int i = 0; i < DLB_CONV_DIMS; i++)
        f->problem.dim[i] = given[i] < 0 ? DLB_DIM_UNSET : given[i];
    struct dlb_error error;
    if (dlb_op_conv.complete(&f->problem, &error))
        fail_msg("%s", error.text);
    f->tensors_n = dlb_op_conv.tensors(&f->problem, f->tensor);
    for (int i = 0; i < f->tensors_n; i++) {
        f->size[i] = (size_t)dlb_tensor_elements(&f->tensor[i]);
        f->memory[i] = dlb_alloc((f->size[i] + 2 * GUARD) * sizeof(float));
        f->pointer[i] = f->memory[i] + GUARD;
        for (size_t k = 0; k < f->size[i] + 2 * GUARD; k++)
            f->memory[i][k] = GUARD_VALUE;
    }
    f->expected = dlb_alloc(f->size[DLB_CONV_DST] * sizeof(float));
    f->first = dlb_alloc(f->size[DLB_CONV_DST] * sizeof(float));
}

static void fixture_release(struct fixture *f)
{
    for (int i = 0; i < f->tensors_n; i++)
        dlb_free(f->memory[i]);
    dlb_free(f->expected);
    dlb_free(f->first);
}

static void fill(struct fixture *f, bool exact)
{
    unsigned state = 1;
    for (int i = 0; i < f->tensors_n; i++)
        for (size_t k = 0; k < f->size[i] && i != DLB_CONV_DST; k++) {
            state = state * 1664525u + 1013904223u;
            ((float *)f->pointer[i])[k] = exact ? (float)(int)(state >> 24) / 16 - 8
                                                : (float)(state >> 8) / (1 << 23) - 1;
            if (exact)
                ((float *)f->pointer[i])[k] = rintf(((float *)f->pointer[i])[k]);
        }
}

static void define(struct fixture *f)
{
    const int64_t *d = f->problem.dim;
    const float *src = f->pointer[DLB_CONV_SRC], *weights = f->pointer[DLB_CONV_WEIGHTS];
    int64_t icg = d[DLB_CONV_IC] / d[DLB_CONV_G], ocg = d[DLB_CONV_OC] / d[DLB_CONV_G];
    float *out = f->expected;
    for (int64_t n = 0; n < d[DLB_CONV_MB]; n++)
        for (int64_t y = 0; y < d[DLB_CONV_OH]; y++)
            for (int64_t x = 0; x < d[DLB_CONV_OW]; x++)
                for (int64_t o = 0; o < d[DLB_CONV_OC]; o++) {
                    double sum =
                        d[DLB_CONV_BIAS] ? ((float *)f->pointer[DLB_CONV_BIASES])[o] : 0;
                    for (int64_t kh = 0; kh < d[DLB_CONV_KH]; kh++)
                        for (int64_t kw = 0; kw < d[DLB_CONV_KW]; kw++) {
                            int64_t iy = y * d[DLB_CONV_SH] - d[DLB_CONV_PH] +
                                         kh * (d[DLB_CONV_DH] + 1);
                            int64_t ix = x * d[DLB_CONV_SW] - d[DLB_CONV_PW] +
                                         kw * (d[DLB_CONV_DW] + 1);
                            if (iy < 0 || iy >= d[DLB_CONV_IH] || ix < 0 ||
                                ix >= d[DLB_CONV_IW])
                                continue;
                            const float *a =
                                src +
                                ((n * d[DLB_CONV_IH] + iy) * d[DLB_CONV_IW] + ix) *
                                    d[DLB_CONV_IC] +
                                o / ocg * icg;
                            for (int64_t i = 0; i < icg; i++)
                                sum += (double)a[i] *
                                       weights[((o * icg + i) * d[DLB_CONV_KH] + kh) *
                                                   d[DLB_CONV_KW] +
                                               kw];
                        }
                    *out++ = (float)(d[DLB_CONV_RELU] && sum < 0 ? 0 : sum);
                }
}

static void describe(char *text, size_t size, const struct fixture *f,
                     const struct dlb_candidate *c)
{
    int n = snprintf(text, size, "%s %d threads", dlb_isa_name(f->target.isa),
                     f->target.threads);
    for (int i = 0; i < DLB_CONV_DIMS; i++)
        n += snprintf(text + n, size - (size_t)n, " %s%d", dlb_op_conv.dims[i].key,
                      (int)f->problem.dim[i]);
    n +=
        snprintf(text + n, size - (size_t)n, " %s", dlb_op_conv.algorithms[c->algorithm]);
    for (int i = 0; i < dlb_op_conv.tiles_n; i++)
        n += snprintf(text + n, size - (size_t)n, "/%s%d", dlb_op_conv.tiles[i].key,
                      c->tile[i]);
}

/* Plans, binds, runs twice, fetches; leaves dst. */
static void compute(struct fixture *f, const struct dlb_target *target,
                    const struct dlb_candidate *c)
{
    struct dlb_plan *plan = NULL;
    struct dlb_error error;
    char text[512];
    describe(text, sizeof text, f, c);
    if (dlb_op_conv.plan(&f->problem, target, c, &plan, &error))
        fail_msg("%s: %s", text, error.text);
    assert_int_equal(plan->threads, target->threads);
    assert_true(plan->class->spmd);
    float *dst = f->pointer[DLB_CONV_DST];
    for (size_t i = 0; i < f->size[DLB_CONV_DST]; i++)
        dst[i] = NAN;
    struct dlb_barrier barrier;
    dlb_barrier_init(&barrier);
    int formed = 0;
#pragma omp parallel num_threads(target->threads)
    {
        struct dlb_team team = {omp_get_thread_num(), omp_get_num_threads(), &barrier};
        if (team.rank == 0)
            formed = team.size;
        if (team.size == target->threads) {
            plan->class->bind(plan, f->pointer, &team, NULL);
            plan->class->run(plan, &team);
            dlb_team_barrier(&team);
            plan->class->run(plan, &team);
            dlb_team_barrier(&team);
            plan->class->fetch(plan, &team, NULL);
        }
    }
    assert_int_equal(formed, target->threads);
    dlb_plan_release(plan);
    for (int i = 0; i < f->tensors_n; i++)
        for (int k = 0; k < GUARD; k++)
            if (f->memory[i][k] != GUARD_VALUE ||
                f->memory[i][GUARD + f->size[i] + (size_t)k] != GUARD_VALUE)
                fail_msg("%s: guard of %s overwritten", text, f->tensor[i].name);
}

static bool check_candidate(void *context, const struct dlb_candidate *c)
{
    struct fixture *f = context;
    if (dlb_op_conv.refuse(&f->problem, &f->target, c))
        return true;
    f->candidates++;
    /* Teams multiply the work: each takes its own part of the candidates. */
    if (f->target.threads > 1 && f->candidates % (4 * f->target.threads) != 1)
        return true;
    char text[512];
    describe(text, sizeof text, f, c);
    const float *dst = f->pointer[DLB_CONV_DST];
    fill(f, true);
    compute(f, &f->target, c);
    for (size_t i = 0; i < f->size[DLB_CONV_DST]; i++)
        if (dst[i] != f->expected[i])
            fail_msg("%s: dst[%zu] is %g, not %g", text, i, (double)dst[i],
                     (double)f->expected[i]);
    struct dlb_rates none = {0};
    assert_true(dlb_op_conv.estimate(&f->problem, &f->target, &none, c) > 0);
    if (f->target.threads == 1)
        return true;
    struct dlb_target single = f->target;
    single.threads = 1;
    struct dlb_candidate alone = *c;
    for (int i = 0; i < dlb_op_conv.tiles_n; i++)
        if (!strcmp(dlb_op_conv.tiles[i].key, "split"))
            alone.tile[i] = 1;
    if (dlb_op_conv.refuse(&f->problem, &single, &alone))
        return true;
    fill(f, false);
    compute(f, &single, &alone);
    memcpy(f->first, dst, f->size[DLB_CONV_DST] * sizeof(float));
    compute(f, &f->target, c);
    if (memcmp(f->first, dst, f->size[DLB_CONV_DST] * sizeof(float)))
        fail_msg("%s: differs from one thread", text);
    return true;
}

static void test_all_candidates_equal_the_definition(void **state)
{
    (void)state;
    int candidates[DLB_ISA_COUNT] = {0};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct fixture f;
        fixture_make(&f, &shapes[i]);
        fill(&f, true);
        define(&f);
        for (int isa = 0; isa < DLB_ISA_COUNT; isa++)
            for (int threads = 1; threads <= TEAM_MAX && dlb_isa_usable(isa); threads++) {
                /* Small caches, so that blocks and streaming stores appear. */
                f.target = (struct dlb_target){isa, threads, 2048, 8192, 8192};
                f.candidates = 0;
                dlb_op_conv.enumerate(&f.problem, &f.target, check_candidate, &f);
                assert_true(f.candidates > 0);
                candidates[isa] += f.candidates;
                struct dlb_candidate fallback;
                dlb_op_conv.fallback(&f.problem, &f.target, &fallback);
                assert_null(dlb_op_conv.refuse(&f.problem, &f.target, &fallback));
            }
        fixture_release(&f);
    }
    for (int isa = 0; isa < DLB_ISA_COUNT; isa++)
        if (candidates[isa])
            print_message("%s: %d candidates\n", dlb_isa_name(isa), candidates[isa]);
}

static bool check_nan(void *context, const struct dlb_candidate *c)
{
    struct fixture *f = context;
    if (dlb_op_conv.refuse(&f->problem, &f->target, c))
        return true;
    compute(f, &f->target, c);
    const int64_t *d = f->problem.dim;
    const float *dst = f->pointer[DLB_CONV_DST];
    char text[512];
    describe(text, sizeof text, f, c);
    for (size_t i = 0; i < f->size[DLB_CONV_DST]; i++) {
        int64_t x = (int64_t)i / d[DLB_CONV_OC] % d[DLB_CONV_OW];
        int64_t y = (int64_t)i / d[DLB_CONV_OC] / d[DLB_CONV_OW];
        bool touched = x <= 1 && y <= 1, nan = isnan(dst[i]);
        if (touched != nan)
            fail_msg("%s: dst[%zu] is %g", text, i, (double)dst[i]);
    }
    return true;
}

/* A NaN at one corner reaches the four outputs that read it, through ReLU, and no other.
 * An infinite weight of a tap meets no padding: inf * 0 would make a NaN. */
static void test_nan_passes_and_padding_is_not_multiplied(void **state)
{
    (void)state;
    static const struct shape cases[] = {
        {1, 1, 17, 6, 6, 21, -1, -1, 3, 3, 1, 1, 1, 1, 0, 0, 1, 1},
        {21, 1, 21, 6, 6, 21, -1, -1, 3, 3, 1, 1, 1, 1, 0, 0, 0, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fixture f;
        fixture_make(&f, &cases[i]);
        float *src = f.pointer[DLB_CONV_SRC], *weights = f.pointer[DLB_CONV_WEIGHTS];
        for (size_t k = 0; k < f.size[DLB_CONV_SRC]; k++)
            src[k] = 1;
        for (size_t k = 0; k < f.size[DLB_CONV_WEIGHTS]; k++)
            weights[k] = k % 9 == 0 ? INFINITY : 1;
        for (size_t k = 0; k < (size_t)f.problem.dim[DLB_CONV_IC]; k++)
            src[k] = NAN;
        if (f.tensors_n > DLB_CONV_BIASES)
            memset(f.pointer[DLB_CONV_BIASES], 0, f.size[DLB_CONV_BIASES] * 4);
        for (int isa = 0; isa < DLB_ISA_COUNT; isa++)
            if (dlb_isa_usable(isa)) {
                f.target = (struct dlb_target){isa, 1, 2048, 8192, 8192};
                dlb_op_conv.enumerate(&f.problem, &f.target, check_nan, &f);
            }
        fixture_release(&f);
    }
}

static void test_illegal_candidates_are_refused(void **state)
{
    (void)state;
    struct fixture f;
    fixture_make(&f, &shapes[5]);
    f.target = (struct dlb_target){DLB_ISA_SCALAR, 1, 32768, 1 << 20, 1 << 20};
    struct dlb_candidate c, bad;
    dlb_op_conv.fallback(&f.problem, &f.target, &c);
    struct dlb_plan *plan = NULL;
    struct dlb_error error;
    for (int i = 0; i < dlb_op_conv.tiles_n; i++)
        for (int value = -1; value <= 1 << 20; value += (1 << 20) + 1) {
            bad = c;
            bad.tile[i] = value;
            assert_non_null(dlb_op_conv.refuse(&f.problem, &f.target, &bad));
            assert_int_equal(dlb_op_conv.plan(&f.problem, &f.target, &bad, &plan, &error),
                             DLB_UNSUPPORTED);
            assert_null(plan);
        }
    bad = c;
    bad.algorithm = dlb_op_conv.algorithms_n;
    assert_non_null(dlb_op_conv.refuse(&f.problem, &f.target, &bad));
    fixture_release(&f);
}

int main(void)
{
    omp_set_dynamic(0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_candidates_equal_the_definition),
        cmocka_unit_test(test_nan_passes_and_padding_is_not_multiplied),
        cmocka_unit_test(test_illegal_candidates_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
