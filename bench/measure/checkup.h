/*
 * checkup.h - "dlbench doctor": the findings of machine/doctor.h, the ceilings, and the
 * noise floor from a convolution measured against itself.
 */
#ifndef DLB_MEASURE_CHECKUP_H
#define DLB_MEASURE_CHECKUP_H

#include "machine/topology.h"

#include <stdio.h>

/* Takes some seconds.  On a synthetic topology nothing is measured (DLB_INVALID). */
enum dlb_status dlb_checkup_run(const struct dlb_topology *topology, FILE *out,
                                struct dlb_error *error);

#endif
