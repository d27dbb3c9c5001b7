/*
 * tasks.h - what the experiments on learning share: networks that are made, trained on
 * images and looked at, many of them side by side, each on one core.
 */
#ifndef DLB_CLAIMS_TASKS_H
#define DLB_CLAIMS_TASKS_H

#include "claims/images.h"
#include "claims/lab.h"
#include "claims/net.h"

enum {
    DLB_TASK_SEEDS = 5, /* of a condition; with --quick 3 */
    DLB_TASK_BATCH = 32,
    DLB_TEST_IMAGES = 1024,
    DLB_CONDITION_MAX = 64,
    DLB_TASK_NUMBERS = 6,
    DLB_CURVE_POINTS = 50,
    DLB_RATES = 10
};
extern const uint64_t dlb_train_seed, dlb_test_seed; /* of images, with the task's own */
extern const double dlb_rates_tried[DLB_RATES];
extern const double dlb_loss_most; /* whatever lies beyond has diverged */
extern const double
    dlb_never_factor; /* what is never reached: so many times what was tried */
extern const struct dlb_net_shape dlb_usual_net;

/* The smoothed loss of a training, at about so many steps. */
struct dlb_curve {
    int64_t step[DLB_CURVE_POINTS]; /* from 1 */
    double loss[DLB_CURVE_POINTS];
    int n;
};

/* One network to be made and looked at, and the numbers that came of it. */
struct dlb_task {
    char condition[DLB_CONDITION_MAX];
    const char *arm;
    double x;                   /* of observations, or NaN */
    struct dlb_net_shape shape; /* its seed is the replicate */
    double rate;                /* tuned, where an experiment does not set it */
    int64_t images, steps;      /* of training */
    double target;              /* loss */
    const void *own;            /* what the experiment has to know besides */
    const struct dlb_idx *idx;  /* the lab's images from files, or NULL */
    double number[DLB_TASK_NUMBERS];
    struct dlb_curve curve; /* of the training that the numbers are of */
};

typedef enum dlb_status dlb_task_fn(struct dlb_task *task,
                                    const struct dlb_target *target,
                                    struct dlb_error *error);

/* How many seeds a condition has. */
int dlb_tasks_seeds(const struct dlb_lab *lab);

/* Runs fn on each task, over the threads, each wholly on one; the first failure ends it. */
enum dlb_status dlb_tasks_run(struct dlb_lab *lab, struct dlb_task *task, int tasks,
                              dlb_task_fn *fn, struct dlb_error *error);

/* How learning rates are tuned: on so many seeds, fn leaving the loss in number[0]. */
struct dlb_tuning {
    dlb_task_fn *fn;
    const double *rate;
    int rates, seeds;
};
extern const struct dlb_tuning dlb_usual_tuning; /* dlb_task_try_rate, dlb_rates_tried */

/* Fills the rates: for each arm of each condition (tasks of one arm stand together) that of
 * the least mean loss on seeds that are not counted. */
enum dlb_status dlb_tasks_tune(struct dlb_lab *lab, struct dlb_task *task, int tasks,
                               const struct dlb_tuning *tuning, struct dlb_error *error);

/* Number `at` of all tasks as a metric: NaN is left out, infinity ("never") becomes never. */
enum dlb_status dlb_tasks_observe(struct dlb_lab *lab, const struct dlb_task *task,
                                  int tasks, int at, const char *metric, double never,
                                  struct dlb_error *error);

/* The curves of all tasks as the metric training_loss, a row a step. */
enum dlb_status dlb_tasks_observe_curves(struct dlb_lab *lab, const struct dlb_task *task,
                                         int tasks, struct dlb_error *error);

struct dlb_history {
    double last_loss; /* the last ones smoothed */
    int64_t reached;  /* step at which the loss fell to the target; 0: never */
    double reached_seconds, seconds; /* of training until then, and of all */
    struct dlb_curve curve;
};

/* Trains a fresh network of this seed, walking through the task's images in a fixed order;
 * *net is the caller's to release, also after a failure. */
enum dlb_status dlb_task_train(const struct dlb_task *task, uint64_t seed, double rate,
                               const struct dlb_target *target, struct dlb_net **net,
                               struct dlb_history *history, struct dlb_error *error);

/* number[0]: the last loss of training with the task's seed and rate; its curve. */
enum dlb_status dlb_task_try_rate(struct dlb_task *task, const struct dlb_target *target,
                                  struct dlb_error *error);

/* The images that a task trains on, or others to test on: all ten classes. */
struct dlb_image_set dlb_task_images(const struct dlb_task *task, bool test);

/* Loss and accuracy on the first n images of a set. */
enum dlb_status dlb_task_test(struct dlb_net *net, const struct dlb_image_set *set,
                              int64_t n, double *loss, double *accuracy,
                              struct dlb_error *error);

#endif
