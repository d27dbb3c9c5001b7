#include "tune/cache.h"

#include "build_info.h"
#include "code_hash.h"
#include "record/rows.h"
#include "record/run.h"
#include "record/table_file.h"
#include "suite/descriptor.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

enum { CACHE_SCHEMA = 1 };

/* What an entry does not count for. */
enum stranger { MACHINE, KERNELS, VERSION, STRANGERS };

struct entry {
    struct dlb_cell cell[DLB_TUNING_COLUMNS_N]; /* texts owned */
};

struct dlb_cache {
    char *path;
    struct dlb_cache_identity identity;
    struct entry *entry; /* the last one of each problem */
    int entries;
    int ignored[STRANGERS];
    char other_machine[DLB_HARDWARE_TEXT]; /* the last one seen */
};

/* The columns that name a problem. */
static const int key_columns[] = {
    DLB_TUNING_OP,    DLB_TUNING_PASS,        DLB_TUNING_DTYPE,     DLB_TUNING_ACCURACY,
    DLB_TUNING_SHAPE, DLB_TUNING_CACHE_STATE, DLB_TUNING_THREAD_SET};
enum { KEY_COLUMNS = sizeof key_columns / sizeof *key_columns };

static const struct {
    int candidate, ns;
} places[DLB_SEARCH_BEST] = {{DLB_TUNING_CANDIDATE, DLB_TUNING_NS},
                             {DLB_TUNING_SECOND, DLB_TUNING_SECOND_NS},
                             {DLB_TUNING_THIRD, DLB_TUNING_THIRD_NS}};

static enum dlb_status no_memory(struct dlb_error *error)
{
    return dlb_fail(error, DLB_NOMEM, "No memory is left for the tuning cache.");
}

static const char *text_of(const struct entry *entry, int column)
{
    return entry->cell[column].set ? entry->cell[column].text : "";
}

static void release_entry(struct entry *entry)
{
    for (int i = 0; i < DLB_TUNING_COLUMNS_N; i++)
        free(entry->cell[i].text);
}

/* Identity */

static const char *code_of(const char *op)
{
    for (size_t i = 0; i < sizeof dlb_code_hashes / sizeof *dlb_code_hashes; i++)
        if (!strcmp(dlb_code_hashes[i].op, op))
            return dlb_code_hashes[i].hash;
    return "unknown";
}

void dlb_cache_identify(const struct dlb_topology *topology, enum dlb_isa isa,
                        struct dlb_cache_identity *identity)
{
    struct utsname system = {0};
    *identity = (struct dlb_cache_identity){.isa = dlb_isa_name(isa),
                                            .compiler = DLB_BUILD_COMPILER,
                                            .flags = DLB_BUILD_TYPE " " DLB_BUILD_FLAGS,
                                            .code = code_of};
    dlb_hardware_key(topology, identity->hardware);
    uname(&system);
    snprintf(identity->os, sizeof identity->os, "%.70s %.70s", system.sysname,
             system.release);
}

/* All but what stands behind the last point. */
static bool same_but_patch(const char *a, const char *b)
{
    const char *point_a = strrchr(a, '.'), *point_b = strrchr(b, '.');
    if (!point_a || !point_b)
        return !strcmp(a, b);
    return point_a - a == point_b - b && !strncmp(a, b, (size_t)(point_a - a));
}

static enum stranger stranger_of(const struct dlb_cache *cache, const struct entry *entry)
{
    const struct dlb_cache_identity *own = &cache->identity;
    if (entry->cell[DLB_TUNING_SCHEMA_VERSION].integer != CACHE_SCHEMA)
        return VERSION;
    if (strcmp(text_of(entry, DLB_TUNING_HARDWARE), own->hardware) ||
        strcmp(text_of(entry, DLB_TUNING_ISA), own->isa))
        return MACHINE;
    if (strcmp(text_of(entry, DLB_TUNING_CODE),
               own->code(text_of(entry, DLB_TUNING_OP))) ||
        !same_but_patch(text_of(entry, DLB_TUNING_COMPILER), own->compiler) ||
        strcmp(text_of(entry, DLB_TUNING_FLAGS), own->flags))
        return KERNELS;
    return STRANGERS;
}

/* Entries in memory */

static bool same_key(const struct entry *a, const struct entry *b)
{
    for (int i = 0; i < KEY_COLUMNS; i++)
        if (strcmp(text_of(a, key_columns[i]), text_of(b, key_columns[i])))
            return false;
    return a->cell[DLB_TUNING_THREADS].integer == b->cell[DLB_TUNING_THREADS].integer;
}

