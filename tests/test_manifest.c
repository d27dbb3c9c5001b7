#include "record/json.h"
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
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char base[64];
static char folder[128];

static int make_base(void **state)
{
    (void)state;
    strcpy(base, "/tmp/dlb_test_manifest_XXXXXX");
    if (!mkdtemp(base) || chdir(base))
        return -1;
    snprintf(folder, sizeof folder, "%s/run", base);
    return 0;
}

static int remove_base(void **state)
{
    (void)state;
    static const char *const files[] = {"results.csv", "trials.csv", "samples.csv",
                                        "manifest.json"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[256];
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        unlink(path);
    }
    return rmdir(folder) || chdir("/") || rmdir(base);
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
    assert_true(cJSON_IsString(item));
    return item->valuestring;
}

static double real_at(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    assert_true(cJSON_IsNumber(item));
    return item->valuedouble;
}

static bool is_null(const cJSON *object, const char *key)
{
    return cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(object, key));
}

static void manifest_comes_back(void **state)
{
    (void)state;
    char *argv[] = {"./dlbench", "--shape", "a\"b\\c\n", "bad \xFF\xC3 utf-8 ü", NULL};
    char flags[] = "sse2 avx2 avx512f";
    struct dlb_fact facts[] = {
        {.section = "cpu", .key = "model", .text = "A \"CPU\""},
        {.section = "os", .key = "kernel", .text = "6.10"},
        {.section = "cpu", .key = "flags", .text = "sse2", .value = flags},
        {.section = "cpu", .key = "stepping", .text = "unknown"},
        {.section = "power", .key = "governor", .text = ""},
        {.section = "cpu", .key = "model", .text = "again"},
    };
    struct dlb_manifest_ceiling ceilings[] = {
        {.thread_set = "cores",
         .isa = "avx2",
         .threads = 2,
         .rates = {.peak_gflops = 1.0 / 3, .l1_gbs = NAN}},
    };
    struct dlb_manifest manifest = {.state = "running",
                                    .argc = 4,
                                    .argv = argv,
                                    .facts = facts,
                                    .facts_n = sizeof facts / sizeof *facts,
                                    .machine_key = "key",
                                    .ceilings = ceilings,
                                    .ceilings_n = 1,
                                    .noise_floor = NAN,
                                    .seed = INT64_MAX};
    struct dlb_run *run;
    struct dlb_error error = {0};
    char path[256], started[DLB_TIME_TEXT], id[200];
    assert_int_equal(dlb_run_create(NULL, folder, "x", &run, &error), DLB_OK);
    snprintf(path, sizeof path, "%s/manifest.json", folder);
    assert_int_equal(dlb_run_manifest(run, &manifest, &error), DLB_OK);

    cJSON *root = parse(path);
    assert_true(real_at(root, "schema_version") == DLB_SCHEMA_VERSION);
    assert_string_equal(text_at(root, "run_id"), dlb_run_id(run));
    assert_string_equal(text_at(root, "state"), "running");
    snprintf(started, sizeof started, "%s", text_at(root, "started_utc"));
    assert_int_equal(strlen(started), 20);
    assert_true(is_null(root, "finished_utc"));
    assert_true(is_null(root, "noise_floor"));
    assert_true(real_at(root, "seed") > 9e18);
    const cJSON *options = cJSON_GetObjectItem(root, "options");
    assert_int_equal(cJSON_GetArraySize(options), 4);
    assert_string_equal(cJSON_GetArrayItem(options, 2)->valuestring, argv[2]);
    assert_string_equal(cJSON_GetArrayItem(options, 3)->valuestring,
                        "bad \xEF\xBF\xBD\xEF\xBF\xBD utf-8 ü");
    const cJSON *sections = cJSON_GetObjectItem(root, "facts");
    assert_int_equal(cJSON_GetArraySize(sections), 2);
    const cJSON *cpu = cJSON_GetObjectItem(sections, "cpu");
    assert_int_equal(cJSON_GetArraySize(cpu), 2);
    assert_string_equal(text_at(cpu, "model"), "A \"CPU\"");
    assert_string_equal(text_at(cpu, "flags"), flags);
    assert_string_equal(text_at(cJSON_GetObjectItem(sections, "os"), "kernel"), "6.10");
    const cJSON *ceiling = cJSON_GetArrayItem(cJSON_GetObjectItem(root, "ceilings"), 0);
    assert_string_equal(text_at(ceiling, "thread_set"), "cores");
    assert_true(fabs(real_at(ceiling, "peak_gflops") - 1.0 / 3) < 1e-15);
    assert_true(is_null(ceiling, "l1_gbs"));
    assert_true(is_null(ceiling, "barrier_ns"));
    cJSON_Delete(root);

    /* The seed in full: a reader in double would round it. */
    FILE *stream = fopen(path, "rb");
    char line[256];
    bool exact = false;
    while (fgets(line, sizeof line, stream))
        exact |= strstr(line, "9223372036854775807") != NULL;
    fclose(stream);
    assert_true(exact);

    /* A resumed run keeps its start and its id, even before its first row. */
    snprintf(id, sizeof id, "%s", dlb_run_id(run));
    dlb_run_close(run);
    sleep(1);
    assert_int_equal(dlb_run_resume(folder, &run, &error), DLB_OK);
    assert_string_equal(dlb_run_id(run), id);
    assert_string_equal(dlb_run_started(run), started);
    manifest.state = "finished";
    manifest.noise_floor = 0.0125;
    assert_int_equal(dlb_run_manifest(run, &manifest, &error), DLB_OK);
    root = parse(path);
    assert_string_equal(text_at(root, "state"), "finished");
    assert_string_equal(text_at(root, "started_utc"), started);
    assert_true(strcmp(text_at(root, "finished_utc"), started) > 0);
    assert_true(real_at(root, "noise_floor") == 0.0125);
    cJSON_Delete(root);
    dlb_run_close(run);
}

