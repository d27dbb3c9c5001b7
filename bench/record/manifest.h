/*
 * manifest.h - what manifest.json holds.  The JSON library is seen only in manifest.c.
 */
#ifndef DLB_RECORD_MANIFEST_H
#define DLB_RECORD_MANIFEST_H

#include "core/op.h"
#include "machine/environment.h"

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

#endif
