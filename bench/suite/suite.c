#include "suite/suite.h"

#include "nearest.h"
#include "record/csv.h"

#include <glob.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { QUOTE_MAX = 100, LIST_MAX = 256, OPERATORS_MAX = 32, MINIBATCHES_MAX = 64 };
static const int64_t count_max = 1000000;

enum column { OP, NAME, COUNT, SHAPE, COLUMNS };
static const char *const columns[COLUMNS] = {"op", "name", "count", "shape"};
static const char expected_header[] = "op,name,count,shape";

struct reading {
    const char *file;
    const struct dlb_operator *only;
    struct dlb_suite *suite;
    bool header_seen;
};

static enum dlb_status refuse(const struct reading *reading, int64_t line,
                              enum column column, const char *sentence,
                              struct dlb_error *error)
{
    return dlb_fail(error, DLB_INVALID, "%s, line %" PRId64 ", column '%s': %s",
                    reading->file, line, columns[column], sentence);
}

static enum dlb_status append(struct dlb_suite *suite, const struct dlb_case *one,
                              struct dlb_error *error)
{
    /* Room doubles whenever the number of cases is a power of two. */
    if ((suite->cases_n & (suite->cases_n - 1)) == 0) {
        size_t room = suite->cases_n ? 2 * (size_t)suite->cases_n : 1;
        struct dlb_case *grown = realloc(suite->cases, room * sizeof *grown);
        if (!grown)
            return dlb_fail(error, DLB_NOMEM,
                            "There is no memory left for a suite of %d problems.",
                            suite->cases_n + 1);
        suite->cases = grown;
    }
    suite->cases[suite->cases_n++] = *one;
    return DLB_OK;
}

static enum dlb_status check_header(const struct reading *reading,
                                    const struct dlb_csv_record *record,
                                    struct dlb_error *error)
{
    char quoted[QUOTE_MAX], list[LIST_MAX], sentence[512];
    for (int i = 0; i < COLUMNS; i++) {
        if (i < record->cells_n && !strcmp(record->cells[i], columns[i]))
            continue;
        snprintf(
            sentence, sizeof sentence,
            "the header '%s' is not the expected %s; the first line of a suite names "
            "these four columns in this order.",
            dlb_quote(dlb_words_join(record->cells, record->cells_n, list, sizeof list),
                      quoted, sizeof quoted),
            expected_header);
        return refuse(reading, record->line, i, sentence, error);
    }
    if (record->cells_n > COLUMNS)
        return dlb_fail(error, DLB_INVALID,
                        "%s, line %" PRId64 ": the header has %d columns; expected: %s.",
                        reading->file, record->line, record->cells_n, expected_header);
    return DLB_OK;
}

static enum dlb_status find_operator(const struct reading *reading,
                                     const struct dlb_csv_record *record,
                                     const struct dlb_operator **found,
                                     struct dlb_error *error)
{
    const char *names[OPERATORS_MAX];
    char quoted[QUOTE_MAX], hint[DLB_HINT_MAX], list[LIST_MAX], sentence[512];
    *found = dlb_operator_find(record->cells[OP]);
    if (*found)
        return DLB_OK;
    int n = dlb_min(dlb_operators_n, OPERATORS_MAX);
    for (int i = 0; i < n; i++)
        names[i] = dlb_operators[i].op->name;
    snprintf(sentence, sizeof sentence, "unknown operator '%s'%s; accepted: %s.",
             dlb_quote(record->cells[OP], quoted, sizeof quoted),
             dlb_nearest_hint(record->cells[OP], names, n, hint),
             dlb_words_join(names, n, list, sizeof list));
    return refuse(reading, record->line, OP, sentence, error);
}

/* Digits only; false for anything else and for what is not within 1 to most. */
static bool read_whole(const char *text, int64_t most, int64_t *value)
{
    *value = 0;
    for (const char *at = text; *at; at++) {
        if (*at < '0' || *at > '9')
            return false;
        *value = dlb_min(*value * 10 + (*at - '0'), most + 1);
    }
    return *value >= 1 && *value <= most;
}

