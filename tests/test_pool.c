#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "machine/pool.h"
#include "machine/runtime.h"
#include "machine_fixture.h"

#include <omp.h>
#include <sched.h>
#include <string.h>

static struct dlb_topology *topology;
static struct dlb_thread_set set[DLB_THREAD_SETS_MAX];

static cpu_set_t at_start; /* before any pool */

static int load(void **state)
{
    (void)state;
    if (sched_getaffinity(0, sizeof at_start, &at_start))
        return 1;
    return dlb_topology_load(NULL, &topology, NULL) != DLB_OK;
}

static int unload(void **state)
{
    (void)state;
    dlb_topology_release(topology);
    return 0;
}

static struct dlb_pool *open_pool(const char *list)
{
    int n;
    struct dlb_pool *pool = NULL;
    struct dlb_error error = {""};
    if (dlb_thread_sets_parse(topology, list, true, set, &n, &error) != DLB_OK ||
        dlb_pool_open(topology, &set[0], &pool, &error) != DLB_OK)
        fail_msg("%s", error.text);
    return pool;
}

enum { MOST = 16 };
struct record {
    int calls[MOST], cpu[MOST], affinity[MOST];
    int size;
};

static void record_member(void *context, const struct dlb_team *team)
{
    struct record *record = context;
    cpu_set_t mask;
    record->calls[team->rank]++;
    record->cpu[team->rank] = sched_getcpu();
    if (!sched_getaffinity(0, sizeof mask, &mask))
        record->affinity[team->rank] = CPU_COUNT(&mask);
    if (team->rank == 0)
        record->size = team->size;
}

/* Counts: alone, all cores, and more threads than there are processing units. */
static void every_thread_runs_once_where_it_is_bound(void **state)
{
    (void)state;
    static const char *const list[] = {"1", "cores", "3", "1", "5", "2"};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        struct dlb_pool *pool = open_pool(list[i]);
        struct record record = {0};
        int threads = dlb_pool_threads(pool);
        assert_int_equal(threads, set[0].threads);
        assert_true(threads <= MOST);
        dlb_pool_run(pool, record_member, &record);
        assert_int_equal(record.size, threads);
        for (int rank = 0; rank < threads; rank++) {
            assert_int_equal(record.calls[rank], 1);
            assert_int_equal(record.affinity[rank], 1);
            assert_int_equal(record.cpu[rank], topology->pu[set[0].pu[rank]].os_index);
        }
        dlb_pool_close(pool);
    }
}

static void close_gives_the_affinity_back(void **state)
{
    (void)state;
    cpu_set_t after;
    dlb_pool_close(open_pool("2"));
    assert_false(sched_getaffinity(0, sizeof after, &after));
    assert_true(CPU_EQUAL(&at_start, &after));
    dlb_pool_close(NULL);
}

static void only_one_pool_is_open(void **state)
{
    (void)state;
    struct dlb_pool *pool = open_pool("1"), *second = NULL;
    struct dlb_error error = {""};
    assert_int_equal(dlb_pool_open(topology, &set[0], &second, &error), DLB_FAULT);
    assert_null(second);
    assert_true(error.text[0]);
    dlb_pool_close(pool);
    dlb_pool_close(open_pool("1"));
}

static void another_machine_cannot_be_bound(void **state)
{
    (void)state;
    struct dlb_topology *other = machine_load("core:1");
    struct dlb_pool *pool = NULL;
    int n;
    assert_int_equal(dlb_thread_sets_parse(other, "1", false, set, &n, NULL), DLB_OK);
    assert_int_equal(dlb_pool_open(other, &set[0], &pool, NULL), DLB_UNSUPPORTED);
    assert_null(pool);
    dlb_topology_release(other);
}

