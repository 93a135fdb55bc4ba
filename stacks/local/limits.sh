#!/bin/sh
# limits.sh MEMORY PERCENT: keeps the cgroup that this runs in, and whatever is started in it, to MEMORY bytes without swap and to PERCENT of
# one processor's time; an empty argument is no limit. For computers whose PID 1 is not systemd; elsewhere the unit has properties for it.
# What this computer cannot hold is said on standard output, one line each.
set -eu
memory=$1
percent=$2
period=100000 # microseconds; the kernel's default

# The folder of this process's cgroup in the hierarchy of a v1 controller, or that of v2 where the controller is not v1's.
group_of() {
	path=$(sed -n "s/^[0-9]*:\([a-z_,]*,\)\{0,1\}$1\(,[a-z_,]*\)\{0,1\}://p" /proc/self/cgroup)
	if [ -n "$path" ]; then
		echo "/sys/fs/cgroup/$1$path"
		return
	fi
	tree=/sys/fs/cgroup
	[ ! -d $tree/unified ] || tree=$tree/unified
	group=$tree$(sed -n 's/^0:://p' /proc/self/cgroup)
	# A group with processes of its own hands no controller down (cgroups(7), no internal processes): then there is none.
	grep -qw "$1" "$group/cgroup.controllers" 2>/dev/null || echo "+$1" >"${group%/*}/cgroup.subtree_control" || true
	echo "$group"
} 2>/dev/null

# Writes where the kernel has such a limit, and says whether it took it.
limit() { # file, value
	[ -e "$1" ] && echo "$2" >"$1"
} 2>/dev/null

if [ -n "$memory" ]; then
	group=$(group_of memory)
	if limit "$group/memory.limit_in_bytes" "$memory"; then
		limit "$group/memory.memsw.limit_in_bytes" "$memory" || true # without it the machine may swap beyond its memory
	elif limit "$group/memory.max" "$memory"; then
		limit "$group/memory.swap.max" 0 || true
	else
		echo "its memory is not limited: this computer's cgroups have no controller for it here"
	fi
fi
if [ -n "$percent" ]; then
	group=$(group_of cpu)
	quota=$((percent * period / 100))
	if limit "$group/cpu.cfs_period_us" $period; then
		limit "$group/cpu.cfs_quota_us" "$quota"
	elif ! limit "$group/cpu.max" "$quota $period"; then
		echo "its processors are not limited: this computer's cgroups have no controller for it here"
	fi
fi
