/*
 * texts.h - texts, each kept once: what comes again in many rows has one copy, and equal
 * ones have the same address.
 */
#ifndef DLB_JUDGE_TEXTS_H
#define DLB_JUDGE_TEXTS_H

#include "core/base.h"

struct dlb_texts;

/* NULL without memory. */
struct dlb_texts *dlb_texts_make(void);
void dlb_texts_release(struct dlb_texts *texts); /* safe on NULL; its texts go with it */

/* The shared copy of text, which lives as long as texts; NULL without memory. */
const char *dlb_texts_share(struct dlb_texts *texts, const char *text);

/* FNV-1a: the hash of what hash is of, and then text; begin with dlb_text_hash_begin. */
extern const uint64_t dlb_text_hash_begin;
uint64_t dlb_text_hash(uint64_t hash, const char *text);

#endif
