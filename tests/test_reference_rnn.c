/*
 * LSTM, GRU and RNN: their problem side, the plain definition against results worked out by
 * hand and against its own symmetries, the bound against deliberate mistakes, and oneDNN
 * against the definition over the awkward shapes.
 *
 * The logarithms below make gates that are easy to follow: s(ln 3) = 3/4,
 * s(-ln 3) = 1/4, s(ln 9) = 9/10, tanh(ln 2) = 3/5, tanh(3/2 ln 2) = 7/9,
 * tanh(3 ln 2) = 63/65.
 */
#include "ops/rnn.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "operator_check.h"
#include "suite/descriptor.h"

static const double ln2 = 0.693147180559945309, ln3 = 1.098612288668109691;

/* A problem with its operands: inputs as floats, outputs in double. */
struct world {
    const struct dlb_reference *reference;
    struct dlb_problem problem;
    struct dlb_rnn_shape s;
    int tensors;
    struct dlb_tensor tensor[DLB_TENSORS_MAX];
    void *data[DLB_TENSORS_MAX];
    double *value[DLB_TENSORS_MAX];
};

static int64_t elements(const struct world *w, int t)
{
    return dlb_tensor_elements(&w->tensor[t]);
}

static struct world make(const struct dlb_reference *reference, const char *descriptor,
                         enum dlb_pass pass)
{
    struct world w = {.reference = reference,
                      .problem = dlb_check_problem(reference->op, descriptor, pass)};
    (reference == &dlb_reference_lstm  ? dlb_lstm_shape_get
     : reference == &dlb_reference_gru ? dlb_gru_shape_get
                                       : dlb_rnn_shape_get)(&w.problem, &w.s);
    w.tensors = reference->op->tensors(&w.problem, w.tensor);
    assert_int_equal(w.tensors, pass == DLB_BWD ? DLB_RNN_BWD_TENSORS : DLB_RNN_TENSORS);
    for (int t = 0; t < w.tensors; t++) {
        w.data[t] = calloc((size_t)elements(&w, t) + 1, sizeof(float));
        w.value[t] = malloc(((size_t)elements(&w, t) + 1) * sizeof(double));
        for (int64_t i = 0; i < elements(&w, t); i++)
            w.value[t][i] = NAN;
    }
    return w;
}

static void release(struct world *w)
{
    for (int t = 0; t < w->tensors; t++) {
        free(w->data[t]);
        free(w->value[t]);
    }
}

/* Every element of what is written must have been put. */
static void define(struct world *w)
{
    dlb_check_define(w->reference, &w->problem, w->data, w->value);
    for (int t = 0; t < w->tensors; t++)
        for (int64_t i = 0; dlb_role_written(w->tensor[t].role) && i < elements(w, t);
             i++)
            if (isnan(w->value[t][i]))
                fail_msg("%s[%lld] was not put", w->tensor[t].name, (long long)i);
}

static float *input(struct world *w, int t)
{
    return w->data[t];
}

static void set(struct world *w, int t, const double *values)
{
    for (int64_t i = 0; i < elements(w, t); i++)
        input(w, t)[i] = (float)values[i];
}

/* As the dense fill of the product does. */
static void fill(struct world *w)
{
    for (int t = 0; t < w->tensors; t++) {
        if (dlb_role_written(w->tensor[t].role))
            continue;
        bool own = w->tensor[t].high > 0;
        float low = own ? w->tensor[t].low : -1, high = own ? w->tensor[t].high : 1;
        for (int64_t i = 0; i < elements(w, t); i++)
            input(w, t)[i] =
                low +
                (high - low) *
                    ((float)(dlb_hash(7 + (uint64_t)t, (uint64_t)i) >> 40) * 0x1p-24f);
    }
}

static void near(const struct world *w, int t, const double *expected)
{
    for (int64_t i = 0; i < elements(w, t); i++)
        if (!(fabs(w->value[t][i] - expected[i]) < 1e-6))
            fail_msg("%s[%lld] is %.9g, expected %.9g", w->tensor[t].name, (long long)i,
                     w->value[t][i], expected[i]);
}

static void same(const double *a, const double *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        assert_true(a[i] == b[i]);
}

/* x = 2 and h = 1/2, so that input, state and bias give half, quarter and quarter. */
static void lstm_by_hand(void **state)
{
    (void)state;
    const double gate[4] = {ln3, -ln3, ln2, 2 * ln3};
    struct world w = make(&dlb_reference_lstm, "mb1dhc1init1", DLB_FWD_TRAIN);
    set(&w, DLB_RNN_SRC, (double[]){2});
    set(&w, DLB_RNN_SRC_ITER, (double[]){.5});
    set(&w, DLB_RNN_SRC_ITER_C, (double[]){.5});
    for (int g = 0; g < 4; g++) {
        input(&w, DLB_RNN_WEIGHTS_LAYER)[g] = (float)(gate[g] / 4);
        input(&w, DLB_RNN_WEIGHTS_ITER)[g] = (float)(gate[g] / 2);
        input(&w, DLB_RNN_BIASES)[g] = (float)(gate[g] / 4);
    }
    define(&w);
    const double c = .25 * .5 + .75 * .6, h = .9 * tanh(c);
    near(&w, DLB_RNN_DST, &h);
    near(&w, DLB_RNN_DST_ITER, &h);
    near(&w, DLB_RNN_DST_ITER_C, &c);
    near(&w, DLB_RNN_GATES, (double[]){.75, .25, .6, .9});
    near(&w, DLB_RNN_STATES, &h);
    near(&w, DLB_RNN_CELLS, &c);
    release(&w);
}

