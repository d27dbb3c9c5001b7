/*
 * landscape.h - spaces whose true times are known, timed with made-up noise by a made-up
 * clock, for the search to be judged on.  Everything follows from the seed.
 *
 * As in recorded exhaustive runs of convolutions, an eighth of the points lies within 5 %
 * of the best and the middle one takes 1.7 times as long; but none lies within 3 % of the
 * best, so that whoever misses it is seen.  The model knows the times but for a factor of
 * log-normal spread 0.35.
 */
#ifndef DLB_TESTS_LANDSCAPE_H
#define DLB_TESTS_LANDSCAPE_H

#include "tune/search.h"

enum landscape_noise {
    LANDSCAPE_STILL,     /* every sample tells the true time */
    LANDSCAPE_ONE_SIDED, /* later by 5 % in the mean, exponentially */
    LANDSCAPE_DRIFTING,  /* slower and slower, by a quarter in the end */
    LANDSCAPE_OUTLIERS,  /* one sample in twenty takes up to ten times as long */
    LANDSCAPE_BIMODAL,   /* half the speed for a quarter second, a quarter of the time */
    LANDSCAPE_NOISES
};
extern const char *const landscape_noise_names[LANDSCAPE_NOISES];

struct landscape {
    int n;
    double *true_ns, *model_ns; /* owned */
    int best;                   /* of the right points */
    int wrong, impossible;      /* points that verify so; -1: none */
    enum landscape_noise noise;
    double clock_ns;
    double verify_ns, block_ns; /* what a verification takes, and a sample at least */
    uint64_t random;
    int verified, timed; /* calls */
    bool *verified_once; /* owned */
};

void landscape_make(struct landscape *landscape, int n, uint64_t seed,
                    enum landscape_noise noise);
void landscape_release(struct landscape *landscape);

struct dlb_timings landscape_timings(struct landscape *landscape);

/* Positions by rising model time behind point 0, the default; order has room for n. */
void landscape_order(const struct landscape *landscape, int *order);

/* true time of point over that of the best, less 1. */
double landscape_regret(const struct landscape *landscape, int point);

#endif
