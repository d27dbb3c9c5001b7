#include "machine/limits.h"

#include "machine/system_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_ROOM = 4096 };
/* v1 writes "no limit" as a number just below 2^63. */
static const double no_limit_bytes = 4.0e18;

struct group {
    char mount[PATH_ROOM];    /* mount point of the hierarchy */
    char relative[PATH_ROOM]; /* our group below it, "" or "/a/b" */
    int version;
};

static bool list_has(const char *list, size_t length, const char *word)
{
    size_t word_length = strlen(word);
    for (size_t i = 0; i < length;) {
        size_t part = 0;
        while (i + part < length && list[i + part] != ',')
            part++;
        if (part == word_length && !strncmp(list + i, word, part))
            return true;
        i += part + 1;
    }
    return false;
}

/* The path of our group for a controller; v2's line has the number 0 and no controllers.
 */
static bool group_path(const char *cgroup, const char *controller, int version,
                       char path[PATH_ROOM])
{
    for (const char *line = cgroup; line && *line;) {
        size_t length = strcspn(line, "\n");
        const char *end = line + length;
        const char *list = memchr(line, ':', length);
        const char *name = list ? memchr(list + 1, ':', end - list - 1) : NULL;
        if (name) {
            size_t list_length = name - list - 1;
            bool ours = version == 2 ? list_length == 0 && line[0] == '0'
                                     : list_has(list + 1, list_length, controller);
            if (ours) {
                snprintf(path, PATH_ROOM, "%.*s", (int)(end - name - 1), name + 1);
                return true;
            }
        }
        line = end + (*end == '\n');
    }
    return false;
}

/* mountinfo writes blanks, tabs, newlines and backslashes as \ooo. */
static void unescape(char *text)
{
    char *to = text;
    for (const char *from = text; *from; to++) {
        if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] >= '0' &&
            from[2] <= '7' && from[3] >= '0' && from[3] <= '7') {
            *to = (char)((from[1] - '0') * 64 + (from[2] - '0') * 8 + (from[3] - '0'));
            from += 4;
        } else {
            *to = *from++;
        }
    }
    *to = 0;
}

/* Finds where the hierarchy is mounted: fields are id, parent, device, root, mount point,
 * options, optional fields, "-", type, source, super options. */
static bool find_mount(const char *mountinfo, const char *controller, int version,
                       char root[PATH_ROOM], char mount[PATH_ROOM])
{
    for (const char *line = mountinfo; line && *line;) {
        size_t length = strcspn(line, "\n");
        char *copy = strndup(line, length);
        bool found = false;
        char *dash = copy ? strstr(copy, " - ") : NULL;
        char type[64], source[PATH_ROOM], options[PATH_ROOM];
        if (dash && length < PATH_ROOM &&
            sscanf(dash, " - %63s %4095s %4095s", type, source, options) == 3 &&
            sscanf(copy, "%*s %*s %*s %4095s %4095s", root, mount) == 2) {
            found = version == 2 ? !strcmp(type, "cgroup2")
                                 : !strcmp(type, "cgroup") &&
                                       list_has(options, strlen(options), controller);
        }
        free(copy);
        if (found) {
            unescape(root);
            unescape(mount);
            return true;
        }
        line += length + (line[length] == '\n');
    }
    return false;
}

static bool find_group(const char *cgroup, const char *mountinfo, const char *controller,
                       int version, struct group *group)
{
    char path[PATH_ROOM], root[PATH_ROOM];
    if (!group_path(cgroup, controller, version, path) ||
        !find_mount(mountinfo, controller, version, root, group->mount))
        return false;
    group->version = version;
    /* A container may see only its own part of the hierarchy: what the mount shows begins
     * at root.  A path outside of it cannot be followed; the mount point stands for it.
     */
    size_t prefix = strcmp(root, "/") ? strlen(root) : 0;
    bool below = !strncmp(path, root, prefix) && (!path[prefix] || path[prefix] == '/');
    snprintf(group->relative, sizeof group->relative, "%s",
             below && !strstr(path, "..") ? path + prefix : "");
    return true;
}

