#include "judge/compare.h"

#include "exit.h"
#include "judge/confirm.h"
#include "judge/report.h"
#include "machine/environment.h"

#include <string.h>

static const double default_threshold = 0.05;

/* BASE, --base …; the other words are NEW. */
struct sides {
    const char *base[DLB_WORDS_MAX], *const *fresh;
    int bases, freshes;
};

static enum dlb_status find_sides(const struct dlb_options *options, struct sides *sides,
                                  struct dlb_error *error)
{
    int first = options->bases_n ? 0 : 1;
    if (options->words_n <= first)
        return dlb_fail(
            error, DLB_INVALID,
            "'compare' needs %s after it: run folders or results.csv files, as "
            "dlbench compare BASE NEW; '--help' says more.",
            first ? "a BASE and at least one NEW" : "at least one NEW");
    for (int i = 0; i < options->bases_n; i++)
        sides->base[sides->bases++] = options->bases[i];
    if (first)
        sides->base[sides->bases++] = options->words[0];
    sides->fresh = options->words + first;
    sides->freshes = options->words_n - first;
    return DLB_OK;
}

static enum dlb_format format_of(const struct dlb_options *options)
{
    enum dlb_format format = DLB_FORMAT_TEXT;
    for (int i = 0; i < DLB_FORMATS && options->format; i++)
        if (!strcmp(options->format, dlb_format_names[i]))
            format = i;
    return format;
}

/* Re-runs say something about NEW only where NEW was measured. */
static enum dlb_status check_here(const struct dlb_comparison *comparison,
                                  struct dlb_error *error)
{
    const char *machine = dlb_comparison_machine(comparison, DLB_NEW);
    struct dlb_topology *topology = NULL;
    char here[256];
    enum dlb_status status = dlb_topology_load(NULL, &topology, error);
    if (status)
        return status;
    dlb_machine_key(topology, here);
    dlb_topology_release(topology);
    if (!machine || !strcmp(machine, here))
        return DLB_OK;
    return dlb_fail(error, DLB_INVALID,
                    "--confirm runs cases of NEW again, but NEW was measured on another "
                    "machine (%s) than this one (%s); leave it out here.",
                    machine, here);
}

static enum dlb_status run_gate(const struct dlb_options *options,
                                const struct dlb_compare_io *io,
                                const struct sides *sides,
                                struct dlb_comparison *comparison,
                                const struct dlb_differences *differences,
                                int *exit_status, struct dlb_error *error)
{
    struct dlb_comparison_rules rules = {
        .threshold = options->threshold_percent > 0 ? options->threshold_percent / 100
                                                    : default_threshold,
        .seed = (uint64_t)options->seed};
    struct dlb_confirm confirm = {.rounds = (int)options->confirm,
                                  .base = sides->base,
                                  .bases = sides->bases,
                                  .rules = rules,
                                  .rerun = io->rerun,
                                  .context = io->context,
                                  .stop = io->stop,
                                  .notes = options->quiet ? NULL : io->notes};
    struct dlb_gate_report report = {.comparison = comparison,
                                     .differences = differences,
                                     .threshold = rules.threshold};
    enum dlb_status status = options->confirm ? check_here(comparison, error) : DLB_OK;
    if (!status)
        status = dlb_comparison_judge(comparison, &rules, error);
    if (status)
        return status;
    /* Nothing to confirm where no verdict counts. */
    if (options->confirm && !comparison->found.environment) {
        report.confirmed = confirm.rounds;
        *exit_status = DLB_EXIT_INCOMPLETE;
        status = dlb_confirm_run(comparison, &confirm, error);
        if (status)
            return status;
    }
    *exit_status = report.exit_status = dlb_comparison_exit(comparison);
    return dlb_gate_print(&report, format_of(options), io->out, error);
}

static enum dlb_status run_machines(const struct dlb_options *options,
                                    const struct dlb_compare_io *io,
                                    const struct dlb_cases *cases,
                                    const struct dlb_differences *differences,
                                    int *exit_status, struct dlb_error *error)
{
    struct dlb_machines machines;
    struct dlb_machines_report report = {&machines, differences};
    if (options->confirm)
        return dlb_fail(error, DLB_INVALID,
                        "--confirm has no meaning for runs from two machines, between "
                        "which there are no verdicts; leave it out.");
    enum dlb_status status = dlb_machines_make(cases, &machines, error);
    if (!status)
        status = dlb_machines_print(&report, format_of(options), io->out, error);
    if (!status)
        *exit_status = machines.mismatch ? DLB_EXIT_MISMATCH : DLB_EXIT_OK;
    dlb_machines_release(&machines);
    return status;
}

enum dlb_status dlb_compare_run(const struct dlb_options *options,
                                const struct dlb_compare_io *io, int *exit_status,
                                struct dlb_error *error)
{
    struct sides sides = {0};
    struct dlb_comparison comparison = {0};
    struct dlb_differences differences = {0};
    enum dlb_status status = find_sides(options, &sides, error);
    *exit_status = DLB_EXIT_USAGE;
    if (!status)
        status = dlb_comparison_read(&comparison, sides.base, sides.bases, sides.fresh,
                                     sides.freshes, error);
    if (!status)
        status = dlb_differences_find(&comparison.cases, &differences, error);
    const char *base = dlb_comparison_machine(&comparison, DLB_BASE);
    const char *fresh = dlb_comparison_machine(&comparison, DLB_NEW);
    if (!status && base && fresh && strcmp(base, fresh))
        status = run_machines(options, io, &comparison.cases, &differences, exit_status,
                              error);
    else if (!status)
        status =
            run_gate(options, io, &sides, &comparison, &differences, exit_status, error);
    dlb_differences_release(&differences);
    dlb_comparison_release(&comparison);
    if (status == DLB_INTERRUPTED) {
        *exit_status = DLB_EXIT_INCOMPLETE;
        dlb_fail(error, status, "Interrupted; the suspects are not confirmed.");
    }
    return status;
}
