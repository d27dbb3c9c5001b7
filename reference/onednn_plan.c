/*
 * A plan around any sequence of oneDNN primitives: memories, reorders, scratchpads,
 * execution.
 */
#include "onednn.h"
#include "reference.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct operand {
    int tensor;
    bool output, zeroed;
    dlb_onednn_fill_fn *fill;
    int64_t elements;        /* of data */
    dnnl_memory_t canonical; /* the caller's tensor, where it is reordered */
    dnnl_memory_t own;       /* the other side of the reorder */
    dnnl_primitive_t reorder;
    void *data; /* NULL where the tensor is used in place */
};

struct step {
    dnnl_primitive_t primitive;
    int arguments_n; /* the operands' in front, the scratchpad behind */
    dnnl_exec_arg_t argument[DLB_ONEDNN_OPERANDS_MAX + 1];
    int operands_n;
    int operand[DLB_ONEDNN_OPERANDS_MAX];
};

struct onednn_plan {
    struct dlb_plan plan;
    struct dlb_problem problem;
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    void *scratch;                    /* one after another, the steps use the same */
    int operands_n, steps_n, setup_n; /* the first setup_n steps belong to bind */
    struct operand operand[DLB_ONEDNN_OPERANDS_MAX];
    struct step step[DLB_ONEDNN_STEPS_MAX];
    void (*finish)(const struct dlb_problem *problem, void *const *tensor,
                   void *const *operand);
    int tensors_n;
    void *tensor[DLB_TENSORS_MAX];
    dnnl_status_t run_status;
};

dnnl_status_t dlb_onednn_attributes_make(dnnl_primitive_attr_t *attributes)
{
    dnnl_status_t code = dnnl_primitive_attr_create(attributes);
    if (!code)
        code = dnnl_primitive_attr_set_scratchpad_mode(*attributes,
                                                       dnnl_scratchpad_mode_user);
    if (!code)
        code = dnnl_primitive_attr_set_fpmath_mode(*attributes, dnnl_fpmath_mode_strict);
    return code;
}

static dnnl_status_t reorder(struct onednn_plan *self, const struct operand *operand,
                             dnnl_memory_t from, dnnl_memory_t to)
{
    dnnl_exec_arg_t arguments[2] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
    dnnl_status_t code =
        dnnl_primitive_execute(operand->reorder, self->stream, 2, arguments);
    return code ? code : dnnl_stream_wait(self->stream);
}

static dnnl_status_t bind_operand(struct onednn_plan *self, struct operand *operand,
                                  void *const *tensor)
{
    if (operand->fill)
        operand->fill(&self->problem, tensor, operand->elements, operand->data);
    if (!operand->reorder)
        return dnnl_success;
    dnnl_status_t code =
        dnnl_memory_set_data_handle(operand->canonical, tensor[operand->tensor]);
    if (!code && !operand->output)
        code = reorder(self, operand, operand->canonical, operand->own);
    return code;
}

static dnnl_status_t bind_step(struct onednn_plan *self, struct step *step,
                               void *const *tensor)
{
    for (int i = 0; i < step->operands_n; i++) {
        const struct operand *operand = &self->operand[step->operand[i]];
        void *data = operand->data ? operand->data : tensor[operand->tensor];
        dnnl_status_t code = dnnl_memory_set_data_handle(step->argument[i].memory, data);
        if (code)
            return code;
    }
    return dnnl_success;
}

static dnnl_status_t execute(struct onednn_plan *self, int begin, int end)
{
    dnnl_status_t code = dnnl_success;
    for (int i = begin; i < end && !code; i++)
        code = dnnl_primitive_execute(self->step[i].primitive, self->stream,
                                      self->step[i].arguments_n, self->step[i].argument);
    return code ? code : dnnl_stream_wait(self->stream);
}

static enum dlb_status onednn_bind(struct dlb_plan *plan, void *const *tensor,
                                   const struct dlb_team *team, struct dlb_error *error)
{
    struct onednn_plan *self = (struct onednn_plan *)plan;
    dnnl_status_t code = dnnl_success;
    (void)team;
    omp_set_num_threads(plan->threads);
    memcpy(self->tensor, tensor, (size_t)self->tensors_n * sizeof *tensor);
    for (int i = 0; i < self->operands_n && !code; i++)
        code = bind_operand(self, &self->operand[i], tensor);
    for (int i = 0; i < self->steps_n && !code; i++)
        code = bind_step(self, &self->step[i], tensor);
    if (code)
        return dlb_onednn_fail(error, code, "bring an operand into its own layout");
    code = execute(self, 0, self->setup_n);
    if (code)
        return dlb_onednn_fail(error, code, "execute the forward pass");
    return DLB_OK;
}

