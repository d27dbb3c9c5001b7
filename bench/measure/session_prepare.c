/*
 * From the command line to everything that a run needs and that can be judged before
 * anything is measured or written.
 */
#include "measure/session_internal.h"

#include "record/export.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Position of text among names (n). */
static enum dlb_status parse_name(const char *option, const char *text,
                                  const char *const *names, int n, int *value,
                                  struct dlb_error *error)
{
    char quoted[80], hint[DLB_HINT_MAX], list[256];
    for (*value = 0; *value < n; ++*value)
        if (!strcmp(text, names[*value]))
            return DLB_OK;
    return dlb_fail(error, DLB_INVALID, "%s does not know '%s'%s; accepted: %s.", option,
                    dlb_quote(text, quoted, sizeof quoted),
                    dlb_nearest_hint(text, names, n, hint),
                    dlb_words_join(names, n, list, sizeof list));
}

/* Calls fn for each comma-separated word of list. */
static enum dlb_status each_word(const char *list,
                                 enum dlb_status (*fn)(struct dlb_session *, const char *,
                                                       struct dlb_error *),
                                 struct dlb_session *session, struct dlb_error *error)
{
    enum dlb_status status = DLB_OK;
    char *copy = strdup(list), *rest = copy, *word;
    if (!copy)
        return dlb_fail(error, DLB_NOMEM, "No memory is left.");
    while (!status && (word = strsep(&rest, ",")))
        status = fn(session, word, error);
    free(copy);
    return status;
}

static enum dlb_status take_impl(struct dlb_session *session, const char *word,
                                 struct dlb_error *error)
{
    int impl;
    enum dlb_status status =
        parse_name("--impl", word, dlb_impl_names, DLB_IMPLS, &impl, error);
    if (!status && impl == DLB_IMPL_ONEDNN && !dlb_onednn_version())
        return dlb_fail(
            error, DLB_UNSUPPORTED,
            "--impl onednn: this build has no oneDNN; accepted: native, naive.");
    if (!status)
        session->impl[impl] = true;
    return status;
}

static enum dlb_status choose_impls(struct dlb_session *session, struct dlb_error *error)
{
    if (session->options->impl)
        return each_word(session->options->impl, take_impl, session, error);
    session->impl[DLB_IMPL_NATIVE] = true;
    session->impl[DLB_IMPL_ONEDNN] = dlb_onednn_version() != NULL;
    return DLB_OK;
}

static const struct dlb_operator *find_operator(const struct dlb_session *session,
                                                const char *name)
{
    for (int i = 0; i < session->io.operators_n; i++)
        if (!strcmp(session->io.operators[i].op->name, name))
            return &session->io.operators[i];
    return NULL;
}

/* The cases of one operator word: shapes, a suite file, or the default suite. */
static enum dlb_status take_operator(struct dlb_session *session, const char *word,
                                     struct dlb_error *error)
{
    const struct dlb_options *options = session->options;
    const struct dlb_operator *entry = find_operator(session, word);
    if (!entry) {
        const char *names[DLB_WORDS_MAX];
        int n = (int)dlb_min(session->io.operators_n, DLB_WORDS_MAX), value;
        for (int i = 0; i < n; i++)
            names[i] = session->io.operators[i].op->name;
        return parse_name("--op", word, names, n, &value, error);
    }
    if (options->shapes_n) {
        for (int i = 0; i < options->shapes_n; i++) {
            enum dlb_status status =
                dlb_suite_add(entry, options->shapes[i], &session->suite, error);
            if (status)
                return status;
        }
        return DLB_OK;
    }
    if (options->suite)
        return dlb_suite_read(options->suite, entry, &session->suite, error);
    return dlb_suite_read_default(entry, &session->suite, error);
}

static enum dlb_status read_cases(struct dlb_session *session, struct dlb_error *error)
{
    const struct dlb_options *options = session->options;
    enum dlb_status status = DLB_OK;
    if (options->op && strcmp(options->op, "all"))
        status = each_word(options->op, take_operator, session, error);
    else if (options->suite && !options->op)
        status = dlb_suite_read(options->suite, NULL, &session->suite, error);
    else if (options->op)
        for (int i = 0; i < session->io.operators_n && !status; i++)
            status = take_operator(session, session->io.operators[i].op->name, error);
    else
        status = dlb_fail(error, DLB_INVALID,
                          "Nothing to do: name an operator (--op conv) or a suite "
                          "(--suite FILE); --help lists all options.");
    if (!status && options->mb)
        status = dlb_suite_set_minibatch(&session->suite, options->mb, error);
    return status;
}

/* Bit (1u << pass) for each pass that is wanted of op, or DLB_INVALID.  bwd is both halves
 * where an operator has them apart; --op all leaves out the operators that do not have the
 * pass. */
