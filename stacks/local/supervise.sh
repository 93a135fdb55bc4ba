#!/bin/sh
# Runs systemd-nspawn (arguments: its own) in the machine's folder until the machine is off, and again after each reboot.
# Writes for the target to read: run/leader ("pid start" of the machine's PID 1), run/result.json (cloud-init's, once it is done),
# run/exit (nspawn's exit code, once all is over).
set -u

write() { # file: what is on standard input, all at once
	cat >"run/.$1" && mv "run/.$1" "run/$1"
}

# The machine's PID 1 is the child of nspawn that is 1 in a namespace of its own (proc(5), NSpid).
find_leader() { # pid of nspawn
	while kill -0 "$1" 2>/dev/null; do
		children=$(cat "/proc/$1/task/$1/children" 2>/dev/null)
		for child in $children; do
			inner=$(sed -n 's/^NSpid:.*[[:space:]]\([0-9]*\)$/\1/p' "/proc/$child/status" 2>/dev/null)
			if [ "$inner" = 1 ] && [ "$child" != 1 ]; then
				echo "$child $(sed 's/.*) //' "/proc/$child/stat" | cut -d' ' -f20)" | write leader
				leader=$child
				return
			fi
		done
		sleep 0.02
	done
}

# Read inside the machine's mounts: a path through /proc/pid/root would follow the machine's links on this computer.
watch_cloud_init() {
	while kill -0 "$leader" 2>/dev/null; do
		if nsenter --target "$leader" --mount -- cat /run/cloud-init/result.json >run/.result.json 2>/dev/null; then
			mv run/.result.json run/result.json
			return
		fi
		sleep 0.2
	done
}

# shellcheck disable=SC2034 # read by systemd-nspawn: locks would stay behind when it is killed, and the target has its own
export SYSTEMD_NSPAWN_LOCK=0
code=133
boots=0
# systemd-nspawn(1): exit code 133 asks for a reboot.
while [ $code = 133 ]; do
	leader=
	systemd-nspawn "$@" </dev/null >>console.log 2>&1 &
	nspawn=$!
	find_leader "$nspawn"
	[ $boots != 0 ] || [ -z "$leader" ] || watch_cloud_init &
	wait "$nspawn"
	code=$?
	boots=$((boots + 1))
done
echo "$code" | write exit
