#!/bin/sh
# vm-start.sh FOLDER ADDRESS/PREFIX: starts the machines of a stack, in the background. Nothing of it needs root: whoever is not root is root
# in a user namespace of the stack's own. FOLDER is the stack's; in its run/ are
#   machines  a line for each machine: its folder, and its interface in the network
#   forwards  a line for each port: "address:port of this computer<TAB>address:port of the machine"
#   holder    "pid start" of the process whose end is the end of everything; written here
#   log       what went wrong
set -eu
cd "$1"
here=$(cd "$(dirname "$0")" && pwd)
set -- --mount-proc --pid --fork --kill-child -- sh "$here/vm-hold.sh" "$2"
[ "$(id -u)" = 0 ] || set -- --user --map-root-user "$@"
# shellcheck disable=SC2016 # the inner shell's own
setsid sh -c '
	echo "$$ $(sed "s/.*) //" /proc/$$/stat | cut -d" " -f20)" >run/.holder
	mv run/.holder run/holder
	exec unshare "$@"
' sh "$@" </dev/null >run/log 2>&1 9<&- &
