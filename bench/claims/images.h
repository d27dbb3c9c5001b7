/*
 * images.h - pictures to learn from.  They are made of an index and a seed alone: ten shapes
 * of varied place, size, brightness and noise; or drawn by them from files (idx.h).
 */
#ifndef DLB_CLAIMS_IMAGES_H
#define DLB_CLAIMS_IMAGES_H

#include "claims/idx.h"

enum { DLB_IMAGE_SIDE = 12, DLB_IMAGE_PIXELS = DLB_IMAGE_SIDE * DLB_IMAGE_SIDE };
enum { DLB_IMAGE_CLASSES = 10 };

struct dlb_image_set {
    const struct dlb_idx *idx; /* NULL: pictures are made */
    bool test;                 /* of idx: from which part; else seeds tell them apart */
    uint64_t seed;
    int lowest, classes; /* so many of the ten, from lowest on, which has label 0 */
};

/* Pictures first … first+n-1 of a set: pixel [n][DLB_IMAGE_PIXELS], about of mean 0 and
 * deviation 1, label [n] in 0 … classes-1. */
void dlb_images(const struct dlb_image_set *set, int64_t first, int64_t n, float *pixel,
                float *label);

#endif
