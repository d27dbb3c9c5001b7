#include "claims/learning.h"

#include "claims/graph.h"
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

/* What a network with dropout says of one batch. */
struct answers {
    double loss, accuracy;           /* of the scaled network */
    double mean_loss, mean_accuracy; /* of the mean prediction of many masks */
    double single_loss;              /* mean of each mask by itself */
};

static enum dlb_status ask_masks(struct dlb_net *net, const float *pixel,
                                 const float *label, struct answers *answers,
                                 struct dlb_error *error)
{
    enum { MASKS = 30 };
    double mean[DLB_TASK_BATCH * DLB_IMAGE_CLASSES] = {0}, ignored;
    float score[DLB_TASK_BATCH * DLB_IMAGE_CLASSES];
    enum dlb_status status = DLB_OK;
    for (int m = 0; m < MASKS && !status; m++) {
        double one[DLB_TASK_BATCH * DLB_IMAGE_CLASSES] = {0};
        status = dlb_net_step(net, pixel, label, 0, &ignored, error);
        add_softmax(dlb_net_logits(net), DLB_TASK_BATCH, one);
        answers->single_loss += cross_entropy(one, label, DLB_TASK_BATCH) / MASKS;
        for (int i = 0; i < DLB_TASK_BATCH * DLB_IMAGE_CLASSES; i++)
            mean[i] += one[i] / MASKS;
    }
    answers->mean_loss = cross_entropy(mean, label, DLB_TASK_BATCH);
    for (int i = 0; i < DLB_TASK_BATCH * DLB_IMAGE_CLASSES; i++)
        score[i] = (float)mean[i];
    answers->mean_accuracy =
        (double)dlb_rows_right(score, label, DLB_TASK_BATCH, DLB_IMAGE_CLASSES) /
        DLB_TASK_BATCH;
    return status;
}

/* The mean loss over a batch with one unit of the first layer cut off, a few in turn. */
static enum dlb_status cut_units(struct dlb_net *net, const float *pixel,
                                 const float *label, int64_t width, double *loss,
                                 struct dlb_error *error)
{
    enum { CUTS = 8 };
    float *weights;
    const float *gradient;
    const int64_t n = dlb_net_weights(net, 1, &weights, &gradient);
    float *kept = malloc((size_t)n * sizeof *kept);
    enum dlb_status status = DLB_OK;
    double one, accuracy;
    if (!kept)
        return dlb_fail(error, DLB_NOMEM, "No memory is left for the experiment.");
    memcpy(kept, weights, (size_t)n * sizeof *kept);
    *loss = 0;
    for (int cut = 0; cut < CUTS && !status; cut++) {
        for (int64_t w = cut * width / CUTS; w < n; w += width)
            weights[w] = 0;
        status = dlb_net_infer(net, pixel, label, DLB_TASK_BATCH, &one, &accuracy, NULL,
                               error);
        *loss += one / CUTS;
        memcpy(weights, kept, (size_t)n * sizeof *kept);
    }
    free(kept);
    return status;
}

enum { GAP, CORRELATION, CUT, MEAN, SINGLE, MEAN_ACCURACY };
static const char *const metrics[] = {"gap",
                                      "correlation",
                                      "cut_loss",
                                      "scaled_less_mean",
                                      "scaled_less_single",
                                      "accuracy_less_mean"};

/* number: the gap; over some images the correlation of the first layer's units and what
 * the loss rises by without one of them; with dropout what the scaled network's loss and
 * accuracy are, less those of the masks. */
static enum dlb_status drop_out(struct dlb_task *task, const struct dlb_target *target,
                                struct dlb_error *error)
{
    enum { BATCHES = 8 };
    struct dlb_net *net = NULL;
    struct dlb_history history;
    float label[DLB_TASK_BATCH], pixel[DLB_TASK_BATCH * DLB_IMAGE_PIXELS];
    double loss, train_loss, accuracy;
    const struct dlb_image_set train = dlb_task_images(task, false),
                               test = dlb_task_images(task, true);
    enum dlb_status status =
        dlb_task_train(task, task->shape.seed, task->rate, target, &net, &history, error);
    if (!status)
        status = dlb_task_test(net, &test, DLB_TEST_IMAGES, &loss, &accuracy, error);
    if (!status)
        status = dlb_task_test(net, &train, task->images, &train_loss, &accuracy, error);
    memset(task->number, 0, sizeof task->number);
    task->curve = history.curve;
    task->number[GAP] = loss - train_loss;
    for (int b = 0; b < BATCHES && !status; b++) {
        struct answers answers = {0};
        double cut = 0;
        dlb_images(&test, b * DLB_TASK_BATCH, DLB_TASK_BATCH, pixel, label);
        status = dlb_net_infer(net, pixel, label, DLB_TASK_BATCH, &answers.loss,
                               &answers.accuracy, NULL, error);
        task->number[CORRELATION] +=
            correlation(dlb_net_hidden(net, 0), DLB_TASK_BATCH, task->shape.width) /
            BATCHES;
        if (!status)
            status = cut_units(net, pixel, label, task->shape.width, &cut, error);
        if (!status && task->shape.dropout)
            status = ask_masks(net, pixel, label, &answers, error);
        task->number[CUT] += (cut - answers.loss) / BATCHES;
        task->number[MEAN] += (answers.loss - answers.mean_loss) / BATCHES;
        task->number[SINGLE] += (answers.loss - answers.single_loss) / BATCHES;
        task->number[MEAN_ACCURACY] +=
            (answers.accuracy - answers.mean_accuracy) / BATCHES;
    }
    for (int i = MEAN; i <= MEAN_ACCURACY && !task->shape.dropout; i++)
        task->number[i] = NAN;
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
        status = dlb_tasks_observe_curves(lab, task, tasks, error);
    for (int i = GAP; i <= MEAN_ACCURACY && !status; i++)
        status = dlb_tasks_observe(lab, task, tasks, i, metrics[i], NAN, error);
    return status;
}