static void finish(struct onednn_plan *self)
{
    void *data[DLB_ONEDNN_OPERANDS_MAX];
    for (int i = 0; i < self->operands_n; i++)
        data[i] = self->operand[i].data;
    self->finish(&self->problem, self->tensor, data);
}

/* By all threads: it is a part of what is timed. */
static void zero(const struct onednn_plan *self, const struct operand *operand)
{
    char *data = operand->data ? operand->data : self->tensor[operand->tensor];
    const int64_t bytes = operand->elements * (int64_t)sizeof(float), part = 1 << 16;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < bytes; i += part)
        memset(data + i, 0, (size_t)(bytes - i < part ? bytes - i : part));
}

static void onednn_run(struct dlb_plan *plan, const struct dlb_team *team)
{
    struct onednn_plan *self = (struct onednn_plan *)plan;
    (void)team;
    /* Some implementations ask OpenMP again; the caller may have run another plan. */
    omp_set_num_threads(plan->threads);
    for (int i = 0; i < self->operands_n; i++)
        if (self->operand[i].zeroed)
            zero(self, &self->operand[i]);
    dnnl_status_t code = execute(self, self->setup_n, self->steps_n);
    if (code)
        self->run_status = code;
    else if (self->finish)
        finish(self);
}

static enum dlb_status onednn_fetch(struct dlb_plan *plan, const struct dlb_team *team,
                                    struct dlb_error *error)
{
    struct onednn_plan *self = (struct onednn_plan *)plan;
    (void)team;
    if (self->run_status)
        return dlb_onednn_fail(error, self->run_status, "execute a primitive");
    omp_set_num_threads(plan->threads);
    for (int i = 0; i < self->operands_n; i++) {
        struct operand *operand = &self->operand[i];
        if (!operand->output || !operand->reorder)
            continue;
        dnnl_status_t code = reorder(self, operand, operand->own, operand->canonical);
        if (code)
            return dlb_onednn_fail(error, code, "bring a result out of its own layout");
    }
    return DLB_OK;
}

static void release_operand(struct operand *operand)
{
    if (operand->reorder)
        dnnl_primitive_destroy(operand->reorder);
    if (operand->own)
        dnnl_memory_destroy(operand->own);
    if (operand->canonical)
        dnnl_memory_destroy(operand->canonical);
    dlb_free(operand->data);
}

static void release_step(struct step *step)
{
    if (step->primitive)
        dnnl_primitive_destroy(step->primitive);
    for (int i = 0; i < step->arguments_n; i++)
        if (step->argument[i].memory)
            dnnl_memory_destroy(step->argument[i].memory);
}

static void onednn_release(struct dlb_plan *plan)
{
    struct onednn_plan *self = (struct onednn_plan *)plan;
    for (int i = 0; i < self->steps_n; i++)
        release_step(&self->step[i]);
    for (int i = 0; i < self->operands_n; i++)
        release_operand(&self->operand[i]);
    dlb_free(self->scratch);
    if (self->stream)
        dnnl_stream_destroy(self->stream);
    if (self->engine)
        dnnl_engine_destroy(self->engine);
    free(self);
}

static const struct dlb_plan_class onednn_class = {
    .impl = "onednn",
    .spmd = false,
    .bind = onednn_bind,
    .run = onednn_run,
    .fetch = onednn_fetch,
    .release = onednn_release,
};

static dnnl_status_t allocate(struct onednn_plan *self, size_t bytes, void **data)
{
    *data = dlb_alloc(bytes);
    self->plan.workspace_bytes += bytes;
    return *data ? dnnl_success : dnnl_out_of_memory;
}

static void name_layout(struct dlb_plan *plan, const struct dlb_onednn_md *md,
                        const char *letters)
{
    char name[48];
    size_t length = strlen(plan->layout);
    dlb_onednn_md_name(md, letters, name, sizeof name);
    snprintf(plan->layout + length, sizeof plan->layout - length, "%s%s",
             length ? "/" : "", name);
}

