/*
 * suite.h - a suite: a CSV of problems with the header op,name,count,shape.
 *
 * Lines that start with # are comments.  Every error names file, line, column and what
 * was expected.  A suite without problems is an error.
 */
#ifndef DLB_SUITE_SUITE_H
#define DLB_SUITE_SUITE_H

#include "ops.h"
#include "suite/descriptor.h"

#include <stdio.h>

struct dlb_case {
    const struct dlb_operator *entry;
    struct dlb_problem problem;
    char name[DLB_NAME_MAX];
    int64_t count; /* how often the network has this layer: weight in means */
};

struct dlb_suite {
    char name[DLB_NAME_MAX]; /* file name without folder and .csv, or "shape" */
    struct dlb_case *cases;
    int cases_n;
};

/* Appends the cases of file to *suite (zeroed at first), or nothing on failure.  only:
 * keep this operator's rows, or NULL for all; the other rows must be right as well.  A
 * name in its column goes before one in the descriptor. */
enum dlb_status dlb_suite_read(const char *file, const struct dlb_operator *only,
                               struct dlb_suite *suite, struct dlb_error *error);

/* The same with the operator's default suite in configs/. */
enum dlb_status dlb_suite_read_default(const struct dlb_operator *entry,
                                       struct dlb_suite *suite, struct dlb_error *error);

/* Appends one case from a descriptor (--shape). */
enum dlb_status dlb_suite_add(const struct dlb_operator *owner, const char *shape,
                              struct dlb_suite *suite, struct dlb_error *error);

/* Repeats the suite for each minibatch of a list "1,16" (--mb), in the order of the list;
 * operators without mb refuse.  On failure the suite is as it was. */
enum dlb_status dlb_suite_set_minibatch(struct dlb_suite *suite, const char *list,
                                        struct dlb_error *error);

void dlb_suite_release(struct dlb_suite *suite);

/* False for a file of configs/ that is none: the rules of the claims. */
bool dlb_suite_is_one(const char *path);

/* One line for each suite in configs/: file, distinct problems, layers, GFLOP; a suite
 * that cannot be read is listed with the reason. */
void dlb_suites_print(FILE *out);

#endif
