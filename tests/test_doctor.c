#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "machine/doctor.h"
#include "machine_fixture.h"

#include <stdlib.h>
#include <string.h>

#define CPU "/sys/devices/system/cpu/"

enum { ROOM = 64 };
static struct dlb_finding finding[ROOM];

static const struct dlb_finding *find(const char *subject, int n)
{
    for (int i = 0; i < n; i++)
        if (!strcmp(finding[i].subject, subject))
            return &finding[i];
    return NULL;
}

static int examine(const char *spec, const char *root)
{
    struct dlb_topology *t = machine_load(spec);
    memset(finding, 0, sizeof finding);
    int n = dlb_doctor_examine(t, root, finding, ROOM);
    dlb_topology_release(t);
    for (int i = 0; i < n; i++) {
        assert_true(finding[i].subject[0] && finding[i].what[0]);
        assert_int_equal(finding[i].what[strlen(finding[i].what) - 1], '.');
        /* What is wrong has a remedy. */
        assert_int_equal(finding[i].remedy[0] != 0, finding[i].level != DLB_FINDING_OK);
    }
    return n;
}

static void check(int n, const char *subject, int level, const char *words)
{
    const struct dlb_finding *found = find(subject, n);
    if (level < 0) {
        assert_null(found);
        return;
    }
    assert_non_null(found);
    assert_int_equal(found->level, level);
    assert_non_null(strstr(found->what, words));
}

