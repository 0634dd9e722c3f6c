#!/bin/sh
# deploy/local.sh -- capibox on this machine, with a Redis of its own.
#
#   local.sh run   runs three jobs through the queue and stops everything
#   local.sh up    stays until Ctrl-C, for another terminal to use
#
# The private redis-server opens no port; all of it lives in one folder below
# build/ and is gone at the end. An existing Redis is left alone.
set -eu

mode=${1:-}
case "$mode" in
run | up) ;;
*)
    echo "usage: $0 run|up" >&2
    exit 2
    ;;
esac

cd "$(dirname "$0")/.."
root=$(pwd)
# The settings of the caller's own capibox must not leak into this one.
unset MAKEFLAGS MFLAGS MAKELEVEL CAPIBOX_REDIS_URL REDIS_URL CAPIBOX_PREFIX \
    CAPIBOX_QUEUES CAPIBOX_BACKEND CAPIBOX_TEMPLATES CAPIBOX_API_LISTEN \
    CAPIBOX_API_KEYS

readonly START_TRIES=150 STOP_TRIES=450 # tenths of a second
folder='' socket_folder='' redis='' worker='' api='' address=''

say() { printf '== %s\n' "$*"; }
fail() {
    printf 'capibox: %s\n' "$*" >&2
    exit 1
}

# A zombie still has a pid.
alive() {
    [ -n "$1" ] && [ -r "/proc/$1/status" ] &&
        ! grep -q '^State:[[:space:]]*Z' "/proc/$1/status" 2>/dev/null
}

stop() { # pid, name
    alive "$1" || return 0
    kill -TERM "$1" 2>/dev/null || return 0
    tries=0
    while alive "$1"; do
        tries=$((tries + 1))
        if [ "$tries" -gt "$STOP_TRIES" ]; then
            echo "capibox: $2 did not stop; killing it" >&2
            kill -KILL "$1" 2>/dev/null || true
            return 1
        fi
        sleep 0.1
    done
}

clean_up() {
    code=$?
    trap '' INT TERM HUP
    trap - EXIT
    stop "$api" capibox-api || code=1
    stop "$worker" capibox-worker || code=1
    stop "$redis" redis-server || code=1
    [ -z "$folder" ] || rm -rf "$folder"
    [ -z "$socket_folder" ] || rm -rf "$socket_folder"
    exit "$code"
}
trap clean_up EXIT
# Ctrl-C is how `up` is meant to end.
trap '[ "$mode" = up ] && exit 0; exit 130' INT
trap 'exit 143' TERM HUP
# Nobody reads on (`make run | head`): an end like any other.
trap 'exit 141' PIPE

# In the background, out of reach of the terminal's Ctrl-C (the order of
# stopping is ours), and gone with this script even if it is killed.
background() {
    log=$1
    shift
    if command -v setpriv >/dev/null 2>&1; then
        set -- setpriv --pdeathsig TERM "$@"
    fi
    setsid "$@" >"$log" 2>&1 </dev/null &
}

# Folders of runs that were killed before they could clean up.
remove_leftovers() {
    for old in "$root"/build/run-*/pid; do
        [ -f "$old" ] || continue
        alive "$(cat "$old")" || rm -rf "${old%/pid}"
    done
}

start_redis() {
    mkdir -p build
    remove_leftovers
    folder=$(mktemp -d "$root/build/run-XXXXXX")
    echo $$ >"$folder/pid"
    socket=$folder/redis.sock
    # The kernel takes 107 bytes for the path of a socket.
    if [ "$(printf %s "$socket" | wc -c)" -gt 100 ]; then
        socket_folder=$(mktemp -d /tmp/capibox-XXXXXX)
        socket=$socket_folder/redis.sock
    fi
    background "$folder/redis.log" redis-server --port 0 \
        --unixsocket "$socket" --unixsocketperm 700 --dir "$folder" \
        --appendonly yes --save '' --maxmemory-policy noeviction
    redis=$!
    tries=0
    until [ "$(redis-cli -s "$socket" ping 2>/dev/null)" = PONG ]; do
        tries=$((tries + 1))
        if ! alive "$redis" || [ "$tries" -gt "$START_TRIES" ]; then
            cat "$folder/redis.log" >&2
            fail 'redis-server did not start'
        fi
        sleep 0.1
    done
    CAPIBOX_REDIS_URL=unix://$(printf %s "$socket" |
        sed 's/%/%25/g; s/ /%20/g; s/?/%3F/g; s/#/%23/g; s/@/%40/g')
    export CAPIBOX_REDIS_URL
}

