/*
 * images.h - pictures to learn from, made of an index and a seed alone: ten shapes of
 * varied place, size, brightness and noise.
 */
#ifndef DLB_CLAIMS_IMAGES_H
#define DLB_CLAIMS_IMAGES_H

#include "core/base.h"

enum { DLB_IMAGE_SIDE = 12, DLB_IMAGE_PIXELS = DLB_IMAGE_SIDE * DLB_IMAGE_SIDE };
enum { DLB_IMAGE_CLASSES = 10 };

/* Pictures first … first+n-1 of a seed: pixel [n][DLB_IMAGE_PIXELS], about of mean 0 and
 * deviation 1, label [n] in 0 … 9. */
void dlb_images(uint64_t seed, int64_t first, int64_t n, float *pixel, float *label);

/* The same of so many of the shapes, from shape lowest on, which has label 0. */
void dlb_images_of(int lowest, int classes, uint64_t seed, int64_t first, int64_t n,
                   float *pixel, float *label);

#endif
