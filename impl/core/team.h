/*
 * team.h - the threads that execute one plan together (SPMD).
 *
 * impl/ never opens a parallel region: the caller (bench/machine/pool.h) does, and every
 * thread calls the kernel with its own struct dlb_team.  All members of a team share one
 * barrier.  A team of one is valid everywhere and its barrier costs nothing.
 */
#ifndef DLB_CORE_TEAM_H
#define DLB_CORE_TEAM_H

#include "core/base.h"

#include <stdatomic.h>

/* Shared by a team; initialise with dlb_barrier_init before use. */
struct dlb_barrier {
    _Alignas(DLB_CACHE_LINE) atomic_int arrived;
    _Alignas(DLB_CACHE_LINE) atomic_int phase;
};

struct dlb_team {
    int rank; /* 0 … size-1 */
    int size;
    struct dlb_barrier *barrier; /* may be NULL when size is 1 */
};

void dlb_barrier_init(struct dlb_barrier *barrier);

/* Waits until all members have called it; what they wrote before is then visible to all.
 * Spins, and yields the processor after a while, so that oversubscribed teams finish. */
void dlb_team_barrier(const struct dlb_team *team);

#endif
