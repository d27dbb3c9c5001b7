/*
 * The problem side of batchnorm: dims, checks, counts, fills.  The search space stands in
 * batchnorm_space.c, plans in batchnorm_plan.c, kernels in batchnorm_kernels.c.
 *
 * flops  2 an element in inference (y = a x + b, as the field counts it); training 4 more:
 *        1 for the sum, 3 for the squared distance from the mean; backward 9: 1 and 3 for
 *        the two sums, 5 for diff_src
 * bytes  each operand once: src, dst, and the vectors per channel; not the second reading
 *        of what statistics and sums are made of, nor what is kept for the backward pass
 */
#include "ops/batchnorm.h"

#include "ops/batchnorm_internal.h"

enum { DIM_MAX = 1 << 24, UNSET = DLB_DIM_UNSET };
static const int64_t elements_max = INT64_C(1) << 40;

static const char *const layouts[DLB_BATCHNORM_LAYOUTS] = {
    [DLB_BATCHNORM_ANY] = "any",
    [DLB_BATCHNORM_NHWC] = "nhwc",
    [DLB_BATCHNORM_BLOCKED] = "blocked",
};

static const struct dlb_dim_def dims[DLB_BATCHNORM_DIMS] = {
    [DLB_BATCHNORM_MB] = {"mb", 1, DIM_MAX, 2, "minibatch", NULL},
    [DLB_BATCHNORM_IC] = {"ic", 1, DIM_MAX, UNSET, "channels", NULL},
    [DLB_BATCHNORM_IH] = {"ih", 1, DIM_MAX, UNSET, "height", NULL},
    [DLB_BATCHNORM_IW] = {"iw", 1, DIM_MAX, UNSET, "width; ih", NULL},
    [DLB_BATCHNORM_SCALE] = {"scale", 0, 1, 1, "1 multiplies by gamma", NULL},
    [DLB_BATCHNORM_SHIFT] = {"shift", 0, 1, 1, "1 adds beta", NULL},
    [DLB_BATCHNORM_RELU] = {"relu", 0, 1, 0, "1 fuses max(0,x)", NULL},
    [DLB_BATCHNORM_LAYOUT] = {"layout", 0, DLB_BATCHNORM_LAYOUTS - 1, DLB_BATCHNORM_ANY,
                              "memory layout, of both sides", layouts},
};

void dlb_batchnorm_shape_get(const struct dlb_problem *problem,
                             struct dlb_batchnorm_shape *shape)
{
    const int64_t *d = problem->dim;
    *shape = (struct dlb_batchnorm_shape){
        .mb = d[DLB_BATCHNORM_MB],
        .ic = d[DLB_BATCHNORM_IC],
        .ih = d[DLB_BATCHNORM_IH],
        .iw = d[DLB_BATCHNORM_IW],
        .pixels = d[DLB_BATCHNORM_IH] * d[DLB_BATCHNORM_IW],
        .layout = (enum dlb_batchnorm_layout)d[DLB_BATCHNORM_LAYOUT],
        .scale = d[DLB_BATCHNORM_SCALE],
        .shift = d[DLB_BATCHNORM_SHIFT],
        .relu = d[DLB_BATCHNORM_RELU],
        .train = problem->pass != DLB_FWD,
        .backward = problem->pass == DLB_BWD,
    };
}

static enum dlb_status missing(int dim, int example, struct dlb_error *error)
{
    return dlb_fail(error, DLB_INVALID, "The %s '%s' is missing; write for example %s%d.",
                    dims[dim].meaning, dims[dim].key, dims[dim].key, example);
}

