#include "machine/environment.h"

#include "build_info.h"
#include "core/isa.h"
#include "machine/limits.h"
#include "machine/runtime.h"
#include "machine/system_file.h"
#include "measure/timer.h"
#include "reference.h"

#include <dirent.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

extern char **environ;

enum { LONG_TEXT = 8192 };

struct collection {
    const char *root;
    struct dlb_fact *fact;
    int n, room;
    bool failed; /* no memory: later facts are dropped, and collect says so */
};

/* Adds a fact; empty text is what could not be read, and left out. */
static void add(struct collection *all, const char *section, const char *key,
                const char *text)
{
    if (all->failed || !text || !text[0])
        return;
    if (all->n == all->room) {
        int room = all->room ? 2 * all->room : 64;
        struct dlb_fact *grown = realloc(all->fact, room * sizeof *grown);
        if (!grown) {
            all->failed = true;
            return;
        }
        all->fact = grown;
        all->room = room;
    }
    struct dlb_fact *fact = &all->fact[all->n];
    memset(fact, 0, sizeof *fact);
    snprintf(fact->section, sizeof fact->section, "%s", section);
    snprintf(fact->key, sizeof fact->key, "%s", key);
    snprintf(fact->text, sizeof fact->text, "%.*s", DLB_FACT_TEXT - 1, text);
    if (strlen(text) >= sizeof fact->text) {
        fact->value = strdup(text);
        all->failed = !fact->value;
    }
    all->n++;
}

__attribute__((format(printf, 4, 5))) static void add_form(struct collection *all,
                                                           const char *section,
                                                           const char *key,
                                                           const char *format, ...)
{
    char text[LONG_TEXT];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    add(all, section, key, text);
}

/* A fact that is the first line of one file. */
struct file_fact {
    const char *section, *key, *path;
};

#define CPU "/sys/devices/system/cpu/"
static const struct file_fact file_facts[] = {
    {"power", "governor", CPU "cpu0/cpufreq/scaling_governor"},
    {"power", "frequency_driver", CPU "cpu0/cpufreq/scaling_driver"},
    {"power", "frequency_max_khz", CPU "cpu0/cpufreq/cpuinfo_max_freq"},
    {"power", "energy_preference", CPU "cpu0/cpufreq/energy_performance_preference"},
    {"power", "no_turbo", CPU "intel_pstate/no_turbo"},
    {"power", "boost", CPU "cpufreq/boost"},
    {"power", "smt_control", CPU "smt/control"},
    {"cpu", "isolated", CPU "isolated"},
    {"os", "kernel", "/proc/sys/kernel/osrelease"},
    {"os", "machine", "/sys/class/dmi/id/product_name"},
    {"os", "machine_vendor", "/sys/class/dmi/id/sys_vendor"},
    {"os", "hypervisor", "/sys/hypervisor/type"},
    {"timer", "clocksource",
     "/sys/devices/system/clocksource/clocksource0/"
     "current_clocksource"},
};

/* A fact that is a value of a file with many keys. */
struct key_fact {
    const char *section, *key, *path, *name;
};

static const struct key_fact key_facts[] = {
    {"cpu", "vendor", "/proc/cpuinfo", "vendor_id"},
    {"cpu", "model_name", "/proc/cpuinfo", "model name"},
    {"cpu", "family", "/proc/cpuinfo", "cpu family"},
    {"cpu", "model", "/proc/cpuinfo", "model"},
    {"cpu", "stepping", "/proc/cpuinfo", "stepping"},
    {"cpu", "microcode", "/proc/cpuinfo", "microcode"},
    {"cpu", "flags", "/proc/cpuinfo", "flags"},
    {"cpu", "implementer", "/proc/cpuinfo", "CPU implementer"},
    {"cpu", "part", "/proc/cpuinfo", "CPU part"},
    {"cpu", "variant", "/proc/cpuinfo", "CPU variant"},
    {"cpu", "revision", "/proc/cpuinfo", "CPU revision"},
    {"cpu", "features", "/proc/cpuinfo", "Features"},
    {"memory", "total", "/proc/meminfo", "MemTotal"},
    {"memory", "available", "/proc/meminfo", "MemAvailable"},
    {"memory", "swap_total", "/proc/meminfo", "SwapTotal"},
    {"memory", "huge_pages", "/proc/meminfo", "HugePages_Total"},
    {"memory", "huge_page_size", "/proc/meminfo", "Hugepagesize"},
    {"limits", "affinity", "/proc/self/status", "Cpus_allowed_list"},
    {"limits", "memory_nodes", "/proc/self/status", "Mems_allowed_list"},
};

