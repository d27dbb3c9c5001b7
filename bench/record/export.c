#include "record/export.h"

#include "record/json.h"
#include "record/manifest.h"
#include "record/otava.h"
#include "record/rows.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { EXTRA_BYTES = 1024 };

struct sample {
    int64_t row_seq, index;
    double ns;
};

struct source {
    struct dlb_rows rows;
    const struct dlb_row **row; /* those that are exported, as they stand in the file */
    int rows_n;
    struct sample *sample; /* of all rows, by row and index; contaminated ones left out */
    size_t samples_n, samples_capacity;
    struct dlb_json_file *manifest; /* NULL when there is none */
};

static enum dlb_status no_memory(struct dlb_error *error)
{
    return dlb_fail(error, DLB_NOMEM, "There is no memory left to export the run.");
}

static enum dlb_status add_sample(void *context, struct dlb_cell *cell,
                                  const struct dlb_csv_record *record,
                                  struct dlb_error *error)
{
    struct source *source = context;
    (void)record;
    if (!cell[DLB_SAMPLE_NS].set || cell[DLB_SAMPLE_CONTAMINATED].integer)
        return DLB_OK;
    if (source->samples_n == source->samples_capacity) {
        size_t capacity = source->samples_capacity ? 2 * source->samples_capacity : 1024;
        struct sample *grown = realloc(source->sample, capacity * sizeof *grown);
        if (!grown)
            return no_memory(error);
        source->sample = grown;
        source->samples_capacity = capacity;
    }
    source->sample[source->samples_n++] =
        (struct sample){.row_seq = cell[DLB_SAMPLE_ROW_SEQ].integer,
                        .index = cell[DLB_SAMPLE_SAMPLE_IDX].integer,
                        .ns = cell[DLB_SAMPLE_NS].number};
    return DLB_OK;
}

static int compare_samples(const void *left, const void *right)
{
    const struct sample *a = left, *b = right;
    if (a->row_seq != b->row_seq)
        return a->row_seq < b->row_seq ? -1 : 1;
    return (a->index > b->index) - (a->index < b->index);
}

/* Path of a file beside the results.csv of run; the caller frees it. */
static char *path_of(const char *run, const char *file)
{
    struct stat info;
    char *path;
    bool folder = !stat(run, &info) && S_ISDIR(info.st_mode);
    const char *slash = strrchr(run, '/');
    int length = folder ? (int)strlen(run) : slash ? (int)(slash - run) : 0;
    return asprintf(&path, "%.*s%s%s", length, run, folder || slash ? "/" : "", file) < 0
               ? NULL
               : path;
}

static bool is_exported(const struct dlb_row *row)
{
    return !strcmp(dlb_row_get_text(row, DLB_COL_STATUS), "ok") &&
           dlb_row_get_real(row, DLB_COL_TIME_MEDIAN_NS) > 0;
}

/* By case, and within one by their place in the file. */
static int compare_rows(const void *left, const void *right)
{
    const struct dlb_row *a = *(const struct dlb_row *const *)left;
    const struct dlb_row *b = *(const struct dlb_row *const *)right;
    int order = strcmp(dlb_row_get_text(a, DLB_COL_CASE_ID),
                       dlb_row_get_text(b, DLB_COL_CASE_ID));
    return order ? order : (a > b) - (a < b);
}

static int compare_places(const void *left, const void *right)
{
    const struct dlb_row *a = *(const struct dlb_row *const *)left;
    const struct dlb_row *b = *(const struct dlb_row *const *)right;
    return (a > b) - (a < b);
}

static enum dlb_status choose_rows(struct source *source, struct dlb_error *error)
{
    int n = 0;
    source->row = malloc((size_t)(source->rows.rows_n + 1) * sizeof *source->row);
    if (!source->row)
        return no_memory(error);
    for (int i = 0; i < source->rows.rows_n; i++)
        if (is_exported(&source->rows.row[i]))
            source->row[n++] = &source->rows.row[i];
    qsort(source->row, (size_t)n, sizeof *source->row, compare_rows);
    for (int i = 0; i < n; i++)
        if (i + 1 == n || strcmp(dlb_row_get_text(source->row[i], DLB_COL_CASE_ID),
                                 dlb_row_get_text(source->row[i + 1], DLB_COL_CASE_ID)))
            source->row[source->rows_n++] = source->row[i];
    qsort(source->row, (size_t)source->rows_n, sizeof *source->row, compare_places);
    return DLB_OK;
}

