/*
 * One step of sgd or adam, vector by vector; formulas in ops/optimiser.h.
 *
 * Shapes    n elements; outputs in the order of the operator's tensors
 * Units     elements
 * Tiles     none
 * Work items and barriers   none: one call, one thread
 * Scratch   none
 * Cost      bound by the bandwidth of what holds the operands: every one once
 * Numerics  correctly rounded root and quotient; products and sums by FMA where there is
 *           one; the bias corrections of adam are rounded once each, beforehand
 * Errors    none; sizes are the caller's
 */
#include "ops/optimiser_kernels.h"

#include "core/vec.h"

DLB_INLINE vec load(const float *p, int lanes)
{
    return lanes == VLEN ? v_loadu(p) : v_load_n(p, lanes);
}

DLB_INLINE void store(float *p, vec a, int lanes, bool stream)
{
    if (lanes != VLEN)
        v_store_n(p, a, lanes);
    else if (stream)
        v_stream(p, a);
    else
        v_storeu(p, a);
}

DLB_INLINE void sgd(const struct dlb_optimiser_call *call, int64_t i, int lanes,
                    bool momentum, bool decay, bool stream)
{
    const vec param = load(call->in[DLB_SGD_PARAM] + i, lanes);
    vec v = load(call->in[DLB_SGD_GRAD] + i, lanes);
    if (decay)
        v = v_fma(v_set1((float)DLB_SGD_DECAY), param, v);
    if (momentum) {
        v = v_fma(v_set1((float)DLB_SGD_MOMENTUM),
                  load(call->in[DLB_SGD_VELOCITY] + i, lanes), v);
        store(call->out[DLB_SGD_NEW_VELOCITY - DLB_SGD_NEW_PARAM] + i, v, lanes, stream);
    }
    store(call->out[0] + i, v_fma(v_set1((float)-DLB_SGD_RATE), v, param), lanes, stream);
}

DLB_INLINE void adam(const struct dlb_optimiser_call *call, int64_t i, int lanes,
                     bool momentum, bool decay, bool stream)
{
    const vec param = load(call->in[DLB_ADAM_PARAM] + i, lanes),
              grad = load(call->in[DLB_ADAM_GRAD] + i, lanes);
    const vec mean =
        v_fma(v_set1((float)DLB_ADAM_BETA1), load(call->in[DLB_ADAM_MEAN] + i, lanes),
              v_mul(v_set1((float)(1 - DLB_ADAM_BETA1)), grad));
    const vec square =
        v_fma(v_set1((float)DLB_ADAM_BETA2), load(call->in[DLB_ADAM_SQUARE] + i, lanes),
              v_mul(v_mul(v_set1((float)(1 - DLB_ADAM_BETA2)), grad), grad));
    const vec divisor =
        v_fma(v_sqrt(square), v_set1(call->root), v_set1((float)DLB_ADAM_EPSILON));
    vec step = v_div(v_mul(v_set1(call->rate), mean), divisor);
    (void)momentum;
    if (decay)
        step = v_fma(v_set1((float)(DLB_ADAM_RATE * DLB_ADAM_DECAY)), param, step);
    store(call->out[0] + i, v_sub(param, step), lanes, stream);
    store(call->out[DLB_ADAM_NEW_MEAN - DLB_ADAM_NEW_PARAM] + i, mean, lanes, stream);
    store(call->out[DLB_ADAM_NEW_SQUARE - DLB_ADAM_NEW_PARAM] + i, square, lanes, stream);
}

/* The table of instances: (name, optimiser, momentum, decay). */
#define STEPS(T)                                                                         \
    T(sgd_plain, sgd, false, false)                                                      \
    T(sgd_decay, sgd, false, true)                                                       \
    T(sgd_momentum, sgd, true, false)                                                    \
    T(sgd_both, sgd, true, true)                                                         \
    T(adam_plain, adam, true, false)                                                     \
    T(adam_decay, adam, true, true)

#define STEP_FUNCTION(name, optimiser, momentum, decay, stream)                          \
    static void name(const struct dlb_optimiser_call *call)                              \
    {                                                                                    \
        const struct dlb_optimiser_call own = *call; /* which no store can reach */      \
        int64_t i = 0;                                                                   \
        for (; i + VLEN <= own.n; i += VLEN)                                             \
            optimiser(&own, i, VLEN, momentum, decay, stream);                           \
        if (i < own.n)                                                                   \
            optimiser(&own, i, (int)(own.n - i), momentum, decay, stream);               \
    }
#define STEP_FUNCTIONS(name, optimiser, momentum, decay)                                 \
    STEP_FUNCTION(name##_cached, optimiser, momentum, decay, false)                      \
    STEP_FUNCTION(name##_streamed, optimiser, momentum, decay, true)
STEPS(STEP_FUNCTIONS)

#define BOTH(name)                                                                       \
    {                                                                                    \
        name##_cached, name##_streamed                                                   \
    }

extern const struct dlb_optimiser_kernels DLB_NAME(dlb_optimiser);
const struct dlb_optimiser_kernels DLB_NAME(dlb_optimiser) = {
    .sgd = {{BOTH(sgd_plain), BOTH(sgd_decay)}, {BOTH(sgd_momentum), BOTH(sgd_both)}},
    .adam = {BOTH(adam_plain), BOTH(adam_decay)},
    .stream_fence = v_stream_fence,
};
