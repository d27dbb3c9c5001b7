#include "suite/descriptor.h"

#include "ops/conv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct dlb_problem problem;
static char name[DLB_NAME_MAX];
static struct dlb_error error;

static uint64_t random_state = 0x9e3779b97f4a7c15;
static int64_t random_in(int64_t least, int64_t most)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return least + (int64_t)(random_state % (uint64_t)(most - least + 1));
}

static enum dlb_status parse(const char *text)
{
    error.text[0] = '\0';
    return dlb_descriptor_parse(&dlb_op_conv, text, &problem, name, &error);
}

/* text means the problem that long_form spells out, and its shortest form is canonical.
 */
static void means(const char *text, const char *long_form, const char *canonical)
{
    struct dlb_problem first;
    char formatted[DLB_SHAPE_MAX];
    if (parse(text))
        fail_msg("'%s' was refused: %s", text, error.text);
    first = problem;
    dlb_descriptor_format(&dlb_op_conv, &problem, formatted);
    assert_string_equal(formatted, canonical);
    if (parse(long_form))
        fail_msg("'%s' was refused: %s", long_form, error.text);
    for (int i = 0; i < DLB_CONV_DIMS; i++)
        if (first.dim[i] != problem.dim[i])
            fail_msg("'%s': %s is %lld, not %lld", text, dlb_op_conv.dims[i].key,
                     (long long)first.dim[i], (long long)problem.dim[i]);
}

static void refuse(const char *text, const char *words)
{
    struct dlb_problem before = problem;
    char copy[256], *rest = copy, *word;
    strcpy(name, "kept");
    if (parse(text) != DLB_INVALID)
        fail_msg("'%s' was not refused", text);
    assert_memory_equal(&before, &problem, sizeof problem);
    assert_string_equal(name, "kept");
    assert_int_equal(error.text[strlen(error.text) - 1], '.');
    strcpy(copy, words);
    while ((word = strsep(&rest, "|")))
        if (!strstr(error.text, word))
            fail_msg("'%s': no '%s' in: %s", text, word, error.text);
}

static void test_defaults(void **state)
{
    (void)state;
    means("ic64ih56oc64kh3ph1",
          "g1mb2ic64ih56iw56oc64oh56ow56kh3kw3sh1sw1ph1pw1dh0dw0bias0relu0",
          "ic64ih56oc64kh3ph1");
    /* Padding follows from the output, and the output from the padding. */
    means("mb1ic64ih56oc64oh56kh3", "mb1ic64ih56oc64oh56kh3ph1", "mb1ic64ih56oc64kh3ph1");
    means("mb1ic3ih224oc64oh112kh7sh2ph3",
          "mb1ic3ih224iw224oc64oh112ow112kh7kw7sh2sw2ph3pw3", "mb1ic3ih224oc64kh7sh2ph3");
    means("mb1ic4ih8oc4kh3", "mb1ic4ih8oc4oh6kh3ph0", "mb1ic4ih8oc4kh3");
    /* Asymmetric: the padding below is one more than above. */
    means("mb1ic3ih224oc32oh112kh3sh2ph0",
          "mb1ic3ih224oc32oh112ow112kh3sh2ph0pw0iw224kw3sw2",
          "mb1ic3ih224oc32oh112kh3sh2");
    means("mb1ic4ih5oc4oh5kh2", "mb1ic4ih5oc4oh5kh2ph0", "mb1ic4ih5oc4oh5kh2");
    /* A width axis that is named has its own defaults. */
    means("mb1ic4ih8iw10oc4kh3kw1sh2ph1", "mb1ic4ih8iw10oc4oh4ow10kh3kw1sh2sw1ph1pw0",
          "mb1ic4ih8iw10oc4kh3kw1sh2ph1");
    /* One-dimensional. */
    means("mb1ic4iw10oc4kw3pw1", "mb1ic4ih1iw10oc4oh1ow10kh1kw3ph0pw1",
          "mb1ic4iw10oc4kw3pw1");
    means("g8mb1ic8ih7oc16kh3ph2dh1bias1relu1",
          "g8mb1ic8ih7iw7oc16oh7ow7kh3kw3sh1sw1ph2pw2dh1dw1bias1relu1",
          "g8mb1ic8ih7oc16kh3ph2dh1bias1relu1");
    means("__mb1_ic4_ih8__oc4_kh1_", "mb1ic4ih8oc4kh1", "mb1ic4ih8oc4kh1");
    means("kh1oc4ih0008ic4mb1", "mb1ic4ih8oc4kh1", "mb1ic4ih8oc4kh1");
}

