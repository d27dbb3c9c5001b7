#include "machine/ceilings.h"

#include "core/ceiling.h"
#include "machine/environment.h"

#include <math.h>
#include <string.h>
#include <time.h>

enum { STEPS = 4096, PROBE_STEPS = 512, BARRIERS = 64, PASSES_MIN = 2 };
static const double pass_seconds = 1e-3;
static const double mib = 1 << 20;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

enum work { TOUCH, FMA, READ, COPY, BARRIER };

/* One pass: every thread does the work repeats times, between two barriers. */
struct pass {
    const struct dlb_ceiling_kernels *kernels;
    enum work work;
    int64_t repeats;
    float *buffer;  /* of all threads */
    int64_t stride; /* floats of one thread's part */
    int64_t floats; /* of the part that are worked on; a multiple of 2 blocks */
    double elapsed; /* seconds, as rank 0 saw it */
};

static void pass_member(void *context, const struct dlb_team *team)
{
    struct pass *pass = context;
    float *mine = pass->buffer + team->rank * pass->stride;
    dlb_team_barrier(team);
    double begin = now();
    for (int64_t i = 0; i < pass->repeats; i++) {
        switch (pass->work) {
        case TOUCH:
            memset(mine, 0, pass->stride * sizeof *mine);
            break;
        case FMA:
            pass->kernels->fma(STEPS, DLB_CEILING_GROWTH);
            break;
        case READ:
            pass->kernels->read(mine, pass->floats);
            break;
        case COPY:
            pass->kernels->copy(mine, mine + pass->floats / 2, pass->floats / 2);
            break;
        case BARRIER:
            for (int k = 0; k < BARRIERS; k++)
                dlb_team_barrier(team);
            break;
        }
    }
    dlb_team_barrier(team);
    if (team->rank == 0)
        pass->elapsed = now() - begin;
}

/* Least seconds of one repeat, over passes that together take about seconds. */
static double best_repeat(struct dlb_pool *pool, struct pass *pass, double seconds)
{
    double begin = now(), least = INFINITY;
    double enough = fmin(pass_seconds, seconds / 8);
    pass->repeats = 1;
    for (int passes = 0; passes < PASSES_MIN || now() - begin < seconds; passes++) {
        dlb_pool_run(pool, pass_member, pass);
        least = fmin(least, pass->elapsed / (double)pass->repeats);
        if (pass->elapsed < enough)
            pass->repeats *= 2;
    }
    return least;
}

static int threads_per_instance(const struct dlb_topology *topology, int level)
{
    int siblings = topology->pus / topology->cores;
    int sharing = topology->cache[level].shared_by;
    return (int)dlb_max(sharing / (siblings > 0 ? siblings : 1), 1);
}

/* What the caches of one level hold together that threads neighbouring cores use. */
static double level_capacity(const struct dlb_topology *topology, int level, int threads)
{
    const struct dlb_cache_level *cache = &topology->cache[level];
    if (!cache->bytes || !cache->shared_by)
        return 0;
    int64_t used = dlb_div_up(threads, threads_per_instance(topology, level));
    int64_t there = dlb_max(topology->pus / cache->shared_by, 1);
    return (double)cache->bytes * (double)dlb_min(used, there);
}

/* Working set of one thread that must come from this level (4: memory); 0 when the
 * machine has no such level. */
static double working_set(const struct dlb_topology *topology, int level, int threads,
                          double seconds)
{
    double l2 = (double)topology->cache[2].bytes;
    double share = level <= 3 ? level_capacity(topology, level, threads) / threads : 0;
    if (level < 3 || (level == 3 && share == 0))
        return share / 2;
    if (level == 3)
        /* Beyond L2 and well below the share: others use the L3 as well. */
        return l2 > 0 ? fmin(4 * l2, l2 + share / 2) : share / 2;

    double total = fmax(256 * mib, 4 * l2 * threads);
    total = fmax(total, 2 * level_capacity(topology, 3, threads));
    /* Touching new memory must stay a small part of the time. */
    total = fmin(total, 256 * mib * fmax(fmin(4 * seconds, 1), seconds * threads / 2));
    total = fmin(total, (double)dlb_memory_available() / 4);
    return total / threads;
}

/* Whole pairs of blocks, so that halves can be copied. */
static int64_t floats_of(double bytes)
{
    return (int64_t)(bytes / (2 * DLB_CEILING_BLOCK * sizeof(float))) * 2 *
           DLB_CEILING_BLOCK;
}