static void add_from_files(struct collection *all)
{
    char text[LONG_TEXT];
    for (size_t i = 0; i < sizeof file_facts / sizeof *file_facts; i++) {
        dlb_file_line(all->root, file_facts[i].path, text, sizeof text);
        add(all, file_facts[i].section, file_facts[i].key, text);
    }
    for (size_t i = 0; i < sizeof key_facts / sizeof *key_facts; i++) {
        char *file = dlb_file_text(all->root, key_facts[i].path);
        dlb_text_value(file, key_facts[i].name, text, sizeof text);
        add(all, key_facts[i].section, key_facts[i].key, text);
        free(file);
    }
    if (dlb_file_line(all->root, "/sys/kernel/mm/transparent_hugepage/enabled", text,
                      sizeof text)) {
        /* "always [madvise] never" */
        char *open = strchr(text, '['), *close = open ? strchr(open, ']') : NULL;
        if (close)
            *close = 0;
        add(all, "memory", "transparent_huge_pages", close ? open + 1 : text);
    }
    char *release = dlb_file_text(all->root, "/etc/os-release");
    char *name = release ? strstr(release, "PRETTY_NAME=\"") : NULL;
    if (name) {
        name += strlen("PRETTY_NAME=\"");
        name[strcspn(name, "\"\n")] = 0;
        add(all, "os", "distribution", name);
    }
    free(release);
}

static int compare_names(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* "name: state; name: state", in the order of names. */
static void add_mitigations(struct collection *all)
{
    char folder[4096], text[LONG_TEXT] = "";
    size_t used = 0;
    struct dirent **entry = NULL;
    snprintf(folder, sizeof folder, "%s" CPU "vulnerabilities", all->root);
    int n = scandir(folder, &entry, NULL, compare_names);
    for (int i = 0; i < n; i++) {
        char path[512], line[512];
        snprintf(path, sizeof path, CPU "vulnerabilities/%s", entry[i]->d_name);
        if (entry[i]->d_name[0] != '.' &&
            dlb_file_line(all->root, path, line, sizeof line) && used < sizeof text)
            used += (size_t)snprintf(text + used, sizeof text - used, "%s%s: %s",
                                     used ? "; " : "", entry[i]->d_name, line);
        free(entry[i]);
    }
    free(entry);
    add(all, "cpu", "mitigations", text);
}

static void add_topology(struct collection *all, const struct dlb_topology *topology)
{
    add_form(all, "cpu", "packages", "%d", topology->packages);
    add_form(all, "cpu", "numa_nodes", "%d", topology->numas);
    add_form(all, "cpu", "cores", "%d", topology->cores);
    add_form(all, "cpu", "processing_units", "%d", topology->pus);
    add_form(all, "cpu", "kinds", "%d", topology->kinds);
    for (int level = 1; level <= 3; level++) {
        const struct dlb_cache_level *cache = &topology->cache[level];
        char key[16];
        if (!cache->bytes)
            continue;
        snprintf(key, sizeof key, "l%d%s_bytes", level, level == 1 ? "d" : "");
        add_form(all, "cpu", key, "%zu", cache->bytes);
        snprintf(key, sizeof key, "l%d_shared_by", level);
        add_form(all, "cpu", key, "%d", cache->shared_by);
    }
    add_form(all, "limits", "usable_processing_units", "%d", topology->usable_pus);
    add_form(all, "limits", "usable_cores", "%d", topology->usable_cores);
    add_form(all, "limits", "max_threads", "%d", topology->max_threads);
}

static void add_isas(struct collection *all)
{
    char text[128] = "";
    for (int isa = 0; isa < DLB_ISA_COUNT; isa++)
        if (dlb_isa_usable(isa))
            snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s",
                     text[0] ? "," : "", dlb_isa_name(isa));
    add(all, "cpu", "usable_isas", text);
}

static void add_limits(struct collection *all)
{
    struct dlb_limits limits;
    dlb_limits_read(all->root, &limits);
    if (limits.quota_cpus > 0) {
        add_form(all, "limits", "cpu_quota", "%.6g", limits.quota_cpus);
        add_form(all, "limits", "cgroup_version", "%d", limits.version);
    }
    if (limits.memory_bytes > 0)
        add_form(all, "limits", "memory_bytes", "%.0f", limits.memory_bytes);
}

static void add_virtualisation(struct collection *all)
{
    char path[4096], flags[LONG_TEXT];
    char *cpuinfo = dlb_file_text(all->root, "/proc/cpuinfo");
    if (dlb_text_value(cpuinfo, "flags", flags, sizeof flags))
        add(all, "os", "virtual_machine", strstr(flags, "hypervisor") ? "yes" : "no");
    free(cpuinfo);
    static const char *const mark[][2] = {{"/.dockerenv", "docker"},
                                          {"/run/.containerenv", "podman"}};
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s%s", all->root, mark[i][0]);
        FILE *file = fopen(path, "re");
        if (!file)
            continue;
        add(all, "os", "container", mark[i][1]);
        fclose(file);
    }
}

