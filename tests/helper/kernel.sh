#!/bin/busybox sh
# SPDX-License-Identifier: MIT OR Apache-2.0
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

# Runs a command in a cgroup. A script and no function: what runs in the background is then the command itself.
cat >/bin/enter <<'END'
#!/bin/busybox sh
echo 0 >"$1/cgroup.procs" && shift && exec "$@"
END
chmod 755 /bin/enter

start() { # FLAGS: starts snoop, behind the words in $prefix, and waits until it is attached
	rm -f $report
	# shellcheck disable=SC2086 # the prefix is words
	${prefix:-} snoop "$@" -report=$report -metrics-addr= >/tmp/log 2>&1 &
	snoop=$!
	for _ in $(seq 900); do
		grep -q attached /tmp/log && return
		sleep 0.1
	done
}

stop() {
	kill -TERM $snoop
	wait $snoop
}

logs() { grep -q -e "$1" /tmp/log || { echo "not in the log: $1"; return 1; }; }

echo "kernel $(uname -r)"
# Which kernels can do what is told by names in their type information, not by their versions: distributions bring newer
# BPF to older kernels.
tr '\0' '\n' </sys/kernel/btf/vmlinux >/tmp/names
names() { grep -qx "$1" /tmp/names; }
names BPF_FUNC_redirect_peer && ring=1 || ring=
names BPF_FUNC_get_current_task_btf && typed=1 || typed=
names bpf_map_memory && locks_memory=1 || locks_memory=
names bpf_iter_task_file && iterators=1 || iterators=
names BPF_FUNC_task_pt_regs && resolver=1 || resolver=
[ "$(cat /proc/sys/kernel/cap_last_cap)" -ge 39 ] && has_bpf=1 || has_bpf=
seconds() { cut -d. -f1 /proc/uptime; }
begin=$(seconds)
snoop check >/tmp/log 2>&1
verdict "check" $?

mkdir -p /tmp/d/e /tmp/many $cgroups/c
for file in one two three 0-0; do echo x >/tmp/d/$file; done
for i in $(seq 2999); do : >/tmp/many/0-$i; done
: >/tmp/many/0-0

