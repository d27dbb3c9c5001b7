/*
 * columns.h - the columns of results.csv, trials.csv and samples.csv, of the tuning
 * cache, of a study of the tuner and of the claims: tables that write and read rows, that "dlbench list columns" prints, and README's
 * tables are made from.
 *
 * Columns are only ever appended; names are lower case with unit suffixes; an empty cell
 * means "not measured".
 */
#ifndef DLB_RECORD_COLUMNS_H
#define DLB_RECORD_COLUMNS_H

#include "core/base.h"

#include <stdio.h>

enum dlb_cell_type { DLB_CELL_TEXT, DLB_CELL_INT, DLB_CELL_REAL };

/* The X-macro table (columns.def.h) holds X(ID, name, type, meaning) per column, in file
 * order: DLB_COL_SCHEMA_VERSION, DLB_COL_RUN_ID, DLB_COL_CASE_ID, … as the enumeration
 * below. */
#define DLB_COLUMN_ENUM(id, name, type, meaning) DLB_COL_##id,
enum dlb_column {
#define X DLB_COLUMN_ENUM
#include "record/columns.def.h"
#undef X
    DLB_COLUMNS
};

/* The columns of trials.csv. */
#define DLB_TRIAL_COLUMNS                                                                \
    X(SCHEMA_VERSION, "schema_version", INT, "version of the tables")                    \
    X(RUN_ID, "run_id", TEXT, "the run that the trial belongs to")                       \
    X(TIMESTAMP_UTC, "timestamp_utc", TEXT, "when the trial was recorded, ISO 8601")     \
    X(OP, "op", TEXT, "operator")                                                        \
    X(PASS, "pass", TEXT, "pass of the problem")                                         \
    X(SHAPE, "shape", TEXT, "canonical descriptor of the problem")                       \
    X(THREAD_SET, "thread_set", TEXT, "name of the thread set")                          \
    X(CANDIDATE, "candidate", TEXT, "algorithm and tiles")                               \
    X(OUTCOME, "outcome", TEXT, "timed, refused, mismatch or pruned")                    \
    X(REASON, "reason", TEXT, "why it was not timed to the end")                         \
    X(RUNG, "rung", INT, "round of the race that it reached")                            \
    X(SAMPLES, "samples", INT, "samples that were taken of it")                          \
    X(BEST_NS, "best_ns", REAL, "fastest sample, per execution")                         \
    X(MODEL_NS, "model_ns", REAL, "time that the model had predicted")

/* The columns of samples.csv. */
#define DLB_SAMPLE_COLUMNS                                                               \
    X(RUN_ID, "run_id", TEXT, "the run that the sample belongs to")                      \
    X(ROW_SEQ, "row_seq", INT, "the row of results.csv that the sample belongs to")      \
    X(SAMPLE_IDX, "sample_idx", INT, "number of the sample within its row, from 1")      \
    X(NS, "ns", REAL, "time of one execution in nanoseconds")                            \
    X(CONTAMINATED, "contaminated", INT, "1: thrown out by the probe gate, else 0")

/* The columns of tuning.csv, the tuning cache. */
#define DLB_TUNING_COLUMNS                                                               \
    X(SCHEMA_VERSION, "schema_version", INT, "version of this table")                    \
    X(TIMESTAMP_UTC, "timestamp_utc", TEXT, "when the problem was tuned, ISO 8601")      \
    X(OUTCOME, "outcome", TEXT, "tuned, or dropped: what was tuned before is wrong")     \
    X(OP, "op", TEXT, "operator")                                                        \
    X(PASS, "pass", TEXT, "pass of the problem")                                         \
    X(DTYPE, "dtype", TEXT, "data type of the operands")                                 \
    X(ACCURACY, "accuracy", TEXT, "accuracy class: exact or winograd")                   \
    X(SHAPE, "shape", TEXT, "canonical descriptor of the problem")                       \
    X(CACHE_STATE, "cache_state", TEXT, "hot or cold")                                   \
    X(THREAD_SET, "thread_set", TEXT, "name of the thread set")                          \
    X(THREADS, "threads", INT, "threads of the team")                                    \
    X(HARDWARE, "hardware", TEXT, "the machine: another one's entries do not count")     \
    X(ISA, "isa", TEXT, "instruction set of the kernels")                                \
    X(CODE, "code", TEXT, "hash of the operator's kernel sources")                       \
    X(COMPILER, "compiler", TEXT, "compiler of the kernels, with its patch level")       \
    X(FLAGS, "flags", TEXT, "build type and flags")                                      \
    X(OS, "os", TEXT, "kernel of the operating system")                                  \
    X(CANDIDATE, "candidate", TEXT, "the winner: algorithm and tiles")                   \
    X(NS, "ns", REAL, "its time while tuning, per execution")                            \
    X(SECOND, "second", TEXT, "the one behind it")                                       \
    X(SECOND_NS, "second_ns", REAL, "its time while tuning")                             \
    X(THIRD, "third", TEXT, "the one behind that")                                       \
    X(THIRD_NS, "third_ns", REAL, "its time while tuning")                               \
    X(TRIED, "tried", INT, "candidates that were timed")                                 \
    X(LEGAL, "legal", INT, "candidates that there are")                                  \
    X(SECONDS, "seconds", REAL, "what the search took")

