/* From observations to verdicts; what is computed stands at the head of claims.h. */
#include "claims/claims.h"

#include "judge/significance.h"
#include "measure/stats.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const dlb_verdict_words[DLB_VERDICT_WORDS] = {
    "supported", "conditional", "refuted", "inconclusive", "not measured"};

static const double LEVEL = 0.95;
enum { REPLICATES_LEAST = 2, KEYS_MAX = 12, WORD_MAX = 64, LISTED_MAX = 4 };

enum answer { YES, NO, UNCLEAR };

/* One (condition, impl, threads); first: a row of it. */
struct cell {
    const struct dlb_observed *first;
    int n;
    double effect, lo, hi;
    enum answer says;
};

struct judging {
    const struct dlb_claim *claim;
    const struct dlb_observed *row; /* of the experiment */
    int rows;
    struct cell *cell; /* owned */
    int cells;
};

/* Values of one arm by replicate: rows [begin, end) of the sorted observations. */
struct series {
    const struct dlb_observed *begin, *end;
};

static bool same_condition(const struct dlb_observed *a, const struct dlb_observed *b)
{
    return !strcmp(a->condition, b->condition) && !strcmp(a->impl, b->impl);
}

static bool same_cell(const struct dlb_observed *a, const struct dlb_observed *b)
{
    return same_condition(a, b) && a->threads == b->threads;
}

/* The rows of an arm under first's condition, with so many threads, that are judged. */
static struct series series_of(const struct judging *j, const struct dlb_observed *first,
                               int64_t threads, const char *arm)
{
    struct series s = {NULL, NULL};
    for (int i = 0; i < j->rows; i++) {
        const struct dlb_observed *row = &j->row[i];
        if (row->step || row->threads != threads || !same_condition(row, first) ||
            strcmp(row->metric, j->claim->metric) || strcmp(row->arm, arm)) {
            if (s.begin)
                break;
            continue;
        }
        if (!s.begin)
            s.begin = row;
        s.end = row + 1;
    }
    return s;
}

/* Slope of the rows of one replicate, from *at on, which moves behind them; NaN without
 * two different x. */
static double slope(const struct dlb_observed **at, const struct dlb_observed *end,
                    bool logarithms)
{
    const int64_t replicate = (*at)->replicate;
    double n = 0, sx = 0, sy = 0, sxx = 0, sxy = 0;
    for (; *at < end && (*at)->replicate == replicate; ++*at) {
        double x = logarithms ? log((*at)->x) : (*at)->x;
        double y = logarithms ? log((*at)->value) : (*at)->value;
        n++;
        sx += x;
        sy += y;
        sxx += x * x;
        sxy += x * y;
    }
    double spread = sxx - sx * sx / n;
    return spread > 0 ? (sxy - sx * sy / n) / spread : NAN;
}

/* One number a replicate; replicate[] says which.  Room for as many as there are rows. */
static int reduce(const struct judging *j, struct series s, double *value,
                  int64_t *replicate)
{
    const enum dlb_statistic statistic = j->claim->statistic;
    bool fits = statistic == DLB_STATISTIC_SLOPE || statistic == DLB_STATISTIC_EXPONENT;
    int n = 0;
    for (const struct dlb_observed *at = s.begin; at < s.end;) {
        replicate[n] = at->replicate;
        value[n] =
            fits ? slope(&at, s.end, statistic == DLB_STATISTIC_EXPONENT) : (at++)->value;
        n += isfinite(value[n]);
    }
    return n;
}

/* Keeps the replicates that both have. */
static int join(double *a, const int64_t *a_replicate, int an, double *b,
                const int64_t *b_replicate, int bn)
{
    int n = 0;
    for (int i = 0, k = 0; i < an && k < bn;) {
        if (a_replicate[i] < b_replicate[k]) {
            i++;
        } else if (a_replicate[i] > b_replicate[k]) {
            k++;
        } else {
            a[n] = a[i++];
            b[n++] = b[k++];
        }
    }
    return n;
}

/* Facts of arithmetic are exact; of all else one replicate says nothing of the spread. */
static void mean_interval(const struct dlb_claim *claim, const double *value, int n,
                          struct cell *cell)
{
    double sum = 0, squares = 0;
    for (int i = 0; i < n; i++)
        sum += value[i];
    double mean = sum / n;
    for (int i = 0; i < n; i++)
        squares += (value[i] - mean) * (value[i] - mean);
    double half = claim->kind == DLB_ARITHMETIC ? 0
                  : n < REPLICATES_LEAST        ? INFINITY
                                                : dlb_student_quantile(1 - LEVEL, n - 1) *
                                               sqrt(squares / (n - 1) / n);
    cell->effect = mean;
    cell->lo = mean - half;
    cell->hi = mean + half;
}

