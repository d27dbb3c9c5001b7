#include "core/op.h"

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
