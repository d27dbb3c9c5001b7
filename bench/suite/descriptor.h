/*
 * descriptor.h - problems as text, in oneDNN benchdnn's syntax:
 * "mb1ic64ih56oc64oh56kh3ph1", and words behind a dash where a dim is an enumeration:
 * "mb8hq12sq512d64mask-causal".
 *
 * Keys and defaults come from op->dims; op->complete() derives the rest.  '_' between
 * parts is skipped; a trailing n"name" (or nNAME) names the problem.  Each key at most
 * once.
 */
#ifndef DLB_SUITE_DESCRIPTOR_H
#define DLB_SUITE_DESCRIPTOR_H

#include "core/op.h"

enum { DLB_NAME_MAX = 96, DLB_SHAPE_MAX = 256 };

/* Pass, dtype and accuracy of *problem are kept; dims are set.  The sentence of
 * DLB_INVALID names the token, its position and what would be accepted. */
enum dlb_status dlb_descriptor_parse(const struct dlb_op *op, const char *text,
                                     struct dlb_problem *problem, char name[DLB_NAME_MAX],
                                     struct dlb_error *error);

/* The canonical text: shortest that parses back to the same problem, in the order of
 * dims. */
void dlb_descriptor_format(const struct dlb_op *op, const struct dlb_problem *problem,
                           char text[DLB_SHAPE_MAX]);

/* Candidate as text: "direct/mr14/nr32/kc64", and back.  DLB_INVALID names the part. */
void dlb_candidate_format(const struct dlb_op *op, const struct dlb_candidate *candidate,
                          char text[DLB_SHAPE_MAX]);
enum dlb_status dlb_candidate_parse(const struct dlb_op *op, const char *text,
                                    struct dlb_candidate *candidate,
                                    struct dlb_error *error);

#endif
