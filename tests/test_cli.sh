#!/bin/sh
# The built binary against bad input: the exit status, one sentence on standard error that
# names what is wrong and what would be accepted, nothing on standard output, nothing
# written.  Then the good ways: listings, a dry run, a run, an interrupted one resumed.
#   test_cli.sh SOURCES BUILD
bench=$2/bench/dlbench
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
failures=0
unset NO_COLOR OMP_NUM_THREADS
export XDG_CACHE_HOME="$dir/cache"
point='--op conv --shape mb1ic8ih8oc8kh3ph1'

complain() {
    printf 'FAILED: %s\n' "$*"
    sed 's/^/    /' stderr
    failures=$((failures + 1))
}

# Runs dlbench and leaves $status, stdout and stderr.
run() {
    "$bench" "$@" >stdout 2>stderr </dev/null
    status=$?
}

# The words (separated by |) that the sentence must hold, then the arguments.
refused() {
    words=$1
    shift
    run "$@"
    [ "$status" -eq 2 ] || complain "status $status instead of 2: dlbench $*"
    [ -s stdout ] && complain "something on standard output: dlbench $*"
    [ "$(wc -l <stderr)" -eq 1 ] || complain "not one line: dlbench $*"
    grep -q '[.]$' stderr || complain "no whole sentence: dlbench $*"
    old_ifs=$IFS
    IFS='|'
    for word in $words; do
        grep -qF -e "$word" stderr || complain "no '$word': dlbench $*"
    done
    IFS=$old_ifs
    [ ! -e out ] && [ ! -e results ] || complain "something was written: dlbench $*"
    rm -rf out results
}

fine() {
    run "$@"
    [ "$status" -eq 0 ] || complain "status $status instead of 0: dlbench $*"
}

# What is timed may be too noisy to conclude (4) without anything being wrong.
timed() {
    run "$@"
    [ "$status" -eq 0 ] || [ "$status" -eq 4 ] ||
        complain "status $status instead of 0 or 4: dlbench $*"
}

# --- words and options
refused "Unknown command 'docter'|did you mean 'doctor'" docter
refused "Unknown option '--treads'|did you mean '--threads'" --treads 2
refused "--op needs a value" --op
refused "--op needs a value" --op --sweep
refused "--sweep takes no value" --sweep=1
refused "'frwd'|did you mean 'fwd'" --op conv --pass frwd
refused "'nativ'|did you mean 'native'" --op conv --impl nativ
refused "'quick'|exact, winograd" --op conv --accuracy quick
refused "'warm'|hot" --op conv --cache-state warm
refused "--budget|seconds" --op conv --budget 0
refused "--budget|'soon'" --op conv --budget soon
refused "--seed|'-1'" --op conv --seed -1
refused "KIND=FILE" --op conv --export gbench
refused "'opz'|did you mean 'ops'" list opz

# --- options that contradict
refused "--resume and --op contradict" --resume run --op conv
refused "--sweep and --candidate contradict" $point --sweep --candidate direct
refused "--shape and --suite contradict" $point --suite configs/smoke.csv
refused "dierct" $point --candidate dierct
refused "zz4" $point --candidate direct/zz4
refused "--dry-run and --check contradict" $point --dry-run --check
refused "--shape|--op" --shape mb1ic8ih8oc8kh3ph1
refused "--topology|--dry-run" $point --topology 'pack:1 core:2 pu:1'
refused "--sweep|'doctor'" doctor --sweep

refused "'tune'|--study|--replay FILE" tune
refused "--replay and --op" tune --replay nowhere --op conv
refused "--study" --study --op conv
refused "nowhere" tune --replay nowhere

refused "--cache and --no-cache contradict" $point --cache tuning.csv --no-cache

# --- operators, passes, instruction sets, thread sets
refused "'cnov'|did you mean|conv" --op cnov
refused "'nothing'|conv" --op conv,nothing
refused "conv|fwd_train|bwd_data, bwd_weights" $point --pass fwd_train --out out
refused "'avx99'|scalar" $point --isa avx99 --out out
refused "'banana'" $point --threads banana --out out
refused "0 threads" $point --threads 0 --out out
refused "1024|--oversubscribe" $point --threads 1024 --out out
cap=${DLBENCH_ISA-}
export DLBENCH_ISA=avx99
refused "'avx99'|scalar" $point --out out
unset DLBENCH_ISA
[ -z "$cap" ] || export DLBENCH_ISA="$cap"