/* The columns of study.csv, how far the search's winners are from the best. */
#define DLB_STUDY_COLUMNS                                                                \
    X(SCHEMA_VERSION, "schema_version", INT, "version of this table")                    \
    X(TIMESTAMP_UTC, "timestamp_utc", TEXT, "when the problem was finished, ISO 8601")   \
    X(OP, "op", TEXT, "operator")                                                        \
    X(PASS, "pass", TEXT, "pass of the problem")                                         \
    X(SHAPE_NAME, "shape_name", TEXT, "name of the problem in its suite")                \
    X(SHAPE, "shape", TEXT, "canonical descriptor of the problem")                       \
    X(THREAD_SET, "thread_set", TEXT, "name of the thread set")                          \
    X(THREADS, "threads", INT, "threads of the team")                                    \
    X(LEGAL, "legal", INT, "candidates that there are")                                  \
    X(CHOSEN_TRIED, "chosen_tried", INT, "candidates that the first tuning timed")       \
    X(CHOSEN_SECONDS, "chosen_seconds", REAL, "what the first tuning's search took")     \
    X(FULL_TRIED, "full_tried", INT, "candidates that the full search timed")            \
    X(FULL_SECONDS, "full_seconds", REAL, "what the full search took")                   \
    X(RANDOM_TRIED, "random_tried", INT, "candidates that the random search timed")      \
    X(CHOSEN, "chosen", TEXT, "winner of the first tuning")                              \
    X(AGAIN, "again", TEXT, "winner of the second tuning")                               \
    X(RANDOM, "random", TEXT, "winner of the random search")                             \
    X(BEST, "best", TEXT, "fastest of all that were timed together in the end")          \
    X(CHOSEN_NS, "chosen_ns", REAL, "median time of chosen, all timed together")         \
    X(CHOSEN_REGRET, "chosen_regret", REAL, "time of chosen over that of best, less 1")  \
    X(AGAIN_REGRET, "again_regret", REAL, "the same of again")                           \
    X(RANDOM_REGRET, "random_regret", REAL, "the same of random")                        \
    X(HALF_WIDTH, "half_width", REAL, "of the 95 % interval of chosen_regret")           \
    X(RANK_CORRELATION, "rank_correlation", REAL,                                        \
      "Spearman's, of the model's times and the measured ones")

/* The columns of observations.csv, what the experiments behind the claims saw. */
#define DLB_OBSERVATION_COLUMNS                                                          \
    X(SCHEMA_VERSION, "schema_version", INT, "version of this table")                    \
    X(RUN_ID, "run_id", TEXT, "the run that the observation belongs to")                 \
    X(EXPERIMENT, "experiment", TEXT, "who saw it")                                      \
    X(CONDITION, "condition", TEXT, "under what: words key=value")                       \
    X(IMPL, "impl", TEXT, "native or onednn; empty where it does not matter")            \
    X(THREADS, "threads", INT, "threads of the team; empty where they do not matter")    \
    X(ARM, "arm", TEXT, "what was tried")                                                \
    X(METRIC, "metric", TEXT, "what was measured")                                       \
    X(REPLICATE, "replicate", INT, "number of the paired round, or the seed")            \
    X(STEP, "step", INT, "of a training curve, which no verdict counts; else empty")     \
    X(X, "x", REAL, "what slopes and exponents are fitted over")                         \
    X(VALUE, "value", REAL, "what was seen")

/* The columns of claims.csv in a run's folder: the verdicts. */
#define DLB_CLAIM_COLUMNS                                                                \
    X(CLAIM_ID, "claim_id", TEXT, "the claim, as in configs/claims.csv")                 \
    X(ANSWER, "answer", INT, "the interview answer that says so, 1 to 10")               \
    X(CLAIM, "claim", TEXT, "what is claimed, in our words")                             \
    X(KIND, "kind", TEXT, "speed, learning or arithmetic")                               \
    X(METRIC, "metric", TEXT, "what was measured, and the statistic of it")              \
    X(CONDITIONS, "conditions", TEXT, "what was varied")                                 \
    X(N, "n", INT, "pairs or replicates behind it")                                      \
    X(EFFECT, "effect", REAL, "mean over the conditions; of ratios the geometric one")   \
    X(CI_LO, "ci_lo", REAL, "lower end of its 95 % interval")                            \
    X(CI_HI, "ci_hi", REAL, "upper end of its 95 % interval")                            \
    X(THRESHOLD, "threshold", TEXT, "what the rule asks for")                            \
    X(VERDICT, "verdict", TEXT,                                                          \
      "supported, conditional, refuted, inconclusive or not measured")                   \
    X(WHERE, "where", TEXT, "conditional: where it holds, and where not")                \
    X(RUN_ID, "run_id", TEXT, "the run whose observations were judged")                  \
    X(NOTE, "note", TEXT, "what is confounded, and how it was controlled")

