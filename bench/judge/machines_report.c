/*
 * Two machines side by side: raw times, what each makes of its own roof, how each stands
 * to oneDNN, and how each scales with threads.
 */
#include "judge/report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SHOWN_ALONE = 20 };

static const char *const side_names[DLB_SIDES] = {"BASE", "NEW"};

/* The manifest of the first run of a side that has one, or NULL. */
static const struct dlb_json_file *manifest_of(const struct dlb_cases *cases, int side)
{
    for (int i = 0; i < cases->files; i++)
        if (cases->file[i].side == side && cases->file[i].manifest)
            return cases->file[i].manifest;
    return NULL;
}

static double ceiling_of(const struct dlb_json_file *manifest, int i, const char *key)
{
    char keys[64];
    snprintf(keys, sizeof keys, "ceilings.%d.%s", i, key);
    return dlb_json_find_real(manifest, keys);
}

/* What the machine can do at most, on the thread set with the most threads. */
static void print_machine(const struct dlb_cases *cases, int side, bool markdown,
                          FILE *out)
{
    const struct dlb_json_file *manifest = manifest_of(cases, side);
    int widest = -1;
    if (!manifest)
        return;
    for (int i = 0; !isnan(ceiling_of(manifest, i, "threads")); i++)
        if (widest < 0 ||
            ceiling_of(manifest, i, "threads") > ceiling_of(manifest, widest, "threads"))
            widest = i;
    const char *key = dlb_json_find_text(manifest, "machine_key");
    fprintf(out, markdown ? "- **%s** %s" : "%-4s  %s", side_names[side], key ? key : "");
    if (widest >= 0)
        fprintf(out, "; on %.0f threads at most %.0f GFLOP/s, memory %.0f GB/s",
                ceiling_of(manifest, widest, "threads"),
                ceiling_of(manifest, widest, "peak_gflops"),
                ceiling_of(manifest, widest, "memory_gbs"));
    fprintf(out, "\n");
}

/* Without what the tables say in columns of their own: implementation and threads. */
static void name_problem(const struct dlb_case_key *key, char name[DLB_CASE_NAME])
{
    snprintf(name, DLB_CASE_NAME, "%s %s %.300s%s%s%s%s%s%s%s%s", key->op, key->pass,
             key->shape, strcmp(key->impl, "native") ? " " : "",
             strcmp(key->impl, "native") ? key->impl : "",
             strcmp(key->dtype, "f32") ? " " : "",
             strcmp(key->dtype, "f32") ? key->dtype : "",
             strcmp(key->accuracy, "exact") ? " " : "",
             strcmp(key->accuracy, "exact") ? key->accuracy : "",
             strcmp(key->cache_state, "hot") ? " " : "",
             strcmp(key->cache_state, "hot") ? key->cache_state : "");
}

static const char *text_percent(double part, char text[DLB_CELL_TEXT_MAX])
{
    if (isnan(part))
        return "-";
    snprintf(text, DLB_CELL_TEXT_MAX, "%.0f%%", 100 * part);
    return text;
}

static const char *text_times(double times, char text[DLB_CELL_TEXT_MAX])
{
    if (isnan(times))
        return "-";
    snprintf(text, DLB_CELL_TEXT_MAX, "%.2fx", times);
    return text;
}

static const char *text_threads(const struct dlb_machine_view *view,
                                char text[DLB_CELL_TEXT_MAX])
{
    snprintf(text, DLB_CELL_TEXT_MAX, "%d", view->key->threads);
    return text;
}

typedef void row_fn(const struct dlb_machines_problem *problem, const char *name,
                    struct dlb_report_table *table);

static const char *const times_head[] = {"<raw times", "BASE",    "threads",
                                         "NEW",        "threads", "NEW faster"};
static void times_row(const struct dlb_machines_problem *problem, const char *name,
                      struct dlb_report_table *table)
{
    const struct dlb_machine_view *base = &problem->side[DLB_BASE];
    const struct dlb_machine_view *fresh = &problem->side[DLB_NEW];
    char text[5][DLB_CELL_TEXT_MAX];
    const char *cells[] = {name,
                           dlb_report_time(base->best->median_ns, text[0]),
                           text_threads(base, text[1]),
                           dlb_report_time(fresh->best->median_ns, text[2]),
                           text_threads(fresh, text[3]),
                           text_times(problem->times, text[4])};
    dlb_report_row(table, cells, sizeof cells / sizeof *cells);
}

