/*
 * The table of experiments, and those of them that measure time: each condition on each
 * thread set, our kernels and oneDNN's, in paired rounds.  Those on learning stand in
 * learning.c, those that settle a fact in facts.c.
 */
#include "claims/facts.h"
#include "claims/learning.h"

#include <math.h>
#include <string.h>

enum { CONDITION_MAX = 96, SHAPE_MAX = 96, ARMS_MAX = 6 };

/* An arm as text: up to three steps one after another. */
struct recipe {
    const char *name;
    double x; /* 0: none */
    struct {
        const char *op;
        enum dlb_pass pass;
        char shape[SHAPE_MAX];
    } step[DLB_ARM_STEPS];
};

/* Makes the arms on the open threads and races them; an arm that oneDNN does not have
 * leaves its condition unobserved. */
static enum dlb_status race(struct dlb_lab *lab, const char *condition,
                            enum dlb_impl impl, const struct recipe *recipe, int arms,
                            struct dlb_error *error)
{
    static struct dlb_step step[ARMS_MAX][DLB_ARM_STEPS];
    struct dlb_arm arm[ARMS_MAX] = {0};
    enum dlb_status status = DLB_OK;
    if (dlb_lab_knows(lab, condition, dlb_impl_names[impl], lab->station->set.threads))
        return DLB_OK;
    memset(step, 0, sizeof step);
    for (int a = 0; a < arms && !status; a++) {
        arm[a].name = recipe[a].name;
        arm[a].x = recipe[a].x > 0 ? recipe[a].x : NAN;
        for (int s = 0; s < DLB_ARM_STEPS && recipe[a].step[s].op && !status; s++) {
            status =
                dlb_session_stopped(lab->session)
                    ? DLB_INTERRUPTED
                    : dlb_step_make(lab, recipe[a].step[s].op, recipe[a].step[s].shape,
                                    recipe[a].step[s].pass, impl, &step[a][s], error);
            arm[a].step[s] = &step[a][s];
        }
    }
    if (!status)
        status = dlb_lab_race(lab, condition, impl, arm, arms, error);
    for (int a = 0; a < arms; a++)
        for (int s = 0; s < DLB_ARM_STEPS; s++)
            dlb_step_release(&step[a][s]);
    return status == DLB_UNSUPPORTED ? DLB_OK : status;
}

/* One condition of an experiment: fills its name and its arms; returns how many. */
typedef int condition_fn(int number, bool quick, char condition[CONDITION_MAX],
                         struct recipe *recipe);

/* Conditions 0 … on each thread set, by us and by oneDNN, until one has no arms. */
static enum dlb_status sweep(struct dlb_lab *lab, condition_fn *fn,
                             struct dlb_error *error)
{
    char condition[CONDITION_MAX];
    struct recipe recipe[ARMS_MAX];
    int conditions = 0, done = 0;
    enum dlb_status status = DLB_OK;
    const int impls = dlb_onednn_version() ? 2 : 1;
    memset(recipe, 0, sizeof recipe);
    while (fn(conditions, lab->quick, condition, recipe))
        conditions++;
    for (int s = 0; s < lab->session->stations && !status; s++) {
        status = dlb_lab_open(lab, &lab->session->station[s], error);
        for (int i = 0; i < impls * conditions && !status; i++, done++) {
            memset(recipe, 0, sizeof recipe);
            int arms = fn(i / impls, lab->quick, condition, recipe);
            dlb_lab_progress(lab,
                             (double)done / (impls * conditions * lab->session->stations),
                             condition);
            status = race(lab, condition, i % impls ? DLB_IMPL_ONEDNN : DLB_IMPL_NATIVE,
                          recipe, arms, error);
        }
    }
    dlb_lab_close(lab);
    return status;
}

#define SHAPE(arm, number, what, how, ...)                                               \
    do {                                                                                 \
        (arm)->step[number].op = (what);                                                 \
        (arm)->step[number].pass = (how);                                                \
        snprintf((arm)->step[number].shape, SHAPE_MAX, __VA_ARGS__);                     \
    } while (0)

