#!/bin/sh
# tests/run.sh PROGRAM... -- runs cmocka programs, one line each, and ends with
# the line "N passed, N failed, N skipped". Exits 0 only if nothing failed.
# TEST_JOBS (one more than cores, at most 4) run at a time: most mostly wait.
#
# A program that crashes, hangs (TEST_TIMEOUT seconds) or stops half way counts
# each test it owes as failed; what it printed is shown. A test skips with
# cmocka's skip(), or by printing "SKIP: why" and returning. Under CI=true a
# skipped test counts as failed unless README.md names it.
#
# TEST_TOTALS, if set, is a file that gets one more line: "passed failed
# skipped".
set -u

: "${TEST_TIMEOUT:=300}"
if [ -z "${TEST_JOBS:-}" ]; then
    TEST_JOBS=$(($(nproc) + 1))
    [ "$TEST_JOBS" -le 4 ] || TEST_JOBS=4
fi
export TEST_TIMEOUT
cd "$(dirname "$0")/.." || exit 1
# Nothing of the caller's own capibox may leak into the tests.
unset CAPIBOX_REDIS_URL REDIS_URL CAPIBOX_PREFIX CAPIBOX_QUEUES \
    CAPIBOX_BACKEND CAPIBOX_TEMPLATES CAPIBOX_LOG CAPIBOX_LOG_LEVEL

# "passed failed skipped", then a line for each test that failed or skipped.
# Reads TAP; $1 is the exit code.
count() {
    awk -v code="$1" '
        function name(line) { sub(/^(not )?ok [0-9]+ (- |# SKIP )/, "", line)
            return line }
        /^1\.\.[0-9]+$/ && !planned { planned = substr($0, 4) + 0; next }
        /^SKIP: / { why = substr($0, 5); next }
        /^not ok [0-9]+ # SKIP / { s++; lines = lines "SKIP " name($0) "\n"
            why = ""; next }
        /^not ok [0-9]+ / { f++; lines = lines "FAIL " name($0) "\n"
            why = ""; next }
        /^ok [0-9]+ - / {
            if (why) { s++; lines = lines "SKIP " name($0) why "\n" }
            else p++
            why = ""
        }
        END {
            owed = planned - p - f - s
            if (owed > 0) { f += owed
                lines = lines "FAIL " owed " tests did not end\n" }
            if (code && !f) { f = 1
                lines = lines "FAIL the program itself\n" }
            if (!planned && !f) { f = 1
                lines = lines "FAIL it ran no test\n" }
            printf "%d %d %d\n%s", p, f, s, lines
        }' "$output"
}

is_allowed() { grep -qwF "$1" README.md; }

how_it_ended() {
    case $1 in
    0) ;;
    124 | 137) echo ", no end after $TEST_TIMEOUT s" ;;
    *) [ "$1" -lt 128 ] || echo ", killed by signal $(($1 - 128))" ;;
    esac
}

# One program. Its report goes out in one piece.
run_one() {
    program=$1 output=$2.output report=$2.report
    started=$(date +%s)
    CMOCKA_MESSAGE_OUTPUT=TAP timeout -k 10 "$TEST_TIMEOUT" "$program" \
        >"$output" 2>&1 </dev/null
    code=$?
    counted=$(count "$code")
    took=$(($(date +%s) - started))
    # shellcheck disable=SC2046 # three numbers
    set -- $(echo "$counted" | head -n 1)
    passed=$1 failed=$2 skipped=$3
    if [ "${CI:-}" = true ] && [ "$skipped" -gt 0 ]; then
        for name in $(echo "$counted" | sed -n 's/^SKIP \([^ :]*\).*/\1/p'); do
            is_allowed "$name" && continue
            echo "SKIP $name: README.md does not list it" >>"$output"
            skipped=$((skipped - 1)) failed=$((failed + 1))
        done
    fi
    echo "$passed $failed $skipped" >>"$totals"
    {
        word=ok
        [ "$failed" -eq 0 ] || word=FAILED
        printf '%-6s %s: %d passed' "$word" "${program#build/}" "$passed"
        [ "$failed" -eq 0 ] || printf ', %d failed' "$failed"
        [ "$skipped" -eq 0 ] || printf ', %d skipped' "$skipped"
        printf ' (%d s%s)\n' "$took" "$(how_it_ended "$code")"
        echo "$counted" | sed -n '2,$s/^/       /p'
        if [ "$failed" -gt 0 ]; then
            echo "---- $program said:"
            grep -v '^ok [0-9]* - ' "$output" | tail -n 200
            echo '----'
        fi
    } >"$report"
    cat "$report"
}

if [ "${1:-}" = --one ]; then
    totals=$2/totals
    run_one "$3" "$2/$$"
    exit 0
fi

folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
printf '%s\n' "$@" | xargs -P "$TEST_JOBS" -I{} sh tests/run.sh --one "$folder" {}
whole=$?
sums=$(awk '{ p += $1; f += $2; s += $3 } END { print p + 0, f + 0, s + 0, NR }' \
    "$folder/totals")
# shellcheck disable=SC2086 # four numbers
set -- $# $sums
passed=$2 failed=$3 skipped=$4
if [ "$whole" -ne 0 ] || [ "$5" -ne "$1" ]; then
    echo "FAILED only $5 of $1 programs were run to their end"
    failed=$((failed + 1))
fi
[ -z "${TEST_TOTALS:-}" ] || echo "$passed $failed $skipped" >>"$TEST_TOTALS"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
