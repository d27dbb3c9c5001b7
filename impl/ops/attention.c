/*
 * The problem side of attention: dims, derivation, checks, counts, fill.  The search space
 * stands in attention_space.c, plans in attention_plan.c, kernels in attention_kernels.c.
 */
#include "ops/attention.h"

#include "ops/attention_internal.h"

#include <math.h>
#include <string.h>

enum { DIM_MAX = 1 << 24, HEAD_MAX = 1 << 16, UNSET = DLB_DIM_UNSET };

static const char *const masks[DLB_ATTENTION_MASKS] = {
    [DLB_ATTENTION_NONE] = "none",
    [DLB_ATTENTION_CAUSAL] = "causal",
    [DLB_ATTENTION_CAUSAL_END] = "causal-end",
    [DLB_ATTENTION_BUFFER] = "buffer",
};

static const struct dlb_dim_def dims[DLB_ATTENTION_DIMS] = {
    [DLB_ATTENTION_MB] = {"mb", 1, DIM_MAX, 2, "minibatch"},
    [DLB_ATTENTION_HQ] = {"hq", 1, DIM_MAX, UNSET, "heads of the queries"},
    [DLB_ATTENTION_HK] = {"hk", 1, DIM_MAX, UNSET, "heads of keys and values; hq"},
    [DLB_ATTENTION_SQ] = {"sq", 1, DIM_MAX, UNSET, "queries in a sequence"},
    [DLB_ATTENTION_SK] = {"sk", 1, DIM_MAX, UNSET, "keys in a sequence; sq"},
    [DLB_ATTENTION_D] = {"d", 1, HEAD_MAX, UNSET, "width of a query's and a key's head"},
    [DLB_ATTENTION_DV] = {"dv", 1, HEAD_MAX, UNSET, "width of a value's head; d"},
    [DLB_ATTENTION_MASK] = {"mask", 0, DLB_ATTENTION_MASKS - 1, DLB_ATTENTION_NONE,
                            "keys that a query sees", masks},
};

/* The dims that nothing can stand in for, or the dim that stands in. */
static const struct {
    int dim, from; /* from -1: must be named */
    int example;
} derived[] = {
    {DLB_ATTENTION_HQ, -1, 12},
    {DLB_ATTENTION_SQ, -1, 512},
    {DLB_ATTENTION_D, -1, 64},
    {DLB_ATTENTION_HK, DLB_ATTENTION_HQ, 0},
    {DLB_ATTENTION_SK, DLB_ATTENTION_SQ, 0},
    {DLB_ATTENTION_DV, DLB_ATTENTION_D, 0},
};
enum { DERIVED = sizeof derived / sizeof *derived };

/* Queries and keys are spread over [-SPREAD, SPREAD): scaled scores then have a standard
 * deviation of SPREAD^2 / 3 for any d, so that some keys matter much more than others. */
#define SPREAD 2.0f

static enum dlb_status attention_complete(struct dlb_problem *problem,
                                          struct dlb_error *error)
{
    int64_t *d = problem->dim;
    enum dlb_status status = dlb_op_check_ranges(&dlb_op_attention, problem, error);
    if (status)
        return status;
    for (int i = 0; i < DERIVED; i++) {
        const struct dlb_dim_def *def = &dims[derived[i].dim];
        if (d[derived[i].dim] != UNSET)
            continue;
        if (derived[i].from < 0)
            return dlb_fail(error, DLB_INVALID,
                            "The dim '%s' (%s) is missing; write for example %s%d.",
                            def->key, def->meaning, def->key, derived[i].example);
        d[derived[i].dim] = d[derived[i].from];
    }
    for (int i = 0; i < DLB_ATTENTION_DIMS; i++)
        if (d[i] == UNSET)
            d[i] = dims[i].fallback;
    if (d[DLB_ATTENTION_HQ] % d[DLB_ATTENTION_HK])
        return dlb_fail(
            error, DLB_INVALID,
            "hk%lld does not divide hq%lld; accepted: a number of key and "
            "value heads of which the query heads are a multiple, for example "
            "hk1 or hk%lld.",
            (long long)d[DLB_ATTENTION_HK], (long long)d[DLB_ATTENTION_HQ],
            (long long)d[DLB_ATTENTION_HQ]);
    return dlb_op_check_elements(&dlb_op_attention, problem, error);
}

static bool attention_dim_needed(const struct dlb_problem *problem, int dim)
{
    for (int i = 0; i < DERIVED; i++)
        if (derived[i].dim == dim)
            return derived[i].from < 0 ||
                   problem->dim[dim] != problem->dim[derived[i].from];
    return problem->dim[dim] != dims[dim].fallback;
}

void dlb_attention_shape_get(const struct dlb_problem *problem,
                             struct dlb_attention_shape *shape)
{
    const int64_t *d = problem->dim;
    *shape = (struct dlb_attention_shape){
        .mb = d[DLB_ATTENTION_MB],
        .hq = d[DLB_ATTENTION_HQ],
        .hk = d[DLB_ATTENTION_HK],
        .sq = d[DLB_ATTENTION_SQ],
        .sk = d[DLB_ATTENTION_SK],
        .d = d[DLB_ATTENTION_D],
        .dv = d[DLB_ATTENTION_DV],
        .group = d[DLB_ATTENTION_HQ] / d[DLB_ATTENTION_HK],
        .mask = (enum dlb_attention_mask)d[DLB_ATTENTION_MASK],
        .scale = 1 / sqrtf((float)d[DLB_ATTENTION_D]),
        .train = problem->pass == DLB_FWD_TRAIN,
        .backward = problem->pass == DLB_BWD,
    };
}

