/*
 * ceilings.h - what the machine can do at most, measured in the run that it bounds.
 */
#ifndef DLB_MACHINE_CEILINGS_H
#define DLB_MACHINE_CEILINGS_H

#include "core/op.h"
#include "machine/pool.h"

/* Measures all rates of the pool's thread set; takes about seconds. */
enum dlb_status dlb_ceilings_measure(struct dlb_pool *pool,
                                     const struct dlb_topology *topology,
                                     enum dlb_isa isa, double seconds,
                                     struct dlb_rates *rates, struct dlb_error *error);

/* Roof in GFLOP/s for a problem: min(peak, intensity * bandwidth of the smallest level
 * that holds bytes).  *level receives "compute", "L1", "L2", "L3" or "memory": what
 * bounds it. */
double dlb_roof_gflops(const struct dlb_rates *rates, const struct dlb_topology *topology,
                       int threads, double flops, double bytes, const char **level);

/*
 * The probe that tells a disturbed round: an FMA loop of about nanoseconds on all
 * threads; returns GFLOP/s.  Compare with the best that the session has seen.
 */
double dlb_probe_gflops(struct dlb_pool *pool, enum dlb_isa isa, double nanoseconds);

#endif