/* False when nothing uses operand number. */
static bool first_use(const struct dlb_onednn_recipe *recipe, int number,
                      const_dnnl_primitive_desc_t *pd, int *argument)
{
    for (int s = 0; s < recipe->steps_n; s++)
        for (int i = 0; i < recipe->step[s].uses_n; i++)
            if (recipe->step[s].use[i].operand == number) {
                *pd = recipe->step[s].pd;
                *argument = recipe->step[s].use[i].argument;
                return true;
            }
    return false;
}

static dnnl_status_t make_reorder(struct onednn_plan *self, struct operand *operand,
                                  const struct dlb_onednn_md *canonical,
                                  const struct dlb_onednn_md *own)
{
    dnnl_status_t code =
        dlb_onednn_memory_make(&operand->canonical, canonical, self->engine);
    if (!code)
        code = dlb_onednn_memory_make(&operand->own, own, self->engine);
    if (!code)
        code = dnnl_memory_set_data_handle(operand->own, operand->data);
    if (code)
        return code;
    return operand->output
               ? dlb_onednn_reorder_make(&operand->reorder, own, canonical, self->engine)
               : dlb_onednn_reorder_make(&operand->reorder, canonical, own, self->engine);
}

static dnnl_status_t make_operand(struct onednn_plan *self,
                                  const struct dlb_onednn_recipe *recipe, int number)
{
    const struct dlb_onednn_operand *wanted = &recipe->operand[number];
    struct operand *operand = &self->operand[self->operands_n++];
    struct dlb_onednn_md used = {0};
    const struct dlb_onednn_md *own = &wanted->own;
    const_dnnl_primitive_desc_t pd;
    int argument;
    dnnl_status_t code = dnnl_success;
    if (!first_use(recipe, number, &pd, &argument))
        return code;
    *operand = (struct operand){.tensor = wanted->tensor,
                                .output = wanted->output,
                                .zeroed = wanted->zeroed,
                                .fill = wanted->fill};
    if (!dlb_onednn_md_bytes(own)) {
        code = dlb_onednn_md_of(&used, pd, dnnl_query_exec_arg_md, argument);
        if (code)
            return code;
        own = &used;
    }
    if (wanted->letters)
        name_layout(&self->plan, own, wanted->letters);
    bool in_place =
        wanted->tensor != DLB_ONEDNN_OWN && dlb_onednn_md_equal(own, &wanted->canonical);
    operand->elements = (int64_t)(dlb_onednn_md_bytes(own) / sizeof(float));
    if (!in_place)
        code = allocate(self, dlb_onednn_md_bytes(own), &operand->data);
    if (!code && !in_place && wanted->tensor != DLB_ONEDNN_OWN)
        code = make_reorder(self, operand, &wanted->canonical, own);
    dlb_onednn_md_release(&used);
    return code;
}

static size_t scratch_bytes(const_dnnl_primitive_desc_t pd)
{
    struct dlb_onednn_md md = {0};
    size_t bytes = 0;
    if (!dlb_onednn_md_of(&md, pd, dnnl_query_scratchpad_md, 0))
        bytes = dlb_onednn_md_bytes(&md);
    dlb_onednn_md_release(&md);
    return bytes;
}

/* Its memory is set in bind or by the caller. */
static dnnl_status_t add_argument(struct onednn_plan *self, struct step *step,
                                  int argument, const struct dlb_onednn_md *md)
{
    dnnl_exec_arg_t *made = &step->argument[step->arguments_n];
    dnnl_status_t code = dlb_onednn_memory_make(&made->memory, md, self->engine);
    made->arg = argument;
    step->arguments_n += !code;
    return code;
}

/* The operand's own layout has to do where the primitive does not tell. */
static dnnl_status_t add_use(struct onednn_plan *self, struct step *step,
                             const_dnnl_primitive_desc_t pd, int argument,
                             const struct dlb_onednn_operand *operand)
{
    struct dlb_onednn_md md = {0};
    bool told = !dlb_onednn_md_of(&md, pd, dnnl_query_exec_arg_md, argument) &&
                dlb_onednn_md_bytes(&md);
    dnnl_status_t code = add_argument(self, step, argument, told ? &md : &operand->own);
    dlb_onednn_md_release(&md);
    return code;
}