/* Takes the entry over, in place of the one of the same problem. */
static enum dlb_status keep_entry(struct dlb_cache *cache, struct entry *entry,
                                  struct dlb_error *error)
{
    for (int i = 0; i < cache->entries; i++)
        if (same_key(&cache->entry[i], entry)) {
            release_entry(&cache->entry[i]);
            cache->entry[i] = *entry;
            return DLB_OK;
        }
    struct entry *grown =
        realloc(cache->entry, ((size_t)cache->entries + 1) * sizeof *grown);
    if (!grown) {
        release_entry(entry);
        return no_memory(error);
    }
    cache->entry = grown;
    cache->entry[cache->entries++] = *entry;
    return DLB_OK;
}

static bool is_tuned(const struct entry *entry)
{
    return !strcmp(text_of(entry, DLB_TUNING_OUTCOME), "tuned");
}

static enum dlb_status read_entry(void *context, struct dlb_cell *cell,
                                  const struct dlb_csv_record *record,
                                  struct dlb_error *error)
{
    struct dlb_cache *cache = context;
    struct entry entry;
    (void)record;
    memcpy(entry.cell, cell, sizeof entry.cell);
    enum stranger stranger = stranger_of(cache, &entry);
    if (stranger != STRANGERS) {
        cache->ignored[stranger]++;
        if (stranger == MACHINE)
            snprintf(cache->other_machine, sizeof cache->other_machine, "%.160s, %.16s",
                     text_of(&entry, DLB_TUNING_HARDWARE),
                     text_of(&entry, DLB_TUNING_ISA));
        return DLB_OK;
    }
    for (int i = 0; i < DLB_TUNING_COLUMNS_N; i++)
        cell[i].text = NULL;
    return keep_entry(cache, &entry, error);
}

char *dlb_cache_default_path(void)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    const char *file = dlb_tables[DLB_TABLE_TUNING].file;
    char *path = NULL;
    int printed = -1;
    /* A relative one is to be ignored, says the XDG specification. */
    if (cache && *cache == '/')
        printed = asprintf(&path, "%s/dlbench/%s", cache, file);
    else if (home && *home == '/')
        printed = asprintf(&path, "%s/.cache/dlbench/%s", home, file);
    return printed < 0 ? NULL : path;
}

enum dlb_status dlb_cache_open(const char *path,
                               const struct dlb_cache_identity *identity,
                               struct dlb_cache **cache, struct dlb_error *error)
{
    enum dlb_status status = DLB_OK;
    int64_t whole = 0;
    struct dlb_cache *c = calloc(1, sizeof *c);
    *cache = NULL;
    if (c && path)
        c->path = strdup(path);
    if (!c || (path && !c->path)) {
        free(c);
        return no_memory(error);
    }
    c->identity = *identity;
    /* A writer that was killed at once leaves less than the header. */
    if (path && !access(path, F_OK))
        status = dlb_csv_whole(path, &whole, error);
    if (whole && !status)
        status =
            dlb_table_read(path, DLB_TABLE_TUNING, false, read_entry, c, NULL, error);
    if (status)
        dlb_cache_close(c);
    else
        *cache = c;
    return status;
}

void dlb_cache_close(struct dlb_cache *cache)
{
    if (!cache)
        return;
    for (int i = 0; i < cache->entries; i++)
        release_entry(&cache->entry[i]);
    free(cache->entry);
    free(cache->path);
    free(cache);
}

const char *dlb_cache_path(const struct dlb_cache *cache)
{
    return cache->path;
}

int dlb_cache_entries(const struct dlb_cache *cache)
{
    int n = 0;
    for (int i = 0; i < cache->entries; i++)
        n += is_tuned(&cache->entry[i]);
    return n;
}

bool dlb_cache_ignored(const struct dlb_cache *cache, char *text, size_t size)
{
    static const char *const why[STRANGERS] = {
        [MACHINE] = "of another machine or instruction set",
        [KERNELS] = "of other kernel sources, compiler or flags",
        [VERSION] = "of another version of the table"};
    int used = 0;
    for (int i = 0; i < STRANGERS; i++) {
        if (!cache->ignored[i] || used >= (int)size)
            continue;
        used +=
            snprintf(text + used, size - (size_t)used, "%s%d %s%s%s%s",
                     used ? ", " : "ignored: ", cache->ignored[i], why[i],
                     i == MACHINE ? " (" : "", i == MACHINE ? cache->other_machine : "",
                     i == MACHINE ? ")" : "");
    }
    return used > 0;
}

