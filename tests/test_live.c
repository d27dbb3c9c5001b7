/* The search on this machine, with plans that are right or wrong and take as long as they
 * are told, ten times apart where it matters. */
#include "measure/timer.h"
#include "ops/conv.h"
#include "tune/live.h"
#include "wrong_plans.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pool_fixture.h"

enum { POINTS = 24, BEST = 17, WRONG = 3, IMPOSSIBLE = 5 };
enum { OTHER_ALGORITHM = 2 }; /* of BEST alone */
enum { STALLED = 5 };         /* execution of BEST, in the first block that is timed */

/* tile[0] of a candidate is its number from 1, and says how it behaves. */
struct spinning_plan {
    struct dlb_plan plan;
    struct dlb_plan *right;
    float *output;
    int number, runs;
};

static double spin_ns(int number, int run)
{
    if (number == BEST)
        return run == STALLED ? 5e6 : 2e4;
    return number == WRONG ? 1e3 : 3e5;
}

static enum dlb_status spinning_bind(struct dlb_plan *plan, void *const *tensor,
                                     const struct dlb_team *team, struct dlb_error *error)
{
    struct spinning_plan *p = (struct spinning_plan *)plan;
    p->output = tensor[DLB_CONV_DST];
    return p->right->class->bind(p->right, tensor, team, error);
}

static void spinning_run(struct dlb_plan *plan, const struct dlb_team *team)
{
    struct spinning_plan *p = (struct spinning_plan *)plan;
    double start = dlb_clock_ns(), spin = spin_ns(p->number, ++p->runs);
    p->right->class->run(p->right, team);
    if (p->number == WRONG)
        p->output[0] += 1;
    while (dlb_clock_ns() - start < spin)
        ;
}

static enum dlb_status spinning_fetch(struct dlb_plan *plan, const struct dlb_team *team,
                                      struct dlb_error *error)
{
    struct spinning_plan *p = (struct spinning_plan *)plan;
    return p->right->class->fetch(p->right, team, error);
}

static void spinning_release(struct dlb_plan *plan)
{
    struct spinning_plan *p = (struct spinning_plan *)plan;
    dlb_plan_release(p->right);
    free(p);
}

static const struct dlb_plan_class spinning = {
    "native", true, spinning_bind, spinning_run, spinning_fetch, spinning_release};

static enum dlb_status plan_spinning(const struct dlb_problem *problem,
                                     const struct dlb_target *target,
                                     const struct dlb_candidate *candidate,
                                     struct dlb_plan **plan, struct dlb_error *error)
{
    if (candidate->tile[0] == IMPOSSIBLE)
        return dlb_fail(error, DLB_UNSUPPORTED, "This one cannot be made.");
    struct spinning_plan *p = calloc(1, sizeof *p);
    assert_non_null(p);
    enum dlb_status status =
        dlb_right_plan.plan(problem, target, candidate, &p->right, error);
    p->plan = *p->right;
    p->plan.class = &spinning;
    p->number = candidate->tile[0];
    *plan = &p->plan;
    return status;
}

static void enumerate(const struct dlb_problem *problem, const struct dlb_target *target,
                      dlb_candidate_fn *emit, void *context)
{
    (void)problem, (void)target;
    for (int i = 1; i <= POINTS; i++) {
        struct dlb_candidate candidate = {.algorithm = i == BEST ? OTHER_ALGORITHM : 0,
                                          .tile = {i}};
        emit(context, &candidate);
    }
}

static const char *refuse(const struct dlb_problem *problem,
                          const struct dlb_target *target,
                          const struct dlb_candidate *candidate)
{
    (void)problem, (void)target, (void)candidate;
    return NULL;
}

static void fallback(const struct dlb_problem *problem, const struct dlb_target *target,
                     struct dlb_candidate *candidate)
{
    (void)problem, (void)target;
    *candidate = (struct dlb_candidate){.tile = {POINTS}};
}

/* The model knows nothing. */
static double estimate(const struct dlb_problem *problem, const struct dlb_target *target,
                       const struct dlb_rates *rates,
                       const struct dlb_candidate *candidate)
{
    (void)problem, (void)target, (void)rates, (void)candidate;
    return 1;
}

