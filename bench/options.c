#include "options.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { QUOTE_MAX = 80, LIST_MAX = 256, HELP_COLUMN = 26 };

enum kind {
    FLAG,    /* bool */
    TEXT,    /* const char *, as it stands */
    SHAPE,   /* appended to shapes */
    BASE,    /* appended to bases */
    WORD,    /* const char *, one of words */
    WORDS,   /* const char *, a comma list of words */
    SECONDS, /* double above 0 */
    PERCENT, /* double above 0, below 100 */
    WHOLE,   /* int64_t from 0 */
    ROUNDS,  /* int64_t from 1 to 100 */
    EXPORT,  /* const char *, KIND=FILE */
    COMMAND  /* sets the command */
};

enum {
    BENCH = 1 << DLB_COMMAND_BENCH,
    DOCTOR = 1 << DLB_COMMAND_DOCTOR,
    TOPOLOGY = 1 << DLB_COMMAND_TOPOLOGY,
    LIST = 1 << DLB_COMMAND_LIST,
    COMPARE = 1 << DLB_COMMAND_COMPARE,
    HISTORY = 1 << DLB_COMMAND_HISTORY,
    TUNE = 1 << DLB_COMMAND_TUNE,
    CLAIMS = 1 << DLB_COMMAND_CLAIMS,
    ALL = ~0
};

struct option {
    const char *group; /* heading of the help, on the first of each group */
    const char *name, *value, *help;
    enum kind kind;
    size_t offset; /* in struct dlb_options; of COMMAND the command itself */
    unsigned commands;
    bool fixed_by_run; /* a resumed run goes on as it was started */
    const char *const *words;
};

static const char *const passes[] = {"fwd", "fwd_train", "bwd_data", "bwd_weights",
                                     "bwd", "all",       NULL};
static const char *const impls[] = {"native", "onednn", "naive", NULL};
static const char *const accuracies[] = {"exact", "winograd", NULL};
static const char *const cache_states[] = {"hot", "cold", NULL};
static const char *const formats[] = {"text", "md", "csv", "json", NULL};
static const char *const topics[] = {"ops",     "suites",           "tiles",  "isa",
                                     "columns", "columns-markdown", "claims", NULL};

