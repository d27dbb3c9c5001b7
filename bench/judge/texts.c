#include "judge/texts.h"

#include <stdlib.h>
#include <string.h>

enum { BLOCK = 1 << 16, FIRST_ROOM = 1024 };

/* Texts, each once: a hash table of them, and blocks that hold their bytes. */
struct dlb_texts {
    struct text {
        const char *text; /* NULL: free */
        uint64_t hash;
    } * entry;
    int entries, room;
    struct block {
        struct block *before;
        size_t used, size;
        char bytes[];
    } * block;
};

uint64_t dlb_text_hash(uint64_t hash, const char *text)
{
    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * 0x100000001b3;
    return hash;
}
const uint64_t dlb_text_hash_begin = 0xcbf29ce484222325;

static const char *store(struct dlb_texts *texts, const char *text)
{
    size_t length = strlen(text) + 1;
    if (!texts->block || texts->block->size - texts->block->used < length) {
        size_t size = (size_t)dlb_max(BLOCK, (int64_t)length);
        struct block *block = malloc(sizeof *block + size);
        if (!block)
            return NULL;
        *block = (struct block){texts->block, 0, size};
        texts->block = block;
    }
    char *copy = texts->block->bytes + texts->block->used;
    texts->block->used += length;
    return memcpy(copy, text, length);
}

/* Where the text is, or belongs. */
static struct text *text_slot(const struct dlb_texts *texts, const char *text,
                              uint64_t hash)
{
    size_t mask = (size_t)texts->room - 1, at = (size_t)hash & mask;
    while (texts->entry[at].text &&
           (texts->entry[at].hash != hash || strcmp(texts->entry[at].text, text)))
        at = (at + 1) & mask;
    return &texts->entry[at];
}

static bool grow_texts(struct dlb_texts *texts)
{
    struct dlb_texts grown = *texts;
    grown.room = texts->room ? 2 * texts->room : FIRST_ROOM;
    grown.entry = calloc((size_t)grown.room, sizeof *grown.entry);
    if (!grown.entry)
        return false;
    for (int i = 0; i < texts->room; i++)
        if (texts->entry[i].text)
            *text_slot(&grown, texts->entry[i].text, texts->entry[i].hash) =
                texts->entry[i];
    free(texts->entry);
    *texts = grown;
    return true;
}

const char *dlb_texts_share(struct dlb_texts *texts, const char *text)
{
    uint64_t hash = dlb_hash(dlb_text_hash(dlb_text_hash_begin, text), 0);
    if (2 * texts->entries >= texts->room && !grow_texts(texts))
        return NULL;
    struct text *slot = text_slot(texts, text, hash);
    if (!slot->text) {
        *slot = (struct text){store(texts, text), hash};
        texts->entries += slot->text != NULL;
    }
    return slot->text;
}

struct dlb_texts *dlb_texts_make(void)
{
    return calloc(1, sizeof(struct dlb_texts));
}

void dlb_texts_release(struct dlb_texts *texts)
{
    while (texts && texts->block) {
        struct block *block = texts->block;
        texts->block = block->before;
        free(block);
    }
    if (texts)
        free(texts->entry);
    free(texts);
}
