#include "machine/doctor.h"

#include "machine/environment.h"
#include "machine/limits.h"
#include "machine/runtime.h"
#include "machine/system_file.h"
#include "measure/timer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CPU "/sys/devices/system/cpu/"

static const double steal_worth_a_warning = 0.01;
static const double coarse_clock_ns = 1000;
enum { STEAL_MILLISECONDS = 200 };

struct examination {
    const struct dlb_topology *topology;
    const char *root;
    struct dlb_finding *finding;
    int n, room;
};

/* A finding without a remedy has "". */
__attribute__((format(printf, 5, 6))) static void
report(struct examination *all, enum dlb_finding_level level, const char *subject,
       const char *remedy, const char *format, ...)
{
    if (all->n == all->room)
        return;
    struct dlb_finding *finding = &all->finding[all->n++];
    va_list arguments;
    finding->level = level;
    snprintf(finding->subject, sizeof finding->subject, "%s", subject);
    snprintf(finding->remedy, sizeof finding->remedy, "%s", remedy);
    va_start(arguments, format);
    vsnprintf(finding->what, sizeof finding->what, format, arguments);
    va_end(arguments);
}

static void check_governor(struct examination *all)
{
    char path[128], governor[64], other[64] = "";
    int found = 0, bad = 0;
    for (int i = 0; i < all->topology->pus; i++) {
        snprintf(path, sizeof path, CPU "cpu%d/cpufreq/scaling_governor",
                 all->topology->pu[i].os_index);
        if (!dlb_file_line(all->root, path, governor, sizeof governor))
            continue;
        found++;
        if (strcmp(governor, "performance")) {
            bad++;
            snprintf(other, sizeof other, "%s", governor);
        }
    }
    if (bad)
        report(all, DLB_FINDING_WARNING, "governor",
               "sudo cpupower frequency-set -g performance",
               "The frequency governor of %d of %d CPUs is '%s': the clock follows the"
               " load.",
               bad, found, other);
    else if (found)
        report(all, DLB_FINDING_OK, "governor", "", "The governor is 'performance'.");
}

static void check_turbo(struct examination *all)
{
    double off = 0, on = 0;
    bool intel = dlb_file_number(all->root, CPU "intel_pstate/no_turbo", &off);
    bool other = dlb_file_number(all->root, CPU "cpufreq/boost", &on);
    if (!intel && !other)
        return;
    if (intel ? off == 0 : on != 0)
        report(all, DLB_FINDING_NOTE, "turbo",
               intel ? "echo 1 | sudo tee " CPU "intel_pstate/no_turbo"
                     : "echo 0 | sudo tee " CPU "cpufreq/boost",
               "Turbo is on: the clock depends on temperature and on how many cores"
               " work.");
    else
        report(all, DLB_FINDING_OK, "turbo", "", "Turbo is off.");
}

static void check_smt(struct examination *all)
{
    const struct dlb_topology *topology = all->topology;
    if (topology->pus > topology->cores)
        report(all, DLB_FINDING_NOTE, "smt",
               "Keep to the thread set 'cores', or: echo off | sudo tee " CPU
               "smt/control",
               "Cores have SMT siblings: what others run on a sibling slows a core"
               " down.");
    else
        report(all, DLB_FINDING_OK, "smt", "", "No SMT siblings are in use.");
}

static void check_load(struct examination *all)
{
    double load = 0;
    double much = 0.05 * all->topology->pus;
    if (much < 0.5)
        much = 0.5;
    if (!dlb_file_number(all->root, "/proc/loadavg", &load))
        return;
    if (load > much)
        report(all, DLB_FINDING_WARNING, "load",
               "Stop what else runs (see top) and wait a minute.",
               "The load average is %.2f on %d processing units.", load,
               all->topology->pus);
    else
        report(all, DLB_FINDING_OK, "load", "", "The load average is %.2f.", load);
}

