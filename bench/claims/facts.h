/*
 * facts.h - the experiments that settle a fact by a few runs of an operator: the order of
 * attention's inputs, the mean of dropout's outputs, the parameters of GRU and LSTM, and
 * gradients through time.
 */
#ifndef DLB_CLAIMS_FACTS_H
#define DLB_CLAIMS_FACTS_H

#include "claims/lab.h"

enum dlb_status dlb_facts_order(struct dlb_lab *lab, struct dlb_error *error);
enum dlb_status dlb_facts_dropout(struct dlb_lab *lab, struct dlb_error *error);
enum dlb_status dlb_facts_parameters(struct dlb_lab *lab, struct dlb_error *error);
enum dlb_status dlb_facts_time(struct dlb_lab *lab, struct dlb_error *error);

#endif
