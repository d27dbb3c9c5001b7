#include "measure/progress.h"

#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cmocka.h>

struct stage {
    FILE *out;
    char *text;
    size_t length;
    double now;
    struct dlb_progress *progress;
};

static double stage_clock(void *context)
{
    return ((struct stage *)context)->now;
}

static void stage_open(struct stage *stage, bool quiet, int columns, double expected)
{
    struct dlb_progress_surroundings where = {.quiet = quiet,
                                              .terminal = columns > 0,
                                              .columns = columns,
                                              .expected_seconds = expected,
                                              .clock_ns = stage_clock,
                                              .context = stage};
    *stage = (struct stage){0};
    stage->out = open_memstream(&stage->text, &stage->length);
    assert_non_null(stage->out);
    stage->progress = dlb_progress_make_in(stage->out, &where);
    assert_non_null(stage->progress);
}

static void stage_update(struct stage *stage, double seconds, double done,
                         const char *what)
{
    stage->now = seconds * 1e9;
    dlb_progress_update(stage->progress, done, what);
    fflush(stage->out);
}

static void stage_close(struct stage *stage)
{
    dlb_progress_release(stage->progress);
    fclose(stage->out);
    free(stage->text);
}

/* What a terminal of this text would show: the screen's lines, '|' between them. */
static void screen(const char *text, char *shown, size_t size)
{
    size_t start = 0, at = 0, end = 0;
    for (; *text; text++) {
        assert_true(end + 2 < size);
        if (*text == '\r') {
            at = start;
        } else if (*text == '\n') {
            while (end > start && shown[end - 1] == ' ') {
                end--;
            }
            shown[end++] = '|';
            start = at = end;
        } else {
            shown[at++] = *text;
            end = at > end ? at : end;
        }
    }
    while (end > start && shown[end - 1] == ' ') {
        end--;
    }
    shown[end] = 0;
}

static void assert_screen(struct stage *stage, const char *expected)
{
    char shown[4096];
    fflush(stage->out);
    screen(stage->text, shown, sizeof shown);
    assert_string_equal(shown, expected);
}

static void test_bar_shows_share_and_time(void **state)
{
    (void)state;
    struct stage stage;
    stage_open(&stage, false, 60, 0);
    stage_update(&stage, 0, 0, "first");
    assert_screen(&stage, "[..............]   0 % --:-- left  first");
    stage_update(&stage, 30, 0.25, "second thing");
    assert_screen(&stage, "[###...........]  25 % 1:30 left  second thing");
    stage_update(&stage, 3600, 0.5, "3rd");
    assert_screen(&stage, "[#######.......]  50 % 1:00:00 left  3rd");
    stage_update(&stage, 7200, 1.5, "end");
    assert_screen(&stage, "[##############] 100 % 0:00 left  end");
    stage_close(&stage);
}

static void test_expectation_gives_way(void **state)
{
    (void)state;
    struct stage stage;
    stage_open(&stage, false, 60, 100);
    stage_update(&stage, 0, 0, "x");
    assert_non_null(strstr(stage.text, " 1:40 left"));
    stage_update(&stage, 20, 0.1, "x"); /* half 200 s of the pace, half 100 s expected */
    assert_non_null(strstr(stage.text, " 2:15 left"));
    stage_update(&stage, 100, 0.5, "x");
    assert_screen(&stage, "[#######.......]  50 % 1:40 left  x");
    stage_close(&stage);
}

static void test_bar_is_drawn_seldom(void **state)
{
    (void)state;
    struct stage stage;
    int drawings = 0;
    stage_open(&stage, false, 60, 10);
    for (int i = 0; i <= 1000; i++) {
        stage_update(&stage, i * 1e-3, i * 1e-3, "fast");
    }
    for (const char *at = stage.text; (at = strchr(at, '\r')); at++) {
        drawings++;
    }
    assert_in_range(drawings, 9, 11);
    stage_close(&stage);
}

static void test_every_width(void **state)
{
    (void)state;
    for (int columns = 1; columns < 200; columns++) {
        struct stage stage;
        char shown[4096], what[600] = "";
        for (int i = 0; i < 99; i++) {
            strcat(what, i % 9 ? "é\n" : "\xe2\x9c\x93 ");
        }
        stage_open(&stage, false, columns, 0);
        stage_update(&stage, 5, 0.5, what);
        screen(stage.text, shown, sizeof shown);
        int width = 0;
        for (const char *at = shown; *at; at++) {
            width += (*at & 0xc0) != 0x80;
            assert_true(*at != '|');
        }
        assert_true(width < columns || columns == 1);
        assert_true(width == 0 || (shown[strlen(shown) - 1] & 0xc0) != 0xc0);
        stage_close(&stage);
    }
}

static void test_line_stands_above_bar(void **state)
{
    (void)state;
    struct stage stage;
    stage_open(&stage, false, 50, 0);
    dlb_progress_line(stage.progress, stage.out, "before %d", 1);
    stage_update(&stage, 10, 0.5, "a very long text that fills all of it");
    dlb_progress_line(stage.progress, stage.out, "row %d", 2);
    stage_update(&stage, 11, 0.5, "b");
    assert_screen(&stage, "before 1|row 2|[######......]  50 % 0:11 left  b");
    dlb_progress_release(stage.progress);
    stage.progress = NULL;
    assert_screen(&stage, "before 1|row 2|");
    stage_close(&stage);
}

