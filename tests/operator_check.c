#include "operator_check.h"

#include "measure/verify.h"
#include "suite/descriptor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "pool_fixture.h"

enum { TEAM_MAX = 3 };

/* Sanitizers take ten times as long, and look for what a part of the candidates shows. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { THINNED = 4 };
#else
enum { THINNED = 1 };
#endif

static const char *const teams[TEAM_MAX + 1] = {NULL, "1", "2", "3"};

int dlb_check_close(void **state)
{
    return pool_close(state);
}

struct dlb_problem dlb_check_problem(const struct dlb_op *op, const char *descriptor,
                                     enum dlb_pass pass)
{
    struct dlb_problem problem = {.pass = pass, .dtype = DLB_F32};
    struct dlb_error error = {""};
    char name[DLB_NAME_MAX];
    if (dlb_descriptor_parse(op, descriptor, &problem, name, &error))
        fail_msg("%s", error.text);
    return problem;
}

/* A problem with what it ought to give by the definition, on a team. */
struct bench {
    const struct dlb_operator entry;
    const char *descriptor;
    struct dlb_problem problem;
    struct dlb_pool *pool;
    struct dlb_expected *expected;
    struct dlb_buffers buffers;
    struct dlb_target target;
    int seen, run;
};

static struct bench bench_open(const struct dlb_reference *reference,
                               const char *descriptor, enum dlb_pass pass)
{
    struct bench bench = {.entry = {reference->op, reference, ""},
                          .descriptor = descriptor,
                          .problem = dlb_check_problem(reference->op, descriptor, pass)};
    struct dlb_error error = {""};
    bench.pool = pool_open(teams[1]);
    if (dlb_expected_make(&bench.entry, &bench.problem, bench.pool, true, 42,
                          &bench.expected, &error) ||
        dlb_buffers_make(reference->op, &bench.problem, bench.pool, &bench.buffers,
                         &error))
        fail_msg("%s: %s", descriptor, error.text);
    return bench;
}

static void bench_close(struct bench *bench)
{
    dlb_buffers_release(&bench->buffers);
    dlb_expected_release(bench->expected);
    pool_close(NULL);
}

static void describe(char *text, size_t bytes, const char *descriptor,
                     const struct dlb_op *op, const struct dlb_target *target,
                     const struct dlb_candidate *candidate)
{
    char tiles[DLB_SHAPE_MAX];
    dlb_candidate_format(op, candidate, tiles);
    snprintf(text, bytes, "%s %s, %s on %d threads: %s", op->name, descriptor,
             dlb_isa_name(target->isa), target->threads, tiles);
}

/* Takes the plan over. */
static void verify(struct bench *bench, struct dlb_plan *plan, const char *what)
{
    struct dlb_check check;
    struct dlb_error error = {""};
    if (dlb_verify(bench->expected, &bench->buffers, plan, bench->pool, true, &check,
                   &error))
        fail_msg("%s: %s", what, error.text);
    dlb_plan_release(plan);
    /* Awkward problems may well give zeros. */
    if (check.outcome != DLB_OUTCOME_OK && check.outcome != DLB_OUTCOME_MISTRUSTED)
        fail_msg("%s: %s", what, check.reason);
}

static bool check_candidate(void *context, const struct dlb_candidate *candidate)
{
    struct bench *bench = context;
    const struct dlb_op *op = bench->entry.op;
    const struct dlb_rates none = {0};
    struct dlb_plan *plan = NULL;
    struct dlb_error error = {""};
    char what[1024];
    if (op->refuse(&bench->problem, &bench->target, candidate))
        return true;
    int threads = bench->target.threads;
    int share = THINNED * (threads > 1 ? 2 * threads : 1);
    if (bench->seen++ % share)
        return true;
    describe(what, sizeof what, bench->descriptor, op, &bench->target, candidate);
    if (op->plan(&bench->problem, &bench->target, candidate, &plan, &error))
        fail_msg("%s: %s", what, error.text);
    if (plan->threads != threads || !plan->class->spmd || !plan->layout[0] ||
        !plan->algorithm[0])
        fail_msg("%s: the plan does not say what it is", what);
    if (!(op->estimate(&bench->problem, &bench->target, &none, candidate) > 0))
        fail_msg("%s: the estimate is not positive", what);
    verify(bench, plan, what);
    bench->run++;
    return true;
}

/* Small caches, so that blocks and streaming stores appear. */
static struct dlb_target small_target(int isa, int threads)
{
    return (struct dlb_target){isa, threads, 2048, 8192, 8192};
}

int dlb_check_native(const struct dlb_reference *reference, const char *descriptor,
                     enum dlb_pass pass)
{
    const struct dlb_op *op = reference->op;
    struct bench bench = bench_open(reference, descriptor, pass);
    struct dlb_candidate fallback;
    for (int threads = 1; threads <= TEAM_MAX; threads++) {
        bench.pool = pool_open(teams[threads]);
        for (int isa = 0; isa < DLB_ISA_COUNT; isa++) {
            if (!dlb_isa_usable(isa))
                continue;
            int before = bench.run;
            bench.seen = 0;
            bench.target = small_target(isa, threads);
            op->enumerate(&bench.problem, &bench.target, check_candidate, &bench);
            if (bench.run == before)
                fail_msg("%s: no candidate on %s", descriptor, dlb_isa_name(isa));
            op->fallback(&bench.problem, &bench.target, &fallback);
            const char *reason = op->refuse(&bench.problem, &bench.target, &fallback);
            if (reason)
                fail_msg("%s: the fallback on %s is refused: %s", descriptor,
                         dlb_isa_name(isa), reason);
            /* With caches as they are, where other blocks may come out. */
            bench.target = (struct dlb_target){isa, threads, 32 << 10, 1 << 20, 1 << 21};
            op->fallback(&bench.problem, &bench.target, &fallback);
            bench.seen = 0;
            check_candidate(&bench, &fallback);
        }
    }
    bench_close(&bench);
    return bench.run;
}

