#include "machine/topology.h"

#include "machine/limits.h"

#include <ctype.h>
#include <errno.h>
#include <hwloc.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SPEC_ROOM = 1024 };
static const char example[] = "\"pack:2 numa:1 l3:4 core:8 pu:2\"";

/* Words that users write and hwloc's synthetic notation does not know. */
static const char *const alias[][2] = {
    {"packages", "pack"}, {"sockets", "pack"}, {"cpu", "pack"},     {"cpus", "pack"},
    {"nodes", "numa"},    {"numas", "numa"},   {"cores", "core"},   {"pus", "pu"},
    {"threads", "pu"},    {"thread", "pu"},    {"smt", "pu"},       {"ht", "pu"},
    {"l3s", "l3"},        {"l2s", "l2"},       {"l1", "l1d"},       {"l1s", "l1d"},
    {"socket", "pack"},   {"node", "numa"},    {"package", "pack"},
};

/* Rewrites spec word by word in hwloc's terms: aliases, lower case, PUs at the end. */
static bool translate(const char *spec, char out[SPEC_ROOM])
{
    size_t used = 0;
    bool has_pus = false;
    out[0] = 0;
    while (*(spec += strspn(spec, " \t"))) {
        size_t length = strcspn(spec, " \t");
        size_t letters = 0;
        char name[32];
        while (letters < length && letters < sizeof name - 1 &&
               (isalnum((unsigned char)spec[letters]))) {
            name[letters] = (char)tolower((unsigned char)spec[letters]);
            letters++;
        }
        name[letters] = 0;
        const char *word = name;
        for (size_t i = 0; i < sizeof alias / sizeof *alias; i++)
            if (!strcmp(name, alias[i][0]))
                word = alias[i][1];
        int written = snprintf(out + used, SPEC_ROOM - used, "%s%s%.*s", used ? " " : "",
                               word, (int)(length - letters), spec + letters);
        if (written >= (int)(SPEC_ROOM - used))
            return false;
        used += written;
        has_pus |= !strcmp(word, "pu");
        spec += length;
    }
    if (used && !has_pus) {
        if (used + sizeof " pu:1" > SPEC_ROOM)
            return false;
        strcpy(out + used, " pu:1");
    }
    return true;
}

static bool is_xml(const char *spec)
{
    size_t length = strlen(spec);
    return length > 4 && !strcmp(spec + length - 4, ".xml");
}

static enum dlb_status load_xml(hwloc_topology_t tree, const char *spec,
                                struct dlb_error *error)
{
    FILE *file = fopen(spec, "re");
    if (!file)
        return dlb_fail(error, DLB_IO, "Cannot read the topology file '%s': %s.", spec,
                        strerror(errno));
    fclose(file);
    if (hwloc_topology_set_xml(tree, spec) || hwloc_topology_load(tree))
        return dlb_fail(error, DLB_INVALID,
                        "'%s' is not a topology in hwloc's XML form; make one with"
                        " \"lstopo machine.xml\".",
                        spec);
    return DLB_OK;
}

static enum dlb_status load_synthetic(hwloc_topology_t tree, const char *spec,
                                      struct dlb_error *error)
{
    char words[SPEC_ROOM];
    if (!translate(spec, words) || hwloc_topology_set_synthetic(tree, words) ||
        hwloc_topology_load(tree))
        return dlb_fail(error, DLB_INVALID,
                        "Cannot read the topology '%s'; expected a file ending in .xml or"
                        " hwloc's synthetic notation, for example %s.",
                        spec, example);
    return DLB_OK;
}

static int logical_above(hwloc_topology_t tree, hwloc_obj_t pu, hwloc_obj_type_t type,
                         int missing)
{
    hwloc_obj_t above = hwloc_get_ancestor_obj_by_type(tree, type, pu);
    return above ? (int)above->logical_index : missing;
}

/* The smallest NUMA node around a PU: where machines have fast and large memory nodes
 * over the same cores, the first of them. */
static int numa_of(hwloc_topology_t tree, hwloc_obj_t pu)
{
    int least = -1, found = 0;
    for (hwloc_obj_t node = NULL;
         (node = hwloc_get_next_obj_by_type(tree, HWLOC_OBJ_NUMANODE, node));) {
        if (!hwloc_bitmap_isset(node->cpuset, pu->os_index))
            continue;
        int weight = hwloc_bitmap_weight(node->cpuset);
        if (least < 0 || weight < least) {
            least = weight;
            found = (int)node->logical_index;
        }
    }
    return found;
}

/* Kinds count only when hwloc could rank them. */
static int kinds_ranked(hwloc_topology_t tree)
{
    int kinds = hwloc_cpukinds_get_nr(tree, 0);
    int efficiency = -1;
    if (kinds < 2 || hwloc_cpukinds_get_info(tree, 0, NULL, &efficiency, NULL, NULL, 0) ||
        efficiency < 0)
        return 1;
    return kinds;
}

