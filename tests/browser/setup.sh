#!/usr/bin/env bash
# Gets what the page's tests need: Chromium (Debian's, where we are root) and playwright-core, which drives it, in a
# cache outside the checkout. A second run finds both and does nothing. Fails where they cannot be had.
set -euo pipefail

cache="${CLAWKEEPER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/clawkeeper}"
# tests/support/browser.rs names this folder too.
version=1.65.1
folder=$cache/playwright-$version

if ! command -v chromium >/dev/null; then
    if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
        echo "browser: chromium is not installed" >&2
        exit 1
    fi
    echo "installing chromium" >&2
    apt-get update -qq >&2
    apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null
fi
[[ ! -e $folder/.clawkeeper-installed ]] || exit 0
command -v npm >/dev/null || {
    echo "browser: npm is not installed; it is needed once, to fetch playwright-core" >&2
    exit 1
}
mkdir -p "$cache"
exec 9>"$cache/.playwright.lock"
flock 9
[[ ! -e $folder/.clawkeeper-installed ]] || exit 0
rm -rf "$folder" "$cache"/.playwright-*.tmp
temp=$cache/.playwright-$$.tmp
mkdir "$temp"
(cd "$temp" && npm install --no-audit --no-fund --no-update-notifier --ignore-scripts --prefix "$temp" "playwright-core@$version" >&2)
: >"$temp/.clawkeeper-installed"
mv -T "$temp" "$folder"