enum dlb_trial_column {
#define X(id, name, type, meaning) DLB_TRIAL_##id,
    DLB_TRIAL_COLUMNS
#undef X
        DLB_TRIAL_COLUMNS_N
};

enum dlb_sample_column {
#define X(id, name, type, meaning) DLB_SAMPLE_##id,
    DLB_SAMPLE_COLUMNS
#undef X
        DLB_SAMPLE_COLUMNS_N
};

enum dlb_tuning_column {
#define X(id, name, type, meaning) DLB_TUNING_##id,
    DLB_TUNING_COLUMNS
#undef X
        DLB_TUNING_COLUMNS_N
};

enum dlb_study_column {
#define X(id, name, type, meaning) DLB_STUDY_##id,
    DLB_STUDY_COLUMNS
#undef X
        DLB_STUDY_COLUMNS_N
};

enum dlb_observation_column {
#define X(id, name, type, meaning) DLB_OBSERVATION_##id,
    DLB_OBSERVATION_COLUMNS
#undef X
        DLB_OBSERVATION_COLUMNS_N
};

enum dlb_claim_column {
#define X(id, name, type, meaning) DLB_CLAIM_##id,
    DLB_CLAIM_COLUMNS
#undef X
        DLB_CLAIM_COLUMNS_N
};

struct dlb_column_def {
    const char *name;
    enum dlb_cell_type type;
    const char *meaning;
};
extern const struct dlb_column_def dlb_columns[DLB_COLUMNS];

/* The files that are tables; those of a run's folder come first. */
struct dlb_table {
    const char *file;
    const char *summary;
    const struct dlb_column_def *columns;
    int columns_n;
};
enum dlb_table_id {
    DLB_TABLE_RESULTS,
    DLB_TABLE_TRIALS,
    DLB_TABLE_SAMPLES,
    DLB_RUN_TABLES,
    DLB_TABLE_TUNING = DLB_RUN_TABLES,
    DLB_TABLE_STUDY,
    DLB_TABLE_OBSERVATIONS,
    DLB_TABLE_CLAIMS,
    DLB_TABLES
};
extern const struct dlb_table dlb_tables[DLB_TABLES];

enum { DLB_SCHEMA_VERSION = 1, DLB_NUMBER_TEXT = 32 };

/* A cell's value: of the three, the one of the column's type counts. */
struct dlb_cell {
    bool set;
    double number;
    int64_t integer;
    char *text;
};

/* The text of a cell as it goes into a file, before quoting: "" when empty.  Integers are
 * exact, reals come back within 1e-9 of their size.  Points into the cell or to number.
 */
const char *dlb_cell_format(enum dlb_cell_type type, const struct dlb_cell *cell,
                            char number[DLB_NUMBER_TEXT]);

/* Reads a cell of file (line) into *cell, whose text the caller then owns.  An empty one
 * is left unset.  DLB_INVALID names file, line, column, the text and what is expected. */
enum dlb_status dlb_cell_parse(const char *file, int64_t line,
                               const struct dlb_column_def *column, const char *text,
                               struct dlb_cell *cell, struct dlb_error *error);

/* One row; a zeroed one is empty.  Texts are owned by the row. */
struct dlb_row {
    struct dlb_cell cell[DLB_COLUMNS];
    bool nomem; /* a text could not be stored: the row must not be written */
};

/* The setter must match the column's type (asserted).  NaN, infinity, NULL and the empty
 * text leave the cell empty. */
void dlb_row_text(struct dlb_row *row, enum dlb_column column, const char *text);
void dlb_row_int(struct dlb_row *row, enum dlb_column column, int64_t value);
void dlb_row_real(struct dlb_row *row, enum dlb_column column, double value);
void dlb_row_release(struct dlb_row *row);

/* Copies from into the zeroed row *to; DLB_NOMEM leaves *to empty. */
enum dlb_status dlb_row_copy(struct dlb_row *to, const struct dlb_row *from,
                             struct dlb_error *error);

/* Getters: "" / 0 / NaN when empty. */
const char *dlb_row_get_text(const struct dlb_row *row, enum dlb_column column);
int64_t dlb_row_get_int(const struct dlb_row *row, enum dlb_column column);
double dlb_row_get_real(const struct dlb_row *row, enum dlb_column column);

/* The name of a row's case in other tools: what is compared with / between, the same in any
 * run, whatever candidate won. */
enum { DLB_ROW_NAME_MAX = 640 };
void dlb_row_name(const struct dlb_row *row, char name[DLB_ROW_NAME_MAX]);

/* "dlbench list columns": each table with its columns.  markdown: those of a run, as
 * README shows them. */
void dlb_columns_print(FILE *out, bool markdown);

#endif
