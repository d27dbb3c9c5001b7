/*
 * A plan around any oneDNN primitive: memories, reorders, scratchpad, execution.
 */
#include "onednn.h"
#include "reference.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct operand {
    int tensor;
    bool output;
    dnnl_memory_t canonical; /* the caller's tensor */
    dnnl_memory_t own;       /* what the primitive gets; canonical where layouts agree */
    dnnl_primitive_t reorder;
    void *data; /* of own, unless it is canonical */
    size_t bytes;
};

/* What a primitive needs besides its operands. */
enum { SCRATCHPAD, WORKSPACE, HIDDEN };
static const struct {
    dnnl_query_t query;
    int argument;
} hidden_kinds[HIDDEN] = {
    [SCRATCHPAD] = {dnnl_query_scratchpad_md, DNNL_ARG_SCRATCHPAD},
    [WORKSPACE] = {dnnl_query_workspace_md, DNNL_ARG_WORKSPACE},
};

struct hidden {
    dnnl_memory_t memory;
    void *data;
};

struct onednn_plan {
    struct dlb_plan plan;
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_t primitive;
    struct hidden hidden[HIDDEN];
    int operands_n;
    struct operand operands[DLB_ONEDNN_OPERANDS_MAX];
    int arguments_n;
    dnnl_exec_arg_t arguments[DLB_ONEDNN_OPERANDS_MAX + HIDDEN];
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

static enum dlb_status onednn_bind(struct dlb_plan *plan, void *const *tensor,
                                   const struct dlb_team *team, struct dlb_error *error)
{
    struct onednn_plan *self = (struct onednn_plan *)plan;
    (void)team;
    omp_set_num_threads(plan->threads);
    for (int i = 0; i < self->operands_n; i++) {
        struct operand *operand = &self->operands[i];
        if (operand->tensor == DLB_ONEDNN_ZEROS) {
            memset(operand->data, 0, operand->bytes);
            continue;
        }
        dnnl_status_t code =
            dnnl_memory_set_data_handle(operand->canonical, tensor[operand->tensor]);
        if (!code && operand->reorder && !operand->output)
            code = reorder(self, operand, operand->canonical, operand->own);
        if (code)
            return dlb_onednn_fail(error, code, "bring an operand into its own layout");
    }
    return DLB_OK;
}

static void onednn_run(struct dlb_plan *plan, const struct dlb_team *team)
{
    struct onednn_plan *self = (struct onednn_plan *)plan;
    (void)team;
    /* Some implementations ask OpenMP again; the caller may have run another plan. */
    omp_set_num_threads(plan->threads);
    dnnl_status_t code = dnnl_primitive_execute(self->primitive, self->stream,
                                                self->arguments_n, self->arguments);
    if (!code)
        code = dnnl_stream_wait(self->stream);
    if (code)
        self->run_status = code;
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
        struct operand *operand = &self->operands[i];
        if (!operand->output || !operand->reorder)
            continue;
        dnnl_status_t code = reorder(self, operand, operand->own, operand->canonical);
        if (code)
            return dlb_onednn_fail(error, code, "bring a result out of its own layout");
    }
    return DLB_OK;
}

