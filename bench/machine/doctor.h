/*
 * doctor.h - "dlbench doctor": what would make results untrustworthy here, and the
 * remedy.
 */
#ifndef DLB_MACHINE_DOCTOR_H
#define DLB_MACHINE_DOCTOR_H

#include "machine/topology.h"

enum dlb_finding_level { DLB_FINDING_OK, DLB_FINDING_NOTE, DLB_FINDING_WARNING };

struct dlb_finding {
    enum dlb_finding_level level;
    char subject[32]; /* governor, turbo, smt, load, quota, steal, throttling, huge-pages,
                         … */
    char what[256];
    char remedy[256];
};

/* root: "" for this machine, or a folder that holds copies of /proc and /sys (for tests).
 * Returns how many findings; the caller adds the measured noise floor. */
int dlb_doctor_examine(const struct dlb_topology *topology, const char *root,
                       struct dlb_finding *finding, int room);

#endif
