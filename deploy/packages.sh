#!/bin/sh
# deploy/packages.sh -- installs what capibox needs to build and run, or names
# it where there is no apt. Asks dpkg first, so that a second call takes no time.
#
# Debian 12 and Ubuntu 24.04 have all of these under the same names.
set -eu

# A command that is there counts, wherever it came from.
commands='gcc:gcc make:make pkg-config:pkg-config redis-server:redis-server'
commands="$commands openssl:openssl redis-cli:redis-tools /usr/bin/python3:python3 node:nodejs"

# Headers to build with (cmocka: the tests), and Python's data packages.
required='libc6-dev libhiredis-dev libcjson-dev libssl-dev libseccomp-dev'
required="$required libmicrohttpd-dev libcurl4-openssl-dev"
required="$required libcmocka-dev python3-pandas python3-numpy"
required="$required python3-matplotlib"

# Templates name them (prometheus: its promtool checks the metrics), nothing
# breaks without: left out where apt has none.
wanted='python3-seaborn python3-scipy python3-sklearn python3-plotly'
wanted="$wanted python3-altair prometheus"

say() { echo "packages: $*" >&2; }

# Prints those of its arguments that are not installed.
not_installed() {
    installed=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "$@" \
        2>/dev/null | sed -n 's/ installed$//p' | sort -u) || true
    for name in "$@"; do
        echo "$installed" | grep -qxF "$name" || echo "$name"
    done
}

no_command() {
    for pair in $commands; do
        command -v "${pair%%:*}" >/dev/null 2>&1 || echo "${pair#*:}"
    done
}

# As root. A new redis-server must not start a service: capibox brings its own
# private one. policy-rc.d is Debian's way to say so; one that is there is kept.
install_as_root() {
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        trap 'exit 130' INT
        trap 'exit 143' TERM HUP
        printf '#!/bin/sh\n# capibox: deploy/packages.sh is at work\nexit 101\n' \
            >"$policy"
        chmod 755 "$policy"
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get -q update
    for name in $wanted; do
        case " $* " in *" $name "*) ;; *) continue ;; esac
        apt-cache show "$name" >/dev/null 2>&1 && continue
        say "apt has no $name; templates that name it go without"
        left=''
        for other in "$@"; do
            [ "$other" = "$name" ] || left="$left $other"
        done
        # shellcheck disable=SC2086 # names of packages hold no spaces
        set -- $left
    done
    [ $# -eq 0 ] || apt-get -q install -y --no-install-recommends "$@"
}

if [ "${1:-}" = --as-root ]; then
    shift
    install_as_root "$@"
    exit
fi

if ! command -v dpkg-query >/dev/null 2>&1 ||
    ! command -v apt-get >/dev/null 2>&1; then
    missing=$(no_command | tr '\n' ' ')
    # Without dpkg only commands and headers can be looked for.
    for header in hiredis/hiredis.h cjson/cJSON.h openssl/ssl.h seccomp.h \
        microhttpd.h curl/curl.h cmocka.h; do
        [ -e "/usr/include/$header" ] || [ -e "/usr/local/include/$header" ] ||
            missing="$missing $header"
    done
    [ -n "$missing" ] || exit 0
    say "this system has no apt; please install: $missing"
    exit 1
fi

# shellcheck disable=SC2086 # lists of words
missing=$(no_command && not_installed $required $wanted)
[ -n "$missing" ] || exit 0

# What apt was found not to have is not asked for every time; whether it has a
# package can only be told once it has its lists.
needed='' serious=''
for name in $missing; do
    case " $wanted " in
    *" $name "*)
        apt-cache show "$name" >/dev/null 2>&1 ||
            ! apt-cache show gcc >/dev/null 2>&1 || continue
        ;;
    *) serious=yes ;;
    esac
    needed="$needed $name"
done
[ -n "$needed" ] || exit 0

if [ "$(id -u)" -eq 0 ]; then
    sudo=''
elif command -v sudo >/dev/null 2>&1; then
    sudo=sudo
elif [ -z "$serious" ]; then
    say "without root or sudo, some templates go without:$needed"
    exit 0
else
    say "neither root nor sudo; as root: apt-get install$needed"
    exit 1
fi
say "installing:$needed"
# shellcheck disable=SC2086
exec $sudo sh "$0" --as-root $needed
