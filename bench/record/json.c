#include "record/json.h"

#include "record/save.h"

#include <assert.h>
#include <cjson/cJSON.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { FILE_MAX = 256 << 20 };

/* Bytes of the UTF-8 character at text, or 0 when there is none. */
static size_t character_length(const unsigned char *text)
{
    size_t length = *text < 0x80                     ? 1
                    : *text >= 0xC2 && *text <= 0xDF ? 2
                    : *text >= 0xE0 && *text <= 0xEF ? 3
                    : *text >= 0xF0 && *text <= 0xF4 ? 4
                                                     : 0;
    for (size_t i = 1; i < length; i++)
        if ((text[i] & 0xC0) != 0x80)
            return 0;
    bool overlong =
        (*text == 0xE0 && text[1] < 0xA0) || (*text == 0xF0 && text[1] < 0x90);
    bool surrogate = *text == 0xED && text[1] > 0x9F;
    bool beyond = *text == 0xF4 && text[1] > 0x8F;
    return overlong || surrogate || beyond ? 0 : length;
}

/* A copy of text that is UTF-8 throughout; the caller frees it. */
static char *as_utf8(const char *text)
{
    char *copy = malloc(3 * strlen(text) + 1), *to = copy;
    if (!copy)
        return NULL;
    while (*text) {
        size_t length = character_length((const unsigned char *)text);
        if (length)
            memcpy(to, text, length);
        else
            memcpy(to, "\xEF\xBF\xBD", 3);
        to += length ? length : 3;
        text += length ? length : 1;
    }
    *to = '\0';
    return copy;
}

/* Takes item, which may be NULL: out of memory. */
static void add(struct dlb_json *json, const char *key, cJSON *item)
{
    char *name = NULL;
    bool added = false;
    if (!item)
        goto out;
    if (!json->depth) {
        assert(!json->root);
        json->root = item;
        return;
    }
    cJSON *parent = json->open[json->depth - 1];
    assert(cJSON_IsObject(parent) == !!key);
    if (!key) {
        added = cJSON_AddItemToArray(parent, item);
    } else {
        name = as_utf8(key);
        added = name && cJSON_AddItemToObject(parent, name, item);
    }
out:
    if (!added) {
        json->nomem = true;
        cJSON_Delete(item);
    }
    free(name);
}

static void begin(struct dlb_json *json, const char *key, cJSON *item)
{
    if (json->nomem) {
        cJSON_Delete(item);
        return;
    }
    add(json, key, item);
    if (json->nomem)
        return;
    assert(json->depth < DLB_JSON_DEPTH);
    json->open[json->depth++] = item;
}

void dlb_json_begin_object(struct dlb_json *json, const char *key)
{
    begin(json, key, cJSON_CreateObject());
}

void dlb_json_begin_array(struct dlb_json *json, const char *key)
{
    begin(json, key, cJSON_CreateArray());
}

void dlb_json_end(struct dlb_json *json)
{
    assert(json->nomem || json->depth);
    if (!json->nomem)
        json->depth--;
}

void dlb_json_text(struct dlb_json *json, const char *key, const char *text)
{
    if (json->nomem)
        return;
    char *copy = text ? as_utf8(text) : NULL;
    add(json, key, !text ? cJSON_CreateNull() : copy ? cJSON_CreateString(copy) : NULL);
    free(copy);
}

void dlb_json_int(struct dlb_json *json, const char *key, int64_t value)
{
    char text[24]; /* numbers of the library are doubles */
    snprintf(text, sizeof text, "%" PRId64, value);
    if (!json->nomem)
        add(json, key, cJSON_CreateRaw(text));
}

void dlb_json_real(struct dlb_json *json, const char *key, double value)
{
    if (!json->nomem)
        add(json, key, isfinite(value) ? cJSON_CreateNumber(value) : cJSON_CreateNull());
}

void dlb_json_bool(struct dlb_json *json, const char *key, bool value)
{
    if (!json->nomem)
        add(json, key, cJSON_CreateBool(value));
}

/* The document and a newline, to be freed; NULL without memory. */
static char *as_text(const struct dlb_json *json)
{
    assert(json->nomem || (json->root && !json->depth));
    char *printed = json->nomem ? NULL : cJSON_Print(json->root), *text = NULL;
    if (printed && asprintf(&text, "%s\n", printed) < 0)
        text = NULL;
    cJSON_free(printed);
    return text;
}

