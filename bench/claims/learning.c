#include "claims/learning.h"

#include "claims/images.h"
#include "claims/net.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
    SEEDS = 5,
    SEEDS_QUICK = 3,
    TUNING_SEED = 1000,
    TUNING_SEEDS = 3,
    BATCH = 32,
    TEST_IMAGES = 1024,
    CONDITION_MAX = 64,
    NUMBERS_MAX = 4
};
static const uint64_t train_seed = 1, test_seed = 2;
static const double rates[] = {0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3};
enum { RATES = sizeof rates / sizeof *rates };
static const double SEEN = 1e-30;    /* smaller gradients may have lost bits */
static const double LOSS_MOST = 1e3; /* whatever lies beyond has diverged */

/* One network to be made and looked at, and the numbers that came of it. */
struct task {
    char condition[CONDITION_MAX];
    const char *arm;
    double x;
    struct dlb_net_shape shape;
    double rate; /* tuned, where an experiment does not set it */
    int64_t images, steps;
    double target; /* loss */
    double number[NUMBERS_MAX];
};

typedef enum dlb_status task_fn(struct task *task, const struct dlb_target *target,
                                struct dlb_error *error);

/* Tasks over the threads of the pool, each wholly on one. */
struct spread {
    struct task *task;
    int tasks;
    atomic_int next, failed;
    task_fn *fn;
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

static enum dlb_status run_tasks(struct dlb_lab *lab, struct task *task, int tasks,
                                 task_fn *fn, struct dlb_error *error)
{
    struct dlb_session *session = lab->session;
    struct spread spread = {.task = task,
                            .tasks = tasks,
                            .fn = fn,
                            .target = session->station[session->narrowest].target,
                            .stop = session->io.stop,
                            .lab = lab};
    spread.target.threads = 1;
    enum dlb_status status = dlb_lab_open(lab, &session->station[session->widest], error);
    if (status)
        return status;
    dlb_pool_run(lab->pool, work, &spread);
    dlb_lab_close(lab);
    if (spread.status)
        *error = spread.error;
    return spread.status;
}

static int seeds_of(const struct dlb_lab *lab)
{
    return lab->quick ? SEEDS_QUICK : SEEDS;
}

/* Number `at` of all tasks as a metric; infinite ones ("never") as never. */
static enum dlb_status observe(struct dlb_lab *lab, const struct task *task, int tasks,
                               int at, const char *metric, double never,
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
        row[rows++] = (struct dlb_observed){.condition = (char *)task[i].condition,
                                            .impl = (char *)"",
                                            .arm = (char *)task[i].arm,
                                            .metric = (char *)metric,
                                            .replicate = (int64_t)task[i].shape.seed,
                                            .x = task[i].x,
                                            .value = isfinite(value) ? value : never};
    }
    enum dlb_status status = dlb_lab_observe(lab, row, rows, error);
    free(row);
    return status;
}

static const struct dlb_net_shape usual = {.inputs = DLB_IMAGE_PIXELS,
                                           .width = 64,
                                           .classes = DLB_IMAGE_CLASSES,
                                           .batch = BATCH,
                                           .depth = 4,
                                           .activation = DLB_ACTIVATION_RELU,
                                           .init_scale = 1};

/* Training */

struct history {
    double first_loss, last_loss; /* of the last steps, in the middle */
    int64_t reached; /* step at which the loss fell to the target; 0: never */
};

