/*
 * wrong_plans.h - plans of conv that are wrong on purpose, each in one way a kernel goes
 * wrong, made around the plain definition.  Whoever checks plans must see every one.
 */
#ifndef DLB_TESTS_WRONG_PLANS_H
#define DLB_TESTS_WRONG_PLANS_H

#include "core/op.h"

/* What it takes to see it. */
enum dlb_wrong_when {
    DLB_WRONG_AT_ONCE,     /* any check */
    DLB_WRONG_REPEATED,    /* a second run on the same operands */
    DLB_WRONG_SEVERAL,     /* the same, and more than one thread */
    DLB_WRONG_AFTER_TIMING /* many runs: only a check after them */
};

struct dlb_wrong_plan {
    const char *name;
    enum dlb_wrong_when when;
    const char *reason; /* part of what the check ought to say */
    /* As dlb_op.plan: put it into a copy of dlb_op_conv to send it through a session. */
    enum dlb_status (*plan)(const struct dlb_problem *problem,
                            const struct dlb_target *target,
                            const struct dlb_candidate *candidate, struct dlb_plan **plan,
                            struct dlb_error *error);
};

extern const struct dlb_wrong_plan dlb_wrong_plans[];
extern const int dlb_wrong_plans_n;

/* The same wrapper with nothing wrong in it: must pass. */
extern const struct dlb_wrong_plan dlb_right_plan;

#endif
