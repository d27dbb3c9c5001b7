/*
 * A pass that writes an image, as convolutions from one image into another.
 *
 * Forward is one.  Backward data gives pixel ih = r + j*SH of diff_src the taps kh with
 * r + PH - kh*(DH+1) a multiple of SH, whatever j: with the taps in reverse these are
 * convolutions of stride 1, one for each pair of remainders r of rows and columns.
 * Remainders that no tap meets have no phase; their pixels are zeros.
 */
#include "core/brgemm.h"
#include "ops/conv_internal.h"

static int64_t gcd(int64_t a, int64_t b)
{
    return b ? gcd(b, a % b) : a;
}

/* One axis of a phase. */
struct axis {
    int64_t size;            /* of what is written */
    int64_t taps, pad, step; /* as in a convolution of stride 1; step is dilation + 1 */
    int64_t last, distance;  /* its tap t is tap last - t*distance of the kernel */
};

static struct axis axis_make(int64_t remainder, int64_t in_size, int64_t kernel,
                             int64_t stride, int64_t pad, int64_t dilation)
{
    int64_t reach = dilation + 1, distance = stride / gcd(stride, reach), first = 0;
    struct axis axis = {.size = dlb_div_up(in_size - remainder, stride)};
    while (first < dlb_min(distance, kernel) &&
           (remainder + pad - first * reach) % stride)
        first++;
    if (first >= dlb_min(distance, kernel))
        return axis;
    axis.taps = (kernel - 1 - first) / distance + 1;
    axis.distance = distance;
    axis.last = first + (axis.taps - 1) * distance;
    axis.pad = -(remainder + pad - axis.last * reach) / stride;
    axis.step = distance * reach / stride;
    return axis;
}

static struct axis row_axis(const struct dlb_conv_shape *s, int64_t remainder)
{
    return axis_make(remainder, s->ih, s->kh, s->sh, s->ph, s->dh);
}

static struct axis column_axis(const struct dlb_conv_shape *s, int64_t remainder)
{
    return axis_make(remainder, s->iw, s->kw, s->sw, s->pw, s->dw);
}

static void forward_phase(const struct dlb_conv_shape *s, struct dlb_conv_phase *phase)
{
    int64_t taps = s->kh * s->kw;
    *phase = (struct dlb_conv_phase){
        .s = *s,
        .dst_image = s->oh * s->ow * s->oc,
        .dst_row = s->ow * s->oc,
        .dst_pixel = s->oc,
        .w_group = s->ocg * s->icg * taps,
        .w_out = s->icg * taps,
        .w_in = taps,
        .w_kh = s->kw,
        .w_kw = 1,
    };
}

static bool backward_phase(const struct dlb_conv_shape *s, int64_t row, int64_t column,
                           struct dlb_conv_phase *phase)
{
    struct axis h = row_axis(s, row), w = column_axis(s, column);
    int64_t taps = s->kh * s->kw;
    *phase = (struct dlb_conv_phase){
        .s = {.g = s->g,
              .mb = s->mb,
              .ic = s->oc,
              .ih = s->oh,
              .iw = s->ow,
              .oc = s->ic,
              .oh = h.size,
              .ow = w.size,
              .kh = h.taps,
              .kw = w.taps,
              .sh = 1,
              .sw = 1,
              .ph = h.pad,
              .pw = w.pad,
              .dh = h.step - 1,
              .dw = w.step - 1,
              .icg = s->ocg,
              .ocg = s->icg},
        .dst = (row * s->iw + column) * s->ic,
        .dst_image = s->ih * s->iw * s->ic,
        .dst_row = s->sh * s->iw * s->ic,
        .dst_pixel = s->sw * s->ic,
        .w = h.last * s->kw + w.last,
        .w_group = s->ocg * s->icg * taps,
        .w_out = taps,
        .w_in = s->icg * taps,
        .w_kh = -h.distance * s->kw,
        .w_kw = -w.distance,
    };
    return h.taps && w.taps;
}

int64_t dlb_conv_phases(const struct dlb_problem *problem)
{
    struct dlb_conv_shape s;
    dlb_conv_shape_get(problem, &s);
    return problem->pass == DLB_BWD_DATA ? dlb_min(s.sh, s.ih) * dlb_min(s.sw, s.iw) : 1;
}

bool dlb_conv_phase_get(const struct dlb_problem *problem, int64_t index,
                        struct dlb_conv_phase *phase)
{
    struct dlb_conv_shape s;
    dlb_conv_shape_get(problem, &s);
    int64_t columns = dlb_min(s.sw, s.iw);
    if (problem->pass == DLB_BWD_DATA)
        return backward_phase(&s, index / columns, index % columns, phase);
    forward_phase(&s, phase);
    return true;
}

bool dlb_conv_phase_is_dense(const struct dlb_conv_phase *phase)
{
    const struct dlb_conv_shape *s = &phase->s;
    return phase->dst_pixel == s->oc && phase->dst_row == s->ow * s->oc &&
           phase->dst_image == s->oh * s->ow * s->oc;
}

/* So many zeros, by tiles without a reduction. */
static void write_zeros(const struct dlb_brgemm_kernels *kernels, float *dst,
                        int64_t elements, bool stream)
{
    const int nv = 2, width = nv * kernels->lanes;
    struct dlb_brgemm call = {
        .c = dst, .ldc = width, .n = width, .flags = stream ? DLB_BRGEMM_STREAM : 0};
    for (int64_t left = elements; left > 0;) {
        int64_t rows = dlb_min(dlb_max(1, left / width), kernels->mr_max[nv]);
        call.n = (int)dlb_min(left, width);
        kernels->tile[nv][rows](&call);
        call.c += rows * call.n;
        left -= rows * call.n;
    }
}

void dlb_conv_zero_unmet(const struct dlb_problem *problem, enum dlb_isa isa,
                         const struct dlb_team *team, bool stream, float *dst)
{
    const struct dlb_brgemm_kernels *kernels = dlb_brgemm_kernels(isa);
    struct dlb_conv_shape s;
    int64_t rows[2];
    dlb_conv_shape_get(problem, &s);
    dlb_share(s.mb * s.ih, team->rank, team->size, &rows[0], &rows[1]);
    for (int64_t row = rows[0]; row < rows[1]; row++) {
        float *line = dst + row * s.iw * s.ic;
        if (!row_axis(&s, row % s.ih % s.sh).taps) {
            write_zeros(kernels, line, s.iw * s.ic, stream);
            continue;
        }
        for (int64_t first = 0; first < dlb_min(s.sw, s.iw); first++)
            if (!column_axis(&s, first).taps)
                for (int64_t x = first; x < s.iw; x += s.sw)
                    write_zeros(kernels, line + x * s.ic, s.ic, stream);
    }
}
