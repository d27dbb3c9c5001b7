/*
 * The only place that prints errors and exits.
 */
#include "claims/command.h"
#include "exit.h"
#include "judge/compare.h"
#include "judge/history.h"
#include "machine/topology.h"
#include "measure/checkup.h"
#include "measure/session.h"
#include "measure/study.h"
#include "ops.h"
#include "options.h"
#include "record/columns.h"
#include "record/export.h"
#include "suite/suite.h"
#include "tune/replay.h"

#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static volatile int stop;

/* The first Ctrl-C finishes the row in flight, the second ends the process at once. */
static void on_interrupt(int number)
{
    static const char text[] =
        "\nFinishing the row in flight; press Ctrl-C again to stop at once.\n";
    stop = 1;
    ssize_t ignored = write(STDERR_FILENO, text, sizeof text - 1);
    (void)ignored;
    signal(number, SIG_DFL);
}

static int fail(const struct dlb_error *error, int exit_status)
{
    fprintf(stderr, "dlbench: %s\n", error->text);
    return exit_status;
}

static struct dlb_session_io session_io(int argc, char **argv)
{
    static char name[] = "./dlbench";
    argv[0] = name; /* what the manifest shows, and not where this copy lies */
    return (struct dlb_session_io){.out = stdout,
                                   .progress = stderr,
                                   .stop = &stop,
                                   .argc = argc,
                                   .argv = argv,
                                   .operators = dlb_operators,
                                   .operators_n = dlb_operators_n};
}

static int bench(const struct dlb_options *options, int argc, char **argv)
{
    struct dlb_error error = {0};
    int exit_status = DLB_EXIT_USAGE;
    struct dlb_session_io io = session_io(argc, argv);
    signal(SIGINT, on_interrupt);
    signal(SIGTERM, on_interrupt);
    if (dlb_session_run(options, &io, &exit_status, &error))
        return fail(&error, exit_status);
    return exit_status;
}

static int compare(const struct dlb_options *options)
{
    struct dlb_error error = {0};
    int exit_status = DLB_EXIT_USAGE;
    struct dlb_compare_io io = {
        .out = stdout, .notes = stderr, .stop = &stop, .rerun = dlb_rerun_self};
    if (options->confirm) { /* else there is nothing to finish */
        signal(SIGINT, on_interrupt);
        signal(SIGTERM, on_interrupt);
    }
    if (dlb_compare_run(options, &io, &exit_status, &error))
        return fail(&error, exit_status);
    return exit_status;
}

static int with_topology(const struct dlb_options *options)
{
    struct dlb_error error = {0};
    struct dlb_topology *topology = NULL;
    enum dlb_status status = DLB_OK;
    if (dlb_topology_load(options->topology, &topology, &error))
        return fail(&error, DLB_EXIT_USAGE);
    if (options->command == DLB_COMMAND_TOPOLOGY)
        dlb_topology_print(topology, stdout);
    else
        status = dlb_checkup_run(topology, options, stdout, &error);
    dlb_topology_release(topology);
    return status ? fail(&error, DLB_EXIT_USAGE) : DLB_EXIT_OK;
}

/* The keys of an operator's shapes, as their values are written. */
static void list_dims(const struct dlb_op *op)
{
    printf("  passes    ");
    for (int pass = 0; pass < DLB_PASS_COUNT; pass++)
        if (op->passes & 1u << pass)
            printf("%s ", dlb_pass_names[pass]);
    printf("\n");
    for (int d = 0; d < op->dims_n; d++) {
        const struct dlb_dim_def *def = &op->dims[d];
        printf("  %-9s %s", def->key, def->meaning);
        for (int v = 0; def->names && v <= def->max; v++)
            printf("%s%s-%s", v ? ", " : ": ", def->key, def->names[v]);
        printf("\n");
    }
}

static void list_ops(void)
{
    for (int i = 0; i < dlb_operators_n; i++) {
        char shape[DLB_SHAPE_MAX] = "";
        struct dlb_suite suite = {0};
        printf("%s: %s\n", dlb_operators[i].op->name, dlb_operators[i].op->summary);
        if (!dlb_suite_read_default(&dlb_operators[i], &suite, NULL))
            dlb_descriptor_format(dlb_operators[i].op, &suite.cases[0].problem, shape);
        printf("  suite     %s, of shapes as %s\n", dlb_operators[i].suite, shape);
        dlb_suite_release(&suite);
        list_dims(dlb_operators[i].op);
    }
}

static void list_tiles(void)
{
    for (int i = 0; i < dlb_operators_n; i++) {
        const struct dlb_op *op = dlb_operators[i].op;
        printf("%s\n  algorithms:", op->name);
        for (int a = 0; a < op->algorithms_n; a++)
            printf(" %s", op->algorithms[a]);
        printf("\n");
        for (int t = 0; t < op->tiles_n; t++)
            printf("  %-8s %s\n", op->tiles[t].key, op->tiles[t].meaning);
    }
}

static void list_suites(void)
{
    dlb_suites_print(stdout);
}

static void list_isa(void)
{
    for (int isa = 0; isa < DLB_ISA_COUNT; isa++)
        printf("%-8s %s\n", dlb_isa_name(isa),
               dlb_isa_usable(isa) ? "usable here" : "not usable here");
}

