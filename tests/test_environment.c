#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "machine/environment.h"
#include "machine/system_file.h"
#include "machine_fixture.h"

#include <stdlib.h>
#include <string.h>

static const char *fact(const struct dlb_fact *facts, int n, const char *section,
                        const char *key)
{
    for (int i = 0; i < n; i++)
        if (!strcmp(facts[i].section, section) && !strcmp(facts[i].key, key))
            return facts[i].value ? facts[i].value : facts[i].text;
    return "";
}

static void tells_the_facts_of_this_machine(void **state)
{
    (void)state;
    struct dlb_topology *t = machine_load(NULL);
    struct dlb_fact *facts = NULL;
    int n = 0;
    assert_int_equal(dlb_facts_collect(t, &facts, &n, NULL), DLB_OK);
    static const char *const needed[][2] = {
        {"cpu", "cores"},       {"cpu", "usable_isas"}, {"os", "kernel"},
        {"memory", "total"},    {"limits", "affinity"}, {"build", "compiler"},
        {"libraries", "hwloc"}, {"build", "version"},   {"timer", "resolution_ns"},
    };
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
        assert_true(fact(facts, n, needed[i][0], needed[i][1])[0]);
    for (int i = 0; i < n; i++) {
        assert_true(facts[i].section[0] && facts[i].key[0] && facts[i].text[0]);
        assert_string_not_equal(facts[i].text, "unknown");
        for (int k = 0; k < i; k++)
            assert_false(!strcmp(facts[i].section, facts[k].section) &&
                         !strcmp(facts[i].key, facts[k].key));
    }
    dlb_facts_release(facts, n);
    dlb_facts_release(NULL, 0);
    dlb_topology_release(t);
}

static void reads_facts_from_files(void **state)
{
    (void)state;
    char flags[1024] = "", cpuinfo[2048];
    char *root = machine_root();
    for (int i = 0; i < 60; i++)
        sprintf(flags + strlen(flags), "%sfeature%d", i ? " " : "", i);
    strcat(flags, " hypervisor");
    snprintf(cpuinfo, sizeof cpuinfo,
             "processor\t: 0\nvendor_id\t: Maker\ncpu family\t: 6\nmodel\t\t: 167\n"
             "model name\t: Maker's best\nstepping\t: 1\nmicrocode\t: 0x12\n"
             "flags\t\t: %s\n\nprocessor\t: 1\nvendor_id\t: Other\n",
             flags);
    machine_file(root, "/proc/cpuinfo", cpuinfo);
    machine_file(root, "/sys/devices/system/cpu/vulnerabilities/spectre", "Mitigated\n");
    machine_file(root, "/sys/devices/system/cpu/vulnerabilities/alpha", "Vulnerable\n");
    machine_file(root, "/sys/kernel/mm/transparent_hugepage/enabled",
                 "always [madvise] never\n");
    machine_file(root, "/etc/os-release", "NAME=x\nPRETTY_NAME=\"Some Linux 12\"\n");
    machine_file(root, "/.dockerenv", "");
    struct dlb_topology *t = machine_load("pack:2 l3:1 core:4 pu:2");
    struct dlb_fact *facts = NULL;
    int n = 0;
    setenv("OMP_WAIT_POLICY", "active", 1);
    assert_int_equal(dlb_facts_collect_from(root, t, &facts, &n, NULL), DLB_OK);
    unsetenv("OMP_WAIT_POLICY");
    assert_string_equal(fact(facts, n, "cpu", "vendor"), "Maker");
    assert_string_equal(fact(facts, n, "cpu", "model"), "167");
    assert_string_equal(fact(facts, n, "cpu", "model_name"), "Maker's best");
    assert_string_equal(fact(facts, n, "cpu", "flags"), flags);
    assert_string_equal(fact(facts, n, "cpu", "mitigations"),
                        "alpha: Vulnerable; spectre: Mitigated");
    assert_string_equal(fact(facts, n, "cpu", "cores"), "8");
    assert_string_equal(fact(facts, n, "memory", "transparent_huge_pages"), "madvise");
    assert_string_equal(fact(facts, n, "os", "distribution"), "Some Linux 12");
    assert_string_equal(fact(facts, n, "os", "virtual_machine"), "yes");
    assert_string_equal(fact(facts, n, "os", "container"), "docker");
    assert_string_equal(fact(facts, n, "environment", "OMP_WAIT_POLICY"), "active");
    assert_string_equal(fact(facts, n, "power", "governor"), "");
    dlb_facts_release(facts, n);
    dlb_topology_release(t);
    machine_root_remove(root);
}