static void check_quota(struct examination *all)
{
    struct dlb_limits limits;
    dlb_limits_read(all->root, &limits);
    if (limits.quota_cpus <= 0)
        return;
    char throttled[64] = "";
    if (limits.throttled_periods > 0)
        snprintf(throttled, sizeof throttled, "; it has stopped the group %.0f times",
                 limits.throttled_periods);
    report(all, DLB_FINDING_WARNING, "quota",
           "Run without a CPU quota (docker: no --cpus), or pin a cpuset instead"
           " (--cpuset-cpus).",
           "A CPU quota of %.4g allows %d thread%s at once%s.", limits.quota_cpus,
           all->topology->max_threads, all->topology->max_threads == 1 ? "" : "s",
           throttled);
}

static void check_steal(struct examination *all)
{
    struct dlb_weather before, after;
    dlb_weather_read_from(all->root, &before);
    /* Copies of the files do not change by waiting. */
    if (!all->root[0])
        nanosleep(&(struct timespec){.tv_nsec = STEAL_MILLISECONDS * 1000000L}, NULL);
    dlb_weather_read_from(all->root, &after);
    double total = after.total_ticks - before.total_ticks;
    double steal = after.steal_ticks - before.steal_ticks;
    const char *when = "just now";
    if (total <= 0) {
        total = after.total_ticks;
        steal = after.steal_ticks;
        when = "since it started";
    }
    if (total <= 0)
        return;
    if (steal / total > steal_worth_a_warning)
        report(all, DLB_FINDING_WARNING, "steal",
               "Use dedicated CPUs, or another time of the day.",
               "The hypervisor gave %.1f %% of this machine's CPU time to others %s.",
               100 * steal / total, when);
    else
        report(all, DLB_FINDING_OK, "steal", "", "Steal time is %.1f %% %s.",
               100 * steal / total, when);
}

static void check_throttling(struct examination *all)
{
    static const char *const counter[] = {"core_throttle_count",
                                          "package_throttle_count"};
    double most = 0;
    bool found = false;
    for (int i = 0; i < all->topology->pus; i++) {
        for (int k = 0; k < 2; k++) {
            char path[128];
            double count = 0;
            snprintf(path, sizeof path, CPU "cpu%d/thermal_throttle/%s",
                     all->topology->pu[i].os_index, counter[k]);
            found |= dlb_file_number(all->root, path, &count);
            if (count > most)
                most = count;
        }
    }
    if (most > 0)
        report(all, DLB_FINDING_NOTE, "throttling",
               "Cool the machine better, or turn turbo off; see whether the count rises"
               " during a run.",
               "The processor was slowed by heat %.0f times since it started.", most);
    else if (found)
        report(all, DLB_FINDING_OK, "throttling", "", "No thermal throttling so far.");
}

static void check_huge_pages(struct examination *all)
{
    char line[128];
    if (!dlb_file_line(all->root, "/sys/kernel/mm/transparent_hugepage/enabled", line,
                       sizeof line))
        return;
    if (strstr(line, "[never]"))
        report(all, DLB_FINDING_WARNING, "huge-pages",
               "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled",
               "Transparent huge pages are off: large tensors suffer TLB misses.");
    else
        report(all, DLB_FINDING_OK, "huge-pages", "", "Transparent huge pages: %s.",
               line);
}

static void check_runtimes(struct examination *all)
{
    struct dlb_error error;
    if (dlb_runtimes_check(dlb_libraries_loaded, &error) != DLB_OK)
        report(all, DLB_FINDING_WARNING, "openmp",
               "Use a oneDNN that is built with the same OpenMP runtime as dlbench.",
               "%.250s", error.text);
    else
        report(all, DLB_FINDING_OK, "openmp", "", "One OpenMP runtime is loaded.");
}

