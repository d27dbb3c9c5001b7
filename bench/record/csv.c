#include "record/csv.h"

#include <csv.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    CHUNK = 64 << 10,
    TORN_LINES_MAX = 8 /* beyond, an open quote is damage and no torn record */
};

struct reader {
    const char *file;
    dlb_csv_fn *fn;
    void *context;
    struct dlb_error *error;
    struct csv_parser parser;

    /* The record being read: its cells one after the other, each terminated. */
    char *text;
    size_t text_n, text_capacity;
    size_t *start;
    const char **cell;
    int cells_n, cells_capacity;

    int64_t line, offset;
    int64_t record_line, record_offset;
    bool comments;
    bool in_comment;
    bool in_record;
    bool complete; /* libcsv has seen the record's end, but maybe not yet its LF */
    bool drop_open_quote;
    enum dlb_status status;
};

static enum dlb_status no_memory(struct dlb_error *error)
{
    return dlb_fail(error, DLB_NOMEM, "There is no memory left for a CSV record.");
}

static enum dlb_status damaged(struct reader *reader, int64_t line, const char *what)
{
    return dlb_fail(reader->error, DLB_INVALID, "%s, line %" PRId64 ": %s.", reader->file,
                    line, what);
}

static enum dlb_status unreadable(const char *file, struct dlb_error *error)
{
    return dlb_fail(error, DLB_IO, "%s cannot be read: %s.", file, strerror(errno));
}

static int never_space(unsigned char c)
{
    (void)c;
    return 0;
}

static enum dlb_status grow_cells(struct reader *reader)
{
    int capacity = reader->cells_capacity ? 2 * reader->cells_capacity : 128;
    size_t *start = realloc(reader->start, (size_t)capacity * sizeof *start);
    if (!start)
        return no_memory(reader->error);
    reader->start = start;
    const char **cell = realloc(reader->cell, (size_t)capacity * sizeof *cell);
    if (!cell)
        return no_memory(reader->error);
    reader->cell = cell;
    reader->cells_capacity = capacity;
    return DLB_OK;
}

static enum dlb_status add_cell(struct reader *reader, const char *text, size_t length)
{
    if (reader->complete)
        return damaged(reader, reader->line,
                       "a carriage return stands outside quotes; lines must end in LF or "
                       "CRLF");
    if (length > DLB_CSV_CELL_MAX)
        return damaged(reader, reader->line,
                       "a cell is longer than 1 MiB, the most that is accepted");
    size_t needed = reader->text_n + length + 1;
    if (needed > DLB_CSV_RECORD_MAX)
        return damaged(reader, reader->line,
                       "a record is longer than 4 MiB, the most that is accepted");
    if (needed > reader->text_capacity) {
        size_t capacity = 2 * needed;
        char *grown = realloc(reader->text, capacity);
        if (!grown)
            return no_memory(reader->error);
        reader->text = grown;
        reader->text_capacity = capacity;
    }
    if (reader->cells_n == reader->cells_capacity) {
        enum dlb_status status = grow_cells(reader);
        if (status)
            return status;
    }
    reader->start[reader->cells_n++] = reader->text_n;
    if (length)
        memcpy(reader->text + reader->text_n, text, length);
    reader->text[reader->text_n + length] = '\0';
    reader->text_n = needed;
    return DLB_OK;
}

static void on_cell(void *text, size_t length, void *context)
{
    struct reader *reader = context;
    if (!reader->status)
        reader->status = add_cell(reader, text, length);
}

static void on_record(int end, void *context)
{
    (void)end;
    struct reader *reader = context;
    reader->complete = true;
}

static enum dlb_status parser_failed(struct reader *reader)
{
    if (csv_error(&reader->parser) == CSV_EPARSE)
        return damaged(
            reader, reader->line,
            "a quote stands inside a cell; such a cell must be quoted, and the "
            "quote doubled");
    return no_memory(reader->error);
}

static bool is_blank(const struct reader *reader)
{
    return reader->cells_n == 1 && *reader->text &&
           !reader->text[strspn(reader->text, " \t")];
}

/* The record is complete, and reader->offset stands behind its line. */
static enum dlb_status deliver(struct reader *reader, bool torn)
{
    enum dlb_status status = DLB_OK;
    if (!is_blank(reader)) {
        for (int i = 0; i < reader->cells_n; i++)
            reader->cell[i] = reader->text + reader->start[i];
        struct dlb_csv_record record = {.line = reader->record_line,
                                        .cells_n = reader->cells_n,
                                        .cells = reader->cell,
                                        .torn = torn,
                                        .begin = reader->record_offset,
                                        .end = reader->offset};
        status = reader->fn(reader->context, &record, reader->error);
    }
    reader->in_record = reader->complete = false;
    reader->cells_n = 0;
    reader->text_n = 0;
    return status;
}

/* Takes a piece of one line: only its last byte may be LF. */
static enum dlb_status take(struct reader *reader, const char *piece, size_t length)
{
    bool line_ends = piece[length - 1] == '\n';
    enum dlb_status status = DLB_OK;

