#!/bin/sh
# fetch.sh FROM FOLDER SSH…: copies a file or folder of the machine into a folder of this computer. SSH… ends where the command for the
# machine's shell begins.
set -eu
quote() { printf '%s' "$1" | sed "s/'/'\\\\''/g"; }
from=$(quote "$(dirname -- "$1")")
name=$(quote "$(basename -- "$1")")
folder=$2
shift 2
"$@" "sudo -n tar --create --directory='$from' -- '$name'" | tar --extract --no-same-owner --directory="$folder"