static void list_columns(void)
{
    dlb_columns_print(stdout, false);
}
static void list_columns_markdown(void)
{
    dlb_columns_print(stdout, true);
}

static const struct {
    const char *what;
    void (*print)(void);
} lists[] = {
    {"ops", list_ops},         {"suites", list_suites},
    {"tiles", list_tiles},     {"isa", list_isa},
    {"columns", list_columns}, {"columns-markdown", list_columns_markdown},
};

static int list_space(const struct dlb_options *options)
{
    struct dlb_error error = {0};
    struct dlb_session_io io = {
        .out = stdout, .operators = dlb_operators, .operators_n = dlb_operators_n};
    return dlb_session_tiles(options, &io, &error) ? fail(&error, DLB_EXIT_USAGE)
                                                   : DLB_EXIT_OK;
}

static int list(const struct dlb_options *options)
{
    struct dlb_error error = {0};
    const char *what = options->words_n ? options->words[0] : "ops";
    if (!strcmp(what, "claims"))
        return dlb_claims_list(stdout, &error) ? fail(&error, DLB_EXIT_USAGE)
                                               : DLB_EXIT_OK;
    if (options->shapes_n || options->suite)
        return list_space(options);
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        if (strcmp(lists[i].what, what))
            continue;
        lists[i].print();
        return DLB_EXIT_OK;
    }
    return DLB_EXIT_USAGE;
}

static int history(const struct dlb_options *options)
{
    struct dlb_error error = {0};
    struct dlb_history history;
    enum dlb_status status =
        dlb_history_make(options->words, options->words_n, &history, &error);
    if (!status)
        status = dlb_history_print(&history, options->format ? options->format : "text",
                                   stdout, &error);
    dlb_history_release(&history);
    return status ? fail(&error, DLB_EXIT_USAGE) : DLB_EXIT_OK;
}

static int export(const struct dlb_options *options)
{
    struct dlb_error error = {0};
    if (dlb_export_write(options->words[0], options->words + 1, options->words_n - 1,
                         &error))
        return fail(&error, DLB_EXIT_USAGE);
    return DLB_EXIT_OK;
}

static int study(const struct dlb_options *options, int argc, char **argv)
{
    struct dlb_error error = {0};
    int exit_status = DLB_EXIT_USAGE;
    struct dlb_session_io io = session_io(argc, argv);
    signal(SIGINT, on_interrupt);
    signal(SIGTERM, on_interrupt);
    if (dlb_study_run(options, &io, dlb_rerun_self, NULL, &exit_status, &error))
        return fail(&error, exit_status);
    return exit_status;
}

static int claims(const struct dlb_options *options, int argc, char **argv)
{
    struct dlb_error error = {0};
    int exit_status = DLB_EXIT_USAGE;
    struct dlb_session_io io = session_io(argc, argv);
    signal(SIGINT, on_interrupt);
    signal(SIGTERM, on_interrupt);
    if (dlb_claims_run(options, &io, &exit_status, &error))
        return fail(&error, exit_status);
    return exit_status;
}

static int tune(const struct dlb_options *options, int argc, char **argv)
{
    struct dlb_error error = {0};
    if (options->study)
        return study(options, argc, argv);
    if (dlb_replay_run(options->replay, options->budget_seconds, options->quiet, stdout,
                       &error))
        return fail(&error, DLB_EXIT_USAGE);
    return DLB_EXIT_OK;
}

static int run_command(const struct dlb_options *options, int argc, char **argv)
{
    switch (options->command) {
    case DLB_COMMAND_BENCH:
        return bench(options, argc, argv);
    case DLB_COMMAND_DOCTOR:
    case DLB_COMMAND_TOPOLOGY:
        return with_topology(options);
    case DLB_COMMAND_LIST:
        return list(options);
    case DLB_COMMAND_COMPARE:
        return compare(options);
    case DLB_COMMAND_HISTORY:
        return history(options);
    case DLB_COMMAND_EXPORT:
        return export(options);
    case DLB_COMMAND_TUNE:
        return tune(options, argc, argv);
    case DLB_COMMAND_CLAIMS:
        return claims(options, argc, argv);
    case DLB_COMMAND_HELP:
        dlb_options_help(stdout);
        return DLB_EXIT_OK;
    case DLB_COMMAND_VERSION:
        printf("dlbench %s, oneDNN %s\n", DLBENCH_VERSION,
               dlb_onednn_version() ? dlb_onednn_version() : "not in this build");
        return DLB_EXIT_OK;
    }
    return DLB_EXIT_USAGE;
}

int main(int argc, char **argv)
{
    struct dlb_options options;
    struct dlb_error error = {0};
    setlocale(LC_CTYPE, "");
    if (dlb_options_parse(argc, argv, &options, &error))
        return fail(&error, DLB_EXIT_USAGE);
    int exit_status = run_command(&options, argc, argv);
    if (fflush(stdout) || ferror(stdout)) {
        dlb_fail(&error, DLB_IO,
                 "The report could not be written to standard output: %s.",
                 strerror(errno));
        return fail(&error, exit_status ? exit_status : DLB_EXIT_INCOMPLETE);
    }
    return exit_status;
}
