#include "tune/space.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { RAW = 12 };

/* Twelve points with mr 1 … 6 twice; 2 and 5 are refused. */
static void enumerate(const struct dlb_problem *problem, const struct dlb_target *target,
                      dlb_candidate_fn *emit, void *context)
{
    (void)problem, (void)target;
    for (int i = 0; i < RAW; i++) {
        struct dlb_candidate candidate = {.tile = {1 + i % 6}};
        if (!emit(context, &candidate))
            return;
    }
}

static const char *refuse(const struct dlb_problem *problem,
                          const struct dlb_target *target,
                          const struct dlb_candidate *candidate)
{
    (void)problem, (void)target;
    return candidate->tile[0] == 2   ? "even prime"
           : candidate->tile[0] == 5 ? "odd prime"
                                     : NULL;
}

/* Falls with mr, but 3 and 4 tie. */
static double estimate(const struct dlb_problem *problem, const struct dlb_target *target,
                       const struct dlb_rates *rates,
                       const struct dlb_candidate *candidate)
{
    (void)problem, (void)target;
    int mr = candidate->tile[0] == 4 ? 3 : candidate->tile[0];
    return (10 - mr) * (rates->peak_gflops > 0 ? 2 : 1);
}

static const struct dlb_op op = {
    .enumerate = enumerate, .refuse = refuse, .estimate = estimate};

static void make(const struct dlb_rates *rates, struct dlb_space *space)
{
    struct dlb_problem problem = {0};
    struct dlb_target target = {0};
    assert_int_equal(dlb_space_make(&op, &problem, &target, rates, space, NULL), DLB_OK);
}

static void legal_points_stand_once_in_their_order(void **state)
{
    (void)state;
    static const int expected[] = {1, 3, 4, 6};
    struct dlb_space space;
    make(NULL, &space);
    assert_int_equal(space.raw, RAW);
    assert_int_equal(space.duplicates, 4);
    assert_int_equal(space.n, 4);
    for (int i = 0; i < space.n; i++) {
        assert_int_equal(space.candidate[i].tile[0], expected[i]);
        assert_int_equal(dlb_space_find(&space, &space.candidate[i]), i);
    }
    dlb_space_release(&space);
    dlb_space_release(&space);
}

static void refusals_are_counted_by_reason(void **state)
{
    (void)state;
    struct dlb_space space;
    struct dlb_candidate refused = {.tile = {2}};
    make(NULL, &space);
    assert_int_equal(space.refusals_n, 2);
    assert_string_equal(space.refusal[0].reason, "even prime");
    assert_int_equal(space.refusal[0].count, 2);
    assert_string_equal(space.refusal[1].reason, "odd prime");
    assert_int_equal(space.refusal[1].count, 2);
    assert_int_equal(dlb_space_find(&space, &refused), -1);
    dlb_space_release(&space);
}

static void ranking_follows_the_model_and_keeps_ties_in_order(void **state)
{
    (void)state;
    struct dlb_space space;
    struct dlb_rates rates = {.peak_gflops = 1};
    int order[RAW];
    make(&rates, &space);
    assert_true(space.model_ns[0] == 18);
    dlb_space_rank(&space, order);
    assert_int_equal(order[0], 3);
    assert_int_equal(order[1], 1);
    assert_int_equal(order[2], 2);
    assert_int_equal(order[3], 0);
    dlb_space_release(&space);
}

/* Tiles mr (a number) and way (named). */
static const char *const ways[] = {"one", "other", NULL};
static const struct dlb_tile_def tiles[] = {{"mr", NULL, ""}, {"way", ways, ""}};
static const struct dlb_op tiled = {.tiles = tiles, .tiles_n = 2, .algorithms_n = 2};
static struct dlb_candidate points[] = {
    {.algorithm = 0, .tile = {4, 1}},  {.algorithm = 0, .tile = {8, 1}},
    {.algorithm = 0, .tile = {16, 1}}, {.algorithm = 0, .tile = {8, 2}},
    {.algorithm = 1, .tile = {4, 1}},  {.algorithm = 1, .tile = {64, 1}},
};
static double model[] = {5, 4, 3, 2, 7, 6};
static const struct dlb_space hand_made = {
    .candidate = points, .model_ns = model, .n = sizeof points / sizeof *points};

static void a_candidate_from_elsewhere_has_a_nearest_point(void **state)
{
    (void)state;
    static const struct {
        struct dlb_candidate candidate;
        int nearest;
    } known[] = {
        {{.algorithm = 0, .tile = {8, 1}}, 1},  {{.algorithm = 0, .tile = {7, 2}}, 3},
        {{.algorithm = 0, .tile = {15, 2}}, 3}, /* 0.9 against 0.1 + 1 */
        {{.algorithm = 0, .tile = {30, 2}}, 2}, /* 1.9 against 0.9 + 1: the first */
        {{.algorithm = 0, .tile = {6, 0}}, 1},  /* an unknown way is neither */
        {{.algorithm = 1, .tile = {20, 1}}, 5}, /* never another algorithm */
        {{.algorithm = 2, .tile = {8, 1}}, -1},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        assert_int_equal(dlb_space_nearest(&hand_made, &tiled, &known[i].candidate),
                         known[i].nearest);
}

static void the_order_of_trying(void **state)
{
    (void)state;
    int order[sizeof points / sizeof *points];
    struct dlb_candidate fallback = points[0];
    struct dlb_candidate seeds[] = {{.algorithm = 0, .tile = {9, 1}},
                                    {.algorithm = 0, .tile = {4, 1}},
                                    {.algorithm = 5}};
    /* Default; the one seed that is new; the best of each algorithm; the model. */
    static const int seeded[] = {0, 1, 3, 5, 2, 4}, plain[] = {0, 3, 5, 2, 1, 4};
    assert_int_equal(dlb_space_order(&hand_made, &tiled, &fallback, seeds, 3, order), 4);
    assert_memory_equal(order, seeded, sizeof seeded);
    assert_int_equal(dlb_space_order(&hand_made, &tiled, &fallback, NULL, 0, order), 3);
    assert_memory_equal(order, plain, sizeof plain);
    fallback.algorithm = 3; /* not in the space */
    assert_int_equal(dlb_space_order(&hand_made, &tiled, &fallback, NULL, 0, order), 2);
    assert_int_equal(order[0], 3);
}

static void large_spaces_are_cut(void **state)
{
    (void)state;
    assert_int_equal(dlb_space_most(7), 7);
    assert_int_equal(dlb_space_most(300), 300);
    assert_int_equal(dlb_space_most(301), 256);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(legal_points_stand_once_in_their_order),
        cmocka_unit_test(refusals_are_counted_by_reason),
        cmocka_unit_test(ranking_follows_the_model_and_keeps_ties_in_order),
        cmocka_unit_test(a_candidate_from_elsewhere_has_a_nearest_point),
        cmocka_unit_test(the_order_of_trying),
        cmocka_unit_test(large_spaces_are_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
