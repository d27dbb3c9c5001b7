#include "judge/comparison.h"

#include "exit.h"
#include "judge/significance.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { RESAMPLES = 2000, BOOTSTRAPPED_MAX = 20000, CLASS_WORDS = 16 };

/* Which verdict is told first. */
static const int urgency[DLB_VERDICTS] = {
    [DLB_VERDICT_MISMATCH] = 0, [DLB_VERDICT_REGRESSION] = 1, [DLB_VERDICT_SUSPECT] = 2,
    [DLB_VERDICT_LOST] = 3,     [DLB_VERDICT_NOISY] = 4,      [DLB_VERDICT_MACHINE] = 5,
    [DLB_VERDICT_FASTER] = 6,   [DLB_VERDICT_UNCLEAR] = 7,    [DLB_VERDICT_ADDED] = 8,
    [DLB_VERDICT_SAME] = 9};

static enum dlb_status no_memory(struct dlb_error *error)
{
    return dlb_fail(error, DLB_NOMEM, "There is no memory left to compare.");
}

/* --- what may be compared at all */

/* The words of a part of the key that a run has, each once. */
struct words {
    const char *word[CLASS_WORDS];
    int n;
};

static void add_word(struct words *words, const char *word)
{
    for (int i = 0; i < words->n; i++)
        if (words->word[i] == word)
            return;
    if (words->n < CLASS_WORDS)
        words->word[words->n++] = word;
}

static bool share_word(const struct words *a, const struct words *b)
{
    for (int i = 0; i < a->n; i++)
        for (int j = 0; j < b->n; j++)
            if (a->word[i] == b->word[j])
                return true;
    return false;
}

static const char *class_of(const struct dlb_case_key *key, int class)
{
    return class == 0 ? key->dtype : class == 1 ? key->accuracy : key->cache_state;
}

/* A run of NEW that has nothing of a class in common with BASE. */
static enum dlb_status check_classes(const struct dlb_cases *cases,
                                     struct dlb_error *error)
{
    static const char *const names[] = {"data type", "accuracy class", "cache state"};
    for (int class = 0; class < 3; class ++) {
        struct words base = {0}, *run = calloc((size_t)cases->runs, sizeof *run);
        enum dlb_status status = run ? DLB_OK : no_memory(error);
        for (int i = 0; i < cases->rows && !status; i++) {
            const struct dlb_case_row *row = &cases->row[i];
            const char *word = class_of(&cases->item[row->item].key, class);
            add_word(&run[row->run], word);
            if (cases->run[row->run].side == DLB_BASE)
                add_word(&base, word);
        }
        for (int i = 0; i < cases->runs && !status; i++)
            if (!share_word(&base, &run[i]))
                status = dlb_fail(
                    error, DLB_INVALID,
                    "%s was measured with the %s %s, BASE with %s; such times are not "
                    "compared: measure both with the same one.",
                    cases->file[cases->run[i].file].name, names[class], run[i].word[0],
                    base.word[0]);
        free(run);
        if (status)
            return status;
    }
    return DLB_OK;
}

static const char *machine_of(const struct dlb_case_file *file)
{
    return file->manifest ? dlb_json_find_text(file->manifest, "machine_key") : NULL;
}

static enum dlb_status check_machines(const struct dlb_cases *cases,
                                      struct dlb_error *error)
{
    const struct dlb_case_file *first[DLB_SIDES] = {NULL, NULL};
    for (int i = 0; i < cases->files; i++) {
        const struct dlb_case_file *file = &cases->file[i];
        const struct dlb_case_file **of = &first[file->side];
        if (!machine_of(file))
            continue;
        if (*of && strcmp(machine_of(*of), machine_of(file)))
            return dlb_fail(error, DLB_INVALID,
                            "%s and %s are from different machines; the runs of one side "
                            "must be from one.",
                            (*of)->name, file->name);
        *of = *of ? *of : file;
    }
    return DLB_OK;
}