static void add_libraries(struct collection *all, const struct dlb_topology *topology)
{
    char text[LONG_TEXT] = "";
    struct dlb_runtimes runtimes;

    add(all, "libraries", "hwloc", dlb_topology_library_version(topology));
    add(all, "libraries", "google_benchmark", dlb_timer_version());
    add(all, "libraries", "onednn", dlb_onednn_version());
    add(all, "libraries", "onednn_threading", dlb_onednn_runtime());
    dlb_runtimes_find(dlb_libraries_loaded, &runtimes);
    for (int i = 0; i < runtimes.n && i < DLB_RUNTIMES_MAX; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s",
                 text[0] ? "," : "", runtimes.path[i]);
    add(all, "libraries", "openmp_runtime", text);
#ifdef _OPENMP
    add_form(all, "libraries", "openmp", "%d", _OPENMP);
#endif
    /* What may change how the runtimes behave. */
    static const char *const prefix[] = {"OMP_",  "GOMP_",   "KMP_",
                                         "DNNL_", "ONEDNN_", "DLBENCH_"};
    for (char **variable = environ; *variable; variable++) {
        size_t name = strcspn(*variable, "=");
        char key[sizeof all->fact->key];
        if (!(*variable)[name])
            continue;
        for (size_t i = 0; i < sizeof prefix / sizeof *prefix; i++) {
            if (strncmp(*variable, prefix[i], strlen(prefix[i])))
                continue;
            snprintf(key, sizeof key, "%.*s", (int)name, *variable);
            add(all, "environment", key, *variable + name + 1);
        }
    }
}

static void add_build(struct collection *all)
{
    add(all, "build", "version", DLBENCH_VERSION);
    if (strcmp(DLB_BUILD_COMMIT, "unknown")) {
        add(all, "build", "commit", DLB_BUILD_COMMIT);
        add(all, "build", "dirty", DLB_BUILD_DIRTY);
    }
    add(all, "build", "compiler", DLB_BUILD_COMPILER);
    add(all, "build", "type", DLB_BUILD_TYPE);
    add(all, "build", "flags", DLB_BUILD_FLAGS);
}

enum dlb_status dlb_facts_collect_from(const char *root,
                                       const struct dlb_topology *topology,
                                       struct dlb_fact **facts, int *facts_n,
                                       struct dlb_error *error)
{
    struct collection all = {.root = root};
    add_topology(&all, topology);
    add_from_files(&all);
    add_mitigations(&all);
    add_isas(&all);
    add_limits(&all);
    add_virtualisation(&all);
    add_libraries(&all, topology);
    add_build(&all);
    add_form(&all, "timer", "resolution_ns", "%.4g", dlb_clock_resolution_ns());
    if (all.failed) {
        dlb_facts_release(all.fact, all.n);
        return dlb_fail(error, DLB_NOMEM, "No memory for the facts about this machine.");
    }
    *facts = all.fact;
    *facts_n = all.n;
    return DLB_OK;
}

enum dlb_status dlb_facts_collect(const struct dlb_topology *topology,
                                  struct dlb_fact **facts, int *facts_n,
                                  struct dlb_error *error)
{
    return dlb_facts_collect_from("", topology, facts, facts_n, error);
}

void dlb_facts_release(struct dlb_fact *facts, int facts_n)
{
    for (int i = 0; i < facts_n; i++)
        free(facts[i].value);
    free(facts);
}

void dlb_machine_key(const struct dlb_topology *topology, char key[256])
{
    const char *model = dlb_topology_model(topology);
    snprintf(key, 256,
             "%.120s; %d cores, %d processing units, %d NUMA nodes; L1d %zu, L2 %zu,"
             " L3 %zu x %d",
             model[0] ? model : "unknown processor", topology->cores, topology->pus,
             topology->numas, topology->cache[1].bytes, topology->cache[2].bytes,
             topology->cache[3].bytes, topology->l3s);
}

void dlb_hardware_key_from(const char *root, const struct dlb_topology *topology,
                           char key[DLB_HARDWARE_TEXT])
{
    static const char *const names[][2] = {
        {"vendor_id", "vendor"},
        {"cpu family", "family"},
        {"model", "model"},
        {"stepping", "stepping"}, /* x86; and AArch64: */
        {"CPU implementer", "vendor"},
        {"CPU part", "part"},
        {"CPU variant", "variant"},
        {"CPU revision", "revision"},
    };
    char *cpuinfo = dlb_file_text(root, "/proc/cpuinfo"), value[64];
    size_t used = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (dlb_text_value(cpuinfo, names[i][0], value, sizeof value))
            used += (size_t)snprintf(key + used, 26, "%s %.14s ", names[i][1], value);
    free(cpuinfo);
    if (!used)
        used = (size_t)snprintf(key, 64, "%.60s ", dlb_topology_model(topology));
    snprintf(key + used, DLB_HARDWARE_TEXT - used,
             "cores %d pus %d kinds %d numa %d L1d %zu/%d L2 %zu/%d L3 %zu/%d x%d quota "
             "%.2f",
             topology->cores, topology->pus, topology->kinds, topology->numas,
             topology->cache[1].bytes, topology->cache[1].shared_by,
             topology->cache[2].bytes, topology->cache[2].shared_by,
             topology->cache[3].bytes, topology->cache[3].shared_by, topology->l3s,
             topology->quota_cpus);
}

void dlb_hardware_key(const struct dlb_topology *topology, char key[DLB_HARDWARE_TEXT])
{
    dlb_hardware_key_from("", topology, key);
}