/* A training set of images, walked through in a fixed order. */
static enum dlb_status train(struct dlb_net *net, const struct task *task, double rate,
                             struct history *history, struct dlb_error *error)
{
    static const double FORGET = 0.1;
    const int64_t batches = task->images / BATCH;
    float *pixel = malloc((size_t)task->images * DLB_IMAGE_PIXELS * sizeof *pixel);
    float *label = malloc((size_t)task->images * sizeof *label);
    enum dlb_status status = DLB_OK;
    double smooth = 0;
    *history = (struct history){0};
    if (!pixel || !label)
        status = dlb_fail(error, DLB_NOMEM, "No memory is left for images.");
    else
        dlb_images(dlb_hash(train_seed, task->shape.seed), 0, task->images, pixel, label);
    for (int64_t step = 0; step < task->steps && !status; step++) {
        const int64_t at = step % batches * BATCH;
        double loss;
        status = dlb_net_step(net, pixel + at * DLB_IMAGE_PIXELS, label + at, rate, &loss,
                              error);
        loss = isfinite(loss) ? fmin(loss, LOSS_MOST) : LOSS_MOST;
        smooth = step ? (1 - FORGET) * smooth + FORGET * loss : loss;
        if (!step)
            history->first_loss = loss;
        if (!history->reached && step > 4 && smooth <= task->target)
            history->reached = step + 1;
    }
    history->last_loss = smooth;
    free(pixel);
    free(label);
    return status;
}

/* Trains a fresh network; *net is the caller's. */
static enum dlb_status train_anew(const struct task *task, uint64_t seed, double rate,
                                  const struct dlb_target *target, struct dlb_net **net,
                                  struct history *history, struct dlb_error *error)
{
    struct task own = *task;
    own.shape.seed = seed;
    enum dlb_status status = dlb_net_make(&own.shape, target, net, error);
    return status ? status : train(*net, &own, rate, history, error);
}

static enum dlb_status try_rate(struct task *task, const struct dlb_target *target,
                                struct dlb_error *error)
{
    struct dlb_net *net = NULL;
    struct history history = {0};
    enum dlb_status status =
        train_anew(task, task->shape.seed, task->rate, target, &net, &history, error);
    dlb_net_release(net);
    task->number[0] = history.last_loss;
    return status;
}

static bool same_arm(const struct task *a, const struct task *b)
{
    return !strcmp(a->condition, b->condition) && !strcmp(a->arm, b->arm);
}

/* For each arm of each condition the rate of the least mean loss, on seeds that are not
 * counted. */
static enum dlb_status tune_rates(struct dlb_lab *lab, struct task *task, int tasks,
                                  struct dlb_error *error)
{
    const int seeds = lab->quick ? 1 : TUNING_SEEDS;
    struct task *trial = calloc((size_t)(tasks * RATES * seeds), sizeof *trial);
    int trials = 0;
    if (!trial)
        return dlb_fail(error, DLB_NOMEM, "No memory is left for the experiment.");
    for (int i = 0; i < tasks; i++) {
        if (i && same_arm(&task[i], &task[i - 1]))
            continue;
        for (int r = 0; r < RATES; r++)
            for (int seed = 0; seed < seeds; seed++) {
                trial[trials] = task[i];
                trial[trials].rate = rates[r];
                trial[trials++].shape.seed = (uint64_t)(TUNING_SEED + seed);
            }
    }
    enum dlb_status status = run_tasks(lab, trial, trials, try_rate, error);
    for (int at = 0; at < trials && !status; at += RATES * seeds) {
        double least = INFINITY, best = 0;
        for (int r = 0; r < RATES; r++) {
            double sum = 0;
            for (int seed = 0; seed < seeds; seed++)
                sum += trial[at + r * seeds + seed].number[0];
            if (sum < least) {
                least = sum;
                best = rates[r];
            }
        }
        for (int i = 0; i < tasks; i++)
            if (same_arm(&task[i], &trial[at]))
                task[i].rate = best;
    }
    free(trial);
    return status;
}

