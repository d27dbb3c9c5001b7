#include "judge/report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const dlb_format_names[DLB_FORMATS] = {"text", "md", "csv", "json"};
const char *const dlb_report_key_names[DLB_REPORT_KEYS] = {
    "op",   "pass",       "dtype",   "accuracy",   "shape",
    "impl", "thread_set", "threads", "cache_state"};

enum { SHOWN_DIFFERENCE = 160 };

void dlb_report_key(const struct dlb_case_key *key, const char *text[DLB_REPORT_KEYS],
                    char threads[16])
{
    const char *const parts[DLB_REPORT_KEYS] = {
        key->op,   key->pass,       key->dtype, key->accuracy,   key->shape,
        key->impl, key->thread_set, threads,    key->cache_state};
    snprintf(threads, 16, "%d", key->threads);
    memcpy(text, parts, sizeof parts);
}

const char *dlb_report_time(double ns, char text[DLB_CELL_TEXT_MAX])
{
    static const struct {
        double from, unit;
        const char *name;
    } units[] = {{1e9, 1e9, "s"}, {1e6, 1e6, "ms"}, {1e3, 1e3, "us"}, {0, 1, "ns"}};
    int u = 0;
    if (isnan(ns))
        return "-";
    while (ns < units[u].from)
        u++;
    snprintf(text, DLB_CELL_TEXT_MAX, "%.4g %s", ns / units[u].unit, units[u].name);
    return text;
}

const char *dlb_report_number(double value, int decimals, char text[DLB_CELL_TEXT_MAX])
{
    if (isnan(value))
        return "-";
    snprintf(text, DLB_CELL_TEXT_MAX, "%.*f", decimals, value);
    return text;
}

static const char *side_names[DLB_SIDES] = {"BASE", "NEW"};

static void print_side(const struct dlb_cases *cases, int side, bool markdown, FILE *out)
{
    int runs = dlb_cases_runs(cases, side), shown = 0;
    fprintf(out, markdown ? "- **%s** " : "%-4s  ", side_names[side]);
    for (int i = 0; i < cases->files; i++) {
        const struct dlb_case_file *file = &cases->file[i];
        if (file->side != side)
            continue;
        const char *commit =
            file->manifest ? dlb_json_find_text(file->manifest, "facts.build.commit")
                           : NULL;
        fprintf(out, "%s%s", shown++ ? ", " : "", file->name);
        if (commit)
            fprintf(out, " (%.10s)", commit);
    }
    if (runs > 1)
        fprintf(out, ": %d runs", runs);
    fprintf(out, "\n");
}

static void print_text_cut(const char *text, FILE *out)
{
    size_t length = strlen(text), cut = SHOWN_DIFFERENCE;
    if (length <= SHOWN_DIFFERENCE) {
        fprintf(out, "%s", length ? text : "(nothing)");
        return;
    }
    while (cut && ((unsigned char)text[cut] & 0xC0) == 0x80)
        cut--;
    fprintf(out, "%.*s...", (int)cut, text);
}

void dlb_report_sides(const struct dlb_cases *cases,
                      const struct dlb_differences *differences, bool markdown, FILE *out)
{
    for (int side = 0; side < DLB_SIDES; side++)
        print_side(cases, side, markdown, out);
    for (int i = 0; i < cases->files; i++)
        if (!cases->file[i].manifest)
            fprintf(
                out,
                "%s%s has no manifest beside it: what differs in machine and build is "
                "not known\n",
                markdown ? "- " : "      ", cases->file[i].name);
    for (int i = 0; i < differences->n; i++) {
        const struct dlb_difference *difference = &differences->difference[i];
        fprintf(out, markdown ? "- %s: `" : "      %s: ", difference->key);
        print_text_cut(difference->text[DLB_BASE], out);
        fprintf(out, markdown ? "` -> `" : " -> ");
        print_text_cut(difference->text[DLB_NEW], out);
        fprintf(out, markdown ? "`\n" : "\n");
    }
    fprintf(out, "\n");
}