static enum dlb_status read_case(const struct reading *reading,
                                 const struct dlb_csv_record *record,
                                 struct dlb_error *error)
{
    struct dlb_case one = {0};
    char quoted[QUOTE_MAX], sentence[256];
    if (record->cells_n != COLUMNS)
        return dlb_fail(
            error, DLB_INVALID,
            "%s, line %" PRId64 ", column '%s': expected %d cells (%s), found "
            "%d.",
            reading->file, record->line, columns[dlb_min(record->cells_n, COLUMNS - 1)],
            COLUMNS, expected_header, record->cells_n);
    enum dlb_status status = find_operator(reading, record, &one.entry, error);
    if (status)
        return status;
    if (strlen(record->cells[NAME]) >= sizeof one.name)
        return refuse(reading, record->line, NAME,
                      "the name is too long; at most 95 characters are accepted.", error);
    if (!read_whole(record->cells[COUNT], count_max, &one.count)) {
        snprintf(sentence, sizeof sentence,
                 "'%s' is no count; accepted: a whole number from 1 to %" PRId64 ".",
                 dlb_quote(record->cells[COUNT], quoted, sizeof quoted), count_max);
        return refuse(reading, record->line, COUNT, sentence, error);
    }
    struct dlb_error reason = {""};
    if (dlb_descriptor_parse(one.entry->op, record->cells[SHAPE], &one.problem, one.name,
                             &reason))
        return refuse(reading, record->line, SHAPE, reason.text, error);
    if (record->cells[NAME][0])
        strcpy(one.name, record->cells[NAME]);
    if (reading->only) {
        if (strcmp(reading->only->op->name, one.entry->op->name))
            return DLB_OK;
        one.entry = reading->only;
    }
    return append(reading->suite, &one, error);
}

static enum dlb_status read_record(void *context, const struct dlb_csv_record *record,
                                   struct dlb_error *error)
{
    struct reading *reading = context;
    if (reading->header_seen)
        return read_case(reading, record, error);
    reading->header_seen = true;
    return check_header(reading, record, error);
}

static void name_suite(struct dlb_suite *suite, const char *file)
{
    const char *slash = strrchr(file, '/'), *base = slash ? slash + 1 : file;
    size_t length = strlen(base);
    if (length > 4 && !strcmp(base + length - 4, ".csv"))
        length -= 4;
    snprintf(suite->name, sizeof suite->name, "%.*s",
             (int)dlb_min(length, sizeof suite->name - 1), base);
}

enum dlb_status dlb_suite_read(const char *file, const struct dlb_operator *only,
                               struct dlb_suite *suite, struct dlb_error *error)
{
    struct reading reading = {file, only, suite, false};
    int before = suite->cases_n;
    enum dlb_status status = dlb_csv_read(file, true, read_record, &reading, error);
    if (!status && !reading.header_seen)
        status =
            dlb_fail(error, DLB_INVALID,
                     "%s, line 1: the file is empty; expected: the header %s and one "
                     "problem a line.",
                     file, expected_header);
    else if (!status && suite->cases_n == before)
        status =
            dlb_fail(error, DLB_INVALID,
                     "%s holds no problem%s%s; expected below the header: one problem a "
                     "line, as conv,conv1,1,mb1ic3ih224oc64kh7sh2ph3.",
                     file, only ? " of operator " : "", only ? only->op->name : "");
    if (status)
        suite->cases_n = before;
    else if (!suite->name[0])
        name_suite(suite, file);
    return status;
}

enum dlb_status dlb_suite_read_default(const struct dlb_operator *entry,
                                       struct dlb_suite *suite, struct dlb_error *error)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/configs/%s", DLBENCH_SOURCE_DIR, entry->suite);
    return dlb_suite_read(path, entry, suite, error);
}

enum dlb_status dlb_suite_add(const struct dlb_operator *owner, const char *shape,
                              struct dlb_suite *suite, struct dlb_error *error)
{
    struct dlb_case one = {.count = 1};
    enum dlb_status status =
        dlb_descriptor_parse(owner->op, shape, &one.problem, one.name, error);
    one.entry = owner;
    if (!status)
        status = append(suite, &one, error);
    if (!status && !suite->name[0])
        strcpy(suite->name, "shape");
    return status;
}

static int find_minibatch(const struct dlb_op *op)
{
    for (int i = 0; i < op->dims_n; i++)
        if (!strcmp(op->dims[i].key, "mb"))
            return i;
    return -1;
}