/* Two steps of one unit without bias and states: the second starts from the first. */
static void lstm_steps_by_hand(void **state)
{
    (void)state;
    struct world w = make(&dlb_reference_lstm, "t2mb1dhc1bias0", DLB_FWD);
    set(&w, DLB_RNN_SRC, (double[]){1, 0});
    set(&w, DLB_RNN_WEIGHTS_LAYER, (double[]){ln3, 0, ln2, 0});
    set(&w, DLB_RNN_WEIGHTS_ITER, (double[]){0, 0, 2, 1});
    define(&w);
    const double c0 = .75 * .6, h0 = .5 * tanh(c0);
    const double c1 = .5 * c0 + .5 * tanh(2 * h0), h1 = 1 / (1 + exp(-h0)) * tanh(c1);
    near(&w, DLB_RNN_DST, (double[]){h0, h1});
    near(&w, DLB_RNN_DST_ITER, &h1);
    near(&w, DLB_RNN_DST_ITER_C, &c1);
    release(&w);
}

static void gru_by_hand(void **state)
{
    (void)state;
    const double gate[2] = {ln3, -ln3};
    for (int lbr = 0; lbr < 2; lbr++) {
        struct world w = make(&dlb_reference_gru,
                              lbr ? "mb1dhc1init1lbr1" : "mb1dhc1init1", DLB_FWD_TRAIN);
        set(&w, DLB_RNN_SRC, (double[]){2});
        set(&w, DLB_RNN_SRC_ITER, (double[]){.5});
        for (int g = 0; g < 2; g++) {
            input(&w, DLB_RNN_WEIGHTS_LAYER)[g] = (float)(gate[g] / 4);
            input(&w, DLB_RNN_WEIGHTS_ITER)[g] = (float)(gate[g] / 2);
            input(&w, DLB_RNN_BIASES)[g] = (float)(gate[g] / 4);
        }
        /* ln 2 (1/2 + 1/4 + 1/4); with lbr 2 ln 2 more within the reset of 1/4. */
        input(&w, DLB_RNN_WEIGHTS_LAYER)[2] = (float)(ln2 / 4);
        input(&w, DLB_RNN_WEIGHTS_ITER)[2] = (float)(2 * ln2);
        input(&w, DLB_RNN_BIASES)[2] = (float)(ln2 / 4);
        if (lbr)
            input(&w, DLB_RNN_BIASES)[3] = (float)(2 * ln2);
        define(&w);
        const double g = lbr ? 7. / 9 : .6, h = .75 * .5 + .25 * g, product = 3 * ln2;
        near(&w, DLB_RNN_DST, &h);
        near(&w, DLB_RNN_DST_ITER, &h);
        near(&w, DLB_RNN_GATES, (double[]){.75, .25, g});
        near(&w, DLB_RNN_STATES, &h);
        near(&w, DLB_RNN_CELLS, &product);
        assert_int_equal(elements(&w, DLB_RNN_CELLS), lbr);
        release(&w);
    }
}

/* Each unit's candidate sees the other unit's state: the reset of the state differs from
 * that of the product. */
static void gru_resets_before_or_after_the_product(void **state)
{
    (void)state;
    for (int lbr = 0; lbr < 2; lbr++) {
        struct world w = make(&dlb_reference_gru,
                              lbr ? "mb1slc1dhc2init1lbr1" : "mb1slc1dhc2init1", DLB_FWD);
        set(&w, DLB_RNN_SRC_ITER, (double[]){.5, .25});
        input(&w, DLB_RNN_BIASES)[2] = (float)ln3;  /* reset of unit 0: 3/4 */
        input(&w, DLB_RNN_BIASES)[3] = (float)-ln3; /* of unit 1: 1/4 */
        input(&w, DLB_RNN_WEIGHTS_ITER)[6 + 4] = (float)(16 * ln2); /* of 1 for 0 */
        input(&w, DLB_RNN_WEIGHTS_ITER)[4 + 1] = (float)(8 * ln2);  /* of 0 for 1 */
        define(&w);
        const double g[2] = {lbr ? 63. / 65 : .6, lbr ? .6 : 63. / 65};
        near(&w, DLB_RNN_DST, (double[]){.25 + g[0] / 2, .125 + g[1] / 2});
        release(&w);
    }
}

