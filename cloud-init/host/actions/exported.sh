#!/bin/sh
# exported: waits until another host has exported a directory.
# ARG_SHARED             the folder that the target gives to all hosts of the export, if it does
# ARG_ADDRESS, ARG_PORT  else where the other host listens
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"
if [ ! -d "$ARG_SHARED" ]; then
	. "$INGOT/actions/reachable.sh"
	exit 0
fi

case $verb in
probe) [ -e "$ARG_SHARED/exported" ] ;;
apply)
	tries=0
	until [ -e "$ARG_SHARED/exported" ]; do
		tries=$((tries + 1))
		[ $tries -lt 2700 ] || fail "$ARG_SHARED is not exported yet after 540 s"
		sleep 0.2
	done
	;;
esac
