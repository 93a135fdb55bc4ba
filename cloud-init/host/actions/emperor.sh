#!/bin/sh
# emperor: uWSGI's emperor, with no vassal that is not declared.
# ARG_UNIT      its unit
# ARG_VASSALS   names (lines)
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"
sites=/etc/uwsgi/sites

surplus() {
	for vassal in "$sites"/*.ini; do
		[ -e "$vassal" ] || continue
		name=${vassal##*/}
		case $newline${ARG_VASSALS-}$newline in
		*"$newline${name%.ini}$newline"*) ;;
		*) echo "$vassal" ;;
		esac
	done
}

case $verb in
probe)
	[ -z "$(surplus)" ]
	service_probe "$ARG_UNIT"
	;;
apply)
	surplus | while IFS= read -r vassal; do
		rm -f -- "$vassal"
		echo "removed $vassal"
	done
	service_apply "$ARG_UNIT"
	;;
esac