static enum dlb_status open_source(const char *run, struct source *source,
                                   struct dlb_error *error)
{
    char *samples = path_of(run, dlb_tables[DLB_TABLE_SAMPLES].file);
    char *manifest = path_of(run, DLB_MANIFEST_FILE);
    enum dlb_status status =
        samples && manifest ? dlb_rows_read(run, &source->rows, error) : no_memory(error);
    if (!status)
        status = choose_rows(source, error);
    if (!status && !access(samples, F_OK))
        status = dlb_table_read(samples, DLB_TABLE_SAMPLES, false, add_sample, source,
                                NULL, error);
    if (!status && !access(manifest, F_OK))
        status = dlb_json_open(manifest, &source->manifest, error);
    if (source->samples_n)
        qsort(source->sample, source->samples_n, sizeof *source->sample, compare_samples);
    free(samples);
    free(manifest);
    return status;
}

static void close_source(struct source *source)
{
    dlb_rows_release(&source->rows);
    free(source->row);
    dlb_json_close(source->manifest);
    free(source->sample);
    *source = (struct source){0};
}

/* The samples of a row: *n of them from what is returned on. */
static const struct sample *samples_of(const struct source *source, int64_t row_seq,
                                       int *n)
{
    size_t low = 0, high = source->samples_n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (source->sample[middle].row_seq < row_seq)
            low = middle + 1;
        else
            high = middle;
    }
    size_t end = low;
    while (end < source->samples_n && source->sample[end].row_seq == row_seq)
        end++;
    *n = (int)(end - low);
    return source->sample + low;
}

static const char *manifest_text(const struct source *source, const char *keys,
                                 const char *otherwise)
{
    const char *text =
        source->manifest ? dlb_json_find_text(source->manifest, keys) : NULL;
    return text ? text : otherwise;
}

static double manifest_real(const struct source *source, const char *keys,
                            double otherwise)
{
    double value = source->manifest ? dlb_json_find_real(source->manifest, keys) : NAN;
    return isfinite(value) ? value : otherwise;
}

/* A fact is a text: 0 when it is not there. */
static int64_t manifest_fact(const struct source *source, const char *keys)
{
    return strtoll(manifest_text(source, keys, "0"), NULL, 10);
}

static void put_caches(struct dlb_json *json, const struct source *source)
{
    static const struct {
        const char *type, *bytes, *shared_by;
    } levels[] = {{"Data", "facts.cpu.l1d_bytes", "facts.cpu.l1_shared_by"},
                  {"Unified", "facts.cpu.l2_bytes", "facts.cpu.l2_shared_by"},
                  {"Unified", "facts.cpu.l3_bytes", "facts.cpu.l3_shared_by"}};
    dlb_json_begin_array(json, "caches");
    for (int i = 0; i < 3; i++) {
        int64_t bytes = manifest_fact(source, levels[i].bytes);
        if (bytes <= 0)
            continue;
        dlb_json_begin_object(json, NULL);
        dlb_json_text(json, "type", levels[i].type);
        dlb_json_int(json, "level", i + 1);
        dlb_json_int(json, "size", bytes);
        dlb_json_int(json, "num_sharing", manifest_fact(source, levels[i].shared_by));
        dlb_json_end(json);
    }
    dlb_json_end(json);
}

static void put_context(struct dlb_json *json, const struct source *source)
{
    char date[32] = "";
    const struct dlb_row *first = &source->rows.row[0];
    const char *timestamp = dlb_row_get_text(first, DLB_COL_TIMESTAMP_UTC);
    const char *started = manifest_text(source, "started_utc", timestamp);
    const char *governor = manifest_text(source, "facts.power.governor", NULL);
    double load = dlb_row_get_real(first, DLB_COL_LOAD1);
    if (*started)
        snprintf(date, sizeof date, "%.19s+00:00", started);

    dlb_json_begin_object(json, "context");
    dlb_json_text(json, "date", date);
    dlb_json_text(json, "host_name", manifest_text(source, "host", ""));
    dlb_json_text(json, "executable", manifest_text(source, "program.name", "dlbench"));
    dlb_json_int(json, "num_cpus", (int64_t)manifest_real(source, "cpus_online", 0));
    dlb_json_int(json, "mhz_per_cpu",
                 manifest_fact(source, "facts.power.frequency_max_khz") / 1000);
    dlb_json_bool(json, "cpu_scaling_enabled",
                  governor && !strstr(governor, "performance"));
    put_caches(json, source);
    dlb_json_begin_array(json, "load_avg");
    if (isfinite(load))
        dlb_json_real(json, NULL, load);
    dlb_json_end(json);
    dlb_json_text(json, "library_build_type", "release");
    dlb_json_int(json, "json_schema_version", 1);
    dlb_json_text(json, "run_id", dlb_row_get_text(first, DLB_COL_RUN_ID));
    dlb_json_text(json, "machine_key", manifest_text(source, "machine_key", NULL));
    dlb_json_end(json);
}