static void check_openmp_variables(struct examination *all)
{
    static const struct {
        const char *name;
        enum dlb_finding_level level;
        const char *effect;
    } variable[] = {
        {"OMP_PROC_BIND", DLB_FINDING_WARNING, "binds threads before dlbench does"},
        {"OMP_PLACES", DLB_FINDING_WARNING, "binds threads before dlbench does"},
        {"GOMP_CPU_AFFINITY", DLB_FINDING_WARNING, "binds threads before dlbench does"},
        {"KMP_AFFINITY", DLB_FINDING_WARNING, "binds threads before dlbench does"},
        {"OMP_THREAD_LIMIT", DLB_FINDING_WARNING, "may make teams smaller than asked"},
        {"OMP_NUM_THREADS", DLB_FINDING_NOTE, "is overruled by --threads"},
        {"OMP_DYNAMIC", DLB_FINDING_NOTE, "is overruled: teams have a fixed size"},
        {"OMP_WAIT_POLICY", DLB_FINDING_NOTE, "changes what a parallel region costs"},
        {"GOMP_SPINCOUNT", DLB_FINDING_NOTE, "changes what a parallel region costs"},
    };
    for (size_t i = 0; i < sizeof variable / sizeof *variable; i++) {
        const char *value = getenv(variable[i].name);
        char remedy[64];
        if (!value || !value[0])
            continue;
        snprintf(remedy, sizeof remedy, "unset %s", variable[i].name);
        report(all, variable[i].level, "openmp-variables", remedy, "%s=%.100s %s.",
               variable[i].name, value, variable[i].effect);
    }
}

static void check_timer(struct examination *all)
{
    static const char *const good[] = {"tsc", "arch_sys_counter", "kvm-clock"};
    char source[64];
    double resolution = dlb_clock_resolution_ns();
    if (dlb_file_line(all->root,
                      "/sys/devices/system/clocksource/clocksource0/current_clocksource",
                      source, sizeof source)) {
        bool fast = false;
        for (int i = 0; i < 3; i++)
            fast |= !strcmp(source, good[i]);
        if (!fast)
            report(all, DLB_FINDING_WARNING, "clocksource",
                   "Boot with clocksource=tsc if the processor's counter is steady.",
                   "The clock source is '%s', which is slow to read.", source);
        else
            report(all, DLB_FINDING_OK, "clocksource", "", "The clock source is '%s'.",
                   source);
    }
    if (resolution > coarse_clock_ns)
        report(all, DLB_FINDING_WARNING, "timer", "Use a system with a finer clock.",
               "The clock moves in steps of %.0f ns.", resolution);
    else
        report(all, DLB_FINDING_OK, "timer", "", "The clock moves in steps of %.0f ns.",
               resolution);
}

static void check_virtual_machine(struct examination *all)
{
    char flags[8192], product[128];
    char *cpuinfo = dlb_file_text(all->root, "/proc/cpuinfo");
    bool hypervisor = dlb_text_value(cpuinfo, "flags", flags, sizeof flags) &&
                      strstr(flags, "hypervisor");
    free(cpuinfo);
    if (!hypervisor)
        return;
    bool named = dlb_file_line(all->root, "/sys/class/dmi/id/product_name", product,
                               sizeof product);
    report(all, DLB_FINDING_NOTE, "virtual-machine",
           "Compare only results that were paired in one run; prefer bare metal.",
           "This is a virtual machine%s%s%s: caches and cores are what the hypervisor"
           " claims, and neighbours disturb.",
           named ? " (" : "", product, named ? ")" : "");
}

static void check_swap(struct examination *all)
{
    char value[64];
    double total = 0, unused = 0;
    char *meminfo = dlb_file_text(all->root, "/proc/meminfo");
    if (dlb_text_value(meminfo, "SwapTotal", value, sizeof value))
        total = strtod(value, NULL);
    if (dlb_text_value(meminfo, "SwapFree", value, sizeof value))
        unused = strtod(value, NULL);
    bool found = meminfo != NULL;
    free(meminfo);
    if (total > unused)
        report(all, DLB_FINDING_NOTE, "swap", "Free memory, then: sudo swapoff -a",
               "%.0f MiB of memory are swapped out.", (total - unused) / 1024);
    else if (found)
        report(all, DLB_FINDING_OK, "swap", "", "Nothing is swapped out.");
}

int dlb_doctor_examine(const struct dlb_topology *topology, const char *root,
                       struct dlb_finding *finding, int room)
{
    static void (*const check[])(struct examination *) = {
        check_governor,   check_turbo,
        check_smt,        check_load,
        check_quota,      check_steal,
        check_throttling, check_huge_pages,
        check_runtimes,   check_openmp_variables,
        check_timer,      check_virtual_machine,
        check_swap,
    };
    struct examination all = {topology, root, finding, 0, room};
    for (size_t i = 0; i < sizeof check / sizeof *check; i++)
        check[i](&all);
    return all.n;
}