static void machine_keys_differ_where_machines_do(void **state)
{
    (void)state;
    static const char *const spec[] = {
        "pack:2 l3:1 core:4 pu:2",        "pack:1 l3:1 core:8 pu:2",
        "pack:2 l3:1 core:4 pu:1",        "pack:2 l3:1(size=1MB) core:4 pu:2",
        "pack:2 numa:1 l3:1 core:4 pu:2", MACHINE_HYBRID};
    enum { N = sizeof spec / sizeof *spec };
    char key[N][256], again[256];
    for (int i = 0; i < N; i++) {
        struct dlb_topology *t = machine_load(spec[i]);
        dlb_machine_key(t, key[i]);
        dlb_machine_key(t, again);
        assert_string_equal(key[i], again);
        for (int k = 0; k < i; k++)
            assert_string_not_equal(key[i], key[k]);
        dlb_topology_release(t);
    }
    assert_non_null(strstr(key[N - 1], "Hybrid processor"));
}

static void reads_the_weather(void **state)
{
    (void)state;
    struct dlb_weather weather;
    char *root = machine_root();
    dlb_weather_read_from(root, &weather);
    assert_int_equal(weather.migrations, -1);
    assert_int_equal(weather.ctx_switches_invol, 0);
    assert_true(weather.total_ticks == 0);
    machine_file(root, "/proc/self/task/7/status",
                 "Name:\tx\nvoluntary_ctxt_switches:\t9\n"
                 "nonvoluntary_ctxt_switches:\t5\n");
    machine_file(root, "/proc/self/task/8/status", "nonvoluntary_ctxt_switches:\t6\n");
    machine_file(root, "/proc/loadavg", "1.50 0 0\n");
    machine_file(root, "/proc/stat", "cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1\n");
    dlb_weather_read_from(root, &weather);
    assert_int_equal(weather.ctx_switches_invol, 11);
    assert_int_equal(weather.migrations, -1);
    assert_true(weather.load1 == 1.5);
    assert_true(weather.total_ticks == 36);
    assert_true(weather.steal_ticks == 8);
    machine_file(root, "/proc/self/task/7/sched", "x (7)\nse.nr_migrations  :  3\n");
    dlb_weather_read_from(root, &weather);
    assert_int_equal(weather.migrations, 3);
    machine_root_remove(root);
    dlb_weather_read(&weather);
    assert_true(weather.ctx_switches_invol >= 0);
}

static void the_smaller_memory_counts(void **state)
{
    (void)state;
    char *root = machine_root();
    assert_int_equal(dlb_memory_available_from(root), 0);
    machine_file(root, "/proc/meminfo", "MemTotal: 9 kB\nMemAvailable:    8 kB\n");
    assert_int_equal(dlb_memory_available_from(root), 8192);
    machine_file(root, "/proc/self/cgroup", "0::/job\n");
    machine_file(root, "/proc/self/mountinfo", "3 2 0:26 / /cg rw - cgroup2 c rw\n");
    machine_file(root, "/cg/job/memory.max", "6000\n");
    machine_file(root, "/cg/job/memory.current", "1000\n");
    assert_int_equal(dlb_memory_available_from(root), 5000);
    machine_file(root, "/cg/job/memory.max", "600000\n");
    assert_int_equal(dlb_memory_available_from(root), 8192);
    machine_root_remove(root);
    assert_true(dlb_memory_available() > 0);
}

static void values_are_found_by_their_whole_key(void **state)
{
    (void)state;
    char value[8];
    static const char text[] = "model name : x\nmodel : 1\nempty :\nlast 2";
    assert_true(dlb_text_value(text, "model", value, sizeof value));
    assert_string_equal(value, "1");
    assert_true(dlb_text_value(text, "last", value, sizeof value));
    assert_string_equal(value, "2");
    assert_true(dlb_text_value(text, "empty", value, sizeof value));
    assert_string_equal(value, "");
    assert_false(dlb_text_value(text, "mode", value, sizeof value));
    assert_false(dlb_text_value(text, "", value, sizeof value));
    assert_false(dlb_text_value(NULL, "model", value, sizeof value));
    assert_true(dlb_text_value("k: 123456789", "k", value, sizeof value));
    assert_string_equal(value, "1234567");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tells_the_facts_of_this_machine),
        cmocka_unit_test(reads_facts_from_files),
        cmocka_unit_test(machine_keys_differ_where_machines_do),
        cmocka_unit_test(reads_the_weather),
        cmocka_unit_test(the_smaller_memory_counts),
        cmocka_unit_test(values_are_found_by_their_whole_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
