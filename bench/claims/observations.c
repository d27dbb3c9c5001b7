/* What experiments saw: observations.csv. */
#include "claims/claims.h"

#include "record/rows.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static enum dlb_status no_memory(struct dlb_error *error)
{
    return dlb_fail(error, DLB_NOMEM, "No memory is left for the observations.");
}

static void release_row(struct dlb_observed *row)
{
    free(row->experiment);
    free(row->condition);
    free(row->impl);
    free(row->arm);
    free(row->metric);
}

enum dlb_status dlb_observations_add(struct dlb_observations *all,
                                     const struct dlb_observed *row,
                                     struct dlb_error *error)
{
    if (all->n == all->room) {
        int room = all->room ? 2 * all->room : 256;
        struct dlb_observed *grown = realloc(all->row, (size_t)room * sizeof *grown);
        if (!grown)
            return no_memory(error);
        all->row = grown;
        all->room = room;
    }
    struct dlb_observed copy = *row;
    copy.experiment = strdup(row->experiment);
    copy.condition = strdup(row->condition);
    copy.impl = strdup(row->impl);
    copy.arm = strdup(row->arm);
    copy.metric = strdup(row->metric);
    if (!copy.experiment || !copy.condition || !copy.impl || !copy.arm || !copy.metric) {
        release_row(&copy);
        return no_memory(error);
    }
    all->row[all->n++] = copy;
    return DLB_OK;
}

static int compare_numbers(double a, double b)
{
    return (a > b) - (a < b);
}

/* By cell, then metric, arm, step, replicate and x. */
static int compare_rows(const void *left, const void *right)
{
    const struct dlb_observed *a = left, *b = right;
    int order = strcmp(a->experiment, b->experiment);
    if (!order)
        order = strcmp(a->condition, b->condition);
    if (!order)
        order = strcmp(a->impl, b->impl);
    if (!order)
        order = compare_numbers((double)a->threads, (double)b->threads);
    if (!order)
        order = strcmp(a->metric, b->metric);
    if (!order)
        order = strcmp(a->arm, b->arm);
    if (!order)
        order = compare_numbers((double)a->step, (double)b->step);
    if (!order)
        order = compare_numbers((double)a->replicate, (double)b->replicate);
    if (!order)
        order = compare_numbers(isnan(a->x) ? -INFINITY : a->x,
                                isnan(b->x) ? -INFINITY : b->x);
    return order ? order : compare_numbers(a->value, b->value);
}

void dlb_observations_sort(struct dlb_observations *all)
{
    if (all->n)
        qsort(all->row, (size_t)all->n, sizeof *all->row, compare_rows);
}

static char *text_of(const struct dlb_cell *cell)
{
    static char empty[] = "";
    return cell->set ? cell->text : empty;
}

struct reading {
    const char *file;
    struct dlb_observations *all;
};

static enum dlb_status take_row(void *context, struct dlb_cell *cell,
                                const struct dlb_csv_record *record,
                                struct dlb_error *error)
{
    struct reading *reading = context;
    if (!cell[DLB_OBSERVATION_VALUE].set)
        return dlb_fail(error, DLB_INVALID,
                        "%s, line %" PRId64 ", column 'value': it is empty; a number is "
                        "expected.",
                        reading->file, record->line);
    struct dlb_observed row = {
        .experiment = text_of(&cell[DLB_OBSERVATION_EXPERIMENT]),
        .condition = text_of(&cell[DLB_OBSERVATION_CONDITION]),
        .impl = text_of(&cell[DLB_OBSERVATION_IMPL]),
        .arm = text_of(&cell[DLB_OBSERVATION_ARM]),
        .metric = text_of(&cell[DLB_OBSERVATION_METRIC]),
        .threads = cell[DLB_OBSERVATION_THREADS].integer,
        .replicate = cell[DLB_OBSERVATION_REPLICATE].integer,
        .step = cell[DLB_OBSERVATION_STEP].integer,
        .x = cell[DLB_OBSERVATION_X].set ? cell[DLB_OBSERVATION_X].number : NAN,
        .value = cell[DLB_OBSERVATION_VALUE].number,
    };
    return dlb_observations_add(reading->all, &row, error);
}

enum dlb_status dlb_observations_read(const char *file, struct dlb_observations *all,
                                      struct dlb_error *error)
{
    struct reading reading = {file, all};
    return dlb_table_read(file, DLB_TABLE_OBSERVATIONS, false, take_row, &reading, NULL,
                          error);
}

void dlb_observations_cut(struct dlb_observations *all, int n)
{
    while (all->n > n)
        release_row(&all->row[--all->n]);
}

void dlb_observations_release(struct dlb_observations *all)
{
    dlb_observations_cut(all, 0);
    free(all->row);
    *all = (struct dlb_observations){0};
}
