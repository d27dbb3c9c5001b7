/*
 * machine_fixture.h - machines and fake system files for the tests of bench/machine.
 */
#ifndef DLB_TESTS_MACHINE_FIXTURE_H
#define DLB_TESTS_MACHINE_FIXTURE_H

#include "machine/topology.h"

#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* 2 fast cores with siblings (PUs 0-3) and 4 efficient ones (4-7), one L3. */
#define MACHINE_HYBRID DLBENCH_SOURCE_DIR "/tests/data/hybrid.xml"

static inline struct dlb_topology *machine_load(const char *spec)
{
    struct dlb_topology *topology = NULL;
    struct dlb_error error = {""};
    if (dlb_topology_load(spec, &topology, &error) != DLB_OK)
        fail_msg("%s", error.text);
    return topology;
}

/* A new empty folder that stands for "/"; free with machine_root_remove. */
static inline char *machine_root(void)
{
    char *root = strdup("/tmp/dlb_root_XXXXXX");
    assert_non_null(mkdtemp(root));
    return root;
}

/* Writes a file below root, with the folders that it needs. */
static inline void machine_file(const char *root, const char *path, const char *text)
{
    char full[4096];
    snprintf(full, sizeof full, "%s%s", root, path);
    for (char *slash = full + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = 0;
        mkdir(full, 0777);
        *slash = '/';
    }
    FILE *file = fopen(full, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static inline int machine_remove_(const char *path, const struct stat *stat, int kind,
                                  struct FTW *where)
{
    (void)stat, (void)kind, (void)where;
    return remove(path);
}
static inline void machine_root_remove(char *root)
{
    nftw(root, machine_remove_, 16, FTW_DEPTH | FTW_PHYS);
    free(root);
}

#endif