void dlb_report_sides_json(const struct dlb_cases *cases,
                           const struct dlb_differences *differences,
                           struct dlb_json *json)
{
    for (int side = 0; side < DLB_SIDES; side++) {
        dlb_json_begin_array(json, side ? "new" : "base");
        for (int i = 0; i < cases->runs; i++) {
            const struct dlb_case_run *run = &cases->run[i];
            const struct dlb_case_file *file = &cases->file[run->file];
            if (run->side != side)
                continue;
            dlb_json_begin_object(json, NULL);
            dlb_json_text(json, "path", file->name);
            dlb_json_text(json, "run_id", run->id);
            dlb_json_text(json, "commit",
                          file->manifest
                              ? dlb_json_find_text(file->manifest, "facts.build.commit")
                              : NULL);
            dlb_json_text(json, "machine_key",
                          file->manifest
                              ? dlb_json_find_text(file->manifest, "machine_key")
                              : NULL);
            dlb_json_bool(json, "whole", run->state == DLB_RUN_WHOLE);
            dlb_json_end(json);
        }
        dlb_json_end(json);
    }
    dlb_json_begin_array(json, "differences");
    for (int i = 0; i < differences->n; i++) {
        const struct dlb_difference *difference = &differences->difference[i];
        dlb_json_begin_object(json, NULL);
        dlb_json_text(json, "key", difference->key);
        dlb_json_text(json, "base", difference->text[DLB_BASE]);
        dlb_json_text(json, "new", difference->text[DLB_NEW]);
        dlb_json_end(json);
    }
    dlb_json_end(json);
}

void dlb_report_row(struct dlb_report_table *table, const char *const *cells, int columns)
{
    void *grown = realloc(table->row, (size_t)(table->rows + 1) * sizeof *table->row);
    if (!grown) {
        table->nomem = true;
        return;
    }
    table->row = grown;
    table->columns = columns;
    for (int i = 0; i < columns; i++) {
        table->row[table->rows][i] = strdup(cells[i]);
        table->nomem |= !table->row[table->rows][i];
    }
    table->rows++;
}

/* Characters, not bytes. */
static int width_of(const char *text)
{
    int width = 0;
    for (; *text; text++)
        width += ((unsigned char)*text & 0xC0) != 0x80;
    return width;
}

static void print_cell(const char *text, int width, bool left, bool last, FILE *out)
{
    int pad = width - width_of(text);
    if (!left)
        fprintf(out, "%*s", pad, "");
    fputs(text, out);
    if (left && !last)
        fprintf(out, "%*s", pad, "");
}

/* A cell must not end its column. */
static void print_markdown_cell(const char *text, FILE *out)
{
    fputc(' ', out);
    for (; *text; text++) {
        if (*text == '|')
            fputc('\\', out);
        fputc(*text == '\n' ? ' ' : *text, out);
    }
    fputs(" |", out);
}

void dlb_report_table_print(const struct dlb_report_table *table, bool markdown,
                            FILE *out)
{
    int width[DLB_REPORT_COLUMNS] = {0};
    bool left[DLB_REPORT_COLUMNS] = {false};
    if (!table->rows || table->nomem)
        return;
    for (int i = 0; i < table->rows; i++)
        for (int j = 0; j < table->columns; j++) {
            const char *text = table->row[i][j];
            left[j] |= i == 0 && *text == '<';
            width[j] = (int)dlb_max(width[j], width_of(text) - (i == 0 && *text == '<'));
        }
    for (int i = 0; i < table->rows; i++) {
        if (markdown)
            fputc('|', out);
        for (int j = 0; j < table->columns; j++) {
            const char *text = table->row[i][j];
            text += i == 0 && *text == '<';
            if (markdown)
                print_markdown_cell(text, out);
            else
                print_cell(text, width[j], left[j], j == table->columns - 1, out);
            if (!markdown && j < table->columns - 1)
                fputs("  ", out);
        }
        fputc('\n', out);
        if (!markdown || i)
            continue;
        fputc('|', out);
        for (int j = 0; j < table->columns; j++)
            fputs(left[j] ? "---|" : "--:|", out);
        fputc('\n', out);
    }
}

void dlb_report_table_release(struct dlb_report_table *table)
{
    for (int i = 0; i < table->rows; i++)
        for (int j = 0; j < table->columns; j++)
            free(table->row[i][j]);
    free(table->row);
    *table = (struct dlb_report_table){0};
}