struct fixture {
    struct dlb_op op;
    struct dlb_operator entry;
    struct dlb_problem problem;
    struct dlb_target target;
    struct dlb_space space;
    struct dlb_expected *expected;
    struct dlb_buffers buffers;
    struct dlb_pool *pool;
    struct dlb_live *live;
    int refused, mismatches, pruned;
    int last_rung;
    bool timed[POINTS + 1]; /* by number */
};

static enum dlb_status note(void *context, const struct dlb_fate *fate,
                            struct dlb_error *error)
{
    struct fixture *f = context;
    const struct dlb_candidate *candidate = &f->space.candidate[fate->point];
    (void)error;
    if (!strcmp(fate->outcome, "refused")) {
        assert_int_equal(candidate->tile[0], IMPOSSIBLE);
        assert_string_equal(fate->reason, "This one cannot be made.");
        f->refused++;
    } else if (!strcmp(fate->outcome, "mismatch")) {
        assert_int_equal(candidate->tile[0], WRONG);
        f->mismatches++;
    } else if (!strcmp(fate->outcome, "pruned")) {
        f->pruned++;
    } else {
        f->last_rung = (int)dlb_max(f->last_rung, fate->rung);
        f->timed[candidate->tile[0]] = true;
    }
    return DLB_OK;
}

static int open_fixture(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct dlb_error error = {""};
    assert_non_null(f);
    f->op = dlb_op_conv;
    f->op.plan = plan_spinning;
    f->op.enumerate = enumerate;
    f->op.refuse = refuse;
    f->op.fallback = fallback;
    f->op.estimate = estimate;
    f->entry = (struct dlb_operator){&f->op, &dlb_reference_conv, ""};
    for (int i = 0; i < DLB_CONV_DIMS; i++)
        f->problem.dim[i] = f->op.dims[i].fallback;
    f->problem.dim[DLB_CONV_IC] = f->problem.dim[DLB_CONV_OC] = 4;
    f->problem.dim[DLB_CONV_IH] = 3;
    f->problem.dim[DLB_CONV_KH] = 1;
    f->target = (struct dlb_target){.isa = DLB_ISA_SCALAR, .threads = 1};
    f->pool = pool_open("1");
    if (f->op.complete(&f->problem, &error) ||
        dlb_space_make(&f->op, &f->problem, &f->target, NULL, &f->space, &error) ||
        dlb_expected_make(&f->entry, &f->problem, f->pool, false, 1, &f->expected,
                          &error) ||
        dlb_buffers_make(&f->op, &f->problem, f->pool, &f->buffers, &error))
        fail_msg("%s", error.text);
    *state = f;
    return 0;
}

static int close_fixture(void **state)
{
    struct fixture *f = *state;
    dlb_live_release(f->live);
    dlb_buffers_release(&f->buffers);
    dlb_expected_release(f->expected);
    dlb_space_release(&f->space);
    pool_close(NULL);
    free(f);
    return 0;
}

/* Searches the fixture's space on the pool. */
static void search(struct fixture *f, double seconds, const volatile int *stop,
                   struct dlb_search_result *result)
{
    struct dlb_live_setup setup = {.entry = &f->entry,
                                   .problem = &f->problem,
                                   .target = &f->target,
                                   .space = &f->space,
                                   .expected = f->expected,
                                   .buffers = &f->buffers,
                                   .pool = f->pool,
                                   .block_ns = 1e5};
    struct dlb_candidate fallback_candidate;
    int order[POINTS];
    dlb_live_release(f->live);
    assert_int_equal(dlb_live_make(&setup, &f->live, NULL), DLB_OK);
    struct dlb_timings timings = dlb_live_timings(f->live);
    f->op.fallback(&f->problem, &f->target, &fallback_candidate);
    struct dlb_search search = {.timings = &timings,
                                .order = order,
                                .points = f->space.n,
                                .most = dlb_space_most(f->space.n),
                                .seconds = seconds,
                                .stop = stop,
                                .note = note,
                                .context = f};
    search.always =
        dlb_space_order(&f->space, &f->op, &fallback_candidate, NULL, 0, order);
    assert_int_equal(dlb_search_run(&search, result, NULL), DLB_OK);
}