static void a_processing_unit_that_is_not_there_is_a_fault(void **state)
{
    (void)state;
    struct dlb_pool *pool = NULL;
    struct dlb_error error = {""};
    int n, os = topology->pu[0].os_index;
    assert_int_equal(dlb_thread_sets_parse(topology, "1", false, set, &n, NULL), DLB_OK);
    set[0].pu[0] = 0;
    topology->pu[0].os_index = 100000;
    assert_int_equal(dlb_pool_open(topology, &set[0], &pool, &error), DLB_FAULT);
    topology->pu[0].os_index = os;
    assert_null(pool);
    assert_non_null(strstr(error.text, "100000"));
    dlb_pool_close(open_pool("1"));
}

struct relay {
    int value[MOST], sum[MOST];
};

static void relay_member(void *context, const struct dlb_team *team)
{
    struct relay *relay = context;
    for (int round = 0; round < 50; round++) {
        relay->value[team->rank] = team->rank + round;
        dlb_team_barrier(team);
        int sum = 0;
        for (int i = 0; i < team->size; i++)
            sum += relay->value[i];
        relay->sum[team->rank] = sum;
        dlb_team_barrier(team);
    }
}

static void members_share_a_barrier(void **state)
{
    (void)state;
    static const char *const list[] = {"1", "2", "4"};
    for (int i = 0; i < 3; i++) {
        struct dlb_pool *pool = open_pool(list[i]);
        int n = dlb_pool_threads(pool);
        struct relay relay = {0};
        for (int repeat = 0; repeat < 5; repeat++) {
            dlb_pool_run(pool, relay_member, &relay);
            for (int rank = 0; rank < n; rank++)
                assert_int_equal(relay.sum[rank], n * 49 + n * (n - 1) / 2);
        }
        dlb_pool_close(pool);
    }
}

/* A plan that counts, and fails in one rank when told to. */
struct counting_plan {
    struct dlb_plan plan;
    atomic_int bound, run, fetched;
    int size, failing_rank;
    void *tensor;
    int inner_threads;
};

static enum dlb_status count_bind(struct dlb_plan *plan, void *const *tensor,
                                  const struct dlb_team *team, struct dlb_error *error)
{
    struct counting_plan *counting = (struct counting_plan *)plan;
    atomic_fetch_add(&counting->bound, 1);
    if (team->rank == 0) {
        counting->size = team->size;
        counting->tensor = tensor[0];
    }
    if (team->rank == counting->failing_rank)
        return dlb_fail(error, DLB_NOMEM, "rank %d of %d%% fails", team->rank,
                        team->size);
    return DLB_OK;
}

static void count_run(struct dlb_plan *plan, const struct dlb_team *team)
{
    struct counting_plan *counting = (struct counting_plan *)plan;
    atomic_fetch_add(&counting->run, 1);
    if (team->size == 1)
        counting->inner_threads = omp_get_max_threads();
}

static enum dlb_status count_fetch(struct dlb_plan *plan, const struct dlb_team *team,
                                   struct dlb_error *error)
{
    struct counting_plan *counting = (struct counting_plan *)plan;
    atomic_fetch_add(&counting->fetched, 1);
    if (team->rank == counting->failing_rank)
        return dlb_fail(error, DLB_FAULT, "fetch");
    return DLB_OK;
}

static void plans_run_as_their_class_demands(void **state)
{
    (void)state;
    static const struct dlb_plan_class spmd = {"native",  true,        count_bind,
                                               count_run, count_fetch, NULL};
    static const struct dlb_plan_class own = {"onednn",  false,       count_bind,
                                              count_run, count_fetch, NULL};
    float tensor[1];
    void *tensors[] = {tensor};
    struct dlb_pool *pool = open_pool("3");
    struct dlb_error error = {""};
    for (int kind = 0; kind < 2; kind++) {
        struct counting_plan plan = {.plan = {.class = kind ? &own : &spmd, .threads = 3},
                                     .failing_rank = -1};
        int calls = kind ? 1 : 3;
        assert_int_equal(dlb_pool_bind_plan(pool, &plan.plan, tensors, &error), DLB_OK);
        dlb_pool_run_plan(pool, &plan.plan);
        dlb_pool_run_plan(pool, &plan.plan);
        assert_int_equal(dlb_pool_fetch_plan(pool, &plan.plan, &error), DLB_OK);
        assert_int_equal(plan.bound, calls);
        assert_int_equal(plan.run, 2 * calls);
        assert_int_equal(plan.fetched, calls);
        assert_int_equal(plan.size, calls);
        assert_ptr_equal(plan.tensor, tensor);
        assert_string_equal(error.text, "");
        if (kind)
            assert_int_equal(plan.inner_threads, 3);

        plan.failing_rank = calls - 1;
        assert_int_equal(dlb_pool_bind_plan(pool, &plan.plan, tensors, &error),
                         DLB_NOMEM);
        assert_non_null(strstr(error.text, kind ? "rank 0 of 1%" : "rank 2 of 3%"));
        assert_int_equal(dlb_pool_fetch_plan(pool, &plan.plan, NULL), DLB_FAULT);
        plan.failing_rank = -1;
        assert_int_equal(dlb_pool_bind_plan(pool, &plan.plan, tensors, NULL), DLB_OK);
        error.text[0] = 0;
    }
    dlb_pool_close(pool);
}

