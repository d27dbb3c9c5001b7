#!/bin/sh
# "dlbench compare" as it is typed: exit statuses, sentences, formats; then runs of this
# machine, whose suspects are run again.
#   test_cli_compare.sh SOURCES BUILD
bench=$2/bench/dlbench
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
failures=0

complain() {
    printf 'FAILED: %s\n' "$*"
    sed 's/^/    /' stderr
    failures=$((failures + 1))
}

# The status that is expected, the words (separated by |) that the report or the sentence
# must hold, then the arguments.
ends() {
    expected=$1 words=$2
    shift 2
    "$bench" compare "$@" >stdout 2>stderr </dev/null
    status=$?
    [ "$status" -eq "$expected" ] || complain "status $status, not $expected: $*"
    if [ "$expected" -eq 2 ]; then
        [ -s stdout ] && complain "something on standard output: $*"
        [ "$(wc -l <stderr)" -eq 1 ] || complain "not one line: $*"
        grep -q '[.]$' stderr || complain "no whole sentence: $*"
    fi
    old_ifs=$IFS
    IFS='|'
    for word in $words; do
        grep -qF -e "$word" stdout stderr || complain "no '$word': $*"
    done
    IFS=$old_ifs
}

# A run of 30 shapes: folder, run_id, how much slower the seventh is, and everything.
make() {
    mkdir -p "$1"
    awk -v id="$2" -v seventh="$3" -v all="$4" 'BEGIN {
        print "schema_version,run_id,case_id,row_seq,status,op,pass,dtype,shape,impl," \
            "thread_set,threads,cache_state,time_median_ns"
        for (i = 1; i <= 30; i++)
            printf "1,%s,x,%d,ok,conv,fwd,f32,mb1ic%d,native,1,1,hot,%.6f\n", id, i, i,
                1e6 * all * (i == 7 ? seventh : 1) * (1 + 0.001 * ((i * length(id)) % 7 - 3))
    }' >"$1/results.csv"
}

make base r1 1 1
make same r22 1 1
make slow r333 1.2 1
make weather r4444 1 1.08

ends 0 'No regression of 5%|30 cases' base same
ends 1 'mb1ic7 |REGRESSION' base slow
ends 1 'REGRESSION' --base base --base same slow
ends 0 'No regression of 30%' base slow --threshold 30
ends 5 'Environment changed' base weather
ends 1 '"regression"' base slow --format json
ends 1 '### REGRESSION' base slow --format md
ends 1 'op,pass,dtype' base slow --format csv
[ "$(wc -l <stdout)" -eq 31 ] || complain 'not every case in CSV'
sed -i '$d' same/results.csv
ends 6 'only BASE|Incomplete' base same
sed 's/,ok,/,mismatch,/' slow/results.csv >wrong.csv
ends 3 'WRONG RESULTS' base wrong.csv
ends 2 'needs more words|dlbench compare BASE NEW'
ends 2 'at least one NEW' base
ends 2 'nowhere' base nowhere
ends 2 "'0'|percent" base slow --threshold 0
ends 2 "'markdown'|text, md, csv, json" base slow --format markdown
sed 's/,hot,/,cold,/' base/results.csv >cold.csv
ends 2 'cache state cold' base cold.csv
head -c 3000 /dev/urandom >random.csv
ends 2 'random.csv' base random.csv
if [ -c /dev/full ]; then
    "$bench" compare base slow >/dev/full 2>stderr
    [ $? -eq 1 ] && grep -q 'standard output' stderr || complain 'full output not named'
fi

# Runs of here: BASE made fast by hand, so that NEW is a suspect, and is run again.
measure() {
    "$bench" --op conv --shape mb1ic8ih8oc8kh3ph1 --threads 1 --quiet --out "$1" >stdout \
        2>stderr || [ $? -eq 4 ] || complain "no run $1"
}
measure before
measure after
grep -q ',noisy,' before/results.csv after/results.csv && {
    echo 'the machine is too noisy to run suspects again: left out'
    exit $((failures > 0))
}
rm before/samples.csv
awk -F, 'BEGIN { OFS = "," }
    NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i }
    # Cells before these hold no quotes.
    NR > 1 && /,native,/ { n = split("time_median_ns time_ci_lo_ns time_ci_hi_ns", c, " ")
        for (i = 1; i <= n; i++) $(at[c[i]]) /= 1000 }
    { print }' before/results.csv >fast.csv && mv fast.csv before/results.csv
"$bench" compare before after --confirm 1 >stdout 2>stderr
status=$?
case $status in
1 | 4 | 5) ;;
*) complain "status $status of a confirmation" ;;
esac
[ -s after-confirm-1/results.csv ] || complain 'nothing was run again'
grep -q 'round 1 of 1' stderr || complain 'no word about the re-run'
# A re-run that was disturbed confirms nothing, and what was suspected stays so.
if grep -q ',noisy,' after-confirm-1/results.csv; then
    [ "$status" -eq 4 ] || complain "status $status of a confirmation that was too noisy"
    echo 'the machine is too noisy to run suspects again: not compared'
else
    ends "$status" 'native' before after after-confirm-1
fi

[ $failures -eq 0 ] || echo "$failures checks failed."
[ $failures -eq 0 ]
