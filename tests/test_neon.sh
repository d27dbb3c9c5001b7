#!/bin/sh
# The kernels compile and link for AArch64 with the flags that impl/CMakeLists.txt gives
# them there, and exp, tanh and sigmoid are right where qemu-aarch64 runs them.  77 (skipped)
# without a cross compiler.
top=$1
cross=aarch64-linux-gnu-gcc
if ! echo '#include <stdio.h>' | $cross -fsyntax-only -x c - 2>/dev/null; then
    echo "skipped: no $cross here; 'apt-get install gcc-aarch64-linux-gnu' brings it"
    exit 77
fi
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT

flags_of() {
    sed -n "s/^set(flags_$1 \(.*\))/\1/p" "$top/impl/CMakeLists.txt"
}

compile() { # object, source, more flags
    object=$1 source=$2
    shift 2
    $cross -std=gnu17 -O3 -fPIC -D_GNU_SOURCE -DDLBENCH_VERSION='"0"' -Wall -Wextra \
        -Wno-missing-field-initializers -Wvla -Wmissing-prototypes \
        -Wstrict-prototypes -Werror -I"$top/impl" "$@" -c "$source" -o "$dir/$object.o" ||
        exit 1
}

[ -n "$(flags_of neon)" ] || { echo 'impl/CMakeLists.txt sets no flags_neon'; exit 1; }
for source in "$top"/impl/*/*.c; do
    name=$(basename "$source" .c)
    case $name in
    *_kernels)
        # Flags are lists of words.
        compile "$name.scalar" "$source" $(flags_of scalar) \
            -DDLB_TARGET_ISA=scalar -DDLB_TARGET_SCALAR
        compile "$name.neon" "$source" $(flags_of neon) \
            -DDLB_TARGET_ISA=neon -DDLB_TARGET_NEON
        ;;
    *) compile "$name" "$source" -DDLB_BUILD_SCALAR -DDLB_BUILD_NEON ;;
    esac
done
$cross -shared -Wl,-z,defs -o "$dir/impl.so" "$dir"/*.o -lm || exit 1

command -v qemu-aarch64 >/dev/null 2>&1 || exit 0
compile vmath_errors "$top/tests/vmath_errors.c"
compile vmath_exhaustive "$top/tests/vmath_exhaustive.c" -Wno-unknown-pragmas
$cross -static -o "$dir/vmath" "$dir"/*.o -lm && qemu-aarch64 "$dir/vmath" 65537
