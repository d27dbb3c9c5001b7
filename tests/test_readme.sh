#!/bin/sh
# README's tables of columns are those of the binary.
cd "$1" || exit 1
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
sed -n '/^<!-- dlbench list columns-markdown -->$/,/^<!-- end -->$/p' README.md |
    sed '1d;$d' >"$scratch/readme"
"$2/bench/dlbench" list columns-markdown | sed -e :a -e '/^\n*$/{$d;N;ba' -e '}' >"$scratch/binary"
[ -s "$scratch/readme" ] || {
    echo "README.md has no table between its markers"
    exit 1
}
diff "$scratch/readme" "$scratch/binary"
