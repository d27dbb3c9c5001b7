#include "claims/graph.h"

#include "ops.h"
#include "ops/optimiser.h"
#include "suite/descriptor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

float *dlb_graph_take(struct dlb_graph *graph, int64_t n)
{
    void **grown =
        realloc(graph->memory, (size_t)(graph->memories + 1) * sizeof *graph->memory);
    float *data = grown ? dlb_alloc((size_t)n * sizeof(float)) : NULL;
    if (grown)
        graph->memory = grown;
    graph->nomem |= !data;
    if (!data)
        return NULL;
    memset(data, 0, (size_t)n * sizeof(float));
    graph->memory[graph->memories++] = data;
    return data;
}

enum dlb_status dlb_graph_plan(const struct dlb_graph *graph, struct dlb_link *link,
                               struct dlb_error *error)
{
    struct dlb_candidate candidate;
    dlb_plan_release(link->plan);
    link->plan = NULL;
    link->op->fallback(&link->problem, &graph->target, &candidate);
    return link->op->plan(&link->problem, &graph->target, &candidate, &link->plan, error);
}

enum dlb_status dlb_graph_add(struct dlb_graph *graph, struct dlb_links *links,
                              const char *op, enum dlb_pass pass, const char *shape,
                              const struct dlb_named *named, struct dlb_error *error)
{
    struct dlb_tensor tensor[DLB_TENSORS_MAX];
    char name[DLB_NAME_MAX];
    struct dlb_link *grown =
        realloc(links->link, (size_t)(links->n + 1) * sizeof *links->link);
    if (!grown)
        return dlb_fail(error, DLB_NOMEM, "No memory is left for a network.");
    links->link = grown;
    struct dlb_link *link = &links->link[links->n++];
    *link = (struct dlb_link){.op = dlb_operator_find(op)->op, .problem = {.pass = pass}};
    enum dlb_status status =
        dlb_descriptor_parse(link->op, shape, &link->problem, name, error);
    if (status)
        return status;
    int tensors = link->op->tensors(&link->problem, tensor);
    for (int t = 0; t < tensors; t++) {
        int64_t n = dlb_tensor_elements(&tensor[t]);
        for (const struct dlb_named *known = named; known->name; known++)
            if (!strcmp(known->name, tensor[t].name))
                link->tensor[t] = known->data;
        if (!link->tensor[t])
            link->tensor[t] = dlb_graph_take(graph, dlb_max(1, n));
    }
    if (graph->nomem)
        return dlb_fail(error, DLB_NOMEM, "No memory is left for a network.");
    return dlb_graph_plan(graph, link, error);
}

enum dlb_status dlb_graph_add_both(struct dlb_graph *graph, const char *op,
                                   const char *shape, const struct dlb_named *named,
                                   struct dlb_error *error)
{
    enum dlb_status status =
        dlb_graph_add(graph, &graph->train, op, DLB_FWD, shape, named, error);
    return status ? status
                  : dlb_graph_add(graph, &graph->infer, op, DLB_FWD, shape, named, error);
}

enum dlb_status dlb_graph_parameter(struct dlb_graph *graph, int64_t n, float first,
                                    struct dlb_parameter **parameter,
                                    struct dlb_error *error)
{
    char shape[DLB_GRAPH_SHAPE_MAX];
    struct dlb_parameter *grown = realloc(
        graph->parameter, (size_t)(graph->parameters + 1) * sizeof *graph->parameter);
    if (!grown)
        return dlb_fail(error, DLB_NOMEM, "No memory is left for a network.");
    graph->parameter = grown;
    struct dlb_parameter *p = *parameter = &graph->parameter[graph->parameters++];
    *p = (struct dlb_parameter){.n = n};
    float **const part[] = {&p->value, &p->gradient,      &p->state[0],     &p->state[1],
                            &p->next,  &p->next_state[0], &p->next_state[1]};
    for (size_t i = 0; i < sizeof part / sizeof *part; i++)
        *part[i] = dlb_graph_take(graph, n);
    if (graph->nomem)
        return dlb_fail(error, DLB_NOMEM, "No memory is left for a network.");
    for (int64_t i = 0; i < n; i++)
        p->value[i] = first;
    snprintf(shape, sizeof shape, "n%lld", (long long)n);
    return dlb_graph_add(graph, &graph->update,
                         graph->optimiser == DLB_ADAM ? "adam" : "sgd", DLB_FWD, shape,
                         (const struct dlb_named[]){{"param", p->value},
                                                    {"grad", p->gradient},
                                                    {"new_param", p->next},
                                                    {"velocity", p->state[0]},
                                                    {"new_velocity", p->next_state[0]},
                                                    {"mean", p->state[0]},
                                                    {"new_mean", p->next_state[0]},
                                                    {"square", p->state[1]},
                                                    {"new_square", p->next_state[1]},
                                                    {NULL, NULL}},
                         error);
}

enum dlb_status dlb_links_run(struct dlb_links *links, int first, int last,
                              struct dlb_error *error)
{
    const struct dlb_team team = {.size = 1};
    enum dlb_status status = DLB_OK;
    for (int i = first; i < last && !status; i++) {
        struct dlb_plan *plan = links->link[i].plan;
        status = plan->class->bind(plan, links->link[i].tensor, &team, error);
        if (status)
            break;
        plan->class->run(plan, &team);
        status = plan->class->fetch(plan, &team, error);
    }
    return status;
}

/* Adam's rate is a constant of the operator: its step is scaled afterwards. */
static void take_step(struct dlb_parameter *p, float factor)
{
    for (int64_t i = 0; i < p->n; i++)
        p->value[i] += factor * (p->next[i] - p->value[i]);
}

enum dlb_status dlb_graph_update(struct dlb_graph *graph, int first, double rate,
                                 struct dlb_error *error)
{
    const bool adam = graph->optimiser == DLB_ADAM;
    enum dlb_status status = DLB_OK;
    graph->steps++;
    for (int i = first; i < graph->parameters && adam && !status; i++) {
        struct dlb_link *link = &graph->update.link[i];
        link->problem.dim[DLB_ADAM_T] = (int64_t)graph->steps;
        status = dlb_graph_plan(graph, link, error);
    }
    if (!status)
        status = dlb_links_run(&graph->update, first, graph->update.n, error);
    for (int i = first; i < graph->parameters && !status; i++) {
        struct dlb_parameter *p = &graph->parameter[i];
        const size_t bytes = (size_t)p->n * sizeof(float);
        if (adam)
            take_step(p, (float)(rate / DLB_ADAM_RATE));
        else
            memcpy(p->value, p->next, bytes);
        for (int k = 0; k < 2; k++)
            memcpy(p->state[k], p->next_state[k], bytes);
    }
    return status;
}

int64_t dlb_rows_right(const float *score, const float *labels, int64_t rows,
                       int64_t classes)
{
    int64_t right = 0;
    for (int64_t i = 0; i < rows; i++) {
        const float *own = score + i * classes;
        int64_t best = 0;
        for (int64_t c = 1; c < classes; c++)
            if (own[c] > own[best])
                best = c;
        right += (float)best == labels[i];
    }
    return right;
}

static void release_links(struct dlb_links *links)
{
    for (int i = 0; i < links->n; i++)
        dlb_plan_release(links->link[i].plan);
    free(links->link);
}

void dlb_graph_release(struct dlb_graph *graph)
{
    release_links(&graph->train);
    release_links(&graph->infer);
    release_links(&graph->backward);
    release_links(&graph->update);
    for (int i = 0; i < graph->memories; i++)
        dlb_free(graph->memory[i]);
    free(graph->memory);
    free(graph->parameter);
}