static void test_pass_is_kept(void **state)
{
    (void)state;
    problem.pass = DLB_BWD;
    problem.accuracy = DLB_WINOGRAD;
    assert_int_equal(parse("ic4ih8oc4kh1"), DLB_OK);
    assert_int_equal(problem.pass, DLB_BWD);
    assert_int_equal(problem.accuracy, DLB_WINOGRAD);
}

static void test_names(void **state)
{
    char longest[300] = "ic4ih8oc4kh1n";
    (void)state;
    assert_int_equal(parse("ic4ih8oc4kh1"), DLB_OK);
    assert_string_equal(name, "");
    assert_int_equal(parse("ic4ih8oc4kh1nres2a_branch1"), DLB_OK);
    assert_string_equal(name, "res2a_branch1");
    assert_int_equal(parse("ic4ih8oc4kh1_n\"conv 1:ic3\""), DLB_OK);
    assert_string_equal(name, "conv 1:ic3");
    refuse("ic4ih8oc4kh1n", "character 13|1 to 95");
    refuse("ic4ih8oc4kh1n\"\"", "1 to 95");
    refuse("ic4ih8oc4kh1n\"a", "end with a quote");
    refuse("ic4ih8oc4kh1n\"a\"kh3", "end with a quote");
    refuse("ic4ih8oc4kh1na\"b", "neither quotes");
    refuse("ic4ih8oc4kh1na\tb", "control characters");
    memset(longest + 13, 'x', DLB_NAME_MAX);
    refuse(longest, "1 to 95");
    longest[13 + DLB_NAME_MAX - 1] = '\0';
    assert_int_equal(parse(longest), DLB_OK);
    assert_int_equal(strlen(name), DLB_NAME_MAX - 1);
}

static void test_refused_tokens(void **state)
{
    (void)state;
    refuse("", "empty");
    refuse("hello", "character 1|'hello'|g, mb, ic");
    refuse("ic64xh3", "character 5|'xh'|did you mean");
    refuse("ic64ih56oc64IH3", "character 13|did you mean 'ih'");
    refuse("ic", "character 3|whole number|'ic'|1 to 16777216");
    refuse("ic-3", "character 3|whole number");
    refuse("ic 3", "character 3|whole number");
    refuse("ic64,ih3", "character 5|key followed by its value");
    refuse("64", "character 1|key followed by its value");
    refuse("ic4ih8oc4kh1ic4", "character 13|'ic' is given twice");
    refuse("ic0ih8oc4kh1", "'ic'|out of range|1 to 16777216");
    refuse("ic99999999999999999999999999999999ih8oc4kh1", "'ic'|out of range");
    refuse("ic9223372036854775808ih8oc4kh1", "'ic'|out of range");
    refuse("ic4ih8oc4kh1bias2", "'bias'|0 to 1");
    refuse("ic4ih8oc4kh1.5", "character 13");
    refuse("\xff\x01", "character 1");
}