# --- shapes
refused "character 9|'xh'|did you mean" --op conv --shape mb1ic64_xh3 --out out
refused "'oc'" --op conv --shape mb1ic64ih8kh3 --out out
refused "'ic'|twice" --op conv --shape ic8ic8ih8oc8kh3 --out out
refused "reaches over 5|ih3" --op conv --shape mb1ic8ih3oc8kh5 --out out
refused "groups g3" --op conv --shape g3mb1ic8ih8oc9kh1 --out out
refused "oh4|oh8" --op conv --shape mb1ic8ih8oh4oc8kh1 --out out
refused "'ic'|out of range" --op conv --shape mb1ic99999999999999999999ih8oc8kh1 --out out
refused "2^40" --op conv --shape mb16777216ic16777216ih16777216oc1kh1 --out out
refused "'0'|minibatch" $point --mb 0 --out out
refused "'x'|minibatch" $point --mb 1,x --out out

# --- suites
: >empty.csv
echo 'op,name,count,shape' >header.csv
printf 'op,count,name,shape\nconv,1,a,mb1ic8ih8oc8kh1\n' >order.csv
printf '# a comment\nop,name,count,shape\nconv,a,one,mb1ic8ih8oc8kh1\n' >count.csv
printf 'op,name,count,shape\ncnov,a,1,mb1ic8ih8oc8kh1\n' >operator.csv
printf 'op,name,count,shape\nconv,a,1,mb1ic8ih8oc8\n' >shape.csv
printf 'op,name,count,shape\nconv,a,1\n' >short.csv
printf 'op,name,count,shape\nconv,"a,1,mb1ic8ih8oc8kh1\n' >quote.csv
head -c 4096 /dev/urandom >random.csv
refused "nowhere.csv" --op conv --suite nowhere.csv --out out
refused "$dir" --op conv --suite "$dir" --out out
refused "empty.csv|empty|op,name,count,shape" --op conv --suite empty.csv --out out
refused "header.csv|no problem" --op conv --suite header.csv --out out
refused "order.csv, line 1|'name'|op,name,count,shape" --op conv --suite order.csv --out out
refused "count.csv, line 3|'count'|'one'" --op conv --suite count.csv --out out
refused "operator.csv, line 2|'op'|did you mean 'conv'" --op conv --suite operator.csv
refused "shape.csv, line 2|'shape'|'kh'" --op conv --suite shape.csv --out out
refused "short.csv, line 2|4 cells" --op conv --suite short.csv --out out
refused "quote.csv, line 2" --op conv --suite quote.csv --out out
refused "random.csv, line" --op conv --suite random.csv --out out
refused "/proc/self/mem|Input/output error" --op conv --suite /proc/self/mem --out out
if [ "$(id -u)" -ne 0 ]; then
    chmod a-r header.csv
    refused "header.csv|Permission denied" --op conv --suite header.csv --out out
fi

# --- places
: >file
refused "file" $point --out file/run
refused "/proc/run" $point --out /proc/run
refused "nowhere" --resume nowhere
mkdir other broken foreign
echo '{' >broken/manifest.json
echo '{}' >foreign/manifest.json
refused "other/manifest.json" --resume other
refused "file" --resume file
refused "broken/manifest.json, line 2|JSON" --resume broken
refused "foreign/manifest.json" --resume foreign
refused "nonsense" $point --dry-run --topology nonsense

# --- runs that are there already
refused "'dlbench history RUN...'" history
refused "nowhere" history "$1/results/sample" nowhere
refused "$dir/other holds no run" history "$dir/other"
refused "broken/manifest.json" history broken/manifest.json
refused "'yaml'|text, md, csv, json" history --format yaml "$1/results/sample"
refused "'dlbench export KIND=FILE RUN...'" export bmf=out
refused '"bfm"|gbench, gbench-median, action, bmf or otava' export bfm=out "$1/results/sample"
refused '"bmf" holds one run' export bmf=out "$1/results/sample" "$1/results/sample"
refused "nowhere/out" export bmf=nowhere/out "$1/results/sample"