static void list_two(dlb_library_visit_fn *visit, void *context)
{
    visit(context, "/usr/lib/libm.so.6");
    visit(context, "/usr/lib/libgomp.so.1");
    visit(context, "/opt/intel/libiomp5.so");
}
static void list_two_copies(dlb_library_visit_fn *visit, void *context)
{
    visit(context, "/usr/lib/libgomp.so.1");
    visit(context, "/site/torch/libgomp-a34b3233.so.1");
}
static void list_one(dlb_library_visit_fn *visit, void *context)
{
    visit(context, "/usr/lib/libomptarget.so");
    visit(context, "/usr/lib/libompi.so.1");
    visit(context, "/usr/lib/libomp.so.5");
    visit(context, "/usr/lib/libomp.so.5");
    visit(context, "libgompous.so");
    visit(context, "");
}
static void list_many(dlb_library_visit_fn *visit, void *context)
{
    for (int i = 0; i < 2 * DLB_RUNTIMES_MAX; i++) {
        char path[32];
        snprintf(path, sizeof path, "/%d/libgomp.so.1", i);
        visit(context, path);
    }
}

static void two_runtimes_are_refused(void **state)
{
    (void)state;
    struct dlb_error error = {""};
    assert_int_equal(dlb_runtimes_check(list_two, &error), DLB_FAULT);
    assert_non_null(strstr(error.text, "/usr/lib/libgomp.so.1"));
    assert_non_null(strstr(error.text, "/opt/intel/libiomp5.so"));
    assert_int_equal(dlb_runtimes_check(list_two_copies, &error), DLB_FAULT);
    assert_int_equal(dlb_runtimes_check(list_many, &error), DLB_FAULT);
    assert_non_null(strstr(error.text, "16 OpenMP"));
    assert_int_equal(dlb_runtimes_check(list_one, &error), DLB_OK);
    struct dlb_runtimes runtimes;
    dlb_runtimes_find(list_one, &runtimes);
    assert_int_equal(runtimes.n, 1);
    assert_string_equal(runtimes.path[0], "/usr/lib/libomp.so.5");
}

static void this_process_has_one_runtime(void **state)
{
    (void)state;
    struct dlb_error error = {""};
    struct dlb_runtimes runtimes;
    if (dlb_pool_check_runtime(&error) != DLB_OK)
        fail_msg("%s", error.text);
    dlb_runtimes_find(dlb_libraries_loaded, &runtimes);
    assert_int_equal(runtimes.n, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_thread_runs_once_where_it_is_bound),
        cmocka_unit_test(close_gives_the_affinity_back),
        cmocka_unit_test(only_one_pool_is_open),
        cmocka_unit_test(another_machine_cannot_be_bound),
        cmocka_unit_test(a_processing_unit_that_is_not_there_is_a_fault),
        cmocka_unit_test(members_share_a_barrier),
        cmocka_unit_test(plans_run_as_their_class_demands),
        cmocka_unit_test(two_runtimes_are_refused),
        cmocka_unit_test(this_process_has_one_runtime),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
