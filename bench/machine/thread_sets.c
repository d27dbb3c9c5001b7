#include "machine/topology.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Which usable PUs a named set is made of; one PU a core unless siblings is set. */
struct rule {
    const char *name;
    bool siblings;
    bool (*takes)(const struct dlb_topology *topology, const struct dlb_pu *first,
                  const struct dlb_pu *pu);
    bool (*exists)(const struct dlb_topology *topology, const struct dlb_pu *first);
};

static bool take_all(const struct dlb_topology *topology, const struct dlb_pu *first,
                     const struct dlb_pu *pu)
{
    (void)topology, (void)first, (void)pu;
    return true;
}
static bool take_fastest(const struct dlb_topology *topology, const struct dlb_pu *first,
                         const struct dlb_pu *pu)
{
    (void)first;
    return pu->kind == topology->kinds - 1;
}
static bool take_others(const struct dlb_topology *topology, const struct dlb_pu *first,
                        const struct dlb_pu *pu)
{
    return !take_fastest(topology, first, pu);
}
static bool take_same_l3(const struct dlb_topology *topology, const struct dlb_pu *first,
                         const struct dlb_pu *pu)
{
    (void)topology;
    return pu->l3 == first->l3;
}
static bool take_same_numa(const struct dlb_topology *topology,
                           const struct dlb_pu *first, const struct dlb_pu *pu)
{
    (void)topology;
    return pu->numa == first->numa;
}

static bool always(const struct dlb_topology *topology, const struct dlb_pu *first)
{
    (void)topology, (void)first;
    return true;
}
static bool has_kinds(const struct dlb_topology *topology, const struct dlb_pu *first)
{
    (void)first;
    return topology->kinds > 1;
}
static bool has_l3(const struct dlb_topology *topology, const struct dlb_pu *first)
{
    (void)topology;
    return first->l3 >= 0;
}

static const struct rule rules[] = {
    {"cores", false, take_all, always},
    {"smt", true, take_all, always},
    {"p-cores", false, take_fastest, has_kinds},
    {"e-cores", false, take_others, has_kinds},
    {"one-l3", false, take_same_l3, has_l3},
    {"one-numa", false, take_same_numa, always},
};
enum { RULES = sizeof rules / sizeof *rules };

/* Usable PUs in the order in which teams take them. */
struct order {
    int pu[DLB_PUS_MAX];
    int n;
    int cores; /* the first so many are one PU of each core */
};

/* How much of each package, node and L3 is taken already, while spreading. */
struct load {
    int package[DLB_PUS_MAX], numa[DLB_PUS_MAX], l3[DLB_PUS_MAX];
};

static int64_t precedence(const struct dlb_topology *topology, const struct load *load,
                          const int *sibling, int i)
{
    const struct dlb_pu *pu = &topology->pu[i];
    int64_t key = sibling[i];
    key = key * DLB_PUS_MAX + (topology->kinds - 1 - pu->kind);
    key = key * DLB_PUS_MAX + (load ? load->package[pu->package] : 0);
    key = key * DLB_PUS_MAX + (load ? load->numa[pu->numa] : 0);
    return key * DLB_PUS_MAX + (load && pu->l3 >= 0 ? load->l3[pu->l3] : 0);
}

static void make_order(const struct dlb_topology *topology, bool scatter,
                       struct order *order)
{
    struct load load = {0};
    int sibling[DLB_PUS_MAX] = {0}; /* rank among the usable PUs of the core */
    bool taken[DLB_PUS_MAX] = {false};
    int last_core = -1, rank = 0;

    for (int i = 0; i < topology->pus; i++) {
        const struct dlb_pu *pu = &topology->pu[i];
        if (pu->core != last_core)
            rank = 0;
        last_core = pu->core;
        sibling[i] = rank;
        rank += pu->usable;
    }
    order->n = order->cores = 0;
    while (order->n < topology->usable_pus) {
        int best = -1;
        int64_t best_key = 0;
        for (int i = 0; i < topology->pus; i++) {
            if (!topology->pu[i].usable || taken[i])
                continue;
            int64_t key = precedence(topology, scatter ? &load : NULL, sibling, i);
            if (best < 0 || key < best_key) {
                best = i;
                best_key = key;
            }
        }
        const struct dlb_pu *pu = &topology->pu[best];
        taken[best] = true;
        load.package[pu->package]++;
        load.numa[pu->numa]++;
        if (pu->l3 >= 0)
            load.l3[pu->l3]++;
        order->cores += sibling[best] == 0;
        order->pu[order->n++] = best;
    }
}

static int compare_ints(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;
    return (x > y) - (x < y);
}