/* One step back: the gates are those of lstm_by_hand, dh = 2 and dc = 1. */
static void lstm_backward_by_hand(void **state)
{
    (void)state;
    const double gate[4] = {ln3, -ln3, ln2, 2 * ln3};
    struct world w = make(&dlb_reference_lstm, "mb1dhc1init1", DLB_BWD);
    set(&w, DLB_RNN_SRC, (double[]){2});
    set(&w, DLB_RNN_SRC_ITER, (double[]){.5});
    set(&w, DLB_RNN_SRC_ITER_C, (double[]){.5});
    set(&w, DLB_RNN_DIFF_DST, (double[]){1.5});
    set(&w, DLB_RNN_DIFF_DST_ITER, (double[]){.5});
    set(&w, DLB_RNN_DIFF_DST_ITER_C, (double[]){1});
    for (int g = 0; g < 4; g++) {
        input(&w, DLB_RNN_WEIGHTS_LAYER)[g] = (float)(gate[g] / 4);
        input(&w, DLB_RNN_WEIGHTS_ITER)[g] = (float)(gate[g] / 2);
        input(&w, DLB_RNN_BIASES)[g] = (float)(gate[g] / 4);
    }
    define(&w);
    const double squashed = tanh(.25 * .5 + .75 * .6),
                 dc = 1 + 2 * .9 * (1 - squashed * squashed);
    const double sum[4] = {dc * .6 * .75 * .25, dc * .5 * .25 * .75, dc * .75 * (1 - .36),
                           2 * squashed * .9 * .1};
    double x = 0, h = 0, layer[4], iter[4];
    for (int g = 0; g < 4; g++) {
        x += sum[g] * gate[g] / 4;
        h += sum[g] * gate[g] / 2;
        layer[g] = 2 * sum[g];
        iter[g] = sum[g] / 2;
    }
    near(&w, DLB_RNN_DIFF_SRC, &x);
    near(&w, DLB_RNN_DIFF_SRC_ITER, &h);
    near(&w, DLB_RNN_DIFF_SRC_ITER_C, (double[]){dc * .25});
    near(&w, DLB_RNN_DIFF_WEIGHTS_LAYER, layer);
    near(&w, DLB_RNN_DIFF_WEIGHTS_ITER, iter);
    near(&w, DLB_RNN_DIFF_BIASES, sum);
    release(&w);
}

/* Two steps of one unit with weights of 1, forward and back. */
static void vanilla_by_hand(void **state)
{
    (void)state;
    for (int relu = 0; relu < 2; relu++) {
        const char *descriptor = relu ? "t2mb1dhc1bias0act-relu" : "t2mb1dhc1bias0";
        struct world w = make(&dlb_reference_rnn, descriptor, DLB_FWD_TRAIN),
                     back = make(&dlb_reference_rnn, descriptor, DLB_BWD);
        struct world *both[] = {&w, &back};
        for (int i = 0; i < 2; i++) {
            set(both[i], DLB_RNN_SRC, (double[]){.5, -1});
            set(both[i], DLB_RNN_WEIGHTS_LAYER, (double[]){1});
            set(both[i], DLB_RNN_WEIGHTS_ITER, (double[]){1});
        }
        set(&back, DLB_RNN_DIFF_DST, (double[]){1, 2});
        set(&back, DLB_RNN_DIFF_DST_ITER, (double[]){1});
        define(&w);
        define(&back);
        const double first = relu ? .5 : tanh(.5), second = relu ? 0 : tanh(first - 1);
        const double last = relu ? 0 : 3 * (1 - second * second),
                     before = (1 + last) * (relu ? 1 : 1 - first * first);
        near(&w, DLB_RNN_DST, (double[]){first, second});
        near(&w, DLB_RNN_STATES, (double[]){first, second});
        near(&w, DLB_RNN_DST_ITER, &second);
        assert_int_equal(elements(&w, DLB_RNN_GATES) + elements(&w, DLB_RNN_CELLS), 0);
        near(&back, DLB_RNN_DIFF_SRC, (double[]){before, last});
        near(&back, DLB_RNN_DIFF_WEIGHTS_LAYER, (double[]){.5 * before - last});
        near(&back, DLB_RNN_DIFF_WEIGHTS_ITER, (double[]){first * last});
        release(&w);
        release(&back);
    }
}

static const struct dlb_reference *const all[] = {&dlb_reference_lstm, &dlb_reference_gru,
                                                  &dlb_reference_rnn};
enum { OPERATORS = sizeof all / sizeof *all };

/* Backwards over a sequence is forwards over the reversed one. */
static void backwards_is_forwards_reversed(void **state)
{
    (void)state;
    for (int o = 0; o < OPERATORS; o++) {
        struct world l2r = make(all[o], "l2t3mb2dhc5init1", DLB_FWD_TRAIN);
        struct world r2l = make(all[o], "l2t3mb2dhc5init1dir-r2l", DLB_FWD_TRAIN);
        fill(&l2r);
        fill(&r2l);
        const int64_t step = 2 * 5;
        for (int64_t i = 0; i < 3 * step; i++)
            input(&r2l, DLB_RNN_SRC)[(2 - i / step) * step + i % step] =
                input(&l2r, DLB_RNN_SRC)[i];
        define(&l2r);
        define(&r2l);
        for (int64_t t = 0; t < 3; t++)
            same(l2r.value[DLB_RNN_DST] + t * step,
                 r2l.value[DLB_RNN_DST] + (2 - t) * step, step);
        for (int64_t lt = 0; lt < 6; lt++)
            same(l2r.value[DLB_RNN_STATES] + lt * step,
                 r2l.value[DLB_RNN_STATES] + (lt / 3 * 3 + 2 - lt % 3) * step, step);
        same(l2r.value[DLB_RNN_DST_ITER], r2l.value[DLB_RNN_DST_ITER], 2 * step);
        same(l2r.value[DLB_RNN_DST_ITER_C], r2l.value[DLB_RNN_DST_ITER_C],
             elements(&l2r, DLB_RNN_DST_ITER_C));
        /* The last layer's states are its output, the last of them the final ones. */
        same(l2r.value[DLB_RNN_STATES] + 3 * step, l2r.value[DLB_RNN_DST], 3 * step);
        same(l2r.value[DLB_RNN_DST_ITER] + step, l2r.value[DLB_RNN_DST] + 2 * step, step);
        same(r2l.value[DLB_RNN_DST_ITER] + step, r2l.value[DLB_RNN_DST], step);
        release(&l2r);
        release(&r2l);
    }
}

