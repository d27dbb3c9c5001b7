#include "claims/tasks.h"

#include "measure/timer.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { SEEDS_QUICK = 3, TUNING_SEED = 1000, TUNING_SEEDS = 3 };

const uint64_t dlb_train_seed = 1, dlb_test_seed = 2;
const double dlb_rates_tried[DLB_RATES] = {0.0001, 0.0003, 0.001, 0.003, 0.01,
                                           0.03,   0.1,    0.3,   1,     3};
const double dlb_loss_most = 1e3, dlb_never_factor = 2;
const struct dlb_net_shape dlb_usual_net = {.inputs = DLB_IMAGE_PIXELS,
                                            .width = 64,
                                            .classes = DLB_IMAGE_CLASSES,
                                            .batch = DLB_TASK_BATCH,
                                            .depth = 4,
                                            .activation = DLB_ACTIVATION_RELU,
                                            .init_scale = 1};

/* Tasks over the threads of the pool, each wholly on one. */
struct spread {
    struct dlb_task *task;
    int tasks;
    atomic_int next, failed;
    dlb_task_fn *fn;
    struct dlb_target target;
    const volatile int *stop;
    enum dlb_status status;
    struct dlb_error error;
    struct dlb_lab *lab;
};

static void work(void *context, const struct dlb_team *team)
{
    struct spread *spread = context;
    for (;;) {
        int i = atomic_fetch_add(&spread->next, 1);
        if (i >= spread->tasks || atomic_load(&spread->failed))
            return;
        if (team->rank == 0)
            dlb_lab_progress(spread->lab, (double)i / spread->tasks,
                             spread->task[i].condition);
        struct dlb_error error = {0};
        enum dlb_status status =
            spread->stop && *spread->stop
                ? DLB_INTERRUPTED
                : spread->fn(&spread->task[i], &spread->target, &error);
        if (status && !atomic_exchange(&spread->failed, 1)) {
            spread->status = status;
            spread->error = error;
        }
    }
}

enum dlb_status dlb_tasks_run(struct dlb_lab *lab, struct dlb_task *task, int tasks,
                              dlb_task_fn *fn, struct dlb_error *error)
{
    struct dlb_session *session = lab->session;
    struct spread spread = {.task = task,
                            .tasks = tasks,
                            .fn = fn,
                            .target = session->station[session->narrowest].target,
                            .stop = session->io.stop,
                            .lab = lab};
    spread.target.threads = 1;
    for (int i = 0; i < tasks; i++)
        task[i].idx = lab->idx;
    enum dlb_status status = dlb_lab_open(lab, &session->station[session->widest], error);
    if (status)
        return status;
    dlb_pool_run(lab->pool, work, &spread);
    dlb_lab_close(lab);
    if (spread.status)
        *error = spread.error;
    return spread.status;
}

int dlb_tasks_seeds(const struct dlb_lab *lab)
{
    return lab->quick ? SEEDS_QUICK : DLB_TASK_SEEDS;
}

static struct dlb_observed row_of(const struct dlb_task *task, const char *metric,
                                  double value)
{
    return (struct dlb_observed){.condition = (char *)task->condition,
                                 .impl = (char *)"",
                                 .arm = (char *)task->arm,
                                 .metric = (char *)metric,
                                 .replicate = (int64_t)task->shape.seed,
                                 .x = NAN,
                                 .value = value};
}

enum dlb_status dlb_tasks_observe(struct dlb_lab *lab, const struct dlb_task *task,
                                  int tasks, int at, const char *metric, double never,
                                  struct dlb_error *error)
{
    struct dlb_observed *row = calloc((size_t)tasks, sizeof *row);
    int rows = 0;
    if (!row)
        return dlb_fail(error, DLB_NOMEM, "No memory is left for the observations.");
    for (int i = 0; i < tasks; i++) {
        double value = task[i].number[at];
        if (isnan(value))
            continue;
        row[rows] = row_of(&task[i], metric, isfinite(value) ? value : never);
        row[rows++].x = task[i].x;
    }
    enum dlb_status status = dlb_lab_observe(lab, row, rows, error);
    free(row);
    return status;
}

enum dlb_status dlb_tasks_observe_curves(struct dlb_lab *lab, const struct dlb_task *task,
                                         int tasks, struct dlb_error *error)
{
    enum dlb_status status = DLB_OK;
    for (int i = 0; i < tasks && !status; i++) {
        struct dlb_observed row[DLB_CURVE_POINTS];
        for (int at = 0; at < task[i].curve.n; at++) {
            row[at] = row_of(&task[i], "training_loss", task[i].curve.loss[at]);
            row[at].step = task[i].curve.step[at];
        }
        status = dlb_lab_observe(lab, row, task[i].curve.n, error);
    }
    return status;
}

struct dlb_image_set dlb_task_images(const struct dlb_task *task, bool test)
{
    return (struct dlb_image_set){
        .idx = task->idx,
        .test = test,
        .seed = dlb_hash(test ? dlb_test_seed : dlb_train_seed, task->shape.seed),
        .classes = DLB_IMAGE_CLASSES};
}