static enum dlb_status batchnorm_complete(struct dlb_problem *problem,
                                          struct dlb_error *error)
{
    int64_t *d = problem->dim;
    if (d[DLB_BATCHNORM_IC] == UNSET)
        return missing(DLB_BATCHNORM_IC, 64, error);
    if (d[DLB_BATCHNORM_IH] == UNSET)
        return missing(DLB_BATCHNORM_IH, 56, error);
    if (d[DLB_BATCHNORM_IW] == UNSET)
        d[DLB_BATCHNORM_IW] = d[DLB_BATCHNORM_IH];
    int64_t elements = 1;
    for (int i = 0; i < DLB_BATCHNORM_DIMS; i++) {
        if (d[i] == UNSET)
            d[i] = dims[i].fallback;
        if (d[i] < dims[i].min || d[i] > dims[i].max)
            return dlb_fail(error, DLB_INVALID,
                            "%s%lld is out of range (%s); accepted: %lld to %lld.",
                            dims[i].key, (long long)d[i], dims[i].meaning,
                            (long long)dims[i].min, (long long)dims[i].max);
        if (i <= DLB_BATCHNORM_IW && (__builtin_mul_overflow(elements, d[i], &elements) ||
                                      elements > elements_max))
            return dlb_fail(error, DLB_INVALID,
                            "The tensor src would hold more than 2^40 elements; make mb, "
                            "ic, ih or iw smaller.");
    }
    return DLB_OK;
}

static bool batchnorm_dim_needed(const struct dlb_problem *problem, int dim)
{
    const int64_t *d = problem->dim;
    if (dim == DLB_BATCHNORM_IW)
        return d[dim] != d[DLB_BATCHNORM_IH];
    return d[dim] != dims[dim].fallback;
}

static double elements(const struct dlb_problem *problem)
{
    struct dlb_batchnorm_shape s;
    dlb_batchnorm_shape_get(problem, &s);
    return (double)(s.mb * s.pixels) * (double)s.ic;
}

static double batchnorm_flops(const struct dlb_problem *problem)
{
    struct dlb_batchnorm_shape s;
    dlb_batchnorm_shape_get(problem, &s);
    return (s.backward ? 9 : s.train ? 6 : 2) * elements(problem);
}

struct operand {
    const char *name;
    enum dlb_role role;
    bool image, present;
    float low, high;
};

static int batchnorm_tensors(const struct dlb_problem *problem, struct dlb_tensor *tensor)
{
    struct dlb_batchnorm_shape s;
    dlb_batchnorm_shape_get(problem, &s);
    const struct dlb_tensor image = {
        .layout = "nhwc",
        .fill = DLB_FILL_ACTIVATION,
        .rank = 4,
        .dim = {s.mb, s.ih, s.iw, s.ic},
    };
    const struct operand backward[DLB_BATCHNORM_BACKWARD_TENSORS] = {
        [DLB_BATCHNORM_SRC] = {"src", DLB_INPUT, true, true, 0, 0},
        [DLB_BATCHNORM_GAMMA] = {"gamma", DLB_PARAMETER, false, s.scale, 0, 0},
        [DLB_BATCHNORM_BETA] = {"beta", DLB_PARAMETER, false, s.shift, 0, 0},
        [DLB_BATCHNORM_DIFF_DST] = {"diff_dst", DLB_INPUT, true, true, 0, 0},
        [DLB_BATCHNORM_DIFF_SRC] = {"diff_src", DLB_OUTPUT, true, true, 0, 0},
        [DLB_BATCHNORM_DIFF_GAMMA] = {"diff_gamma", DLB_OUTPUT, false, s.scale, 0, 0},
        [DLB_BATCHNORM_DIFF_BETA] = {"diff_beta", DLB_OUTPUT, false, s.shift, 0, 0},
    };
    const struct operand forward[DLB_BATCHNORM_TENSORS] = {
        [DLB_BATCHNORM_SRC] = {"src", DLB_INPUT, true, true, 0, 0},
        [DLB_BATCHNORM_GAMMA] = {"gamma", DLB_PARAMETER, false, s.scale, 0, 0},
        [DLB_BATCHNORM_BETA] = {"beta", DLB_PARAMETER, false, s.shift, 0, 0},
        [DLB_BATCHNORM_IN_MEAN] = {s.train ? "running_mean" : "mean", DLB_PARAMETER,
                                   false, true, 0, 0},
        [DLB_BATCHNORM_IN_VARIANCE] = {s.train ? "running_variance" : "variance",
                                       DLB_PARAMETER, false, true, 0.5f, 2},
        [DLB_BATCHNORM_DST] = {"dst", DLB_OUTPUT, true, true, 0, 0},
        [DLB_BATCHNORM_MEAN] = {"mean", DLB_OUTPUT, false, true, 0, 0},
        [DLB_BATCHNORM_VARIANCE] = {"variance", DLB_OUTPUT, false, true, 0, 0},
        [DLB_BATCHNORM_RUNNING_MEAN] = {"new_running_mean", DLB_OUTPUT, false, true, 0,
                                        0},
        [DLB_BATCHNORM_RUNNING_VARIANCE] = {"new_running_variance", DLB_OUTPUT, false,
                                            true, 0, 0},
        [DLB_BATCHNORM_RELU_MASK] = {"mask", DLB_KEPT, true, true, 0, 0},
    };
    const struct operand *operands = s.backward ? backward : forward;
    int n = s.backward ? DLB_BATCHNORM_BACKWARD_TENSORS
            : !s.train ? DLB_BATCHNORM_DST + 1
            : s.relu   ? DLB_BATCHNORM_TENSORS
                       : DLB_BATCHNORM_RELU_MASK;
    for (int t = 0; t < n; t++) {
        tensor[t] = operands[t].image
                        ? image
                        : (struct dlb_tensor){.layout = "x",
                                              .fill = DLB_FILL_BIAS,
                                              .rank = 1,
                                              .dim = {operands[t].present ? s.ic : 0}};
        tensor[t].name = operands[t].name;
        tensor[t].role = operands[t].role;
        tensor[t].low = operands[t].low;
        tensor[t].high = operands[t].high;
    }
    return n;
}

