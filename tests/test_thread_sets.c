#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "machine/topology.h"
#include "machine_fixture.h"

#include <string.h>

static struct dlb_thread_set set[DLB_THREAD_SETS_MAX];

/* Joins "name=cpuset" of all sets, to be compared in one piece. */
static const char *joined(int n)
{
    static char text[8192];
    size_t used = 0;
    text[0] = 0;
    for (int i = 0; i < n; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s=%s", i ? " " : "",
                                 set[i].name, set[i].cpuset);
    return text;
}

static void check_all(const char *spec, double quota, const char *expected)
{
    struct dlb_topology *t = machine_load(spec);
    dlb_topology_set_quota(t, quota);
    assert_string_equal(joined(dlb_thread_sets(t, set)), expected);
    dlb_topology_release(t);
}

static const char *parsed(const struct dlb_topology *t, const char *list)
{
    int n = 0;
    struct dlb_error error = {""};
    if (dlb_thread_sets_parse(t, list, false, set, &n, &error) != DLB_OK)
        fail_msg("%s", error.text);
    return joined(n);
}

static void names_all_sets_of_a_two_socket_server(void **state)
{
    (void)state;
    check_all("pack:2 numa:1 l3:2 core:2 pu:2", 0,
              "1=0 2=0,2 4=0,2,4,6 8=0,2,4,6,8,10,12,14 smt=0-15"
              " 2-scatter=0,8 4-scatter=0,4,8,12");
}

static void scatters_over_the_widest_level_first(void **state)
{
    (void)state;
    struct dlb_topology *t = machine_load("pack:2 numa:2 l3:2 core:2 pu:1");
    assert_string_equal(parsed(t, "2-scatter,4-scatter,5-scatter"),
                        "2-scatter=0,8 4-scatter=0,4,8,12 5-scatter=0,2,4,8,12");
    assert_string_equal(parsed(t, "one-l3,one-numa"), "one-l3=0-1 one-numa=0-3");
    dlb_topology_release(t);
}

static void names_all_sets_of_a_hybrid(void **state)
{
    (void)state;
    check_all(MACHINE_HYBRID, 0, "1=0 2=0,2 4=0,2,4-5 cores=0,2,4-7 smt=0-7 e-cores=4-7");
    struct dlb_topology *t = machine_load(MACHINE_HYBRID);
    assert_string_equal(parsed(t, "p-cores"), "p-cores=0,2");
    assert_string_equal(parsed(t, "2,p-cores,e-cores"), "2=0,2 e-cores=4-7");
    assert_string_equal(parsed(t, "7"), "7=0-2,4-7");
    dlb_topology_release(t);
}

static void one_core_has_one_set(void **state)
{
    (void)state;
    check_all("core:1", 0, "1=0");
    struct dlb_topology *t = machine_load("core:1");
    assert_string_equal(parsed(t, NULL), "1=0");
    assert_string_equal(parsed(t, "cores"), "cores=0");
    assert_string_equal(parsed(t, "1,cores,smt,one-numa,1-scatter"), "1=0");
    assert_int_equal(set[0].l3_bytes_per_thread, 0);
    dlb_topology_release(t);
}

static void the_default_is_the_sweep_of_counts(void **state)
{
    (void)state;
    struct dlb_topology *t = machine_load("core:6 pu:2");
    assert_string_equal(parsed(t, NULL), "1=0 2=0,2 4=0,2,4,6 cores=0,2,4,6,8,10");
    dlb_topology_set_quota(t, 3.7);
    assert_string_equal(parsed(t, NULL), "1=0 2=0,2 3=0,2,4");
    dlb_topology_set_quota(t, 0.5);
    assert_string_equal(parsed(t, NULL), "1=0");
    dlb_topology_release(t);
    check_all("core:6 pu:2", 3.7, "1=0 2=0,2 3=0,2,4");
}

static void threads_share_the_l3(void **state)
{
    (void)state;
    struct dlb_topology *t = machine_load("pack:2 l3:1(size=32MB) core:4 pu:2");
    size_t l3 = t->cache[3].bytes;
    assert_true(l3 > 0);
    parsed(t, "1,2,2-scatter,8,smt");
    assert_int_equal(set[0].l3_bytes_per_thread, l3);
    assert_int_equal(set[1].l3_bytes_per_thread, l3 / 2);
    assert_int_equal(set[2].l3_bytes_per_thread, l3);
    assert_int_equal(set[3].l3_bytes_per_thread, l3 / 4);
    assert_int_equal(set[4].l3_bytes_per_thread, l3 / 8);
    dlb_topology_release(t);
}

static void keeps_to_the_usable_processing_units(void **state)
{
    (void)state;
    struct dlb_topology *t = machine_load("l3:2 core:2 pu:2");
    /* The first sibling of core 0 and all of core 1 are hidden. */
    t->pu[0].usable = t->pu[2].usable = t->pu[3].usable = false;
    t->usable_pus = 5;
    t->usable_cores = 3;
    dlb_topology_set_quota(t, 0);
    assert_string_equal(parsed(t, NULL), "1=1 2=1,4 cores=1,4,6");
    assert_string_equal(parsed(t, "smt,one-l3"), "smt=1,4-7 one-l3=1");
    struct dlb_error error = {""};
    int n = -1;
    assert_int_equal(dlb_thread_sets_parse(t, "6", false, set, &n, &error), DLB_INVALID);
    assert_non_null(strstr(error.text, "6 threads"));
    assert_non_null(strstr(error.text, "affinity"));
    assert_non_null(strstr(error.text, "5 of the machine's 8"));
    dlb_topology_release(t);
}

