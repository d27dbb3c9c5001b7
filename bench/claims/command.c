#include "claims/command.h"

#include "claims/lab.h"
#include "measure/timer.h"
#include "nearest.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char rules_file[] = DLBENCH_SOURCE_DIR "/configs/claims.csv";
enum { PATH_BYTES = 4200, NAMES_MAX = 64 };

struct job {
    struct dlb_session session;
    struct dlb_claims claims;
    bool *wanted;                      /* owned; of each claim */
    struct dlb_claim_verdict *verdict; /* owned; of the wanted ones */
    int verdicts;
    struct dlb_lab lab;
};

static enum dlb_status no_memory(struct dlb_error *error)
{
    return dlb_fail(error, DLB_NOMEM, "No memory is left for the claims.");
}

/* --claim ID,…; all without it. */
static enum dlb_status choose(struct job *job, const char *list, struct dlb_error *error)
{
    job->wanted = calloc((size_t)job->claims.n, sizeof *job->wanted);
    if (!job->wanted)
        return no_memory(error);
    for (int i = 0; i < job->claims.n && !list; i++)
        job->wanted[i] = true;
    while (list && *list) {
        char id[80], quoted[100], hint[DLB_HINT_MAX];
        const char *names[NAMES_MAX];
        size_t length = strcspn(list, ",");
        snprintf(id, sizeof id, "%.*s", (int)dlb_min(length, sizeof id - 1), list);
        const struct dlb_claim *found = dlb_claims_find(&job->claims, id);
        int n = (int)dlb_min(job->claims.n, NAMES_MAX);
        for (int i = 0; i < n; i++)
            names[i] = job->claims.claim[i].id;
        if (!found)
            return dlb_fail(error, DLB_INVALID,
                            "--claim does not know '%s'%s; 'dlbench list claims' names "
                            "all.",
                            dlb_quote(id, quoted, sizeof quoted),
                            dlb_nearest_hint(id, names, n, hint));
        job->wanted[found - job->claims.claim] = true;
        list += length + (list[length] == ',');
    }
    return DLB_OK;
}

static bool is_wanted(const struct job *job, const struct dlb_experiment *experiment)
{
    for (int i = 0; i < job->claims.n; i++)
        if (job->wanted[i] && !strcmp(job->claims.claim[i].experiment, experiment->name))
            return true;
    return false;
}

static bool exists(const char *experiment)
{
    for (int i = 0; i < dlb_experiments_n; i++)
        if (!strcmp(dlb_experiments[i].name, experiment))
            return true;
    return false;
}

static enum dlb_status judge(struct job *job, struct dlb_error *error)
{
    enum dlb_status status = DLB_OK;
    dlb_observations_sort(&job->lab.observations);
    job->verdict = calloc((size_t)job->claims.n, sizeof *job->verdict);
    if (!job->verdict)
        return no_memory(error);
    for (int i = 0; i < job->claims.n && !status; i++)
        if (job->wanted[i])
            status = dlb_claim_judge(&job->claims.claim[i], &job->lab.observations,
                                     &job->verdict[job->verdicts++], error);
    return status;
}

/* Why a claim was not measured, or its note. */
static const char *note_of(const struct dlb_claim_verdict *verdict)
{
    if (verdict->word != DLB_NOT_MEASURED)
        return verdict->claim->note;
    return exists(verdict->claim->experiment) ? "it was not run, or not to its end"
                                              : "no experiment measures it yet";
}