/* "0-3,8"; a list that does not fit ends in "...". */
static void write_cpuset(const struct dlb_topology *topology, struct dlb_thread_set *set)
{
    int os[DLB_PUS_MAX], used = 0;
    const int room = sizeof set->cpuset - sizeof "...";
    for (int i = 0; i < set->threads; i++)
        os[i] = topology->pu[set->pu[i]].os_index;
    qsort(os, set->threads, sizeof *os, compare_ints);
    set->cpuset[0] = 0;
    for (int i = 0; i < set->threads;) {
        int last = i;
        while (last + 1 < set->threads && os[last + 1] <= os[last] + 1)
            last++;
        char part[32];
        int length = snprintf(part, sizeof part, os[last] > os[i] ? "%s%d-%d" : "%s%d",
                              i ? "," : "", os[i], os[last]);
        if (used + length > room) {
            strcpy(set->cpuset + used, "...");
            return;
        }
        strcpy(set->cpuset + used, part);
        used += length;
        i = last + 1;
    }
}

static void finish_set(const struct dlb_topology *topology, struct dlb_thread_set *set)
{
    int sharing[DLB_PUS_MAX] = {0}, most = 0;
    for (int i = 0; i < set->threads; i++) {
        int l3 = topology->pu[set->pu[i]].l3;
        if (l3 >= 0 && ++sharing[l3] > most)
            most = sharing[l3];
    }
    set->l3_bytes_per_thread = most ? topology->cache[3].bytes / most : 0;
    write_cpuset(topology, set);
}

static void make_count(const struct dlb_topology *topology, const struct order *order,
                       int threads, const char *suffix, struct dlb_thread_set *set)
{
    snprintf(set->name, sizeof set->name, "%d%s", threads, suffix);
    set->threads = threads;
    for (int i = 0; i < threads; i++)
        set->pu[i] = order->pu[i % order->n];
    finish_set(topology, set);
}

static void make_named(const struct dlb_topology *topology, const struct order *order,
                       const struct rule *rule, struct dlb_thread_set *set)
{
    const struct dlb_pu *first = &topology->pu[order->pu[0]];
    snprintf(set->name, sizeof set->name, "%s", rule->name);
    set->threads = 0;
    for (int i = 0; i < (rule->siblings ? order->n : order->cores); i++)
        if (rule->takes(topology, first, &topology->pu[order->pu[i]]))
            set->pu[set->threads++] = order->pu[i];
    finish_set(topology, set);
}

static bool same_pus(const struct dlb_thread_set *a, const struct dlb_thread_set *b)
{
    int x[DLB_PUS_MAX], y[DLB_PUS_MAX];
    if (a->threads != b->threads)
        return false;
    memcpy(x, a->pu, a->threads * sizeof *x);
    memcpy(y, b->pu, b->threads * sizeof *y);
    qsort(x, a->threads, sizeof *x, compare_ints);
    qsort(y, b->threads, sizeof *y, compare_ints);
    return !memcmp(x, y, a->threads * sizeof *x);
}

/* Keeps set[*n] unless its PUs are there already or it is empty. */
static void keep_if_new(struct dlb_thread_set *set, int *n)
{
    for (int i = 0; i < *n; i++)
        if (same_pus(&set[i], &set[*n]))
            return;
    *n += set[*n].threads > 0;
}

/* The default sweep: powers of two below all usable cores, then those. */
static int sweep_counts(const struct dlb_topology *topology, int count[32])
{
    int most = (int)dlb_min(topology->usable_cores, topology->max_threads);
    int n = 0;
    for (int threads = 1; threads < most; threads *= 2)
        count[n++] = threads;
    count[n++] = most;
    return n;
}

static void make_default(const struct dlb_topology *topology, const struct order *compact,
                         struct dlb_thread_set *set, int *n)
{
    int count[32], counts = sweep_counts(topology, count);
    for (int i = 0; i < counts; i++) {
        make_count(topology, compact, count[i], "", &set[*n]);
        /* "cores" tells more than a count that is no power of two. */
        if (count[i] == topology->usable_cores && (count[i] & (count[i] - 1)))
            snprintf(set[*n].name, sizeof set[*n].name, "cores");
        keep_if_new(set, n);
    }
}

int dlb_thread_sets(const struct dlb_topology *topology,
                    struct dlb_thread_set set[DLB_THREAD_SETS_MAX])
{
    struct order compact, scatter;
    int n = 0, count[32], counts = sweep_counts(topology, count);

    make_order(topology, false, &compact);
    make_order(topology, true, &scatter);
    make_default(topology, &compact, set, &n);
    for (int i = 0; i < RULES; i++) {
        if (!rules[i].exists(topology, &topology->pu[compact.pu[0]]))
            continue;
        make_named(topology, &compact, &rules[i], &set[n]);
        if (set[n].threads <= topology->max_threads)
            keep_if_new(set, &n);
    }
    for (int i = 0; i < counts; i++) {
        make_count(topology, &scatter, count[i], "-scatter", &set[n]);
        keep_if_new(set, &n);
    }
    return n;
}

