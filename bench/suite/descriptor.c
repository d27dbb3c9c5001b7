#include "suite/descriptor.h"

#include "nearest.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

enum { QUOTE_MAX = 100, LIST_MAX = 320, KEY_MAX = 24 };

/* ASCII only: the letters of keys do not depend on the locale. */
static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Reads the digits at *text and moves past them; what exceeds limit is limit + 1. */
static int64_t read_number(const char **text, int64_t limit)
{
    int64_t value = 0;
    for (; is_digit(**text); ++*text)
        value = value > limit / 10 ? limit + 1
                                   : dlb_min(limit + 1, value * 10 + (**text - '0'));
    return value;
}

static int find_dim(const struct dlb_op *op, const char *key, size_t length)
{
    for (int i = 0; i < op->dims_n; i++)
        if (strlen(op->dims[i].key) == length && !strncmp(op->dims[i].key, key, length))
            return i;
    return -1;
}

static int find_word(const char *const *words, int n, const char *word)
{
    for (int i = 0; i < n; i++)
        if (!strcmp(words[i], word))
            return i;
    return -1;
}

/* What the sentences of one parse share. */
struct place {
    const char *what; /* shape or candidate */
    const char *text, *at;
    struct dlb_error *error;
};

static enum dlb_status refuse(const struct place *place, const char *sentence)
{
    char quoted[QUOTE_MAX];
    return dlb_fail(place->error, DLB_INVALID, "In the %s '%s', character %d: %s",
                    place->what, dlb_quote(place->text, quoted, sizeof quoted),
                    (int)dlb_min(place->at - place->text + 1, INT_MAX), sentence);
}

static enum dlb_status refuse_key(const struct dlb_op *op, const struct place *place,
                                  size_t length)
{
    const char *keys[DLB_DIMS_MAX];
    char key[KEY_MAX], quoted[KEY_MAX], hint[DLB_HINT_MAX], list[LIST_MAX];
    char sentence[512];
    for (int i = 0; i < op->dims_n; i++)
        keys[i] = op->dims[i].key;
    dlb_words_join(keys, op->dims_n, list, sizeof list);
    if (length == 0) {
        snprintf(sentence, sizeof sentence,
                 "a key followed by its value is expected here; the keys of %s are "
                 "%s, and n\"name\" at the end.",
                 op->name, list);
        return refuse(place, sentence);
    }
    snprintf(key, sizeof key, "%.*s", (int)dlb_min(length, KEY_MAX - 1), place->at);
    snprintf(sentence, sizeof sentence,
             "unknown key '%s'%s; the keys of %s are %s, and n\"name\" at the end.",
             dlb_quote(key, quoted, sizeof quoted),
             dlb_nearest_hint(key, keys, op->dims_n, hint), op->name, list);
    return refuse(place, sentence);
}

/* Reads what follows the key of a dim of whole numbers, and moves past it. */
static enum dlb_status parse_number(const struct dlb_dim_def *def,
                                    const struct place *place, const char **text,
                                    int64_t *value)
{
    char sentence[256];
    struct place after = *place;
    after.at = *text;
    if (!is_digit(**text)) {
        snprintf(sentence, sizeof sentence,
                 "a whole number must follow '%s' (%s); accepted: %lld to %lld.",
                 def->key, def->meaning, (long long)def->min, (long long)def->max);
        return refuse(&after, sentence);
    }
    *value = read_number(text, def->max);
    if (*value >= def->min && *value <= def->max)
        return DLB_OK;
    snprintf(sentence, sizeof sentence,
             "the number after '%s' (%s) is out of range; accepted: %lld to %lld.",
             def->key, def->meaning, (long long)def->min, (long long)def->max);
    return refuse(place, sentence);
}

/* The same for a dim of words; the longest that fits is taken. */
static enum dlb_status parse_word(const struct dlb_dim_def *def,
                                  const struct place *place, const char **text,
                                  int64_t *value)
{
    char list[LIST_MAX], hint[DLB_HINT_MAX], word[KEY_MAX], sentence[512];
    int names = (int)def->max + 1;
    size_t longest = 0, length = 0;
    bool dash = **text == '-';
    for (int i = 0; dash && i < names; i++) {
        size_t fits = strlen(def->names[i]);
        if (fits > longest && !strncmp(*text + 1, def->names[i], fits)) {
            longest = fits;
            *value = i;
        }
    }
    if (longest) {
        *text += 1 + longest;
        return DLB_OK;
    }
    struct place after = *place;
    after.at = *text + dash;
    while (is_letter(after.at[length]) && length < KEY_MAX - 1)
        length++;
    snprintf(word, sizeof word, "%.*s", (int)length, after.at);
    snprintf(sentence, sizeof sentence,
             "'%s-' must be followed by a word (%s)%s; accepted: %s.", def->key,
             def->meaning, dlb_nearest_hint(word, def->names, names, hint),
             dlb_words_join(def->names, names, list, sizeof list));
    return refuse(&after, sentence);
}

