/*
 * chain.h - plans that run one after another as one plan: a training step, a convolution
 * and what follows it.
 */
#ifndef DLB_CLAIMS_CHAIN_H
#define DLB_CLAIMS_CHAIN_H

#include "core/plan.h"

enum { DLB_CHAIN_MAX = 4 };

/* The links stay the caller's, bound, and are all of one kind (spmd or not).  Only run and
 * release are of use.  NULL without memory. */
struct dlb_plan *dlb_chain_make(struct dlb_plan *const *link, int links);

#endif
