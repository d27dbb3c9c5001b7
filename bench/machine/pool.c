#include "machine/pool.h"

#include <assert.h>
#include <errno.h>
#include <hwloc.h>
#include <omp.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

/* What each thread found while it bound itself, or returned from bind or fetch. */
struct outcome {
    enum dlb_status status;
    struct dlb_error error;
};

struct dlb_pool {
    const struct dlb_topology *topology;
    int threads;
    int pu[DLB_PUS_MAX];     /* index into topology->pu */
    hwloc_bitmap_t before;   /* affinity of the calling thread before open */
    struct outcome *outcome; /* one a thread */
    struct dlb_barrier barrier;
};

static atomic_bool is_open;

void dlb_pool_run(struct dlb_pool *pool, dlb_team_fn *fn, void *context)
{
    if (pool->threads == 1) {
        struct dlb_team team = {0, 1, &pool->barrier};
        fn(context, &team);
        return;
    }
#pragma omp parallel
    {
        struct dlb_team team = {omp_get_thread_num(), pool->threads, &pool->barrier};
        fn(context, &team);
    }
}

static enum dlb_status bind_thread(const struct dlb_pool *pool, int rank,
                                   struct dlb_error *error)
{
    hwloc_topology_t tree = pool->topology->hwloc;
    int os = pool->topology->pu[pool->pu[rank]].os_index;
    enum dlb_status status = DLB_OK;
    hwloc_bitmap_t wanted = hwloc_bitmap_alloc(), found = hwloc_bitmap_alloc();

    if (!wanted || !found) {
        status = dlb_fail(error, DLB_NOMEM, "No memory to bind thread %d.", rank);
        goto out;
    }
    hwloc_bitmap_only(wanted, os);
    if (hwloc_set_cpubind(tree, wanted, HWLOC_CPUBIND_THREAD)) {
        status = dlb_fail(error, DLB_FAULT,
                          "The system refused to bind thread %d to CPU %d: %s.", rank, os,
                          strerror(errno));
        goto out;
    }
    if (hwloc_get_cpubind(tree, found, HWLOC_CPUBIND_THREAD) ||
        !hwloc_bitmap_isequal(wanted, found)) {
        status = dlb_fail(error, DLB_FAULT,
                          "Thread %d was bound to CPU %d, but the system reports another"
                          " affinity.",
                          rank, os);
        goto out;
    }
    int running = sched_getcpu();
    if (running >= 0 && running != os)
        status = dlb_fail(error, DLB_FAULT,
                          "Thread %d was bound to CPU %d, but it runs on CPU %d.", rank,
                          os, running);
out:
    hwloc_bitmap_free(wanted);
    hwloc_bitmap_free(found);
    return status;
}

static void bind_member(void *context, const struct dlb_team *team)
{
    struct dlb_pool *pool = context;
    struct outcome *outcome = &pool->outcome[team->rank];
    outcome->status = bind_thread(pool, team->rank, &outcome->error);
}

static void unbind_member(void *context, const struct dlb_team *team)
{
    const struct dlb_pool *pool = context;
    (void)team;
    hwloc_set_cpubind(pool->topology->hwloc, pool->before, HWLOC_CPUBIND_THREAD);
}

static void count_member(void *context, const struct dlb_team *team)
{
    (void)team;
    atomic_fetch_add((atomic_int *)context, 1);
}

/* The first failure by rank. */
static enum dlb_status first_failure(const struct dlb_pool *pool, struct dlb_error *error)
{
    for (int rank = 0; rank < pool->threads; rank++) {
        const struct outcome *outcome = &pool->outcome[rank];
        if (outcome->status == DLB_OK)
            continue;
        return dlb_fail(error, outcome->status, "%s", outcome->error.text);
    }
    return DLB_OK;
}

/* A limit on the runtime (OMP_THREAD_LIMIT) may make the team smaller than asked: then
 * dlb_pool_run would claim a team that is not there. */
static enum dlb_status check_team(struct dlb_pool *pool, struct dlb_error *error)
{
    atomic_int members = 0;
    dlb_pool_run(pool, count_member, &members);
    if (atomic_load(&members) == pool->threads)
        return DLB_OK;
    return dlb_fail(error, DLB_FAULT,
                    "The OpenMP runtime started %d threads instead of %d; unset"
                    " OMP_THREAD_LIMIT or raise the limit on processes (ulimit -u).",
                    atomic_load(&members), pool->threads);
}