#define AT(field) offsetof(struct dlb_options, field)
static const struct option table[] = {
    {"What to run", "op", "NAME,...", "operators, or all", TEXT, AT(op),
     BENCH | TUNE | LIST, true, NULL},
    {NULL, "pass", "PASS", "fwd (default), fwd_train, bwd_data, bwd_weights, bwd or all",
     WORD, AT(pass), BENCH | TUNE | LIST, true, passes},
    {NULL, "suite", "FILE",
     "CSV of problems with the header op,name,count,shape;\nwithout it and --shape: the "
     "operator's suite in configs/",
     TEXT, AT(suite), BENCH | TUNE | LIST, true, NULL},
    {NULL, "shape", "DESC",
     "one problem, as mb1ic64ih56oc64kh3ph1 (syntax of oneDNN's\nbenchdnn); may repeat",
     SHAPE, AT(shapes), BENCH | TUNE | LIST, true, NULL},
    {NULL, "mb", "LIST", "minibatches to run every problem with, as 1,16", TEXT, AT(mb),
     BENCH | TUNE | LIST, true, NULL},
    {NULL, "sweep", NULL, "tune the tiles and sweep the thread sets", FLAG, AT(sweep),
     BENCH, true, NULL},
    {NULL, "candidate", "TEXT",
     "this algorithm and these tiles only, as direct/mr14/nr32", TEXT, AT(candidate),
     BENCH, true, NULL},
    {NULL, "cache", "FILE",
     "where tuned tiles are kept and looked for;\ndefault: ~/.cache/dlbench/tuning.csv",
     TEXT, AT(cache), BENCH, true, NULL},
    {NULL, "no-cache", NULL, "keep none and look for none", FLAG, AT(no_cache), BENCH,
     true, NULL},
    {"How to run it", "threads", "LIST",
     "counts and names of thread sets, as 1,2,cores,smt;\ndefault: 1, 2, 4, ... and all "
     "usable cores",
     TEXT, AT(threads), BENCH | TUNE | CLAIMS | DOCTOR | LIST, true, NULL},
    {NULL, "impl", "LIST", "of native, onednn, naive; default: native,onednn in pairs",
     WORDS, AT(impl), BENCH, true, impls},
    {NULL, "isa", "NAME", "cap the instruction set; dlbench list isa names them", TEXT,
     AT(isa), BENCH | TUNE | CLAIMS | DOCTOR | LIST, true, NULL},
    {NULL, "accuracy", "CLASS",
     "exact (default), or winograd: reduced-accuracy algorithms\nare admitted on both "
     "sides",
     WORD, AT(accuracy), BENCH | TUNE | LIST, true, accuracies},
    {NULL, "cache-state", "STATE", "hot (default) or cold", WORD, AT(cache_state), BENCH,
     true, cache_states},
    {NULL, "budget", "SECONDS", "for the whole command; an estimate is printed first",
     SECONDS, AT(budget_seconds), BENCH | DOCTOR | TUNE, false, NULL},
    {NULL, "seed", "N", "of fills, random order and resampling; default 0", WHOLE,
     AT(seed), BENCH | TUNE | CLAIMS | COMPARE, true, NULL},
    {NULL, "topology", "SPEC",
     "another machine, hwloc XML or \"pack:2 core:8 pu:2\"; with\n--dry-run or the "
     "command "
     "topology",
     TEXT, AT(topology), BENCH | TOPOLOGY | LIST, true, NULL},
    {NULL, "oversubscribe", NULL, "allow more threads than usable CPUs", FLAG,
     AT(oversubscribe), BENCH | DOCTOR | LIST, false, NULL},
    {"What to check", "check", NULL, "verify only, time nothing", FLAG, AT(check), BENCH,
     true, NULL},
    {NULL, "check-determinism", NULL, "prove that two runs are bitwise equal", FLAG,
     AT(check_determinism), BENCH, true, NULL},
    {NULL, "aa", NULL, "time the native kernel beside itself: any difference is noise",
     FLAG, AT(aa), BENCH, true, NULL},
    {NULL, "dry-run", NULL, "print the plan and do nothing", FLAG, AT(dry_run), BENCH,
     true, NULL},
    {NULL, "claim", "ID,...", "these claims only; dlbench list claims names them", TEXT,
     AT(claim), CLAIMS, true, NULL},
    {NULL, "quick", NULL, "fewer conditions and less time for each", FLAG, AT(quick),
     CLAIMS, true, NULL},
    {NULL, "data", "DIR",
     "learn from the images in this folder, IDX files as MNIST's;\ndefault: pictures "
     "that "
     "are made",
     TEXT, AT(data), CLAIMS, true, NULL},
    {NULL, "from", "RUN", "judge the observations of this run again; measure nothing",
     TEXT, AT(from), CLAIMS, true, NULL},
    {NULL, "study", NULL,
     "how far the search's winners are from the best of all\nlegal candidates; without "
     "problems: of configs/study.csv",
     FLAG, AT(study), TUNE, true, NULL},
    {NULL, "replay", "FILE",
     "the search on the times of a trials.csv, or of the run\nthat holds it; "
     "nothing is timed",
     TEXT, AT(replay), TUNE, true, NULL},
    {"What comes out", "out", "DIR", "folder of this run; default: a new one in results/",
     TEXT, AT(out), BENCH | TUNE | CLAIMS, true, NULL},
    {NULL, "resume", "RUN", "go on with an interrupted run, measuring nothing twice",
     TEXT, AT(resume), BENCH | CLAIMS, false, NULL},
    {NULL, "export", "KIND=FILE", "also write the results in another tool's format",
     EXPORT, AT(export_to), BENCH, false, NULL},
    {NULL, "format", "NAME", "of the report: text (default), md, csv or json", WORD,
     AT(format), COMPARE | HISTORY, false, formats},
    {NULL, "quiet", NULL, "results only, no progress", FLAG, AT(quiet), ALL, false, NULL},
    {"How to compare", "base", "RUN",
     "one more run of BASE; then all words are NEW's;\nmay "
     "repeat",
     BASE, AT(bases), COMPARE, false, NULL},
    {NULL, "threshold", "PERCENT",
     "slowdowns from here on are regressions; default 5,\nand the noise floor at least",
     PERCENT, AT(threshold_percent), COMPARE, false, NULL},
    {NULL, "confirm", "N",
     "run the suspects again, N times, and call regressions\nonly what holds; 5 is a "
     "good "
     "number",
     ROUNDS, AT(confirm), COMPARE, false, NULL},
    {"About", "help", NULL, "this text", COMMAND, DLB_COMMAND_HELP, ALL, false, NULL},
    {NULL, "version", NULL, "versions of dlbench and of oneDNN", COMMAND,
     DLB_COMMAND_VERSION, ALL, false, NULL},
};
#undef AT
enum { OPTIONS = sizeof table / sizeof *table };

