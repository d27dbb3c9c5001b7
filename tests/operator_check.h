/*
 * operator_check.h - what holds for every operator, checked on problems given by
 * descriptor: tests of an operator are tables of awkward descriptors handed to these.
 *
 * Each fails the running cmocka test with a sentence that names problem, candidate, ISA
 * and team.  They open pools (pool_fixture.h): take pool_close of this file as teardown.
 */
#ifndef DLB_TESTS_OPERATOR_CHECK_H
#define DLB_TESTS_OPERATOR_CHECK_H

#include "reference.h"

/* The problem of a descriptor. */
struct dlb_problem dlb_check_problem(const struct dlb_op *op, const char *descriptor,
                                     enum dlb_pass pass);

/*
 * Every legal candidate on every usable ISA and teams of 1 to 3 (each larger team takes
 * its own part of the candidates, and so do builds with a sanitizer), caches small, so that blocks appear: all fills against
 * the definition, guards, and the same bits in two runs.  Also that there is a candidate,
 * that the fallback is legal, and that estimates are positive.  Returns how many
 * candidates were run.
 */
int dlb_check_native(const struct dlb_reference *reference, const char *descriptor,
                     enum dlb_pass pass);

/* Every formulation of oneDNN, on 1 and 2 threads, against the definition.  Returns how
 * many there are; 0 without oneDNN, and where it cannot do the problem. */
int dlb_check_onednn(const struct dlb_reference *reference, const char *descriptor,
                     enum dlb_pass pass);

/* The naive plan on teams of 1 to 3 is the definition. */
void dlb_check_naive(const struct dlb_reference *reference, const char *descriptor,
                     enum dlb_pass pass);

/* Values out of range of every tile, and of the algorithm, are refused, and not planned. */
void dlb_check_refusals(const struct dlb_op *op, const char *descriptor,
                        enum dlb_pass pass);

/*
 * Runs plan once on operands of the caller, laid out as op->tensors says, on a team of
 * plan->threads; for what fills do not reach: NaN, infinities, overflow.
 */
void dlb_check_run(struct dlb_plan *plan, void *const *tensor);

/* The same operands through the definition: value[t] has room for the elements of each
 * written tensor t. */
void dlb_check_define(const struct dlb_reference *reference,
                      const struct dlb_problem *problem, void *const *tensor,
                      double *const *value);

/* One slice of it. */
void dlb_check_define_slice(const struct dlb_reference *reference,
                            const struct dlb_problem *problem, void *const *tensor,
                            double *const *value, int64_t slice);

/* Calls fn with each legal candidate of each usable ISA for one thread. */
void dlb_check_each(const struct dlb_op *op, const struct dlb_problem *problem,
                    void (*fn)(void *context, struct dlb_plan *plan, const char *what),
                    void *context);

/* Teardown: closes the pool that a failed check may have left open. */
int dlb_check_close(void **state);

#endif