/* Takes direction d out of the operands of both. */
static void take_direction(const struct world *from, struct world *one, int64_t d)
{
    memcpy(one->data[DLB_RNN_SRC], from->data[DLB_RNN_SRC],
           (size_t)elements(one, DLB_RNN_SRC) * sizeof(float));
    for (int t = DLB_RNN_WEIGHTS_LAYER; t <= DLB_RNN_SRC_ITER_C; t++) {
        int64_t n = elements(one, t) / one->s.l;
        for (int64_t l = 0; n && l < one->s.l; l++)
            memcpy(input(one, t) + l * n, (float *)from->data[t] + (2 * l + d) * n,
                   (size_t)n * sizeof(float));
    }
}

static void two_directions_are_joined(void **state)
{
    (void)state;
    for (int o = 0; o < OPERATORS; o++) {
        struct world concat = make(all[o], "l2t3mb2dhc5init1dir-concat", DLB_FWD);
        struct world sum = make(all[o], "l2t3mb2dhc5init1dir-sum", DLB_FWD);
        struct world one[2] = {make(all[o], "l2t3mb2dhc5init1", DLB_FWD),
                               make(all[o], "l2t3mb2dhc5init1dir-r2l", DLB_FWD)};
        fill(&concat);
        fill(&sum);
        define(&concat);
        define(&sum);
        for (int d = 0; d < 2; d++) {
            take_direction(&concat, &one[d], d);
            define(&one[d]);
            for (int64_t ln = 0; ln < 2; ln++)
                same(one[d].value[DLB_RNN_DST_ITER] + ln * 10,
                     sum.value[DLB_RNN_DST_ITER] + (2 * ln + d) * 10, 10);
        }
        for (int64_t tn = 0; tn < 6; tn++)
            for (int64_t i = 0; i < 5; i++) {
                const double a = one[0].value[DLB_RNN_DST][tn * 5 + i],
                             b = one[1].value[DLB_RNN_DST][tn * 5 + i];
                assert_true(concat.value[DLB_RNN_DST][tn * 10 + i] == a);
                assert_true(concat.value[DLB_RNN_DST][tn * 10 + 5 + i] == b);
                assert_true(sum.value[DLB_RNN_DST][tn * 5 + i] == a + b);
            }
        release(&concat);
        release(&sum);
        release(&one[0]);
        release(&one[1]);
    }
}

/* A second layer reads what the first one makes, with weights of its own. */
static void layers_feed_each_other(void **state)
{
    (void)state;
    for (int o = 0; o < OPERATORS; o++) {
        struct world two = make(all[o], "l2t3mb2dhc5", DLB_FWD),
                     one = make(all[o], "t3mb2dhc5", DLB_FWD);
        fill(&two);
        define(&two);
        for (int l = 0; l < 2; l++) {
            for (int t = DLB_RNN_WEIGHTS_LAYER; t <= DLB_RNN_BIASES; t++)
                memcpy(one.data[t], input(&two, t) + l * elements(&one, t),
                       (size_t)elements(&one, t) * sizeof(float));
            for (int64_t i = 0; i < elements(&one, DLB_RNN_SRC); i++)
                input(&one, DLB_RNN_SRC)[i] =
                    l ? (float)one.value[DLB_RNN_DST][i] : input(&two, DLB_RNN_SRC)[i];
            define(&one);
        }
        near(&two, DLB_RNN_DST, one.value[DLB_RNN_DST]);
        release(&two);
        release(&one);
    }
}

/* A slice puts its own row and no other; a NaN reaches that row from its step on. */
static void rows_are_independent(void **state)
{
    (void)state;
    for (int o = 0; o < OPERATORS; o++) {
        struct world w = make(all[o], "t3mb3dhc5", DLB_FWD);
        double *dst = w.value[DLB_RNN_DST];
        fill(&w);
        assert_int_equal(all[o]->slices(&w.problem), 3);
        input(&w, DLB_RNN_SRC)[(1 * 3 + 1) * 5 + 2] = NAN;
        dlb_check_define(all[o], &w.problem, w.data, w.value);
        for (int64_t i = 0; i < 3 * 3 * 5; i++)
            assert_int_equal(isnan(dst[i]) != 0, i / 15 >= 1 && i / 5 % 3 == 1);
        release(&w);
    }
}

