#include "claims/idx.h"

#include "claims/images.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { PARTS = 2, PATH_BYTES = 4300, SIDE_MAX = 4096, IMAGES_MAX = 10000000 };
static const char *const part_names[PARTS] = {"train", "t10k"};

/* The images of a part, ordered by label. */
struct part {
    float *pixel;                         /* owned: [n][DLB_IMAGE_PIXELS] */
    int64_t first[DLB_IMAGE_CLASSES + 1]; /* of a label */
    int64_t height, width;                /* in the file */
};

struct dlb_idx {
    struct part part[PARTS];
};

/* A file's bytes; its dims are those of the header. */
struct file {
    char path[PATH_BYTES];
    unsigned char *bytes; /* owned */
    int64_t size, dim[3];
    const unsigned char *element;
};

static const struct kind {
    const char *name;
    uint32_t magic;
    int dims;
} images_kind = {"images", 0x803, 3}, labels_kind = {"labels", 0x801, 1};

static enum dlb_status no_memory(struct dlb_error *error)
{
    return dlb_fail(error, DLB_NOMEM, "No memory is left for images.");
}

static FILE *open_file(struct file *file, const char *folder, const char *part,
                       const struct kind *kind)
{
    FILE *stream = NULL;
    for (const char *joint = ".-"; *joint && !stream; joint++) {
        snprintf(file->path, sizeof file->path, "%.4000s/%s-%s%cidx%d-ubyte", folder,
                 part, kind->name, *joint, kind->dims);
        stream = fopen(file->path, "rb");
    }
    return stream;
}

static enum dlb_status read_bytes(struct file *file, FILE *stream,
                                  struct dlb_error *error)
{
    struct stat about;
    if (fstat(fileno(stream), &about) || !S_ISREG(about.st_mode))
        return dlb_fail(error, DLB_INVALID, "%s is no file that can be read.",
                        file->path);
    file->size = about.st_size;
    file->bytes = malloc((size_t)file->size + 1);
    if (!file->bytes)
        return no_memory(error);
    if (fread(file->bytes, 1, (size_t)file->size, stream) != (size_t)file->size)
        return dlb_fail(error, DLB_INVALID, "%s cannot be read to its end.", file->path);
    return DLB_OK;
}

static int64_t big_endian(const unsigned char *byte)
{
    return (int64_t)byte[0] << 24 | byte[1] << 16 | byte[2] << 8 | byte[3];
}

static enum dlb_status read_header(struct file *file, const struct kind *kind,
                                   struct dlb_error *error)
{
    const int64_t header = 4 * (1 + kind->dims);
    int64_t bytes = header, elements = 1;
    if (file->size >= 2 && file->bytes[0] == 0x1f && file->bytes[1] == 0x8b)
        return dlb_fail(error, DLB_INVALID, "%s is packed; unpack it with gunzip.",
                        file->path);
    if (file->size < header)
        return dlb_fail(error, DLB_INVALID,
                        "%s ends after %lld bytes, within its header of %lld.",
                        file->path, (long long)file->size, (long long)header);
    if (big_endian(file->bytes) != kind->magic)
        return dlb_fail(error, DLB_INVALID,
                        "%s begins with 0x%08llx; an IDX file of %s begins with 0x%08x.",
                        file->path, (unsigned long long)big_endian(file->bytes),
                        kind->name, kind->magic);
    for (int d = 0; d < kind->dims; d++) {
        const int64_t most = d ? SIDE_MAX : IMAGES_MAX;
        file->dim[d] = big_endian(file->bytes + 4 * (d + 1));
        if (file->dim[d] < 1 || file->dim[d] > most)
            return dlb_fail(
                error, DLB_INVALID, "%s says %lld for %s; accepted: 1 to %lld.",
                file->path, (long long)file->dim[d],
                d ? "the height or the width of an image" : "how many it holds",
                (long long)most);
        elements *= file->dim[d];
    }
    bytes += elements;
    if (file->size != bytes)
        return dlb_fail(error, DLB_INVALID,
                        "%s holds %lld bytes, but its header asks for %lld: it is %s.",
                        file->path, (long long)file->size, (long long)bytes,
                        file->size < bytes ? "truncated" : "too long");
    file->element = file->bytes + header;
    return DLB_OK;
}