/* time(bwd) / time(fwd_train) */
static int backward_condition(int number, bool quick, char condition[CONDITION_MAX],
                              struct recipe *recipe)
{
    static const struct {
        const char *op, *shape;
        enum dlb_pass forward, backward[2];
    } conditions[] = {
        {"conv", "mb1ic128ih28oc128kh3ph1", DLB_FWD, {DLB_BWD_DATA, DLB_BWD_WEIGHTS}},
        {"linear", "mb64ic1024oc1024", DLB_FWD, {DLB_BWD_DATA, DLB_BWD_WEIGHTS}},
        {"lstm", "t5mb32dhc512", DLB_FWD_TRAIN, {DLB_BWD, DLB_PASS_COUNT}},
        {"gru", "t5mb32dhc512", DLB_FWD_TRAIN, {DLB_BWD, DLB_PASS_COUNT}},
        {"attention", "mb1hq12sq128d64", DLB_FWD_TRAIN, {DLB_BWD, DLB_PASS_COUNT}},
        {"batchnorm", "mb16ic128ih28relu1", DLB_FWD_TRAIN, {DLB_BWD, DLB_PASS_COUNT}},
    };
    enum { CONDITIONS = sizeof conditions / sizeof *conditions };
    if (number >= (quick ? 3 : CONDITIONS))
        return 0;
    snprintf(condition, CONDITION_MAX, "op=%s", conditions[number].op);
    recipe[0].name = "fwd_train";
    SHAPE(&recipe[0], 0, conditions[number].op, conditions[number].forward, "%s",
          conditions[number].shape);
    recipe[1].name = "bwd";
    for (int i = 0; i < 2 && conditions[number].backward[i] != DLB_PASS_COUNT; i++)
        SHAPE(&recipe[1], i, conditions[number].op, conditions[number].backward[i], "%s",
              conditions[number].shape);
    return 2;
}

static int activation_condition(int number, bool quick, char condition[CONDITION_MAX],
                                struct recipe *recipe)
{
    static const struct {
        const char *name;
        int64_t n;
    } sizes[] = {{"l1", 2048}, {"l2", 32768}, {"l3", 1048576}, {"memory", 33554432}};
    const int all = quick ? 3 : 4;
    if (number >= 2 * all)
        return 0;
    const enum dlb_pass pass = number % 2 ? DLB_BWD : DLB_FWD;
    snprintf(condition, CONDITION_MAX, "size=%s pass=%s", sizes[number / 2].name,
             dlb_pass_names[pass]);
    for (int i = 0; i < 2; i++) {
        recipe[i].name = i ? "sigmoid" : "relu";
        SHAPE(&recipe[i], 0, "activation", pass, "n%lldalg-%s",
              (long long)sizes[number / 2].n, recipe[i].name);
    }
    return 2;
}

/* A convolution that ends in batchnorm and ReLU, against one into which the batchnorm was
 * folded. */
static int batchnorm_condition(int number, bool quick, char condition[CONDITION_MAX],
                               struct recipe *recipe)
{
    static const struct {
        int ic, ih, oc, kh;
    } conditions[] = {{64, 56, 64, 3}, {128, 28, 512, 1}, {512, 7, 512, 3}};
    if (number >= (quick ? 1 : 3))
        return 0;
    const int ic = conditions[number].ic, ih = conditions[number].ih,
              oc = conditions[number].oc, kh = conditions[number].kh;
    snprintf(condition, CONDITION_MAX, "kernel=%d channels=%d", kh, oc);
    for (int i = 0; i < 2; i++) {
        recipe[i].name = i ? "batchnorm" : "plain";
        SHAPE(&recipe[i], 0, "conv", DLB_FWD, "mb1ic%dih%doc%dkh%dph%d%s", ic, ih, oc, kh,
              kh / 2, i ? "" : "bias1relu1");
    }
    SHAPE(&recipe[1], 1, "batchnorm", DLB_FWD, "mb1ic%dih%drelu1layout-nhwc", oc, ih);
    return 2;
}