static int kind_of(hwloc_topology_t tree, int kinds, hwloc_obj_t pu)
{
    /* Ranked kinds are numbered from the most efficient to the fastest. */
    int kind = kinds > 1 ? hwloc_cpukinds_get_by_cpuset(tree, pu->cpuset, 0) : 0;
    return kind > 0 ? kind : 0;
}

static void describe_pus(struct dlb_topology *topology, hwloc_const_bitmap_t usable)
{
    hwloc_topology_t tree = topology->hwloc;
    int last_core = -1, rank = 0;
    for (int i = 0; i < topology->pus; i++) {
        hwloc_obj_t object = hwloc_get_obj_by_type(tree, HWLOC_OBJ_PU, i);
        struct dlb_pu *pu = &topology->pu[i];
        pu->os_index = (int)object->os_index;
        pu->package = logical_above(tree, object, HWLOC_OBJ_PACKAGE, 0);
        pu->numa = numa_of(tree, object);
        pu->l3 = logical_above(tree, object, HWLOC_OBJ_L3CACHE, -1);
        pu->core = logical_above(tree, object, HWLOC_OBJ_CORE, i);
        rank = pu->core == last_core ? rank + 1 : 0;
        pu->smt_rank = rank;
        pu->kind = kind_of(tree, topology->kinds, object);
        pu->usable = hwloc_bitmap_isset(usable, object->os_index);
        topology->usable_pus += pu->usable;
        last_core = pu->core;
    }
    last_core = -1;
    for (int i = 0; i < topology->pus; i++) {
        const struct dlb_pu *pu = &topology->pu[i];
        if (pu->usable && pu->core != last_core) {
            topology->usable_cores++;
            last_core = pu->core;
        }
    }
}

static void describe_caches(struct dlb_topology *topology)
{
    static const hwloc_obj_type_t type[] = {HWLOC_OBJ_TYPE_MAX, HWLOC_OBJ_L1CACHE,
                                            HWLOC_OBJ_L2CACHE, HWLOC_OBJ_L3CACHE};
    int chosen = -1;
    for (int i = 0; i < topology->pus; i++)
        if (topology->pu[i].usable &&
            (chosen < 0 || topology->pu[i].kind > topology->pu[chosen].kind))
            chosen = i;
    if (chosen < 0)
        return;
    hwloc_obj_t pu = hwloc_get_obj_by_type(topology->hwloc, HWLOC_OBJ_PU, chosen);
    for (int level = 1; level <= 3; level++) {
        hwloc_obj_t cache =
            hwloc_get_ancestor_obj_by_type(topology->hwloc, type[level], pu);
        if (!cache)
            continue;
        topology->cache[level] = (struct dlb_cache_level){
            .bytes = cache->attr->cache.size,
            .shared_by = hwloc_bitmap_weight(cache->cpuset),
            .line_bytes = (int)cache->attr->cache.linesize,
        };
    }
}

/* At least one, also where hwloc knows no such object. */
static int count_of(hwloc_topology_t tree, hwloc_obj_type_t type)
{
    int n = hwloc_get_nbobjs_by_type(tree, type);
    return n > 0 ? n : 1;
}

static enum dlb_status describe(struct dlb_topology *topology, const char *spec,
                                struct dlb_error *error)
{
    enum dlb_status status = DLB_OK;
    hwloc_topology_t tree = topology->hwloc;
    hwloc_bitmap_t usable = hwloc_bitmap_dup(hwloc_topology_get_allowed_cpuset(tree));
    hwloc_bitmap_t bound = hwloc_bitmap_alloc();

    if (!usable || !bound) {
        status = dlb_fail(error, DLB_NOMEM, "No memory for the topology.");
        goto out;
    }
    topology->pus = hwloc_get_nbobjs_by_type(tree, HWLOC_OBJ_PU);
    if (topology->pus < 1 || topology->pus > DLB_PUS_MAX) {
        status =
            dlb_fail(error, DLB_INVALID,
                     "The topology '%s' has %d processing units; between 1 and %d are"
                     " supported.",
                     spec ? spec : "of this machine", topology->pus, DLB_PUS_MAX);
        goto out;
    }
    topology->packages = count_of(tree, HWLOC_OBJ_PACKAGE);
    topology->numas = count_of(tree, HWLOC_OBJ_NUMANODE);
    topology->l3s = hwloc_get_nbobjs_by_type(tree, HWLOC_OBJ_L3CACHE);
    if (topology->l3s < 0)
        topology->l3s = 0;
    topology->cores = hwloc_get_nbobjs_by_type(tree, HWLOC_OBJ_CORE);
    if (topology->cores < 1)
        topology->cores = topology->pus;
    topology->kinds = kinds_ranked(tree);
    topology->memory_bytes = hwloc_get_root_obj(tree)->total_memory;
    /* Memory that was added while the system ran may be missing from its nodes. */
    if (!topology->synthetic) {
        size_t pages = (size_t)dlb_max(sysconf(_SC_PHYS_PAGES), 0);
        size_t bytes = pages * (size_t)sysconf(_SC_PAGESIZE);
        if (bytes > topology->memory_bytes)
            topology->memory_bytes = bytes;
    }