static void clear_openmp_variables(void)
{
    static const char *const name[] = {
        "OMP_PROC_BIND",    "OMP_PLACES",      "GOMP_CPU_AFFINITY",
        "KMP_AFFINITY",     "OMP_DYNAMIC",     "OMP_NUM_THREADS",
        "OMP_THREAD_LIMIT", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"};
    for (size_t i = 0; i < sizeof name / sizeof *name; i++)
        unsetenv(name[i]);
}

static void examines_this_machine(void **state)
{
    (void)state;
    assert_true(examine(NULL, "") > 0);
}

static void says_nothing_of_what_it_cannot_see(void **state)
{
    (void)state;
    clear_openmp_variables();
    char *root = machine_root();
    static const char *const subject[] = {
        "governor",        "turbo",      "load",        "quota",           "steal",
        "throttling",      "huge-pages", "clocksource", "virtual-machine", "swap",
        "openmp-variables"};
    int n = examine("core:2", root);
    for (size_t i = 0; i < sizeof subject / sizeof *subject; i++)
        check(n, subject[i], -1, "");
    machine_root_remove(root);
}

static void survives_garbage(void **state)
{
    (void)state;
    char *root = machine_root();
    static const char *const path[] = {"/proc/loadavg",
                                       "/proc/stat",
                                       "/proc/meminfo",
                                       "/proc/cpuinfo",
                                       "/proc/self/cgroup",
                                       "/proc/self/mountinfo",
                                       CPU "intel_pstate/no_turbo",
                                       "/sys/kernel/mm/transparent_hugepage/enabled"};
    static const char *const text[] = {"",
                                       "\n\n\n",
                                       "cpu",
                                       "cpu \nflags\nSwapTotal:\n",
                                       "::::\n - - - cgroup2\n:",
                                       "[[[[never"};
    for (size_t k = 0; k < sizeof text / sizeof *text; k++) {
        for (size_t i = 0; i < sizeof path / sizeof *path; i++)
            machine_file(root, path[i], text[k]);
        examine("core:2", root);
    }
    machine_root_remove(root);
}

static void finds_what_disturbs(void **state)
{
    (void)state;
    char *root = machine_root();
    machine_file(root, CPU "cpu0/cpufreq/scaling_governor", "performance\n");
    machine_file(root, CPU "cpu1/cpufreq/scaling_governor", "powersave\n");
    machine_file(root, CPU "intel_pstate/no_turbo", "0\n");
    machine_file(root, CPU "cpu1/thermal_throttle/core_throttle_count", "17\n");
    machine_file(root, "/proc/loadavg", "3.25 1 1 1/2 3\n");
    machine_file(root, "/proc/stat", "cpu  50 0 30 10 0 0 0 10 0 0\ncpu0 1 1 1\n");
    machine_file(root, "/proc/self/cgroup", "0::/\n");
    machine_file(root, "/proc/self/mountinfo",
                 "30 22 0:26 / /cg rw - cgroup2 cgroup2 rw\n");
    machine_file(root, "/cg/cpu.max", "150000 100000\n");
    machine_file(root, "/cg/cpu.stat", "nr_throttled 12\n");
    machine_file(root, "/sys/kernel/mm/transparent_hugepage/enabled",
                 "always madvise [never]\n");
    machine_file(root, "/sys/devices/system/clocksource/clocksource0/current_clocksource",
                 "hpet\n");
    machine_file(root, "/proc/cpuinfo", "processor : 0\nflags\t\t: fpu hypervisor avx\n");
    machine_file(root, "/sys/class/dmi/id/product_name", "KVM\n");
    machine_file(root, "/proc/meminfo", "SwapTotal: 4096 kB\nSwapFree:  2048 kB\n");
    clear_openmp_variables();
    setenv("OMP_PROC_BIND", "close", 1);
    int n = examine("core:2 pu:2", root);
    clear_openmp_variables();
    check(n, "governor", DLB_FINDING_WARNING, "1 of 2 CPUs is 'powersave'");
    check(n, "turbo", DLB_FINDING_NOTE, "on");
    check(n, "smt", DLB_FINDING_NOTE, "siblings");
    check(n, "load", DLB_FINDING_WARNING, "3.25");
    check(n, "quota", DLB_FINDING_WARNING, "quota of 1.5");
    check(n, "quota", DLB_FINDING_WARNING, "12 times");
    check(n, "steal", DLB_FINDING_WARNING, "10.0 %");
    check(n, "throttling", DLB_FINDING_NOTE, "17 times");
    check(n, "huge-pages", DLB_FINDING_WARNING, "off");
    check(n, "clocksource", DLB_FINDING_WARNING, "'hpet'");
    check(n, "virtual-machine", DLB_FINDING_NOTE, "(KVM)");
    check(n, "swap", DLB_FINDING_NOTE, "2 MiB");
    check(n, "openmp-variables", DLB_FINDING_WARNING, "OMP_PROC_BIND=close");
    machine_root_remove(root);
}

static void praises_a_quiet_machine(void **state)
{
    (void)state;
    char *root = machine_root();
    machine_file(root, CPU "cpu0/cpufreq/scaling_governor", "performance\n");
    machine_file(root, CPU "cpufreq/boost", "0\n");
    machine_file(root, CPU "cpu0/thermal_throttle/package_throttle_count", "0\n");
    machine_file(root, "/proc/loadavg", "0.10 0 0 1/2 3\n");
    machine_file(root, "/proc/stat", "cpu  50 0 30 1000 0 0 0 1 0 0\n");
    machine_file(root, "/sys/kernel/mm/transparent_hugepage/enabled",
                 "always [madvise] never\n");
    machine_file(root, "/sys/devices/system/clocksource/clocksource0/current_clocksource",
                 "tsc\n");
    machine_file(root, "/proc/cpuinfo", "flags : fpu avx\n");
    machine_file(root, "/proc/meminfo", "SwapTotal: 0 kB\nSwapFree: 0 kB\n");
    int n = examine("core:2", root);
    static const char *const subject[] = {"governor",   "turbo",       "smt",
                                          "load",       "steal",       "throttling",
                                          "huge-pages", "clocksource", "swap"};
    for (size_t i = 0; i < sizeof subject / sizeof *subject; i++)
        check(n, subject[i], DLB_FINDING_OK, "");
    check(n, "quota", -1, "");
    check(n, "virtual-machine", -1, "");
    machine_root_remove(root);
}

static void keeps_to_the_room(void **state)
{
    (void)state;
    struct dlb_topology *t = machine_load("core:2");
    memset(finding, 0, sizeof finding);
    assert_int_equal(dlb_doctor_examine(t, "", finding, 2), 2);
    assert_int_equal(finding[2].subject[0], 0);
    assert_int_equal(dlb_doctor_examine(t, "", finding, 0), 0);
    dlb_topology_release(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(examines_this_machine),
        cmocka_unit_test(says_nothing_of_what_it_cannot_see),
        cmocka_unit_test(survives_garbage),
        cmocka_unit_test(finds_what_disturbs),
        cmocka_unit_test(praises_a_quiet_machine),
        cmocka_unit_test(keeps_to_the_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
