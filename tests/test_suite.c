#include "suite/suite.h"

#include "ops/conv.h"

#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static struct dlb_suite suite;
static struct dlb_error error;
static char folder[] = "/tmp/dlbench-suite-XXXXXX";
static char file[sizeof folder + 16];

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(file, sizeof file, "%s/net.csv", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(file);
    return rmdir(folder);
}

static int release(void **state)
{
    (void)state;
    dlb_suite_release(&suite);
    return 0;
}

static void write_bytes(const char *text, size_t size)
{
    FILE *out = fopen(file, "w");
    assert_non_null(out);
    assert_int_equal(fwrite(text, 1, size, out), size);
    assert_int_equal(fclose(out), 0);
}

static enum dlb_status read_text(const char *text)
{
    write_bytes(text, strlen(text));
    dlb_suite_release(&suite);
    error.text[0] = '\0';
    return dlb_suite_read(file, NULL, &suite, &error);
}

static void has_words(const char *words)
{
    char copy[256], *rest = copy, *word;
    assert_int_equal(error.text[strlen(error.text) - 1], '.');
    strcpy(copy, words);
    while ((word = strsep(&rest, "|")))
        if (!strstr(error.text, word))
            fail_msg("no '%s' in: %s", word, error.text);
}

static void refuse(const char *text, const char *words)
{
    if (read_text(text) != DLB_INVALID)
        fail_msg("not refused: %s", text);
    assert_int_equal(suite.cases_n, 0);
    has_words("net.csv");
    has_words(words);
}

#define HEADER "op,name,count,shape\n"

static void test_read(void **state)
{
    (void)state;
    assert_int_equal(read_text("# a comment\n\n" HEADER
                               "conv,first,1,mb1ic3ih8oc4kh3\n# another, with a comma\n"
                               "conv,\"a, b\",12,\"mb1ic4ih8oc4kh1\"\r\n"
                               "conv,first,2,ic4ih8oc4kh1nignored\n"
                               "conv,,1,ic4ih8oc4kh1nmine"),
                     DLB_OK);
    assert_string_equal(suite.name, "net");
    assert_int_equal(suite.cases_n, 4);
    assert_ptr_equal(suite.cases[0].entry, dlb_operator_find("conv"));
    assert_string_equal(suite.cases[0].name, "first");
    assert_int_equal(suite.cases[0].problem.dim[DLB_CONV_OH], 6);
    assert_string_equal(suite.cases[1].name, "a, b");
    assert_int_equal(suite.cases[1].count, 12);
    assert_string_equal(suite.cases[2].name, "first");
    assert_int_equal(suite.cases[2].problem.dim[DLB_CONV_MB], 2);
    assert_string_equal(suite.cases[3].name, "mine");
    /* A second file is appended. */
    assert_int_equal(dlb_suite_read(file, dlb_operator_find("conv"), &suite, &error),
                     DLB_OK);
    assert_int_equal(suite.cases_n, 8);
    write_bytes("op\n", 3);
    assert_int_equal(dlb_suite_read(file, NULL, &suite, &error), DLB_INVALID);
    assert_int_equal(suite.cases_n, 8);
}

static void test_byte_order_mark(void **state)
{
    (void)state;
    assert_int_equal(read_text("\xEF\xBB\xBF" HEADER "conv,a,1,ic4ih8oc4kh1\n"), DLB_OK);
}

static void test_headers(void **state)
{
    (void)state;
    refuse("", "line 1|empty|op,name,count,shape");
    refuse("# nothing\n", "empty|op,name,count,shape");
    refuse("conv,a,1,ic4ih8oc4kh1\n", "line 1|'op'|op,name,count,shape");
    refuse("op,count,name,shape\n", "line 1|'name'|op,name,count,shape");
    refuse("#\n#\nop,name,count\n", "line 3|'shape'|op,name,count,shape");
    refuse("op,name,count,shape,mb\n", "5 columns|op,name,count,shape");
    refuse("Op,Name,Count,Shape\n", "'op'");
    refuse(HEADER, "no problem|mb1ic3");
    refuse(HEADER "# conv,a,1,ic4\n", "no problem");
}

