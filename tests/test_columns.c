#include "record/columns.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void names_are_sound(void **state)
{
    (void)state;
    for (int t = 0; t < DLB_TABLES; t++)
        for (int i = 0; i < dlb_tables[t].columns_n; i++) {
            const struct dlb_column_def *column = &dlb_tables[t].columns[i];
            assert_true(*column->name && *column->meaning);
            assert_int_equal(
                strspn(column->name, "abcdefghijklmnopqrstuvwxyz0123456789_"),
                strlen(column->name));
            for (int j = 0; j < i; j++)
                assert_string_not_equal(column->name, dlb_tables[t].columns[j].name);
        }
    assert_string_equal(dlb_columns[DLB_COL_SCHEMA_VERSION].name, "schema_version");
    assert_int_equal(DLB_COL_SCHEMA_VERSION, 0);
    assert_string_equal(dlb_columns[DLB_COL_VERIFY].name, "verify");
}

static void cells_are_set_and_emptied(void **state)
{
    (void)state;
    struct dlb_row row = {0};
    dlb_row_release(&row);
    assert_string_equal(dlb_row_get_text(&row, DLB_COL_OP), "");
    assert_int_equal(dlb_row_get_int(&row, DLB_COL_THREADS), 0);
    assert_true(isnan(dlb_row_get_real(&row, DLB_COL_FLOPS)));

    dlb_row_text(&row, DLB_COL_OP, "conv");
    dlb_row_text(&row, DLB_COL_OP, dlb_row_get_text(&row, DLB_COL_OP));
    dlb_row_int(&row, DLB_COL_THREADS, 0);
    dlb_row_real(&row, DLB_COL_FLOPS, 2.5);
    struct dlb_row copy = {0};
    assert_int_equal(dlb_row_copy(&copy, &row, NULL), DLB_OK);
    dlb_row_text(&row, DLB_COL_OP, "");
    dlb_row_real(&row, DLB_COL_FLOPS, INFINITY);
    assert_false(row.cell[DLB_COL_OP].set);
    assert_false(row.cell[DLB_COL_FLOPS].set);
    assert_true(row.cell[DLB_COL_THREADS].set);
    dlb_row_text(&row, DLB_COL_OP, NULL);
    dlb_row_release(&row);
    assert_string_equal(dlb_row_get_text(&copy, DLB_COL_OP), "conv");
    assert_true(dlb_row_get_real(&copy, DLB_COL_FLOPS) == 2.5);
    dlb_row_release(&copy);
}

static void numbers_come_back(void **state)
{
    (void)state;
    const double reals[] = {0,       1.0000000049, 9.9999999951, -1.5e-300,      1e308,
                            1.0 / 3, 231211008e3,  5e-324,       123456.7890123, -0.05};
    const struct dlb_column_def real = {"time_ns", DLB_CELL_REAL, ""};
    const struct dlb_column_def integer = {"n", DLB_CELL_INT, ""};
    char text[DLB_NUMBER_TEXT];
    struct dlb_cell back;
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++) {
        struct dlb_cell cell = {.set = true, .number = reals[i]};
        assert_int_equal(dlb_cell_parse("f", 1, &real,
                                        dlb_cell_format(DLB_CELL_REAL, &cell, text),
                                        &back, NULL),
                         DLB_OK);
        assert_true(back.set);
        assert_true(fabs(back.number - reals[i]) <= 1e-9 * fabs(reals[i]));
    }
    const int64_t integers[] = {0, -1, INT64_MAX, INT64_MIN, (1LL << 53) + 1};
    for (size_t i = 0; i < sizeof integers / sizeof *integers; i++) {
        struct dlb_cell cell = {.set = true, .integer = integers[i]};
        assert_int_equal(dlb_cell_parse("f", 1, &integer,
                                        dlb_cell_format(DLB_CELL_INT, &cell, text), &back,
                                        NULL),
                         DLB_OK);
        assert_true(back.integer == integers[i]);
    }
    assert_int_equal(dlb_cell_parse("f", 1, &real, "", &back, NULL), DLB_OK);
    assert_false(back.set);
    assert_string_equal(dlb_cell_format(DLB_CELL_REAL, &back, text), "");
}

static void wrong_types_are_named(void **state)
{
    (void)state;
    static const struct {
        enum dlb_cell_type type;
        const char *text;
    } wrong[] = {
        {DLB_CELL_INT, "1.5"},  {DLB_CELL_INT, "x"},
        {DLB_CELL_INT, "1 "},   {DLB_CELL_INT, "9223372036854775808"},
        {DLB_CELL_REAL, "nan"}, {DLB_CELL_REAL, "0x10"},
        {DLB_CELL_REAL, "1,5"}, {DLB_CELL_REAL, "1e999"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const struct dlb_column_def column = {"the_column", wrong[i].type, ""};
        struct dlb_cell cell;
        struct dlb_error error = {0};
        assert_int_equal(
            dlb_cell_parse("a.csv", 17, &column, wrong[i].text, &cell, &error),
            DLB_INVALID);
        assert_false(cell.set);
        assert_non_null(strstr(error.text, "a.csv, line 17"));
        assert_non_null(strstr(error.text, "\"the_column\""));
        assert_non_null(strstr(error.text, wrong[i].text));
    }
}

static char *printed(bool markdown)
{
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    dlb_columns_print(out, markdown);
    fclose(out);
    return text;
}

static void every_column_is_printed(void **state)
{
    (void)state;
    for (int markdown = 0; markdown < 2; markdown++) {
        char *text = printed(markdown);
        int lines = 0, columns = 0, tables = markdown ? DLB_RUN_TABLES : DLB_TABLES;
        for (int t = 0; t < tables; t++) {
            assert_non_null(strstr(text, dlb_tables[t].file));
            for (int i = 0; i < dlb_tables[t].columns_n; i++, columns++)
                assert_non_null(strstr(text, dlb_tables[t].columns[i].meaning));
        }
        for (const char *at = text; *at; at++)
            lines += *at == '\n';
        /* heading, space between; markdown: blank line, head and rule of the table */
        assert_int_equal(lines, columns + tables * (markdown ? 4 : 1) + tables - 1);
        if (markdown)
            assert_non_null(strstr(text, "\n| schema_version | int | version of"));
        else
            assert_non_null(strstr(text, "\n  op                   text  operator\n"));
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_sound),
        cmocka_unit_test(cells_are_set_and_emptied),
        cmocka_unit_test(numbers_come_back),
        cmocka_unit_test(wrong_types_are_named),
        cmocka_unit_test(every_column_is_printed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
