#include "judge/history.h"

#include <math.h>
#include <stdlib.h>

static const double step_min = 0.03;
enum { WIDE_MIN = 3, NIGHTS_APART = 1 };

static enum dlb_status no_memory(struct dlb_error *error)
{
    return dlb_fail(error, DLB_NOMEM, "There is no memory left to search the history.");
}

static enum dlb_status add_change(struct dlb_history *history, int index,
                                  const struct dlb_potts_change *found,
                                  struct dlb_error *error)
{
    const struct dlb_series_point *point = history->set.series[index].point;
    struct dlb_history_change *grown =
        realloc(history->change, (size_t)(history->changes_n + 1) * sizeof *grown);
    if (!grown)
        return no_memory(error);
    history->change = grown;
    history->change[history->changes_n++] =
        (struct dlb_history_change){.series = index,
                                    .run = point[found->at].run,
                                    .run_before = point[found->at - 1].run,
                                    .nights_before = found->before_n,
                                    .nights_after = found->after_n,
                                    .before_ns = exp(found->before),
                                    .after_ns = exp(found->after),
                                    .ratio = exp(found->after - found->before)};
    return DLB_OK;
}

static enum dlb_status search(struct dlb_history *history, int index,
                              struct dlb_error *error)
{
    const struct dlb_series *series = &history->set.series[index];
    enum dlb_status status = DLB_OK;
    int n = series->points_n, found_n = 0;
    double *value = malloc((size_t)n * sizeof *value);
    struct dlb_potts_change *found =
        malloc((size_t)(n / DLB_POTTS_SEGMENT_MIN + 1) * sizeof *found);
    if (!value || !found) {
        status = no_memory(error);
        goto out;
    }
    for (int i = 0; i < n; i++)
        value[i] = log(series->point[i].median_ns);
    status = dlb_potts_changes(value, n, log1p(step_min), found, &found_n,
                               &history->noise[index], error);
    for (int i = 0; i < found_n && !status; i++)
        status = add_change(history, index, &found[i], error);
out:
    free(value);
    free(found);
    return status;
}

static int night_of(const struct dlb_history *history, int run)
{
    return history->set.run[run].night;
}

static int machine_of(const struct dlb_history *history,
                      const struct dlb_history_change *change)
{
    return history->set.series[change->series].machine;
}

/* How many series of the machine have values on both sides of night. */
static int reaching_over(const struct dlb_history *history, int machine, int night)
{
    int n = 0;
    for (int i = 0; i < history->set.series_n; i++) {
        const struct dlb_series *series = &history->set.series[i];
        n += series->machine == machine && series->points_n >= DLB_POTTS_VALUES_MIN &&
             night_of(history, series->point[0].run) < night &&
             night_of(history, series->point[series->points_n - 1].run) >= night;
    }
    return n;
}

static bool goes_with(const struct dlb_history *history,
                      const struct dlb_history_change *a,
                      const struct dlb_history_change *b)
{
    return machine_of(history, a) == machine_of(history, b) &&
           (a->ratio > 1) == (b->ratio > 1) &&
           abs(night_of(history, a->run) - night_of(history, b->run)) <= NIGHTS_APART;
}

static void mark_machine_wide(struct dlb_history *history)
{
    for (int i = 0; i < history->changes_n; i++) {
        struct dlb_history_change *change = &history->change[i];
        int alike = 0;
        for (int j = 0; j < history->changes_n; j++)
            alike += goes_with(history, change, &history->change[j]);
        int all = reaching_over(history, machine_of(history, change),
                                night_of(history, change->run));
        change->machine_wide = alike >= WIDE_MIN && 2 * alike > all;
    }
}

static int compare_changes(const void *left, const void *right, void *context)
{
    const struct dlb_history_change *a = left, *b = right;
    int order = machine_of(context, a) - machine_of(context, b);
    order = order ? order : a->run - b->run;
    double x = fabs(log(a->ratio)), y = fabs(log(b->ratio));
    order = order ? order : (x < y) - (x > y);
    return order ? order : a->series - b->series;
}

enum dlb_status dlb_history_make(const char *const *path, int paths_n,
                                 struct dlb_history *history, struct dlb_error *error)
{
    *history = (struct dlb_history){0};
    enum dlb_status status = dlb_series_read(path, paths_n, &history->set, error);
    if (status)
        return status;
    history->noise = malloc((size_t)(history->set.series_n + 1) * sizeof *history->noise);
    if (!history->noise)
        return no_memory(error);
    for (int i = 0; i < history->set.series_n && !status; i++)
        status = search(history, i, error);
    if (status)
        return status;
    mark_machine_wide(history);
    if (history->changes_n)
        qsort_r(history->change, (size_t)history->changes_n, sizeof *history->change,
                compare_changes, history);
    return DLB_OK;
}

void dlb_history_release(struct dlb_history *history)
{
    dlb_series_release(&history->set);
    free(history->noise);
    free(history->change);
    *history = (struct dlb_history){0};
}
