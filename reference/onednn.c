/*
 * Facts about the loaded oneDNN library, and what its status codes mean to us.
 */
#include "onednn.h"

#include "reference.h"

#include <stdio.h>
#include <string.h>

const char *dlb_onednn_version(void)
{
    static _Thread_local char text[32];
    const dnnl_version_t *version = dnnl_version();
    snprintf(text, sizeof text, "%d.%d.%d", version->major, version->minor,
             version->patch);
    return text;
}

const char *dlb_onednn_runtime(void)
{
    static const struct {
        unsigned runtime;
        const char *name;
    } runtimes[] = {
        {DNNL_RUNTIME_NONE, "NONE"},
        {DNNL_RUNTIME_SEQ, "SEQ"},
        {DNNL_RUNTIME_OMP, "OMP"},
        {DNNL_RUNTIME_TBB, "TBB"},
        {DNNL_RUNTIME_THREADPOOL, "THREADPOOL"},
    };
    unsigned runtime = dnnl_version()->cpu_runtime;
    for (size_t i = 0; i < sizeof runtimes / sizeof *runtimes; i++)
        if (runtimes[i].runtime == runtime)
            return runtimes[i].name;
    return "unknown";
}

enum dlb_status dlb_onednn_cap_isa(enum dlb_isa isa, struct dlb_error *error)
{
    static const struct {
        bool known;
        dnnl_cpu_isa_t cap;
    } caps[DLB_ISA_COUNT] = {
        [DLB_ISA_SCALAR] = {true, dnnl_cpu_isa_sse41},
        [DLB_ISA_SSE2] = {true, dnnl_cpu_isa_sse41},
        [DLB_ISA_AVX2] = {true, dnnl_cpu_isa_avx2},
        [DLB_ISA_AVX512] = {true, dnnl_cpu_isa_avx512_core},
    };
    if (!caps[isa].known)
        return dlb_fail(error, DLB_UNSUPPORTED,
                        "oneDNN cannot be capped at '%s'; accepted: scalar, sse2, avx2 "
                        "and avx512.",
                        dlb_isa_name(isa));
    dnnl_status_t code = dnnl_set_max_cpu_isa(caps[isa].cap);
    if (code == dnnl_success || dnnl_get_effective_cpu_isa() == caps[isa].cap)
        return DLB_OK;
    return dlb_onednn_fail(error, code,
                           "cap its instruction sets (it accepts that only before its "
                           "first primitive, and only on x86)");
}

enum dlb_status dlb_onednn_fail(struct dlb_error *error, dnnl_status_t code,
                                const char *doing)
{
    static const struct {
        dnnl_status_t code;
        enum dlb_status status;
        const char *words;
    } meanings[] = {
        {dnnl_out_of_memory, DLB_NOMEM, "it is out of memory"},
        {dnnl_invalid_arguments, DLB_UNSUPPORTED, "it refuses such arguments"},
        {dnnl_unimplemented, DLB_UNSUPPORTED, "it has no implementation for this"},
        {dnnl_runtime_error, DLB_FAULT, "it met an error while running"},
    };
    enum dlb_status status = DLB_FAULT;
    const char *words = "it met an unexpected state";
    for (size_t i = 0; i < sizeof meanings / sizeof *meanings; i++)
        if (meanings[i].code == code) {
            status = meanings[i].status;
            words = meanings[i].words;
        }
    return dlb_fail(error, status, "oneDNN %s could not %s: %s (status %d).",
                    dlb_onednn_version(), doing, words, (int)code);
}

void dlb_onednn_md_name(const struct dlb_onednn_md *md, const char *letters, char *name,
                        size_t bytes)
{
    struct dlb_onednn_blocking b;
    if (!dlb_onednn_md_blocking(md, &b)) {
        snprintf(name, bytes, "opaque");
        return;
    }
    char text[128];
    size_t length = 0;
    bool blocked[DNNL_MAX_NDIMS] = {false}, placed[DNNL_MAX_NDIMS] = {false};
    for (int i = 0; i < b.blocks; i++)
        blocked[b.block_dim[i]] = true;
    for (int place = 0; place < b.rank; place++) {
        int outermost = -1;
        for (int i = 0; i < b.rank; i++)
            if (!placed[i] && (outermost < 0 || b.strides[i] > b.strides[outermost]))
                outermost = i;
        placed[outermost] = true;
        char letter = letters[outermost];
        text[length++] = (char)(blocked[outermost] ? letter - 'a' + 'A' : letter);
    }
    text[length] = 0;
    for (int i = 0; i < b.blocks && length < sizeof text; i++)
        length += (size_t)snprintf(text + length, sizeof text - length, "%lld%c",
                                   (long long)b.block_size[i], letters[b.block_dim[i]]);
    snprintf(name, bytes, "%s", text);
}

dnnl_status_t
dlb_onednn_matmul_pd(dnnl_primitive_desc_t *pd, const struct dlb_onednn_md *src,
                     const struct dlb_onednn_md *weights, const struct dlb_onednn_md *dst,
                     const_dnnl_primitive_attr_t attributes, dnnl_engine_t engine)
{
    return dlb_onednn_matmul_bias_pd(pd, src, weights, NULL, dst, attributes, engine);
}
