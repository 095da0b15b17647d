#!/bin/bash
# Boots systemd as PID 1 of a container whose root is the host's, under an overlay in memory.
#   usage: systemd_container.sh STAGE [NSPAWN_OPTION...]
# STAGE/files is copied over the root; STAGE/mnt holds the mounts. To be started in a mount
# namespace of its own (unshare --mount), so that everything goes when the container ends.
set -euo pipefail
stage=$1
shift

mount -t tmpfs -o size=1G,mode=0755 tmpfs "$stage/mnt"
root=$stage/mnt/root
mkdir "$stage/mnt/upper" "$stage/mnt/work" "$root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$stage/mnt/upper,workdir=$stage/mnt/work" "$root"

# Nothing of the host's own installation of Hearken, file systems or identity.
rm -rf "$root"/etc/hearken "$root"/etc/systemd/system/hearken.service* \
    "$root"/var/lib/hearken "$root"/var/lib/private/hearken "$root/etc/machine-id"
: >"$root/etc/fstab"
systemd-id128 new >"$root/etc/machine-id"
mkdir -p "$root/etc/systemd/journald.conf.d"
cat >"$root/etc/systemd/journald.conf.d/rig.conf" <<'CONF'
[Journal]
Storage=volatile
RateLimitIntervalSec=0
CONF
cat >"$root/etc/systemd/system/rig.target" <<'UNIT'
[Unit]
Description=All that the rig boots
Requires=sysinit.target
After=sysinit.target
AllowIsolate=yes
UNIT
umask 022
cd "$stage/files"
find . -type f -print0 | while IFS= read -r -d '' file; do
    install -D -m "$(stat -c %a "$file")" "$file" "$root/$file"
done
cd /

# DeviceAllow is enforced only with these capabilities and bpf, and in the unified hierarchy.
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
exec systemd-nspawn --quiet --directory="$root" --boot --register=no --keep-unit \
    --machine=hearken-rig --private-network --link-journal=no --resolv-conf=off --timezone=off \
    --console=pipe --capability=all --system-call-filter=bpf "$@" systemd.unit=rig.target
