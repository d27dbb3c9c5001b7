#include "judge/history.h"

#include "record/csv.h"
#include "record/json.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { COMMIT_SHOWN = 10, DATE_SHOWN = 10, TIME_TEXT = 16, COMMIT_TEXT = 16 };

static const struct dlb_series_run *run_at(const struct dlb_history *history, int run)
{
    return &history->set.run[run];
}

static int machine_of(const struct dlb_history *history,
                      const struct dlb_history_change *change)
{
    return history->set.series[change->series].machine;
}

static const char *format_time(double ns, char text[TIME_TEXT])
{
    static const struct {
        double ns;
        const char *name;
    } units[] = {{1e9, "s"}, {1e6, "ms"}, {1e3, "µs"}, {1, "ns"}};
    int i = 0;
    while (i < 3 && ns < units[i].ns)
        i++;
    snprintf(text, TIME_TEXT, "%.4g %s", ns / units[i].ns, units[i].name);
    return text;
}

/* The beginning of the commit, and + for sources that differ from it. */
static const char *format_commit(const struct dlb_series_run *run, char text[COMMIT_TEXT])
{
    snprintf(text, COMMIT_TEXT, "%.*s%s", COMMIT_SHOWN,
             *run->commit ? run->commit : "unknown", run->dirty ? "+" : "");
    return text;
}

static bool same_sources(const struct dlb_series_run *a, const struct dlb_series_run *b)
{
    return *a->commit && !strcmp(a->commit, b->commit) && !a->dirty && !b->dirty;
}

static double percent(const struct dlb_history_change *change)
{
    return 100 * (change->ratio - 1);
}

static const char *direction(const struct dlb_history_change *change)
{
    return change->ratio > 1 ? "slower" : "faster";
}

static const char *plural(int n)
{
    return n == 1 ? "" : "s";
}

static int nights_needed(const struct dlb_series *series)
{
    return (int)dlb_max(0, DLB_POTTS_VALUES_MIN - series->points_n);
}

/* How many series of the machine there are, how many are short, and how many nights the
 * longest of these still needs. */
static void count_series(const struct dlb_series_set *set, int machine, int *all,
                         int *short_n, int *needed)
{
    *all = *short_n = 0;
    *needed = DLB_POTTS_VALUES_MIN;
    for (int i = 0; i < set->series_n; i++) {
        if (set->series[i].machine != machine)
            continue;
        int missing = nights_needed(&set->series[i]);
        ++*all;
        *short_n += missing > 0;
        if (missing)
            *needed = (int)dlb_min(*needed, missing);
    }
}

static const char *machine_name(const struct dlb_series_machine *machine)
{
    return *machine->key ? machine->key : "a machine that no manifest names";
}

/* What cannot be told yet, as one sentence; nothing when all can be. */
static void print_short(const struct dlb_series_set *set, int machine, const char *before,
                        FILE *out)
{
    int all, short_n, needed;
    count_series(set, machine, &all, &short_n, &needed);
    if (!all)
        fprintf(out, "%sNone of its rows is ok and has a time.\n", before);
    else if (short_n == all)
        fprintf(out,
                "%sNo case can be judged yet: a change needs %d nights before and %d "
                "after it; %d more night%s needed.\n",
                before, DLB_POTTS_SEGMENT_MIN, DLB_POTTS_SEGMENT_MIN, needed,
                needed == 1 ? " is" : "s are");
    else if (short_n)
        fprintf(out,
                "%s%d of %d cases ha%s fewer than %d nights and cannot be judged yet; %d "
                "more night%s needed.\n",
                before, short_n, all, short_n == 1 ? "s" : "ve", DLB_POTTS_VALUES_MIN,
                needed, needed == 1 ? " is" : "s are");
}

static void print_head(const struct dlb_series_set *set, FILE *out)
{
    fprintf(out, "%d night%s", set->runs_n, plural(set->runs_n));
    if (set->machines_n > 1)
        fprintf(out, " of %d machines", set->machines_n);
    fprintf(out, ", %.*s to %.*s, %d case%s", DATE_SHOWN, set->run[0].started, DATE_SHOWN,
            set->run[set->runs_n - 1].started, set->series_n, plural(set->series_n));
    if (set->repeated_n)
        fprintf(out, "; %d run%s named more than once and count%s once", set->repeated_n,
                set->repeated_n == 1 ? " was" : "s were",
                set->repeated_n == 1 ? "s" : "");
}

