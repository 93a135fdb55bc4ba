#!/bin/sh
# forward.sh NETWORK: one line on standard input for each port, "address:port on the loopback<TAB>address:port of the machine".
# systemd listens here (systemd-socket-activate) and hands the socket to its proxy, which dials inside the stack's namespace:
# nsenter and setpriv only execute, so that LISTEN_PID stays right. MANAGER as in start.sh.
set -eu
network=$1
# As a unit has it (systemd.exec(5), IgnoreSIGPIPE=): one connection that ends early would end the proxy, and with it the port.
trap '' PIPE

launch() { # port, command…
	port=$1
	shift
	if [ "$MANAGER" = systemd ]; then
		systemd-run --quiet --collect --unit="$network-$port" -- "$@"
	else
		setsid "$@" </dev/null >/dev/null 2>&1 9<&- &
	fi
}

tab=$(printf '\t')
while IFS=$tab read -r here there; do
	launch "${here##*:}" systemd-socket-activate --listen="$here" \
		nsenter --net="/run/netns/$network" -- setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs -- \
		/lib/systemd/systemd-socket-proxyd "$there"
done
