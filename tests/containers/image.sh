#!/usr/bin/env bash
# Builds the image of this checkout for the tests and prints its id. What did not change is not built again.
#   tests/containers/image.sh [FILE] [ARGUMENTS FOR podman build…]      FILE: docker/Dockerfile
# Exit code 69: containers cannot be had here (setup.sh said why).
set -euo pipefail
cd "$(dirname "$0")/../.."
cache="${CLAWKEEPER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/clawkeeper}/containers"
file=${1:-docker/Dockerfile}

tests/containers/setup.sh || exit 69
# shellcheck source=/dev/null
. "$cache/env.sh"
id=$(mktemp)
trap 'rm -f "$id"' EXIT
# The tag keeps the newest one from being pruned; tests use the id. Docker's format, because the other one has no HEALTHCHECK.
name=$(basename "$file" | tr '[:upper:].' '[:lower:]-')
log=$cache/build-$name.log
podman build --network=host --format docker --iidfile "$id" --tag "localhost/clawkeeper-test-$name" -f "$file" "${@:2}" . >"$log" 2>&1 || {
    tail -n 30 "$log" >&2
    exit 1
}
cat "$id"
