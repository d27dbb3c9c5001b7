/*
 * options.h - the command line: one table that parses, makes the help and names the
 * nearest valid word.  No globals; the strings point into argv.
 */
#ifndef DLB_BENCH_OPTIONS_H
#define DLB_BENCH_OPTIONS_H

#include "core/base.h"
#include "nearest.h"

#include <stdio.h>

enum { DLB_SHAPES_MAX = 256, DLB_WORDS_MAX = 4096, DLB_BASES_MAX = 64 };

enum dlb_command {
    DLB_COMMAND_BENCH, /* the main job: no command word */
    DLB_COMMAND_DOCTOR,
    DLB_COMMAND_TOPOLOGY,
    DLB_COMMAND_LIST,    /* words: none, or one of those in the help */
    DLB_COMMAND_COMPARE, /* words: BASE, unless there are bases, and NEW… */
    DLB_COMMAND_HISTORY, /* words: runs */
    DLB_COMMAND_EXPORT,  /* words: KIND=FILE, runs */
    DLB_COMMAND_TUNE,
    DLB_COMMAND_CLAIMS,
    DLB_COMMAND_HELP,
    DLB_COMMAND_VERSION
};

/* Texts are NULL, and numbers 0, when not given. */
struct dlb_options {
    enum dlb_command command;
    const char *words[DLB_WORDS_MAX]; /* what follows the command word */
    int words_n;
    const char *op, *pass, *suite, *threads, *impl, *isa, *accuracy, *cache_state, *mb;
    const char *shapes[DLB_SHAPES_MAX];
    int shapes_n;
    const char *candidate; /* time this candidate only, instead of searching */
    const char *out, *resume, *export_to, *topology;
    const char *format; /* of the report: text, md, csv, json */
    const char *bases[DLB_BASES_MAX];
    int bases_n;
    double threshold_percent;
    int64_t confirm;          /* rounds */
    const char *cache;        /* file of the tuning cache */
    const char *replay;       /* tune: trials.csv, or the run that holds it */
    const char *claim, *from; /* claims: ids; the run that is judged again */
    const char *data;         /* claims: folder of images */
    double budget_seconds;    /* 0 = the default */
    int64_t seed;
    bool study; /* tune */
    bool quick; /* claims */
    bool sweep, check, check_determinism, aa, dry_run, quiet, oversubscribe, no_cache;
};

/*
 * Fills *options.  The values of --pass, --impl, --accuracy, --cache-state and --format are
 * checked against their words, numbers against their ranges, --export against
 * KIND=FILE; all other texts are judged by those who know what is valid.  DLB_INVALID
 * names the option and, for a near miss, what was probably meant; options that contradict
 * each other, or that the command does not take, are refused too.
 */
enum dlb_status dlb_options_parse(int argc, char **argv, struct dlb_options *options,
                                  struct dlb_error *error);

/* Help made from the table, grouped. */
void dlb_options_help(FILE *out);

#endif
