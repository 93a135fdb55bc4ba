#!/bin/sh
# firewall: tries the rules, then loads them as one: there is no moment without.
# ARG_UNIT, ARG_INPUTS as in service.sh
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"
ARG_RELOAD=true

case $verb in
probe)
	service_probe "$ARG_UNIT"
	nft list table inet ingot >/dev/null 2>&1
	;;
apply)
	nft -c -f "$ARG_INPUTS" || fail "the rules are not in force: the ones before still are"
	service_apply "$ARG_UNIT"
	# Somebody may have flushed what the unit has loaded.
	nft list table inet ingot >/dev/null 2>&1 || systemctl reload -- "$ARG_UNIT"
	;;
esac
