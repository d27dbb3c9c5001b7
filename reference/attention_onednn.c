/*
 * attention by oneDNN: matmul, softmax in place, matmul, over a buffer of all scores.
 * Backward the softmax is made in bind and kept, with all its weights; what is timed is
 * matmul (of the weights' gradient), softmax backward in place, and the matmuls of the
 * gradients of q, k and v, the last two of transposed views.
 *
 * The scale is an attribute of the first matmul.  A mask is added by that matmul's
 * post-op, or by a primitive between the two: for some shapes the post-op leads to
 * oneDNN's slow "ref" matmul.  A causal mask is a buffer of 0 and -inf made in bind; one that hides
 * nothing is left out.
 *
 * Formulations, of these four those in which no step is "ref": operands packed in bind,
 * the queries of a group stacked as rows of one product, or operands read where they are,
 * keys and values broadcast over the group (with a single query stacked here too); the
 * mask as post-op or as primitive.  Backward the mask is in bind, as a primitive, and the
 * sum over a group is that over the stacked rows, so that groups are only packed.
 */
#include "onednn.h"
#include "ops/attention.h"
#include "reference_internal.h"

#include <math.h>
#include <omp.h>
#include <string.h>

enum {
    Q,
    K, /* transposed; V too, backward */
    V,
    DST,
    SCORES,
    MASK,
    SCALE,
    KEYS, /* k, not transposed */
    DIFF_DST,
    DIFF_SCORES,
    DIFF_Q,
    DIFF_K,
    DIFF_V,
    OPERANDS,
    /* further views */
    SCORES_TRANSPOSED = OPERANDS,
    DIFF_SCORES_TRANSPOSED,
    VIEWS
};

/* Minibatch, key/value head, query head within its group, row, column; shapes of rank 4
 * go without the group. */
enum { RANK = 5, GROUP = 2 };

struct formulation {
    bool packed; /* else in place */
    bool fused;  /* the mask is a post-op */
};
static const struct formulation formulations[] = {
    {true, true}, {false, true}, {true, false}, {false, false}};
enum { FORMULATIONS = sizeof formulations / sizeof *formulations };

/* What the primitives are described with: by operand, and the further views. */
struct views {
    struct dlb_onednn_md md[VIEWS];
};

static int operand_of(int view)
{
    return view == SCORES_TRANSPOSED        ? SCORES
           : view == DIFF_SCORES_TRANSPOSED ? DIFF_SCORES
                                            : view;
}

static bool is_masked(const struct dlb_attention_shape *s)
{
    return s->mask == DLB_ATTENTION_BUFFER || dlb_attention_keys(s, 0) < s->sk;
}

static void take_axes(dnnl_dims_t to, int rank, const int64_t *from)
{
    for (int axis = 0; axis < rank; axis++)
        to[axis] = from[axis + (rank < RANK && axis >= GROUP)];
}

static dnnl_status_t make_strided(struct dlb_onednn_md *md, int rank, const int64_t *dims,
                                  const int64_t *strides)
{
    dnnl_dims_t taken_dims, taken_strides;
    take_axes(taken_dims, rank, dims);
    take_axes(taken_strides, rank, strides);
    return dlb_onednn_md_strided(md, rank, taken_dims, taken_strides);
}

static dnnl_status_t make_dense(struct dlb_onednn_md *md, int rank, const int64_t *dims)
{
    int64_t strides[RANK], stride = 1;
    for (int axis = RANK - 1; axis >= 0; axis--) {
        strides[axis] = stride;
        stride *= dims[axis];
    }
    return make_strided(md, rank, dims, strides);
}

static dnnl_status_t make_any(struct dlb_onednn_md *md, const int64_t *dims)
{
    dnnl_dims_t taken;
    take_axes(taken, RANK - 1, dims);
    return dlb_onednn_md_make(md, RANK - 1, taken, dnnl_format_tag_any);
}

/* How the products are cut. */
struct geometry {
    bool packed, stacked;
    int rank;            /* of the products */
    int64_t group, rows; /* group is 1 where the queries of a group are stacked */
};

static struct geometry geometry_of(const struct dlb_attention_shape *s, bool packed)
{
    struct geometry g = {.packed = packed, .stacked = packed || s->sq == 1};
    g.group = g.stacked ? 1 : s->group;
    g.rows = s->group / g.group * s->sq;
    g.rank = g.group == 1 ? RANK - 1 : RANK;
    return g;
}

