#include "machine/system_file.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_ROOM = 4096, FIRST_CHUNK = 4096, TEXT_MAX = 16 << 20 };

char *dlb_file_text(const char *root, const char *path)
{
    char full[PATH_ROOM];
    char *text = NULL;
    size_t length = 0, room = FIRST_CHUNK;

    if (snprintf(full, sizeof full, "%s%s", root, path) >= (int)sizeof full)
        return NULL;
    FILE *file = fopen(full, "re");
    if (!file)
        return NULL;
    /* Files of /proc and /sys tell no size beforehand. */
    for (;;) {
        char *grown = realloc(text, room);
        if (!grown)
            goto fail;
        text = grown;
        length += fread(text + length, 1, room - 1 - length, file);
        if (length < room - 1)
            break;
        room *= 2;
        if (room > TEXT_MAX)
            goto fail;
    }
    if (ferror(file))
        goto fail;
    text[length] = 0;
    fclose(file);
    return text;
fail:
    free(text);
    fclose(file);
    return NULL;
}

static void copy_trimmed(const char *from, size_t length, char *to, size_t size)
{
    while (length && isspace((unsigned char)*from)) {
        from++;
        length--;
    }
    while (length && isspace((unsigned char)from[length - 1]))
        length--;
    if (length > size - 1)
        length = size - 1;
    memcpy(to, from, length);
    to[length] = 0;
}

bool dlb_file_line(const char *root, const char *path, char *line, size_t size)
{
    line[0] = 0;
    char *text = dlb_file_text(root, path);
    if (!text)
        return false;
    copy_trimmed(text, strcspn(text, "\n"), line, size);
    free(text);
    return line[0] != 0;
}

bool dlb_file_number(const char *root, const char *path, double *number)
{
    char line[64], *end;
    if (!dlb_file_line(root, path, line, sizeof line))
        return false;
    double value = strtod(line, &end);
    if (end == line)
        return false;
    *number = value;
    return true;
}

bool dlb_text_value(const char *text, const char *key, char *value, size_t size)
{
    size_t key_length = strlen(key);
    value[0] = 0;
    for (const char *line = text; line && *line;) {
        size_t length = strcspn(line, "\n");
        if (length > key_length && !strncmp(line, key, key_length)) {
            const char *rest = line + key_length;
            size_t blanks = strspn(rest, " \t");
            if (rest[blanks] == ':') {
                copy_trimmed(rest + blanks + 1, length - key_length - blanks - 1, value,
                             size);
                return true;
            }
            /* "model name : x" is not a line of the key "model". */
            if (blanks && !memchr(line, ':', length)) {
                copy_trimmed(rest, length - key_length, value, size);
                return true;
            }
        }
        line += length + (line[length] == '\n');
    }
    return false;
}