enum dlb_status dlb_json_save(const struct dlb_json *json, const char *path,
                              struct dlb_error *error)
{
    char *text = as_text(json);
    enum dlb_status status =
        text ? dlb_save(path, text, strlen(text), error)
             : dlb_fail(error, DLB_NOMEM, "There is no memory left to write %s.", path);
    free(text);
    return status;
}

enum dlb_status dlb_json_print(const struct dlb_json *json, FILE *out,
                               struct dlb_error *error)
{
    char *text = as_text(json);
    if (!text)
        return dlb_fail(error, DLB_NOMEM, "There is no memory left for the report.");
    fputs(text, out);
    free(text);
    return DLB_OK;
}

void dlb_json_release(struct dlb_json *json)
{
    cJSON_Delete(json->root);
    *json = (struct dlb_json){0};
}

static enum dlb_status read_text(const char *path, char **text, struct dlb_error *error)
{
    enum dlb_status status = DLB_OK;
    struct stat info;
    size_t length;
    *text = NULL;
    FILE *stream = fopen(path, "rb");
    if (!stream || fstat(fileno(stream), &info)) {
        status = dlb_fail(error, DLB_IO, "%s cannot be read: %s.", path, strerror(errno));
        goto out;
    }
    if (!S_ISREG(info.st_mode) || info.st_size > FILE_MAX) {
        status = dlb_fail(error, DLB_INVALID,
                          "%s cannot be read: a regular file of at most 256 MiB is "
                          "expected.",
                          path);
        goto out;
    }
    *text = calloc((size_t)info.st_size + 1, 1);
    if (!*text) {
        status = dlb_fail(error, DLB_NOMEM, "There is no memory left to read %s.", path);
        goto out;
    }
    length = fread(*text, 1, (size_t)info.st_size, stream);
    (*text)[length] = '\0';
    if (ferror(stream)) {
        status = dlb_fail(error, DLB_IO, "%s cannot be read: %s.", path, strerror(errno));
        free(*text);
        *text = NULL;
    }
out:
    if (stream)
        fclose(stream);
    return status;
}

enum dlb_status dlb_json_open(const char *path, struct dlb_json_file **file,
                              struct dlb_error *error)
{
    char *text;
    enum dlb_status status = read_text(path, &text, error);
    if (status)
        return status;
    const char *end = text;
    cJSON *root = cJSON_ParseWithOpts(text, &end, true);
    if (root) {
        *file = (struct dlb_json_file *)root;
    } else {
        int line = 1;
        for (const char *at = text; at < end; at++)
            line += *at == '\n';
        status = dlb_fail(error, DLB_INVALID, "%s, line %d: this is not valid JSON.",
                          path, line);
    }
    free(text);
    return status;
}

static const cJSON *find(const struct dlb_json_file *file, const char *keys)
{
    const cJSON *at = (const cJSON *)file;
    while (at && keys) {
        char key[64];
        const char *end = strchrnul(keys, '.');
        snprintf(key, sizeof key, "%.*s", (int)(end - keys), keys);
        at = cJSON_IsArray(at) ? cJSON_GetArrayItem(at, atoi(key))
                               : cJSON_GetObjectItemCaseSensitive(at, key);
        keys = *end ? end + 1 : NULL;
    }
    return at;
}

const char *dlb_json_find_text(const struct dlb_json_file *file, const char *keys)
{
    const cJSON *item = find(file, keys);
    return cJSON_IsString(item) ? item->valuestring : NULL;
}

double dlb_json_find_real(const struct dlb_json_file *file, const char *keys)
{
    const cJSON *item = find(file, keys);
    return cJSON_IsNumber(item) ? item->valuedouble : NAN;
}

const char *dlb_json_find_element(const struct dlb_json_file *file, const char *keys,
                                  int i)
{
    const cJSON *item = cJSON_GetArrayItem(find(file, keys), i);
    return cJSON_IsString(item) ? item->valuestring : NULL;
}

static void visit_below(const cJSON *item, const char *keys, dlb_json_visit_fn *visit,
                        void *context)
{
    for (const cJSON *child = item ? item->child : NULL; child; child = child->next) {
        char path[256];
        snprintf(path, sizeof path, "%s%s%s", keys, *keys ? "." : "",
                 child->string ? child->string : "");
        if (cJSON_IsString(child))
            visit(context, path, child->valuestring);
        else
            visit_below(child, path, visit, context);
    }
}

void dlb_json_each_text(const struct dlb_json_file *file, const char *keys,
                        dlb_json_visit_fn *visit, void *context)
{
    visit_below(find(file, keys), "", visit, context);
}

void dlb_json_close(struct dlb_json_file *file)
{
    cJSON_Delete((cJSON *)file);
}