/* Operands by query (q, dst) and by key (k, v): where they are, and as views. */
static dnnl_status_t describe_queries(const struct dlb_attention_shape *s,
                                      const struct geometry *g, int64_t width,
                                      struct dlb_onednn_operand *operand,
                                      struct dlb_onednn_md *view)
{
    int64_t product[RANK] = {s->mb, s->hk, g->group, g->rows, width};
    int64_t dims[RANK] = {s->mb, s->hk, s->group, s->sq, width};
    int64_t strides[RANK] = {s->sq * s->hq * width, s->group * width, width,
                             s->hq * width, 1};
    int rank = s->group == 1 ? RANK - 1 : RANK;
    dnnl_status_t code;
    operand->letters = s->group == 1 ? "nhsd" : "nhrsd";
    if (g->packed) {
        code = make_strided(&operand->canonical, rank, dims, strides);
        if (!code)
            code = make_dense(&operand->own, rank, dims);
        return code ? code : make_dense(view, g->rank, product);
    }
    if (g->stacked && s->group > 1) {
        operand->letters = "nhrd";
        strides[3] = width;
    }
    code = make_strided(&operand->canonical, g->rank, product, strides);
    return code ? code : make_strided(view, g->rank, product, strides);
}

static dnnl_status_t describe_keys(const struct dlb_attention_shape *s,
                                   const struct geometry *g, int64_t width,
                                   bool transposed, struct dlb_onednn_operand *operand,
                                   struct dlb_onednn_md *view)
{
    int row = transposed ? 4 : 3, column = transposed ? 3 : 4;
    int64_t dims[RANK], strides[RANK] = {s->sk * s->hk * width, width, width};
    memcpy(dims, (int64_t[RANK]){s->mb, s->hk, 1}, sizeof dims);
    dims[row] = s->sk;
    dims[column] = width;
    strides[row] = s->hk * width;
    strides[column] = 1;
    static const char *const letters[2][2] = {{"nhrsd", "nhrds"}, {"nhsd", "nhds"}};
    operand->letters = letters[g->rank < RANK][transposed];
    dnnl_status_t code = make_strided(&operand->canonical, g->rank, dims, strides);
    if (code)
        return code;
    return g->packed ? make_any(view, dims) : make_strided(view, g->rank, dims, strides);
}

static void fill_scale(const struct dlb_problem *problem, void *const *tensor,
                       int64_t elements, float *data)
{
    struct dlb_attention_shape s;
    (void)tensor, (void)elements;
    dlb_attention_shape_get(problem, &s);
    *data = s.scale;
}

/* [mb, copies, sq, sk] of what is added to the scores. */
static void fill_mask(const struct dlb_problem *problem, void *const *tensor,
                      int64_t elements, float *data)
{
    struct dlb_attention_shape s;
    dlb_attention_shape_get(problem, &s);
    int64_t rows = elements / s.sk;
    for (int64_t row = 0; row < rows; row++, data += s.sk) {
        int64_t i = row % s.sq, n = row / (rows / s.mb);
        if (s.mask == DLB_ATTENTION_BUFFER) {
            const float *mask = tensor[DLB_ATTENTION_MASK_BUFFER];
            memcpy(data, mask + (n * s.sq + i) * s.sk, (size_t)s.sk * sizeof *data);
            continue;
        }
        for (int64_t j = 0; j < s.sk; j++)
            data[j] = j < dlb_attention_keys(&s, i) ? 0 : -INFINITY;
    }
}

/* One mask for all heads. */
static dnnl_status_t describe_mask(const struct dlb_attention_shape *s,
                                   const struct geometry *g,
                                   struct dlb_onednn_operand *operand,
                                   struct dlb_onednn_md *view)
{
    int64_t dims[RANK] = {s->mb, 1, 1, g->rows, s->sk};
    dnnl_status_t code = make_dense(view, g->rank, dims);
    if (code)
        return code;
    if (s->mask == DLB_ATTENTION_BUFFER && g->rows == s->sq) {
        operand->tensor = DLB_ATTENTION_MASK_BUFFER;
        return make_dense(&operand->canonical, g->rank, dims);
    }
    operand->fill = fill_mask;
    return dnnl_success;
}

