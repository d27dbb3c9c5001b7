#include "options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct dlb_options options;
static struct dlb_error error;

/* Parses a command line written with single spaces. */
static enum dlb_status parse(const char *line)
{
    static char copy[4096];
    char *argv[600], *rest = copy;
    int argc = 0;
    snprintf(copy, sizeof copy, "dlbench%s%s", *line ? " " : "", line);
    while (rest)
        argv[argc++] = strsep(&rest, " ");
    error.text[0] = '\0';
    return dlb_options_parse(argc, argv, &options, &error);
}

static void accept(const char *line)
{
    enum dlb_status status = parse(line);
    if (status)
        fail_msg("'%s' was refused: %s", line, error.text);
    assert_string_equal(error.text, "");
}

/* Refused with a whole sentence that holds all of the words (separated by |). */
static void refuse(const char *line, const char *words)
{
    char copy[256], *rest = copy, *word;
    if (parse(line) != DLB_INVALID)
        fail_msg("'%s' was not refused", line);
    assert_int_equal(error.text[strlen(error.text) - 1], '.');
    strcpy(copy, words);
    while ((word = strsep(&rest, "|")))
        if (!strstr(error.text, word))
            fail_msg("'%s': no '%s' in: %s", line, word, error.text);
}

static void test_empty(void **state)
{
    (void)state;
    accept("");
    assert_int_equal(options.command, DLB_COMMAND_BENCH);
    assert_null(options.op);
    assert_false(options.sweep);
}

static void test_every_field(void **state)
{
    (void)state;
    accept("--op conv --pass fwd --shape ic3 --shape=ic4 --mb 1,2 "
           "--threads=1,cores --impl native,naive --isa avx2 --accuracy winograd "
           "--cache-state cold --budget 1.5 --seed=7 --oversubscribe --check "
           "--check-determinism --out dir --quiet --candidate direct/mr4");
    assert_string_equal(options.op, "conv");
    assert_string_equal(options.pass, "fwd");
    assert_int_equal(options.shapes_n, 2);
    assert_string_equal(options.shapes[0], "ic3");
    assert_string_equal(options.shapes[1], "ic4");
    assert_string_equal(options.mb, "1,2");
    assert_string_equal(options.threads, "1,cores");
    assert_string_equal(options.impl, "native,naive");
    assert_string_equal(options.isa, "avx2");
    assert_string_equal(options.accuracy, "winograd");
    assert_string_equal(options.cache_state, "cold");
    assert_true(options.budget_seconds == 1.5);
    assert_int_equal(options.seed, 7);
    assert_string_equal(options.out, "dir");
    assert_string_equal(options.candidate, "direct/mr4");
    assert_true(options.oversubscribe && options.check && options.check_determinism &&
                options.quiet);
    assert_false(options.sweep || options.dry_run);
    accept("--dry-run --sweep --topology pack:2");
    assert_true(options.sweep && options.dry_run);
    assert_string_equal(options.topology, "pack:2");
    accept("--resume results/x --quiet --export gbench=a=b.json");
    assert_string_equal(options.resume, "results/x");
    assert_string_equal(options.export_to, "gbench=a=b.json");
    accept("--suite s.csv");
    assert_string_equal(options.suite, "s.csv");
}