static const struct command {
    const char *name, *words, *help;
    enum dlb_command command;
    const char *const *topics; /* what one word after the command may be */
    int words_min;             /* above 0: so many words of the user's or more */
} commands[] = {
    {"doctor", "", "what makes results untrustworthy here, and the remedy",
     DLB_COMMAND_DOCTOR, NULL, 0},
    {"topology", "", "the machine as seen, and its thread sets", DLB_COMMAND_TOPOLOGY,
     NULL, 0},
    {"list", " [TOPIC]",
     "ops, suites, tiles, isa, columns, columns-markdown or claims;\n"
     "list tiles --op conv --shape DESC: a problem's search space",
     DLB_COMMAND_LIST, topics, 0},
    {"compare", " BASE NEW...",
     "is NEW slower than BASE?  Runs are folders or results.csv\nfiles; several NEW are "
     "repeats.  Runs of two machines are\nput side by side",
     DLB_COMMAND_COMPARE, NULL, 1},
    {"history", " RUN...",
     "when cases became slower or faster, over many runs:\nfolders of runs, or folders "
     "that "
     "hold such",
     DLB_COMMAND_HISTORY, NULL, 1},
    {"export", " KIND=FILE RUN...",
     "finished runs in another tool's format: gbench,\ngbench-median, action, bmf or "
     "otava",
     DLB_COMMAND_EXPORT, NULL, 2},
    {"tune", " ...", "how good the search for tiles is", DLB_COMMAND_TUNE, NULL, 0},
    {"claims", " ...",
     "do the performance claims of well-known answers on deep\nlearning hold here?",
     DLB_COMMAND_CLAIMS, NULL, 0},
    {"help", "", "this text", DLB_COMMAND_HELP, NULL, 0},
};
enum { COMMANDS = sizeof commands / sizeof *commands };

/* Options that cannot stand together; the sentence goes on after both names. */
static const struct {
    const char *a, *b, *why;
} contradictions[] = {
    {"shape", "suite", "one names the problems, the other a file of them"},
    {"sweep", "candidate", "one searches the candidates, the other names one"},
    {"cache", "no-cache", "one names the tuning cache, the other goes without"},
    {"from", "quick", "one judges what was measured, the other measures"},
    {"from", "data", "one judges what was measured, the other measures"},
    {"from", "out", "the verdicts go into the folder of the run that is judged"},
    {"study", "replay", "one times the candidates, the other nothing"},
    {"dry-run", "check", "one does nothing, the other verifies"},
    {"dry-run", "check-determinism", "one does nothing, the other runs everything twice"},
    {"dry-run", "export", "there are no results to export"},
    {"check", "aa", "one times nothing, the other times twice"},
    {"check", "export", "there are no times to export"},
};

static int words_count(const char *const *words)
{
    int n = 0;
    while (words[n])
        n++;
    return n;
}

