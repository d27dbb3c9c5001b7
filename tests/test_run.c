#include "record/csv.h"
#include "record/rows.h"
#include "record/run.h"

#include <fcntl.h>
#include <ftw.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char base[64];

static int remove_entry(const char *path, const struct stat *info, int type,
                        struct FTW *place)
{
    (void)info, (void)type, (void)place;
    return remove(path);
}

static int make_base(void **state)
{
    (void)state;
    strcpy(base, "/tmp/dlb_test_run_XXXXXX");
    return !mkdtemp(base);
}

static int remove_base(void **state)
{
    (void)state;
    char disk[sizeof base + 8]; /* mounted when its test has failed half way */
    snprintf(disk, sizeof disk, "%s/disk", base);
    umount2(disk, MNT_DETACH);
    return nftw(base, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

/* Points into one of four buffers. */
static const char *in_base(const char *name)
{
    static char path[4][256];
    static int next;
    next = (next + 1) % 4;
    snprintf(path[next], sizeof path[next], "%s/%s", base, name);
    return path[next];
}

static void put(const char *file, const char *mode, const char *text)
{
    FILE *stream = fopen(file, mode);
    assert_non_null(stream);
    assert_true(fputs(text, stream) >= 0);
    assert_int_equal(fclose(stream), 0);
}

static char *get(const char *file)
{
    FILE *stream = fopen(file, "rb");
    assert_non_null(stream);
    char *text = calloc(1 << 20, 1);
    assert_true(fread(text, 1, (1 << 20) - 1, stream) < (1 << 20) - 1);
    fclose(stream);
    return text;
}

static void fill_row(struct dlb_row *row, int n)
{
    char shape[64];
    snprintf(shape, sizeof shape, "mb%d", n);
    dlb_row_text(row, DLB_COL_STATUS, "ok");
    dlb_row_text(row, DLB_COL_OP, "conv");
    dlb_row_text(row, DLB_COL_PASS, "fwd");
    dlb_row_text(row, DLB_COL_DTYPE, "f32");
    dlb_row_text(row, DLB_COL_SHAPE, shape);
    dlb_row_text(row, DLB_COL_IMPL, "native");
    dlb_row_text(row, DLB_COL_THREAD_SET, "cores");
    dlb_row_int(row, DLB_COL_THREADS, 2);
    dlb_row_text(row, DLB_COL_CACHE_STATE, "hot");
    dlb_row_real(row, DLB_COL_TIME_MEDIAN_NS, 1000.0 / 3 * n);
}

static enum dlb_status append(struct dlb_run *run, int n, struct dlb_error *error)
{
    struct dlb_row row = {0};
    struct dlb_sample sample[3] = {{n, false}, {n + 0.5, true}, {NAN, false}};
    fill_row(&row, n);
    enum dlb_status status =
        dlb_run_samples(run, dlb_run_next_seq(run), sample, 3, error);
    if (!status)
        status = dlb_run_append(run, &row, error);
    dlb_row_release(&row);
    return status;
}

static struct dlb_run *create(const char *name)
{
    struct dlb_run *run = NULL;
    struct dlb_error error = {0};
    if (dlb_run_create(NULL, in_base(name), "test", &run, &error))
        fail_msg("%s", error.text);
    return run;
}

static struct dlb_run *resume(const char *name)
{
    struct dlb_run *run = NULL;
    struct dlb_error error = {0};
    if (dlb_run_resume(in_base(name), &run, &error))
        fail_msg("%s", error.text);
    return run;
}

static void resume_is_refused(const char *name, enum dlb_status status, const char *why)
{
    struct dlb_run *run = NULL;
    struct dlb_error error = {0};
    assert_int_equal(dlb_run_resume(in_base(name), &run, &error), status);
    assert_null(run);
    if (!strstr(error.text, why))
        fail_msg("\"%s\" is not in: %s", why, error.text);
}

static const char *const awkward = "=1+1, \"größe\"\r\nline 2 ";

static void rows_come_back(void **state)
{
    (void)state;
    struct dlb_run *run = create("back");
    struct dlb_row row = {0};
    struct dlb_rows rows;
    struct dlb_error error = {0};
    fill_row(&row, 1);
    dlb_row_text(&row, DLB_COL_STATUS_REASON, awkward);
    dlb_row_text(&row, DLB_COL_ALGORITHM, "'@sum");
    dlb_row_real(&row, DLB_COL_NOISE_FLOOR, NAN);
    dlb_row_int(&row, DLB_COL_MIGRATIONS, -1);
    assert_int_equal(dlb_run_append(run, &row, &error), DLB_OK);
    assert_int_equal(dlb_rows_read(in_base("back"), &rows, &error), DLB_OK);
    assert_int_equal(rows.rows_n, 1);
    assert_false(rows.torn);
    for (int i = 0; i < DLB_COLUMNS; i++) {
        const struct dlb_cell *a = &row.cell[i], *b = &rows.row[0].cell[i];
        assert_int_equal(a->set, b->set);
        if (!a->set)
            continue;
        if (dlb_columns[i].type == DLB_CELL_TEXT)
            assert_string_equal(a->text, b->text);
        else if (dlb_columns[i].type == DLB_CELL_INT)
            assert_true(a->integer == b->integer);
        else
            assert_true(fabs(a->number - b->number) <= 1e-9 * fabs(a->number));
    }
    assert_int_equal(dlb_row_get_int(&row, DLB_COL_ROW_SEQ), 1);
    assert_int_equal(dlb_row_get_int(&row, DLB_COL_SCHEMA_VERSION), DLB_SCHEMA_VERSION);
    assert_string_equal(dlb_row_get_text(&row, DLB_COL_RUN_ID), dlb_run_id(run));
    assert_int_equal(strlen(dlb_row_get_text(&row, DLB_COL_TIMESTAMP_UTC)), 20);
    dlb_rows_release(&rows);
    dlb_row_release(&row);
    dlb_run_close(run);
}

static void keys_are_stable(void **state)
{
    (void)state;
    struct dlb_row a = {0}, b = {0};
    fill_row(&a, 1);
    fill_row(&b, 1);
    dlb_row_text(&b, DLB_COL_RUN_ID, "another");
    dlb_row_real(&b, DLB_COL_TIME_MEDIAN_NS, 7);
    dlb_run_key(&a);
    dlb_run_key(&b);
    /* The key is in files: it must never change. */
    assert_string_equal(dlb_row_get_text(&a, DLB_COL_CASE_ID), "7719e195dd9b75e9");
    assert_string_equal(dlb_row_get_text(&b, DLB_COL_CASE_ID),
                        dlb_row_get_text(&a, DLB_COL_CASE_ID));
    static const enum dlb_column parts[] = {
        DLB_COL_OP,    DLB_COL_PASS, DLB_COL_DTYPE,      DLB_COL_ACCURACY,
        DLB_COL_SHAPE, DLB_COL_IMPL, DLB_COL_THREAD_SET, DLB_COL_CACHE_STATE};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        dlb_row_text(&b, parts[i], "other");
        dlb_run_key(&b);
        assert_string_not_equal(dlb_row_get_text(&b, DLB_COL_CASE_ID),
                                dlb_row_get_text(&a, DLB_COL_CASE_ID));
        dlb_row_text(&b, parts[i], dlb_row_get_text(&a, parts[i]));
    }
    dlb_row_int(&b, DLB_COL_THREADS, 3);
    dlb_run_key(&b);
    assert_string_not_equal(dlb_row_get_text(&b, DLB_COL_CASE_ID),
                            dlb_row_get_text(&a, DLB_COL_CASE_ID));
    dlb_row_release(&a);
    dlb_row_release(&b);
}

static void folders_are_named_and_numbered(void **state)
{
    (void)state;
    struct dlb_run *run[3];
    struct dlb_error error = {0};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(
            dlb_run_create(in_base("deep/results"), NULL, "a/b c", &run[i], &error),
            DLB_OK);
        const char *name = strrchr(dlb_run_path(run[i]), '/') + 1;
        assert_string_equal(name, dlb_run_id(run[i]));
        assert_int_equal(name[8], 'T');
        assert_int_equal(name[15], 'Z');
        assert_non_null(strstr(name, "-a-b-c"));
        for (int j = 0; j < i; j++)
            assert_string_not_equal(dlb_run_id(run[i]), dlb_run_id(run[j]));
    }
    for (int i = 0; i < 3; i++)
        dlb_run_close(run[i]);
    dlb_run_close(NULL);
}

