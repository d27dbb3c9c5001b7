#include "claims/learning.h"

#include "claims/images.h"
#include "claims/tasks.h"
#include "measure/timer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* transfer: a network that has learnt five shapes learns the other five */

enum { HALF = DLB_IMAGE_CLASSES / 2, PRETRAINING_STEPS = 1500, TRANSFER_TEST = 512 };

/* Steps over n images of the shapes from lowest on, walked through in order. */
static enum dlb_status learn_shapes(struct dlb_net *net, int lowest, uint64_t seed,
                                    int64_t n, int64_t steps, double rate,
                                    struct dlb_error *error)
{
    float *pixel = malloc((size_t)n * DLB_IMAGE_PIXELS * sizeof *pixel);
    float *label = malloc((size_t)n * sizeof *label);
    enum dlb_status status = DLB_OK;
    double loss;
    if (!pixel || !label)
        status = dlb_fail(error, DLB_NOMEM, "No memory is left for images.");
    else
        dlb_images_of(lowest, HALF, seed, 0, n, pixel, label);
    for (int64_t step = 0; step < steps && !status; step++) {
        const int64_t at = step % (n / DLB_TASK_BATCH) * DLB_TASK_BATCH;
        status = dlb_net_step(net, pixel + at * DLB_IMAGE_PIXELS, label + at, rate, &loss,
                              error);
    }
    free(pixel);
    free(label);
    return status;
}

/* number: the best accuracy over the rates, and the rate that had it. */
static enum dlb_status transfer(struct dlb_task *task, const struct dlb_target *target,
                                struct dlb_error *error)
{
    static const double PRETRAINING_RATE = 0.03;
    const uint64_t seed = task->shape.seed;
    struct dlb_net *learnt = NULL;
    float *pixel = malloc(TRANSFER_TEST * DLB_IMAGE_PIXELS * sizeof *pixel);
    float label[TRANSFER_TEST];
    if (!pixel)
        return dlb_fail(error, DLB_NOMEM, "No memory is left for images.");
    dlb_images_of(HALF, HALF, dlb_hash(dlb_test_seed, seed), 0, TRANSFER_TEST, pixel,
                  label);
    enum dlb_status status = dlb_net_make(&task->shape, target, &learnt, error);
    if (!status && strcmp(task->arm, "scratch"))
        status = learn_shapes(learnt, 0, dlb_hash(dlb_train_seed, seed + 100), 2048,
                              PRETRAINING_STEPS, PRETRAINING_RATE, error);
    task->number[0] = task->number[1] = 0;
    for (int r = 0; r < DLB_RATES && !status; r++) {
        struct dlb_net_shape shape = task->shape;
        struct dlb_net *net = NULL;
        double loss, accuracy = 0;
        shape.seed += 1000;
        status = dlb_net_make(&shape, target, &net, error);
        if (!status && strcmp(task->arm, "scratch"))
            dlb_net_copy(net, learnt);
        if (!status && !strcmp(task->arm, "frozen"))
            dlb_net_freeze(net);
        if (!status)
            status = learn_shapes(net, HALF, dlb_hash(dlb_train_seed, seed), task->images,
                                  task->steps, dlb_rates_tried[r], error);
        if (!status)
            status = dlb_net_infer(net, pixel, label, TRANSFER_TEST, &loss, &accuracy,
                                   NULL, error);
        if (accuracy > task->number[0]) {
            task->number[0] = accuracy;
            task->number[1] = dlb_rates_tried[r];
        }
        dlb_net_release(net);
    }
    dlb_net_release(learnt);
    free(pixel);
    return status;
}

/* Seconds of a step with and without the backbone learning, in turn, on one thread. */
static enum dlb_status time_steps(struct dlb_lab *lab, const struct dlb_task *like,
                                  struct dlb_error *error)
{
    enum { ROUNDS = 15, STEPS = 20 };
    static const char *const arms[] = {"scratch", "frozen"};
    struct dlb_session *session = lab->session;
    struct dlb_target target = session->station[session->narrowest].target;
    struct dlb_net *net[2] = {NULL};
    struct dlb_task round[2 * ROUNDS] = {0};
    enum dlb_status status = DLB_OK;
    for (int a = 0; a < 2 && !status; a++)
        status = dlb_net_make(&like->shape, &target, &net[a], error);
    if (!status)
        dlb_net_freeze(net[1]);
    for (int r = -1; r < ROUNDS && !status; r++) /* the first one warms up */
        for (int i = 0; i < 2 && !status; i++) {
            const int a = (r + i) & 1;
            double start = dlb_clock_ns();
            status = learn_shapes(net[a], HALF, dlb_train_seed, DLB_TASK_BATCH, STEPS,
                                  1e-4, error);
            if (r < 0)
                continue;
            round[2 * r + a] = *like;
            round[2 * r + a].arm = arms[a];
            round[2 * r + a].shape.seed = (uint64_t)(r + 1);
            round[2 * r + a].number[0] = (dlb_clock_ns() - start) / STEPS;
        }
    dlb_net_release(net[0]);
    dlb_net_release(net[1]);
    return status ? status
                  : dlb_tasks_observe(lab, round, 2 * ROUNDS, 0, "step_ns", NAN, error);
}

enum dlb_status dlb_learn_transfer(struct dlb_lab *lab, struct dlb_error *error)
{
    static const int64_t sets[] = {32, 128, 1024};
    static const char *const arms[] = {"scratch", "tuned", "frozen"};
    static struct dlb_task task[3 * 3 * DLB_TASK_SEEDS];
    int tasks = 0;
    for (int n = 0; n < (lab->quick ? 2 : 3); n++)
        for (int a = 0; a < 3; a++)
            for (int seed = 1; seed <= dlb_tasks_seeds(lab); seed++) {
                struct dlb_task *one = &task[tasks++];
                *one = (struct dlb_task){.arm = arms[a],
                                         .x = NAN,
                                         .shape = dlb_usual_net,
                                         .images = sets[n],
                                         .steps = lab->quick ? 150 : 500};
                snprintf(one->condition, DLB_CONDITION_MAX, "images=%lld",
                         (long long)sets[n]);
                one->shape.classes = HALF;
                one->shape.batchnorm = true;
                one->shape.seed = (uint64_t)seed;
            }
    enum dlb_status status = dlb_tasks_run(lab, task, tasks, transfer, error);
    if (!status)
        status = dlb_tasks_observe(lab, task, tasks, 0, "accuracy", NAN, error);
    if (!status)
        status = dlb_tasks_observe(lab, task, tasks, 1, "best_rate", NAN, error);
    for (int depth = 2; depth <= 8 && !status; depth *= 2) {
        struct dlb_task like = task[0];
        like.shape.depth = depth;
        snprintf(like.condition, DLB_CONDITION_MAX, "depth=%d", depth);
        status = time_steps(lab, &like, error);
    }
    return status;
}
