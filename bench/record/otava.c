#include "record/otava.h"

#include "record/csv.h"
#include "record/save.h"
#include "record/series.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Cases that have the same runs. */
struct group {
    int first, series_n; /* the first of its series, and how many there are */
    char *file;
};

struct groups {
    struct group *group;
    int groups_n;
    int *of; /* the group of each series */
};

static enum dlb_status no_memory(struct dlb_error *error)
{
    return dlb_fail(error, DLB_NOMEM, "There is no memory left to export the runs.");
}

static bool same_runs(const struct dlb_series *a, const struct dlb_series *b)
{
    if (a->points_n != b->points_n)
        return false;
    for (int i = 0; i < a->points_n; i++)
        if (a->point[i].run != b->point[i].run)
            return false;
    return true;
}

static int compare_groups(const void *left, const void *right)
{
    const struct group *a = left, *b = right;
    return a->series_n != b->series_n ? b->series_n - a->series_n : a->first - b->first;
}

/* Sorts the series into groups, and the groups by size. */
static enum dlb_status make_groups(const struct dlb_series_set *set,
                                   struct groups *groups, struct dlb_error *error)
{
    groups->group = calloc((size_t)set->series_n, sizeof *groups->group);
    groups->of = malloc((size_t)set->series_n * sizeof *groups->of);
    if (!groups->group || !groups->of)
        return no_memory(error);
    for (int i = 0; i < set->series_n; i++) {
        int g = 0;
        while (g < groups->groups_n &&
               !same_runs(&set->series[groups->group[g].first], &set->series[i]))
            g++;
        if (g == groups->groups_n)
            groups->group[groups->groups_n++].first = i;
        groups->group[g].series_n++;
    }
    qsort(groups->group, (size_t)groups->groups_n, sizeof *groups->group, compare_groups);
    for (int i = 0; i < set->series_n; i++)
        for (int g = 0; g < groups->groups_n; g++)
            if (same_runs(&set->series[groups->group[g].first], &set->series[i]))
                groups->of[i] = g;
    return DLB_OK;
}

/* file without .csv, a number from the second on, and ending; NULL without memory. */
static char *name_file(const char *file, int number, const char *ending)
{
    char behind[16] = "", *name;
    size_t length = strlen(file);
    if (length > 4 && !strcmp(file + length - 4, ".csv"))
        length -= 4;
    if (number > 1)
        snprintf(behind, sizeof behind, "-%d", number);
    return asprintf(&name, "%.*s%s%s", (int)length, file, behind, ending) < 0 ? NULL
                                                                              : name;
}

static enum dlb_status write_table(const struct dlb_series_set *set,
                                   const struct groups *groups, int g,
                                   struct dlb_error *error)
{
    static const char *const own[] = {"time", "run_id", "commit"};
    enum { OWN = sizeof own / sizeof *own };
    enum dlb_status status = DLB_OK;
    struct dlb_csv_buffer buffer = {0};
    const struct group *group = &groups->group[g];
    int cells_n = OWN + group->series_n;
    const char **cell = malloc((size_t)cells_n * sizeof *cell);
    char(*number)[DLB_NUMBER_TEXT] = malloc((size_t)group->series_n * sizeof *number);
    if (!cell || !number) {
        status = no_memory(error);
        goto out;
    }
    for (int point = -1; point < set->series[group->first].points_n && !status; point++) {
        const struct dlb_series_run *run =
            point < 0 ? NULL : &set->run[set->series[group->first].point[point].run];
        const char *const begin[OWN] = {run ? run->started : own[0],
                                        run ? run->id : own[1],
                                        run ? run->commit : own[2]};
        memcpy(cell, begin, sizeof begin);
        for (int i = 0, column = 0; i < set->series_n; i++) {
            const struct dlb_series *series = &set->series[i];
            if (groups->of[i] != g)
                continue;
            if (run)
                snprintf(number[column], DLB_NUMBER_TEXT, "%.10g",
                         series->point[point].median_ns);
            cell[OWN + column] = run ? number[column] : series->name;
            column++;
        }
        status = dlb_csv_append(&buffer, cell, cells_n, error);
    }
    if (!status)
        status = dlb_save(group->file, buffer.data, buffer.length, error);
out:
    dlb_csv_buffer_release(&buffer);
    free(cell);
    free(number);
    return status;
}

/* A text in double quotes. */
static void put_text(const char *text, FILE *out)
{
    fputc('"', out);
    for (; *text; text++)
        if ((unsigned char)*text < ' ')
            fprintf(out, "\\x%02x", (unsigned)*text);
        else
            fprintf(out, "%s%c", *text == '"' || *text == '\\' ? "\\" : "", *text);
    fputc('"', out);
}

static void put_test(const struct dlb_series_set *set, const struct groups *groups, int g,
                     FILE *out)
{
    const struct group *group = &groups->group[g];
    const char *key = set->machine[set->series[group->first].machine].key;
    fprintf(out, "  \"dlbench-%d\": # ", g + 1);
    for (; *key; key++)
        fputc((unsigned char)*key < ' ' ? ' ' : *key, out);
    fputs("\n    type: csv\n    file: ", out);
    put_text(group->file, out);
    fputs("\n    time_column: time\n    attributes: [run_id, commit]\n    metrics:\n",
          out);
    for (int i = 0; i < set->series_n; i++) {
        if (groups->of[i] != g)
            continue;
        fputs("      ", out);
        put_text(set->series[i].name, out);
        fputs(":\n        column: ", out);
        put_text(set->series[i].name, out);
        fputs("\n        direction: -1\n", out);
    }
}

static enum dlb_status write_yaml(const char *file, const struct dlb_series_set *set,
                                  const struct groups *groups, struct dlb_error *error)
{
    enum dlb_status status = DLB_OK;
    char *text = NULL, *name = name_file(file, 1, ".yaml");
    size_t length;
    FILE *out = open_memstream(&text, &length);
    if (!name || !out) {
        status = no_memory(error);
        goto out;
    }
    fputs("# Medians in nanoseconds, for: otava analyze --config-file ", out);
    fputs(name, out);
    fputs(" --since 2000-01-01 dlbench\ntests:\n", out);
    for (int g = 0; g < groups->groups_n; g++)
        put_test(set, groups, g, out);
    fputs("test_groups:\n  dlbench:\n", out);
    for (int g = 0; g < groups->groups_n; g++)
        fprintf(out, "    - \"dlbench-%d\"\n", g + 1);
    if (fclose(out))
        status = no_memory(error);
    out = NULL;
    if (!status)
        status = dlb_save(name, text, length, error);
out:
    if (out)
        fclose(out);
    free(text);
    free(name);
    return status;
}

enum dlb_status dlb_otava_write(const char *file, const char *const *path, int paths_n,
                                struct dlb_error *error)
{
    struct dlb_series_set set;
    struct groups groups = {0};
    enum dlb_status status = dlb_series_read(path, paths_n, &set, error);
    if (!status && !set.series_n)
        status = dlb_fail(error, DLB_INVALID,
                          "%s has no row to export: none has the status ok and a time.",
                          path[0]);
    if (!status)
        status = make_groups(&set, &groups, error);
    for (int g = 0; g < groups.groups_n && !status; g++) {
        groups.group[g].file = name_file(file, g + 1, ".csv");
        status = groups.group[g].file ? write_table(&set, &groups, g, error)
                                      : no_memory(error);
    }
    if (!status)
        status = write_yaml(file, &set, &groups, error);
    for (int g = 0; g < groups.groups_n; g++)
        free(groups.group[g].file);
    free(groups.group);
    free(groups.of);
    dlb_series_release(&set);
    return status;
}