static const char *const roof_head[] = {
    "<share of its own roof", "BASE", "<bound by", "NEW", "<bound by",
    "<NEW faster, and why"};
static void roof_row(const struct dlb_machines_problem *problem, const char *name,
                     struct dlb_report_table *table)
{
    const struct dlb_machine_view *base = &problem->side[DLB_BASE];
    const struct dlb_machine_view *fresh = &problem->side[DLB_NEW];
    char text[2][DLB_CELL_TEXT_MAX], why[160] = "-";
    if (!isnan(problem->roofs) && !isnan(problem->used))
        snprintf(why, sizeof why,
                 "%.2fx = %.2fx the roof, %.2fx of it used: %.0f%% instead of %.0f%%",
                 problem->times, problem->roofs, problem->used,
                 100 * fresh->best->roof_frac, 100 * base->best->roof_frac);
    const char *cells[] = {name,         text_percent(base->best->roof_frac, text[0]),
                           base->bound,  text_percent(fresh->best->roof_frac, text[1]),
                           fresh->bound, why};
    dlb_report_row(table, cells, sizeof cells / sizeof *cells);
}

static const char *const onednn_head[] = {"<native against oneDNN", "BASE", "NEW"};
static void onednn_row(const struct dlb_machines_problem *problem, const char *name,
                       struct dlb_report_table *table)
{
    char text[2][DLB_CELL_TEXT_MAX];
    const char *cells[] = {name, text_times(problem->side[DLB_BASE].vs_onednn, text[0]),
                           text_times(problem->side[DLB_NEW].vs_onednn, text[1])};
    dlb_report_row(table, cells, sizeof cells / sizeof *cells);
}

static const struct {
    const char *const *head;
    int columns;
    row_fn *row;
} views[] = {
    {times_head, sizeof times_head / sizeof *times_head, times_row},
    {roof_head, sizeof roof_head / sizeof *roof_head, roof_row},
    {onednn_head, sizeof onednn_head / sizeof *onednn_head, onednn_row},
};

static enum dlb_status print_table(struct dlb_report_table *table, bool markdown,
                                   FILE *out, struct dlb_error *error)
{
    bool nomem = table->nomem;
    dlb_report_table_print(table, markdown, out);
    fprintf(out, "\n");
    dlb_report_table_release(table);
    return nomem ? dlb_fail(error, DLB_NOMEM, "There is no memory left for the report.")
                 : DLB_OK;
}

static enum dlb_status print_view(const struct dlb_machines *machines, int view,
                                  bool markdown, FILE *out, struct dlb_error *error)
{
    struct dlb_report_table table = {0};
    char name[DLB_CASE_NAME];
    dlb_report_row(&table, views[view].head, views[view].columns);
    for (int i = 0; i < machines->shared; i++) {
        name_problem(machines->problem[i].key, name);
        views[view].row(&machines->problem[i], name, &table);
    }
    return print_table(&table, markdown, out, error);
}

static enum dlb_status print_scaling(const struct dlb_machines *machines, bool markdown,
                                     FILE *out, struct dlb_error *error)
{
    static const char *const head[] = {
        "<speed over one thread", "threads", "BASE", "efficiency", "NEW", "efficiency"};
    struct dlb_report_table table = {0};
    dlb_report_row(&table, head, sizeof head / sizeof *head);
    for (int i = 0; i < machines->scalings; i++) {
        const struct dlb_machines_scaling *scaling = &machines->scaling[i];
        char text[5][DLB_CELL_TEXT_MAX], name[DLB_CASE_NAME];
        const double *speedup = scaling->speedup;
        snprintf(name, sizeof name, "%s %s", scaling->op, scaling->pass);
        snprintf(text[0], sizeof text[0], "%d", scaling->threads);
        const char *cells[] = {
            name,
            text[0],
            text_times(speedup[DLB_BASE], text[1]),
            text_percent(speedup[DLB_BASE] / scaling->threads, text[2]),
            text_times(speedup[DLB_NEW], text[3]),
            text_percent(speedup[DLB_NEW] / scaling->threads, text[4])};
        dlb_report_row(&table, cells, sizeof cells / sizeof *cells);
    }
    return print_table(&table, markdown, out, error);
}

