#!/bin/sh
# ./dlbench on machines made of stand-ins: nothing there and no rights, no apt-get, rights
# but no such package, everything there; and what is built again when.
#   test_launcher.sh SOURCES
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
top="$dir/a checkout"
failures=0

mkdir -p "$top/bench" "$top/impl" "$top/reference" "$dir/tools" "$dir/machine"
cp "$1/dlbench" "$top/"
cp "$1/bench/setup.sh" "$1/bench/options.c" "$top/bench/"
cp "$1/CMakeLists.txt" "$1/CMakePresets.json" "$top/"
for tool in sh dirname readlink find mkdir grep sed head tail cat sleep mv rm env touch wc chmod; do
    ln -s "$(command -v "$tool")" "$dir/tools/$tool"
done

complain() {
    printf 'FAILED: %s\n' "$*"
    sed 's/^/    /' "$dir/stderr"
    failures=$((failures + 1))
}

# A program of the machine: its name, then the lines of a script.
program() {
    name=$1
    shift
    { echo '#!/bin/sh'; printf '%s\n' "$@"; } >"$dir/machine/$name"
    chmod +x "$dir/machine/$name"
}

start() {
    env -i PATH="$dir/machine:$dir/tools" LOG="$dir/calls" HERE="$top" \
        "$top/dlbench" "$@" >"$dir/stdout" 2>"$dir/stderr"
    status=$?
}

expect() { # status, words that standard error must hold
    [ "$status" -eq "$1" ] || complain "status $status instead of $1"
    shift
    for words; do
        grep -qF -e "$words" "$dir/stderr" || complain "no '$words'"
    done
}

# Nothing there, no rights: the one command to run.
program id 'echo 1000'
program apt-get 'echo "apt-get $*" >>"$LOG"'
start
expect 2 'missing: CMake 3.20, Ninja, a C compiler' \
    'run: sudo apt-get install -y cmake ninja-build gcc libc6-dev g++ pkg-config' \
    'libhwloc-dev' 'libcjson-dev' 'libcsv-dev' 'libbenchmark-dev'
[ ! -e "$dir/calls" ] || complain 'apt-get was called without rights'

# sudo that wants a password is no right either; one that does not is used.
program sudo '[ "$2" = true ] && exit 1; echo "sudo $*" >>"$LOG"'
start
expect 2 'run: sudo apt-get install -y'
program sudo '[ "$1" = -n ] && shift; exec "$@"'
program true ''
start
grep -q 'apt-get install -y --no-install-recommends cmake ninja-build' "$dir/calls" ||
    complain 'apt-get was not asked through sudo'
rm "$dir/machine/sudo" "$dir/calls"

# Root, but the packages bring nothing.
program id 'echo 0'
start
expect 2 'installing: cmake ninja-build' "still missing: CMake 3.20" 'setup.log'

# Another package manager: the names of what is needed.
rm "$dir/machine/apt-get"
start
expect 2 "install CMake 3.20, Ninja" "package manager"

# An old CMake is none.
program cmake 'echo "cmake version 3.16.3"'
start
expect 2 'missing: CMake 3.20'

# Everything there but oneDNN: built without it, started with the user's arguments.
program ninja ''
program pkg-config ''
program cc 'case "$(cat)" in *dnnl.h*) exit 1 ;; esac'
program c++ ''
program cmake '[ "$1" = --version ] && echo "cmake version 3.25.1" && exit' \
    'echo "cmake $*" >>"$LOG"' \
    '[ -e "$HERE/broken" ] && echo "file.c:1:1: error: no sense" && exit 1' \
    '[ "$1" = --build ] || exit 0' \
    'mkdir -p "$2/bench"' \
    'printf "#!/bin/sh\nprintf \"[%%s]\" \"\$@\"\nexit 5\n" >"$2/bench/dlbench"' \
    'chmod +x "$2/bench/dlbench"'
rm -f "$dir/calls"
start --op conv '--shape=a b' ''
expect 5 'no oneDNN here' 'building into build/release'
[ "$(cat "$dir/stdout")" = '[--op][conv][--shape=a b][]' ] ||
    complain "arguments were changed: $(cat "$dir/stdout")"
grep -q -- '--preset release .*DLBENCH_ONEDNN=OFF' "$dir/calls" ||
    complain 'not configured without oneDNN'

# Fresh: no word, no cmake.
rm "$dir/calls"
start
expect 5
[ -s "$dir/stderr" ] && complain 'words though nothing was to be done'
[ -e "$dir/calls" ] && complain 'cmake though nothing was to be done'

# Through a link, from another folder.
ln -s "$top/dlbench" "$dir/link"
(cd / && env -i PATH="$dir/machine:$dir/tools" LOG="$dir/calls" HERE="$top" "$dir/link" x) \
    >"$dir/stdout" 2>"$dir/stderr"
[ "$(cat "$dir/stdout")" = '[x]' ] || complain 'not started through a link'

# A source that is newer: built again.  One that does not compile: said so, and not started.
sleep 0.05
touch "$top/bench/options.c"
start
expect 5 'building'
touch "$top/broken" "$top/bench/options.c"
start
expect 2 'file.c:1:1: error: no sense' 'building failed' 'build.log'
[ -s "$dir/stdout" ] && complain 'started though building failed'
start
expect 2 'building failed'
rm "$top/broken"
start
expect 5 'building'

# Moved: built again, since the binary knows where its suites are.
mv "$top" "$dir/moved"
top=$dir/moved
start
expect 5 'building'

[ $failures -eq 0 ] || echo "$failures checks failed."
[ $failures -eq 0 ]
