#!/bin/sh
# Is NEW slower than BASE?  Builds both revisions, runs a suite with one and the other in
# turn, and compares: what a nightly job does, and what can be done by hand before a change
# is pushed.  Needs a git working copy; changes nothing in it but build/ and the results.
me=nightly.sh
here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P) || exit 2
. "$here/bench/setup.sh"

usage() {
    cat <<USAGE
bench/nightly.sh [options] BASE [NEW] [-- options of compare]

  BASE, NEW       revisions; without NEW: the working copy as it is
  --out DIR       folder for the runs and summary.md, made anew;
                  default: results/nightly-<utc>
  --suite FILE    problems; default: configs/nightly.csv
  --rounds N      runs of each side, in turn: base, new, base, new, …; default 3
  --seconds N     for the runs of both sides together; default 900
  --history DIR   keep the tables of each night's first run of NEW there, and add to the
                  summary where the times of all nights changed
  --build         build both and stop

Without options of its own, compare gets --confirm 5: what it suspects is run again, five
times.  Exit status: that of compare (0 fine, 1 a regression, 3 a wrong result, 4 too
noisy, 5 the machine changed); 2 for what cannot be built or run; 6 when interrupted.
USAGE
}

is_count() {
    case $1 in
    '' | *[!0-9]* | 0*) return 1 ;;
    esac
}

stamp=$(date -u +%Y%m%dT%H%M%SZ)
out=$here/results/nightly-$stamp suite=$here/configs/nightly.csv history=''
rounds=3 seconds=900 only_build='' base='' new=''
while [ $# -gt 0 ]; do
    case $1 in
    --out | --suite | --rounds | --seconds | --history)
        [ $# -gt 1 ] && [ -n "$2" ] || die "$1 needs a value after it; see --help"
        case $1 in
        --out) out=$2 ;;
        --suite) suite=$2 ;;
        --rounds) rounds=$2 ;;
        --seconds) seconds=$2 ;;
        --history) history=$2 ;;
        esac
        shift
        ;;
    --build) only_build=yes ;;
    --help | -h) usage && exit 0 ;;
    --) shift && break ;;
    -*) die "unknown option '$1'; see --help" ;;
    *)
        if [ -z "$base" ]; then
            base=$1
        elif [ -z "$new" ]; then
            new=$1
        else
            die "'$1' is one revision too many: BASE and NEW are taken"
        fi
        ;;
    esac
    shift
done
[ $# -gt 0 ] || set -- --confirm 5
[ -n "$base" ] || die "name the revision to compare with, as: bench/nightly.sh HEAD~1"
is_count "$rounds" || die "--rounds does not take '$rounds'; accepted: a number from 1"
is_count "$seconds" || die "--seconds does not take '$seconds'; accepted: a number from 1"
[ -r "$suite" ] || die "$suite cannot be read; --suite names a CSV of problems"

absolute() { # folder that exists / name
    printf '%s/%s\n' "$(CDPATH='' cd -- "$(dirname -- "$1")" && pwd -P)" "$(basename -- "$1")"
}
suite=$(absolute "$suite")

has_program git || die "git is needed to get at the revisions; install it"
git -C "$here" rev-parse --git-dir >/dev/null ||
    die "$here is no working copy of git, so that no other revision can be built"

commit_of() { # revision
    git -C "$here" rev-parse --verify --quiet "$1^{commit}" ||
        die "there is no revision '$1' here; a shallow clone needs 'git fetch --unshallow'"
}

# A clone that shares the objects of this one; kept, so that the next night builds less.
check_out() { # name, commit
    tree=$here/build/nightly/$1
    [ -d "$tree/.git" ] || {
        rm -rf "$tree"
        git clone --quiet --shared --no-checkout -- "$here" "$tree" || exit 2
    }
    git -C "$tree" checkout --quiet --force --detach "$2" ||
        die "$2 cannot be checked out into $tree; remove that folder and try again"
}

mkdir -p "$here/build/nightly" || exit 2
base_commit=$(commit_of "$base") || exit 2
check_out base "$base_commit"
base_tree=$tree
if [ -n "$new" ]; then
    new_commit=$(commit_of "$new") || exit 2
    check_out new "$new_commit"
    new_tree=$tree
else
    new_commit=$(commit_of HEAD) || exit 2
    new_tree=$here
fi
if [ "$base_commit" = "$new_commit" ] &&
    [ -z "$(git -C "$new_tree" status --porcelain)" ]; then
    say 'BASE and NEW are the same sources: what differs is noise'
fi

for tree in "$base_tree" "$new_tree"; do
    [ -x "$tree/dlbench" ] || die "$tree has no dlbench to start: the revision is too old"
    "$tree/dlbench" --version >&2 || die "$tree could not be built"
done
[ -z "$only_build" ] || exit 0

[ ! -e "$out" ] || die "$out exists already; --out names a new folder"
mkdir -p "$out" || exit 2
out=$(absolute "$out")
trap 'exit 6' INT TERM

mismatch=''
run_side() { # name, tree, round
    say "$1, round $3 of $rounds"
    "$2/dlbench" --suite "$suite" --sweep --budget $((seconds / (2 * rounds) + 1)) --quiet \
        --out "$out/$1-$3" >"$out/$1-$3.txt" 2>&1
    result=$?
    case $result in
    0 | 4) ;;
    3) [ "$1" = base ] || mismatch=yes ;;
    6) tail -n 3 "$out/$1-$3.txt" >&2 && exit 6 ;;
    *)
        tail -n 5 "$out/$1-$3.txt" >&2
        die "$1 could not be run (exit status $result); its output is $out/$1-$3.txt"
        ;;
    esac
}

round=1
while [ "$round" -le "$rounds" ]; do
    run_side base "$base_tree" "$round"
    run_side new "$new_tree" "$round"
    set -- --base "$out/base-$round" "$out/new-$round" "$@"
    round=$((round + 1))
done

summary=$out/summary.md
short() { # tree
    git -C "$1" log -1 --format='`%h` %s' | tr -d '\n'
}
{
    printf '## Performance of %s\n\n' "$(short "$new_tree")"
    printf 'against %s\n\n' "$(short "$base_tree")"
} >"$summary"
"$new_tree/dlbench" compare --format md "$@" >>"$summary"
verdict=$?

if [ -n "$history" ]; then
    mkdir -p "$history/$stamp" &&
        cp "$out/new-1/results.csv" "$out/new-1/manifest.json" "$history/$stamp/" ||
        die "$history cannot take this night's tables"
    { echo && "$new_tree/dlbench" history --format md "$history"; } >>"$summary" ||
        say 'the history could not be read; this night is not concerned'
fi

cat "$summary"
[ -z "${GITHUB_STEP_SUMMARY-}" ] || cat "$summary" >>"$GITHUB_STEP_SUMMARY"
say "runs and summary: $out"
[ -z "$mismatch" ] || exit 3
exit $verdict