static enum dlb_status wanted_passes(const struct dlb_options *options,
                                     const struct dlb_op *op, unsigned *wanted,
                                     struct dlb_error *error)
{
    const char *names[DLB_PASS_COUNT + 1];
    char list[256];
    int pass = DLB_FWD, n = 0;
    *wanted = op->passes;
    if (options->pass && !strcmp(options->pass, "all"))
        return DLB_OK;
    if (options->pass &&
        parse_name("--pass", options->pass, dlb_pass_names, DLB_PASS_COUNT, &pass, error))
        return DLB_INVALID;
    *wanted = 1u << pass & op->passes;
    if (!*wanted && pass == DLB_BWD)
        *wanted = (1u << DLB_BWD_DATA | 1u << DLB_BWD_WEIGHTS) & op->passes;
    if (*wanted || (options->op && !strcmp(options->op, "all")))
        return DLB_OK;
    for (int i = 0; i < DLB_PASS_COUNT; i++)
        if (op->passes & 1u << i)
            names[n++] = dlb_pass_names[i];
    names[n++] = "all";
    return dlb_fail(error, DLB_INVALID, "--pass %s: %s does not have it; accepted: %s.",
                    dlb_pass_names[pass], op->name,
                    dlb_words_join(names, n, list, sizeof list));
}

/* The passes and the accuracy class of the command line, for every case. */
static enum dlb_status set_classes(struct dlb_session *session, struct dlb_error *error)
{
    const struct dlb_options *options = session->options;
    struct dlb_suite *suite = &session->suite;
    struct dlb_case *cases =
        calloc((size_t)suite->cases_n * DLB_PASS_COUNT, sizeof *cases);
    int accuracy = DLB_EXACT, n = 0;
    enum dlb_status status = DLB_OK;
    if (!cases)
        return dlb_fail(error, DLB_NOMEM, "No memory is left for the problems.");
    if (options->accuracy)
        status = parse_name("--accuracy", options->accuracy, dlb_accuracy_names,
                            DLB_ACCURACY_COUNT, &accuracy, error);
    for (int i = 0; i < suite->cases_n && !status; i++) {
        unsigned wanted = 0;
        status = wanted_passes(options, suite->cases[i].entry->op, &wanted, error);
        for (int pass = 0; pass < DLB_PASS_COUNT && !status; pass++) {
            if (!(wanted & 1u << pass))
                continue;
            cases[n] = suite->cases[i];
            cases[n].problem.pass = pass;
            cases[n++].problem.accuracy = accuracy;
        }
    }
    if (!status && !n)
        status = dlb_fail(error, DLB_INVALID, "--pass %s: no operator has it yet.",
                          options->pass);
    if (status) {
        free(cases);
        return status;
    }
    free(suite->cases);
    suite->cases = cases;
    suite->cases_n = n;
    return DLB_OK;
}

/* --candidate must be legal for one of the problems at least. */
static enum dlb_status check_candidate(const struct dlb_session *session,
                                       struct dlb_error *error)
{
    const char *text = session->options->candidate, *first = NULL;
    for (int i = 0; i < session->suite.cases_n; i++) {
        const struct dlb_case *item = &session->suite.cases[i];
        const struct dlb_op *op = item->entry->op;
        struct dlb_candidate candidate;
        enum dlb_status status = dlb_candidate_parse(op, text, &candidate, error);
        if (status)
            return status;
        for (int s = 0; s < session->stations; s++) {
            const char *refused =
                op->refuse(&item->problem, &session->station[s].target, &candidate);
            if (!refused)
                return DLB_OK;
            first = first ? first : refused;
        }
    }
    return dlb_fail(error, DLB_INVALID,
                    "--candidate %s is refused for %s: %s; 'dlbench list tiles' explains "
                    "the tiles.",
                    text, session->suite.cases_n == 1 ? "this problem" : "every problem",
                    first ? first : "there is none");
}

static enum dlb_status prepare_isa(struct dlb_session *session, struct dlb_error *error)
{
    const char *name = session->options->isa;
    if (!name)
        name = getenv("DLBENCH_ISA");
    session->isa = dlb_isa_best();
    if (!name || !*name)
        return DLB_OK;
    enum dlb_status status = dlb_isa_parse(name, &session->isa, error);
    if (status || session->isa == dlb_isa_best() || !dlb_onednn_version())
        return status;
    return dlb_onednn_cap_isa(session->isa, error);
}