static void fill_cells(const struct dlb_claim_verdict *verdict, const char *run_id,
                       char metric[160], struct dlb_cell *cell)
{
    const struct dlb_claim *claim = verdict->claim;
    snprintf(metric, 160, "%s of %s, %s%s%s", dlb_statistic_names[claim->statistic],
             claim->metric, claim->arm, *claim->base ? " against " : "", claim->base);
    const struct {
        enum dlb_claim_column column;
        const char *text;
    } texts[] = {
        {DLB_CLAIM_CLAIM_ID, claim->id},
        {DLB_CLAIM_CLAIM, claim->claim},
        {DLB_CLAIM_KIND, dlb_claim_kind_names[claim->kind]},
        {DLB_CLAIM_METRIC, metric},
        {DLB_CLAIM_CONDITIONS, verdict->conditions},
        {DLB_CLAIM_VERDICT, dlb_verdict_words[verdict->word]},
        {DLB_CLAIM_WHERE, verdict->where},
        {DLB_CLAIM_RUN_ID, run_id},
        {DLB_CLAIM_NOTE, note_of(verdict)},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        cell[texts[i].column] =
            (struct dlb_cell){.set = *texts[i].text, .text = (char *)texts[i].text};
    const struct {
        enum dlb_claim_column column;
        double number;
    } reals[] = {{DLB_CLAIM_EFFECT, verdict->effect},
                 {DLB_CLAIM_CI_LO, verdict->ci_lo},
                 {DLB_CLAIM_CI_HI, verdict->ci_hi}};
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++)
        cell[reals[i].column] = (struct dlb_cell){.set = isfinite(reals[i].number),
                                                  .number = reals[i].number};
    cell[DLB_CLAIM_ANSWER] = (struct dlb_cell){.set = true, .integer = claim->answer};
    cell[DLB_CLAIM_N] = (struct dlb_cell){.set = verdict->n > 0, .integer = verdict->n};
}

/* claims.csv, made anew. */
static enum dlb_status write_verdicts(const struct job *job, const char *folder,
                                      const char *run_id, struct dlb_error *error)
{
    struct dlb_table_file file = {0};
    char threshold[100], metric[160];
    enum dlb_status status =
        dlb_table_file_open(&file, folder, DLB_TABLE_CLAIMS, false, error);
    if (!status)
        status = dlb_table_file_cut(&file, 0, error);
    for (int i = 0; i < job->verdicts && !status; i++) {
        const struct dlb_claim *claim = job->verdict[i].claim;
        struct dlb_cell cell[DLB_CLAIM_COLUMNS_N] = {0};
        fill_cells(&job->verdict[i], run_id, metric, cell);
        snprintf(threshold, sizeof threshold, "%s %s",
                 dlb_direction_names[claim->direction], claim->threshold);
        cell[DLB_CLAIM_THRESHOLD] = (struct dlb_cell){.set = true, .text = threshold};
        status = dlb_table_file_append(&file, cell, 1, error);
    }
    dlb_table_file_close(&file);
    return status;
}

static void show_verdict(FILE *out, const struct dlb_claim_verdict *verdict)
{
    const struct dlb_claim *claim = verdict->claim;
    static const enum dlb_colour colours[DLB_VERDICT_WORDS] = {
        DLB_COLOUR_GOOD, DLB_COLOUR_WARN, DLB_COLOUR_BAD, DLB_COLOUR_DIM, DLB_COLOUR_DIM};
    fprintf(out, "  %-22s %-58s %s%-12s%s", claim->id, claim->claim,
            dlb_colour(out, colours[verdict->word]), dlb_verdict_words[verdict->word],
            dlb_colour(out, DLB_COLOUR_RESET));
    if (verdict->word == DLB_NOT_MEASURED) {
        fprintf(out, "  (%s)\n", note_of(verdict));
        return;
    }
    fprintf(out, "  %s %.3g [%.3g, %.3g], asked %s %s",
            dlb_statistic_names[claim->statistic], verdict->effect, verdict->ci_lo,
            verdict->ci_hi, dlb_direction_names[claim->direction], claim->threshold);
    if (*verdict->where)
        fprintf(out, "; %s", verdict->where);
    fprintf(out, "\n");
}

static void show(const struct job *job, FILE *out)
{
    int answer = 0, count[DLB_VERDICT_WORDS] = {0};
    for (int i = 0; i < job->verdicts; i++) {
        const struct dlb_claim_verdict *verdict = &job->verdict[i];
        if (verdict->claim->answer != answer)
            fprintf(out, "Answer %d\n", answer = verdict->claim->answer);
        show_verdict(out, verdict);
        count[verdict->word]++;
    }
    fprintf(out, "%d claims:", job->verdicts);
    for (int i = 0; i < DLB_VERDICT_WORDS; i++)
        if (count[i])
            fprintf(out, " %d %s", count[i], dlb_verdict_words[i]);
    fprintf(out, "\n");
}

