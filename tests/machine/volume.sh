#!/usr/bin/env bash
# Makes a volume on which the image's gateway has lived once: started, ready, stopped, in a container.
#   tests/machine/volume.sh ROOT VOLUME [NAME=VALUE …]      ROOT: a folder made by root.sh; the rest: its environment
# A first start (a config, migrations) is minutes for an emulated processor, and no power cut is about it.
set -euo pipefail
root=$1 volume=$2
shift 2
cache="${CLAWKEEPER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/clawkeeper}"
# shellcheck source=/dev/null
. "$cache/containers/env.sh"

name=clawkeeper-volume-$$
work=$(mktemp -d)
trap 'podman rm --force --time 0 "$name" >/dev/null 2>&1; rm -rf "$work"' EXIT
mkdir "$work/data"
options=()
for assignment in "$@"; do options+=(--env "$assignment"); done
podman run --detach --network=none --name "$name" --volume "$work/data:/data" "${options[@]}" "$(cat "$root/image")" >/dev/null 2>&1
for ((second = 0; ; second++)); do
    ! podman exec "$name" clawkeeper health >/dev/null 2>&1 || break
    if ((second == 480)); then
        podman logs "$name" >&2
        exit 1
    fi
    sleep 1
done
podman stop --time 120 "$name" >/dev/null 2>&1
truncate -s 1G "$work/volume"
mkfs.ext4 -q -d "$work/data" "$work/volume"
mv "$work/volume" "$volume"
