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

# Whether the emperor still runs a vassal of that file.
runs() {
	emperor=$(systemctl show --property=MainPID --value -- "$ARG_UNIT")
	for pid in $(cat "/proc/$emperor/task/"*/children 2>/dev/null || true); do
		case $(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null || true) in
		*" --ini $1 "*) return 0 ;;
		esac
	done
	return 1
}

case $verb in
probe)
	[ -z "$(surplus)" ]
	service_probe "$ARG_UNIT"
	;;
apply)
	surplus | while IFS= read -r vassal; do
		rm -f -- "$vassal"
		for _ in $(seq 300); do
			runs "$vassal" || break
			sleep 0.1
		done
		echo "removed $vassal"
	done
	service_apply "$ARG_UNIT"
	;;
esac
