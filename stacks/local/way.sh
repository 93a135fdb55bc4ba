#!/bin/sh
# way.sh in|out NETWORK ADDRESS:PORT SOCKET: a way between this computer and a network that nothing leaves, for one address. NETWORK: the file of
# its namespace (ip-netns(8), or namespaces(7)).
#   in   who connects to SOCKET is at ADDRESS:PORT in the network
#   out  who connects to ADDRESS:PORT in the network, once both are there, is at SOCKET
# It is open until standard input ends, as it does with whoever asked for it. SOCKET is alone in its folder, which goes with the way.
set -eu
direction=$1
network=$2
place=$3
socket=$4
proxy=/lib/systemd/systemd-socket-proxyd
# As a unit has it (systemd.exec(5), IgnoreSIGPIPE=): one connection that ends early would end the proxy, and all others.
trap '' PIPE

if [ "$direction" = in ]; then
	umask 0 # the folder says who may
	systemd-socket-activate --listen="$socket" nsenter --net="$network" -- \
		setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs -- "$proxy" "$place" </dev/null >/dev/null 2>&1 &
else
	(
		until nsenter --net="$network" -- ip -o address show 2>/dev/null | grep -qF " ${place%:*}/"; do sleep 0.05; done
		exec nsenter --net="$network" -- systemd-socket-activate --listen="$place" "$proxy" "$socket"
	) </dev/null >/dev/null 2>&1 &
fi
way=$!
trap 'kill "$way" 2>/dev/null || true; rm -f -- "$socket"; rmdir -- "${socket%/*}" 2>/dev/null || true' EXIT
cat >/dev/null
