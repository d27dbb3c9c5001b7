/* The rules and the verdicts: synthetic observations that must give each verdict, by each
 * statistic; the strict reading of both files. */
#include "claims/chain.h"
#include "claims/claims.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64];

static int begin(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/dlb_test_claims_XXXXXX");
    return !mkdtemp(folder);
}

static int end(void **state)
{
    (void)state;
    char command[300];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

static char *text(const char *constant)
{
    return (char *)constant;
}

static struct dlb_claim claim_of(enum dlb_claim_kind kind, enum dlb_statistic statistic,
                                 enum dlb_direction direction, double low, double high)
{
    return (struct dlb_claim){.id = text("it"),
                              .claim = text("it holds"),
                              .experiment = text("e"),
                              .metric = text("m"),
                              .arm = text("a"),
                              .base = text("b"),
                              .threshold = text(""),
                              .note = text(""),
                              .answer = 1,
                              .kind = kind,
                              .statistic = statistic,
                              .direction = direction,
                              .low = low,
                              .high = high};
}

struct seen {
    const char *condition, *impl, *arm;
    int threads, replicate, step;
    double x, value;
};

static void add(struct dlb_observations *all, struct seen seen)
{
    struct dlb_error error = {0};
    struct dlb_observed row = {.experiment = text("e"),
                               .condition = text(seen.condition),
                               .impl = text(seen.impl ? seen.impl : ""),
                               .arm = text(seen.arm),
                               .metric = text("m"),
                               .threads = seen.threads,
                               .replicate = seen.replicate,
                               .step = seen.step,
                               .x = seen.x,
                               .value = seen.value};
    assert_int_equal(dlb_observations_add(all, &row, &error), DLB_OK);
}

/* A small disturbance of a replicate. */
static double wobble(int replicate, int arm)
{
    return 0.01 *
           ((double)(dlb_hash((uint64_t)replicate, (uint64_t)arm) >> 40) * 0x1p-24 - 0.5);
}

/* Replicates 1 … n of both arms, in a cell. */
static void add_pairs(struct dlb_observations *all, const char *condition, int threads,
                      int n, double arm, double base)
{
    for (int i = 1; i <= n; i++) {
        add(all, (struct seen){condition, "native", "a", threads, i, 0, NAN,
                               arm * (1 + wobble(i, 0))});
        add(all, (struct seen){condition, "native", "b", threads, i, 0, NAN,
                               base * (1 + wobble(i, 1))});
    }
}

static struct dlb_claim_verdict judge(const struct dlb_claim *claim,
                                      struct dlb_observations *all)
{
    struct dlb_claim_verdict verdict;
    struct dlb_error error = {0};
    dlb_observations_sort(all);
    assert_int_equal(dlb_claim_judge(claim, all, &verdict, &error), DLB_OK);
    return verdict;
}

static void ratios_give_each_verdict(void **state)
{
    (void)state;
    for (int kind = DLB_SPEED; kind <= DLB_LEARNING; kind++) {
        struct dlb_claim claim = claim_of(kind, DLB_STATISTIC_RATIO, DLB_ABOVE, 1.1, 1.1);
        struct dlb_observations all = {0};
        assert_int_equal(judge(&claim, &all).word, DLB_NOT_MEASURED);
        add_pairs(&all, "size=l1", 1, 15, 1.3, 1);
        struct dlb_claim_verdict v = judge(&claim, &all);
        assert_int_equal(v.word, DLB_SUPPORTED);
        assert_float_equal(v.effect, 1.3, 0.01);
        assert_true(v.ci_lo > 1.28 && v.ci_lo < v.effect && v.effect < v.ci_hi);
        assert_int_equal(v.n, 15);
        add_pairs(&all, "size=memory", 1, 15, 1.0, 1);
        v = judge(&claim, &all);
        assert_int_equal(v.word, DLB_CONDITIONAL);
        assert_string_equal(v.where, "size=l1; not size=memory");
        assert_string_equal(v.conditions, "size=l1,memory impl=native threads=1");
        assert_float_equal(v.effect, sqrt(1.3), 0.01);
        /* Nothing but the other side of the threshold refutes. */
        claim.low = claim.high = 1.4;
        assert_int_equal(judge(&claim, &all).word, DLB_REFUTED);
        claim.low = claim.high = 1.3;
        assert_int_equal(judge(&claim, &all).word, DLB_INCONCLUSIVE);
        claim.direction = DLB_BELOW;
        assert_int_equal(judge(&claim, &all).word, DLB_CONDITIONAL);
        claim.direction = DLB_WITHIN;
        claim.low = 0.9;
        claim.high = 1.4;
        assert_int_equal(judge(&claim, &all).word, DLB_SUPPORTED);
        claim.high = 0.95;
        assert_int_equal(judge(&claim, &all).word, DLB_REFUTED);
        dlb_observations_release(&all);
    }
}

/* One replicate says nothing, but of arithmetic. */
static void one_replicate_is_too_few(void **state)
{
    (void)state;
    for (int kind = DLB_SPEED; kind <= DLB_ARITHMETIC; kind++) {
        struct dlb_claim claim =
            claim_of(kind, DLB_STATISTIC_RATIO, DLB_WITHIN, 1.9, 2.1);
        struct dlb_observations all = {0};
        add_pairs(&all, "", 0, 1, 2, 1);
        assert_int_equal(judge(&claim, &all).word,
                         kind == DLB_ARITHMETIC ? DLB_SUPPORTED : DLB_INCONCLUSIVE);
        dlb_observations_release(&all);
    }
}

static void differences_and_values(void **state)
{
    (void)state;
    struct dlb_observations all = {0};
    struct dlb_claim claim =
        claim_of(DLB_LEARNING, DLB_STATISTIC_DIFFERENCE, DLB_BELOW, 0, 0);
    add_pairs(&all, "depth=5", 0, 6, 0.4, 0.5);
    struct dlb_claim_verdict v = judge(&claim, &all);
    assert_int_equal(v.word, DLB_SUPPORTED);
    assert_float_equal(v.effect, -0.1, 0.005);
    claim.statistic = DLB_STATISTIC_VALUE;
    claim.base = text("");
    claim.low = claim.high = 0.3;
    v = judge(&claim, &all);
    assert_int_equal(v.word, DLB_REFUTED);
    assert_float_equal(v.effect, 0.4, 0.005);
    claim.statistic = DLB_STATISTIC_LARGEST;
    claim.base = text("b");
    v = judge(&claim, &all);
    assert_int_equal(v.word, DLB_SUPPORTED);
    assert_true(v.effect > 0.09 && v.effect < 0.11 && v.ci_lo == v.effect);
    dlb_observations_release(&all);
}

/* Steps are curves, and no verdict counts them; replicates of one arm alone neither. */
static void what_does_not_count(void **state)
{
    (void)state;
    struct dlb_observations all = {0};
    struct dlb_claim claim =
        claim_of(DLB_LEARNING, DLB_STATISTIC_DIFFERENCE, DLB_BELOW, 0, 0);
    add_pairs(&all, "", 0, 5, 0.4, 0.5);
    for (int i = 1; i <= 5; i++)
        for (int step = 1; step < 4; step++)
            add(&all, (struct seen){"", "native", "a", 0, i, step, NAN, 100});
    add(&all, (struct seen){"", "native", "a", 0, 9, 0, NAN, 100});
    add(&all, (struct seen){"", "native", "a", 0, 20, 1, NAN, 100});
    add(&all, (struct seen){"", "native", "b", 0, 20, 1, NAN, 100});
    struct dlb_claim_verdict v = judge(&claim, &all);
    assert_int_equal(v.n, 5);
    assert_float_equal(v.effect, -0.1, 0.005);
    dlb_observations_release(&all);
}

static void slopes_and_exponents(void **state)
{
    (void)state;
    struct dlb_observations all = {0};
    struct dlb_claim claim =
        claim_of(DLB_SPEED, DLB_STATISTIC_EXPONENT, DLB_WITHIN, 1.9, 2.1);
    claim.base = text("");
    for (int i = 1; i <= 8; i++)
        for (int x = 1; x <= 8; x *= 2) {
            add(&all, (struct seen){"", "native", "a", 1, i, 0, x,
                                    3.0 * x * x * (1 + wobble(i, x))});
            add(&all, (struct seen){"", "native", "b", 1, i, 0, x, 7 - 2.0 * x});
        }
    struct dlb_claim_verdict v = judge(&claim, &all);
    assert_int_equal(v.word, DLB_SUPPORTED);
    assert_float_equal(v.effect, 2, 0.01);
    claim.statistic = DLB_STATISTIC_SLOPE;
    claim.arm = text("b");
    claim.low = -2.1;
    claim.high = -1.9;
    v = judge(&claim, &all);
    assert_int_equal(v.word, DLB_SUPPORTED);
    assert_float_equal(v.effect, -2, 1e-9);
    /* Against itself there is no difference. */
    claim.base = text("b");
    assert_float_equal(judge(&claim, &all).effect, 0, 1e-9);
    dlb_observations_release(&all);
}

static void efficiencies(void **state)
{
    (void)state;
    struct dlb_observations all = {0};
    struct dlb_claim claim =
        claim_of(DLB_SPEED, DLB_STATISTIC_EFFICIENCY, DLB_ABOVE, 0, 0);
    add_pairs(&all, "steps=8", 1, 12, 100, 100);
    add_pairs(&all, "steps=8", 4, 12, 25, 50); /* 1 and a half */
    struct dlb_claim_verdict v = judge(&claim, &all);
    assert_int_equal(v.word, DLB_SUPPORTED);
    assert_int_equal(v.cells, 1);
    assert_float_equal(v.effect, 0.5, 0.01);
    assert_string_equal(v.conditions, "steps=8 impl=native threads=4");
    dlb_observations_release(&all);
}

/* No single key decides. */
static void cells_are_told_one_by_one(void **state)
{
    (void)state;
    struct dlb_observations all = {0};
    struct dlb_claim claim =
        claim_of(DLB_SPEED, DLB_STATISTIC_RATIO, DLB_ABOVE, 1.1, 1.1);
    add_pairs(&all, "size=l1 pass=fwd", 1, 9, 2, 1);
    add_pairs(&all, "size=l2 pass=fwd", 1, 9, 1, 1);
    add_pairs(&all, "size=l1 pass=bwd", 1, 9, 1, 1);
    struct dlb_claim_verdict v = judge(&claim, &all);
    assert_int_equal(v.word, DLB_CONDITIONAL);
    assert_string_equal(v.where, "in 1 of 3: size=l1 pass=fwd impl=native threads=1");
    add_pairs(&all, "size=l2 pass=bwd", 1, 9, 2, 1);
    add_pairs(&all, "size=l3 pass=bwd", 1, 9, 2, 1);
    v = judge(&claim, &all);
    assert_string_equal(v.where,
                        "in 3 of 5, not: size=l1 pass=bwd impl=native threads=1; "
                        "size=l2 pass=fwd impl=native threads=1");
    dlb_observations_release(&all);
}

static void write_file(const char *name, const char *content, char path[128])
{
    snprintf(path, 128, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(content, file);
    fclose(file);
}

#define HEADER                                                                           \
    "id,answer,claim,kind,experiment,metric,statistic,arm,base,direction,threshold,"     \
    "note\n"

static void rules_are_read_strictly(void **state)
{
    static const struct {
        const char *content, *words[2];
    } wrong[] = {
        {"", {"no claim", "rows"}},
        {"id,answer\n", {"line 1", "12 columns"}},
        {HEADER "a,11,c,speed,e,m,ratio,x,y,above,1,\n", {"'11'", "1 to 10"}},
        {HEADER "a,1,c,sped,e,m,ratio,x,y,above,1,\n", {"'sped'", "speed, learning"}},
        {HEADER "a,1,c,speed,e,m,ration,x,y,above,1,\n", {"'statistic'", "exponent"}},
        {HEADER "a,1,c,speed,e,m,ratio,x,y,over,1,\n", {"'over'", "above, below"}},
        {HEADER "a,1,c,speed,e,m,ratio,x,y,above,one,\n", {"'one'", "a number"}},
        {HEADER "a,1,c,speed,e,m,ratio,x,y,within,1,\n", {"'1'", "1.5 to 2.5"}},
        {HEADER "a,1,c,speed,e,m,ratio,x,y,within,2 to 1,\n", {"'2 to 1'", "a range"}},
        {HEADER "a,1,c,speed,e,m,ratio,x,,above,1,\n", {"'base'", "compare with"}},
        {HEADER "a,1,c,speed,,m,ratio,x,y,above,1,\n", {"'experiment'", "a text"}},
        {HEADER "a,1,c,speed,e,m,ratio,x,y,above,1\n", {"line 2", "12 columns"}},
        {HEADER
         "a,1,c,speed,e,m,ratio,x,y,above,1,\na,1,c,speed,e,m,ratio,x,y,above,1,\n",
         {"line 3", "second time"}},
    };
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct dlb_claims claims;
        struct dlb_error error = {0};
        char path[128];
        write_file("rules.csv", wrong[i].content, path);
        if (dlb_claims_read(path, &claims, &error) != DLB_INVALID)
            fail_msg("accepted: %s", wrong[i].content);
        for (int w = 0; w < 2; w++)
            if (!strstr(error.text, wrong[i].words[w]))
                fail_msg("no \"%s\" in: %s", wrong[i].words[w], error.text);
        dlb_claims_release(&claims);
    }
}

/* The rules that are shipped: each answer has one at least. */
static void the_rules_are_whole(void **state)
{
    (void)state;
    struct dlb_claims claims;
    struct dlb_error error = {0};
    bool answered[11] = {false};
    if (dlb_claims_read(DLBENCH_SOURCE_DIR "/configs/claims.csv", &claims, &error))
        fail_msg("%s", error.text);
    for (int i = 0; i < claims.n; i++)
        answered[claims.claim[i].answer] = true;
    for (int i = 1; i <= 10; i++)
        assert_true(answered[i]);
    assert_null(dlb_claims_find(&claims, "nothing"));
    assert_string_equal(dlb_claims_find(&claims, "relu-cheaper")->base, "relu");
    dlb_claims_release(&claims);
}

#define OBSERVED                                                                         \
    "schema_version,run_id,experiment,condition,impl,threads,arm,metric,replicate,step," \
    "x,value\n"

static void observations_are_read_strictly(void **state)
{
    (void)state;
    struct dlb_observations all = {0};
    struct dlb_error error = {0};
    char path[128];
    write_file("observations.csv",
               OBSERVED "1,r,e,k=1,native,1,a,m,2,,,3.5\n"
                        "1,r,e,k=1,native,1,a,m,1,,4,2.5\n1,r,e,k=",
               path);
    if (dlb_observations_read(path, &all, &error))
        fail_msg("%s", error.text);
    dlb_observations_sort(&all);
    assert_int_equal(all.n, 2); /* a torn record is none */
    assert_int_equal(all.row[0].replicate, 1);
    assert_true(all.row[0].x == 4 && all.row[0].value == 2.5 && isnan(all.row[1].x));
    dlb_observations_release(&all);
    write_file("observations.csv", OBSERVED "1,r,e,k=1,native,1,a,m,2,,,\n", path);
    assert_int_equal(dlb_observations_read(path, &all, &error), DLB_INVALID);
    assert_non_null(strstr(error.text, "line 2, column 'value'"));
    dlb_observations_release(&all);
    write_file("observations.csv", "experiment,condition\n", path);
    assert_int_equal(dlb_observations_read(path, &all, &error), DLB_INVALID);
    dlb_observations_release(&all);
}

static char log_of_runs[16];
static int runs;

static void note_run(struct dlb_plan *plan, const struct dlb_team *team)
{
    (void)team;
    log_of_runs[runs++] = plan->layout[0];
}

static void a_chain_runs_its_links_in_order(void **state)
{
    (void)state;
    static const struct dlb_plan_class class = {.run = note_run};
    struct dlb_plan link[3] = {{.class = &class, .threads = 1, .layout = "a"},
                               {.class = &class, .threads = 1, .layout = "b"},
                               {.class = &class, .threads = 1, .layout = "c"}};
    struct dlb_plan *const links[] = {&link[0], &link[1], &link[2]};
    struct dlb_plan *chain = dlb_chain_make(links, 3);
    assert_non_null(chain);
    const struct dlb_team team = {.size = 1};
    chain->class->run(chain, &team);
    chain->class->run(chain, &team);
    assert_string_equal(log_of_runs, "abcabc");
    assert_false(chain->class->spmd);
    dlb_plan_release(chain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ratios_give_each_verdict),
        cmocka_unit_test(one_replicate_is_too_few),
        cmocka_unit_test(differences_and_values),
        cmocka_unit_test(what_does_not_count),
        cmocka_unit_test(slopes_and_exponents),
        cmocka_unit_test(efficiencies),
        cmocka_unit_test(cells_are_told_one_by_one),
        cmocka_unit_test(rules_are_read_strictly),
        cmocka_unit_test(the_rules_are_whole),
        cmocka_unit_test(observations_are_read_strictly),
        cmocka_unit_test(a_chain_runs_its_links_in_order),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