static void ratio_interval(const struct dlb_claim *claim, double *arm, const double *base,
                           int n, struct cell *cell)
{
    if (claim->kind == DLB_SPEED) {
        struct dlb_ratio ratio;
        dlb_paired_ratio(base, arm, n, LEVEL, &ratio);
        bool level = ratio.ci_level >= LEVEL - 0.01;
        cell->effect = ratio.median;
        cell->lo = level ? ratio.ci_lo : 0;
        cell->hi = level ? ratio.ci_hi : INFINITY;
        return;
    }
    for (int i = 0; i < n; i++)
        arm[i] = log(arm[i] / base[i]);
    mean_interval(claim, arm, n, cell);
    cell->effect = exp(cell->effect);
    cell->lo = exp(cell->lo);
    cell->hi = exp(cell->hi);
}

static enum answer ask(const struct dlb_claim *claim, const struct cell *cell)
{
    switch (claim->direction) {
    case DLB_ABOVE:
        return cell->lo > claim->high ? YES : cell->hi < claim->high ? NO : UNCLEAR;
    case DLB_BELOW:
        return cell->hi < claim->low ? YES : cell->lo > claim->low ? NO : UNCLEAR;
    default:
        return cell->lo >= claim->low && cell->hi <= claim->high ? YES
               : cell->hi < claim->low || cell->lo > claim->high ? NO
                                                                 : UNCLEAR;
    }
}

/* Memory for one cell: values and replicates of two arms. */
struct room {
    double *a, *b;
    int64_t *a_replicate, *b_replicate;
};

/* Parallel efficiency of an arm, one number a replicate. */
static int efficiency(const struct judging *j, const struct dlb_observed *first,
                      const char *arm, double *value, int64_t *replicate,
                      struct room *aside)
{
    int n = reduce(j, series_of(j, first, first->threads, arm), value, replicate);
    int one = reduce(j, series_of(j, first, 1, arm), aside->b, aside->b_replicate);
    n = join(value, replicate, n, aside->b, aside->b_replicate, one);
    for (int i = 0; i < n; i++)
        value[i] = aside->b[i] / ((double)first->threads * value[i]);
    for (int i = 0; i < n; i++)
        replicate[i] = i;
    return n;
}

/* False when the cell lacks what the rule needs. */
static bool judge_cell(const struct judging *j, struct cell *cell, struct room *room,
                       struct room *aside)
{
    const struct dlb_claim *claim = j->claim;
    const struct dlb_observed *first = cell->first;
    const bool based = *claim->base,
               efficient = claim->statistic == DLB_STATISTIC_EFFICIENCY;
    int n, bn = 0;
    if (efficient) {
        if (first->threads < 2)
            return false;
        n = efficiency(j, first, claim->arm, room->a, room->a_replicate, aside);
        bn = efficiency(j, first, claim->base, room->b, room->b_replicate, aside);
    } else {
        n = reduce(j, series_of(j, first, first->threads, claim->arm), room->a,
                   room->a_replicate);
        if (based)
            bn = reduce(j, series_of(j, first, first->threads, claim->base), room->b,
                        room->b_replicate);
    }
    if (based)
        n = join(room->a, room->a_replicate, n, room->b, room->b_replicate, bn);
    if (!n)
        return false;
    cell->n = n;
    if (claim->statistic == DLB_STATISTIC_RATIO) {
        ratio_interval(claim, room->a, room->b, n, cell);
    } else if (claim->statistic == DLB_STATISTIC_LARGEST) {
        cell->effect = 0;
        for (int i = 0; i < n; i++)
            cell->effect =
                fmax(cell->effect, fabs(room->a[i] - (based ? room->b[i] : 0)));
        cell->lo = cell->hi = cell->effect;
    } else {
        for (int i = 0; based && i < n; i++)
            room->a[i] -= room->b[i];
        mean_interval(claim, room->a, n, cell);
    }
    cell->says = isnan(cell->effect) ? UNCLEAR : ask(claim, cell);
    return true;
}

