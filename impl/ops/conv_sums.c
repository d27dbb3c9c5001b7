#include "ops/conv_sums.h"

#include <string.h>

/* A copy's bias begins on a line of its own. */
static int64_t bias_pitch(const struct dlb_conv_sums *sums)
{
    return dlb_round_up(sums->channels, DLB_BRGEMM_FETCH);
}

bool dlb_conv_sums_make(struct dlb_conv_sums *sums, enum dlb_isa isa, int copies,
                        int64_t elements, int64_t channels)
{
    *sums = (struct dlb_conv_sums){.kernels = dlb_outer_kernels(isa),
                                   .copies = copies,
                                   .elements = dlb_round_up(elements, DLB_BRGEMM_FETCH),
                                   .channels = channels};
    sums->weights = dlb_alloc((size_t)(copies * sums->elements) * sizeof(float));
    sums->bias = dlb_alloc((size_t)(copies * bias_pitch(sums)) * sizeof(float));
    return sums->weights && sums->bias;
}

void dlb_conv_sums_release(struct dlb_conv_sums *sums)
{
    dlb_free(sums->weights);
    dlb_free(sums->bias);
}

size_t dlb_conv_sums_bytes(const struct dlb_conv_sums *sums)
{
    return sizeof(float) * (size_t)(sums->copies * (sums->elements + bias_pitch(sums)));
}

void dlb_conv_sums_bias(const struct dlb_conv_sums *sums, int copy, const float *diff,
                        int64_t pixels, int64_t begin, int64_t end, bool first)
{
    if (sums->channels)
        sums->kernels->sum_rows(diff + begin, sums->channels, pixels, end - begin,
                                sums->bias + copy * bias_pitch(sums) + begin, !first);
}

/* The other copies are added a piece at a time, which stays in L1 meanwhile. */
static void add_share(const struct dlb_conv_sums *sums, const struct dlb_team *team,
                      float *data, int64_t pitch, int64_t elements)
{
    enum { PIECE = 2048 };
    int64_t begin, end;
    dlb_share(dlb_div_up(elements, DLB_BRGEMM_FETCH), team->rank, team->size, &begin,
              &end);
    end = dlb_min(elements, end * DLB_BRGEMM_FETCH);
    for (begin *= DLB_BRGEMM_FETCH; begin < end; begin += PIECE)
        for (int copy = 1; copy < sums->copies; copy++)
            sums->kernels->sum_rows(data + copy * pitch + begin, pitch, 1,
                                    dlb_min(PIECE, end - begin), data + begin, true);
}

void dlb_conv_sums_add(const struct dlb_conv_sums *sums, const struct dlb_team *team)
{
    if (sums->copies == 1)
        return;
    dlb_team_barrier(team);
    add_share(sums, team, sums->weights, sums->elements, sums->elements);
    add_share(sums, team, sums->bias, bias_pitch(sums), sums->channels);
}

void dlb_conv_sums_fetch_bias(const struct dlb_conv_sums *sums,
                              const struct dlb_team *team, float *bias)
{
    int64_t begin, end;
    if (!sums->channels)
        return;
    dlb_share(sums->channels, team->rank, team->size, &begin, &end);
    memcpy(bias + begin, sums->bias + begin, (size_t)(end - begin) * sizeof(float));
}
