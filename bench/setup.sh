# setup.sh - what ./dlbench and tests/run share: find what is missing, install it, build.
#
# Sourced by POSIX sh with $here = top of the sources and $me = name for messages.
# Messages are single lines on standard error; whatever fails ends the shell with 2.  sh has
# no local variables: these functions also set missing, packages, wanted and build_….

say() {
    printf '%s: %s\n' "$me" "$*" >&2
}

die() {
    say "$@"
    exit 2
}

has_program() {
    for tried; do
        command -v "$tried" >/dev/null 2>&1 && return
    done
    return 1
}

has_header() { # compiler, language, header
    has_program "$1" &&
        printf '#include <%s>\n' stdarg.h stddef.h stdint.h setjmp.h "$3" |
        "$1" -x "$2" -fsyntax-only - >/dev/null 2>&1
}

has_cmake() {
    has_program cmake || return 1
    version=$(cmake --version | sed -n '1s/[^0-9]*\([0-9]*\)\.\([0-9]*\).*/\1 \2/p')
    [ "${version% *}" -gt 3 ] || { [ "${version% *}" -eq 3 ] && [ "${version#* }" -ge 20 ]; }
}

# One need a line: is it here? | what it is called | Debian package.
check_needs() {
    missing='' packages=''
    while IFS='|' read -r check name package; do
        [ -n "$check" ] || continue
        eval "$check" && continue
        missing="$missing${missing:+, }$name"
        packages="$packages $package"
    done <<NEEDS
$1
NEEDS
    [ -z "$missing" ]
}

needs_to_build='has_cmake|CMake 3.20|cmake
has_program ninja ninja-build|Ninja|ninja-build
has_header ${CC:-cc} c stdio.h|a C compiler|gcc libc6-dev
has_header ${CXX:-c++} c++ vector|a C++ compiler|g++
has_program pkg-config|pkg-config|pkg-config
pkg-config --atleast-version=2.9 hwloc 2>/dev/null|hwloc 2.9|libhwloc-dev
pkg-config --exists libcjson 2>/dev/null|cJSON|libcjson-dev
has_header ${CC:-cc} c csv.h|libcsv|libcsv-dev
has_header ${CXX:-c++} c++ benchmark/benchmark.h|google benchmark|libbenchmark-dev'

# The build does without it when it cannot be had.
needs_onednn='has_header ${CC:-cc} c dnnl.h|oneDNN|libdnnl-dev'

# Installs $packages with apt-get into $log; 1 when that is not possible here.
install_packages() {
    as_root=''
    has_program apt-get || return 1
    if [ "$(id -u)" -ne 0 ]; then
        has_program sudo && sudo -n true 2>/dev/null || return 1
        as_root='sudo -n'
    fi
    say "installing:$packages"
    if [ -z "$(find /var/lib/apt/lists -name '*_Packages*' -mtime -7 -print 2>/dev/null |
        head -n 1)" ]; then
        $as_root apt-get update >>"$log" 2>&1
    fi
    for attempt in 1 2; do
        # $packages is a list of words.
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y \
            --no-install-recommends $packages >>"$log" 2>&1 && return
        [ "$attempt" = 1 ] && $as_root apt-get update >>"$log" 2>&1
    done
    return 1
}

# Sees to all needs or ends with the one command that would.
require() {
    check_needs "$1" && return
    say "missing: $missing"
    wanted=$packages
    install_packages
    check_needs "$1" && return
    if has_program apt-get; then
        if [ "$(id -u)" -eq 0 ]; then
            die "still missing: $missing; 'apt-get install$wanted' did not bring it ($log)"
        fi
        die "no rights to install; run: sudo apt-get install -y$wanted"
    fi
    die "install $missing with this system's package manager, then start again"
}

# Tries to get what would only be nice to have; says what goes without it.
wish() { # needs, what is left out without them
    check_needs "$1" && return
    say "missing: $missing"
    install_packages
    check_needs "$1" && return
    say "no $missing here: $2"
    return 1
}

show_progress() {
    while sleep 1; do
        steps=$(tail -n 1 "$1" | sed -n 's/^\(\[[0-9]*\/[0-9]*\]\).*/\1/p')
        [ -z "$steps" ] || printf '\r%s: building %s ' "$me" "$steps" >&2
    done
}

# Runs a command with its output in a log; its last lines are shown when it fails.
logged() { # log, command…
    output=$1 progress=''
    shift
    if [ -t 2 ]; then
        show_progress "$output" &
        progress=$!
    fi
    "$@" >>"$output" 2>&1
    result=$?
    if [ -n "$progress" ]; then
        kill "$progress" 2>/dev/null
        wait "$progress" 2>/dev/null
        printf '\r\033[K' >&2
    fi
    if [ "$result" -ne 0 ]; then
        # A compiler's first complaint says more than the last lines do.
        { grep -nE '(error|Error)( |:)' "$output" | head -n 5; tail -n 15 "$output"; } >&2
        die "building failed; all of it is in $output"
    fi
}

# Configures and builds a preset; further arguments go to the configuration.
build() { # preset, cmake arguments…
    build_preset=$1 build_tree=$here/build/$1
    shift
    mkdir -p "$build_tree"
    # A tree that was moved or copied from elsewhere cannot be configured again.
    if [ -f "$build_tree/CMakeCache.txt" ] &&
        ! grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$here" "$build_tree/CMakeCache.txt"; then
        rm -rf "$build_tree/CMakeCache.txt" "$build_tree/CMakeFiles"
    fi
    : >"$build_tree/build.log"
    logged "$build_tree/build.log" cmake -S "$here" --preset "$build_preset" "$@"
    logged "$build_tree/build.log" cmake --build "$build_tree"
}