    if (memchr(piece, '\0', length))
        return damaged(reader, reader->line, "a NUL byte; a CSV file holds text only");
    if (!reader->in_record && !reader->in_comment) {
        while (length && (*piece == '\r' || *piece == '\n')) {
            piece++;
            length--;
            reader->offset++;
        }
        if (length) {
            reader->in_comment = reader->comments && *piece == '#';
            reader->in_record = !reader->in_comment;
            reader->record_line = reader->line;
            reader->record_offset = reader->offset;
        }
    }
    reader->offset += (int64_t)length;
    if (reader->in_record) {
        size_t taken =
            csv_parse(&reader->parser, piece, length, on_cell, on_record, reader);
        if (reader->status)
            return reader->status;
        if (taken != length)
            return parser_failed(reader);
        if (csv_get_buffer_size(&reader->parser) > DLB_CSV_CELL_MAX + 2 * CHUNK)
            return damaged(reader, reader->line,
                           "a cell is longer than 1 MiB, the most that is accepted");
    }
    if (line_ends) {
        if (reader->complete)
            status = deliver(reader, false);
        reader->in_comment = false;
        reader->line++;
    }
    return status;
}

static enum dlb_status finish(struct reader *reader)
{
    if (!reader->in_record)
        return DLB_OK;
    if (csv_fini(&reader->parser, on_cell, on_record, reader)) {
        if (csv_error(&reader->parser) != CSV_EPARSE)
            return no_memory(reader->error);
        if (reader->drop_open_quote &&
            reader->line - reader->record_line <= TORN_LINES_MAX)
            return DLB_OK;
        return damaged(reader, reader->record_line,
                       "the record opens a quote that is never closed");
    }
    if (reader->status)
        return reader->status;
    return deliver(reader, true);
}

static enum dlb_status read_chunks(struct reader *reader, FILE *stream, char *chunk,
                                   int64_t limit)
{
    while (reader->offset < limit) {
        size_t wanted = (size_t)dlb_min(CHUNK, limit - reader->offset);
        size_t got = fread(chunk, 1, wanted, stream);
        if (!got)
            break;
        const char *piece = chunk, *end = chunk + got;
        if (!reader->offset && got >= 3 && !memcmp(piece, "\xEF\xBB\xBF", 3)) {
            piece += 3;
            reader->offset = 3;
        }
        while (piece < end) {
            const char *newline = memchr(piece, '\n', (size_t)(end - piece));
            const char *next = newline ? newline + 1 : end;
            enum dlb_status status = take(reader, piece, (size_t)(next - piece));
            if (status)
                return status;
            piece = next;
        }
    }
    if (ferror(stream))
        return unreadable(reader->file, reader->error);
    return finish(reader);
}

/* Reads the first limit bytes of the file in reader->file. */
static enum dlb_status read_file(struct reader *reader, int64_t limit)
{
    enum dlb_status status = DLB_OK;
    char *chunk = NULL;
    FILE *stream = fopen(reader->file, "rb");
    if (!stream)
        return unreadable(reader->file, reader->error);
    reader->line = 1;
    csv_init(&reader->parser, CSV_STRICT | CSV_STRICT_FINI);
    csv_set_space_func(&reader->parser, never_space);
    csv_set_blk_size(&reader->parser, CHUNK);
    chunk = malloc(CHUNK);
    if (!chunk) {
        status = no_memory(reader->error);
        goto out;
    }
    status = read_chunks(reader, stream, chunk, limit);
out:
    csv_free(&reader->parser);
    free(reader->text);
    free(reader->start);
    free(reader->cell);
    free(chunk);
    fclose(stream);
    return status;
}

enum dlb_status dlb_csv_read(const char *file, bool comments, dlb_csv_fn *fn,
                             void *context, struct dlb_error *error)
{
    struct reader reader = {
        .file = file, .fn = fn, .context = context, .error = error, .comments = comments};
    return read_file(&reader, INT64_MAX);
}

/* Bytes up to and including the last LF; 0 without one. */
static enum dlb_status find_last_newline(const char *file, int64_t *bytes,
                                         struct dlb_error *error)
{
    enum dlb_status status = DLB_OK;
    char chunk[4096];
    *bytes = 0;
    FILE *stream = fopen(file, "rb");
    if (!stream)
        return unreadable(file, error);
    int64_t end = fseeko(stream, 0, SEEK_END) ? -1 : ftello(stream);
    while (end > 0 && !*bytes) {
        int64_t begin = dlb_max(0, end - (int64_t)sizeof chunk);
        size_t length = (size_t)(end - begin);
        if (fseeko(stream, begin, SEEK_SET) ||
            fread(chunk, 1, length, stream) != length) {
            end = -1;
            break;
        }
        const char *newline = memrchr(chunk, '\n', length);
        if (newline)
            *bytes = begin + (newline - chunk) + 1;
        end = begin;
    }
    if (end < 0)
        status = unreadable(file, error);
    fclose(stream);
    return status;
}

struct whole {
    dlb_csv_fn *fn;
    void *context;
    int64_t end;
};

