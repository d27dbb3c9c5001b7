/*
 * command.h - "dlbench claims": runs the experiments and judges the claims by what they
 * saw, or judges the observations of an earlier run.
 */
#ifndef DLB_CLAIMS_COMMAND_H
#define DLB_CLAIMS_COMMAND_H

#include "measure/session.h"

/*
 * The run's folder receives observations.csv as it grows, and at the end, also after a
 * stop, claims.csv; the same is shown.  --claim names some, --from a run that is judged
 * again (nothing is measured; its claims.csv comes out the same to the byte).
 * *exit_status and failures as of dlb_session_run.
 */
enum dlb_status dlb_claims_run(const struct dlb_options *options,
                               const struct dlb_session_io *io, int *exit_status,
                               struct dlb_error *error);

/* "dlbench list claims": ids, claims and rules; DLB_INVALID where the rules are damaged. */
enum dlb_status dlb_claims_list(FILE *out, struct dlb_error *error);

#endif
