#!/bin/sh
# Runs make.sh, called by images/disk.ts with everything in the environment. As provision/bake.sh does: standard input is a leash, and all
# work is done in a mount and a pid namespace of its own. (A copy, because every image's digest has bake.sh in it.)
set -eu
here=$(dirname "$0")
exec 3<&0 </dev/null

setpriv --pdeathsig KILL \
	unshare --mount --uts --ipc --pid --fork --kill-child --mount-proc --propagation private \
	sh "$here/make.sh" 3<&- &
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
