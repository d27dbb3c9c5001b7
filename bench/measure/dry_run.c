#include "measure/session_internal.h"

#include <math.h>

static void print_refusals(FILE *out, const struct dlb_space *space)
{
    for (int i = 0; i < space->refusals_n; i++)
        fprintf(out, "%s%d %s", i ? "; " : "  refused: ", space->refusal[i].count,
                space->refusal[i].reason);
    if (space->refusals_n)
        fprintf(out, "\n");
}

enum dlb_status dlb_session_dry_run(struct dlb_session *session, struct dlb_error *error)
{
    FILE *out = session->io.out;
    double seconds = 0;
    int64_t candidates = 0;
    dlb_topology_summary(session->topology, out);
    fprintf(out, "Kernels %s. Thread sets:\n", dlb_isa_name(session->isa));
    for (int s = 0; s < session->stations; s++)
        fprintf(out, "  %-12s %4d threads on PUs %s\n", session->station[s].set.name,
                session->station[s].set.threads, session->station[s].set.cpuset);
    for (int i = 0; i < session->suite.cases_n; i++) {
        const struct dlb_case *item = &session->suite.cases[i];
        const struct dlb_op *op = item->operator->op;
        char shape[DLB_SHAPE_MAX];
        dlb_descriptor_format(op, &item->problem, shape);
        fprintf(out, "%s %-20s %-36s %8.3f GFLOP %8.2f MB", op->name, item->name, shape,
                op->flops(&item->problem) * 1e-9, op->bytes(&item->problem) * 1e-6);
        for (int s = 0; s < session->stations; s++) {
            const struct dlb_station *station = &session->station[s];
            struct dlb_space space;
            seconds += dlb_session_fixed_seconds(session, item, station);
            if (!session->options->sweep)
                continue;
            enum dlb_status status =
                dlb_space_make(op, &item->problem, &station->target, NULL, &space, error);
            if (status)
                return status;
            fprintf(out, "  %s: %d of %d candidates", station->set.name, space.n,
                    space.raw);
            candidates += space.n;
            if (session->options->shapes_n) {
                fprintf(out, "\n");
                print_refusals(out, &space);
            }
            dlb_space_release(&space);
        }
        fprintf(out, "\n");
    }
    fprintf(out, "%d problems × %d thread sets", session->suite.cases_n,
            session->stations);
    if (session->options->sweep)
        fprintf(out, ", %lld candidates", (long long)candidates);
    fprintf(out,
            "; about %.0f s of measuring%s. Nothing was timed and nothing written.\n",
            seconds, session->options->sweep ? ", and as long again for the search" : "");
    return DLB_OK;
}