static void resuming_goes_on(void **state)
{
    (void)state;
    struct dlb_run *run = create("resume");
    assert_int_equal(append(run, 1, NULL), DLB_OK);
    assert_int_equal(append(run, 2, NULL), DLB_OK);
    char id[200];
    snprintf(id, sizeof id, "%s", dlb_run_id(run));
    dlb_run_close(run);

    run = resume("resume");
    assert_string_equal(dlb_run_id(run), id);
    assert_int_equal(dlb_run_next_seq(run), 3);
    struct dlb_row row = {0};
    fill_row(&row, 2);
    dlb_run_key(&row);
    const struct dlb_row *found =
        dlb_run_find(run, dlb_row_get_text(&row, DLB_COL_CASE_ID));
    assert_non_null(found);
    assert_int_equal(dlb_row_get_int(found, DLB_COL_ROW_SEQ), 2);
    fill_row(&row, 3);
    dlb_run_key(&row);
    assert_null(dlb_run_find(run, dlb_row_get_text(&row, DLB_COL_CASE_ID)));
    assert_null(dlb_run_find(run, ""));
    assert_int_equal(append(run, 3, NULL), DLB_OK);
    assert_non_null(dlb_run_find(run, dlb_row_get_text(&row, DLB_COL_CASE_ID)));
    assert_int_equal(append(run, 3, NULL), DLB_OK);
    assert_int_equal(
        dlb_row_get_int(dlb_run_find(run, dlb_row_get_text(&row, DLB_COL_CASE_ID)),
                        DLB_COL_ROW_SEQ),
        4);
    dlb_row_release(&row);
    dlb_run_close(run);
}

