#include "claims/lab.h"

#include "claims/chain.h"
#include "measure/timer.h"
#include "tune/live.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double SEARCH_SECONDS = 1, SEARCH_QUICK_SECONDS = 0.2, RACE_SECONDS = 0.6,
                    RACE_QUICK_SECONDS = 0.2;

static void fill_cells(const struct dlb_lab *lab, const struct dlb_observed *row,
                       struct dlb_cell *cell)
{
    const struct {
        enum dlb_observation_column column;
        char *text;
    } texts[] = {
        {DLB_OBSERVATION_RUN_ID, (char *)dlb_run_id(lab->session->run)},
        {DLB_OBSERVATION_EXPERIMENT, row->experiment},
        {DLB_OBSERVATION_CONDITION, row->condition},
        {DLB_OBSERVATION_IMPL, row->impl},
        {DLB_OBSERVATION_ARM, row->arm},
        {DLB_OBSERVATION_METRIC, row->metric},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        cell[texts[i].column] =
            (struct dlb_cell){.set = *texts[i].text, .text = texts[i].text};
    const struct {
        enum dlb_observation_column column;
        int64_t value;
        bool set;
    } integers[] = {
        {DLB_OBSERVATION_SCHEMA_VERSION, DLB_SCHEMA_VERSION, true},
        {DLB_OBSERVATION_THREADS, row->threads, row->threads > 0},
        {DLB_OBSERVATION_REPLICATE, row->replicate, true},
        {DLB_OBSERVATION_STEP, row->step, row->step > 0},
    };
    for (size_t i = 0; i < sizeof integers / sizeof *integers; i++)
        cell[integers[i].column] =
            (struct dlb_cell){.set = integers[i].set, .integer = integers[i].value};
    cell[DLB_OBSERVATION_X] =
        (struct dlb_cell){.set = isfinite(row->x), .number = row->x};
    cell[DLB_OBSERVATION_VALUE] = (struct dlb_cell){.set = true, .number = row->value};
}

/* As it comes back from the file: the same verdicts are made from either. */
static double as_written(double value)
{
    char number[DLB_NUMBER_TEXT];
    struct dlb_cell cell = {.set = true, .number = value};
    return strtod(dlb_cell_format(DLB_CELL_REAL, &cell, number), NULL);
}

enum dlb_status dlb_lab_observe(struct dlb_lab *lab, struct dlb_observed *row, int rows,
                                struct dlb_error *error)
{
    enum dlb_status status = DLB_OK;
    for (int i = 0; i < rows && !status; i++) {
        row[i].experiment = (char *)lab->experiment->name;
        row[i].value = as_written(row[i].value);
        if (isfinite(row[i].x))
            row[i].x = as_written(row[i].x);
        status = dlb_observations_add(&lab->observations, &row[i], error);
    }
    return status;
}

enum dlb_status dlb_lab_write(struct dlb_lab *lab, struct dlb_error *error)
{
    const int rows = lab->observations.n - lab->written;
    struct dlb_cell *cell =
        calloc((size_t)dlb_max(1, rows) * DLB_OBSERVATION_COLUMNS_N, sizeof *cell);
    if (!cell)
        return dlb_fail(error, DLB_NOMEM, "No memory is left for the observations.");
    for (int i = 0; i < rows; i++)
        fill_cells(lab, &lab->observations.row[lab->written + i],
                   cell + i * DLB_OBSERVATION_COLUMNS_N);
    enum dlb_status status = dlb_table_file_append(&lab->table, cell, rows, error);
    free(cell);
    if (!status)
        lab->written = lab->observations.n;
    return status;
}

void dlb_lab_forget(struct dlb_lab *lab)
{
    dlb_observations_cut(&lab->observations, lab->written);
}

bool dlb_lab_knows(const struct dlb_lab *lab, const char *condition, const char *impl,
                   int threads)
{
    for (int i = 0; i < lab->written; i++) {
        const struct dlb_observed *row = &lab->observations.row[i];
        if (!strcmp(row->experiment, lab->experiment->name) &&
            (!condition || (!strcmp(row->condition, condition) &&
                            !strcmp(row->impl, impl) && row->threads == threads)))
            return true;
    }
    return false;
}

void dlb_lab_progress(struct dlb_lab *lab, double share, const char *what)
{
    char text[160];
    double mine = lab->quick ? lab->experiment->quick_seconds : lab->experiment->seconds;
    snprintf(text, sizeof text, "%s: %s", lab->experiment->name, what);
    dlb_progress_update(lab->session->progress, (lab->done + share * mine) / lab->all,
                        text);
}

void dlb_lab_close(struct dlb_lab *lab)
{
    dlb_pool_close(lab->pool);
    lab->pool = NULL;
    lab->station = NULL;
}

enum dlb_status dlb_lab_open(struct dlb_lab *lab, struct dlb_station *station,
                             struct dlb_error *error)
{
    dlb_lab_close(lab);
    lab->station = station;
    return dlb_pool_open(lab->session->topology, &station->set, &lab->pool, error);
}

static enum dlb_status search(struct dlb_lab *lab, const struct dlb_operator *entry,
                              const struct dlb_problem *problem,
                              const struct dlb_expected *expected, struct dlb_step *step,
                              struct dlb_error *error)
{
    struct dlb_space space = {0};
    struct dlb_search_result result;
    enum dlb_status status = dlb_space_make(entry->op, problem, &lab->station->target,
                                            &lab->station->rates, &space, error);
    if (status)
        goto out;
    struct dlb_live_search live = {
        .setup = {.entry = entry,
                  .problem = problem,
                  .target = &lab->station->target,
                  .space = &space,
                  .expected = expected,
                  .buffers = &step->buffers,
                  .pool = lab->pool},
        .seconds = lab->quick ? SEARCH_QUICK_SECONDS : SEARCH_SECONDS,
        .stop = lab->session->io.stop,
    };
    status = dlb_live_search(&live, &result, NULL, error);
    if (!status && !result.found)
        status = dlb_fail(error, DLB_FAULT, "No candidate of %s could be timed.",
                          entry->op->name);
    if (!status)
        status = entry->op->plan(problem, &lab->station->target,
                                 &space.candidate[result.best[0]], &step->plan, error);
out:
    dlb_space_release(&space);
    return status;
}

/* The fastest formulation that is right. */
static enum dlb_status formulate(struct dlb_lab *lab, const struct dlb_operator *entry,
                                 const struct dlb_problem *problem,
                                 const struct dlb_expected *expected,
                                 struct dlb_step *step, struct dlb_error *error)
{
    double least = INFINITY;
    for (int formulation = 0;; formulation++) {
        struct dlb_plan *plan = NULL;
        struct dlb_check check = {0};
        struct dlb_error why = {0};
        enum dlb_status status =
            entry->reference->onednn(problem, lab->session->isa,
                                     lab->station->set.threads, formulation, &plan, &why);
        if (status == DLB_UNSUPPORTED && step->plan)
            return DLB_OK;
        if (status)
            return dlb_fail(error, status, "%s", why.text);
        status =
            dlb_verify(expected, &step->buffers, plan, lab->pool, false, &check, error);
        double ns = INFINITY;
        if (!status && check.outcome != DLB_OUTCOME_MISMATCH)
            ns = dlb_trial_ns(lab->pool, plan, 5, 4e5);
        if (ns < least) {
            dlb_plan_release(step->plan);
            step->plan = plan;
            least = ns;
        } else {
            dlb_plan_release(plan);
        }
        if (status)
            return status;
    }
}

enum dlb_status dlb_step_make(struct dlb_lab *lab, const char *op, const char *shape,
                              enum dlb_pass pass, enum dlb_impl impl,
                              struct dlb_step *step, struct dlb_error *error)
{
    const struct dlb_operator *entry = dlb_operator_find(op);
    struct dlb_problem problem = {0};
    struct dlb_expected *expected = NULL;
    struct dlb_check check = {0};
    char name[DLB_NAME_MAX];
    *step = (struct dlb_step){0};
    problem.pass = pass;
    enum dlb_status status =
        dlb_descriptor_parse(entry->op, shape, &problem, name, error);
    if (!status)
        status = dlb_buffers_make(entry->op, &problem, lab->pool, &step->buffers, error);
    if (!status)
        status =
            dlb_expected_make(entry, &problem, lab->pool, false, 0, &expected, error);
    if (!status && impl == DLB_IMPL_NATIVE)
        status = search(lab, entry, &problem, expected, step, error);
    else if (!status)
        status = formulate(lab, entry, &problem, expected, step, error);
    if (!status)
        status = dlb_verify(expected, &step->buffers, step->plan, lab->pool, false,
                            &check, error);
    if (!status && check.outcome == DLB_OUTCOME_MISMATCH)
        status =
            dlb_fail(error, DLB_FAULT, "%s %s is wrong: %s.", op, shape, check.reason);
    dlb_expected_release(expected);
    return status;
}

void dlb_step_release(struct dlb_step *step)
{
    dlb_plan_release(step->plan);
    dlb_buffers_release(&step->buffers);
    *step = (struct dlb_step){0};
}

static struct dlb_plan *chain_of(const struct dlb_arm *arm)
{
    struct dlb_plan *link[DLB_ARM_STEPS];
    int links = 0;
    while (links < DLB_ARM_STEPS && arm->step[links]) {
        link[links] = arm->step[links]->plan;
        links++;
    }
    return dlb_chain_make(link, links);
}

/* The clean rounds of all arms. */
static enum dlb_status observe_rounds(struct dlb_lab *lab, const char *condition,
                                      enum dlb_impl impl, const struct dlb_arm *arm,
                                      int arms, const struct dlb_measured *measured,
                                      struct dlb_error *error)
{
    const int rounds = measured[0].samples;
    struct dlb_observed *row = calloc((size_t)dlb_max(1, rounds * arms), sizeof *row);
    int rows = 0;
    if (!row)
        return dlb_fail(error, DLB_NOMEM, "No memory is left for the observations.");
    for (int a = 0; a < arms; a++)
        for (int i = 0; i < rounds; i++) {
            if (measured[a].sample[i].contaminated)
                continue;
            row[rows++] = (struct dlb_observed){
                .condition = (char *)condition,
                .impl = (char *)dlb_impl_names[impl],
                .arm = (char *)arm[a].name,
                .metric = (char *)"time_ns",
                .threads = lab->station->set.threads,
                .replicate = i + 1,
                .x = arm[a].x,
                .value = measured[a].sample[i].ns,
            };
        }
    enum dlb_status status = dlb_lab_observe(lab, row, rows, error);
    free(row);
    return status;
}

enum dlb_status dlb_lab_race(struct dlb_lab *lab, const char *condition,
                             enum dlb_impl impl, const struct dlb_arm *arm, int arms,
                             struct dlb_error *error)
{
    struct dlb_plan *plan[DLB_ARMS_MAX] = {0};
    struct dlb_measured measured[DLB_ARMS_MAX] = {0};
    const double seconds = lab->quick ? RACE_QUICK_SECONDS : RACE_SECONDS;
    enum dlb_status status = DLB_OK;
    for (int i = 0; i < arms && !status; i++) {
        plan[i] = chain_of(&arm[i]);
        if (!plan[i])
            status =
                dlb_fail(error, DLB_NOMEM, "No memory is left for a chain of plans.");
    }
    struct dlb_gauge gauge = {
        .pool = lab->pool,
        .isa = lab->session->isa,
        .best_probe = lab->station->best_probe,
        .min_seconds = seconds / 2,
        .max_seconds = seconds,
        .min_samples = 21,
        .ci_width = 0.01,
        .seed = (uint64_t)lab->session->options->seed,
        .stop = lab->session->io.stop,
    };
    if (!status)
        status = dlb_measure(&gauge, plan, arms, measured, NULL, error);
    lab->station->best_probe = fmax(lab->station->best_probe, gauge.best_probe);
    if (!status)
        status = observe_rounds(lab, condition, impl, arm, arms, measured, error);
    if (!status)
        status = dlb_lab_write(lab, error);
    for (int i = 0; i < arms; i++) {
        dlb_measured_release(&measured[i]);
        dlb_plan_release(plan[i]);
    }
    return status;
}
