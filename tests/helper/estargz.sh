#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# estargz.sh DIR IMAGE RECORD: a containerd of its own, with its files in DIR, imports the OCI archive IMAGE. ctr-remote makes it an
# eStargz image, with the files in RECORD first. Prints the entries of its only layer, in order.
set -eu

directory=$1
cat >"$directory/config.toml" <<END
version = 2
root = "$directory/root"
state = "$directory/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
address = "$directory/socket"
END
containerd -c "$directory/config.toml" >"$directory/log" 2>&1 &
trap 'kill $!' EXIT
tries=0
until ctr -a "$directory/socket" version >/dev/null 2>&1; do
	tries=$((tries + 1))
	[ $tries -lt 300 ] || {
		cat "$directory/log" >&2
		exit 1
	}
	sleep 0.1
done
ctr -a "$directory/socket" images import --no-unpack "$2" >&2
name=$(ctr -a "$directory/socket" images ls -q | head -n 1)
ctr-remote -a "$directory/socket" images convert --oci --estargz --estargz-record-in="$3" "$name" example.com/lazy:1 >&2
ctr -a "$directory/socket" images export "$directory/out.tar" example.com/lazy:1
mkdir "$directory/out"
tar -C "$directory/out" -xf "$directory/out.tar"
# The other blobs are JSON.
for blob in "$directory"/out/blobs/sha256/*; do
	if gzip -t "$blob" 2>/dev/null; then tar -tzf "$blob"; fi
done
