/*
 * The verdicts on one machine: for people on a terminal and in a pull request, and for
 * programs.
 */
#include "exit.h"
#include "judge/report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SHOWN_TEXT = 40, SHOWN_MARKDOWN = 60 };

static const char *const noise_sources[] = {
    [DLB_NOISE_REPEATS] = "repeats",
    [DLB_NOISE_SPREAD] = "spread of the cases, for want of repeats",
    [DLB_NOISE_ASSUMED] = "assumed, for want of repeats and of cases"};

/* "+3.1%" of a logarithm. */
static const char *percent(double log_ratio, char text[DLB_CELL_TEXT_MAX])
{
    if (isnan(log_ratio))
        return "-";
    snprintf(text, DLB_CELL_TEXT_MAX, "%+.1f%%", 100 * expm1(log_ratio));
    return text;
}

static const struct dlb_gate_case *gate_of(const struct dlb_comparison *comparison,
                                           const struct dlb_compared *compared)
{
    return compared->gate < 0 ? NULL : &comparison->gate[compared->gate];
}

static double partner_ratio(const struct dlb_comparison *comparison,
                            const struct dlb_gate_case *gate)
{
    return !gate || gate->partner < 0 ? NAN : comparison->gate[gate->partner].ratio;
}

/* --- text and Markdown */

static void add_case(const struct dlb_comparison *comparison,
                     const struct dlb_compared *compared, struct dlb_report_table *table)
{
    const struct dlb_gate_case *gate = gate_of(comparison, compared);
    char name[DLB_CASE_NAME], base[DLB_CELL_TEXT_MAX], fresh[DLB_CELL_TEXT_MAX];
    char ratio[DLB_CELL_TEXT_MAX], interval[DLB_CELL_TEXT_MAX] = "-";
    char q[DLB_CELL_TEXT_MAX] = "-", beside[DLB_CELL_TEXT_MAX], verdict[320];
    dlb_case_name(&comparison->cases.item[compared->item].key, name);
    if (gate)
        snprintf(interval, sizeof interval, "[%.3f, %.3f]", gate->lo, gate->hi);
    if (gate && !isnan(gate->q))
        snprintf(q, sizeof q, gate->q < 0.001 ? "<0.001" : "%.3f", gate->q);
    snprintf(verdict, sizeof verdict, "%s%s%.250s", dlb_verdict_names[compared->verdict],
             compared->reason ? ": " : "", compared->reason ? compared->reason : "");
    if (!isnan(compared->rerun_ratio)) {
        size_t used = strlen(verdict);
        snprintf(verdict + used, sizeof verdict - used, " (%.3f)", compared->rerun_ratio);
    }
    const char *cells[] = {
        name,
        dlb_report_time(dlb_comparison_median(comparison, compared, DLB_BASE), base),
        dlb_report_time(dlb_comparison_median(comparison, compared, DLB_NEW), fresh),
        dlb_report_number(gate ? gate->ratio : NAN, 3, ratio),
        interval,
        q,
        dlb_report_number(partner_ratio(comparison, gate), 3, beside),
        verdict};
    dlb_report_row(table, cells, sizeof cells / sizeof *cells);
}

static void print_counts(const struct dlb_gate_report *report, FILE *out)
{
    const struct dlb_comparison *comparison = report->comparison;
    static const enum dlb_verdict order[] = {DLB_VERDICT_MISMATCH, DLB_VERDICT_REGRESSION,
                                             DLB_VERDICT_SUSPECT,  DLB_VERDICT_MACHINE,
                                             DLB_VERDICT_LOST,     DLB_VERDICT_NOISY,
                                             DLB_VERDICT_UNCLEAR,  DLB_VERDICT_FASTER,
                                             DLB_VERDICT_ADDED,    DLB_VERDICT_SAME};
    int controls = 0, shown = 0;
    for (int i = 0; i < comparison->gates; i++)
        controls += comparison->gate[i].control;
    fprintf(out, "%d cases:", comparison->n - controls);
    for (size_t i = 0; i < sizeof order / sizeof *order; i++)
        if (comparison->count[order[i]])
            fprintf(out, "%s %d %s", shown++ ? "," : "", comparison->count[order[i]],
                    dlb_verdict_names[order[i]]);
    if (controls)
        fprintf(out, "; %d oneDNN rows as controls, of which %d moved", controls,
                comparison->moved_controls);
    fprintf(out, "\n");
}

