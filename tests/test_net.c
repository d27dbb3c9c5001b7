/* The network of the learning experiments: its gradients against differences, the same
 * bits for the same seed, learning, and the pictures it learns from. */
#include "claims/images.h"
#include "claims/net.h"

#include "core/isa.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct dlb_net_shape small = {.inputs = DLB_IMAGE_PIXELS,
                                           .width = 16,
                                           .classes = DLB_IMAGE_CLASSES,
                                           .batch = 16,
                                           .depth = 3,
                                           .activation = DLB_ACTIVATION_TANH,
                                           .init_scale = 1,
                                           .seed = 3};

static const struct dlb_image_set five = {.seed = 5, .classes = DLB_IMAGE_CLASSES};

static const struct dlb_net_shape convolutional = {.inputs = DLB_IMAGE_PIXELS,
                                                   .side = DLB_IMAGE_SIDE,
                                                   .width = 8,
                                                   .classes = DLB_IMAGE_CLASSES,
                                                   .batch = 16,
                                                   .depth = 4,
                                                   .activation = DLB_ACTIVATION_TANH,
                                                   .init_scale = 1,
                                                   .seed = 3};

static struct dlb_target target_of(enum dlb_isa isa)
{
    return (struct dlb_target){.isa = isa,
                               .threads = 1,
                               .l1d_bytes = 32 << 10,
                               .l2_bytes = 512 << 10,
                               .l3_bytes = 4 << 20};
}

static struct dlb_net *make(const struct dlb_net_shape *shape)
{
    struct dlb_target target = target_of(dlb_isa_best());
    struct dlb_error error = {0};
    struct dlb_net *net;
    if (dlb_net_make(shape, &target, &net, &error))
        fail_msg("%s", error.text);
    return net;
}

static double step(struct dlb_net *net, const float *pixel, const float *label,
                   double rate)
{
    struct dlb_error error = {0};
    double loss;
    if (dlb_net_step(net, pixel, label, rate, &loss, &error))
        fail_msg("%s", error.text);
    return loss;
}