static void test_refused_problems(void **state)
{
    (void)state;
    refuse("ih8oc4kh1", "'ic'|ic64");
    refuse("ic4ih8kh1", "'oc'|oc64");
    refuse("ic4oc4kh3", "'ih'|ih56");
    refuse("ic4ih8oc4", "'kh'|kh3");
    refuse("ic4oc4", "'ih' is missing");
    refuse("ic4oh8oc4kh3", "'ih' is missing though kh is named");
    refuse("ic4ih8iw9oc4kh3", "'kw' is missing though iw is named|square");
    refuse("ic4ih8oc4kh3sw2", "'iw' is missing though sw is named|square");
    refuse("ic4iw8kw3oc4sh2", "'ih' is missing though sh is named");
    refuse("g3ic4ih8oc6kh1", "multiples of the groups g3");
    refuse("g3ic6ih8oc4kh1", "multiples of the groups g3");
    refuse("ic4ih2oc4kh3", "reaches over 3|ih2|offers 2");
    refuse("ic4ih4oc4kh3dh2", "reaches over 7");
    refuse("ic4ih8oc4kh3ph3", "ph3|0 to 2");
    refuse("ic4ih8oc4kh1ph1", "ph1|0 to 0");
    refuse("ic4ih8oc4kh3ph1oh11", "oh11|oh7 to oh9|");
    /* Rows left over: most likely a forgotten stride. */
    refuse("ic4ih56oc4oh28kh1", "oh28|sh1|oh56 to oh56");
    refuse("ic4ih56oc4oh20kh1sh2", "oh20|sh2|oh28 to oh28");
    means("mb1ic4ih8oc4kh3ph1oh7", "mb1ic4ih8oc4kh3ph1oh7", "mb1ic4ih8oc4oh7kh3ph1");
}

static void test_too_large(void **state)
{
    (void)state;
    refuse("mb16777216ic1ih1024oc1kh1", "tensor src|2^40");
    refuse("mb16777216ic16777216ih16777216oc1kh1", "tensor src|2^40");
    refuse("mb1ic16777216ih1oc16777216kh1", "tensor weights|2^40");
    refuse("mb1ic1ih1024oc16777216kh1", "tensor dst|2^40");
    refuse("mb1ic1ih16777216iw1oc1kh65536kw1ph65535", "oh16842");
    assert_int_equal(parse("mb1048576ic1ih1024oc1kh1"), DLB_OK);
}

/* complete() is called by others too, with dims that no parser has looked at. */
static void test_complete_checks_ranges(void **state)
{
    (void)state;
    assert_int_equal(parse("ic4ih8oc4kh1"), DLB_OK);
    problem.dim[DLB_CONV_SH] = 0;
    assert_int_equal(dlb_op_conv.complete(&problem, &error), DLB_INVALID);
    assert_non_null(strstr(error.text, "sh0"));
    problem.dim[DLB_CONV_SH] = 1;
    problem.dim[DLB_CONV_IC] = INT64_MAX;
    assert_int_equal(dlb_op_conv.complete(&problem, NULL), DLB_INVALID);
}

static void random_axis(struct dlb_problem *random, int in, int kernel, int out,
                        int stride, int pad, int dilation)
{
    int64_t *d = random->dim;
    d[in] = random_in(1, 40);
    d[kernel] = random_in(1, 7);
    d[stride] = random_in(1, 4);
    d[dilation] = random_in(0, 2) ? 0 : random_in(1, 3);
    d[pad] = random_in(0, 3) ? random_in(0, 3) : DLB_DIM_UNSET;
    d[out] = random_in(0, 1) ? random_in(1, 40) : DLB_DIM_UNSET;
}