/* What moved everything, and what noise the verdicts stand against. */
static void print_machine(const struct dlb_gate_report *report, FILE *out)
{
    const struct dlb_gate_found *found = &report->comparison->found;
    char others[DLB_CELL_TEXT_MAX], controls[DLB_CELL_TEXT_MAX];
    char common[DLB_CELL_TEXT_MAX];
    if (!report->comparison->gates)
        return;
    fprintf(out, "Median move %s", percent(found->others, others));
    if (found->controls)
        fprintf(out, ", of oneDNN's rows, whose code is the same, %s",
                percent(found->control, controls));
    fprintf(out, "; the machine's share, taken off before judging: %s\n",
            percent(found->common, common));
    fprintf(out, "Noise of one run %.1f%% (%s)", 100 * sqrt(found->noise.variance),
            noise_sources[found->noise.source]);
    if (report->comparison->cases.without_samples)
        fprintf(out,
                "; there are more than %d samples, so that medians and their "
                "intervals were compared instead",
                (int)DLB_CASE_SAMPLES_MAX);
    fprintf(out, "\n");
}

static void headline(const struct dlb_gate_report *report, char text[256])
{
    const int *count = report->comparison->count;
    char common[DLB_CELL_TEXT_MAX];
    double bound = 100 * report->threshold;
    int regressions = count[DLB_VERDICT_REGRESSION];
    switch (report->exit_status) {
    case DLB_EXIT_MISMATCH:
        snprintf(text, 256, "WRONG RESULTS in %d case%s of NEW",
                 count[DLB_VERDICT_MISMATCH],
                 count[DLB_VERDICT_MISMATCH] == 1 ? "" : "s");
        break;
    case DLB_EXIT_ENVIRONMENT:
        snprintf(text, 256,
                 "Environment changed: most cases moved by about %s together; measure "
                 "again",
                 percent(report->comparison->found.common, common));
        break;
    case DLB_EXIT_REGRESSION:
        snprintf(text, 256, "REGRESSION: %d case%s slower by %.3g%% or more%s",
                 regressions, regressions == 1 ? " is" : "s are", bound,
                 report->confirmed ? ", confirmed by re-runs" : "");
        break;
    case DLB_EXIT_INCOMPLETE:
        snprintf(text, 256, "Incomplete: NEW does not have all that BASE has");
        break;
    case DLB_EXIT_NOISY:
        snprintf(text, 256,
                 "Inconclusive: too noisy to rule out a slowdown of %.3g%%; add runs of "
                 "NEW and of BASE",
                 bound);
        break;
    default:
        snprintf(text, 256, "No regression of %.3g%% or more", bound);
    }
}

/* How many cases of the sorted list are worth a line. */
static int lines_of(const struct dlb_comparison *comparison, int shown)
{
    int telling = 0;
    while (telling < comparison->n &&
           comparison->compared[telling].verdict != DLB_VERDICT_SAME)
        telling++;
    return (int)dlb_min(comparison->n <= shown ? comparison->n : telling, shown);
}

