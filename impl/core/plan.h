/*
 * plan.h - a problem made executable by one implementation: native, oneDNN or the plain
 * definition.  The three look alike here, so that everything above treats them alike.
 *
 * Life of a plan
 *   make    (op->plan, dlb_reference's functions): allocates, touches nothing
 *   bind    set-up outside the timed part: packs or reorders inputs and parameters out of
 *           the canonical tensors, first-touches scratch.  May be called again.
 *   run     the timed part: reads what bind prepared, writes the output.  Any number of
 *           times.
 *   fetch   brings the outputs into the canonical tensors (a no-op where run wrote there)
 *   release
 *
 * tensor[] has one pointer per operand, in the order of op->tensors(), in canonical
 * layout, aligned to DLB_ALIGN.  A plan may keep and use these pointers until release.
 *
 * spmd plans: bind, run and fetch are called by every thread of a team of exactly
 * plan->threads members.  Other plans: they are called by one thread, with team->size 1,
 * and use up to plan->threads threads of the OpenMP pool by themselves.
 */
#ifndef DLB_CORE_PLAN_H
#define DLB_CORE_PLAN_H

#include "core/team.h"

struct dlb_plan;

struct dlb_plan_class {
    const char *impl; /* native, onednn or naive */
    bool spmd;
    enum dlb_status (*bind)(struct dlb_plan *plan, void *const *tensor,
                            const struct dlb_team *team, struct dlb_error *error);
    void (*run)(struct dlb_plan *plan, const struct dlb_team *team);
    enum dlb_status (*fetch)(struct dlb_plan *plan, const struct dlb_team *team,
                             struct dlb_error *error);
    void (*release)(struct dlb_plan *plan); /* frees plan itself */
};

/* First member of each implementation's own plan. */
struct dlb_plan {
    const struct dlb_plan_class *class;
    int threads;
    bool fetches_kept;      /* fetch also fills the tensors of role DLB_KEPT */
    size_t workspace_bytes; /* packed parameters, reordered activations and scratch */
    char version[32];   /* of the implementation: 2.6.3; ours is the project's version */
    char algorithm[64]; /* direct, gemm-1x1, …; for oneDNN the implementation string */
    char layout[64];    /* of the operands as used: nhwc, nChw16c, … */
    char isa[16];       /* empty when the implementation does not tell */
};

/* Safe on NULL. */
void dlb_plan_release(struct dlb_plan *plan);

#endif
