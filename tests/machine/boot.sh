#!/usr/bin/env bash
# Boots an image as a small virtual machine, the way a Fly machine boots, in software emulation.
#   tests/machine/boot.sh ROOT VOLUME [option …] [-- COMMAND …]
#       ROOT      a folder made by root.sh
#       VOLUME    an ext4 image; made when it is missing, and kept: it is what outlives a boot
#       --memory MB               the machine's memory [2048]
#       --env NAME=VALUE          as in fly.toml's [env] and secrets; again for more
#       --forward HOST:GUEST      a port of 127.0.0.1 here to one of the machine; again for more
#       --clock host|instructions|leaping
#                                 the machine's clock: this host's, or one that stands still while this host is busy with
#                                 others, so that a gateway's own deadlines (5 s for a thread to begin) hold, or that one
#                                 where a time in which the machine would sleep is over at once [host]
#       --cgroups fly|v2=MB|none  what is mounted on /sys/fs/cgroup [fly]
#       --add FILE                puts a program of the host at /run/NAME; again for more
#       --console SOCKET          a unix socket with a root shell inside, as `fly ssh console` is
#       COMMAND                   replaces the image's CMD, as [processes] does; the ENTRYPOINT stays
#
# The log is standard output. The process becomes the emulator: SIGKILL to it is the plug being pulled.
# A write of the guest's disk driver is done when it is in the host's page cache, which survives the emulator: what an
# fsync inside promised is kept, and what lay in the guest's own cache is lost, as when a host dies. (cache=unsafe only
# spares the host's own fsync, which would protect from the host's death and take seconds on a busy one.)
#
# What makes it Fly-like is read from the published source of Fly's init (github.com/superfly/init-snapshot):
# its init is PID 1 and the ENTRYPOINT a child of it with a pipe as output; cgroup v1 controllers lie on /sys/fs/cgroup
# with nothing limited in them; /run is a tmpfs, /tmp is not; 10240 open files; an ext4 volume is mounted last;
# when the main child has gone, the volume is unmounted and the machine stops.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
die() {
    printf 'machine: error: %s\n' "$*" >&2
    exit 64
}

[[ $# -ge 2 ]] || die "usage: boot.sh ROOT VOLUME [option …] [-- COMMAND …]"
root=$1 volume=$2
shift 2
memory=2048 clock=host cgroups=fly console='' envs=() add=() forwards='' command=()
while (($#)); do
    case $1 in
    --memory) memory=$2 ;;
    --env) envs+=("$2") ;;
    --add) add+=("$2") ;;
    --forward) forwards+=",hostfwd=tcp:127.0.0.1:${2%%:*}-:${2##*:}" ;;
    --cgroups) cgroups=$2 ;;
    --clock) clock=$2 ;;
    --console) console=$2 ;;
    --)
        shift
        command=("$@")
        break
        ;;
    *) die "unknown option: $1" ;;
    esac
    shift 2
done

tools=$("$here/setup.sh")
busybox=$tools/bin/busybox
kernel=$(compgen -G "$tools/boot/vmlinuz-*")
modules=$tools/lib/modules/${kernel##*vmlinuz-}/kernel
if [[ ! -s $volume ]]; then
    truncate -s 1G "$volume"
    mkfs.ext4 -q "$volume"
fi

# The initramfs: busybox, the drivers of a virtual disk and network card, init, and what to start.
work=$(mktemp -d "${TMPDIR:-/tmp}/clawkeeper-machine.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/tree"/{bin,modules,proc,sys,dev,newroot,add}
if ((${#add[@]})); then cp -L "${add[@]}" "$work/tree/add/"; fi
cp "$busybox" "$work/tree/bin/busybox"
cp "$here/init" "$here/inside" "$work/tree/"
number=10
for module in drivers/virtio/virtio_ring drivers/virtio/virtio drivers/virtio/virtio_pci_legacy_dev \
    drivers/virtio/virtio_pci_modern_dev drivers/virtio/virtio_pci drivers/block/virtio_blk \
    net/core/failover drivers/net/net_failover drivers/net/virtio_net; do
    cp "$modules/$module.ko" "$work/tree/modules/$number-${module##*/}.ko"
    number=$((number + 1))
done
lines() { if [[ -s $1 ]]; then cat "$1"; fi; }
mapfile -t image_env < <(lines "$root/env")
mapfile -t argv < <(lines "$root/entrypoint")
if ((${#command[@]} == 0)); then mapfile -t command < <(lines "$root/cmd"); fi
argv+=("${command[@]}")
{
    printf '#!/run/busybox sh\nexec /run/busybox env -i'
    printf ' %q' HOME=/root FLY_APP_NAME=my-openclaw FLY_MACHINE_ID=148e21 FLY_REGION=local "${image_env[@]}" "${envs[@]}"
    printf ' "$@"\n'
} >"$work/tree/environment"
{
    printf '#!/run/busybox sh\nulimit -n 10240\ncd %q || exit 126\nexec /run/environment' "$(cat "$root/workdir")"
    printf ' %q' "${argv[@]}"
    printf '\n'
} >"$work/tree/start"
chmod +x "$work/tree/init" "$work/tree/environment"
initramfs=$work/initramfs
(cd "$work/tree" && find . | "$busybox" cpio -o -H newc 2>/dev/null) >"$initramfs"

libraries=$tools/usr/lib/x86_64-linux-gnu:$tools/lib/x86_64-linux-gnu
console_device=(-serial null)
[[ -z $console ]] || console_device=(-serial "unix:$console,server=on,wait=off")
processor=(-accel 'tcg,thread=multi' -smp 2)
# One thread emulates then, and 2 ns are an instruction.
case $clock in
instructions) processor=(-accel 'tcg,thread=single' -icount shift=1) ;;
leaping) processor=(-accel 'tcg,thread=single' -icount 'shift=1,sleep=off') ;;
esac
# qemu reads the initramfs while it starts; it is an open file here, so that nothing is left when it is killed.
exec 8<"$initramfs"
rm -rf "$work"
trap - EXIT
# -machine pc: microvm hangs in about half of all boots under software emulation (qemu 7.2).
LD_LIBRARY_PATH=$libraries exec "$tools/usr/bin/qemu-system-x86_64" -L "$tools/usr/share/qemu" -L "$tools/usr/share/seabios" \
    "${processor[@]}" -cpu Nehalem -machine pc -m "$memory" -nodefaults -no-reboot -display none \
    -kernel "$kernel" -initrd /dev/fd/8 -append "console=ttyS0 quiet panic=-1 reboot=t clawkeeper.cgroups=$cgroups" \
    -serial stdio "${console_device[@]}" \
    -drive "file=$root/root.img,format=raw,if=none,id=root,cache=unsafe,snapshot=on" -device virtio-blk-pci,drive=root \
    -drive "file=$volume,format=raw,if=none,id=volume,cache=unsafe" -device virtio-blk-pci,drive=volume \
    -netdev "user,id=net,net=172.19.0.0/24,dhcpstart=172.19.0.15,restrict=on$forwards" -device virtio-net-pci,netdev=net,romfile= </dev/null