static bool group_number(const char *root, const char *folder, const char *file,
                         double *number)
{
    char path[2 * PATH_ROOM + 64];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    return dlb_file_number(root, path, number);
}

static void tighten(double *least, double value)
{
    if (*least == 0 || value < *least)
        *least = value;
}

static void read_quota(const char *root, const char *folder, int version,
                       struct dlb_limits *limits)
{
    double quota = 0, period = 0;
    char path[2 * PATH_ROOM + 64], line[128];

    snprintf(path, sizeof path, "%s/cpu.max", folder);
    if (version == 1) {
        if (!group_number(root, folder, "cpu.cfs_quota_us", &quota) ||
            !group_number(root, folder, "cpu.cfs_period_us", &period))
            return;
    } else if (!dlb_file_line(root, path, line, sizeof line) ||
               sscanf(line, "%lf %lf", &quota, &period) != 2) {
        return; /* "max 100000" */
    }
    if (quota > 0 && period > 0) {
        tighten(&limits->quota_cpus, quota / period);
        limits->version = version;
    }
}

static void read_throttling(const char *root, const char *folder,
                            struct dlb_limits *limits)
{
    char path[2 * PATH_ROOM + 64], value[64];
    snprintf(path, sizeof path, "%s/cpu.stat", folder);
    char *stat = dlb_file_text(root, path);
    if (dlb_text_value(stat, "nr_throttled", value, sizeof value) &&
        strtod(value, NULL) > limits->throttled_periods)
        limits->throttled_periods = strtod(value, NULL);
    free(stat);
}

static void read_memory(const char *root, const char *folder, int version,
                        struct dlb_limits *limits)
{
    double limit = 0, use = 0;
    char path[2 * PATH_ROOM + 64], value[64];

    /* "max" is no number. */
    if (!group_number(root, folder, version == 1 ? "memory.limit_in_bytes" : "memory.max",
                      &limit) ||
        limit >= no_limit_bytes)
        return;
    group_number(root, folder, version == 1 ? "memory.usage_in_bytes" : "memory.current",
                 &use);
    snprintf(path, sizeof path, "%s/memory.stat", folder);
    char *stat = dlb_file_text(root, path);
    if (dlb_text_value(stat, version == 1 ? "total_inactive_file" : "inactive_file",
                       value, sizeof value))
        use -= strtod(value, NULL);
    free(stat);
    double available = use < limit ? limit - (use > 0 ? use : 0) : 0;
    if (limits->memory_bytes == 0 || available < limits->memory_available)
        limits->memory_available = available;
    tighten(&limits->memory_bytes, limit);
}

void dlb_limits_read(const char *root, struct dlb_limits *limits)
{
    static const char *const controllers[] = {"cpu", "memory"};
    char *cgroup = dlb_file_text(root, "/proc/self/cgroup");
    char *mountinfo = dlb_file_text(root, "/proc/self/mountinfo");

    *limits = (struct dlb_limits){.throttled_periods = -1};
    for (int version = 1; version <= 2; version++) {
        for (int c = 0; c < 2; c++) {
            struct group group;
            if (!find_group(cgroup, mountinfo, controllers[c], version, &group))
                continue;
            for (;;) {
                char folder[2 * PATH_ROOM];
                snprintf(folder, sizeof folder, "%s%s", group.mount, group.relative);
                if (c == 0) {
                    read_quota(root, folder, version, limits);
                    read_throttling(root, folder, limits);
                } else {
                    read_memory(root, folder, version, limits);
                }
                char *slash = strrchr(group.relative, '/');
                if (!slash)
                    break;
                *slash = 0;
            }
        }
    }
    free(cgroup);
    free(mountinfo);
}
