#include "measure/buffers.h"

#include <math.h>
#include <string.h>

/* Behind this many terms of at most 32*32 a sum could pass 2^24. */
enum { EXACT_TERMS = 1 << 14 };

/* Beyond this many bytes sizes are not even computed in integers: they could overflow. */
static const double ADDRESSABLE = 0x1p47;

static void run_shared(struct dlb_pool *pool, dlb_team_fn *fn, void *context)
{
    struct dlb_team alone = {0, 1, NULL};
    if (pool)
        dlb_pool_run(pool, fn, context);
    else
        fn(context, &alone);
}

static size_t data_bytes(const struct dlb_tensor *tensor)
{
    return (size_t)dlb_tensor_elements(tensor) * sizeof(float);
}

/* Differs from byte to byte, so that no written value leaves a guard as it was. */
static unsigned char guard_byte(size_t i)
{
    return (unsigned char)(i * 167 + 89);
}

static void guards_set(struct dlb_buffers *buffers)
{
    for (int t = 0; t < buffers->tensors; t++) {
        unsigned char *before = buffers->base[t];
        unsigned char *after =
            (unsigned char *)buffers->data[t] + data_bytes(&buffers->tensor[t]);
        for (size_t i = 0; i < DLB_GUARD_BYTES; i++)
            before[i] = after[i] = guard_byte(i);
    }
}

static void touch_share(void *context, const struct dlb_team *team)
{
    struct dlb_buffers *buffers = context;
    for (int t = 0; t < buffers->tensors; t++) {
        int64_t begin, end;
        dlb_share(dlb_tensor_elements(&buffers->tensor[t]), team->rank, team->size,
                  &begin, &end);
        memset((float *)buffers->data[t] + begin, 0,
               (size_t)(end - begin) * sizeof(float));
    }
}

double dlb_buffers_bytes(const struct dlb_op *op, const struct dlb_problem *problem)
{
    struct dlb_tensor tensor[DLB_TENSORS_MAX];
    int tensors = op->tensors(problem, tensor);
    double bytes = 0;
    for (int t = 0; t < tensors; t++) {
        double elements = 1;
        for (int i = 0; i < tensor[t].rank; i++)
            elements *= (double)tensor[t].dim[i];
        bytes += elements * sizeof(float) + 2.0 * DLB_GUARD_BYTES;
    }
    return bytes;
}

enum dlb_status dlb_buffers_make(const struct dlb_op *op,
                                 const struct dlb_problem *problem, struct dlb_pool *pool,
                                 struct dlb_buffers *buffers, struct dlb_error *error)
{
    double bytes = dlb_buffers_bytes(op, problem);
    *buffers = (struct dlb_buffers){.op = op, .problem = *problem};
    buffers->tensors = op->tensors(problem, buffers->tensor);
    for (int t = 0; t < buffers->tensors; t++) {
        unsigned char *base =
            bytes > ADDRESSABLE
                ? NULL
                : dlb_alloc(data_bytes(&buffers->tensor[t]) + 2 * DLB_GUARD_BYTES);
        if (!base) {
            dlb_buffers_release(buffers);
            return dlb_fail(error, DLB_NOMEM,
                            "The operands of this problem need %.0f bytes of memory, "
                            "which could not be had; take a smaller problem.",
                            bytes);
        }
        buffers->base[t] = base;
        buffers->data[t] = base + DLB_GUARD_BYTES;
    }
    run_shared(pool, touch_share, buffers);
    guards_set(buffers);
    return DLB_OK;
}

void dlb_buffers_release(struct dlb_buffers *buffers)
{
    for (int t = 0; t < DLB_TENSORS_MAX; t++)
        dlb_free(buffers->base[t]);
    *buffers = (struct dlb_buffers){0};
}

struct fill {
    struct dlb_buffers *buffers;
    enum dlb_fill_kind kind;
    uint64_t seed;
    uint32_t density; /* of non-zero weights, in 2^-32 */
    uint32_t plus;    /* share of positive weights, in 2^-24 */
};

static void fill_dense(float *data, int64_t begin, int64_t end, uint64_t key,
                       const struct dlb_tensor *tensor)
{
    bool own = tensor->low != 0 || tensor->high != 0;
    float low = own ? tensor->low : -1;
    float step = (own ? tensor->high - tensor->low : 2) * 0x1p-24f;
    for (int64_t i = begin; i < end; i++)
        data[i] = (float)(int32_t)(dlb_hash(key, (uint64_t)i) >> 40) * step + low;
}

