#include "measure/progress.h"

#include "measure/timer.h"

#include <langinfo.h>
#include <locale.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static const double DRAW_NS = 0.1e9, PLAIN_NS = 10e9;
/* From this share on the work's own pace alone tells the time left. */
static const double OWN_PACE = 0.2;
enum { WHAT_BYTES = 256, BAR_LEAST = 8, BAR_MOST = 30, COLUMNS_USUAL = 80 };

struct dlb_progress {
    FILE *out;
    struct dlb_progress_surroundings where;
    double started_ns, shown_ns;
    double done;
    char what[WHAT_BYTES];
    int drawn; /* columns of the bar that stands there now */
};

static double real_clock(void *context)
{
    (void)context;
    return dlb_clock_ns();
}

static bool is_terminal(FILE *out)
{
    int descriptor = fileno(out);
    return descriptor >= 0 && isatty(descriptor);
}

struct dlb_progress *dlb_progress_make(FILE *out, bool quiet, double expected_seconds)
{
    struct dlb_progress_surroundings where = {.quiet = quiet,
                                              .terminal = is_terminal(out),
                                              .expected_seconds = expected_seconds};
    return dlb_progress_make_in(out, &where);
}

struct dlb_progress *dlb_progress_make_in(FILE *out,
                                          const struct dlb_progress_surroundings *where)
{
    struct dlb_progress *progress = calloc(1, sizeof *progress);
    if (!progress) {
        return NULL;
    }
    progress->out = out;
    progress->where = *where;
    if (!progress->where.clock_ns) {
        progress->where.clock_ns = real_clock;
    }
    progress->started_ns = progress->where.clock_ns(progress->where.context);
    progress->shown_ns = progress->started_ns - (where->terminal ? DRAW_NS : 0);
    return progress;
}

