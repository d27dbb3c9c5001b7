#include "machine/topology.h"

#include <string.h>

static void print_bytes(FILE *out, size_t bytes)
{
    static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    int i = 0;
    for (; value >= 1024 && i < 4; i++)
        value /= 1024;
    fprintf(out, "%.4g %s", value, unit[i]);
}

static void print_count(FILE *out, int n, const char *what)
{
    fprintf(out, "%d %s%s", n, what, n == 1 ? "" : "s");
}

void dlb_topology_summary(const struct dlb_topology *topology, FILE *out)
{
    const char *model = dlb_topology_model(topology);
    fprintf(out, "%s: ", model[0] ? model : "unknown processor");
    print_count(out, topology->packages, "package");
    fputs(", ", out);
    print_count(out, topology->cores, "core");
    fputs(", ", out);
    print_count(out, topology->pus, "PU");
    if (topology->kinds > 1)
        fprintf(out, ", %d kinds of cores", topology->kinds);
    for (int level = 1; level <= 3; level++) {
        if (!topology->cache[level].bytes)
            continue;
        fprintf(out, ", L%d%s ", level, level == 1 ? "d" : "");
        print_bytes(out, topology->cache[level].bytes);
    }
    fputs("\n", out);
    if (topology->synthetic)
        fputs("not this machine: planned for, nothing is timed; ", out);
    print_count(out, topology->numas, "NUMA node");
    fputs(", ", out);
    print_bytes(out, topology->memory_bytes);
    fprintf(out, " memory; usable %d of %d PUs on ", topology->usable_pus, topology->pus);
    print_count(out, topology->usable_cores, "core");
    if (topology->quota_cpus > 0)
        fprintf(out, ", CPU quota %.4g", topology->quota_cpus);
    else
        fputs(", no CPU quota", out);
    fputs("; up to ", out);
    print_count(out, topology->max_threads, "thread");
    fputs("\n", out);
}

/* The levels of the tree, from the outside in. */
enum level { PACKAGE, NUMA, L3, CORE, LEVELS };
static const char *const level_name[LEVELS] = {"package", "NUMA node", "L3", "core"};

static int holder(const struct dlb_pu *pu, enum level level)
{
    switch (level) {
    case PACKAGE:
        return pu->package;
    case NUMA:
        return pu->numa;
    case L3:
        return pu->l3;
    default:
        return pu->core;
    }
}

/* One past the last PU that shares begin's object of this level. */
static int object_end(const struct dlb_topology *topology, enum level level, int begin,
                      int end)
{
    int last = begin;
    while (last < end &&
           holder(&topology->pu[last], level) == holder(&topology->pu[begin], level))
        last++;
    return last;
}

/* Same shape: as many PUs, of the same kinds, equally usable, equally divided. */
static bool same_shape(const struct dlb_topology *topology, int a, int b, int n)
{
    for (int i = 0; i < n; i++) {
        const struct dlb_pu *x = &topology->pu[a + i], *y = &topology->pu[b + i];
        if (x->usable != y->usable || x->kind != y->kind)
            return false;
        for (int level = 0; i > 0 && level < LEVELS; level++)
            if ((holder(x, level) == holder(x - 1, level)) !=
                (holder(y, level) == holder(y - 1, level)))
                return false;
    }
    return true;
}

static void print_core(const struct dlb_topology *topology, int begin, int end, FILE *out)
{
    fputs(": PU", out);
    for (int i = begin; i < end; i++)
        fprintf(out, " %d%s", topology->pu[i].os_index,
                topology->pu[i].usable ? "" : " (not usable)");
    if (topology->kinds > 1)
        fprintf(out, ", %s kind",
                topology->pu[begin].kind == topology->kinds - 1 ? "fastest" : "slower");
}