static void test_line_to_another_stream(void **state)
{
    (void)state;
    struct stage stage;
    char *text;
    size_t length;
    FILE *other = open_memstream(&text, &length);
    stage_open(&stage, false, 50, 0);
    stage_update(&stage, 10, 0.5, "b");
    dlb_progress_line(stage.progress, other, "%s", "row");
    assert_string_equal(text, "row\n");
    assert_screen(&stage, "[######......]  50 % 0:10 left  b");
    stage_close(&stage);
    fclose(other);
    free(text);
}

static void test_plain_lines(void **state)
{
    (void)state;
    struct stage stage;
    stage_open(&stage, false, 0, 0);
    for (int i = 0; i <= 250; i++) {
        stage_update(&stage, i * 0.1, i / 1000.0, "case");
    }
    assert_string_equal(stage.text,
                        "10 % done, 1:30 left: case\n20 % done, 1:20 left: case\n");
    dlb_progress_line(stage.progress, stage.out, "row");
    dlb_progress_release(stage.progress);
    stage.progress = NULL;
    fflush(stage.out);
    assert_null(strpbrk(stage.text, "\r\033"));
    stage_close(&stage);
}

static void test_quiet(void **state)
{
    (void)state;
    for (int columns = 0; columns <= 80; columns += 80) {
        struct stage stage;
        stage_open(&stage, true, columns, 10);
        for (int i = 0; i < 100; i++) {
            stage_update(&stage, i, i / 100.0, "x");
        }
        assert_int_equal(stage.length, 0);
        dlb_progress_line(stage.progress, stage.out, "row");
        assert_string_equal(stage.text, "row\n");
        stage_close(&stage);
    }
    FILE *out = fopen("/dev/null", "w");
    dlb_progress_update(NULL, 0.5, "x");
    dlb_progress_line(NULL, out, "x");
    dlb_progress_release(NULL);
    fclose(out);
}

/* The slave side of a new terminal; the master's descriptor in *master. */
static FILE *terminal_open(int *master)
{
    *master = posix_openpt(O_RDWR | O_NOCTTY);
    if (*master < 0 || grantpt(*master) || unlockpt(*master)) {
        skip();
    }
    int slave = open(ptsname(*master), O_RDWR | O_NOCTTY);
    FILE *out = slave < 0 ? NULL : fdopen(slave, "w");
    assert_non_null(out);
    return out;
}

static void test_real_terminal(void **state)
{
    (void)state;
    int master;
    FILE *out = terminal_open(&master);
    struct winsize size = {.ws_row = 25, .ws_col = 40};
    char text[256] = "";
    assert_int_equal(ioctl(master, TIOCSWINSZ, &size), 0);
    struct dlb_progress *progress = dlb_progress_make(out, false, 100);
    dlb_progress_update(progress, 0, "a text that is too long for forty columns");
    assert_true(read(master, text, sizeof text - 1) > 0);
    assert_int_equal(text[0], '\r');
    assert_int_equal(strlen(text + 1), 39);
    dlb_progress_release(progress);
    fclose(out);
    close(master);
}

static void test_colour(void **state)
{
    (void)state;
    int master;
    FILE *out = terminal_open(&master), *file = tmpfile();
    unsetenv("NO_COLOR");
    setenv("TERM", "xterm", 1);
    assert_string_equal(dlb_colour(out, DLB_COLOUR_RESET), "\033[0m");
    for (int i = 0; i < DLB_COLOURS; i++) {
        assert_int_equal(dlb_colour(out, i)[0], '\033');
        assert_string_equal(dlb_colour(file, i), "");
    }
    setenv("NO_COLOR", "", 1);
    assert_string_not_equal(dlb_colour(out, DLB_COLOUR_BAD), "");
    setenv("NO_COLOR", "1", 1);
    assert_string_equal(dlb_colour(out, DLB_COLOUR_BAD), "");
    unsetenv("NO_COLOR");
    setenv("TERM", "dumb", 1);
    assert_string_equal(dlb_colour(out, DLB_COLOUR_BAD), "");
    unsetenv("TERM");
    assert_string_equal(dlb_colour(out, DLB_COLOUR_BAD), "");
    fclose(file);
    fclose(out);
    close(master);
}

static void test_tick(void **state)
{
    (void)state;
    setenv("LC_ALL", "C", 1);
    assert_string_equal(dlb_tick(), "ok");
    setenv("LC_ALL", "no_SUCH.locale", 1);
    assert_string_equal(dlb_tick(), "ok");
    setenv("LC_ALL", "C.UTF-8", 1);
    assert_string_equal(dlb_tick(), "\xe2\x9c\x93");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bar_shows_share_and_time),
        cmocka_unit_test(test_expectation_gives_way),
        cmocka_unit_test(test_bar_is_drawn_seldom),
        cmocka_unit_test(test_every_width),
        cmocka_unit_test(test_line_stands_above_bar),
        cmocka_unit_test(test_line_to_another_stream),
        cmocka_unit_test(test_plain_lines),
        cmocka_unit_test(test_quiet),
        cmocka_unit_test(test_real_terminal),
        cmocka_unit_test(test_colour),
        cmocka_unit_test(test_tick),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
