#include "nearest.h"

#include "core/base.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* Longer texts are no misspelling of any of our words. */
enum { LENGTH_MAX = 48 };

static bool same_letter(char a, char b)
{
    return tolower((unsigned char)a) == tolower((unsigned char)b);
}

/* Optimal string alignment over three rolling rows. */
static int distance(const char *a, int a_n, const char *b, int b_n)
{
    int rows[3][LENGTH_MAX + 1];
    int *two_back = rows[0], *last = rows[1], *row = rows[2];
    for (int j = 0; j <= b_n; j++)
        last[j] = j;
    for (int i = 1; i <= a_n; i++) {
        row[0] = i;
        for (int j = 1; j <= b_n; j++) {
            int substitute = last[j - 1] + !same_letter(a[i - 1], b[j - 1]);
            row[j] = dlb_min(substitute, dlb_min(last[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && same_letter(a[i - 1], b[j - 2]) &&
                same_letter(a[i - 2], b[j - 1]))
                row[j] = dlb_min(row[j], two_back[j - 2] + 1);
        }
        int *free_row = two_back;
        two_back = last;
        last = row;
        row = free_row;
    }
    return last[b_n];
}

const char *dlb_nearest(const char *text, const char *const *words, int n)
{
    size_t length = strlen(text);
    const char *nearest = NULL;
    int least = 0;
    if (length == 0 || length > LENGTH_MAX)
        return NULL;
    for (int i = 0; i < n; i++) {
        size_t word_length = strlen(words[i]);
        if (word_length > LENGTH_MAX)
            continue;
        int edits = distance(text, length, words[i], word_length);
        if (edits <= dlb_max(1, dlb_max(length, word_length) / 3) &&
            edits < dlb_max(length, word_length) && (!nearest || edits < least)) {
            nearest = words[i];
            least = edits;
        }
    }
    return nearest;
}

const char *dlb_nearest_hint(const char *text, const char *const *words, int n,
                             char hint[DLB_HINT_MAX])
{
    const char *nearest = dlb_nearest(text, words, n);
    if (nearest)
        snprintf(hint, DLB_HINT_MAX, " (did you mean '%s'?)", nearest);
    else
        hint[0] = '\0';
    return hint;
}

const char *dlb_words_join(const char *const *words, int n, char *text, int size)
{
    static const char cut[] = ", …";
    int length = 0;
    text[0] = '\0';
    for (int i = 0; i < n; i++) {
        int needed = (i ? 2 : 0) + strlen(words[i]);
        int reserved = i + 1 < n ? sizeof cut : 1;
        if (length + needed + reserved > size) {
            snprintf(text + length, size - length, "%s", length ? cut : "…");
            break;
        }
        length += snprintf(text + length, size - length, "%s%s", i ? ", " : "", words[i]);
    }
    return text;
}

const char *dlb_quote(const char *text, char *quoted, int size)
{
    static const char cut[] = "…";
    int length = 0;
    for (; text[length] && length < size - (int)sizeof cut; length++) {
        unsigned char c = text[length];
        quoted[length] = c < 0x20 || c == 0x7f || c == '\'' ? '?' : text[length];
    }
    /* A multibyte letter is not cut in its middle. */
    while (text[length] && length > 0 && ((unsigned char)text[length] & 0xc0) == 0x80)
        length--;
    snprintf(quoted + length, size - length, "%s", text[length] ? cut : "");
    return quoted;
}
