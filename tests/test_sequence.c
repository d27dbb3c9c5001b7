/* The network of the experiments on memory: its gradients against differences, the same
 * bits for the same seed, and that it learns what each reader can. */
#include "claims/sequence.h"

#include "core/isa.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { BATCH = 16, STEPS = 6, INPUTS = 4, ANSWERS = 2 };

static struct dlb_sequence *make_placed(enum dlb_reader reader, uint64_t seed,
                                        bool placed)
{
    const struct dlb_sequence_shape shape = {.reader = reader,
                                             .unplaced = !placed,
                                             .batch = BATCH,
                                             .steps = STEPS,
                                             .inputs = INPUTS,
                                             .width = 16,
                                             .answers = ANSWERS,
                                             .classes = INPUTS,
                                             .seed = seed};
    const struct dlb_target target = {.isa = dlb_isa_best(),
                                      .threads = 1,
                                      .l1d_bytes = 32 << 10,
                                      .l2_bytes = 512 << 10,
                                      .l3_bytes = 4 << 20};
    struct dlb_error error = {0};
    struct dlb_sequence *sequence;
    if (dlb_sequence_make(&shape, &target, &sequence, &error))
        fail_msg("%s", error.text);
    return sequence;
}

static struct dlb_sequence *make(enum dlb_reader reader, uint64_t seed)
{
    return make_placed(reader, seed, true);
}

/* Random symbols; the answers of the last two steps are those of the first two. */
static void pose(uint64_t seed, float *src, float *label)
{
    memset(src, 0, BATCH * STEPS * INPUTS * sizeof *src);
    for (int n = 0; n < BATCH; n++)
        for (int t = 0; t < STEPS; t++) {
            int symbol = (int)(dlb_hash(seed, (uint64_t)(n * STEPS + t)) % INPUTS);
            src[(n * STEPS + t) * INPUTS + symbol] = 1;
            if (t < ANSWERS)
                label[n * ANSWERS + t] = (float)symbol;
        }
}

static double step(struct dlb_sequence *sequence, const float *src, const float *label,
                   double rate, double *accuracy)
{
    struct dlb_error error = {0};
    double loss;
    if (dlb_sequence_step(sequence, src, label, rate, &loss, accuracy, &error))
        fail_msg("%s", error.text);
    return loss;
}

static void gradients_are_differences(void **state)
{
    static const float EPS = 0.01f;
    float src[BATCH * STEPS * INPUTS], label[BATCH * ANSWERS];
    (void)state;
    pose(1, src, label);
    for (enum dlb_reader reader = DLB_READ_RNN; reader <= DLB_READ_ATTENTION; reader++) {
        struct dlb_sequence *sequence = make(reader, 3);
        float *value;
        const float *gradient;
        double ignored;
        int64_t n;
        for (int p = 0; (n = dlb_sequence_weights(sequence, p, &value, &gradient)); p++) {
            double wrong = 0, all = 0;
            float *first = malloc((size_t)n * sizeof *first);
            assert_non_null(first);
            step(sequence, src, label, 0, &ignored);
            memcpy(first, gradient, (size_t)n * sizeof *first);
            for (int64_t i = 0; i < n; i += 1 + n / 20) {
                float was = value[i];
                value[i] = was + EPS;
                double up = step(sequence, src, label, 0, &ignored);
                value[i] = was - EPS;
                double down = step(sequence, src, label, 0, &ignored);
                value[i] = was;
                double difference = (up - down) / (2 * (double)EPS);
                wrong += (difference - first[i]) * (difference - first[i]);
                all += (double)first[i] * first[i];
            }
            free(first);
            /* Attention does not depend on the bias of its keys: what is left is noise. */
            if (reader == DLB_READ_ATTENTION && p == 3)
                assert_true(wrong < 1e-8);
            else if (!(all > 0 && wrong < 0.02 * 0.02 * all))
                fail_msg("%s, parameter %d: off by %g", dlb_reader_names[reader], p,
                         sqrt(wrong / all));
        }
        dlb_sequence_release(sequence);
    }
}

