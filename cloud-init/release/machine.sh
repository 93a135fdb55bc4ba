#!/bin/sh
# Runs a script in a throw-away machine over an image: systemd-nspawn with an overlay in memory, /build bound from the build's folder.
# Dies with whoever called it; leaves nothing behind but what the script put into /build, which is given back to the caller.
# Usage: machine.sh ROOT WORK SCRIPT UID GID [nspawn's options…]
set -eu
root=$1 work=$2 script=$3 uid=$4 gid=$5
shift 5
code=0
# A container that is not registered needs a name of its own for nspawn's lock.
setpriv --pdeathsig KILL systemd-nspawn --quiet --register=no --keep-unit --as-pid2 --volatile=overlay --timezone=off --link-journal=no \
	--directory="$root" --machine="ingot-build-$$" --bind="$work:/build" --bind-ro="$script:/run/ingot-script" --pipe "$@" \
	-- /bin/sh /run/ingot-script || code=$?
chown -R "$uid:$gid" "$work"
exit $code
