#!/bin/sh
# fetch.sh LEADER FROM FOLDER UID GID: copies a file or folder of the machine into a folder of this computer, where it is the caller's.
set -eu
here=$(dirname "$0")
sh "$here/exec.sh" "$1" tar --create --directory="$(dirname -- "$2")" -- "$(basename -- "$2")" |
	setpriv --reuid="$4" --regid="$5" --clear-groups tar --extract --directory="$3"