/* format -> parse gives the same problem, and its format is the same text. */
static void test_round_trip(void **state)
{
    int valid = 0;
    (void)state;
    for (int i = 0; valid < 4000; i++) {
        struct dlb_problem random = {0}, parsed = {0};
        char text[DLB_SHAPE_MAX], again[DLB_SHAPE_MAX];
        int64_t *d = random.dim;
        assert_true(i < 1000000);
        d[DLB_CONV_G] = random_in(0, 1) ? 1 : random_in(1, 5);
        d[DLB_CONV_MB] = random_in(1, 3);
        d[DLB_CONV_IC] = d[DLB_CONV_G] * random_in(1, 9);
        d[DLB_CONV_OC] = d[DLB_CONV_G] * random_in(1, 9);
        d[DLB_CONV_BIAS] = random_in(0, 1);
        d[DLB_CONV_RELU] = random_in(0, 1);
        random_axis(&random, DLB_CONV_IH, DLB_CONV_KH, DLB_CONV_OH, DLB_CONV_SH,
                    DLB_CONV_PH, DLB_CONV_DH);
        if (random_in(0, 1))
            random_axis(&random, DLB_CONV_IW, DLB_CONV_KW, DLB_CONV_OW, DLB_CONV_SW,
                        DLB_CONV_PW, DLB_CONV_DW);
        else
            for (int dim = DLB_CONV_IH; dim <= DLB_CONV_DH; dim++)
                if (dim != DLB_CONV_OC && dim != DLB_CONV_IW && dim != DLB_CONV_OW &&
                    dim != DLB_CONV_KW && dim != DLB_CONV_SW && dim != DLB_CONV_PW)
                    d[dim + 1] = d[dim];
        if (dlb_op_conv.complete(&random, NULL))
            continue;
        valid++;
        dlb_descriptor_format(&dlb_op_conv, &random, text);
        if (dlb_descriptor_parse(&dlb_op_conv, text, &parsed, name, &error))
            fail_msg("'%s' was refused: %s", text, error.text);
        assert_memory_equal(&random, &parsed, sizeof parsed);
        dlb_descriptor_format(&dlb_op_conv, &parsed, again);
        assert_string_equal(text, again);
        /* Shortest: no dim that is written can be left out. */
        bool needed[DLB_CONV_DIMS];
        for (int dim = 0; dim < DLB_CONV_DIMS; dim++)
            needed[dim] = dlb_op_conv.dim_needed(&random, dim);
        for (int dim = 0; dim < DLB_CONV_DIMS; dim++) {
            struct dlb_problem shorter = random;
            if (!needed[dim])
                continue;
            for (int other = 0; other < DLB_CONV_DIMS; other++)
                if (other == dim || !needed[other])
                    shorter.dim[other] = dlb_op_conv.dims[other].fallback;
            if (!dlb_op_conv.complete(&shorter, NULL) &&
                !memcmp(&shorter, &random, sizeof random))
                fail_msg("'%s' can do without %s", text, dlb_op_conv.dims[dim].key);
        }
    }
}

static void test_random_bytes(void **state)
{
    static const char *const parts[] = {"ic",
                                        "ih",
                                        "oc",
                                        "kh",
                                        "64",
                                        "3",
                                        "n",
                                        "\"",
                                        "_",
                                        "ow",
                                        "-1",
                                        "g",
                                        "99999999999999999999"};
    struct dlb_candidate candidate;
    (void)state;
    for (int i = 0; i < 200000; i++) {
        char text[512];
        int length = 0;
        if (i % 2)
            for (int n = random_in(0, 60); length < n; length++)
                text[length] = random_in(1, 255);
        else
            for (int n = random_in(0, 12); n > 0; n--)
                length += sprintf(text + length, "%s", parts[random_in(0, 12)]);
        text[length] = '\0';
        error.text[0] = '\0';
        if (dlb_descriptor_parse(&dlb_op_conv, text, &problem, name, &error))
            assert_int_not_equal(error.text[0], '\0');
        dlb_candidate_parse(&dlb_op_conv, text, &candidate, &error);
    }
    char *huge = malloc(100001);
    assert_non_null(huge);
    memset(huge, '7', 100000);
    huge[100000] = '\0';
    memcpy(huge, "ic", 2);
    assert_int_equal(parse(huge), DLB_INVALID);
    memset(huge, 'x', 100000);
    assert_int_equal(parse(huge), DLB_INVALID);
    free(huge);
}

