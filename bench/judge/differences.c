#include "judge/differences.h"

#include <stdlib.h>
#include <string.h>

enum { LONG_LIST = 100 };

/* Everything that the manifests say, key by key. */
struct gathering {
    struct dlb_differences *all;
    int side;
    bool nomem;
};

static bool is_volatile(const char *key)
{
    static const char *const keys[] = {"memory.available", "memory.free"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!strcmp(key, keys[i]))
            return true;
    return false;
}

/* Whether text is one of those that list joins by " | ". */
static bool has_value(const char *list, const char *text)
{
    size_t length = strlen(text);
    for (const char *at = list; (at = strstr(at, text)); at++) {
        bool begins = at == list || (at - list >= 3 && !strncmp(at - 3, " | ", 3));
        if (begins && (!at[length] || !strncmp(at + length, " | ", 3)))
            return true;
    }
    return false;
}

static struct dlb_difference *entry_of(struct dlb_differences *all, const char *key)
{
    for (int i = 0; i < all->n; i++)
        if (!strcmp(all->difference[i].key, key))
            return &all->difference[i];
    struct dlb_difference *grown =
        realloc(all->difference, (size_t)(all->n + 1) * sizeof *grown);
    if (!grown)
        return NULL;
    all->difference = grown;
    struct dlb_difference *entry = &grown[all->n++];
    *entry = (struct dlb_difference){strdup(key), {strdup(""), strdup("")}};
    return entry->key && entry->text[0] && entry->text[1] ? entry : NULL;
}

static void gather(void *context, const char *key, const char *text)
{
    struct gathering *gathering = context;
    char *joined;
    if (gathering->nomem || is_volatile(key) || !*text)
        return;
    struct dlb_difference *entry = entry_of(gathering->all, key);
    gathering->nomem = !entry;
    char **value = entry ? &entry->text[gathering->side] : NULL;
    if (!value || has_value(*value, text))
        return;
    if (asprintf(&joined, "%s%s%s", *value, **value ? " | " : "", text) < 0) {
        gathering->nomem = true;
        return;
    }
    free(*value);
    *value = joined;
}

static void gather_file(const struct dlb_json_file *manifest, struct gathering *gathering)
{
    static const char *const single[] = {"host", "program.version", "machine_key"};
    char options[1024] = "";
    const char *word;
    for (size_t i = 0; i < sizeof single / sizeof *single; i++) {
        const char *text = dlb_json_find_text(manifest, single[i]);
        if (text)
            gather(gathering, single[i], text);
    }
    for (int i = 1; (word = dlb_json_find_element(manifest, "options", i)); i++) {
        size_t used = strlen(options);
        if (!strcmp(word, "--out")) /* where a run went is no difference */
            i++;
        else if (strncmp(word, "--out=", 6))
            snprintf(options + used, sizeof options - used, "%s%s", used ? " " : "",
                     word);
    }
    gather(gathering, "options", options);
    dlb_json_each_text(manifest, "facts", gather, gathering);
}

/* The words of text (spaces between) that other lacks, joined; NULL without memory. */
static char *words_lacking(const char *text, const char *other)
{
    char *left = calloc(1, strlen(text) + 2), *padded, *wanted;
    if (!left || asprintf(&padded, " %s ", other) < 0) {
        free(left);
        return NULL;
    }
    for (const char *at = text; *at;) {
        size_t length = strcspn(at, " ");
        if (length && asprintf(&wanted, " %.*s ", (int)length, at) >= 0) {
            if (!strstr(padded, wanted)) {
                strcat(left, *left ? " " : "");
                strncat(left, at, length);
            }
            free(wanted);
        }
        at += length + (at[length] == ' ');
    }
    free(padded);
    return left;
}

static bool shorten(struct dlb_difference *entry)
{
    if (strlen(entry->text[0]) < LONG_LIST || strlen(entry->text[1]) < LONG_LIST)
        return true;
    char *base = words_lacking(entry->text[0], entry->text[1]);
    char *fresh = words_lacking(entry->text[1], entry->text[0]);
    if (!base || !fresh) {
        free(base);
        free(fresh);
        return false;
    }
    free(entry->text[0]);
    free(entry->text[1]);
    entry->text[0] = base;
    entry->text[1] = fresh;
    return true;
}

static void release_entry(struct dlb_difference *entry)
{
    free(entry->key);
    free(entry->text[0]);
    free(entry->text[1]);
    *entry = (struct dlb_difference){0};
}

enum dlb_status dlb_differences_find(const struct dlb_cases *cases,
                                     struct dlb_differences *differences,
                                     struct dlb_error *error)
{
    struct gathering gathering = {.all = differences};
    bool known[DLB_SIDES] = {false, false};
    int kept = 0;
    *differences = (struct dlb_differences){0};
    for (int i = 0; i < cases->files; i++) {
        gathering.side = cases->file[i].side;
        if (cases->file[i].manifest)
            gather_file(cases->file[i].manifest, &gathering);
        known[gathering.side] |= cases->file[i].manifest != NULL;
    }
    for (int i = 0; i < differences->n && !gathering.nomem; i++) {
        struct dlb_difference *entry = &differences->difference[i];
        if (!known[0] || !known[1] || !strcmp(entry->text[0], entry->text[1])) {
            release_entry(entry);
            continue;
        }
        gathering.nomem = !shorten(entry);
        struct dlb_difference differs = *entry;
        *entry = (struct dlb_difference){0};
        differences->difference[kept++] = differs;
    }
    if (!gathering.nomem)
        differences->n = kept;
    return gathering.nomem
               ? dlb_fail(error, DLB_NOMEM, "There is no memory left to compare.")
               : DLB_OK;
}

void dlb_differences_release(struct dlb_differences *differences)
{
    for (int i = 0; i < differences->n; i++)
        release_entry(&differences->difference[i]);
    free(differences->difference);
    *differences = (struct dlb_differences){0};
}
