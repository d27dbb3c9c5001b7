#include "record/series.h"

#include "record/json.h"
#include "record/manifest.h"
#include "record/rows.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const enum dlb_column dlb_series_columns[DLB_SERIES_TEXTS] = {
    [DLB_SERIES_CASE_ID] = DLB_COL_CASE_ID,
    [DLB_SERIES_OP] = DLB_COL_OP,
    [DLB_SERIES_PASS] = DLB_COL_PASS,
    [DLB_SERIES_DTYPE] = DLB_COL_DTYPE,
    [DLB_SERIES_ACCURACY] = DLB_COL_ACCURACY,
    [DLB_SERIES_SHAPE] = DLB_COL_SHAPE,
    [DLB_SERIES_IMPL] = DLB_COL_IMPL,
    [DLB_SERIES_THREAD_SET] = DLB_COL_THREAD_SET,
    [DLB_SERIES_THREADS] = DLB_COL_THREADS,
    [DLB_SERIES_CACHE_STATE] = DLB_COL_CACHE_STATE,
    [DLB_SERIES_SHAPE_NAME] = DLB_COL_SHAPE_NAME,
};

static enum dlb_status no_memory(struct dlb_error *error)
{
    return dlb_fail(error, DLB_NOMEM, "There is no memory left to read the runs.");
}

/* What reading needs beside the set itself. */
struct reading {
    struct dlb_series_set *set;
    int runs_capacity, machines_capacity, series_capacity;
    void *index;                /* struct node, by machine and case */
    struct dlb_series_run *run; /* being read */
};

struct node {
    int machine, series;
    const char *case_id; /* of the series, or of the key that is looked for */
};

static int compare_nodes(const void *left, const void *right)
{
    const struct node *a = left, *b = right;
    if (a->machine != b->machine)
        return a->machine < b->machine ? -1 : 1;
    return strcmp(a->case_id, b->case_id);
}

/* Makes room for one more of n items of size bytes; NULL without memory. */
static void *grow(void *items, int n, int *capacity, size_t size)
{
    if (n < *capacity)
        return items;
    int wanted = *capacity ? 2 * *capacity : 16;
    void *grown = realloc(items, (size_t)wanted * size);
    if (grown)
        *capacity = wanted;
    return grown;
}

static int find_machine(const struct dlb_series_set *set, const char *key)
{
    for (int i = 0; i < set->machines_n; i++)
        if (!strcmp(set->machine[i].key, key))
            return i;
    return -1;
}

/* The machine with this key, added when it is new; -1 without memory. */
static int machine_of(struct reading *reading, const char *key)
{
    struct dlb_series_set *set = reading->set;
    int found = find_machine(set, key);
    if (found >= 0)
        return found;
    struct dlb_series_machine *grown =
        grow(set->machine, set->machines_n, &reading->machines_capacity, sizeof *grown);
    if (!grown)
        return -1;
    set->machine = grown;
    char *copy = strdup(key);
    if (!copy)
        return -1;
    set->machine[set->machines_n] = (struct dlb_series_machine){.key = copy};
    return set->machines_n++;
}

static enum dlb_status add_series(struct reading *reading, const struct dlb_row *row,
                                  int *index, struct dlb_error *error)
{
    struct dlb_series_set *set = reading->set;
    char name[DLB_ROW_NAME_MAX];
    struct dlb_series *grown =
        grow(set->series, set->series_n, &reading->series_capacity, sizeof *grown);
    if (!grown)
        return no_memory(error);
    set->series = grown;
    struct dlb_series *series = &grown[set->series_n++];
    *series = (struct dlb_series){.machine = reading->run->machine};
    for (int i = 0; i < DLB_SERIES_TEXTS; i++) {
        char number[DLB_NUMBER_TEXT];
        enum dlb_column column = dlb_series_columns[i];
        series->text[i] =
            strdup(dlb_cell_format(dlb_columns[column].type, &row->cell[column], number));
        if (!series->text[i])
            return no_memory(error);
    }
    dlb_row_name(row, name);
    series->name = strdup(name);
    struct node *node = malloc(sizeof *node);
    if (node)
        *node = (struct node){series->machine, set->series_n - 1,
                              series->text[DLB_SERIES_CASE_ID]};
    if (!series->name || !node || !tsearch(node, &reading->index, compare_nodes)) {
        free(node);
        return no_memory(error);
    }
    *index = set->series_n - 1;
    return DLB_OK;
}

static enum dlb_status add_point(struct reading *reading, struct dlb_series *series,
                                 double median_ns, struct dlb_error *error)
{
    int run = (int)(reading->run - reading->set->run);
    if (series->points_n && series->point[series->points_n - 1].run == run) {
        series->point[series->points_n - 1].median_ns = median_ns;
        return DLB_OK;
    }
    struct dlb_series_point *grown =
        grow(series->point, series->points_n, &series->capacity, sizeof *grown);
    if (!grown)
        return no_memory(error);
    series->point = grown;
    series->point[series->points_n++] =
        (struct dlb_series_point){.run = run, .median_ns = median_ns};
    reading->run->rows_n++;
    return DLB_OK;
}