/* True when change is the first of its machine and night. */
static bool begins_night(const struct dlb_history *history,
                         const struct dlb_history_change *change)
{
    return change == history->change || change[-1].run != change->run;
}

static int machine_wide_from(const struct dlb_history *history,
                             const struct dlb_history_change *change)
{
    int n = 0;
    for (const struct dlb_history_change *at = change;
         at < history->change + history->changes_n && at->run == change->run; at++)
        n += at->machine_wide;
    return n;
}

static void print_night(const struct dlb_history *history,
                        const struct dlb_history_change *change, FILE *out)
{
    const struct dlb_series_run *run = run_at(history, change->run);
    const struct dlb_series_run *before = run_at(history, change->run_before);
    char now[COMMIT_TEXT], then[COMMIT_TEXT];
    int wide = machine_wide_from(history, change);
    fprintf(out, "  %.*s  commit %s, ", DATE_SHOWN, run->started,
            format_commit(run, now));
    if (same_sources(run, before))
        fputs("as the night before", out);
    else
        fprintf(out, "the night before %s", format_commit(before, then));
    fprintf(out, "  (%s)\n", run->id);
    if (wide)
        fprintf(out,
                "    Most cases change together here, %d of them listed: look at the "
                "machine before the code.\n",
                wide);
}

static void print_case(const struct dlb_history *history,
                       const struct dlb_history_change *change, FILE *out)
{
    char *const *text = history->set.series[change->series].text;
    char before[TIME_TEXT], after[TIME_TEXT];
    fprintf(out, "    %+6.1f%% %s  %s -> %s, %d nights before, %d since  %s %s %s %s",
            percent(change), direction(change), format_time(change->before_ns, before),
            format_time(change->after_ns, after), change->nights_before,
            change->nights_after, text[DLB_SERIES_OP], text[DLB_SERIES_PASS],
            text[DLB_SERIES_DTYPE], text[DLB_SERIES_SHAPE]);
    if (*text[DLB_SERIES_SHAPE_NAME])
        fprintf(out, " (%s)", text[DLB_SERIES_SHAPE_NAME]);
    fprintf(out, ", %s, threads %s", text[DLB_SERIES_IMPL], text[DLB_SERIES_THREAD_SET]);
    if (strcmp(text[DLB_SERIES_CACHE_STATE], "hot"))
        fprintf(out, ", cache %s", text[DLB_SERIES_CACHE_STATE]);
    if (*text[DLB_SERIES_ACCURACY] && strcmp(text[DLB_SERIES_ACCURACY], "exact"))
        fprintf(out, ", %s", text[DLB_SERIES_ACCURACY]);
    fputc('\n', out);
}

static void print_text(const struct dlb_history *history, FILE *out)
{
    const struct dlb_series_set *set = &history->set;
    print_head(set, out);
    fputs("\n", out);
    for (int m = 0; m < set->machines_n; m++) {
        int found = 0;
        fprintf(out, "\n%s: %d night%s\n", machine_name(&set->machine[m]),
                set->machine[m].runs_n, plural(set->machine[m].runs_n));
        for (int i = 0; i < history->changes_n; i++) {
            const struct dlb_history_change *change = &history->change[i];
            if (machine_of(history, change) != m)
                continue;
            if (begins_night(history, change))
                print_night(history, change, out);
            print_case(history, change, out);
            found++;
        }
        int all, short_n, needed;
        count_series(set, m, &all, &short_n, &needed);
        if (!found && short_n < all)
            fputs("  No change of 3 % or more.\n", out);
        print_short(set, m, "  ", out);
    }
}

/* A text in a cell of a table. */
static void print_cell(const char *text, FILE *out)
{
    for (; *text; text++)
        fprintf(out, "%s%c", *text == '|' ? "\\" : "", *text == '\n' ? ' ' : *text);
}

