/* Experiments on memory: recalling, copying and adding over a sequence (sequence.h).  Each
 * step of training has fresh sequences; a seed gives the same ones to all arms. */
#include "claims/learning.h"
#include "claims/sequence.h"
#include "claims/tasks.h"
#include "judge/significance.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SYMBOLS = 8, DIGITS = 5, WIDTH = 32 };
/* GRU of this width has as many weights as LSTM of WIDTH, within 3 in 100, with about
 * SYMBOLS inputs. */
enum { GRU_WIDTH = 38 };

/*
 * recall  random symbols; which one stood `distance` steps before the last?
 * copy    five symbols, blanks, at the end as many questions: the symbols in order
 * add     a digit each step, two of them marked; their sum
 */
enum puzzle { RECALL, COPY, ADD };

struct reading {
    enum puzzle puzzle;
    int64_t distance; /* of recall */
    struct dlb_sequence_shape net;
};

static struct dlb_sequence_shape net_of(enum puzzle puzzle, enum dlb_reader reader,
                                        int64_t width, int64_t steps)
{
    enum { COPIED = 5 };
    static const struct {
        int64_t inputs, answers, classes;
    } kinds[] = {[RECALL] = {SYMBOLS, 1, SYMBOLS},
                 [COPY] = {SYMBOLS + 1, COPIED, SYMBOLS},
                 [ADD] = {DIGITS + 1, 1, 2 * DIGITS - 1}};
    return (struct dlb_sequence_shape){.reader = reader,
                                       .batch = DLB_TASK_BATCH,
                                       .steps = steps,
                                       .inputs = kinds[puzzle].inputs,
                                       .width = width,
                                       .answers = kinds[puzzle].answers,
                                       .classes = kinds[puzzle].classes};
}

static int64_t draw(struct dlb_random *random, int64_t n)
{
    return dlb_min(n - 1, (int64_t)((double)n * dlb_random_uniform(random)));
}

/* One sequence [steps, inputs] and its answers. */
static void pose(const struct reading *reading, struct dlb_random *random, float *src,
                 float *label)
{
    const struct dlb_sequence_shape *net = &reading->net;
    const int64_t steps = net->steps;
    int64_t first = draw(random, steps / 2), second = steps / 2 + draw(random, steps / 2);
    memset(src, 0, (size_t)(steps * net->inputs) * sizeof *src);
    *label = 0;
    for (int64_t t = 0; t < steps; t++) {
        const bool given = reading->puzzle != COPY || t < net->answers;
        const int64_t kinds = reading->puzzle == ADD ? DIGITS : SYMBOLS;
        const int64_t symbol = given ? draw(random, kinds) : SYMBOLS;
        /* Blanks have no input at all; a question is the symbol behind the others. */
        if (given || t >= steps - net->answers)
            src[t * net->inputs + symbol] = 1;
        if (reading->puzzle == COPY && given)
            label[t] = (float)symbol;
        if (reading->puzzle == RECALL && t == steps - 1 - reading->distance)
            *label = (float)symbol;
        if (reading->puzzle == ADD && (t == first || t == second)) {
            src[t * net->inputs + DIGITS] = 1;
            *label += (float)symbol;
        }
    }
}

static void pose_batch(const struct reading *reading, uint64_t seed, int64_t number,
                       float *src, float *label)
{
    const struct dlb_sequence_shape *net = &reading->net;
    struct dlb_random random = {.seed = dlb_hash(seed, (uint64_t)number)};
    for (int64_t n = 0; n < net->batch; n++)
        pose(reading, &random, src + n * net->steps * net->inputs,
             label + n * net->answers);
}

/* number: the loss and the accuracy on sequences that were not trained on. */
static enum dlb_status read_sequences(struct dlb_task *task,
                                      const struct dlb_target *target,
                                      struct dlb_error *error)
{
    enum { TESTS = 32 };
    struct reading reading = *(const struct reading *)task->own;
    const uint64_t seed = task->shape.seed;
    reading.net.seed = seed;
    const struct dlb_sequence_shape *net = &reading.net;
    float *src = malloc((size_t)(net->batch * net->steps * net->inputs) * sizeof *src);
    float *label = malloc((size_t)(net->batch * net->answers) * sizeof *label);
    struct dlb_sequence *sequence = NULL;
    double loss, accuracy;
    enum dlb_status status =
        src && label ? dlb_sequence_make(net, target, &sequence, error)
                     : dlb_fail(error, DLB_NOMEM, "No memory is left for sequences.");
    for (int64_t step = 0; step < task->steps && !status; step++) {
        pose_batch(&reading, dlb_hash(dlb_train_seed, seed), step, src, label);
        status =
            dlb_sequence_step(sequence, src, label, task->rate, &loss, &accuracy, error);
    }
    task->number[0] = task->number[1] = 0;
    for (int64_t test = 0; test < TESTS && !status; test++) {
        pose_batch(&reading, dlb_hash(dlb_test_seed, seed), test, src, label);
        status = dlb_sequence_step(sequence, src, label, 0, &loss, &accuracy, error);
        task->number[0] +=
            (isfinite(loss) ? fmin(loss, dlb_loss_most) : dlb_loss_most) / TESTS;
        task->number[1] += accuracy / TESTS;
    }
    dlb_sequence_release(sequence);
    free(src);
    free(label);
    return status;
}

