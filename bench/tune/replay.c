#include "tune/replay.h"

#include "measure/stats.h"
#include "record/rows.h"
#include "tune/space.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const double BLOCK_NS = 1e6, VERIFY_RUNS = 3;
enum { ALWAYS = 4 };

/* Reading */

struct reader {
    struct dlb_recording *recording;
    int recordings;
};

/* One more element of the array at *items, zeroed; NULL without memory. */
static void *grow(void *items, int *n, size_t size)
{
    char **array = items;
    char *grown = realloc(*array, ((size_t)*n + 1) * size);
    if (!grown)
        return NULL;
    *array = grown;
    return memset(grown + (size_t)(*n)++ * size, 0, size);
}

static enum dlb_status no_memory(struct dlb_error *error)
{
    return dlb_fail(error, DLB_NOMEM, "No memory is left for the recorded trials.");
}

static const char *text_of(const struct dlb_cell *cell)
{
    return cell->set ? cell->text : "";
}

static struct dlb_recording *recording_of(struct reader *reader,
                                          const struct dlb_cell *cell)
{
    const char *key[] = {text_of(&cell[DLB_TRIAL_OP]), text_of(&cell[DLB_TRIAL_PASS]),
                         text_of(&cell[DLB_TRIAL_SHAPE]),
                         text_of(&cell[DLB_TRIAL_THREAD_SET])};
    struct dlb_recording *r;
    for (int i = reader->recordings - 1; i >= 0; i--) {
        r = &reader->recording[i];
        if (!strcmp(r->op, key[0]) && !strcmp(r->pass, key[1]) &&
            !strcmp(r->shape, key[2]) && !strcmp(r->thread_set, key[3]))
            return r;
    }
    r = grow(&reader->recording, &reader->recordings, sizeof *r);
    if (!r)
        return NULL;
    char **copy[] = {&r->op, &r->pass, &r->shape, &r->thread_set};
    for (int i = 0; i < 4; i++)
        if (!(*copy[i] = strdup(key[i])))
            return NULL;
    return r;
}

static struct dlb_recorded_point *point_of(struct dlb_recording *recording,
                                           const char *candidate)
{
    for (int i = recording->points - 1; i >= 0; i--)
        if (!strcmp(recording->point[i].candidate, candidate))
            return &recording->point[i];
    struct dlb_recorded_point *point =
        grow(&recording->point, &recording->points, sizeof *point);
    if (point)
        point->candidate = strdup(candidate);
    return point && point->candidate ? point : NULL;
}

static enum dlb_status read_trial(void *context, struct dlb_cell *cell,
                                  const struct dlb_csv_record *line,
                                  struct dlb_error *error)
{
    struct reader *reader = context;
    (void)line;
    struct dlb_recording *recording = recording_of(reader, cell);
    struct dlb_recorded_point *point =
        recording ? point_of(recording, text_of(&cell[DLB_TRIAL_CANDIDATE])) : NULL;
    if (!point)
        return no_memory(error);
    const char *outcome = text_of(&cell[DLB_TRIAL_OUTCOME]);
    if (!strcmp(outcome, "refused"))
        point->admission = DLB_REFUSED;
    if (!strcmp(outcome, "mismatch"))
        point->admission = DLB_WRONG;
    if (cell[DLB_TRIAL_MODEL_NS].set)
        point->model_ns = cell[DLB_TRIAL_MODEL_NS].number;
    if (!cell[DLB_TRIAL_BEST_NS].set || cell[DLB_TRIAL_BEST_NS].number <= 0)
        return DLB_OK;
    if (!grow(&point->record, &point->records, sizeof *point->record))
        return no_memory(error);
    point->record[point->records - 1].samples = (int)cell[DLB_TRIAL_SAMPLES].integer;
    point->record[point->records - 1].best_ns = cell[DLB_TRIAL_BEST_NS].number;
    return DLB_OK;
}

static void release_point(struct dlb_recorded_point *point)
{
    free(point->candidate);
    free(point->record);
}

/* Points without a time are as if they had not been there. */
static int drop_untimed(struct dlb_recording *recording)
{
    int n = 0;
    for (int i = 0; i < recording->points; i++) {
        struct dlb_recorded_point *point = &recording->point[i];
        if (point->records || point->admission != DLB_ADMITTED) {
            recording->point[n++] = *point;
        } else {
            release_point(point);
            recording->untimed++;
        }
    }
    recording->points = n;
    return n;
}

enum dlb_status dlb_replay_read(const char *path, struct dlb_recording **recording,
                                int *recordings, struct dlb_error *error)
{
    struct reader reader = {0};
    struct stat info;
    char *file;
    int points = 0;
    *recording = NULL;
    *recordings = 0;
    bool folder = !stat(path, &info) && S_ISDIR(info.st_mode);
    if (asprintf(&file, "%s%s%s", path, folder ? "/" : "",
                 folder ? dlb_tables[DLB_TABLE_TRIALS].file : "") < 0)
        return no_memory(error);
    enum dlb_status status =
        dlb_table_read(file, DLB_TABLE_TRIALS, false, read_trial, &reader, NULL, error);
    for (int i = 0; i < reader.recordings && !status; i++)
        points += drop_untimed(&reader.recording[i]);
    if (!status && !points)
        status = dlb_fail(error, DLB_INVALID,
                          "%s holds no candidate that was timed; a run with --sweep "
                          "writes such a file.",
                          file);
    free(file);
    if (status) {
        dlb_replay_release(reader.recording, reader.recordings);
        return status;
    }
    *recording = reader.recording;
    *recordings = reader.recordings;
    return DLB_OK;
}

