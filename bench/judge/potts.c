#include "judge/potts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SEGMENT_MIN = DLB_POTTS_SEGMENT_MIN };

static const double noise_min = 1e-3;      /* quieter than that no clock of a night is */
static const double correlation_max = 0.9; /* of residuals, as it is used */
static const double deviation_scale = 1.4826; /* of the normal distribution */

struct fit {
    const double *value;
    int n;
    double *sorted, *scratch; /* n values each */
    double *cost;             /* of the best fit of the first i values; n + 1 */
    int *from;                /* where the last piece of that fit begins */
    int *begin;               /* where the pieces begin, the first at 0 */
    int pieces_n;
};

static int compare(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static double median_of_sorted(const double *sorted, int n)
{
    return (sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
}

/* Sorts value. */
static double median_of(double *value, int n)
{
    qsort(value, (size_t)n, sizeof *value, compare);
    return median_of_sorted(value, n);
}

/* Standard deviation by the median absolute deviation; overwrites value. */
static double deviation_of(double *value, int n)
{
    double median = median_of(value, n);
    for (int i = 0; i < n; i++)
        value[i] = fabs(value[i] - median);
    return deviation_scale * median_of(value, n);
}

static double level(const struct fit *fit, int begin, int end)
{
    memcpy(fit->scratch, fit->value + begin, (size_t)(end - begin) * sizeof(double));
    return median_of(fit->scratch, end - begin);
}

static int piece_end(const struct fit *fit, int piece)
{
    return piece + 1 < fit->pieces_n ? fit->begin[piece + 1] : fit->n;
}

/* Puts value among the n sorted ones. */
static void insert(double *sorted, int n, double value)
{
    int low = 0, high = n;
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (sorted[middle] < value)
            low = middle + 1;
        else
            high = middle;
    }
    memmove(sorted + low + 1, sorted + low, (size_t)(n - low) * sizeof *sorted);
    sorted[low] = value;
}

/* Pieces that begin at begin: what each end would cost.  One more value adds its distance
 * from the interval of medians that the values before it have. */
static void extend(struct fit *fit, int begin, double gamma)
{
    double distance = 0;
    for (int end = begin; end < fit->n; end++) {
        double value = fit->value[end];
        int n = end - begin;
        if (n) {
            double low = fit->sorted[(n - 1) / 2], high = fit->sorted[n / 2];
            distance += value < low ? low - value : value > high ? value - high : 0;
        }
        insert(fit->sorted, n, value);
        double total = fit->cost[begin] + (begin ? gamma : 0) + distance;
        if (n + 1 >= SEGMENT_MIN && total < fit->cost[end + 1]) {
            fit->cost[end + 1] = total;
            fit->from[end + 1] = begin;
        }
    }
}

static void solve(struct fit *fit, double gamma)
{
    for (int i = 0; i <= fit->n; i++)
        fit->cost[i] = i ? INFINITY : 0;
    for (int begin = 0; begin + SEGMENT_MIN <= fit->n; begin++)
        if (isfinite(fit->cost[begin]))
            extend(fit, begin, gamma);
    if (fit->n && fit->n < SEGMENT_MIN)
        fit->from[fit->n] = 0;
    fit->pieces_n = 0;
    for (int end = fit->n; end; end = fit->from[end])
        fit->pieces_n++;
    for (int end = fit->n, i = fit->pieces_n; end; end = fit->from[end])
        fit->begin[--i] = fit->from[end];
}

static double noise_of_neighbours(const struct fit *fit)
{
    for (int i = 0; i + 1 < fit->n; i++)
        fit->scratch[i] = fit->value[i + 1] - fit->value[i];
    return deviation_of(fit->scratch, fit->n - 1) / sqrt(2);
}

/* What is left of the values without their levels, into residual. */
static void subtract_levels(const struct fit *fit, double *residual)
{
    for (int i = 0; i < fit->pieces_n; i++) {
        double median = level(fit, fit->begin[i], piece_end(fit, i));
        for (int j = fit->begin[i]; j < piece_end(fit, i); j++)
            residual[j] = fit->value[j] - median;
    }
}

static double clamp(double value, double limit)
{
    return fmax(-limit, fmin(limit, value));
}

/* How neighbours go together, bad nights held to four deviations; 0 to correlation_max. */
static double correlation(const double *residual, int n, double deviation)
{
    double limit = 4 * deviation, product = 0, square = 0;
    for (int i = 0; i + 1 < n; i++) {
        double a = clamp(residual[i], limit), b = clamp(residual[i + 1], limit);
        product += a * b;
        square += a * a;
    }
    return square > 0 ? clamp(fmax(0, product / square), correlation_max) : 0;
}

/* Fits; returns the noise of a value within its piece. */
static double fit_levels(struct fit *fit)
{
    double *residual = fit->sorted; /* not in use between two solutions */
    double penalty = 3 + log(fit->n);
    double neighbours = fmax(noise_of_neighbours(fit), noise_min);
    solve(fit, neighbours * penalty);
    subtract_levels(fit, residual);
    memcpy(fit->scratch, residual, (size_t)fit->n * sizeof *residual);
    double within = deviation_of(fit->scratch, fit->n);
    double rho = correlation(residual, fit->n, within);
    double lasting = fmax(neighbours, within) * sqrt((1 + rho) / (1 - rho));
    if (lasting > 1.1 * neighbours)
        solve(fit, lasting * penalty);
    return within;
}

/* The smallest step between two pieces; *piece is the second of them. */
static double smallest_step(const struct fit *fit, int *piece)
{
    double smallest = INFINITY, before = 0;
    for (int i = 0; i < fit->pieces_n; i++) {
        double now = level(fit, fit->begin[i], piece_end(fit, i));
        if (i && fabs(now - before) < smallest) {
            smallest = fabs(now - before);
            *piece = i;
        }
        before = now;
    }
    return smallest;
}

static void merge_small_steps(struct fit *fit, double step_min)
{
    int piece = 0;
    while (fit->pieces_n > 1 && smallest_step(fit, &piece) < step_min) {
        fit->pieces_n--;
        memmove(fit->begin + piece, fit->begin + piece + 1,
                (size_t)(fit->pieces_n - piece) * sizeof *fit->begin);
    }
}

static void describe(const struct fit *fit, struct dlb_potts_change *change)
{
    for (int i = 1; i < fit->pieces_n; i++) {
        int begin = fit->begin[i - 1], at = fit->begin[i], end = piece_end(fit, i);
        change[i - 1] = (struct dlb_potts_change){.at = at,
                                                  .before_n = at - begin,
                                                  .after_n = end - at,
                                                  .before = level(fit, begin, at),
                                                  .after = level(fit, at, end)};
    }
}

static void fit_release(struct fit *fit)
{
    free(fit->sorted);
    free(fit->scratch);
    free(fit->cost);
    free(fit->from);
    free(fit->begin);
}

/* Release it also after a failure. */
static enum dlb_status fit_make(struct fit *fit, const double *value, int n,
                                struct dlb_error *error)
{
    size_t room = (size_t)n + 1;
    *fit = (struct fit){.value = value, .n = n};
    fit->sorted = malloc(room * sizeof *fit->sorted);
    fit->scratch = malloc(room * sizeof *fit->scratch);
    fit->cost = malloc(room * sizeof *fit->cost);
    fit->from = malloc(room * sizeof *fit->from);
    fit->begin = malloc(room * sizeof *fit->begin);
    if (fit->sorted && fit->scratch && fit->cost && fit->from && fit->begin)
        return DLB_OK;
    return dlb_fail(error, DLB_NOMEM, "There is no memory left for a series of %d.", n);
}

enum dlb_status dlb_potts_fit(const double *value, int n, double gamma, int *begin,
                              int *pieces_n, struct dlb_error *error)
{
    struct fit fit;
    enum dlb_status status = fit_make(&fit, value, n, error);
    if (!status) {
        solve(&fit, gamma);
        *pieces_n = fit.pieces_n;
        memcpy(begin, fit.begin, (size_t)fit.pieces_n * sizeof *begin);
    }
    fit_release(&fit);
    return status;
}

enum dlb_status dlb_potts_changes(const double *value, int n, double step_min,
                                  struct dlb_potts_change *change, int *changes_n,
                                  double *noise, struct dlb_error *error)
{
    struct fit fit;
    double found = NAN;
    enum dlb_status status = fit_make(&fit, value, n, error);
    *changes_n = 0;
    if (status)
        goto out;
    if (n >= 3)
        found = fit_levels(&fit);
    if (n >= DLB_POTTS_VALUES_MIN) {
        merge_small_steps(&fit, step_min);
        describe(&fit, change);
        *changes_n = fit.pieces_n - 1;
    }
    if (noise)
        *noise = found;
out:
    fit_release(&fit);
    return status;
}
