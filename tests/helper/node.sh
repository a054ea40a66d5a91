#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# node.sh ROOT DATA: makes the namespaces it was started in a machine of its own for container engines, and stays as
# its init until standard input ends. ROOT is not written to; what is written goes to DATA, and DATA/share is at /srv.
set -eu

root=$1 data=$2
mount --make-rprivate /
# The engines take the hierarchy that lies here, on a machine with v1 controllers too.
umount -l /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup

mkdir -p "$data/upper" "$data/work" "$data/root" "$data/share"
mount -t overlay -o "lowerdir=$root,upperdir=$data/upper,workdir=$data/work" none "$data/root"
mount --rbind /sys "$data/root/sys"
mount --rbind /dev "$data/root/dev"
mount -t tmpfs none "$data/root/dev/shm"
mount -t tmpfs none "$data/root/run"
mount -t tmpfs none "$data/root/tmp"
mount -t proc none "$data/root/proc"
mount --bind "$data/share" "$data/root/srv"
# The engines' layers are overlays, whose parts may not lie on another overlay.
for store in docker containers; do
	mkdir -p "$data/$store" "$data/root/var/lib/$store"
	mount --bind "$data/$store" "$data/root/var/lib/$store"
done
cd "$data/root"
pivot_root . mnt
umount -l /mnt
ip link set lo up
echo ready
# Not by exec: a shell also takes leave of processes whose parents have ended.
cat >/dev/null