/* Looking up */

static void set_text(struct entry *entry, int column, const char *text, bool *nomem)
{
    struct dlb_cell *cell = &entry->cell[column];
    cell->text = text && *text ? strdup(text) : NULL;
    cell->set = cell->text;
    *nomem |= text && *text && !cell->text;
}

static void set_int(struct entry *entry, int column, int64_t value)
{
    entry->cell[column] = (struct dlb_cell){.set = true, .integer = value};
}

static void set_real(struct entry *entry, int column, double value)
{
    entry->cell[column] = (struct dlb_cell){.set = isfinite(value), .number = value};
}

/* The columns of the key; release_entry even after a failure. */
static bool fill_key(const struct dlb_cache_key *key, struct entry *entry)
{
    char shape[DLB_SHAPE_MAX];
    bool nomem = false;
    *entry = (struct entry){0};
    dlb_descriptor_format(key->op, key->problem, shape);
    set_text(entry, DLB_TUNING_OP, key->op->name, &nomem);
    set_text(entry, DLB_TUNING_PASS, dlb_pass_names[key->problem->pass], &nomem);
    set_text(entry, DLB_TUNING_DTYPE, dlb_dtype_names[key->problem->dtype], &nomem);
    set_text(entry, DLB_TUNING_ACCURACY, dlb_accuracy_names[key->problem->accuracy],
             &nomem);
    set_text(entry, DLB_TUNING_SHAPE, shape, &nomem);
    set_text(entry, DLB_TUNING_CACHE_STATE, key->cache_state, &nomem);
    set_text(entry, DLB_TUNING_THREAD_SET, key->thread_set, &nomem);
    set_int(entry, DLB_TUNING_THREADS, key->threads);
    return !nomem;
}

static bool is_stale(const struct dlb_cache *cache, const struct entry *entry)
{
    return strcmp(text_of(entry, DLB_TUNING_COMPILER), cache->identity.compiler) ||
           strcmp(text_of(entry, DLB_TUNING_OS), cache->identity.os);
}

bool dlb_cache_find(const struct dlb_cache *cache, const struct dlb_cache_key *key,
                    struct dlb_tuned *tuned)
{
    struct entry wanted;
    const struct entry *found = NULL;
    *tuned = (struct dlb_tuned){0};
    if (fill_key(key, &wanted))
        for (int i = 0; i < cache->entries && !found; i++)
            if (same_key(&cache->entry[i], &wanted))
                found = &cache->entry[i];
    release_entry(&wanted);
    if (!found || !is_tuned(found))
        return false;
    for (int i = 0; i < DLB_SEARCH_BEST; i++) {
        const char *text = text_of(found, places[i].candidate);
        if (!*text ||
            dlb_candidate_parse(key->op, text, &tuned->best[tuned->best_n], NULL))
            continue;
        tuned->best_ns[tuned->best_n++] = found->cell[places[i].ns].number;
    }
    tuned->stale = is_stale(cache, found);
    tuned->tried = (int)found->cell[DLB_TUNING_TRIED].integer;
    tuned->legal = (int)found->cell[DLB_TUNING_LEGAL].integer;
    tuned->seconds = found->cell[DLB_TUNING_SECONDS].number;
    return tuned->best_n > 0;
}

/* How unlike two problems of one operator are. */
static double distance(const struct dlb_op *op, const struct dlb_problem *a,
                       const struct dlb_problem *b)
{
    static const double OTHER_WORD = 4;
    double sum = 0;
    for (int i = 0; i < op->dims_n; i++) {
        if (a->dim[i] == b->dim[i])
            continue;
        sum += op->dims[i].names ? OTHER_WORD
                                 : fabs(log2(1 + fabs((double)a->dim[i])) -
                                        log2(1 + fabs((double)b->dim[i])));
    }
    return sum;
}