static enum dlb_status parse_dim(const struct dlb_op *op, int dim, struct place *place,
                                 struct dlb_problem *problem, bool *named)
{
    const struct dlb_dim_def *def = &op->dims[dim];
    const char *text = place->at + strlen(def->key);
    char sentence[256];
    int64_t value = 0;
    enum dlb_status status = def->names ? parse_word(def, place, &text, &value)
                                        : parse_number(def, place, &text, &value);
    if (status)
        return status;
    if (named[dim]) {
        snprintf(sentence, sizeof sentence, "'%s' is given twice; give it once.",
                 def->key);
        return refuse(place, sentence);
    }
    named[dim] = true;
    problem->dim[dim] = value;
    place->at = text;
    return DLB_OK;
}

/* The name is the rest of the text, with or without quotes around it. */
static enum dlb_status parse_name(struct place *place, char name[DLB_NAME_MAX])
{
    const char *begin = place->at + 1;
    size_t length = strlen(begin);
    if (*begin == '"') {
        begin++;
        const char *end = strchr(begin, '"');
        if (!end || end[1])
            return refuse(place,
                          "the name must end with a quote, and the shape with the name.");
        length = end - begin;
    }
    if (length == 0 || length >= DLB_NAME_MAX)
        return refuse(place, "the name after 'n' must have 1 to 95 characters.");
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)begin[i] < 0x20 || begin[i] == 0x7f || begin[i] == '"')
            return refuse(place,
                          "the name may hold neither quotes nor control characters.");
    memcpy(name, begin, length);
    name[length] = '\0';
    place->at += strlen(place->at);
    return DLB_OK;
}

enum dlb_status dlb_descriptor_parse(const struct dlb_op *op, const char *text,
                                     struct dlb_problem *problem, char name[DLB_NAME_MAX],
                                     struct dlb_error *error)
{
    struct place place = {"shape", text, text, error};
    struct dlb_problem parsed = *problem;
    char parsed_name[DLB_NAME_MAX] = "";
    bool named[DLB_DIMS_MAX] = {false};
    for (int i = 0; i < DLB_DIMS_MAX; i++)
        parsed.dim[i] = i < op->dims_n ? op->dims[i].fallback : 0;
    if (!*text)
        return refuse(&place, "it is empty; write for example the form that "
                              "'dlbench list ops' shows.");
    while (*place.at) {
        if (*place.at == '_') {
            place.at++;
            continue;
        }
        size_t length = 0;
        while (is_letter(place.at[length]))
            length++;
        int dim = find_dim(op, place.at, length);
        enum dlb_status status;
        if (dim >= 0)
            status = parse_dim(op, dim, &place, &parsed, named);
        else if (*place.at == 'n')
            status = parse_name(&place, parsed_name);
        else
            status = refuse_key(op, &place, length);
        if (status)
            return status;
    }
    struct dlb_error reason = {""};
    if (op->complete(&parsed, &reason)) {
        char quoted[QUOTE_MAX];
        return dlb_fail(error, DLB_INVALID, "The shape '%s' is refused: %s",
                        dlb_quote(text, quoted, sizeof quoted), reason.text);
    }
    *problem = parsed;
    strcpy(name, parsed_name);
    return DLB_OK;
}

void dlb_descriptor_format(const struct dlb_op *op, const struct dlb_problem *problem,
                           char text[DLB_SHAPE_MAX])
{
    int length = 0;
    text[0] = '\0';
    for (int i = 0; i < op->dims_n && length < DLB_SHAPE_MAX; i++) {
        const struct dlb_dim_def *def = &op->dims[i];
        size_t room = (size_t)(DLB_SHAPE_MAX - length);
        if (!op->dim_needed(problem, i))
            continue;
        if (def->names)
            length += snprintf(text + length, room, "%s-%s", def->key,
                               def->names[problem->dim[i]]);
        else
            length += snprintf(text + length, room, "%s%lld", def->key,
                               (long long)problem->dim[i]);
    }
}

void dlb_candidate_format(const struct dlb_op *op, const struct dlb_candidate *candidate,
                          char text[DLB_SHAPE_MAX])
{
    int length =
        snprintf(text, DLB_SHAPE_MAX, "%s", op->algorithms[candidate->algorithm]);
    for (int i = 0; i < op->tiles_n && length < DLB_SHAPE_MAX; i++) {
        const struct dlb_tile_def *tile = &op->tiles[i];
        int value = candidate->tile[i];
        if (!value)
            continue;
        if (tile->names)
            length += snprintf(text + length, DLB_SHAPE_MAX - length, "/%s-%s", tile->key,
                               tile->names[value - 1]);
        else
            length += snprintf(text + length, DLB_SHAPE_MAX - length, "/%s%d", tile->key,
                               value);
    }
}

