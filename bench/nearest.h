/*
 * nearest.h - "did you mean": the valid word that is nearest to what was typed.
 */
#ifndef DLB_BENCH_NEAREST_H
#define DLB_BENCH_NEAREST_H

enum { DLB_HINT_MAX = 96 };

/* The nearest of words (n) to text by edit distance, where a swap of neighbours is one
 * edit and case is ignored, or NULL when none is near: more than a third of the letters
 * wrong.  Of equals the first. */
const char *dlb_nearest(const char *text, const char *const *words, int n);

/* " (did you mean 'word'?)", or an empty text when none is near; returns hint. */
const char *dlb_nearest_hint(const char *text, const char *const *words, int n,
                             char hint[DLB_HINT_MAX]);

/* Joins words into text as "a, b, c", cutting with "…" what does not fit; returns text.
 */
const char *dlb_words_join(const char *const *words, int n, char *text, int size);

/* Copies text for a message: control characters and quotes become '?', and what goes
 * beyond size is cut with "…"; returns quoted. */
const char *dlb_quote(const char *text, char *quoted, int size);

#endif
