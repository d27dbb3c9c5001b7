#include "night_folders.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static char place[] = "/tmp/dlb_test_nights_XXXXXX";

int night_folders_enter(void **state)
{
    (void)state;
    return !mkdtemp(place) || chdir(place);
}

static int remove_one(const char *path, const struct stat *info, int type,
                      struct FTW *where)
{
    (void)info, (void)type, (void)where;
    return remove(path);
}

int night_folders_leave(void **state)
{
    (void)state;
    return chdir("/") || nftw(place, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static FILE *open_in(const char *folder, const char *file)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    FILE *stream = fopen(path, "wb");
    assert_non_null(stream);
    return stream;
}

FILE *night_folder_begin(const struct night_folder *night)
{
    assert_int_equal(mkdir(night->folder, 0777), 0);
    if (night->machine) {
        FILE *manifest = open_in(night->folder, "manifest.json");
        fprintf(manifest,
                "{\"run_id\": \"%s\", \"started_utc\": \"%s\", \"machine_key\": \"%s\", "
                "\"facts\": {\"build\": {\"commit\": \"%s\", \"dirty\": \"%s\"}}}\n",
                night->id, night->started, night->machine, night->commit,
                night->dirty ? "yes" : "no");
        fclose(manifest);
    }
    FILE *results = open_in(night->folder, "results.csv");
    fputs("schema_version,run_id,case_id,row_seq,timestamp_utc,status,op,pass,dtype,"
          "shape,accuracy,impl,threads,thread_set,cache_state,time_median_ns\n",
          results);
    return results;
}

void night_folder_row(FILE *results, const struct night_folder *night, const char *name,
                      const char *status, const char *impl, double ns)
{
    char time[32] = "";
    if (ns >= 0)
        snprintf(time, sizeof time, "%.10g", ns);
    fprintf(results, "1,%s,%s,1,%s,%s,conv,fwd,f32,%s,exact,%s,2,cores,hot,%s\n",
            night->id, name, night->started, status, name, impl, time);
}

const char *night_folder_day(int days)
{
    static char text[32];
    time_t when = 1767232800 + days * (time_t)86400;
    struct tm parts;
    gmtime_r(&when, &parts);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
    return text;
}
