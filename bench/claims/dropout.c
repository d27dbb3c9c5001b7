#include "claims/learning.h"

#include "claims/images.h"
#include "claims/tasks.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* dropout: overfitting, the ensemble, correlation */

static double cross_entropy(const double *probability, const float *label, int64_t n)
{
    double loss = 0;
    for (int64_t i = 0; i < n; i++)
        loss -= log(fmax(probability[i * DLB_IMAGE_CLASSES + (int)label[i]], 1e-30));
    return loss / (double)n;
}

/* Adds the softmax of rows of logits. */
static void add_softmax(const float *logits, int64_t n, double *probability)
{
    for (int64_t i = 0; i < n; i++) {
        const float *row = logits + i * DLB_IMAGE_CLASSES;
        double top = row[0], sum = 0;
        for (int c = 1; c < DLB_IMAGE_CLASSES; c++)
            top = fmax(top, row[c]);
        for (int c = 0; c < DLB_IMAGE_CLASSES; c++)
            sum += exp(row[c] - top);
        for (int c = 0; c < DLB_IMAGE_CLASSES; c++)
            probability[i * DLB_IMAGE_CLASSES + c] += exp(row[c] - top) / sum;
    }
}

/* Mean absolute correlation between the units of a layer over a batch's rows. */
static double correlation(const float *unit, int64_t rows, int64_t width)
{
    double sum = 0;
    int64_t pairs = 0;
    for (int64_t a = 0; a < width; a++)
        for (int64_t b = 0; b < a; b++) {
            double ma = 0, mb = 0, aa = 0, bb = 0, ab = 0;
            for (int64_t i = 0; i < rows; i++) {
                ma += unit[i * width + a] / (double)rows;
                mb += unit[i * width + b] / (double)rows;
            }
            for (int64_t i = 0; i < rows; i++) {
                double x = unit[i * width + a] - ma, y = unit[i * width + b] - mb;
                aa += x * x;
                bb += y * y;
                ab += x * y;
            }
            if (aa > 0 && bb > 0) {
                sum += fabs(ab) / sqrt(aa * bb);
                pairs++;
            }
        }
    return pairs ? sum / (double)pairs : NAN;
}

/* The loss of the mean prediction of so many random masks, over one batch. */
static enum dlb_status ask_masks(struct dlb_net *net, const float *pixel,
                                 const float *label, int masks, double *loss,
                                 double *single, struct dlb_error *error)
{
    double mean[DLB_TASK_BATCH * DLB_IMAGE_CLASSES] = {0}, ignored;
    enum dlb_status status = DLB_OK;
    *single = 0;
    for (int m = 0; m < masks && !status; m++) {
        double one[DLB_TASK_BATCH * DLB_IMAGE_CLASSES] = {0};
        status = dlb_net_step(net, pixel, label, 0, &ignored, error);
        add_softmax(dlb_net_logits(net), DLB_TASK_BATCH, one);
        *single += cross_entropy(one, label, DLB_TASK_BATCH) / masks;
        for (int i = 0; i < DLB_TASK_BATCH * DLB_IMAGE_CLASSES; i++)
            mean[i] += one[i] / masks;
    }
    *loss = cross_entropy(mean, label, DLB_TASK_BATCH);
    return status;
}

/* number: the gap, the correlation of the first layer's units; with dropout the loss of
 * the scaled network less that of the masks' mean, over the same images. */
static enum dlb_status drop_out(struct dlb_task *task, const struct dlb_target *target,
                                struct dlb_error *error)
{
    enum { MASKS = 30, BATCHES = 4 };
    struct dlb_net *net = NULL;
    struct dlb_history history;
    float label[DLB_TEST_IMAGES], pixel[DLB_TASK_BATCH * DLB_IMAGE_PIXELS];
    double loss, train_loss, accuracy;
    const uint64_t seed = task->shape.seed;
    enum dlb_status status =
        dlb_task_train(task, seed, task->rate, target, &net, &history, error);
    if (!status)
        status = dlb_task_test(net, dlb_hash(dlb_test_seed, seed), DLB_TEST_IMAGES, &loss,
                               &accuracy, NULL, label, error);
    if (!status)
        status = dlb_task_test(net, dlb_hash(dlb_train_seed, seed), task->images,
                               &train_loss, &accuracy, NULL, label, error);
    task->number[0] = loss - train_loss;
    task->number[1] = task->number[2] = task->number[3] = NAN;
    double scaled = 0, masks = 0, single = 0, related = 0;
    for (int b = 0; b < BATCHES && !status; b++) {
        double one, mean = 0, apart = 0;
        dlb_images(dlb_hash(dlb_test_seed, seed), b * DLB_TASK_BATCH, DLB_TASK_BATCH,
                   pixel, label);
        status = dlb_net_infer(net, pixel, label, DLB_TASK_BATCH, &one, &accuracy, NULL,
                               error);
        scaled += one / BATCHES;
        related +=
            correlation(dlb_net_hidden(net, 0), DLB_TASK_BATCH, task->shape.width) /
            BATCHES;
        if (!status && task->shape.dropout)
            status = ask_masks(net, pixel, label, MASKS, &mean, &apart, error);
        masks += mean / BATCHES;
        single += apart / BATCHES;
    }
    task->number[1] = related;
    if (task->shape.dropout) {
        task->number[2] = scaled - masks;
        task->number[3] = scaled - single;
    }
    dlb_net_release(net);
    return status;
}

enum dlb_status dlb_learn_dropout(struct dlb_lab *lab, struct dlb_error *error)
{
    static const int64_t sets[] = {128, 512};
    static struct dlb_task task[2 * 2 * DLB_TASK_SEEDS];
    int tasks = 0;
    for (int n = 0; n < (lab->quick ? 1 : 2); n++)
        for (int dropout = 0; dropout < 2; dropout++)
            for (int seed = 1; seed <= dlb_tasks_seeds(lab); seed++) {
                struct dlb_task *one = &task[tasks++];
                *one = (struct dlb_task){.arm = dropout ? "dropout" : "plain",
                                         .x = NAN,
                                         .shape = dlb_usual_net,
                                         .images = sets[n],
                                         .steps = lab->quick ? 400 : 2000};
                snprintf(one->condition, DLB_CONDITION_MAX, "images=%lld",
                         (long long)sets[n]);
                one->shape.depth = 2;
                one->shape.dropout = dropout ? 50 : 0;
                one->shape.seed = (uint64_t)seed;
            }
    enum dlb_status status = dlb_tasks_tune(lab, task, tasks, &dlb_usual_tuning, error);
    if (!status)
        status = dlb_tasks_run(lab, task, tasks, drop_out, error);
    if (!status)
        status = dlb_tasks_observe(lab, task, tasks, 0, "gap", NAN, error);
    if (!status)
        status = dlb_tasks_observe(lab, task, tasks, 1, "correlation", NAN, error);
    if (!status)
        status = dlb_tasks_observe(lab, task, tasks, 2, "scaled_less_mean", NAN, error);
    return status
               ? status
               : dlb_tasks_observe(lab, task, tasks, 3, "scaled_less_single", NAN, error);
}
