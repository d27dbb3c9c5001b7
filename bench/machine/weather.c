/* What may change between two rows: counters of the system and memory that is free. */
#include "machine/environment.h"

#include "machine/limits.h"
#include "machine/system_file.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Adds the number of "key: number" in a task's file; false when it is not there. */
static bool add_task_count(const char *root, const char *task, const char *file,
                           const char *key, int64_t *sum)
{
    char path[512], value[64];
    snprintf(path, sizeof path, "/proc/self/task/%s/%s", task, file);
    char *text = dlb_file_text(root, path);
    bool found = dlb_text_value(text, key, value, sizeof value);
    if (found)
        *sum += strtoll(value, NULL, 10);
    free(text);
    return found;
}

static void read_tasks(const char *root, struct dlb_weather *weather)
{
    char path[4096];
    int64_t migrations = 0;
    bool known = false;
    snprintf(path, sizeof path, "%s/proc/self/task", root);
    DIR *tasks = opendir(path);
    if (!tasks)
        return;
    for (struct dirent *task; (task = readdir(tasks));) {
        if (task->d_name[0] == '.')
            continue;
        add_task_count(root, task->d_name, "status", "nonvoluntary_ctxt_switches",
                       &weather->ctx_switches_invol);
        known |=
            add_task_count(root, task->d_name, "sched", "se.nr_migrations", &migrations);
    }
    closedir(tasks);
    if (known)
        weather->migrations = migrations;
}

void dlb_weather_read_from(const char *root, struct dlb_weather *weather)
{
    enum { USER, NICE, SYSTEM, IDLE, IOWAIT, IRQ, SOFTIRQ, STEAL, TICKS };
    double tick[TICKS] = {0};
    char value[512];

    *weather = (struct dlb_weather){.migrations = -1};
    read_tasks(root, weather);
    dlb_file_number(root, "/proc/loadavg", &weather->load1);
    char *stat = dlb_file_text(root, "/proc/stat");
    /* Guest time is in user time already. */
    if (dlb_text_value(stat, "cpu", value, sizeof value))
        sscanf(value, "%lf %lf %lf %lf %lf %lf %lf %lf", &tick[USER], &tick[NICE],
               &tick[SYSTEM], &tick[IDLE], &tick[IOWAIT], &tick[IRQ], &tick[SOFTIRQ],
               &tick[STEAL]);
    free(stat);
    for (int i = 0; i < TICKS; i++)
        weather->total_ticks += tick[i];
    weather->steal_ticks = tick[STEAL];
}

void dlb_weather_read(struct dlb_weather *weather)
{
    dlb_weather_read_from("", weather);
}

size_t dlb_memory_available_from(const char *root)
{
    struct dlb_limits limits;
    char value[64];
    double available = 0;
    char *meminfo = dlb_file_text(root, "/proc/meminfo");
    if (dlb_text_value(meminfo, "MemAvailable", value, sizeof value) ||
        dlb_text_value(meminfo, "MemFree", value, sizeof value))
        available = 1024 * strtod(value, NULL);
    free(meminfo);
    dlb_limits_read(root, &limits);
    if (limits.memory_bytes > 0 && limits.memory_available < available)
        available = limits.memory_available;
    return (size_t)available;
}

size_t dlb_memory_available(void)
{
    return dlb_memory_available_from("");
}