static void make_small(struct dlb_json *json)
{
    dlb_json_begin_object(json, NULL);
    dlb_json_begin_object(json, "a");
    dlb_json_text(json, "b", "c");
    dlb_json_real(json, "n", -1.5);
    dlb_json_end(json);
    dlb_json_end(json);
}

static void saving_is_atomic(void **state)
{
    (void)state;
    struct dlb_json json = {0};
    struct dlb_json_file *file;
    struct dlb_error error = {0};
    struct stat info;
    make_small(&json);
    assert_int_equal(dlb_json_save(&json, "x.json", &error), DLB_OK);
    assert_int_equal(symlink("x.json", "link.json"), 0);
    assert_int_equal(dlb_json_save(&json, "link.json", &error), DLB_OK);
    assert_int_equal(lstat("link.json", &info), 0);
    assert_true(S_ISLNK(info.st_mode));

    assert_int_equal(dlb_json_save(&json, "/nowhere/x.json", &error), DLB_IO);
    assert_non_null(strstr(error.text, "/nowhere/x.json"));
    assert_int_equal(dlb_json_save(&json, "/dev/full", &error), DLB_IO);
    assert_non_null(strstr(error.text, "No space left"));
    assert_int_equal(dlb_json_save(&json, ".", &error), DLB_IO);

    assert_int_equal(dlb_json_open("link.json", &file, &error), DLB_OK);
    assert_string_equal(dlb_json_find_text(file, "a.b"), "c");
    assert_true(dlb_json_find_real(file, "a.n") == -1.5);
    assert_null(dlb_json_find_text(file, "a.n"));
    assert_null(dlb_json_find_text(file, "a.b.c"));
    assert_true(isnan(dlb_json_find_real(file, "none")));
    dlb_json_close(file);
    dlb_json_release(&json);
    dlb_json_release(&json);
    unlink("x.json");
    unlink("link.json");
}

static void bad_json_is_named(void **state)
{
    (void)state;
    struct dlb_json_file *file;
    struct dlb_error error = {0};
    FILE *stream = fopen("bad.json", "wb");
    fputs("{\n\"a\": 1,\n\"b\" 2}\n", stream);
    fclose(stream);
    assert_int_equal(dlb_json_open("bad.json", &file, &error), DLB_INVALID);
    assert_non_null(strstr(error.text, "bad.json, line 3"));
    assert_int_equal(dlb_json_open("none.json", &file, &error), DLB_IO);
    assert_int_equal(dlb_json_open("/dev/zero", &file, &error), DLB_INVALID);
    unlink("bad.json");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(manifest_comes_back),
        cmocka_unit_test(saving_is_atomic),
        cmocka_unit_test(bad_json_is_named),
    };
    return cmocka_run_group_tests(tests, make_base, remove_base);
}