static enum dlb_status test(struct dlb_net *net, uint64_t seed, int64_t n, double *loss,
                            double *accuracy, float *logits, float *label,
                            struct dlb_error *error)
{
    float *pixel = malloc((size_t)n * DLB_IMAGE_PIXELS * sizeof *pixel);
    if (!pixel)
        return dlb_fail(error, DLB_NOMEM, "No memory is left for images.");
    dlb_images(seed, 0, n, pixel, label);
    enum dlb_status status =
        dlb_net_infer(net, pixel, label, n, loss, accuracy, logits, error);
    free(pixel);
    return status;
}

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
static enum dlb_status look_at_gradients(struct task *task,
                                         const struct dlb_target *target,
                                         struct dlb_error *error)
{
    float pixel[BATCH * DLB_IMAGE_PIXELS], label[BATCH], *weights;
    const float *gradient;
    struct dlb_net *net = NULL;
    double loss;
    dlb_images(dlb_hash(train_seed, task->shape.seed), 0, BATCH, pixel, label);
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
    static const int depths[] = {5, 10, 20, 40, 80};
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
    static struct task task[3 * 4 * 5 * SEEDS];
    int tasks = 0;
    for (int f = 0; f < 3; f++)
        for (int a = 0; a < 4; a++)
            for (int d = 0; d < (lab->quick ? 4 : 5); d++)
                for (int seed = 1; seed <= seeds_of(lab); seed++) {
                    struct task *one = &task[tasks++];
                    *one = (struct task){
                        .arm = arms[a].name, .x = depths[d], .shape = usual};
                    snprintf(one->condition, CONDITION_MAX, "activation=%s",
                             functions[f].name);
                    one->shape.width = 32;
                    one->shape.depth = depths[d];
                    one->shape.activation = functions[f].activation;
                    one->shape.batchnorm = arms[a].batchnorm;
                    one->shape.residual = arms[a].residual;
                    one->shape.seed = (uint64_t)seed;
                }
    enum dlb_status status = run_tasks(lab, task, tasks, look_at_gradients, error);
    if (!status)
        status = observe(lab, task, tasks, 0, "log10_gradient", 0, error);
    return status ? status : observe(lab, task, tasks, 1, "abs_log10_gradient", 0, error);
}

/* dying: units without output */

static enum dlb_status count_dead(struct task *task, const struct dlb_target *target,
                                  struct dlb_error *error)
{
    struct dlb_net *net = NULL;
    struct history history;
    float label[BATCH], pixel[BATCH * DLB_IMAGE_PIXELS];
    bool alive[4 * 64] = {false};
    double loss, accuracy;
    const int64_t width = task->shape.width;
    enum dlb_status status =
        train_anew(task, task->shape.seed, task->rate, target, &net, &history, error);
    for (int batch = 0; batch < TEST_IMAGES / BATCH && !status; batch++) {
        dlb_images(test_seed, batch * BATCH, BATCH, pixel, label);
        status = dlb_net_infer(net, pixel, label, BATCH, &loss, &accuracy, NULL, error);
        for (int l = 0; l < task->shape.depth && !status; l++)
            for (int64_t i = 0; i < BATCH * width; i++)
                if (dlb_net_hidden(net, l)[i] != 0)
                    alive[l * width + i % width] = true;
    }
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
    static struct task task[4 * 2 * SEEDS];
    int tasks = 0;
    for (int r = 0; r < 4; r++)
        for (int leaky = 0; leaky < 2; leaky++)
            for (int seed = 1; seed <= seeds_of(lab); seed++) {
                struct task *one = &task[tasks++];
                *one = (struct task){.arm = leaky ? "leaky" : "relu",
                                     .x = NAN,
                                     .shape = usual,
                                     .rate = rising[r],
                                     .images = 1024,
                                     .steps = lab->quick ? 150 : 600};
                snprintf(one->condition, CONDITION_MAX, "rate=%g", rising[r]);
                one->shape.activation =
                    leaky ? DLB_ACTIVATION_LEAKY : DLB_ACTIVATION_RELU;
                one->shape.seed = (uint64_t)seed;
            }
    enum dlb_status status = run_tasks(lab, task, tasks, count_dead, error);
    return status ? status : observe(lab, task, tasks, 0, "dead_share", 0, error);
}

/* batchnorm: convergence, rates, initialisation, the gap */

/* number: steps to the target and the gap, at the tuned rate; the largest rate that
 * converges; the spread of the final loss over initial scales. */
