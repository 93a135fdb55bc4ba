#!/bin/sh
# stop.sh SECONDS LEADER…: orderly power-off of machines, all at once; after SECONDS what is left is killed. Killing the leader
# ends everything in the machine; killing nspawn would not.
set -u
limit=$1
shift
for leader; do
	# 38 is SIGRTMIN+4: systemd starts poweroff.target (systemd(1), "Signals").
	kill -38 "$leader" 2>/dev/null
done
for _ in $(seq $((limit * 20))); do
	left=
	for leader; do
		[ ! -e "/proc/$leader" ] || left="$left $leader"
	done
	[ -n "$left" ] || exit 0
	sleep 0.05
done
for leader in $left; do
	kill -KILL "$leader" 2>/dev/null
done
exit 0
