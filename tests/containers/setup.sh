#!/usr/bin/env bash
# Makes containers work on a machine that has neither a container engine nor a container registry:
# podman and runc from Debian, and local stand-ins for the base images that docker/Dockerfile names.
#   tests/containers/setup.sh      as root on Debian; then: . ~/.cache/clawkeeper/containers/env.sh
# Base images that are there, or that a registry gives, are used as they are.
# About two minutes, once; a second run finds everything and ends in a second.
set -euo pipefail
cd "$(dirname "$0")/../.."

cache="${CLAWKEEPER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/clawkeeper}/containers"
base_path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
registry=unknown
# What the stand-ins for the base images of docker/Dockerfile are made from.
debian=docker.io/library/debian:trixie-slim

say() { printf 'containers: %s\n' "$*" >&2; }
die() {
    say "error: $*"
    exit 1
}

# The value of an ARG in docker/Dockerfile, with the ARGs it refers to filled in.
argument() {
    local value
    value=$(sed -n "s/^ARG $1=//p" docker/Dockerfile | head -n 1)
    while [[ $value =~ \$\{([A-Z_]+)\} ]]; do
        value=${value//"${BASH_REMATCH[0]}"/$(argument "${BASH_REMATCH[1]}")}
    done
    [[ -n $value ]] || die "docker/Dockerfile gives ARG $1 no default"
    echo "$value"
}

install_packages() {
    local missing=() tool
    for tool in podman buildah runc mmdebstrap; do command -v "$tool" >/dev/null || missing+=("$tool"); done
    ((${#missing[@]})) || return 0
    if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
        die "${missing[*]} not installed, and only root on Debian can be helped"
    fi
    say "installing ${missing[*]}"
    apt-get update -qq >&2
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# Settings of our own, so that a person's containers are left alone.
#   crun refuses hybrid cgroups, so runc it is; a root without CAP_SYS_RESOURCE cannot raise hard limits,
#   so containers get those that are in force.
write_settings() {
    mkdir -p "$cache"
    cat >"$cache/storage.conf" <<CONF
[storage]
driver = "overlay"
graphroot = "$cache/storage"
runroot = "$cache/run"
CONF
    local files processes hard
    files=$(ulimit -Hn)
    hard=$(ulimit -Hu)
    processes=$(cat /proc/sys/kernel/pid_max)
    [[ $hard == unlimited ]] || ((processes <= hard)) || processes=$hard
    cat >"$cache/containers.conf" <<CONF
[containers]
default_ulimits = [ "nofile=$files:$files", "nproc=$processes:$processes" ]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
CONF
    printf 'export CONTAINERS_STORAGE_CONF=%q CONTAINERS_CONF=%q\n' \
        "$cache/storage.conf" "$cache/containers.conf" >"$cache/env.sh"
    # shellcheck source=/dev/null
    . "$cache/env.sh"
}

# Succeeds when the image is there, or a registry gives it. The first refusal counts for all.
have() {
    podman image exists "$1" && return
    [[ $registry != absent ]] || return 1
    say "pulling $1"
    if timeout 20 podman pull -q "$1" >/dev/null 2>&1; then return; fi
    registry=absent
    say "no registry gives it; making a stand-in from packages"
    return 1
}

# The stand-ins. Each ends as an image of the same name with the same layout, as far as we use it.

make_debian() {
    local name=$1 suite tar container root
    suite=${name##*:}
    suite=${suite%-slim}
    tar=$cache/$suite.tar
    # This machine's own sources, so that a mirror it is set up for is used, turned to the image's release.
    local sources=$cache/sources.list own
    [[ -s /etc/apt/sources.list ]] || sources=$cache/debian.sources
    own=/etc/apt/sources.list
    [[ -s $own ]] || own=/etc/apt/sources.list.d/debian.sources
    sed "s/$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)/$suite/g" "$own" >"$sources"
    # Clocks of test machines may be off; the packages' signatures are checked all the same.
    [[ -s $tar ]] || {
        mmdebstrap -q --variant=minbase --include=ca-certificates \
            --aptopt='Acquire::Check-Valid-Until "false"' --aptopt='Acquire::Check-Date "false"' \
            --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
            --dpkgopt='path-exclude=/usr/share/locale/*' "$suite" "$cache/new.tar" "$sources" >&2
        mv "$cache/new.tar" "$tar"
    }
    container=$(buildah from scratch)
    root=$(buildah mount "$container")
    tar -C "$root" -xf "$tar"
    # A registry of packages behind this machine's own authority must verify inside a build, too.
    cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
    printf 'Acquire::Check-Valid-Until "false";\nAcquire::Check-Date "false";\n' >"$root/etc/apt/apt.conf.d/99local"
    finish "$container" "$name" --cmd bash --env PATH=$base_path
}

make_node() {
    local name=$1 version=$2 container root folder
    container=$(buildah from "$debian")
    root=$(buildah mount "$container")
    folder=$(mktemp -d)
    npm install --silent --no-audit --no-fund --prefix "$folder" "node@$version" npm@11 >&2
    install -m 755 "$folder/node_modules/node/bin/node" "$root/usr/local/bin/node"
    mkdir -p "$root/usr/local/lib/node_modules" "$root/usr/local/etc"
    cp -a "$folder/node_modules/npm" "$root/usr/local/lib/node_modules/"
    rm -rf "$folder"
    ln -sf ../lib/node_modules/npm/bin/npm-cli.js "$root/usr/local/bin/npm"
    ln -sf ../lib/node_modules/npm/bin/npx-cli.js "$root/usr/local/bin/npx"
    # npm ignores the system's bundle unless told.
    echo 'cafile=/etc/ssl/certs/ca-certificates.crt' >"$root/usr/local/etc/npmrc"
    chroot "$root" groupadd -g 1000 node
    chroot "$root" useradd -u 1000 -g node -s /bin/bash -m node
    finish "$container" "$name" --cmd node
}

make_rust() {
    local name=$1 container root
    container=$(buildah from "$debian")
    root=$(buildah mount "$container")
    buildah run --network=host --isolation=chroot "$container" bash -c \
        'apt-get update -qq && apt-get install -y -qq --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*' >/dev/null
    mkdir -p "$root/usr/local/rust"
    cp -a "$(rustc --print sysroot)/." "$root/usr/local/rust/"
    rm -rf "$root/usr/local/rust/share/doc"
    finish "$container" "$name" --env PATH=/usr/local/rust/bin:$base_path --env CARGO_HOME=/usr/local/cargo
}

finish() {
    local container=$1 name=$2
    shift 2
    buildah umount "$container" >/dev/null
    buildah config "$@" "$container"
    buildah commit -q --rm "$container" "$name" >/dev/null
    say "made $name"
}

main() {
    install_packages
    mkdir -p "$cache"
    # Two runs at once must not make the same image twice.
    exec 9>"$cache/.lock"
    flock 9
    write_settings
    have "$debian" || make_debian "$debian"
    local image
    image=$(argument NODE_IMAGE)
    have "$image" || make_node "$image" "$(argument NODE_VERSION)"
    image=$(argument RUST_IMAGE)
    have "$image" || make_rust "$image"
}

main "$@"