static enum dlb_status read_minibatches(const char *list, int64_t *minibatch, int *n,
                                        struct dlb_error *error)
{
    char item[24], quoted[QUOTE_MAX];
    *n = 0;
    for (const char *at = list;; at++) {
        size_t length = strcspn(at, ",");
        bool whole = length < sizeof item;
        snprintf(item, sizeof item, "%.*s", (int)dlb_min(length, sizeof item - 1), at);
        if (!whole || !read_whole(item, INT64_C(1) << 24, &minibatch[*n]))
            return dlb_fail(
                error, DLB_INVALID,
                "'%s' in the minibatches '%s' is no minibatch; accepted: whole "
                "numbers from 1 to 16777216 with commas between, as 1,16.",
                item, dlb_quote(list, quoted, sizeof quoted));
        for (int i = 0; i < *n; i++)
            if (minibatch[i] == minibatch[*n])
                return dlb_fail(error, DLB_INVALID,
                                "The minibatches '%s' name %s twice; name it once.",
                                dlb_quote(list, quoted, sizeof quoted), item);
        ++*n;
        at += length;
        if (!*at)
            return DLB_OK;
        if (*n == MINIBATCHES_MAX)
            return dlb_fail(error, DLB_INVALID,
                            "There are more than %d minibatches; name fewer.",
                            MINIBATCHES_MAX);
    }
}

enum dlb_status dlb_suite_set_minibatch(struct dlb_suite *suite, const char *list,
                                        struct dlb_error *error)
{
    int64_t minibatch[MINIBATCHES_MAX];
    int minibatches;
    struct dlb_suite repeated = {0};
    enum dlb_status status = read_minibatches(list, minibatch, &minibatches, error);
    for (int i = 0; !status && i < minibatches; i++)
        for (int j = 0; !status && j < suite->cases_n; j++) {
            struct dlb_case one = suite->cases[j];
            int dim = find_minibatch(one.entry->op);
            struct dlb_error reason = {""};
            if (dim < 0) {
                status = dlb_fail(error, DLB_INVALID,
                                  "Operator %s has no minibatch to set; leave it out of "
                                  "--op, or --mb off.",
                                  one.entry->op->name);
                break;
            }
            one.problem.dim[dim] = minibatch[i];
            status = one.entry->op->complete(&one.problem, &reason);
            if (status)
                dlb_fail(error, status, "Minibatch %" PRId64 " does not fit %s: %s",
                         minibatch[i], one.name[0] ? one.name : "the problem",
                         reason.text);
            else
                status = append(&repeated, &one, error);
        }
    if (status) {
        dlb_suite_release(&repeated);
        return status;
    }
    free(suite->cases);
    suite->cases = repeated.cases;
    suite->cases_n = repeated.cases_n;
    return DLB_OK;
}

void dlb_suite_release(struct dlb_suite *suite)
{
    free(suite->cases);
    *suite = (struct dlb_suite){0};
}

bool dlb_suite_is_one(const char *path)
{
    const char *slash = strrchr(path, '/');
    return strcmp(slash ? slash + 1 : path, "claims.csv") != 0;
}

void dlb_suites_print(FILE *out)
{
    glob_t paths;
    if (glob(DLBENCH_SOURCE_DIR "/configs/*.csv", 0, NULL, &paths)) {
        fprintf(out, "There are no suites in %s.\n", DLBENCH_SOURCE_DIR "/configs");
        return;
    }
    for (size_t i = 0; i < paths.gl_pathc; i++) {
        struct dlb_suite suite = {0};
        struct dlb_error error = {""};
        const char *base = strrchr(paths.gl_pathv[i], '/') + 1;
        double flops = 0;
        int64_t layers = 0;
        if (!dlb_suite_is_one(base))
            continue;
        if (dlb_suite_read(paths.gl_pathv[i], NULL, &suite, &error)) {
            fprintf(out, "configs/%-24s %s\n", base, error.text);
            continue;
        }
        for (int j = 0; j < suite.cases_n; j++) {
            const struct dlb_case *one = &suite.cases[j];
            layers += one->count;
            flops += (double)one->count * one->entry->op->flops(&one->problem);
        }
        fprintf(out, "configs/%-24s %3d problems, %3" PRId64 " layers, %9.3f GFLOP\n",
                base, suite.cases_n, layers, flops * 1e-9);
        dlb_suite_release(&suite);
    }
    globfree(&paths);
}