static enum dlb_status run_experiments(struct job *job, struct dlb_error *error)
{
    struct dlb_lab *lab = &job->lab;
    enum dlb_status status = DLB_OK;
    for (int i = 0; i < dlb_experiments_n && !status; i++) {
        lab->experiment = &dlb_experiments[i];
        if (!is_wanted(job, lab->experiment))
            continue;
        if (!(lab->experiment->whole && dlb_lab_knows(lab, NULL, NULL, 0)))
            status = dlb_session_stopped(&job->session)
                         ? DLB_INTERRUPTED
                         : lab->experiment->run(lab, error);
        dlb_lab_close(lab);
        if (!status)
            status = dlb_lab_write(lab, error);
        if (status)
            dlb_lab_forget(lab);
        lab->done +=
            lab->quick ? lab->experiment->quick_seconds : lab->experiment->seconds;
    }
    return status;
}

/* Goes on with a run of claims: what it has observed stays. */
static enum dlb_status reopen_run(struct job *job, struct dlb_error *error)
{
    struct dlb_session *session = &job->session;
    const char *folder = session->options->resume;
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%.4000s/%s", folder,
             dlb_tables[DLB_TABLE_OBSERVATIONS].file);
    enum dlb_status status = dlb_session_check_machine(session, error);
    if (!status)
        status =
            dlb_table_file_share(&job->lab.table, path, DLB_TABLE_OBSERVATIONS, error);
    if (!status)
        status = dlb_observations_read(path, &job->lab.observations, error);
    job->lab.written = job->lab.observations.n;
    if (!status)
        status = dlb_run_resume_bare(folder, &session->run, error);
    return status ? status : dlb_session_manifest(session, "running", error);
}

static enum dlb_status open_run(struct job *job, struct dlb_error *error)
{
    struct dlb_session *session = &job->session;
    const char *out = session->options->out;
    if (session->options->resume)
        return reopen_run(job, error);
    enum dlb_status status = dlb_run_create_bare(
        out ? NULL : DLBENCH_SOURCE_DIR "/results", out, "claims", &session->run, error);
    if (!status)
        status = dlb_table_file_open(&job->lab.table, dlb_run_path(session->run),
                                     DLB_TABLE_OBSERVATIONS, true, error);
    if (!status)
        status = dlb_table_file_cut(&job->lab.table, 0, error);
    if (!status) {
        char path[PATH_BYTES];
        snprintf(path, sizeof path, "%.4000s/topology.xml", dlb_run_path(session->run));
        status = dlb_topology_export(session->topology, path, error);
    }
    return status ? status : dlb_session_manifest(session, "running", error);
}

static enum dlb_status measure(struct job *job, struct dlb_error *error)
{
    struct dlb_session *session = &job->session;
    struct dlb_lab *lab = &job->lab;
    FILE *out = session->io.out;
    enum dlb_status status = dlb_session_prepare_machine(session, error);
    if (!status)
        status = dlb_pool_check_runtime(error);
    if (!status && session->options->data)
        status = dlb_idx_read(session->options->data, &lab->idx, error);
    if (!status)
        status = open_run(job, error);
    if (status)
        return status;
    lab->session = session;
    lab->quick = session->options->quick;
    for (int i = 0; i < dlb_experiments_n; i++)
        if (is_wanted(job, &dlb_experiments[i]))
            lab->all += lab->quick ? dlb_experiments[i].quick_seconds
                                   : dlb_experiments[i].seconds;
    fprintf(out, "about %.0f s, into %s\n\n", ceil(lab->all + session->stations),
            dlb_run_path(session->run));
    fflush(out);
    session->progress =
        dlb_progress_make(session->io.progress, session->options->quiet, lab->all);
    for (int s = 0; s < session->stations && !status; s++)
        status = dlb_session_gauge(session, &session->station[s], error);
    if (!status)
        status = dlb_session_manifest(session, "running", error);
    if (!status)
        status = run_experiments(job, error);
    dlb_progress_release(session->progress);
    session->progress = NULL;
    return status;
}

