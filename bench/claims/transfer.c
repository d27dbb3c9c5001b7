#include "claims/learning.h"

#include "claims/tasks.h"
#include "measure/timer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* transfer: a network that has learnt five classes learns the other five */

enum {
    HALF = DLB_IMAGE_CLASSES / 2,
    PRETRAINING_IMAGES = 2048,
    PRETRAINING_STEPS = 1500,
    TEST_IMAGES = 512
};

static const struct arm {
    const char *name;
    bool pretrained, frozen;
    bool kept; /* the frozen part's outputs, made once: only the last layer runs */
} arms[] = {{"scratch", false, false, false},
            {"tuned", true, false, false},
            {"frozen", true, true, false},
            {"kept", true, true, true}};
enum { ARMS = sizeof arms / sizeof *arms };

/* What a network learns from, or is asked about. */
struct rows {
    float *src, *label; /* owned: [n][inputs], [n] */
    int64_t n, inputs;
};

static enum dlb_status make_rows(int64_t n, int64_t inputs, struct rows *rows,
                                 struct dlb_error *error)
{
    *rows = (struct rows){malloc((size_t)(n * inputs) * sizeof(float)),
                          malloc((size_t)n * sizeof(float)), n, inputs};
    return rows->src && rows->label
               ? DLB_OK
               : dlb_fail(error, DLB_NOMEM, "No memory is left for images.");
}

static void release_rows(struct rows *rows)
{
    free(rows->src);
    free(rows->label);
}

static enum dlb_status draw_rows(const struct dlb_image_set *set, int64_t n,
                                 struct rows *rows, struct dlb_error *error)
{
    enum dlb_status status = make_rows(n, DLB_IMAGE_PIXELS, rows, error);
    if (!status)
        dlb_images(set, 0, n, rows->src, rows->label);
    return status;
}

/* The outputs of the last hidden layer. */
static enum dlb_status keep_features(struct dlb_net *net,
                                     const struct dlb_net_shape *shape,
                                     const struct rows *images, struct rows *features,
                                     struct dlb_error *error)
{
    double loss, accuracy;
    enum dlb_status status = make_rows(images->n, shape->width, features, error);
    for (int64_t at = 0; at < images->n && !status; at += shape->batch) {
        status = dlb_net_infer(net, images->src + at * images->inputs, images->label + at,
                               shape->batch, &loss, &accuracy, NULL, error);
        memcpy(features->src + at * shape->width, dlb_net_hidden(net, shape->depth - 1),
               (size_t)(shape->batch * shape->width) * sizeof(float));
    }
    if (!status)
        memcpy(features->label, images->label, (size_t)images->n * sizeof(float));
    return status;
}

/* Steps first … last-1 over the rows, walked through in order. */
static enum dlb_status learn(struct dlb_net *net, const struct rows *rows, int64_t first,
                             int64_t last, double rate, struct dlb_error *error)
{
    enum dlb_status status = DLB_OK;
    double loss;
    for (int64_t step = first; step < last && !status; step++) {
        const int64_t at = step % (rows->n / DLB_TASK_BATCH) * DLB_TASK_BATCH;
        status = dlb_net_step(net, rows->src + at * rows->inputs, rows->label + at, rate,
                              &loss, error);
    }
    return status;
}

/* One arm's way of learning the new classes. */
struct course {
    const struct dlb_task *task;
    const struct arm *arm;
    const struct dlb_target *target;
    struct dlb_net *learnt;   /* the old classes */
    struct rows train, test;  /* features where they are kept */
    double preparing_seconds; /* of making these */
};

static enum dlb_status begin(const struct course *course, struct dlb_net **net,
                             struct dlb_error *error)
{
    struct dlb_net_shape shape = course->task->shape;
    shape.seed += 1000;
    if (course->arm->kept) {
        shape.depth = 0;
        shape.inputs = shape.width;
    }
    enum dlb_status status = dlb_net_make(&shape, course->target, net, error);
    if (!status && course->arm->pretrained && !course->arm->kept)
        dlb_net_copy(*net, course->learnt);
    if (!status && course->arm->frozen)
        dlb_net_freeze(*net);
    return status;
}

/* Learns in pieces of so many steps, and is tested after each: the last accuracy, and the
 * seconds of learning until it reached the task's target. */
static enum dlb_status take(const struct course *course, double rate, int64_t piece,
                            double *accuracy, double *seconds, struct dlb_error *error)
{
    const struct dlb_task *task = course->task;
    struct dlb_net *net = NULL;
    double spent = course->preparing_seconds, loss;
    enum dlb_status status = begin(course, &net, error);
    *seconds = 0;
    for (int64_t step = 0; step < task->steps && !status; step += piece) {
        double start = dlb_clock_ns();
        status = learn(net, &course->train, step, dlb_min(step + piece, task->steps),
                       rate, error);
        spent += (dlb_clock_ns() - start) * 1e-9;
        if (!status)
            status = dlb_net_infer(net, course->test.src, course->test.label,
                                   course->test.n, &loss, accuracy, NULL, error);
        if (!*seconds && *accuracy >= task->target)
            *seconds = spent;
    }
    if (!*seconds)
        *seconds = dlb_never_factor * spent;
    dlb_net_release(net);
    return status;
}

