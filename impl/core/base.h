/*
 * base.h - status, error text, memory and small integer helpers.
 *
 * Conventions of the whole project
 *   - A function that can fail returns enum dlb_status and takes a struct dlb_error last.
 *     On failure the error holds one complete sentence for the user (what is wrong, and
 *     what would be accepted); on success it is untouched.  A NULL error is allowed.
 *   - Only bench/main.c prints and exits.  Asserts are for our own bugs, never for input.
 *   - Every _make/_open has a _release/_close; releasing a zeroed struct is safe.
 *   - Sizes are counted in elements unless the name says bytes; times in nanoseconds.
 */
#ifndef DLB_CORE_BASE_H
#define DLB_CORE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum dlb_status {
    DLB_OK = 0,
    DLB_INVALID,     /* bad input from the user */
    DLB_UNSUPPORTED, /* right, but not possible here: no such ISA, not in this build */
    DLB_NOMEM,
    DLB_IO,
    DLB_INTERRUPTED,
    DLB_FAULT /* a library or the system failed in a way we cannot mend */
};

struct dlb_error {
    char text[1024];
};

/* Writes the sentence (printf form) into error unless NULL, and returns status. */
enum dlb_status dlb_fail(struct dlb_error *error, enum dlb_status status,
                         const char *format, ...) __attribute__((format(printf, 3, 4)));

enum { DLB_CACHE_LINE = 64, DLB_ALIGN = 64 };

/*
 * Memory of at least bytes, aligned to DLB_ALIGN (to 2 MiB, and advised to use huge
 * pages, from 4 MiB on), not touched, so that the first writer decides its NUMA node.
 * NULL when it cannot be had.  bytes may be 0.  Owner: caller, through dlb_free(p);
 * dlb_free(NULL) is fine.
 */
void *dlb_alloc(size_t bytes);
void dlb_free(void *memory);

static inline int64_t dlb_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}
static inline int64_t dlb_max(int64_t a, int64_t b)
{
    return a > b ? a : b;
}
static inline int64_t dlb_div_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}
static inline int64_t dlb_round_up(int64_t a, int64_t b)
{
    return dlb_div_up(a, b) * b;
}

/* A well mixed number of key and index: the finaliser of SplitMix64 (Steele, Lea, Flood
 * 2014) over a counter.  dlb_hash(key + i * DLB_HASH_STEP, j) is dlb_hash(key, i + j). */
#define DLB_HASH_STEP UINT64_C(0x9e3779b97f4a7c15)
static inline uint64_t dlb_hash(uint64_t key, uint64_t index)
{
    uint64_t x = key + index * DLB_HASH_STEP;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* The share [*begin, *end) of n items that worker rank of size gets: contiguous, sizes
 * differ by at most one, the first workers get the larger ones. */
static inline void dlb_share(int64_t n, int rank, int size, int64_t *begin, int64_t *end)
{
    int64_t base = n / size, extra = n % size;
    *begin = rank * base + dlb_min(rank, extra);
    *end = *begin + base + (rank < extra);
}

/* Mean over largest share of n > 0 items among so many workers, at most 1. */
static inline double dlb_share_balance(int64_t n, int64_t workers)
{
    return (double)n / (double)(dlb_div_up(n, workers) * workers);
}

#endif
