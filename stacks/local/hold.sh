#!/bin/sh
# hold.sh FOLDER MARK COMMAND…: runs COMMAND, which makes things of a stack, with a shared lock on the stack's folder (file descriptor 9;
# what lives on closes it). We may outlive the process that started us: whoever undoes its work removes MARK and then waits for
# the lock (flock(2)), so that nothing is made behind its back.
set -eu
folder=$1
mark=$2
shift 2
exec 9<"$folder"
flock --shared 9
[ -e "$folder/$mark" ] || exit 1
exec "$@"
