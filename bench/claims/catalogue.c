/* The rules: configs/claims.csv. */
#include "claims/claims.h"

#include "nearest.h"
#include "record/csv.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const dlb_statistic_names[DLB_STATISTICS] = {
    "ratio", "difference", "value", "slope", "exponent", "efficiency", "largest"};
const char *const dlb_direction_names[DLB_DIRECTIONS] = {"above", "below", "within"};
const char *const dlb_claim_kind_names[DLB_CLAIM_KINDS] = {"speed", "learning",
                                                           "arithmetic"};

enum column {
    ID,
    ANSWER,
    CLAIM,
    KIND,
    EXPERIMENT,
    METRIC,
    STATISTIC,
    ARM,
    BASE,
    DIRECTION,
    THRESHOLD,
    NOTE,
    COLUMNS
};
static const char *const columns[COLUMNS] = {
    "id",        "answer", "claim", "kind",      "experiment", "metric",
    "statistic", "arm",    "base",  "direction", "threshold",  "note"};
enum { ANSWERS = 10, QUOTE_MAX = 80, LIST_MAX = 256 };

struct reading {
    const char *file;
    struct dlb_claims *claims;
    bool header_seen;
};

static enum dlb_status refuse(const struct reading *reading, int64_t line,
                              enum column column, const char *text, const char *accepted,
                              struct dlb_error *error)
{
    char quoted[QUOTE_MAX];
    return dlb_fail(error, DLB_INVALID,
                    "%s, line %" PRId64 ", column '%s': '%s' is not known; accepted: %s.",
                    reading->file, line, columns[column],
                    dlb_quote(text, quoted, sizeof quoted), accepted);
}

static enum dlb_status read_word(const struct reading *reading,
                                 const struct dlb_csv_record *record, enum column column,
                                 const char *const *words, int n, int *value,
                                 struct dlb_error *error)
{
    char list[LIST_MAX];
    for (*value = 0; *value < n; ++*value)
        if (!strcmp(record->cells[column], words[*value]))
            return DLB_OK;
    return refuse(reading, record->line, column, record->cells[column],
                  dlb_words_join(words, n, list, sizeof list), error);
}

/* "2", or "1.5 to 2.5". */
static bool read_threshold(const char *text, bool range, double *low, double *high)
{
    char *end;
    *low = *high = strtod(text, &end);
    if (end == text || !isfinite(*low))
        return false;
    if (!range)
        return !*end;
    if (strncmp(end, " to ", 4))
        return false;
    text = end + 4;
    *high = strtod(text, &end);
    return end != text && !*end && isfinite(*high) && *low < *high;
}

static enum dlb_status read_rule(const struct reading *reading,
                                 const struct dlb_csv_record *record,
                                 struct dlb_claim *claim, struct dlb_error *error)
{
    int kind, statistic, direction;
    char *end;
    claim->answer = (int)strtol(record->cells[ANSWER], &end, 10);
    if (*end || claim->answer < 1 || claim->answer > ANSWERS)
        return refuse(reading, record->line, ANSWER, record->cells[ANSWER],
                      "a whole number from 1 to 10", error);
    enum dlb_status status = read_word(reading, record, KIND, dlb_claim_kind_names,
                                       DLB_CLAIM_KINDS, &kind, error);
    if (!status)
        status = read_word(reading, record, STATISTIC, dlb_statistic_names,
                           DLB_STATISTICS, &statistic, error);
    if (!status)
        status = read_word(reading, record, DIRECTION, dlb_direction_names,
                           DLB_DIRECTIONS, &direction, error);
    if (status)
        return status;
    claim->kind = kind;
    claim->statistic = statistic;
    claim->direction = direction;
    if (!read_threshold(record->cells[THRESHOLD], direction == DLB_WITHIN, &claim->low,
                        &claim->high))
        return refuse(reading, record->line, THRESHOLD, record->cells[THRESHOLD],
                      direction == DLB_WITHIN ? "a range, as '1.5 to 2.5'" : "a number",
                      error);
    for (int i = 0; i < COLUMNS; i++)
        if (!*record->cells[i] && i != BASE && i != NOTE)
            return refuse(reading, record->line, i, "", "a text", error);
    bool paired = statistic == DLB_STATISTIC_RATIO ||
                  statistic == DLB_STATISTIC_DIFFERENCE ||
                  statistic == DLB_STATISTIC_EFFICIENCY;
    if (paired && !*record->cells[BASE])
        return refuse(reading, record->line, BASE, "", "the arm to compare with", error);
    return DLB_OK;
}

