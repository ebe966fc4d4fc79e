#!/usr/bin/env bash
# Installs the real gateways the tests run against, once, outside the checkout.
#   tests/gateways/install.sh [VERSION…]        default: 2026.9.6 2026.7.1
# Prints progress on stderr only. A second run finds the marker files and does nothing.
set -euo pipefail

cache="${CLAWKEEPER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/clawkeeper}/gateways"
marker=.clawkeeper-installed
temp=

say() { printf 'gateways: %s\n' "$*" >&2; }
die() {
    say "error: $*"
    exit 1
}

# Only a folder with the marker is complete: the marker is the last file written
# before the rename, so a half-done install never carries one.
complete() { [[ -e "$cache/$1/$marker" ]]; }

# The major version of Node a gateway is tested on: 7.1 and later support 24, older
# ones were made for 22 (1.29 takes 25 s and more to boot on 24).
node_for() {
    case $1 in
    2026.[1-6].*) echo 22 ;;
    *) echo 24 ;;
    esac
}

# npm in a folder of its own, away from the user's and the checkout's settings.
npm_install() {
    local what=$1
    shift
    say "installing $what (log: $temp.log)"
    if ! (cd "$temp" && npm install --no-audit --no-fund --no-update-notifier "$@") >"$temp.log" 2>&1; then
        tail -n 20 "$temp.log" >&2
        die "npm could not install $what; the log's tail is above"
    fi
}

# Runs `fill_X NAME…` on a temporary folder beside the target and renames it into
# place: whoever sees the target sees all of it.
install_once() {
    local name=$1 fill=$2
    shift 2
    complete "$name" && return
    temp=$(mktemp -d "$cache/.$name.XXXXXX")
    chmod 755 "$temp" # mktemp makes it 0700, and tests run gateways as another user
    "$fill" "$@"
    : >"$temp/$marker"
    rm -rf "${cache:?}/$name"
    mv -T "$temp" "$cache/$name"
    rm -f "$temp.log"
    temp=
}

fill_node() {
    npm_install "node $1" --prefix "$temp" "node@$1"
    "$temp/node_modules/node/bin/node" --version >/dev/null ||
        die "node $1 was installed but does not run"
}

fill_openclaw() {
    local version=$1 node=$2
    # npm runs the package's own install scripts with the `node` it finds first.
    local PATH="$cache/node-$node/node_modules/node/bin:$PATH"
    case $version in
    2026.[1-3].*) fill_old_openclaw "$version" ;;
    *) npm_install "openclaw $version" --prefix "$temp" --omit=dev "openclaw@$version" ;;
    esac
    [[ -e "$temp/node_modules/openclaw/dist/index.js" ]] ||
        die "openclaw $version has no dist/index.js"
}

# Releases up to 3.13 pull libsignal from a git URL, which npm clones over ssh, and
# a native model runner that wants a compiler. Neither is needed to boot.
fill_old_openclaw() {
    local version=$1 stub="$temp/node_modules/node-llama-cpp"
    cat >"$temp/package.json" <<JSON
{
  "private": true,
  "dependencies": { "openclaw": "$version", "strip-ansi": "7" },
  "overrides": { "libsignal": "npm:libsignal@6.0.0", "linkedom": "0.18.12" }
}
JSON
    npm_install "openclaw $version" --prefix "$temp" --ignore-scripts --omit=dev --omit=peer
    # The gateway imports the runner by name even where it is never used.
    if [[ ! -e $stub ]]; then
        mkdir -p "$stub"
        echo '{"name":"node-llama-cpp","version":"0.0.0","type":"module","main":"index.js"}' >"$stub/package.json"
        echo 'export {};' >"$stub/index.js"
    fi
}

# A killed install leaves its temporary folder behind; the lock is what makes it
# safe to say that nobody else is still filling it.
sweep() { rm -rf "$cache"/.node-* "$cache"/.openclaw-*; }

main() {
    local versions=("$@") version node
    ((${#versions[@]})) || versions=(2026.9.6 2026.7.1)
    for version in "${versions[@]}"; do
        [[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.]+)?$ ]] ||
            die "not a version: $version (example: 2026.9.6)"
    done

    # The common case first, without taking the lock.
    local missing=()
    for version in "${versions[@]}"; do
        node=$(node_for "$version")
        if ! complete "node-$node" || ! complete "openclaw-$version"; then
            missing+=("$version")
        fi
    done
    ((${#missing[@]})) || return 0

    command -v npm >/dev/null || die "npm is not installed; it is needed once, to fetch the gateways"
    mkdir -p "$cache"
    # Two test runs at once must not install the same thing twice.
    exec 9>"$cache/.lock"
    flock 9
    trap '[[ -z $temp ]] || rm -rf "$temp"' EXIT
    sweep
    for version in "${missing[@]}"; do
        node=$(node_for "$version")
        install_once "node-$node" fill_node "$node"
        install_once "openclaw-$version" fill_openclaw "$version" "$node"
    done
    say "ready in $cache"
}

main "$@"
