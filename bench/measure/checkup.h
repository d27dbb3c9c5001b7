/*
 * checkup.h - "dlbench doctor": the findings of machine/doctor.h, the ceilings, and the
 * noise floor from a convolution measured against itself.
 */
#ifndef DLB_MEASURE_CHECKUP_H
#define DLB_MEASURE_CHECKUP_H

#include "machine/topology.h"

#include "options.h"

#include <stdio.h>

/* Takes some seconds.  options: threads, isa and oversubscribe count. */
enum dlb_status dlb_checkup_run(const struct dlb_topology *topology,
                                const struct dlb_options *options, FILE *out,
                                struct dlb_error *error);

#endif
