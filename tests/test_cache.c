/* The tuning cache: whose entries count, what killed and simultaneous writers leave. */
#include "ops/conv.h"
#include "suite/descriptor.h"
#include "tune/cache.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { DIRECT = 0 }; /* an algorithm of conv */

static char folder[64], file[96];

static const char *code(const char *op)
{
    return strcmp(op, "conv") ? "other" : "c0de";
}

static const char *changed_code(const char *op)
{
    (void)op;
    return "changed";
}

static const struct dlb_cache_identity here = {.hardware = "vendor A family 1",
                                               .isa = "avx2",
                                               .compiler = "GNU 12.2.0",
                                               .flags = "-O2 -g",
                                               .os = "Linux 6.1",
                                               .code = code};

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/dlbench-cache-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(file, sizeof file, "%s/below/tuning.csv", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static struct dlb_cache *open_as(const struct dlb_cache_identity *identity)
{
    struct dlb_cache *cache;
    struct dlb_error error = {""};
    if (dlb_cache_open(file, identity, &cache, &error))
        fail_msg("%s", error.text);
    return cache;
}

static struct dlb_problem problem_of(const char *shape)
{
    struct dlb_problem problem = {0};
    char name[DLB_NAME_MAX];
    struct dlb_error error = {""};
    if (dlb_descriptor_parse(&dlb_op_conv, shape, &problem, name, &error))
        fail_msg("%s", error.text);
    return problem;
}

static struct dlb_cache_key key_of(const struct dlb_problem *problem, int threads)
{
    return (struct dlb_cache_key){.op = &dlb_op_conv,
                                  .problem = problem,
                                  .cache_state = "hot",
                                  .thread_set = threads == 1 ? "1" : "cores",
                                  .threads = threads};
}

/* Three candidates with mr from the given one on. */
static struct dlb_tuned tuned_of(int mr)
{
    struct dlb_tuned tuned = {.best_n = DLB_SEARCH_BEST, .tried = 7, .legal = 9};
    for (int i = 0; i < DLB_SEARCH_BEST; i++) {
        tuned.best[i].algorithm = DIRECT;
        tuned.best[i].tile[0] = mr + i;
        tuned.best_ns[i] = 1000.5 * (i + 1);
    }
    return tuned;
}

static void store(struct dlb_cache *cache, const char *shape, int threads, int mr)
{
    struct dlb_problem problem = problem_of(shape);
    struct dlb_cache_key key = key_of(&problem, threads);
    struct dlb_tuned tuned = tuned_of(mr);
    struct dlb_error error = {""};
    if (dlb_cache_store(cache, &key, &tuned, &error))
        fail_msg("%s", error.text);
}

/* mr of the winner, or 0 when nothing is known. */
static int winner(const struct dlb_cache *cache, const char *shape, int threads)
{
    struct dlb_problem problem = problem_of(shape);
    struct dlb_cache_key key = key_of(&problem, threads);
    struct dlb_tuned tuned;
    return dlb_cache_find(cache, &key, &tuned) ? tuned.best[0].tile[0] : 0;
}

#define SMALL "mb1ic8ih8oc8kh1"
#define LARGE "mb1ic64ih56oc64kh1"

static void what_is_stored_is_found_again(void **state)
{
    (void)state;
    struct dlb_problem problem = problem_of(SMALL);
    struct dlb_cache_key key = key_of(&problem, 1);
    struct dlb_tuned tuned;
    for (int again = 0; again < 2; again++) {
        struct dlb_cache *cache = open_as(&here);
        if (!again) {
            assert_int_equal(dlb_cache_entries(cache), 0);
            assert_int_equal(winner(cache, SMALL, 1), 0);
            store(cache, SMALL, 1, 3);
            store(cache, SMALL, 2, 4);
            store(cache, LARGE, 1, 5);
            store(cache, SMALL, 1, 6); /* the last one holds */
        }
        assert_int_equal(dlb_cache_entries(cache), 3);
        assert_int_equal(winner(cache, SMALL, 1), 6);
        assert_int_equal(winner(cache, SMALL, 2), 4);
        assert_int_equal(winner(cache, LARGE, 1), 5);
        assert_int_equal(winner(cache, LARGE, 2), 0);
        assert_true(dlb_cache_find(cache, &key, &tuned));
        assert_int_equal(tuned.best_n, DLB_SEARCH_BEST);
        assert_false(tuned.stale);
        for (int i = 0; i < DLB_SEARCH_BEST; i++) {
            assert_int_equal(tuned.best[i].tile[0], 6 + i);
            assert_int_equal(tuned.best[i].algorithm, DIRECT);
            assert_true(tuned.best_ns[i] == 1000.5 * (i + 1));
        }
        dlb_cache_close(cache);
    }
}

static void every_part_of_the_key_counts(void **state)
{
    (void)state;
    struct dlb_problem problem = problem_of(SMALL), other = problem;
    struct dlb_cache_key key = key_of(&problem, 2), changed = key;
    struct dlb_tuned tuned;
    struct dlb_cache *cache = open_as(&here);
    store(cache, SMALL, 2, 3);
    assert_true(dlb_cache_find(cache, &changed, &tuned));
    changed.threads = 3;
    assert_false(dlb_cache_find(cache, &changed, &tuned));
    changed = key;
    changed.thread_set = "2";
    assert_false(dlb_cache_find(cache, &changed, &tuned));
    changed = key;
    changed.cache_state = "cold";
    assert_false(dlb_cache_find(cache, &changed, &tuned));
    changed = key;
    changed.problem = &other;
    other.pass = DLB_BWD_DATA;
    assert_false(dlb_cache_find(cache, &changed, &tuned));
    other = problem;
    other.accuracy = DLB_WINOGRAD;
    assert_false(dlb_cache_find(cache, &changed, &tuned));
    other = problem;
    other.dim[DLB_CONV_MB]++;
    assert_false(dlb_cache_find(cache, &changed, &tuned));
    dlb_cache_close(cache);
}

static void strangers_are_ignored_with_a_word(void **state)
{
    (void)state;
    static const struct {
        const char *what, *word;
        bool stale;
    } change[] = {
        {"hardware", "1 of another machine or instruction set (vendor A family 1, avx2)",
         false},
        {"isa", "1 of another machine or instruction set", false},
        {"code", "1 of other kernel sources, compiler or flags", false},
        {"compiler", "1 of other kernel sources, compiler or flags", false},
        {"flags", "1 of other kernel sources, compiler or flags", false},
        {"patch", NULL, true},
        {"os", NULL, true},
        {"nothing", NULL, false},
    };
    struct dlb_cache *cache = open_as(&here);
    store(cache, SMALL, 1, 3);
    dlb_cache_close(cache);
    for (size_t i = 0; i < sizeof change / sizeof *change; i++) {
        struct dlb_cache_identity other = here;
        struct dlb_problem problem = problem_of(SMALL);
        struct dlb_cache_key key = key_of(&problem, 1);
        struct dlb_tuned tuned;
        char word[512] = "";
        const char *what = change[i].what;
        if (!strcmp(what, "hardware"))
            strcpy(other.hardware, "vendor B family 1");
        other.isa = strcmp(what, "isa") ? other.isa : "sse2";
        other.code = strcmp(what, "code") ? code : changed_code;
        other.compiler = !strcmp(what, "compiler") ? "GNU 12.3.0"
                         : !strcmp(what, "patch")  ? "GNU 12.2.1"
                                                   : other.compiler;
        other.flags = strcmp(what, "flags") ? other.flags : "-O3";
        if (!strcmp(what, "os"))
            strcpy(other.os, "Linux 6.2");
        cache = open_as(&other);
        bool found = dlb_cache_find(cache, &key, &tuned);
        bool ignored = dlb_cache_ignored(cache, word, sizeof word);
        if (found == !!change[i].word || ignored != !!change[i].word ||
            (found && tuned.stale != change[i].stale) ||
            (change[i].word && !strstr(word, change[i].word)))
            fail_msg("%s: found %d, stale %d, '%s'", what, found, tuned.stale, word);
        dlb_cache_close(cache);
    }
}

static char *contents(void)
{
    static char text[1 << 16];
    FILE *in = fopen(file, "r");
    assert_non_null(in);
    text[fread(text, 1, sizeof text - 1, in)] = '\0';
    fclose(in);
    return text;
}

static void replace_contents(const char *text)
{
    FILE *out = fopen(file, "w");
    assert_non_null(out);
    fputs(text, out);
    fclose(out);
}

static void another_version_is_ignored(void **state)
{
    (void)state;
    char word[256];
    struct dlb_cache *cache = open_as(&here);
    store(cache, SMALL, 1, 3);
    dlb_cache_close(cache);
    char *text = contents();
    char *record = strchr(text, '\n') + 1;
    assert_int_equal(*record, '1');
    *record = '9';
    replace_contents(text);
    cache = open_as(&here);
    assert_int_equal(winner(cache, SMALL, 1), 0);
    assert_true(dlb_cache_ignored(cache, word, sizeof word));
    assert_string_equal(word, "ignored: 1 of another version of the table");
    dlb_cache_close(cache);
}

static void a_wrong_entry_is_taken_back(void **state)
{
    (void)state;
    struct dlb_problem problem = problem_of(SMALL);
    struct dlb_cache_key key = key_of(&problem, 1);
    struct dlb_cache *cache = open_as(&here);
    store(cache, SMALL, 1, 3);
    store(cache, LARGE, 1, 4);
    assert_int_equal(dlb_cache_drop(cache, &key, NULL), DLB_OK);
    for (int again = 0; again < 2; again++) {
        struct dlb_candidate near;
        struct dlb_problem other = problem_of("mb1ic8ih8oc9kh1");
        struct dlb_cache_key other_key = key_of(&other, 1);
        assert_int_equal(winner(cache, SMALL, 1), 0);
        assert_int_equal(winner(cache, LARGE, 1), 4);
        assert_int_equal(dlb_cache_entries(cache), 1);
        /* Nor is it a good example for others. */
        assert_true(dlb_cache_nearest(cache, &other_key, &near));
        assert_int_equal(near.tile[0], 4);
        if (!again) {
            dlb_cache_close(cache);
            cache = open_as(&here);
        }
    }
    store(cache, SMALL, 1, 8);
    assert_int_equal(winner(cache, SMALL, 1), 8);
    dlb_cache_close(cache);
}

static void unreadable_candidates_are_passed_over(void **state)
{
    (void)state;
    struct dlb_problem problem = problem_of(SMALL);
    struct dlb_cache_key key = key_of(&problem, 1);
    struct dlb_tuned tuned;
    struct dlb_cache *cache = open_as(&here);
    store(cache, SMALL, 1, 3);
    dlb_cache_close(cache);
    char *text = contents(), *at = strstr(text, ",direct/");
    assert_non_null(at);
    memcpy(at, ",dierct/", 8);
    replace_contents(text);
    cache = open_as(&here);
    assert_true(dlb_cache_find(cache, &key, &tuned));
    assert_int_equal(tuned.best_n, 2);
    assert_int_equal(tuned.best[0].tile[0], 4);
    dlb_cache_close(cache);
}

static void the_torn_end_of_a_killed_writer_is_dropped(void **state)
{
    (void)state;
    struct dlb_cache *cache = open_as(&here);
    store(cache, SMALL, 1, 3);
    store(cache, LARGE, 1, 4);
    dlb_cache_close(cache);
    struct stat info;
    assert_int_equal(stat(file, &info), 0);
    assert_int_equal(truncate(file, info.st_size - 5), 0);
    cache = open_as(&here);
    assert_int_equal(winner(cache, SMALL, 1), 3);
    assert_int_equal(winner(cache, LARGE, 1), 0);
    store(cache, LARGE, 2, 5); /* and does not damage what comes after it */
    dlb_cache_close(cache);
    cache = open_as(&here);
    assert_int_equal(dlb_cache_entries(cache), 2);
    assert_int_equal(winner(cache, LARGE, 2), 5);
    dlb_cache_close(cache);
    /* Within the header as well. */
    assert_int_equal(truncate(file, 20), 0);
    cache = open_as(&here);
    assert_int_equal(dlb_cache_entries(cache), 0);
    store(cache, SMALL, 1, 7);
    dlb_cache_close(cache);
    cache = open_as(&here);
    assert_int_equal(winner(cache, SMALL, 1), 7);
    dlb_cache_close(cache);
}

static void processes_write_at_once(void **state)
{
    (void)state;
    enum { PROCESSES = 4, ENTRIES = 40 };
    char shape[64];
    for (int p = 0; p < PROCESSES; p++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child)
            continue;
        struct dlb_cache *cache;
        int failures = dlb_cache_open(file, &here, &cache, NULL) != DLB_OK;
        for (int i = 0; i < ENTRIES && !failures; i++) {
            snprintf(shape, sizeof shape, "mb%dic%dih8oc8kh1", p + 1, i + 1);
            struct dlb_problem problem = problem_of(shape);
            struct dlb_cache_key key = key_of(&problem, 1);
            struct dlb_tuned tuned = tuned_of(p + i + 1);
            failures += dlb_cache_store(cache, &key, &tuned, NULL) != DLB_OK;
        }
        _exit(failures);
    }
    for (int p = 0; p < PROCESSES; p++) {
        int status;
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
    struct dlb_cache *cache = open_as(&here);
    assert_int_equal(dlb_cache_entries(cache), PROCESSES * ENTRIES);
    for (int p = 0; p < PROCESSES; p++)
        for (int i = 0; i < ENTRIES; i++) {
            snprintf(shape, sizeof shape, "mb%dic%dih8oc8kh1", p + 1, i + 1);
            assert_int_equal(winner(cache, shape, 1), p + i + 1);
        }
    dlb_cache_close(cache);
}

static void the_nearest_problem_is_an_example(void **state)
{
    (void)state;
    struct dlb_candidate near;
    struct dlb_problem problem = problem_of("mb1ic8ih8oc16kh1");
    struct dlb_cache_key key = key_of(&problem, 1);
    struct dlb_cache *cache = open_as(&here);
    assert_false(dlb_cache_nearest(cache, &key, &near));
    store(cache, "mb1ic8ih8oc16kh1", 1, 2); /* itself is not meant */
    store(cache, "mb1ic8ih8oc16kh1", 2, 3); /* nor other threads */
    assert_false(dlb_cache_nearest(cache, &key, &near));
    store(cache, LARGE, 1, 4);
    assert_true(dlb_cache_nearest(cache, &key, &near));
    assert_int_equal(near.tile[0], 4);
    store(cache, SMALL, 1, 5);
    assert_true(dlb_cache_nearest(cache, &key, &near));
    assert_int_equal(near.tile[0], 5);
    key.cache_state = "cold";
    assert_false(dlb_cache_nearest(cache, &key, &near));
    dlb_cache_close(cache);
}

static void another_table_is_left_alone(void **state)
{
    (void)state;
    struct dlb_cache *cache;
    struct dlb_error error = {""};
    struct dlb_problem problem = problem_of(SMALL);
    struct dlb_cache_key key = key_of(&problem, 1);
    struct dlb_tuned tuned = tuned_of(3);
    snprintf(file, sizeof file, "%s/other.csv", folder);
    replace_contents("a,b\n1,2\n");
    assert_int_equal(dlb_cache_open(file, &here, &cache, &error), DLB_INVALID);
    assert_non_null(strstr(error.text, "other.csv"));
    assert_null(cache);
    assert_int_equal(remove(file), 0);
    cache = open_as(&here);
    replace_contents("a,b\n1,2\n"); /* it came to be since */
    assert_int_equal(dlb_cache_store(cache, &key, &tuned, &error), DLB_INVALID);
    assert_non_null(strstr(error.text, "other.csv is no tuning.csv"));
    assert_string_equal(contents(), "a,b\n1,2\n");
    dlb_cache_close(cache);
    /* Damage in the middle says where. */
    assert_int_equal(remove(file), 0);
    cache = open_as(&here);
    store(cache, SMALL, 1, 3);
    dlb_cache_close(cache);
    FILE *out = fopen(file, "a");
    assert_non_null(out);
    fputs("1,2\n", out);
    fclose(out);
    assert_int_equal(dlb_cache_open(file, &here, &cache, &error), DLB_INVALID);
    assert_non_null(strstr(error.text, "line 3"));
}

static void without_a_file_it_is_remembered_all_the_same(void **state)
{
    (void)state;
    struct dlb_cache *cache;
    assert_int_equal(dlb_cache_open(NULL, &here, &cache, NULL), DLB_OK);
    assert_null(dlb_cache_path(cache));
    store(cache, SMALL, 1, 3);
    assert_int_equal(winner(cache, SMALL, 1), 3);
    dlb_cache_close(cache);
    dlb_cache_close(NULL);
    /* And where it cannot be written. */
    struct dlb_problem problem = problem_of(SMALL);
    struct dlb_cache_key key = key_of(&problem, 1);
    struct dlb_tuned tuned = tuned_of(4);
    struct dlb_error error = {""};
    assert_int_equal(dlb_cache_open("/proc/nowhere/tuning.csv", &here, &cache, &error),
                     DLB_OK);
    assert_int_equal(dlb_cache_store(cache, &key, &tuned, &error), DLB_IO);
    assert_non_null(strstr(error.text, "/proc/nowhere"));
    assert_int_equal(winner(cache, SMALL, 1), 4);
    dlb_cache_close(cache);
}

static void the_usual_place(void **state)
{
    (void)state;
    static const struct {
        const char *cache, *home, *path;
    } known[] = {
        {"/a/cache", "/home/b", "/a/cache/dlbench/tuning.csv"},
        {NULL, "/home/b", "/home/b/.cache/dlbench/tuning.csv"},
        {"", "/home/b", "/home/b/.cache/dlbench/tuning.csv"},
        {"relative", "/home/b", "/home/b/.cache/dlbench/tuning.csv"},
        {NULL, NULL, NULL},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        unsetenv("XDG_CACHE_HOME");
        unsetenv("HOME");
        if (known[i].cache)
            setenv("XDG_CACHE_HOME", known[i].cache, 1);
        if (known[i].home)
            setenv("HOME", known[i].home, 1);
        char *path = dlb_cache_default_path();
        assert_int_equal(!path, !known[i].path);
        if (path)
            assert_string_equal(path, known[i].path);
        free(path);
    }
}

static void this_machine_has_an_identity(void **state)
{
    (void)state;
    struct dlb_topology *topology;
    struct dlb_cache_identity identity, again;
    assert_int_equal(dlb_topology_load("pack:1 l3:1 core:2 pu:1", &topology, NULL),
                     DLB_OK);
    dlb_cache_identify(topology, DLB_ISA_SCALAR, &identity);
    assert_string_equal(identity.isa, "scalar");
    assert_non_null(strstr(identity.hardware, "cores 2"));
    assert_true(*identity.compiler && *identity.os);
    assert_int_equal(strlen(identity.code("conv")), 16);
    assert_string_equal(identity.code("lstm"), identity.code("gru"));
    assert_string_not_equal(identity.code("conv"), identity.code("attention"));
    assert_string_equal(identity.code("nothing"), "unknown");
    dlb_topology_set_quota(topology, 1.5);
    dlb_cache_identify(topology, DLB_ISA_SCALAR, &again);
    assert_string_not_equal(identity.hardware, again.hardware);
    dlb_topology_release(topology);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        TEST(what_is_stored_is_found_again),
        TEST(every_part_of_the_key_counts),
        TEST(strangers_are_ignored_with_a_word),
        TEST(another_version_is_ignored),
        TEST(a_wrong_entry_is_taken_back),
        TEST(unreadable_candidates_are_passed_over),
        TEST(the_torn_end_of_a_killed_writer_is_dropped),
        TEST(processes_write_at_once),
        TEST(the_nearest_problem_is_an_example),
        TEST(another_table_is_left_alone),
        TEST(without_a_file_it_is_remembered_all_the_same),
        TEST(the_usual_place),
        TEST(this_machine_has_an_identity),
    };
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
