/*
 * "dlbench list tiles --shape …": the search space of a problem, and why what is not in it
 * is not tried.
 */
#include "measure/session_internal.h"

#include <stdio.h>
#include <stdlib.h>

enum { SHOWN = 12 };

static void print_refusals(const struct dlb_space *space, FILE *out)
{
    int counted = space->n + space->duplicates;
    if (space->duplicates)
        fprintf(out, "  %6d  enumerated before\n", space->duplicates);
    for (int i = 0; i < space->refusals_n; i++) {
        fprintf(out, "  %6d  refused: %s\n", space->refusal[i].count,
                space->refusal[i].reason);
        counted += space->refusal[i].count;
    }
    if (counted < space->raw)
        fprintf(out, "  %6d  refused for other reasons\n", space->raw - counted);
}

/* The first few in the order of trying; what comes before the model alone decides. */
static enum dlb_status print_order(const struct dlb_session *session,
                                   const struct dlb_case *item,
                                   const struct dlb_station *station,
                                   const struct dlb_space *space, struct dlb_error *error)
{
    FILE *out = session->io.out;
    const struct dlb_op *op = item->entry->op;
    struct dlb_candidate fallback;
    int *order = malloc((size_t)dlb_max(1, space->n) * sizeof *order);
    if (!order)
        return dlb_fail(error, DLB_NOMEM, "No memory is left for the search space.");
    op->fallback(&item->problem, &station->target, &fallback);
    int always = dlb_space_order(space, op, &fallback, NULL, 0, order);
    for (int i = 0; i < space->n && i < SHOWN; i++) {
        const struct dlb_candidate *candidate = &space->candidate[order[i]];
        char text[DLB_SHAPE_MAX];
        dlb_candidate_format(op, candidate, text);
        fprintf(out, "  %6d  %8.3f ms  %s%s\n", i + 1, space->model_ns[order[i]] * 1e-6,
                text,
                dlb_candidate_same(candidate, &fallback) ? "  (the default)"
                : i < always ? "  (the model's best of its algorithm)"
                             : "");
    }
    if (space->n > SHOWN)
        fprintf(out, "          and %d more\n", space->n - SHOWN);
    free(order);
    return DLB_OK;
}

static enum dlb_status print_space(const struct dlb_session *session,
                                   const struct dlb_case *item,
                                   const struct dlb_station *station,
                                   struct dlb_error *error)
{
    FILE *out = session->io.out;
    char shape[DLB_SHAPE_MAX];
    struct dlb_space space;
    enum dlb_status status = dlb_space_make(item->entry->op, &item->problem,
                                            &station->target, NULL, &space, error);
    if (status)
        return status;
    dlb_descriptor_format(item->entry->op, &item->problem, shape);
    int most = (int)dlb_min(space.n, dlb_space_most(space.n));
    fprintf(out, "%s %s %s, thread set %s, %s: %d of %d points are legal, ",
            item->entry->op->name, dlb_pass_names[item->problem.pass], shape,
            station->set.name, dlb_isa_name(session->isa), space.n, space.raw);
    if (most < space.n)
        fprintf(out, "the model's best %d of them are tried\n", most);
    else
        fprintf(out, "all of them are tried\n");
    print_refusals(&space, out);
    fprintf(out, "  tried in this order (the model without measured ceilings):\n");
    status = print_order(session, item, station, &space, error);
    dlb_space_release(&space);
    return status;
}

enum dlb_status dlb_session_tiles(const struct dlb_options *options,
                                  const struct dlb_session_io *io,
                                  struct dlb_error *error)
{
    struct dlb_options planned = *options;
    struct dlb_session session = {.options = &planned, .io = *io};
    planned.dry_run = true; /* another machine's space may be asked for */
    enum dlb_status status = dlb_session_prepare(&session, error);
    for (int i = 0; i < session.suite.cases_n && !status; i++)
        for (int s = 0; s < session.stations && !status; s++)
            status = print_space(&session, &session.suite.cases[i], &session.station[s],
                                 error);
    dlb_session_release(&session);
    return status;
}
