/*
 * claims.h - verdicts on claims, computed from observations by the rules of
 * configs/claims.csv and by nothing else.
 *
 *   experiments (lab.h) -> observations.csv -> rules -> claims.csv, screen
 *
 * configs/claims.csv, a row a claim:
 *   id, answer (1-10), claim (in our words), kind (speed | learning | arithmetic)
 *   experiment, metric, arm, base: which observations; base empty where there is none, the
 *   experiment where nobody has made one yet
 *   statistic: what is computed of them, below
 *   direction (above | below | within) and threshold (a number, or "1.5 to 2.5"): the rule
 *   note: what is confounded, and how it was controlled
 *
 * A cell is one (condition, impl, threads) of the experiment.  In each cell an effect with
 * a 95 % interval over replicates, the observations of a step (a training curve) aside:
 *   ratio       arm/base of one replicate.  speed: median of paired rounds with its
 *               sign-test interval; else geometric mean, t interval of the logarithms
 *   difference  arm - base of one replicate, mean, t interval
 *   value       of arm alone
 *   slope       of the least-squares line of value over x in a replicate: arm's less
 *               base's, or arm's alone
 *   exponent    the same of ln value over ln x
 *   efficiency  T1/(p Tp) of a replicate, arm's less base's; a cell for each p above 1
 *               where the experiment has the same condition with one thread
 *   largest     largest |arm - base|, or |arm|, of all replicates: exact, no interval
 * Claims of kind arithmetic are exact: their intervals have no width.
 * A cell says yes when its interval lies beyond the threshold (within: inside the range),
 * no when it lies wholly on the other side, else it is unclear; so it is with fewer than
 * two replicates, but for what is exact.
 *
 *   supported     every cell says yes
 *   refuted       every cell says no
 *   conditional   some say yes, others not: `where` names them
 *   inconclusive  none says yes, and some are unclear
 *   not measured  no cell has the observations that the rule needs
 *
 * The effect of a claim is the mean of its cells (of ratios the geometric one, of largest
 * the largest), its interval that of a mean of independent effects.
 */
#ifndef DLB_CLAIMS_CLAIMS_H
#define DLB_CLAIMS_CLAIMS_H

#include "core/base.h"

enum dlb_statistic {
    DLB_STATISTIC_RATIO,
    DLB_STATISTIC_DIFFERENCE,
    DLB_STATISTIC_VALUE,
    DLB_STATISTIC_SLOPE,
    DLB_STATISTIC_EXPONENT,
    DLB_STATISTIC_EFFICIENCY,
    DLB_STATISTIC_LARGEST,
    DLB_STATISTICS
};
enum dlb_direction { DLB_ABOVE, DLB_BELOW, DLB_WITHIN, DLB_DIRECTIONS };
enum dlb_claim_kind { DLB_SPEED, DLB_LEARNING, DLB_ARITHMETIC, DLB_CLAIM_KINDS };
extern const char *const dlb_statistic_names[DLB_STATISTICS];
extern const char *const dlb_direction_names[DLB_DIRECTIONS];
extern const char *const dlb_claim_kind_names[DLB_CLAIM_KINDS];

/* Texts are owned. */
struct dlb_claim {
    char *id, *claim, *experiment, *metric, *arm, *base, *threshold, *note;
    int answer;
    enum dlb_claim_kind kind;
    enum dlb_statistic statistic;
    enum dlb_direction direction;
    double low, high; /* within: the range; else both are the threshold */
};
struct dlb_claims {
    struct dlb_claim *claim; /* owned, in the order of the file */
    int n;
};

/* Reads the rules strictly: DLB_INVALID names file, line, column and what is accepted.
 * Release also after a failure. */
enum dlb_status dlb_claims_read(const char *file, struct dlb_claims *claims,
                                struct dlb_error *error);
void dlb_claims_release(struct dlb_claims *claims);

/* The claim of this id, or NULL. */
const struct dlb_claim *dlb_claims_find(const struct dlb_claims *claims, const char *id);

/* A row of observations.csv; columns.h says what they are.  Texts are owned. */
struct dlb_observed {
    char *experiment, *condition, *impl, *arm, *metric;
    int64_t threads, replicate, step;
    double x, value; /* x NaN where it is not set */
};
struct dlb_observations {
    struct dlb_observed
        *row; /* owned; sorted, so that their order in a file is nothing */
    int n, room;
};

/* Appends a copy. */
enum dlb_status dlb_observations_add(struct dlb_observations *observations,
                                     const struct dlb_observed *row,
                                     struct dlb_error *error);
/* Releases the rows from the n-th on. */
void dlb_observations_cut(struct dlb_observations *observations, int n);
/* To be called before verdicts, after the last addition. */
void dlb_observations_sort(struct dlb_observations *observations);
enum dlb_status dlb_observations_read(const char *file,
                                      struct dlb_observations *observations,
                                      struct dlb_error *error);
void dlb_observations_release(struct dlb_observations *observations);

enum dlb_verdict_word {
    DLB_SUPPORTED,
    DLB_CONDITIONAL,
    DLB_REFUTED,
    DLB_INCONCLUSIVE,
    DLB_NOT_MEASURED,
    DLB_VERDICT_WORDS
};
extern const char *const dlb_verdict_words[DLB_VERDICT_WORDS];

enum { DLB_WHERE_MAX = 400 };
struct dlb_claim_verdict {
    const struct dlb_claim *claim;
    enum dlb_verdict_word word;
    int cells, n; /* n: pairs, or replicates, of all cells */
    double effect, ci_lo, ci_hi;
    char conditions[DLB_WHERE_MAX]; /* the keys that were varied, with their values */
    char where[DLB_WHERE_MAX];      /* conditional: where it holds, and where not */
};

/* Judges one claim; observations are sorted.  DLB_NOMEM. */
enum dlb_status dlb_claim_judge(const struct dlb_claim *claim,
                                const struct dlb_observations *observations,
                                struct dlb_claim_verdict *verdict,
                                struct dlb_error *error);

#endif
