#include "judge/history.h"
#include "night_folders.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

static struct dlb_error error;
static uint64_t drawn;

static double normal(void)
{
    double sum = -6; /* twelve uniform numbers are near enough */
    for (int i = 0; i < 12; i++)
        sum += (double)(dlb_hash(5, drawn++) >> 11) / 9007199254740992.0;
    return sum;
}

/* What a night's cases take: those that exist then, by number. */
typedef double time_fn(int night, int number);

static void write_nights(const char *parent, const char *machine, int nights, int cases,
                         time_fn *time)
{
    mkdir(parent, 0777);
    for (int i = 0; i < nights; i++) {
        char folder[128], id[64], commit[64];
        snprintf(folder, sizeof folder, "%s/%s%03d", parent, machine, i);
        snprintf(id, sizeof id, "%s-%03d", machine, i);
        snprintf(commit, sizeof commit, "%04dabcdef0123456789", i / 2);
        struct night_folder night = {folder,  id,     night_folder_day(i),
                                     machine, commit, i == 7};
        FILE *results = night_folder_begin(&night);
        for (int j = 0; j < cases; j++) {
            char name[64];
            double ns = time(i, j);
            snprintf(name, sizeof name, "case%d", j);
            if (ns > 0)
                night_folder_row(results, &night, name, "ok", j ? "native" : "onednn",
                                 ns);
        }
        fclose(results);
    }
}

static struct dlb_history make(const char *path)
{
    struct dlb_history history;
    if (dlb_history_make(&path, 1, &history, &error))
        fail_msg("%s", error.text);
    return history;
}

static char *print(const struct dlb_history *history, const char *format)
{
    char *text;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    assert_int_equal(dlb_history_print(history, format, out, &error), DLB_OK);
    fclose(out);
    return text;
}

static void has(const char *text, const char *words)
{
    char copy[512], *rest = copy, *word;
    snprintf(copy, sizeof copy, "%s", words);
    while ((word = strsep(&rest, "|")))
        if (!strstr(text, word))
            fail_msg("no '%s' in:\n%s", word, text);
}

/* Case 2 is slower by 6 % from night 21 on and faster by 10 % from 40 on; case 3 exists
 * from night 52 on. */
static double one_case_moves(int night, int number)
{
    double ns = 1e6 * (number + 1) * exp(0.01 * normal());
    if (number == 2)
        ns *= night < 21 ? 1 : night < 40 ? 1.06 : 0.9 * 1.06;
    return number == 3 && night < 52 ? -1 : ns;
}

static void a_change_is_told(void **state)
{
    (void)state;
    write_nights("told", "m", 60, 5, one_case_moves);
    struct dlb_history history = make("told");
    assert_int_equal(history.changes_n, 2);
    const struct dlb_history_change *change = history.change;
    for (int i = 0; i < 2; i++) {
        assert_string_equal(history.set.series[change[i].series].text[DLB_SERIES_CASE_ID],
                            "case2");
        assert_false(change[i].machine_wide);
    }
    assert_int_equal(change[0].run, 21);
    assert_int_equal(change[0].run_before, 20);
    assert_int_equal(change[0].nights_before, 21);
    assert_int_equal(change[0].nights_after, 19);
    assert_true(fabs(change[0].ratio - 1.06) < 0.015);
    assert_true(fabs(change[0].before_ns / 3e6 - 1) < 0.01);
    assert_true(fabs(change[0].after_ns / 3.18e6 - 1) < 0.01);
    assert_int_equal(change[1].run, 40);
    assert_true(fabs(change[1].ratio - 0.9) < 0.015);
    for (int i = 0; i < history.set.series_n; i++)
        assert_true(history.noise[i] > 0.004 && history.noise[i] < 0.02);

    char *text = print(&history, "text");
    has(text,
        "60 nights, 2026-01-01 to 2026-03-01, 5 cases|m: 60 nights|2026-01-22  "
        "commit 0010abcdef, as the night before  (m-021)|% slower  2.9|% faster  3.1|"
        " ms, 21 nights before, 19 since  conv fwd f32 case2, native, threads cores|"
        "1 of 5 cases has fewer than 12 nights and cannot be judged yet; 4 more "
        "nights are needed.");
    assert_null(strstr(text, "machine before the code"));
    free(text);

    text = print(&history, "md");
    has(text, "| 2026-01-22 | none, still `0010abcdef` | conv/fwd/f32/exact/case2/native/"
              "cores/hot/threads:2 | +|% slower | 2.9| 21 + 19 |||2026-02-10 | "
              "`0019abcdef` to `0020abcdef`|1 of 5 cases has fewer");
    free(text);
    dlb_history_release(&history);
}