void dlb_replay_release(struct dlb_recording *recording, int recordings)
{
    for (int i = 0; i < recordings; i++) {
        struct dlb_recording *r = &recording[i];
        for (int k = 0; k < r->points; k++)
            release_point(&r->point[k]);
        free(r->point);
        free(r->op);
        free(r->pass);
        free(r->shape);
        free(r->thread_set);
    }
    free(recording);
}

/* Replaying */

static double clock_ns(void *context)
{
    return ((const struct dlb_recording *)context)->clock_ns;
}

static enum dlb_status verify(void *context, int number, enum dlb_admission *admission,
                              char reason[DLB_REASON_MAX], struct dlb_error *error)
{
    struct dlb_recording *recording = context;
    const struct dlb_recorded_point *point = &recording->point[number];
    (void)error;
    *admission = point->admission;
    if (point->records)
        recording->clock_ns += VERIFY_RUNS * point->record[0].best_ns;
    snprintf(reason, DLB_REASON_MAX, "as recorded");
    return DLB_OK;
}

static enum dlb_status time_point(void *context, int number, double *ns,
                                  struct dlb_error *error)
{
    struct dlb_recording *recording = context;
    struct dlb_recorded_point *point = &recording->point[number];
    int i = 0;
    (void)error;
    point->taken++;
    while (i < point->records - 1 && point->record[i].samples < point->taken)
        i++;
    *ns = point->record[i].best_ns;
    recording->clock_ns += *ns + fmax(*ns, BLOCK_NS);
    return DLB_OK;
}

static void rest(void *context, int number)
{
    (void)context, (void)number;
}

struct dlb_timings dlb_replay_timings(struct dlb_recording *recording)
{
    recording->clock_ns = 0;
    for (int i = 0; i < recording->points; i++)
        recording->point[i].taken = 0;
    return (struct dlb_timings){recording, clock_ns, verify, time_point, rest};
}

double dlb_replay_best_ns(const struct dlb_recorded_point *point)
{
    double best = NAN;
    for (int i = 0; i < point->records; i++)
        best = fmin(best, point->record[i].best_ns);
    return best;
}

/* Point 0 first, the others by the model, those of equal rank in the order of the file. */
static void rank(const struct dlb_recording *recording, int *order)
{
    const struct dlb_recorded_point *point = recording->point;
    for (int i = 0; i < recording->points; i++) {
        int at = i;
        for (; at > 1 && point[order[at - 1]].model_ns > point[i].model_ns; at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
}

enum dlb_status dlb_replay_search(struct dlb_recording *recording, double seconds,
                                  struct dlb_search_result *result,
                                  struct dlb_error *error)
{
    struct dlb_timings timings = dlb_replay_timings(recording);
    int n = recording->points;
    int *order = malloc((size_t)dlb_max(1, n) * sizeof *order);
    if (!order)
        return no_memory(error);
    rank(recording, order);
    struct dlb_search search = {.timings = &timings,
                                .order = order,
                                .points = n,
                                .most = dlb_space_most(n),
                                .always = ALWAYS,
                                .seconds = seconds};
    enum dlb_status status = dlb_search_run(&search, result, error);
    free(order);
    return status;
}

static double best_recorded(const struct dlb_recording *recording)
{
    double best = NAN;
    for (int i = 0; i < recording->points; i++)
        if (recording->point[i].admission == DLB_ADMITTED)
            best = fmin(best, dlb_replay_best_ns(&recording->point[i]));
    return best;
}

static void print_search(const struct dlb_recording *recording,
                         const struct dlb_search_result *result, double best_ns,
                         double regret, FILE *out)
{
    fprintf(out, "%s %s %s on %s: ", recording->op, recording->pass, recording->shape,
            recording->thread_set);
    if (!result->found) {
        fprintf(out, "no right candidate was recorded\n");
        return;
    }
    fprintf(out,
            "%s, %.0f ns, %.2f%% above the best recorded (%.0f ns); %d of %d tried, %d "
            "samples, %.2f s\n",
            recording->point[result->best[0]].candidate, best_ns * (1 + regret),
            100 * regret, best_ns, result->timed, recording->points, result->samples,
            result->seconds);
}

enum dlb_status dlb_replay_run(const char *path, double seconds, bool quiet, FILE *out,
                               struct dlb_error *error)
{
    struct dlb_recording *recording;
    int recordings, found = 0;
    enum dlb_status status = dlb_replay_read(path, &recording, &recordings, error);
    if (status)
        return status;
    double *regret = calloc((size_t)recordings, sizeof *regret);
    if (!regret)
        status = no_memory(error);
    for (int i = 0; i < recordings && !status; i++) {
        struct dlb_recording *r = &recording[i];
        struct dlb_search_result result;
        double best_ns = best_recorded(r), above = NAN;
        status = dlb_replay_search(r, seconds > 0 ? seconds : INFINITY, &result, error);
        if (status)
            break;
        if (result.found)
            regret[found++] = above =
                dlb_replay_best_ns(&r->point[result.best[0]]) / best_ns - 1;
        if (!quiet)
            print_search(r, &result, best_ns, above, out);
    }
    if (!status)
        fprintf(out,
                "%d search%s replayed: above the best recorded by %.2f%% in the median, "
                "%.2f%% p90, %.2f%% at most. Nothing was timed.\n",
                found, found == 1 ? "" : "es", 100 * dlb_quantile(regret, found, 0.5),
                100 * dlb_quantile(regret, found, 0.9),
                100 * dlb_quantile(regret, found, 1));
    free(regret);
    dlb_replay_release(recording, recordings);
    return status;
}