static void a_seed_gives_the_same_bits(void **state)
{
    float src[BATCH * STEPS * INPUTS], label[BATCH * ANSWERS], *value[3];
    const float *ignored;
    double accuracy;
    (void)state;
    for (enum dlb_reader reader = DLB_READ_RNN; reader <= DLB_READ_ATTENTION; reader++) {
        struct dlb_sequence *sequence[3];
        int64_t n = 0;
        for (int i = 0; i < 3; i++) {
            sequence[i] = make(reader, i < 2 ? 7 : 8);
            for (int s = 0; s < 10; s++) {
                pose((uint64_t)s, src, label);
                step(sequence[i], src, label, 0.01, &accuracy);
            }
            n = dlb_sequence_weights(sequence[i], 0, &value[i], &ignored);
        }
        assert_memory_equal(value[0], value[1], (size_t)n * sizeof(float));
        assert_true(memcmp(value[0], value[2], (size_t)n * sizeof(float)));
        for (int i = 0; i < 3; i++)
            dlb_sequence_release(sequence[i]);
    }
}

/* A short distance, which even a vanilla RNN can learn. */
static void each_reader_learns_to_copy(void **state)
{
    float src[BATCH * STEPS * INPUTS], label[BATCH * ANSWERS];
    (void)state;
    for (enum dlb_reader reader = DLB_READ_RNN; reader <= DLB_READ_ATTENTION; reader++) {
        struct dlb_sequence *sequence = make(reader, 5);
        double accuracy = 0, right = 0;
        enum { TRAINED = 600, TESTED = 20 };
        for (int s = 0; s < TRAINED; s++) {
            pose((uint64_t)s, src, label);
            step(sequence, src, label, 0.01, &accuracy);
        }
        for (int s = 0; s < TESTED; s++) {
            pose((uint64_t)(TRAINED + s), src, label);
            step(sequence, src, label, 0, &accuracy);
            right += accuracy / TESTED;
        }
        if (!(right > 0.9))
            fail_msg("%s: %g right", dlb_reader_names[reader], right);
        dlb_sequence_release(sequence);
    }
}

static void parameters_are_counted(void **state)
{
    (void)state;
    const int64_t expected[] = {16 * (4 + 16) + 16, 3 * (16 * (4 + 16) + 16),
                                4 * (16 * (4 + 16) + 16), 3 * (16 * (4 + 32) + 16)};
    for (enum dlb_reader reader = DLB_READ_RNN; reader <= DLB_READ_ATTENTION; reader++) {
        struct dlb_sequence *sequence = make(reader, 1);
        assert_int_equal(dlb_sequence_parameters(sequence), expected[reader]);
        dlb_sequence_release(sequence);
    }
}

/* Without positions attention cannot tell in which order the steps were that it looks at;
 * with them it can. */
static void order_is_in_the_positions(void **state)
{
    (void)state;
    for (int unplaced = 0; unplaced < 2; unplaced++) {
        float src[BATCH * STEPS * INPUTS], label[BATCH * ANSWERS];
        double loss[2], ignored;
        struct dlb_sequence *sequence = make_placed(DLB_READ_ATTENTION, 3, !unplaced);
        pose(1, src, label);
        loss[0] = step(sequence, src, label, 0, &ignored);
        for (int n = 0; n < BATCH; n++)
            for (int i = 0; i < INPUTS; i++) {
                float *first = src + n * STEPS * INPUTS + i, *third = first + 2 * INPUTS;
                const float kept = *first;
                *first = *third;
                *third = kept;
            }
        loss[1] = step(sequence, src, label, 0, &ignored);
        assert_int_equal(fabs(loss[1] - loss[0]) < 1e-5, unplaced);
        dlb_sequence_release(sequence);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_is_in_the_positions),
        cmocka_unit_test(gradients_are_differences),
        cmocka_unit_test(a_seed_gives_the_same_bits),
        cmocka_unit_test(each_reader_learns_to_copy),
        cmocka_unit_test(parameters_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
