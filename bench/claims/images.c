#include "claims/images.h"

#include "judge/significance.h"

#include <math.h>
#include <string.h>

static const double NOISE = 0.9, PAPER = -0.5, INK = 1.6;

/* How far (dx, dy), in units of the shape's radius, belongs to shape number label. */
static bool is_inked(int label, double dx, double dy)
{
    static const double THIN = 0.3;
    const double x = fabs(dx), y = fabs(dy), r = sqrt(dx * dx + dy * dy);
    if (x > 1 || y > 1)
        return false;
    switch (label) {
    case 0: /* bar across */
        return y < THIN;
    case 1: /* bar down */
        return x < THIN;
    case 2: /* plus */
        return x < THIN || y < THIN;
    case 3: /* slash */
        return fabs(dx + dy) < 1.4 * THIN;
    case 4: /* backslash */
        return fabs(dx - dy) < 1.4 * THIN;
    case 5: /* cross */
        return fabs(x - y) < 1.2 * THIN;
    case 6: /* frame */
        return x > 1 - THIN || y > 1 - THIN;
    case 7: /* disc */
        return r < 0.9;
    case 8: /* ring */
        return r > 0.6 && r < 1;
    default: /* two bars across */
        return y > 0.4 && y < 0.4 + 1.5 * THIN;
    }
}

static void make_image(int shape, struct dlb_random *random, float *pixel)
{
    const double radius = 3 + 2 * dlb_random_uniform(random);
    const double x0 = DLB_IMAGE_SIDE / 2.0 - 0.5 + 2 * dlb_random_uniform(random) - 1;
    const double y0 = DLB_IMAGE_SIDE / 2.0 - 0.5 + 2 * dlb_random_uniform(random) - 1;
    const double ink = INK * (0.7 + 0.6 * dlb_random_uniform(random));
    for (int p = 0; p < DLB_IMAGE_PIXELS; p++) {
        /* The sum of three uniform numbers is near enough to a normal one. */
        double noise = dlb_random_uniform(random) + dlb_random_uniform(random) +
                       dlb_random_uniform(random) - 1.5;
        bool inked = is_inked(shape, (p % DLB_IMAGE_SIDE - x0) / radius,
                              (p / DLB_IMAGE_SIDE - y0) / radius);
        pixel[p] = (float)(PAPER + (inked ? ink : 0) + 2 * NOISE * noise);
    }
}

static void draw_image(const struct dlb_image_set *set, int label,
                       struct dlb_random *random, float *pixel)
{
    const int64_t n = dlb_idx_count(set->idx, set->test, label);
    const int64_t number = (int64_t)(dlb_random_uniform(random) * (double)n);
    memcpy(pixel, dlb_idx_image(set->idx, set->test, label, dlb_min(number, n - 1)),
           DLB_IMAGE_PIXELS * sizeof *pixel);
}

void dlb_images(const struct dlb_image_set *set, int64_t first, int64_t n, float *pixel,
                float *label)
{
    for (int64_t i = 0; i < n; i++) {
        struct dlb_random random = {.seed = dlb_hash(set->seed, (uint64_t)(first + i))};
        const int shape = set->lowest + (int)(dlb_random_uniform(&random) * set->classes);
        label[i] = (float)(shape - set->lowest);
        if (set->idx)
            draw_image(set, shape, &random, pixel + i * DLB_IMAGE_PIXELS);
        else
            make_image(shape, &random, pixel + i * DLB_IMAGE_PIXELS);
    }
}
