/*
 * gradient_check.h - the definition of a backward pass held against numerical
 * differentiation of the definition of its forward pass.
 *
 * Tensors of the two passes belong together by name.  With L = sum of diff_Y . Y over the
 * outputs Y of the forward pass (fwd_train where there is one, else fwd), a backward pass
 * takes diff_Y for some or all Y, and the inputs X and results of the forward pass that
 * it needs under their own names; each output of it is diff_X = dL/dX of an input X.
 *
 * dL/dX by central differences with steps of 2^-6, 2^-7 and 2^-8 extrapolated twice
 * (Richardson): inputs are moved onto a grid on which these steps are exact in float, and
 * definitions compute in double, so that what remains is of the order of 1e-9.  Where the
 * two last extrapolations disagree there is a kink between (ReLU, a maximum): such elements
 * are passed over, up to half of a tensor's.
 */
#ifndef DLB_TESTS_GRADIENT_CHECK_H
#define DLB_TESTS_GRADIENT_CHECK_H

#include "reference.h"

/* False with a sentence in text when a gradient is wrong, a tensor has no counterpart, or
 * too few elements could be judged.  Up to 40 elements of each gradient are judged. */
bool dlb_gradient_check(const struct dlb_reference *reference, const char *descriptor,
                        enum dlb_pass pass, char *text, size_t bytes);

#endif
