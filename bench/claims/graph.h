/*
 * graph.h - what networks are made of: operators with their tensors in the order in which
 * they run, memory, and parameters with their optimiser.
 *
 * Everything runs on the calling thread alone, so that what is learnt depends on the seed and
 * not on how many threads there are, and several may learn side by side.
 */
#ifndef DLB_CLAIMS_GRAPH_H
#define DLB_CLAIMS_GRAPH_H

#include "core/op.h"

enum { DLB_GRAPH_SHAPE_MAX = 96 };

/* An operator with its tensors. */
struct dlb_link {
    const struct dlb_op *op;
    struct dlb_problem problem;
    struct dlb_plan *plan;
    void *tensor[DLB_TENSORS_MAX];
};

struct dlb_links {
    struct dlb_link *link; /* owned */
    int n;
};

/* state: sgd's velocity; adam's means of gradients and of their squares. */
struct dlb_parameter {
    float *value, *gradient, *state[2], *next, *next_state[2];
    int64_t n;
};

enum dlb_optimiser { DLB_SGD, DLB_ADAM };

struct dlb_graph {
    struct dlb_target target; /* of one thread */
    enum dlb_optimiser optimiser;
    void **memory; /* owned, each */
    int memories;
    struct dlb_links train, infer, backward, update;
    struct dlb_parameter *parameter; /* owned */
    int parameters;
    uint64_t steps; /* of the optimiser */
    bool nomem;     /* a dlb_graph_take failed */
};

/* A tensor of an operator by its name. */
struct dlb_named {
    const char *name;
    float *data;
};

/* n zeros, the graph's; NULL without memory, which the next dlb_graph_add reports. */
float *dlb_graph_take(struct dlb_graph *graph, int64_t n);

/* Appends an operator to one of the lists; named ends in a NULL name.  What it writes and
 * nobody reads goes into memory of its own. */
enum dlb_status dlb_graph_add(struct dlb_graph *graph, struct dlb_links *links,
                              const char *op, enum dlb_pass pass, const char *shape,
                              const struct dlb_named *named, struct dlb_error *error);

/* The same for train and infer. */
enum dlb_status dlb_graph_add_both(struct dlb_graph *graph, const char *op,
                                   const char *shape, const struct dlb_named *named,
                                   struct dlb_error *error);

/* A parameter of n elements that all are first; it is in the list until the next call. */
enum dlb_status dlb_graph_parameter(struct dlb_graph *graph, int64_t n, float first,
                                    struct dlb_parameter **parameter,
                                    struct dlb_error *error);

/* Makes the plan of a link anew, after a change of its problem. */
enum dlb_status dlb_graph_plan(const struct dlb_graph *graph, struct dlb_link *link,
                               struct dlb_error *error);

/* Runs the links first … last-1. */
enum dlb_status dlb_links_run(struct dlb_links *links, int first, int last,
                              struct dlb_error *error);

/* A step of the optimiser for the parameters from first on.  sgd: with its own rate, so that
 * a learning rate is a factor on the gradient of the loss; adam: with this rate. */
enum dlb_status dlb_graph_update(struct dlb_graph *graph, int first, double rate,
                                 struct dlb_error *error);

/* Of rows of scores [rows][classes], how many are highest at their label. */
int64_t dlb_rows_right(const float *score, const float *labels, int64_t rows,
                       int64_t classes);

/* Releases all but the graph itself. */
void dlb_graph_release(struct dlb_graph *graph);

#endif
