#include "record/export.h"
#include "record/manifest.h"
#include "record/run.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char base[64];

static int make_base(void **state)
{
    (void)state;
    strcpy(base, "/tmp/dlb_test_export_XXXXXX");
    return !mkdtemp(base) || chdir(base);
}

static int remove_base(void **state)
{
    (void)state;
    static const char *const files[] = {
        "run/results.csv", "run/trials.csv", "run/samples.csv", "run/manifest.json",
        "bad/results.csv", "bad/trials.csv", "bad/samples.csv", "gbench.json",
        "action.json",     "median.json",    "bmf.json",        "otava.csv",
        "otava.yaml",
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        unlink(files[i]);
    return rmdir("run") || rmdir("bad") || chdir("/") || rmdir(base);
}

static cJSON *parse(const char *path)
{
    FILE *stream = fopen(path, "rb");
    assert_non_null(stream);
    char *text = calloc(1 << 20, 1);
    assert_true(fread(text, 1, (1 << 20) - 1, stream) > 0);
    fclose(stream);
    cJSON *root = cJSON_ParseWithOpts(text, NULL, true);
    free(text);
    assert_non_null(root);
    return root;
}

static const char *text_at(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!cJSON_IsString(item))
        fail_msg("%s is no text", key);
    return item->valuestring;
}

static double real_at(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!cJSON_IsNumber(item))
        fail_msg("%s is no number", key);
    return item->valuedouble;
}

static void append(struct dlb_run *run, const char *impl, const char *status, double ns,
                   int samples)
{
    struct dlb_row row = {0};
    struct dlb_sample sample[8];
    dlb_row_text(&row, DLB_COL_STATUS, status);
    dlb_row_text(&row, DLB_COL_OP, "conv");
    dlb_row_text(&row, DLB_COL_PASS, "fwd");
    dlb_row_text(&row, DLB_COL_DTYPE, "f32");
    dlb_row_text(&row, DLB_COL_SHAPE, "mb1ic64");
    dlb_row_text(&row, DLB_COL_IMPL, impl);
    dlb_row_text(&row, DLB_COL_ALGORITHM, "=direct");
    dlb_row_text(&row, DLB_COL_THREAD_SET, "cores");
    dlb_row_int(&row, DLB_COL_THREADS, 2);
    dlb_row_text(&row, DLB_COL_CACHE_STATE, "hot");
    dlb_row_int(&row, DLB_COL_INNER_REPS, 5);
    dlb_row_real(&row, DLB_COL_TIME_MEDIAN_NS, ns);
    dlb_row_real(&row, DLB_COL_TIME_CI_LO_NS, ns - 1);
    dlb_row_real(&row, DLB_COL_TIME_CI_HI_NS, ns + 2);
    dlb_row_real(&row, DLB_COL_FLOPS, 1e6);
    for (int i = 0; i < samples; i++)
        sample[i] = (struct dlb_sample){.ns = ns + i, .contaminated = i == 1};
    assert_int_equal(dlb_run_samples(run, dlb_run_next_seq(run), sample, samples, NULL),
                     DLB_OK);
    assert_int_equal(dlb_run_append(run, &row, NULL), DLB_OK);
    dlb_row_release(&row);
}

static enum dlb_status write_export(const char *spec, const char *run,
                                    struct dlb_error *error)
{
    return dlb_export_write(spec, &run, 1, error);
}

static void make_run(void)
{
    struct dlb_run *run;
    struct dlb_fact facts[] = {
        {.section = "power", .key = "governor", .text = "powersave"},
        {.section = "power", .key = "frequency_max_khz", .text = "3400000"},
        {.section = "cpu", .key = "l1d_bytes", .text = "49152"},
        {.section = "cpu", .key = "l3_bytes", .text = "33554432"},
        {.section = "cpu", .key = "l3_shared_by", .text = "16"},
    };
    struct dlb_manifest manifest = {.state = "finished",
                                    .machine_key = "key",
                                    .facts = facts,
                                    .facts_n = sizeof facts / sizeof *facts};
    assert_int_equal(dlb_run_create(NULL, "run", "x", &run, NULL), DLB_OK);
    append(run, "native", "ok", 90, 2); /* the case comes again, and that counts */
    append(run, "native", "ok", 100, 4);
    append(run, "native", "mismatch", 50, 4);
    append(run, "onednn", "ok", 200, 0);
    assert_int_equal(dlb_run_manifest(run, &manifest, NULL), DLB_OK);
    dlb_run_close(run);
}