static void print_level(const struct dlb_topology *topology, enum level level, int begin,
                        int end, int indent, FILE *out)
{
    if (level == LEVELS)
        return;
    /* A level that the machine does not have is passed over. */
    if (level == L3 && topology->pu[begin].l3 < 0) {
        print_level(topology, level + 1, begin, end, indent, out);
        return;
    }
    for (int first = begin; first < end;) {
        int last = object_end(topology, level, first, end);
        int n = last - first, alike = 1;
        while (last + n <= end && object_end(topology, level, last, end) == last + n &&
               same_shape(topology, first, last, n)) {
            alike++;
            last += n;
        }
        fprintf(out, "%*s", indent, "");
        if (alike > 1)
            fprintf(out, "%d x ", alike);
        fprintf(out, "%s", level_name[level]);
        if (level != CORE && alike == 1)
            fprintf(out, " %d", holder(&topology->pu[first], level));
        if (level == L3) {
            fputs(", ", out);
            print_bytes(out, topology->cache[3].bytes);
        }
        if (level == CORE)
            print_core(topology, first, first + n, out);
        if (alike > 1)
            fprintf(out, ", … %d", topology->pu[last - 1].os_index);
        fputs("\n", out);
        print_level(topology, level + 1, first, first + n, indent + 2, out);
        first = last;
    }
}

static const char *const meaning[][2] = {
    {"cores", "one thread on every core"},     {"smt", "every processing unit"},
    {"p-cores", "the fastest kind of core"},   {"e-cores", "the slower cores"},
    {"one-l3", "the cores that share one L3"}, {"one-numa", "the cores of one NUMA node"},
};
enum { MEANINGS = sizeof meaning / sizeof *meaning };

static const char *purpose(const char *name)
{
    for (int i = 0; i < MEANINGS; i++)
        if (!strcmp(name, meaning[i][0]))
            return meaning[i][1];
    if (strstr(name, "-scatter"))
        return "spread over packages, NUMA nodes and L3s";
    return strcmp(name, "1") ? "neighbouring cores" : "one core alone";
}

/* The other names under which --threads finds the same set. */
static void print_other_names(const struct dlb_topology *topology,
                              const struct dlb_thread_set *set, FILE *out)
{
    struct dlb_thread_set named[DLB_THREAD_SETS_MAX];
    const char *before = " (also: ";
    for (int i = 0; i < MEANINGS; i++) {
        int n;
        if (!strcmp(set->name, meaning[i][0]) ||
            dlb_thread_sets_parse(topology, meaning[i][0], true, named, &n, NULL) !=
                DLB_OK ||
            named[0].threads != set->threads || strcmp(named[0].cpuset, set->cpuset))
            continue;
        fprintf(out, "%s%s", before, meaning[i][0]);
        before = ", ";
    }
    if (before[0] == ',')
        fputs(")", out);
}

void dlb_topology_print(const struct dlb_topology *topology, FILE *out)
{
    struct dlb_thread_set set[DLB_THREAD_SETS_MAX];

    dlb_topology_summary(topology, out);
    fputs("\n", out);
    for (int level = 1; level <= 2; level++) {
        const struct dlb_cache_level *cache = &topology->cache[level];
        if (!cache->bytes)
            continue;
        fprintf(out, "L%d%s ", level, level == 1 ? "d" : "");
        print_bytes(out, cache->bytes);
        fprintf(out, ", shared by %d PU%s\n", cache->shared_by,
                cache->shared_by == 1 ? "" : "s");
    }
    print_level(topology, PACKAGE, 0, topology->pus, 0, out);

    int n = dlb_thread_sets(topology, set);
    fprintf(out, "\n%-12s %7s  %s\n", "thread set", "threads", "CPUs; what it is");
    for (int i = 0; i < n; i++) {
        fprintf(out, "%-12s %7d  %s\n%22s%s", set[i].name, set[i].threads, set[i].cpuset,
                "", purpose(set[i].name));
        print_other_names(topology, &set[i], out);
        fputs("\n", out);
    }
}
