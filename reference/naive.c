#include "reference_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct naive_plan {
    struct dlb_plan plan;
    const struct dlb_reference *reference;
    struct dlb_problem problem;
    int tensors;
    struct dlb_tensor tensor[DLB_TENSORS_MAX];
    void *data[DLB_TENSORS_MAX];
};

static enum dlb_status naive_bind(struct dlb_plan *plan, void *const *tensor,
                                  const struct dlb_team *team, struct dlb_error *error)
{
    struct naive_plan *naive = (struct naive_plan *)plan;
    (void)error;
    if (team->rank == 0)
        memcpy(naive->data, tensor, (size_t)naive->tensors * sizeof *tensor);
    dlb_team_barrier(team);
    return DLB_OK;
}

static void put(void *context, int t, int64_t element, double value)
{
    ((float *const *)context)[t][element] = (float)value;
}

static void naive_run(struct dlb_plan *plan, const struct dlb_team *team)
{
    struct naive_plan *naive = (struct naive_plan *)plan;
    const struct dlb_sink sink = {put, naive->data};
    int64_t begin, end;
    dlb_share(naive->reference->slices(&naive->problem), team->rank, team->size, &begin,
              &end);
    naive->reference->define(&naive->problem, naive->data, begin, end, &sink);
}

static enum dlb_status naive_fetch(struct dlb_plan *plan, const struct dlb_team *team,
                                   struct dlb_error *error)
{
    (void)plan, (void)team, (void)error;
    return DLB_OK;
}

static void naive_release(struct dlb_plan *plan)
{
    free(plan);
}

static const struct dlb_plan_class naive_class = {
    .impl = "naive",
    .spmd = true,
    .bind = naive_bind,
    .run = naive_run,
    .fetch = naive_fetch,
    .release = naive_release,
};

enum dlb_status dlb_naive_make(const struct dlb_reference *reference,
                               const struct dlb_problem *problem, int threads,
                               struct dlb_plan **plan, struct dlb_error *error)
{
    struct naive_plan *naive = calloc(1, sizeof *naive);
    if (!naive)
        return dlb_fail(error, DLB_NOMEM,
                        "No memory for a plan of the plain definition.");
    naive->plan.class = &naive_class;
    naive->plan.threads = threads;
    naive->plan.fetches_kept = true;
    snprintf(naive->plan.version, sizeof naive->plan.version, "%s", DLBENCH_VERSION);
    snprintf(naive->plan.algorithm, sizeof naive->plan.algorithm, "definition");
    naive->reference = reference;
    naive->problem = *problem;
    naive->tensors = reference->op->tensors(problem, naive->tensor);
    char *layout = naive->plan.layout;
    size_t room = sizeof naive->plan.layout;
    for (int i = 0; i < naive->tensors; i++) {
        if (naive->tensor[i].fill == DLB_FILL_BIAS || naive->tensor[i].role == DLB_KEPT ||
            !dlb_tensor_elements(&naive->tensor[i]))
            continue;
        int written =
            snprintf(layout, room, "%s%s", i ? "/" : "", naive->tensor[i].layout);
        if (written < 0 || (size_t)written >= room)
            break;
        layout += written;
        room -= (size_t)written;
    }
    *plan = &naive->plan;
    return DLB_OK;
}