/* All scores, and their transpose over the same memory. */
static dnnl_status_t describe_scores(const struct dlb_attention_shape *s,
                                     const struct geometry *g, struct dlb_onednn_md *view,
                                     struct dlb_onednn_md *transposed)
{
    const int64_t dims[RANK] = {s->mb, s->hk, g->group, g->rows, s->sk};
    const int64_t turned[RANK] = {s->mb, s->hk, g->group, s->sk, g->rows};
    const int64_t head = g->rows * s->sk;
    const int64_t strides[RANK] = {s->hk * g->group * head, g->group * head, head, 1,
                                   s->sk};
    dnnl_status_t code = make_dense(view, g->rank, dims);
    return code ? code : make_strided(transposed, g->rank, turned, strides);
}

static dnnl_status_t describe_operands(const struct dlb_attention_shape *s,
                                       const struct formulation *f,
                                       struct dlb_onednn_operand *operand,
                                       struct views *views)
{
    const struct geometry g = geometry_of(s, f->packed);
    const struct {
        bool backward, forward;
        int operand;
        int64_t width;
        bool queries, transposed;
    } all[] = {
        {true, true, Q, s->d, true, false},
        {true, true, K, s->d, false, true},
        {true, true, V, s->dv, false, s->backward},
        {false, true, DST, s->dv, true, false},
        {true, false, KEYS, s->d, false, false},
        {true, false, DIFF_DST, s->dv, true, false},
        {true, false, DIFF_Q, s->d, true, false},
        {true, false, DIFF_K, s->d, false, false},
        {true, false, DIFF_V, s->dv, false, false},
    };
    struct dlb_onednn_md *md = views->md;
    dnnl_status_t code = describe_scores(s, &g, &md[SCORES], &md[SCORES_TRANSPOSED]);
    if (!code && s->backward)
        code = describe_scores(s, &g, &md[DIFF_SCORES], &md[DIFF_SCORES_TRANSPOSED]);
    for (size_t i = 0; i < sizeof all / sizeof *all && !code; i++) {
        int number = all[i].operand;
        if (!(s->backward ? all[i].backward : all[i].forward))
            continue;
        code = all[i].queries
                   ? describe_queries(s, &g, all[i].width, &operand[number], &md[number])
                   : describe_keys(s, &g, all[i].width, all[i].transposed,
                                   &operand[number], &md[number]);
    }
    if (!code)
        code = dlb_onednn_md_make(&operand[SCALE].own, 1, (dnnl_dims_t){1}, dnnl_x);
    if (!code && is_masked(s))
        code = describe_mask(s, &g, &operand[MASK], &md[MASK]);
    return code;
}

static void add_use(struct dlb_onednn_step *step, int argument, int operand)
{
    step->use[step->uses_n].argument = argument;
    step->use[step->uses_n++].operand = operand;
}

static dnnl_status_t add_mask(dnnl_primitive_attr_t attributes,
                              const struct dlb_onednn_md *mask)
{
    dnnl_post_ops_t post_ops;
    dnnl_status_t code = dnnl_post_ops_create(&post_ops);
    if (code)
        return code;
    code = dlb_onednn_append_add(post_ops, mask);
    if (!code)
        code = dnnl_primitive_attr_set_post_ops(attributes, post_ops);
    dnnl_post_ops_destroy(post_ops);
    return code;
}

/* dst = scale * src * weights, by view; scale 1 is none. */
struct product {
    int src, weights, dst;
    float scale;
    bool masked; /* the mask is added */
};

static dnnl_status_t add_product(struct dlb_onednn_recipe *recipe,
                                 const struct views *views, struct product p)
{
    struct dlb_onednn_step *step = &recipe->step[recipe->steps_n++];
    dnnl_primitive_attr_t attributes = NULL;
    int scale_argument = 0;
    dnnl_status_t code = dlb_onednn_attributes_make(&attributes);
    if (!code && p.scale != 1)
        code = dlb_onednn_attributes_scale(attributes, p.scale, &scale_argument);
    if (!code && p.masked)
        code = add_mask(attributes, &views->md[MASK]);
    if (!code)
        code = dlb_onednn_matmul_pd(&step->pd, &views->md[p.src], &views->md[p.weights],
                                    &views->md[p.dst], attributes, recipe->engine);
    add_use(step, DNNL_ARG_SRC, operand_of(p.src));
    add_use(step, DNNL_ARG_WEIGHTS, operand_of(p.weights));
    add_use(step, DNNL_ARG_DST, operand_of(p.dst));
    if (p.masked)
        add_use(step, DLB_ONEDNN_ADDEND, MASK);
    if (scale_argument)
        add_use(step, scale_argument, SCALE);
    if (attributes)
        dnnl_primitive_attr_destroy(attributes);
    return code;
}