int64_t dlb_attention_keys(const struct dlb_attention_shape *s, int64_t i)
{
    if (s->mask != DLB_ATTENTION_CAUSAL && s->mask != DLB_ATTENTION_CAUSAL_END)
        return s->sk;
    int64_t shift = s->mask == DLB_ATTENTION_CAUSAL_END ? s->sk - s->sq : 0;
    return dlb_max(0, dlb_min(s->sk, i + 1 + shift));
}

static double attention_flops(const struct dlb_problem *problem)
{
    struct dlb_attention_shape s;
    dlb_attention_shape_get(problem, &s);
    double pairs = 0;
    for (int64_t i = 0; i < s.sq; i++)
        pairs += (double)dlb_attention_keys(&s, i);
    double pair = (double)(s.backward ? 6 * s.d + 4 * s.dv : 2 * (s.d + s.dv));
    return pair * (double)s.mb * (double)s.hq * pairs;
}

static int attention_tensors(const struct dlb_problem *problem, struct dlb_tensor *tensor)
{
    struct dlb_attention_shape s;
    dlb_attention_shape_get(problem, &s);
    const int64_t q[] = {s.mb, s.sq, s.hq, s.d}, k[] = {s.mb, s.sk, s.hk, s.d},
                  v[] = {s.mb, s.sk, s.hk, s.dv}, dst[] = {s.mb, s.sq, s.hq, s.dv},
                  mask[] = {s.mask == DLB_ATTENTION_BUFFER ? s.mb : 0, s.sq, s.sk},
                  logsum[] = {s.train ? s.mb : 0, s.hq, s.sq};
    const struct operand {
        const char *name, *layout;
        const int64_t *dim;
        enum dlb_role role;
        float spread; /* of the dense fill */
    } operands[] = {{"q", "nshd", q, DLB_INPUT, SPREAD},
                    {"k", "nshd", k, DLB_INPUT, SPREAD},
                    {"v", "nshd", v, DLB_INPUT, 1},
                    {"mask", "nij", mask, DLB_INPUT, 1}},
      forward[] = {{"dst", "nshd", dst, DLB_OUTPUT, 0},
                   {"logsum", "nhs", logsum, DLB_KEPT, 0}},
      backward[] = {{"diff_dst", "nshd", dst, DLB_INPUT, 1},
                    {"diff_q", "nshd", q, DLB_OUTPUT, 0},
                    {"diff_k", "nshd", k, DLB_OUTPUT, 0},
                    {"diff_v", "nshd", v, DLB_OUTPUT, 0}};
    const struct operand *more = s.backward ? backward : forward;
    const int tensors =
        s.backward ? DLB_ATTENTION_BACKWARD_TENSORS : DLB_ATTENTION_TENSORS;
    for (int t = 0; t < tensors; t++) {
        const struct operand *from =
            t < DLB_ATTENTION_DST ? &operands[t] : &more[t - DLB_ATTENTION_DST];
        tensor[t] = (struct dlb_tensor){
            .name = from->name,
            .layout = from->layout,
            .role = from->role,
            .fill = t == DLB_ATTENTION_MASK_BUFFER ? DLB_FILL_BIAS : DLB_FILL_ACTIVATION,
            .rank = (int)strlen(from->layout),
            .low = -from->spread,
            .high = from->spread};
        memcpy(tensor[t].dim, from->dim, (size_t)tensor[t].rank * sizeof *from->dim);
    }
    return tensors;
}

static double attention_bytes(const struct dlb_problem *problem)
{
    return dlb_op_tensor_bytes(&dlb_op_attention, problem);
}

/* A mask buffer hides every seventh key, one half of them by -inf and one half by a number
 * as networks write it, and shifts the others by [-1, 1).  Each query keeps one key. */
static bool attention_fill(const struct dlb_problem *problem, int t,
                           enum dlb_fill_kind kind, uint64_t seed, int64_t begin,
                           int64_t end, float *data)
{
    (void)kind;
    if (t != DLB_ATTENTION_MASK_BUFFER)
        return false;
    int64_t sq = problem->dim[DLB_ATTENTION_SQ], sk = problem->dim[DLB_ATTENTION_SK];
    for (int64_t e = begin; e < end; e++) {
        uint64_t hash = dlb_hash(seed, (uint64_t)e);
        float value = (float)(int32_t)(hash >> 40) * 0x1p-23f - 1;
        if (hash % 7 == 0 && e % sk != e / sk % sq % sk)
            value = hash % 2 ? -INFINITY : -1e4f;
        data[e] = value;
    }
    return true;
}

const struct dlb_op dlb_op_attention = {
    .name = "attention",
    .summary =
        "scaled dot-product attention: grouped-query heads, causal and other masks",
    .dims = dims,
    .dims_n = DLB_ATTENTION_DIMS,
    .algorithms = dlb_attention_algorithms,
    .algorithms_n = DLB_ATTENTION_ALGORITHMS,
    .tiles = dlb_attention_tiles,
    .tiles_n = DLB_ATTENTION_TILES,
    .passes = 1u << DLB_FWD | 1u << DLB_FWD_TRAIN | 1u << DLB_BWD,
    .complete = attention_complete,
    .dim_needed = attention_dim_needed,
    .flops = attention_flops,
    .bytes = attention_bytes,
    .tensors = attention_tensors,
    .fill = attention_fill,
    .enumerate = dlb_attention_enumerate,
    .refuse = dlb_attention_refuse,
    .fallback = dlb_attention_fallback,
    .estimate = dlb_attention_estimate,
    .plan = dlb_attention_plan,
};