static int option_find(const char *name, size_t length)
{
    for (int i = 0; i < OPTIONS; i++)
        if (strlen(table[i].name) == length && !strncmp(table[i].name, name, length))
            return i;
    return -1;
}

static enum dlb_status unknown_option(const char *argument, size_t length,
                                      struct dlb_error *error)
{
    char typed[QUOTE_MAX], quoted[QUOTE_MAX], hint[DLB_HINT_MAX];
    char dashed[OPTIONS][32];
    const char *names[OPTIONS];
    for (int i = 0; i < OPTIONS; i++) {
        snprintf(dashed[i], sizeof dashed[i], "--%s", table[i].name);
        names[i] = dashed[i];
    }
    snprintf(typed, sizeof typed, "%.*s", (int)dlb_min(length, QUOTE_MAX - 1), argument);
    return dlb_fail(error, DLB_INVALID,
                    "Unknown option '%s'%s; 'dlbench --help' lists the options.",
                    dlb_quote(typed, quoted, sizeof quoted),
                    dlb_nearest_hint(typed, names, OPTIONS, hint));
}

static enum dlb_status check_word(const struct option *option, const char *word,
                                  struct dlb_error *error)
{
    int n = words_count(option->words);
    for (int i = 0; i < n; i++)
        if (!strcmp(word, option->words[i]))
            return DLB_OK;
    char quoted[QUOTE_MAX], hint[DLB_HINT_MAX], list[LIST_MAX];
    return dlb_fail(error, DLB_INVALID, "--%s does not know '%s'%s; accepted: %s.",
                    option->name, dlb_quote(word, quoted, sizeof quoted),
                    dlb_nearest_hint(word, option->words, n, hint),
                    dlb_words_join(option->words, n, list, sizeof list));
}

static enum dlb_status check_words(const struct option *option, const char *value,
                                   struct dlb_error *error)
{
    char word[QUOTE_MAX];
    for (const char *at = value;; at++) {
        size_t length = strcspn(at, ",");
        snprintf(word, sizeof word, "%.*s", (int)dlb_min(length, QUOTE_MAX - 1), at);
        enum dlb_status status = check_word(option, word, error);
        if (status)
            return status;
        at += length;
        if (!*at)
            return DLB_OK;
    }
}

static enum dlb_status set_value(const struct option *option, const char *value,
                                 struct dlb_options *options, struct dlb_error *error)
{
    void *field = (char *)options + option->offset;
    char quoted[QUOTE_MAX], *end;
    enum dlb_status status = DLB_OK;
    dlb_quote(value, quoted, sizeof quoted);
    errno = 0;
    switch (option->kind) {
    case SHAPE:
        if (options->shapes_n == DLB_SHAPES_MAX)
            return dlb_fail(
                error, DLB_INVALID,
                "--shape is given more than %d times; put the problems into a "
                "file and name it with --suite.",
                DLB_SHAPES_MAX);
        options->shapes[options->shapes_n++] = value;
        return DLB_OK;
    case BASE:
        if (options->bases_n == DLB_BASES_MAX)
            return dlb_fail(error, DLB_INVALID, "--base is given more than %d times.",
                            DLB_BASES_MAX);
        options->bases[options->bases_n++] = value;
        return DLB_OK;
    case PERCENT:
        *(double *)field = strtod(value, &end);
        if (*end || errno || !(*(double *)field > 0) || *(double *)field >= 100)
            return dlb_fail(
                error, DLB_INVALID,
                "--%s does not take '%s'; accepted: percent above 0 and below "
                "100, as 5.",
                option->name, quoted);
        return DLB_OK;
    case ROUNDS:
        *(int64_t *)field = strtoll(value, &end, 10);
        if (*end || errno || *(int64_t *)field < 1 || *(int64_t *)field > 100)
            return dlb_fail(error, DLB_INVALID,
                            "--%s does not take '%s'; accepted: a whole number from 1 to "
                            "100.",
                            option->name, quoted);
        return DLB_OK;
    case SECONDS:
        *(double *)field = strtod(value, &end);
        if (*end || errno || !isfinite(*(double *)field) || *(double *)field <= 0)
            return dlb_fail(error, DLB_INVALID,
                            "--%s does not take '%s'; accepted: seconds above 0, as 600.",
                            option->name, quoted);
        return DLB_OK;
    case WHOLE:
        *(int64_t *)field = strtoll(value, &end, 10);
        if (*end || errno || *(int64_t *)field < 0)
            return dlb_fail(error, DLB_INVALID,
                            "--%s does not take '%s'; accepted: a whole number from 0.",
                            option->name, quoted);
        return DLB_OK;
    case EXPORT:
        end = strchr(value, '=');
        if (!end || end == value || !end[1])
            return dlb_fail(error, DLB_INVALID,
                            "--%s does not take '%s'; write KIND=FILE, as "
                            "gbench=results.json.",
                            option->name, quoted);
        break;
    case WORD:
        status = check_word(option, value, error);
        break;
    case WORDS:
        status = check_words(option, value, error);
        break;
    default:
        break;
    }
    *(const char **)field = value;
    return status;
}