static void torn_ends_are_dropped(void **state)
{
    (void)state;
    struct dlb_run *run = create("torn");
    struct dlb_trial trial = {.op = "conv",
                              .shape = "mb1",
                              .candidate = "direct/mr14",
                              .outcome = "refused",
                              .reason = awkward,
                              .best_ns = NAN};
    assert_int_equal(append(run, 1, NULL), DLB_OK);
    assert_int_equal(dlb_run_trial(run, &trial, NULL), DLB_OK);
    dlb_run_close(run);
    char *results = get(in_base("torn/results.csv"));
    char *trials = get(in_base("torn/trials.csv"));
    char *samples = get(in_base("torn/samples.csv"));
    const char *tails[] = {"1,some", "1,\"open, quote\nline", "1,\"open\n", "1,x\r"};
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++) {
        put(in_base("torn/results.csv"), "a", tails[i]);
        put(in_base("torn/trials.csv"), "a", tails[i]);
        /* whole samples of row 2, which was never written, and half a one */
        put(in_base("torn/samples.csv"), "a", "r,2,1,5,0\nr,2,2,6,0\nr,2,3");
        struct dlb_rows rows;
        assert_int_equal(dlb_rows_read(in_base("torn"), &rows, NULL), DLB_OK);
        assert_int_equal(rows.rows_n, 1);
        assert_true(rows.torn);
        dlb_rows_release(&rows);

        dlb_run_close(resume("torn"));
        const char *name[] = {"torn/results.csv", "torn/trials.csv", "torn/samples.csv"};
        const char *before[] = {results, trials, samples};
        for (int j = 0; j < 3; j++) {
            char *after = get(in_base(name[j]));
            assert_string_equal(after, before[j]);
            free(after);
        }
    }

    /* A missing file and a torn header are written anew. */
    assert_int_equal(unlink(in_base("torn/samples.csv")), 0);
    put(in_base("torn/trials.csv"), "w", "schema_ver");
    dlb_run_close(resume("torn"));
    char *after = get(in_base("torn/samples.csv"));
    assert_string_equal(after, "run_id,row_seq,sample_idx,ns,contaminated\n");
    free(after);
    after = get(in_base("torn/trials.csv"));
    assert_true(!strncmp(after, trials, strlen(after)));
    assert_non_null(strchr(after, '\n'));
    free(after);
    free(results);
    free(trials);
    free(samples);
}

