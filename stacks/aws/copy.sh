#!/bin/sh
# copy.sh FROM TO SSH…: copies a file or folder of this computer onto the machine; there it is root's, with the same modes. SSH… ends
# where the command for the machine's shell begins.
set -eu
from=$1
to=$2
shift 2
quoted=$(printf '%s' "$to" | sed "s/'/'\\\\''/g")
if [ -d "$from" ]; then
	tar --create --directory="$from" --owner=0 --group=0 . |
		"$@" "sudo -n mkdir -p -- '$quoted' && sudo -n tar --extract --same-permissions --directory='$quoted'"
else
	mode=$(stat --dereference --format=%a -- "$from")
	"$@" "sudo -n install -D --mode=$mode /dev/stdin '$quoted'" <"$from"
fi