enum dlb_status dlb_ceilings_measure(struct dlb_pool *pool,
                                     const struct dlb_topology *topology,
                                     enum dlb_isa isa, double seconds,
                                     struct dlb_rates *rates, struct dlb_error *error)
{
    const struct dlb_ceiling_kernels *kernels = dlb_ceiling_kernels(isa);
    int threads = dlb_pool_threads(pool);
    int64_t floats[5] = {0}, most = 0;
    double begin = now();

    if (!kernels)
        return dlb_fail(error, DLB_UNSUPPORTED,
                        "Ceilings for %s cannot be measured: it cannot run here.",
                        dlb_isa_name(isa));
    for (int level = 1; level <= 4; level++) {
        floats[level] = floats_of(working_set(topology, level, threads, seconds));
        if (floats[level] > most)
            most = floats[level];
    }
    struct pass pass = {.kernels = kernels, .repeats = 1};
    pass.stride = most;
    pass.buffer = dlb_alloc((size_t)most * threads * sizeof(float));
    if (!pass.buffer)
        return dlb_fail(error, DLB_NOMEM,
                        "No memory for %.0f MiB to measure the bandwidth with.",
                        (double)most * threads * sizeof(float) / mib);
    pass.work = TOUCH;
    dlb_pool_run(pool, pass_member, &pass);

    /* Seven rates share what the first touch has left. */
    double slot = fmax(seconds - (now() - begin), seconds / 2) / 7.5;
    struct dlb_rates measured = {0};
    pass.work = FMA;
    measured.peak_gflops =
        1e-9 * kernels->flops_per_step * STEPS * threads / best_repeat(pool, &pass, slot);
    double *const read[] = {NULL, &measured.l1_gbs, &measured.l2_gbs, &measured.l3_gbs,
                            &measured.memory_gbs};
    pass.work = READ;
    for (int level = 1; level <= 4; level++) {
        pass.floats = floats[level];
        if (!pass.floats)
            continue;
        *read[level] = 1e-9 * (double)pass.floats * sizeof(float) * threads /
                       best_repeat(pool, &pass, slot);
    }
    if (floats[4]) {
        /* Half is read and half is written: together all of it. */
        pass.work = COPY;
        pass.floats = floats[4];
        measured.copy_gbs = 1e-9 * (double)pass.floats * sizeof(float) * threads /
                            best_repeat(pool, &pass, slot);
    }
    pass.work = BARRIER;
    measured.barrier_ns = 1e9 * best_repeat(pool, &pass, slot) / BARRIERS;
    *rates = measured;
    dlb_free(pass.buffer);
    return DLB_OK;
}

double dlb_roof_gflops(const struct dlb_rates *rates, const struct dlb_topology *topology,
                       int threads, double flops, double bytes, const char **level)
{
    const struct {
        const char *name;
        double bandwidth;
        double capacity;
    } levels[] = {
        {"L1", rates->l1_gbs, level_capacity(topology, 1, threads)},
        {"L2", rates->l2_gbs, level_capacity(topology, 2, threads)},
        {"L3", rates->l3_gbs, level_capacity(topology, 3, threads)},
        {"memory", rates->memory_gbs, INFINITY},
    };
    double roof = rates->peak_gflops;
    *level = "compute";
    for (int i = 0; i < 4 && bytes > 0; i++) {
        if (levels[i].bandwidth <= 0 || bytes > levels[i].capacity)
            continue;
        double limit = flops / bytes * levels[i].bandwidth;
        if (roof <= 0 || limit < roof) {
            roof = limit;
            *level = levels[i].name;
        }
        break;
    }
    return roof;
}

struct probe {
    const struct dlb_ceiling_kernels *kernels;
    double seconds;
    double rate[DLB_PUS_MAX]; /* steps a second of each thread */
};

static void probe_member(void *context, const struct dlb_team *team)
{
    struct probe *probe = context;
    int64_t steps = 0;
    double elapsed;
    dlb_team_barrier(team);
    double begin = now();
    do {
        probe->kernels->fma(PROBE_STEPS, DLB_CEILING_GROWTH);
        steps += PROBE_STEPS;
        elapsed = now() - begin;
    } while (elapsed < probe->seconds);
    probe->rate[team->rank] = (double)steps / elapsed;
}

double dlb_probe_gflops(struct dlb_pool *pool, enum dlb_isa isa, double nanoseconds)
{
    struct probe probe = {dlb_ceiling_kernels(isa), 1e-9 * nanoseconds, {0}};
    int threads = dlb_pool_threads(pool);
    double slowest = INFINITY;
    if (!probe.kernels)
        return 0;
    dlb_pool_run(pool, probe_member, &probe);
    for (int rank = 0; rank < threads; rank++)
        slowest = fmin(slowest, probe.rate[rank]);
    return 1e-9 * slowest * threads * probe.kernels->flops_per_step;
}
