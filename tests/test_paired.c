#include "measure/paired.h"
#include "simulated_machine.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct bench {
    struct machine machine;
    struct dlb_gauge_hooks hooks;
    struct dlb_gauge gauge;
    struct dlb_measured measured[DLB_ARMS_MAX];
    struct dlb_ratio ratio[DLB_ARMS_MAX];
};

static int bench_make(void **state)
{
    struct bench *bench = calloc(1, sizeof *bench);
    bench->machine.tick = 20;
    bench->hooks = (struct dlb_gauge_hooks){.context = &bench->machine,
                                            .clock_ns = fake_clock,
                                            .probe_gflops = fake_probe,
                                            .run = fake_run,
                                            .evict = fake_evict,
                                            .tick_ns = 20};
    bench->gauge = (struct dlb_gauge){.min_seconds = 0.3,
                                      .max_seconds = 5,
                                      .min_samples = 21,
                                      .ci_width = 0.01,
                                      .seed = 1,
                                      .stop = &bench->machine.stop,
                                      .hooks = &bench->hooks};
    *state = bench;
    return 0;
}

static void release_all(struct bench *bench)
{
    for (int i = 0; i < DLB_ARMS_MAX; i++) {
        dlb_measured_release(&bench->measured[i]);
    }
}

static int bench_release(void **state)
{
    release_all(*state);
    free(*state);
    return 0;
}

static enum dlb_status measure(struct bench *bench, struct fake_plan *plan, int arms,
                               struct dlb_error *error)
{
    struct dlb_plan *arm[DLB_ARMS_MAX];
    for (int i = 0; i < arms; i++) {
        arm[i] = &plan[i].plan;
    }
    release_all(bench);
    return dlb_measure(&bench->gauge, arm, arms, bench->measured, bench->ratio, error);
}

static void assert_near(double value, double expected, double tolerance)
{
    if (!(fabs(value - expected) <= tolerance)) {
        fail_msg("%.17g is not within %g of %.17g", value, tolerance, expected);
    }
}

/* Calls see for the events between each two probes; returns the number of rounds. */
static int each_round(const struct machine *machine,
                      void (*see)(const char *events, void *context), void *context)
{
    const char *probe = strchr(machine->log, 'P'), *next;
    int rounds = 0;
    for (; probe && (next = strchr(probe + 1, 'P')); probe = next) {
        char events[256] = "";
        assert_true(next - probe < 256);
        memcpy(events, probe + 1, (size_t)(next - probe - 1));
        see(events, context);
        rounds++;
    }
    return rounds;
}

struct seen {
    int forward, backward, other;
};

static void see_two_arms(const char *events, void *context)
{
    struct seen *seen = context;
    bool forward = !strcmp(events, "aabbbbaa"), backward = !strcmp(events, "bbaaaabb");
    seen->forward += forward;
    seen->backward += backward;
    seen->other += !forward && !backward;
}

/* Each block is one execution of 1 ms and one before it. */
static void test_two_arms_mirrored(void **state)
{
    struct bench *bench = *state;
    struct fake_plan plan[] = {fake('a', 1.2e6), fake('b', 1.3e6)};
    struct seen seen = {0};
    assert_int_equal(measure(bench, plan, 2, NULL), DLB_OK);
    int rounds = each_round(&bench->machine, see_two_arms, &seen);
    assert_int_equal(rounds, bench->measured[0].samples);
    assert_int_equal(rounds, bench->measured[1].samples);
    assert_int_equal(seen.other, 0);
    assert_true(seen.forward > rounds / 4 && seen.backward > rounds / 4);
    assert_near(bench->measured[0].summary.median, 1.2e6, 1);
    assert_near(bench->measured[1].summary.median, 1.3e6, 1);
    assert_near(bench->ratio[0].median, 1, 0);
    assert_near(bench->ratio[1].median, 1.3 / 1.2, 1e-9);
}