static const char *const test_algorithms[] = {"direct", "gemm-1x1", "winograd"};
static const char *const split_names[] = {"mb", "mb-rows", "2d", NULL};
static const struct dlb_tile_def test_tiles[] = {
    {"mr", NULL, "rows of the register tile"},
    {"nr", NULL, "columns of the register tile"},
    {"split", split_names, "what the threads share"},
    {"kc", NULL, "block of input channels"},
};
static const struct dlb_op tiled = {
    .name = "tiled",
    .algorithms = test_algorithms,
    .algorithms_n = 3,
    .tiles = test_tiles,
    .tiles_n = 4,
};

static void test_candidates(void **state)
{
    char text[DLB_SHAPE_MAX];
    struct dlb_candidate parsed;
    (void)state;
    for (int i = 0; i < 2000; i++) {
        struct dlb_candidate candidate = {.algorithm = random_in(0, 2),
                                          .tile = {random_in(0, 3),
                                                   random_in(0, INT32_MAX),
                                                   random_in(0, 3), random_in(0, 512)}};
        dlb_candidate_format(&tiled, &candidate, text);
        if (dlb_candidate_parse(&tiled, text, &parsed, &error))
            fail_msg("'%s' was refused: %s", text, error.text);
        assert_memory_equal(&candidate, &parsed, sizeof parsed);
    }
    struct dlb_candidate candidate = {.algorithm = 1, .tile = {14, 32, 2, 0}};
    dlb_candidate_format(&tiled, &candidate, text);
    assert_string_equal(text, "gemm-1x1/mr14/nr32/split-mb-rows");
    assert_int_equal(dlb_candidate_parse(&tiled, "direct", &parsed, &error), DLB_OK);
    assert_int_equal(parsed.tile[0], 0);
}

static void refuse_candidate(const char *text, const char *words)
{
    struct dlb_candidate candidate = {.algorithm = 2}, before = candidate;
    char copy[256], *rest = copy, *word;
    if (dlb_candidate_parse(&tiled, text, &candidate, &error) != DLB_INVALID)
        fail_msg("'%s' was not refused", text);
    assert_memory_equal(&candidate, &before, sizeof before);
    assert_int_equal(error.text[strlen(error.text) - 1], '.');
    strcpy(copy, words);
    while ((word = strsep(&rest, "|")))
        if (!strstr(error.text, word))
            fail_msg("'%s': no '%s' in: %s", text, word, error.text);
}

static void test_refused_candidates(void **state)
{
    (void)state;
    refuse_candidate("", "unknown algorithm ''|direct, gemm-1x1, winograd");
    refuse_candidate("dircet/mr4", "'dircet'|did you mean 'direct'");
    refuse_candidate("direct/mx4",
                     "character 8|'mx4'|did you mean 'mr'|mr, nr, split, kc");
    refuse_candidate("direct/mr4/", "character 12|''");
    refuse_candidate("direct//mr4", "character 8");
    refuse_candidate("direct/mr", "'mr'|whole number from 1");
    refuse_candidate("direct/mr0", "'mr0'|whole number from 1");
    refuse_candidate("direct/mr-4", "'mr-4'|whole number from 1");
    refuse_candidate("direct/mr4x", "'mr4x'|whole number from 1");
    refuse_candidate("direct/mr4294967297", "whole number from 1");
    refuse_candidate("direct/mr4/mr4", "character 12|'mr' is given twice");
    refuse_candidate("direct/split-row", "'split-row'|mb, mb-rows, 2d");
    refuse_candidate("direct/split-mb-row", "did you mean 'mb-rows'");
    refuse_candidate("direct/split1", "split-|mb, mb-rows, 2d");
    char longest[600];
    memset(longest, 'd', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    refuse_candidate(longest, "255");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_pass_is_kept),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_refused_tokens),
        cmocka_unit_test(test_refused_problems),
        cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_complete_checks_ranges),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_random_bytes),
        cmocka_unit_test(test_candidates),
        cmocka_unit_test(test_refused_candidates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