static int winner(const struct fixture *f, const struct dlb_search_result *result)
{
    assert_true(result->found);
    return f->space.candidate[result->best[0]].tile[0];
}

static void the_fastest_right_candidate_wins(void **state)
{
    struct fixture *f = *state;
    struct dlb_search_result result;
    int wrong;
    search(f, 30, NULL, &result);
    assert_int_equal(winner(f, &result), BEST);
    assert_int_equal(result.mismatched, 1);
    const struct dlb_check *check = dlb_live_first_wrong(f->live, &wrong);
    assert_non_null(check);
    assert_int_equal(f->space.candidate[wrong].tile[0], WRONG);
    assert_int_equal(check->outcome, DLB_OUTCOME_MISMATCH);
    assert_int_equal(result.timed, POINTS - 2);
    assert_int_equal(result.left_out, 0);
    assert_int_equal(f->refused, 1);
    assert_int_equal(f->mismatches, 1);
    assert_int_equal(f->pruned, 0);
}

static void without_time_each_algorithm_is_tried_and_the_rest_is_said(void **state)
{
    struct fixture *f = *state;
    struct dlb_search_result result;
    search(f, 0, NULL, &result);
    assert_true(result.found);
    assert_true(f->timed[POINTS] && f->timed[BEST]); /* one of either algorithm */
    assert_true(result.left_out > 0);
    assert_int_equal(f->pruned, result.left_out);
    assert_int_equal(result.verified + f->refused + f->pruned, POINTS);
}

static void a_raised_flag_ends_it_with_the_best_so_far(void **state)
{
    struct fixture *f = *state;
    struct dlb_search_result result;
    volatile int stop = 1;
    search(f, 30, &stop, &result);
    assert_int_equal(winner(f, &result), POINTS);
    assert_int_equal(result.timed, 1);
}

static void a_space_of_wrong_candidates_has_no_winner(void **state)
{
    struct fixture *f = *state;
    struct dlb_search_result result;
    struct dlb_candidate wrong = {.tile = {WRONG}};
    int point;
    f->space.n = 1;
    f->space.candidate[0] = wrong;
    search(f, 30, NULL, &result);
    assert_false(result.found);
    assert_int_equal(result.mismatched, 1);
    assert_non_null(dlb_live_first_wrong(f->live, &point));
    f->space.n = 0;
    search(f, 30, NULL, &result);
    assert_false(result.found);
    assert_null(dlb_live_first_wrong(f->live, &point));
}

/* Plans that were let go are made again, and tell the same. */
static void a_rested_candidate_can_be_timed_again(void **state)
{
    struct fixture *f = *state;
    struct dlb_search_result result;
    search(f, 0, NULL, &result);
    struct dlb_timings timings = dlb_live_timings(f->live);
    double ns = 0;
    for (int i = 0; i < 2; i++) {
        timings.rest(timings.context, result.best[0]);
        assert_int_equal(timings.time(timings.context, result.best[0], &ns, NULL),
                         DLB_OK);
        assert_true(ns >= spin_ns(BEST, 0));
    }
}

static void samples_are_as_long_as_the_time_allows(void **state)
{
    (void)state;
    assert_true(dlb_live_block_ns(1, 1000) == 4e5);
    assert_true(dlb_live_block_ns(1, 500) == 5e5);
    assert_true(dlb_live_block_ns(100, 100) == 1e6);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, open_fixture, close_fixture)
    const struct CMUnitTest tests[] = {
        TEST(the_fastest_right_candidate_wins),
        TEST(without_time_each_algorithm_is_tried_and_the_rest_is_said),
        TEST(a_raised_flag_ends_it_with_the_best_so_far),
        TEST(a_space_of_wrong_candidates_has_no_winner),
        TEST(a_rested_candidate_can_be_timed_again),
        cmocka_unit_test(samples_are_as_long_as_the_time_allows),
    };
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