enum dlb_status dlb_pool_open(const struct dlb_topology *topology,
                              const struct dlb_thread_set *set, struct dlb_pool **pool,
                              struct dlb_error *error)
{
    enum dlb_status status = DLB_OK;
    struct dlb_pool *made = NULL;

    if (topology->synthetic)
        return dlb_fail(error, DLB_UNSUPPORTED,
                        "The topology given by --topology is not this machine: threads"
                        " cannot be bound or timed on it; use --dry-run.");
    if (atomic_exchange(&is_open, true))
        return dlb_fail(error, DLB_FAULT, "A team of threads is open already.");

    made = dlb_alloc(sizeof *made);
    if (!made) {
        atomic_store(&is_open, false);
        return dlb_fail(error, DLB_NOMEM, "No memory for a team of %d threads.",
                        set->threads);
    }
    memset(made, 0, sizeof *made);
    made->topology = topology;
    made->threads = set->threads;
    memcpy(made->pu, set->pu, set->threads * sizeof *made->pu);
    dlb_barrier_init(&made->barrier);
    made->outcome = calloc(set->threads, sizeof *made->outcome);
    made->before = hwloc_bitmap_alloc();
    if (!made->outcome || !made->before) {
        status = dlb_fail(error, DLB_NOMEM, "No memory for a team of %d threads.",
                          set->threads);
        goto out;
    }
    if (hwloc_get_cpubind(topology->hwloc, made->before, HWLOC_CPUBIND_THREAD)) {
        status = dlb_fail(error, DLB_FAULT,
                          "The system does not tell the affinity of a thread: %s.",
                          strerror(errno));
        goto out;
    }
    omp_set_dynamic(0);
    omp_set_num_threads(made->threads);
    status = check_team(made, error);
    if (status != DLB_OK)
        goto out;
    dlb_pool_run(made, bind_member, made);
    status = first_failure(made, error);
    if (status != DLB_OK)
        goto out;
    *pool = made;
    made = NULL;
out:
    dlb_pool_close(made);
    return status;
}

void dlb_pool_close(struct dlb_pool *pool)
{
    if (!pool)
        return;
    if (pool->before && !hwloc_bitmap_iszero(pool->before))
        dlb_pool_run(pool, unbind_member, pool);
    hwloc_bitmap_free(pool->before);
    free(pool->outcome);
    dlb_free(pool);
    atomic_store(&is_open, false);
}

int dlb_pool_threads(const struct dlb_pool *pool)
{
    return pool->threads;
}

struct plan_call {
    struct dlb_plan *plan;
    void *const *tensor;
    struct outcome *outcome;
};

static void bind_plan_member(void *context, const struct dlb_team *team)
{
    const struct plan_call *call = context;
    struct outcome *outcome = &call->outcome[team->rank];
    outcome->status =
        call->plan->class->bind(call->plan, call->tensor, team, &outcome->error);
}

static void run_plan_member(void *context, const struct dlb_team *team)
{
    struct dlb_plan *plan = context;
    plan->class->run(plan, team);
}

static void fetch_plan_member(void *context, const struct dlb_team *team)
{
    const struct plan_call *call = context;
    struct outcome *outcome = &call->outcome[team->rank];
    outcome->status = call->plan->class->fetch(call->plan, team, &outcome->error);
}

static const struct dlb_team team_of_one = {0, 1, NULL};

enum dlb_status dlb_pool_bind_plan(struct dlb_pool *pool, struct dlb_plan *plan,
                                   void *const *tensor, struct dlb_error *error)
{
    if (!plan->class->spmd)
        return plan->class->bind(plan, tensor, &team_of_one, error);
    assert(plan->threads == pool->threads);
    struct plan_call call = {plan, tensor, pool->outcome};
    dlb_pool_run(pool, bind_plan_member, &call);
    return first_failure(pool, error);
}

void dlb_pool_run_plan(struct dlb_pool *pool, struct dlb_plan *plan)
{
    if (!plan->class->spmd)
        plan->class->run(plan, &team_of_one);
    else
        dlb_pool_run(pool, run_plan_member, plan);
}

enum dlb_status dlb_pool_fetch_plan(struct dlb_pool *pool, struct dlb_plan *plan,
                                    struct dlb_error *error)
{
    if (!plan->class->spmd)
        return plan->class->fetch(plan, &team_of_one, error);
    assert(plan->threads == pool->threads);
    struct plan_call call = {plan, NULL, pool->outcome};
    dlb_pool_run(pool, fetch_plan_member, &call);
    return first_failure(pool, error);
}
