/*
 * learning.h - the experiments on networks that learn (net.h, sequence.h).
 *
 * Each trains, or only looks at gradients, for every arm of every condition with some seeds;
 * seeds are spread over the cores, each on one.  Learning rates are tuned for each arm on a
 * seed that is not counted, where the claim is not about them.
 */
#ifndef DLB_CLAIMS_LEARNING_H
#define DLB_CLAIMS_LEARNING_H

#include "claims/lab.h"

enum dlb_status dlb_learn_depth(struct dlb_lab *lab, struct dlb_error *error);
enum dlb_status dlb_learn_dying(struct dlb_lab *lab, struct dlb_error *error);
enum dlb_status dlb_learn_batchnorm(struct dlb_lab *lab, struct dlb_error *error);
enum dlb_status dlb_learn_dropout(struct dlb_lab *lab, struct dlb_error *error);
enum dlb_status dlb_learn_residual(struct dlb_lab *lab, struct dlb_error *error);
enum dlb_status dlb_learn_transfer(struct dlb_lab *lab, struct dlb_error *error);
enum dlb_status dlb_learn_recall(struct dlb_lab *lab, struct dlb_error *error);
enum dlb_status dlb_learn_complex(struct dlb_lab *lab, struct dlb_error *error);

#endif
