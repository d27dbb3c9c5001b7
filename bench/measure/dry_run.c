#include "measure/session_internal.h"

#include <math.h>
#include <string.h>

static void print_refusals(FILE *out, const struct dlb_space *space)
{
    for (int i = 0; i < space->refusals_n; i++)
        fprintf(out, "%s%d %s", i ? "; " : "  refused: ", space->refusal[i].count,
                space->refusal[i].reason);
    if (space->refusals_n)
        fprintf(out, "\n");
}

static void print_thread_sets(const struct dlb_session *session, FILE *out)
{
    enum { SHOWN = 100 };
    for (int s = 0; s < session->stations; s++) {
        const struct dlb_thread_set *set = &session->station[s].set;
        fprintf(out, "  %-12s %4d thread%s on PU%s %.*s%s\n", set->name, set->threads,
                set->threads == 1 ? " " : "s", set->threads == 1 ? " " : "s", SHOWN,
                set->cpuset, strlen(set->cpuset) > SHOWN ? "…" : "");
    }
}

/* How many candidates each thread set has for a problem; adds them to *candidates. */
static enum dlb_status print_spaces(const struct dlb_session *session,
                                    const struct dlb_case *item, int64_t *candidates,
                                    struct dlb_error *error)
{
    FILE *out = session->io.out;
    for (int s = 0; s < session->stations; s++) {
        const struct dlb_station *station = &session->station[s];
        struct dlb_space space;
        enum dlb_status status = dlb_space_make(item->entry->op, &item->problem,
                                                &station->target, NULL, &space, error);
        if (status)
            return status;
        *candidates += space.n;
        if (session->options->shapes_n) {
            fprintf(out, "\n  thread set %s: %d of %d candidates\n", station->set.name,
                    space.n, space.raw);
            print_refusals(out, &space);
        } else {
            fprintf(out, "%s%d", s ? "/" : "  candidates ", space.n);
        }
        dlb_space_release(&space);
    }
    return DLB_OK;
}

enum dlb_status dlb_session_dry_run(struct dlb_session *session, struct dlb_error *error)
{
    const struct dlb_options *options = session->options;
    FILE *out = session->io.out;
    int64_t candidates = 0;
    dlb_topology_summary(session->topology, out);
    fprintf(out, "kernels %s; thread sets:\n", dlb_isa_name(session->isa));
    print_thread_sets(session, out);
    for (int i = 0; i < session->suite.cases_n; i++) {
        const struct dlb_case *item = &session->suite.cases[i];
        const struct dlb_op *op = item->entry->op;
        char group[DLB_GROUP_MAX];
        dlb_screen_group(session, item, group);
        fprintf(out, "%s%s", *group ? "" : op->name, *group ? "" : " ");
        dlb_screen_problem(session, item, out);
        fprintf(out, "%8.3f GFLOP %8.2f MB", op->flops(&item->problem) * 1e-9,
                op->bytes(&item->problem) * 1e-6);
        enum dlb_status status =
            options->sweep ? print_spaces(session, item, &candidates, error) : DLB_OK;
        if (status)
            return status;
        fprintf(out, "\n");
    }
    fprintf(out, "%d problem%s × %d thread set%s", session->suite.cases_n,
            session->suite.cases_n == 1 ? "" : "s", session->stations,
            session->stations == 1 ? "" : "s");
    if (options->sweep)
        fprintf(out, ", %lld candidates", (long long)candidates);
    fprintf(out, "; %s %.0f s%s. Nothing was timed and nothing written.\n",
            options->sweep || options->budget_seconds > 0 ? "at most" : "about",
            ceil(dlb_session_seconds(session)),
            options->sweep ? ", tuning included" : "");
    return DLB_OK;
}