static double batchnorm_bytes(const struct dlb_problem *problem)
{
    struct dlb_tensor tensor[DLB_TENSORS_MAX];
    int tensors = batchnorm_tensors(problem, tensor);
    double bytes = 0;
    for (int t = 0; t < tensors; t++)
        if (tensor[t].role != DLB_KEPT)
            bytes += sizeof(float) * (double)dlb_tensor_elements(&tensor[t]);
    return bytes;
}

static int64_t batchnorm_reduction(const struct dlb_problem *problem)
{
    struct dlb_batchnorm_shape s;
    dlb_batchnorm_shape_get(problem, &s);
    return s.train ? s.mb * s.pixels : 1;
}

static double unit(uint64_t bits)
{
    return (double)(bits >> 11) * 0x1p-53;
}

/* A whole number of 0 … n-1. */
static int64_t below(uint64_t bits, int64_t n)
{
    return (int64_t)(((bits >> 32) * (uint64_t)n) >> 32);
}

static const int64_t SUM_MAX = INT64_C(1) << 24;

/* The largest distance of an exact element from its mean, of so many elements a channel. */
static int64_t distance_most(int64_t count)
{
    int64_t most = 1;
    while (most < 8 && (most + 1) * (most + 1) * count <= SUM_MAX)
        most++;
    return most;
}

/*
 * Exact: channel c has the mean m, 0 or a power of two, and its pixels come in pairs m+d,
 * m-d with d a whole number: pixels 2i and 2i+1 of an image, or of images 2i and 2i+1
 * where an image is one pixel; a last one without a partner is m.  So the mean is exact,
 * and with it the sum of squares; d, m and how many pairs differ from m at all are limited
 * so that no sum of values or squares, in any order, passes 2^24.
 * Dense: channels differ in mean (from -2 to 2) and in spread (a factor of 8).
 */
static void fill_src(const struct dlb_batchnorm_shape *s, enum dlb_fill_kind kind,
                     uint64_t seed, int64_t begin, int64_t end, float *data)
{
    int64_t count = s->mb * s->pixels, most = distance_most(count);
    int64_t means = count * (4 + most) <= SUM_MAX ? 7 : 1;
    double density = (double)SUM_MAX / 2 / ((double)(most * most) * (double)count);
    int64_t c = begin % s->ic, position = begin / s->ic;
    for (int64_t i = begin; i < end; i++, c++) {
        if (c == s->ic) {
            c = 0;
            position++;
        }
        uint64_t channel = dlb_hash(~seed, (uint64_t)c);
        if (kind == DLB_FILL_DENSE) {
            double spread = 0.25 + 1.75 * unit(dlb_hash(channel, 1));
            data[i] = (float)(4 * unit(channel) - 2 +
                              spread * (2 * unit(dlb_hash(seed, (uint64_t)i)) - 1));
            continue;
        }
        int64_t mean = below(channel, means);
        mean = mean > 3 ? -(1 << (mean - 4)) : mean > 0 ? 1 << (mean - 1) : 0;
        bool images = s->pixels == 1;
        int64_t image = images ? position : position / s->pixels;
        int64_t place = images ? position : position - image * s->pixels,
                places = images ? s->mb : s->pixels;
        data[i] = (float)mean;
        if (place == places - 1 && place % 2 == 0)
            continue;
        int64_t pair = images ? image / 2 : image * s->pixels + place / 2;
        uint64_t bits = dlb_hash(seed, (uint64_t)(pair * s->ic + c));
        int64_t distance = below(bits, 2 * most + 1) - most;
        if (unit(dlb_hash(bits, 1)) < density)
            data[i] += (float)(place % 2 ? -distance : distance);
    }
}