static void gbench_has_a_row_per_repetition(void **state)
{
    (void)state;
    struct dlb_error error = {0};
    make_run();
    assert_int_equal(write_export("gbench=gbench.json", "run", &error), DLB_OK);
    cJSON *root = parse("gbench.json");
    const cJSON *context = cJSON_GetObjectItem(root, "context");
    assert_int_equal(strlen(text_at(context, "date")), 25);
    assert_true(*text_at(context, "host_name"));
    assert_string_equal(text_at(context, "executable"), "dlbench");
    assert_true(real_at(context, "num_cpus") >= 1);
    assert_true(real_at(context, "mhz_per_cpu") == 3400);
    assert_true(cJSON_IsTrue(cJSON_GetObjectItem(context, "cpu_scaling_enabled")));
    const cJSON *caches = cJSON_GetObjectItem(context, "caches");
    assert_int_equal(cJSON_GetArraySize(caches), 2);
    const cJSON *last = cJSON_GetArrayItem(caches, 1);
    assert_string_equal(text_at(last, "type"), "Unified");
    assert_true(real_at(last, "level") == 3);
    assert_true(real_at(last, "size") == 33554432);
    assert_true(real_at(last, "num_sharing") == 16);
    assert_true(cJSON_IsArray(cJSON_GetObjectItem(context, "load_avg")));
    assert_string_equal(text_at(context, "library_build_type"), "release");
    assert_true(real_at(context, "json_schema_version") == 1);

    const cJSON *benchmarks = cJSON_GetObjectItem(root, "benchmarks");
    assert_int_equal(cJSON_GetArraySize(benchmarks), 4);
    const double time[] = {100, 102, 103, 200};
    for (int i = 0; i < 4; i++) {
        const cJSON *entry = cJSON_GetArrayItem(benchmarks, i);
        assert_string_equal(text_at(entry, "name"),
                            i < 3 ? "conv/fwd/f32/mb1ic64/native/cores/hot/threads:2"
                                  : "conv/fwd/f32/mb1ic64/onednn/cores/hot/threads:2");
        assert_string_equal(text_at(entry, "run_name"), text_at(entry, "name"));
        assert_string_equal(text_at(entry, "run_type"), "iteration");
        assert_true(real_at(entry, "repetitions") == (i < 3 ? 3 : 1));
        assert_true(real_at(entry, "repetition_index") == (i < 3 ? i : 0));
        assert_true(real_at(entry, "threads") == 2);
        assert_true(real_at(entry, "iterations") == 5);
        assert_true(real_at(entry, "real_time") == time[i]);
        assert_true(real_at(entry, "cpu_time") == time[i]);
        assert_string_equal(text_at(entry, "time_unit"), "ns");
        assert_true(fabs(real_at(entry, "gflops") - 1e6 / time[i]) < 1e-6);
        assert_string_equal(text_at(entry, "label"), "=direct");
        assert_null(cJSON_GetObjectItem(entry, "bytes_per_second"));
    }
    cJSON_Delete(root);
}

static void action_has_a_row_per_case(void **state)
{
    (void)state;
    struct dlb_error error = {0};
    assert_int_equal(write_export("action=action.json", "run", &error), DLB_OK);
    cJSON *root = parse("action.json");
    assert_int_equal(cJSON_GetArraySize(root), 2);
    const cJSON *entry = cJSON_GetArrayItem(root, 0);
    assert_string_equal(text_at(entry, "name"),
                        "conv/fwd/f32/mb1ic64/native/cores/hot/threads:2");
    assert_string_equal(text_at(entry, "unit"), "ns");
    assert_true(real_at(entry, "value") == 100);
    assert_string_equal(text_at(entry, "range"), "± 1.5");
    assert_string_equal(text_at(entry, "extra"), "algorithm: =direct");
    cJSON_Delete(root);
}

