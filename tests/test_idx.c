/* Images from IDX files: what is read, how it is scaled and drawn, and each way in which a
 * folder can be wrong. */
#include "claims/idx.h"
#include "claims/images.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { SIDE = 28, IMAGES = 40, HEADER = 16 };
static char folder[] = "/tmp/dlbench-idx-XXXXXX";
static const char *const files[] = {"train-images-idx3-ubyte", "train-labels-idx1-ubyte",
                                    "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"};
enum { TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS, FILES };

static char *path_of(const char *name, char path[200])
{
    snprintf(path, 200, "%s/%s", folder, name);
    return path;
}

static void write_file(const char *name, const unsigned char *byte, size_t n)
{
    char path[200];
    FILE *file = fopen(path_of(name, path), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(byte, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

static void put(unsigned char *byte, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        byte[i] = (unsigned char)(value >> (24 - 8 * i));
}

/* Images of height x width whose upper half is 20 times the label, the lower half 255;
 * labels 0 … 9 in turn. */
static void write_images(int file, int height, int width)
{
    static unsigned char byte[HEADER + IMAGES * 40 * 40];
    put(byte, 0x803);
    put(byte + 4, IMAGES);
    put(byte + 8, (uint32_t)height);
    put(byte + 12, (uint32_t)width);
    for (int i = 0; i < IMAGES; i++)
        for (int p = 0; p < height * width; p++)
            byte[HEADER + i * height * width + p] =
                (unsigned char)(p < height * width / 2 ? 20 * (i % 10) : 255);
    write_file(files[file], byte, (size_t)(HEADER + IMAGES * height * width));
}

static void write_labels(int file, int n)
{
    unsigned char byte[8 + IMAGES + 1];
    put(byte, 0x801);
    put(byte + 4, (uint32_t)n);
    for (int i = 0; i < n; i++)
        byte[8 + i] = (unsigned char)(i % 10);
    write_file(files[file], byte, (size_t)(8 + n));
}

static void write_all(void)
{
    char path[200];
    unlink(path_of("train-images.idx3-ubyte", path));
    for (int part = 0; part < FILES; part += 2) {
        write_images(TRAIN_IMAGES + part, SIDE, SIDE);
        write_labels(TRAIN_LABELS + part, IMAGES);
    }
}

/* One byte changed, or with at < 0 so many bytes cut off. */
static void spoil(int file, int at, int value)
{
    static unsigned char byte[1 << 20];
    char path[200];
    FILE *stream = fopen(path_of(files[file], path), "rb");
    assert_non_null(stream);
    size_t n = fread(byte, 1, sizeof byte, stream);
    fclose(stream);
    if (at < 0)
        n -= (size_t)value;
    else
        byte[at] = (unsigned char)value;
    write_file(files[file], byte, n);
}

static void refused(const char *first, const char *second)
{
    struct dlb_error error = {0};
    struct dlb_idx *idx = NULL;
    assert_int_equal(dlb_idx_read(folder, &idx, &error), DLB_INVALID);
    assert_null(idx);
    if (!strstr(error.text, first) || !strstr(error.text, second))
        fail_msg("'%s' or '%s' is not in: %s", first, second, error.text);
    assert_int_equal(error.text[strlen(error.text) - 1], '.');
    write_all();
}

static void wrong_folders_are_refused(void **state)
{
    char path[200], other[200];
    static const unsigned char packed[] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0,
                                           3,    0,    0, 0, 0, 0, 0, 0, 0};
    (void)state;
    write_all();
    for (int i = 0; i < FILES; i++) {
        unlink(path_of(files[i], path));
        refused(files[i], "four files");
        spoil(i, -1, 1);
        refused(files[i], "truncated");
        spoil(i, 3, 9);
        refused(files[i], "0x00000809");
        write_file(files[i], packed, sizeof packed);
        refused(files[i], "gunzip");
        write_file(files[i], packed, 6);
        refused(files[i], "gunzip");
        write_file(files[i], (const unsigned char *)"\0\0\10\1\0\0", 6);
        refused(files[i], "within its header");
        write_file(files[i], packed, 0);
        refused(files[i], "0 bytes");
        spoil(i, 7, 0);
        refused(files[i], "how many it holds");
        spoil(i, 7, IMAGES - 1);
        refused(files[i], "too long");
    }
    spoil(TRAIN_IMAGES, 11, 0);
    refused(files[TRAIN_IMAGES], "height");
    spoil(TEST_IMAGES, 13, 100);
    refused(files[TEST_IMAGES], "height");
    write_labels(TEST_LABELS, IMAGES - 1);
    refused("39 labels", "40 images");
    write_images(TEST_IMAGES, 14, 28);
    refused("28 x 28", "14 x 28");
    spoil(TRAIN_LABELS, 8 + 17, 10);
    refused(files[TRAIN_LABELS], "label 10 for image 17");
    for (int i = 0; i < IMAGES; i += 10)
        spoil(TEST_LABELS, 8 + 3 + i, 4);
    refused(files[TEST_LABELS], "no image of label 3");
    unlink(path_of(files[TRAIN_IMAGES], path));
    assert_int_equal(mkdir(path, 0700), 0);
    struct dlb_error error = {0};
    struct dlb_idx *idx;
    assert_int_equal(dlb_idx_read(folder, &idx, &error), DLB_INVALID);
    assert_non_null(strstr(error.text, files[TRAIN_IMAGES]));
    assert_int_equal(rmdir(path), 0);
    write_all();
    assert_int_equal(rename(path, path_of("train-images.idx3-ubyte", other)), 0);
    assert_int_equal(dlb_idx_read(folder, &idx, &error), DLB_OK);
    dlb_idx_release(idx);
    write_all();
}

static void images_of_one_grey_are_refused(void **state)
{
    static unsigned char byte[HEADER + IMAGES];
    (void)state;
    write_all();
    for (int file = TRAIN_IMAGES; file <= TEST_IMAGES; file += 2) {
        put(byte, 0x803);
        put(byte + 4, IMAGES);
        put(byte + 8, 1);
        put(byte + 12, 1);
        write_file(files[file], byte, sizeof byte);
    }
    refused(folder, "one grey");
}

/* Any size becomes 12 x 12: halves stay halves, and the pixel that both share is mixed. */
static void images_are_scaled(void **state)
{
    static const struct {
        int height, width;
    } sizes[] = {{28, 28}, {12, 12}, {6, 10}, {40, 24}, {2, 1}, {26, 14}};
    (void)state;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        struct dlb_error error = {0};
        struct dlb_idx *idx;
        double squares = 0;
        for (int part = 0; part < FILES; part += 2) {
            write_images(TRAIN_IMAGES + part, sizes[s].height, sizes[s].width);
            write_labels(TRAIN_LABELS + part, IMAGES);
        }
        if (dlb_idx_read(folder, &idx, &error))
            fail_msg("%s", error.text);
        /* Half of all pixels are 255, the others have the mean 90 and ten values. */
        const double mean = (255 + 90) / 2.0;
        for (int label = 0; label < 10; label++)
            squares += (20.0 * label * 20 * label + 255.0 * 255) / 20;
        const double deviation = sqrt(squares - mean * mean);
        for (int label = 0; label < 10; label++) {
            assert_int_equal(dlb_idx_count(idx, false, label), IMAGES / 10);
            const float *pixel = dlb_idx_image(idx, true, label, 3);
            for (int p = 0; p < DLB_IMAGE_PIXELS; p++) {
                double grey = p < DLB_IMAGE_PIXELS / 2 ? 20 * label : 255;
                if (fabs(pixel[p] - (grey - mean) / deviation) > 1e-4)
                    fail_msg("%d x %d, label %d, pixel %d: %g", sizes[s].height,
                             sizes[s].width, label, p, pixel[p]);
            }
        }
        dlb_idx_release(idx);
    }
    write_all();
}

/* The same for the same seed; labels from lowest on; the pixels are those of the label. */
static void images_are_drawn(void **state)
{
    static float pixel[200 * DLB_IMAGE_PIXELS], one[DLB_IMAGE_PIXELS];
    float label[200], alone;
    struct dlb_error error = {0};
    struct dlb_idx *idx;
    int seen[10] = {0};
    (void)state;
    write_all();
    assert_int_equal(dlb_idx_read(folder, &idx, &error), DLB_OK);
    const struct dlb_image_set set = {
        .idx = idx, .test = true, .seed = 4, .lowest = 3, .classes = 5};
    dlb_images(&set, 50, 200, pixel, label);
    for (int i = 0; i < 200; i++) {
        assert_in_range((int)label[i], 0, 4);
        seen[(int)label[i]]++;
        assert_memory_equal(pixel + i * DLB_IMAGE_PIXELS,
                            dlb_idx_image(idx, true, 3 + (int)label[i], 0), sizeof one);
    }
    for (int c = 0; c < 5; c++)
        assert_in_range(seen[c], 20, 70);
    dlb_images(&set, 117, 1, one, &alone);
    assert_true(alone == label[67]);
    dlb_idx_release(idx);
}

static int make_folder(void **state)
{
    (void)state;
    return !mkdtemp(folder);
}

static int remove_folder(void **state)
{
    char path[200];
    (void)state;
    for (int i = 0; i < FILES; i++)
        unlink(path_of(files[i], path));
    unlink(path_of("train-images.idx3-ubyte", path));
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_folders_are_refused),
        cmocka_unit_test(images_of_one_grey_are_refused),
        cmocka_unit_test(images_are_scaled),
        cmocka_unit_test(images_are_drawn),
    };
    return cmocka_run_group_tests_name("idx", tests, make_folder, remove_folder);
}