start_worker() {
    background "$folder/worker.log" bin/capibox-worker
    worker=$!
    tries=0
    until bin/capibox workers --json 2>/dev/null | grep -q '"id"'; do
        tries=$((tries + 1))
        if ! alive "$worker" || [ "$tries" -gt "$START_TRIES" ]; then
            cat "$folder/worker.log" >&2
            fail 'the worker did not start; bin/capibox doctor says more'
        fi
        sleep 0.1
    done
}

# The dashboard and the HTTP routes, on the first free port from 8080 on.
start_api() {
    port=8080
    while [ "$port" -lt 8090 ]; do
        address=127.0.0.1:$port
        CAPIBOX_API_LISTEN=$address background "$folder/api.log" bin/capibox-api
        api=$!
        tries=0
        while alive "$api" && [ "$tries" -le "$START_TRIES" ]; do
            grep -qs 'listen' "$folder/api.log" && return 0
            tries=$((tries + 1))
            sleep 0.1
        done
        port=$((port + 1))
    done
    cat "$folder/api.log" >&2
    fail 'the gateway did not start'
}

job() { # title, arguments of capibox run
    echo
    say "$1"
    shift
    echo "\$ capibox run $*"
    code=0
    bin/capibox run "$@" || code=$?
    [ "$code" -eq 0 ] || {
        echo '-- the worker said:' >&2
        tail -n 20 "$folder/worker.log" >&2
        fail "the job ended with exit code $code"
    }
}

run_jobs() {
    rm -rf build/demo
    mkdir -p build/demo
    job 'a quick script' \
        deploy/examples/hello.sh --template quick_script -v
    job 'data analysis: a DataFrame comes back as text and as HTML' \
        deploy/examples/sales.py --template data_analysis -v \
        --save build/demo/sales
    job 'visualization: a figure comes back as PNG' \
        deploy/examples/plot.py --template visualization -v \
        --save build/demo/plot
    [ -s build/demo/sales/result-1.html ] || fail 'no HTML came back'
    [ -s build/demo/plot/result-1.png ] || fail 'no picture came back'
    echo
    say 'stats'
    bin/capibox stats
    echo
    say "the picture: $root/build/demo/plot/result-1.png"
    say "the table:   $root/build/demo/sales/result-1.html"
}

stay() {
    cat <<END

capibox is up. In another terminal:

  cd '$root'
  export CAPIBOX_REDIS_URL='$CAPIBOX_REDIS_URL'
  echo 'print(6*7)' | bin/capibox run -
  bin/capibox run deploy/examples/plot.py --template visualization --save build/demo
  bin/capibox stats
  redis-cli -s '$socket' LPUSH '{capibox}:queue:default' '{"id":"mine","code":"print(6*7)"}'
  bin/capibox wait mine --timeout 10 && bin/capibox result mine
  curl -H 'Content-Type: application/json' -d '{"code":"print(6*7)"}' http://$address/api/v1/e2b/execute

The dashboard: http://$address/
The worker's log: $folder/worker.log
Ctrl-C stops everything.
END
    while alive "$worker" && alive "$redis"; do
        sleep 1 &
        wait $! || true
    done
    tail -n 20 "$folder/worker.log" >&2
    fail 'the worker or redis-server ended by itself'
}

sh deploy/packages.sh
say 'building'
make -s -j"$(nproc)"
start_redis
start_worker
if [ "$mode" = up ]; then
    start_api
    stay
fi
run_jobs
say 'stopping'
