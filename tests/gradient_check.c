#include "gradient_check.h"

#include "measure/buffers.h"
#include "operator_check.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { ELEMENTS = 40 };

static const double STEP = 0x1p-6;
static const double GRID = 0x1p-10;
static const double TOLERANCE = 2e-6; /* of the largest value of a gradient */

/* One pass: operands, and the definition's results in double. */
struct side {
    struct dlb_problem problem;
    struct dlb_buffers buffers;
    double *value[DLB_TENSORS_MAX];
};

struct gradients {
    const struct dlb_reference *reference;
    struct side forward, backward;
    /* By tensor of the forward pass: its diff among the backward pass's, or -1. */
    int diff[DLB_TENSORS_MAX];
    char *text;
    size_t bytes;
};

static void side_open(struct side *side, const struct dlb_op *op, const char *descriptor,
                      enum dlb_pass pass)
{
    struct dlb_error error = {""};
    side->problem = dlb_check_problem(op, descriptor, pass);
    if (dlb_buffers_make(op, &side->problem, NULL, &side->buffers, &error))
        fail_msg("%s", error.text);
    dlb_buffers_fill(&side->buffers, DLB_FILL_DENSE, 7, NULL);
    for (int t = 0; t < side->buffers.tensors; t++) {
        int64_t n = dlb_tensor_elements(&side->buffers.tensor[t]);
        float *data = side->buffers.data[t];
        side->value[t] = calloc((size_t)n + 1, sizeof(double));
        assert_non_null(side->value[t]);
        for (int64_t i = 0; i < n; i++)
            data[i] = (float)(rint(data[i] / GRID) * GRID);
    }
}

static void side_close(struct side *side)
{
    for (int t = 0; t < DLB_TENSORS_MAX; t++)
        free(side->value[t]);
    dlb_buffers_release(&side->buffers);
}

static void define(const struct gradients *g, struct side *side)
{
    dlb_check_define(g->reference, &side->problem, side->buffers.data, side->value);
}

static int find(const struct side *side, const char *name)
{
    for (int t = 0; t < side->buffers.tensors; t++)
        if (!strcmp(side->buffers.tensor[t].name, name))
            return t;
    return -1;
}

static bool say(const struct gradients *g, const char *what, const char *name)
{
    snprintf(g->text, g->bytes, "%s %s: %s %s", g->reference->op->name,
             dlb_pass_names[g->backward.problem.pass], name, what);
    return false;
}

static bool same_elements(const struct side *a, int t, const struct side *b, int u)
{
    return dlb_tensor_elements(&a->buffers.tensor[t]) ==
           dlb_tensor_elements(&b->buffers.tensor[u]);
}

/* Gives the backward pass what the forward pass has under the same name. */
static bool connect(struct gradients *g)
{
    static const char prefix[] = "diff_";
    const size_t length = sizeof prefix - 1;
    struct side *forward = &g->forward, *backward = &g->backward;
    memset(g->diff, -1, sizeof g->diff);
    for (int u = 0; u < backward->buffers.tensors; u++) {
        const struct dlb_tensor *tensor = &backward->buffers.tensor[u];
        bool diff = !strncmp(tensor->name, prefix, length);
        int t = find(forward, tensor->name + (diff ? length : 0));
        if (t < 0 || (!diff && dlb_role_written(tensor->role)))
            return say(g, "has no counterpart in the forward pass", tensor->name);
        if (!same_elements(forward, t, backward, u))
            return say(g, "has another size than in the forward pass", tensor->name);
        bool written = dlb_role_written(forward->buffers.tensor[t].role);
        if (diff && written == dlb_role_written(tensor->role))
            return say(g, "runs the wrong way", tensor->name);
        if (diff) {
            g->diff[t] = u;
            continue;
        }
        float *to = backward->buffers.data[u], *from = forward->buffers.data[t];
        for (int64_t i = 0; i < dlb_tensor_elements(tensor); i++)
            to[i] = written ? (float)forward->value[t][i] : from[i];
    }
    return true;
}

static double loss(struct gradients *g)
{
    double sum = 0;
    define(g, &g->forward);
    for (int t = 0; t < g->forward.buffers.tensors; t++) {
        const struct dlb_tensor *tensor = &g->forward.buffers.tensor[t];
        if (!dlb_role_written(tensor->role) || g->diff[t] < 0)
            continue;
        const float *diff = g->backward.buffers.data[g->diff[t]];
        for (int64_t i = 0; i < dlb_tensor_elements(tensor); i++)
            sum += diff[i] * g->forward.value[t][i];
    }
    return sum;
}

static double slope(struct gradients *g, float *x, double step)
{
    float middle = *x;
    *x = (float)(middle + step);
    double above = loss(g);
    *x = (float)(middle - step);
    double below = loss(g);
    *x = middle;
    return (above - below) / (2 * step);
}

/* False at a kink. */
static bool differentiate(struct gradients *g, float *x, double scale, double *derivative)
{
    double coarse = slope(g, x, STEP), middle = slope(g, x, STEP / 2),
           fine = slope(g, x, STEP / 4);
    double first = (4 * middle - coarse) / 3, second = (4 * fine - middle) / 3;
    *derivative = (16 * second - first) / 15;
    return fabs(second - first) <= TOLERANCE * scale;
}

static bool check_tensor(struct gradients *g, int t)
{
    const struct dlb_tensor *tensor = &g->forward.buffers.tensor[t];
    const double *got = g->backward.value[g->diff[t]];
    int64_t n = dlb_tensor_elements(tensor), seen = 0, judged = 0;
    float *data = g->forward.buffers.data[t];
    double scale = 1e-3;
    for (int64_t i = 0; i < n; i++)
        scale = fmax(scale, fabs(got[i]));
    for (int64_t i = 0; i < n; i += dlb_div_up(n, ELEMENTS), seen++) {
        double wanted;
        if (!differentiate(g, &data[i], scale, &wanted))
            continue;
        judged++;
        if (!(fabs(got[i] - wanted) <= TOLERANCE * scale)) {
            snprintf(g->text, g->bytes, "%s %s: diff_%s[%lld] is %.9g, numerically %.9g",
                     g->reference->op->name, dlb_pass_names[g->backward.problem.pass],
                     tensor->name, (long long)i, got[i], wanted);
            return false;
        }
    }
    return 2 * judged >= seen ? true
                              : say(g, "has too many kinks to judge", tensor->name);
}

bool dlb_gradient_check(const struct dlb_reference *reference, const char *descriptor,
                        enum dlb_pass pass, char *text, size_t bytes)
{
    const struct dlb_op *op = reference->op;
    struct gradients g = {.reference = reference, .text = text, .bytes = bytes};
    enum dlb_pass forward = op->passes & 1u << DLB_FWD_TRAIN ? DLB_FWD_TRAIN : DLB_FWD;
    side_open(&g.forward, op, descriptor, forward);
    side_open(&g.backward, op, descriptor, pass);
    define(&g, &g.forward);
    bool right = connect(&g);
    if (right)
        define(&g, &g.backward);
    for (int t = 0; right && t < g.forward.buffers.tensors; t++)
        if (!dlb_role_written(g.forward.buffers.tensor[t].role) && g.diff[t] >= 0)
            right = check_tensor(&g, t);
    side_close(&g.forward);
    side_close(&g.backward);
    return right;
}
