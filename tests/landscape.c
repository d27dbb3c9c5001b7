#include "landscape.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

const char *const landscape_noise_names[LANDSCAPE_NOISES] = {
    "still", "one-sided", "drifting", "outliers", "bimodal"};

/* Uniform in (0, 1). */
static double uniform(uint64_t *random)
{
    return ((double)(dlb_hash(7, ++*random) >> 11) + 0.5) * 0x1p-53;
}

static double normal(uint64_t *random)
{
    double u = uniform(random);
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * uniform(random));
}

void landscape_make(struct landscape *landscape, int n, uint64_t seed,
                    enum landscape_noise noise)
{
    static const double SHAPE = 0.644, SCALE = 1.219; /* Weibull through the quantiles */
    static const double MODEL_SPREAD = 0.35, LONELY = 0.03;
    uint64_t random = seed << 32;
    *landscape = (struct landscape){
        .n = n,
        .true_ns = calloc((size_t)n, sizeof(double)),
        .model_ns = calloc((size_t)n, sizeof(double)),
        .verified_once = calloc((size_t)n, sizeof(bool)),
        .wrong = -1,
        .impossible = -1,
        .noise = noise,
        .verify_ns = 3e6,
        .block_ns = 1e6,
        .random = random + (1u << 30),
    };
    assert_true(landscape->true_ns && landscape->model_ns && landscape->verified_once);
    for (int i = 0; i < n; i++) {
        double slower = SCALE * pow(-log(uniform(&random)), 1 / SHAPE);
        landscape->true_ns[i] = 1e5 * (1 + slower);
        landscape->model_ns[i] =
            landscape->true_ns[i] * exp(MODEL_SPREAD * normal(&random));
        if (landscape->true_ns[i] < landscape->true_ns[landscape->best])
            landscape->best = i;
    }
    for (int i = 0; i < n; i++)
        if (i != landscape->best)
            landscape->true_ns[i] += LONELY * 1e5;
}

void landscape_release(struct landscape *landscape)
{
    free(landscape->true_ns);
    free(landscape->model_ns);
    free(landscape->verified_once);
    *landscape = (struct landscape){0};
}

static double disturbance(struct landscape *l)
{
    double seconds = l->clock_ns * 1e-9;
    double small = 1 + 0.005 * fabs(normal(&l->random));
    switch (l->noise) {
    case LANDSCAPE_ONE_SIDED:
        return 1 - 0.05 * log(uniform(&l->random));
    case LANDSCAPE_DRIFTING:
        return small * (1.25 - 0.25 * exp(-seconds / 2));
    case LANDSCAPE_OUTLIERS:
        return uniform(&l->random) < 0.05 ? 1 + 9 * uniform(&l->random) : small;
    case LANDSCAPE_BIMODAL:
        return dlb_hash(l->random >> 32, (uint64_t)(4 * seconds)) % 4 ? small : 2 * small;
    default:
        return 1;
    }
}

static double clock_ns(void *context)
{
    return ((const struct landscape *)context)->clock_ns;
}

static enum dlb_status verify(void *context, int point, enum dlb_admission *admission,
                              char reason[DLB_REASON_MAX], struct dlb_error *error)
{
    struct landscape *l = context;
    (void)error;
    assert_in_range(point, 0, l->n - 1);
    assert_false(l->verified_once[point]);
    l->verified_once[point] = true;
    l->verified++;
    l->clock_ns += l->verify_ns;
    *admission = point == l->wrong        ? DLB_WRONG
                 : point == l->impossible ? DLB_REFUSED
                                          : DLB_ADMITTED;
    strcpy(reason, point == l->wrong ? "it is wrong" : "it is impossible");
    return DLB_OK;
}

static enum dlb_status time_point(void *context, int point, double *ns,
                                  struct dlb_error *error)
{
    struct landscape *l = context;
    (void)error;
    assert_true(l->verified_once[point]);
    assert_true(point != l->wrong && point != l->impossible);
    l->timed++;
    *ns = l->true_ns[point] * disturbance(l);
    l->clock_ns += *ns + fmax(*ns, l->block_ns);
    return DLB_OK;
}

static void rest(void *context, int point)
{
    (void)context, (void)point;
}

struct dlb_timings landscape_timings(struct landscape *landscape)
{
    return (struct dlb_timings){landscape, clock_ns, verify, time_point, rest};
}

void landscape_order(const struct landscape *landscape, int *order)
{
    for (int i = 0; i < landscape->n; i++) {
        int at = i;
        for (; at > 1 && i > 0 &&
               landscape->model_ns[order[at - 1]] > landscape->model_ns[i];
             at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
}

double landscape_regret(const struct landscape *landscape, int point)
{
    return landscape->true_ns[point] / landscape->true_ns[landscape->best] - 1;
}
