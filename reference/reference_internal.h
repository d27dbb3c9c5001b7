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
enum dlb_status dlb_conv_onednn(const struct dlb_problem *problem, enum dlb_isa isa,
                                int threads, int formulation, struct dlb_plan **plan,
                                struct dlb_error *error);
enum dlb_status dlb_lstm_onednn(const struct dlb_problem *problem, enum dlb_isa isa,
                                int threads, int formulation, struct dlb_plan **plan,
                                struct dlb_error *error);
enum dlb_status dlb_gru_onednn(const struct dlb_problem *problem, enum dlb_isa isa,
                               int threads, int formulation, struct dlb_plan **plan,
                               struct dlb_error *error);

enum dlb_status dlb_attention_onednn(const struct dlb_problem *problem, enum dlb_isa isa,
                                     int threads, int formulation, struct dlb_plan **plan,
                                     struct dlb_error *error);

enum dlb_status dlb_batchnorm_onednn(const struct dlb_problem *problem, enum dlb_isa isa,
                                     int threads, int formulation, struct dlb_plan **plan,
                                     struct dlb_error *error);

enum dlb_status dlb_activation_onednn(const struct dlb_problem *problem, enum dlb_isa isa,
                                      int threads, int formulation,
                                      struct dlb_plan **plan, struct dlb_error *error);

enum dlb_status dlb_dropout_onednn(const struct dlb_problem *problem, enum dlb_isa isa,
                                   int threads, int formulation, struct dlb_plan **plan,
                                   struct dlb_error *error);

enum dlb_status dlb_add_onednn(const struct dlb_problem *problem, enum dlb_isa isa,
                               int threads, int formulation, struct dlb_plan **plan,
                               struct dlb_error *error);

#endif