/* What cannot be continued is refused in one sentence, and left as it was. */
static void foreign_files_are_refused(void **state)
{
    (void)state;
    struct dlb_run *run = create("foreign");
    assert_int_equal(append(run, 1, NULL), DLB_OK);
    dlb_run_close(run);
    const char *file = "foreign/results.csv";
    char *good = get(in_base(file));
    char *changed = calloc(2 << 20, 1);

    char *newline = strchr(good, '\n');
    sprintf(changed, "%.*s,extra\n%.*s,1\n", (int)(newline - good), good,
            (int)strlen(newline + 1) - 1, newline + 1);
    put(in_base(file), "w", changed);
    resume_is_refused("foreign", DLB_INVALID, "\"extra\"");

    strcpy(changed, good);
    changed[newline - good + 1] = '2';
    put(in_base(file), "w", changed);
    resume_is_refused("foreign", DLB_INVALID, "schema_version 2");

    strcpy(changed, good);
    memcpy(changed, "Schema", 6);
    put(in_base(file), "w", changed);
    resume_is_refused("foreign", DLB_INVALID, "schema_version");

    sprintf(changed, "%.*s,1,2\n", (int)strlen(good) - 1, good);
    put(in_base(file), "w", changed);
    resume_is_refused("foreign", DLB_INVALID, "line 2");

    put(in_base(file), "w", "my shopping list");
    resume_is_refused("foreign", DLB_INVALID, "header");
    char *after = get(in_base(file));
    assert_string_equal(after, "my shopping list");
    free(after);

    put(in_base(file), "w", good);
    put(in_base("foreign/samples.csv"), "a", "r,x,1,5,0\nr,2");
    resume_is_refused("foreign", DLB_INVALID, "\"row_seq\"");
    after = get(in_base("foreign/samples.csv"));
    assert_non_null(strstr(after, "r,x,1,5,0\nr,2"));
    free(after);

    free(changed);
    free(good);
    resume_is_refused("nowhere", DLB_IO, "nowhere");
    mkdir(in_base("empty"), 0777);
    resume_is_refused("empty", DLB_INVALID, "results.csv");
    resume_is_refused("foreign/results.csv", DLB_INVALID, "folder");
}

static void one_writer_at_a_time(void **state)
{
    (void)state;
    struct dlb_run *run = create("locked");
    resume_is_refused("locked", DLB_INVALID, "another process");
    dlb_run_close(run);
    dlb_run_close(resume("locked"));
}

static void create_is_refused(const char *parent, const char *path,
                              enum dlb_status status, const char *why)
{
    struct dlb_run *run = NULL;
    struct dlb_error error = {0};
    assert_int_equal(dlb_run_create(parent, path, "x", &run, &error), status);
    assert_null(run);
    if (!strstr(error.text, why))
        fail_msg("\"%s\" is not in: %s", why, error.text);
}

static void bad_places_are_refused(void **state)
{
    (void)state;
    put(in_base("file"), "w", "x");
    create_is_refused(NULL, in_base("file"), DLB_IO, "/file");
    create_is_refused(in_base("file"), NULL, DLB_IO, "/file");
    create_is_refused(NULL, in_base("file/below"), DLB_IO, "/file");
    create_is_refused(NULL, "/proc/dlbench", DLB_IO, "/proc/dlbench");
    create_is_refused("/proc/dlbench", NULL, DLB_IO, "/proc/dlbench");
    dlb_run_close(create("taken"));
    create_is_refused(NULL, in_base("taken"), DLB_INVALID, "holds a run already");

    unlink(in_base("taken/results.csv"));
    assert_int_equal(symlink("/dev/full", in_base("taken/results.csv")), 0);
    resume_is_refused("taken", DLB_IO, "taken/results.csv");
    unlink(in_base("taken/results.csv"));
    assert_int_equal(mkfifo(in_base("taken/results.csv"), 0666), 0);
    resume_is_refused("taken", DLB_IO, "taken/results.csv");

    if (geteuid()) {
        assert_int_equal(mkdir(in_base("closed"), 0555), 0);
        create_is_refused(NULL, in_base("closed"), DLB_IO, "Permission denied");
    }
}