/* Backward slice 0 puts what the rows share, slice 1 + n row n, and all of them all. */
static void backward_slices_are_independent(void **state)
{
    static const char descriptor[] = "t3mb3slc4dhc4init1";
    (void)state;
    for (int o = 0; o < OPERATORS; o++) {
        struct world whole = make(all[o], descriptor, DLB_BWD);
        fill(&whole);
        define(&whole);
        for (int64_t slice = 0; slice < all[o]->slices(&whole.problem); slice++) {
            struct world part = make(all[o], descriptor, DLB_BWD);
            fill(&part);
            dlb_check_define_slice(all[o], &part.problem, part.data, part.value, slice);
            for (int t = DLB_RNN_DIFF_SRC; t < DLB_RNN_BWD_TENSORS; t++) {
                bool shared = t >= DLB_RNN_DIFF_WEIGHTS_LAYER && t <= DLB_RNN_DIFF_BIASES;
                for (int64_t i = 0; i < elements(&part, t); i++) {
                    bool mine = shared ? slice == 0 : i / 4 % 3 == slice - 1;
                    double value = part.value[t][i];
                    assert_true(mine ? value == whole.value[t][i] : isnan(value));
                }
            }
            release(&part);
        }
        release(&whole);
    }
}

/* Of a single step from zero states nothing else is 0. */
static void what_is_unreached_is_zero(void **state)
{
    static const char *const some[] = {"mb3slc4dhc5", "l2mb2dhc4dir-concat",
                                       "mb2slc3dhc4bias0", "mb2dhc4init1", "t2mb2dhc4"};
    (void)state;
    for (int o = 0; o < OPERATORS; o++)
        for (size_t i = 0; i < 2 * sizeof some / sizeof *some; i++) {
            bool lbr = i % 2 && all[o] == &dlb_reference_gru;
            char descriptor[64];
            snprintf(descriptor, sizeof descriptor, "%s%s", some[i / 2],
                     lbr ? "lbr1" : "");
            struct world w = make(all[o], descriptor, DLB_BWD);
            fill(&w);
            define(&w);
            for (int t = DLB_RNN_DIFF_INPUTS; t < w.tensors; t++) {
                int64_t zeros = 0, known = all[o]->op->unreached(&w.problem, t);
                for (int64_t k = 0; k < elements(&w, t); k++)
                    zeros += w.value[t][k] == 0;
                if (zeros != known)
                    fail_msg("%s %s: %lld elements of %s are 0, %lld unreached",
                             all[o]->op->name, descriptor, (long long)zeros,
                             w.tensor[t].name, (long long)known);
            }
            release(&w);
        }
}

/*
 * Mistakes that a kernel may make, made in the operands of the definition.  Each must be
 * beyond what is allowed against oneDNN: twice the bound.
 */
static void double_a_weight(struct world *w)
{
    const int64_t row = w->s.gates * w->s.dhc;
    input(w, DLB_RNN_WEIGHTS_ITER)[w->s.dhc / 2 * row + w->s.dhc / 3] *= 2;
}

static void drop_an_input_weight(struct world *w)
{
    input(w, DLB_RNN_WEIGHTS_LAYER)[elements(w, DLB_RNN_WEIGHTS_LAYER) - 1] = 0;
}

static void forget_a_bias(struct world *w)
{
    input(w, DLB_RNN_BIASES)[w->s.dhc - 1] = 0;
}

/* The first gate with the last. */
static void swap_gates(struct world *w)
{
    const int64_t dhc = w->s.dhc, last = (w->s.gates - 1) * dhc;
    for (int t = DLB_RNN_WEIGHTS_LAYER; t <= DLB_RNN_WEIGHTS_ITER; t++)
        for (int64_t i = 0; i < elements(w, t); i++)
            if (i % (w->s.gates * dhc) < dhc) {
                float keep = input(w, t)[i];
                input(w, t)[i] = input(w, t)[i + last];
                input(w, t)[i + last] = keep;
            }
}

/* The input of one step is that of the one before. */
static void repeat_an_input(struct world *w)
{
    const int64_t step = w->s.mb * w->s.slc;
    float *src = input(w, DLB_RNN_SRC);
    memcpy(src + step, src, (size_t)step * sizeof *src);
}

static void start_from_zeros(struct world *w)
{
    memset(w->data[DLB_RNN_SRC_ITER], 0,
           (size_t)elements(w, DLB_RNN_SRC_ITER) * sizeof(float));
}

/* Of the backward pass: what comes in at one place of one step, and at the end. */
static void drop_a_gradient(struct world *w)
{
    input(w, DLB_RNN_DIFF_DST)[elements(w, DLB_RNN_DIFF_DST) / 2] = 0;
}

static void forget_the_last_gradient(struct world *w)
{
    memset(w->data[DLB_RNN_DIFF_DST_ITER], 0,
           (size_t)elements(w, DLB_RNN_DIFF_DST_ITER) * sizeof(float));
}

static const struct {
    const char *name;
    void (*make)(struct world *w);
} mistakes[] = {
    {"a doubled weight", double_a_weight},
    {"a dropped weight", drop_an_input_weight},
    {"a forgotten bias", forget_a_bias},
    {"swapped gates", swap_gates},
    {"a repeated input", repeat_an_input},
    {"forgotten states", start_from_zeros},
    {"a dropped gradient", drop_a_gradient},
    {"no last gradient", forget_the_last_gradient},
};

