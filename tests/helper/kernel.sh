#!/bin/busybox sh
# The init of a virtual machine: tests snoop on its kernel, prints a line for each test, and switches off.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
mount -t tmpfs none /tmp
mkdir -p /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
cgroups=/sys/fs/cgroup
report=/tmp/report.json

verdict() { # NAME STATUS
	if [ "$2" = 0 ]; then echo "test $1: ok"; else
		echo "test $1: FAILED"
		cat /tmp/log $report 2>/dev/null | head -n 60
	fi
}

has() { # is each of these listed?
	for path; do
		grep -q "^ *\"$path\",\{0,1\}\$" $report || {
			echo "not listed: $path"
			return 1
		}
	done
}

says() { grep -q "$1" $report || { echo "not in the report: $1"; return 1; }; }

enter() { # CGROUP COMMAND...: runs a command in a cgroup
	sh -c 'echo 0 >"$0/cgroup.procs" && exec "$@"' "$@"
}

start() { # FLAGS: starts snoop and waits until it is attached
	rm -f $report
	snoop "$@" -report=$report -metrics-addr= >/tmp/log 2>&1 &
	snoop=$!
	for _ in $(seq 300); do
		grep -q attached /tmp/log && return
		sleep 0.1
	done
}

stop() {
	kill -TERM $snoop
	wait $snoop
}

echo "kernel $(uname -r)"
snoop check >/tmp/log 2>&1
verdict "check" $?

mkdir -p /tmp/d/e
for file in one two three; do echo x >/tmp/d/$file; done
snoop run -report=$report -- /usr/bin/dynamic /tmp/d/one >/tmp/log 2>&1 && says '"complete": true' &&
	has /tmp/d/one /usr/bin/dynamic "$(cat /loader)" "$(readlink -f "$(cat /loader)")" "$(cat /libc)"
verdict "exec, loader and library" $?

snoop run -report=$report -- sh -c 'cd /tmp/d/e; read x <../two; exec 3<.; stat /tmp/d/three; read x </tmp/none' >/tmp/log 2>&1
has /tmp/d/two /tmp/d/e /tmp/d/three /bin/busybox /bin/sh && ! grep -q /tmp/none $report && says '"complete": true'
verdict "known set of files" $?

snoop run -report=$report -- accesses fails 1009 >/tmp/log 2>&1
says '"total_events": 10[12][0-9]' && says '"dropped_events": 0'
verdict "counters" $?

mkdir /tmp/many
for i in $(seq 3000); do : >/tmp/many/0-$i; done
mv /tmp/many/0-3000 /tmp/many/0-0
snoop run -report=$report -- accesses opens 3000 /tmp/many >/tmp/log 2>&1
says '"unique_files": 3001' && says '"dropped_events": 0'
verdict "3000 files" $?

mkdir $cgroups/a $cgroups/b $cgroups/c
start -cgroups=/a,/b
enter $cgroups/a cat /tmp/d/one >/dev/null
enter $cgroups/b cat /tmp/d/two >/dev/null
enter $cgroups/c cat /tmp/d/three >/dev/null
stop
verdict "SIGTERM" $?
has /tmp/d/one /tmp/d/two && ! grep -q three $report && says '"cgroup_path": "/b"' && says '"complete": true'
verdict "two cgroups" $?

start -cgroup=/a
rmdir $cgroups/a
mkdir $cgroups/a
enter $cgroups/a cat /tmp/d/three >/dev/null
stop
has /tmp/d/three && says '"complete": true'
verdict "a cgroup made again" $?

enter $cgroups/c sh -c 'exec 3</tmp/d/two; exec sleep 1000' &
sleep 1
start -cgroup=/c
sleep 5
stop
has /tmp/d/two /bin/busybox && says '"attached_late": true'
verdict "late attach" $?

echo "all tests were run"
poweroff -f
