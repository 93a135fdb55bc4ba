#!/bin/sh
# bake.sh SCRIPT: runs what makes a layer, an image or a disk, as root; called by images/provision.ts with everything in the environment. Standard
# input is a leash: when it closes, whoever asked has been stopped or has died, and everything here ends with it. All work is done in a
# mount and a pid namespace of its own, so that no mount and no process can be left behind.
set -eu
exec 3<&0 </dev/null

setpriv --pdeathsig KILL \
	unshare --mount --uts --ipc --pid --fork --kill-child --mount-proc --propagation private \
	sh "$1" 3<&- &
tree=$!
{
	read -r _ <&3 || :
	kill -KILL "$tree"
} >/dev/null 2>&1 &
leash=$!
exec 3<&-
trap 'kill -KILL "$tree" 2>/dev/null' INT TERM HUP

code=0
wait "$tree" || code=$?
kill "$leash" 2>/dev/null || :
exit "$code"