static enum dlb_status read_row(void *context, struct dlb_cell *cell,
                                const struct dlb_csv_record *record,
                                struct dlb_error *error)
{
    struct reading *reading = context;
    struct dlb_row row = {0};
    memcpy(row.cell, cell, sizeof row.cell);
    enum dlb_status status = DLB_OK;
    double median_ns = dlb_row_get_real(&row, DLB_COL_TIME_MEDIAN_NS);
    const char *case_id = dlb_row_get_text(&row, DLB_COL_CASE_ID);
    if (strcmp(dlb_row_get_text(&row, DLB_COL_STATUS), "ok") || !(median_ns > 0))
        return DLB_OK;
    if (!*case_id)
        return dlb_fail(error, DLB_INVALID,
                        "%s, line %" PRId64 ": the row has no case_id, by which it could "
                        "be found in other runs.",
                        reading->run->path, record->line);
    struct node key = {.machine = reading->run->machine, .case_id = case_id};
    struct node **found = tfind(&key, &reading->index, compare_nodes);
    int index = found ? (*found)->series : -1;
    if (index < 0)
        status = add_series(reading, &row, &index, error);
    return status ? status
                  : add_point(reading, &reading->set->series[index], median_ns, error);
}

/* Text of the manifest, or otherwise (may be NULL); NULL also without memory. */
static char *copy_fact(const struct dlb_json_file *manifest, const char *keys,
                       const char *otherwise)
{
    const char *text = manifest ? dlb_json_find_text(manifest, keys) : NULL;
    return text || otherwise ? strdup(text ? text : otherwise) : NULL;
}

/* Fills the run from the manifest beside its results.csv, if there is one. */
static enum dlb_status read_manifest(struct reading *reading, struct dlb_series_run *run,
                                     struct dlb_error *error)
{
    struct dlb_json_file *manifest = NULL;
    enum dlb_status status = DLB_OK;
    char *file = NULL, *key = NULL, *dirty = NULL;
    const char *slash = strrchr(run->path, '/');
    if (asprintf(&file, "%.*s%s", slash ? (int)(slash - run->path + 1) : 0, run->path,
                 DLB_MANIFEST_FILE) < 0)
        file = NULL;
    if (!file)
        return no_memory(error);
    if (!access(file, F_OK))
        status = dlb_json_open(file, &manifest, error);
    if (status)
        goto out;
    run->id = copy_fact(manifest, "run_id", NULL);
    run->started = copy_fact(manifest, "started_utc", NULL);
    run->commit = copy_fact(manifest, "facts.build.commit", "");
    key = copy_fact(manifest, "machine_key", "");
    dirty = copy_fact(manifest, "facts.build.dirty", "no");
    run->machine = key ? machine_of(reading, key) : -1;
    if (!run->commit || !dirty || run->machine < 0)
        status = no_memory(error);
    else
        run->dirty = !strcmp(dirty, "yes");
out:
    dlb_json_close(manifest);
    free(file);
    free(key);
    free(dirty);
    return status;
}

/* Takes path, which may be NULL: out of memory. */
static enum dlb_status add_run(struct reading *reading, char *path,
                               struct dlb_error *error)
{
    struct dlb_series_set *set = reading->set;
    struct dlb_series_run *grown =
        path ? grow(set->run, set->runs_n, &reading->runs_capacity, sizeof *grown) : NULL;
    if (!grown) {
        free(path);
        return no_memory(error);
    }
    set->run = grown;
    struct dlb_series_run *run = &set->run[set->runs_n++];
    *run = (struct dlb_series_run){.path = path};
    return read_manifest(reading, run, error);
}

static char *results_in(const char *folder, const char *below)
{
    char *path;
    return asprintf(&path, "%s%s%s/%s", folder, *below ? "/" : "", below,
                    dlb_tables[DLB_TABLE_RESULTS].file) < 0
               ? NULL
               : path;
}

/* Adds the run folders below folder; *found of them. */
static enum dlb_status add_runs_below(struct reading *reading, const char *folder,
                                      int *found, struct dlb_error *error)
{
    struct dirent **entry = NULL;
    enum dlb_status status = DLB_OK;
    int n = scandir(folder, &entry, NULL, alphasort);
    if (n < 0)
        return dlb_fail(error, DLB_IO, "%s cannot be read: %s.", folder, strerror(errno));
    for (int i = 0; i < n; i++) {
        char *path = NULL;
        if (!status && *entry[i]->d_name != '.') {
            path = results_in(folder, entry[i]->d_name);
            if (!path)
                status = no_memory(error);
        }
        if (path && !access(path, F_OK)) {
            status = add_run(reading, path, error);
            ++*found;
        } else {
            free(path);
        }
        free(entry[i]);
    }
    free(entry);
    return status;
}

