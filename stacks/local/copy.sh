#!/bin/sh
# copy.sh LEADER FROM TO: copies a file or folder of this computer onto the machine; there it is root's, with the same modes.
set -eu
leader=$1
from=$2
to=$3
here=$(dirname "$0")
if [ -d "$from" ]; then
	sh "$here/exec.sh" "$leader" mkdir -p -- "$to"
	tar --create --directory="$from" --owner=0 --group=0 . | sh "$here/exec.sh" "$leader" tar --extract --same-permissions --directory="$to"
else
	mode=$(stat --dereference --format=%a -- "$from")
	sh "$here/exec.sh" "$leader" install -D --mode="$mode" /dev/stdin "$to" <"$from"
fi
