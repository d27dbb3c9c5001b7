/*
 * idx.h - images from files: a folder with the four files of MNIST or of what is kept like
 * it (Fashion-MNIST, Kuzushiji-MNIST), unpacked.
 *
 *   train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte,
 *   t10k-labels-idx1-ubyte; train-images.idx3-ubyte and so on are taken too
 *
 * An IDX file is a magic number (two zeros, the type of its elements, how many dims), the
 * dims, and the elements, all big-endian: http://yann.lecun.com/exdb/mnist.  Images of any
 * size are scaled to DLB_IMAGE_SIDE squared, each pixel the mean of the area it covers, and
 * to mean 0 and deviation 1 over all training images.
 */
#ifndef DLB_CLAIMS_IDX_H
#define DLB_CLAIMS_IDX_H

#include "core/base.h"

struct dlb_idx;

/* Reads a folder strictly: DLB_INVALID names the file, what is wrong with it and what would
 * be accepted.  Every class needs an image in both parts. */
enum dlb_status dlb_idx_read(const char *folder, struct dlb_idx **idx,
                             struct dlb_error *error);
void dlb_idx_release(struct dlb_idx *idx); /* safe on NULL */

/* Images of a label, to train on or to test on. */
int64_t dlb_idx_count(const struct dlb_idx *idx, bool test, int label);

/* One of them, number < dlb_idx_count: pixel [DLB_IMAGE_PIXELS], idx's own. */
const float *dlb_idx_image(const struct dlb_idx *idx, bool test, int label,
                           int64_t number);

#endif
