/*
 * runtime.h - which OpenMP runtimes this process has loaded.  Two of them would fight
 * over the cores, each with threads of its own.
 */
#ifndef DLB_MACHINE_RUNTIME_H
#define DLB_MACHINE_RUNTIME_H

#include "core/base.h"

enum { DLB_RUNTIMES_MAX = 8, DLB_RUNTIME_PATH = 512 };

struct dlb_runtimes {
    int n; /* how many different files; those beyond DLB_RUNTIMES_MAX are counted only */
    char path[DLB_RUNTIMES_MAX][DLB_RUNTIME_PATH];
};

/* Calls visit for the path of each loaded library. */
typedef void dlb_library_visit_fn(void *context, const char *path);
typedef void dlb_library_list_fn(dlb_library_visit_fn *visit, void *context);

/* The list of this process, from the dynamic linker. */
void dlb_libraries_loaded(dlb_library_visit_fn *visit, void *context);

/* The OpenMP runtimes (libgomp, libomp, libiomp5) among the libraries of list. */
void dlb_runtimes_find(dlb_library_list_fn *list, struct dlb_runtimes *runtimes);

/* dlb_pool_check_runtime over any list. */
enum dlb_status dlb_runtimes_check(dlb_library_list_fn *list, struct dlb_error *error);

#endif