static enum dlb_status add_path(struct reading *reading, const char *path,
                                struct dlb_error *error)
{
    struct stat info;
    int found = 0;
    if (stat(path, &info))
        return dlb_fail(error, DLB_IO, "%s cannot be read: %s.", path, strerror(errno));
    if (!S_ISDIR(info.st_mode))
        return add_run(reading, strdup(path), error);
    char *file = results_in(path, "");
    if (!file)
        return no_memory(error);
    if (!access(file, F_OK))
        return add_run(reading, file, error);
    free(file);
    enum dlb_status status = add_runs_below(reading, path, &found, error);
    if (!status && !found)
        status = dlb_fail(error, DLB_INVALID,
                          "%s holds no run: there is no %s in it, nor in a folder right "
                          "below it.",
                          path, dlb_tables[DLB_TABLE_RESULTS].file);
    return status;
}

static void release_run(struct dlb_series_run *run)
{
    free(run->path);
    free(run->id);
    free(run->started);
    free(run->commit);
}

/* What the manifest did not say, the first row does. */
static enum dlb_status complete_run(void *context, struct dlb_cell *cell,
                                    const struct dlb_csv_record *record,
                                    struct dlb_error *error)
{
    struct dlb_series_run *run = context;
    struct dlb_row row = {0};
    (void)record;
    memcpy(row.cell, cell, sizeof row.cell);
    if (!run->id)
        run->id = strdup(dlb_row_get_text(&row, DLB_COL_RUN_ID));
    if (!run->started)
        run->started = strdup(dlb_row_get_text(&row, DLB_COL_TIMESTAMP_UTC));
    return run->id && run->started ? DLB_OK : no_memory(error);
}

static enum dlb_status identify(struct dlb_series_run *run, struct dlb_error *error)
{
    if (run->id && run->started)
        return DLB_OK;
    enum dlb_status status = dlb_table_read(run->path, DLB_TABLE_RESULTS, false,
                                            complete_run, run, NULL, error);
    if (!status && (!run->id || !*run->id || !run->started))
        status = dlb_fail(error, DLB_INVALID,
                          "%s does not say which run it is: it has neither a row nor a "
                          "%s beside it.",
                          run->path, DLB_MANIFEST_FILE);
    return status;
}

static int compare_runs(const void *left, const void *right)
{
    const struct dlb_series_run *a = left, *b = right;
    int order = strcmp(a->started, b->started);
    order = order ? order : strcmp(a->id, b->id);
    return order ? order : a->machine - b->machine;
}

/* Sorts the runs and drops those that are there twice. */
static void order_runs(struct dlb_series_set *set)
{
    int kept = 0;
    if (set->runs_n)
        qsort(set->run, (size_t)set->runs_n, sizeof *set->run, compare_runs);
    for (int i = 0; i < set->runs_n; i++) {
        if (kept && !compare_runs(&set->run[kept - 1], &set->run[i])) {
            release_run(&set->run[i]);
            set->repeated_n++;
        } else {
            set->run[kept++] = set->run[i];
        }
    }
    set->runs_n = kept;
}

/* Machines by their first run. */
static void order_machines(struct dlb_series_set *set)
{
    int next = 0;
    for (int i = 0; i < set->runs_n; i++) {
        struct dlb_series_run *run = &set->run[i];
        if (run->machine >= next) {
            struct dlb_series_machine other = set->machine[next];
            int from = run->machine;
            set->machine[next] = set->machine[from];
            set->machine[from] = other;
            for (int j = i; j < set->runs_n; j++) {
                int *machine = &set->run[j].machine;
                *machine = *machine == from ? next : *machine == next ? from : *machine;
            }
            next++;
        }
        run->night = set->machine[run->machine].runs_n++;
    }
}

enum dlb_status dlb_series_read(const char *const *path, int paths_n,
                                struct dlb_series_set *set, struct dlb_error *error)
{
    struct reading reading = {.set = set};
    enum dlb_status status = DLB_OK;
    *set = (struct dlb_series_set){0};
    for (int i = 0; i < paths_n && !status; i++)
        status = add_path(&reading, path[i], error);
    for (int i = 0; i < set->runs_n && !status; i++)
        status = identify(&set->run[i], error);
    if (status)
        goto out;
    order_runs(set);
    order_machines(set);
    for (int i = 0; i < set->runs_n && !status; i++) {
        reading.run = &set->run[i];
        status = dlb_table_read(reading.run->path, DLB_TABLE_RESULTS, false, read_row,
                                &reading, NULL, error);
    }
out:
    tdestroy(reading.index, free);
    return status;
}

void dlb_series_release(struct dlb_series_set *set)
{
    for (int i = 0; i < set->runs_n; i++)
        release_run(&set->run[i]);
    for (int i = 0; i < set->machines_n; i++)
        free(set->machine[i].key);
    for (int i = 0; i < set->series_n; i++) {
        struct dlb_series *series = &set->series[i];
        for (int j = 0; j < DLB_SERIES_TEXTS; j++)
            free(series->text[j]);
        free(series->name);
        free(series->point);
    }
    free(set->run);
    free(set->machine);
    free(set->series);
    *set = (struct dlb_series_set){0};
}