static void print_md_change(const struct dlb_history *history,
                            const struct dlb_history_change *change, FILE *out)
{
    const struct dlb_series_run *run = run_at(history, change->run);
    const struct dlb_series_run *before = run_at(history, change->run_before);
    char text[TIME_TEXT], now[COMMIT_TEXT], then[COMMIT_TEXT];
    fprintf(out, "| %.*s | ", DATE_SHOWN, run->started);
    if (same_sources(run, before))
        fprintf(out, "none, still `%s`", format_commit(run, now));
    else
        fprintf(out, "`%s` to `%s`", format_commit(before, then),
                format_commit(run, now));
    fputs(" | ", out);
    print_cell(history->set.series[change->series].name, out);
    fprintf(out, " | %+.1f%% %s%s | %s |", percent(change), direction(change),
            change->machine_wide ? ", as most cases" : "",
            format_time(change->before_ns, text));
    fprintf(out, " %s | %d + %d |\n", format_time(change->after_ns, text),
            change->nights_before, change->nights_after);
}

static void print_md(const struct dlb_history *history, FILE *out)
{
    const struct dlb_series_set *set = &history->set;
    fputs("### History\n\n", out);
    print_head(set, out);
    fputs(".\n", out);
    for (int m = 0; m < set->machines_n; m++) {
        int found = 0, all, short_n, needed;
        fputs("\n**", out);
        print_cell(machine_name(&set->machine[m]), out);
        fprintf(out, "**, %d night%s\n\n", set->machine[m].runs_n,
                plural(set->machine[m].runs_n));
        for (int i = 0; i < history->changes_n; i++) {
            if (machine_of(history, &history->change[i]) != m)
                continue;
            if (!found++)
                fputs("| night | commits | case | change | before | after | nights |\n"
                      "|---|---|---|---|---|---|---|\n",
                      out);
            print_md_change(history, &history->change[i], out);
        }
        count_series(set, m, &all, &short_n, &needed);
        if (!found && short_n < all)
            fputs("No change of 3 % or more.\n", out);
        print_short(set, m, short_n < all ? "\n" : "", out);
    }
}

/* The columns of the CSV form behind machine_key and the texts of the case. */
static const char *const csv_columns[] = {
    "started_utc",   "run_id",       "commit",        "dirty",        "before_run_id",
    "before_commit", "before_dirty", "nights_before", "nights_after", "before_ns",
    "after_ns",      "ratio",        "direction",     "machine_wide"};
enum {
    CSV_COLUMNS = sizeof csv_columns / sizeof *csv_columns,
    CSV_CELLS = 1 + DLB_SERIES_TEXTS + CSV_COLUMNS
};

static enum dlb_status append_csv(const struct dlb_history *history,
                                  const struct dlb_history_change *change,
                                  struct dlb_csv_buffer *buffer, struct dlb_error *error)
{
    const struct dlb_series *series = &history->set.series[change->series];
    const struct dlb_series_run *run = run_at(history, change->run);
    const struct dlb_series_run *before = run_at(history, change->run_before);
    char number[5][DLB_NUMBER_TEXT];
    const char *cell[CSV_CELLS] = {history->set.machine[series->machine].key};
    for (int i = 0; i < DLB_SERIES_TEXTS; i++)
        cell[1 + i] = series->text[i];
    snprintf(number[0], DLB_NUMBER_TEXT, "%d", change->nights_before);
    snprintf(number[1], DLB_NUMBER_TEXT, "%d", change->nights_after);
    snprintf(number[2], DLB_NUMBER_TEXT, "%.10g", change->before_ns);
    snprintf(number[3], DLB_NUMBER_TEXT, "%.10g", change->after_ns);
    snprintf(number[4], DLB_NUMBER_TEXT, "%.10g", change->ratio);
    const char *const rest[CSV_COLUMNS] = {run->started,
                                           run->id,
                                           run->commit,
                                           run->dirty ? "1" : "0",
                                           before->id,
                                           before->commit,
                                           before->dirty ? "1" : "0",
                                           number[0],
                                           number[1],
                                           number[2],
                                           number[3],
                                           number[4],
                                           direction(change),
                                           change->machine_wide ? "1" : "0"};
    memcpy(cell + 1 + DLB_SERIES_TEXTS, rest, sizeof rest);
    return dlb_csv_append(buffer, cell, CSV_CELLS, error);
}

