#!/bin/sh
# The layers: impl <- reference <- bench <- tests, each foreign library in one place, and
# no symbol of a kernel object but those that end in its instruction set's name, so that no
# AVX-512 copy of a shared helper can run on an older processor.
top=$1 tree=$2
cd "$top" || exit 1
wrong=0

complain() {
    printf '%s\n' "$*"
    wrong=1
}

# Files under the folders that include what the pattern says, but for the allowed ones.
only_in() { # pattern of the header, folders, allowed files (extended regex), the rule
    found=$(grep -rlE "^[[:space:]]*#[[:space:]]*include[[:space:]]*[<\"]($1)[>\"]" $2 \
        --include='*.[ch]' --include='*.cc' | grep -vE "^($3)$")
    [ -z "$found" ] || complain "$4; but it is included in:" $found
}

# Headers of a folder as they are included: below the folder, or beside the includer.
headers() {
    find "$1" -name '*.h' | sed "s|^$1/||; s|[.]|[.]|g" | paste -sd'|' -
}

bench_only=$(headers bench)
reference_only=$(headers reference)
only_in "$bench_only" 'impl reference' '' 'headers of bench/ are for bench/ and tests/'
only_in "$reference_only" impl '' 'headers of reference/ are not for impl/'
only_in '.*tests/.*|.*_fixture[.]h' 'impl reference bench' '' 'tests/ is for tests only'
only_in '(oneapi/dnnl/)?dnnl.*' 'impl bench tests' '' 'oneDNN is seen in reference/ only'
only_in '(oneapi/dnnl/)?dnnl.*' reference 'reference/onednn[a-z0-9_]*[.][ch]|reference/[a-z0-9_]*_onednn[.]c' \
    'oneDNN is seen by the adapters only'
only_in 'benchmark/.*' 'impl reference bench tests' 'bench/measure/[a-z0-9_]*[.]cc' \
    'google benchmark is seen in one .cc of bench/measure'
only_in 'hwloc.*' 'impl reference bench' 'bench/machine/[a-z0-9_]*[.][ch]' \
    'hwloc is seen in bench/machine only'
only_in 'csv[.]h' 'impl reference bench tests' 'bench/record/csv[.]c' \
    'libcsv is seen in bench/record/csv.c only'
only_in 'omp[.]h' impl '' 'impl/ opens no parallel region'

[ "$(grep -rlE '#include <benchmark/' bench --include='*.cc' | wc -l)" -le 1 ] ||
    complain 'google benchmark is seen in more than one file'
[ "$(grep -rlE '#include [<"](cjson/)?cJSON[.]h' impl reference bench \
    --include='*.[ch]' --include='*.cc' | wc -l)" -le 1 ] ||
    complain 'the JSON library is seen in more than one file of the product'
grep -rnE '#[[:space:]]*pragma[[:space:]]+omp[[:space:]]+parallel' impl &&
    complain 'impl/ opens no parallel region'

for objects in "$tree"/impl/CMakeFiles/dlb_impl_*.dir; do
    [ -d "$objects" ] || continue
    isa=${objects##*/dlb_impl_}
    isa=${isa%.dir}
    # nm: address, class, name; a capital class is seen outside of the object.
    foreign=$(find "$objects" -name '*.o' -exec nm --defined-only {} + |
        awk '$2 ~ /^[A-TV-Z]$/ { print $3 }' | grep -vE "_$isa\$")
    [ -z "$foreign" ] || complain "kernels for $isa export names without _$isa:" $foreign
done
exit $wrong
