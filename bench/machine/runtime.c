#include "machine/runtime.h"

#include "machine/pool.h"

#include <ctype.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>

static bool is_runtime(const char *path)
{
    static const char *const stem[] = {"libgomp", "libiomp5", "libomp"};
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    for (int i = 0; i < 3; i++) {
        size_t length = strlen(stem[i]);
        /* Not libomptarget; but libgomp-a34b3233.so.1 of a bundled copy. */
        if (!strncmp(name, stem[i], length) && !isalpha((unsigned char)name[length]))
            return true;
    }
    return false;
}

static void add_runtime(void *context, const char *path)
{
    struct dlb_runtimes *runtimes = context;
    if (!is_runtime(path))
        return;
    char *real = realpath(path, NULL);
    const char *name = real ? real : path;
    for (int i = 0; i < runtimes->n && i < DLB_RUNTIMES_MAX; i++)
        if (!strcmp(runtimes->path[i], name))
            goto out;
    if (runtimes->n < DLB_RUNTIMES_MAX)
        snprintf(runtimes->path[runtimes->n], DLB_RUNTIME_PATH, "%s", name);
    runtimes->n++;
out:
    free(real);
}

struct visitor {
    dlb_library_visit_fn *visit;
    void *context;
};

static int visit_object(struct dl_phdr_info *info, size_t size, void *context)
{
    struct visitor *visitor = context;
    (void)size;
    if (info->dlpi_name && info->dlpi_name[0])
        visitor->visit(visitor->context, info->dlpi_name);
    return 0;
}

void dlb_libraries_loaded(dlb_library_visit_fn *visit, void *context)
{
    struct visitor visitor = {visit, context};
    dl_iterate_phdr(visit_object, &visitor);
}

void dlb_runtimes_find(dlb_library_list_fn *list, struct dlb_runtimes *runtimes)
{
    runtimes->n = 0;
    list(add_runtime, runtimes);
}

enum dlb_status dlb_runtimes_check(dlb_library_list_fn *list, struct dlb_error *error)
{
    struct dlb_runtimes runtimes;
    dlb_runtimes_find(list, &runtimes);
    if (runtimes.n < 2)
        return DLB_OK;
    return dlb_fail(
        error, DLB_FAULT,
        "%d OpenMP runtimes are loaded (%.400s and %.400s) and would fight over"
        " the cores; use a oneDNN that is built with the same OpenMP runtime as"
        " dlbench.",
        runtimes.n, runtimes.path[0], runtimes.path[1]);
}

enum dlb_status dlb_pool_check_runtime(struct dlb_error *error)
{
    return dlb_runtimes_check(dlb_libraries_loaded, error);
}