static void refuses_more_threads_than_can_run(void **state)
{
    (void)state;
    struct dlb_topology *t = machine_load("core:4");
    struct dlb_error error = {""};
    int n = -1;
    assert_int_equal(dlb_thread_sets_parse(t, "1,5", false, set, &n, &error),
                     DLB_INVALID);
    assert_non_null(strstr(error.text, "5 threads"));
    assert_non_null(strstr(error.text, "at most 4"));
    assert_non_null(strstr(error.text, "--oversubscribe"));
    assert_int_equal(n, -1);
    dlb_topology_set_quota(t, 2.5);
    assert_int_equal(dlb_thread_sets_parse(t, "cores", false, set, &n, &error),
                     DLB_INVALID);
    assert_non_null(strstr(error.text, "quota is 2.5"));
    assert_int_equal(dlb_thread_sets_parse(t, "cores,6", true, set, &n, &error), DLB_OK);
    assert_int_equal(n, 2);
    assert_int_equal(set[1].threads, 6);
    assert_int_equal(set[1].pu[0], set[1].pu[4]);
    assert_string_equal(set[1].cpuset, "0-3");
    dlb_topology_release(t);
}

static void refuses_what_it_does_not_know(void **state)
{
    (void)state;
    struct dlb_topology *t = machine_load("core:4");
    static const char *const list[] = {
        "",
        ",",
        "1,",
        "1,,2",
        "0",
        "-1",
        "+1",
        "two",
        "1x",
        "1-scatterx",
        "cores ",
        "99999999999999999999",
        "p-cores",
        "e-cores",
        "one-l3",
        "Cores",
        "0-scatter",
        "1025",
        "an-overlong-name-an-overlong-name-an-overlong-name"
        "-an-overlong-name"};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        int n = -1;
        struct dlb_error error = {""};
        enum dlb_status status = dlb_thread_sets_parse(t, list[i], true, set, &n, &error);
        if (!strcmp(list[i], "cores ")) {
            assert_int_equal(status, DLB_OK);
            continue;
        }
        assert_int_equal(status, DLB_INVALID);
        assert_int_equal(n, -1);
        assert_non_null(strchr(error.text, '.'));
    }
    struct dlb_error error = {""};
    int n;
    dlb_thread_sets_parse(t, "corse", false, set, &n, &error);
    assert_non_null(strstr(error.text, "'corse'"));
    assert_non_null(strstr(error.text, "cores, smt"));
    assert_null(strstr(error.text, "p-cores"));
    dlb_topology_release(t);
}

static void accepts_up_to_as_many_sets_as_there_is_room(void **state)
{
    (void)state;
    char list[512] = "1";
    int n = 0;
    struct dlb_topology *t = machine_load("core:100");
    for (int i = 2; i <= DLB_THREAD_SETS_MAX; i++)
        sprintf(list + strlen(list), ",%d", i);
    assert_int_equal(dlb_thread_sets_parse(t, list, false, set, &n, NULL), DLB_OK);
    assert_int_equal(n, DLB_THREAD_SETS_MAX);
    strcat(list, ",65");
    assert_int_equal(dlb_thread_sets_parse(t, list, false, set, &n, NULL), DLB_INVALID);
    dlb_topology_release(t);
}

static void a_long_cpuset_is_cut_visibly(void **state)
{
    (void)state;
    struct dlb_topology *t = machine_load("core:256 pu:2");
    parsed(t, "256,smt");
    assert_true(strlen(set[0].cpuset) < sizeof set[0].cpuset);
    assert_string_equal(set[0].cpuset + strlen(set[0].cpuset) - 3, "...");
    assert_string_equal(set[1].cpuset, "0-511");
    dlb_topology_release(t);
}

static void this_machine_has_a_set_of_one(void **state)
{
    (void)state;
    struct dlb_topology *t = machine_load(NULL);
    int n = dlb_thread_sets(t, set);
    assert_true(n >= 1);
    assert_string_equal(set[0].name, "1");
    for (int i = 0; i < n; i++) {
        assert_true(set[i].threads <= t->max_threads);
        for (int k = 0; k < set[i].threads; k++)
            assert_true(t->pu[set[i].pu[k]].usable);
    }
    dlb_topology_release(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_all_sets_of_a_two_socket_server),
        cmocka_unit_test(scatters_over_the_widest_level_first),
        cmocka_unit_test(names_all_sets_of_a_hybrid),
        cmocka_unit_test(one_core_has_one_set),
        cmocka_unit_test(the_default_is_the_sweep_of_counts),
        cmocka_unit_test(threads_share_the_l3),
        cmocka_unit_test(keeps_to_the_usable_processing_units),
        cmocka_unit_test(refuses_more_threads_than_can_run),
        cmocka_unit_test(refuses_what_it_does_not_know),
        cmocka_unit_test(accepts_up_to_as_many_sets_as_there_is_room),
        cmocka_unit_test(a_long_cpuset_is_cut_visibly),
        cmocka_unit_test(this_machine_has_a_set_of_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