static int pooling_condition(int number, bool quick, char condition[CONDITION_MAX],
                             struct recipe *recipe)
{
    static const struct {
        int channels, size;
    } conditions[] = {{64, 112}, {128, 56}, {256, 28}};
    if (number >= (quick ? 2 : 3))
        return 0;
    snprintf(condition, CONDITION_MAX, "size=%d", conditions[number].size);
    for (int i = 0; i < 2; i++) {
        recipe[i].name = i ? "pooled" : "full";
        SHAPE(&recipe[i], 0, "conv", DLB_FWD, "mb1ic%dih%doc%dkh3ph1",
              conditions[number].channels, conditions[number].size >> i,
              conditions[number].channels);
    }
    return 2;
}

static int conv_laws_condition(int number, bool quick, char condition[CONDITION_MAX],
                               struct recipe *recipe)
{
    static const struct {
        int channels, size;
    } conditions[] = {{64, 28}, {128, 28}, {256, 14}};
    enum { KERNELS = 3, STRIDE = KERNELS, CHANNELS, SIZE, ALL };
    static const char *const varied[] = {[STRIDE] = "stride", "channels", "size"};
    if (number >= (quick ? 1 : ALL))
        return 0;
    for (int i = 0; i < 3 && number >= KERNELS; i++) {
        const int channels = number == CHANNELS ? 64 << i : 64,
                  size = number == SIZE       ? 14 << i
                         : number == CHANNELS ? 14
                                              : 56,
                  stride = number == STRIDE ? 1 << i : 1;
        snprintf(condition, CONDITION_MAX, "varied=%s", varied[number]);
        recipe[i].name = varied[number];
        recipe[i].x = number == STRIDE ? stride : number == CHANNELS ? channels : size;
        SHAPE(&recipe[i], 0, "conv", DLB_FWD, "mb1ic%dih%doc%dkh3sh%dph1", channels, size,
              channels, stride);
    }
    if (number >= KERNELS)
        return 3;
    snprintf(condition, CONDITION_MAX, "channels=%d", conditions[number].channels);
    for (int i = 0; i < 4; i++) {
        const int kernel = 2 * i + 1;
        recipe[i].name = "kernel";
        recipe[i].x = kernel;
        SHAPE(&recipe[i], 0, "conv", DLB_FWD, "mb1ic%dih%doc%dkh%dph%d",
              conditions[number].channels, conditions[number].size,
              conditions[number].channels, kernel, kernel / 2);
    }
    return 4;
}

/* An LSTM layer and the attention of equal width over the same sequence. */
static int parallel_condition(int number, bool quick, char condition[CONDITION_MAX],
                              struct recipe *recipe)
{
    static const struct {
        int steps, batch;
    } conditions[] = {{32, 1}, {128, 1}, {128, 8}, {512, 1}, {2048, 1}, {4096, 1}};
    if (number >= (quick ? 2 : 6))
        return 0;
    const int steps = conditions[number].steps, batch = conditions[number].batch;
    snprintf(condition, CONDITION_MAX, "steps=%d batch=%d", steps, batch);
    recipe[0].name = "attention";
    SHAPE(&recipe[0], 0, "attention", DLB_FWD, "mb%dhq8sq%dd64", batch, steps);
    recipe[1].name = "lstm";
    SHAPE(&recipe[1], 0, "lstm", DLB_FWD, "t%dmb%ddhc512", steps, batch);
    return 2;
}

static int quadratic_condition(int number, bool quick, char condition[CONDITION_MAX],
                               struct recipe *recipe)
{
    if (number > 0)
        return 0;
    snprintf(condition, CONDITION_MAX, "width=512");
    for (int i = 0; i < (quick ? 3 : 4); i++) {
        recipe[i].name = "attention";
        recipe[i].x = 128 << i;
        SHAPE(&recipe[i], 0, "attention", DLB_FWD, "mb1hq8sq%dd64", 128 << i);
    }
    return quick ? 3 : 4;
}

static int multihead_condition(int number, bool quick, char condition[CONDITION_MAX],
                               struct recipe *recipe)
{
    static const int heads[] = {2, 4, 8, 16};
    if (number >= (quick ? 2 : 4))
        return 0;
    snprintf(condition, CONDITION_MAX, "heads=%d", heads[number]);
    recipe[0].name = "one";
    SHAPE(&recipe[0], 0, "attention", DLB_FWD, "mb1hq1sq256d512");
    recipe[1].name = "heads";
    SHAPE(&recipe[1], 0, "attention", DLB_FWD, "mb1hq%dsq256d%d", heads[number],
          512 / heads[number]);
    return 2;
}

