/*
 * pool_fixture.h - the team of threads for tests that run plans.
 *
 * One at a time: opening closes the one before.  pool_close is a teardown for cmocka, so
 * that a test that fails leaves no team open.
 */
#ifndef DLB_TESTS_POOL_FIXTURE_H
#define DLB_TESTS_POOL_FIXTURE_H

#include "machine/pool.h"

static struct dlb_topology *pool_topology;
static struct dlb_pool *pool_in_use;

static inline int pool_close(void **state)
{
    (void)state;
    if (pool_in_use)
        dlb_pool_close(pool_in_use);
    pool_in_use = NULL;
    dlb_topology_release(pool_topology);
    pool_topology = NULL;
    return 0;
}

/* threads as on the command line; more than the machine has share processors. */
static inline struct dlb_pool *pool_open(const char *threads)
{
    static struct dlb_thread_set set[DLB_THREAD_SETS_MAX];
    struct dlb_error error = {""};
    int sets = 0;
    pool_close(NULL);
    if (dlb_topology_load(NULL, &pool_topology, &error) ||
        dlb_thread_sets_parse(pool_topology, threads, true, set, &sets, &error) ||
        dlb_pool_open(pool_topology, &set[0], &pool_in_use, &error))
        fail_msg("%s", error.text);
    return pool_in_use;
}

#endif