static void see_four_arms(const char *events, void *context)
{
    int *first = context, last = (int)strlen(events) - 1;
    assert_int_equal(last, 15);
    for (int i = 0; i <= last; i++) {
        assert_int_equal(events[i], events[last - i]);
    }
    for (char letter = 'a'; letter <= 'd'; letter++) {
        assert_non_null(strchr(events, letter));
    }
    first[*events - 'a']++;
}

static void test_four_arms_mirrored(void **state)
{
    struct bench *bench = *state;
    struct fake_plan plan[] = {fake('a', 1.2e6), fake('b', 1.3e6), fake('c', 1.4e6),
                               fake('d', 1.5e6)};
    int first[4] = {0};
    assert_int_equal(measure(bench, plan, 4, NULL), DLB_OK);
    int rounds = each_round(&bench->machine, see_four_arms, first);
    for (int i = 0; i < 4; i++) {
        assert_true(first[i] > rounds / 10);
        assert_near(bench->ratio[i].median, plan[i].ns / plan[0].ns, 1e-9);
    }
}

static void test_order_comes_from_seed(void **state)
{
    struct bench *bench = *state;
    struct fake_plan plan[] = {fake('a', 1.2e6), fake('b', 1.3e6)};
    static char log[2][LOG_MAX];
    for (int i = 0; i < 3; i++) {
        bench->machine = (struct machine){.tick = 20};
        bench->gauge.seed = i < 2 ? 5 : 6;
        assert_int_equal(measure(bench, plan, 2, NULL), DLB_OK);
        if (i == 0) {
            memcpy(log[0], bench->machine.log, LOG_MAX);
        } else {
            assert_int_equal(!memcmp(log[0], bench->machine.log, LOG_MAX), i == 1);
        }
    }
}

static void test_blocks_are_long_enough(void **state)
{
    struct bench *bench = *state;
    static const double ns[] = {50, 10e3, 0.4e6, 3e6}, ticks[] = {20, 10e3};
    for (int i = 0; i < 8; i++) {
        struct fake_plan plan = fake('a', ns[i % 4]);
        double block_ns = fmax(1e6, 1000 * ticks[i / 4]);
        bench->hooks.tick_ns = ticks[i / 4];
        assert_int_equal(measure(bench, &plan, 1, NULL), DLB_OK);
        double block = bench->measured[0].inner_reps * plan.ns;
        assert_true(block >= block_ns * (1 - 1e-9));
        assert_true(block <= fmax(1.1 * block_ns + plan.ns, plan.ns));
        assert_true(bench->measured[0].warmup >= 3);
        assert_true(bench->measured[0].warmup * plan.ns >= 0.99 * 30e6);
        assert_true(bench->measured[0].clean >= 21);
        assert_false(bench->measured[0].noisy || bench->measured[0].capped);
    }
}

static void test_warm_up_waits_for_agreement(void **state)
{
    struct bench *bench = *state;
    struct fake_plan plan = fake('a', 10e6);
    assert_int_equal(measure(bench, &plan, 1, NULL), DLB_OK);
    assert_int_equal(bench->measured[0].warmup, 3);
    bench->machine = (struct machine){.sigma = 0.5};
    assert_int_equal(measure(bench, &plan, 1, NULL), DLB_OK);
    assert_in_range(bench->measured[0].warmup, 8, 60);
    plan.ns = 3e9;
    assert_int_equal(measure(bench, &plan, 1, NULL), DLB_OK);
    assert_int_equal(bench->measured[0].warmup, 1);
}

static void test_enough_timed_work(void **state)
{
    struct bench *bench = *state;
    struct fake_plan plan[] = {fake('a', 1.2e6), fake('b', 2.4e6)};
    assert_int_equal(measure(bench, plan, 2, NULL), DLB_OK);
    double timed_ns = 2 * bench->measured[0].clean * 1.2e6;
    assert_true(timed_ns >= 0.3e9 && timed_ns < 0.36e9);
}

static void test_hot_is_hot(void **state)
{
    struct bench *bench = *state;
    struct fake_plan plan[] = {fake('a', 1.2e6), fake('b', 1.2e6)};
    bench->machine.switch_cost = 0.5;
    assert_int_equal(measure(bench, plan, 2, NULL), DLB_OK);
    assert_near(bench->measured[0].summary.max, 1.2e6, 1);
    assert_near(bench->measured[1].summary.max, 1.2e6, 1);
}

