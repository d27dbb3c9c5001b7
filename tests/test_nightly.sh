#!/bin/sh
# bench/nightly.sh with a dlbench that measures nothing: the order of the runs, what compare
# is given, every exit status, what is written, and bad input.  Then configs/nightly.csv as
# the real one plans it, and the workflow: valid YAML whose steps do what they say.
#   test_nightly.sh SOURCES BUILD
top=$1
command -v git >/dev/null 2>&1 || {
    echo 'skipped: git is missing'
    exit 77
}
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
failures=0
unset GITHUB_STEP_SUMMARY
# Neither the user's settings nor the repository around this one.
export HOME="$dir" GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@t
export GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@t

complain() {
    printf 'FAILED: %s\n' "$*"
    sed 's/^/    /' stdout stderr 2>/dev/null
    failures=$((failures + 1))
}

# --- a project whose dlbench writes down how it is called; status.<name> says how it ends
mkdir -p project/bench project/configs
cp "$top/bench/nightly.sh" "$top/bench/setup.sh" project/bench/
cp "$top/configs/nightly.csv" project/configs/
printf '/build/\n/results/\n' >project/.gitignore
cat >project/dlbench <<'STUB'
#!/bin/sh
version=$(cat "$(dirname "$0")/version")
echo "$version: $*" >>"$STUB/log"
name=$1
while [ $# -gt 0 ]; do
    [ "$1" != --out ] || {
        name=$(basename "$2")
        mkdir "$2" && echo "$version" >"$2/results.csv" && echo '{}' >"$2/manifest.json"
    }
    shift
done
case $name in
compare) echo '| the comparison |' ;;
history) echo '### History of what was found' ;;
*) echo "output of $name" ;;
esac
[ ! -e "$STUB/status.$name" ] || exit "$(cat "$STUB/status.$name")"
STUB
chmod +x project/dlbench
git init -q project 2>/dev/null
commit() {
    echo "$1" >project/version
    git -C project add -A && git -C project commit -q -m "version $1" && git -C project tag "v$1"
}
commit 1
commit 2
commit 3
export STUB="$dir"

nightly() {
    rm -rf out log
    project/bench/nightly.sh "$@" >stdout 2>stderr </dev/null
    status=$?
}
ended() { # status, what
    [ "$status" -eq "$1" ] || complain "status $status instead of $1: $2"
}
logged() { # the calls since, without folders
    sed "s|$dir/||g" log | tr '\n' ';'
}
refused() { # words, arguments…
    words=$1
    shift
    nightly "$@"
    ended 2 "nightly.sh $*"
    grep -qF -e "$words" stderr || complain "no '$words': nightly.sh $*"
    [ ! -e out ] || complain "something was written: nightly.sh $*"
}

# --- the order, and what each is given
nightly --out out v1 v2
ended 0 'two revisions'
suite='--suite project/configs/nightly.csv --sweep --budget 151 --quiet --out out'
expected="1: --version;2: --version;1: $suite/base-1;2: $suite/new-1;1: $suite/base-2;"
expected="${expected}2: $suite/new-2;1: $suite/base-3;2: $suite/new-3;2: compare --format md"
expected="$expected --base out/base-3 out/new-3 --base out/base-2 out/new-2"
expected="$expected --base out/base-1 out/new-1 --confirm 5;"
[ "$(logged)" = "$expected" ] || complain "the calls are $(logged) and not $expected"
grep -q '^| the comparison |$' out/summary.md || complain 'no comparison in the summary'
grep -q 'version 2' out/summary.md || complain 'the summary does not name NEW'
grep -q '^against .*version 1' out/summary.md || complain 'the summary does not name BASE'
cmp -s out/summary.md stdout || complain 'the summary is not on standard output'
grep -q '^output of new-2$' out/new-2.txt || complain 'the output of a run is not kept'
[ -z "$(git -C project status --porcelain)" ] || complain 'the working copy was changed'

# --- NEW is the working copy, with what is not committed
echo 3+ >project/version
nightly --out out --rounds 1 --seconds 60 v1 -- --threshold 3
ended 0 'the working copy'
case $(logged) in
*"3+: --suite project/configs/nightly.csv --sweep --budget 31 --quiet --out out/new-1;3+: \
compare --format md --base out/base-1 out/new-1 --threshold 3;") ;;
*) complain "the working copy was not run: $(logged)" ;;
esac
git -C project checkout -q .

# --- exit statuses of compare, and of the runs
for verdict in 0 1 2 3 4 5 6; do
    echo $verdict >status.compare
    nightly --out out --rounds 1 v1 v2
    ended $verdict "compare says $verdict"
    [ -s out/summary.md ] || complain "no summary when compare says $verdict"
done
rm status.compare
while read -r side run result what; do
    echo "$run" >"status.$side"
    nightly --out out --rounds 1 v1 v2
    ended "$result" "$what"
    rm "status.$side"
done <<'RUNS'
new-1 4 0 a noisy run
new-1 3 3 a wrong result of NEW
base-1 3 0 a wrong result of BASE, which compare judges
new-1 6 6 an interrupted run
new-1 2 2 a run that is refused
base-1 127 2 a run that cannot be started
--version 1 2 a build that fails
RUNS
echo 2 >status.base-1
nightly --out out --rounds 1 v1 v2
grep -q 'base could not be run (exit status 2).*out/base-1.txt' stderr ||
    complain 'the run that failed is not named'
