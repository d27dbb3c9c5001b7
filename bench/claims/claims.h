/*
 * claims.h - verdicts on claims, computed from observations by the rules of
 * configs/claims.csv and by nothing else.
 *
 *   experiments (lab.h) -> observations.csv -> rules -> claims.csv, screen
 *
 * observations.csv: schema_version, run_id, experiment, condition, impl, threads, arm,
 * metric, replicate, step, x, value.  Its order carries no meaning.
 *
 * configs/claims.csv, a row a claim:
 *   id, answer (1-10), claim (in our words), kind (speed | learning | arithmetic)
 *   experiment, metric, arm, base: which observations; base empty where there is none
 *   statistic: what is computed of them, below
 *   direction (above | below | within) and threshold (a number, or "1.5 to 2.5"): the rule
 *   where: keys that a condition is told by, when the rule holds in some only
 *   note: what is confounded, and how it was controlled
 *
 * A cell is one (condition, impl, threads) of the experiment.  In each cell an effect with
 * a 95 % interval over replicates:
 *   ratio       arm/base of one replicate.  speed: median of paired rounds with its
 *               sign-test interval; learning: geometric mean, t interval of the logarithms
 *   difference  arm - base of one replicate, mean, t interval
 *   value       of arm alone
 *   slope       of the least-squares line of value over x in a replicate: arm's less
 *               base's, or arm's alone
 *   exponent    the same of ln value over ln x
 *   slope-ratio arm's slope over base's
 *   efficiency  T1/(p Tp), arm's less base's, where the experiment has the same condition
 *               with one thread and with p
 *   largest     largest |arm - base|, or |arm|, of all replicates: exact, no interval
 * A cell says yes when its interval lies beyond the threshold (within: inside the range),
 * no when it lies wholly on the other side, else unclear.
 *
 *   supported     every cell says yes
 *   refuted       every cell says no
 *   conditional   some say yes, others not: `where` names them
 *   inconclusive  none says yes, and some are unclear
 *   not measured  no cell has the observations that the rule needs; note says why
 */
#ifndef DLB_CLAIMS_CLAIMS_H
#define DLB_CLAIMS_CLAIMS_H

#endif
