/*
 * differences.h - what differs between the manifests of BASE and NEW.
 */
#ifndef DLB_JUDGE_DIFFERENCES_H
#define DLB_JUDGE_DIFFERENCES_H

#include "judge/cases.h"

/* Several runs of a side that differ have their values joined by " | "; of long lists of
 * words (flags, mitigations) only those that the other side lacks are in text. */
struct dlb_difference {
    char *key;             /* build.commit */
    char *text[DLB_SIDES]; /* "" when it is not there; never NULL */
};

struct dlb_differences {
    struct dlb_difference *difference;
    int n;
};

/* What changes by itself from run to run (free memory) is no difference. Release with
 * dlb_differences_release, also after a failure. */
enum dlb_status dlb_differences_find(const struct dlb_cases *cases,
                                     struct dlb_differences *differences,
                                     struct dlb_error *error);
void dlb_differences_release(struct dlb_differences *differences);

#endif
