/*
 * runs_fixture.h - run folders that no machine has run, in a folder of their own.
 */
#ifndef DLB_TESTS_RUNS_FIXTURE_H
#define DLB_TESTS_RUNS_FIXTURE_H

#include "core/base.h"

/* cmocka's setup and teardown: makes a folder below /tmp the current one; removes it. */
int runs_begin(void **state);
int runs_end(void **state);

/* A row; what is 0 or NULL is taken as in the comment. */
struct runs_row {
    const char *op, *pass, *dtype, *accuracy, *shape; /* conv fwd f32 exact mb1ic8 */
    const char *impl, *version, *isa, *candidate;     /* native, 1.0, avx2, "" */
    const char *thread_set, *cache_state;             /* threads as text, hot */
    const char *status, *reason;                      /* ok, "" */
    const char *bound;                                /* compute */
    int threads;                                      /* 1 */
    int samples;                                      /* 0: none */
    double ns;                                        /* 1e6; below 0: not timed */
    double spread; /* standard deviation of ln of a sample: 0.01 */
    double noise_floor;
    double gflops, roof_gflops; /* 10, 40 */
    double speedup;             /* over oneDNN; 0: not paired */
};

struct runs_writer;
/* folder/results.csv, samples.csv and, unless machine_key is NULL, manifest.json. */
struct runs_writer *runs_open(const char *folder, const char *run_id,
                              const char *machine_key, const char *commit,
                              const char *state);
void runs_write(struct runs_writer *writer, struct runs_row row);
void runs_close(struct runs_writer *writer);

/* Writes text into file ("w") or behind it ("a"). */
void runs_put(const char *file, const char *mode, const char *text);

#endif