/* Adam's rates. */
static const double rates[] = {0.001, 0.003, 0.01, 0.03};
static const struct dlb_tuning tuning = {read_sequences, rates,
                                         sizeof rates / sizeof *rates, 1};

static void fill_seeds(const struct dlb_lab *lab, const struct dlb_task *like,
                       struct dlb_task *task, int *tasks)
{
    for (int seed = 1; seed <= dlb_tasks_seeds(lab); seed++) {
        task[*tasks] = *like;
        task[(*tasks)++].shape.seed = (uint64_t)seed;
    }
}

static enum dlb_status learn(struct dlb_lab *lab, struct dlb_task *task, int tasks,
                             struct dlb_error *error)
{
    enum dlb_status status = dlb_tasks_tune(lab, task, tasks, &tuning, error);
    if (!status)
        status = dlb_tasks_run(lab, task, tasks, read_sequences, error);
    if (!status)
        status = dlb_tasks_observe(lab, task, tasks, 0, "loss", dlb_loss_most, error);
    return status ? status
                  : dlb_tasks_observe(lab, task, tasks, 1, "accuracy", NAN, error);
}

/* long-range: who recalls what stood far back? */

enum dlb_status dlb_learn_recall(struct dlb_lab *lab, struct dlb_error *error)
{
    enum { STEPS = 64, DISTANCES = 4, READERS = 5 };
    static const int64_t distances[DISTANCES] = {1, 4, 16, 48};
    static const struct {
        const char *arm;
        enum dlb_reader reader;
        bool unplaced;
    } readers[READERS] = {{"attention", DLB_READ_ATTENTION, false},
                          {"lstm", DLB_READ_LSTM, false},
                          {"unplaced", DLB_READ_ATTENTION, true},
                          {"gru", DLB_READ_GRU, false},
                          {"rnn", DLB_READ_RNN, false}};
    static struct reading reading[DISTANCES * READERS];
    static struct dlb_task task[DISTANCES * READERS * DLB_TASK_SEEDS];
    int tasks = 0;
    for (int d = 0; d < (lab->quick ? 1 : DISTANCES); d++)
        for (int r = 0; r < (lab->quick ? 3 : READERS); r++) {
            struct reading *own = &reading[d * READERS + r];
            *own = (struct reading){
                .puzzle = RECALL,
                .distance = distances[d],
                .net = net_of(RECALL, readers[r].reader, WIDTH, STEPS),
            };
            own->net.unplaced = readers[r].unplaced;
            struct dlb_task like = {.arm = readers[r].arm,
                                    .x = NAN,
                                    .own = own,
                                    .steps = lab->quick ? 150 : 1000};
            snprintf(like.condition, DLB_CONDITION_MAX, "distance=%lld",
                     (long long)distances[d]);
            fill_seeds(lab, &like, task, &tasks);
        }
    return learn(lab, task, tasks, error);
}

/* complex: LSTM against GRU, each with as many weights or with as much work. */

enum dlb_status dlb_learn_complex(struct dlb_lab *lab, struct dlb_error *error)
{
    enum { STEPS = 20, PUZZLES = 2, EQUALS = 2 };
    static const struct {
        enum puzzle puzzle;
        const char *name;
    } puzzles[PUZZLES] = {{COPY, "copy"}, {ADD, "add"}};
    static struct reading reading[PUZZLES * EQUALS * 2];
    static struct dlb_task task[PUZZLES * EQUALS * 2 * DLB_TASK_SEEDS];
    int tasks = 0, readings = 0;
    const int64_t steps = lab->quick ? 300 : 1200;
    for (int p = 0; p < PUZZLES; p++)
        for (int work = 0; work < (lab->quick ? 1 : EQUALS); work++)
            for (int gru = 0; gru < 2; gru++) {
                const enum dlb_reader reader = gru ? DLB_READ_GRU : DLB_READ_LSTM;
                struct reading *own = &reading[readings++];
                *own = (struct reading){
                    .puzzle = puzzles[p].puzzle,
                    .net = net_of(puzzles[p].puzzle, reader,
                                  gru && !work ? GRU_WIDTH : WIDTH, STEPS),
                };
                struct dlb_task like = {.arm = dlb_reader_names[reader],
                                        .x = NAN,
                                        .own = own,
                                        .steps = gru && work ? steps * 4 / 3 : steps};
                snprintf(like.condition, DLB_CONDITION_MAX, "task=%s equal=%s",
                         puzzles[p].name, work ? "flops" : "parameters");
                fill_seeds(lab, &like, task, &tasks);
            }
    return learn(lab, task, tasks, error);
}