static void list_names(const struct dlb_topology *topology, const struct order *order,
                       char *text, size_t size)
{
    size_t used = (size_t)snprintf(text, size,
                                   "a count from 1 to %d, a count followed by"
                                   " -scatter",
                                   topology->max_threads);
    for (int i = 0; i < RULES; i++)
        if (rules[i].exists(topology, &topology->pu[order->pu[0]]) && used < size)
            used += (size_t)snprintf(text + used, size - used, ", %s", rules[i].name);
}

/* What keeps teams from being larger, in words for the user. */
static void explain_limit(const struct dlb_topology *topology, char *text, size_t size)
{
    if (topology->quota_cpus > 0 && topology->max_threads < topology->usable_pus)
        snprintf(text, size, "the container's CPU quota is %.4g", topology->quota_cpus);
    else if (topology->usable_pus < topology->pus)
        snprintf(text, size,
                 "affinity and cpuset leave %d of the machine's %d processing units",
                 topology->usable_pus, topology->pus);
    else
        snprintf(text, size, "the machine has %d processing unit%s", topology->pus,
                 topology->pus == 1 ? "" : "s");
}

/* One item of the list into *set. */
static enum dlb_status parse_item(const struct dlb_topology *topology,
                                  const struct order *compact,
                                  const struct order *scatter, const char *item,
                                  struct dlb_thread_set *set, struct dlb_error *error)
{
    char names[512], *end;
    for (int i = 0; i < RULES; i++) {
        if (strcmp(item, rules[i].name))
            continue;
        if (!rules[i].exists(topology, &topology->pu[compact->pu[0]])) {
            list_names(topology, compact, names, sizeof names);
            return dlb_fail(error, DLB_INVALID,
                            "This machine has no thread set '%s' (%s); accepted: %s.",
                            item,
                            rules[i].exists == has_l3 ? "it has no L3 cache"
                                                      : "its cores are all of one kind",
                            names);
        }
        make_named(topology, compact, &rules[i], set);
        if (!set->threads)
            return dlb_fail(error, DLB_INVALID,
                            "Thread set '%s' is empty: affinity and cpuset leave none of"
                            " its cores.",
                            item);
        return DLB_OK;
    }
    errno = 0;
    long long threads = strtoll(item, &end, 10);
    bool spread = !strcmp(end, "-scatter");
    if (!isdigit((unsigned char)item[0]) || (*end && !spread)) {
        list_names(topology, compact, names, sizeof names);
        return dlb_fail(error, DLB_INVALID,
                        "Unknown thread set '%s' in --threads; accepted: %s.", item,
                        names);
    }
    if (errno || threads < 1 || threads > DLB_PUS_MAX)
        return dlb_fail(
            error, DLB_INVALID,
            "--threads asks for %.32s threads; between 1 and %d are accepted.", item,
            DLB_PUS_MAX);
    make_count(topology, spread ? scatter : compact, (int)threads,
               spread ? "-scatter" : "", set);
    return DLB_OK;
}

enum dlb_status dlb_thread_sets_parse(const struct dlb_topology *topology,
                                      const char *list, bool oversubscribe,
                                      struct dlb_thread_set set[DLB_THREAD_SETS_MAX],
                                      int *sets, struct dlb_error *error)
{
    struct order compact, scatter;
    int n = 0;

    make_order(topology, false, &compact);
    make_order(topology, true, &scatter);
    if (!list) {
        make_default(topology, &compact, set, &n);
        *sets = n;
        return DLB_OK;
    }
    for (const char *rest = list;; rest++) {
        char item[64], reason[160];
        rest += strspn(rest, " ");
        size_t length = strcspn(rest, ",");
        size_t bare = length;
        while (bare && rest[bare - 1] == ' ')
            bare--;
        if (!bare || bare >= sizeof item)
            return dlb_fail(error, DLB_INVALID,
                            "--threads '%.200s' has %s item; expected counts and names"
                            " separated by commas, for example 1,2,cores.",
                            list, bare ? "an overlong" : "an empty");
        memcpy(item, rest, bare);
        item[bare] = 0;
        if (n == DLB_THREAD_SETS_MAX)
            return dlb_fail(error, DLB_INVALID,
                            "--threads names more than the %d thread sets that are"
                            " accepted.",
                            DLB_THREAD_SETS_MAX);
        enum dlb_status status =
            parse_item(topology, &compact, &scatter, item, &set[n], error);
        if (status != DLB_OK)
            return status;
        if (set[n].threads > topology->max_threads && !oversubscribe) {
            explain_limit(topology, reason, sizeof reason);
            return dlb_fail(
                error, DLB_INVALID,
                "--threads %s asks for %d threads, but at most %d can run at"
                " once here because %s; ask for fewer or add --oversubscribe.",
                item, set[n].threads, topology->max_threads, reason);
        }
        keep_if_new(set, &n);
        rest += length;
        if (!*rest)
            break;
    }
    *sets = n;
    return DLB_OK;
}
