#!/bin/sh
# tests/browser/install.sh -- what the browser tests need: Debian's chromium, and
# playwright-core and axe-core from npm, at the versions of package-lock.json.
# Nothing of it is needed to build or run capibox. A second call takes no time.
set -eu
cd "$(dirname "$0")"

sudo=''
[ "$(id -u)" -eq 0 ] || sudo=sudo
missing=''
command -v chromium >/dev/null 2>&1 || missing="$missing chromium"
command -v npm >/dev/null 2>&1 || missing="$missing npm"
fc-list 2>/dev/null | grep -q . || missing="$missing fonts-dejavu-core"
if [ -n "$missing" ]; then
    export DEBIAN_FRONTEND=noninteractive
    $sudo apt-get -q update
    # shellcheck disable=SC2086 # names of packages hold no spaces
    $sudo apt-get -q install -y --no-install-recommends $missing
fi
# npm leaves a copy of the lock where it installed.
if [ ! -e node_modules/.package-lock.json ] ||
    [ -n "$(find package-lock.json -newer node_modules/.package-lock.json)" ]; then
    npm ci --no-audit --no-fund
fi