static void see_cold(const char *events, void *context)
{
    (void)context;
    assert_true(!strcmp(events, "EaEbEbEa") || !strcmp(events, "EbEaEaEb"));
}

static void test_cold_is_evicted(void **state)
{
    struct bench *bench = *state;
    struct fake_plan plan[] = {fake('a', 1e4), fake('b', 2e4)};
    bench->gauge.cache_state = DLB_CACHE_COLD;
    bench->gauge.evict_bytes = 1 << 20;
    bench->gauge.min_seconds = 1e-3;
    assert_int_equal(measure(bench, plan, 2, NULL), DLB_OK);
    each_round(&bench->machine, see_cold, NULL);
    assert_int_equal(bench->machine.evictions, bench->machine.executions);
    assert_int_equal(bench->measured[0].inner_reps, 1);
    assert_near(bench->measured[1].summary.median, 2e4, 1); /* without the eviction */
}

static void test_contaminated_is_repeated(void **state)
{
    struct bench *bench = *state;
    struct fake_plan plan[] = {fake('a', 10e6), fake('b', 11e6)};
    bench->machine.slow_from = 0.4e9;
    bench->machine.slow_to = 0.9e9;
    assert_int_equal(measure(bench, plan, 2, NULL), DLB_OK);
    const struct dlb_measured *m = &bench->measured[0];
    int contaminated = 0;
    for (int i = 0; i < m->samples; i++) {
        contaminated += m->sample[i].contaminated;
        if (m->sample[i].ns > 10.01e6) {
            assert_true(m->sample[i].contaminated);
        }
    }
    assert_true(contaminated >= 3);
    assert_int_equal(m->clean, m->samples - contaminated);
    assert_true(m->clean >= 21);
    assert_near(m->contaminated_frac, (double)contaminated / m->samples, 1e-12);
    assert_false(m->noisy);
    assert_int_equal(m->summary.n, m->clean);
    assert_int_equal(bench->ratio[1].n, m->clean);
    assert_near(m->summary.max, 10e6, 1);
    assert_near(bench->ratio[1].ci_hi, 1.1, 1e-9);
}

/* A session that begins slow learns of it late, and takes back what it believed. */
static void test_slow_start_is_judged_anew(void **state)
{
    struct bench *bench = *state;
    struct fake_plan plan[] = {fake('a', 10e6)};
    bench->machine.slow_to = 0.5e9;
    assert_int_equal(measure(bench, plan, 1, NULL), DLB_OK);
    const struct dlb_measured *m = &bench->measured[0];
    assert_true(m->sample[0].contaminated);
    assert_true(m->sample[0].ns > 19e6);
    assert_true(m->clean >= 21 && m->clean < m->samples);
    assert_near(m->summary.max, 10e6, 1);
    assert_near(bench->gauge.best_probe, 100, 5);
}

/* The best probe belongs to the session: here earlier measurements saw a faster machine.
 */
static void test_never_clean(void **state)
{
    struct bench *bench = *state;
    struct fake_plan plan[] = {fake('a', 2e6), fake('b', 2e6)};
    double floor = 0;
    bench->gauge.best_probe = 1000;
    assert_int_equal(measure(bench, plan, 2, NULL), DLB_OK);
    const struct dlb_measured *m = &bench->measured[0];
    assert_true(m->noisy && m->capped);
    assert_int_equal(m->clean, 0);
    assert_int_equal(m->samples, 42);
    assert_near(m->contaminated_frac, 1, 0);
    assert_true(isnan(m->summary.median) && isnan(bench->ratio[1].median));
    assert_near(bench->gauge.best_probe, 1000, 0);
    assert_int_equal(dlb_noise_floor(&bench->gauge, &plan[0].plan, &floor, NULL, NULL),
                     DLB_OK);
    assert_true(isnan(floor));
}

