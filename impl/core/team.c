#include "core/team.h"

#include <sched.h>

enum { SPINS_BEFORE_YIELD = 1 << 14 };

static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

void dlb_barrier_init(struct dlb_barrier *barrier)
{
    atomic_init(&barrier->arrived, 0);
    atomic_init(&barrier->phase, 0);
}

void dlb_team_barrier(const struct dlb_team *team)
{
    if (team->size == 1)
        return;
    struct dlb_barrier *barrier = team->barrier;
    int phase = atomic_load_explicit(&barrier->phase, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&barrier->arrived, 1, memory_order_acq_rel) ==
        team->size - 1) {
        atomic_store_explicit(&barrier->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&barrier->phase, phase + 1, memory_order_release);
        return;
    }
    for (int spins = 0;
         atomic_load_explicit(&barrier->phase, memory_order_acquire) == phase; spins++) {
        if (spins < SPINS_BEFORE_YIELD)
            relax();
        else
            sched_yield();
    }
}
