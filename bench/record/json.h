/*
 * json.h - writing JSON files in one piece and looking up texts in one.  The JSON library
 * is seen only in json.c.
 */
#ifndef DLB_RECORD_JSON_H
#define DLB_RECORD_JSON_H

#include "core/base.h"

#include <stdio.h>

enum { DLB_JSON_DEPTH = 8 };

/*
 * A document being built, begin to end; a zeroed one is empty.  Out of memory is kept
 * until dlb_json_save says so.  key: NULL inside an array and for the outermost value.
 */
struct dlb_json {
    void *open[DLB_JSON_DEPTH]; /* objects and arrays that are not ended yet */
    int depth;
    void *root;
    bool nomem;
};

void dlb_json_begin_object(struct dlb_json *json, const char *key);
void dlb_json_begin_array(struct dlb_json *json, const char *key);
void dlb_json_end(struct dlb_json *json);

/* What is not UTF-8 in text becomes U+FFFD; a NULL text and a number that is not finite
 * become null. */
void dlb_json_text(struct dlb_json *json, const char *key, const char *text);
void dlb_json_int(struct dlb_json *json, const char *key, int64_t value);
void dlb_json_real(struct dlb_json *json, const char *key, double value);
void dlb_json_bool(struct dlb_json *json, const char *key, bool value);

/* Into a file, as dlb_save does.  Everything must have been ended. */
enum dlb_status dlb_json_save(const struct dlb_json *json, const char *path,
                              struct dlb_error *error);
/* The same onto a stream; whether that could be written is for its owner to see. */
enum dlb_status dlb_json_print(const struct dlb_json *json, FILE *out,
                               struct dlb_error *error);
void dlb_json_release(struct dlb_json *json);

/* A document that was read. */
struct dlb_json_file;
enum dlb_status dlb_json_open(const char *path, struct dlb_json_file **file,
                              struct dlb_error *error);
/* The text or number under the keys joined by ".", where the key of an array is a number
 * from 0, or NULL.  Lives with file. */
const char *dlb_json_find_text(const struct dlb_json_file *file, const char *keys);
double dlb_json_find_real(const struct dlb_json_file *file,
                          const char *keys); /* or NaN */
/* Number i (from 0) of the array of texts under keys, or NULL.  Lives with file. */
const char *dlb_json_find_element(const struct dlb_json_file *file, const char *keys,
                                  int i);
/* Calls visit for each text below keys (NULL: of the whole document), in the order of the
 * file, with the keys from there on joined by ".". */
typedef void dlb_json_visit_fn(void *context, const char *keys, const char *text);
void dlb_json_each_text(const struct dlb_json_file *file, const char *keys,
                        dlb_json_visit_fn *visit, void *context);
/* Safe on NULL. */
void dlb_json_close(struct dlb_json_file *file);

#endif
