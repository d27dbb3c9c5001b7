/*
 * environment.h - the state around the measurement: what the manifest records once, what
 * each row records, and what doctor complains about.
 */
#ifndef DLB_MACHINE_ENVIRONMENT_H
#define DLB_MACHINE_ENVIRONMENT_H

#include "machine/topology.h"

enum { DLB_FACT_TEXT = 256 };

/* A fact of the manifest: section.key = text, number or list.  "unknown" is left out. */
struct dlb_fact {
    char section[24]; /* cpu, os, memory, power, limits, build, libraries, timer,
                         environment */
    char key[40];
    char text[DLB_FACT_TEXT]; /* as text; isa flags and mitigations are longer: truncated
                                 never, see value */
    char *value;              /* when not NULL the full text, owned */
};

/* All facts that can be read here.  *facts is owned by the caller: dlb_facts_release. */
enum dlb_status dlb_facts_collect(const struct dlb_topology *topology,
                                  struct dlb_fact **facts, int *facts_n,
                                  struct dlb_error *error);
/* The same; root as in system_file.h is where /proc, /sys and /etc are looked for. */
enum dlb_status dlb_facts_collect_from(const char *root,
                                       const struct dlb_topology *topology,
                                       struct dlb_fact **facts, int *facts_n,
                                       struct dlb_error *error);
/* Safe on NULL. */
void dlb_facts_release(struct dlb_fact *facts, int facts_n);

/* Machine key: model, core/PU/NUMA counts, cache sizes; not clock, bogomips or host name.
 */
void dlb_machine_key(const struct dlb_topology *topology, char key[256]);

/* What tuned tiles depend on: vendor, family, model and stepping of the processor, sizes
 * and sharing of the caches, kinds of cores, NUMA nodes, CPU quota. */
enum { DLB_HARDWARE_TEXT = 256 };
void dlb_hardware_key(const struct dlb_topology *topology, char key[DLB_HARDWARE_TEXT]);
void dlb_hardware_key_from(const char *root, const struct dlb_topology *topology,
                           char key[DLB_HARDWARE_TEXT]);

/* Counters around one row: take one before, one after, and subtract. */
struct dlb_weather {
    int64_t ctx_switches_invol; /* of the process's threads */
    int64_t migrations;         /* -1 when unknown */
    double load1;
    double steal_ticks, total_ticks; /* /proc/stat, all CPUs */
};
void dlb_weather_read(struct dlb_weather *weather);
void dlb_weather_read_from(const char *root, struct dlb_weather *weather);

/* Bytes of memory that can be had without swapping (MemAvailable, cgroup limit). */
size_t dlb_memory_available(void);
size_t dlb_memory_available_from(const char *root);

#endif