/* The largest error as a part of twice the bound. */
static double worst(const struct world *right, const struct world *wrong)
{
    double most = 0;
    void *expected[DLB_TENSORS_MAX];
    memcpy(expected, right->data, sizeof expected);
    for (int t = 0; t < right->tensors; t++) {
        int64_t n = elements(right, t);
        if (right->tensor[t].role != DLB_OUTPUT)
            continue;
        float *bound = malloc(((size_t)n + 1) * sizeof *bound);
        for (int64_t i = 0; i < n; i++)
            ((float *)right->data[t])[i] = (float)right->value[t][i];
        right->reference->bound(&(struct dlb_bound_call){.problem = &right->problem,
                                                         .fill = DLB_FILL_DENSE,
                                                         .tensor = expected,
                                                         .t = t,
                                                         .end = n,
                                                         .bound = bound});
        for (int64_t i = 0; i < n; i++)
            most = fmax(most,
                        fabs(wrong->value[t][i] - right->value[t][i]) / (2 * bound[i]));
        free(bound);
    }
    return most;
}

/* Whether a mistake means something for this problem. */
static bool applies(const struct world *w, void (*mistake)(struct world *))
{
    bool backward = mistake == drop_a_gradient || mistake == forget_the_last_gradient;
    return !(mistake == repeat_an_input && w->s.t == 1) &&
           !(mistake == swap_gates && w->s.gates == 1) && (w->s.back || !backward);
}

static void show_mistakes(const struct dlb_reference *reference, const char *descriptor,
                          enum dlb_pass pass)
{
    struct world right = make(reference, descriptor, pass);
    fill(&right);
    define(&right);
    for (size_t m = 0; m < sizeof mistakes / sizeof *mistakes; m++) {
        if (!applies(&right, mistakes[m].make))
            continue;
        struct world wrong = make(reference, descriptor, pass);
        fill(&wrong);
        mistakes[m].make(&wrong);
        define(&wrong);
        if (!(worst(&right, &wrong) > 1))
            fail_msg("%s %s %s: %s is not seen", reference->op->name,
                     dlb_pass_names[pass], descriptor, mistakes[m].name);
        release(&wrong);
    }
    release(&right);
}

static void bound_shows_mistakes(void **state)
{
    (void)state;
    static const char *const descriptors[] = {
        "t1mb1dhc7init1",   "t50mb2dhc16init1",       "t3mb2slc700dhc16init1",
        "t4mb4dhc256init1", "t6mb2dhc33init1dir-r2l", "l3t9mb2dhc24init1",
    };
    for (int o = 0; o < OPERATORS; o++)
        for (size_t i = 0; i < sizeof descriptors / sizeof *descriptors; i++) {
            show_mistakes(all[o], descriptors[i], DLB_FWD);
            /* That one again is a matter of seconds. */
            if (i != 3)
                show_mistakes(all[o], descriptors[i], DLB_BWD);
        }
}

