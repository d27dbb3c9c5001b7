#include "runs_fixture.h"

#include "judge/significance.h"
#include "measure/stats.h"
#include "record/run.h"

#include <assert.h>
#include <errno.h>
#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct runs_writer {
    FILE *results, *samples;
    char run_id[64];
    int rows;
    struct dlb_random random;
};

static char base[64];

int runs_begin(void **state)
{
    (void)state;
    strcpy(base, "/tmp/dlb_test_runs_XXXXXX");
    return !mkdtemp(base) || chdir(base);
}

static int remove_one(const char *path, const struct stat *info, int flag,
                      struct FTW *place)
{
    (void)info, (void)flag, (void)place;
    return remove(path);
}

int runs_end(void **state)
{
    (void)state;
    return chdir("/") || nftw(base, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static FILE *open_in(const char *folder, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert(file);
    return file;
}

struct runs_writer *runs_open(const char *folder, const char *run_id,
                              const char *machine_key, const char *commit,
                              const char *state)
{
    struct runs_writer *writer = calloc(1, sizeof *writer);
    int failed = mkdir(folder, 0777);
    assert(writer && (!failed || errno == EEXIST));
    (void)failed;
    snprintf(writer->run_id, sizeof writer->run_id, "%s", run_id);
    for (const char *at = run_id; *at; at++)
        writer->random.seed = dlb_hash(writer->random.seed, (unsigned char)*at);
    writer->results = open_in(folder, "results.csv");
    writer->samples = open_in(folder, "samples.csv");
    fputs("schema_version,run_id,case_id,row_seq,status,status_reason,op,pass,dtype,"
          "shape,accuracy,impl,impl_version,isa,tiles,tuned_from,threads,thread_set,"
          "cache_state,time_median_ns,time_ci_lo_ns,time_ci_hi_ns,ci_level,gflops,gbs,"
          "intensity,roof_gflops,roof_bound,roof_frac,speedup_vs_onednn,noise_floor\n",
          writer->results);
    fputs("run_id,row_seq,sample_idx,ns,contaminated\n", writer->samples);
    FILE *manifest = open_in(folder, "manifest.json");
    if (!machine_key) {
        char path[512];
        fclose(manifest);
        snprintf(path, sizeof path, "%s/manifest.json", folder);
        unlink(path);
        return writer;
    }
    fprintf(manifest,
            "{\"state\": \"%s\", \"machine_key\": \"%s\", \"options\": [\"dlbench\", "
            "\"--op\", \"conv\", \"--out\", \"%s\"],\n"
            "\"ceilings\": [{\"thread_set\": \"1\", \"threads\": 1, \"peak_gflops\": 50, "
            "\"memory_gbs\": 10}, {\"thread_set\": \"2\", \"threads\": 2, "
            "\"peak_gflops\": 100, \"memory_gbs\": 15}],\n"
            "\"facts\": {\"build\": {\"commit\": \"%s\", \"dirty\": \"no\"},\n"
            "\"memory\": {\"available\": \"%s\"}}}\n",
            state, machine_key, folder, commit, run_id);
    fclose(manifest);
    return writer;
}

static const char *either(const char *text, const char *otherwise)
{
    return text ? text : otherwise;
}

static void write_samples(struct runs_writer *writer, const struct runs_row *row,
                          struct dlb_summary *summary)
{
    int n = row->samples > 0 ? row->samples : 21;
    double *sample = malloc((size_t)n * sizeof *sample);
    assert(sample);
    for (int i = 0; i < n; i++) {
        sample[i] =
            row->ns * exp(row->spread * dlb_random_student(&writer->random, INFINITY));
        if (row->samples > 0)
            fprintf(writer->samples, "%s,%d,%d,%.10g,0\n", writer->run_id, writer->rows,
                    i + 1, sample[i]);
    }
    if (row->samples > 0) /* thrown out by the gate: must not count */
        fprintf(writer->samples, "%s,%d,%d,%.10g,1\n", writer->run_id, writer->rows,
                n + 1, 10 * row->ns);
    dlb_summarise(sample, n, 0.95, summary);
    free(sample);
}

void runs_write(struct runs_writer *writer, struct runs_row row)
{
    char threads[16], set[32];
    struct dlb_summary summary;
    writer->rows++;
    row.ns = row.ns == 0 ? 1e6 : row.ns;
    row.threads = row.threads ? row.threads : 1;
    row.spread = row.spread == 0 ? 0.01 : row.spread;
    row.gflops = row.gflops == 0 ? 10 : row.gflops;
    row.roof_gflops = row.roof_gflops == 0 ? 40 : row.roof_gflops;
    snprintf(threads, sizeof threads, "%d", row.threads);
    snprintf(set, sizeof set, "%s", either(row.thread_set, threads));
    fprintf(writer->results, "1,%s,x,%d,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,",
            writer->run_id, writer->rows, either(row.status, "ok"),
            either(row.reason, ""), either(row.op, "conv"), either(row.pass, "fwd"),
            either(row.dtype, "f32"), either(row.shape, "mb1ic8"),
            either(row.accuracy, "exact"), either(row.impl, "native"),
            either(row.version, "1.0"), either(row.isa, "avx2"),
            either(row.candidate, ""), row.candidate ? "search" : "default", threads, set,
            either(row.cache_state, "hot"));
    if (row.ns < 0) {
        fputs(",,,,,,,,,,,\n", writer->results);
        return;
    }
    write_samples(writer, &row, &summary);
    fprintf(writer->results, "%.10g,%.10g,%.10g,%.10g,%g,%g,%g,%g,%s,%g,", summary.median,
            summary.ci_lo, summary.ci_hi, summary.ci_level, row.gflops, row.gflops,
            row.gflops, row.roof_gflops, either(row.bound, "compute"),
            row.gflops / row.roof_gflops);
    if (row.speedup > 0)
        fprintf(writer->results, "%g", row.speedup);
    fprintf(writer->results, ",%g\n", row.noise_floor);
}

void runs_close(struct runs_writer *writer)
{
    int failed = fclose(writer->results) | fclose(writer->samples);
    assert(!failed);
    (void)failed;
    free(writer);
}

void runs_put(const char *file, const char *mode, const char *text)
{
    FILE *stream = fopen(file, mode);
    assert(stream);
    fputs(text, stream);
    fclose(stream);
}
