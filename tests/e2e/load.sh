#!/bin/sh
# load.sh HOSTS WRK-ARGUMENT…: wrk, for which the names in the file HOSTS are as in /etc/hosts (it has no other way to name a site of TLS),
# until standard input ends. As root, in a mount namespace of its own.
set -eu
mount --bind "$1" /etc/hosts
shift
wrk "$@" &
cat >/dev/null
# It says then what it has seen so far.
kill -INT $!
wait $!