static enum dlb_status set_command(const char *word, struct dlb_options *options,
                                   const struct command **command,
                                   struct dlb_error *error)
{
    const char *names[COMMANDS];
    for (int i = 0; i < COMMANDS; i++) {
        names[i] = commands[i].name;
        if (!strcmp(word, commands[i].name)) {
            *command = &commands[i];
            options->command = commands[i].command;
            return DLB_OK;
        }
    }
    char quoted[QUOTE_MAX], hint[DLB_HINT_MAX], list[LIST_MAX];
    return dlb_fail(error, DLB_INVALID,
                    "Unknown command '%s'%s; commands are %s, and options begin with --.",
                    dlb_quote(word, quoted, sizeof quoted),
                    dlb_nearest_hint(word, names, COMMANDS, hint),
                    dlb_words_join(names, COMMANDS, list, sizeof list));
}

static enum dlb_status add_word(const char *word, const struct command *command,
                                struct dlb_options *options, struct dlb_error *error)
{
    char quoted[QUOTE_MAX], hint[DLB_HINT_MAX], list[LIST_MAX];
    dlb_quote(word, quoted, sizeof quoted);
    if (command->words_min) {
        if (options->words_n == DLB_WORDS_MAX)
            return dlb_fail(error, DLB_INVALID,
                            "'%s' takes %d words at most; name a folder that holds the "
                            "runs instead.",
                            command->name, DLB_WORDS_MAX);
        options->words[options->words_n++] = word;
        return DLB_OK;
    }
    if (!command->topics)
        return dlb_fail(error, DLB_INVALID, "'%s' takes no word after it; remove '%s'.",
                        command->name, quoted);
    if (options->words_n == 1)
        return dlb_fail(error, DLB_INVALID,
                        "'%s' takes one word after it, '%s' is too many.", command->name,
                        quoted);
    int n = words_count(command->topics);
    for (int i = 0; i < n; i++)
        if (!strcmp(word, command->topics[i])) {
            options->words[options->words_n++] = word;
            return DLB_OK;
        }
    return dlb_fail(error, DLB_INVALID, "'%s' does not know '%s'%s; accepted: %s.",
                    command->name, quoted,
                    dlb_nearest_hint(word, command->topics, n, hint),
                    dlb_words_join(command->topics, n, list, sizeof list));
}