static enum dlb_status prepare(struct course *course, struct dlb_error *error)
{
    const struct dlb_task *task = course->task;
    struct dlb_image_set old = dlb_task_images(task, false), train = old,
                         test = dlb_task_images(task, true);
    struct rows images = {0}, asked = {0};
    old.seed = dlb_hash(dlb_train_seed, task->shape.seed + 100);
    old.classes = train.classes = test.classes = train.lowest = test.lowest = HALF;
    enum dlb_status status =
        dlb_net_make(&task->shape, course->target, &course->learnt, error);
    if (!status && course->arm->pretrained) {
        static const double RATE = 0.03;
        status = draw_rows(&old, PRETRAINING_IMAGES, &images, error);
        if (!status)
            status = learn(course->learnt, &images, 0, PRETRAINING_STEPS, RATE, error);
        release_rows(&images);
    }
    if (!status)
        status = draw_rows(&train, task->images, &course->train, error);
    if (!status)
        status = draw_rows(&test, TEST_IMAGES, &course->test, error);
    if (status || !course->arm->kept)
        return status;
    images = course->train;
    asked = course->test;
    course->train = course->test = (struct rows){0};
    double start = dlb_clock_ns();
    status = keep_features(course->learnt, &task->shape, &images, &course->train, error);
    course->preparing_seconds = (dlb_clock_ns() - start) * 1e-9;
    if (!status)
        status =
            keep_features(course->learnt, &task->shape, &asked, &course->test, error);
    release_rows(&images);
    release_rows(&asked);
    return status;
}

/* number: the best accuracy over the rates, the rate that had it, and with it the seconds
 * to the target. */
static enum dlb_status transfer(struct dlb_task *task, const struct dlb_target *target,
                                struct dlb_error *error)
{
    enum { PIECE = 10 };
    struct course course = {.task = task, .arm = task->own, .target = target};
    enum dlb_status status = prepare(&course, error);
    double accuracy = 0, seconds;
    task->number[0] = -1;
    for (int r = 0; r < DLB_RATES && !status; r++) {
        status =
            take(&course, dlb_rates_tried[r], task->steps, &accuracy, &seconds, error);
        if (accuracy > task->number[0]) {
            task->number[0] = accuracy;
            task->number[1] = dlb_rates_tried[r];
        }
    }
    if (!status)
        status =
            take(&course, task->number[1], PIECE, &accuracy, &task->number[2], error);
    release_rows(&course.train);
    release_rows(&course.test);
    dlb_net_release(course.learnt);
    return status;
}

/* Seconds of a step of each arm, in turn, on one thread. */
static enum dlb_status time_steps(struct dlb_lab *lab, const struct dlb_task *like,
                                  struct dlb_error *error)
{
    enum { ROUNDS = 15, STEPS = 20 };
    struct dlb_session *session = lab->session;
    struct dlb_target target = session->station[session->narrowest].target;
    struct course course[ARMS] = {0};
    struct dlb_net *net[ARMS] = {NULL};
    struct dlb_task round[ARMS * ROUNDS] = {0};
    enum dlb_status status = DLB_OK;
    for (int a = 0; a < ARMS && !status; a++) {
        course[a] = (struct course){.task = like, .arm = &arms[a], .target = &target};
        status = prepare(&course[a], error);
        if (!status)
            status = begin(&course[a], &net[a], error);
    }
    for (int r = -1; r < ROUNDS && !status; r++) /* the first one warms up */
        for (int i = 0; i < ARMS && !status; i++) {
            const int a = (r + 1 + i) % ARMS;
            double start = dlb_clock_ns();
            status = learn(net[a], &course[a].train, 0, STEPS, 1e-4, error);
            if (r < 0)
                continue;
            round[ARMS * r + a] = *like;
            round[ARMS * r + a].arm = arms[a].name;
            round[ARMS * r + a].shape.seed = (uint64_t)(r + 1);
            round[ARMS * r + a].number[0] = (dlb_clock_ns() - start) / STEPS;
        }
    for (int a = 0; a < ARMS; a++) {
        dlb_net_release(net[a]);
        release_rows(&course[a].train);
        release_rows(&course[a].test);
        dlb_net_release(course[a].learnt);
    }
    return status
               ? status
               : dlb_tasks_observe(lab, round, ARMS * ROUNDS, 0, "step_ns", NAN, error);
}

enum dlb_status dlb_learn_transfer(struct dlb_lab *lab, struct dlb_error *error)
{
    static const struct {
        int64_t images;
        double target; /* what scratch reaches in the end */
    } sets[] = {{32, 0.45}, {128, 0.65}, {1024, 0.8}};
    static const char *const metrics[] = {"accuracy", "best_rate", "seconds_to_accuracy"};
    static struct dlb_task task[3 * ARMS * DLB_TASK_SEEDS];
    int tasks = 0;
    for (int n = 0; n < (lab->quick ? 2 : 3); n++)
        for (int a = 0; a < ARMS; a++)
            for (int seed = 1; seed <= dlb_tasks_seeds(lab); seed++) {
                struct dlb_task *one = &task[tasks++];
                *one = (struct dlb_task){.arm = arms[a].name,
                                         .own = &arms[a],
                                         .x = NAN,
                                         .shape = dlb_usual_net,
                                         .images = sets[n].images,
                                         .target = sets[n].target,
                                         .steps = lab->quick ? 150 : 500};
                snprintf(one->condition, DLB_CONDITION_MAX, "images=%lld",
                         (long long)sets[n].images);
                one->shape.classes = HALF;
                one->shape.batchnorm = true;
                one->shape.seed = (uint64_t)seed;
            }
    enum dlb_status status = dlb_tasks_run(lab, task, tasks, transfer, error);
    for (int i = 0; i < 3 && !status; i++)
        status = dlb_tasks_observe(lab, task, tasks, i, metrics[i], NAN, error);
    for (int depth = 2; depth <= 8 && !status; depth *= 2) {
        struct dlb_task like = task[0];
        like.shape.depth = depth;
        snprintf(like.condition, DLB_CONDITION_MAX, "depth=%d", depth);
        status = time_steps(lab, &like, error);
    }
    return status;
}
