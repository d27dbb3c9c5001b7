/*
 * grid.h - the threads of a team as a grid over two axes of the work.
 */
#ifndef DLB_CORE_GRID_H
#define DLB_CORE_GRID_H

#include "core/base.h"

enum dlb_grid_split { DLB_GRID_ROWS = 1, DLB_GRID_COLUMNS, DLB_GRID_2D };

/* Each thread gets a share of the rows and a share of the columns.  balance is mean over
 * largest share, at most 1; rows is 0 where the threads form no such grid. */
struct dlb_grid {
    int rows, columns;
    double balance;
};

static inline struct dlb_grid dlb_grid_make(int split, int threads, int64_t rows,
                                            int64_t columns)
{
    struct dlb_grid best = {0};
    for (int c = 1; c <= threads; c++) {
        bool fits = split == DLB_GRID_ROWS      ? c == 1
                    : split == DLB_GRID_COLUMNS ? c == threads
                                                : c > 1 && c < threads;
        if (!fits || threads % c)
            continue;
        struct dlb_grid grid = {threads / c, c, 0};
        grid.balance =
            dlb_share_balance(rows, grid.rows) * dlb_share_balance(columns, grid.columns);
        if (grid.balance > best.balance)
            best = grid;
    }
    return best;
}

/* NULL, or why the threads should not be split so: another split is better. */
static inline const char *dlb_grid_refuse(int split, int threads, int64_t rows,
                                          int64_t columns)
{
    static const double BALANCE_LEAST = 0.8;
    struct dlb_grid grid = dlb_grid_make(split, threads, rows, columns);
    double best = 0;
    if (split < DLB_GRID_ROWS || split > DLB_GRID_2D)
        return "no such split";
    if (threads == 1 && split != DLB_GRID_ROWS)
        return "one thread has nothing to split";
    if (!grid.rows)
        return "threads do not form a grid";
    for (int other = DLB_GRID_ROWS; other <= DLB_GRID_2D; other++) {
        struct dlb_grid made = dlb_grid_make(other, threads, rows, columns);
        best = made.balance > best ? made.balance : best;
    }
    return grid.balance < BALANCE_LEAST && grid.balance < best ? "threads are unbalanced"
                                                               : NULL;
}

/* The share of worker rank: rows[0] … rows[1]-1, and columns likewise. */
static inline void dlb_grid_share(const struct dlb_grid *grid, int rank, int64_t rows_n,
                                  int64_t columns_n, int64_t *rows, int64_t *columns)
{
    dlb_share(rows_n, rank / grid->columns, grid->rows, &rows[0], &rows[1]);
    dlb_share(columns_n, rank % grid->columns, grid->columns, &columns[0], &columns[1]);
}

#endif