static void test_commands(void **state)
{
    (void)state;
    accept("doctor --quiet");
    assert_int_equal(options.command, DLB_COMMAND_DOCTOR);
    accept("--topology pack:2 topology");
    assert_int_equal(options.command, DLB_COMMAND_TOPOLOGY);
    accept("list");
    assert_int_equal(options.command, DLB_COMMAND_LIST);
    assert_int_equal(options.words_n, 0);
    accept("list tiles --op conv");
    assert_string_equal(options.words[0], "tiles");
    accept("history --format md night-1 nights");
    assert_int_equal(options.command, DLB_COMMAND_HISTORY);
    assert_int_equal(options.words_n, 2);
    assert_string_equal(options.words[1], "nights");
    assert_string_equal(options.format, "md");
    accept("export bmf=a.json night-1");
    assert_int_equal(options.command, DLB_COMMAND_EXPORT);
    assert_string_equal(options.words[0], "bmf=a.json");
    refuse("history", "'dlbench history RUN...'");
    refuse("export bmf=a.json", "'dlbench export KIND=FILE RUN...'");
    refuse("history x --format yaml", "'yaml'|text, md, csv, json");
    refuse("history x --sweep", "--sweep|'history'");
    refuse("--format md", "--format|dlbench compare --format");
    accept("help");
    assert_int_equal(options.command, DLB_COMMAND_HELP);
    accept("-h");
    assert_int_equal(options.command, DLB_COMMAND_HELP);
    accept("--op conv --help");
    assert_int_equal(options.command, DLB_COMMAND_HELP);
    accept("doctor --version");
    assert_int_equal(options.command, DLB_COMMAND_VERSION);
    accept("-- list ops");
    assert_int_equal(options.command, DLB_COMMAND_LIST);
    accept("compare base new1 new2");
    assert_int_equal(options.command, DLB_COMMAND_COMPARE);
    assert_int_equal(options.words_n, 3);
    assert_string_equal(options.words[2], "new2");
    accept(
        "compare --base a --base=b --threshold 2.5 --confirm 5 --format md new --seed 3");
    assert_int_equal(options.bases_n, 2);
    assert_string_equal(options.bases[1], "b");
    assert_string_equal(options.format, "md");
    assert_true(options.threshold_percent == 2.5 && options.confirm == 5);
    refuse("compare", "dlbench compare BASE NEW");
    refuse("compare a b --sweep", "--sweep|'compare'");
    refuse("--threshold 5", "--threshold|dlbench compare --threshold");
    refuse("docter", "'docter'|did you mean 'doctor'");
    refuse("frobnicate", "'frobnicate'|doctor, topology, list, compare, history, export, "
                         "tune, claims, help");
    refuse("-- --op", "'--op'");
    refuse("list opps", "'opps'|did you mean 'ops'|ops, suites, tiles, isa, columns");
    refuse("list ops tiles", "'tiles' is too many");
    refuse("doctor now", "'now'|remove");
    refuse("doctor --sweep", "--sweep|'doctor'");
    refuse("list --sweep", "--sweep|'list'");
    accept("list tiles --op conv --shape ic3 --threads 2");
    assert_int_equal(options.shapes_n, 1);
    refuse("list --shape ic3", "--shape|list tiles");
    refuse("list ops --op conv --shape ic3", "--shape|list tiles");
    refuse("list tiles --op conv --threads 2", "--threads|list tiles");
    refuse("list tiles --shape ic3", "--shape|one operator");
    accept("tune --replay trials.csv --budget 2");
    assert_int_equal(options.command, DLB_COMMAND_TUNE);
    assert_string_equal(options.replay, "trials.csv");
    refuse("tune", "'tune'|--study|--replay FILE");
    refuse("tune --replay trials.csv --study", "--study and --replay contradict");
    refuse("tune --replay trials.csv --op conv", "--replay and --op contradict");
    refuse("tune --study --shape mb1ic8ih8oc8kh3ph1", "--shape belongs to one operator");
    accept("tune --study --op conv --shape mb1ic8ih8oc8kh3ph1 --budget 9 --out x");
    accept("claims --quick --claim relu-cheaper --threads 1 --out x");
    accept("claims --from x");
    refuse("claims --from x --out y", "--from and --out contradict");
    refuse("claims --from x --quick", "--from and --quick contradict");
    refuse("claims --op conv", "--op has no meaning for 'claims'");
    refuse("claims nothing", "'claims' takes no word");
    refuse("--replay trials.csv", "--replay|dlbench tune --replay");
}

static void test_bad_options(void **state)
{
    (void)state;
    refuse("--treads 2", "'--treads'|did you mean '--threads'");
    refuse("--treads=2", "'--treads'|did you mean '--threads'");
    refuse("--xyzzyx", "'--xyzzyx'|--help");
    refuse("-x", "'-x'");
    refuse("-", "'-'");
    refuse("--=3", "'--'");
    refuse("--op", "--op needs a value");
    refuse("--op --sweep", "--op needs a value");
    refuse("--op=", "--op needs a value");
    refuse("--sweep=yes", "--sweep takes no value|'=yes'");
    refuse("--op conv --op lstm", "--op is given twice");
    refuse("--pass forward", "--pass|'forward'|fwd_train");
    refuse("--pass bwd_dat", "did you mean 'bwd_data'");
    refuse("--impl native,onednm", "'onednm'|did you mean 'onednn'");
    refuse("--impl native,", "''|native, onednn, naive");
    refuse("--accuracy fast", "exact, winograd");
    refuse("--cache-state warm", "hot");
    refuse("--export gbench", "KIND=FILE");
    refuse("--export =f", "KIND=FILE");
    refuse("--export gbench=", "KIND=FILE");
    refuse("--op \033[31m --bogus\033", "'--bogus?'");
}