/* One repetition.  There is no processor time of a sample: cpu_time repeats real_time. */
static void put_repetition(struct dlb_json *json, const struct dlb_row *row, int family,
                           double ns, int index, int repetitions)
{
    char name[DLB_ROW_NAME_MAX];
    dlb_row_name(row, name);
    double flops = dlb_row_get_real(row, DLB_COL_FLOPS);
    double bytes = dlb_row_get_real(row, DLB_COL_BYTES_MIN);
    dlb_json_begin_object(json, NULL);
    dlb_json_text(json, "name", name);
    dlb_json_int(json, "family_index", family);
    dlb_json_int(json, "per_family_instance_index", 0);
    dlb_json_text(json, "run_name", name);
    dlb_json_text(json, "run_type", "iteration");
    dlb_json_int(json, "repetitions", repetitions);
    dlb_json_int(json, "repetition_index", index);
    dlb_json_int(json, "threads", dlb_row_get_int(row, DLB_COL_THREADS));
    dlb_json_int(json, "iterations",
                 dlb_max(1, dlb_row_get_int(row, DLB_COL_INNER_REPS)));
    dlb_json_real(json, "real_time", ns);
    dlb_json_real(json, "cpu_time", ns);
    dlb_json_text(json, "time_unit", "ns");
    if (isfinite(flops))
        dlb_json_real(json, "gflops", flops / ns);
    if (isfinite(bytes))
        dlb_json_real(json, "bytes_per_second", bytes / ns * 1e9);
    dlb_json_text(json, "label", dlb_row_get_text(row, DLB_COL_ALGORITHM));
    dlb_json_end(json);
}

static void put_median(struct dlb_json *json, const struct dlb_row *row, int family)
{
    put_repetition(json, row, family, dlb_row_get_real(row, DLB_COL_TIME_MEDIAN_NS), 0,
                   1);
}

static void put_gbench(struct dlb_json *json, const struct source *source)
{
    dlb_json_begin_object(json, NULL);
    put_context(json, source);
    dlb_json_begin_array(json, "benchmarks");
    for (int i = 0; i < source->rows_n; i++) {
        const struct dlb_row *row = source->row[i];
        int n;
        const struct sample *sample =
            samples_of(source, dlb_row_get_int(row, DLB_COL_ROW_SEQ), &n);
        for (int j = 0; j < n; j++)
            put_repetition(json, row, i, sample[j].ns, j, n);
        if (!n)
            put_median(json, row, i);
    }
    dlb_json_end(json);
    dlb_json_end(json);
}

static void put_gbench_median(struct dlb_json *json, const struct source *source)
{
    dlb_json_begin_object(json, NULL);
    put_context(json, source);
    dlb_json_begin_array(json, "benchmarks");
    for (int i = 0; i < source->rows_n; i++)
        put_median(json, source->row[i], i);
    dlb_json_end(json);
    dlb_json_end(json);
}

/* What may explain a time, one thing a line: the columns that are set. */
static void describe_row(const struct dlb_row *row, char extra[EXTRA_BYTES])
{
    static const enum dlb_column columns[] = {
        DLB_COL_SHAPE_NAME, DLB_COL_ISA,       DLB_COL_ALGORITHM,         DLB_COL_TILES,
        DLB_COL_GFLOPS,     DLB_COL_ROOF_FRAC, DLB_COL_SPEEDUP_VS_ONEDNN, DLB_COL_CPUSET};
    size_t used = 0;
    *extra = '\0';
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
        char number[DLB_NUMBER_TEXT];
        const struct dlb_column_def *column = &dlb_columns[columns[i]];
        const char *text = dlb_cell_format(column->type, &row->cell[columns[i]], number);
        if (*text && used < EXTRA_BYTES)
            used += (size_t)snprintf(extra + used, EXTRA_BYTES - used, "%s%s: %s",
                                     used ? "\n" : "", column->name, text);
    }
}

