/*
 * save.h - a file that is written in one piece.
 */
#ifndef DLB_RECORD_SAVE_H
#define DLB_RECORD_SAVE_H

#include "core/base.h"

/* Replaces path atomically, or writes into it when it is no regular file; a link stays one.
 * DLB_IO names path and reason; then the old file is still there. */
enum dlb_status dlb_save(const char *path, const char *text, size_t length,
                         struct dlb_error *error);

#endif