/* A training set of images, walked through in a fixed order. */
static enum dlb_status train(struct dlb_net *net, const struct dlb_task *task,
                             double rate, struct dlb_history *history,
                             struct dlb_error *error)
{
    static const double FORGET = 0.1;
    const int64_t batches = task->images / DLB_TASK_BATCH;
    const int64_t every = (task->steps + DLB_CURVE_POINTS - 1) / DLB_CURVE_POINTS;
    const struct dlb_image_set set = dlb_task_images(task, false);
    float *pixel = malloc((size_t)task->images * DLB_IMAGE_PIXELS * sizeof *pixel);
    float *label = malloc((size_t)task->images * sizeof *label);
    enum dlb_status status = DLB_OK;
    double smooth = 0, start;
    *history = (struct dlb_history){0};
    if (!pixel || !label)
        status = dlb_fail(error, DLB_NOMEM, "No memory is left for images.");
    else
        dlb_images(&set, 0, task->images, pixel, label);
    start = dlb_clock_ns();
    for (int64_t step = 0; step < task->steps && !status; step++) {
        const int64_t at = step % batches * DLB_TASK_BATCH;
        double loss;
        status = dlb_net_step(net, pixel + at * DLB_IMAGE_PIXELS, label + at, rate, &loss,
                              error);
        loss = isfinite(loss) ? fmin(loss, dlb_loss_most) : dlb_loss_most;
        smooth = step ? (1 - FORGET) * smooth + FORGET * loss : loss;
        if ((step + 1) % every == 0 && history->curve.n < DLB_CURVE_POINTS) {
            history->curve.step[history->curve.n] = step + 1;
            history->curve.loss[history->curve.n++] = smooth;
        }
        if (!history->reached && step > 4 && smooth <= task->target) {
            history->reached = step + 1;
            history->reached_seconds = (dlb_clock_ns() - start) * 1e-9;
        }
    }
    history->seconds = (dlb_clock_ns() - start) * 1e-9;
    history->last_loss = smooth;
    free(pixel);
    free(label);
    return status;
}

enum dlb_status dlb_task_train(const struct dlb_task *task, uint64_t seed, double rate,
                               const struct dlb_target *target, struct dlb_net **net,
                               struct dlb_history *history, struct dlb_error *error)
{
    struct dlb_task own = *task;
    own.shape.seed = seed;
    enum dlb_status status = dlb_net_make(&own.shape, target, net, error);
    return status ? status : train(*net, &own, rate, history, error);
}

enum dlb_status dlb_task_try_rate(struct dlb_task *task, const struct dlb_target *target,
                                  struct dlb_error *error)
{
    struct dlb_net *net = NULL;
    struct dlb_history history = {0};
    enum dlb_status status =
        dlb_task_train(task, task->shape.seed, task->rate, target, &net, &history, error);
    dlb_net_release(net);
    task->number[0] = history.last_loss;
    task->curve = history.curve;
    return status;
}

static bool same_arm(const struct dlb_task *a, const struct dlb_task *b)
{
    return !strcmp(a->condition, b->condition) && !strcmp(a->arm, b->arm);
}

const struct dlb_tuning dlb_usual_tuning = {dlb_task_try_rate, dlb_rates_tried, DLB_RATES,
                                            TUNING_SEEDS};

enum dlb_status dlb_tasks_tune(struct dlb_lab *lab, struct dlb_task *task, int tasks,
                               const struct dlb_tuning *tuning, struct dlb_error *error)
{
    const int rates = tuning->rates, seeds = lab->quick ? 1 : tuning->seeds;
    struct dlb_task *trial = calloc((size_t)(tasks * rates * seeds), sizeof *trial);
    int trials = 0;
    if (!trial)
        return dlb_fail(error, DLB_NOMEM, "No memory is left for the experiment.");
    for (int i = 0; i < tasks; i++) {
        if (i && same_arm(&task[i], &task[i - 1]))
            continue;
        for (int r = 0; r < rates; r++)
            for (int seed = 0; seed < seeds; seed++) {
                trial[trials] = task[i];
                trial[trials].rate = tuning->rate[r];
                trial[trials++].shape.seed = (uint64_t)(TUNING_SEED + seed);
            }
    }
    enum dlb_status status = dlb_tasks_run(lab, trial, trials, tuning->fn, error);
    for (int at = 0; at < trials && !status; at += rates * seeds) {
        double least = INFINITY, best = 0;
        for (int r = 0; r < rates; r++) {
            double sum = 0;
            for (int seed = 0; seed < seeds; seed++)
                sum += trial[at + r * seeds + seed].number[0];
            if (sum < least) {
                least = sum;
                best = tuning->rate[r];
            }
        }
        for (int i = 0; i < tasks; i++)
            if (same_arm(&task[i], &trial[at]))
                task[i].rate = best;
    }
    free(trial);
    return status;
}

enum dlb_status dlb_task_test(struct dlb_net *net, const struct dlb_image_set *set,
                              int64_t n, double *loss, double *accuracy,
                              struct dlb_error *error)
{
    float *pixel = malloc((size_t)n * DLB_IMAGE_PIXELS * sizeof *pixel);
    float *label = malloc((size_t)n * sizeof *label);
    enum dlb_status status = DLB_OK;
    if (!pixel || !label)
        status = dlb_fail(error, DLB_NOMEM, "No memory is left for images.");
    else
        dlb_images(set, 0, n, pixel, label);
    if (!status)
        status = dlb_net_infer(net, pixel, label, n, loss, accuracy, NULL, error);
    free(pixel);
    free(label);
    return status;
}