/* Kernels that load as well as multiply run at a lower clock than the probe's best. */
static void test_a_lower_clock_is_no_disturbance(void **state)
{
    struct bench *bench = *state;
    struct fake_plan plan[] = {fake('a', 2e6)};
    bench->gauge.best_probe = 125;
    assert_int_equal(measure(bench, plan, 1, NULL), DLB_OK);
    const struct dlb_measured *m = &bench->measured[0];
    assert_false(m->noisy);
    assert_near(m->contaminated_frac, 0, 1e-12);
    assert_near(m->probe_gflops, 100, 5);
}

/* Half a minute of slowness every now and then: a quarter of the time. */
static void test_episodes_do_not_show(void **state)
{
    struct bench *bench = *state;
    struct fake_plan plan[] = {fake('a', 4e6), fake('b', 4.2e6)};
    bench->machine.sigma = 0.01;
    bench->machine.slow_every = 0.4e9;
    bench->machine.slow_ns = 0.1e9;
    assert_int_equal(measure(bench, plan, 2, NULL), DLB_OK);
    assert_true(bench->measured[0].contaminated_frac > 0.1);
    assert_near(bench->measured[0].summary.median, 4e6, 0.04e6);
    assert_near(bench->ratio[1].median, 1.05, 0.01);
    assert_int_equal(dlb_judge_ratio(&bench->ratio[1], 0.01), DLB_SLOWER);
}

static void test_drift_cancels(void **state)
{
    struct bench *bench = *state;
    struct fake_plan plan[] = {fake('a', 10e6), fake('b', 10e6), fake('c', 10.5e6)};
    bench->machine.drift = 0.3;
    bench->gauge.max_seconds = 2;
    assert_int_equal(measure(bench, plan, 3, NULL), DLB_OK);
    const struct dlb_summary *s = &bench->measured[0].summary;
    assert_true(s->max > 1.2 * s->min); /* there was a drift */
    assert_near(bench->ratio[1].median, 1, 1e-3);
    assert_true(bench->ratio[1].ci_lo > 0.995 && bench->ratio[1].ci_hi < 1.005);
    assert_near(bench->ratio[2].median, 1.05, 2e-3);
}

static void test_difference_is_found(void **state)
{
    struct bench *bench = *state;
    int found = 0, same = 0;
    for (uint64_t i = 0; i < 200; i++) {
        struct fake_plan plan[] = {fake('a', 3e6), fake('b', 3e6), fake('c', 3e6 * 1.05)};
        bench->machine = (struct machine){.sigma = 0.02, .drift = 0.1, .random = i << 32};
        bench->gauge.seed = i;
        assert_int_equal(measure(bench, plan, 3, NULL), DLB_OK);
        same += dlb_judge_ratio(&bench->ratio[1], 0) == DLB_SAME;
        found += dlb_judge_ratio(&bench->ratio[2], 0) == DLB_SLOWER;
    }
    assert_true(same >= 194);
    assert_true(found >= 180);
}

static void test_cap_on_time(void **state)
{
    struct bench *bench = *state;
    struct fake_plan plan[] = {fake('a', 2e6), fake('b', 2e6)};
    bench->machine.sigma = 0.5;
    bench->gauge.max_seconds = 1;
    assert_int_equal(measure(bench, plan, 2, NULL), DLB_OK);
    assert_true(bench->measured[0].capped && !bench->measured[0].noisy);
    assert_true(bench->machine.now > 2e9 && bench->machine.now < 3.2e9);
}

static void see_long(const char *events, void *context)
{
    (void)context;
    assert_true(!strcmp(events, "ab") || !strcmp(events, "ba"));
}