/* The run that the observations of a folder belong to. */
static void run_id_of(const char *folder, char id[256])
{
    char started[64] = "";
    *id = '\0';
    dlb_manifest_recall(folder, id, 256, started, sizeof started);
}

static enum dlb_status judge_again(struct job *job, const char *folder,
                                   struct dlb_error *error)
{
    char path[PATH_BYTES], id[256];
    snprintf(path, sizeof path, "%.4000s/%s", folder,
             dlb_tables[DLB_TABLE_OBSERVATIONS].file);
    enum dlb_status status = dlb_observations_read(path, &job->lab.observations, error);
    if (!status)
        status = judge(job, error);
    run_id_of(folder, id);
    return status ? status : write_verdicts(job, folder, id, error);
}

static enum dlb_status run(struct job *job, struct dlb_error *error)
{
    struct dlb_session *session = &job->session;
    struct dlb_error ignored;
    enum dlb_status status = measure(job, error);
    if (!session->run || (status && status != DLB_INTERRUPTED))
        return status;
    enum dlb_status closing = judge(job, error);
    if (!closing)
        closing = write_verdicts(job, dlb_run_path(session->run),
                                 dlb_run_id(session->run), error);
    if (!closing)
        closing = dlb_session_manifest(session, status ? "interrupted" : "finished",
                                       status ? &ignored : error);
    return closing ? closing : status;
}

enum dlb_status dlb_claims_run(const struct dlb_options *options,
                               const struct dlb_session_io *io, int *exit_status,
                               struct dlb_error *error)
{
    struct job job = {.session = {.options = options,
                                  .io = *io,
                                  .start_ns = dlb_clock_ns(),
                                  .deadline_ns = INFINITY}};
    struct dlb_options recalled;
    struct dlb_manifest_command command = {0};
    *exit_status = DLB_EXIT_USAGE;
    enum dlb_status status = dlb_claims_read(rules_file, &job.claims, error);
    if (!status && options->resume)
        status = dlb_session_recall(&job.session, &recalled, &command, error);
    if (!status)
        status = choose(&job, job.session.options->claim, error);
    if (!status)
        status =
            options->from ? judge_again(&job, options->from, error) : run(&job, error);
    if (!status || status == DLB_INTERRUPTED) {
        const char *folder =
            options->from ? options->from : dlb_run_path(job.session.run);
        show(&job, io->out);
        fprintf(io->out, "Run folder: %s\nNext: ./dlbench claims --%s %s, to %s\n",
                folder, status ? "resume" : "from", folder,
                status ? "go on" : "judge it again");
        *exit_status = status ? DLB_EXIT_INCOMPLETE : DLB_EXIT_OK;
    }
    dlb_table_file_close(&job.lab.table);
    dlb_observations_release(&job.lab.observations);
    dlb_idx_release(job.lab.idx);
    free(job.wanted);
    free(job.verdict);
    dlb_claims_release(&job.claims);
    dlb_session_release(&job.session);
    dlb_manifest_command_release(&command);
    return status == DLB_INTERRUPTED ? DLB_OK : status;
}

enum dlb_status dlb_claims_list(FILE *out, struct dlb_error *error)
{
    struct dlb_claims claims;
    enum dlb_status status = dlb_claims_read(rules_file, &claims, error);
    for (int i = 0; i < claims.n && !status; i++) {
        const struct dlb_claim *claim = &claims.claim[i];
        fprintf(out, "%-22s answer %2d, %-10s %s: %s of %s %s %s%s\n", claim->id,
                claim->answer, dlb_claim_kind_names[claim->kind], claim->claim,
                dlb_statistic_names[claim->statistic], claim->metric,
                dlb_direction_names[claim->direction], claim->threshold,
                exists(claim->experiment) ? "" : " (no experiment yet)");
    }
    dlb_claims_release(&claims);
    return status;
}
