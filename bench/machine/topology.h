/*
 * topology.h - the machine as hwloc sees it, what of it we may use, and the thread sets.
 *
 * Usable PUs = hwloc's allowed set, less what the process affinity hides; the container's
 * CPU quota (cgroup v1 and v2) then caps how many threads may run at once.
 * A topology may also come from hwloc XML or a synthetic string: then it can be planned
 * for, but nothing can be bound or timed on it (synthetic is true).
 */
#ifndef DLB_MACHINE_TOPOLOGY_H
#define DLB_MACHINE_TOPOLOGY_H

#include "core/base.h"

#include <stdio.h>

enum { DLB_PUS_MAX = 1024, DLB_THREAD_SETS_MAX = 64 };

struct dlb_pu {
    int os_index;
    int package, numa, l3,
        core;     /* logical indexes of what holds it; l3 -1 when there is none */
    int smt_rank; /* 0 for the first PU of its core */
    int kind;     /* CPU kind, 0 = most efficient … kinds-1 = fastest; 0 where hwloc
                     cannot rank them */
    bool usable;
};

/* Where kinds of cores differ: as seen by the first usable PU of the fastest kind. */
struct dlb_cache_level {
    size_t bytes;  /* of one instance, data or unified; 0 when absent */
    int shared_by; /* PUs that share one instance */
    int line_bytes;
};

struct dlb_topology {
    bool synthetic;
    int packages, numas, l3s, cores, pus, kinds; /* of the whole machine */
    int usable_pus, usable_cores;
    double quota_cpus;               /* 0 = no quota */
    int max_threads;                 /* min(usable_pus, floor of the quota, at least 1) */
    struct dlb_cache_level cache[4]; /* [1] L1d, [2] L2, [3] L3; [0] unused */
    size_t memory_bytes;
    struct dlb_pu pu[DLB_PUS_MAX]; /* pus entries, in hwloc's logical order */
    void *hwloc;                   /* owned */
};

/* spec: NULL for this machine, a file ending in .xml, or hwloc's synthetic notation.
 * Release with dlb_topology_release. */
enum dlb_status dlb_topology_load(const char *spec, struct dlb_topology **topology,
                                  struct dlb_error *error);
void dlb_topology_release(struct dlb_topology *topology);

/* hwloc's XML export, for the run folder. */
enum dlb_status dlb_topology_export(const struct dlb_topology *topology, const char *path,
                                    struct dlb_error *error);

/* Sets the CPU quota (0 = none) and with it max_threads.  load has done so for this
 * machine. */
void dlb_topology_set_quota(struct dlb_topology *topology, double quota_cpus);

/* Processor name as the system tells it; "" when unknown.  Lives with the topology. */
const char *dlb_topology_model(const struct dlb_topology *topology);

/* Version of the hwloc that made the topology, "2.9.0"; "" when unknown. */
const char *dlb_topology_library_version(const struct dlb_topology *topology);

/* Two lines for the head of the screen: processor, caches, cores, quota. */
void dlb_topology_summary(const struct dlb_topology *topology, FILE *out);

/* The picture of "dlbench topology": the tree, what is usable, and every thread set. */
void dlb_topology_print(const struct dlb_topology *topology, FILE *out);

/* Threads of one team and where each is bound. */
struct dlb_thread_set {
    char name[32]; /* "1", "cores", "smt", "one-l3", "4-scatter", … */
    int threads;
    int pu[DLB_PUS_MAX]; /* index into topology->pu for each rank */
    char cpuset[256];    /* OS indexes as a list, "0-3,8" */
    size_t l3_bytes_per_thread;
};

/*
 * All distinct sets of this machine: counts 1, 2, 4, … and all usable cores ("cores"),
 * smt when there are siblings, p-cores and e-cores when there are kinds, one-l3 and
 * one-numa when they are smaller than cores, and "-scatter" forms of counts where
 * spreading differs from packing.  Sets with the same PUs appear once, under the first of
 * their names (counts before names).  Returns how many.
 */
int dlb_thread_sets(const struct dlb_topology *topology,
                    struct dlb_thread_set set[DLB_THREAD_SETS_MAX]);

/*
 * What the names mean
 *   N         N cores, one PU of each, fastest kind first, neighbours first; beyond the
 *             usable cores their siblings follow
 *   N-scatter the same, but packages, NUMA nodes and L3s are filled in turn
 *   cores     one PU of every usable core          smt       every usable PU
 *   p-cores   cores of the fastest kind            e-cores   the other cores
 *   one-l3    the usable cores below the first L3  one-numa  … of the first NUMA node
 * dlb_thread_sets leaves out sets with more than max_threads threads.
 */

/*
 * Sets for a list as the user writes it ("1,2,cores"); NULL: the default sweep, that is
 * 1, 2, 4, … and all usable cores.  More threads than max_threads is DLB_INVALID unless
 * oversubscribe, where PUs are then shared if there are too few.  An unknown name, and
 * one that this machine has no such cores for, is DLB_INVALID and names the valid ones.
 * Each set keeps the name that the user gave; a set with the same PUs as an earlier one
 * is left out.
 */
enum dlb_status dlb_thread_sets_parse(const struct dlb_topology *topology,
                                      const char *list, bool oversubscribe,
                                      struct dlb_thread_set set[DLB_THREAD_SETS_MAX],
                                      int *sets, struct dlb_error *error);

#endif
