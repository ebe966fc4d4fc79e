#!/usr/bin/env bash
# Makes the disk that a virtual machine boots from out of a container image, once for each image.
#   tests/machine/root.sh [IMAGE]     prints the folder: root.img, and image (its id), entrypoint, cmd, env, workdir as text
# Without a name the image is the one that docker/Dockerfile makes of this checkout; layers that are there are reused.
# As root on Debian. A disk that was not asked for in three hours is removed; a long test may still run on a younger one.
set -euo pipefail
cd "$(dirname "$0")/../.."
cache="${CLAWKEEPER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/clawkeeper}"
tests/containers/setup.sh >&2
image=${1:-$(tests/containers/image.sh)}
# shellcheck source=/dev/null
. "$cache/containers/env.sh"

id=$(podman image inspect -f '{{.Id}}' "$image")
folder=$cache/machine/roots/${id:0:16}
mkdir -p "$cache/machine/roots"
exec 9>"$cache/machine/roots/.lock"
flock 9
if [[ ! -e $folder/complete || ! -e $folder/image ]]; then
    rm -rf "$folder"
    mkdir -p "$folder"
    printf 'machine: making a disk of %s\n' "$image" >&2
    field() { podman image inspect -f "$1" "$image" | sed '/^$/d'; }
    field '{{range .Config.Env}}{{println .}}{{end}}' >"$folder/env"
    field '{{range .Config.Entrypoint}}{{println .}}{{end}}' >"$folder/entrypoint"
    field '{{range .Config.Cmd}}{{println .}}{{end}}' >"$folder/cmd"
    field '{{.Config.WorkingDir}}' >"$folder/workdir"
    [[ -s $folder/workdir ]] || echo / >"$folder/workdir"
    echo "$id" >"$folder/image"
    mounted=$(podman image mount "$image")
    # Room for what a life writes beside the volume.
    megabytes=$(($(du -sm "$mounted" | cut -f1) * 12 / 10 + 256))
    mkfs.ext4 -q -d "$mounted" "$folder/root.img" "${megabytes}M" >&2
    podman image unmount "$image" >/dev/null
    : >"$folder/complete"
fi
touch "$folder"
find "$cache/machine/roots" -mindepth 1 -maxdepth 1 -type d -mmin +180 -exec rm -rf {} +
echo "$folder"