static void onednn_release(struct dlb_plan *plan)
{
    struct onednn_plan *self = (struct onednn_plan *)plan;
    for (int i = 0; i < self->operands_n; i++) {
        struct operand *operand = &self->operands[i];
        if (operand->reorder)
            dnnl_primitive_destroy(operand->reorder);
        if (operand->own && operand->own != operand->canonical)
            dnnl_memory_destroy(operand->own);
        if (operand->canonical)
            dnnl_memory_destroy(operand->canonical);
        dlb_free(operand->data);
    }
    if (self->primitive)
        dnnl_primitive_destroy(self->primitive);
    for (int i = 0; i < HIDDEN; i++) {
        if (self->hidden[i].memory)
            dnnl_memory_destroy(self->hidden[i].memory);
        dlb_free(self->hidden[i].data);
    }
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

/* Memory of our own for md, counted as workspace. */
static dnnl_status_t own_memory(struct onednn_plan *self, const struct dlb_onednn_md *md,
                                dnnl_memory_t *memory, void **data)
{
    size_t bytes = dlb_onednn_md_bytes(md);
    *data = dlb_alloc(bytes);
    if (!*data)
        return dnnl_out_of_memory;
    self->plan.workspace_bytes += bytes;
    dnnl_status_t code = dlb_onednn_memory_make(memory, md, self->engine);
    return code ? code : dnnl_memory_set_data_handle(*memory, *data);
}

static dnnl_status_t make_operand(struct onednn_plan *self, struct operand *operand,
                                  const struct dlb_onednn_operand *wanted,
                                  const struct dlb_onednn_md *md)
{
    *operand = (struct operand){.tensor = wanted->tensor,
                                .output = wanted->output,
                                .bytes = dlb_onednn_md_bytes(md)};
    if (wanted->tensor == DLB_ONEDNN_ZEROS)
        return own_memory(self, md, &operand->own, &operand->data);
    dnnl_status_t code =
        dlb_onednn_memory_make(&operand->canonical, &wanted->canonical, self->engine);
    if (code)
        return code;
    if (dlb_onednn_md_equal(md, &wanted->canonical)) {
        operand->own = operand->canonical;
        return dnnl_success;
    }
    code = wanted->output ? dlb_onednn_reorder_make(&operand->reorder, md,
                                                    &wanted->canonical, self->engine)
                          : dlb_onednn_reorder_make(&operand->reorder, &wanted->canonical,
                                                    md, self->engine);
    return code ? code : own_memory(self, md, &operand->own, &operand->data);
}

static dnnl_status_t make_operands(struct onednn_plan *self,
                                   const_dnnl_primitive_desc_t pd,
                                   const struct dlb_onednn_operand *operands, int n)
{
    size_t layout_length = 0;
    for (int i = 0; i < n; i++) {
        struct dlb_onednn_md md = {0};
        dnnl_status_t code =
            dlb_onednn_md_of(&md, pd, dnnl_query_exec_arg_md, operands[i].argument);
        if (code)
            return code;
        struct operand *operand = &self->operands[self->operands_n++];
        code = make_operand(self, operand, &operands[i], &md);
        if (operands[i].letters && layout_length < sizeof self->plan.layout) {
            char name[48];
            dlb_onednn_md_name(&md, operands[i].letters, name, sizeof name);
            layout_length += (size_t)snprintf(self->plan.layout + layout_length,
                                              sizeof self->plan.layout - layout_length,
                                              "%s%s", layout_length ? "/" : "", name);
        }
        dlb_onednn_md_release(&md);
        if (code)
            return code;
        self->arguments[self->arguments_n++] =
            (dnnl_exec_arg_t){operands[i].argument, operand->own};
    }
    return dnnl_success;
}

static dnnl_status_t make_hidden(struct onednn_plan *self, const_dnnl_primitive_desc_t pd,
                                 int kind)
{
    struct hidden *hidden = &self->hidden[kind];
    struct dlb_onednn_md md = {0};
    dnnl_status_t code = dlb_onednn_md_of(&md, pd, hidden_kinds[kind].query, 0);
    if (code)
        return code;
    if (dlb_onednn_md_bytes(&md)) {
        code = own_memory(self, &md, &hidden->memory, &hidden->data);
        self->arguments[self->arguments_n++] =
            (dnnl_exec_arg_t){hidden_kinds[kind].argument, hidden->memory};
    }
    dlb_onednn_md_release(&md);
    return code;
}

/* The implementation string ends in the instruction set for most: "brgconv:avx2". */
static void name_plan(struct dlb_plan *plan, const_dnnl_primitive_desc_t pd)
{
    static const char *const families[] = {"sse", "avx", "asimd", "sve"};
    const char *implementation = NULL;
    snprintf(plan->version, sizeof plan->version, "%s", dlb_onednn_version());
    if (dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &implementation) ||
        !implementation)
        return;
    snprintf(plan->algorithm, sizeof plan->algorithm, "%s", implementation);
    const char *colon = strrchr(implementation, ':');
    for (size_t i = 0; colon && i < sizeof families / sizeof *families; i++)
        if (!strncmp(colon + 1, families[i], strlen(families[i])))
            snprintf(plan->isa, sizeof plan->isa, "%s", colon + 1);
}

enum dlb_status dlb_onednn_plan_make(dnnl_engine_t engine, const_dnnl_primitive_desc_t pd,
                                     const struct dlb_onednn_operand *operands,
                                     int operands_n, int threads, struct dlb_plan **plan,
                                     struct dlb_error *error)
{
    struct onednn_plan *self = calloc(1, sizeof *self);
    if (!self) {
        dnnl_engine_destroy(engine);
        return dlb_fail(error, DLB_NOMEM, "No memory for a plan of oneDNN.");
    }
    self->engine = engine;
    self->plan.class = &onednn_class;
    self->plan.threads = threads;
    name_plan(&self->plan, pd);
    dnnl_status_t code =
        dnnl_stream_create(&self->stream, engine, dnnl_stream_default_flags);
    if (!code)
        code = make_operands(self, pd, operands, operands_n);
    for (int i = 0; i < HIDDEN && !code; i++)
        code = make_hidden(self, pd, i);
    if (!code)
        code = dnnl_primitive_create(&self->primitive, pd);
    if (code) {
        onednn_release(&self->plan);
        return dlb_onednn_fail(error, code, "prepare a primitive");
    }
    *plan = &self->plan;
    return DLB_OK;
}