static enum dlb_status compare_batchnorm(struct task *task,
                                         const struct dlb_target *target,
                                         struct dlb_error *error)
{
    static const double scales[] = {0.1, 0.3, 1, 3, 10};
    struct dlb_net *net = NULL;
    struct history history;
    float label[TEST_IMAGES];
    double loss, accuracy, train_loss, low = INFINITY, high = -INFINITY;
    const uint64_t seed = task->shape.seed;
    enum dlb_status status =
        train_anew(task, seed, task->rate, target, &net, &history, error);
    if (!status)
        status = test(net, dlb_hash(test_seed, seed), TEST_IMAGES, &loss, &accuracy, NULL,
                      label, error);
    if (!status)
        status = test(net, dlb_hash(train_seed, seed), TEST_IMAGES, &train_loss,
                      &accuracy, NULL, label, error);
    dlb_net_release(net);
    task->number[0] = history.reached ? (double)history.reached : INFINITY;
    task->number[1] = loss - train_loss;
    task->number[2] = rates[0];
    for (int i = 0; i < RATES && !status; i++) {
        status = train_anew(task, seed, rates[i], target, &net, &history, error);
        if (!status && history.last_loss <= task->target)
            task->number[2] = rates[i];
        dlb_net_release(net);
    }
    for (size_t i = 0; i < sizeof scales / sizeof *scales && !status; i++) {
        struct task scaled = *task;
        scaled.shape.init_scale = scales[i];
        status = train_anew(&scaled, seed, task->rate, target, &net, &history, error);
        low = fmin(low, history.last_loss);
        high = fmax(high, history.last_loss);
        dlb_net_release(net);
    }
    task->number[3] = fmax(high - low, 1e-6);
    return status;
}

enum dlb_status dlb_learn_batchnorm(struct dlb_lab *lab, struct dlb_error *error)
{
    static const int depths[] = {2, 8};
    static struct task task[2 * 2 * SEEDS];
    const int64_t steps = lab->quick ? 200 : 1000;
    int tasks = 0;
    for (int d = lab->quick; d < 2; d++)
        for (int batchnorm = 0; batchnorm < 2; batchnorm++)
            for (int seed = 1; seed <= seeds_of(lab); seed++) {
                struct task *one = &task[tasks++];
                *one = (struct task){.arm = batchnorm ? "batchnorm" : "plain",
                                     .x = NAN,
                                     .shape = usual,
                                     .images = 1024,
                                     .steps = steps,
                                     .target = 1};
                snprintf(one->condition, CONDITION_MAX, "depth=%d", depths[d]);
                one->shape.depth = depths[d];
                one->shape.batchnorm = batchnorm;
                one->shape.seed = (uint64_t)seed;
            }
    enum dlb_status status = tune_rates(lab, task, tasks, error);
    if (!status)
        status = run_tasks(lab, task, tasks, compare_batchnorm, error);
    if (!status)
        status =
            observe(lab, task, tasks, 0, "steps_to_target", 2 * (double)steps, error);
    if (!status)
        status = observe(lab, task, tasks, 1, "gap", NAN, error);
    if (!status)
        status = observe(lab, task, tasks, 2, "largest_rate", NAN, error);
    return status ? status : observe(lab, task, tasks, 3, "loss_spread", NAN, error);
}

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
    double mean[BATCH * DLB_IMAGE_CLASSES] = {0}, ignored;
    enum dlb_status status = DLB_OK;
    *single = 0;
    for (int m = 0; m < masks && !status; m++) {
        double one[BATCH * DLB_IMAGE_CLASSES] = {0};
        status = dlb_net_step(net, pixel, label, 0, &ignored, error);
        add_softmax(dlb_net_logits(net), BATCH, one);
        *single += cross_entropy(one, label, BATCH) / masks;
        for (int i = 0; i < BATCH * DLB_IMAGE_CLASSES; i++)
            mean[i] += one[i] / masks;
    }
    *loss = cross_entropy(mean, label, BATCH);
    return status;
}

/* number: the gap, the correlation of the first layer's units; with dropout the loss of
 * the scaled network less that of the masks' mean, over the same images. */