enum dlb_status dlb_comparison_read(struct dlb_comparison *comparison,
                                    const char *const *base, int bases,
                                    const char *const *fresh, int freshes,
                                    struct dlb_error *error)
{
    enum dlb_status status = DLB_OK;
    struct dlb_cases *cases = &comparison->cases;
    *comparison = (struct dlb_comparison){0};
    for (int i = 0; i < bases && !status; i++)
        status = dlb_cases_add(cases, base[i], DLB_BASE, error);
    for (int i = 0; i < freshes && !status; i++)
        status = dlb_cases_add(cases, fresh[i], DLB_NEW, error);
    if (!status)
        status = check_classes(cases, error);
    if (!status)
        status = check_machines(cases, error);
    return status;
}

const char *dlb_comparison_machine(const struct dlb_comparison *comparison, int side)
{
    for (int i = 0; i < comparison->cases.files; i++)
        if (comparison->cases.file[i].side == side &&
            machine_of(&comparison->cases.file[i]))
            return machine_of(&comparison->cases.file[i]);
    return NULL;
}

/* --- from rows to what the gate judges */

/* Rows of a case on a side that have a time that counts, and those that have not. */
struct tally {
    int timed, noisy, mismatch;
    const struct dlb_case_row *last; /* of those that have not */
};

static struct tally tally_of(const struct dlb_cases *cases, int item, int side)
{
    struct tally tally = {0};
    for (int i = cases->item[item].row; i >= 0; i = cases->row[i].next) {
        const struct dlb_case_row *row = &cases->row[i];
        if (cases->run[row->run].side != side)
            continue;
        if (dlb_case_row_timed(row)) {
            tally.timed++;
            continue;
        }
        tally.noisy += !strcmp(row->status, "noisy");
        tally.mismatch += !strcmp(row->status, "mismatch");
        tally.last = row;
    }
    return tally;
}

/* Number of a run within its side. */
static int number_of_run(const struct dlb_cases *cases, int run)
{
    int number = 0;
    for (int i = 0; i < run; i++)
        number += cases->run[i].side == cases->run[run].side;
    return number;
}

/* The half width of a normal distribution's interval of a level. */
struct width {
    double level, z;
};

static struct dlb_timing timing_of(const struct dlb_case_row *row, int run,
                                   struct width *last)
{
    if (row->sample)
        return dlb_timing_make(run, row->sample, row->samples_n);
    double error = NAN;
    if (row->ci_level > 0 && row->ci_level < 1 && row->ci_hi_ns >= row->ci_lo_ns) {
        if (last->level != row->ci_level)
            *last = (struct width){row->ci_level,
                                   dlb_student_quantile(1 - row->ci_level, INFINITY)};
        error = log(row->ci_hi_ns / row->ci_lo_ns) / (2 * last->z);
    }
    return (struct dlb_timing){.run = run, .median_ns = row->median_ns, .error = error};
}

/* Timings of a side of a case, from *timings on. */
static struct dlb_side take_side(struct dlb_comparison *comparison, int item, int side,
                                 int *timings, double *noise_floor, struct width *last)
{
    const struct dlb_cases *cases = &comparison->cases;
    struct dlb_side taken = {.timing = comparison->timing + *timings};
    double floor = 0;
    int floors = 0;
    for (int i = cases->item[item].row; i >= 0; i = cases->row[i].next) {
        const struct dlb_case_row *row = &cases->row[i];
        if (cases->run[row->run].side != side || !dlb_case_row_timed(row))
            continue;
        comparison->timing[(*timings)++] =
            timing_of(row, number_of_run(cases, row->run), last);
        taken.runs++;
        if (row->noise_floor > 0) {
            floor += row->noise_floor;
            floors++;
        }
    }
    if (floors)
        *noise_floor = fmax(*noise_floor, floor / floors);
    return taken;
}

/* The implementation's version is the same in every run, so that a change of its time is
 * none of its code. */
static bool same_version(const struct dlb_cases *cases, int item)
{
    const char *version = NULL;
    for (int i = cases->item[item].row; i >= 0; i = cases->row[i].next) {
        const struct dlb_case_row *row = &cases->row[i];
        if (!dlb_case_row_timed(row))
            continue;
        if (version && version != row->impl_version)
            return false;
        version = row->impl_version;
    }
    return version && *version;
}

static int find_other(const struct dlb_cases *cases, int item, const char *impl)
{
    struct dlb_case_key key = cases->item[item].key;
    key.impl = impl;
    return dlb_cases_find(cases, &key);
}