static void test_rows(void **state)
{
    (void)state;
    refuse(HEADER "conv,a,1,ic4ih8oc4kh1\nconv,a,1\n", "line 3|'shape'|4 cells|found 3");
    refuse(HEADER "conv,a,1,ic4,ih8\n", "line 2|4 cells|found 5");
    refuse(HEADER "cnov,a,1,ic4ih8oc4kh1\n",
           "line 2|'op'|unknown operator 'cnov'|did you mean 'conv'");
    refuse(HEADER ",a,1,ic4ih8oc4kh1\n", "line 2|'op'|accepted: conv");
    refuse(HEADER "conv,a,0,ic4ih8oc4kh1\n", "line 2|'count'|'0'|from 1");
    refuse(HEADER "conv,a,-1,ic4ih8oc4kh1\n", "'count'|'-1'");
    refuse(HEADER "conv,a,,ic4ih8oc4kh1\n", "'count'|''");
    refuse(HEADER "conv,a,1.5,ic4ih8oc4kh1\n", "'count'|'1.5'");
    refuse(HEADER "conv,a,99999999999999999999,ic4ih8oc4kh1\n", "'count'|1000000");
    refuse(HEADER "conv,a,1,\n", "line 2|'shape'|empty");
    refuse(HEADER "conv,a,1,ic4ih8oc4\n", "'shape'|'kh'");
    refuse(HEADER "conv,a,1,ic4xh8oc4\n", "'shape'|character 4|'xh'");
    refuse(HEADER "conv,\"a,1,ic4ih8oc4kh1\n", "line 2");
    char longest[400] = HEADER "conv,";
    memset(longest + strlen(longest), 'n', DLB_NAME_MAX);
    strcat(longest, ",1,ic4ih8oc4kh1\n");
    refuse(longest, "'name'|95");
}

static void test_unreadable(void **state)
{
    (void)state;
    dlb_suite_release(&suite);
    assert_int_equal(dlb_suite_read("/nowhere/net.csv", NULL, &suite, &error), DLB_IO);
    has_words("/nowhere/net.csv");
    assert_int_equal(dlb_suite_read(folder, NULL, &suite, &error), DLB_IO);
    has_words(folder);
    write_bytes(HEADER "conv,a\0b,1,ic4\n", sizeof HEADER + 15);
    assert_int_equal(dlb_suite_read(file, NULL, &suite, &error), DLB_INVALID);
    has_words("net.csv|line 2");
}

static void test_add(void **state)
{
    const struct dlb_operator *conv = dlb_operator_find("conv");
    (void)state;
    assert_int_equal(dlb_suite_add(conv, "ic4ih8oc4kh1nmine", &suite, &error), DLB_OK);
    assert_int_equal(dlb_suite_add(conv, "ic4ih8oc4", &suite, &error), DLB_INVALID);
    has_words("'kh'");
    assert_int_equal(suite.cases_n, 1);
    assert_string_equal(suite.name, "shape");
    assert_string_equal(suite.cases[0].name, "mine");
    assert_int_equal(suite.cases[0].count, 1);
    assert_ptr_equal(suite.cases[0].entry, conv);
}

static void refuse_minibatches(const char *list, const char *words)
{
    int before = suite.cases_n;
    if (dlb_suite_set_minibatch(&suite, list, &error) != DLB_INVALID)
        fail_msg("'%s' was not refused", list);
    assert_int_equal(suite.cases_n, before);
    has_words(words);
}

static void test_minibatches(void **state)
{
    char many[400] = "1";
    (void)state;
    assert_int_equal(
        read_text(HEADER "conv,a,1,mb1ic4ih8oc4kh1\nconv,b,3,mb4ic4ih4096oc4kh1\n"),
        DLB_OK);
    refuse_minibatches("", "''|as 1,16");
    refuse_minibatches("1,", "''|as 1,16");
    refuse_minibatches("1,,2", "''");
    refuse_minibatches("0", "'0'");
    refuse_minibatches("-1", "'-1'");
    refuse_minibatches("two", "'two'");
    refuse_minibatches("16777217", "16777216");
    refuse_minibatches("99999999999999999999999999999", "no minibatch");
    refuse_minibatches("1,2,1", "name 1 twice");
    refuse_minibatches("16777216", "16777216|b|2^40");
    for (int i = 2; i < 70; i++)
        sprintf(many + strlen(many), ",%d", i);
    refuse_minibatches(many, "64");
    assert_int_equal(dlb_suite_set_minibatch(&suite, "16,2", &error), DLB_OK);
    assert_int_equal(suite.cases_n, 4);
    assert_int_equal(suite.cases[1].problem.dim[DLB_CONV_MB], 16);
    assert_string_equal(suite.cases[1].name, "b");
    assert_int_equal(suite.cases[1].count, 3);
    assert_int_equal(suite.cases[2].problem.dim[DLB_CONV_MB], 2);
    assert_string_equal(suite.cases[2].name, "a");
}

/* What is known of the networks: distinct shapes, layers, and GFLOP of one pass with a
 * minibatch of 1, padding of conv counted as if it were input. */
static const struct {
    const char *name;
    int distinct, layers;
    double gflop;
} known[] = {
    {"resnet50", 20, 53, 7.71},
    {"resnet50_v1.5", 23, 53, 8.17},
    {"vgg16", 9, 13, 30.69},
    {"mobilenet_v1", 19, 27, 1.135},
    {"resnet50_batchnorm", 9, 53, 0},
    {"smoke", 8, 8, 0},
    {"bert", 12, 216, 0},
    {"llama_attention", 8, 248, 0},
    {"long_context", 4, 48, 0},
    {"deepbench_lstm_full", 37, 37, 0},
    {"gnmt", 18, 18, 0},
    {"deepbench_gru_full", 73, 73, 0},
    {"deepbench_rnn_full", 12, 12, 0},
    {"deepspeech2", 3, 3, 0},
};