static enum dlb_status print_csv(const struct dlb_history *history, FILE *out,
                                 struct dlb_error *error)
{
    struct dlb_csv_buffer buffer = {0};
    const char *name[CSV_CELLS] = {"machine_key"};
    for (int i = 0; i < DLB_SERIES_TEXTS; i++)
        name[1 + i] = dlb_columns[dlb_series_columns[i]].name;
    memcpy(name + 1 + DLB_SERIES_TEXTS, csv_columns, sizeof csv_columns);
    enum dlb_status status = dlb_csv_append(&buffer, name, CSV_CELLS, error);
    for (int i = 0; i < history->changes_n && !status; i++)
        status = append_csv(history, &history->change[i], &buffer, error);
    if (!status)
        fwrite(buffer.data, 1, buffer.length, out);
    dlb_csv_buffer_release(&buffer);
    return status;
}

static void put_case(struct dlb_json *json, const struct dlb_history *history, int index)
{
    const struct dlb_series *series = &history->set.series[index];
    dlb_json_text(json, "machine_key", history->set.machine[series->machine].key);
    for (int i = 0; i < DLB_SERIES_TEXTS; i++) {
        const char *key = dlb_columns[dlb_series_columns[i]].name;
        if (dlb_columns[dlb_series_columns[i]].type == DLB_CELL_INT)
            dlb_json_int(json, key, strtoll(series->text[i], NULL, 10));
        else
            dlb_json_text(json, key, series->text[i]);
    }
}

static void put_run(struct dlb_json *json, const char *key,
                    const struct dlb_series_run *run)
{
    dlb_json_begin_object(json, key);
    dlb_json_text(json, "started_utc", run->started);
    dlb_json_text(json, "run_id", run->id);
    dlb_json_text(json, "commit", *run->commit ? run->commit : NULL);
    dlb_json_bool(json, "dirty", run->dirty);
    dlb_json_end(json);
}

static void put_change(struct dlb_json *json, const struct dlb_history *history,
                       const struct dlb_history_change *change)
{
    dlb_json_begin_object(json, NULL);
    put_case(json, history, change->series);
    put_run(json, "night", run_at(history, change->run));
    put_run(json, "night_before", run_at(history, change->run_before));
    dlb_json_int(json, "nights_before", change->nights_before);
    dlb_json_int(json, "nights_after", change->nights_after);
    dlb_json_real(json, "before_ns", change->before_ns);
    dlb_json_real(json, "after_ns", change->after_ns);
    dlb_json_real(json, "ratio", change->ratio);
    dlb_json_text(json, "direction", direction(change));
    dlb_json_bool(json, "machine_wide", change->machine_wide);
    dlb_json_end(json);
}

static enum dlb_status print_json(const struct dlb_history *history, FILE *out,
                                  struct dlb_error *error)
{
    const struct dlb_series_set *set = &history->set;
    struct dlb_json json = {0};
    dlb_json_begin_object(&json, NULL);
    dlb_json_int(&json, "schema_version", 1);
    dlb_json_begin_array(&json, "machines");
    for (int i = 0; i < set->machines_n; i++) {
        dlb_json_begin_object(&json, NULL);
        dlb_json_text(&json, "machine_key", set->machine[i].key);
        dlb_json_int(&json, "nights", set->machine[i].runs_n);
        dlb_json_end(&json);
    }
    dlb_json_end(&json);
    dlb_json_begin_array(&json, "series");
    for (int i = 0; i < set->series_n; i++) {
        dlb_json_begin_object(&json, NULL);
        put_case(&json, history, i);
        dlb_json_int(&json, "nights", set->series[i].points_n);
        dlb_json_int(&json, "nights_needed", nights_needed(&set->series[i]));
        dlb_json_real(&json, "noise", history->noise[i]);
        dlb_json_end(&json);
    }
    dlb_json_end(&json);
    dlb_json_begin_array(&json, "changes");
    for (int i = 0; i < history->changes_n; i++)
        put_change(&json, history, &history->change[i]);
    dlb_json_end(&json);
    dlb_json_end(&json);
    enum dlb_status status = dlb_json_print(&json, out, error);
    dlb_json_release(&json);
    return status;
}

enum dlb_status dlb_history_print(const struct dlb_history *history, const char *format,
                                  FILE *out, struct dlb_error *error)
{
    if (!strcmp(format, "csv"))
        return print_csv(history, out, error);
    if (!strcmp(format, "json"))
        return print_json(history, out, error);
    assert(!strcmp(format, "text") || !strcmp(format, "md"));
    (*format == 'm' ? print_md : print_text)(history, out);
    return DLB_OK;
}
