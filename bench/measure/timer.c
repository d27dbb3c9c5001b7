#include "measure/timer.h"

#include <time.h>

double dlb_clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

double dlb_clock_resolution_ns(void)
{
    double least = 1e9;
    for (int i = 0; i < 256; i++) {
        double start = dlb_clock_ns(), now = start;
        while (now <= start) {
            now = dlb_clock_ns();
        }
        if (now - start < least) {
            least = now - start;
        }
    }
    return least;
}