grep -q 'output of base-1' stderr || complain 'what the failed run said is not shown'
rm status.base-1

# --- building only, the job's page, the history
nightly --build --out out v1 v2
ended 0 'building'
[ "$(logged)" = '1: --version;2: --version;' ] || complain "--build did $(logged)"
[ ! -e out ] || complain '--build wrote results'
echo before >page
GITHUB_STEP_SUMMARY=$dir/page
export GITHUB_STEP_SUMMARY
nightly --out out --rounds 1 --history kept v1 v2
unset GITHUB_STEP_SUMMARY
ended 0 'with a page and a history'
grep -q '^before$' page && grep -q '^| the comparison |$' page ||
    complain 'the summary was not added to the page'
grep -q '^### History' out/summary.md || complain 'no history in the summary'
sleep 1 # another second, another night
nightly --out out --rounds 1 --history kept v1 v3
[ "$(cat kept/*/results.csv | paste -sd' ' -)" = '2 3' ] ||
    complain "the history holds $(cat kept/*/results.csv) instead of 2 and 3"
[ "$(find kept -name manifest.json | wc -l)" -eq 2 ] || complain 'no manifests in the history'
nightly --out out --rounds 1 v2 v2
ended 0 'the same twice'
grep -q 'the same sources' stderr || complain 'no word about equal sources'

# --- bad input
refused 'name the revision'
refused "unknown option '--rouns'" --rouns 3 v1
refused '--rounds needs a value' v1 --rounds
refused "--rounds does not take '0'" --out out --rounds 0 v1
refused "--seconds does not take 'x'" --out out --seconds x v1
refused "there is no revision 'v9'" --out out v9
refused "'v3' is one revision too many" --out out v1 v2 v3
refused 'nowhere.csv cannot be read' --out out --suite nowhere.csv v1
mkdir taken
nightly --out taken v1
ended 2 'a folder that exists'
grep -q 'taken exists already' stderr || complain 'the taken folder is not named'
project/bench/nightly.sh --help | grep -q -- --history || complain 'no --history in --help'
cp -r project plain
rm -rf plain/.git
plain/bench/nightly.sh --out out v1 >stdout 2>stderr
[ $? -eq 2 ] && grep -q 'is no working copy of git' stderr ||
    complain 'a folder without git is not named'

# --- the suite has every operator, and is planned with an estimate
if [ -x "$2/bench/dlbench" ]; then
    "$2/bench/dlbench" --suite "$top/configs/nightly.csv" --sweep --dry-run >stdout 2>stderr ||
        complain 'configs/nightly.csv is not accepted'
    for op in conv lstm gru attention batchnorm; do
        grep -q "^$op " stdout || complain "no $op in configs/nightly.csv"
    done
    grep -q 'at most [0-9]* s' stdout || complain 'no estimate in the plan'
fi

# --- the workflow
workflow=$top/.github/workflows/nightly.yml
if /usr/bin/python3 -c 'import yaml' 2>/dev/null; then
    /usr/bin/python3 - "$workflow" >steps 2>stderr <<'PYTHON' || complain 'the workflow is no workflow'
import sys, yaml
workflow = yaml.safe_load(open(sys.argv[1]))
assert set(workflow[True]) == {"schedule", "workflow_dispatch"}  # "on" is true in YAML 1.1
assert workflow["permissions"] == {"contents": "read"}
(job,) = workflow["jobs"].values()
steps = job["steps"]
assert [s["uses"].split("@")[0] for s in steps if "uses" in s] == [
    "actions/checkout", "actions/cache", "actions/upload-artifact"]
assert steps[0]["with"]["fetch-depth"] == 0  # the baseline must be there
assert steps[-1]["if"] == "always()" and steps[-1]["with"]["path"] == "nightly"
run = {s["name"]: s["run"] for s in steps if "run" in s}
assert list(run) == ["Choose the baseline", "Build both", "Run and compare"]
for name, text in run.items():
    assert "${{" not in text, name  # what others can set must not become a command
    open(name.split()[0].lower() + ".step", "w").write(text)
PYTHON
    # The steps as the runner starts them, in the project.
    cd project || exit 1
    for verdict in 0 1 2 3 4 5 6; do
        rm -rf nightly nights
        echo $verdict >../status.compare
        BASE=v1 bash -e ../run.step >../stdout 2>../stderr
        status=$?
        case $verdict in
        1 | 3) ended $verdict "the job when compare says $verdict" ;;
        0) ended 0 'the job when nothing is wrong' ;;
        *)
            ended 0 "the job when compare says $verdict"
            grep -q "^::warning.*exit status $verdict" ../stdout ||
                complain "no warning when compare says $verdict"
            ;;
        esac
    done
    rm ../status.compare
    BASE='' GITHUB_ENV=../env bash -e ../choose.step && grep -q '^BASE=.' ../env ||
        complain 'no baseline was chosen'
    BASE=v1 bash -e ../build.step >../stdout 2>../stderr || complain 'the step Build fails'
    echo 1 >../status.--version
    BASE=v1 bash -e ../build.step >../stdout 2>../stderr &&
        complain 'a build that fails does not fail the job'
    cd ..
else
    echo 'the workflow was not looked at: python3-yaml is missing'
fi

[ $failures -eq 0 ] || echo "$failures checks failed."
[ $failures -eq 0 ]