static double padded_flop(const struct dlb_case *one)
{
    const int64_t *d = one->problem.dim;
    if (one->entry->op != &dlb_op_conv)
        return one->entry->op->flops(&one->problem);
    return 2.0 * d[DLB_CONV_MB] * d[DLB_CONV_OH] * d[DLB_CONV_OW] * d[DLB_CONV_OC] *
           (d[DLB_CONV_IC] / d[DLB_CONV_G]) * d[DLB_CONV_KH] * d[DLB_CONV_KW];
}

static void check_config(const char *path)
{
    double flop = 0, counted = 0;
    int64_t layers = 0;
    dlb_suite_release(&suite);
    if (dlb_suite_read(path, NULL, &suite, &error))
        fail_msg("%s", error.text);
    for (int i = 0; i < suite.cases_n; i++) {
        const struct dlb_case *one = &suite.cases[i];
        assert_int_not_equal(one->name[0], '\0');
        layers += one->count;
        flop += one->count * padded_flop(one);
        counted += one->count * one->entry->op->flops(&one->problem);
        for (int j = 0; j < i; j++) {
            if (suite.cases[j].entry != one->entry)
                continue;
            assert_string_not_equal(one->name, suite.cases[j].name);
            if (!memcmp(&one->problem, &suite.cases[j].problem, sizeof one->problem))
                fail_msg("%s: %s and %s are the same problem", path, one->name,
                         suite.cases[j].name);
        }
    }
    assert_true(counted <= flop && counted > 0.5 * flop);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(known[i].name, suite.name))
            continue;
        assert_int_equal(suite.cases_n, known[i].distinct);
        assert_int_equal(layers, known[i].layers);
        if (known[i].gflop &&
            (flop < 0.99e9 * known[i].gflop || flop > 1.01e9 * known[i].gflop))
            fail_msg("%s: %.4f GFLOP", path, flop / 1e9);
    }
}

static void test_configs(void **state)
{
    glob_t paths;
    (void)state;
    assert_int_equal(glob(DLBENCH_SOURCE_DIR "/configs/*.csv", 0, NULL, &paths), 0);
    assert_true(paths.gl_pathc >= sizeof known / sizeof *known);
    for (size_t i = 0; i < paths.gl_pathc; i++)
        if (dlb_suite_is_one(paths.gl_pathv[i]))
            check_config(paths.gl_pathv[i]);
    globfree(&paths);
    for (int i = 0; i < dlb_operators_n; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/configs/%s", DLBENCH_SOURCE_DIR,
                 dlb_operators[i].suite);
        dlb_suite_release(&suite);
        assert_int_equal(dlb_suite_read(path, &dlb_operators[i], &suite, &error), DLB_OK);
    }
}

/* Shapes stand in configs/ as they are printed, so that a row can be searched for. */
static void test_configs_are_canonical(void **state)
{
    glob_t paths;
    (void)state;
    assert_int_equal(glob(DLBENCH_SOURCE_DIR "/configs/*.csv", 0, NULL, &paths), 0);
    for (size_t i = 0; i < paths.gl_pathc; i++) {
        char line[512], text[DLB_SHAPE_MAX];
        if (!dlb_suite_is_one(paths.gl_pathv[i]))
            continue;
        FILE *in = fopen(paths.gl_pathv[i], "r");
        int row = 0;
        assert_non_null(in);
        dlb_suite_release(&suite);
        assert_int_equal(dlb_suite_read(paths.gl_pathv[i], NULL, &suite, &error), DLB_OK);
        while (fgets(line, sizeof line, in)) {
            char *shape = strrchr(line, ',');
            if (line[0] == '#' || !strncmp(line, "op,", 3))
                continue;
            shape[strcspn(shape, "\n")] = '\0';
            dlb_descriptor_format(suite.cases[row].entry->op, &suite.cases[row].problem,
                                  text);
            assert_string_equal(shape + 1, text);
            row++;
        }
        assert_int_equal(row, suite.cases_n);
        fclose(in);
    }
    globfree(&paths);
}

static void test_print(void **state)
{
    char *text;
    size_t size;
    (void)state;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    dlb_suites_print(out);
    fclose(out);
    assert_non_null(
        strstr(text, "configs/resnet50.csv              20 problems,  53 layers,"));
    assert_null(strstr(text, ", line "));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_read, release),
        cmocka_unit_test_teardown(test_byte_order_mark, release),
        cmocka_unit_test_teardown(test_headers, release),
        cmocka_unit_test_teardown(test_rows, release),
        cmocka_unit_test_teardown(test_unreadable, release),
        cmocka_unit_test_teardown(test_add, release),
        cmocka_unit_test_teardown(test_minibatches, release),
        cmocka_unit_test_teardown(test_configs, release),
        cmocka_unit_test_teardown(test_configs_are_canonical, release),
        cmocka_unit_test(test_print),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