static void print_alone(const struct dlb_machines *machines, bool markdown, FILE *out)
{
    for (int side = 0; side < DLB_SIDES; side++) {
        int n = 0;
        for (int i = machines->shared; i < machines->problems; i++) {
            char name[DLB_CASE_NAME];
            if (!machines->problem[i].side[side].best)
                continue;
            if (!n)
                fprintf(out, "Only in %s:\n", side_names[side]);
            if (n++ == SHOWN_ALONE)
                fprintf(out, "%sand more; --format csv has all\n",
                        markdown ? "- " : "  ");
            if (n > SHOWN_ALONE)
                continue;
            name_problem(machines->problem[i].key, name);
            fprintf(out, "%s%s\n", markdown ? "- " : "  ", name);
        }
        if (n)
            fprintf(out, "\n");
    }
}

static enum dlb_status print_people(const struct dlb_machines_report *report,
                                    bool markdown, FILE *out, struct dlb_error *error)
{
    const struct dlb_machines *machines = report->machines;
    enum dlb_status status = DLB_OK;
    if (markdown)
        fprintf(out, "### Two machines\n\n");
    for (int side = 0; side < DLB_SIDES; side++)
        print_machine(machines->cases, side, markdown, out);
    dlb_report_sides(machines->cases, report->differences, markdown, out);
    for (int view = 0; view < (int)(sizeof views / sizeof *views) && !status; view++)
        status = print_view(machines, view, markdown, out, error);
    if (!status && machines->scalings)
        status = print_scaling(machines, markdown, out, error);
    print_alone(machines, markdown, out);
    if (machines->mismatch)
        fprintf(out, "WRONG RESULTS: a row is a mismatch, and has no time here.\n");
    return status;
}

/* --- CSV and JSON: the same names */

enum { VIEW_FIGURES = 6, VIEW_TEXTS = 2, FACTORS = 3 };
static const char *const figure_names[VIEW_FIGURES] = {
    "threads", "time_median_ns", "gflops", "roof_gflops", "roof_frac", "vs_onednn"};
static const char *const text_names[VIEW_TEXTS] = {"thread_set", "bound"};
static const char *const factor_names[FACTORS] = {"times_faster", "roof_ratio",
                                                  "used_ratio"};
/* Of the key: all but thread set and threads, which each side has of its own. */
static const int key_parts[] = {0, 1, 2, 3, 4, 5, 8};
enum { KEY_PARTS = sizeof key_parts / sizeof *key_parts };

static void figures_of(const struct dlb_machine_view *view, double figure[VIEW_FIGURES],
                       const char *text[VIEW_TEXTS])
{
    const struct dlb_case_row *best = view->best;
    const double figures[VIEW_FIGURES] = {
        best ? view->key->threads : NAN, best ? best->median_ns : NAN,
        best ? best->gflops : NAN,       best ? best->roof_gflops : NAN,
        best ? best->roof_frac : NAN,    view->vs_onednn};
    memcpy(figure, figures, sizeof figures);
    text[0] = best ? view->key->thread_set : "";
    text[1] = view->bound;
}

static enum dlb_status print_csv(const struct dlb_machines *machines, FILE *out,
                                 struct dlb_error *error)
{
    enum { CELLS = KEY_PARTS + DLB_SIDES * (VIEW_FIGURES + VIEW_TEXTS) + FACTORS };
    struct dlb_csv_buffer buffer = {0};
    enum dlb_status status = DLB_OK;
    for (int i = -1; i < machines->problems && !status; i++) {
        const struct dlb_machines_problem *problem = &machines->problem[dlb_max(0, i)];
        const double factor[FACTORS] = {problem->times, problem->roofs, problem->used};
        const char *cell[CELLS], *key[DLB_REPORT_KEYS];
        char number[CELLS][DLB_CELL_TEXT_MAX] = {{0}}, threads[16];
        int n = 0;
        dlb_report_key(problem->key, key, threads);
        for (int k = 0; k < KEY_PARTS; k++)
            cell[n++] = i < 0 ? dlb_report_key_names[key_parts[k]] : key[key_parts[k]];
        for (int side = 0; side < DLB_SIDES; side++) {
            double figure[VIEW_FIGURES];
            const char *text[VIEW_TEXTS], *prefix = side ? "new" : "base";
            figures_of(&problem->side[side], figure, text);
            for (int f = 0; f < VIEW_FIGURES; f++) {
                if (i < 0)
                    snprintf(number[n], sizeof number[n], "%s_%s", prefix,
                             figure_names[f]);
                else if (!isnan(figure[f]))
                    snprintf(number[n], sizeof number[n], "%.10g", figure[f]);
                cell[n] = number[n];
                n++;
            }
            for (int t = 0; t < VIEW_TEXTS; t++) {
                snprintf(number[n], sizeof number[n], "%s_%s", prefix, text_names[t]);
                cell[n] = i < 0 ? number[n] : text[t];
                n++;
            }
        }
        for (int f = 0; f < FACTORS; f++, n++) {
            if (!isnan(factor[f]))
                snprintf(number[n], sizeof number[n], "%.10g", factor[f]);
            cell[n] = i < 0 ? factor_names[f] : number[n];
        }
        status = dlb_csv_append(&buffer, cell, CELLS, error);
        if (!status)
            fwrite(buffer.data, 1, buffer.length, out);
        buffer.length = 0;
    }
    dlb_csv_buffer_release(&buffer);
    return status;
}