/* The mean of independent effects. */
static void pool_cells(const struct judging *j, struct dlb_claim_verdict *verdict)
{
    const bool ratio = j->claim->statistic == DLB_STATISTIC_RATIO;
    double sum = 0, squares = 0, largest = 0;
    for (int i = 0; i < j->cells; i++) {
        const struct cell *cell = &j->cell[i];
        double middle = ratio ? log(cell->effect) : cell->effect;
        double half = (ratio ? log(cell->hi) - log(cell->lo) : cell->hi - cell->lo) / 2;
        sum += middle;
        squares += half * half;
        largest = fmax(largest, cell->effect);
        verdict->n += cell->n;
    }
    double mean = sum / j->cells, half = sqrt(squares) / j->cells;
    verdict->effect = ratio ? exp(mean) : mean;
    verdict->ci_lo = ratio ? exp(mean - half) : mean - half;
    verdict->ci_hi = ratio ? exp(mean + half) : mean + half;
    if (j->claim->statistic == DLB_STATISTIC_LARGEST)
        verdict->effect = verdict->ci_lo = verdict->ci_hi = largest;
}

/* Words of a cell: those of its condition, impl=…, threads=…. */
struct words {
    char key[KEYS_MAX][WORD_MAX], value[KEYS_MAX][WORD_MAX];
    int n;
};

static void copy_word(char to[WORD_MAX], const char *from, int length)
{
    length = (int)dlb_min(length, WORD_MAX - 1);
    memcpy(to, from, (size_t)length);
    to[length] = '\0';
}

static void add_word(struct words *words, const char *key, int key_length,
                     const char *value, int value_length)
{
    if (words->n == KEYS_MAX || !value_length)
        return;
    copy_word(words->key[words->n], key, key_length);
    copy_word(words->value[words->n++], value, value_length);
}

static void words_of(const struct cell *cell, struct words *words)
{
    char threads[24] = "";
    words->n = 0;
    for (const char *at = cell->first->condition; *at;) {
        int length = (int)strcspn(at, " "), key = (int)strcspn(at, "=");
        if (key < length)
            add_word(words, at, key, at + key + 1, length - key - 1);
        at += length;
        at += strspn(at, " ");
    }
    const char *impl = cell->first->impl;
    add_word(words, "impl", 4, impl, (int)strlen(impl));
    if (cell->first->threads)
        snprintf(threads, sizeof threads, "%" PRId64, cell->first->threads);
    add_word(words, "threads", 7, threads, (int)strlen(threads));
}

static const char *value_of(const struct words *words, const char *key)
{
    for (int i = 0; i < words->n; i++)
        if (!strcmp(words->key[i], key))
            return words->value[i];
    return "";
}

static void append(char *text, const char *before, const char *what)
{
    if (strlen(text) + strlen(before) + strlen(what) < DLB_WHERE_MAX)
        strcat(strcat(text, before), what);
}

/* Does the value of key alone decide whether a cell says yes? */
static bool decides(const struct judging *j, const char *key)
{
    struct words a, b;
    bool varies = false;
    for (int i = 0; i < j->cells; i++)
        for (int k = 0; k < i; k++) {
            words_of(&j->cell[i], &a);
            words_of(&j->cell[k], &b);
            bool same = !strcmp(value_of(&a, key), value_of(&b, key));
            varies |= !same;
            if (same && (j->cell[i].says == YES) != (j->cell[k].says == YES))
                return false;
        }
    return varies;
}

/* The values of key in the cells that say yes, or in those that do not: "a,b". */
static void list_values(const struct judging *j, const char *key, int yes,
                        char list[DLB_WHERE_MAX])
{
    struct words words, before;
    *list = '\0';
    for (int i = 0; i < j->cells; i++) {
        words_of(&j->cell[i], &words);
        bool seen = yes >= 0 && (j->cell[i].says == YES) != (yes > 0);
        for (int k = 0; k < i && !seen; k++) {
            words_of(&j->cell[k], &before);
            seen = (yes < 0 || (j->cell[k].says == YES) == (yes > 0)) &&
                   !strcmp(value_of(&before, key), value_of(&words, key));
        }
        if (!seen)
            append(list, *list ? "," : "", value_of(&words, key));
    }
}

static void tell_by_key(const struct judging *j, const char *key,
                        struct dlb_claim_verdict *verdict)
{
    char list[DLB_WHERE_MAX];
    for (int yes = 1; yes >= 0; yes--) {
        list_values(j, key, yes, list);
        append(verdict->where, yes ? "" : "; not ", key);
        append(verdict->where, "=", list);
    }
}