/* Scores become their softmax. */
static dnnl_status_t add_weights(struct dlb_onednn_recipe *recipe,
                                 const struct views *views,
                                 const struct dlb_attention_shape *s, bool fused)
{
    bool masked = is_masked(s);
    const struct dlb_onednn_md *scores = &views->md[SCORES];
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_status_t code = add_product(
        recipe, views, (struct product){Q, K, SCORES, s->scale, masked && fused});
    if (!code)
        code = dlb_onednn_attributes_make(&attributes);
    if (!code && masked && !fused) {
        struct dlb_onednn_step *add = &recipe->step[recipe->steps_n++];
        code = dlb_onednn_binary_pd(&add->pd, dnnl_binary_add, scores, &views->md[MASK],
                                    attributes, recipe->engine);
        add_use(add, DNNL_ARG_SRC_0, SCORES);
        add_use(add, DNNL_ARG_SRC_1, MASK);
        add_use(add, DNNL_ARG_DST, SCORES);
    }
    if (!code) {
        struct dlb_onednn_step *softmax = &recipe->step[recipe->steps_n++];
        code = dlb_onednn_softmax_pd(&softmax->pd, dnnl_softmax_accurate, scores,
                                     attributes, recipe->engine);
        add_use(softmax, DNNL_ARG_SRC, SCORES);
        add_use(softmax, DNNL_ARG_DST, SCORES);
    }
    if (attributes)
        dnnl_primitive_attr_destroy(attributes);
    return code;
}

static dnnl_status_t add_softmax_backward(struct dlb_onednn_recipe *recipe,
                                          const struct views *views)
{
    struct dlb_onednn_step *step = &recipe->step[recipe->steps_n++];
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_status_t code = dlb_onednn_attributes_make(&attributes);
    if (!code)
        code = dlb_onednn_softmax_backward_pd(&step->pd, &views->md[SCORES], attributes,
                                              recipe->engine);
    add_use(step, DNNL_ARG_DST, SCORES);
    add_use(step, DNNL_ARG_DIFF_DST, DIFF_SCORES);
    add_use(step, DNNL_ARG_DIFF_SRC, DIFF_SCORES);
    if (attributes)
        dnnl_primitive_attr_destroy(attributes);
    return code;
}

static dnnl_status_t add_backward(struct dlb_onednn_recipe *recipe,
                                  const struct views *views,
                                  const struct dlb_attention_shape *s)
{
    const struct product gradients[] = {
        {SCORES_TRANSPOSED, DIFF_DST, DIFF_V, 1, false},
        {DIFF_SCORES, KEYS, DIFF_Q, s->scale, false},
        {DIFF_SCORES_TRANSPOSED, Q, DIFF_K, s->scale, false},
    };
    recipe->setup_n = recipe->steps_n;
    dnnl_status_t code =
        add_product(recipe, views, (struct product){DIFF_DST, V, DIFF_SCORES, 1, false});
    if (!code)
        code = add_softmax_backward(recipe, views);
    for (size_t i = 0; i < sizeof gradients / sizeof *gradients && !code; i++)
        code = add_product(recipe, views, gradients[i]);
    return code;
}

static dnnl_status_t add_steps(struct dlb_onednn_recipe *recipe,
                               const struct views *views,
                               const struct dlb_attention_shape *s, bool fused)
{
    dnnl_status_t code = add_weights(recipe, views, s, fused);
    if (code)
        return code;
    return s->backward
               ? add_backward(recipe, views, s)
               : add_product(recipe, views, (struct product){SCORES, V, DST, 1, false});
}

