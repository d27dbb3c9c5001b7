/*
 * simulated_machine.h - a machine on which time passes only when something runs: noise,
 * drift, episodes of half speed, an execution that is slower after another plan's, and a
 * log of what was done.  Its functions are those of struct dlb_gauge_hooks.
 */
#ifndef DLB_TESTS_SIMULATED_MACHINE_H
#define DLB_TESTS_SIMULATED_MACHINE_H

#include "measure/paired.h"

#include <math.h>

enum { LOG_MAX = 1 << 16 };

struct machine {
    double now, tick;
    double sigma;               /* of the log-normal noise of an execution */
    double drift;               /* relative, per second */
    double slow_from, slow_to;  /* half speed between these times */
    double slow_every, slow_ns; /* and for slow_ns in each slow_every */
    double switch_cost; /* relative, of the first execution after another plan's */
    uint64_t random;
    struct dlb_plan *last;
    int executions, stop_at, stop;
    int evictions, log_length;
    char log[LOG_MAX]; /* P probe, E eviction, a … the plan of this letter */
};

struct fake_plan {
    struct dlb_plan plan;
    char letter;
    double ns;
};

static const struct dlb_plan_class fake_class = {.impl = "fake"};

static inline struct fake_plan fake(char letter, double ns)
{
    return (struct fake_plan){{.class = &fake_class}, letter, ns};
}

static inline double uniform(struct machine *machine)
{
    uint64_t z = machine->random += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return ((double)((z ^ z >> 31) >> 11) + 0.5) * 0x1p-53;
}

static inline double normal(struct machine *machine)
{
    double radius = sqrt(-2 * log(uniform(machine)));
    return radius * cos(2 * M_PI * uniform(machine));
}

static inline void log_event(struct machine *machine, char event)
{
    if (machine->log_length < LOG_MAX - 1) {
        machine->log[machine->log_length++] = event;
    }
}

static inline double slowness(const struct machine *machine)
{
    bool episode = machine->slow_every > 0 &&
                   fmod(machine->now, machine->slow_every) < machine->slow_ns;
    bool once = machine->now >= machine->slow_from && machine->now < machine->slow_to;
    return episode || once ? 2 : 1;
}

static inline double fake_clock(void *context)
{
    return ((struct machine *)context)->now;
}

static inline double fake_probe(void *context, double nanoseconds)
{
    struct machine *machine = context;
    double gflops = 100 / slowness(machine) * exp(0.005 * normal(machine));
    machine->now += nanoseconds;
    log_event(machine, 'P');
    return gflops;
}

static inline void fake_run(void *context, struct dlb_plan *plan)
{
    struct machine *machine = context;
    struct fake_plan *own = (struct fake_plan *)plan;
    double cost = machine->last == plan ? 1 : 1 + machine->switch_cost;
    machine->now += own->ns * slowness(machine) * cost *
                    (1 + machine->drift * machine->now * 1e-9) *
                    exp(machine->sigma * normal(machine));
    machine->last = plan;
    machine->stop |= ++machine->executions == machine->stop_at;
    log_event(machine, own->letter);
}

static inline void fake_evict(void *context)
{
    struct machine *machine = context;
    machine->now += 1e6;
    machine->evictions++;
    log_event(machine, 'E');
}

#endif
