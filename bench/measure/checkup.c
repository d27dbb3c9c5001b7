#include "measure/checkup.h"

#include "machine/ceilings.h"
#include "machine/doctor.h"
#include "measure/buffers.h"
#include "measure/paired.h"
#include "measure/progress.h"
#include "ops.h"
#include "suite/descriptor.h"

#include <math.h>
#include <stdlib.h>

enum { FINDINGS_MAX = 64 };

/* About 15 ms on one core: long enough to meet the usual disturbances. */
static const char *const workload = "mb1ic128ih28oc128kh3ph1";

static void print_findings(const struct dlb_finding *finding, int findings, FILE *out)
{
    static const struct {
        const char *word;
        enum dlb_colour colour;
    } look[] = {
        [DLB_FINDING_OK] = {"ok", DLB_COLOUR_GOOD},
        [DLB_FINDING_NOTE] = {"note", DLB_COLOUR_DIM},
        [DLB_FINDING_WARNING] = {"warning", DLB_COLOUR_WARN},
    };
    for (int i = 0; i < findings; i++) {
        const struct dlb_finding *f = &finding[i];
        fprintf(out, "%s%-8s%s %-16s %s\n", dlb_colour(out, look[f->level].colour),
                look[f->level].word, dlb_colour(out, DLB_COLOUR_RESET), f->subject,
                f->what);
        if (f->remedy[0])
            fprintf(out, "%26sremedy: %s\n", "", f->remedy);
    }
}

static enum dlb_status measure_set(const struct dlb_topology *topology,
                                   const struct dlb_thread_set *set, enum dlb_isa isa,
                                   FILE *out, struct dlb_error *error)
{
    const struct dlb_op *op = dlb_operator_find("conv")->op;
    struct dlb_problem problem = {0};
    struct dlb_candidate candidate;
    struct dlb_buffers buffers = {0};
    struct dlb_plan *plan = NULL;
    struct dlb_pool *pool = NULL;
    struct dlb_rates rates;
    struct dlb_ratio ratio;
    char name[DLB_NAME_MAX];
    double floor = NAN;
    struct dlb_target target = {.isa = isa,
                                .threads = set->threads,
                                .l1d_bytes = topology->cache[1].bytes,
                                .l2_bytes = topology->cache[2].bytes,
                                .l3_bytes = set->l3_bytes_per_thread};
    enum dlb_status status = dlb_descriptor_parse(op, workload, &problem, name, error);
    if (!status)
        status = dlb_pool_open(topology, set, &pool, error);
    if (status)
        return status;
    status = dlb_ceilings_measure(pool, topology, target.isa, 1.0, &rates, error);
    if (status)
        goto out;
    op->fallback(&problem, &target, &candidate);
    status = op->plan(&problem, &target, &candidate, &plan, error);
    if (!status)
        status = dlb_buffers_make(op, &problem, pool, &buffers, error);
    if (status)
        goto out;
    dlb_buffers_fill(&buffers, DLB_FILL_DENSE, 1, pool);
    status = dlb_pool_bind_plan(pool, plan, buffers.data, error);
    if (status)
        goto out;
    struct dlb_gauge gauge = {.pool = pool,
                              .isa = target.isa,
                              .min_seconds = 0.5,
                              .max_seconds = 3,
                              .min_samples = 21,
                              .ci_width = 0.01};
    status = dlb_noise_floor(&gauge, plan, &floor, &ratio, error);
    if (status)
        goto out;
    fprintf(
        out,
        "%-8s %7.0f GFLOP/s, GB/s L1 %.0f L2 %.0f L3 %.0f memory %.0f copy %.0f, barrier "
        "%.0f ns\n",
        set->name, rates.peak_gflops, rates.l1_gbs, rates.l2_gbs, rates.l3_gbs,
        rates.memory_gbs, rates.copy_gbs, rates.barrier_ns);
    fprintf(out, "%-8s A/A of a convolution: %.4f [%.4f, %.4f], noise floor %.2f%%, %s\n",
            "", ratio.median, ratio.ci_lo, ratio.ci_hi, 100 * floor,
            dlb_judge_ratio(&ratio, 0) == DLB_SAME ? "no difference, as it should be"
                                                   : "a difference where there is none");
out:
    dlb_plan_release(plan);
    dlb_buffers_release(&buffers);
    dlb_pool_close(pool);
    return status;
}

enum dlb_status dlb_checkup_run(const struct dlb_topology *topology,
                                const struct dlb_options *options, FILE *out,
                                struct dlb_error *error)
{
    struct dlb_finding finding[FINDINGS_MAX];
    enum dlb_isa isa = dlb_isa_best();
    enum dlb_status status =
        options->isa ? dlb_isa_parse(options->isa, &isa, error) : DLB_OK;
    if (status)
        return status;
    dlb_topology_summary(topology, out);
    int findings = dlb_doctor_examine(topology, "", finding, FINDINGS_MAX);
    print_findings(finding, findings, out);
    fprintf(out, "\nMeasured on %s:\n", dlb_isa_name(isa));
    fflush(out);
    struct dlb_thread_set *set = calloc(DLB_THREAD_SETS_MAX, sizeof *set);
    int sets = 0;
    if (!set)
        return dlb_fail(error, DLB_NOMEM, "No memory is left for the thread sets.");
    status = dlb_thread_sets_parse(topology, options->threads, options->oversubscribe,
                                   set, &sets, error);
    for (int i = 0; i < sets && !status; i++)
        status = measure_set(topology, &set[i], isa, out, error);
    free(set);
    return status;
}
