#!/bin/sh
# acme: the timer by which a certificate is signed and renewed; asks for it at once. An authority that does not sign now is no reason
# to stop a first boot: its certificate is self-signed until then, and the check `issued` says what is in the way.
# ARG_UNIT, ARG_INPUTS as in service.sh
# ARG_SETTINGS  path of the settings that /usr/lib/ingot/acme reads
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"

case $verb in
probe)
	service_probe "$ARG_UNIT"
	"$INGOT/acme" --done "$ARG_SETTINGS"
	;;
apply)
	service_apply "$ARG_UNIT"
	for wait in 0 5 10; do
		sleep $wait
		if "$INGOT/acme" "$ARG_SETTINGS"; then exit 0; fi
	done
	echo "not signed yet; it is tried again every hour"
	;;
esac