static enum dlb_status read_file(struct file *file, const char *folder, const char *part,
                                 const struct kind *kind, struct dlb_error *error)
{
    FILE *stream = open_file(file, folder, part, kind);
    if (!stream)
        return dlb_fail(error, DLB_INVALID,
                        "%s cannot be opened (%s); --data takes a folder with MNIST's "
                        "four files, unpacked.",
                        file->path, strerror(errno));
    enum dlb_status status = read_bytes(file, stream, error);
    fclose(stream);
    return status ? status : read_header(file, kind, error);
}

/* How much of pixel `at` of `from` lies in pixel `to` of DLB_IMAGE_SIDE, in pixels of
 * from. */
static double overlap(int64_t at, int64_t from, int to)
{
    const double scale = (double)from / DLB_IMAGE_SIDE;
    return fmax(0, fmin((double)at + 1, (to + 1) * scale) - fmax((double)at, to * scale));
}

/* The mean of byte [height][width] over the area of each pixel: rows first, then columns. */
static void scale(const unsigned char *byte, int64_t height, int64_t width, double *room,
                  float *pixel)
{
    const double area = (double)(height * width) / DLB_IMAGE_PIXELS;
    memset(room, 0, (size_t)(DLB_IMAGE_SIDE * width) * sizeof *room);
    for (int to = 0; to < DLB_IMAGE_SIDE; to++)
        for (int64_t y = to * height / DLB_IMAGE_SIDE;
             y < height && overlap(y, height, to) > 0; y++)
            for (int64_t x = 0; x < width; x++)
                room[to * width + x] += overlap(y, height, to) * byte[y * width + x];
    for (int p = 0; p < DLB_IMAGE_PIXELS; p++) {
        const int row = p / DLB_IMAGE_SIDE, to = p % DLB_IMAGE_SIDE;
        double sum = 0;
        for (int64_t x = to * width / DLB_IMAGE_SIDE;
             x < width && overlap(x, width, to) > 0; x++)
            sum += overlap(x, width, to) * room[row * width + x];
        pixel[p] = (float)(sum / area);
    }
}

static enum dlb_status count_labels(const struct file *labels, struct part *part,
                                    struct dlb_error *error)
{
    for (int64_t i = 0; i < labels->dim[0]; i++) {
        if (labels->element[i] >= DLB_IMAGE_CLASSES)
            return dlb_fail(error, DLB_INVALID,
                            "%s has the label %d for image %lld; accepted: 0 to %d.",
                            labels->path, labels->element[i], (long long)i,
                            DLB_IMAGE_CLASSES - 1);
        part->first[labels->element[i] + 1]++;
    }
    for (int label = 0; label < DLB_IMAGE_CLASSES; label++) {
        if (!part->first[label + 1])
            return dlb_fail(error, DLB_INVALID,
                            "%s has no image of label %d; each of 0 to %d is needed.",
                            labels->path, label, DLB_IMAGE_CLASSES - 1);
        part->first[label + 1] += part->first[label];
    }
    return DLB_OK;
}

