#include "record/save.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static enum dlb_status write_failed(const char *path, struct dlb_error *error)
{
    return dlb_fail(error, DLB_IO, "%s cannot be written: %s.", path, strerror(errno));
}

/* False with errno set. */
static bool write_text(int fd, const char *text, size_t length)
{
    size_t done = 0;
    while (done < length) {
        ssize_t written = write(fd, text + done, length - done);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return false;
        done += (size_t)written;
    }
    return true;
}

static enum dlb_status write_in_place(const char *path, const char *text, size_t length,
                                      struct dlb_error *error)
{
    enum dlb_status status = DLB_OK;
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return write_failed(path, error);
    if (!write_text(fd, text, length))
        status = write_failed(path, error);
    close(fd);
    return status;
}

static enum dlb_status replace(const char *path, const char *text, size_t length,
                               struct dlb_error *error)
{
    enum dlb_status status = DLB_OK;
    char *fresh = NULL;
    int fd = -1;
    if (asprintf(&fresh, "%s.%ld.tmp", path, (long)getpid()) < 0) {
        fresh = NULL;
        status = dlb_fail(error, DLB_NOMEM, "There is no memory left to write %s.", path);
        goto out;
    }
    fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0 || !write_text(fd, text, length) || fsync(fd)) {
        status = write_failed(path, error);
        goto out;
    }
    if (rename(fresh, path))
        status = write_failed(path, error);
out:
    if (fd >= 0)
        close(fd);
    if (status && fd >= 0)
        unlink(fresh);
    free(fresh);
    return status;
}

enum dlb_status dlb_save(const char *path, const char *text, size_t length,
                         struct dlb_error *error)
{
    struct stat info;
    if (!stat(path, &info) && !S_ISREG(info.st_mode))
        return write_in_place(path, text, length, error);
    char *target = realpath(path, NULL);
    enum dlb_status status = replace(target ? target : path, text, length, error);
    free(target);
    return status;
}