static enum dlb_status print_people(const struct dlb_gate_report *report, bool markdown,
                                    FILE *out, struct dlb_error *error)
{
    static const char *const heads[] = {"<case", "BASE", "NEW",    "NEW/BASE",
                                        "95 %",  "q",    "oneDNN", "<verdict"};
    const struct dlb_comparison *comparison = report->comparison;
    struct dlb_report_table table = {0};
    int lines = lines_of(comparison, markdown ? SHOWN_MARKDOWN : SHOWN_TEXT);
    char text[256];
    headline(report, text);
    if (markdown)
        fprintf(out, "### %s\n\n", text);
    dlb_report_sides(&comparison->cases, report->differences, markdown, out);
    dlb_report_row(&table, heads, sizeof heads / sizeof *heads);
    for (int i = 0; i < lines; i++)
        add_case(comparison, &comparison->compared[i], &table);
    bool nomem = table.nomem;
    if (lines)
        dlb_report_table_print(&table, markdown, out);
    dlb_report_table_release(&table);
    if (nomem)
        return dlb_fail(error, DLB_NOMEM, "There is no memory left for the report.");
    if (lines < comparison->n)
        fprintf(out, "%sand %d more; --format csv has all\n",
                markdown && lines ? "\n" : "", comparison->n - lines);
    fprintf(out, "\n");
    print_counts(report, out);
    if (markdown)
        fprintf(out, "\n");
    print_machine(report, out);
    for (int i = 0; i < comparison->cases.runs; i++) {
        const struct dlb_case_run *run = &comparison->cases.run[i];
        if (run->state != DLB_RUN_WHOLE)
            fprintf(out, "%s %s\n", comparison->cases.file[run->file].name,
                    run->state == DLB_RUN_TORN
                        ? "ends in a torn record, which was left out"
                        : "was not finished");
    }
    if (!markdown)
        fprintf(out, "%s\n", text);
    return DLB_OK;
}

/* --- CSV and JSON: the same names */

/* The numbers of a case, after its key. */
struct figure {
    const char *name;
    double value;
};
enum { FIGURES = 16 };

static int samples_of(const struct dlb_side *side)
{
    int samples = 0;
    for (int i = 0; i < side->runs; i++)
        samples += side->timing[i].samples;
    return samples;
}

static void figures_of(const struct dlb_comparison *comparison,
                       const struct dlb_compared *compared, struct figure figure[FIGURES])
{
    const struct dlb_gate_case *gate = gate_of(comparison, compared);
    const struct figure figures[FIGURES] = {
        {"base_runs", gate ? gate->base.runs : NAN},
        {"new_runs", gate ? gate->fresh.runs : NAN},
        {"base_samples", gate ? samples_of(&gate->base) : NAN},
        {"new_samples", gate ? samples_of(&gate->fresh) : NAN},
        {"base_median_ns", dlb_comparison_median(comparison, compared, DLB_BASE)},
        {"new_median_ns", dlb_comparison_median(comparison, compared, DLB_NEW)},
        {"ratio", gate ? gate->ratio : NAN},
        {"ratio_ci_lo", gate ? gate->lo : NAN},
        {"ratio_ci_hi", gate ? gate->hi : NAN},
        {"p_samples", gate ? gate->p_samples : NAN},
        {"p_runs", gate ? gate->p_runs : NAN},
        {"q", gate ? gate->q : NAN},
        {"noise_floor", gate ? gate->noise_floor : NAN},
        {"onednn_ratio", partner_ratio(comparison, gate)},
        {"rerun_ratio", compared->rerun_ratio},
        {"control", gate ? gate->control : NAN},
    };
    memcpy(figure, figures, sizeof figures);
}

static enum dlb_status print_csv(const struct dlb_gate_report *report, FILE *out,
                                 struct dlb_error *error)
{
    const struct dlb_comparison *comparison = report->comparison;
    enum { CELLS = DLB_REPORT_KEYS + FIGURES + 2 };
    struct figure figure[FIGURES];
    struct dlb_csv_buffer buffer = {0};
    enum dlb_status status = DLB_OK;
    for (int i = -1; i < comparison->n && !status; i++) {
        const struct dlb_compared *compared = &comparison->compared[dlb_max(0, i)];
        const char *cell[CELLS];
        char number[FIGURES][DLB_CELL_TEXT_MAX] = {{0}}, threads[16];
        if (i < 0 && !comparison->n)
            break;
        figures_of(comparison, compared, figure);
        dlb_report_key(&comparison->cases.item[compared->item].key, cell, threads);
        for (int f = 0; f < FIGURES; f++) {
            if (!isnan(figure[f].value))
                snprintf(number[f], sizeof number[f], "%.10g", figure[f].value);
            cell[DLB_REPORT_KEYS + f] = i < 0 ? figure[f].name : number[f];
        }
        cell[CELLS - 2] = i < 0 ? "verdict" : dlb_verdict_names[compared->verdict];
        cell[CELLS - 1] = i < 0 ? "reason" : compared->reason ? compared->reason : "";
        if (i < 0)
            memcpy(cell, dlb_report_key_names, sizeof dlb_report_key_names);
        status = dlb_csv_append(&buffer, cell, CELLS, error);
        if (!status)
            fwrite(buffer.data, 1, buffer.length, out);
        buffer.length = 0;
    }
    dlb_csv_buffer_release(&buffer);
    return status;
}