    /* The process's affinity: a thread of ours may be bound while others are free. */
    if (!topology->synthetic && !hwloc_get_cpubind(tree, bound, HWLOC_CPUBIND_PROCESS) &&
        hwloc_bitmap_intersects(usable, bound))
        hwloc_bitmap_and(usable, usable, bound);
    describe_pus(topology, usable);
    if (!topology->usable_pus) {
        status = dlb_fail(error, DLB_INVALID,
                          "The topology '%s' allows no processing unit at all.",
                          spec ? spec : "of this machine");
        goto out;
    }
    describe_caches(topology);
out:
    hwloc_bitmap_free(usable);
    hwloc_bitmap_free(bound);
    return status;
}

enum dlb_status dlb_topology_load(const char *spec, struct dlb_topology **topology,
                                  struct dlb_error *error)
{
    enum dlb_status status = DLB_OK;
    hwloc_topology_t tree = NULL;
    struct dlb_topology *made = calloc(1, sizeof *made);

    if (!made || hwloc_topology_init(&tree)) {
        status = dlb_fail(error, DLB_NOMEM, "No memory for the topology.");
        goto out;
    }
    made->hwloc = tree;
    made->synthetic = spec != NULL;
    hwloc_topology_set_flags(tree, HWLOC_TOPOLOGY_FLAG_INCLUDE_DISALLOWED);
    if (!spec && hwloc_topology_load(tree))
        status = dlb_fail(error, DLB_FAULT, "hwloc cannot read this machine: %s.",
                          strerror(errno));
    else if (spec)
        status = is_xml(spec) ? load_xml(tree, spec, error)
                              : load_synthetic(tree, spec, error);
    if (status == DLB_OK)
        status = describe(made, spec, error);
    if (status != DLB_OK)
        goto out;

    struct dlb_limits limits = {0};
    if (!spec)
        dlb_limits_read("", &limits);
    dlb_topology_set_quota(made, limits.quota_cpus);
    *topology = made;
    made = NULL;
out:
    dlb_topology_release(made);
    return status;
}

void dlb_topology_release(struct dlb_topology *topology)
{
    if (!topology)
        return;
    if (topology->hwloc)
        hwloc_topology_destroy(topology->hwloc);
    free(topology);
}

enum dlb_status dlb_topology_export(const struct dlb_topology *topology, const char *path,
                                    struct dlb_error *error)
{
    char *xml = NULL;
    int bytes = 0, written = 0;
    if (hwloc_topology_export_xmlbuffer(topology->hwloc, &xml, &bytes, 0))
        return dlb_fail(error, DLB_NOMEM, "No memory to export the topology to '%s'.",
                        path);
    /* Written here: hwloc's own file leaves no reason behind when it fails. */
    FILE *file = fopen(path, "w");
    if (file) {
        written = fputs(xml, file) >= 0;
        written &= fclose(file) == 0;
    }
    enum dlb_status status =
        written ? DLB_OK
                : dlb_fail(error, DLB_IO, "Cannot write the topology to '%s': %s.", path,
                           strerror(errno));
    hwloc_free_xmlbuffer(topology->hwloc, xml);
    return status;
}

void dlb_topology_set_quota(struct dlb_topology *topology, double quota_cpus)
{
    topology->quota_cpus = quota_cpus;
    topology->max_threads = topology->usable_pus;
    if (quota_cpus > 0 && floor(quota_cpus) < topology->max_threads)
        topology->max_threads = (int)floor(quota_cpus);
    if (topology->max_threads < 1)
        topology->max_threads = 1;
}

const char *dlb_topology_model(const struct dlb_topology *topology)
{
    hwloc_obj_t package = hwloc_get_obj_by_type(topology->hwloc, HWLOC_OBJ_PACKAGE, 0);
    hwloc_obj_t root = hwloc_get_root_obj(topology->hwloc);
    const char *model = package ? hwloc_obj_get_info_by_name(package, "CPUModel") : NULL;
    if (!model)
        model = hwloc_obj_get_info_by_name(root, "CPUModel");
    return model ? model : "";
}

const char *dlb_topology_library_version(const struct dlb_topology *topology)
{
    hwloc_obj_t root = hwloc_get_root_obj(topology->hwloc);
    const char *version = hwloc_obj_get_info_by_name(root, "hwlocVersion");
    return version ? version : "";
}