all_of() { # BUFFER
	snoop run -report=$report -- dynamic opens 1 /tmp/d >/tmp/log 2>&1 && says '"complete": true' &&
		has /tmp/d/0-0 /bin/dynamic "$(cat /loader)" /lib/libc.so.6
	verdict "exec, loader and library ($1)" $?

	snoop run -report=$report -- sh -c 'cd /tmp/d/e; read x <../two; exec 3<.; stat /tmp/d/three; read x </tmp/none' >/tmp/log 2>&1
	has /tmp/d/two /tmp/d/e /tmp/d/three /bin/busybox /bin/sh && ! grep -q /tmp/none $report && says '"complete": true'
	verdict "known set of files ($1)" $?

	snoop run -report=$report -- static fails 1009 >/tmp/log 2>&1
	says '"total_events": 10[12][0-9]' && says '"dropped_events": 0'
	verdict "counters ($1)" $?

	snoop run -report=$report -- static opens 3000 /tmp/many >/tmp/log 2>&1
	says '"unique_files": 3001' && says '"dropped_events": 0'
	verdict "3000 files ($1)" $?

	start -cgroup=/w/x/y
	mkdir -p $cgroups/w/x/y
	enter $cgroups/w/x/y cat /tmp/d/two >/dev/null
	stop
	has /tmp/d/two && says '"complete": true' && says '"cgroup_path": "/w/x/y"'
	verdict "a cgroup that does not exist yet ($1)" $?
	rmdir $cgroups/w/x/y $cgroups/w/x $cgroups/w

	mkdir -p $cgroups/p/own $cgroups/p/old/deeper $cgroups/p/new
	enter $cgroups/p/old/deeper sleep 1000 &
	old=$!
	until grep -q sleep /proc/$old/comm; do sleep 0.1; done
	prefix="enter $cgroups/p/own" start -cgroup=@parent
	enter $cgroups/p/new unshare -m cat /tmp/d/three >/dev/null
	stop
	has /bin/busybox /tmp/d/three && says '"cgroup_path": "/p/old"' && says '"late_attach":1'
	verdict "containers beside snoop, one of them idle ($1)" $?
	kill $old

	mkdir -p $cgroups/a $cgroups/b
	start -cgroups=/a,/b
	enter $cgroups/a cat /tmp/d/one >/dev/null
	enter $cgroups/b cat /tmp/d/two >/dev/null
	enter $cgroups/c cat /tmp/d/three >/dev/null
	stop
	verdict "SIGTERM ($1)" $?
	has /tmp/d/one /tmp/d/two && ! grep -q three $report && says '"cgroup_path": "/b"' && says '"complete": true'
	verdict "two cgroups ($1)" $?

	start -cgroup=/a
	rmdir $cgroups/a
	mkdir $cgroups/a
	enter $cgroups/a cat /tmp/d/three >/dev/null
	stop
	has /tmp/d/three && says '"complete": true'
	verdict "a cgroup made again ($1)" $?
}
# What only the resolver's hooks can see or leave alone.
resolver() {
	mkdir -p /tmp/real/sub
	ln -s real /tmp/link
	echo x >/tmp/real/file
	printf '#!/tmp/link/sh\n' >/tmp/real/script
	cp /bin/busybox /tmp/real/sh
	chmod 755 /tmp/real/script
	snoop run -report=$report -- sh -c 'stat /tmp/link/file; /tmp/link/script; mkdir /tmp/link/sub/new; rm /tmp/none
		mv /tmp/link/sub/new /tmp/link/moved; rmdir /tmp/none2' >/tmp/log 2>&1
	has /tmp/link/file /tmp/real/file /tmp/link/script /tmp/real/script /tmp/link/sh /tmp/real/sh /tmp/real/sub/new \
		/tmp/link/moved /tmp/real/moved && ! grep -q none $report && says '"complete": true' && says '"hooks": "resolver"'
	verdict "real paths of all that was looked at, made and moved" $?

	snoop run -report=$report -- sh -c 'cd /tmp/link/sub; read x <../file; cd /; mv /tmp/link /tmp/other; ln -s d /tmp/link
		stat /tmp/link/two; ls -d /tmp/other/sub/..' >/tmp/log 2>&1
	has /tmp/real/file /tmp/link/sub /tmp/real/sub /tmp/link/two /tmp/d/two /tmp/other && says '"complete": true'
	verdict "a link that is switched" $?
	rm -rf /tmp/real /tmp/link /tmp/other

	echo 1 >/proc/sys/kernel/bpf_stats_enabled
	start -cgroup=/c
	runs() { cat /proc/$snoop/fdinfo/* | sed -n 's/^run_cnt:.//p' | awk '{ n += $1 } END { print n }'; }
	of() { # CALLS IN: how often the programs run meanwhile
		before=$(runs) && enter "$2" static calls "$1" && echo $(($(runs) - before))
	}
	for cgroup in $cgroups $cgroups/c; do
		few=$(of 0 $cgroup) many=$(of 250000 $cgroup)
		# What starts the program, and what snoop itself does meanwhile, looks names up.
		[ "$few" -gt 0 ] && [ $((many - few)) -lt 100 ] || echo "in $cgroup: $few runs, $many with the calls" | tee -a /tmp/wrong
	done
	stop && [ ! -e /tmp/wrong ]
	verdict "no program runs for 1,000,000 calls that take no path, traced or not" $?
	echo 0 >/proc/sys/kernel/bpf_stats_enabled
}

for buffer in ring perf; do
	export SNOOP_BUFFER=$buffer SNOOP_HOOKS=syscall
	if [ $buffer = ring ] && [ -z "$ring" ]; then
		snoop run -report=$report -- true >/tmp/log 2>&1
		[ $? = 2 ] && logs "-buffer=ring: this kernel's BPF is older than that of Linux 5.10.*leave the flag out"
		verdict "no ring buffer, which is said" $?
	else
		all_of $buffer
	fi
done
unset SNOOP_BUFFER
export SNOOP_HOOKS=resolver
if [ "$resolver" ]; then
	# On preemptible kernels, an access is lost while another process is interrupted inside a program. Processes in real time
	# are not interrupted, and all that this one starts inherit that.
	static real-time 1 $$
	all_of "the resolver's hooks"
	resolver
	static real-time 0 $$
else
	snoop run -report=$report -- true >/tmp/log 2>&1
	[ $? = 2 ] && logs "-hooks=resolver: .*leave the flag out"
	verdict "no hooks of the resolver, which is said" $?
fi
unset SNOOP_HOOKS
mount -t debugfs none /sys/kernel/debug
start -cgroup=/c
stop
hooks=syscall
if [ "$resolver" ]; then
	case $(uname -v) in
	*PREEMPT_DYNAMIC*) grep -qE '\((none|voluntary)\)' /sys/kernel/debug/sched/preempt && hooks=resolver ;;
	*PREEMPT*) ;;
	*) hooks=resolver ;;
	esac
fi
logs "attached: hooks $hooks"
verdict "the hooks that suit" $?
start -cgroup=/c
stop
if [ "$ring" ]; then logs "attached: .*; ring buffer of"; else logs "attached: .*; perf buffers of"; fi
verdict "the buffer that suits" $?

enter $cgroups/c sh -c 'exec 3</tmp/d/two; exec sleep 1000' &
runs_sleep() {
	for process in $(cat $cgroups/c/cgroup.procs); do
		[ "$(cat "/proc/$process/comm")" != sleep ] || return 0
	done
	return 1
}
for _ in $(seq 300); do
	runs_sleep && break
	sleep 0.1
done
start -cgroup=/c
stop
says '"attached_late": true' && says '"complete": false' && says '"late_attach":1' &&
	if [ "$iterators" ]; then has /tmp/d/two /bin/busybox; else
		logs "cannot list all files that were already open: this kernel has no BPF iterator"
	fi
verdict "late attach" $?

# Before Linux 5.19 each look into a map needs the capability BPF (SYS_ADMIN where that does not exist), unless everybody
# may use bpf(2). That has left no name.
since() { # VERSION: is the kernel that new?
	[ "$(printf '%s\n' "$1" "$(uname -r)" | sort -V | head -n 1)" = "$1" ]
}
gives_up() { # NAME
	rm -f /tmp/wrong
	start -cgroup=/c
	for _ in $(seq 100); do
		grep -q '^Seccomp:.2' /proc/$snoop/status && break
		sleep 0.1
	done
	kept=0000000000000000
	if ! since 5.19 && [ "$(cat /proc/sys/kernel/unprivileged_bpf_disabled)" != 0 ]; then
		kept=0000008000000000
		[ "$has_bpf" ] || kept=0000000000200000
	fi
	for line in "CapPrm:.$kept" "CapEff:.$kept" "NoNewPrivs:.1" "Seccomp:.2"; do
		grep -q "^$line\$" /proc/$snoop/status || echo "not in its status: $line" | tee -a /tmp/wrong
	done
	enter $cgroups/c cat /tmp/d/one >/dev/null
	stop && has /tmp/d/one && [ ! -e /tmp/wrong ]
	verdict "$1" $?
}
gives_up "what is given up"
if [ "$(cat /proc/sys/kernel/unprivileged_bpf_disabled)" = 0 ]; then
	echo 1 >/proc/sys/kernel/unprivileged_bpf_disabled
	gives_up "what is given up where bpf(2) is not for everybody"
fi

start -cgroup=/c -interval=1s
for jump in "2001-01-01 00:00" "2099-01-01 00:00"; do
	date -s "$jump" >/dev/null
	: >"/tmp/d/$jump"
	enter $cgroups/c cat "/tmp/d/$jump"
	for _ in $(seq 100); do
		grep -q "/tmp/d/$jump" $report && break
		sleep 0.1
	done
	grep -q "/tmp/d/$jump" $report || snoop=0
done
stop && says '"last_updated_at": "2099-'
verdict "a clock that jumps" $?

# As strict as distributions make it, and little memory that may be locked (which counts before Linux 5.11).
echo 4 >/proc/sys/kernel/perf_event_paranoid
can() { # CAPABILITIES: does tracing work with these alone?
	rm -f $report
	(ulimit -l 64 && exec with-capabilities "$1" snoop -cgroup=/c -report=$report -metrics-addr=) >/tmp/log 2>&1 &
	snoop=$!
	for _ in $(seq 300); do
		grep -q attached /tmp/log && break
		kill -0 $snoop 2>/dev/null || break
		sleep 0.1
	done
	enter $cgroups/c cat /tmp/d/one >/dev/null
	kill -TERM $snoop 2>/dev/null
	wait $snoop 2>/dev/null && has /tmp/d/one
}
can none && status=1 || status=0
can bpf && status=1
can perfmon && status=1
can sys_resource && status=1
if [ "$has_bpf" ]; then
	[ "$locks_memory" ] || can bpf,perfmon || status=1
	can bpf,perfmon,sys_resource || status=1
else
	can bpf,perfmon,sys_resource && status=1
	logs "missing capabilities: SYS_ADMIN" || status=1
fi
can sys_admin,sys_resource || status=1
export SNOOP_BUFFER=perf
can sys_admin,sys_resource || status=1
if [ "$has_bpf" ]; then
	echo 2 >/proc/sys/kernel/perf_event_paranoid
	can bpf,perfmon,sys_resource || status=1
fi
unset SNOOP_BUFFER
verdict "the smallest capabilities" $status

mount -t securityfs none /sys/kernel/security 2>/dev/null
if grep -qs integrity /sys/kernel/security/lockdown; then
	echo integrity >/sys/kernel/security/lockdown
	snoop run -report=$report -- dynamic opens 1 /tmp/d >/tmp/log 2>&1 && says '"complete": true' && has /tmp/d/0-0
	verdict "lockdown=integrity" $?
	echo confidentiality >/sys/kernel/security/lockdown
	snoop run -report=$report -- static opens 1 /tmp/d >/tmp/log 2>&1
	if [ "$typed" ]; then
		says '"missing": {"kernel_memory":1,"unreadable":1}' && has /tmp/d/0-0 && {
			ifconfig lo up
			snoop -cgroup=/c -report=$report -metrics-addr=127.0.0.1:9090 >/tmp/log 2>&1 &
			for _ in $(seq 300); do
				wget -q -O /tmp/health http://127.0.0.1:9090/healthz && break
				sleep 0.1
			done
			grep '^ok; without kernel_memory: ' /tmp/health
		}
	else
		grep -q 'lockdown=confidentiality forbids .* Linux 5.11' /tmp/log
	fi
	verdict "lockdown=confidentiality" $?
else
	echo "not in this kernel: lockdown"
fi

echo "all tests were run in $(($(seconds) - begin)) s"
poweroff -f