/* 4 ceil(log2(9 * 25)) = 32; 5 sigma of sums of 4096: 4096 / (3 sqrt(1024)) = 42.7. */
static void bound_by_hand(void **state)
{
    (void)state;
    static const struct {
        const char *descriptor;
        double expected[2], bound[2];
    } rows[] = {
        {"t25mb1dhc2", {0, -.5}, {32, 32}},
        {"t25mb1dhc2dir-sum", {0, -1.5}, {64, 96}},
        {"t25mb1dhc1024slc3072", {.9, -2}, {128 / 3., 256 / 3.}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct dlb_problem problem =
            dlb_check_problem(&dlb_op_lstm, rows[i].descriptor, DLB_FWD);
        float expected[] = {(float)rows[i].expected[0], (float)rows[i].expected[1]};
        float bound[2] = {0};
        void *tensor[DLB_TENSORS_MAX] = {[DLB_RNN_DST] = expected};
        dlb_reference_lstm.bound(&(struct dlb_bound_call){.problem = &problem,
                                                          .fill = DLB_FILL_DENSE,
                                                          .tensor = tensor,
                                                          .t = DLB_RNN_DST,
                                                          .end = 2,
                                                          .bound = bound});
        for (int j = 0; j < 2; j++)
            assert_true(fabs(bound[j] / 0x1p-23 - rows[i].bound[j]) < 1e-4);
    }
}

static void refuse(const struct dlb_op *op, const char *descriptor, const char *words)
{
    struct dlb_problem problem = {0};
    struct dlb_error error = {""};
    char name[DLB_NAME_MAX];
    assert_int_equal(dlb_descriptor_parse(op, descriptor, &problem, name, &error),
                     DLB_INVALID);
    assert_int_equal(error.text[strlen(error.text) - 1], '.');
    if (!strstr(error.text, words))
        fail_msg("no '%s' in: %s", words, error.text);
}

static void problems_are_completed(void **state)
{
    (void)state;
    static const struct {
        const struct dlb_op *op;
        const char *given, *written;
        double flops;
    } rows[] = {
        {&dlb_op_lstm, "dhc8", "dhc8", 2. * 2 * 32 * 16},
        {&dlb_op_lstm, "sic8", "dhc8", 2. * 2 * 32 * 16},
        {&dlb_op_lstm, "l1t50mb16sic512slc512dhc512dlc512", "t50mb16dhc512",
         2. * 50 * 16 * 2048 * 1024},
        {&dlb_op_lstm, "slc3dhc8bias0init1", "slc3dhc8bias0init1", 2. * 2 * 32 * 11},
        {&dlb_op_lstm, "l2dhc8dlc16_dir-concat_bias1", "l2dhc8dir-concat",
         2. * 2 * 2 * 2 * 32 * 16},
        {&dlb_op_gru, "t3mb2dhc8dir-sumlbr1", "t3dhc8dir-sumlbr1",
         2. * 2 * 3 * 2 * 24 * 16},
        {&dlb_op_gru, "dhc8dir-r2llbr0", "dhc8dir-r2l", 2. * 2 * 24 * 16},
        {&dlb_op_rnn, "t3dhc8act-tanh", "t3dhc8", 2. * 3 * 2 * 8 * 16},
        {&dlb_op_rnn, "sic8slc3act-relu", "slc3dhc8act-relu", 2. * 2 * 8 * 11},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[DLB_SHAPE_MAX];
        struct dlb_problem problem =
            dlb_check_problem(rows[i].op, rows[i].given, DLB_FWD);
        dlb_descriptor_format(rows[i].op, &problem, text);
        assert_string_equal(text, rows[i].written);
        assert_true(rows[i].op->flops(&problem) == rows[i].flops);
        struct dlb_problem again = dlb_check_problem(rows[i].op, text, DLB_FWD);
        assert_memory_equal(again.dim, problem.dim, sizeof again.dim);
    }
    refuse(&dlb_op_lstm, "t5", "write for example dhc512");
    refuse(&dlb_op_lstm, "sic7dhc8", "sic8, or none");
    refuse(&dlb_op_lstm, "dhc8dlc16", "accepted: dlc8");
    refuse(&dlb_op_lstm, "dhc8dlc8dir-concat", "accepted: dlc16");
    refuse(&dlb_op_gru, "l2slc7dhc8", "slc8, or l1");
    refuse(&dlb_op_gru, "dhc8t0", "t0");
    refuse(&dlb_op_gru, "dhc8bias2", "bias2");
    refuse(&dlb_op_lstm, "dhc8lbr1", "lbr");
    refuse(&dlb_op_rnn, "dhc8lbr1", "lbr");
    refuse(&dlb_op_rnn, "dhc8act-sigmoid", "tanh, relu");
    refuse(&dlb_op_lstm, "dhc16000000", "2^40");
}

/* What a problem goes without keeps its position and has no elements. */
static void tensors_are_absent_or_whole(void **state)
{
    (void)state;
    static const struct {
        const struct dlb_reference *reference;
        const char *descriptor;
        enum dlb_pass pass;
        int64_t elements[DLB_RNN_BWD_TENSORS];
    } rows[] = {
        {&dlb_reference_lstm,
         "t3mb2slc5dhc7bias0",
         DLB_FWD,
         {30, 140, 196, 0, 0, 0, 42, 14, 14, 0, 0, 0}},
        {&dlb_reference_lstm,
         "l2t3mb2dhc7init1dir-concat",
         DLB_FWD_TRAIN,
         {42, 784, 784, 112, 56, 56, 84, 56, 56, 672, 168, 168}},
        {&dlb_reference_gru,
         "t3mb2dhc7init1",
         DLB_FWD_TRAIN,
         {42, 147, 147, 21, 14, 0, 42, 14, 0, 126, 42, 0}},
        {&dlb_reference_gru,
         "t3mb2dhc7lbr1dir-sum",
         DLB_FWD_TRAIN,
         {42, 294, 294, 56, 0, 0, 42, 28, 0, 252, 84, 84}},
        {&dlb_reference_rnn,
         "t3mb2dhc7",
         DLB_FWD_TRAIN,
         {42, 49, 49, 7, 0, 0, 42, 14, 0, 0, 42, 0}},
        {&dlb_reference_lstm,
         "t3mb2slc5dhc7init1",
         DLB_BWD,
         {30, 140, 196, 28, 14, 14, 42, 14, 14, 30, 140, 196, 28, 14, 14}},
        {&dlb_reference_gru,
         "t3mb2dhc7lbr1dir-concat",
         DLB_BWD,
         {42, 294, 294, 56, 0, 0, 84, 28, 0, 42, 294, 294, 56, 0, 0}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct world w = make(rows[i].reference, rows[i].descriptor, rows[i].pass);
        double bytes = 0;
        for (int t = 0; t < w.tensors; t++) {
            assert_int_equal(elements(&w, t), rows[i].elements[t]);
            assert_int_equal(strlen(w.tensor[t].layout), w.tensor[t].rank);
            bytes += 4. * (double)rows[i].elements[t];
        }
        assert_true(w.reference->op->bytes(&w.problem) == bytes);
        assert_true(fabs(w.tensor[DLB_RNN_WEIGHTS_ITER].high - 1 / sqrt(7)) < 1e-6);
        release(&w);
    }
}

/* With the operator's own fill every sum of the forward pass is a float, so that no sign
 * hangs by a rounding; and few of them are zero or negative. */
static void relu_sums_are_exact(void **state)
{
    static const char *const descriptors[] = {
        "t5mb3slc600dhc16act-relu", "t50mb4dhc33init1act-relu", "l4t9mb2dhc24act-relu",
        "t3mb2slc1dhc5bias0act-relu"};
    (void)state;
    for (size_t i = 0; i < sizeof descriptors / sizeof *descriptors; i++) {
        struct world w = make(&dlb_reference_rnn, descriptors[i], DLB_FWD_TRAIN);
        int64_t zeros = 0, n = elements(&w, DLB_RNN_STATES);
        for (int t = 0; t < DLB_RNN_DST; t++)
            assert_true(dlb_op_rnn.fill(&w.problem, t, DLB_FILL_DENSE, (uint64_t)t, 0,
                                        elements(&w, t), w.data[t]) ||
                        t == DLB_RNN_SRC_ITER_C);
        define(&w);
        for (int64_t k = 0; k < n; k++) {
            double h = w.value[DLB_RNN_STATES][k];
            assert_true(h == (float)h);
            zeros += h == 0;
        }
        assert_true((double)zeros < .3 * (double)n);
        release(&w);
    }
    struct world tanh = make(&dlb_reference_rnn, "dhc3", DLB_FWD);
    assert_false(
        dlb_op_rnn.fill(&tanh.problem, 0, DLB_FILL_DENSE, 0, 0, 1, tanh.data[0]));
    release(&tanh);
}

/* Each line is one idea, for all operators; gru also with lbr, rnn with relu. */
static const char *const awkward[] = {
    "mb1dhc1",                        /* of ones */
    "t3mb1dhc1init1bias0",            /* */
    "t1mb3slc5dhc7",                  /* one step, primes */
    "t2mb5slc13dhc11init1",           /* */
    "t7mb3slc1dhc17",                 /* one input, more than a vector */
    "t4mb2slc31dhc15bias0",           /* less than a vector, no bias */
    "t5mb4dhc32dir-r2l",              /* */
    "t3mb2slc9dhc8dir-r2linit1bias0", /* */
    "t4mb3slc5dhc19dir-concat",       /* */
    "t4mb3slc5dhc19dir-suminit1",     /* */
    "l2t3mb2dhc13init1",              /* */
    "l3t2mb3dhc9dir-r2linit1bias0",   /* */
    "l2t5mb2dhc16dir-concatinit1",    /* */
    "l3t3mb2dhc6dir-sum",             /* */
    "t2mb17dhc64",                    /* more rows than a register tile */
    "t3mb2slc130dhc96",               /* blocks of the reduction */
    "t2mb2slc600dhc16",               /* inputs much wider than states */
};
enum { AWKWARD = sizeof awkward / sizeof *awkward };
static const enum dlb_pass passes[] = {DLB_FWD, DLB_FWD_TRAIN, DLB_BWD};
enum { PASSES = sizeof passes / sizeof *passes };

static void naive_plan_is_the_definition(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++)
        for (int o = 0; o < OPERATORS; o++)
            dlb_check_naive(all[o], awkward[3 + 3 * i], passes[i % PASSES]);
}

#ifdef DLBENCH_ONEDNN

static void check_onednn(const struct dlb_reference *reference, const char *descriptor)
{
    for (int p = 0; p < PASSES; p++)
        assert_int_equal(dlb_check_onednn(reference, descriptor, passes[p]),
                         passes[p] == DLB_BWD ? 1 : 2);
}

static void onednn_agrees_with_the_definition(void **state)
{
    (void)state;
    for (int i = 0; i < AWKWARD; i++) {
        char other[DLB_SHAPE_MAX];
        snprintf(other, sizeof other, "%slbr1", awkward[i]);
        check_onednn(&dlb_reference_lstm, awkward[i]);
        check_onednn(&dlb_reference_gru, awkward[i]);
        check_onednn(&dlb_reference_gru, other);
        snprintf(other, sizeof other, "%s%s", awkward[i], i % 3 ? "" : "act-relu");
        check_onednn(&dlb_reference_rnn, other);
    }
}

/* Weights that oneDNN packs in a form of its own, which only a reorder may fill. */
static void onednn_packs_large_weights(void **state)
{
    (void)state;
    for (int o = 0; o < OPERATORS; o++)
        assert_int_equal(dlb_check_onednn(all[o], "t2mb16dhc512", DLB_FWD), 2);
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lstm_by_hand),
        cmocka_unit_test(lstm_steps_by_hand),
        cmocka_unit_test(lstm_backward_by_hand),
        cmocka_unit_test(vanilla_by_hand),
        cmocka_unit_test(gru_by_hand),
        cmocka_unit_test(gru_resets_before_or_after_the_product),
        cmocka_unit_test(backwards_is_forwards_reversed),
        cmocka_unit_test(two_directions_are_joined),
        cmocka_unit_test(layers_feed_each_other),
        cmocka_unit_test(rows_are_independent),
        cmocka_unit_test(backward_slices_are_independent),
        cmocka_unit_test(what_is_unreached_is_zero),
        cmocka_unit_test(relu_sums_are_exact),
        cmocka_unit_test(bound_shows_mistakes),
        cmocka_unit_test(bound_by_hand),
        cmocka_unit_test(problems_are_completed),
        cmocka_unit_test(tensors_are_absent_or_whole),
        cmocka_unit_test_teardown(naive_plan_is_the_definition, dlb_check_close),
#ifdef DLBENCH_ONEDNN
        cmocka_unit_test_teardown(onednn_agrees_with_the_definition, dlb_check_close),
        cmocka_unit_test_teardown(onednn_packs_large_weights, dlb_check_close),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