/* The recipe is released by the caller in any case. */
static dnnl_status_t make_recipe(const struct dlb_problem *problem, int threads,
                                 const struct formulation *f,
                                 struct dlb_onednn_recipe *recipe)
{
    struct dlb_attention_shape s;
    struct views views = {0};
    dlb_attention_shape_get(problem, &s);
    *recipe = (struct dlb_onednn_recipe){
        .problem = problem,
        .threads = threads,
        .operand = {[Q] = {.tensor = DLB_ATTENTION_Q},
                    [K] = {.tensor = DLB_ATTENTION_K},
                    [V] = {.tensor = DLB_ATTENTION_V},
                    [DST] = {.tensor = DLB_ATTENTION_DST, .output = true},
                    [SCORES] = {.tensor = DLB_ONEDNN_OWN},
                    [MASK] = {.tensor = DLB_ONEDNN_OWN},
                    [SCALE] = {.tensor = DLB_ONEDNN_OWN, .fill = fill_scale},
                    [KEYS] = {.tensor = DLB_ATTENTION_K},
                    [DIFF_DST] = {.tensor = DLB_ATTENTION_DIFF_DST},
                    [DIFF_SCORES] = {.tensor = DLB_ONEDNN_OWN},
                    [DIFF_Q] = {.tensor = DLB_ATTENTION_DIFF_Q, .output = true},
                    [DIFF_K] = {.tensor = DLB_ATTENTION_DIFF_K, .output = true},
                    [DIFF_V] = {.tensor = DLB_ATTENTION_DIFF_V, .output = true}},
        .operands_n = OPERANDS,
    };
    dnnl_status_t code = dnnl_engine_create(&recipe->engine, dnnl_cpu, 0);
    if (!code)
        code = describe_operands(&s, f, recipe->operand, &views);
    if (!code)
        code = add_steps(recipe, &views, &s, f->fused);
    for (int i = 0; i < VIEWS; i++)
        dlb_onednn_md_release(&views.md[i]);
    return code;
}

/* A matmul by oneDNN's "ref" is; its softmax backward, all there is on AVX2, is not. */
static bool is_slow(const struct dlb_onednn_recipe *recipe)
{
    for (int i = recipe->setup_n; i < recipe->steps_n; i++) {
        const struct dlb_onednn_step *step = &recipe->step[i];
        const char *name = NULL;
        if (step->use[0].argument != DNNL_ARG_DST &&
            !dnnl_primitive_desc_query(step->pd, dnnl_query_impl_info_str, 0, &name) &&
            name && !strncmp(name, "ref", 3))
            return true;
    }
    return false;
}

/* Without a mask, or with it in bind, it is either way the same. */
static bool is_offered(const struct dlb_attention_shape *s, const struct formulation *f)
{
    struct geometry g = geometry_of(s, f->packed);
    if (s->backward)
        return !f->fused && g.group == 1;
    return f->fused || is_masked(s);
}

enum dlb_status dlb_attention_onednn(const struct dlb_problem *problem, enum dlb_isa isa,
                                     int threads, int formulation, struct dlb_plan **plan,
                                     struct dlb_error *error)
{
    (void)isa;
    struct dlb_attention_shape s;
    dlb_attention_shape_get(problem, &s);
    if (!dlb_attention_keys(&s, 0))
        return dlb_fail(error, DLB_UNSUPPORTED,
                        "oneDNN's softmax of a query that sees no key is NaN, not zeros; "
                        "mask-causal-end needs sk of at least sq%lld with oneDNN.",
                        (long long)s.sq);
    omp_set_num_threads(threads);
    int found = 0;
    for (int i = 0; i < FORMULATIONS; i++) {
        if (!is_offered(&s, &formulations[i]))
            continue;
        struct dlb_onednn_recipe recipe;
        enum dlb_status status = DLB_OK;
        dnnl_status_t code = make_recipe(problem, threads, &formulations[i], &recipe);
        bool usable = !code && !is_slow(&recipe);
        bool wanted = usable && found++ == formulation;
        if (wanted)
            status = dlb_onednn_plan_make(&recipe, plan, error);
        dlb_onednn_recipe_release(&recipe);
        if (wanted)
            return status;
    }
    return dlb_fail(error, DLB_UNSUPPORTED,
                    "oneDNN has %d fast formulation%s of this attention.", found,
                    found == 1 ? "" : "s");
}
