#include "claims/learning.h"

#include "claims/tasks.h"

#include <math.h>
#include <stdlib.h>

enum { CHANNELS = 16 };
static const double SEEN = 1e-30; /* smaller gradients may have lost bits */

/* depth: gradients of a fresh network */

static double norm(const float *value, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)value[i] * value[i];
    return sqrt(sum / (double)n);
}

/* number: log10 of the first hidden-to-hidden layer's gradient over the last one's, and how
 * far that is from 0; NaN where it is too small to be seen. */
static enum dlb_status look_at_gradients(struct dlb_task *task,
                                         const struct dlb_target *target,
                                         struct dlb_error *error)
{
    float pixel[DLB_TASK_BATCH * DLB_IMAGE_PIXELS], label[DLB_TASK_BATCH], *weights;
    const float *gradient;
    struct dlb_net *net = NULL;
    double loss;
    const struct dlb_image_set set = dlb_task_images(task, false);
    dlb_images(&set, 0, DLB_TASK_BATCH, pixel, label);
    enum dlb_status status = dlb_net_make(&task->shape, target, &net, error);
    if (!status)
        status = dlb_net_step(net, pixel, label, 0, &loss, error);
    if (!status) {
        int64_t n = dlb_net_weights(net, 1, &weights, &gradient);
        double first = norm(gradient, n);
        n = dlb_net_weights(net, task->shape.depth - 1, &weights, &gradient);
        double ratio = first > SEEN ? log10(first / norm(gradient, n)) : NAN;
        task->number[0] = ratio;
        task->number[1] = fabs(ratio);
    }
    dlb_net_release(net);
    return status;
}

enum dlb_status dlb_learn_depth(struct dlb_lab *lab, struct dlb_error *error)
{
    static const int depths[] = {5, 10, 20, 50, 100};
    static const struct {
        const char *name;
        bool batchnorm, residual;
    } arms[] = {{"plain", false, false},
                {"batchnorm", true, false},
                {"residual", false, true},
                {"both", true, true}};
    static const struct {
        const char *name;
        enum dlb_activation_alg activation;
    } functions[] = {{"sigmoid", DLB_ACTIVATION_SIGMOID},
                     {"tanh", DLB_ACTIVATION_TANH},
                     {"relu", DLB_ACTIVATION_RELU}};
    static struct dlb_task task[3 * 4 * 5 * DLB_TASK_SEEDS];
    int tasks = 0;
    for (int f = 0; f < 3; f++)
        for (int a = 0; a < 4; a++)
            for (int d = 0; d < (lab->quick ? 4 : 5); d++)
                for (int seed = 1; seed <= dlb_tasks_seeds(lab); seed++) {
                    struct dlb_task *one = &task[tasks++];
                    *one = (struct dlb_task){
                        .arm = arms[a].name, .x = depths[d], .shape = dlb_usual_net};
                    snprintf(one->condition, DLB_CONDITION_MAX, "activation=%s",
                             functions[f].name);
                    one->shape.width = 32;
                    one->shape.depth = depths[d];
                    one->shape.activation = functions[f].activation;
                    one->shape.batchnorm = arms[a].batchnorm;
                    one->shape.residual = arms[a].residual;
                    one->shape.seed = (uint64_t)seed;
                }
    enum dlb_status status = dlb_tasks_run(lab, task, tasks, look_at_gradients, error);
    if (!status)
        status = dlb_tasks_observe(lab, task, tasks, 0, "log10_gradient", 0, error);
    return status
               ? status
               : dlb_tasks_observe(lab, task, tasks, 1, "abs_log10_gradient", 0, error);
}

/* dying: units without output */