/* Controls and partners: a oneDNN row is a control where a row of ours stands beside it. */
static void pair_cases(struct dlb_comparison *comparison, const int *gate_of)
{
    const struct dlb_cases *cases = &comparison->cases;
    for (int i = 0; i < cases->items; i++) {
        if (gate_of[i] < 0 || strcmp(cases->item[i].key.impl, "onednn"))
            continue;
        int native = find_other(cases, i, "native");
        if (native < 0 || gate_of[native] < 0 || !same_version(cases, i))
            continue;
        comparison->gate[gate_of[i]].control = true;
        comparison->gate[gate_of[native]].partner = gate_of[i];
    }
}

/* The verdict of a case that a side has no time of. */
static enum dlb_verdict verdict_without(const struct tally *base,
                                        const struct tally *fresh)
{
    if (fresh->mismatch)
        return DLB_VERDICT_MISMATCH;
    if (!base->timed && !fresh->timed)
        return base->noisy && fresh->noisy ? DLB_VERDICT_NOISY : DLB_VERDICT_SAME;
    if (base->timed)
        return fresh->noisy ? DLB_VERDICT_NOISY : DLB_VERDICT_LOST;
    return base->noisy ? DLB_VERDICT_NOISY : DLB_VERDICT_ADDED;
}

static enum dlb_status collect(struct dlb_comparison *comparison, struct dlb_error *error)
{
    const struct dlb_cases *cases = &comparison->cases;
    struct width last = {0, 0};
    int timings = 0;
    size_t items = (size_t)dlb_max(1, cases->items);
    int *gate_of = malloc(items * sizeof *gate_of);
    comparison->compared = calloc(items, sizeof *comparison->compared);
    comparison->gate = calloc(items, sizeof *comparison->gate);
    comparison->timing =
        malloc((size_t)dlb_max(1, cases->rows) * sizeof *comparison->timing);
    if (!gate_of || !comparison->compared || !comparison->gate || !comparison->timing) {
        free(gate_of);
        return no_memory(error);
    }
    for (int i = 0; i < cases->items; i++) {
        struct tally base = tally_of(cases, i, DLB_BASE);
        struct tally fresh = tally_of(cases, i, DLB_NEW);
        struct dlb_compared compared = {.item = i, .gate = -1, .rerun_ratio = NAN};
        gate_of[i] = -1;
        if (base.timed && fresh.timed && !fresh.mismatch) {
            struct dlb_gate_case *gate = &comparison->gate[comparison->gates];
            gate_of[i] = compared.gate = comparison->gates++;
            gate->id = cases->item[i].id;
            gate->partner = -1;
            gate->base =
                take_side(comparison, i, DLB_BASE, &timings, &gate->noise_floor, &last);
            gate->fresh =
                take_side(comparison, i, DLB_NEW, &timings, &gate->noise_floor, &last);
        } else {
            compared.verdict = verdict_without(&base, &fresh);
            const struct dlb_case_row *said = fresh.last ? fresh.last : base.last;
            compared.reason = said && *said->reason ? said->reason : NULL;
            if (compared.verdict == DLB_VERDICT_SAME)
                continue; /* timed nowhere */
        }
        comparison->compared[comparison->n++] = compared;
    }
    pair_cases(comparison, gate_of);
    free(gate_of);
    return DLB_OK;
}

/* Both sides know at least one case. */
static enum dlb_status check_common(const struct dlb_cases *cases,
                                    struct dlb_error *error)
{
    char name[DLB_SIDES][DLB_CASE_NAME] = {"", ""};
    for (int i = 0; i < cases->items; i++) {
        const struct dlb_case *item = &cases->item[i];
        if (item->has[DLB_BASE] && item->has[DLB_NEW])
            return DLB_OK;
        dlb_case_name(&item->key, name[item->has[DLB_BASE] ? DLB_BASE : DLB_NEW]);
    }
    return dlb_fail(
        error, DLB_INVALID,
        "BASE and NEW have no case in common: BASE has for example %.300s, NEW "
        "has %.300s.",
        name[DLB_BASE], name[DLB_NEW]);
}

