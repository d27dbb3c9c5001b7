/*
 * pool.h - the one team of OpenMP threads, bound to a thread set.
 *
 * The only parallel regions of the project are opened here.  The runtime is the same
 * libgomp as oneDNN's; dlb_pool_check_runtime refuses a process that holds two.
 */
#ifndef DLB_MACHINE_POOL_H
#define DLB_MACHINE_POOL_H

#include "core/plan.h"
#include "machine/topology.h"

struct dlb_pool; /* at most one is open at a time */

/*
 * Makes set the current team: sets OpenMP's thread count, binds each thread with hwloc
 * and reads the binding back (DLB_FAULT when the system refuses or moved a thread).
 * DLB_UNSUPPORTED when topology is not this machine.
 */
enum dlb_status dlb_pool_open(const struct dlb_topology *topology,
                              const struct dlb_thread_set *set, struct dlb_pool **pool,
                              struct dlb_error *error);
/* Gives all threads the affinity that the calling thread had before open.  Safe on
 * NULL. */
void dlb_pool_close(struct dlb_pool *pool);

int dlb_pool_threads(const struct dlb_pool *pool);

typedef void dlb_team_fn(void *context, const struct dlb_team *team);

/* Opens one parallel region; fn is called once by each thread with the same context. */
void dlb_pool_run(struct dlb_pool *pool, dlb_team_fn *fn, void *context);

/*
 * Runs plan->class's function over the pool as plan.h demands: by every thread for spmd
 * plans, by the calling thread otherwise.  dlb_pool_run_plan is what gets timed.
 */
enum dlb_status dlb_pool_bind_plan(struct dlb_pool *pool, struct dlb_plan *plan,
                                   void *const *tensor, struct dlb_error *error);
void dlb_pool_run_plan(struct dlb_pool *pool, struct dlb_plan *plan);
enum dlb_status dlb_pool_fetch_plan(struct dlb_pool *pool, struct dlb_plan *plan,
                                    struct dlb_error *error);

/* DLB_FAULT with the reason and the libraries when more than one OpenMP runtime is
 * loaded. */
enum dlb_status dlb_pool_check_runtime(struct dlb_error *error);

#endif