/* The fewer of the two: cells that say yes, or those that do not. */
static void tell_by_cell(const struct judging *j, struct dlb_claim_verdict *verdict)
{
    int told = 0, yes = 0;
    char count[48];
    for (int i = 0; i < j->cells; i++)
        yes += j->cell[i].says == YES;
    const bool few = 2 * yes <= j->cells;
    snprintf(count, sizeof count, "in %d of %d", yes, j->cells);
    append(verdict->where, "", count);
    for (int i = 0; i < j->cells; i++) {
        struct words words;
        if ((j->cell[i].says == YES) != few)
            continue;
        if (told++ >= LISTED_MAX)
            continue;
        append(verdict->where, told > 1 ? "; " : few ? ": " : ", not: ", "");
        words_of(&j->cell[i], &words);
        for (int w = 0; w < words.n; w++) {
            append(verdict->where, w ? " " : "", words.key[w]);
            append(verdict->where, "=", words.value[w]);
        }
    }
    if (told > LISTED_MAX)
        append(verdict->where, "; ", "and more");
}

static void tell_where(const struct judging *j, struct dlb_claim_verdict *verdict)
{
    struct words words;
    words_of(&j->cell[0], &words);
    for (int i = 0; i < words.n; i++)
        if (decides(j, words.key[i])) {
            tell_by_key(j, words.key[i], verdict);
            return;
        }
    tell_by_cell(j, verdict);
}

static void tell_conditions(const struct judging *j, struct dlb_claim_verdict *verdict)
{
    struct words words;
    char list[DLB_WHERE_MAX];
    words_of(&j->cell[0], &words);
    for (int i = 0; i < words.n; i++) {
        list_values(j, words.key[i], -1, list);
        append(verdict->conditions, i ? " " : "", words.key[i]);
        append(verdict->conditions, "=", list);
    }
}

static enum dlb_verdict_word word_of(const struct judging *j)
{
    int count[3] = {0};
    for (int i = 0; i < j->cells; i++)
        count[j->cell[i].says]++;
    return !j->cells                ? DLB_NOT_MEASURED
           : count[YES] == j->cells ? DLB_SUPPORTED
           : count[YES]             ? DLB_CONDITIONAL
           : count[UNCLEAR]         ? DLB_INCONCLUSIVE
                                    : DLB_REFUTED;
}

static bool make_room(struct room *room, size_t n)
{
    room->a = malloc(n * sizeof *room->a);
    room->b = malloc(n * sizeof *room->b);
    room->a_replicate = malloc(n * sizeof *room->a_replicate);
    room->b_replicate = malloc(n * sizeof *room->b_replicate);
    return room->a && room->b && room->a_replicate && room->b_replicate;
}

static void release_room(struct room *room)
{
    free(room->a);
    free(room->b);
    free(room->a_replicate);
    free(room->b_replicate);
}

enum dlb_status dlb_claim_judge(const struct dlb_claim *claim,
                                const struct dlb_observations *all,
                                struct dlb_claim_verdict *verdict,
                                struct dlb_error *error)
{
    struct judging j = {.claim = claim};
    struct room room = {0}, aside = {0};
    int end = 0;
    *verdict = (struct dlb_claim_verdict){.claim = claim,
                                          .word = DLB_NOT_MEASURED,
                                          .effect = NAN,
                                          .ci_lo = NAN,
                                          .ci_hi = NAN};
    if (!all->n)
        return DLB_OK;
    while (end < all->n && strcmp(all->row[end].experiment, claim->experiment))
        end++;
    j.row = all->row + end;
    while (end < all->n && !strcmp(all->row[end].experiment, claim->experiment))
        end++;
    j.rows = (int)(all->row + end - j.row);
    if (!j.rows)
        return DLB_OK;
    enum dlb_status status = DLB_OK;
    j.cell = calloc((size_t)j.rows, sizeof *j.cell);
    if (!j.cell || !make_room(&room, (size_t)j.rows) ||
        !make_room(&aside, (size_t)j.rows)) {
        status = dlb_fail(error, DLB_NOMEM, "No memory is left to judge the claims.");
        goto out;
    }
    for (int i = 0; i < j.rows; i++) {
        if (i && same_cell(&j.row[i], &j.row[i - 1]))
            continue;
        j.cell[j.cells] = (struct cell){.first = &j.row[i]};
        j.cells += judge_cell(&j, &j.cell[j.cells], &room, &aside);
    }
    verdict->word = word_of(&j);
    verdict->cells = j.cells;
    if (j.cells) {
        pool_cells(&j, verdict);
        tell_conditions(&j, verdict);
    }
    if (verdict->word == DLB_CONDITIONAL)
        tell_where(&j, verdict);
out:
    free(j.cell);
    release_room(&room);
    release_room(&aside);
    return status;
}
