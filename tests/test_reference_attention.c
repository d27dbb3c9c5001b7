/*
 * The plain definition of attention against results worked out by hand, its bound against
 * a plain implementation in float with and without errors made on purpose, and oneDNN
 * against the definition.
 */
#include "ops/attention.h"
#include "reference.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "operator_check.h"

static const struct dlb_reference *const reference = &dlb_reference_attention;

/* Operands of a problem and what the definition makes of them. */
struct fixture {
    struct dlb_problem problem;
    struct dlb_attention_shape s;
    struct dlb_tensor tensor[DLB_TENSORS_MAX];
    int64_t n[DLB_ATTENTION_TENSORS];
    float *data[DLB_ATTENTION_TENSORS];
    double *value[DLB_ATTENTION_TENSORS];
};

static struct fixture fixture_make(const char *descriptor, enum dlb_pass pass)
{
    struct fixture f = {.problem =
                            dlb_check_problem(&dlb_op_attention, descriptor, pass)};
    dlb_attention_shape_get(&f.problem, &f.s);
    assert_int_equal(dlb_op_attention.tensors(&f.problem, f.tensor),
                     DLB_ATTENTION_TENSORS);
    for (int t = 0; t < DLB_ATTENTION_TENSORS; t++) {
        f.n[t] = dlb_tensor_elements(&f.tensor[t]);
        f.data[t] = dlb_alloc((size_t)f.n[t] * sizeof(float));
        f.value[t] = malloc((size_t)(f.n[t] + 1) * sizeof(double));
        assert_true(f.data[t] && f.value[t]);
        memset(f.data[t], 0, (size_t)f.n[t] * sizeof(float));
    }
    return f;
}

static void fixture_release(struct fixture *f)
{
    for (int t = 0; t < DLB_ATTENTION_TENSORS; t++) {
        dlb_free(f->data[t]);
        free(f->value[t]);
    }
}

static void set(struct fixture *f, int t, const float *values)
{
    memcpy(f->data[t], values, (size_t)f->n[t] * sizeof *values);
}

static void define(struct fixture *f)
{
    dlb_check_define(reference, &f->problem, (void *const *)f->data, f->value);
}

/* Equal up to the rounding of doubles; NaN and infinities as themselves. */
static void expect(const struct fixture *f, int t, const double *expected)
{
    for (int64_t i = 0; i < f->n[t]; i++) {
        double value = f->value[t][i], wanted = expected[i];
        bool same = isnan(wanted)   ? isnan(value)
                    : isinf(wanted) ? value == wanted
                                    : fabs(value - wanted) <= 1e-14 * fabs(wanted);
        if (!same)
            fail_msg("%s[%lld] is %.17g, expected %.17g", f->tensor[t].name, (long long)i,
                     value, wanted);
    }
}

static void one_key_gives_its_value(void **state)
{
    (void)state;
    struct fixture f = fixture_make("mb2hq2hk1sq2sk1d3dv2", DLB_FWD);
    for (int64_t i = 0; i < f.n[DLB_ATTENTION_Q]; i++)
        f.data[DLB_ATTENTION_Q][i] = (float)(i % 5) - 2;
    set(&f, DLB_ATTENTION_K, (float[]){1, -2, 3, 5, 6, 7});
    set(&f, DLB_ATTENTION_V, (float[]){.1f, -4, 8, 9});
    define(&f);
    expect(&f, DLB_ATTENTION_DST,
           (double[]){.1f, -4, .1f, -4, .1f, -4, .1f, -4, 8, 9, 8, 9, 8, 9, 8, 9});
    fixture_release(&f);
}

static void two_keys_share_by_their_scores(void **state)
{
    (void)state;
    struct fixture f = fixture_make("mb1hq1sq2d4dv1", DLB_FWD_TRAIN);
    set(&f, DLB_ATTENTION_Q, (float[]){2, 0, 0, 0, 0, 1, 1, 0});
    set(&f, DLB_ATTENTION_K, (float[]){3, 1, 0, 0, 1, 0, 5, 0});
    set(&f, DLB_ATTENTION_V, (float[]){10, -30});
    define(&f);
    /* Scores 6, 2 and 1, 5, divided by 2. */
    double p = 1 / (1 + exp(-2));
    expect(&f, DLB_ATTENTION_DST,
           (double[]){10 * p - 30 * (1 - p), 10 * (1 - p) - 30 * p});
    expect(&f, DLB_ATTENTION_LOGSUM,
           (double[]){log(exp(3) + exp(1)), log(exp(.5) + exp(2.5))});
    fixture_release(&f);
}