int dlb_check_onednn(const struct dlb_reference *reference, const char *descriptor,
                     enum dlb_pass pass)
{
    struct bench bench = bench_open(reference, descriptor, pass);
    int formulation = 0;
    for (int threads = 1; threads <= 2; threads++) {
        bench.pool = pool_open(teams[threads]);
        for (formulation = 0;; formulation++) {
            struct dlb_plan *plan = NULL;
            struct dlb_error error = {""};
            char what[256];
            enum dlb_status status = reference->onednn(
                &bench.problem, dlb_isa_best(), threads, formulation, &plan, &error);
            if (status == DLB_UNSUPPORTED)
                break;
            snprintf(what, sizeof what, "%s, formulation %d of oneDNN on %d threads",
                     descriptor, formulation, threads);
            if (status)
                fail_msg("%s: %s", what, error.text);
            if (plan->threads != threads || plan->class->spmd || !plan->layout[0] ||
                !plan->algorithm[0])
                fail_msg("%s: the plan does not say what it is", what);
            verify(&bench, plan, what);
        }
    }
    bench_close(&bench);
    return formulation;
}

void dlb_check_naive(const struct dlb_reference *reference, const char *descriptor,
                     enum dlb_pass pass)
{
    struct bench bench = bench_open(reference, descriptor, pass);
    for (int threads = 1; threads <= TEAM_MAX; threads++) {
        struct dlb_plan *plan = NULL;
        bench.pool = pool_open(teams[threads]);
        assert_int_equal(reference->naive(&bench.problem, threads, &plan, NULL), DLB_OK);
        assert_true(plan->class->spmd);
        assert_string_equal(plan->class->impl, "naive");
        verify(&bench, plan, descriptor);
    }
    bench_close(&bench);
}

void dlb_check_refusals(const struct dlb_op *op, const char *descriptor,
                        enum dlb_pass pass)
{
    struct dlb_problem problem = dlb_check_problem(op, descriptor, pass);
    struct dlb_target target = {DLB_ISA_SCALAR, 1, 32768, 1 << 20, 1 << 20};
    struct dlb_candidate fallback, bad;
    struct dlb_plan *plan = NULL;
    struct dlb_error error;
    op->fallback(&problem, &target, &fallback);
    for (int i = 0; i < op->tiles_n; i++)
        for (int value = -1; value <= 1 << 20; value += (1 << 20) + 1) {
            bad = fallback;
            bad.tile[i] = value;
            if (!op->refuse(&problem, &target, &bad))
                fail_msg("%s: %s%d is not refused", descriptor, op->tiles[i].key, value);
            assert_int_equal(op->plan(&problem, &target, &bad, &plan, &error),
                             DLB_UNSUPPORTED);
            assert_null(plan);
        }
    bad = fallback;
    bad.algorithm = op->algorithms_n;
    assert_non_null(op->refuse(&problem, &target, &bad));
}

void dlb_check_run(struct dlb_plan *plan, void *const *tensor)
{
    struct dlb_error error = {""};
    struct dlb_pool *pool = pool_open(teams[plan->threads]);
    enum dlb_status status = dlb_pool_bind_plan(pool, plan, tensor, &error);
    if (!status) {
        dlb_pool_run_plan(pool, plan);
        status = dlb_pool_fetch_plan(pool, plan, &error);
    }
    pool_close(NULL);
    if (status)
        fail_msg("%s", error.text);
}

static void put(void *context, int t, int64_t element, double value)
{
    ((double *const *)context)[t][element] = value;
}

void dlb_check_define(const struct dlb_reference *reference,
                      const struct dlb_problem *problem, void *const *tensor,
                      double *const *value)
{
    const struct dlb_sink sink = {put, (void *)value};
    reference->define(problem, tensor, 0, reference->slices(problem), &sink);
}

void dlb_check_define_slice(const struct dlb_reference *reference,
                            const struct dlb_problem *problem, void *const *tensor,
                            double *const *value, int64_t slice)
{
    const struct dlb_sink sink = {put, (void *)value};
    reference->define(problem, tensor, slice, slice + 1, &sink);
}

struct each {
    const struct dlb_op *op;
    const struct dlb_problem *problem;
    struct dlb_target target;
    void (*fn)(void *context, struct dlb_plan *plan, const char *what);
    void *context;
};

static bool each_candidate(void *context, const struct dlb_candidate *candidate)
{
    const struct each *each = context;
    struct dlb_plan *plan = NULL;
    struct dlb_error error = {""};
    char what[1024];
    if (each->op->refuse(each->problem, &each->target, candidate))
        return true;
    describe(what, sizeof what, "", each->op, &each->target, candidate);
    if (each->op->plan(each->problem, &each->target, candidate, &plan, &error))
        fail_msg("%s: %s", what, error.text);
    each->fn(each->context, plan, what);
    dlb_plan_release(plan);
    return true;
}

void dlb_check_each(const struct dlb_op *op, const struct dlb_problem *problem,
                    void (*fn)(void *context, struct dlb_plan *plan, const char *what),
                    void *context)
{
    struct each each = {.op = op, .problem = problem, .fn = fn, .context = context};
    for (int isa = 0; isa < DLB_ISA_COUNT; isa++)
        if (dlb_isa_usable(isa)) {
            each.target = small_target(isa, 1);
            op->enumerate(problem, &each.target, each_candidate, &each);
        }
}