static enum dlb_status print_case_json(const struct dlb_gate_report *report,
                                       const struct dlb_compared *compared, FILE *out,
                                       struct dlb_error *error)
{
    const struct dlb_comparison *comparison = report->comparison;
    struct dlb_json json = {0};
    struct figure figure[FIGURES];
    const char *key[DLB_REPORT_KEYS];
    char threads[16];
    figures_of(comparison, compared, figure);
    dlb_report_key(&comparison->cases.item[compared->item].key, key, threads);
    dlb_json_begin_object(&json, NULL);
    for (int i = 0; i < DLB_REPORT_KEYS; i++)
        if (key[i] == threads)
            dlb_json_int(&json, dlb_report_key_names[i],
                         comparison->cases.item[compared->item].key.threads);
        else
            dlb_json_text(&json, dlb_report_key_names[i], key[i]);
    for (int i = 0; i < FIGURES; i++)
        dlb_json_real(&json, figure[i].name, figure[i].value);
    dlb_json_text(&json, "verdict", dlb_verdict_names[compared->verdict]);
    dlb_json_text(&json, "reason", compared->reason);
    dlb_json_end(&json);
    enum dlb_status status = dlb_json_print(&json, out, error);
    dlb_json_release(&json);
    return status;
}

/* The cases one by one, so that a million of them need no memory; the rest is one object
 * under "summary". */
static enum dlb_status print_json(const struct dlb_gate_report *report, FILE *out,
                                  struct dlb_error *error)
{
    const struct dlb_comparison *comparison = report->comparison;
    const struct dlb_gate_found *found = &comparison->found;
    struct dlb_json json = {0};
    char text[256];
    headline(report, text);
    dlb_json_begin_object(&json, NULL);
    dlb_json_text(&json, "kind", "gate");
    dlb_json_int(&json, "exit_status", report->exit_status);
    dlb_json_text(&json, "headline", text);
    dlb_json_real(&json, "threshold", report->threshold);
    dlb_json_int(&json, "confirm_rounds", report->confirmed);
    dlb_report_sides_json(&comparison->cases, report->differences, &json);
    dlb_json_begin_object(&json, "counts");
    for (int i = 0; i < DLB_VERDICTS; i++)
        dlb_json_int(&json, dlb_verdict_names[i], comparison->count[i]);
    dlb_json_end(&json);
    dlb_json_bool(&json, "environment_changed", found->environment);
    dlb_json_real(&json, "median_ratio", exp(found->others));
    dlb_json_real(&json, "onednn_median_ratio", exp(found->control));
    dlb_json_real(&json, "machine_ratio", exp(found->common));
    dlb_json_real(&json, "noise_of_a_run", sqrt(found->noise.variance));
    dlb_json_text(&json, "noise_source", noise_sources[found->noise.source]);
    dlb_json_end(&json);
    fprintf(out, "{\"summary\":\n");
    enum dlb_status status = dlb_json_print(&json, out, error);
    dlb_json_release(&json);
    fprintf(out, ",\"cases\": [\n");
    for (int i = 0; i < comparison->n && !status; i++) {
        if (i)
            fprintf(out, ",\n");
        status = print_case_json(report, &comparison->compared[i], out, error);
    }
    fprintf(out, "]}\n");
    return status;
}

enum dlb_status dlb_gate_print(const struct dlb_gate_report *report,
                               enum dlb_format format, FILE *out, struct dlb_error *error)
{
    switch (format) {
    case DLB_FORMAT_CSV:
        return print_csv(report, out, error);
    case DLB_FORMAT_JSON:
        return print_json(report, out, error);
    default:
        return print_people(report, format == DLB_FORMAT_MARKDOWN, out, error);
    }
}