static void fill_range(float *data, int64_t begin, int64_t end, uint64_t key, int low,
                       int high)
{
    uint64_t span = (uint64_t)(high - low + 1);
    for (int64_t i = begin; i < end; i++)
        data[i] =
            (float)(int32_t)(((dlb_hash(key, (uint64_t)i) >> 32) * span) >> 32) + low;
}

static void fill_weights(float *data, int64_t begin, int64_t end, uint64_t key,
                         const struct fill *fill)
{
    for (int64_t i = begin; i < end; i++) {
        uint64_t bits = dlb_hash(key, (uint64_t)i);
        int value = 1 + (int)(bits & 31);
        if (((bits >> 8) & 0xffffff) >= fill->plus)
            value = -value;
        data[i] = bits >> 32 <= fill->density ? (float)value : 0;
    }
}

static void fill_nan(float *data, int64_t begin, int64_t end)
{
    for (int64_t i = begin; i < end; i++)
        data[i] = NAN;
}

static void clear_share(void *context, const struct dlb_team *team)
{
    struct dlb_buffers *buffers = context;
    for (int t = 0; t < buffers->tensors; t++) {
        int64_t begin, end;
        if (!dlb_role_written(buffers->tensor[t].role))
            continue;
        dlb_share(dlb_tensor_elements(&buffers->tensor[t]), team->rank, team->size,
                  &begin, &end);
        fill_nan(buffers->data[t], begin, end);
    }
}

static void fill_share(void *context, const struct dlb_team *team)
{
    const struct fill *fill = context;
    const struct dlb_op *op = fill->buffers->op;
    for (int t = 0; t < fill->buffers->tensors; t++) {
        const struct dlb_tensor *tensor = &fill->buffers->tensor[t];
        float *data = fill->buffers->data[t];
        uint64_t key =
            dlb_hash(dlb_hash(fill->seed, (uint64_t)fill->kind), (uint64_t)t + 1);
        int64_t begin, end;
        dlb_share(dlb_tensor_elements(tensor), team->rank, team->size, &begin, &end);
        if (dlb_role_written(tensor->role))
            fill_nan(data, begin, end);
        else if (op->fill &&
                 op->fill(&fill->buffers->problem, t, fill->kind, key, begin, end, data))
            continue;
        else if (fill->kind == DLB_FILL_DENSE)
            fill_dense(data, begin, end, key, tensor);
        else if (tensor->fill == DLB_FILL_WEIGHT)
            fill_weights(data, begin, end, key, fill);
        else if (tensor->fill == DLB_FILL_BIAS)
            fill_range(data, begin, end, key, -32, 32);
        else
            fill_range(data, begin, end, key, -8, 32);
    }
}

void dlb_buffers_fill(struct dlb_buffers *buffers, enum dlb_fill_kind kind, uint64_t seed,
                      struct dlb_pool *pool)
{
    const struct dlb_op *op = buffers->op;
    int64_t reduction = op->reduction ? op->reduction(&buffers->problem) : 1;
    if (!op->reduction)
        kind = DLB_FILL_DENSE;
    double terms = (double)dlb_min(reduction, EXACT_TERMS);
    double plus = fmin(1, 0.5 + 1.6 / sqrt(terms));
    struct fill fill = {
        .buffers = buffers,
        .kind = kind,
        .seed = seed,
        .density = (uint32_t)(UINT32_MAX * (terms / (double)reduction)),
        .plus = (uint32_t)(0x1000000 * plus),
    };
    run_shared(pool, fill_share, &fill);
    guards_set(buffers);
    buffers->filled = true;
    buffers->kind = kind;
    buffers->seed = seed;
}

void dlb_buffers_clear(struct dlb_buffers *buffers, struct dlb_pool *pool)
{
    run_shared(pool, clear_share, buffers);
    guards_set(buffers);
}

bool dlb_buffers_guarded(const struct dlb_buffers *buffers, int *tensor, int64_t *offset)
{
    for (int t = 0; t < buffers->tensors; t++) {
        const unsigned char *before = buffers->base[t];
        const unsigned char *after =
            (const unsigned char *)buffers->data[t] + data_bytes(&buffers->tensor[t]);
        *tensor = t;
        for (int64_t i = DLB_GUARD_BYTES; i-- > 0;)
            if (after[i] != guard_byte((size_t)i)) {
                *offset = i;
                return false;
            }
        for (int64_t i = 0; i < DLB_GUARD_BYTES; i++)
            if (before[i] != guard_byte((size_t)i)) {
                *offset = i - DLB_GUARD_BYTES;
                return false;
            }
    }
    return true;
}
