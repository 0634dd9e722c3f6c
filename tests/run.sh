#!/bin/sh
# tests/run.sh PROGRAM... -- runs cmocka programs, one line each, and ends with
# the line "N passed, N failed, N skipped". Exits 0 only if nothing failed.
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
top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top" || exit 1
# Nothing of the caller's own capibox may leak into the tests.
unset CAPIBOX_REDIS_URL REDIS_URL CAPIBOX_PREFIX CAPIBOX_QUEUES \
    CAPIBOX_BACKEND CAPIBOX_TEMPLATES CAPIBOX_LOG CAPIBOX_LOG_LEVEL

output=$(mktemp) || exit 1
trap 'rm -f "$output"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
passed=0 failed=0 skipped=0

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

run() {
    program=$1
    started=$(date +%s)
    CMOCKA_MESSAGE_OUTPUT=TAP timeout -k 10 "$TEST_TIMEOUT" "$program" \
        >"$output" 2>&1 </dev/null
    code=$?
    counted=$(count "$code")
    took=$(($(date +%s) - started))
    # shellcheck disable=SC2046 # three numbers
    set -- $(echo "$counted" | head -n 1)
    p=$1 f=$2 s=$3
    if [ "${CI:-}" = true ] && [ "$s" -gt 0 ]; then
        for name in $(echo "$counted" | sed -n 's/^SKIP \([^ :]*\).*/\1/p'); do
            is_allowed "$name" && continue
            echo "SKIP $name: README.md does not list it" >>"$output"
            s=$((s - 1)) f=$((f + 1))
        done
    fi
    word=ok
    [ "$f" -eq 0 ] || word=FAILED
    printf '%-6s %s: %d passed' "$word" "${program#build/}" "$p"
    [ "$f" -eq 0 ] || printf ', %d failed' "$f"
    [ "$s" -eq 0 ] || printf ', %d skipped' "$s"
    printf ' (%d s%s)\n' "$took" "$(how_it_ended "$code")"
    echo "$counted" | sed -n '2,$s/^/       /p'
    if [ "$f" -gt 0 ]; then
        echo "---- $program said:"
        grep -v '^ok [0-9]* - ' "$output" | tail -n 200
        echo "----"
    fi
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

for each in "$@"; do
    run "$each"
done
[ -z "${TEST_TOTALS:-}" ] || echo "$passed $failed $skipped" >>"$TEST_TOTALS"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