static enum dlb_status prepare_stations(struct dlb_session *session,
                                        struct dlb_error *error)
{
    const struct dlb_options *options = session->options;
    struct dlb_thread_set *set = calloc(DLB_THREAD_SETS_MAX, sizeof *set);
    enum dlb_status status = DLB_OK;
    if (set)
        session->station = calloc(DLB_THREAD_SETS_MAX, sizeof *session->station);
    if (!set || !session->station) {
        free(set);
        return dlb_fail(error, DLB_NOMEM, "No memory is left for the thread sets.");
    }
    status =
        dlb_thread_sets_parse(session->topology, options->threads, options->oversubscribe,
                              set, &session->stations, error);
    for (int i = 0; i < session->stations && !status; i++) {
        struct dlb_station *station = &session->station[i];
        station->set = set[i];
        station->noise_floor = NAN;
        station->target = (struct dlb_target){
            .isa = session->isa,
            .threads = set[i].threads,
            .l1d_bytes = session->topology->cache[1].bytes,
            .l2_bytes = session->topology->cache[2].bytes,
            .l3_bytes = set[i].l3_bytes_per_thread,
        };
        if (set[i].threads > session->station[session->widest].set.threads)
            session->widest = i;
        if (set[i].threads < session->station[session->narrowest].set.threads)
            session->narrowest = i;
    }
    free(set);
    return status;
}

enum dlb_status dlb_session_check_machine(const struct dlb_session *session,
                                          struct dlb_error *error)
{
    char key[256];
    dlb_machine_key(session->topology, key);
    if (!session->resumed || !strcmp(session->resumed->machine_key, key))
        return DLB_OK;
    return dlb_fail(
        error, DLB_INVALID,
        "--resume %s: that run was made on another machine (%s) than this one "
        "(%s); start a new run here.",
        session->options->resume, session->resumed->machine_key, key);
}

/* A run must not end with results that cannot be exported. */
static enum dlb_status check_export(const char *spec, struct dlb_error *error)
{
    enum dlb_status status = dlb_export_check(spec, error);
    if (status)
        return status;
    const char *file = strchr(spec, '=') + 1, *slash = strrchr(file, '/');
    char parent[4096];
    snprintf(parent, sizeof parent, "%.*s", slash ? (int)(slash - file + 1) : 1,
             slash ? file : ".");
    if (access(parent, W_OK | X_OK) || (!access(file, F_OK) && access(file, W_OK)))
        return dlb_fail(error, DLB_INVALID,
                        "--export cannot write %s: %s; name a file in a folder that "
                        "exists.",
                        file, strerror(errno));
    return DLB_OK;
}

/* A file that the user names must be one; the usual one is done without where it is none. */
static enum dlb_status open_cache(struct dlb_session *session, struct dlb_error *error)
{
    const struct dlb_options *options = session->options;
    struct dlb_cache_identity identity;
    struct dlb_error why = {0};
    char *usual = options->cache ? NULL : dlb_cache_default_path();
    const char *path = options->cache ? options->cache : usual;
    if (options->no_cache || options->check || options->candidate || options->dry_run)
        path = NULL;
    dlb_cache_identify(session->topology, session->isa, &identity);
    enum dlb_status status = dlb_cache_open(path, &identity, &session->cache, &why);
    if (status && usual) {
        if (!options->quiet)
            fprintf(session->io.out, "no tuning cache: %s\n", why.text);
        status = dlb_cache_open(NULL, &identity, &session->cache, &why);
    }
    free(usual);
    return status ? dlb_fail(error, status, "%s", why.text) : DLB_OK;
}

enum dlb_status dlb_session_prepare_machine(struct dlb_session *session,
                                            struct dlb_error *error)
{
    enum dlb_status status = prepare_isa(session, error);
    if (!status)
        status = dlb_topology_load(session->options->topology, &session->topology, error);
    return status ? status : prepare_stations(session, error);
}

enum dlb_status dlb_session_prepare(struct dlb_session *session, struct dlb_error *error)
{
    const struct dlb_options *options = session->options;
    int cache_state = DLB_CACHE_HOT;
    enum dlb_status status = DLB_OK;
    if (options->export_to)
        status = check_export(options->export_to, error);
    if (!status && options->cache_state)
        status = parse_name("--cache-state", options->cache_state, dlb_cache_state_names,
                            DLB_CACHE_STATES, &cache_state, error);
    session->cache_state = cache_state;
    if (!status)
        status = choose_impls(session, error);
    if (!status)
        status = read_cases(session, error);
    if (!status)
        status = set_classes(session, error);
    if (!status)
        status = dlb_session_prepare_machine(session, error);
    if (!status && session->topology->synthetic && !options->dry_run)
        return dlb_fail(
            error, DLB_INVALID,
            "--topology describes another machine, on which nothing can be timed; "
            "add --dry-run to see the plan for it.");
    if (!status && options->candidate)
        status = check_candidate(session, error);
    if (!status)
        status = dlb_session_check_machine(session, error);
    if (!status)
        status = open_cache(session, error);
    if (!status && options->aa) {
        session->twin = calloc((size_t)(session->suite.cases_n * session->stations),
                               sizeof *session->twin);
        if (!session->twin)
            status = dlb_fail(error, DLB_NOMEM, "No memory is left for the pairs.");
    }
    return status;
}