/* A row that does not fit is no row at all; what was there stays, and with room again
 * the run goes on. */
static void appends_until_full(struct dlb_run *run, int *rows, struct dlb_error *error)
{
    enum dlb_status status = DLB_OK;
    for (*rows = 0; !status && *rows < 100000; ++*rows)
        status = append(run, *rows, error);
    --*rows;
    assert_int_equal(status, DLB_IO);
}

static void check_rows(const char *path, int rows_n)
{
    struct dlb_rows rows;
    struct dlb_error error = {0};
    if (dlb_rows_read(path, &rows, &error))
        fail_msg("%s", error.text);
    assert_int_equal(rows.rows_n, rows_n);
    assert_false(rows.torn);
    for (int i = 0; i < rows_n; i++)
        assert_int_equal(dlb_row_get_int(&rows.row[i], DLB_COL_ROW_SEQ), i + 1);
    dlb_rows_release(&rows);
}

static void a_file_limit_loses_nothing(void **state)
{
    (void)state;
    struct rlimit limit, small;
    struct dlb_error error = {0};
    int rows;
    struct dlb_run *run = create("limit");
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    small = limit;
    small.rlim_cur = 10001;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    appends_until_full(run, &rows, &error);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    signal(SIGXFSZ, SIG_DFL);
    assert_true(rows > 1);
    assert_non_null(strstr(error.text, ".csv"));
    assert_non_null(strstr(error.text, "File too large"));
    check_rows(in_base("limit"), rows);
    assert_int_equal(append(run, 1, &error), DLB_OK);
    check_rows(in_base("limit"), rows + 1);
    dlb_run_close(run);
}

static void a_full_disk_loses_nothing(void **state)
{
    (void)state;
    char disk[256];
    snprintf(disk, sizeof disk, "%s", in_base("disk"));
    assert_int_equal(mkdir(disk, 0777), 0);
    if (mount("tmpfs", disk, "tmpfs", 0, "size=64k"))
        skip();
    struct dlb_error error = {0};
    int rows;
    struct dlb_run *run = create("disk/run");
    appends_until_full(run, &rows, &error);
    assert_non_null(strstr(error.text, "No space left on device"));
    check_rows(in_base("disk/run"), rows);
    dlb_run_close(run);
    run = NULL;
    create_is_refused(NULL, in_base("disk/second"), DLB_IO, "No space left on device");
    assert_int_equal(umount(disk), 0);
}

