/*
 * manifest.h - what manifest.json holds:
 *
 *     schema_version, run_id, state, started_utc, finished_utc (null while running),
 *     program {name, version}, options [argv], seed, host, cpus_online, machine_key,
 *     noise_floor, ceilings [{thread_set, isa, threads, peak_gflops, …}],
 *     facts {section {key: text}}
 *
 * Facts are texts throughout, so that a version 2.10 stays one; what was not measured is
 * null, and a fact that is unknown is left out.
 */
#ifndef DLB_RECORD_MANIFEST_H
#define DLB_RECORD_MANIFEST_H

#include "core/op.h"
#include "machine/environment.h"

#define DLB_MANIFEST_FILE "manifest.json"

struct dlb_manifest_ceiling {
    char thread_set[32];
    char isa[16];
    int threads;
    struct dlb_rates rates;
};

struct dlb_manifest {
    const char *state; /* running, finished, interrupted */
    int argc;
    char *const *argv;
    const struct dlb_fact *facts;
    int facts_n;
    const char *machine_key;
    const struct dlb_manifest_ceiling *ceilings;
    int ceilings_n;
    double noise_floor; /* as a fraction; NaN when not measured */
    int64_t seed;
};

/* What a resumed run takes over from the manifest in folder: id and started keep what
 * they hold where it does not say, or is not there. */
void dlb_manifest_recall(const char *folder, char *id, size_t id_size, char *started,
                         size_t started_size);

/* The command line and the machine key of the run in folder, for going on with it.
 * DLB_INVALID when folder holds no run that says them.  Release with
 * dlb_manifest_command_release. */
struct dlb_manifest_command {
    int argc;
    char **argv;
    char machine_key[256];
    bool finished; /* the run was brought to its end */
};
enum dlb_status dlb_manifest_command_read(const char *folder,
                                          struct dlb_manifest_command *command,
                                          struct dlb_error *error);
void dlb_manifest_command_release(struct dlb_manifest_command *command);

#endif
