/*
 * facts.h - the experiments that settle a fact by a few runs of an operator: the order of
 * attention's inputs, the mean of dropout's outputs, the parameters of GRU and LSTM,
 * gradients through time, and gradients against differences.
 */
#ifndef DLB_CLAIMS_FACTS_H
#define DLB_CLAIMS_FACTS_H

#include "claims/lab.h"

enum dlb_status dlb_facts_order(struct dlb_lab *lab, struct dlb_error *error);
enum dlb_status dlb_facts_dropout(struct dlb_lab *lab, struct dlb_error *error);
enum dlb_status dlb_facts_parameters(struct dlb_lab *lab, struct dlb_error *error);
enum dlb_status dlb_facts_time(struct dlb_lab *lab, struct dlb_error *error);
enum dlb_status dlb_facts_gradients(struct dlb_lab *lab, struct dlb_error *error);

/* One pass of an operator on this thread, on the caller's tensors, which are taken as far
 * as they are given: NULL and what lies beyond givens gets memory of its own. */
enum dlb_status dlb_fact_run(const struct dlb_lab *lab, const char *name,
                             enum dlb_pass pass, const char *shape, float *const *given,
                             int givens, struct dlb_error *error);

/* Observes one value that has neither an implementation nor an x. */
enum dlb_status dlb_fact_observe(struct dlb_lab *lab, const char *condition,
                                 const char *arm, const char *metric, int64_t seed,
                                 double value, struct dlb_error *error);

/* The i-th number of a seed, uniform in [0, 1). */
double dlb_fact_uniform(uint64_t seed, uint64_t i);

/* The Euclidean norm. */
double dlb_fact_norm(const float *value, int64_t n);

#endif