/* Reads the option at argv[*i], with its value, which may be argv[*i + 1]. */
static enum dlb_status read_option(int argc, char **argv, int *i, bool *given,
                                   struct dlb_options *options, struct dlb_error *error)
{
    const char *argument = argv[*i];
    size_t length = strcspn(argument, "=");
    const char *value = argument[length] ? argument + length + 1 : NULL;
    int found = !strcmp(argument, "-h")      ? option_find("help", 4)
                : strncmp(argument, "--", 2) ? -1
                                             : option_find(argument + 2, length - 2);
    if (found < 0)
        return unknown_option(argument, length, error);
    const struct option *option = &table[found];
    bool takes_value = option->kind != FLAG && option->kind != COMMAND;
    char quoted[QUOTE_MAX];
    if (!takes_value && value)
        return dlb_fail(error, DLB_INVALID, "--%s takes no value; remove '=%s'.",
                        option->name, dlb_quote(value, quoted, sizeof quoted));
    if (given[found] && takes_value && option->kind != SHAPE && option->kind != BASE)
        return dlb_fail(error, DLB_INVALID, "--%s is given twice; give it once.",
                        option->name);
    given[found] = true;
    if (option->kind == FLAG)
        *(bool *)((char *)options + option->offset) = true;
    if (option->kind == COMMAND)
        options->command = (enum dlb_command)option->offset;
    if (!takes_value)
        return DLB_OK;
    if (!value && *i + 1 < argc && strncmp(argv[*i + 1], "--", 2))
        value = argv[++*i];
    if (!value || !*value)
        return dlb_fail(error, DLB_INVALID, "--%s needs a value after it (--%s %s).",
                        option->name, option->name, option->value);
    return set_value(option, value, options, error);
}

static bool is_given(const bool *given, const char *name)
{
    return given[option_find(name, strlen(name))];
}

/* The first given option that asks 'list' for the space of a problem; NULL: none. */
static const char *options_of_space(const bool *given)
{
    for (int i = 0; i < OPTIONS; i++)
        if (given[i] && table[i].commands & BENCH && table[i].commands != (unsigned)ALL &&
            strcmp(table[i].name, "op"))
            return table[i].name;
    return NULL;
}

static enum dlb_status misplaced_option(const struct option *option,
                                        const struct command *command,
                                        struct dlb_error *error)
{
    int i = 0;
    if (command)
        return dlb_fail(error, DLB_INVALID, "--%s has no meaning for '%s'; remove it.",
                        option->name, command->name);
    while (!(option->commands & (1u << commands[i].command)))
        i++;
    return dlb_fail(error, DLB_INVALID,
                    "--%s belongs to the command %s; write 'dlbench %s --%s'.",
                    option->name, commands[i].name, commands[i].name, option->name);
}

static enum dlb_status check_together(const bool *given,
                                      const struct dlb_options *options,
                                      const struct command *command,
                                      struct dlb_error *error)
{
    for (int i = 0; i < OPTIONS; i++) {
        if (!given[i])
            continue;
        if (!(table[i].commands & (1u << options->command)))
            return misplaced_option(&table[i], command, error);
        if (options->resume && table[i].fixed_by_run)
            return dlb_fail(
                error, DLB_INVALID,
                "--resume and --%s contradict: a resumed run goes on with the "
                "options it was started with; remove --%s.",
                table[i].name, table[i].name);
    }
    for (size_t i = 0; i < sizeof contradictions / sizeof *contradictions; i++)
        if (is_given(given, contradictions[i].a) && is_given(given, contradictions[i].b))
            return dlb_fail(
                error, DLB_INVALID, "--%s and --%s contradict: %s; remove one of them.",
                contradictions[i].a, contradictions[i].b, contradictions[i].why);
    if (command && options->words_n < command->words_min)
        return dlb_fail(error, DLB_INVALID,
                        "'%s' needs more words; write 'dlbench %s%s'.", command->name,
                        command->name, command->words);
    if (options->command == DLB_COMMAND_TUNE && !options->replay && !options->study)
        return dlb_fail(error, DLB_INVALID,
                        "'tune' needs what to do: --study compares the search with the "
                        "whole space, --replay FILE searches again on the recorded times "
                        "of a trials.csv.");
    for (int i = 0; i < OPTIONS && options->replay; i++)
        if (given[i] && table[i].commands & BENCH && table[i].fixed_by_run)
            return dlb_fail(error, DLB_INVALID,
                            "--replay and --%s contradict: the recording says what is "
                            "searched; remove --%s.",
                            table[i].name, table[i].name);
    if (options->command == DLB_COMMAND_LIST && options_of_space(given) &&
        (!options->words_n || strcmp(options->words[0], "tiles") ||
         !(options->shapes_n || options->suite)))
        return dlb_fail(error, DLB_INVALID,
                        "'list' takes --%s only for the space of a problem; write "
                        "'dlbench list tiles --op conv --shape ...'.",
                        options_of_space(given));
    if (options->command != DLB_COMMAND_BENCH && options->command != DLB_COMMAND_LIST &&
        options->command != DLB_COMMAND_TUNE)
        return DLB_OK;
    const char *needs_op = options->shapes_n    ? "shape"
                           : options->candidate ? "candidate"
                                                : NULL;
    if (needs_op &&
        (!options->op || strchr(options->op, ',') || !strcmp(options->op, "all")))
        return dlb_fail(error, DLB_INVALID,
                        "--%s belongs to one operator; name it, as --op conv.", needs_op);
    if (options->topology && !options->dry_run && options->command == DLB_COMMAND_BENCH)
        return dlb_fail(
            error, DLB_INVALID,
            "--topology describes another machine, and nothing is timed on it; "
            "add --dry-run to see the plan.");
    return DLB_OK;
}