static enum dlb_status copy_texts(const struct dlb_csv_record *record,
                                  struct dlb_claim *claim, struct dlb_error *error)
{
    const struct {
        char **to;
        enum column column;
    } texts[] = {{&claim->id, ID},
                 {&claim->claim, CLAIM},
                 {&claim->experiment, EXPERIMENT},
                 {&claim->metric, METRIC},
                 {&claim->arm, ARM},
                 {&claim->base, BASE},
                 {&claim->threshold, THRESHOLD},
                 {&claim->note, NOTE}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        *texts[i].to = strdup(record->cells[texts[i].column]);
        if (!*texts[i].to)
            return dlb_fail(error, DLB_NOMEM, "No memory is left for the claims.");
    }
    return DLB_OK;
}

static enum dlb_status take_record(void *context, const struct dlb_csv_record *record,
                                   struct dlb_error *error)
{
    struct reading *reading = context;
    struct dlb_claims *claims = reading->claims;
    char list[LIST_MAX];
    bool header = !reading->header_seen, same = record->cells_n == COLUMNS;
    for (int i = 0; header && same && i < COLUMNS; i++)
        same = !strcmp(record->cells[i], columns[i]);
    reading->header_seen = true;
    if (!same)
        return dlb_fail(error, DLB_INVALID,
                        "%s, line %" PRId64 ": expected the %d columns %s.",
                        reading->file, record->line, COLUMNS,
                        dlb_words_join(columns, COLUMNS, list, sizeof list));
    if (header)
        return DLB_OK;
    if (dlb_claims_find(claims, record->cells[ID]))
        return dlb_fail(error, DLB_INVALID,
                        "%s, line %" PRId64
                        ": the claim '%s' is there a second time; each has one rule.",
                        reading->file, record->line, record->cells[ID]);
    struct dlb_claim *grown =
        realloc(claims->claim, (size_t)(claims->n + 1) * sizeof *grown);
    if (!grown)
        return dlb_fail(error, DLB_NOMEM, "No memory is left for the claims.");
    claims->claim = grown;
    grown[claims->n] = (struct dlb_claim){0};
    enum dlb_status status = read_rule(reading, record, &grown[claims->n], error);
    if (!status)
        status = copy_texts(record, &grown[claims->n++], error);
    return status;
}

enum dlb_status dlb_claims_read(const char *file, struct dlb_claims *claims,
                                struct dlb_error *error)
{
    struct reading reading = {.file = file, .claims = claims};
    *claims = (struct dlb_claims){0};
    enum dlb_status status = dlb_csv_read(file, true, take_record, &reading, error);
    if (!status && !claims->n)
        status =
            dlb_fail(error, DLB_INVALID, "%s holds no claim; rows are expected.", file);
    return status;
}

void dlb_claims_release(struct dlb_claims *claims)
{
    for (int i = 0; i < claims->n; i++) {
        struct dlb_claim *claim = &claims->claim[i];
        char *const texts[] = {claim->id,  claim->claim, claim->experiment, claim->metric,
                               claim->arm, claim->base,  claim->threshold,  claim->note};
        for (size_t t = 0; t < sizeof texts / sizeof *texts; t++)
            free(texts[t]);
    }
    free(claims->claim);
    *claims = (struct dlb_claims){0};
}

const struct dlb_claim *dlb_claims_find(const struct dlb_claims *claims, const char *id)
{
    for (int i = 0; i < claims->n; i++)
        if (!strcmp(claims->claim[i].id, id))
            return &claims->claim[i];
    return NULL;
}