/* Exact: whole numbers from -3 to 8, so many of them not 0 that neither their sum nor that
 * of their products with src - mean passes 2^24. */
static void fill_diff_dst(const struct dlb_batchnorm_shape *s, uint64_t seed,
                          int64_t begin, int64_t end, float *data)
{
    int64_t count = s->mb * s->pixels;
    double density = (double)SUM_MAX / 2 / (8.0 * (double)(distance_most(count) * count));
    for (int64_t i = begin; i < end; i++) {
        uint64_t bits = dlb_hash(seed, (uint64_t)i);
        data[i] = unit(dlb_hash(bits, 1)) < density ? (float)(below(bits, 12) - 3) : 0;
    }
}

/* Exact parameters: gamma a power of two of either sign; beta so large that few results
 * are negative, since behind a ReLU zeros show little. */
static bool batchnorm_fill(const struct dlb_problem *problem, int t,
                           enum dlb_fill_kind kind, uint64_t seed, int64_t begin,
                           int64_t end, float *data)
{
    static const float gammas[] = {-2, -1, -0.5f, 0.5f, 1, 2};
    struct dlb_batchnorm_shape s;
    dlb_batchnorm_shape_get(problem, &s);
    if (t == DLB_BATCHNORM_SRC) {
        fill_src(&s, kind, seed, begin, end, data);
        return true;
    }
    if (kind == DLB_FILL_DENSE)
        return false;
    if (s.backward && t == DLB_BATCHNORM_DIFF_DST) {
        fill_diff_dst(&s, seed, begin, end, data);
        return true;
    }
    for (int64_t i = begin; i < end; i++) {
        uint64_t bits = dlb_hash(seed, (uint64_t)i);
        data[i] = t == DLB_BATCHNORM_GAMMA         ? gammas[below(bits, 6)]
                  : t == DLB_BATCHNORM_IN_VARIANCE ? (float)(1 + below(bits, 4))
                  : t == DLB_BATCHNORM_IN_MEAN     ? (float)(below(bits, 9) - 6)
                                                   : (float)(1 + below(bits, 16));
    }
    return true;
}

const struct dlb_op dlb_op_batchnorm = {
    .name = "batchnorm",
    .summary = "batch normalisation over channels: scale, shift, fused ReLU",
    .dims = dims,
    .dims_n = DLB_BATCHNORM_DIMS,
    .algorithms = dlb_batchnorm_algorithms,
    .algorithms_n = DLB_BATCHNORM_ALGORITHMS,
    .tiles = dlb_batchnorm_tiles,
    .tiles_n = DLB_BATCHNORM_TILES,
    .passes = 1u << DLB_FWD | 1u << DLB_FWD_TRAIN | 1u << DLB_BWD,
    .complete = batchnorm_complete,
    .dim_needed = batchnorm_dim_needed,
    .flops = batchnorm_flops,
    .bytes = batchnorm_bytes,
    .tensors = batchnorm_tensors,
    .reduction = batchnorm_reduction,
    .fill = batchnorm_fill,
    .enumerate = dlb_batchnorm_enumerate,
    .refuse = dlb_batchnorm_refuse,
    .fallback = dlb_batchnorm_fallback,
    .estimate = dlb_batchnorm_estimate,
    .plan = dlb_batchnorm_plan,
};