# --- a disk that is full before the run, and after it
# Files that may not grow, and where the system lets us, a file system without room.
(
    trap '' XFSZ
    ulimit -f 2
    exec "$bench" $point --threads 1 --quiet --out full >stdout 2>stderr
)
status=$?
[ "$status" -eq 2 ] || complain "files full: status $status instead of 2"
grep -q 'full/[a-z.]*.* File too large[.]$' stderr || complain 'full file not named'
run $point --threads 1 --quiet --out exported --export gbench=/dev/full
[ "$status" -eq 6 ] || complain "export full: status $status instead of 6"
# Noisy rows are not exported.
grep -qE '/dev/full .*No space left on device[.]$|no row to export' stderr ||
    complain 'full export not named'
mkdir disk
if unshare -rm mount -t tmpfs -o size=12k none disk 2>/dev/null; then
    unshare -rm sh -c 'mount -t tmpfs -o size=12k none disk && shift && exec "$@"' sh x \
        "$bench" $point --threads 1 --quiet --out disk/run >stdout 2>stderr
    status=$?
    [ "$status" -eq 2 ] || complain "disk full: status $status instead of 2"
    grep -q 'disk/run/.*No space left on device[.]$' stderr || complain 'full disk not named'
else
    echo 'no tmpfs in a name space here: a full disk is tested with limited files only'
fi

# --- a problem larger than memory is a row, not an end
timed --op conv --shape mb4ic1024ih8192oc8kh1 --shape mb1ic8ih8oc8kh1 --threads 1 \
    --out large --quiet
grep -q 'skipped,"needs about 6[0-9.]* GiB of memory, [0-9.]* GiB are free"' \
    large/results.csv || complain 'a problem larger than memory is not skipped'
grep -qE '^1,([^,]*,){4}(ok|noisy),' large/results.csv ||
    complain 'nothing after a problem larger than memory'

# --- what works
fine --help
grep -q -- '--sweep' stdout || complain 'no --sweep in --help'
fine help
fine --version
grep -q '[0-9]' stdout || complain 'no version in --version'
for topic in '' ops suites tiles isa columns; do
    fine list $topic
    [ -s stdout ] || complain "nothing in: list $topic"
done
fine history "$1/results/sample"
grep -q '11 more nights are needed' stdout || complain 'history says not how many are missing'
fine history --format json "$1/results"
grep -q '"nights_needed":.11' stdout || complain 'no nights_needed in the history as JSON'
fine export action=exported.json "$1/results/sample"
grep -q '"unit":.*"ns"' exported.json || complain 'nothing was exported'
fine topology
fine topology --topology 'pack:2 numa:1 l3:1 core:4 pu:2'
fine $point --dry-run
[ ! -e results ] || complain '--dry-run wrote something'
timed $point --threads 1 --out run --quiet
for table in results.csv samples.csv manifest.json; do
    [ -s "run/$table" ] || complain "no $table in the run folder"
done
refused "run" $point --threads 1 --out run
fine $point --threads 1 --check --out checked --quiet
fine $point --pass bwd --threads 1 --check
for pass in bwd_data bwd_weights; do
    grep -q "^$pass " stdout || complain "--pass bwd did not run $pass"
done

# --- the space of a problem
fine list tiles --op conv --shape mb1ic8ih8oc8kh3ph1 --threads 1
grep -q 'points are legal' stdout || complain 'no search space'
refused "'xx'" list tiles --op conv --shape mb1ic8ih8oc8xx3

# --- recorded searches, again and again the same
fine tune --replay "$1/results/sample"
grep -q 'searches replayed: above the best recorded by' stdout || complain 'no replay'
cp stdout once
fine tune --replay "$1/results/sample/trials.csv"
cmp -s stdout once || complain 'two replays differ'

# --- interrupted: the row in flight is finished, --resume does the rest
"$bench" --op conv --suite "$1/configs/smoke.csv" --threads 1 --out cut >stdout 2>stderr &
job=$!
tries=0
while [ "$(wc -l 2>/dev/null <cut/results.csv || echo 0)" -lt 2 ] && [ $tries -lt 600 ]; do
    sleep 0.1
    tries=$((tries + 1))
done
kill -INT $job
wait $job
status=$?
[ "$status" -eq 6 ] || complain "interrupted: status $status instead of 6"
rows=$(wc -l <cut/results.csv)
head -n "$rows" cut/results.csv >before
timed --resume cut --quiet
head -n "$rows" cut/results.csv | cmp -s - before ||
    complain '--resume changed rows that were finished'
[ "$(wc -l <cut/results.csv)" -gt "$rows" ] || complain '--resume added no row'

[ $failures -eq 0 ] || echo "$failures checks failed."
[ $failures -eq 0 ]