/* A writer is killed at any moment: every row that it had reported is found again. */
static void a_killed_writer_loses_no_row(void **state)
{
    (void)state;
    enum { KILLS = 25 };
    dlb_run_close(create("killed"));
    int reported = 0;
    for (int kill_n = 0; kill_n < KILLS; kill_n++) {
        int ends[2];
        assert_int_equal(pipe(ends), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (!child) {
            struct dlb_run *run;
            if (dlb_run_resume(in_base("killed"), &run, NULL))
                _exit(1);
            for (;;)
                if (append(run, (int)dlb_run_next_seq(run), NULL) ||
                    write(ends[1], "", 1) != 1)
                    _exit(1);
        }
        close(ends[1]);
        char byte;
        for (int wanted = 1 + kill_n % 7; wanted && read(ends[0], &byte, 1) == 1;
             wanted--)
            reported++;
        usleep((useconds_t)(kill_n * 37));
        kill(child, SIGKILL);
        while (read(ends[0], &byte, 1) == 1)
            reported++;
        close(ends[0]);
        int how;
        assert_int_equal(waitpid(child, &how, 0), child);
        assert_true(WIFSIGNALED(how));

        struct dlb_run *run = resume("killed");
        int64_t written = dlb_run_next_seq(run) - 1;
        assert_true(written >= reported && written <= reported + 1);
        reported = (int)written;
        for (int n = 1; n <= written; n++) {
            struct dlb_row row = {0};
            fill_row(&row, n);
            dlb_run_key(&row);
            assert_non_null(dlb_run_find(run, dlb_row_get_text(&row, DLB_COL_CASE_ID)));
            dlb_row_release(&row);
        }
        dlb_run_close(run);
        check_rows(in_base("killed"), reported);
    }
}

static void reading_is_strict_but_forward(void **state)
{
    (void)state;
    struct dlb_rows rows;
    struct dlb_error error = {0};
    const char *file = in_base("some.csv");
    const char *head = "future,impl,schema_version,run_id,case_id,row_seq,status,op,pass,"
                       "dtype,shape,thread_set,threads,cache_state,time_median_ns\n";
    char text[2048];
    snprintf(text, sizeof text,
             "%s?,native,2,r,c,1,ok,conv,fwd,f32,mb1,cores,2,hot,1e3\n", head);
    put(file, "w", text);
    assert_int_equal(dlb_rows_read(file, &rows, &error), DLB_OK);
    assert_int_equal(rows.rows_n, 1);
    assert_string_equal(dlb_row_get_text(&rows.row[0], DLB_COL_IMPL), "native");
    assert_true(dlb_row_get_real(&rows.row[0], DLB_COL_TIME_MEDIAN_NS) == 1000);
    assert_false(rows.row[0].cell[DLB_COL_SUITE].set);
    dlb_rows_release(&rows);

    static const struct {
        const char *record, *why;
    } bad[] = {
        {"?,native,2,r,c,1,ok,conv,fwd,f32,mb1,cores,two,hot,1e3\n", "\"threads\""},
        {"?,native,2,r,c,1,ok,conv,fwd,f32,mb1,cores,2,hot,fast\n", "\"time_median_ns\""},
        {"?,native,2,r,c,1,ok,conv,fwd,f32,mb1,cores,2,hot\n", "14 cells"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(text, sizeof text, "%s%s", head, bad[i].record);
        put(file, "w", text);
        assert_int_equal(dlb_rows_read(file, &rows, &error), DLB_INVALID);
        assert_non_null(strstr(error.text, "line 2"));
        assert_non_null(strstr(error.text, bad[i].why));
        dlb_rows_release(&rows);
    }
    put(file, "w", "schema_version,run_id,op\n1,r,conv\n");
    assert_int_equal(dlb_rows_read(file, &rows, &error), DLB_INVALID);
    assert_non_null(strstr(error.text, "columns case_id, row_seq, status,"));
    put(file, "w", "op,op\n");
    assert_int_equal(dlb_rows_read(file, &rows, &error), DLB_INVALID);
    assert_non_null(strstr(error.text, "twice"));
    put(file, "w", "");
    assert_int_equal(dlb_rows_read(file, &rows, &error), DLB_INVALID);
    assert_non_null(strstr(error.text, "no header"));
    assert_int_equal(dlb_rows_read("/nowhere", &rows, &error), DLB_IO);
    dlb_rows_release(&rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_come_back),
        cmocka_unit_test(keys_are_stable),
        cmocka_unit_test(folders_are_named_and_numbered),
        cmocka_unit_test(resuming_goes_on),
        cmocka_unit_test(torn_ends_are_dropped),
        cmocka_unit_test(foreign_files_are_refused),
        cmocka_unit_test(one_writer_at_a_time),
        cmocka_unit_test(bad_places_are_refused),
        cmocka_unit_test(a_file_limit_loses_nothing),
        cmocka_unit_test(a_full_disk_loses_nothing),
        cmocka_unit_test(a_killed_writer_loses_no_row),
        cmocka_unit_test(reading_is_strict_but_forward),
    };
    return cmocka_run_group_tests(tests, make_base, remove_base);
}