/* A training step. */
static int gru_condition(int number, bool quick, char condition[CONDITION_MAX],
                         struct recipe *recipe)
{
    static const struct {
        int hidden, batch, steps;
    } conditions[] = {
        {256, 32, 10}, {512, 16, 10}, {512, 64, 10}, {1024, 32, 5}, {512, 1, 25}};
    if (number >= (quick ? 2 : 5))
        return 0;
    snprintf(condition, CONDITION_MAX, "hidden=%d batch=%d", conditions[number].hidden,
             conditions[number].batch);
    for (int i = 0; i < 2; i++) {
        recipe[i].name = i ? "gru" : "lstm";
        for (int s = 0; s < 2; s++)
            SHAPE(&recipe[i], s, recipe[i].name, s ? DLB_BWD : DLB_FWD_TRAIN,
                  "t%dmb%ddhc%d", conditions[number].steps, conditions[number].batch,
                  conditions[number].hidden);
    }
    return 2;
}

static int residual_condition(int number, bool quick, char condition[CONDITION_MAX],
                              struct recipe *recipe)
{
    static const struct {
        int channels, size;
    } conditions[] = {{64, 56}, {128, 28}, {512, 7}};
    if (number >= (quick ? 1 : 3))
        return 0;
    const int channels = conditions[number].channels, size = conditions[number].size;
    snprintf(condition, CONDITION_MAX, "channels=%d", channels);
    for (int i = 0; i < 2; i++) {
        recipe[i].name = i ? "separate" : "without";
        SHAPE(&recipe[i], 0, "conv", DLB_FWD, "mb1ic%dih%doc%dkh3ph1", channels, size,
              channels);
    }
    SHAPE(&recipe[1], 1, "add", DLB_FWD, "n%d", channels * size * size);
    return 2;
}

#define SWEEP(name)                                                                      \
    static enum dlb_status name##_run(struct dlb_lab *lab, struct dlb_error *error)      \
    {                                                                                    \
        return sweep(lab, name##_condition, error);                                      \
    }
SWEEP(backward)
SWEEP(activation)
SWEEP(batchnorm)
SWEEP(pooling)
SWEEP(conv_laws)
SWEEP(parallel)
SWEEP(quadratic)
SWEEP(multihead)
SWEEP(gru)
SWEEP(residual)

const struct dlb_experiment dlb_experiments[] = {
    {"backward", 60, 9, false, backward_run},
    {"activation", 45, 12, false, activation_run},
    {"batchnorm-cost", 30, 4, false, batchnorm_run},
    {"pooling", 22, 5, false, pooling_run},
    {"conv-laws", 80, 5, false, conv_laws_run},
    {"attention-parallel", 70, 8, false, parallel_run},
    {"attention-quadratic", 25, 6, false, quadratic_run},
    {"multihead", 30, 6, false, multihead_run},
    {"gru-params", 0.1, 0.1, true, dlb_facts_parameters},
    {"order", 0.1, 0.1, true, dlb_facts_order},
    {"dropout", 0.1, 0.1, true, dlb_facts_dropout},
    {"time", 0.5, 0.5, true, dlb_facts_time},
    {"gradients", 0.1, 0.1, true, dlb_facts_gradients},
    {"gru-faster", 80, 16, false, gru_run},
    {"residual-cost", 30, 4, false, residual_run},
    {"depth", 2, 2, true, dlb_learn_depth},
    {"dying", 1, 1, true, dlb_learn_dying},
    {"batchnorm", 90, 10, true, dlb_learn_batchnorm},
    {"dropout-learning", 10, 2, true, dlb_learn_dropout},
    {"residual-deep", 115, 7, true, dlb_learn_residual},
    {"transfer", 10, 2, true, dlb_learn_transfer},
    {"long-range", 90, 3, true, dlb_learn_recall},
    {"complex", 25, 5, true, dlb_learn_complex},
};
const int dlb_experiments_n = sizeof dlb_experiments / sizeof *dlb_experiments;
