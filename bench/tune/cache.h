/*
 * cache.h - the tuning cache: what earlier searches found, kept in a file that is only
 * ever appended to.
 *
 * An entry holds the best three candidates of a problem (operator, pass, data type,
 * accuracy class, dims with the layout, cache state, thread set) for one machine and one
 * build.  Those of another machine, of other kernel sources, of another compiler but for
 * its patch level, of other flags, and of another version of the table do not count.  Where
 * the compiler's patch level or the system's kernel differ, the entry is stale: a reason to
 * race its candidates again.  The last entry of a problem holds; one that says "dropped"
 * takes back those before it.
 *
 * Several processes may use one file: a record is one write, in a lock where the file
 * system has locks.  The torn record of a killed process is passed over.
 */
#ifndef DLB_TUNE_CACHE_H
#define DLB_TUNE_CACHE_H

#include "core/op.h"
#include "machine/environment.h"
#include "tune/search.h"

/* For whom the cache is opened. */
struct dlb_cache_identity {
    char hardware[DLB_HARDWARE_TEXT];
    const char *isa;
    const char *compiler; /* "GNU 12.2.0" */
    const char *flags;
    char os[160];
    const char *(*code)(const char *op); /* hash of the operator's kernel sources */
};

/* This machine, this build. */
void dlb_cache_identify(const struct dlb_topology *topology, enum dlb_isa isa,
                        struct dlb_cache_identity *identity);

/* $XDG_CACHE_HOME/dlbench/tuning.csv, or below ~/.cache; NULL where there is neither.
 * Owner: caller. */
char *dlb_cache_default_path(void);

struct dlb_cache;

/* Reads the file at path, if there is one; nothing is written before something is stored.
 * Without a path it lives in memory alone.  DLB_INVALID and DLB_IO where it is no tuning cache, or damaged, or cannot be read. */
enum dlb_status dlb_cache_open(const char *path,
                               const struct dlb_cache_identity *identity,
                               struct dlb_cache **cache, struct dlb_error *error);
void dlb_cache_close(struct dlb_cache *cache); /* safe on NULL */

/* NULL: in memory alone. */
const char *dlb_cache_path(const struct dlb_cache *cache);

/* How many problems it knows for this machine and build. */
int dlb_cache_entries(const struct dlb_cache *cache);

/* One sentence on the entries that do not count and why; false when there are none. */
bool dlb_cache_ignored(const struct dlb_cache *cache, char *text, size_t size);

struct dlb_cache_key {
    const struct dlb_op *op;
    const struct dlb_problem *problem;
    const char *cache_state, *thread_set;
    int threads;
};

struct dlb_tuned {
    struct dlb_candidate best[DLB_SEARCH_BEST]; /* the winner first */
    double best_ns[DLB_SEARCH_BEST];
    int best_n;
    bool stale;
    int tried, legal; /* of the search that found them */
    double seconds;
};

/* False when nothing is known.  What is found may have become illegal: op->refuse it. */
bool dlb_cache_find(const struct dlb_cache *cache, const struct dlb_cache_key *key,
                    struct dlb_tuned *tuned);

/* The winner of the problem that is most like key's on as many threads, for a search to
 * begin with; key's own is not meant. */
bool dlb_cache_nearest(const struct dlb_cache *cache, const struct dlb_cache_key *key,
                       struct dlb_candidate *candidate);

/* Appends what was tuned, or that it was wrong.  On DLB_IO the file is as before; in this
 * process the entry holds all the same. */
enum dlb_status dlb_cache_store(struct dlb_cache *cache, const struct dlb_cache_key *key,
                                const struct dlb_tuned *tuned, struct dlb_error *error);
enum dlb_status dlb_cache_drop(struct dlb_cache *cache, const struct dlb_cache_key *key,
                               struct dlb_error *error);

#endif