static void test_long_blocks(void **state)
{
    static const struct {
        double ns, max_seconds, most_ns;
        int least, most;
        bool noisy;
    } known[] = {
        {60e6, 10, 5e9, 21, 24, false}, /* all is had in time */
        {200e6, 2, 2e9, 7, 10, false},  /* narrow at once: seven are enough */
        {1e9, 5, 8e9, 7, 7, false},     /* seven, although they take more than the cap */
        {10e9, 5, 30e9, 2, 3, true},    /* but not for ever */
    };
    struct bench *bench = *state;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        struct fake_plan plan[] = {fake('a', known[i].ns), fake('b', known[i].ns)};
        bench->machine = (struct machine){.tick = 20};
        bench->gauge.max_seconds = known[i].max_seconds;
        assert_int_equal(measure(bench, plan, 2, NULL), DLB_OK);
        const struct dlb_measured *m = &bench->measured[0];
        each_round(&bench->machine, see_long, NULL);
        assert_in_range(m->clean, known[i].least, known[i].most);
        assert_int_equal(m->noisy, known[i].noisy);
        assert_int_equal(m->inner_reps, 1);
        assert_true(bench->machine.now <= 2 * known[i].most_ns + 2 * known[i].ns);
    }
}

static void test_long_and_loud_uses_its_time(void **state)
{
    struct bench *bench = *state;
    struct fake_plan plan[] = {fake('a', 100e6)};
    bench->machine.sigma = 0.3;
    bench->gauge.max_seconds = 3;
    assert_int_equal(measure(bench, plan, 1, NULL), DLB_OK);
    assert_true(bench->measured[0].clean > 20);
    assert_true(bench->measured[0].capped && !bench->measured[0].noisy);
}

static void test_stop_before(void **state)
{
    struct bench *bench = *state;
    struct fake_plan plan[] = {fake('a', 2e6), fake('b', 2e6)};
    struct dlb_error error = {""};
    bench->machine.stop = 1;
    assert_int_equal(measure(bench, plan, 2, &error), DLB_INTERRUPTED);
    assert_int_equal(bench->machine.executions, 0);
    assert_int_equal(bench->measured[0].samples, 0);
    assert_non_null(strstr(error.text, "interrupted"));
}

static void test_stop_within(void **state)
{
    struct bench *bench = *state;
    struct fake_plan plan[] = {fake('a', 10e6), fake('b', 10e6)};
    struct seen seen = {0};
    assert_int_equal(measure(bench, plan, 2, NULL), DLB_OK);
    int warm = bench->measured[0].warmup + bench->measured[1].warmup;

    bench->machine = (struct machine){.stop_at = warm + 8 * 4 + 3};
    assert_int_equal(measure(bench, plan, 2, NULL), DLB_INTERRUPTED);
    assert_int_equal(bench->measured[0].samples, 5); /* the fifth is finished */
    assert_int_equal(each_round(&bench->machine, see_two_arms, &seen), 5);
    assert_int_equal(seen.other, 0);
    assert_near(bench->measured[0].summary.median, 10e6, 1);

    bench->machine =
        (struct machine){.stop_at = warm / 2 + 1}; /* warming the second up */
    assert_int_equal(measure(bench, plan, 2, NULL), DLB_INTERRUPTED);
    assert_int_equal(bench->measured[0].samples, 0);
    assert_int_equal(bench->machine.executions, warm / 2 + 1);

    bench->machine = (struct machine){.sigma = 0.5, .stop_at = 50 * 8};
    assert_int_equal(measure(bench, plan, 2, NULL), DLB_OK); /* while asking for more */
    assert_true(bench->measured[0].capped && bench->measured[0].clean >= 21);
}

static void test_noise_floor(void **state)
{
    struct bench *bench = *state;
    struct fake_plan plan = fake('a', 2e6);
    struct dlb_ratio ratio;
    double quiet, loud;
    assert_int_equal(dlb_noise_floor(&bench->gauge, &plan.plan, &quiet, &ratio, NULL),
                     DLB_OK);
    assert_near(quiet, 0, 1e-9);
    assert_near(ratio.median, 1, 1e-9);
    bench->machine.sigma = 0.05;
    assert_int_equal(dlb_noise_floor(&bench->gauge, &plan.plan, &loud, &ratio, NULL),
                     DLB_OK);
    assert_true(loud > 1e-4 && loud < 0.05);
    assert_true(loud > fabs(log(ratio.median)));
    assert_near(loud, log(ratio.ci_hi / ratio.ci_lo) / 2, 1e-12);
    bench->machine.stop = 1;
    assert_int_equal(dlb_noise_floor(&bench->gauge, &plan.plan, &loud, NULL, NULL),
                     DLB_INTERRUPTED);
}