static void put_problem(const struct dlb_machines_problem *problem, struct dlb_json *json)
{
    const double factor[FACTORS] = {problem->times, problem->roofs, problem->used};
    const char *key[DLB_REPORT_KEYS];
    char threads[16];
    dlb_report_key(problem->key, key, threads);
    dlb_json_begin_object(json, NULL);
    for (int k = 0; k < KEY_PARTS; k++)
        dlb_json_text(json, dlb_report_key_names[key_parts[k]], key[key_parts[k]]);
    for (int side = 0; side < DLB_SIDES; side++) {
        double figure[VIEW_FIGURES];
        const char *text[VIEW_TEXTS];
        if (!problem->side[side].best) {
            dlb_json_text(json, side ? "new" : "base", NULL);
            continue;
        }
        figures_of(&problem->side[side], figure, text);
        dlb_json_begin_object(json, side ? "new" : "base");
        for (int f = 0; f < VIEW_FIGURES; f++)
            dlb_json_real(json, figure_names[f], figure[f]);
        for (int t = 0; t < VIEW_TEXTS; t++)
            dlb_json_text(json, text_names[t], text[t]);
        dlb_json_end(json);
    }
    for (int f = 0; f < FACTORS; f++)
        dlb_json_real(json, factor_names[f], factor[f]);
    dlb_json_end(json);
}

static void put_scaling(const struct dlb_machines *machines, struct dlb_json *json)
{
    dlb_json_begin_array(json, "scaling");
    for (int i = 0; i < machines->scalings; i++) {
        const struct dlb_machines_scaling *scaling = &machines->scaling[i];
        dlb_json_begin_object(json, NULL);
        dlb_json_text(json, "op", scaling->op);
        dlb_json_text(json, "pass", scaling->pass);
        dlb_json_int(json, "threads", scaling->threads);
        dlb_json_real(json, "base_speedup", scaling->speedup[DLB_BASE]);
        dlb_json_real(json, "new_speedup", scaling->speedup[DLB_NEW]);
        dlb_json_int(json, "base_problems", scaling->problems[DLB_BASE]);
        dlb_json_int(json, "new_problems", scaling->problems[DLB_NEW]);
        dlb_json_end(json);
    }
    dlb_json_end(json);
}

static enum dlb_status print_json(const struct dlb_machines_report *report, FILE *out,
                                  struct dlb_error *error)
{
    const struct dlb_machines *machines = report->machines;
    struct dlb_json json = {0};
    dlb_json_begin_object(&json, NULL);
    dlb_json_text(&json, "kind", "machines");
    dlb_json_bool(&json, "mismatch", machines->mismatch);
    dlb_report_sides_json(machines->cases, report->differences, &json);
    dlb_json_begin_array(&json, "problems");
    for (int i = 0; i < machines->problems; i++)
        put_problem(&machines->problem[i], &json);
    dlb_json_end(&json);
    put_scaling(machines, &json);
    dlb_json_end(&json);
    enum dlb_status status = dlb_json_print(&json, out, error);
    dlb_json_release(&json);
    return status;
}

enum dlb_status dlb_machines_print(const struct dlb_machines_report *report,
                                   enum dlb_format format, FILE *out,
                                   struct dlb_error *error)
{
    switch (format) {
    case DLB_FORMAT_CSV:
        return print_csv(report->machines, out, error);
    case DLB_FORMAT_JSON:
        return print_json(report, out, error);
    default:
        return print_people(report, format == DLB_FORMAT_MARKDOWN, out, error);
    }
}