static int by_urgency(const void *left, const void *right, void *context)
{
    const struct dlb_comparison *comparison = context;
    const struct dlb_compared *a = left, *b = right;
    if (urgency[a->verdict] != urgency[b->verdict])
        return urgency[a->verdict] - urgency[b->verdict];
    double x = a->gate < 0 ? 0 : fabs(log(comparison->gate[a->gate].ratio));
    double y = b->gate < 0 ? 0 : fabs(log(comparison->gate[b->gate].ratio));
    return x != y ? (x < y) - (x > y) : a->item - b->item;
}

void dlb_comparison_count(struct dlb_comparison *comparison)
{
    memset(comparison->count, 0, sizeof comparison->count);
    comparison->moved_controls = 0;
    for (int i = 0; i < comparison->n; i++) {
        const struct dlb_compared *compared = &comparison->compared[i];
        if (compared->gate >= 0 && comparison->gate[compared->gate].control)
            comparison->moved_controls += compared->verdict == DLB_VERDICT_MACHINE;
        else
            comparison->count[compared->verdict]++;
    }
    comparison->incomplete = comparison->count[DLB_VERDICT_LOST] > 0;
    for (int i = 0; i < comparison->cases.runs; i++)
        comparison->incomplete |= comparison->cases.run[i].side == DLB_NEW &&
                                  comparison->cases.run[i].state != DLB_RUN_WHOLE;
    qsort_r(comparison->compared, (size_t)comparison->n, sizeof *comparison->compared,
            by_urgency, comparison);
}

enum dlb_status dlb_comparison_judge(struct dlb_comparison *comparison,
                                     const struct dlb_comparison_rules *rules,
                                     struct dlb_error *error)
{
    enum dlb_status status = check_common(&comparison->cases, error);
    if (!status)
        status = dlb_cases_samples(&comparison->cases, error);
    if (!status)
        status = collect(comparison, error);
    if (status)
        return status;
    struct dlb_gate_rules gate = {
        .threshold = rules->threshold,
        .resamples = comparison->gates <= BOOTSTRAPPED_MAX ? RESAMPLES : 0,
        .seed = rules->seed,
        .noise = rules->noise};
    if (comparison->gates)
        status = dlb_gate_judge(comparison->gate, comparison->gates, &gate,
                                &comparison->found, error);
    for (int i = 0; i < comparison->n; i++)
        if (comparison->compared[i].gate >= 0)
            comparison->compared[i].verdict =
                comparison->gate[comparison->compared[i].gate].verdict;
    dlb_comparison_count(comparison);
    return status;
}

int dlb_comparison_exit(const struct dlb_comparison *comparison)
{
    const int *count = comparison->count;
    int unclear = count[DLB_VERDICT_UNCLEAR] + count[DLB_VERDICT_NOISY] +
                  count[DLB_VERDICT_MACHINE];
    int clear = count[DLB_VERDICT_SAME] + count[DLB_VERDICT_FASTER];
    if (count[DLB_VERDICT_MISMATCH])
        return DLB_EXIT_MISMATCH;
    if (comparison->found.environment)
        return DLB_EXIT_ENVIRONMENT;
    if (count[DLB_VERDICT_REGRESSION])
        return DLB_EXIT_REGRESSION;
    if (comparison->incomplete)
        return DLB_EXIT_INCOMPLETE;
    return count[DLB_VERDICT_SUSPECT] || unclear > clear ? DLB_EXIT_NOISY : DLB_EXIT_OK;
}

double dlb_comparison_median(const struct dlb_comparison *comparison,
                             const struct dlb_compared *compared, int side)
{
    const struct dlb_cases *cases = &comparison->cases;
    double sum = 0;
    int runs = 0;
    for (int i = cases->item[compared->item].row; i >= 0; i = cases->row[i].next)
        if (cases->run[cases->row[i].run].side == side &&
            dlb_case_row_timed(&cases->row[i])) {
            sum += log(cases->row[i].median_ns);
            runs++;
        }
    return runs ? exp(sum / runs) : NAN;
}

void dlb_comparison_release(struct dlb_comparison *comparison)
{
    dlb_cases_release(&comparison->cases);
    free(comparison->compared);
    free(comparison->gate);
    free(comparison->timing);
    *comparison = (struct dlb_comparison){0};
}