static void put_action(struct dlb_json *json, const struct source *source)
{
    dlb_json_begin_array(json, NULL);
    for (int i = 0; i < source->rows_n; i++) {
        const struct dlb_row *row = source->row[i];
        char name[DLB_ROW_NAME_MAX], range[48], extra[EXTRA_BYTES];
        dlb_row_name(row, name);
        double half = (dlb_row_get_real(row, DLB_COL_TIME_CI_HI_NS) -
                       dlb_row_get_real(row, DLB_COL_TIME_CI_LO_NS)) /
                      2;
        snprintf(range, sizeof range, "± %.4g", half);
        describe_row(row, extra);
        dlb_json_begin_object(json, NULL);
        dlb_json_text(json, "name", name);
        dlb_json_text(json, "unit", "ns");
        dlb_json_real(json, "value", dlb_row_get_real(row, DLB_COL_TIME_MEDIAN_NS));
        if (isfinite(half))
            dlb_json_text(json, "range", range);
        dlb_json_text(json, "extra", extra);
        dlb_json_end(json);
    }
    dlb_json_end(json);
}

static void put_bmf(struct dlb_json *json, const struct source *source)
{
    dlb_json_begin_object(json, NULL);
    for (int i = 0; i < source->rows_n; i++) {
        const struct dlb_row *row = source->row[i];
        double low = dlb_row_get_real(row, DLB_COL_TIME_CI_LO_NS);
        double high = dlb_row_get_real(row, DLB_COL_TIME_CI_HI_NS);
        char name[DLB_ROW_NAME_MAX];
        dlb_row_name(row, name);
        dlb_json_begin_object(json, name);
        dlb_json_begin_object(json, "latency");
        dlb_json_real(json, "value", dlb_row_get_real(row, DLB_COL_TIME_MEDIAN_NS));
        if (isfinite(low))
            dlb_json_real(json, "lower_value", low);
        if (isfinite(high))
            dlb_json_real(json, "upper_value", high);
        dlb_json_end(json);
        dlb_json_end(json);
    }
    dlb_json_end(json);
}

static const struct kind {
    const char *name;
    void (*put)(struct dlb_json *json, const struct source *source); /* of one run */
    enum dlb_status (*write)(const char *file, const char *const *run, int runs_n,
                             struct dlb_error *error); /* of many runs */
} kinds[] = {{"gbench", put_gbench, NULL},
             {"gbench-median", put_gbench_median, NULL},
             {"action", put_action, NULL},
             {"bmf", put_bmf, NULL},
             {"otava", NULL, dlb_otava_write}};
enum { KINDS = sizeof kinds / sizeof *kinds };

static enum dlb_status parse_spec(const char *spec, const struct kind **kind,
                                  const char **file, struct dlb_error *error)
{
    char names[128] = "";
    const char *equals = strchrnul(spec, '=');
    *kind = NULL;
    for (int i = 0; i < KINDS; i++) {
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s",
                 !i              ? ""
                 : i + 1 < KINDS ? ", "
                                 : " or ",
                 kinds[i].name);
        if (strlen(kinds[i].name) == (size_t)(equals - spec) &&
            !strncmp(kinds[i].name, spec, (size_t)(equals - spec)))
            *kind = &kinds[i];
    }
    if (!*equals || !equals[1])
        return dlb_fail(error, DLB_INVALID,
                        "The export \"%.200s\" names no file: KIND=FILE is expected, "
                        "where KIND is %s.",
                        spec, names);
    if (!*kind)
        return dlb_fail(error, DLB_INVALID,
                        "There is no export of the kind \"%.*s\": it must be %s.",
                        (int)dlb_min(equals - spec, 200), spec, names);
    *file = equals + 1;
    return DLB_OK;
}

enum dlb_status dlb_export_check(const char *spec, struct dlb_error *error)
{
    const struct kind *kind;
    const char *file;
    return parse_spec(spec, &kind, &file, error);
}

static enum dlb_status write_json(const struct kind *kind, const char *file,
                                  const char *run, struct dlb_error *error)
{
    struct source source = {0};
    struct dlb_json json = {0};
    enum dlb_status status = open_source(run, &source, error);
    if (!status && !source.rows_n)
        status =
            dlb_fail(error, DLB_INVALID,
                     "%s has no row to export: none of its %d rows has the status ok "
                     "and a time.",
                     run, source.rows.rows_n);
    if (!status) {
        kind->put(&json, &source);
        status = dlb_json_save(&json, file, error);
    }
    dlb_json_release(&json);
    close_source(&source);
    return status;
}

enum dlb_status dlb_export_write(const char *spec, const char *const *run, int runs_n,
                                 struct dlb_error *error)
{
    const struct kind *kind;
    const char *file;
    enum dlb_status status = parse_spec(spec, &kind, &file, error);
    if (status)
        return status;
    if (kind->write)
        return kind->write(file, run, runs_n, error);
    if (runs_n > 1)
        return dlb_fail(error, DLB_INVALID,
                        "An export of the kind \"%s\" holds one run, and %d are named; "
                        "otava takes many.",
                        kind->name, runs_n);
    return write_json(kind, file, run[0], error);
}