static enum dlb_status pass_whole(void *context, const struct dlb_csv_record *record,
                                  struct dlb_error *error)
{
    struct whole *whole = context;
    whole->end = record->end;
    return whole->fn ? whole->fn(whole->context, record, error) : DLB_OK;
}

enum dlb_status dlb_csv_read_whole(const char *file, dlb_csv_fn *fn, void *context,
                                   int64_t *bytes, struct dlb_error *error)
{
    int64_t limit;
    struct whole whole = {fn, context, 0};
    enum dlb_status status = find_last_newline(file, &limit, error);
    struct reader reader = {.file = file,
                            .fn = pass_whole,
                            .context = &whole,
                            .error = error,
                            .drop_open_quote = true};
    if (!status)
        status = read_file(&reader, limit);
    *bytes = whole.end;
    return status;
}

enum dlb_status dlb_csv_whole(const char *file, int64_t *bytes, struct dlb_error *error)
{
    return dlb_csv_read_whole(file, NULL, NULL, bytes, error);
}

static bool skip_digits(const char **text)
{
    const char *begin = *text;
    while (**text >= '0' && **text <= '9')
        ++*text;
    return *text > begin;
}

bool dlb_csv_is_number(const char *text)
{
    if (*text == '+' || *text == '-')
        text++;
    bool digits = skip_digits(&text);
    if (*text == '.') {
        text++;
        digits |= skip_digits(&text);
    }
    if (!digits)
        return false;
    if (*text == 'e' || *text == 'E') {
        text++;
        if (*text == '+' || *text == '-')
            text++;
        if (!skip_digits(&text))
            return false;
    }
    return !*text;
}

static bool starts_formula(const char *text)
{
    return *text && strchr("=+-@\t\r", *text);
}

/* One or more ' and then what starts a formula. */
static bool is_neutralised(const char *text)
{
    return *text == '\'' && starts_formula(text + strspn(text, "'"));
}

const char *dlb_csv_plain(const char *cell)
{
    return is_neutralised(cell) ? cell + 1 : cell;
}

static bool must_quote(const char *text, bool first, bool only)
{
    size_t length = strlen(text);
    if (!length)
        return only;
    return text[strcspn(text, ",\"\r\n")] || (first && *text == '#') ||
           strchr(" \t", *text) || strchr(" \t", text[length - 1]);
}

static enum dlb_status reserve(struct dlb_csv_buffer *buffer, size_t more,
                               struct dlb_error *error)
{
    if (buffer->capacity - buffer->length >= more)
        return DLB_OK;
    size_t capacity = 2 * buffer->capacity + more;
    char *grown = realloc(buffer->data, capacity);
    if (!grown)
        return no_memory(error);
    buffer->data = grown;
    buffer->capacity = capacity;
    return DLB_OK;
}

static enum dlb_status append_cell(struct dlb_csv_buffer *buffer, const char *text,
                                   bool first, bool only, struct dlb_error *error)
{
    bool neutralise =
        (starts_formula(text) && !dlb_csv_is_number(text)) || is_neutralised(text);
    bool quote = must_quote(text, first, only);
    size_t length = strlen(text);

    /* comma, ', both quotes, and each character perhaps doubled */
    enum dlb_status status = reserve(buffer, 2 * length + 4, error);
    if (status)
        return status;
    char *to = buffer->data + buffer->length;
    if (!first)
        *to++ = ',';
    if (quote) {
        char *opening = to;
        to += csv_write(to + neutralise, 2 * length + 2, text, length) + neutralise;
        if (neutralise) {
            opening[0] = '"';
            opening[1] = '\'';
        }
    } else {
        if (neutralise)
            *to++ = '\'';
        memcpy(to, text, length);
        to += length;
    }
    buffer->length = (size_t)(to - buffer->data);
    return DLB_OK;
}

enum dlb_status dlb_csv_append(struct dlb_csv_buffer *buffer, const char *const *cells,
                               int cells_n, struct dlb_error *error)
{
    size_t before = buffer->length;
    enum dlb_status status = DLB_OK;
    for (int i = 0; i < cells_n && !status; i++)
        status = append_cell(buffer, cells[i], !i, cells_n == 1, error);
    if (!status)
        status = reserve(buffer, 1, error);
    if (status)
        buffer->length = before;
    else
        buffer->data[buffer->length++] = '\n';
    return status;
}

void dlb_csv_buffer_release(struct dlb_csv_buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct dlb_csv_buffer){0};
}

enum dlb_status dlb_csv_write(FILE *file, const char *path, const char *const *cells,
                              int cells_n, struct dlb_error *error)
{
    struct dlb_csv_buffer buffer = {0};
    enum dlb_status status = dlb_csv_append(&buffer, cells, cells_n, error);
    if (!status) {
        errno = 0;
        if (fwrite(buffer.data, 1, buffer.length, file) != buffer.length || fflush(file))
            status = dlb_fail(error, DLB_IO, "%s cannot be written: %s.", path,
                              strerror(errno));
    }
    dlb_csv_buffer_release(&buffer);
    return status;
}