static void test_bad_numbers(void **state)
{
    static const char *const budgets[] = {"0", "-1", "ten", "nan", "inf", "1e999", "5s"};
    static const char *const seeds[] = {"-1", "x", "1.5", "9223372036854775808", "7x"};
    char line[64];
    (void)state;
    for (size_t i = 0; i < sizeof budgets / sizeof *budgets; i++) {
        snprintf(line, sizeof line, "--budget %s", budgets[i]);
        refuse(line, "--budget|seconds above 0");
    }
    for (size_t i = 0; i < sizeof seeds / sizeof *seeds; i++) {
        snprintf(line, sizeof line, "--seed %s", seeds[i]);
        refuse(line, "--seed|whole number");
    }
}

static void test_compare_numbers(void **state)
{
    (void)state;
    refuse("compare a b --threshold 0", "--threshold|'0'|percent");
    refuse("compare a b --threshold -3", "--threshold|'-3'");
    refuse("compare a b --threshold 5%", "'5%'");
    refuse("compare a b --threshold 100", "below 100");
    refuse("compare a b --threshold nan", "'nan'");
    refuse("compare a b --confirm 0", "--confirm|'0'|1 to 100");
    refuse("compare a b --confirm many", "'many'");
    refuse("compare a b --confirm 101", "'101'");
    refuse("compare a b --format markdown", "'markdown'|text, md, csv, json");
    refuse("compare a b --threshold 5 --threshold 6", "given twice");
}

static void test_contradictions(void **state)
{
    (void)state;
    refuse("--resume r --op conv", "--resume and --op contradict");
    refuse("--threads 2 --resume=r", "--resume and --threads contradict");
    refuse("--resume r --out d", "--resume and --out contradict");
    refuse("--resume r --dry-run", "--resume and --dry-run contradict");
    refuse("--op conv --sweep --candidate direct", "--sweep and --candidate contradict");
    refuse("--dry-run --check", "--dry-run and --check contradict");
    refuse("--check --export gbench=f", "--check and --export contradict");
    refuse("--shape ic3", "--shape|--op conv");
    refuse("--shape ic3 --op conv,lstm", "--shape|--op conv");
    refuse("--candidate direct --op all", "--candidate|--op conv");
    refuse("--topology pack:2", "--topology|--dry-run");
}

static void test_too_many_shapes(void **state)
{
    char line[4096] = "--op conv";
    (void)state;
    for (int i = 0; i < DLB_SHAPES_MAX; i++)
        strcat(line, " --shape=x");
    accept(line);
    assert_int_equal(options.shapes_n, DLB_SHAPES_MAX);
    strcat(line, " --shape=x");
    refuse(line, "--shape|--suite");
}

/* Every option of the help is one that the parser knows, and lines keep to 80 columns. */
static void test_help(void **state)
{
    char *text, *rest, *line;
    size_t size;
    int options_n = 0;
    (void)state;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    dlb_options_help(out);
    fclose(out);
    for (rest = text; (line = strsep(&rest, "\n"));) {
        char name[64];
        if (strlen(line) > 100)
            fail_msg("longer than 100 columns: %s", line);
        if (strncmp(line, "  --", 4) || sscanf(line + 4, "%60[a-z-]", name) != 1)
            continue;
        char typed[80];
        snprintf(typed, sizeof typed, "--%s=?", name);
        parse(typed);
        assert_null(strstr(error.text, "Unknown"));
        options_n++;
    }
    assert_true(options_n >= 25);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),           cmocka_unit_test(test_every_field),
        cmocka_unit_test(test_commands),        cmocka_unit_test(test_bad_options),
        cmocka_unit_test(test_bad_numbers),     cmocka_unit_test(test_contradictions),
        cmocka_unit_test(test_too_many_shapes), cmocka_unit_test(test_help),
        cmocka_unit_test(test_compare_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
