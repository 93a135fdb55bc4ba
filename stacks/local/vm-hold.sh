#!/bin/sh
# vm-hold.sh ADDRESS/PREFIX: PID 1 of a stack's machines, started by vm-start.sh in the stack's folder. Listens for them on this computer's
# loopback; then leaves its network for one that leads nowhere, where `operator` stands at ADDRESS, and runs the machines, each again after each
# reboot of its own.
set -eu
tab=$(printf '\t')
if [ "${2-}" = '' ]; then
	while IFS=$tab read -r here there; do
		systemd-socket-activate --listen="$here" nsenter --net=/proc/1/ns/net -- /lib/systemd/systemd-socket-proxyd "$there" &
	done <run/forwards
	exec unshare --net -- sh "$0" "$1" inside
fi

ip link set lo up
ip link add br0 type bridge
ip addr add "$1" dev br0
ip link set br0 up
machines=
while IFS=$tab read -r folder tap; do
	ip tuntap add dev "$tap" mode tap
	ip link set "$tap" master br0 up
	(
		cd "$folder"
		while :; do
			code=0
			echo '{"execute": "qmp_capabilities"}' | xargs -0 -a run/argv env -- >run/events 2>>run/qemu.log || code=$?
			grep -q '"event": "SHUTDOWN".*"reason": "guest-reset"' run/events || break
		done
		echo "$code" >run/.exit
		mv run/.exit run/exit
	) &
	machines="$machines $!"
done <run/machines
# When the last one is off we end, and with us whatever listens for them.
# shellcheck disable=SC2086 # a list of pids
wait $machines