/* With equal scores dst is the mean of the values that are seen. */
static void masks_hide_keys(void **state)
{
    (void)state;
    static const struct {
        const char *descriptor;
        double mean[3], logsum[3];
    } cases[] = {
        {"mb1hq1sq3sk3d1", {7. / 3, 7. / 3, 7. / 3}, {3, 3, 3}},
        {"mb1hq1sq2sk3d1mask-causal", {1, 1.5}, {1, 2}},
        {"mb1hq1sq2sk3d1mask-causal-end", {1.5, 7. / 3}, {2, 3}},
        {"mb1hq1sq3sk2d1mask-causal", {1, 1.5, 1.5}, {1, 2, 2}},
        {"mb1hq1sq3sk2d1mask-causal-end", {0, 1, 1.5}, {0, 1, 2}},
        {"mb1hq1sq3sk1d1mask-causal-end", {0, 0, 1}, {0, 0, 1}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fixture f = fixture_make(cases[i].descriptor, DLB_FWD_TRAIN);
        const float v[] = {1, 2, 4};
        double logsum[3];
        set(&f, DLB_ATTENTION_V, v);
        define(&f);
        expect(&f, DLB_ATTENTION_DST, cases[i].mean);
        for (int j = 0; j < 3; j++)
            logsum[j] = log(cases[i].logsum[j]);
        expect(&f, DLB_ATTENTION_LOGSUM, logsum);
        fixture_release(&f);
    }
}

static void a_mask_buffer_is_added_for_all_heads(void **state)
{
    (void)state;
    struct fixture f = fixture_make("mb2hq2sq2sk3d1mask-buffer", DLB_FWD_TRAIN);
    const float no = -INFINITY;
    set(&f, DLB_ATTENTION_MASK_BUFFER,
        (float[]){0, no, 0, no, no, no, 1, 0, no, no, no, -1e4f});
    set(&f, DLB_ATTENTION_V, (float[]){1, 10, 2, 20, 4, 40, 1, 3, 2, 5, 4, 7});
    define(&f);
    double p = 1 / (1 + exp(-1));
    expect(&f, DLB_ATTENTION_DST,
           (double[]){2.5, 25, 0, 0, p + 2 * (1 - p), 3 * p + 5 * (1 - p), 4, 7});
    expect(&f, DLB_ATTENTION_LOGSUM,
           (double[]){log(2), -INFINITY, log(2), -INFINITY, log(1 + exp(1)), -1e4,
                      log(1 + exp(1)), -1e4});
    fixture_release(&f);
}

static void query_heads_share_key_heads_in_groups(void **state)
{
    (void)state;
    struct fixture f = fixture_make("mb1hq6hk2sq1sk2d1", DLB_FWD);
    set(&f, DLB_ATTENTION_Q, (float[]){0, 1, -1, 0, 1, -1});
    set(&f, DLB_ATTENTION_K, (float[]){1, 2, 0, 0});
    set(&f, DLB_ATTENTION_V, (float[]){1, 10, 3, 50});
    define(&f);
    double p = 1 / (1 + exp(-1)), r = 1 / (1 + exp(-2));
    expect(&f, DLB_ATTENTION_DST,
           (double[]){2, p + 3 * (1 - p), 1 - p + 3 * p, 30, 10 * r + 50 * (1 - r),
                      10 * (1 - r) + 50 * r});
    fixture_release(&f);
}

static void large_scores_do_not_overflow(void **state)
{
    (void)state;
    static const float large[] = {89, 900, 1e30f};
    for (int i = 0; i < 3; i++) {
        struct fixture f = fixture_make("mb1hq1sq1sk2d1", DLB_FWD_TRAIN);
        set(&f, DLB_ATTENTION_Q, (float[]){1});
        set(&f, DLB_ATTENTION_K, (float[]){large[i], large[i] - 1});
        set(&f, DLB_ATTENTION_V, (float[]){1, 2});
        define(&f);
        double less = (double)(large[i] - 1) - large[i], p = 1 / (1 + exp(less));
        expect(&f, DLB_ATTENTION_DST, (double[]){p + 2 * (1 - p)});
        expect(&f, DLB_ATTENTION_LOGSUM, (double[]){large[i] + log(1 + exp(less))});
        fixture_release(&f);
    }
}

static void nan_and_infinity_reach_what_sees_them(void **state)
{
    (void)state;
    static const struct {
        int t, element;
        float value;
        double dst[3];
    } cases[] = {
        {DLB_ATTENTION_Q, 1, NAN, {1, NAN, 2}},
        {DLB_ATTENTION_Q, 1, INFINITY, {1, NAN, 2}},
        {DLB_ATTENTION_K, 2, NAN, {1, 1.5, NAN}},
        {DLB_ATTENTION_V, 1, NAN, {1, NAN, NAN}},
        {DLB_ATTENTION_V, 2, -INFINITY, {1, 1.5, -INFINITY}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fixture f = fixture_make("mb1hq1sq3d1mask-causal", DLB_FWD);
        set(&f, DLB_ATTENTION_V, (float[]){1, 2, 3});
        f.data[cases[i].t][cases[i].element] = cases[i].value;
        define(&f);
        expect(&f, DLB_ATTENTION_DST, cases[i].dst);
        fixture_release(&f);
    }
    /* An infinite score among finite ones. */
    struct fixture f = fixture_make("mb1hq1sq1sk2d1", DLB_FWD);
    set(&f, DLB_ATTENTION_Q, (float[]){1});
    set(&f, DLB_ATTENTION_K, (float[]){-INFINITY, 3});
    set(&f, DLB_ATTENTION_V, (float[]){5, 7});
    define(&f);
    expect(&f, DLB_ATTENTION_DST, (double[]){7});
    f.data[DLB_ATTENTION_K][0] = INFINITY;
    define(&f);
    expect(&f, DLB_ATTENTION_DST, (double[]){NAN});
    fixture_release(&f);
}

static void any_range_of_slices_gives_the_same(void **state)
{
    (void)state;
    struct fixture f = fixture_make("mb2hq2hk1sq3sk4d2mask-causal-end", DLB_FWD_TRAIN);
    assert_int_equal(reference->slices(&f.problem), 2 * 2 * 3);
    dlb_check_naive(reference, "mb2hq2hk1sq3sk4d2mask-causal-end", DLB_FWD_TRAIN);
    fixture_release(&f);
}

/* Attention in float as a beginner would write it, and errors to make on purpose. */
enum mistake {
    NONE,
    KEY_DROPPED,
    KEY_TOO_MANY, /* under a causal mask */
    NO_SCALE,
    NO_MAXIMUM,
    WRONG_HEAD,
    VALUE_SWAPPED,
    STALE_SUM, /* the sum of weights misses the last one */
    ROUGH_EXP, /* every other weight is 1e-5 too large */
};

static void float_row(const struct fixture *f, enum mistake mistake, int64_t n, int64_t h,
                      int64_t i, float *score)
{
    const struct dlb_attention_shape *s = &f->s;
    int64_t keys = dlb_attention_keys(s, i), group = h / s->group;
    keys += mistake == KEY_TOO_MANY && keys < s->sk;
    keys -= mistake == KEY_DROPPED && keys > 1;
    if (mistake == WRONG_HEAD)
        group = h % s->hk;
    const float *q = f->data[DLB_ATTENTION_Q] + ((n * s->sq + i) * s->hq + h) * s->d;
    float most = -INFINITY, total = 0;
    for (int64_t j = 0; j < keys; j++) {
        const float *k =
            f->data[DLB_ATTENTION_K] + ((n * s->sk + j) * s->hk + group) * s->d;
        float sum = 0;
        for (int64_t c = 0; c < s->d; c++)
            sum += q[c] * k[c];
        score[j] = mistake == NO_SCALE ? sum : sum * s->scale;
        if (s->mask == DLB_ATTENTION_BUFFER)
            score[j] += f->data[DLB_ATTENTION_MASK_BUFFER][(n * s->sq + i) * s->sk + j];
        most = fmaxf(most, score[j]);
    }
    for (int64_t j = 0; j < keys; j++) {
        score[j] = expf(score[j] - (mistake == NO_MAXIMUM ? 0 : most));
        if (mistake == ROUGH_EXP && j % 2)
            score[j] *= 1 + 1e-5f;
        total += mistake == STALE_SUM && j == keys - 1 && j ? 0 : score[j];
    }
    if (f->s.train)
        f->data[DLB_ATTENTION_LOGSUM][(n * s->hq + h) * s->sq + i] =
            keys ? most + logf(total) : most;
    float *dst = f->data[DLB_ATTENTION_DST] + ((n * s->sq + i) * s->hq + h) * s->dv;
    for (int64_t c = 0; c < s->dv; c++) {
        float sum = 0;
        for (int64_t j = 0; j < keys; j++) {
            int64_t from = mistake == VALUE_SWAPPED && j < 2 && keys > 1 ? 1 - j : j;
            sum += score[j] * f->data[DLB_ATTENTION_V]
                                     [((n * s->sk + from) * s->hk + group) * s->dv + c];
        }
        dst[c] = keys ? sum / total : 0;
    }
}

static void run_float(const struct fixture *f, enum mistake mistake)
{
    float *score = malloc((size_t)f->s.sk * sizeof *score);
    assert_non_null(score);
    for (int64_t n = 0; n < f->s.mb; n++)
        for (int64_t h = 0; h < f->s.hq; h++)
            for (int64_t i = 0; i < f->s.sq; i++)
                float_row(f, mistake, n, h, i, score);
    free(score);
}

static void fill_densely(struct fixture *f, uint64_t seed)
{
    for (int t = 0; t <= DLB_ATTENTION_MASK_BUFFER; t++) {
        double low = f->tensor[t].low, span = f->tensor[t].high - low;
        if (dlb_op_attention.fill(&f->problem, t, DLB_FILL_DENSE, seed, 0, f->n[t],
                                  f->data[t]))
            continue;
        for (int64_t i = 0; i < f->n[t]; i++)
            f->data[t][i] =
                (float)(low +
                        span * (double)(dlb_hash(seed + (uint64_t)t, (uint64_t)i) >> 11) *
                            0x1p-53);
    }
}

/* Elements of tensor t that are not within the bound of one implementation; *worst: the
 * largest error over its bound. */
static int64_t count_wrong(struct fixture *f, int t, double *worst)
{
    float *expected[DLB_ATTENTION_TENSORS], *magnitude, *bound;
    size_t bytes = (size_t)f->n[t] * sizeof(float);
    int64_t wrong = 0;
    float *v = f->data[DLB_ATTENTION_V];
    memcpy(expected, f->data, sizeof expected);
    magnitude = dlb_alloc(bytes);
    bound = dlb_alloc(bytes);
    expected[t] = dlb_alloc(bytes);
    float *absolute = dlb_alloc((size_t)f->n[DLB_ATTENTION_V] * sizeof(float));
    assert_true(magnitude && bound && expected[t] && absolute);
    for (int64_t i = 0; i < f->n[DLB_ATTENTION_V]; i++)
        absolute[i] = fabsf(v[i]);
    f->data[DLB_ATTENTION_V] = absolute;
    define(f);
    for (int64_t i = 0; i < f->n[t]; i++)
        magnitude[i] = (float)f->value[t][i];
    f->data[DLB_ATTENTION_V] = v;
    define(f);
    for (int64_t i = 0; i < f->n[t]; i++)
        expected[t][i] = (float)f->value[t][i];
    struct dlb_bound_call call = {.problem = &f->problem,
                                  .fill = DLB_FILL_DENSE,
                                  .tensor = (void *const *)expected,
                                  .t = t,
                                  .magnitude = magnitude,
                                  .end = f->n[t],
                                  .bound = bound};
    reference->bound(&call);
    *worst = 0;
    for (int64_t i = 0; i < f->n[t]; i++) {
        double error = fabs(f->data[t][i] - f->value[t][i]);
        if (f->data[t][i] == expected[t][i])
            error = fmin(error, 0); /* infinities */
        wrong += !(error <= bound[i]);
        if (bound[i] > 0)
            *worst = fmax(*worst, error / bound[i]);
    }
    dlb_free(magnitude);
    dlb_free(bound);
    dlb_free(expected[t]);
    dlb_free(absolute);
    return wrong;
}

static void bound_admits_plain_floats(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "mb1hq2sq40d1",
        "mb1hq2sq40sk2d3",
        "mb1hq2hk1sq30sk50d64",
        "mb1hq2sq40sk3d256",
        "mb1hq1sq8sk1000d80dv16",
        "mb1hq2sq50d128mask-causal",
        "mb2hq2sq20sk30d16mask-buffer",
        "mb1hq2sq20sk9d16mask-causal-end",
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (uint64_t seed = 1; seed < 4; seed++) {
            struct fixture f = fixture_make(cases[i], DLB_FWD_TRAIN);
            double worst;
            fill_densely(&f, seed);
            run_float(&f, NONE);
            for (int t = DLB_ATTENTION_DST; t <= DLB_ATTENTION_LOGSUM; t++) {
                int64_t wrong = count_wrong(&f, t, &worst);
                if (wrong)
                    fail_msg("%s: %lld elements of %s are beyond the bound, up to %.2f",
                             cases[i], (long long)wrong, f.tensor[t].name, worst);
            }
            fixture_release(&f);
        }
}

static void bound_finds_mistakes(void **state)
{
    (void)state;
    static const struct {
        enum mistake mistake;
        const char *name, *descriptor;
        float grow; /* of the queries */
    } cases[] = {
        {KEY_DROPPED, "a key dropped", "mb1hq2sq5sk300d64", 1},
        {KEY_TOO_MANY, "a key too many", "mb1hq2sq40sk300d64mask-causal", 1},
        {KEY_TOO_MANY, "a key too many", "mb1hq2sq40sk300d64mask-causal-end", 1},
        {NO_SCALE, "no scale", "mb1hq1sq3d2", 1},
        {NO_MAXIMUM, "no maximum", "mb1hq2sq30d64", 24},
        {WRONG_HEAD, "a wrong head", "mb1hq4hk2sq3d8", 1},
        {VALUE_SWAPPED, "values swapped", "mb1hq2sq20sk300d64", 1},
        {ROUGH_EXP, "a rough exp", "mb1hq2sq20sk2d1", 1},
        {ROUGH_EXP, "a rough exp", "mb1hq2sq20sk2d64", 1},
        {STALE_SUM, "a sum of weights without the last", "mb1hq2sq20sk300d64", 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fixture f = fixture_make(cases[i].descriptor, DLB_FWD_TRAIN);
        double worst;
        fill_densely(&f, 5);
        for (int64_t e = 0; e < f.n[DLB_ATTENTION_Q]; e++)
            f.data[DLB_ATTENTION_Q][e] *= cases[i].grow;
        run_float(&f, cases[i].mistake);
        int64_t wrong = count_wrong(&f, DLB_ATTENTION_DST, &worst);
        if (!wrong)
            fail_msg("%s: %s is within the bound (%.2f)", cases[i].descriptor,
                     cases[i].name, worst);
        fixture_release(&f);
    }
}

static const char *const awkward[] = {
    "mb1hq1sq1d1",
    "mb2hq3sq7sk5d8",
    "mb1hq2sq5sk11d64dv17",
    "mb2hq4hk2sq6sk9d16",
    "mb1hq7hk1sq3sk13d80",
    "mb2hq4hk1sq1sk37d64",
    "mb1hq2sq1sk129d128mask-causal-end",
    "mb1hq4hk2sq1sk33d64mask-causal-end",
    "mb1hq2sq13d80mask-causal",
    "mb2hq2sq7sk13d96mask-causal",
    "mb2hq2sq13sk7d24mask-causal",
    "mb2hq6hk2sq7sk13d128mask-causal-end",
    "mb2hq3sq12sk10d24mask-buffer",
    "mb2hq4hk2sq11sk17d40mask-buffer",
    "mb3hq2sq64sk128d64",
};
enum { AWKWARD = sizeof awkward / sizeof *awkward };

static void naive_plan_is_the_definition(void **state)
{
    (void)state;
    for (int i = 0; i < AWKWARD; i++)
        dlb_check_naive(reference, awkward[i],
                        i % 3 == 0   ? DLB_BWD
                        : i % 3 == 1 ? DLB_FWD_TRAIN
                                     : DLB_FWD);
    dlb_check_naive(reference, "mb1hq2sq9sk4d8mask-causal-end", DLB_FWD_TRAIN);
}

#ifdef DLBENCH_ONEDNN

static void onednn_agrees_with_the_definition(void **state)
{
    (void)state;
    for (int i = 0; i < AWKWARD; i++) {
        enum dlb_pass pass = i % 2 ? DLB_FWD_TRAIN : DLB_FWD;
        assert_in_range(dlb_check_onednn(reference, awkward[i], pass), 1, 4);
        assert_in_range(dlb_check_onednn(reference, awkward[i], DLB_BWD), 1, 2);
    }
}

/* Scores near where exp overflows. */
static void onednn_does_not_overflow(void **state)
{
    (void)state;
    struct fixture f = fixture_make("mb1hq1sq2sk3d1", DLB_FWD);
    struct dlb_plan *plan = NULL;
    set(&f, DLB_ATTENTION_Q, (float[]){1, -1});
    set(&f, DLB_ATTENTION_K, (float[]){90, 89, -1000});
    set(&f, DLB_ATTENTION_V, (float[]){1, 2, 4});
    define(&f);
    for (int i = 0; !reference->onednn(&f.problem, dlb_isa_best(), 1, i, &plan, NULL);
         i++) {
        dlb_check_run(plan, (void *const *)f.data);
        for (int64_t e = 0; e < f.n[DLB_ATTENTION_DST]; e++)
            assert_true(fabs(f.data[DLB_ATTENTION_DST][e] -
                             f.value[DLB_ATTENTION_DST][e]) <= 1e-6);
        dlb_plan_release(plan);
    }
    fixture_release(&f);
}

static void onednn_refuses_what_it_cannot_do(void **state)
{
    (void)state;
    struct dlb_plan *plan = NULL;
    struct dlb_error error = {""};
    struct dlb_problem p =
        dlb_check_problem(&dlb_op_attention, "mb1hq2sq5sk4d8mask-causal-end", DLB_FWD);
    assert_int_equal(reference->onednn(&p, dlb_isa_best(), 1, 0, &plan, &error),
                     DLB_UNSUPPORTED);
    assert_non_null(strstr(error.text, "sees no key"));
    p = dlb_check_problem(&dlb_op_attention, "mb1hq2sq5sk4d8", DLB_FWD);
    assert_int_equal(reference->onednn(&p, dlb_isa_best(), 1, 9, &plan, &error),
                     DLB_UNSUPPORTED);
    assert_non_null(strstr(error.text, "formulations"));
    assert_null(plan);
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_key_gives_its_value),
        cmocka_unit_test(two_keys_share_by_their_scores),
        cmocka_unit_test(masks_hide_keys),
        cmocka_unit_test(a_mask_buffer_is_added_for_all_heads),
        cmocka_unit_test(query_heads_share_key_heads_in_groups),
        cmocka_unit_test(large_scores_do_not_overflow),
        cmocka_unit_test(nan_and_infinity_reach_what_sees_them),
        cmocka_unit_test_teardown(any_range_of_slices_gives_the_same, dlb_check_close),
        cmocka_unit_test(bound_admits_plain_floats),
        cmocka_unit_test(bound_finds_mistakes),
        cmocka_unit_test_teardown(naive_plan_is_the_definition, dlb_check_close),
#ifdef DLBENCH_ONEDNN
        cmocka_unit_test_teardown(onednn_agrees_with_the_definition, dlb_check_close),
        cmocka_unit_test_teardown(onednn_does_not_overflow, dlb_check_close),
        cmocka_unit_test(onednn_refuses_what_it_cannot_do),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
