/*
 * reference_internal.h - what the files of reference/ share: the naive plan of any
 * operator, and the oneDNN functions that an operator's table is made of.
 */
#ifndef DLB_REFERENCE_INTERNAL_H
#define DLB_REFERENCE_INTERNAL_H

#include "reference.h"

/* reference->naive of any operator, made from its define(). */
enum dlb_status dlb_naive_make(const struct dlb_reference *reference,
                               const struct dlb_problem *problem, int threads,
                               struct dlb_plan **plan, struct dlb_error *error);

/* reference->onednn, operator by operator. */
typedef enum dlb_status dlb_onednn_make_fn(const struct dlb_problem *problem,
                                           enum dlb_isa isa, int threads, int formulation,
                                           struct dlb_plan **plan,
                                           struct dlb_error *error);
dlb_onednn_make_fn dlb_conv_onednn;
dlb_onednn_make_fn dlb_lstm_onednn;
dlb_onednn_make_fn dlb_gru_onednn;
dlb_onednn_make_fn dlb_rnn_onednn;
dlb_onednn_make_fn dlb_attention_onednn;
dlb_onednn_make_fn dlb_batchnorm_onednn;
dlb_onednn_make_fn dlb_linear_onednn;
dlb_onednn_make_fn dlb_pooling_onednn;
dlb_onednn_make_fn dlb_xent_onednn;
dlb_onednn_make_fn dlb_activation_onednn;
dlb_onednn_make_fn dlb_dropout_onednn;
dlb_onednn_make_fn dlb_add_onednn;

#endif
