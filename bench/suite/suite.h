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

struct dlb_case {
    const struct dlb_operator *operator;
    struct dlb_problem problem;
    char name[DLB_NAME_MAX];
    int64_t count; /* how often the network has this layer: weight in means */
};

struct dlb_suite {
    char name[DLB_NAME_MAX]; /* file name without folder and .csv, or "shape" */
    struct dlb_case *cases;
    int cases_n;
};

/* Appends the cases of file to *suite (zeroed at first).  only: keep this operator's
 * rows, or NULL for all. */
enum dlb_status dlb_suite_read(const char *file, const struct dlb_operator *only,
                               struct dlb_suite *suite, struct dlb_error *error);

/* Appends one case from a descriptor (--shape). */
enum dlb_status dlb_suite_add(const struct dlb_operator *operator, const char * shape,
                              struct dlb_suite *suite, struct dlb_error *error);

/* Repeats every case for each minibatch of a list "1,16" (--mb); operators without mb
 * refuse. */
enum dlb_status dlb_suite_set_minibatch(struct dlb_suite *suite, const char *list,
                                        struct dlb_error *error);

void dlb_suite_release(struct dlb_suite *suite);

#endif