/* One entry a row, for what plots every entry. */
static void gbench_median_has_a_row_per_case(void **state)
{
    (void)state;
    struct dlb_error error = {0};
    assert_int_equal(write_export("gbench-median=median.json", "run", &error), DLB_OK);
    cJSON *root = parse("median.json");
    assert_string_equal(text_at(cJSON_GetObjectItem(root, "context"), "executable"),
                        "dlbench");
    const cJSON *benchmarks = cJSON_GetObjectItem(root, "benchmarks");
    assert_int_equal(cJSON_GetArraySize(benchmarks), 2);
    for (int i = 0; i < 2; i++) {
        const cJSON *entry = cJSON_GetArrayItem(benchmarks, i);
        assert_string_equal(text_at(entry, "run_type"), "iteration");
        assert_true(real_at(entry, "repetitions") == 1);
        assert_true(real_at(entry, "repetition_index") == 0);
        assert_true(real_at(entry, "real_time") == (i ? 200 : 100));
        assert_true(real_at(entry, "family_index") == i);
    }
    cJSON_Delete(root);
}

static void bmf_has_a_latency_per_case(void **state)
{
    (void)state;
    struct dlb_error error = {0};
    assert_int_equal(write_export("bmf=bmf.json", "run/results.csv", &error), DLB_OK);
    cJSON *root = parse("bmf.json");
    assert_int_equal(cJSON_GetArraySize(root), 2);
    const cJSON *entry = cJSON_GetObjectItemCaseSensitive(
        root, "conv/fwd/f32/mb1ic64/native/cores/hot/threads:2");
    const cJSON *latency = cJSON_GetObjectItem(entry, "latency");
    assert_int_equal(cJSON_GetArraySize(entry), 1);
    assert_true(real_at(latency, "value") == 100);
    assert_true(real_at(latency, "lower_value") == 99);
    assert_true(real_at(latency, "upper_value") == 102);
    cJSON_Delete(root);
}

static void otava_takes_many_runs_and_the_others_one(void **state)
{
    (void)state;
    struct dlb_error error = {0};
    const char *const twice[] = {"run", "run"};
    assert_int_equal(dlb_export_write("otava=otava.csv", twice, 2, &error), DLB_OK);
    assert_int_equal(access("otava.yaml", F_OK), 0);
    assert_int_equal(dlb_export_write("bmf=bmf.json", twice, 2, &error), DLB_INVALID);
    assert_non_null(strstr(error.text, "\"bmf\" holds one run, and 2 are named"));
}

static void is_refused(const char *spec, const char *folder, enum dlb_status status,
                       const char *why)
{
    struct dlb_error error = {0};
    assert_int_equal(write_export(spec, folder, &error), status);
    if (!strstr(error.text, why))
        fail_msg("\"%s\" is not in: %s", why, error.text);
}

static void bad_requests_are_refused(void **state)
{
    (void)state;
    struct dlb_error error = {0};
    assert_int_equal(dlb_export_check("gbench=x", &error), DLB_OK);
    assert_int_equal(dlb_export_check("action=a=b", &error), DLB_OK);
    static const char *const specs[] = {"bfm=x", "gbench",  "gbench=",  "=x",
                                        "",      "gbenc=x", "gbench-=x"};
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        assert_int_equal(dlb_export_check(specs[i], &error), DLB_INVALID);
        assert_non_null(
            strstr(error.text, "gbench, gbench-median, action, bmf or otava"));
    }
    struct dlb_run *run;
    assert_int_equal(dlb_run_create(NULL, "bad", "x", &run, NULL), DLB_OK);
    append(run, "native", "noisy", 10, 2);
    dlb_run_close(run);
    is_refused("hunter=x", "run", DLB_INVALID, "\"hunter\"");
    is_refused("otava=x", "bad", DLB_INVALID, "bad has no row to export");
    is_refused("gbench=/nowhere/x.json", "run", DLB_IO, "/nowhere/x.json");
    is_refused("gbench=gbench.json", "nowhere", DLB_IO, "nowhere");

    is_refused("gbench=none.json", "bad", DLB_INVALID, "none of its 1 rows");
    FILE *stream = fopen("bad/samples.csv", "ab");
    fputs("r,1,x,5,0\n", stream);
    fclose(stream);
    is_refused("gbench=none.json", "bad", DLB_INVALID, "\"sample_idx\"");
    assert_int_equal(access("none.json", F_OK), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gbench_has_a_row_per_repetition),
        cmocka_unit_test(gbench_median_has_a_row_per_case),
        cmocka_unit_test(action_has_a_row_per_case),
        cmocka_unit_test(bmf_has_a_latency_per_case),
        cmocka_unit_test(otava_takes_many_runs_and_the_others_one),
        cmocka_unit_test(bad_requests_are_refused),
    };
    return cmocka_run_group_tests(tests, make_base, remove_base);
}
