#include "claims/chain.h"

#include <assert.h>
#include <stdlib.h>

struct chain {
    struct dlb_plan plan;
    struct dlb_plan *link[DLB_CHAIN_MAX];
    int links;
};

static void chain_run(struct dlb_plan *plan, const struct dlb_team *team)
{
    const struct chain *chain = (const struct chain *)plan;
    for (int i = 0; i < chain->links; i++) {
        if (i > 0)
            dlb_team_barrier(team);
        chain->link[i]->class->run(chain->link[i], team);
    }
}

static void chain_release(struct dlb_plan *plan)
{
    free(plan);
}

static const struct dlb_plan_class classes[2] = {
    {.impl = "chain", .spmd = false, .run = chain_run, .release = chain_release},
    {.impl = "chain", .spmd = true, .run = chain_run, .release = chain_release},
};

struct dlb_plan *dlb_chain_make(struct dlb_plan *const *link, int links)
{
    assert(links >= 1 && links <= DLB_CHAIN_MAX);
    struct chain *chain = calloc(1, sizeof *chain);
    if (!chain)
        return NULL;
    chain->plan.class = &classes[link[0]->class->spmd];
    chain->plan.threads = link[0]->threads;
    chain->links = links;
    for (int i = 0; i < links; i++) {
        assert(link[i]->class->spmd == link[0]->class->spmd);
        chain->link[i] = link[i];
    }
    return &chain->plan;
}
