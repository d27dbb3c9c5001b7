#include "record/manifest.h"

#include "record/json.h"
#include "record/run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *fact_text(const struct dlb_fact *fact)
{
    return fact->value ? fact->value : fact->text;
}

static bool is_known(const struct dlb_fact *fact)
{
    const char *text = fact_text(fact);
    return *text && strcmp(text, "unknown");
}

/* True when an earlier fact has the same section (and key, when it is asked for). */
static bool seen_before(const struct dlb_fact *facts, int n, bool and_key)
{
    for (int i = 0; i < n; i++)
        if (is_known(&facts[i]) && !strcmp(facts[i].section, facts[n].section) &&
            (!and_key || !strcmp(facts[i].key, facts[n].key)))
            return true;
    return false;
}

static void put_facts(struct dlb_json *json, const struct dlb_fact *facts, int facts_n)
{
    dlb_json_begin_object(json, "facts");
    for (int i = 0; i < facts_n; i++) {
        if (!is_known(&facts[i]) || seen_before(facts, i, false))
            continue;
        dlb_json_begin_object(json, facts[i].section);
        for (int j = i; j < facts_n; j++)
            if (is_known(&facts[j]) && !strcmp(facts[j].section, facts[i].section) &&
                !seen_before(facts, j, true))
                dlb_json_text(json, facts[j].key, fact_text(&facts[j]));
        dlb_json_end(json);
    }
    dlb_json_end(json);
}

static void put_rate(struct dlb_json *json, const char *key, double rate)
{
    dlb_json_real(json, key, rate > 0 ? rate : NAN);
}

static void put_ceilings(struct dlb_json *json,
                         const struct dlb_manifest_ceiling *ceilings, int ceilings_n)
{
    dlb_json_begin_array(json, "ceilings");
    for (int i = 0; i < ceilings_n; i++) {
        const struct dlb_manifest_ceiling *ceiling = &ceilings[i];
        dlb_json_begin_object(json, NULL);
        dlb_json_text(json, "thread_set", ceiling->thread_set);
        dlb_json_text(json, "isa", ceiling->isa);
        dlb_json_int(json, "threads", ceiling->threads);
        put_rate(json, "peak_gflops", ceiling->rates.peak_gflops);
        put_rate(json, "l1_gbs", ceiling->rates.l1_gbs);
        put_rate(json, "l2_gbs", ceiling->rates.l2_gbs);
        put_rate(json, "l3_gbs", ceiling->rates.l3_gbs);
        put_rate(json, "memory_gbs", ceiling->rates.memory_gbs);
        put_rate(json, "copy_gbs", ceiling->rates.copy_gbs);
        put_rate(json, "barrier_ns", ceiling->rates.barrier_ns);
        dlb_json_end(json);
    }
    dlb_json_end(json);
}

static void put_manifest(struct dlb_json *json, const struct dlb_run *run,
                         const struct dlb_manifest *manifest)
{
    char now[DLB_TIME_TEXT], host[256] = "";
    dlb_run_time(now);
    bool running = !strcmp(manifest->state, "running");
    bool named = !gethostname(host, sizeof host - 1) && *host;

    dlb_json_begin_object(json, NULL);
    dlb_json_int(json, "schema_version", DLB_SCHEMA_VERSION);
    dlb_json_text(json, "run_id", dlb_run_id(run));
    dlb_json_text(json, "state", manifest->state);
    dlb_json_text(json, "started_utc", dlb_run_started(run));
    dlb_json_text(json, "finished_utc", running ? NULL : now);
    dlb_json_begin_object(json, "program");
    dlb_json_text(json, "name", "dlbench");
    dlb_json_text(json, "version", DLBENCH_VERSION);
    dlb_json_end(json);
    dlb_json_begin_array(json, "options");
    for (int i = 0; i < manifest->argc; i++)
        dlb_json_text(json, NULL, manifest->argv[i]);
    dlb_json_end(json);
    dlb_json_int(json, "seed", manifest->seed);
    dlb_json_text(json, "host", named ? host : NULL);
    dlb_json_int(json, "cpus_online", sysconf(_SC_NPROCESSORS_ONLN));
    dlb_json_text(json, "machine_key", manifest->machine_key);
    dlb_json_real(json, "noise_floor", manifest->noise_floor);
    put_ceilings(json, manifest->ceilings, manifest->ceilings_n);
    put_facts(json, manifest->facts, manifest->facts_n);
    dlb_json_end(json);
}

static char *manifest_path(const char *folder)
{
    char *path;
    return asprintf(&path, "%s/%s", folder, DLB_MANIFEST_FILE) < 0 ? NULL : path;
}

enum dlb_status dlb_run_manifest(struct dlb_run *run, const struct dlb_manifest *manifest,
                                 struct dlb_error *error)
{
    struct dlb_json json = {0};
    char *path = manifest_path(dlb_run_path(run));
    if (!path)
        return dlb_fail(error, DLB_NOMEM, "There is no memory left for the manifest.");
    put_manifest(&json, run, manifest);
    enum dlb_status status = dlb_json_save(&json, path, error);
    dlb_json_release(&json);
    free(path);
    return status;
}

void dlb_manifest_recall(const char *folder, char *id, size_t id_size, char *started,
                         size_t started_size)
{
    struct dlb_json_file *file = NULL;
    char *path = manifest_path(folder);
    if (path && !dlb_json_open(path, &file, NULL)) {
        const char *text = dlb_json_find_text(file, "run_id");
        if (text)
            snprintf(id, id_size, "%s", text);
        text = dlb_json_find_text(file, "started_utc");
        if (text)
            snprintf(started, started_size, "%s", text);
        dlb_json_close(file);
    }
    free(path);
}

enum dlb_status dlb_manifest_command_read(const char *folder,
                                          struct dlb_manifest_command *command,
                                          struct dlb_error *error)
{
    struct dlb_json_file *file = NULL;
    const char *word, *key;
    *command = (struct dlb_manifest_command){0};
    char *path = manifest_path(folder);
    enum dlb_status status =
        path ? dlb_json_open(path, &file, error)
             : dlb_fail(error, DLB_NOMEM, "There is no memory left for the manifest.");
    if (status)
        goto out;
    key = dlb_json_find_text(file, "machine_key");
    if (!key || !dlb_json_find_element(file, "options", 0)) {
        status =
            dlb_fail(error, DLB_INVALID,
                     "%s does not say with which options the run was started.", path);
        goto out;
    }
    const char *state = dlb_json_find_text(file, "state");
    command->finished = state && !strcmp(state, "finished");
    snprintf(command->machine_key, sizeof command->machine_key, "%s", key);
    while ((word = dlb_json_find_element(file, "options", command->argc))) {
        char **grown =
            realloc(command->argv, (size_t)(command->argc + 2) * sizeof *grown);
        if (grown)
            command->argv = grown;
        if (!grown || !(grown[command->argc] = strdup(word))) {
            status =
                dlb_fail(error, DLB_NOMEM, "There is no memory left for the manifest.");
            goto out;
        }
        grown[++command->argc] = NULL;
    }
out:
    if (file)
        dlb_json_close(file);
    free(path);
    if (status)
        dlb_manifest_command_release(command);
    return status;
}

void dlb_manifest_command_release(struct dlb_manifest_command *command)
{
    for (int i = 0; i < command->argc; i++)
        free(command->argv[i]);
    free(command->argv);
    *command = (struct dlb_manifest_command){0};
}
