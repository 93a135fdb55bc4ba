#!/bin/sh
# postfix: tries the configuration, then starts or reloads postfix.
# ARG_UNIT      postfix.service, which is enabled; ARG_INSTANCE postfix@-.service, which is the server
# ARG_INPUTS    paths (lines) whose change is a reload; ARG_HASH: whose change is a restart
# ARG_LISTENS, ARG_TIMEOUT as in service.sh
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"
ARG_RELOAD=true

case $verb in
probe)
	systemctl --quiet is-enabled -- "$ARG_UNIT"
	service_probe "$ARG_INSTANCE"
	;;
apply)
	# Unknown parameters are a warning of postconf's, and a typing error of somebody's.
	said=$(postconf -n 2>&1 >/dev/null) || fail "postfix refuses its configuration: $said"
	[ -z "$said" ] || fail "postfix refuses its configuration: $said"
	postfix check
	systemctl --quiet enable -- "$ARG_UNIT"
	# Before the unit that wants it: that one would start it, and it would be started anew at once.
	service_apply "$ARG_INSTANCE"
	systemctl start -- "$ARG_UNIT"
	;;
esac
