#include "record/table_file.h"

#include "record/csv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static enum dlb_status system_failed(const struct dlb_table_file *file, const char *what,
                                     struct dlb_error *error)
{
    return dlb_fail(error, DLB_IO, "%s cannot be %s: %s.", file->path, what,
                    strerror(errno));
}

/* Opens file->path; lock: after those who have it open so have closed it. */
static enum dlb_status open_path(struct dlb_table_file *file, bool exclusive, bool lock,
                                 struct dlb_error *error)
{
    struct stat info;
    int flags = O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK;
    file->fd = open(file->path, flags | (exclusive ? O_EXCL : 0), 0666);
    while (file->fd >= 0 && lock && flock(file->fd, LOCK_EX) && errno == EINTR)
        ;
    if (file->fd < 0 || fstat(file->fd, &info))
        return system_failed(file, "opened for writing", error);
    if (!S_ISREG(info.st_mode))
        return dlb_fail(error, DLB_IO, "%s cannot be written: it is not a regular file.",
                        file->path);
    file->end = info.st_size;
    return DLB_OK;
}

enum dlb_status dlb_table_file_open(struct dlb_table_file *file, const char *folder,
                                    enum dlb_table_id id, bool exclusive,
                                    struct dlb_error *error)
{
    *file = (struct dlb_table_file){.id = id, .fd = -1};
    if (asprintf(&file->path, "%s/%s", folder, dlb_tables[id].file) < 0) {
        file->path = NULL;
        return dlb_fail(error, DLB_NOMEM, "There is no memory left to open %s/%s.",
                        folder, dlb_tables[id].file);
    }
    return open_path(file, exclusive, false, error);
}

static enum dlb_status write_whole(struct dlb_table_file *file,
                                   const struct dlb_csv_buffer *buffer,
                                   struct dlb_error *error)
{
    size_t done = 0;
    while (done < buffer->length) {
        ssize_t written = write(file->fd, buffer->data + done, buffer->length - done);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0) {
            enum dlb_status status = system_failed(file, "written", error);
            /* Should this fail too, resuming drops the torn record. */
            int cut = ftruncate(file->fd, file->end);
            (void)cut;
            return status;
        }
        done += (size_t)written;
    }
    file->end += (int64_t)done;
    return DLB_OK;
}

static enum dlb_status format_header(const struct dlb_table *table,
                                     struct dlb_csv_buffer *buffer,
                                     struct dlb_error *error)
{
    const char *name[DLB_COLUMNS];
    for (int i = 0; i < table->columns_n; i++)
        name[i] = table->columns[i].name;
    return dlb_csv_append(buffer, name, table->columns_n, error);
}

enum dlb_status dlb_table_file_cut(struct dlb_table_file *file, int64_t bytes,
                                   struct dlb_error *error)
{
    struct dlb_csv_buffer buffer = {0};
    if (file->end != bytes && ftruncate(file->fd, bytes))
        return system_failed(file, "cut to its whole records", error);
    file->end = bytes;
    if (bytes)
        return DLB_OK;
    enum dlb_status status = format_header(&dlb_tables[file->id], &buffer, error);
    if (!status)
        status = write_whole(file, &buffer, error);
    dlb_csv_buffer_release(&buffer);
    return status;
}

enum dlb_status dlb_table_file_append(struct dlb_table_file *file,
                                      const struct dlb_cell *cell, int records,
                                      struct dlb_error *error)
{
    const struct dlb_table *table = &dlb_tables[file->id];
    struct dlb_csv_buffer buffer = {0};
    enum dlb_status status = DLB_OK;
    for (int i = 0; i < records && !status; i++, cell += table->columns_n) {
        char number[DLB_COLUMNS][DLB_NUMBER_TEXT];
        const char *text[DLB_COLUMNS];
        for (int j = 0; j < table->columns_n; j++)
            text[j] = dlb_cell_format(table->columns[j].type, &cell[j], number[j]);
        status = dlb_csv_append(&buffer, text, table->columns_n, error);
    }
    if (!status)
        status = write_whole(file, &buffer, error);
    dlb_csv_buffer_release(&buffer);
    return status;
}

/* The first bytes of the file are the header's, as many as there are of the shorter. */
static bool begins_with_header(const struct dlb_table_file *file, size_t *header_size)
{
    struct dlb_csv_buffer header = {0};
    bool same = false;
    char *found = NULL;
    size_t size = (size_t)file->end;
    if (format_header(&dlb_tables[file->id], &header, NULL))
        goto out;
    *header_size = header.length;
    size = size < header.length ? size : header.length;
    found = malloc(size + 1);
    same = found && pread(file->fd, found, size, 0) == (ssize_t)size &&
           !memcmp(found, header.data, size);
out:
    free(found);
    dlb_csv_buffer_release(&header);
    return same;
}

bool dlb_table_file_lacks_header(const struct dlb_table_file *file)
{
    size_t header;
    return !file->end ||
           (begins_with_header(file, &header) && (size_t)file->end < header);
}

enum dlb_status dlb_table_file_share(struct dlb_table_file *file, const char *path,
                                     enum dlb_table_id id, struct dlb_error *error)
{
    size_t header;
    int64_t whole;
    *file = (struct dlb_table_file){.id = id, .fd = -1, .path = strdup(path)};
    if (!file->path)
        return dlb_fail(error, DLB_NOMEM, "There is no memory left to open %s.", path);
    enum dlb_status status = open_path(file, false, true, error);
    if (status)
        return status;
    if (dlb_table_file_lacks_header(file))
        return dlb_table_file_cut(file, 0, error);
    if (!begins_with_header(file, &header))
        return dlb_fail(error, DLB_INVALID,
                        "%s is no %s of this version: its first line names other "
                        "columns; name another file.",
                        path, dlb_tables[id].file);
    status = dlb_csv_whole(path, &whole, error);
    return status ? status : dlb_table_file_cut(file, whole, error);
}

void dlb_table_file_close(struct dlb_table_file *file)
{
    if (file->path && file->fd >= 0)
        close(file->fd);
    free(file->path);
    *file = (struct dlb_table_file){0};
}
