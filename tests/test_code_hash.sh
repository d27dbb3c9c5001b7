#!/bin/sh
# The hashes that the tuning cache tells kernels by change with the sources of the operator,
# and with nothing else.
#   test_code_hash.sh SOURCES
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
cp -r "$1/impl" "$scratch/impl" || exit 1
failures=0

hashes() {
    cmake -DSOURCE="$scratch/impl" -DOUTPUT="$scratch/$1" -P "$here/bench/code_hash.cmake" ||
        exit 1
}
here=$1
hashes before
for op in $(sed -n 's/^ *{"\([a-z0-9_]*\)", "[0-9a-f]\{16\}"},$/\1/p' "$scratch/before"); do
    known="$known $op"
done
for op in conv lstm gru attention batchnorm; do
    case "$known " in
    *" $op "*) ;;
    *) echo "FAILED: no hash of $op" && failures=1 ;;
    esac
done

# The file, the operators that must change, and those that must not.
changes() {
    echo '/* changed */' >>"$scratch/impl/$1"
    hashes after
    for op in $2; do
        grep "\"$op\"" "$scratch/before" | grep -qxFf - "$scratch/after" &&
            echo "FAILED: $1 does not change $op" && failures=1
    done
    for op in $3; do
        grep "\"$op\"" "$scratch/before" | grep -qxFf - "$scratch/after" ||
            { echo "FAILED: $1 changes $op" && failures=1; }
    done
    cp "$here/impl/$1" "$scratch/impl/$1"
}
changes ops/rnn_kernels.c 'lstm gru' 'conv attention batchnorm'
changes ops/conv_space.c conv 'lstm gru attention batchnorm'
changes core/vec.h 'conv lstm gru attention batchnorm' ''
changes core/brgemm_kernels.c 'conv lstm gru' batchnorm
changes core/vmath_inline.h 'lstm gru attention' 'conv batchnorm'
changes CMakeLists.txt 'conv lstm gru attention batchnorm' ''
hashes after
cmp -s "$scratch/before" "$scratch/after" || { echo 'FAILED: not the same again' && failures=1; }
[ "$failures" -eq 0 ]
