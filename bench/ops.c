#include "ops.h"

#include "ops/activation.h"
#include "ops/add.h"
#include "ops/attention.h"
#include "ops/batchnorm.h"
#include "ops/conv.h"
#include "ops/dropout.h"
#include "ops/linear.h"
#include "ops/optimiser.h"
#include "ops/pooling.h"
#include "ops/rnn.h"
#include "ops/xent.h"

#include <string.h>

const struct dlb_operator dlb_operators[] = {
    {&dlb_op_conv, &dlb_reference_conv, "resnet50.csv"},
    {&dlb_op_lstm, &dlb_reference_lstm, "deepbench_lstm.csv"},
    {&dlb_op_gru, &dlb_reference_gru, "deepbench_gru.csv"},
    {&dlb_op_rnn, &dlb_reference_rnn, "deepbench_rnn.csv"},
    {&dlb_op_attention, &dlb_reference_attention, "attention.csv"},
    {&dlb_op_batchnorm, &dlb_reference_batchnorm, "resnet50_batchnorm.csv"},
    {&dlb_op_softmax_xent, &dlb_reference_xent, "softmax_xent.csv"},
    {&dlb_op_linear, &dlb_reference_linear, "linear.csv"},
    {&dlb_op_pooling, &dlb_reference_pooling, "pooling.csv"},
    {&dlb_op_sgd, &dlb_reference_sgd, "sgd.csv"},
    {&dlb_op_adam, &dlb_reference_adam, "adam.csv"},
    {&dlb_op_activation, &dlb_reference_activation, "activation.csv"},
    {&dlb_op_dropout, &dlb_reference_dropout, "dropout.csv"},
    {&dlb_op_add, &dlb_reference_add, "add.csv"},
};
const int dlb_operators_n = sizeof dlb_operators / sizeof *dlb_operators;

const struct dlb_operator *dlb_operator_find(const char *name)
{
    for (int i = 0; i < dlb_operators_n; i++)
        if (!strcmp(dlb_operators[i].op->name, name))
            return &dlb_operators[i];
    return NULL;
}