static void test_without_ratio_or_stop(void **state)
{
    struct bench *bench = *state;
    struct fake_plan plan = fake('a', 2e6);
    struct dlb_plan *arm = &plan.plan;
    bench->gauge.stop = NULL;
    assert_int_equal(dlb_measure(&bench->gauge, &arm, 1, bench->measured, NULL, NULL),
                     DLB_OK);
    assert_true(bench->measured[0].clean >= 21);
    struct dlb_measured zeroed = {0};
    dlb_measured_release(&zeroed);
}

/* On this machine: what is counted, not how long it takes. */
struct counting_plan {
    struct dlb_plan plan;
    int executions;
};

static void count_execution(struct dlb_plan *plan, const struct dlb_team *team)
{
    (void)team;
    ((struct counting_plan *)plan)->executions++;
}

static void test_real_pool(void **state)
{
    struct bench *bench = *state;
    static const struct dlb_plan_class class = {.impl = "counting",
                                                .run = count_execution};
    struct counting_plan a = {.plan = {.class = &class, .threads = 1}}, b = a;
    struct dlb_plan *const arm[] = {&a.plan, &b.plan};
    struct dlb_topology *topology;
    struct dlb_thread_set set[DLB_THREAD_SETS_MAX];
    int sets;
    assert_int_equal(dlb_topology_load(NULL, &topology, NULL), DLB_OK);
    assert_int_equal(dlb_thread_sets_parse(topology, "1", false, set, &sets, NULL),
                     DLB_OK);
    assert_int_equal(dlb_pool_open(topology, &set[0], &bench->gauge.pool, NULL), DLB_OK);
    bench->gauge.hooks = NULL;
    bench->gauge.isa = dlb_isa_best();
    bench->gauge.min_seconds = 0.001;
    bench->gauge.max_seconds = 0.1;
    assert_int_equal(
        dlb_measure(&bench->gauge, arm, 2, bench->measured, bench->ratio, NULL), DLB_OK);
    const struct dlb_measured *m = &bench->measured[1];
    assert_true(m->samples > 0);
    /* Two blocks in a round, and an untimed execution before each. */
    assert_int_equal(b.executions, m->warmup + m->samples * 2 * (m->inner_reps + 1));
    assert_true(bench->gauge.best_probe > 0);

    release_all(bench);
    b.executions = 0;
    bench->gauge.cache_state = DLB_CACHE_COLD;
    bench->gauge.evict_bytes = 1 << 20;
    assert_int_equal(
        dlb_measure(&bench->gauge, arm, 2, bench->measured, bench->ratio, NULL), DLB_OK);
    assert_int_equal(m->inner_reps, 1);
    assert_int_equal(b.executions, m->warmup + m->samples * 2);

    double each_ns = dlb_trial_ns(bench->gauge.pool, arm[0], 3, 1e4);
    assert_true(each_ns > 0);
    dlb_pool_close(bench->gauge.pool);
    dlb_topology_release(topology);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, bench_make, bench_release)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_two_arms_mirrored),
        TEST(test_four_arms_mirrored),
        TEST(test_order_comes_from_seed),
        TEST(test_blocks_are_long_enough),
        TEST(test_warm_up_waits_for_agreement),
        TEST(test_enough_timed_work),
        TEST(test_hot_is_hot),
        TEST(test_cold_is_evicted),
        TEST(test_contaminated_is_repeated),
        TEST(test_slow_start_is_judged_anew),
        TEST(test_never_clean),
        TEST(test_a_lower_clock_is_no_disturbance),
        TEST(test_episodes_do_not_show),
        TEST(test_drift_cancels),
        TEST(test_difference_is_found),
        TEST(test_cap_on_time),
        TEST(test_long_blocks),
        TEST(test_long_and_loud_uses_its_time),
        TEST(test_stop_before),
        TEST(test_stop_within),
        TEST(test_noise_floor),
        TEST(test_without_ratio_or_stop),
        TEST(test_real_pool),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
