/*
 * The whole campaign behind what README says of false alarms and of what is found: a
 * thousand nights of each kind.  Takes minutes, so it is built and run by hand.
 *   gate_nights [NIGHTS [PROTOCOL]]
 */
#include "nights.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

struct protocol {
    int runs, samples;
    double noise;
};

static void nothing_changed(const struct protocol *protocol, bool controls, int nights_n)
{
    struct nights_plan plan = {.cases = 200,
                               .runs = protocol->runs,
                               .samples = protocol->samples,
                               .controls = controls,
                               .slow_case = -1,
                               .resamples = 200,
                               .noise = protocol->noise};
    struct nights *nights = nights_make(&plan, 7);
    int alone = 0, pooled = 0, environment = 0, windows = 0;
    for (int night = 0; night < nights_n; night++) {
        nights_next(nights);
        struct nights_found found = nights_judge(nights, 1);
        alone += found.regressions > 0 && !found.environment;
        environment += found.environment;
        if (night < NIGHTS_POOLED_MAX - 1)
            continue;
        windows++;
        found = nights_judge(nights, NIGHTS_POOLED_MAX);
        pooled += found.regressions > 0 && !found.environment;
        environment += found.environment;
    }
    printf("%d+%d runs of %d samples, noise x %.1f, %s, nothing changed: false alarms on "
           "%.1f%% of %d nights, %.1f%% of %d windows of three; %d called environment\n",
           plan.runs, plan.runs, plan.samples, plan.noise,
           controls ? "half controls" : "no controls", 100.0 * alone / nights_n, nights_n,
           100.0 * pooled / windows, windows, environment);
    nights_release(nights);
}

static void one_is_slower(const struct protocol *protocol, double percent, int trials)
{
    struct nights_plan plan = {.cases = 200,
                               .runs = protocol->runs,
                               .samples = protocol->samples,
                               .slow_case = 100,
                               .slowdown = log1p(percent / 100),
                               .resamples = 200,
                               .noise = protocol->noise};
    int found[NIGHTS_POOLED_MAX] = {0}, suspect = 0;
    for (int trial = 0; trial < trials; trial++) {
        struct nights *nights = nights_make(&plan, 1000 + (uint64_t)trial);
        bool yet = false;
        for (int night = 0; night < NIGHTS_POOLED_MAX; night++) {
            nights_next(nights);
            struct nights_found now = nights_judge(nights, night + 1);
            yet |= now.slow_case_found;
            suspect += night == 0 && now.suspect;
            found[night] += yet;
        }
        nights_release(nights);
    }
    printf(
        "%d+%d runs of %d samples, noise x %.1f, one case %.0f%% slower: found on night "
        "1 in %.1f%%, by night 2 in %.1f%%, by night 3 in %.1f%% of %d; suspect on "
        "night 1 in %.1f%%\n",
        plan.runs, plan.runs, plan.samples, plan.noise, percent,
        100.0 * found[0] / trials, 100.0 * found[1] / trials, 100.0 * found[2] / trials,
        trials, 100.0 * suspect / trials);
}

static void machine_is_slower(const struct protocol *protocol, bool controls,
                              double percent, int nights_n)
{
    struct nights_plan plan = {.cases = 200,
                               .runs = protocol->runs,
                               .samples = protocol->samples,
                               .controls = controls,
                               .slow_case = -1,
                               .machine = log1p(percent / 100),
                               .resamples = 200,
                               .noise = protocol->noise};
    struct nights *nights = nights_make(&plan, 3);
    int environment = 0, alarms = 0;
    for (int night = 0; night < nights_n; night++) {
        nights_next(nights);
        struct nights_found found = nights_judge(nights, 1);
        environment += found.environment;
        alarms += found.regressions && !found.environment;
    }
    printf(
        "%d+%d runs, noise x %.1f, %s, machine %.0f%% slower: environment on %.1f%% of "
        "%d nights, regressions on %.1f%%\n",
        plan.runs, plan.runs, plan.noise, controls ? "half controls" : "no controls",
        percent, 100.0 * environment / nights_n, nights_n, 100.0 * alarms / nights_n);
    nights_release(nights);
}

int main(int argc, char **argv)
{
    static const struct protocol protocols[] = {
        {1, 100, 1}, {3, 30, 1}, {3, 30, 2}, {5, 21, 1}};
    int n = argc > 1 ? atoi(argv[1]) : 1000;
    for (int i = 0; i < (int)(sizeof protocols / sizeof *protocols); i++) {
        const struct protocol *protocol = &protocols[i];
        if (argc > 2 && atoi(argv[2]) != i)
            continue;
        nothing_changed(protocol, false, n);
        nothing_changed(protocol, true, n);
        one_is_slower(protocol, 5, n / 5);
        one_is_slower(protocol, 10, n / 5);
        one_is_slower(protocol, 3, n / 5);
        machine_is_slower(protocol, false, 8, n / 5);
        machine_is_slower(protocol, true, 8, n / 5);
        fflush(stdout);
    }
    return 0;
}