/* Of some elements of each parameter. */
static void gradients_are_differences(void **state)
{
    static const struct {
        enum dlb_activation_alg activation;
        bool convolutional, batchnorm, residual;
    } nets[] = {
        {DLB_ACTIVATION_TANH, false, false, false},
        {DLB_ACTIVATION_SIGMOID, false, false, true},
        {DLB_ACTIVATION_TANH, false, true, false},
        {DLB_ACTIVATION_TANH, false, true, true},
        {DLB_ACTIVATION_TANH, true, false, false},
        {DLB_ACTIVATION_TANH, true, false, true},
        {DLB_ACTIVATION_SIGMOID, true, true, false},
        {DLB_ACTIVATION_TANH, true, true, true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof nets / sizeof *nets; i++) {
        struct dlb_net_shape shape = nets[i].convolutional ? convolutional : small;
        float pixel[16 * DLB_IMAGE_PIXELS], label[16], *value;
        const float *gradient;
        int64_t n;
        shape.activation = nets[i].activation;
        shape.batchnorm = nets[i].batchnorm;
        shape.residual = nets[i].residual;
        dlb_images(&five, 0, 16, pixel, label);
        struct dlb_net *net = make(&shape);
        for (int p = 0; (n = dlb_net_parameter(net, p, &value, &gradient)); p++) {
            double wrong = 0, all = 0;
            for (int64_t at = p % n; at < n; at += n < 13 ? 1 : n / 13) {
                const float kept = value[at], by = 0.01f;
                step(net, pixel, label, 0);
                const double expected = gradient[at];
                value[at] = kept + by;
                double up = step(net, pixel, label, 0);
                value[at] = kept - by;
                double down = step(net, pixel, label, 0);
                value[at] = kept;
                double difference = (up - down) / (2 * by);
                wrong += (difference - expected) * (difference - expected);
                all += expected * expected;
            }
            /* Batchnorm takes the bias before it away: all that is left is rounding. */
            const bool without = shape.batchnorm && p % 4 == 1 && p < 4 * shape.depth;
            if (without ? all > 1e-8 : all < 1e-8)
                fail_msg("net %zu, parameter %d: %g", i, p, sqrt(all));
            if (!(wrong < (without ? 1e-6 : 0.02 * 0.02 * all)))
                fail_msg("net %zu, parameter %d: off by %g", i, p, sqrt(wrong / all));
        }
        dlb_net_release(net);
    }
}

/* He's fan-in of a convolution, and Glorot's of a fully connected layer. */
static void weights_begin_with_the_usual_deviation(void **state)
{
    (void)state;
    for (int convolves = 0; convolves < 2; convolves++) {
        struct dlb_net_shape shape = convolves ? convolutional : small;
        float *weights;
        const float *gradient;
        double squares = 0;
        shape.activation = convolves ? DLB_ACTIVATION_RELU : DLB_ACTIVATION_TANH;
        shape.width = 32;
        shape.init_scale = 3;
        struct dlb_net *net = make(&shape);
        int64_t n = dlb_net_weights(net, 1, &weights, &gradient);
        assert_int_equal(n, 32 * 32 * (convolves ? 9 : 1));
        for (int64_t i = 0; i < n; i++)
            squares += weights[i] * weights[i];
        double usual = sqrt(2.0 / (convolves ? 9 * 32 : 2 * 32));
        assert_true(fabs(sqrt(squares / (double)n) / (3 * usual) - 1) < 0.1);
        dlb_net_release(net);
    }
}

/* Loss of the first step of a fresh network, one weight moved; *gradient: its own. */
static double first_loss(const struct dlb_net_shape *shape, const float *pixel,
                         const float *label, int layer, int64_t at, float by,
                         double *gradient)
{
    float *weights;
    const float *gradients;
    struct dlb_net *net = make(shape);
    dlb_net_weights(net, layer, &weights, &gradients);
    weights[at] += by;
    double loss = step(net, pixel, label, 0);
    *gradient = gradients[at];
    dlb_net_release(net);
    return loss;
}

/* The masks of a step are those of its way back: a fresh network has the same ones. */
static void dropout_has_the_same_masks_both_ways(void **state)
{
    (void)state;
    struct dlb_net_shape shape = small;
    float pixel[16 * DLB_IMAGE_PIXELS], label[16];
    shape.dropout = 40;
    dlb_images(&five, 0, 16, pixel, label);
    for (int layer = 0; layer <= shape.depth; layer++) {
        double wrong = 0, all = 0, ignored;
        for (int64_t at = 3; at < 150; at += 13) {
            double expected;
            first_loss(&shape, pixel, label, layer, at, 0, &expected);
            double up = first_loss(&shape, pixel, label, layer, at, 0.01f, &ignored);
            double down = first_loss(&shape, pixel, label, layer, at, -0.01f, &ignored);
            double difference = (up - down) / 0.02;
            wrong += (difference - expected) * (difference - expected);
            all += expected * expected;
        }
        if (!(all > 0 && wrong < 0.03 * 0.03 * all))
            fail_msg("layer %d: off by %g", layer, sqrt(wrong / all));
    }
}

/* Dropout and all: the bits of what was learnt. */
static void a_seed_gives_the_same_bits(void **state)
{
    (void)state;
    for (int convolves = 0; convolves < 2; convolves++) {
        struct dlb_net_shape shape = convolves ? convolutional : small;
        float pixel[16 * DLB_IMAGE_PIXELS], label[16], *weights[3];
        struct dlb_net *net[3];
        const float *gradient;
        int64_t n = 0;
        shape.batchnorm = true;
        shape.residual = convolves;
        shape.dropout = 30;
        for (int i = 0; i < 3; i++) {
            shape.seed = i < 2 ? 7 : 8;
            net[i] = make(&shape);
            for (int s = 0; s < 20; s++) {
                dlb_images(&five, 16 * s, 16, pixel, label);
                step(net[i], pixel, label, 0.1);
            }
            n = dlb_net_weights(net[i], 1, &weights[i], &gradient);
        }
        assert_memory_equal(weights[0], weights[1], (size_t)n * sizeof(float));
        assert_true(memcmp(weights[0], weights[2], (size_t)n * sizeof(float)));
        for (int i = 0; i < 3; i++)
            dlb_net_release(net[i]);
    }
}

static void it_learns(void **state)
{
    static const struct {
        bool convolutional, batchnorm, residual;
        int64_t width;
        double rate;
    } nets[] = {{false, false, false, 32, 0.02},
                {false, true, false, 32, 0.02},
                {true, false, false, 16, 0.05},
                {true, true, true, 16, 0.05}};
    (void)state;
    for (size_t i = 0; i < sizeof nets / sizeof *nets; i++) {
        static float pixel[256 * DLB_IMAGE_PIXELS], label[256], logits[256 * 10];
        struct dlb_net_shape shape = nets[i].convolutional ? convolutional : small;
        struct dlb_error error = {0};
        double loss, before, accuracy;
        shape.activation = DLB_ACTIVATION_RELU;
        shape.batchnorm = nets[i].batchnorm;
        shape.residual = nets[i].residual;
        shape.width = nets[i].width;
        dlb_images(&five, 0, 256, pixel, label);
        struct dlb_net *net = make(&shape);
        assert_int_equal(
            dlb_net_infer(net, pixel, label, 256, &before, &accuracy, NULL, &error),
            DLB_OK);
        assert_true(accuracy < 0.4);
        for (int s = 0; s < 320; s++)
            step(net, pixel + s % 16 * 16 * DLB_IMAGE_PIXELS, label + s % 16 * 16,
                 nets[i].rate);
        assert_int_equal(
            dlb_net_infer(net, pixel, label, 256, &loss, &accuracy, logits, &error),
            DLB_OK);
        if (!(loss < before / 3 && accuracy > 0.85))
            fail_msg("net %zu: loss %g, %g before, accuracy %g", i, loss, before,
                     accuracy);
        assert_memory_equal(logits + 240 * 10, dlb_net_logits(net),
                            16 * 10 * sizeof(float));
        dlb_net_release(net);
    }
}

static void a_frozen_network_learns_in_its_last_layer(void **state)
{
    (void)state;
    struct dlb_net_shape shape = small;
    float pixel[16 * DLB_IMAGE_PIXELS], label[16], *weights[2][4];
    const float *gradient;
    float before[4][16 * DLB_IMAGE_PIXELS];
    int64_t n[4];
    struct dlb_net *net[2];
    shape.batchnorm = true;
    for (int i = 0; i < 2; i++) {
        shape.seed = (uint64_t)(20 + i);
        net[i] = make(&shape);
        for (int l = 0; l < 4; l++)
            n[l] = dlb_net_weights(net[i], l, &weights[i][l], &gradient);
    }
    dlb_images(&five, 0, 16, pixel, label);
    step(net[0], pixel, label, 0.1);
    assert_true(memcmp(weights[0][1], weights[1][1], (size_t)n[1] * sizeof(float)));
    dlb_net_copy(net[1], net[0]);
    for (int l = 0; l < 4; l++) {
        bool same = !memcmp(weights[0][l], weights[1][l], (size_t)n[l] * sizeof(float));
        assert_int_equal(same, l < 3);
        memcpy(before[l], weights[1][l], (size_t)n[l] * sizeof(float));
    }
    dlb_net_freeze(net[1]);
    double first = step(net[1], pixel, label, 0.1), last = first;
    for (int s = 0; s < 30; s++)
        last = step(net[1], pixel, label, 0.1);
    assert_true(last < first);
    for (int l = 0; l < 4; l++)
        assert_int_equal(!memcmp(before[l], weights[1][l], (size_t)n[l] * sizeof(float)),
                         l < 3);
    dlb_net_release(net[0]);
    dlb_net_release(net[1]);
}

static void images_are_made_of_index_and_seed(void **state)
{
    (void)state;
    static float pixel[600 * DLB_IMAGE_PIXELS], one[DLB_IMAGE_PIXELS];
    struct dlb_image_set set = {.seed = 9, .classes = DLB_IMAGE_CLASSES};
    float label[600], alone;
    int count[DLB_IMAGE_CLASSES] = {0};
    double sum = 0, squares = 0;
    dlb_images(&set, 100, 600, pixel, label);
    for (int i = 0; i < 600; i++)
        count[(int)label[i]]++;
    for (int c = 0; c < DLB_IMAGE_CLASSES; c++)
        assert_in_range(count[c], 30, 95);
    dlb_images(&set, 417, 1, one, &alone);
    assert_true(alone == label[317]);
    assert_memory_equal(one, pixel + 317 * DLB_IMAGE_PIXELS, sizeof one);
    set.seed = 10;
    dlb_images(&set, 417, 1, one, &alone);
    assert_true(memcmp(one, pixel + 317 * DLB_IMAGE_PIXELS, sizeof one));
    for (int i = 0; i < 600 * DLB_IMAGE_PIXELS; i++) {
        sum += pixel[i];
        squares += (double)pixel[i] * pixel[i];
    }
    set = (struct dlb_image_set){.seed = 9, .lowest = 4, .classes = 3};
    dlb_images(&set, 0, 600, pixel, label);
    for (int i = 0; i < 600; i++)
        assert_in_range((int)label[i], 0, 2);
    double mean = sum / (600.0 * DLB_IMAGE_PIXELS);
    assert_true(fabs(mean) < 0.3);
    assert_true(fabs(sqrt(squares / (600.0 * DLB_IMAGE_PIXELS)) - 1) < 0.4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_are_differences),
        cmocka_unit_test(weights_begin_with_the_usual_deviation),
        cmocka_unit_test(dropout_has_the_same_masks_both_ways),
        cmocka_unit_test(a_seed_gives_the_same_bits),
        cmocka_unit_test(it_learns),
        cmocka_unit_test(a_frozen_network_learns_in_its_last_layer),
        cmocka_unit_test(images_are_made_of_index_and_seed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