static int columns_of(const struct dlb_progress *progress)
{
    struct winsize size;
    if (progress->where.columns > 0) {
        return progress->where.columns;
    }
    if (ioctl(fileno(progress->out), TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
        return size.ws_col;
    }
    return COLUMNS_USUAL;
}

/* NaN when there is nothing to tell it from. */
static double seconds_left(const struct dlb_progress *progress, double now_ns)
{
    double done = progress->done, expected = progress->where.expected_seconds;
    double paced = done > 0 ? (now_ns - progress->started_ns) * 1e-9 / done : NAN;
    double trust = fmin(1, done / OWN_PACE);
    if (!(expected > 0)) {
        return paced * (1 - done);
    }
    return (done > 0 ? trust * paced + (1 - trust) * expected : expected) * (1 - done);
}

static void format_left(char *text, size_t size, double seconds)
{
    if (!(seconds >= 0 && seconds < 1e8)) {
        snprintf(text, size, "--:--");
        return;
    }
    long whole = lround(seconds), hours = whole / 3600, minutes = whole / 60 % 60;
    if (hours > 0) {
        snprintf(text, size, "%ld:%02ld:%02ld", hours, minutes, whole % 60);
    } else {
        snprintf(text, size, "%ld:%02ld", minutes, whole % 60);
    }
}

/* Characters of UTF-8 text; each is taken to be one column wide. */
static int width_of(const char *text)
{
    int width = 0;
    for (; *text; text++) {
        width += (*text & 0xc0) != 0x80;
    }
    return width;
}

/* Copies whole characters, control characters as blanks, up to columns and size. */
static void copy_cut(char *to, size_t size, const char *from, int columns)
{
    size_t length = 0;
    while (*from && columns-- > 0) {
        size_t bytes = 1;
        while ((from[bytes] & 0xc0) == 0x80) {
            bytes++;
        }
        if (length + bytes >= size) {
            break;
        }
        memcpy(to + length, from, bytes);
        if ((unsigned char)to[length] < ' ' || to[length] == 0x7f) {
            to[length] = ' ';
        }
        length += bytes;
        from += bytes;
    }
    to[length] = 0;
}

static void erase(struct dlb_progress *progress)
{
    if (progress->drawn > 0) {
        fprintf(progress->out, "\r%*s\r", progress->drawn, "");
        fflush(progress->out);
        progress->drawn = 0;
    }
}

/* What does not fit goes: first the end of what, then all of it, then the bar. */
static void draw(struct dlb_progress *progress, double now_ns)
{
    char figures[64], left[32], bar[BAR_MOST + 4] = "", what[WHAT_BYTES] = "";
    char text[sizeof figures + sizeof bar + sizeof what];
    int room = columns_of(progress) - 1; /* the last column may wrap */
    format_left(left, sizeof left, seconds_left(progress, now_ns));
    snprintf(figures, sizeof figures, "%3d %% %s left", (int)(progress->done * 100),
             left);
    int spare = room - (int)strlen(figures);
    if (spare >= BAR_LEAST + 3) {
        int width = (int)dlb_max(BAR_LEAST, dlb_min(BAR_MOST, room / 4));
        int full = (int)(progress->done * width);
        bar[0] = '[';
        memset(bar + 1, '.', (size_t)width);
        memset(bar + 1, '#', (size_t)full);
        memcpy(bar + 1 + width, "] ", sizeof "] ");
        spare -= width + 3;
    }
    if (spare >= 4) {
        what[0] = ' ';
        what[1] = ' ';
        copy_cut(what + 2, sizeof what - 2, progress->what, spare - 2);
    }
    snprintf(text, sizeof text, "%s%s%s", bar, figures, what);
    char line[sizeof text];
    copy_cut(line, sizeof line, text, room);
    int width = width_of(line);
    fprintf(progress->out, "\r%s%*s", line, (int)dlb_max(0, progress->drawn - width), "");
    fflush(progress->out);
    progress->drawn = width;
}

void dlb_progress_update(struct dlb_progress *progress, double done, const char *what)
{
    if (!progress || progress->where.quiet) {
        return;
    }
    double now_ns = progress->where.clock_ns(progress->where.context);
    bool terminal = progress->where.terminal;
    progress->done = done > 0 ? fmin(done, 1) : 0;
    copy_cut(progress->what, sizeof progress->what, what, WHAT_BYTES);
    if (now_ns - progress->shown_ns < (terminal ? DRAW_NS : PLAIN_NS)) {
        return;
    }
    progress->shown_ns = now_ns;
    if (terminal) {
        draw(progress, now_ns);
    } else {
        char left[32];
        format_left(left, sizeof left, seconds_left(progress, now_ns));
        fprintf(progress->out, "%d %% done, %s left: %s\n", (int)(progress->done * 100),
                left, progress->what);
        fflush(progress->out);
    }
}

void dlb_progress_line(struct dlb_progress *progress, FILE *to, const char *format, ...)
{
    bool stands = progress && progress->drawn > 0;
    if (stands) {
        erase(progress);
    }
    va_list arguments;
    va_start(arguments, format);
    vfprintf(to, format, arguments);
    va_end(arguments);
    putc('\n', to);
    fflush(to);
    if (stands) {
        draw(progress, progress->where.clock_ns(progress->where.context));
    }
}

void dlb_progress_release(struct dlb_progress *progress)
{
    if (progress) {
        erase(progress);
    }
    free(progress);
}

const char *dlb_colour(FILE *out, enum dlb_colour colour)
{
    static const char *const escape[DLB_COLOURS] = {
        [DLB_COLOUR_RESET] = "\033[0m", [DLB_COLOUR_GOOD] = "\033[32m",
        [DLB_COLOUR_BAD] = "\033[31m",  [DLB_COLOUR_WARN] = "\033[33m",
        [DLB_COLOUR_DIM] = "\033[2m",   [DLB_COLOUR_BOLD] = "\033[1m"};
    const char *refused = getenv("NO_COLOR"), *kind = getenv("TERM");
    bool plain = (refused && *refused) || !kind || !*kind || !strcmp(kind, "dumb");
    return plain || !is_terminal(out) ? "" : escape[colour];
}

const char *dlb_tick(void)
{
    locale_t locale = newlocale(LC_CTYPE_MASK, "", (locale_t)0);
    bool utf8 = locale && !strcmp(nl_langinfo_l(CODESET, locale), "UTF-8");
    if (locale) {
        freelocale(locale);
    }
    return utf8 ? "\xe2\x9c\x93" : "ok";
}