static void csv_and_json_hold_the_same(void **state)
{
    (void)state;
    struct dlb_history history = make("told");
    char *text = print(&history, "csv");
    has(text,
        "machine_key,case_id,op,pass,dtype,accuracy,shape,impl,thread_set,threads,"
        "cache_state,shape_name,started_utc,run_id,commit,dirty,before_run_id,|"
        "\nm,case2,conv,fwd,f32,exact,case2,native,cores,2,hot,,2026-01-22T02:00:00Z,"
        "m-021,0010abcdef0123456789,0,m-020,0010abcdef0123456789,0,21,19,29|,slower,"
        "0\n|,faster,0\n");
    int lines = 0;
    for (const char *at = text; *at; at++)
        lines += *at == '\n';
    assert_int_equal(lines, 3);
    free(text);

    text = print(&history, "json");
    cJSON *root = cJSON_ParseWithOpts(text, NULL, true);
    assert_non_null(root);
    const cJSON *changes = cJSON_GetObjectItem(root, "changes");
    const cJSON *first = cJSON_GetArrayItem(changes, 0);
    const cJSON *series = cJSON_GetObjectItem(root, "series");
    assert_int_equal(cJSON_GetArraySize(changes), 2);
    assert_string_equal(cJSON_GetObjectItem(first, "case_id")->valuestring, "case2");
    assert_string_equal(cJSON_GetObjectItem(first, "direction")->valuestring, "slower");
    assert_string_equal(
        cJSON_GetObjectItem(cJSON_GetObjectItem(first, "night"), "run_id")->valuestring,
        "m-021");
    assert_string_equal(
        cJSON_GetObjectItem(cJSON_GetObjectItem(first, "night_before"), "commit")
            ->valuestring,
        "0010abcdef0123456789");
    assert_true(cJSON_GetObjectItem(first, "ratio")->valuedouble ==
                history.change[0].ratio);
    assert_int_equal(cJSON_GetArraySize(series), 5);
    const cJSON *last = cJSON_GetArrayItem(series, 4);
    assert_string_equal(cJSON_GetObjectItem(last, "case_id")->valuestring, "case3");
    assert_int_equal(cJSON_GetObjectItem(last, "nights")->valueint, 8);
    assert_int_equal(cJSON_GetObjectItem(last, "nights_needed")->valueint, 4);
    cJSON_Delete(root);
    free(text);
    dlb_history_release(&history);
}

/* All but two of six cases are slower by 8 % from night 15 on, one of them a night late. */
static double the_machine_moves(int night, int number)
{
    double ns = 1e3 * (number + 1) * exp(0.005 * normal());
    return number < 4 && night >= 15 + (number == 1) ? 1.08 * ns : ns;
}

static void the_machine_is_told_from_the_code(void **state)
{
    (void)state;
    write_nights("wide", "m", 30, 6, the_machine_moves);
    struct dlb_history history = make("wide");
    assert_int_equal(history.changes_n, 4);
    for (int i = 0; i < 4; i++)
        assert_true(history.change[i].machine_wide);
    char *text = print(&history, "text");
    has(text, "3 of them listed: look at the machine before the code|1 of them listed");
    free(text);
    text = print(&history, "md");
    has(text, "slower, as most cases |");
    free(text);
    dlb_history_release(&history);
}

static double quiet(int night, int number)
{
    (void)night;
    return 100 * (number + 1) * exp(0.02 * normal());
}

static double other_level(int night, int number)
{
    return 3 * quiet(night, number);
}

/* Mixed, the two machines' nights would be nothing but change. */
static void machines_have_their_own_history(void **state)
{
    (void)state;
    write_nights("both", "laptop", 20, 3, quiet);
    write_nights("both", "server", 20, 3, other_level);
    struct dlb_history history = make("both");
    assert_int_equal(history.set.machines_n, 2);
    assert_int_equal(history.set.series_n, 6);
    assert_int_equal(history.changes_n, 0);
    char *text = print(&history, "text");
    has(text,
        "40 nights of 2 machines|laptop: 20 nights|server: 20 nights|No change of 3 "
        "% or more.");
    free(text);
    dlb_history_release(&history);
}

static void short_histories_say_what_is_missing(void **state)
{
    (void)state;
    write_nights("short", "m", 11, 2, quiet);
    struct dlb_history history = make("short");
    assert_int_equal(history.changes_n, 0);
    char *text = print(&history, "text");
    has(text,
        "No case can be judged yet: a change needs 6 nights before and 6 after it; 1 "
        "more night is needed.");
    free(text);
    text = print(&history, "md");
    has(text, "1 more night is needed.");
    free(text);
    text = print(&history, "csv");
    assert_string_equal(strchr(text, '\n'), "\n");
    free(text);
    dlb_history_release(&history);

    struct night_folder night = {"noisy", "x", night_folder_day(1), "m|n", "", false};
    FILE *results = night_folder_begin(&night);
    night_folder_row(results, &night, "a", "noisy", "native", 5);
    fclose(results);
    history = make("noisy");
    text = print(&history, "text");
    has(text, "1 night, 2026-01-02 to 2026-01-02, 0 cases|None of its rows is ok");
    free(text);
    text = print(&history, "md");
    has(text, "**m\\||n**"); /* a bar would end the cell */
    free(text);
    dlb_history_release(&history);

    const char *nowhere = "nowhere";
    assert_int_equal(dlb_history_make(&nowhere, 1, &history, &error), DLB_IO);
    dlb_history_release(&history);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_change_is_told),
        cmocka_unit_test(csv_and_json_hold_the_same),
        cmocka_unit_test(the_machine_is_told_from_the_code),
        cmocka_unit_test(machines_have_their_own_history),
        cmocka_unit_test(short_histories_say_what_is_missing),
    };
    return cmocka_run_group_tests(tests, night_folders_enter, night_folders_leave);
}