static enum dlb_status count_dead(struct dlb_task *task, const struct dlb_target *target,
                                  struct dlb_error *error)
{
    struct dlb_net *net = NULL;
    struct dlb_history history;
    float label[DLB_TASK_BATCH], pixel[DLB_TASK_BATCH * DLB_IMAGE_PIXELS];
    bool alive[4 * 64] = {false};
    double loss, accuracy;
    const int64_t width = task->shape.width;
    const struct dlb_image_set set = dlb_task_images(task, true);
    enum dlb_status status =
        dlb_task_train(task, task->shape.seed, task->rate, target, &net, &history, error);
    for (int batch = 0; batch < DLB_TEST_IMAGES / DLB_TASK_BATCH && !status; batch++) {
        dlb_images(&set, batch * DLB_TASK_BATCH, DLB_TASK_BATCH, pixel, label);
        status = dlb_net_infer(net, pixel, label, DLB_TASK_BATCH, &loss, &accuracy, NULL,
                               error);
        for (int l = 0; l < task->shape.depth && !status; l++)
            for (int64_t i = 0; i < DLB_TASK_BATCH * width; i++)
                if (dlb_net_hidden(net, l)[i] != 0)
                    alive[l * width + i % width] = true;
    }
    task->curve = history.curve;
    double dead = 0;
    for (int64_t i = 0; i < task->shape.depth * width; i++)
        dead += !alive[i];
    task->number[0] = dead / (double)(task->shape.depth * width);
    dlb_net_release(net);
    return status;
}

enum dlb_status dlb_learn_dying(struct dlb_lab *lab, struct dlb_error *error)
{
    static const double rising[] = {0.01, 0.1, 0.3, 1};
    static struct dlb_task task[4 * 2 * DLB_TASK_SEEDS];
    int tasks = 0;
    for (int r = 0; r < 4; r++)
        for (int leaky = 0; leaky < 2; leaky++)
            for (int seed = 1; seed <= dlb_tasks_seeds(lab); seed++) {
                struct dlb_task *one = &task[tasks++];
                *one = (struct dlb_task){.arm = leaky ? "leaky" : "relu",
                                         .x = NAN,
                                         .shape = dlb_usual_net,
                                         .rate = rising[r],
                                         .images = 1024,
                                         .steps = lab->quick ? 150 : 600};
                snprintf(one->condition, DLB_CONDITION_MAX, "rate=%g", rising[r]);
                one->shape.activation =
                    leaky ? DLB_ACTIVATION_LEAKY : DLB_ACTIVATION_RELU;
                one->shape.seed = (uint64_t)seed;
            }
    enum dlb_status status = dlb_tasks_run(lab, task, tasks, count_dead, error);
    if (!status)
        status = dlb_tasks_observe_curves(lab, task, tasks, error);
    return status ? status
                  : dlb_tasks_observe(lab, task, tasks, 0, "dead_share", 0, error);
}

/* batchnorm: convergence, rates, initialisation, the gap */

/* A network that does not learn at any of these will not do it at a smaller one in so few
 * steps. */
static const double rising_rates[] = {0.003, 0.01, 0.03, 0.1, 0.3, 1, 3};
enum { RISING_RATES = sizeof rising_rates / sizeof *rising_rates };

/* number: steps to the target and the gap, at the tuned rate; the largest rate that
 * converges; the spread of the final loss over initial scales; seconds to the target. */
static enum dlb_status compare_batchnorm(struct dlb_task *task,
                                         const struct dlb_target *target,
                                         struct dlb_error *error)
{
    static const double scales[] = {0.01, 0.1, 1, 10};
    struct dlb_net *net = NULL;
    struct dlb_history history;
    const struct dlb_image_set train = dlb_task_images(task, false),
                               test = dlb_task_images(task, true);
    double loss, accuracy, train_loss, low = INFINITY, high = -INFINITY;
    const uint64_t seed = task->shape.seed;
    enum dlb_status status =
        dlb_task_train(task, seed, task->rate, target, &net, &history, error);
    if (!status)
        status = dlb_task_test(net, &test, DLB_TEST_IMAGES, &loss, &accuracy, error);
    if (!status)
        status =
            dlb_task_test(net, &train, DLB_TEST_IMAGES, &train_loss, &accuracy, error);
    dlb_net_release(net);
    task->curve = history.curve;
    task->number[0] = history.reached ? (double)history.reached : INFINITY;
    task->number[1] = loss - train_loss;
    task->number[4] =
        history.reached ? history.reached_seconds : dlb_never_factor * history.seconds;
    task->number[2] = rising_rates[0];
    for (int i = 0; i < RISING_RATES && !status; i++) {
        status =
            dlb_task_train(task, seed, rising_rates[i], target, &net, &history, error);
        if (!status && history.last_loss <= task->target)
            task->number[2] = rising_rates[i];
        dlb_net_release(net);
    }
    for (size_t i = 0; i < sizeof scales / sizeof *scales && !status; i++) {
        struct dlb_task scaled = *task;
        scaled.shape.init_scale = scales[i];
        status = dlb_task_train(&scaled, seed, task->rate, target, &net, &history, error);
        low = fmin(low, history.last_loss);
        high = fmax(high, history.last_loss);
        dlb_net_release(net);
    }
    task->number[3] = fmax(high - low, 1e-6);
    return status;
}

