#include "core/op.h"

#include <math.h>

static const int64_t elements_max = INT64_C(1) << 40;

const char *const dlb_pass_names[DLB_PASS_COUNT] = {"fwd", "fwd_train", "bwd_data",
                                                    "bwd_weights", "bwd"};
const char *const dlb_dtype_names[DLB_DTYPE_COUNT] = {"f32"};
const char *const dlb_accuracy_names[DLB_ACCURACY_COUNT] = {"exact", "winograd"};

int64_t dlb_tensor_elements(const struct dlb_tensor *tensor)
{
    int64_t elements = 1;
    for (int i = 0; i < tensor->rank; i++)
        elements *= tensor->dim[i];
    return elements;
}

void dlb_plan_release(struct dlb_plan *plan)
{
    if (plan)
        plan->class->release(plan);
}

enum dlb_status dlb_op_check_ranges(const struct dlb_op *op,
                                    const struct dlb_problem *problem,
                                    struct dlb_error *error)
{
    for (int i = 0; i < op->dims_n; i++) {
        const struct dlb_dim_def *def = &op->dims[i];
        int64_t value = problem->dim[i];
        if (value != DLB_DIM_UNSET && (value < def->min || value > def->max))
            return dlb_fail(error, DLB_INVALID,
                            "%s%lld is out of range (%s); accepted: %lld to %lld.",
                            def->key, (long long)value, def->meaning, (long long)def->min,
                            (long long)def->max);
    }
    return DLB_OK;
}

enum dlb_status dlb_op_check_elements(const struct dlb_op *op,
                                      const struct dlb_problem *problem,
                                      struct dlb_error *error)
{
    struct dlb_tensor tensor[DLB_TENSORS_MAX];
    int tensors = op->tensors(problem, tensor);
    for (int i = 0; i < tensors; i++) {
        int64_t elements = 1;
        for (int axis = 0; axis < tensor[i].rank; axis++)
            if (__builtin_mul_overflow(elements, tensor[i].dim[axis], &elements) ||
                elements > elements_max)
                return dlb_fail(error, DLB_INVALID,
                                "The tensor %s would hold more than 2^40 elements; make "
                                "its dims smaller.",
                                tensor[i].name);
    }
    return DLB_OK;
}

double dlb_op_tensor_bytes(const struct dlb_op *op, const struct dlb_problem *problem)
{
    struct dlb_tensor tensor[DLB_TENSORS_MAX];
    int tensors = op->tensors(problem, tensor);
    double bytes = 0;
    for (int i = 0; i < tensors; i++)
        bytes += sizeof(float) * (double)dlb_tensor_elements(&tensor[i]);
    return bytes;
}

double dlb_op_transfer_ns(const struct dlb_target *target, const struct dlb_rates *rates,
                          double bytes, double footprint)
{
    const struct {
        double size, gbs, fallback;
    } levels[] = {
        {0.5 * (double)target->l2_bytes * target->threads, rates->l2_gbs, 80},
        {0.75 * (double)target->l3_bytes * target->threads, rates->l3_gbs, 40},
        {INFINITY, rates->memory_gbs, 20},
    };
    int level = 0;
    while (footprint > levels[level].size)
        level++;
    double gbs = levels[level].gbs > 0 ? levels[level].gbs : levels[level].fallback;
    return bytes / gbs;
}

struct choice {
    const struct dlb_op *op;
    const struct dlb_problem *problem;
    const struct dlb_target *target;
    struct dlb_candidate *best;
    double least;
};

static bool choose(void *context, const struct dlb_candidate *candidate)
{
    static const struct dlb_rates unmeasured;
    struct choice *choice = context;
    const struct dlb_op *op = choice->op;
    if (op->refuse(choice->problem, choice->target, candidate))
        return true;
    double estimate =
        op->estimate(choice->problem, choice->target, &unmeasured, candidate);
    if (estimate < choice->least) {
        choice->least = estimate;
        *choice->best = *candidate;
    }
    return true;
}

void dlb_op_fallback(const struct dlb_op *op, const struct dlb_problem *problem,
                     const struct dlb_target *target, struct dlb_candidate *candidate)
{
    struct choice choice = {op, problem, target, candidate, INFINITY};
    op->enumerate(problem, target, choose, &choice);
}