static enum dlb_status drop_out(struct task *task, const struct dlb_target *target,
                                struct dlb_error *error)
{
    enum { MASKS = 30, BATCHES = 4 };
    struct dlb_net *net = NULL;
    struct history history;
    float label[TEST_IMAGES], pixel[BATCH * DLB_IMAGE_PIXELS];
    double loss, train_loss, accuracy;
    const uint64_t seed = task->shape.seed;
    enum dlb_status status =
        train_anew(task, seed, task->rate, target, &net, &history, error);
    if (!status)
        status = test(net, dlb_hash(test_seed, seed), TEST_IMAGES, &loss, &accuracy, NULL,
                      label, error);
    if (!status)
        status = test(net, dlb_hash(train_seed, seed), task->images, &train_loss,
                      &accuracy, NULL, label, error);
    task->number[0] = loss - train_loss;
    task->number[1] = task->number[2] = task->number[3] = NAN;
    double scaled = 0, masks = 0, single = 0, related = 0;
    for (int b = 0; b < BATCHES && !status; b++) {
        double one, mean = 0, apart = 0;
        dlb_images(dlb_hash(test_seed, seed), b * BATCH, BATCH, pixel, label);
        status = dlb_net_infer(net, pixel, label, BATCH, &one, &accuracy, NULL, error);
        scaled += one / BATCHES;
        related +=
            correlation(dlb_net_hidden(net, 0), BATCH, task->shape.width) / BATCHES;
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
    static struct task task[2 * 2 * SEEDS];
    int tasks = 0;
    for (int n = 0; n < (lab->quick ? 1 : 2); n++)
        for (int dropout = 0; dropout < 2; dropout++)
            for (int seed = 1; seed <= seeds_of(lab); seed++) {
                struct task *one = &task[tasks++];
                *one = (struct task){.arm = dropout ? "dropout" : "plain",
                                     .x = NAN,
                                     .shape = usual,
                                     .images = sets[n],
                                     .steps = lab->quick ? 400 : 2000};
                snprintf(one->condition, CONDITION_MAX, "images=%lld",
                         (long long)sets[n]);
                one->shape.depth = 2;
                one->shape.dropout = dropout ? 50 : 0;
                one->shape.seed = (uint64_t)seed;
            }
    enum dlb_status status = tune_rates(lab, task, tasks, error);
    if (!status)
        status = run_tasks(lab, task, tasks, drop_out, error);
    if (!status)
        status = observe(lab, task, tasks, 0, "gap", NAN, error);
    if (!status)
        status = observe(lab, task, tasks, 1, "correlation", NAN, error);
    if (!status)
        status = observe(lab, task, tasks, 2, "scaled_less_mean", NAN, error);
    return status ? status
                  : observe(lab, task, tasks, 3, "scaled_less_single", NAN, error);
}

/* residual-deep: can it be trained at all? */

enum dlb_status dlb_learn_residual(struct dlb_lab *lab, struct dlb_error *error)
{
    static const int depths[] = {20, 56, 110};
    static struct task task[3 * 2 * SEEDS];
    int tasks = 0;
    for (int d = 0; d < (lab->quick ? 1 : 3); d++)
        for (int residual = 0; residual < 2; residual++)
            for (int seed = 1; seed <= seeds_of(lab); seed++) {
                struct task *one = &task[tasks++];
                *one = (struct task){.arm = residual ? "residual" : "plain",
                                     .x = NAN,
                                     .shape = usual,
                                     .images = 1024,
                                     .steps = lab->quick ? 100 : 400};
                snprintf(one->condition, CONDITION_MAX, "depth=%d", depths[d]);
                one->shape.width = 32;
                one->shape.depth = depths[d];
                one->shape.batchnorm = true;
                one->shape.residual = residual;
                one->shape.seed = (uint64_t)seed;
            }
    enum dlb_status status = tune_rates(lab, task, tasks, error);
    if (!status)
        status = run_tasks(lab, task, tasks, try_rate, error);
    return status ? status : observe(lab, task, tasks, 0, "loss", LOSS_MOST, error);
}
