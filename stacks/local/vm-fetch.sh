#!/bin/sh
# vm-fetch.sh FROM FOLDER COMMAND…: copies a file or folder of the machine into a folder of this computer. COMMAND… runs what follows it on
# the machine.
set -eu
from=$1
folder=$2
shift 2
"$@" tar --create --directory="$(dirname -- "$from")" -- "$(basename -- "$from")" </dev/null |
	tar --extract --no-same-owner --directory="$folder"
