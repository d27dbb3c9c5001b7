/*
 * limits.h - what control groups (v1 and v2) leave to this process.
 *
 * The groups are found through /proc/self/cgroup and /proc/self/mountinfo.  A group may
 * sit in others that are limited too: the tightest from its own folder up to the mount
 * point counts.
 */
#ifndef DLB_MACHINE_LIMITS_H
#define DLB_MACHINE_LIMITS_H

#include "core/base.h"

struct dlb_limits {
    double quota_cpus;        /* CPU time a unit of wall time; 0 = no quota */
    double memory_bytes;      /* memory limit; 0 = none */
    double memory_available;  /* least of limit - use, reclaimable cache not counted as
                                 use; only when memory_bytes is not 0 */
    double throttled_periods; /* how often the quota has stopped us; -1 when not told */
    int version;              /* of the group that gave the CPU quota: 1, 2; 0 = none */
};

/* root as in system_file.h.  Missing files mean no limit. */
void dlb_limits_read(const char *root, struct dlb_limits *limits);

#endif