enum dlb_status dlb_options_parse(int argc, char **argv, struct dlb_options *options,
                                  struct dlb_error *error)
{
    bool given[OPTIONS] = {false}, only_words = false;
    const struct command *command = NULL;
    *options = (struct dlb_options){.command = DLB_COMMAND_BENCH};
    for (int i = 1; i < argc; i++) {
        enum dlb_status status;
        if (!only_words && !strcmp(argv[i], "--")) {
            only_words = true;
            continue;
        }
        if (!only_words && argv[i][0] == '-')
            status = read_option(argc, argv, &i, given, options, error);
        else if (command)
            status = add_word(argv[i], command, options, error);
        else
            status = set_command(argv[i], options, &command, error);
        if (status)
            return status;
    }
    if (is_given(given, "version") || is_given(given, "help")) {
        options->command =
            is_given(given, "help") ? DLB_COMMAND_HELP : DLB_COMMAND_VERSION;
        return DLB_OK;
    }
    return check_together(given, options, command, error);
}

/* One entry: what is typed, then the text from HELP_COLUMN on, line by line. */
static void print_entry(FILE *out, const char *typed, const char *help)
{
    bool fits = strlen(typed) <= HELP_COLUMN - 3;
    fprintf(out, "  %-*s%s", HELP_COLUMN - 3, typed, fits ? " " : "\n");
    for (const char *line = help; *line;) {
        int length = (int)strcspn(line, "\n");
        fprintf(out, "%*s%.*s\n", line == help && fits ? 0 : HELP_COLUMN, "", length,
                line);
        line += length + (line[length] == '\n');
    }
}

void dlb_options_help(FILE *out)
{
    char typed[64];
    fputs("dlbench verifies, tunes and times deep-learning kernels on this CPU, side by "
          "side with oneDNN.\n\n"
          "  dlbench [options]       the main job, as: dlbench --op conv --sweep\n",
          out);
    for (int i = 0; i < COMMANDS; i++) {
        snprintf(typed, sizeof typed, "dlbench %s%s", commands[i].name,
                 commands[i].words);
        print_entry(out, typed, commands[i].help);
    }
    for (int i = 0; i < OPTIONS; i++) {
        if (table[i].group)
            fprintf(out, "\n%s\n", table[i].group);
        snprintf(typed, sizeof typed, "--%s%s%s", table[i].name,
                 table[i].value ? " " : "", table[i].value ? table[i].value : "");
        print_entry(out, typed, table[i].help);
    }
    fputs("\nExit status: 0 fine, 1 a regression, 2 bad input, 3 a kernel computed "
          "something "
          "wrong,\n4 too noisy to conclude, 5 the machine changed, 6 interrupted or "
          "incomplete.\n",
          out);
}
