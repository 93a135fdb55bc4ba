#!/bin/sh
# Runs Packer (arguments: its program and its own) on a leash: when standard input closes, whoever asked has been stopped or has died, and Packer is
# told once to end in order: it ends its instance, removes key and security group, and only then is over. In a session of its own, so that a
# terminal's Ctrl-C does not reach it as well: a second signal would end it at once, and leave everything. What it says goes into packer.log, here,
# and from there to standard output: into the pipe of somebody who has died it could not say it, and would die of that. Called by packer.ts.
set -eu
exec 3<&0 </dev/null
: >packer.log
setsid "$@" >packer.log 2>&1 3<&- &
packer=$!
{
	read -r _ <&3 || :
	kill -TERM "$packer"
} >/dev/null 2>&1 &
leash=$!
exec 3<&-
tail --lines=+1 --follow --pid="$packer" packer.log &
telling=$!
trap : INT TERM HUP

code=0
wait "$packer" || code=$?
# A signal ends the waiting, and not Packer.
while kill -0 "$packer" 2>/dev/null; do
	code=0
	wait "$packer" || code=$?
done
kill "$leash" 2>/dev/null || :
wait "$telling" || :
exit "$code"