static enum dlb_status scale_images(const struct file *images, const struct file *labels,
                                    struct part *part, struct dlb_error *error)
{
    const int64_t n = images->dim[0], pixels = images->dim[1] * images->dim[2];
    int64_t next[DLB_IMAGE_CLASSES];
    double *room = malloc((size_t)(DLB_IMAGE_SIDE * images->dim[2]) * sizeof *room);
    part->pixel = malloc((size_t)(n * DLB_IMAGE_PIXELS) * sizeof *part->pixel);
    part->height = images->dim[1];
    part->width = images->dim[2];
    memcpy(next, part->first, sizeof next);
    for (int64_t i = 0; i < n && room && part->pixel; i++)
        scale(images->element + i * pixels, part->height, part->width, room,
              part->pixel + next[labels->element[i]]++ * DLB_IMAGE_PIXELS);
    free(room);
    return room && part->pixel ? DLB_OK : no_memory(error);
}

static enum dlb_status read_part(const char *folder, const char *name, struct part *part,
                                 struct dlb_error *error)
{
    struct file images = {.bytes = NULL}, labels = {.bytes = NULL};
    enum dlb_status status = read_file(&images, folder, name, &images_kind, error);
    if (!status)
        status = read_file(&labels, folder, name, &labels_kind, error);
    if (!status && images.dim[0] != labels.dim[0])
        status = dlb_fail(error, DLB_INVALID, "%s holds %lld images, but %s %lld labels.",
                          images.path, (long long)images.dim[0], labels.path,
                          (long long)labels.dim[0]);
    if (!status)
        status = count_labels(&labels, part, error);
    if (!status)
        status = scale_images(&images, &labels, part, error);
    free(images.bytes);
    free(labels.bytes);
    return status;
}

static enum dlb_status standardise(struct dlb_idx *idx, const char *folder,
                                   struct dlb_error *error)
{
    const struct part *train = &idx->part[0];
    const int64_t n = train->first[DLB_IMAGE_CLASSES] * DLB_IMAGE_PIXELS;
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += train->pixel[i];
        squares += (double)train->pixel[i] * train->pixel[i];
    }
    const double mean = sum / (double)n, variance = squares / (double)n - mean * mean;
    if (!(variance > 0))
        return dlb_fail(error, DLB_INVALID,
                        "All training images in %s are of one grey; nothing can be "
                        "learnt from them.",
                        folder);
    for (int p = 0; p < PARTS; p++)
        for (int64_t i = 0; i < idx->part[p].first[DLB_IMAGE_CLASSES] * DLB_IMAGE_PIXELS;
             i++)
            idx->part[p].pixel[i] =
                (float)((idx->part[p].pixel[i] - mean) / sqrt(variance));
    return DLB_OK;
}

enum dlb_status dlb_idx_read(const char *folder, struct dlb_idx **out,
                             struct dlb_error *error)
{
    struct dlb_idx *idx = *out = calloc(1, sizeof *idx);
    enum dlb_status status = idx ? DLB_OK : no_memory(error);
    for (int p = 0; p < PARTS && !status; p++)
        status = read_part(folder, part_names[p], &idx->part[p], error);
    if (!status && (idx->part[0].height != idx->part[1].height ||
                    idx->part[0].width != idx->part[1].width))
        status = dlb_fail(error, DLB_INVALID,
                          "The training images in %s are of %lld x %lld pixels, but the "
                          "test images of %lld x %lld.",
                          folder, (long long)idx->part[0].height,
                          (long long)idx->part[0].width, (long long)idx->part[1].height,
                          (long long)idx->part[1].width);
    if (!status)
        status = standardise(idx, folder, error);
    if (status) {
        dlb_idx_release(idx);
        *out = NULL;
    }
    return status;
}

void dlb_idx_release(struct dlb_idx *idx)
{
    for (int p = 0; p < PARTS && idx; p++)
        free(idx->part[p].pixel);
    free(idx);
}

int64_t dlb_idx_count(const struct dlb_idx *idx, bool test, int label)
{
    return idx->part[test].first[label + 1] - idx->part[test].first[label];
}

const float *dlb_idx_image(const struct dlb_idx *idx, bool test, int label,
                           int64_t number)
{
    return idx->part[test].pixel +
           (idx->part[test].first[label] + number) * DLB_IMAGE_PIXELS;
}