static dnnl_status_t make_step(struct onednn_plan *self,
                               const struct dlb_onednn_recipe *recipe, int number)
{
    const struct dlb_onednn_step *wanted = &recipe->step[number];
    struct step *step = &self->step[self->steps_n++];
    struct dlb_onednn_md scratch = {0};
    dnnl_status_t code = dnnl_primitive_create(&step->primitive, wanted->pd);
    for (int i = 0; i < wanted->uses_n && !code; i++) {
        int operand = wanted->use[i].operand;
        step->operand[step->operands_n++] = operand;
        code = add_use(self, step, wanted->pd, wanted->use[i].argument,
                       &recipe->operand[operand]);
    }
    if (!code)
        code = dlb_onednn_md_of(&scratch, wanted->pd, dnnl_query_scratchpad_md, 0);
    if (!code && dlb_onednn_md_bytes(&scratch))
        code = add_argument(self, step, DNNL_ARG_SCRATCHPAD, &scratch);
    dlb_onednn_md_release(&scratch);
    return code;
}

static dnnl_status_t make_scratchpads(struct onednn_plan *self,
                                      const struct dlb_onednn_recipe *recipe)
{
    size_t most = 0;
    for (int i = 0; i < recipe->steps_n; i++) {
        size_t bytes = scratch_bytes(recipe->step[i].pd);
        most = bytes > most ? bytes : most;
    }
    if (!most)
        return dnnl_success;
    dnnl_status_t code = allocate(self, most, &self->scratch);
    for (int i = 0; i < self->steps_n && !code; i++) {
        struct step *step = &self->step[i];
        if (step->arguments_n > step->operands_n)
            code = dnnl_memory_set_data_handle(step->argument[step->operands_n].memory,
                                               self->scratch);
    }
    return code;
}

/* The implementation string ends in the instruction set for most: "brgconv:avx2". */
static void name_step(struct dlb_plan *plan, const_dnnl_primitive_desc_t pd)
{
    static const char *const families[] = {"sse", "avx", "asimd", "sve"};
    const char *implementation = NULL;
    size_t length = strlen(plan->algorithm);
    if (dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &implementation) ||
        !implementation)
        return;
    snprintf(plan->algorithm + length, sizeof plan->algorithm - length, "%s%s",
             length ? "+" : "", implementation);
    const char *colon = strrchr(implementation, ':');
    for (size_t i = 0; colon && i < sizeof families / sizeof *families; i++)
        if (!plan->isa[0] && !strncmp(colon + 1, families[i], strlen(families[i])))
            snprintf(plan->isa, sizeof plan->isa, "%s", colon + 1);
}

enum dlb_status dlb_onednn_plan_make(struct dlb_onednn_recipe *recipe,
                                     struct dlb_plan **plan, struct dlb_error *error)
{
    struct onednn_plan *self = calloc(1, sizeof *self);
    if (!self)
        return dlb_fail(error, DLB_NOMEM, "No memory for a plan of oneDNN.");
    self->engine = recipe->engine;
    recipe->engine = NULL;
    self->problem = *recipe->problem;
    self->finish = recipe->finish;
    self->tensors_n = recipe->tensors_n;
    self->setup_n = recipe->setup_n;
    self->plan.class = &onednn_class;
    self->plan.threads = recipe->threads;
    snprintf(self->plan.version, sizeof self->plan.version, "%s", dlb_onednn_version());
    dnnl_status_t code =
        dnnl_stream_create(&self->stream, self->engine, dnnl_stream_default_flags);
    for (int i = 0; i < recipe->operands_n && !code; i++)
        code = make_operand(self, recipe, i);
    for (int i = 0; i < recipe->steps_n && !code; i++) {
        if (i >= recipe->setup_n)
            name_step(&self->plan, recipe->step[i].pd);
        code = make_step(self, recipe, i);
    }
    if (!code)
        code = make_scratchpads(self, recipe);
    if (code) {
        onednn_release(&self->plan);
        return dlb_onednn_fail(error, code, "prepare a primitive");
    }
    *plan = &self->plan;
    return DLB_OK;
}

void dlb_onednn_recipe_release(struct dlb_onednn_recipe *recipe)
{
    for (int i = 0; i < DLB_ONEDNN_OPERANDS_MAX; i++) {
        dlb_onednn_md_release(&recipe->operand[i].canonical);
        dlb_onednn_md_release(&recipe->operand[i].own);
    }
    for (int i = 0; i < DLB_ONEDNN_STEPS_MAX; i++)
        if (recipe->step[i].pd)
            dnnl_primitive_desc_destroy(recipe->step[i].pd);
    if (recipe->engine)
        dnnl_engine_destroy(recipe->engine);
    *recipe = (struct dlb_onednn_recipe){0};
}
