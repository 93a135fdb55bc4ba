#!/bin/sh
# nginx: tests the whole configuration, then starts or reloads nginx.
# ARG_UNIT      nginx's unit
# ARG_CONF      the main configuration (/etc/nginx/nginx.conf)
# ARG_INPUTS    paths (lines) of sites, snippets, certificates and keys: a change of one is a reload
# ARG_HASH, ARG_LISTENS, ARG_TIMEOUT as in service.sh
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"
ARG_RELOAD=true

workers() {
	cat "/proc/$MainPID/task/$MainPID/children" 2>/dev/null || true
}

case $verb in
probe) service_probe "$ARG_UNIT" ;;
apply)
	nginx -t -q -c "${ARG_CONF:-/etc/nginx/nginx.conf}"
	service_look "$ARG_UNIT"
	before=$(workers)
	service_apply "$ARG_UNIT"
	[ "$work" = reload ] || exit 0
	# nginx reloads behind systemctl's back: when its workers are still the old ones, it has refused (an address in use, say).
	for _ in $(seq 40); do
		after=$(workers)
		fresh=false
		for worker in $after; do
			case " $before " in
			*" $worker "*) ;;
			*) fresh=true ;;
			esac
		done
		! $fresh || exit 0
		sleep 0.05
	done
	rm -f -- "$record"
	echo "nginx goes on with its old configuration; the end of its error log:" >&2
	tail -n 20 /var/log/nginx/error.log >&2
	exit 2
	;;
esac