bool dlb_cache_nearest(const struct dlb_cache *cache, const struct dlb_cache_key *key,
                       struct dlb_candidate *candidate)
{
    struct entry wanted;
    double least = INFINITY;
    bool found = false;
    if (!fill_key(key, &wanted)) {
        release_entry(&wanted);
        return false;
    }
    for (int i = 0; i < cache->entries; i++) {
        static const int alike[] = {DLB_TUNING_OP, DLB_TUNING_PASS, DLB_TUNING_DTYPE,
                                    DLB_TUNING_ACCURACY, DLB_TUNING_CACHE_STATE};
        const struct entry *entry = &cache->entry[i];
        struct dlb_problem problem = *key->problem;
        char name[DLB_NAME_MAX];
        bool same = is_tuned(entry) && entry->cell[DLB_TUNING_THREADS].integer ==
                                           wanted.cell[DLB_TUNING_THREADS].integer;
        for (size_t k = 0; k < sizeof alike / sizeof *alike && same; k++)
            same = !strcmp(text_of(entry, alike[k]), text_of(&wanted, alike[k]));
        if (!same || same_key(entry, &wanted) ||
            dlb_descriptor_parse(key->op, text_of(entry, DLB_TUNING_SHAPE), &problem,
                                 name, NULL))
            continue;
        struct dlb_candidate winner;
        double far = distance(key->op, &problem, key->problem);
        if (far < least &&
            !dlb_candidate_parse(key->op, text_of(entry, DLB_TUNING_CANDIDATE), &winner,
                                 NULL)) {
            least = far;
            *candidate = winner;
            found = true;
        }
    }
    release_entry(&wanted);
    return found;
}

/* Writing */

static enum dlb_status append(const struct dlb_cache *cache, const struct entry *entry,
                              struct dlb_error *error)
{
    struct dlb_table_file file;
    char *folder = strdup(cache->path), *slash = folder ? strrchr(folder, '/') : NULL;
    enum dlb_status status = folder ? DLB_OK : no_memory(error);
    if (slash && slash != folder) {
        *slash = '\0';
        status = dlb_folders_make(folder, error);
    }
    free(folder);
    if (status)
        return status;
    status = dlb_table_file_share(&file, cache->path, DLB_TABLE_TUNING, error);
    if (!status)
        status = dlb_table_file_append(&file, entry->cell, 1, error);
    dlb_table_file_close(&file);
    return status;
}

/* tuned: NULL where the problem is dropped. */
static enum dlb_status put(struct dlb_cache *cache, const struct dlb_cache_key *key,
                           const struct dlb_tuned *tuned, struct dlb_error *error)
{
    const struct dlb_cache_identity *own = &cache->identity;
    struct entry entry;
    char now[DLB_TIME_TEXT];
    bool nomem = !fill_key(key, &entry);
    dlb_run_time(now);
    set_int(&entry, DLB_TUNING_SCHEMA_VERSION, CACHE_SCHEMA);
    set_text(&entry, DLB_TUNING_TIMESTAMP_UTC, now, &nomem);
    set_text(&entry, DLB_TUNING_OUTCOME, tuned ? "tuned" : "dropped", &nomem);
    set_text(&entry, DLB_TUNING_HARDWARE, own->hardware, &nomem);
    set_text(&entry, DLB_TUNING_ISA, own->isa, &nomem);
    set_text(&entry, DLB_TUNING_CODE, own->code(key->op->name), &nomem);
    set_text(&entry, DLB_TUNING_COMPILER, own->compiler, &nomem);
    set_text(&entry, DLB_TUNING_FLAGS, own->flags, &nomem);
    set_text(&entry, DLB_TUNING_OS, own->os, &nomem);
    for (int i = 0; tuned && i < tuned->best_n; i++) {
        char text[DLB_SHAPE_MAX];
        dlb_candidate_format(key->op, &tuned->best[i], text);
        set_text(&entry, places[i].candidate, text, &nomem);
        set_real(&entry, places[i].ns, tuned->best_ns[i]);
    }
    if (tuned) {
        set_int(&entry, DLB_TUNING_TRIED, tuned->tried);
        set_int(&entry, DLB_TUNING_LEGAL, tuned->legal);
        set_real(&entry, DLB_TUNING_SECONDS, tuned->seconds);
    }
    if (nomem) {
        release_entry(&entry);
        return no_memory(error);
    }
    enum dlb_status status = cache->path ? append(cache, &entry, error) : DLB_OK;
    enum dlb_status kept = keep_entry(cache, &entry, status ? NULL : error);
    return status ? status : kept;
}

enum dlb_status dlb_cache_store(struct dlb_cache *cache, const struct dlb_cache_key *key,
                                const struct dlb_tuned *tuned, struct dlb_error *error)
{
    return put(cache, key, tuned, error);
}

enum dlb_status dlb_cache_drop(struct dlb_cache *cache, const struct dlb_cache_key *key,
                               struct dlb_error *error)
{
    return put(cache, key, NULL, error);
}