enum dlb_status dlb_learn_batchnorm(struct dlb_lab *lab, struct dlb_error *error)
{
    static const struct dlb_tuning tuning = {dlb_task_try_rate, rising_rates,
                                             RISING_RATES, 2};
    static const int depths[] = {2, 8};
    static struct dlb_task task[2 * 2 * DLB_TASK_SEEDS];
    const int64_t steps = 500;
    int tasks = 0;
    for (int d = 0; d < (lab->quick ? 1 : 2); d++)
        for (int batchnorm = 0; batchnorm < 2; batchnorm++)
            for (int seed = 1; seed <= dlb_tasks_seeds(lab); seed++) {
                struct dlb_task *one = &task[tasks++];
                *one = (struct dlb_task){.arm = batchnorm ? "batchnorm" : "plain",
                                         .x = NAN,
                                         .shape = dlb_usual_net,
                                         .images = 1024,
                                         .steps = steps,
                                         .target = 1};
                snprintf(one->condition, DLB_CONDITION_MAX, "depth=%d", depths[d]);
                one->shape.side = DLB_IMAGE_SIDE;
                one->shape.width = CHANNELS;
                one->shape.depth = depths[d];
                one->shape.batchnorm = batchnorm;
                one->shape.seed = (uint64_t)seed;
            }
    enum dlb_status status = dlb_tasks_tune(lab, task, tasks, &tuning, error);
    if (!status)
        status = dlb_tasks_run(lab, task, tasks, compare_batchnorm, error);
    if (!status)
        status = dlb_tasks_observe_curves(lab, task, tasks, error);
    if (!status)
        status = dlb_tasks_observe(lab, task, tasks, 0, "steps_to_target",
                                   dlb_never_factor * (double)steps, error);
    if (!status)
        status = dlb_tasks_observe(lab, task, tasks, 4, "seconds_to_target", NAN, error);
    if (!status)
        status = dlb_tasks_observe(lab, task, tasks, 1, "gap", NAN, error);
    if (!status)
        status = dlb_tasks_observe(lab, task, tasks, 2, "largest_rate", NAN, error);
    return status ? status
                  : dlb_tasks_observe(lab, task, tasks, 3, "loss_spread", NAN, error);
}

/* residual-deep: can it be trained at all? */

enum dlb_status dlb_learn_residual(struct dlb_lab *lab, struct dlb_error *error)
{
    static const double rates[] = {0.003, 0.01, 0.03, 0.1};
    static const struct dlb_tuning tuning = {dlb_task_try_rate, rates, 4, 2};
    /* With the last layer, as He et al. count. */
    static const int depths[] = {20, 56, 110};
    static struct dlb_task task[3 * 2 * DLB_TASK_SEEDS];
    int tasks = 0;
    for (int d = 0; d < (lab->quick ? 1 : 3); d++)
        for (int residual = 0; residual < 2; residual++)
            for (int seed = 1; seed <= dlb_tasks_seeds(lab); seed++) {
                struct dlb_task *one = &task[tasks++];
                *one = (struct dlb_task){.arm = residual ? "residual" : "plain",
                                         .x = NAN,
                                         .shape = dlb_usual_net,
                                         .images = 1024,
                                         .steps = lab->quick ? 100 : 150};
                snprintf(one->condition, DLB_CONDITION_MAX, "depth=%d", depths[d]);
                one->shape.side = DLB_IMAGE_SIDE;
                one->shape.width = CHANNELS;
                one->shape.depth = depths[d] - 1;
                one->shape.batchnorm = true;
                one->shape.residual = residual;
                one->shape.seed = (uint64_t)seed;
            }
    enum dlb_status status = dlb_tasks_tune(lab, task, tasks, &tuning, error);
    if (!status)
        status = dlb_tasks_run(lab, task, tasks, dlb_task_try_rate, error);
    if (!status)
        status = dlb_tasks_observe_curves(lab, task, tasks, error);
    return status ? status
                  : dlb_tasks_observe(lab, task, tasks, 0, "loss", dlb_loss_most, error);
}
