#!/usr/bin/env bash
# Puts what boots a virtual machine into a cache, once: an emulator, a Debian kernel and its busybox.
#   tests/machine/setup.sh            prints the folder
# Unpacked, not installed: it replaces nothing of this machine, and needs no root. Debian and Ubuntu only (apt-get).
set -euo pipefail

cache="${CLAWKEEPER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/clawkeeper}/machine"
# The number rises when the list below changes.
tools=$cache/tools-1
packages=(qemu-system-x86 busybox-static)

say() { printf 'machine: %s\n' "$*" >&2; }

if [[ ! -e $tools/complete ]]; then
    command -v apt-get >/dev/null || {
        say "error: this needs Debian's packages of qemu and a kernel, and there is no apt-get"
        exit 1
    }
    mkdir -p "$cache"
    exec 9>"$cache/.setup.lock"
    flock 9
fi
if [[ ! -e $tools/complete ]]; then
    say "fetching an emulator and a kernel (40 MB) into $tools"
    rm -rf "$tools" "$tools.new"
    mkdir -p "$tools.new/packages/partial"
    cd "$tools.new/packages"
    if (($(id -u) == 0)); then apt-get update -qq >&2; fi
    # A cloud kernel has the drivers of a virtual machine and ext4 built in or as modules of a few hundred KB.
    kernel=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image-/ { print $2; exit }')
    apt-get install -y -qq --download-only --no-install-recommends \
        -o Dir::Cache::archives="$PWD/" -o Debug::NoLocking=1 -o APT::Sandbox::User=root "${packages[@]}" >&2
    apt-get download -qq -o APT::Sandbox::User=root "$kernel" >&2
    # Packages that are installed already are not downloaded by `install`.
    for package in "${packages[@]}"; do
        compgen -G "${package}_*.deb" >/dev/null || apt-get download -qq -o APT::Sandbox::User=root "$package" >&2
    done
    for package in *.deb; do dpkg -x "$package" ..; done
    cd - >/dev/null
    rm -rf "$tools.new/packages"
    : >"$tools.new/complete"
    mv -T "$tools.new" "$tools"
fi
echo "$tools"
