#!/bin/sh
# tests/fuzz/run.sh PROGRAM SECONDS -- one fuzzer on its seeds, with what it
# learnt before. Its log is build/fuzz/NAME.log; a crash is left in build/fuzz.
set -u
name=${1##*/fuzz_}
mkdir -p "build/fuzz/corpus/$name"
echo "fuzz $name: $2 s"
"$1" -max_total_time="$2" -max_len=65536 -timeout=10 -rss_limit_mb=2048 \
    -verbosity=0 -print_final_stats=1 \
    -artifact_prefix="build/fuzz/crash-$name-" "build/fuzz/corpus/$name" \
    "tests/fuzz/seeds/$name" >"build/fuzz/$name.log" 2>&1 || {
    cat "build/fuzz/$name.log"
    exit 255 # xargs stops
}
grep '^stat::number_of_executed_units' "build/fuzz/$name.log" |
    sed "s/^stat::/$name: /"
