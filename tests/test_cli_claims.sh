#!/bin/sh
# dlbench claims: bad input, a run of two claims, the same verdicts from its files.
#   test_cli_claims.sh SOURCES BUILD
bench=$2/bench/dlbench
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
failures=0
unset NO_COLOR OMP_NUM_THREADS
export XDG_CACHE_HOME="$dir/cache"

complain() {
    printf 'FAILED: %s\n' "$*"
    cat stdout stderr
    failures=$((failures + 1))
}
run() {
    "$bench" "$@" >stdout 2>stderr </dev/null
    status=$?
}
refused() { # words separated by |, arguments…
    words=$1
    shift
    run "$@"
    [ "$status" -eq 2 ] || complain "status $status instead of 2: dlbench $*"
    [ "$(wc -l <stderr)" -eq 1 ] || complain "not one line: dlbench $*"
    old_ifs=$IFS
    IFS='|'
    for word in $words; do
        grep -qF -e "$word" stderr || complain "no '$word': dlbench $*"
    done
    IFS=$old_ifs
    [ ! -e out ] || complain "something was written: dlbench $*"
}

refused "'gru-parms'|did you mean 'gru-params'" claims --claim gru-parms --out out
refused 'nowhere' claims --from nowhere
refused '--from and --quick' claims --from nowhere --quick
refused "--claim belongs to the command claims" --claim gru-params
refused '--resume and --claim' claims --resume nowhere --claim gru-params
refused 'nowhere' claims --resume nowhere
refused 'nowhere/train-images|four files' claims --data nowhere --out out
refused '--from and --data' claims --from nowhere --data nowhere
run list claims
[ "$status" -eq 0 ] && grep -q '^gru-params  *answer  8' stdout || complain 'no list of claims'

run claims --claim gru-params,relu-cheaper --quick --threads 1 --quiet --out out
[ "$status" -eq 0 ] || complain "claims ended with $status"
grep -q 'gru-params .* supported ' stdout || complain 'the count of parameters is not 3/4'
grep -q '^2 claims:' stdout || complain 'not the two claims that were asked for'
[ -s out/manifest.json ] && [ -s out/topology.xml ] || complain 'the folder is not whole'
[ ! -e out/results.csv ] || complain 'a table that is not written to'
cp out/claims.csv once
run claims --from out --claim gru-params,relu-cheaper
[ "$status" -eq 0 ] || complain "claims --from ended with $status"
cmp -s once out/claims.csv || complain 'other verdicts from the same files'
# What is there is not measured again; what is missing is.
grep -v ',gru-params,' out/observations.csv >kept
cp kept out/observations.csv
printf '1,torn' >>out/observations.csv
run claims --resume out --quiet
[ "$status" -eq 0 ] || complain "claims --resume ended with $status"
head -n "$(wc -l <kept)" out/observations.csv | cmp -s - kept || complain 'what was measured changed'
tail -n +"$(($(wc -l <kept) + 1))" out/observations.csv >added
[ "$(grep -c ',gru-params,' added)" -eq 6 ] || complain 'what was missing is missing'
awk -F, 'NR == FNR { seen[$3, $4, $5]; next } ($3, $4, $5) in seen' kept added >twice
[ ! -s twice ] || complain 'measured twice'
grep -q '^2 claims:' stdout || complain 'not the claims that it was started with'
run --resume out
[ "$status" -eq 2 ] && grep -q "begun by 'claims'" stderr || complain 'resumed by another command'

run claims --from out
[ "$(wc -l <out/claims.csv)" -gt 20 ] || complain 'not all claims are judged'
grep -q 'gru-faster,.*not measured' out/claims.csv || complain 'what was not run is not said'

# Ten images of 2 x 2, one of each class, to train on and to test on.
mkdir images
for part in train t10k; do
    { printf '\000\000\010\003\000\000\000\012\000\000\000\002\000\000\000\002'
      printf '%s' 0123456789abcdefghijklmnopqrstuvwxyzABCD; } >images/$part-images-idx3-ubyte
    printf '\000\000\010\001\000\000\000\012\000\001\002\003\004\005\006\007\010\011' \
        >images/$part-labels-idx1-ubyte
done
run claims --claim dying-relu --quick --threads 1 --quiet --data images --out learnt
[ "$status" -eq 0 ] || complain "claims --data ended with $status"
grep -q 'dying,.*,dead_share,' learnt/observations.csv || complain 'nothing was learnt of files'
[ "$(grep -c ',relu,training_loss,1,' learnt/observations.csv)" -eq 200 ] ||
    complain 'not a curve of 50 steps for each of four rates'
[ "$(grep -c ',relu,training_loss,1,150,' learnt/observations.csv)" -eq 4 ] ||
    complain 'a curve does not end with the last of its 150 steps'
truncate -s 55 images/t10k-images-idx3-ubyte
rm -r out
refused 't10k-images-idx3-ubyte|55 bytes|truncated' claims --data images --out out

run claims --claim gradients-right --threads 1 --quiet --out gradients
[ "$status" -eq 0 ] || complain "claims ended with $status"
grep -q 'gradients-right .* supported ' stdout || complain 'a backward pass is wrong'

[ "$failures" -eq 0 ] || {
    echo "$failures checks failed."
    exit 1
}