static int count_names(const char *const *names)
{
    int n = 0;
    while (names[n])
        n++;
    return n;
}

/* The value behind the key of part, or 0 when part does not spell this tile. */
static int tile_value(const struct dlb_tile_def *tile, const char *part)
{
    size_t length = strlen(tile->key);
    if (strncmp(part, tile->key, length))
        return 0;
    part += length;
    if (tile->names)
        return *part == '-'
                   ? find_word(tile->names, count_names(tile->names), part + 1) + 1
                   : 0;
    if (!is_digit(*part))
        return 0;
    int64_t value = read_number(&part, INT_MAX);
    return *part || value > INT_MAX ? 0 : (int)value;
}

/* The tile that part was meant for: its key is spelt right, its value is not. */
static const struct dlb_tile_def *tile_meant(const struct dlb_op *op, const char *part)
{
    for (int i = 0; i < op->tiles_n; i++) {
        const struct dlb_tile_def *tile = &op->tiles[i];
        size_t length = strlen(tile->key);
        if (!strncmp(part, tile->key, length) && !is_letter(part[length]))
            return tile;
    }
    return NULL;
}

static enum dlb_status refuse_tile(const struct dlb_op *op, const char *part,
                                   const struct place *place)
{
    char quoted[QUOTE_MAX], list[LIST_MAX], hint[DLB_HINT_MAX], sentence[640];
    const char *keys[DLB_TILES_MAX];
    const struct dlb_tile_def *tile = tile_meant(op, part);
    dlb_quote(part, quoted, sizeof quoted);
    if (tile && tile->names) {
        int names = count_names(tile->names);
        const char *name = part + strlen(tile->key) + (part[strlen(tile->key)] == '-');
        snprintf(sentence, sizeof sentence,
                 "'%s' is no value of %s (%s)%s; write %s- and one of %s.", quoted,
                 tile->key, tile->meaning,
                 dlb_nearest_hint(name, tile->names, names, hint), tile->key,
                 dlb_words_join(tile->names, names, list, sizeof list));
        return refuse(place, sentence);
    }
    if (tile) {
        snprintf(sentence, sizeof sentence,
                 "'%s' is no value of %s (%s); write %s and a whole number from 1, for "
                 "example %s8.",
                 quoted, tile->key, tile->meaning, tile->key, tile->key);
        return refuse(place, sentence);
    }
    char key[KEY_MAX];
    size_t length = 0;
    while (is_letter(part[length]) && length < KEY_MAX - 1)
        length++;
    snprintf(key, sizeof key, "%.*s", (int)length, part);
    for (int i = 0; i < op->tiles_n; i++)
        keys[i] = op->tiles[i].key;
    snprintf(sentence, sizeof sentence, "unknown tile '%s'%s; the tiles of %s are %s.",
             quoted, dlb_nearest_hint(key, keys, op->tiles_n, hint), op->name,
             dlb_words_join(keys, op->tiles_n, list, sizeof list));
    return refuse(place, sentence);
}

enum dlb_status dlb_candidate_parse(const struct dlb_op *op, const char *text,
                                    struct dlb_candidate *candidate,
                                    struct dlb_error *error)
{
    struct place place = {"candidate", text, text, error};
    struct dlb_candidate parsed = {0};
    char copy[DLB_SHAPE_MAX];
    if (strlen(text) >= sizeof copy)
        return refuse(&place, "it is too long; at most 255 characters are accepted.");
    strcpy(copy, text);
    char *rest = copy, *part = strsep(&rest, "/");
    parsed.algorithm = find_word(op->algorithms, op->algorithms_n, part);
    if (parsed.algorithm < 0) {
        char quoted[QUOTE_MAX], list[LIST_MAX], hint[DLB_HINT_MAX], sentence[640];
        snprintf(sentence, sizeof sentence,
                 "unknown algorithm '%s'%s; the algorithms of %s are %s.",
                 dlb_quote(part, quoted, sizeof quoted),
                 dlb_nearest_hint(part, op->algorithms, op->algorithms_n, hint), op->name,
                 dlb_words_join(op->algorithms, op->algorithms_n, list, sizeof list));
        return refuse(&place, sentence);
    }
    while ((part = strsep(&rest, "/"))) {
        int tile = 0, value = 0;
        place.at = text + (part - copy);
        while (tile < op->tiles_n && !(value = tile_value(&op->tiles[tile], part)))
            tile++;
        if (!value)
            return refuse_tile(op, part, &place);
        if (parsed.tile[tile]) {
            char sentence[128];
            snprintf(sentence, sizeof sentence, "'%s' is given twice; give it once.",
                     op->tiles[tile].key);
            return refuse(&place, sentence);
        }
        parsed.tile[tile] = value;
    }
    *candidate = parsed;
    return DLB_OK;
}
