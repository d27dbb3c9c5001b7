/*
 * sequence.h - a small network that reads a sequence and answers at its end, on our own
 * kernels, for the experiments on memory.
 *
 *   recurrent   x -> rnn, gru or lstm -> linear -> softmax cross-entropy
 *   attention   x with positions -> q, k, v: linear each -> attention -> the same
 *
 * Questions are the last steps of the sequence, as many as there are answers; attention asks
 * from there and looks at all steps, unmasked.  Positions are sines and cosines beside the
 * inputs; recurrence knows the order without.  Weights begin uniform within 1 / sqrt(width),
 * biases at 0, but for LSTM's forget gate, at 1.  The optimiser is Adam.
 *
 * Source of the positions: Vaswani et al., "Attention is all you need", 2017; of the forget
 * bias: Jozefowicz et al., "An empirical exploration of recurrent network architectures",
 * 2015.
 */
#ifndef DLB_CLAIMS_SEQUENCE_H
#define DLB_CLAIMS_SEQUENCE_H

#include "core/op.h"

enum dlb_reader { DLB_READ_RNN, DLB_READ_GRU, DLB_READ_LSTM, DLB_READ_ATTENTION };
extern const char *const dlb_reader_names[]; /* as the operators are called */

struct dlb_sequence_shape {
    enum dlb_reader reader;
    bool unplaced; /* attention without positions */
    int64_t batch, steps, inputs, width, answers, classes;
    uint64_t seed;
};

struct dlb_sequence;

/* target: of one thread.  DLB_NOMEM. */
enum dlb_status dlb_sequence_make(const struct dlb_sequence_shape *shape,
                                  const struct dlb_target *target,
                                  struct dlb_sequence **sequence,
                                  struct dlb_error *error);
void dlb_sequence_release(struct dlb_sequence *sequence); /* safe on NULL */

/* Weights and biases, without the last linear layer's. */
int64_t dlb_sequence_parameters(const struct dlb_sequence *sequence);

/* One batch: src ntc [batch, steps, inputs], labels [batch, answers] whole numbers.  With a
 * rate above 0 a step of the optimiser follows; *loss and *accuracy are those before it. */
enum dlb_status dlb_sequence_step(struct dlb_sequence *sequence, const float *src,
                                  const float *labels, double rate, double *loss,
                                  double *accuracy, struct dlb_error *error);

/* Values and gradient of a parameter, NULL behind the last one; returns how many. */
int64_t dlb_sequence_weights(const struct dlb_sequence *sequence, int parameter,
                             float **value, const float **gradient);

#endif
