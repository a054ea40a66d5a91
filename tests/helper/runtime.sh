#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# runc for the engines under test, without what depends on the machine and has nothing to do with snoop.
set -eu

bundle=
for word; do
	[ "${previous:-}" != --bundle ] || bundle=$word
	previous=$word
done
if [ -n "$bundle" ]; then
	# Engines ask for more open files, processes and protection from the memory killer than a machine without
	# CAP_SYS_RESOURCE may give, and for controllers that are bound to cgroup v1 where that is mounted too.
	config=$bundle/config.json
	jq 'del(.process.rlimits, .process.oomScoreAdj, .linux.resources["memory", "cpu", "pids"])' "$config" >"$config.new"
	mv "$config.new" "$config"
	# With cgroupfs, Podman 4.3 leaves a program on the cgroup of a new pod that refuses all devices to its containers.
	# It goes with the cgroup, which can be made anew as long as conmon alone is in there.
	pod=/sys/fs/cgroup$(jq -r '.linux.cgroupsPath | sub("/[^/]*$"; "")' "$config")
	if [ -d "$pod/conmon" ] && [ "$(find "$pod" -mindepth 1 -type d)" = "$pod/conmon" ]; then
		while read -r pid; do echo "$pid" >/sys/fs/cgroup/cgroup.procs; done <"$pod/conmon/cgroup.procs"
		rmdir "$pod/conmon" "$pod"
		mkdir "$pod"
	fi
fi
exec runc "$@"
